//! From text to a tree: words first, then what binds tightest.

use std::time::Duration;

use super::{Comparison, DEPTH_MAX, PredicateError, TEXT_BYTES_MAX, Tree, duration, error, pattern as pattern_of};

/// `within` or `hold`, where it stands, and how long.
pub(super) type Time = (usize, String, Duration);

pub(super) fn read(text: &str) -> Result<(Tree, Vec<Time>), PredicateError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(error(text, 1, &format!("it is longer than {TEXT_BYTES_MAX} bytes")));
    }
    let mut reader = Reader { text, tokens: tokens(text)?, at: 0, depth: 0 };
    let tree = reader.any()?;
    let mut times = Vec::new();
    while let Some((position, Token::Word(word))) = reader.peek().cloned() {
        if word != "within" && word != "hold" {
            break;
        }
        reader.at += 1;
        let Some((_, Token::Time(time))) = reader.peek().cloned() else {
            return Err(reader.wrong(&format!("`{word}` needs a duration like 10m")));
        };
        reader.at += 1;
        times.push((position, word, time));
    }
    match reader.peek() {
        None => Ok((tree, times)),
        Some(_) => Err(reader.wrong("nothing more was expected here")),
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Number(f64),
    Text(String),
    Time(Duration),
    Word(String),
    Mark(&'static str),
}

/// Longer marks first.
const MARKS: &[&str] = &["&&", "||", "==", "!=", "<=", ">=", "!~", "=~", "~", "<", ">", "=", "!", "(", ")", "+", "-", "*", "/", ","];

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, PredicateError> {
    let letters: Vec<char> = text.chars().collect();
    let mut all = Vec::new();
    let mut at = 0;
    while let Some(letter) = letters.get(at).copied() {
        let position = at + 1;
        let until =
            |from: usize, keep: fn(char) -> bool| letters[from..].iter().position(|one| !keep(*one)).map_or(letters.len(), |n| from + n);
        if letter.is_whitespace() {
            at += 1;
        } else if letter == '\'' || letter == '"' {
            let (value, end) = quoted(&letters, at).ok_or_else(|| error(text, position, "the quote is not closed"))?;
            all.push((position, Token::Text(value)));
            at = end;
        } else if letter.is_ascii_digit() {
            let end = until(at, |one| one.is_ascii_alphanumeric() || one == '.');
            let word: String = letters[at..end].iter().collect();
            let token = number(&word).or_else(|| duration(&word).map(Token::Time));
            all.push((position, token.ok_or_else(|| error(text, position, &format!("`{word}` is neither a number nor a duration")))?));
            at = end;
        } else if letter.is_alphabetic() || letter == '_' || letter == '$' {
            let from = if letter == '$' { at + 1 } else { at };
            let end = until(from, |one| one.is_alphanumeric() || one == '_' || one == '.');
            all.push((position, Token::Word(letters[from..end].iter().collect())));
            at = end;
        } else {
            let rest: String = letters[at..].iter().take(2).collect();
            let mark = MARKS.iter().find(|mark| rest.starts_with(**mark));
            let mark = mark.ok_or_else(|| error(text, position, &format!("`{letter}` means nothing here")))?;
            all.push((position, Token::Mark(mark)));
            at += mark.len();
        }
    }
    Ok(all)
}

fn number(word: &str) -> Option<Token> {
    let (digits, factor) = match word.strip_suffix('k') {
        Some(digits) => (digits, 1e3),
        None => (word, 1.0),
    };
    // `inf` and `nan` do not begin with a digit; `1e999` is not finite.
    digits.parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| Token::Number(number * factor))
}

