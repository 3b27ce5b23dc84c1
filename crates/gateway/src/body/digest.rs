//! A short list of what was left out of a history: counted and copied, not thought up.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::edit::escaped;
use super::messages::{BlockKind, Messages, Role, blocks};
use super::place::Place;

/// The whole block, as it stands in the body.
const DIGEST_BYTES_MAX: usize = 2048;
/// Of each text of a user so much is told.
const TEXT_LETTERS_MAX: usize = 80;
/// Of the tools' names so many are told.
const TOOLS_MAX: usize = 12;
const TOOL_LETTERS_MAX: usize = 64;
/// What clients put into users' messages by themselves.
const REMINDER: &str = "<system-reminder>";

/// A text block that tells of the messages for which `left` holds.
pub(super) fn block(body: &[u8], messages: &Messages, left: impl Fn(usize) -> bool) -> String {
    let (open, close) = (r#"{"type":"text","text":"["#, r#"]"}"#);
    let mut room = DIGEST_BYTES_MAX - open.len() - close.len();
    let mut written = String::from(open);
    for line in lines(body, messages, left) {
        let line = escaped(&line);
        if line.len() > room {
            break;
        }
        room -= line.len();
        written.push_str(&line);
    }
    written.push_str(close);
    written
}

fn lines(body: &[u8], messages: &Messages, left: impl Fn(usize) -> bool) -> Vec<String> {
    let gone: Vec<usize> = (0..messages.list.len()).filter(|index| left(*index)).collect();
    let mut lines = vec![format!("{} earlier messages of this conversation were left out to shorten it.", gone.len())];
    let mut counts: HashMap<&[u8], (u64, Place)> = HashMap::new();
    for tool in messages.uses.iter().filter(|tool| left(tool.message)) {
        counts.entry(tool.name.raw(body)).or_insert((0, tool.name)).0 += 1;
    }
    let mut tools: Vec<_> = counts.into_values().collect();
    tools.sort_by_key(|(count, name)| (std::cmp::Reverse(*count), name.start()));
    if !tools.is_empty() {
        let mut line = " Tools used in them:".to_owned();
        for (index, (count, name)) in tools.iter().take(TOOLS_MAX).enumerate() {
            let _ = write!(line, "{} {} {count}x", if index == 0 { "" } else { "," }, capped(&name.text(body), TOOL_LETTERS_MAX));
        }
        line.push_str(if tools.len() > TOOLS_MAX { " and others." } else { "." });
        lines.push(line);
    }
    let first = lines.len();
    for index in gone {
        let message = messages.list[index];
        let Some(content) = message.content.filter(|_| message.role == Role::User) else { continue };
        let texts = match body.get(content.start()) {
            Some(b'"') => vec![Place::new(content.start() + 1, content.end().saturating_sub(1))],
            _ => blocks(body, content)
                .unwrap_or_default()
                .iter()
                .filter(|block| block.kind == BlockKind::Text)
                .map(|block| block.text)
                .collect(),
        };
        let said = texts.into_iter().map(|place| place.text(body)).filter(|text| !text.trim().is_empty() && !text.starts_with(REMINDER));
        lines.extend(said.map(|text| format!("\n- {}", capped(text.trim(), TEXT_LETTERS_MAX).trim_end())));
        // More than this never fits.
        if lines.len() > DIGEST_BYTES_MAX / 4 {
            break;
        }
    }
    if lines.len() > first {
        lines.insert(first, " The user said in them:".to_owned());
    }
    lines
}

/// The first letters of a text, on one line.
fn capped(text: &str, letters: usize) -> String {
    text.chars().take(letters).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}
