//! Server-sent events, as they come (<https://html.spec.whatwg.org/multipage/server-sent-events.html>): lines ended by
//! LF, CR LF or CR, several data lines, comments, a byte order mark, and borders between pieces anywhere.
//!
//! Nearly all events lie whole in one piece, and nearly all of those are a `content_block_delta`: they are read where they
//! lie. Everything else goes line by line, and its data is put together in a buffer.

use memchr::{memchr, memchr2};

use super::{Seen, wire};

/// The longest line, and the most data of one event, that is put together. Larger events are skipped and counted.
pub(super) const EVENT_BYTES_MAX: usize = 256 * 1024;
/// Buffers that grew larger are given back after their event.
const BUFFER_KEPT_BYTES: usize = 8 * 1024;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const DELTA_HEAD: &[u8] = b"event: content_block_delta\ndata: ";

pub(super) struct EventStream {
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// The line is too long: its rest is passed over.
    line_is_skipped: bool,
    /// The last line ended with CR: an LF that comes next belongs to it.
    after_cr: bool,
    at_start: bool,
    event: Event,
}

/// The event whose end, an empty line, has not come.
#[derive(Default)]
struct Event {
    kind: Kind,
    data: Vec<u8>,
    has_data: bool,
    too_large: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Kind {
    /// Its data may tell.
    #[default]
    Unnamed,
    MessageStart,
    MessageDelta,
    MessageStop,
    Delta,
    Error,
    Other,
}

impl Kind {
    fn of(name: &[u8]) -> Self {
        match name {
            b"" => Self::Unnamed,
            b"message_start" => Self::MessageStart,
            b"message_delta" => Self::MessageDelta,
            b"message_stop" => Self::MessageStop,
            b"content_block_delta" => Self::Delta,
            b"error" => Self::Error,
            _ => Self::Other,
        }
    }
}

impl Default for EventStream {
    fn default() -> Self {
        Self { line: Vec::new(), line_is_skipped: false, after_cr: false, at_start: true, event: Event::default() }
    }
}

impl EventStream {
    pub(super) fn push(&mut self, chunk: &[u8], seen: &mut Seen) {
        let mut rest = chunk;
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while !rest.is_empty() {
            if self.is_between_events() {
                rest = self.pass_events(rest, seen);
            }
            let Some(end) = memchr2(b'\n', b'\r', rest) else { return self.keep(rest) };
            let (line, ended) = rest.split_at(end);
            rest = &ended[1..];
            if ended[0] == b'\r' {
                self.after_cr = rest.is_empty();
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            }
            self.end_line(line, seen);
        }
    }

    /// The stream is over. Its end should be an empty line; an event that lacks only that is taken all the same.
    pub(super) fn finish(mut self, seen: &mut Seen) {
        if !self.line.is_empty() || self.line_is_skipped {
            self.end_line(b"", seen);
        }
        if self.event.has_data && !self.event.too_large && take(self.event.kind, &self.event.data, seen).is_ok() {
            seen.events += 1;
        }
    }

    fn is_between_events(&self) -> bool {
        self.line.is_empty() && !self.line_is_skipped && !self.event.has_data && !self.event.too_large && self.event.kind == Kind::Unnamed
    }

    /// Takes the events that lie whole at the beginning, and gives what is behind them.
    fn pass_events<'a>(&mut self, mut rest: &'a [u8], seen: &mut Seen) -> &'a [u8] {
        while let Some((kind, data, behind)) = whole_event(rest) {
            self.at_start = false;
            seen.events += 1;
            if take(kind, data, seen).is_err() {
                seen.malformed_events += 1;
            }
            rest = behind;
        }
        rest
    }

    fn keep(&mut self, part: &[u8]) {
        if self.line_is_skipped {
            return;
        }
        if self.line.len() + part.len() > EVENT_BYTES_MAX {
            self.line_is_skipped = true;
            self.line = Vec::new();
        } else {
            self.line.extend_from_slice(part);
        }
    }

    /// A line is whole: what was kept of it, and its end.
    fn end_line(&mut self, end: &[u8], seen: &mut Seen) {
        if self.line_is_skipped || self.line.len() + end.len() > EVENT_BYTES_MAX {
            self.line_is_skipped = false;
            self.at_start = false;
            self.line = Vec::new();
            self.event.too_large = true;
        } else if self.line.is_empty() {
            self.read_line(end, seen);
        } else {
            self.line.extend_from_slice(end);
            let mut line = std::mem::take(&mut self.line);
            self.read_line(&line, seen);
            empty(&mut line);
            self.line = line;
        }
    }

    fn read_line(&mut self, mut line: &[u8], seen: &mut Seen) {
        if self.at_start {
            self.at_start = false;
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        if line.is_empty() {
            return self.event.end(seen);
        }
        let colon = memchr(b':', line).unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"event" => self.event.kind = Kind::of(value),
            b"data" => self.event.add(value),
            _ => {}
        }
    }
}

