//! A successor takes the gateway's listening socket over, so that no connection is refused while one instance follows another.
//!
//! The socket is the successor's standard input, as service managers hand sockets to programs that they start on demand.
//! Connections that come while neither takes any wait in the kernel's queue.

use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

/// Says to the successor that its standard input is the gateway's listener.
pub const INHERITED: &str = "PARAMEDIC_GATEWAY_LISTENER";
const STANDARD_INPUT: &str = "stdin";

/// Starts this program anew with the same arguments and this listener; its process id.
pub fn successor(listener: &TcpListener) -> Result<u32> {
    let program = std::env::current_exe().context("failed to find the program itself")?;
    let socket: OwnedFd = listener.try_clone().context("failed to duplicate the listener")?.into();
    let mut command = Command::new(&program);
    command.args(std::env::args_os().skip(1)).env(INHERITED, STANDARD_INPUT).stdin(Stdio::from(socket));
    let child = command.spawn().with_context(|| format!("failed to start {}", program.display()))?;
    Ok(child.id())
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
