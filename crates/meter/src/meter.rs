//! The meter: from events to numbers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use paramedic_model::{Event, Fact, Level, Source, Timestamp};
use paramedic_samples::SampleSink;

use crate::alerts::ActiveAlerts;
use crate::calls::Calls;
use crate::catalogue::Metric;
use crate::config::Settings;
use crate::course::{Course, seconds};
use crate::days::Days;
use crate::error::MeterError;
use crate::exposition::Exposition;
use crate::ledger::{Ledger, Which, Written, lock};
use crate::metrics::Metrics;
use crate::names::{Kind, Names};
use crate::passing::{is_gateways, is_refused};

/// Whether an event told something new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Novelty {
    New,
    /// It adds to a fact that is known: a call's counts grew.
    Update,
}

/// Derives samples from agents. Not shared: whoever has the events in their order has the meter.
#[derive(Debug)]
pub struct Meter {
    pub(crate) settings: Settings,
    pub(crate) ledger: Arc<Mutex<Ledger>>,
    pub(crate) names: Names,
    pub(crate) courses: HashMap<Box<str>, Course>,
    pub(crate) calls: Calls,
    pub(crate) days: Days,
    pub(crate) alerts: ActiveAlerts,
    /// The last values of counters that were told as sums, by series.
    pub(crate) sums: HashMap<Box<str>, f64>,
    pub(crate) metrics: Metrics,
    /// When the state was saved that this one goes on from.
    pub(crate) resumed_at: Option<Timestamp>,
    pub(crate) written_at: Option<Timestamp>,
}

/// What the handling of one event needs besides the event.
pub(crate) struct Moment<'a> {
    pub(crate) event: &'a Event,
    /// Milliseconds of now.
    pub(crate) now_ms: i64,
    /// Counters count it.
    pub(crate) live: bool,
}

