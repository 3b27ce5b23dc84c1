//! The head once more, in a small file beside the journal: `<journal>-head`.
//!
//! The engine drops a damaged or deleted log without a word, and the newest entries and their head record with it.
//! This note survives that. It is written after each commit and not synced, so it is never ahead of what is
//! durable: after a power cut it may be old, after a kill it is at most one commit behind. Whoever puts an older
//! copy of the journal back on purpose removes the note with it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::entry::{Hash, Head};

/// Bytes of a note: number, hash and check, with two blanks and the end of the line.
const NOTE_BYTES: usize = 20 + 1 + 64 + 1 + 16 + 1;

pub(crate) struct HeadNote {
    file: Option<File>,
    path: PathBuf,
    warned: AtomicBool,
}

impl HeadNote {
    /// Never fails: a journal without its note is a journal all the same.
    pub(crate) fn open(journal: &Path) -> Self {
        let path = path_of(journal);
        let opened = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let note = Self { file: None, path, warned: AtomicBool::new(false) };
        match opened {
            Ok(file) => Self { file: Some(file), ..note },
            Err(error) => {
                note.warn(&error);
                note
            }
        }
    }

    /// Written in place and in one piece, so that a full disk does not stand in the way.
    pub(crate) fn write(&self, head: Head) {
        if let Some(Err(error)) = self.file.as_ref().map(|file| file.write_all_at(text(head).as_bytes(), 0)) {
            self.warn(&error);
        }
    }

    fn warn(&self, error: &std::io::Error) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(file = %self.path.display(), %error, "the journal's head cannot be noted beside it");
        }
    }
}

fn path_of(journal: &Path) -> PathBuf {
    let mut path = journal.as_os_str().to_owned();
    path.push("-head");
    path.into()
}

fn text(head: Head) -> String {
    let body = format!("{:020} {}", head.seq, head.hash);
    let check = Hash::of(body.as_bytes()).to_string();
    format!("{body} {}\n", &check[..16])
}

/// What was noted, if there is a whole note. A torn one (a power cut) says nothing.
pub(crate) fn read(journal: &Path) -> Option<Head> {
    let mut bytes = [0; NOTE_BYTES];
    File::open(path_of(journal)).ok()?.read_exact_at(&mut bytes, 0).ok()?;
    let noted = std::str::from_utf8(&bytes).ok()?;
    let mut words = noted.split_ascii_whitespace();
    let head = Head { seq: words.next()?.parse().ok()?, hash: words.next()?.parse().ok()? };
    (text(head) == noted).then_some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_back_and_a_torn_one_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("journal.db");
        assert_eq!(read(&journal), None);
        let note = HeadNote::open(&journal);
        assert_eq!(read(&journal), None);
        for seq in [1, 70, u64::MAX, 2] {
            let head = Head { seq, hash: Hash::of(&seq.to_be_bytes()) };
            note.write(head);
            assert_eq!(read(&journal), Some(head));
        }
        let whole = std::fs::read(path_of(&journal)).unwrap();
        assert_eq!(whole.len(), NOTE_BYTES);
        for index in 0..whole.len() - 1 {
            let mut torn = whole.clone();
            torn[index] ^= 1;
            std::fs::write(path_of(&journal), &torn).unwrap();
            assert_eq!(read(&journal), None, "byte {index}");
        }
    }
}
