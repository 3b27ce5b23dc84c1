//! A call's record as events and samples, and what it takes to make them.

use std::time::{Duration, Instant};

use hyper::HeaderMap;
use paramedic_gateway::answer::{Bucket, BucketName, Limits};
use paramedic_gateway::observe::{LimitNews, REFUSED_BY, Samples, UNFINISHED, events, outlet};
use paramedic_gateway::{Acted, Caller, Kind, Outcome, Record};
use paramedic_model::{ApiErrorClass, Event, Fact, Level, Source, Timestamp, Usage};
use prometheus_client::registry::Registry;

fn caller() -> Caller {
    Caller {
        key: Some("k1".into()),
        user: Some("ana".into()),
        agent: Some("s1/a9".into()),
        session: Some("s1".into()),
        prompt: Some("p1".into()),
        client: Some("claude-cli/2.1.330".into()),
        attempt: 1,
        ..Caller::default()
    }
}

fn record() -> Record {
    Record {
        id: 7,
        at: Timestamp::from_secs(1_000),
        kind: Kind::Inference,
        caller: caller(),
        method: "POST".into(),
        path: "/v1/messages".into(),
        upstream: "anthropic".into(),
        model: Some("claude-opus-5-5".into()),
        served_model: Some("claude-opus-5-5".into()),
        stream: true,
        outcome: Outcome::Answered,
        status: 200,
        error_type: None,
        request_id: Some("req_011CSHoEeqs5C35K2UUqR7Fy".into()),
        message_id: Some("msg_01XFDUDYJgAACzvnptvVoYEL".into()),
        usage: Usage { input_tokens: 3, output_tokens: 500, cache_read_tokens: 40_000, ..Usage::default() },
        cost_pico: Some(1_250_000_000),
        stop_reason: Some("end_turn".into()),
        tries: 1,
        waited: Duration::ZERO,
        first_byte: Some(Duration::from_millis(800)),
        first_token: Some(Duration::from_millis(900)),
        duration: Duration::from_millis(3_200),
        request_bytes: 40_000,
        response_bytes: 14_300,
        repeated_share: Some(0.987_654),
        acted: Vec::new(),
    }
}

fn acted(switch: &str, what: &str) -> Vec<Acted> {
    vec![Acted { switch: switch.into(), what: what.into() }]
}

fn one(record: &Record) -> Event {
    let [event] = <[Event; 1]>::try_from(events(record)).unwrap();
    event
}

#[test]
fn an_answer_is_a_call_of_the_model_that_served_it() {
    let mut record = record();
    record.served_model = Some("claude-haiku-4-5".into());
    (record.tries, record.waited) = (2, Duration::from_millis(250));
    record.acted = acted("route_to_model@all", "asked claude-haiku-4-5 instead");
    let event = one(&record);
    assert_eq!((event.source, event.level, event.at), (Source::Gateway, Level::Info, Timestamp::from_millis(1_003_200)));
    assert_eq!(event.agent.as_ref().unwrap().as_str(), "s1/a9");
    assert_eq!(event.session.as_ref().unwrap().as_str(), "s1");
    let correlation = &event.correlation;
    assert_eq!((correlation.prompt.as_deref(), correlation.user.as_deref()), (Some("p1"), Some("ana")));
    assert_eq!(correlation.request, record.request_id);
    let Fact::ModelCall { message, model, usage, cost_usd, duration, time_to_first_token, stop_reason, text_hash } = &event.fact else {
        panic!("{event:?}")
    };
    assert_eq!((message, model.as_deref(), *usage), (&record.message_id, Some("claude-haiku-4-5"), record.usage));
    assert_eq!((*cost_usd, *duration, *time_to_first_token), (Some(0.001_25), Some(record.duration), record.first_token));
    assert_eq!((stop_reason.as_deref(), *text_hash), (Some("end_turn"), None));
    assert_eq!(&*event.text, "claude-haiku-4-5 answered in 3.2 s: 40003 tokens read, 500 written");
    let attributes = serde_json::Value::Object(event.attributes.clone());
    let expect = serde_json::json!({
        "status": 200, "key": "k1", "client": "claude-cli/2.1.330", "upstream": "anthropic", "asked_model": "claude-opus-5-5",
        "tries": 2, "waited_ms": 250, "first_byte_ms": 800, "request_bytes": 40_000, "repeated_share": 0.988,
        "acted": ["route_to_model@all: asked claude-haiku-4-5 instead"],
    });
    assert_eq!(attributes, expect);
}

