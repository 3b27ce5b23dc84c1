//! What an incident is called: its type, state and kind.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `INC-<number>`: the journal position of the entry that opened it, so that it is unique and never reused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transparent)]
pub struct IncidentId(pub String);

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal / $title:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The name for people.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),+ }
            }

            #[must_use]
            pub fn from_name(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.as_str() == text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use named;

named! {
    /// The eight incident types of the production playbook, written as it writes them.
    IncidentType {
        ApiFailure = "api_failure" / "Model API failure",
        RateLimit = "rate_limit" / "Rate limit",
        Timeout = "timeout" / "Timeout or stuck agent",
        MemoryLeak = "memory_leak" / "Memory leak",
        PluginCrash = "plugin_crash" / "Plugin crash",
        DataCorruption = "data_corruption" / "Data corruption",
        Performance = "performance" / "Performance or cost",
        Authentication = "authentication" / "Authentication",
    }
}

named! {
    /// Where an incident is in its life. Acknowledgement is a time and a person, not a state.
    IncidentState {
        Triage = "triage" / "Triage",
        Investigating = "investigating" / "Investigating",
        Identified = "identified" / "Identified",
        Mitigated = "mitigated" / "Monitoring",
        Resolved = "resolved" / "Resolved",
        Closed = "closed" / "Closed",
        Cancelled = "cancelled" / "Cancelled",
        Merged = "merged" / "Merged",
    }
}

impl IncidentState {
    /// Open means that somebody may still have to do something.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Triage | Self::Investigating | Self::Identified | Self::Mitigated)
    }
}

impl IncidentState {
    /// Somebody has to act: open, and not only waiting for the quiet window to end.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Triage | Self::Investigating | Self::Identified)
    }
}

named! {
    /// Why the incident exists: it happened under our eyes, it was rehearsed, or it was read from history.
    IncidentKind {
        Real = "real" / "Real",
        Drill = "drill" / "Drill",
        Backfill = "backfill" / "From history",
    }
}

named! {
    /// What a person is in the response to an incident. All but responders are held by one person at a time.
    Role {
        /// Leads the response and decides; does not repair with their own hands.
        Commander = "commander" / "Commander",
        /// Tells those who have to know.
        Communications = "communications" / "Communications",
        /// Writes down what happens; Paramedic itself where nobody else does.
        Scribe = "scribe" / "Scribe",
        /// Works on it.
        Responder = "responder" / "Responder",
    }
}

named! {
    /// The parts of a response, in the order in which they come; each has a checklist and a time box.
    Phase {
        Detection = "detection" / "Detection",
        Investigation = "investigation" / "Investigation",
        Mitigation = "mitigation" / "Mitigation",
        Resolution = "resolution" / "Resolution",
        Postmortem = "postmortem" / "Postmortem",
    }
}

named! {
    /// A time of an incident that a person may correct afterwards.
    Moment {
        /// The onset.
        Started = "started" / "Started",
        Detected = "detected" / "Detected",
        Mitigated = "mitigated" / "Mitigated",
        Resolved = "resolved" / "Resolved",
    }
}

named! {
    /// Who made it stop.
    MitigatedBy {
        /// It ended before anybody, or any fix, had begun to work on it.
        Itself = "itself" / "By itself",
        /// A runbook whose fix nobody had to approve.
        Auto = "auto" / "Automatically",
        /// A person, by hand or by approving a fix.
        Person = "person" / "By a person",
    }
}
