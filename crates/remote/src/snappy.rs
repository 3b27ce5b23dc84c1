//! Snappy blocks with a bound on what they grow to.

use crate::error::Malformed;

/// Decompresses into `out`, which grows to at most `bytes_max`.
pub(crate) fn decompress_into(block: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<usize, Malformed> {
    let claimed = snap::raw::decompress_len(block).map_err(|_| Malformed::Snappy)?;
    if claimed > bytes_max {
        return Err(Malformed::TooLarge { found: claimed, allowed: bytes_max });
    }
    // A copy of 64 bytes takes 3 bytes of the block: who claims much more than that lies, and gets no memory for it.
    if claimed / 32 > block.len() {
        return Err(Malformed::Snappy);
    }
    if out.len() < claimed {
        out.resize(claimed, 0);
    }
    snap::raw::Decoder::new().decompress(block, &mut out[..claimed]).map_err(|_| Malformed::Snappy)
}

pub(crate) fn decompress(block: &[u8], bytes_max: usize) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::new();
    let length = decompress_into(block, bytes_max, &mut out)?;
    out.truncate(length);
    Ok(out)
}

/// Compresses; only texts of more than 4 GiB cannot be.
pub(crate) fn compress(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    snap::raw::Encoder::new().compress_vec(bytes).map_err(|_| Malformed::Snappy)
}
