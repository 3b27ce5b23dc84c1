//! What an answer of the store means for what was sent, and how long to wait before the next try.

use std::time::Duration;

use crate::config::ForwardSettings;

/// What to do after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Taken,
    /// Not now: send the same again, not before the given time.
    Again(Option<Duration>),
    /// The store does not know this version of the protocol.
    SpeakV1,
    /// Something in it is refused, or it is too big: send its halves.
    Halve,
    /// The store does not want it, and will not later either.
    Refused,
}

/// The parts of an answer that matter.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reply<'a> {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<&'a str>,
    /// Whether it says how many samples it has written, which every store that knows 2.0 does.
    pub(crate) says_written: bool,
}

pub(crate) fn judge(reply: Reply<'_>, is_v2: bool) -> Verdict {
    match reply.status {
        200..=299 if is_v2 && !reply.says_written => Verdict::SpeakV1,
        200..=299 => Verdict::Taken,
        415 if is_v2 => Verdict::SpeakV1,
        // A store that takes back the whole request because of one sample shall have the others.
        400 | 413 => Verdict::Halve,
        // These speak about us (a token that has run out, a wrong path, a proxy), not about the samples.
        401 | 403 | 404 | 407 | 408 | 425 | 429 => Verdict::Again(retry_after(reply.retry_after)),
        402..=499 => Verdict::Refused,
        _ => Verdict::Again(retry_after(reply.retry_after)),
    }
}

/// Whole seconds; a date is not worth a clock, the ordinary wait will do.
fn retry_after(header: Option<&str>) -> Option<Duration> {
    header.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs)
}

/// How long to wait before a retry, the first of which has the number zero.
pub(crate) fn wait(retry: u32, asked: Option<Duration>, settings: &ForwardSettings) -> Duration {
    let most = Duration::from_millis(settings.retry_max_ms);
    let first = settings.retry_first_ms.max(1);
    let own = Duration::from_millis(first.saturating_mul(1u64.checked_shl(retry.min(20)).unwrap_or(u64::MAX)));
    own.max(asked.unwrap_or_default()).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_mean_what_senders_agree_on() {
        let again = Verdict::Again(None);
        for (status, is_v2, expect) in [
            (200, false, Verdict::Taken),
            (204, false, Verdict::Taken),
            (204, true, Verdict::SpeakV1),
            (415, true, Verdict::SpeakV1),
            (415, false, Verdict::Refused),
            (400, false, Verdict::Halve),
            (413, true, Verdict::Halve),
            (422, false, Verdict::Refused),
            (401, false, again),
            (404, true, again),
            (429, false, again),
            (500, false, again),
            (503, true, again),
            (302, false, again),
        ] {
            assert_eq!(judge(Reply { status, ..Reply::default() }, is_v2), expect, "{status}");
        }
        let reply = Reply { status: 503, retry_after: Some("7"), ..Reply::default() };
        assert_eq!(judge(reply, false), Verdict::Again(Some(Duration::from_secs(7))));
        assert_eq!(judge(Reply { status: 204, says_written: true, ..Reply::default() }, true), Verdict::Taken);
    }

    #[test]
    fn waits_double_up_to_a_bound() {
        let settings = ForwardSettings { retry_first_ms: 100, retry_max_ms: 5_000, ..ForwardSettings::default() };
        for (retry, asked, ms) in [(0, None, 100), (1, None, 200), (3, None, 800), (10, None, 5_000), (u32::MAX, None, 5_000)] {
            assert_eq!(wait(retry, asked, &settings), Duration::from_millis(ms));
        }
        assert_eq!(wait(0, Some(Duration::from_secs(3)), &settings), Duration::from_secs(3));
        assert_eq!(wait(0, Some(Duration::from_secs(3_600)), &settings), Duration::from_secs(5));
    }
}
