//! What the incident stage writes into the journal: one record per entry, [`FORMAT_VERSION`].
//!
//! A payload is `{"v":1,"record":"…", …}`. The entry's `at` is when it was written; times inside the record are when
//! the thing happened.

use paramedic_journal::{Draft, Entry};
use paramedic_model::{
    AgentId, AlertChange, Fingerprint, IncidentId, IncidentKind, IncidentState, IncidentType, Moment, Phase, Role, Severity, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::attachments::Attachment;
use crate::clocks::Timer;
use crate::runs::RunStage;

/// The version that is written. Every version that was ever written can be read. In version 1 every alert named an agent and
/// none came from a rule; before version 3 there were no roles, timers, checklists, attachments, splits and runs.
pub const FORMAT_VERSION: u64 = 3;

/// The actor of everything that Paramedic decides by itself.
pub const SYSTEM_ACTOR: &str = "paramedic";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Record {
    /// A detector raised, changed or ended an alert; with the incident it belongs to, if any.
    AlertChanged {
        alert: AlertChange,
        incident: Option<IncidentId>,
    },
    IncidentOpened {
        incident: IncidentId,
        incident_type: IncidentType,
        severity: Severity,
        title: String,
        cause: String,
        kind: IncidentKind,
        started_at: Timestamp,
        detected_at: Timestamp,
        agents: Vec<AgentId>,
    },
    /// A note that came before its incident is taken into it.
    AlertAdopted {
        incident: IncidentId,
        alert: AlertChange,
    },
    SeverityChanged {
        incident: IncidentId,
        from: Severity,
        to: Severity,
        at: Timestamp,
        reason: String,
        by_hand: bool,
    },
    TitleChanged {
        incident: IncidentId,
        to: String,
    },
    StateChanged {
        incident: IncidentId,
        from: IncidentState,
        to: IncidentState,
        at: Timestamp,
        reason: String,
    },
    Acknowledged {
        incident: IncidentId,
        at: Timestamp,
    },
    Noted {
        incident: IncidentId,
        text: String,
    },
    Merged {
        incident: IncidentId,
        into: IncidentId,
    },
    /// Written to the incident that another was merged into.
    MergedFrom {
        incident: IncidentId,
        from: IncidentId,
    },
    /// Alerts went to an incident of their own.
    SplitInto {
        incident: IncidentId,
        into: IncidentId,
        alerts: Vec<Fingerprint>,
    },
    /// Written to the incident that the alerts went to; it gets the later ones of the same fingerprints too.
    SplitFrom {
        incident: IncidentId,
        from: IncidentId,
        alerts: Vec<Fingerprint>,
    },
    /// Assigned (`to`), released (`from`) or handed over (both).
    RoleChanged {
        incident: IncidentId,
        role: Role,
        from: Option<String>,
        to: Option<String>,
        at: Timestamp,
        note: String,
    },
    KindChanged {
        incident: IncidentId,
        from: IncidentKind,
        to: IncidentKind,
        reason: String,
    },
    /// A person corrected a time.
    BackDated {
        incident: IncidentId,
        what: Moment,
        from: Timestamp,
        to: Timestamp,
        reason: String,
    },
    /// A timer ran out and somebody more is called.
    Escalated {
        incident: IncidentId,
        timer: Timer,
        level: u8,
        who: String,
        why: String,
        at: Timestamp,
        /// A rehearsal: whoever is called has to be told so.
        drill: bool,
    },
    /// A timer ran out, and it is left to people what to do.
    Warned {
        incident: IncidentId,
        timer: Timer,
        text: String,
        at: Timestamp,
    },
    /// A phase took longer than its time box.
    Overran {
        incident: IncidentId,
        phase: Phase,
        limit_s: u64,
        at: Timestamp,
    },
    /// An item of the checklist was ticked by hand, or the tick was taken back.
    Ticked {
        incident: IncidentId,
        item: String,
        done: bool,
        at: Timestamp,
    },
    Attached {
        incident: IncidentId,
        attachment: Attachment,
        /// The text, or base64 of it, as `attachment.encoding` says.
        content: String,
    },
    /// A run of a runbook came to a stage that matters to the incident.
    RunNoted {
        incident: IncidentId,
        run: String,
        runbook: String,
        what: RunStage,
        detail: String,
        /// No person had to approve what it changed.
        unattended: bool,
        at: Timestamp,
    },
}

#[derive(Serialize, Deserialize)]
struct Versioned<R> {
    v: u64,
    #[serde(flatten)]
    record: R,
}

/// The entry is not one of ours or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("journal entry {seq} has format version {version}, newer than {FORMAT_VERSION}: a newer paramedic wrote it")]
    Newer { seq: u64, version: u64 },
    #[error("journal entry {seq} ({kind}) cannot be read: {why}")]
    Unreadable { seq: u64, kind: String, why: String },
}

