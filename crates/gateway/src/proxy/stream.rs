//! A byte stream of any kind: TCP, a Unix socket, TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

/// The first bytes of HTTP/2 with prior knowledge. No method of HTTP/1 begins so.
const PREFACE_START: &[u8; 4] = b"PRI ";

#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Whether the peer begins to speak HTTP/2, once it begins to speak. Takes nothing out of the stream.
    pub(super) async fn begins_http2(&self) -> io::Result<bool> {
        let mut start = [0; PREFACE_START.len()];
        loop {
            let seen = self.peek(&mut start).await?;
            if seen == 0 || start[..seen] != PREFACE_START[..seen] {
                return Ok(false);
            }
            if seen == start.len() {
                return Ok(true);
            }
            // A part of the first four bytes only: what is there makes the socket readable at once, so wait by time.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    async fn peek(&self, start: &mut [u8]) -> io::Result<usize> {
        use rustix::net::{RecvFlags, recv};
        use tokio::io::Interest;
        match self {
            Self::Tcp(tcp) => tcp.peek(start).await,
            Self::Unix(unix) => {
                let mut look = || recv(unix, &mut *start, RecvFlags::PEEK).map(|(seen, _)| seen).map_err(io::Error::from);
                unix.async_io(Interest::READABLE, &mut look).await
            }
            Self::Tls(_) => Ok(0),
        }
    }
}

macro_rules! each {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream.get_mut() {
            Stream::Tcp($inner) => $call,
            Stream::Unix($inner) => $call,
            Stream::Tls($inner) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, inner => Pin::new(inner).poll_write(cx, buf))
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        each!(self, inner => Pin::new(inner).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(inner) => inner.is_write_vectored(),
            Self::Unix(inner) => inner.is_write_vectored(),
            Self::Tls(inner) => inner.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_shutdown(cx))
    }
}
