//! PostgreSQL: long transactions ended, statistics reset, settings changed and seen to apply.

use serde::Deserialize;

/// Settings of these actions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {}
