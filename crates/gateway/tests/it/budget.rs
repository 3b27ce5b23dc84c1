//! Budgets: no cap is passed by calls together, nothing is lost or counted twice, and what is spent outlives a restart.

use std::sync::Arc;
use std::time::Duration;

use paramedic_gateway::budget::{Ask, Cap, Ledger, Over, PICO, Period, Purses, Reservation, Settings, Warning, Whose, Why};
use paramedic_model::{Clock, ManualClock, Timestamp, Usage};
use proptest::prelude::*;
use tokio::sync::broadcast;

mod kept;
mod race;

/// Small numbers without a pattern.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn up_to(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

pub(crate) fn at(text: &str) -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::parse(text).unwrap()))
}

pub(crate) fn noon() -> Arc<ManualClock> {
    at("2026-11-22T12:00:00Z")
}

pub(crate) fn ledger(clock: &Arc<ManualClock>) -> Arc<Ledger> {
    Ledger::open(None, Settings::default(), Arc::clone(clock) as Arc<dyn Clock>).unwrap()
}

pub(crate) fn cap(purse: &str, period: Period, pico: u64) -> Cap {
    Cap { id: format!("cap_{period:?}@{purse}").to_lowercase().into(), purse: purse.into(), period, pico, enforce: true }
}

pub(crate) fn of_user(user: &str) -> Purses<'_> {
    Purses { user: Some(user), ..Purses::default() }
}

pub(crate) async fn ask(ledger: &Arc<Ledger>, caps: &[Cap], purses: Purses<'_>, pico: u64, wait_s: u64) -> Result<Reservation, Over> {
    ledger.reserve(Ask { caps, purses, likely: pico, at_most: pico, wait: Duration::from_secs(wait_s), pause: false }).await
}

pub(crate) async fn spend(ledger: &Arc<Ledger>, caps: &[Cap], purses: Purses<'_>, pico: u64) {
    ask(ledger, caps, purses, pico, 0).await.unwrap().settle(pico, &Usage::default());
}

/// Spent, reserved and how many run, in picodollars.
pub(crate) fn stands(ledger: &Arc<Ledger>, cap: &Cap) -> (u64, u64, u32) {
    let budget = ledger.budget(cap);
    let pico = |dollars: f64| (dollars * PICO as f64).round() as u64;
    (pico(budget.spent_dollars), pico(budget.reserved_dollars), budget.running)
}

