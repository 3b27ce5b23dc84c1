//! The gateway without anything around it, to measure and profile what a call costs: `one_gateway PORT SETTINGS.json`.
//! Events are made and thrown away.

use std::sync::Arc;
use std::time::Duration;

use paramedic_gateway::proxy::Listener;
use paramedic_gateway::{Gateway, Parts, Pricing};
use paramedic_model::{SystemClock, Usage};

/// Three dollars a million tokens read, fifteen written.
struct OnePrice;

impl Pricing for OnePrice {
    fn call(&self, _: &str, usage: &Usage) -> Option<u64> {
        Some(usage.context_tokens() * 3_000_000 + usage.output_tokens * 15_000_000)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().ok_or("no port")?.parse()?;
    let settings = serde_json::from_slice(&std::fs::read(arguments.next().ok_or("no settings")?)?)?;
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    runtime.block_on(async {
        let parts =
            Parts { settings, clock: Arc::new(SystemClock), pricing: Arc::new(OnePrice), data_dir: None, salt: [7; 32], shared: None };
        let gateway = Gateway::open(parts)?;
        let mut events = gateway.events(8_192).ok_or("no events")?;
        let listener = std::net::TcpListener::bind(("127.0.0.1", port))?;
        listener.set_nonblocking(true)?;
        let _serving = gateway.serve(Listener::Tcp(listener))?;
        let mut batch = Vec::new();
        // As an instance takes them: many at once.
        while events.recv_many(&mut batch, 256).await > 0 {
            batch.clear();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    })
}
