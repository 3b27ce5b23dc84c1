//! Content encodings, undone piece by piece: `gzip`, `deflate`, `br`, `zstd`.

mod gzip;
mod zstd;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::{Decompress, FlushDecompress, Status};
use hyper::header::HeaderValue;

use gzip::Gzip;
use zstd::Zstd;

/// More is never decoded of one answer: the longest stream there can be has about a third of it.
pub(super) const DECODED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Decoded at a time.
const PART_BYTES: usize = 4 * 1024;

/// It is not this encoding, or it is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Undecodable;

/// Takes what was decoded.
pub(super) type Sink<'a> = &'a mut dyn FnMut(&[u8]);

pub(super) struct Decoder {
    encoding: Encoding,
    left: u64,
}

#[expect(clippy::large_enum_variant, reason = "a decoder is boxed as a whole")]
enum Encoding {
    Gzip(Gzip),
    /// The name `deflate` is used for two formats: its first byte tells which.
    Deflate(Option<Decompress>),
    Brotli(BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>),
    Zstd(Zstd),
    /// It ended; what comes behind is nobody's.
    Over,
}

impl Decoder {
    /// None where nothing has to be undone.
    pub(super) fn of<'a>(encodings: impl Iterator<Item = &'a HeaderValue>) -> Result<Option<Self>, Undecodable> {
        let mut found = None;
        for name in encodings.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')) {
            let encoding = match name.trim_ascii().to_ascii_lowercase().as_slice() {
                b"" | b"identity" => continue,
                b"gzip" | b"x-gzip" => Encoding::Gzip(Gzip::default()),
                b"deflate" => Encoding::Deflate(None),
                b"br" => {
                    Encoding::Brotli(BrotliState::new_strict(StandardAlloc::default(), StandardAlloc::default(), StandardAlloc::default()))
                }
                b"zstd" => Encoding::Zstd(Zstd::default()),
                _ => return Err(Undecodable),
            };
            // One inside another is allowed, and nobody does it.
            if found.replace(encoding).is_some() {
                return Err(Undecodable);
            }
        }
        Ok(found.map(|encoding| Self { encoding, left: DECODED_BYTES_MAX }))
    }

    pub(super) fn push(&mut self, chunk: &[u8], sink: Sink<'_>) -> Result<(), Undecodable> {
        let Self { encoding, left } = self;
        let mut out = Output { sink, left };
        let is_over = match encoding {
            Encoding::Gzip(gzip) => gzip.push(chunk, &mut out).map(|()| false),
            Encoding::Deflate(inflate) => {
                // The first byte of zlib's header names the method 8; a block of raw deflate never begins so.
                let has_header = |chunk: &[u8]| chunk.first().is_some_and(|first| first & 0x0f == 8);
                let inflate = inflate.get_or_insert_with(|| Decompress::new(has_header(chunk)));
                inflate_some(inflate, chunk, &mut out).map(|ended| ended.is_some())
            }
            Encoding::Brotli(state) => brotli_some(state, chunk, &mut out),
            Encoding::Zstd(zstd) => zstd.push(chunk, &mut out).map(|()| false),
            Encoding::Over => Ok(false),
        }?;
        if is_over {
            *encoding = Encoding::Over;
        }
        Ok(())
    }

    /// Hands on what the decoder held back of an answer that was cut.
    pub(super) fn finish(&mut self, sink: Sink<'_>) -> Result<(), Undecodable> {
        let Self { encoding, left } = self;
        match encoding {
            Encoding::Zstd(zstd) => zstd.finish(&mut Output { sink, left }),
            _ => Ok(()),
        }
    }
}

/// Where what was decoded goes, as long as it is not too much.
struct Output<'a> {
    sink: Sink<'a>,
    left: &'a mut u64,
}

impl Output<'_> {
    fn push(&mut self, part: &[u8]) -> Result<(), Undecodable> {
        *self.left = self.left.checked_sub(part.len() as u64).ok_or(Undecodable)?;
        if !part.is_empty() {
            (self.sink)(part);
        }
        Ok(())
    }
}

/// Decodes all of `input`; gives what is behind the end when the end came.
fn inflate_some<'a>(inflate: &mut Decompress, mut input: &'a [u8], out: &mut Output<'_>) -> Result<Option<&'a [u8]>, Undecodable> {
    let mut part = [0; PART_BYTES];
    loop {
        let (taken, given) = (inflate.total_in(), inflate.total_out());
        let status = inflate.decompress(input, &mut part, FlushDecompress::None).map_err(|_| Undecodable)?;
        let taken = usize::try_from(inflate.total_in() - taken).map_err(|_| Undecodable)?;
        let given = usize::try_from(inflate.total_out() - given).map_err(|_| Undecodable)?;
        out.push(&part[..given])?;
        input = &input[taken..];
        match status {
            Status::StreamEnd => return Ok(Some(input)),
            // A part that is not full does not say that nothing more is there: the decoder stops where its window ends.
            Status::Ok | Status::BufError if given == 0 && (input.is_empty() || taken == 0) => return Ok(None),
            Status::Ok | Status::BufError => {}
        }
    }
}

/// Decodes all of `input`; true when the end came.
fn brotli_some(
    state: &mut BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    input: &[u8],
    out: &mut Output<'_>,
) -> Result<bool, Undecodable> {
    let mut part = [0; PART_BYTES];
    let (mut left, mut at, mut total) = (input.len(), 0, 0);
    loop {
        let (mut free, mut given) = (PART_BYTES, 0);
        let result = BrotliDecompressStream(&mut left, &mut at, input, &mut free, &mut given, &mut part, &mut total, state);
        out.push(&part[..given])?;
        match result {
            BrotliResult::ResultSuccess => return Ok(true),
            BrotliResult::NeedsMoreInput => return Ok(false),
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultFailure => return Err(Undecodable),
        }
    }
}

#[cfg(test)]
mod tests;
