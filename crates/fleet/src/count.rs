//! Counting calls and tools: the part of the fleet where the same thing told thrice becomes one.

use paramedic_model::{Event, Fact, Source, Temporality, Usage};

use crate::calls::{Call, Found, Grade, Passed};
use crate::fleet::{FACT_WINDOW_MS, Fleet, Novelty, Place};
use crate::key::{api_key, domain, key, mix};
use crate::session::{Cell, Provisional};
use crate::tally::Tally;
use crate::told::{Kind, Telling, teller};
use crate::tools::{Tool, better_outcome, bit};

/// No model call has more tokens of one kind, and none costs more than ten thousand dollars.
const TOKENS_PER_CALL_MAX: u64 = 100_000_000;
const USD_PER_CALL_MAX: f64 = 10_000.0;
/// What Claude Code names as the model of lines that no model wrote.
const SYNTHETIC: &str = "<synthetic>";

/// A sum with its place.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Entry {
    agent: u64,
    session: u64,
    day: i32,
    model: u16,
    tally: Tally,
    why: Option<Provisional>,
}

const fn grade(source: Source) -> Grade {
    match source {
        Source::OtlpMetric => Grade::Metric,
        Source::OtlpSpan => Grade::Span,
        Source::OtlpLog => Grade::Otlp,
        // It is no record of the conversation: what it is better at stands beside the grade.
        Source::Gateway => Grade::Metric,
        Source::Transcript | Source::StreamJson | Source::Hook | Source::Log | Source::Process => Grade::Record,
    }
}

/// The attribute in which the gateway names the model that was asked for, where another one answered.
const ASKED_MODEL: &str = "asked_model";

fn passed(event: &Event) -> Passed {
    match event.source {
        Source::Gateway if event.attributes.contains_key(ASKED_MODEL) => Passed::Rerouted,
        Source::Gateway => Passed::Yes,
        _ => Passed::No,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "days of 64-bit microseconds fit")]
pub(crate) fn day(event: &Event) -> i32 {
    event.at.as_secs().div_euclid(86_400) as i32
}

impl Fleet {
    pub(crate) fn model_call(&mut self, event: &Event, place: Place) -> Novelty {
        let Fact::ModelCall { message, model, usage, cost_usd, stop_reason, .. } = &event.fact else { return Novelty::New };
        if model.as_deref() == Some(SYNTHETIC) {
            return Novelty::New;
        }
        let call = Call {
            message: api_key(domain::MESSAGE, place.session, message.as_deref(), "msg_"),
            request: api_key(domain::REQUEST, place.session, event.correlation.request.as_deref(), "req_"),
            agent: place.agent,
            session: place.session,
            tokens: self.plausible(usage),
            day: day(event),
            model: self.models.number(model.as_deref(), &self.prices),
            grade: grade(event.source),
            exact: self.agents.get(&place.agent).is_some_and(|agent| agent.is_subagent()),
            reported: cost_usd.and_then(|usd| self.reported(usd)),
            passed: passed(event),
        };
        let message_only = call.message != 0 && call.request == 0 && call.passed == Passed::No;
        if call.passed != Passed::No
            && let Some(session) = self.sessions.get_mut(&place.session)
        {
            session.through_gateway = true;
        }
        // Whoever sees all calls pass is as good as the conversation's own record for those that nobody names.
        let best = if call.passed == Passed::No { call.grade } else { Grade::Record };
        self.heard_call(place.session, best, message_only);
        let (novelty, first_record) =
            if call.message == 0 && call.request == 0 { (self.anonymous_call(event, &call), false) } else { self.known_call(call) };
        self.settle(place.session);
        if novelty != Novelty::Duplicate {
            self.after_call(event, &call);
        }
        // A call is told in pieces, and only the last one says that it hands the turn back.
        if let Some(agent) = self.agents.get_mut(&place.agent)
            && (novelty == Novelty::New || first_record || crate::agent::ends_turn(stop_reason.as_deref()))
        {
            agent.advance(event, 0);
        }
        novelty
    }

