//! Finding transcripts and reading one from start to end.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use paramedic_model::{Event, Timestamp, limit, secret, text};

use crate::json;

use super::reader::{LineReader, Piece};
use super::{Counts, ParseOptions, Parser};

/// Folders are followed this deep; a project's deepest file lies five below the configuration directory.
pub(crate) const DEPTH_MAX: usize = 16;
/// Events are handed over in groups of about this size.
const EVENTS_AT_ONCE: usize = 1_024;
const DESCRIPTION_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum TranscriptError {
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
}

/// A file that holds a transcript, or part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TranscriptFile {
    pub path: PathBuf,
    pub bytes: u64,
    pub modified_at: Timestamp,
}

/// What reading one file came to.
#[derive(Debug, Clone, Default)]
pub struct FileCounts {
    pub bytes: u64,
    /// Bytes of a last line that is not complete yet: neither bad nor read.
    pub pending_bytes: u64,
    pub counts: Counts,
}

/// All transcripts under `root`, which may be a Claude Code configuration directory, its `projects`, any folder, or
/// one file. Ordered by modification time, oldest first, so that a replay comes near the order of events. Folders
/// that cannot be read are left out with a warning.
pub fn discover(root: &Path) -> Result<Vec<TranscriptFile>, TranscriptError> {
    let metadata = fs::metadata(root).map_err(|source| TranscriptError::Read { path: root.to_owned(), source })?;
    let mut found = Vec::new();
    if metadata.is_dir() {
        walk(&projects_of(root), DEPTH_MAX, &mut found);
    } else {
        found.push(TranscriptFile { path: root.to_owned(), bytes: metadata.len(), modified_at: modified_at(&metadata) });
    }
    found.sort_by(|one, other| (one.modified_at, &one.path).cmp(&(other.modified_at, &other.path)));
    Ok(found)
}

/// A configuration directory keeps other things beside its `projects`.
pub(crate) fn projects_of(root: &Path) -> PathBuf {
    let projects = root.join("projects");
    if projects.is_dir() { projects } else { root.to_owned() }
}

/// Collects the transcripts below a folder. Links to folders are not followed: they may lead back.
pub(crate) fn walk(folder: &Path, depth: usize, found: &mut Vec<TranscriptFile>) {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(folder = %folder.display(), %error, "folder of transcripts cannot be read");
            }
            return;
        }
    };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let path = entry.path();
        if kind.is_dir() {
            if depth > 0 {
                walk(&path, depth - 1, found);
            }
        } else if is_transcript(&path)
            && let Ok(metadata) = fs::metadata(&path)
            && metadata.is_file()
        {
            found.push(TranscriptFile { path, bytes: metadata.len(), modified_at: modified_at(&metadata) });
        }
    }
}

/// By name: JSON lines, but not the prompt history that lies beside the projects.
pub(crate) fn is_transcript(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "jsonl") && path.file_name().is_some_and(|name| name != "history.jsonl")
}

pub(crate) fn modified_at(metadata: &fs::Metadata) -> Timestamp {
    let since = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// What the file beside a sub-agent's transcript says about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    pub agent_type: Option<Box<str>>,
    /// What it was asked to do, in a few words.
    pub task: Option<Box<str>>,
    /// The tool call that started it (`toolu_…`).
    pub tool_use: Option<Box<str>>,
}

impl Description {
    /// Reads `agent-<id>.meta.json`; nothing where it is missing or says nothing.
    #[must_use]
    pub fn beside(transcript: &Path) -> Option<Self> {
        if !transcript.file_name()?.to_str()?.starts_with("agent-") {
            return None;
        }
        let mut body = Vec::new();
        File::open(transcript.with_extension("meta.json")).ok()?.take(DESCRIPTION_BYTES_MAX).read_to_end(&mut body).ok()?;
        let value: serde_json::Value = serde_json::from_slice(&body).ok()?;
        let said = |key: &str, bytes_max: usize| {
            let found = value.get(key).and_then(serde_json::Value::as_str).filter(|found| !found.is_empty())?;
            Some(Box::from(text::head(&secret::mask(text::head(found, bytes_max * 2)), bytes_max)))
        };
        Some(Self {
            agent_type: said("agentType", limit::ID_BYTES_MAX),
            task: said("description", limit::ATTRIBUTE_BYTES_MAX),
            tool_use: said("toolUseId", limit::ID_BYTES_MAX),
        })
    }
}

/// Reads a whole file in bounded memory and hands its events over group by group; the receiver empties the group or
/// leaves it to be dropped.
pub fn read_file(path: &Path, options: ParseOptions, see: &mut dyn FnMut(&mut Vec<Event>)) -> Result<FileCounts, TranscriptError> {
    let failed = |source| TranscriptError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut parser = Parser::new(options, path);
    parser.set_file_time(modified_at(&file.metadata().map_err(failed)?));
    parser.describe(Description::beside(path));
    let mut reader = LineReader::new(limit::LINE_BYTES_MAX);
    let mut events = Vec::with_capacity(EVENTS_AT_ONCE + 64);
    let mut total = FileCounts::default();
    loop {
        let read = reader.fill(&mut file).map_err(failed)?;
        if read == 0 {
            break;
        }
        total.bytes += read as u64;
        loop {
            match reader.next_piece() {
                Piece::Line(line) => parser.parse(line, &mut events),
                Piece::Oversized { bytes } => {
                    parser.skip_oversized();
                    tracing::warn!(file = %path.display(), line = parser.counts.lines, bytes, "line is too long and was skipped");
                }
                Piece::NeedMore => break,
            }
            if events.len() >= EVENTS_AT_ONCE {
                see(&mut events);
                events.clear();
            }
        }
    }
    read_last(&reader, &mut parser, &mut events, &mut total);
    parser.finish(&mut events);
    if !events.is_empty() {
        see(&mut events);
    }
    total.counts = std::mem::take(&mut parser.counts);
    Ok(total)
}

/// A last line without a newline is either complete, or still being written.
fn read_last(reader: &LineReader, parser: &mut Parser, events: &mut Vec<Event>, total: &mut FileCounts) {
    if reader.skipped() > 0 {
        parser.skip_oversized();
        return;
    }
    let rest = reader.rest();
    if json::is_whole_object(rest) {
        parser.parse(rest, events);
    } else {
        total.pending_bytes = rest.len() as u64;
    }
}
