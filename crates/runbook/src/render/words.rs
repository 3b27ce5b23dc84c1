//! Arguments: words with quotes, and the values in them. There is no shell, so nothing is split or expanded twice.

use super::Blocked;
use super::values::{Values, underscored};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Variable(String),
}

pub(super) type Line = Vec<Vec<Piece>>;

fn unreadable(why: impl Into<String>) -> Vec<Blocked> {
    vec![Blocked::Unreadable { why: why.into() }]
}

/// The words of each line that has any; `\` at a line's end joins the next one, `#` begins a comment.
pub(super) fn lines(text: &str) -> Result<Vec<Line>, Vec<Blocked>> {
    let letters: Vec<char> = text.chars().collect();
    let mut all = Vec::new();
    let mut line: Line = Vec::new();
    let mut at = 0;
    while let Some(letter) = letters.get(at).copied() {
        match letter {
            '\n' => {
                all.push(std::mem::take(&mut line));
                at += 1;
            }
            '\\' if letters.get(at + 1) == Some(&'\n') => at += 2,
            letter if letter.is_whitespace() => at += 1,
            '#' => at += letters[at..].iter().position(|letter| *letter == '\n').unwrap_or(letters.len() - at),
            _ => {
                let (word, end) = word(&letters, at)?;
                line.push(word);
                at = end;
            }
        }
    }
    all.push(line);
    all.retain(|line| !line.is_empty());
    Ok(all)
}

fn word(letters: &[char], from: usize) -> Result<(Vec<Piece>, usize), Vec<Blocked>> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut quote: Option<char> = None;
    let mut at = from;
    while let Some(letter) = letters.get(at).copied() {
        match (quote, letter) {
            (None, letter) if letter.is_whitespace() => break,
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), letter) if letter == open => quote = None,
            (None | Some('"'), '\\') => {
                at += 1;
                text.extend(letters.get(at));
            }
            (None | Some('"'), '$') if letters.get(at + 1) == Some(&'(') => {
                return Err(unreadable("there is no shell here: `$(…)` is not carried out"));
            }
            (None | Some('"'), '$' | '<') => match variable(letters, at) {
                Some((name, end)) => {
                    if !text.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut text)));
                    }
                    pieces.push(Piece::Variable(name));
                    at = end;
                    continue;
                }
                None if letter == '<' && quote.is_none() => return Err(unreadable("there is no shell here: `<` redirects nothing")),
                None => text.push(letter),
            },
            (None, '|' | ';' | '&' | '>' | '`') => {
                return Err(unreadable(format!("there is no shell here: `{letter}` must be quoted, or the step be one for sh")));
            }
            (_, letter) => text.push(letter),
        }
        at += 1;
    }
    if quote.is_some() {
        return Err(unreadable("a quote is not closed"));
    }
    if !text.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok((pieces, at))
}

/// `$name`, `${name}` or `<name>`, and where it ends.
pub(super) fn variable(letters: &[char], from: usize) -> Option<(String, usize)> {
    let name_from = |start: usize| -> String {
        letters[start.min(letters.len())..].iter().take_while(|letter| letter.is_ascii_alphanumeric() || **letter == '_').collect()
    };
    let begins = |name: &str| name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    match (letters.get(from)?, letters.get(from + 1)?) {
        ('$', '{') => {
            let name = name_from(from + 2);
            let end = from + 2 + name.chars().count();
            (begins(&name) && letters.get(end) == Some(&'}')).then_some((name, end + 1))
        }
        ('$', _) => {
            let name = name_from(from + 1);
            let end = from + 1 + name.chars().count();
            begins(&name).then_some((name, end))
        }
        ('<', first) if first.is_ascii_alphabetic() => {
            let length = letters[from + 1..].iter().take(40).position(|letter| *letter == '>')?;
            let name: String = letters[from + 1..from + 1 + length].iter().collect();
            let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | ' ' | '.');
            name.chars().all(plain).then(|| (underscored(&name), from + length + 2))
        }
        _ => None,
    }
}

/// One line's arguments. A value that an option could be is refused where the program knows options.
pub(super) fn fill(line: &Line, values: &Values, options: bool) -> Result<Vec<String>, Vec<Blocked>> {
    let (mut argv, mut blocked) = (Vec::new(), Vec::new());
    for pieces in line {
        let mut word = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(text) => word.push_str(text),
                Piece::Variable(name) => match values.get(name) {
                    Ok(value) if options && word.is_empty() && value.starts_with('-') => {
                        let why = "begins with `-` and would be taken for an option".to_owned();
                        blocked.push(Blocked::Value { name: name.clone(), why });
                    }
                    Ok(value) if value.chars().any(char::is_control) => {
                        let why = "has a line break or another control character".to_owned();
                        blocked.push(Blocked::Value { name: name.clone(), why });
                    }
                    Ok(value) => word.push_str(value),
                    Err(why) => blocked.push(why),
                },
            }
        }
        argv.push(word);
    }
    if blocked.is_empty() { Ok(argv) } else { Err(blocked) }
}

/// All names of variables in a text, quotes or not.
pub(super) fn names(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    let mut names = Vec::new();
    for at in (0..letters.len()).filter(|at| letters[*at] == '$') {
        if let Some((name, _)) = variable(&letters, at)
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}
