//! Alerts that could not be relied on elsewhere, and a day's cost that was wrong: here, with real events and processes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use paramedic_model::Timestamp;
use paramedic_rules::{Rule, RuleKind, check, pack};
use serde_json::{Value, json};

use crate::external::{telemetry, turn};
use crate::fixture::{Home, Instance, until};
use crate::programs::{encoded, now_ms, number, query};
use crate::{http, skip, tools};

const WITHIN: Duration = Duration::from_secs(30);

/// A file of the embedded rules with every waiting time cut short, as a file of one's own.
fn impatient(home: &Home, file: &str) -> String {
    let texts = pack::texts(&paramedic_rules::Settings::default());
    let (_, text) = texts.iter().find(|(name, _)| name.ends_with(file)).unwrap_or_else(|| panic!("no {file} among the embedded rules"));
    let lines = text.lines().map(|line| match line.trim_start().starts_with("for:") {
        true => format!("{}for: 2s", &line[..line.len() - line.trim_start().len()]),
        false => line.to_owned(),
    });
    let path = home.path().join(file);
    fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
    path.to_str().unwrap().to_owned()
}

fn history(instance: &Instance, name: &str) -> Vec<Value> {
    let all = instance.list("/api/v1/alerts/history?limit=1000", "alerts");
    all.into_iter().filter(|line| line["alert"]["rule"]["name"] == name).collect()
}

#[test]
fn a_daemon_that_nobody_has_is_not_missed_and_one_that_dies_is() {
    let home = Home::new();
    let own = home.path().join("published.yml");
    let published = "groups:\n- name: published\n  rules:\n  - {alert: Published, expr: 'absent(up{job=\"memory-daemon\"} == 1)', for: 2s, labels: {severity: P0}}\n";
    fs::write(&own, published).unwrap();
    let instance = home.up_configured(&format!("[probe]\nhost = false\n[rules]\nfiles = [{own:?}]\nevaluation_interval_s = 1\n"));
    // Evaluated again and again, the published rule cries wolf and ours does not.
    until(WITHIN, || history(&instance, "Published").pop()).unwrap_or_else(|| panic!("{}", home.log()));
    std::thread::sleep(Duration::from_secs(6));
    let rules = instance.json("/api/v1/rules?rule_name[]=DaemonNotRunning");
    let rule = &rules["data"]["groups"][0]["rules"][0];
    assert_eq!(
        (&rule["name"], &rule["state"], &rule["health"]),
        (&json!("DaemonNotRunning"), &json!("inactive"), &json!("ok")),
        "{rules:#}"
    );
    assert_eq!(number(&instance.http(), "count_over_time(ALERTS{alertname=\"DaemonNotRunning\"}[5m])"), None);
    assert!(history(&instance, "DaemonNotRunning").is_empty());
    drop(instance);

    let home = Home::new();
    let mut daemon = Command::new("sleep").arg("120").spawn().unwrap();
    fs::write(home.claude().join("memory-daemon.pid"), format!("{}\n", daemon.id())).unwrap();
    let own = impatient(&home, "memory-daemon.yaml");
    let instance = home.up_configured(&format!(
        "[probe]\nhost = false\nmemory_daemon = true\ninterval_s = 1\n[rules]\npack = false\nfiles = [{own:?}]\nevaluation_interval_s = 1\n"
    ));
    let lives = until(WITHIN, || number(&instance.http(), "up{job=\"memory-daemon\"} == 1"));
    std::thread::sleep(Duration::from_secs(4));
    let quiet = history(&instance, "DaemonNotRunning").is_empty();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert!(lives.is_some() && quiet, "{}\n{}", query(&instance.http(), "up"), home.log());
    let fired = until(WITHIN, || history(&instance, "DaemonNotRunning").pop());
    let fired = fired.unwrap_or_else(|| panic!("{}\n{}", query(&instance.http(), "up"), home.log()));
    assert!(fired["incident"].is_string() && fired["alert"]["severity"] == "SEV1", "{fired:#}");
}

