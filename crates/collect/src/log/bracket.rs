//! `[2025-12-24T14:35:22.123Z] [ERROR] [agent:code-review] Rate limit exceeded`, and the lines below it.
//!
//! The lines below are `key: value`, indented or not, and a stack: `stack: Error: …` with `at …` lines. A record
//! ends where the next line with such a head begins.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter};
use paramedic_model::{Event, Level, Timestamp};

use super::record::{Names, Record, typed};
use super::time_zone::Times;
use super::{Options, head};

/// The head of a record; positions are those in its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    at: Timestamp,
    level: Level,
    /// Where the component stands; empty when there is none.
    component: (u32, u32),
    message: u32,
}

impl Head {
    pub(super) fn read(line: &[u8], times: &Times) -> Option<Self> {
        let (at, taken) = head::dated(line.get(1..)?, times)?;
        if line.get(1 + taken) != Some(&b']') {
            return None;
        }
        let (level_start, level_end) = bracketed(line, 2 + taken)?;
        let level = head::level_word(line[level_start..level_end].trim_ascii())?;
        let after_level = level_end + 1;
        let (component, message) = match bracketed(line, after_level) {
            Some((start, end)) => ((small(start)?, small(end)?), end + 1),
            None => ((0, 0), after_level),
        };
        let blanks = line[message..].iter().take_while(|byte| **byte == b' ').count();
        Some(Self { at, level, component, message: small(message + blanks)? })
    }
}

fn small(position: usize) -> Option<u32> {
    u32::try_from(position).ok().filter(|position| (*position as usize) < super::RECORD_BYTES_MAX)
}

/// The inside of ` […]` at `from`.
fn bracketed(line: &[u8], from: usize) -> Option<(usize, usize)> {
    let blanks = line.get(from..)?.iter().take_while(|byte| **byte == b' ').count();
    let start = from + blanks;
    if line.get(start) != Some(&b'[') {
        return None;
    }
    let length = memchr(b']', &line[start + 1..])?;
    Some((start + 1, start + 1 + length))
}

pub(super) fn event(head: Head, text: &str, options: &Options, names: &mut Names) -> Event {
    let (first, below) = text.split_once('\n').unwrap_or((text, ""));
    let mut record = Record { at: head.at, level: Some(head.level), ..Record::default() };
    // Bytes that are not UTF-8 were replaced and positions may have moved: `get` answers nothing then.
    let component = first.get(head.component.0 as usize..head.component.1 as usize).unwrap_or_default().trim();
    record.message = Cow::Borrowed(first.get(head.message as usize..).unwrap_or(first));
    let agent = component.strip_prefix("agent:").map(str::trim).filter(|name| !name.is_empty());
    record.agent = agent.map(Cow::Borrowed);
    if options.capture_text && !component.is_empty() {
        let lines = memchr_iter(b'\n', below.as_bytes()).take(16).count() + usize::from(!below.is_empty());
        record.attributes = paramedic_model::event::Attributes::with_capacity(1 + lines);
        record.attribute("component", typed("component", component));
    }
    lines_below(&mut record, below, options);
    record.into_event(options, names)
}

/// Metadata, stack and further lines of the message.
pub(super) fn lines_below<'a>(record: &mut Record<'a>, below: &'a str, options: &Options) {
    let mut stack: Option<(usize, usize)> = None;
    let ends = memchr_iter(b'\n', below.as_bytes()).chain(std::iter::once(below.len()));
    let mut position = 0;
    for end in ends {
        let start = position;
        position = end + 1;
        let line = &below[start..end];
        let bare = line.trim_ascii();
        if bare.is_empty() {
            continue;
        }
        match key_and_value(bare) {
            Some((key, value)) if is_stack_key(key) && stack.is_none() => {
                let value_at = start + (value.as_ptr() as usize - line.as_ptr() as usize);
                stack = Some((value_at, start + line.len()));
            }
            Some((key, value)) if !(stack.is_some() && names_exception(key)) => {
                let value = unquoted(value);
                record.note(key, Cow::Borrowed(value));
                if options.capture_text {
                    record.attribute(key, typed(key, value));
                }
            }
            _ if stack.is_some() || begins_stack(bare) => {
                stack = Some((stack.map_or(start, |(from, _)| from), start + line.len()));
            }
            _ if options.capture_text => {
                let message = record.message.to_mut();
                message.push('\n');
                message.push_str(bare);
            }
            _ => {}
        }
    }
    record.stack =
        stack.and_then(|(from, to)| below.get(from..to)).map(|text| Cow::Borrowed(text.trim_end())).filter(|text| !text.is_empty());
}

/// `key: value` with a key of one word.
pub(super) fn key_and_value(line: &str) -> Option<(&str, &str)> {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let bytes = line.as_bytes();
    let colon = bytes.iter().take(65).position(|byte| !is_word(byte))?;
    let begins = bytes[0].is_ascii_alphabetic() || bytes[0] == b'_';
    let is_key = colon > 0 && begins && bytes[colon] == b':' && matches!(bytes.get(colon + 1), None | Some(b' ' | b'\t'));
    is_key.then(|| (&line[..colon], line[colon + 1..].trim_ascii()))
}

fn unquoted(value: &str) -> &str {
    let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    inner.filter(|inner| !inner.contains('"')).unwrap_or(value)
}

fn is_stack_key(key: &str) -> bool {
    matches!(key, "stack" | "Stack" | "stackTrace" | "stack_trace" | "stacktrace" | "traceback")
}

/// `TypeError: …` inside a stack is its text and not metadata.
fn names_exception(key: &str) -> bool {
    key.ends_with("Error") || key.ends_with("Exception") || key.ends_with("Warning")
}

pub(super) fn begins_stack(line: &str) -> bool {
    ["at ", "Traceback (", "Caused by", "goroutine "].iter().any(|start| line.starts_with(start))
}
