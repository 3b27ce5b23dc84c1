//! The agent's context grows by leaps.

use paramedic_model::{AlertChange, Event, Fact, IncidentType, Source};
use serde::{Deserialize, Serialize};

use super::looping::border_words;
use crate::alert::Alert;
use crate::catalogue::{Detector, DetectorInfo, Moment};

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ContextGrowth {
    alert: Alert,
    /// Tokens at the first model call of the turn and at the last one; 0 before there was one.
    at_turn: u64,
    last: u64,
}

impl Detector for ContextGrowth {
    const INFO: DetectorInfo = DetectorInfo {
        name: "context-growth",
        title: "Context grows by leaps",
        what: "One call put a great lot into the agent's context, or one turn multiplied it.",
        warns_at: "Only ever notes: 50,000 tokens from one model call to the next, or 4 times and 50,000 tokens within a turn; ends with the turn or a compaction.",
        incident_type: IncidentType::Performance,
    };

    #[inline]
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        match &moment.event.fact {
            Fact::ModelCall { usage, .. } if moment.step.answered && !usage.is_zero() && is_one_conversation(moment.event) => {
                self.called(usage.context_tokens(), moment, out);
            }
            Fact::Compaction { .. } => {
                (self.at_turn, self.last) = (0, 0);
                self.alert.resolve(moment.told(), &Self::INFO, "the context was compacted", out);
            }
            _ if moment.step.turn_border => {
                self.at_turn = 0;
                self.alert.resolve(moment.told(), &Self::INFO, border_words(moment.event), out);
            }
            _ => {}
        }
    }

    fn alert(&mut self) -> &mut Alert {
        &mut self.alert
    }
}

/// Behind a user or a key that the gateway names for want of a session are many conversations.
fn is_one_conversation(event: &Event) -> bool {
    event.source != Source::Gateway || event.session.is_some()
}

impl ContextGrowth {
    fn called(&mut self, now: u64, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        let before = std::mem::replace(&mut self.last, now);
        if self.at_turn == 0 {
            self.at_turn = now;
        }
        let settings = moment.settings;
        let jumped = before > 0 && now.saturating_sub(before) >= settings.context_jump_tokens;
        let grown = now.saturating_sub(self.at_turn) >= settings.context_growth_tokens
            && now as f64 >= self.at_turn as f64 * settings.context_growth_factor;
        let news = jumped || (grown && !self.alert.is_firing());
        if !news {
            return;
        }
        let reason = if jumped {
            format!("the context grew by {} tokens in one call, to {now}", now - before)
        } else {
            format!("the context grew from {} to {now} tokens in one turn", self.at_turn)
        };
        let active = self.alert.begin(moment.at, IncidentType::Performance, || format!("context:{}", moment.who.agent));
        active.counts.occurrences += 1;
        active.show(moment.at, &reason);
        self.alert.fire(moment.told(), &Self::INFO, None, reason, out);
    }
}
