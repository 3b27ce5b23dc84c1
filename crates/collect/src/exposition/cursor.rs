//! Words, numbers and blanks: the smallest parts of a line.

use std::borrow::Cow;

use memchr::memchr3;

/// A name or a value as it was written between its quotes, if it had any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Word<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> Word<'a> {
    pub(super) const fn plain(raw: &'a str) -> Self {
        Self { raw, escaped: false }
    }

    /// What it means. `\\`, `\n` and `\"` are escapes; a backslash before anything else stands for itself.
    #[must_use]
    pub fn text(&self) -> Cow<'a, str> {
        if self.escaped { Cow::Owned(unescape(self.raw)) } else { Cow::Borrowed(self.raw) }
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }
}

fn unescape(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        text.push_str(&rest[..at]);
        let (meant, length) = match rest.as_bytes().get(at + 1) {
            Some(b'n') => ('\n', 2),
            Some(b'\\') => ('\\', 2),
            Some(b'"') => ('"', 2),
            _ => ('\\', 1),
        };
        text.push(meant);
        rest = &rest[at + length..];
    }
    text.push_str(rest);
    text
}

/// The text behind `# HELP name`.
pub(super) fn help(raw: &str) -> Cow<'_, str> {
    Word { raw, escaped: memchr::memchr(b'\\', raw.as_bytes()).is_some() }.text()
}

/// Which bytes a name may hold: 1 everywhere but in first place, 2 also in first place, 4 only in names of metrics (`:`).
const NAME_BYTES: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        let character = byte as u8;
        if character.is_ascii_alphabetic() || character == b'_' {
            bytes[byte] = 2;
        } else if character.is_ascii_digit() {
            bytes[byte] = 1;
        } else if character == b':' {
            bytes[byte] = 4;
        }
        byte += 1;
    }
    bytes
};

/// A place in the body.
pub(super) struct Cursor<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    #[inline]
    pub(super) fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    /// Goes behind `word` if it stands here.
    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let found = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += if found { word.len() } else { 0 };
        found
    }

    /// The rest of the line, without its end; goes to the next line.
    pub(super) fn rest_of_line(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let length = memchr::memchr(b'\n', rest.as_bytes()).unwrap_or(rest.len());
        self.at = (self.at + length + 1).min(self.text.len());
        &rest[..length]
    }

    /// A name without quotes; empty when none stands here.
    #[inline]
    pub(super) fn name(&mut self, colons: bool) -> &'a str {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let later = if colons { 7 } else { 3 };
        if bytes.get(start).is_none_or(|byte| NAME_BYTES[usize::from(*byte)] & (later & !1) == 0) {
            return "";
        }
        while self.at < bytes.len() && NAME_BYTES[usize::from(bytes[self.at])] & later != 0 {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    /// What stands between quotes; the opening one is already taken.
    #[inline]
    pub(super) fn quoted(&mut self, line_breaks: bool) -> Result<Word<'a>, &'static str> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut escaped = false;
        loop {
            let Some(found) = memchr3(b'"', b'\\', b'\n', &bytes[self.at..]) else {
                return Err("a quoted text is not closed");
            };
            self.at += found;
            match bytes[self.at] {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    if self.at + 1 >= bytes.len() {
                        return Err("a quoted text is not closed");
                    }
                    self.at += 2;
                    // The escaped character may be longer than a byte.
                    while !self.text.is_char_boundary(self.at) {
                        self.at += 1;
                    }
                }
                _ if line_breaks => self.at += 1,
                _ => return Err("a quoted text is not closed on its line"),
            }
        }
        let raw = &self.text[start..self.at];
        self.at += 1;
        Ok(Word { raw, escaped })
    }

    /// Everything up to the next blank or end of line.
    #[inline]
    pub(super) fn token(&mut self) -> &'a str {
        let start = self.at;
        let bytes = self.text.as_bytes();
        while self.at < bytes.len() && !matches!(bytes[self.at], b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        &self.text[start..self.at]
    }
}

/// A value. Small whole numbers, which most values are, are read by hand.
#[inline]
pub(super) fn number(token: &str) -> Result<f64, &'static str> {
    const WHAT: &str = "the value is not a number";
    let bytes = token.as_bytes();
    if bytes.len() <= 15 && !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit) {
        let whole = bytes.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        #[expect(clippy::cast_precision_loss, reason = "15 digits are exact")]
        return Ok(whole as f64);
    }
    token.parse().map_err(|_| WHAT)
}

/// Milliseconds of a whole number of milliseconds.
pub(super) fn millis(token: &str) -> Result<i64, &'static str> {
    token.parse().map_err(|_| "the time is not a whole number of milliseconds")
}

/// Milliseconds of a number of seconds.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
pub(super) fn seconds(token: &str) -> Result<i64, &'static str> {
    let seconds: f64 = token.parse().map_err(|_| "the time is not a number of seconds")?;
    let millis = seconds * 1_000.0;
    if millis.is_finite() && millis.abs() < 9.0e18 { Ok(millis as i64) } else { Err("the time is not a time") }
}
