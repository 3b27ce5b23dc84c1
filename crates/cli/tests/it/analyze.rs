//! Reading records afterwards: known answers.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fixture::Home;
use crate::{skip, tools};

fn analyze(folder: &Path) -> Value {
    Home::new().json(&["analyze", folder.to_str().unwrap(), "--json", "--no-cache"])
}

fn incidents_of<'a>(report: &'a Value, session: &str) -> Vec<&'a Value> {
    let incidents = report["incidents"].as_array().unwrap();
    incidents.iter().filter(|one| one["sessions"].to_string().contains(session)).collect()
}

#[test]
fn the_sample_has_the_incidents_that_its_description_promises() {
    let report = analyze(&tools::workspace().join("sample/projects"));
    let incidents = report["incidents"].as_array().unwrap();
    let mut found: Vec<(String, String)> = incidents
        .iter()
        .map(|one| (one["type"].as_str().unwrap().to_owned(), one["started_at"].as_str().unwrap()[..19].to_owned()))
        .collect();
    found.sort();
    let expected = [("api_failure", "2026-01-01T12:06:04"), ("authentication", "2026-01-01T12:15:05"), ("timeout", "2026-01-01T12:12:01")];
    assert_eq!(found, expected.map(|(kind, at)| (kind.to_owned(), at.to_owned())), "{incidents:#?}");
    let outage = incidents.iter().find(|one| one["type"] == "api_failure").unwrap();
    assert_eq!(outage["counts"]["retries"], 26, "{outage:#}");
    assert_eq!(outage["counts"]["terminal_failures"], 1, "{outage:#}");
    assert_eq!(outage["sessions"].as_array().unwrap().len(), 3, "{outage:#}");
    assert_eq!(report["agents"], 8, "six sessions and two sub-agents");
}

#[test]
fn token_totals_of_real_sessions_are_exact() {
    let Some(sessions) = tools::real_sessions() else { skip!("no recorded sessions (PARAMEDIC_SHARED_DATA)") };
    let totals = &analyze(&sessions)["totals"];
    let expected = [
        ("input_tokens", 42_613),
        ("output_tokens", 239_297),
        ("cache_read_tokens", 139_422_844_u64),
        ("cache_creation_tokens", 7_972_454),
    ];
    for (kind, tokens) in expected {
        assert_eq!(totals[kind], tokens, "{kind}");
    }
    assert!(totals["cost_usd"].as_f64().is_some_and(|cost| cost > 0.0));
}

#[test]
fn a_real_outage_is_one_incident_from_onset_to_end() {
    let Some(sessions) = tools::real_sessions() else { skip!("no recorded sessions (PARAMEDIC_SHARED_DATA)") };
    let report = analyze(&sessions);
    let outage = incidents_of(&report, "b00b80af");
    assert_eq!(outage.len(), 1, "{outage:#?}");
    let outage = outage[0];
    assert_eq!(outage["type"], "api_failure");
    assert!(outage["started_at"].as_str().unwrap().starts_with("2026-01-14T10:41:23"), "{outage:#}");
    assert_eq!(outage["counts"]["retries"], 29);
    assert_eq!(outage["counts"]["terminal_failures"], 1);
    assert!(outage["counts"]["first_terminal_at"].as_str().unwrap().starts_with("2026-01-14T10:50:30"), "{outage:#}");
    assert!(outage["counts"]["flaps"].as_u64().unwrap() >= 1, "six bursts: {outage:#}");
    assert!(outage["resolved_at"].as_str().unwrap() > "2026-01-14T11:08:54", "{outage:#}");
}

#[test]
fn a_real_server_error_is_one_incident_and_a_recovered_retry_is_a_note() {
    let Some(sessions) = tools::real_sessions() else { skip!("no recorded sessions (PARAMEDIC_SHARED_DATA)") };
    let report = analyze(&sessions);
    let failed = incidents_of(&report, "a032db5a");
    assert_eq!(failed.len(), 1, "{failed:#?}");
    assert_eq!(failed[0]["type"], "api_failure");
    assert_eq!(failed[0]["counts"]["terminal_failures"], 1);
    assert_eq!(incidents_of(&report, "a318ad73").len(), 0);
    let noted = report["alerts"].as_array().unwrap().iter().any(|alert| alert["agent"].to_string().contains("a318ad73"));
    assert!(noted, "the recovered retry is noted");
}

#[test]
fn healthy_real_sessions_open_no_incident() {
    let Some(sessions) = tools::real_sessions() else { skip!("no recorded sessions (PARAMEDIC_SHARED_DATA)") };
    let report = analyze(&sessions);
    let incidents = report["incidents"].as_array().unwrap();
    assert_eq!(incidents.len(), 2, "{incidents:#?}");
}

#[test]
fn the_same_sessions_a_second_time_are_answered_from_the_cache() {
    let home = Home::new();
    let folder = tools::workspace().join("sample/projects");
    let arguments = ["analyze", folder.to_str().unwrap(), "--json"];
    let first = home.json(&arguments);
    let begin = Instant::now();
    assert_eq!(home.json(&arguments), first);
    assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
}

#[test]
fn one_file_and_an_empty_folder_are_answered_too() {
    let home = Home::new();
    let sample = tools::workspace().join("sample/projects/-home-mira-orchard");
    let file = std::fs::read_dir(sample).unwrap().next().unwrap().unwrap().path();
    let report = home.json(&["analyze", file.to_str().unwrap(), "--json"]);
    assert_eq!(report["agents"], 1);
    assert_eq!(report["incidents"][0]["type"], "authentication");
    let empty = home.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let output = home.run(&["analyze", empty.to_str().unwrap(), "--json"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("empty") || told.contains("\"agents\":0") || told.contains("\"agents\": 0"), "{told}");
}
