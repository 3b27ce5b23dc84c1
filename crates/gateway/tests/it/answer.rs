//! Answers in pieces: whatever the pieces are, the same is seen, and it is what an obviously right parser sees.

mod reference;

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use hyper::HeaderMap;
use paramedic_gateway::answer::{Reader, Seen};
use paramedic_model::Usage;
use serde_json::{Value, json};

const EVENT_BYTES_MAX: usize = 256 * 1024;

fn headers(content_type: &str, encoding: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", content_type.parse().unwrap());
    if !encoding.is_empty() {
        headers.insert("content-encoding", encoding.parse().unwrap());
    }
    headers
}

fn read<'a>(headers: &HeaderMap, pieces: impl IntoIterator<Item = &'a [u8]>) -> Seen {
    let mut reader = Reader::new(200, headers);
    for piece in pieces {
        reader.push(piece);
    }
    reader.finish()
}

fn stream(bytes: &[u8]) -> Seen {
    read(&headers("text/event-stream; charset=utf-8", ""), [bytes])
}

fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

fn delta(kind: &str, field: &str, text: &str) -> String {
    event("content_block_delta", &json!({"type": "content_block_delta", "index": 0, "delta": {"type": kind, field: text}}))
}

/// What the API sends, in its order.
fn usual(deltas: usize) -> String {
    let usage = json!({"input_tokens": 412, "cache_creation_input_tokens": 100, "cache_read_input_tokens": 9000, "output_tokens": 1,
        "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 50}, "service_tier": "standard",
        "inference_geo": "not_available"});
    let message = json!({"id": "msg_01", "type": "message", "role": "assistant", "model": "claude-opus-4-8", "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage});
    let mut all = event("message_start", &json!({"type": "message_start", "message": message}));
    all +=
        &event("content_block_start", &json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}));
    all += &event("ping", &json!({"type": "ping"}));
    for i in 0..deltas {
        all += &match i % 10 {
            8 => delta("thinking_delta", "thinking", " grübeln über ☃"),
            9 => delta("input_json_delta", "partial_json", " lines of a poem, "),
            _ => delta("text_delta", "text", " twelve bytes"),
        };
    }
    all += &delta("signature_delta", "signature", "EqQBCgIYAhIM1gbcDa9GJwZA2b3h");
    all += &event("content_block_stop", &json!({"type": "content_block_stop", "index": 0}));
    let usage = json!({"output_tokens": 815, "input_tokens": 500, "server_tool_use": {"web_search_requests": 2}});
    let change = json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null}, "usage": usage});
    all + &event("message_delta", &change) + &event("message_stop", &json!({"type": "message_stop"}))
}

fn usual_usage() -> Usage {
    Usage { input_tokens: 500, output_tokens: 815, cache_read_tokens: 9000, cache_creation_tokens: 100, cache_creation_1h_tokens: 50 }
}

#[test]
fn a_usual_stream_says_all() {
    let seen = stream(usual(20).as_bytes());
    assert_eq!(seen.usage, usual_usage());
    assert_eq!((seen.message_id.as_deref(), seen.model.as_deref()), (Some("msg_01"), Some("claude-opus-4-8")));
    assert_eq!((seen.stop_reason.as_deref(), seen.web_searches), (Some("tool_use"), 2));
    assert_eq!((seen.events, seen.malformed_events, seen.skipped_events), (27, 0, 0));
    let written = 16 * " twelve bytes".len() + 2 * " grübeln über ☃".len() + 2 * " lines of a poem, ".len();
    assert_eq!(seen.content_bytes, written as u64);
    assert!(seen.complete && seen.decoded && seen.content_began && seen.output_is_exact);
    assert_eq!((seen.error_type, seen.geo), (None, None));
}

#[test]
fn what_is_seen_grows_with_the_stream() {
    let all = usual(20);
    let mut reader = Reader::new(200, &headers("text/event-stream", ""));
    let (mut began_at, mut most) = (None, 0);
    for (at, byte) in all.bytes().enumerate() {
        reader.push(&[byte]);
        let seen = reader.seen();
        if seen.content_began && began_at.is_none() {
            began_at = Some(at);
            assert_eq!(seen.usage.output_tokens, 1);
        }
        let now = seen.output_tokens_so_far();
        assert!(now >= most, "fewer tokens than before at byte {at}");
        most = now;
        assert_eq!(seen.complete, at + 1 == all.len());
    }
    let first_delta_ends = all.find("content_block_delta").and_then(|at| Some(at + all[at..].find("\n\n")? + 1));
    assert_eq!((began_at, most), (first_delta_ends, 815));
}

