//! Follows transcripts as they grow.
//!
//! **Takes** folders and the offsets that storage remembers. **Gives** batches of events together with the offsets
//! that become true when the batch is stored, through a bounded channel: a slow store slows the reading. **Never**
//! holds a file open between two looks, never reads a byte twice while the file stays the same, never gives up on a
//! folder that is not there yet.
//!
//! Back-fill and live following are the same code: a file is read from its offset to its end, whenever something says
//! that it changed. What says so is the file system's announcements, a look at all folders now and then, and at the
//! start the list of all files, oldest first.

pub(crate) mod file;
pub(crate) mod watch;

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode};
use paramedic_model::Event;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::TailSettings;
use crate::json;
use crate::metrics::TailMetrics;
use crate::transcript::{Counts, Description, LineReader, ParseOptions, Parser, Piece, files};
use file::Followed;
use watch::{Wakes, Woken};

/// A remembered read position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offset {
    pub file: String,
    /// Bytes read: always the start of a line.
    pub position: u64,
    /// Names the file behind the path: device, inode, first bytes.
    pub identity: u64,
    /// Lines before `position`.
    pub lines: u64,
}

/// Events and the offsets that hold once they are stored. Both must be committed together.
#[derive(Debug, Default)]
pub struct Batch {
    pub events: Vec<Event>,
    pub offsets: Vec<Offset>,
    /// The back-fill is complete: every file was read to its end once. True on exactly one batch, which may be empty.
    pub caught_up: bool,
}

/// What to follow and from where.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// Claude Code configuration directories, their `projects`, or any folders of transcripts. Need not exist yet.
    pub roots: Vec<PathBuf>,
    pub offsets: Vec<Offset>,
    pub settings: TailSettings,
    pub metrics: TailMetrics,
}

#[derive(Debug, thiserror::Error)]
pub enum TailError {
    #[error("follow files: the reading thread panicked")]
    Panicked,
}

/// Parsers kept with what they know of their file (ids, last retry); a file that is read again without one resumes.
const PARSERS_MAX: usize = 256;
/// Offsets handed over at once, where files make few events.
const OFFSETS_MAX: usize = 1_024;
/// A new folder is looked at this often, this far apart: files may appear in it before it is watched.
const SETTLING_LOOKS: u32 = 5;
const SETTLING_MS: u64 = 60;
/// How often a folder that does not exist is looked for.
const MISSING_MS: u64 = 1_000;
/// Changes that follow each other closely are read together.
const GATHER_MS: u64 = 3;

/// Follows until cancelled, or until nobody takes the batches any more.
pub async fn run(start: Start, tx: mpsc::Sender<Batch>, cancel: CancellationToken) -> Result<(), TailError> {
    on_a_thread(tx, &cancel, |outbox, wakes| Follower::new(start, outbox, wakes).run()).await
}

/// Lets a follower read on a thread of its own until it ends or is cancelled.
pub(crate) async fn on_a_thread(
    tx: mpsc::Sender<Batch>,
    cancel: &CancellationToken,
    follow: impl FnOnce(Outbox, Arc<Wakes>) -> Result<(), Stopped> + Send + 'static,
) -> Result<(), TailError> {
    let token = cancel.child_token();
    let wakes = Arc::new(Wakes::default());
    let _stop = StopWhenDropped { token: token.clone(), wakes: Arc::clone(&wakes) };
    let stopper = tokio::spawn({
        let (token, wakes) = (token.clone(), Arc::clone(&wakes));
        async move {
            token.cancelled().await;
            wakes.stop();
        }
    });
    let outbox = Outbox { batch: Batch::default(), tx, cancel: token, runtime: tokio::runtime::Handle::current() };
    let outcome = tokio::task::spawn_blocking(move || follow(outbox, wakes)).await;
    stopper.abort();
    outcome.map(|_| ()).map_err(|_| TailError::Panicked)
}

/// Ends the reading thread together with the future that waits for it: a runtime that shuts down drops the future and
/// then waits for the thread.
struct StopWhenDropped {
    token: CancellationToken,
    wakes: Arc<Wakes>,
}

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.token.cancel();
        self.wakes.stop();
    }
}

/// The follower must end: cancelled, or the receiver is gone.
#[derive(Debug)]
pub(crate) struct Stopped;

/// Where a follower puts what it read, until it is worth sending.
pub(crate) struct Outbox {
    pub(crate) batch: Batch,
    tx: mpsc::Sender<Batch>,
    cancel: CancellationToken,
    runtime: tokio::runtime::Handle,
}

impl Outbox {
    fn set_offset(&mut self, path: &Path, followed: &Followed) {
        let file = path.to_string_lossy().into_owned();
        self.put_offset(Offset { file, position: followed.position, identity: followed.identity, lines: followed.lines });
    }

