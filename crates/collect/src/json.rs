//! A scanner that reads only what is asked for.
//!
//! **Takes** the bytes of one JSON value. **Gives** raw slices of the members somebody wants, undecoded. **Never**
//! builds a tree, never recurses, never validates what it skips beyond finding where it ends: a transcript line can
//! be megabytes of tool output around a hundred bytes of facts.
//!
//! Strings are ended with `memchr` for the next quote; a quote preceded by an odd number of backslashes is content.
//! So the cost of a long string is that of finding its quotes, whatever else is escaped in it.

use std::borrow::Cow;

use memchr::memchr;

/// A position in the bytes of one value. All methods answer `None` where the bytes are not JSON at that place.
#[derive(Debug, Clone, Copy)]
pub struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A JSON string as it is written: with quotes, escapes not yet decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// The text of a raw value when that is a string.
    #[must_use]
    pub fn of_value(raw: &'a [u8]) -> Option<Self> {
        (raw.len() >= 2 && raw[0] == b'"' && raw[raw.len() - 1] == b'"').then_some(Self(raw))
    }

    /// Between the quotes, escapes as written.
    #[must_use]
    pub fn raw(self) -> &'a [u8] {
        &self.0[1..self.0.len() - 1]
    }

    /// With the quotes.
    #[must_use]
    pub const fn quoted(self) -> &'a [u8] {
        self.0
    }

    /// Decoded. Invalid UTF-8 and invalid escapes become replacement characters rather than losing the text.
    #[must_use]
    pub fn decode(self) -> Cow<'a, str> {
        let raw = self.raw();
        if memchr(b'\\', raw).is_none() {
            return String::from_utf8_lossy(raw);
        }
        match serde_json::from_slice::<String>(self.0) {
            Ok(text) => Cow::Owned(text),
            Err(_) => String::from_utf8_lossy(raw),
        }
    }

    /// Decoded, but of a long text no more than the head: nobody decodes a megabyte to show four kilobytes of it.
    #[must_use]
    pub fn decode_head(self, bytes_max: usize) -> Cow<'a, str> {
        let raw = self.raw();
        // An escape takes up to twelve bytes for four of text, but text that is all escapes is not worth the effort.
        let mut cut = bytes_max.saturating_mul(2).saturating_add(16);
        if raw.len() <= cut {
            return self.decode();
        }
        if memchr(b'\\', &raw[..cut]).is_none() {
            return String::from_utf8_lossy(&raw[..cut]);
        }
        let mut quoted = Vec::with_capacity(cut + 2);
        // The cut may have split an escape or a character; the nearest place that has not is at most twelve bytes before.
        for _ in 0..12 {
            quoted.clear();
            quoted.push(b'"');
            quoted.extend_from_slice(&raw[..cut]);
            quoted.push(b'"');
            if let Ok(text) = serde_json::from_slice::<String>(&quoted) {
                return Cow::Owned(text);
            }
            cut -= 1;
        }
        String::from_utf8_lossy(&raw[..cut])
    }
}

impl<'a> Scanner<'a> {
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// The next significant byte, not consumed.
    #[must_use]
    pub fn peek(&mut self) -> Option<u8> {
        self.skip_blanks();
        self.bytes.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Nothing but blanks is left.
    #[must_use]
    pub fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// Enters an object. Then call [`Self::next_key`] until it says that there is no more.
    pub fn enter_object(&mut self) -> Option<()> {
        self.eat(b'{')
    }

    /// The next key of the object that was entered, `Some(None)` after the last one. `first` starts as true and is
    /// kept by the caller; between two calls the member's value must be consumed.
    pub fn next_key(&mut self, first: &mut bool) -> Option<Option<&'a [u8]>> {
        match self.peek()? {
            b'}' => {
                self.at += 1;
                return Some(None);
            }
            b',' if !*first => self.at += 1,
            _ if *first => {}
            _ => return None,
        }
        *first = false;
        self.skip_blanks();
        let key = self.text()?;
        self.eat(b':')?;
        Some(Some(key.raw()))
    }

    /// Enters an array. Then call [`Self::next_item`] until it says false.
    pub fn enter_array(&mut self) -> Option<()> {
        self.eat(b'[')
    }

    /// Whether another item follows in the array that was entered.
    pub fn next_item(&mut self, first: &mut bool) -> Option<bool> {
        match self.peek()? {
            b']' => {
                self.at += 1;
                return Some(false);
            }
            b',' if !*first => self.at += 1,
            _ if *first => {}
            _ => return None,
        }
        *first = false;
        Some(true)
    }

