//! What holds all runs together: attempts that were made, locks that are held, the fleet's brake and the kill switch.
//!
//! This is state, and it is stored: a restart forgets nothing. Its time is its own. A wall clock may be set forward to make a
//! limit forget, or backward to make one last for ever; so ages are counted from the machine's uptime, and across a restart
//! of the machine the wall clock is believed for ten minutes at most.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use paramedic_model::{Clock, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::Rate;

/// Attempts that are remembered; the oldest go first, and none goes that a limit may still ask for.
const ATTEMPTS_MAX: usize = 1_500;
/// Bytes of a name in an attempt: all of them together have to fit into one entry of a journal.
const NAME_BYTES_MAX: usize = 128;
/// Age after which no limit asks for an attempt any more.
const REMEMBERED_MS: u64 = 7 * 24 * 3_600_000;
/// What the wall clock may say passed while the machine was down.
const REBOOT_CREDIT_MS: u64 = 600_000;

/// A moment as a decision needs it: what time it is, and how long this machine has run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Moment {
    pub wall: Timestamp,
    /// Milliseconds since the machine was started; it never goes back and nobody sets it.
    pub uptime_ms: u64,
    /// Which start of the machine that was.
    pub boot: String,
}

impl Moment {
    /// Now, on this machine. Where the uptime cannot be read, the process' own age stands in for it.
    #[must_use]
    pub fn now(clock: &dyn Clock) -> Self {
        static BEGUN: std::sync::LazyLock<(std::time::Instant, Timestamp)> =
            std::sync::LazyLock::new(|| (std::time::Instant::now(), paramedic_model::SystemClock.now()));
        // It stays the same as long as any process lives.
        static BOOT: std::sync::LazyLock<Option<String>> =
            std::sync::LazyLock::new(|| std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|boot| boot.trim().to_owned()));
        let uptime = std::fs::read_to_string("/proc/uptime").ok();
        let seconds = uptime.as_deref().and_then(|text| text.split_whitespace().next()).and_then(|text| text.parse::<f64>().ok());
        let (begun, begun_at) = *BEGUN;
        let wall = clock.now();
        match (seconds, BOOT.as_deref()) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an uptime is positive and below 2^53 ms")]
            (Some(seconds), Some(boot)) => Self { wall, uptime_ms: (seconds * 1000.0) as u64, boot: boot.to_owned() },
            _ => Self {
                wall,
                uptime_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
                boot: format!("process of {}", begun_at.as_micros()),
            },
        }
    }
}

/// What the kill switch stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stopped {
    #[default]
    Nothing,
    /// What changes something.
    Writes,
    /// Looking too.
    Everything,
}

/// Who did something to the brakes, and why.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Note {
    pub by: String,
    pub why: String,
    pub at: Timestamp,
}

/// Whether unattended changes are still allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "fleet", rename_all = "lowercase")]
pub enum Fleet {
    Free,
    /// Nothing changes unattended until a person says so.
    Tripped {
        attempts: u32,
        at: Timestamp,
    },
}

/// One attempt to change something, counted when it begins, whatever becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    pub run: String,
    pub runbook: String,
    pub step: String,
    pub target: String,
    pub unattended: bool,
    /// Attempts are numbered from 1.
    number: u64,
    /// On the clock of these brakes.
    at_ms: u64,
}

/// The brakes of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Brakes {
    pub version: u32,
    /// Unattended attempts in an hour, of the whole fleet, at which the brake trips.
    pub fleet_limit: u32,
    stopped: Stopped,
    stopped_note: Option<Note>,
    fleet: Fleet,
    /// Attempts up to this number do not count for the fleet's brake: a person released it then.
    released_number: u64,
    released_note: Option<Note>,
    /// All attempts ever made.
    made: u64,
    attempts: VecDeque<Attempt>,
    /// Which run holds a lock.
    locks: BTreeMap<String, String>,
    /// The brakes' own clock.
    clock_ms: u64,
    last: Option<Moment>,
    /// What a file stops; it is looked at each time, and nobody stores it.
    #[serde(skip)]
    outside: Stopped,
    /// Something changed since they were stored.
    #[serde(skip)]
    unwritten: bool,
}

/// The brakes before a decision, to go back to when what was decided could not be written down.
#[derive(Debug)]
pub(crate) struct Mark {
    made: u64,
    locks: BTreeMap<String, String>,
    unwritten: bool,
}

/// What the brakes look like now, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BrakesView {
    pub stopped: Stopped,
    /// The stop file is there.
    pub stopped_by_file: bool,
    pub stopped_note: Option<Note>,
    pub fleet: Fleet,
    pub fleet_limit: u32,
    pub unattended_last_hour: u32,
    pub locks: BTreeMap<String, String>,
}

impl Default for Brakes {
    fn default() -> Self {
        Self::new(10)
    }
}

impl Brakes {
    pub const VERSION: u32 = 1;

