//! Log files and standard input: the bracket format, JSON lines and plain text, recognised line by line.
//!
//! **Takes** lines. **Gives** one event per record, with every line that belongs to it: metadata lines become
//! attributes, a stack stays with its message. **Never** keeps more of a record than [`RECORD_BYTES_MAX`], never
//! fails on what it cannot read: such a line is a record of plain text.
//!
//! A record of several lines is complete when the next one begins, or when the caller says so with
//! [`Parser::flush`] (at the end, or after a moment of silence).

use paramedic_model::{AgentId, Event, SessionId, Timestamp};

mod head;

mod record;

mod bracket;

mod plain;

mod json_line;

mod time_zone;

pub use time_zone::{TimeZone, UnknownTimeZone};

/// Bytes kept of one record; the lines beyond are counted and left out.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;
/// Lines kept of one record.
pub const RECORD_LINES_MAX: usize = 1_000;
/// The longest JSON line that is read as JSON; a longer one is kept as the beginning of its text.
pub const JSON_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Keep text and attributes. Without, only what detectors need is read.
    pub capture_text: bool,
    /// The agent of records that name none: the service whose log this is.
    pub agent: Option<AgentId>,
    /// The session of records that name none.
    pub session: Option<SessionId>,
    /// The zone of times that name none.
    pub time_zone: TimeZone,
}

impl Default for Options {
    fn default() -> Self {
        Self { capture_text: true, agent: None, session: None, time_zone: TimeZone::local() }
    }
}

/// What the parser has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub lines: u64,
    pub records: u64,
    /// Lines that look like JSON and are not.
    pub malformed: u64,
    /// Lines cut or left out because a record was too large.
    pub cut: u64,
    /// Records with bytes that are not UTF-8.
    pub invalid_utf8: u64,
}

/// What kind of record is being gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gathering {
    Nothing,
    Bracket(bracket::Head),
    Plain(plain::Head),
}

/// Reads one stream of lines.
#[derive(Debug)]
pub struct Parser {
    options: Options,
    pub counts: Counts,
    gathering: Gathering,
    /// The lines of the record that is being gathered, with line feeds between.
    buffer: Vec<u8>,
    lines: usize,
    /// One allocation for an agent or a session that is named again and again.
    names: record::Names,
    times: time_zone::Times,
}

impl Parser {
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            times: time_zone::Times::new(options.time_zone.clone()),
            options,
            counts: Counts::default(),
            gathering: Gathering::Nothing,
            buffer: Vec::new(),
            lines: 0,
            names: record::Names::default(),
        }
    }

    /// Reads one line, with or without its line end. `now` stands in for times that the line does not tell.
    pub fn feed(&mut self, line: &[u8], now: Timestamp, out: &mut Vec<Event>) {
        self.counts.lines += 1;
        self.times.now = now;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match line.first() {
            Some(b'[') => {
                if let Some(head) = bracket::Head::read(line, &self.times) {
                    self.begin(Gathering::Bracket(head), line, out);
                    return;
                }
            }
            Some(b'{') if self.feed_json(line, out) => return,
            _ => {}
        }
        let is_continued = match &mut self.gathering {
            Gathering::Nothing => false,
            Gathering::Bracket(_) => !plain::begins_surely(line, &self.times),
            Gathering::Plain(head) => head.continues(line, &self.times),
        };
        if is_continued {
            self.append(line);
        } else if line.iter().all(u8::is_ascii_whitespace) {
            self.flush(out);
        } else {
            self.begin(Gathering::Plain(plain::Head::read(line, &self.times)), line, out);
        }
    }

    /// Completes the record that is being gathered.
    pub fn flush(&mut self, out: &mut Vec<Event>) {
        let gathered = std::mem::replace(&mut self.gathering, Gathering::Nothing);
        if gathered == Gathering::Nothing {
            return;
        }
        self.counts.records += 1;
        let lossy;
        let text = match std::str::from_utf8(&self.buffer) {
            Ok(text) => text,
            Err(_) => {
                self.counts.invalid_utf8 += 1;
                lossy = String::from_utf8_lossy(&self.buffer).into_owned();
                &lossy
            }
        };
        match gathered {
            Gathering::Nothing => {}
            Gathering::Bracket(head) => out.push(bracket::event(head, text, &self.options, &mut self.names)),
            Gathering::Plain(head) => out.push(plain::event(head, text, &self.options, &mut self.names)),
        }
        self.buffer.clear();
        // One huge record must not hold its memory for ever.
        if self.buffer.capacity() > RECORD_BYTES_MAX * 2 {
            self.buffer = Vec::new();
        }
    }

    /// A record is being gathered that only a further line or [`Self::flush`] completes.
    #[must_use]
    pub fn is_gathering(&self) -> bool {
        self.gathering != Gathering::Nothing
    }

    fn begin(&mut self, head: Gathering, line: &[u8], out: &mut Vec<Event>) {
        self.flush(out);
        self.gathering = head;
        self.lines = 0;
        self.append(line);
    }

    fn append(&mut self, line: &[u8]) {
        let room = RECORD_BYTES_MAX.saturating_sub(self.buffer.len() + 1);
        if self.lines >= RECORD_LINES_MAX || room == 0 {
            self.counts.cut += 1;
            return;
        }
        if self.lines > 0 {
            self.buffer.push(b'\n');
        }
        self.lines += 1;
        self.counts.cut += u64::from(line.len() > room);
        self.buffer.extend_from_slice(&line[..line.len().min(room)]);
    }

    /// Whether the line was a JSON record. A line that is only part of something else is left to the caller.
    fn feed_json(&mut self, line: &[u8], out: &mut Vec<Event>) -> bool {
        if line.len() > JSON_BYTES_MAX {
            self.counts.malformed += 1;
            return false;
        }
        let is_below = self.is_gathering();
        let mut events = Vec::new();
        match json_line::read(line, &self.times, &self.options, &mut self.names, is_below, &mut events) {
            json_line::Reading::Record => {
                self.flush(out);
                self.counts.records += events.len() as u64;
                out.append(&mut events);
                true
            }
            json_line::Reading::Malformed => {
                self.counts.malformed += 1;
                false
            }
            json_line::Reading::NotARecord => false,
        }
    }
}
