//! Services of the system: systemd and pm2.

use serde::Deserialize;

/// Settings of these actions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {}
