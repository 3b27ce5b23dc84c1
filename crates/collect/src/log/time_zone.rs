//! The zone of times that name none.
//!
//! Python's `logging`, log4j, syslog and klog write the local time and do not say where. Such times are read in the
//! zone of the settings, by default this machine's. A time of day that a change of the clocks makes twice is the first
//! of the two; one that it leaves out is as much later as was left out. Both are what most calendars do.

use std::cell::Cell;
use std::str::FromStr;

use paramedic_model::Timestamp;
use serde::Deserialize;

/// The zone in which times without one are read: `local`, `UTC`, or a name like `Europe/Berlin`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TimeZone(jiff::tz::TimeZone);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("find the time zone `{0}`: use `local`, `UTC` or a name like `Europe/Berlin`")]
pub struct UnknownTimeZone(String);

impl TimeZone {
    /// This machine's zone; UTC where it has none.
    #[must_use]
    pub fn local() -> Self {
        Self(jiff::tz::TimeZone::system())
    }

    #[must_use]
    pub const fn utc() -> Self {
        Self(jiff::tz::TimeZone::UTC)
    }
}

impl Default for TimeZone {
    fn default() -> Self {
        Self::local()
    }
}

impl FromStr for TimeZone {
    type Err = UnknownTimeZone;

    fn from_str(name: &str) -> Result<Self, UnknownTimeZone> {
        if name.eq_ignore_ascii_case("local") {
            return Ok(Self::local());
        }
        if name.eq_ignore_ascii_case("UTC") || name == "Z" {
            return Ok(Self::utc());
        }
        jiff::tz::TimeZone::get(name).map(Self).map_err(|_| UnknownTimeZone(paramedic_model::text::head(name, 64).to_owned()))
    }
}

impl TryFrom<String> for TimeZone {
    type Error = UnknownTimeZone;

    fn try_from(name: String) -> Result<Self, UnknownTimeZone> {
        name.parse()
    }
}

/// What reading a time needs beside the line.
#[derive(Debug)]
pub(super) struct Times {
    pub(super) now: Timestamp,
    zone: TimeZone,
    /// The last hour of local time, counted from 1970, and how many seconds east of UTC all of it is.
    hour: Cell<Option<(i64, i64)>>,
}

impl Times {
    pub(super) const fn new(zone: TimeZone) -> Self {
        Self { now: Timestamp::EPOCH, zone, hour: Cell::new(None) }
    }

    /// The instant of a local time, which is given as if it were UTC.
    pub(super) fn of_local(&self, local: Timestamp) -> Timestamp {
        let seconds = local.as_secs();
        let hour = seconds.div_euclid(3600);
        let east = match self.hour.get() {
            Some((cached, east)) if cached == hour => east,
            _ => {
                if let Some(east) = self.of_whole_hour(hour) {
                    self.hour.set(Some((hour, east)));
                }
                self.east(seconds).unwrap_or(0)
            }
        };
        Timestamp::from_micros(local.as_micros().saturating_sub(east.saturating_mul(1_000_000)))
    }

    /// How far east all of an hour is; nothing for an hour in which the clocks are changed.
    fn of_whole_hour(&self, hour: i64) -> Option<i64> {
        let first = hour.checked_mul(3600)?;
        let plain = |seconds| match self.zone.0.to_ambiguous_timestamp(civil(seconds)?).offset() {
            jiff::tz::AmbiguousOffset::Unambiguous { offset } => Some(i64::from(offset.seconds())),
            _ => None,
        };
        let east = plain(first)?;
        (plain(first.checked_add(3599)?)? == east).then_some(east)
    }

    fn east(&self, local: i64) -> Option<i64> {
        let at = self.zone.0.to_ambiguous_timestamp(civil(local)?).compatible().ok()?;
        local.checked_sub(at.as_second())
    }
}

