//! Everything that runs beside the requests: named, stoppable, and nothing is started without being on this list.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

/// Running tasks by name, in the order in which they were started.
#[derive(Debug, Default)]
pub(crate) struct Clockwork {
    tasks: Mutex<Vec<(&'static str, JoinHandle<()>)>>,
}

impl Clockwork {
    pub(crate) fn start(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let task = tokio::spawn(work);
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push((name, task));
    }

    /// Names of tasks that have ended although nobody asked them to; a panic is one way to end.
    pub(crate) fn ended(&self) -> Vec<&'static str> {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.iter().filter(|(_, task)| task.is_finished()).map(|(name, _)| *name).collect()
    }

    /// Waits for all tasks, the last started first, and cuts those that take longer than `grace` together.
    pub(crate) async fn drain(&self, grace: Duration) -> Vec<&'static str> {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let deadline = tokio::time::Instant::now() + grace;
        let mut cut = Vec::new();
        for (name, mut task) in tasks.into_iter().rev() {
            match tokio::time::timeout_at(deadline, &mut task).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(task = name, %error, "a task ended badly"),
                Err(_) => {
                    task.abort();
                    cut.push(name);
                }
            }
        }
        cut
    }
}
