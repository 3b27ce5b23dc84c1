//! Everything about the gateway that needs sockets, time or files.

#![allow(clippy::unwrap_used)]
mod answer;
mod body;
mod budget;

mod proxy;
mod upstream;
