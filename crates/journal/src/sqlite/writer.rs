//! The one thread that writes: group commit.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use paramedic_model::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc, oneshot};

use super::file;
use super::note::HeadNote;
use crate::entry::{Content, Entry, Hash, Head, Prepared};
use crate::error::JournalError;
use crate::journal::Expected;
use crate::limit;
use crate::metrics::Metrics;

/// A request in the queue.
pub(crate) struct Queued {
    pub(crate) work: Work,
    pub(crate) bytes: usize,
    pub(crate) reply: oneshot::Sender<Result<Answer, JournalError>>,
    /// The queue room that it takes up, given back when it has been written.
    pub(crate) room: OwnedSemaphorePermit,
}

pub(crate) enum Work {
    Append { entries: Vec<Prepared>, expected: Expected },
    SaveSnapshot { name: String, version: u32, seq: u64, bytes: Vec<u8> },
    AcquireLease { name: String, holder: String, now: Timestamp, ttl: Duration },
    ReleaseLease { name: String, holder: String },
}

pub(crate) enum Answer {
    Entries(Vec<Entry>),
    Done,
    Held(bool),
}

/// What became of one request inside a group: refused ones have written nothing.
type Outcome = Result<Answer, JournalError>;

pub(crate) struct Writer {
    pub(crate) db: Connection,
    pub(crate) file: PathBuf,
    pub(crate) requests: mpsc::Receiver<Queued>,
    pub(crate) news: broadcast::Sender<Arc<Vec<Entry>>>,
    pub(crate) metrics: Metrics,
    pub(crate) note: HeadNote,
    /// A request that would have made the last group too large; it begins the next.
    pub(crate) left_over: Option<Queued>,
}

impl Writer {
    /// Writes until the journal is closed and its queue is empty.
    pub(crate) fn run(mut self) {
        while let Some(first) = self.next_request() {
            let group = self.collect(first);
            self.commit(group);
        }
    }

    fn next_request(&mut self) -> Option<Queued> {
        self.left_over.take().or_else(|| {
            let request = self.requests.blocking_recv()?;
            self.metrics.queue_length.dec();
            Some(request)
        })
    }

    /// Everything that waits now, up to the limits of a group.
    fn collect(&mut self, first: Queued) -> Vec<Queued> {
        let mut bytes = first.bytes;
        let mut group = vec![first];
        while group.len() < limit::GROUP_LEN_MAX
            && let Ok(next) = self.requests.try_recv()
        {
            self.metrics.queue_length.dec();
            if bytes + next.bytes > limit::GROUP_BYTES_MAX {
                self.left_over = Some(next);
                break;
            }
            bytes += next.bytes;
            group.push(next);
        }
        group
    }

    /// Makes a group durable, then tells the subscribers, then answers.
    fn commit(&mut self, group: Vec<Queued>) {
        let started = Instant::now();
        let (mut works, mut replies, mut rooms) = (Vec::new(), Vec::new(), Vec::new());
        for Queued { work, reply, room, .. } in group {
            works.push(work);
            replies.push(reply);
            rooms.push(room);
        }
        let outcomes = match self.write(works) {
            Ok(outcomes) => outcomes,
            Err(source) => {
                let error = JournalError::from_sqlite("write to", &self.file, source);
                tracing::error!(%error, requests = replies.len(), "journal commit failed, nothing of the group was written");
                self.metrics.failed_commits.inc();
                replies.iter().map(|_| Err(error.clone())).collect()
            }
        };
        self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        self.metrics.batch_appends.observe(replies.len() as f64);
        self.publish(&outcomes);
        drop(rooms);
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            // The caller may have gone; its entries are written all the same.
            _ = reply.send(outcome);
        }
    }

    fn publish(&self, outcomes: &[Outcome]) {
        let appended = outcomes.iter().filter_map(|outcome| match outcome {
            Ok(Answer::Entries(entries)) => Some(entries),
            _ => None,
        });
        let (appends, entries) = appended.clone().fold((0, 0), |(appends, count), entries| (appends + 1, count + entries.len() as u64));
        self.metrics.appends.inc_by(appends);
        self.metrics.entries.inc_by(entries);
        let refused = outcomes.iter().filter(|outcome| matches!(outcome, Err(JournalError::Conflict { .. }))).count();
        self.metrics.refused.inc_by(refused as u64);
        if entries > 0 && self.news.receiver_count() > 0 {
            // An error means that the last subscriber has just left.
            _ = self.news.send(Arc::new(appended.flatten().cloned().collect()));
        }
    }

    /// One transaction for all. An engine error undoes the whole group; a refusal undoes nothing, because a
    /// request is checked before its first row is written.
    fn write(&mut self, works: Vec<Work>) -> rusqlite::Result<Vec<Outcome>> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let before = file::read_head(&tx)?;
        let mut head = before;
        let mut outcomes = Vec::with_capacity(works.len());
        for work in works {
            outcomes.push(match work {
                Work::Append { entries, expected } => append(&tx, &mut head, entries, expected)?,
                Work::SaveSnapshot { name, version, seq, bytes } => save_snapshot(&tx, head, name, version, seq, &bytes)?,
                Work::AcquireLease { name, holder, now, ttl } => {
                    acquire_lease(&tx, &name, &holder, now, ttl).map(|held| Ok(Answer::Held(held)))?
                }
                Work::ReleaseLease { name, holder } => {
                    let released = tx.execute("DELETE FROM leases WHERE name = ?1 AND holder = ?2", [name, holder])? > 0;
                    Ok(Answer::Held(released))
                }
            });
        }
        if head != before {
            tx.prepare_cached("UPDATE head SET seq = ?1, hash = ?2 WHERE one = 1")?
                .execute(params![file::seq_to(head.seq), head.hash.0])?;
        }
        tx.commit()?;
        if head != before {
            self.note.write(head);
        }
        Ok(outcomes)
    }
}