#[test]
fn a_cut_stream_is_paid_for_by_what_came() {
    let all = usual(40);
    let cut = all.find("message_delta").unwrap();
    let seen = stream(&all.as_bytes()[..cut]);
    assert!(!seen.complete && !seen.output_is_exact);
    assert_eq!(seen.usage.output_tokens, 1);
    assert_eq!(seen.usage_so_far().output_tokens, seen.content_bytes.div_ceil(4));
    assert_eq!(seen.usage_so_far().cache_read_tokens, 9000);
    // Only the last line's end is missing: the usage is told all the same.
    let cut = all.find("\n\nevent: message_stop").unwrap();
    assert_eq!(stream(&all.as_bytes()[..cut]).usage, usual_usage());
}

#[test]
fn every_split_says_the_same() {
    for ends in ["\n", "\r\n", "\r"] {
        let all = ("\u{feff}".to_owned() + ": a comment\n\n" + &usual(3)).replace('\n', ends);
        let whole = stream(all.as_bytes());
        assert!(whole.complete && whole.usage == usual_usage() && whole.events == 10, "{ends:?}: {whole:?}");
        let types = headers("text/event-stream", "");
        for at in 0..all.len() {
            let (one, other) = all.as_bytes().split_at(at);
            assert_eq!(read(&types, [one, other]), whole, "split at {at} with {ends:?}");
        }
        for size in [1, 2, 3, 5, 64] {
            assert_eq!(read(&types, all.as_bytes().chunks(size)), whole, "pieces of {size} with {ends:?}");
        }
    }
}

#[test]
fn spellings_that_are_not_usual_are_understood() {
    let check = |text: &str, expected: fn(&Seen) -> bool| {
        let seen = stream(text.as_bytes());
        assert!(expected(&seen), "{text}\n{seen:?}");
    };
    // Several lines of data, no blank after the colon, the name behind the data, unknown fields.
    check("data:{\"type\":\"error\",\ndata:\"error\":{\"type\":\"x\"}}\nid: 7\nevent:error\n\n", |seen| {
        seen.error_type.as_deref() == Some("x")
    });
    // Without a name the data tells.
    check("data: {\"type\":\"message_start\",\"message\":{\"id\":\"m\"}}\n\n", |seen| {
        seen.message_id.as_deref() == Some("m") && seen.events == 1
    });
    // The API pads against guessing by length.
    let padded = r#"{"type":"content_block_delta","index":12,"delta":{"type":"text_delta","text":"abcd"}      }"#;
    check(&format!("event: content_block_delta\ndata: {padded}\n\n"), |seen| seen.content_bytes == 4);
    // Blanks between, as other servers write them.
    let blanks = r#"{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a\"b"}}"#;
    check(&format!("event: content_block_delta\ndata: {blanks}\n\n"), |seen| seen.content_bytes == 3 && seen.malformed_events == 0);
    // No data: no event.
    check("event: message_stop\n\n: ping\n\n\n", |seen| seen.events == 0 && !seen.complete);
    // Unknown events and unknown fields are nobody's fault.
    check("event: from_the_future\ndata: not json\n\n", |seen| seen.events == 1 && seen.malformed_events == 0);
    check("event: message_start\ndata: {\"message\":\n\n", |seen| seen.malformed_events == 1);
    check("event: content_block_delta\ndata: [\n\n", |seen| seen.malformed_events == 1 && seen.content_began);
    check("event: message_start\ndata: {\"message\":{\"id\":\"\u{0}\"}}\n\n", |seen| seen.malformed_events == 1);
}

