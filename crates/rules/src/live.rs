//! Groups and rules that are evaluated: what they are, and what is known of them so far.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use paramedic_model::{AlertChange, Fingerprint};
use paramedic_promql::Labels;

use crate::active::Alerts;
use crate::config::Settings;
use crate::file::{Group, Rule, RuleKind};
use crate::ledger::RuleId;
use crate::source::Repeated;
use crate::template::{Binder, Book, Text};
use crate::view::MissingSeries;

/// Where a group comes from: its file and its name.
pub(crate) type GroupKey = (String, String);

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a rule's last evaluation went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Health {
    #[default]
    Unknown,
    Ok,
    Failed(String),
}

/// What is known of a rule from its evaluations.
#[derive(Debug, Default)]
pub(crate) struct RuleState {
    pub(crate) alerts: Alerts,
    /// Series that the last evaluation wrote.
    pub(crate) written: HashSet<Labels>,
    pub(crate) health: Health,
    /// Milliseconds.
    pub(crate) last_at: Option<i64>,
    pub(crate) evaluation_s: f64,
    /// Whether `for` was restored, so that the series about alerts may be written.
    pub(crate) restored: bool,
    /// What fired before the start and was not seen again yet.
    pub(crate) fired_before: HashMap<Fingerprint, AlertChange>,
    pub(crate) missing: Vec<MissingSeries>,
}

/// A rule with everything prepared for its evaluation.
#[derive(Debug)]
pub(crate) struct LiveRule {
    pub(crate) id: RuleId,
    pub(crate) rule: Rule,
    pub(crate) labels: Vec<(Arc<str>, Text)>,
    pub(crate) annotations: Vec<(String, Text)>,
    pub(crate) state: Mutex<RuleState>,
}

/// What is known of a group from its evaluations.
#[derive(Debug, Default)]
pub(crate) struct GroupState {
    /// Milliseconds.
    pub(crate) last_at: Option<i64>,
    pub(crate) evaluation_s: f64,
    pub(crate) missed: u64,
    /// Whether an evaluation was done since the start, after which `for` is restored.
    pub(crate) restored: bool,
    /// Set when the group was replaced: it is not evaluated again.
    pub(crate) retired: bool,
    /// Series of rules that are no more, to be marked as ended.
    pub(crate) ended_series: Vec<Labels>,
}

/// A group with everything prepared for its evaluation.
#[derive(Debug)]
pub(crate) struct LiveGroup {
    pub(crate) key: GroupKey,
    /// What it was made from: the same text is the same group.
    pub(crate) identity: u64,
    pub(crate) interval_ms: i64,
    /// Milliseconds after a multiple of the interval at which it is evaluated.
    pub(crate) phase_ms: i64,
    pub(crate) offset_ms: i64,
    pub(crate) limit: i64,
    pub(crate) rules: Vec<LiveRule>,
    pub(crate) book: Book,
    pub(crate) repeated: Repeated,
    pub(crate) state: Mutex<GroupState>,
    /// Held while the group is evaluated.
    pub(crate) turn: Mutex<()>,
}

fn hash(parts: &[&str]) -> u64 {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(part.as_bytes());
        bytes.push(0xff);
    }
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

impl LiveGroup {
    /// Prepares a group; templates that cannot be read stay as they are written, since checked files have none.
    pub(crate) fn new(file: &str, group: Group, settings: &Settings) -> Self {
        let interval_ms = group.interval_ms.unwrap_or_else(|| settings.evaluation_interval_ms());
        let offset_ms = group.query_offset_ms.unwrap_or_else(|| crate::config::millis(settings.query_offset_s));
        let identity = identity(&group, settings);
        let mut binder = Binder::new(&settings.external_url);
        let mut rules = Vec::with_capacity(group.rules.len());
        for rule in group.rules {
            rules.push(prepare(&mut binder, file, &group.name, rule));
        }
        let mut written: BTreeSet<&str> = rules.iter().map(|rule| rule.rule.name.as_str()).collect();
        written.extend(["ALERTS", "ALERTS_FOR_STATE"]);
        let repeated = Repeated::find(rules.iter().map(|rule| &*rule.rule.expr), &written);
        let phase = hash(&[file, &group.name]) % u64::try_from(interval_ms).unwrap_or(1).max(1);
        Self {
            identity,
            interval_ms,
            phase_ms: i64::try_from(phase).unwrap_or(0),
            offset_ms,
            limit: group.limit,
            book: binder.bind(&settings.external_labels, &settings.external_url),
            repeated,
            rules,
            key: (file.to_owned(), group.name),
            state: Mutex::default(),
            turn: Mutex::default(),
        }
    }

