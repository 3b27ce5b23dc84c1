//! Lines out of a file, with one buffer and a bound.

use std::io::{self, Read};

use memchr::memchr;

/// Bytes asked for at once: large enough to be rare, small enough to stay in the processor's cache.
const CHUNK_BYTES: usize = 256 * 1024;

/// Cuts a byte stream into lines. Memory is one chunk, or the longest line up to the limit.
#[derive(Debug)]
pub struct LineReader {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Up to here there is no newline: a long line that arrives in pieces is not searched again.
    searched: usize,
    line_bytes_max: usize,
    is_skipping: bool,
    skipped: u64,
}

/// What comes next in the stream. `bytes` counts the newline too.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    Line(&'a [u8]),
    /// A line longer than the limit, skipped whole.
    Oversized {
        bytes: u64,
    },
    /// No newline so far: more bytes must be read.
    NeedMore,
}

impl LineReader {
    #[must_use]
    pub fn new(line_bytes_max: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, end: 0, searched: 0, line_bytes_max, is_skipping: false, skipped: 0 }
    }

    /// Forgets what is buffered; for the next file.
    pub fn reset(&mut self) {
        (self.start, self.end, self.searched, self.is_skipping, self.skipped) = (0, 0, 0, false, 0);
    }

    /// Reads once. Zero means the end of the stream.
    pub fn fill(&mut self, source: &mut impl Read) -> io::Result<usize> {
        self.make_room();
        loop {
            match source.read(&mut self.buffer[self.end..]) {
                Ok(read) => {
                    self.end += read;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn make_room(&mut self) {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.searched -= self.start;
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() > CHUNK_BYTES && self.end == 0 {
            self.buffer = Vec::new();
        }
        if self.buffer.len() - self.end < CHUNK_BYTES / 2 {
            let wanted = (self.end + self.end / 2).max(self.end + CHUNK_BYTES / 2).min(self.line_bytes_max + CHUNK_BYTES);
            self.buffer.resize(wanted.max(CHUNK_BYTES).max(self.end + 1), 0);
        }
    }

    /// The next line, if a whole one is buffered.
    pub fn next_piece(&mut self) -> Piece<'_> {
        match memchr(b'\n', &self.buffer[self.searched..self.end]) {
            Some(offset) => {
                let (start, newline) = (self.start, self.searched + offset);
                self.start = newline + 1;
                self.searched = self.start;
                let bytes = (newline + 1 - start) as u64;
                if self.is_skipping || newline - start > self.line_bytes_max {
                    let bytes = bytes + self.skipped;
                    (self.is_skipping, self.skipped) = (false, 0);
                    return Piece::Oversized { bytes };
                }
                Piece::Line(&self.buffer[start..newline])
            }
            None => {
                self.searched = self.end;
                if self.is_skipping || self.end - self.start > self.line_bytes_max {
                    self.is_skipping = true;
                    self.skipped += (self.end - self.start) as u64;
                    (self.start, self.end, self.searched) = (0, 0, 0);
                }
                Piece::NeedMore
            }
        }
    }

    /// The last line of a stream that ended without a newline.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Bytes of an unfinished line that were thrown away because it is too long already.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Continues in the middle of a line that is known to be too long.
    pub const fn continue_skipping(&mut self) {
        self.is_skipping = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out a few bytes at a time, as a slow writer's file does.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(self.1).min(out.len());
            out[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn pieces(input: &[u8], at_once: usize, line_bytes_max: usize) -> (Vec<String>, String) {
        let mut reader = LineReader::new(line_bytes_max);
        let mut source = Trickle(input, at_once);
        let mut seen = Vec::new();
        while reader.fill(&mut source).unwrap() > 0 {
            loop {
                match reader.next_piece() {
                    Piece::Line(line) => seen.push(String::from_utf8_lossy(line).into_owned()),
                    Piece::Oversized { bytes } => seen.push(format!("<{bytes}>")),
                    Piece::NeedMore => break,
                }
            }
        }
        (seen, String::from_utf8_lossy(reader.rest()).into_owned())
    }

    #[test]
    fn lines_are_the_same_however_the_bytes_arrive() {
        for at_once in [1, 2, 3, 7, 100] {
            let (seen, rest) = pieces(b"one\n\ntwo and more\nthe third one is long\nfour\nfi", at_once, 12);
            assert_eq!(seen, ["one", "", "two and more", "<22>", "four"], "{at_once} at once");
            assert_eq!(rest, "fi");
        }
    }

    #[test]
    fn a_huge_line_takes_no_more_memory_than_the_limit_asks() {
        let mut input = vec![b'x'; 10 * 1024 * 1024];
        input.extend_from_slice(b"\nsmall\n");
        let mut reader = LineReader::new(1024 * 1024);
        let mut source = &input[..];
        let mut seen = Vec::new();
        while reader.fill(&mut source).unwrap() > 0 {
            loop {
                match reader.next_piece() {
                    Piece::Line(line) => seen.push(line.len() as u64),
                    Piece::Oversized { bytes } => seen.push(bytes),
                    Piece::NeedMore => break,
                }
            }
            assert!(reader.buffer.capacity() <= 4 * 1024 * 1024);
        }
        assert_eq!(seen, [10 * 1024 * 1024 + 1, 5]);
    }
}
