//! One log file that is followed through its open handle, whatever becomes of its name.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use paramedic_model::{Event, Timestamp, limit};

use crate::log::Parser;
use crate::metrics::LogMetrics;
use crate::tail::Offset;
use crate::tail::file::identity_of;
use crate::transcript::{LineReader, Piece};

/// What stands before the path in the name under which a log's offset is kept: a transcript's is the bare path.
pub(super) const OFFSET_PREFIX: &str = "log:";
/// The attribute that names the file.
const FILE_ATTRIBUTE: &str = "log.file.path";

pub(super) fn offset_name(path: &Path) -> String {
    format!("{OFFSET_PREFIX}{}", path.to_string_lossy())
}

/// A position between two records: everything before it was handed over.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    position: u64,
    lines: u64,
}

#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) path: PathBuf,
    file: File,
    /// Device and inode.
    pub(super) id: (u64, u64),
    parser: Parser,
    /// Read and given to the parser.
    read: Place,
    /// The beginning of the record that the parser is gathering, else as far as it was read.
    done: Place,
    /// The identity of what lies before `done`, and the place it was made for.
    identity: u64,
    /// The line that is being written is too long already.
    is_skipping: bool,
    /// When the file last grew.
    pub(super) grew_at: Instant,
    name: Box<str>,
}

/// What one reading needs from outside.
pub(super) struct Reading<'a> {
    pub(super) reader: &'a mut LineReader,
    pub(super) metrics: &'a LogMetrics,
    pub(super) now: Timestamp,
    pub(super) events_max: usize,
    pub(super) events: &'a mut Vec<Event>,
}

/// How far one reading came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reached {
    End,
    /// There is more, but the events so far should be sent first.
    Full,
}

