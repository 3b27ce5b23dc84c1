//! Which moves an incident may make, and in which order its times have to stand. Pure.

use paramedic_model::{IncidentState, Moment, Timestamp};

/// What a move depends on besides the two states.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// When the move is to have happened.
    pub at: Timestamp,
    /// The times that the incident has already.
    pub times: Times,
    /// An incident to merge into has been named.
    pub merges: bool,
}

/// The times of an incident. In order they are started, detected, acknowledged, mitigated, resolved, closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    pub started_at: Timestamp,
    pub detected_at: Timestamp,
    pub acknowledged_at: Option<Timestamp>,
    pub mitigated_at: Option<Timestamp>,
    pub resolved_at: Option<Timestamp>,
    pub closed_at: Option<Timestamp>,
    /// It ended before anybody worked on it: then an acknowledgement may come after the end without being wrong.
    pub mitigated_alone: bool,
}

/// Why a move or a time is refused. Completes "it cannot become X, because …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it is that already")]
    AlreadyThere,
    #[error("it is open already")]
    AlreadyOpen,
    #[error("it was merged into another incident; work on that one")]
    Merged,
    #[error("it was merged already")]
    MergedAlready,
    #[error("merging needs the incident to merge into")]
    NoMergeTarget,
    #[error("triage is only where an incident starts")]
    OnlyAtStart,
    #[error("it was cancelled; re-open it first")]
    Cancelled,
    #[error("it is closed; re-open it first")]
    Closed,
    #[error("it is resolved; re-open it first")]
    Resolved,
    #[error("only a resolved incident can be closed")]
    NotResolved,
    #[error("only an open incident can be acknowledged")]
    NotOpen,
    #[error("{later} at {later_at} would come before {earlier} at {earlier_at}")]
    OutOfOrder { earlier: &'static str, earlier_at: Timestamp, later: &'static str, later_at: Timestamp },
}

/// The state machine: whether an incident may go from one state to another.
///
/// Forward along triage, investigating, identified, mitigated, resolved, closed, where anything before resolved may be
/// passed over; back among the open ones; re-opened from resolved, closed and cancelled; cancelled from open and
/// resolved; merged from everything but merged.
pub fn next(from: IncidentState, to: IncidentState, facts: &Facts) -> Result<(), Refusal> {
    use IncidentState::{Cancelled, Closed, Identified, Investigating, Merged, Mitigated, Resolved, Triage};
    match (from, to) {
        (Merged, Merged) => Err(Refusal::MergedAlready),
        (Merged, _) => Err(Refusal::Merged),
        (_, Merged) if facts.merges => Ok(()),
        (_, Merged) => Err(Refusal::NoMergeTarget),
        (Triage, Triage)
        | (Investigating, Investigating)
        | (Identified, Identified)
        | (Mitigated, Mitigated)
        | (Resolved, Resolved)
        | (Closed, Closed)
        | (Cancelled, Cancelled) => Err(Refusal::AlreadyThere),
        (_, Triage) => Err(Refusal::OnlyAtStart),
        (Resolved | Closed | Cancelled, Investigating) => Ok(()),
        (Cancelled, Identified | Mitigated | Resolved | Closed) => Err(Refusal::Cancelled),
        (Closed, Identified | Mitigated | Resolved | Cancelled) => Err(Refusal::Closed),
        (Resolved, Identified | Mitigated) => Err(Refusal::Resolved),
        (Triage | Investigating | Identified | Mitigated, Closed) => Err(Refusal::NotResolved),
        (Triage | Investigating | Identified | Mitigated, Investigating | Identified)
        | (Triage | Investigating | Identified | Mitigated | Resolved, Cancelled) => Ok(()),
        (Triage | Investigating | Identified, Mitigated)
        | (Triage | Investigating | Identified | Mitigated, Resolved)
        | (Resolved, Closed) => facts.times.after(to, facts.at).check(),
    }
}

impl Times {
    /// The times as they would stand after the move.
    #[must_use]
    pub fn after(mut self, to: IncidentState, at: Timestamp) -> Self {
        match to {
            IncidentState::Mitigated => self.mitigated_at = Some(at),
            IncidentState::Resolved => {
                self.resolved_at = Some(at);
                self.mitigated_at.get_or_insert(at);
            }
            IncidentState::Closed => self.closed_at = Some(at),
            IncidentState::Triage | IncidentState::Investigating | IncidentState::Identified => {
                (self.mitigated_at, self.resolved_at, self.closed_at, self.mitigated_alone) = (None, None, None, false);
            }
            IncidentState::Cancelled | IncidentState::Merged => {}
        }
        self
    }

    /// The times with one of them corrected; `None` when the incident does not have that time.
    #[must_use]
    pub fn with(mut self, moment: Moment, at: Timestamp) -> Option<Self> {
        match moment {
            Moment::Started => self.started_at = at,
            Moment::Detected => self.detected_at = at,
            Moment::Mitigated => self.mitigated_at = self.mitigated_at.map(|_| at),
            Moment::Resolved => self.resolved_at = self.resolved_at.map(|_| at),
        }
        (self.of(moment) == Some(at)).then_some(self)
    }

    #[must_use]
    pub const fn of(&self, moment: Moment) -> Option<Timestamp> {
        match moment {
            Moment::Started => Some(self.started_at),
            Moment::Detected => Some(self.detected_at),
            Moment::Mitigated => self.mitigated_at,
            Moment::Resolved => self.resolved_at,
        }
    }

    /// The last of the times that are known: what comes next may not come before it.
    #[must_use]
    pub fn latest(&self) -> Timestamp {
        let known = [self.acknowledged_at, self.mitigated_at, self.resolved_at, self.closed_at];
        known.into_iter().flatten().fold(self.detected_at.max(self.started_at), Timestamp::max)
    }

    /// Refuses the first pair that stands in the wrong order.
    pub fn check(&self) -> Result<(), Refusal> {
        let chain = [
            ("started", Some(self.started_at)),
            ("detected", Some(self.detected_at)),
            ("acknowledged", self.acknowledged_at),
            ("mitigated", self.mitigated_at),
            ("resolved", self.resolved_at),
            ("closed", self.closed_at),
        ];
        let known = || chain.iter().filter_map(|(name, at)| at.map(|at| (*name, at)));
        for (i, (earlier, earlier_at)) in known().enumerate() {
            for (later, later_at) in known().skip(i + 1) {
                let excused = self.mitigated_alone && (earlier, later) == ("acknowledged", "mitigated");
                if later_at < earlier_at && !excused {
                    return Err(Refusal::OutOfOrder { earlier, earlier_at, later, later_at });
                }
            }
        }
        Ok(())
    }
}
