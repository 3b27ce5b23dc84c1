//! Runs from their start to their end over the API: agreed to, verified, undone, refused, stopped.

use paramedic_api::{Method, Permission, operations};
use serde_json::{Value, json};

use crate::client::Server;
use crate::responders::{responding, step};
use crate::stage::Stage;

/// A run of the queue's runbook for the second incident, up to where it waits for a person.
async fn waiting(stage: &Stage, server: &Server) -> (String, Value) {
    let folder = stage.dir.path().join("queue");
    std::fs::create_dir(&folder).unwrap();
    let inputs = json!({ "folder": folder.to_str().unwrap() });
    let view = server.done("ana", "/api/v1/runbooks/queue-stuck/run", &json!({ "incident": "2", "inputs": inputs })).await;
    let run = view["id"].as_str().unwrap().to_owned();
    let view = server.run_until(&run, |view| view["next"] == "fix").await;
    (run, view)
}

fn hash(view: &Value, name: &str) -> String {
    step(view, name)["hash"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fix_is_approved_verified_and_told_in_the_incident() {
    let (stage, server) = responding().await;
    let (run, view) = waiting(&stage, &server).await;
    assert_eq!((step(&view, "look")["state"].as_str(), step(&view, "fix")["effect"].as_str()), (Some("ok"), Some("write")));
    assert!(!stage.dir.path().join("queue/fixed").exists(), "nothing is written before somebody agreed");
    let waiting = server.get("/api/v1/approvals").await.json();
    let [one] = waiting["waiting"].as_array().unwrap().as_slice() else { panic!("{waiting:#}") };
    assert_eq!((one["run"]["id"].as_str(), one["step"]["name"].as_str()), (Some(run.as_str()), Some("fix")));
    assert!(one["step"]["argv"].to_string().contains("touch $folder/fixed"), "{one:#}");
    assert_eq!(one["step"]["hash"].as_str(), Some(hash(&view, "fix").as_str()));
    server.done("ben", &format!("/api/v1/runs/{run}/approve"), &json!({ "step": "fix", "hash": hash(&view, "fix") })).await;
    let view = server.run_until(&run, |view| view["ended_at"].is_string()).await;
    assert_eq!((view["ending"].as_str(), step(&view, "fix")["state"].as_str()), (Some("done"), Some("verified")), "{view:#}");
    assert!(stage.dir.path().join("queue/fixed").exists());
    assert_eq!(server.get("/api/v1/approvals").await.json()["waiting"], json!([]));

    let detail = server.get("/api/v1/incidents/2").await.json();
    assert_eq!(detail["runs"][0]["id"].as_str(), Some(run.as_str()));
    let timeline = detail["timeline"].as_array().unwrap();
    let texts: Vec<&str> = timeline.iter().map(|item| item["text"].as_str().unwrap()).collect();
    let place = |words: &str| texts.iter().position(|text| text.contains(words)).unwrap_or_else(|| panic!("no {words:?} in {texts:#?}"));
    let story = [
        "began the runbook The queue is stuck",
        "look looks: bash",
        "look: exit 0",
        "fix waits for somebody",
        "fix approved by ben",
        "fix begun, approved by ben: bash",
        "fix: exit 0",
        "fix verified",
        "done",
    ];
    let places: Vec<usize> = story.iter().map(|words| place(words)).collect();
    assert!(places.is_sorted(), "{places:?} {texts:#?}");
    let seqs: Vec<u64> = timeline.iter().map(|item| item["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted());
    let record = server.get(&format!("/api/v1/runs/{run}/record?limit=1000")).await.json();
    let kinds: Vec<&str> = record["entries"].as_array().unwrap().iter().map(|entry| entry["record"]["record"].as_str().unwrap()).collect();
    assert_eq!((kinds.first(), kinds.last()), (Some(&"started"), Some(&"ended")), "{kinds:?}");
    assert!(!record.to_string().contains("hunter2"), "secrets are in no record");

    let undone = server.by("ben", &format!("/api/v1/runs/{run}/undo"), &json!({ "step": "fix" })).await;
    assert_eq!(undone.status, 200, "{}", undone.body);
    let back = undone.json();
    assert_ne!(back["id"].as_str(), Some(run.as_str()), "the run is over: its way back is a run of its own");
    assert_eq!((back["takes_back"].is_null(), back["ended_at"].is_null()), (true, true), "{back:#}");
    assert!(stage.dir.path().join("queue/fixed").exists(), "and waits for somebody to agree");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_person_agrees_and_only_to_what_would_run_now() {
    let (stage, server) = responding().await;
    let (run, view) = waiting(&stage, &server).await;
    let path = format!("/api/v1/runs/{run}/approve");
    let right = json!({ "step": "fix", "hash": hash(&view, "fix") });
    for nobody in ["http", "web", "paramedic", "anonymous", "agent:7"] {
        let answer = server.by(nobody, &path, &right).await;
        assert_eq!(answer.status, 403, "{nobody}: {}", answer.body);
        assert!(answer.json()["error"]["hint"].as_str().unwrap().contains("x-paramedic-actor"), "{}", answer.body);
    }
    assert_eq!(server.post(&path, &right.to_string()).await.status, 403, "a call without the header is nobody's");
    let stale = server.by("ana", &path, &json!({ "step": "fix", "hash": "0".repeat(64) })).await;
    assert_eq!(stale.status, 409);
    assert!(stale.json()["error"]["message"].as_str().unwrap().contains(&hash(&view, "fix")), "the new hash is told: {}", stale.body);
    for (path, body, status) in [
        (format!("/api/v1/runs/{run}/approve"), json!({ "step": "nothing", "hash": "x" }), 404),
        (format!("/api/v1/runs/{run}/approve"), json!({ "step": "look", "hash": hash(&view, "look") }), 409),
        (format!("/api/v1/runs/{run}/choose"), json!({ "step": "fix" }), 409),
        (format!("/api/v1/runs/{run}/undo"), json!({ "step": "fix" }), 409),
        ("/api/v1/runs/RUN-99/approve".to_owned(), json!({ "step": "fix", "hash": "x" }), 404),
        ("/api/v1/runs/x/cancel".to_owned(), json!({}), 404),
        ("/api/v1/runbooks/none/run".to_owned(), json!({}), 404),
        ("/api/v1/runbooks/queue-stuck/run".to_owned(), json!({ "incident": "99" }), 404),
        ("/api/v1/runbooks/queue-stuck/run".to_owned(), json!({ "mode": "test" }), 400),
        ("/api/v1/runbooks/queue-stuck/run".to_owned(), json!({ "inputs": { "folders": "x" } }), 409),
        (format!("/api/v1/runs/{run}/inputs"), json!({ "inputs": { "folder": "; rm -rf /" } }), 409),
    ] {
        let answer = server.by("ana", &path, &body).await;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.body);
    }
    let left_out = server.done("ana", &format!("/api/v1/runs/{run}/skip"), &json!({ "step": "fix", "why": "not now" })).await;
    assert_eq!(step(&left_out, "fix")["state"], "skipped");
    server.done("ana", &format!("/api/v1/runs/{run}/again"), &json!({ "step": "look" })).await;
    let ended = server.by("http", &format!("/api/v1/runs/{run}/cancel"), &json!({ "why": "enough" })).await;
    assert!(ended.status == 200 || ended.body.contains("has ended"), "anybody may call it off: {}", ended.body);
    assert!(!stage.dir.path().join("queue/fixed").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_switch_holds_what_was_approved_until_a_person_lifts_it() {
    let (stage, server) = responding().await;
    let (run, view) = waiting(&stage, &server).await;
    let stopped = server.by("http", "/api/v1/brake/stop", &json!({ "why": "wait" })).await;
    assert_eq!((stopped.status, stopped.json()["stopped"].as_str()), (200, Some("writes")), "anybody may stop: {}", stopped.body);
    server.done("ana", &format!("/api/v1/runs/{run}/approve"), &json!({ "step": "fix", "hash": hash(&view, "fix") })).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(!stage.dir.path().join("queue/fixed").exists(), "it is stopped");
    let action = json!({ "action": "flag.read", "arguments": { "flag": "x" } });
    assert_eq!(server.by("ana", "/api/v1/actions/plan", &action).await.status, 200, "looking goes on");
    server.done("ana", "/api/v1/brake/stop", &json!({ "what": "everything" })).await;
    let refused = server.by("ana", "/api/v1/actions/plan", &action).await;
    assert_eq!(refused.status, 409, "{}", refused.body);
    assert_eq!(server.by("web", "/api/v1/brake/lift", &json!({})).await.status, 403);
    let weaker = server.by("web", "/api/v1/brake/stop", &json!({ "what": "writes" })).await;
    assert_eq!(weaker.status, 403, "less is lifting: {}", weaker.body);
    assert_eq!(server.get("/api/v1/brake").await.json()["stopped"], "everything");
    assert_eq!(server.done("ana", "/api/v1/brake/lift", &json!({ "why": "fixed" })).await["stopped"], "nothing");
    server.run_until(&run, |view| step(view, "fix")["state"] == "verified").await;
    assert_eq!(server.by("web", "/api/v1/brake/release", &json!({})).await.status, 403);
    assert_eq!(server.done("ana", "/api/v1/brake/release", &json!({ "why": "looked" })).await["fleet"]["fleet"], "free");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_is_planned_approved_and_undone() {
    let (stage, server) = responding().await;
    let action = json!({ "action": "flag.disable", "arguments": { "flag": "new-search" }, "why": "it is slow", "incident": "2" });
    let nobody = server.by("http", "/api/v1/actions/run", &action).await;
    assert_eq!(nobody.status, 403, "{}", nobody.body);
    let started = server.done("ana", "/api/v1/actions/run", &action).await;
    assert_eq!((started["plan"]["effect"].as_str(), started["plan"]["affected"].as_u64()), (Some("write"), Some(1)), "{started:#}");
    let run = started["run"]["id"].as_str().unwrap().to_owned();
    let flags = &stage.context.responding.as_ref().unwrap().flags;
    assert_eq!(flags.get("new-search"), None, "it waits");
    let approve = json!({ "step": "act", "hash": hash(&started["run"], "act") });
    server.done("ana", &format!("/api/v1/runs/{run}/approve"), &approve).await;
    let view = server.run_until(&run, |view| view["ended_at"].is_string()).await;
    assert_eq!(view["ending"], "done", "{view:#}");
    assert!(!flags.get("new-search").unwrap().enabled);
    let undo = server.done("ben", &format!("/api/v1/runs/{run}/undo"), &json!({ "step": "act", "why": "it was not that" })).await;
    assert_ne!(undo["id"].as_str(), Some(run.as_str()), "the way back is a run of its own, which somebody approves");

    let read = server.done("ana", "/api/v1/actions/run", &json!({ "action": "flag.read", "arguments": { "flag": "new-search" } })).await;
    assert!(read["run"].is_null() && read["done"].is_object(), "what only looks answers at once: {read:#}");
    for (action, status) in [
        (json!({ "action": "flag.explode" }), 404),
        (json!({ "action": "flag.disable" }), 400),
        (json!({ "action": "flag.disable", "arguments": { "flag": "a/b" } }), 400),
        (json!({ "action": "flag.disable", "arguments": { "flag": "new-search", "headers": { "PRIVATE-TOKEN": "glpat-x1" } } }), 400),
        (json!({ "action": "flag.disable", "arguments": { "flag": "sk-ant-api03-AAAABBBBCCCCDDDDEEEEFFFF" } }), 400),
    ] {
        let answer = server.by("ana", "/api/v1/actions/run", &action).await;
        assert_eq!(answer.status, status, "{action}: {}", answer.body);
        assert!(!answer.body.contains("glpat-x1") && !answer.body.contains("AAAABBBB"), "{}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_are_served_as_other_flag_servers_do() {
    let (_stage, server) = responding().await;
    let answer = server.send("POST", "/flags/new-search/disable", &[], "").await;
    assert_eq!(answer.status, 200, "no header, no body: {}", answer.body);
    let body = r#"{"reason":"calm","ttl":"30m","environment":"production"}"#;
    assert_eq!(server.by("ana", "/flags/other/enable", &serde_json::from_str(body).unwrap()).await.status, 200);
    let flag = server.get("/flags/new-search").await.json();
    assert_eq!((flag["enabled"].as_bool(), flag["by"].as_str()), (Some(false), Some("http")), "{flag:#}");
    let other = server.get("/flags/other").await.json();
    assert_eq!(
        (other["why"].as_str(), other["then"].as_bool(), other["history"][0]["by"].as_str()),
        (Some("calm"), Some(false), Some("ana"))
    );
    assert_eq!(server.get("/flags").await.json()["flags"].as_array().unwrap().len(), 2);
    assert_eq!(server.get("/flags/unknown").await.status, 404);
    assert_eq!(server.by("ana", "/flags/a%20b/enable", &json!({})).await.status, 400);
    assert_eq!(server.by("ana", "/flags/x/enable", &json!({ "ttl": "soon" })).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn switches_are_set_for_a_time_and_enforcers_are_seen() {
    let (_stage, server) = responding().await;
    let set = json!({ "switch": "fast_fail", "value": true, "ttl": "30m", "why": "provider down" });
    assert_eq!(server.post("/api/v1/switches", &set.to_string()).await.status, 403, "somebody has to have done it");
    let changed = server.done("ana", "/api/v1/switches", &set).await;
    assert_eq!(changed["switch"]["id"], "fast_fail@all");
    server
        .done("ana", "/api/v1/switches", &json!({ "switch": "max_output_tokens", "value": "900", "scope": "user:bo@x", "ttl": "1h" }))
        .await;
    let list = server.get("/api/v1/switches?enforcer=gateway-1").await.json();
    assert_eq!((list["switches"].as_array().unwrap().len(), list["enforcers"][0]["name"].as_str()), (2, Some("gateway-1")));
    server.done("ana", "/api/v1/switches/fast_fail/clear", &json!({})).await;
    server.done("ana", "/api/v1/switches/max_output_tokens@user:bo@x/clear", &json!({ "why": "over" })).await;
    let list = server.get("/api/v1/switches").await.json();
    assert_eq!((&list["switches"], list["ended"].as_array().unwrap().len()), (&json!([]), 2));
    for (body, status) in [
        (json!({ "switch": "nonsense", "value": true, "ttl": "30m" }), 400),
        (json!({ "switch": "fast_fail", "value": 7, "ttl": "30m" }), 400),
        (json!({ "switch": "fast_fail", "value": true, "ttl": "48h" }), 400),
        (json!({ "switch": "fast_fail", "value": true, "ttl": "30m", "scope": "everybody" }), 400),
        (json!({ "switch": "fast_fail", "value": true }), 400),
        (json!({ "switch": "fast_fail", "value": true, "ttl": "" }), 400),
        (json!({ "switch": "budget_action", "value": "explode", "ttl": "30m" }), 400),
    ] {
        let answer = server.by("ana", "/api/v1/switches", &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
    }
    assert_eq!(server.by("ana", "/api/v1/switches/fast_fail/clear", &json!({})).await.status, 404);
    assert_eq!(server.by("ana", "/api/v1/switches/nonsense/clear", &json!({})).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn switches_have_the_names_people_know_and_flags_stand_for_them() {
    let (_stage, server) = responding().await;
    let list = server.get("/api/v1/switches").await.json();
    let known = |name: &str| list["known"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone();
    assert_eq!(known("budget_action")["words"], json!(["deny", "pause", "cheaper"]));
    assert_eq!(known("max_history_messages")["flag_names"], json!(["MAX_HISTORY_LENGTH"]));
    assert_eq!((&known("daily_budget_dollars")["lasting"], &known("fast_fail")["lasting"]), (&json!(true), &json!(false)));

    let set = json!({ "switch": "DAILY_BUDGET_DOLLARS", "value": 20, "scope": "team=search" });
    let changed = server.done("ana", "/api/v1/switches", &set).await;
    assert_eq!(changed["switch"]["id"], "daily_budget_dollars@team:search");
    assert!(changed["switch"]["expires_at"].as_str().unwrap().starts_with("9999"), "{changed}");
    server.done("ana", "/api/v1/switches/DAILY_BUDGET_DOLLARS/clear", &json!({ "scope": "team=search" })).await;
    server.done("ana", "/api/v1/switches", &set).await;
    server.done("ana", "/api/v1/switches/DAILY_BUDGET_DOLLARS@team=search/clear", &json!({})).await;

    server.done("ana", "/flags/ENABLE_DEGRADED_MODE/enable", &json!({ "why": "too much" })).await;
    let held = &server.get("/api/v1/switches").await.json()["switches"][0];
    assert_eq!((&held["id"], &held["value"], &held["by"]), (&json!("degraded_mode@all"), &json!(true), &json!("flag")));
    let refused = server.by("ana", "/api/v1/switches/ENABLE_DEGRADED_MODE/clear", &json!({})).await;
    assert!(refused.status == 409 && refused.body.contains("the flag ENABLE_DEGRADED_MODE"), "{}", refused.body);
    server.done("ana", "/api/v1/switches", &json!({ "switch": "degraded_mode", "value": false, "ttl": "5m" })).await;
    let list = server.get("/api/v1/switches").await.json();
    let held: Vec<_> = list["switches"].as_array().unwrap().iter().map(|one| (&one["value"], &one["by"])).collect();
    assert_eq!(held, [(&json!(false), &json!("ana"))], "what somebody set wins");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runbook_is_read_planned_and_rehearsed_without_running() {
    let (_stage, server) = responding().await;
    let list = server.get("/api/v1/runbooks").await.json();
    let ids: Vec<&str> = list["runbooks"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert!(ids.contains(&"queue-stuck") && ids.contains(&"rate-limits"), "{ids:?}");
    let detail = server.get("/api/v1/runbooks/queue-stuck").await.json();
    assert_eq!(detail["line"]["origin"], "folder");
    let fix = detail["steps"].as_array().unwrap().iter().find(|step| step["name"] == "fix").unwrap();
    assert_eq!(fix["effect"], "write");
    assert!(detail["text"].as_str().unwrap().contains("## Symptoms") && detail["runbook"]["checks"][0]["text"].is_string());
    let plan = server.post("/api/v1/runbooks/queue-stuck/plan", "{}").await.json();
    assert_eq!(plan["missing"], json!(["folder"]));
    let plan = server.post("/api/v1/runbooks/queue-stuck/plan", r#"{"inputs":{"folder":"/tmp/q"}}"#).await.json();
    let fix = plan["steps"].as_array().unwrap().iter().find(|step| step["name"] == "fix").unwrap();
    assert!(fix["argv"].to_string().contains("touch $folder/fixed"), "{fix:#}");
    assert_eq!(fix["hash"].as_str().unwrap().len(), 64);
    let fixture = "runbook: queue-stuck\ninputs: { folder: /tmp/q }\nsteps: { look: [{ exit: 0 }, { exit: 0, stdout: fixed }], fix: [{ exit: 0 }] }\nchoose: [fix]\nexpect: { ending: done }\n";
    let rehearsed = server.post("/api/v1/runbooks/queue-stuck/test", &json!({ "fixture": fixture }).to_string()).await.json();
    assert_eq!((&rehearsed["problems"], rehearsed["ending"].as_str()), (&json!([]), Some("done")), "{rehearsed:#}");
    let broken = server.post("/api/v1/runbooks/queue-stuck/test", r#"{"fixture":"steps: ["}"#).await;
    assert_eq!(broken.status, 400, "{}", broken.body);
    assert!(!std::path::Path::new("/tmp/q").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_write_of_any_operation_comes_from_another_site() {
    let (stage, server) = responding().await;
    let before = stage.context.journal.head().await.unwrap();
    for operation in operations().iter().filter(|operation| operation.method == Method::Post) {
        let path = operation.template().replace("{id}", "2").replace("{run}", "1").replace("{name}", "x");
        for foreign in ["origin: https://evil.example", "sec-fetch-site: cross-site", "host: evil.example"] {
            let headers = ["content-type: application/json", "x-paramedic-actor: ana", foreign];
            let answer = server.send("POST", &path, &headers, "{}").await;
            assert_eq!(answer.status, 403, "{} {path} {foreign}: {}", operation.id, answer.body);
        }
        if operation.permission == Permission::Write {
            // A form of another site needs no preflight; its kinds of bodies are refused even where its origin is not told.
            let answer = server.send("POST", &path, &["content-type: text/plain"], "{}").await;
            assert_eq!(answer.status, 415, "{} {path}: {}", operation.id, answer.body);
        }
    }
    assert_eq!(stage.context.journal.head().await.unwrap(), before, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_anything_that_responds_it_is_said() {
    let (_stage, server) = crate::served().await;
    for path in ["/api/v1/runbooks", "/api/v1/runs", "/api/v1/approvals", "/api/v1/actions", "/api/v1/brake", "/api/v1/switches", "/flags"]
    {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 503, "{path}: {}", answer.body);
        assert!(answer.json()["error"]["hint"].as_str().unwrap().contains("paramedic up"), "{path}");
    }
    assert_eq!(server.get("/api/v1/incidents/2").await.status, 200, "the incident itself is there");
}
