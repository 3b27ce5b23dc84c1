//! Histories made shorter stay conversations.

use std::collections::HashSet;

use bytes::Bytes;
use paramedic_gateway::body::{Limits, Ratio, Shortened, Shortening, Stuck, apply, read, shorten_history};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::conversation::{oddly_written, request};

fn shorten(body: &[u8], limits: Limits) -> Shortening {
    shorten_history(body, &read(body), limits, Ratio::exact(4.0))
}

fn shortened(body: &[u8], limits: Limits) -> (Value, Shortened) {
    let Shortening::Shortened(shortened) = shorten(body, limits) else { panic!("{:?}", shorten(body, limits)) };
    let after = apply(&Bytes::copy_from_slice(body), &shortened.edits).unwrap();
    assert!(read(&after).valid);
    (serde_json::from_slice(&after).unwrap(), shortened)
}

fn list(request: &Value) -> &[Value] {
    request["messages"].as_array().unwrap()
}

fn blocks(message: &Value) -> Vec<Value> {
    message["content"].as_array().cloned().unwrap_or_else(|| vec![json!({"type": "text", "text": message["content"]})])
}

fn is(block: &Value, kind: &str) -> bool {
    block["type"] == kind
}

/// A message with its content as blocks, and without its thinking where that is taken out.
fn plain(message: &Value, strips: bool) -> Value {
    let mut message = message.clone();
    let mut blocks = blocks(&message);
    if strips {
        blocks.retain(|block| !is(block, "thinking"));
        if blocks.is_empty() {
            blocks.push(json!({"type": "text", "text": "(thinking left out)"}));
        }
    }
    message["content"] = Value::from(blocks);
    message
}

