//! The journal in one SQLite file.
//!
//! One thread writes: it collects all waiting requests into one transaction, commits with fsync, and only then
//! answers. Reads go to connections of their own. The file may also be written by another process (a command on
//! the data directory); every transaction looks at the head anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use paramedic_model::Timestamp;
use rusqlite::Connection;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};

use crate::entry::{Draft, Entry, prepare, within};
use crate::error::JournalError;
use crate::journal::{BoxFuture, Expected, Journal, Snapshot};
use crate::limit;
use crate::metrics::Metrics;

pub(crate) mod file;
pub(crate) mod note;
pub(crate) mod reader;
mod writer;

pub use file::FORMAT_VERSION;

use reader::Readers;
use writer::{Answer, Queued, Work, Writer};

/// Shared as `Arc<dyn Journal>`; dropping it, or [`close`](Self::close), finishes what is queued.
pub struct SqliteJournal {
    file: PathBuf,
    metrics: Metrics,
    readers: Arc<Readers>,
    /// `None` when opened read-only.
    writing: Option<Writing>,
}

struct Writing {
    queue: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    /// Weak: the channel ends with the writer, so that followers see the end.
    news: broadcast::WeakSender<Arc<Vec<Entry>>>,
    thread: JoinHandle<()>,
}

/// Bytes of queue room are counted in these, because a semaphore counts to 2^32 only on small machines.
const ROOM_UNIT: usize = 1024;

impl SqliteJournal {
    /// Opens the journal in `path`, creating it when there is none; its directory must exist.
    ///
    /// That only one instance runs on a data directory is the server's business.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let db = file::open(path)?;
        file::check_head(&db, path)?;
        let note = note::HeadNote::open(path);
        let metrics = Metrics::default();
        let (queue, requests) = mpsc::channel(limit::QUEUE_LEN_MAX);
        let (news, _) = broadcast::channel(limit::BROADCAST_LEN_MAX);
        let weak_news = news.downgrade();
        let writer = Writer { db, file: path.to_path_buf(), requests, news, metrics: metrics.clone(), note, left_over: None };
        let thread = std::thread::Builder::new()
            .name(limit::QUEUE_NAME.into())
            .spawn(move || writer.run())
            .map_err(|error| JournalError::Open { file: path.to_path_buf(), why: format!("no thread for its writer: {error}") })?;
        let room = Arc::new(Semaphore::new(limit::QUEUE_BYTES_MAX / ROOM_UNIT));
        let writing = Some(Writing { queue, room, news: weak_news, thread });
        Ok(Self { file: path.to_path_buf(), metrics, readers: Readers::new(path), writing })
    }

    /// Opens an existing journal for reading, also while another process writes it and on a read-only file system.
    /// Nothing is broadcast to subscribers of it; every change is refused.
    pub fn open_read_only(path: &Path) -> Result<Self, JournalError> {
        let readers = Readers::new(path);
        readers.give_back(file::open_read_only(path)?);
        Ok(Self { file: path.to_path_buf(), metrics: Metrics::default(), readers, writing: None })
    }

    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Finishes what is queued and closes the file. Blocks for as long as that takes.
    pub fn close(self) {}

    fn finish(&mut self) {
        self.readers.close();
        if let Some(Writing { queue, thread, .. }) = self.writing.take() {
            drop(queue);
            if thread.join().is_err() {
                tracing::error!(file = %self.file.display(), "the journal's writer panicked");
            }
        }
    }

    /// Hands `work` to the writer, waiting for room in its queue, and waits for the answer.
    async fn request(&self, work: Work, bytes: usize) -> Result<Answer, JournalError> {
        let closed = || JournalError::Closed { file: self.file.clone() };
        let Some(writing) = &self.writing else {
            return Err(JournalError::ReadOnly { file: self.file.clone() });
        };
        let units = u32::try_from(bytes.div_ceil(ROOM_UNIT).clamp(1, limit::QUEUE_BYTES_MAX / ROOM_UNIT)).unwrap_or(1);
        let room = Arc::clone(&writing.room).acquire_many_owned(units).await.map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        let place = writing.queue.reserve().await.map_err(|_| closed())?;
        self.metrics.queue_length.inc();
        place.send(Queued { work, bytes, reply, room });
        answer.await.map_err(|_| closed())?
    }

    async fn read_with<T, F>(&self, read: F) -> Result<T, JournalError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &Path) -> Result<T, JournalError> + Send + 'static,
    {
        Readers::with(&self.readers, read).await
    }
}

