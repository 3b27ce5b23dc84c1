//! The calls that run now, the latest that ended, and what they add up to by second and minute.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use paramedic_model::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::call::{Caller, Kind, Outcome, Record};

/// Seconds and minutes that sums are kept for: of what was set lately, every second before and after it can be told.
const SECONDS: usize = 2 * EFFECT_S as usize + 60;
const MINUTES: usize = 180;
/// Seconds before a switch was set, and after it, that are compared.
const EFFECT_S: u64 = 600;
/// Switches whose work is counted.
const SWITCHES_MAX: usize = 1_000;
/// Records that a slow watcher may fall behind.
const LIVE_QUEUE_LEN: usize = 256;
/// Users of one generation that are remembered.
const USERS_MAX: usize = 5_000;
/// Models that latencies are shown of.
const MODELS_MAX: usize = 50;

/// What calls of some time add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sum {
    /// Inference calls that ended.
    pub calls: u64,
    /// Answered with a status below 400, and whole.
    pub answered: u64,
    /// Failed at the upstream or on the way.
    pub failed: u64,
    /// Of the failed, those that the provider's own limits refused.
    pub limited: u64,
    /// Refused or broken off by a switch, a limit, a budget or a breaker.
    pub refused: u64,
    /// Changed or redirected by a switch, and passed on.
    pub changed: u64,
    /// Everything read, whether from the cache or not.
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cache_read_tokens: u64,
    pub cost_pico: u64,
    pub duration_ms: u64,
    pub waited_ms: u64,
}

impl Sum {
    fn add(&mut self, record: &Record) {
        let refused = matches!(record.outcome, Outcome::Refused | Outcome::BrokenOff);
        let good = record.outcome == Outcome::Answered && record.status < 400 && record.error_type.is_none();
        self.calls += 1;
        self.answered += u64::from(good || record.outcome == Outcome::Degraded);
        self.refused += u64::from(refused);
        self.failed += u64::from(!refused && !good && !matches!(record.outcome, Outcome::Degraded | Outcome::ClientGone));
        self.limited += u64::from(!refused && record.status == 429);
        self.changed += u64::from(!refused && !record.acted.is_empty());
        self.input_tokens = self.input_tokens.saturating_add(record.usage.context_tokens());
        self.output_tokens = self.output_tokens.saturating_add(record.usage.output_tokens);
        self.cache_read_tokens = self.cache_read_tokens.saturating_add(record.usage.cache_read_tokens);
        self.cost_pico = self.cost_pico.saturating_add(record.cost_pico.unwrap_or(0));
        self.duration_ms = self.duration_ms.saturating_add(millis(record.duration));
        self.waited_ms = self.waited_ms.saturating_add(millis(record.waited));
    }

    fn plus(&mut self, other: &Self) {
        self.calls += other.calls;
        self.answered += other.answered;
        self.failed += other.failed;
        self.limited += other.limited;
        self.refused += other.refused;
        self.changed += other.changed;
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.cache_read_tokens = self.cache_read_tokens.saturating_add(other.cache_read_tokens);
        self.cost_pico = self.cost_pico.saturating_add(other.cost_pico);
        self.duration_ms = self.duration_ms.saturating_add(other.duration_ms);
        self.waited_ms = self.waited_ms.saturating_add(other.waited_ms);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Sums by step of time, the oldest falls out.
#[derive(Debug)]
struct Steps {
    step_s: i64,
    len: usize,
    sums: VecDeque<(i64, Sum)>,
}

impl Steps {
    const fn new(step_s: i64, len: usize) -> Self {
        Self { step_s, len, sums: VecDeque::new() }
    }

    fn at(&mut self, now: Timestamp) -> &mut Sum {
        let step = now.as_secs().div_euclid(self.step_s);
        // A clock that stepped back adds to the latest step.
        let is_new = self.sums.back().is_none_or(|(latest, _)| step > *latest);
        if is_new {
            if self.sums.len() >= self.len {
                self.sums.pop_front();
            }
            self.sums.push_back((step, Sum::default()));
        }
        let last = self.sums.len() - 1;
        &mut self.sums[last].1
    }

    fn between(&self, from: Timestamp, to: Timestamp) -> Sum {
        let (from, to) = (from.as_secs().div_euclid(self.step_s), to.as_secs().div_euclid(self.step_s));
        let mut sum = Sum::default();
        for (_, one) in self.sums.iter().filter(|(step, _)| (from..to).contains(step)) {
            sum.plus(one);
        }
        sum
    }

    /// When the oldest step that is kept began.
    fn first(&self) -> Option<Timestamp> {
        self.sums.front().map(|(step, _)| Timestamp::from_secs(step * self.step_s))
    }

    fn series(&self, now: Timestamp, len: usize) -> Vec<Step> {
        let last = now.as_secs().div_euclid(self.step_s);
        let by_step: HashMap<i64, Sum> = self.sums.iter().copied().collect();
        let first = last - i64::try_from(len).unwrap_or(0) + 1;
        (first..=last)
            .map(|step| Step { at: Timestamp::from_secs(step * self.step_s), sum: by_step.get(&step).copied().unwrap_or_default() })
            .collect()
    }
}

/// One second or minute.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// When it began.
    pub at: Timestamp,
    pub sum: Sum,
}

/// A call that runs now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunningCall {
    pub id: u64,
    pub began: Timestamp,
    pub caller: Caller,
    pub model: Option<Box<str>>,
    pub path: Box<str>,
    pub request_bytes: u64,
    /// `waiting`, `asked`, `answering`.
    pub state: RunningState,
    pub output_tokens: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RunningState {
    /// For a limit, a budget or its next try.
    Waiting,
    /// The upstream has not begun to answer.
    Asked,
    Answering,
}

/// What a switch did so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SwitchWork {
    pub switch: String,
    pub calls: u64,
    pub last_at: Timestamp,
    /// What it did last.
    pub last: String,
    /// Dollars that it saved, for a switch of which that is known: marks for the provider's cache. Less than zero where
    /// what they wrote into the cache cost more than what was read from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved_dollars: Option<f64>,
}

