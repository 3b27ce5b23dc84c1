//! Pacing against a provider with a token bucket of its own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use paramedic_gateway::limit::{Answer, Limiter, ProviderLimit, Settings, Want, What};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Refills all the time, says what remains, refuses what is too much.
struct Provider {
    limit: f64,
    level: f64,
    at: Instant,
    served: u64,
    refused: u64,
}

impl Provider {
    fn call(&mut self) -> (bool, ProviderLimit) {
        let now = Instant::now();
        self.level = (self.level + (now - self.at).as_secs_f64() * self.limit / 60.0).min(self.limit);
        self.at = now;
        let is_served = self.level >= 1.0;
        if is_served {
            self.level -= 1.0;
            self.served += 1;
        } else {
            self.refused += 1;
        }
        let resets_at = now + Duration::from_secs_f64((self.limit - self.level) / self.limit * 60.0);
        (is_served, ProviderLimit { what: What::Requests, limit: self.limit as u64, remaining: self.level as u64, resets_at })
    }
}

/// Agents that always want more, for some minutes.
async fn served_and_refused(agents: u64, limit: f64, is_paced: bool) -> (u64, u64) {
    let limiter = Limiter::new(Settings::default());
    let provider = Arc::new(Mutex::new(Provider { limit, level: limit, at: Instant::now(), served: 0, refused: 0 }));
    let mut calls = JoinSet::new();
    for agent in 0..agents {
        let (limiter, provider) = (Arc::clone(&limiter), Arc::clone(&provider));
        calls.spawn(async move {
            let pace = is_paced.then(|| "key".into());
            let want = Want { caller: agent, pace, wait_at_most: Duration::from_secs(3_600), ..Want::default() };
            loop {
                let mut permit = limiter.admit(&want).await.unwrap();
                sleep(Duration::from_millis(30 + agent)).await;
                let (is_served, says) = provider.lock().unwrap().call();
                sleep(Duration::from_millis(30)).await;
                permit.answered();
                limiter.provider_says("key", &[says]);
                sleep(Duration::from_millis(200)).await;
                permit.outcome(if is_served { Answer::Ok } else { Answer::Failed });
            }
        });
    }
    let _ = timeout(Duration::from_secs(300), async { while calls.join_next().await.is_some() {} }).await;
    let provider = provider.lock().unwrap();
    (provider.served, provider.refused)
}

#[tokio::test(start_paused = true)]
async fn calls_slow_down_before_the_provider_refuses_one() {
    for (agents, limit) in [(20, 100.0), (50, 1_000.0), (200, 1_000.0)] {
        let (_, refused_then) = served_and_refused(agents, limit, false).await;
        let (served, refused) = served_and_refused(agents, limit, true).await;
        println!("{agents} agents, {limit} a minute: {refused_then} refused; paced {refused}, {served} served of {}", limit * 6.0);
        assert!(refused_then > 100, "without pacing there would be many: {refused_then}");
        assert_eq!(refused, 0, "{agents} agents, {limit} a minute");
        // What the provider gives in five minutes, and what it had saved up, but for what is kept back.
        assert!(served as f64 > limit * 5.0 * 0.9, "{agents} agents, {limit} a minute: {served}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_holds_its_key_as_long_as_it_says() {
    let limiter = Limiter::new(Settings::default());
    let want = |pace: &str, seconds| Want { pace: Some(pace.into()), wait_at_most: Duration::from_secs(seconds), ..Want::default() };
    let mut permit = limiter.admit(&want("a", 0)).await.unwrap();
    permit.outcome(Answer::Limited { retry_after: Some(Duration::from_secs(30)) });
    let held = limiter.admit(&want("a", 29)).await.unwrap_err();
    assert_eq!((&*held.limit, held.retry_after.as_secs()), ("provider_pacing@a", 30));
    limiter.admit(&want("b", 0)).await.unwrap();
    let start = Instant::now();
    limiter.admit(&want("a", 31)).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 30);
}
