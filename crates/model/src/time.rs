//! Time as a value: UTC microseconds, and the clock that everything else is handed.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant in UTC, microseconds since 1970-01-01T00:00:00Z. Written as RFC 3339 with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, JsonSchema)]
#[schemars(transparent, with = "String")]
pub struct Timestamp(i64);

impl Timestamp {
    pub const EPOCH: Self = Self(0);

    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// OTLP counts unsigned nanoseconds; anything beyond the year 294,000 saturates.
    #[must_use]
    pub fn from_unix_nanos(nanos: u64) -> Self {
        Self(i64::try_from(nanos / 1_000).unwrap_or(i64::MAX))
    }

    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// How long after `earlier` this is; zero when it is not after it (a clock that stepped back).
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX)))
    }

    #[must_use]
    pub fn before(self, wait: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Reads RFC 3339 (`2026-01-14T10:41:23.622Z`, any offset, `T` or a blank). The common UTC form is read by
    /// hand because transcripts carry one on every line.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        parse_utc(text.as_bytes()).or_else(|| parse_any(text))
    }

    fn parts(self) -> Parts {
        let (days, micros) = (self.0.div_euclid(86_400_000_000), self.0.rem_euclid(86_400_000_000));
        let (year, month, day) = civil_from_days(days);
        let secs = micros / 1_000_000;
        Parts { year, month, day, hour: secs / 3600, minute: secs / 60 % 60, second: secs % 60, micros: micros % 1_000_000 }
    }

    /// `2026-01-14`, for names of files and groups by day.
    #[must_use]
    pub fn date(self) -> String {
        let parts = self.parts();
        format!("{:04}-{:02}-{:02}", parts.year, parts.month, parts.day)
    }

    /// `10:41:23`, for tables where the day is told elsewhere.
    #[must_use]
    pub fn time_of_day(self) -> String {
        let parts = self.parts();
        format!("{:02}:{:02}:{:02}", parts.hour, parts.minute, parts.second)
    }
}

struct Parts {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    micros: i64,
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p = self.parts();
        write!(f, "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", p.year, p.month, p.day, p.hour, p.minute, p.second, p.micros / 1_000)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("not an RFC 3339 time: {text:?}")))
    }
}

/// `YYYY-MM-DDTHH:MM:SS[.fraction]Z`, nothing else.
fn parse_utc(text: &[u8]) -> Option<Timestamp> {
    let rest = text.strip_suffix(b"Z")?;
    if rest.len() < 19 || rest[4] != b'-' || rest[7] != b'-' || rest[10] != b'T' || rest[13] != b':' || rest[16] != b':' {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        rest[range].iter().try_fold(0i64, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let micros = match &rest[19..] {
        [] => 0,
        [b'.', fraction @ ..] if !fraction.is_empty() && fraction.iter().all(u8::is_ascii_digit) => {
            (0..6).fold(0i64, |sum, i| sum * 10 + fraction.get(i).map_or(0, |digit| i64::from(digit - b'0')))
        }
        _ => return None,
    };
    let secs = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(Timestamp(secs * 1_000_000 + micros))
}

fn parse_any(text: &str) -> Option<Timestamp> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Some(Timestamp(at.as_microsecond()));
    }
    // Without an offset the only honest reading is UTC; local zones are a matter of display.
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Timestamp(zoned.timestamp().as_microsecond()))
}

/// Days since 1970-01-01 of a proleptic Gregorian date (H. Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// Where "now" comes from. Decisions never ask a clock: they are handed a [`Timestamp`].
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

/// The machine's wall clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the wall clock is read")]
    fn now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
    }
}

/// A clock that stands still until it is told the time; for tests and for replaying a record.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.0))
    }

    pub fn set(&self, now: Timestamp) {
        self.0.store(now.0, Ordering::SeqCst);
    }

    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, shown: &str) {
        assert_eq!(Timestamp::parse(text).expect(text).to_string(), shown);
    }

    #[test]
    fn reads_the_forms_that_sources_write() {
        check("2026-01-14T10:41:23.622Z", "2026-01-14T10:41:23.622Z");
        check("2026-01-14T10:41:23Z", "2026-01-14T10:41:23.000Z");
        check("2026-01-14T11:41:23.622+01:00", "2026-01-14T10:41:23.622Z");
        check("2026-01-14 10:41:23", "2026-01-14T10:41:23.000Z");
        check("2024-02-29T23:59:59.999999999Z", "2024-02-29T23:59:59.999Z");
        check("1969-12-31T23:59:59.500Z", "1969-12-31T23:59:59.500Z");
    }

    #[test]
    fn refuses_what_is_not_a_time() {
        for text in ["", "Z", "2026-13-01T00:00:00Z", "2026-01-01T25:00:00Z", "yesterday", "2026-01-14T10:41:23.Z"] {
            assert_eq!(Timestamp::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn agrees_with_the_calendar_library_over_four_centuries() {
        for step in 0..4_000 {
            let secs = -2_000_000_000 + step * 3_700_001;
            let ours = Timestamp::from_secs(secs);
            let theirs = jiff::Timestamp::from_second(secs).expect("in range");
            assert_eq!(ours.to_string(), format!("{theirs:.3}"));
            assert_eq!(Timestamp::parse(&ours.to_string()), Some(ours));
        }
    }

    #[test]
    fn a_clock_that_steps_back_gives_no_negative_age() {
        assert_eq!(Timestamp::from_secs(5).since(Timestamp::from_secs(9)), Duration::ZERO);
    }
}