/// What one switch did.
#[derive(Debug, Clone)]
struct Work {
    calls: u64,
    last_at: Timestamp,
    last: Box<str>,
    saved_pico: Option<i64>,
}

/// The minutes before a moment and those after it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Effect {
    pub before: Sum,
    pub before_s: u64,
    pub after: Sum,
    pub after_s: u64,
}

/// How long calls of one model took, of those that are remembered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    pub model: String,
    pub calls: u64,
    pub first_byte_p50_ms: u64,
    pub first_byte_p95_ms: u64,
    pub duration_p50_ms: u64,
    pub duration_p95_ms: u64,
    pub duration_p99_ms: u64,
    /// Waited for limits, in the mean.
    pub waited_ms: u64,
    /// Tokens read, in the mean: long prompts are slow.
    pub input_tokens: u64,
}

/// Traffic as a page shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrafficView {
    pub running: Vec<RunningCall>,
    /// Those that run, also beyond the ones that are listed.
    pub running_count: usize,
    /// The latest first.
    pub recent: Vec<Record>,
    pub seconds: Vec<Step>,
    pub minutes: Vec<Step>,
    pub latency: Vec<Latency>,
    pub switches: Vec<SwitchWork>,
}

struct Running {
    call: RunningCall,
    cancel: CancellationToken,
}

struct State {
    recent: VecDeque<Arc<Record>>,
    seconds: Steps,
    minutes: Steps,
    switches: BTreeMap<Box<str>, Work>,
}

impl State {
    /// What a switch did; none for one that there is no room for.
    fn work_of(&mut self, switch: &str, now: Timestamp) -> Option<&mut Work> {
        if !self.switches.contains_key(switch) {
            if self.switches.len() >= SWITCHES_MAX {
                return None;
            }
            self.switches.insert(switch.into(), Work { calls: 0, last_at: now, last: "".into(), saved_pico: None });
        }
        self.switches.get_mut(switch)
    }
}

/// All calls of a gateway.
pub struct Traffic {
    kept: usize,
    next: AtomicU64,
    running: Mutex<HashMap<u64, Running>>,
    /// Users that called lately; the younger half, and those of before.
    users: Mutex<[HashSet<Box<str>>; 2]>,
    state: Mutex<State>,
    live: broadcast::Sender<Arc<Record>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Traffic {
    #[must_use]
    pub fn new(kept: usize) -> Arc<Self> {
        Arc::new(Self {
            kept: kept.max(1),
            next: AtomicU64::new(1),
            running: Mutex::default(),
            users: Mutex::default(),
            state: Mutex::new(State {
                recent: VecDeque::new(),
                seconds: Steps::new(1, SECONDS),
                minutes: Steps::new(60, MINUTES),
                switches: BTreeMap::new(),
            }),
            live: broadcast::channel(LIVE_QUEUE_LEN).0,
        })
    }

    /// Records as they come.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Arc<Record>> {
        self.live.subscribe()
    }