impl Event {
    fn add(&mut self, value: &[u8]) {
        if self.data.len() + value.len() + 1 > EVENT_BYTES_MAX {
            self.too_large = true;
        } else {
            if self.has_data {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value);
        }
        self.has_data = true;
    }

    /// The empty line came.
    fn end(&mut self, seen: &mut Seen) {
        if self.too_large {
            seen.events += 1;
            seen.skipped_events += 1;
            seen.content_began |= self.kind == Kind::Delta;
        } else if self.has_data {
            seen.events += 1;
            if take(self.kind, &self.data, seen).is_err() {
                seen.malformed_events += 1;
            }
        }
        let mut data = std::mem::take(&mut self.data);
        empty(&mut data);
        *self = Self { data, ..Self::default() };
    }
}

/// An event that lies whole at the beginning, in the spelling of the API: its name in the first line, its data in the
/// second, an empty line; and what is behind it.
fn whole_event(rest: &[u8]) -> Option<(Kind, &[u8], &[u8])> {
    let (kind, data_on) = match rest.strip_prefix(DELTA_HEAD) {
        Some(data_on) => (Kind::Delta, data_on),
        None => {
            let name_on = rest.strip_prefix(b"event: ")?;
            let (name, rest) = name_on.split_at(memchr2(b'\n', b'\r', name_on)?);
            (Kind::of(name), rest.strip_prefix(b"\ndata: ")?)
        }
    };
    let (data, end) = data_on.split_at(memchr2(b'\n', b'\r', data_on)?);
    let behind = end.strip_prefix(b"\n\n")?;
    (b"data: ".len() + data.len() <= EVENT_BYTES_MAX).then_some((kind, data, behind))
}

fn take(kind: Kind, data: &[u8], seen: &mut Seen) -> Result<(), wire::NotJson> {
    let kind = match kind {
        Kind::Unnamed => wire::type_of(data)?.map_or(Kind::Other, |name| Kind::of(name.as_bytes())),
        kind => kind,
    };
    match kind {
        Kind::MessageStart => wire::message_start(data, seen),
        Kind::MessageDelta => wire::message_delta(data, seen),
        Kind::Error => wire::body(data, seen),
        Kind::Delta => take_delta(data, seen),
        Kind::MessageStop => wire::type_of(data).map(|_| seen.complete = true),
        Kind::Unnamed | Kind::Other => Ok(()),
    }
}

fn take_delta(data: &[u8], seen: &mut Seen) -> Result<(), wire::NotJson> {
    seen.content_began = true;
    seen.content_bytes += match usual_delta_bytes(data) {
        Some(bytes) => bytes,
        None => wire::delta_bytes(data)?,
    };
    Ok(())
}

/// The length of what a delta in the API's own spelling brought; none when it is spelt otherwise. Escapes are counted as
/// they are written: this is for an estimate.
fn usual_delta_bytes(data: &[u8]) -> Option<u64> {
    let rest = data.strip_prefix(br#"{"type":"content_block_delta","index":"#)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = rest[digits..].strip_prefix(br#","delta":{"type":""#)?;
    let written = match rest.first()? {
        b't' => rest.strip_prefix(br#"text_delta","text":""#).or_else(|| rest.strip_prefix(br#"thinking_delta","thinking":""#))?,
        b'i' => rest.strip_prefix(br#"input_json_delta","partial_json":""#)?,
        _ => return None,
    };
    let quote = string_end(written)?;
    // The API pads the end with blanks.
    let (end, outer) = written[quote + 1..].split_at_checked(1)?;
    let closed = end == b"}" && outer.trim_ascii() == b"}";
    closed.then_some(quote as u64)
}

/// Where the string ends that began before.
fn string_end(written: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr2(b'"', b'\\', written.get(at..)?)?;
        if written[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

fn empty(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(BUFFER_KEPT_BYTES);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_whatever_comes() {
        let endless: [&[u8]; 4] = [b"x", b"data: x", b"data: x\n", b"event: a\ndata: x\r"];
        for unit in endless {
            let (mut stream, mut seen) = (EventStream::default(), Seen::default());
            let piece = unit.repeat(50_000 / unit.len());
            for _ in 0..100 {
                stream.push(&piece, &mut seen);
                assert!(stream.line.capacity() + stream.event.data.capacity() <= 4 * EVENT_BYTES_MAX);
            }
            // It ends like any other, and what comes next is understood.
            stream.push(b"\n\n\nevent: message_stop\ndata: {}\n\n", &mut seen);
            assert!(seen.complete && stream.line.capacity() + stream.event.data.capacity() <= 2 * BUFFER_KEPT_BYTES);
        }
    }
}
