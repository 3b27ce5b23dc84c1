//! OTLP: every encoding trap, every answer, and OpenTelemetry's own exporters.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum, Summary, SummaryDataPoint, exponential_histogram_data_point, metric, number_data_point, summary_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};
use paramedic_collect::otlp::{self, Converted, Encoding, Receiver, Settings, Signal};
use paramedic_collect::sink::{BoxFuture, Sink, SinkError};
use paramedic_model::{ApiErrorClass, Event, Fact, Level, ManualClock, Source, Temporality, Timestamp, ToolOutcome};
use prost::Message;
use tokio_util::sync::CancellationToken;

mod exporters;
mod samples;

fn now() -> Timestamp {
    Timestamp::parse("2026-03-01T12:00:00Z").unwrap()
}

fn any(value: Any) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn pair(key: &str, value: Any) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(any(value)), ..KeyValue::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    pair(key, Any::StringValue(value.to_owned()))
}

fn resource(attributes: Vec<KeyValue>) -> Option<Resource> {
    Some(Resource { attributes, ..Resource::default() })
}

fn scope(name: &str) -> Option<InstrumentationScope> {
    Some(InstrumentationScope { name: name.to_owned(), version: "1".to_owned(), ..InstrumentationScope::default() })
}

fn logs(resource_attributes: Vec<KeyValue>, log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    let scope_logs = vec![ScopeLogs { scope: scope("s"), log_records, ..ScopeLogs::default() }];
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { resource: resource(resource_attributes), scope_logs, ..ResourceLogs::default() }],
    }
}

/// The three ways in give the same events.
fn same(signal: Signal, json: &str, protobuf: &[u8], typed: Converted) -> Vec<Event> {
    let decode = |encoding, body| otlp::decode(signal, encoding, body, now(), 1_000).unwrap();
    let from_json = decode(Encoding::Json, json.as_bytes());
    assert_eq!(from_json, decode(Encoding::Protobuf, protobuf), "JSON and protobuf differ");
    assert_eq!(from_json, typed, "JSON and the typed request differ");
    for event in &from_json.events {
        let stored = serde_json::to_string(event).unwrap();
        let read: Event = serde_json::from_str(&stored).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), stored, "an event must survive being stored");
    }
    from_json.events
}

const TRACE: [u8; 16] = [0x5b, 0x8e, 0xff, 0xf7, 0x98, 0x03, 0x81, 0x03, 0xd2, 0x69, 0xb6, 0x33, 0x81, 0x3f, 0xc6, 0x0c];
const SPAN: [u8; 8] = [0xee, 0xe1, 0x9b, 0x7e, 0xc3, 0xc1, 0xb1, 0x74];

