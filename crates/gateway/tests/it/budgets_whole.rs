//! Budgets through the whole gateway: parallel calls and a cap, ends of all kinds, restarts, and what callers are told.

use std::sync::Arc;
use std::time::Duration;

use paramedic_gateway::Outcome;
use paramedic_gateway::budget::{Budget, Period, Warning, Whose};
use serde_json::json;

use crate::model_api::{Call, Does, INPUT_PICO, OUTPUT_PICO, Whole, named, raw, send};
use crate::proxy::eventually;
use crate::upstream::{Got, RawClient};

const HOUR: Duration = Duration::from_secs(3_600);
const PICO: f64 = 1e12;
const MAX_TOKENS: u64 = 400;

fn dollars(pico: u64) -> f64 {
    pico as f64 / PICO
}

fn racing(user: &str, output: u64) -> Call {
    Call::of(user).stream(1, 3).output(output).with("max_tokens", json!(MAX_TOKENS))
}

/// What a call costs that writes so many tokens, by the API's own count.
fn cost(call: &Call, output: u64) -> u64 {
    call.body.to_string().len() as u64 / 4 * INPUT_PICO + output * OUTPUT_PICO
}

fn budget(whole: &Whole, id: &str) -> Budget {
    whole.gateway.ledger().budgets().into_iter().find(|budget| &*budget.id == id).expect("a budget")
}

/// The money of this user that is spent today, in picodollars.
fn spent(whole: &Whole, user: &str) -> u64 {
    let all = whole.gateway.ledger().top(Whose::User, Period::Day, 1_000);
    let name = format!("user:{user}");
    all.iter().find(|one| *one.name == *name).map_or(0, |one| (one.dollars * PICO).round() as u64)
}

