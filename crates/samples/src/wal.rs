//! The write-ahead log: numbered segment files of checksummed frames.
//!
//! A frame is `marker, length, CRC-32C` (four bytes each, little-endian) and its payload. The marker lets a reader find
//! the next frame behind a damaged one.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::crc::crc32c;
use crate::error::SamplesError;

const MARKER: [u8; 4] = *b"\xf5PmS";
const FRAME_HEAD: usize = 12;
const FRAME_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Appends one frame whose payload `write` appends.
pub(crate) fn put_frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&MARKER);
    out.extend_from_slice(&[0; 8]);
    write(out);
    let payload = start + FRAME_HEAD;
    let length = u32::try_from(out.len() - payload).unwrap_or(u32::MAX);
    let crc = crc32c(&out[payload..]);
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    out[start + 8..payload].copy_from_slice(&crc.to_le_bytes());
}

/// What reading a file of frames found besides the frames.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Stretches that are no frames although frames follow.
    pub(crate) damaged: Vec<(usize, usize)>,
    /// Where the last frame that could be read ends, when something unreadable follows.
    pub(crate) torn_at: Option<usize>,
}

/// The payload of the frame at an offset, and where the next one begins.
fn frame_at(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = bytes.get(at..)?.strip_prefix(&MARKER)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    let payload = rest.get(..length).filter(|_| length <= FRAME_BYTES_MAX)?;
    (crc32c(payload) == u32::from_le_bytes(*crc)).then_some((payload, at + FRAME_HEAD + length))
}

/// Calls with each payload; skips what is damaged.
pub(crate) fn scan(bytes: &[u8], mut each: impl FnMut(&[u8])) -> Scan {
    let mut found = Scan::default();
    let mut at = 0;
    while at < bytes.len() {
        if let Some((payload, next)) = frame_at(bytes, at) {
            each(payload);
            at = next;
            continue;
        }
        let behind = bytes.get(at + 1..).unwrap_or_default();
        let next = memchr::memmem::find_iter(behind, &MARKER).map(|offset| at + 1 + offset).find(|next| frame_at(bytes, *next).is_some());
        match next {
            Some(next) => {
                found.damaged.push((at, next));
                at = next;
            }
            None => {
                found.torn_at = Some(at);
                break;
            }
        }
    }
    found
}

/// Names and numbers of the files in a folder that are called `<kind>-<number>`.
pub(crate) fn numbered(dir: &Path, kind: &str) -> Result<Vec<(u64, PathBuf)>, SamplesError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(|err| SamplesError::io(dir, err))? {
        let path = entry.map_err(|err| SamplesError::io(dir, err))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_prefix(kind).and_then(|rest| rest.strip_prefix('-')).and_then(|number| number.parse().ok());
        if let Some(number) = number {
            files.push((number, path));
        }
    }
    files.sort();
    Ok(files)
}

pub(crate) fn sync_dir(dir: &Path) -> Result<(), SamplesError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|err| SamplesError::io(dir, err))
}

/// The segment being written.
#[derive(Debug)]
pub(crate) struct Wal {
    dir: PathBuf,
    path: PathBuf,
    file: Arc<File>,
    number: u64,
    /// Bytes in this segment.
    bytes: u64,
    /// Bytes in all segments since the last checkpoint.
    total: u64,
    /// Frames that go out with the next write.
    pending: Vec<u8>,
}