#[test]
fn logs_with_every_trap_are_what_protobuf_says() {
    let json = r#"{
      "unknown": {"deep": [1, {"x": null}]},
      "resourceLogs": [{
        "resource": {"attributes": [{"key":"service.name","value":{"stringValue":"claude-code"}}, {"key":"host.arch","value":{"stringValue":"amd64"}}], "droppedAttributesCount": 0},
        "schemaUrl": "x",
        "scope_logs": [{
          "scope": {"name": "s", "version": 1, "other": true},
          "logRecords": [
            {"timeUnixNano": "1770000000123456789", "severityNumber": "SEVERITY_NUMBER_INFO", "severityText": "INFO",
             "body": {"stringValue": "claude_code.tool_result"},
             "attributes": [
               {"key":"event.name","value":{"stringValue":"tool_result"}},
               {"key":"session.id","value":{"stringValue":"s1"}},
               {"key":"duration_ms","value":{"stringValue":"1834"}},
               {"key":"success","value":{"stringValue":"false"}},
               {"key":"tool_name","value":{"stringValue":"Bash"}},
               {"key":"n","value":{"intValue":"42"}}, {"key":"m","value":{"intValue":43}}, {"key":"f","value":{"intValue":44.0}},
               {"key":"d","value":{"doubleValue":"1.5"}}, {"key":"i","value":{"doubleValue":2}}, {"key":"nan","value":{"doubleValue":"NaN"}},
               {"key":"b","value":{"boolValue":"true"}}, {"key":"c","value":{"boolValue":true}},
               {"key":"bytes","value":{"bytesValue":"Zm9v"}},
               {"key":"list","value":{"arrayValue":{"values":[{"intValue":"1"},{"stringValue":"x"},{}]}}},
               {"key":"map","value":{"kvlistValue":{"values":[{"key":"k","value":{"kvlistValue":{"values":[{"key":"inner","value":{"boolValue":false}}]}}}]}}},
               {"key":"none","value":{}}, {"key":"null","value":null}
             ],
             "traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "eee19b7ec3c1b174", "flags": "1", "droppedAttributesCount": "0"},
            {"time_unix_nano": 0, "observed_time_unix_nano": 1770000000000000000, "severity_number": 17, "event_name": "claude_code.unheard_of",
             "body": {"kvlist_value": {"values": [{"key":"a","value":{"int_value":1}}]}},
             "attributes": [{"key":"session_id","value":{"string_value":"s1"}}],
             "trace_id": "W47/95gDgQPSabYzgT/GDA==", "span_id": "7uGbfsPBsXQ="},
            {"severityNumber": "9", "body": null, "attributes": null, "traceId": ""}
          ]
        }]
      }]
    }"#;
    let first = LogRecord {
        time_unix_nano: 1_770_000_000_123_456_789,
        severity_number: 9,
        severity_text: "INFO".to_owned(),
        body: Some(any(Any::StringValue("claude_code.tool_result".to_owned()))),
        attributes: vec![
            text("event.name", "tool_result"),
            text("session.id", "s1"),
            text("duration_ms", "1834"),
            text("success", "false"),
            text("tool_name", "Bash"),
            pair("n", Any::IntValue(42)),
            pair("m", Any::IntValue(43)),
            pair("f", Any::IntValue(44)),
            pair("d", Any::DoubleValue(1.5)),
            pair("i", Any::DoubleValue(2.0)),
            pair("nan", Any::DoubleValue(f64::NAN)),
            pair("b", Any::BoolValue(true)),
            pair("c", Any::BoolValue(true)),
            pair("bytes", Any::BytesValue(b"foo".to_vec())),
            pair(
                "list",
                Any::ArrayValue(ArrayValue {
                    values: vec![any(Any::IntValue(1)), any(Any::StringValue("x".to_owned())), AnyValue::default()],
                }),
            ),
            pair(
                "map",
                Any::KvlistValue(KeyValueList {
                    values: vec![pair("k", Any::KvlistValue(KeyValueList { values: vec![pair("inner", Any::BoolValue(false))] }))],
                }),
            ),
            KeyValue { key: "none".to_owned(), ..KeyValue::default() },
            KeyValue { key: "null".to_owned(), ..KeyValue::default() },
        ],
        trace_id: TRACE.to_vec(),
        span_id: SPAN.to_vec(),
        flags: 1,
        ..LogRecord::default()
    };
    let second = LogRecord {
        observed_time_unix_nano: 1_770_000_000_000_000_000,
        severity_number: 17,
        event_name: "claude_code.unheard_of".to_owned(),
        body: Some(any(Any::KvlistValue(KeyValueList { values: vec![pair("a", Any::IntValue(1))] }))),
        attributes: vec![text("session_id", "s1")],
        trace_id: TRACE.to_vec(),
        span_id: SPAN.to_vec(),
        ..LogRecord::default()
    };
    let third = LogRecord { severity_number: 9, ..LogRecord::default() };
    let request = logs(vec![text("service.name", "claude-code"), text("host.arch", "amd64")], vec![first, second, third]);
    let events = same(Signal::Logs, json, &request.encode_to_vec(), otlp::logs_to_events(request, now()));

    assert_eq!(events[0].at, Timestamp::from_micros(1_770_000_000_123_456));
    let failed = Fact::ToolResult {
        id: None,
        tool: Some("Bash".into()),
        outcome: ToolOutcome::Error,
        result_hash: None,
        duration: Some(Duration::from_millis(1834)),
    };
    assert_eq!(events[0].fact, failed);
    assert_eq!(events[0].correlation.trace.as_deref(), Some("5b8efff798038103d269b633813fc60c"));
    assert_eq!(events[0].attributes["host.arch"], "amd64");
    assert_eq!(events[0].attributes["map"], serde_json::json!({"k": {"inner": false}}));
    assert_eq!(events[0].attributes["nan"], "NaN");
    assert_eq!(events[1].at, Timestamp::from_secs(1_770_000_000));
    assert_eq!((events[1].level, &*events[1].name), (Level::Error, "claude_code.unheard_of"));
    assert_eq!(events[1].correlation, paramedic_model::event::Correlation { prompt: None, ..events[0].correlation.clone() });
    assert_eq!(events[2].at, now(), "a record without a time happened when it came");
}

