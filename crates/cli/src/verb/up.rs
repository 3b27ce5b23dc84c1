//! `paramedic up`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use paramedic_collect::hook;
use paramedic_model::{Clock, SystemClock};
use paramedic_server::app::ReloadRequest;
use paramedic_server::{App, Settings, connect, sample};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::args::{Common, UpArgs};
use crate::exit::{Exit, message};
use crate::face;

/// Worker threads: the work is mostly waiting, and every thread costs memory.
const WORKERS: usize = 2;

pub(super) fn up(common: &Common, args: &UpArgs) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).max_blocking_threads(8).enable_all().build()?;
    let outcome = runtime.block_on(run(common, args));
    // Whatever still hangs in a blocking call (a dead disk) must not keep us from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    outcome
}

fn settings(common: &Common, args: &UpArgs) -> Result<Settings> {
    let mut settings = face::settings(common)?;
    if let Some(http) = &args.http {
        settings.listen.http.clone_from(http);
    }
    if let Some(otlp_grpc) = &args.otlp_grpc {
        settings.listen.otlp_grpc.clone_from(otlp_grpc);
    }
    if let Some(otlp_http) = &args.otlp_http {
        settings.listen.otlp_http.clone_from(otlp_http);
    }
    if let Some(gateway) = &args.gateway {
        settings.listen.gateway.clone_from(gateway);
    }
    Ok(settings)
}

/// The sample fleet lives in a folder of its own and is played anew each time.
fn use_sample(settings: &mut Settings, common: &Common) -> Result<PathBuf> {
    let base = settings.data_dir().map_err(|error| anyhow::anyhow!("failed to {error}"))?;
    let dir = if common.data.is_some() { base } else { base.join("sample") };
    let claude = dir.join("claude");
    for old in [&claude, &dir.join(paramedic_server::app::EVENTS_DIR), &dir.join(paramedic_server::SAMPLES_DIR)] {
        if old.exists() {
            std::fs::remove_dir_all(old).with_context(|| format!("failed to clear {}", old.display()))?;
        }
    }
    for old in [paramedic_server::app::JOURNAL_FILE, "journal.sqlite-wal", "journal.sqlite-shm", "journal.sqlite-head", "checkpoint.bin"] {
        let _ = std::fs::remove_file(dir.join(old));
    }
    std::fs::create_dir_all(claude.join("projects")).with_context(|| format!("failed to create {}", claude.display()))?;
    settings.data.dir = dir.to_string_lossy().into_owned();
    settings.claude.dirs = vec![claude.to_string_lossy().into_owned()];
    Ok(claude)
}

