//! Proof that the journal is what was written.
//!
//! Found, and named by its number: an entry that was altered, removed, moved or added; entries cut off at the end
//! while the head record, a snapshot or the note beside the journal (`<journal>-head`) still knows them, so also a
//! log that was deleted or cut; a head record that does not fit; a damaged file; an index that hides entries.
//!
//! Not found, because nothing contradicts it: a tail that was cut off *together with* a matching forged head
//! record, note and the snapshots that stood on it; a whole journal that was replaced by a consistent forgery; and
//! a whole journal with all files beside it put back to an earlier state. Whoever fears these keeps the head
//! (number and hash) somewhere else from time to time and gives it to [`verify_against`].

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};
use serde::Serialize;

use crate::entry::{Content, Hash, Head};
use crate::error::JournalError;
use crate::limit;
use crate::sqlite::{file, note};

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Entries that are there.
    pub entries: u64,
    /// The last entry; `None` when there is none. Noted elsewhere, it can be given to [`verify_against`] later.
    pub head: Option<Head>,
    /// In order of discovery, which is nearly the order of entries.
    pub problems: Vec<Problem>,
    /// Problems beyond [`limit::PROBLEMS_MAX`].
    pub problems_not_listed: u64,
}

impl Verification {
    #[must_use]
    pub fn sound(&self) -> bool {
        self.problems.is_empty()
    }
}

/// One thing that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The entry; `None` when it is the file as a whole.
    pub seq: Option<i64>,
    /// Complete in itself: `entry 7 was altered: its content does not match its hash`.
    pub what: String,
}

/// Checks every entry. `progress` is told how many of how many entries were looked at.
///
/// Reads only, and in short transactions, so another process can write meanwhile. An error means that the file is
/// not a journal or cannot be opened at all; everything else that is wrong is a [`Problem`].
pub fn verify(path: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Verification, JournalError> {
    verify_against(path, &[], progress)
}

/// As [`verify`], and every head that was noted earlier must still be in the chain.
pub fn verify_against(path: &Path, noted: &[Head], progress: &mut dyn FnMut(u64, u64)) -> Result<Verification, JournalError> {
    if !path.is_file() {
        let why = if path.exists() { "it is not a file" } else { "it does not exist" };
        return Err(JournalError::Open { file: path.to_path_buf(), why: why.into() });
    }
    // Read before the entries: another process may write meanwhile, and notes its head after it is durable.
    let noted: Vec<Head> = noted.iter().copied().chain(note::read(path)).collect();
    let db = file::open_read_only(path)?;
    let mut scan = Scan { db: &db, noted: &noted, link: Link::default(), suspects: Vec::new(), found: Verification::default() };
    scan.run(progress);
    Ok(scan.found)
}

/// Rows looked at in one transaction, so that the writer's log can be recycled in between.
const CHUNK_ROWS: usize = 10_000;
/// Altered entries for which it is tried out whether they hold another entry's content.
const SUSPECTS_MAX: usize = 64;
/// Numbers tried one by one behind a damaged place.
const PROBES_MAX: u64 = 1_000_000;

/// The last row seen, to which the next must be linked.
struct Link {
    seq: i64,
    /// As stored; `None` when it cannot be known.
    hash: Option<Hash>,
    /// Already reported, so a broken link to it says nothing new.
    reported: bool,
}

impl Default for Link {
    fn default() -> Self {
        Self { seq: 0, hash: Some(Hash::ZERO), reported: false }
    }
}

struct Scan<'a> {
    db: &'a Connection,
    noted: &'a [Head],
    link: Link,
    suspects: Vec<i64>,
    found: Verification,
}

/// How one chunk ended.
enum Chunk {
    More,
    End,
    /// The engine could not read on behind the last row seen.
    Damaged(rusqlite::Error),
}

fn out_of_order() -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(code, Some("its rows are out of order".into()))
}