#[test]
fn metrics_with_every_trap_are_what_protobuf_says() {
    let json = r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"claude-code"}}]},"scopeMetrics":[{"scope":{"name":"com.anthropic.claude_code"},"metrics":[
      {"name":"claude_code.token.usage","unit":"tokens","sum":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_DELTA","isMonotonic":true,"dataPoints":[
        {"attributes":[{"key":"session.id","value":{"stringValue":"s1"}},{"key":"type","value":{"stringValue":"input"}}],"startTimeUnixNano":"1770000000000000000","timeUnixNano":1770000060000000000,"asInt":"17"},
        {"timeUnixNano":"1770000060000000000","asInt":18},
        {"timeUnixNano":"1770000060000000000","asDouble":0.5},
        {"timeUnixNano":"1770000060000000000","asDouble":"Infinity"},
        {"timeUnixNano":"1770000060000000000","flags":1},
        {"timeUnixNano":"1770000060000000000"}]}},
      {"name":"c","sum":{"aggregation_temporality":2,"data_points":[{"time_unix_nano":"1770000060000000000","as_int":"-1"}]}},
      {"name":"g","gauge":{"dataPoints":[{"timeUnixNano":"1770000060000000000","asDouble":"2.5"}]}},
      {"name":"h","unit":"ms","histogram":{"aggregationTemporality":"1","dataPoints":[{"timeUnixNano":"1770000060000000000","count":"3","sum":6,"bucketCounts":["1",2,"0"],"explicitBounds":[1,"5.5"],"min":1,"max":3}]}},
      {"name":"e","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"1770000060000000000","count":2,"sum":"4.5","scale":-1,"zeroCount":"1","positive":{"offset":-2,"bucketCounts":["1"]}}]}},
      {"name":"q","summary":{"dataPoints":[{"timeUnixNano":"1770000060000000000","count":"2","sum":7,"quantileValues":[{"quantile":0.5,"value":3}]}]}},
      {"name":"unknown","futureKind":{"dataPoints":[{}]}}
    ]}]}]}"#;
    let ended = 1_770_000_060_000_000_000;
    let number = |value| NumberDataPoint { time_unix_nano: ended, value, ..NumberDataPoint::default() };
    let metric =
        |name: &str, unit: &str, data| Metric { name: name.to_owned(), unit: unit.to_owned(), data: Some(data), ..Metric::default() };
    let metrics = vec![
        metric(
            "claude_code.token.usage",
            "tokens",
            metric::Data::Sum(Sum {
                aggregation_temporality: 1,
                is_monotonic: true,
                data_points: vec![
                    NumberDataPoint {
                        attributes: vec![text("session.id", "s1"), text("type", "input")],
                        start_time_unix_nano: 1_770_000_000_000_000_000,
                        ..number(Some(number_data_point::Value::AsInt(17)))
                    },
                    number(Some(number_data_point::Value::AsInt(18))),
                    number(Some(number_data_point::Value::AsDouble(0.5))),
                    number(Some(number_data_point::Value::AsDouble(f64::INFINITY))),
                    NumberDataPoint { flags: 1, ..number(None) },
                    number(None),
                ],
            }),
        ),
        metric(
            "c",
            "",
            metric::Data::Sum(Sum {
                aggregation_temporality: 2,
                is_monotonic: false,
                data_points: vec![number(Some(number_data_point::Value::AsInt(-1)))],
            }),
        ),
        metric("g", "", metric::Data::Gauge(Gauge { data_points: vec![number(Some(number_data_point::Value::AsDouble(2.5)))] })),
        metric(
            "h",
            "ms",
            metric::Data::Histogram(Histogram {
                aggregation_temporality: 1,
                data_points: vec![HistogramDataPoint {
                    time_unix_nano: ended,
                    count: 3,
                    sum: Some(6.0),
                    bucket_counts: vec![1, 2, 0],
                    explicit_bounds: vec![1.0, 5.5],
                    min: Some(1.0),
                    max: Some(3.0),
                    ..HistogramDataPoint::default()
                }],
            }),
        ),
        metric(
            "e",
            "",
            metric::Data::ExponentialHistogram(ExponentialHistogram {
                aggregation_temporality: 2,
                data_points: vec![ExponentialHistogramDataPoint {
                    time_unix_nano: ended,
                    count: 2,
                    sum: Some(4.5),
                    scale: -1,
                    zero_count: 1,
                    positive: Some(exponential_histogram_data_point::Buckets { offset: -2, bucket_counts: vec![1] }),
                    ..ExponentialHistogramDataPoint::default()
                }],
            }),
        ),
        metric(
            "q",
            "",
            metric::Data::Summary(Summary {
                data_points: vec![SummaryDataPoint {
                    time_unix_nano: ended,
                    count: 2,
                    sum: 7.0,
                    quantile_values: vec![summary_data_point::ValueAtQuantile { quantile: 0.5, value: 3.0 }],
                    ..SummaryDataPoint::default()
                }],
            }),
        ),
        Metric { name: "unknown".to_owned(), ..Metric::default() },
    ];
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: resource(vec![text("service.name", "claude-code")]),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(InstrumentationScope { name: "com.anthropic.claude_code".to_owned(), ..InstrumentationScope::default() }),
                metrics,
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    };
    let typed = otlp::metrics_to_events(request.clone(), now());
    assert_eq!(typed.rejected, 1, "a point without a value; a series that ended is no error");
    assert!(typed.reason.is_some());
    let events = same(Signal::Metrics, json, &request.encode_to_vec(), typed);
    let (odd, events): (Vec<_>, Vec<_>) = events.into_iter().partition(|event| event.fact == Fact::Record);
    let odd: Vec<_> = odd.iter().map(|event| (event.source, event.attributes["value"].clone())).collect();
    assert_eq!(odd, [(Source::OtlpMetric, "inf".into())], "a value that is not finite is kept as a word");
    let seen: Vec<_> = events
        .iter()
        .map(|event| match &event.fact {
            Fact::Measurement { value, temporality, .. } => (&*event.name, *value, *temporality),
            fact => panic!("{fact:?}"),
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("claude_code.token.usage", 17.0, Temporality::Delta),
            ("claude_code.token.usage", 18.0, Temporality::Delta),
            ("claude_code.token.usage", 0.5, Temporality::Delta),
            ("c", -1.0, Temporality::Cumulative),
            ("g", 2.5, Temporality::Gauge),
            ("h", 6.0, Temporality::Delta),
            ("e", 4.5, Temporality::Cumulative),
            ("q", 7.0, Temporality::Cumulative),
        ]
    );
    assert_eq!(events[0].agent.as_ref().unwrap().as_str(), "s1");
    assert_eq!(events[5].attributes["bucket_counts"], serde_json::json!([1, 2, 0]));
    assert_eq!(events[5].attributes["bounds"], serde_json::json!([1.0, 5.5]));
}

