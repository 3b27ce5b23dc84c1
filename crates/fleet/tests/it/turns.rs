//! What an agent is doing, from its events.

use paramedic_fleet::{Fleet, Novelty, State};
use paramedic_model::{ApiErrorClass, Event, Fact, Source, ToolOutcome, WaitReason};

use crate::told::{at, call, event, event_of, fleet, request, tokens, tool_call, tool_result};

fn error(class: ApiErrorClass) -> Fact {
    Fact::ModelError { class, status: Some(529), attempts: Some(11), retries_exhausted: true, duration: None }
}

fn process(at_ms: i64, alive: bool) -> Event {
    event(Source::Process, at_ms, Fact::Process { pid: 7, started: Some(1), alive, status: None, rss_bytes: Some(1 << 20) })
}

fn answer(at_ms: i64, stop: Option<&str>) -> Event {
    let mut event = request(event(Source::Transcript, at_ms, call(None, "claude-opus-4-6", tokens(1, 2, 3, 4))), &format!("r{at_ms}"));
    if let Fact::ModelCall { stop_reason, .. } = &mut event.fact {
        *stop_reason = stop.map(Into::into);
    }
    event
}

fn check(events: &[Event], now_ms: i64, state: State, reason: &str) -> Fleet {
    let mut fleet = fleet();
    events.iter().for_each(|event| _ = fleet.observe(event));
    fleet.tick(at(now_ms));
    let view = fleet.agent(&"s".into()).unwrap();
    assert_eq!((view.state, view.state_reason.as_str()), (state, reason));
    fleet
}

#[test]
fn a_day_in_the_life() {
    let t = Source::Transcript;
    let prompt = event(t, 0, Fact::Prompt);
    let bash = event(t, 2_000, tool_call(Some("a"), "Bash"));
    let done = event(t, 9_000, tool_result(Some("a"), ToolOutcome::Success, None));
    let ended = event(t, 12_000, Fact::TurnEnded { duration: None });
    let mut life = vec![prompt];
    check(&life, 1_000, State::Working, "the model is at work");
    life.extend([answer(1_500, Some("tool_use")), bash]);
    check(&life, 5_000, State::Working, "running Bash for 3 s");
    check(&life, 400_000, State::Silent, "no sign of life for 6 min while running Bash");
    let asked = [life.clone(), vec![event(Source::Hook, 3_000, Fact::Waiting { reason: WaitReason::Permission })]].concat();
    check(&asked, 5_000, State::Waiting, "waiting for permission to run Bash for 2 s");
    check(&[asked, vec![done.clone()]].concat(), 9_500, State::Working, "the model is at work");
    life.extend([done, answer(11_000, Some("end_turn"))]);
    check(&life, 12_000, State::Waiting, "waiting for the next prompt for 1 s");
    life.push(ended);
    let fleet = check(&life, 20_000, State::Waiting, "waiting for the next prompt for 8 s");
    let view = fleet.agent(&"s".into()).unwrap();
    assert_eq!(view.waiting_for.as_deref(), Some("next prompt"));
    assert_eq!((view.turns, view.model_calls, view.tool_calls, view.context_tokens), (1, 2, 1, 8));
    assert_eq!(view.context_limit, Some(1_000_000));
    check(&life, 100_000_000, State::Done, "nothing was heard of it for 27 h");
    life.push(event(Source::Hook, 30_000, Fact::SessionEnded { reason: Some("logout".into()) }));
    check(&life, 40_000, State::Done, "session ended (logout) 10 s ago");
    life.push(event(t, 50_000, Fact::Prompt));
    check(&life, 51_000, State::Working, "the model is at work");
}

/// Telemetry may tell a call before the transcript says that it was the turn's last.
#[test]
fn the_last_piece_of_a_call_hands_the_turn_back() {
    let life = [
        event(Source::Transcript, 0, Fact::Prompt),
        request(event(Source::OtlpLog, 5_000, call(None, "claude-opus-4-6", tokens(1, 2, 3, 4))), "r5000"),
        answer(5_000, Some("end_turn")),
    ];
    check(&life, 6_000, State::Waiting, "waiting for the next prompt for 1 s");
}

