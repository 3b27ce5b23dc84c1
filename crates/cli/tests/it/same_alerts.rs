//! The same rules over the same samples: a Prometheus and a running instance record the same series and fire the same
//! alerts at the same evaluations.
//!
//! Both take the embedded rules, with their windows and waiting times shortened to seconds, and the same remote writes. A
//! sample lies a little after each even second and is sent before its time, so that whatever moment of those two seconds a
//! group is evaluated at, it sees the same; no sample lies on the edge of a window, where versions of Prometheus differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::thread;
use std::time::Duration;

use paramedic_promql::parse::Selector;
use paramedic_rules::{RuleFile, RuleKind, check, pack};
use serde_json::Value;

use crate::fixture::Home;
use crate::programs::{Kind, Program, Series, encoded, now_ms, query, stale, write};
use crate::{http, needs, skip};

/// Milliseconds between evaluations, and between samples.
const TICK_MS: i64 = 2_000;
/// How long after an even second a sample lies.
const SHIFT_MS: i64 = 100;
const TICKS: i64 = 20;
/// Ticks after which the values of a series are drawn anew.
const PHASE: i64 = 5;
/// Ticks before the first one in which nothing changes, so that every window is full from the beginning.
const PAST: i64 = 12;
/// Alerts that must have fired for the comparison to say something.
const ALERTS_MIN: usize = 30;

/// Minutes and hours as seconds: an embedded file as this test can wait for it.
fn shortened(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("interval:")) {
        let indent = &line[..line.len() - line.trim_start().len()];
        lines.push(if line.trim_start().starts_with("for:") { format!("{indent}for: 4s") } else { short_windows(line) });
    }
    lines.join("\n") + "\n"
}

fn short_windows(line: &str) -> String {
    let is_duration = |text: &str| {
        text.len() > 1 && text[..text.len() - 1].bytes().all(|byte| byte.is_ascii_digit()) && text.ends_with(['s', 'm', 'h', 'd'])
    };
    let window = |inner: &str| match inner.split_once(':') {
        Some((range, step)) if is_duration(range) && is_duration(step) => Some("1m:4s".to_owned()),
        None if is_duration(inner) => Some(if inner.ends_with('d') || inner == "24h" { "2m" } else { "10s" }.to_owned()),
        _ => None,
    };
    let (mut out, mut rest) = (String::new(), line);
    while let Some(open) = rest.find('[') {
        let inner = rest[open + 1..].split(']').next().unwrap();
        out.push_str(&rest[..=open]);
        out.push_str(&window(inner).unwrap_or_else(|| inner.to_owned()));
        rest = &rest[open + 1 + inner.len()..];
    }
    out.push_str(rest);
    let words = out.split("offset ").enumerate().map(|(i, part)| {
        let end = part.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(part.len());
        if i > 0 && is_duration(&part[..end]) { format!("6s{}", &part[end..]) } else { part.to_owned() }
    });
    words.collect::<Vec<_>>().join("offset ")
}

/// Something that a regular expression of the embedded rules matches.
fn example(pattern: &str) -> Option<&'static str> {
    Some(match pattern {
        "5.." => "503",
        "agent-.*" => "agent-1",
        "memory-daemon.*" => "memory-daemon",
        "model-api.*|anthropic.*" => "model-api",
        "ext[234]|xfs|btrfs|f2fs|zfs" => "ext4",
        _ if pattern.contains("|error|") => "error",
        _ => return None,
    })
}

/// A series that a selector finds, without `le`.
fn found_by(selector: &Selector, instance: &str) -> Option<(String, String)> {
    let name =
        selector.name.clone().filter(|name| !name.contains(':') && !name.starts_with("paramedic_") && !name.starts_with("ALERTS"))?;
    let mut labels = BTreeMap::from([("instance", instance.to_owned()), ("job", "shop".to_owned())]);
    for matcher in selector.matchers.iter().filter(|matcher| !matches!(&*matcher.name, "__name__" | "le")) {
        match matcher.op_text() {
            "=" if !matcher.value.is_empty() => labels.insert(&matcher.name, (*matcher.value).to_owned()),
            "=~" => labels.insert(&matcher.name, example(&matcher.value)?.to_owned()),
            _ => None,
        };
    }
    let labels: Vec<String> = labels.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    Some((name, labels.join(",")))
}

/// The same number for the same text on every run.
fn drawn(text: &str, of: usize) -> usize {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash >> 17) as usize % of
}

struct Generated {
    name: String,
    labels: String,
    value: f64,
}

