//! Numbers of calls that no event tells: counts, bytes, waits, and the provider's limits as they were last told.
//!
//! A call takes two short locks and no new memory, unless its model or its key is seen for the first time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use paramedic_model::limit::ID_BYTES_MAX;
use paramedic_model::text::head;
use paramedic_model::{Timestamp, secret, switch};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::answer::{Bucket, BucketName, Limits};
use crate::call::{Kind, Outcome, Record};

/// Keys whose limits are shown; the one that was told of longest ago gives way.
const KEYS_MAX: usize = 200;
/// Models with a histogram of their own; further ones are `other`.
const MODELS_MAX: usize = 50;
const OTHER: &str = "other";

const KINDS: [(Kind, &str); 3] = [(Kind::Inference, "inference"), (Kind::CountTokens, "count-tokens"), (Kind::Other, "other")];
const OUTCOMES: [(Outcome, &str); 8] = [
    (Outcome::Answered, "answered"),
    (Outcome::Cut, "cut"),
    (Outcome::ClientGone, "client-gone"),
    (Outcome::TimedOut, "timed-out"),
    (Outcome::Unreachable, "unreachable"),
    (Outcome::Refused, "refused"),
    (Outcome::BrokenOff, "broken-off"),
    (Outcome::Degraded, "degraded"),
];
const STATUSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
const CELLS: usize = KINDS.len() * OUTCOMES.len() * STATUSES.len();

/// The limits that are shown.
const BUCKETS: [(BucketName, &str); 4] = [
    (BucketName::Requests, "requests"),
    (BucketName::Tokens, "tokens"),
    (BucketName::InputTokens, "input_tokens"),
    (BucketName::OutputTokens, "output_tokens"),
];
/// Upper bounds in seconds, of the first byte and of the first token.
const FIRST_S: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0];

/// Counts of the gateway's calls. Cheap to clone, all clones count together.
#[derive(Clone, Default)]
pub struct Samples(Arc<Counts>);

