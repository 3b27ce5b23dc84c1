//! The whole program, seen from outside: a real process, real files, real sockets.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod claude;
mod fake_api;
mod fixture;
mod http;
mod programs;
mod replay;
mod tools;
mod websocket;

mod analyze;
mod bad_input;
mod catalogue;
mod claude_code;
mod crash;
mod defects;
mod documents;
mod exporters;
mod external;
mod interop;
mod lifecycle;
mod live;
mod logs;
mod metrics;
mod newcomer;
mod pages;
mod processes;
mod rule_files;
mod same_alerts;
mod verbs;
