//! The parser of answers beside one that is obviously right, on streams of all spellings, in any pieces.

use std::fmt::Write as _;

use paramedic_gateway::answer::Seen;
use paramedic_model::Usage;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{BROTLI, ZSTD, bytes_of, headers, packed, read, stream, usual};

/// The standard's algorithm over the whole stream, with trees, copies and no haste.
fn reference(bytes: &[u8]) -> Seen {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut lines: Vec<Vec<u8>> = vec![Vec::new()];
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'\r' if text.get(at + 1) == Some(&b'\n') => {
                at += 1;
                lines.push(Vec::new());
            }
            b'\r' | b'\n' => lines.push(Vec::new()),
            byte => lines.last_mut().unwrap().push(byte),
        }
        at += 1;
    }
    let rest = lines.pop().unwrap();
    let mut seen = Seen { decoded: true, ..Seen::default() };
    let (mut name, mut data) = (Vec::new(), None::<Vec<u8>>);
    for line in &lines {
        if line.is_empty() {
            if let Some(data) = data.take() {
                seen.events += 1;
                seen.malformed_events += u64::from(!reference_take(&name, &data, &mut seen));
            }
            name.clear();
        } else {
            reference_field(line, &mut name, &mut data);
        }
    }
    reference_field(&rest, &mut name, &mut data);
    if let Some(data) = data {
        seen.events += u64::from(reference_take(&name, &data, &mut seen));
    }
    seen
}

fn reference_field(line: &[u8], name: &mut Vec<u8>, data: &mut Option<Vec<u8>>) {
    let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
    let value = line.get(colon + 1..).unwrap_or_default();
    let value = value.strip_prefix(b" ").unwrap_or(value);
    match &line[..colon] {
        b"event" => *name = value.to_vec(),
        b"data" => match data {
            Some(data) => data.extend([b"\n", value].concat()),
            None => *data = Some(value.to_vec()),
        },
        _ => {}
    }
}

/// False when it cannot be understood and has to be.
fn reference_take(name: &[u8], data: &[u8], seen: &mut Seen) -> bool {
    let value = serde_json::from_slice::<Value>(data);
    let name = match (name, &value) {
        (b"", Ok(value)) => value["type"].as_str().unwrap_or("other").to_owned(),
        (b"", Err(_)) => return false,
        (name, _) => String::from_utf8_lossy(name).into_owned(),
    };
    seen.content_began |= name == "content_block_delta";
    let wanted = ["message_start", "message_delta", "message_stop", "content_block_delta", "error"];
    if !wanted.contains(&name.as_str()) {
        return true;
    }
    let Ok(value) = value else { return false };
    let word = |value: &Value| value.as_str().map(Box::<str>::from);
    let usage = match name.as_str() {
        "message_start" => {
            let message = &value["message"];
            seen.message_id = word(&message["id"]).or(seen.message_id.take());
            seen.model = word(&message["model"]).or(seen.model.take());
            &message["usage"]
        }
        "message_delta" => {
            seen.stop_reason = word(&value["delta"]["stop_reason"]).or(seen.stop_reason.take());
            seen.output_is_exact |= value["usage"]["output_tokens"].is_u64();
            &value["usage"]
        }
        "content_block_delta" => {
            let length = |field| value["delta"][field].as_str().map_or(0, str::len) as u64;
            seen.content_bytes += length("text") + length("thinking") + length("partial_json");
            &Value::Null
        }
        "error" => {
            seen.error_type = word(&value["error"]["type"]).or(seen.error_type.take());
            &Value::Null
        }
        _ => {
            seen.complete = true;
            &Value::Null
        }
    };
    let count = |field| usage[field].as_u64().unwrap_or(0);
    seen.usage = seen.usage.largest(Usage {
        input_tokens: count("input_tokens"),
        output_tokens: count("output_tokens"),
        cache_read_tokens: count("cache_read_input_tokens"),
        cache_creation_tokens: count("cache_creation_input_tokens"),
        cache_creation_1h_tokens: 0,
    });
    true
}

