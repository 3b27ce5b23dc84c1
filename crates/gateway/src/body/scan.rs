//! One walk over the bytes of a JSON text: forward only, without a tree and without recursion.

use memchr::memchr;

use super::place::{Place, Text};

/// The deepest nesting that is followed. A deeper body counts as one that cannot be read.
pub(super) const DEPTH_MAX: usize = 1024;

/// The text is no JSON, or nested too deeply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

pub(super) type Scan<T> = Result<T, Malformed>;

/// Where the walk is. Every method that reads a value begins at the value's first byte and ends behind its last.
#[derive(Debug)]
pub(super) struct Cursor<'b> {
    body: &'b [u8],
    at: usize,
}

impl<'b> Cursor<'b> {
    /// Places are 32 bits wide: larger texts are none.
    pub(super) fn new(body: &'b [u8]) -> Scan<Self> {
        if u32::try_from(body.len()).is_err() {
            return Err(Malformed);
        }
        Ok(Self { body, at: 0 })
    }

    /// At the first byte of a value that was walked over before.
    pub(super) fn at(body: &'b [u8], place: Place) -> Scan<Self> {
        let mut cursor = Self::new(body)?;
        cursor.at = place.start();
        Ok(cursor)
    }

    pub(super) fn body(&self) -> &'b [u8] {
        self.body
    }

    /// The byte at hand; 0, which begins no value, at the end.
    #[inline]
    pub(super) fn peek(&self) -> u8 {
        self.body.get(self.at).copied().unwrap_or(0)
    }

    #[inline]
    pub(super) fn blank(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    #[inline]
    fn eat(&mut self, byte: u8) -> bool {
        let is = self.peek() == byte;
        self.at += usize::from(is);
        is
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Scan<()> {
        if self.eat(byte) { Ok(()) } else { Err(Malformed) }
    }

    /// Nothing but blanks is left.
    pub(super) fn end(&mut self) -> Scan<()> {
        self.blank();
        if self.at == self.body.len() { Ok(()) } else { Err(Malformed) }
    }

    /// What is between the quotes of a string.
    ///
    /// Only quotes are looked for: texts have an escape in every line, and quotes in few of them. Whether one ends the string
    /// is told by the backslashes before it.
    #[inline]
    pub(super) fn string(&mut self) -> Scan<Text> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            let rest = self.body.get(self.at..).ok_or(Malformed)?;
            self.at += quote(rest).ok_or(Malformed)?;
            let end = self.at;
            self.at += 1;
            if !is_escaped(&self.body[start..end]) {
                return Ok(Text { place: Place::new(start, end) });
            }
        }
    }

    /// The string at hand; none, and the value is walked over, when it is something else.
    pub(super) fn text(&mut self) -> Scan<Option<Text>> {
        if self.peek() == b'"' {
            return self.string().map(Some);
        }
        self.skip()?;
        Ok(None)
    }

    /// Each field of the object at hand. `each` is called at the field's value, and walks over it. Another value is skipped.
    #[inline]
    pub(super) fn fields(&mut self, mut each: impl FnMut(&mut Self, Text) -> Scan<()>) -> Scan<()> {
        if !self.eat(b'{') {
            return self.skip();
        }
        self.blank();
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            let key = self.key()?;
            each(self, key)?;
            self.blank();
            if !self.eat(b',') {
                return self.expect(b'}');
            }
            self.blank();
        }
    }

    /// Each item of the array at hand, as [`Self::fields`] does it.
    #[inline]
    pub(super) fn items(&mut self, mut each: impl FnMut(&mut Self) -> Scan<()>) -> Scan<()> {
        if !self.eat(b'[') {
            return self.skip();
        }
        self.blank();
        if self.eat(b']') {
            return Ok(());
        }
        loop {
            each(self)?;
            self.blank();
            if !self.eat(b',') {
                return self.expect(b']');
            }
            self.blank();
        }
    }

    #[inline]
    fn key(&mut self) -> Scan<Text> {
        let key = self.string()?;
        self.blank();
        self.expect(b':')?;
        self.blank();
        Ok(key)
    }

    /// Walks over what `walk` walks over, and says where it was.
    #[inline]
    pub(super) fn placed(&mut self, walk: impl FnOnce(&mut Self) -> Scan<()>) -> Scan<Place> {
        let start = self.at;
        walk(self)?;
        Ok(Place::new(start, self.at))
    }

    /// The value at hand, whatever it is.
    #[inline]
    pub(super) fn skip(&mut self) -> Scan<()> {
        match self.peek() {
            b'"' => self.string().map(drop),
            b'{' | b'[' => self.nested(),
            _ => self.scalar(),
        }
    }

    /// An object or an array, with everything in it.
    fn nested(&mut self) -> Scan<()> {
        let mut open = Open { objects: [0; DEPTH_MAX / 64], depth: 0 };
        'value: loop {
            match self.peek() {
                b'"' => drop(self.string()?),
                b'{' => {
                    self.at += 1;
                    self.blank();
                    open.push(true)?;
                    if self.peek() != b'}' {
                        self.key()?;
                        continue 'value;
                    }
                }
                b'[' => {
                    self.at += 1;
                    self.blank();
                    open.push(false)?;
                    if self.peek() != b']' {
                        continue 'value;
                    }
                }
                _ => self.scalar()?,
            }
            loop {
                self.blank();
                let in_object = open.in_object();
                match self.peek() {
                    b',' => {
                        self.at += 1;
                        self.blank();
                        if in_object {
                            self.key()?;
                        }
                        continue 'value;
                    }
                    b'}' if in_object => self.at += 1,
                    b']' if !in_object => self.at += 1,
                    _ => return Err(Malformed),
                }
                open.depth -= 1;
                if open.depth == 0 {
                    return Ok(());
                }
            }
        }
    }

    /// A number, or one of the three words.
    fn scalar(&mut self) -> Scan<()> {
        let rest = self.body.get(self.at..).ok_or(Malformed)?;
        let bytes = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')).count();
        let word = &rest[..bytes];
        if !matches!(word, b"true" | b"false" | b"null") && !is_number(word) {
            return Err(Malformed);
        }
        self.at += bytes;
        Ok(())
    }
}

