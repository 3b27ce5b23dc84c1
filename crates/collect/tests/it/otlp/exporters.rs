//! OpenTelemetry's own Python exporters against our servers.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

const PACKAGES: [&str; 3] = ["opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-grpc", "opentelemetry-exporter-otlp-proto-http"];

/// Emits the same two log records, one metric and one span with fixed times and ids.
const SENDER: &str = r#"
import sys
from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator

protocol, endpoint = sys.argv[1:3]
if protocol == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    url = lambda path: {"endpoint": endpoint, "insecure": True}
else:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    url = lambda path: {"endpoint": endpoint + path, "compression": Compression.Gzip}

class Ids(IdGenerator):
    def generate_span_id(self): return 0xeee19b7ec3c1b174
    def generate_trace_id(self): return 0x5b8efff798038103d269b633813fc60c

resource = Resource({"service.name": "claude-code", "host.arch": "amd64"})
start = 1770000000000000000
logs = LoggerProvider(resource=resource, shutdown_on_exit=False)
logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(**url("/v1/logs"))))
logger = logs.get_logger("com.anthropic.claude_code.events", "2.1.0")
logger.emit(timestamp=start, observed_timestamp=start, severity_number=SeverityNumber.INFO, severity_text="INFO",
    body="claude_code.api_request", attributes={"event.name": "api_request", "session.id": "s1", "model": "claude-opus-4-5",
    "input_tokens": 10, "output_tokens": 20, "cost_usd": 0.5, "duration_ms": "1200", "request_id": "req_1", "tags": ["a", "b"], "ok": True})
logger.emit(timestamp=start + 1000000, observed_timestamp=start, severity_number=SeverityNumber.ERROR,
    body="claude_code.api_error", attributes={"event.name": "api_error", "session.id": "s1", "status_code": 529, "attempt": 11, "error": "Overloaded"})
logs.shutdown()

reader = PeriodicExportingMetricReader(OTLPMetricExporter(**url("/v1/metrics")), export_interval_millis=3600000)
metrics = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
counter = metrics.get_meter("com.anthropic.claude_code", "2.1.0").create_counter("claude_code.token.usage", unit="tokens")
counter.add(17, {"session.id": "s1", "type": "input"})
metrics.shutdown()

spans = TracerProvider(resource=resource, id_generator=Ids(), shutdown_on_exit=False)
spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(**url("/v1/traces"))))
span = spans.get_tracer("com.anthropic.claude_code.tracing", "2.1.0").start_span("claude_code.llm_request", start_time=start,
    kind=trace.SpanKind.CLIENT, attributes={"session.id": "s1", "attempt": 2})
span.add_event("gen_ai.request.attempt", {"attempt": 1}, timestamp=start + 5000000)
span.set_status(trace.Status(trace.StatusCode.ERROR, "529"))
span.end(end_time=start + 2500000000)
spans.shutdown()
"#;

