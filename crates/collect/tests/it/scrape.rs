//! Scraping: what becomes of bodies, targets and settings.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, Uri};
use paramedic_collect::exposition::Format;
use paramedic_collect::scrape::{self, Intake, Job, Limits, Scraper, Settings, from_prometheus_yaml};
use paramedic_model::{SystemClock, Target, TargetHealth, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::recorder::Recorder;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn intake() -> Intake {
    Intake::new(labels(&[("instance", "i"), ("job", "j")]))
}

/// Without the series about the look.
fn samples(recorder: &Recorder) -> Vec<String> {
    let mut lines = recorder.lines();
    lines.retain(|line| !line.starts_with("scrape_") && !line.starts_with("up{"));
    lines
}

#[test]
fn series_begin_and_end() {
    let recorder = Recorder::default();
    let mut intake = intake();
    let mut look = |body: &str, now: i64, expect: &[&str]| {
        let taken = intake.take(body.as_bytes(), Format::Text, &recorder, now);
        assert_eq!(samples(&recorder), expect, "{now}");
        taken.map(|taken| (taken.samples, taken.new_series, taken.ended_series)).ok()
    };
    let a = r#"a{instance="i", job="j", x="1"}"#;
    let b = r#"b{instance="i", job="j"}"#;
    assert_eq!(look("a{x=\"1\"} 1\nb 2\n", 1, &[&format!("{a} 1 @1"), &format!("{b} 2 @1")]), Some((2, 2, 0)));
    assert_eq!(look("b 3\n", 2, &[&format!("{a} stale @2"), &format!("{b} 3 @2")]), Some((1, 0, 1)));
    assert_eq!(look("b 3\n", 3, &[&format!("{b} 3 @3")]), Some((1, 0, 0)));
    // Another spelling of the same series keeps it alive.
    assert_eq!(look("b{} 4\n", 4, &[&format!("{b} 4 @4")]), Some((1, 1, 0)));
    // A body that is half good is not taken, and ends all.
    assert_eq!(look("b 5\nc d\n", 5, &[&format!("{b} stale @5")]), None);
    assert_eq!(look("oh", 6, &[]), None);
    assert_eq!(look("a{x=\"1\"} 1\n", 7, &[&format!("{a} 1 @7")]), Some((1, 1, 0)));
    // Times of their own are kept, and such series are not ended.
    assert_eq!(look("a{x=\"1\"} 1\nb 1 2\n", 8, &[&format!("{a} 1 @8"), &format!("{b} 1 @2")]), Some((2, 1, 0)));
    assert_eq!(look("a{x=\"1\"} 1\n", 9, &[&format!("{a} 1 @9")]), Some((1, 0, 0)));
}

#[test]
fn a_look_reports_about_itself() {
    let recorder = Recorder::default();
    let mut intake = intake();
    intake.take(b"a 1\nb 1\n", Format::Text, &recorder, 5).unwrap();
    let own: Vec<String> = recorder.lines().into_iter().filter(|line| line.contains("scrape_") || line.starts_with("up")).collect();
    assert_eq!(
        own,
        [
            r#"scrape_duration_seconds{instance="i", job="j"} 0 @5"#,
            r#"scrape_samples_post_metric_relabeling{instance="i", job="j"} 2 @5"#,
            r#"scrape_samples_scraped{instance="i", job="j"} 2 @5"#,
            r#"scrape_series_added{instance="i", job="j"} 2 @5"#,
            r#"up{instance="i", job="j"} 1 @5"#,
        ]
    );
    intake.take(b"?", Format::Text, &recorder, 6).unwrap_err();
    let lines = recorder.lines();
    for line in [r#"up{instance="i", job="j"} 0 @6"#, r#"scrape_series_added{instance="i", job="j"} 0 @6"#] {
        assert!(lines.iter().any(|found| found == line), "{line} in {lines:?}");
    }
}

#[test]
fn metadata_is_told_once() {
    let recorder = Recorder::default();
    let text = "# HELP a_seconds Waiting.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total 1\n# EOF\n";
    scrape::take(text, "paramedic", "here", &recorder, Timestamp::from_millis(7)).unwrap();
    let metadata = &recorder.metadata()["a_seconds"];
    assert_eq!((&*metadata.kind, &*metadata.help, &*metadata.unit), ("counter", "Waiting.", "seconds"));
    assert_eq!(samples(&recorder), [r#"a_seconds_total{instance="here", job="paramedic"} 1 @7"#]);
}

#[test]
fn bounds_fail_a_look_by_name() {
    let limits = Limits { samples: 2, labels: 4, label_name_bytes: 10, label_value_bytes: 5 };
    for (body, expect) in [
        ("a 1\nb 1\nc 1\n", "take the body: 3 is more than sample_limit = 2"),
        ("a{x=\"1\",y=\"2\"} 1\n", "take a: 5 is more than label_limit = 4"),
        ("a{abcdefghijk=\"1\"} 1\n", "take a: 11 is more than label_name_length_limit = 10"),
        ("a{x=\"123456\"} 1\n", "take a: 6 is more than label_value_length_limit = 5"),
        ("a{x=\"1\",x=\"2\"} 1\n", "take a: the label x is there twice"),
    ] {
        let recorder = Recorder::default();
        let error = intake().with_limits(limits).take(body.as_bytes(), Format::Text, &recorder, 1).expect_err(body);
        assert_eq!(error.to_string(), expect);
        assert_eq!(samples(&recorder), [""; 0], "nothing of a refused body is stored");
    }
}

/// Takes bodies and stores nothing.
struct Nowhere;

impl paramedic_samples::SampleSink for Nowhere {
    fn append(&self, batch: &[paramedic_samples::Sample<'_>]) -> Result<paramedic_samples::AppendReport, paramedic_samples::SamplesError> {
        Ok(paramedic_samples::AppendReport { appended: batch.len() as u64, ..Default::default() })
    }

    fn set_metadata(&self, _: &str, _: paramedic_samples::Metadata) -> Result<(), paramedic_samples::SamplesError> {
        Ok(())
    }
}

/// Not a benchmark, but far from what would be too slow.
#[test]
fn a_large_target_is_taken_in_time() {
    use std::fmt::Write as _;
    let mut body = String::new();
    for i in 0..100_000 {
        writeln!(body, "http_requests_total{{method=\"GET\",handler=\"/api/v1/{i}\",code=\"200\"}} {i}").unwrap();
    }
    let mut intake = intake();
    for (now, new_series) in [(1, 100_000), (2, 0), (3, 0)] {
        let began = std::time::Instant::now();
        let taken = intake.take(body.as_bytes(), Format::Text, &Nowhere, now).unwrap();
        let seconds = began.elapsed().as_secs_f64();
        println!("{:.2} M samples/s, {new_series} of them new", 0.1 / seconds);
        assert_eq!((taken.kept, taken.new_series), (100_000, new_series));
        assert!(seconds < 20.0);
    }
}

#[test]
fn secrets_in_labels_are_masked() {
    let recorder = Recorder::default();
    let body = b"a{dsn=\"postgres://app:hunter22@db/x\",secret=\"database\"} 1\n";
    intake().take(body, Format::Text, &recorder, 1).unwrap();
    let lines = samples(&recorder);
    assert!(lines.len() == 1 && !lines[0].contains("hunter22") && lines[0].contains("secret=\"database\""), "{lines:?}");
}

/// Status, headers and body.
type Answer = (StatusCode, Vec<(&'static str, String)>, Vec<u8>);

/// A target that answers as it is told.
struct Fake {
    address: String,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<Mutex<Vec<(Uri, HeaderMap)>>>,
    stop: CancellationToken,
}

impl Fake {
    async fn start(body: &str) -> Self {
        let answer = Arc::new(Mutex::new((StatusCode::OK, vec![("content-type", "text/plain".to_owned())], body.as_bytes().to_vec())));
        let asked: Arc<Mutex<Vec<(Uri, HeaderMap)>>> = Arc::default();
        let (told, seen) = (Arc::clone(&answer), Arc::clone(&asked));
        let router = axum::Router::new().fallback(move |uri: Uri, headers: HeaderMap| async move {
            seen.lock().unwrap().push((uri, headers));
            let (status, headers, body) = told.lock().unwrap().clone();
            let mut response = axum::response::Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(axum::body::Body::from(body)).unwrap()
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stopped.cancelled_owned()).await });
        Self { address, answer, asked, stop }
    }

    fn says(&self, status: StatusCode, headers: &[(&'static str, &str)], body: &[u8]) {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        *self.answer.lock().unwrap() = (status, headers, body.to_vec());
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn start(settings: Settings) -> (Scraper, Arc<Recorder>, CancellationToken) {
    let recorder = Arc::new(Recorder::default());
    let scraper = Scraper::new(settings, recorder.clone(), Arc::new(SystemClock)).unwrap();
    let cancel = CancellationToken::new();
    let (running, stop) = (scraper.clone(), cancel.clone());
    tokio::spawn(async move { running.run(stop).await });
    (scraper, recorder, cancel)
}

async fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    for _ in 0..500 {
        if let Some(found) = found() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("waited ten seconds for {what}");
}

async fn target(scraper: &Scraper, what: &str, is_it: impl Fn(&Target) -> bool) -> Target {
    until(what, || scraper.targets().into_iter().find(|target| is_it(target))).await
}

fn job(address: &str) -> Job {
    Job { name: "node".to_owned(), targets: vec![address.to_owned()], interval_s: Some(1), ..Job::default() }
}

fn settings(job: Job) -> Settings {
    Settings { jobs: vec![job], rescan_s: 1, ..Settings::default() }
}

#[tokio::test]
async fn a_target_is_asked_as_it_wants() {
    let fake = Fake::start("a{job=\"theirs\"} 1\n").await;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(b"# TYPE a counter\na_total{job=\"theirs\"} 1\n# EOF\n").unwrap();
    let open_metrics = [("content-type", "application/openmetrics-text; version=1.0.0"), ("content-encoding", "gzip")];
    fake.says(StatusCode::OK, &open_metrics, &packed.finish().unwrap());
    let job = Job {
        path: "/probe".to_owned(),
        params: BTreeMap::from([("module".to_owned(), vec!["http".to_owned(), "tcp".to_owned()])]),
        bearer_token: Some(scrape::Secret("very-secret-token".to_owned())),
        labels: labels(&[("zone", "z1")]),
        ..job(&fake.address)
    };
    let (scraper, recorder, cancel) = start(settings(job));
    let target = target(&scraper, "a good look", |target| target.health == TargetHealth::Up).await;
    let address = &fake.address;
    assert_eq!(target.address, format!("http://{address}/probe?module=http&module=tcp"));
    assert_eq!(target.labels, labels(&[("instance", address), ("job", "node"), ("zone", "z1")]));
    assert_eq!((target.last_samples, target.failures, &*target.last_error), (1, 0, ""));
    let line = format!("a_total{{exported_job=\"theirs\", instance=\"{address}\", job=\"node\", zone=\"z1\"}} 1 @");
    assert!(samples(&recorder).iter().any(|found| found.starts_with(&line)), "{line}");
    let (uri, headers) = fake.asked.lock().unwrap()[0].clone();
    assert_eq!(uri.to_string(), "/probe?module=http&module=tcp");
    for (name, part) in [
        ("accept", "application/openmetrics-text;version=1.0.0"),
        ("accept-encoding", "gzip"),
        ("authorization", "Bearer very-secret-token"),
        ("x-prometheus-scrape-timeout-seconds", "1"),
        ("user-agent", "paramedic/"),
    ] {
        assert!(headers[name].to_str().unwrap().contains(part), "{name}: {:?}", headers[name]);
    }
    cancel.cancel();
}

#[tokio::test]
async fn failures_are_named_and_end_the_series() {
    let fake = Fake::start("a 1\n").await;
    let (scraper, recorder, cancel) = start(settings(Job { body_bytes_max: 1_000, ..job(&fake.address) }));
    target(&scraper, "a good look", |target| target.health == TargetHealth::Up).await;
    recorder.take();
    let text = [("content-type", "text/plain")];
    let zeros = {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(&vec![b'\n'; 100_000]).unwrap();
        packed.finish().unwrap()
    };
    for (status, headers, body, expect) in [
        (StatusCode::UNAUTHORIZED, &text[..], &b"a 1\n"[..], "the target answered 401 Unauthorized"),
        (StatusCode::OK, &[("content-type", "text/html")], b"a 1\n", "read content of type \"text/html\""),
        (StatusCode::OK, &text, b"<html>", "read line 1: a metric's name is missing"),
        (StatusCode::OK, &text, &[b'\n'; 2_000], "the answer is larger than body_bytes_max = 1000"),
        (StatusCode::OK, &[("content-encoding", "gzip")], &zeros, "the answer is larger than body_bytes_max = 1000"),
        (StatusCode::OK, &[("content-encoding", "br")], b"a 1\n", "the answer is compressed with br"),
    ] {
        fake.says(status, headers, body);
        let found = target(&scraper, expect, |target| target.last_error == expect).await;
        assert_eq!((found.health, found.last_samples), (TargetHealth::Down, 0));
    }
    let lines = recorder.lines();
    assert_eq!(lines.iter().filter(|line| line.starts_with("a{") && line.contains("stale")).count(), 1, "one end of one series");
    assert!(lines.iter().any(|line| line.starts_with("up{") && line.contains(" 0 @")));
    fake.stop.cancel();
    let gone = target(&scraper, "a refused connection", |target| target.last_error.contains("onnection")).await;
    assert!(gone.failures > 5 && !gone.last_error.contains("http://"), "{}", gone.last_error);
    cancel.cancel();
}

#[tokio::test]
async fn files_are_followed_and_targets_leave_with_a_marker() {
    let fake = Fake::start("a 1\n").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.json");
    std::fs::write(&path, format!("[{{\"targets\": [\"{}\"], \"labels\": {{\"env\": \"x\"}}}}]", fake.address)).unwrap();
    let pattern = folder.path().join("*.*").to_string_lossy().into_owned();
    let relabel = vec![scrape::Relabel {
        source_labels: vec!["__meta_filepath".to_owned()],
        regex: ".*/(.*)[.].*".to_owned(),
        target_label: "file".to_owned(),
        ..scrape::Relabel::default()
    }];
    let (scraper, recorder, cancel) = start(settings(Job { targets: Vec::new(), files: vec![pattern], relabel, ..job("") }));
    let found = target(&scraper, "the target of the file", |target| target.health == TargetHealth::Up).await;
    assert_eq!((&*found.labels["env"], &*found.labels["file"]), ("x", "one"));
    // A file that is damaged for a moment costs nothing.
    std::fs::write(&path, "[{").unwrap();
    std::fs::write(folder.path().join("two.yml"), "- targets: ['127.0.0.1:1']\n").unwrap();
    target(&scraper, "the target of the other file", |target| target.labels["file"] == "two").await;
    assert_eq!(scraper.targets().len(), 2);
    assert!(scraper.metrics().discovery_errors.get() > 0);
    recorder.take();
    std::fs::remove_file(&path).unwrap();
    until("the target to leave", || (scraper.targets().len() == 1).then_some(())).await;
    let lines = until("its end", || Some(recorder.lines()).filter(|lines| lines.iter().any(|line| line.contains("stale")))).await;
    for name in ["a{", "up{", "scrape_duration_seconds{"] {
        assert!(lines.iter().any(|line| line.starts_with(name) && line.contains("stale")), "{name} in {lines:?}");
    }
    cancel.cancel();
}

#[tokio::test]
async fn new_settings_do_not_disturb_the_rest() {
    let (kept, changed) = (Fake::start("a 1\n").await, Fake::start("a 1\nb 1\n").await);
    let both = |metric_relabel: Vec<scrape::Relabel>| Settings {
        jobs: vec![job(&kept.address), Job { name: "other".to_owned(), metric_relabel, ..job(&changed.address) }],
        ..Settings::default()
    };
    let (scraper, recorder, cancel) = start(both(Vec::new()));
    until("both", || (scraper.targets().iter().filter(|target| target.health == TargetHealth::Up).count() == 2).then_some(())).await;
    recorder.take();
    let drop_b = scrape::Relabel {
        source_labels: vec!["__name__".to_owned()],
        regex: "b".to_owned(),
        action: scrape::Action::Drop,
        ..scrape::Relabel::default()
    };
    scraper.reload(both(vec![drop_b])).unwrap();
    let ended = AtomicUsize::new(0);
    let lines = until("the end of b", || {
        let lines = recorder.lines();
        ended.fetch_add(lines.iter().filter(|line| line.contains("stale")).count(), Ordering::Relaxed);
        (ended.load(Ordering::Relaxed) > 0).then_some(lines)
    })
    .await;
    let stale: Vec<&String> = lines.iter().filter(|line| line.contains("stale")).collect();
    assert!(stale.len() == 1 && stale[0].starts_with("b{"), "{stale:?}");
    assert!(scraper.reload(settings(Job { scheme: "ftp".to_owned(), ..job("x:1") })).is_err());
    cancel.cancel();
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let check = |job: Job, expect: &str| {
        let error = Scraper::new(settings(job), Arc::new(Recorder::default()), Arc::new(SystemClock)).err().expect(expect);
        assert!(error.to_string().contains(expect), "{error}");
    };
    check(Job::default(), "it has no name");
    check(Job { interval_s: Some(0), ..job("a:1") }, "interval_s is 0");
    check(Job { timeout_s: Some(2), ..job("a:1") }, "timeout_s is 0 or longer than interval_s");
    let rule = scrape::Relabel { regex: "(".to_owned(), target_label: "x".to_owned(), ..scrape::Relabel::default() };
    check(Job { relabel: vec![rule], ..job("a:1") }, "cannot be used");
}

#[test]
fn a_prometheus_configuration_becomes_jobs() {
    let text = r#"
global: {scrape_interval: 30s, evaluation_interval: 15s, external_labels: {a: b}}
rule_files: [x.yml]
scrape_configs:
  - job_name: node
    scrape_timeout: 500ms
    metrics_path: /m
    scheme: https
    params: {module: [a, b]}
    static_configs:
      - targets: ['a:1', 'b:2']
        labels: {zone: 7, prod: true}
    file_sd_configs: [{files: ['/etc/t/*.json'], refresh_interval: 5m}]
    kubernetes_sd_configs: [{role: pod}]
    authorization: {credentials: abc}
    tls_config: {insecure_skip_verify: true, cert_file: /c}
    body_size_limit: 10MB
    sample_limit: 1000
    scrape_protocols: [PrometheusText0.0.4]
    relabel_configs:
      - {action: hashmod, source_labels: [__address__], modulus: 2, target_label: s}
      - {source_labels: [__address__], regex: 'a.*', action: Keep}
    metric_relabel_configs: [{source_labels: [__name__], regex: go_.*, action: drop}]
  - {job_name: plain, scrape_interval: 1m30s}
"#;
    let imported = from_prometheus_yaml(text).unwrap();
    assert_eq!(
        imported.unsupported,
        [r#"job "node": kubernetes_sd_configs"#, r#"job "node": tls_config.cert_file"#, r#"job "node": relabel_configs action hashmod"#]
    );
    let [node, plain] = &imported.jobs[..] else { panic!("two jobs") };
    assert_eq!((node.interval_s, node.timeout_s, &*node.path, &*node.scheme), (Some(30), Some(1), "/m", "https"));
    assert_eq!(node.groups[0].labels, labels(&[("prod", "true"), ("zone", "7")]));
    assert_eq!((node.body_bytes_max, node.sample_limit, node.tls_skip_verify), (10 << 20, 1000, true));
    assert_eq!((node.relabel.len(), node.metric_relabel.len()), (1, 1));
    assert_eq!((plain.interval_s, plain.sample_limit), (Some(90), 0));
    assert!(!format!("{node:?}").contains("abc"), "secrets are not shown");
    for (text, part) in [
        ("scrape_configs: [{scrape_interval: 1s}]", "job_name is missing"),
        ("scrape_configs: [{job_name: x, scrape_interval: fast}]", "scrape_interval is not a duration"),
        ("scrape_configs: 3", "scrape_configs is not a list"),
        ("a: [", "read the Prometheus configuration"),
    ] {
        let error = from_prometheus_yaml(text).expect_err(text).to_string();
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(from_prometheus_yaml("global: {}").unwrap().jobs, []);
}
