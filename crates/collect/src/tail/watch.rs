//! What woke the follower: changed paths, or that announcements were lost.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

/// Changed paths held at once; beyond that all folders are looked at instead.
const PATHS_MAX: usize = 4_096;

/// Set by the watcher's thread and by cancellation, taken by the follower.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    state: Mutex<Woken>,
    signal: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct Woken {
    pub(crate) paths: HashSet<PathBuf>,
    /// Announcements were lost, so everything must be looked at.
    pub(crate) is_lossy: bool,
    pub(crate) is_stopped: bool,
}

impl Woken {
    fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.is_lossy && !self.is_stopped
    }
}

impl Wakes {
    fn state(&self) -> MutexGuard<'_, Woken> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.state().is_stopped
    }

    pub(crate) fn stop(&self) {
        self.state().is_stopped = true;
        self.signal.notify_all();
    }

    fn changed(&self, event: notify::Result<notify::Event>) {
        let mut state = self.state();
        match event {
            Ok(event) if event.need_rescan() => state.is_lossy = true,
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => return,
            Ok(event) if state.paths.len() < PATHS_MAX => state.paths.extend(event.paths),
            Ok(_) | Err(_) => state.is_lossy = true,
        }
        drop(state);
        self.signal.notify_all();
    }

    /// What happened since the last call; waits for it at most `timeout`. Nothing means that the time is over.
    pub(crate) fn wait(&self, timeout: Duration) -> Woken {
        let state = self.state();
        let (mut state, _) =
            self.signal.wait_timeout_while(state, timeout, |state| state.is_empty()).unwrap_or_else(PoisonError::into_inner);
        // Once stopped, always stopped.
        let is_stopped = state.is_stopped;
        std::mem::replace(&mut *state, Woken { is_stopped, ..Woken::default() })
    }

    /// What happened since the last call, without waiting.
    pub(crate) fn take(&self) -> Woken {
        self.wait(Duration::ZERO)
    }
}

/// Has the file system announce what changes in a folder, or below it too. The watch ends with the value.
pub(crate) fn watch(folder: &Path, mode: RecursiveMode, wakes: &Arc<Wakes>) -> notify::Result<RecommendedWatcher> {
    let wakes = Arc::clone(wakes);
    // Links may lead back, or out of what we were told to watch.
    let config = notify::Config::default().with_follow_symlinks(false);
    let mut watcher = RecommendedWatcher::new(move |event| wakes.changed(event), config)?;
    watcher.watch(folder, mode)?;
    Ok(watcher)
}
