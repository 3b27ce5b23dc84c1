//! What happened to money, in the order in which it did; and how the log says it, a line each.
//!
//! A line is a checksum of the rest (8 hexadecimal digits of xxh3), a letter, and fields between blanks. Letters and
//! fields are a contract: a change of theirs is a new version in the first line.

use std::fmt::Write as _;
use std::str::Split;
use std::sync::Arc;

use paramedic_model::{Timestamp, Usage};
use xxhash_rust::xxh3::xxh3_64;

use super::book::Sum;
use super::purse::{PURSES_LIMIT, Places};
use super::window::Period;

/// The first line of a log.
pub(super) const HEAD: &str = "paramedic-spend 1";

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Entry {
    /// This place is that purse from here on. `P place name`
    Purse { place: u32, name: Arc<str> },
    /// `R id ms pico place,place…`
    Reserved { id: u64, at: Timestamp, pico: u64, places: Places },
    /// `G id pico`
    Grew { id: u64, pico: u64 },
    /// `S id ms pico input output cache-read cache-written cache-written-1h`
    Settled { id: u64, at: Timestamp, pico: u64, usage: Usage },
    /// `X id`
    Released { id: u64 },
    /// `W place period start cap told id`
    Told { place: u32, period: Period, start: i32, pico: u64, told: u8, cap: Arc<str> },
    /// What a window held when the log was written anew. `A place period start pico calls input output …`
    Sum { place: u32, period: Period, start: i32, sum: Sum },
    /// An hour when the log was written anew. `H place hour pico calls input output …`
    Hour { place: u32, hour: i64, sum: Sum },
}

impl Entry {
    /// Writes the line, with its end.
    pub(super) fn write(&self, out: &mut String) {
        let begin = out.len();
        out.push_str("00000000 ");
        // Writing to a string does not fail.
        let _ = self.fields(out);
        let sum = check(&out[begin + 9..]);
        out.replace_range(begin..begin + 8, std::str::from_utf8(&sum).unwrap_or("00000000"));
        out.push('\n');
    }

    fn fields(&self, out: &mut String) -> std::fmt::Result {
        match self {
            Self::Purse { place, name } => {
                write!(out, "P {place} ")?;
                escape(name, out)
            }
            Self::Reserved { id, at, pico, places } => {
                write!(out, "R {id} {} {pico} ", at.as_millis())?;
                for (i, place) in places.as_slice().iter().enumerate() {
                    write!(out, "{}{place}", if i > 0 { "," } else { "" })?;
                }
                Ok(())
            }
            Self::Grew { id, pico } => write!(out, "G {id} {pico}"),
            Self::Settled { id, at, pico, usage } => {
                write!(out, "S {id} {} {pico} ", at.as_millis())?;
                tokens(usage, out)
            }
            Self::Released { id } => write!(out, "X {id}"),
            Self::Told { place, period, start, pico, told, cap } => {
                write!(out, "W {place} {} {start} {pico} {told} ", period.letter())?;
                escape(cap, out)
            }
            Self::Sum { place, period, start, sum } => {
                write!(out, "A {place} {} {start} {} {} ", period.letter(), sum.pico, sum.calls)?;
                tokens(&sum.usage, out)
            }
            Self::Hour { place, hour, sum } => {
                write!(out, "H {place} {hour} {} {} ", sum.pico, sum.calls)?;
                tokens(&sum.usage, out)
            }
        }
    }

    /// Reads a line without its end; none when it is damaged.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        let (sum, rest) = line.split_at_checked(8)?;
        let rest = std::str::from_utf8(rest.strip_prefix(b" ")?).ok()?;
        if check(rest) != sum {
            return None;
        }
        let mut fields = rest.split(' ');
        let entry = match fields.next()? {
            "P" => Self::Purse { place: place(&mut fields)?, name: unescape(fields.next()?)?.into() },
            "R" => {
                let (id, at, pico) = (number(&mut fields)?, at(&mut fields)?, number(&mut fields)?);
                let mut places = Places::new();
                for text in fields.next()?.split(',') {
                    let place = text.parse().ok().filter(|place| (*place as usize) < PURSES_LIMIT * 2)?;
                    places.push(place).then_some(())?;
                }
                Self::Reserved { id, at, pico, places }
            }
            "G" => Self::Grew { id: number(&mut fields)?, pico: number(&mut fields)? },
            "S" => Self::Settled { id: number(&mut fields)?, at: at(&mut fields)?, pico: number(&mut fields)?, usage: usage(&mut fields)? },
            "X" => Self::Released { id: number(&mut fields)? },
            "W" => Self::Told {
                place: place(&mut fields)?,
                period: Period::of_letter(fields.next()?)?,
                start: fields.next()?.parse().ok()?,
                pico: number(&mut fields)?,
                told: fields.next()?.parse().ok()?,
                cap: unescape(fields.next()?)?.into(),
            },
            "A" => Self::Sum {
                place: place(&mut fields)?,
                period: Period::of_letter(fields.next()?)?,
                start: fields.next()?.parse().ok()?,
                sum: total(&mut fields)?,
            },
            "H" => Self::Hour { place: place(&mut fields)?, hour: fields.next()?.parse().ok()?, sum: total(&mut fields)? },
            _ => return None,
        };
        fields.next().is_none().then_some(entry)
    }
}

