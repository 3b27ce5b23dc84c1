//! Prometheus's own programs against a running instance: scraped, federated, written to, and asked.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};

use crate::fixture::{Home, Instance, until};
use crate::programs::{Kind, Program, Series, encoded, now_ms, query, write};
use crate::{http, needs};

const WITHIN: Duration = Duration::from_secs(30);

/// Series of a query by their labels, without those that differ by where they are.
fn by_labels(result: &Value, without: &[&str]) -> BTreeMap<String, String> {
    let one = |found: &Value| {
        let labels: BTreeMap<&String, &Value> =
            found["metric"].as_object().unwrap().iter().filter(|(name, _)| !without.contains(&name.as_str())).collect();
        (format!("{labels:?}"), found["value"][1].as_str().unwrap().to_owned())
    };
    result.as_array().unwrap().iter().map(one).collect()
}

/// A quiet instance: no probes, no embedded rules.
fn quiet(more: &str) -> (Home, Instance) {
    let home = Home::new();
    let instance = home.up_configured(&format!("[probe]\nhost = false\n[rules]\npack = false\n{more}"));
    (home, instance)
}

#[test]
fn a_prometheus_scrapes_us_and_federates_from_us() {
    needs!("prometheus");
    let (home, instance) = quiet("[meter]\ninterval_s = 1\n");
    let ours = instance.http();
    let at = now_ms();
    let shop = |i: i64| Series::new("shop_orders_total", "job=shop,instance=s1", &[(at + i * 1_000, 10.0 * i as f64)]);
    write(&ours, (0..3).map(shop).collect());
    write(&ours, vec![Series::new("shop_temperature", "job=shop,instance=s1,room=a \"b\" \\ ü", &[(at, -1.5)])]);
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- {{job_name: paramedic, static_configs: [{{targets: ['{ours}']}}]}}\n\
         - {{job_name: federate, honor_labels: true, metrics_path: /federate, params: {{'match[]': ['{{job=\"shop\"}}', '{{__name__=~\"agents_by_state|agent_.*_total\"}}']}}, static_configs: [{{targets: ['{ours}']}}]}}\n"
    );
    let theirs = Program::start(&home, Kind::Prometheus, &config);
    let both = until(WITHIN, || (query(&theirs.address, "up == 1").as_array().unwrap().len() == 2).then_some(()));
    assert!(both.is_some(), "{:#}\n{}", http::get(&theirs.address, "/api/v1/targets").unwrap().json()["data"]["activeTargets"], home.log());
    for selector in ["shop_orders_total", "shop_temperature"] {
        let equal = until(WITHIN, || {
            let (ours, theirs) = (by_labels(&query(&ours, selector), &[]), by_labels(&theirs.query(selector), &[]));
            (ours.len() == 1 && ours == theirs).then_some(())
        });
        assert!(equal.is_some(), "{selector}: {} {}", query(&ours, selector), theirs.query(selector));
    }
    // What stands on our /metrics is what it takes from there, with its types.
    let text = http::request(&ours, "GET", "/metrics", &[("accept", "application/openmetrics-text;version=1.0.0")], &[]).unwrap().text();
    for name in ["paramedic_samples_appended_samples_total", "paramedic_rules_missed_evaluations_total", "agent_retries_total"] {
        let shown = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name)).count();
        assert!(shown > 0, "no {name} on /metrics");
        let taken = until(WITHIN, || {
            let found = theirs.query(&format!("{name}{{job=\"paramedic\"}}"));
            (found.as_array().unwrap().len() == shown).then_some(())
        });
        assert!(taken.is_some(), "{name}: {}", theirs.query(name));
    }
    let samples = theirs.query("scrape_samples_scraped{job=\"paramedic\"}")[0]["value"][1].as_str().unwrap().parse::<usize>().unwrap();
    assert!(samples > 100, "{samples}");
    let kinds = http::get(&theirs.address, "/api/v1/targets/metadata?metric=paramedic_samples_appended_samples").unwrap().json();
    let kinds = if kinds["data"][0].is_object() {
        kinds
    } else {
        http::get(&theirs.address, "/api/v1/targets/metadata?metric=paramedic_samples_appended_samples_total").unwrap().json()
    };
    assert_eq!(kinds["data"][0]["type"], "counter", "{kinds:#}");
}

