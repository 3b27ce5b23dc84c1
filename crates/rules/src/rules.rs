//! All rules: loading them, evaluating them in time, and what they say.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use paramedic_model::{AlertChange, Clock, Timestamp};
use paramedic_promql::Labels;
use paramedic_samples::SampleSink;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::active::State;
use crate::change::fingerprint;
use crate::config::{Settings, millis};
use crate::evaluate;
use crate::file::{Checked, Group, RuleFile, check};
use crate::live::{GroupKey, LiveGroup, LiveRule, lock};
use crate::metrics::Metrics;
use crate::missing::Search;
use crate::ports::{AlertSink, Ports};
use crate::problem::{Level, Problem};
use crate::restore;
use crate::source::QuerySource;
use crate::view::{self, GroupView};
use crate::why::{self, Why};
use crate::{pack, paths};

/// What loading came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    pub files: usize,
    pub groups: usize,
    pub rules: usize,
    /// Errors and notes; a file with an error is as it was loaded before, or not at all.
    pub problems: Vec<Problem>,
}

/// All rules. Cloning is cheap and gives the same rules.
#[derive(Clone)]
pub struct Rules {
    inner: Arc<Inner>,
}

struct Inner {
    ports: Arc<Ports>,
    groups: RwLock<Vec<Arc<LiveGroup>>>,
    /// The files as they were last good.
    files: Mutex<BTreeMap<String, RuleFile>>,
    problems: Mutex<Vec<Problem>>,
    /// What fired before the start, until the rules are loaded.
    loaded: AtomicBool,
    changed: Notify,
    /// One loading at a time.
    loading: tokio::sync::Mutex<()>,
}