const ROWS: &str = "SELECT seq, at, kind, subject, actor, payload, prev_hash, hash FROM entries WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const ROW: &str = "SELECT seq, at, kind, subject, actor, payload, prev_hash, hash FROM entries WHERE seq = ?1";

impl Scan<'_> {
    fn run(&mut self, progress: &mut dyn FnMut(u64, u64)) {
        let mut after = i64::MIN;
        loop {
            // One transaction: the last chunk, the head record and the snapshots are of the same moment.
            let Ok(tx) = self.db.unchecked_transaction() else {
                self.problem(None, "the file cannot be read".into());
                return;
            };
            let head = self.read_head();
            let total = head.map_or(0, |head| head.seq);
            let chunk = self.chunk(&mut after);
            progress(self.found.entries, total.max(self.found.entries));
            match chunk {
                Chunk::More => {}
                Chunk::End => {
                    self.finish(head);
                    drop(tx);
                    return;
                }
                Chunk::Damaged(error) => {
                    if !self.skip_damage(&mut after, head, &error) {
                        self.finish(head);
                        return;
                    }
                }
            }
        }
    }

    fn problem(&mut self, seq: Option<i64>, what: String) {
        if self.found.problems.len() < limit::PROBLEMS_MAX {
            self.found.problems.push(Problem { seq, what });
        } else {
            self.found.problems_not_listed += 1;
        }
    }

    fn read_head(&self) -> Option<Head> {
        file::read_head(self.db).ok()
    }

    fn chunk(&mut self, after: &mut i64) -> Chunk {
        let db = self.db;
        let mut statement = match db.prepare_cached(ROWS) {
            Ok(statement) => statement,
            Err(error) => return Chunk::Damaged(error),
        };
        let mut rows = match statement.query([*after, CHUNK_ROWS as i64]) {
            Ok(rows) => rows,
            Err(error) => return Chunk::Damaged(error),
        };
        let mut count = 0;
        loop {
            match rows.next() {
                Ok(Some(row)) => {
                    match row.get_ref(0) {
                        Ok(ValueRef::Integer(seq)) if seq > *after => *after = seq,
                        // A damaged page can give rows out of order, and following them would never end.
                        _ => return Chunk::Damaged(out_of_order()),
                    }
                    self.row(*after, row);
                    count += 1;
                }
                Ok(None) if count < CHUNK_ROWS => return Chunk::End,
                Ok(None) => return Chunk::More,
                Err(error) => return Chunk::Damaged(error),
            }
        }
    }

    /// One row against its own hash, and its link to the one before.
    fn row(&mut self, seq: i64, row: &Row<'_>) {
        self.found.entries += 1;
        let stored = Stored::of(row);
        let hash = stored.as_ref().and_then(Stored::hash);
        if seq < 1 {
            self.problem(Some(seq), format!("entry {seq} was added: numbers begin at 1"));
            return;
        }
        let next = self.link.seq.saturating_add(1);
        if seq > next {
            self.missing(next, seq - 1);
        }
        let own = stored.as_ref().is_some_and(|stored| Some(stored.content(seq).hash()) == hash);
        let mut reported = !own;
        if !own {
            let why = if stored.is_some() { "its content does not match its hash" } else { "a field has another type" };
            self.problem(Some(seq), format!("entry {seq} was altered: {why}"));
            self.suspects.push(seq);
        } else if seq == next && !self.link.reported && stored.as_ref().and_then(Stored::prev_hash) != self.link.hash {
            let before = self.link.seq;
            if before == 0 {
                reported = true;
                self.problem(Some(seq), format!("entry {seq} was altered: it follows an entry, but it is the first"));
            } else {
                // Whoever changes an entry and makes its hash fit breaks the link from the next one.
                let what = format!("entry {before} was altered: entry {seq} was written after another entry {before}");
                self.problem(Some(before), what);
            }
        }
        self.check_noted(seq, hash);
        self.link = Link { seq, hash, reported };
        self.found.head = hash.map(|hash| Head { seq: file::seq_from(seq), hash });
    }

    fn missing(&mut self, first: i64, last: i64) {
        let what = match last.saturating_sub(first) {
            0 => format!("entry {first} is missing"),
            more => format!("entries {first} to {last} are missing ({} in all)", more.saturating_add(1)),
        };
        self.problem(Some(first), what);
    }

    fn check_noted(&mut self, seq: i64, hash: Option<Hash>) {
        for noted in self.noted.iter().filter(|noted| file::seq_to(noted.seq) == seq) {
            if hash != Some(noted.hash) {
                let what = format!("entry {seq} or one before it was altered: it was noted with the hash {}", noted.hash);
                self.problem(Some(seq), what);
            }
        }
    }

    /// Looks for the next entry that can be read, so that everything behind the damage is checked too.
    fn skip_damage(&mut self, after: &mut i64, head: Option<Head>, error: &rusqlite::Error) -> bool {
        let first = (*after).max(0).saturating_add(1);
        let last = head.map_or(first, |head| file::seq_to(head.seq)).min(first.saturating_add_unsigned(PROBES_MAX));
        for seq in first..=last {
            let readable = self.db.prepare_cached(ROW).and_then(|mut row| row.query_row([seq], |_| Ok(()))).is_ok();
            if readable && seq > first {
                self.unreadable(first, seq - 1, error);
                self.link = Link { seq: seq - 1, hash: None, reported: true };
                *after = seq - 1;
                return true;
            }
        }
        self.unreadable(first, last, error);
        self.link = Link { seq: last.max(first), hash: None, reported: true };
        false
    }

    fn unreadable(&mut self, first: i64, last: i64, error: &rusqlite::Error) {
        let which = if last > first { format!("entries {first} to {last}") } else { format!("entry {first}") };
        self.problem(Some(first), format!("{which} cannot be read: the file is damaged ({error})"));
    }

    fn finish(&mut self, head: Option<Head>) {
        self.check_end(head);
        self.check_snapshots();
        self.check_noted_ahead(head);
        self.name_moved();
        self.check_file();
    }

    /// The end of the chain against the head record, which was written together with the last entry.
    fn check_end(&mut self, head: Option<Head>) {
        let Some(head) = head else {
            self.problem(None, "the head record is missing or damaged".into());
            return;
        };
        let (last, head_seq) = (self.link.seq, file::seq_to(head.seq));
        if last < head_seq {
            self.missing(last + 1, head_seq);
        } else if last > head_seq {
            for seq in (head_seq + 1..=last).take(limit::PROBLEMS_MAX + 1) {
                self.problem(Some(seq), format!("entry {seq} was added: the last one written is {head_seq}"));
            }
        } else if self.link.hash != Some(head.hash) && !self.link.reported {
            let (seq, what) = match last {
                0 => (None, "the head record was altered: the journal is empty".into()),
                _ => (Some(last), format!("entry {last} was altered: the head record knows it with the hash {}", head.hash)),
            };
            self.problem(seq, what);
        }
    }

    /// A snapshot remembers the hash of the entry that it stands on.
    fn check_snapshots(&mut self) {
        /// Name, entry, the entry's hash as the snapshot knows it, and as it is.
        type Anchor = (String, i64, Vec<u8>, Option<Vec<u8>>);
        let read = || -> rusqlite::Result<Vec<Anchor>> {
            let mut statement = self.db.prepare_cached(
                "SELECT CAST(name AS TEXT), snapshots.seq, CAST(entry_hash AS BLOB), CAST(hash AS BLOB) FROM snapshots \
                 LEFT JOIN entries ON entries.seq = snapshots.seq WHERE snapshots.seq > 0 LIMIT 1000",
            )?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?.collect()
        };
        let Ok(snapshots) = read() else {
            self.problem(None, "the snapshots cannot be read".into());
            return;
        };
        for (name, seq, noted, stored) in snapshots {
            let known = self.found.problems.iter().any(|problem| problem.seq == Some(seq));
            match stored {
                Some(stored) if stored == noted => {}
                _ if known => {}
                Some(_) => {
                    self.problem(Some(seq), format!("entry {seq} or one before it was altered: the snapshot {name:?} knows another hash"))
                }
                None => self.problem(Some(seq), format!("entry {seq} is missing: the snapshot {name:?} stands on it")),
            }
        }
    }

    fn check_noted_ahead(&mut self, head: Option<Head>) {
        // What the head record knows is missing has been told.
        let last = self.link.seq.max(head.map_or(0, |head| file::seq_to(head.seq)));
        let noted = self.noted.iter().map(|noted| file::seq_to(noted.seq)).max().unwrap_or(0);
        if noted > last {
            self.missing(last + 1, noted);
        }
    }

    /// An altered entry whose content fits another number was not changed but moved, which is worth knowing.
    fn name_moved(&mut self) {
        let suspects: Vec<i64> = self.suspects.iter().copied().take(SUSPECTS_MAX).collect();
        for &seq in &suspects {
            let origin = self.db.prepare_cached(ROW).and_then(|mut statement| {
                statement
                    .query_row([seq], |row| {
                        let stored = Stored::of(row);
                        Ok(stored.and_then(|stored| {
                            let fits = |&other: &i64| Some(stored.content(other).hash()) == stored.hash();
                            suspects.iter().copied().chain([seq.saturating_sub(1), seq.saturating_add(1)]).find(fits)
                        }))
                    })
                    .optional()
            });
            let problem = self.found.problems.iter_mut().find(|problem| problem.seq == Some(seq));
            if let (Ok(Some(Some(origin))), Some(problem)) = (origin, problem) {
                problem.what = format!("entry {seq} was replaced: it holds what was written as entry {origin}");
            }
        }
    }

    /// The engine's own look at the file: pages, and whether the index shows every entry.
    fn check_file(&mut self) {
        let read = || -> rusqlite::Result<Vec<String>> {
            let mut statement = self.db.prepare_cached("PRAGMA integrity_check(20)")?;
            statement.query_map([], |row| row.get(0))?.collect()
        };
        match read() {
            Ok(lines) => {
                for line in lines.into_iter().filter(|line| line != "ok") {
                    self.problem(None, format!("the file is damaged: {line}"));
                }
            }
            Err(error) => self.problem(None, format!("the file is damaged: {error}")),
        }
    }
}