    /// A call with an id: new, or joined with what was told of it. The second value says that the conversation's own record
    /// tells for the first time what the gateway told before: it knows what was said, and where in the turn.
    fn known_call(&mut self, told: Call) -> (Novelty, bool) {
        let before = match self.calls.find(told.message, told.request, &self.seen) {
            Found::Closed => return (Novelty::Duplicate, false),
            Found::New => {
                let entry = self.entry(&told);
                self.calls.push(told, self.settings.open_max, &mut self.seen);
                // The session's own record names no request ids, so it tells this call under a name that cannot be matched.
                if !self.entry_counts(&entry) {
                    return (Novelty::Duplicate, false);
                }
                self.count(&entry);
                return (Novelty::New, false);
            }
            Found::Open(number) => number,
            Found::Two(number, other) => {
                let merged = *self.calls.get(other);
                self.uncount(&self.entry(&merged));
                self.calls.erase(other);
                let joined = self.calls.get(number).join(&merged, |model| self.models.price(model).is_some());
                self.replace(number, &joined);
                number
            }
        };
        let known = *self.calls.get(before);
        let joined = known.join(&told, |model| self.models.price(model).is_some());
        let first_record = known.passed != Passed::No && known.grade < Grade::Record && told.grade == Grade::Record;
        if joined == known {
            return (Novelty::Duplicate, false);
        }
        // An id or a better source alone changes the books, but is no news for anyone.
        let grew = joined.tokens != known.tokens || joined.model != known.model || joined.reported != known.reported;
        let counted = self.entry_counts(&self.entry(&known));
        self.replace(before, &joined);
        let novelty = match (counted, grew || first_record) {
            (false, _) => Novelty::New,
            (true, true) => Novelty::Update,
            (true, false) => Novelty::Duplicate,
        };
        (novelty, first_record)
    }

    fn replace(&mut self, number: u64, joined: &Call) {
        let before = self.entry(self.calls.get(number));
        self.uncount(&before);
        self.calls.set(number, *joined);
        let after = self.entry(joined);
        self.count(&after);
    }

    /// A call without any id counts where its source is the best of its session.
    fn anonymous_call(&mut self, event: &Event, call: &Call) -> Novelty {
        let why = call.is_provisional().then_some(Provisional::Anonymous(call.grade));
        let entry = Entry { why, ..self.entry(call) };
        let counts = self.entry_counts(&entry);
        if counts {
            self.count(&entry);
        }
        let telling =
            Telling { kind: Kind::ModelCall, source: teller(event.source), at: event.at, id: 0, detail: 0, window_ms: FACT_WINDOW_MS };
        let new = self.agents.get_mut(&call.agent).is_none_or(|agent| agent.told.is_new(&telling));
        match (counts, new) {
            (false, _) => Novelty::Duplicate,
            (true, true) => Novelty::New,
            (true, false) => Novelty::Update,
        }
    }

    /// What a call that was not just repeated changes on its agent.
    fn after_call(&mut self, event: &Event, call: &Call) {
        let Some(agent) = self.agents.get_mut(&call.agent) else { return };
        let [input, _, read, written, _] = call.tokens.map(u64::from);
        if is_main_chain(event) && !agent.is_only_passing(event) {
            agent.context(event.at, call.model, input + read + written);
        }
        agent.sample(event.at);
    }

    fn entry(&self, call: &Call) -> Entry {
        let usage = call.usage();
        let nothing = call.message == 0 && call.request == 0 && call.agent == 0;
        let tally = if nothing { Tally::default() } else { Tally::of(usage, 1, self.models.price(call.model), call.reported) };
        let why = call.is_provisional().then_some(Provisional::RequestOnly);
        Entry { agent: call.agent, session: call.session, day: call.day, model: call.model, tally, why }
    }

    fn entry_counts(&self, entry: &Entry) -> bool {
        entry.why.is_none_or(|why| self.sessions.get(&entry.session).is_none_or(|session| session.counts(why)))
    }