#[test]
fn a_model_by_a_shorter_name_is_no_other_model() {
    for (asked, served, is_other) in [
        ("claude-haiku-4-5", "claude-haiku-4-5-20251001", false),
        ("claude-haiku-4-latest", "claude-haiku-4-20251001", false),
        ("claude-opus-5[1m]", "claude-opus-5", false),
        ("claude-opus-5", "claude-opus-5-5", true),
        ("claude-opus-5", "claude-opus-5-5-20251001", true),
        ("claude-opus-5", "claude-haiku-5", true),
    ] {
        let record = Record { model: Some(asked.into()), served_model: Some(served.into()), ..record() };
        assert_eq!(one(&record).attributes.contains_key("asked_model"), is_other, "{asked} {served}");
    }
}

#[test]
fn a_failure_is_a_retry_where_clients_come_again_and_else_the_end() {
    use ApiErrorClass as Class;
    let cases = [
        (429, Some("rate_limit_error"), "claude-cli/2", Class::RateLimit, false),
        (429, Some("billing_error"), "claude-cli/2", Class::Billing, true),
        (500, Some("api_error"), "", Class::Server, false),
        (529, Some("overloaded_error"), "", Class::Overloaded, false),
        (200, Some("overloaded_error"), "", Class::Overloaded, false),
        (400, Some("invalid_request_error"), "", Class::InvalidRequest, true),
        (401, Some("authentication_error"), "Anthropic/Python 2.12.0", Class::Authentication, true),
        // Measured: it tries ten times more.
        (401, Some("authentication_error"), "claude-cli/2", Class::Authentication, false),
        (403, None, "", Class::Authentication, true),
        (413, Some("request_too_large"), "", Class::PromptTooLong, true),
        (408, None, "", Class::Timeout, false),
    ];
    for (status, error_type, client, class, is_final) in cases {
        let mut record = Record { status, error_type: error_type.map(Into::into), usage: Usage::default(), ..record() };
        record.caller.client = Some(client.into());
        record.caller.attempt = 3;
        let event = one(&record);
        match event.fact {
            Fact::ModelRetry { class: told, attempt, .. } => assert_eq!((told, attempt, is_final), (class, 3, false), "{status}"),
            Fact::ModelError { class: told, attempts, .. } => assert_eq!((told, attempts, is_final), (class, Some(3), true), "{status}"),
            ref other => panic!("{status}: {other:?}"),
        }
        assert_eq!(event.level, if is_final { Level::Error } else { Level::Warn });
        assert!(!event.attributes.contains_key(REFUSED_BY));
        assert_eq!(event.correlation.request, record.request_id);
    }
}

#[test]
fn an_answer_that_broke_off_is_what_it_cost_and_what_failed() {
    for (outcome, status, error, why, class) in [
        (Outcome::Cut, 200, None, "cut", ApiErrorClass::Network),
        (Outcome::TimedOut, 200, None, "timed-out", ApiErrorClass::Timeout),
        (Outcome::Answered, 200, Some("overloaded_error"), "error", ApiErrorClass::Overloaded),
    ] {
        let record = Record { outcome, status, error_type: error.map(Into::into), ..record() };
        let [cost, failed] = <[Event; 2]>::try_from(events(&record)).unwrap();
        assert_eq!(cost.attributes[UNFINISHED], why);
        assert!(matches!(&cost.fact, Fact::ModelCall { usage, stop_reason: None, .. } if *usage == record.usage), "{cost:?}");
        assert!(matches!(failed.fact, Fact::ModelRetry { class: told, status: None, .. } if told == class), "{failed:?}");
        let nothing = Record { usage: Usage::default(), ..record };
        assert!(matches!(one(&nothing).fact, Fact::ModelRetry { .. }), "nothing was spent");
    }
    let gone = Record { outcome: Outcome::ClientGone, ..record() };
    assert_eq!(one(&gone).attributes[UNFINISHED], "client-gone");
    let before = Record { usage: Usage::default(), ..gone };
    assert_eq!((one(&before).fact, &*one(&before).name), (Fact::Record, "gateway/client_gone"));
}

