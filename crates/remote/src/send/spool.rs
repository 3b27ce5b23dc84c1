//! Samples that wait for another store, in files that survive this process.
//!
//! A folder holds `<number>.spool` files, a `cursor` (up to where the store has everything) and a `lock`. A file begins with
//! `PMSPOOL` and one byte for the version of the format; then records follow, each with a header of 24 bytes, all numbers in
//! little endian: length of the payload (u32), samples in it (u32), latest time in milliseconds (i64), and the XXH3-64 of
//! these 16 bytes and the payload. The payload of version 1 is a snappy block of a `prometheus.WriteRequest`.
//!
//! A record is one write, so that it is there as a whole or cut at the end of a file, also when the process is killed. Only
//! a power loss may take the last records.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use crate::error::RemoteError;

const MAGIC: &[u8; 7] = b"PMSPOOL";
const VERSION: u8 = 1;
const FILE_HEADER: u64 = 8;
const RECORD_HEADER: usize = 24;
/// A length beyond this is damage.
const RECORD_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// A place between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    file: u64,
    offset: u64,
}

/// One record read back.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) samples: u64,
    pub(crate) newest_ms: i64,
    pub(crate) payload: Vec<u8>,
    /// Where the next one begins.
    pub(crate) next: Position,
}

/// How much waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) samples: u64,
    pub(crate) bytes: u64,
    pub(crate) files: u64,
}

#[derive(Debug)]
struct SpoolFile {
    number: u64,
    bytes: u64,
    /// Samples behind the cursor's place.
    samples: u64,
}

struct State {
    files: VecDeque<SpoolFile>,
    writer: Option<File>,
    cursor: Position,
    cursor_file: File,
    next_number: u64,
    bytes: u64,
    samples: u64,
}

pub(crate) struct Spool {
    dir: PathBuf,
    bytes_max: u64,
    file_bytes_max: u64,
    state: Mutex<State>,
    _lock: File,
}

struct Header {
    length: u32,
    samples: u32,
    newest_ms: i64,
    hash: u64,
}

impl Header {
    fn read(bytes: &[u8; RECORD_HEADER]) -> Self {
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(number(at)) | u64::from(number(at + 4)) << 32;
        Self { length: number(0), samples: number(4), newest_ms: long(8).cast_signed(), hash: long(16) }
    }
}

fn hash(record: &[u8]) -> u64 {
    let (header, payload) = record.split_at(RECORD_HEADER);
    xxh3_64(&header[..16]) ^ xxh3_64(payload)
}

fn file_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016}.spool"))
}

impl Spool {
    /// Opens or creates the spool in a folder.
    pub(crate) fn open(dir: &Path, bytes_max: u64, file_bytes_max: u64) -> Result<Self, RemoteError> {
        std::fs::create_dir_all(dir).map_err(|err| RemoteError::spool(dir, err))?;
        let lock = lock_dir(dir)?;
        let cursor_path = dir.join("cursor");
        let cursor_file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&cursor_path);
        let cursor_file = cursor_file.map_err(|err| RemoteError::spool(&cursor_path, err))?;
        let mut cursor = read_cursor(&cursor_file).unwrap_or(Position { file: 0, offset: 0 });
        let mut files = VecDeque::new();
        let mut next_number = cursor.file + 1;
        for number in list(dir)? {
            next_number = next_number.max(number + 1);
            let path = file_path(dir, number);
            if number < cursor.file {
                std::fs::remove_file(&path).map_err(|err| RemoteError::spool(&path, err))?;
                continue;
            }
            let from = if number == cursor.file { cursor.offset } else { FILE_HEADER };
            files.push_back(scan(&path, number, from)?);
        }
        if let Some(first) = files.front().filter(|first| first.number != cursor.file) {
            cursor = Position { file: first.number, offset: FILE_HEADER };
        } else if files.is_empty() {
            cursor = Position { file: next_number, offset: FILE_HEADER };
        }
        let (bytes, samples) = (files.iter().map(|file| file.bytes).sum(), files.iter().map(|file| file.samples).sum());
        let state = State { files, writer: None, cursor, cursor_file, next_number, bytes, samples };
        // Dropping the oldest must leave something.
        let file_bytes_max = file_bytes_max.min(bytes_max / 4).max(64 * 1024);
        Ok(Self { dir: dir.to_owned(), bytes_max, file_bytes_max, state: Mutex::new(state), _lock: lock })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the store's knowledge ends.
    pub(crate) fn cursor(&self) -> Position {
        self.state().cursor
    }

