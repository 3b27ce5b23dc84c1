//! Rule files of one's own: loaded as they are, changed while they are in use, broken and repaired.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fixture::{Home, Instance, until};
use crate::http::{self, Answer};
use crate::programs::{Series, now_ms, number, write};

const WITHIN: Duration = Duration::from_secs(20);

/// A rule file with an alert that waits, and more rules of the same group or of another.
fn prometheus_file(more: &str) -> String {
    format!(
        "groups:
- name: own
  interval: 1s
  labels: {{team: shop}}
  rules:
  - alert: Waiting
    expr: own_level > 0
    for: 10s
    keep_firing_for: 1s
    labels: {{severity: critical}}
    annotations: {{summary: 'the level is {{{{ $value }}}} at {{{{ $labels.where }}}}'}}
{more}"
    )
}

const OBJECT: &str = "apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: shop-rules
  namespace: shop
spec:
  groups:
  - name: object
    interval: 1s
    rules:
    - alert: FromObject
      expr: own_level > 0
      labels: {severity: warning}
    - record: own:level:sum
      expr: sum(own_level)
";

const RECORDED: &str = "- name: second\n  interval: 1s\n  rules:\n  - record: own:level:max\n    expr: max(own_level)\n";
const RECORDED_TOO: &str = "- name: third\n  interval: 1s\n  rules:\n  - record: own:level:min\n    expr: min(own_level)\n";

fn alert(instance: &Instance, name: &str) -> Option<Value> {
    let all = instance.json("/api/v1/alerts");
    all["data"]["alerts"].as_array().unwrap().iter().find(|alert| alert["labels"]["alertname"] == name).cloned()
}

fn history(instance: &Instance, name: &str) -> Vec<Value> {
    let all = instance.list("/api/v1/alerts/history?limit=1000", "alerts");
    all.into_iter().filter(|line| line["alert"]["rule"]["name"] == name).collect()
}

fn rule_names(instance: &Instance) -> Vec<String> {
    let rules = instance.json("/api/v1/rules");
    let groups = rules["data"]["groups"].as_array().unwrap().iter();
    groups.flat_map(|group| group["rules"].as_array().unwrap()).map(|rule| rule["name"].as_str().unwrap().to_owned()).collect()
}

fn reload(instance: &Instance) -> Answer {
    http::post(&instance.http(), "/-/reload", "text/plain", b"").unwrap()
}

fn started(home: &Home, folder: &Path) -> Instance {
    let files = folder.join("*.y*ml");
    home.up_configured(&format!(
        "[probe]\nhost = false\n[meter]\nenabled = false\n[rules]\npack = false\nfiles = [{files:?}]\nrestored_hold_s = 0\n"
    ))
}

