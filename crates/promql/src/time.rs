//! The civil calendar in UTC, as far as the time functions need it.

/// A moment taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: i64,
    pub(crate) month: i64,
    pub(crate) day: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    pub(crate) second: i64,
    days: i64,
}

impl Civil {
    /// From seconds since 1970; proleptic Gregorian calendar (the algorithm is Howard Hinnant's `civil_from_days`).
    pub(crate) fn from_seconds(seconds: i64) -> Self {
        let days = seconds.div_euclid(86_400);
        let of_day = seconds.rem_euclid(86_400);
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self { year, month, day, hour: of_day / 3_600, minute: of_day / 60 % 60, second: of_day % 60, days }
    }

    /// 0 is Sunday.
    pub(crate) fn weekday(&self) -> i64 {
        (self.days + 4).rem_euclid(7)
    }

    fn is_leap(&self) -> bool {
        self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0)
    }

    pub(crate) fn days_in_month(&self) -> i64 {
        match self.month {
            2 => 28 + i64::from(self.is_leap()),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    /// 1 is the first of January.
    pub(crate) fn day_of_year(&self) -> i64 {
        const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        BEFORE[(self.month - 1) as usize] + self.day + i64::from(self.month > 2 && self.is_leap())
    }
}

/// RFC 3339 text of a time in milliseconds.
pub(crate) fn format_utc(ms: i64) -> String {
    let civil = Civil::from_seconds(ms.div_euclid(1_000));
    let Civil { year, month, day, hour, minute, second, .. } = civil;
    let fraction = match ms.rem_euclid(1_000) {
        0 => String::new(),
        ms => format!(".{ms:03}").trim_end_matches('0').to_owned(),
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_is_right() {
        let civil = Civil::from_seconds(1_456_790_399);
        assert_eq!((civil.year, civil.month, civil.day, civil.hour, civil.minute), (2016, 2, 29, 23, 59));
        assert_eq!((civil.days_in_month(), civil.day_of_year(), civil.weekday()), (29, 60, 1));
        assert_eq!(Civil::from_seconds(-1).year, 1969);
        assert_eq!(format_utc(1_500), "1970-01-01T00:00:01.5Z");
        let _ = Civil::from_seconds(i64::MIN).day_of_year();
        let _ = Civil::from_seconds(i64::MAX).day_of_year();
    }
}