    pub(crate) fn level(&self) -> Level {
        let state = self.state();
        Level { samples: state.samples, bytes: state.bytes, files: state.files.len() as u64 }
    }

    /// Adds a record. Returns how many older samples had to go to make room.
    pub(crate) fn append(&self, payload: &[u8], samples: u64, newest_ms: i64) -> Result<u64, RemoteError> {
        let mut record = Vec::with_capacity(RECORD_HEADER + payload.len());
        record.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        record.extend_from_slice(&(samples.min(u64::from(u32::MAX)) as u32).to_le_bytes());
        record.extend_from_slice(&newest_ms.to_le_bytes());
        record.extend_from_slice(&[0; 8]);
        record.extend_from_slice(payload);
        let hash = hash(&record);
        record[16..24].copy_from_slice(&hash.to_le_bytes());
        let mut state = self.state();
        self.write(&mut state, &record, samples)?;
        Ok(self.shrink(&mut state))
    }

    fn write(&self, state: &mut State, record: &[u8], samples: u64) -> Result<(), RemoteError> {
        let is_full = state.files.back().is_none_or(|file| file.bytes + record.len() as u64 > self.file_bytes_max);
        if state.writer.is_none() || is_full {
            self.begin_file(state)?;
        }
        let (Some(writer), Some(file)) = (&mut state.writer, state.files.back_mut()) else { return Ok(()) };
        if let Err(err) = writer.write_all(record) {
            // Whatever part of the record is there is cut off, or left behind in a file that nothing is added to.
            if writer.set_len(file.bytes).is_err() {
                state.writer = None;
            }
            return Err(RemoteError::spool(&file_path(&self.dir, file.number), err));
        }
        file.bytes += record.len() as u64;
        file.samples += samples;
        state.bytes += record.len() as u64;
        state.samples += samples;
        Ok(())
    }

    fn begin_file(&self, state: &mut State) -> Result<(), RemoteError> {
        if let Some(writer) = state.writer.take()
            && let Err(err) = writer.sync_data()
        {
            tracing::warn!(error = %err, "a spool file is not forced to the disk");
        }
        let number = state.next_number;
        let path = file_path(&self.dir, number);
        let failed = |err| RemoteError::spool(&path, err);
        let mut file = OpenOptions::new().append(true).create_new(true).open(&path).map_err(failed)?;
        state.next_number += 1;
        let mut header = [0; FILE_HEADER as usize];
        header[..7].copy_from_slice(MAGIC);
        header[7] = VERSION;
        if let Err(err) = file.write_all(&header) {
            let _ = std::fs::remove_file(&path);
            return Err(failed(err));
        }
        if state.files.is_empty() {
            state.cursor = Position { file: number, offset: FILE_HEADER };
        }
        state.files.push_back(SpoolFile { number, bytes: FILE_HEADER, samples: 0 });
        state.bytes += FILE_HEADER;
        state.writer = Some(file);
        Ok(())
    }

    /// Drops the oldest files until the rest fits; the one that is being written stays.
    fn shrink(&self, state: &mut State) -> u64 {
        let mut dropped = 0;
        while state.bytes > self.bytes_max && state.files.len() > 1 {
            let Some(oldest) = state.files.pop_front() else { break };
            dropped += oldest.samples;
            self.forget(state, &oldest);
            if let Some(first) = state.files.front() {
                let cursor = Position { file: first.number, offset: FILE_HEADER };
                self.move_cursor(state, cursor);
            }
        }
        dropped
    }