/// Appends one turn to a session's transcript.
fn transcript_turn(home: &Home, number: usize, fails: bool) {
    let folder = home.claude().join("projects/-srv-shop");
    fs::create_dir_all(&folder).unwrap();
    let line = |kind: &str, id: &str, more: Value, message: Value| {
        let at = Timestamp::from_millis(now_ms()).to_string();
        let mut line = json!({"type": kind, "sessionId": "s-file", "uuid": format!("{id}-{number}"), "cwd": "/srv/shop", "timestamp": at, "message": message});
        line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        format!("{line}\n")
    };
    let model = if fails { "<synthetic>" } else { "claude-sonnet-4-5" };
    let more = if fails { json!({"isApiErrorMessage": true, "error": "server_error", "apiErrorStatus": 500}) } else { json!({}) };
    let said = if fails { "API Error: 500 internal server error" } else { "done" };
    let prompt = line("user", "p", json!({}), json!({"role": "user", "content": "go"}));
    let answer = line(
        "assistant",
        "a",
        more,
        json!({"id": format!("msg_{number}"), "role": "assistant", "model": model, "stop_reason": "end_turn", "content": [{"type": "text", "text": said}], "usage": {"input_tokens": 10, "output_tokens": 5}}),
    );
    let mut file = fs::File::options().create(true).append(true).open(folder.join("s-file.jsonl")).unwrap();
    file.write_all(format!("{prompt}{answer}").as_bytes()).unwrap();
}

#[test]
fn half_of_the_requests_failing_fires_the_alert_whoever_tells_of_them() {
    let home = Home::new();
    let own = impatient(&home, "agents.yaml");
    let instance = home.up_configured(&format!(
        "[probe]\nhost = false\n[meter]\ninterval_s = 1\n[rules]\npack = false\nfiles = [{own:?}]\nevaluation_interval_s = 1\n"
    ));
    let address = instance.http();
    let counted = |requests: f64, source: &str| {
        let right = until(WITHIN, || {
            let found = (number(&address, "sum(agent_requests_total)"), number(&address, "sum(agent_errors_total)"));
            (found == (Some(requests), Some(requests / 2.0))).then_some(())
        });
        let found = (query(&address, "agent_requests_total"), query(&address, "agent_errors_total"));
        assert!(right.is_some(), "{source}: {found:#?} instead of {requests}\n{}", home.log());
    };
    for i in 0..10 {
        turn(&instance, "s-hook", i, i % 2 == 1);
    }
    counted(10.0, "hooks");
    for i in 0..10 {
        telemetry(&instance, "s-otlp", 2 * i, "user_prompt", now_ms(), &json!({"prompt.id": format!("p{i}"), "prompt_length": "2"}));
        let (event, told) = match i % 2 {
            0 => (
                "api_request",
                json!({"model": "claude-sonnet-4-5", "stop_reason": "end_turn", "prompt.id": format!("p{i}"), "duration_ms": 900.0}),
            ),
            _ => (
                "api_error",
                json!({"model": "claude-sonnet-4-5", "error": "500 internal server error", "status_code": "500", "prompt.id": format!("p{i}"), "attempt": 11.0}),
            ),
        };
        telemetry(&instance, "s-otlp", 2 * i + 1, event, now_ms(), &told);
    }
    counted(20.0, "telemetry");
    for i in 0..10 {
        transcript_turn(&home, i, i % 2 == 1);
    }
    counted(30.0, "transcripts");

    let fired = until(WITHIN, || Some(history(&instance, "HighErrorRate")).filter(|all| all.len() == 2));
    let fired = fired.unwrap_or_else(|| panic!("{:#?}\n{}", history(&instance, "HighErrorRate"), home.log()));
    assert!(fired.iter().all(|line| line["alert"]["ended_at"].is_null() && line["incident"].is_string()), "{fired:#?}");
    let share = fired.iter().map(|line| line["alert"]["rule"]["value"].as_f64().unwrap()).fold(0.0, f64::max);
    assert!((0.4..=0.6).contains(&share), "{fired:#?}");
    // The rule as it was published finds no pair to divide.
    assert_eq!(query(&address, "rate(agent_errors_total[5m]) / rate(agent_requests_total[5m]) > 0.05"), json!([]));
}

/// Dollars per million tokens: input, output, read from the cache, written to it.
const PRICES: [(&str, [u64; 4]); 3] =
    [("claude-haiku-4-5", [100, 500, 10, 125]), ("claude-sonnet-4-5", [300, 1_500, 30, 375]), ("claude-opus-4-5", [500, 2_500, 50, 625])];

