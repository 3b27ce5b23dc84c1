//! Circuit breakers from closed to open and back.

use std::sync::Arc;
use std::time::Duration;

use paramedic_gateway::breaker::{Breakers, Exposition, Forced, Outcome, Settings, State, judge};
use paramedic_model::Timestamp;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

/// A breaker with a clock that the test turns.
struct Stage {
    breakers: Arc<Breakers>,
    now: Instant,
}

impl Stage {
    fn new(settings: Settings) -> Self {
        Self { breakers: Breakers::new(settings), now: Instant::now() }
    }

    fn state(&self, name: &str) -> Option<State> {
        let views = self.breakers.view(self.now, Timestamp::from_secs(1_000_000));
        views.iter().find(|view| view.name == name).map(|view| view.state)
    }

    /// One word a step: `o` a call that goes well, `f` one that fails, `n` one that does not count, `x` one that must be
    /// refused, a number of seconds that pass; then the state that is expected.
    fn play(&mut self, steps: &str) {
        for step in steps.split_whitespace() {
            let outcome = match step {
                "o" => Outcome::Ok,
                "f" => Outcome::Failed,
                "n" => Outcome::NotCounted,
                "x" => {
                    let open = self.breakers.allow(&["a"], true, self.now).expect_err(steps);
                    assert_eq!(&*open.name, "a");
                    continue;
                }
                "closed" | "open" | "half_open" => {
                    assert_eq!(self.state("a").map(State::name), Some(step), "{steps}");
                    continue;
                }
                seconds => {
                    self.now += Duration::from_secs(seconds.parse().unwrap());
                    continue;
                }
            };
            let pass = self.breakers.allow(&["a"], true, self.now).unwrap_or_else(|open| panic!("{steps}: {open}"));
            pass.outcome(outcome, self.now);
        }
    }
}

#[test]
fn when_it_opens_and_closes() {
    let rows = [
        "f f f f closed f open x",
        "f f f f o f f f f closed f open",
        "f f f f n n n closed f open",
        "f f f f f 59 x open 1 o half_open o half_open o closed",
        "f f f f f 60 o o f open x 59 x 1 o o o closed f f f f closed",
        "f f f f f 60 n n n n half_open o o o closed",
        // Half of at least 20 calls within a minute.
        "f o f o f o f o f o f o f o f o f o f closed o closed f open",
        "f o f o f o f o f o f o f o f o f o 61 f o f closed",
        "o o o o o o o o o o o o o o o o o o o o o o o o f f f f closed",
    ];
    for row in rows {
        Stage::new(Settings::default()).play(row);
    }
    Stage::new(Settings { failures: 1, open_s: 1, successes: 1, ..Settings::default() }).play("o f open x 1 f open x 1 o closed");
}

#[test]
fn as_many_calls_find_out_as_may_and_one_that_is_dropped_gives_its_place_back() {
    let mut stage = Stage::new(Settings { probes: 2, ..Settings::default() });
    stage.play("f f f f f open 60");
    let allow = || stage.breakers.allow(&["a"], true, stage.now);
    let (one, other) = (allow().unwrap(), allow().unwrap());
    let open = allow().unwrap_err();
    assert!(open.retry_after <= Duration::from_secs(1) && open.forced_by.is_none(), "{open:?}");
    drop(one);
    let one = allow().unwrap();
    assert!(allow().is_err());
    one.outcome(Outcome::Ok, stage.now);
    other.outcome(Outcome::Ok, stage.now);
    allow().unwrap().outcome(Outcome::Ok, stage.now);
    assert_eq!(stage.state("a"), Some(State::Closed));
}

/// Answers to calls of before say nothing about now.
#[test]
fn late_answers_neither_open_nor_close() {
    let mut stage = Stage::new(Settings::default());
    let early: Vec<_> = (0..20).map(|_| stage.breakers.allow(&["a"], true, stage.now).unwrap()).collect();
    stage.play("f f f f f open 60 o half_open");
    let mut early = early.into_iter();
    early.by_ref().take(10).for_each(|pass| pass.outcome(Outcome::Ok, stage.now));
    stage.play("half_open o o closed");
    early.for_each(|pass| pass.outcome(Outcome::Failed, stage.now));
    stage.play("closed");
    assert_eq!(stage.breakers.view(stage.now, Timestamp::EPOCH)[0].failures, 15, "they are counted all the same");
}

#[test]
fn a_call_needs_all_of_its_breakers_and_one_that_is_refused_holds_no_place() {
    let mut stage = Stage::new(Settings::default());
    let names = ["anthropic", "anthropic/claude-opus-5-5", "anthropic/key:ab12"];
    for _ in 0..5 {
        stage.breakers.allow(&names[1..2], true, stage.now).unwrap().outcome(Outcome::Failed, stage.now);
    }
    let open = stage.breakers.allow(&names, true, stage.now).unwrap_err();
    assert_eq!((&*open.name, open.retry_after.as_secs()), (names[1], 60));
    assert!(stage.breakers.allow(&["anthropic", "anthropic/claude-haiku"], true, stage.now).is_ok(), "another model goes on");
    stage.now += Duration::from_secs(60);
    for _ in 0..3 {
        stage.breakers.allow(&names, true, stage.now).unwrap().answered(200, stage.now);
    }
    assert!(names.iter().all(|name| stage.state(name) == Some(State::Closed)));
    let pass = stage.breakers.allow(&["b", "b", "b"], true, stage.now).unwrap();
    pass.outcome(Outcome::Failed, stage.now);
    let views = stage.breakers.view(stage.now, Timestamp::EPOCH);
    assert_eq!(views.iter().find(|view| view.name == "b").unwrap().failures, 1, "one name twice is one breaker");
}

