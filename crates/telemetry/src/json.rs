//! Writes an attribute bag as JSON text. The hot path writes one per event, mostly short plain strings.

use paramedic_model::event::Attributes;
use serde_json::Value;

pub(crate) fn write_attributes(attributes: &Attributes, out: &mut Vec<u8>) {
    out.push(b'{');
    for (i, (key, value)) in attributes.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_text(key, out);
        out.push(b':');
        match value {
            Value::String(text) => write_text(text, out),
            // Numbers, arrays and objects are rare enough; writing to memory cannot fail.
            other => {
                let before = out.len();
                if serde_json::to_writer(&mut *out, other).is_err() {
                    out.truncate(before);
                    out.extend_from_slice(b"null");
                }
            }
        }
    }
    out.push(b'}');
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    if is_plain(text.as_bytes()) {
        out.reserve(text.len() + 2);
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else if serde_json::to_writer(&mut *out, text).is_err() {
        out.extend_from_slice(b"\"\"");
    }
}

/// Nothing in it needs an escape. Eight bytes at a time, by the well-known carries ("Bit Twiddling Hacks", S. E. Anderson:
/// a byte is zero, a byte is less than n); a rare false alarm only costs the slow way.
fn is_plain(bytes: &[u8]) -> bool {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES * 0x80;
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let (words, rest) = bytes.as_chunks::<8>();
    let special = words.iter().fold(0, |special, word| {
        let word = u64::from_le_bytes(*word);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        special | control | has_zero(word ^ (ONES * u64::from(b'"'))) | has_zero(word ^ (ONES * u64::from(b'\\')))
    });
    special == 0 && rest.iter().all(|byte| *byte >= 0x20 && *byte != b'"' && *byte != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place_is_judged_rightly() {
        for length in 1..20 {
            for place in 0..length {
                for byte in 0..=127u8 {
                    let mut bytes = vec![b'a'; length];
                    bytes[place] = byte;
                    assert_eq!(is_plain(&bytes), byte >= 0x20 && byte != b'"' && byte != b'\\', "{byte} at {place} of {length}");
                }
            }
        }
        assert!(is_plain("Größe 漢字 😀 Größe".as_bytes()));
    }

    #[test]
    fn writes_what_the_library_writes() {
        for text in [
            r"{}",
            r#"{"a":"b","c":1,"d":[1.5,null,true,{"x":"y\"z"}]}"#,
            r#"{"quote\"":"back\\slash","line":"a\nb","unicode":"é漢😀","control":"\u0001"}"#,
        ] {
            let attributes: Attributes = serde_json::from_str(text).unwrap();
            let mut out = Vec::new();
            write_attributes(&attributes, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(&attributes).unwrap());
        }
    }
}