    #[must_use]
    pub fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A call begins to be worked on. It runs until the ticket is dropped.
    #[must_use]
    pub fn begin(self: &Arc<Self>, call: RunningCall) -> Ticket {
        let (id, cancel) = (call.id, CancellationToken::new());
        if let Some(user) = &call.caller.user {
            let mut users = locked(&self.users);
            if !users[0].contains(user) {
                if users[0].len() >= USERS_MAX {
                    users.swap(0, 1);
                    users[0].clear();
                }
                users[0].insert(user.clone());
            }
        }
        locked(&self.running).insert(id, Running { call, cancel: cancel.clone() });
        Ticket { id, cancel, traffic: Arc::clone(self) }
    }

    /// Users that called lately.
    #[must_use]
    pub fn users(&self) -> Vec<Box<str>> {
        let users = locked(&self.users);
        users[0].iter().chain(users[1].difference(&users[0])).cloned().collect()
    }

    #[must_use]
    pub fn running_count(&self) -> usize {
        locked(&self.running).len()
    }

    /// Breaks off what runs and is meant; how many.
    pub fn break_off(&self, is_meant: impl Fn(&Caller, Option<&str>) -> bool) -> usize {
        let running = locked(&self.running);
        let meant = running.values().filter(|one| !one.cancel.is_cancelled() && is_meant(&one.call.caller, one.call.model.as_deref()));
        meant.map(|one| one.cancel.cancel()).count()
    }

    /// A call ended.
    pub fn ended(&self, record: Record, now: Timestamp) {
        let record = Arc::new(record);
        if record.kind == Kind::Inference {
            let mut state = locked(&self.state);
            state.seconds.at(now).add(&record);
            state.minutes.at(now).add(&record);
        }
        {
            let mut state = locked(&self.state);
            for acted in &record.acted {
                if let Some(work) = state.work_of(&acted.switch, now) {
                    (work.calls, work.last_at) = (work.calls + 1, now);
                    work.last.clone_from(&acted.what);
                }
            }
            if state.recent.len() >= self.kept {
                state.recent.pop_front();
            }
            state.recent.push_back(Arc::clone(&record));
        }
        if self.live.receiver_count() > 0 {
            let _ = self.live.send(record);
        }
    }

    /// The sums of the last so many seconds.
    #[must_use]
    pub fn last(&self, seconds: u64, now: Timestamp) -> Sum {
        let (from, to) = (now.before(Duration::from_secs(seconds)), now.after(Duration::from_secs(1)));
        locked(&self.state).seconds.between(from, to)
    }

    /// The ten minutes before a moment and those after it, as far as there are any.
    #[must_use]
    pub fn effect(&self, of: Timestamp, now: Timestamp) -> Effect {
        let span = Duration::from_secs(EFFECT_S);
        let state = locked(&self.state);
        // Of what was set long ago only whole minutes are left; the one in which it was set belongs to neither side.
        let is_recent = now.since(of) <= span;
        let (steps, after_from) = match is_recent {
            true => (&state.seconds, of),
            false => (&state.minutes, of.after(Duration::from_secs(59))),
        };
        let after_to = after_from.after(span).min(now.after(Duration::from_secs(1)));
        let first = state.minutes.first().unwrap_or(of);
        Effect {
            before: steps.between(of.before(span), of),
            before_s: of.since(of.before(span).max(first)).as_secs(),
            after: steps.between(after_from, after_to),
            after_s: now.since(after_from).min(span).as_secs(),
        }
    }

    /// The latest records of those that are meant, the latest first.
    #[must_use]
    pub fn recent(&self, is_meant: impl Fn(&Record) -> bool, limit: usize) -> Vec<Arc<Record>> {
        locked(&self.state).recent.iter().rev().filter(|record| is_meant(record)).take(limit).cloned().collect()
    }

    /// A switch saved so much, in picodollars.
    pub fn saved(&self, switch: &str, pico: i64, now: Timestamp) {
        if let Some(work) = locked(&self.state).work_of(switch, now) {
            work.saved_pico = Some(work.saved_pico.unwrap_or(0).saturating_add(pico));
        }
    }

    /// What switches did so far.
    #[must_use]
    pub fn work(&self) -> Vec<SwitchWork> {
        let state = locked(&self.state);
        let each = state.switches.iter();
        each.map(|(switch, work)| SwitchWork {
            switch: switch.to_string(),
            calls: work.calls,
            last_at: work.last_at,
            last: work.last.to_string(),
            saved_dollars: work.saved_pico.map(|pico| pico as f64 / crate::budget::PICO as f64),
        })
        .collect()
    }