impl Wal {
    /// Begins a new segment; `total` bytes are in the segments before it.
    pub(crate) fn create(dir: &Path, number: u64, total: u64) -> Result<Self, SamplesError> {
        let (path, file) = new_segment(dir, number)?;
        Ok(Self { dir: dir.to_owned(), path, file: Arc::new(file), number, bytes: 0, total, pending: Vec::new() })
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The file to force to the disk.
    pub(crate) fn file(&self) -> (Arc<File>, PathBuf) {
        (Arc::clone(&self.file), self.path.clone())
    }

    /// A frame that needs to be in the log before the next ones, not now.
    pub(crate) fn queue(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        put_frame(&mut self.pending, write);
    }

    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// Hands everything that is queued to the operating system. A frame queued at `undo` is forgotten when that fails,
    /// frames before it are tried again with the next write.
    pub(crate) fn write(&mut self, undo: usize) -> Result<(), SamplesError> {
        if let Err(err) = (&*self.file).write_all(&self.pending) {
            // Half a frame may be there; what follows must not stand behind it.
            let cut = self.file.set_len(self.bytes);
            self.pending.truncate(undo);
            if let Err(cut) = cut {
                tracing::warn!(file = %self.path.display(), error = %cut, "a failed write could not be undone; readers will skip it");
            }
            return Err(SamplesError::io(&self.path, err));
        }
        self.bytes += self.pending.len() as u64;
        self.total += self.pending.len() as u64;
        self.pending.clear();
        if self.pending.capacity() > 4 * 1024 * 1024 {
            self.pending = Vec::new();
        }
        Ok(())
    }

    /// Closes this segment, durably, and begins the next.
    pub(crate) fn rotate(&mut self) -> Result<(), SamplesError> {
        self.file.sync_data().map_err(|err| SamplesError::io(&self.path, err))?;
        let (path, file) = new_segment(&self.dir, self.number + 1)?;
        (self.path, self.file, self.bytes) = (path, Arc::new(file), 0);
        self.number += 1;
        Ok(())
    }

    pub(crate) fn rotate_when_full(&mut self, bytes_max: u64) -> Result<(), SamplesError> {
        if self.bytes >= bytes_max { self.rotate() } else { Ok(()) }
    }

    /// Deletes the segments before `number`; a checkpoint holds what they told.
    pub(crate) fn forget_before(&mut self, number: u64) -> Result<(), SamplesError> {
        remove_before(&self.dir, "wal", number)?;
        self.total = 0;
        for (_, path) in numbered(&self.dir, "wal")? {
            self.total += fs::metadata(&path).map_or(0, |meta| meta.len());
        }
        Ok(())
    }
}

pub(crate) fn remove_before(dir: &Path, kind: &str, number: u64) -> Result<(), SamplesError> {
    for (other, path) in numbered(dir, kind)? {
        if other < number {
            fs::remove_file(&path).map_err(|err| SamplesError::io(&path, err))?;
        }
    }
    Ok(())
}

fn new_segment(dir: &Path, number: u64) -> Result<(PathBuf, File), SamplesError> {
    let path = dir.join(format!("wal-{number:010}"));
    let file = OpenOptions::new().create(true).append(true).open(&path).map_err(|err| SamplesError::io(&path, err))?;
    sync_dir(dir)?;
    Ok((path, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(payloads: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for payload in payloads {
            put_frame(&mut bytes, |out| out.extend_from_slice(payload));
        }
        bytes
    }

    fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, Scan) {
        let mut found = Vec::new();
        let scan = scan(bytes, |payload| found.push(payload.to_vec()));
        (found, scan)
    }

    #[test]
    fn a_log_torn_at_any_byte_gives_the_whole_frames() {
        let payloads: [&[u8]; 4] = [b"one", b"", &MARKER, b"four and more"];
        let bytes = log(&payloads);
        for cut in 0..=bytes.len() {
            let (found, scan) = read(&bytes[..cut]);
            let whole = (0..=4).rev().find(|count| log(&payloads[..*count]).len() <= cut).unwrap();
            assert_eq!(found, payloads[..whole], "cut at {cut}");
            let end = log(&payloads[..whole]).len();
            assert_eq!(scan, Scan { damaged: vec![], torn_at: (end != cut).then_some(end) }, "cut at {cut}");
        }
    }

    #[test]
    fn any_flipped_byte_costs_one_frame_and_is_named() {
        let payloads: [&[u8]; 3] = [b"first", b"second", b"third"];
        let bytes = log(&payloads);
        let second = log(&payloads[..1]).len()..log(&payloads[..2]).len();
        for at in second.clone() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x41;
            let (found, scan) = read(&damaged);
            assert_eq!(found, [payloads[0], payloads[2]], "byte {at}");
            assert_eq!(scan, Scan { damaged: vec![(second.start, second.end)], torn_at: None });
        }
    }
}