#[test]
fn spans_with_every_trap_are_what_protobuf_says() {
    let json = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"claude-code"}}]},"scopeSpans":[{"scope":{"name":"com.anthropic.claude_code.tracing"},"spans":[
      {"traceId":"5b8efff798038103d269b633813fc60c","spanId":"EEE19B7EC3C1B174","parentSpanId":"7uGbfsPBsXQ=","name":"claude_code.llm_request","kind":"SPAN_KIND_CLIENT",
       "startTimeUnixNano":"1770000000000000000","endTimeUnixNano":1770000002500000000,
       "attributes":[{"key":"session.id","value":{"stringValue":"s1"}},{"key":"agent_id","value":{"stringValue":"a7"}},{"key":"attempt","value":{"intValue":"3"}}],
       "events":[{"timeUnixNano":"1770000001000000000","name":"gen_ai.request.attempt","attributes":[{"key":"attempt","value":{"intValue":2}}]},
                 {"name":"exception","attributes":[{"key":"exception.type","value":{"stringValue":"APIError"}},{"key":"exception.message","value":{"stringValue":"Overloaded"}},{"key":"exception.stacktrace","value":{"stringValue":"APIError: Overloaded\n at x"}}]}],
       "links":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174"}],
       "status":{"code":"STATUS_CODE_ERROR","message":"529"}}]}]}]}"#;
    let span = Span {
        trace_id: TRACE.to_vec(),
        span_id: SPAN.to_vec(),
        parent_span_id: SPAN.to_vec(),
        name: "claude_code.llm_request".to_owned(),
        kind: 3,
        start_time_unix_nano: 1_770_000_000_000_000_000,
        end_time_unix_nano: 1_770_000_002_500_000_000,
        attributes: vec![text("session.id", "s1"), text("agent_id", "a7"), pair("attempt", Any::IntValue(3))],
        events: vec![
            span::Event {
                time_unix_nano: 1_770_000_001_000_000_000,
                name: "gen_ai.request.attempt".to_owned(),
                attributes: vec![pair("attempt", Any::IntValue(2))],
                ..span::Event::default()
            },
            span::Event {
                name: "exception".to_owned(),
                attributes: vec![
                    text("exception.type", "APIError"),
                    text("exception.message", "Overloaded"),
                    text("exception.stacktrace", "APIError: Overloaded\n at x"),
                ],
                ..span::Event::default()
            },
        ],
        links: vec![span::Link { trace_id: TRACE.to_vec(), span_id: SPAN.to_vec(), ..span::Link::default() }],
        status: Some(Status { code: 2, message: "529".to_owned() }),
        ..Span::default()
    };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: resource(vec![text("service.name", "claude-code")]),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "com.anthropic.claude_code.tracing".to_owned(),
                    ..InstrumentationScope::default()
                }),
                spans: vec![span],
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    let events = same(Signal::Traces, json, &request.encode_to_vec(), otlp::traces_to_events(request, now()));
    let event = &events[0];
    assert_eq!(event.fact, Fact::Span { duration: Duration::from_millis(2500), failed: true });
    assert_eq!((event.level, &*event.text), (Level::Error, "529\nAPIError: Overloaded\n at x"));
    assert_eq!(event.agent.as_ref().unwrap().as_str(), "s1/a7");
    assert_eq!(event.correlation.parent_span.as_deref(), Some("eee19b7ec3c1b174"));
    assert_eq!(event.attributes["span.events"][0]["attempt"], 2);
    assert_eq!(event.attributes["span.kind"], "client");
}

