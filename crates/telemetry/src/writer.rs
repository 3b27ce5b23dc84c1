//! The one thread that writes events: takes what is waiting, commits it as one transaction, then answers everybody.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use paramedic_model::{Event, Timestamp};
use rusqlite::{Connection, params};
use tokio::sync::{mpsc, oneshot};

use crate::error::{InFile, StoreError};
use crate::partition::{self, Partition, Summary};
use crate::row::{self, Encoder, WordIds};
use crate::schema;
use crate::store::{Offset, Shared};
use crate::words::{Role, WordStatements, Words};

pub(crate) type Answer = Result<Option<RangeInclusive<u64>>, StoreError>;

pub(crate) struct Append {
    pub(crate) events: Arc<Vec<Event>>,
    pub(crate) offsets: Vec<Offset>,
    pub(crate) reply: oneshot::Sender<Answer>,
}

pub(crate) enum Command {
    Append(Append),
    /// Close the active partition, because retention wants to drop it.
    Roll,
}

/// The partition that is being written.
struct Active {
    partition: Arc<Partition>,
    conn: Connection,
    words: Words,
    bytes: u64,
}

struct Writer {
    shared: Arc<Shared>,
    active: Active,
    next_seq: u64,
    encoder: Encoder,
}

/// Opens or makes the active partition, so that a store that cannot be written is found at the start.
pub(crate) fn start(shared: Arc<Shared>, next_seq: u64, commands: mpsc::Receiver<Command>) -> Result<JoinHandle<()>, StoreError> {
    let newest = shared.partitions().pop();
    let active = match newest {
        // After a loss the count goes on in a new file, so that names tell the order.
        Some(partition) if partition.summary().last_seq + 1 == next_seq => Active::open(partition)?,
        newest => {
            let offsets = newest.map_or_else(|| Ok(Vec::new()), |partition| offsets_of(&partition))?;
            Active::create(&shared, next_seq, shared.clock.now(), &offsets)?
        }
    };
    let mut writer = Writer { shared, active, next_seq, encoder: Encoder::default() };
    let spawned = std::thread::Builder::new().name("telemetry-write".to_owned()).spawn(move || writer.run(commands));
    spawned.map_err(|source| StoreError::Io { file: "a thread".into(), source })
}

fn offsets_of(partition: &Partition) -> Result<Vec<Offset>, StoreError> {
    let conn = schema::open_reader(&partition.file).in_file(&partition.file)?;
    partition::read_offsets(&conn).in_file(&partition.file)
}

impl Active {
    fn open(partition: Arc<Partition>) -> Result<Self, StoreError> {
        let conn = schema::open_writer(&partition.file).in_file(&partition.file)?;
        // Asking for the write lock once tells a read-only file or folder now instead of at the first event.
        conn.execute_batch("begin immediate; update partition set events = events; commit;").in_file(&partition.file)?;
        let bytes = bytes_of(&conn).in_file(&partition.file)?;
        Ok(Self { partition, conn, words: Words::default(), bytes })
    }

    fn create(shared: &Shared, next_seq: u64, now: Timestamp, offsets: &[Offset]) -> Result<Self, StoreError> {
        let (partition, conn) = Partition::create(&shared.dir, next_seq, &now.date(), offsets)?;
        let partition = Arc::new(partition);
        shared.push(partition.clone());
        Ok(Self { partition, conn, words: Words::default(), bytes: 0 })
    }
}

fn bytes_of(conn: &Connection) -> rusqlite::Result<u64> {
    let pages: i64 = conn.prepare_cached("pragma page_count")?.query_row([], |row| row.get(0))?;
    Ok(pages.cast_unsigned() * 8192)
}

impl Writer {
    fn run(&mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.blocking_recv() {
            let mut group = Vec::new();
            let mut events = 0;
            let mut roll = false;
            let mut next = Some(command);
            while let Some(command) = next {
                match command {
                    Command::Append(append) => {
                        events += append.events.len();
                        group.push(append);
                    }
                    Command::Roll => roll = true,
                }
                next = if events < self.shared.settings.group_events_max { commands.try_recv().ok() } else { None };
            }
            self.shared.metrics.queue_batches.set(i64::try_from(commands.len()).unwrap_or(i64::MAX));
            if roll && let Err(error) = self.roll() {
                tracing::error!(%error, "could not begin a new event partition");
            }
            if !group.is_empty() {
                self.wait_for_index();
                self.commit(group);
                self.shared.wake.notify();
            }
        }
        let _ = self.active.conn.execute_batch("pragma wal_checkpoint(truncate);");
    }

    /// The index may follow behind, but not without bound: senders wait here, and through the queue, for it.
    fn wait_for_index(&self) {
        while self.shared.lag() > self.shared.settings.index_lag_rows_max
            && self.shared.wake.is_healthy()
            && !self.shared.closing.load(Ordering::Acquire)
        {
            self.shared.wake.wait_for_progress(Duration::from_millis(100));
        }
    }

