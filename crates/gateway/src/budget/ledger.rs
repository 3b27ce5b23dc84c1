//! The outside of budgets: reserving, waiting, settling, and how things stand.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use paramedic_model::{Clock, Timestamp};
use tokio::sync::{broadcast, oneshot};
use tokio::time::Instant;

use super::book::Book;
use super::keeper::Keeper;
use super::outputs::Outputs;
use super::queue::{Answer, Outcome};
use super::reservation::Reservation;
use super::state::{End, Judged, State};
use super::store;
use super::view::{self, Budget, Hour, Spender};
use super::{Ask, Cap, Metrics, OpenError, Over, Period, Settings, Warning, Whose, Why};

/// Warnings that a slow reader may be behind.
const WARNINGS_MAX: usize = 1024;
/// Whoever waits looks again so often, whatever he was told: a clock was set, a window began.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Closing waits so long for the disk.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
const DAY_MS: i64 = 86_400_000;

/// What the calls and the keeper share. Locks are taken in the order of the fields.
pub(super) struct Shared {
    pub(super) book: Mutex<Book>,
    pub(super) state: Mutex<State>,
    pub(super) metrics: Metrics,
    pub(super) closing: AtomicBool,
    pub(super) keeper: OnceLock<Thread>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Shared {
    /// A lock whose holder fell over is taken all the same: the numbers are then those of a moment before.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The book, with all that happened up to now in it.
    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.take_in(self);
        book
    }
}

/// Everything that is spent, and everything that is held for calls that run.
pub struct Ledger {
    shared: Arc<Shared>,
    outputs: Outputs,
    warnings: broadcast::Sender<Warning>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

impl Ledger {
    /// Opens the ledger of a directory, or one that forgets.
    ///
    /// # Errors
    /// When there is a log that cannot be read, or no thread can be started. A directory that cannot be written is none:
    /// it is tried again and again while calls go on.
    pub fn open(dir: Option<&Path>, settings: Settings, clock: Arc<dyn Clock>) -> Result<Arc<Self>, OpenError> {
        let metrics = Metrics::default();
        let now = clock.now();
        let mut book = Book::default();
        if let Some(dir) = dir {
            let damaged = store::load(dir, &mut book)?;
            metrics.damaged.inc_by(damaged);
        }
        book.close_open();
        book.forget_old(now);
        book.logs = dir.is_some();
        let mut state = State::new(&settings, metrics.clone(), now);
        book.fill(&mut state);
        let (warnings, _) = broadcast::channel(WARNINGS_MAX);
        let shared = Arc::new(Shared {
            book: Mutex::new(book),
            state: Mutex::new(state),
            metrics,
            closing: AtomicBool::new(false),
            keeper: OnceLock::new(),
            clock,
        });
        let keeper = Keeper::new(Arc::clone(&shared), dir.map(Path::to_path_buf), &settings);
        let thread = std::thread::Builder::new().name("spend-log".to_owned()).spawn(move || keeper.run()).map_err(OpenError::Thread)?;
        let _ = shared.keeper.set(thread.thread().clone());
        Ok(Arc::new(Self { shared, outputs: Outputs::default(), warnings, thread: Mutex::new(Some(thread)) }))
    }

    /// What such calls wrote of late, for estimates.
    #[must_use]
    pub const fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Warnings from here on.
    #[must_use]
    pub fn warnings(&self) -> broadcast::Receiver<Warning> {
        self.warnings.subscribe()
    }

    /// Reserves what a call is likely to cost, from all its purses or from none. Waits its turn while others hold what is
    /// left; a call that goes away while it waits leaves nothing behind.
    ///
    /// # Errors
    /// When a cap is spent, or what is left of it was held by others for as long as the call may wait.
    pub async fn reserve(self: &Arc<Self>, ask: Ask<'_>) -> Result<Reservation, Over> {
        let (turn, estimate, at_most) = match self.enter(&ask) {
            Entered::In(reservation) => return Ok(reservation),
            Entered::Over(over) => return Err(over),
            Entered::Waits { turn, estimate } => (turn, estimate, ask.at_most),
        };
        self.shared.metrics.waited.inc();
        let came = Instant::now();
        let answer = turn.wait(came + ask.wait).await;
        let waited = came.elapsed();
        match answer {
            Ok(place) => Ok(Reservation::new(Arc::clone(self), place, estimate, at_most, waited)),
            Err(over) => {
                self.shared.metrics.refused.inc();
                Err(over)
            }
        }
    }