#[test]
fn an_error_inside_a_stream_is_seen() {
    let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded, key sk-ant-api03-0123456789abcdef"}});
    let cut = usual(2).split("event: content_block_stop").next().unwrap().to_owned() + &event("error", &error);
    let seen = stream(cut.as_bytes());
    assert_eq!(seen.error_type.as_deref(), Some("overloaded_error"));
    assert_eq!(seen.error_message_head.as_deref(), Some("Overloaded, key sk-ant-***"));
    assert!(!seen.complete && seen.usage.cache_read_tokens == 9000);
}

#[test]
fn a_large_event_is_skipped_and_the_rest_understood() {
    let large = event("content_block_start", &json!({"type": "content_block_start", "content": "x".repeat(2 * EVENT_BYTES_MAX)}));
    let all = large.clone() + &usual(3) + &large.replace("content_block_start", "content_block_delta");
    let whole = stream(all.as_bytes());
    assert_eq!((whole.skipped_events, whole.malformed_events, whole.events), (2, 0, 12));
    assert!(whole.complete && whole.usage == usual_usage());
    for size in [1000, EVENT_BYTES_MAX - 1, EVENT_BYTES_MAX] {
        assert_eq!(read(&headers("text/event-stream", ""), all.as_bytes().chunks(size)), whole);
    }
    // At the border itself all pieces agree too, whichever way the event is read.
    for length in EVENT_BYTES_MAX - 8..EVENT_BYTES_MAX + 2 {
        let frame = delta("text_delta", "text", "").len() - "event: content_block_delta\n\n\n".len();
        let all = delta("text_delta", "text", &"x".repeat(length - frame)) + "data: 1\n\n";
        let whole = stream(all.as_bytes());
        assert_eq!(read(&headers("text/event-stream", ""), all.as_bytes().chunks(100_000)), whole, "{length}");
        assert_eq!(whole.skipped_events, u64::from(length > EVENT_BYTES_MAX), "{length}");
    }
}

fn packed(encoding: &str, text: &[u8]) -> Vec<u8> {
    match encoding {
        "gzip" => {
            let mut out = flate2::GzBuilder::new().filename("a").comment("b").extra("cd").write(Vec::new(), Compression::new(6));
            out.write_all(text).unwrap();
            out.finish().unwrap()
        }
        "gzip twice" => {
            let (one, other) = text.split_at(text.len() / 2);
            let pack = |part: &[u8]| {
                let mut out = GzEncoder::new(Vec::new(), Compression::new(1));
                out.write_all(part).unwrap();
                out.finish().unwrap()
            };
            [pack(one), pack(other), vec![0; 12]].concat()
        }
        "deflate" => {
            let mut out = ZlibEncoder::new(Vec::new(), Compression::new(6));
            out.write_all(text).unwrap();
            out.finish().unwrap()
        }
        "deflate raw" => {
            let mut out = DeflateEncoder::new(Vec::new(), Compression::new(6));
            out.write_all(text).unwrap();
            out.finish().unwrap()
        }
        "zstd" => {
            // A frame with a window of 1 MiB and no size, and one block for each piece, as a stream is sent.
            let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 80];
            for part in text.chunks(777) {
                out.extend_from_slice(&(u32::try_from(part.len()).unwrap() << 3).to_le_bytes()[..3]);
                out.extend_from_slice(part);
            }
            out.extend_from_slice(&[1, 0, 0]);
            out
        }
        _ => text.to_vec(),
    }
}