fn civil(seconds: i64) -> Option<jiff::civil::DateTime> {
    let at = jiff::Timestamp::from_second(seconds).ok()?;
    Some(jiff::tz::TimeZone::UTC.to_datetime(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every time of `times` in the zone, with one [`Times`] in this order, so that what it remembers is used.
    fn check(zone: &str, times: &[(&str, &str)]) {
        let zone = Times::new(zone.parse().unwrap());
        for (local, utc) in times {
            let at = zone.of_local(Timestamp::parse(&format!("{local}Z")).unwrap());
            assert_eq!(at, Timestamp::parse(utc).unwrap(), "{local}: {at}");
        }
    }

    #[test]
    fn local_times_in_two_zones_and_across_their_changes() {
        check(
            "America/Chicago",
            &[
                ("2026-01-14T10:41:23.622", "2026-01-14T16:41:23.622Z"),
                ("2026-01-14T10:59:59.999", "2026-01-14T16:59:59.999Z"),
                ("2026-07-14T10:41:23", "2026-07-14T15:41:23Z"),
                ("2026-03-08T01:59:59", "2026-03-08T07:59:59Z"),
                // 02:00 to 03:00 does not exist.
                ("2026-03-08T02:30:00", "2026-03-08T08:30:00Z"),
                ("2026-03-08T03:00:00", "2026-03-08T08:00:00Z"),
                // 01:00 to 02:00 happens twice.
                ("2026-11-01T00:59:59", "2026-11-01T05:59:59Z"),
                ("2026-11-01T01:30:00", "2026-11-01T06:30:00Z"),
                ("2026-11-01T01:30:00", "2026-11-01T06:30:00Z"),
                ("2026-11-01T02:00:00", "2026-11-01T08:00:00Z"),
            ],
        );
        check(
            "Europe/Berlin",
            &[
                ("2026-03-29T01:59:59", "2026-03-29T00:59:59Z"),
                ("2026-03-29T02:30:00", "2026-03-29T01:30:00Z"),
                ("2026-03-29T03:00:00", "2026-03-29T01:00:00Z"),
                ("2026-10-25T02:30:00", "2026-10-25T00:30:00Z"),
                ("2026-10-25T03:00:00", "2026-10-25T02:00:00Z"),
                ("1969-12-31T23:30:00", "1969-12-31T22:30:00Z"),
            ],
        );
        // Half an hour, in the middle of an hour and over midnight.
        check("Australia/Lord_Howe", &[("2026-04-05T01:15:00", "2026-04-04T14:15:00Z"), ("2026-04-05T01:45:00", "2026-04-04T14:45:00Z")]);
        check("UTC", &[("2026-03-08T02:30:00", "2026-03-08T02:30:00Z")]);
    }

    #[test]
    fn what_is_remembered_changes_nothing() {
        for name in ["America/Chicago", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns", "Asia/Kathmandu"] {
            let zone: TimeZone = name.parse().unwrap();
            let remembering = Times::new(zone.clone());
            // A year in steps of 7 minutes meets every change of the clocks.
            for step in 0..80_000 {
                let local = Timestamp::from_secs(1_254_355_200 + step * 420);
                assert_eq!(remembering.of_local(local), Times::new(zone.clone()).of_local(local), "{name} {local}");
            }
        }
    }

    #[test]
    fn names_are_known_or_refused() {
        for name in ["local", "Local", "UTC", "utc", "Z", "Europe/Berlin", "america/chicago"] {
            assert!(name.parse::<TimeZone>().is_ok(), "{name}");
        }
        for name in ["", "Mars/Olympus", "../../etc/passwd", "CEST?"] {
            let error = name.parse::<TimeZone>().unwrap_err().to_string();
            assert_eq!(error, format!("find the time zone `{name}`: use `local`, `UTC` or a name like `Europe/Berlin`"));
        }
    }

    #[test]
    fn times_that_no_calendar_holds_do_no_harm() {
        let zone = Times::new("Europe/Berlin".parse().unwrap());
        for micros in [i64::MIN, i64::MAX, -377_705_116_800_000_000] {
            let _ = zone.of_local(Timestamp::from_micros(micros));
        }
    }
}
