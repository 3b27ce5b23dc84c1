//! Many calls at the same time against a cap that is worth few.

use std::sync::Arc;
use std::time::Duration;

use paramedic_gateway::budget::{Ask, Cap, Ledger, Period, Purses, Settings, Why};
use paramedic_model::{SystemClock, Usage};

use super::{Dice, cap, noon, stands};

/// Picodollars of a token.
const PRICE: u64 = 20_000_000;
const MAX_TOKENS: u64 = 1000;
/// The most that one call costs.
const CALL: u64 = (MAX_TOKENS + INPUT_TOKENS) * PRICE;
const INPUT_TOKENS: u64 = 50;
const CAP_CALLS: u64 = 4;

/// One call, as the gateway makes it: it is estimated, waits, streams, passes its estimate perhaps, and ends somehow.
async fn call(ledger: Arc<Ledger>, caps: Vec<Cap>, seed: u64, longest: Duration) -> Result<u64, (Why, u64, u64)> {
    let mut dice = Dice::new(seed);
    let tokens = dice.up_to(MAX_TOKENS + 1);
    let likely = (ledger.outputs().likely("m", "a", MAX_TOKENS) + INPUT_TOKENS) * PRICE;
    let purses = Purses { user: Some("ana"), model: Some("m"), session: Some("s"), ..Purses::default() };
    let wait = Duration::from_secs(600);
    let call = ledger.reserve(Ask { caps: &caps, purses, likely, at_most: CALL, wait, pause: false }).await;
    let call = call.map_err(|over| (over.why, over.spent, over.cap_pico))?;
    call.asked();
    for part in 1..=4 {
        tokio::time::sleep(longest * u32::try_from(dice.up_to(100)).unwrap() / 400).await;
        call.grow((INPUT_TOKENS + tokens * part / 4) * PRICE);
    }
    let cost = (INPUT_TOKENS + tokens) * PRICE;
    match dice.up_to(10) {
        0 => call.settle_unknown(&Usage::default()),
        1 => {
            // What is dropped costs what it held, if that is more than what is known.
            let held = call.reserved().max(cost);
            drop(call);
            return Ok(held);
        }
        _ => {
            ledger.outputs().wrote("m", "a", tokens);
            call.settle(cost, &Usage { output_tokens: tokens, ..Usage::default() });
        }
    }
    Ok(cost)
}

async fn race(ledger: Arc<Ledger>, calls: u64, run: u64, longest: Duration) -> u64 {
    let caps = vec![
        cap("all", Period::Day, CAP_CALLS * CALL),
        cap("user:ana", Period::Month, CAP_CALLS * CALL),
        cap("session:s", Period::Life, u64::MAX),
    ];
    let tasks: Vec<_> = (0..calls).map(|i| tokio::spawn(call(Arc::clone(&ledger), caps.clone(), run * 10_000 + i, longest))).collect();
    let mut spent = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(cost) => spent += cost,
            Err((why, spent, cap)) => assert!(why == Why::Spent && spent >= cap, "refused while money was left: {why:?} {spent} of {cap}"),
        }
    }
    assert_eq!(stands(&ledger, &caps[0]), (spent, 0, 0), "what the calls say and what the ledger says");
    assert_eq!(stands(&ledger, &caps[1]), (spent, 0, 0));
    assert!(spent >= CAP_CALLS * CALL, "run {run}: money is left, {spent}, though all calls but these were refused");
    assert!(spent <= (CAP_CALLS + 1) * CALL, "run {run}: {spent} is more than one call over");
    spent - CAP_CALLS * CALL
}

/// 20 runs of 50 and of 500 calls, on a clock of their own.
#[tokio::test(start_paused = true)]
async fn calls_at_the_same_time_never_pass_a_cap_by_more_than_one_of_them() {
    for calls in [50, 500] {
        let mut worst = 0;
        for run in 0..20 {
            let ledger = Ledger::open(None, Settings::default(), noon()).unwrap();
            worst = worst.max(race(ledger, calls, run, Duration::from_secs(30)).await);
        }
        println!("{calls} calls: at worst {:.2} calls over", worst as f64 / CALL as f64);
    }
}

/// The same with callers whose outputs are known from before.
#[tokio::test(start_paused = true)]
async fn nor_when_estimates_are_from_history() {
    for calls in [50, 500] {
        for run in 0..20 {
            let ledger = Ledger::open(None, Settings::default(), noon()).unwrap();
            let mut dice = Dice::new(run + 77);
            for _ in 0..40 {
                ledger.outputs().wrote("m", "a", dice.up_to(MAX_TOKENS + 1));
            }
            race(ledger, calls, run + 1000, Duration::from_secs(30)).await;
        }
    }
}

/// The same with threads and a log, on the machine's own clock.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nor_when_they_really_run_at_the_same_time() {
    for calls in [50, 500] {
        for run in 0..20 {
            let dir = tempfile::tempdir().unwrap();
            let ledger = Ledger::open(Some(dir.path()), Settings::default(), Arc::new(SystemClock)).unwrap();
            race(ledger, calls, run + 2000, Duration::from_millis(4)).await;
        }
    }
}

/// What reserving and settling costs a call, with three caps and seven purses and nobody waiting. Not a test: it prints.
/// `cargo test --release -p paramedic-gateway --test it -- --ignored cost_of --nocapture`
#[tokio::test]
#[ignore = "measures; means something only with optimization"]
async fn cost_of_reserving_and_settling() {
    const CALLS: u32 = 200_000;
    let dir = tempfile::tempdir().unwrap();
    for (what, dir) in [("without a log", None), ("with a log", Some(dir.path()))] {
        let ledger = Ledger::open(dir, Settings::default(), Arc::new(SystemClock)).unwrap();
        let caps = [("all", Period::Day), ("user:ana", Period::Day), ("team:blue", Period::Month)]
            .map(|(purse, period)| cap(purse, period, u64::MAX));
        let purses = Purses {
            user: Some("ana"),
            team: Some("blue"),
            agent: Some("a1b2c3d4"),
            session: Some("0b1c2d3e-aaaa-bbbb-cccc-0123456789ab"),
            key: Some("0123456789abcdef"),
            model: Some("claude-opus-5-5"),
            plugin: None,
        };
        let mut best = Duration::MAX;
        for _ in 0..10 {
            let begin = std::time::Instant::now();
            for _ in 0..CALLS / 10 {
                let ask = Ask { caps: &caps, purses, likely: 1_000_000, at_most: 2_000_000, wait: Duration::ZERO, pause: false };
                let call = ledger.reserve(ask).await.unwrap();
                call.asked();
                call.settle(900_000, &Usage::default());
            }
            best = best.min(begin.elapsed());
        }
        println!("{what}: {} ns a call", best.as_nanos() / u128::from(CALLS / 10));
    }
}