/// One event's data: what the API sends, with counts and words of all sizes, and things that are no such data.
fn data() -> impl Strategy<Value = (String, String)> {
    let usage = || {
        (proptest::option::of(0..5000_u64), proptest::option::of(0..5000_u64), 0..99_u64).prop_map(|(input, output, cached)| {
            let mut usage = json!({"cache_read_input_tokens": cached, "cache_creation_input_tokens": cached / 2});
            if let Some(input) = input {
                usage["input_tokens"] = input.into();
            }
            if let Some(output) = output {
                usage["output_tokens"] = output.into();
            }
            usage
        })
    };
    let word = "[a-zé☃ ]{0,12}";
    prop_oneof![
        (word, word, usage()).prop_map(|(id, model, usage)| (
            "message_start",
            json!({"type": "message_start", "message":
            {"id": id, "model": model, "content": [{"id": "x"}], "stop_reason": null, "usage": usage}})
        )),
        (word, usage()).prop_map(|(stop, usage)| (
            "message_delta",
            json!({"type": "message_delta", "delta": {"stop_reason": stop},
            "usage": usage})
        )),
        word.prop_map(|text| (
            "content_block_delta",
            json!({"type": "content_block_delta", "index": text.len(),
            "delta": {"type": "text_delta", "text": text}})
        )),
        word.prop_map(|text| (
            "content_block_delta",
            json!({"type": "content_block_delta", "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": text}})
        )),
        word.prop_map(|text| ("content_block_delta", json!({"index": 1, "type": "content_block_delta", "delta": {"thinking": text}}))),
        word.prop_map(|text| ("content_block_delta", json!({"delta": {"signature": text}}))),
        word.prop_map(|kind| ("error", json!({"type": "error", "error": {"type": kind}}))),
        Just(("message_stop", json!({"type": "message_stop"}))),
        Just(("ping", json!({"type": "ping"}))),
        word.prop_map(|text| ("content_block_start", json!([text, 5, null]))),
    ]
    .prop_map(|(name, data)| (name.to_owned(), data.to_string()))
}

/// An event as it may be written: with and without its name, its data in one line or several, cut short, with comments.
fn written() -> impl Strategy<Value = String> {
    let how = (0..20_u8, any::<proptest::sample::Index>(), any::<bool>());
    (data(), how).prop_map(|((name, data), (how, at, spaced))| {
        let blank = if spaced { " " } else { "" };
        let mut cut = at.index(data.len() + 1);
        while !data.is_char_boundary(cut) {
            cut -= 1;
        }
        match how {
            0..=8 => format!("event: {name}\ndata: {data}\n\n"),
            9 => format!("event:{blank}{name}\ndata:{blank}{data}\n\n"),
            10 => format!("data:{blank}{data}\n\n"),
            11 => format!("event: {name}\ndata: {}\n\n", &data[..cut]),
            12 => format!("data: {}\n\n", &data[..cut]),
            13 => format!(": {data}\nevent: {name}\nid: 1\ndata: {data}\nretry\n\n"),
            14 if data.starts_with('{') => format!("event: {name}\ndata: {{\ndata:{blank}{}\n\n", &data[1..]),
            15 => format!("event: {name}\n\n"),
            16 => format!("event: {name}\nevent:\ndata: {data}\n\n"),
            17 => format!("event: {name}\ndata\n\n"),
            18 => format!("event: {name}\ndata: {data}\n"),
            _ => format!("\nevent: {name}\n\n\ndata: {data}\n\n"),
        }
    })
}

fn pieces<'a>(bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let (mut rest, mut pieces) = (bytes, Vec::new());
    for size in sizes.iter().cycle() {
        if rest.is_empty() || sizes.is_empty() {
            break;
        }
        let (piece, behind) = rest.split_at((*size).clamp(1, rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces.push(rest);
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_reference_sees_the_same(
        events in proptest::collection::vec(written(), 0..12),
        ends in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")],
        mark in any::<bool>(),
        cut in any::<proptest::sample::Index>(),
        is_cut in any::<bool>(),
        sizes in proptest::collection::vec(1..200_usize, 1..8),
    ) {
        let mut all = String::new();
        let _ = write!(all, "{}{}", if mark { "\u{feff}" } else { "" }, events.concat().replace('\n', ends));
        let end = if is_cut { cut.index(all.len() + 1) } else { all.len() };
        let bytes = &all.as_bytes()[..end];
        let expected = reference(bytes);
        prop_assert_eq!(&stream(bytes), &expected, "{}", all);
        prop_assert_eq!(&read(&headers("text/event-stream", ""), pieces(bytes, &sizes)), &expected, "{}", all);
    }

    #[test]
    fn any_bytes_in_any_pieces_are_survived(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        kind in prop_oneof![Just("text/event-stream"), Just("application/json")],
        encoding in prop_oneof![Just(""), Just("gzip"), Just("deflate"), Just("br"), Just("zstd")],
        sizes in proptest::collection::vec(1..50_usize, 1..5),
    ) {
        let headers = headers(kind, encoding);
        let whole = read(&headers, [bytes.as_slice()]);
        let split = read(&headers, pieces(&bytes, &sizes));
        prop_assert_eq!((whole.usage, whole.complete, whole.events), (split.usage, split.complete, split.events));
    }

    #[test]
    fn damaged_packed_streams_are_survived(
        encoding in prop_oneof![Just("gzip"), Just("deflate"), Just("zstd"), Just("br"), Just("zstd fixed")],
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        sizes in proptest::collection::vec(1..90_usize, 1..5),
    ) {
        let mut bytes = match encoding {
            "br" => bytes_of(BROTLI),
            "zstd fixed" => bytes_of(ZSTD),
            _ => packed(encoding, usual(10).as_bytes()),
        };
        for (at, byte) in &damage {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        let headers = headers("text/event-stream", encoding.split(' ').next().unwrap());
        let seen = read(&headers, pieces(&bytes, &sizes));
        prop_assert!(!damage.is_empty() || seen.complete);
    }
}
