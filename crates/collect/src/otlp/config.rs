//! Settings of the OTLP receivers.

use serde::Deserialize;

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
        }
    }
}
