//! What runs of runbooks count.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::classify::Effect;
use crate::gate::Decision;
use crate::run::{Ending, Record, Verdict};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempted {
    effect: &'static str,
    verdict: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    ending: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Held {
    decision: &'static str,
}

#[derive(Debug, Clone)]
pub struct Metrics {
    started: Counter,
    ended: Family<Ended, Counter>,
    steps: Family<Attempted, Counter>,
    held: Family<Held, Counter>,
    approvals: Counter,
    step_duration: Histogram,
    pub(crate) refused: Counter,
    pub(crate) unwritten: Counter,
    pub(crate) not_started: Counter,
    pub(crate) open: Gauge,
    pub(crate) reverts_due: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            started: Counter::default(),
            ended: Family::default(),
            steps: Family::default(),
            held: Family::default(),
            approvals: Counter::default(),
            step_duration: Histogram::new([0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0]),
            refused: Counter::default(),
            unwritten: Counter::default(),
            not_started: Counter::default(),
            open: Gauge::default(),
            reverts_due: Gauge::default(),
        }
    }
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("paramedic_runbook_runs_started", "Runs that were started", self.started.clone());
        registry.register("paramedic_runbook_runs_ended", "Runs that ended, by how", self.ended.clone());
        registry.register("paramedic_runbook_steps", "Attempts to carry a step out, by its effect and what came of it", self.steps.clone());
        registry.register("paramedic_runbook_held", "Steps that were held back, by the decision", self.held.clone());
        registry.register("paramedic_runbook_approvals", "Approvals of steps", self.approvals.clone());
        registry.register_with_unit("paramedic_runbook_step_duration", "Time that a step took", Unit::Seconds, self.step_duration.clone());
        registry.register("paramedic_runbook_refused", "Requests about runs that were refused", self.refused.clone());
        registry.register(
            "paramedic_runbook_unwritten",
            "Times a run stopped because its record could not be written",
            self.unwritten.clone(),
        );
        registry.register(
            "paramedic_runbook_not_started",
            "Incidents whose runbook was not started because too many came at once",
            self.not_started.clone(),
        );
        registry.register("paramedic_runbook_runs_open", "Runs that have not ended", self.open.clone());
        registry.register(
            "paramedic_runbook_reverts_due",
            "Changes that will be taken back when their time is over",
            self.reverts_due.clone(),
        );
    }

    pub(crate) fn count(&self, record: &Record, effect: Option<Effect>) {
        match record {
            Record::Started { .. } => {
                self.started.inc();
            }
            Record::Agreed { .. } => {
                self.approvals.inc();
            }
            Record::Held { decision, .. } => {
                self.held.get_or_create(&Held { decision: decision_name(decision) }).inc();
            }
            Record::Ended { outcome, .. } => {
                self.ended.get_or_create(&Ended { ending: ending_name(*outcome) }).inc();
            }
            Record::Done { done, dry, .. } => {
                let effect = match effect {
                    _ if *dry => "dry",
                    None | Some(Effect::Read) => "read",
                    Some(Effect::Write) => "write",
                    Some(Effect::Destroy) => "destroy",
                };
                let verdict = match done.verdict {
                    Verdict::Ok => "ok",
                    Verdict::Unexpected => "unexpected",
                    Verdict::Failed => "failed",
                };
                self.steps.get_or_create(&Attempted { effect, verdict }).inc();
                self.step_duration.observe(std::time::Duration::from_millis(done.ms).as_secs_f64());
            }
            _ => {}
        }
    }
}

const fn ending_name(ending: Ending) -> &'static str {
    match ending {
        Ending::Done => "done",
        Ending::TakenBack => "taken-back",
        Ending::Stopped => "stopped",
        Ending::CalledOff => "called-off",
    }
}

const fn decision_name(decision: &Decision) -> &'static str {
    match decision {
        Decision::Run { .. } => "run",
        Decision::DryRun { .. } => "dry-run",
        Decision::Ask { .. } => "ask",
        Decision::Wait { .. } => "wait",
        Decision::Refuse { .. } => "refuse",
    }
}
