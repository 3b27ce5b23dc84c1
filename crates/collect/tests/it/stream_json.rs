//! The output of a headless run, line by line.

use std::time::Duration;

use paramedic_collect::stream_json::{MODEL_USAGE, Parser};
use paramedic_collect::transcript::ParseOptions;
use paramedic_model::{ApiErrorClass, Event, Fact, Level, Timestamp};

fn parse(lines: &[&str]) -> (Vec<Event>, Parser) {
    let mut parser = Parser::new(ParseOptions::default());
    let mut events = Vec::new();
    for line in lines {
        parser.parse(line.as_bytes(), Timestamp::from_secs(1_700_000_000), &mut events);
    }
    (events, parser)
}

const INIT: &str = r#"{"type":"system","subtype":"init","session_id":"s1","cwd":"/repo","model":"claude-x","claude_code_version":"2.1.9","mcp_servers":[{"name":"a","status":"connected"},{"name":"b","status":"failed"}],"tools":["Bash"],"uuid":"u0"}"#;
const RETRY: &str = r#"{"type":"system","subtype":"api_retry","attempt":10,"max_retries":10,"retry_delay_ms":500.5,"error_status":529,"error":"overloaded","session_id":"s1","uuid":"u1"}"#;

#[test]
fn a_run_from_start_to_result() {
    let (mut events, mut parser) = parse(&[
        INIT,
        r#"{"type":"stream_event","event":{"type":"content_block_delta"},"session_id":"s1","uuid":"u2"}"#,
        r#"{"type":"assistant","message":{"id":"msg_1","model":"claude-x","content":[{"type":"tool_use","id":"t1","name":"Bash","input":{"command":"ls"}}],"usage":{"input_tokens":5,"output_tokens":7}},"parent_tool_use_id":null,"session_id":"s1","uuid":"u3"}"#,
        r#"{"type":"tool_progress","tool_use_id":"t1","tool_name":"Bash","elapsed_time_seconds":30,"heartbeat":true,"session_id":"s1","uuid":"u4"}"#,
        r#"{"type":"user","message":{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"ok"}]},"session_id":"s1","uuid":"u5"}"#,
        r#"{"type":"assistant","message":{"id":"msg_2","model":"claude-y","content":[{"type":"text","text":"hi"}]},"parent_tool_use_id":"t9","session_id":"s1","uuid":"u6"}"#,
        r#"{"type":"result","subtype":"success","is_error":false,"duration_ms":1234,"num_turns":2,"result":"done","total_cost_usd":0.25,"modelUsage":{"claude-x":{"inputTokens":5,"outputTokens":70}},"session_id":"s1","uuid":"u7"}"#,
    ]);
    parser.finish(Timestamp::from_secs(1_700_000_100), &mut events);
    let told: Vec<_> = events.iter().map(|event| (event.kind(), event.agent.as_ref().unwrap().as_str())).collect();
    assert_eq!(
        told,
        [
            ("session-started", "s1"),
            ("mcp-server", "s1"),
            ("mcp-server", "s1"),
            ("prompt", "s1"),
            ("model-call", "s1"),
            ("tool-call", "s1"),
            ("tool-progress", "s1"),
            ("tool-result", "s1"),
            ("model-call", "s1/t9"),
            ("record", "s1"),
            ("turn-ended", "s1"),
            ("session-ended", "s1"),
        ]
    );
    assert_eq!(events[2].level, Level::Warn, "a server that failed");
    assert_eq!((&*events[9].name, &events[9].attributes["model"]), (MODEL_USAGE, &"claude-x".into()));
    assert_eq!((&events[9].attributes["input_tokens"], &events[9].attributes["output_tokens"]), (&5.into(), &70.into()));
    assert_eq!(events[10].fact, Fact::TurnEnded { duration: Some(Duration::from_millis(1234)) });
    assert_eq!(events[10].attributes["total_cost_usd"], 0.25);
    assert_eq!(events[10].attributes["modelUsage"]["claude-x"]["inputTokens"], 5);
    assert_eq!((parser.counts.partial, parser.counts.bad), (1, 0));
}

fn prompts(lines: &[&str]) -> usize {
    parse(lines).0.iter().filter(|event| event.fact == Fact::Prompt && event.agent == Some("s1".into())).count()
}

