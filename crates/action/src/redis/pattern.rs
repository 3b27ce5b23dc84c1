//! What a pattern matches for certain, before anybody is asked.

use crate::call::Call;
use crate::error::ActionError;

/// A pattern must begin with so many fixed characters before anything is removed by it.
pub(super) const FIXED_BYTES_MIN: usize = 3;
const PATTERN_BYTES_MAX: usize = 512;
/// Each further star multiplies what the server tries for a key.
const STARS_MAX: usize = 6;

/// A pattern of Redis: `*`, `?`, `[…]` and `\` before any of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) text: String,
    /// What every match begins with.
    pub(super) fixed: Vec<u8>,
    /// It matches exactly the key `fixed` and no other.
    pub(super) exact: bool,
}

impl Pattern {
    pub(super) fn of(call: &Call) -> Result<Self, ActionError> {
        let text = call.text("pattern")?;
        if text.len() > PATTERN_BYTES_MAX {
            return Err(call.fault("pattern", format!("it has {} bytes, at most {PATTERN_BYTES_MAX} are allowed", text.len())));
        }
        let stars = text.bytes().filter(|byte| *byte == b'*').count();
        if stars > STARS_MAX {
            return Err(call.fault("pattern", format!("it has {stars} stars, at most {STARS_MAX} are allowed")));
        }
        Ok(Self::read(&text))
    }

    fn read(text: &str) -> Self {
        let mut fixed = Vec::new();
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b'*' | b'?' | b'[' => return Self { text: text.to_owned(), fixed, exact: false },
                // A backslash at the very end stands for itself.
                b'\\' => fixed.push(bytes.next().unwrap_or(b'\\')),
                other => fixed.push(other),
            }
        }
        Self { text: text.to_owned(), fixed, exact: true }
    }

    /// Refused when it could match keys of anybody.
    pub(super) fn narrow(&self, call: &Call) -> Result<(), ActionError> {
        if self.fixed.len() >= FIXED_BYTES_MIN {
            return Ok(());
        }
        let why = format!(
            "the pattern {:?} begins with {} fixed characters, and at least {FIXED_BYTES_MIN} are needed",
            self.text,
            self.fixed.len()
        );
        Err(ActionError::Refused { action: call.action.clone(), why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixed_part_is_what_every_match_begins_with() {
        let cases: &[(&str, &[u8], bool)] = &[
            ("cache:*", b"cache:", false),
            ("*", b"", false),
            ("a[b]c", b"a", false),
            ("ab?d", b"ab", false),
            ("agent:7:events", b"agent:7:events", true),
            ("a\\*b*", b"a*b", false),
            ("a\\[b\\]", b"a[b]", true),
            ("a\\", b"a\\", true),
            ("", b"", true),
        ];
        for (text, fixed, exact) in cases {
            let pattern = Pattern::read(text);
            assert_eq!((pattern.fixed.as_slice(), pattern.exact), (*fixed, *exact), "{text}");
        }
    }

    #[test]
    fn a_pattern_for_everything_is_refused() {
        let call = Call::new("redis.delete");
        for text in ["*", "a*", "ab*", "?bc*", "[abc]def", "\\**"] {
            assert!(Pattern::read(text).narrow(&call).is_err(), "{text}");
        }
        assert!(Pattern::read("abc*").narrow(&call).is_ok());
        assert!(Pattern::of(&call.clone().with("pattern", "abc*".repeat(9))).is_err());
        assert!(Pattern::of(&call.clone().with("pattern", "a".repeat(600))).is_err());
    }
}
