//! The command line, with and without a running instance.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::fixture::{Home, until};
use crate::tools;

fn with_sample() -> Home {
    let home = Home::new();
    let status = Command::new("cp").arg("-r").arg(tools::workspace().join("sample/projects")).arg(home.claude()).status().unwrap();
    assert!(status.success());
    home
}

#[test]
fn every_verb_answers_from_the_running_instance_and_offline_from_its_data() {
    let home = with_sample();
    let instance = home.up();
    until(Duration::from_secs(20), || (instance.incidents().len() == 3).then_some(())).expect("three incidents");
    let id = instance.incidents()[0]["id"].as_str().unwrap().to_owned();
    let agent = instance.agents()[0]["id"].as_str().unwrap().to_owned();
    let verbs: [&[&str]; 7] =
        [&["agents", "--all"], &["agent", &agent], &["incidents"], &["incident", &id], &["events", "--limit", "5"], &["cost"], &["alerts"]];
    let check = |when: &str| {
        for verb in verbs {
            let output = home.run(verb);
            assert!(output.status.success(), "{when} {verb:?}: {}", String::from_utf8_lossy(&output.stderr));
            assert!(!output.stdout.is_empty(), "{when} {verb:?}");
            let with_json: Vec<&str> = verb.iter().copied().chain(["--json"]).collect();
            let value = home.json(&with_json);
            assert!(value.is_object() || value.is_array(), "{when} {verb:?}: {value}");
        }
    };
    check("running");
    assert_eq!(instance.stop(), Some(0));
    check("offline");
}

#[test]
fn text_is_found_in_events() {
    let home = with_sample();
    let instance = home.up();
    let found = until(Duration::from_secs(20), || {
        let page = home.json(&["events", "couch", "--json"]);
        let events = page["events"].as_array().cloned().unwrap_or_default();
        (!events.is_empty()).then_some(events)
    });
    let found = found.unwrap_or_else(|| panic!("nothing about couches: {}", home.log()));
    assert!(found.iter().all(|event| event.to_string().to_lowercase().contains("couch")));
    let refused = |when: &str| {
        let output = home.run(&["events", "--kind", "nonsense"]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && told.contains("nonsense") && told.contains("model-error, rate-limit"), "{when}: {told}");
    };
    refused("running");
    drop(instance);
    refused("offline");
}

#[test]
fn an_incident_is_opened_noted_and_closed_by_hand() {
    let home = Home::new();
    let instance = home.up();
    let run = |arguments: &[&str]| {
        let output = home.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run(&["incident", "open", "Nightly report is empty", "--type", "data_corruption", "--severity", "P1"]);
    let incident = instance.incidents().remove(0);
    assert_eq!((&incident["type"], &incident["severity"]), (&"data_corruption".into(), &"SEV2".into()));
    let id = incident["id"].as_str().unwrap();
    run(&["incident", id, "ack"]);
    run(&["incident", id, "note", "Looking at the harvest table"]);
    run(&["incident", id, "severity", "SEV1", "--reason", "all customers"]);
    run(&["incident", id, "resolve", "--reason", "table restored"]);
    let detail = instance.json(&format!("/api/v1/incidents/{id}"));
    assert_eq!(detail["incident"]["severity"], "SEV1");
    assert!(detail["incident"]["resolved_at"].is_string() && detail["incident"]["acknowledged_at"].is_string(), "{detail:#}");
    assert!(detail["timeline"].to_string().contains("Looking at the harvest table"));
}

#[test]
fn connecting_claude_code_can_be_undone_to_the_byte() {
    let home = Home::new();
    let instance = home.up();
    let settings = home.claude().join("settings.json");
    let before = "{\n  \"model\": \"opus\",\n  \"env\": {\n    \"FOO\": \"1\"\n  }\n}\n";
    fs::write(&settings, before).unwrap();
    let claude_dir = home.claude();
    let connect = |option: &str| home.run(&["connect", "claude-code", option, "--claude-dir", claude_dir.to_str().unwrap()]);
    assert!(connect("--write").status.success());
    let written: Value = serde_json::from_str(&fs::read_to_string(&settings).unwrap()).unwrap();
    assert_eq!(written["env"]["FOO"], "1");
    assert_eq!(written["env"]["CLAUDE_CODE_ENABLE_TELEMETRY"], "1");
    assert!(written["hooks"]["Stop"].to_string().contains(&instance.http()));
    assert!(connect("--undo").status.success());
    let after: Value = serde_json::from_str(&fs::read_to_string(&settings).unwrap()).unwrap();
    assert_eq!(after, serde_json::from_str::<Value>(before).unwrap());
}

#[test]
fn doctor_completions_and_settings_answer_without_an_instance() {
    let home = Home::new();
    let output = home.run(&["doctor"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    for word in ["disk", "memory", "clock"] {
        assert!(told.to_lowercase().contains(word), "doctor does not tell about the {word}: {told}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = home.run(&["completions", shell]);
        assert!(script.status.success() && String::from_utf8_lossy(&script.stdout).contains("paramedic"));
    }
    assert!(home.run(&["config"]).status.success());
    let unknown = home.run(&["frobnicate"]);
    assert_eq!(unknown.status.code(), Some(2));
}

#[test]
fn the_sample_plays_by_itself_and_shows_its_incidents() {
    let home = Home::new();
    let instance = home.up_with(&["--sample", "--sample-speed", "600"]);
    let played = until(Duration::from_secs(30), || {
        let mut types: Vec<String> = instance.incidents().iter().filter_map(|one| Some(one["type"].as_str()?.to_owned())).collect();
        types.sort();
        (types == ["api_failure", "authentication", "timeout"]).then_some(())
    });
    assert!(played.is_some(), "{:#?}\n{}", instance.incidents(), home.log());
}
