//! Settings of the OTLP receivers.

use serde::Deserialize;

use super::naming::Translation;

/// Bounds of the OTLP receivers; the same for gRPC and HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Largest request body as sent, compressed or not, in bytes. Default 16 MiB.
    pub body_bytes_max: usize,
    /// Largest request body after decompression, in bytes. Default 64 MiB.
    pub decoded_bytes_max: usize,
    /// Records, data points or spans taken from one request; the rest is rejected in the answer. Default 100,000.
    pub records_max: usize,
    /// Requests handled at the same time; a further one is told to come back later. Default 32.
    pub requests_max: usize,
    /// Seconds that a sender may take to send a body. Default 30.
    pub body_timeout_s: u64,
    /// Seconds to wait for the store to take a batch before the sender is told to come back later. Default 10.
    pub store_timeout_s: u64,
    /// Seconds after which a refused sender shall try again (`Retry-After`). Default 2.
    pub retry_after_s: u64,
    /// How metrics become samples.
    pub samples: SampleSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            body_bytes_max: 16 * 1024 * 1024,
            decoded_bytes_max: paramedic_model::limit::BODY_BYTES_MAX,
            records_max: 100_000,
            requests_max: 32,
            body_timeout_s: 30,
            store_timeout_s: 10,
            retry_after_s: 2,
            samples: SampleSettings::default(),
        }
    }
}

/// How OTLP metrics become samples.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SampleSettings {
    /// How names are translated, in Prometheus's words: `UnderscoreEscapingWithSuffixes`,
    /// `UnderscoreEscapingWithoutSuffixes`, `NoUTF8EscapingWithSuffixes`, `NoTranslation`. Default the first.
    pub translation: Translation,
    /// Attributes of resources that become labels of every sample; all of them are in `target_info`. Default none.
    pub promote_resource_attributes: Vec<String>,
    /// Name, version and attributes of the instrumentation scope become labels `otel_scope_*`. Default false.
    pub promote_scope: bool,
    /// A series `target_info` per resource says what the resource says about itself. Default true.
    pub target_info: bool,
    /// Series whose differences (delta) are added up at a time; further ones are dropped and counted. Default 200,000.
    pub delta_series_max: usize,
    /// Seconds after which a total that nothing is added to is forgotten; it begins at 0 again. Default 3,600.
    pub delta_idle_s: u64,
    /// A total begins with a sample of 0 at the start of its first difference, so that this one counts as an increase.
    /// Default true.
    pub delta_begins_at_zero: bool,
}

impl Default for SampleSettings {
    fn default() -> Self {
        Self {
            translation: Translation::default(),
            promote_resource_attributes: Vec::new(),
            promote_scope: false,
            target_info: true,
            delta_series_max: 200_000,
            delta_idle_s: 3_600,
            delta_begins_at_zero: true,
        }
    }
}
