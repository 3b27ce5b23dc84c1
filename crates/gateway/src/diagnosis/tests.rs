//! Cases: what is put in, and which causes must be found.

use std::time::Duration;

use super::*;
use crate::call::Caller;

/// A dear model at $10 a million tokens read and $50 written, a cheap one at a tenth; the cache reads at a tenth.
struct Prices;

impl Pricing for Prices {
    fn call(&self, model: &str, usage: &Usage) -> Option<u64> {
        let factor = match model {
            "dear" => 10_000_000,
            "cheap" => 1_000_000,
            _ => return None,
        };
        Some((usage.input_tokens * 10 + usage.cache_read_tokens + usage.output_tokens * 50) * factor / 10)
    }
}

const NOW: i64 = 1_000_000 * 3_600;

fn spender(name: &str, dollars: f64, calls: u64, of: f64) -> Spender {
    Spender {
        name: name.into(),
        dollars,
        calls,
        input_tokens: calls * 100,
        output_tokens: calls * 10,
        cache_read_tokens: 0,
        cache_creation_tokens: 0,
        tokens_per_call: 110.0,
        share: dollars / of,
    }
}

fn record(model: &str, usage: Usage, repeated_share: Option<f32>) -> Arc<Record> {
    Arc::new(Record {
        id: 1,
        at: Timestamp::from_secs(NOW),
        kind: Kind::Inference,
        caller: Caller::default(),
        method: "POST".into(),
        path: "/v1/messages".into(),
        upstream: "anthropic".into(),
        model: Some(model.into()),
        served_model: None,
        stream: false,
        outcome: Outcome::Answered,
        status: 200,
        error_type: None,
        request_id: None,
        message_id: None,
        usage,
        cost_pico: None,
        stop_reason: Some("end_turn".into()),
        tries: 1,
        waited: Duration::ZERO,
        first_byte: None,
        first_token: None,
        duration: Duration::from_secs(1),
        request_bytes: 1,
        response_bytes: 1,
        repeated_share,
        acted: Vec::new(),
    })
}

fn hours(dollars: &[f64]) -> Vec<Hour> {
    let first = NOW - (dollars.len() as i64) * 3_600;
    let one = |(at, dollars): (i64, &f64)| Hour {
        at: Timestamp::from_secs(first + at * 3_600),
        dollars: *dollars,
        calls: 1,
        input_tokens: 0,
        output_tokens: 0,
        cache_read_tokens: 0,
        cache_creation_tokens: 0,
    };
    (0..).zip(dollars).map(one).collect()
}

