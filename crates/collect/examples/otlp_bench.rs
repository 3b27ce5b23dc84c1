//! How many OTLP log records one CPU second turns into events: `cargo run --release -p paramedic-collect --example otlp_bench`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement")]

use std::fmt::Write as _;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use paramedic_collect::otlp::{Encoding, Signal, decode};
use paramedic_model::Timestamp;
use prost::Message;

const BATCH: usize = 500;

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) }), ..KeyValue::default() }
}

fn int(key: &str, value: i64) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(Value::IntValue(value)) }), ..KeyValue::default() }
}

fn claude(i: i64) -> Vec<KeyValue> {
    vec![
        text("event.name", "api_request"),
        text("session.id", "2f0e8a6c-5a55-4a6d-9d7b-cc1a0b1d7d10"),
        text("user.account_uuid", "a7d52d40-87b7-4d77-93f6-2d1d3dca0c11"),
        text("model", "claude-sonnet-4-5-20250929"),
        int("input_tokens", i),
        int("output_tokens", 300),
        text("request_id", "req_011CUTf8nRGaBqkq8qW8tK3W"),
        text("duration_ms", "1834"),
    ]
}

fn service(i: i64) -> Vec<KeyValue> {
    vec![
        text("code.function", "handle"),
        text("http.route", "/v1/answers"),
        int("http.response.status_code", 200),
        text("user.id", "user-1234"),
        text("x-request-id", "b0f3e8a6c5a55"),
        int("attempt", i % 3),
    ]
}

fn request(name: &str, attributes: fn(i64) -> Vec<KeyValue>, resource: Vec<KeyValue>) -> ExportLogsServiceRequest {
    let records = (0..BATCH as i64).map(|i| LogRecord {
        time_unix_nano: 1_770_000_000_000_000_000 + i as u64 * 1_000_000,
        severity_number: 9,
        body: Some(AnyValue { value: Some(Value::StringValue(name.to_owned())) }),
        attributes: attributes(i),
        ..LogRecord::default()
    });
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(Resource { attributes: resource, ..Resource::default() }),
            scope_logs: vec![ScopeLogs {
                scope: Some(InstrumentationScope { name: "scope".to_owned(), ..InstrumentationScope::default() }),
                log_records: records.collect(),
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
}

fn json(request: &ExportLogsServiceRequest) -> Vec<u8> {
    let attributes = |attributes: &[KeyValue]| {
        let list: Vec<String> = attributes
            .iter()
            .map(|one| match one.value.as_ref().unwrap().value.as_ref().unwrap() {
                Value::StringValue(text) => format!(r#"{{"key":"{}","value":{{"stringValue":"{text}"}}}}"#, one.key),
                Value::IntValue(number) => format!(r#"{{"key":"{}","value":{{"intValue":"{number}"}}}}"#, one.key),
                _ => unreachable!(),
            })
            .collect();
        list.join(",")
    };
    let group = &request.resource_logs[0];
    let mut records = String::new();
    for record in &group.scope_logs[0].log_records {
        let Some(Value::StringValue(body)) = &record.body.as_ref().unwrap().value else { unreachable!() };
        let comma = if records.is_empty() { "" } else { "," };
        write!(
            records,
            r#"{comma}{{"timeUnixNano":"{}","severityNumber":9,"body":{{"stringValue":"{body}"}},"attributes":[{}]}}"#,
            record.time_unix_nano,
            attributes(&record.attributes)
        )
        .unwrap();
    }
    let resource = attributes(&group.resource.as_ref().unwrap().attributes);
    format!(r#"{{"resourceLogs":[{{"resource":{{"attributes":[{resource}]}},"scopeLogs":[{{"scope":{{"name":"scope"}},"logRecords":[{records}]}}]}}]}}"#)
        .into_bytes()
}

/// CPU seconds of this process, from `/proc/self/stat` (100 ticks a second).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn measure(what: &str, encoding: Encoding, body: &[u8]) {
    let started = cpu_seconds();
    let mut records = 0;
    while cpu_seconds() - started < 1.5 {
        for _ in 0..20 {
            records += decode(Signal::Logs, encoding, body, Timestamp::EPOCH, usize::MAX).unwrap().events.len();
        }
    }
    let spent = cpu_seconds() - started;
    let rate = records as f64 / spent;
    println!("{what:44} {rate:>10.0} records per CPU second, {:.2} µs each, {} bytes each", 1e6 / rate, body.len() / BATCH);
}

fn main() {
    let claude_code = vec![
        text("service.name", "claude-code"),
        text("service.version", "2.1.212"),
        text("os.type", "linux"),
        text("os.version", "6.8.0"),
        text("host.arch", "amd64"),
    ];
    let other = vec![text("service.name", "answers"), text("service.instance.id", "answers-7c9d")];
    for (what, request) in [
        ("Claude Code, 8 + 5 attributes", request("claude_code.api_request", claude, claude_code)),
        ("a service, 6 + 2 attributes", request("answered in 12 ms with 200", service, other)),
    ] {
        let events = decode(Signal::Logs, Encoding::Json, &json(&request), Timestamp::EPOCH, usize::MAX).unwrap().events;
        assert_eq!(
            events,
            decode(Signal::Logs, Encoding::Protobuf, &request.encode_to_vec(), Timestamp::EPOCH, usize::MAX).unwrap().events
        );
        let only = std::env::args().nth(1).unwrap_or_default();
        for (encoding, body) in [(Encoding::Protobuf, request.encode_to_vec()), (Encoding::Json, json(&request))] {
            let what = format!("{}: {what}", encoding.name());
            if what.contains(&only) {
                measure(&what, encoding, &body);
            }
        }
    }
}
