//! Limits under demand, in paused time; and with a real Redis, in real time.

mod provider;

mod shared;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use paramedic_gateway::limit::{Answer, Held, Limit, Limiter, Settings, Want, What, Why};
use proptest::prelude::*;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

fn limit(what: What, bucket: u64, count: u64) -> Limit {
    Limit { id: format!("{what:?}@{bucket}").into(), bucket, what, count }
}

fn want(caller: u64, limits: &[Limit]) -> Want {
    Want { caller, limits: limits.to_vec(), wait_at_most: Duration::from_secs(3_600), ..Want::default() }
}

/// Callers that always want more, until a minute is over; how many calls of each were let in, and when.
async fn minute(limiter: &Arc<Limiter>, wants: Vec<Want>) -> HashMap<u64, Vec<Duration>> {
    let start = Instant::now();
    let admitted: Arc<Mutex<HashMap<u64, Vec<Duration>>>> = Arc::default();
    let mut callers = JoinSet::new();
    for want in wants {
        let (limiter, admitted) = (Arc::clone(limiter), Arc::clone(&admitted));
        callers.spawn(async move {
            loop {
                let permit = limiter.admit(&want).await.unwrap();
                admitted.lock().unwrap().entry(want.caller).or_default().push(start.elapsed());
                drop(permit);
                tokio::task::yield_now().await;
            }
        });
    }
    let _ = timeout(Duration::from_secs(60) - Duration::from_millis(1), async { while callers.join_next().await.is_some() {} }).await;
    callers.shutdown().await;
    assert_eq!(limiter.waiting(), 0);
    std::mem::take(&mut *admitted.lock().unwrap())
}

fn close_to(actual: usize, expect: u64, share: f64) -> bool {
    (actual as f64 - expect as f64).abs() <= (expect as f64 * share).max(1.0)
}

#[tokio::test(start_paused = true)]
async fn a_minute_of_constant_demand_gets_the_limit() {
    for count in [6, 60, 100, 600, 1_000, 6_000, 60_000] {
        let limiter = Limiter::new(Settings::default());
        let wants = (0..20).map(|caller| want(caller % 4, &[limit(What::Requests, 1, count)])).collect();
        let all: usize = minute(&limiter, wants).await.values().map(Vec::len).sum();
        assert!(close_to(all, count, 0.02), "{count} a minute: {all}");
        assert!(limiter.is_quiet());
    }
}

/// What calls use is not what was expected of them.
#[tokio::test(start_paused = true)]
async fn tokens_are_limited_by_what_calls_used() {
    for (what, used_a_call) in [(What::Tokens, 1_900), (What::InputTokens, 1_500), (What::OutputTokens, 400)] {
        let limiter = Limiter::new(Settings::default());
        let mut one = want(1, &[limit(what, 1, 1_000_000)]);
        (one.tokens, one.output) = (2_000, 1_000);
        let mut used = 0;
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let mut permit = limiter.admit(&one).await.unwrap();
            if Instant::now() >= end {
                break;
            }
            permit.settle(1_500, 400);
            used += used_a_call;
        }
        assert!(close_to(used, 1_000_000, 0.02), "{what:?}: {used}");
        assert!(limiter.is_quiet());
    }
}

#[tokio::test(start_paused = true)]
async fn greedy_callers_get_equal_shares() {
    let shared = [limit(What::Requests, 1, 1_200)];
    let mut tokens = want(0, &[limit(What::InputTokens, 1, 1_200_000)]);
    for (one, other) in [(1, 100), (1, 1), (5, 500)] {
        let limiter = Limiter::new(Settings::default());
        let wants = (0..one + other).map(|i| want(u64::from(i >= one), &shared)).collect();
        let admitted = minute(&limiter, wants).await;
        for caller in [0, 1] {
            assert!(close_to(admitted[&caller].len(), 600, 0.05), "{one} against {other}: {}", admitted[&caller].len());
        }
    }
    // By what calls cost, not by how many they are.
    let limiter = Limiter::new(Settings::default());
    let wants = (0..11).map(|i| {
        tokens.caller = u64::from(i > 0);
        tokens.tokens = if i > 0 { 1_000 } else { 5_000 };
        tokens.clone()
    });
    let admitted = minute(&limiter, wants.collect()).await;
    let (large, small) = (admitted[&0].len() * 5, admitted[&1].len());
    assert!(large.abs_diff(small) * 20 <= large + small, "{large} thousand tokens against {small}");
    // Flows of one caller through different limits have one share together.
    let limiter = Limiter::new(Settings::default());
    let own = |i: u64| limit(What::Requests, 100 + i, 100_000);
    let wants = (0..6).map(|i| want(u64::from(i > 0), &[shared[0].clone(), own(i)])).collect();
    let admitted = minute(&limiter, wants).await;
    assert!(close_to(admitted[&0].len(), 600, 0.05), "{}", admitted[&0].len());
}

