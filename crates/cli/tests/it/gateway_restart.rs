//! Calls that go on while everything around them is restarted: the gateway, its settings, the upstream, the whole program.
//!
//! Each call has a number. The upstream counts how often it was asked and how often it answered in full, the client knows
//! how its call ended, and the log of what was spent knows what it cost; the three must agree.

pub mod clients;
pub mod program;
mod soak;
pub mod upstream;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clients::{Client, Crowd, End, Stretch, call_while};
use program::{Gate, Spent, signal};
use upstream::{INPUT_TOKENS, OUTPUT_TOKENS, Upstream, Way};

use crate::fixture::until;

/// A million tokens of the model cost 3 dollars to read and 15 to write.
const PICODOLLARS: u64 = INPUT_TOKENS * 3_000_000 + OUTPUT_TOKENS * 15_000_000;

/// How much is called, and how often everything is restarted.
struct Extent {
    crowd: Crowd,
    /// Calls of each stretch at least.
    calls: usize,
    hand_overs: usize,
    reloads: usize,
    upstream_restarts: usize,
    kills: usize,
}

impl Extent {
    fn calls_max(&self) -> usize {
        self.calls * 40 + 200_000
    }
}

fn settings(upstream: &Upstream, round: usize) -> String {
    let (name, wait) = (if round.is_multiple_of(2) { "anthropic" } else { "other" }, 600 - round % 100);
    format!(
        "[gateway]\nfirst_byte_timeout_s = {wait}\ndrain_s = 20\n[[gateway.upstreams]]\nname = \"{name}\"\nurl = \"{}\"\n\
         [[gateway.switches]]\nswitch = \"rate_limit_per_minute\"\nvalue = {}\n",
        upstream.url(),
        50_000_000 + round
    )
}

/// Goes on until so many calls have begun since.
fn until_calls(next: &AtomicUsize, calls: usize, from: usize) {
    let begun = Instant::now();
    while next.load(Ordering::SeqCst) < from + calls && begun.elapsed() < Duration::from_secs(600) {
        thread::sleep(Duration::from_millis(20));
    }
}

/// Does something so many times, spread over the calls of a stretch.
fn spread(next: &AtomicUsize, calls: usize, times: usize, mut act: impl FnMut(usize)) {
    let from = next.load(Ordering::SeqCst);
    for round in 1..=times {
        until_calls(next, calls * round / (times + 1), from);
        act(round);
    }
    until_calls(next, calls, from);
}

#[track_caller]
fn assert_nothing_lost(stretch: &Stretch, gate: &Gate) {
    assert_eq!(stretch.of(&End::Refused), 0, "a connection was refused; {}", gate.home.log());
    assert!(stretch.lost.is_empty(), "answered and lost: {:?} {}", stretch.lost, gate.home.log());
    assert!(stretch.doubled.is_empty(), "doubled: {:?}", stretch.doubled);
    assert!(stretch.made_up.is_empty(), "{:?}", stretch.made_up);
}

#[track_caller]
fn assert_all_whole(stretch: &Stretch, gate: &Gate) {
    assert_nothing_lost(stretch, gate);
    assert_eq!(stretch.of(&End::Whole), stretch.calls(), "{:?} {}", stretch.ends, gate.home.log());
}

/// Exactly what these calls cost.
fn cost_of(calls: usize) -> Spent {
    let calls = calls as u64;
    Spent { calls, picodollars: calls * PICODOLLARS, output_tokens: calls * OUTPUT_TOKENS, open: 0 }
}

#[track_caller]
fn assert_spent(gate: &Gate, expected: &Spent) {
    let spent = until(Duration::from_secs(5), || Some(gate.spent()).filter(|spent| spent == expected));
    assert_eq!(spent.unwrap_or_else(|| gate.spent()), *expected);
}

