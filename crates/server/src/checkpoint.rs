//! The fleet and the detectors as they were after one event, so that a start replays only what came after it.
//!
//! A cache, never the truth: a missing, older or damaged checkpoint only makes the next start read more events.

use std::io::Write;
use std::path::Path;

/// `PMCK`, format version, seq, lengths of both parts; then the parts, which carry versions of their own. All numbers
/// are little-endian.
const MAGIC: &[u8; 4] = b"PMCK";
const FORMAT_VERSION: u32 = 1;
const FILE: &str = "checkpoint.bin";
const HEAD_BYTES: usize = 4 + 4 + 8 + 8 + 8;

/// What a checkpoint holds.
pub(crate) struct Checkpoint {
    pub(crate) seq: u64,
    pub(crate) fleet: Vec<u8>,
    pub(crate) detectors: Vec<u8>,
}

impl Checkpoint {
    /// Written beside and renamed, so that there is always a whole one.
    pub(crate) fn save(&self, dir: &Path) -> std::io::Result<()> {
        let temporary = dir.join("checkpoint.bin.new");
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(MAGIC)?;
        file.write_all(&FORMAT_VERSION.to_le_bytes())?;
        file.write_all(&self.seq.to_le_bytes())?;
        file.write_all(&(self.fleet.len() as u64).to_le_bytes())?;
        file.write_all(&(self.detectors.len() as u64).to_le_bytes())?;
        file.write_all(&self.fleet)?;
        file.write_all(&self.detectors)?;
        file.sync_data()?;
        std::fs::rename(temporary, dir.join(FILE))
    }

    /// The last checkpoint; `None` when there is none that this program can read.
    pub(crate) fn load(dir: &Path) -> Option<Self> {
        let bytes = std::fs::read(dir.join(FILE)).ok()?;
        let number = |at: usize| bytes.get(at..at + 8).and_then(|raw| raw.try_into().ok()).map(u64::from_le_bytes);
        if bytes.get(..4)? != MAGIC || bytes.get(4..8)? != FORMAT_VERSION.to_le_bytes() {
            tracing::warn!(file = FILE, "the checkpoint has another format; all events are read again");
            return None;
        }
        let (seq, fleet_bytes, detector_bytes) = (number(8)?, usize::try_from(number(16)?).ok()?, usize::try_from(number(24)?).ok()?);
        let fleet_end = HEAD_BYTES.checked_add(fleet_bytes)?;
        let end = fleet_end.checked_add(detector_bytes)?;
        if bytes.len() != end {
            tracing::warn!(file = FILE, "the checkpoint is cut off; all events are read again");
            return None;
        }
        Some(Self { seq, fleet: bytes[HEAD_BYTES..fleet_end].to_vec(), detectors: bytes[fleet_end..end].to_vec() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A checkpoint as version 1 wrote it: seq 7, a fleet of 5 bytes, detectors of 9.
    const VERSION_1: &[u8] = b"PMCK\x01\0\0\0\x07\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0fleetdetectors";

    #[test]
    fn a_checkpoint_of_version_1_is_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), VERSION_1).unwrap();
        let read = Checkpoint::load(dir.path()).unwrap();
        assert_eq!((read.seq, read.fleet.as_slice(), read.detectors.as_slice()), (7, b"fleet".as_slice(), b"detectors".as_slice()));
    }

    #[test]
    fn a_damaged_checkpoint_is_left_aside() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint { seq: 7, fleet: b"fleet".to_vec(), detectors: b"detectors".to_vec() };
        checkpoint.save(dir.path()).unwrap();
        let read = Checkpoint::load(dir.path()).unwrap();
        assert_eq!((read.seq, read.fleet.as_slice(), read.detectors.as_slice()), (7, b"fleet".as_slice(), b"detectors".as_slice()));
        let whole = std::fs::read(dir.path().join(FILE)).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(dir.path().join(FILE), &whole[..cut]).unwrap();
            assert!(Checkpoint::load(dir.path()).is_none(), "cut to {cut} bytes");
        }
    }
}
