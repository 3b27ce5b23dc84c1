//! Everything about the gateway that needs sockets, time or files.

#![allow(clippy::unwrap_used)]
mod answer;
mod breaker;
mod body;
mod budget;

mod observe;
mod proxy;
mod upstream;
mod limit;
