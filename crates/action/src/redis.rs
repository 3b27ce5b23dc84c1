//! Redis: keys deleted by pattern after a census, settings with their way back, streams trimmed.

use serde::Deserialize;

/// Settings of these actions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {}