    fn count(&mut self, entry: &Entry) {
        if !self.entry_counts(entry) {
            return;
        }
        if let Some(session) = self.sessions.get_mut(&entry.session) {
            session.count_more(entry.model, entry.tally.usage);
            if let Some(why) = entry.why {
                session.note(why, entry.agent, entry.day, entry.model, entry.tally);
            }
        }
        self.books.add(entry.day, entry.model, entry.tally);
        match self.agents.get_mut(&entry.agent) {
            Some(agent) => agent.add(entry.model, entry.tally),
            None => self.books.dropped = self.books.dropped.plus(entry.tally),
        }
    }

    fn uncount(&mut self, entry: &Entry) {
        if !self.entry_counts(entry) {
            return;
        }
        if let Some(session) = self.sessions.get_mut(&entry.session) {
            session.count_less(entry.model, entry.tally.usage);
            if let Some(why) = entry.why {
                session.unnote(why, entry.agent, entry.day, entry.model, entry.tally);
            }
        }
        self.strike(entry.agent, entry.day, entry.model, entry.tally);
    }

    pub(crate) fn strike(&mut self, agent: u64, day: i32, model: u16, tally: Tally) {
        self.books.take(day, model, tally);
        let rest = self.agents.get_mut(&agent).map_or(tally, |agent| agent.take(model, tally));
        self.books.dropped = self.books.dropped.minus(rest);
    }

    /// A source told a call: sums that were counted for want of it are taken back.
    fn heard_call(&mut self, session: u64, grade: Grade, message_only: bool) {
        let retracted = self.sessions.get_mut(&session).map(|session| session.heard_call(grade, message_only)).unwrap_or_default();
        for Cell { agent, day, model, tally, .. } in retracted {
            self.strike(agent, day, model, tally);
        }
    }

    fn plausible(&mut self, usage: &Usage) -> [u32; 5] {
        let Usage { input_tokens, output_tokens, cache_read_tokens, cache_creation_tokens, cache_creation_1h_tokens } = *usage;
        let told = [input_tokens, output_tokens, cache_read_tokens, cache_creation_tokens, cache_creation_1h_tokens];
        if told.iter().any(|tokens| *tokens > TOKENS_PER_CALL_MAX) {
            self.implausible += 1;
        }
        told.map(|tokens| u32::try_from(tokens.min(TOKENS_PER_CALL_MAX)).unwrap_or(u32::MAX))
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked just before")]
    fn reported(&mut self, usd: f64) -> Option<u64> {
        if !usd.is_finite() || usd < 0.0 {
            return None;
        }
        self.implausible += u64::from(usd > USD_PER_CALL_MAX);
        Some((usd.min(USD_PER_CALL_MAX) * 1e12).round() as u64)
    }

    /// Claude Code's counters of tokens and dollars count only while nobody tells the session's calls.
    pub(crate) fn measurement(&mut self, event: &Event, place: Place) -> Novelty {
        let Fact::Measurement { value, temporality, .. } = &event.fact else { return Novelty::New };
        let (is_tokens, is_dollars) = (&*event.name == "claude_code.token.usage", &*event.name == "claude_code.cost.usage");
        let why = Provisional::Anonymous(Grade::Metric);
        let Some(session) = self.sessions.get_mut(&place.session) else { return Novelty::New };
        if !(is_tokens || is_dollars) || !session.counts(why) || !value.is_finite() || *value < 0.0 {
            return Novelty::New;
        }
        let growth = match temporality {
            Temporality::Gauge => return Novelty::New,
            Temporality::Delta => *value,
            Temporality::Cumulative => session.growth(series_key(event), *value),
        };
        let text = |name: &str| event.attributes.get(name).and_then(serde_json::Value::as_str);
        let model = self.models.number(text("model"), &self.prices);
        let (agent, session, day) = (place.agent, place.session, day(event));
        let place = Entry { agent, session, day, model, tally: Tally::default(), why: Some(why) };
        if is_tokens {
            self.count_tokens(&place, text("type"), growth);
        } else if self.models.price(model).is_none() {
            self.count_dollars(&place, growth);
        }
        Novelty::New
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "cut to the range first")]
    fn count_tokens(&mut self, place: &Entry, kind: Option<&str>, growth: f64) {
        let mut usage = Usage::default();
        let counter = match kind {
            Some("input") => &mut usage.input_tokens,
            Some("output") => &mut usage.output_tokens,
            Some("cacheRead") => &mut usage.cache_read_tokens,
            Some("cacheCreation") => &mut usage.cache_creation_tokens,
            _ => return,
        };
        *counter = growth.clamp(0.0, TOKENS_PER_CALL_MAX as f64) as u64;
        let covered = self.cell(place).is_some_and(|cell| cell.reported);
        let price = self.models.price(place.model);
        let tally = Tally::of(usage, 0, price, covered.then_some(0));
        self.count(&Entry { tally, ..*place });
    }

