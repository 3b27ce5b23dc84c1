//! Plays the recorded sample fleet, so that the first minute with Paramedic shows the whole thing.
//!
//! The story is twenty minutes long. It is played faster than it happened, with times shifted so that its last line
//! happens when it is played.

pub mod looping;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use paramedic_model::{Clock, Timestamp};
use tokio_util::sync::CancellationToken;

/// Each file of the recorded fleet, by its path inside a Claude Code folder.
const FILES: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/sample.rs"));

/// When the story begins in the files.
const BASE: &str = "2026-01-01T12:00:00Z";

#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    #[error("write {}: {source}", file.display())]
    Write { file: PathBuf, source: std::io::Error },
}

/// One line of the story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Microseconds since the story began.
    pub offset: i64,
    /// Path inside the Claude Code folder; `hooks.jsonl` holds hook calls.
    pub file: &'static str,
    pub text: &'static str,
}

/// All lines in the order of time.
#[must_use]
pub fn story() -> Vec<Line> {
    let base = Timestamp::parse(BASE).unwrap_or_default();
    let mut lines = Vec::new();
    for (file, text) in FILES {
        let mut offset = 0;
        for line in text.lines().filter(|line| !line.is_empty()) {
            offset = time_of(line).map_or(offset, |at| at.as_micros() - base.as_micros());
            lines.push(Line { offset, file, text: line });
        }
    }
    lines.sort_by_key(|line| line.offset);
    lines
}

fn time_of(line: &str) -> Option<Timestamp> {
    let at = ["\"timestamp\":\"", "\"at\":\""].iter().find_map(|key| line.find(key).map(|found| found + key.len()))?;
    Timestamp::parse(line.get(at..)?.split('"').next()?)
}

/// The same line, every time of the story moved by `shift` microseconds.
#[must_use]
pub fn shifted(line: &str, shift: i64) -> String {
    let mut out = String::with_capacity(line.len());
    for (index, part) in line.split('"').enumerate() {
        if index > 0 {
            out.push('"');
        }
        match part.strip_prefix("2026-01-01T12:").and_then(|_| Timestamp::parse(part)) {
            Some(at) => out.push_str(&Timestamp::from_micros(at.as_micros() + shift).to_string()),
            None => out.push_str(part),
        }
    }
    out
}

/// Plays the story into a Claude Code folder (and its hooks into `post`) until it is over or cancelled.
pub async fn play(
    dir: &Path,
    speed: f64,
    clock: &dyn Clock,
    post: &(dyn Fn(String) + Sync),
    cancel: &CancellationToken,
) -> Result<usize, SampleError> {
    let story = story();
    let length = story.last().map_or(0, |line| line.offset);
    #[expect(clippy::cast_possible_truncation, reason = "a story of twenty minutes")]
    let played_length = (length as f64 / speed.max(0.1)) as i64;
    let began = clock.now();
    let base = Timestamp::parse(BASE).unwrap_or_default();
    let shift = began.as_micros() + played_length - length - base.as_micros();
    for (played, line) in story.iter().enumerate() {
        #[expect(clippy::cast_possible_truncation, reason = "a story of twenty minutes")]
        let due = began.as_micros() + (line.offset as f64 / speed.max(0.1)) as i64;
        let wait = Duration::from_micros(u64::try_from(due - clock.now().as_micros()).unwrap_or(0));
        tokio::select! {
            () = cancel.cancelled() => return Ok(played),
            () = tokio::time::sleep(wait) => {}
        }
        let text = shifted(line.text, shift);
        if line.file == "hooks.jsonl" {
            if let Ok(mut hook) = serde_json::from_str::<serde_json::Value>(&text) {
                post(hook["body"].take().to_string());
            }
        } else {
            append(&dir.join(line.file), &text)?;
        }
    }
    Ok(story.len())
}

fn append(file: &Path, text: &str) -> Result<(), SampleError> {
    let failed = |source| SampleError::Write { file: file.to_owned(), source };
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut open = std::fs::File::options().create(true).append(true).open(file).map_err(failed)?;
    open.write_all(format!("{text}\n").as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_story_is_in_order_and_keeps_its_distances() {
        let story = story();
        assert!(story.len() > 100, "{} lines", story.len());
        assert!(story.windows(2).all(|pair| pair[0].offset <= pair[1].offset));
        let moved = shifted(r#"{"timestamp":"2026-01-01T12:06:04.500Z","x":"2026-01-01T12:not"}"#, 3_600_000_000);
        assert_eq!(moved, r#"{"timestamp":"2026-01-01T13:06:04.500Z","x":"2026-01-01T12:not"}"#);
    }
}
