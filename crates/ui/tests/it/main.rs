//! The pages over a real socket: what they say, what they refuse, how large and how fast they are.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

#[path = "../../../api/tests/it/client.rs"]
mod client;
#[path = "../../../api/tests/it/meters.rs"]
mod meters;
#[path = "../../../api/tests/it/stage.rs"]
mod stage;

mod pages;

mod metrics;

mod forms;

mod budget;

mod browser;

mod respond;

mod cockpit;

mod traffic;

use std::sync::Arc;

use client::Server;
use stage::Stage;

async fn serve(stage: &Stage) -> Server {
    let context = &stage.context;
    Server::start(paramedic_api::router(Arc::clone(context)).merge(paramedic_ui::router(Arc::clone(context)))).await
}

async fn served() -> (Stage, Server) {
    let stage = Stage::with_fleet().await;
    let server = serve(&stage).await;
    (stage, server)
}
