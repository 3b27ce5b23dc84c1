//! The switches that hold: a fold over the journal's entries about `switch/<id>`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use paramedic_journal::{Draft, Entry, Expected, Fold, Journal, JournalError};
use paramedic_model::switch::{Known, Scope, Switch, SwitchFault, checked, find, never, own_name};
use paramedic_model::{Timestamp, secret, text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

use crate::kept::{Decision, Kept};

/// A switch holds at most this long, in seconds; whoever needs it longer sets it again. What may last is not bound by it.
pub const TTL_MAX_S: u64 = 24 * 3_600;
/// Switches that hold at the same time.
const ACTIVE_MAX: usize = 1_000;
/// Ended switches that are remembered; older ones are in the journal.
const ENDED_MAX: usize = 200;
const ENFORCERS_MAX: usize = 100;
/// An enforcer that was not seen for so long is gone.
const ENFORCER_GONE: Duration = Duration::from_secs(60);
const WHO_BYTES_MAX: usize = 256;
const WHY_BYTES_MAX: usize = 2_048;

const SUBJECT: &str = "switch/";
const SET: &str = "switch-set";
const CLEARED: &str = "switch-cleared";
const EXPIRED: &str = "switch-expired";
const FORMAT: u32 = 1;
/// Who ends a switch when its time is over.
const CLOCKWORK: &str = "clockwork";

/// Each completes "failed to …".
#[derive(Debug, Clone, thiserror::Error)]
pub enum SwitchError {
    #[error(transparent)]
    Fault(#[from] SwitchFault),
    /// Its end is none that it can have.
    #[error("set the switch {name}: {why}")]
    Time { name: String, why: String },
    #[error("set the switch {name}: {count} switches hold already")]
    TooMany { name: String, count: usize },
    #[error("clear the switch {id}: it is not set")]
    NotSet { id: String },
    #[error("set a switch: {0}")]
    Journal(#[from] JournalError),
}

/// Why a switch does not hold any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Its time was over.
    Expired,
    /// Somebody ended it.
    Cleared,
    /// Somebody set it anew.
    Replaced,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ended {
    pub switch: Switch,
    pub end: End,
    pub ended_at: Timestamp,
    pub by: String,
}

/// Who reads the list and does as it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Enforcer {
    pub name: String,
    pub seen_at: Timestamp,
}

/// For whoever enforces switches.
pub trait SwitchReader: Send + Sync {
    /// The switches that hold now.
    fn active(&self, now: Timestamp) -> Vec<Switch>;
}

/// What is written, format version 1. An entry that ends a switch holds only the version.
#[derive(Debug, Serialize, Deserialize)]
struct Payload {
    version: u32,
    #[serde(default)]
    switch: String,
    #[serde(default)]
    value: Value,
    #[serde(default)]
    scope: Option<Scope>,
    #[serde(default)]
    expires_at: Option<Timestamp>,
    #[serde(default)]
    why: String,
}

/// All switches, added up from the journal.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Switches {
    active: BTreeMap<String, Switch>,
    ended: VecDeque<Ended>,
    unreadable: u64,
}

impl Switches {
    fn end(&mut self, id: &str, end: End, entry: &Entry) {
        let Some(switch) = self.active.remove(id) else { return };
        self.ended.push_back(Ended { switch, end, ended_at: entry.at, by: entry.actor.clone() });
        let over = self.ended.len().saturating_sub(ENDED_MAX);
        self.ended.drain(..over);
    }

    fn set(&mut self, id: &str, entry: &Entry) -> Option<()> {
        let payload = Payload::deserialize(&entry.payload).ok().filter(|payload| payload.version == FORMAT)?;
        let Payload { switch, value, scope, expires_at, why, .. } = payload;
        let (scope, expires_at) = (scope?, expires_at?);
        if id != id_of(&switch, &scope) {
            return None;
        }
        self.end(id, End::Replaced, entry);
        let (by, set_at) = (entry.actor.clone(), entry.at);
        let switch = Switch { id: id.to_owned(), switch, value, scope, by, why, set_at, expires_at, seq: entry.seq };
        self.active.insert(id.to_owned(), switch);
        Some(())
    }
}

impl Fold for Switches {
    const NAME: &'static str = "switches";
    const VERSION: u32 = 1;

    fn apply(&mut self, entry: &Entry) {
        let Some(id) = entry.subject.strip_prefix(SUBJECT) else { return };
        match entry.kind.as_str() {
            SET if self.set(id, entry).is_none() => self.unreadable += 1,
            CLEARED => self.end(id, End::Cleared, entry),
            EXPIRED => self.end(id, End::Expired, entry),
            _ => {}
        }
    }
}

fn time_fault(name: &str, why: impl Into<String>) -> SwitchError {
    SwitchError::Time { name: name.to_owned(), why: why.into() }
}

/// Until when a switch holds; none is said: until it is cleared, where that may be.
///
/// # Errors
/// When the time is over, too far away, or not said for a switch that must end.
pub fn checked_end(name: &str, known: &Known, end: Option<Timestamp>, now: Timestamp) -> Result<Timestamp, SwitchError> {
    let end = match end {
        Some(end) => end.min(never()),
        None if known.lasting => never(),
        None => return Err(time_fault(name, "it must be said for how long it holds, as in 30m")),
    };
    if end <= now {
        return Err(time_fault(name, "the time until which it holds is over already"));
    }
    if !known.lasting && end.since(now) > Duration::from_secs(TTL_MAX_S) {
        return Err(time_fault(name, format!("it may hold at most {} h", TTL_MAX_S / 3_600)));
    }
    Ok(end)
}

/// `fast_fail@all`
pub fn id_of(switch: &str, scope: &Scope) -> String {
    format!("{switch}@{scope}")
}

/// The one place where switches are changed.
pub struct SwitchStore {
    kept: Kept<Switches>,
    enforcers: Mutex<BTreeMap<String, Timestamp>>,
}

impl SwitchStore {
    /// Rebuilds the switches from the journal.
    pub async fn open(journal: Arc<dyn Journal>) -> Result<Self, JournalError> {
        Ok(Self { kept: Kept::open(journal).await?, enforcers: Mutex::default() })
    }

    /// Sets a switch; it is durable when this answers. One of the same name and scope is replaced. It is known by its own name
    /// and by the flag names that stand for it.
    #[expect(clippy::too_many_arguments, reason = "each is one fact of a switch")]
    pub async fn set(
        &self,
        switch: &str,
        value: &Value,
        scope: &Scope,
        expires_at: Timestamp,
        by: &str,
        why: &str,
        now: Timestamp,
    ) -> Result<Switch, SwitchError> {
        let switch = own_name(switch);
        let value = checked(switch, value)?;
        let expires_at = checked_end(switch, find(switch)?, Some(expires_at), now)?;
        let id = id_of(switch, scope);
        let why = text::capped(&secret::mask(why), WHY_BYTES_MAX).into_owned();
        let decide = |switches: &Switches| {
            if switches.active.len() >= ACTIVE_MAX && !switches.active.contains_key(&id) {
                return Err(SwitchError::TooMany { name: switch.to_owned(), count: switches.active.len() });
            }
            let payload = Payload {
                version: FORMAT,
                switch: switch.to_owned(),
                value: value.clone(),
                scope: Some(scope.clone()),
                expires_at: Some(expires_at),
                why: why.clone(),
            };
            let payload = serde_json::to_value(payload).map_err(|error| JournalError::Invalid { what: error.to_string() })?;
            Ok(Some(decision(SET, &id, by, payload, switches, now)))
        };
        let set = self.kept.change(decide, |switches| switches.active.get(&id).cloned()).await?;
        set.ok_or_else(|| time_fault(switch, "it was written, and cannot be read back"))
    }

    /// Ends a switch before its time; what it was.
    pub async fn clear(&self, switch: &str, scope: &Scope, by: &str, why: &str, now: Timestamp) -> Result<Switch, SwitchError> {
        let switch = own_name(switch);
        find(switch)?;
        let id = id_of(switch, scope);
        let was = self.get(&id).ok_or_else(|| SwitchError::NotSet { id: id.clone() })?;
        let why = text::capped(&secret::mask(why), WHY_BYTES_MAX).into_owned();
        let decide = |switches: &Switches| {
            if !switches.active.contains_key(&id) {
                return Err(SwitchError::NotSet { id: id.clone() });
            }
            let payload = serde_json::json!({ "version": FORMAT, "why": why });
            Ok(Some(decision(CLEARED, &id, by, payload, switches, now)))
        };
        self.kept.change(decide, |_| was).await
    }

    /// A number that goes up with each change: a switch set, cleared, or its end written. Whoever enforces switches waits for
    /// it and for the next end in the list.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.kept.watch()
    }

    /// The switch of what somebody wrote: an id like `fast_fail@user:ana`, or the name of one that is for all.
    #[must_use]
    pub fn find(&self, written: &str) -> Option<Switch> {
        let split = |(at, _): (usize, &str)| {
            let scope: Scope = written[at + 1..].parse().ok()?;
            self.get(&id_of(own_name(&written[..at]), &scope))
        };
        let whole = || self.get(&id_of(own_name(written), &Scope::All));
        self.get(written).or_else(|| written.match_indices('@').find_map(split)).or_else(whole)
    }

    /// The switch of this id, also when its time is over and that is not written yet.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Switch> {
        self.kept.look(|switches| switches.active.get(id).cloned())
    }

    /// Switches that ended lately, the latest first.
    #[must_use]
    pub fn ended(&self) -> Vec<Ended> {
        self.kept.look(|switches| switches.ended.iter().rev().cloned().collect())
    }

    /// Entries about switches that could not be read.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.kept.look(|switches| switches.unreadable)
    }

    /// Lets time pass: the end of switches whose time is over is written, and they are given.
    pub async fn tick(&self, now: Timestamp) -> Result<Vec<Switch>, SwitchError> {
        let is_over = |switch: &Switch| switch.expires_at <= now;
        let over: Vec<Switch> = self.kept.look(|switches| switches.active.values().filter(|switch| is_over(switch)).cloned().collect());
        for switch in &over {
            let decide = |switches: &Switches| -> Result<Option<Decision>, SwitchError> {
                // Somebody may have set it anew meanwhile.
                let still = switches.active.get(&switch.id).is_some_and(is_over);
                Ok(still.then(|| decision(EXPIRED, &switch.id, CLOCKWORK, serde_json::json!({ "version": FORMAT }), switches, now)))
            };
            self.kept.change(decide, |_| ()).await?;
        }
        Ok(over)
    }

    /// Somebody who enforces switches has read the list.
    pub fn enforcer_seen(&self, name: &str, now: Timestamp) {
        let mut enforcers = self.enforcers.lock().unwrap_or_else(PoisonError::into_inner);
        enforcers.retain(|_, seen_at| now.since(*seen_at) < ENFORCER_GONE);
        if enforcers.len() < ENFORCERS_MAX || enforcers.contains_key(name) {
            enforcers.insert(text::one_line(text::head(name, WHO_BYTES_MAX)).into_owned(), now);
        }
    }

    /// Those who read the list within the last minute.
    #[must_use]
    pub fn enforcers(&self, now: Timestamp) -> Vec<Enforcer> {
        let enforcers = self.enforcers.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = enforcers.iter().filter(|(_, seen_at)| now.since(**seen_at) < ENFORCER_GONE);
        alive.map(|(name, seen_at)| Enforcer { name: name.clone(), seen_at: *seen_at }).collect()
    }

    /// Saves a snapshot so that the next start reads only what came after it.
    pub async fn save_snapshot(&self) -> Result<(), JournalError> {
        self.kept.save_snapshot().await
    }
}

impl SwitchReader for SwitchStore {
    fn active(&self, now: Timestamp) -> Vec<Switch> {
        self.kept.look(|switches| switches.active.values().filter(|switch| switch.expires_at > now).cloned().collect())
    }
}

fn decision(kind: &str, id: &str, by: &str, payload: Value, switches: &Switches, now: Timestamp) -> Decision {
    let actor = text::one_line(text::head(by, WHO_BYTES_MAX)).into_owned();
    let draft = Draft { at: now, kind: kind.to_owned(), subject: format!("{SUBJECT}{id}"), actor, payload };
    // What does not hold has a past that is not remembered.
    let expected = switches.active.get(id).map_or(Expected::Any, |switch| Expected::Subject(switch.seq));
    Decision { draft, expected }
}