/// A source that tells late what came before a question does not answer it.
#[test]
fn a_question_stands_until_something_newer_happens() {
    let life = [
        event(Source::Hook, 1_000, tool_call(Some("a"), "Bash")),
        event(Source::Hook, 2_000, Fact::Waiting { reason: WaitReason::Permission }),
        answer(1_100, Some("tool_use")),
    ];
    check(&life, 3_000, State::Waiting, "waiting for permission to run Bash for 1 s");
}

#[test]
fn failures() {
    let prompt = event(Source::Transcript, 0, Fact::Prompt);
    let failed = event(Source::Transcript, 5_000, error(ApiErrorClass::Overloaded));
    let ended = event(Source::Hook, 5_100, Fact::TurnEnded { duration: None });
    let life = vec![prompt.clone(), failed, ended];
    let fleet = check(&life, 10_000, State::Failed, "its turn ended 5 s ago: model API overloaded (529)");
    assert_eq!(fleet.agent(&"s".into()).unwrap().model_errors, 1);
    let again = [life, vec![event(Source::Transcript, 20_000, Fact::Prompt)]].concat();
    check(&again, 21_000, State::Working, "the model is at work");
    check(&[prompt.clone(), process(9_000, false)], 10_000, State::Failed, "process 7 ended mid-turn 1 s ago");
    check(&[prompt, process(9_000, true)], 10_000, State::Working, "the model is at work");
    check(
        &[event(Source::Transcript, 0, Fact::TurnEnded { duration: None }), process(9_000, false)],
        10_000,
        State::Done,
        "process 7 is gone since 1 s, between turns",
    );
}

/// A run without a terminal fails and ends at once, in whichever order that is told.
#[test]
fn the_end_of_a_session_heals_no_failure() {
    let prompt = event(Source::Transcript, 0, Fact::Prompt);
    let failed = event(Source::Transcript, 5_000, error(ApiErrorClass::Overloaded));
    let turn = event(Source::Hook, 5_050, Fact::TurnEnded { duration: None });
    let ended = event(Source::Hook, 5_100, Fact::SessionEnded { reason: Some("other".into()) });
    let orders = [[0, 1, 2, 3], [0, 2, 3, 1], [0, 1, 3, 2], [0, 3, 1, 2]];
    for order in orders {
        let told = order.map(|i| [&prompt, &failed, &turn, &ended][i].clone());
        check(&told, 10_000, State::Failed, "its turn ended 5 s ago: model API overloaded (529)");
        check(&told, 86_404_000, State::Failed, "its turn ended 23 h ago: model API overloaded (529)");
        check(&told, 86_405_000, State::Done, "nothing was heard of it for 24 h");
        let resumed = [told.to_vec(), vec![event(Source::Transcript, 20_000, Fact::Prompt)]].concat();
        check(&resumed, 21_000, State::Working, "the model is at work");
        let mut fleet = fleet();
        told.iter().for_each(|event| _ = fleet.observe(event));
        let loaded = Fleet::load(&fleet.save(), paramedic_fleet::Prices::embedded(), paramedic_fleet::Settings::default());
        assert_eq!(loaded.map(|fleet| fleet.agent(&"s".into()).unwrap().state).ok(), Some(State::Failed), "{order:?}");
    }
    // What was answered after the error has ended well.
    let life = [
        prompt,
        failed,
        event(Source::Transcript, 6_000, Fact::Prompt),
        answer(9_000, Some("end_turn")),
        event(Source::Hook, 9_500, Fact::SessionEnded { reason: None }),
    ];
    check(&life, 10_000, State::Done, "session ended 0 s ago");
}

