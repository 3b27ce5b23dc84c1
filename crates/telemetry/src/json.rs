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
    // Checked eight bytes at a time by the compiler: a loop without an early exit is a vector loop.
    let plain = text.bytes().fold(true, |plain, byte| plain & (byte >= 0x20) & (byte != b'"') & (byte != b'\\'));
    if plain {
        out.reserve(text.len() + 2);
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else if serde_json::to_writer(&mut *out, text).is_err() {
        out.extend_from_slice(b"\"\"");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
