//! Metrics as samples: names, labels, values, and totals of what comes as differences.

use std::collections::BTreeMap;

use otlp::SampleSettings;
use otlp::naming::{Shape, Translation, label_name, metric_name, unit_name};
use paramedic_samples::Metadata;

use super::*;
use crate::recorder::Recorder;

use Shape::{Counter, Gauge as GaugeShape, Other};

#[test]
fn metrics_are_named_as_prometheus_names_them() {
    for (name, unit, shape, expect) in [
        // Claude Code's own.
        ("claude_code.session.count", "", Counter, "claude_code_session_count_total"),
        ("claude_code.session.count", "count", Counter, "claude_code_session_count_total"),
        ("claude_code.lines_of_code.count", "count", Counter, "claude_code_lines_of_code_count_total"),
        ("claude_code.cost.usage", "USD", Counter, "claude_code_cost_usage_USD_total"),
        ("claude_code.token.usage", "tokens", Counter, "claude_code_token_usage_tokens_total"),
        ("claude_code.code_edit_tool.decision", "", Counter, "claude_code_code_edit_tool_decision_total"),
        ("claude_code.active_time.total", "s", Counter, "claude_code_active_time_seconds_total"),
        // Units.
        ("http.server.request.duration", "s", Other, "http_server_request_duration_seconds"),
        ("rpc.duration", "ms", Other, "rpc_duration_milliseconds"),
        ("jitter", "us", Other, "jitter_microseconds"),
        ("step", "ns", Other, "step_nanoseconds"),
        ("uptime", "min", GaugeShape, "uptime_minutes"),
        ("age", "h", GaugeShape, "age_hours"),
        ("age", "d", GaugeShape, "age_days"),
        ("system.memory.usage", "By", GaugeShape, "system_memory_usage_bytes"),
        ("disk", "KiBy", GaugeShape, "disk_kibibytes"),
        ("disk", "MiBy", GaugeShape, "disk_mebibytes"),
        ("disk", "GiBy", GaugeShape, "disk_gibibytes"),
        ("disk", "TiBy", GaugeShape, "disk_tibibytes"),
        ("disk", "KBy", GaugeShape, "disk_kilobytes"),
        ("disk", "MBy", GaugeShape, "disk_megabytes"),
        ("disk", "GBy", GaugeShape, "disk_gigabytes"),
        ("disk", "TBy", GaugeShape, "disk_terabytes"),
        ("way", "m", GaugeShape, "way_meters"),
        ("line", "V", GaugeShape, "line_volts"),
        ("line", "A", GaugeShape, "line_amperes"),
        ("power", "W", GaugeShape, "power_watts"),
        ("energy", "J", Counter, "energy_joules_total"),
        ("load", "g", GaugeShape, "load_grams"),
        ("room", "Cel", GaugeShape, "room_celsius"),
        ("cpu.frequency", "Hz", GaugeShape, "cpu_frequency_hertz"),
        ("cpu", "%", GaugeShape, "cpu_percent"),
        ("money", "EUR", GaugeShape, "money_EUR"),
        // A unit that is there already, anywhere in the name.
        ("request.duration.seconds", "s", Other, "request_duration_seconds"),
        ("seconds.since.start", "s", GaugeShape, "seconds_since_start"),
        ("memory_bytes_used", "By", GaugeShape, "memory_bytes_used"),
        // What it is divided by.
        ("net.io", "By/s", GaugeShape, "net_io_bytes_per_second"),
        ("astro.light", "m/s", GaugeShape, "astro_light_meters_per_second"),
        ("fuel", "g/m", GaugeShape, "fuel_grams_per_minute"),
        ("sales", "EUR/mo", GaugeShape, "sales_EUR_per_month"),
        ("sales", "1/w", GaugeShape, "sales_per_week"),
        ("growth", "1/y", GaugeShape, "growth_per_year"),
        ("calls", "{call}/h", GaugeShape, "calls_per_hour"),
        ("calls", "/d", GaugeShape, "calls_per_day"),
        ("net_per_second", "By/s", GaugeShape, "net_per_second_bytes_per_second"),
        ("io_bytes_per_second", "By/s", GaugeShape, "io_bytes_per_second_per_second"),
        // Braces are annotations.
        ("requests", "{request}", Counter, "requests_total"),
        ("queue", "{message}", GaugeShape, "queue"),
        ("packets", "{packet}/s", GaugeShape, "packets_per_second"),
        // Totals and ratios are last, once.
        ("requests.total", "", Counter, "requests_total"),
        ("total.requests", "", Counter, "requests_total"),
        ("total", "", Counter, "total"),
        ("requests.total", "", GaugeShape, "requests_total"),
        ("cpu.utilization", "1", GaugeShape, "cpu_utilization_ratio"),
        ("hit.ratio", "1", GaugeShape, "hit_ratio"),
        ("ratio.of.hits", "1", GaugeShape, "of_hits_ratio"),
        ("requests", "1", Counter, "requests_total"),
        ("queue.size", "1", Other, "queue_size"),
        // Characters.
        ("a.b-c/d e", "", GaugeShape, "a_b_c_d_e"),
        ("__a__b..c__", "", GaugeShape, "a_b_c"),
        ("a:b", "", GaugeShape, "a:b"),
        ("2xx.responses", "", GaugeShape, "_2xx_responses"),
        ("größe", "By", GaugeShape, "gr_e_bytes"),
        ("a", "foo.bar", GaugeShape, "a_foo_bar"),
        ("a", "_foo__bar_", GaugeShape, "a_foo_bar_"),
        ("a", "foo_/s", GaugeShape, "a_foo_per_second"),
        ("a", " s ", GaugeShape, "a_seconds"),
        ("a", "x/°", GaugeShape, "a_x"),
    ] {
        let named = metric_name(name, unit, shape, Translation::UnderscoreEscapingWithSuffixes);
        assert_eq!(named.as_deref(), Some(expect), "{name:?} in {unit:?}");
    }
    for name in ["", "___", "...", "日本"] {
        let shape = GaugeShape;
        assert_eq!(metric_name(name, "", shape, Translation::UnderscoreEscapingWithSuffixes), None, "{name:?}");
    }
}

