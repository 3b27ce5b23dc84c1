//! What each switch does, as its caller and the upstream see it.

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Case, HOUR, Who};
use crate::model_api::{Call, Does, Whole, named};
use crate::upstream::Got;

const CHEAPER: &str = "claude-haiku-5-5";

/// Each switch, and what it is set to.
pub(crate) fn cases() -> Vec<Case> {
    let flags = [
        "blocked",
        "blocked_key:",
        "blocked_user:",
        "blocked_agent:",
        "blocked_session:",
        "blocked_model:",
        "break_off",
        "rate_limiting",
        "provider_pacing",
        "adaptive_concurrency",
        "circuit_breaker",
        "fast_fail",
        "degraded_mode",
        "model_routing",
        "summarization",
        "prompt_caching",
    ];
    let others = [
        ("rate_limit_per_minute", json!(120)),
        ("rate_limit_per_user", json!(120)),
        ("rate_limit_per_agent", json!(120)),
        ("tokens_per_minute", json!(60_000)),
        ("input_tokens_per_minute", json!(60_000)),
        ("output_tokens_per_minute", json!(60_000)),
        ("max_concurrent_requests", json!(1)),
        ("max_concurrent_agents", json!(1)),
        ("queue_wait_s", json!(1)),
        ("retry_attempts", json!(3)),
        ("breaker:", json!("open")),
        ("connect_timeout_s", json!(1)),
        ("first_byte_timeout_s", json!(1)),
        ("between_tokens_timeout_s", json!(1)),
        ("request_timeout_s", json!(1)),
        ("enforce_budget", json!(false)),
        ("daily_budget_dollars", json!(0.000_01)),
        ("weekly_budget_dollars", json!(0.000_01)),
        ("monthly_budget_dollars", json!(0.000_01)),
        ("budget_action", json!("cheaper")),
        ("route_to_model", json!("m-routed")),
        ("fallback_model", json!("m-fallback")),
        ("max_output_tokens", json!(10)),
        ("max_input_bytes", json!(1_500)),
        ("max_input_tokens", json!(300)),
        ("max_growth_tokens", json!(100)),
        ("max_history_messages", json!(4)),
        ("max_history_tokens", json!(1_200)),
    ];
    let flags = flags.into_iter().map(|name| Case { name, value: json!(true) });
    flags.chain(others.into_iter().map(|(name, value)| Case { name, value })).collect()
}

/// A listener to which nobody can connect any more: what waits for it fills its queue.
pub(crate) fn dark() -> (TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    let filling = (0..3).filter_map(|_| TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok()).collect();
    (listener, filling)
}

/// What must be so for somebody before a switch can have its effect.
pub(crate) async fn prepare(whole: &Whole, name: &str, who: &Who) {
    let api = &whole.api;
    let scope = format!("user:{}", who.user);
    match name {
        "fallback_model" => api.model(&who.model, Does::Fails(529, String::new())),
        "retry_attempts" => api.model(&who.model, Does::FailsOnce(529, "retry-after: 0\r\n".to_owned())),
        "circuit_breaker" => api.model(&who.model, Does::Fails(500, String::new())),
        "adaptive_concurrency" => api.model(&who.model, Does::FailsLate(429, Duration::from_millis(80))),
        "first_byte_timeout_s" => api.model(&who.model, Does::Late(Duration::from_millis(1_500))),
        "between_tokens_timeout_s" => api.model(&who.model, Does::Stalls(Duration::from_millis(1_600))),
        "provider_pacing" => {
            let says = |what: &str| {
                format!(
                    "anthropic-ratelimit-{what}-limit: 100\r\nanthropic-ratelimit-{what}-remaining: 0\r\nanthropic-ratelimit-{what}-reset: {{soon}}\r\n"
                )
            };
            api.model(&who.model, Does::Says(says("requests")));
        }
        "queue_wait_s" | "fast_fail" => {
            whole.set("max_concurrent_requests", json!(1), &scope, HOUR);
        }
        "summarization" => {
            whole.set("max_history_messages", json!(4), &scope, HOUR);
        }
        "enforce_budget" | "budget_action" => {
            for _ in 0..20 {
                assert_eq!(whole.ask(&who.call()).await.status(), 200);
            }
            whole.record(&who.user).await;
            let spent: u64 = whole.records(&who.user).iter().filter_map(|record| record.cost_pico).sum();
            whole.set("daily_budget_dollars", json!(spent as f64 / 1e12), &scope, HOUR);
        }
        _ => {}
    }
    // A breaker that opened stays away from those who have none set, and a key is known by its calls.
    if !matches!(name, "connect_timeout_s") {
        whole.ask(&Call::of(&who.user).session(&who.session).with("max_tokens", json!(1)).text("first")).await;
    }
}