#[test]
fn a_refusal_says_by_which_switch_and_is_nobodys_failure() {
    let cases = [
        (403, "permission_error", "blocked_user:ana@all", true),
        (429, "billing_error", "daily_budget_dollars@all", true),
        (429, "rate_limit_error", "rate_limit_per_minute@all", false),
        (503, "overloaded_error", "fast_fail@all", true),
        (503, "overloaded_error", "breaker:anthropic@all", false),
    ];
    for (status, error_type, switch, is_final) in cases {
        let record = Record {
            outcome: Outcome::Refused,
            status,
            error_type: Some(error_type.into()),
            usage: Usage::default(),
            acted: acted(switch, "why it did"),
            ..record()
        };
        let event = one(&record);
        assert_eq!(event.level, Level::Warn);
        assert!(event.text.contains(switch), "{}", event.text);
        assert_eq!(event.attributes[REFUSED_BY], switch);
        assert_eq!(matches!(event.fact, Fact::ModelError { .. }), is_final, "{switch}");
    }
    let settings = Record { outcome: Outcome::Refused, status: 429, usage: Usage::default(), ..record() };
    assert_eq!(one(&settings).attributes[REFUSED_BY], "gateway");
    let broken = Record { outcome: Outcome::BrokenOff, acted: acted("break_off@all", ""), ..record() };
    assert_eq!(events(&broken).len(), 2);
    let degraded = Record { outcome: Outcome::Degraded, acted: acted("degraded_mode@all", "a fixed answer"), ..record() };
    assert_eq!(one(&degraded).fact, Fact::Record, "no tokens were spent");
}

#[test]
fn other_requests_are_told_only_when_they_fail() {
    for kind in [Kind::CountTokens, Kind::Other] {
        assert_eq!(events(&Record { kind, ..record() }), []);
        assert_eq!(events(&Record { kind, outcome: Outcome::ClientGone, ..record() }), []);
        let failed = one(&Record { kind, status: 500, path: "/v1/models".into(), ..record() });
        assert_eq!((failed.fact, &*failed.text), (Fact::Record, "POST /v1/models failed: HTTP 500"));
    }
}

#[test]
fn whoever_calls_has_a_name() {
    let named = |change: fn(&mut Caller)| {
        let mut record = record();
        change(&mut record.caller);
        one(&record).agent.unwrap().to_string()
    };
    assert_eq!(named(|caller| caller.agent = None), "s1");
    assert_eq!(named(|caller| (caller.agent, caller.session) = (None, None)), "ana");
    assert_eq!(named(|caller| (caller.agent, caller.session, caller.user) = (None, None, Some("a/b".into()))), "a_b");
    assert_eq!(named(|caller| *caller = Caller { key: Some("prod".into()), ..Caller::default() }), "key:prod");
    assert_eq!(named(|caller| *caller = Caller::default()), "key:none");
}

#[test]
fn the_same_record_has_the_same_identity_and_another_one_another() {
    let uid = |record: &Record| one(record).uid.unwrap();
    assert_eq!(uid(&record()), uid(&record()));
    assert_ne!(uid(&record()), uid(&Record { id: 8, ..record() }));
    assert_ne!(uid(&record()), uid(&Record { at: Timestamp::from_secs(1_001), ..record() }));
}

fn limits(remaining: u64, now: Timestamp) -> Limits {
    let told = [
        ("anthropic-ratelimit-input-tokens-limit", "1000".to_owned()),
        ("anthropic-ratelimit-input-tokens-remaining", remaining.to_string()),
        ("anthropic-ratelimit-input-tokens-reset", now.after(Duration::from_secs(30)).to_string()),
    ];
    let headers = HeaderMap::from_iter(told.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())));
    Limits::read(&headers, now).unwrap()
}