#[test]
fn other_translations_change_less() {
    use Translation::{NoTranslation, NoUtf8EscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes};
    for (name, unit, shape, plain, suffixed, untouched) in [
        ("http.duration", "s", Other, "http_duration", "http.duration_seconds", "http.duration"),
        ("requests", "1", Counter, "requests", "requests_total", "requests"),
        ("requests.total", "", Counter, "requests_total", "requests_total", "requests.total"),
        ("cpu", "1", GaugeShape, "cpu", "cpu_ratio", "cpu"),
        ("net.io", "By/s", GaugeShape, "net_io", "net.io_bytes_per_second", "net.io"),
        ("net.io.per_second", "By/s", GaugeShape, "net_io_per_second", "net.io_bytes_per_second", "net.io.per_second"),
        ("a__b", "", GaugeShape, "a__b", "a__b", "a__b"),
        ("a b!c", "", GaugeShape, "a_b_c", "a b!c", "a b!c"),
        ("9a", "", GaugeShape, "_9a", "9a", "9a"),
        ("time.seconds", "s", Counter, "time_seconds", "time.seconds_total", "time.seconds"),
    ] {
        for (translation, expect) in
            [(UnderscoreEscapingWithoutSuffixes, plain), (NoUtf8EscapingWithSuffixes, suffixed), (NoTranslation, untouched)]
        {
            assert_eq!(metric_name(name, unit, shape, translation).as_deref(), Some(expect), "{name:?} {translation:?}");
        }
    }
    for (text, expect) in [("\"NoTranslation\"", NoTranslation), ("\"NoUTF8EscapingWithSuffixes\"", NoUtf8EscapingWithSuffixes)] {
        assert_eq!(serde_json::from_str::<Translation>(text).unwrap(), expect);
    }
}

