//! Against the programs themselves: a Prometheus that sends to us, and a Prometheus and a VictoriaMetrics that we send to.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use paramedic_model::{SystemClock, Timestamp};
use paramedic_promql::{Engine, Histogram, Labels, Point, SampleValue, Value};
use paramedic_remote::config::StoreSettings;
use paramedic_remote::metrics::{ByReason, ForwardMetrics, QueryMetrics, ReceiveMetrics};
use paramedic_remote::{
    Answer, EngineError, ExternalEngine, ForwardSettings, Forwarder, Headers, QuerySettings, Queue, ReadSettings, ReceiveSettings,
    Receiver, read,
};
use paramedic_samples::{Key, Sample, SampleSink, Samples, Settings};
use tokio_util::sync::CancellationToken;

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn now_ms() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "other programs refuse samples that are not of today")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn exists(program: &str) -> bool {
    let found = std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

/// A program on loopback; ends with the test.
struct Program {
    child: Child,
    port: u16,
}

impl Drop for Program {
    /// A VictoriaMetrics that is killed loses what it had taken in its last seconds, so programs are asked to end first.
    fn drop(&mut self) {
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        for _ in 0..100 {
            if asked.is_err() || !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    fn start(command: &mut Command, port: u16) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { child, port }
    }

    fn prometheus(dir: &Path, port: u16, config: &str, more: &[&str]) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let file = dir.join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display())).arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}")).args(more);
        command.args(["--web.console.templates=/nonexistent", "--web.console.libraries=/nonexistent"]);
        Self::start(&mut command, port)
    }

    fn victoria(dir: &Path, port: u16) -> Self {
        let mut command = Command::new("victoria-metrics");
        command.arg(format!("-storageDataPath={}", dir.join("vm").display())).arg(format!("-httpListenAddr=127.0.0.1:{port}"));
        command.args(["-retentionPeriod=1d", "-search.latencyOffset=0s", "-search.disableCache", "-memory.allowedBytes=64MB"]);
        Self::start(&mut command, port)
    }

    async fn ready(self, path: &str) -> Self {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        until("the program is ready", async || get_text(&url).await.is_some()).await;
        self
    }
}

async fn get_text(url: &str) -> Option<String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(Duration::from_secs(2)).build().unwrap();
    let response = client.get(url).send().await.ok()?;
    if response.status().is_success() { response.text().await.ok() } else { None }
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within thirty seconds: {what}");
}

fn open_samples(dir: &Path) -> Arc<Samples> {
    Arc::new(Samples::open(dir, Settings { upkeep_interval_s: 0, ..Settings::default() }, Arc::new(SystemClock)).unwrap())
}

struct Face {
    receiver: Receiver,
    samples: Arc<Samples>,
}

