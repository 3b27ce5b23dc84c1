//! The detectors on recorded sessions: what they must say, and what they must not.

use std::collections::{BTreeMap, BTreeSet};

use paramedic_detect::{AlertChange, CATALOGUE, Detectors, Settings};
use paramedic_model::{AlertState, Event};

use crate::transcript;

fn run(events: &[Event]) -> Vec<AlertChange> {
    let (mut detectors, mut out) = (Detectors::new(Settings::default()), Vec::new());
    for event in events {
        detectors.observe(event, &mut out);
    }
    detectors.finish(&mut out);
    out
}

#[test]
fn false_alarms() {
    let Some(root) = transcript::recorded() else { return };
    let mut notes: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut critical: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let (mut calls, mut files) = (0, 0);
    for folder in ["projects", "subagents", "overlapping-snapshots"] {
        for file in transcript::files(&root.join(folder)) {
            let events = transcript::read(&file);
            files += 1;
            calls += events.iter().filter(|event| event.fact.kind() == "tool-call").count();
            let name = file.strip_prefix(&root).unwrap().display().to_string();
            for change in run(&events) {
                if change.state == AlertState::Resolved {
                    let (map, episode) = if change.severity.is_some() { (&mut critical, "crit") } else { (&mut notes, "note") };
                    let detector = CATALOGUE.iter().find(|info| info.name == change.detector).unwrap().name;
                    map.entry(detector).or_default().insert(format!("{name} {}", change.started_at));
                    println!("{episode} {name} {} {} {} {:?}", change.detector, change.started_at, change.reason, change.counts);
                }
            }
        }
    }
    println!("{files} files, {calls} tool calls");
    for info in CATALOGUE {
        println!("{} notes={} critical={}", info.name, notes.get(info.name).map_or(0, |s| s.len()), critical.get(info.name).map_or(0, |s| s.len()));
    }
}