#[test]
fn a_prometheus_writes_to_us_what_it_scrapes() {
    needs!("prometheus");
    let (home, instance) = quiet("");
    let ours = instance.http();
    let config = format!(
        "global: {{scrape_interval: 1s, external_labels: {{site: lab}}}}\nscrape_configs:\n- {{job_name: paramedic, static_configs: [{{targets: ['{ours}']}}]}}\n\
         remote_write: [{{url: 'http://{ours}/api/v1/write', metadata_config: {{send: true, send_interval: 1s}}}}]\n"
    );
    let theirs = Program::start(&home, Kind::Prometheus, &config);
    let enough = until(WITHIN, || {
        let scrapes = query(&ours, "count_over_time(up{site=\"lab\"}[1m])");
        scrapes[0]["value"][1].as_str()?.parse::<f64>().ok().filter(|count| *count >= 4.0)
    });
    assert!(enough.is_some(), "{}\n{}", theirs.log(), home.log());
    // At a moment that both have in full, both give the same, staleness and histograms included.
    let at = format!("{}", (now_ms() - 2_000) / 1_000);
    let ask = |address: &str, expression: &str| {
        let path = format!("/api/v1/query?time={at}&query={}", encoded(expression));
        by_labels(&http::get(address, &path).unwrap().json()["data"]["result"], &["site"])
    };
    for expression in [
        "up",
        "scrape_samples_scraped",
        "paramedic_samples_series{job=\"paramedic\",site=~\".*\"}",
        "{__name__=~\"paramedic_journal_.*\"}",
        "sum by (le) ({__name__=~\"paramedic_.*_bucket\"})",
        "count by (__name__) ({__name__=~\"paramedic_.*\"})",
    ] {
        let narrowed = expression.replace('{', "{site=\"lab\",").replace(",site=~\".*\"", "");
        let narrowed = if expression.contains('{') { narrowed } else { format!("{expression}{{site=\"lab\"}}") };
        let equal = until(WITHIN, || {
            let (mine, expected) = (ask(&ours, &narrowed), ask(&theirs.address, expression));
            (!mine.is_empty() && mine == expected).then_some(())
        });
        assert!(equal.is_some(), "{expression} at {at}\n{:#?}\n{:#?}", ask(&ours, &narrowed), ask(&theirs.address, expression));
    }
    let described = until(WITHIN, || {
        let metadata = instance.json("/api/v1/metadata?metric=paramedic_samples_series");
        (metadata["data"]["paramedic_samples_series"][0]["type"] == "gauge").then_some(())
    });
    assert!(described.is_some(), "{:#}", instance.json("/api/v1/metadata"));
}

#[test]
fn promtool_finds_us_healthy_and_can_read_our_metrics() {
    needs!("promtool");
    let (home, instance) = quiet("");
    for path in ["/-/healthy", "/-/ready"] {
        assert_eq!(instance.get(path).status, 200, "{path}");
    }
    let file = home.path().join("metrics.txt");
    fs::write(&file, http::request(&instance.http(), "GET", "/metrics", &[("accept", "text/plain;version=0.0.4")], &[]).unwrap().body)
        .unwrap();
    let output = Command::new("promtool").args(["check", "metrics"]).stdin(fs::File::open(&file).unwrap()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    // 3 is advice about names; 1 is a text that cannot be read.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{told}");
    println!("{} lines of advice:\n{told}", told.lines().count());
}

fn promtool(arguments: &[&str]) -> Output {
    Command::new("promtool").args(arguments).output().unwrap()
}

#[test]
fn promtool_asks_us_as_it_asks_a_prometheus() {
    needs!("promtool");
    let (_home, instance) = quiet("");
    let at = now_ms() / 1_000 * 1_000;
    let samples: Vec<(i64, f64)> = (0..60).map(|i| (at - 60_000 + i * 1_000, f64::from(i as i32))).collect();
    for (user, factor) in [("ada", 1.0), ("bob", 2.0)] {
        let scaled: Vec<(i64, f64)> = samples.iter().map(|(time, value)| (*time, value * factor)).collect();
        write(&instance.http(), vec![Series::new("agent_requests_total", &format!("user_id={user},job=shop"), &scaled)]);
    }
    let url = format!("http://{}", instance.http());
    let seconds = |ms: i64| format!("{}", ms / 1_000);
    let (now, from, to) = (seconds(at - 1_000), format!("--start={}", seconds(at - 31_000)), format!("--end={}", seconds(at - 1_000)));
    let told = |arguments: &[&str]| {
        let output = promtool(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let instant = told(&["query", "instant", &url, &format!("sum by (user_id) (agent_requests_total{{job=\"shop\"}} @ {now})")]);
    assert!(instant.contains("{user_id=\"ada\"} => 59 @[") && instant.contains("{user_id=\"bob\"} => 118 @["), "{instant}");
    let scalar = told(&["query", "instant", &url, "6 * 7"]);
    assert!(scalar.contains("42 @["), "{scalar}");
    let text = told(&["query", "instant", "-o", "json", &url, &format!("rate(agent_requests_total{{user_id=\"bob\"}}[30s] @ {now})")]);
    let parsed: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(parsed[0]["value"][1], json!("2"), "{text}");
    let range = told(&["query", "range", &from, &to, "--step=10s", &url, "agent_requests_total{user_id=\"ada\"}"]);
    assert_eq!(range.lines().filter(|line| line.contains(" @[")).count(), 4, "{range}");
    assert!(range.contains("29 @[") && range.contains("59 @["), "{range}");
    let series = told(&["query", "series", "--match=agent_requests_total", "--match=no_such_metric", &url]);
    assert_eq!(series.lines().count(), 2, "{series}");
    assert!(series.contains("{__name__=\"agent_requests_total\", job=\"shop\", user_id=\"ada\"}"), "{series}");
    assert_eq!(told(&["query", "labels", &url, "user_id"]).lines().collect::<Vec<_>>(), ["ada", "bob"]);
    // A wrong expression is refused in a way that it understands.
    let wrong = promtool(&["query", "instant", &url, "sum by ("]);
    let said = String::from_utf8_lossy(&wrong.stderr);
    assert!(!wrong.status.success() && said.contains("bad_data"), "{said}");
}