#[test]
fn labels_are_named_as_prometheus_names_them() {
    for (name, expect) in [
        ("http.method", Some("http_method")),
        ("a", Some("a")),
        ("a-b c", Some("a_b_c")),
        ("a..b", Some("a__b")),
        ("1a", Some("key_1a")),
        ("_a", Some("key_a")),
        (".a", Some("key_a")),
        ("__a", Some("__a")),
        ("a:b", Some("a_b")),
        ("ünit", Some("key_nit")),
        ("..", None),
        ("", None),
    ] {
        assert_eq!(label_name(name, Translation::default()).as_deref(), expect, "{name:?}");
        let kept = Some(name).filter(|name| !name.is_empty());
        assert_eq!(label_name(name, Translation::NoTranslation).as_deref(), kept);
    }
    assert_eq!((unit_name("By/s"), unit_name("1"), unit_name("{x}")), ("bytes_per_second".to_owned(), String::new(), String::new()));
}

/// A receiver whose samples are written down.
struct Stage {
    sink: Arc<Kept>,
    recorder: Arc<Recorder>,
    clock: Arc<ManualClock>,
    receiver: Receiver,
}

#[derive(Default)]
struct Kept {
    events: Mutex<Vec<Event>>,
    busy: Mutex<bool>,
}

impl Sink for Kept {
    fn accept(&self, events: Vec<Event>) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            if *self.busy.lock().unwrap() {
                return Err(SinkError::Busy);
            }
            self.events.lock().unwrap().extend(events);
            Ok(())
        })
    }
}

fn stage(samples: SampleSettings) -> Stage {
    let (sink, recorder, clock) = (Arc::new(Kept::default()), Arc::new(Recorder::default()), Arc::new(ManualClock::at(now())));
    let settings = Settings { samples, ..Settings::default() };
    let receiver = Receiver::with_samples(sink.clone(), recorder.clone(), clock.clone(), settings);
    Stage { sink, recorder, clock, receiver }
}

impl Stage {
    /// Posts a body as an exporter does, and gives the status.
    async fn post(&self, media: &str, body: Vec<u8>) -> u16 {
        use axum::http::Request;
        use tonic::codegen::Service;
        let request = Request::post("/v1/metrics").header("content-type", media).body(axum::body::Body::from(body)).unwrap();
        self.receiver.http_router().call(request).await.unwrap().status().as_u16()
    }

    async fn send(&self, metrics: Vec<Metric>) -> Vec<String> {
        let attributes = vec![
            text("service.name", "shop"),
            text("service.namespace", "eu"),
            text("service.instance.id", "i1"),
            text("host.arch", "arm64"),
        ];
        let scope_metrics = vec![ScopeMetrics { scope: scope("meter"), metrics, ..ScopeMetrics::default() }];
        let resource_metrics = vec![ResourceMetrics { resource: resource(attributes), scope_metrics, ..ResourceMetrics::default() }];
        let status = self.post("application/x-protobuf", ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()).await;
        assert_eq!(status, 200);
        self.recorder.lines()
    }
}

const SECOND: u64 = 1_000_000_000;

fn number(start: u64, end: u64, value: f64, attributes: Vec<KeyValue>) -> NumberDataPoint {
    NumberDataPoint {
        start_time_unix_nano: start * SECOND,
        time_unix_nano: end * SECOND,
        value: Some(number_data_point::Value::AsDouble(value)),
        attributes,
        ..NumberDataPoint::default()
    }
}

fn sum(name: &str, unit: &str, aggregation_temporality: i32, is_monotonic: bool, data_points: Vec<NumberDataPoint>) -> Metric {
    let data = metric::Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic });
    Metric { name: name.to_owned(), unit: unit.to_owned(), description: "What it is.".to_owned(), data: Some(data), ..Metric::default() }
}

const ORIGIN: &str = r#"instance="i1", job="eu/shop""#;
const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;