#[test]
fn a_run_is_a_turn_whether_or_not_the_prompt_is_told() {
    const SAID: &str = r#"{"type":"user","message":{"role":"user","content":"do it"},"session_id":"s1","uuid":"p1"}"#;
    const TO_HELPER: &str =
        r#"{"type":"user","message":{"role":"user","content":"help"},"parent_tool_use_id":"t1","session_id":"s1","uuid":"p2"}"#;
    const RESULT: &str = r#"{"type":"result","subtype":"success","is_error":false,"session_id":"s1","uuid":"r1"}"#;
    assert_eq!(prompts(&[INIT, RESULT]), 1);
    assert_eq!(prompts(&[INIT, SAID, TO_HELPER, RESULT]), 1);
    assert_eq!(prompts(&[SAID, INIT, RESULT]), 1);
    assert_eq!(prompts(&[INIT, RESULT, INIT, RESULT]), 2, "a client that is fed prompts begins anew with each");
    assert_eq!(prompts(&[INIT, SAID, RESULT, SAID, RESULT]), 2);
    assert_eq!(prompts(&[INIT, INIT, RESULT]), 1);
}

#[test]
fn accounts_tell_what_was_added_since_the_last_one() {
    let result =
        |uuid: &str, usage: &str| format!(r#"{{"type":"result","is_error":false,"session_id":"s1","uuid":"{uuid}","modelUsage":{usage}}}"#);
    let check = |results: &[&str], expect: &[(&str, u64)]| {
        let lines: Vec<String> = results.iter().enumerate().map(|(i, usage)| result(&i.to_string(), usage)).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (events, _) = parse(&lines);
        let accounts = events.iter().filter(|event| &*event.name == MODEL_USAGE);
        let told: Vec<(&str, u64)> = accounts
            .map(|event| {
                let output = &event.attributes["output_tokens"];
                (event.attributes["model"].as_str().unwrap(), output.as_u64().unwrap())
            })
            .collect();
        assert_eq!(told, expect, "{results:?}");
    };
    check(&[r#"{"m":{"outputTokens":7}}"#, r#"{"m":{"outputTokens":9}}"#, r#"{"m":{"outputTokens":9}}"#], &[("m", 7), ("m", 2)]);
    check(&[r#"{"m":{"outputTokens":7}}"#, r#"{"m":{"outputTokens":3}}"#], &[("m", 7), ("m", 3)]);
    check(&[r#"{"m":{"outputTokens":7},"n":{"outputTokens":1}}"#], &[("m", 7), ("n", 1)]);
    check(&["null", "{}", r#"{"m":null}"#, r#"{"m":{"outputTokens":-1}}"#, r#"[{"m":1}]"#], &[]);
}

/// A client that resumes a session may bring along the sums of its last run.
#[test]
fn an_account_that_may_hold_an_earlier_run_is_not_believed() {
    const CALL: &str = r#"{"type":"assistant","message":{"id":"m1","model":"m","content":[],"usage":{"input_tokens":5,"output_tokens":1}},"session_id":"s1","uuid":"1"}"#;
    let check = |result: &str, expect: &[(&str, u64)]| {
        let result = format!(r#"{{"type":"result","is_error":false,"session_id":"s1","uuid":"2",{result}}}"#);
        let (events, _) = parse(&[CALL, &result]);
        let accounts = events.iter().filter(|event| &*event.name == MODEL_USAGE);
        let told: Vec<(&str, u64)> = accounts
            .map(|event| (event.attributes["model"].as_str().unwrap(), event.attributes["output_tokens"].as_u64().unwrap()))
            .collect();
        assert_eq!(told, expect, "{result}");
    };
    check(r#""modelUsage":{"m[1m]":{"inputTokens":5,"outputTokens":70}}"#, &[("m", 70)]);
    let own = r#""usage":{"input_tokens":5,"output_tokens":70}"#;
    check(&format!(r#"{own},"modelUsage":{{"m":{{"inputTokens":905,"outputTokens":9070}}}}"#), &[("m", 70)]);
    check(
        &format!(r#"{own},"modelUsage":{{"m":{{"inputTokens":5,"outputTokens":70}},"side":{{"inputTokens":9,"outputTokens":9}}}}"#),
        &[("m", 70)],
    );
    check(own, &[("m", 70)]);
    check(r#""modelUsage":{"m":{"inputTokens":905,"outputTokens":9070}}"#, &[]);
    check(r#""usage":{"input_tokens":905,"output_tokens":9070}"#, &[]);
}

#[test]
fn a_sub_agent_has_the_name_that_other_sources_know() {
    let (events, _) = parse(&[
        r#"{"type":"system","subtype":"task_started","task_id":"a77","tool_use_id":"t1","description":"Count things","subagent_type":"Explore","task_type":"local_agent","session_id":"s1","uuid":"1"}"#,
        r#"{"type":"user","message":{"role":"user","content":"count"},"parent_tool_use_id":"t1","session_id":"s1","uuid":"2"}"#,
        r#"{"type":"assistant","message":{"id":"m1","model":"x","content":[{"type":"tool_use","id":"t2","name":"Bash","input":{}}]},"parent_tool_use_id":"t1","session_id":"s1","uuid":"3"}"#,
        r#"{"type":"system","subtype":"task_started","task_id":"b12","tool_use_id":"t3","task_type":"local_bash","session_id":"s1","uuid":"4"}"#,
        r#"{"type":"system","subtype":"task_notification","task_id":"b12","tool_use_id":"t3","status":"completed","session_id":"s1","uuid":"5"}"#,
        r#"{"type":"system","subtype":"task_notification","task_id":"a77","tool_use_id":"t1","status":"completed","session_id":"s1","uuid":"6"}"#,
    ]);
    let told: Vec<_> = events.iter().map(|event| (event.kind(), event.agent.as_ref().unwrap().as_str())).collect();
    let helper = ["subagent-started", "prompt", "model-call", "tool-call"].map(|kind| (kind, "s1/a77"));
    assert_eq!(told[..4], helper);
    assert_eq!(told[4..], [("record", "s1"), ("record", "s1"), ("subagent-ended", "s1/a77")]);
    assert_eq!(events[0].fact, Fact::SubagentStarted { agent_type: Some("Explore".into()) });
}

#[test]
fn retries_and_the_failure_after_them() {
    let failed = r#"{"type":"assistant","message":{"model":"<synthetic>","content":[{"type":"text","text":"API Error: 529 overloaded"}]},"error":"server_error","session_id":"s1","uuid":"u8"}"#;
    let result = r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":529,"terminal_reason":"api_error","result":"API Error: 529 overloaded","session_id":"s1","uuid":"u9"}"#;
    let (events, _) = parse(&[RETRY, failed, result]);
    assert!(matches!(
        events[0].fact,
        Fact::ModelRetry { class: ApiErrorClass::Overloaded, status: Some(529), attempt: 10, attempts_max: Some(10), delay: Some(_) }
    ));
    assert!(matches!(events[1].fact, Fact::ModelError { status: Some(529), attempts: Some(11), retries_exhausted: true, .. }));
    assert_eq!(events.len(), 3, "the result does not tell the failure a second time");
    assert_eq!(events[2].level, Level::Error);
    // Without the message, the result is the only one who tells.
    let (events, _) = parse(&[RETRY, result]);
    assert!(matches!(events[1].fact, Fact::ModelError { class: ApiErrorClass::Overloaded, retries_exhausted: true, .. }));
    let network = r#"{"type":"system","subtype":"api_retry","attempt":1,"max_retries":10,"retry_delay_ms":500,"error_status":null,"error":"unknown","session_id":"s1"}"#;
    assert!(matches!(parse(&[network]).0[0].fact, Fact::ModelRetry { class: ApiErrorClass::Network, status: None, .. }));
}

#[test]
fn limits_compactions_and_sub_agents_retries() {
    let (events, _) = parse(&[
        r#"{"type":"rate_limit_event","rate_limit_info":{"status":"allowed_warning","resetsAt":1768400000,"utilization":0.9,"rateLimitType":"five_hour"},"session_id":"s1","uuid":"u"}"#,
        r#"{"type":"system","subtype":"compact_boundary","compact_metadata":{"trigger":"auto","pre_tokens":155000},"session_id":"s1","uuid":"v"}"#,
        r#"{"type":"tool_progress","tool_use_id":"t4","subagent_retry":{"attempt":2,"max_retries":10,"retry_delay_ms":1000,"error_status":429,"error_category":"rate_limit"},"session_id":"s1","uuid":"w"}"#,
    ]);
    let limit = Fact::RateLimit {
        status: "allowed_warning".into(),
        limit: Some("five_hour".into()),
        utilization: Some(0.9),
        remaining: None,
        resets_at: Some(Timestamp::from_secs(1_768_400_000)),
    };
    assert_eq!(events[0].fact, limit);
    assert_eq!(events[1].fact, Fact::Compaction { trigger: Some("auto".into()), tokens_before: Some(155_000), tokens_after: None });
    assert!(matches!(events[3].fact, Fact::ModelRetry { class: ApiErrorClass::RateLimit, attempt: 2, .. }));
    assert_eq!(events[3].agent.as_ref().unwrap().as_str(), "s1/t4");
}

#[test]
fn unknown_and_bad_lines_are_counted() {
    let (events, parser) = parse(&[r#"{"type":"novelty","session_id":"s1","x":1}"#, "not json", "", "{\"type\":"]);
    assert_eq!((parser.counts.lines, parser.counts.bad, events.len()), (4, 2, 1));
    assert_eq!(parser.counts.unknown.get("novelty"), Some(&1));
    assert_eq!(events[0].attributes["x"], 1);
}
