//! The detectors on recorded sessions: what they must say, and what they must not.

use std::path::{Path, PathBuf};

use paramedic_detect::{AlertChange, Detectors, Settings};
use paramedic_model::{AlertState, ApiErrorClass, Event, Fact, Severity, Timestamp};

use crate::transcript;

fn run(events: &[Event]) -> Vec<AlertChange> {
    let (mut detectors, mut out) = (Detectors::new(Settings::default()), Vec::new());
    for event in events {
        detectors.observe(event, &mut out);
    }
    detectors.finish(&mut out);
    out
}

/// The last change of every episode.
fn episodes(events: &[Event]) -> Vec<AlertChange> {
    run(events).into_iter().filter(|change| change.state == AlertState::Resolved).collect()
}

fn session(root: &Path, id: &str) -> Vec<Event> {
    let found: Vec<PathBuf> =
        transcript::files(&root.join("projects")).into_iter().filter(|file| file.to_string_lossy().contains(id)).collect();
    assert_eq!(found.len(), 1, "{id}");
    transcript::read(&found[0])
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

/// Sessions during which the model API really failed.
const FAILED: [&str; 2] = ["b00b80af", "a032db5a"];

#[test]
fn no_healthy_session_is_worth_an_incident() {
    let Some(root) = transcript::recorded() else { return };
    let mut healthy = 0;
    for folder in ["projects", "subagents", "overlapping-snapshots", "claude-code-log", "fasthooks"] {
        for file in transcript::files(&root.join(folder)) {
            let name = file.display().to_string();
            if FAILED.iter().any(|id| name.contains(id)) {
                continue;
            }
            healthy += 1;
            let worth: Vec<_> = run(&transcript::read(&file)).into_iter().filter(|change| change.severity.is_some()).collect();
            // One file of the format samples is a message that says that the limit was reached: that one is right.
            let right = worth.iter().all(|change| folder == "claude-code-log" && change.counts.class.is_some());
            assert!(right, "{name}: {worth:#?}");
        }
    }
    assert!(healthy >= 39, "{healthy} healthy sessions");
}

#[test]
fn the_outage_is_told_whole() {
    let Some(root) = transcript::recorded() else { return };
    let ended = episodes(&session(&root, "b00b80af"));
    assert!(ended.len() <= 6 && ended.iter().all(|change| change.cause == "api_failure"), "{ended:#?}");
    assert_eq!(ended.iter().map(|change| change.counts.retries).sum::<u64>(), 29);
    assert_eq!(ended.iter().map(|change| change.counts.terminal_failures).sum::<u64>(), 1);
    assert_eq!(ended.iter().map(|change| change.started_at).min(), Some(at("2026-01-14T10:41:23.622Z")));
    assert_eq!(ended.iter().find_map(|change| change.counts.terminal_at), Some(at("2026-01-14T10:50:30.368Z")));
    assert_eq!(ended.iter().map(|change| change.at).max(), Some(at("2026-01-14T11:09:38.023Z")));
    assert_eq!(ended.iter().map(|change| change.severity).max(), Some(Some(Severity::Sev2)));
    assert!(ended.iter().all(|change| change.counts.status == Some(529) && change.counts.class == Some(ApiErrorClass::Overloaded)));
    let exhausted = ended.iter().find(|change| change.detector == "retries-exhausted").expect("told");
    assert!(exhausted.reason.starts_with("model API overloaded (529): all 10 retries failed in 3 min 24 s"), "{}", exhausted.reason);
}

#[test]
fn a_terminal_error_is_one_alert() {
    let Some(root) = transcript::recorded() else { return };
    let ended = episodes(&session(&root, "a032db5a"));
    assert_eq!(ended.len(), 1, "{ended:#?}");
    assert_eq!((ended[0].detector.as_ref(), ended[0].cause.as_str()), ("api-terminal-error", "api_failure"));
    assert_eq!((ended[0].started_at, ended[0].counts.status), (at("2026-02-04T16:29:16.711Z"), Some(500)));
    assert_eq!(ended[0].severity, Some(Severity::Sev2));
}

#[test]
fn a_recovered_retry_is_a_note() {
    let Some(root) = transcript::recorded() else { return };
    let ended = episodes(&session(&root, "a318ad73"));
    assert_eq!(ended.len(), 1, "{ended:#?}");
    assert_eq!((ended[0].detector.as_ref(), ended[0].severity, ended[0].counts.retries), ("network", None, 1));
}

/// Only the first news about each model message, as a pipeline hands on that drops everything told before.
fn first_news(events: &[Event]) -> Vec<Event> {
    let mut seen = std::collections::HashSet::new();
    let is_first = |event: &&Event| match &event.fact {
        Fact::ModelCall { message: Some(message), .. } => seen.insert(message.clone()),
        _ => true,
    };
    events.iter().filter(is_first).cloned().collect()
}

#[test]
fn further_news_about_a_message_change_no_incident() {
    let Some(root) = transcript::recorded() else { return };
    for file in transcript::files(&root.join("projects")) {
        let events = transcript::read(&file);
        let worth = |events: &[Event]| -> Vec<(String, Timestamp, Timestamp, u64)> {
            let worth = episodes(events).into_iter().filter(|change| change.severity.is_some());
            worth.map(|change| (change.detector.into_owned(), change.started_at, change.at, change.counts.retries)).collect()
        };
        assert_eq!(worth(&events), worth(&first_news(&events)), "{}", file.display());
    }
}

/// As if somebody had watched: a tick every five seconds of the recorded time, and for half an hour after the end.
fn watched(events: &[Event]) -> Vec<AlertChange> {
    let (mut detectors, mut out) = (Detectors::new(Settings::default()), Vec::new());
    let Some(first) = events.first() else { return out };
    let step = std::time::Duration::from_secs(5);
    let mut now = first.at;
    for event in events {
        // Nights between two prompts need no ticks of five seconds; the machine slept.
        if event.at.since(now).as_secs() > 7_200 {
            now = event.at.before(step);
        }
        while now.after(step) < event.at {
            now = now.after(step);
            detectors.tick(now, &mut out);
        }
        detectors.observe(event, &mut out);
    }
    for _ in 0..360 {
        now = now.after(step);
        detectors.tick(now, &mut out);
    }
    out
}

#[test]
fn watching_healthy_sessions_live_raises_no_incident_either() {
    let Some(root) = transcript::recorded() else { return };
    for folder in ["projects", "subagents", "overlapping-snapshots"] {
        for file in transcript::files(&root.join(folder)) {
            if FAILED.iter().any(|id| file.to_string_lossy().contains(id)) {
                continue;
            }
            for change in watched(&transcript::read(&file)) {
                assert!(change.severity.is_none(), "{}: {change:#?}", file.display());
            }
        }
    }
}

/// The tool steps of a session: positions of calls whose result follows at once.
fn steps(events: &[Event]) -> Vec<usize> {
    let pair = |i: &usize| {
        matches!(
            (&events[*i].fact, &events[*i + 1].fact),
            (Fact::ToolCall { id: call, .. }, Fact::ToolResult { id: result, outcome: paramedic_model::ToolOutcome::Success, .. }) if call == result
        )
    };
    (0..events.len().saturating_sub(1)).filter(pair).collect()
}

/// Repeats `period` recorded steps `times` times in the place where they stand, with fresh ids and moving time.
fn inject(events: &[Event], first: usize, period: &[usize], times: usize) -> (Vec<Event>, Timestamp) {
    let mut out = events[..first].to_vec();
    let mut now = events[first].at;
    let began = now;
    for turn in 0..times {
        for (place, start) in period.iter().enumerate() {
            let name = format!("injected-{turn}-{place}");
            for step in &events[*start..=*start + 1] {
                let mut event = step.clone();
                now = now.after(std::time::Duration::from_secs(1));
                event.at = now;
                event.correlation.request = Some(name.as_str().into());
                match &mut event.fact {
                    Fact::ToolCall { id, .. } | Fact::ToolResult { id, .. } => *id = Some(name.as_str().into()),
                    _ => {}
                }
                out.push(event);
            }
        }
    }
    (out, began)
}

/// How many steps pass until the loop is worth an incident.
fn delay(changes: &[AlertChange], began: Timestamp) -> Option<u64> {
    let found = changes.iter().find(|change| change.severity.is_some() && change.at > began && change.cause.starts_with("stuck:"))?;
    Some(found.at.since(began).as_secs().div_ceil(2))
}

#[test]
fn loops_put_into_recorded_sessions_are_found() {
    let Some(root) = transcript::recorded() else { return };
    let (mut tried, mut slowest) = (0, [0; 5]);
    for file in transcript::files(&root.join("projects")) {
        let events = transcript::read(&file);
        let steps: Vec<usize> = steps(&events);
        for (period, slowest) in slowest.iter_mut().enumerate() {
            let Some(period_steps) = steps.get(steps.len() / 2..steps.len() / 2 + period + 1) else { continue };
            let inputs: std::collections::HashSet<String> = period_steps.iter().map(|i| format!("{:?}", shape(&events[*i]))).collect();
            if inputs.len() <= period {
                continue;
            }
            let (looping, began) = inject(&events, period_steps[0], period_steps, 6);
            let found = delay(&run(&looping), began);
            tried += 1;
            *slowest = (*slowest).max(found.unwrap_or_else(|| panic!("{}: a loop of {} calls was missed", file.display(), period + 1)));
        }
    }
    println!("{tried} loops injected; slowest detection in steps by period 1 to 5: {slowest:?}");
    assert!(tried > 60, "{tried}");
    for (period, slowest) in slowest.iter().enumerate() {
        let most = if period == 0 { 5 } else { 3 * (period as u64 + 1) };
        assert!(*slowest <= most, "period {}: {slowest} steps", period + 1);
    }
}

fn shape(event: &Event) -> Option<(&str, u64)> {
    match &event.fact {
        Fact::ToolCall { tool, input_hash, .. } => Some((tool, input_hash.unwrap_or(0))),
        _ => None,
    }
}