    /// Notes how far a file was read; of several notes about one file the last counts.
    pub(crate) fn put_offset(&mut self, offset: Offset) {
        match self.batch.offsets.last_mut().filter(|last| last.file == offset.file) {
            Some(last) => *last = offset,
            None => self.batch.offsets.push(offset),
        }
    }

    pub(crate) fn send(&mut self) -> Result<(), Stopped> {
        let batch = std::mem::take(&mut self.batch);
        if batch.events.is_empty() && batch.offsets.is_empty() && !batch.caught_up {
            return Ok(());
        }
        let (tx, cancel) = (&self.tx, &self.cancel);
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = cancel.cancelled() => Err(Stopped),
                sent = tx.send(batch) => sent.map_err(|_| Stopped),
            }
        })
    }
}

struct Root {
    given: PathBuf,
    /// The folder that is watched, when there is one.
    watched: Option<(PathBuf, Option<RecommendedWatcher>)>,
}

struct Follower {
    roots: Vec<Root>,
    remembered: HashMap<String, Offset>,
    files: HashMap<PathBuf, Followed>,
    with_parser: VecDeque<PathBuf>,
    /// Folders that appeared lately, with the looks still to take.
    settling: Vec<(PathBuf, u32)>,
    pass: u64,
    reader: LineReader,
    outbox: Outbox,
    wakes: Arc<Wakes>,
    settings: TailSettings,
    metrics: TailMetrics,
}

impl Follower {
    fn new(start: Start, outbox: Outbox, wakes: Arc<Wakes>) -> Self {
        Self {
            roots: start.roots.into_iter().map(|given| Root { given, watched: None }).collect(),
            remembered: start.offsets.into_iter().map(|offset| (offset.file.clone(), offset)).collect(),
            files: HashMap::new(),
            with_parser: VecDeque::new(),
            settling: Vec::new(),
            pass: 0,
            reader: LineReader::new(start.settings.line_bytes_max),
            outbox,
            wakes,
            settings: start.settings,
            metrics: start.metrics,
        }
    }

    fn run(mut self) -> Result<(), Stopped> {
        self.watch_roots();
        self.back_fill()?;
        self.remembered = HashMap::new();
        self.outbox.batch.caught_up = true;
        self.outbox.send()?;
        let mut since_rescan = Duration::ZERO;
        loop {
            let timeout = self.patience(since_rescan);
            let woken = self.wakes.wait(timeout);
            if woken.is_stopped {
                return Ok(());
            }
            let is_over = woken.paths.is_empty() && !woken.is_lossy;
            // Waits that end early are not counted, so under load the pass comes later, when it is needed least.
            since_rescan += if is_over { timeout } else { Duration::from_millis(GATHER_MS) };
            if is_over && !self.settling.is_empty() {
                self.look_at_settling()?;
            }
            self.appear()?;
            if woken.is_lossy || since_rescan >= self.rescan_period() {
                since_rescan = Duration::ZERO;
                self.look_at_all()?;
            }
            if !woken.paths.is_empty() {
                std::thread::sleep(Duration::from_millis(GATHER_MS));
                let late = self.wakes.take();
                self.look_at_changed(woken)?;
                self.look_at_changed(late)?;
            }
            self.outbox.send()?;
        }
    }

    fn is_polling(&self) -> bool {
        self.roots.iter().any(|root| root.watched.as_ref().is_some_and(|(_, watcher)| watcher.is_none()))
    }

    fn rescan_period(&self) -> Duration {
        if self.is_polling() {
            Duration::from_millis(self.settings.poll_ms.max(10))
        } else {
            Duration::from_secs(self.settings.rescan_s.max(1))
        }
    }

    fn patience(&self, since_rescan: Duration) -> Duration {
        let mut wait = self.rescan_period().saturating_sub(since_rescan);
        if self.roots.iter().any(|root| root.watched.is_none()) {
            wait = wait.min(Duration::from_millis(MISSING_MS));
        }
        if !self.settling.is_empty() {
            wait = wait.min(Duration::from_millis(SETTLING_MS));
        }
        wait.max(Duration::from_millis(1))
    }

    /// Starts watching roots that exist, and says which of them are new.
    fn watch_roots(&mut self) -> Vec<PathBuf> {
        let mut new = Vec::new();
        for root in &mut self.roots {
            let folder = files::projects_of(&root.given);
            match &root.watched {
                Some((watched, _)) if *watched == folder && folder.is_dir() => continue,
                _ if !folder.is_dir() => {
                    root.watched = None;
                    continue;
                }
                _ => {}
            }
            let watcher = watch::watch(&folder, RecursiveMode::Recursive, &self.wakes)
                .inspect_err(|error| tracing::warn!(folder = %folder.display(), %error, "folder cannot be watched and is polled instead"))
                .ok();
            root.watched = Some((folder.clone(), watcher));
            new.push(folder);
        }
        self.metrics.polling.set(i64::from(self.is_polling()));
        new
    }

