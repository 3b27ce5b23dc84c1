//! Serves all pages with a made-up fleet on a loopback port, to look at them: `cargo run -p paramedic-ui --example preview -- 3399`.

#![expect(clippy::expect_used, reason = "an example that may stop")]
#![allow(dead_code, unreachable_pub)]

#[path = "../../api/tests/it/meters.rs"]
mod meters;
#[path = "../../api/tests/it/stage.rs"]
mod stage;

use std::sync::Arc;

#[tokio::main]
async fn main() {
    let port: u16 = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(0);
    let stage = if std::env::args().nth(2).as_deref() == Some("empty") {
        stage::Stage::empty(Arc::new(paramedic_model::SystemClock)).await
    } else {
        stage::Stage::with_metrics().await
    };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
    eprintln!("http://{}", listener.local_addr().expect("an address"));
    let router = paramedic_api::router(Arc::clone(&stage.context)).merge(paramedic_ui::router(Arc::clone(&stage.context)));
    axum::serve(listener, router).await.expect("serves");
}