/// One call, told by telemetry; what it costs in cents of a millionth.
fn call(instance: &Instance, sequence: usize, time_ms: i64) -> u64 {
    let (model, prices) = PRICES[sequence % 3];
    let tokens = [1_000 + sequence as u64 * 7, 300 + sequence as u64 % 11, sequence as u64 * 131, (sequence as u64 % 5) * 2_003];
    let [input, output, read, written] = tokens.map(|count| count as f64);
    let told = json!({"model": model, "input_tokens": input, "output_tokens": output, "cache_read_tokens": read, "cache_creation_tokens": written, "duration_ms": 1_000.0, "request_id": format!("req_{sequence}")});
    telemetry(instance, ["s-a", "s-b", "s-c", "s-d"][sequence % 4], sequence, "api_request", time_ms, &told);
    tokens.iter().zip(prices).map(|(count, price)| count * price).sum()
}

#[test]
fn a_day_costs_to_the_cent_what_its_calls_cost() {
    let home = Home::new();
    let instance = home.up_configured("[probe]\nhost = false\n[meter]\ninterval_s = 1\n[rules]\nevaluation_interval_s = 1\n");
    let address = instance.http();
    let day = 86_400_000;
    let begin = now_ms();
    let midnight = begin / day * day;
    // Earlier today, as far as it is earlier than what counters call history.
    let earlier = (begin - 600_000 - midnight).max(0);
    let calls = if earlier > 0 { 200 } else { 0 };
    let mut today: u64 = (0..calls).map(|i| call(&instance, i, midnight + earlier * i as i64 / 200)).sum();
    let recent: u64 = (200..300).map(|i| call(&instance, i, now_ms())).sum();
    today += recent;
    // Yesterday's, and what was told before.
    call(&instance, 301, midnight - 1);
    call(&instance, 200, now_ms());
    let dollars = |cents_of_a_millionth: u64| cents_of_a_millionth as f64 / 1e8;
    for (expression, expected) in [
        ("agent_cost_today_dollars", dollars(today)),
        ("sum(agent_cost_dollars_total)", dollars(recent)),
        ("sum(llm_cost_usd_total)", dollars(recent)),
    ] {
        let cents = |value: f64| (value * 100.0).round() as i64;
        let right = until(WITHIN, || number(&address, expression).filter(|found| cents(*found) == cents(expected)));
        if now_ms() / day != begin / day {
            skip!("the day ended in the middle of the test")
        }
        assert!(right.is_some(), "{expression}: {:?} instead of {expected}\n{}", number(&address, expression), home.log());
    }
    // A rate is per second: at this pace a day costs 86,400 of them, not 24.
    let projected = "sum(job:agent_cost:daily_projection) / (sum(rate(agent_cost_dollars_total[1h])) * 86400)";
    let right = until(WITHIN, || number(&address, projected).filter(|ratio| (0.5..2.0).contains(ratio)));
    assert!(right.is_some(), "{}\n{}", query(&address, "job:agent_cost:daily_projection"), home.log());
    let names = [
        "agent_cost_dollars_total",
        "agent_tokens_used_total",
        "agent_retries_total",
        "agent_timeouts_total",
        "agent_cache_hits_total",
        "agent_cache_misses_total",
        "agent_anthropic_api_requests_total",
        "agent_anthropic_api_errors_total",
        "agent_anthropic_api_rate_limited_total",
        "llm_cost_usd_total",
        "llm_tokens_total",
    ];
    for name in names {
        assert!(number(&address, &format!("count({name})")).is_some(), "{name} is named by documents and not there");
    }
}

/// Names in backticks at the begin of a table's rows, under a heading.
fn first_column(markdown: &str, heading: &str) -> BTreeSet<String> {
    let section = markdown.split(&format!("\n## {heading}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).map(str::to_owned).collect()
}

/// What the reference of alerts says of where their samples come from.
fn sources(markdown: &str) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for line in markdown.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if cells.len() == 7 {
            all.entry(cells[0].to_owned()).or_default().push_str(cells[5]);
        }
    }
    all
}

/// Texts of all files of a folder.
fn texts(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        all.push_str(&if path.is_dir() { texts(&path) } else { fs::read_to_string(&path).unwrap_or_default() });
    }
    all
}

/// Whether sources register a metric by this name; its stage is a prefix that stands elsewhere. What has never been counted by a
/// reason is not on `/metrics` yet.
fn is_registered(name: &str, sources: &str) -> bool {
    let name = plain(name).trim_end_matches("_total");
    let written = |name: &str| sources.contains(&format!("\"{name}\""));
    written(name) || name.match_indices('_').any(|(at, _)| written(&name[at + 1..]))
}

