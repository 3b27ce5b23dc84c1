//! Log records of every format, as data: lines in, what is known of them out.

use std::collections::BTreeSet;
use std::time::Duration;

use paramedic_collect::log::{Options, Parser, RECORD_BYTES_MAX, TimeZone};
use paramedic_model::{ApiErrorClass, Event, Fact, Level, Timestamp};

fn now() -> Timestamp {
    Timestamp::parse("2026-03-01T12:00:00Z").unwrap()
}

/// Whatever the zone of the machine that tests.
fn utc() -> Options {
    Options { time_zone: TimeZone::utc(), ..Options::default() }
}

fn parse(text: &[u8]) -> Vec<Event> {
    parse_with(text, &mut Parser::new(utc()))
}

fn parse_with(text: &[u8], parser: &mut Parser) -> Vec<Event> {
    let mut events = Vec::new();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        parser.feed(line, now(), &mut events);
    }
    parser.flush(&mut events);
    events
}

/// Level, time, agent and text of every record.
fn check(text: &str, expect: &[(Level, &str, &str, &str)]) {
    let events = parse(text.as_bytes());
    let seen: Vec<_> = events
        .iter()
        .map(|event| {
            (event.level, event.at.to_string(), event.agent.as_ref().map_or("", |agent| agent.as_str()).to_owned(), event.text.to_string())
        })
        .collect();
    let expected: Vec<_> =
        expect.iter().map(|(level, at, agent, text)| (*level, (*at).to_owned(), (*agent).to_owned(), (*text).to_owned())).collect();
    assert_eq!(seen, expected, "{text}");
}

const NOW: &str = "2026-03-01T12:00:00.000Z";

/// Two records of one person. Metadata of the first stands without indentation, that of the second with it.
const ONE_USER: &str = "\
[2025-12-24T14:35:22.123Z] [ERROR] [agent:code-review] Rate limit exceeded
conversationId: abc-123-def
userId: user-456
errorCode: 429
retryAfter: 12
stack: Error: Rate limit exceeded
at callClaude (/app/src/api.ts:45:11)
    at run (/app/src/agent.ts:9:3)
[2025-12-24T14:36:02.000Z] [ERROR] [agent:code-review] Agent execution timed out after 300000ms
  conversationId: abc-123-def
  userId: user-456
  X-Request-ID: req-9
";

#[test]
fn two_records_of_one_user_affect_one_user() {
    let events = parse(ONE_USER.as_bytes());
    assert_eq!(events.len(), 2);
    let users: BTreeSet<_> = events.iter().filter_map(|event| event.correlation.user.as_deref()).collect();
    assert_eq!(users, BTreeSet::from(["user-456"]));
    let agents: BTreeSet<_> = events.iter().filter_map(|event| event.agent.as_ref().map(|agent| agent.as_str())).collect();
    assert_eq!(agents, BTreeSet::from(["code-review"]));
}

#[test]
fn metadata_and_stack_stay_with_their_record() {
    let events = parse(ONE_USER.as_bytes());
    let first = &events[0];
    assert_eq!(first.session.as_ref().unwrap().as_str(), "abc-123-def");
    assert_eq!(first.attributes["retryAfter"], 12);
    assert_eq!(first.attributes["errorCode"], 429);
    assert_eq!(first.attributes["userId"], "user-456");
    assert_eq!(first.attributes["component"], "agent:code-review");
    let stack = "Error: Rate limit exceeded\nat callClaude (/app/src/api.ts:45:11)\n    at run (/app/src/agent.ts:9:3)";
    assert_eq!(first.attributes["stack"], stack);
    assert_eq!(&*first.text, format!("Rate limit exceeded\n{stack}"));
    let limited =
        Fact::ModelError { class: ApiErrorClass::RateLimit, status: Some(429), attempts: None, retries_exhausted: false, duration: None };
    assert_eq!(first.fact, limited);
    assert_eq!(events[1].correlation.request.as_deref(), Some("req-9"));
    let Fact::ModelError { class: ApiErrorClass::Timeout, duration, .. } = events[1].fact else { panic!("{:?}", events[1].fact) };
    assert_eq!(duration, Some(Duration::from_secs(300)));
}