/// One failure that ended a turn, as five records tell it, some of them knowing less.
#[test]
fn a_failure_is_one_whoever_tells_it_and_however_vaguely() {
    use ApiErrorClass as C;
    let told = |source, at_ms, class, name: &str, req: &str| {
        let mut event = event(source, at_ms, error(class));
        event.name = name.into();
        if req.is_empty() { event } else { request(event, req) }
    };
    let tellings = |vague: C, req: &str| {
        vec![
            told(Source::Transcript, 0, C::Overloaded, "assistant/api_error", req),
            told(Source::Hook, 40, vague, "StopFailure", ""),
            told(Source::OtlpLog, -1, C::Overloaded, "claude_code.api_error", req),
            told(Source::OtlpLog, 1, vague, "claude_code.api_retries_exhausted", ""),
            told(Source::StreamJson, 5, C::Overloaded, "assistant/api_error", req),
        ]
    };
    for (vague, req) in [(C::Server, ""), (C::Unknown, ""), (C::Overloaded, "req_0123456789abcdef"), (C::Server, "r1")] {
        let tellings = tellings(vague, req);
        for first in 0..tellings.len() {
            let mut order = tellings.clone();
            order.rotate_left(first);
            let mut fleet = fleet();
            let new = order.iter().filter(|event| fleet.observe(event) == Novelty::New).count();
            assert_eq!(new, 1, "{vague:?} {req:?}, number {first} first");
            assert_eq!(fleet.agent(&"s".into()).unwrap().model_errors, 1);
        }
    }
    // The same source soon after, or another cause: another failure.
    let mut fleet = fleet();
    let again = [(Source::Transcript, 0, C::Server), (Source::Transcript, 3_000, C::Server), (Source::Hook, 3_000, C::RateLimit)];
    again.iter().for_each(|(source, at_ms, class)| _ = fleet.observe(&told(*source, *at_ms, *class, "x", "")));
    assert_eq!(fleet.agent(&"s".into()).unwrap().model_errors, 2, "the limit is what the second one was");
    fleet.observe(&told(Source::OtlpLog, 3_100, C::Authentication, "x", ""));
    assert_eq!(fleet.agent(&"s".into()).unwrap().model_errors, 2, "the first one has no name yet");
    fleet.observe(&told(Source::StreamJson, 3_100, C::Billing, "x", ""));
    assert_eq!(fleet.agent(&"s".into()).unwrap().model_errors, 3);
}

/// Telemetry tells the failures of sub-agents under the name of their session.
#[test]
fn a_sub_agents_failure_is_one_and_its_own() {
    let mut far = event(Source::OtlpLog, 0, error(ApiErrorClass::Overloaded));
    far.attributes.insert("query_source".to_owned(), "agent:builtin:Explore".into());
    let near = |agent: &str| event_of(Source::Transcript, "s", agent, 20, error(ApiErrorClass::Overloaded));
    let told = [near("s/a"), near("s/b"), far.clone(), far];
    for order in [[0, 1, 2, 3], [2, 3, 0, 1], [2, 0, 3, 1], [0, 2, 1, 3]] {
        let mut fleet = fleet();
        fleet.observe(&event(Source::Transcript, -1_000, Fact::Prompt));
        let new = order.iter().filter(|i| fleet.observe(&told[**i]) == Novelty::New).count();
        assert_eq!(new, 2, "{order:?}");
        let errors = ["s", "s/a", "s/b"].map(|id| fleet.agent(&id.into()).unwrap().model_errors);
        assert_eq!(errors, [0, 1, 1], "{order:?}");
        let states = ["s", "s/a", "s/b"].map(|id| fleet.agent(&id.into()).unwrap().state);
        assert_eq!(states, [State::Working, State::Failed, State::Failed], "{order:?}");
    }
}

#[test]
fn a_question_waits_for_an_answer() {
    let prompt = event(Source::Transcript, 0, Fact::Prompt);
    let asks = event(Source::Transcript, 1_000, tool_call(Some("q"), "AskUserQuestion"));
    check(&[prompt.clone(), asks], 901_000, State::Waiting, "waiting for an answer for 15 min");
    let plan = event(Source::Transcript, 1_000, tool_call(Some("q"), "ExitPlanMode"));
    check(&[prompt, plan], 61_000, State::Waiting, "waiting for approval of its plan for 60 s");
}

#[test]
fn a_session_lives_in_its_subagents() {
    let life = [
        event(Source::Transcript, 0, Fact::Prompt),
        event(Source::Transcript, 1_000, tool_call(Some("t"), "Task")),
        event_of(Source::Transcript, "s", "s/a", 2_000, Fact::SubagentStarted { agent_type: Some("Explore".into()) }),
        event_of(Source::Transcript, "s", "s/a", 590_000, tool_call(Some("x"), "Grep")),
    ];
    let mut fleet = check(&life, 600_000, State::Working, "running Task for 9 min");
    let view = fleet.agent(&"s/a".into()).unwrap();
    assert_eq!((view.state, view.agent_type.as_deref()), (State::Working, Some("Explore")));
    assert_eq!(fleet.agent(&"s".into()).unwrap().subagents.active, 1);
    fleet.observe(&event_of(Source::Hook, "s", "s/a", 600_000, Fact::SubagentEnded { completed: true }));
    assert_eq!(fleet.agent(&"s/a".into()).unwrap().state, State::Done);
    assert_eq!(fleet.subagents(&"s".into()).len(), 1);
}

