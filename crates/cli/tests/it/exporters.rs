//! OpenTelemetry's own Python exporters, over gRPC and HTTP, and a hand-made body: the same events come out.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fixture::{Home, Instance, until};
use crate::{http, skip, tools};

/// Sends one log record, one metric and one span, each the same in every protocol.
const PROGRAM: &str = r#"
import sys, time, logging
protocol, endpoint, name = sys.argv[1:4]
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
if protocol == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    exporters = [e(endpoint="http://" + endpoint, insecure=True) for e in (OTLPLogExporter, OTLPMetricExporter, OTLPSpanExporter)]
else:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    exporters = [e(endpoint="http://" + endpoint + p, compression=Compression.Gzip) for e, p in
        ((OTLPLogExporter, "/v1/logs"), (OTLPMetricExporter, "/v1/metrics"), (OTLPSpanExporter, "/v1/traces"))]
resource = Resource.create({"service.name": name, "service.instance.id": "one"})
logs = LoggerProvider(resource=resource)
logs.add_log_record_processor(SimpleLogRecordProcessor(exporters[0]))
logger = logging.getLogger("orders")
logger.addHandler(LoggingHandler(logger_provider=logs))
tracer_provider = TracerProvider(resource=resource)
tracer_provider.add_span_processor(SimpleSpanProcessor(exporters[2]))
with tracer_provider.get_tracer("t").start_as_current_span("agent.execute", attributes={"task.id": "task-7"}):
    logger.error("payment of order 17 refused", extra={"order.id": 17, "amount": 12.5, "retry": True})
reader = PeriodicExportingMetricReader(exporters[1], export_interval_millis=3600000)
meters = MeterProvider(resource=resource, metric_readers=[reader])
meters.get_meter("m").create_counter("orders.refused", unit="1").add(3, {"kind": "card"})
meters.shutdown(); tracer_provider.shutdown(); logs.shutdown()
"#;

const ARRIVED_WITHIN: Duration = Duration::from_secs(10);

/// What must be the same whatever way it came.
fn essence(event: &Value) -> Value {
    let attribute = |name: &str| event["attributes"][name].clone();
    json!({
        "source": event["source"], "name": event["name"], "level": event["level"], "text": event["text"], "kind": event["kind"],
        "value": event["fact"]["value"], "order": attribute("order.id"), "amount": attribute("amount"), "retry": attribute("retry"),
        "task": attribute("task.id"), "card": attribute("kind"), "traced": event["trace"].as_str().map(str::len)
    })
}

fn events_of(instance: &Instance, service: &str) -> Vec<Value> {
    let events = until(ARRIVED_WITHIN, || {
        let found = instance.list(&format!("/api/v1/events?limit=100&agent={service}@one"), "events");
        (found.len() >= 3).then_some(found)
    });
    let mut events: Vec<Value> = events.unwrap_or_default().iter().map(essence).collect();
    events.sort_by_key(Value::to_string);
    events
}

fn export(instance: &Instance, protocol: &str, service: &str) {
    let address = if protocol == "grpc" { instance.otlp_grpc() } else { instance.otlp_http() };
    let mut python = Command::new(tools::python().unwrap());
    let output = python.args(["-c", PROGRAM, protocol, &address, service]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("Failed to export"), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_python_exporters_give_the_same_events_over_grpc_and_http() {
    if tools::python().is_none() {
        skip!("OpenTelemetry's Python exporters are not installed (`cargo xtask setup`)")
    }
    let home = Home::new();
    let instance = home.up();
    export(&instance, "grpc", "orders-grpc");
    export(&instance, "http", "orders-http");
    let over_grpc = events_of(&instance, "orders-grpc");
    let over_http = events_of(&instance, "orders-http");
    assert_eq!(over_grpc.len(), 3, "a log record, a metric and a span: {over_grpc:#?}");
    assert_eq!(over_grpc, over_http);
    let log = over_grpc.iter().find(|event| event["source"] == "otlp-log").unwrap();
    assert_eq!(log["level"], "error");
    assert_eq!(log["text"], "payment of order 17 refused");
    assert_eq!(log["traced"], 32, "joined to its span");
}

/// The same record in JSON with every freedom that senders take: numbers as text, quoted integers, unknown fields.
fn traps(service: &str, order: &Value, quoted_time: bool) -> Value {
    let at = 1_767_268_800_000_000_000_u64;
    let time = if quoted_time { json!(at.to_string()) } else { json!(at) };
    json!({"resourceLogs": [{
        "resource": {"attributes": [
            {"key": "service.name", "value": {"stringValue": service}},
            {"key": "service.instance.id", "value": {"stringValue": "one"}}
        ], "futureField": [1, 2]},
        "scopeLogs": [{"scope": {"name": "orders"}, "logRecords": [{
            "timeUnixNano": time, "severityNumber": 17, "severityText": "ERROR",
            "body": {"stringValue": "payment of order 17 refused"},
            "attributes": [{"key": "order.id", "value": order}],
            "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "unknown": {"a": null}
        }]}]
    }]})
}

#[test]
fn numbers_may_be_written_in_every_way_that_senders_write_them() {
    let home = Home::new();
    let instance = home.up();
    let ways = [json!({"intValue": 17}), json!({"intValue": "17"}), json!({"doubleValue": 17})];
    for (number, way) in ways.iter().enumerate() {
        let body = traps(&format!("way-{number}"), way, number != 0).to_string();
        let answer = http::post(&instance.otlp_http(), "/v1/logs", "application/json", body.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    for number in 0..ways.len() {
        let events = until(ARRIVED_WITHIN, || {
            let events = instance.list(&format!("/api/v1/events?agent=way-{number}@one"), "events");
            (!events.is_empty()).then_some(events)
        });
        let events = events.unwrap_or_default();
        assert_eq!(events.len(), 1, "way {number}");
        let event = essence(&events[0]);
        assert_eq!(event["order"].as_f64(), Some(17.0), "way {number}: {event:#}");
        assert_eq!((&event["level"], &event["text"]), (&json!("error"), &json!("payment of order 17 refused")));
        assert_eq!(event["traced"], 32);
    }
}

#[test]
fn a_body_that_is_no_otlp_is_refused_and_the_receiver_goes_on() {
    let home = Home::new();
    let instance = home.up();
    for (kind, body) in
        [("application/json", &b"{\"resourceLogs\": 7"[..]), ("application/x-protobuf", &[0xff; 64]), ("text/plain", b"hello")]
    {
        let answer = http::post(&instance.otlp_http(), "/v1/logs", kind, body).unwrap();
        assert!((400..500).contains(&answer.status), "{kind}: {}", answer.status);
    }
    let answer = http::post(&instance.otlp_http(), "/v1/logs", "application/json", b"{}").unwrap();
    assert_eq!(answer.status, 200);
}