struct Counts {
    calls: [AtomicU64; CELLS],
    tries: AtomicU64,
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
    in_flight: AtomicI64,
    queued: AtomicI64,
    first_byte: Histogram,
    first_token: Mutex<BTreeMap<Box<str>, Histogram>>,
    /// Refusals, and changes to calls that were passed on, by the switch's name.
    refused: Mutex<BTreeMap<&'static str, u64>>,
    acted: Mutex<BTreeMap<&'static str, u64>>,
    limits: Mutex<BTreeMap<Box<str>, KeyLimits>>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            calls: [const { AtomicU64::new(0) }; CELLS],
            tries: AtomicU64::new(0),
            request_bytes: AtomicU64::new(0),
            response_bytes: AtomicU64::new(0),
            in_flight: AtomicI64::new(0),
            queued: AtomicI64::new(0),
            first_byte: Histogram::new(FIRST_S),
            first_token: Mutex::default(),
            refused: Mutex::default(),
            acted: Mutex::default(),
            limits: Mutex::default(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct KeyLimits {
    told_at: Timestamp,
    buckets: [Option<Bucket>; BUCKETS.len()],
}

/// Counts one more as long as it lives.
#[derive(Debug)]
pub struct Held {
    counts: Arc<Counts>,
    gauge: fn(&Counts) -> &AtomicI64,
}

impl Drop for Held {
    fn drop(&mut self) {
        (self.gauge)(&self.counts).fetch_sub(1, Ordering::Relaxed);
    }
}

impl Samples {
    /// A call that ended.
    pub fn ended(&self, record: &Record) {
        let counts = &*self.0;
        let add = |counter: &AtomicU64, by: u64| _ = counter.fetch_add(by, Ordering::Relaxed);
        if let Some(cell) = cell(record).and_then(|cell| counts.calls.get(cell)) {
            add(cell, 1);
        }
        add(&counts.tries, u64::from(record.tries));
        add(&counts.request_bytes, record.request_bytes);
        add(&counts.response_bytes, record.response_bytes);
        if record.kind == Kind::Inference {
            if let Some(waited) = record.first_byte {
                counts.first_byte.observe(waited.as_secs_f64());
            }
            if let Some(waited) = record.first_token {
                let model = record.served_model.as_ref().or(record.model.as_ref());
                counts.first_token(model.map_or(OTHER, |model| model), waited.as_secs_f64());
            }
        }
        let refused = matches!(record.outcome, Outcome::Refused | Outcome::BrokenOff);
        if refused && record.acted.is_empty() {
            *lock(&counts.refused).entry("none").or_default() += 1;
        }
        for (i, acted) in record.acted.iter().enumerate() {
            let refuses = refused && i + 1 == record.acted.len();
            let by_name = if refuses { &counts.refused } else { &counts.acted };
            *lock(by_name).entry(switch_name(&acted.switch)).or_default() += 1;
        }
    }

    /// The provider's limits, as an answer to this key told them.
    pub fn limits(&self, key: Option<&str>, limits: &Limits) {
        if limits.buckets.is_empty() {
            return;
        }
        let key = head(key.unwrap_or("none"), ID_BYTES_MAX);
        let mut known = lock(&self.0.limits);
        let entry = match known.get_mut(key) {
            Some(entry) => entry,
            None => {
                if known.len() >= KEYS_MAX
                    && let Some(oldest) = known.iter().min_by_key(|(_, entry)| entry.told_at).map(|(key, _)| key.clone())
                {
                    known.remove(&oldest);
                }
                known.entry(key.into()).or_insert(KeyLimits { told_at: limits.at, buckets: [None; BUCKETS.len()] })
            }
        };
        entry.told_at = entry.told_at.max(limits.at);
        for bucket in &limits.buckets {
            if let Some(i) = BUCKETS.iter().position(|(name, _)| *name == bucket.name) {
                entry.buckets[i] = Some(*bucket);
            }
        }
    }

    /// A call that runs, until the value is dropped.
    #[must_use]
    pub fn in_flight(&self) -> Held {
        self.hold(|counts| &counts.in_flight)
    }

    /// A call that waits for a limit, until the value is dropped.
    #[must_use]
    pub fn queued(&self) -> Held {
        self.hold(|counts| &counts.queued)
    }

    fn hold(&self, gauge: fn(&Counts) -> &AtomicI64) -> Held {
        gauge(&self.0).fetch_add(1, Ordering::Relaxed);
        Held { counts: Arc::clone(&self.0), gauge }
    }

    /// Shows all of it on `/metrics`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }
}

impl Counts {
    fn first_token(&self, model: &str, seconds: f64) {
        let mut by_model = lock(&self.first_token);
        let model = head(model, ID_BYTES_MAX);
        if let Some(histogram) = by_model.get(model) {
            return histogram.observe(seconds);
        }
        let model = if by_model.len() < MODELS_MAX { secret::mask(model) } else { OTHER.into() };
        by_model.entry(model.as_ref().into()).or_insert_with(|| Histogram::new(FIRST_S)).observe(seconds);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cell(record: &Record) -> Option<usize> {
    let kind = KINDS.iter().position(|(kind, _)| *kind == record.kind)?;
    let outcome = OUTCOMES.iter().position(|(outcome, _)| *outcome == record.outcome)?;
    let status = usize::from(record.status / 100);
    let status = if status < STATUSES.len() { status } else { 0 };
    Some((kind * OUTCOMES.len() + outcome) * STATUSES.len() + status)
}

/// `blocked_user:ana@all` is `blocked_user`: a label must not name whom it is for.
fn switch_name(id: &str) -> &'static str {
    let name = id.split_once('@').map_or(id, |(name, _)| name);
    switch::find(name).map_or(OTHER, |known| known.name.trim_end_matches(':'))
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counts")
    }
}

impl fmt::Debug for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Samples")
    }
}

impl Collector for Samples {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.encode_calls(&mut encoder)?;
        self.0.encode_totals(&mut encoder)?;
        self.0.encode_switches(&mut encoder)?;
        self.0.encode_waits(&mut encoder)?;
        self.0.encode_limits(&mut encoder)
    }
}