#[test]
fn files_change_while_an_alert_waits_and_it_goes_on_waiting() {
    let home = Home::new();
    let folder = home.path().join("rules");
    fs::create_dir_all(&folder).unwrap();
    let (file, object) = (folder.join("own.yml"), folder.join("object.yaml"));
    fs::write(&file, prometheus_file("")).unwrap();
    fs::write(&object, OBJECT).unwrap();
    let instance = started(&home, &folder);
    assert_eq!(rule_names(&instance).len(), 3, "{:?}", rule_names(&instance));
    write(&instance.http(), vec![Series::new("own_level", "where=here", &[(now_ms(), 7.0)])]);
    let waiting = until(WITHIN, || alert(&instance, "Waiting")).unwrap_or_else(|| panic!("{}", home.log()));
    assert_eq!((&waiting["state"], &waiting["labels"]["team"]), (&json!("pending"), &json!("shop")), "{waiting:#}");
    assert_eq!(waiting["annotations"]["summary"], "the level is 7 at here");
    until(WITHIN, || number(&instance.http(), "own:level:sum == 7")).expect("what the object records");
    until(WITHIN, || history(&instance, "FromObject").pop()).expect("the object's alert fires");

    fs::write(&file, prometheus_file(RECORDED)).unwrap();
    instance.signal("HUP");
    until(WITHIN, || number(&instance.http(), "own:level:max == 7")).unwrap_or_else(|| panic!("SIGHUP: {}", home.log()));
    fs::write(&file, prometheus_file(&format!("{RECORDED}{RECORDED_TOO}"))).unwrap();
    let answer = reload(&instance);
    assert_eq!(answer.status, 200, "{}", answer.text());
    until(WITHIN, || number(&instance.http(), "own:level:min == 7")).unwrap_or_else(|| panic!("/-/reload: {}", home.log()));
    let still = alert(&instance, "Waiting").unwrap();
    assert_eq!(still["activeAt"], waiting["activeAt"], "the clock went on: {still:#}");

    // A file that cannot be read is named, and what was there before stays.
    fs::write(&file, "groups:\n- name: own\n  rules:\n  - alert: Waiting\n    expr: own_level >\n").unwrap();
    let answer = reload(&instance);
    assert_eq!(answer.status, 500, "{}", answer.text());
    assert!(answer.text().contains("own.yml:5"), "file and line: {}", answer.text());
    instance.signal("HUP");
    let told = until(WITHIN, || (home.log().matches("own.yml:5").count() >= 2).then_some(()));
    assert!(told.is_some(), "{}", home.log());
    assert_eq!(rule_names(&instance).len(), 5, "{:?}", rule_names(&instance));
    let fired = until(WITHIN, || history(&instance, "Waiting").pop()).unwrap_or_else(|| panic!("{}", home.log()));
    let at = |value: &Value| paramedic_model::Timestamp::parse(value.as_str().unwrap()).unwrap().as_millis();
    assert!((at(&fired["alert"]["started_at"]) - at(&waiting["activeAt"])).abs() < 1_000, "{fired:#}");

    // Repaired; and a file that is gone takes its rules and alerts with it.
    fs::write(&file, prometheus_file(RECORDED)).unwrap();
    fs::remove_file(&object).unwrap();
    let answer = reload(&instance);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(rule_names(&instance), ["Waiting", "own:level:max"]);
    let ended = until(WITHIN, || history(&instance, "FromObject").pop().filter(|line| line["alert"]["ended_at"].is_string()));
    assert!(ended.is_some(), "{:#?}", history(&instance, "FromObject"));
    let waited = history(&instance, "Waiting");
    assert!(waited.len() == 1 && waited[0]["alert"]["ended_at"].is_null(), "{waited:#?}");
}

#[test]
fn an_alert_whose_rule_was_taken_away_ends_with_the_next_start() {
    let home = Home::new();
    let folder = home.path().join("rules");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("object.yaml"), OBJECT).unwrap();
    let instance = started(&home, &folder);
    write(&instance.http(), vec![Series::new("own_level", "where=here", &[(now_ms(), 7.0)])]);
    until(WITHIN, || history(&instance, "FromObject").pop()).unwrap_or_else(|| panic!("{}", home.log()));
    assert_eq!(instance.stop(), Some(0));
    fs::remove_file(folder.join("object.yaml")).unwrap();
    let instance = started(&home, &folder);
    let ended = until(WITHIN, || history(&instance, "FromObject").pop().filter(|line| line["alert"]["ended_at"].is_string()));
    assert!(ended.is_some(), "{:#?}\n{}", history(&instance, "FromObject"), home.log());
}

#[test]
fn a_file_that_is_broken_at_the_start_is_named_and_the_others_are_used() {
    let home = Home::new();
    let folder = home.path().join("rules");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("good.yml"), prometheus_file("")).unwrap();
    fs::write(folder.join("bad.yml"), "groups:\n- name: x\n  rules:\n  - alert: X\n    expr: up\n    fro: 5m\n").unwrap();
    let instance = started(&home, &folder);
    assert_eq!(rule_names(&instance), ["Waiting"]);
    assert!(home.log().contains("bad.yml:6"), "{}", home.log());
    let told = until(WITHIN, || {
        instance.get("/metrics").text().lines().find(|line| line.starts_with("paramedic_rules_file_problems")).map(str::to_owned)
    });
    assert!(told.is_none_or(|line| !line.ends_with(" 0")), "{}", home.log());
}
