//! What a failed model call is called, in the words of every client version.
//!
//! **Takes** the signs a source gives: an error kind, a status, a sentence. **Gives** the class, and where a limit was
//! hit, when it resets. **Never** guesses from a long text what a short field says: a model's error text may quote
//! anything.

use jiff::civil::{Date, Time};
use paramedic_model::{ApiErrorClass, Timestamp, text};

/// What a source said about a failed call. All of it may be missing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Signs<'a> {
    /// The client's error word (`rate_limit`, `server_error`) or the API's error type (`overloaded_error`).
    pub kind: Option<&'a str>,
    pub status: Option<u16>,
    /// The sentence shown to the user.
    pub text: &'a str,
}

/// Bytes of the sentence that are looked at.
const TEXT_BYTES_MAX: usize = 2 * 1024;

/// Sentences that say more than the status does, in lower case; the first that is contained wins.
const TELLING: &[(&str, ApiErrorClass)] = &[
    ("prompt is too long", ApiErrorClass::PromptTooLong),
    ("exceed context limit", ApiErrorClass::PromptTooLong),
    ("conversation too long", ApiErrorClass::PromptTooLong),
    ("request too large", ApiErrorClass::PromptTooLong),
    ("output token maximum", ApiErrorClass::MaxOutputTokens),
    ("credit balance is too low", ApiErrorClass::Billing),
    ("spending limit", ApiErrorClass::Billing),
    ("usage credits", ApiErrorClass::Billing),
    ("invalid api key", ApiErrorClass::Authentication),
    ("oauth token has expired", ApiErrorClass::Authentication),
    ("oauth token revoked", ApiErrorClass::Authentication),
    ("organization has been disabled", ApiErrorClass::Authentication),
    ("not logged in", ApiErrorClass::Authentication),
    ("please run /login", ApiErrorClass::Authentication),
    ("hit your session limit", ApiErrorClass::RateLimit),
    ("hit your weekly limit", ApiErrorClass::RateLimit),
    ("hit your limit", ApiErrorClass::RateLimit),
    ("hit your usage limit", ApiErrorClass::RateLimit),
    ("usage limit reached", ApiErrorClass::RateLimit),
    ("-hour limit reached", ApiErrorClass::RateLimit),
    ("weekly limit reached", ApiErrorClass::RateLimit),
    ("issue with the selected model", ApiErrorClass::ModelNotFound),
];

/// Error words of the client and error types of the API.
const KINDS: &[(&str, ApiErrorClass)] = &[
    ("rate_limit", ApiErrorClass::RateLimit),
    ("rate_limit_error", ApiErrorClass::RateLimit),
    ("overloaded", ApiErrorClass::Overloaded),
    ("overloaded_error", ApiErrorClass::Overloaded),
    ("authentication_failed", ApiErrorClass::Authentication),
    ("authentication_error", ApiErrorClass::Authentication),
    ("permission_error", ApiErrorClass::Authentication),
    ("oauth_org_not_allowed", ApiErrorClass::Authentication),
    ("billing_error", ApiErrorClass::Billing),
    ("invalid_request", ApiErrorClass::InvalidRequest),
    ("invalid_request_error", ApiErrorClass::InvalidRequest),
    ("request_too_large", ApiErrorClass::PromptTooLong),
    ("model_not_found", ApiErrorClass::ModelNotFound),
    ("not_found_error", ApiErrorClass::ModelNotFound),
    ("server_error", ApiErrorClass::Server),
    ("api_error", ApiErrorClass::Server),
    ("timeout_error", ApiErrorClass::Timeout),
    ("max_output_tokens", ApiErrorClass::MaxOutputTokens),
];

/// Sentences of a client that has given up trying again.
const GAVE_UP: &[&str] = &["repeated 529", "repeated overloaded", "retries exhausted", "max retries exceeded"];

