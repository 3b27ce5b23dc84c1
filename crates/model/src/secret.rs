//! Masks secrets in text before anything is stored or shown.
//!
//! Deliberately simple and fast: fixed prefixes that real keys have, `Bearer` tokens, passwords inside URLs,
//! `key=value` pairs whose key names a secret, and private key blocks. The first characters of a key stay, so that a
//! person can tell which key it was.

use std::borrow::Cow;

const MASK: &str = "***";

/// A key's fixed beginning, how much of it is shown, and how long the rest must be to be taken for a key.
const PREFIXES: &[(&str, usize)] = &[
    ("sk-ant-", 8),
    ("sk-", 20),
    ("github_pat_", 20),
    ("ghp_", 20),
    ("gho_", 20),
    ("ghs_", 20),
    ("glpat-", 16),
    ("xoxb-", 10),
    ("xoxp-", 10),
    ("xapp-", 10),
    ("AKIA", 16),
    ("ASIA", 16),
    ("AIza", 30),
    ("eyJ", 40),
    ("npm_", 30),
    ("whsec_", 16),
];

/// Words that name a secret in `key=value`, `key: value` and `"key":"value"`.
const KEY_WORDS: &[&str] =
    &["password", "passwd", "secret", "api_key", "apikey", "api-key", "access_token", "auth_token", "private_key", "authorization"];

