//! Real transcripts, read by a reader that knows no more than counting needs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use paramedic_fleet::{Fleet, Novelty};
use paramedic_model::{AgentId, Event, Fact, SessionId, Source, Timestamp, ToolOutcome, Usage};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use crate::told::fleet;

pub(crate) fn shared_data(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("PARAMEDIC_SHARED_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let path = root.join(path);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} is not here", path.display());
    None
}

pub(crate) fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "jsonl") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The events of a transcript, with the uid of their line.
pub(crate) fn events(path: &Path) -> Vec<Event> {
    let bytes = std::fs::read(path).unwrap();
    let mut out = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(value) = serde_json::from_slice::<Value>(line) {
            read_line(&value, &mut out);
        }
    }
    out
}

fn read_line(line: &Value, out: &mut Vec<Event>) {
    let Some(session) = line["sessionId"].as_str() else { return };
    let Some(at) = line["timestamp"].as_str().and_then(Timestamp::parse) else { return };
    let session = SessionId::from(session);
    let nested = &line["data"]["message"];
    let subagent = line["agentId"].as_str().or_else(|| line["data"]["agentId"].as_str());
    let mut base = Event::new(at, Source::Transcript, line["type"].as_str().unwrap_or("unknown"));
    base.agent = Some(subagent.map_or_else(|| AgentId::of_session(&session), |id| AgentId::of_subagent(&session, id)));
    base.session = Some(session);
    base.uid = line["uuid"].as_str().map(|uuid| xxh3_64(uuid.as_bytes()));
    match line["type"].as_str() {
        Some("assistant") => assistant(line, &base, out),
        Some("user") => user(line, &base, out),
        Some("progress") if nested["type"] == "assistant" => assistant(nested, &base, out),
        Some("progress") if nested["type"] == "user" => user(nested, &base, out),
        _ => {}
    }
}

fn assistant(line: &Value, base: &Event, out: &mut Vec<Event>) {
    let message = &line["message"];
    let text = |value: &Value| value.as_str().map(Box::<str>::from);
    let count = |name: &str| message["usage"][name].as_u64().unwrap_or(0);
    let mut event = base.clone();
    event.correlation.request = text(&line["requestId"]);
    event.fact = Fact::ModelCall {
        message: text(&message["id"]),
        model: text(&message["model"]),
        usage: Usage {
            input_tokens: count("input_tokens"),
            output_tokens: count("output_tokens"),
            cache_read_tokens: count("cache_read_input_tokens"),
            cache_creation_tokens: count("cache_creation_input_tokens"),
            cache_creation_1h_tokens: message["usage"]["cache_creation"]["ephemeral_1h_input_tokens"].as_u64().unwrap_or(0),
        },
        cost_usd: None,
        duration: None,
        time_to_first_token: None,
        stop_reason: text(&message["stop_reason"]),
        text_hash: None,
    };
    out.push(event);
    for block in message["content"].as_array().into_iter().flatten().filter(|block| block["type"] == "tool_use") {
        let mut event = base.clone();
        event.fact = Fact::ToolCall { id: text(&block["id"]), tool: text(&block["name"]).unwrap(), input_hash: Some(1) };
        out.push(event);
    }
}

fn user(line: &Value, base: &Event, out: &mut Vec<Event>) {
    let content = &line["message"]["content"];
    let mut event = base.clone();
    if content.is_string() {
        event.fact = Fact::Prompt;
        out.push(event);
        return;
    }
    for block in content.as_array().into_iter().flatten().filter(|block| block["type"] == "tool_result") {
        let outcome = if block["is_error"] == true { ToolOutcome::Error } else { ToolOutcome::Success };
        let id = block["tool_use_id"].as_str().map(Into::into);
        let mut event = base.clone();
        event.fact = Fact::ToolResult { id, tool: None, outcome, result_hash: None, duration: None };
        out.push(event);
    }
}

