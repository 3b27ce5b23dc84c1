//! Processes and agents: stopped, killed and restarted, named by number and start time.

use serde::Deserialize;

/// Settings of these actions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {}
