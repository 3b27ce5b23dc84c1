//! Recorded sessions, read offline: the same parser, fleet, detectors and incident decisions as a running instance,
//! without a store.

use std::path::{Path, PathBuf};

use paramedic_collect::transcript;
use paramedic_detect::Detectors;
use paramedic_fleet::{Fleet, Prices};
use paramedic_model::{AgentId, AlertChange, Event, IncidentId, IncidentState, IncidentType, SessionId, Severity, Timestamp};
use paramedic_respond::record::SYSTEM_ACTOR;
use paramedic_respond::{Incident, IncidentCounts, Incidents, decide_alert, decide_due};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::intake::watch;
use crate::settings::Settings;

/// The report's shape; raised with every change of it.
pub const REPORT_VERSION: u32 = 1;
/// Reports kept for unchanged folders.
const CACHED_REPORTS_MAX: usize = 20;

/// What `paramedic analyze` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub v: u32,
    pub totals: Totals,
    pub agents: u64,
    pub sessions: usize,
    pub files: usize,
    pub bytes: u64,
    pub lines: u64,
    /// Lines that were not JSON of a transcript, with the first few named `file:line`.
    pub bad_lines: u64,
    pub bad_line_examples: Vec<String>,
    /// Files that could not be read, each with the reason.
    pub unreadable_files: Vec<String>,
    pub alerts: Vec<Alert>,
    pub incidents: Vec<IncidentReport>,
}

/// Tokens by kind and what they cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cache_read_tokens: u64,
    pub cache_creation_tokens: u64,
    /// US dollars of all calls whose model has a known price; none where no call has one.
    pub cost_usd: Option<f64>,
    pub prices_as_of: String,
    /// Models without a known price; their calls are in the tokens and not in the cost.
    pub unpriced_models: Vec<String>,
    pub unpriced_calls: u64,
}

/// One time that an alert was active. `severity` is none for a note, which opens no incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    pub detector: String,
    pub agent: AgentId,
    pub session: Option<SessionId>,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub severity: Option<Severity>,
    pub reason: String,
    pub incident: Option<IncidentId>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IncidentReport {
    pub id: IncidentId,
    #[serde(rename = "type")]
    pub incident_type: IncidentType,
    pub severity: Severity,
    pub state: IncidentState,
    pub started_at: Timestamp,
    pub detected_at: Timestamp,
    /// When the last alert ended.
    pub mitigated_at: Option<Timestamp>,
    pub resolved_at: Option<Timestamp>,
    pub title: String,
    pub agents: Vec<AgentId>,
    pub sessions: Vec<SessionId>,
    pub counts: IncidentCounts,
}

impl IncidentReport {
    #[must_use]
    pub fn of(incident: &Incident) -> Self {
        Self {
            id: incident.id.clone(),
            incident_type: incident.incident_type,
            severity: incident.severity,
            state: incident.state,
            started_at: incident.started_at,
            detected_at: incident.detected_at,
            mitigated_at: incident.mitigated_at,
            resolved_at: incident.resolved_at,
            title: incident.title.clone(),
            agents: incident.agents.iter().cloned().collect(),
            sessions: incident.sessions.iter().cloned().collect(),
            counts: incident.counts.clone(),
        }
    }
}

/// How far the reading is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub files_done: usize,
    pub files: usize,
    pub bytes_done: u64,
    pub bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    #[error("read {}: {why}", path.display())]
    Unreadable { path: PathBuf, why: String },
    #[error("read {}: there are no transcripts (*.jsonl) in it", path.display())]
    NoTranscripts { path: PathBuf },
}

/// Reads everything below `root` and reports.
pub fn analyze(root: &Path, settings: &Settings, prices: Prices, progress: &mut dyn FnMut(Progress)) -> Result<Report, AnalysisError> {
    let files = discover(root)?;
    let mut reading = Reading::new(settings, prices);
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    let mut bytes_done = 0;
    for (files_done, file) in files.iter().enumerate() {
        progress(Progress { files_done, files: files.len(), bytes_done, bytes });
        reading.read(&file.path);
        bytes_done += file.bytes;
    }
    progress(Progress { files_done: files.len(), files: files.len(), bytes_done, bytes });
    Ok(reading.finish(settings, files.len()))
}

