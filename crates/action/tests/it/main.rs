//! Actions against real servers on loopback.

#![allow(clippy::unwrap_used)]

mod kubernetes;

mod local;

mod redis;

mod process;

mod flag;

mod switch;

mod git;

mod http;

mod service;

mod postgres;

mod restore;
