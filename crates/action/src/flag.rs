//! Feature flags: our own store, and another one over HTTP.

use serde::Deserialize;

/// Settings of these actions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {}
