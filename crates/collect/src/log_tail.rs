//! Follows log files as they grow.
//!
//! **Takes** paths, or paths with `*` in the file's name, and the offsets that storage remembers. **Gives** batches of
//! events with the offsets that become true when the batch is stored, as [`tail`](crate::tail) does for transcripts.
//! **Never** tells a record twice: an offset lies before the record that is still being gathered, so a restart gathers
//! it anew.
//!
//! Unlike a transcript, a log is rotated. A followed file stays open, so what is written to it under another name is
//! read too; a file that was renamed while nobody looked is found beside its successor by its identity.

mod file;
mod pattern;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode};
use paramedic_model::{AgentId, Clock, limit};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::LogSettings;
use crate::log::{Options, Parser};
use crate::metrics::LogMetrics;
use crate::tail::watch::{Wakes, Woken, watch};
use crate::tail::{Batch, Offset, Outbox, Stopped, TailError, on_a_thread};
use crate::transcript::LineReader;
use file::{LogFile, OFFSET_PREFIX, Reached, Reading, id_of, offset_name};
use pattern::Pattern;

/// Files with a name like the followed one's that are looked at for one that was renamed.
const SIBLINGS_MAX: usize = 64;
/// Renamed files that are still read.
const LINGERING_MAX: usize = 64;

/// Changes that follow each other closely are read together.
const GATHER: Duration = Duration::from_millis(3);

/// What to follow and from where.
pub struct Start {
    /// All offsets that storage remembers; those of transcripts are left alone.
    pub offsets: Vec<Offset>,
    pub settings: LogSettings,
    pub metrics: LogMetrics,
    /// The time of records that tell none.
    pub clock: Arc<dyn Clock>,
}

/// Follows until cancelled, or until nobody takes the batches any more. The first batch that says `caught_up` comes when
/// every file was read to its end once.
pub async fn run(start: Start, tx: mpsc::Sender<Batch>, cancel: CancellationToken) -> Result<(), TailError> {
    on_a_thread(tx, &cancel, |outbox, wakes| Follower::new(start, outbox, wakes).run()).await
}

/// What storage remembers of a file.
enum Recalled {
    Known,
    Unknown,
    /// Another file had this name.
    Replaced(Offset),
}

struct Follower {
    patterns: Vec<Pattern>,
    watched: HashMap<PathBuf, Option<RecommendedWatcher>>,
    remembered: HashMap<String, Offset>,
    files: HashMap<PathBuf, LogFile>,
    /// Files that have lost their name and may still be written to.
    lingering: Vec<LogFile>,
    unreadable: HashSet<PathBuf>,
    is_started: bool,
    reader: LineReader,
    outbox: Outbox,
    wakes: Arc<Wakes>,
    settings: LogSettings,
    metrics: LogMetrics,
    clock: Arc<dyn Clock>,
}

impl Follower {
    fn new(start: Start, outbox: Outbox, wakes: Arc<Wakes>) -> Self {
        let pattern = |written: &String| {
            let pattern = Pattern::read(written);
            if pattern.is_none() {
                tracing::warn!(files = written, "this names no file and is left out");
            }
            pattern
        };
        Self {
            patterns: start.settings.files.iter().filter_map(pattern).collect(),
            watched: HashMap::new(),
            remembered: start.offsets.into_iter().map(|offset| (offset.file.clone(), offset)).collect(),
            files: HashMap::new(),
            lingering: Vec::new(),
            unreadable: HashSet::new(),
            is_started: false,
            reader: LineReader::new(start.settings.line_bytes_max),
            outbox,
            wakes,
            settings: start.settings,
            metrics: start.metrics,
            clock: start.clock,
        }
    }

    fn run(mut self) -> Result<(), Stopped> {
        self.look()?;
        self.is_started = true;
        self.outbox.batch.caught_up = true;
        self.outbox.send()?;
        let mut due = Instant::now() + self.patience();
        loop {
            let woken = self.wakes.wait(due.saturating_duration_since(Instant::now()));
            if woken.is_stopped {
                return Ok(());
            }
            if self.concerns(&woken) {
                std::thread::sleep(GATHER);
            } else if Instant::now() < due {
                continue;
            }
            self.look()?;
            self.outbox.send()?;
            due = Instant::now() + self.patience();
        }
    }

    /// Whether what happened is about a followed file: folders of logs hold others too.
    fn concerns(&self, woken: &Woken) -> bool {
        woken.is_lossy || !self.lingering.is_empty() || woken.paths.iter().any(|path| self.patterns.iter().any(|one| one.is_match(path)))
    }