#[test]
fn packed_answers_are_read_in_any_pieces() {
    let all = usual(60);
    let plain = stream(all.as_bytes());
    for encoding in ["gzip", "gzip twice", "deflate", "deflate raw", "zstd", "identity"] {
        let bytes = packed(encoding, all.as_bytes());
        let headers = headers("text/event-stream", encoding.split(' ').next().unwrap());
        for size in [1, 2, 7, 100, bytes.len()] {
            assert_eq!(read(&headers, bytes.chunks(size)), plain, "{encoding} in pieces of {size}");
        }
        // A cut one says what came.
        let cut = read(&headers, [&bytes[..bytes.len() * 2 / 3]]);
        assert!(cut.decoded && !cut.complete && cut.message_id == plain.message_id && cut.events > 10, "{encoding}: {cut:?}");
        // A broken one is given up, and never more.
        let mut broken = bytes.clone();
        broken.iter_mut().skip(3).step_by(5).for_each(|byte| *byte = !*byte);
        let seen = read(&headers, broken.chunks(50));
        assert!(encoding == "identity" || !seen.decoded || !seen.complete, "{encoding}");
    }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Forty deltas as the reference encoders of Brotli (quality 11) and Zstandard (level 19) pack them.
const BROTLI: &str = "1bc614009c05763b47925ed162c920ad8fb9973128645ba7247619b144aaf6b826462a88e0e8e0903ca0bd5eebb028f48587ef5a60fb9612cc6667ab2fca0ea381a2b945cfe000fde310988efd00879b4b0c16d3e29041656e273663a9d213e3f5716c7e94e51b247429b6818fb179fe76f7aa2e3a47049d6b5fc2691087bc4cb1ff512fe5dbb4f67ebcb71dd91377c0449245d933d5b885c5d6e51d587eb4548b60fb86efd7ec145a177794640481d8ee350f3d0cbff7f779d3f9ff4f71fc0b4b55de54b7fcde121d4a1b1133358367152d9de3ce4398ea0686e09b5a45d4e048420ad290816cc8815cc8837c6a123b9398c23466301b733017f3209f9a0226318569cc6036e6602ee6413e350d4c620ad398c16cccc15ccca3fd4e8bf0f0b8bb09d78cb3dbc79bd06e8dfe34e1eaedbcbded37238a76fb928fedc7267f8966f801";
const ZSTD: &str = "28b52ffd64c7135d0b005651341950770eb3dbb18c975b8b849d8caa6a4044d58ae063678a04182a002c002c0077ba773e9e2b8b1d1e1e7b6474adc7d3e95e3cfce3f9eafa5e10674f0a3436fb4a8ee6bd6c05b12b6b1c4cd9969d5d353bacaaacc6577b2763f2b27d0f9d26be2b77b5d0e117e1106e76598169362be8f115535b6707f1cd71c7c3219e635aa7c3cfae984a0ab2d52301e0fbbeceeca161d0a290d54e3d1983244bd0840e0922fed600f0fd38be572c6b492bffcca224c86114c460308b922087511043c12c4a821c464110cca224c86114c4878062767b45a8b1b8164441499292d42c0610259232298c0132181886c228028a0064408620236008fefffebfe03e04c5267880fd4696e03c82381e81338ea086ef48444851dbd6c6de6eb3b589bd66676363b3dbd9db6957b7b3d9d8d96cecda3e7e7d79bd5a555d5d555655c8286fb57079a941733c6f7dd98cfe12217798a6000ef4a4de802f09f8560461561547ad0028ea6438e7100974430d27f776e7";

#[test]
fn what_the_reference_encoders_pack_is_read() {
    for (encoding, hex) in [("br", BROTLI), ("zstd", ZSTD)] {
        let bytes = bytes_of(hex);
        for size in [1, 13, bytes.len()] {
            let seen = read(&headers("text/event-stream", encoding), bytes.chunks(size));
            assert_eq!((seen.message_id.as_deref(), seen.events, seen.complete), (Some("msg_br"), 43, true), "{encoding}: {seen:?}");
            assert_eq!((seen.usage.output_tokens, seen.usage.cache_read_tokens, seen.content_bytes), (44, 33, 270));
        }
    }
}

#[test]
fn encodings_that_are_not_known_leave_the_answer_unread() {
    for encoding in ["compress", "gzip, br", "x"] {
        let seen = read(&headers("text/event-stream", encoding), [usual(3).as_bytes()]);
        assert_eq!(seen, Seen { decoded: false, ..Seen::default() }, "{encoding}");
    }
}

#[test]
fn a_bomb_is_given_up() {
    // Members that follow one another are one answer: each is small, and all of them are too large.
    let bomb = packed("gzip", &vec![b' '; 1024 * 1024]).repeat(65);
    let mut reader = Reader::new(200, &headers("application/json", "gzip"));
    bomb.chunks(16 * 1024).for_each(|piece| reader.push(piece));
    assert!(!reader.finish().decoded);
    // A block that repeats a byte makes 128 KiB of four bytes.
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 80];
    (0..600).for_each(|_| bomb.extend_from_slice(&[2, 0, 16, b' ']));
    assert!(!read(&headers("text/event-stream", "zstd"), [bomb.as_slice()]).decoded);
    // A window larger than the encoding allows.
    assert!(!read(&headers("text/event-stream", "zstd"), [[0x28, 0xb5, 0x2f, 0xfd, 0, 0xff, 0, 0, 0].as_slice()]).decoded);
}