impl Record {
    /// The word that the entry's kind says.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::AlertChanged { .. } => "alert-changed",
            Self::IncidentOpened { .. } => "incident-opened",
            Self::AlertAdopted { .. } => "alert-adopted",
            Self::SeverityChanged { .. } => "severity-changed",
            Self::TitleChanged { .. } => "title-changed",
            Self::StateChanged { .. } => "state-changed",
            Self::Acknowledged { .. } => "acknowledged",
            Self::Noted { .. } => "noted",
            Self::Merged { .. } => "merged",
            Self::MergedFrom { .. } => "merged-from",
            Self::SplitInto { .. } => "split-into",
            Self::SplitFrom { .. } => "split-from",
            Self::RoleChanged { .. } => "role-changed",
            Self::KindChanged { .. } => "kind-changed",
            Self::BackDated { .. } => "back-dated",
            Self::Escalated { .. } => "escalated",
            Self::Warned { .. } => "warned",
            Self::Overran { .. } => "overran",
            Self::Ticked { .. } => "ticked",
            Self::Attached { .. } => "attached",
            Self::RunNoted { .. } => "run-noted",
        }
    }

    /// The incident it is about.
    #[must_use]
    pub const fn incident(&self) -> Option<&IncidentId> {
        match self {
            Self::AlertChanged { incident, .. } => incident.as_ref(),
            Self::IncidentOpened { incident, .. }
            | Self::AlertAdopted { incident, .. }
            | Self::SeverityChanged { incident, .. }
            | Self::TitleChanged { incident, .. }
            | Self::StateChanged { incident, .. }
            | Self::Acknowledged { incident, .. }
            | Self::Noted { incident, .. }
            | Self::Merged { incident, .. }
            | Self::MergedFrom { incident, .. }
            | Self::SplitInto { incident, .. }
            | Self::SplitFrom { incident, .. }
            | Self::RoleChanged { incident, .. }
            | Self::KindChanged { incident, .. }
            | Self::BackDated { incident, .. }
            | Self::Escalated { incident, .. }
            | Self::Warned { incident, .. }
            | Self::Overran { incident, .. }
            | Self::Ticked { incident, .. }
            | Self::Attached { incident, .. }
            | Self::RunNoted { incident, .. } => Some(incident),
        }
    }

    /// `incident/INC-7`, or `alert/<fingerprint>` for an alert that belongs to no incident.
    #[must_use]
    pub fn subject(&self) -> String {
        match (self.incident(), self) {
            (Some(incident), _) => incident_subject(incident),
            (None, Self::AlertChanged { alert, .. }) => format!("alert/{}", alert.fingerprint),
            (None, _) => String::new(),
        }
    }

    #[must_use]
    pub fn into_draft(self, actor: &str, now: Timestamp) -> Draft {
        let (kind, subject) = (self.kind().to_owned(), self.subject());
        let payload = serde_json::to_value(Versioned { v: FORMAT_VERSION, record: self }).unwrap_or_default();
        Draft { at: now, kind, subject, actor: actor.to_owned(), payload }
    }

    /// `None` for entries of other stages.
    pub fn from_entry(entry: &Entry) -> Result<Option<Self>, RecordError> {
        if !(entry.subject.starts_with("incident/") || entry.subject.starts_with("alert/")) {
            return Ok(None);
        }
        let version = entry.payload.get("v").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if version > FORMAT_VERSION {
            return Err(RecordError::Newer { seq: entry.seq, version });
        }
        Versioned::<Self>::deserialize(&entry.payload).map(|versioned| Some(versioned.record)).map_err(|error| RecordError::Unreadable {
            seq: entry.seq,
            kind: entry.kind.clone(),
            why: error.to_string(),
        })
    }
}

/// The journal subject whose entries are an incident's timeline.
#[must_use]
pub fn incident_subject(incident: &IncidentId) -> String {
    format!("incident/{incident}")
}