/// One caller's own limit holds him, and nobody else.
#[tokio::test(start_paused = true)]
async fn who_is_held_by_his_own_limit_holds_nobody() {
    let limiter = Limiter::new(Settings::default());
    let all = limit(What::Requests, 1, 1_200);
    let wants = (0..40).map(|i| want(i % 2, &[all.clone(), limit(What::Requests, 10 + i % 2, if i % 2 == 0 { 60 } else { 100_000 })]));
    let admitted = minute(&limiter, wants.collect()).await;
    assert!(close_to(admitted[&0].len(), 60, 0.02), "{}", admitted[&0].len());
    assert!(close_to(admitted[&1].len(), 1_140, 0.02), "{}", admitted[&1].len());
}

#[tokio::test(start_paused = true)]
async fn hundreds_wait_and_each_is_let_in_when_it_is_time() {
    let limiter = Limiter::new(Settings::default());
    let start = Instant::now();
    let mut calls = JoinSet::new();
    for i in 0..500_u64 {
        let limiter = Arc::clone(&limiter);
        calls.spawn(async move {
            sleep(Duration::from_micros(i)).await;
            let permit = limiter.admit(&want(7, &[limit(What::Requests, 1, 600)])).await.unwrap();
            let late = permit.waited;
            (i, start.elapsed(), late)
        });
    }
    sleep(Duration::from_millis(50)).await;
    assert_eq!(limiter.waiting(), 495);
    let view = &limiter.view()[0];
    assert_eq!((view.waiting, view.admitted, view.count), (495, 5, Some(600)));
    let mut times = HashMap::new();
    while let Some(call) = calls.join_next().await {
        let (i, at, waited) = call.unwrap();
        assert!(waited <= at);
        times.insert(i, at);
    }
    // Five at once, then one each tenth of a second, in the order in which they came.
    let late = (5..500).map(|i| times[&i].as_secs_f64() - 0.1 * (i - 4) as f64);
    let worst = late.map(f64::abs).fold(0.0, f64::max);
    assert!(worst < 0.003, "{worst} s from its time");
    assert!(limiter.is_quiet());
}