impl Generated {
    /// The value at a tick; `None` ends the series for a while.
    fn next(&mut self, tick: i64) -> Option<f64> {
        let draw = |of: usize| drawn(&format!("{} {} {}", self.name, self.labels, tick / PHASE), of);
        let counts =
            ["_total", "_count", "_sum", "_bucket", "_deadlocks", "_commit", "_rollback"].iter().any(|end| self.name.ends_with(end));
        let switch = ["up", "_success", "_connected", "_status", "_ready", "_state"].iter().any(|end| self.name.ends_with(end));
        self.value = match (counts, switch) {
            // No growth that a threshold is equal to: a difference of rounding would decide.
            (true, _) => self.value + [0.0, 1.37, 43.1, 2_017.3][draw(4)],
            (_, true) => [0.0, 1.0, 0.0][draw(3)],
            _ => [0.0, 0.96, 30.0, 5_000.0, 4e10][draw(5)],
        };
        // What a rate is of a window that is not full depends on the moment.
        let gone = !counts && self.labels.contains("instance=i2") && draw(4) == 3;
        (!gone).then_some(self.value)
    }
}

/// Series for all selectors of the rules. A counter begins high: near zero, a rate depends on the moment, too.
fn generated(files: &[RuleFile]) -> Vec<Generated> {
    let rules = files.iter().flat_map(|file| &file.groups).flat_map(|group| &group.rules);
    let mut all = BTreeSet::new();
    for (selector, instance) in rules.flat_map(|rule| rule.expr.selectors()).flat_map(|selector| [(selector, "i1"), (selector, "i2")]) {
        let Some((name, labels)) = found_by(selector, instance) else { continue };
        let bounds: &[&str] = if name.ends_with("_bucket") { &["0.5", "5", "20", "100", "+Inf"] } else { &[""] };
        all.extend(bounds.iter().map(|le| (name.clone(), if le.is_empty() { labels.clone() } else { format!("{labels},le={le}") })));
    }
    all.into_iter().map(|(name, labels)| Generated { name, labels, value: 1e6 }).collect()
}

/// Sends every sample to both before its time; gives the first and the last tick.
fn feed(addresses: &[&str], mut series: Vec<Generated>) -> (i64, i64) {
    // A Prometheus records nothing of an alert before the second evaluation of its group.
    let first = now_ms() / TICK_MS + 4;
    let before: Vec<i64> = (first - PAST..first).map(|tick| tick * TICK_MS + SHIFT_MS).collect();
    let past = |one: &Generated| Series::new(&one.name, &one.labels, &before.iter().map(|time| (*time, one.value)).collect::<Vec<_>>());
    for address in addresses {
        write(address, series.iter().map(past).collect());
    }
    let mut present = vec![true; series.len()];
    for tick in 0..TICKS {
        let time = (first + tick) * TICK_MS + SHIFT_MS;
        let left = time - TICK_MS - now_ms();
        thread::sleep(Duration::from_millis(u64::try_from(left).unwrap_or(0)));
        let mut batch = Vec::new();
        for (one, present) in series.iter_mut().zip(&mut present) {
            let value = one.next(tick);
            let told = value.or_else(|| present.then(stale));
            *present = value.is_some();
            batch.extend(told.map(|value| Series::new(&one.name, &one.labels, &[(time, value)])));
        }
        for address in addresses {
            write(address, batch.clone());
        }
        assert!(now_ms() < time, "samples came too late to be seen alike");
    }
    let end = (first + TICKS) * TICK_MS;
    thread::sleep(Duration::from_millis(u64::try_from(end + 500 - now_ms()).unwrap_or(0)));
    (first, first + TICKS - 1)
}

const fn slot(time_ms: i64) -> i64 {
    (time_ms - SHIFT_MS).div_euclid(TICK_MS)
}

type Recorded = BTreeMap<String, BTreeMap<i64, f64>>;

/// Every sample that matches, by series and tick.
fn recorded(address: &str, selector: &str, ticks: (i64, i64)) -> Recorded {
    let path = format!("/api/v1/query?query={}", encoded(&format!("{selector}[2m]")));
    let answer = http::get(address, &path).unwrap().json();
    let mut all = Recorded::new();
    for series in answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{answer:#}")) {
        let labels: BTreeMap<&String, &Value> = series["metric"].as_object().unwrap().iter().collect();
        let at = |pair: &Value| slot((pair[0].as_f64().unwrap() * 1_000.0).round() as i64);
        let values = series["values"].as_array().unwrap().iter().map(|pair| (at(pair), pair[1].as_str().unwrap().parse().unwrap()));
        let values: BTreeMap<i64, f64> = values.filter(|(slot, _)| (ticks.0..=ticks.1).contains(slot)).collect();
        if !values.is_empty() {
            all.insert(format!("{labels:?}"), values);
        }
    }
    all
}

fn same(one: f64, other: f64) -> bool {
    one.to_bits() == other.to_bits() || one.is_nan() && other.is_nan() || (one - other).abs() <= 1e-9 * one.abs().max(other.abs())
}

/// What differs between the two, in words.
fn differences(ours: &Recorded, theirs: &Recorded, same: impl Fn(f64, f64) -> bool) -> Vec<String> {
    let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let mut found = Vec::new();
    for name in names {
        let none = BTreeMap::new();
        let (ours, theirs) = (ours.get(name).unwrap_or(&none), theirs.get(name).unwrap_or(&none));
        let slots: BTreeSet<&i64> = ours.keys().chain(theirs.keys()).collect();
        let differ = |slot: &&i64| match (ours.get(slot), theirs.get(slot)) {
            (Some(one), Some(other)) => !same(*one, *other),
            _ => true,
        };
        let first = slots.iter().find(|slot| differ(slot)).map(|slot| (slot, ours.get(slot), theirs.get(slot)));
        if let Some((slot, ours, theirs)) = first {
            found.push(format!("{name} at tick {slot}: ours {ours:?}, theirs {theirs:?}"));
        }
    }
    found
}