fn quoted(letters: &[char], from: usize) -> Option<(String, usize)> {
    let quote = letters[from];
    let mut value = String::new();
    let mut at = from + 1;
    loop {
        match *letters.get(at)? {
            letter if letter == quote => return Some((value, at + 1)),
            // Only the quote itself is escaped: patterns keep their backslashes.
            '\\' if letters.get(at + 1) == Some(&quote) => {
                value.push(quote);
                at += 2;
            }
            letter => {
                value.push(letter);
                at += 1;
            }
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<&(usize, Token)> {
        self.tokens.get(self.at)
    }

    fn wrong(&self, what: &str) -> PredicateError {
        let position = self.peek().map_or(self.text.chars().count() + 1, |(position, _)| *position);
        error(self.text, position, what)
    }

    fn mark(&mut self, marks: &[&'static str]) -> Option<&'static str> {
        let Some((_, Token::Mark(found))) = self.peek() else { return None };
        let found = marks.iter().find(|mark| *mark == found).copied()?;
        self.at += 1;
        Some(found)
    }

    fn word(&mut self, wanted: &str) -> bool {
        let found = matches!(self.peek(), Some((_, Token::Word(word))) if word == wanted);
        self.at += usize::from(found);
        found
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, PredicateError>) -> Result<T, PredicateError> {
        if self.depth >= DEPTH_MAX {
            return Err(self.wrong(&format!("it is nested deeper than {DEPTH_MAX}")));
        }
        self.depth += 1;
        let done = read(self);
        self.depth -= 1;
        done
    }

    fn any(&mut self) -> Result<Tree, PredicateError> {
        let mut parts = vec![self.all()?];
        while self.mark(&["||"]).is_some() || self.word("or") {
            parts.push(self.all()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Tree::Any(parts) })
    }

    fn all(&mut self) -> Result<Tree, PredicateError> {
        let mut parts = vec![self.not()?];
        while self.mark(&["&&"]).is_some() || self.word("and") {
            parts.push(self.not()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Tree::All(parts) })
    }

    fn not(&mut self) -> Result<Tree, PredicateError> {
        if self.mark(&["!"]).is_some() || self.word("not") {
            return self.deeper(|reader| Ok(Tree::Not(Box::new(reader.not()?))));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Tree, PredicateError> {
        let left = self.sum()?;
        if let Some(mark) = self.mark(&["~", "=~", "!~"]) {
            let Some((position, Token::Text(pattern))) = self.peek().cloned() else {
                return Err(self.wrong("a pattern in quotes must follow"));
            };
            self.at += 1;
            let pattern = pattern_of(&pattern).map_err(|what| error(self.text, position, &what))?;
            return Ok(Tree::Matches { subject: Box::new(left), pattern, negated: mark == "!~" });
        }
        let comparison = match self.mark(&["==", "!=", "<=", ">=", "<", ">", "="]) {
            None => return Ok(left),
            Some("=") => {
                self.at -= 1;
                return Err(self.wrong("`=` compares nothing; equality is `==`"));
            }
            Some("==") => Comparison::Equal,
            Some("!=") => Comparison::Unequal,
            Some("<=") => Comparison::LessEqual,
            Some(">=") => Comparison::GreaterEqual,
            Some("<") => Comparison::Less,
            Some(_) => Comparison::Greater,
        };
        let right = self.sum()?;
        if matches!(self.peek(), Some((_, Token::Mark("==" | "!=" | "<=" | ">=" | "<" | ">" | "~" | "!~")))) {
            return Err(self.wrong("comparisons are not chained; join two with &&"));
        }
        Ok(Tree::Compare(comparison, Box::new(left), Box::new(right)))
    }

    fn sum(&mut self) -> Result<Tree, PredicateError> {
        let mut left = self.product()?;
        while let Some(mark) = self.mark(&["+", "-"]) {
            left = Tree::Arithmetic(first(mark), Box::new(left), Box::new(self.product()?));
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Tree, PredicateError> {
        let mut left = self.single()?;
        while let Some(mark) = self.mark(&["*", "/"]) {
            left = Tree::Arithmetic(first(mark), Box::new(left), Box::new(self.single()?));
        }
        Ok(left)
    }

    fn single(&mut self) -> Result<Tree, PredicateError> {
        if self.mark(&["-"]).is_some() {
            return self.deeper(|reader| Ok(Tree::Minus(Box::new(reader.single()?))));
        }
        if self.mark(&["("]).is_some() {
            let inner = self.deeper(Self::any)?;
            return if self.mark(&[")"]).is_some() { Ok(inner) } else { Err(self.wrong("`)` is missing")) };
        }
        let Some((_, token)) = self.peek().cloned() else { return Err(self.wrong("something to compare is missing")) };
        match token {
            Token::Number(number) => {
                self.at += 1;
                Ok(Tree::Number(number))
            }
            Token::Text(text) => {
                self.at += 1;
                Ok(Tree::Text(text))
            }
            Token::Time(_) => Err(self.wrong("a duration stands only behind `within` and `hold`")),
            Token::Mark(mark) => Err(self.wrong(&format!("`{mark}` cannot begin a value"))),
            Token::Word(word) => {
                if ["within", "hold", "and", "or"].contains(&word.as_str()) {
                    return Err(self.wrong(&format!("a value is missing before `{word}`")));
                }
                self.at += 1;
                self.named(word)
            }
        }
    }

    fn named(&mut self, word: String) -> Result<Tree, PredicateError> {
        if self.mark(&["("]).is_none() {
            return Ok(match word.as_str() {
                "true" => Tree::Flag(true),
                "false" => Tree::Flag(false),
                _ => Tree::Name(word),
            });
        }
        let of = match word.strip_suffix("json") {
            Some("") => None,
            Some(of) if of.ends_with('.') => Some(of.trim_end_matches('.').to_owned()),
            _ => {
                self.at -= 1;
                return Err(self.wrong(&format!("`{word}` is no function; the only one is json('/path')")));
            }
        };
        let Some((_, Token::Text(pointer))) = self.peek().cloned() else {
            return Err(self.wrong("json needs a path in quotes: json('/a/b')"));
        };
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(self.wrong("a path begins with `/`"));
        }
        self.at += 1;
        if self.mark(&[")"]).is_none() {
            return Err(self.wrong("`)` is missing"));
        }
        Ok(Tree::Json { of, pointer })
    }
}

fn first(mark: &str) -> char {
    mark.chars().next().unwrap_or('+')
}
