//! Everything about the gateway that needs sockets, time or files.

#![allow(clippy::unwrap_used)]
mod answer;
mod body;
mod breaker;
mod budget;

mod budgets_whole;
mod documents;
mod fail_open;
mod flow;
mod limit;
mod mends;
mod model_api;
mod observe;
mod proxy;
mod switches;
mod upstream;
