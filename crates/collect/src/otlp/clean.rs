//! Untrusted text on its way into an event: secrets masked, length capped.

use memchr::{memchr2_iter, memchr3_iter};
use paramedic_model::limit::{ATTRIBUTE_BYTES_MAX, EVENT_TEXT_BYTES_MAX, ID_BYTES_MAX};
use paramedic_model::secret::mask;
use paramedic_model::text::head;

/// Endings of attribute names whose whole value is a secret.
const SECRET_ENDINGS: &[&str] =
    &["password", "passwd", "secret", "api_key", "apikey", "api-key", "access_token", "auth_token", "private_key"];

/// What stands before the sign in keys with a fixed beginning: `sk-`, `ghp_` and the others that [`mask`] knows.
const BEFORE_DASH: &[&[u8]] = &[b"sk", b"glpat", b"xoxb", b"xoxp", b"xapp"];
const BEFORE_UNDERSCORE: &[&[u8]] = &[b"github_pat", b"ghp", b"gho", b"ghs", b"npm", b"whsec"];

/// How the names end whose value [`mask`] hides: `password`, `passwd`, `pwd`, `secret`, `…key`, `token`,
/// `authorization`, `pass`.
const NAME_ENDINGS: &[&[u8; 3]] = &[b"ord", b"swd", b"pwd", b"ret", b"key", b"ken", b"ion", b"ass"];

/// Whether the text before a `:` or `=` ends with a name that may name a secret.
fn follows_secret_name(before: &[u8]) -> bool {
    let end = before.iter().rposition(|byte| !matches!(byte, b'"' | b'\'' | b'\\' | b' ')).map_or(0, |at| at + 1);
    end >= 3 && NAME_ENDINGS.iter().any(|ending| before[end - 3..end].eq_ignore_ascii_case(*ending))
}

/// Whether [`mask`] could find anything; a quick look that is allowed to say yes too often, never no.
pub(crate) fn may_hold_secret(text: &str) -> bool {
    let bytes = text.as_bytes();
    // `://:p@` is the shortest text that `mask` changes.
    if bytes.len() < 6 {
        return false;
    }
    let ends_with_any = |at: usize, starts: &[&[u8]]| starts.iter().any(|start| bytes[..at].ends_with(start));
    memchr3_iter(b':', b'=', b'-', bytes).any(|i| match bytes[i] {
        b'-' => bytes.get(i + 1) == Some(&b'-') || ends_with_any(i, BEFORE_DASH),
        sign => (sign == b':' && bytes[i + 1..].starts_with(b"//")) || follows_secret_name(&bytes[..i]),
    }) || (bytes.len() >= 14
        && (memchr3_iter(b'_', b'A', b'J', bytes).any(|i| match bytes[i] {
            b'_' => ends_with_any(i, BEFORE_UNDERSCORE),
            b'A' => matches!(bytes.get(i + 1..i + 4), Some(b"KIA" | b"SIA" | b"Iza")),
            _ => bytes[..i].ends_with(b"ey"),
        }) || memchr2_iter(b'b', b'B', bytes).any(|i| bytes[i..].get(..6).is_some_and(|word| word.eq_ignore_ascii_case(b"bearer")))))
}

/// What a person reads: masked, cut to the size kept per event.
pub(crate) fn text(text: &str) -> Box<str> {
    bounded(text, EVENT_TEXT_BYTES_MAX).into()
}

/// An identifier from outside.
pub(crate) fn id(text: &str) -> Box<str> {
    let text = head(text, ID_BYTES_MAX);
    if may_hold_secret(text) { mask(text).into() } else { text.into() }
}

/// An attribute's value. Nothing is copied when there is nothing to hide or cut.
pub(crate) fn attribute(key: &str, value: String) -> String {
    if names_secret(key) && value.len() >= 4 {
        return "***".to_owned();
    }
    if value.len() <= ATTRIBUTE_BYTES_MAX {
        if !may_hold_secret(&value) {
            return value;
        }
        if let std::borrow::Cow::Owned(masked) = mask(&value) {
            return masked;
        }
        return value;
    }
    bounded(&value, ATTRIBUTE_BYTES_MAX)
}

