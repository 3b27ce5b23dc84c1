//! Finding events: partition by partition, through the index where there is one, row by row where not yet.

use std::path::PathBuf;

use paramedic_model::{Level, Timestamp};
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use crate::error::{InFile, StoreError};
use crate::index;
use crate::partition::{self, Partition, Summary};
use crate::reader::Reader;
use crate::row::{self, WordTexts};
use crate::store::{Shared, StoredEvent};

mod filter;

use filter::{Filter, Words};

/// Events on a page when the search does not say.
pub const LIMIT_DEFAULT: usize = 100;
/// Events on a page at most.
pub const LIMIT_MAX: usize = 10_000;
/// Stored bytes on a page at most, so that a page of huge events stays small.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What to look for. Everything that is set must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Search {
    /// Event time, both ends included.
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    /// Exactly this agent; `<session>/*` for all sub-agents of a session.
    pub agent: Option<String>,
    pub session: Option<String>,
    /// The kind's name as in [`paramedic_model::Fact::kind`].
    pub kind: Option<String>,
    /// The source's name as in [`paramedic_model::Source::as_str`].
    pub source: Option<String>,
    /// The event's name in its source's vocabulary.
    pub name: Option<String>,
    pub level_min: Option<Level>,
    /// Words that must all occur in the text or an attribute's value; `"a phrase"`; `begin*`. Text without a letter or
    /// digit does not filter.
    pub text: Option<String>,
    pub prompt: Option<String>,
    pub request: Option<String>,
    pub trace: Option<String>,
    pub user: Option<String>,
    /// Only events before this one, for paging.
    pub before_seq: Option<u64>,
    /// Only events after this one, for paging.
    pub after_seq: Option<u64>,
    /// 0 means [`LIMIT_DEFAULT`]; never more than [`LIMIT_MAX`].
    pub limit: usize,
    /// By order of arrival from the oldest; otherwise the newest comes first.
    pub oldest_first: bool,
}

/// One page of what was found.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct SearchPage {
    pub events: Vec<StoredEvent>,
    /// There is, or (when the time was over) there may be, more.
    pub more: bool,
    /// Where the next page goes on: for `before_seq`, or for `after_seq` with the oldest first.
    pub next: Option<u64>,
    /// The time was over before everything was looked at.
    pub timed_out: bool,
    /// Partitions that were opened; the others could not hold a match.
    pub scanned_partitions: usize,
    pub scanned_rows: u64,
    /// Damaged files whose events are missing here.
    pub skipped: Vec<PathBuf>,
}

