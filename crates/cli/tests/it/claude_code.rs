//! A real Claude Code against the stand-in API: what three sources tell is counted once.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::fake_api::{Behaviour, FakeApi};
use crate::fixture::{Home, Instance, until};
use crate::{claude, skip, tools};

const ARRIVED_WITHIN: Duration = Duration::from_secs(20);

/// Sources that told something about any agent.
fn sources(instance: &Instance) -> BTreeSet<String> {
    let events = instance.list("/api/v1/events?limit=1000", "events");
    events.iter().filter_map(|event| Some(event["source"].as_str()?.to_owned())).collect()
}

/// Waits until hooks, telemetry and transcript have all arrived and the agent handed its turn back.
#[track_caller]
fn settled_agent(home: &Home, instance: &Instance) -> Value {
    let wanted = ["hook", "otlp-log", "otlp-metric", "transcript"];
    let arrived = until(ARRIVED_WITHIN, || {
        let sources = sources(instance);
        wanted.iter().all(|source| sources.contains(*source)).then_some(())
    });
    assert!(arrived.is_some(), "only {:?} told something: {}", sources(instance), home.log());
    // What arrived last may still be on its way to the fleet.
    std::thread::sleep(Duration::from_millis(500));
    let agents = instance.agents();
    assert_eq!(agents.len(), 1, "{agents:#?}");
    agents[0].clone()
}

fn check_counted_once(agent: &Value) {
    assert_eq!(agent["turns"], 1, "{agent:#}");
    assert_eq!(agent["tool_calls"], 1, "{agent:#}");
    assert_eq!(agent["tool_errors"], 0, "{agent:#}");
    // Two model calls, each told by the transcript and by telemetry.
    let tokens = [("input_tokens", 20), ("output_tokens", 14), ("cache_read_tokens", 60), ("cache_creation_tokens", 40)];
    for (kind, expected) in tokens {
        assert_eq!(agent["usage"][kind], expected, "{kind} of {:#}", agent["usage"]);
    }
}