    fn forget(&self, state: &mut State, file: &SpoolFile) {
        state.bytes = state.bytes.saturating_sub(file.bytes);
        state.samples = state.samples.saturating_sub(file.samples);
        if let Err(err) = std::fs::remove_file(file_path(&self.dir, file.number)) {
            tracing::warn!(error = %err, number = file.number, "a spool file cannot be removed");
        }
    }

    fn move_cursor(&self, state: &mut State, cursor: Position) {
        state.cursor = cursor;
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&cursor.file.to_le_bytes());
        bytes[8..16].copy_from_slice(&cursor.offset.to_le_bytes());
        let hash = xxh3_64(&bytes[..16]);
        bytes[16..].copy_from_slice(&hash.to_le_bytes());
        // An old cursor only means that samples are sent again.
        if let Err(err) = state.cursor_file.write_all_at(&bytes, 0) {
            tracing::warn!(error = %err, "the spool's cursor cannot be written");
        }
    }

    /// The record at a place, or the first one after it; `None` at the end. Damage is skipped to the end of its file; the
    /// second value is how many samples that cost.
    pub(crate) fn read(&self, at: Position) -> Result<(Option<Record>, u64), RemoteError> {
        let mut at = at.max(self.cursor());
        let mut lost = 0;
        loop {
            let (number, bytes, next) = {
                let state = self.state();
                let Some(i) = state.files.iter().position(|file| file.number >= at.file) else { return Ok((None, lost)) };
                (state.files[i].number, state.files[i].bytes, state.files.get(i + 1).map(|file| file.number))
            };
            if number != at.file {
                at = Position { file: number, offset: FILE_HEADER };
            }
            if at.offset < bytes {
                if let Some(record) = read_record(&file_path(&self.dir, number), at, bytes)? {
                    return Ok((Some(record), lost));
                }
                lost += self.skip_damage(number, at.offset);
            }
            let Some(next) = next else { return Ok((None, lost)) };
            at = Position { file: next, offset: FILE_HEADER };
        }
    }

    /// Gives up what follows in a file.
    fn skip_damage(&self, number: u64, offset: u64) -> u64 {
        tracing::error!(number, offset, "a spool file is damaged; what follows in it is lost for the external store");
        let mut state = self.state();
        if state.files.back().is_some_and(|file| file.number == number) {
            state.writer = None;
        }
        let state = &mut *state;
        let Some(file) = state.files.iter_mut().find(|file| file.number == number) else { return 0 };
        let lost = std::mem::take(&mut file.samples);
        state.bytes = state.bytes.saturating_sub(file.bytes.saturating_sub(offset));
        file.bytes = offset;
        state.samples = state.samples.saturating_sub(lost);
        lost
    }

    /// The store has everything up to the end of these records (where each ends, and its samples).
    pub(crate) fn done(&self, records: &[(Position, u64)]) {
        let mut state = self.state();
        let Some((to, _)) = records.last().copied().filter(|(to, _)| *to > state.cursor) else { return };
        for (end, samples) in records {
            // A file that was dropped to make room took its samples with it.
            if let Some(file) = state.files.iter_mut().find(|file| file.number == end.file) {
                file.samples = file.samples.saturating_sub(*samples);
                state.samples = state.samples.saturating_sub(*samples);
            }
        }
        let mut to = to;
        while state.files.front().is_some_and(|file| file.number < to.file) {
            if let Some(file) = state.files.pop_front() {
                self.forget(&mut state, &file);
            }
        }
        let big = self.file_bytes_max / 4;
        if state.files.len() == 1 && state.files.front().is_some_and(|file| file.bytes <= to.offset && file.bytes > big) {
            state.writer = None;
            if let Some(file) = state.files.pop_front() {
                self.forget(&mut state, &file);
            }
            to = Position { file: state.next_number, offset: FILE_HEADER };
        }
        self.move_cursor(&mut state, to);
    }

    /// Forces everything to the disk.
    pub(crate) fn sync(&self) -> Result<(), RemoteError> {
        let state = self.state();
        if let Some(writer) = &state.writer {
            writer.sync_data().map_err(|err| RemoteError::spool(&self.dir, err))?;
        }
        state.cursor_file.sync_data().map_err(|err| RemoteError::spool(&self.dir.join("cursor"), err))
    }
}

