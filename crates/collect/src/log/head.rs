//! How records begin: times and levels in the spellings that loggers use.

use paramedic_model::{Level, Timestamp};

use super::time_zone::Times;

/// A time at the start of the bytes, and how many bytes it takes. Times without an offset are local times, times
/// without a year are of the year that puts them nearest before `now`.
pub(super) fn time_prefix(line: &[u8], times: &Times) -> Option<(Timestamp, usize)> {
    match line.first()? {
        b'0'..=b'9' => dated(line, times),
        b'A'..=b'Z' => syslog(line, times),
        _ => None,
    }
}

/// `2025-12-24T14:35:22.123Z`, `2025-12-24 14:35:22,123`, `2025/12/24 14:35:22 +0100`.
pub(super) fn dated(line: &[u8], times: &Times) -> Option<(Timestamp, usize)> {
    let separator = *line.get(4)?;
    let is_shaped = matches!(separator, b'-' | b'/')
        && line.len() >= 19
        && line[7] == separator
        && matches!(line[10], b'T' | b't' | b' ' | b'_')
        && line[13] == b':'
        && line[16] == b':';
    if !is_shaped {
        return None;
    }
    let mut plain = [0u8; 40];
    plain[..19].copy_from_slice(&line[..19]);
    (plain[4], plain[7], plain[10]) = (b'-', b'-', b'T');
    let mut length = 19;
    let mut end = 19;
    if matches!(line.get(19), Some(b'.' | b',')) && line.get(20).is_some_and(u8::is_ascii_digit) {
        plain[length] = b'.';
        length += 1;
        end += 1;
        while let Some(digit @ b'0'..=b'9') = line.get(end) {
            if length < 29 {
                plain[length] = *digit;
                length += 1;
            }
            end += 1;
        }
    }
    let named = offset(&line[end..]);
    plain[length] = b'Z';
    let at = Timestamp::parse(std::str::from_utf8(&plain[..=length]).ok()?)?;
    let Some((east, taken)) = named else { return Some((times.of_local(at), end)) };
    Some((Timestamp::from_micros(at.as_micros().checked_sub(east * 1_000_000)?), end + taken))
}

/// Seconds east of UTC where the time says so, and how many bytes that takes. Other abbreviations than UTC and GMT
/// mean different zones to different people and are not read.
fn offset(rest: &[u8]) -> Option<(i64, usize)> {
    let two = |at: usize| {
        let digit = |at: usize| Some(i64::from(rest.get(at)?.checked_sub(b'0').filter(|digit| *digit < 10)?));
        Some(digit(at)? * 10 + digit(at + 1)?)
    };
    let ends = |at: usize| rest.get(at).is_none_or(|next| !next.is_ascii_alphanumeric());
    let blank = usize::from(rest.first() == Some(&b' '));
    match rest.get(blank)? {
        b'Z' | b'z' if ends(blank + 1) => Some((0, blank + 1)),
        b'U' | b'G' if matches!(rest.get(blank..blank + 3), Some(b"UTC" | b"GMT")) && ends(blank + 3) => Some((0, blank + 3)),
        sign @ (b'+' | b'-') => {
            let from = blank + 1;
            let colon = usize::from(rest.get(from + 2) == Some(&b':'));
            let (hours, minutes, end) = match (two(from)?, two(from + 2 + colon)) {
                (hours, Some(minutes)) => (hours, minutes, from + 4 + colon),
                // PostgreSQL leaves whole hours alone: `14:35:22+01`. After a blank it could be anything.
                (hours, None) if blank == 0 && ends(from + 2) => (hours, 0, from + 2),
                _ => return None,
            };
            let seconds = hours * 3600 + minutes * 60;
            (hours < 24 && minutes < 60).then_some((if *sign == b'-' { -seconds } else { seconds }, end))
        }
        _ => None,
    }
}