    /// Dollars of a model that has no price with us: they cover the tokens that its other counters tell.
    fn count_dollars(&mut self, place: &Entry, growth: f64) {
        let Some(cost) = self.reported(growth) else { return };
        self.count(&Entry { tally: Tally { cost, reported: cost, ..Tally::default() }, ..*place });
        let Some(cell) = self.cell(place) else { return };
        cell.reported = true;
        let covered = Tally { unpriced_tokens: cell.tally.unpriced_tokens, ..Tally::default() };
        cell.tally = cell.tally.minus(covered);
        self.strike(place.agent, place.day, place.model, covered);
    }

    fn cell(&mut self, place: &Entry) -> Option<&mut Cell> {
        let session = self.sessions.get_mut(&place.session)?;
        session.cell(place.why?, place.agent, place.day, place.model)
    }

    pub(crate) fn tool_call(&mut self, event: &Event, place: Place) -> Novelty {
        let Fact::ToolCall { id, input_hash, .. } = &event.fact else { return Novelty::New };
        let id = api_key(domain::TOOL, place.session, id.as_deref(), "toolu_");
        let answered = self.tools.get(id).is_some_and(|tool| tool.answered_by != 0);
        let novelty =
            if id == 0 { self.anonymous_tool(event, place) } else { self.known_tool_call(event, place, id, input_hash.is_some()) };
        // A call that is told after its result is news for the detectors, but nothing runs.
        if novelty == Novelty::New
            && !answered
            && let Some(agent) = self.agents.get_mut(&place.agent)
        {
            agent.advance(event, id);
        }
        novelty
    }

    fn known_tool_call(&mut self, event: &Event, place: Place, id: u64, has_arguments: bool) -> Novelty {
        let Some(mut tool) = self.known_tool(event, place, id) else { return Novelty::Duplicate };
        let novelty = match tool.called_by {
            0 => Novelty::New,
            _ if has_arguments && !tool.has_arguments => Novelty::Update,
            _ => Novelty::Duplicate,
        };
        tool.called_by |= bit(event.source);
        tool.has_arguments |= has_arguments;
        self.tools.set(id, tool, self.settings.open_max, &mut self.seen);
        novelty
    }

    pub(crate) fn tool_result(&mut self, event: &Event, place: Place) -> Novelty {
        let Fact::ToolResult { id, outcome, duration, .. } = &event.fact else { return Novelty::New };
        let id = api_key(domain::TOOL, place.session, id.as_deref(), "toolu_");
        let novelty = if id == 0 {
            self.anonymous_tool(event, place)
        } else {
            let Some(mut tool) = self.known_tool(event, place, id) else { return Novelty::Duplicate };
            let (first, failed_before) = (tool.answered_by == 0, tool.failed());
            let better = Some(better_outcome(tool.outcome, *outcome));
            let adds = better != tool.outcome || (duration.is_some() && !tool.has_duration);
            tool.answered_by |= bit(event.source);
            tool.has_duration |= duration.is_some();
            tool.outcome = better;
            if let Some(agent) = self.agents.get_mut(&tool.agent) {
                agent.tool_errors = agent.tool_errors + u32::from(tool.failed()) - u32::from(failed_before).min(agent.tool_errors);
            }
            self.tools.set(id, tool, self.settings.open_max, &mut self.seen);
            match (first, adds) {
                (true, _) => Novelty::New,
                (false, true) => Novelty::Update,
                (false, false) => Novelty::Duplicate,
            }
        };
        if novelty == Novelty::New
            && let Some(agent) = self.agents.get_mut(&place.agent)
        {
            agent.advance(event, id);
            if *outcome == paramedic_model::ToolOutcome::Error {
                agent.error(event.at, &event.text);
                agent.sample(event.at);
            }
        }
        novelty
    }