fn respond(answer: &Answer, bytes: Vec<u8>) -> Response {
    let body = if bytes.is_empty() { answer.body.clone().into_bytes() } else { bytes };
    let mut response = (StatusCode::from_u16(answer.status).unwrap(), body).into_response();
    for (name, value) in &answer.headers {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}

async fn take_write(State(face): State<Arc<Face>>, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let known = Headers { content_type: header("content-type"), content_encoding: header("content-encoding") };
    respond(&face.receiver.handle(known, &body), Vec::new())
}

async fn take_read(State(face): State<Arc<Face>>, body: Bytes) -> Response {
    let (answer, bytes) = read::answer(&body, &face.samples, &ReadSettings::default(), &QueryMetrics::default());
    respond(&answer, bytes)
}

const EXPOSITION: &str = "# HELP jobs_total Jobs done.\n# TYPE jobs_total counter\njobs_total{kind=\"a\"} 42\njobs_total{kind=\"b \\\"x\\\"\"} 7.25\n\
# TYPE took_seconds histogram\ntook_seconds_bucket{le=\"0.1\"} 3\ntook_seconds_bucket{le=\"+Inf\"} 5\ntook_seconds_sum 1.5\ntook_seconds_count 5\n\
# TYPE weird gauge\nweird NaN\n";

/// Our receiver, remote read and an exposition to scrape, on one port.
async fn serve(samples: &Arc<Samples>) -> u16 {
    let receiver = Receiver::new(ReceiveSettings::default(), Arc::clone(samples), None, ReceiveMetrics::default());
    let face = Arc::new(Face { receiver, samples: Arc::clone(samples) });
    let router = Router::new()
        .route("/api/v1/write", post(take_write))
        .route("/api/v1/read", post(take_read))
        .route("/metrics", get(async || ([("Content-Type", "text/plain; version=0.0.4")], EXPOSITION)))
        .with_state(face);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    port
}

fn engine(port: u16) -> ExternalEngine {
    let store = StoreSettings { url: format!("http://127.0.0.1:{port}"), ..StoreSettings::default() };
    ExternalEngine::new(&QuerySettings { store, ..QuerySettings::default() }, QueryMetrics::default()).unwrap()
}

/// An instant vector as sorted text.
fn vector(value: Value) -> Vec<String> {
    let Value::Vector(samples) = value else { panic!("not a vector: {value:?}") };
    let mut lines: Vec<String> = samples.iter().map(|sample| format!("{} {:?}", sample.labels, sample.value)).collect();
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_sends_us_what_it_scrapes_and_reads_it_back() {
    if !exists("prometheus") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let samples = open_samples(&dir.path().join("samples"));
    let ours = serve(&samples).await;
    let port = free_port();
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: small, static_configs: [{{targets: ['127.0.0.1:{ours}']}}]}}]\n\
         remote_write: [{{url: 'http://127.0.0.1:{ours}/api/v1/write', metadata_config: {{send: true, send_interval: 1s}}}}]\n"
    );
    let theirs = Program::prometheus(&dir.path().join("theirs"), port, &config, &[]).ready("/-/ready").await;
    let local = Engine::default();
    until("samples and metadata arrive", async || {
        let answer = local.instant(&*samples, "count_over_time(jobs_total[1m]) >= 3", now_ms()).unwrap();
        matches!(answer.value, Value::Vector(found) if found.len() == 2) && !samples.metadata(Some("jobs_total"), 1).is_empty()
    })
    .await;
    let metadata = &samples.metadata(Some("jobs_total"), 1)[0].1;
    assert_eq!((&*metadata.kind, &*metadata.help), ("counter", "Jobs done."));
    // At a moment that both have, both give the same answers.
    let at = now_ms() - 1_500;
    let external = engine(theirs.port);
    for query in ["{__name__=~\"jobs_total|took_seconds.*|weird|up|scrape_samples_scraped\"}", "sum by (job) (jobs_total)", "up == 1"] {
        let mine = vector(local.instant(&*samples, query, at).unwrap().value);
        let reply = external.instant(query, Timestamp::from_millis(at)).await.unwrap();
        assert_eq!(mine, vector(reply.answer.value), "{query}");
        assert!(!mine.is_empty(), "{query}");
    }
    drop(theirs);
    // Another Prometheus has nothing of its own, and reads from us.
    let port = free_port();
    let config = format!("remote_read: [{{url: 'http://127.0.0.1:{ours}/api/v1/read', read_recent: true}}]\n");
    let reader = Program::prometheus(&dir.path().join("reader"), port, &config, &[]).ready("/-/ready").await;
    let query = "sum by (kind) (jobs_total)";
    let reply = engine(reader.port).instant(query, Timestamp::from_millis(at)).await.unwrap();
    assert_eq!(vector(reply.answer.value), vector(local.instant(&*samples, query, at).unwrap().value));
}