impl Rules {
    pub fn new(
        settings: Settings,
        source: Arc<dyn QuerySource>,
        sink: Arc<dyn SampleSink>,
        alerts: Arc<dyn AlertSink>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let inner = Inner {
            ports: Arc::new(Ports::new(settings, source, sink, alerts, clock)),
            groups: RwLock::default(),
            files: Mutex::default(),
            problems: Mutex::default(),
            loaded: AtomicBool::new(false),
            changed: Notify::new(),
            loading: tokio::sync::Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    pub fn metrics(&self) -> &Metrics {
        &self.inner.ports.metrics
    }

    /// Other settings from the next loading on; how many groups are evaluated at a time stays as it was at the start.
    pub fn set_settings(&self, settings: Settings) {
        self.inner.ports.set_settings(settings);
    }

    /// Loads the files of the settings and the embedded rules, at the start and again after a change of them. Groups and
    /// rules that are as before keep what is known of them.
    pub async fn load(&self) -> Loaded {
        let settings = self.inner.ports.settings();
        let read = tokio::task::spawn_blocking(move || read_files(&settings)).await;
        let (texts, problems) = read.unwrap_or_default();
        self.load_with(texts, problems).await
    }

    /// Loads rule files from texts with their names, and the embedded rules if the settings say so.
    pub async fn load_texts(&self, texts: Vec<(String, String)>) -> Loaded {
        self.load_with(texts, Vec::new()).await
    }

    async fn load_with(&self, texts: Vec<(String, String)>, problems: Vec<Problem>) -> Loaded {
        let _one_at_a_time = self.inner.loading.lock().await;
        let inner = Arc::clone(&self.inner);
        let loaded = tokio::task::spawn_blocking(move || inner.install(texts, problems)).await.unwrap_or_default();
        self.inner.changed.notify_waiters();
        loaded
    }

    /// What the journal holds for firing, told once after the first loading: what still holds goes on with the onset it had,
    /// the rest is resolved, at once where its rule is gone.
    pub async fn restore(&self, firing: Vec<AlertChange>) {
        let inner = &self.inner;
        let ports = &inner.ports;
        let now = ports.clock.now();
        ports.hold_until(now.as_millis().saturating_add(millis(ports.settings().restored_hold_s)));
        let groups = inner.groups();
        let mut ended = Vec::new();
        for change in firing {
            let rule = restore::rule_of(groups.iter().map(|group| &**group), &change);
            match rule {
                Some(rule) => {
                    lock(&ports.ledger).restore(Some(rule.id), change.clone());
                    lock(&rule.state).fired_before.insert(change.fingerprint.clone(), change);
                }
                None => ended.push(restore::ended(change, now)),
            }
        }
        if !ended.is_empty() {
            ports.metrics.alert_changes.inc_by(ended.len() as u64);
            ports.alerts.alerts(ended).await;
        }
    }

    /// Evaluates every group in its time, until it is cancelled.
    pub async fn run(self, cancel: CancellationToken) {
        let running = Arc::new(Semaphore::new(self.inner.ports.settings().concurrent_groups_max.max(1)));
        let mut tasks = JoinSet::new();
        let mut known: Vec<Arc<LiveGroup>> = Vec::new();
        tasks.spawn(Arc::clone(&self.inner).search(cancel.clone()));
        loop {
            let changed = self.inner.changed.notified();
            let groups = self.inner.groups();
            for group in groups.iter().filter(|group| !known.iter().any(|known| Arc::ptr_eq(known, group))) {
                tasks.spawn(Arc::clone(&self.inner).keep_time(Arc::clone(group), Arc::clone(&running), cancel.clone()));
            }
            known = groups;
            // Tasks of groups that were replaced end by themselves.
            while tasks.try_join_next().is_some() {}
            tokio::select! {
                () = cancel.cancelled() => break,
                () = changed => {}
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Evaluates every group once for one moment, in order; for tests and measurements.
    pub async fn evaluate(&self, at: Timestamp) {
        for group in self.inner.groups() {
            let inner = Arc::clone(&self.inner);
            let done = tokio::task::spawn_blocking(move || inner.evaluate(&group, at.as_millis())).await;
            if let Err(err) = done {
                tracing::error!(error = %err, "the evaluation of a group broke off");
            }
        }
    }

    /// Every group with its rules and alerts.
    pub fn groups(&self) -> Vec<GroupView> {
        self.inner.groups().iter().map(|group| view::group(group)).collect()
    }

    /// What was wrong when rules were last loaded.
    pub fn problems(&self) -> Vec<Problem> {
        lock(&self.inner.problems).clone()
    }

    /// The rules of a name, each with the parts of its expression and their values now.
    pub async fn why(&self, name: &str) -> Vec<Why> {
        let ports = &self.inner.ports;
        let at = ports.clock.now();
        let mut found = Vec::new();
        for group in self.inner.groups() {
            for (i, rule) in group.rules.iter().enumerate().filter(|(_, rule)| rule.rule.name == name) {
                let parts = why::explain(&rule.rule.expression, &rule.rule.expr, &*ports.source, at).await;
                let shown = view::group(&group);
                let Some(view) = shown.rules.into_iter().nth(i) else { continue };
                found.push(Why { group: shown.name, file: shown.file, rule: view, at, parts });
            }
        }
        found
    }

    /// Searches for selectors without series, from beginning to end; `run` does so by itself every few minutes.
    pub async fn search_missing(&self) {
        let (groups, ports) = (self.inner.groups(), Arc::clone(&self.inner.ports));
        let search = move || {
            let mut search = Search::default();
            while !search.turn(&groups, &ports) {}
        };
        if let Err(err) = tokio::task::spawn_blocking(search).await {
            tracing::error!(error = %err, "the search for missing series broke off");
        }
    }
}

/// Names and texts of the files that the settings name.
fn read_files(settings: &Settings) -> (Vec<(String, String)>, Vec<Problem>) {
    let (mut texts, mut problems) = (Vec::new(), Vec::new());
    for pattern in &settings.files {
        let failed = |file: &str, message: String| Problem {
            level: Level::Error,
            file: file.to_owned(),
            line: 1,
            column: 1,
            group: None,
            rule_number: None,
            rule: None,
            key: None,
            message,
        };
        match paths::expand(pattern) {
            Ok(found) => {
                for path in found {
                    let name = path.display().to_string();
                    match read_file(path) {
                        Ok(text) if !texts.iter().any(|(known, _)| *known == name) => texts.push((name, text)),
                        Ok(_) => {}
                        Err(message) => problems.push(failed(&name, message)),
                    }
                }
            }
            Err(message) => problems.push(failed(pattern, message)),
        }
    }
    (texts, problems)
}

fn read_file(path: PathBuf) -> Result<String, String> {
    let size = std::fs::metadata(&path).map_err(|err| err.to_string())?.len();
    if size > crate::yaml::BYTES_MAX as u64 {
        return Err(format!("the file is larger than {} bytes", crate::yaml::BYTES_MAX));
    }
    let bytes = std::fs::read(&path).map_err(|err| err.to_string())?;
    String::from_utf8(bytes).map_err(|_| "the file is not UTF-8".to_owned())
}

impl Inner {
    fn groups(&self) -> Vec<Arc<LiveGroup>> {
        self.groups.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts rule files in place of those before. Blocking.
    fn install(&self, texts: Vec<(String, String)>, mut problems: Vec<Problem>) -> Loaded {
        let settings = &self.ports.settings();
        let mut checked: Vec<(String, Checked)> = Vec::new();
        if settings.pack {
            checked.extend(pack::load(settings));
            problems.extend(pack::misnamed(settings));
        }
        checked.extend(texts.into_iter().map(|(name, text)| {
            let found = check(&text, &name);
            (name, found)
        }));
        let mut files = lock(&self.files);
        let mut next: BTreeMap<String, RuleFile> = BTreeMap::new();
        let mut order = Vec::new();
        for (name, Checked { file, problems: found }) in checked {
            problems.extend(found);
            if let Some(file) = file.or_else(|| files.remove(&name)) {
                order.push(name.clone());
                next.insert(name, file);
            }
        }
        // A file that cannot be read at the moment stays as it was.
        for unread in problems
            .iter()
            .filter(|problem| problem.is_error() && !next.contains_key(&problem.file))
            .map(|problem| problem.file.clone())
            .collect::<Vec<_>>()
        {
            if let Some(file) = files.remove(&unread) {
                order.push(unread.clone());
                next.insert(unread, file);
            }
        }
        let groups: Vec<(String, Group)> = order
            .iter()
            .filter_map(|name| next.get(name))
            .flat_map(|file| file.groups.iter().map(|group| (file.name.clone(), group.clone())))
            .collect();
        *files = next;
        drop(files);
        let loaded = Loaded {
            files: order.len(),
            groups: groups.len(),
            rules: groups.iter().map(|(_, group)| group.rules.len()).sum(),
            problems: problems.clone(),
        };
        self.replace(groups);
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.ports.metrics.groups.set(count(loaded.groups));
        self.ports.metrics.rules.set(count(loaded.rules));
        self.ports.metrics.load_problems.set(count(problems.iter().filter(|problem| problem.is_error()).count()));
        *lock(&self.problems) = problems;
        loaded
    }

    /// Puts groups in place of those before; groups that are as before go on without a break.
    fn replace(&self, definitions: Vec<(String, Group)>) {
        let settings = &self.ports.settings();
        let first = !self.loaded.swap(true, Ordering::SeqCst);
        let mut before: HashMap<GroupKey, VecDeque<Arc<LiveGroup>>> = HashMap::new();
        for group in self.groups() {
            before.entry(group.key.clone()).or_default().push_back(group);
        }
        let mut groups = Vec::with_capacity(definitions.len());
        let mut gone = Gone::default();
        for (file, definition) in definitions {
            let key = (file.clone(), definition.name.clone());
            let old = before.get_mut(&key).and_then(VecDeque::pop_front);
            if let Some(old) = old.as_ref().filter(|old| old.identity == LiveGroup::identity_of(&definition, settings)) {
                groups.push(Arc::clone(old));
                continue;
            }
            let group = LiveGroup::new(&file, definition, settings);
            if !first {
                // Rules that come later have nothing to be restored.
                lock(&group.state).restored = true;
                group.rules.iter().for_each(|rule| lock(&rule.state).restored = true);
            }
            if let Some(old) = old {
                let _turn = lock(&old.turn);
                lock(&old.state).retired = true;
                for rule in group.inherit(&old) {
                    gone.add(rule);
                }
            }
            groups.push(Arc::new(group));
        }
        for old in before.into_values().flatten() {
            let _turn = lock(&old.turn);
            lock(&old.state).retired = true;
            old.rules.iter().for_each(|rule| gone.add(rule));
        }
        *self.groups.write().unwrap_or_else(PoisonError::into_inner) = groups;
        self.end(gone);
    }

    /// Ends the series and the alerts of rules that are no more.
    fn end(&self, gone: Gone) {
        let now = self.ports.clock.now();
        if !gone.series.is_empty() {
            evaluate::mark_ended(&self.ports, &gone.series, now.as_millis());
        }
        let mut told = Vec::new();
        {
            let mut ledger = lock(&self.ports.ledger);
            for (rule, name) in gone.alerts {
                told.extend(ledger.end(rule, &name, now));
            }
        }
        if !told.is_empty() {
            self.ports.metrics.alert_changes.inc_by(told.len() as u64);
            crate::wait::wait(self.ports.alerts.alerts(told));
        }
    }

    /// One evaluation of a group, unless it was replaced. Blocking.
    fn evaluate(&self, group: &LiveGroup, at_ms: i64) {
        let _turn = lock(&group.turn);
        if lock(&group.state).retired {
            return;
        }
        evaluate::evaluate(group, &self.ports, at_ms);
        if !lock(&group.state).restored {
            restore::continue_waiting(group, &self.ports, at_ms);
            lock(&group.state).restored = true;
        }
    }

    /// Evaluates a group at each moment of its phase.
    async fn keep_time(self: Arc<Self>, group: Arc<LiveGroup>, running: Arc<Semaphore>, cancel: CancellationToken) {
        let now = || self.ports.clock.now().as_millis();
        let mut next = group.next_at(now());
        loop {
            while now() < next {
                let left = Duration::from_millis((next - now()).clamp(1, 1_000) as u64);
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = tokio::time::sleep(left) => {}
                }
                // After a step of the clock into the past, waiting for the old moment could take for ever.
                if next - now() > group.interval_ms {
                    next = group.next_at(now());
                }
                if lock(&group.state).retired {
                    return;
                }
            }
            let permit = tokio::select! {
                () = cancel.cancelled() => return,
                permit = running.acquire() => permit,
            };
            let (inner, evaluated) = (Arc::clone(&self), Arc::clone(&group));
            let done = tokio::task::spawn_blocking(move || inner.evaluate(&evaluated, next)).await;
            drop(permit);
            if let Err(err) = done {
                tracing::error!(group = group.name(), error = %err, "the evaluation of a group broke off");
            }
            if cancel.is_cancelled() || lock(&group.state).retired {
                return;
            }
            self.count_alerts();
            next += group.interval_ms;
            let missed = ((now() - next) / group.interval_ms).max(0);
            if missed > 0 {
                next += missed * group.interval_ms;
                lock(&group.state).missed += missed as u64;
                self.ports.metrics.missed_evaluations.inc_by(missed as u64);
            }
        }
    }

    fn count_alerts(&self) {
        let (mut pending, mut firing) = (0, 0);
        for group in self.groups() {
            for rule in &group.rules {
                for alert in lock(&rule.state).alerts.values() {
                    match alert.state {
                        State::Pending => pending += 1,
                        State::Firing => firing += 1,
                        State::Inactive => {}
                    }
                }
            }
        }
        self.ports.metrics.alerts_pending.set(pending);
        self.ports.metrics.alerts_firing.set(firing);
    }

    /// Looks for missing series now and then.
    async fn search(self: Arc<Self>, cancel: CancellationToken) {
        let interval = self.ports.settings().missing_interval_s;
        if interval == 0 {
            return cancel.cancelled().await;
        }
        let mut search = Search::default();
        loop {
            let (groups, ports) = (self.groups(), Arc::clone(&self.ports));
            let turn = tokio::task::spawn_blocking(move || {
                let done = search.turn(&groups, &ports);
                (search, done)
            });
            let done;
            (search, done) = turn.await.unwrap_or_default();
            let pause = Duration::from_secs(if done { interval } else { (interval / 10).clamp(1, 10) });
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// What is left of rules that are no more.
#[derive(Default)]
struct Gone {
    series: Vec<Labels>,
    /// The alerts that fired, by rule.
    alerts: Vec<(u64, paramedic_model::Fingerprint)>,
}

impl Gone {
    fn add(&mut self, rule: &LiveRule) {
        let mut state = lock(&rule.state);
        self.series.extend(state.written.drain());
        let firing = state.alerts.iter().filter(|(_, alert)| alert.state == State::Firing).map(|(labels, _)| fingerprint(labels));
        let all: Vec<_> = firing.chain(state.fired_before.keys().cloned()).collect();
        self.alerts.extend(all.into_iter().map(|name| (rule.id, name)));
    }
}
