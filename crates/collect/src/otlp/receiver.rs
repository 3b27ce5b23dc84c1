//! One request, whatever carried it: admitted, decoded, handed on, answered.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use paramedic_model::{Clock, Timestamp};
use paramedic_samples::SampleSink;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::config::Settings;
use super::convert::{Bounds, Converted};
use super::meter::{AnswerLabels, Labels, Metrics};
use super::samples::{Batch, Samples, Tap};
use super::{DecodeError, Encoding, Signal, decode_beside};
use crate::sink::{Sink, SinkError};

/// Bodies larger than this are decoded away from the threads that serve connections.
const INLINE_BYTES_MAX: usize = 256 * 1024;
/// More samples than this are stored there too.
const INLINE_POINTS_MAX: usize = 2_000;

/// Shared by both servers; cheap to clone.
#[derive(Clone)]
pub struct Receiver {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    sink: Arc<dyn Sink>,
    /// Where samples of metrics go, beside the events.
    samples: Option<Arc<Samples>>,
    clock: Arc<dyn Clock>,
    pub(super) settings: Settings,
    metrics: Metrics,
    places: Semaphore,
}

/// Why a request was not taken; each server says it in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    Malformed(String),
    TooLarge(usize),
    Unsupported(String),
    /// Too many requests at once, or the store is behind.
    Busy,
    Unavailable(String),
    /// The sender did not send its body in time.
    Slow,
}

impl Refusal {
    const fn label(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::TooLarge(_) => "too-large",
            Self::Unsupported(_) => "unsupported",
            Self::Busy => "busy",
            Self::Unavailable(_) => "unavailable",
            Self::Slow => "slow",
        }
    }

    /// A sentence for the sender.
    pub(super) fn message(&self) -> Cow<'_, str> {
        match self {
            Self::Malformed(why) | Self::Unsupported(why) => Cow::Borrowed(why),
            Self::TooLarge(bytes_max) => format!("the body is larger than {bytes_max} bytes").into(),
            Self::Busy => "too much is waiting; send this again in a moment".into(),
            Self::Unavailable(why) => format!("events cannot be stored now: {why}").into(),
            Self::Slow => "the body did not come in time".into(),
        }
    }
}

/// How much was rejected of a request that was taken, and why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Partial {
    pub(super) rejected: u64,
    pub(super) reason: Option<&'static str>,
}

impl Receiver {
    #[must_use]
    pub fn new(sink: Arc<dyn Sink>, clock: Arc<dyn Clock>, settings: Settings) -> Self {
        Self::build(sink, None, clock, settings)
    }

    /// The same, and metrics become samples too.
    #[must_use]
    pub fn with_samples(sink: Arc<dyn Sink>, samples: Arc<dyn SampleSink>, clock: Arc<dyn Clock>, settings: Settings) -> Self {
        let samples = Samples::new(samples, settings.samples.clone());
        Self::build(sink, Some(Arc::new(samples)), clock, settings)
    }

    fn build(sink: Arc<dyn Sink>, samples: Option<Arc<Samples>>, clock: Arc<dyn Clock>, settings: Settings) -> Self {
        let places = Semaphore::new(settings.requests_max.clamp(1, 4096));
        Self { inner: Arc::new(Inner { sink, samples, clock, settings, metrics: Metrics::default(), places }) }
    }

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }
}

impl Inner {
    /// A place among the requests that are handled at once. None free means: come back later.
    pub(super) fn admit(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        self.places.try_acquire().map_err(|_| Refusal::Busy)
    }

    /// Decodes a body and hands its events on; the answer comes when they are stored.
    pub(super) async fn take(&self, signal: Signal, encoding: Encoding, body: bytes::Bytes) -> Result<Partial, Refusal> {
        let now = self.clock.now();
        let bytes = body.len() as u64;
        let (converted, batch) = self.decode(signal, encoding, body, now).await?;
        let accepted = converted.events.len() as u64;
        let partial = Partial { rejected: converted.rejected, reason: converted.reason };
        if !converted.events.is_empty() {
            let wait = Duration::from_secs(self.settings.store_timeout_s.max(1));
            match tokio::time::timeout(wait, self.sink.accept(converted.events)).await {
                Ok(Ok(())) => {}
                Ok(Err(SinkError::Busy)) | Err(_) => return Err(Refusal::Busy),
                Ok(Err(SinkError::Unavailable(why))) => return Err(Refusal::Unavailable(why)),
            }
        }
        // Only now: a refused request comes again, and what is added up must be added once.
        self.store_samples(batch, now).await;
        self.metrics.attributes_dropped.inc_by(converted.attributes_dropped);
        self.count(signal, encoding, accepted, partial.rejected, bytes);
        Ok(partial)
    }

    async fn store_samples(&self, batch: Batch, now: Timestamp) {
        let Some(samples) = self.samples.clone() else { return };
        let metrics = self.metrics.clone();
        if batch.points.len() <= INLINE_POINTS_MAX {
            return samples.store(batch, now, &metrics);
        }
        if tokio::task::spawn_blocking(move || samples.store(batch, now, &metrics)).await.is_err() {
            tracing::warn!("samples of OTLP metrics were not stored");
        }
    }

    async fn decode(&self, signal: Signal, encoding: Encoding, body: bytes::Bytes, now: Timestamp) -> Result<(Converted, Batch), Refusal> {
        let bounds = Bounds { now, records_max: self.settings.records_max };
        let samples = self.samples.clone().filter(|_| signal == Signal::Metrics);
        let length = body.len();
        let decode = move || {
            let mut tap = samples.as_ref().map(|samples| samples.tap());
            let converted = decode_beside(signal, encoding, &body, bounds, tap.as_mut())?;
            Ok((converted, tap.map(Tap::finish).unwrap_or_default()))
        };
        let decoded = if length <= INLINE_BYTES_MAX {
            decode()
        } else {
            let work = tokio::task::spawn_blocking(decode);
            work.await.map_err(|_| Refusal::Unavailable("shutting down".to_owned()))?
        };
        decoded.map_err(|error: DecodeError| Refusal::Malformed(error.to_string()))
    }

    fn count(&self, signal: Signal, encoding: Encoding, accepted: u64, rejected: u64, bytes: u64) {
        let labels = Labels { signal: signal.name(), protocol: encoding.name() };
        self.metrics.accepted.get_or_create(&labels).inc_by(accepted);
        self.metrics.rejected.get_or_create(&labels).inc_by(rejected);
        self.metrics.bytes.get_or_create(&labels).inc_by(bytes);
    }

    /// Counts an answer.
    pub(super) fn answered(&self, signal: Signal, encoding: Encoding, answer: &Result<Partial, Refusal>, started: tokio::time::Instant) {
        let (signal, protocol) = (signal.name(), encoding.name());
        let answer = match answer {
            Ok(Partial { rejected: 0, .. }) => "accepted",
            Ok(_) => "partial",
            Err(refusal) => refusal.label(),
        };
        self.metrics.requests.get_or_create(&AnswerLabels { signal, protocol, answer }).inc();
        self.metrics.seconds.get_or_create(&Labels { signal, protocol }).observe(started.elapsed().as_secs_f64());
    }
}