/// One Claude Code event: its name and attributes in, its fact and level out.
fn claude(event: &str, attributes: &[(&str, &str)]) -> Event {
    let mut list = vec![text("event.name", event), text("session.id", "s1"), text("event.sequence", "7")];
    list.extend(attributes.iter().map(|(key, value)| text(key, value)));
    let body = Some(any(Any::StringValue(format!("claude_code.{event}"))));
    let record = LogRecord { time_unix_nano: 1_770_000_000_000_000_000, body, attributes: list, ..LogRecord::default() };
    otlp::logs_to_events(logs(vec![text("service.name", "claude-code")], vec![record]), now()).events.remove(0)
}

#[test]
fn claude_code_events_mean_what_their_documentation_says() {
    let call = claude(
        "api_request",
        &[
            ("model", "claude-opus-4-5"),
            ("cost_usd_micros", "12500"),
            ("duration_ms", "1200"),
            ("ttft_ms", "300"),
            ("input_tokens", "10"),
            ("output_tokens", "20"),
            ("cache_read_tokens", "30"),
            ("cache_creation_tokens", "40"),
            ("request_id", "req_1"),
            ("prompt.id", "p1"),
            ("user.account_uuid", "u1"),
            ("user.email", "a@b.c"),
        ],
    );
    let Fact::ModelCall { model, usage, cost_usd, duration, time_to_first_token, .. } = &call.fact else { panic!("{:?}", call.fact) };
    assert_eq!((model.as_deref(), *cost_usd), (Some("claude-opus-4-5"), Some(0.0125)));
    assert_eq!((usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_creation_tokens), (10, 20, 30, 40));
    assert_eq!((*duration, *time_to_first_token), (Some(Duration::from_millis(1200)), Some(Duration::from_millis(300))));
    assert_eq!(call.correlation.request.as_deref(), Some("req_1"));
    assert_eq!(call.correlation.prompt.as_deref(), Some("p1"));
    assert_eq!(call.correlation.user.as_deref(), Some("u1"));
    assert_eq!((call.session.as_ref().unwrap().as_str(), call.agent.as_ref().unwrap().as_str()), ("s1", "s1"));
    assert!(call.uid.is_some() && call.uid != claude("user_prompt", &[]).uid);

    let error =
        |class, status, attempts, retries_exhausted| Fact::ModelError { class, status, attempts, retries_exhausted, duration: None };
    let tool = |outcome| Fact::ToolResult { id: None, tool: Some("Bash".into()), outcome, result_hash: None, duration: None };
    for (event, attributes, fact, level) in [
        ("user_prompt", &[("prompt", "hello")][..], Fact::Prompt, Level::Info),
        (
            "api_error",
            &[("status_code", "529"), ("attempt", "11"), ("error", "Overloaded")],
            error(ApiErrorClass::Overloaded, Some(529), Some(11), true),
            Level::Error,
        ),
        (
            "api_error",
            &[("status_code", "401"), ("attempt", "1")],
            error(ApiErrorClass::Authentication, Some(401), Some(1), false),
            Level::Error,
        ),
        (
            "api_error",
            &[("status_code", "undefined"), ("error", "Connection error.")],
            error(ApiErrorClass::Network, None, None, false),
            Level::Error,
        ),
        (
            "api_retries_exhausted",
            &[("status_code", "429"), ("total_attempts", "4")],
            error(ApiErrorClass::RateLimit, Some(429), Some(4), true),
            Level::Error,
        ),
        ("api_refusal", &[], Fact::Record, Level::Warn),
        ("tool_result", &[("tool_name", "Bash"), ("success", "true")], tool(ToolOutcome::Success), Level::Info),
        ("tool_result", &[("tool_name", "Bash"), ("success", "false")], tool(ToolOutcome::Error), Level::Warn),
        (
            "tool_result",
            &[("tool_name", "Bash"), ("success", "false"), ("decision_type", "reject")],
            tool(ToolOutcome::Rejected),
            Level::Warn,
        ),
        ("tool_decision", &[("tool_name", "Bash"), ("decision", "reject")], Fact::Record, Level::Warn),
        (
            "compaction",
            &[("trigger", "auto"), ("pre_tokens", "9"), ("post_tokens", "3"), ("success", "true")],
            Fact::Compaction { trigger: Some("auto".into()), tokens_before: Some(9), tokens_after: Some(3) },
            Level::Info,
        ),
        ("subagent_completed", &[("agent.id", "a1")], Fact::SubagentEnded { completed: true }, Level::Info),
        ("subagent_completed", &[], Fact::Record, Level::Info),
        (
            "mcp_server_connection",
            &[("status", "failed"), ("server_name", "db")],
            Fact::McpServer { server: Some("db".into()), status: "failed".into() },
            Level::Warn,
        ),
        ("internal_error", &[("error_name", "TypeError")], Fact::Record, Level::Warn),
        ("never_heard_of", &[], Fact::Record, Level::Info),
    ] {
        let seen = claude(event, attributes);
        assert_eq!((&seen.fact, seen.level), (&fact, level), "{event} {attributes:?}");
        assert_eq!(*seen.name, format!("claude_code.{event}"));
        for (key, value) in attributes {
            assert_eq!(seen.attributes[*key], *value, "every attribute is kept");
        }
    }
}

