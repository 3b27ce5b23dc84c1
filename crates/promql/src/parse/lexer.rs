//! From text to tokens.

use crate::error::ParseError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Identifier,
    /// A number or a duration; which one is decided by reading it.
    Number,
    String,
    /// An operator or a bracket.
    Symbol,
    End,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    pub(super) start: usize,
}

impl Token<'_> {
    pub(super) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    pub(super) fn is(&self, symbol: &str) -> bool {
        self.kind == Kind::Symbol && self.text == symbol
    }

    /// Keywords do not depend on upper or lower case.
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Identifier && self.text.eq_ignore_ascii_case(word)
    }
}

/// Longer symbols come first.
const SYMBOLS: [&str; 28] = [
    "=~", "!~", "==", "!=", "<=", ">=", "</", ">/", "<", ">", "=", "+", "-", "*", "/", "%", "^", "(", ")", "{", "}", "[", "]", ",", ":",
    "@", "!", ";",
];

/// All tokens, the end included.
pub(super) fn tokenize(text: &str) -> Result<Vec<Token<'_>>, ParseError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    let mut brackets = 0usize;
    loop {
        let rest = &text[at..];
        let Some(first) = rest.chars().next() else { break };
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        if first == '#' {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        let (kind, length) = next_token(rest, first, at, brackets > 0)?;
        let token = Token { kind, text: &rest[..length], start: at };
        match token.text {
            "[" if kind == Kind::Symbol => brackets += 1,
            "]" if kind == Kind::Symbol => brackets = brackets.saturating_sub(1),
            _ => {}
        }
        tokens.push(token);
        at += length;
    }
    tokens.push(Token { kind: Kind::End, text: "", start: text.len() });
    Ok(tokens)
}

fn next_token(rest: &str, first: char, at: usize, in_brackets: bool) -> Result<(Kind, usize), ParseError> {
    let second_is_digit = rest[first.len_utf8()..].starts_with(|c: char| c.is_ascii_digit());
    if first.is_ascii_digit() || first == '.' && second_is_digit {
        return Ok((Kind::Number, number_length(rest, at)?));
    }
    // Between brackets a colon separates range and step, elsewhere it may begin a recorded metric's name.
    if first.is_ascii_alphabetic() || first == '_' || first == ':' && !in_brackets {
        let length = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b == b':' && !in_brackets).count();
        if rest[..length] != *":" {
            return Ok((Kind::Identifier, length));
        }
    }
    if matches!(first, '"' | '\'' | '`') {
        return string_length(rest, first).map(|length| (Kind::String, length)).ok_or_else(|| {
            let what = if first == '`' { "unterminated raw string" } else { "unterminated quoted string" };
            ParseError::new(at, what)
        });
    }
    SYMBOLS
        .iter()
        .find(|symbol| rest.starts_with(**symbol))
        .map(|symbol| (Kind::Symbol, symbol.len()))
        .ok_or_else(|| ParseError::new(at, format!("unexpected character: {first:?}")))
}

fn string_length(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (i, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            '\n' if quote != '`' => return None,
            c if c == quote => return Some(i + c.len_utf8()),
            _ => {}
        }
    }
    None
}

/// Numbers run on over digits, letters, `_` and `.`, and over a sign that follows an exponent's `e`.
fn number_length(rest: &str, at: usize) -> Result<usize, ParseError> {
    let bytes = rest.as_bytes();
    let hexadecimal = bytes.len() > 1 && bytes[0] == b'0' && bytes[1].eq_ignore_ascii_case(&b'x');
    let mut end = 0;
    while let Some(byte) = bytes.get(end) {
        let sign = matches!(byte, b'+' | b'-') && !hexadecimal && end > 0 && bytes[end - 1].eq_ignore_ascii_case(&b'e');
        let sign = sign && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) && bytes[..end - 1].iter().all(is_number_byte);
        if !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.') || sign) {
            break;
        }
        end += 1;
    }
    let text = &rest[..end];
    if crate::number::parse_literal(text).is_none() && crate::number::parse_duration_ms(text).is_none() {
        return Err(ParseError::new(at, format!("bad number or duration syntax: {text:?}")));
    }
    Ok(end)
}

fn is_number_byte(byte: &u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'_' | b'.')
}
