//! What a gateway holds after many calls of all kinds is what it held before: memory, descriptors, calls, places, money.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::clients::{Client, End};
use super::program::Gate;
use super::upstream::{Upstream, Way};
use crate::fixture::until;

/// Clients at the same time.
const CLIENTS: usize = 16;
/// Before the first look: what is kept of calls is full by then.
const WARM_UP: usize = 4_000;
/// What an allocator, and the event store while it fills up, may add in the second half of the calls; in kilobytes.
const GROWTH_KB_MAX: u64 = 16 << 10;
/// The same in all of them.
const GROWTH_KB_MAX_OF_ALL: u64 = 64 << 10;

/// A call, and after how much of its answer its client goes away.
fn kind(id: usize) -> (Way, Option<usize>) {
    match id % 20 {
        0..4 => (Way::Quick, None),
        4 | 5 => (Way::Cut, None),
        6 => (Way::Quick, Some(1)),
        7 => (Way::Plain, Some(0)),
        8 => (Way::Stream, Some(300)),
        9 => (Way::Failure, None),
        10 | 11 => (Way::Limited, None),
        12 => (Way::Overloaded, None),
        13 => (Way::Silent, None),
        _ => (Way::Plain, None),
    }
}

fn calls(upstream: &Upstream, address: &str, next: &AtomicUsize, count: usize) -> BTreeMap<End, usize> {
    let (until, ends) = (next.load(Ordering::SeqCst) + count, Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let work = || {
                let mut client = Client::new(address);
                loop {
                    let id = next.fetch_add(1, Ordering::SeqCst);
                    if id >= until {
                        break;
                    }
                    let (way, leaves_after) = kind(id);
                    client.leaves_after = leaves_after;
                    let end = client.call(id, way, id.is_multiple_of(7));
                    assert!(upstream.asked(id) <= 1, "doubled: {id}");
                    *ends.lock().unwrap().entry(end).or_default() += 1;
                }
            };
            thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, work).unwrap();
        }
    });
    next.store(until, Ordering::SeqCst);
    ends.into_inner().unwrap()
}

/// Nothing of a call is left.
#[track_caller]
fn assert_idle(gate: &Gate) {
    let gauges = [
        "paramedic_gateway_calls_in_flight",
        "paramedic_gateway_calls_queued",
        "paramedic_gateway_limit_waiting_calls",
        "paramedic_gateway_budget_waiting_calls",
        "paramedic_gateway_budget_reserved_dollars",
        "paramedic_gateway_connections_count",
    ];
    let held = || gauges.map(|gauge| (gauge, gate.metric(gauge)));
    let idle = until(Duration::from_secs(10), || held().iter().all(|(_, value)| *value == 0.0).then_some(()));
    assert!(idle.is_some(), "{:?}", held());
    until(Duration::from_secs(5), || (gate.spent().open == 0).then_some(())).unwrap_or_else(|| panic!("{:?}", gate.spent()));
}

fn soak(count: usize) {
    let upstream = Upstream::start(WARM_UP + count + 1);
    let settings = format!(
        "[[gateway.upstreams]]\nurl = \"{}\"\n[[gateway.switches]]\nswitch = \"rate_limit_per_minute\"\nvalue = 50000000\n\
         [[gateway.switches]]\nswitch = \"max_concurrent_requests\"\nvalue = 1000\n[[gateway.switches]]\nswitch = \"daily_budget_dollars\"\nvalue = 100000\n",
        upstream.url()
    );
    let gate = Gate::start(&settings, &[]);
    let next = AtomicUsize::new(0);
    let warm = calls(&upstream, &gate.address, &next, WARM_UP);
    assert_idle(&gate);
    let (before, begun) = (gate.holds(), Instant::now());
    let first = calls(&upstream, &gate.address, &next, count / 2);
    let half = gate.holds();
    let mut ends = calls(&upstream, &gate.address, &next, count - count / 2);
    let took = begun.elapsed();
    for (end, count) in first {
        *ends.entry(end).or_default() += count;
    }
    assert_idle(&gate);
    // Connections to the upstream that are kept for the next call are no leak.
    let after = gate.holds();
    println!("{count} calls in {:.1} s ended {ends:?}", took.as_secs_f64());
    println!("resident {} kB before, {} kB at half, {} kB after", before.0, half.0, after.0);
    println!("descriptors {} before, {} after", before.1, after.1);
    for end in [End::Whole, End::Left, End::Cut, End::Status(500), End::Status(429), End::Status(529)] {
        assert!(warm.contains_key(&end) && ends.contains_key(&end), "{end:?} in {ends:?}");
    }
    assert!(!ends.keys().any(|end| matches!(end, End::Wrong(_) | End::Refused)), "{ends:?}");
    let within = after.0 <= half.0 + GROWTH_KB_MAX && after.0 <= before.0 + GROWTH_KB_MAX_OF_ALL;
    assert!(within, "memory grows: {} kB, {} kB, then {} kB", before.0, half.0, after.0);
    assert!(after.1 <= before.1 + CLIENTS + 8, "descriptors: {}, then {}", before.1, after.1);
    assert!(gate.metric_if_any("paramedic_gateway_guard_failures_total").unwrap_or(0.0) == 0.0);
    assert!(gate.metric("paramedic_gateway_handler_panics_total") == 0.0);
}

#[test]
fn gateway_restart_soak_gives_everything_back() {
    soak(12_000);
}

/// By hand, with `cargo xtask bench soak`.
#[test]
#[ignore = "takes minutes"]
fn gateway_restart_long_soak_gives_everything_back() {
    soak(std::env::var("PARAMEDIC_SOAK_CALLS").ok().and_then(|calls| calls.parse::<usize>().ok()).unwrap_or(1_000_000) * 2 / 5);
}
