//! Samples, rules and targets on the command line, against a real instance that measures itself.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::fixture::{Home, until};

fn text(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn an_instance_answers_queries_as_table_drawing_and_json() {
    let home = Home::new();
    let instance = home.up();
    let own = until(Duration::from_secs(40), || {
        let answer = home.json(&["query", "up{job=\"paramedic\"}", "--json"]);
        (!answer["data"]["result"].as_array()?.is_empty()).then_some(answer)
    });
    let own = own.unwrap_or_else(|| panic!("no samples of its own: {}", home.log()));
    assert_eq!((&own["status"], &own["data"]["result"][0]["value"][1]), (&json!("success"), &json!("1")));
    for (arguments, code, words) in [
        (&["query", "up"][..], 0, "job=\"paramedic\"}"),
        (&["query", "6*7"], 0, "42"),
        (&["query", "'a'"], 0, "a"),
        (&["query", "up", "--range", "5m"], 0, "COURSE"),
        (&["query", "up", "--plot"], 0, "UTC"),
        (&["query", "no_such_metric"], 0, "No series matches at"),
        (&["query", "up{"], 1, "  up{\n    ^"),
        (&["query", "up", "--range", "forever"], 1, "--range \"forever\" cannot be read"),
        (&["query", "up", "--step", "5s"], 1, "--step needs --range"),
        (&["query", "up", "--time", "2000-01-01T00:00:00Z"], 0, "No series matches at 2000-01-01"),
        (&["targets"], 0, ""),
        (&["rules", "list"], 0, "TargetDown"),
        (&["rules", "list", "--active"], 0, ""),
        (&["rules", "list", "no-such-rule"], 0, "No rule matches"),
        (&["rules", "why", "TargetDown"], 0, "compares with == 0"),
        (&["rules", "why", "NoSuchAlert"], 4, "there is no alerting rule"),
        (&["alerts"], 0, ""),
    ] {
        let output = home.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output));
        assert!(text(&output).contains(words), "{arguments:?}: {}", text(&output));
    }
    for arguments in
        [&["targets", "--json"][..], &["rules", "list", "--json"], &["rules", "why", "TargetDown", "--json"], &["alerts", "--json"]]
    {
        assert!(home.json(arguments).is_object(), "{arguments:?}");
    }
    drop(instance);
    let gone = home.run(&["query", "up"]);
    assert_eq!(gone.status.code(), Some(3), "{}", text(&gone));
}

const RULES: &str = "groups:
- name: checks
  rules:
  - record: instance:up:sum
    expr: sum by (instance) (up)
  - alert: Gone
    expr: gone_metric{queue=\"a\"} > 100 and instance:up:sum > 0
    for: 1m
";

#[test]
fn rule_files_are_checked_and_tested_without_an_instance() {
    let home = Home::new();
    let file = |name: &str, text: &str| {
        let path = home.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let good = file("good.yml", RULES);
    let bad = file("bad.yml", "groups:\n- name: a\n  rules:\n  - alert: X\n    expr: up{\n");
    let tests = |value: u32| {
        format!(
            "rule_files: [good.yml]\nevaluation_interval: 1m\ntests:\n- interval: 1m\n  input_series:\n  - series: 'up{{instance=\"a\"}}'\n    values: '1 1 1'\n  promql_expr_test:\n  - expr: instance:up:sum\n    eval_time: 2m\n    exp_samples:\n    - labels: 'instance:up:sum{{instance=\"a\"}}'\n      value: {value}\n"
        )
    };
    let (passing, failing) = (file("pass.yml", &tests(1)), file("fail.yml", &tests(2)));
    for (arguments, code, words) in [
        (vec!["rules", "check", &good], 0, "good.yml: 2 rules"),
        (vec!["rules", "check", &good, &bad], 5, "bad.yml: FAILED, 1 error"),
        (vec!["rules", "check", &bad, "--json"], 5, "\"ok\": false"),
        (vec!["rules", "check", "/no/such/file"], 4, "does not exist"),
        (vec!["rules", "test", &passing], 0, "SUCCESS"),
        (vec!["rules", "test", &passing, &failing], 5, "FAILED"),
        (vec!["rules", "list"], 3, "paramedic up"),
    ] {
        let output = home.run(&arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output));
        assert!(text(&output).contains(words), "{arguments:?}: {}", text(&output));
    }
    let instance = home.up();
    until(Duration::from_secs(40), || (!home.json(&["query", "up", "--json"])["data"]["result"].as_array()?.is_empty()).then_some(()))
        .expect("own samples");
    let compared = home.run(&["rules", "check", &good]);
    assert!(compared.status.success());
    let said = text(&compared);
    assert!(said.contains("no series for `gone_metric{queue=\"a\"}` in the last 24 h"), "{said}");
    assert!(said.contains("no series for `instance:up:sum` in the last 24 h (recorded by group \"checks\")"), "{said}");
    assert!(!said.contains("no series for `up`"), "{said}");
    drop(instance);
}
