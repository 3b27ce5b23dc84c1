//! An agent that was stopped on purpose did not die: whoever watches it is told so before its process is missed.

use std::sync::{Arc, PoisonError, RwLock};

use paramedic_action::Call;
use paramedic_fleet::{AgentView, Fleet};
use paramedic_model::{AgentId, Event, Fact, Source, Timestamp};
use paramedic_runbook::execute::About;

use crate::intake::Intake;

pub(super) struct Ended {
    pub(super) fleet: Arc<RwLock<Fleet>>,
    pub(super) intake: Intake,
}

impl Ended {
    /// The agents whose process this call ends; none for most calls.
    pub(super) fn foreseen(&self, call: &Call) -> Vec<AgentView> {
        let fleet = self.fleet.read().unwrap_or_else(PoisonError::into_inner);
        match call.action.as_str() {
            "agent.stop" | "agent.kill" | "agent.restart" => {
                let agent = call.text("agent").ok().map(|agent| AgentId::from(agent.as_str()));
                agent.and_then(|agent| fleet.get(&agent).map(|found| fleet.view(found))).into_iter().collect()
            }
            "process.stop" | "process.kill" | "process.restart" => {
                let pid = call.count("pid").ok();
                let of =
                    |view: &AgentView| view.process.as_ref().is_some_and(|process| process.alive && Some(u64::from(process.pid)) == pid);
                fleet.views().into_iter().filter(of).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Says that their sessions ended, and by whom.
    pub(super) fn tell(&self, agents: Vec<AgentView>, about: &About, now: Timestamp) {
        let event = |view: AgentView| {
            let reason = format!("stopped by {} ({})", about.by, about.run);
            let mut event = Event::new(now, Source::Process, "stopped");
            event.session = view.session.as_deref().map(Into::into);
            event.agent = Some(view.id);
            event.text = reason.as_str().into();
            event.fact = Fact::SessionEnded { reason: Some(reason.into()) };
            event
        };
        let events: Vec<Event> = agents.into_iter().map(event).collect();
        if !events.is_empty() && !self.intake.offer(events) {
            tracing::warn!("the queue is full: an agent that was stopped will be told as one that died");
        }
    }
}
