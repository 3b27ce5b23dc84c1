//! The commands of a test file.

use regex::Regex;

use super::{SequenceValue, parse_series};
use crate::labels::Labels;
use crate::number::{parse_duration_ms, parse_literal};
use crate::parse::unquote;

/// A command and the line (from 1) it begins on.
pub(super) struct Command {
    pub(super) line: usize,
    pub(super) kind: CommandKind,
}

pub(super) enum CommandKind {
    Clear,
    Load(Load),
    Eval(Box<Eval>),
    /// Something that cannot be read, and why.
    Broken(String),
    /// Something that is known but not supported.
    Unsupported(String),
}

pub(super) struct Load {
    pub(super) step_ms: i64,
    pub(super) with_nhcb: bool,
    pub(super) series: Vec<(Labels, Vec<SequenceValue>)>,
}

/// What a message must be.
pub(super) enum Wanted {
    Any,
    Exactly(String),
    Pattern(Regex),
}

impl Wanted {
    pub(super) fn accepts(&self, message: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(text) => text == message,
            Self::Pattern(regex) => regex.is_match(message),
        }
    }
}

/// The moments of an evaluation in milliseconds.
#[derive(Clone, Copy)]
pub(super) enum When {
    Instant(i64),
    Range { start: i64, end: i64, step: i64 },
}

/// What is expected of an evaluation.
#[derive(Default)]
pub(super) struct Expected {
    pub(super) fail: Option<Wanted>,
    pub(super) warn: Vec<Wanted>,
    pub(super) info: Vec<Wanted>,
    pub(super) no_warn: bool,
    pub(super) no_info: bool,
    pub(super) ordered: bool,
    pub(super) string: Option<String>,
    pub(super) scalar: Option<f64>,
    /// The range that the points of an instant query's range vector lie on.
    pub(super) matrix: Option<(i64, i64, i64)>,
    pub(super) series: Vec<(Labels, Vec<SequenceValue>)>,
}

pub(super) struct Eval {
    pub(super) expr: String,
    pub(super) when: When,
    pub(super) expected: Expected,
}

/// Splits a file into commands. A command that cannot be read does not keep the others from being run.
pub(super) fn commands(text: &str) -> Vec<Command> {
    let lines: Vec<&str> = text.lines().map(str::trim).map(|line| if line.starts_with('#') { "" } else { line }).collect();
    let mut commands = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        if line.is_empty() {
            at += 1;
            continue;
        }
        let word = line.split_whitespace().next().unwrap_or("").to_ascii_lowercase();
        let body = lines[at + 1..].iter().take_while(|line| !line.is_empty()).count();
        let (kind, used) = if word == "clear" {
            (CommandKind::Clear, 0)
        } else if word.starts_with("load") {
            (load(line, &lines[at + 1..=at + body]), body)
        } else if word.starts_with("eval") {
            let (kind, used) = eval(line, &lines[at + 1..=at + body]);
            (kind, used)
        } else {
            (CommandKind::Broken(format!("invalid command {line:?}")), 0)
        };
        commands.push(Command { line: at + 1, kind });
        at += 1 + used;
    }
    commands
}

fn load(line: &str, body: &[&str]) -> CommandKind {
    let read = || -> Result<Load, String> {
        let (word, step) = line.split_once(char::is_whitespace).ok_or("load needs a step")?;
        let step_ms = parse_duration_ms(step.trim()).ok_or_else(|| format!("invalid step definition {:?}", step.trim()))?;
        let series = body.iter().map(|line| parse_series(line)).collect::<Result<_, _>>()?;
        Ok(Load { step_ms, with_nhcb: word.eq_ignore_ascii_case("load_with_nhcb"), series })
    };
    if body.iter().any(|line| line.split_whitespace().next().is_some_and(|word| word.ends_with("@st"))) {
        return CommandKind::Unsupported("start timestamps".to_owned());
    }
    read().map_or_else(CommandKind::Broken, CommandKind::Load)
}

fn eval(line: &str, body: &[&str]) -> (CommandKind, usize) {
    let mut expected = Expected::default();
    let (expr, mut when) = match eval_line(line, &mut expected) {
        Ok(parts) => parts,
        Err(message) => return (CommandKind::Broken(message), body.len()),
    };
    let mut used = 0;
    for line in body {
        used += 1;
        match expectation(line, &mut expected, &mut when) {
            Ok(false) => {}
            Ok(true) => break,
            Err(message) => return (CommandKind::Broken(message), body.len()),
        }
    }
    (CommandKind::Eval(Box::new(Eval { expr, when, expected })), used)
}