#[tokio::test]
async fn gauges_and_totals_keep_their_values() {
    let stage = stage(SampleSettings::default());
    let gauge = Metric {
        name: "queue.size".to_owned(),
        data: Some(metric::Data::Gauge(Gauge {
            data_points: vec![number(0, 5, 3.5, vec![text("queue.name", "a"), text("queue_name", "b"), pair("n", Any::IntValue(7))])],
        })),
        ..Metric::default()
    };
    let ended = NumberDataPoint { flags: 1, value: None, ..number(0, 6, 0.0, vec![]) };
    let lines = stage
        .send(vec![
            gauge,
            sum("requests", "{request}", CUMULATIVE, true, vec![number(1, 5, 9.0, vec![text("job", "theirs")])]),
            sum("open", "", CUMULATIVE, false, vec![number(1, 5, -2.0, vec![]), ended]),
        ])
        .await;
    assert_eq!(
        lines,
        [
            format!("open{{{ORIGIN}}} -2 @5000"),
            format!("open{{{ORIGIN}}} stale @6000"),
            format!("queue_size{{{ORIGIN}, n=\"7\", queue_name=\"a;b\"}} 3.5 @5000"),
            format!("requests_total{{{ORIGIN}}} 9 @5000"),
            format!("target_info{{host_arch=\"arm64\", {ORIGIN}}} 1 @6000"),
        ]
    );
    assert_eq!(stage.sink.events.lock().unwrap().len(), 3, "the events are still there");
    let metadata = stage.recorder.metadata();
    let about = |kind: &str, help: &str| Metadata { kind: kind.to_owned(), help: help.to_owned(), unit: String::new() };
    assert_eq!(
        metadata,
        BTreeMap::from([
            ("open".to_owned(), about("gauge", "What it is.")),
            ("queue_size".to_owned(), about("gauge", "")),
            ("requests_total".to_owned(), about("counter", "What it is.")),
        ])
    );
}

#[tokio::test]
async fn differences_become_totals() {
    let stage = stage(SampleSettings { target_info: false, ..SampleSettings::default() });
    let series = format!("claude_code_token_usage_tokens_total{{{ORIGIN}, type=\"input\"}}");
    let send = async |start, end, value| {
        let point = number(start, end, value, vec![text("type", "input")]);
        stage.send(vec![sum("claude_code.token.usage", "tokens", DELTA, true, vec![point])]).await
    };
    // The first one begins at zero, so that it counts as an increase.
    assert_eq!(send(100, 160, 10.0).await, [format!("{series} 0 @100001"), format!("{series} 10 @160000")]);
    assert_eq!(send(160, 220, 5.0).await, [format!("{series} 15 @220000")]);
    // The same request again, because its answer was lost.
    assert_eq!(send(160, 220, 5.0).await, [""; 0]);
    // One that comes late counts too, but time does not go back.
    assert_eq!(send(150, 200, 1.0).await, [format!("{series} 16 @220001")]);
    assert_eq!(stage.receiver.metrics().repeated_deltas.get(), 1);
    // A total that nobody adds to is forgotten, and begins again.
    stage.clock.advance(Duration::from_secs(4_000));
    stage.send(Vec::new()).await;
    assert_eq!(send(4_000, 4_060, 2.0).await, [format!("{series} 0 @4000001"), format!("{series} 2 @4060000")]);
}

#[tokio::test]
async fn a_refused_request_adds_nothing() {
    let stage = stage(SampleSettings { target_info: false, delta_begins_at_zero: false, delta_series_max: 1, ..SampleSettings::default() });
    let body = |value: &str, name: &str| {
        format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"{name}","sum":{{"isMonotonic":true,"aggregationTemporality":1,
            "dataPoints":[{{"startTimeUnixNano":"1000000000","timeUnixNano":"2000000000","asInt":"{value}"}}]}}}}]}}]}}]}}"#
        )
        .into_bytes()
    };
    *stage.sink.busy.lock().unwrap() = true;
    assert_eq!(stage.post("application/json", body("5", "a")).await, 503);
    assert_eq!(stage.recorder.lines(), [""; 0]);
    *stage.sink.busy.lock().unwrap() = false;
    assert_eq!(stage.post("application/json", body("5", "a")).await, 200);
    assert_eq!(stage.recorder.lines(), ["a_total{} 5 @2000"]);
    // There is no room for a second total.
    assert_eq!(stage.post("application/json", body("5", "b")).await, 200);
    assert_eq!(stage.recorder.lines(), [""; 0]);
    assert_eq!(stage.receiver.metrics().dropped_deltas.get(), 1);
}