fn append(tx: &Transaction<'_>, head: &mut Head, prepared: Vec<Prepared>, expected: Expected) -> rusqlite::Result<Outcome> {
    let found = match (expected, prepared.first()) {
        (Expected::Head(_), _) => head.seq,
        (Expected::Subject(_), Some(first)) => last_of_subject(tx, &first.draft.subject)?,
        _ => 0,
    };
    if let Expected::Head(wanted) | Expected::Subject(wanted) = expected
        && wanted != found
    {
        return Ok(Err(JournalError::Conflict { expected, found }));
    }
    let mut insert = tx.prepare_cached("INSERT INTO entries VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
    let mut entries = Vec::with_capacity(prepared.len());
    for Prepared { draft, payload_text } in prepared {
        let seq = head.seq + 1;
        let content = Content {
            seq: file::seq_to(seq),
            at_micros: draft.at.as_micros(),
            kind: draft.kind.as_bytes(),
            subject: draft.subject.as_bytes(),
            actor: draft.actor.as_bytes(),
            payload: payload_text.as_bytes(),
            prev_hash: &head.hash.0,
        };
        let hash = content.hash();
        insert.execute(params![
            content.seq,
            content.at_micros,
            draft.kind,
            draft.subject,
            draft.actor,
            payload_text,
            head.hash.0,
            hash.0
        ])?;
        let prev_hash = head.hash;
        *head = Head { seq, hash };
        let crate::entry::Draft { at, kind, subject, actor, payload } = draft;
        entries.push(Entry { seq, at, kind, subject, actor, payload, prev_hash, hash });
    }
    Ok(Ok(Answer::Entries(entries)))
}

fn last_of_subject(tx: &Transaction<'_>, subject: &str) -> rusqlite::Result<u64> {
    let mut last = tx.prepare_cached("SELECT coalesce(max(seq), 0) FROM entries WHERE subject = ?1")?;
    last.query_row([subject], |row| row.get(0)).map(file::seq_from)
}

fn save_snapshot(tx: &Transaction<'_>, head: Head, name: String, version: u32, seq: u64, bytes: &[u8]) -> rusqlite::Result<Outcome> {
    if seq > head.seq {
        return Ok(Err(JournalError::SnapshotAhead { name, seq, head: head.seq }));
    }
    let anchor = match seq {
        0 => Some(Hash::ZERO.0),
        _ => tx.query_row("SELECT hash FROM entries WHERE seq = ?1", [file::seq_to(seq)], |row| row.get(0)).optional()?,
    };
    let Some(anchor) = anchor else {
        return Ok(Err(JournalError::Invalid { what: format!("the snapshot {name:?} stands at entry {seq}, which is missing") }));
    };
    tx.execute(
        "INSERT OR REPLACE INTO snapshots VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![name, version, file::seq_to(seq), anchor, bytes, Hash::of(bytes).0],
    )?;
    tx.execute(
        "DELETE FROM snapshots WHERE name = ?1 AND version <> ?2 AND version NOT IN \
         (SELECT version FROM snapshots WHERE name = ?1 AND version <> ?2 ORDER BY version DESC LIMIT ?3)",
        params![name, version, i64::try_from(limit::SNAPSHOT_VERSIONS_MAX - 1).unwrap_or(i64::MAX)],
    )?;
    Ok(Ok(Answer::Done))
}

/// A lease in the table: whose, and from when to when by the wall clock.
struct Lease {
    holder: String,
    granted_at: Timestamp,
    expires_at: Timestamp,
}

fn acquire_lease(tx: &Transaction<'_>, name: &str, holder: &str, now: Timestamp, ttl: Duration) -> rusqlite::Result<bool> {
    let mut find = tx.prepare_cached("SELECT holder, granted_at, expires_at FROM leases WHERE name = ?1")?;
    let lease = find
        .query_row([name], |row| {
            let (granted_at, expires_at) = (Timestamp::from_micros(row.get(1)?), Timestamp::from_micros(row.get(2)?));
            Ok(Lease { holder: row.get(0)?, granted_at, expires_at })
        })
        .optional()?;
    let (free, next) = match lease {
        Some(lease) if lease.holder != holder && now < lease.granted_at => {
            // The clock stepped back behind the grant. What is left of the other's lease is at most its whole
            // length, counted from now; without this it would last until the clock has caught up.
            let left = lease.expires_at.since(lease.granted_at);
            (false, Lease { holder: lease.holder, granted_at: now, expires_at: now.after(left) })
        }
        Some(lease) if lease.holder != holder && now < lease.expires_at => return Ok(false),
        _ => (true, Lease { holder: holder.to_owned(), granted_at: now, expires_at: now.after(ttl) }),
    };
    tx.execute(
        "INSERT OR REPLACE INTO leases VALUES (?1, ?2, ?3, ?4)",
        params![name, next.holder, next.granted_at.as_micros(), next.expires_at.as_micros()],
    )?;
    Ok(free)
}