/// One run: how far the cap was passed, in calls, and how many were refused.
async fn race(whole: &Arc<Whole>, calls: u64, run: u64) -> (f64, usize) {
    let user = format!("race-{calls}-{run}");
    let one = cost(&racing(&user, MAX_TOKENS), MAX_TOKENS);
    let cap = 4 * one;
    let id = whole.set("daily_budget_dollars", json!(dollars(cap)), &format!("user:{user}"), HOUR);
    let tasks: Vec<_> = (0..calls)
        .map(|call| {
            let (whole, call) = (Arc::clone(whole), racing(&user, 50 + (call * 97 + run * 31) % (MAX_TOKENS - 49)));
            tokio::spawn(async move { whole.ask(&call).await })
        })
        .collect();
    let mut refused = 0;
    for task in tasks {
        let got = task.await.unwrap();
        if got.status() == 200 {
            assert!(got.body.ends_with(b"\"message_stop\"}\n\n"));
            continue;
        }
        refused += 1;
        // The one refusal there may be: all of the money is spent. While some is reserved only, calls wait.
        let said = String::from_utf8_lossy(&got.body).into_owned();
        assert!(got.status() == 429 && said.contains("billing_error"), "refused while money was left: {said}");
        assert_eq!(got.header("x-should-retry"), Some("false"));
    }
    whole.record(&user).await;
    let stands = budget(whole, &id);
    assert_eq!((stands.reserved_dollars, stands.running, stands.waiting), (0.0, 0, 0));
    let (records, spent) = (whole.records(&user), (stands.spent_dollars * PICO).round() as u64);
    let told: u64 = records.iter().filter_map(|record| record.cost_pico).sum();
    assert_eq!(told, spent, "the records and the ledger");
    assert!(spent >= cap, "run {run}: money is left, {spent} of {cap}, though {refused} of {calls} calls were refused");
    assert!(spent <= cap + one, "run {run}: {spent} of {cap} is more than one call over");
    whole.clear(&id);
    ((spent - cap) as f64 / one as f64, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_calls_never_pass_a_cap_by_more_than_one_of_them() {
    let whole = Arc::new(Whole::start().await);
    for calls in [50, 500] {
        let (mut worst, mut refused) = (0.0_f64, 0);
        for run in 0..20 {
            let (over, of_run) = race(&whole, calls, run).await;
            (worst, refused) = (worst.max(over), refused + of_run);
        }
        println!("{calls} parallel calls, 20 runs: at worst {worst:.2} calls over the cap, {refused} refused, none while money was left");
    }
    whole.is_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_end_of_a_call_settles_its_money() {
    let whole = Arc::new(Whole::start().await);
    let api = &whole.api;
    api.model("cuts", Does::Cuts);
    api.model("hangs", Does::Hangs);
    api.model("stalls", Does::Stalls(Duration::from_secs(5)));
    api.model("fails", Does::Fails(529, String::new()));
    whole.set("daily_budget_dollars", json!(100), "all", HOUR);
    whole.set("between_tokens_timeout_s", json!(1), "all", HOUR);
    whole.set("first_byte_timeout_s", json!(1), "all", HOUR);
    // Each for a user of its own: what the end is, and whether something is spent.
    let call = |user: &str, model: &str| Call::of(user).model(model).stream(10, 20).output(100);
    for (user, model, outcome, costs) in [
        ("whole", "claude-x", Outcome::Answered, true),
        ("cut", "cuts", Outcome::Cut, true),
        ("stalled", "stalls", Outcome::TimedOut, true),
        ("hung", "hangs", Outcome::TimedOut, true),
        ("failed", "fails", Outcome::Answered, false),
    ] {
        let call = call(user, model);
        whole.ask(&call).await;
        let record = whole.record(user).await;
        assert_eq!(record.outcome, outcome, "{user}");
        let (spent, most) = (spent(&whole, user), cost(&call, 100) * 2);
        assert_eq!(spent > 0, costs, "{user}: {spent}");
        assert!(spent <= most, "{user}: {spent} of {most}");
        if outcome == Outcome::Answered && costs {
            assert_eq!(spent, cost(&call, 100));
        }
    }
    // A client that goes away in the middle, and one that goes away before the beginning.
    for (user, model) in [("gone", "claude-x"), ("gone-early", "hangs")] {
        let mut client = RawClient::connect(whole.address).await;
        client.send(&call(user, model).paced(10, 100).bytes()).await;
        if user == "gone" {
            client.read_until(b"content_block_delta").await.unwrap();
        } else {
            eventually("it is asked", || !whole.api.seen(user).is_empty()).await;
        }
        drop(client);
        let record = whole.record(user).await;
        assert_eq!(record.outcome, Outcome::ClientGone, "{user}");
        assert!(spent(&whole, user) > 0, "{user}");
    }
    whole.is_clean().await;
}

#[tokio::test]
async fn what_never_was_sent_costs_nothing() {
    let whole = Whole::with(|settings| settings.upstreams[0].url = "http://127.0.0.1:1".to_owned()).await;
    whole.set("daily_budget_dollars", json!(1), "all", HOUR);
    let got = whole.ask(&Call::of("ana")).await;
    assert_eq!(got.status(), 502);
    assert_eq!(spent(&whole, "ana"), 0);
    whole.is_clean().await;
}

#[tokio::test]
async fn what_is_spent_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open = async || Whole::made(|_| {}, |parts| parts.data_dir = Some(dir.path().to_owned())).await;
    let call = Call::of("ana").output(50);
    let cap = cost(&call, 50) * 3;
    let mut answered = 0;
    for _ in 0..4 {
        let whole = open().await;
        whole.set("daily_budget_dollars", json!(dollars(cap)), "user:ana", HOUR);
        let got = whole.ask(&call).await;
        answered += u32::from(got.status() == 200);
        whole.record("ana").await;
        assert_eq!(spent(&whole, "ana"), cost(&call, 50) * u64::from(answered));
        whole.is_clean().await;
        whole.gateway.ledger().close();
    }
    assert_eq!(answered, 3, "three calls were in the cap");
}

/// The headers by which clients know that the money is spent, and no more of them.
fn is_the_contract(got: &Got, id: &str, period: &str) {
    let said = |name: &str| got.header(name).map(str::to_owned);
    assert_eq!(got.status(), 429);
    assert_eq!(said("x-should-retry").as_deref(), Some("false"));
    let unified = |name: &str| said(&format!("anthropic-ratelimit-unified-{name}"));
    assert_eq!(unified("status").as_deref(), Some("rejected"));
    let reset: i64 = unified("reset").unwrap().parse().unwrap();
    assert_eq!(unified("overage-reset"), unified("reset"));
    let now = paramedic_model::Clock::now(&paramedic_model::SystemClock).as_secs();
    let after: i64 = said("retry-after").unwrap().parse().unwrap();
    assert!((reset - now - after).abs() <= 2 && reset % 86_400 == 0, "{reset} {after}");
    assert_eq!(unified("overage-utilization").as_deref(), Some("1"));
    assert_eq!(unified("overage-surpassed-threshold").as_deref(), Some("1"));
    assert_eq!(unified("overage-period").as_deref(), Some(period));
    assert_eq!(unified("overage-disabled-reason").as_deref(), Some("org_spend_cap_reached"));
    assert_eq!((unified("representative-claim"), unified("overage-status")), (None, None));
    assert_eq!(named(got), format!("refused; switch={id}"));
    let body = got.json();
    assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!("billing_error")));
    assert!(body["error"]["message"].as_str().unwrap().starts_with("spend limit reached · resets "), "{body}");
}

