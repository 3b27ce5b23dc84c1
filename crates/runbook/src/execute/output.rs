//! Output as it is kept: its beginning and its end, without secrets and without what a terminal would obey.

use std::collections::VecDeque;

use crate::outcome::Kept;
use crate::plan::masked;
use crate::predicate::pattern;

/// What is kept of one output, half from its beginning and half from its end.
pub const OUTPUT_BYTES_MAX: usize = 256 * 1024;
const HALF: usize = OUTPUT_BYTES_MAX / 2;
/// Where output is cut, the broken word goes too: half a secret is still one.
const BROKEN_WORD_MAX: usize = 8 * 1024;

/// Collects output in bounded memory.
#[derive(Debug, Default)]
pub(super) struct Collected {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
}

impl Collected {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = HALF - self.head.len();
        let (first, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(first);
        let rest = &rest[rest.len().saturating_sub(HALF)..];
        let over = (self.tail.len() + rest.len()).saturating_sub(HALF);
        self.tail.drain(..over.min(self.tail.len()));
        self.tail.extend(rest);
    }

    /// The text with what no record may show taken out.
    pub(super) fn keep(mut self, secrets: &[String], redact: &[String]) -> Kept {
        let cut = self.total > (self.head.len() + self.tail.len()) as u64;
        let tail: Vec<u8> = std::mem::take(&mut self.tail).into();
        let text = if cut {
            let head = whole_words(&self.head, true);
            let tail = whole_words(&tail, false);
            let left_out = self.total - (head.len() + tail.len()) as u64;
            let clean = |bytes: &[u8]| hidden(&String::from_utf8_lossy(bytes), secrets, redact);
            format!("{}\n… {left_out} bytes left out …\n{}", clean(head), clean(tail))
        } else {
            self.head.extend(tail);
            hidden(&String::from_utf8_lossy(&self.head), secrets, redact)
        };
        Kept { text, bytes: self.total, cut }
    }
}

fn whole_words(bytes: &[u8], head: bool) -> &[u8] {
    let blank = |byte: &u8| byte.is_ascii_whitespace();
    if head {
        let from = bytes.len().saturating_sub(BROKEN_WORD_MAX);
        &bytes[..bytes[from..].iter().rposition(blank).map_or(from, |at| from + at)]
    } else {
        let to = bytes.len().min(BROKEN_WORD_MAX);
        &bytes[bytes[..to].iter().position(blank).map_or(to, |at| at + 1)..]
    }
}

/// A text without secrets and control characters.
pub(super) fn hidden(text: &str, secrets: &[String], redact: &[String]) -> String {
    let mut text: String = text.chars().filter(|letter| !letter.is_control() || matches!(letter, '\n' | '\t')).collect();
    for pattern in redact.iter().filter_map(|text| pattern(text).ok()) {
        text = pattern.replace_all(&text, "***").into_owned();
    }
    masked(&text, secrets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_output_is_its_beginning_and_its_end() {
        let mut collected = Collected::default();
        collected.push(b"begin here\n");
        for _ in 0..2_000 {
            collected.push(&[b'x'; 1000]);
            collected.push(b" \n");
        }
        collected.push(b"end here\n");
        let kept = collected.keep(&[], &[]);
        assert!(kept.cut && kept.bytes == 2_004_020, "{}", kept.bytes);
        assert!(kept.text.starts_with("begin here") && kept.text.ends_with("end here\n"));
        assert!(kept.text.len() <= OUTPUT_BYTES_MAX + 100 && kept.text.contains("bytes left out"));
    }

    #[test]
    fn a_secret_at_the_cut_is_not_shown_in_half() {
        for before in [HALF - 10, HALF - 3, HALF] {
            let mut collected = Collected::default();
            collected.push(&vec![b'.'; before - 1]);
            collected.push(b" hunter2-hunter2 ");
            collected.push(&vec![b'.'; 3 * HALF]);
            let kept = collected.keep(&["hunter2-hunter2".to_owned()], &[]);
            assert!(!kept.text.contains("hunter2"), "{before}");
        }
    }

    #[test]
    fn a_terminal_is_told_nothing() {
        assert_eq!(hidden("\x1b[31mred\x07\r\nnext\ttab", &[], &[]), "[31mred\nnext\ttab");
        assert_eq!(hidden("id=4711 x", &[], &["id=[0-9]+".to_owned()]), "*** x");
    }
}
