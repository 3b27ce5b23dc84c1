//! The runbooks that come with Paramedic, one for each kind of trouble that its alerts name.
//!
//! A team's own runbook with the same id stands in for ours. What they have in common:
//!
//! - Names of steps are words of letters, digits and `_`, so that conditions can speak of them. In a condition a step's name
//!   stands for the number that it found; `.rows`, `.exit`, `.status`, `.stdout` and what it captured stand behind a dot.
//! - `verify` speaks of steps under Investigation, which are read again until it holds.
//! - A value that an inverse needs (replicas, a limit, a setting) is captured by a step that only looks, before it is changed.
//! - What changes something is a typed action where there is one; the shell only looks.
//! - Nothing that changes something runs unattended, but for switches that end by themselves.

/// The name of each runbook, which is its id, and its text.
pub const LIBRARY: &[(&str, &str)] = &[
    ("agent-down", include_str!("../library/agent-down.md")),
    ("agent-timeout", include_str!("../library/agent-timeout.md")),
    ("alert-response", include_str!("../library/alert-response.md")),
    ("certificate-expiry", include_str!("../library/certificate-expiry.md")),
    ("connection-pool", include_str!("../library/connection-pool.md")),
    ("cost-spike", include_str!("../library/cost-spike.md")),
    ("daemon-crash", include_str!("../library/daemon-crash.md")),
    ("database-issues", include_str!("../library/database-issues.md")),
    ("deployment-rollback", include_str!("../library/deployment-rollback.md")),
    ("disk-full", include_str!("../library/disk-full.md")),
    ("ghost-agent", include_str!("../library/ghost-agent.md")),
    ("high-error-rate", include_str!("../library/high-error-rate.md")),
    ("high-latency", include_str!("../library/high-latency.md")),
    ("lost-correlation", include_str!("../library/lost-correlation.md")),
    ("memory-leak", include_str!("../library/memory-leak.md")),
    ("memory-pressure", include_str!("../library/memory-pressure.md")),
    ("network-failure", include_str!("../library/network-failure.md")),
    ("node-failure", include_str!("../library/node-failure.md")),
    ("oom-killed", include_str!("../library/oom-killed.md")),
    ("plugin-crash-loop", include_str!("../library/plugin-crash-loop.md")),
    ("queue-depth-growing", include_str!("../library/queue-depth-growing.md")),
    ("rate-limits", include_str!("../library/rate-limits.md")),
    ("redis-failure", include_str!("../library/redis-failure.md")),
    ("slow-query", include_str!("../library/slow-query.md")),
    ("spawn-failure", include_str!("../library/spawn-failure.md")),
    ("stuck-agent", include_str!("../library/stuck-agent.md")),
];

/// The text of a runbook of the library.
#[must_use]
pub fn find(name: &str) -> Option<&'static str> {
    LIBRARY.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}
