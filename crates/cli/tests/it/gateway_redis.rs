//! A gateway beside a real Redis: switches that other programs set there, a Redis that is large or dies, and a limit that
//! two gateways keep together.

use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::fixture::until;
use crate::gateway_restart::clients::{Client, End};
use crate::gateway_restart::program::Gate;
use crate::gateway_restart::upstream::{Upstream, Way};
use crate::needs;
use crate::programs::free_port;

const WITHIN: Duration = Duration::from_secs(20);
/// From a key that is set to its effect.
const EFFECT_WITHIN: Duration = Duration::from_secs(1);
/// A call of the user u-42, and one of somebody else.
const BLOCKED: usize = 42;
const OTHER: usize = 43;

struct Redis {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Redis {
    fn start() -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let child = Self::spawn(&folder, port);
        let redis = Self { child, port, folder };
        redis.ready();
        redis
    }

    fn spawn(folder: &tempfile::TempDir, port: u16) -> Child {
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn ready(&self) {
        until(WITHIN, || (self.ask(&["PING"]) == "PONG").then_some(())).expect("redis-server is up");
    }

    fn dies(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    fn comes_back(&mut self) {
        self.child = Self::spawn(&self.folder, self.port);
        self.ready();
    }

    /// What redis-cli prints.
    fn ask(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(arguments).stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn walks(&self) -> String {
        let all = self.ask(&["INFO", "commandstats"]);
        all.lines().find(|line| line.starts_with("cmdstat_scan:")).unwrap_or_default().split(',').next().unwrap_or_default().to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.dies();
    }
}

fn settings(upstream: &Upstream, redis: &Redis, more: &str) -> String {
    format!("[gateway.redis]\nurl = \"redis://127.0.0.1:{}/0\"\n[[gateway.upstreams]]\nurl = \"{}\"\n{more}", redis.port, upstream.url())
}

fn call(gate: &Gate, id: usize) -> End {
    Client::new(&gate.address).call(id, Way::Plain, true)
}

/// Waits until a call ends like this, and gives how long that took.
#[track_caller]
fn when(gate: &Gate, id: usize, within: Duration, is: impl Fn(&End) -> bool) -> Duration {
    let begun = Instant::now();
    let mut last = None;
    let seen = until(within, || {
        let end = call(gate, id);
        let seen = is(&end);
        last = Some(end);
        seen.then_some(())
    });
    assert!(seen.is_some(), "{last:?} after {:?}; {}", begun.elapsed(), gate.home.log());
    begun.elapsed()
}

fn refused(end: &End) -> bool {
    matches!(end, End::Status(_))
}

fn whole(end: &End) -> bool {
    *end == End::Whole
}

fn says(gate: &Gate, arguments: &[&str]) {
    let mut command = gate.home.command(arguments);
    let output = command.env("PARAMEDIC_ACTOR", "dana@example.com").output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn gateway_redis_keys_are_switches_within_a_second_and_end_by_themselves() {
    needs!("redis-server", "redis-cli");
    let (upstream, redis) = (Upstream::start(100), Redis::start());
    let fixed = "[gateway.degraded]\nway = \"fixed-answer\"\nanswer = \"later, please\"\n";
    let gate = Gate::start(&settings(&upstream, &redis, fixed), &[]);
    assert_eq!((call(&gate, BLOCKED), call(&gate, OTHER)), (End::Whole, End::Whole));

    redis.ask(&["SET", "blocked:user:u-42", "1", "EX", "5"]);
    let set = Instant::now();
    let took = when(&gate, BLOCKED, EFFECT_WITHIN, |end| *end == End::Status(403));
    println!("a block took {took:?}");
    let asked = upstream.asked(BLOCKED);
    while set.elapsed() < Duration::from_secs(4) {
        assert_eq!((call(&gate, BLOCKED), call(&gate, OTHER)), (End::Status(403), End::Whole));
        thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(upstream.asked(BLOCKED), asked, "the upstream hears nothing of it");
    when(&gate, BLOCKED, Duration::from_secs(3), whole);
    assert!((5_000..6_200).contains(&set.elapsed().as_millis()), "it ended after {:?}", set.elapsed());

    redis.ask(&["SET", "circuit_breaker:anthropic", "open"]);
    when(&gate, OTHER, EFFECT_WITHIN, refused);
    redis.ask(&["SET", "circuit_breaker:anthropic", "closed"]);
    when(&gate, OTHER, EFFECT_WITHIN, whole);

    redis.ask(&["SET", "flag:ENABLE_DEGRADED_MODE", "true"]);
    let fixed = |end: &End| matches!(end, End::Wrong(text) if text.contains("later, please"));
    when(&gate, OTHER, EFFECT_WITHIN, fixed);
    says(&gate, &["switch", "set", "degraded_mode", "off", "--for", "10m", "--reason", "we can do it"]);
    when(&gate, OTHER, EFFECT_WITHIN, whole);
    thread::sleep(Duration::from_millis(1_200));
    assert_eq!(call(&gate, OTHER), End::Whole, "what somebody sets by hand goes before what Redis says");
    says(&gate, &["switch", "clear", "degraded_mode", "--reason", "as it was"]);
    when(&gate, OTHER, EFFECT_WITHIN, fixed);
    redis.ask(&["DEL", "flag:ENABLE_DEGRADED_MODE"]);
    when(&gate, OTHER, EFFECT_WITHIN, whole);
}

#[test]
fn gateway_redis_limit_holds_and_what_cannot_be_read_is_counted() {
    needs!("redis-server", "redis-cli");
    let (upstream, redis) = (Upstream::start(100), Redis::start());
    let gate = Gate::start(&settings(&upstream, &redis, ""), &[]);
    let five = || {
        let begun = Instant::now();
        for _ in 0..5 {
            assert_eq!(call(&gate, OTHER), End::Whole);
        }
        begun.elapsed()
    };
    assert!(five() < Duration::from_secs(1));
    redis.ask(&["SET", "flag:RATE_LIMIT_PER_MINUTE", "60"]);
    thread::sleep(EFFECT_WITHIN);
    let limited = five();
    assert!((2_800..5_500).contains(&limited.as_millis()), "{limited:?}");
    says(&gate, &["switch", "set", "rate_limit_per_minute", "60000", "--for", "10m", "--reason", "enough is there"]);
    thread::sleep(Duration::from_millis(300));
    let free = five();
    assert!(free < Duration::from_secs(1), "what somebody sets by hand goes before what Redis says: {free:?}");

    assert!(gate.metric("paramedic_gateway_redis_unreadable") == 0.0);
    redis.ask(&["SET", "flag:RATE_LIMIT_PER_MINUTE", "many"]);
    redis.ask(&["SET", "circuit_breaker:anthropic", "perhaps"]);
    redis.ask(&["LPUSH", "flag:ENABLE_DEGRADED_MODE", "true"]);
    redis.ask(&["SET", "blocked:user:a b", "1"]);
    redis.ask(&["SET", "flag:NOBODY_KNOWS_IT", "1"]);
    let counted = until(WITHIN, || Some(gate.metric("paramedic_gateway_redis_unreadable")).filter(|count| *count == 4.0));
    assert!(counted.is_some(), "{}", gate.metric("paramedic_gateway_redis_unreadable"));
    assert_eq!((call(&gate, BLOCKED), call(&gate, OTHER)), (End::Whole, End::Whole));
    redis.ask(&["SET", "blocked:user:u-42", "1"]);
    when(&gate, BLOCKED, EFFECT_WITHIN, |end| *end == End::Status(403));
    redis.ask(&["DEL", "blocked:user:u-42"]);
    when(&gate, BLOCKED, EFFECT_WITHIN, whole);
}

#[test]
fn gateway_redis_that_is_large_is_not_walked() {
    needs!("redis-server", "redis-cli");
    let (upstream, redis) = (Upstream::start(100), Redis::start());
    assert_eq!(
        redis.ask(&["EVAL", "for i = 1, 60000 do redis.call('SET', 'session:' .. i, i) end return redis.call('DBSIZE')", "0"]),
        "60000"
    );
    let gate = Gate::start(&settings(&upstream, &redis, ""), &[]);
    assert_eq!((call(&gate, BLOCKED), call(&gate, OTHER)), (End::Whole, End::Whole));
    until(WITHIN, || (gate.metric("paramedic_gateway_redis_looks_total") >= 3.0).then_some(())).expect("it looks");
    redis.ask(&["SET", "blocked:user:u-42", "1"]);
    when(&gate, BLOCKED, EFFECT_WITHIN, |end| *end == End::Status(403));
    assert_eq!(call(&gate, OTHER), End::Whole);
    assert_eq!(redis.walks(), "", "a large database is not walked");
    redis.ask(&["DEL", "blocked:user:u-42"]);
    when(&gate, BLOCKED, EFFECT_WITHIN, whole);
    // Small again, it is.
    redis.ask(&["FLUSHALL"]);
    until(WITHIN, || redis.walks().starts_with("cmdstat_scan:calls=").then_some(())).expect("a small one is walked");
}

#[test]
fn gateway_redis_that_dies_stops_no_call_and_known_blocks_hold_until_their_end() {
    needs!("redis-server", "redis-cli");
    let (upstream, mut redis) = (Upstream::start(100), Redis::start());
    let gate = Gate::start(&settings(&upstream, &redis, "[[gateway.switches]]\nswitch = \"rate_limit_per_minute\"\nvalue = 60000\n"), &[]);
    assert_eq!(call(&gate, BLOCKED), End::Whole);
    redis.ask(&["SET", "blocked:user:u-42", "1", "EX", "6"]);
    redis.ask(&["SET", "blocked:user:u-44", "1"]);
    let set = Instant::now();
    when(&gate, BLOCKED, EFFECT_WITHIN, |end| *end == End::Status(403));
    assert!(gate.metric("paramedic_gateway_redis_up") == 1.0 && gate.metric("paramedic_gateway_redis_failures_total") == 0.0);
    redis.dies();
    let mut slowest = Duration::ZERO;
    while set.elapsed() < Duration::from_secs(5) {
        let begun = Instant::now();
        assert_eq!(call(&gate, OTHER), End::Whole);
        slowest = slowest.max(begun.elapsed());
        assert_eq!(call(&gate, BLOCKED), End::Status(403), "what is known holds");
        thread::sleep(Duration::from_millis(50));
    }
    println!("the slowest call beside a dead Redis took {slowest:?}");
    assert!(slowest < Duration::from_millis(700), "{slowest:?}");
    when(&gate, BLOCKED, Duration::from_millis(1_500), whole);
    assert_eq!(call(&gate, 44), End::Status(403), "what has no end holds for as long as nothing else is known");
    assert!(gate.metric("paramedic_gateway_redis_up") == 0.0 && gate.metric("paramedic_gateway_redis_failures_total") > 0.0);
    assert!(gate.metric("paramedic_gateway_limit_shared_failed_calls_total") > 0.0);

    redis.comes_back();
    let back = Instant::now();
    when(&gate, 44, Duration::from_secs(7), whole);
    println!("seen again after {:?}", back.elapsed());
    assert!(gate.metric("paramedic_gateway_redis_up") == 1.0);
    until(WITHIN, || {
        assert_eq!(call(&gate, OTHER), End::Whole);
        (gate.metric("paramedic_gateway_limit_shared_up") == 1.0).then_some(())
    })
    .expect("limits are shared again");
    redis.ask(&["SET", "blocked:user:u-42", "1"]);
    when(&gate, BLOCKED, EFFECT_WITHIN, |end| *end == End::Status(403));
}

/// Greedy clients at these gateways; how many of their calls were answered between two moments.
fn answered(gates: &[&Gate], after: Duration, during: Duration) -> usize {
    let (stop, moments, begun) = (AtomicBool::new(false), Mutex::new(Vec::new()), Instant::now());
    thread::scope(|scope| {
        for gate in gates {
            for _ in 0..6 {
                let work = || {
                    let mut client = Client::new(&gate.address);
                    while !stop.load(Ordering::Relaxed) {
                        assert_eq!(client.call(OTHER, Way::Plain, false), End::Whole);
                        moments.lock().unwrap().push(begun.elapsed());
                    }
                };
                scope.spawn(work);
            }
        }
        thread::sleep(after + during + Duration::from_millis(200));
        stop.store(true, Ordering::Relaxed);
    });
    let moments = moments.into_inner().unwrap();
    moments.iter().filter(|moment| (after..after + during).contains(*moment)).count()
}

#[test]
fn gateway_redis_keeps_one_limit_for_two_gateways() {
    needs!("redis-server", "redis-cli");
    let (upstream, mut redis) = (Upstream::start(100), Redis::start());
    let limit = "[[gateway.switches]]\nswitch = \"rate_limit_per_minute\"\nvalue = 1800\n";
    let gates = [0, 1].map(|_| Gate::start(&settings(&upstream, &redis, limit), &[]));
    let within = |got: usize, rate: usize, during: Duration| {
        #[expect(clippy::cast_precision_loss, reason = "a count of some hundreds")]
        let (got, want) = (got as f64, rate as f64 * during.as_secs_f64());
        println!("{got} calls in {during:?}, {want} are allowed");
        (got - want).abs() <= want * 0.02 + 1.0
    };
    let (settled, during) = (Duration::from_secs(2), Duration::from_secs(8));
    let got = answered(&[&gates[0], &gates[1]], settled, during);
    assert!(within(got, 30, during), "{got} calls a both");
    redis.dies();
    let during = Duration::from_secs(5);
    let got = answered(&[&gates[0]], settled, during);
    assert!(within(got, 30, during), "{got} calls at one alone");
    redis.comes_back();
    let got = answered(&[&gates[0], &gates[1]], Duration::from_secs(4), during);
    assert!(within(got, 30, during), "{got} calls at both again");
}