fn plain(name: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

#[test]
fn every_metric_of_the_embedded_alerts_comes_from_somewhere_and_what_is_missing_is_named() {
    let home = Home::new();
    let (mut paths, mut files) = (Vec::new(), Vec::new());
    for (name, text) in pack::texts(&paramedic_rules::Settings::default()) {
        let path = home.path().join(name.replace('/', "-"));
        fs::write(&path, &text).unwrap();
        files.push(check(&text, &name).file.unwrap());
        paths.push(path.to_str().unwrap().to_owned());
    }
    let rules: Vec<&Rule> = files.iter().flat_map(|file| &file.groups).flat_map(|group| &group.rules).collect();
    let recorded: BTreeSet<&str> = rules.iter().filter(|rule| rule.kind == RuleKind::Recording).map(|rule| rule.name.as_str()).collect();

    let instance = home.up_configured("[meter]\ninterval_s = 1\n[rules]\nmissing_interval_s = 1\nevaluation_interval_s = 1\n");
    let own = instance.get("/metrics").text();
    let own: BTreeSet<&str> = own.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let document = |name: &str| fs::read_to_string(tools::workspace().join("docs").join(name)).unwrap();
    let derived = first_column(&document("metrics.md"), "Metrics");
    let registered = texts(&tools::workspace().join("crates"));
    let (probes, sources) = (texts(&tools::workspace().join("crates/probe/src")), sources(&document("rules.md")));
    let mut from_elsewhere = BTreeMap::new();
    for rule in rules.iter().filter(|rule| rule.kind == RuleKind::Alerting) {
        let source = sources.get(&rule.name).unwrap_or_else(|| panic!("docs/rules.md does not tell of {}", rule.name));
        for name in rule.expr.selectors().into_iter().filter_map(|selector| selector.name.as_deref()) {
            let own = own.contains(name) || name.starts_with("paramedic_") && is_registered(name, &registered);
            let ours = own || derived.contains(plain(name)) || probes.contains(&format!("\"{name}\"")) || recorded.contains(name);
            assert!(ours || source.contains("scrape"), "{}: who has {name}? \"{source}\"", rule.name);
            if !ours {
                from_elsewhere.insert(name, source);
            }
        }
    }
    println!("{} metrics come from exporters or applications: {:?}", from_elsewhere.len(), from_elsewhere.keys());

    // Every selector that finds nothing is named, and no other.
    let mut arguments = vec!["rules", "check", "--json"];
    arguments.extend(paths.iter().map(String::as_str));
    let told = home.json(&arguments);
    assert_eq!(told["compared"], true, "{told:#}");
    let missing = told["missing"].as_array().unwrap();
    let named: BTreeSet<(&str, &str)> =
        missing.iter().map(|one| (one["rule"].as_str().unwrap(), one["metric"].as_str().unwrap())).collect();
    let mut unnamed = Vec::new();
    for rule in &rules {
        for name in rule.expr.selectors().into_iter().filter_map(|selector| selector.name.as_deref()) {
            let path = format!("/api/v1/series?match[]={}&limit=1", encoded(name));
            let has_series = http::get(&instance.http(), &path).unwrap().json()["data"].as_array().is_some_and(|found| !found.is_empty());
            if !has_series && !named.contains(&(&*rule.name, name)) {
                unnamed.push(format!("{}: {name}", rule.name));
            }
        }
    }
    unnamed.retain(|one| !one.contains(": ALERTS"));
    assert!(unnamed.is_empty(), "not named: {unnamed:#?}");
    assert!(named.contains(&("DaemonNotRunning", "up")) && !named.iter().any(|(_, metric)| *metric == "agent_retries_total"), "{named:?}");
    // The pages and verbs of the running instance say the same of its own rules.
    let waits = until(WITHIN, || {
        let told = home.json(&["rules", "list", "DaemonNotRunning", "--json"]);
        let missing = told["groups"][0]["rules"][0]["missing"].as_array()?.clone();
        (!missing.is_empty()).then_some(missing)
    });
    assert!(waits.is_some_and(|missing| missing[0]["metric"] == "up"), "{:#}", home.json(&["rules", "list", "DaemonNotRunning", "--json"]));
}
