//! What the upstream gets is what the client sent, but for the bytes that a switch is about.

use std::sync::Arc;

use paramedic_gateway::Pricing;
use paramedic_model::Usage;
use serde_json::{Value, json};

use super::HOUR;
use crate::model_api::{Call, Whole, ask as call, named, raw, send};
use crate::upstream::Got;

/// A body that no program would write anew the same way.
const ODD: &str = "{ \"max_tokens\" :\t500 ,\n \"model\": \"claude-\\u0078\", \"unknown_field\" : [1.0, 1e3, \"\\u00e9\\/\"], \"messages\": [ {\"role\":\"user\",\"content\":\"H\u{00e9}llo \\ud83d\\ude00\"} ] , \"metadata\":{}, \"context_management\" : {\"edits\":[]}  }\n";

async fn ask(whole: &Whole, body: &str) -> (Got, String) {
    let got = send(whole.address, &raw("/v1/messages?beta=true", "x-user-id: ana\r\nanthropic-beta: a,b\r\n", body.as_bytes())).await;
    let sent = whole.api.upstream.last();
    assert_eq!(sent.path(), "/v1/messages?beta=true");
    assert_eq!(sent.header("anthropic-beta"), Some("a,b"));
    assert_eq!(sent.header("content-length"), Some(sent.body.len().to_string().as_str()));
    (got, String::from_utf8(sent.body).unwrap())
}

#[tokio::test]
async fn single_values_are_replaced_and_every_other_byte_stays() {
    let whole = Whole::start().await;
    let (got, sent) = ask(&whole, ODD).await;
    assert_eq!((sent.as_str(), got.header("x-paramedic")), (ODD, None));
    for (name, value, from, to, what) in [
        ("max_output_tokens", json!(60), "500", "60", "answers have at most 60 tokens"),
        ("route_to_model", json!("claude-y"), "\"claude-\\u0078\"", "\"claude-y\"", "went to claude-y"),
        ("model_routing", json!(true), "\"claude-\\u0078\"", "\"claude-haiku-5-5\"", "went to claude-haiku-5-5"),
        ("degraded_mode", json!(true), "\"claude-\\u0078\"", "\"claude-haiku-5-5\"", "went to claude-haiku-5-5"),
    ] {
        let id = whole.set(name, value, "all", HOUR);
        let (got, sent) = ask(&whole, ODD).await;
        assert_eq!(sent, ODD.replace(from, to), "{name}");
        assert_eq!((got.status(), named(&got)), (200, format!("acted; switch={id}").as_str()));
        let record = whole.record("ana").await;
        assert_eq!((&*record.acted[0].switch, &*record.acted[0].what), (&*id, what));
        assert_eq!(record.acted.len(), 1);
        whole.clear(&id);
    }
    // Together they do all of it, and are all named.
    whole.set("max_output_tokens", json!(60), "all", HOUR);
    whole.set("route_to_model", json!("claude-y"), "user:ana", HOUR);
    let (got, sent) = ask(&whole, ODD).await;
    assert_eq!(sent, ODD.replace("500", "60").replace("claude-\\u0078", "claude-y"));
    assert_eq!(named(&got), "acted; switch=route_to_model@user:ana,max_output_tokens@all");
    // What is within the limit already is not touched.
    let small = ODD.replace("500", "50").replace("claude-\\u0078", "claude-y");
    let (got, sent) = ask(&whole, &small).await;
    assert_eq!((sent, got.header("x-paramedic")), (small, None));
}

