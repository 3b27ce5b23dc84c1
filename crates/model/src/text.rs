//! Small operations on untrusted text.

use std::borrow::Cow;

/// Cuts `text` to at most `bytes_max` bytes on a character border.
#[must_use]
pub fn head(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// Cuts and says so: `"first part … (12345 bytes in all)"`.
#[must_use]
pub fn capped(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{} … ({} bytes in all)", head(text, bytes_max), text.len()))
}

/// One line without control characters, for terminals and titles: a log line must not move the cursor.
#[must_use]
pub fn one_line(text: &str) -> Cow<'_, str> {
    // In UTF-8 a control character is an ASCII one or begins with C2: most text is told apart by its bytes.
    let may_have_one = text.bytes().any(|byte| byte < 0x20 || byte == 0x7f || byte == 0xc2);
    if !may_have_one || !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_on_character_borders() {
        assert_eq!(head("aé", 2), "a");
        assert_eq!(capped("abcdef", 3), "abc … (6 bytes in all)");
        assert_eq!(one_line("a\x1b[2Jb\n"), "a [2Jb ");
        assert_eq!(one_line("a\u{9b}31m \u{7f}"), "a 31m  ");
        assert!(matches!(one_line("größe ☃ ©"), Cow::Borrowed(_)));
    }
}
