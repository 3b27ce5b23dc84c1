//! The way to another store, against a store whose moods the test decides.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use paramedic_promql::{Labels, SampleValue};
use paramedic_remote::config::{Protocol, StoreSettings};
use paramedic_remote::metrics::ForwardMetrics;
use paramedic_remote::send::Sender;
use paramedic_remote::{ForwardSettings, Forwarder, Headers, Queue};
use paramedic_samples::{Key, Metadata, Sample, SampleSink, SamplesError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::bodies::{Bench, START};

/// A store that answers what it is told to, then like our receiver.
struct Store {
    bench: Bench,
    moods: Mutex<VecDeque<(u16, Option<&'static str>)>>,
    requests: AtomicUsize,
    /// Refuses any request that holds this metric, as a whole.
    poison: Mutex<Option<&'static str>>,
    versions: Mutex<Vec<String>>,
    knows_v2: bool,
}

async fn receive(State(store): State<Arc<Store>>, headers: HeaderMap, body: Bytes) -> Response {
    store.requests.fetch_add(1, Ordering::Relaxed);
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    store.versions.lock().unwrap().push(header("x-prometheus-remote-write-version").unwrap_or("").to_owned());
    if let Some((status, retry_after)) = store.moods.lock().unwrap().pop_front() {
        let mut response = (StatusCode::from_u16(status).unwrap(), "not now").into_response();
        if let Some(text) = retry_after {
            response.headers_mut().insert("Retry-After", text.parse().unwrap());
        }
        return response;
    }
    if let Some(poison) = *store.poison.lock().unwrap() {
        let message = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
        if message.windows(poison.len()).any(|window| window == poison.as_bytes()) {
            return (StatusCode::BAD_REQUEST, "out of order sample").into_response();
        }
    }
    if !store.knows_v2 && header("content-type").is_some_and(|text| text.contains("v2")) {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    let known = Headers { content_type: header("content-type"), content_encoding: header("content-encoding") };
    let answer = store.bench.send(known, &body);
    let mut response = (StatusCode::from_u16(answer.status).unwrap(), answer.body.clone()).into_response();
    for (name, value) in &answer.headers {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}

/// The store behind an address, until it is aborted.
async fn serve(store: &Arc<Store>, address: &str) -> (String, JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router = Router::new().route("/api/v1/write", post(receive)).with_state(Arc::clone(store));
    (address, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
}

fn store(knows_v2: bool) -> Arc<Store> {
    let (moods, requests, poison, versions) = Default::default();
    Arc::new(Store { bench: Bench::usual(), moods, requests, poison, versions, knows_v2 })
}

fn settings(address: &str) -> ForwardSettings {
    ForwardSettings {
        store: StoreSettings { url: format!("http://{address}/api/v1/write"), ..StoreSettings::default() },
        samples_per_request_max: 100,
        batch_wait_ms: 20,
        retry_first_ms: 10,
        retry_max_ms: 50,
        ..ForwardSettings::default()
    }
}

fn sample(name: &str, time: i64) -> (Labels, i64) {
    (Labels::from_pairs(&[("__name__", name), ("job", "a")]), time)
}

fn append(sink: &dyn SampleSink, samples: &[(Labels, i64)]) {
    let batch: Vec<Sample<'_>> = samples
        .iter()
        .map(|(labels, time)| Sample { series: Key::Labels(labels), time: *time, value: SampleValue::Float(*time as f64) })
        .collect();
    sink.append(&batch).unwrap();
}

struct Running {
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

fn run(sender: Sender) -> Running {
    let cancel = CancellationToken::new();
    Running { task: tokio::spawn(sender.run(cancel.clone())), cancel }
}

impl Running {
    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap();
    }
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within ten seconds: {what}");
}

fn count(store: &Store) -> usize {
    store.bench.floats().iter().map(|series| series.1.len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_are_stored_here_and_there() {
    for (protocol, knows_v2, versions) in
        [(Protocol::V1, true, &["0.1.0"][..]), (Protocol::V2, true, &["2.0.0"]), (Protocol::V2, false, &["2.0.0", "0.1.0"])]
    {
        let (local, there, dir) = (Bench::usual(), store(knows_v2), tempfile::tempdir().unwrap());
        let (address, _server) = serve(&there, "127.0.0.1:0").await;
        let settings = ForwardSettings { protocol, ..settings(&address) };
        let (queue, sender) = Queue::open(settings, dir.path(), None, ForwardMetrics::default()).unwrap();
        let running = run(sender);
        let forwarder = Forwarder::new(local.samples.clone(), queue.clone());
        let help = Metadata { kind: "gauge".into(), help: "a".into(), unit: "s".into() };
        forwarder.set_metadata("x", help.clone()).unwrap();
        let samples: Vec<_> = (0..350).map(|i| sample("x", START + i)).collect();
        append(&forwarder, &samples);
        until("all there", || count(&there) == 350).await;
        assert_eq!(local.floats(), there.bench.floats(), "{protocol:?}");
        until("nothing waits", || queue.pending() == 0).await;
        assert_eq!(queue.metrics().sent_samples.get(), 350);
        assert_eq!(there.bench.samples.metadata(Some("x"), 1)[0].1, help, "{protocol:?} {knows_v2}");
        running.stop().await;
        let mut seen = there.versions.lock().unwrap().clone();
        seen.dedup();
        assert_eq!(seen, versions);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_store_is_asked_again_and_gets_everything_once_and_in_order() {
    let (there, dir) = (store(true), tempfile::tempdir().unwrap());
    there.moods.lock().unwrap().extend([(503, None), (429, Some("0")), (500, None), (401, None), (502, Some("soon"))]);
    let (address, _server) = serve(&there, "127.0.0.1:0").await;
    let (queue, sender) = Queue::open(settings(&address), dir.path(), None, ForwardMetrics::default()).unwrap();
    let running = run(sender);
    for i in 0..500 {
        append(&queue, &[sample("x", START + i)]);
    }
    until("all there", || count(&there) == 500).await;
    running.stop().await;
    assert_eq!(queue.metrics().sent_samples.get(), 500);
    assert!(queue.metrics().dropped_samples.get_or_create(&paramedic_remote::metrics::ByReason { reason: "refused" }).get() == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_sample_does_not_take_its_batch_with_it() {
    let (there, dir) = (store(true), tempfile::tempdir().unwrap());
    *there.poison.lock().unwrap() = Some("poison");
    let (address, _server) = serve(&there, "127.0.0.1:0").await;
    let (queue, sender) = Queue::open(settings(&address), dir.path(), None, ForwardMetrics::default()).unwrap();
    let mut samples: Vec<_> = (0..99).map(|i| sample("x", START + i)).collect();
    samples.insert(40, sample("poison", START));
    // Different series, so that the batch can be cut.
    append(&queue, &samples);
    let running = run(sender);
    until("the others there", || count(&there) == 99).await;
    until("nothing waits", || queue.pending() == 0).await;
    running.stop().await;
    let refused = queue.metrics().dropped_samples.get_or_create(&paramedic_remote::metrics::ByReason { reason: "refused" }).get();
    assert_eq!((queue.metrics().sent_samples.get(), refused), (99, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_and_a_restart_lose_nothing() {
    let (there, dir) = (store(true), tempfile::tempdir().unwrap());
    let (address, server) = serve(&there, "127.0.0.1:0").await;
    let settings = settings(&address);
    let mut next = 0;
    let mut more = |queue: &Queue, count: i64| {
        for i in next..next + count {
            append(queue, &[sample(&format!("x{}", i % 7), START + i)]);
        }
        next += count;
    };
    let (queue, sender) = Queue::open(settings.clone(), dir.path(), None, ForwardMetrics::default()).unwrap();
    let running = run(sender);
    more(&queue, 300);
    until("the first there", || count(&there) == 300).await;
    // The store goes away; samples keep coming; then we are killed: no drain, no goodbye.
    server.abort();
    let _ = server.await;
    more(&queue, 1_000);
    until("retries", || queue.metrics().retries.get_or_create(&paramedic_remote::metrics::ByReason { reason: "unreachable" }).get() > 2)
        .await;
    running.task.abort();
    let _ = running.task.await;
    assert!(queue.pending() >= 1_000);
    drop(queue);
    // After the restart the store is still away.
    let (queue, sender) = Queue::open(settings.clone(), dir.path(), None, ForwardMetrics::default()).unwrap();
    assert!(queue.pending() >= 1_000, "the spool remembers");
    let running = run(sender);
    more(&queue, 200);
    let (_, _server) = serve(&there, &address).await;
    until("all there", || count(&there) == 1_500).await;
    until("nothing waits", || queue.pending() == 0).await;
    running.stop().await;
    let mut times: Vec<i64> = there.bench.floats().into_iter().flat_map(|series| series.1).map(|sample| sample.0 - START).collect();
    times.sort_unstable();
    assert_eq!(times, (0..1_500).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_drains_and_a_full_spool_counts() {
    let (there, dir) = (store(true), tempfile::tempdir().unwrap());
    let (address, server) = serve(&there, "127.0.0.1:0").await;
    // A batch would wait for an hour; stopping sends it at once.
    let patient = ForwardSettings { batch_wait_ms: 3_600_000, ..settings(&address) };
    let (queue, sender) = Queue::open(patient.clone(), dir.path(), None, ForwardMetrics::default()).unwrap();
    let running = run(sender);
    append(&queue, &[sample("x", START)]);
    running.stop().await;
    assert_eq!((count(&there), queue.pending()), (1, 0));
    drop(queue);
    server.abort();
    let tiny = ForwardSettings { spool_bytes_max: 256 * 1024, ..patient };
    let (queue, _sender) = Queue::open(tiny, dir.path(), None, ForwardMetrics::default()).unwrap();
    for i in 0..6_000 {
        append(&queue, &[sample("x", START + i)]);
    }
    let dropped = queue.metrics().dropped_samples.get_or_create(&paramedic_remote::metrics::ByReason { reason: "spool_full" }).get();
    assert!(dropped > 0);
    assert_eq!(dropped + queue.pending(), 6_000);
}

#[test]
fn references_need_somebody_who_knows_their_labels() -> Result<(), SamplesError> {
    let (local, dir) = (Bench::usual(), tempfile::tempdir().unwrap());
    let labels = Labels::from_pairs(&[("__name__", "x")]);
    let series = local.samples.series_ref(&labels)?;
    let batch = [Sample { series: Key::Ref(series), time: START, value: SampleValue::Float(1.0) }];
    for (known, expect) in [(None, (0, 1)), (Some(labels), (1, 0))] {
        let labels_of = known.map(|labels| -> paramedic_remote::send::LabelsOf { Arc::new(move |_| Some(labels.clone())) });
        let dir = dir.path().join(format!("{}", expect.0));
        let (queue, _sender) = Queue::open(settings("127.0.0.1:1"), &dir, labels_of, ForwardMetrics::default()).unwrap();
        let report = queue.append(&batch)?;
        assert_eq!((report.appended, report.unknown_series), expect);
    }
    Ok(())
}

#[test]
fn settings_are_checked_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    for url in ["", "store", "ftp://x", "http://"] {
        let settings = ForwardSettings { store: StoreSettings { url: url.into(), ..Default::default() }, ..Default::default() };
        let name = format!("d{}", url.len());
        assert!(Queue::open(settings, &dir.path().join(name), None, ForwardMetrics::default()).is_err(), "{url:?}");
    }
}