    fn back_fill(&mut self) -> Result<(), Stopped> {
        let mut found = Vec::new();
        for root in &self.roots {
            if let Some((folder, _)) = &root.watched {
                files::walk(folder, files::DEPTH_MAX, &mut found);
            }
        }
        found.sort_by(|one, other| (one.modified_at, &one.path).cmp(&(other.modified_at, &other.path)));
        let total = found.len();
        for (done, file) in found.into_iter().enumerate() {
            self.metrics.backlog.set(i64::try_from(total - done).unwrap_or(i64::MAX));
            self.read_new(&file.path)?;
            // Agents go on working while history is read.
            let woken = self.wakes.take();
            if woken.is_stopped {
                return Err(Stopped);
            }
            self.look_at_changed(woken)?;
        }
        self.metrics.backlog.set(0);
        Ok(())
    }

    /// Roots that were missing or have been replaced.
    fn appear(&mut self) -> Result<(), Stopped> {
        if self
            .roots
            .iter()
            .all(|root| root.watched.as_ref().is_some_and(|(folder, _)| folder.is_dir() && *folder == files::projects_of(&root.given)))
        {
            return Ok(());
        }
        for folder in self.watch_roots() {
            self.settling.push((folder.clone(), SETTLING_LOOKS));
            self.look_below(&folder)?;
        }
        Ok(())
    }

    fn look_at_settling(&mut self) -> Result<(), Stopped> {
        let mut settling = std::mem::take(&mut self.settling);
        for (folder, looks) in &mut settling {
            *looks -= 1;
            self.look_below(folder)?;
        }
        settling.retain(|(_, looks)| *looks > 0);
        self.settling.append(&mut settling);
        Ok(())
    }

    fn look_at_changed(&mut self, woken: Woken) -> Result<(), Stopped> {
        for path in woken.paths {
            if files::is_transcript(&path) {
                self.read_new(&path)?;
            } else if path.is_dir() && !self.settling.iter().any(|(folder, _)| *folder == path) {
                self.look_below(&path)?;
                self.settling.push((path, SETTLING_LOOKS));
            }
        }
        if woken.is_lossy {
            self.look_at_all()?;
        }
        Ok(())
    }

    /// One pass over all folders; files that are gone are forgotten.
    fn look_at_all(&mut self) -> Result<(), Stopped> {
        self.pass += 1;
        let folders: Vec<PathBuf> = self.roots.iter().filter_map(|root| Some(root.watched.as_ref()?.0.clone())).collect();
        for folder in folders {
            self.look_below(&folder)?;
        }
        let pass = self.pass;
        self.files.retain(|path, followed| followed.seen_in_pass == pass || path.exists());
        self.metrics.files.set(i64::try_from(self.files.len()).unwrap_or(i64::MAX));
        Ok(())
    }

    fn look_below(&mut self, folder: &Path) -> Result<(), Stopped> {
        let mut found = Vec::new();
        files::walk(folder, files::DEPTH_MAX, &mut found);
        for file in found {
            if let Some(followed) = self.files.get_mut(&file.path) {
                followed.seen_in_pass = self.pass;
                if followed.looked_at == Some((file.bytes, file.modified_at)) {
                    continue;
                }
            }
            self.read_new(&file.path)?;
        }
        Ok(())
    }