#[tokio::test(start_paused = true)]
async fn who_would_wait_too_long_is_told_at_once() {
    let limiter = Limiter::new(Settings::default());
    let sixty = [limit(What::Requests, 1, 60)];
    let mut calls = JoinSet::new();
    for caller in [1, 1, 1, 1, 2] {
        let limiter = Arc::clone(&limiter);
        let want = want(caller, &sixty);
        calls.spawn(async move { limiter.admit(&want).await.map(|_| ()) });
    }
    sleep(Duration::from_millis(10)).await;
    assert_eq!(limiter.waiting(), 4, "one was let in at once");
    // Three of the first caller and one of the second wait: the first one's next would be the fifth, the second one's the
    // fourth at the latest, and a third one's comes after one call of each.
    for (caller, seconds, expect) in [(1, 4, false), (1, 6, true), (2, 2, false), (2, 5, true), (3, 1, false), (3, 3, true)] {
        let mut one = want(caller, &sixty);
        one.wait_at_most = Duration::from_secs(seconds);
        let before = Instant::now();
        match timeout(Duration::from_millis(1), limiter.admit(&one)).await {
            Ok(Err(held)) => {
                assert!(!expect, "{caller} {seconds}: {held}");
                assert_eq!((held.why, &*held.limit, before.elapsed()), (Why::TooLong, "Requests@1", Duration::ZERO));
                assert!(held.retry_after > one.wait_at_most, "{held:?}");
            }
            Ok(Ok(_)) => panic!("let in"),
            Err(_) => assert!(expect, "{caller} may wait {seconds}"),
        }
    }
    while let Some(done) = calls.join_next().await {
        done.unwrap().unwrap();
    }
    assert!(limiter.is_quiet());
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_at_its_deadline_and_the_queue_is_bounded() {
    let limiter = Limiter::new(Settings { queue_calls_max: 3, ..Settings::default() });
    let one = [limit(What::Concurrent, 1, 1)];
    let permit = limiter.admit(&want(1, &one)).await.unwrap();
    let mut patient = want(2, &one);
    patient.wait_at_most = Duration::from_secs(5);
    let mut calls = JoinSet::new();
    for _ in 0..3 {
        let (limiter, patient) = (Arc::clone(&limiter), patient.clone());
        calls.spawn(async move { limiter.admit(&patient).await });
    }
    sleep(Duration::from_millis(1)).await;
    let full = limiter.admit(&patient).await.unwrap_err();
    assert_eq!(full.why, Why::QueueFull);
    let start = Instant::now();
    sleep(Duration::from_secs(2)).await;
    drop(permit);
    let first = calls.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(start.elapsed().as_secs(), 2, "as soon as there is room");
    let held: Held = calls.join_next().await.unwrap().unwrap().unwrap_err();
    assert_eq!((held.why, held.waited.as_secs(), start.elapsed().as_millis()), (Why::Waited, 5, 4_999));
    assert!(calls.join_next().await.unwrap().unwrap().is_err());
    patient.wait_at_most = Duration::ZERO;
    assert_eq!(limiter.admit(&patient).await.unwrap_err().why, Why::TooLong);
    drop(first);
    assert!(limiter.admit(&patient).await.is_ok());
    assert!(limiter.is_quiet());
}

#[tokio::test(start_paused = true)]
async fn another_count_holds_at_once_for_those_who_wait() {
    let limiter = Limiter::new(Settings::default());
    let mut calls = JoinSet::new();
    for caller in 0..20 {
        let limiter = Arc::clone(&limiter);
        calls.spawn(async move { limiter.admit(&want(caller, &[limit(What::Requests, 1, 1)])).await.map(|_| ()) });
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(limiter.waiting(), 19);
    limiter.retune(|id, bucket| {
        assert_eq!((id, bucket), ("Requests@1", 1));
        Some(600)
    });
    sleep(Duration::from_millis(502)).await;
    assert_eq!(limiter.waiting(), 14, "ten a second");
    for _ in 0..1_000 {
        limiter.retune(|_, _| Some(1));
        limiter.retune(|_, _| Some(600));
    }
    assert_eq!(limiter.waiting(), 14, "going to and fro gives nothing");
    limiter.retune(|_, _| None);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(limiter.waiting(), 0, "the limit is no more");
    while let Some(done) = calls.join_next().await {
        done.unwrap().unwrap();
    }
    let _permit = limiter.admit(&want(1, &[limit(What::Requests, 1, 1)])).await.unwrap();
    let mut hasty = want(1, &[limit(What::Requests, 1, 1)]);
    hasty.wait_at_most = Duration::from_secs(30);
    assert!(limiter.admit(&hasty).await.is_err(), "it holds again for calls that are under it");
}

#[tokio::test(start_paused = true)]
async fn calls_and_agents_at_the_same_time() {
    let limiter = Limiter::new(Settings::default());
    let limits = [limit(What::Concurrent, 1, 5), limit(What::ConcurrentAgents, 1, 2)];
    let open = Arc::new(Mutex::new((Vec::<u64>::new(), 0)));
    let mut calls = JoinSet::new();
    for i in 0..200_u64 {
        let (limiter, open, want) = (Arc::clone(&limiter), Arc::clone(&open), want(i % 10, &limits));
        calls.spawn(async move {
            let permit = limiter.admit(&want).await.unwrap();
            {
                let mut open = open.lock().unwrap();
                open.0.push(want.caller);
                let agents: std::collections::HashSet<_> = open.0.iter().collect();
                assert!(open.0.len() <= 5 && agents.len() <= 2, "{:?}", open.0);
                open.1 = open.1.max(open.0.len());
            }
            sleep(Duration::from_millis(10 + i % 7)).await;
            let mut open = open.lock().unwrap();
            let at = open.0.iter().position(|caller| *caller == want.caller).unwrap();
            open.0.remove(at);
            drop(permit);
        });
    }
    while let Some(done) = calls.join_next().await {
        done.unwrap();
    }
    assert_eq!(open.lock().unwrap().1, 2, "who is in already waits for his turn too, or others would never have one");
    assert!(limiter.is_quiet());
    let mut permits = Vec::new();
    for _ in 0..5 {
        permits.push(limiter.admit(&Want { wait_at_most: Duration::ZERO, ..want(1, &limits) }).await.unwrap());
    }
    assert!(limiter.admit(&Want { wait_at_most: Duration::ZERO, ..want(1, &limits) }).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn calls_at_the_same_time_are_halved_and_grow_again() {
    let limiter = Limiter::new(Settings::default());
    let mut one = want(1, &[]);
    one.adaptive = Some("anthropic/claude".into());
    one.wait_at_most = Duration::ZERO;
    let mut permits = Vec::new();
    for _ in 0..40 {
        permits.push(limiter.admit(&one).await.unwrap());
    }
    sleep(Duration::from_millis(100)).await;
    for mut permit in permits {
        permit.outcome(Answer::Limited { retry_after: None });
    }
    let fill = async || {
        let mut permits = Vec::new();
        while let Ok(permit) = limiter.admit(&one).await {
            permits.push(permit);
        }
        permits
    };
    let mut permits = fill().await;
    assert_eq!(permits.len(), 20, "half of those that were open, once");
    for expect in 21..30 {
        sleep(Duration::from_millis(100)).await;
        permits.iter_mut().for_each(|permit| permit.outcome(Answer::Ok));
        drop(permits);
        permits = fill().await;
        assert_eq!(permits.len(), expect, "one more for each window that went well");
    }
    drop(permits);
    assert_eq!(limiter.view()[0].id, "adaptive_concurrency@anthropic/claude");
}

/// What happens to calls by chance.
#[derive(Debug, Clone)]
struct Fate {
    caller: u64,
    at_ms: u64,
    limits: Vec<usize>,
    tokens: u64,
    may_wait_ms: u64,
    dropped_after_ms: Option<u64>,
    takes_ms: u64,
    settles: Option<(u64, u64)>,
}

fn fate() -> impl Strategy<Value = Fate> {
    let limits = prop::collection::vec(0_usize..6, 0..5);
    let numbers = (0_u64..4, 0_u64..3_000, 0_u64..4_000, prop_oneof![Just(0_u64), 1_u64..5_000]);
    let ends = (prop::option::of(0_u64..1_500), 0_u64..500, prop::option::of((0_u64..5_000, 0_u64..2_000)));
    (limits, numbers, ends).prop_map(|(limits, (caller, at_ms, tokens, may_wait_ms), (dropped_after_ms, takes_ms, settles))| Fate {
        caller,
        at_ms,
        limits,
        tokens,
        may_wait_ms,
        dropped_after_ms,
        takes_ms,
        settles,
    })
}

async fn live(limiter: Arc<Limiter>, limits: Arc<Vec<Limit>>, fate: Fate, open: Arc<Mutex<u64>>) {
    sleep(Duration::from_millis(fate.at_ms)).await;
    let mut one = want(fate.caller, &[]);
    one.limits = fate.limits.iter().map(|which| limits[*which].clone()).collect();
    one.tokens = fate.tokens;
    one.wait_at_most = Duration::from_millis(fate.may_wait_ms);
    one.adaptive = (fate.caller == 1).then(|| "m".into());
    one.pace = (fate.caller < 2).then(|| "k".into());
    let start = Instant::now();
    let admitted = match fate.dropped_after_ms {
        Some(ms) => match timeout(Duration::from_millis(ms), limiter.admit(&one)).await {
            Ok(admitted) => admitted,
            Err(_) => return,
        },
        None => limiter.admit(&one).await,
    };
    assert!(start.elapsed() <= Duration::from_millis(fate.may_wait_ms + 2), "{fate:?}");
    let Ok(mut permit) = admitted else { return };
    let is_counted = fate.limits.contains(&4);
    if is_counted {
        *open.lock().unwrap() += 1;
        assert!(*open.lock().unwrap() <= 3, "more at the same time than may be");
    }
    sleep(Duration::from_millis(fate.takes_ms)).await;
    match fate.settles {
        Some((0, _)) => permit.outcome(Answer::Limited { retry_after: Some(Duration::from_millis(50)) }),
        Some((input, output)) => permit.settle(input, output),
        None => permit.outcome(Answer::Ok),
    }
    if is_counted {
        *open.lock().unwrap() -= 1;
    }
    if fate.takes_ms == 0 { permit.give_back() } else { drop(permit) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    /// Whatever is dropped, late, refused or settled: all of it ends, and nothing of it is left.
    #[test]
    fn nothing_is_left_of_calls_that_come_and_go(fates in prop::collection::vec(fate(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let limiter = Limiter::new(Settings { queue_calls_max: 50, ..Settings::default() });
            let limits = Arc::new(vec![
                limit(What::Requests, 1, 600),
                limit(What::Requests, 2, 3_000),
                limit(What::InputTokens, 1, 600_000),
                limit(What::Tokens, 2, 2_000_000),
                limit(What::Concurrent, 1, 3),
                limit(What::ConcurrentAgents, 1, 2),
            ]);
            let open = Arc::default();
            let mut calls = JoinSet::new();
            for fate in fates {
                calls.spawn(live(Arc::clone(&limiter), Arc::clone(&limits), fate, Arc::clone(&open)));
            }
            let all = timeout(Duration::from_secs(600), async { while let Some(done) = calls.join_next().await { done.unwrap(); } });
            all.await.expect("all calls end");
            assert_eq!(limiter.waiting(), 0);
            assert!(limiter.is_quiet(), "{:?}", limiter.view());
            for view in limiter.view() {
                assert_eq!(view.waiting, 0);
                assert!(!view.what.starts_with("concurrent") || view.level == view.count.map(|count| count as f64), "{view:?}");
            }
        });
    }
}

/// Limits of callers that are gone take no room, and more limits than there is room for do not hold.
#[tokio::test(start_paused = true)]
async fn limits_of_callers_that_are_gone_are_forgotten() {
    let limiter = Limiter::new(Settings { gates_max: 2_000, ..Settings::default() });
    for caller in 0..20_000 {
        limiter.admit(&want(caller, &[limit(What::Requests, caller, 60_000)])).await.unwrap();
        if caller % 100 == 0 {
            sleep(Duration::from_secs(1)).await;
        }
    }
    assert_eq!(limiter.metrics().unlimited(), 0);
    let mut permits = Vec::new();
    for caller in 0..3_000 {
        permits.push(limiter.admit(&want(caller, &[limit(What::Concurrent, caller, 1)])).await.unwrap());
    }
    assert!((999..=1_100).contains(&limiter.metrics().unlimited()), "{}", limiter.metrics().unlimited());
    assert_eq!(limiter.view().len(), paramedic_gateway::limit::VIEW_GATES_MAX);
}

/// How long a call takes that need not wait: printed, and held to be nowhere near a tenth of a millisecond.
#[tokio::test]
async fn a_call_that_need_not_wait_is_let_in_quickly() {
    let limiter = Limiter::new(Settings::default());
    let limits = [limit(What::Requests, 1, 1_000_000_000), limit(What::Tokens, 2, 1_000_000_000), limit(What::Concurrent, 3, 1_000)];
    let mut one = want(1, &limits);
    (one.tokens, one.pace, one.adaptive) = (1, Some("key".into()), Some("anthropic/claude".into()));
    let mut best = f64::INFINITY;
    for _ in 0..20 {
        let start = std::time::Instant::now();
        for _ in 0..1_000 {
            drop(limiter.admit(&one).await.unwrap());
        }
        best = best.min(start.elapsed().as_secs_f64() / 1_000.0 * 1e9);
    }
    println!("in and out of three limits, pace and adaptive concurrency: {best:.0} ns");
    assert!(best < 100_000.0, "{best} ns");
}