/// The same telemetry written by hand, with numbers in quotes and enumerations by name.
const BY_HAND: [(&str, &str); 3] = [
    (
        "/v1/logs",
        r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"claude-code"}},{"key":"host.arch","value":{"stringValue":"amd64"}}]},"scopeLogs":[{"scope":{"name":"com.anthropic.claude_code.events","version":"2.1.0"},"logRecords":[
        {"timeUnixNano":"1770000000000000000","observedTimeUnixNano":1770000000000000000,"severityNumber":"SEVERITY_NUMBER_INFO","severityText":"INFO","body":{"stringValue":"claude_code.api_request"},"attributes":[{"key":"event.name","value":{"stringValue":"api_request"}},{"key":"session.id","value":{"stringValue":"s1"}},{"key":"model","value":{"stringValue":"claude-opus-4-5"}},{"key":"input_tokens","value":{"intValue":"10"}},{"key":"output_tokens","value":{"intValue":20}},{"key":"cost_usd","value":{"doubleValue":"0.5"}},{"key":"duration_ms","value":{"stringValue":"1200"}},{"key":"request_id","value":{"stringValue":"req_1"}},{"key":"tags","value":{"arrayValue":{"values":[{"stringValue":"a"},{"stringValue":"b"}]}}},{"key":"ok","value":{"boolValue":true}}]},
        {"time_unix_nano":1770000000001000000,"severity_number":17,"body":{"string_value":"claude_code.api_error"},"attributes":[{"key":"event.name","value":{"stringValue":"api_error"}},{"key":"session.id","value":{"stringValue":"s1"}},{"key":"status_code","value":{"intValue":"529"}},{"key":"attempt","value":{"intValue":11}},{"key":"error","value":{"stringValue":"Overloaded"}}]}]}]}]}"#,
    ),
    (
        "/v1/metrics",
        r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"claude-code"}},{"key":"host.arch","value":{"stringValue":"amd64"}}]},"scopeMetrics":[{"scope":{"name":"com.anthropic.claude_code","version":"2.1.0"},"metrics":[{"name":"claude_code.token.usage","unit":"tokens","sum":{"isMonotonic":true,"aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE","dataPoints":[{"startTimeUnixNano":"1","timeUnixNano":"2","asInt":"17","attributes":[{"key":"session.id","value":{"stringValue":"s1"}},{"key":"type","value":{"stringValue":"input"}}]}]}}]}]}]}"#,
    ),
    (
        "/v1/traces",
        r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"claude-code"}},{"key":"host.arch","value":{"stringValue":"amd64"}}]},"scopeSpans":[{"scope":{"name":"com.anthropic.claude_code.tracing","version":"2.1.0"},"spans":[{"traceId":"W47/95gDgQPSabYzgT/GDA==","spanId":"EEE19B7EC3C1B174","name":"claude_code.llm_request","kind":"SPAN_KIND_CLIENT","startTimeUnixNano":"1770000000000000000","endTimeUnixNano":1770000002500000000,"attributes":[{"key":"session.id","value":{"stringValue":"s1"}},{"key":"attempt","value":{"intValue":"2"}}],"events":[{"timeUnixNano":"1770000000005000000","name":"gen_ai.request.attempt","attributes":[{"key":"attempt","value":{"intValue":"1"}}]}],"status":{"code":"STATUS_CODE_ERROR","message":"529"}}]}]}]}"#,
    ),
];

/// The interpreter of an environment that has the exporters, made once and used again.
pub(super) fn python() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-tools/otel-venv");
    let python = folder.join("bin/python");
    let run = |program: &Path, arguments: &[&str]| match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("it failed").to_owned()),
        Err(error) => Err(error.to_string()),
    };
    let probe = "import opentelemetry.exporter.otlp.proto.http, opentelemetry.exporter.otlp.proto.grpc, opentelemetry.sdk._logs";
    if run(&python, &["-c", probe]).is_ok() {
        return Ok(python);
    }
    run(Path::new("python3"), &["-m", "venv", folder.to_str().unwrap()]).map_err(|why| format!("no virtual environment: {why}"))?;
    let install = [&["-m", "pip", "install", "--quiet", "--timeout", "20", "--retries", "1"][..], &PACKAGES].concat();
    run(&python, &install).map_err(|why| format!("pip cannot install the exporters: {why}"))?;
    run(&python, &["-c", probe]).map_err(|why| format!("the exporters do not load: {why}"))?;
    Ok(python)
}

/// What a metric's times are depends on when it was read.
fn without_metric_times(mut events: Vec<Event>) -> Vec<Event> {
    for event in &mut events {
        if matches!(event.fact, Fact::Measurement { .. }) {
            event.at = now();
            event.attributes.remove("start_time");
        }
    }
    events.sort_by(|left, right| left.name.cmp(&right.name));
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opentelemetrys_exporters_give_the_same_events_as_a_body_written_by_hand() {
    let python = match tokio::task::spawn_blocking(python).await.unwrap() {
        Ok(python) => python,
        Err(why) => return eprintln!("skipped: {why}"),
    };
    let servers = serve(Settings::default()).await;
    for (path, body) in BY_HAND {
        let answer = send(servers.http, path, JSON, body.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("{}"), "{answer}");
    }
    let by_hand = without_metric_times(std::mem::take(&mut *servers.sink.events.lock().unwrap()));
    assert_eq!(by_hand.len(), 4, "{by_hand:#?}");
    for (protocol, endpoint) in [("grpc", format!("http://{}", servers.grpc)), ("http", format!("http://{}", servers.http))] {
        let python = python.clone();
        let run = move || Command::new(python).args(["-c", SENDER, protocol, &endpoint]).env("NO_PROXY", "*").output().unwrap();
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{protocol}: {said}");
        let events = without_metric_times(std::mem::take(&mut *servers.sink.events.lock().unwrap()));
        assert_eq!(events, by_hand, "{protocol}: {said}");
    }
    assert!(
        by_hand
            .iter()
            .any(|event| matches!(event.fact, Fact::ModelError { class: ApiErrorClass::Overloaded, retries_exhausted: true, .. }))
    );
    servers.stop.cancel();
}
