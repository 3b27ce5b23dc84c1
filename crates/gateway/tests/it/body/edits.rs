//! Changes in a body: exactly what is meant, and nothing else.

use bytes::Bytes;
use paramedic_gateway::body::{
    BODY_BYTES_MAX, Edits, Limits, Print, Ratio, Shortening, apply, cap_max_tokens, mark_for_cache, read, set_model, shorten_history,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::conversation::{oddly_written, request};

fn tree(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

fn edited(body: &[u8], edits: &Edits) -> Bytes {
    apply(&Bytes::copy_from_slice(body), edits).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_model_is_replaced_and_nothing_else(request in request(), seed: u64, model in "[a-z\"\\\\ü🦀-]{1,20}") {
        let body = oddly_written(&request, seed);
        let edits = set_model(&body, &read(&body), &model).unwrap();
        let mut expect = request;
        expect["model"] = json!(model);
        let after = edited(&body, &edits);
        prop_assert_eq!(tree(&after), expect);
        prop_assert_eq!(after.len() as u64, edits.length(body.len() as u64));
        prop_assert!(set_model(&after, &read(&after), &model).is_none());
    }

    #[test]
    fn answers_are_capped_with_their_thinking(request in request(), seed: u64, max in 1_u64..100_000) {
        let body = oddly_written(&request, seed);
        let capped = cap_max_tokens(&body, &read(&body), max);
        let enabled = request["thinking"]["type"] == "enabled";
        let asked = request["max_tokens"].as_u64();
        let lowest = max.max(if enabled { 2_048 } else { 1 });
        prop_assert_eq!(capped.is_some(), asked.is_some_and(|asked| asked > lowest));
        let Some(capped) = capped else { return Ok(()) };
        prop_assert_eq!(capped.max_tokens, lowest);
        let after = tree(&edited(&body, &capped.edits));
        let mut expect = request;
        expect["max_tokens"] = json!(capped.max_tokens);
        if enabled {
            let budget = after["thinking"]["budget_tokens"].as_u64().unwrap();
            prop_assert!(budget >= 1_024 && budget < capped.max_tokens);
            prop_assert!(budget <= expect["thinking"]["budget_tokens"].as_u64().unwrap());
            expect["thinking"]["budget_tokens"] = json!(budget);
        }
        prop_assert_eq!(after, expect);
    }

    #[test]
    fn marks_are_put_in_and_nothing_else(request in request(), seed: u64) {
        let body = oddly_written(&request, seed);
        let facts = read(&body);
        // One byte for a token: what is there is long enough, or nearly.
        let Some(marked) = mark_for_cache(&body, &facts, Ratio::exact(1.0)) else { return Ok(()) };
        let after = edited(&body, &marked.edits);
        let read_again = read(&after);
        prop_assert_eq!(read_again.marks(), facts.marks() + marked.marks);
        prop_assert!(read_again.marks() <= 4 && marked.marks > 0);
        prop_assert!(marked.bytes_marked >= 1_024);
        let after = tree(&after);
        prop_assert_eq!(unmarked(after, &request), request);
    }

    #[test]
    fn a_body_that_parses_does_so_after_all_changes(request in request(), seed: u64, changes in proptest::collection::vec((any::<u32>(), any::<u8>()), 0..3), digest: bool) {
        let mut body = oddly_written(&request, seed);
        for (at, by) in changes {
            let at = at as usize % body.len();
            body[at] = by;
        }
        let parses = serde_json::from_slice::<Value>(&body).is_ok();
        let facts = read(&body);
        let limits = Limits { messages_max: Some(1 + seed % 9), tokens_max: Some(1 + seed % 500), digest };
        let shortened = match shorten_history(&body, &facts, limits, Ratio::exact(3.0)) {
            Shortening::Shortened(shortened) => Some(shortened.edits),
            Shortening::Fits | Shortening::Stuck(_) => None,
        };
        let made = [
            set_model(&body, &facts, "other"),
            cap_max_tokens(&body, &facts, 1 + seed % 50_000).map(|capped| capped.edits),
            mark_for_cache(&body, &facts, Ratio::exact(1.0)).map(|marked| marked.edits),
            shortened,
        ];
        prop_assert!(facts.valid || made.iter().all(Option::is_none));
        for edits in made.into_iter().flatten() {
            let after = edited(&body, &edits);
            prop_assert!(read(&after).valid);
            prop_assert!(!parses || serde_json::from_slice::<Value>(&after).is_ok());
        }
        let _ = Print::of(&body, &facts);
        let _ = facts.user(&body);
    }

    #[test]
    fn changes_at_once_are_changes_one_after_the_other(request in request(), seed: u64) {
        let body = oddly_written(&request, seed);
        let facts = read(&body);
        let mut all = set_model(&body, &facts, "other").unwrap();
        let mut step = edited(&body, &all);
        if let Some(capped) = cap_max_tokens(&body, &facts, 100) {
            prop_assert!(all.join(&capped.edits));
            step = edited(&step, &cap_max_tokens(&step, &read(&step), 100).unwrap().edits);
        }
        if let Some(marked) = mark_for_cache(&body, &facts, Ratio::exact(1.0)) {
            prop_assert!(all.join(&marked.edits));
            step = edited(&step, &mark_for_cache(&step, &read(&step), Ratio::exact(1.0)).unwrap().edits);
        }
        prop_assert_eq!(edited(&body, &all), step);
        let before = all.clone();
        prop_assert!(!all.join(&set_model(&body, &facts, "third").unwrap()) && all == before);
    }
}

/// The tree without the marks that we put in, and strings where they became blocks.
fn unmarked(mut after: Value, before: &Value) -> Value {
    fn content(after: &mut Value, before: &Value) {
        let strip = |block: &mut Value, had: bool| {
            if !had && block["cache_control"] == json!({"type": "ephemeral"}) {
                block.as_object_mut().unwrap().remove("cache_control");
            }
        };
        if let (Some(_), Some([block])) = (before.as_str(), after.as_array().map(Vec::as_slice)) {
            let mut block = block.clone();
            strip(&mut block, false);
            assert_eq!(block.as_object().unwrap().len(), 2);
            *after = block["text"].clone();
        } else if let (Some(blocks), Some(befores)) = (after.as_array_mut(), before.as_array()) {
            for (block, before) in blocks.iter_mut().zip(befores) {
                strip(block, before.get("cache_control").is_some());
            }
        }
    }
    for part in ["tools", "system"] {
        if let Some(value) = after.get_mut(part) {
            content(value, &before[part]);
        }
    }
    for (message, before) in after["messages"].as_array_mut().unwrap().iter_mut().zip(before["messages"].as_array().unwrap()) {
        content(&mut message["content"], &before["content"]);
    }
    after
}

fn claude(system: Value, tools: Value, messages: Value) -> Vec<u8> {
    json!({"model": "claude-sonnet-5", "system": system, "tools": tools, "messages": messages}).to_string().into_bytes()
}

#[test]
fn marks_stand_at_the_end_of_each_part() {
    let long = "word ".repeat(2_000);
    let body = claude(
        json!(long),
        json!([{"name": "a", "description": long}, {"name": "b", "defer_loading": true}]),
        json!([{"role": "user", "content": "one"}, {"role": "assistant", "content": "x"}, {"role": "user", "content": [{"type": "text", "text": "two"},
            {"type": "text", "text": "three"}]}, {"role": "assistant", "content": "x"}, {"role": "user", "content": "last"}]),
    );
    let marked = mark_for_cache(&body, &read(&body), Ratio::exact(4.0)).unwrap();
    assert_eq!(marked.marks, 3);
    let after = tree(&edited(&body, &marked.edits));
    let mark = json!({"type": "ephemeral"});
    assert_eq!(after["tools"][0]["cache_control"], mark);
    assert_eq!(after["tools"][1].get("cache_control"), None);
    assert_eq!(after["system"], json!([{"type": "text", "text": long, "cache_control": mark}]));
    assert_eq!(after["messages"][2]["content"][1]["cache_control"], mark);
    assert_eq!(after["messages"][4], json!({"role": "user", "content": "last"}));
    assert!(marked.bytes_marked > 20_000 && marked.bytes_marked < body.len() as u64);
}

#[test]
fn prompts_that_need_no_marks_get_none() {
    let (long, mark) = ("word ".repeat(2_000), json!({"type": "ephemeral", "ttl": "1h"}));
    let short = claude(json!("be brief"), json!([{"name": "a"}]), json!([{"role": "user", "content": "x"}]));
    assert_eq!(mark_for_cache(&short, &read(&short), Ratio::exact(4.0)), None);
    // A small model needs more.
    let body = claude(json!(long), json!(null), json!([{"role": "user", "content": "x"}]));
    assert!(mark_for_cache(&body, &read(&body), Ratio::exact(4.0)).is_some());
    let small = set_model(&body, &read(&body), "claude-haiku-5-5").map(|edits| edited(&body, &edits)).unwrap();
    assert_eq!(mark_for_cache(&small, &read(&small), Ratio::exact(4.0)), None);
    // Marks of its own in the messages: all before them is the client's.
    let own = claude(
        json!(long),
        json!([{"name": long}]),
        json!([{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": mark}]}]),
    );
    assert_eq!(mark_for_cache(&own, &read(&own), Ratio::exact(4.0)), None);
    // Four are the most that the API takes.
    let tool = json!({"name": "a", "cache_control": mark});
    let messages = json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}]);
    for (own, ours) in [(1, Some(2)), (2, Some(2)), (3, Some(1)), (4, None), (5, None)] {
        let body = claude(json!(long), json!(vec![tool.clone(); own]), messages.clone());
        assert_eq!(mark_for_cache(&body, &read(&body), Ratio::exact(4.0)).map(|marked| marked.marks), ours, "{own} of its own");
    }
    // In the tools only: the system prompt behind them is ours.
    let own = claude(json!(long), json!([{"name": "a", "cache_control": mark}]), json!([{"role": "user", "content": "x"}]));
    assert_eq!(mark_for_cache(&own, &read(&own), Ratio::exact(4.0)).map(|marked| marked.marks), Some(1));
    let automatic = format!(r#"{{"cache_control":{{"type":"ephemeral"}},"system":"{long}","messages":[{{"role":"user","content":"x"}}]}}"#);
    assert_eq!(mark_for_cache(automatic.as_bytes(), &read(automatic.as_bytes()), Ratio::exact(4.0)), None);
    // Blocks that take no mark.
    for last in [
        json!({"type": "text", "text": ""}),
        json!({"type": "thinking", "thinking": "x"}),
        json!({"type": "text", "text": "x", "cache_control": null}),
    ] {
        let body = claude(json!([{"type": "text", "text": long}, last]), json!([]), json!([{"role": "user", "content": "x"}]));
        assert_eq!(mark_for_cache(&body, &read(&body), Ratio::exact(4.0)), None);
    }
}

#[test]
fn no_change_leads_over_the_largest_body() {
    let start = r#"{"model":"m","max_tokens":9,"system":"#;
    let filler = |bytes: usize| format!("{start}\"{}\"}}", "x".repeat(bytes - start.len() - 3)).into_bytes();
    let full = filler(BODY_BYTES_MAX as usize);
    let facts = read(&full);
    assert!(facts.valid);
    assert_eq!(set_model(&full, &facts, "longer"), None);
    assert!(set_model(&full, &facts, "n").is_some());
    assert!(cap_max_tokens(&full, &facts, 8).is_some());
    assert_eq!(mark_for_cache(&full, &facts, Ratio::default()), None);
    let small = filler(1_000);
    let edits = set_model(&small, &read(&small), "longer").unwrap();
    assert!(apply(&Bytes::from(small), &edits).is_some());
    assert!(apply(&Bytes::from(full), &edits).is_none());
    // Changes that are not for a body do nothing to it.
    assert!(apply(&Bytes::from_static(b"{}"), &edits).is_none());
}

#[test]
fn what_is_put_in_is_not_shown() {
    let body = br#"{"model":"a","messages":[]}"#;
    let edits = set_model(body, &read(body), "planted-secret").unwrap();
    assert_eq!(format!("{edits:?}"), "[(10..11, 14)]");
}

#[test]
fn what_is_not_valid_is_never_changed() {
    for body in [&br#"{"model":"a","max_tokens":99,"messages":[{"role":"user","content":"x"}]"#[..], b"nonsense", b""] {
        let facts = read(body);
        assert_eq!(set_model(body, &facts, "b"), None);
        assert_eq!(cap_max_tokens(body, &facts, 1), None);
        assert_eq!(mark_for_cache(body, &facts, Ratio::exact(1.0)), None);
    }
}
