//! A program that is run to its end: its words are never read by a shell, and it never outlives its time.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Bytes of each output that are kept.
const OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A program that is told to end may put its files in order first.
const TIDY: Duration = Duration::from_secs(3);
/// What a program's children hold open is not waited for.
const DRAIN: Duration = Duration::from_millis(500);

/// What to run.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) folder: Option<PathBuf>,
    /// Set on top of our own environment.
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) without: &'static [&'static str],
    pub(crate) timeout: Duration,
}

/// What a program answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// `None`: a signal ended it.
    pub(crate) exit: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Answer {
    pub(crate) fn is_ok(&self) -> bool {
        self.exit == Some(0)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// What it complained of, fit to be shown.
    pub(crate) fn complaint(&self) -> String {
        let said = if self.stderr.iter().all(u8::is_ascii_whitespace) { &self.stdout } else { &self.stderr };
        let said = String::from_utf8_lossy(said);
        let exit = self.exit.map_or_else(|| "a signal ended it".to_owned(), |exit| format!("exit {exit}"));
        match said.trim() {
            "" => exit,
            said => format!("{exit}: {}", crate::address::shown(said, None)),
        }
    }
}

impl Program {
    pub(crate) fn new(path: &Path, timeout: Duration) -> Self {
        Self { path: path.to_owned(), arguments: Vec::new(), folder: None, environment: Vec::new(), without: &[], timeout }
    }

    pub(crate) fn args<T: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The command as a person would type it.
    pub(crate) fn shown(&self) -> String {
        let words = std::iter::once(self.path.as_os_str()).chain(self.arguments.iter().map(OsString::as_os_str));
        let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        paramedic_model::secret::mask(&words.join(" ")).into_owned()
    }

    /// Runs it. An error says why there is no answer, and then nothing of it lives any more.
    pub(crate) async fn run(&self, cancel: &CancellationToken) -> Result<Answer, String> {
        let name = self.path.display();
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        for name in self.without {
            command.env_remove(name);
        }
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => format!("{name} is not installed"),
            _ => format!("{name} cannot be started: {error}"),
        })?;
        let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
        let stdout = Stream::read(child.stdout.take());
        let stderr = Stream::read(child.stderr.take());
        let cut = tokio::select! {
            ended = child.wait() => {
                let status = ended.map_err(|error| format!("the end of {name} cannot be read: {error}"))?;
                let (stdout, stderr) = (stdout.finish().await, stderr.finish().await);
                // Children that it left behind on purpose are its own affair.
                std::mem::forget(group);
                return Ok(Answer { exit: status.code(), stdout, stderr });
            }
            () = tokio::time::sleep(self.timeout) => format!("{name} did not end within {} s and was ended", self.timeout.as_secs()),
            () = cancel.cancelled() => format!("{name} was called off and ended"),
        };
        group.signal(Signal::TERM);
        let _ = timeout(TIDY, child.wait()).await;
        drop(group);
        let _ = child.wait().await;
        Err(cut)
    }
}

/// The program with its children; killed when nobody waits for it any more.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // One that has just ended needs no signal.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// One output, read as fast as it comes so that the program never waits for us; its beginning is kept.
struct Stream {
    kept: Arc<Mutex<Vec<u8>>>,
    reading: JoinHandle<()>,
}

impl Stream {
    fn read(source: Option<impl AsyncRead + Unpin + Send + 'static>) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&kept);
        let reading = tokio::spawn(async move {
            let Some(mut source) = source else { return };
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(length) = source.read(&mut buffer).await {
                if length == 0 {
                    return;
                }
                let mut kept = into.lock().unwrap_or_else(PoisonError::into_inner);
                let room = OUTPUT_BYTES_MAX - kept.len();
                kept.extend_from_slice(&buffer[..length.min(room)]);
            }
        });
        Self { kept, reading }
    }

    /// What came so far, and what is still in the pipe.
    async fn finish(self) -> Vec<u8> {
        let mut reading = self.reading;
        if timeout(DRAIN, &mut reading).await.is_err() {
            reading.abort();
        }
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
