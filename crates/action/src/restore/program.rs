//! Programs that know a format, started without a shell, with an end to their time.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use crate::address::shown;

/// Bytes of what a program says that are read.
const SAID_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Where programs lie, newest PostgreSQL first; the search path of whoever started us is not asked.
const FOLDERS: &[&str] = &[
    "/usr/lib/postgresql/18/bin",
    "/usr/lib/postgresql/17/bin",
    "/usr/lib/postgresql/16/bin",
    "/usr/lib/postgresql/15/bin",
    "/usr/lib/postgresql/14/bin",
    "/usr/local/bin",
    "/usr/bin",
    "/bin",
    "/opt/homebrew/bin",
];

pub(super) struct Said {
    pub(super) good: bool,
    /// Why not, in one line.
    pub(super) text: String,
    pub(super) stdout: Vec<u8>,
}

fn find(name: &str) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

/// Runs it with these arguments and nothing else; an error when it is not installed, or takes too long.
pub(super) async fn run(name: &str, arguments: &[&OsStr], environment: &[(&str, &str)], limit: Duration) -> Result<Said, String> {
    let program = find(name).ok_or_else(|| format!("{name} is not installed"))?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin").envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("{name} cannot be started: {error}"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let reading = async {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let read_out = async {
            match stdout {
                Some(stdout) => stdout.take(SAID_BYTES_MAX).read_to_end(&mut out).await.map(|_| ()),
                None => Ok(()),
            }
        };
        let read_err = async {
            match stderr {
                Some(stderr) => stderr.take(SAID_BYTES_MAX).read_to_end(&mut err).await.map(|_| ()),
                None => Ok(()),
            }
        };
        let (_, _) = tokio::join!(read_out, read_err);
        (child.wait().await, out, err)
    };
    let (status, stdout, stderr) = tokio::time::timeout(limit, reading).await.map_err(|_| format!("{name} took longer than {limit:?}"))?;
    let status = status.map_err(|error| format!("{name}: {error}"))?;
    let last = if stderr.is_empty() { &stdout } else { &stderr };
    let text = String::from_utf8_lossy(last);
    let text = text.trim().lines().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join(" ");
    Ok(Said { good: status.success(), text: format!("{name} says: {}", shown(&text, None)), stdout })
}
