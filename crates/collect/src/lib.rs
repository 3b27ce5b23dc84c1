//! Turns every foreign format into [`Event`](paramedic_model::Event)s and samples.
//!
//! **Takes** what agents leave behind or send: Claude Code transcripts, hooks and `stream-json`, OTLP, log lines,
//! liveness files; and what exporters show when they are asked ([`scrape`]). **Gives** events of the model, with
//! everything the format said kept in attributes, and samples of metrics to a
//! [`SampleSink`](paramedic_samples::SampleSink). **Never**
//! fails on an unknown type or field (it counts and keeps it), never trusts a length, never stores: what it hands
//! over goes through a bounded channel or a [`sink`], so that a slow store slows the reader and not the memory.
//!
//! Start reading at [`transcript`]: one line in, some events out. [`tail`] is the same parser following files that
//! grow. Every other module is one more format in the same shape.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;

pub mod json;

pub mod tool_input;

pub mod api_error;

pub mod transcript;

pub mod tail;

pub mod log_tail;

pub mod liveness;

pub mod hook;

pub mod stream_json;

pub mod log;

pub mod otlp;

pub mod exposition;

pub mod scrape;

pub mod sink;

pub mod metrics;