#[test]
fn a_failure_told_twice_counts_once() {
    let record = |event: &str, attributes: &[(&str, &str)]| LogRecord {
        time_unix_nano: 1_770_000_000_000_000_000,
        attributes: [("event.name", event), ("session.id", "s1")].iter().chain(attributes).map(|(key, value)| text(key, value)).collect(),
        ..LogRecord::default()
    };
    let told =
        vec![record("api_error", &[("attempt", "4"), ("status_code", "500")]), record("api_retries_exhausted", &[("total_attempts", "4")])];
    let events = otlp::logs_to_events(logs(vec![text("service.name", "claude-code")], told), now()).events;
    assert!(matches!(events[0].fact, Fact::ModelError { retries_exhausted: true, attempts: Some(4), .. }), "{:?}", events[0].fact);
    assert_eq!(events[1].fact, Fact::Record);
}

#[test]
fn services_are_agents_by_their_instance() {
    for (attributes, agent) in [
        (vec![text("service.name", "api"), text("service.instance.id", "i1"), text("host.name", "h")], Some("api@i1")),
        (vec![text("service.name", "api"), text("host.name", "h")], Some("api@h")),
        (vec![text("service.name", "api")], Some("api@0")),
        (vec![], None),
    ] {
        let record = LogRecord {
            attributes: vec![
                pair(
                    "http.request.header.x-request-id",
                    Any::ArrayValue(ArrayValue { values: vec![any(Any::StringValue("r1".to_owned()))] }),
                ),
                text("service.name", "not the resource's"),
            ],
            severity_text: "WARNING".to_owned(),
            ..LogRecord::default()
        };
        let event = otlp::logs_to_events(logs(attributes, vec![record]), now()).events.remove(0);
        assert_eq!(event.agent.as_ref().map(|agent| agent.as_str()), agent);
        assert_eq!((event.correlation.request.as_deref(), event.level), (Some("r1"), Level::Warn));
        assert_eq!(event.attributes["service.name"], "not the resource's", "a record's own attribute wins");
    }
}

#[test]
fn secrets_and_floods_are_held_back() {
    let mut attributes: Vec<KeyValue> = (0..500).map(|i| pair(&format!("k{i}"), Any::IntValue(i))).collect();
    attributes.insert(0, text("token", "abcdefgh"));
    attributes.insert(0, text("note", "Bearer abcdefghijkl"));
    attributes.insert(0, text("long", &"x".repeat(1_000_000)));
    let record =
        LogRecord { attributes, body: Some(any(Any::StringValue("sk-ant-api03-AbCdEf123456_xyz".to_owned()))), ..LogRecord::default() };
    let converted = otlp::logs_to_events(logs(vec![], vec![record]), now());
    let event = &converted.events[0];
    assert_eq!(&*event.text, "sk-ant-***");
    assert_eq!((&event.attributes["token"], &event.attributes["note"]), (&"***".into(), &"Bearer ***".into()));
    assert!(event.attributes["long"].as_str().unwrap().len() < 3_000);
    assert!(event.attributes.len() <= 128 && converted.attributes_dropped > 370);
}

/// Two bytes a record on the wire must not become gigabytes.
#[test]
fn a_bomb_of_empty_records_is_rejected_in_the_answer() {
    let records = [0x12u8, 0].repeat(1_000_000);
    let nest = |number: u8, inner: &[u8]| {
        let mut out = vec![number << 3 | 2];
        prost::encoding::encode_varint(inner.len() as u64, &mut out);
        out.extend_from_slice(inner);
        out
    };
    let body = nest(1, &nest(2, &records));
    let converted = otlp::decode(Signal::Logs, Encoding::Protobuf, &body, now(), 1_000).unwrap();
    assert_eq!((converted.events.len(), converted.rejected), (1_000, 999_000));
    let json = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{}{{}}]}}]}}]}}"#, "{},".repeat(3_000_000));
    assert!(otlp::decode(Signal::Logs, Encoding::Json, json.as_bytes(), now(), 1_000).is_err());
}