    /// Reads what a file has beyond its position.
    fn read_new(&mut self, path: &Path) -> Result<(), Stopped> {
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, mut file) = match opened {
            Ok((metadata, file)) if metadata.is_file() => (metadata, file),
            Ok(_) => return Ok(()),
            Err(error) => {
                self.cannot_read(path, &error);
                return Ok(());
            }
        };
        let mut followed = self.files.remove(path).unwrap_or_else(|| self.recall(path));
        followed.seen_in_pass = self.pass;
        if !followed.is_same(&file, &metadata) {
            tracing::info!(file = %path.display(), "transcript was truncated or replaced and is read anew");
            self.metrics.file_resets.inc();
            followed = Followed { seen_in_pass: self.pass, ..Followed::at_start() };
            self.outbox.set_offset(path, &followed);
        }
        followed.looked_at = Some((metadata.len(), files::modified_at(&metadata)));
        followed.is_unreadable = false;
        if metadata.len() > followed.position {
            let mut parser = followed.parser.take().unwrap_or_else(|| self.new_parser(path, &followed));
            parser.set_file_time(files::modified_at(&metadata));
            // What is written meanwhile announces itself again; one busy file must not keep the others waiting.
            let outcome = match file.seek(SeekFrom::Start(followed.position)) {
                Ok(_) => self.read_lines(path, &file, &metadata, &mut followed, &mut parser),
                Err(error) => {
                    self.cannot_read(path, &error);
                    Ok(())
                }
            };
            followed.parser = Some(parser);
            outcome?;
        }
        self.files.insert(path.to_owned(), followed);
        self.metrics.files.set(i64::try_from(self.files.len()).unwrap_or(i64::MAX));
        Ok(())
    }

    fn cannot_read(&mut self, path: &Path, error: &std::io::Error) {
        let followed = self.files.remove(path);
        if error.kind() == ErrorKind::NotFound {
            return;
        }
        self.metrics.unreadable_files.inc();
        let mut followed = followed.unwrap_or_else(|| self.recall(path));
        if !followed.is_unreadable {
            tracing::warn!(file = %path.display(), %error, "transcript cannot be read; it is tried again with every look at all folders");
        }
        // Without a look, so that the next pass tries again.
        followed.looked_at = None;
        followed.is_unreadable = true;
        followed.seen_in_pass = self.pass;
        self.files.insert(path.to_owned(), followed);
    }

    /// What storage remembers of a file that is met for the first time.
    fn recall(&mut self, path: &Path) -> Followed {
        match self.remembered.remove(&*path.to_string_lossy()) {
            Some(offset) => Followed { position: offset.position, lines: offset.lines, identity: offset.identity, ..Followed::at_start() },
            None => Followed::at_start(),
        }
    }

    fn new_parser(&mut self, path: &Path, followed: &Followed) -> Box<Parser> {
        let mut parser = Box::new(Parser::new(ParseOptions { capture_text: self.settings.capture_text }, path));
        parser.resume_after(followed.lines);
        parser.describe(Description::beside(path));
        self.with_parser.push_back(path.to_owned());
        if self.with_parser.len() > PARSERS_MAX
            && let Some(oldest) = self.with_parser.pop_front()
            && let Some(followed) = self.files.get_mut(&oldest)
        {
            followed.parser = None;
        }
        parser
    }

    fn read_lines(
        &mut self,
        path: &Path,
        file: &File,
        metadata: &std::fs::Metadata,
        followed: &mut Followed,
        parser: &mut Parser,
    ) -> Result<(), Stopped> {
        let mut source = file.take(metadata.len() - followed.position);
        let before = parser.counts.clone();
        let start = followed.position;
        let mut position = start;
        self.reader.reset();
        if followed.is_skipping {
            self.reader.continue_skipping();
        }
        loop {
            match self.reader.fill(&mut source) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "transcript cannot be read further");
                    self.metrics.unreadable_files.inc();
                    followed.looked_at = None;
                    break;
                }
            }
            loop {
                match self.reader.next_piece() {
                    Piece::Line(line) => {
                        if !(std::mem::take(&mut followed.owes_newline) && line.is_empty()) {
                            parser.parse(line, &mut self.outbox.batch.events);
                        }
                        position += line.len() as u64 + 1;
                    }
                    Piece::Oversized { bytes } => {
                        parser.skip_oversized();
                        position += bytes;
                        followed.is_skipping = false;
                        self.metrics.oversized_lines.inc();
                        tracing::warn!(file = %path.display(), line = parser.counts.lines, bytes, "line is too long and was skipped");
                    }
                    Piece::NeedMore => break,
                }
                if self.outbox.batch.events.len() >= self.settings.batch_events_max.max(1) {
                    followed.lines = parser.counts.lines;
                    followed.advance_to(position, file, metadata);
                    self.outbox.set_offset(path, followed);
                    self.outbox.send()?;
                }
            }
        }
        // A whole object cannot be the beginning of a longer line, so it need not wait for its newline.
        if json::is_whole_object(self.reader.rest()) {
            parser.parse(self.reader.rest(), &mut self.outbox.batch.events);
            position += self.reader.rest().len() as u64;
            followed.owes_newline = true;
        }
        followed.is_skipping |= self.reader.skipped() > 0;
        position += self.reader.skipped();
        parser.finish(&mut self.outbox.batch.events);
        self.metrics.bytes.inc_by(position - start);
        self.count(&before, &parser.counts);
        if position != followed.position {
            followed.lines = parser.counts.lines;
            followed.advance_to(position, file, metadata);
            self.outbox.set_offset(path, followed);
        }
        if self.outbox.batch.offsets.len() >= OFFSETS_MAX { self.outbox.send() } else { Ok(()) }
    }
    /// What one reading added to a parser's counts.
    fn count(&self, before: &Counts, after: &Counts) {
        let unknown = |counts: &Counts| counts.unknown.values().sum::<u64>();
        self.metrics.lines.inc_by(after.lines - before.lines);
        self.metrics.events.inc_by(after.events - before.events);
        self.metrics.bad_lines.inc_by(after.bad - before.bad);
        self.metrics.unknown_lines.inc_by(unknown(after) - unknown(before));
    }
}
