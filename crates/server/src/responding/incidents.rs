//! Incidents get their runbook: found by what fired, started with what is known, ended when the incident is over.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use paramedic_fleet::Fleet;
use paramedic_journal::Tail;
use paramedic_model::{AgentId, AlertChange, AlertState, Clock, IncidentId, IncidentKind, IncidentState, Level};
use paramedic_respond::{Desk, Incident, Record};
use paramedic_runbook::desk::{RunLine, StartRun};
use paramedic_runbook::gate::Person;
use paramedic_runbook::shelf::{Shelf, Wanted};
use paramedic_runbook::{DeskError, RunDesk};
use paramedic_telemetry::{Search, Store};
use tokio_util::sync::CancellationToken;

/// Lines of the agents' own errors that a run is told.
const ERRORS_MAX: usize = 40;
/// How far back they are looked for before the onset.
const ERRORS_BEFORE: Duration = Duration::from_secs(600);
/// An incident that is older when this instance starts gets no run by itself.
const LATE: Duration = Duration::from_secs(3_600);
/// Alerts that are remembered as told.
const TOLD_MAX: usize = 10_000;

/// Follows the journal and gives incidents their runbooks.
pub(super) struct Follower {
    pub(super) runs: Arc<RunDesk>,
    pub(super) desk: Arc<Desk>,
    pub(super) fleet: Arc<RwLock<Fleet>>,
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    /// Alerts that a run was told of.
    pub(super) told: Mutex<HashSet<String>>,
}

impl Follower {
    pub(super) async fn run(self, mut tail: Tail, stop: CancellationToken) {
        self.take_up().await;
        loop {
            let entry = tokio::select! {
                () = stop.cancelled() => return,
                entry = tail.next() => entry,
            };
            match entry {
                Ok(Some(entry)) => {
                    if let Ok(Some(record)) = Record::from_entry(&entry) {
                        self.take(&record).await;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, "the journal cannot be followed; runbooks are tried again in a moment");
                    tokio::time::sleep(Duration::from_secs(2)).await;
                }
            }
        }
    }

    /// Incidents that were opened just before the last end of the process and got no run.
    async fn take_up(&self) {
        let now = self.clock.now();
        let known: Vec<String> = self.runs.lines(|_| true).into_iter().filter_map(|line| line.incident).collect();
        let open: Vec<IncidentId> = {
            let incidents = self.desk.incidents().await;
            let fresh = |incident: &&&Incident| now.since(incident.detected_at) < LATE && !known.contains(&incident.id.0);
            incidents.open().iter().filter(fresh).map(|incident| incident.id.clone()).collect()
        };
        for id in open {
            self.begin(&id).await;
        }
    }

    async fn take(&self, record: &Record) {
        match record {
            Record::IncidentOpened { incident, kind, .. } if *kind != IncidentKind::Backfill => self.begin(incident).await,
            // That an alert ended speaks for no cause, and needs no runbook.
            Record::AlertChanged { alert, incident: Some(incident) } | Record::AlertAdopted { alert, incident }
                if alert.state == AlertState::Firing =>
            {
                if !self.has_run(incident, |_| true) {
                    self.begin_late(incident).await;
                } else if self.is_news(incident, alert) {
                    let mut lines = vec![format!("{}: {}", alert.name(), alert.reason)];
                    lines.extend(alert.evidence.iter().map(|evidence| evidence.text.clone()));
                    self.tell(incident, &lines).await;
                }
            }
            // It came back: what was found then may not be what is wrong now.
            Record::StateChanged {
                incident,
                from: IncidentState::Resolved | IncidentState::Closed | IncidentState::Cancelled,
                to: IncidentState::Investigating,
                ..
            } if !self.has_run(incident, |line| line.ended_at.is_none()) => self.begin_late(incident).await,
            Record::StateChanged {
                incident,
                to: to @ (IncidentState::Resolved | IncidentState::Closed | IncidentState::Cancelled),
                ..
            } => self.end(incident, to.as_str()).await,
            Record::Merged { incident, into } => self.end(incident, &format!("merged into {into}")).await,
            _ => {}
        }
    }

    fn has_run(&self, incident: &IncidentId, matching: impl Fn(&RunLine) -> bool) -> bool {
        !self.runs.lines(|line| line.incident.as_deref() == Some(incident.0.as_str()) && matching(line)).is_empty()
    }

