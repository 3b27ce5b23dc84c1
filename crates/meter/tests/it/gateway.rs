//! What the gateway tells, beside others and alone.

use std::time::Duration;

use paramedic_fleet::{Fleet, Novelty as News, Prices};
use paramedic_meter::{Novelty, Settings};
use paramedic_model::{ApiErrorClass, Event, Fact, Source, Usage};

use crate::stage::{Stage, usage};

const OPUS: &str = "claude-opus-4-5-20251101";
const HAIKU: &str = "claude-haiku-4-5";

/// The fleet judges, then the meter counts: as in a running instance.
struct Play {
    stage: Stage,
    fleet: Fleet,
}

impl Play {
    fn new() -> Self {
        let mut stage = Stage::new(Settings::default());
        stage.intervals(2);
        Self { stage, fleet: Fleet::new(Prices::embedded(), paramedic_fleet::Settings::default()) }
    }

    fn tell(&mut self, event: &Event) {
        let news = match self.fleet.observe(event) {
            News::New => Novelty::New,
            News::Update => Novelty::Update,
            News::Duplicate if matches!(event.fact, Fact::ModelCall { stop_reason: Some(_), .. }) => Novelty::Update,
            News::Duplicate => return,
        };
        let cost = match &event.fact {
            Fact::ModelCall { model: Some(model), usage, cost_usd, .. } => self.fleet.prices().cost(model, usage).or(*cost_usd),
            _ => None,
        };
        self.stage.meter.observe(event, news, cost, self.stage.now);
    }

    /// Writes, and gives what these expressions are; nothing counts as 0.
    fn values<const N: usize>(&mut self, expressions: [&str; N]) -> [f64; N] {
        self.stage.interval();
        expressions.map(|expression| self.stage.ask(&format!("sum({expression})")).first().map_or(0.0, |(_, value)| *value))
    }
}

fn event(stage: &Stage, source: Source, fact: Fact, request: Option<&str>) -> Event {
    let mut event = stage.event(source, "test", fact);
    event.correlation.request = request.map(Into::into);
    event
}

fn call(id: &str, model: &str, usage: Usage, stop: Option<&str>) -> Fact {
    Fact::ModelCall {
        message: Some(format!("msg_{id}").into()),
        model: Some(model.into()),
        usage,
        cost_usd: None,
        duration: Some(Duration::from_secs(3)),
        time_to_first_token: None,
        stop_reason: stop.map(Into::into),
        text_hash: None,
    }
}

fn retry(status: u16) -> Fact {
    let class = ApiErrorClass::from_status(status);
    Fact::ModelRetry { class, status: Some(status), attempt: 1, attempts_max: None, delay: None }
}

fn error(status: u16) -> Fact {
    let class = ApiErrorClass::from_status(status);
    Fact::ModelError { class, status: Some(status), attempts: None, retries_exhausted: true, duration: None }
}

fn with(mut event: Event, attribute: &str, value: &str) -> Event {
    event.attributes.insert(attribute.to_owned(), value.into());
    event
}

const TRIES: [&str; 6] = [
    "llm_requests_total{status=\"success\"}",
    "llm_requests_total{status=\"error\"}",
    "agent_retries_total",
    "agent_requests_total{status=\"success\"}",
    "agent_requests_total{status=\"error\"}",
    "agent_anthropic_api_rate_limited_total",
];

#[test]
fn a_session_told_by_the_gateway_too_counts_as_without_it() {
    // Two tries fail and one answers; then a turn whose last try is the end.
    let turns = |sources: &[Source]| {
        let mut play = Play::new();
        let tell = |play: &mut Play, fact: &dyn Fn(Source) -> Option<Fact>, request: &str| {
            for source in sources {
                let Some(fact) = fact(*source) else { continue };
                let event = event(&play.stage, *source, fact, Some(request).filter(|request| !request.is_empty()));
                play.tell(&event);
            }
            play.stage.wait(1.0);
        };
        let others = |source: Source, fact: Fact| (source != Source::Gateway).then_some(fact);
        tell(&mut play, &|source| others(source, Fact::Prompt), "");
        for request in ["r1", "r2"] {
            tell(&mut play, &|_| Some(retry(429)), request);
        }
        tell(&mut play, &|_| Some(call("1", OPUS, usage(1_000, 100, 0), Some("tool_use"))), "r3");
        tell(&mut play, &|_| Some(call("2", OPUS, usage(1_000, 100, 0), Some("end_turn"))), "r4");
        play.stage.wait(30.0);
        tell(&mut play, &|source| others(source, Fact::Prompt), "");
        tell(&mut play, &|_| Some(retry(529)), "r5");
        tell(&mut play, &|source| Some(if source == Source::Gateway { retry(529) } else { error(529) }), "r6");
        let mut all = play.values(TRIES).to_vec();
        all.extend(play.values(["agent_tokens_used_total", "agent_cost_dollars_total", "agent_request_duration_seconds_count"]));
        all
    };
    let alone = turns(&[Source::Transcript]);
    assert_eq!(alone[..6], [2.0, 4.0, 3.0, 1.0, 1.0, 2.0]);
    assert_eq!(turns(&[Source::Gateway, Source::Transcript]), alone);
    assert_eq!(turns(&[Source::Transcript, Source::Gateway]), alone);
}

