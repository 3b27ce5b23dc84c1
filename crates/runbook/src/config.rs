//! Settings of runbooks and their runs.

use serde::Deserialize;

use crate::execute;
use crate::gate::Policy;

/// Which runbooks there are, what starts them, and what holds them back.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Folders with a team's own runbooks. One with the id of ours stands in for it. Default: none.
    pub folders: Vec<std::path::PathBuf>,
    /// Whether the runbooks that come with Paramedic are there. Default: true.
    pub library: bool,
    /// Whether the runbook of a new incident starts by itself, its reading steps only. Default: true.
    pub start_on_incident: bool,
    /// Runs for incidents that are started in a minute; further incidents wait for a person to start theirs. Default: 30.
    pub starts_per_minute: u32,
    /// Steps of all runs that are carried out at once. Default: 4.
    pub steps_at_once: usize,
    /// Unattended changes in an hour, of the whole fleet, at which the brake trips. Default: 10.
    pub fleet_limit: u32,
    /// A file that stops everything while it is there (or, when its first word is `writes`, what changes something).
    /// Empty: `BRAKE` in the data folder.
    pub stop_file: String,
    /// What may change something unattended: runbook, cause, score and limits. Default: nothing.
    pub policies: Vec<Policy>,
    /// Where steps find programs and servers.
    pub execute: execute::Settings,
}

impl Settings {
    /// Whether all that differs from `before` is what a reload takes: folders, the library and policies.
    #[must_use]
    pub fn is_taken_after(&self, before: &Self) -> bool {
        let taken = Self { folders: self.folders.clone(), library: self.library, policies: self.policies.clone(), ..before.clone() };
        *self == taken
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            folders: Vec::new(),
            library: true,
            start_on_incident: true,
            starts_per_minute: 30,
            steps_at_once: 4,
            fleet_limit: 10,
            stop_file: String::new(),
            policies: Vec::new(),
            execute: execute::Settings::default(),
        }
    }
}
