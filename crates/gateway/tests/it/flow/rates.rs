//! Limits on rates through the whole gateway, by a real clock: how exact they are, and how fair.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::HOUR;
use crate::model_api::{Call, Whole};
use crate::upstream::RawClient;

/// Clients that call without a pause until the end; when each of their calls was answered.
async fn demand(whole: &Arc<Whole>, agent: &str, clients: usize, until: Instant) -> Vec<Instant> {
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let (address, call) = (whole.address, Call::of("ana").header("x-agent-id", agent).bytes());
            tokio::spawn(async move {
                let (mut connection, mut answered) = (RawClient::connect(address).await, Vec::new());
                while let Ok(Some(got)) = tokio::time::timeout_at(until.into(), connection.ask(&call)).await {
                    assert_eq!(got.status(), 200, "{}", got.head);
                    answered.push(Instant::now());
                }
                answered
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    all
}

async fn limited(per_minute: u64) -> Arc<Whole> {
    let whole = Arc::new(Whole::start().await);
    whole.set("rate_limit_per_minute", json!(per_minute), "all", HOUR);
    whole
}

fn between(answered: &[Instant], from: Instant, time: Duration) -> usize {
    answered.iter().filter(|at| (from..from + time).contains(*at)).count()
}

/// 2 in 100 of this, and one call.
fn is_about(count: usize, expect: f64) -> bool {
    (count as f64 - expect).abs() <= expect * 0.02 + 1.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_600_a_minute_lets_100_through_in_ten_seconds() {
    let whole = limited(600).await;
    let begun = Instant::now();
    let answered = demand(&whole, "one", 12, begun + Duration::from_secs(11)).await;
    // The first second has its burst.
    let count = between(&answered, begun + Duration::from_secs(1), Duration::from_secs(10));
    println!("600 a minute: {count} calls in ten seconds, {} in the first", between(&answered, begun, Duration::from_secs(1)));
    assert!(is_about(count, 100.0), "{count}");
    whole.is_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute"]
async fn a_limit_of_600_a_minute_lets_600_through_in_a_minute() {
    let whole = limited(600).await;
    let begun = Instant::now();
    let answered = demand(&whole, "one", 12, begun + Duration::from_secs(61)).await;
    let count = between(&answered, begun, Duration::from_secs(60));
    println!("600 a minute: {count} calls in the first minute");
    assert!(is_about(count, 600.0), "{count}");
    whole.is_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_greedy_agents_get_the_same() {
    let whole = limited(1_200).await;
    let until = Instant::now() + Duration::from_secs(8);
    let (few, many) = tokio::join!(demand(&whole, "few", 3, until), demand(&whole, "many", 40, until));
    let mean = (few.len() + many.len()) as f64 / 2.0;
    println!("two greedy agents, with 3 and with 40 calls at a time: {} and {} calls", few.len(), many.len());
    assert!((few.len() as f64 - mean).abs() <= mean * 0.05 + 1.0, "{} and {}", few.len(), many.len());
    whole.is_clean().await;
}
