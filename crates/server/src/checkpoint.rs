//! The fleet, the detectors and the meter as they were after one event, so that a start replays only what came after it.
//!
//! A cache, never the truth: a missing, older or damaged checkpoint only makes the next start read more events.

use std::io::Write;
use std::path::Path;

/// `PMCK`, format version, seq, the length of each part; then the parts, which carry versions of their own. All numbers
/// are little-endian. Version 1 had no meter.
const MAGIC: &[u8; 4] = b"PMCK";
const FORMAT_VERSION: u32 = 2;
const FILE: &str = "checkpoint.bin";

/// What a checkpoint holds.
pub(crate) struct Checkpoint {
    pub(crate) seq: u64,
    pub(crate) fleet: Vec<u8>,
    pub(crate) detectors: Vec<u8>,
    /// Empty when it was written by a version that had no meter.
    pub(crate) meter: Vec<u8>,
}

impl Checkpoint {
    /// Written beside and renamed, so that there is always a whole one.
    pub(crate) fn save(&self, dir: &Path) -> std::io::Result<()> {
        let temporary = dir.join("checkpoint.bin.new");
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(MAGIC)?;
        file.write_all(&FORMAT_VERSION.to_le_bytes())?;
        file.write_all(&self.seq.to_le_bytes())?;
        let parts = [&self.fleet, &self.detectors, &self.meter];
        for part in parts {
            file.write_all(&(part.len() as u64).to_le_bytes())?;
        }
        for part in parts {
            file.write_all(part)?;
        }
        file.sync_data()?;
        std::fs::rename(temporary, dir.join(FILE))
    }

    /// The last checkpoint; `None` when there is none that this program can read.
    pub(crate) fn load(dir: &Path) -> Option<Self> {
        let bytes = std::fs::read(dir.join(FILE)).ok()?;
        let number = |at: usize| bytes.get(at..at + 8).and_then(|raw| raw.try_into().ok()).map(u64::from_le_bytes);
        let version = bytes.get(4..8)?.try_into().map(u32::from_le_bytes).ok()?;
        if bytes.get(..4)? != MAGIC || !(1..=FORMAT_VERSION).contains(&version) {
            tracing::warn!(file = FILE, "the checkpoint has another format; all events are read again");
            return None;
        }
        let seq = number(8)?;
        let parts = if version == 1 { 2 } else { 3 };
        let mut at = 16 + parts * 8;
        let mut read = Vec::with_capacity(parts);
        for part in 0..parts {
            let end = at.checked_add(usize::try_from(number(16 + part * 8)?).ok()?)?;
            let Some(bytes) = bytes.get(at..end) else {
                tracing::warn!(file = FILE, "the checkpoint is cut off; all events are read again");
                return None;
            };
            read.push(bytes.to_vec());
            at = end;
        }
        if at != bytes.len() {
            tracing::warn!(file = FILE, "the checkpoint is too long; all events are read again");
            return None;
        }
        let mut read = read.into_iter();
        Some(Self { seq, fleet: read.next()?, detectors: read.next()?, meter: read.next().unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A checkpoint as version 1 wrote it: seq 7, a fleet of 5 bytes, detectors of 9.
    const VERSION_1: &[u8] = b"PMCK\x01\0\0\0\x07\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0fleetdetectors";

    /// As version 2 writes it, with a meter of 5 bytes.
    const VERSION_2: &[u8] = b"PMCK\x02\0\0\0\x07\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0fleetdetectorsmeter";

    #[test]
    fn a_checkpoint_of_version_1_is_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), VERSION_1).unwrap();
        let read = Checkpoint::load(dir.path()).unwrap();
        assert_eq!((read.seq, read.fleet.as_slice(), read.detectors.as_slice()), (7, b"fleet".as_slice(), b"detectors".as_slice()));
        assert_eq!(read.meter, b"");
    }

    #[test]
    fn a_damaged_checkpoint_is_left_aside() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), VERSION_2).unwrap();
        let read = Checkpoint::load(dir.path()).unwrap();
        assert_eq!((read.seq, read.fleet.as_slice(), read.meter.as_slice()), (7, b"fleet".as_slice(), b"meter".as_slice()));
        read.save(dir.path()).unwrap();
        let whole = std::fs::read(dir.path().join(FILE)).unwrap();
        assert_eq!(whole, VERSION_2);
        for cut in 0..whole.len() {
            std::fs::write(dir.path().join(FILE), &whole[..cut]).unwrap();
            assert!(Checkpoint::load(dir.path()).is_none(), "cut to {cut} bytes");
        }
    }
}
