//! Plain text: a time and a level where a line begins with them, tracebacks joined to what they belong to.

use std::borrow::Cow;

use memchr::memmem;
use paramedic_model::{Event, Level, Timestamp};

use super::bracket::{begins_stack, key_and_value, lines_below};
use super::record::{Names, Record};
use super::time_zone::Times;
use super::{Options, head};

/// How a record of plain text begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    at: Timestamp,
    /// The line told a time: then lines without one belong to it.
    has_time: bool,
    level: Option<Level>,
    message: usize,
    /// Inside a Python traceback, whose last line is not indented.
    in_traceback: bool,
}

impl Head {
    pub(super) fn read(line: &[u8], times: &Times) -> Self {
        let line = &line[..line.len().min(512)];
        let in_traceback = line.starts_with(b"Traceback (");
        if let Some((at, level, message)) = head::klog(line, times) {
            let message = message + head::skip_separators(&line[message..]);
            return Self { at, has_time: true, level: Some(level), message, in_traceback };
        }
        let (priority, start) = priority(line);
        let boxed = usize::from(line.get(start) == Some(&b'['));
        let timed = head::time_prefix(&line[(start + boxed).min(line.len())..], times)
            .map(|(at, taken)| (at, start + boxed + taken))
            .filter(|(_, end)| boxed == 0 || line.get(*end) == Some(&b']'))
            .map(|(at, end)| (at, end + boxed));
        let after_time = timed.map_or(start, |(_, end)| end);
        let (level, message) = level_near(line, after_time, timed.is_some());
        let told = if in_traceback { Some(Level::Error) } else { level.or(priority) };
        Self { at: timed.map_or(times.now, |(at, _)| at), has_time: timed.is_some(), level: told, message, in_traceback }
    }

    /// Whether the line belongs to the record that began with this head.
    pub(super) fn continues(&mut self, line: &[u8], times: &Times) -> bool {
        let Some(first) = line.first() else { return self.in_traceback || self.has_time };
        if matches!(first, b' ' | b'\t') {
            return true;
        }
        if line.starts_with(b"Traceback (") {
            self.in_traceback = true;
            return true;
        }
        const CONTINUED: [&[u8]; 6] =
            [b"at ", b"Caused by", b"... ", b"During handling of the above", b"The above exception", b"Suppressed:"];
        if CONTINUED.iter().any(|start| line.starts_with(start)) || matches!(line, b"}" | b"]" | b")") {
            return true;
        }
        let next = Self::read(line, times);
        if next.has_time {
            return false;
        }
        if self.in_traceback && next.level.is_none() {
            // The exception's own line ends the traceback.
            self.in_traceback = false;
            return true;
        }
        let is_named =
            std::str::from_utf8(&line[..line.len().min(64)]).ok().and_then(key_and_value).is_some_and(|(key, _)| is_metadata(key));
        is_named || (self.has_time && next.level.is_none())
    }
}

/// The names that an unindented line below a record may begin with to be its metadata.
fn is_metadata(key: &str) -> bool {
    matches!(
        key,
        "Task"
            | "Conversation"
            | "conversationId"
            | "userId"
            | "sessionId"
            | "errorCode"
            | "retryAfter"
            | "requestId"
            | "correlationId"
            | "agentName"
            | "stack"
            | "duration"
    ) || key.eq_ignore_ascii_case("x-request-id")
}

/// A line that begins a record even below a bracket record: it tells a time and a level.
pub(super) fn begins_surely(line: &[u8], times: &Times) -> bool {
    matches!(line.first(), Some(b'0'..=b'9' | b'A'..=b'Z' | b'<' | b'[')) && {
        let next = Head::read(line, times);
        next.has_time && next.level.is_some()
    }
}

/// syslog's `<34>` and, of RFC 5424, the version after it.
fn priority(line: &[u8]) -> (Option<Level>, usize) {
    let Some(digits) = line.strip_prefix(b"<").and_then(|rest| rest.get(..rest.iter().take(4).position(|byte| *byte == b'>')?)) else {
        return (None, 0);
    };
    let Some(number) = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u8>().ok()) else { return (None, 0) };
    let level = match number & 7 {
        0..=3 => Level::Error,
        4 => Level::Warn,
        5 | 6 => Level::Info,
        _ => Level::Debug,
    };
    let end = digits.len() + 2;
    (Some(level), if line[end..].starts_with(b"1 ") { end + 2 } else { end })
}

/// The level at the start or, after a time, as one of the first few words; and where the message begins.
fn level_near(line: &[u8], from: usize, is_timed: bool) -> (Option<Level>, usize) {
    let mut at = from + head::skip_separators(&line[from..]);
    let message = at;
    if let Some((level, taken)) = head::level_prefix(&line[at..]) {
        let end = at + taken;
        return (Some(level), end + head::skip_separators(&line[end..]));
    }
    // `2025-01-01 12:00:00,123 - app.worker - ERROR - text`.
    for _ in 0..if is_timed { 3 } else { 0 } {
        at += line[at..].iter().take_while(|byte| !matches!(byte, b' ' | b'\t' | b'|')).count();
        at += head::skip_separators(&line[at..]);
        if let Some((level, _)) = head::level_prefix(&line[at..]) {
            return (Some(level), message);
        }
    }
    (None, message)
}

pub(super) fn event(head: Head, text: &str, options: &Options, names: &mut Names) -> Event {
    let (first, below) = text.split_once('\n').unwrap_or((text, ""));
    let mut record = Record { at: head.at, level: head.level, ..Record::default() };
    if head.in_traceback && head.message == 0 || begins_stack(first) {
        record.stack = Some(Cow::Borrowed(text));
        record.level = Some(Level::Error);
        record.message = Cow::Borrowed(last_line(text));
        return record.into_event(options, names);
    }
    record.message = Cow::Borrowed(first.get(head.message..).unwrap_or(first));
    if let Some(at) = memmem::find(below.as_bytes(), b"Traceback (most recent call last):") {
        let above = below.get(..at).unwrap_or_default();
        lines_below(&mut record, above, options);
        record.stack = below.get(at..).map(Cow::Borrowed);
    } else if !below.is_empty() {
        lines_below(&mut record, below, options);
    }
    if record.agent.is_none()
        && let Some(task) = below.lines().find_map(|line| line.trim().strip_prefix("Task: "))
    {
        record.agent = Some(Cow::Borrowed(task.trim()));
    }
    record.into_event(options, names)
}

/// Of a traceback that stands alone, the last line says what happened.
fn last_line(text: &str) -> &str {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or(text).trim()
}
