//! A meter, a store, and an agent that does things.

use std::sync::Mutex;
use std::time::Duration;

use paramedic_meter::{AgentGauge, Meter, Novelty, ProcessGauge, Settings};
use paramedic_model::{AgentId, ApiErrorClass, Event, Fact, SessionId, Source, Timestamp, ToolOutcome, Usage};
use paramedic_promql::{Engine, Labels, MemoryStorage, Options, SampleValue, Value};
use paramedic_samples::{AppendReport, Key, Metadata, Sample, SampleSink, SamplesError};

/// A Tuesday at midnight, UTC.
pub(crate) const MIDNIGHT: i64 = 1_768_262_400;

/// A store that expressions can be asked of.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) storage: MemoryStorage,
    pub(crate) described: Mutex<Vec<String>>,
    /// Appends that fail from now on.
    pub(crate) failures: Mutex<u32>,
    /// Every sample as it came.
    pub(crate) log: Mutex<Vec<(Labels, i64, f64)>>,
}

impl SampleSink for Store {
    fn append(&self, batch: &[Sample<'_>]) -> Result<AppendReport, SamplesError> {
        let mut failures = self.failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return Err(SamplesError::DiskFull { file: "wal".into() });
        }
        for sample in batch {
            let Key::Labels(labels) = sample.series else { panic!("series are told by their labels") };
            self.storage.append(labels, [(sample.time, sample.value.clone())]);
            if let SampleValue::Float(value) = sample.value {
                self.log.lock().unwrap().push((labels.clone(), sample.time, value));
            }
        }
        Ok(AppendReport { appended: batch.len() as u64, ..AppendReport::default() })
    }

    fn set_metadata(&self, metric: &str, _: Metadata) -> Result<(), SamplesError> {
        self.described.lock().unwrap().push(metric.to_owned());
        Ok(())
    }
}

/// The play's stage.
pub(crate) struct Stage {
    pub(crate) meter: Meter,
    pub(crate) store: Store,
    pub(crate) now: Timestamp,
    pub(crate) agent: &'static str,
    pub(crate) user: Option<&'static str>,
    pub(crate) model: &'static str,
    calls: u32,
}

impl Stage {
    pub(crate) fn new(settings: Settings) -> Self {
        Self::with(Meter::new(settings))
    }

    pub(crate) fn with(meter: Meter) -> Self {
        let now = Timestamp::from_secs(MIDNIGHT);
        let (agent, user, model) = ("s1", Some("ada"), "claude-sonnet-4-5");
        Self { meter, store: Store::default(), now, agent, user, model, calls: 0 }
    }

    pub(crate) fn wait(&mut self, seconds: f64) {
        self.now = self.now.after(Duration::from_secs_f64(seconds));
    }

    pub(crate) fn event(&self, source: Source, name: &str, fact: Fact) -> Event {
        let mut event = Event::new(self.now, source, name);
        event.agent = Some(AgentId::from(self.agent));
        event.session = Some(SessionId::from(self.agent.split('/').next().unwrap()));
        event.correlation.user = self.user.map(Into::into);
        event.fact = fact;
        event
    }

    pub(crate) fn tell(&mut self, fact: Fact) {
        let event = self.event(Source::Hook, "test", fact);
        self.meter.observe(&event, Novelty::New, None, self.now);
    }

    pub(crate) fn prompt(&mut self) {
        self.tell(Fact::Prompt);
    }

    pub(crate) fn turn_ended(&mut self) {
        self.tell(Fact::TurnEnded { duration: None });
    }

    pub(crate) fn call_event(&self, message: &str, usage: Usage, stop_reason: Option<&str>) -> Event {
        let fact = Fact::ModelCall {
            message: Some(message.into()),
            model: Some(self.model.into()),
            usage,
            cost_usd: None,
            duration: None,
            time_to_first_token: None,
            stop_reason: stop_reason.map(Into::into),
            text_hash: None,
        };
        self.event(Source::Transcript, "assistant", fact)
    }

