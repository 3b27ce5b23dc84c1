//! The API over a real socket, on a made-up fleet.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

mod client;
mod meters;
mod responders;
mod stage;

mod operations;

mod gateway;

mod live;

mod refusals;

mod health;

mod prometheus;

mod runs;

mod response;

use std::sync::Arc;

use client::Server;
use stage::Stage;

/// A server on the made-up fleet.
async fn served() -> (Stage, Server) {
    let stage = Stage::with_fleet().await;
    let server = Server::start(paramedic_api::router(Arc::clone(&stage.context))).await;
    (stage, server)
}