/// Whether the effect is there, by calls of this one.
pub(crate) async fn shows(whole: &Whole, name: &str, who: &Who) -> bool {
    match name {
        "connect_timeout_s" | "first_byte_timeout_s" | "between_tokens_timeout_s" | "request_timeout_s" => {
            times_out(whole, name, who).await
        }
        "max_growth_tokens" | "max_history_messages" | "max_history_tokens" | "summarization" | "prompt_caching" => {
            edits(whole, name, who).await
        }
        "rate_limiting" | "provider_pacing" | "adaptive_concurrency" | "circuit_breaker" | "fast_fail" | "queue_wait_s" => {
            holds(whole, name, who).await
        }
        _ if name.contains("rate_limit_per") || name.contains("tokens_per_minute") || name.contains("max_concurrent") => {
            holds(whole, name, who).await
        }
        _ => single(whole, name, who).await,
    }
}

fn fresh(text: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{text} {}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn model_of(got: &Got) -> String {
    got.json()["model"].as_str().unwrap_or_default().to_owned()
}

/// Switches whose effect one call shows.
async fn single(whole: &Whole, name: &str, who: &Who) -> bool {
    let call = match name {
        "max_input_bytes" | "max_input_tokens" => who.call().text(&"word ".repeat(400)),
        "max_output_tokens" => who.call().output(50),
        "enforce_budget" | "budget_action" => who.call(),
        _ => who.call().text(&fresh("Hello.")),
    };
    let got = whole.ask(&call).await;
    let refused = |status| got.status() == status && named(&got).starts_with("refused; switch=") && got.header("x-should-retry").is_some();
    match name {
        "blocked_model" => refused(400),
        "blocked" | "blocked_key" | "blocked_user" | "blocked_agent" | "blocked_session" | "break_off" => refused(403),
        "breaker" => refused(503),
        "daily_budget_dollars" | "weekly_budget_dollars" | "monthly_budget_dollars" => refused(429),
        "max_input_bytes" => refused(413),
        "max_input_tokens" => refused(400) && String::from_utf8_lossy(&got.body).contains("prompt is too long"),
        "enforce_budget" => got.status() == 200,
        "budget_action" | "degraded_mode" | "model_routing" => acted(name, &got) && model_of(&got) == CHEAPER,
        "route_to_model" => acted(name, &got) && model_of(&got) == "m-routed",
        "fallback_model" => acted(name, &got) && model_of(&got) == "m-fallback",
        "max_output_tokens" => acted(name, &got) && got.json()["usage"]["output_tokens"] == 10,
        "retry_attempts" => acted(name, &got) && got.status() == 200,
        _ => panic!("nothing is known of {name}"),
    }
}

fn acted(name: &str, got: &Got) -> bool {
    got.status() == 200 && named(got).starts_with("acted; switch=") && named(got).contains(&format!("{name}@"))
}

/// Switches that make calls wait, or turn them away, when there are several.
async fn holds(whole: &Whole, name: &str, who: &Who) -> bool {
    let says = |got: &Got| named(got).contains(&format!("{name}@"));
    match name {
        "max_concurrent_requests" | "max_concurrent_agents" => {
            let (one, two) = (who.call().paced(2, 100), who.call().paced(2, 100));
            let two = if name == "max_concurrent_agents" { two.header("x-claude-code-agent-id", "second") } else { two };
            let at = Instant::now();
            let got = tokio::join!(whole.ask(&one), whole.ask(&two));
            let waited = says(&got.0) || says(&got.1);
            assert!(!waited || at.elapsed() > Duration::from_millis(390), "at the same time all the same");
            waited
        }
        "queue_wait_s" | "fast_fail" => {
            let first = who.call().paced(4, if name == "fast_fail" { 100 } else { 500 });
            let later = async {
                crate::proxy::eventually("the first runs", || whole.running(&who.user) > 0).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
                whole.ask(&who.call()).await
            };
            let (_, got) = tokio::join!(whole.ask(&first), later);
            let status = if name == "fast_fail" { 503 } else { 429 };
            got.status() == status && named(&got).contains("max_concurrent_requests@")
        }
        "adaptive_concurrency" => {
            let mut any = false;
            for _ in 0..2 {
                let call = || who.call().text(&fresh("Hello."));
                let calls = [call(), call(), call(), call()];
                let got = tokio::join!(whole.ask(&calls[0]), whole.ask(&calls[1]), whole.ask(&calls[2]), whole.ask(&calls[3]));
                any |= [got.0, got.1, got.2, got.3].iter().any(says);
            }
            any
        }
        "circuit_breaker" => {
            for _ in 0..7 {
                let got = whole.ask(&who.call()).await;
                if got.status() == 503 {
                    return says(&got);
                }
                assert_eq!(got.status(), 500);
            }
            false
        }
        _ => {
            let large = "word ".repeat(400);
            let call = || match name {
                "tokens_per_minute" | "input_tokens_per_minute" => who.call().text(&large),
                "output_tokens_per_minute" => who.call().with("max_tokens", json!(600)).output(600),
                _ => who.call(),
            };
            let (mut any, at) = (false, Instant::now());
            for _ in 0..2 {
                let got = whole.ask(&call()).await;
                assert_eq!(got.status(), 200, "{}", got.head);
                any |= says(&got);
            }
            assert!(any || at.elapsed() < Duration::from_secs(2), "held without a word");
            any
        }
    }
}

async fn times_out(whole: &Whole, name: &str, who: &Who) -> bool {
    let says = |got: &Got| named(got).contains(&format!("{name}@"));
    match name {
        "connect_timeout_s" | "first_byte_timeout_s" => {
            let got = whole.ask(&who.call()).await;
            got.status() == 504 && says(&got)
        }
        _ => {
            let got = whole.ask(&who.call().stream(8, 200)).await;
            let body = String::from_utf8_lossy(&got.body);
            let record = whole.record(&who.user).await;
            let by = record.acted.iter().any(|acted| acted.switch.starts_with(name));
            assert_eq!(body.contains("message_stop"), !by, "{record:?}");
            by && body.contains("event: error") && body.contains("timeout_error")
        }
    }
}

fn turns(count: usize, words: usize) -> Value {
    let text = |turn: usize| format!("{turn} {}", "word ".repeat(words));
    (0..count).map(|turn| json!({"role": if turn % 2 == 0 { "user" } else { "assistant" }, "content": text(turn)})).collect()
}

/// Switches that change what is sent: seen by what the upstream got.
async fn edits(whole: &Whole, name: &str, who: &Who) -> bool {
    let session = format!("{}-of", who.session);
    let call = match name {
        "max_growth_tokens" => {
            let first = fresh("Begin.");
            let call = who.call().text(&first);
            assert_eq!(whole.ask(&call).await.status(), 200);
            let said = json!([{"role": "user", "content": first}, {"role": "assistant", "content": "well"}, {"role": "user", "content": "word ".repeat(300)}]);
            let got = whole.ask(&call.with("messages", said)).await;
            return got.status() == 413 && named(&got).contains("max_growth_tokens@");
        }
        "prompt_caching" => who.call().with("system", json!("Always say it well. ".repeat(1_000))),
        _ => who.call().with("messages", turns(13, 80)),
    };
    let _ = session;
    let got = whole.ask(&call).await;
    assert_eq!(got.status(), 200, "{}", String::from_utf8_lossy(&got.body));
    let sent = whole.api.seen(&who.user).pop().unwrap();
    let sent: Value = serde_json::from_slice(&sent.body).unwrap();
    let messages = sent["messages"].as_array().unwrap();
    let is_other = match name {
        "max_history_messages" => messages.len() <= 4,
        "max_history_tokens" => messages.len() < 13 && sent.to_string().len() < 1_200 * 4,
        "summarization" => named(&got).contains("summarization@"),
        _ => sent.to_string().contains("cache_control"),
    };
    assert_eq!(is_other, acted(name, &got), "{name}: {} {sent}", got.head);
    is_other
}