/// A sink that keeps what it is given, or refuses.
#[derive(Default)]
struct Kept {
    events: Mutex<Vec<Event>>,
    refuse: Mutex<Option<SinkError>>,
}

impl Sink for Kept {
    fn accept(&self, mut events: Vec<Event>) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            if let Some(error) = self.refuse.lock().unwrap().clone() {
                return Err(error);
            }
            self.events.lock().unwrap().append(&mut events);
            Ok(())
        })
    }
}

/// Both servers on loopback.
struct Servers {
    sink: Arc<Kept>,
    receiver: Receiver,
    http: SocketAddr,
    grpc: SocketAddr,
    stop: CancellationToken,
}

async fn serve(settings: Settings) -> Servers {
    let sink = Arc::new(Kept::default());
    let receiver = Receiver::new(sink.clone(), Arc::new(ManualClock::at(now())), settings);
    let stop = CancellationToken::new();
    let http = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let grpc = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (http_at, grpc_at) = (http.local_addr().unwrap(), grpc.local_addr().unwrap());
    let router = receiver.http_router();
    let stopped = stop.clone().cancelled_owned();
    tokio::spawn(async move { axum::serve(http, router).with_graceful_shutdown(stopped).await });
    let (over_grpc, stopped) = (receiver.clone(), stop.clone());
    tokio::spawn(async move { over_grpc.serve_grpc(grpc, stopped).await });
    Servers { sink, receiver, http: http_at, grpc: grpc_at, stop }
}

/// Sends bytes as they are and gives the whole answer.
async fn raw(to: SocketAddr, head: String, body: Vec<u8>) -> String {
    tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        // A server that refuses a body need not read it.
        let _ = stream.write_all(&body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    })
    .await
    .unwrap()
}

