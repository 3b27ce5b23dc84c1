//! The members of a JSON document's outermost object that are looked at, found while the document passes, without
//! keeping the rest: its longest part, the content, is never wanted.

use memchr::memchr2;

/// Members that are kept, as they are written.
const WANTED: &[&[u8]] = &[b"\"id\"", b"\"model\"", b"\"stop_reason\"", b"\"usage\"", b"\"error\""];
/// A longer member is left out.
const MEMBER_BYTES_MAX: usize = 16 * 1024;
/// No more is kept of all members together.
const KEPT_BYTES_MAX: usize = 64 * 1024;

#[derive(Default)]
pub(super) struct Outline {
    depth: u32,
    in_string: bool,
    /// The last byte was a backslash in a string.
    escaped: bool,
    part: Part,
    /// The member that is being read, when it is or may be wanted.
    member: Vec<u8>,
    /// The members that were wanted: `{"id":"msg_1","usage":{}`.
    kept: Vec<u8>,
    ended: bool,
    /// It cannot be JSON.
    broken: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Part {
    /// Nothing that is wanted.
    #[default]
    Passing,
    Key,
    Value,
}

impl Outline {
    pub(super) fn push(&mut self, part: &[u8]) {
        let mut at = 0;
        while at < part.len() && !self.broken {
            if self.in_string && self.part == Part::Passing && !self.escaped {
                let Some(next) = memchr2(b'"', b'\\', &part[at..]) else { return };
                at += next;
            }
            self.step(part[at]);
            at += 1;
        }
    }

    fn step(&mut self, byte: u8) {
        if self.in_string {
            self.note(byte);
            match (self.escaped, byte) {
                (true, _) => self.escaped = false,
                (false, b'\\') => self.escaped = true,
                (false, b'"') => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => {}
            _ if self.ended => self.broken = true,
            b'{' if self.depth == 0 => {
                self.depth = 1;
                self.part = Part::Key;
            }
            _ if self.depth == 0 => self.broken = true,
            b'}' if self.depth == 1 => {
                self.end_member();
                self.depth = 0;
                self.ended = true;
            }
            b',' if self.depth == 1 => {
                self.end_member();
                self.part = Part::Key;
            }
            b':' if self.depth == 1 => {
                if self.part == Part::Key && WANTED.contains(&self.member.as_slice()) {
                    self.part = Part::Value;
                    self.note(byte);
                } else {
                    self.pass();
                }
            }
            _ => {
                self.note(byte);
                match byte {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                    b'}' | b']' => self.depth -= 1,
                    _ => {}
                }
                // `]` may have closed what `{` opened.
                self.broken |= self.depth == 0;
            }
        }
    }

    fn note(&mut self, byte: u8) {
        if self.part == Part::Passing {
            return;
        }
        if self.member.len() == MEMBER_BYTES_MAX {
            return self.pass();
        }
        self.member.push(byte);
    }

    fn pass(&mut self) {
        self.part = Part::Passing;
        self.member.clear();
    }

    fn end_member(&mut self) {
        if self.part == Part::Value && self.kept.len() + self.member.len() < KEPT_BYTES_MAX {
            self.kept.push(if self.kept.is_empty() { b'{' } else { b',' });
            self.kept.extend_from_slice(&self.member);
        }
        self.pass();
    }

    /// The document's end came, and nothing behind it.
    pub(super) const fn is_whole(&self) -> bool {
        self.ended && !self.broken
    }

    /// The document without what is not wanted.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.kept.is_empty() {
            self.kept.push(b'{');
        }
        self.kept.push(b'}');
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(document: &str, outline: &str, whole: bool) {
        for step in [1, 2, 7, document.len().max(1)] {
            let mut read = Outline::default();
            document.as_bytes().chunks(step).for_each(|part| read.push(part));
            assert_eq!(read.is_whole(), whole, "{document}");
            assert_eq!(String::from_utf8(read.finish()).unwrap(), outline, "{document}");
        }
    }

    #[test]
    fn keeps_what_is_wanted_of_the_outermost_object() {
        check(
            r#"{"id":"a","content":[{"usage":{"x":1}},"\"usage\":{"],"usage":{"n":{"id":2}}}"#,
            r#"{"id":"a","usage":{"n":{"id":2}}}"#,
            true,
        );
        check("{ \"model\" : \"m\\\"}\" ,\n\"x\": null, \"stop_reason\": null }\n", r#"{"model":"m\"}","stop_reason":null}"#, true);
        check(r#"{"id":"a","content":"cut"#, r#"{"id":"a"}"#, false);
        check(r#"{"id":"a"} {"id":"b"}"#, r#"{"id":"a"}"#, false);
        check(r#"[{"id":"a"}]"#, "{}", false);
        check("{}", "{}", true);
        check("", "{}", false);
        check("}}}", "{}", false);
        check(r#"{"id":["a"}"#, "{}", false);
    }

    #[test]
    fn its_memory_is_bounded() {
        let mut read = Outline::default();
        read.push(b"{");
        for _ in 0..100 {
            read.push(b"\"usage\":\"");
            read.push(&vec![b'x'; MEMBER_BYTES_MAX - 10]);
            read.push(b"\",\"id\":\"");
            read.push(&vec![b'x'; 2 * MEMBER_BYTES_MAX]);
            read.push(b"\",");
        }
        assert!(read.kept.capacity() + read.member.capacity() <= 4 * KEPT_BYTES_MAX);
    }
}
