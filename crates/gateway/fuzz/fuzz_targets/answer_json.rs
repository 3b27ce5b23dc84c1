//! Any bytes as a JSON answer, small enough to be kept and too large for it: the same is seen.
#![no_main]

use hyper::HeaderMap;
use libfuzzer_sys::fuzz_target;
use paramedic_gateway::answer::{Reader, Seen};

/// More than is kept of a body.
const PADDING_BYTES: usize = 1024 * 1024;

fn read(pieces: &[&[u8]]) -> Seen {
    let mut reader = Reader::new(200, &HeaderMap::new());
    for piece in pieces {
        reader.push(piece);
    }
    reader.finish()
}

thread_local! {
    static PADDING: Vec<u8> = [br#"{"content":""#.as_slice(), &vec![b'x'; PADDING_BYTES], b"\","].concat();
}

fuzz_target!(|data: &[u8]| {
    let kept = read(&[data]);
    if !kept.complete {
        let bytes: Vec<&[u8]> = data.chunks(1).collect();
        assert_eq!(read(&bytes), kept);
        return;
    }
    // A whole object's members are found without keeping it. Keys in escapes are not: nobody writes them so.
    let Some(members) = data.trim_ascii_start().strip_prefix(b"{") else { return };
    if members.trim_ascii_start().starts_with(b"}") || members.contains(&b'\\') || members.len() > 16 * 1024 {
        return;
    }
    let outlined = PADDING.with(|padding| read(&[padding, members]));
    assert_eq!(outlined, Seen { output_is_exact: outlined.output_is_exact, ..kept });
});
