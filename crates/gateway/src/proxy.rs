//! Connections: taken from clients, kept to upstreams, and the bytes between them.
//!
//! **Takes** a listener and a [`Handler`]. **Gives** the handler each request as it came, and ways to send it on
//! ([`Upstream::send`]) and to pass the answer back ([`Relay`]). **Never** changes a byte that is not a hop's own affair,
//! holds a frame back, or sends a request twice of which the upstream may have read a byte.
//!
//! There is one task for each client connection and none for an upstream's: whoever waits for an answer drives the
//! upstream's connection himself, so a call wakes one task only, and dropping the call closes the connection at once.

mod body;
mod collect;
mod connection;
mod headers;
mod listen;
mod pool;
mod relay;
mod stream;
mod tls;
mod upstream;
mod watchdog;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use hyper::body::Incoming;
use hyper::{Request, Response};

pub use body::{Body, Cut, SendBody};
pub use collect::{CollectError, Collected, Wait, collect};
pub use listen::{Drained, Listener, Metrics, Serving, Settings, serve};
pub use relay::{End, Farewell, Relay, RelayLimits, Tap, Which};
pub use upstream::{Address, AddressFault, Answer, Http2, Limits, SendError, Upstream, UpstreamSettings};

/// What is being done for a request, until there is an answer.
pub type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// What a request is given to. A panic in it is caught, and answered for it.
pub trait Handler: Send + Sync + 'static {
    fn call(&self, request: Request<Incoming>, peer: Peer) -> Answering;
}

/// Who sent a request, as the connection says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Nothing for a Unix socket.
    pub address: Option<SocketAddr>,
}
