//! The wire of other Prometheus-compatible stores: remote_write in and out, remote read, and their query API.
//!
//! **Takes** remote_write requests (1.0 and 2.0), remote read requests, and samples to forward. **Gives** samples in the store, answers on the wire, requests to an external store. **Never** loses a forwarded sample silently.

#![cfg_attr(test, allow(clippy::unwrap_used))]