/// Through everything that is done to one gateway. Gives the number of calls.
fn through_restarts(extent: &Extent) -> usize {
    let upstream = Upstream::start(extent.calls_max());
    let mut gate = Gate::start(&settings(&upstream, 0), &[]);
    let (next, address, begun) = (AtomicUsize::new(0), gate.address.clone(), Instant::now());
    let run = |meanwhile: &mut dyn FnMut(&AtomicUsize)| call_while(extent.crowd, &address, &upstream, &next, |next| meanwhile(next));

    let mut waits = Vec::new();
    let stretch = run(&mut |next| {
        spread(next, extent.calls, extent.hand_overs, |_| {
            let begun = Instant::now();
            gate.hand_over();
            waits.push(begun.elapsed().as_millis());
        });
    });
    stretch.print("hand-overs");
    println!("a hand-over took {waits:?} ms");
    assert_all_whole(&stretch, &gate);
    assert_spent(&gate, &cost_of(stretch.to));

    let stretch = run(&mut |next| {
        spread(next, extent.calls, extent.reloads, |round| {
            gate.configure(&settings(&upstream, round));
            gate.signal("HUP");
        });
    });
    stretch.print("reloads");
    assert_all_whole(&stretch, &gate);
    let log = gate.home.log();
    assert_eq!(log.matches("settings and rules read again").count(), extent.reloads, "{log}");
    assert_spent(&gate, &cost_of(stretch.to));
    let before = gate.spent();

    let stretch = run(&mut |next| spread(next, extent.calls, extent.upstream_restarts, |_| upstream.restart(Duration::from_millis(150))));
    stretch.print("restarts of the upstream");
    assert_nothing_lost(&stretch, &gate);
    let failed = stretch.calls() - stretch.of(&End::Whole);
    assert!(stretch.of(&End::Closed) == 0, "who cannot be served is told so: {:?}", stretch.ends);
    let spent = gate.spent();
    let (least, most) = (stretch.of(&End::Whole), stretch.of(&End::Whole) + failed);
    let more = spent.calls - before.calls;
    assert!((least as u64..=most as u64).contains(&more), "{spent:?} after {before:?} for {:?}", stretch.ends);
    assert!(spent.picodollars - before.picodollars >= least as u64 * PICODOLLARS, "{spent:?} after {before:?}");

    let stretch = run(&mut |next| {
        spread(next, extent.calls, extent.kills, |_| {
            gate.kill();
            gate.start_again();
        });
    });
    stretch.print("kills");
    let at_once = extent.crowd.plain + extent.crowd.streaming;
    assert!(stretch.doubled.is_empty() && stretch.made_up.is_empty(), "{:?} {:?}", stretch.doubled, stretch.made_up);
    assert!(stretch.lost.len() <= at_once * extent.kills, "only what ran is lost: {}", stretch.lost.len());
    assert!(stretch.ends.keys().all(|end| matches!(end, End::Whole | End::Refused | End::Closed | End::Cut)), "{:?}", stretch.ends);
    gate.stop();
    let after = gate.spent();
    let whole = stretch.of(&End::Whole) as u64;
    let running = (at_once * extent.kills) as u64;
    let calls = after.calls - spent.calls;
    println!("after {} kills {calls} calls are written down for {whole} that were answered", extent.kills);
    // What was written in the last milliseconds before a kill may not have come to the log.
    assert!(calls + running >= whole && calls <= whole + running, "{after:?} after {spent:?}");
    println!("{} calls in {:.0} s", stretch.to, begun.elapsed().as_secs_f64());
    stretch.to
}

#[test]
fn gateway_restart_loses_and_doubles_no_call() {
    let crowd = Crowd { plain: 16, streaming: 12, rest: Duration::from_millis(20) };
    through_restarts(&Extent { crowd, calls: 5_000, hand_overs: 3, reloads: 20, upstream_restarts: 3, kills: 2 });
}

#[test]
fn gateway_restart_of_the_whole_program_loses_no_call() {
    let upstream = Upstream::start(200_000);
    let mut gate = Gate::up(&settings(&upstream, 0));
    let (next, address) = (AtomicUsize::new(0), gate.address.clone());
    let crowd = Crowd { plain: 12, streaming: 8, rest: Duration::from_millis(20) };
    let stretch = call_while(crowd, &address, &upstream, &next, |next| spread(next, 2_500, 2, |_| gate.hand_over()));
    stretch.print("hand-overs of the whole program");
    assert_all_whole(&stretch, &gate);
    assert_spent(&gate, &cost_of(stretch.to));
}

/// While a long answer is being given, a hand-over begins, and somebody else calls. How long did he wait?
fn wait_beside_a_long_answer(gate: &Gate, upstream: &Upstream, pid: u32) -> Duration {
    thread::scope(|scope| {
        let long = scope.spawn(|| Client::new(&gate.address).call(0, Way::Long, true));
        until(Duration::from_secs(5), || (upstream.asked(0) == 1).then_some(())).expect("it is asked");
        thread::sleep(Duration::from_millis(500));
        signal(pid, "USR2");
        thread::sleep(Duration::from_millis(200));
        let begun = Instant::now();
        assert_eq!(Client::new(&gate.address).call(1, Way::Plain, true), End::Whole, "{}", gate.home.log());
        let waited = begun.elapsed();
        assert_eq!(long.join().unwrap(), End::Whole, "{}", gate.home.log());
        waited
    })
}

#[test]
fn gateway_restart_cuts_no_long_answer_and_a_gateway_alone_lets_nobody_wait_for_it() {
    let upstream = Upstream::start(10);
    let mut gate = Gate::alone(&settings(&upstream, 0));
    let first = gate.first();
    let waited = wait_beside_a_long_answer(&gate, &upstream, first);
    println!("a gateway alone: a call waited {} ms beside an answer of 5 s", waited.as_millis());
    assert!(waited < Duration::from_secs(2), "{waited:?}");
    until(Duration::from_secs(10), || (!gate.is_alive(first)).then_some(())).expect("the first one ends");

    let upstream = Upstream::start(10);
    let gate = Gate::start(&settings(&upstream, 0), &[]);
    let waited = wait_beside_a_long_answer(&gate, &upstream, gate.pid());
    // Only one process can have the data: the next one waits for it, and calls wait with it.
    println!("a gateway with data: a call waited {} ms beside an answer of 5 s", waited.as_millis());
    assert_spent(&gate, &cost_of(2));
}

/// By hand, with `cargo xtask bench soak`.
#[test]
#[ignore = "takes many minutes"]
fn gateway_restart_a_million_calls() {
    let calls = std::env::var("PARAMEDIC_SOAK_CALLS").ok().and_then(|calls| calls.parse::<usize>().ok()).unwrap_or(1_000_000) / 4;
    let crowd = Crowd { plain: 48, streaming: 40, rest: Duration::ZERO };
    let times = |each: usize| (calls / each).max(1);
    let done = through_restarts(&Extent {
        crowd,
        calls,
        hand_overs: times(12_500),
        reloads: times(2_500),
        upstream_restarts: times(12_500),
        kills: times(25_000),
    });
    assert!(done >= calls * 4, "{done}");
}