/// How often the folder's lock is tried, ten milliseconds apart.
const LOCK_ATTEMPTS: u32 = 50;

fn lock_dir(dir: &Path) -> Result<File, RemoteError> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(|err| RemoteError::spool(&path, err))?;
    // A child process that is just being started holds a copy of the lock until it runs its own program.
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(std::time::Duration::from_millis(10)),
            Err(std::fs::TryLockError::Error(err)) => return Err(RemoteError::spool(&path, err)),
        }
    }
    Err(RemoteError::spool(&path, std::io::Error::new(std::io::ErrorKind::WouldBlock, "another process uses it")))
}

fn read_cursor(file: &File) -> Option<Position> {
    let mut bytes = [0; 24];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let long = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes).ok();
    (xxh3_64(&bytes[..16]) == long(16)?).then_some(Position { file: long(0)?, offset: long(8)? })
}

/// The numbers of the files in a folder, ascending.
fn list(dir: &Path) -> Result<Vec<u64>, RemoteError> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|err| RemoteError::spool(dir, err))? {
        let name = entry.map_err(|err| RemoteError::spool(dir, err))?.file_name();
        let number: Option<u64> = name.to_str().and_then(|name| name.strip_suffix(".spool")).and_then(|stem| stem.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Walks over the headers of a file; an unfinished record at its end does not count.
fn scan(path: &Path, number: u64, from: u64) -> Result<SpoolFile, RemoteError> {
    let failed = |err| RemoteError::spool(path, err);
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut found = SpoolFile { number, bytes: length.min(FILE_HEADER), samples: 0 };
    let mut header = [0; FILE_HEADER as usize];
    if length < FILE_HEADER || file.read_exact_at(&mut header, 0).is_err() || &header[..7] != MAGIC {
        if length > 0 {
            tracing::error!(file = %path.display(), "a spool file does not begin as one, and is passed over");
        }
        return Ok(found);
    }
    if header[7] != VERSION {
        return Err(RemoteError::NewerSpool { file: path.to_owned(), found: u32::from(header[7]), known: u32::from(VERSION) });
    }
    let mut bytes = [0; RECORD_HEADER];
    while file.read_exact_at(&mut bytes, found.bytes).is_ok() {
        let header = Header::read(&bytes);
        let end = found.bytes + RECORD_HEADER as u64 + u64::from(header.length);
        if header.length > RECORD_BYTES_MAX || end > length {
            break;
        }
        if found.bytes >= from {
            found.samples += u64::from(header.samples);
        }
        found.bytes = end;
    }
    if found.bytes < length {
        tracing::warn!(file = %path.display(), bytes = length - found.bytes, "a spool file has an unfinished end, which is passed over");
    }
    Ok(found)
}

/// `None` when there is damage.
fn read_record(path: &Path, at: Position, file_bytes: u64) -> Result<Option<Record>, RemoteError> {
    let failed = |err| RemoteError::spool(path, err);
    let file = match File::open(path) {
        // The file was dropped to make room in this moment: its number is not in the list any more.
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    let mut header_bytes = [0; RECORD_HEADER];
    file.read_exact_at(&mut header_bytes, at.offset).map_err(failed)?;
    let header = Header::read(&header_bytes);
    let end = at.offset + RECORD_HEADER as u64 + u64::from(header.length);
    if header.length > RECORD_BYTES_MAX || end > file_bytes {
        return Ok(None);
    }
    let mut record = header_bytes.to_vec();
    record.resize(RECORD_HEADER + header.length as usize, 0);
    file.read_exact_at(&mut record[RECORD_HEADER..], at.offset + RECORD_HEADER as u64).map_err(failed)?;
    if hash(&record) != header.hash {
        return Ok(None);
    }
    record.drain(..RECORD_HEADER);
    let next = Position { file: at.file, offset: end };
    Ok(Some(Record { samples: u64::from(header.samples), newest_ms: header.newest_ms, payload: record, next }))
}

#[cfg(test)]
mod tests;
