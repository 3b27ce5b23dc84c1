//! What changed, told to watchers of pages a few times a second.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use paramedic_api::Live;
use paramedic_fleet::Fleet;
use paramedic_model::{AgentId, AlertState, IncidentId};
use paramedic_respond::{Desk, Record};
use tokio::sync::broadcast;

use crate::intake::Announce;

/// Gathers what changed and tells it a few times a second, so that a busy fleet does not flood its watchers.
pub(crate) struct Announcer {
    pub(crate) live: broadcast::Sender<Live>,
    pub(crate) agents: Mutex<BTreeSet<AgentId>>,
    pub(crate) incidents: Mutex<BTreeSet<IncidentId>>,
    pub(crate) fleet: Arc<RwLock<Fleet>>,
    pub(crate) desk: Arc<Desk>,
}

/// Agents named in one announcement; beyond it a page looks again anyway.
const ANNOUNCED_AGENTS_MAX: usize = 200;

impl Announcer {
    pub(crate) async fn flush(&self) {
        let agents = std::mem::take(&mut *self.agents.lock().unwrap_or_else(PoisonError::into_inner));
        let incidents = std::mem::take(&mut *self.incidents.lock().unwrap_or_else(PoisonError::into_inner));
        if self.live.receiver_count() == 0 {
            return;
        }
        if !agents.is_empty() {
            let fleet = self.fleet.read().unwrap_or_else(PoisonError::into_inner);
            for agent in agents.into_iter().take(ANNOUNCED_AGENTS_MAX) {
                if let Some(found) = fleet.get(&agent) {
                    let _ = self.live.send(Live::AgentUpdated { state: fleet.state_of(found).0.as_str().to_owned(), agent });
                }
            }
        }
        if !incidents.is_empty() {
            let known = self.desk.incidents().await;
            for incident in incidents.iter().filter_map(|id| known.get(id)) {
                let _ = self.live.send(Live::IncidentUpdated {
                    incident: incident.id.clone(),
                    state: incident.state,
                    severity: incident.severity,
                    title: incident.title.clone(),
                });
            }
        }
    }
}

impl Announce for Announcer {
    fn agents(&self, agents: Vec<AgentId>) {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner).extend(agents);
    }

    fn records(&self, records: &[Record]) {
        let mut incidents = self.incidents.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            incidents.extend(record.incident().cloned());
            if let Record::AlertChanged { alert, .. } | Record::AlertAdopted { alert, .. } = record {
                let _ = self.live.send(Live::AlertUpdated {
                    detector: alert.rule.as_ref().map_or_else(|| alert.detector.clone().into_owned(), |rule| rule.name.clone()),
                    agent: alert.agent.clone(),
                    firing: alert.state == AlertState::Firing,
                    reason: alert.reason.clone(),
                    incident: record.incident().cloned(),
                });
            }
        }
    }
}
