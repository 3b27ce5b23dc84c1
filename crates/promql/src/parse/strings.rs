//! String literals.

/// Where stray bytes are kept: at the end of the last private plane.
const STRAY_BYTE: u32 = 0x0010_ff00;

/// The byte that a character stands for, if it stands for one that was not UTF-8.
pub(crate) fn stray_byte(c: char) -> Option<u32> {
    (c as u32).checked_sub(STRAY_BYTE).filter(|byte| (0x80..=0xff).contains(byte))
}

/// The text of a literal in double quotes, single quotes or backticks; `None` when it is malformed.
pub(crate) fn unquote(literal: &str) -> Option<String> {
    let quote = literal.chars().next()?;
    let inner = literal.strip_prefix(quote)?.strip_suffix(quote).filter(|_| literal.len() >= 2)?;
    match quote {
        '`' => Some(inner.replace('\r', "")),
        '"' | '\'' => unescape(inner, quote),
        _ => None,
    }
}

fn unescape(inner: &str, quote: char) -> Option<String> {
    let mut bytes: Vec<u8> = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    let mut utf8 = [0u8; 4];
    while let Some(c) = chars.next() {
        if c == '\n' || c == quote {
            return None;
        }
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
            continue;
        }
        let number = |chars: &mut std::str::Chars<'_>, first: Option<char>, count: usize, radix: u32| {
            let digits: String = first.into_iter().chain(chars.by_ref().take(count)).collect();
            (digits.len() == count + usize::from(first.is_some())).then(|| u32::from_str_radix(&digits, radix).ok()).flatten()
        };
        let escaped = match chars.next()? {
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            '\\' => '\\',
            c if c == quote => c,
            'x' => {
                bytes.push(u8::try_from(number(&mut chars, None, 2, 16)?).ok()?);
                continue;
            }
            c @ '0'..='7' => {
                bytes.push(u8::try_from(number(&mut chars, Some(c), 2, 8)?).ok()?);
                continue;
            }
            'u' => char::from_u32(number(&mut chars, None, 4, 16)?)?,
            'U' => char::from_u32(number(&mut chars, None, 8, 16)?)?,
            _ => return None,
        };
        bytes.extend_from_slice(escaped.encode_utf8(&mut utf8).as_bytes());
    }
    Some(lossless(&bytes))
}

/// Bytes that are not UTF-8 become characters that nothing else uses, so that what is wrong can be named later.
fn lossless(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().filter_map(|byte| char::from_u32(STRAY_BYTE + u32::from(*byte))));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_unquoted() {
        for (literal, text) in [
            (r#""a\n\"b\"""#, Some("a\n\"b\"")),
            ("`a\\n`", Some("a\\n")),
            (r"'it\'s \x41\101\u00e4'", Some("it's AAä")),
            (r#""\q""#, None),
            (r#"""#, None),
            (r#""\xff""#, Some("\u{10ffff}")),
        ] {
            assert_eq!(unquote(literal).as_deref(), text, "{literal}");
        }
    }
}
