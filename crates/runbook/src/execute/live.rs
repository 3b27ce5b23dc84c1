//! What a step says while it runs, for people who watch it. The record is made of the whole output, afterwards.

use std::sync::{Arc, Mutex, PoisonError};

use super::output::hidden;

/// Bytes of the newest lines that are kept for those who watch.
const TAIL_BYTES_MAX: usize = 8 * 1024;
/// Longest line that is waited for; a longer one is not shown while it comes.
const LINE_BYTES_MAX: usize = 4 * 1024;

/// The newest whole lines of the step that runs. Lines are shown whole only: half a line could hold half a secret.
#[derive(Debug, Clone, Default)]
pub struct Live(Arc<Mutex<Said>>);

#[derive(Debug, Default)]
struct Said {
    step: Option<String>,
    text: String,
    /// Changes with every line.
    version: u64,
}

impl Live {
    pub(crate) fn begin(&self, step: &str) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *said = Said { step: Some(step.to_owned()), text: String::new(), version: said.version + 1 };
    }

    pub(crate) fn end(&self) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *said = Said { version: said.version + 1, ..Said::default() };
    }

    /// The step that runs and what it has said; none while none runs.
    #[must_use]
    pub fn now(&self) -> Option<(String, String)> {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.step.clone().map(|step| (step, said.text.clone()))
    }

    /// Changes whenever something new was said.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).version
    }

    fn say(&self, lines: &str) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.text.push_str(lines);
        if said.text.len() > TAIL_BYTES_MAX {
            let from = said.text.len() - TAIL_BYTES_MAX;
            let cut = said.text[..].char_indices().map(|(at, _)| at).find(|at| *at >= from).unwrap_or(0);
            let cut = said.text[cut..].find('\n').map_or(cut, |line| cut + line + 1);
            said.text.drain(..cut);
        }
        said.version += 1;
    }
}

/// Cuts a stream into lines and passes them on without secrets.
pub(super) struct Tap {
    live: Option<Live>,
    secrets: Vec<String>,
    redact: Vec<String>,
    line: Vec<u8>,
    too_long: bool,
}

impl Tap {
    pub(super) fn new(live: Option<Live>, secrets: &[String], redact: &[String]) -> Self {
        Self { live, secrets: secrets.to_vec(), redact: redact.to_vec(), line: Vec::new(), too_long: false }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let Some(live) = &self.live else { return };
        // Of much output only the newest is shown anyway; hiding all of it would cost more than running the program.
        let skipped = bytes.len().saturating_sub(2 * TAIL_BYTES_MAX);
        if skipped > 0 {
            self.line.clear();
            self.too_long = true;
        }
        let mut whole = Vec::new();
        for byte in &bytes[skipped..] {
            match (*byte == b'\n', self.too_long) {
                (true, true) => {
                    self.too_long = false;
                    self.line.clear();
                }
                (true, false) => {
                    whole.append(&mut self.line);
                    whole.push(b'\n');
                }
                (false, true) => {}
                (false, false) if self.line.len() >= LINE_BYTES_MAX => self.too_long = true,
                (false, false) => self.line.push(*byte),
            }
        }
        if !whole.is_empty() {
            live.say(&hidden(&String::from_utf8_lossy(&whole), &self.secrets, &self.redact));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_are_shown_without_secrets_and_the_newest_only() {
        let live = Live::default();
        live.begin("look");
        let mut tap = Tap::new(Some(live.clone()), &["hunter2".to_owned()], &[]);
        tap.push(b"one hun");
        assert_eq!(live.now(), Some(("look".to_owned(), String::new())));
        tap.push(b"ter2\ntwo");
        assert_eq!(live.now().unwrap().1, "one ***\n");
        for _ in 0..2_000 {
            tap.push(b" and more\n");
        }
        tap.push(&[b'x'; 10_000]);
        tap.push(b"\nlast\n");
        let (_, text) = live.now().unwrap();
        assert!(text.len() <= TAIL_BYTES_MAX && text.ends_with("last\n") && !text.contains("xxx"), "{}", text.len());
        live.end();
        assert_eq!(live.now(), None);
    }
}