/// Sentences that say more than "something went wrong".
const PLAIN: &[(&str, ApiErrorClass)] = &[
    ("overloaded", ApiErrorClass::Overloaded),
    ("at capacity", ApiErrorClass::Overloaded),
    ("rate limit", ApiErrorClass::RateLimit),
    ("rate_limit", ApiErrorClass::RateLimit),
    ("limit reached", ApiErrorClass::RateLimit),
    ("timed out", ApiErrorClass::Timeout),
    ("timeout", ApiErrorClass::Timeout),
    ("internal server error", ApiErrorClass::Server),
    ("connection error", ApiErrorClass::Network),
    ("connection closed", ApiErrorClass::Network),
    ("unable to connect", ApiErrorClass::Network),
    ("fetch failed", ApiErrorClass::Network),
    ("socket hang up", ApiErrorClass::Network),
    ("econnre", ApiErrorClass::Network),
    ("enotfound", ApiErrorClass::Network),
    ("etimedout", ApiErrorClass::Timeout),
    ("certificate", ApiErrorClass::Network),
];

/// The class, and the status where a field or the sentence named one.
///
/// A word that names a cause is believed before the sentence. `server_error` and `unknown` name none: the client says
/// `server_error` also of an API that was overloaded until it gave up, and only the sentence tells.
#[must_use]
pub fn classify(signs: Signs<'_>) -> (ApiErrorClass, Option<u16>) {
    let lower = text::head(signs.text, TEXT_BYTES_MAX).to_ascii_lowercase();
    let status = signs.status.or_else(|| status_in(&lower));
    let told = signs.kind.and_then(|kind| named(&kind.to_ascii_lowercase()));
    let by_status = status.map(ApiErrorClass::from_status);
    let class = contained(TELLING, &lower)
        .or_else(|| told.filter(|class| is_specific(*class)))
        .or_else(|| kind_in(&lower).and_then(|kind| named(&kind)).filter(|class| is_specific(*class)))
        .or_else(|| by_status.filter(|class| is_specific(*class)))
        .or_else(|| contained(PLAIN, &lower))
        .or(told)
        .or(by_status)
        .unwrap_or(ApiErrorClass::Unknown);
    (class, status)
}

/// Whether the class names a cause; a vaguer telling of the same failure may have another.
const fn is_specific(class: ApiErrorClass) -> bool {
    !matches!(class, ApiErrorClass::Server | ApiErrorClass::Unknown)
}

/// Whether the sentence says that the client had tried again and gave up.
#[must_use]
pub fn gave_up(sentence: &str) -> bool {
    let lower = text::head(sentence, TEXT_BYTES_MAX).to_ascii_lowercase();
    GAVE_UP.iter().any(|words| lower.contains(words))
}

fn named(kind: &str) -> Option<ApiErrorClass> {
    KINDS.iter().find(|(word, _)| *word == kind).map(|(_, class)| *class)
}

fn contained(table: &[(&str, ApiErrorClass)], lower: &str) -> Option<ApiErrorClass> {
    table.iter().find(|(sentence, _)| lower.contains(sentence)).map(|(_, class)| *class)
}

/// The number in `API Error: 529 {…}`, `API Error (429 …)`, `Request rejected (429)`, `Repeated 529 …` and
/// `status code 404`.
fn status_in(lower: &str) -> Option<u16> {
    ["api error", "status code", "rejected", "repeated"].iter().find_map(|words| number_after(lower, words))
}

fn number_after(lower: &str, words: &str) -> Option<u16> {
    let rest = lower[lower.find(words)? + words.len()..].trim_start_matches([':', ' ', '(']);
    let digits = rest.get(..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    if rest.as_bytes().get(3).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    digits.parse().ok().filter(|status| (400..600).contains(status))
}

/// The innermost `"type":"…_error"` of an API answer that a sentence quotes.
fn kind_in(lower: &str) -> Option<String> {
    let json = &lower[lower.find('{')?..];
    let answer: serde_json::Value = serde_json::from_str(json.get(..=json.rfind('}')?)?).ok()?;
    Some(answer.get("error")?.get("type")?.as_str()?.to_owned())
}

/// What a sentence says about a limit that was hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitNotice {
    /// `five_hour`, `seven_day`, or nothing where the sentence names none.
    pub limit: Option<&'static str>,
    pub resets_at: Option<Timestamp>,
}

