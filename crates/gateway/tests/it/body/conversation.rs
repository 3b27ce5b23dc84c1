//! Conversations made up for tests, written down as oddly as JSON allows.

use proptest::prelude::*;
use serde_json::{Value, json};

/// Texts that a careless reader of bytes falls over.
pub(super) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z ,.]{1,60}",
        2 => any::<String>().prop_map(|text| format!("{text}.")),
        1 => Just("\"messages\":[{\"role\":\"user\"}],\"model\":\"evil\"} \\\" \\\\".to_owned()),
        1 => Just("ligne\n\ttabulée — ünïcödé 🦀\u{0}\u{1f}".to_owned()),
        1 => Just("\\".to_owned()),
        1 => "[a-z]{300,900}",
    ]
}

fn user_content() -> impl Strategy<Value = Value> {
    let block = text().prop_map(|text| json!({"type": "text", "text": text}));
    let image = prop_oneof![
        Just(json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo".repeat(40)}})),
        Just(json!({"type": "document", "source": {"data": "JVBERi0".repeat(50), "type": "base64", "media_type": "application/pdf"}})),
        Just(json!({"type": "image", "source": {"type": "url", "url": "https://example.org/data.png"}})),
    ];
    prop_oneof![
        3 => text().prop_map(Value::from),
        3 => proptest::collection::vec(prop_oneof![4 => block.boxed(), 1 => image.boxed()], 1..4).prop_map(Value::from),
    ]
}

#[derive(Debug, Clone)]
struct Step {
    thinks: bool,
    says: Option<String>,
    tools: Vec<(String, Value)>,
    adds: Option<String>,
}

fn step() -> impl Strategy<Value = Step> {
    let input = prop_oneof![
        text().prop_map(|text| json!({"command": text})),
        Just(
            json!({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "no"}]}], "cache_control": {"type": "x"}})
        ),
        Just(json!({})),
    ];
    let tools = proptest::collection::vec(("(Bash|Read|Näme \"q\"|Grep)", input), 1..4);
    (any::<bool>(), proptest::option::of(text()), tools, proptest::option::weighted(0.2, text()))
        .prop_map(|(thinks, says, tools, adds)| Step { thinks, says, tools, adds })
}

#[derive(Debug, Clone)]
struct Turn {
    prompt: Value,
    system: Option<String>,
    steps: Vec<Step>,
    ends: String,
    only_thinks: bool,
}

fn turn() -> impl Strategy<Value = Turn> {
    let system = proptest::option::weighted(0.2, text());
    (user_content(), system, proptest::collection::vec(step(), 0..5), text(), proptest::bool::weighted(0.1))
        .prop_map(|(prompt, system, steps, ends, only_thinks)| Turn { prompt, system, steps, ends, only_thinks })
}

fn thinking() -> Value {
    json!({"type": "thinking", "thinking": "hm, {\"type\":\"text\"}", "signature": "c2ln"})
}

fn push_steps(messages: &mut Vec<Value>, turn: &Turn, names: &mut usize) {
    for step in &turn.steps {
        let mut content = Vec::new();
        let mut results = Vec::new();
        content.extend(step.thinks.then(thinking));
        content.extend(step.says.as_ref().map(|text| json!({"type": "text", "text": text})));
        for (name, input) in &step.tools {
            *names += 1;
            let id = format!("toolu_{names}");
            content.push(json!({"type": "tool_use", "id": id, "name": name, "input": input}));
            let said = if names.is_multiple_of(2) { json!("done") } else { json!([{"type": "text", "text": "done \\ \"so\""}]) };
            results.push(json!({"type": "tool_result", "tool_use_id": id, "content": said}));
        }
        results.extend(step.adds.as_ref().map(|text| json!({"type": "text", "text": text})));
        messages.push(json!({"role": "assistant", "content": content}));
        messages.push(json!({"content": results, "role": "user"}));
    }
}

/// The messages of a conversation as the API takes them.
pub(super) fn messages() -> impl Strategy<Value = Value> {
    (proptest::collection::vec(turn(), 1..8), any::<bool>()).prop_map(|(turns, in_loop)| {
        let mut messages = Vec::new();
        let (mut names, last) = (0, turns.len() - 1);
        for (index, turn) in turns.iter().enumerate() {
            messages.push(json!({"role": "user", "content": turn.prompt}));
            messages
                .extend(turn.system.as_ref().map(|text| json!({"role": "system", "content": text, "output_config": {"effort": "low"}})));
            if index < last || in_loop {
                push_steps(&mut messages, turn, &mut names);
            }
            if index < last {
                let content = if turn.only_thinks { json!([thinking()]) } else { json!([thinking(), {"type": "text", "text": turn.ends}]) };
                messages.push(json!({"role": "assistant", "content": content}));
            }
        }
        Value::from(messages)
    })
}

