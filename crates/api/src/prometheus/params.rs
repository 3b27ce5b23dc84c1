//! The parameters of a request: from its query and, where it has one, its form.

use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{RawPathParams, Request};
use axum::http::header;
use paramedic_model::Timestamp;
use paramedic_promql::number;

use crate::query::{Limits, QueryRefusal, RefusalKind, Selection};

/// The largest form, in bytes.
const FORM_BYTES_MAX: usize = 1024 * 1024;
/// The most parameters of one request.
const PARAMS_MAX: usize = 10_000;
/// The end of time where a request names none: far away, and still far from the limits of the number.
const TIME_MAX_MS: i64 = i64::MAX / 4;

/// Names and values, those of the form before those of the query.
pub(super) struct Params {
    pairs: Vec<(String, String)>,
    path: Vec<(String, String)>,
    /// What the client wants to read.
    pub(super) accept: String,
}

impl Params {
    pub(super) async fn of(path: &RawPathParams, request: Request) -> Result<Self, QueryRefusal> {
        let path = path.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let (accept, kind) = (text_of(&request, &header::ACCEPT), text_of(&request, &header::CONTENT_TYPE));
        let query = request.uri().query().unwrap_or("").to_owned();
        let mut pairs = Vec::new();
        if kind.starts_with("application/x-www-form-urlencoded") {
            let body = to_bytes(request.into_body(), FORM_BYTES_MAX).await;
            let body = body.map_err(|_| bad(format!("the form is larger than {FORM_BYTES_MAX} bytes")))?;
            decode(&String::from_utf8_lossy(&body), &mut pairs)?;
        }
        decode(&query, &mut pairs)?;
        Ok(Self { pairs, path, accept })
    }