/// An attribute whose name says that its value is a secret: `db.password`, `x-api-key`, `token`.
pub(crate) fn names_secret(key: &str) -> bool {
    let key = key.as_bytes();
    if !matches!(key.last().map(u8::to_ascii_lowercase), Some(b'd' | b't' | b'y' | b'n' | b's')) {
        return false;
    }
    let word = key.rsplit(|byte| *byte == b'.').next().unwrap_or(key);
    let is_whole = |name: &[u8]| word.eq_ignore_ascii_case(name);
    is_whole(b"token")
        || is_whole(b"pwd")
        || is_whole(b"pass")
        || SECRET_ENDINGS
            .iter()
            .any(|ending| key.len() >= ending.len() && key[key.len() - ending.len()..].eq_ignore_ascii_case(ending.as_bytes()))
}

/// Masks before it cuts, so that a secret on the border is not cut into something that no longer looks like one.
pub(crate) fn bounded(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max && !may_hold_secret(text) {
        return text.to_owned();
    }
    let start = head(text, bytes_max.saturating_mul(2));
    let masked = mask(start);
    if masked.len() <= bytes_max && start.len() == text.len() {
        return masked.into_owned();
    }
    format!("{} … ({} bytes in all)", head(&masked, bytes_max), text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The quick look must never hide a secret from the masker.
    #[test]
    fn the_quick_look_never_misses() {
        for text in [
            "sk-ant-api03-AbCdEf123456_xyz",
            "key AKIAABCDEFGHIJKLMNOP",
            "AIzaabcdefghijklmnopqrstuvwxyz0123456",
            "eyJabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrst",
            "a BEARER abcdefghijkl",
            "bearer abcdefgh",
            "npm_abcdefghijklmnopqrstuvwxyz012345678",
            "sk-abcdefghijklmnopqrstuvwxyz",
            "github_pat_abcdefghijklmnopqrstuvwxyz",
            "ghp_abcdefghijklmnopqrstuvwxyz",
            "gho_abcdefghijklmnopqrstuvwxyz",
            "ghs_abcdefghijklmnopqrstuvwxyz",
            "glpat-abcdefghijklmnopqrstuvwxyz",
            "xoxb-abcdefghijklmnopqrstuvwxyz",
            "xoxp-abcdefghijklmnopqrstuvwxyz",
            "xapp-abcdefghijklmnopqrstuvwxyz",
            "whsec_abcdefghijklmnopqrstuvwxyz",
            "ASIAABCDEFGHIJKLMNOP",
            "-----BEGIN PRIVATE KEY-----",
            "pwd=abcd",
            "a://:p@",
        ] {
            assert_ne!(mask(text), text, "the example must be a secret: {text}");
            assert!(may_hold_secret(text), "{text}");
        }
        assert!(!may_hold_secret("opus") && !may_hold_secret("rate limit exceeded"));
    }

    #[test]
    fn the_quick_look_never_misses_in_mixed_text() {
        const PARTS: &[&str] = &[
            "password",
            "api-key",
            "API_KEY",
            "Token",
            "pass",
            "secret",
            "authorization",
            ":",
            "=",
            " ",
            "\"",
            "'",
            "\\",
            "hunter22",
            "//",
            "postgres://a:b",
            "@",
            "sk-",
            "sk-ant-",
            "ghp_",
            "eyJ",
            "AKIA",
            "Bearer ",
            "ABCDEFGHIJKLMNOPQRST",
            "0123456789abcdef",
            "ü",
            "-",
            "-----BEGIN RSA PRIVATE KEY-----",
        ];
        let mut state = 0x1234_5678_9abc_def1u64;
        for _ in 0..200_000 {
            let mut text = String::new();
            for _ in 0..6 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                text.push_str(PARTS[(state % PARTS.len() as u64) as usize]);
            }
            assert!(mask(&text) == text || may_hold_secret(&text), "{text}");
        }
    }

    #[test]
    fn an_attribute_named_like_a_secret_hides_its_value() {
        for (key, value, kept) in [
            ("db.password", "hunter22", "***"),
            ("token", "abcdef", "***"),
            ("http.request.header.x-api-key", "abcdef", "***"),
            ("input_tokens", "12000", "12000"),
            ("error", "Bearer abcdefghijkl", "Bearer ***"),
            ("status", "connected", "connected"),
        ] {
            assert_eq!(attribute(key, value.to_owned()), kept, "{key}");
        }
    }

    #[test]
    fn long_text_is_cut_and_says_so() {
        let kept = bounded(&format!("{}{}", "a".repeat(95), "sk-ant-abcdefghijklmnop"), 100);
        assert_eq!(kept, format!("{}sk-an … (118 bytes in all)", "a".repeat(95)));
    }
}