fn check(text: &str) -> [u8; 8] {
    let sum = xxh3_64(text.as_bytes());
    std::array::from_fn(|i| b"0123456789abcdef"[(sum >> (28 - 4 * i) & 15) as usize])
}

fn tokens(usage: &Usage, out: &mut String) -> std::fmt::Result {
    let Usage { input_tokens, output_tokens, cache_read_tokens, cache_creation_tokens, cache_creation_1h_tokens } = usage;
    write!(out, "{input_tokens} {output_tokens} {cache_read_tokens} {cache_creation_tokens} {cache_creation_1h_tokens}")
}

fn number(fields: &mut Split<'_, char>) -> Option<u64> {
    fields.next()?.parse().ok()
}

fn place(fields: &mut Split<'_, char>) -> Option<u32> {
    fields.next()?.parse().ok().filter(|place| (*place as usize) < PURSES_LIMIT * 2)
}

fn at(fields: &mut Split<'_, char>) -> Option<Timestamp> {
    Some(Timestamp::from_millis(fields.next()?.parse().ok()?))
}

fn usage(fields: &mut Split<'_, char>) -> Option<Usage> {
    Some(Usage {
        input_tokens: number(fields)?,
        output_tokens: number(fields)?,
        cache_read_tokens: number(fields)?,
        cache_creation_tokens: number(fields)?,
        cache_creation_1h_tokens: number(fields)?,
    })
}

fn total(fields: &mut Split<'_, char>) -> Option<Sum> {
    Some(Sum { pico: number(fields)?, calls: number(fields)?, usage: usage(fields)? })
}

/// Names come from outside: blanks, controls and percent signs are written as `%20`.
fn escape(name: &str, out: &mut String) -> std::fmt::Result {
    for letter in name.chars() {
        if letter <= ' ' || letter == '%' || letter == '\u{7f}' {
            write!(out, "%{:02x}", u32::from(letter))?;
        } else {
            out.push(letter);
        }
    }
    Ok(())
}

fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        name.push(char::from(u8::from_str_radix(code, 16).ok().filter(u8::is_ascii)?));
        name.push_str(rest);
    }
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(entry: &Entry) -> String {
        let mut out = String::new();
        entry.write(&mut out);
        out
    }

    fn some() -> Vec<Entry> {
        let usage =
            Usage { input_tokens: 1, output_tokens: 2, cache_read_tokens: 3, cache_creation_tokens: 5, cache_creation_1h_tokens: 4 };
        let sum = Sum { pico: u64::MAX, calls: 7, usage };
        let at = Timestamp::from_millis(1_795_000_000_123);
        let mut places = Places::new();
        for place in [0, 9, 11] {
            places.push(place);
        }
        vec![
            Entry::Purse { place: 9, name: "user:ana b%\n\u{7f}ä\u{2028}".into() },
            Entry::Reserved { id: 1, at, pico: 5_660_000_000, places },
            Entry::Grew { id: 1, pico: 6 },
            Entry::Settled { id: 1, at, pico: 7, usage },
            Entry::Released { id: 2 },
            Entry::Told { place: 9, period: Period::Week, start: -3, pico: 8, told: 7, cap: "daily_budget_dollars@user:ana".into() },
            Entry::Sum { place: 0, period: Period::Life, start: 0, sum },
            Entry::Hour { place: 0, hour: 498_000, sum },
        ]
    }

    #[test]
    fn lines_are_read_as_they_are_written() {
        for entry in some() {
            let line = line(&entry);
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert_eq!(Entry::read(line.trim_end_matches('\n').as_bytes()), Some(entry), "{line}");
        }
    }

    proptest! {
        #[test]
        fn damage_is_seen(which in 0usize..8, place in 0usize..200, flip in 1u8..=255) {
            let mut bytes = line(&some()[which]).into_bytes();
            bytes.pop();
            let place = place % bytes.len();
            bytes[place] ^= flip;
            prop_assert_eq!(Entry::read(&bytes), None);
            bytes.truncate(place);
            prop_assert_eq!(Entry::read(&bytes), None);
        }

        #[test]
        fn any_name_comes_back(name in "\\PC{1,40}|[\\x00-\\x7f]{1,40}") {
            let entry = Entry::Purse { place: 1, name: name.into() };
            let line = line(&entry);
            prop_assert_eq!(Entry::read(line.strip_suffix('\n').unwrap().as_bytes()), Some(entry));
        }

        #[test]
        fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Entry::read(&bytes);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let mut valid = check(&text).to_vec();
            valid.push(b' ');
            valid.extend(text.bytes());
            let _ = Entry::read(&valid);
        }
    }
}