    /// Commits the group as one; when that fails, everyone alone, so that nobody suffers for another's batch.
    fn commit(&mut self, group: Vec<Append>) {
        let began = self.shared.clock.now();
        match self.try_commit(&group) {
            Ok(ranges) => {
                let metrics = &self.shared.metrics;
                metrics.append_seconds.observe(self.shared.clock.now().since(began).as_secs_f64());
                metrics.appended_batches.inc_by(group.len() as u64);
                metrics.appended_events.inc_by(group.iter().map(|append| append.events.len() as u64).sum());
                for (append, range) in group.into_iter().zip(ranges) {
                    // The caller holds the events too and frees them on its own thread, where they were made.
                    let Append { events, reply, .. } = append;
                    drop(events);
                    let _ = reply.send(Ok(range));
                }
            }
            Err(_) if group.len() > 1 => {
                for append in group {
                    self.commit(vec![append]);
                }
            }
            Err(error) => {
                self.shared.metrics.append_errors.inc();
                tracing::error!(%error, "events could not be stored");
                if let Some(append) = group.into_iter().next() {
                    let _ = append.reply.send(Err(error));
                }
            }
        }
    }

    fn try_commit(&mut self, group: &[Append]) -> Result<Vec<Option<RangeInclusive<u64>>>, StoreError> {
        self.roll_when_due()?;
        match self.write(group) {
            Err(error) if error.is_damage() => {
                self.replace_damaged(&error)?;
                self.write(group)
            }
            result => result,
        }
    }

    fn roll_when_due(&mut self) -> Result<(), StoreError> {
        let now = self.shared.clock.now();
        let day = now.date();
        // A clock that steps back over midnight does not make a new file for the day before.
        let day_is_over = day != self.active.partition.day && now.after(Duration::from_secs(86_400)).date() != self.active.partition.day;
        if day_is_over || self.active.bytes >= self.shared.settings.partition_bytes() {
            self.roll()?;
            if let Err(error) = self.shared.enforce_retention(now) {
                tracing::error!(%error, "retention could not drop old events");
            }
        }
        Ok(())
    }

    /// Begins a new partition that starts with the offsets of the old one.
    fn roll(&mut self) -> Result<(), StoreError> {
        let now = self.shared.clock.now();
        if self.active.partition.summary().events == 0 && self.active.partition.day == now.date() {
            return Ok(());
        }
        let offsets = partition::read_offsets(&self.active.conn).in_file(&self.active.partition.file)?;
        let next = Active::create(&self.shared, self.next_seq, now, &offsets)?;
        let old = std::mem::replace(&mut self.active, next);
        let _ = old.conn.execute_batch("pragma wal_checkpoint(truncate);");
        if old.partition.summary().events == 0 {
            self.shared.forget_empty(&old.partition);
        }
        Ok(())
    }

    /// The file under the writer turned out damaged: it is set aside, and a new one begins with the offsets of the
    /// newest partition that can still be read, so that what was lost with the file is read again.
    fn replace_damaged(&mut self, error: &StoreError) -> Result<(), StoreError> {
        self.shared.set_aside(&self.active.partition, error);
        let offsets = self.shared.partitions().last().and_then(|partition| offsets_of(partition).ok()).unwrap_or_default();
        self.active = Active::create(&self.shared, self.next_seq, self.shared.clock.now(), &offsets)?;
        Ok(())
    }

    fn write(&mut self, group: &[Append]) -> Result<Vec<Option<RangeInclusive<u64>>>, StoreError> {
        let active = &mut self.active;
        let mut summary = active.partition.summary();
        let mut next_seq = self.next_seq;
        let result = write_group(&active.conn, &mut active.words, &mut self.encoder, group, &mut next_seq, &mut summary);
        let (ranges, bytes) = result.map_err(|error| {
            if !active.conn.is_autocommit() {
                let _ = active.conn.execute_batch("rollback");
            }
            active.words.forget();
            StoreError::sqlite(&active.partition.file, error)
        })?;
        active.bytes = bytes;
        active.partition.set_summary(summary);
        self.next_seq = next_seq;
        self.shared.last_seq.store(next_seq - 1, Ordering::Release);
        Ok(ranges)
    }
}

type Written = (Vec<Option<RangeInclusive<u64>>>, u64);

fn write_group(
    conn: &Connection,
    words: &mut Words,
    encoder: &mut Encoder,
    group: &[Append],
    next_seq: &mut u64,
    summary: &mut Summary,
) -> rusqlite::Result<Written> {
    conn.execute_batch("begin immediate")?;
    let mut ranges = Vec::with_capacity(group.len());
    {
        let mut insert = conn.prepare_cached(row::INSERT)?;
        let mut statements = WordStatements::new(conn)?;
        for append in group {
            let first = *next_seq;
            for event in append.events.iter() {
                let ids = WordIds {
                    agent: event.agent.as_ref().map(|agent| words.id(Role::Agent, agent.as_str(), &mut statements)).transpose()?,
                    session: event
                        .session
                        .as_ref()
                        .map(|session| words.id(Role::Session, session.as_str(), &mut statements))
                        .transpose()?,
                    name: words.id(Role::Name, &event.name, &mut statements)?,
                };
                encoder.insert(&mut insert, next_seq.cast_signed(), event, &ids)?;
                summary.at_min = summary.at_min.min(event.at.as_micros());
                summary.at_max = summary.at_max.max(event.at.as_micros());
                *next_seq += 1;
            }
            summary.events += *next_seq - first;
            ranges.push((*next_seq > first).then(|| first..=*next_seq - 1));
            partition::write_offsets(conn, &append.offsets)?;
        }
    }
    summary.last_seq = *next_seq - 1;
    conn.prepare_cached("update partition set last_seq = ?1, events = ?2, at_min = ?3, at_max = ?4")?.execute(params![
        summary.last_seq.cast_signed(),
        summary.events.cast_signed(),
        summary.at_min,
        summary.at_max
    ])?;
    let bytes = bytes_of(conn)?;
    conn.execute_batch("commit")?;
    Ok((ranges, bytes))
}
