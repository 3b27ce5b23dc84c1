//! Facts without an id of their own: the same thing told by another source at nearly the same time is one fact.

use std::collections::VecDeque;

use paramedic_model::{Source, Timestamp};
use serde::{Deserialize, Serialize};

/// The gateway's bit. Those of the others are their numbers, and the ninth is taken by what telemetry tells twice.
pub(crate) const GATEWAY: u16 = 1 << 9;

/// The bit of a source.
pub(crate) const fn teller(source: Source) -> u16 {
    match source {
        Source::Gateway => GATEWAY,
        _ => 1 << source as u16,
    }
}

/// Facts remembered per agent.
const FACTS_MAX: usize = 16;

/// What kind of fact it is, as far as telling two apart matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    Prompt,
    TurnEnded,
    SessionStarted,
    SessionEnded,
    ModelCall,
    ModelError,
    ModelRetry,
    ToolCall,
    ToolResult,
    Waiting,
    Compaction,
    SubagentStarted,
    SubagentEnded,
}

/// One telling.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Telling {
    pub(crate) kind: Kind,
    /// The source's bit, or another one where a source tells the same thing twice by its nature.
    pub(crate) source: u16,
    pub(crate) at: Timestamp,
    /// A prompt or request id; 0 where unknown.
    pub(crate) id: u64,
    /// Class of error, number of the attempt, reason …; 0 agrees with every other.
    pub(crate) detail: u32,
    pub(crate) window_ms: i64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Fact {
    #[serde(rename = "k")]
    kind: Kind,
    #[serde(rename = "s")]
    sources: u16,
    #[serde(rename = "t")]
    at_us: i64,
    #[serde(rename = "i")]
    id: u64,
    #[serde(rename = "d")]
    detail: u32,
}

/// The latest facts of one agent.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Told(VecDeque<Fact>);

impl Told {
    /// Notes a telling; says whether the fact is new. A source tells a fact once, so two tellings of one source are
    /// two facts unless an id says otherwise.
    pub(crate) fn is_new(&mut self, telling: &Telling) -> bool {
        if self.joins(telling, u16::MAX) {
            return false;
        }
        self.note(telling);
        true
    }

    /// Remembers a telling of a fact that is new.
    pub(crate) fn note(&mut self, telling: &Telling) {
        if self.0.len() >= FACTS_MAX {
            self.0.pop_front();
        }
        let Telling { kind, source: sources, at, id, detail, .. } = *telling;
        self.0.push_back(Fact { kind, sources, at_us: at.as_micros(), id, detail });
    }

    /// Notes a telling of a fact that is known, if one is that only these sources told.
    pub(crate) fn joins(&mut self, telling: &Telling, only: u16) -> bool {
        self.join(telling, &[telling.kind], only).is_some()
    }

    /// The gateway sees a call fail; only the client knows whether it tries again. Notes the gateway's telling of a failure that
    /// the client told, whichever it was.
    pub(crate) fn joins_failure(&mut self, telling: &Telling) -> bool {
        self.join(telling, &[Kind::ModelRetry, Kind::ModelError], !GATEWAY).is_some()
    }

    /// Notes a client's telling of a failure that only the gateway told, and as the other kind: the client's word counts. Gives
    /// the time that the gateway told.
    pub(crate) fn corrects(&mut self, telling: &Telling) -> Option<i64> {
        let other = if telling.kind == Kind::ModelRetry { Kind::ModelError } else { Kind::ModelRetry };
        let fact = self.join(telling, &[other], GATEWAY)?;
        fact.kind = telling.kind;
        Some(fact.at_us)
    }

    /// Notes a telling of a failure by the conversation's own record. It knows more than the gateway (how often, how long it waits),
    /// so it is news once more. Gives the time that the gateway told, if nobody else has.
    pub(crate) fn details(&mut self, telling: &Telling) -> Option<i64> {
        self.join(telling, &[telling.kind], GATEWAY).map(|fact| fact.at_us)
    }

    /// Of the facts that it may be, the one with the same id, else the nearest in time: in a storm of failures each telling
    /// finds its own.
    fn join(&mut self, telling: &Telling, kinds: &[Kind], only: u16) -> Option<&mut Fact> {
        let fits = |fact: &&mut Fact| kinds.contains(&fact.kind) && fact.sources & !only == 0 && fact.is_told_by(telling);
        let far = |fact: &&mut Fact| (fact.id == 0 || fact.id != telling.id, fact.at_us.abs_diff(telling.at.as_micros()));
        let fact = self.0.iter_mut().rev().filter(fits).min_by_key(far)?;
        fact.sources |= telling.source;
        if fact.id == 0 {
            fact.id = telling.id;
        }
        if fact.detail == 0 {
            fact.detail = telling.detail;
        }
        Some(fact)
    }

    pub(crate) fn forget(&mut self) {
        self.0 = VecDeque::new();
    }
}

impl Fact {
    fn is_told_by(&self, telling: &Telling) -> bool {
        if self.id != 0 && telling.id != 0 {
            return self.id == telling.id;
        }
        self.sources & telling.source == 0
            && (self.detail == 0 || telling.detail == 0 || self.detail == telling.detail)
            && self.at_us.abs_diff(telling.at.as_micros()) <= telling.window_ms.unsigned_abs() * 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(told: &mut Told, source: u16, at_ms: i64, id: u64) -> bool {
        told.is_new(&Telling { kind: Kind::Prompt, source, at: Timestamp::from_millis(at_ms), id, detail: 0, window_ms: 2_000 })
    }

    #[test]
    fn two_sources_tell_two_quick_prompts_as_two() {
        let mut told = Told::default();
        assert!(tell(&mut told, 1, 0, 0));
        assert!(!tell(&mut told, 2, 100, 0));
        assert!(tell(&mut told, 1, 1_000, 0), "the same source tells a second one");
        assert!(!tell(&mut told, 2, 1_100, 0));
        assert!(tell(&mut told, 2, 1_200, 0));
    }

    #[test]
    fn an_id_is_learnt_from_whoever_knows_it() {
        let mut told = Told::default();
        assert!(tell(&mut told, 1, 0, 0), "a transcript knows no prompt id");
        assert!(!tell(&mut told, 2, 500, 7));
        assert!(!tell(&mut told, 4, 60_000, 7), "late, but it is the same id");
        assert!(tell(&mut told, 4, 700, 8), "another id is another prompt, however near");
    }
}
