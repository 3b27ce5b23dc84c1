//! The frame of gzip (RFC 1952) around deflate. Checksums are not verified: what passes is not ours to judge.

use flate2::Decompress;

use super::{Output, Undecodable, inflate_some};

const MAGIC_AND_METHOD: [u8; 3] = [0x1f, 0x8b, 8];
const HAS_CHECKSUM: u8 = 2;
const HAS_EXTRA: u8 = 4;
const HAS_NAME: u8 = 8;
const HAS_COMMENT: u8 = 16;
/// Checksum and length at a member's end.
const TRAILER_BYTES: usize = 8;

pub(super) struct Gzip {
    at: Place,
    flags: u8,
    inflate: Option<Decompress>,
    /// One member at least was whole: what is no further member is padding.
    has_member: bool,
}

#[derive(Clone, Copy)]
enum Place {
    /// The header's ten fixed bytes, and how many of them came.
    Fixed(usize),
    /// The length of the extra field: its first byte, when that came.
    ExtraLength(Option<u8>),
    /// So many bytes are passed over.
    Extra(usize),
    Name,
    Comment,
    Checksum(usize),
    Data,
    Trailer(usize),
    Padding,
}

impl Default for Gzip {
    fn default() -> Self {
        Self { at: Place::Fixed(0), flags: 0, inflate: None, has_member: false }
    }
}

impl Gzip {
    pub(super) fn push(&mut self, chunk: &[u8], out: &mut Output<'_>) -> Result<(), Undecodable> {
        let mut rest = chunk;
        while let Some(first) = rest.first() {
            match self.at {
                Place::Padding => return Ok(()),
                Place::Data => {
                    let inflate = self.inflate.get_or_insert_with(|| Decompress::new(false));
                    let Some(behind) = inflate_some(inflate, rest, out)? else { return Ok(()) };
                    inflate.reset(false);
                    self.has_member = true;
                    self.at = Place::Trailer(TRAILER_BYTES);
                    rest = behind;
                }
                _ => {
                    self.frame_byte(*first)?;
                    rest = &rest[1..];
                }
            }
        }
        Ok(())
    }

    fn frame_byte(&mut self, byte: u8) -> Result<(), Undecodable> {
        self.at = match self.at {
            Place::Fixed(count) if MAGIC_AND_METHOD.get(count).is_some_and(|expected| *expected != byte) => {
                if !self.has_member {
                    return Err(Undecodable);
                }
                Place::Padding
            }
            Place::Fixed(count) => {
                if count == 3 {
                    self.flags = byte;
                }
                if count == 9 { self.after(0) } else { Place::Fixed(count + 1) }
            }
            Place::ExtraLength(None) => Place::ExtraLength(Some(byte)),
            Place::ExtraLength(Some(low)) => match usize::from(u16::from_le_bytes([low, byte])) {
                0 => self.after(HAS_EXTRA),
                length => Place::Extra(length),
            },
            Place::Extra(1) => self.after(HAS_EXTRA),
            Place::Extra(left) => Place::Extra(left - 1),
            Place::Name if byte == 0 => self.after(HAS_NAME),
            Place::Comment if byte == 0 => self.after(HAS_COMMENT),
            Place::Checksum(1) => Place::Data,
            Place::Checksum(left) => Place::Checksum(left - 1),
            Place::Trailer(1) => Place::Fixed(0),
            Place::Trailer(left) => Place::Trailer(left - 1),
            same @ (Place::Name | Place::Comment | Place::Data | Place::Padding) => same,
        };
        Ok(())
    }

    /// What comes behind the part of the header that this flag announces: parts stand in the order of their flags, but
    /// for the checksum, which is the last.
    const fn after(&self, part: u8) -> Place {
        if part < HAS_EXTRA && self.flags & HAS_EXTRA != 0 {
            Place::ExtraLength(None)
        } else if part < HAS_NAME && self.flags & HAS_NAME != 0 {
            Place::Name
        } else if part < HAS_COMMENT && self.flags & HAS_COMMENT != 0 {
            Place::Comment
        } else if self.flags & HAS_CHECKSUM != 0 {
            Place::Checksum(2)
        } else {
            Place::Data
        }
    }
}