    /// What is known of a tool call, counted when this is its first mention; `None` when it was told long ago.
    fn known_tool(&mut self, event: &Event, place: Place, id: u64) -> Option<Tool> {
        let exact = self.agents.get(&place.agent).is_some_and(|agent| agent.is_subagent());
        let Some(known) = self.tools.get(id).copied() else {
            if self.seen.contains(id) {
                return None;
            }
            if let Some(agent) = self.agents.get_mut(&place.agent) {
                agent.tools += 1;
                agent.source(event.source).tools += 1;
            }
            return Some(Tool { agent: place.agent, session: place.session, exact, ..Tool::default() });
        };
        let mut tool = known;
        if known.moves_to(place.session, exact) {
            self.move_tool(&known, place.agent);
            tool = Tool { agent: place.agent, exact, ..known };
        }
        let told = tool.called_by | tool.answered_by;
        if told & bit(event.source) == 0
            && tool.agent == place.agent
            && let Some(agent) = self.agents.get_mut(&tool.agent)
        {
            agent.source(event.source).tools += 1;
        }
        Some(tool)
    }

    /// A sub-agent turns out to have called what its session was credited with.
    fn move_tool(&mut self, tool: &Tool, to: u64) {
        let failed = u32::from(tool.failed());
        if let Some(agent) = self.agents.get_mut(&tool.agent) {
            agent.tools = agent.tools.saturating_sub(1);
            agent.tool_errors = agent.tool_errors.saturating_sub(failed);
            let told = tool.called_by | tool.answered_by;
            for count in &mut agent.sources {
                if told & bit(count.source) != 0 {
                    count.tools = count.tools.saturating_sub(1);
                }
            }
        }
        if let Some(agent) = self.agents.get_mut(&to) {
            agent.tools += 1;
            agent.tool_errors += failed;
        }
    }

    /// Without an id, the source that told most is believed.
    fn anonymous_tool(&mut self, event: &Event, place: Place) -> Novelty {
        let Some(agent) = self.agents.get_mut(&place.agent) else { return Novelty::New };
        let source = event.source;
        let is_call = matches!(event.fact, Fact::ToolCall { .. });
        let told_by_others = agent
            .sources
            .iter()
            .filter(|count| count.source != source)
            .map(|count| count.tools + if is_call { count.calls } else { count.results })
            .max()
            .unwrap_or(0);
        let mine = agent.source(source);
        let told_by_me = if is_call {
            mine.calls += 1;
            mine.calls
        } else {
            mine.results += 1;
            let failed = matches!(event.fact, Fact::ToolResult { outcome: paramedic_model::ToolOutcome::Error, .. });
            mine.failures += u32::from(failed);
            mine.results
        };
        if told_by_me + mine.tools > told_by_others { Novelty::New } else { Novelty::Duplicate }
    }
}

/// OTLP tells the calls of sub-agents and of background chores under the session's id.
fn is_main_chain(event: &Event) -> bool {
    let origin = event.attributes.get("query_source").and_then(serde_json::Value::as_str);
    origin.is_none_or(|origin| origin.contains("main") || origin == "sdk")
}

/// The attributes that tell one counter from another.
fn series_key(event: &Event) -> u64 {
    let mut parts = vec![key(domain::SERIES, &event.name)];
    for name in
        ["type", "model", "query_source", "speed", "effort", "agent.name", "skill.name", "plugin.name", "mcp_server.name", "mcp_tool.name"]
    {
        let value = event.attributes.get(name).and_then(serde_json::Value::as_str);
        parts.push(value.map_or(0, |value| key(domain::SERIES, value)));
    }
    mix(domain::SERIES, &parts)
}
