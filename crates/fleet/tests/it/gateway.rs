//! What the gateway tells besides others, in every order: the same calls, tokens, dollars, failures.

use paramedic_fleet::{Fleet, Novelty, State};
use paramedic_model::{ApiErrorClass, Event, Fact, Source, Usage};

use crate::told::{at, call, event, event_of, fleet, request, tokens, with_cost};

const OPUS: &str = "claude-opus-4-5-20251101";
const HAIKU: &str = "claude-haiku-4-5";

fn number(prefix: &str, number: u32) -> String {
    format!("{prefix}_{number:020}")
}

/// The call of this number as a source tells it, under the ids that it knows.
fn told(source: Source, n: u32, at_ms: i64, model: &str, usage: Usage) -> Event {
    let message = number("msg", n);
    let fact = call((source != Source::OtlpLog).then_some(message.as_str()), model, usage);
    let event = event(source, at_ms, fact);
    if source == Source::StreamJson { event } else { request(event, &number("req", n)) }
}

fn rerouted(mut event: Event, asked: &str) -> Event {
    event.attributes.insert("asked_model".to_owned(), asked.into());
    event
}

fn retry(source: Source, at_ms: i64, attempt: u32, id: Option<u32>) -> Event {
    let fact = Fact::ModelRetry { class: ApiErrorClass::Overloaded, status: Some(529), attempt, attempts_max: None, delay: None };
    let event = event(source, at_ms, fact);
    id.map_or(event.clone(), |id| request(event, &number("req", id)))
}

fn error(source: Source, at_ms: i64, id: Option<u32>) -> Event {
    let fact =
        Fact::ModelError { class: ApiErrorClass::Overloaded, status: Some(529), attempts: None, retries_exhausted: true, duration: None };
    let event = event(source, at_ms, fact);
    id.map_or(event.clone(), |id| request(event, &number("req", id)))
}

