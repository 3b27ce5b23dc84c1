//! What `read` says of a body.

use paramedic_gateway::body::{Ratio, Size, read};
use proptest::prelude::*;
use serde_json::Value;

use super::conversation::{oddly_written, request};

fn marks(value: &Value) -> u64 {
    let block = |block: &Value| u64::from(block["cache_control"].is_object());
    let blocks = |value: &Value| value.as_array().map_or(0, |blocks| blocks.iter().map(block).sum());
    let message = |message: &Value| -> u64 { blocks(&message["content"]) };
    blocks(&value["tools"])
        + blocks(&value["system"])
        + value["messages"].as_array().map_or(0, |list| list.iter().map(message).sum::<u64>())
}

fn images(value: &Value) -> u64 {
    match value {
        Value::Array(items) => items.iter().map(images).sum(),
        Value::Object(fields) => u64::from(value["source"]["media_type"] == "image/png") + fields.values().map(images).sum::<u64>(),
        _ => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn facts_are_those_of_the_tree(request in request(), seed: u64) {
        let body = oddly_written(&request, seed);
        prop_assert_eq!(&serde_json::from_slice::<Value>(&body).unwrap(), &request);
        let facts = read(&body);
        prop_assert!(facts.valid);
        prop_assert_eq!(facts.model.map(|place| place.text(&body).into_owned()), request["model"].as_str().map(str::to_owned));
        prop_assert_eq!(facts.max_tokens.map(|number| number.value), request["max_tokens"].as_u64());
        prop_assert_eq!(facts.stream, request["stream"] == true);
        let session = facts.session(&body);
        prop_assert_eq!(session.as_deref(), Some("s-1"));
        prop_assert_eq!(facts.thinking_enabled, request["thinking"]["type"] == "enabled");
        prop_assert_eq!(facts.thinking_budget.map(|number| number.value), request["thinking"]["budget_tokens"].as_u64());
        let count = |name: &str| request[name].as_array().map_or(0, |list| list.len() as u64);
        prop_assert_eq!(facts.message_count(), count("messages"));
        prop_assert_eq!(facts.tool_count(), count("tools"));
        prop_assert_eq!(facts.marks(), marks(&request));
        prop_assert_eq!(facts.size().images, images(&request));
        for (name, section) in [("tools", facts.tools), ("system", facts.system), ("messages", facts.messages)] {
            let there = section.map(|section| serde_json::from_slice::<Value>(section.place.raw(&body)).unwrap());
            prop_assert_eq!(there.as_ref(), request.get(name), "{}", name);
        }
        let last = request["messages"].as_array().unwrap().last().unwrap();
        let is_result = last["content"].as_array().is_some_and(|blocks| blocks.iter().any(|block| block["type"] == "tool_result"));
        prop_assert_eq!(facts.last_is_tool_result, is_result);
        let first = &request["messages"][0]["content"];
        let expect = first.as_str().or_else(|| first.as_array()?.iter().find_map(|block| block["text"].as_str()));
        prop_assert_eq!(facts.first_text.map(|place| place.text(&body).into_owned()), expect.map(str::to_owned));
    }

    #[test]
    fn no_bytes_are_too_odd(request in request(), seed: u64, changes in proptest::collection::vec((any::<u32>(), any::<u8>()), 0..6), cut: u32) {
        let mut body = oddly_written(&request, seed);
        for (at, by) in changes {
            let at = at as usize % body.len();
            body[at] = by;
        }
        if cut % 4 == 0 {
            body.truncate(cut as usize % body.len());
        }
        let parsed = serde_json::from_slice::<Value>(&body);
        let facts = read(&body);
        // What a parser takes is valid. (The other way round, strings are not judged.)
        prop_assert!(facts.valid || !parsed.as_ref().is_ok_and(Value::is_object));
        if let (true, Ok(tree)) = (facts.valid, parsed) {
            prop_assert_eq!(facts.model.map(|place| place.text(&body).into_owned()), tree["model"].as_str().map(str::to_owned));
            prop_assert_eq!(facts.message_count(), tree["messages"].as_array().map_or(0, |list| list.len() as u64));
        }
    }

    #[test]
    fn bytes_of_any_kind_are_read(body in proptest::collection::vec(prop_oneof![any::<u8>(), proptest::sample::select(b"{}[]\",:\\u0 e-tn".to_vec())], 0..200)) {
        let facts = read(&body);
        prop_assert!(facts.valid || serde_json::from_slice::<serde_json::Map<String, Value>>(&body).is_err());
    }
}

#[test]
fn the_last_of_two_keys_holds() {
    let body =
        br#"{"model":"a","stream":true,"max_tokens":1,"messages":[{"role":"user","content":[{"type":"tool_result","cache_control":{}}]}],
        "tools":[{},{}],"metadata":{"user_id":"one","user_id":"two"},"m\u006fdel":"b\u0021","stream":false,"max_tokens":8e3,
        "messages":[{"content":"x"},{"role":"user","content":[],"content":"last"}],"tools":{"a":1},"metadata":{}}"#;
    let facts = read(body);
    assert!(facts.valid && !facts.stream && !facts.last_is_tool_result);
    assert_eq!(facts.model.unwrap().text(body), "b!");
    assert_eq!(facts.max_tokens.unwrap().value, 8_000);
    assert_eq!((facts.message_count(), facts.tool_count(), facts.marks()), (2, 0, 0));
    assert_eq!(facts.user_id, None);
    assert_eq!(facts.first_text.unwrap().text(body), "x");
}