    /// How long calls took, by model, the slowest first.
    #[must_use]
    pub fn latency(&self) -> Vec<Latency> {
        let mut by_model: BTreeMap<String, Vec<Arc<Record>>> = BTreeMap::new();
        for record in
            self.recent(|record| record.kind == Kind::Inference && record.outcome == Outcome::Answered && record.status < 400, usize::MAX)
        {
            let model = record.served_model.as_deref().or(record.model.as_deref()).unwrap_or("unknown").to_owned();
            if by_model.len() < MODELS_MAX || by_model.contains_key(&model) {
                by_model.entry(model).or_default().push(record);
            }
        }
        let mut all: Vec<Latency> = by_model.into_iter().map(|(model, records)| latency(model, &records)).collect();
        all.sort_by_key(|one| std::cmp::Reverse(one.duration_p95_ms));
        all
    }

    /// Of those that run and are meant, the oldest, and how many there are.
    #[must_use]
    pub fn running(&self, is_meant: impl Fn(&RunningCall) -> bool, limit: usize) -> (Vec<RunningCall>, usize) {
        let running = locked(&self.running);
        let mut meant: Vec<&RunningCall> = running.values().map(|one| &one.call).filter(|call| is_meant(call)).collect();
        meant.sort_unstable_by_key(|call| call.id);
        (meant.iter().take(limit).map(|call| (*call).clone()).collect(), meant.len())
    }

    /// The last hour by minute, the oldest first.
    #[must_use]
    pub fn hour(&self, now: Timestamp) -> Vec<Step> {
        locked(&self.state).minutes.series(now, 60)
    }

    /// Everything, as far as a page shows it.
    #[must_use]
    pub fn view(&self, limit: usize, now: Timestamp) -> TrafficView {
        let (running, running_count) = self.running(|_| true, limit);
        let recent = self.recent(|_| true, limit).iter().map(|record| (**record).clone()).collect();
        let (seconds, minutes) = {
            let state = locked(&self.state);
            (state.seconds.series(now, 60), state.minutes.series(now, 60))
        };
        TrafficView { running, running_count, recent, seconds, minutes, latency: self.latency(), switches: self.work() }
    }
}

fn latency(model: String, records: &[Arc<Record>]) -> Latency {
    let sorted = |of: &dyn Fn(&Record) -> u64| {
        let mut all: Vec<u64> = records.iter().map(|record| of(record)).collect();
        all.sort_unstable();
        all
    };
    let first = sorted(&|record| record.first_byte.map_or(0, millis));
    let duration = sorted(&|record| millis(record.duration));
    let mean = |of: &dyn Fn(&Record) -> u64| records.iter().map(|record| of(record)).sum::<u64>() / records.len().max(1) as u64;
    Latency {
        model,
        calls: records.len() as u64,
        first_byte_p50_ms: quantile(&first, 50),
        first_byte_p95_ms: quantile(&first, 95),
        duration_p50_ms: quantile(&duration, 50),
        duration_p95_ms: quantile(&duration, 95),
        duration_p99_ms: quantile(&duration, 99),
        waited_ms: mean(&|record| millis(record.waited)),
        input_tokens: mean(&|record| record.usage.context_tokens()),
    }
}

/// The value that so many hundredths of a sorted list do not exceed; 0 of an empty one.
fn quantile(sorted: &[u64], percent: usize) -> u64 {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or(0)
}

/// A call's place among those that run.
pub struct Ticket {
    pub id: u64,
    /// Cancelled when a switch breaks the call off.
    pub cancel: CancellationToken,
    traffic: Arc<Traffic>,
}

impl Ticket {
    /// How far the call is.
    pub fn is_now(&self, state: RunningState) {
        if let Some(running) = locked(&self.traffic.running).get_mut(&self.id) {
            running.call.state = state;
        }
    }

