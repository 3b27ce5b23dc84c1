//! A fleet that was saved and loaded goes on as if nothing had happened.

use paramedic_fleet::{FORMAT, Fleet, LoadError, Prices, Settings};
use paramedic_model::{ApiErrorClass, Event, Fact, Source, Temporality, ToolOutcome, WaitReason};
use proptest::prelude::*;

use crate::told::{at, call, counter, event_of, fleet, request, tokens, tool_call, tool_result, with_cost};

fn reload(fleet: &Fleet) -> Fleet {
    Fleet::load(&fleet.save(), Prices::embedded(), *fleet.settings()).unwrap()
}

/// Any event of three sessions with few ids, so that everything meets everything.
fn any_event() -> impl Strategy<Value = Event> {
    let source = prop::sample::select(vec![Source::Transcript, Source::StreamJson, Source::Hook, Source::OtlpLog, Source::OtlpSpan]);
    let agent = prop::sample::select(vec!["s", "s/a", "t", "u", "u/b"]);
    let uid = prop::option::of(0..40u64);
    (source, agent, 0..200_000i64, 0..18u32, 0..6u32, 0..300u64, uid).prop_map(|(source, agent, at_ms, kind, id, n, uid)| {
        let session = agent.split('/').next().unwrap();
        let told = |fact| event_of(source, session, agent, at_ms, fact);
        let (message, req, tool) = (format!("msg_{id:020}"), format!("req_{id:020}"), format!("toolu_{id:020}"));
        let model = ["claude-opus-4-6", "mystery-1", "claude-haiku-5-5"][(n % 3) as usize];
        let mut event = match kind {
            0 | 1 => request(told(call(Some(&message), model, tokens(n, n * 2, n * 1_000, 3))), &req),
            2 => told(call(Some(&message), model, tokens(n, n, 0, 3))),
            3 => request(told(with_cost(call(None, model, tokens(n, n, 0, 3)), 0.125)), &req),
            4 => told(call(None, model, tokens(n, 5, 0, 3))),
            5 => told(tool_call(Some(&tool), "Bash")),
            6 => told(tool_result(Some(&tool), if n % 2 == 0 { ToolOutcome::Error } else { ToolOutcome::Success }, Some(n))),
            7 => told(tool_call(None, "Read")),
            8 => told(tool_result(None, ToolOutcome::Error, None)),
            9 | 10 => told(Fact::Prompt),
            11 => told(Fact::TurnEnded { duration: None }),
            12 => told(Fact::ModelError {
                class: ApiErrorClass::Server,
                status: Some(500),
                attempts: None,
                retries_exhausted: false,
                duration: None,
            }),
            13 => told(Fact::Waiting { reason: WaitReason::Permission }),
            14 => told(Fact::Process { pid: 3, started: None, alive: n % 2 == 0, status: Some("busy".into()), rss_bytes: Some(n) }),
            15 => told(Fact::SessionEnded { reason: None }),
            16 => told(Fact::SubagentEnded { completed: n % 2 == 0 }),
            _ => {
                #[expect(clippy::cast_precision_loss)]
                let value = n as f64 / 3.0;
                let mut event =
                    counter("claude_code.token.usage", at_ms, value, Temporality::Cumulative, &[("type", "input"), ("model", model)]);
                (event.session, event.agent) = (Some(session.into()), Some(agent.into()));
                event
            }
        };
        event.uid = uid;
        event
    })
}

