//! Any bytes as a stream of events, plain and packed: whatever pieces it comes in, the same is seen.
#![no_main]

use hyper::HeaderMap;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use libfuzzer_sys::fuzz_target;
use paramedic_gateway::answer::{Reader, Seen};

const ENCODINGS: [&str; 5] = ["identity", "gzip", "deflate", "br", "zstd"];

fn read<'a>(headers: &HeaderMap, pieces: impl IntoIterator<Item = &'a [u8]>) -> Seen {
    let mut reader = Reader::new(200, headers);
    for piece in pieces {
        reader.push(piece);
        let seen = reader.seen();
        assert!(seen.output_tokens_so_far() >= seen.usage.output_tokens);
    }
    reader.finish()
}

fuzz_target!(|data: &[u8]| {
    let Some(([encoding, first, other], stream)) = data.split_first_chunk() else { return };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // Mostly plain: there is most to be found.
    let encoding = ENCODINGS[usize::from(encoding.saturating_sub(250)).min(4)];
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    let whole = read(&headers, [stream]);
    // Pieces of two sizes in turn.
    let (mut rest, mut pieces, mut sizes) = (stream, Vec::new(), [*first, *other].into_iter().cycle());
    while !rest.is_empty() {
        let size = usize::from(sizes.next().unwrap_or(1)).clamp(1, rest.len());
        let (piece, behind) = rest.split_at(size);
        pieces.push(piece);
        rest = behind;
    }
    let split = read(&headers, pieces);
    if whole.decoded && split.decoded {
        assert_eq!(whole, split);
    }
    assert!(whole.decoded || encoding != "identity");
    assert!(whole.malformed_events + whole.skipped_events <= whole.events);
    assert!(whole.content_bytes <= stream.len() as u64 || encoding != "identity");
    assert!(whole.error_message_head.is_none_or(|head| head.len() <= 200));
    // Sums of counts must stay far from overflowing.
    let _ = whole.usage.total();
});