    /// What a group made from this definition would be identified by.
    pub(crate) fn identity_of(group: &Group, settings: &Settings) -> u64 {
        identity(group, settings)
    }

    pub(crate) fn name(&self) -> &str {
        &self.key.1
    }

    /// The first moment of the group's phase that is not before another.
    pub(crate) fn next_at(&self, from_ms: i64) -> i64 {
        let since = from_ms.saturating_sub(self.phase_ms).rem_euclid(self.interval_ms);
        if since == 0 { from_ms } else { from_ms.saturating_add(self.interval_ms - since) }
    }

    /// Takes over what is known of the rules of a group that this one replaces. Gives the rules that are no more.
    pub(crate) fn inherit<'a>(&self, before: &'a Self) -> Vec<&'a LiveRule> {
        let mut known: BTreeMap<Likeness<'_>, Vec<&LiveRule>> = BTreeMap::new();
        for rule in before.rules.iter().rev() {
            known.entry((rule.rule.kind, &rule.rule.name, &rule.rule.labels)).or_default().push(rule);
        }
        for rule in &self.rules {
            let Some(old) = known.get_mut(&(rule.rule.kind, &rule.rule.name, &rule.rule.labels)).and_then(Vec::pop) else { continue };
            *lock(&rule.state) = std::mem::take(&mut lock(&old.state));
        }
        let mut state = lock(&self.state);
        let mut old = lock(&before.state);
        state.last_at = old.last_at;
        state.missed = old.missed;
        state.restored = old.restored;
        state.ended_series.append(&mut old.ended_series);
        known.into_values().flatten().collect()
    }
}

/// What makes a rule the same rule after a reload: its kind, name and labels.
type Likeness<'a> = (RuleKind, &'a str, &'a BTreeMap<String, String>);

/// Everything that a group's evaluation depends on.
fn identity(group: &Group, settings: &Settings) -> u64 {
    let mut parts = vec![format!("{:?} {:?} {} {:?}", group.interval_ms, group.query_offset_ms, group.limit, group.labels)];
    parts.push(format!("{} {} {:?}", settings.evaluation_interval_s, settings.query_offset_s, settings.external_labels));
    parts.push(settings.external_url.clone());
    for rule in &group.rules {
        parts.push(format!("{:?} {} {}", rule.kind, rule.name, rule.expression));
        parts.push(format!("{} {} {:?} {:?}", rule.for_ms, rule.keep_firing_for_ms, rule.labels, rule.annotations));
    }
    hash(&parts.iter().map(String::as_str).collect::<Vec<_>>())
}

fn prepare(binder: &mut Binder, file: &str, group: &str, rule: Rule) -> LiveRule {
    let mut bind = |text: &str| {
        // A recording rule's labels are taken as they are.
        if rule.kind == RuleKind::Recording {
            return Text::Plain(text.to_owned());
        }
        binder.add(&rule.name, text).unwrap_or_else(|_| Text::Plain(text.to_owned()))
    };
    let labels = rule.labels.iter().map(|(name, text)| (Arc::from(name.as_str()), bind(text))).collect();
    let annotations = rule.annotations.iter().map(|(name, text)| (name.clone(), bind(text))).collect();
    let id = hash(&[file, group, &rule.name, &format!("{:?} {:?}", rule.kind, rule.labels)]);
    LiveRule { id, labels, annotations, rule, state: Mutex::default() }
}