#[test]
fn without_text_the_facts_are_the_same() {
    let full = parse(ONE_USER.as_bytes());
    let lean = parse_with(ONE_USER.as_bytes(), &mut Parser::new(Options { capture_text: false, ..utc() }));
    for (full, mut lean) in full.into_iter().zip(lean) {
        assert!(lean.text.is_empty() && lean.attributes.is_empty());
        (lean.text, lean.attributes) = (full.text.clone(), full.attributes.clone());
        assert_eq!(lean, full);
    }
}

#[test]
fn bracket_heads() {
    let at = "2025-12-24T14:35:22.123Z";
    check("[2025-12-24T14:35:22.123Z] [WARN] [db] slow query\n", &[(Level::Warn, at, "", "slow query")]);
    check("[2025-12-24T14:35:22.123Z] [INFO] no component\n", &[(Level::Info, at, "", "no component")]);
    check("[2025-12-24 14:35:22,123] [debug] [agent: a ] x\r\n", &[(Level::Debug, at, "a", "x")]);
    // What only looks like a head belongs to the record above.
    check(
        "[2025-12-24T14:35:22.123Z] [INFO] a\n[not a head] b\n[1] [2] [3] c\n",
        &[(Level::Info, at, "", "a\n[not a head] b\n[1] [2] [3] c")],
    );
    let events = parse(b"[2025-12-24T14:35:22Z] [ERROR] [agent:x] boom\nstack: a\nTypeError: inner\n  at f\nuserId: u\n");
    assert_eq!(events[0].attributes["stack"], "a\nTypeError: inner\n  at f");
    assert_eq!(events[0].correlation.user.as_deref(), Some("u"));
}

#[test]
fn timeouts_group_by_the_agent_they_name() {
    let events = parse(b"Error: Agent execution timed out after 300000ms\nTask: code-review\nConversation: abc-123-def\nnext line\n");
    assert_eq!(events.len(), 2);
    assert_eq!(events[0].agent.as_ref().unwrap().as_str(), "code-review");
    assert_eq!(events[0].session.as_ref().unwrap().as_str(), "abc-123-def");
    assert!(matches!(events[0].fact, Fact::ModelError { class: ApiErrorClass::Timeout, .. }));
    assert_eq!(events[1].fact, Fact::Record);
}