/// Returns the text with every secret replaced by its first characters and `***`.
#[must_use]
pub fn mask(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut out = String::new();
    let mut copied = 0;
    let mut i = 0;
    while i < bytes.len() {
        if let Some((shown_to, end)) = secret_at(text, i) {
            out.push_str(&text[copied..shown_to]);
            out.push_str(MASK);
            copied = end;
            i = end.max(i + 1);
        } else {
            i += 1;
        }
    }
    if copied == 0 && out.is_empty() {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// A secret that starts at `i`: up to where the text is shown, and where the secret ends.
fn secret_at(text: &str, i: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    match bytes[i] {
        b's' | b'g' | b'x' | b'A' | b'e' | b'n' | b'w' if !i.checked_sub(1).is_some_and(|p| is_token(bytes[p])) => prefixed_key(text, i),
        b'B' | b'b' => bearer(text, i),
        b':' => url_password(text, i).or_else(|| named_value(text, i)),
        b'=' => named_value(text, i),
        b'-' => private_key(text, i),
        _ => None,
    }
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/' | b'+' | b'~')
}

fn token_end(bytes: &[u8], from: usize) -> usize {
    from + bytes[from..].iter().take_while(|byte| is_token(**byte) || **byte == b'=').count()
}

fn prefixed_key(text: &str, i: usize) -> Option<(usize, usize)> {
    let rest = &text.as_bytes()[i..];
    let (prefix, rest_min) = PREFIXES.iter().find(|(prefix, _)| rest.starts_with(prefix.as_bytes()))?;
    let end = i + rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')).count();
    (end - i >= prefix.len() + rest_min).then_some((i + prefix.len(), end))
}

fn bearer(text: &str, i: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let word = bytes.get(i..i + 7)?;
    if !word.eq_ignore_ascii_case(b"bearer ") {
        return None;
    }
    let end = token_end(bytes, i + 7);
    (end - (i + 7) >= 8).then_some((i + 7, end))
}

/// `scheme://user:password@host`, with `i` at the colon after the scheme.
fn url_password(text: &str, i: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    if bytes.get(i + 1..i + 3)? != b"//" {
        return None;
    }
    let authority = &bytes[i + 3..];
    let length =
        authority.iter().take(512).take_while(|byte| !byte.is_ascii_whitespace() && !matches!(byte, b'/' | b'"' | b'\'' | b'<')).count();
    let at = authority[..length].iter().rposition(|byte| *byte == b'@')?;
    let colon = authority[..at].iter().position(|byte| *byte == b':')?;
    (at > colon + 1).then_some((i + 3 + colon + 1, i + 3 + at))
}

/// `password=…`, `"api_key": "…"`, with `i` at the sign between.
fn named_value(text: &str, i: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let mut key_end = i;
    while key_end > 0 && matches!(bytes[key_end - 1], b'"' | b'\'' | b'\\' | b' ') {
        key_end -= 1;
    }
    let key_start = key_end
        - bytes[..key_end].iter().rev().take(40).take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')).count();
    let key = bytes.get(key_start..key_end)?.to_ascii_lowercase();
    let ends_with_word =
        KEY_WORDS.iter().any(|word| key.ends_with(word.as_bytes())) || matches!(key.as_slice(), b"token" | b"pwd" | b"pass");
    if !ends_with_word {
        return None;
    }
    let mut start = i + 1;
    while start < bytes.len() && matches!(bytes[start], b'"' | b'\'' | b'\\' | b' ') {
        start += 1;
    }
    let end = start
        + bytes[start..]
            .iter()
            .take_while(|byte| !byte.is_ascii_whitespace() && !matches!(byte, b'"' | b'\'' | b',' | b';' | b'&' | b'\\' | b'}' | b')'))
            .count();
    let value = bytes.get(start..end)?;
    // `authorization: Bearer …` is left to the bearer rule, which shows the scheme; code such as `password: string`
    // or `password=$VAR` holds no secret.
    let is_plain_word = matches!(value, b"string" | b"String" | b"null" | b"None" | b"true" | b"false" | b"undefined");
    if value.len() < 4 || is_plain_word || value[0] == b'$' || value[0] == b'<' || value[0] == b'*' || value.eq_ignore_ascii_case(b"bearer")
    {
        return None;
    }
    (text.is_char_boundary(start) && text.is_char_boundary(end)).then_some((start, end))
}

fn private_key(text: &str, i: usize) -> Option<(usize, usize)> {
    const BEGIN: &str = "-----BEGIN ";
    let rest = &text[i..];
    if !rest.starts_with(BEGIN) {
        return None;
    }
    let header_end = BEGIN.len() + rest[BEGIN.len()..].find("-----")?;
    if !rest[..header_end].ends_with("PRIVATE KEY") {
        return None;
    }
    let end = rest.find("-----END ").map_or(text.len(), |at| i + at);
    Some((i + header_end + 5, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, masked: &str) {
        assert_eq!(mask(text), masked);
    }

    #[test]
    fn masks_what_real_secrets_look_like() {
        check("key sk-ant-api03-AbCdEf123456_xyz, next", "key sk-ant-***, next");
        check("Authorization: Bearer abcdef.ghijkl-mnop", "Authorization: Bearer ***");
        check("postgres://app:hunter22@db:5432/x", "postgres://app:***@db:5432/x");
        check("redis://:hunter22@cache:6379", "redis://:***@cache:6379");
        check("password=hunter22&x=1", "password=***&x=1");
        check(r#"{"api_key": "abcd1234", "n": 1}"#, r#"{"api_key": "***", "n": 1}"#);
        check("x-api-key: 0123456789", "x-api-key: ***");
        check("ANTHROPIC_API_KEY=abcd1234 run", "ANTHROPIC_API_KEY=*** run");
        check("token ghp_0123456789abcdefghij0123456789", "token ghp_***");
        check(
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
            "-----BEGIN RSA PRIVATE KEY-----***-----END RSA PRIVATE KEY-----",
        );
    }

    #[test]
    fn leaves_ordinary_text_alone() {
        for text in [
            "task-anthropic is not a key",
            "https://example.com/a:b@c",
            "let password: String = read();",
            "basket sk-1",
            "10:41:23 and a: b",
            "größe: 12 — ok",
            "-----BEGIN CERTIFICATE-----",
        ] {
            assert!(matches!(mask(text), Cow::Borrowed(_)), "{text} -> {}", mask(text));
        }
    }

    #[test]
    fn never_splits_a_character() {
        for text in ["password=\u{e9}\u{e9}\u{e9}", "secret: ☃☃☃", "Bearer ☃☃☃☃☃☃☃☃☃", "://ü:ü@ü"] {
            let _ = mask(text);
        }
    }
}