fn discover(root: &Path) -> Result<Vec<transcript::TranscriptFile>, AnalysisError> {
    let unreadable = |why: String| AnalysisError::Unreadable { path: root.to_owned(), why };
    let mut files = transcript::discover(root).map_err(|error| unreadable(error.to_string()))?;
    if files.is_empty() {
        return Err(AnalysisError::NoTranscripts { path: root.to_owned() });
    }
    // A fixed order: which of two copies of a line is read first must not depend on the file system.
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// The stages, while files are read.
struct Reading {
    fleet: Fleet,
    detectors: Detectors,
    changes: Vec<AlertChange>,
    lines: u64,
    bytes: u64,
    bad_lines: u64,
    bad_line_examples: Vec<String>,
    unreadable_files: Vec<String>,
}

impl Reading {
    fn new(settings: &Settings, prices: Prices) -> Self {
        Self {
            fleet: Fleet::new(prices, settings.fleet),
            detectors: Detectors::new(settings.detect.clone()),
            changes: Vec::new(),
            lines: 0,
            bytes: 0,
            bad_lines: 0,
            bad_line_examples: Vec::new(),
            unreadable_files: Vec::new(),
        }
    }

    fn read(&mut self, path: &Path) {
        let options = transcript::ParseOptions { capture_text: false };
        let (fleet, detectors, changes) = (&mut self.fleet, &mut self.detectors, &mut self.changes);
        let mut take = |events: &mut Vec<Event>| {
            for event in events.drain(..) {
                let novelty = fleet.observe(&event);
                watch(detectors, novelty, &event, fleet.prices(), changes);
            }
        };
        match transcript::read_file(path, options, &mut take) {
            Ok(counts) => {
                self.bytes += counts.bytes;
                let counts = counts.counts;
                self.lines += counts.lines;
                self.bad_lines += counts.bad + counts.oversized;
                self.bad_line_examples.extend(counts.examples.iter().map(|bad| format!("{}:{} ({})", path.display(), bad.line, bad.what)));
                self.bad_line_examples.truncate(10);
            }
            Err(error) => self.unreadable_files.push(format!("{}: {error}", path.display())),
        }
    }

    fn finish(mut self, settings: &Settings, files: usize) -> Report {
        self.detectors.finish(&mut self.changes);
        let incidents = incidents_of(&mut self.changes, settings);
        let mut alerts: Vec<Alert> = incidents
            .alerts()
            .into_iter()
            .filter_map(|(episode, incident)| {
                Some(Alert {
                    detector: episode.detector,
                    agent: episode.agent?,
                    session: episode.session,
                    started_at: episode.started_at,
                    ended_at: episode.ended_at,
                    severity: episode.severity,
                    reason: episode.reason,
                    incident,
                })
            })
            .collect();
        alerts.sort_by(|a, b| (a.started_at, &a.detector, &a.agent).cmp(&(b.started_at, &b.detector, &b.agent)));
        let mut found: Vec<IncidentReport> = incidents.list().map(IncidentReport::of).collect();
        found.sort_by_key(|incident| incident.started_at);
        let totals = self.fleet.totals();
        let sessions: std::collections::HashSet<&str> =
            self.fleet.agents().map(|agent| agent.id().split('/').next().unwrap_or_default()).collect();
        Report {
            v: REPORT_VERSION,
            totals: totals_of(&totals, self.fleet.prices()),
            agents: totals.agents,
            sessions: sessions.len(),
            files,
            bytes: self.bytes,
            lines: self.lines,
            bad_lines: self.bad_lines,
            bad_line_examples: self.bad_line_examples,
            unreadable_files: self.unreadable_files,
            alerts,
            incidents: found,
        }
    }
}

fn totals_of(totals: &paramedic_fleet::Totals, prices: &Prices) -> Totals {
    Totals {
        input_tokens: totals.usage.input_tokens,
        output_tokens: totals.usage.output_tokens,
        cache_read_tokens: totals.usage.cache_read_tokens,
        cache_creation_tokens: totals.usage.cache_creation_tokens,
        cost_usd: totals.cost.usd,
        prices_as_of: prices.as_of().to_owned(),
        unpriced_models: totals.cost.unpriced_models.to_vec(),
        unpriced_calls: totals.cost.unpriced_calls,
    }
}

/// What the changes add up to, decided in the order of time as if they had been lived, until long after the last.
#[must_use]
pub fn incidents_of(changes: &mut [AlertChange], settings: &Settings) -> Incidents {
    changes.sort_by(|a, b| (a.at, a.started_at, &a.fingerprint).cmp(&(b.at, b.started_at, &b.fingerprint)));
    let mut incidents = Incidents::default();
    let apply = |incidents: &mut Incidents, now: Timestamp, records: Vec<paramedic_respond::Record>| {
        for record in &records {
            incidents.apply_record(0, now, SYSTEM_ACTOR, record);
        }
    };
    for change in changes.iter() {
        let due = decide_due(&incidents, change.at, &|_| true, &settings.incidents);
        apply(&mut incidents, change.at, due);
        let records = decide_alert(&incidents, change, change.at, &settings.incidents);
        apply(&mut incidents, change.at, records);
    }
    let end = Timestamp::from_micros(i64::MAX);
    let due = decide_due(&incidents, end, &|_| true, &settings.incidents);
    apply(&mut incidents, end, due);
    incidents
}

/// Names the state of a folder: program, settings, and every file's path, size and time of change. The same name
/// means the same report.
#[must_use]
pub fn fingerprint(root: &Path, settings: &Settings, prices: &Prices) -> Option<String> {
    let files = discover(root).ok()?;
    let mut hash = Xxh3::new();
    hash.update(format!("{REPORT_VERSION} {} {settings:?} {}", env!("CARGO_PKG_VERSION"), prices.as_of()).as_bytes());
    if let Ok(program) = std::env::current_exe().and_then(std::fs::metadata) {
        hash.update(format!("{} {:?}", program.len(), program.modified().ok()).as_bytes());
    }
    hash.update(std::path::absolute(root).unwrap_or_else(|_| root.to_owned()).as_os_str().as_encoded_bytes());
    for file in &files {
        let changed = std::fs::metadata(&file.path).and_then(|meta| meta.modified()).ok()?;
        hash.update(file.path.as_os_str().as_encoded_bytes());
        hash.update(format!("{} {changed:?}", file.bytes).as_bytes());
    }
    Some(format!("{:032x}", hash.digest128()))
}

/// The folder of kept reports: `$XDG_CACHE_HOME/paramedic/analyze`.
fn cache_dir() -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    from("XDG_CACHE_HOME").or_else(|| from("HOME").map(|home| home.join(".cache"))).map(|base| base.join("paramedic/analyze"))
}