/// What stands behind these bytes of a string is escaped: an odd number of backslashes is before it.
#[inline]
fn is_escaped(said: &[u8]) -> bool {
    match said {
        [.., before, b'\\'] if *before != b'\\' => true,
        [.., b'\\'] => said.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1,
        _ => false,
    }
}

/// Where the next quote is. Most strings are keys and short words, for which the wide search takes longer to begin than to end.
#[inline]
fn quote(bytes: &[u8]) -> Option<usize> {
    const QUOTES: u64 = u64::from_ne_bytes([b'"'; 8]);
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let mut at = 0;
    for word in bytes.chunks_exact(8).take(2) {
        let differs = u64::from_le_bytes(word.try_into().ok()?) ^ QUOTES;
        // The lowest byte that is zero sets its highest bit; only bits above it may be wrong.
        let found = differs.wrapping_sub(ONES) & !differs & (ONES << 7);
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    memchr(b'"', &bytes[at..]).map(|found| at + found)
}

/// Which of the values that are open are objects, the outermost first.
struct Open {
    objects: [u64; DEPTH_MAX / 64],
    depth: usize,
}

impl Open {
    fn push(&mut self, object: bool) -> Scan<()> {
        let word = self.objects.get_mut(self.depth / 64).ok_or(Malformed)?;
        let bit = 1 << (self.depth % 64);
        *word = if object { *word | bit } else { *word & !bit };
        self.depth += 1;
        Ok(())
    }

    fn in_object(&self) -> bool {
        let at = self.depth.wrapping_sub(1);
        self.objects.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }
}

/// `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`, as RFC 8259 has it.
fn is_number(word: &[u8]) -> bool {
    let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut rest = word.strip_prefix(b"-").unwrap_or(word);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest[0] == b'0') {
        return false;
    }
    rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = &fraction[count..];
    }
    if let Some(exponent) = rest.strip_prefix(b"e").or_else(|| rest.strip_prefix(b"E")) {
        let exponent = exponent.strip_prefix(b"+").or_else(|| exponent.strip_prefix(b"-")).unwrap_or(exponent);
        return !exponent.is_empty() && digits(exponent) == exponent.len();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Scan<()> {
        let mut cursor = Cursor::new(text)?;
        cursor.blank();
        cursor.skip()?;
        cursor.end()
    }

    #[test]
    fn what_is_json_is_walked_over() {
        let texts = [
            "0",
            "-0",
            "10.5e+3",
            "1E9",
            "true",
            " null ",
            "\"\"",
            "\"a\\\"b\\\\\"",
            "\"\\u00e9\\/\\b\"",
            "[]",
            "{}",
            "[ ]",
            "{ }",
            "[[],{}]",
            "{\"a\":[1,2,{\"b\":\"]}\"}],\"c\":\"\\\\\"}",
            "\n{\t\"a\" : [ 1 , 2 ] ,\r\n\"b\" : { } }\n",
        ];
        for text in texts {
            assert!(serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok(), "{text}");
            assert_eq!(read(text.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_told() {
        let texts = [
            "",
            " ",
            "-",
            "01",
            "1.",
            ".5",
            "1e",
            "1e+",
            "+1",
            "nul",
            "truee",
            "NaN",
            "\"",
            "\"\\\"",
            "\"\\u12",
            "[",
            "]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{",
            "}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{1:1}",
            "[1}",
            "{\"a\":1]",
            "[] []",
            "{}x",
            "[1],",
            "{\"a\" 1}",
            "\u{feff}{}",
        ];
        for text in texts {
            assert!(serde_json::from_str::<serde::de::IgnoredAny>(text).is_err(), "{text}");
            assert_eq!(read(text.as_bytes()), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn depth_has_a_bound() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(read(nested(DEPTH_MAX).as_bytes()), Ok(()));
        assert_eq!(read(nested(DEPTH_MAX + 1).as_bytes()), Err(Malformed));
        assert_eq!(read("[{\"a\":".repeat(5_000_000).as_bytes()), Err(Malformed));
        let mixed = |depth: usize| format!("{}1{}", "{\"a\":[".repeat(depth), "]}".repeat(depth));
        assert_eq!(read(mixed(DEPTH_MAX / 2).as_bytes()), Ok(()));
        assert_eq!(read(mixed(DEPTH_MAX / 2 + 1).as_bytes()), Err(Malformed));
    }
}