    fn enter(self: &Arc<Self>, ask: &Ask<'_>) -> Entered {
        let now = self.shared.clock.now();
        let mut out = Outcome::default();
        let mut state = self.shared.state();
        state.tick(now);
        let wanted = state.wanted(ask, now, &mut out);
        let judged = match state.judge(&wanted.limits, wanted.estimate, u64::MAX) {
            Judged::Refuse(at) if ask.pause && !ask.wait.is_zero() => Judged::Wait(at),
            judged => judged,
        };
        let entered = match judged {
            Judged::Pass => {
                let place = state.grant(&wanted, now);
                Ok(place)
            }
            Judged::Refuse(at) => Err((at, Why::Spent)),
            Judged::Wait(at) if ask.wait.is_zero() => Err((at, Why::Reserved)),
            Judged::Wait(at) if state.waiting.len() >= state.waiting_max => Err((at, Why::Crowded)),
            Judged::Wait(at) => {
                let (answer, answered) = oneshot::channel();
                let ticket = state.enqueue(wanted, at, answer);
                // A window may have begun since the last one ended: then nobody else would wake the first.
                state.wake(at, now, &mut out);
                self.leave(state, out);
                let turn = Turn { ledger: Arc::clone(self), ticket, answered, over: false };
                return Entered::Waits { turn, estimate: wanted.estimate };
            }
        };
        let over = entered.map_err(|(at, why)| state.over(at, why));
        self.leave(state, out);
        match over {
            Ok(place) => Entered::In(Reservation::new(Arc::clone(self), place, wanted.estimate, ask.at_most, Duration::ZERO)),
            Err(Some(over)) => {
                self.shared.metrics.refused.inc();
                Entered::Over(over)
            }
            // Cannot be: the cap that refuses is there. A call is not stopped by what cannot be.
            Err(None) => {
                let place = self.shared.state().grant(&wanted, now);
                Entered::In(Reservation::new(Arc::clone(self), place, wanted.estimate, ask.at_most, Duration::ZERO))
            }
        }
    }

    /// Lets go of the lock, wakes the keeper if it sleeps, then says what is to be said.
    fn leave(&self, mut state: MutexGuard<'_, State>, out: Outcome) {
        let wake = !state.pending.is_empty() && std::mem::replace(&mut state.asleep, false);
        drop(state);
        if let Some(keeper) = self.shared.keeper.get().filter(|_| wake) {
            keeper.unpark();
        }
        for warning in out.warnings {
            self.shared.metrics.warnings.inc();
            let _ = self.warnings.send(warning);
        }
        for (to, answer) in out.answers {
            // Whoever asked went away in this moment: what was held for him is free again.
            if let Err(Ok(place)) = to.send(answer) {
                self.end(place, End::Unasked);
            }
        }
    }

    pub(super) fn grow(&self, place: u32, pico: u64) {
        let mut state = self.shared.state();
        state.grow(place, pico);
        self.leave(state, Outcome::default());
    }

    pub(super) fn end(&self, place: u32, end: End) {
        let now = self.shared.clock.now();
        let mut out = Outcome::default();
        let mut state = self.shared.state();
        state.tick(now);
        state.end(place, end, now, &mut out);
        self.leave(state, out);
    }

    /// A cap was changed, or lifted: whoever waits for it sees it at once, and not with the next call.
    pub fn revise(&self, id: &str, pico_and_enforce: Option<(u64, bool)>) {
        let now = self.shared.clock.now();
        let mut out = Outcome::default();
        let mut state = self.shared.state();
        state.tick(now);
        let those: Vec<u32> = state.limits.iter().filter(|(_, limit)| *limit.id == *id).map(|(at, _)| at).collect();
        for at in those {
            if let Some(limit) = state.limits.get_mut(at) {
                limit.set = pico_and_enforce.is_some();
                (limit.pico, limit.enforce) = pico_and_enforce.unwrap_or((limit.pico, limit.enforce));
            }
            state.wake(at, now, &mut out);
        }
        self.leave(state, out);
    }

    /// How this cap stands, whether or not a call has asked for it.
    #[must_use]
    pub fn budget(&self, cap: &Cap) -> Budget {
        let mut state = self.shared.state();
        state.tick(self.shared.clock.now());
        view::budget(&mut state, cap)
    }