    fn patience(&self) -> Duration {
        let is_polling = self.watched.values().any(Option::is_none);
        let mut wait = Duration::from_millis(if is_polling { self.settings.poll_ms } else { self.settings.rescan_ms });
        let flush = Duration::from_millis(self.settings.flush_ms);
        for file in self.files.values().filter(|file| file.is_gathering()) {
            wait = wait.min(flush.saturating_sub(file.grew_at.elapsed()));
        }
        if !self.lingering.is_empty() {
            wait = wait.min(Duration::from_millis(self.settings.poll_ms));
        }
        wait.max(Duration::from_millis(5))
    }

    /// Looks at everything once.
    fn look(&mut self) -> Result<(), Stopped> {
        self.watch_folders();
        self.read_lingering()?;
        let paths = self.paths();
        self.follow_names(&paths)?;
        for path in paths {
            if !self.files.contains_key(&path) {
                self.meet(&path)?;
            }
            if let Some(file) = self.files.remove(&path) {
                self.read_to_end(file)?;
            }
            if self.wakes.is_stopped() {
                return Err(Stopped);
            }
        }
        self.metrics.files.set(i64::try_from(self.files.len()).unwrap_or(i64::MAX));
        Ok(())
    }

    fn watch_folders(&mut self) {
        for pattern in &self.patterns {
            let folder = &pattern.folder;
            if !folder.is_dir() {
                self.watched.insert(folder.clone(), None);
            } else if !matches!(self.watched.get(folder), Some(Some(_))) {
                self.watched.insert(folder.clone(), watch(folder, RecursiveMode::NonRecursive, &self.wakes).ok());
            }
        }
    }

