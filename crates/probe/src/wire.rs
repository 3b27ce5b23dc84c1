//! Connections to servers, with a bound on what they may send.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;

use crate::error::Failure;

/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl Place {
    /// Reads `host:port`, `[v6]:port`, or a host with the default port.
    pub(crate) fn parse(text: &str, default_port: Option<u16>) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port.parse().ok()?)),
            _ => (text, default_port),
        };
        let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
        let is_host = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/');
        is_host.then_some(Self::Tcp { host: host.to_owned(), port: port? })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The addresses of a host, and how long it took to find them.
pub(crate) async fn resolve(host: &str, port: u16) -> Result<(Vec<SocketAddr>, Duration), Failure> {
    let begun = Instant::now();
    if let Ok(address) = host.parse() {
        return Ok((vec![SocketAddr::new(address, port)], begun.elapsed()));
    }
    let found = tokio::net::lookup_host((host, port)).await.map_err(|err| Failure::of(&format!("resolve {host}"), &err))?;
    let addresses: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
    if addresses.is_empty() {
        return Err(Failure::new(format_args!("resolve {host}: no address")));
    }
    Ok((addresses, begun.elapsed()))
}

/// Connects to the first address that accepts, and says how long it took.
pub(crate) async fn connect(addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr, Duration), Failure> {
    let begun = Instant::now();
    let mut last = Failure::new("no address to connect to");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Requests are small and waited for.
                let _ = stream.set_nodelay(true);
                return Ok((stream, *address, begun.elapsed()));
            }
            Err(err) => last = Failure::of(&format!("connect to {address}"), &err),
        }
    }
    Err(last)
}

/// What is left of the bytes that a server may send in one look.
#[derive(Debug, Clone)]
pub(crate) struct Allowance(Arc<AtomicU64>);

impl Allowance {
    pub(crate) fn new(bytes: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bytes)))
    }

    /// A new look may read as much again.
    pub(crate) fn renew(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }
}

enum Medium {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that ends when the server sends more than it is allowed to.
pub(crate) struct Wire {
    medium: Medium,
    allowance: Allowance,
}

impl Wire {
    pub(crate) async fn open(place: &Place, allowance: Allowance) -> Result<Self, Failure> {
        let medium = match place {
            Place::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                Medium::Unix(stream.map_err(|err| Failure::of(&format!("connect to {}", path.display()), &err))?)
            }
            Place::Tcp { host, port } => Medium::Tcp(connect(&resolve(host, *port).await?.0).await?.0),
        };
        Ok(Self { medium, allowance })
    }

    pub(crate) fn of_tls(stream: TlsStream<TcpStream>, allowance: Allowance) -> Self {
        Self { medium: Medium::Tls(Box::new(stream)), allowance }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = match &mut self.medium {
            Medium::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Medium::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Medium::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        let read = (buf.filled().len() - before) as u64;
        let left = self.allowance.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(read));
        if left.is_err() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "the server sent more than a look may read")));
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.medium {
            Medium::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Medium::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Medium::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.medium {
            Medium::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Medium::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Medium::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.medium {
            Medium::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Medium::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Medium::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A task that ends with whoever holds this.
#[derive(Debug)]
pub(crate) struct Driver(JoinHandle<()>);

impl Driver {
    pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for (text, default_port, expected) in [
            ("db:5432", None, Some("db:5432")),
            ("db", Some(53), Some("db:53")),
            ("db", None, None),
            ("[::1]:80", None, Some("[::1]:80")),
            ("::1", Some(53), Some("[::1]:53")),
            ("db:port", None, None),
            (":80", None, None),
            ("a b:80", None, None),
            ("http://x:80", None, None),
        ] {
            assert_eq!(Place::parse(text, default_port).map(|place| place.to_string()).as_deref(), expected, "{text:?}");
        }
    }
}