    /// A string, consumed.
    pub fn text(&mut self) -> Option<Text<'a>> {
        self.skip_blanks();
        let start = self.at;
        if *self.bytes.get(start)? != b'"' {
            return None;
        }
        let end = self.string_end(start + 1)?;
        self.at = end + 1;
        Some(Text(&self.bytes[start..=end]))
    }

    /// The closing quote of the string whose content starts at `from`.
    #[inline]
    fn string_end(&self, from: usize) -> Option<usize> {
        // Keys, ids and flags are short: looking at their bytes is cheaper than calling memchr.
        let short = self.bytes.len().min(from + 16);
        let mut at = from;
        while at < short {
            match self.bytes[at] {
                b'"' => return Some(at),
                b'\\' => break,
                _ => at += 1,
            }
        }
        loop {
            let quote = at + memchr(b'"', self.bytes.get(at..)?)?;
            if preceding_backslashes(&self.bytes[from..], quote - from).is_multiple_of(2) {
                return Some(quote);
            }
            at = quote + 1;
        }
    }

    /// Any value, consumed, as it is written.
    pub fn value(&mut self) -> Option<&'a [u8]> {
        let first = self.peek()?;
        let start = self.at;
        match first {
            b'"' => {
                self.at = self.string_end(start + 1)? + 1;
            }
            b'{' | b'[' => self.skip_container()?,
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => self.skip_bare(),
            _ => return None,
        }
        Some(&self.bytes[start..self.at])
    }

    fn skip_bare(&mut self) {
        while let Some(byte) = self.bytes.get(self.at) {
            if matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r') {
                break;
            }
            self.at += 1;
        }
    }

    fn skip_container(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            match *self.bytes.get(self.at)? {
                b'"' => self.at = self.string_end(self.at + 1)? + 1,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth -= 1;
                    self.at += 1;
                    if depth == 0 {
                        return Some(());
                    }
                }
                _ => self.at += 1,
            }
        }
    }

    /// A string's text, or `Some(None)` for any other value.
    pub fn text_or_skip(&mut self) -> Option<Option<Text<'a>>> {
        if self.peek()? == b'"' { Some(Some(self.text()?)) } else { self.value().map(|_| None) }
    }

    /// A non-negative whole number; any other value is skipped and counts as zero.
    pub fn count(&mut self) -> Option<u64> {
        self.value().map(|raw| number(raw).unwrap_or(0))
    }

    /// `true`; any other value is false.
    pub fn flag(&mut self) -> Option<bool> {
        self.value().map(|raw| raw == b"true")
    }
}

/// A whole number that is not negative. Fractions, exponents and numbers beyond 64 bits are not.
#[must_use]
pub fn number(raw: &[u8]) -> Option<u64> {
    if raw.is_empty() || raw.len() > 20 {
        return None;
    }
    raw.iter().try_fold(0u64, |sum, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// How many backslashes stand directly before `at`.
fn preceding_backslashes(bytes: &[u8], at: usize) -> usize {
    bytes[..at].iter().rev().take_while(|byte| **byte == b'\\').count()
}

/// Calls `see` with every member of an object: key and raw value. `None` when the bytes are not an object.
pub fn members<'a>(raw: &'a [u8], mut see: impl FnMut(&'a [u8], &'a [u8])) -> Option<()> {
    let mut scan = Scanner::new(raw);
    scan.enter_object()?;
    let mut first = true;
    while let Some(key) = scan.next_key(&mut first)? {
        see(key, scan.value()?);
    }
    scan.is_at_end().then_some(())
}

/// Whether the bytes are one object from its first brace to its last, as opposed to the beginning of one.
#[must_use]
pub fn is_whole_object(bytes: &[u8]) -> bool {
    let mut scan = Scanner::new(bytes);
    scan.peek() == Some(b'{') && scan.value().is_some() && scan.is_at_end()
}

/// The raw value of one member of an object.
#[must_use]
pub fn member<'a>(raw: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    let mut found = None;
    members(raw, |key, value| {
        if key == wanted.as_bytes() {
            found = Some(value);
        }
    })?;
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_end_of_strings_whatever_is_escaped() {
        for (text, decoded) in [
            (r#""""#, ""),
            (r#""a\"b""#, "a\"b"),
            (r#""\\""#, "\\"),
            (r#""\\\"""#, "\\\""),
            (r#""a long one with \n and \u00e9 and \\\\ at the end \\""#, "a long one with \n and é and \\\\ at the end \\"),
        ] {
            let mut scan = Scanner::new(text.as_bytes());
            let found = scan.text().expect(text);
            assert!(scan.is_at_end(), "{text}");
            assert_eq!(found.decode(), decoded);
        }
        for text in [r#"""#, r#""a"#, r#""a\""#, "a"] {
            assert!(Scanner::new(text.as_bytes()).text().is_none(), "{text}");
        }
    }

    #[test]
    fn skips_values_whole() {
        let line = br#" { "a" : [1, {"b":"]}"}, "x"] , "c":-1.5e3,"d":null, "e":"\\" } "#;
        let mut seen = Vec::new();
        members(line, |key, value| seen.push((String::from_utf8_lossy(key).into_owned(), String::from_utf8_lossy(value).into_owned())))
            .expect("an object");
        let seen: Vec<_> = seen.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(seen, [("a", r#"[1, {"b":"]}"}, "x"]"#), ("c", "-1.5e3"), ("d", "null"), ("e", r#""\\""#)]);
    }

    #[test]
    fn says_no_to_what_is_not_an_object() {
        for line in [
            "",
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,",
            "{\"a\" 1}",
            "{a:1}",
            "{,}",
            "{\"a\":}",
            "[]",
            "{} x",
            "{\"a\":1 \"b\":2}",
        ] {
            assert!(members(line.as_bytes(), |_, _| {}).is_none(), "{line}");
        }
    }

    #[test]
    fn decodes_only_the_head_of_long_text() {
        let text = format!("\"{}\"", "é\\n\\ud83d\\ude00".repeat(1000));
        let scanned = Scanner::new(text.as_bytes()).text().expect("a string");
        let head = scanned.decode_head(100);
        assert!(head.len() >= 50 && head.len() < 500);
        assert!(scanned.decode().starts_with(head.trim_end_matches('\u{fffd}')), "{head}");
    }

    #[test]
    fn reads_numbers_strictly() {
        for (raw, value) in
            [("0", Some(0)), ("18446744073709551615", Some(u64::MAX)), ("18446744073709551616", None), ("1.5", None), ("-1", None)]
        {
            assert_eq!(number(raw.as_bytes()), value, "{raw}");
        }
    }
}
