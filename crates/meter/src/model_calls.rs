//! Model calls: tokens, dollars, tries, the prompt cache.

use std::sync::Arc;

use paramedic_model::{ApiErrorClass, Fact, Temporality, Timestamp, Usage};

use crate::calls::{Growth, Identity, Told};
use crate::catalogue::Metric;
use crate::course::{Course, seconds};
use crate::ledger::lock;
use crate::meter::{Meter, Moment, Novelty};
use crate::names::Kind;
use crate::passing::is_gateways;

/// What Claude Code names as the model of lines that no model wrote.
const SYNTHETIC: &str = "<synthetic>";
/// No call costs more, and no measurement either.
const USD_MAX: f64 = 10_000.0;
const TOKENS_MAX: f64 = 1e12;
/// Series of measurements whose last value is remembered.
const SUMS_MAX: usize = 4_096;

impl Meter {
    pub(crate) fn model_call(&mut self, moment: &Moment<'_>, course: &mut Course, novelty: Novelty, cost_usd: Option<f64>, now: Timestamp) {
        let event = moment.event;
        let Fact::ModelCall { message, model, usage, duration, stop_reason, .. } = &event.fact else { return };
        if model.as_deref() == Some(SYNTHETIC) {
            return;
        }
        if let Some(model) = model {
            course.model = self.names.admit(Kind::Model, model, moment.now_ms);
        }
        course.tells_calls = true;
        course.worked_at = course.worked_at.max(Some(event.at));
        let identity = Identity {
            session: event.session.as_ref().map_or("", |session| session.as_str()),
            message: message.as_deref(),
            request: event.correlation.request.as_deref(),
        };
        if novelty == Novelty::Update && !self.calls.knows(&identity) {
            self.metrics.updates_unknown.inc();
        } else {
            let cost = cost_usd.filter(|cost| cost.is_finite() && (0.0..=USD_MAX).contains(cost));
            let passed = is_gateways(event);
            let told = Told { usage: *usage, cost, refused: stop_reason.as_deref() == Some("refusal"), passed };
            let growth = self.calls.tell(&identity, told);
            let is_finished = !(passed && novelty == Novelty::New) || self.passing_answer(moment, course, *duration);
            self.days.add(event.at, growth.cost, now);
            if moment.live {
                self.count_growth(moment.now_ms, course, &growth);
            }
            if growth.first && is_finished {
                let model = Arc::clone(&course.model);
                self.tried(moment, &model, "success", "200");
                let told = duration.map(|took| took.as_secs_f64());
                self.call_took(moment, course, "success", told);
            }
            // The answer that somebody waited for may be told after a chore's in the background, which only the gateway sees.
            let is_works = if passed { growth.first && is_finished && !course.is_told } else { growth.first || growth.first_told };
            if is_works {
                course.works_at(event.at);
                self.answered(moment, course);
            }
        }
        if is_gateways(event) {
            self.passing_ended(moment, course, stop_reason.as_deref());
        } else if ends_turn(stop_reason.as_deref()) {
            self.turn_ended(moment, course, None);
        }
    }

    fn count_growth(&mut self, now_ms: i64, course: &Course, growth: &Growth) {
        self.count_tokens(now_ms, &course.model, growth.usage);
        let mut ledger = lock(&self.ledger);
        if growth.cost > 0.0 {
            ledger.add(Metric::Cost, &[&course.model, &course.user, &course.label], growth.cost, now_ms);
            ledger.add(Metric::LlmCost, &[&course.model], growth.cost, now_ms);
        }
        if let Some(hit) = growth.cache_hit {
            ledger.inc(if hit { Metric::CacheHits } else { Metric::CacheMisses }, &[], now_ms);
            ledger.inc(Metric::AnyCacheRequests, &["prompt"], now_ms);
            ledger.add(Metric::AnyCacheHits, &["prompt"], if hit { 1.0 } else { 0.0 }, now_ms);
        }
        if growth.refused {
            ledger.inc(Metric::Moderated, &[], now_ms);
        }
    }

    fn count_tokens(&mut self, now_ms: i64, model: &str, usage: Usage) {
        let kinds = [
            ("input", usage.input_tokens),
            ("output", usage.output_tokens),
            ("cache_read", usage.cache_read_tokens),
            ("cache_creation", usage.cache_creation_tokens),
        ];
        let mut ledger = lock(&self.ledger);
        for (kind, tokens) in kinds.into_iter().filter(|(_, tokens)| *tokens > 0) {
            ledger.add(Metric::Tokens, &[model, kind], tokens as f64, now_ms);
            ledger.add(Metric::LlmTokens, &[model, kind], tokens as f64, now_ms);
        }
    }

    /// One try of a model call.
    fn tried(&mut self, moment: &Moment<'_>, model: &str, status: &str, code: &str) {
        if !moment.live {
            return;
        }
        let now_ms = moment.now_ms;
        let mut ledger = lock(&self.ledger);
        ledger.inc(Metric::LlmRequests, &[model, status], now_ms);
        ledger.inc(Metric::ExternalRequests, &[api_name(model), "messages", code], now_ms);
        if is_anthropic(model) {
            ledger.inc(Metric::AnthropicRequests, &[model, status], now_ms);
            ledger.inc(Metric::ApiRequests, &[], now_ms);
        }
    }

