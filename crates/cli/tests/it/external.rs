//! Samples in a store of others: forwarded there, asked for there, and not lost while it is away.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fixture::{Home, Instance, until};
use crate::programs::{Kind, Program, Series, encoded, now_ms, number, write};
use crate::{http, needs};

const WITHIN: Duration = Duration::from_secs(30);

const RULES: &str = "groups:
- name: outside
  interval: 1s
  rules:
  - record: shop:failures:ratio
    expr: sum(rate(agent_errors_total[1m])) / sum(rate(agent_requests_total[1m]))
  - alert: RequestsFail
    expr: sum(increase(agent_errors_total[1m])) / sum(increase(agent_requests_total[1m])) > 0.2
    for: 2s
    labels: {severity: critical}
    annotations: {summary: '{{ $value | humanizePercentage }} of requests fail'}
  - alert: QueueDeep
    expr: outside_queue_depth > 100
    labels: {severity: warning}
";

/// One turn of an agent, by hooks.
pub fn turn(instance: &Instance, session: &str, number: usize, fails: bool) {
    let prompt = format!("{session}-p{number}");
    instance.post_hook(&json!({"session_id": session, "hook_event_name": "UserPromptSubmit", "prompt_id": prompt, "prompt": "go"}));
    let end = if fails {
        json!({"session_id": session, "hook_event_name": "StopFailure", "prompt_id": prompt, "error": "server_error", "last_assistant_message": "API Error: 500 internal server error"})
    } else {
        json!({"session_id": session, "hook_event_name": "Stop", "prompt_id": prompt})
    };
    instance.post_hook(&end);
}

