//! The story of an incident: its own journal entries and those of its runs, in the order in which they were written.

use std::collections::{BTreeMap, BTreeSet};

use paramedic_journal::{Entry, Journal};
use paramedic_respond::record::incident_subject;
use paramedic_respond::timeline::{TimelineItem, describe};
use paramedic_respond::{Incident, Record};
use paramedic_runbook::desk::RunLine;

use crate::error::ApiError;
use crate::operations::run_timeline;

/// Timeline items in one answer.
pub const TIMELINE_ITEMS_MAX: usize = 1_000;
/// Entries read at once.
const PAGE: usize = 1_000;

/// The newest items, by their place in the journal, and how many earlier ones there are.
#[derive(Default)]
struct Items {
    items: BTreeMap<u64, TimelineItem>,
    left_out: u64,
}

impl Items {
    fn add(&mut self, item: TimelineItem) {
        self.items.insert(item.seq, item);
        if self.items.len() > TIMELINE_ITEMS_MAX {
            self.items.pop_first();
            self.left_out += 1;
        }
    }

    async fn read(
        &mut self,
        journal: &dyn Journal,
        subject: &str,
        line: impl Fn(&Entry) -> Option<TimelineItem> + Send,
    ) -> Result<(), ApiError> {
        let mut after = 0;
        // A page may be short; only an empty one is the end.
        loop {
            let entries = journal.read_subject(subject, after, PAGE).await?;
            let Some(last) = entries.last() else { return Ok(()) };
            after = last.seq;
            entries.iter().filter_map(&line).for_each(|item| self.add(item));
        }
    }
}

/// The newest items, oldest first, and how many earlier ones there are.
pub(super) async fn of(journal: &dyn Journal, incident: &Incident, runs: &[RunLine]) -> Result<(Vec<TimelineItem>, u64), ApiError> {
    // A run that nobody could tell the incident of is found by its own line; one of a folder that nothing runs on by the incident's.
    let runs: BTreeSet<&str> = runs.iter().map(|run| run.id.as_str()).chain(incident.runs.iter().map(|run| run.run.as_str())).collect();
    let mut items = Items::default();
    let own = |entry: &Entry| match Record::from_entry(entry) {
        // The run tells it itself, and says more.
        Ok(Some(Record::RunNoted { run, .. })) if runs.contains(run.as_str()) => None,
        _ => describe(entry),
    };
    items.read(journal, &incident_subject(&incident.id), own).await?;
    for run in &runs {
        items.read(journal, &format!("run/{run}"), run_timeline::describe).await?;
    }
    Ok((items.items.into_values().collect(), items.left_out))
}