/// Every way to merge these lists, each of which stays in its order.
fn merges(lists: &[Vec<Event>]) -> Vec<Vec<Event>> {
    if lists.iter().all(Vec::is_empty) {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (i, list) in lists.iter().enumerate().filter(|(_, list)| !list.is_empty()) {
        let mut rest = lists.to_vec();
        rest[i] = list[1..].to_vec();
        for mut tail in merges(&rest) {
            tail.insert(0, list[0].clone());
            all.push(tail);
        }
    }
    all
}

fn observed(events: &[Event]) -> Fleet {
    let mut fleet = fleet();
    events.iter().for_each(|event| _ = fleet.observe(event));
    fleet
}

fn check_orders(lists: &[Vec<Event>], check: impl Fn(&Fleet, &[Event])) {
    let orders = merges(lists);
    assert!(orders.len() > 1);
    for order in orders {
        check(&observed(&order), &order);
        // A checkpoint in the middle changes nothing.
        let (before, after) = order.split_at(order.len() / 2);
        let saved = observed(before).save();
        let mut fleet = Fleet::load(&saved, paramedic_fleet::Prices::embedded(), paramedic_fleet::Settings::default()).unwrap();
        after.iter().for_each(|event| _ = fleet.observe(event));
        check(&fleet, &order);
    }
}

#[test]
fn a_call_has_the_price_of_the_model_that_served_it() {
    let used = tokens(1_000_000, 0, 0, 0);
    // Whoever asked for the other model says so, or names the one that served and still has the other's price in mind.
    for asked in [OPUS, HAIKU] {
        let gateway = rerouted(told(Source::Gateway, 1, 0, HAIKU, used), OPUS);
        let mut telemetry = told(Source::OtlpLog, 1, 5, asked, used);
        telemetry.fact = with_cost(telemetry.fact, 5.0);
        check_orders(&[vec![gateway], vec![telemetry], vec![told(Source::Transcript, 1, 9, asked, used)]], |fleet, order| {
            let totals = fleet.totals();
            assert_eq!((totals.calls, totals.usage, totals.cost.usd), (1, used, Some(1.0)), "{order:?}");
            assert_eq!(fleet.cost_report().by_model[0].model, HAIKU);
        });
    }
}

#[test]
fn a_model_without_a_price_has_not_the_price_of_the_one_that_was_asked_for() {
    let used = tokens(1_000_000, 0, 0, 0);
    let mut telemetry = told(Source::OtlpLog, 1, 5, "local-1", used);
    telemetry.fact = with_cost(telemetry.fact, 5.0);
    let plain = told(Source::Gateway, 1, 0, "local-1", used);
    let mut priced = plain.clone();
    priced.fact = with_cost(priced.fact, 0.25);
    let cases = [(rerouted(plain.clone(), OPUS), None), (plain, Some(5.0)), (priced, Some(0.25))];
    for (gateway, expect) in cases {
        check_orders(&[vec![gateway], vec![telemetry.clone()], vec![told(Source::Transcript, 1, 9, "local-1", used)]], |fleet, order| {
            assert_eq!(fleet.totals().cost.usd, expect, "{order:?}");
        });
    }
}

#[test]
fn a_run_that_accounts_under_the_model_it_asked_for_adds_nothing() {
    let used = tokens(100, 200, 0, 0);
    let mut account = event(Source::StreamJson, 900, Fact::Record);
    account.name = "result/model_usage".into();
    account.attributes.insert("model".to_owned(), OPUS.into());
    account.attributes.insert("input_tokens".to_owned(), 100.into());
    account.attributes.insert("output_tokens".to_owned(), 200.into());
    let run = vec![told(Source::StreamJson, 1, 5, OPUS, tokens(100, 1, 0, 0)), account];
    check_orders(&[vec![rerouted(told(Source::Gateway, 1, 0, HAIKU, used), OPUS)], run], |fleet, order| {
        let totals = fleet.totals();
        assert_eq!((totals.calls, totals.usage, totals.cost.usd), (1, used, Some(0.0011)), "{order:?}");
    });
}

#[test]
fn a_call_that_only_the_gateway_saw_counts_in_addition() {
    // The first stream broke in its middle, and the client sent the request again without telling what it had received.
    let (half, whole) = (tokens(3, 40, 0, 0), tokens(3, 500, 0, 0));
    let mut unfinished = told(Source::Gateway, 1, 0, OPUS, half);
    unfinished.attributes.insert("unfinished".to_owned(), "cut".into());
    let gateway = vec![unfinished, retry(Source::Gateway, 0, 1, Some(1)), told(Source::Gateway, 2, 900, OPUS, whole)];
    let others = [vec![told(Source::Transcript, 2, 890, OPUS, whole)], vec![told(Source::OtlpLog, 2, 890, OPUS, whole)]];
    let [transcript, telemetry] = others;
    check_orders(&[gateway, transcript, telemetry], |fleet, order| {
        let (totals, agent) = (fleet.totals(), fleet.agent(&"s".into()).unwrap());
        assert_eq!((totals.calls, totals.usage), (2, half.plus(whole)), "{order:?}");
        assert_eq!((agent.model_errors, agent.retries), (0, 1));
    });
}

#[test]
fn a_storm_of_failures_is_counted_once_whoever_tells_it() {
    // Three tries, 0, 600 and 1900 milliseconds: two were tried again, the last one was the end.
    for ids in [true, false] {
        let id = |n: u32| ids.then_some(n);
        let gateway =
            vec![retry(Source::Gateway, 0, 1, id(1)), retry(Source::Gateway, 600, 1, id(2)), retry(Source::Gateway, 1_900, 1, id(3))];
        let transcript =
            vec![retry(Source::Transcript, 3, 1, id(1)), retry(Source::Transcript, 604, 2, id(2)), error(Source::Transcript, 1_905, None)];
        // Telemetry tells only the end, hooks know no ids.
        let telemetry = vec![error(Source::OtlpLog, 1_904, id(3))];
        check_orders(&[gateway, transcript, telemetry], |fleet, order| {
            let agent = fleet.agent(&"s".into()).unwrap();
            assert_eq!((agent.model_errors, agent.retries), (1, 2), "{order:#?}");
        });
    }
}

#[test]
fn what_the_gateway_takes_for_the_end_was_none_when_the_client_tries_again() {
    let lists = [vec![error(Source::Gateway, 0, Some(1))], vec![retry(Source::Transcript, 5, 1, Some(1))]];
    check_orders(&lists, |fleet, order| {
        let agent = fleet.agent(&"s".into()).unwrap();
        assert_eq!((agent.model_errors, agent.retries), (0, 1), "{order:?}");
        assert_ne!(agent.state, State::Failed);
    });
    check_orders(&[vec![retry(Source::Gateway, 9, 1, None)], vec![error(Source::Hook, 5, None)]], |fleet, order| {
        let agent = fleet.agent(&"s".into()).unwrap();
        assert_eq!((agent.model_errors, agent.retries, agent.state), (1, 0, State::Failed), "{order:?}");
    });
}

#[test]
fn the_conversations_own_record_is_still_news_to_detectors() {
    let used = tokens(1, 2, 3, 4);
    let mut fleet = fleet();
    assert_eq!(fleet.observe(&told(Source::Gateway, 1, 0, OPUS, used)), Novelty::New);
    assert_eq!(fleet.observe(&told(Source::Transcript, 1, 5, OPUS, used)), Novelty::Update);
    assert_eq!(fleet.observe(&told(Source::StreamJson, 1, 6, OPUS, used)), Novelty::Duplicate);
    assert_eq!(fleet.observe(&told(Source::OtlpLog, 1, 7, OPUS, used)), Novelty::Duplicate);
    let mut again = told(Source::Gateway, 1, 0, OPUS, used);
    again.uid = Some(7);
    assert_eq!(fleet.observe(&again), Novelty::Duplicate, "the call's ids are known");
    assert_eq!(fleet.totals().calls, 1);
    // So is a failure, which the record knows more of: how often, how long the wait is. Others add nothing.
    let tells = [(Source::Gateway, Novelty::New), (Source::Transcript, Novelty::New), (Source::StreamJson, Novelty::Duplicate)];
    for (source, novelty) in tells {
        assert_eq!(fleet.observe(&retry(source, 9_000, 1, None)), novelty, "{source}");
    }
    let tells = [(Source::Gateway, Novelty::New), (Source::Hook, Novelty::Duplicate), (Source::OtlpLog, Novelty::Duplicate)];
    for (source, novelty) in tells {
        assert_eq!(fleet.observe(&error(source, 20_000, None)), novelty, "{source}");
    }
    let agent = fleet.agent(&"s".into()).unwrap();
    assert_eq!((agent.retries, agent.model_errors), (1, 1));
}

/// A chore in the background (a title, say) passes through the gateway too, and ends with a stop reason of its own.
#[test]
fn the_gateway_moves_no_agent_whose_turns_others_tell() {
    let mut fleet = fleet();
    fleet.observe(&event(Source::Hook, 0, Fact::Prompt));
    let mut chore = told(Source::Gateway, 1, 900, HAIKU, tokens(50, 5, 0, 0));
    if let Fact::ModelCall { stop_reason, .. } = &mut chore.fact {
        *stop_reason = Some("end_turn".into());
    }
    fleet.observe(&told(Source::Transcript, 2, 500, OPUS, tokens(1, 1, 90_000, 0)));
    fleet.observe(&chore);
    fleet.observe(&told(Source::Gateway, 2, 1_000, OPUS, tokens(1, 1, 90_000, 0)));
    // The record's own time is that of the tool's block, before the stream ended.
    fleet.observe(&event(Source::Transcript, 990, crate::told::tool_call(Some("toolu_0123456789"), "Bash")));
    fleet.tick(at(3_000));
    let agent = fleet.agent(&"s".into()).unwrap();
    assert_eq!((agent.state, agent.state_reason.as_str()), (State::Working, "running Bash for 2 s"));
    assert_eq!((agent.context_tokens, agent.model.as_deref()), (90_001, Some(OPUS)));
    assert_eq!(fleet.totals().calls, 2, "and the chore is counted");
}

#[test]
fn an_agent_that_only_the_gateway_knows_works_and_ends_its_turn() {
    let mut fleet = fleet();
    let mut answer = request(event_of(Source::Gateway, "ana", "ana", 0, call(Some("m1"), OPUS, tokens(9, 1, 0, 0))), "r1");
    answer.session = None;
    for (ms, stop, state) in [(1_000, "tool_use", State::Working), (2_000, "end_turn", State::Waiting)] {
        answer.at = at(ms);
        answer.correlation.request = Some(format!("r{ms}").into());
        if let Fact::ModelCall { stop_reason, message, .. } = &mut answer.fact {
            *stop_reason = Some(stop.into());
            *message = Some(format!("m{ms}").into());
        }
        fleet.observe(&answer);
        fleet.tick(at(ms + 500));
        assert_eq!(fleet.agent(&"ana".into()).unwrap().state, state, "{stop}");
    }
    assert_eq!(fleet.agent(&"ana".into()).unwrap().context_tokens, 9);
}

/// The gateway has seen the sub-agent, the others name the session.
#[test]
fn a_sub_agents_call_is_its_own() {
    let used = tokens(1, 2, 3, 4);
    let mut gateway = told(Source::Gateway, 1, 0, OPUS, used);
    gateway.agent = Some("s/a9".into());
    check_orders(&[vec![gateway], vec![told(Source::OtlpLog, 1, 5, OPUS, used)]], |fleet, order| {
        assert_eq!((fleet.totals().calls, fleet.agent(&"s/a9".into()).unwrap().usage), (1, used), "{order:?}");
        assert_eq!(fleet.agent(&"s".into()).map(|agent| agent.usage).unwrap_or_default(), Usage::default());
    });
}
