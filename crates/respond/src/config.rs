//! Settings of the incident stage.

use std::time::Duration;

use paramedic_model::{IncidentKind, Phase};
use serde::{Deserialize, Serialize};

/// When incidents join, resolve, grow and call for more people. How soon somebody has to acknowledge follows from the
/// severity alone: 5 min, 15 min, 1 h, 24 h.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seconds without an active alert before an incident is resolved. Default 900.
    pub quiet_window_s: u64,
    /// Seconds after it was resolved in which the same cause re-opens an incident instead of opening another.
    /// Default 1800.
    pub reopen_window_s: u64,
    /// Seconds that nothing more may have arrived about an incident of the past before it is resolved; only matters
    /// while history is being read. Default 10.
    pub settle_s: u64,
    /// Seconds after which a continuing alert with new counts is written to the journal again. Default 5.
    pub update_every_s: u64,
    /// Affected agents from which an incident is at least SEV2. Default 3.
    pub sev2_agents: usize,
    /// Agents whose turn failed for good from which an incident is SEV1. Default 5.
    pub sev1_failed_agents: usize,
    /// Affected users from which an incident is at least SEV2; 0: users do not count. Default 10.
    pub sev2_users: usize,
    /// Affected users from which an incident is SEV1; 0: users do not count. Default 100.
    pub sev1_users: usize,
    /// An incident whose onset is older than this many seconds when it is first seen was read from history and is
    /// kept as such. Default 3600.
    pub backfill_after_s: u64,
    /// Seconds without mitigation after which the secondary is called for a SEV1 or SEV2; 0: never. Default 900.
    pub secondary_after_s: u64,
    /// Seconds without mitigation after which a SEV2 becomes a SEV1; 0: never. Default 1800.
    pub sev1_after_s: u64,
    /// People in the response above which it is time to split the work. Default 8.
    pub span_of_control: usize,
    /// How long each phase may take.
    pub time_boxes: TimeBoxes,
    /// How long each phase may take in a drill. A key that is left out of a table that is given has the value of a real
    /// incident.
    pub drill_time_boxes: TimeBoxes,
}

/// How long each phase may take, in seconds; 0: it has no time box.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeBoxes {
    /// From the detection until somebody acknowledged. Default 300 (drill: 300).
    pub detection_s: u64,
    /// From there until the cause is named. Default 600 (drill: 300).
    pub investigation_s: u64,
    /// From there until no alert is active. Default 900 (drill: 300).
    pub mitigation_s: u64,
    /// From there until it is resolved. Default 1800 (drill: 1200).
    pub resolution_s: u64,
    /// From there until it is closed, for SEV1 and SEV2, whose postmortem is due. Default 86400 (drill: 0).
    pub postmortem_s: u64,
}

impl Default for TimeBoxes {
    fn default() -> Self {
        Self { detection_s: 300, investigation_s: 600, mitigation_s: 900, resolution_s: 1800, postmortem_s: 86_400 }
    }
}

impl TimeBoxes {
    /// Detected and named within ten minutes, mitigated within fifteen, with a quiet window of its own.
    const DRILL: Self = Self { detection_s: 300, investigation_s: 300, mitigation_s: 300, resolution_s: 1200, postmortem_s: 0 };

    #[must_use]
    pub const fn of(&self, phase: Phase) -> u64 {
        match phase {
            Phase::Detection => self.detection_s,
            Phase::Investigation => self.investigation_s,
            Phase::Mitigation => self.mitigation_s,
            Phase::Resolution => self.resolution_s,
            Phase::Postmortem => self.postmortem_s,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            quiet_window_s: 900,
            reopen_window_s: 1800,
            settle_s: 10,
            update_every_s: 5,
            sev2_agents: 3,
            sev1_failed_agents: 5,
            sev2_users: 10,
            sev1_users: 100,
            backfill_after_s: 3600,
            secondary_after_s: 900,
            sev1_after_s: 1800,
            span_of_control: 8,
            time_boxes: TimeBoxes::default(),
            drill_time_boxes: TimeBoxes::DRILL,
        }
    }
}

impl Settings {
    #[must_use]
    pub const fn quiet_window(&self) -> Duration {
        Duration::from_secs(self.quiet_window_s)
    }

    #[must_use]
    pub const fn reopen_window(&self) -> Duration {
        Duration::from_secs(self.reopen_window_s)
    }

    #[must_use]
    pub const fn boxes(&self, kind: IncidentKind) -> &TimeBoxes {
        match kind {
            IncidentKind::Drill => &self.drill_time_boxes,
            IncidentKind::Real | IncidentKind::Backfill => &self.time_boxes,
        }
    }
}