fn conversation() -> String {
    let mut messages = vec![json!({"role": "user", "content": "Begin with the task that matters."})];
    for turn in 0..20 {
        let id = format!("toolu_{turn}");
        messages.push(json!({"role": "assistant", "content": [{"type": "text", "text": "I look."}, {"type": "tool_use", "id": id, "name": "read", "input": {"at": turn}}]}));
        messages.push(json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": "found it ".repeat(40)}]}));
        messages.push(json!({"role": "assistant", "content": "It is done."}));
        messages.push(json!({"role": "user", "content": format!("And now the next, {turn}.")}));
    }
    let tools = json!([{"name": "read", "description": "reads", "input_schema": {"type": "object"}}]);
    // With blanks that nobody else would write.
    let body = json!({"model": "claude-x", "max_tokens": 100, "system": "Be well.", "tools": tools, "messages": messages});
    body.to_string().replace("},{\"role\"", "} , {\"role\"")
}

/// Every result of a tool is preceded by its use, and the first message is the user's.
fn holds_together(body: &Value) {
    let messages = body["messages"].as_array().unwrap();
    assert_eq!(messages[0]["role"], "user");
    let mut uses: Vec<&str> = Vec::new();
    for pair in messages.windows(2) {
        assert_ne!(pair[0]["role"], pair[1]["role"]);
    }
    for block in messages.iter().filter_map(|message| message["content"].as_array()).flatten() {
        match block["type"].as_str() {
            Some("tool_use") => uses.push(block["id"].as_str().unwrap()),
            Some("tool_result") => assert!(uses.contains(&block["tool_use_id"].as_str().unwrap()), "{block}"),
            _ => {}
        }
    }
}

/// Messages are left out, and every byte of what is kept is as it was.
fn is_part_of(sent: &str, body: &str) {
    let halves = |text: &str| text.split_once("\"messages\":[").map(|(before, after)| (before.to_owned(), after.to_owned())).unwrap();
    let ((before, kept), (before_then, all)) = (halves(sent), halves(body));
    assert_eq!(before, before_then);
    let messages = |half: &str| half.split(" , ").map(|one| one.trim_end_matches(',').to_owned()).collect::<Vec<_>>();
    let mut all = messages(&all).into_iter();
    for kept in messages(&kept) {
        assert!(all.any(|one| one.trim_end_matches("]}") == kept.trim_end_matches("]}")), "not as it was: {kept}");
    }
    assert!(sent.len() < body.len());
}

#[tokio::test]
async fn a_history_loses_its_middle_and_nothing_else() {
    let whole = Whole::start().await;
    let body = conversation();
    let (got, sent) = ask(&whole, &body).await;
    assert_eq!((sent.as_str(), got.header("x-paramedic")), (body.as_str(), None));
    for (name, value) in [("max_history_messages", json!(20)), ("max_history_tokens", json!(2_500))] {
        let id = whole.set(name, value, "all", HOUR);
        let (got, sent) = ask(&whole, &body).await;
        assert_eq!((got.status(), named(&got)), (200, format!("acted; switch={id}").as_str()));
        let value: Value = serde_json::from_str(&sent).unwrap();
        holds_together(&value);
        is_part_of(&sent, &body);
        let count = value["messages"].as_array().unwrap().len();
        let record = whole.record("ana").await;
        assert!(record.acted[0].what.starts_with(&format!("left out {} messages, about ", 81 - count)), "{record:?}");
        whole.clear(&id);
    }
    whole.set("max_history_messages", json!(20), "all", HOUR);
    whole.set("summarization", json!(true), "all", HOUR);
    let (got, sent) = ask(&whole, &body).await;
    assert_eq!(named(&got), "acted; switch=max_history_messages@all,summarization@all");
    holds_together(&serde_json::from_str(&sent).unwrap());
}

#[tokio::test]
async fn a_mark_for_the_cache_is_put_in_and_nothing_taken_out() {
    let whole = Whole::start().await;
    let id = whole.set("prompt_caching", json!(true), "all", HOUR);
    let system = json!([{"type": "text", "text": "Always say it well. ".repeat(1_000)}]);
    let body = Call::of("ana").with("system", system).body.to_string();
    let (got, sent) = ask(&whole, &body).await;
    assert_eq!((got.status(), named(&got)), (200, format!("acted; switch={id}").as_str()));
    let mark = r#","cache_control":{"type":"ephemeral"}"#;
    assert!(sent.contains(mark), "{}", &sent[..200]);
    assert_eq!(sent.replace(mark, ""), body);
    assert!(whole.record("ana").await.acted[0].what.starts_with("marked "));
    // Who marks himself is left alone.
    let (got, again) = ask(&whole, &sent).await;
    assert_eq!((again, got.header("x-paramedic")), (sent, None));
}

/// Writing to the cache costs more than reading anew, reading from it a tenth.
struct CachePrices;

impl Pricing for CachePrices {
    fn call(&self, _: &str, usage: &Usage) -> Option<u64> {
        Some(usage.input_tokens * 10 + usage.cache_creation_tokens * 12 + usage.cache_read_tokens)
    }
}

#[tokio::test]
async fn marks_for_the_cache_say_what_they_saved() {
    let whole = Whole::made(|_| {}, |parts| parts.pricing = Arc::new(CachePrices)).await;
    let id = whole.set("prompt_caching", json!(true), "all", HOUR);
    let system = json!([{"type": "text", "text": "Always say it well. ".repeat(1_000)}]);
    // Written first: 2 a token more than without. Then read: 9 a token less.
    for (header, tokens, words) in [("x-test-cache-write", "1000", "more for it"), ("x-test-cache-read", "5000", "less for it")] {
        let got = call(whole.address, &Call::of("ana").with("system", system.clone()).header(header, tokens)).await;
        assert_eq!(got.status(), 200);
        let record = whole.record("ana").await;
        assert!(record.acted[0].what.ends_with(words), "{record:?}");
    }
    let saved = whole.gateway.traffic().work().into_iter().find(|work| *work.switch == id).unwrap().saved_dollars.unwrap();
    assert!((saved * 1e12 - f64::from(5_000 * 9 - 1_000 * 2)).abs() < 1.0, "{saved}");
}
