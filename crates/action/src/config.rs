//! Settings of the actions.

use serde::Deserialize;

/// Where actions find what they act on, and how patient they are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub process: crate::process::Settings,
    pub service: crate::service::Settings,
    pub redis: crate::redis::Settings,
    pub postgres: crate::postgres::Settings,
    pub kubernetes: crate::kubernetes::Settings,
    pub http: crate::http::Settings,
    pub flag: crate::flag::Settings,
    pub git: crate::git::Settings,
    pub restore: crate::restore::Settings,
}