struct Forwarding {
    queue: Queue,
    forwarder: Forwarder,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn forward(port: u16, dir: &Path, samples: &Arc<Samples>) -> Forwarding {
    let settings = ForwardSettings {
        store: StoreSettings { url: format!("http://127.0.0.1:{port}/api/v1/write"), ..StoreSettings::default() },
        batch_wait_ms: 50,
        retry_max_ms: 200,
        ..ForwardSettings::default()
    };
    let (queue, sender) = Queue::open(settings, dir, None, ForwardMetrics::default()).unwrap();
    let cancel = CancellationToken::new();
    let task = tokio::spawn(sender.run(cancel.clone()));
    Forwarding { forwarder: Forwarder::new(samples.clone(), queue.clone()), queue, cancel, task }
}

/// Appends a sample per series and second.
fn append(sink: &dyn SampleSink, from: i64, seconds: std::ops::Range<i64>) {
    let series: Vec<Labels> = (0..20).map(|i| Labels::from_pairs(&[("__name__", "work_total"), ("i", &i.to_string())])).collect();
    for second in seconds {
        let batch: Vec<Sample<'_>> = series
            .iter()
            .map(|labels| Sample { series: Key::Labels(labels), time: from + second * 1_000, value: SampleValue::Float(second as f64) })
            .collect();
        sink.append(&batch).unwrap();
    }
}

/// Samples through an outage and a restart of ours; every one of them must be there in the end.
async fn survives(name: &str, start: impl Fn(&Path, u16) -> Program, ready: &str) {
    if !exists(name) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let samples = open_samples(&dir.path().join("samples"));
    let port = free_port();
    let from = now_ms() / 1_000 * 1_000 - 200_000;
    let theirs = start(dir.path(), port).ready(ready).await;
    let forwarding = forward(port, &dir.path().join("spool"), &samples);
    append(&forwarding.forwarder, from, 0..50);
    until("the first samples are sent", async || forwarding.queue.pending() == 0).await;
    // The store dies; samples keep coming; we stop and start again; the store comes back.
    drop(theirs);
    append(&forwarding.forwarder, from, 50..100);
    let retries = || forwarding.queue.metrics().retries.get_or_create(&ByReason { reason: "unreachable" }).get();
    until("it is noticed", async || retries() > 1).await;
    forwarding.cancel.cancel();
    forwarding.task.await.unwrap();
    assert_eq!(forwarding.queue.pending(), 1_000);
    drop((forwarding.queue, forwarding.forwarder));
    let forwarding = forward(port, &dir.path().join("spool"), &samples);
    append(&forwarding.forwarder, from, 100..150);
    let theirs = start(dir.path(), port).ready(ready).await;
    until("everything is sent", async || forwarding.queue.pending() == 0).await;
    for reason in ["refused", "spool_full", "spool_error", "spool_damaged", "no_labels"] {
        assert_eq!(forwarding.queue.metrics().dropped_samples.get_or_create(&ByReason { reason }).get(), 0, "{reason}");
    }
    let external = engine(theirs.port);
    let at = Timestamp::from_millis(from + 150_000);
    let expect = 20.0 * 150.0;
    until("all samples are found", async || {
        let reply = external.instant("sum(count_over_time(work_total[10m]))", at).await.unwrap();
        matches!(reply.answer.value, Value::Vector(found) if found.first().is_some_and(|sample| sample.value == Point::Float(expect)))
    })
    .await;
    same_range(&external, &samples, from).await;
    failures(&external, at).await;
    forwarding.cancel.cancel();
    forwarding.task.await.unwrap();
}

/// A range query gives the same there and here.
async fn same_range(external: &ExternalEngine, samples: &Samples, from: i64) {
    let query = "sum by (i) (work_total)";
    let (begin, end) = (from + 10_000, from + 140_000);
    let reply = external.range(query, Timestamp::from_millis(begin), Timestamp::from_millis(end), Duration::from_secs(10)).await.unwrap();
    let (Value::Matrix(mut theirs), Value::Matrix(mut ours)) =
        (reply.answer.value, Engine::default().range(samples, query, begin, end, 10_000).unwrap().value)
    else {
        panic!("not a matrix");
    };
    theirs.sort_by(|a, b| a.labels.cmp(&b.labels));
    ours.sort_by(|a, b| a.labels.cmp(&b.labels));
    assert_eq!(theirs.len(), 20);
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!((&theirs.labels, &theirs.floats), (&ours.labels, &ours.floats));
    }
}

async fn failures(external: &ExternalEngine, at: Timestamp) {
    assert!(matches!(external.instant("sum(", at).await, Err(EngineError::BadQuery(_))));
    let nobody = engine(free_port()).instant("up", at).await.unwrap_err();
    assert!(matches!(nobody, EngineError::Unreachable(_)) && nobody.is_temporary(), "{nobody}");
    assert!(matches!(external.instant("1 + 1", at).await.unwrap().answer.value, Value::Scalar(2.0) | Value::Vector(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_gets_everything_through_an_outage() {
    let more = &["--web.enable-remote-write-receiver", "--enable-feature=native-histograms"];
    survives("prometheus", |dir, port| Program::prometheus(&dir.join("theirs"), port, "global: {}\n", more), "/-/ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_victoria_metrics_gets_everything_through_an_outage() {
    survives("victoria-metrics", Program::victoria, "/health").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn native_histograms_go_to_a_prometheus_and_come_back() {
    if !exists("prometheus") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let samples = open_samples(&dir.path().join("samples"));
    let more = &["--web.enable-remote-write-receiver", "--enable-feature=native-histograms"];
    let theirs = Program::prometheus(&dir.path().join("theirs"), free_port(), "global: {}\n", more).ready("/-/ready").await;
    let forwarding = forward(theirs.port, &dir.path().join("spool"), &samples);
    let labels = Labels::from_pairs(&[("__name__", "took_seconds")]);
    let histogram = Arc::new(Histogram {
        schema: 2,
        count: 9.0,
        sum: 12.5,
        zero_count: 2.0,
        zero_threshold: 0.001,
        positive: vec![(-3, 1.0), (-2, 2.0), (5, 1.0)],
        negative: vec![(1, 3.0)],
        ..Histogram::default()
    });
    let at = now_ms();
    let sample = Sample { series: Key::Labels(&labels), time: at, value: SampleValue::Histogram(Arc::clone(&histogram)) };
    forwarding.forwarder.append(&[sample]).unwrap();
    let external = engine(theirs.port);
    let mut found = None;
    until("it is there", async || {
        let reply = external.instant("took_seconds", Timestamp::from_millis(at + 1)).await.unwrap();
        let Value::Vector(samples) = reply.answer.value else { return false };
        found = samples.into_iter().next();
        found.is_some()
    })
    .await;
    let Some(Point::Histogram(back)) = found.map(|sample| sample.value) else { panic!("not a histogram") };
    assert!(back.almost_same(&histogram, 1e-9), "{back}\n{histogram}");
    forwarding.cancel.cancel();
    forwarding.task.await.unwrap();
}