    /// A try of a model call that failed, whether or not it is tried again.
    pub(crate) fn failed_try(&mut self, moment: &Moment<'_>, course: &Course, class: ApiErrorClass, status: Option<u16>) {
        let code = status.map(|status| status.to_string());
        // The gateway knows which model was asked for.
        let told = moment.event.attributes.get("model").filter(|_| is_gateways(moment.event)).and_then(serde_json::Value::as_str);
        let model = told.map_or_else(|| Arc::clone(&course.model), |model| self.names.admit(Kind::Model, model, moment.now_ms));
        self.tried(moment, &model, "error", code.as_deref().unwrap_or(class.as_str()));
        if !moment.live {
            return;
        }
        let (model, now_ms) = (&*model, moment.now_ms);
        let mut ledger = lock(&self.ledger);
        ledger.inc(Metric::LlmErrors, &[model, class.as_str()], now_ms);
        if class == ApiErrorClass::Timeout {
            ledger.inc(Metric::Timeouts, &[], now_ms);
        }
        if is_anthropic(model) {
            ledger.inc(Metric::ApiErrors, &[], now_ms);
            if class == ApiErrorClass::RateLimit {
                ledger.inc(Metric::ApiRateLimited, &[], now_ms);
            }
        }
    }

    pub(crate) fn retried(&mut self, moment: &Moment<'_>) {
        if moment.live {
            lock(&self.ledger).inc(Metric::Retries, &[], moment.now_ms);
        }
    }

    /// How long a call took: as told, otherwise since the model was given something to answer.
    pub(crate) fn call_took(&mut self, moment: &Moment<'_>, course: &mut Course, status: &str, told: Option<f64>) {
        let waited = course.input_at.take().and_then(|input| seconds(input, moment.event.at));
        let Some(took) = told.or(waited.filter(|_| status == "success")).filter(|_| moment.live) else { return };
        let (model, now_ms) = (&*course.model, moment.now_ms);
        let mut ledger = lock(&self.ledger);
        ledger.observe(Metric::LlmDuration, &[model, status], took, now_ms);
        ledger.observe(Metric::ExternalDuration, &[api_name(model), "messages"], took, now_ms);
        if is_anthropic(model) {
            ledger.observe(Metric::ApiDuration, &[], took, now_ms);
        }
    }

    /// Claude Code's own counters of tokens and dollars count only for a session whose calls nobody tells.
    pub(crate) fn measurement(&mut self, moment: &Moment<'_>, course: &mut Course, value: f64, temporality: Temporality, now: Timestamp) {
        let event = moment.event;
        let (is_tokens, is_dollars) = (&*event.name == "claude_code.token.usage", &*event.name == "claude_code.cost.usage");
        if course.tells_calls || !(is_tokens || is_dollars) || !value.is_finite() || value < 0.0 {
            return;
        }
        let text = |name: &str| event.attributes.get(name).and_then(serde_json::Value::as_str);
        let growth = match temporality {
            Temporality::Gauge => return,
            Temporality::Delta => value,
            Temporality::Cumulative => {
                let agent = event.agent.as_ref().map_or("", |agent| agent.as_str());
                let series = format!("{agent}\u{1f}{}\u{1f}{:?}\u{1f}{:?}", event.name, text("model"), text("type"));
                self.grown(series.into(), value)
            }
        };
        let model: Arc<str> = match text("model") {
            Some(model) => self.names.admit(Kind::Model, model, moment.now_ms),
            None => Arc::clone(&course.model),
        };
        if is_dollars {
            let cost = growth.min(USD_MAX);
            self.days.add(event.at, cost, now);
            if moment.live && cost > 0.0 {
                let mut ledger = lock(&self.ledger);
                ledger.add(Metric::Cost, &[&model, &course.user, &course.label], cost, moment.now_ms);
                ledger.add(Metric::LlmCost, &[&model], cost, moment.now_ms);
            }
            return;
        }
        let tokens = growth.min(TOKENS_MAX) as u64;
        let mut usage = Usage::default();
        match text("type") {
            Some("input") => usage.input_tokens = tokens,
            Some("output") => usage.output_tokens = tokens,
            Some("cacheRead") => usage.cache_read_tokens = tokens,
            Some("cacheCreation") => usage.cache_creation_tokens = tokens,
            _ => return,
        }
        if moment.live {
            self.count_tokens(moment.now_ms, &model, usage);
        }
    }

    /// How much a sum grew. A sum that fell began anew; one that was never seen may be old, so its first value is no growth.
    fn grown(&mut self, series: Box<str>, value: f64) -> f64 {
        if self.sums.len() >= SUMS_MAX && !self.sums.contains_key(&series) {
            self.sums.clear();
        }
        match self.sums.insert(series, value) {
            Some(before) if value >= before => value - before,
            Some(_) => value,
            None => 0.0,
        }
    }
}

fn ends_turn(stop_reason: Option<&str>) -> bool {
    matches!(stop_reason, Some("end_turn" | "stop_sequence" | "refusal" | "stop"))
}

/// A model that is not known is Anthropic's: the agents that are watched without a word of theirs are Claude Code's.
fn is_anthropic(model: &str) -> bool {
    model.is_empty() || model == crate::names::OTHER || model.contains("claude")
}

fn api_name(model: &str) -> &'static str {
    if is_anthropic(model) { "anthropic" } else { "model-api" }
}