/// The report of an earlier run on exactly this state.
#[must_use]
pub fn cached(fingerprint: &str) -> Option<Report> {
    let bytes = std::fs::read(cache_dir()?.join(format!("{fingerprint}.json"))).ok()?;
    serde_json::from_slice(&bytes).ok().filter(|report: &Report| report.v == REPORT_VERSION)
}

/// Keeps a report; the oldest are dropped. Failing to keep one costs only time, so it is no error.
pub fn keep(fingerprint: &str, report: &Report) {
    let Some(dir) = cache_dir() else { return };
    let Ok(text) = serde_json::to_vec(report) else { return };
    if std::fs::create_dir_all(&dir).is_err() {
        return;
    }
    let temporary = dir.join(format!("{fingerprint}.new-{}", std::process::id()));
    if std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, dir.join(format!("{fingerprint}.json")))).is_err() {
        let _ = std::fs::remove_file(&temporary);
        return;
    }
    let Ok(entries) = std::fs::read_dir(&dir) else { return };
    let mut kept: Vec<_> =
        entries.filter_map(Result::ok).filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect();
    kept.sort();
    let excess = kept.len().saturating_sub(CACHED_REPORTS_MAX);
    for (_, path) in kept.into_iter().take(excess) {
        let _ = std::fs::remove_file(path);
    }
}
