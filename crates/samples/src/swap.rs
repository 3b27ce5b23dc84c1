//! Chunks that have been complete for a while, on the disk until their block moves to a partition.
//!
//! What is in memory of a series then depends on its labels and its latest samples, and not on how many hours the head
//! holds. The files have no name: the checkpoint and the log hold everything, so they may vanish with the process.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::chunk::{Chunk, Data};
use crate::crc::crc32c;
use crate::error::SamplesError;
use crate::head::{read, write};
use crate::series::{BLOCK_MS, Series};
use crate::store::{Inner, lock};

/// A file of chunks of one block.
#[derive(Debug)]
pub(crate) struct Swap {
    file: File,
}

/// Where a chunk is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    swap: Arc<Swap>,
    at: u64,
    length: u32,
}

impl Place {
    /// Reads the chunk into a buffer.
    pub(crate) fn read<'a>(&self, buffer: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        buffer.resize(self.length as usize + 4, 0);
        self.swap.file.read_exact_at(buffer, self.at)?;
        let (data, sum) = buffer.split_at(self.length as usize);
        if crc32c(data).to_le_bytes() != sum { Err(io::Error::other("a chunk on the disk is damaged")) } else { Ok(data) }
    }
}

/// The file of each block that has chunks on the disk, and its length.
#[derive(Debug, Default)]
pub(crate) struct Swaps(Mutex<BTreeMap<i64, (Arc<Swap>, u64)>>);

impl Swaps {
    /// Writes chunks of one block one after the other; gives where each is.
    fn write(&self, dir: &Path, block: i64, chunks: &[&[u8]]) -> Result<Vec<Place>, SamplesError> {
        let path = dir.join("swap.tmp");
        let failed = |err| SamplesError::io(&path, err);
        let mut files = lock(&self.0);
        let (swap, length) = match files.entry(block) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert((Arc::new(Swap { file: nameless(&path).map_err(failed)? }), 0))
            }
        };
        let mut bytes = Vec::with_capacity(chunks.iter().map(|chunk| chunk.len() + 4).sum());
        let mut places = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            places.push(Place { swap: Arc::clone(swap), at: *length + bytes.len() as u64, length: chunk.len() as u32 });
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(&crc32c(chunk).to_le_bytes());
        }
        swap.file.write_all_at(&bytes, *length).map_err(failed)?;
        *length += bytes.len() as u64;
        Ok(places)
    }

    /// Lets go of files that no chunk is in any more; they are gone then.
    fn forget_empty(&self) {
        lock(&self.0).retain(|_, (swap, _)| Arc::strong_count(swap) > 1);
    }
}

/// A new file that has lost its name.
fn nameless(path: &PathBuf) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

/// A chunk on its way out: the place of its series in the page, its first sample's time, and its bytes.
type Leaving = (usize, i64, Box<[u8]>);

/// Milliseconds before a series' latest sample in which rules mostly look; a chunk from there stays in memory if it is
/// the latest that is complete.
const ASKED_MS: i64 = 15 * 60_000;

/// The chunks of a series that may go.
fn old(series: &Series) -> impl Iterator<Item = &Chunk> {
    let latest = series.closed.len().saturating_sub(1);
    let asked = series.last.saturating_sub(ASKED_MS);
    let goes = move |(at, chunk): &(usize, &Chunk)| (*at < latest || chunk.end() < asked) && matches!(chunk.data, Data::Memory(_));
    series.closed.iter().enumerate().filter(goes).map(|(_, chunk)| chunk)
}

impl Inner {
    /// Moves complete chunks to the disk, page by page; gives their number.
    pub(crate) fn swap(&self) -> Result<u64, SamplesError> {
        let mut moved = 0;
        for page in self.head.pages() {
            let mut blocks: BTreeMap<i64, Vec<Leaving>> = BTreeMap::new();
            for (at, series) in read(&page).iter().enumerate() {
                for chunk in old(series) {
                    if let Data::Memory(bytes) = &chunk.data {
                        blocks.entry(chunk.start.div_euclid(BLOCK_MS)).or_default().push((at, chunk.start, bytes.clone()));
                    }
                }
            }
            for (block, chunks) in blocks {
                let bytes: Vec<&[u8]> = chunks.iter().map(|(.., bytes)| &**bytes).collect();
                let places = self.swaps.write(&self.dir, block, &bytes)?;
                let mut page = write(&page);
                for ((at, start, bytes), place) in chunks.iter().zip(places) {
                    // A late sample may have changed it meanwhile: then it stays.
                    let same = |chunk: &&mut Chunk| chunk.start == *start && matches!(&chunk.data, Data::Memory(now) if now == bytes);
                    if let Some(chunk) = page.get_mut(*at).and_then(|series| series.closed.iter_mut().find(same)) {
                        chunk.data = Data::Swapped(place);
                        moved += 1;
                    }
                }
            }
        }
        self.swaps.forget_empty();
        self.metrics.swapped_chunks.inc_by(moved);
        Ok(moved)
    }
}