pub(crate) fn observe_all<'a>(fleet: &mut Fleet, events: impl IntoIterator<Item = &'a Event>) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    for event in events {
        let name = match fleet.observe(event) {
            Novelty::New => "new",
            Novelty::Update => "update",
            Novelty::Duplicate => "duplicate",
        };
        *counts.entry(name).or_default() += 1;
    }
    counts
}

#[test]
fn the_corpus_has_its_known_totals_and_reading_it_again_changes_nothing() {
    let Some(root) = shared_data("transcripts/projects") else { return };
    let events: Vec<Event> = files(&root).iter().flat_map(|path| events(path)).collect();
    let mut fleet = fleet();
    observe_all(&mut fleet, &events);
    let totals = fleet.totals();
    let usage = totals.usage;
    let known = (42_613, 239_297, 139_422_844, 7_972_454);
    assert_eq!((usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_creation_tokens), known);
    assert!(totals.cost.is_complete(), "{:?}", totals.cost);

    let again = observe_all(&mut fleet, &events);
    assert_eq!(again.get("new"), None, "{again:?}");
    assert_eq!(again.get("update"), None, "{again:?}");
    assert_eq!(fleet.totals(), totals);

    let report = fleet.cost_report();
    let by_agent: f64 = report.by_agent.iter().map(|agent| agent.sum.cost.usd_known()).sum();
    let by_day: f64 = report.by_day.iter().map(|day| day.sum.cost.usd_known()).sum();
    let by_model: f64 = report.by_model.iter().map(|model| model.sum.cost.usd_known()).sum();
    let total = totals.cost.usd.unwrap();
    for sum in [by_agent, by_day, by_model] {
        assert!((sum - total).abs() < 1e-6, "{sum} != {total}");
    }
}

fn collected(root: &Path) -> Vec<Event> {
    let mut all = Vec::new();
    for path in files(root) {
        let options = paramedic_collect::transcript::ParseOptions { capture_text: false };
        paramedic_collect::transcript::read_file(&path, options, &mut |events| all.append(events)).unwrap();
    }
    all
}

/// With the real reader, which tells more kinds of facts.
#[test]
fn the_collected_corpus_has_its_known_totals() {
    let Some(root) = shared_data("transcripts/projects") else { return };
    let events = collected(&root);
    let mut fleet = fleet();
    observe_all(&mut fleet, &events);
    let usage = fleet.totals().usage;
    let known = (42_613, 239_297, 139_422_844, 7_972_454);
    assert_eq!((usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_creation_tokens), known);
    let totals = fleet.totals();
    let again = observe_all(&mut fleet, &events);
    assert_eq!((again.get("new"), again.get("update")), (None, None), "{again:?}");
    assert_eq!(fleet.totals().usage, totals.usage);

    let outage = fleet.agent(&"b00b80af-879f-4265-b95b-48db0938673c".into()).unwrap();
    assert_eq!(outage.retries, 29);
    assert!(outage.model_errors >= 1 && outage.last_error.is_some(), "{outage:?}");
    assert!(outage.turns > 0 && outage.tool_calls > 0 && outage.context_tokens > 0, "{outage:?}");
    assert_eq!((outage.model.is_some(), outage.context_limit.is_some()), (true, true));
    let points = fleet.series(&outage.id);
    assert!((10..=120).contains(&points.len()), "{}", points.len());
    assert!(points.windows(2).all(|pair| pair[0].calls <= pair[1].calls && pair[0].at < pair[1].at));

    // Months later, all of it is history.
    let newest = fleet.agents().map(paramedic_fleet::Agent::last_event_at).max().unwrap();
    fleet.tick(newest.after(std::time::Duration::from_secs(90 * 86_400)));
    assert_eq!(fleet.totals().by_state["done"], fleet.totals().agents);
}

#[test]
fn collected_snapshots_count_once() {
    let Some(root) = shared_data("transcripts/overlapping-snapshots") else { return };
    let simple: Vec<Event> = files(&root).iter().flat_map(|path| events(path)).collect();
    let (mut one, mut other) = (fleet(), fleet());
    observe_all(&mut one, &collected(&root));
    observe_all(&mut other, &simple);
    assert_eq!(one.totals().usage, other.totals().usage);
    assert!(one.totals().calls > 0);
}