/// What a case gives; the rest is nothing.
#[derive(Default)]
struct Given {
    all: Option<(f64, u64)>,
    users: Vec<(&'static str, f64, u64)>,
    keys: Vec<(&'static str, f64, u64)>,
    hours: Vec<Hour>,
    calls: Vec<Arc<Record>>,
    changes: Vec<Change>,
}

impl Given {
    fn diagnose(&self) -> Diagnosis {
        let all = self.all.map(|(dollars, calls)| spender("all", dollars, calls, dollars));
        let of = self.all.map_or(1.0, |(dollars, _)| dollars);
        let spenders = |list: &[(&str, f64, u64)]| list.iter().map(|(name, dollars, calls)| spender(name, *dollars, *calls, of)).collect();
        let (users, keys): (Vec<Spender>, Vec<Spender>) = (spenders(&self.users), spenders(&self.keys));
        diagnose(&Material {
            now: Timestamp::from_secs(NOW),
            period: Period::Day,
            all: all.as_ref(),
            users: &users,
            keys: &keys,
            agents: &[],
            hours: &self.hours,
            minutes: &[],
            calls: &self.calls,
            changes: &self.changes,
            routing: Routing { cheaper: "cheap", input_tokens_max: 2_000, output_tokens_max: 4_096 },
            pricing: &Prices,
        })
    }

    #[track_caller]
    fn check(&self, expect: &[Cause]) -> Diagnosis {
        let diagnosis = self.diagnose();
        let causes: Vec<Cause> = diagnosis.findings.iter().map(|finding| finding.cause).collect();
        assert_eq!(causes, expect, "{diagnosis:#?}");
        diagnosis
    }
}

#[test]
fn one_who_spends_too_much_is_named_with_the_command_that_stops_him() {
    let with = |users: &[(&'static str, f64, u64)], all| Given { users: users.to_vec(), all: Some(all), ..Given::default() };
    let abuse = with(&[("user:ana", 90.0, 5_000), ("user:bo", 5.0, 50), ("user:cy", 5.0, 50)], (100.0, 5_100)).check(&[Cause::OneSpender]);
    assert!(abuse.findings[0].what.contains("the user ana spent $90.00 of $100.00 (90 %) with 5000 of 5100 calls"), "{abuse:#?}");
    assert!(abuse.findings[0].commands.iter().any(|command| command.contains("switch set blocked true --scope user=ana --for 1h")));
    // Thousands of cheap calls.
    with(&[("user:bot", 10.0, 4_000), ("user:bo", 45.0, 50), ("user:cy", 45.0, 60)], (100.0, 4_110)).check(&[Cause::OneSpender]);
    // Half of all is much among four, and not among two.
    let four = [("user:a", 55.0, 100), ("user:b", 15.0, 100), ("user:c", 15.0, 100), ("user:d", 15.0, 100)];
    with(&four, (100.0, 400)).check(&[Cause::OneSpender]);
    with(&[("user:a", 55.0, 100), ("user:b", 45.0, 100)], (100.0, 200)).check(&[]);
    // The only one there is, and one with a handful of calls, are no abuse.
    with(&[("user:a", 100.0, 9_000)], (100.0, 9_000)).check(&[]);
    with(&[("user:a", 0.9, 9), ("user:b", 0.1, 3)], (1.0, 12)).check(&[]);
    // What was there no room for is nobody; the key is named where no user is.
    with(&[("user:other", 90.0, 900), ("user:b", 10.0, 100)], (100.0, 1_000)).check(&[]);
    let keys = vec![("key:ci", 95.0, 300), ("key:web", 5.0, 30)];
    let by_key = Given { keys, all: Some((100.0, 330)), ..Given::default() }.check(&[Cause::OneSpender]);
    assert!(by_key.findings[0].what.starts_with("the key ci "));
}

#[test]
fn names_cannot_break_out_of_a_command() {
    let users = vec![("user:a'; rm -rf ~", 90.0, 500), ("user:b", 10.0, 10)];
    let found = Given { users, all: Some((100.0, 510)), ..Given::default() }.check(&[Cause::OneSpender]);
    assert!(found.findings[0].commands[0].contains(r"--scope 'user=a'\''; rm -rf ~' "), "{found:#?}");
}

#[test]
fn repeated_prompts_that_are_paid_in_full_have_a_saving() {
    let with =
        |usage: Usage, share, count| Given { calls: vec![record("dear", usage, share); count], all: Some((50.0, 100)), ..Given::default() };
    let full = Usage { input_tokens: 40_000, output_tokens: 100, ..Usage::default() };
    let found = with(full, Some(0.9), 20).check(&[Cause::Prompts]);
    // Nine tenths of the input at a tenth: 0.9 * 0.9 of 400000 of 405000.
    let saving = 50.0 * 0.81 * 400.0 / 405.0;
    assert!((found.findings[0].saving_dollars.unwrap() - saving).abs() < 0.01, "{found:#?}");
    assert!(found.findings[0].commands[0].contains("prompt_caching true"));
    let cached = Usage { input_tokens: 2_000, cache_read_tokens: 38_000, output_tokens: 100, ..Usage::default() };
    with(cached, Some(0.95), 20).check(&[]);
    with(full, Some(0.9), CALLS_MIN - 1).check(&[]);
    let long = with(full, Some(0.1), 20).check(&[Cause::Prompts]);
    assert!(long.findings[0].commands[0].contains("max_history_tokens 20000") && long.findings[0].saving_dollars.is_none(), "{long:#?}");
    with(Usage { input_tokens: 2_500, output_tokens: 100, ..Usage::default() }, Some(0.9), 20).check(&[]);
}

#[test]
fn simple_calls_to_expensive_models_have_a_saving() {
    let usage = Usage { input_tokens: 500, output_tokens: 50, ..Usage::default() };
    let with = |model, usage, count| Given { calls: vec![record(model, usage, None); count], all: Some((10.0, 100)), ..Given::default() };
    let found = with("dear", usage, 20).check(&[Cause::Models]);
    assert!((found.findings[0].saving_dollars.unwrap() - 9.0).abs() < 1e-6, "{found:#?}");
    assert!(found.findings[0].commands[0].contains("model_routing true") && found.findings[0].commands[1].contains("--scope model=dear"));
    with("cheap", usage, 20).check(&[]);
    with("dear", Usage { input_tokens: 3_000, ..usage }, 20).check(&[]);
    with("unpriced", usage, 20).check(&[]);
    with("dear", usage, 5).check(&[]);
}

#[test]
fn a_step_has_its_hour_and_the_change_nearest_to_it() {
    let at_step = NOW - 3 * 3_600;
    let change = |secs: i64, what: &str| Change {
        at: Timestamp::from_secs(at_step + secs),
        what: what.to_owned(),
        by: "kim".to_owned(),
        undo: Some(format!("undo {what}")),
    };
    let steps = [1.0, 1.2, 0.9, 1.1, 1.0, 8.0, 9.0, 8.5];
    let changes = vec![change(-7_200, "long before"), change(-600, "flag new-search"), change(-3_000, "early"), change(4_000, "after")];
    let given = Given { hours: hours(&steps), changes, all: Some((30.0, 9)), ..Given::default() };
    let found = given.check(&[Cause::StepChange]);
    let finding = &found.findings[0];
    assert_eq!(finding.at, Some(Timestamp::from_secs(at_step)));
    assert_eq!(finding.change.as_ref().map(|change| change.what.as_str()), Some("flag new-search"));
    assert_eq!(finding.commands[0], "undo flag new-search");
    let none = Given { hours: hours(&steps), all: Some((30.0, 9)), ..Given::default() }.check(&[Cause::StepChange]);
    assert!(none.findings[0].what.contains("no change is known"), "{none:#?}");
}

#[test]
fn an_even_day_a_daily_rhythm_and_small_change_are_no_step() {
    let check = |dollars: &[f64], expect: &[Cause]| {
        Given { hours: hours(dollars), all: Some((1.0, 9)), ..Given::default() }.check(expect);
    };
    check(&[1.0, 1.2, 0.9, 1.1, 1.3, 0.8], &[]);
    check(&[0.01, 0.01, 0.01, 0.01, 0.2, 0.2], &[]);
    check(&[8.0, 8.0, 1.0, 1.0, 1.0], &[]);
    check(&[1.0, 9.0], &[]);
    check(&[], &[]);
    check(&[f64::NAN; 8], &[]);
    // Each morning at nine.
    let day: Vec<f64> = (0..24).map(|hour| if (9..18).contains(&hour) { 10.0 } else { 0.2 }).collect();
    let two_days: Vec<f64> = day.iter().chain(&day[..14]).copied().collect();
    check(&two_days, &[]);
    let first_day: Vec<f64> = (0..38).map(|hour| if hour >= 33 { 10.0 } else { 0.2 }).collect();
    check(&first_day, &[Cause::StepChange]);
}

#[test]
fn where_nothing_stands_out_that_is_said() {
    assert_eq!(Given::default().diagnose().says, "nothing was spent through the gateway in this window");
    let quiet = Given { all: Some((1.5, 12)), ..Given::default() }.check(&[]);
    assert!(quiet.says.starts_with("nothing stands out: $1.50 by 12 calls"), "{}", quiet.says);
}
