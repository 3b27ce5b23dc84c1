//! Places in a body: ranges of its bytes, and what stands there.

use std::borrow::Cow;
use std::ops::Range;

/// A longer key with escapes is none of those that are looked for.
const ESCAPED_KEY_BYTES_MAX: usize = 256;

/// A range of a body's bytes. It is only good for the body that it was found in; in another it names nothing, or something
/// else, and never fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Place {
    start: u32,
    end: u32,
}

impl Place {
    /// The walk sees to it that all offsets fit.
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start: u32::try_from(start).unwrap_or(u32::MAX), end: u32::try_from(end).unwrap_or(u32::MAX) }
    }

    #[must_use]
    pub fn start(&self) -> usize {
        self.start as usize
    }

    #[must_use]
    pub fn end(&self) -> usize {
        self.end as usize
    }

    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.start()..self.end()
    }

    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::from(self.end.saturating_sub(self.start))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    /// The bytes as they are.
    #[must_use]
    pub fn raw<'b>(&self, body: &'b [u8]) -> &'b [u8] {
        body.get(self.range()).unwrap_or_default()
    }

    /// What a string says: its place is between the quotes, and its escapes are resolved.
    #[must_use]
    pub fn text<'b>(&self, body: &'b [u8]) -> Cow<'b, str> {
        let raw = self.raw(body);
        if memchr::memchr(b'\\', raw).is_none() {
            return String::from_utf8_lossy(raw);
        }
        let quoted = body.get(self.start().wrapping_sub(1)..self.end() + 1).unwrap_or_default();
        // Half a surrogate pair, or bytes that are no UTF-8: shown as they are rather than not at all.
        serde_json::from_slice::<String>(quoted).map_or_else(|_| String::from_utf8_lossy(raw), Cow::Owned)
    }
}

/// A whole number, and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    pub value: u64,
    pub place: Place,
}

impl Number {
    /// A fraction, a negative number or another value is none. `8e3` is 8,000, as readers of JSON have it.
    pub(super) fn read(place: Place, body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(place.raw(body)).ok()?;
        let value = text.parse::<u64>().ok().or_else(|| {
            let number = text.parse::<f64>().ok().filter(|number| number.fract() == 0.0 && (0.0..9e15).contains(number))?;
            Some(number as u64)
        })?;
        Some(Self { value, place })
    }
}

/// A string on the way: where its content is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    pub(super) place: Place,
}

impl Text {
    /// The content, to be compared with names. `"mod\u0065l"` is `model`.
    #[inline]
    pub(super) fn name<'b>(&self, body: &'b [u8]) -> Cow<'b, [u8]> {
        let raw = self.place.raw(body);
        if raw.len() > ESCAPED_KEY_BYTES_MAX || !raw.contains(&b'\\') {
            return Cow::Borrowed(raw);
        }
        Cow::Owned(self.place.text(body).into_owned().into_bytes())
    }

    #[inline]
    pub(super) fn is(&self, body: &[u8], name: &[u8]) -> bool {
        self.name(body).as_ref() == name
    }
}
