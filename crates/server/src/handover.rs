//! A successor takes the gateway's listening socket over, so that no connection is refused while one instance follows another.
//!
//! The socket is the successor's standard input, as service managers hand sockets to programs that they start on demand.
//! Connections that come while neither takes any wait in the kernel's queue.

use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Says to the successor that its standard input is the gateway's listener.
pub const INHERITED: &str = "PARAMEDIC_GATEWAY_LISTENER";
const STANDARD_INPUT: &str = "stdin";

/// Names the file by which a successor says that it has read its settings and can take over.
const READY_FILE: &str = "PARAMEDIC_GATEWAY_READY";
/// How long a successor may take until then.
const READY_WITHIN: Duration = Duration::from_secs(15);

/// Starts this program anew with the same arguments and this listener, and waits until it says that it can take over; its
/// process id. One that ends before, because of its settings say, takes nothing over: then everything stays as it is.
pub fn successor(listener: &TcpListener) -> Result<u32> {
    let program = program()?;
    let folder = tempfolder()?;
    let said = folder.join("ready");
    let socket: OwnedFd = listener.try_clone().context("failed to duplicate the listener")?.into();
    let mut command = Command::new(&program);
    command.args(std::env::args_os().skip(1)).env(INHERITED, STANDARD_INPUT).env(READY_FILE, &said).stdin(Stdio::from(socket));
    let mut child = command.spawn().with_context(|| format!("failed to start {}", program.display()))?;
    let until = Instant::now() + READY_WITHIN;
    let came = loop {
        if said.exists() {
            break Ok(child.id());
        }
        if let Some(status) = child.try_wait().context("failed to watch the successor")? {
            break Err(anyhow::anyhow!("the successor ended with {status}, and says why above"));
        }
        if Instant::now() >= until {
            let _ = child.kill();
            break Err(anyhow::anyhow!("the successor was not ready within {} s", READY_WITHIN.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let _ = std::fs::remove_dir_all(&folder);
    came
}

/// The file of this program; after an upgrade the new one under the old name.
fn program() -> Result<PathBuf> {
    let program = std::env::current_exe().context("failed to find the program itself")?;
    // So the kernel says that another file has taken its place.
    let renewed = program.to_str().and_then(|name| name.strip_suffix(" (deleted)")).map(PathBuf::from);
    Ok(renewed.unwrap_or(program))
}

/// A folder that only this user can write to.
fn tempfolder() -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    let nanos = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.subsec_nanos());
    let folder = std::env::temp_dir().join(format!("paramedic-successor-{}-{nanos}", std::process::id()));
    std::fs::DirBuilder::new().mode(0o700).create(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
    Ok(folder)
}

/// Says to whoever started this process as a successor that it can take over.
pub fn ready() {
    if let Some(file) = std::env::var_os(READY_FILE)
        && follows()
    {
        let _ = std::fs::write(file, b"ready");
    }
}

/// The listener that was inherited; none where none was.
pub fn inherited() -> Result<Option<TcpListener>> {
    if std::env::var_os(INHERITED).is_none_or(|value| value != STANDARD_INPUT) {
        return Ok(None);
    }
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("failed to take the listener over")?;
    let listener = TcpListener::from(socket);
    listener.local_addr().context("failed to take the listener over: standard input is no listening socket")?;
    Ok(Some(listener))
}

/// Whether this process follows another one that may still be ending its calls.
#[must_use]
pub fn follows() -> bool {
    std::env::var_os(INHERITED).is_some_and(|value| value == STANDARD_INPUT)
}
