//! What reading and changing a body costs. To be run in release, by hand: `-E 'test(speed)' --run-ignored all --no-capture`.

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use paramedic_gateway::body::{Limits, Print, Ratio, apply, mark_for_cache, messages, read, set_model, shorten_history};
use serde_json::{Value, json};

/// A body like those of Claude Code: tools with long descriptions and schemas, a long system prompt, a loop of tools.
fn request(bytes: usize) -> Vec<u8> {
    // Texts as people and programs write them: their quotes and line ends are what costs.
    let (prose, source) = (include_str!("../../../../../README.md"), include_str!("history.rs"));
    let part =
        |text: &'static str, index: usize, bytes: usize| -> String { text.chars().cycle().skip(index * 997 % 4_000).take(bytes).collect() };
    let tools: Vec<Value> = (0..12)
        .map(|index| {
            let properties: serde_json::Map<_, _> =
                (0..6).map(|field| (format!("field_{field}"), json!({"type": "string", "description": "What this is for, in a few words."}))).collect();
            json!({"name": format!("Tool{index}"), "description": part(prose, index, 900), "input_schema": {"type": "object", "properties": properties,
                "required": ["field_0", "field_1"], "additionalProperties": false}})
        })
        .collect();
    let mut body = json!({"model": "claude-opus-5-5", "messages": [{"role": "user", "content": [{"type": "text", "text": part(prose, 1, 2_000)}]}],
        "system": [{"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.330"}, {"type": "text", "text": part(prose, 2, 8_000)}],
        "tools": tools, "metadata": {"user_id": "{\"device_id\":\"d\",\"account_uuid\":\"a\",\"session_id\":\"s\"}"}, "max_tokens": 128_000, "stream": true});
    let mut step = 0;
    while body.to_string().len() < bytes {
        step += 1;
        let list = body["messages"].as_array_mut().unwrap();
        list.push(json!({"role": "assistant", "content": [{"type": "tool_use", "id": format!("t{step}"), "name": "Read", "input": {"path": "/src/x.rs"}}]}));
        list.push(json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": format!("t{step}"), "content": part(source, step, 2_000)}]}));
    }
    body.to_string().into_bytes()
}

/// Microseconds, the best of many rounds: other work on the machine only adds.
fn micros<T>(mut run: impl FnMut() -> T) -> f64 {
    let round = |run: &mut dyn FnMut() -> T| {
        let start = Instant::now();
        for _ in 0..20 {
            black_box(run());
        }
        start.elapsed().as_secs_f64() * 1e6 / 20.0
    };
    (0..100).map(|_| round(&mut run)).fold(f64::INFINITY, f64::min)
}

#[test]
#[ignore = "prints numbers, which are only worth something in release"]
fn speed_of_bodies() {
    for bytes in [40_000, 300_000] {
        let body = Bytes::from(request(bytes));
        let facts = read(&body);
        let limits = Limits { messages_max: Some(9), tokens_max: None, digest: true };
        let model = set_model(&body, &facts, "claude-haiku-5-5").unwrap();
        println!(
            "{} bytes: read {:.1} us, serde's walk {:.1}, print {:.1}, messages {:.1}, set model + apply {:.1}, shorten {:.1}, mark {:.1}, serde tree {:.1}",
            body.len(),
            micros(|| read(&body)),
            micros(|| serde_json::from_slice::<serde::de::IgnoredAny>(&body).unwrap()),
            micros(|| Print::of(&body, &facts)),
            micros(|| messages(&facts, &body)),
            micros(|| apply(&body, &model)),
            micros(|| shorten_history(&body, &facts, limits, Ratio::default())),
            micros(|| mark_for_cache(&body, &facts, Ratio::default())),
            micros(|| serde_json::from_slice::<Value>(&body).unwrap()),
        );
    }
}