#[tokio::test]
async fn histograms_become_buckets_and_native_histograms() {
    let stage = stage(SampleSettings { target_info: false, delta_begins_at_zero: false, ..SampleSettings::default() });
    let classic = |start: u64, end: u64, flags| HistogramDataPoint {
        start_time_unix_nano: start * SECOND,
        time_unix_nano: end * SECOND,
        count: 6,
        sum: Some(4.5),
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![0.5, 10.0],
        flags,
        ..HistogramDataPoint::default()
    };
    let histogram = |aggregation_temporality, data_points| Metric {
        name: "wait".to_owned(),
        unit: "s".to_owned(),
        data: Some(metric::Data::Histogram(Histogram { data_points, aggregation_temporality })),
        ..Metric::default()
    };
    let lines = |factor: u64, time: u64| {
        [
            format!("wait_seconds_bucket{{{ORIGIN}, le=\"+Inf\"}} {} @{time}", 6 * factor),
            format!("wait_seconds_bucket{{{ORIGIN}, le=\"0.5\"}} {factor} @{time}"),
            format!("wait_seconds_bucket{{{ORIGIN}, le=\"10\"}} {} @{time}", 3 * factor),
            format!("wait_seconds_count{{{ORIGIN}}} {} @{time}", 6 * factor),
            format!("wait_seconds_sum{{{ORIGIN}}} {} @{time}", 4.5 * factor as f64),
        ]
    };
    assert_eq!(stage.send(vec![histogram(CUMULATIVE, vec![classic(1, 5, 0)])]).await, lines(1, 5_000));
    assert_eq!(stage.send(vec![histogram(DELTA, vec![classic(5, 6, 0)])]).await, lines(1, 6_000));
    assert_eq!(stage.send(vec![histogram(DELTA, vec![classic(6, 7, 0)])]).await, lines(2, 7_000));
    let ended = stage.send(vec![histogram(DELTA, vec![classic(7, 8, 1)])]).await;
    assert!(ended.len() == 5 && ended.iter().all(|line| line.ends_with("stale @8000")), "{ended:?}");

    let native = |start: u64, end: u64, scale: i32| ExponentialHistogramDataPoint {
        start_time_unix_nano: start * SECOND,
        time_unix_nano: end * SECOND,
        count: 4,
        sum: Some(7.0),
        scale,
        zero_count: 1,
        positive: Some(exponential_histogram_data_point::Buckets { offset: 0, bucket_counts: vec![1, 2] }),
        ..ExponentialHistogramDataPoint::default()
    };
    let exponential = |aggregation_temporality, point| Metric {
        name: "size".to_owned(),
        data: Some(metric::Data::ExponentialHistogram(ExponentialHistogram { data_points: vec![point], aggregation_temporality })),
        ..Metric::default()
    };
    let zero = "[-1e-128,1e-128]:1";
    assert_eq!(
        stage.send(vec![exponential(CUMULATIVE, native(1, 5, 0))]).await,
        [format!("size{{{ORIGIN}}} {{count:4, sum:7, {zero}, (1,2]:1, (2,4]:2}} @5000")]
    );
    stage.send(vec![exponential(DELTA, native(5, 6, 0))]).await;
    // The scale of the sender falls: the total follows.
    assert_eq!(
        stage.send(vec![exponential(DELTA, native(6, 7, -1))]).await,
        [format!("size{{{ORIGIN}}} {{count:8, sum:14, [-1e-128,1e-128]:2, (1,4]:4, (4,16]:2}} @7000")]
    );
    assert_eq!(stage.send(vec![exponential(CUMULATIVE, native(1, 8, -5))]).await, [""; 0]);
    assert_eq!(stage.receiver.metrics().unusable_points.get(), 1);
}

