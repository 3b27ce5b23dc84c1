//! What a person types to search text: words (all must occur), `"a phrase"`, `begin*`. Nothing a person types is an error.

use crate::tokens::{each_field, each_token};

/// Tokens that count; what is typed beyond them is left out.
const QUERY_TOKENS_MAX: usize = 32;

/// Consecutive tokens that must stand in one field. The last is only the beginning of a word when `prefix` is set.
#[derive(Debug, PartialEq, Eq)]
struct Term {
    tokens: Vec<String>,
    prefix: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TextQuery {
    terms: Vec<Term>,
}

/// The tokens of one field, one behind the other, and where each ends.
#[derive(Default)]
pub(crate) struct FieldTokens {
    text: String,
    ends: Vec<usize>,
    token: String,
    found: Vec<bool>,
}

impl TextQuery {
    /// `None` when there is not a single letter or digit: such text does not filter.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut terms = Vec::new();
        let mut left = QUERY_TOKENS_MAX;
        for (i, part) in text.split('"').enumerate() {
            if i % 2 == 1 {
                push_term(part, false, &mut terms, &mut left);
            } else {
                for word in part.split_whitespace() {
                    push_term(word, word.ends_with('*'), &mut terms, &mut left);
                }
            }
        }
        (!terms.is_empty()).then_some(Self { terms })
    }

    /// The same question to the index, as alternatives to be joined by AND. It may find more than
    /// [`TextQuery::matches`] does, never less.
    pub(crate) fn index_terms(&self) -> Vec<String> {
        let mut exact = Vec::new();
        let mut prefixes = Vec::new();
        for term in &self.terms {
            for (i, token) in term.tokens.iter().enumerate() {
                // Tokens are letters and digits only, so quoting them cannot go wrong.
                if term.prefix && i + 1 == term.tokens.len() {
                    prefixes.push((token.len(), format!("\"{token}\"*")));
                } else {
                    exact.push(format!("\"{token}\""));
                }
            }
        }
        // A very short beginning gathers half of the index; where something better is asked for as well, it is left
        // to the check of the row.
        let better = !exact.is_empty() || prefixes.iter().any(|(len, _)| *len >= 3);
        exact.extend(prefixes.into_iter().filter(|(len, _)| *len >= 3 || !better).map(|(_, term)| term));
        exact
    }

    pub(crate) fn matches(&self, text: &str, attributes: Option<&str>, field: &mut FieldTokens) -> bool {
        let mut found = std::mem::take(&mut field.found);
        found.clear();
        found.resize(self.terms.len(), false);
        each_field(text, attributes, &mut |content| {
            if found.iter().all(|found| *found) {
                return;
            }
            field.read(content);
            for (term, found) in self.terms.iter().zip(&mut found) {
                *found = *found || field.contains(term);
            }
        });
        let all = found.iter().all(|found| *found);
        field.found = found;
        all
    }
}

fn push_term(text: &str, prefix: bool, terms: &mut Vec<Term>, left: &mut usize) {
    let mut tokens = Vec::new();
    each_token(text, &mut String::new(), &mut |token| {
        if *left > 0 {
            *left -= 1;
            tokens.push(token.to_owned());
        }
    });
    if !tokens.is_empty() {
        terms.push(Term { tokens, prefix });
    }
}

impl FieldTokens {
    fn read(&mut self, content: &str) {
        self.text.clear();
        self.ends.clear();
        let (text, ends) = (&mut self.text, &mut self.ends);
        each_token(content, &mut self.token, &mut |token| {
            text.push_str(token);
            ends.push(text.len());
        });
    }

    fn token(&self, i: usize) -> &str {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.text[start..self.ends[i]]
    }

    fn contains(&self, term: &Term) -> bool {
        let last = term.tokens.len() - 1;
        (0..(self.ends.len() + 1).saturating_sub(term.tokens.len())).any(|at| {
            term.tokens.iter().enumerate().all(|(i, wanted)| {
                let token = self.token(at + i);
                if i == last && term.prefix { token.starts_with(wanted.as_str()) } else { token == wanted }
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, text: &str, expect: bool) {
        let found =
            TextQuery::parse(query).is_none_or(|query| query.matches(text, Some(r#"{"k":"side note"}"#), &mut FieldTokens::default()));
        assert_eq!(found, expect, "{query:?} in {text:?}");
    }

    #[test]
    fn words_phrases_and_beginnings() {
        check("", "anything", true);
        check("*** -- ()", "anything", true);
        check("file found", "File not found", true);
        check("\"file found\"", "File not found", false);
        check("\"not FOUND\"", "File not found", true);
        check("\"not found", "File not found", true);
        check("fou*", "File not found", true);
        check("fou", "File not found", false);
        check("api_error", "an api error", true);
        check("api_error", "error in api", false);
        check("note file", "a file", true);
        check("\"file side\"", "a file", false);
        check("NEAR(a b) OR c: ^d {x} -- ' ; drop", "nothing of it", false);
    }

    #[test]
    fn a_query_is_bounded() {
        let query = TextQuery::parse(&"word ".repeat(10_000)).unwrap();
        assert_eq!(query.terms.len(), QUERY_TOKENS_MAX);
    }

    #[test]
    fn short_beginnings_are_asked_of_the_index_only_alone() {
        assert_eq!(TextQuery::parse("a*").unwrap().index_terms(), ["\"a\"*"]);
        assert_eq!(TextQuery::parse("a* word").unwrap().index_terms(), ["\"word\""]);
        assert_eq!(TextQuery::parse("abc* word").unwrap().index_terms(), ["\"word\"", "\"abc\"*"]);
    }
}
