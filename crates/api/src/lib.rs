//! The face for programs: one registry of operations, and the routes that follow from it.
//!
//! **Takes** HTTP requests, WebSocket clients and a [`Context`] of handles to the other stages. **Gives** the JSON API with
//! its OpenAPI document, the live stream, health and metrics, and the same operations as plain functions for the pages.
//! **Never** decides anything about alerts or incidents, and never keeps state that is not derived from the other stages.
//!
//! Beside its own operations it speaks Prometheus's HTTP API ([`prometheus`]), for Grafana and everything else that can.
//!
//! Start reading at [`registry`] (what an operation is), then [`operations`] (which there are), then [`http`] (the routes).

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod registry;

pub mod operations;

pub mod context;

pub mod instruments;

pub mod query;

pub mod rules;

pub mod threshold;

pub mod unit;

pub mod prometheus;

pub mod live;

pub mod health;

pub mod activity;

pub mod error;

mod exposition;

pub mod http;

pub mod guard;

pub mod openapi;

pub mod compat;

pub mod ws;

pub mod metrics;

pub use activity::Activity;
pub use context::{About, Context, DetectorLine, Responding};
pub use error::ApiError;
pub use health::{Health, Phase};
pub use http::router;
pub use instruments::Instruments;
pub use live::Live;
pub use registry::{Caller, Method, Operation, Permission, operations};
