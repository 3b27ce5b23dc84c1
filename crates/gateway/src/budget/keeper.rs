//! The thread that takes in what calls did and writes it down: in batches, away from all calls.
//!
//! A disk that is full, broken or slow costs nothing but lines: the book has all that they would have said, and the log
//! is written anew from it as soon as that can be done.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::Settings;
use super::ledger::Shared;
use super::store::{Log, Owner};

/// After a write that failed, and doubled up to the other after each further one.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Sleeping without an end is one that nobody could mend.
const NAP: Duration = Duration::from_secs(60);

pub(super) struct Keeper {
    shared: Arc<Shared>,
    dir: Option<PathBuf>,
    log: Option<Log>,
    /// Its size when it was last written anew.
    short: u64,
    log_bytes_max: u64,
    batch: Duration,
    sync: Duration,
    synced: Instant,
    unsynced: bool,
    syncer: Option<SyncSender<Arc<File>>>,
    retry_at: Instant,
    retry_after: Duration,
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>, dir: Option<PathBuf>, settings: &Settings) -> Self {
        let now = Instant::now();
        let syncer = dir.as_ref().and_then(|_| syncer(&shared));
        Self {
            shared,
            dir,
            log: None,
            short: 0,
            log_bytes_max: settings.log_bytes_max,
            batch: Duration::from_millis(settings.batch_ms.clamp(1, 1000)),
            sync: Duration::from_millis(settings.sync_ms.clamp(10, 60_000)),
            synced: now,
            unsynced: false,
            syncer,
            retry_at: now,
            retry_after: RETRY_FIRST,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            let closing = self.shared.closing.load(Ordering::SeqCst);
            if catch_unwind(AssertUnwindSafe(|| self.round(closing))).is_err() {
                self.failed(0);
            }
            if closing {
                return;
            }
            self.rest();
        }
    }

    /// Sleeps until a call did something, or something is to be done for the disk; then lets some more come together.
    fn rest(&self) {
        let nap = if self.dir.is_some() && self.log.is_none() {
            self.retry_at.saturating_duration_since(Instant::now())
        } else if self.unsynced {
            self.sync.saturating_sub(self.synced.elapsed())
        } else {
            NAP
        };
        let idle = {
            let mut state = self.shared.state();
            state.asleep = state.pending.is_empty();
            state.asleep
        };
        if idle && !self.shared.closing.load(Ordering::SeqCst) {
            thread::park_timeout(nap);
        }
        self.shared.state().asleep = false;
        if !self.shared.closing.load(Ordering::SeqCst) {
            thread::park_timeout(self.batch);
        }
    }

    fn round(&mut self, closing: bool) {
        let (text, lines, rewrite) = {
            let mut book = self.shared.book();
            // While there is no log, what it would say is in the book, and is written with all the rest.
            let (text, lines) = (std::mem::take(&mut book.outbox), std::mem::take(&mut book.lines));
            (text, lines, std::mem::take(&mut book.rewrite))
        };
        let Some(dir) = self.dir.clone() else { return };
        let long = self.log.as_ref().is_some_and(|log| log.size > self.log_bytes_max && log.size > self.short * 2);
        if rewrite || long || self.log.is_none() {
            if self.log.is_none() && !closing && Instant::now() < self.retry_at {
                self.shared.metrics.lost.inc_by(lines);
                return;
            }
            self.write_anew(&dir, lines);
        } else if let Some(log) = self.log.as_mut().filter(|_| !text.is_empty()) {
            match log.append(&text) {
                Ok(()) => {
                    self.unsynced = true;
                    self.shared.metrics.written.inc_by(lines);
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to write down what is spent; it is tried again");
                    self.failed(lines);
                }
            }
        }
        self.make_last(closing);
    }

    fn write_anew(&mut self, dir: &std::path::Path, lines_waiting: u64) {
        if self.log.as_ref().is_some_and(|log| log.owner(dir) == Owner::Another) {
            return self.succeeded();
        }
        let (text, lines) = {
            let mut book = self.shared.book();
            book.logs = true;
            book.outbox.clear();
            book.lines = 0;
            book.whole()
        };
        match Log::write_anew(dir, &text) {
            Ok(log) => {
                self.short = log.size;
                self.log = Some(log);
                self.unsynced = false;
                self.retry_after = RETRY_FIRST;
                self.shared.metrics.written.inc_by(lines);
            }
            Err(error) => {
                tracing::warn!(%error, dir = %dir.display(), "failed to write down what is spent; it is tried again");
                self.failed(lines_waiting);
            }
        }
    }

    fn failed(&mut self, lines: u64) {
        self.shared.metrics.failures.inc();
        self.shared.metrics.lost.inc_by(lines);
        self.log = None;
        self.retry_at = Instant::now() + self.retry_after;
        self.retry_after = (self.retry_after * 2).min(RETRY_MAX);
    }

    /// Another gateway took the directory over, as the next one does while this one drains. Its log is not touched.
    fn succeeded(&mut self) {
        tracing::warn!("another gateway writes down what is spent here; this one stops writing");
        (self.dir, self.log, self.unsynced) = (None, None, false);
        self.shared.book().logs = false;
    }

    fn make_last(&mut self, closing: bool) {
        let Some((log, dir)) = self.log.as_ref().zip(self.dir.as_ref()) else { return };
        if !self.unsynced || !closing && self.synced.elapsed() < self.sync {
            return;
        }
        match log.owner(dir) {
            Owner::Ours => {}
            Owner::Nobody => {
                self.shared.book().rewrite = true;
                return;
            }
            Owner::Another => return self.succeeded(),
        }
        if closing {
            let _ = log.file.sync_data();
        } else if self.syncer.as_ref().is_some_and(|syncer| syncer.try_send(Arc::clone(&log.file)).is_err()) {
            // The last one is not through yet: next time.
            self.synced = Instant::now();
            return;
        }
        (self.synced, self.unsynced) = (Instant::now(), false);
    }
}

/// A thread that only waits for the disk, so that the keeper does not.
fn syncer(shared: &Shared) -> Option<SyncSender<Arc<File>>> {
    let (sender, files) = sync_channel::<Arc<File>>(1);
    let failures = shared.metrics.failures.clone();
    let work = move || {
        for file in files {
            if file.sync_data().is_err() {
                failures.inc();
            }
        }
    };
    thread::Builder::new().name("spend-sync".to_owned()).spawn(work).ok().map(|_| sender)
}