fn next_word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()))
}

fn keyword<'a>(text: &'a str, word: &str) -> Result<&'a str, String> {
    let (found, rest) = next_word(text);
    if found == word { Ok(rest) } else { Err(format!("expected {word:?}, got {found:?}")) }
}

fn moment(text: &str) -> Result<(i64, &str), String> {
    let (word, rest) = next_word(text);
    let (sign, digits) = word.strip_prefix('-').map_or((1, word), |digits| (-1, digits));
    let ms = parse_duration_ms(digits).ok_or_else(|| format!("invalid timestamp definition {word:?}"))?;
    Ok((sign * ms, rest))
}

fn eval_line(line: &str, expected: &mut Expected) -> Result<(String, When), String> {
    let (command, rest) = next_word(line);
    match command.strip_prefix("eval").unwrap_or_default() {
        "" => {}
        "_fail" => expected.fail = Some(Wanted::Any),
        "_warn" => expected.warn.push(Wanted::Any),
        "_info" => expected.info.push(Wanted::Any),
        "_ordered" => expected.ordered = true,
        other => return Err(format!("invalid command \"eval{other}\"")),
    }
    let (kind, rest) = next_word(rest);
    let (when, rest) = match kind {
        "instant" => {
            let (at, rest) = moment(keyword(rest, "at")?)?;
            (When::Instant(at), rest)
        }
        "range" => {
            let (start, rest) = moment(keyword(rest, "from")?)?;
            let (end, rest) = moment(keyword(rest, "to")?)?;
            let (step, rest) = moment(keyword(rest, "step")?)?;
            (When::Range { start, end, step }, rest)
        }
        other => return Err(format!("invalid evaluation {other:?}")),
    };
    Ok((rest.trim().to_owned(), when))
}

/// Reads one line below an evaluation; true when nothing of it can follow.
fn expectation(line: &str, expected: &mut Expected, when: &mut When) -> Result<bool, String> {
    if let Some(text) = line.strip_prefix("expected_fail_message") {
        expected.fail = Some(Wanted::Exactly(text.trim().to_owned()));
        return Ok(true);
    }
    if let Some(text) = line.strip_prefix("expected_fail_regexp") {
        expected.fail = Some(Wanted::Pattern(pattern(text.trim())?));
        return Ok(true);
    }
    if let Some(rest) = line.strip_prefix("expect range vector") {
        let (start, rest) = moment(keyword(rest, "from")?)?;
        let (end, rest) = moment(keyword(rest, "to")?)?;
        let (step, _) = moment(keyword(rest, "step")?)?;
        expected.matrix = Some((start, end, step));
        *when = When::Instant(end);
        return Ok(false);
    }
    if let Some(rest) = line.strip_prefix("expect string") {
        let text = unquote(rest.trim()).ok_or("expected string literal not valid - check that the string is correctly quoted")?;
        expected.string = Some(text);
        return Ok(false);
    }
    if next_word(line).0 == "expect" {
        return expect(line, expected).map(|()| false);
    }
    if let Some(value) = bare_number(line) {
        expected.scalar = Some(value);
        return Ok(true);
    }
    expected.series.push(parse_series(line)?);
    Ok(false)
}

fn bare_number(line: &str) -> Option<f64> {
    let unsigned = line.strip_prefix('-').or_else(|| line.strip_prefix('+')).unwrap_or(line);
    let value = parse_literal(unsigned)?;
    Some(if line.starts_with('-') { -value } else { value })
}

fn pattern(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|_| format!("invalid regex {text}"))
}

fn expect(line: &str, expected: &mut Expected) -> Result<(), String> {
    let (kind, rest) = next_word(&line["expect".len()..]);
    let rest = rest.trim();
    let wanted = if let Some(text) = rest.strip_prefix("msg:") {
        Wanted::Exactly(text.trim().to_owned())
    } else if let Some(text) = rest.strip_prefix("regex:") {
        Wanted::Pattern(pattern(text.trim())?)
    } else if rest.is_empty() {
        Wanted::Any
    } else {
        return Err("invalid expect statement, must match `expect <type> <match_type>: <string>` format".to_owned());
    };
    match kind {
        "fail" => expected.fail = Some(wanted),
        "warn" => expected.warn.push(wanted),
        "info" => expected.info.push(wanted),
        "no_warn" => expected.no_warn = true,
        "no_info" => expected.no_info = true,
        "ordered" => expected.ordered = true,
        other => return Err(format!("invalid expected error/annotation type {other}")),
    }
    Ok(())
}
