//! Promises of the field's own documents, one by one, kept by the real program.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use paramedic_model::Timestamp;
use serde_json::{Value, json};

use crate::fixture::{Home, Instance, until};
use crate::http::{self, Answer};
use crate::{skip, tools};

pub const WITHIN: Duration = Duration::from_secs(10);

#[track_caller]
pub fn ingest(home: &Home, text: &str) -> Value {
    let mut child = home.command(&["ingest", "-", "--json"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

pub fn text_of(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
fn incidents(instance: &Instance, wanted: usize) -> Vec<Value> {
    let found = until(WITHIN, || Some(instance.incidents()).filter(|all| all.len() == wanted));
    found.unwrap_or_else(|| panic!("not {wanted}: {:#?}", instance.incidents()))
}

/// A production log as people have it: three failures of two users in two agents.
const LOG: &str = "\
[2026-03-01T10:00:00.000Z] [ERROR] [agent:reviewer] API error: 529 overloaded_error
  conversationId: c-1
  userId: user-1
  pluginName: code-review
  errorCode: 529
  duration: 1234
[2026-03-01T10:00:20.000Z] [ERROR] [agent:reviewer] API error: 529 overloaded_error
  conversationId: c-1
  userId: user-1
  errorCode: 529
[2026-03-01T10:00:30.000Z] [ERROR] [agent:planner] API error: 529 overloaded_error
  conversationId: c-2
  userId: user-2
  errorCode: 529
[2026-03-01T10:00:40.000Z] [INFO] [agent:planner] done for now
";

#[test]
fn an_incident_from_a_log_names_users_and_error_rate_and_its_failures_are_kept() {
    let home = Home::new();
    let instance = home.up();
    ingest(&home, LOG);
    let incident = incidents(&instance, 1).remove(0);
    assert_eq!(incident["type"], "api_failure", "{incident:#}");
    assert_eq!(incident["started_at"], "2026-03-01T10:00:00.000Z");
    assert_eq!(incident["counts"]["users"], 2, "two people, although one of them was hit twice: {incident:#}");
    assert_eq!(incident["counts"]["terminal_failures"], 3);
    assert_eq!(incident["counts"]["error_rate"], 1.0);
    for key in ["id", "severity", "title", "state", "detected_at"] {
        assert!(incident[key].is_string(), "{key}: {incident:#}");
    }
    let failures = instance.list("/api/v1/events?kind=model-error&oldest_first=true", "events");
    let first = &failures[0];
    assert_eq!((&first["at"], &first["user"]), (&json!("2026-03-01T10:00:00.000Z"), &json!("user-1")), "{first:#}");
    assert_eq!((&first["fact"]["class"], &first["fact"]["status"]), (&json!("overloaded"), &json!(529)), "{first:#}");
    assert_eq!((&first["attributes"]["pluginName"], &first["attributes"]["duration"]), (&json!("code-review"), &json!(1234)));
}

#[test]
fn a_timeout_in_a_log_becomes_an_incident_of_its_agent() {
    let home = Home::new();
    let instance = home.up();
    ingest(&home, "Error: Agent execution timed out after 300000ms\nTask: code-review\nConversation: abc-123\nnext\n");
    let incident = incidents(&instance, 1).remove(0);
    let detail = instance.json(&format!("/api/v1/incidents/{}", incident["id"].as_str().unwrap()));
    assert_eq!(detail["incident"]["agents"], json!(["code-review"]), "{detail:#}");
    assert_eq!(incident["type"], "timeout", "{incident:#}");
    let title = incident["title"].as_str().unwrap();
    assert!(title.starts_with("Agent execution timed out after 5 min, task code-review"), "{title}");
}

/// One line of `claude -p --output-format stream-json`.
fn call(number: u32) -> String {
    let call = json!({"type": "assistant", "session_id": "s-loop", "uuid": format!("a{number}"), "parent_tool_use_id": null,
        "message": {"id": format!("msg_{number}"), "role": "assistant", "model": "claude-opus-4-5", "usage": {"input_tokens": 3, "output_tokens": 5},
            "content": [{"type": "tool_use", "id": format!("toolu_{number}"), "name": "Bash", "input": {"command": "cargo test"}}]}});
    let result = json!({"type": "user", "session_id": "s-loop", "uuid": format!("u{number}"), "parent_tool_use_id": null,
        "message": {"role": "user", "content": [{"type": "tool_result", "tool_use_id": format!("toolu_{number}"), "content": "1 failed"}]}});
    format!("{call}\n{result}\n")
}

#[test]
fn eight_identical_calls_in_stream_json_are_a_stuck_agent_told_once() {
    let home = Home::new();
    let instance = home.up();
    let init =
        json!({"type": "system", "subtype": "init", "session_id": "s-loop", "uuid": "i", "cwd": "/srv/shop", "model": "claude-opus-4-5"});
    let told = ingest(&home, &format!("{init}\n{}", (0..8).map(call).collect::<String>()));
    assert_eq!((&told["lines"], &told["bad_lines"], &told["format"]), (&json!(17), &json!(0), &json!("stream-json")), "{told:#}");
    let incident = incidents(&instance, 1).remove(0);
    assert_eq!(incident["type"], "timeout", "{incident:#}");
    let alerts = instance.list("/api/v1/alerts/history", "alerts");
    let exact: Vec<_> = alerts.iter().filter(|line| line["alert"]["detector"] == "repeat-exact").collect();
    assert_eq!(exact.len(), 1, "one episode, however often it repeats: {alerts:#?}");
    let agent = instance.agents().remove(0);
    assert_eq!((&agent["turns"], &agent["tool_calls"]), (&json!(1), &json!(8)), "{agent:#}");
}

#[test]
fn the_gauge_of_stuck_agents_goes_up_and_down() {
    let home = Home::new();
    let instance = home.up();
    let stuck = || {
        let metrics = instance.get("/metrics").text();
        let line = metrics.lines().find(|line| line.starts_with("paramedic_fleet_agents{state=\"stuck\"}")).unwrap_or("none").to_owned();
        line.rsplit(' ').next().unwrap_or_default().to_owned()
    };
    let hook = |name: &str, number: u32, more: Value| {
        let mut body = json!({"session_id": "s1", "hook_event_name": name, "tool_name": "Bash", "tool_use_id": format!("t{number}"), "tool_input": {"command": format!("run {}", number.min(9))}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(instance.post_hook(&body).status, 200);
    };
    hook("UserPromptSubmit", 0, json!({"prompt": "go"}));
    for number in 10..18 {
        hook("PreToolUse", number, json!({}));
        hook("PostToolUse", number, json!({"tool_response": {"stdout": "1 failed"}}));
    }
    assert!(until(WITHIN, || (stuck() == "1").then_some(())).is_some(), "{}\n{:#?}", stuck(), instance.agents());
    for number in 1..7 {
        hook("PreToolUse", number, json!({}));
        hook("PostToolUse", number, json!({"tool_response": {"stdout": format!("ok {number}")}}));
    }
    assert!(until(WITHIN, || (stuck() == "0").then_some(())).is_some(), "{}\n{:#?}", stuck(), instance.agents());
}

#[test]
fn doctor_fails_on_a_disk_above_ninety_percent_and_passes_below() {
    let home = Home::new();
    fs::create_dir_all(home.data()).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4g", "tmpfs"]).arg(home.data()).output();
    if !mounted.as_ref().is_ok_and(|output| output.status.success()) {
        skip!("a tmpfs cannot be mounted here (not root)")
    }
    let disk = |report: &Value| report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "disk").unwrap().clone();
    let output = home.run(&["doctor", "--json"]);
    let fine: Value = serde_json::from_slice(&output.stdout).unwrap();
    // The size of a tmpfs is a number until something is written: nothing is, it is only made smaller.
    let shrunk = Command::new("mount").args(["-o", "remount,size=64k", "tmpfs"]).arg(home.data()).output();
    fs::write(home.data().join("filler"), vec![0; 60 * 1024]).unwrap();
    let full_output = home.run(&["doctor", "--json"]);
    let full: Result<Value, _> = serde_json::from_slice(&full_output.stdout);
    let unmounted = Command::new("umount").arg(home.data()).status();
    assert!(shrunk.unwrap().status.success() && unmounted.unwrap().success());
    assert_eq!(disk(&fine)["verdict"], "ok", "{fine:#}");
    let full = full.unwrap();
    assert_eq!((&disk(&full)["verdict"], &full["healthy"]), (&json!("failed"), &json!(false)), "{full:#}");
    assert!(disk(&full)["detail"].as_str().unwrap().contains("% used"), "{full:#}");
    assert_eq!(full_output.status.code(), Some(5), "problems found");
    assert_eq!(output.status.code(), Some(if fine["healthy"] == true { 0 } else { 5 }), "{fine:#}");
}

#[test]
fn settings_that_are_read_again_take_effect() {
    let home = Home::new();
    let config = home.path().join("paramedic.toml");
    fs::write(&config, "[detect]\ndisabled = [\"api-terminal-error\"]\n").unwrap();
    let instance = home.up_with(&["--config", config.to_str().unwrap()]);
    let failure =
        |agent: &str| format!("[2026-03-01T10:00:00.000Z] [ERROR] [agent:{agent}] API error: 529 overloaded_error\n  errorCode: 529\n");
    ingest(&home, &failure("first"));
    until(WITHIN, || (instance.agents().len() == 1).then_some(())).expect("the agent");
    assert_eq!(instance.incidents().len(), 0);
    fs::write(&config, "[detect]\ndisabled = []\n").unwrap();
    instance.signal("HUP");
    until(WITHIN, || home.log().contains("settings and rules read again").then_some(())).expect("it says so");
    ingest(&home, &failure("second"));
    incidents(&instance, 1);
    // A mistake in the file changes nothing and is said.
    fs::write(&config, "[detect]\ndisabeld = []\n").unwrap();
    instance.signal("HUP");
    until(WITHIN, || home.log().contains("settings not changed").then_some(())).unwrap_or_else(|| panic!("{}", home.log()));
    assert_eq!(instance.get("/health/live").status, 200);
}

#[test]
fn an_agent_that_never_came_back_after_our_restart_is_silent() {
    let home = Home::new();
    let config = home.path().join("paramedic.toml");
    fs::write(&config, "[fleet]\nsilent_after_s = 3\n").unwrap();
    let start = || home.up_with(&["--config", config.to_str().unwrap()]);
    let prompt = |instance: &Instance, session: &str| {
        let hook = json!({"session_id": session, "hook_event_name": "UserPromptSubmit", "prompt": "go on"});
        assert_eq!(instance.post_hook(&hook).status, 200);
    };
    let instance = start();
    prompt(&instance, "ghost");
    prompt(&instance, "back");
    until(WITHIN, || (instance.agents().len() == 2).then_some(())).expect("two agents");
    assert_eq!(instance.stop(), Some(0));
    let instance = start();
    let state =
        |id: &str| instance.agents().iter().find(|agent| agent["id"] == id).map(|agent| agent["state"].to_string()).unwrap_or_default();
    let silent = until(WITHIN, || {
        prompt(&instance, "back");
        (state("ghost") == "\"silent\"").then_some(())
    });
    assert!(silent.is_some(), "{:#?}", instance.agents());
    assert_eq!(state("back"), "\"working\"", "{:#?}", instance.agents());
}

#[test]
fn a_request_is_followed_from_manager_to_worker_and_back() {
    let home = Home::new();
    let instance = home.up();
    let line = |at: u32, agent: &str, id: &str, text: &str| {
        json!({"level": "info", "time": format!("2026-03-01T10:00:{at:02}.000Z"), "agentName": agent, "correlationId": id, "msg": text})
            .to_string()
            + "\n"
    };
    // Two files, as two services write them, with another request in between.
    ingest(
        &home,
        &(line(1, "manager", "req-7", "assigned") + &line(2, "manager", "req-8", "other") + &line(9, "manager", "req-7", "accepted")),
    );
    ingest(&home, &(line(3, "worker", "req-7", "started") + &line(5, "worker", "req-7", "finished")));
    let listed = until(WITHIN, || {
        let page = home.json(&["events", "--request", "req-7", "--json"]);
        Some(page["events"].as_array().unwrap().clone()).filter(|events| events.len() == 4)
    });
    let mut events = listed.expect("four records of one request");
    events.sort_by_key(|event| event["at"].to_string());
    let told: Vec<(&str, &str)> = events.iter().map(|event| (event["agent"].as_str().unwrap(), event["text"].as_str().unwrap())).collect();
    assert_eq!(told, [("manager", "assigned"), ("worker", "started"), ("worker", "finished"), ("manager", "accepted")]);
    drop(instance);
}

#[test]
fn lines_are_taken_over_the_network_syslog_included() {
    let home = Home::new();
    let instance = home.up();
    let lines = "<34>1 2026-03-01T10:00:00.000Z host app - - - disk melts\nFeb  2 15:04:05 host app[1]: plain syslog\n{\"level\":\"error\",\"msg\":\"json line\"}\n";
    let answer: Answer = http::post(&instance.http(), "/ingest", "text/plain", lines.as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["events"], 3, "{}", answer.text());
    let found = until(WITHIN, || Some(instance.list("/api/v1/events?text=melts", "events")).filter(|events| events.len() == 1));
    assert_eq!(found.expect("the record")[0]["level"], "error");
}

fn post_otlp(instance: &Instance, path: &str, body: &Value) {
    let answer = http::post(&instance.otlp_http(), path, "application/json", body.to_string().as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn resource(name: &str) -> Value {
    json!({"attributes": [{"key": "service.name", "value": {"stringValue": name}}]})
}

#[test]
fn the_span_and_the_gauge_that_the_documents_name_are_taken() {
    let home = Home::new();
    let instance = home.up();
    let attribute = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    post_otlp(
        &instance,
        "/v1/traces",
        &json!({"resourceSpans": [{"resource": resource("planner"), "scopeSpans": [{"spans": [{
            "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": "agent.execute", "kind": 1,
            "startTimeUnixNano": "1772359200000000000", "endTimeUnixNano": "1772359202500000000",
            "attributes": [attribute("agent.name", "planner"), attribute("task.id", "task-7"), {"key": "result.success", "value": {"boolValue": false}}],
            "events": [{"timeUnixNano": "1772359202000000000", "name": "exception", "attributes": [attribute("exception.message", "no such tool")]}],
            "status": {"code": 2, "message": "task failed"}
        }]}]}]}),
    );
    post_otlp(
        &instance,
        "/v1/metrics",
        &json!({"resourceMetrics": [{"resource": resource("planner"), "scopeMetrics": [{"metrics": [{
            "name": "memory.usage", "unit": "1", "gauge": {"dataPoints": [{"timeUnixNano": "1772359200000000000", "asDouble": 0.83}]}
        }]}]}]}),
    );
    let events = until(WITHIN, || {
        Some(instance.list("/api/v1/events?limit=10", "events"))
            .filter(|events| events.iter().any(|one| one["kind"] == "span") && events.len() >= 2)
    });
    let events = events.expect("both");
    let span = events.iter().find(|event| event["name"] == "agent.execute").unwrap_or_else(|| panic!("{events:#?}"));
    assert_eq!((&span["fact"]["failed"], &span["trace"]), (&json!(true), &json!("5b8efff798038103d269b633813fc60c")), "{span:#}");
    assert_eq!(
        (&span["attributes"]["task.id"], &span["attributes"]["agent.name"], &span["attributes"]["result.success"]),
        (&json!("task-7"), &json!("planner"), &json!(false)),
        "{span:#}"
    );
    let whole = span.to_string();
    assert!(whole.contains("task failed") && whole.contains("no such tool"), "{span:#}");
    let gauge = events.iter().find(|event| event["name"] == "memory.usage").unwrap_or_else(|| panic!("{events:#?}"));
    assert_eq!((&gauge["kind"], &gauge["fact"]["value"]), (&json!("measurement"), &json!(0.83)), "{gauge:#}");
}

#[test]
fn the_older_status_tells_what_playbooks_read_from_it() {
    let home = Home::new();
    let status = Command::new("cp").arg("-r").arg(tools::workspace().join("sample/projects")).arg(home.claude()).status().unwrap();
    assert!(status.success());
    let instance = home.up();
    incidents(&instance, 3);
    let status = instance.json("/api/status");
    for (path, found) in [("/api/running", json!(true)), ("/websocket/running", json!(true)), ("/system/platform", json!("linux"))] {
        assert_eq!(status.pointer(path), Some(&found), "{path} of {status:#}");
    }
    assert_eq!(status["api"]["port"].as_u64().map(|port| port.to_string()).as_deref(), instance.http().rsplit(':').next());
    assert!(status["watcher"]["totalMessages"].as_u64().is_some_and(|count| count > 0), "{status:#}");
    assert!(status["totalCost"].as_f64().is_some_and(|usd| usd > 0.0), "what was spent: {status:#}");
    let uptime = status["system"]["uptime"].as_f64().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert!(instance.json("/api/status")["system"]["uptime"].as_f64().unwrap() > uptime, "the time since the start, not of the answer");
    let sessions = instance.json("/api/sessions");
    assert!(
        sessions["sessions"].as_array().unwrap().iter().any(|session| session["errorCount"].as_u64().is_some_and(|count| count > 0)),
        "{sessions:#}"
    );
    let default = text_of(&home.run(&["config"]));
    assert!(default.contains("http = \"127.0.0.1:3333\""), "where playbooks look for it");
}

#[test]
fn each_tier_has_its_time_to_acknowledge() {
    let home = Home::new();
    let instance = home.up();
    for tier in ["P0", "P1", "P2", "P3"] {
        assert!(home.run(&["incident", "open", &format!("rehearsal of {tier}"), "--severity", tier]).status.success());
    }
    let time = |text: &Value| Timestamp::parse(text.as_str().unwrap()).unwrap();
    let mut seen = Vec::new();
    for incident in incidents(&instance, 4) {
        let due = time(&incident["acknowledge_by"]).since(time(&incident["detected_at"]));
        seen.push((incident["severity"].as_str().unwrap().to_owned(), due.as_secs() / 60));
    }
    seen.sort();
    assert_eq!(seen, [("SEV1", 5), ("SEV2", 15), ("SEV3", 60), ("SEV4", 1440)].map(|(severity, minutes)| (severity.to_owned(), minutes)));
}

#[test]
fn duration_and_impact_are_computed_and_said() {
    let home = Home::new();
    let status = Command::new("cp").arg("-r").arg(tools::workspace().join("sample/projects")).arg(home.claude()).status().unwrap();
    assert!(status.success());
    let instance = home.up();
    let outage = incidents(&instance, 3).into_iter().find(|one| one["type"] == "api_failure").unwrap();
    let id = outage["id"].as_str().unwrap();
    let quiet = until(Duration::from_secs(20), || {
        let text = text_of(&home.run(&["incident", id]));
        text.contains("resolved ").then_some(text)
    });
    let text = quiet.unwrap_or_else(|| text_of(&home.run(&["incident", id])));
    let impact = text.lines().find(|line| line.starts_with("impact")).unwrap_or_else(|| panic!("{text}"));
    for part in ["3 agents", "3 sessions", "26 retries", "failed for good", "% of tries failed"] {
        assert!(impact.contains(part), "{part}: {impact}");
    }
    let lasted = text.lines().find(|line| line.starts_with("quiet")).unwrap_or_else(|| panic!("{text}"));
    assert!(lasted.contains("(after ") && lasted.contains("min"), "{lasted}");
}

#[test]
fn the_list_of_agents_tells_state_turns_age_and_reason() {
    let home = Home::new();
    let instance = home.up();
    let hook = json!({"session_id": "s-9", "hook_event_name": "UserPromptSubmit", "prompt": "go on", "cwd": "/srv/shop"});
    assert_eq!(instance.post_hook(&hook).status, 200);
    let hook = json!({"session_id": "s-9", "hook_event_name": "PermissionRequest", "tool_name": "Bash", "tool_use_id": "t1", "tool_input": {"command": "rm x"}, "cwd": "/srv/shop"});
    assert_eq!(instance.post_hook(&hook).status, 200);
    let told = until(WITHIN, || {
        let text = text_of(&home.run(&["agents"]));
        text.contains("waiting").then_some(text)
    });
    let told = told.unwrap_or_else(|| text_of(&home.run(&["agents"])));
    for word in ["s-9", "waiting", "shop", "TURNS", "LAST SIGN", "waiting for permission"] {
        assert!(told.contains(word), "{word}: {told}");
    }
}

#[test]
fn dollars_are_right_by_day_and_the_dearest_agent_comes_first() {
    let home = Home::new();
    let folder = home.claude().join("projects/-srv-shop");
    fs::create_dir_all(&folder).unwrap();
    let call = |session: &str, day: u32, tokens: u64| {
        json!({"type": "assistant", "sessionId": session, "uuid": format!("{session}{day}"), "requestId": format!("req_{session}{day}"), "cwd": "/srv/shop", "timestamp": format!("2026-01-{day:02}T12:00:00.000Z"),
            "message": {"id": format!("msg_{session}{day}"), "role": "assistant", "model": "claude-opus-4-5-20251101", "content": [], "usage": {"input_tokens": 0, "output_tokens": tokens}}})
        .to_string() + "\n"
    };
    // Five dollars for a million tokens in, twenty-five for a million out.
    fs::write(folder.join("cheap.jsonl"), call("cheap", 1, 40_000)).unwrap();
    fs::write(folder.join("dear.jsonl"), call("dear", 1, 80_000) + &call("dear", 2, 120_000)).unwrap();
    let instance = home.up();
    until(WITHIN, || (instance.agents().len() == 2).then_some(())).expect("two agents");
    let report = until(WITHIN, || {
        let report = home.json(&["cost", "--json"])["report"].clone();
        (report["totals"]["calls"] == 3).then_some(report)
    });
    let report = report.unwrap_or_else(|| panic!("{:#}", home.json(&["cost", "--json"])));
    let dollars = |list: &str, key: &str| -> Vec<(String, f64)> {
        let lines = report[list].as_array().unwrap().iter();
        lines.map(|line| (line[key].as_str().unwrap().to_owned(), line["sum"]["cost"]["usd"].as_f64().unwrap())).collect()
    };
    let mut days = dollars("by_day", "day");
    days.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(days, [("2026-01-01".to_owned(), 3.0), ("2026-01-02".to_owned(), 3.0)], "{report:#}");
    assert_eq!(dollars("by_agent", "agent"), [("dear".to_owned(), 5.0), ("cheap".to_owned(), 1.0)], "{report:#}");
}

/// What people's loggers write without naming an agent: four failed calls.
const UNNAMED: &str = "\
2026-03-01 10:00:00,000 - worker - ERROR - API Error: 529 overloaded_error
2026-03-01 10:00:10,000 - worker - ERROR - API Error: 529 overloaded_error
2026-03-01 10:00:20,000 - worker - ERROR - API Error: 529 overloaded_error
2026-03-01 10:00:30,000 - worker - ERROR - API Error: 529 overloaded_error
";

#[test]
fn lines_that_name_no_agent_get_that_of_the_command_or_of_the_file() {
    for (more, agent, started_at) in [
        (&["--time-zone", "UTC"][..], "night-shift", "2026-03-01T10:00:00.000Z"),
        (&["--agent", "re viewer&é", "--session", "s-1", "--time-zone", "America/Chicago"], "re viewer&é", "2026-03-01T16:00:00.000Z"),
    ] {
        let home = Home::new();
        let instance = home.up();
        let file = home.path().join("night-shift.log");
        fs::write(&file, UNNAMED).unwrap();
        let output = home.command(&["ingest", file.to_str().unwrap()]).args(more).output().unwrap();
        assert!(output.status.success(), "{}", text_of(&output));
        let incident = incidents(&instance, 1).remove(0);
        assert_eq!((&incident["type"], &incident["started_at"]), (&json!("api_failure"), &json!(started_at)), "{incident:#}");
        assert_eq!(incident["counts"]["terminal_failures"], 4, "{incident:#}");
        let detail = instance.json(&format!("/api/v1/incidents/{}", incident["id"].as_str().unwrap()));
        assert_eq!(detail["incident"]["agents"], json!([agent]), "{detail:#}");
    }
}

#[test]
fn an_unknown_zone_is_refused_and_standard_input_names_no_agent() {
    let home = Home::new();
    let instance = home.up();
    let mut child = home
        .command(&["ingest", "-", "--agent", "a", "--time-zone", "Mars/Olympus"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text_of(&output));
    assert!(text_of(&output).contains("time zone `Mars/Olympus`"), "{}", text_of(&output));
    // Standard input names no agent, and nothing is made up.
    ingest(&home, UNNAMED);
    let records = until(WITHIN, || Some(instance.list("/api/v1/events?kind=model-error", "events")).filter(|all| all.len() == 4)).unwrap();
    assert!(records.iter().all(|event| event["agent"].is_null()), "{records:#?}");
}

#[test]
fn the_last_record_of_a_pipe_that_stays_open_is_told_after_a_moment_of_quiet() {
    let home = Home::new();
    let instance = home.up();
    let mut child = home.command(&["ingest", "-", "--agent", "follower"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let told = |text: &str| {
        until(WITHIN, || {
            instance
                .list("/api/v1/events?agent=follower", "events")
                .iter()
                .any(|event| event["text"].as_str().is_some_and(|told| told.contains(text)))
                .then_some(())
        })
    };
    for (line, text) in [
        ("2026-03-01T10:00:00Z ERROR first\n  with a line below\n", "with a line below"),
        ("2026-03-01T10:00:05Z ERROR second\n", "second"),
    ] {
        pipe.write_all(line.as_bytes()).unwrap();
        pipe.flush().unwrap();
        assert!(told(text).is_some(), "{text} was not told while the pipe was open");
    }
    drop(pipe);
    assert!(child.wait().unwrap().success());
    assert_eq!(instance.list("/api/v1/events?agent=follower", "events").len(), 2);
}