pub(crate) fn told(warnings: &mut broadcast::Receiver<Warning>) -> Vec<(u8, u64, u64)> {
    std::iter::from_fn(|| warnings.try_recv().ok()).map(|warning| (warning.percent, warning.spent, warning.cap_pico)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_while_money_is_reserved_and_is_refused_when_it_is_spent() {
    let ledger = ledger(&noon());
    let caps = [cap("user:ana", Period::Day, 100)];
    let first = ask(&ledger, &caps, of_user("ana"), 60, 0).await.unwrap();
    // The rest would do for 40, and does.
    let second = ask(&ledger, &caps, of_user("ana"), 40, 0).await.unwrap();
    assert_eq!(stands(&ledger, &caps[0]), (0, 100, 2));
    let over = ask(&ledger, &caps, of_user("ana"), 1, 0).await.unwrap_err();
    assert_eq!((over.why, over.spent, over.reserved, &*over.cap), (Why::Reserved, 0, 100, "cap_day@user:ana"));
    assert_eq!(over.resets_at, Timestamp::parse("2026-11-23T00:00:00Z"));
    // Nobody else is concerned.
    ask(&ledger, &caps, of_user("bob"), 1, 0).await.unwrap_err();
    ask(&ledger, &[], of_user("bob"), 1_000, 0).await.unwrap().release();

    let waits = tokio::spawn({
        let (ledger, caps) = (Arc::clone(&ledger), caps.clone());
        async move { ask(&ledger, &caps, of_user("ana"), 50, 10).await }
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(ledger.budget(&caps[0]).waiting, 1);
    first.settle(10, &Usage::default());
    let third = waits.await.unwrap().unwrap();
    assert_eq!(third.waited(), Duration::from_secs(3));
    assert_eq!(stands(&ledger, &caps[0]), (10, 90, 2));
    second.settle(90, &Usage::default());
    let over = ask(&ledger, &caps, of_user("ana"), 0, 10).await.unwrap_err();
    assert_eq!((over.why, over.spent), (Why::Spent, 100));
    third.settle(50, &Usage::default());
    assert_eq!(stands(&ledger, &caps[0]), (150, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_told_so_and_leaves_nothing() {
    let ledger = ledger(&noon());
    let caps = [cap("all", Period::Day, 100)];
    let runs = ask(&ledger, &caps, of_user("ana"), 100, 0).await.unwrap();
    let over = ask(&ledger, &caps, of_user("ana"), 1, 7).await.unwrap_err();
    assert_eq!(over.why, Why::Reserved);
    assert_eq!(ledger.budget(&caps[0]).waiting, 0);
    runs.release();
    assert_eq!(stands(&ledger, &caps[0]), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_first_goes_first_and_a_small_call_does_not_overtake() {
    let ledger = ledger(&noon());
    let caps = [cap("all", Period::Day, 100)];
    let (one, two) = (ask(&ledger, &caps, of_user("a"), 50, 0).await.unwrap(), ask(&ledger, &caps, of_user("a"), 50, 0).await.unwrap());
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for (i, pico) in [90, 5, 30, 5].into_iter().enumerate() {
        let (ledger, caps, order) = (Arc::clone(&ledger), caps.clone(), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            let call = ask(&ledger, &caps, of_user("b"), pico, 100).await.unwrap();
            order.lock().unwrap().push(i);
            tokio::time::sleep(Duration::from_secs(1)).await;
            call.settle(1, &Usage::default());
        }));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    one.settle(1, &Usage::default());
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(order.lock().unwrap().is_empty(), "the large one is first, and there is no room for it");
    two.settle(1, &Usage::default());
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_cap_of_his_own_holds_up_nobody_else() {
    let ledger = ledger(&noon());
    let (all, ana) = (cap("all", Period::Day, 1000), cap("user:ana", Period::Day, 100));
    let both = [all.clone(), ana.clone()];
    let runs = ask(&ledger, &both, of_user("ana"), 100, 0).await.unwrap();
    let mut waits = Box::pin(ask(&ledger, &both, of_user("ana"), 100, 60));
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut waits).await.is_err());
    // Nothing is held from the cap of all for the one that waits, and others go on.
    assert_eq!(stands(&ledger, &all), (0, 100, 1));
    let others = ask(&ledger, &both[..1], of_user("bob"), 900, 0).await.unwrap();
    runs.settle(60, &Usage::default());
    // Its own cap lets it go on now; the cap of all has too little left, and it waits there.
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut waits).await.is_err());
    assert_eq!((ledger.budget(&all).waiting, ledger.budget(&ana).waiting), (1, 0));
    others.settle(800, &Usage::default());
    assert_eq!(waits.await.unwrap().reserved(), 100);
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_while_he_waits_holds_up_nobody() {
    let ledger = ledger(&noon());
    let caps = [cap("all", Period::Day, 100)];
    let runs = ask(&ledger, &caps, of_user("a"), 60, 0).await.unwrap();
    let mut large = Box::pin(ask(&ledger, &caps, of_user("a"), 90, 60));
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut large).await.is_err());
    let mut small = Box::pin(ask(&ledger, &caps, of_user("a"), 40, 60));
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut small).await.is_err(), "it is behind the large one");
    drop(large);
    let small = small.await.unwrap();
    assert_eq!(stands(&ledger, &caps[0]), (0, 100, 2));
    drop((runs, small));
    assert_eq!(stands(&ledger, &caps[0]), (0, 0, 0));
}

#[tokio::test]
async fn a_call_that_is_forgotten_or_falls_over_costs_what_it_reserved_or_more() {
    let ledger = ledger(&noon());
    let caps = [cap("all", Period::Day, 1_000_000)];
    let call = || async { ask(&ledger, &caps, of_user("a"), 100, 0).await.unwrap() };
    drop(call().await);
    assert_eq!(stands(&ledger, &caps[0]), (0, 0, 0), "the upstream was not asked");
    let asked = call().await;
    asked.asked();
    drop(asked);
    assert_eq!(stands(&ledger, &caps[0]), (100, 0, 0));
    let grown = ledger
        .reserve(Ask { caps: &caps, purses: of_user("a"), likely: 100, at_most: 1000, wait: Duration::ZERO, pause: false })
        .await
        .unwrap();
    grown.grow(90);
    assert_eq!((grown.reserved(), stands(&ledger, &caps[0]).1), (100, 100));
    grown.grow(200);
    assert_eq!((grown.reserved(), stands(&ledger, &caps[0]).1), (300, 300));
    grown.grow(900);
    assert_eq!((grown.reserved(), stands(&ledger, &caps[0]).1), (1000, 1000));
    drop(grown);
    assert_eq!(stands(&ledger, &caps[0]), (1100, 0, 0));
    let cut = call().await;
    cut.grow(30);
    cut.settle_unknown(&Usage::default());
    call().await.settle_unknown(&Usage::default());
    assert_eq!(stands(&ledger, &caps[0]), (1230, 0, 0));
    let falls = tokio::spawn({
        let (ledger, caps) = (Arc::clone(&ledger), caps.clone());
        async move {
            let call = ask(&ledger, &caps, of_user("a"), 70, 0).await.unwrap();
            call.asked();
            panic!("as calls do");
        }
    });
    assert!(falls.await.is_err());
    assert_eq!(stands(&ledger, &caps[0]), (1300, 0, 0));
}

#[tokio::test]
async fn caps_that_are_not_enforced_and_no_caps_refuse_nothing_and_count() {
    let ledger = ledger(&noon());
    let mut watched = cap("all", Period::Month, 10);
    watched.enforce = false;
    let mut warnings = ledger.warnings();
    spend(&ledger, &[watched.clone()], of_user("a"), 25).await;
    spend(&ledger, &[watched.clone()], of_user("a"), 25).await;
    spend(&ledger, &[], of_user("a"), 50).await;
    assert_eq!(stands(&ledger, &watched), (100, 0, 0));
    assert_eq!(stands(&ledger, &cap("user:a", Period::Week, 1)).0, 100);
    assert_eq!(told(&mut warnings), [(50, 25, 10), (80, 25, 10), (90, 25, 10), (100, 25, 10)]);
    // A cap of nothing is none at all.
    assert_eq!(ask(&ledger, &[cap("user:b", Period::Day, 0)], of_user("b"), 1, 5).await.unwrap_err().why, Why::Spent);
}

#[tokio::test]
async fn warnings_come_once_and_again_when_a_cap_was_raised() {
    let clock = noon();
    let ledger = ledger(&clock);
    let mut warnings = ledger.warnings();
    let mut caps = [cap("all", Period::Day, 100)];
    spend(&ledger, &caps, of_user("a"), 49).await;
    assert_eq!(told(&mut warnings), []);
    spend(&ledger, &caps, of_user("a"), 1).await;
    spend(&ledger, &caps, of_user("a"), 1).await;
    assert_eq!(told(&mut warnings), [(50, 50, 100)]);
    spend(&ledger, &caps, of_user("a"), 40).await;
    assert_eq!(told(&mut warnings), [(80, 91, 100), (90, 91, 100)]);
    caps[0].pico = 150;
    spend(&ledger, &caps, of_user("a"), 9).await;
    assert_eq!(told(&mut warnings), [], "half of it was told");
    spend(&ledger, &caps, of_user("a"), 20).await;
    assert_eq!(told(&mut warnings), [(80, 120, 150)]);
    // A lower cap is reached at once, before the call that says so is let through.
    caps[0].pico = 120;
    assert_eq!(ask(&ledger, &caps, of_user("a"), 1, 0).await.unwrap_err().why, Why::Spent);
    assert_eq!(told(&mut warnings), [(90, 120, 120), (100, 120, 120)]);
    clock.advance(Duration::from_secs(86_400));
    spend(&ledger, &caps, of_user("a"), 60).await;
    assert_eq!(told(&mut warnings), [(50, 60, 120)]);
    // A clock that steps back does not tell of yesterday again.
    clock.set(Timestamp::parse("2026-11-22T12:00:00Z").unwrap());
    caps[0].pico = 1000;
    caps[0].enforce = false;
    spend(&ledger, &caps, of_user("a"), 1).await;
    assert_eq!(told(&mut warnings), []);
}

#[tokio::test]
async fn what_part_of_each_cap_is_spent_is_told_for_the_fullest_hundred() {
    let clock = noon();
    let ledger = ledger(&clock);
    let mut registry = prometheus_client::registry::Registry::default();
    registry.register_collector(Box::new(paramedic_gateway::budget::Used(Arc::clone(&ledger))));
    let told = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    };
    spend(&ledger, &[cap("all", Period::Day, 4 * PICO)], Purses::default(), 3 * PICO).await;
    for i in 0..150 {
        let user = format!("u{i}");
        spend(&ledger, &[cap(&format!("user:{user}"), Period::Day, 1000 * PICO)], of_user(&user), i).await;
    }
    let text = told();
    assert!(text.contains("paramedic_gateway_budget_used_ratio{cap=\"cap_day@all\"} 0.75"), "{text}");
    let shown = text.lines().filter(|line| line.starts_with("paramedic_gateway_budget_used_ratio{")).count();
    assert_eq!(shown, 100);
    assert!(text.contains("@user:u149\"") && !text.contains("@user:u0\""), "{text}");
    // A new day: nothing of it is spent.
    clock.set(Timestamp::parse("2026-11-23T00:00:01Z").unwrap());
    assert!(told().contains("paramedic_gateway_budget_used_ratio{cap=\"cap_day@all\"} 0.0"), "{}", told());
}

#[tokio::test]
async fn windows_begin_anew_and_a_clock_that_steps_back_reopens_nothing() {
    let clock = at("2026-11-30T23:59:00Z");
    let ledger = ledger(&clock);
    let periods = [Period::Day, Period::Week, Period::Month, Period::Life];
    let caps = periods.map(|period| cap("session:s", period, 100));
    let spent = |ledger: &Arc<Ledger>| caps.each_ref().map(|cap| stands(ledger, cap).0);
    let purses = Purses { session: Some("s"), ..Purses::default() };
    spend(&ledger, &caps, purses, 60).await;
    let over_midnight = ask(&ledger, &caps, purses, 30, 0).await.unwrap();
    // A Tuesday, and another month.
    clock.advance(Duration::from_secs(120));
    assert_eq!(spent(&ledger), [0, 60, 0, 60]);
    assert_eq!(stands(&ledger, &caps[0]), (0, 0, 0), "what yesterday's call reserved is yesterday's");
    assert_eq!(stands(&ledger, &caps[1]), (60, 30, 1));
    over_midnight.settle(40, &Usage::default());
    assert_eq!(spent(&ledger), [0, 100, 0, 100]);
    assert_eq!(ask(&ledger, &caps[1..2], purses, 1, 0).await.unwrap_err().resets_at, Timestamp::parse("2026-12-07T00:00:00Z"));
    assert_eq!(ask(&ledger, &caps[3..], purses, 1, 0).await.unwrap_err().resets_at, None);
    spend(&ledger, &[caps[0].clone(), caps[2].clone()], purses, 7).await;
    for (back_to, expect) in [("2026-11-30T12:00:00Z", 100), ("2026-10-01T12:00:00Z", 100), ("2026-12-01T12:00:00Z", 7)] {
        clock.set(Timestamp::parse(back_to).unwrap());
        assert_eq!(spent(&ledger)[0], expect, "{back_to}");
    }
    for wild in [i64::MIN, i64::MAX, 0] {
        clock.set(Timestamp::from_micros(wild));
        let _ = ask(&ledger, &caps, purses, 1, 0).await.map(|call| call.settle(1, &Usage::default()));
        let _ = (ledger.budgets(), ledger.top(Whose::Session, Period::Day, 9), ledger.hours("all"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_pauses_goes_on_with_a_raised_cap_or_the_next_window() {
    let clock = at("2026-11-22T23:59:30Z");
    let ledger = ledger(&clock);
    let caps = [cap("all", Period::Day, 100)];
    spend(&ledger, &caps, of_user("a"), 100).await;
    let pausing = {
        let (ledger, caps) = (Arc::clone(&ledger), caps.clone());
        move |wait_s| {
            let (ledger, caps, wait) = (Arc::clone(&ledger), caps.clone(), Duration::from_secs(wait_s));
            async move { ledger.reserve(Ask { caps: &caps, purses: of_user("a"), likely: 10, at_most: 10, wait, pause: true }).await }
        }
    };
    assert_eq!(pausing(5).await.unwrap_err().why, Why::Spent);
    let waits = tokio::spawn(pausing(600));
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Who does not pause is refused all the same.
    assert_eq!(ask(&ledger, &caps, of_user("b"), 1, 60).await.unwrap_err().why, Why::Spent);
    ledger.revise("cap_day@all", Some((200, true)));
    waits.await.unwrap().unwrap().settle(100, &Usage::default());

    ledger.revise("cap_day@all", Some((200, true)));
    let waits = tokio::spawn(async move { pausing(600).await.map(|call| call.waited()) });
    tokio::time::sleep(Duration::from_secs(1)).await;
    clock.advance(Duration::from_secs(60));
    let waited = waits.await.unwrap().unwrap();
    assert!(waited < Duration::from_secs(61), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cap_that_is_lifted_lets_everybody_go() {
    let ledger = ledger(&noon());
    let caps = [cap("all", Period::Day, 100)];
    let _runs = ask(&ledger, &caps, of_user("a"), 100, 0).await.unwrap();
    let waits: Vec<_> = (0..10)
        .map(|_| {
            let (ledger, caps) = (Arc::clone(&ledger), caps.clone());
            tokio::spawn(async move { ask(&ledger, &caps, of_user("a"), 100, 600).await.map(Reservation::release) })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(ledger.budget(&caps[0]).waiting, 10);
    ledger.revise("cap_day@all", None);
    for call in waits {
        call.await.unwrap().unwrap();
    }
    assert!(ledger.budgets().is_empty());
}

#[tokio::test]
async fn a_cap_set_while_calls_run_knows_of_them_and_states_its_bound() {
    let ledger = ledger(&noon());
    let ask = Ask { caps: &[], purses: of_user("ana"), likely: 2 * PICO, at_most: 5 * PICO, wait: Duration::ZERO, pause: false };
    let _runs = (ledger.reserve(ask).await.unwrap(), ledger.reserve(ask).await.unwrap());
    let cap = cap("user:ana", Period::Day, 10 * PICO);
    let seen = ledger.budget(&cap);
    spend(&ledger, std::slice::from_ref(&cap), of_user("ana"), PICO).await;
    let budget = ledger.budget(&cap);
    assert_eq!((seen.spent_dollars, seen.reserved_dollars, seen.at_most_reserved_dollars, seen.running), (0.0, 4.0, 10.0, 2));
    assert_eq!((budget.spent_dollars, budget.reserved_dollars, budget.remaining_dollars), (1.0, 4.0, 5.0));
    assert_eq!((budget.worst_case_dollars, budget.share, budget.running), (11.0, 0.1, 2));
    assert_eq!(ledger.budgets(), [budget]);
}

#[tokio::test]
async fn top_spenders_their_tokens_and_their_hours_are_known() {
    let clock = noon();
    let ledger = ledger(&clock);
    let usage = Usage { input_tokens: 100, output_tokens: 20, cache_read_tokens: 1000, cache_creation_tokens: 50, ..Usage::default() };
    for (user, model, calls, pico) in [("ana", "opus", 1, 60 * PICO), ("bob", "haiku", 1000, PICO / 50), ("eve", "opus", 2, 10 * PICO)] {
        for _ in 0..calls {
            let purses = Purses { user: Some(user), model: Some(model), ..Purses::default() };
            ask(&ledger, &[], purses, 1, 0).await.unwrap().settle(pico, &usage);
        }
    }
    let top = ledger.top(Whose::User, Period::Day, 2);
    let shown: Vec<_> = top.iter().map(|spender| (&*spender.name, spender.dollars, spender.calls, spender.share)).collect();
    assert_eq!(shown, [("user:ana", 60.0, 1, 0.6), ("user:bob", 20.0, 1000, 0.2)]);
    assert_eq!((top[1].cache_read_tokens, top[1].tokens_per_call), (1_000_000, 1170.0));
    let models: Vec<_> =
        ledger.top(Whose::Model, Period::Month, 9).into_iter().map(|spender| (spender.name.into_string(), spender.calls)).collect();
    assert_eq!(models, [("model:opus".to_owned(), 3), ("model:haiku".to_owned(), 1000)]);
    clock.advance(Duration::from_secs(3 * 3600));
    spend(&ledger, &[], of_user("ana"), 5 * PICO).await;
    let hours = ledger.hours("all").unwrap();
    assert_eq!(hours.len(), 48);
    let busy: Vec<_> =
        hours.iter().filter(|hour| hour.calls > 0).map(|hour| (hour.at.time_of_day(), hour.dollars.round(), hour.calls)).collect();
    assert_eq!(busy, [("12:00:00".to_owned(), 100.0, 1003), ("15:00:00".to_owned(), 5.0, 1)]);
    clock.advance(Duration::from_secs(46 * 3600));
    let left: f64 = ledger.hours("user:ana").unwrap().iter().map(|hour| hour.dollars).sum();
    assert_eq!(left, 5.0);
    assert!(ledger.hours("user:nobody").is_none() && ledger.top(Whose::User, Period::Day, 9).is_empty());
}

#[tokio::test]
async fn strangers_without_end_are_counted_together_and_stop_nobody() {
    let settings = Settings { purses_max: 100, ..Settings::default() };
    let ledger = Ledger::open(None, settings, noon()).unwrap();
    let known = [cap("user:u7", Period::Day, 10)];
    for i in 0..1000 {
        let name = format!("u{i}");
        spend(&ledger, &[cap(&format!("user:{name}"), Period::Day, 10)], of_user(&name), 10).await;
    }
    assert_eq!(&*ledger.top(Whose::User, Period::Day, 1)[0].name, "user:other");
    assert_eq!(ledger.top(Whose::User, Period::Day, 1)[0].calls, 900);
    assert_eq!(ask(&ledger, &known, of_user("u7"), 1, 0).await.unwrap_err().why, Why::Spent, "who is known keeps his cap");
    ask(&ledger, &[cap("user:u999", Period::Day, 10)], of_user("u999"), 1, 0).await.unwrap();
}

#[derive(Debug, Clone)]
enum Step {
    Ask { user: u8, pico: u64 },
    Grow { which: usize, pico: u64 },
    Settle { which: usize, pico: u64 },
    Drop { which: usize },
    Release { which: usize },
    Pass { hours: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u8..3, 1u64..200).prop_map(|(user, pico)| Step::Ask { user, pico }),
        1 => (any::<usize>(), 1u64..400).prop_map(|(which, pico)| Step::Grow { which, pico }),
        2 => (any::<usize>(), 0u64..300).prop_map(|(which, pico)| Step::Settle { which, pico }),
        1 => any::<usize>().prop_map(|which| Step::Drop { which }),
        1 => any::<usize>().prop_map(|which| Step::Release { which }),
        1 => (1u64..30).prop_map(|hours| Step::Pass { hours }),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens, what is spent and what is reserved is the sum of the calls, now and after a restart.
    #[test]
    fn nothing_is_lost_or_counted_twice(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let clock = noon();
            let open = || Ledger::open(Some(dir.path()), Settings::default(), Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
            let ledger = open();
            let caps: Vec<Cap> =
                ["all", "user:u0", "user:u1", "user:u2"].map(|purse| cap(purse, Period::Month, u64::MAX)).into_iter().collect();
            let (mut running, mut spent) = (Vec::<(u8, u64, Reservation)>::new(), [0u64; 3]);
            for step in steps {
                let len = running.len().max(1);
                match step {
                    Step::Ask { user, pico } => {
                        let name = format!("u{user}");
                        let mine = [caps[0].clone(), caps[usize::from(user) + 1].clone()];
                        running.push((user, 0, ask(&ledger, &mine, of_user(&name), pico, 0).await.unwrap()));
                    }
                    Step::Grow { which, pico } => {
                        if let Some((_, known, call)) = running.get_mut(which % len) {
                            call.grow(pico);
                            *known = pico.max(*known);
                        }
                    }
                    Step::Pass { hours } => clock.advance(Duration::from_secs(hours * 900)),
                    Step::Settle { which, .. } | Step::Drop { which } | Step::Release { which } if which % len < running.len() => {
                        let (user, known, call) = running.swap_remove(which % len);
                        spent[usize::from(user)] += match step {
                            Step::Settle { pico, .. } => {
                                call.settle(pico, &Usage::default());
                                pico
                            }
                            Step::Drop { .. } => {
                                let cost = if known > 0 { call.reserved().max(known) } else { 0 };
                                drop(call);
                                cost
                            }
                            _ => {
                                call.release();
                                0
                            }
                        };
                    }
                    _ => {}
                }
                let reserved: u64 = running.iter().map(|(_, _, call)| call.reserved()).sum();
                assert_eq!(stands(&ledger, &caps[0]), (spent.iter().sum(), reserved, running.len() as u32));
                for user in 0..3u8 {
                    let mine = running.iter().filter(|(other, ..)| *other == user);
                    let reserved: u64 = mine.map(|(_, _, call)| call.reserved()).sum();
                    let (is, will_be, _) = stands(&ledger, &caps[usize::from(user) + 1]);
                    assert_eq!((is, will_be), (spent[usize::from(user)], reserved));
                }
            }
            // The process ends with calls that run: they count as spent at what they reserved.
            for (user, _, call) in &running {
                spent[usize::from(*user)] += call.reserved();
            }
            ledger.close();
            let again = open();
            for user in 0..3usize {
                assert_eq!(stands(&again, &caps[user + 1]), (spent[user], 0, 0));
            }
            assert_eq!(stands(&again, &caps[0]).0, spent.iter().sum::<u64>());
        });
    }
}