#[test]
fn telemetry_tells_the_end_and_the_gateway_each_try() {
    let mut play = Play::new();
    play.tell(&event(&play.stage, Source::OtlpLog, Fact::Prompt, None));
    for request in ["r1", "r2", "r3"] {
        play.stage.wait(1.0);
        play.tell(&event(&play.stage, Source::Gateway, retry(529), Some(request)));
    }
    play.tell(&event(&play.stage, Source::OtlpLog, error(529), Some("r3")));
    assert_eq!(play.values(TRIES), [0.0, 3.0, 2.0, 0.0, 1.0, 0.0]);
}

#[test]
fn the_price_of_the_model_that_served_stands() {
    let mut play = Play::new();
    let gateway =
        with(event(&play.stage, Source::Gateway, call("1", HAIKU, usage(1_000_000, 0, 0), None), Some("r1")), "asked_model", OPUS);
    let client = event(&play.stage, Source::Transcript, call("1", OPUS, usage(1_000_000, 0, 0), None), Some("r1"));
    play.tell(&gateway);
    play.tell(&client);
    assert_eq!(play.values(["agent_cost_dollars_total", "llm_requests_total"]), [1.0, 1.0]);
    assert_eq!(play.fleet.totals().cost.usd, Some(1.0));
}

#[test]
fn an_answer_that_broke_off_counts_its_tokens_and_is_a_failed_try() {
    let mut play = Play::new();
    play.tell(&event(&play.stage, Source::Hook, Fact::Prompt, None));
    let broken = event(&play.stage, Source::Gateway, call("1", OPUS, usage(100, 7, 0), None), Some("r1"));
    play.tell(&with(broken, "unfinished", "cut"));
    play.tell(&event(&play.stage, Source::Gateway, retry(500), Some("r1")));
    play.stage.wait(1.0);
    for source in [Source::Gateway, Source::Transcript] {
        play.tell(&event(&play.stage, source, call("2", OPUS, usage(100, 9, 0), Some("end_turn")), Some("r2")));
    }
    assert_eq!(play.values(["agent_tokens_used_total"]), [216.0]);
    assert_eq!(play.values(TRIES), [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
}

/// A chore in the background ends with a stop reason of its own, and sooner than the answer that somebody waits for.
#[test]
fn a_chore_that_only_the_gateway_sees_ends_no_request() {
    let mut play = Play::new();
    play.tell(&event(&play.stage, Source::Hook, Fact::Prompt, None));
    play.stage.wait(1.0);
    play.tell(&event(&play.stage, Source::Gateway, call("chore", HAIKU, usage(10, 5, 0), Some("end_turn")), Some("r1")));
    play.stage.wait(9.0);
    for source in [Source::Gateway, Source::Transcript] {
        play.tell(&event(&play.stage, source, call("1", OPUS, usage(10, 5, 0), Some("end_turn")), Some("r2")));
    }
    assert_eq!(
        play.values(["agent_requests_total", "agent_request_duration_seconds_sum", "llm_requests_total"]),
        [1.0, 10.0, 2.0],
        "one request of ten seconds, two calls"
    );
}

#[test]
fn requests_of_an_agent_that_only_the_gateway_knows() {
    let mut play = Play::new();
    let tell = |play: &mut Play, fact: Fact, attribute: Option<(&str, &str)>, wait: f64| {
        let told = event(&play.stage, Source::Gateway, fact, None);
        play.tell(&attribute.map_or(told.clone(), |(name, value)| with(told, name, value)));
        play.stage.wait(wait);
    };
    // A loop of tools is one request, and one that ran out of tokens is another.
    tell(&mut play, call("1", OPUS, usage(10, 5, 0), Some("tool_use")), None, 2.0);
    tell(&mut play, call("2", OPUS, usage(10, 5, 0), Some("end_turn")), None, 10.0);
    tell(&mut play, call("3", OPUS, usage(10, 5, 0), Some("max_tokens")), None, 10.0);
    // A key that is refused, a person who went away, and a client that gives up after two tries.
    tell(&mut play, error(401), None, 10.0);
    tell(&mut play, error(403), Some(("refused_by", "blocked_user:ana@all")), 10.0);
    tell(&mut play, call("4", OPUS, usage(10, 5, 0), None), Some(("unfinished", "client-gone")), 10.0);
    tell(&mut play, retry(529), None, 1.0);
    tell(&mut play, retry(529), None, 300.0);
    tell(&mut play, call("5", OPUS, usage(10, 5, 0), Some("end_turn")), None, 1.0);
    let requests = ["success", "error", "cancelled"].map(|status| format!("agent_requests_total{{status=\"{status}\"}}"));
    assert_eq!(play.values([&*requests[0], &*requests[1], &*requests[2]]), [3.0, 3.0, 1.0]);
    let classes = ["refused", "overloaded", "authentication_failed"].map(|class| format!("agent_errors_total{{error_type=\"{class}\"}}"));
    assert_eq!(play.values([&*classes[0], &*classes[1], &*classes[2]]), [1.0; 3]);
    // The first answer took as long as its call; what was refused here was no try of the API; one try came again.
    assert_eq!(play.values(["agent_request_duration_seconds_sum{status=\"success\"}"]), [9.0]);
    assert_eq!(play.values(TRIES)[..3], [4.0, 3.0, 1.0]);
}
