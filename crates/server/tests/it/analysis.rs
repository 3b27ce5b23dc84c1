//! The known answers of recorded sessions, which are not part of the project: see the README for where they are looked for.

use std::path::PathBuf;

use paramedic_fleet::Prices;
use paramedic_model::{IncidentState, IncidentType, Timestamp};
use paramedic_server::Settings;
use paramedic_server::analysis::{Report, analyze};

fn recorded(folder: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("PARAMEDIC_SHARED_DATA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let dir = shared.join("transcripts").join(folder);
    if dir.is_dir() {
        return Some(dir);
    }
    eprintln!("skipped: there are no recorded sessions at {}", dir.display());
    None
}

fn report(folder: &str) -> Option<Report> {
    Some(analyze(&recorded(folder)?, &Settings::default(), Prices::embedded(), &mut |_| {}).unwrap())
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

#[test]
fn token_totals_are_the_known_ones() {
    let Some(report) = report("projects") else { return };
    let totals = &report.totals;
    assert_eq!(
        (totals.input_tokens, totals.output_tokens, totals.cache_read_tokens, totals.cache_creation_tokens),
        (42_613, 239_297, 139_422_844, 7_972_454)
    );
    assert_eq!((report.sessions, report.bad_lines, totals.unpriced_calls), (28, 0, 0));
}

#[test]
fn the_outage_is_one_incident_that_flapped() {
    let Some(report) = report("projects") else { return };
    let hit: Vec<_> =
        report.incidents.iter().filter(|one| one.sessions.iter().any(|session| session.as_str().starts_with("b00b80af"))).collect();
    assert_eq!(hit.len(), 1);
    let outage = hit[0];
    assert_eq!(outage.incident_type, IncidentType::ApiFailure);
    assert_eq!(outage.started_at, at("2026-01-14T10:41:23.622Z"));
    assert_eq!((outage.counts.retries, outage.counts.terminal_failures), (29, 1));
    assert_eq!(outage.counts.first_terminal_at, Some(at("2026-01-14T10:50:30.368Z")));
    assert!(outage.counts.flaps >= 3, "{:?}", outage.counts);
    assert_eq!(outage.state, IncidentState::Resolved);
    assert!(outage.mitigated_at > Some(at("2026-01-14T11:08:54Z")) && outage.resolved_at > outage.mitigated_at);
}

#[test]
fn a_terminal_error_is_one_incident_and_a_recovered_retry_is_a_note() {
    let Some(report) = report("projects") else { return };
    let of = |session: &str| {
        let incidents =
            report.incidents.iter().filter(|one| one.sessions.iter().any(|hit| hit.as_str().starts_with(session))).collect::<Vec<_>>();
        let notes = report.alerts.iter().filter(|alert| alert.incident.is_none() && alert.agent.as_str().starts_with(session)).count();
        (incidents, notes)
    };
    let (failed, _) = of("a032db5a");
    assert_eq!(failed.len(), 1);
    assert_eq!((failed[0].started_at, failed[0].counts.terminal_failures), (at("2026-02-04T16:29:16.711Z"), 1));
    let (recovered, notes) = of("a318ad73");
    assert!(recovered.is_empty());
    assert_eq!(notes, 1);
}

#[test]
fn healthy_sessions_have_no_incident() {
    for (folder, incidents) in [("projects", 2), ("subagents", 0), ("overlapping-snapshots", 0), ("fasthooks", 0), ("claude-code-log", 0)] {
        let Some(report) = report(folder) else { return };
        assert_eq!(report.incidents.len(), incidents, "{folder}: {:#?}", report.incidents);
    }
}

#[test]
fn the_sample_fleet_shows_the_three_incidents_it_promises() {
    let sample = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../sample");
    let report = analyze(&sample, &Settings::default(), Prices::embedded(), &mut |_| {}).unwrap();
    let found: Vec<_> =
        report.incidents.iter().map(|one| (one.incident_type, one.started_at, one.sessions.len(), one.counts.retries)).collect();
    assert_eq!(
        found,
        [
            (IncidentType::ApiFailure, at("2026-01-01T12:06:04Z"), 3, 26),
            (IncidentType::Timeout, found[1].1, 1, 0),
            (IncidentType::Authentication, at("2026-01-01T12:15:05Z"), 1, 0),
        ]
    );
}

#[test]
fn what_cannot_be_read_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let analyze = |path: &std::path::Path| analyze(path, &Settings::default(), Prices::embedded(), &mut |_| {});
    assert!(analyze(dir.path()).unwrap_err().to_string().contains("no transcripts"));
    assert!(analyze(&dir.path().join("missing")).unwrap_err().to_string().contains("missing"));
    std::fs::write(dir.path().join("a.jsonl"), "not json\n{\"type\":\"user\"\n\0\0\0\n").unwrap();
    let report = analyze(dir.path()).unwrap();
    assert_eq!((report.bad_lines, report.lines), (3, 3));
    assert!(report.bad_line_examples[0].contains("a.jsonl:1"), "{:?}", report.bad_line_examples);
}