    /// Tokens of the answer so far.
    pub fn wrote(&self, output_tokens: u64) {
        if let Some(running) = locked(&self.traffic.running).get_mut(&self.id) {
            running.call.output_tokens = output_tokens;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        locked(&self.traffic.running).remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use paramedic_model::Scope;
    use paramedic_model::Usage;

    use super::*;
    use crate::call::Acted;

    fn record(outcome: Outcome, status: u16, at: i64) -> Record {
        Record {
            id: 1,
            at: Timestamp::from_secs(at),
            kind: Kind::Inference,
            caller: Caller { user: Some("ana".into()), ..Caller::default() },
            method: "POST".into(),
            path: "/v1/messages".into(),
            upstream: "anthropic".into(),
            model: Some("claude-x".into()),
            served_model: None,
            stream: false,
            outcome,
            status,
            error_type: None,
            request_id: None,
            message_id: None,
            usage: Usage { input_tokens: 10, output_tokens: 5, ..Usage::default() },
            cost_pico: Some(7),
            stop_reason: None,
            tries: 1,
            waited: Duration::ZERO,
            first_byte: Some(Duration::from_millis(20)),
            first_token: None,
            duration: Duration::from_millis(100),
            request_bytes: 1,
            response_bytes: 1,
            repeated_share: None,
            acted: Vec::new(),
        }
    }

    #[test]
    fn sums_say_how_calls_ended() {
        let cases = [
            (Outcome::Answered, 200, "answered"),
            (Outcome::Answered, 429, "limited"),
            (Outcome::Answered, 529, "failed"),
            (Outcome::Cut, 200, "failed"),
            (Outcome::TimedOut, 504, "failed"),
            (Outcome::Refused, 429, "refused"),
            (Outcome::BrokenOff, 200, "refused"),
            (Outcome::Degraded, 200, "answered"),
            (Outcome::ClientGone, 200, "none"),
        ];
        for (outcome, status, expect) in cases {
            let mut sum = Sum::default();
            sum.add(&record(outcome, status, 1));
            let got = match (sum.answered, sum.failed, sum.limited, sum.refused) {
                (1, 0, 0, 0) => "answered",
                (0, 1, 1, 0) => "limited",
                (0, 1, 0, 0) => "failed",
                (0, 0, 0, 1) => "refused",
                (0, 0, 0, 0) => "none",
                _ => "twice",
            };
            assert_eq!(got, expect, "{outcome:?} {status}");
        }
    }

    #[test]
    fn an_effect_compares_the_minutes_before_with_those_after() {
        let traffic = Traffic::new(10);
        let set_at = Timestamp::from_secs(6_000);
        for at in [5_500, 5_800, 5_990] {
            traffic.ended(record(Outcome::Answered, 200, at), Timestamp::from_secs(at));
        }
        let mut refused = record(Outcome::Refused, 403, 6_030);
        refused.acted.push(Acted { switch: "blocked@all".into(), what: "refused".into() });
        traffic.ended(refused, Timestamp::from_secs(6_030));
        let effect = traffic.effect(set_at, Timestamp::from_secs(6_045));
        assert_eq!((effect.before.calls, effect.before.refused, effect.after.calls, effect.after.refused), (3, 0, 1, 1));
        assert_eq!((effect.before_s, effect.after_s), (540, 45), "nothing is known of the time before the first call");
        assert_eq!(traffic.work().iter().map(|work| (work.switch.as_str(), work.calls)).collect::<Vec<_>>(), [("blocked@all", 1)]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let traffic = Traffic::new(3);
        for at in 0..500 {
            traffic.ended(record(Outcome::Answered, 200, at), Timestamp::from_secs(at));
        }
        assert_eq!(traffic.recent(|_| true, 100).len(), 3);
        assert_eq!(traffic.last(60, Timestamp::from_secs(499)).calls, 61);
        let state = locked(&traffic.state);
        assert!(state.seconds.sums.len() <= SECONDS && state.minutes.sums.len() <= MINUTES);
    }

    #[test]
    fn what_runs_can_be_broken_off_by_scope_and_is_forgotten_with_its_ticket() {
        let traffic = Traffic::new(3);
        let begin = |user: &str| {
            traffic.begin(RunningCall {
                id: traffic.next_id(),
                began: Timestamp::EPOCH,
                caller: Caller { user: Some(user.into()), agent: Some("s1/a9".into()), ..Caller::default() },
                model: None,
                path: "/v1/messages".into(),
                request_bytes: 0,
                state: RunningState::Waiting,
                output_tokens: 0,
            })
        };
        let (ana, bo) = (begin("ana"), begin("bo"));
        ana.is_now(RunningState::Answering);
        let scope: Scope = "user:ana".parse().unwrap();
        assert_eq!(traffic.break_off(|caller, model| caller.is_in(&scope, model)), 1);
        assert!(ana.cancel.is_cancelled() && !bo.cancel.is_cancelled());
        assert_eq!(traffic.view(10, Timestamp::EPOCH).running[0].state, RunningState::Answering);
        assert!(Caller { agent: Some("s1/a9".into()), ..Caller::default() }.is_in(&"agent:a9".parse().unwrap(), None));
        drop((ana, bo));
        assert_eq!(traffic.running_count(), 0);
    }
}