fn message(text: &str) -> String {
    json!({"id": "msg_02", "type": "message", "role": "assistant", "model": "claude-haiku-4-5",
        "content": [{"type": "text", "text": text}, {"type": "tool_use", "input": {"usage": {"input_tokens": 1_000_000}, "id": "no"}}],
        "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": 7, "output_tokens": 9, "speed": "fast", "inference_geo": "us", "cache_read_input_tokens": null}})
    .to_string()
}

#[test]
fn json_answers_of_any_size_are_read() {
    let types = headers("application/json", "");
    let small = read(&types, [message("hi").as_bytes()]);
    assert_eq!((small.usage.input_tokens, small.usage.output_tokens, small.fast, small.geo.as_deref()), (7, 9, true, Some("us")));
    assert_eq!((small.message_id.as_deref(), small.stop_reason.as_deref(), small.complete), (Some("msg_02"), Some("end_turn"), true));
    let large = message(&"\\ \" ☃ {[".repeat(300_000));
    for size in [999, 65_536, large.len()] {
        assert_eq!(read(&types, large.as_bytes().chunks(size)), small, "pieces of {size}");
    }
    let cut = read(&types, [&large.as_bytes()[..large.len() - 1]]);
    assert!(!cut.complete && cut.message_id.as_deref() == Some("msg_02"));
    let cut = read(&types, [&message("hi").as_bytes()[..60]]);
    assert!(!cut.complete && cut.message_id.as_deref() == Some("msg_02"), "{cut:?}");
}

#[test]
fn error_bodies_are_read_and_others_are_not() {
    let body = json!({"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}, "request_id": "req_1"}).to_string();
    let mut reader = Reader::new(429, &headers("application/json; charset=utf-8", ""));
    reader.push(body.as_bytes());
    let seen = reader.finish();
    assert_eq!((seen.error_type.as_deref(), seen.error_message_head.as_deref()), (Some("rate_limit_error"), Some("slow down")));
    assert!(!seen.content_began && seen.complete);
    let page = read(&headers("text/html", ""), [b"<html>".as_slice()]);
    assert_eq!(page, Seen { decoded: true, ..Seen::default() });
    assert_eq!(read(&HeaderMap::new(), [body.as_bytes()]).error_type.as_deref(), Some("rate_limit_error"));
}

/// `cargo test --release -p paramedic-gateway --test it -- --ignored --nocapture what_reading_costs`
#[test]
#[ignore = "a measurement"]
fn what_reading_costs() {
    let all = usual(98);
    let measure = |what: &str, headers: &HeaderMap, bytes: &[u8], size: usize| {
        let mut best = std::time::Duration::MAX;
        for _ in 0..50 {
            let began = std::time::Instant::now();
            for _ in 0..200 {
                std::hint::black_box(read(headers, std::hint::black_box(bytes).chunks(size)));
            }
            best = best.min(began.elapsed() / 200);
        }
        println!("{what}: {best:?} for {} bytes", bytes.len());
    };
    let types = headers("text/event-stream", "");
    println!("{} events", stream(all.as_bytes()).events);
    measure("stream in one piece", &types, all.as_bytes(), all.len());
    measure("stream in pieces of 1460", &types, all.as_bytes(), 1460);
    measure("stream in pieces of 137", &types, all.as_bytes(), 137);
    for encoding in ["gzip", "deflate", "zstd"] {
        let bytes = packed(encoding, all.as_bytes());
        measure(encoding, &headers("text/event-stream", encoding), &bytes, bytes.len());
    }
    measure("br", &headers("text/event-stream", "br"), &bytes_of(BROTLI), 10_000);
    let json = message(&"words ".repeat(500));
    measure("json", &headers("application/json", ""), json.as_bytes(), json.len());
}