pub(crate) fn run(shared: &Shared, search: &Search) -> Result<SearchPage, StoreError> {
    let Some(filter) = Filter::new(search) else { return Ok(SearchPage::default()) };
    let limit = if search.limit == 0 { LIMIT_DEFAULT } else { search.limit.min(LIMIT_MAX) };
    let mut pass = Pass::new(shared, &filter, limit, search.oldest_first);
    let mut partitions = shared.partitions();
    if !search.oldest_first {
        partitions.reverse();
    }
    for partition in partitions {
        if pass.done {
            break;
        }
        let summary = partition.summary();
        if !filter.may_contain(&partition, &summary) {
            continue;
        }
        match pass.partition(&partition) {
            Ok(()) => {}
            Err(error) if error.is_damage() => {
                shared.set_aside(&partition, &error);
                pass.page.skipped.push(partition.file.clone());
            }
            // Dropped by retention since the list was made.
            Err(_) if !partition.file.exists() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(pass.finish())
}

/// One search on its way through the partitions.
struct Pass<'a> {
    shared: &'a Shared,
    filter: &'a Filter,
    limit: usize,
    oldest_first: bool,
    deadline: Timestamp,
    page: SearchPage,
    page_bytes: usize,
    /// The row that was looked at last.
    position: Option<u64>,
    done: bool,
    field: crate::query::FieldTokens,
}

impl<'a> Pass<'a> {
    fn new(shared: &'a Shared, filter: &'a Filter, limit: usize, oldest_first: bool) -> Self {
        let deadline = shared.clock.now().after(std::time::Duration::from_millis(shared.settings.search_time_max_ms));
        Self {
            shared,
            filter,
            limit,
            oldest_first,
            deadline,
            page: SearchPage::default(),
            page_bytes: 0,
            position: None,
            done: false,
            field: crate::query::FieldTokens::default(),
        }
    }

    fn finish(mut self) -> SearchPage {
        if self.page.timed_out {
            self.page.more = true;
            self.page.next = self.position;
        } else if self.page.more {
            self.page.next = self.page.events.last().map(|event| event.seq);
        }
        self.page
    }

    fn partition(&mut self, partition: &Partition) -> Result<(), StoreError> {
        let mut reader = self.shared.readers.take(partition)?;
        self.page.scanned_partitions += 1;
        self.in_reader(partition, &mut reader).in_file(&partition.file)?;
        if !partition.index_broken.load(std::sync::atomic::Ordering::Acquire) {
            self.shared.readers.give_back(reader);
        }
        Ok(())
    }

    /// The index is read as of one moment, the rows as of a later one: what is indexed is also there.
    fn in_reader(&mut self, partition: &Partition, reader: &mut Reader) -> rusqlite::Result<()> {
        let index = reader.index.as_ref().and_then(|conn| conn.unchecked_transaction().ok());
        let indexed_to = index.as_ref().and_then(|index| index::read_progress(index).ok());
        let events = reader.events.unchecked_transaction()?;
        let summary = partition::read_summary(&events)?;
        let Some(words) = self.filter.words(&events)? else { return Ok(()) };
        let (low, high) = self.filter.seqs(partition.first_seq, &summary);
        let texts = &mut reader.texts;
        // An index that knows more than its partition belongs to rows that were lost.
        match index.as_deref().zip(indexed_to.filter(|to| *to >= partition.first_seq && *to <= summary.last_seq)) {
            Some((index, indexed_to)) if self.oldest_first => {
                self.indexed(partition, &events, index, texts, &words, (low, high.min(indexed_to)))?;
                self.scan(&events, texts, &words, (low.max(indexed_to + 1), high))
            }
            Some((index, indexed_to)) => {
                self.scan(&events, texts, &words, (low.max(indexed_to + 1), high))?;
                self.indexed(partition, &events, index, texts, &words, (low, high.min(indexed_to)))
            }
            None => self.scan(&events, texts, &words, (low, high)),
        }
    }

    /// The part that the index covers. A damaged index costs time, not results.
    fn indexed(
        &mut self,
        partition: &Partition,
        events: &Connection,
        index: &Connection,
        texts: &mut WordTexts,
        words: &Words,
        span: (u64, u64),
    ) -> rusqlite::Result<()> {
        if self.done || span.0 > span.1 {
            return Ok(());
        }
        let mut rest = span;
        let result = self.filter.blocks(index, span).and_then(|ranges| match self.filter.index_query(words) {
            Some(query) => self.candidates(events, index, texts, words, &query, &ranges, &mut rest),
            None => {
                let ordered: Box<dyn Iterator<Item = &(u64, u64)>> =
                    if self.oldest_first { Box::new(ranges.iter()) } else { Box::new(ranges.iter().rev()) };
                for range in ordered {
                    self.scan(events, texts, words, *range).map_err(Trouble::Events)?;
                }
                Ok(())
            }
        });
        match result {
            Ok(()) => Ok(()),
            Err(Trouble::Events(error)) => Err(error),
            Err(Trouble::Index(error)) => {
                tracing::warn!(file = %partition.index_file.display(), %error, "event index is damaged; reading all rows instead");
                partition.index_broken.store(true, std::sync::atomic::Ordering::Release);
                self.shared.wake.notify();
                self.scan(events, texts, words, rest)
            }
        }
    }

    /// Looks up the rows that the index names. `rest` is what was not looked at.
    #[expect(clippy::too_many_arguments, reason = "one inner loop; a struct would only rename them")]
    fn candidates(
        &mut self,
        events: &Connection,
        index: &Connection,
        texts: &mut WordTexts,
        words: &Words,
        query: &str,
        ranges: &[(u64, u64)],
        rest: &mut (u64, u64),
    ) -> Result<(), Trouble> {
        let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else { return Ok(()) };
        let order = if self.oldest_first { "asc" } else { "desc" };
        let sql = format!("select rowid from tokens where tokens match ?1 and rowid between ?2 and ?3 order by rowid {order}");
        let mut find = index.prepare_cached(&sql).map_err(Trouble::Index)?;
        let mut row = events.prepare_cached(&format!("select {} from events where seq = ?1", row::COLUMNS)).map_err(Trouble::Events)?;
        let mut found = find.query(params![query, first.0.cast_signed(), last.1.cast_signed()]).map_err(Trouble::Index)?;
        while !self.done {
            let Some(candidate) = found.next().map_err(Trouble::Index)? else { break };
            let seq: i64 = candidate.get(0).map_err(Trouble::Index)?;
            let at = seq.cast_unsigned();
            if self.oldest_first {
                rest.0 = at + 1;
            } else {
                rest.1 = at.saturating_sub(1);
            }
            let block = ranges.partition_point(|range| range.1 < at);
            if ranges.get(block).is_none_or(|range| at < range.0) {
                continue;
            }
            let mut rows = row.query([seq]).map_err(Trouble::Events)?;
            if let Some(row) = rows.next().map_err(Trouble::Events)? {
                self.row(row, events, texts, words).map_err(Trouble::Events)?;
            }
        }
        Ok(())
    }

    fn scan(&mut self, events: &Connection, texts: &mut WordTexts, words: &Words, (low, high): (u64, u64)) -> rusqlite::Result<()> {
        if self.done || low > high {
            return Ok(());
        }
        let order = if self.oldest_first { "asc" } else { "desc" };
        let sql = format!("select {} from events where seq between ?1 and ?2 order by seq {order}", row::COLUMNS);
        let mut select = events.prepare_cached(&sql)?;
        let mut rows = select.query(params![low.cast_signed(), high.cast_signed()])?;
        while !self.done {
            let Some(row) = rows.next()? else { break };
            self.row(row, events, texts, words)?;
        }
        Ok(())
    }

    /// Looks at one row and takes it when everything holds.
    fn row(&mut self, row: &Row<'_>, events: &Connection, texts: &mut WordTexts, words: &Words) -> rusqlite::Result<()> {
        self.page.scanned_rows += 1;
        if self.page.scanned_rows.is_multiple_of(256) && self.shared.clock.now() > self.deadline {
            self.page.timed_out = true;
            self.done = true;
            return Ok(());
        }
        let matches = self.filter.matches(row, words, &mut self.field)?;
        if matches {
            if self.page.events.len() >= self.limit || self.page_bytes > PAGE_BYTES_MAX {
                self.page.more = true;
                self.done = true;
                return Ok(());
            }
            let (event, readable) = row::decode(row, events, texts)?;
            if !readable {
                self.shared.metrics.undecodable_rows.inc();
            }
            self.page_bytes += [7, 8].into_iter().filter_map(|column| row::text(row, column).ok().flatten()).map(str::len).sum::<usize>();
            self.page.events.push(event);
        }
        self.position = Some(row.get::<_, i64>(0)?.cast_unsigned());
        Ok(())
    }
}

/// Which of the two files an error came from.
enum Trouble {
    Events(rusqlite::Error),
    Index(rusqlite::Error),
}

/// Rows after which a replay begins a new statement, so that the writer's log can be emptied meanwhile.
const REPLAY_ROWS: i64 = 4096;

pub(crate) fn replay(shared: &Shared, after_seq: u64, f: &mut dyn FnMut(StoredEvent)) -> Result<u64, StoreError> {
    let mut position = after_seq;
    for partition in shared.partitions() {
        let Summary { last_seq, .. } = partition.summary();
        if last_seq <= position {
            continue;
        }
        match replay_partition(shared, &partition, &mut position, f) {
            Ok(()) => {}
            Err(error) if error.is_damage() => shared.set_aside(&partition, &error),
            Err(_) if !partition.file.exists() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(position)
}

fn replay_partition(shared: &Shared, partition: &Partition, position: &mut u64, f: &mut dyn FnMut(StoredEvent)) -> Result<(), StoreError> {
    let mut reader = shared.readers.take(partition)?;
    loop {
        let before = *position;
        let mut select = reader
            .events
            .prepare_cached(&format!("select {} from events where seq > ?1 order by seq limit {REPLAY_ROWS}", row::COLUMNS))
            .in_file(&partition.file)?;
        let mut rows = select.query([position.cast_signed()]).in_file(&partition.file)?;
        while let Some(row) = rows.next().in_file(&partition.file)? {
            let (event, readable) = row::decode(row, &reader.events, &mut reader.texts).in_file(&partition.file)?;
            if !readable {
                shared.metrics.undecodable_rows.inc();
            }
            *position = event.seq;
            f(event);
        }
        if *position == before {
            break;
        }
    }
    shared.readers.give_back(reader);
    Ok(())
}