#[test]
fn values_of_other_kinds_are_no_facts() {
    let body = br#"{"model":7,"stream":"true","max_tokens":-1,"metadata":[],"messages":"x","system":{"a":1},"tools":null,"thinking":3}"#;
    let facts = read(body);
    assert!(facts.valid && !facts.stream);
    assert_eq!((facts.model, facts.max_tokens, facts.user_id, facts.first_text), (None, None, None, None));
    assert_eq!((facts.message_count(), facts.tool_count()), (0, 0));
    for body in [&b"[]"[..], b"7", b"", b"null", b"{}{}", b"{\"model\":\"a\""] {
        assert_eq!(read(body), read(b""), "{body:?}");
    }
}

#[test]
fn marks_count_only_where_the_api_reads_them() {
    let body = br#"{"cache_control":{"type":"ephemeral"},"tools":[{"cache_control":{},"input_schema":{"cache_control":{}}},{"cache_control":null}],
        "system":[{"type":"text","cache_control":{}}],"messages":[{"role":"user","cache_control":{},"content":[{"type":"tool_result",
        "cache_control":{},"content":[{"type":"text","text":"","cache_control":{}}]},{"type":"tool_use","input":{"cache_control":{},
        "content":[{"cache_control":{}}]}}]}]}"#;
    let facts = read(body);
    assert!(facts.marks_itself);
    let of = |section: Option<paramedic_gateway::body::Section>| section.unwrap().marks;
    assert_eq!((of(facts.tools), of(facts.system), of(facts.messages)), (1, 1, 2));
    assert_eq!(facts.marks(), 5);
}

#[test]
fn base64_is_not_counted_as_text() {
    let data = "A".repeat(400_000);
    let image = format!(r#"{{"type":"image","source":{{"type":"base64","media_type":"image/jpeg","data":"{data}"}}}}"#);
    let body = format!(r#"{{"messages":[{{"role":"user","content":[{image},{{"type":"tool_result","content":[{image}]}}]}}]}}"#);
    let tokens = read(body.as_bytes()).tokens(Ratio::exact(4.0));
    assert!((3_200..3_400).contains(&tokens.likely) && tokens.at_most > tokens.likely, "{tokens:?}");
    // A text that only looks like one counts as what it is.
    let text = body.replace("image/jpeg", "text/plain");
    assert!(read(text.as_bytes()).tokens(Ratio::exact(4.0)).likely > 200_000);
    let input = body.replace("\"source\"", "\"input\"");
    assert_eq!(read(input.as_bytes()).size(), Size::text(input.len() as u64 - 13));
}