#[tokio::test]
async fn summaries_scopes_and_promoted_attributes() {
    let stage = stage(SampleSettings {
        target_info: false,
        promote_scope: true,
        promote_resource_attributes: vec!["host.arch".to_owned()],
        translation: Translation::NoTranslation,
        ..SampleSettings::default()
    });
    let quantile_values = vec![summary_data_point::ValueAtQuantile { quantile: 0.99, value: 2.5 }];
    let point = SummaryDataPoint { time_unix_nano: 5 * SECOND, count: 3, sum: 4.0, quantile_values, ..SummaryDataPoint::default() };
    let data = Some(metric::Data::Summary(Summary { data_points: vec![point] }));
    let lines = stage.send(vec![Metric { name: "gc.pause".to_owned(), unit: "s".to_owned(), data, ..Metric::default() }]).await;
    let origin = format!("\"host.arch\"=\"arm64\", {ORIGIN}, otel_scope_name=\"meter\", otel_scope_version=\"1\"");
    assert_eq!(
        lines,
        [
            format!("gc.pause_count{{{origin}}} 3 @5000"),
            format!("gc.pause_sum{{{origin}}} 4 @5000"),
            format!("gc.pause{{{origin}, quantile=\"0.99\"}} 2.5 @5000"),
        ]
    );
}

/// Sends twice, a second apart, what the exporter is told to send.
const SENDER: &str = r#"
import sys, time
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
delta = {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}
exporter = OTLPMetricExporter(endpoint=sys.argv[1] + "/v1/metrics", preferred_temporality=delta)
reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3600000)
views = [View(instrument_name="size", aggregation=ExponentialBucketHistogramAggregation())]
provider = MeterProvider([reader], resource=Resource({"service.name": "claude-code"}), views=views, shutdown_on_exit=False)
meter = provider.get_meter("com.anthropic.claude_code", "2.1.0")
cost, sessions = meter.create_counter("claude_code.cost.usage", unit="USD"), meter.create_counter("claude_code.session.count")
wait, size = meter.create_histogram("wait", unit="s"), meter.create_histogram("size", unit="By")
for _ in range(2):
    cost.add(0.25, {"session.id": "s1", "model": "opus"})
    sessions.add(1, {"session.id": "s1"})
    wait.record(0.3)
    size.record(1000)
    provider.force_flush()
    time.sleep(0.1)
provider.shutdown()
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn differences_of_a_real_exporter_add_up() {
    let python = match tokio::task::spawn_blocking(exporters::python).await.unwrap() {
        Ok(python) => python,
        Err(why) => return eprintln!("skipped: {why}"),
    };
    let stage = stage(SampleSettings::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (router, stop) = (stage.receiver.http_router(), CancellationToken::new());
    let stopped = stop.clone();
    tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stopped.cancelled_owned()).await });
    let run = move || std::process::Command::new(python).args(["-c", SENDER, &endpoint]).env("NO_PROXY", "*").output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Only the values: the times are those of the machine.
    let mut of_series: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in stage.recorder.lines() {
        let (series, rest) = line.split_once("} ").unwrap();
        let (value, time) = rest.rsplit_once(" @").unwrap();
        of_series.entry(format!("{series}}}")).or_default().push(format!("{time} {value}"));
    }
    let mut check = |series: &str, expect: &[&str]| {
        let mut found = of_series.remove(series).unwrap_or_else(|| panic!("{series} is not in {of_series:?}"));
        found.sort();
        let values: Vec<&str> = found.iter().map(|found| found.split_once(' ').unwrap().1).collect();
        assert_eq!(values, expect, "{series}");
    };
    check(r#"claude_code_cost_usage_USD_total{job="claude-code", model="opus", session_id="s1"}"#, &["0", "0.25", "0.5"]);
    check(r#"claude_code_session_count_total{job="claude-code", session_id="s1"}"#, &["0", "1", "2"]);
    check(r#"wait_seconds_bucket{job="claude-code", le="5"}"#, &["0", "1", "2"]);
    check(r#"wait_seconds_bucket{job="claude-code", le="0"}"#, &["0", "0", "0"]);
    check(r#"wait_seconds_sum{job="claude-code"}"#, &["0", "0.3", "0.6"]);
    let sizes: Vec<String> = of_series.remove(r#"size_bytes{job="claude-code"}"#).unwrap();
    assert!(sizes.len() == 3 && sizes.iter().any(|line| line.contains("{count:2, sum:2000, (")), "{sizes:?}");
    stop.cancel();
}
