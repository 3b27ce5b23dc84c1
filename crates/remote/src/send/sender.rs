//! The loop that empties the queue.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::body::Body;
use super::spool::Position;
use super::verdict::{Reply, Verdict, judge, wait};
use crate::config::Protocol;
use crate::error::RemoteError;
use crate::http::{Store, cause, words_of};
use crate::metrics::ByReason;

/// Bytes of a request before compression beyond which no more records are added.
const REQUEST_BYTES: usize = 8 * 1024 * 1024;
/// Requests that may be spent on finding what a store does not like in one batch.
const HALVING_REQUESTS_MAX: u32 = 200;
/// How long a store may take what is left when we stop; the rest stays in the spool.
const DRAIN: Duration = Duration::from_secs(5);
/// Between looks at a spool that cannot be read.
const SPOOL_RETRY: Duration = Duration::from_secs(1);

/// Sends what is queued, in order. Made by [`super::Queue::open`].
pub struct Sender {
    shared: Arc<Shared>,
    store: Store,
    /// Whether the store turned out not to know 2.0.
    speaks_v1: AtomicBool,
}

/// Records that go out together.
#[derive(Debug, Default)]
struct Batch {
    body: Body,
    samples: u64,
    newest_ms: i64,
    /// The records: where each ends, and its samples.
    records: Vec<(Position, u64)>,
    /// Whether no more fits.
    is_full: bool,
}

impl Batch {
    fn end(&self) -> Option<Position> {
        self.records.last().map(|record| record.0)
    }
}

impl Sender {
    pub(super) fn new(shared: Arc<Shared>) -> Result<Self, RemoteError> {
        let store = Store::new(&shared.settings.store, Duration::from_secs(shared.settings.timeout_s.max(1)))?;
        let speaks_v1 = AtomicBool::new(shared.settings.protocol == Protocol::V1);
        Ok(Self { shared, store, speaks_v1 })
    }

    /// Sends until it is cancelled; then the store may take what it takes quickly, and the rest stays in the spool.
    pub async fn run(self, cancel: CancellationToken) {
        loop {
            let batch = tokio::select! {
                batch = self.next_batch() => batch,
                () = cancel.cancelled() => break,
            };
            tokio::select! {
                () = self.deliver(&batch) => self.finish(&batch),
                () = cancel.cancelled() => break,
            }
        }
        if timeout(DRAIN, self.drain()).await.is_err() {
            tracing::info!(samples = self.shared.spool.level().samples, "samples stay in the spool for the next start");
        }
        if let Err(err) = self.shared.spool.sync() {
            tracing::warn!(error = %err, "the spool is not forced to the disk");
        }
        self.shared.measure();
    }

