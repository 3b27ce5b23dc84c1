//! Programs: a session of their own, no terminal, nothing to read, a limit of time that holds for all their children.

mod family;
pub(super) mod left;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::family::{Family, MARK};
use super::live::Tap;
use super::output::Collected;
use super::{Order, Settings};
use crate::outcome::Outcome;

/// After a program ended, what it wrote last still has to arrive.
const DRAIN: Duration = Duration::from_millis(500);
/// What a program left behind may take to end.
const LEFTOVER_GRACE: Duration = Duration::from_millis(300);

pub(super) async fn run(
    hands: &super::Hands,
    order: &Order,
    environment: &BTreeMap<String, String>,
    cancel: &CancellationToken,
) -> Outcome {
    let settings = &hands.settings;
    let mark = family::mark(&hands.attempt_of);
    let mut child = match start(settings, order, environment, &mark) {
        Ok(child) => child,
        Err(why) => return Outcome::fault(why),
    };
    let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) else {
        return Outcome::fault("the program ended before it could be watched");
    };
    // From here on nothing of it outlives this function, however it ends.
    let family = Family::new(pid, mark);
    let tap = || Tap::new(order.live.clone(), &order.secrets, &order.redact);
    let stdout = Stream::read(child.stdout.take(), tap());
    let stderr = Stream::read(child.stderr.take(), tap());
    let ended = tokio::select! {
        ended = ended(pid) => Ended::Itself(ended),
        () = tokio::time::sleep(order.timeout) => Ended::TimeOver,
        () = cancel.cancelled() => Ended::CalledOff,
    };
    let grace = Duration::from_millis(settings.grace_ms);
    let gone = match ended {
        Ended::Itself(_) => family.end(LEFTOVER_GRACE, false).await,
        Ended::TimeOver | Ended::CalledOff => family.end(grace, true).await,
    };
    let mut outcome = Outcome::default();
    match timeout(Duration::from_secs(2), child.wait()).await {
        Ok(Ok(status)) => {
            outcome.exit = status.code();
            outcome.signal = std::os::unix::process::ExitStatusExt::signal(&status);
        }
        Ok(Err(error)) => outcome.fault = Some(format!("its end could not be read: {error}")),
        Err(_) => outcome.fault = Some(format!("the process {} does not end", pid.as_raw_nonzero())),
    }
    family.done();
    let hide = |collected: Collected| collected.keep(&order.secrets, &order.redact);
    outcome.stdout = hide(stdout.finish().await);
    outcome.stderr = hide(stderr.finish().await);
    outcome.left_behind = gone.left_behind;
    match ended {
        Ended::TimeOver => {
            outcome.timed_out = true;
            outcome.fault = Some(format!("it did not end within {} ms and was killed", order.timeout.as_millis()));
        }
        Ended::CalledOff => outcome.fault = Some("it was called off and killed".to_owned()),
        Ended::Itself(Err(why)) => outcome.fault = Some(why),
        Ended::Itself(Ok(())) => {}
    }
    if !gone.survivors.is_empty() {
        outcome.fault = Some(format!("processes that could not be killed: {:?}", gone.survivors));
    }
    outcome.understand();
    outcome
}

enum Ended {
    Itself(Result<(), String>),
    TimeOver,
    CalledOff,
}

/// Starts the program. `setsid` gives it a session of its own, so that no program under it finds a terminal to ask at.
fn start(settings: &Settings, order: &Order, environment: &BTreeMap<String, String>, mark: &str) -> Result<Child, String> {
    let argv = order.work.argv(order.effect);
    let Some((program, arguments)) = argv.split_first() else { return Err("there is no program".to_owned()) };
    let mut command = if in_path("setsid") {
        let mut command = Command::new("setsid");
        command.arg(program);
        command
    } else {
        let mut command = Command::new(program);
        command.process_group(0);
        command
    };
    command.args(arguments).env_clear().current_dir(&settings.folder);
    for name in &settings.environment {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs(environment).env(MARK, mark).env("TERM", "dumb");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    if !in_path(program) {
        return Err(format!("{program} is not installed"));
    }
    command.spawn().map_err(|error| format!("{program} cannot be started in {}: {error}", settings.folder.display()))
}

fn in_path(program: &str) -> bool {
    if program.contains('/') {
        return std::path::Path::new(program).is_file();
    }
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// Waits for the end of a process without collecting it: until then its number belongs to nobody else.
#[expect(deprecated, reason = "an owned descriptor stays what it is; the other form would need `unsafe`")]
async fn ended(pid: Pid) -> Result<(), String> {
    let watched: OwnedFd = pidfd_open(pid, PidfdFlags::NONBLOCK).map_err(|error| format!("the process cannot be watched: {error}"))?;
    let watched = AsyncFd::with_interest(watched, tokio::io::Interest::READABLE)
        .map_err(|error| format!("the process cannot be watched: {error}"))?;
    watched.readable().await.map(drop).map_err(|error| format!("the process cannot be watched: {error}"))
}

/// One output, read as fast as it comes so that the program never waits for us, kept in bounded memory.
struct Stream {
    collected: Arc<Mutex<Collected>>,
    reading: JoinHandle<()>,
}

impl Stream {
    fn read(source: Option<impl AsyncRead + Unpin + Send + 'static>, mut tap: Tap) -> Self {
        let collected = Arc::new(Mutex::new(Collected::default()));
        let into = Arc::clone(&collected);
        let reading = tokio::spawn(async move {
            let Some(mut source) = source else { return };
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(length) = source.read(&mut buffer).await {
                if length == 0 {
                    return;
                }
                into.lock().unwrap_or_else(PoisonError::into_inner).push(&buffer[..length]);
                tap.push(&buffer[..length]);
            }
        });
        Self { collected, reading }
    }

    /// What came so far, and what is still in the pipe; a process that holds the other end open is not waited for.
    async fn finish(self) -> Collected {
        let mut reading = self.reading;
        if timeout(DRAIN, &mut reading).await.is_err() {
            reading.abort();
        }
        std::mem::take(&mut *self.collected.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
