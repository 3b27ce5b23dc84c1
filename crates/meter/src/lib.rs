//! Samples derived from what agents did.
//!
//! **Takes** events that are news, and the fleet's view of agents. **Gives** the metrics that the documented dashboards and alerts use. **Never** counts a fact twice.

#![cfg_attr(test, allow(clippy::unwrap_used))]
