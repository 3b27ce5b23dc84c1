//! Reading the protobuf wire format without copying: fields of a message as numbers and slices.

use crate::error::Malformed;

/// One value on the wire.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    /// No message here has such a field.
    Fixed32,
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(crate) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed::WireType),
        }
    }

    pub(crate) fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::Utf8)
    }

    pub(crate) fn varint(self) -> Result<u64, Malformed> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err(Malformed::WireType),
        }
    }

    /// An `int64`, which is written as the varint of its two's complement.
    pub(crate) fn int64(self) -> Result<i64, Malformed> {
        self.varint().map(u64::cast_signed)
    }

    /// A `uint32`, an `int32` or an enum: readers keep the low half.
    pub(crate) fn low32(self) -> Result<u32, Malformed> {
        self.varint().map(|value| value as u32)
    }

    pub(crate) fn sint32(self) -> Result<i32, Malformed> {
        self.varint().map(|value| zigzag(u64::from(value as u32)) as i32)
    }

    pub(crate) fn double(self) -> Result<f64, Malformed> {
        match self {
            Self::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(Malformed::WireType),
        }
    }
}

pub(crate) const fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// Walks over the fields of one message.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) const fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// Bytes that are not read yet.
    pub(crate) const fn left(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        if let Some((first, rest)) = self.rest.split_first()
            && *first < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(*first));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for (i, byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if *byte < 0x80 {
                if i == 9 && *byte > 1 {
                    return Err(Malformed::Varint);
                }
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < 10 { Malformed::Truncated } else { Malformed::Varint })
    }

    #[inline]
    fn take(&mut self, count: u64) -> Result<&'a [u8], Malformed> {
        let count = usize::try_from(count).map_err(|_| Malformed::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn fixed64(&mut self) -> Result<u64, Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<8>().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*taken))
    }

    /// The next field: its number and value.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| Malformed::Tag)?;
        if number == 0 {
            return Err(Malformed::Tag);
        }
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.fixed64()?),
            2 => {
                let count = self.varint()?;
                Value::Bytes(self.take(count)?)
            }
            5 => {
                self.take(4)?;
                Value::Fixed32
            }
            // Groups have not been written by anybody for fifteen years.
            _ => return Err(Malformed::WireType),
        };
        Ok(Some((number, value)))
    }
}

/// Calls with each number of a repeated field of varints, packed or not.
pub(crate) fn each_varint(value: Value<'_>, mut each: impl FnMut(u64) -> Result<(), Malformed>) -> Result<(), Malformed> {
    match value {
        Value::Varint(value) => each(value),
        Value::Bytes(packed) => {
            let mut fields = Fields::new(packed);
            while fields.left() > 0 {
                each(fields.varint()?)?;
            }
            Ok(())
        }
        _ => Err(Malformed::WireType),
    }
}

/// Calls with each number of a repeated field of doubles, packed or not.
pub(crate) fn each_double(value: Value<'_>, mut each: impl FnMut(f64) -> Result<(), Malformed>) -> Result<(), Malformed> {
    match value {
        Value::Fixed64(bits) => each(f64::from_bits(bits)),
        Value::Bytes(packed) => {
            let mut fields = Fields::new(packed);
            while fields.left() > 0 {
                each(f64::from_bits(fields.fixed64()?))?;
            }
            Ok(())
        }
        _ => Err(Malformed::WireType),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_end_or_are_refused() {
        for (bytes, expect) in [
            (&[0x00][..], Ok(0)),
            (&[0x7f], Ok(127)),
            (&[0x80, 0x01], Ok(128)),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], Ok(u64::MAX)),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], Err(Malformed::Varint)),
            (&[0x80; 11], Err(Malformed::Varint)),
            (&[0x80], Err(Malformed::Truncated)),
            (&[], Err(Malformed::Truncated)),
        ] {
            assert_eq!(Fields::new(bytes).varint(), expect, "{bytes:?}");
        }
    }

    #[test]
    fn zigzag_turns_back() {
        for (wire, value) in [(0, 0), (1, -1), (2, 1), (u64::MAX, i64::MIN), (u64::MAX - 1, i64::MAX)] {
            assert_eq!(zigzag(wire), value);
        }
    }

    #[test]
    fn lengths_are_not_trusted() {
        for bytes in
            [&[0x0a, 0x05, 1, 2][..], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], &[0x09, 1], &[0x03], &[0x00]]
        {
            assert!(Fields::new(bytes).next().is_err(), "{bytes:?}");
        }
    }
}
