//! When a process started, in the ways people and programs write it.

use std::fmt;

use paramedic_model::Timestamp;

/// Times are written in whole seconds, and the machine's start is known to a second.
const TOLERANCE_MICROS: u64 = 1_000_000;

/// What a caller says of the start of a process. A number that is used again belongs to a process that started later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// Clock ticks since boot, as in `/proc/<pid>/stat`.
    Ticks(u64),
    At(Timestamp),
    /// A plain number: ticks, or seconds since 1970.
    Number(u64),
}

impl Started {
    /// Reads ticks, seconds since 1970, RFC 3339 and what `ps -o lstart` prints (`Sun Nov 22 08:00:42 2026`, local time).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Ok(number) = text.parse() {
            return Some(Self::Number(number));
        }
        if let Some((secs, fraction)) = text.split_once('.')
            && let (Ok(secs), true) = (secs.parse(), !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit()))
        {
            return Some(Self::At(Timestamp::from_secs(secs)));
        }
        Timestamp::parse(text).or_else(|| parse_listed(text)).map(Self::At)
    }

    /// Whether a process that started then is the one that was meant.
    #[must_use]
    pub fn is(&self, ticks: u64, at: Timestamp) -> bool {
        let near = |other: Timestamp| at.as_micros().abs_diff(other.as_micros()) <= TOLERANCE_MICROS;
        match self {
            Self::Ticks(meant) => *meant == ticks,
            Self::At(meant) => near(*meant),
            Self::Number(meant) => *meant == ticks || i64::try_from(*meant).is_ok_and(|secs| near(Timestamp::from_secs(secs))),
        }
    }
}

impl fmt::Display for Started {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ticks(ticks) => write!(formatter, "{ticks} ticks after boot"),
            Self::At(at) => write!(formatter, "{at}"),
            Self::Number(number) => write!(formatter, "{number}"),
        }
    }
}

/// `Sun Nov 22 08:00:42 2026`, in the zone of this machine.
fn parse_listed(text: &str) -> Option<Timestamp> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [_, month, day, time, year] = words.as_slice() else { return None };
    let civil = jiff::civil::DateTime::strptime("%b %d %H:%M:%S %Y", format!("{month} {day} {time} {year}")).ok()?;
    let zoned = civil.to_zoned(jiff::tz::TimeZone::system()).ok()?;
    Some(Timestamp::from_micros(zoned.timestamp().as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_read_as_people_write_it() {
        let at = Timestamp::parse("2026-11-22T08:00:42.500Z").unwrap();
        let check = |text: &str, expect: bool| {
            assert_eq!(Started::parse(text).is_some_and(|started| started.is(123_456, at)), expect, "{text}");
        };
        for text in ["123456", " 123456 ", "1795334442", "1795334443", "1795334442.25", "2026-11-22T08:00:42Z", "2026-11-22T09:00:43+01:00"]
        {
            check(text, true);
        }
        for text in
            ["123457", "1795334440", "1795334444", "2026-11-22T08:00:40Z", "", "soon", "-1", "99999999999999999999", "1e9", "1.", "Sun Nov"]
        {
            check(text, false);
        }
        let local = jiff::Timestamp::from_microsecond(at.as_micros()).unwrap().to_zoned(jiff::tz::TimeZone::system());
        check(&local.strftime("%a %b %e %H:%M:%S %Y").to_string(), true);
        check("Sun Nov 22 08:00:42 1999", false);
    }
}