/// Rules that cannot be evaluated, as both see them.
fn failing(address: &str) -> BTreeSet<String> {
    let answer = http::get(address, "/api/v1/rules").unwrap().json();
    let groups = answer["data"]["groups"].as_array().unwrap();
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
    rules.filter(|rule| rule["health"] == "err").map(|rule| rule["name"].to_string()).collect()
}

fn missed(address: &str, theirs: bool) -> f64 {
    if !theirs {
        let text = http::get(address, "/metrics").unwrap().text();
        return text.lines().find_map(|line| line.strip_prefix("paramedic_rules_missed_evaluations_total ")?.parse().ok()).unwrap();
    }
    let text = http::get(address, "/metrics").unwrap().text();
    let numbers = text.lines().filter(|line| line.starts_with("prometheus_rule_group_iterations_missed_total{"));
    numbers.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[test]
fn a_prometheus_with_our_rules_and_samples_fires_the_same_alerts_at_the_same_evaluations() {
    needs!("prometheus");
    let home = Home::new();
    let folder = home.path().join("rules");
    fs::create_dir_all(&folder).unwrap();
    let mut files = Vec::new();
    for (name, text) in pack::texts(&paramedic_rules::Settings::default()) {
        // What is about an instance itself is about something that the other does not have.
        if name.contains("paramedic.yaml") {
            continue;
        }
        let (path, text) = (folder.join(name.replace('/', "-")), shortened(&text));
        fs::write(&path, &text).unwrap();
        files.push(check(&text, path.to_str().unwrap()).file.unwrap_or_else(|| panic!("{text}")));
    }
    let alerts = files.iter().flat_map(|file| &file.groups).flat_map(|group| &group.rules).filter(|rule| rule.kind == RuleKind::Alerting);
    let series = generated(&files);
    println!("{} alerts over {} series", alerts.count(), series.len());
    let patterns = folder.join("*");
    let instance = home.up_configured(&format!(
        "[probe]\nhost = false\n[meter]\nenabled = false\ninterval_s = 3600\n[rules]\npack = false\nfiles = [{patterns:?}]\nevaluation_interval_s = 2\n"
    ));
    let theirs = Program::start(&home, Kind::Prometheus, &format!("global: {{evaluation_interval: 2s}}\nrule_files: [{patterns:?}]\n"));
    let ours = instance.http();
    // The only sample of ours that rules look at.
    write(&theirs.address, vec![Series::new("up", &format!("job=paramedic,instance={ours}"), &[(now_ms(), 1.0)])]);
    let before = (missed(&ours, false), missed(&theirs.address, true));
    let ticks = feed(&[&ours, &theirs.address], series);
    if (missed(&ours, false), missed(&theirs.address, true)) != before {
        skip!("this machine was too busy to evaluate the rules in time");
    }

    let told = |address: &str, selector: &str| recorded(address, selector, ticks);
    let (our_alerts, their_alerts) = (told(&ours, "ALERTS"), told(&theirs.address, "ALERTS"));
    let fired = their_alerts.keys().filter(|name| name.contains("\"firing\""));
    let fired: BTreeSet<&str> =
        fired.map(|name| name.split("\"alertname\": String(\"").nth(1).unwrap().split('"').next().unwrap()).collect();
    println!("{} series of alerts, {} alerts fired: {fired:?}", their_alerts.len(), fired.len());
    let found = differences(&our_alerts, &their_alerts, same);
    assert!(found.is_empty(), "{} alerts differ:\n{}\n{}", found.len(), found.join("\n"), home.log());
    assert!(fired.len() >= ALERTS_MIN, "{fired:?}");

    let onsets = |address: &str| told(address, "ALERTS_FOR_STATE");
    let found = differences(&onsets(&ours), &onsets(&theirs.address), |one, other| (one - other).abs() <= 2.0);
    assert!(found.is_empty(), "onsets differ:\n{}", found.join("\n"));

    // What tells the time differs by the moments of the evaluations.
    let of_rules = "{__name__=~\".+:.+\",__name__!~\".*uptime.*\"}";
    let (ours_recorded, theirs_recorded) = (told(&ours, of_rules), told(&theirs.address, of_rules));
    println!("{} recorded series", theirs_recorded.len());
    let found = differences(&ours_recorded, &theirs_recorded, same);
    assert!(found.is_empty(), "{} recorded series differ:\n{}", found.len(), found.join("\n"));
    assert!(theirs_recorded.len() > 20, "{}", query(&theirs.address, of_rules));
    assert_eq!(failing(&ours), failing(&theirs.address));
}