    /// A model call with a new id.
    pub(crate) fn call(&mut self, usage: Usage, cost: f64) {
        self.calls += 1;
        let event = self.call_event(&format!("msg_{}", self.calls), usage, None);
        self.meter.observe(&event, Novelty::New, Some(cost), self.now);
    }

    pub(crate) fn fails(&mut self, class: ApiErrorClass, status: Option<u16>) {
        self.tell(Fact::ModelError { class, status, attempts: None, retries_exhausted: false, duration: None });
    }

    pub(crate) fn retries(&mut self, class: ApiErrorClass, status: Option<u16>) {
        self.tell(Fact::ModelRetry { class, status, attempt: 1, attempts_max: None, delay: None });
    }

    pub(crate) fn tool(&mut self, tool: &str, seconds: f64, outcome: ToolOutcome) {
        let id: Box<str> = format!("toolu_{}", self.now.as_micros()).into();
        self.tell(Fact::ToolCall { id: Some(id.clone()), tool: tool.into(), input_hash: None });
        self.wait(seconds);
        self.tell(Fact::ToolResult { id: Some(id), tool: None, outcome, result_hash: None, duration: None });
    }

    pub(crate) fn look(&mut self, agents: &[AgentGauge<'_>]) {
        self.meter.agents(agents, self.now);
    }

    pub(crate) fn write(&mut self) {
        self.meter.write(self.now, &self.store).unwrap();
    }

    /// Time goes on to the next full interval, and everything is written.
    pub(crate) fn interval(&mut self) {
        let ms = self.now.as_millis();
        self.now = Timestamp::from_millis(ms - ms.rem_euclid(15_000) + 15_000);
        self.write();
    }

    pub(crate) fn intervals(&mut self, count: usize) {
        for _ in 0..count {
            self.interval();
        }
    }

    /// Label sets (as text) and values of an expression now.
    pub(crate) fn ask(&self, expression: &str) -> Vec<(String, f64)> {
        ask(&self.store.storage, expression, self.now)
    }

    /// The one value of an expression now.
    pub(crate) fn value(&self, expression: &str) -> f64 {
        let found = self.ask(expression);
        assert_eq!(found.len(), 1, "{expression}: {found:?}");
        found[0].1
    }

    /// Every metric name that was written.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.store.log.lock().unwrap().iter().map(|(labels, ..)| labels.metric_name().to_owned()).collect();
        names.sort();
        names.dedup();
        names
    }
}

pub(crate) fn ask(storage: &dyn paramedic_promql::Storage, expression: &str, at: Timestamp) -> Vec<(String, f64)> {
    let answer = Engine::new(Options::default()).instant(storage, expression, at.as_millis()).unwrap();
    let Value::Vector(samples) = answer.value else { panic!("{expression} is no vector") };
    samples
        .into_iter()
        .map(|sample| match sample.value {
            paramedic_promql::Point::Float(value) => (sample.labels.to_string(), value),
            other => panic!("{expression}: {other:?}"),
        })
        .collect()
}

pub(crate) fn usage(input_tokens: u64, output_tokens: u64, cache_read_tokens: u64) -> Usage {
    Usage { input_tokens, output_tokens, cache_read_tokens, ..Usage::default() }
}

/// A session at work.
pub(crate) fn working(agent: &str, at: Timestamp) -> AgentGauge<'_> {
    AgentGauge {
        agent,
        is_subagent: false,
        project: Some("shop"),
        state: "working",
        context_tokens: 50_000,
        context_limit: Some(200_000),
        last_event_at: at,
        process: None,
    }
}

/// Its process lives.
pub(crate) fn alive(agent: AgentGauge<'_>, at: Timestamp) -> AgentGauge<'_> {
    AgentGauge { process: Some(ProcessGauge { alive: true, rss_bytes: Some(300_000_000), at }), ..agent }
}
