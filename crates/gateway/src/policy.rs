//! Which switches are for a call, and what they ask for.
//!
//! The switches that hold are compiled once, when one changes, and looked up per call by its caller. A limit or a cap holds
//! beside every other; of a value (a time limit, a model) the one for the narrowest scope counts: a session's before an
//! agent's, before a user's, a team's, a plugin's, a key's, a model's, before the one for all. A sub-agent's counts before
//! its session's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use paramedic_model::{Scope, Switch, Timestamp};
use serde_json::Value;

use crate::call::Caller;

/// A value, and the switch that asks for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Ruling<T> {
    pub value: T,
    /// `max_history_tokens@all`.
    pub switch: Arc<str>,
}

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limited {
    Requests,
    /// A bucket for each user.
    RequestsOfEachUser,
    /// A bucket for each agent.
    RequestsOfEachAgent,
    Tokens,
    InputTokens,
    OutputTokens,
    ConcurrentRequests,
    ConcurrentAgents,
}

/// How long a budget's window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    Day,
    Week,
    Month,
}

/// What happens at a budget's cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AtCap {
    #[default]
    Deny,
    Pause,
    Cheaper,
}

/// A cap on what may be spent.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    pub window: Window,
    pub dollars: f64,
    /// Whose money: `all`, `user:ana`.
    pub purse: Arc<str>,
    pub switch: Arc<str>,
}

/// Everything that switches say about one call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policy {
    /// Refused, by this switch.
    pub blocked: Option<Arc<str>>,
    pub break_off: Option<Arc<str>>,
    pub rate_limiting: Option<Ruling<bool>>,
    pub limits: Vec<Ruling<(Limited, u64)>>,
    pub queue_wait: Option<Ruling<Duration>>,
    pub pacing: Option<Arc<str>>,
    pub adaptive: Option<Arc<str>>,
    pub retry_attempts: Option<Ruling<u32>>,
    pub breaker: Option<Arc<str>>,
    pub connect_timeout: Option<Ruling<Duration>>,
    pub first_byte_timeout: Option<Ruling<Duration>>,
    pub between_tokens_timeout: Option<Ruling<Duration>>,
    pub request_timeout: Option<Ruling<Duration>>,
    pub fast_fail: Option<Arc<str>>,
    pub budgets: Vec<Budget>,
    pub enforce_budget: Option<Ruling<bool>>,
    pub at_cap: Option<Ruling<AtCap>>,
    pub degraded: Option<Arc<str>>,
    pub routing: Option<Arc<str>>,
    pub route_to: Option<Ruling<Arc<str>>>,
    pub fallback_model: Option<Ruling<Arc<str>>>,
    pub max_output_tokens: Option<Ruling<u64>>,
    pub max_input_bytes: Option<Ruling<u64>>,
    pub max_input_tokens: Option<Ruling<u64>>,
    pub max_growth_tokens: Option<Ruling<u64>>,
    pub max_history_messages: Option<Ruling<u64>>,
    pub max_history_tokens: Option<Ruling<u64>>,
    pub summarization: Option<Arc<str>>,
    pub prompt_caching: Option<Arc<str>>,
}

/// One switch, read.
#[derive(Debug, Clone)]
struct Rule {
    switch: Arc<str>,
    scope: Scope,
    /// The scope in words: whose money a budget is.
    purse: Arc<str>,
    ask: Ask,
    expires_at: Timestamp,
}

#[derive(Debug, Clone)]
enum Ask {
    /// A true or false that stands for itself.
    Flag(Flag, bool),
    Limit(Limited, u64),
    Budget(Window, f64),
    AtCap(AtCap),
    Time(Time, Duration),
    Count(Count, u64),
    RouteTo(Arc<str>),
    Fallback(Arc<str>),
}

#[derive(Debug, Clone, Copy)]
enum Flag {
    Blocked,
    BreakOff,
    RateLimiting,
    Pacing,
    Adaptive,
    Breaker,
    FastFail,
    EnforceBudget,
    Degraded,
    Routing,
    Summarization,
    PromptCaching,
}

#[derive(Debug, Clone, Copy)]
enum Time {
    Queue,
    Connect,
    FirstByte,
    BetweenTokens,
    Request,
}

#[derive(Debug, Clone, Copy)]
enum Count {
    Retry,
    OutputTokens,
    InputBytes,
    InputTokens,
    GrowthTokens,
    HistoryMessages,
    HistoryTokens,
}

