//! What was changed lately, as far as the journal knows: steps that changed something, flags, switches.

use std::collections::BTreeMap;
use std::time::Duration;

use paramedic_journal::{Entry, Journal, JournalError};
use paramedic_model::{Timestamp, text};
use paramedic_runbook::outcome::{Kept, Outcome};
use paramedic_runbook::predicate::Value;

/// Entries that are looked at, the newest ones.
const ENTRIES_MAX: u64 = 20_000;
/// A change this long before the onset, at most, is a suspect.
const SUSPECT: Duration = Duration::from_secs(30 * 60);
/// Changes that are shown.
const SHOWN_MAX: usize = 20;

/// Changes before an onset, the latest first.
pub(super) struct Changes {
    onset: Timestamp,
    all: Vec<(Timestamp, String)>,
}

/// Changes in a window before the onset, or before now where there is none.
pub(super) async fn recent(
    journal: &dyn Journal,
    onset: Option<Timestamp>,
    now: Timestamp,
    window: Duration,
) -> Result<Changes, JournalError> {
    let onset = onset.unwrap_or(now);
    let from = onset.before(window);
    let head = journal.head().await?;
    let mut after = head.saturating_sub(ENTRIES_MAX);
    let mut all = Vec::new();
    loop {
        let page = journal.read(after, 10_000).await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        let told = page.iter().filter(|entry| entry.at >= from && entry.at <= onset);
        all.extend(told.filter_map(|entry| Some((entry.at, describe(entry)?))));
    }
    all.reverse();
    Ok(Changes { onset, all })
}

fn describe(entry: &Entry) -> Option<String> {
    if entry.kind == "step-begun" {
        let record = entry.payload.get("record")?;
        let changes = record.get("effect").and_then(serde_json::Value::as_str) != Some("read");
        let real = record.get("dry").and_then(serde_json::Value::as_bool) == Some(false);
        let argv = record.get("argv").and_then(serde_json::Value::as_array)?;
        let argv: Vec<&str> = argv.iter().filter_map(serde_json::Value::as_str).collect();
        return (changes && real).then(|| format!("{} by {}: {}", entry.subject, entry.actor, text::head(&argv.join(" "), 200)));
    }
    (entry.subject.starts_with("flag/") || entry.subject.starts_with("switch/"))
        .then(|| format!("{} {} by {}", entry.kind, entry.subject, entry.actor))
}

impl Changes {
    /// `suspect`: something changed shortly before the onset; `minutes_before`: how long before.
    pub(super) fn outcome(&self) -> Outcome {
        let before = self.all.first();
        let minutes = before.map(|(at, _)| self.onset.since(*at).as_secs_f64() / 60.0);
        let suspect = minutes.is_some_and(|minutes| minutes <= SUSPECT.as_secs_f64() / 60.0);
        let mut fields = BTreeMap::from([("suspect".to_owned(), Value::Flag(suspect))]);
        if let Some(minutes) = minutes {
            fields.insert("minutes_before".to_owned(), Value::Number(minutes));
        }
        let mut lines: Vec<String> = self.all.iter().take(SHOWN_MAX).map(|(at, what)| format!("{at} {what}")).collect();
        if lines.is_empty() {
            lines.push("nothing that Paramedic knows of was changed".to_owned());
        }
        let text = lines.join("\n");
        Outcome {
            rows: Some(self.all.len() as u64),
            fields,
            stdout: Kept { bytes: text.len() as u64, text, cut: false },
            ..Outcome::default()
        }
    }
}
