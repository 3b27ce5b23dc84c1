//! Bits, most significant first, and variable-length integers.

/// Appends bits. The last up to 63 bits wait in a word, so that most appends touch no heap memory.
#[derive(Debug, Default, Clone)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    word: u64,
    used: u8,
}

impl BitWriter {
    /// Appends the low `count` (1 to 64) bits of `value`; its other bits are zero.
    #[inline]
    pub(crate) fn put(&mut self, value: u64, count: u32) {
        let free = 64 - u32::from(self.used);
        if count < free {
            self.word |= value << (free - count);
            self.used += count as u8;
            return;
        }
        let rest = count - free;
        let full = self.word | (value >> rest);
        self.push(full);
        self.word = if rest == 0 { 0 } else { value << (64 - rest) };
        self.used = rest as u8;
    }

    fn push(&mut self, word: u64) {
        if self.bytes.capacity() - self.bytes.len() < 8 {
            // Thousands of series are open at a time: grow by little, doubling would waste a third of the head.
            self.bytes.reserve_exact(32 + self.bytes.len() / 16);
        }
        self.bytes.extend_from_slice(&word.to_be_bytes());
    }

    /// The bytes so far, into a buffer that the caller reuses.
    pub(crate) fn copy_to(&self, buffer: &mut Vec<u8>) {
        buffer.clear();
        buffer.extend_from_slice(&self.bytes);
        buffer.extend_from_slice(&self.word.to_be_bytes()[..usize::from(self.used).div_ceil(8)]);
    }

    /// The same from a byte on.
    pub(crate) fn copy_from(&self, byte: usize, buffer: &mut Vec<u8>) {
        buffer.clear();
        buffer.extend_from_slice(self.bytes.get(byte..).unwrap_or_default());
        let word = &self.word.to_be_bytes()[..usize::from(self.used).div_ceil(8)];
        buffer.extend_from_slice(word.get(byte.saturating_sub(self.bytes.len())..).unwrap_or_default());
    }

    /// How many bits there are.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() * 8 + usize::from(self.used)
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

/// Reads bits. Behind the end it reads zeros; [`BitReader::overrun`] tells.
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn new_at(bytes: &'a [u8], bit: usize) -> Self {
        Self { bytes, at: bit }
    }

    /// The next bits, at least 57 of them valid, at the top of a word.
    #[inline]
    pub(crate) fn peek(&self) -> u64 {
        let byte = self.at >> 3;
        let word = match self.bytes.get(byte..).and_then(<[u8]>::first_chunk::<8>) {
            Some(chunk) => u64::from_be_bytes(*chunk),
            None => self.tail(byte),
        };
        word << (self.at & 7)
    }

    /// The last bytes, followed by zeros.
    #[inline]
    fn tail(&self, byte: usize) -> u64 {
        let behind = (byte + 8).saturating_sub(self.bytes.len());
        if behind >= 8 {
            return 0;
        }
        if let Some(last) = self.bytes.last_chunk::<8>() {
            return u64::from_be_bytes(*last) << (8 * behind);
        }
        let mut last = [0u8; 8];
        let rest = self.bytes.get(byte..).unwrap_or_default();
        last[..rest.len()].copy_from_slice(rest);
        u64::from_be_bytes(last)
    }

    #[inline]
    pub(crate) fn skip(&mut self, count: u32) {
        self.at += count as usize;
    }

    /// The next 1 to 56 bits.
    #[inline]
    pub(crate) fn get(&mut self, count: u32) -> u64 {
        let bits = self.peek() >> (64 - count);
        self.skip(count);
        bits
    }

    /// The next 1 to 64 bits.
    #[inline]
    pub(crate) fn get_long(&mut self, count: u32) -> u64 {
        if count <= 56 {
            return self.get(count);
        }
        let high = self.get(32);
        high << (count - 32) | self.get(count - 32)
    }

    /// Whether more was read than there was.
    pub(crate) fn overrun(&self) -> bool {
        self.at > self.bytes.len() * 8
    }
}

/// Reads a `count`-bit two's complement number.
#[inline]
pub(crate) fn sign_extend(bits: u64, count: u32) -> i64 {
    ((bits << (64 - count)) as i64) >> (64 - count)
}

/// Whether `value` fits `count` bits of two's complement.
#[inline]
pub(crate) fn fits(value: i64, count: u32) -> bool {
    sign_extend(value as u64 & low(count), count) == value
}

/// A mask of the low `count` (1 to 64) bits.
#[inline]
pub(crate) const fn low(count: u32) -> u64 {
    u64::MAX >> (64 - count)
}

/// Appends an unsigned LEB128 number.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline]
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, zigzag(value));
}

#[inline]
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline]
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads whole bytes; every method gives `None` where the bytes end too early or make no sense.
pub(crate) struct ByteReader<'a> {
    rest: &'a [u8],
}

impl<'a> ByteReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        let mut shift = 0;
        loop {
            let byte = self.byte()?;
            if shift > 63 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
            shift += 7;
        }
    }

    #[inline]
    pub(crate) fn signed(&mut self) -> Option<i64> {
        self.varint().map(unzigzag)
    }

    /// A count of things that take at least one byte each, so that a damaged count reserves no memory.
    pub(crate) fn count(&mut self) -> Option<usize> {
        let count = usize::try_from(self.varint()?).ok()?;
        (count <= self.rest.len()).then_some(count)
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.count()?;
        self.take(count)
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub(crate) fn float(&mut self) -> Option<f64> {
        let (chunk, rest) = self.rest.split_first_chunk::<8>()?;
        self.rest = rest;
        Some(f64::from_bits(u64::from_le_bytes(*chunk)))
    }
}
