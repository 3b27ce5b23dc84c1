//! Who hears of what runs do: watchers of pages at once, and the incident that a run belongs to.

use std::sync::Arc;

use paramedic_api::Live;
use paramedic_model::{Clock, IncidentId};
use paramedic_respond::{Desk, RunNote, RunStage};
use paramedic_runbook::classify::Effect;
use paramedic_runbook::desk::{Observer, Recorded};
use paramedic_runbook::execute::BoxFuture;
use paramedic_runbook::gate::Authority;
use paramedic_runbook::run::{Ending, Record};
use tokio::sync::broadcast;

pub(super) struct Watcher {
    live: broadcast::Sender<Live>,
    desk: Arc<Desk>,
    clock: Arc<dyn Clock>,
}

impl Watcher {
    pub(super) fn new(live: broadcast::Sender<Live>, desk: Arc<Desk>, clock: Arc<dyn Clock>) -> Self {
        Self { live, desk, clock }
    }

    fn tell(&self, run: &str, incident: Option<&str>, step: Option<&str>) {
        let _ = self.live.send(Live::RunUpdated {
            run: run.to_owned(),
            incident: incident.map(|id| IncidentId(id.to_owned())),
            step: step.map(str::to_owned),
        });
    }
}

impl Observer for Watcher {
    fn recorded<'a>(&'a self, recorded: &'a Recorded) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let line = &recorded.line;
            self.tell(&line.id, line.incident.as_deref(), step_of(&recorded.entry.record));
            let Some(incident) = &line.incident else { return };
            for (what, detail, score, unattended) in stages(recorded) {
                let note = RunNote {
                    incident: IncidentId(incident.clone()),
                    run: line.id.clone(),
                    runbook: line.runbook.clone(),
                    what,
                    detail,
                    score,
                    unattended,
                    by: recorded.actor.clone(),
                };
                if let Err(error) = self.desk.note_run(&note, self.clock.now()).await {
                    tracing::warn!(run = line.id, %error, "the incident was not told what a run did");
                }
            }
        })
    }

    fn said(&self, run: &str, incident: Option<&str>) {
        self.tell(run, incident, None);
    }
}

const fn step_of(record: &Record) -> Option<&str> {
    match record {
        Record::Chosen { step, .. }
        | Record::Again { step, .. }
        | Record::TakeBack { step, .. }
        | Record::Held { step, .. }
        | Record::Begun { step, .. }
        | Record::Done { step, .. }
        | Record::Skipped { step, .. }
        | Record::Interrupted { step, .. }
        | Record::LeftOut { step, .. }
        | Record::Reverting { step, .. }
        | Record::Reverted { step, .. }
        | Record::Verified { step, .. } => Some(step.as_str()),
        Record::Agreed { agreed } => Some(agreed.step.as_str()),
        _ => None,
    }
}

/// What a record means for the incident: stage, one line for people, the cause's score, whether nobody had to approve it.
fn stages(recorded: &Recorded) -> Vec<(RunStage, String, f64, bool)> {
    let plain = |what: RunStage, detail: String| vec![(what, detail, 0.0, false)];
    match &recorded.entry.record {
        Record::Started { title, .. } => plain(RunStage::Started, title.clone()),
        Record::Ranked { causes } => {
            let mut told = plain(RunStage::Investigated, String::new());
            if let Some(first) = causes.first().filter(|first| first.score > 0.0) {
                told.push((
                    RunStage::CauseNamed,
                    format!("{} ({:.0} %): {}", first.cause, first.score * 100.0, first.why),
                    first.score,
                    false,
                ));
            }
            told
        }
        Record::Begun { step, effect, dry: false, takes_back: None, authority, .. } if *effect > Effect::Read => {
            let unattended = matches!(authority, Authority::Policy { .. });
            vec![(RunStage::FixBegun, step.clone(), 0.0, unattended)]
        }
        Record::Verified { step, met: true, why } if recorded.line.changes > 0 => plain(RunStage::Verified, format!("{step}: {why}")),
        Record::Verified { step, met: false, why } if recorded.line.changes > 0 => {
            plain(RunStage::TakenBack, format!("{step} did not help: {why}"))
        }
        Record::Reverted { step, .. } => plain(RunStage::TakenBack, format!("{step}: its time is over")),
        Record::Ended { outcome, why } => {
            let word = match outcome {
                Ending::Done => "done",
                Ending::TakenBack => "taken back",
                Ending::Stopped => "stopped",
                Ending::CalledOff => "called off",
            };
            plain(RunStage::Ended, format!("{word}: {why}"))
        }
        _ => Vec::new(),
    }
}