    fn paths(&self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for path in self.patterns.iter().flat_map(Pattern::files) {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        if paths.len() > self.settings.files_max {
            tracing::warn!(files = paths.len(), followed = self.settings.files_max, "too many log files; some are left out");
            paths.truncate(self.settings.files_max);
        }
        paths
    }

    /// Files whose path leads elsewhere now: one that has another followed name goes on under it, the others linger.
    fn follow_names(&mut self, paths: &[PathBuf]) -> Result<(), Stopped> {
        let moved: Vec<PathBuf> = self.files.iter().filter(|(_, file)| !file.is_in_place()).map(|(path, _)| path.clone()).collect();
        for mut file in moved.iter().filter_map(|path| self.files.remove(path)).collect::<Vec<_>>() {
            self.metrics.rotations.inc();
            let renamed = paths.iter().find(|path| std::fs::metadata(path).is_ok_and(|metadata| id_of(&metadata) == file.id));
            if let Some(path) = renamed.filter(|path| !self.files.contains_key(*path)) {
                file.path.clone_from(path);
                self.outbox.put_offset(file.offset());
                self.files.insert(path.clone(), file);
                continue;
            }
            tracing::info!(file = %file.path.display(), "log was rotated");
            file.grew_at = Instant::now();
            if self.lingering.len() >= LINGERING_MAX {
                let oldest = self.lingering.remove(0);
                self.part_with(oldest)?;
            }
            self.lingering.push(file);
        }
        self.read_lingering()
    }

    /// Reads what is written to files that have lost their name, and parts with those that nobody writes to any more.
    fn read_lingering(&mut self) -> Result<(), Stopped> {
        let patience = Duration::from_secs(self.settings.linger_s);
        for mut file in std::mem::take(&mut self.lingering) {
            self.read_all(&mut file, false)?;
            self.flush_quiet(&mut file);
            if file.grew_at.elapsed() >= patience {
                self.part_with(file)?;
            } else {
                self.lingering.push(file);
            }
        }
        Ok(())
    }

    fn part_with(&mut self, mut file: LogFile) -> Result<(), Stopped> {
        self.read_all(&mut file, false)?;
        let mut reading = reading(&mut self.reader, &self.metrics, self.clock.as_ref(), &self.settings, &mut self.outbox);
        file.read_rest(&mut reading);
        Ok(())
    }

    /// A path that was not followed until now.
    fn meet(&mut self, path: &Path) -> Result<(), Stopped> {
        let mut file = match LogFile::open(path, self.parser(path)) {
            Ok(file) => file,
            Err(error) => {
                self.cannot_read(path, &error);
                return Ok(());
            }
        };
        if self.files.values().chain(&self.lingering).any(|other| other.id == file.id) {
            return Ok(());
        }
        self.unreadable.remove(path);
        match self.recall(&mut file) {
            Recalled::Known => {}
            Recalled::Replaced(offset) => self.read_renamed(path, &offset)?,
            Recalled::Unknown if self.is_started || self.settings.history => {}
            Recalled::Unknown => {
                if let Err(error) = file.skip_to_end() {
                    self.cannot_read(path, &error);
                }
            }
        }
        self.outbox.put_offset(file.offset());
        self.files.insert(path.to_owned(), file);
        Ok(())
    }

    /// Finds out how far the file was read when the program last ran, be it under another name.
    fn recall(&mut self, file: &mut LogFile) -> Recalled {
        let own = offset_name(&file.path);
        if let Some(offset) = self.remembered.get(&own)
            && file.resume(offset).unwrap_or(false)
        {
            self.remembered.remove(&own);
            return Recalled::Known;
        }
        if !self.is_started {
            let mut others = self.remembered.iter().filter(|(name, offset)| name.starts_with(OFFSET_PREFIX) && offset.position > 0);
            if let Some(name) = others.find(|(_, offset)| file.resume(offset).unwrap_or(false)).map(|(name, _)| name.clone()) {
                self.remembered.remove(&name);
                return Recalled::Known;
            }
        }
        self.remembered.get(&own).map_or(Recalled::Unknown, |offset| Recalled::Replaced(offset.clone()))
    }

    /// The file that was read when the program last ran has another name now, or is gone.
    fn read_renamed(&mut self, path: &Path, offset: &Offset) -> Result<(), Stopped> {
        self.metrics.rotations.inc();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let entries = path.parent().and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
        let siblings = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&name) && entry.path() != path);
        for sibling in siblings.take(SIBLINGS_MAX) {
            let Ok(mut file) = LogFile::open(&sibling.path(), self.parser(path)) else { continue };
            if !file.resume(offset).unwrap_or(false) {
                continue;
            }
            // A name that is followed in its own right goes on under it.
            if self.patterns.iter().any(|pattern| pattern.is_match(&sibling.path())) {
                return Ok(());
            }
            tracing::info!(file = %path.display(), renamed = %sibling.path().display(), "log was rotated while nobody looked");
            self.read_all(&mut file, false)?;
            return self.part_with(file);
        }
        tracing::warn!(file = %path.display(), "log was replaced while nobody looked; what was not read of the old one is lost");
        Ok(())
    }

    fn parser(&self, path: &Path) -> Parser {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let agent = stem
            .filter(|_| self.settings.agent_from_file)
            .map(|stem| AgentId::new(paramedic_model::text::head(&stem, limit::ID_BYTES_MAX)));
        Parser::new(Options { capture_text: self.settings.capture_text, agent, session: None, time_zone: self.settings.time_zone.clone() })
    }

    fn read_to_end(&mut self, mut file: LogFile) -> Result<(), Stopped> {
        self.read_all(&mut file, true)?;
        if self.flush_quiet(&mut file) {
            self.outbox.put_offset(file.offset());
        }
        self.files.insert(file.path.clone(), file);
        Ok(())
    }

    /// Completes a record that nothing was added to for a while.
    fn flush_quiet(&mut self, file: &mut LogFile) -> bool {
        let is_complete = file.is_gathering() && file.grew_at.elapsed() >= Duration::from_millis(self.settings.flush_ms);
        if is_complete {
            file.flush(&mut reading(&mut self.reader, &self.metrics, self.clock.as_ref(), &self.settings, &mut self.outbox));
        }
        is_complete
    }

    /// Reads up to the end, batch by batch. A file that has lost its name has no offset any more: its name's belongs to
    /// its successor.
    fn read_all(&mut self, file: &mut LogFile, has_name: bool) -> Result<(), Stopped> {
        loop {
            let outcome = file.read(&mut reading(&mut self.reader, &self.metrics, self.clock.as_ref(), &self.settings, &mut self.outbox));
            let (reached, is_news) = match outcome {
                Ok(outcome) => outcome,
                Err(error) => {
                    let path = file.path.clone();
                    self.cannot_read(&path, &error);
                    return Ok(());
                }
            };
            if is_news && has_name {
                self.outbox.put_offset(file.offset());
            }
            if reached == Reached::End {
                return Ok(());
            }
            self.outbox.send()?;
        }
    }

    fn cannot_read(&mut self, path: &Path, error: &io::Error) {
        self.metrics.unreadable_files.inc();
        if self.unreadable.insert(path.to_owned()) {
            tracing::warn!(file = %path.display(), %error, "log cannot be read; it is tried again");
        }
    }
}

fn reading<'a>(
    reader: &'a mut LineReader,
    metrics: &'a LogMetrics,
    clock: &dyn Clock,
    settings: &LogSettings,
    outbox: &'a mut Outbox,
) -> Reading<'a> {
    Reading { reader, metrics, now: clock.now(), events_max: settings.batch_events_max.max(1), events: &mut outbox.batch.events }
}