#[test]
fn json_lines_of_the_usual_loggers() {
    let at = "2025-12-24T14:35:22.123Z";
    for (line, level, agent, text) in [
        (r#"{"level":50,"time":1766586922123,"pid":7,"hostname":"h","msg":"boom","agentName":"a"}"#, Level::Error, "a", "boom"),
        (r#"{"level":"warn","message":"slow","timestamp":"2025-12-24T14:35:22.123Z"}"#, Level::Warn, "", "slow"),
        (r#"{"levelname":"ERROR","levelno":40,"asctime":"2025-12-24 14:35:22,123","name":"w","message":"bad"}"#, Level::Error, "", "bad"),
        (r#"{"levelno":30,"ts":1766586922.123,"message":"py"}"#, Level::Warn, "", "py"),
        (r#"{"level":"info","ts":1766586922.123,"msg":"zap"}"#, Level::Info, "", "zap"),
        (r#"{"time":"2025-12-24T14:35:22.123Z","level":"INFO","msg":"slog"}"#, Level::Info, "", "slog"),
        (
            r#"{"name":"b","hostname":"h","pid":1,"level":30,"msg":"bunyan","time":"2025-12-24T14:35:22.123Z","v":0}"#,
            Level::Info,
            "",
            "bunyan",
        ),
        (
            r#"{"Timestamp":"1766586922123000000","SeverityText":"FATAL","Body":"otel","Attributes":{"agentName":"x"}}"#,
            Level::Error,
            "x",
            "otel",
        ),
        (
            r#"{"timeUnixNano":"1766586922123000000","severityNumber":13,"body":{"stringValue":"one"},"attributes":[]}"#,
            Level::Warn,
            "",
            "one",
        ),
    ] {
        check(line, &[(level, at, agent, text)]);
    }
}

#[test]
fn json_errors_keep_their_parts() {
    let line = br#"{"level":"error","message":"Agent execution failed","agentName":"code-reviewer","conversationId":"abc","errorCode":429,"duration":1234,"userId":"u","correlationId":"c","err":{"type":"ApiError","message":"inner","stack":"ApiError: inner\n    at x","code":"E"},"db":{"password":"hunter22"}}"#;
    let events = parse(line);
    let event = &events[0];
    assert_eq!(event.attributes["duration"], 1234);
    assert_eq!(event.attributes["err.message"], "inner");
    assert_eq!(event.attributes["stack"], "ApiError: inner\n    at x");
    assert_eq!(event.correlation.user.as_deref(), Some("u"));
    assert_eq!(event.correlation.request.as_deref(), Some("c"));
    assert!(matches!(event.fact, Fact::ModelError { class: ApiErrorClass::RateLimit, status: Some(429), .. }));
    assert!(!format!("{:?}", event.attributes).contains("hunter22"), "{:?}", event.attributes);
}

#[test]
fn a_line_of_the_collectors_file_exporter_is_a_request() {
    let line = br#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"s"}}]},"scopeLogs":[{"logRecords":[{"timeUnixNano":"1766586922123000000","body":{"stringValue":"a"}},{"body":{"stringValue":"b"}}]}]}]}"#;
    let events = parse(line);
    assert_eq!(events.iter().map(|event| &*event.text).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(events[0].agent.as_ref().unwrap().as_str(), "s@0");
}

#[test]
fn plain_text() {
    check(
        "ERROR disk full\nwarn: low\n[error] bad\nInfo about nothing\n",
        &[
            (Level::Error, NOW, "", "disk full"),
            (Level::Warn, NOW, "", "low"),
            (Level::Error, NOW, "", "bad"),
            (Level::Info, NOW, "", "Info about nothing"),
        ],
    );
    check(
        "2025-12-24 14:35:22,123 - app.worker - ERROR - failed\nmore of it\n2025-12-24T15:35:22+01:00 INFO fine\n",
        &[
            (Level::Error, "2025-12-24T14:35:22.123Z", "", "app.worker - ERROR - failed\nmore of it"),
            (Level::Info, "2025-12-24T14:35:22.000Z", "", "fine"),
        ],
    );
    check(
        "Feb  2 15:04:05 host app[1]: up\nDec 31 23:59:59 host app[1]: last year\n",
        &[
            (Level::Info, "2026-02-02T15:04:05.000Z", "", "host app[1]: up"),
            (Level::Info, "2025-12-31T23:59:59.000Z", "", "host app[1]: last year"),
        ],
    );
    check("<34>1 2025-12-24T14:35:22.123Z host app - - - boom\n", &[(Level::Error, "2025-12-24T14:35:22.123Z", "", "host app - - - boom")]);
    check("E0102 15:04:05.123456    12 file.go:3] bad\n", &[(Level::Error, "2026-01-02T15:04:05.123Z", "", "12 file.go:3] bad")]);
    check("2025/12/24 14:35:22 [warn] nginx\n", &[(Level::Warn, "2025-12-24T14:35:22.000Z", "", "nginx")]);
}

#[test]
fn tracebacks_and_stacks_join() {
    let text = "2025-12-24 14:35:22,123 ERROR failed\nTraceback (most recent call last):\n  File \"a.py\", line 1, in <module>\n    f()\nValueError: no\n2025-12-24 14:35:23,000 INFO next\n";
    let events = parse(text.as_bytes());
    assert_eq!(events.len(), 2, "{events:#?}");
    assert!(events[0].text.ends_with("ValueError: no"), "{}", events[0].text);
    assert_eq!(&*events[1].text, "next");

    let events = parse(b"Traceback (most recent call last):\n  File \"a.py\", line 1\nValueError: no\nhello\n");
    assert_eq!(events.len(), 2, "{events:#?}");
    assert_eq!(events[0].level, Level::Error);
    assert!(events[0].text.starts_with("ValueError: no\nTraceback") && events[0].text.contains("File \"a.py\""), "{}", events[0].text);

    let events = parse(b"Error: boom\n    at f (a.js:1:2)\nCaused by: other\n\tat g\nnext\n");
    assert_eq!(events.len(), 2, "{events:#?}");
    assert!(events[0].text.contains("at f (a.js:1:2)") && events[0].text.contains("at g"), "{}", events[0].text);
}

#[test]
fn formats_may_change_within_a_stream() {
    let text = "[2025-12-24T14:35:22Z] [ERROR] [agent:a] one\nuserId: u\n{\"level\":30,\"msg\":\"two\"}\nplain three\n2025-12-24 14:35:22 WARN four\n[2025-12-24T14:35:22Z] [INFO] five\n";
    let texts: Vec<_> = parse(text.as_bytes()).iter().map(|event| event.text.to_string()).collect();
    assert_eq!(texts, ["one", "two", "plain three", "four", "five"]);
}

#[test]
fn secrets_do_not_survive() {
    let events = parse(
        b"[2025-12-24T14:35:22Z] [ERROR] [agent:a] key sk-ant-api03-AbCdEf123456_xyz\napiKey: abcdefgh\ndsn: postgres://a:hunter22@db/x\n",
    );
    let shown = format!("{events:?}");
    for secret in ["AbCdEf123456", "abcdefgh", "hunter22"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn hostile_lines_are_bounded() {
    let mut parser = Parser::new(utc());
    let huge = vec![b'x'; 10 * 1024 * 1024];
    let bomb = [vec![b'['; 200_000], vec![b']'; 200_000]].concat();
    let nested = [b"{\"msg\":".to_vec(), vec![b'['; 100_000]].concat();
    let mut events = Vec::new();
    for line in
        [&huge[..], b"\0\x01\xff\xfe", b"", b"[", b"[]", b"{", b"}", b"{}", b"[2025-12-24T14:35:22Z]", b"<", b"<999>", &bomb, &nested]
    {
        parser.feed(line, now(), &mut events);
    }
    parser.feed(b"[2025-12-24T14:35:22Z] [ERROR] [agent:a] one", now(), &mut events);
    for _ in 0..100_000 {
        parser.feed(b"key: value of some length", now(), &mut events);
    }
    parser.flush(&mut events);
    assert!(parser.counts.cut > 90_000 && parser.counts.invalid_utf8 == 1 && parser.counts.malformed > 0, "{:?}", parser.counts);
    assert!(events.iter().all(|event| event.text.len() < RECORD_BYTES_MAX / 8));
    // What is handed on must be storable and readable again.
    for event in &events {
        let stored = serde_json::to_string(event).unwrap();
        assert_eq!(&serde_json::from_str::<Event>(&stored).unwrap(), event);
    }
}

/// A small deterministic generator: the same inputs on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }
}

#[test]
fn random_damage_never_panics() {
    let seeds = [
        ONE_USER.as_bytes(),
        br#"{"level":50,"time":1766586922123,"msg":"boom","err":{"stack":"x\n at y","code":429}}"#,
        b"2025-12-24 14:35:22,123 - a - ERROR - f\nTraceback (most recent call last):\n  File\nValueError: no\n<34>1 x\nFeb  2 15:04:05 h\nE0102 15:04:05.1 2] b\n",
        r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"ü"}}]}]}]}"#.as_bytes(),
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let started = std::time::Instant::now();
    for round in 0..20_000 {
        let mut bytes = seeds[round % seeds.len()].to_vec();
        for _ in 0..=random.next(6) {
            let at = random.next(bytes.len());
            match random.next(4) {
                0 => bytes[at] = random.next(256) as u8,
                1 => drop(bytes.drain(at..(at + random.next(20)).min(bytes.len()))),
                2 => bytes.insert(at, b"[]{}:\n\"\\ \xff\xc3"[random.next(11)]),
                _ => {
                    let copy = bytes[at..(at + random.next(30)).min(bytes.len())].to_vec();
                    bytes.splice(at..at, copy);
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        for event in parse(&bytes) {
            let stored = serde_json::to_string(&event).unwrap();
            assert_eq!(serde_json::from_str::<Event>(&stored).unwrap().text, event.text);
        }
        if started.elapsed() > Duration::from_secs(10) {
            break;
        }
    }
}

/// When the only record of the text was, in a zone.
fn instant(text: &str, options: Options) -> String {
    let events = parse_with(text.as_bytes(), &mut Parser::new(options));
    assert_eq!(events.len(), 1, "{text}");
    events[0].at.to_string()
}

/// Times that name no zone, in the spellings of loggers; all of them are 04:41:23 on a day of January.
const WITHOUT_ZONE: &[&str] = &[
    "2026-01-14 04:41:23,000 - app.worker - ERROR - Python\n",
    "[2026-01-14 04:41:23] [ERROR] [agent:a] bracket\n",
    "[2026-01-14T04:41:23] plain in brackets\n",
    "2026/01/14 04:41:23 Go\n",
    "2026-01-14 04:41:23 CET an abbreviation\n",
    "Jan 14 04:41:23 host sshd[1]: syslog\n",
    "E0114 04:41:23.000000 7 a.go:1] klog\n",
    "{\"asctime\":\"2026-01-14 04:41:23,000\",\"levelname\":\"ERROR\",\"message\":\"JSON\"}\n",
    "{\"time\":\"2026-01-14T04:41:23\",\"msg\":\"ISO\"}\n",
];

#[test]
fn times_without_a_zone_are_those_of_the_zone_that_is_set() {
    for (zone, expect) in [
        ("UTC", "04:41:23.000Z"),
        ("America/Chicago", "10:41:23.000Z"),
        ("Europe/Berlin", "03:41:23.000Z"),
        ("Asia/Kolkata", "23:11:23.000Z"),
    ] {
        for text in WITHOUT_ZONE {
            let at = instant(text, Options { time_zone: zone.parse().unwrap(), ..Options::default() });
            assert_eq!(&at[11..], expect, "{zone}: {text}");
        }
    }
}

#[test]
fn times_that_name_their_zone_are_the_same_in_every_zone() {
    for text in [
        "2026-01-14T04:41:23Z ERROR a\n",
        "2026-01-14T04:41:23.000z a\n",
        "2026-01-14 05:41:23 +0100 ERROR a\n",
        "2026-01-14 05:41:23+01:00 ERROR a\n",
        "2026-01-14 05:41:23+01 ERROR a\n",
        "2026-01-14 04:41:23 UTC ERROR a\n",
        "2026-01-13 22:41:23-06:00 a\n",
        "[2026-01-14T04:41:23.000Z] [ERROR] a\n",
        "{\"time\":1768365683,\"msg\":\"a\"}\n",
        "{\"time\":\"2026-01-14T05:41:23+01:00\",\"msg\":\"a\"}\n",
    ] {
        for zone in ["UTC", "America/Chicago", "Europe/Berlin"] {
            let at = instant(text, Options { time_zone: zone.parse().unwrap(), ..Options::default() });
            assert_eq!(at, "2026-01-14T04:41:23.000Z", "{zone}: {text}");
        }
    }
}

#[test]
fn a_year_that_is_not_told_is_that_of_the_local_new_year() {
    let at = |zone: &str, now: &str, text: &str| {
        let mut events = Vec::new();
        let mut parser = Parser::new(Options { time_zone: zone.parse().unwrap(), ..Options::default() });
        parser.feed(text.as_bytes(), Timestamp::parse(now).unwrap(), &mut events);
        parser.flush(&mut events);
        events[0].at.to_string()
    };
    let (berlin, chicago) = ("Europe/Berlin", "America/Chicago");
    assert_eq!(at(berlin, "2025-12-31T23:31:00Z", "Jan  1 00:30:00 h a: b\n"), "2025-12-31T23:30:00.000Z");
    assert_eq!(at(chicago, "2026-01-01T05:00:00Z", "Dec 31 22:59:00 h a: b\n"), "2026-01-01T04:59:00.000Z");
    assert_eq!(at(chicago, "2026-01-05T05:00:00Z", "Dec 31 22:59:00 h a: b\n"), "2026-01-01T04:59:00.000Z");
    assert_eq!(at(chicago, "2026-06-05T05:00:00Z", "Dec 31 22:59:00 h a: b\n"), "2026-01-01T04:59:00.000Z");
}

/// The machine's zone is asked for once in a process, so the test runs itself again with another one.
#[test]
fn the_machines_zone_is_the_default() {
    const INSIDE: &str = "PARAMEDIC_TEST_EXPECTED_TIME";
    if let Ok(expect) = std::env::var(INSIDE) {
        for text in WITHOUT_ZONE {
            assert_eq!(instant(text, Options::default()), expect, "{text}");
        }
        return;
    }
    for (zone, expect) in [
        ("America/Chicago", "2026-01-14T10:41:23.000Z"),
        ("Europe/Berlin", "2026-01-14T03:41:23.000Z"),
        ("UTC", "2026-01-14T04:41:23.000Z"),
        ("Nowhere/Atall", "2026-01-14T04:41:23.000Z"),
    ] {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "log::the_machines_zone_is_the_default"]).env("TZ", zone).env(INSIDE, expect);
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && told.contains("1 passed"), "{zone}: {told}");
    }
}

#[test]
fn records_that_name_no_agent_or_session_get_those_of_the_options() {
    let options = || Options { agent: Some("planner".into()), session: Some("s-1".into()), ..utc() };
    for (text, agent, session) in [
        ("2026-01-14 04:41:23 ERROR boom\n", "planner", "s-1"),
        ("{\"level\":\"error\",\"msg\":\"boom\"}\n", "planner", "s-1"),
        ("{\"level\":\"error\",\"msg\":\"boom\",\"agentName\":\"a\",\"sessionId\":\"s\"}\n", "a", "s"),
        ("[2026-01-14T04:41:23Z] [ERROR] [agent:a] boom\n", "a", "s-1"),
    ] {
        let events = parse_with(text.as_bytes(), &mut Parser::new(options()));
        let names = (events[0].agent.as_ref().unwrap().as_str(), events[0].session.as_ref().unwrap().as_str());
        assert_eq!(names, (agent, session), "{text}");
    }
    // A session alone is its own agent.
    let events = parse_with(b"boom\n", &mut Parser::new(Options { agent: None, ..options() }));
    assert_eq!(events[0].agent.as_ref().unwrap().as_str(), "s-1");
}

#[test]
fn a_status_in_the_message_counts_where_it_is_one() {
    let class = |text: &str| match parse(format!("2026-01-14 04:41:23 ERROR {text}\n").as_bytes()).remove(0).fact {
        Fact::ModelError { class, status, .. } => Some((class, status)),
        _ => None,
    };
    let overloaded = Some((ApiErrorClass::Overloaded, Some(529)));
    let limited = Some((ApiErrorClass::RateLimit, Some(429)));
    for (text, expect) in [
        ("API Error: 529 {\"type\":\"error\"}", overloaded),
        ("529 Overloaded", overloaded),
        ("model call failed: HTTP/1.1 529", overloaded),
        ("request failed status=529", overloaded),
        ("Error code: 429 - slow down", limited),
        ("got 429 Too Many Requests", limited),
        ("processed 529 records", None),
        ("3 errors in 529 files", None),
        ("code 5290", None),
        ("error 1529", None),
        ("status 29", None),
        ("29", None),
        ("error 529é", overloaded),
    ] {
        assert_eq!(class(text), expect, "{text}");
    }
}

#[test]
fn the_zone_of_followed_logs_is_a_name_that_is_known() {
    use paramedic_collect::config::LogSettings;
    let read = |zone: &str| serde_json::from_value::<LogSettings>(serde_json::json!({ "time_zone": zone }));
    assert_eq!(read("local").unwrap().time_zone, LogSettings::default().time_zone);
    assert_eq!(read("Europe/Berlin").unwrap().time_zone, "Europe/Berlin".parse().unwrap());
    let error = read("Mars/Olympus").unwrap_err().to_string();
    assert_eq!(error, "find the time zone `Mars/Olympus`: use `local`, `UTC` or a name like `Europe/Berlin`");
}
