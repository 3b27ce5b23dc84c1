//! The agent's tool calls fail one after another.

use paramedic_model::{AlertChange, Fact, IncidentType, Severity, Timestamp, ToolOutcome};
use serde::{Deserialize, Serialize};

use super::looping::{border_words, cause};
use crate::alert::Alert;
use crate::catalogue::{Detector, DetectorInfo, Moment};
use crate::say;

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ToolErrorStreak {
    alert: Alert,
    errors: u64,
    first_at: Timestamp,
    /// The model message whose failure was counted last: calls made together fail together.
    batch: u64,
}

impl Detector for ToolErrorStreak {
    const INFO: DetectorInfo = DetectorInfo {
        name: "tool-error-streak",
        title: "Tool errors in a row",
        what: "The agent's tool calls fail one after another; a person's refusal and calls that were taken along do not count.",
        warns_at: "Notes 4 failed steps in a row, SEV3 from 5; ends with the first success, a prompt or the end of the turn.",
        incident_type: IncidentType::Timeout,
    };

    #[inline]
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        match &moment.event.fact {
            Fact::ToolResult { outcome: ToolOutcome::Error, tool, .. } => self.failed(tool.as_deref(), moment, out),
            Fact::ToolResult { outcome: ToolOutcome::Success, .. } => {
                self.errors = 0;
                self.alert.resolve(moment.told(), &Self::INFO, "a tool call succeeded", out);
            }
            _ if moment.step.turn_border => self.alert.resolve(moment.told(), &Self::INFO, border_words(moment.event), out),
            _ => {}
        }
    }

    fn alert(&mut self) -> &mut Alert {
        &mut self.alert
    }
}

impl ToolErrorStreak {
    fn failed(&mut self, tool: Option<&str>, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        let batch = moment.step.batch;
        if self.errors > 0 && batch != 0 && batch == self.batch {
            return;
        }
        self.batch = batch;
        self.errors += 1;
        if self.errors == 1 {
            self.first_at = moment.at;
        }
        let settings = moment.settings;
        if self.errors < u64::from(settings.tool_errors_note) {
            return;
        }
        let named = moment.step.completed.map(|i| moment.course.tool(&moment.course.calls[i])).or(tool).unwrap_or("a tool");
        let active = self.alert.begin(self.first_at, IncidentType::Timeout, || cause(moment.who.agent.as_str()));
        active.counts.occurrences = self.errors;
        active.show(
            moment.at,
            &if moment.event.text.is_empty() { format!("{named} failed") } else { format!("{named}: {}", moment.event.text) },
        );
        let critical = (self.errors >= u64::from(settings.tool_errors_critical)).then_some(Severity::Sev3);
        if active.severity.max(critical) != active.severity || say::worth_telling(self.errors) {
            let span = say::duration(moment.at.since(self.first_at));
            let reason = format!("{} tool calls in a row failed in {span}, the last one was {}", self.errors, say::shown(named));
            self.alert.fire(moment.told(), &Self::INFO, critical, reason, out);
        }
    }
}