const AGENT: usize = 6;
const NARROWEST: usize = 7;

/// How narrow a scope is: rules are applied from the widest to the narrowest.
const fn narrowness(scope: &Scope) -> usize {
    match scope {
        Scope::All => 0,
        Scope::Model(_) => 1,
        Scope::Key(_) => 2,
        Scope::Plugin(_) => 3,
        Scope::Team(_) => 4,
        Scope::User(_) => 5,
        Scope::Agent(_) => AGENT,
        Scope::Session(_) => NARROWEST,
    }
}

/// All switches that hold, ready to be looked up.
#[derive(Debug, Default)]
pub struct Policies {
    all: Vec<Rule>,
    /// By kind of scope, as [`narrowness`] counts them, and by name.
    scoped: [HashMap<Box<str>, Vec<Rule>>; NARROWEST + 1],
    is_scoped: bool,
    /// Circuit breakers that are held open (true) or closed.
    breakers: Vec<(Arc<str>, bool, Arc<str>, Timestamp)>,
    /// When the first of them ends.
    next_end: Option<Timestamp>,
}

impl Policies {
    /// Compiles switches. Those that mean nothing to a gateway are left out and given back by name.
    #[must_use]
    pub fn new(switches: &[Switch], now: Timestamp) -> (Self, Vec<String>) {
        let (mut policies, mut unknown) = (Self::default(), Vec::new());
        for switch in switches.iter().filter(|switch| switch.expires_at > now) {
            let id: Arc<str> = switch.id.as_str().into();
            policies.next_end = Some(policies.next_end.map_or(switch.expires_at, |end| end.min(switch.expires_at)));
            if let Some(name) = switch.switch.strip_prefix("breaker:") {
                policies.breakers.push((name.into(), switch.value == "open", id, switch.expires_at));
                continue;
            }
            match rule(switch, id) {
                None => unknown.push(switch.id.clone()),
                Some(rule) if rule.scope == Scope::All => policies.all.push(rule),
                Some(rule) => {
                    let name = rule.scope.parts().map_or("", |(_, name)| name).into();
                    policies.scoped[narrowness(&rule.scope)].entry(name).or_default().push(rule);
                    policies.is_scoped = true;
                }
            }
        }
        (policies, unknown)
    }

    /// Circuit breakers that a switch holds: name, whether open, the switch.
    pub fn breakers(&self, now: Timestamp) -> impl Iterator<Item = (&Arc<str>, bool, &Arc<str>)> {
        self.breakers.iter().filter(move |(.., until)| *until > now).map(|(name, open, switch, _)| (name, *open, switch))
    }

    /// When the next switch ends by itself.
    #[must_use]
    pub const fn next_end(&self) -> Option<Timestamp> {
        self.next_end
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty() && !self.is_scoped && self.breakers.is_empty()
    }

    /// What the switches say about a call.
    #[must_use]
    pub fn of(&self, caller: &Caller, model: Option<&str>, now: Timestamp) -> Policy {
        let mut policy = Policy::default();
        if self.all.is_empty() && !self.is_scoped {
            return policy;
        }
        let mut found: [&[Rule]; 10] = [&[]; 10];
        found[0] = &self.all;
        if self.is_scoped {
            let names = [
                model,
                caller.key.as_deref(),
                caller.plugin.as_deref(),
                caller.team.as_deref(),
                caller.user.as_deref(),
                caller.agent.as_deref(),
                caller.session.as_deref(),
            ];
            for (place, name) in (1..).zip(names) {
                found[place] = name.map_or(&[], |name| self.named(place, name));
            }
            // A sub-agent is narrower than its session, and may be named without it.
            if let Some(own) = caller.own_agent() {
                found[8] = std::mem::take(&mut found[AGENT]);
                found[9] = self.named(AGENT, own);
            }
        }
        for rules in found {
            for rule in rules.iter().filter(|rule| rule.expires_at > now) {
                policy.apply(rule);
            }
        }
        policy
    }

    fn named(&self, place: usize, name: &str) -> &[Rule] {
        let rules = &self.scoped[place];
        // Nearly always there is none, and then the name need not be hashed.
        if rules.is_empty() { &[] } else { rules.get(name).map_or(&[], |rules| rules) }
    }
}

