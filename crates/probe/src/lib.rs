//! Probes of the things agents depend on: host, processes, PostgreSQL, Redis, HTTP, TCP, DNS, model APIs.
//!
//! **Takes** the configured things to look at. **Gives** samples named as the usual exporters name them, and the state of every target. **Never** changes what it looks at, or spends a token.

#![cfg_attr(test, allow(clippy::unwrap_used))]
