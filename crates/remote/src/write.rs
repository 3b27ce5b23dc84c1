//! Receiving remote_write, 1.0 and 2.0.
//!
//! A body is decompressed, read and appended in one go on the calling thread; what is bad in it is refused and named, the
//! rest is stored. Statuses are those a sender acts on: 204 stored; 400 partly or wholly refused, do not send again; 413
//! and 415 likewise; 503 come back later (with `Retry-After`).

mod apply;
pub(crate) mod decode;
pub(crate) mod histogram;
mod refs;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use paramedic_model::{secret, text};
use paramedic_samples::{SampleSink, Samples};

use crate::config::ReceiveSettings;
use crate::error::Malformed;
use crate::metrics::{ByStatus, ReceiveMetrics};
use crate::snappy;

use apply::Outcome;
use decode::{Bounds, Decoded};
use refs::Refs;

/// The two headers that say what a body is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Headers<'a> {
    pub content_type: Option<&'a str>,
    pub content_encoding: Option<&'a str>,
}

/// What the sender is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    /// Plain text, empty when all went well.
    pub body: String,
}

impl Answer {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.0.eq_ignore_ascii_case(name)).map(|header| &*header.1)
    }
}

/// Which of the two messages a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    V1,
    V2,
}

/// Bytes of an answer's text.
const TEXT_BYTES_MAX: usize = 1_000;
/// Buffers of decompressed bodies that are kept for the next request.
const BUFFERS_MAX: usize = 4;
/// A buffer that grew beyond this is not kept.
const BUFFER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Takes bodies of remote_write into the store. Share it in an `Arc`.
pub struct Receiver {
    settings: ReceiveSettings,
    samples: Arc<Samples>,
    /// Gets everything that was stored, for example a queue to another store.
    tap: Option<Arc<dyn SampleSink>>,
    metrics: ReceiveMetrics,
    refs: Mutex<Refs>,
    /// Nobody outside can choose labels that hash alike.
    seed: u64,
    requests: AtomicUsize,
    buffers: Mutex<Vec<Vec<u8>>>,
}

/// A request that is being worked on.
struct Ticket<'a>(&'a AtomicUsize);

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Receiver {
    pub fn new(settings: ReceiveSettings, samples: Arc<Samples>, tap: Option<Arc<dyn SampleSink>>, metrics: ReceiveMetrics) -> Self {
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u8);
        let refs = Mutex::new(Refs::new(settings.series_refs_max));
        Self { settings, samples, tap, metrics, refs, seed, requests: AtomicUsize::new(0), buffers: Mutex::new(Vec::new()) }
    }

    #[must_use]
    pub fn settings(&self) -> &ReceiveSettings {
        &self.settings
    }

    #[must_use]
    pub fn metrics(&self) -> &ReceiveMetrics {
        &self.metrics
    }

    /// Takes one body. Blocking, but only for the processor and for a write to the log in the operating system's memory.
    pub fn handle(&self, headers: Headers<'_>, body: &[u8]) -> Answer {
        let begun = Instant::now();
        self.metrics.body_bytes.inc_by(body.len() as u64);
        let answer = self.take(headers, body);
        self.metrics.request_seconds.observe(begun.elapsed().as_secs_f64());
        self.metrics.requests.get_or_create(&ByStatus { status: answer.status }).inc();
        answer
    }

    fn take(&self, headers: Headers<'_>, body: &[u8]) -> Answer {
        let message = match message_of(headers) {
            Ok(message) => message,
            Err(why) => return self.refuse(415, why),
        };
        if body.len() > self.settings.body_bytes_max {
            return self.refuse(413, &format!("the body has {} bytes, allowed are {}", body.len(), self.settings.body_bytes_max));
        }
        if self.requests.fetch_add(1, Ordering::AcqRel) >= self.settings.requests_max {
            self.requests.fetch_sub(1, Ordering::AcqRel);
            return self.refuse(503, "too many requests at a time");
        }
        let _ticket = Ticket(&self.requests);
        let mut buffer = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        let answer = match self.store(message, body, &mut buffer) {
            Ok(outcome) => self.tell(&outcome),
            Err(err) => {
                let too_much = matches!(err, Malformed::TooLarge { .. } | Malformed::TooMany { .. });
                self.refuse(if too_much { 413 } else { 400 }, &format!("failed to read the body: {err}"))
            }
        };
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < BUFFERS_MAX && buffer.len() <= BUFFER_BYTES_MAX {
            buffers.push(buffer);
        }
        answer
    }

    fn store(&self, message: Message, body: &[u8], buffer: &mut Vec<u8>) -> Result<Outcome, Malformed> {
        let length = snappy::decompress_into(body, self.settings.decompressed_bytes_max, buffer)?;
        let bytes = &buffer[..length];
        let bounds = Bounds {
            series: self.settings.series_per_request_max,
            samples: self.settings.samples_per_request_max,
            histogram_buckets: self.samples.settings().histogram_buckets_max,
        };
        let decoded = match message {
            Message::V1 => Decoded::v1(bytes, bounds, self.seed)?,
            Message::V2 => Decoded::v2(bytes, bounds, self.seed)?,
        };
        Ok(self.apply(&decoded))
    }

    fn tell(&self, outcome: &Outcome) -> Answer {
        self.metrics.samples.inc_by(outcome.floats);
        self.metrics.histograms.inc_by(outcome.histograms);
        self.metrics.ignored_exemplars.inc_by(outcome.exemplars);
        let mut answer = if let Some(failure) = &outcome.failure {
            self.refuse(503, failure)
        } else if outcome.refused() > 0 {
            self.refuse(400, &outcome.text())
        } else {
            Answer { status: 204, headers: Vec::new(), body: String::new() }
        };
        answer.headers.extend([
            ("X-Prometheus-Remote-Write-Samples-Written", outcome.floats.to_string()),
            ("X-Prometheus-Remote-Write-Histograms-Written", outcome.histograms.to_string()),
            ("X-Prometheus-Remote-Write-Exemplars-Written", "0".to_owned()),
        ]);
        answer
    }

    fn refuse(&self, status: u16, why: &str) -> Answer {
        let mut headers = vec![("Content-Type", "text/plain; charset=utf-8".to_owned())];
        if status == 503 {
            headers.push(("Retry-After", self.settings.retry_after_s.to_string()));
        }
        let why = secret::mask(why);
        Answer { status, headers, body: text::capped(&text::one_line(&why), TEXT_BYTES_MAX).into_owned() }
    }
}