impl Meter {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let mut meter = Self {
            settings: Settings::default(),
            ledger: Arc::default(),
            names: Names::default(),
            courses: HashMap::new(),
            calls: Calls::default(),
            days: Days::default(),
            alerts: ActiveAlerts::default(),
            sums: HashMap::new(),
            metrics: Metrics::default(),
            resumed_at: None,
            written_at: None,
        };
        meter.set_settings(settings);
        meter
    }

    /// Other settings from now on; what was counted stays.
    pub fn set_settings(&mut self, settings: Settings) {
        self.names.set_bounds(&settings);
        self.calls.set_bound(settings.calls_max);
        self.settings = settings;
    }

    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// A collector that shows the same numbers on `/metrics`.
    #[must_use]
    pub fn exposition(&self) -> Exposition {
        Exposition(Arc::clone(&self.ledger))
    }

    /// Takes an event that is news. `cost_usd` is what a model call, as this event tells it, costs: by our prices, or as its
    /// source says where the model has no price.
    pub fn observe(&mut self, event: &Event, novelty: Novelty, cost_usd: Option<f64>, now: Timestamp) {
        let lag = seconds(event.at, now);
        self.take(event, novelty, cost_usd, now, now, lag);
    }

    /// Takes an event that is read from the store again after a restart. What came after the state that was loaded had been
    /// counted and written before the restart, so it is counted, however long ago that was: counters never fall behind.
    pub fn replay(&mut self, event: &Event, novelty: Novelty, cost_usd: Option<f64>, now: Timestamp) {
        let reference = self.resumed_at.unwrap_or(now);
        self.take(event, novelty, cost_usd, now, reference, None);
    }

    fn take(&mut self, event: &Event, novelty: Novelty, cost_usd: Option<f64>, now: Timestamp, reference: Timestamp, lag: Option<f64>) {
        let history = std::time::Duration::from_secs(self.settings.history_s);
        let live = self.settings.count_history || event.at >= reference.before(history);
        if live { &self.metrics.events } else { &self.metrics.history }.inc();
        let moment = Moment { event, now_ms: now.as_millis(), live };
        let id = event.agent.as_ref().map_or("", |agent| agent.as_str());
        let mut course = self.courses.remove(id).unwrap_or_else(|| self.begin(&moment, id));
        course.last_at = course.last_at.max(event.at);
        course.heard_from(event.source);
        if let Some(user) = &event.correlation.user
            && *course.user != **user
        {
            course.user = self.names.admit(Kind::User, user, moment.now_ms);
        }
        if novelty == Novelty::New {
            self.stream_event(&moment, &mut course, lag);
        }
        self.fact(&moment, &mut course, novelty, cost_usd, now);
        self.make_room(id);
        self.courses.insert(id.into(), course);
    }

    fn begin(&mut self, moment: &Moment<'_>, id: &str) -> Course {
        let event = moment.event;
        let session = event.session.as_ref().map_or("", |session| session.as_str());
        let is_subagent =
            !session.is_empty() && id.len() > session.len() + 1 && id.starts_with(session) && id.as_bytes()[session.len()] == b'/';
        let label = self.names.admit(Kind::Agent, if is_subagent { session } else { id }, moment.now_ms);
        if moment.live && !is_subagent && !id.is_empty() {
            lock(&self.ledger).inc(Metric::Monitors, &[], moment.now_ms);
        }
        Course::new(label, is_subagent, event.at)
    }

    /// The agent that was silent for the longest time is forgotten when there are too many.
    fn make_room(&mut self, id: &str) {
        if self.courses.len() < self.settings.followed_max.max(1) || self.courses.contains_key(id) {
            return;
        }
        // In one sweep for many, because looking for the oldest costs as much as the sweep.
        let mut times: Vec<Timestamp> = self.courses.values().map(|course| course.last_at).collect();
        let place = times.len() / 16;
        let (_, border, _) = times.select_nth_unstable(place);
        let border = *border;
        let before = self.courses.len();
        self.courses.retain(|_, course| course.last_at > border);
        self.metrics.forgotten.inc_by((before - self.courses.len()) as u64);
    }

    fn fact(&mut self, moment: &Moment<'_>, course: &mut Course, novelty: Novelty, cost_usd: Option<f64>, now: Timestamp) {
        let event = moment.event;
        if let Fact::ModelCall { .. } = event.fact {
            return self.model_call(moment, course, novelty, cost_usd, now);
        }
        if novelty == Novelty::Update {
            return;
        }
        match &event.fact {
            Fact::Prompt => self.request_begins(moment, course),
            Fact::TurnEnded { duration } => self.turn_ended(moment, course, *duration),
            Fact::ModelRetry { class, status, .. } => {
                if is_gateways(event) {
                    self.passing_failure(moment, course, class.as_str());
                } else {
                    course.works_at(event.at);
                    Self::client_told(course);
                    self.retried(moment);
                }
                if !is_refused(event) && (is_gateways(event) || !course.passing.claim(event)) {
                    self.failed_try(moment, course, *class, *status);
                }
            }
            Fact::Record if is_gateways(event) && &*event.name == "gateway/client_gone" => self.client_gone(moment, course),
            Fact::ModelError { class, status, duration, .. } => self.model_error(moment, course, *class, *status, *duration),
            Fact::ToolCall { id, tool, .. } => {
                course.works_at(event.at);
                course.begin_tool(id.as_deref(), tool, event.at);
            }
            Fact::ToolResult { id, tool, outcome, duration, .. } => {
                self.tool_result(moment, course, (id.as_deref(), tool.as_deref()), *outcome, *duration);
            }
            Fact::McpServer { server, status } => self.mcp_server(moment, course, server.as_deref(), status),
            Fact::SessionStarted { model, .. } => {
                course.ended = false;
                if let Some(model) = model {
                    course.model = self.names.admit(Kind::Model, model, moment.now_ms);
                }
            }
            Fact::SessionEnded { reason } => self.session_ended(moment, course, reason.as_deref()),
            Fact::SubagentEnded { .. } => course.turn = None,
            Fact::Compaction { trigger, .. } if moment.live => {
                let trigger = self.names.admit(Kind::Word, trigger.as_deref().unwrap_or("auto"), moment.now_ms);
                lock(&self.ledger).inc(Metric::Compactions, &[&trigger], moment.now_ms);
            }
            Fact::RateLimit { limit, utilization: Some(share), .. } if moment.live && share.is_finite() => {
                let limit = self.names.admit(Kind::Word, limit.as_deref().unwrap_or("unknown"), moment.now_ms);
                lock(&self.ledger).set(Metric::RateLimitUse, &[&limit], *share, moment.now_ms);
            }
            Fact::Span { duration, failed } => self.span(moment, course, *duration, *failed),
            Fact::Measurement { value, temporality, .. } => self.measurement(moment, course, *value, *temporality, now),
            _ => {}
        }
    }

    /// The stream monitor's counts of events.
    fn stream_event(&mut self, moment: &Moment<'_>, course: &mut Course, lag: Option<f64>) {
        let Some(event_type) = stream_type(&moment.event.fact) else { return };
        course.events += 1;
        if !moment.live || course.label.is_empty() {
            return;
        }
        self.names.admit(Kind::Agent, &course.label, moment.now_ms);
        let priority = match moment.event.level {
            Level::Error => "high",
            Level::Warn => "medium",
            Level::Info | Level::Debug => "low",
        };
        let (agent, now_ms) = (&*course.label, moment.now_ms);
        let mut ledger = lock(&self.ledger);
        ledger.inc(Metric::Events, &[agent, event_type, priority], now_ms);
        ledger.inc(Metric::EventsProcessed, &[agent, event_type], now_ms);
        if let Some(lag) = lag {
            ledger.observe(Metric::EventLatency, &[agent, event_type], lag, now_ms);
            ledger.observe(Metric::StreamLag, &[agent], lag, now_ms);
        }
    }

    /// Writes all series: to be called every `interval_s`.
    pub fn write(&mut self, now: Timestamp, sink: &dyn SampleSink) -> Result<Written, MeterError> {
        self.settle(now);
        let written = self.write_which(Which::All, now, sink);
        self.written_at = Some(now);
        written
    }

    /// Writes what an alert changed, when it has just changed it.
    pub fn write_alerts(&mut self, now: Timestamp, sink: &dyn SampleSink) -> Result<Written, MeterError> {
        self.write_which(Which::Changes(ActiveAlerts::METRICS), now, sink)
    }

    fn write_which(&self, which: Which<'_>, now: Timestamp, sink: &dyn SampleSink) -> Result<Written, MeterError> {
        let now_ms = now.as_millis();
        // One interval before, and inside of a range that begins there: its left edge does not belong to a range.
        let zero_ms = now_ms - i64::try_from(self.settings.interval_s).unwrap_or(15).clamp(1, 3_600) * 1_000 + 1;
        let written = lock(&self.ledger).write(which, now_ms, zero_ms, sink);
        match &written {
            Ok(written) => {
                self.metrics.writes.inc();
                self.metrics.samples.inc_by(written.samples);
                self.metrics.refused.inc_by(written.refused);
            }
            Err(_) => {
                self.metrics.write_failures.inc();
            }
        }
        Ok(written?)
    }

    /// Brings the gauges up to now and ends the series of what is gone.
    fn settle(&mut self, now: Timestamp) {
        let now_ms = now.as_millis();
        let span = self.written_at.and_then(|before| seconds(before, now)).filter(|span| *span > 0.0);
        let active = self.courses.values().filter(|course| !course.is_subagent && !course.ended && course.turn.is_some()).count();
        let rates = self.event_rates(span);
        let mut ledger = lock(&self.ledger);
        ledger.set(Metric::RequestsActive, &[], active as f64, now_ms);
        ledger.set(Metric::CostToday, &[], self.days.dollars(now), now_ms);
        ledger.begin(&[Metric::DailyBudget, Metric::EventRate]);
        if self.settings.daily_budget_dollars > 0.0 {
            ledger.set(Metric::DailyBudget, &[], self.settings.daily_budget_dollars, now_ms);
        }
        for (agent, rate) in rates {
            ledger.set(Metric::EventRate, &[&agent], rate, now_ms);
        }
        ledger.sweep(&[Metric::DailyBudget, Metric::EventRate]);
        let before = |seconds: u64| now.before(std::time::Duration::from_secs(seconds)).as_millis();
        let (agents, others) = (before(self.settings.forget_agents_after_s), before(self.settings.forget_after_s));
        ledger.forget(agents, others);
        let series = ledger.len();
        drop(ledger);
        self.names.forget(agents, others);
        let agents_before = Timestamp::from_millis(agents);
        self.courses.retain(|_, course| course.last_at >= agents_before);
        self.metrics.series.set(series as i64);
        self.metrics.followed.set(self.courses.len() as i64);
        self.metrics.overflowed.inc_by(std::mem::take(&mut self.names.overflowed));
    }

    /// Events per second of each agent since the write before, sub-agents included.
    fn event_rates(&mut self, span: Option<f64>) -> HashMap<Arc<str>, f64> {
        let mut rates: HashMap<Arc<str>, f64> = HashMap::new();
        for course in self.courses.values_mut() {
            let grown = course.events - course.events_before;
            course.events_before = course.events;
            if !course.label.is_empty()
                && !course.ended
                && let Some(span) = span
            {
                *rates.entry(Arc::clone(&course.label)).or_default() += grown as f64 / span;
            }
        }
        rates
    }
}

/// The stream monitor's word for an event; none for what is no event of an agent's stream.
fn stream_type(fact: &Fact) -> Option<&'static str> {
    Some(match fact {
        Fact::Measurement { .. } | Fact::Process { .. } | Fact::Span { .. } => return None,
        Fact::ToolCall { .. } => "tool_use",
        Fact::ToolResult { .. } => "tool_result",
        Fact::ModelCall { .. } => "text",
        Fact::ModelRetry { .. } | Fact::ModelError { .. } => "error",
        Fact::TurnEnded { .. } => "result",
        Fact::Prompt => "prompt",
        Fact::SessionStarted { .. } | Fact::SessionEnded { .. } | Fact::Compaction { .. } => "system",
        _ => "unknown",
    })
}

/// A log tells of failures but seldom of what went well, and a refused call that it names may have been tried again.
pub(crate) const fn is_log(event: &Event) -> bool {
    matches!(event.source, Source::Log)
}