fn rule(switch: &Switch, id: Arc<str>) -> Option<Rule> {
    let (value, mut scope) = (&switch.value, switch.scope.clone());
    let ask = match switch.switch.split_once(':') {
        Some((name, whom)) => {
            let whom = whom.to_owned();
            // `blocked_user:ana` is `blocked` for that user; one with a scope of its own besides is for both at once, and
            // the narrower is the name.
            scope = match name {
                "blocked_key" => Scope::Key(whom),
                "blocked_user" => Scope::User(whom),
                "blocked_agent" => Scope::Agent(whom),
                "blocked_session" => Scope::Session(whom),
                "blocked_model" => Scope::Model(whom),
                _ => return None,
            };
            Ask::Flag(Flag::Blocked, value.as_bool()?)
        }
        None => ask(&switch.switch, value)?,
    };
    let purse = scope.to_string().into();
    Some(Rule { switch: id, scope, purse, ask, expires_at: switch.expires_at })
}

fn ask(name: &str, value: &Value) -> Option<Ask> {
    let flag = |flag| value.as_bool().map(|value| Ask::Flag(flag, value));
    let limit = |limited| value.as_u64().map(|count| Ask::Limit(limited, count));
    let time = |time| value.as_u64().map(|seconds| Ask::Time(time, Duration::from_secs(seconds)));
    let count = |which| value.as_u64().map(|count| Ask::Count(which, count));
    let budget = |window| value.as_f64().map(|dollars| Ask::Budget(window, dollars));
    match name {
        "blocked" => flag(Flag::Blocked),
        "break_off" => flag(Flag::BreakOff),
        "rate_limiting" => flag(Flag::RateLimiting),
        "rate_limit_per_minute" => limit(Limited::Requests),
        "rate_limit_per_user" => limit(Limited::RequestsOfEachUser),
        "rate_limit_per_agent" => limit(Limited::RequestsOfEachAgent),
        "tokens_per_minute" => limit(Limited::Tokens),
        "input_tokens_per_minute" => limit(Limited::InputTokens),
        "output_tokens_per_minute" => limit(Limited::OutputTokens),
        "max_concurrent_requests" => limit(Limited::ConcurrentRequests),
        "max_concurrent_agents" => limit(Limited::ConcurrentAgents),
        "queue_wait_s" => time(Time::Queue),
        "provider_pacing" => flag(Flag::Pacing),
        "adaptive_concurrency" => flag(Flag::Adaptive),
        "retry_attempts" => count(Count::Retry),
        "circuit_breaker" => flag(Flag::Breaker),
        "connect_timeout_s" => time(Time::Connect),
        "first_byte_timeout_s" => time(Time::FirstByte),
        "between_tokens_timeout_s" => time(Time::BetweenTokens),
        "request_timeout_s" => time(Time::Request),
        "fast_fail" => flag(Flag::FastFail),
        "enforce_budget" => flag(Flag::EnforceBudget),
        "daily_budget_dollars" => budget(Window::Day),
        "weekly_budget_dollars" => budget(Window::Week),
        "monthly_budget_dollars" => budget(Window::Month),
        "budget_action" => Some(Ask::AtCap(match value.as_str()? {
            "pause" => AtCap::Pause,
            "cheaper" => AtCap::Cheaper,
            _ => AtCap::Deny,
        })),
        "degraded_mode" => flag(Flag::Degraded),
        "model_routing" => flag(Flag::Routing),
        "route_to_model" => Some(Ask::RouteTo(value.as_str()?.into())),
        "fallback_model" => Some(Ask::Fallback(value.as_str()?.into())),
        "max_output_tokens" => count(Count::OutputTokens),
        "max_input_bytes" => count(Count::InputBytes),
        "max_input_tokens" => count(Count::InputTokens),
        "max_growth_tokens" => count(Count::GrowthTokens),
        "max_history_messages" => count(Count::HistoryMessages),
        "max_history_tokens" => count(Count::HistoryTokens),
        "summarization" => flag(Flag::Summarization),
        "prompt_caching" => flag(Flag::PromptCaching),
        _ => None,
    }
}

impl Policy {
    /// Whether a call that waits under the other policy may go on to wait under this one: they differ at most in what
    /// matters when it is sent.
    #[must_use]
    pub(crate) fn waits_as(&self, other: &Self) -> bool {
        let until_sent = |policy: &Self| Self {
            retry_attempts: None,
            breaker: None,
            connect_timeout: None,
            first_byte_timeout: None,
            between_tokens_timeout: None,
            fallback_model: None,
            ..policy.clone()
        };
        self == other || until_sent(self) == until_sent(other)
    }

