//! The messages as another implementation writes them, and what tests share.

use std::sync::Arc;

use paramedic_model::{ManualClock, Timestamp};
use paramedic_promql::Matcher;
use paramedic_remote::metrics::ReceiveMetrics;
use paramedic_remote::{Answer, Headers, ReceiveSettings, Receiver};
use paramedic_samples::{Samples, Settings};

pub(crate) const START: i64 = 1_768_348_800_000;

pub(crate) mod v1 {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct WriteRequest {
        #[prost(message, repeated, tag = "1")]
        pub(crate) timeseries: Vec<TimeSeries>,
        #[prost(message, repeated, tag = "3")]
        pub(crate) metadata: Vec<Metadata>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Metadata {
        #[prost(int32, tag = "1")]
        pub(crate) kind: i32,
        #[prost(string, tag = "2")]
        pub(crate) metric: String,
        #[prost(string, tag = "4")]
        pub(crate) help: String,
        #[prost(string, tag = "5")]
        pub(crate) unit: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct TimeSeries {
        #[prost(message, repeated, tag = "1")]
        pub(crate) labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        pub(crate) samples: Vec<Sample>,
        #[prost(message, repeated, tag = "3")]
        pub(crate) exemplars: Vec<Sample>,
        #[prost(message, repeated, tag = "4")]
        pub(crate) histograms: Vec<Histogram>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Label {
        #[prost(string, tag = "1")]
        pub(crate) name: String,
        #[prost(string, tag = "2")]
        pub(crate) value: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Sample {
        #[prost(double, tag = "1")]
        pub(crate) value: f64,
        #[prost(int64, tag = "2")]
        pub(crate) timestamp: i64,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Span {
        #[prost(sint32, tag = "1")]
        pub(crate) offset: i32,
        #[prost(uint32, tag = "2")]
        pub(crate) length: u32,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Histogram {
        #[prost(uint64, optional, tag = "1")]
        pub(crate) count_int: Option<u64>,
        #[prost(double, optional, tag = "2")]
        pub(crate) count_float: Option<f64>,
        #[prost(double, tag = "3")]
        pub(crate) sum: f64,
        #[prost(sint32, tag = "4")]
        pub(crate) schema: i32,
        #[prost(double, tag = "5")]
        pub(crate) zero_threshold: f64,
        #[prost(uint64, optional, tag = "6")]
        pub(crate) zero_count_int: Option<u64>,
        #[prost(double, optional, tag = "7")]
        pub(crate) zero_count_float: Option<f64>,
        #[prost(message, repeated, tag = "8")]
        pub(crate) negative_spans: Vec<Span>,
        #[prost(sint64, repeated, tag = "9")]
        pub(crate) negative_deltas: Vec<i64>,
        #[prost(double, repeated, tag = "10")]
        pub(crate) negative_counts: Vec<f64>,
        #[prost(message, repeated, tag = "11")]
        pub(crate) positive_spans: Vec<Span>,
        #[prost(sint64, repeated, tag = "12")]
        pub(crate) positive_deltas: Vec<i64>,
        #[prost(double, repeated, tag = "13")]
        pub(crate) positive_counts: Vec<f64>,
        #[prost(int32, tag = "14")]
        pub(crate) reset_hint: i32,
        #[prost(int64, tag = "15")]
        pub(crate) timestamp: i64,
        #[prost(double, repeated, tag = "16")]
        pub(crate) custom_values: Vec<f64>,
    }
}

pub(crate) mod v2 {
    use super::v1::{Histogram, Sample};

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Request {
        #[prost(string, repeated, tag = "4")]
        pub(crate) symbols: Vec<String>,
        #[prost(message, repeated, tag = "5")]
        pub(crate) timeseries: Vec<TimeSeries>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct TimeSeries {
        #[prost(uint32, repeated, tag = "1")]
        pub(crate) labels_refs: Vec<u32>,
        #[prost(message, repeated, tag = "2")]
        pub(crate) samples: Vec<Sample>,
        #[prost(message, repeated, tag = "3")]
        pub(crate) histograms: Vec<Histogram>,
        #[prost(message, repeated, tag = "4")]
        pub(crate) exemplars: Vec<Exemplar>,
        #[prost(message, optional, tag = "5")]
        pub(crate) metadata: Option<Metadata>,
        #[prost(int64, tag = "6")]
        pub(crate) created_timestamp: i64,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Exemplar {
        #[prost(uint32, repeated, tag = "1")]
        pub(crate) labels_refs: Vec<u32>,
        #[prost(double, tag = "2")]
        pub(crate) value: f64,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Metadata {
        #[prost(int32, tag = "1")]
        pub(crate) kind: i32,
        #[prost(uint32, tag = "3")]
        pub(crate) help_ref: u32,
        #[prost(uint32, tag = "4")]
        pub(crate) unit_ref: u32,
    }
}

pub(crate) fn snappy(message: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(message).unwrap()
}

pub(crate) fn body(message: &impl prost::Message) -> Vec<u8> {
    snappy(&message.encode_to_vec())
}

/// A series of 1.0 with floats.
pub(crate) fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> v1::TimeSeries {
    v1::TimeSeries {
        labels: labels.iter().map(|(name, value)| v1::Label { name: (*name).into(), value: (*value).into() }).collect(),
        samples: samples.iter().map(|(timestamp, value)| v1::Sample { value: *value, timestamp: *timestamp }).collect(),
        ..v1::TimeSeries::default()
    }
}

pub(crate) fn request(timeseries: Vec<v1::TimeSeries>) -> Vec<u8> {
    body(&v1::WriteRequest { timeseries, metadata: Vec::new() })
}

pub(crate) const V1: Headers<'static> = Headers { content_type: Some("application/x-protobuf"), content_encoding: Some("snappy") };
pub(crate) const V2: Headers<'static> =
    Headers { content_type: Some("application/x-protobuf;proto=io.prometheus.write.v2.Request"), content_encoding: Some("snappy") };

/// A store in a folder of its own, and a receiver in front of it.
pub(crate) struct Bench {
    pub(crate) receiver: Receiver,
    pub(crate) samples: Arc<Samples>,
    pub(crate) clock: Arc<ManualClock>,
    _dir: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new(settings: ReceiveSettings, store: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(START)));
        let store = Settings { upkeep_interval_s: 0, ..store };
        let samples = Arc::new(Samples::open(dir.path(), store, clock.clone()).unwrap());
        let receiver = Receiver::new(settings, Arc::clone(&samples), None, ReceiveMetrics::default());
        Self { receiver, samples, clock, _dir: dir }
    }

    pub(crate) fn usual() -> Self {
        Self::new(ReceiveSettings::default(), Settings::default())
    }

    pub(crate) fn send(&self, headers: Headers<'_>, body: &[u8]) -> Answer {
        self.receiver.handle(headers, body)
    }

    /// Everything in the store: labels, then times with the bits of floats.
    pub(crate) fn floats(&self) -> Vec<(String, Vec<(i64, u64)>)> {
        floats(&self.samples)
    }
}

pub(crate) fn floats(samples: &Samples) -> Vec<(String, Vec<(i64, u64)>)> {
    let everything = Matcher::regex("__name__", ".+", false).unwrap();
    let mut all: Vec<_> = samples
        .select(&[everything], i64::MIN, i64::MAX)
        .unwrap()
        .into_iter()
        .map(|series| {
            let values = series.samples.values.iter().map(|value| value.to_bits());
            (series.labels.to_string(), series.samples.times.iter().copied().zip(values).collect())
        })
        .collect();
    all.sort();
    all
}

/// Header values of how much was written: floats and histograms.
pub(crate) fn written(answer: &Answer) -> (u64, u64) {
    let number = |name: &str| answer.header(name).map_or(0, |text| text.parse().unwrap());
    (number("x-prometheus-remote-write-samples-written"), number("x-prometheus-remote-write-histograms-written"))
}