#[tokio::test]
async fn at_the_cap_calls_are_refused_with_the_signs_that_clients_know() {
    let whole = Whole::start().await;
    for (name, period) in [("daily_budget_dollars", "daily"), ("weekly_budget_dollars", "weekly"), ("monthly_budget_dollars", "monthly")] {
        let user = format!("user-{period}");
        let id = whole.set(name, json!(0.000_01), &format!("user:{user}"), HOUR);
        assert_eq!(whole.ask(&Call::of(&user)).await.status(), 200, "while money is left a call is not refused");
        is_the_contract(&whole.ask(&Call::of(&user)).await, &id, period);
        let record = whole.record(&user).await;
        assert_eq!((record.outcome, &*record.acted[0].switch), (Outcome::Refused, &*id));
        assert_eq!(whole.api.seen(&user).len(), 1, "the upstream was asked once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_call_goes_on_when_the_cap_is_raised() {
    let whole = Arc::new(Whole::start().await);
    whole.set("budget_action", json!("pause"), "user:ana", HOUR);
    whole.set("daily_budget_dollars", json!(0.000_01), "user:ana", HOUR);
    assert_eq!(whole.ask(&Call::of("ana")).await.status(), 200);
    let waits = tokio::spawn({
        let whole = Arc::clone(&whole);
        async move { whole.ask(&Call::of("ana")).await }
    });
    eventually("it waits", || budget(&whole, "daily_budget_dollars@user:ana").waiting == 1).await;
    whole.set("daily_budget_dollars", json!(1), "user:ana", HOUR);
    let got = tokio::time::timeout(Duration::from_secs(1), waits).await.expect("within a second").unwrap();
    assert_eq!(got.status(), 200);
    // And one that waits too long is told that the money is spent.
    whole.set("queue_wait_s", json!(1), "user:ana", HOUR);
    whole.set("daily_budget_dollars", json!(0.000_01), "user:ana", HOUR);
    is_the_contract(&whole.ask(&Call::of("ana")).await, "daily_budget_dollars@user:ana", "daily");
    whole.is_clean().await;
}

#[tokio::test]
async fn a_cap_tells_of_each_part_once_and_then_calls_go_to_the_cheaper_model_for_a_while() {
    let whole = Whole::start().await;
    let mut warnings = whole.gateway.ledger().warnings();
    let mut told = || std::iter::from_fn(|| warnings.try_recv().ok()).collect::<Vec<Warning>>();
    let call = Call::of("ana").output(50);
    whole.set("budget_action", json!("cheaper"), "user:ana", HOUR);
    whole.set("daily_budget_dollars", json!(dollars(cost(&call, 50) * 10)), "user:ana", HOUR);
    let mut percents = Vec::new();
    for _ in 0..10 {
        assert_eq!(whole.ask(&call).await.header("x-paramedic"), None);
        whole.record("ana").await;
        percents.push(told().iter().map(|warning| warning.percent).collect::<Vec<_>>());
    }
    let expect: [&[u8]; 10] = [&[], &[], &[], &[], &[50], &[], &[], &[80], &[90], &[100]];
    assert_eq!(percents, expect);
    let mut models = Vec::new();
    for _ in 0..5 {
        let got = whole.ask(&call).await;
        models.push(if got.status() == 200 { got.json()["model"].as_str().unwrap().to_owned() } else { named(&got).to_owned() });
        whole.record("ana").await;
    }
    // The cheaper model's body is a few bytes longer: two of its calls fit into a fifth more than the cap.
    let refused = "refused; switch=daily_budget_dollars@user:ana";
    assert_eq!(models, ["claude-haiku-5-5", "claude-haiku-5-5", refused, refused, refused]);
    assert_eq!(told(), [], "what was told is not told with every call");
    whole.is_clean().await;
}

/// Who is taken out of a cap of all neither waits nor is refused, and for the others it stands as it stood.
#[tokio::test]
async fn one_is_taken_out_of_the_cap_of_all_and_it_stands() {
    let whole = Whole::start().await;
    whole.set("daily_budget_dollars", json!(0.000_01), "all", HOUR);
    whole.set("enforce_budget", json!(false), "user:ana", HOUR);
    for _ in 0..3 {
        assert_eq!(whole.ask(&Call::of("ana")).await.status(), 200);
        assert_eq!(whole.ask(&Call::of("bo")).await.status(), 429);
    }
    assert!(budget(&whole, "daily_budget_dollars@all").enforce);
    let all = budget(&whole, "daily_budget_dollars@all").spent_dollars;
    assert_eq!((all * PICO).round() as u64, spent(&whole, "ana"), "counted all the same");
    whole.set("enforce_budget", json!(false), "all", HOUR);
    assert_eq!(whole.ask(&Call::of("bo")).await.status(), 200);
}

/// Neither a model without a price nor a body that cannot be read is a way around a cap.
#[tokio::test]
async fn what_has_no_price_and_what_cannot_be_read_is_charged() {
    let whole = Whole::start().await;
    for user in ["unpriced", "zipped"] {
        whole.set("daily_budget_dollars", json!(0.000_01), &format!("user:{user}"), HOUR);
    }
    let call = Call::of("unpriced").model("unpriced-1").output(40);
    assert_eq!(whole.ask(&call).await.status(), 200);
    let record = whole.record("unpriced").await;
    assert_eq!(record.cost_pico, None, "no price is told");
    assert_eq!(spent(&whole, "unpriced"), record.usage.input_tokens * 5_000_000 + 40 * 25_000_000, "as the dearest common model");
    assert_eq!(whole.ask(&call).await.status(), 429);

    let call = Call::of("zipped");
    let body = call.body.to_string();
    let headers = format!("{}Content-Encoding: x-own\r\n", call.headers);
    let first = send(whole.address, &raw("/v1/messages", &headers, body.as_bytes())).await;
    assert_eq!((first.status(), first.header("x-paramedic")), (200, None));
    whole.record("zipped").await;
    assert_eq!(spent(&whole, "zipped"), cost(&call, 20));
    assert_eq!(send(whole.address, &raw("/v1/messages", &headers, body.as_bytes())).await.status(), 429);
    whole.is_clean().await;
}