    /// An alert that goes on with other numbers is no news.
    fn is_news(&self, incident: &IncidentId, alert: &AlertChange) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= TOLD_MAX {
            told.clear();
        }
        told.insert(format!("{incident} {} {}", alert.fingerprint, alert.started_at))
    }

    /// An incident without a run that got another alert: perhaps that one names a runbook.
    async fn begin_late(&self, id: &IncidentId) {
        let open = {
            let incidents = self.desk.incidents().await;
            incidents.get(id).is_some_and(|incident| incident.state.is_open() && incident.kind != IncidentKind::Backfill)
        };
        if open {
            self.begin(id).await;
        }
    }

    async fn tell(&self, incident: &IncidentId, lines: &[String]) {
        let fix_begun = self.runs.lines(|line| line.incident.as_deref() == Some(incident.0.as_str()) && line.changes > 0);
        // Once something was changed, what is seen belongs to whether it helped, which is verified anyway.
        if fix_begun.is_empty()
            && let Err(error) = self.runs.tell_incident(&incident.0, lines).await
        {
            tracing::warn!(%incident, %error, "a run could not be told what was seen");
        }
    }

    async fn begin(&self, id: &IncidentId) {
        let Some(incident) = self.desk.incidents().await.get(id).cloned() else { return };
        let shelf = self.runs.shelf();
        let Some(runbook) = choose(&shelf, &incident) else { return };
        let known = self.known(&incident);
        let asked = |name: &&String| runbook.inputs.contains_key(*name);
        let inputs: BTreeMap<String, String> =
            known.iter().filter(|(name, _)| asked(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
        let start = StartRun {
            mode: self.runs.mode_for(&runbook.id),
            runbook: runbook.id.clone(),
            target: known.get("agent").or_else(|| known.get("instance")).or_else(|| known.get("service")).cloned().unwrap_or_default(),
            incident: Some(id.0.clone()),
            by: Person { name: "paramedic".to_owned(), roles: Vec::new(), machine: true },
            inputs,
            observed: self.observed(&incident).await,
        };
        match self.runs.start_for_incident(start).await {
            Ok(run) => tracing::info!(incident = %id, run = run.line.id, runbook = run.line.runbook, "runbook started"),
            Err(DeskError::Refused { why, .. }) => tracing::warn!(incident = %id, why, "no runbook was started"),
            Err(error) => tracing::error!(incident = %id, %error, "no runbook was started"),
        }
    }

    /// What the incident says about itself, by the names that inputs use.
    fn known(&self, incident: &Incident) -> BTreeMap<String, String> {
        let mut known = BTreeMap::new();
        let firing = incident.firing().chain(incident.episodes.iter().rev());
        for episode in firing {
            for (name, value) in episode.rule.iter().flat_map(|rule| &rule.labels) {
                known.entry(name.clone()).or_insert_with(|| value.clone());
            }
            if let Some(agent) = &episode.agent {
                known.entry("agent".to_owned()).or_insert_with(|| agent.to_string());
            }
            if let Some(session) = &episode.session {
                known.entry("session".to_owned()).or_insert_with(|| session.to_string());
            }
        }
        if let Some(agent) = incident.agents.first() {
            known.entry("agent".to_owned()).or_insert_with(|| agent.to_string());
        }
        if let Some(job) = known.get("job").cloned() {
            known.entry("service".to_owned()).or_insert(job);
        }
        known.insert("incident".to_owned(), incident.id.0.clone());
        let agent = known.get("agent").cloned();
        if let Some(agent) = agent {
            let fleet = self.fleet.read().unwrap_or_else(PoisonError::into_inner);
            let process =
                fleet.get(&AgentId::from(agent.as_str())).and_then(|found| fleet.view(found).process).filter(|process| process.alive);
            if let Some(process) = process
                && let Some(started) = process.started
            {
                known.entry("pid".to_owned()).or_insert_with(|| process.pid.to_string());
                known.entry("started".to_owned()).or_insert_with(|| started.to_string());
            }
        }
        known
    }

    /// What was seen: the alerts with their evidence, and what the agents themselves said went wrong.
    async fn observed(&self, incident: &Incident) -> Vec<String> {
        let mut lines = paramedic_api::operations::incidents::observed(incident);
        let searches: Vec<Search> = incident
            .agents
            .iter()
            .take(5)
            .map(|agent| Search {
                from: Some(incident.started_at.before(ERRORS_BEFORE)),
                agent: Some(agent.to_string()),
                level_min: Some(Level::Error),
                limit: ERRORS_MAX,
                ..Search::default()
            })
            .collect();
        let store = self.store.clone();
        let found = tokio::task::spawn_blocking(move || {
            let pages = searches.iter().filter_map(|search| store.search(search).ok());
            pages.flat_map(|page| page.events).map(|stored| String::from(stored.event.text)).take(ERRORS_MAX).collect::<Vec<_>>()
        });
        lines.extend(found.await.unwrap_or_default());
        lines.dedup();
        lines
    }

    /// The incident is over: runs that only wait are called off. What changed something goes on to its own end.
    async fn end(&self, incident: &IncidentId, why: &str) {
        let waits = |line: &RunLine| line.ended_at.is_none() && line.changes == 0 && line.incident.as_deref() == Some(incident.0.as_str());
        for line in self.runs.lines(waits) {
            let by = Person { name: "paramedic".to_owned(), roles: Vec::new(), machine: true };
            if let Err(error) = self.runs.call_off(&line.id, by, &format!("{incident} is {why}")).await {
                tracing::warn!(%incident, run = line.id, %error, "a run could not be called off");
            }
        }
    }
}

/// The runbook for an incident.
fn choose(shelf: &Shelf, incident: &Incident) -> Option<Arc<paramedic_runbook::Runbook>> {
    let mut wanted = Wanted::default();
    for episode in incident.firing().chain(incident.episodes.iter()) {
        // That a call failed for good says little; by what it failed says which runbook is right.
        if matches!(episode.name(), "api-terminal-error" | "retries-exhausted") {
            wanted.alerts.push(incident.incident_type.as_str());
        }
        wanted.alerts.push(episode.name());
        if let Some(rule) = &episode.rule {
            let named = rule.annotations.get("runbook").into_iter();
            // A URL names the runbook by its last part.
            let by_url =
                rule.annotations.get("runbook_url").and_then(|url| url.rsplit('/').next()).map(|last| last.trim_end_matches(".md"));
            wanted.named.extend(named.map(String::as_str).chain(by_url));
            wanted.services.extend(rule.labels.get("service").or_else(|| rule.labels.get("job")).map(String::as_str));
        }
    }
    let by_type = incident.incident_type.as_str();
    wanted.alerts.push(by_type);
    shelf.choose(&wanted).map(|found| found.runbook.clone())
}
