//! A thousand streams that are open at the same time, and what a gateway holds for them.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process;

use super::peers::{self, How, Peer};
use super::scene::{self, SLOW, Size};

const STREAMS: usize = 1_000;
/// Until what is held is looked at, and until it is looked at again after all have gone.
const SETTLED: Duration = Duration::from_secs(4);

/// Opens the streams, and sees that each of them has begun.
fn open(peer: &Peer) -> Result<Vec<TcpStream>> {
    let port = peer.ports[2];
    let body = scene::body(Size::Usual, SLOW, true);
    let mut lines = String::new();
    for (name, value) in scene::headers() {
        let _ = write!(lines, "{name}: {value}\r\n");
    }
    let mut streams = Vec::with_capacity(STREAMS);
    for at in 0..STREAMS {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).context("failed to connect")?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let head = format!(
            "POST /v1/messages?beta=true HTTP/1.1\r\nhost: 127.0.0.1\r\n{lines}x-claude-code-session-id: session-{at}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        streams.push(stream);
    }
    for stream in &mut streams {
        let mut begin = [0; 4_096];
        let read = stream.read(&mut begin).context("a stream did not begin")?;
        ensure!(begin[..read].starts_with(b"HTTP/1.1 200"), "a stream began with {}", String::from_utf8_lossy(&begin[..read.min(120)]));
    }
    Ok(streams)
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

pub(super) fn run(program: &Path, nginx: &Path, root: &Path, upstream: [u16; 3]) -> Result<String> {
    let root = root.join("streams");
    let mut table = format!(
        "\n{STREAMS} streams open at the same time, each of a session of its own with a request of 40 kB:\n\n\
         | gateway | resident MB before | with all open | after all went | descriptors before | open | after |\n|---|---|---|---|---|---|---|\n"
    );
    let starts: [&dyn Fn() -> Result<Peer>; 3] =
        [&|| peers::nginx(nginx, &root, upstream), &|| peers::paramedic(program, &root, upstream, How::Alone), &|| {
            peers::paramedic(program, &root, upstream, How::All)
        }];
    for start in starts {
        let peer = start()?;
        let pid = peer.pid().context("no process")?;
        peers::works(&peer, scene::WHOLE, false)?;
        let resident = || process::memory_mb(pid, "VmRSS").context("it is gone");
        let (mb, fds) = (resident()?, descriptors(pid));
        let streams = open(&peer)?;
        thread::sleep(SETTLED);
        let (open_mb, open_fds) = (resident()?, descriptors(pid));
        drop(streams);
        thread::sleep(SETTLED);
        let (after_mb, after_fds) = (resident()?, descriptors(pid));
        let _ = writeln!(table, "| {} | {mb:.0} | {open_mb:.1} | {after_mb:.1} | {fds} | {open_fds} | {after_fds} |", peer.name);
        eprintln!("{table}");
    }
    Ok(table)
}