/// One log record of Claude Code's telemetry.
pub fn telemetry(instance: &Instance, session: &str, sequence: usize, event: &str, time_ms: i64, attributes: &Value) {
    let mut all = vec![
        json!({"key": "event.name", "value": {"stringValue": event}}),
        json!({"key": "session.id", "value": {"stringValue": session}}),
        json!({"key": "event.sequence", "value": {"intValue": sequence}}),
    ];
    for (key, value) in attributes.as_object().unwrap() {
        let value = if value.is_string() { json!({"stringValue": value}) } else { json!({"doubleValue": value}) };
        all.push(json!({"key": key, "value": value}));
    }
    let body = json!({"resourceLogs": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "claude-code"}}]},
        "scopeLogs": [{"scope": {"name": "com.anthropic.claude_code.events"}, "logRecords": [{
            "timeUnixNano": format!("{time_ms}000000"), "body": {"stringValue": format!("claude_code.{event}")}, "attributes": all
        }]}]
    }]});
    let answer = http::post(&instance.otlp_http(), "/v1/logs", "application/json", body.to_string().as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn firing(instance: &Instance, name: &str) -> Vec<Value> {
    let all = instance.list("/api/v1/alerts/history?limit=1000", "alerts");
    all.into_iter().filter(|line| line["alert"]["rule"]["name"] == name && line["alert"]["ended_at"].is_null()).collect()
}

/// A sample each time it is called, straight to us; how many there were is known.
struct Meter {
    sent: usize,
    last: i64,
}

impl Meter {
    fn send(&mut self, address: &str, depth: f64) {
        self.last = now_ms().max(self.last + 1);
        write(address, vec![Series::new("outside_queue_depth", "queue=mail", &[(self.last, depth)])]);
        self.sent += 1;
    }
}

fn check_external(kind: Kind) {
    let home = Home::new();
    let mut theirs = Program::start(&home, kind, "global: {}\n");
    let rules = home.path().join("rules.yml");
    fs::write(&rules, RULES).unwrap();
    let instance = home.up_configured(&format!(
        "[samples]\nurl = \"http://{}\"\n[forward]\nbatch_wait_ms = 100\nretry_max_ms = 300\n[meter]\ninterval_s = 1\n[probe]\nhost = false\n[rules]\npack = false\nfiles = [{rules:?}]\n",
        theirs.address
    ));
    let mut meter = Meter { sent: 0, last: 0 };
    // What agents do is there: requests by hooks, the tokens and errors of their telemetry.
    for i in 0..10 {
        turn(&instance, "s-one", i, i % 2 == 0);
        let call = json!({"model": "claude-sonnet-4-5", "input_tokens": 100, "output_tokens": 10, "cost_usd": 0.01, "duration_ms": 1200});
        telemetry(&instance, "s-two", i, "api_request", now_ms(), &call);
        meter.send(&instance.http(), 5.0);
    }
    for (expression, expected) in [
        ("sum(agent_requests_total)", 10.0),
        ("sum(agent_errors_total)", 5.0),
        ("sum(agent_tokens_used_total)", 1_100.0),
        ("sum(count_over_time(outside_queue_depth[5m]))", 10.0),
    ] {
        let arrived = until(WITHIN, || number(&theirs.address, expression).filter(|found| *found == expected));
        assert!(arrived.is_some(), "{expression}: {:?}\n{}", number(&theirs.address, expression), home.log());
    }
    // Rules are evaluated there: the alert fires here, and what they record is there.
    let fired = until(WITHIN, || firing(&instance, "RequestsFail").pop());
    let fired = fired.unwrap_or_else(|| panic!("{:#}\n{}", instance.json("/api/v1/rules"), home.log()));
    assert!(fired["alert"]["reason"].as_str().unwrap().ends_with("% of requests fail") && fired["incident"].is_string(), "{fired:#}");
    until(WITHIN, || number(&theirs.address, "shop:failures:ratio > 0.2")).expect("what a rule records is there");
    until(WITHIN, || number(&theirs.address, "ALERTS{alertname=\"RequestsFail\",alertstate=\"firing\"}")).expect("so are ALERTS");
    // A question to us is answered by the store.
    assert_eq!(number(&instance.http(), "sum(agent_requests_total)"), Some(10.0));

    theirs.stop();
    let refused = http::get(&instance.http(), &format!("/api/v1/query?query={}", encoded("sum(agent_requests_total)"))).unwrap();
    let told = refused.json();
    assert_eq!(refused.status, 503, "{told:#}");
    assert!(told["error"].as_str().unwrap().contains("the external store gave no answer"), "{told:#}");
    let verb = home.run(&["query", "up"]);
    assert!(!verb.status.success());
    assert!(String::from_utf8_lossy(&verb.stderr).contains("external store"), "{}", String::from_utf8_lossy(&verb.stderr));
    for i in 10..20 {
        turn(&instance, "s-one", i, true);
        meter.send(&instance.http(), 500.0);
        std::thread::sleep(Duration::from_millis(200));
    }
    // While nobody can say whether it still holds, it is not taken for over.
    assert_eq!(firing(&instance, "RequestsFail").len(), 1, "{}", home.log());
    let told = until(WITHIN, || {
        let rules = instance.json("/api/v1/rules");
        let rule = rules["data"]["groups"][0]["rules"].as_array()?.iter().find(|rule| rule["name"] == "QueueDeep")?.clone();
        (rule["health"] == "err").then_some(rule)
    });
    let told = told.unwrap_or_else(|| panic!("{:#}", instance.json("/api/v1/rules")));
    assert!(!told["lastError"].as_str().unwrap().is_empty(), "{told:#}");

    theirs.start_again();
    for (expression, expected) in [
        ("sum(count_over_time(outside_queue_depth[5m]))", meter.sent as f64),
        ("sum(agent_requests_total)", 20.0),
        ("sum(agent_errors_total)", 15.0),
    ] {
        let arrived = until(WITHIN, || number(&theirs.address, expression).filter(|found| *found == expected));
        assert!(arrived.is_some(), "{expression}: {:?} of {expected}\n{}", number(&theirs.address, expression), home.log());
    }
    // What happened in between is seen, and what went on is the same alert still.
    until(WITHIN, || firing(&instance, "QueueDeep").pop())
        .unwrap_or_else(|| panic!("{:#}\n{}", instance.json("/api/v1/rules"), home.log()));
    let history = instance.list("/api/v1/alerts/history?limit=1000", "alerts");
    assert_eq!(history.iter().filter(|line| line["alert"]["rule"]["name"] == "RequestsFail").count(), 1, "{history:#?}");
    let metrics = instance.get("/metrics").text();
    let dropped: Vec<&str> =
        metrics.lines().filter(|line| line.starts_with("paramedic_remote_forward_dropped_samples") && !line.ends_with(" 0")).collect();
    assert!(dropped.is_empty(), "{dropped:?}");
}

#[test]
fn a_prometheus_holds_our_samples_and_answers_our_rules_through_an_outage() {
    needs!("prometheus");
    check_external(Kind::Prometheus);
}

#[test]
fn a_victoria_metrics_holds_our_samples_and_answers_our_rules_through_an_outage() {
    needs!("victoria-metrics");
    check_external(Kind::Victoria);
}
