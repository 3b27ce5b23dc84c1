//! Days, weeks and months in UTC, each named by the day since 1970 that it begins on.

use paramedic_model::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const DAY_S: i64 = 86_400;
/// 1970-01-01 was a Thursday, three days after a Monday.
const THURSDAY: i32 = 3;

/// For how long a cap counts before it begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Period {
    Day,
    /// From Monday.
    Week,
    Month,
    /// Never anew: what a session may spend in all.
    Life,
}

impl Period {
    pub(super) const fn letter(self) -> char {
        match self {
            Self::Day => 'd',
            Self::Week => 'w',
            Self::Month => 'm',
            Self::Life => 'l',
        }
    }

    pub(super) fn of_letter(letter: &str) -> Option<Self> {
        [Self::Day, Self::Week, Self::Month, Self::Life].into_iter().find(|period| letter.len() == 1 && letter.starts_with(period.letter()))
    }
}

/// The windows that an instant is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Windows {
    pub(super) day: i32,
    pub(super) week: i32,
    pub(super) month: i32,
}

impl Windows {
    pub(super) fn at(now: Timestamp) -> Self {
        let day = day_of(now);
        Self { day, week: day.saturating_sub(day.saturating_add(THURSDAY).rem_euclid(7)), month: month_of(day) }
    }

    pub(super) const fn start(&self, period: Period) -> i32 {
        match period {
            Period::Day => self.day,
            Period::Week => self.week,
            Period::Month => self.month,
            Period::Life => 0,
        }
    }
}

pub(super) fn day_of(now: Timestamp) -> i32 {
    i32::try_from(now.as_secs().div_euclid(DAY_S)).unwrap_or_default()
}

/// When the window that began on this day is over.
pub(super) fn ends_at(period: Period, start: i32) -> Option<Timestamp> {
    let next = match period {
        Period::Day => start.saturating_add(1),
        Period::Week => start.saturating_add(7),
        // Whatever the month, 31 days after its first day it is the next one.
        Period::Month => month_of(start.saturating_add(31)),
        Period::Life => return None,
    };
    Some(Timestamp::from_secs(i64::from(next) * DAY_S))
}

/// The first day of the month that a day is in (H. Hinnant, "chrono-compatible low-level date algorithms").
fn month_of(day: i32) -> i32 {
    let days = i64::from(day) + 719_468;
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let before = day_of_year - (153 * shifted + 2) / 5;
    day.saturating_sub(i32::try_from(before).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(day: i32) -> String {
        Timestamp::from_secs(i64::from(day) * DAY_S).date()
    }

    #[test]
    fn windows_begin_where_the_calendar_says() {
        let cases = [
            ("2026-11-22T23:59:59.999Z", "2026-11-22", "2026-11-16", "2026-11-01", "2026-12-01"),
            ("2026-11-23T00:00:00Z", "2026-11-23", "2026-11-23", "2026-11-01", "2026-12-01"),
            ("2024-02-29T12:00:00Z", "2024-02-29", "2024-02-26", "2024-02-01", "2024-03-01"),
            ("2024-03-01T00:00:00Z", "2024-03-01", "2024-02-26", "2024-03-01", "2024-04-01"),
            ("2023-02-28T23:00:00Z", "2023-02-28", "2023-02-27", "2023-02-01", "2023-03-01"),
            ("2100-02-28T23:00:00Z", "2100-02-28", "2100-02-22", "2100-02-01", "2100-03-01"),
            ("2000-02-29T23:00:00Z", "2000-02-29", "2000-02-28", "2000-02-01", "2000-03-01"),
            ("2026-12-31T23:59:59Z", "2026-12-31", "2026-12-28", "2026-12-01", "2027-01-01"),
            ("1970-01-01T00:00:00Z", "1970-01-01", "1969-12-29", "1970-01-01", "1970-02-01"),
            ("1969-12-31T23:59:59Z", "1969-12-31", "1969-12-29", "1969-12-01", "1970-01-01"),
        ];
        for (at, day, week, month, next_month) in cases {
            let windows = Windows::at(Timestamp::parse(at).unwrap());
            assert_eq!((&*date(windows.day), &*date(windows.week), &*date(windows.month)), (day, week, month), "{at}");
            assert_eq!(ends_at(Period::Month, windows.month).unwrap().date(), next_month, "{at}");
            assert_eq!(ends_at(Period::Week, windows.week).unwrap().date(), date(windows.week + 7), "{at}");
        }
        assert_eq!(ends_at(Period::Life, 0), None);
    }

    #[test]
    fn every_day_of_four_centuries_is_in_its_own_windows() {
        for day in -80_000..80_000 {
            let windows = Windows::at(Timestamp::from_secs(i64::from(day) * DAY_S + 43_200));
            assert_eq!(windows.day, day);
            assert!((0..7).contains(&(day - windows.week)) && (windows.week + THURSDAY) % 7 == 0, "{}", date(day));
            assert_eq!(date(windows.month), format!("{}01", &date(day)[..date(day).len() - 2]));
        }
        // Times that no clock says do not panic.
        for micros in [i64::MIN, i64::MAX] {
            let windows = Windows::at(Timestamp::from_micros(micros));
            let _ = [Period::Day, Period::Week, Period::Month].map(|period| ends_at(period, windows.start(period)));
        }
    }
}