async fn run(common: &Common, args: &UpArgs) -> Result<Exit> {
    let mut settings = settings(common, args)?;
    let sample_dir = if args.sample {
        if paramedic_server::instance::is_running(
            &settings.data_dir().map_err(|error| anyhow::anyhow!("failed to {error}"))?.join("sample"),
        ) {
            anyhow::bail!("the sample is being played already; stop that one first");
        }
        Some(use_sample(&mut settings, common)?)
    } else {
        None
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let watched = settings.claude_dirs();
    let app = App::start(settings, clock.clone()).await?;
    greet(&app, &watched);
    let player = CancellationToken::new();
    if let Some(dir) = sample_dir {
        message(&format!("playing the sample fleet {} times faster than it was recorded", args.sample_speed));
        let (speed, intake, cancel) = (args.sample_speed, app.intake().clone(), player.clone());
        tokio::spawn(async move {
            let post = |body: String| {
                if let Ok(events) = hook::parse(body.as_bytes(), clock.now()) {
                    let _ = intake.offer(events);
                }
            };
            match sample::play(&dir, speed, clock.as_ref(), &post, &cancel).await {
                Ok(lines) => message(&format!("the sample is over ({lines} lines); the pages stay until you stop with Ctrl-C")),
                Err(error) => message(&format!("the sample stopped: failed to {error}")),
            }
            if let Some(mut looping) = looping_agent(&dir) {
                tokio::select! {
                    _ = looping.wait() => message("the looping agent was stopped"),
                    () = cancel.cancelled() => drop(looping.kill().await),
                }
            }
        });
    }
    wait_for_signals(&app, || self::settings(common, args)).await?;
    player.cancel();
    message("stopping");
    app.drain().await;
    message("stopped");
    Ok(Exit::Done)
}

/// The one agent of the sample that is a process: it loops until somebody stops it, or the sample ends.
fn looping_agent(dir: &Path) -> Option<tokio::process::Child> {
    let program = std::env::current_exe().ok()?;
    let mut command = tokio::process::Command::new(program);
    command.arg("sample-agent").arg(dir).kill_on_drop(true).process_group(0);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    match command.spawn() {
        Ok(child) => {
            message(&format!("one agent goes on looping as the process {}; its runbook can stop it", child.id().unwrap_or_default()));
            Some(child)
        }
        Err(error) => {
            message(&format!("the looping agent could not be started: {error}"));
            None
        }
    }
}

fn greet(app: &App, watched: &[PathBuf]) {
    let ports = app.ports();
    message(&format!("paramedic {} is up", env!("CARGO_PKG_VERSION")));
    if let Some(http) = ports.http {
        let host = if http.ip().is_loopback() { format!("localhost:{}", http.port()) } else { http.to_string() };
        message(&format!("  pages     http://{host}"));
    }
    if let Some(gateway) = ports.gateway {
        message(&format!("  gateway   ANTHROPIC_BASE_URL=http://{gateway} sends an agent's model calls through it"));
    }
    message(&format!("  data      {}", app.data_dir().display()));
    for dir in watched {
        message(&format!("  watching  {}{}", dir.join("projects").display(), if readable(dir) { "" } else { "  (not there yet)" }));
    }
    let receivers: Vec<String> = [("OTLP gRPC", ports.otlp_grpc), ("OTLP HTTP", ports.otlp_http)]
        .into_iter()
        .filter_map(|(name, address)| address.map(|address| format!("{name} {address}")))
        .collect();
    if !receivers.is_empty() {
        message(&format!("  receiving {}", receivers.join(", ")));
    }
    message("");
    message("To connect a Claude Code agent, set in the shell that starts it:");
    for line in connect::lines(ports) {
        message(&format!("  {line}"));
    }
    message("and add the hooks to its settings.json (paramedic connect claude-code --write does both, --undo takes it back):");
    message(&format!("  {}", serde_json::json!({"hooks": connect::hooks(ports)})));
    message("");
}

fn readable(dir: &Path) -> bool {
    std::fs::read_dir(dir.join("projects")).is_ok()
}

/// Reads the settings again. What came of it in words: an error when something could not be taken.
async fn reload(app: &App, settings: Result<Settings>) -> std::result::Result<String, String> {
    let settings = settings.map_err(|error| format!("settings not changed: {error:#}"))?;
    let reloaded = app.reload(settings).await;
    let told = format!("settings and rules read again{}", at_next_start(&reloaded.needs_restart));
    if reloaded.problems.is_empty() {
        return Ok(told);
    }
    Err(format!("{told}; not taken: {}", reloaded.problems.join("; ")))
}

/// Which settings were changed and are not taken yet.
pub(super) fn at_next_start(settings: &[&str]) -> String {
    if settings.is_empty() {
        return String::new();
    }
    format!("; changes of these take effect at the next start: {}", settings.join(", "))
}

/// The next request of the API; never, where there are none.
async fn next(requests: &mut Option<mpsc::Receiver<ReloadRequest>>) -> Option<ReloadRequest> {
    match requests {
        Some(requests) => requests.recv().await,
        None => std::future::pending().await,
    }
}

/// Returns when it is time to stop; `again` reads the settings anew.
pub(super) async fn wait_for_signals(app: &App, again: impl Fn() -> Result<Settings>) -> Result<()> {
    let (mut terminate, mut interrupt, mut hangup) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?);
    // Other daemons of this field are told things with these; here they must not be the end of the watch.
    let (mut user_1, mut user_2) = (signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?);
    let reload = async || reload(app, again()).await;
    let mut requests = app.reload_requests();
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = user_1.recv() => message("SIGUSR1 means nothing here; SIGHUP reads the settings again, SIGUSR2 starts a successor, SIGTERM stops"),
            _ = user_2.recv() => match app.hand_over() {
                Ok(pid) => {
                    message(&format!("the process {pid} takes the gateway's listener over; this one ends when its calls are over"));
                    return Ok(());
                }
                Err(error) => message(&format!("nobody could take over: {error:#}")),
            },
            _ = hangup.recv() => match reload().await {
                Ok(told) => message(&told),
                Err(told) => message(&told),
            },
            Some(asked) = next(&mut requests) => {
                let came = reload().await;
                message(came.as_ref().unwrap_or_else(|told| told));
                let _ = asked.send(came.map(drop));
            }
        }
    }
}