/// A whole request.
pub(super) fn request() -> impl Strategy<Value = Value> {
    let system = prop_oneof![
        Just(Value::Null),
        text().prop_map(Value::from),
        proptest::collection::vec((text(), proptest::bool::weighted(0.2)), 0..4)
            .prop_map(|blocks| blocks.into_iter().map(|(text, marked)| marked_if(json!({"type": "text", "text": text}), marked)).collect()),
    ];
    let tool = (text(), proptest::bool::weighted(0.1)).prop_map(|(text, marked)| {
        let schema =
            json!({"type": "object", "properties": {"cache_control": {"type": "string"}, "model": {"enum": ["a", 1, -2.5e3, null]}}});
        marked_if(json!({"name": "Bash", "description": text, "input_schema": schema}), marked)
    });
    let tools = proptest::option::of(proptest::collection::vec(tool, 0..5));
    let thinking = prop_oneof![
        Just(Value::Null),
        Just(json!({"type": "adaptive", "display": "summarized"})),
        (1024_u64..40_000).prop_map(|budget| json!({"type": "enabled", "budget_tokens": budget})),
    ];
    (messages(), system, tools, thinking, proptest::option::of(1_u64..200_000), any::<bool>()).prop_map(
        |(messages, system, tools, thinking, max_tokens, stream)| {
            let mut request =
                json!({"model": "claude-opus-5-5", "metadata": {"user_id": "{\"session_id\":\"s-1\"}"}, "messages": messages});
            let fields = request.as_object_mut().unwrap();
            let mut set = |name: &str, value: Value| (!value.is_null()).then(|| fields.insert(name.to_owned(), value));
            set("system", system);
            set("tools", tools.map(Value::from).unwrap_or_default());
            set("thinking", thinking);
            set("max_tokens", max_tokens.map(Value::from).unwrap_or_default());
            set("stream", Value::from(stream));
            request
        },
    )
}

fn marked_if(mut block: Value, marked: bool) -> Value {
    if marked {
        block["cache_control"] = json!({"type": "ephemeral", "ttl": "1h"});
    }
    block
}

/// The value with blanks, escapes and an order of fields of its own.
pub(super) fn oddly_written(value: &Value, seed: u64) -> Vec<u8> {
    let mut odd = Odd { seed: seed | 1, plain: seed.is_multiple_of(3), out: String::new() };
    odd.value(value);
    odd.blank();
    odd.out.into_bytes()
}

struct Odd {
    seed: u64,
    plain: bool,
    out: String,
}

impl Odd {
    fn next(&mut self, below: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % below
    }

    fn blank(&mut self) {
        while !self.plain && self.next(4) == 0 {
            let blank = [" ", "\n", "\t", "\r\n  "][self.next(4) as usize];
            self.out.push_str(blank);
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for letter in text.chars() {
            let hidden = !self.plain && self.next(24) == 0;
            match letter {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '/' if hidden => self.out.push_str("\\/"),
                _ if hidden || letter < ' ' => {
                    for unit in letter.encode_utf16(&mut [0; 2]) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                _ => self.out.push(letter),
            }
        }
        self.out.push('"');
    }

    fn value(&mut self, value: &Value) {
        self.blank();
        match value {
            Value::String(text) => self.string(text),
            Value::Array(items) => self.list('[', ']', items.iter().map(|item| (None, item))),
            Value::Object(fields) => self.list('{', '}', fields.iter().map(|(name, value)| (Some(name.as_str()), value))),
            other => self.out.push_str(&other.to_string()),
        }
        self.blank();
    }

    fn list<'v>(&mut self, open: char, close: char, items: impl Iterator<Item = (Option<&'v str>, &'v Value)>) {
        self.out.push(open);
        self.blank();
        for (index, (name, value)) in items.enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            if let Some(name) = name {
                self.blank();
                self.string(name);
                self.blank();
                self.out.push(':');
            }
            self.value(value);
        }
        self.out.push(close);
    }
}
