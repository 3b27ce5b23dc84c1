//! Runs the detectors over recorded sessions and prints, per detector, what they said; then the time per event.
//!
//! `cargo run --release -p paramedic-detect --example false_alarms -- DIR...`

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use paramedic_collect::transcript::{ParseOptions, discover, read_file};
use paramedic_detect::{AlertChange, CATALOGUE, Detectors, Settings};
use paramedic_model::{AlertState, Event};

fn main() -> Result<(), Box<dyn Error>> {
    let mut recorded: Vec<(String, Vec<Event>)> = Vec::new();
    for root in std::env::args().skip(1) {
        for file in discover(Path::new(&root))? {
            let (mut seen, mut events) = (BTreeSet::new(), Vec::new());
            read_file(&file.path, ParseOptions::default(), &mut |group| {
                events.extend(group.drain(..).filter(|event| event.uid.is_none_or(|uid| seen.insert(uid))));
            })?;
            recorded.push((file.path.display().to_string(), events));
        }
    }
    let mut said: Vec<(&str, AlertChange)> = Vec::new();
    for (name, events) in &recorded {
        said.extend(run(events).into_iter().filter(|change| change.state == AlertState::Resolved).map(|change| (name.as_str(), change)));
    }
    print_table(&said);
    for (name, change) in &said {
        let weight = change.severity.map_or("note", |severity| severity.as_str());
        println!("{weight} {} {} {}: {}", name.rsplit('/').next().unwrap_or(name), change.started_at, change.detector, change.reason);
    }
    let calls = recorded.iter().flat_map(|(_, events)| events).filter(|event| event.kind() == "tool-call").count();
    println!("{} files, {calls} tool calls", recorded.len());
    print_time(&recorded);
    Ok(())
}

fn run(events: &[Event]) -> Vec<AlertChange> {
    let (mut detectors, mut out) = (Detectors::new(Settings::default()), Vec::new());
    for event in events {
        detectors.observe(event, &mut out);
    }
    detectors.finish(&mut out);
    out
}

fn print_table(said: &[(&str, AlertChange)]) {
    println!("| detector | notes | worth an incident | sessions with a note | sessions with an incident |\n|---|---|---|---|---|");
    for info in CATALOGUE {
        let of = |worth: bool| said.iter().filter(move |(_, change)| change.detector == info.name && change.severity.is_some() == worth);
        let sessions = |worth: bool| of(worth).map(|(name, _)| *name).collect::<BTreeSet<_>>().len();
        println!("| `{}` | {} | {} | {} | {} |", info.name, of(false).count(), of(true).count(), sessions(false), sessions(true));
    }
}

/// The best of several passes: what the detectors cost, without what else the machine does.
fn print_time(recorded: &[(String, Vec<Event>)]) {
    let count: usize = recorded.iter().map(|(_, events)| events.len()).sum();
    let mut best = f64::MAX;
    for _ in 0..9 {
        let (mut detectors, mut out) = (Detectors::new(Settings::default()), Vec::new());
        let start = Instant::now();
        for event in recorded.iter().flat_map(|(_, events)| events) {
            detectors.observe(event, &mut out);
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!("{count} events, {:.3} microseconds per event", best * 1e6 / count.max(1) as f64);
    print_crowd(recorded);
}

/// Many agents at once, one event each in turn: no help from the agent of the last event; then one tick over them all.
fn print_crowd(recorded: &[(String, Vec<Event>)]) {
    const AGENTS: usize = 10_000;
    let Some((_, events)) = recorded.iter().max_by_key(|(_, events)| events.len()) else { return };
    let mut crowd: Vec<Event> = Vec::new();
    for event in events.iter().filter(|event| event.agent.is_some()).take(50) {
        crowd.extend((0..AGENTS).map(|n| Event { agent: Some(format!("agent-{n}").as_str().into()), ..event.clone() }));
    }
    let (mut detectors, mut out) = (Detectors::new(Settings::default()), Vec::new());
    let start = Instant::now();
    for event in &crowd {
        detectors.observe(event, &mut out);
    }
    let observed = start.elapsed().as_secs_f64();
    let now = crowd.last().map_or_else(Default::default, |event| event.at);
    let start = Instant::now();
    detectors.tick(now, &mut out);
    let ticked = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let saved = detectors.save().len();
    println!(
        "{AGENTS} agents in turn: {:.3} microseconds per event; a tick {:.2} ms; a save {:.0} ms, {} KB",
        observed * 1e6 / crowd.len() as f64,
        ticked * 1e3,
        start.elapsed().as_secs_f64() * 1e3,
        saved / 1000
    );
}
