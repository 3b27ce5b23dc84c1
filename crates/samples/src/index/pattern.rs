//! What a regular expression asks for, where a glance tells: most that people write are a list of words or a prefix.

/// A pattern that covers the whole value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// One of these words.
    Words(Vec<String>),
    /// Begins with this; `more` says whether at least one character follows.
    Prefix { prefix: String, more: bool },
    /// Anything that contains this.
    Contains(String),
    /// The expression decides, but only for values that begin with this.
    Regex { prefix: String },
}

const SPECIAL: &[char] = &['\\', '.', '+', '*', '?', '(', ')', '|', '[', ']', '{', '}', '^', '$'];

/// Reads literal characters; gives them and the rest that is no literal.
fn literal(pattern: &str) -> (String, &str) {
    let mut text = String::new();
    let mut rest = pattern;
    loop {
        let mut chars = rest.chars();
        let Some(first) = chars.next() else { return (text, rest) };
        let (character, after) = match first {
            '\\' => match chars.next() {
                // Only escaped punctuation stands for itself; `\d`, `\n`, `\x41` and their like are left to the expression.
                Some(escaped) if escaped.is_ascii_punctuation() && escaped != '<' && escaped != '>' => (escaped, chars.as_str()),
                _ => return (text, rest),
            },
            special if SPECIAL.contains(&special) => return (text, rest),
            plain => (plain, chars.as_str()),
        };
        // A character that is repeated is not a literal.
        if after.starts_with(['*', '+', '?', '{']) {
            return (text, rest);
        }
        text.push(character);
        rest = after;
    }
}

fn words(pattern: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = pattern;
    loop {
        let (word, after) = literal(rest);
        words.push(word);
        if after.is_empty() {
            return Some(words);
        }
        rest = after.strip_prefix('|')?;
    }
}

impl Pattern {
    pub(crate) fn of(pattern: &str) -> Self {
        let group = pattern.strip_prefix("(?:").or_else(|| pattern.strip_prefix('(')).and_then(|rest| rest.strip_suffix(')'));
        if let Some(words) = words(pattern).or_else(|| group.and_then(words)) {
            return Self::Words(words);
        }
        let (prefix, rest) = literal(pattern);
        match rest {
            ".*" => return Self::Prefix { prefix, more: false },
            ".+" => return Self::Prefix { prefix, more: true },
            _ => {}
        }
        if prefix.is_empty()
            && let Some(inner) = rest.strip_prefix(".*").and_then(|rest| rest.strip_suffix(".*"))
            && let (word, "") = literal(inner)
        {
            return Self::Contains(word);
        }
        // An alternative at the top may begin otherwise: `abc|d.*`.
        let prefix = if rest.contains('|') { String::new() } else { prefix };
        Self::Regex { prefix }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glances_are_right() {
        let words = |words: &[&str]| Pattern::Words(words.iter().map(|word| (*word).to_owned()).collect());
        let prefix = |prefix: &str, more: bool| Pattern::Prefix { prefix: prefix.to_owned(), more };
        let regex = |prefix: &str| Pattern::Regex { prefix: prefix.to_owned() };
        for (pattern, expected) in [
            ("", words(&[""])),
            ("abc", words(&["abc"])),
            ("a|b", words(&["a", "b"])),
            ("(a|b\\.c|)", words(&["a", "b.c", ""])),
            ("(?:a|b)", words(&["a", "b"])),
            ("(a)|(b)", regex("")),
            ("abc.*", prefix("abc", false)),
            ("abc.+", prefix("abc", true)),
            (".*", prefix("", false)),
            (".+", prefix("", true)),
            (".*abc.*", Pattern::Contains("abc".to_owned())),
            (".*a|b.*", regex("")),
            ("ab*", regex("a")),
            ("ab?|c", regex("")),
            ("abc\\d+", regex("abc")),
            ("5..", regex("5")),
            ("a{2}", regex("")),
            ("(?i)abc", regex("")),
            ("é+", regex("")),
            ("^abc$", regex("")),
        ] {
            assert_eq!(Pattern::of(pattern), expected, "{pattern}");
        }
    }
}