/// What the API asks of messages.
fn check_conversation(messages: &[Value]) {
    let ids = |message: &Value, kind: &str, id: &str| -> Vec<String> {
        blocks(message).iter().filter(|block| is(block, kind)).map(|block| block[id].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(messages[0]["role"], "user");
    assert!(ids(&messages[0], "tool_result", "tool_use_id").is_empty(), "orphan at the beginning");
    for (index, message) in messages.iter().enumerate() {
        assert!(!blocks(message).is_empty());
        let next = messages.get(index + 1);
        let used: HashSet<_> = ids(message, "tool_use", "id").into_iter().collect();
        let results: HashSet<_> = next.map(|next| ids(next, "tool_result", "tool_use_id")).unwrap_or_default().into_iter().collect();
        assert_eq!(used, results, "message {index}");
        match message["role"].as_str().unwrap() {
            "user" => assert!(next.is_none_or(|next| next["role"] != "user")),
            "assistant" => assert!(next.is_none_or(|next| next["role"] == "user")),
            _ => {
                assert_eq!(messages[index - 1]["role"], "user");
                assert!(next.is_none_or(|next| next["role"] == "assistant"));
            }
        }
    }
}

/// The messages before, without those that a cut leaves out: all ways that there are.
fn is_cut_of(before: &[Value], after: &[Value], within_loop: bool) -> bool {
    let left = before.len() - after.len();
    if !within_loop {
        return &before[left..] == after;
    }
    (0..before.len()).any(|head| {
        (head + 1..before.len()).any(|group| {
            let kept = group - head;
            kept < after.len() && before[head..group] == after[..kept] && before[before.len() - (after.len() - kept)..] == after[kept..]
        })
    })
}

fn check(request: &Value, body: &[u8], limits: Limits) {
    let Shortening::Shortened(_) = shorten(body, limits) else { return };
    let (after, shortened) = shortened(body, limits);
    let (before, kept) = (list(request), list(&after));
    let in_loop = blocks(before.last().unwrap()).iter().any(|block| is(block, "tool_result"));
    let strips = !(request["thinking"]["type"] == "enabled" && in_loop);
    check_conversation(kept);
    assert_eq!(before.len() - kept.len(), usize::try_from(shortened.left_out_messages).unwrap());
    assert!(shortened.left_out_messages > 0);
    let mut kept: Vec<Value> = kept.iter().map(|message| plain(message, strips)).collect();
    if limits.digest {
        let block = kept[0]["content"].as_array_mut().unwrap().remove(0);
        let said = block["text"].as_str().unwrap();
        assert!(said.starts_with(&format!("[{} earlier messages", shortened.left_out_messages)) && said.ends_with(']'), "{said}");
        assert!(block.to_string().len() <= 2_048);
        if kept[0]["content"] == json!([]) {
            kept[0]["content"] = json!([{"type": "text", "text": ""}]);
        }
    }
    let before: Vec<Value> = before.iter().map(|message| plain(message, strips)).collect();
    assert!(is_cut_of(&before, &kept, shortened.within_loop), "{kept:#?}");
    if shortened.within_limits {
        assert!(limits.messages_max.is_none_or(|max| kept.len() as u64 <= max));
    }
    // All but the messages is as it was.
    let rest = |request: &Value| {
        let mut request = request.clone();
        request["messages"] = Value::Null;
        request
    };
    assert_eq!(rest(&after), rest(request));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_is_kept_is_a_conversation(
        request in request(), seed: u64, messages_max in proptest::option::of(1_u64..20), tokens_max in proptest::option::of(1_u64..3_000), digest: bool,
    ) {
        let body = oddly_written(&request, seed);
        check(&request, &body, Limits { messages_max, tokens_max, digest });
    }

    #[test]
    fn a_history_that_is_as_short_as_it_can_be_is_not_cut_again(request in request(), seed: u64, messages_max in 1_u64..12) {
        let body = oddly_written(&request, seed);
        let limits = Limits { messages_max: Some(messages_max), ..Limits::default() };
        let Shortening::Shortened(shortened) = shorten(&body, limits) else { return Ok(()) };
        let after = apply(&Bytes::from(body), &shortened.edits).unwrap();
        let again = shorten(&after, limits);
        prop_assert_eq!(again, if shortened.within_limits { Shortening::Fits } else { Shortening::Stuck(Stuck::NoPlace) });
    }
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn assistant(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

fn step(id: usize) -> [Value; 2] {
    [
        json!({"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "tool_use", "id": format!("t{id}"), "name": "Bash", "input": {}}]}),
        json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": format!("t{id}"), "content": "ok"}]}),
    ]
}

fn body(thinking: &str, messages: &[Value]) -> Vec<u8> {
    json!({"model": "m", "thinking": {"type": thinking}, "system": "s", "messages": messages}).to_string().into_bytes()
}

fn few(messages_max: u64) -> Limits {
    Limits { messages_max: Some(messages_max), ..Limits::default() }
}

#[test]
fn a_chat_keeps_its_end() {
    let chat: Vec<Value> = (0..20).flat_map(|turn| [user(&format!("u{turn}")), assistant("a")]).chain([user("last")]).collect();
    let (after, shortened) = shortened(&body("adaptive", &chat), few(9));
    assert_eq!(list(&after), &chat[32..]);
    assert!(shortened.within_limits && !shortened.within_loop);
    assert_eq!(shortened.left_out_messages, 32);
    assert_eq!(shorten(&body("adaptive", &chat[..9]), few(9)), Shortening::Fits);
    assert_eq!(shorten(&body("adaptive", &chat), Limits::default()), Shortening::Fits);
}

#[test]
fn a_loop_of_tools_keeps_its_prompt_and_its_last_steps() {
    let messages: Vec<Value> = [user("the task")].into_iter().chain((0..30).flat_map(step)).collect();
    let (after, shortened) = shortened(&body("adaptive", &messages), few(11));
    let kept = list(&after);
    check_conversation(kept);
    assert!(shortened.within_limits && shortened.within_loop);
    assert!((9..=11).contains(&kept.len()), "{}", kept.len());
    assert_eq!(kept[0], user("the task"));
    assert_eq!(kept.last(), messages.last());
    assert!(!after.to_string().contains("thinking\":\"hm"), "thinking that is bound to what is gone");
}

#[test]
fn thinking_of_the_older_way_stays_while_a_loop_goes_on() {
    let messages: Vec<Value> = [user("the task")].into_iter().chain((0..30).flat_map(step)).collect();
    let (after, _) = shortened(&body("enabled", &messages), few(11));
    assert_eq!(blocks(&list(&after)[1])[0]["type"], "thinking");
    let answered: Vec<Value> = messages.into_iter().chain([assistant("done"), user("and now?")]).collect();
    let (after, _) = shortened(&body("enabled", &answered), few(11));
    assert!(!after.to_string().contains("thinking\":\"hm"));
}

#[test]
fn the_last_message_stays_also_when_it_is_too_long() {
    let huge = "x".repeat(100_000);
    let limits = Limits { tokens_max: Some(1_000), ..Limits::default() };
    let messages = [user("one"), assistant("two"), user(&huge)];
    let (after, told) = shortened(&body("adaptive", &messages), limits);
    assert_eq!(list(&after), &messages[2..]);
    assert!(!told.within_limits);
    assert_eq!(shorten(&body("adaptive", &messages[2..]), limits), Shortening::Stuck(Stuck::NoPlace));
    // Its tool's use is kept with it, and the prompt.
    let mut messages = vec![user("one"), assistant("two"), user("three")];
    messages.extend((0..3).flat_map(step));
    messages.last_mut().unwrap()["content"][0]["content"] = json!(huge);
    let (after, told) = shortened(&body("adaptive", &messages), limits);
    assert_eq!(list(&after).len(), 3);
    assert_eq!(list(&after)[0], user("three"));
    assert!(!told.within_limits && told.within_loop);
}

#[test]
fn the_cut_stays_where_it_is_for_some_turns() {
    let chat: Vec<Value> = (0..60).flat_map(|turn| [user(&format!("u{turn}")), assistant("a")]).collect();
    let mut firsts = Vec::new();
    for turns in 21..60 {
        let (after, _) = shortened(&body("adaptive", &chat[..turns * 2 - 1]), few(40));
        firsts.push(list(&after)[0].clone());
    }
    let turns = firsts.len();
    firsts.dedup();
    assert!(firsts.len() <= turns / 4, "the cut moved {} times in {turns} turns", firsts.len());
}

#[test]
fn the_list_of_what_was_left_out_says_what_it_was() {
    let mut messages = vec![user("first \"words\"\nof it"), assistant("a"), user(&"long ".repeat(100))];
    messages.extend((0..4).flat_map(step));
    messages.extend([assistant("b"), user("<system-reminder>x</system-reminder>"), assistant("c"), user("last")]);
    let (after, _) = shortened(&body("adaptive", &messages), Limits { messages_max: Some(1), digest: true, ..Limits::default() });
    let kept = list(&after);
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0]["content"][1], json!({"type": "text", "text": "last"}));
    let said = kept[0]["content"][0]["text"].as_str().unwrap();
    let long = "long ".repeat(16);
    let expect = format!(
        "[14 earlier messages of this conversation were left out to shorten it. Tools used in them: Bash 4x. The user said in them:\n- first \"words\" of it\n- {}]",
        long.trim_end()
    );
    assert_eq!(said, expect);
}

#[test]
fn a_long_list_is_cut_at_its_bound() {
    let chat: Vec<Value> =
        (0..500).flat_map(|turn| [user(&format!("{turn} \u{1f980} \" {}", "\\".repeat(90))), assistant("a")]).chain([user("")]).collect();
    let (after, _) = shortened(&body("adaptive", &chat), Limits { messages_max: Some(1), digest: true, ..Limits::default() });
    let content = list(&after)[0]["content"].as_array().unwrap();
    assert_eq!(content.len(), 1, "an empty text is not kept beside it");
    let bytes = content[0].to_string().len();
    assert!((1_500..=2_048).contains(&bytes), "{bytes}");
}

#[test]
fn what_the_provider_summed_up_is_left_alone() {
    let mut messages = vec![json!({"role": "assistant", "content": [{"type": "compaction", "content": "sum"}]})];
    messages.extend((0..10).flat_map(|_| [user("u"), assistant("a")]));
    assert_eq!(shorten(&body("adaptive", &messages), few(3)), Shortening::Stuck(Stuck::Compacted));
}

#[test]
fn conversations_that_are_none_are_left_alone() {
    let odd = [
        json!([user("x"), 7, user("y"), user("z")]),
        json!([[], [], []]),
        json!([{"role": "user"}, {"role": "user"}, {"role": "user"}]),
        json!([{"role": "user", "content": [1, 2]}, {"role": "user", "content": [{}]}, {"role": "user", "content": 3}]),
        json!([{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "no"}]}, {"role": "assistant", "content": [{"type": "tool_use"}]}]),
        json!([{"role": "robot", "content": "x"}, {"role": "system", "content": "x"}, {"role": "assistant", "content": "x"}]),
    ];
    for messages in odd {
        let body = json!({"messages": messages}).to_string().into_bytes();
        for digest in [false, true] {
            let limits = Limits { messages_max: Some(1), tokens_max: Some(1), digest };
            if let Shortening::Shortened(shortened) = shorten(&body, limits) {
                let after = apply(&Bytes::from(body.clone()), &shortened.edits).unwrap();
                assert!(serde_json::from_slice::<Value>(&after).is_ok());
            }
        }
    }
}

#[test]
fn an_instruction_stays_with_the_prompt_that_it_follows() {
    let instruction = json!({"role": "system", "content": "be brief"});
    let messages: Vec<Value> = [user("the task"), instruction.clone()].into_iter().chain((0..30).flat_map(step)).collect();
    let (after, told) = shortened(&body("adaptive", &messages), few(11));
    check_conversation(list(&after));
    assert!(told.within_limits && told.within_loop);
    assert_eq!(list(&after)[..2], [user("the task"), instruction]);
}

#[test]
fn no_cut_parts_a_use_from_a_result_that_comes_late() {
    // Neighbours of one role are one turn for the API, so that a text may stand between the two.
    let [used, result] = step(0);
    let late = [user("one"), assistant("two"), user("three"), used, assistant("wait"), user("I do"), result, assistant("four")];
    for (limit, kept) in [(8, 8), (7, 6), (6, 6), (5, 6), (1, 6)] {
        let Shortening::Shortened(told) = shorten(&body("adaptive", &late), few(limit)) else {
            assert_eq!(kept, 8);
            continue;
        };
        assert_eq!((8 - told.left_out_messages, told.within_limits), (kept, kept <= limit), "{limit}");
        assert!(!told.within_loop);
    }
}
