//! The state of a service, whoever keeps it, and whether a change has come about.

use serde_json::{Value, json};

/// A service as its manager tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Which service this is; a plan stands on it.
    pub(super) identity: String,
    /// `active (running)`, `online`.
    pub(super) words: String,
    pub(super) is_up: bool,
    /// Of several processes of one name, not all are up.
    pub(super) is_partly_up: bool,
    /// On its way up or down.
    pub(super) is_moving: bool,
    /// It will not be tried again by itself.
    pub(super) has_failed: bool,
    /// It may not be started.
    pub(super) is_barred: bool,
    /// It does its work once and ends.
    pub(super) is_oneshot: bool,
    pub(super) pids: Vec<i32>,
    /// How often its manager has started it again.
    pub(super) restarts: Option<u64>,
    /// Differs after every start.
    pub(super) mark: String,
    /// Numbers that the manager has for its processes.
    pub(super) ids: Vec<u64>,
    pub(super) instances: u64,
    pub(super) since: Option<String>,
    pub(super) warnings: Vec<String>,
}

/// Why a state cannot be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Flaw {
    Missing(String),
    NotSetUp(String),
    Unheard(String),
}

impl State {
    /// `active (running), process 4711, restarted 3 times`.
    pub(super) fn detail(&self) -> String {
        let pids: Vec<String> = self.pids.iter().map(i32::to_string).collect();
        let process = if pids.is_empty() { "no process".to_owned() } else { format!("process {}", pids.join(" ")) };
        let restarts = self.restarts.map(|count| format!(", restarted {count} times by its manager")).unwrap_or_default();
        format!("{}, {process}{restarts}", self.words)
    }

    pub(super) fn answer(&self) -> Value {
        json!({
            "state": self.words,
            "up": self.is_up && !self.is_partly_up,
            "pids": self.pids,
            "restarts": self.restarts,
            "instances": self.instances,
            "since": self.since,
        })
    }
}

/// Whether the change has come about; an error says what is missing.
pub(super) fn reached(before: &State, now: &State, is_stop: bool) -> Result<(), String> {
    if is_stop {
        return if !now.is_up && !now.is_moving && now.pids.is_empty() { Ok(()) } else { Err(format!("it is still {}", now.detail())) };
    }
    if now.mark == before.mark {
        return Err(format!("it was not started: it is {}", now.detail()));
    }
    let has_done_its_work = now.is_oneshot && !now.is_moving && !now.has_failed;
    if has_done_its_work || (now.is_up && !now.is_partly_up && !now.is_moving) { Ok(()) } else { Err(format!("it is {}", now.detail())) }
}

/// Whether a service that came up is still the same.
pub(super) fn stayed(up: &State, now: &State) -> Result<(), String> {
    if !now.is_up || now.is_partly_up {
        return Err(format!("it came up, and is {} now", now.detail()));
    }
    if now.mark != up.mark || now.restarts != up.restarts {
        return Err(format!("it came up, and was started again since: it is {}", now.detail()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_has_come_about_when_all_of_it_has() {
        let old = State { is_up: true, mark: "a".to_owned(), pids: vec![1], ..State::default() };
        let new = State { mark: "b".to_owned(), pids: vec![2], ..old.clone() };
        let down = State { is_up: false, pids: Vec::new(), ..old.clone() };
        let check = |now: &State, is_stop: bool, expect: bool| assert_eq!(reached(&old, now, is_stop).is_ok(), expect, "{now:?}");
        check(&new, false, true);
        check(&old, false, false);
        check(&State { is_partly_up: true, ..new.clone() }, false, false);
        check(&State { is_moving: true, ..new.clone() }, false, false);
        check(&State { is_up: false, ..new.clone() }, false, false);
        check(&State { is_up: false, is_oneshot: true, ..new.clone() }, false, true);
        check(&State { is_up: false, is_oneshot: true, has_failed: true, ..new.clone() }, false, false);
        check(&down, true, true);
        check(&State { pids: vec![1], ..down.clone() }, true, false);
        check(&old, true, false);
        assert!(stayed(&new, &new).is_ok());
        assert!(stayed(&new, &State { restarts: Some(1), ..new.clone() }).is_err());
        assert!(stayed(&new, &old).is_err());
        assert!(stayed(&new, &down).is_err());
    }
}