/// What the headers announce. Old senders leave out either header.
fn message_of(headers: Headers<'_>) -> Result<Message, &'static str> {
    let encoding = headers.content_encoding.unwrap_or("").trim();
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("snappy") {
        return Err("the body must be compressed with snappy (block format)");
    }
    let mut parts = headers.content_type.unwrap_or("").split(';').map(str::trim);
    let media = parts.next().unwrap_or("");
    if !media.is_empty() && !media.eq_ignore_ascii_case("application/x-protobuf") {
        return Err("the content type must be application/x-protobuf");
    }
    let proto = parts.find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim().eq_ignore_ascii_case("proto").then(|| value.trim().trim_matches('"'))
    });
    match proto {
        None | Some("prometheus.WriteRequest") => Ok(Message::V1),
        Some("io.prometheus.write.v2.Request") => Ok(Message::V2),
        Some(_) => Err("proto must be prometheus.WriteRequest or io.prometheus.write.v2.Request"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_name_the_message() {
        let v1 = Ok(Message::V1);
        let v2 = Ok(Message::V2);
        for (content_type, encoding, expect) in [
            (None, None, v1),
            (Some("application/x-protobuf"), Some("snappy"), v1),
            (Some("application/x-protobuf;proto=prometheus.WriteRequest"), Some("snappy"), v1),
            (Some("application/x-protobuf; proto=io.prometheus.write.v2.Request"), Some("Snappy"), v2),
            (Some("application/x-protobuf; charset=x; PROTO=\"io.prometheus.write.v2.Request\""), None, v2),
        ] {
            assert_eq!(message_of(Headers { content_type, content_encoding: encoding }), expect, "{content_type:?}");
        }
        for (content_type, encoding) in [
            (Some("application/json"), None),
            (Some("application/x-protobuf;proto=io.prometheus.write.v3.Request"), None),
            (Some("application/x-protobuf"), Some("zstd")),
            (None, Some("gzip")),
        ] {
            assert!(message_of(Headers { content_type, content_encoding: encoding }).is_err(), "{content_type:?} {encoding:?}");
        }
    }
}
