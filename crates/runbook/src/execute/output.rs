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
            let head = whole_words(before_broken(&self.head, secrets), true);
            let tail = whole_words(after_broken(&tail, secrets), false);
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

/// A beginning without what it ends with of a secret, which may have blanks or lines in it.
fn before_broken<'a>(bytes: &'a [u8], secrets: &[String]) -> &'a [u8] {
    let part = |secret: &String| (1..secret.len()).rev().find(|at| bytes.ends_with(&secret.as_bytes()[..*at]));
    &bytes[..bytes.len() - secrets.iter().filter_map(part).max().unwrap_or(0)]
}

/// An end without what it begins with of a secret, or of a private key.
fn after_broken<'a>(bytes: &'a [u8], secrets: &[String]) -> &'a [u8] {
    const KEY: &[u8] = b"PRIVATE KEY-----";
    let part = |secret: &String| (1..secret.len()).find_map(|at| bytes.starts_with(&secret.as_bytes()[at..]).then(|| secret.len() - at));
    let bytes = &bytes[secrets.iter().filter_map(part).max().unwrap_or(0)..];
    let first = bytes.windows(KEY.len()).position(|window| window == KEY);
    // The first such line ends a key: it began in what was left out.
    let ends =
        |at: usize| bytes[..at].iter().rposition(|byte| *byte == b'\n').is_some_and(|line| bytes[line..at].starts_with(b"\n-----END"));
    first.filter(|at| ends(*at)).map_or(bytes, |at| &bytes[at + KEY.len()..])
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
    fn a_secret_of_several_words_or_lines_is_not_shown_in_part() {
        let secret = "correct horse battery\nstaple";
        let key = format!("-----BEGIN PRIVATE KEY-----\n{}-----END PRIVATE KEY-----\n", "MIIEabcdef\n".repeat(40));
        for at in [HALF - 20, HALF - 3] {
            for (text, part) in [(secret, "horse"), (secret, "battery"), (secret, "staple"), (key.as_str(), "MIIE")] {
                // Once across the end of the beginning, once across the beginning of the end.
                let mut collected = Collected::default();
                collected.push(&b".\n".repeat(at / 2));
                collected.push(text.as_bytes());
                collected.push(&b".\n".repeat(HALF));
                collected.push(text.as_bytes());
                collected.push(&b".\n".repeat(at / 2));
                let kept = collected.keep(&[secret.to_owned()], &[]);
                assert!(kept.cut && !kept.text.contains(part), "{at} {part}");
            }
        }
    }

    #[test]
    fn a_terminal_is_told_nothing() {
        assert_eq!(hidden("\x1b[31mred\x07\r\nnext\ttab", &[], &[]), "[31mred\nnext\ttab");
        assert_eq!(hidden("id=4711 x", &[], &["id=[0-9]+".to_owned()]), "*** x");
    }
}
