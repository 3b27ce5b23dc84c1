//! What the gateway counts becomes an alert and an incident by itself.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fake_api::{Behaviour, FakeApi};
use crate::fixture::{Home, Instance, until};
use crate::http;

const WITHIN: Duration = Duration::from_secs(60);

fn call(instance: &Instance) -> http::Answer {
    let body = json!({"model": "claude-haiku-4-5", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}).to_string();
    let headers = [("content-type", "application/json"), ("x-api-key", "sk-ant-test"), ("anthropic-version", "2023-06-01")];
    http::request(&instance.gateway(), "POST", "/v1/messages", &headers, body.as_bytes()).unwrap()
}

fn switch(home: &Home, arguments: &[&str]) {
    let output = home.command(arguments).env("PARAMEDIC_ACTOR", "ana").output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_spent_budget_becomes_an_incident_with_its_runbook_and_an_open_breaker_an_alert() {
    let (home, api) = (Home::new(), FakeApi::start(Behaviour::Limit { per_second: 1_000 }));
    let instance = home.up_configured(&format!(
        "[[gateway.upstreams]]\nurl = \"{}\"\n[meter]\ninterval_s = 1\n[rules]\nevaluation_interval_s = 1\n[probe]\nhost = false\n",
        api.url()
    ));
    assert_eq!(call(&instance).status, 200);
    switch(&home, &["budget", "set", "0.000001", "--per", "day", "--reason", "a test"]);
    let refused = call(&instance);
    assert_eq!((refused.status, &refused.json()["error"]["type"]), (429, &json!("billing_error")), "{}", refused.text());
    switch(&home, &["switch", "set", "breaker:anthropic", "open", "--for", "10m", "--reason", "a test"]);

    let incident_of = |alert: &str| {
        let found = instance.incidents().into_iter().find(|incident| incident.to_string().contains(alert));
        found.and_then(|incident| incident["id"].as_str().map(str::to_owned))
    };
    let spent = until(WITHIN, || incident_of("GatewayBudgetSpent"));
    assert!(spent.is_some(), "{:#?}", instance.incidents());
    // It fires when it was open for a minute.
    let open = until(WITHIN, || {
        let alerts = home.json(&["alerts", "--json"]).to_string();
        (alerts.contains("GatewayBreakerOpen") && alerts.contains("dependency")).then_some(())
    });
    assert!(open.is_some(), "{}", home.json(&["alerts", "--json"]));
    let metrics = instance.get("/metrics").text();
    assert!(metrics.contains("agent_circuit_breaker_state{dependency=\"anthropic\",state=\"open\"} 1"), "{metrics}");
    let used = metrics.lines().find_map(|line| line.strip_prefix("paramedic_gateway_budget_used_ratio{cap=\"daily_budget_dollars@all\"} "));
    assert!(used.and_then(|used| used.parse::<f64>().ok()).is_some_and(|used| used >= 1.0), "{used:?}");
    let runs: Value = instance.json("/api/v1/runs");
    assert!(runs.to_string().contains("cost-spike"), "{runs:#}");
}