#[test]
fn limits_are_news_when_they_change_and_not_often() {
    let mut news = LimitNews::default();
    let mut told = Vec::new();
    // Seconds, what remains of 1000, whether a call was refused, and what is told.
    for (at, remaining, refused, expect) in [
        (0, 900, false, None),
        (1, 500, false, Some("allowed")),
        (3, 150, false, None),
        (12, 150, false, Some("allowed_warning")),
        (30, 140, false, None),
        (31, 90, false, Some("allowed_warning")),
        (42, 0, true, Some("rejected")),
        (60, 0, true, None),
        (70, 990, false, Some("allowed")),
        (71, 20, false, None),
        (81, 20, false, Some("allowed_warning")),
    ] {
        let now = Timestamp::from_secs(1_000 + at);
        let events = news.told(&caller(), &limits(remaining, now), refused, now);
        let status = events.first().map(|event| match &event.fact {
            Fact::RateLimit { status, limit, resets_at, .. } => {
                assert_eq!((limit.as_deref(), resets_at.is_some()), (Some("input_tokens"), true));
                status.to_string()
            }
            other => panic!("{other:?}"),
        });
        assert_eq!(status.as_deref(), expect, "at {at}");
        told.extend(events);
    }
    // Two limits of one key: there is room again when both have it.
    let (mut both, third) = (LimitNews::default(), Caller { key: Some("k3".into()), ..caller() });
    for (at, input, requests, expect) in [(0, 20, 20, 2), (20, 900, 20, 0), (40, 900, 900, 1)] {
        let now = Timestamp::from_secs(1_000 + at);
        let mut all = limits(input, now);
        all.buckets.push(Bucket { name: BucketName::Requests, limit: Some(1_000), remaining: Some(requests), resets_at: None });
        assert_eq!(both.told(&third, &all, false, now).len(), expect, "at {at}");
    }
    let other = Caller { key: Some("k2".into()), ..caller() };
    let now = Timestamp::from_secs(1_082);
    assert_eq!(news.told(&other, &limits(20, now), false, now).len(), 1, "each key has its own");
    let uids: std::collections::HashSet<_> = told.iter().map(|event| event.uid).collect();
    assert_eq!(uids.len(), told.len());
}

#[test]
fn limits_of_many_keys_take_bounded_memory() {
    let (mut news, samples) = (LimitNews::default(), Samples::default());
    for number in 0..3_000 {
        let now = Timestamp::from_secs(1_000 + number);
        let caller = Caller { key: Some(format!("k{number}").into()), ..Caller::default() };
        news.told(&caller, &limits(20, now), false, now);
        samples.limits(caller.key.as_deref(), &limits(20, now));
    }
    let text = shown(&samples);
    assert_eq!(text.matches("anthropic_ratelimit_input_tokens_remaining{").count(), 200);
    assert!(text.contains("key=\"k2999\"") && !text.contains("key=\"k1\""));
}

fn shown(samples: &Samples) -> String {
    let (mut registry, mut text) = (Registry::default(), String::new());
    samples.register(&mut registry);
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    text
}

