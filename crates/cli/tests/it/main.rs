//! The whole program, seen from outside: a real process, real files, real sockets.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod claude;
mod fake_api;
mod fixture;
mod http;
mod programs;
mod replay;
mod respond_case;
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
mod gateway_alerts;
mod gateway_clients;
mod gateway_redis;
mod gateway_restart;
mod gateway_verbs;
mod interop;
mod lifecycle;
mod live;
mod logs;
mod metrics;
mod newcomer;
mod pages;
mod processes;
mod respond_agents;
mod respond_database;
mod respond_guards;
mod respond_kubernetes;
mod respond_processes;
mod respond_redis;
mod respond_scene;
mod response;
mod rule_files;
mod same_alerts;
mod verbs;
