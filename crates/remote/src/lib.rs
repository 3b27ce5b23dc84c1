//! The wire of Prometheus-compatible stores: remote_write in and out, remote read, and the query API of another store.
//!
//! **Takes** bodies of remote_write (1.0 and 2.0) and of remote read, samples that are to be forwarded, and expressions
//! that another engine shall evaluate. **Gives** samples to the store, answers for the wire, requests to an external
//! store, and its answers as [`paramedic_promql::Answer`]. **Never** opens a listening socket, never changes a value
//! (staleness markers keep their bits), never keeps exemplars (they are counted), and never loses a sample that was
//! taken for forwarding without counting it: what is not sent yet is in a spool on the disk.
//!
//! The wire format is decoded by hand ([`mod@write`]): labels stay slices of the decompressed body, and a series that came
//! before is recognised by the bytes of its labels, so that most samples cost neither an allocation nor a comparison of
//! labels.
//!
//! Start reading at [`write::Receiver`], then [`send::Forwarder`], [`read`] and [`engine`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;
pub mod error;
pub mod metrics;

pub mod write;

pub mod send;

pub mod read;

pub mod engine;

pub mod encode;

mod http;
mod snappy;
mod wire;

pub use config::{ForwardSettings, QuerySettings, ReadSettings, ReceiveSettings, StoreSettings};
pub use engine::ExternalEngine;
pub use error::{EngineError, Malformed, RemoteError};
pub use metrics::Metrics;
pub use send::{Forwarder, Queue};
pub use write::{Answer, Headers, Receiver};