#[test]
fn samples_count_calls_and_name_switches_but_nobody() {
    let samples = Samples::default();
    samples.ended(&record());
    samples.ended(&record());
    let blocked = Record { outcome: Outcome::Refused, status: 403, acted: acted("blocked_user:secret-ana@all", ""), tries: 0, ..record() };
    samples.ended(&blocked);
    samples.ended(&Record { acted: acted("max_history_tokens@user:secret-ana", ""), kind: Kind::Other, ..record() });
    samples.ended(&Record { acted: acted("made up", ""), status: 999, ..record() });
    let now = Timestamp::from_secs(1_000);
    samples.limits(Some("prod"), &limits(250, now));
    let (running, waiting) = (samples.in_flight(), samples.queued());
    let text = shown(&samples);
    for line in [
        "paramedic_gateway_calls_total{kind=\"inference\",outcome=\"answered\",status=\"2xx\"} 2",
        "paramedic_gateway_calls_total{kind=\"inference\",outcome=\"refused\",status=\"4xx\"} 1",
        "paramedic_gateway_calls_total{kind=\"inference\",outcome=\"answered\",status=\"none\"} 1",
        "paramedic_gateway_refused_total{switch=\"blocked_user\"} 1",
        "paramedic_gateway_changed_total{switch=\"max_history_tokens\"} 1",
        "paramedic_gateway_changed_total{switch=\"other\"} 1",
        "paramedic_gateway_upstream_tries_total 4",
        "paramedic_gateway_request_bytes_total 200000",
        "paramedic_gateway_calls_in_flight 1",
        "paramedic_gateway_calls_queued 1",
        "anthropic_ratelimit_input_tokens_limit{key=\"prod\"} 1000",
        "anthropic_ratelimit_input_tokens_remaining{key=\"prod\"} 250",
        "anthropic_ratelimit_input_tokens_reset_timestamp_seconds{key=\"prod\"} 1030",
        "agent_gateway_ttfb_seconds_count 4",
        "agent_gateway_first_token_seconds_bucket{le=\"1.0\",model=\"claude-opus-5-5\"} 4",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("secret-ana"), "{text}");
    drop((running, waiting));
    assert!(shown(&samples).contains("paramedic_gateway_calls_in_flight 0"));
    for number in 0..500 {
        samples.ended(&Record { served_model: Some(format!("m{number}").into()), ..record() });
    }
    let models = shown(&samples).matches("agent_gateway_first_token_seconds_count{").count();
    assert!(models <= 51, "{models}");
}

/// Every name on `/metrics` is in the reference.
#[test]
fn the_reference_names_all_of_them() {
    let samples = Samples::default();
    samples.ended(&record());
    samples.limits(Some("prod"), &limits(250, Timestamp::from_secs(1_000)));
    let (text, (outlet, _out)) = (shown(&samples), outlet(1));
    let mut registry = Registry::default();
    outlet.register(&mut registry);
    let mut lost = String::new();
    prometheus_client::encoding::text::encode(&mut lost, &registry).unwrap();
    let reference = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md")).unwrap();
    for line in text.lines().chain(lost.lines()).filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        assert!(reference.contains(&format!("`{name}`")), "{name}");
    }
}

#[tokio::test]
async fn a_call_never_waits_for_those_who_count_it() {
    let (outlet, mut out) = outlet(2);
    for _ in 0..5 {
        outlet.hand_over(events(&record()));
    }
    assert_eq!(outlet.lost(), 3);
    assert!(out.recv().await.is_some());
    outlet.hand_over(events(&record()));
    assert_eq!(outlet.lost(), 3);
}

/// By hand: `cargo nextest run --release -p paramedic-gateway --run-ignored only -E 'test(takes_little_time)' --no-capture`.
#[test]
#[ignore = "measures; meant for a release build"]
fn a_plain_call_takes_little_time() {
    const ROUNDS: u32 = 20_000;
    let (outlet, mut out) = outlet(64);
    let (record, samples, now) = (record(), Samples::default(), Timestamp::from_secs(1_000));
    let (limits, mut news) = (limits(900, now), LimitNews::default());
    let each = |what: &str, mut run: Box<dyn FnMut() + '_>| {
        let best = (0..9).map(|_| {
            let begin = Instant::now();
            (0..ROUNDS).for_each(|_| run());
            begin.elapsed() / ROUNDS
        });
        let best = best.min().unwrap();
        println!("{what}: {} ns", best.as_nanos());
        best
    };
    let events = each(
        "events and their hand-over",
        Box::new(|| {
            outlet.hand_over(events(&record));
            while out.try_recv().is_ok() {}
        }),
    );
    each("samples of a call", Box::new(|| samples.ended(&record)));
    each("samples of limits", Box::new(|| samples.limits(Some("k1"), &limits)));
    each("news of limits", Box::new(|| drop(news.told(&record.caller, &limits, false, now))));
    if !cfg!(debug_assertions) {
        assert!(events < Duration::from_micros(2), "{events:?}");
    }
}