    fn apply(&mut self, rule: &Rule) {
        let switch = || Arc::clone(&rule.switch);
        match &rule.ask {
            Ask::Flag(flag, on) => self.flag(*flag, *on, rule),
            Ask::Limit(limited, count) => self.limits.push(Ruling { value: (*limited, *count), switch: switch() }),
            Ask::Budget(window, dollars) => {
                let purse = Arc::clone(&rule.purse);
                self.budgets.push(Budget { window: *window, dollars: *dollars, purse, switch: switch() });
            }
            Ask::AtCap(at_cap) => self.at_cap = Some(Ruling { value: *at_cap, switch: switch() }),
            Ask::Time(time, duration) => {
                let ruling = Some(Ruling { value: *duration, switch: switch() });
                match time {
                    Time::Queue => self.queue_wait = ruling,
                    Time::Connect => self.connect_timeout = ruling,
                    Time::FirstByte => self.first_byte_timeout = ruling,
                    Time::BetweenTokens => self.between_tokens_timeout = ruling,
                    Time::Request => self.request_timeout = ruling,
                }
            }
            Ask::Count(which, count) => self.count(*which, *count, rule),
            Ask::RouteTo(model) => self.route_to = Some(Ruling { value: Arc::clone(model), switch: switch() }),
            Ask::Fallback(model) => self.fallback_model = Some(Ruling { value: Arc::clone(model), switch: switch() }),
        }
    }

    /// A narrower `false` takes somebody out of a wider `true`.
    fn flag(&mut self, flag: Flag, on: bool, rule: &Rule) {
        let by = on.then(|| Arc::clone(&rule.switch));
        let ruling = Some(Ruling { value: on, switch: Arc::clone(&rule.switch) });
        match flag {
            Flag::Blocked => self.blocked = by,
            Flag::BreakOff => self.break_off = by,
            Flag::RateLimiting => self.rate_limiting = ruling,
            Flag::Pacing => self.pacing = by,
            Flag::Adaptive => self.adaptive = by,
            Flag::Breaker => self.breaker = by,
            Flag::FastFail => self.fast_fail = by,
            Flag::EnforceBudget => self.enforce_budget = ruling,
            Flag::Degraded => self.degraded = by,
            Flag::Routing => self.routing = by,
            Flag::Summarization => self.summarization = by,
            Flag::PromptCaching => self.prompt_caching = by,
        }
    }

    fn count(&mut self, which: Count, count: u64, rule: &Rule) {
        let ruling = Some(Ruling { value: count, switch: Arc::clone(&rule.switch) });
        match which {
            Count::Retry => {
                let value = u32::try_from(count).unwrap_or(u32::MAX);
                self.retry_attempts = Some(Ruling { value, switch: Arc::clone(&rule.switch) });
            }
            Count::OutputTokens => self.max_output_tokens = ruling,
            Count::InputBytes => self.max_input_bytes = ruling,
            Count::InputTokens => self.max_input_tokens = ruling,
            Count::GrowthTokens => self.max_growth_tokens = ruling,
            Count::HistoryMessages => self.max_history_messages = ruling,
            Count::HistoryTokens => self.max_history_tokens = ruling,
        }
    }
}

#[cfg(test)]
mod tests {
    use paramedic_model::switch::{KNOWN, ValueKind, never};
    use serde_json::json;

    use super::*;

    fn switch(name: &str, value: Value, scope: &str) -> Switch {
        let scope: Scope = scope.parse().unwrap();
        Switch {
            id: format!("{name}@{scope}"),
            switch: name.to_owned(),
            value,
            scope,
            by: "ana".to_owned(),
            why: String::new(),
            set_at: Timestamp::EPOCH,
            expires_at: Timestamp::from_secs(100),
            seq: 1,
        }
    }

    fn caller() -> Caller {
        Caller {
            key: Some("k1".into()),
            user: Some("ana".into()),
            team: Some("blue".into()),
            agent: Some("s1/a9".into()),
            session: Some("s1".into()),
            ..Caller::default()
        }
    }

    fn policy(switches: &[Switch], at: i64) -> Policy {
        let (policies, unknown) = Policies::new(switches, Timestamp::from_secs(1));
        assert!(unknown.is_empty(), "{unknown:?}");
        policies.of(&caller(), Some("claude-x"), Timestamp::from_secs(at))
    }

