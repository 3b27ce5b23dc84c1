//! Hooks: what each event means, and that it is the same call that the transcript tells.

use std::path::Path;
use std::time::Duration;

use paramedic_collect::hook::{self, EVENTS, HookError};
use paramedic_collect::transcript::{ParseOptions, Parser};
use paramedic_model::{ApiErrorClass, Event, Fact, Level, Timestamp, ToolOutcome, WaitReason};

fn at() -> Timestamp {
    Timestamp::parse("2026-01-14T10:00:00Z").unwrap()
}

fn parse(name: &str, rest: &str) -> Vec<Event> {
    let comma = if rest.is_empty() { "" } else { "," };
    let body = format!(
        r#"{{"session_id":"s1","prompt_id":"p1","transcript_path":"/t.jsonl","cwd":"/repo","permission_mode":"default","hook_event_name":"{name}"{comma}{rest}}}"#
    );
    hook::parse(body.as_bytes(), at()).expect(&body)
}

fn check(name: &str, rest: &str, fact: Fact) {
    let events = parse(name, rest);
    assert_eq!(events[0].fact, fact, "{name} {rest}");
}

#[test]
fn what_each_event_means() {
    check("UserPromptSubmit", r#""prompt":"go""#, Fact::Prompt);
    check("Stop", r#""stop_hook_active":false"#, Fact::TurnEnded { duration: None });
    check("SessionEnd", r#""reason":"logout""#, Fact::SessionEnded { reason: Some("logout".into()) });
    check(
        "SessionStart",
        r#""source":"resume","model":"claude-x""#,
        Fact::SessionStarted { how: Some("resume".into()), model: Some("claude-x".into()), cwd: Some("/repo".into()), version: None },
    );
    check("PermissionRequest", r#""tool_name":"Bash","tool_input":{"command":"rm"}"#, Fact::Waiting { reason: WaitReason::Permission });
    check("Notification", r#""notification_type":"permission_prompt","message":"x""#, Fact::Waiting { reason: WaitReason::Permission });
    check("Notification", r#""notification_type":"idle_prompt","message":"x""#, Fact::Waiting { reason: WaitReason::Idle });
    check("Notification", r#""notification_type":"agent_needs_input","message":"x""#, Fact::Waiting { reason: WaitReason::Input });
    check("Notification", r#""notification_type":"auth_success","message":"x""#, Fact::Record);
    check("Notification", r#""message":"Claude needs your permission to use Bash""#, Fact::Waiting { reason: WaitReason::Permission });
    check("SubagentStart", r#""agent_id":"a1","agent_type":"Explore""#, Fact::SubagentStarted { agent_type: Some("Explore".into()) });
    check("SubagentStop", r#""agent_id":"a1","agent_type":"Explore""#, Fact::SubagentEnded { completed: true });
    check("PreCompact", r#""trigger":"auto""#, Fact::Record);
    check("PostCompact", r#""trigger":"auto""#, Fact::Compaction { trigger: Some("auto".into()), tokens_before: None, tokens_after: None });
    check("Elicitation", "", Fact::Waiting { reason: WaitReason::Input });
}

#[test]
fn how_a_tool_call_ended() {
    for (name, rest, outcome) in [
        ("PostToolUse", r#""tool_response":{"stdout":"ok"}"#, ToolOutcome::Success),
        ("PostToolUseFailure", r#""error":"Exit code 1","is_interrupt":false"#, ToolOutcome::Error),
        ("PostToolUseFailure", r#""error":"x","is_interrupt":true"#, ToolOutcome::Interrupted),
        ("PostToolUseFailure", r#""error":"Sibling tool call errored""#, ToolOutcome::SiblingError),
        ("PermissionDenied", r#""reason":"dangerous""#, ToolOutcome::Rejected),
    ] {
        let events = parse(name, &format!(r#""tool_name":"Bash","tool_use_id":"t1","duration_ms":1500,"tool_input":{{}},{rest}"#));
        match &events[0].fact {
            Fact::ToolResult { id, tool, outcome: found, duration, .. } => {
                assert_eq!((id.as_deref(), tool.as_deref(), *found), (Some("t1"), Some("Bash"), outcome), "{name} {rest}");
                assert_eq!(*duration, Some(Duration::from_millis(1500)));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_failed_turn_names_its_class_and_limit() {
    let events =
        parse("StopFailure", r#""error":"rate_limit","last_assistant_message":"You've hit your session limit · resets 9:50pm (UTC)""#);
    let expected =
        Fact::ModelError { class: ApiErrorClass::RateLimit, status: None, attempts: None, retries_exhausted: false, duration: None };
    assert_eq!((&events[0].fact, events[0].level), (&expected, Level::Error));
    assert!(matches!(&events[1].fact, Fact::RateLimit { resets_at, .. } if *resets_at == Timestamp::parse("2026-01-14T21:50:00Z")));
    for (word, class) in [
        ("overloaded", ApiErrorClass::Overloaded),
        ("authentication_failed", ApiErrorClass::Authentication),
        ("oauth_org_not_allowed", ApiErrorClass::Authentication),
        ("billing_error", ApiErrorClass::Billing),
        ("invalid_request", ApiErrorClass::InvalidRequest),
        ("model_not_found", ApiErrorClass::ModelNotFound),
        ("server_error", ApiErrorClass::Server),
        ("max_output_tokens", ApiErrorClass::MaxOutputTokens),
        ("unknown", ApiErrorClass::Unknown),
    ] {
        let events = parse("StopFailure", &format!(r#""error":"{word}""#));
        assert!(matches!(events[0].fact, Fact::ModelError { class: found, .. } if found == class), "{word}");
    }
}

#[test]
fn the_same_call_is_the_same_in_hook_and_transcript() {
    let input = r#"{"command":"cargo test","description":"Run tests","timeout":60000}"#;
    let hooked = parse("PreToolUse", &format!(r#""tool_name":"Bash","tool_use_id":"t1","tool_input":{input}"#));
    let line = format!(
        r#"{{"type":"assistant","sessionId":"s1","uuid":"u","timestamp":"2026-01-14T10:00:00Z","message":{{"id":"m","content":[{{"type":"tool_use","id":"t1","name":"Bash","input":{input}}}]}}}}"#
    );
    let mut events = Vec::new();
    Parser::new(ParseOptions::default(), Path::new("s1.jsonl")).parse(line.as_bytes(), &mut events);
    assert_eq!(events.last().unwrap().fact, hooked[0].fact);
    assert_eq!(events.last().unwrap().agent, hooked[0].agent);
    assert_eq!(&*hooked[0].text, "Bash: cargo test");
}

#[test]
fn all_known_events_are_kept_with_their_ids() {
    for name in EVENTS {
        assert!(hook::is_known(name));
        let event = &parse(name, r#""agent_id":"a9","effort":{"level":"high"}"#)[0];
        assert_eq!(&*event.name, *name);
        assert_eq!(event.agent.as_ref().unwrap().as_str(), "s1/a9");
        assert_eq!(event.correlation.prompt.as_deref(), Some("p1"));
        assert_eq!(event.attributes["cwd"], "/repo");
        assert_eq!(event.attributes["effort"]["level"], "high");
    }
    assert_eq!(EVENTS.len(), 33);
    let event = &parse("SomethingNew", r#""x":1"#)[0];
    assert_eq!((&event.fact, &*event.name), (&Fact::Record, "SomethingNew"));
    assert!(!hook::is_known("SomethingNew"));
}

#[test]
fn the_same_post_twice_has_the_same_identity() {
    let one = parse("PreToolUse", r#""tool_name":"Bash","tool_use_id":"t1","tool_input":{}"#);
    let again = parse("PreToolUse", r#""tool_name":"Bash","tool_use_id":"t1","tool_input":{}"#);
    let other = parse("PreToolUse", r#""tool_name":"Bash","tool_use_id":"t2","tool_input":{}"#);
    assert_eq!(one[0].uid, again[0].uid);
    assert_ne!(one[0].uid, other[0].uid);
    assert_eq!(parse("Stop", "")[0].uid, None, "a turn may end many times in the same words");
}

#[test]
fn secrets_are_masked_everywhere() {
    let secret = "sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789";
    for (name, rest) in [
        ("UserPromptSubmit", format!(r#""prompt":"{secret}""#)),
        ("PreToolUse", format!(r#""tool_name":"Bash","tool_input":{{"command":"curl {secret}"}}"#)),
        ("PostToolUse", format!(r#""tool_name":"Bash","tool_response":"{secret}""#)),
        ("PostToolUseFailure", format!(r#""tool_name":"Bash","error":"{secret}""#)),
        ("StopFailure", format!(r#""error":"unknown","error_details":"{secret}""#)),
        ("SomethingNew", format!(r#""a":"{secret}","b":["{secret}"]"#)),
    ] {
        let stored = serde_json::to_string(&parse(name, &rest)).unwrap();
        assert!(!stored.contains(&secret[20..]), "{stored}");
    }
}

#[test]
fn what_is_no_hook_is_refused_with_the_reason() {
    for body in ["", "[]", "{", "null", "\u{0}", "{\"a\":1} x"] {
        assert!(matches!(hook::parse(body.as_bytes(), at()), Err(HookError::NotAnObject(_))), "{body:?}");
    }
    for body in ["{}", r#"{"hook_event_name":""}"#, r#"{"hook_event_name":5}"#] {
        assert!(matches!(hook::parse(body.as_bytes(), at()), Err(HookError::NoEventName)), "{body}");
    }
}
