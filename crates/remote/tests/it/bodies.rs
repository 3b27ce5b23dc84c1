//! The messages as another implementation writes them, and what tests share.

use std::sync::Arc;

use paramedic_model::{ManualClock, Timestamp};
use paramedic_promql::Matcher;
use paramedic_remote::metrics::ReceiveMetrics;
use paramedic_remote::{Answer, Headers, ReceiveSettings, Receiver};
use paramedic_samples::{Samples, Settings};

pub const START: i64 = 1_768_348_800_000;

pub mod v1 {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct WriteRequest {
        #[prost(message, repeated, tag = "1")]
        pub timeseries: Vec<TimeSeries>,
        #[prost(message, repeated, tag = "3")]
        pub metadata: Vec<Metadata>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Metadata {
        #[prost(int32, tag = "1")]
        pub kind: i32,
        #[prost(string, tag = "2")]
        pub metric: String,
        #[prost(string, tag = "4")]
        pub help: String,
        #[prost(string, tag = "5")]
        pub unit: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct TimeSeries {
        #[prost(message, repeated, tag = "1")]
        pub labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        pub samples: Vec<Sample>,
        #[prost(message, repeated, tag = "3")]
        pub exemplars: Vec<Sample>,
        #[prost(message, repeated, tag = "4")]
        pub histograms: Vec<Histogram>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Label {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "2")]
        pub value: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Sample {
        #[prost(double, tag = "1")]
        pub value: f64,
        #[prost(int64, tag = "2")]
        pub timestamp: i64,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Span {
        #[prost(sint32, tag = "1")]
        pub offset: i32,
        #[prost(uint32, tag = "2")]
        pub length: u32,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Histogram {
        #[prost(uint64, optional, tag = "1")]
        pub count_int: Option<u64>,
        #[prost(double, optional, tag = "2")]
        pub count_float: Option<f64>,
        #[prost(double, tag = "3")]
        pub sum: f64,
        #[prost(sint32, tag = "4")]
        pub schema: i32,
        #[prost(double, tag = "5")]
        pub zero_threshold: f64,
        #[prost(uint64, optional, tag = "6")]
        pub zero_count_int: Option<u64>,
        #[prost(double, optional, tag = "7")]
        pub zero_count_float: Option<f64>,
        #[prost(message, repeated, tag = "8")]
        pub negative_spans: Vec<Span>,
        #[prost(sint64, repeated, tag = "9")]
        pub negative_deltas: Vec<i64>,
        #[prost(double, repeated, tag = "10")]
        pub negative_counts: Vec<f64>,
        #[prost(message, repeated, tag = "11")]
        pub positive_spans: Vec<Span>,
        #[prost(sint64, repeated, tag = "12")]
        pub positive_deltas: Vec<i64>,
        #[prost(double, repeated, tag = "13")]
        pub positive_counts: Vec<f64>,
        #[prost(int32, tag = "14")]
        pub reset_hint: i32,
        #[prost(int64, tag = "15")]
        pub timestamp: i64,
        #[prost(double, repeated, tag = "16")]
        pub custom_values: Vec<f64>,
    }
}

pub mod v2 {
    use super::v1::{Histogram, Sample};

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Request {
        #[prost(string, repeated, tag = "4")]
        pub symbols: Vec<String>,
        #[prost(message, repeated, tag = "5")]
        pub timeseries: Vec<TimeSeries>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct TimeSeries {
        #[prost(uint32, repeated, tag = "1")]
        pub labels_refs: Vec<u32>,
        #[prost(message, repeated, tag = "2")]
        pub samples: Vec<Sample>,
        #[prost(message, repeated, tag = "3")]
        pub histograms: Vec<Histogram>,
        #[prost(message, repeated, tag = "4")]
        pub exemplars: Vec<Exemplar>,
        #[prost(message, optional, tag = "5")]
        pub metadata: Option<Metadata>,
        #[prost(int64, tag = "6")]
        pub created_timestamp: i64,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Exemplar {
        #[prost(uint32, repeated, tag = "1")]
        pub labels_refs: Vec<u32>,
        #[prost(double, tag = "2")]
        pub value: f64,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Metadata {
        #[prost(int32, tag = "1")]
        pub kind: i32,
        #[prost(uint32, tag = "3")]
        pub help_ref: u32,
        #[prost(uint32, tag = "4")]
        pub unit_ref: u32,
    }
}

pub fn snappy(message: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(message).unwrap()
}

pub fn body(message: &impl prost::Message) -> Vec<u8> {
    snappy(&message.encode_to_vec())
}

/// A series of 1.0 with floats.
pub fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> v1::TimeSeries {
    v1::TimeSeries {
        labels: labels.iter().map(|(name, value)| v1::Label { name: (*name).into(), value: (*value).into() }).collect(),
        samples: samples.iter().map(|(timestamp, value)| v1::Sample { value: *value, timestamp: *timestamp }).collect(),
        ..v1::TimeSeries::default()
    }
}

pub fn request(timeseries: Vec<v1::TimeSeries>) -> Vec<u8> {
    body(&v1::WriteRequest { timeseries, metadata: Vec::new() })
}

pub const V1: Headers<'static> = Headers { content_type: Some("application/x-protobuf"), content_encoding: Some("snappy") };
pub const V2: Headers<'static> =
    Headers { content_type: Some("application/x-protobuf;proto=io.prometheus.write.v2.Request"), content_encoding: Some("snappy") };

/// A store in a folder of its own, and a receiver in front of it.
pub struct Bench {
    pub receiver: Receiver,
    pub samples: Arc<Samples>,
    pub clock: Arc<ManualClock>,
    _dir: tempfile::TempDir,
}

impl Bench {
    pub fn new(settings: ReceiveSettings, store: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(START)));
        let store = Settings { upkeep_interval_s: 0, ..store };
        let samples = Arc::new(Samples::open(dir.path(), store, clock.clone()).unwrap());
        let receiver = Receiver::new(settings, Arc::clone(&samples), None, ReceiveMetrics::default());
        Self { receiver, samples, clock, _dir: dir }
    }

    pub fn usual() -> Self {
        Self::new(ReceiveSettings::default(), Settings::default())
    }

    pub fn send(&self, headers: Headers<'_>, body: &[u8]) -> Answer {
        self.receiver.handle(headers, body)
    }

    /// Everything in the store: labels, then times with the bits of floats.
    pub fn floats(&self) -> Vec<(String, Vec<(i64, u64)>)> {
        floats(&self.samples)
    }
}

pub fn floats(samples: &Samples) -> Vec<(String, Vec<(i64, u64)>)> {
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
pub fn written(answer: &Answer) -> (u64, u64) {
    let number = |name: &str| answer.header(name).map_or(0, |text| text.parse().unwrap());
    (number("x-prometheus-remote-write-samples-written"), number("x-prometheus-remote-write-histograms-written"))
}
