//! The response to an incident over the API: roles, checklist, evidence, corrections, statistics.

use serde_json::json;

use crate::responders::responding;

#[tokio::test(flavor = "multi_thread")]
async fn a_response_is_led_handed_over_ticked_and_closed() {
    let (_stage, server) = responding().await;
    let of = |verb: &str| format!("/api/v1/incidents/3/{verb}");
    server.done("ana", &of("assign-role"), &json!({ "role": "commander", "person": "ana" })).await;
    let taken = server.by("ben", &of("assign-role"), &json!({ "role": "commander", "person": "ben" })).await;
    assert_eq!(taken.status, 400, "{}", taken.body);
    let changed = server.done("ana", &of("hand-over"), &json!({ "role": "commander", "to": "ben", "note": "my shift is over" })).await;
    assert_eq!(changed["incident"]["roles"]["commander"], json!(["ben"]));
    server.done("ben", &of("assign-role"), &json!({ "role": "responder", "person": "cem" })).await;
    server.done("ben", &of("release-role"), &json!({ "role": "responder", "person": "cem" })).await;
    server.done("ben", &of("tick"), &json!({ "item": "severity" })).await;
    server.done("ben", &of("acknowledge"), &json!({})).await;
    let detail = server.get("/api/v1/incidents/3").await.json();
    let item = |id: &str| detail["checklist"].as_array().unwrap().iter().find(|item| item["id"] == id).unwrap().clone();
    assert_eq!(item("severity")["state"]["state"], "ticked-by-hand");
    assert_eq!(item("commander")["state"]["state"], "ticked-by-system", "there is evidence");
    assert!(detail["checklist_done"].as_u64().unwrap() >= 2 && detail["checklist_of"].as_u64() > detail["checklist_done"].as_u64());
    assert!(detail["phase"].is_string() && detail["time_boxes"].is_array(), "{detail:#}");
    assert!(detail["timeline"].to_string().contains("my shift is over"));
    let page = server.get("/api/v1/incidents?state=open").await.json();
    assert!(page["incidents"].as_array().unwrap().iter().any(|line| line["commander"] == "ben" && line["kind"].is_string()), "{page:#}");
    server.done("ben", &of("resolve"), &json!({ "reason": "over" })).await;
    let closed = server.done("ben", &of("close"), &json!({ "reason": "postmortem done" })).await;
    assert_eq!(closed["incident"]["state"], "closed");
    let statistics = server.get("/api/v1/incidents/statistics").await.json();
    assert!(statistics["incidents"].as_u64().unwrap() >= 2 && statistics["ttd"]["n"].is_u64(), "{statistics:#}");
    assert_eq!(server.get("/api/v1/incidents/statistics?kind=drill").await.json()["incidents"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_comes_back_as_it_was_given() {
    let (_stage, server) = responding().await;
    let text = "line one\nkey sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789";
    server.done("ana", "/api/v1/incidents/2/attach", &json!({ "name": "worker.log", "media_type": "text/plain", "text": text })).await;
    server
        .done("ana", "/api/v1/incidents/2/attach", &json!({ "name": "graph.png", "media_type": "image/png", "base64": "iVBORwD/" }))
        .await;
    let log = server.get("/api/v1/incidents/2/evidence/worker.log").await.json();
    assert!(log["text"].as_str().unwrap().starts_with("line one") && !log.to_string().contains("abcdefghijklmn"), "{log:#}");
    let graph = server.get("/api/v1/incidents/2/evidence/2").await.json();
    assert_eq!((graph["base64"].as_str(), graph["attachment"]["name"].as_str()), (Some("iVBORwD/"), Some("graph.png")));
    assert_eq!(server.get("/api/v1/incidents/2/evidence/none").await.status, 404);
    let large = "x".repeat(200 * 1024);
    let answer = server.by("ana", "/api/v1/incidents/2/attach", &json!({ "name": "large.log", "text": large })).await;
    assert_eq!(answer.status, 200, "an attachment may be larger than other bodies: {}", answer.body);
    let huge = "x".repeat(600 * 1024);
    assert_eq!(server.by("ana", "/api/v1/incidents/2/attach", &json!({ "name": "x", "text": huge })).await.status, 413);
    assert_eq!(server.by("ana", "/api/v1/incidents/2/attach", &json!({ "name": "x", "text": "" })).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn corrections_are_on_record() {
    let (_stage, server) = responding().await;
    let detail = server.get("/api/v1/incidents/2").await.json();
    let agents = detail["incident"]["agents"].as_array().unwrap().clone();
    let split = server.done("ana", "/api/v1/incidents/2/split", &json!({ "title": "Only this one", "agents": [agents[0]] })).await;
    assert_eq!((split["incident"]["split_from"].as_str(), split["incident"]["title"].as_str()), (Some("INC-2"), Some("Only this one")));
    let back = json!({ "what": "started", "to": "2026-03-10T14:30:00Z", "reason": "the first customer wrote" });
    let changed = server.done("ana", "/api/v1/incidents/2/back-date", &back).await;
    assert_eq!(changed["incident"]["started_at"], "2026-03-10T14:30:00.000Z");
    let without = json!({ "what": "started", "to": "2026-03-10T14:31:00Z", "reason": "" });
    assert_eq!(server.by("ana", "/api/v1/incidents/2/back-date", &without).await.status, 400);
    let drill = server.done("ana", "/api/v1/incidents/3/kind", &json!({ "kind": "drill", "reason": "announced" })).await;
    assert_eq!(drill["incident"]["kind"], "drill");
    let timeline = server.get("/api/v1/incidents/2").await.json()["timeline"].to_string();
    assert!(timeline.contains("the first customer wrote") && timeline.contains("split off"), "{timeline}");
}