impl Counts {
    fn encode_calls(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Calls that ended, by kind, outcome and class of status";
        let mut metric = encoder.encode_descriptor("paramedic_gateway_calls", help, None, MetricType::Counter)?;
        for (i, count) in self.calls.iter().enumerate() {
            let count = count.load(Ordering::Relaxed);
            if count == 0 {
                continue;
            }
            let (rest, status) = (i / STATUSES.len(), i % STATUSES.len());
            let (kind, outcome) = (KINDS[rest / OUTCOMES.len()].1, OUTCOMES[rest % OUTCOMES.len()].1);
            let labels = [("kind", kind), ("outcome", outcome), ("status", STATUSES[status])];
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&count, None)?;
        }
        Ok(())
    }

    fn encode_totals(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, counter) in [
            ("paramedic_gateway_upstream_tries", "Times that an upstream was asked", &self.tries),
            ("paramedic_gateway_request_bytes", "Bytes of requests", &self.request_bytes),
            ("paramedic_gateway_response_bytes", "Bytes of answers", &self.response_bytes),
        ] {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            metric.encode_counter::<NoLabelSet, u64, f64>(&counter.load(Ordering::Relaxed), None)?;
        }
        for (name, help, gauge) in [
            ("paramedic_gateway_calls_in_flight", "Calls that run now", &self.in_flight),
            ("paramedic_gateway_calls_queued", "Calls that wait for a limit now", &self.queued),
        ] {
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&gauge.load(Ordering::Relaxed))?;
        }
        Ok(())
    }

    fn encode_switches(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, by_name) in [
            (
                "paramedic_gateway_refused",
                "Calls that were refused or broken off, by the switch's name; none: by the settings",
                &self.refused,
            ),
            ("paramedic_gateway_changed", "Times that a switch changed or delayed a call, by the switch's name", &self.acted),
        ] {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (switch, count) in lock(by_name).iter() {
                metric.encode_family(&[("switch", *switch)])?.encode_counter::<NoLabelSet, u64, f64>(count, None)?;
            }
        }
        Ok(())
    }

    fn encode_waits(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Time from a call to the first byte of its answer, our own waiting included";
        let metric = encoder.encode_descriptor("agent_gateway_ttfb_seconds", help, None, MetricType::Histogram)?;
        self.first_byte.encode(metric)?;
        let help = "Time from a call to the first token of its answer, by the model that answered";
        let mut metric = encoder.encode_descriptor("agent_gateway_first_token_seconds", help, None, MetricType::Histogram)?;
        for (model, histogram) in lock(&self.first_token).iter() {
            histogram.encode(metric.encode_family(&[("model", &**model)])?)?;
        }
        Ok(())
    }

    fn encode_limits(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let known = lock(&self.limits);
        for (i, (_, name)) in BUCKETS.iter().enumerate() {
            let field = |encoder: &mut DescriptorEncoder<'_>, field: &str, help: &str, of: fn(&Bucket) -> Option<f64>| {
                let name = format!("anthropic_ratelimit_{name}_{field}");
                let mut metric = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
                for (key, entry) in known.iter() {
                    if let Some(value) = entry.buckets[i].as_ref().and_then(of) {
                        metric.encode_family(&[("key", &**key)])?.encode_gauge(&value)?;
                    }
                }
                fmt::Result::Ok(())
            };
            field(encoder, "limit", "The provider's limit, by key, as it was last told", |bucket| bucket.limit.map(|n| n as f64))?;
            field(encoder, "remaining", "What remained of it when it was last told", |bucket| bucket.remaining.map(|n| n as f64))?;
            let reset = |bucket: &Bucket| bucket.resets_at.map(|at| at.as_micros() as f64 / 1e6);
            field(encoder, "reset_timestamp_seconds", "When all of it is there again, in Unix seconds", reset)?;
        }
        Ok(())
    }
}