const MONTHS: [&[u8]; 12] = [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// `Jan  2 15:04:05`.
fn syslog(line: &[u8], times: &Times) -> Option<(Timestamp, usize)> {
    let month = MONTHS.iter().position(|month| line.starts_with(month))? + 1;
    if line.len() < 15 || line[3] != b' ' || line[6] != b' ' {
        return None;
    }
    let day = if line[4] == b' ' { format!("0{}", char::from(line[5])) } else { std::str::from_utf8(&line[4..6]).ok()?.to_owned() };
    let time = std::str::from_utf8(&line[7..15]).ok()?;
    Some((in_year_before(times, month, &day, time)?, 15))
}

/// klog and glog: `E0102 15:04:05.123456`. The level is the first letter.
pub(super) fn klog(line: &[u8], times: &Times) -> Option<(Timestamp, Level, usize)> {
    let level = match line.first()? {
        b'I' => Level::Info,
        b'W' => Level::Warn,
        b'E' | b'F' => Level::Error,
        _ => return None,
    };
    if line.len() < 15 || line[5] != b' ' || !line[1..5].iter().all(u8::is_ascii_digit) {
        return None;
    }
    let month = usize::from(line[1] - b'0') * 10 + usize::from(line[2] - b'0');
    let end = line[6..].iter().position(|byte| *byte == b' ').map_or(line.len(), |at| 6 + at).min(6 + 15);
    let at = in_year_before(times, month, std::str::from_utf8(&line[3..5]).ok()?, std::str::from_utf8(&line[6..end]).ok()?)?;
    Some((at, level, end))
}

/// A log tells what was: a day that lies ahead belongs to last year. A day's slack is left for clocks and zones.
fn in_year_before(times: &Times, month: usize, day: &str, time: &str) -> Option<Timestamp> {
    let latest = times.now.after(std::time::Duration::from_secs(86_400));
    let year: i64 = latest.date().get(..4)?.parse().ok()?;
    let of = |year: i64| Timestamp::parse(&format!("{year:04}-{month:02}-{day}T{time}Z")).map(|local| times.of_local(local));
    let this_year = of(year);
    this_year.filter(|at| *at <= latest).or_else(|| of(year - 1)).or(this_year)
}

/// The level that a whole word names. Without allocation, since every line asks.
pub(super) fn level_word(word: &[u8]) -> Option<Level> {
    const WORDS: &[(&[u8], Level)] = &[
        (b"error", Level::Error),
        (b"info", Level::Info),
        (b"warn", Level::Warn),
        (b"warning", Level::Warn),
        (b"debug", Level::Debug),
        (b"trace", Level::Debug),
        (b"verbose", Level::Debug),
        (b"notice", Level::Info),
        (b"fatal", Level::Error),
        (b"critical", Level::Error),
        (b"crit", Level::Error),
        (b"err", Level::Error),
        (b"panic", Level::Error),
        (b"alert", Level::Error),
        (b"emerg", Level::Error),
    ];
    WORDS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, level)| *level)
}

/// A level at the start of the bytes: `ERROR`, `[error]`, `Error:`, `<warn>`; and where the rest begins. A word in
/// small letters counts only with a sign around it: sentences begin with words too.
pub(super) fn level_prefix(line: &[u8]) -> Option<(Level, usize)> {
    let (start, close) = match line.first()? {
        b'[' => (1, Some(b']')),
        b'<' => (1, Some(b'>')),
        b'(' => (1, Some(b')')),
        _ => (0, None),
    };
    let blanks = line[start..].iter().take_while(|byte| **byte == b' ').count();
    let word_start = start + blanks;
    let length = line[word_start..].iter().take(10).take_while(|byte| byte.is_ascii_alphabetic()).count();
    let word = &line[word_start..word_start + length];
    let level = level_word(word)?;
    let mut end = word_start + length;
    if let Some(close) = close {
        end += line[end..].iter().take_while(|byte| **byte == b' ').count();
        return (line.get(end) == Some(&close)).then_some((level, end + 1));
    }
    match line.get(end) {
        Some(b':') => Some((level, end + 1)),
        None | Some(b' ' | b'\t' | b'|' | b'-' | b']') if word.iter().all(u8::is_ascii_uppercase) => Some((level, end)),
        _ => None,
    }
}

/// Blanks and the signs that loggers put between parts.
pub(super) fn skip_separators(line: &[u8]) -> usize {
    line.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'-' | b'|' | b':' | b',')).count()
}