/// Reads `You've hit your session limit · resets 9:50pm (America/Los_Angeles)` and its older forms; `at` is when the
/// sentence was written, since most of them name a time of day only.
#[must_use]
pub fn limit_notice(sentence: &str, at: Timestamp) -> Option<LimitNotice> {
    let lower = text::head(sentence, TEXT_BYTES_MAX).to_ascii_lowercase();
    if !lower.contains("limit") {
        return None;
    }
    let limit = [
        ("session limit", "five_hour"),
        ("5-hour", "five_hour"),
        ("weekly", "seven_day"),
        ("7-day", "seven_day"),
        ("opus limit", "seven_day"),
    ]
    .iter()
    .find(|(words, _)| lower.contains(words))
    .map(|(_, name)| *name);
    let resets_at = match lower.split_once("limit reached|") {
        Some((_, epoch)) => leading_number(epoch).map(Timestamp::from_secs),
        None => resets_at(sentence, &lower, at),
    };
    (limit.is_some() || resets_at.is_some()).then_some(LimitNotice { limit, resets_at })
}

fn leading_number(text: &str) -> Option<i64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    text[..digits].parse().ok().filter(|secs| *secs < 100_000_000_000)
}

fn resets_at(sentence: &str, lower: &str, at: Timestamp) -> Option<Timestamp> {
    let start = lower.find("resets ")? + "resets ".len();
    let (words, zone) = lower[start..].split_once('(')?;
    // Lower-casing ASCII moves no byte, and zone names are case-sensitive on some systems.
    let zone_at = start + words.len() + 1;
    let zone = jiff::tz::TimeZone::get(sentence.get(zone_at..zone_at + zone.find(')')?)?).ok()?;
    let written = jiff::Timestamp::from_microsecond(at.as_micros()).ok()?.to_zoned(zone.clone());
    let (mut date, mut time) = (None, None);
    let words: Vec<&str> = words.split([' ', ',']).filter(|word| !word.is_empty() && *word != "at").collect();
    for (i, word) in words.iter().enumerate() {
        if let Some(month) = month(word) {
            let day = words.get(i + 1)?.parse().ok()?;
            date = Some(Date::new(written.year(), month, day).ok()?);
        }
        time = time.or_else(|| time_of_day(word));
    }
    let moment =
        |date: Date| Some(Timestamp::from_micros(date.to_datetime(time?).to_zoned(zone.clone()).ok()?.timestamp().as_microsecond()));
    let today = written.date();
    match date {
        // Written in December, a date in January is next year's.
        Some(date) if date < today => moment(Date::new(date.year().checked_add(1)?, date.month(), date.day()).ok()?),
        Some(date) => moment(date),
        None => moment(today).filter(|then| *then > at).or_else(|| moment(today.tomorrow().ok()?)),
    }
}

fn month(word: &str) -> Option<i8> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let found = MONTHS.iter().position(|month| word.starts_with(month))?;
    i8::try_from(found + 1).ok()
}