    #[must_use]
    pub fn new(fleet_limit: u32) -> Self {
        Self {
            version: Self::VERSION,
            fleet_limit,
            stopped: Stopped::Nothing,
            stopped_note: None,
            fleet: Fleet::Free,
            released_number: 0,
            released_note: None,
            made: 0,
            attempts: VecDeque::new(),
            locks: BTreeMap::new(),
            clock_ms: 0,
            last: None,
            outside: Stopped::Nothing,
            unwritten: false,
        }
    }

    /// Lets time pass. Every other method speaks of the moment that was observed last.
    pub fn observe(&mut self, moment: &Moment) {
        let passed = match &self.last {
            None => 0,
            Some(last) if last.boot == moment.boot => moment.uptime_ms.saturating_sub(last.uptime_ms),
            Some(last) => {
                let by_wall = u64::try_from(moment.wall.since(last.wall).as_millis()).unwrap_or(u64::MAX);
                // The machine ran at least this long since.
                by_wall.min(REBOOT_CREDIT_MS).max(moment.uptime_ms.min(by_wall))
            }
        };
        self.clock_ms = self.clock_ms.saturating_add(passed);
        let back = self.last.as_ref().is_some_and(|last| last.boot == moment.boot && last.uptime_ms > moment.uptime_ms);
        if !back {
            self.last = Some(moment.clone());
        }
        let forgotten = self.clock_ms.saturating_sub(REMEMBERED_MS);
        while self.attempts.front().is_some_and(|attempt| attempt.at_ms < forgotten) {
            self.attempts.pop_front();
        }
    }

    /// The brakes' own time, in milliseconds; for ages of approvals and counts.
    #[must_use]
    pub const fn clock_ms(&self) -> u64 {
        self.clock_ms
    }

    #[must_use]
    pub fn stopped(&self) -> Stopped {
        self.stopped.max(self.outside)
    }

    /// What people stopped, whatever a file says.
    #[must_use]
    pub const fn stopped_by_people(&self) -> Stopped {
        self.stopped
    }

    /// Says what is stopped by something else than these brakes: a file.
    pub const fn stop_from_outside(&mut self, what: Stopped) {
        self.outside = what;
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { made: self.made, locks: self.locks.clone(), unwritten: self.unwritten }
    }

    /// Forgets what was counted and locked since: it did not happen. That the fleet's brake tripped is not forgotten.
    pub(crate) fn forget_since(&mut self, mark: Mark) {
        while self.attempts.back().is_some_and(|attempt| attempt.number > mark.made) {
            self.attempts.pop_back();
        }
        self.made = mark.made;
        self.locks = mark.locks;
        self.unwritten = mark.unwritten || matches!(self.fleet, Fleet::Tripped { .. });
    }

    /// Something changed since they were stored.
    #[must_use]
    pub const fn is_unwritten(&self) -> bool {
        self.unwritten
    }

    /// They were stored as they are.
    pub const fn written(&mut self) {
        self.unwritten = false;
    }

    /// Gives up the locks of runs that are over, whoever ended them.
    pub fn keep_locks(&mut self, is_open: impl Fn(&str) -> bool) {
        let before = self.locks.len();
        self.locks.retain(|_, holder| is_open(holder));
        self.unwritten |= self.locks.len() != before;
    }

    /// Sets the kill switch.
    pub fn stop(&mut self, what: Stopped, note: Note) {
        self.unwritten = true;
        self.stopped = what;
        self.stopped_note = Some(note);
    }

    /// A person lets unattended changes happen again. Attempts before do not count any more.
    pub fn release(&mut self, note: Note) -> Result<(), String> {
        if note.by.trim().is_empty() || is_machine(&note.by) {
            return Err("release the brake: only a person can, and the record needs their name".to_owned());
        }
        self.unwritten = true;
        self.fleet = Fleet::Free;
        self.released_number = self.made;
        self.released_note = Some(note);
        Ok(())
    }

    /// Attempts that match within a window.
    fn count(&self, window: Duration, matches: impl Fn(&Attempt) -> bool) -> u32 {
        let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        let counted = self.attempts.iter().rev().take_while(|attempt| self.clock_ms.saturating_sub(attempt.at_ms) < window);
        u32::try_from(counted.filter(|attempt| matches(attempt)).count()).unwrap_or(u32::MAX)
    }

