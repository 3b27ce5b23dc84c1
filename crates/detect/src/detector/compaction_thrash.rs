//! The agent's context is compacted again and again.

use std::collections::VecDeque;
use std::time::Duration;

use paramedic_model::{AlertChange, Fact, IncidentType, Severity, Timestamp};
use serde::{Deserialize, Serialize};

use crate::alert::Alert;
use crate::catalogue::{Detector, DetectorInfo, Moment};
use crate::say;

/// Compactions remembered per agent.
const COMPACTIONS_KEPT: usize = 16;
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CompactionThrash {
    alert: Alert,
    /// When the last compactions happened, oldest first.
    at: VecDeque<Timestamp>,
}

impl Detector for CompactionThrash {
    const INFO: DetectorInfo = DetectorInfo {
        name: "compaction-thrash",
        title: "Compacting again and again",
        what: "The agent's context fills up and is compacted again and again, so that it keeps forgetting its work.",
        warns_at: "Notes 2 compactions within 10 minutes of each other, SEV3 from 3 such in a row or 4 in an hour; manual ones do not count; ends after an hour without one.",
        incident_type: IncidentType::Performance,
    };

    #[inline]
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        match &moment.event.fact {
            Fact::Compaction { trigger, tokens_before, tokens_after } if trigger.as_deref() != Some("manual") => {
                self.compacted(*tokens_before, *tokens_after, moment, out);
            }
            Fact::SessionEnded { .. } => self.alert.resolve(moment.told(), &Self::INFO, "the session ended", out),
            _ if self.alert.is_firing() && self.at.back().is_some_and(|last| moment.at.since(*last) >= HOUR) => {
                self.alert.resolve(moment.told(), &Self::INFO, "an hour passed without another", out);
            }
            _ => {}
        }
    }

    fn alert(&mut self) -> &mut Alert {
        &mut self.alert
    }
}

impl CompactionThrash {
    fn compacted(&mut self, before: Option<u64>, after: Option<u64>, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        if self.at.len() == COMPACTIONS_KEPT {
            self.at.pop_front();
        }
        self.at.push_back(moment.at);
        let settings = moment.settings;
        let close_s = Duration::from_secs(settings.compaction_close_s);
        let later_first = self.at.iter().rev();
        let close =
            1 + later_first.clone().zip(later_first.skip(1)).take_while(|(later, earlier)| later.since(**earlier) < close_s).count();
        let in_hour = self.at.iter().filter(|at| moment.at.since(**at) < HOUR).count();
        let critical = close >= settings.compaction_close_critical || in_hour > settings.compaction_hour_max;
        if !critical && close + 1 < settings.compaction_close_critical {
            return;
        }
        let counted = close.max(in_hour);
        let first = self.at[self.at.len() - counted];
        let active = self.alert.begin(first, IncidentType::Performance, || format!("context:{}", moment.who.agent));
        active.counts.occurrences = active.counts.occurrences.max(counted as u64 - 1) + 1;
        let sizes = before.zip(after).map_or_else(String::new, |(before, after)| format!(": {before} tokens became {after}"));
        active.show(moment.at, &format!("compaction{sizes}"));
        let reason = format!(
            "the context was compacted {} times in {}",
            active.counts.occurrences,
            say::duration(moment.at.since(active.started_at))
        );
        self.alert.fire(moment.told(), &Self::INFO, critical.then_some(Severity::Sev3), reason, out);
    }
}