    /// All caps that calls have asked for.
    #[must_use]
    pub fn budgets(&self) -> Vec<Budget> {
        let mut state = self.shared.state();
        state.tick(self.shared.clock.now());
        view::budgets(&mut state)
    }

    /// Who spent most in the window that is open.
    #[must_use]
    pub fn top(&self, by: Whose, period: Period, n: usize) -> Vec<Spender> {
        self.shared.book().top(by, period, n, self.shared.clock.now())
    }

    /// The last 48 hours of a purse, `all` or `user:ana`; none when it is not kept by the hour.
    #[must_use]
    pub fn hours(&self, purse: &str) -> Option<Vec<Hour>> {
        self.shared.book().hours(purse, self.shared.clock.now())
    }

    /// Writes what there is to write and ends the keeper; gives up on a disk that hangs. Calls may go on, unwritten.
    pub fn close(&self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        thread.thread().unpark();
        let step = Duration::from_millis(2);
        for _ in 0..CLOSE_WAIT.as_millis() / step.as_millis() {
            if thread.is_finished() {
                let _ = thread.join();
                return;
            }
            std::thread::sleep(step);
        }
    }

    /// The time until somebody who waits should look again: at the latest when a day begins.
    fn look_again(&self) -> Duration {
        let left_ms = DAY_MS - self.shared.clock.now().as_millis().rem_euclid(DAY_MS);
        LOOK_AGAIN.min(Duration::from_millis(u64::try_from(left_ms).unwrap_or(1)))
    }

    fn wake(&self, ticket: u64) {
        let now: Timestamp = self.shared.clock.now();
        let mut out = Outcome::default();
        let mut state = self.shared.state();
        state.tick(now);
        if let Some(at) = state.waiting.get(&ticket).map(|waiting| waiting.at) {
            state.wake(at, now, &mut out);
        }
        self.leave(state, out);
    }

    /// The time is over. None when the answer is on its way already.
    fn give_up(&self, ticket: u64) -> Option<Answer> {
        let now = self.shared.clock.now();
        let mut out = Outcome::default();
        let mut state = self.shared.state();
        state.tick(now);
        let gone = state.leave(ticket).map(|waiting| {
            // Its turn has not come, but with nobody in front of it, it might pass: money is left, so it does.
            let answer = match state.judge(&waiting.wanted.limits, waiting.wanted.estimate, 0) {
                Judged::Pass => None,
                Judged::Wait(at) => state.over(at, Why::Reserved),
                Judged::Refuse(at) => state.over(at, Why::Spent),
            };
            let answer = answer.map_or_else(|| Ok(state.grant(&waiting.wanted, now)), Err);
            state.wake(waiting.at, now, &mut out);
            answer
        });
        self.leave(state, out);
        gone
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.close();
    }
}

enum Entered {
    In(Reservation),
    Over(Over),
    Waits { turn: Turn, estimate: u64 },
}

/// A place in a queue, which is left when the call goes away.
struct Turn {
    ledger: Arc<Ledger>,
    ticket: u64,
    answered: oneshot::Receiver<Answer>,
    over: bool,
}

impl Turn {
    async fn wait(mut self, until: Instant) -> Answer {
        let answer = loop {
            let look = until.min(Instant::now() + self.ledger.look_again());
            tokio::select! {
                biased;
                answer = &mut self.answered => break answer.ok(),
                () = tokio::time::sleep_until(look) => {}
            }
            if Instant::now() < until {
                self.ledger.wake(self.ticket);
            } else if let Some(answer) = self.ledger.give_up(self.ticket) {
                break Some(answer);
            } else {
                break (&mut self.answered).await.ok();
            }
        };
        self.over = true;
        // Cannot be: whoever takes a call from the queue answers it. A call is not stopped by what cannot be.
        answer.unwrap_or(Ok(u32::MAX))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        // Either it waits still, or it was answered a moment ago.
        match self.ledger.give_up(self.ticket) {
            Some(Ok(place)) => self.ledger.end(place, End::Unasked),
            Some(Err(_)) => {}
            None => {
                self.answered.close();
                if let Ok(Ok(place)) = self.answered.try_recv() {
                    self.ledger.end(place, End::Unasked);
                }
            }
        }
    }
}