    /// Why a step may not be tried on a target now: too often, or too soon.
    #[must_use]
    pub fn too_often(&self, runbook: &str, step: &str, target: &str, rate: Rate, cooldown_ms: u64) -> Option<(String, u64)> {
        let (runbook, step, target) = (name(runbook), name(step), name(target));
        let same = |attempt: &Attempt| attempt.runbook == runbook && attempt.step == step && attempt.target == target;
        let last = self.attempts.iter().rev().find(|attempt| same(attempt));
        let age = last.map(|last| self.clock_ms.saturating_sub(last.at_ms));
        if let Some(age) = age.filter(|age| *age < cooldown_ms) {
            return Some((format!("{target} was tried {} s ago; it rests {} s", age / 1000, cooldown_ms / 1000), cooldown_ms - age));
        }
        let made = self.count(Duration::from_millis(rate.window_ms), same);
        (made >= rate.attempts).then(|| {
            let oldest = self.attempts.iter().rev().filter(|attempt| same(attempt)).nth(rate.attempts as usize - 1);
            let wait = oldest.map_or(rate.window_ms, |oldest| rate.window_ms.saturating_sub(self.clock_ms.saturating_sub(oldest.at_ms)));
            (format!("{made} attempts on {target} in the last {} s; the limit is {}", rate.window_ms / 1000, rate.attempts), wait.max(1))
        })
    }

    /// Why a runbook as a whole may not change anything more.
    #[must_use]
    pub fn runbook_too_often(&self, runbook: &str, run: &str, rate: Rate) -> Option<String> {
        let mut runs: Vec<&str> = self
            .attempts
            .iter()
            .filter(|attempt| {
                attempt.runbook == name(runbook) && attempt.run != run && self.clock_ms.saturating_sub(attempt.at_ms) < rate.window_ms
            })
            .map(|attempt| attempt.run.as_str())
            .collect();
        runs.sort_unstable();
        runs.dedup();
        let made = runs.len();
        (made >= rate.attempts as usize).then(|| {
            format!("{made} runs of {runbook} changed something in the last {} s; its limit is {}", rate.window_ms / 1000, rate.attempts)
        })
    }

    /// Which other run holds a lock.
    #[must_use]
    pub fn held_by(&self, lock: &str, run: &str) -> Option<&str> {
        self.locks.get(lock).map(String::as_str).filter(|holder| *holder != run)
    }

    /// Counts an attempt and takes its lock. Says what the fleet's brake thinks of an unattended one: an error trips it.
    pub(crate) fn begin(&mut self, attempt: (&str, &str, &str, &str), lock: Option<&str>, unattended: bool) -> Result<(), String> {
        if unattended {
            self.take_unattended()?;
        }
        let (run, runbook, step, target) = attempt;
        let own = |text: &str| name(text).to_owned();
        self.unwritten = true;
        self.made += 1;
        self.attempts.push_back(Attempt {
            run: own(run),
            runbook: own(runbook),
            step: own(step),
            target: own(target),
            unattended,
            number: self.made,
            at_ms: self.clock_ms,
        });
        if self.attempts.len() > ATTEMPTS_MAX {
            self.attempts.pop_front();
        }
        if let Some(lock) = lock {
            self.locks.insert(lock.to_owned(), run.to_owned());
        }
        Ok(())
    }

    /// Asks the fleet's brake about one more unattended change, and trips it when that is one too many.
    fn take_unattended(&mut self) -> Result<(), String> {
        if let Some(why) = self.tripped() {
            return Err(why);
        }
        let made = self.unattended_last_hour();
        if made >= self.fleet_limit || self.attempts.len() >= ATTEMPTS_MAX {
            self.unwritten = true;
            self.fleet = Fleet::Tripped { attempts: made, at: self.last.as_ref().map_or(Timestamp::EPOCH, |last| last.wall) };
            return Err(self.tripped().unwrap_or_default());
        }
        Ok(())
    }

    /// Why nothing changes unattended; none while the brake is free.
    #[must_use]
    pub fn tripped(&self) -> Option<String> {
        match &self.fleet {
            Fleet::Free => None,
            Fleet::Tripped { attempts, .. } => Some(format!(
                "the fleet's brake tripped at {attempts} unattended attempts in an hour (limit {}); a person must release it",
                self.fleet_limit
            )),
        }
    }

    #[must_use]
    pub fn unattended_last_hour(&self) -> u32 {
        self.count(Duration::from_secs(3600), |attempt| attempt.unattended && attempt.number > self.released_number)
    }

    /// Gives up the locks of a run that ended.
    pub fn end_run(&mut self, run: &str) {
        self.keep_locks(|holder| holder != run);
    }

    #[must_use]
    pub fn view(&self) -> BrakesView {
        BrakesView {
            stopped: self.stopped(),
            stopped_by_file: self.outside > Stopped::Nothing,
            stopped_note: self.stopped_note.clone(),
            fleet: self.fleet.clone(),
            fleet_limit: self.fleet_limit,
            unattended_last_hour: self.unattended_last_hour(),
            locks: self.locks.clone(),
        }
    }
}

/// A name as attempts keep it.
fn name(text: &str) -> &str {
    paramedic_model::text::head(text, NAME_BYTES_MAX)
}

/// Names under which no person acts.
pub(crate) fn is_machine(name: &str) -> bool {
    let name = name.trim().to_ascii_lowercase();
    ["policy", "system", "paramedic", "automation", "agent", "http", "web", "anonymous"]
        .iter()
        .any(|machine| name == *machine || name.starts_with(&format!("{machine}:")))
}