/// The same in the reverse order of files and of lines: nothing depends on who is read first.
#[test]
fn the_corpus_has_the_same_totals_backwards() {
    let Some(root) = shared_data("transcripts/projects") else { return };
    let events: Vec<Event> = files(&root).iter().flat_map(|path| events(path)).collect();
    let (mut forwards, mut backwards) = (fleet(), fleet());
    observe_all(&mut forwards, &events);
    observe_all(&mut backwards, events.iter().rev());
    assert_eq!(backwards.totals().usage, forwards.totals().usage);
    assert_eq!(backwards.totals().cost, forwards.totals().cost);
    assert_eq!(backwards.totals().tool_calls, forwards.totals().tool_calls);
}

#[test]
fn overlapping_snapshots_count_once() {
    let Some(root) = shared_data("transcripts/overlapping-snapshots") else { return };
    let mut sessions: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for path in files(&root) {
        sessions.entry(path.parent().unwrap().to_owned()).or_default().push(path);
    }
    assert!(!sessions.is_empty());
    for snapshots in sessions.values() {
        let (mut all, mut longest) = (fleet(), fleet());
        for path in snapshots {
            observe_all(&mut all, &events(path));
        }
        observe_all(&mut longest, &events(snapshots.last().unwrap()));
        assert!(longest.totals().calls > 0);
        assert_eq!(all.totals().usage, longest.totals().usage, "{snapshots:?}");
        assert_eq!(all.totals().turns, longest.totals().turns, "{snapshots:?}");
        assert_eq!(all.totals().tool_calls, longest.totals().tool_calls, "{snapshots:?}");
    }
}

/// Not run by default: prints what one gigabyte of transcripts costs here.
#[test]
#[ignore = "a measurement; run it with --release --ignored --nocapture"]
fn measure_observing() {
    let Some(root) = shared_data("transcripts/projects") else { return };
    let once: Vec<Event> = files(&root).iter().flat_map(|path| events(path)).collect();
    let copies = 230_000 / once.len() + 1;
    let mut many = Vec::with_capacity(once.len() * copies);
    for copy in 0..copies as u64 {
        many.extend(once.iter().map(|event| renamed(event, copy)));
    }
    let before = resident_kb();
    let mut fleet = fleet();
    let start = cpu_time();
    observe_all(&mut fleet, &many);
    let (spent, after) = (cpu_time() - start, resident_kb());
    let saved = cpu_time();
    let bytes = fleet.save().len();
    let saving = cpu_time() - saved;
    let now = many.iter().map(|event| event.at).max().unwrap();
    let ticking = cpu_time();
    fleet.tick(now);
    eprintln!(
        "{} events, {} agents: {spent:.3} s CPU, {} kB more resident, checkpoint {bytes} bytes in {saving:.3} s, tick {:.4} s",
        many.len(),
        fleet.totals().agents,
        after - before,
        cpu_time() - ticking,
    );
}

fn renamed(event: &Event, copy: u64) -> Event {
    let mut event = event.clone();
    let rename = |id: &str| format!("{id}-{copy}");
    event.uid = event.uid.map(|uid| xxh3_64(&(uid ^ copy << 48).to_le_bytes()));
    event.session = event.session.map(|id| SessionId::new(rename(id.as_str())));
    event.agent = event.agent.map(|id| {
        let (session, subagent) = id.as_str().split_once('/').unwrap_or((id.as_str(), ""));
        AgentId::new(if subagent.is_empty() { rename(session) } else { format!("{}/{subagent}", rename(session)) })
    });
    event.correlation.request = event.correlation.request.map(|id| rename(&id).into());
    match &mut event.fact {
        Fact::ModelCall { message, .. } => *message = message.take().map(|id| rename(&id).into()),
        Fact::ToolCall { id, .. } | Fact::ToolResult { id, .. } => *id = id.take().map(|id| rename(&id).into()),
        _ => {}
    }
    event
}

fn resident_kb() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// CPU seconds of this thread.
fn cpu_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e9
}
