//! Transcripts: made-up lines of every type, real ones against a second opinion, and arbitrary ones.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use paramedic_collect::transcript::{ParseOptions, Parser, discover, read_file};
use paramedic_model::{ApiErrorClass, Event, Fact, Level, Timestamp, ToolOutcome, Usage};
use proptest::prelude::*;

use crate::reference::{Reference, essence};

const FACTS_ONLY: ParseOptions = ParseOptions { capture_text: false };
const WITH_TEXT: ParseOptions = ParseOptions { capture_text: true };

/// The folder of real recordings, where it exists.
pub(crate) fn recordings() -> Option<PathBuf> {
    let folder = std::env::var_os("PARAMEDIC_SHARED_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from)
        .join("transcripts");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no recordings at {}", folder.display());
    None
}

fn parse_at(path: &str, options: ParseOptions, lines: &[&str]) -> (Vec<Event>, Parser) {
    let mut parser = Parser::new(options, Path::new(path));
    let mut events = Vec::new();
    for line in lines {
        parser.parse(line.as_bytes(), &mut events);
    }
    parser.finish(&mut events);
    (events, parser)
}

fn facts(lines: &[&str]) -> Vec<Fact> {
    let (events, _) = parse_at("/p/s1.jsonl", FACTS_ONLY, lines);
    events.into_iter().map(|event| event.fact).filter(|fact| !matches!(fact, Fact::SessionStarted { .. })).collect()
}

/// A line of the session `s1`; `rest` adds members.
fn line(kind: &str, rest: &str) -> String {
    format!(
        r#"{{"parentUuid":null,"isSidechain":false,"cwd":"/repo","sessionId":"s1","version":"2.1.9","gitBranch":"main","type":"{kind}",{rest},"uuid":"u1","timestamp":"2026-01-14T10:41:23.622Z"}}"#
    )
}

fn user_says(content: &str) -> String {
    line("user", &format!(r#""message":{{"role":"user","content":{content}}}"#))
}

#[test]
fn what_a_user_line_means() {
    for (content, kind) in [
        (r#""fix the build""#, "prompt"),
        (r#"[{"type":"text","text":"fix the build"}]"#, "prompt"),
        (r#"[{"type":"image","source":{"data":"aGVsbG8="}}]"#, "prompt"),
        (r#""<command-message>plan</command-message>\n<command-name>/plan</command-name>""#, "prompt"),
        (r#""<task-notification>done</task-notification>""#, "prompt"),
        (r#""<command-name>/exit</command-name>""#, "record"),
        (r#""<local-command-stdout>Bye!</local-command-stdout>""#, "record"),
        (r#""[Request interrupted by user]""#, "turn-ended"),
        (r#"[{"type":"text","text":"[Request interrupted by user for tool use]"}]"#, "turn-ended"),
    ] {
        let kinds: Vec<_> = facts(&[&user_says(content)]).iter().map(Fact::kind).collect();
        assert_eq!(kinds, [kind], "{content}");
    }
    let meta = line("user", r#""message":{"role":"user","content":"Caveat"},"isMeta":true"#);
    assert_eq!(facts(&[&meta]), [Fact::Record]);
    let summary = line("user", r#""message":{"role":"user","content":"The story so far"},"isCompactSummary":true"#);
    assert_eq!(facts(&[&summary]), [Fact::Record]);
}

#[test]
fn how_a_tool_call_ended() {
    for (content, is_error, outcome) in [
        (r#""ok""#, "", ToolOutcome::Success),
        (r#""ok""#, r#","is_error":false"#, ToolOutcome::Success),
        (r#""Exit code 1""#, r#","is_error":true"#, ToolOutcome::Error),
        (
            r#""The user doesn't want to proceed with this tool use. The tool use was rejected""#,
            r#","is_error":true"#,
            ToolOutcome::Rejected,
        ),
        (r#""[Request interrupted by user for tool use]""#, r#","is_error":true"#, ToolOutcome::Interrupted),
        (
            r#"[{"type":"text","text":"<tool_use_error>Sibling tool call errored</tool_use_error>"}]"#,
            r#","is_error":true"#,
            ToolOutcome::SiblingError,
        ),
        (r#""The user doesn't want to proceed""#, "", ToolOutcome::Success),
    ] {
        let written = user_says(&format!(r#"[{{"type":"tool_result","tool_use_id":"t1","content":{content}{is_error}}}]"#));
        match &facts(&[&written])[..] {
            [Fact::ToolResult { id, outcome: found, result_hash: Some(_), .. }] => {
                assert_eq!((id.as_deref(), *found), (Some("t1"), outcome), "{content}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_tools_own_copy_of_its_result_is_not_read() {
    // The copy is not even JSON: proof that nobody looked. What stands before it counts.
    let written = r#"{"sessionId":"s1","type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t1","content":"x"}]},"uuid":"u","timestamp":"2026-01-14T10:41:23.622Z","toolUseResult":{{{[}"#;
    assert_eq!(facts(&[written]).len(), 1);
    // But a line that was cut off is noticed.
    let (_, parser) = parse_at("/p/s1.jsonl", FACTS_ONLY, &[&written[..written.len() - 1]]);
    assert_eq!(parser.counts.bad, 1);
}

#[test]
fn an_outage_is_told_with_its_numbers() {
    let retry = |attempt: u32| {
        line(
            "system",
            &format!(
                r#""subtype":"api_error","level":"error","error":{{"status":529,"requestID":"req_1","error":{{"type":"error","error":{{"type":"overloaded_error","message":"Overloaded"}}}}}},"retryInMs":545.5,"retryAttempt":{attempt},"maxRetries":10"#
            ),
        )
    };
    let failed = line(
        "assistant",
        r#""message":{"model":"<synthetic>","id":"m","content":[{"type":"text","text":"API Error: 529 {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}"}],"usage":{"input_tokens":0}},"error":"unknown","isApiErrorMessage":true"#,
    );
    let (events, _) = parse_at("/p/s1.jsonl", FACTS_ONLY, &[&retry(9), &retry(10), &failed]);
    let retried = Fact::ModelRetry {
        class: ApiErrorClass::Overloaded,
        status: Some(529),
        attempt: 9,
        attempts_max: Some(10),
        delay: Some(Duration::from_micros(545_500)),
    };
    assert_eq!(events[1].fact, retried);
    assert_eq!(events[1].correlation.request.as_deref(), Some("req_1"));
    assert_eq!(&*events[1].text, "HTTP 529, model API overloaded: retry 9 of 10 in 0.5 s");
    let given_up = Fact::ModelError {
        class: ApiErrorClass::Overloaded,
        status: Some(529),
        attempts: Some(11),
        retries_exhausted: true,
        duration: None,
    };
    assert_eq!(events[3].fact, given_up);
    assert_eq!(events[3].level, Level::Error);
    // An error without retries before it was not retried.
    match &facts(&[&failed])[..] {
        [Fact::ModelError { attempts: None, retries_exhausted: false, .. }] => {}
        other => panic!("{other:?}"),
    }
    let network = line("system", r#""subtype":"api_error","error":{},"retryInMs":500,"retryAttempt":1,"maxRetries":10"#);
    assert!(matches!(facts(&[&network])[..], [Fact::ModelRetry { class: ApiErrorClass::Network, status: None, .. }]));
}

#[test]
fn a_limit_says_when_it_resets() {
    let limited = line(
        "assistant",
        r#""message":{"model":"<synthetic>","content":[{"type":"text","text":"You've hit your session limit · resets 9:50pm (UTC)"}]},"error":"rate_limit","apiErrorStatus":429,"isApiErrorMessage":true"#,
    );
    match &facts(&[&limited])[..] {
        [
            Fact::ModelError { class: ApiErrorClass::RateLimit, status: Some(429), .. },
            Fact::RateLimit { limit: Some(limit), resets_at, .. },
        ] => {
            assert_eq!(&**limit, "five_hour");
            assert_eq!(*resets_at, Timestamp::parse("2026-01-14T21:50:00Z"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_clients_own_words_are_not_an_error() {
    let benign = line(
        "assistant",
        r#""message":{"model":"<synthetic>","content":[{"type":"text","text":"No response requested."}]},"isApiErrorMessage":false"#,
    );
    assert_eq!(facts(&[&benign]), [Fact::Record]);
}

#[test]
fn a_call_and_its_tools() {
    let written = line(
        "assistant",
        r#""requestId":"req_9","message":{"model":"claude-x","id":"msg_1","content":[{"type":"text","text":"Hello  World"},{"type":"tool_use","id":"t1","name":"Bash","input":{"command":"ls","description":"List"}},{"type":"tool_use","id":"t2","name":"Read","input":{"file_path":"/a"}}],"stop_reason":"tool_use","usage":{"input_tokens":1,"cache_creation_input_tokens":30,"cache_read_input_tokens":400,"cache_creation":{"ephemeral_1h_input_tokens":20},"output_tokens":5}}"#,
    );
    let (events, _) = parse_at("/p/s1.jsonl", WITH_TEXT, &[&written]);
    let usage =
        Usage { input_tokens: 1, output_tokens: 5, cache_read_tokens: 400, cache_creation_tokens: 30, cache_creation_1h_tokens: 20 };
    assert!(matches!(&events[1].fact, Fact::ModelCall { usage: found, text_hash: Some(_), .. } if *found == usage));
    assert!(events.iter().skip(1).all(|event| event.correlation.request.as_deref() == Some("req_9")));
    assert_eq!(&*events[2].text, "Bash: ls");
    assert_eq!(&*events[3].text, "Read: /a");
    let uids: std::collections::HashSet<_> = events.iter().map(|event| event.uid.unwrap()).collect();
    assert_eq!(uids.len(), events.len(), "every event has its own identity");
    let (again, _) = parse_at("/p/s1.jsonl", WITH_TEXT, &[&written]);
    assert_eq!(again, events, "and the same line the same one");
}

#[test]
fn sub_agents_are_agents_of_their_session() {
    let own = r#"{"isSidechain":true,"agentId":"a1","sessionId":"s1","type":"user","message":{"content":"look"},"uuid":"u","timestamp":"2026-01-14T10:41:23.622Z"}"#;
    let (events, _) = parse_at("/p/s1/subagents/agent-a1.jsonl", FACTS_ONLY, &[own]);
    assert!(matches!(events[0].fact, Fact::SubagentStarted { .. }));
    assert!(
        events.iter().all(|event| event.agent.as_ref().unwrap().as_str() == "s1/a1" && event.session.as_ref().unwrap().as_str() == "s1")
    );

    let nested = line(
        "progress",
        r#""data":{"message":{"type":"assistant","timestamp":"2026-01-14T10:41:20.000Z","message":{"model":"m","id":"msg_2","content":[{"type":"tool_use","id":"t5","name":"Grep","input":{}}],"usage":{"input_tokens":3,"output_tokens":4}},"requestId":"req_2","uuid":"n1"},"type":"agent_progress","agentId":"a7"},"parentToolUseID":"t0""#,
    );
    let (events, _) = parse_at("/p/s1.jsonl", FACTS_ONLY, &[&nested]);
    let told: Vec<_> = events.iter().map(|event| (event.fact.kind(), event.agent.as_ref().unwrap().as_str())).collect();
    assert_eq!(
        told,
        [
            ("session-started", "s1"),
            ("tool-progress", "s1"),
            ("subagent-started", "s1/a7"),
            ("model-call", "s1/a7"),
            ("tool-call", "s1/a7")
        ]
    );
}

#[test]
fn a_workflow_journal_tells_starts_and_results() {
    let mut parser = Parser::new(FACTS_ONLY, Path::new("/p/s1/subagents/workflows/wf_1/journal.jsonl"));
    parser.set_file_time(Timestamp::from_secs(1_700_000_000));
    let mut events = Vec::new();
    parser.parse(br#"{"type": "started", "key": "k", "agentId": "x1"}"#, &mut events);
    parser.parse(br#"{"type": "result", "key": "k", "agentId": "x1", "result": "done"}"#, &mut events);
    assert!(matches!(events[0].fact, Fact::SubagentStarted { .. }));
    assert!(matches!(events[1].fact, Fact::SubagentEnded { completed: true }));
    for event in &events {
        assert_eq!(event.agent.as_ref().unwrap().as_str(), "s1/x1");
        assert_eq!(event.at, Timestamp::from_secs(1_700_000_000));
        assert_eq!(event.attributes["workflow"], "wf_1");
        assert_eq!(event.attributes["time_from"], "the file's modification time");
    }
}

#[test]
fn a_session_is_announced_once_and_not_when_resumed() {
    let prompt = user_says(r#""go""#);
    let untimed = r#"{"type":"summary","summary":"Older","leafUuid":"x"}"#;
    let (events, _) = parse_at("/p/s1.jsonl", WITH_TEXT, &[untimed, &prompt, &prompt]);
    let kinds: Vec<_> = events.iter().map(Event::kind).collect();
    assert_eq!(kinds, ["session-started", "record", "prompt", "prompt"]);
    assert_eq!(events[1].at, events[2].at, "a line without a time waits for the first that has one");
    assert_eq!(events[2].attributes["gitBranch"], "main");
    assert!(events[3].attributes.is_empty(), "said once");

    let mut parser = Parser::new(WITH_TEXT, Path::new("/p/s1.jsonl"));
    parser.resume_after(10);
    let mut events = Vec::new();
    parser.parse(prompt.as_bytes(), &mut events);
    assert_eq!(events.iter().map(Event::kind).collect::<Vec<_>>(), ["prompt"]);
}

#[test]
fn unknown_and_bad_lines_are_counted_and_named() {
    let good = user_says(r#""go""#);
    let lines = [
        &good[..],
        r#"{"type":"novelty","timestamp":"2026-01-14T10:41:23Z","x":{"y":1}}"#,
        "{\"type\":",
        "",
        "\u{0}\u{1}binary",
        "[1]",
        &good,
    ];
    let (events, parser) = parse_at("/p/s1.jsonl", WITH_TEXT, &lines);
    assert_eq!((parser.counts.lines, parser.counts.bad), (7, 3));
    assert_eq!(parser.counts.examples.iter().map(|bad| bad.line).collect::<Vec<_>>(), [3, 5, 6]);
    assert_eq!(parser.counts.unknown.get("novelty"), Some(&1));
    let kept = events.iter().find(|event| &*event.name == "novelty").expect("kept");
    assert_eq!(kept.attributes["x"]["y"], 1);
    let (events, parser) = parse_at("/p/s1.jsonl", WITH_TEXT, &[r#"{"type":"file-history-snapshot","snapshot":{}}"#]);
    assert_eq!((events.len(), parser.counts.snapshots), (0, 1));
}

#[test]
fn secrets_do_not_get_through() {
    let secret = "sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789";
    for written in [
        user_says(&format!(r#""use {secret}""#)),
        user_says(&format!(r#"[{{"type":"tool_result","tool_use_id":"t","content":"{secret}","is_error":true}}]"#)),
        line(
            "assistant",
            &format!(
                r#""message":{{"model":"m","content":[{{"type":"text","text":"{secret}"}},{{"type":"tool_use","id":"t","name":"Bash","input":{{"command":"curl {secret}"}}}}]}}"#
            ),
        ),
        line("novelty", &format!(r#""a":"{secret}","b":["{secret}"]"#)),
        line("system", &format!(r#""subtype":"stop_hook_summary","hookErrors":["{secret}"]"#)),
        line(
            "assistant",
            &format!(r#""message":{{"model":"<synthetic>","content":[{{"type":"text","text":"{secret}"}}]}},"isApiErrorMessage":true"#),
        ),
    ] {
        let (events, _) = parse_at("/p/s1.jsonl", WITH_TEXT, &[&written]);
        let stored = serde_json::to_string(&events).unwrap();
        assert!(!stored.contains(&secret[20..]), "{stored}");
    }
}

#[test]
fn texts_are_capped() {
    let long = "é".repeat(100_000);
    let (events, _) = parse_at("/p/s1.jsonl", WITH_TEXT, &[&user_says(&format!("\"{long}\""))]);
    assert!(events[1].text.len() < 5_000);
    assert!(events[1].text.ends_with("(200000 bytes in all)"), "{}", &events[1].text[4_000..]);
}

#[test]
fn token_totals_of_the_recordings_are_exact() {
    let Some(folder) = recordings() else { return };
    let mut calls: HashMap<(String, String), Usage> = HashMap::new();
    for file in discover(&folder.join("projects")).unwrap() {
        let counts = read_file(&file.path, FACTS_ONLY, &mut |events| {
            for event in events.iter() {
                if let Fact::ModelCall { message, usage, .. } = &event.fact {
                    let key = (format!("{message:?}"), format!("{:?}", event.correlation.request));
                    let held = calls.entry(key).or_default();
                    *held = held.largest(*usage);
                }
            }
        })
        .unwrap();
        assert_eq!((counts.counts.bad, counts.pending_bytes, counts.counts.unknown.len()), (0, 0, 0), "{}", file.path.display());
        assert_eq!(counts.bytes, file.bytes);
    }
    let total = calls.values().fold(Usage::default(), |sum, usage| sum.plus(*usage));
    assert_eq!(calls.len(), 1597);
    assert_eq!((total.input_tokens, total.output_tokens), (42_613, 239_297));
    assert_eq!((total.cache_read_tokens, total.cache_creation_tokens), (139_422_844, 7_972_454));
}

#[test]
fn the_recorded_outage_is_told_with_its_bursts() {
    let Some(folder) = recordings() else { return };
    let file =
        discover(&folder.join("projects")).unwrap().into_iter().find(|file| file.path.to_string_lossy().contains("b00b80af-879f")).unwrap();
    let mut told = Vec::new();
    read_file(&file.path, FACTS_ONLY, &mut |events| told.append(events)).unwrap();
    let retries: Vec<&Event> = told
        .iter()
        .filter(|event| matches!(event.fact, Fact::ModelRetry { class: ApiErrorClass::Overloaded, status: Some(529), .. }))
        .collect();
    assert_eq!(retries.len(), 29);
    assert_eq!(retries[0].at.time_of_day(), "10:41:23");
    assert_eq!(retries[28].at.time_of_day(), "11:08:54");
    let errors: Vec<&Event> = told.iter().filter(|event| matches!(event.fact, Fact::ModelError { .. })).collect();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].at.time_of_day(), "10:50:30");
    let given_up = Fact::ModelError {
        class: ApiErrorClass::Overloaded,
        status: Some(529),
        attempts: Some(11),
        retries_exhausted: true,
        duration: None,
    };
    assert_eq!(errors[0].fact, given_up);
}

#[test]
fn other_layouts_are_read_too() {
    let Some(folder) = recordings() else { return };
    let mut kinds: HashMap<&'static str, usize> = HashMap::new();
    let mut lost = 0;
    for part in ["subagents", "overlapping-snapshots", "claude-code-log", "fasthooks"] {
        for file in discover(&folder.join(part)).unwrap() {
            let counts = read_file(&file.path, WITH_TEXT, &mut |events| {
                events.iter().for_each(|event| *kinds.entry(event.kind()).or_default() += 1)
            })
            .unwrap();
            lost += counts.counts.bad;
        }
    }
    for wanted in [
        "subagent-started",
        "subagent-ended",
        "model-call",
        "tool-call",
        "tool-result",
        "prompt",
        "turn-ended",
        "record",
        "session-started",
    ] {
        assert!(kinds.get(wanted).is_some_and(|count| *count > 0), "{wanted}: {kinds:?}");
    }
    assert_eq!(lost, 0);
}

/// The session and the sub-agent that a path names, worked out anew.
fn names(path: &Path) -> (String, Option<String>) {
    let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
    let session = path
        .ancestors()
        .find(|part| part.ends_with("subagents"))
        .and_then(Path::parent)
        .map(|part| part.file_name().unwrap().to_string_lossy().into_owned());
    (session.unwrap_or_else(|| stem.clone()), stem.strip_prefix("agent-").map(str::to_owned))
}

#[test]
fn agrees_with_the_second_opinion_on_every_recorded_line() {
    let Some(folder) = recordings() else { return };
    let mut compared = 0;
    for part in ["projects", "subagents", "overlapping-snapshots"] {
        for file in discover(&folder.join(part)).unwrap() {
            let (session, subagent) = names(&file.path);
            let mut reference = Reference::new(&session, subagent.as_deref());
            let mut parser = Parser::new(FACTS_ONLY, &file.path);
            for (number, line) in std::fs::read(&file.path).unwrap().split(|byte| *byte == b'\n').enumerate() {
                let mut events = Vec::new();
                parser.parse(line, &mut events);
                if let Some(expected) = reference.read(line).filter(|expected| !expected.is_empty()) {
                    // Events that waited for a time come with the first line that has one.
                    let found: Vec<_> = events.iter().filter_map(essence).collect();
                    let found = &found[found.len().saturating_sub(expected.len())..];
                    assert_eq!(found, expected, "{}:{}", file.path.display(), number + 1);
                    compared += expected.len();
                }
            }
        }
    }
    assert!(compared > 9_000, "{compared}");
}

/// Text with everything that makes JSON strings hard.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z \\\\\"{}\\[\\]:,\n\t]{0,40}",
        Just("[Request interrupted by user]".to_owned()),
        Just("<command-name>/exit</command-name>".to_owned()),
        Just("The user doesn't want to proceed with this tool use".to_owned()),
        "[a-z]{1,8}".prop_map(|word| format!("{word}\\\\\\\"{word}\\")),
    ]
}

fn value(depth: u32) -> BoxedStrategy<serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        (-1.0e6..1.0e6f64).prop_map(Into::into),
        text().prop_map(Into::into)
    ];
    leaf.prop_recursive(depth, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec((text(), inner), 0..4).prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
    .boxed()
}

fn block() -> impl Strategy<Value = serde_json::Value> {
    prop_oneof![
        text().prop_map(|text| serde_json::json!({"type": "text", "text": text})),
        (text(), value(3)).prop_map(|(id, input)| serde_json::json!({"type": "tool_use", "id": id, "name": "Bash", "input": {"command": input, "description": id}})),
        (text(), text(), any::<bool>()).prop_map(|(id, content, is_error)| serde_json::json!({"tool_use_id": id, "type": "tool_result", "content": content, "is_error": is_error})),
        text().prop_map(|text| serde_json::json!({"type": "thinking", "thinking": text, "signature": "abc="})),
    ]
}

fn message() -> impl Strategy<Value = serde_json::Value> {
    let content = prop_oneof![text().prop_map(serde_json::Value::from), prop::collection::vec(block(), 0..4).prop_map(Into::into)];
    (content, text(), 0u64..1 << 39, 0u64..1 << 39, any::<bool>()).prop_map(|(content, id, input, output, is_synthetic)| {
        let model = if is_synthetic { "<synthetic>" } else { "claude-x" };
        serde_json::json!({"model": model, "id": id, "role": "r", "content": content, "stop_reason": null,
            "usage": {"input_tokens": input, "output_tokens": output, "cache_creation": {"ephemeral_1h_input_tokens": input}, "service_tier": "standard"}})
    })
}

/// A line with its members in any order and blanks anywhere between tokens.
fn any_line() -> impl Strategy<Value = String> {
    let kind = prop::sample::select(vec!["user", "assistant", "system", "progress", "attachment", "novelty", "queue-operation"]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (kind, message(), text(), flags, value(3), 0usize..12, any::<u64>(), any::<bool>())
        .prop_map(|(kind, message, uuid, (meta, side, compact, failed), extra, subtype, seed, is_spaced)| {
            let subtype = ["turn_duration", "compact_boundary", "informational", "agents_killed"][subtype % 4];
            let mut members = vec![
                ("type", serde_json::json!(kind)),
                ("message", message.clone()),
                ("uuid", serde_json::json!(uuid)),
                ("timestamp", serde_json::json!("2026-01-14T10:41:23.622Z")),
                ("sessionId", serde_json::json!("s1")),
                ("isMeta", serde_json::json!(meta)),
                ("isSidechain", serde_json::json!(side)),
                ("isCompactSummary", serde_json::json!(compact)),
                ("isApiErrorMessage", serde_json::json!(failed)),
                ("subtype", serde_json::json!(subtype)),
                ("durationMs", serde_json::json!(seed >> 20)),
                ("compactMetadata", serde_json::json!({"trigger": "auto", "preTokens": seed >> 30})),
                ("requestId", serde_json::json!("req_1")),
                ("data", serde_json::json!({"extra": extra, "type": "agent_progress", "agentId": "a1", "message": {"type": "assistant", "message": message, "uuid": "n"}})),
                ("somethingElse", extra),
            ];
            let mut state = seed;
            for i in (1..members.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                members.swap(i, (state >> 33) as usize % (i + 1));
            }
            let gap = if is_spaced { " \t " } else { "" };
            let body: Vec<String> = members.iter().map(|(key, value)| {
                let value = if is_spaced { serde_json::to_string_pretty(value).unwrap().replace('\n', "\r") } else { value.to_string() };
                format!("{gap}\"{key}\"{gap}:{gap}{value}{gap}")
            }).collect();
            format!("{gap}{{{}}}{gap}", body.join(","))
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_second_opinion_on_arbitrary_lines(line in any_line()) {
        let mut parser = Parser::new(FACTS_ONLY, Path::new("/p/s1.jsonl"));
        let mut events = Vec::new();
        parser.parse(line.as_bytes(), &mut events);
        let expected = Reference::new("s1", None).read(line.as_bytes()).expect("valid JSON");
        let found: Vec<_> = events.iter().filter_map(essence).collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(parser.counts.bad, 0);
    }

    #[test]
    fn a_line_that_was_cut_off_is_never_taken_for_whole(line in any_line(), cut in 0.0..1.0f64) {
        let line = line.trim();
        let end = line.floor_char_boundary((line.len() as f64 * cut) as usize);
        prop_assume!(end > 0);
        let mut parser = Parser::new(FACTS_ONLY, Path::new("/p/s1.jsonl"));
        parser.parse(&line.as_bytes()[..end], &mut Vec::new());
        prop_assert_eq!(parser.counts.bad, 1);
    }
}

#[test]
fn the_file_beside_a_sub_agents_transcript_says_what_it_is() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("s1/subagents/agent-a7.jsonl");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let line = r#"{"type":"user","isSidechain":true,"agentId":"a7","sessionId":"s1","uuid":"u1","timestamp":"2026-01-14T10:41:23Z","message":{"role":"user","content":"count"}}"#;
    std::fs::write(&path, format!("{line}\n")).unwrap();
    let check = |meta: &[u8], agent_type: Option<&str>, tool_use: Option<&str>, text: &str| {
        std::fs::write(path.with_extension("meta.json"), meta).unwrap();
        let mut first = None;
        read_file(&path, ParseOptions::default(), &mut |events| first = first.take().or_else(|| events.first().cloned())).unwrap();
        let first = first.unwrap();
        assert_eq!(first.fact, Fact::SubagentStarted { agent_type: agent_type.map(Into::into) });
        assert_eq!((first.attributes.get("tool_use_id").and_then(|id| id.as_str()), &*first.text), (tool_use, text));
    };
    check(
        br#"{"agentType":"Explore","description":"Count things","toolUseId":"toolu_1","spawnDepth":1}"#,
        Some("Explore"),
        Some("toolu_1"),
        "Count things",
    );
    check(br#"{"agentType":"Explore"}"#, Some("Explore"), None, "");
    for useless in [&b""[..], b"[]", b"{\"agentType\":7}", b"\xff"] {
        check(useless, None, None, "");
    }
}
