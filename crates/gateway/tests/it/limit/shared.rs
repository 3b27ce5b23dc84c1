//! Gateways that keep a limit together in a real Redis.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use paramedic_gateway::limit::redis::RedisStore;
use paramedic_gateway::limit::{Limiter, Settings, Want, What, Why};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{limit, want};

/// A server that ends with the test.
struct Redis {
    port: u16,
    server: Option<Child>,
    folder: TempDir,
}

impl Redis {
    async fn start() -> Option<Self> {
        if !Path::new("/usr/bin/redis-server").exists() {
            println!("skipped: there is no redis-server");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut redis = Self { port, server: None, folder: tempfile::tempdir().unwrap() };
        redis.run().await;
        Some(redis)
    }

    async fn run(&mut self) {
        let mut command = Command::new("/usr/bin/redis-server");
        command.args(["--port", &self.port.to_string(), "--save", "", "--bind", "127.0.0.1", "--dir"]).arg(self.folder.path());
        self.server = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        for _ in 0..500 {
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("redis-server does not listen");
    }

    fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    async fn limiter(&self) -> Arc<Limiter> {
        // Eight people's builds may run beside this test.
        let settings = Settings { shared_timeout_ms: 500, ..Settings::default() };
        let store = RedisStore::new(&format!("redis://127.0.0.1:{}/", self.port), &settings).unwrap();
        store.connect().await.unwrap();
        Limiter::with_shared(settings, Arc::new(store))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Calls without end; how many were let in is counted.
fn demand(calls: &mut JoinSet<()>, limiter: &Arc<Limiter>, want: &Want) -> Arc<AtomicU64> {
    let count = Arc::new(AtomicU64::new(0));
    for _ in 0..8 {
        let (limiter, want, count) = (Arc::clone(limiter), want.clone(), Arc::clone(&count));
        calls.spawn(async move {
            loop {
                match limiter.admit(&want).await {
                    Ok(_) => count.fetch_add(1, Ordering::Relaxed),
                    Err(held) => panic!("{held}"),
                };
            }
        });
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_keep_one_limit_through_the_death_of_redis() {
    let Some(mut redis) = Redis::start().await else { return };
    let (one, other) = (redis.limiter().await, redis.limiter().await);
    let wants = want(1, &[limit(What::Requests, 7, 6_000)]);
    let mut calls = JoinSet::new();
    let start = Instant::now();
    let counts = [demand(&mut calls, &one, &wants), demand(&mut calls, &other, &wants)];
    let all = || counts.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>();
    let rate = async |seconds: u64| {
        let (before, since) = (all(), Instant::now());
        sleep(Duration::from_secs(seconds)).await;
        (all() - before) as f64 / since.elapsed().as_secs_f64()
    };
    // Half a second's worth is there at the start.
    sleep(Duration::from_secs(8)).await;
    let expect = 50.0 + start.elapsed().as_secs_f64() * 100.0;
    let together = all() as f64;
    assert!((together - expect).abs() <= expect * 0.02, "{together} calls instead of {expect}");
    let shares: Vec<_> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    assert!(shares.iter().all(|share| *share > 200), "{shares:?}");
    assert_eq!(one.metrics().without_shared() + other.metrics().without_shared(), 0);

    redis.kill();
    sleep(Duration::from_secs(1)).await;
    let alone = rate(3).await;
    assert!((190.0..210.0).contains(&alone), "each by its own bucket: {alone} a second");
    assert!(one.metrics().without_shared() > 100 && other.metrics().without_shared() > 100);

    redis.run().await;
    sleep(Duration::from_millis(3_500)).await;
    let before = one.metrics().without_shared() + other.metrics().without_shared();
    let again = rate(4).await;
    assert!((95.0..105.0).contains(&again), "{again} a second");
    assert_eq!(one.metrics().without_shared() + other.metrics().without_shared(), before, "the store is asked for every call");
    calls.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_used_is_given_back_to_the_store() {
    let Some(redis) = Redis::start().await else { return };
    let (one, other) = (redis.limiter().await, redis.limiter().await);
    let mut wants = want(1, &[limit(What::Tokens, 7, 600), limit(What::Requests, 8, 60_000)]);
    wants.wait_at_most = Duration::from_secs(1);
    wants.tokens = 1_000;
    let mut permit = one.admit(&wants).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    let held = other.admit(&wants).await.unwrap_err();
    assert_eq!((held.why, &*held.limit), (Why::TooLong, "Tokens@7"));
    assert!((95..=101).contains(&held.retry_after.as_secs()), "{held:?}");
    permit.settle(5, 0);
    sleep(Duration::from_millis(600)).await;
    other.admit(&wants).await.unwrap().give_back();
    drop(permit);
    sleep(Duration::from_millis(200)).await;
    // Whoever goes away while he waits leaves nothing behind.
    let third = redis.limiter().await;
    let mut permit = third.admit(&wants).await.unwrap();
    permit.settle(9, 0);
    drop(permit);
    sleep(Duration::from_millis(100)).await;
    let fourth = redis.limiter().await;
    assert!(tokio::time::timeout(Duration::from_millis(100), fourth.admit(&wants)).await.is_err(), "it waits for most of a second");
    sleep(Duration::from_millis(1_500)).await;
    fourth.admit(&wants).await.unwrap();
}
