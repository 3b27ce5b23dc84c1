//! What an operator may set.

use serde::Deserialize;

/// Bounds of the remote_write receiver.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReceiveSettings {
    /// Bytes that a compressed body may have. Default 16 MiB.
    pub body_bytes_max: usize,
    /// Bytes that a body may grow to when it is decompressed. Default 64 MiB.
    pub decompressed_bytes_max: usize,
    /// Samples (floats and native histograms) in one request. Default 200,000.
    pub samples_per_request_max: usize,
    /// Series in one request. Default 200,000.
    pub series_per_request_max: usize,
    /// Requests that are worked on at a time; others are told to come back. Default 16.
    pub requests_max: usize,
    /// Seconds after which a sender is told to come back when the receiver is busy or the store cannot write. Default 1.
    pub retry_after_s: u64,
    /// Series whose labels are recognised by their bytes, without looking at them again; about 80 bytes each. Default 1,000,000.
    pub series_refs_max: usize,
    /// Whether a counter's created timestamp becomes a sample with the value zero (2.0 only). Default no.
    pub created_zeros: bool,
}

impl Default for ReceiveSettings {
    fn default() -> Self {
        Self {
            body_bytes_max: 16 * 1024 * 1024,
            decompressed_bytes_max: 64 * 1024 * 1024,
            samples_per_request_max: 200_000,
            series_per_request_max: 200_000,
            requests_max: 16,
            retry_after_s: 1,
            series_refs_max: 1_000_000,
            created_zeros: false,
        }
    }
}

/// How another store is reached.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// Where it is, for example `http://127.0.0.1:9090`. No default.
    pub url: String,
    /// User name of basic authentication. Default none.
    pub user: Option<String>,
    /// File whose first line is the password of basic authentication, read for every request. Default none.
    pub password_file: Option<std::path::PathBuf>,
    /// File whose first line is a bearer token, read for every request. Default none.
    pub token_file: Option<std::path::PathBuf>,
    /// More headers, for example `X-Scope-OrgID`. Default none.
    pub headers: std::collections::BTreeMap<String, String>,
}

impl std::fmt::Debug for StoreSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.headers.keys().collect();
        f.debug_struct("StoreSettings")
            .field("url", &paramedic_model::secret::mask(&self.url))
            .field("user", &self.user)
            .field("password_file", &self.password_file)
            .field("token_file", &self.token_file)
            .field("headers", &names)
            .finish()
    }
}

/// Which remote_write a store is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Protocol {
    /// `prometheus.WriteRequest`, which every store knows.
    #[default]
    #[serde(rename = "1.0")]
    V1,
    /// `io.prometheus.write.v2.Request`.
    #[serde(rename = "2.0")]
    V2,
}

/// Forwarding of samples to another store.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ForwardSettings {
    /// The store; `url` is the whole address of its receiver, for example `http://127.0.0.1:9090/api/v1/write`.
    pub store: StoreSettings,
    /// `"1.0"` or `"2.0"`. Default `"1.0"`.
    pub protocol: Protocol,
    /// Samples in one request. Default 5,000.
    pub samples_per_request_max: usize,
    /// Milliseconds that a sample waits for others to fill a request. Default 1,000.
    pub batch_wait_ms: u64,
    /// Seconds that one request may take. Default 30.
    pub timeout_s: u64,
    /// Milliseconds before the first retry; doubles with each one. Default 100.
    pub retry_first_ms: u64,
    /// Milliseconds between retries at most, also when the store asks for more time. Default 30,000.
    pub retry_max_ms: u64,
    /// Bytes of samples that wait on the disk at most; the oldest are dropped (and counted) first. Default 2 GiB.
    pub spool_bytes_max: u64,
    /// Bytes of one spool file. Default 16 MiB.
    pub spool_file_bytes_max: u64,
    /// Whether type, help and unit of metrics are forwarded. Default yes.
    pub metadata: bool,
}

impl Default for ForwardSettings {
    fn default() -> Self {
        Self {
            store: StoreSettings::default(),
            protocol: Protocol::V1,
            samples_per_request_max: 5_000,
            batch_wait_ms: 1_000,
            timeout_s: 30,
            retry_first_ms: 100,
            retry_max_ms: 30_000,
            spool_bytes_max: 2 * 1024 * 1024 * 1024,
            spool_file_bytes_max: 16 * 1024 * 1024,
            metadata: true,
        }
    }
}

/// Bounds of remote read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadSettings {
    /// Bytes that a request may grow to when it is decompressed. Default 1 MiB.
    pub request_bytes_max: usize,
    /// Queries in one request. Default 100.
    pub queries_max: usize,
    /// Samples in one answer. Default 5,000,000.
    pub samples_max: usize,
    /// Bytes of one answer before it is compressed. Default 256 MiB.
    pub answer_bytes_max: usize,
    /// Requests that are answered at a time; others wait for their turn. Default 2.
    pub requests_max: usize,
}

impl Default for ReadSettings {
    fn default() -> Self {
        Self {
            request_bytes_max: 1024 * 1024,
            queries_max: 100,
            samples_max: 5_000_000,
            answer_bytes_max: 256 * 1024 * 1024,
            requests_max: 2,
        }
    }
}

/// Queries to another store.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuerySettings {
    /// The store; `url` is what comes before `/api/v1/query`, for example `http://127.0.0.1:9090`.
    pub store: StoreSettings,
    /// Seconds that a query may take. Default 30.
    pub timeout_s: u64,
    /// Bytes of an answer. Default 64 MiB.
    pub answer_bytes_max: usize,
}

impl Default for QuerySettings {
    fn default() -> Self {
        Self { store: StoreSettings::default(), timeout_s: 30, answer_bytes_max: 64 * 1024 * 1024 }
    }
}