#[test]
fn a_connected_claude_code_is_one_agent_counted_once_from_all_sources() {
    let Some(program) = tools::claude_code() else { skip!("Claude Code is not installed (`cargo xtask setup`)") };
    let home = Home::new();
    let instance = home.up();
    // Connected as a person does it: one command, nothing by hand.
    let claude_dir = home.claude();
    let output = home.run(&["connect", "claude-code", "--write", "--claude-dir", claude_dir.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let api = FakeApi::start(Behaviour::Tool { command: "echo hi".to_owned() });
    let output = claude::run(&program, &home, &api, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(api.requests().len(), 2);
    check_counted_once(&settled_agent(&home, &instance));
    assert_eq!(instance.incidents().len(), 0);
}

#[test]
fn telemetry_of_claude_code_over_grpc_is_counted_once_too() {
    let Some(program) = tools::claude_code() else { skip!("Claude Code is not installed (`cargo xtask setup`)") };
    let home = Home::new();
    let instance = home.up();
    let claude_dir = home.claude();
    assert!(home.run(&["connect", "claude-code", "--write", "--claude-dir", claude_dir.to_str().unwrap()]).status.success());
    // The person's own choice of protocol wins over what was written.
    let settings = claude_dir.join("settings.json");
    let mut value: Value = serde_json::from_slice(&std::fs::read(&settings).unwrap()).unwrap();
    value["env"]["OTEL_EXPORTER_OTLP_PROTOCOL"] = "grpc".into();
    value["env"]["OTEL_EXPORTER_OTLP_ENDPOINT"] = format!("http://{}", instance.otlp_grpc()).into();
    std::fs::write(&settings, value.to_string()).unwrap();
    let api = FakeApi::start(Behaviour::Tool { command: "echo hi".to_owned() });
    assert!(claude::run(&program, &home, &api, &[]).status.success());
    check_counted_once(&settled_agent(&home, &instance));
}

#[test]
fn a_refused_key_is_one_incident_although_every_source_tells_it() {
    let Some(program) = tools::claude_code() else { skip!("Claude Code is not installed (`cargo xtask setup`)") };
    let home = Home::new();
    let instance = home.up();
    let claude_dir = home.claude();
    assert!(home.run(&["connect", "claude-code", "--write", "--claude-dir", claude_dir.to_str().unwrap()]).status.success());
    let api = FakeApi::start(Behaviour::Refuse { status: 401, times: 99 });
    let output = claude::run(&program, &home, &api, &[]);
    assert!(!output.status.success());
    settled_agent(&home, &instance);
    let incidents = until(ARRIVED_WITHIN, || Some(instance.incidents()).filter(|all| !all.is_empty())).unwrap_or_default();
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    assert_eq!(incidents[0]["type"], "authentication");
    assert_eq!(incidents[0]["counts"]["terminal_failures"], 1, "{incidents:#?}");
}

#[test]
fn an_overloaded_api_is_one_incident_with_one_failure() {
    let Some(program) = tools::claude_code() else { skip!("Claude Code is not installed (`cargo xtask setup`)") };
    let home = Home::new();
    let instance = home.up();
    let api = FakeApi::start(Behaviour::Refuse { status: 529, times: 99 });
    // No hooks: telemetry by hand, and the transcript.
    let environment = claude::telemetry("http/json", &instance.otlp_http());
    let output = claude::run(&program, &home, &api, &environment);
    assert!(!output.status.success());
    let incidents = until(ARRIVED_WITHIN, || Some(instance.incidents()).filter(|all| !all.is_empty())).unwrap_or_default();
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    assert_eq!(incidents[0]["type"], "api_failure", "{incidents:#?}");
    assert_eq!(incidents[0]["counts"]["terminal_failures"], 1, "{incidents:#?}");
}

#[test]
fn a_failure_that_four_sources_tell_as_it_happens_is_one() {
    let Some(program) = tools::claude_code() else { skip!("Claude Code is not installed (`cargo xtask setup`)") };
    let home = Home::new();
    let instance = home.up();
    let claude_dir = home.claude();
    assert!(home.run(&["connect", "claude-code", "--write", "--claude-dir", claude_dir.to_str().unwrap()]).status.success());
    let api = FakeApi::start(Behaviour::Refuse { status: 529, times: 99 });
    claude::run_into_ingest(&program, &home, &api, &[]);
    settled_agent(&home, &instance);
    assert!(sources(&instance).contains("stream-json"), "{:?}", sources(&instance));
    let incidents = until(ARRIVED_WITHIN, || Some(instance.incidents()).filter(|all| !all.is_empty())).unwrap_or_default();
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    assert_eq!(incidents[0]["counts"]["terminal_failures"], 1, "{incidents:#?}");
    // Single tries that failed are told by the output alone.
    assert_eq!(incidents[0]["counts"]["retries"], 2, "{incidents:#?}");
    let agent = &instance.agents()[0];
    assert_eq!((&agent["turns"], &agent["model_errors"]), (&1.into(), &1.into()), "{agent:#}");
}

#[test]
fn stream_json_and_all_others_count_a_turn_once() {
    let Some(program) = tools::claude_code() else { skip!("Claude Code is not installed (`cargo xtask setup`)") };
    let home = Home::new();
    let instance = home.up();
    let claude_dir = home.claude();
    assert!(home.run(&["connect", "claude-code", "--write", "--claude-dir", claude_dir.to_str().unwrap()]).status.success());
    let api = FakeApi::start(Behaviour::Tool { command: "echo hi".to_owned() });
    claude::run_into_ingest(&program, &home, &api, &[]);
    check_counted_once(&settled_agent(&home, &instance));
    assert!(sources(&instance).contains("stream-json"), "{:?}", sources(&instance));
}

#[test]
fn stream_json_on_standard_input_alone_is_enough() {
    let Some(program) = tools::claude_code() else { skip!("Claude Code is not installed (`cargo xtask setup`)") };
    let elsewhere = Home::new();
    let api = FakeApi::start(Behaviour::Tool { command: "echo hi".to_owned() });
    let output = claude::run(&program, &elsewhere, &api, &[]);
    assert!(output.status.success());
    let home = Home::new();
    let instance = home.up();
    let mut ingest = home.command(&["ingest", "-"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut ingest.stdin.take().unwrap(), &output.stdout).unwrap();
    assert!(ingest.wait().unwrap().success());
    let agents = until(ARRIVED_WITHIN, || Some(instance.agents()).filter(|agents| !agents.is_empty())).unwrap_or_default();
    assert_eq!(agents.len(), 1, "{agents:#?}");
    std::thread::sleep(Duration::from_millis(300));
    check_counted_once(&instance.agents()[0]);
}
