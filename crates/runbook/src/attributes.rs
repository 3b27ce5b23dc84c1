//! Attributes of a fence or a heading: `{ name=errs timeout=10s expect="value < 5" }`, `{ #id weight=2 }`, or JSON.

use std::collections::BTreeMap;

/// What stands in the braces. Values keep their text; who uses one says what it must be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// `#id`.
    pub id: Option<String>,
    pub values: BTreeMap<String, String>,
    /// What could not be read.
    pub problems: Vec<String>,
}

impl Attributes {
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Reads what follows the first word of a fence's information, braces included. Nothing there is no problem.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        let Some(body) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            let problems = if text.contains('{') { vec![format!("braces are not closed: {text}")] } else { Vec::new() };
            return Self { problems, ..Self::default() };
        };
        if body.trim_start().starts_with('"') {
            return Self::json(text);
        }
        Self::words(body)
    }

    /// Cuts attributes off the end of a heading.
    #[must_use]
    pub fn split_heading(text: &str) -> (&str, Self) {
        match text.trim_end().strip_suffix('}').and_then(|_| text.rfind(" {").map(|at| (at, at + 1))) {
            Some((end, begin)) => (text[..end].trim_end(), Self::parse(&text[begin..])),
            None => (text.trim_end(), Self::default()),
        }
    }

    fn json(text: &str) -> Self {
        match serde_json::from_str::<BTreeMap<String, serde_json::Value>>(text) {
            Ok(values) => {
                let plain = |value: serde_json::Value| match value {
                    serde_json::Value::String(text) => text,
                    other => other.to_string(),
                };
                Self { values: values.into_iter().map(|(name, value)| (name, plain(value))).collect(), ..Self::default() }
            }
            Err(error) => Self { problems: vec![format!("attributes are not JSON: {error}")], ..Self::default() },
        }
    }

    fn words(body: &str) -> Self {
        let mut found = Self::default();
        let mut rest = body.trim_start();
        while !rest.is_empty() {
            let end = rest.find(|letter: char| letter == '=' || letter.is_whitespace()).unwrap_or(rest.len());
            let (name, behind) = rest.split_at(end);
            if let Some(id) = name.strip_prefix('#') {
                found.id = Some(id.to_owned());
                rest = behind.trim_start();
                continue;
            }
            let Some(value) = behind.strip_prefix('=') else {
                // A bare word switches something on.
                found.set(name, "true".to_owned());
                rest = behind.trim_start();
                continue;
            };
            let (value, behind) = value_of(value);
            match value {
                Some(value) => found.set(name, value),
                None => found.problems.push(format!("the quote after {name}= is not closed")),
            }
            rest = behind.trim_start();
        }
        found
    }

    fn set(&mut self, name: &str, value: String) {
        if name.is_empty() || self.values.insert(name.to_owned(), value).is_some() {
            self.problems.push(if name.is_empty() { "a value without a name".to_owned() } else { format!("{name} is given twice") });
        }
    }
}

/// A value, quoted or up to the next blank, and what follows it.
fn value_of(text: &str) -> (Option<String>, &str) {
    let Some(quote) = text.chars().next().filter(|first| ['"', '\''].contains(first)) else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        return (Some(text[..end].to_owned()), &text[end..]);
    };
    let mut value = String::new();
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next().map(|(_, escaped)| escaped)),
            letter if letter == quote => return (Some(value), &text[at + 1..]),
            letter => value.push(letter),
        }
    }
    (None, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, id: Option<&str>, values: &[(&str, &str)], problems: usize) {
        let found = Attributes::parse(text);
        assert_eq!(found.id.as_deref(), id, "{text}");
        let expect: BTreeMap<String, String> = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(found.values, expect, "{text}");
        assert_eq!(found.problems.len(), problems, "{text}: {:?}", found.problems);
    }

    #[test]
    fn every_way_of_writing_them_is_read() {
        check("", None, &[], 0);
        check("{ name=errs timeout=10s }", None, &[("name", "errs"), ("timeout", "10s")], 0);
        check("{ #redis when=\"errs.top == 'X'\" weight=2 }", Some("redis"), &[("when", "errs.top == 'X'"), ("weight", "2")], 0);
        check("{\"name\":\"errs\",\"retries\":2}", None, &[("name", "errs"), ("retries", "2")], 0);
        check("{ interactive }", None, &[("interactive", "true")], 0);
        check("{ a='b c' d=\"e \\\"f\\\"\" }", None, &[("a", "b c"), ("d", "e \"f\"")], 0);
        check("{ a=\"b }", None, &[], 1);
        check("{ a=1 a=2 }", None, &[("a", "2")], 1);
        check("{\"a\":}", None, &[], 1);
        check("{ a=1", None, &[], 1);
    }

    #[test]
    fn a_heading_keeps_its_text() {
        let (text, attributes) = Attributes::split_heading("Cause 2: Redis { #redis weight=2 }");
        assert_eq!((text, attributes.id.as_deref()), ("Cause 2: Redis", Some("redis")));
        assert_eq!(Attributes::split_heading("Use {braces} well").0, "Use {braces} well");
    }
}
