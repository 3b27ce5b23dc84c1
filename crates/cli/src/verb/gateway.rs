//! `paramedic gateway`: the gateway alone.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use paramedic_gateway::config::UpstreamSettings;
use paramedic_model::{Clock, SystemClock};
use paramedic_server::gateway::GatewayRoom;
use paramedic_server::{App, Settings, app, handover};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Common, GatewayArgs};
use crate::exit::{Exit, message};
use crate::face;
use crate::verb::up::{at_next_start, wait_for_signals};

/// Threads of what is not the gateway itself: settings, signals, the local socket.
const WORKERS: usize = 1;

pub(super) fn gateway(common: &Common, args: &GatewayArgs) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).max_blocking_threads(8).enable_all().build()?;
    let outcome = runtime.block_on(async {
        match &common.data {
            Some(_) => with_data(common, args).await,
            None => alone(common, args).await,
        }
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    outcome
}

fn settings(common: &Common, args: &GatewayArgs) -> Result<Settings> {
    let mut settings = face::settings(common)?;
    if let Some(listen) = &args.listen {
        settings.listen.gateway.clone_from(listen);
    }
    if let Some(url) = &args.upstream {
        settings.gateway.upstreams = vec![UpstreamSettings { url: url.clone(), ..UpstreamSettings::default() }];
    }
    anyhow::ensure!(!settings.listen.gateway.is_empty(), "failed to start the gateway: its address is empty; name one with --listen ADDR");
    Ok(settings)
}

/// An instance in which everything but the gateway is off: its switches and budgets last, and other verbs reach it.
fn only_gateway(mut settings: Settings) -> Settings {
    for off in [&mut settings.listen.http, &mut settings.listen.otlp_grpc, &mut settings.listen.otlp_http] {
        off.clear();
    }
    settings.claude.watch = false;
    settings.logs.files.clear();
    settings.rules.pack = false;
    settings.rules.files.clear();
    settings.probe = paramedic_server::settings::no_probes();
    settings.runbook.start_on_incident = false;
    settings
}

async fn with_data(common: &Common, args: &GatewayArgs) -> Result<Exit> {
    let read = || settings(common, args).map(only_gateway);
    let app = App::start(read()?, Arc::new(SystemClock)).await?;
    greet(app.ports().gateway, &app.upstreams());
    wait_for_signals(&app, read).await?;
    message("stopping: calls that run may end");
    app.drain().await;
    message("stopped");
    Ok(Exit::Done)
}

async fn alone(common: &Common, args: &GatewayArgs) -> Result<Exit> {
    let settings = settings(common, args)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let listener = app::bind_gateway(&settings).await?.context("failed to start the gateway: its address is empty")?;
    let spare = listener.try_clone()?;
    app::raise_descriptor_limit();
    let room = GatewayRoom::open(settings.gateway.clone(), app::prices(&settings)?, None, clock.clone())?;
    room.follow_elsewhere();
    room.log_news(clock);
    greet(Some(room.serve(listener)?), &room.gateway.upstreams());
    handover::ready();
    let mut signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?);
    let mut user_2 = signal(SignalKind::user_defined2())?;
    loop {
        tokio::select! {
            _ = signals.0.recv() => break,
            _ = signals.1.recv() => break,
            _ = signals.2.recv() => {
                let taken = self::settings(common, args).and_then(|settings| room.reload(settings.gateway));
                message(&match taken {
                    Ok(later) => format!("settings read again{}", at_next_start(&later)),
                    Err(error) => format!("settings not changed: {error:#}"),
                });
            }
            _ = user_2.recv() => match handover::successor(&spare) {
                Ok(pid) => {
                    message(&format!("the process {pid} takes the listener over; this one ends when its calls are over"));
                    break;
                }
                Err(error) => message(&format!("nobody could take over: {error:#}")),
            },
        }
    }
    drop(spare);
    message("stopping: calls that run may end");
    room.drain().await;
    message("stopped");
    Ok(Exit::Done)
}

fn greet(address: Option<std::net::SocketAddr>, upstreams: &[(String, String)]) {
    let Some(address) = address else { return };
    message(&format!("paramedic {} passes model calls on", env!("CARGO_PKG_VERSION")));
    for (name, url) in upstreams {
        message(&format!("  upstream  {name} at {url}"));
    }
    message(&format!("  agents    export ANTHROPIC_BASE_URL=http://{address}"));
}
