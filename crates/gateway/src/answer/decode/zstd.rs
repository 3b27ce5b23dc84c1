//! Zstandard (RFC 8878), block by block, so that what one block makes of few bytes is bounded before it is asked for.
//!
//! The decoder keeps a window of what it decoded until the frame ends: what an answer says may be known late. When the
//! answer is cut, an empty last block makes the decoder give up what it holds.

use std::io::Read;

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::{Output, PART_BYTES, Undecodable};

/// What the content encoding allows (RFC 9659).
const WINDOW_BYTES_MAX: u64 = 8 * 1024 * 1024;
const BLOCK_BYTES_MAX: usize = 128 * 1024;
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const BLOCK_HEADER_BYTES: usize = 3;
const CHECKSUM_BYTES: usize = 4;

#[derive(Default)]
pub(super) struct Zstd {
    decoder: FrameDecoder,
    /// A header or a block whose end has not come.
    pending: Vec<u8>,
    is_in_frame: bool,
    has_checksum: bool,
}

impl Zstd {
    pub(super) fn push(&mut self, chunk: &[u8], out: &mut Output<'_>) -> Result<(), Undecodable> {
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(chunk);
        let mut used = 0;
        loop {
            let rest = &pending[used..];
            let taken = if self.is_in_frame { self.take_block(rest, out)? } else { self.take_header(rest)? };
            if taken == 0 {
                break;
            }
            used += taken;
        }
        pending.drain(..used);
        self.pending = pending;
        Ok(())
    }

    pub(super) fn finish(&mut self, out: &mut Output<'_>) -> Result<(), Undecodable> {
        if self.is_in_frame {
            // The last, of the raw kind, of no bytes; then what would be the checksum.
            let end = [1, 0, 0, 0, 0, 0, 0];
            self.decode(&end, out)?;
        }
        Ok(())
    }

    fn take_header(&mut self, rest: &[u8]) -> Result<usize, Undecodable> {
        let Some(descriptor) = rest.get(MAGIC.len()) else { return Ok(0) };
        if rest[..MAGIC.len()] != MAGIC {
            return Err(Undecodable);
        }
        let has_window = descriptor & 0x20 == 0;
        let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let content_size = match descriptor >> 6 {
            0 => usize::from(!has_window),
            size => 1 << size,
        };
        let length = MAGIC.len() + 1 + usize::from(has_window) + dictionary + content_size;
        let Some(mut header) = rest.get(..length) else { return Ok(0) };
        self.decoder.set_max_window_size(WINDOW_BYTES_MAX);
        self.decoder.reset(&mut header).map_err(|_| Undecodable)?;
        self.has_checksum = descriptor & 4 != 0;
        self.is_in_frame = true;
        Ok(length)
    }

    fn take_block(&mut self, rest: &[u8], out: &mut Output<'_>) -> Result<usize, Undecodable> {
        let Some(header) = rest.first_chunk::<BLOCK_HEADER_BYTES>() else { return Ok(0) };
        let header = u32::from_le_bytes([header[0], header[1], header[2], 0]);
        let (is_last, kind, size) = (header & 1 == 1, header >> 1 & 3, (header >> 3) as usize);
        if size > BLOCK_BYTES_MAX {
            return Err(Undecodable);
        }
        // A repeated byte is written once.
        let written = if kind == 1 { 1 } else { size };
        let checksum = if is_last && self.has_checksum { CHECKSUM_BYTES } else { 0 };
        let length = BLOCK_HEADER_BYTES + written + checksum;
        let Some(block) = rest.get(..length) else { return Ok(0) };
        self.decode(block, out)?;
        self.is_in_frame = !is_last;
        Ok(length)
    }

    fn decode(&mut self, block: &[u8], out: &mut Output<'_>) -> Result<(), Undecodable> {
        self.decoder.decode_blocks(block, BlockDecodingStrategy::UptoBlocks(1)).map_err(|_| Undecodable)?;
        let mut part = [0; PART_BYTES];
        loop {
            match self.decoder.read(&mut part).map_err(|_| Undecodable)? {
                0 => return Ok(()),
                count => out.push(&part[..count])?,
            }
        }
    }
}