/// `9:50pm`, `3am`.
fn time_of_day(word: &str) -> Option<Time> {
    let (clock, is_afternoon) = match (word.strip_suffix("pm"), word.strip_suffix("am")) {
        (Some(clock), _) => (clock, true),
        (_, Some(clock)) => (clock, false),
        _ => return None,
    };
    let (hour, minute) = clock.split_once(':').unwrap_or((clock, "0"));
    let hour: i8 = hour.parse().ok().filter(|hour| (1..=12).contains(hour))?;
    Time::new(hour % 12 + if is_afternoon { 12 } else { 0 }, minute.parse().ok()?, 0, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: Option<&str>, status: Option<u16>, text: &str, expect: (ApiErrorClass, Option<u16>)) {
        assert_eq!(classify(Signs { kind, status, text }), expect, "{kind:?} {status:?} {text:?}");
    }

    #[test]
    fn names_the_class_from_whatever_sign_there_is() {
        use ApiErrorClass as C;
        let overloaded = r#"API Error: 529 {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        check(Some("unknown"), None, overloaded, (C::Overloaded, Some(529)));
        let internal = r#"API Error: 500 {"type":"error","error":{"type":"api_error","message":"Internal server error"}}"#;
        check(Some("unknown"), None, internal, (C::Server, Some(500)));
        check(Some("rate_limit"), Some(429), "You've hit your session limit · resets 9:50pm (UTC)", (C::RateLimit, Some(429)));
        check(Some("invalid_request"), None, "Prompt is too long", (C::PromptTooLong, None));
        check(None, None, "Invalid API key · Please run /login", (C::Authentication, None));
        check(Some("billing_error"), None, "Credit balance is too low", (C::Billing, None));
        check(None, None, "OAuth token has expired · Please run /login", (C::Authentication, None));
        check(Some("oauth_org_not_allowed"), Some(403), "", (C::Authentication, Some(403)));
        check(None, None, "API Error: Connection error.", (C::Network, None));
        check(None, None, "API Error: Request timed out.", (C::Timeout, None));
        check(None, Some(503), "", (C::Overloaded, Some(503)));
        check(Some("model_not_found"), Some(404), "There's an issue with the selected model", (C::ModelNotFound, Some(404)));
        check(Some("max_output_tokens"), None, "", (C::MaxOutputTokens, None));
        let long = r#"API Error: 400 {"error":{"type":"invalid_request_error","message":"prompt is too long: 208310 tokens"}}"#;
        check(None, None, long, (C::PromptTooLong, Some(400)));
        check(None, None, "API Error: 400 something odd", (C::InvalidRequest, Some(400)));
        check(Some("something_new"), None, "", (C::Unknown, None));
        let repeated = "API Error: Repeated 529 Overloaded errors. The API is at capacity — this is usually temporary.";
        check(Some("server_error"), None, repeated, (C::Overloaded, Some(529)));
        check(Some("unknown"), None, repeated, (C::Overloaded, Some(529)));
        check(None, None, "Repeated 529 Overloaded errors", (C::Overloaded, Some(529)));
        check(Some("server_error"), Some(529), "", (C::Overloaded, Some(529)));
        check(None, None, "API Error: Request rejected (429) · this may be a temporary capacity issue", (C::RateLimit, Some(429)));
        check(Some("unknown"), None, "API Error: Connection error.", (C::Network, None));
        check(Some("server_error"), None, "API Error: 500 something went wrong", (C::Server, Some(500)));
        check(Some("server_error"), None, "", (C::Server, None));
        // A word that names a cause is not argued with.
        check(Some("rate_limit"), None, "the tool said: overloaded", (C::RateLimit, None));
        check(Some("invalid_request"), Some(400), "timeout must be a number", (C::InvalidRequest, Some(400)));
        check(None, None, "", (C::Unknown, None));
    }

    #[test]
    fn says_when_the_client_gave_up() {
        assert!(gave_up("API Error: Repeated 529 Overloaded errors. The API is at capacity"));
        assert!(!gave_up("API Error: 529 Overloaded") && !gave_up(""));
    }

    fn check_limit(sentence: &str, limit: Option<&'static str>, resets_at: Option<&str>) {
        let at = Timestamp::parse("2026-01-14T10:00:00Z").unwrap();
        let expect = LimitNotice { limit, resets_at: resets_at.map(|text| Timestamp::parse(text).unwrap()) };
        assert_eq!(limit_notice(sentence, at), Some(expect), "{sentence}");
    }

    #[test]
    fn reads_when_a_limit_resets() {
        check_limit("You've hit your session limit · resets 9:50pm (UTC)", Some("five_hour"), Some("2026-01-14T21:50:00Z"));
        check_limit("You've hit your limit · resets 3am (UTC)", None, Some("2026-01-15T03:00:00Z"));
        check_limit("You've hit your session limit · resets 12pm (America/Los_Angeles)", Some("five_hour"), Some("2026-01-14T20:00:00Z"));
        check_limit(
            "You've hit your weekly limit · resets Jan 16 at 12am (Europe/Berlin)",
            Some("seven_day"),
            Some("2026-01-15T23:00:00Z"),
        );
        check_limit("You've hit your weekly limit · resets Jan 2, 9am (UTC)", Some("seven_day"), Some("2027-01-02T09:00:00Z"));
        check_limit("Claude AI usage limit reached|1768400000", None, Some("2026-01-14T14:13:20Z"));
        check_limit("5-hour limit reached ∙ resets whenever", Some("five_hour"), None);
    }

    #[test]
    fn other_sentences_say_nothing_about_limits() {
        let at = Timestamp::from_secs(1_700_000_000);
        for sentence in ["", "Overloaded", "limit", "the limit resets 99pm (Nowhere/Land)"] {
            assert_eq!(limit_notice(sentence, at), None, "{sentence}");
        }
    }
}