impl LogFile {
    /// A file from its start.
    pub(super) fn open(path: &Path, parser: Parser) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        Ok(Self {
            path: path.to_owned(),
            file,
            id: id_of(&metadata),
            parser,
            read: Place::default(),
            done: Place::default(),
            identity: 0,
            is_skipping: false,
            grew_at: Instant::now(),
            name: paramedic_model::text::head(&path.to_string_lossy(), limit::ATTRIBUTE_BYTES_MAX).into(),
        })
    }

    /// Goes to where an earlier reading ended, if this is the file that it read.
    pub(super) fn resume(&mut self, offset: &Offset) -> io::Result<bool> {
        let metadata = self.file.metadata()?;
        let is_same = metadata.len() >= offset.position
            && (offset.position == 0 || identity_of(&self.file, &metadata, offset.position) == offset.identity);
        if is_same {
            self.done = Place { position: offset.position, lines: offset.lines };
            self.read = self.done;
            self.identity = offset.identity;
        }
        Ok(is_same)
    }

    /// Leaves out what the file holds now; a line that is being written is left out too.
    pub(super) fn skip_to_end(&mut self) -> io::Result<()> {
        let metadata = self.file.metadata()?;
        self.read = Place { position: metadata.len(), lines: 0 };
        if metadata.len() > 0 {
            let mut last = [0u8];
            std::os::unix::fs::FileExt::read_exact_at(&self.file, &mut last, metadata.len() - 1)?;
            self.is_skipping = last[0] != b'\n';
        }
        self.commit(&metadata);
        Ok(())
    }

    fn commit(&mut self, metadata: &Metadata) {
        self.done = self.read;
        self.identity = if self.done.position == 0 { 0 } else { identity_of(&self.file, metadata, self.done.position) };
    }

    pub(super) fn offset(&self) -> Offset {
        let Place { position, lines } = self.done;
        Offset { file: offset_name(&self.path), position, identity: self.identity, lines }
    }

    pub(super) fn is_gathering(&self) -> bool {
        self.parser.is_gathering()
    }

    /// Whether the path still leads to this file.
    pub(super) fn is_in_place(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|metadata| id_of(&metadata) == self.id)
    }

    /// Reads whole lines up to the end. True in the second place: something was read or begun anew.
    pub(super) fn read(&mut self, reading: &mut Reading<'_>) -> io::Result<(Reached, bool)> {
        let metadata = self.file.metadata()?;
        let is_truncated = metadata.len() < self.read.position
            || (self.done.position > 0 && identity_of(&self.file, &metadata, self.done.position) != self.identity);
        if is_truncated {
            tracing::info!(file = %self.path.display(), "log was truncated and is read anew");
            reading.metrics.truncations.inc();
            self.flush(reading);
            (self.read, self.done, self.identity, self.is_skipping) = (Place::default(), Place::default(), 0, false);
        }
        if metadata.len() <= self.read.position {
            return Ok((Reached::End, is_truncated));
        }
        let start = self.read.position;
        let reached = self.read_lines(reading, metadata.len() - start)?;
        reading.metrics.bytes.inc_by(self.read.position - start);
        if self.read.position > start {
            self.grew_at = Instant::now();
            let done = self.done;
            self.identity = if done.position == 0 { 0 } else { identity_of(&self.file, &metadata, done.position) };
        }
        Ok((reached, is_truncated || self.read.position > start))
    }

    fn read_lines(&mut self, reading: &mut Reading<'_>, bytes: u64) -> io::Result<Reached> {
        (&self.file).seek(SeekFrom::Start(self.read.position))?;
        reading.reader.reset();
        if self.is_skipping {
            reading.reader.continue_skipping();
        }
        let before = reading.events.len();
        let mut source = self.file.try_clone()?.take(bytes);
        loop {
            if reading.reader.fill(&mut source)? == 0 {
                break;
            }
            loop {
                match reading.reader.next_piece() {
                    Piece::Line(line) => {
                        let start = self.read;
                        self.read = Place { position: start.position + line.len() as u64 + 1, lines: start.lines + 1 };
                        feed(&mut self.parser, line, start, self.read, &mut self.done, reading.now, reading.events);
                    }
                    Piece::Oversized { bytes } => {
                        self.is_skipping = false;
                        self.read = Place { position: self.read.position + bytes, lines: self.read.lines + 1 };
                        if !self.parser.is_gathering() {
                            self.done = self.read;
                        }
                        reading.metrics.oversized_lines.inc();
                        tracing::warn!(file = %self.path.display(), bytes, "log line is too long and was skipped");
                    }
                    Piece::NeedMore => break,
                }
                if reading.events.len() >= reading.events_max {
                    self.sign(reading, before);
                    return Ok(Reached::Full);
                }
            }
        }
        if reading.reader.skipped() > 0 {
            self.is_skipping = true;
            self.read.position += reading.reader.skipped();
        }
        self.sign(reading, before);
        Ok(Reached::End)
    }

    /// Completes the record that is being gathered: nothing more will come of it.
    pub(super) fn flush(&mut self, reading: &mut Reading<'_>) {
        let before = reading.events.len();
        self.parser.flush(reading.events);
        self.sign(reading, before);
        if let Ok(metadata) = self.file.metadata() {
            self.commit(&metadata);
        }
    }

    /// The last line of a file that its writer has left: nobody will end it.
    pub(super) fn read_rest(&mut self, reading: &mut Reading<'_>) {
        let before = reading.events.len();
        let rest = reading.reader.rest();
        if !rest.is_empty() && !self.is_skipping {
            self.read.position += rest.len() as u64;
            self.parser.feed(rest, reading.now, reading.events);
        }
        self.parser.flush(reading.events);
        self.sign(reading, before);
    }

    /// Names the file on new events and counts them.
    fn sign(&mut self, reading: &mut Reading<'_>, before: usize) {
        for event in &mut reading.events[before..] {
            event.attributes.insert(FILE_ATTRIBUTE.to_owned(), (*self.name).into());
        }
        reading.metrics.events.inc_by((reading.events.len() - before) as u64);
        reading.metrics.lines.inc_by(std::mem::take(&mut self.parser.counts.lines));
    }
}

/// Gives one line to the parser and notes where the record that it may have begun starts.
fn feed(parser: &mut Parser, line: &[u8], start: Place, end: Place, done: &mut Place, now: Timestamp, events: &mut Vec<Event>) {
    let (was_gathering, before) = (parser.is_gathering(), events.len());
    parser.feed(line, now, events);
    if !parser.is_gathering() {
        *done = end;
    } else if !was_gathering || events.len() > before {
        *done = start;
    }
}

pub(super) fn id_of(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