    #[test]
    fn who_is_blocked() {
        type Case = (&'static [(&'static str, bool, &'static str)], Option<&'static str>);
        let cases: &[Case] = &[
            (&[], None),
            (&[("blocked", true, "all")], Some("blocked@all")),
            (&[("blocked", true, "all"), ("blocked", false, "user:ana")], None),
            (&[("blocked", false, "all"), ("blocked", true, "team:blue")], Some("blocked@team:blue")),
            (&[("blocked", true, "team:red")], None),
            (&[("blocked_user:ana", true, "all")], Some("blocked_user:ana@all")),
            (&[("blocked_user:bo", true, "all")], None),
            (&[("blocked_agent:a9", true, "all")], Some("blocked_agent:a9@all")),
            (&[("blocked_agent:s1/a9", true, "all")], Some("blocked_agent:s1/a9@all")),
            (&[("blocked_agent:s1", true, "all")], None),
            (&[("blocked", true, "session:s1"), ("blocked", false, "agent:a9")], None),
            (&[("blocked", true, "session:s1"), ("blocked", false, "agent:s1/a9")], None),
            (&[("blocked", false, "session:s1"), ("blocked", true, "agent:s1/a9")], Some("blocked@agent:s1/a9")),
            (&[("blocked_model:claude-x", true, "all")], Some("blocked_model:claude-x@all")),
            (&[("blocked_key:k1", true, "all"), ("blocked", false, "session:s1")], None),
        ];
        for (switches, expect) in cases {
            let switches: Vec<Switch> = switches.iter().map(|(name, on, scope)| switch(name, json!(on), scope)).collect();
            assert_eq!(policy(&switches, 2).blocked.as_deref(), *expect, "{switches:?}");
        }
    }

    #[test]
    fn limits_add_up_and_values_are_the_narrowest() {
        let switches = [
            switch("rate_limit_per_minute", json!(100), "all"),
            switch("rate_limit_per_minute", json!(10), "user:ana"),
            switch("daily_budget_dollars", json!(20.5), "all"),
            switch("daily_budget_dollars", json!(3), "user:ana"),
            switch("request_timeout_s", json!(60), "all"),
            switch("request_timeout_s", json!(15), "agent:a9"),
            switch("request_timeout_s", json!(30), "user:ana"),
            switch("max_history_tokens", json!(4000), "team:red"),
        ];
        let policy = policy(&switches, 2);
        let limits: Vec<u64> = policy.limits.iter().map(|limit| limit.value.1).collect();
        assert_eq!(limits, [100, 10]);
        let purses: Vec<(&str, f64)> = policy.budgets.iter().map(|budget| (&*budget.purse, budget.dollars)).collect();
        assert_eq!(purses, [("all", 20.5), ("user:ana", 3.0)]);
        assert_eq!(policy.request_timeout.unwrap().value, Duration::from_secs(15));
        assert_eq!(policy.max_history_tokens, None);
    }

    #[test]
    fn what_is_over_does_not_count() {
        let switches = [switch("fast_fail", json!(true), "all")];
        assert!(policy(&switches, 99).fast_fail.is_some());
        assert!(policy(&switches, 100).fast_fail.is_none());
        let (policies, _) = Policies::new(&switches, Timestamp::from_secs(1));
        assert_eq!(policies.next_end(), Some(Timestamp::from_secs(100)));
        let (over, _) = Policies::new(&switches, Timestamp::from_secs(101));
        assert!(over.is_empty());
    }

    #[test]
    fn every_switch_that_there_is_means_something() {
        for known in KNOWN {
            let value = match known.kind {
                ValueKind::Flag => json!(true),
                ValueKind::Count => json!(5),
                ValueKind::Amount => json!(1.5),
                ValueKind::Text => json!("claude-x"),
                ValueKind::Word => json!(known.words[0]),
            };
            let name = if known.name.ends_with(':') { format!("{}claude-x", known.name) } else { known.name.to_owned() };
            let mut one = switch(&name, value, "all");
            one.expires_at = never();
            let (policies, unknown) = Policies::new(&[one], Timestamp::from_secs(1));
            assert!(unknown.is_empty(), "{name}");
            assert!(!policies.is_empty(), "{name}");
            let who = Caller {
                key: Some("claude-x".into()),
                user: Some("claude-x".into()),
                agent: Some("claude-x".into()),
                session: Some("claude-x".into()),
                ..Caller::default()
            };
            let says = policies.of(&who, Some("claude-x"), Timestamp::from_secs(1)) != Policy::default();
            assert!(says || policies.breakers(Timestamp::from_secs(1)).count() == 1, "{name} asks for nothing");
        }
    }
}