    /// Waits for samples, and a little longer for more of them.
    async fn next_batch(&self) -> Batch {
        let mut batch = Batch::default();
        let mut deadline = None;
        loop {
            batch = self.fill(batch).await;
            if batch.is_full {
                return batch;
            }
            if batch.records.is_empty() {
                self.shared.queued.notified().await;
                continue;
            }
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + Duration::from_millis(self.shared.settings.batch_wait_ms));
            if tokio::time::timeout_at(deadline, self.shared.queued.notified()).await.is_err() {
                return self.fill(batch).await;
            }
        }
    }

    /// Adds what the spool has, off the loop's thread.
    async fn fill(&self, batch: Batch) -> Batch {
        let shared = Arc::clone(&self.shared);
        match tokio::task::spawn_blocking(move || fill(&shared, batch)).await {
            Ok((batch, None)) => batch,
            Ok((batch, Some(err))) => {
                tracing::error!(error = %err, "the spool cannot be read");
                sleep(SPOOL_RETRY).await;
                batch
            }
            // Only at the end of the runtime.
            Err(_) => Batch::default(),
        }
    }

    async fn drain(&self) {
        loop {
            let batch = self.fill(Batch::default()).await;
            if batch.records.is_empty() {
                return;
            }
            self.deliver(&batch).await;
            self.finish(&batch);
        }
    }

    fn finish(&self, batch: &Batch) {
        self.shared.spool.done(&batch.records);
        self.shared.metrics.sent_time_ms.set(batch.newest_ms);
        self.shared.measure();
    }

    /// Sends a batch until the store has taken it or will never take it.
    async fn deliver(&self, batch: &Batch) {
        let mut budget = HALVING_REQUESTS_MAX;
        let mut left = vec![batch.body.clone()];
        while let Some(body) = left.pop() {
            let is_whole = left.is_empty() && budget == HALVING_REQUESTS_MAX;
            let samples = if is_whole { batch.samples } else { body.samples() };
            let Err(why) = self.send(&body, samples).await else { continue };
            match body.halves().filter(|_| why.may_halve && budget > 0) {
                Some((first, second)) => {
                    budget = budget.saturating_sub(2);
                    left.extend([second, first]);
                }
                None => {
                    self.shared.metrics.drop_samples("refused", samples);
                    tracing::warn!(samples, answer = why.words, "the external store refuses samples");
                }
            }
        }
    }

    /// Sends a body until the store takes or refuses it.
    async fn send(&self, body: &Body, samples: u64) -> Result<(), Refusal> {
        let mut retry = 0;
        let mut encoded: Option<(bool, Vec<u8>)> = None;
        loop {
            let is_v2 = !self.speaks_v1.load(Ordering::Relaxed);
            let bytes = match &encoded {
                Some((was_v2, bytes)) if *was_v2 == is_v2 => bytes.clone(),
                _ => encoded.insert((is_v2, self.encode(body, is_v2).await?)).1.clone(),
            };
            let length = bytes.len() as u64;
            let (verdict, words) = self.request(bytes, is_v2).await;
            match verdict {
                Verdict::Taken => {
                    self.shared.metrics.up.set(1);
                    self.shared.metrics.sent_samples.inc_by(samples);
                    self.shared.metrics.sent_bytes.inc_by(length);
                    return Ok(());
                }
                Verdict::Again(asked) => {
                    self.shared.metrics.up.set(0);
                    let pause = wait(retry, asked, &self.shared.settings);
                    if retry == 0 {
                        tracing::warn!(answer = words, "the external store does not take samples; they wait in the spool");
                    }
                    retry = retry.saturating_add(1);
                    sleep(pause).await;
                }
                Verdict::SpeakV1 => {
                    tracing::info!(answer = words, "the external store does not know remote_write 2.0; it is sent 1.0");
                    self.speaks_v1.store(true, Ordering::Relaxed);
                }
                Verdict::Halve => return Err(Refusal { may_halve: true, words }),
                Verdict::Refused => return Err(Refusal { may_halve: false, words }),
            }
        }
    }

    async fn encode(&self, body: &Body, is_v2: bool) -> Result<Vec<u8>, Refusal> {
        let metadata = if is_v2 { self.shared.metadata.lock().unwrap_or_else(PoisonError::into_inner).clone() } else { HashMap::new() };
        let body = body.clone();
        let encoded = tokio::task::spawn_blocking(move || if is_v2 { body.v2(&metadata) } else { body.v1() }).await;
        let failed = |words: String| Refusal { may_halve: false, words };
        encoded.map_err(|err| failed(err.to_string()))?.map_err(|err| failed(err.to_string()))
    }

    /// One try.
    async fn request(&self, body: Vec<u8>, is_v2: bool) -> (Verdict, String) {
        let content_type = if is_v2 { "application/x-protobuf;proto=io.prometheus.write.v2.Request" } else { "application/x-protobuf" };
        let version = if is_v2 { "2.0.0" } else { "0.1.0" };
        let begun = Instant::now();
        let sent = match self.store.post("").await {
            Ok(request) => {
                let request = request
                    .header("Content-Type", content_type)
                    .header("Content-Encoding", "snappy")
                    .header("X-Prometheus-Remote-Write-Version", version);
                request.body(body).send().await.map_err(|err| cause(&err))
            }
            Err(err) => Err(err.to_string()),
        };
        self.shared.metrics.request_seconds.observe(begun.elapsed().as_secs_f64());
        let response = match sent {
            Ok(response) => response,
            Err(why) => {
                self.count_retry("unreachable");
                return (Verdict::Again(None), why);
            }
        };
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let says_written = header("X-Prometheus-Remote-Write-Samples-Written").is_some();
        let reply = Reply { status: response.status().as_u16(), retry_after: header("Retry-After"), says_written };
        let verdict = judge(reply, is_v2);
        let status = reply.status;
        if matches!(verdict, Verdict::Again(_)) {
            self.count_retry("busy");
        }
        let words = if verdict == Verdict::Taken { String::new() } else { format!("{status}: {}", words_of(response).await) };
        (verdict, words)
    }

    fn count_retry(&self, reason: &'static str) {
        self.shared.metrics.retries.get_or_create(&ByReason { reason }).inc();
    }
}

/// The store will not take a body as it is.
struct Refusal {
    may_halve: bool,
    words: String,
}

/// Adds records from the spool to a batch until it is full or there are no more.
fn fill(shared: &Shared, mut batch: Batch) -> (Batch, Option<RemoteError>) {
    let samples_max = shared.settings.samples_per_request_max.max(1) as u64;
    let mut at = batch.end().unwrap_or_else(|| shared.spool.cursor());
    while batch.samples < samples_max && batch.body.message.len() < REQUEST_BYTES {
        let record = match shared.spool.read(at) {
            Ok((record, lost)) => {
                shared.metrics.drop_samples("spool_damaged", lost);
                record
            }
            Err(err) => return (batch, Some(err)),
        };
        let Some(record) = record else { return (batch, None) };
        if !batch.records.is_empty() && batch.samples + record.samples > samples_max {
            break;
        }
        match batch.body.add(&record.payload) {
            Ok(()) => {
                batch.samples += record.samples;
                batch.newest_ms = batch.newest_ms.max(record.newest_ms);
            }
            Err(err) => {
                // Its hash was right, so this program wrote it so: it can only be given up.
                tracing::error!(error = %err, "a record of the spool cannot be read");
                shared.metrics.drop_samples("spool_damaged", record.samples);
            }
        }
        batch.records.push((record.next, record.samples));
        at = record.next;
    }
    batch.is_full = true;
    (batch, None)
}