/// A row's fields, borrowed, if every one has the type that it was written with.
struct Stored<'a> {
    at_micros: i64,
    /// kind, subject, actor, payload.
    texts: [&'a [u8]; 4],
    prev_hash: &'a [u8],
    hash: &'a [u8],
}

impl<'a> Stored<'a> {
    fn of(row: &'a Row<'_>) -> Option<Self> {
        let text = |column: usize| match row.get_ref(column) {
            Ok(ValueRef::Text(bytes)) => Some(bytes),
            _ => None,
        };
        let blob = |column: usize| match row.get_ref(column) {
            Ok(ValueRef::Blob(bytes)) => Some(bytes),
            _ => None,
        };
        let Ok(ValueRef::Integer(at_micros)) = row.get_ref(1) else {
            return None;
        };
        Some(Self { at_micros, texts: [text(2)?, text(3)?, text(4)?, text(5)?], prev_hash: blob(6)?, hash: blob(7)? })
    }

    fn content(&self, seq: i64) -> Content<'a> {
        let [kind, subject, actor, payload] = self.texts;
        Content { seq, at_micros: self.at_micros, kind, subject, actor, payload, prev_hash: self.prev_hash }
    }

    fn hash(&self) -> Option<Hash> {
        self.hash.try_into().ok().map(Hash)
    }

    fn prev_hash(&self) -> Option<Hash> {
        self.prev_hash.try_into().ok().map(Hash)
    }
}