    /// The first value of a parameter, or the empty text.
    pub(super) fn get(&self, name: &str) -> &str {
        self.pairs.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// All values of a parameter.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A part of the path.
    pub(super) fn path(&self, name: &str) -> &str {
        self.path.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    pub(super) fn time_ms(&self, name: &str) -> Result<i64, QueryRefusal> {
        let text = self.get(name);
        parse_time_ms(text).ok_or_else(|| QueryRefusal::parameter(name, format!("cannot parse {text:?} to a valid timestamp")))
    }

    pub(super) fn time_ms_or(&self, name: &str, default: i64) -> Result<i64, QueryRefusal> {
        if self.get(name).is_empty() { Ok(default) } else { self.time_ms(name) }
    }

    pub(super) fn duration_ms(&self, name: &str) -> Result<i64, QueryRefusal> {
        let text = self.get(name);
        parse_duration_ms(text).ok_or_else(|| QueryRefusal::parameter(name, format!("cannot parse {text:?} to a valid duration")))
    }

    /// The value of `limit`-like parameters; 0 means that there is none.
    pub(super) fn limit(&self, name: &str) -> Result<usize, QueryRefusal> {
        match self.get(name) {
            "" => Ok(usize::MAX),
            text => match text.parse::<i64>() {
                Ok(0) => Ok(usize::MAX),
                Ok(limit) if limit > 0 => Ok(usize::try_from(limit).unwrap_or(usize::MAX)),
                Ok(_) => Err(QueryRefusal::parameter(name, "limit must be non-negative")),
                Err(_) => Err(QueryRefusal::parameter(name, format!("cannot parse {text:?} to a valid number"))),
            },
        }
    }

    /// `timeout` and `lookback_delta`.
    pub(super) fn limits(&self) -> Result<Limits, QueryRefusal> {
        let mut limits = Limits::default();
        if !self.get("timeout").is_empty() {
            let ms = self.duration_ms("timeout")?;
            limits.timeout = Some(Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
        }
        if !self.get("lookback_delta").is_empty() {
            limits.lookback_ms = Some(self.duration_ms("lookback_delta")?).filter(|ms| *ms > 0);
        }
        Ok(limits)
    }

    /// `match[]`, `start`, `end` and `limit`.
    pub(super) fn selection(&self) -> Result<Selection, QueryRefusal> {
        let (from_ms, to_ms) = (self.time_ms_or("start", 0)?, self.time_ms_or("end", TIME_MAX_MS)?);
        if to_ms < from_ms {
            return Err(QueryRefusal::parameter("end", "end timestamp must not be before start time"));
        }
        Ok(Selection { selectors: self.all("match[]").map(str::to_owned).collect(), from_ms, to_ms, limit: self.limit("limit")? })
    }
}

fn text_of(request: &Request, name: &header::HeaderName) -> String {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned()
}

fn bad(message: impl Into<String>) -> QueryRefusal {
    QueryRefusal::new(RefusalKind::BadData, message)
}

/// Takes apart `a=b&c=d` with `+` and percent-encoding.
fn decode(text: &str, pairs: &mut Vec<(String, String)>) -> Result<(), QueryRefusal> {
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        if pairs.len() == PARAMS_MAX {
            return Err(bad(format!("more than {PARAMS_MAX} parameters")));
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((decode_component(name), decode_component(value)));
    }
    Ok(())
}

fn decode_component(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let [first, rest @ ..] = bytes {
        bytes = rest;
        match (*first, rest) {
            (b'+', _) => out.push(b' '),
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(hex(*high) << 4 | hex(*low));
                bytes = after;
            }
            (plain, _) => out.push(plain),
        }
    }
    String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn hex(digit: u8) -> u8 {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or(0)
}

/// A time as seconds since 1970 with a fraction, or as RFC 3339; in milliseconds.
#[must_use]
pub fn parse_time_ms(text: &str) -> Option<i64> {
    match text.parse::<f64>() {
        Ok(seconds) => to_ms(seconds),
        Err(_) => Timestamp::parse(text).map(Timestamp::as_millis),
    }
}

/// A duration as seconds with a fraction, or as `1h30m`; in milliseconds.
#[must_use]
pub fn parse_duration_ms(text: &str) -> Option<i64> {
    match text.parse::<f64>() {
        Ok(seconds) => to_ms(seconds),
        Err(_) => number::parse_duration_ms(text),
    }
}

fn to_ms(seconds: f64) -> Option<i64> {
    #[expect(clippy::cast_precision_loss, reason = "a bound")]
    let most = TIME_MAX_MS as f64;
    let ms = (seconds * 1_000.0).round();
    #[expect(clippy::cast_possible_truncation, reason = "within bounds")]
    (ms.abs() <= most).then_some(ms as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_durations_read_in_both_forms() {
        for (text, ms) in [
            ("1435781451.781", Some(1_435_781_451_781)),
            ("-1.5", Some(-1_500)),
            ("1e9", Some(1_000_000_000_000)),
            ("2015-07-01T20:10:51.781Z", Some(1_435_781_451_781)),
            ("2015-07-01T22:10:51.781+02:00", Some(1_435_781_451_781)),
            ("", None),
            ("now", None),
            ("NaN", None),
            ("inf", None),
            ("1e300", None),
        ] {
            assert_eq!(parse_time_ms(text), ms, "{text}");
        }
        for (text, ms) in
            [("15", Some(15_000)), ("0.25", Some(250)), ("15s", Some(15_000)), ("1h30m", Some(5_400_000)), ("x", None), ("1e400", None)]
        {
            assert_eq!(parse_duration_ms(text), ms, "{text}");
        }
    }

    #[test]
    fn forms_are_taken_apart() {
        let mut pairs = Vec::new();
        decode("query=up%7Bjob%3D%22a+b%22%7D&match[]=x&match%5B%5D=y&flag&bad=%zz%", &mut pairs).unwrap();
        let expect = [("query", "up{job=\"a b\"}"), ("match[]", "x"), ("match[]", "y"), ("flag", ""), ("bad", "%zz%")];
        assert_eq!(pairs, expect.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