#[test]
fn stuck_is_said_from_outside_and_ticks_tell_who_changed() {
    let mut fleet = fleet();
    fleet.observe(&event(Source::Transcript, 0, Fact::Prompt));
    assert_eq!(fleet.tick(at(1_000)), ["s".into()]);
    assert_eq!(fleet.tick(at(2_000)), []);
    fleet.set_stuck(&"s".into(), Some("the same call 12 times"));
    assert_eq!(fleet.tick(at(3_000)), ["s".into()]);
    let view = fleet.agent(&"s".into()).unwrap();
    assert_eq!((view.state, view.state_reason.as_str()), (State::Stuck, "the same call 12 times"));
    fleet.set_stuck(&"s".into(), None);
    assert_eq!(fleet.agent(&"s".into()).unwrap().state, State::Working);
    fleet.tick(at(90_000_000));
    assert_eq!(fleet.totals().by_state["done"], 1);
}

#[test]
fn the_same_failure_from_two_sources_is_one() {
    let told = [
        (request(event(Source::OtlpLog, 0, error(ApiErrorClass::Overloaded)), "r1"), Novelty::New),
        (event(Source::Transcript, 900, error(ApiErrorClass::Unknown)), Novelty::Duplicate),
        (event(Source::Hook, 1_500, error(ApiErrorClass::Overloaded)), Novelty::Duplicate),
        (request(event(Source::OtlpSpan, 60_000, error(ApiErrorClass::Overloaded)), "r1"), Novelty::Duplicate),
        (event(Source::Hook, 4_000, error(ApiErrorClass::RateLimit)), Novelty::New),
        (event(Source::Transcript, 30_000, error(ApiErrorClass::Overloaded)), Novelty::New),
    ];
    let mut fleet = fleet();
    for (event, novelty) in &told {
        assert_eq!(fleet.observe(event), *novelty, "{event:?}");
    }
    assert_eq!(fleet.agent(&"s".into()).unwrap().model_errors, 3);
}

#[test]
fn details_come_from_whoever_knows_them() {
    let mut fleet = fleet();
    let mut hook = event(Source::Hook, 0, Fact::Prompt);
    hook.attributes.insert("permission_mode".to_owned(), "plan".into());
    hook.attributes.insert("cwd".to_owned(), "/home/dev/shop/".into());
    fleet.observe(&hook);
    let mut log = event(Source::OtlpLog, 1, Fact::Record);
    log.attributes.insert("app.version".to_owned(), "2.1.42".into());
    log.attributes.insert("host.name".to_owned(), "box".into());
    fleet.observe(&log);
    let view = fleet.agent(&"s".into()).unwrap();
    assert_eq!((view.project.as_deref(), view.permission_mode.as_deref()), (Some("shop"), Some("plan")));
    assert_eq!((view.version.as_deref(), view.host.as_deref()), (Some("2.1.42"), Some("box")));
    assert_eq!(view.sources["hook"] + view.sources["otlp-log"], 2);
}

/// Events without agent and session are not lost and make nobody up.
#[test]
fn an_event_of_nobody_is_news_but_no_agent() {
    let mut fleet = fleet();
    let mut nobody = event(Source::Log, 0, Fact::Record);
    (nobody.agent, nobody.session, nobody.uid) = (None, None, Some(9));
    assert_eq!(fleet.observe(&nobody), Novelty::New);
    assert_eq!(fleet.observe(&nobody), Novelty::Duplicate);
    assert_eq!(fleet.totals().agents, 0);
}

#[test]
fn trouble_comes_first_in_the_list() {
    let mut fleet = fleet();
    for (id, fact) in [("a", Fact::TurnEnded { duration: None }), ("b", error(ApiErrorClass::Server)), ("c", Fact::Prompt)] {
        fleet.observe(&event_of(Source::Hook, id, id, 0, fact));
    }
    let order: Vec<String> = fleet.views().iter().map(|view| view.id.to_string()).collect();
    assert_eq!(order, ["b", "a", "c"]);
}
