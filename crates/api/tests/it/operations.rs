//! Every operation answers, and the document names exactly what there is.

use std::collections::BTreeSet;

use paramedic_api::{Method, operations};
use serde_json::json;

use crate::prometheus::metered;
use crate::responders::responding;
use crate::served;
use crate::stage;

/// An example call of every operation: id, path and query, body.
fn examples() -> Vec<(&'static str, String, serde_json::Value)> {
    let agent = stage::agent("stuck");
    let get = |id, path: &str| (id, path.to_owned(), json!(null));
    let post = |id, path: &str, body| (id, path.to_owned(), body);
    vec![
        get("status.get", "/api/v1/status"),
        get("agent.list", "/api/v1/agents?state=stuck&text=SHOP&limit=5"),
        get("agent.get", &format!("/api/v1/agents/{agent}/a07d0f2c")),
        get("incident.list", "/api/v1/incidents?state=open&severity=SEV2&limit=1"),
        get("incident.get", "/api/v1/incidents/INC-2"),
        post("incident.open", "/api/v1/incidents", json!({"title": "Disk almost full", "type": "performance", "severity": "SEV4"})),
        post("incident.note", "/api/v1/incidents/2/note", json!({"text": "Looking."})),
        post("incident.title", "/api/v1/incidents/2/title", json!({"title": "Provider overloaded"})),
        post("incident.severity", "/api/v1/incidents/2/severity", json!({"severity": "SEV1", "reason": "customers wait"})),
        post("incident.acknowledge", "/api/v1/incidents/3/acknowledge", json!({})),
        post("incident.state", "/api/v1/incidents/3/state", json!({"state": "identified"})),
        post("incident.resolve", "/api/v1/incidents/3/resolve", json!({"reason": "stopped it"})),
        post("incident.reopen", "/api/v1/incidents/3/reopen", json!({})),
        post("incident.cancel", "/api/v1/incidents/3/cancel", json!({"reason": "a test"})),
        post("incident.merge", "/api/v1/incidents/1/merge", json!({"into": "INC-2"})),
        get("incident.statistics", "/api/v1/incidents/statistics?since=2026-01-01T00:00:00Z&severity=SEV2"),
        post("incident.kind", "/api/v1/incidents/2/kind", json!({"kind": "drill", "reason": "announced"})),
        post("incident.assign-role", "/api/v1/incidents/2/assign-role", json!({"role": "communications", "person": "lee"})),
        post("incident.hand-over", "/api/v1/incidents/2/hand-over", json!({"role": "communications", "to": "max", "note": "shift"})),
        post("incident.release-role", "/api/v1/incidents/2/release-role", json!({"role": "communications", "person": "max"})),
        post("incident.tick", "/api/v1/incidents/2/tick", json!({"item": "symptoms"})),
        post("incident.attach", "/api/v1/incidents/2/attach", json!({"name": "a.log", "text": "x"})),
        get("incident.evidence", "/api/v1/incidents/2/evidence/a.log"),
        post("incident.split", "/api/v1/incidents/2/split", json!({"title": "Another", "agents": [stage::agent("docs")]})),
        post(
            "incident.back-date",
            "/api/v1/incidents/2/back-date",
            json!({"what": "started", "to": "2026-03-10T14:20:00Z", "reason": "the first call"}),
        ),
        post("incident.resolve", "/api/v1/incidents/2/resolve", json!({"reason": "it is over"})),
        post("incident.close", "/api/v1/incidents/2/close", json!({"reason": "written up"})),
        get("runbook.list", "/api/v1/runbooks"),
        get("runbook.get", "/api/v1/runbooks/rate-limits"),
        post("runbook.plan", "/api/v1/runbooks/queue-stuck/plan", json!({"inputs": {"folder": "/tmp"}})),
        post("runbook.test", "/api/v1/runbooks/queue-stuck/test", json!({"fixture": "runbook: queue-stuck"})),
        post("runbook.run", "/api/v1/runbooks/queue-stuck/run", json!({"incident": "2"})),
        get("run.list", "/api/v1/runs?incident=2&open=true&limit=5"),
        get("run.get", "/api/v1/runs/RUN-1"),
        get("run.record", "/api/v1/runs/1/record?after=0&limit=2"),
        post("run.inputs", "/api/v1/runs/1/inputs", json!({"inputs": {"folder": "/tmp"}})),
        post("run.skip", "/api/v1/runs/1/skip", json!({"step": "fix", "why": "not this time"})),
        post("run.again", "/api/v1/runs/1/again", json!({"step": "fix"})),
        get("approval.list", "/api/v1/approvals"),
        get("revert.list", "/api/v1/reverts"),
        get("action.list", "/api/v1/actions"),
        post("action.plan", "/api/v1/actions/plan", json!({"action": "flag.disable", "arguments": {"flag": "x"}})),
        post("action.run", "/api/v1/actions/run", json!({"action": "flag.read", "arguments": {"flag": "x"}})),
        get("brake.get", "/api/v1/brake"),
        post("brake.stop", "/api/v1/brake/stop", json!({"what": "everything", "why": "a look"})),
        post("brake.lift", "/api/v1/brake/lift", json!({"why": "looked"})),
        post("switch.set", "/api/v1/switches", json!({"switch": "fast_fail", "value": true, "ttl": "10m"})),
        get("switch.list", "/api/v1/switches?enforcer=gateway"),
        post("switch.clear", "/api/v1/switches/fast_fail@all/clear", json!({})),
        post("flag.disable", "/flags/new-search/disable", json!({"ttl": "10m"})),
        post("flag.enable", "/flags/new-search/enable", json!({})),
        get("flag.list", "/flags"),
        get("flag.get", "/flags/new-search"),
        post("run.cancel", "/api/v1/runs/1/cancel", json!({"why": "an example"})),
        get("alert.list", "/api/v1/alerts/history?detector=api-overload&firing=false"),
        get("alert.pending", "/api/v1/alerts/pending"),
        get("detector.list", "/api/v1/detectors"),
        get("rule.list", "/api/v1/rules/list"),
        get("rule.why", "/api/v1/rules/why/GatewayErrors"),
        get("target.list", "/api/v1/targets/list"),
        get("event.search", "/api/v1/events?kind=model-error&from=2026-03-10T14:00:00Z&level=warn"),
        get("cost.report", "/api/v1/cost?limit=3"),
        get("cost.top", "/api/v1/cost/top?by=model&per=week&limit=3"),
        get("cost.diagnosis", "/api/v1/cost/diagnosis?per=month"),
        get("gateway.traffic", "/api/v1/gateway/traffic?limit=3"),
        get("gateway.calls", "/api/v1/gateway/calls?user=ana&outcome=refused&status=4xx&switch=blocked&limit=3"),
        get("gateway.latency", "/api/v1/gateway/latency?by=agent"),
        get("gateway.limits", "/api/v1/gateway/limits"),
        get("gateway.budgets", "/api/v1/gateway/budgets"),
        get("breaker.list", "/api/v1/gateway/breakers"),
        post("breaker.reset", "/api/v1/gateway/breakers/reset", json!({"all": true, "why": "the provider is back"})),
        post(
            "fault.lease",
            "/api/v1/gateway/faults",
            json!({"id": "drill-1", "fault": {"kind": "slow", "delay_ms": 900}, "share": 0.5, "ttl": "5m", "why": "a drill"}),
        ),
        get("fault.get", "/api/v1/gateway/faults"),
        post("fault.release", "/api/v1/gateway/faults/drill-1/release", json!({"why": "seen enough"})),
        get("journal.entries", "/api/v1/journal?after=2&limit=3"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_answers_its_example() {
    let (_stage, server) = responding().await;
    // What these need is made by others; `runs` calls them in their turn.
    let mut answered = BTreeSet::from(["run.approve", "run.choose", "run.undo", "brake.release"]);
    for (id, path, body) in examples() {
        let answer = if body.is_null() { server.get(&path).await } else { server.by("ana", &path, &body).await };
        assert_eq!(answer.status, 200, "{id} {path}: {}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/json"), "{id}");
        assert!(answer.json().is_object(), "{id}");
        answered.insert(id);
    }
    let all: BTreeSet<&str> = operations().iter().map(|operation| operation.id).collect();
    assert_eq!(answered, all, "an operation without an example");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_lists_exactly_the_operations() {
    let (_stage, server) = served().await;
    let document = server.get("/api/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut listed = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, item) in methods.as_object().unwrap() {
            listed.insert((method.clone(), path.clone(), item["operationId"].as_str().unwrap().to_owned()));
        }
    }
    let word = |method| if method == Method::Get { "get" } else { "post" };
    let ours = operations().iter().map(|one| (word(one.method).to_owned(), one.template(), one.id.to_owned())).collect();
    assert_eq!(listed, ours);
    assert_references_resolve(&document, &document);
    let note = &document["paths"]["/api/v1/incidents/{id}/note"]["post"];
    assert_eq!(note["parameters"][0]["in"], "path");
    assert!(note["requestBody"]["content"]["application/json"]["schema"]["properties"]["text"].is_object());
    assert!(note["requestBody"]["content"]["application/json"]["schema"]["properties"]["id"].is_null(), "the id is in the path only");
}

fn assert_references_resolve(root: &serde_json::Value, value: &serde_json::Value) {
    match value {
        serde_json::Value::Object(object) => {
            if let Some(reference) = object.get("$ref").and_then(|reference| reference.as_str()) {
                let pointer = reference.strip_prefix('#').expect("a local reference");
                assert!(root.pointer(pointer).is_some(), "{reference} leads nowhere");
            }
            object.values().for_each(|value| assert_references_resolve(root, value));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|value| assert_references_resolve(root, value)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_come_by_trouble_and_page_by_page() {
    let (_stage, server) = served().await;
    let mut seen = Vec::new();
    let mut path = "/api/v1/agents?limit=5".to_owned();
    loop {
        let page = server.get(&path).await.json();
        seen.extend(page["agents"].as_array().unwrap().iter().map(|agent| agent["state"].as_str().unwrap().to_owned()));
        assert_eq!(page["total"], 14);
        let Some(next) = page["next"].as_u64() else { break };
        path = format!("/api/v1/agents?limit=5&after={next}");
    }
    assert_eq!(seen.len(), 14, "nothing is left out between pages");
    let order = ["stuck", "failed", "silent", "waiting", "working", "done"];
    let places: Vec<usize> = seen.iter().map(|state| order.iter().position(|one| one == state).unwrap()).collect();
    assert!(places.is_sorted(), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_tells_its_whole_story() {
    let (_stage, server) = served().await;
    let detail = server.get("/api/v1/incidents/2").await.json();
    let incident = &detail["incident"];
    assert_eq!(incident["type"], "api_failure");
    assert_eq!(incident["counts"]["episodes"], 6);
    assert_eq!(incident["counts"]["agents"], 4);
    let kinds: Vec<&str> = detail["timeline"].as_array().unwrap().iter().map(|item| item["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds[0], "incident-opened");
    assert!(kinds.contains(&"acknowledged") && kinds.contains(&"noted"));
    let seqs: Vec<u64> = detail["timeline"].as_array().unwrap().iter().map(|item| item["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_in_the_journal_under_its_actor() {
    let (_stage, server) = served().await;
    let headers = ["content-type: application/json", "x-paramedic-actor: robin"];
    let answer = server
        .send("POST", "/api/v1/incidents/2/note", &headers, r#"{"text":"key sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789 leaked"}"#)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let entries = server.get("/api/v1/journal?subject=incident/INC-2&limit=1000").await.json();
    let last = entries["entries"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((last["kind"].as_str(), last["actor"].as_str()), (Some("noted"), Some("robin")));
    assert!(!last.to_string().contains("abcdefghijklmnopqrstuvwxyz"), "secrets are masked: {last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_shapes_are_served() {
    let (_stage, server) = served().await;
    let status = server.get("/api/status").await.json();
    for key in ["api", "websocket", "watcher", "attribution", "system", "timestamp"] {
        assert!(!status[key].is_null(), "{key}");
    }
    let sessions = server.get("/api/sessions").await.json();
    let failed = stage::session("failed");
    let failed = sessions["sessions"].as_array().unwrap().iter().find(|one| one["id"] == failed.as_str()).unwrap();
    assert!(failed["errorCount"].as_u64().unwrap() >= 1, "{failed}");
    assert!(failed["totalCost"].as_f64().unwrap() > 0.0);
    assert_eq!(sessions["total"].as_u64().unwrap() as usize, sessions["sessions"].as_array().unwrap().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_and_alerts_tell_value_and_threshold() {
    let (_stage, server) = metered().await;
    let why = server.get("/api/v1/rules/why/GatewayErrors").await.json();
    assert_eq!((why["rules"][0]["threshold"]["op"].as_str(), why["rules"][0]["threshold"]["value"].as_f64()), (Some(">"), Some(0.05)));
    assert_eq!(why["rules"][0]["parts"][2]["depth"], 2);
    assert_eq!(server.get("/api/v1/rules/why/NoSuchAlert").await.status, 404);
    let pending = server.get("/api/v1/alerts/pending").await.json();
    assert_eq!(
        (pending["alerts"][0]["name"].as_str(), pending["alerts"][0]["threshold"]["measured"].as_str()),
        (Some("TargetDown"), Some("up"))
    );
    let firing = server.get("/api/v1/alerts/history?detector=rule").await.json();
    assert_eq!(
        (firing["alerts"][0]["threshold"]["value"].as_f64(), firing["alerts"][0]["alert"]["rule"]["value"].as_f64()),
        (Some(0.05), Some(0.3))
    );
    let list = server.get("/api/v1/rules/list").await.json();
    assert_eq!(list["groups"][1]["rules"][1]["missing"][0]["metric"], "queue_jobs_waiting");
}