impl Drop for SqliteJournal {
    fn drop(&mut self) {
        self.finish();
    }
}

impl std::fmt::Debug for SqliteJournal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteJournal").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Journal for SqliteJournal {
    fn append(&self, drafts: Vec<Draft>, expected: Expected) -> BoxFuture<'_, Result<Vec<Entry>, JournalError>> {
        Box::pin(async move {
            if drafts.is_empty() {
                return Ok(Vec::new());
            }
            let checked = check_subjects(&drafts, expected).and_then(|()| prepare(drafts));
            let entries = checked.inspect_err(|_| _ = self.metrics.refused.inc())?;
            let bytes = entries.iter().map(|one| one.payload_text.len()).sum();
            match self.request(Work::Append { entries, expected }, bytes).await? {
                Answer::Entries(entries) => Ok(entries),
                Answer::Done | Answer::Held(_) => Ok(Vec::new()),
            }
        })
    }

    fn read(&self, after: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Entry>, JournalError>> {
        Box::pin(self.read_with(move |db, file| reader::read(db, file, None, after, limit)))
    }

    fn read_subject(&self, subject: &str, after: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Entry>, JournalError>> {
        let subject = subject.to_owned();
        Box::pin(self.read_with(move |db, file| reader::read(db, file, Some(&subject), after, limit)))
    }

    fn head(&self) -> BoxFuture<'_, Result<u64, JournalError>> {
        Box::pin(self.read_with(|db, file| Ok(file::read_head(db).map_err(|e| JournalError::from_sqlite("read", file, e))?.seq)))
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<Vec<Entry>>> {
        let news = self.writing.as_ref().and_then(|writing| writing.news.upgrade());
        // Without a writer the channel ends at once: its only sender is dropped here.
        news.unwrap_or_else(|| broadcast::channel(1).0).subscribe()
    }

    fn save_snapshot(&self, name: &str, version: u32, seq: u64, bytes: Vec<u8>) -> BoxFuture<'_, Result<(), JournalError>> {
        let name = name.to_owned();
        Box::pin(async move {
            within("the name of a snapshot", "bytes", name.len(), limit::NAME_BYTES_MAX)?;
            within("a snapshot", "bytes", bytes.len(), limit::SNAPSHOT_BYTES_MAX)?;
            let size = bytes.len();
            self.request(Work::SaveSnapshot { name, version, seq, bytes }, size).await.map(|_| ())
        })
    }

    fn load_snapshot(&self, name: &str, version: u32) -> BoxFuture<'_, Result<Option<Snapshot>, JournalError>> {
        let name = name.to_owned();
        Box::pin(self.read_with(move |db, file| reader::load_snapshot(db, file, &name, version)))
    }

    fn acquire_lease(&self, name: &str, holder: &str, now: Timestamp, ttl: Duration) -> BoxFuture<'_, Result<bool, JournalError>> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        Box::pin(async move {
            within("the name of a lease", "bytes", name.len(), limit::NAME_BYTES_MAX)?;
            within("the holder of a lease", "bytes", holder.len(), limit::NAME_BYTES_MAX)?;
            Ok(matches!(self.request(Work::AcquireLease { name, holder, now, ttl }, 0).await?, Answer::Held(true)))
        })
    }

    fn release_lease(&self, name: &str, holder: &str) -> BoxFuture<'_, Result<bool, JournalError>> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        Box::pin(async move { Ok(matches!(self.request(Work::ReleaseLease { name, holder }, 0).await?, Answer::Held(true))) })
    }
}

fn check_subjects(drafts: &[Draft], expected: Expected) -> Result<(), JournalError> {
    let one_subject = drafts.windows(2).all(|pair| pair[0].subject == pair[1].subject);
    if matches!(expected, Expected::Subject(_)) && !one_subject {
        return Err(JournalError::Invalid { what: "an expectation about the subject needs drafts of one subject".into() });
    }
    Ok(())
}