/// Everything that can be seen from outside.
fn everything(fleet: &Fleet) -> String {
    let mut lines: Vec<String> = fleet.views().iter().map(|view| serde_json::to_string(view).unwrap()).collect();
    lines.push(serde_json::to_string(&fleet.totals()).unwrap());
    lines.push(serde_json::to_string(&fleet.cost_report()).unwrap());
    for agent in ["s", "s/a", "t", "u", "u/b"] {
        lines.push(serde_json::to_string(&fleet.series(&agent.into())).unwrap());
    }
    lines.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_loaded_fleet_goes_on_identically(
        before in prop::collection::vec(any_event(), 0..120),
        after in prop::collection::vec(any_event(), 0..120),
        open_max in 1..40usize,
    ) {
        let settings = Settings { open_max, agents_max: 4, ids_max: 4_000, ..Settings::default() };
        let mut one = Fleet::new(Prices::embedded(), settings);
        before.iter().for_each(|event| _ = one.observe(event));
        let mut other = reload(&one);
        prop_assert_eq!(everything(&other), everything(&one));
        prop_assert_eq!(other.save(), one.save());
        for event in &after {
            prop_assert_eq!(other.observe(event), one.observe(event));
        }
        prop_assert_eq!(other.tick(at(300_000)).len(), one.tick(at(300_000)).len());
        prop_assert_eq!(everything(&other), everything(&one));
    }

    /// The parts always add up to the whole, whatever was told, joined, moved and taken back.
    #[test]
    fn agents_days_and_models_add_up(events in prop::collection::vec(any_event(), 0..200), agents_max in 1..8usize) {
        let settings = Settings { agents_max, ..Settings::default() };
        let mut fleet = Fleet::new(Prices::embedded(), settings);
        events.iter().for_each(|event| _ = fleet.observe(event));
        let report = fleet.cost_report();
        let dropped = report.dropped_agents.as_ref();
        let by_agent = report.by_agent.iter().map(|agent| &agent.sum).chain(dropped).fold((0, 0), |(calls, tokens), sum| (calls + sum.calls, tokens + sum.usage.total()));
        let by_day = report.by_day.iter().fold((0, 0), |(calls, tokens), day| (calls + day.sum.calls, tokens + day.sum.usage.total()));
        let totals = fleet.totals();
        prop_assert_eq!(by_day, (totals.calls, totals.usage.total()));
        prop_assert_eq!(by_agent, (totals.calls, totals.usage.total()));
        prop_assert_eq!(report.totals.cost.usd, totals.cost.usd);
    }

    #[test]
    fn damaged_bytes_are_refused_without_panic(cut in 0..4_000usize, flip in 0..4_000usize, noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut fleet = fleet();
        fleet.observe(&event_of(Source::Hook, "s", "s", 0, Fact::Prompt));
        let bytes = fleet.save();
        let mut flipped = bytes.clone();
        let place = flip % flipped.len();
        flipped[place] ^= 0x55;
        let load = |bytes: &[u8]| Fleet::load(bytes, Prices::embedded(), Settings::default());
        prop_assert!(load(&flipped).is_err());
        prop_assert!(load(&bytes[..cut % bytes.len()]).is_err());
        prop_assert!(load(&noise).is_err());
    }
}

#[test]
fn a_checkpoint_of_another_format_or_other_prices_is_refused_by_name() {
    let bytes = fleet().save();
    let mut newer = bytes.clone();
    newer[7] = FORMAT + 1;
    let error = |bytes: &[u8], prices| Fleet::load(bytes, prices, Settings::default()).unwrap_err();
    assert!(matches!(error(&newer, Prices::embedded()), LoadError::Format(2)));
    assert!(matches!(error(b"{}", Prices::embedded()), LoadError::NotACheckpoint));
    let other = Prices::embedded().with_overrides("model = []").unwrap();
    assert!(matches!(error(&bytes, other), LoadError::OtherPrices(_)));
}

/// The events behind the kept checkpoint.
fn story() -> Vec<Event> {
    let told = |at_ms, fact| event_of(Source::Transcript, "s", "s", at_ms, fact);
    vec![
        told(0, Fact::Prompt),
        request(told(1_000, call(Some("msg_1"), "claude-haiku-5-5", tokens(10, 20, 30, 40))), "req_1"),
        told(2_000, tool_call(Some("toolu_1"), "Bash")),
        event_of(Source::OtlpLog, "s", "s", 3_000, tool_result(Some("toolu_1"), ToolOutcome::Error, Some(5))),
        request(event_of(Source::OtlpLog, "s", "s", 4_000, with_cost(call(None, "mystery-1", tokens(1, 1, 1, 1)), 0.5)), "req_2"),
        event_of(Source::Hook, "s", "s/a", 5_000, Fact::SubagentStarted { agent_type: Some("Explore".into()) }),
        counter("claude_code.token.usage", 6_000, 5.0, Temporality::Cumulative, &[("type", "input"), ("model", "claude-opus-4-6")]),
    ]
}

/// What format 1 wrote once must be readable for ever. It is made with a price list of its own, which never changes.
#[test]
fn the_kept_checkpoint_of_format_1_is_read() {
    let prices = || Prices::from_toml(include_str!("fixtures/prices.toml")).unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/fixtures/fleet.v1.bin");
    let mut expected = Fleet::new(prices(), Settings::default());
    story().iter().for_each(|event| _ = expected.observe(event));
    if std::env::var_os("PARAMEDIC_WRITE_FIXTURES").is_some() {
        std::fs::write(path, expected.save()).unwrap();
    }
    let kept = Fleet::load(&std::fs::read(path).unwrap(), prices(), Settings::default()).unwrap();
    assert_eq!(everything(&kept), everything(&expected));
}