/// Whoever does not let it act still sees what it sees.
#[test]
fn it_watches_without_acting() {
    let mut stage = Stage::new(Settings::default());
    let mut changes = stage.breakers.changes();
    let call = |stage: &Stage, status| stage.breakers.allow(&["a"], false, stage.now).unwrap().answered(status, stage.now);
    for _ in 0..50 {
        call(&stage, 529);
    }
    assert_eq!(stage.state("a"), Some(State::Open));
    stage.now += Duration::from_secs(60);
    for _ in 0..3 {
        call(&stage, 200);
    }
    assert_eq!(stage.state("a"), Some(State::Closed));
    let told: Vec<_> = std::iter::from_fn(|| changes.try_recv().ok()).map(|change| format!("{:?}: {}", change.to, change.why)).collect();
    assert_eq!(told, ["Open: 5 failures in a row", "HalfOpen: it was open long enough", "Closed: 3 calls went well"]);
}

#[test]
fn what_somebody_holds_stays_so_and_reset_closes() {
    let mut stage = Stage::new(Settings::default());
    stage.breakers.force(&[("a", Forced::Open, "ana"), ("b", Forced::Closed, "ben")], stage.now);
    let open = stage.breakers.allow(&["a"], false, stage.now).expect_err("held open, whether breakers act or not");
    assert_eq!(open.forced_by.as_deref(), Some("ana"));
    for _ in 0..100 {
        stage.breakers.allow(&["b"], true, stage.now).unwrap().outcome(Outcome::Failed, stage.now);
    }
    assert_eq!(stage.state("b"), Some(State::Closed));
    let view = &stage.breakers.view(stage.now, Timestamp::EPOCH)[1];
    assert_eq!((view.failures, view.trips, view.forced_by.as_deref()), (100, 1, Some("ben")));
    stage.breakers.force(&[], stage.now);
    assert_eq!((stage.state("a"), stage.state("b")), (Some(State::Closed), Some(State::Open)), "as they are of themselves");
    let view = &stage.breakers.view(stage.now, Timestamp::from_secs(1_000))[1];
    assert_eq!(view.next_probe, Some(Timestamp::from_secs(1_060)));
    assert!(stage.breakers.reset("b", stage.now) && !stage.breakers.reset("nobody", stage.now));
    assert_eq!(stage.state("b"), Some(State::Closed));
    stage.play("f f f f f open");
    assert_eq!(stage.breakers.reset_all(stage.now), 1);
    stage.play("closed");
}

#[test]
fn what_a_status_says() {
    use Outcome::{Failed, NotCounted, Ok};
    let rows = [(200, Ok), (304, Ok), (400, Ok), (404, Ok), (413, Ok), (401, NotCounted), (402, NotCounted), (403, NotCounted)];
    let more = [(429, NotCounted), (500, Failed), (502, Failed), (503, Failed), (504, Failed), (529, Failed)];
    for (status, expect) in rows.into_iter().chain(more) {
        assert_eq!(judge(status, false), expect, "{status}");
    }
    let stage = Stage::new(Settings { limited_counts: true, ..Settings::default() });
    for _ in 0..5 {
        stage.breakers.allow(&["a", "a/key:k"], true, stage.now).unwrap().answered(429, stage.now);
    }
    assert_eq!((stage.state("a"), stage.state("a/key:k")), (Some(State::Closed), Some(State::Open)));
}

#[test]
fn names_are_bounded_and_those_that_matter_stay() {
    let mut stage = Stage::new(Settings { names_max: 100, ..Settings::default() });
    stage.play("f f f f f open");
    stage.breakers.force(&[("held", Forced::Closed, "ana")], stage.now);
    for i in 0..10_000 {
        stage.now += Duration::from_millis(1);
        let name = format!("anthropic/model-{i}");
        stage.breakers.allow(&["anthropic", &name, &"x".repeat(5_000)], true, stage.now).unwrap().answered(200, stage.now);
    }
    let names = stage.breakers.view(stage.now, Timestamp::EPOCH);
    assert!((76..=101).contains(&names.len()), "{}", names.len());
    for name in ["a", "held", "anthropic", "anthropic/model-9999"] {
        assert!(stage.state(name).is_some(), "{name}");
    }
}

#[test]
fn it_is_told_under_the_names_that_rules_know() {
    let mut stage = Stage::new(Settings::default());
    stage.play("f f f f f open");
    stage.breakers.allow(&["anthropic"], true, stage.now).unwrap().answered(200, stage.now);
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposition(Arc::clone(&stage.breakers))));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "agent_circuit_breaker_state{dependency=\"a\",state=\"open\"} 1",
        "agent_circuit_breaker_state{dependency=\"a\",state=\"closed\"} 0",
        "agent_circuit_breaker_state{dependency=\"anthropic\",state=\"closed\"} 1",
        "circuit_breaker_state{name=\"a\",state=\"half_open\"} 0",
        "circuit_breaker_trips_total{name=\"a\"} 1",
        "circuit_breaker_failures_total{name=\"a\"} 5",
        "agent_circuit_breaker_trips_total{dependency=\"a\"} 1",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
    }
}