async fn send(to: SocketAddr, path: &str, headers: &str, body: &[u8]) -> String {
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n", body.len());
    raw(to, head, body.to_vec()).await
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn one_record() -> ExportLogsServiceRequest {
    let record = LogRecord { body: Some(any(Any::StringValue("hello".to_owned()))), ..LogRecord::default() };
    logs(vec![text("service.name", "api")], vec![record])
}

const JSON: &str = "content-type: application/json\r\n";
const PROTOBUF: &str = "content-type: application/x-protobuf\r\n";
const ONE_RECORD_JSON: &str = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"api"}}]},"scopeLogs":[{"scope":{"name":"s","version":"1"},"logRecords":[{"body":{"stringValue":"hello"}}]}]}]}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_to_send_gives_the_same_event() {
    let servers = serve(Settings::default()).await;
    let protobuf = one_record().encode_to_vec();
    let json = ONE_RECORD_JSON.as_bytes();
    for (headers, body) in [
        (PROTOBUF.to_owned(), protobuf.clone()),
        (JSON.to_owned(), json.to_vec()),
        ("content-type: application/json; charset=utf-8\r\n".to_owned(), json.to_vec()),
        (format!("{PROTOBUF}content-encoding: gzip\r\n"), gzip(&protobuf)),
        (format!("{JSON}content-encoding: gzip\r\n"), gzip(json)),
    ] {
        let answer = send(servers.http, "/v1/logs", &headers, &body).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{headers} {answer}");
        let is_json = headers.contains("json");
        assert!(answer.contains(if is_json { "application/json" } else { "application/x-protobuf" }), "{answer}");
        assert_eq!(answer.ends_with("\r\n\r\n{}"), is_json, "{answer}");
    }
    let mut chunks = Vec::new();
    for chunk in json.chunks(50) {
        write!(chunks, "{:x}\r\n", chunk.len()).unwrap();
        chunks.extend_from_slice(chunk);
        chunks.extend_from_slice(b"\r\n");
    }
    chunks.extend_from_slice(b"0\r\n\r\n");
    let head = format!("POST /v1/logs HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{JSON}transfer-encoding: chunked\r\n\r\n");
    let answer = raw(servers.http, head, chunks).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let mut client = LogsServiceClient::connect(format!("http://{}", servers.grpc)).await.unwrap();
    assert_eq!(client.export(one_record()).await.unwrap().into_inner().partial_success, None);
    let mut client = client.send_compressed(tonic::codec::CompressionEncoding::Gzip);
    client.export(one_record()).await.unwrap();

    let events = servers.sink.events.lock().unwrap().clone();
    assert_eq!(events.len(), 8);
    assert!(events.iter().all(|event| *event == events[0]), "{events:#?}");
    servers.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_get_the_right_answer() {
    let settings = Settings { body_bytes_max: 10_000, decoded_bytes_max: 100_000, records_max: 2, ..Settings::default() };
    let servers = serve(settings).await;
    let gzipped = format!("{JSON}content-encoding: gzip\r\n");
    let three = ONE_RECORD_JSON.replace(r#"{"body":{"stringValue":"hello"}}"#, "{},{},{}");
    for (path, headers, body, status, says) in [
        ("/v1/logs", JSON, b"{".to_vec(), 400, "\"code\":3"),
        ("/v1/logs", JSON, b"[]".to_vec(), 400, "\"message\":\"decode JSON"),
        ("/v1/logs", JSON, br#"{"resourceLogs":5}"#.to_vec(), 400, "\"code\":3"),
        ("/v1/logs", JSON, b"".to_vec(), 400, "\"code\":3"),
        ("/v1/logs", JSON, b"[".repeat(5_000), 400, "\"code\":3"),
        ("/v1/logs", PROTOBUF, b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(), 400, "decode protobuf"),
        ("/v1/logs", PROTOBUF, b"".to_vec(), 200, ""),
        ("/v1/logs", "content-type: text/plain\r\n", b"x".to_vec(), 415, "content type"),
        ("/v1/logs", "", b"x".to_vec(), 415, "content type"),
        ("/v1/logs", "content-type: application/json\r\ncontent-encoding: br\r\n", b"x".to_vec(), 415, "gzip"),
        ("/v1/logs", JSON, b" ".repeat(20_000), 413, "10000"),
        ("/v1/logs", &gzipped, gzip(&b" ".repeat(1_000_000)), 413, "100000"),
        ("/v1/logs", &gzipped, b"not gzip".to_vec(), 400, "damaged"),
        ("/v1/logs", JSON, three.into_bytes(), 200, r#"{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"#),
        (
            "/v1/metrics",
            JSON,
            br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[{}]}}]}]}]}"#.to_vec(),
            200,
            "rejectedDataPoints\":\"1\"",
        ),
        ("/v1/traces", JSON, b"{}".to_vec(), 200, "{}"),
        ("/v1/nothing", JSON, b"{}".to_vec(), 404, ""),
    ] {
        let answer = send(servers.http, path, headers, &body).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(says),
            "{path} {headers:?} {status} {says}: {answer}"
        );
    }
    let head = format!("POST /v1/logs HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{JSON}transfer-encoding: chunked\r\n\r\n");
    let answer = raw(servers.http, head, [b"4e20\r\n".to_vec(), b" ".repeat(20_000), b"\r\n0\r\n\r\n".to_vec()].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");

    for (error, says) in [(SinkError::Busy, "in a moment"), (SinkError::Unavailable("disk full".to_owned()), "disk full")] {
        *servers.sink.refuse.lock().unwrap() = Some(error);
        let answer = send(servers.http, "/v1/logs", JSON, ONE_RECORD_JSON.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 2") && answer.contains(says), "{answer}");
        let mut client = LogsServiceClient::connect(format!("http://{}", servers.grpc)).await.unwrap();
        let status = client.export(one_record()).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
    }
    let mut registry = prometheus_client::registry::Registry::default();
    servers.receiver.metrics().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains(r#"paramedic_collect_otlp_rejected_records_total{signal="metrics",protocol="http-json"} 1"#), "{text}");
    assert!(text.contains(r#"answer="unsupported""#) && text.contains(r#"answer="too-large""#), "{text}");
    servers.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_answers_what_is_under_way() {
    let servers = serve(Settings::default()).await;
    let mut client = LogsServiceClient::connect(format!("http://{}", servers.grpc)).await.unwrap();
    client.export(one_record()).await.unwrap();
    servers.stop.cancel();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(tokio::net::TcpStream::connect(servers.grpc).await.is_err(), "the port is free again");
}

#[test]
fn random_damage_never_panics() {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    let protobuf = one_record().encode_to_vec();
    let started = std::time::Instant::now();
    for round in 0..30_000 {
        let is_json = round % 2 == 0;
        let mut bytes = if is_json { ONE_RECORD_JSON.as_bytes().to_vec() } else { protobuf.clone() };
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(3) {
                0 => bytes[at] = random(256) as u8,
                1 => bytes.insert(at, b"[]{}:,\"0-e\xff"[random(11)]),
                _ => drop(bytes.remove(at)),
            }
        }
        let encoding = if is_json { Encoding::Json } else { Encoding::Protobuf };
        for signal in [Signal::Logs, Signal::Metrics, Signal::Traces] {
            if let Ok(converted) = otlp::decode(signal, encoding, &bytes, now(), 100) {
                for event in converted.events {
                    serde_json::from_str::<Event>(&serde_json::to_string(&event).unwrap()).unwrap();
                }
            }
        }
        if started.elapsed() > Duration::from_secs(10) {
            break;
        }
    }
}
