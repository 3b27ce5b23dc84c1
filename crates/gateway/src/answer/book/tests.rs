use std::time::Duration;

use hyper::HeaderMap;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

fn at(seconds: u64) -> Timestamp {
    NOW.after(Duration::from_secs(seconds))
}

fn told(what: &[(&'static str, &str)], now: Timestamp) -> Option<Limits> {
    let headers: HeaderMap = what.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    Limits::read(&headers, now)
}

fn requests(remaining: &str) -> Option<Limits> {
    let reset = (NOW.as_secs() + 30).to_string();
    told(
        &[
            ("anthropic-ratelimit-requests-limit", "60"),
            ("anthropic-ratelimit-requests-remaining", remaining),
            ("anthropic-ratelimit-requests-reset", &reset),
        ],
        NOW,
    )
}

#[test]
fn classes_are_those_that_share_limits() {
    for (model, class) in [
        ("claude-opus-4-5-20251101", "opus-4"),
        ("claude-opus-4-8", "opus-4"),
        ("claude-opus-4", "opus-4"),
        ("claude-opus-40", "opus-40"),
        ("claude-opus-5-5", "opus-5-5"),
        ("claude-sonnet-4-5@20250929", "sonnet-4"),
        ("us.anthropic.claude-sonnet-4-6-v1:0", "sonnet-4"),
        ("claude-sonnet-5[1m]", "sonnet-5"),
        ("claude-haiku-4-5-20251001", "haiku-4-5"),
        ("claude-3-5-haiku-latest", "3-5-haiku"),
        ("claude-3-haiku-20240307", "3-haiku"),
        ("gpt-x", "gpt-x"),
        ("", ""),
    ] {
        assert_eq!(model_class(model), class, "{model}");
    }
    assert_eq!(model_class(&"é".repeat(100)).len(), CLASS_BYTES_MAX);
}

#[test]
fn counts_the_last_minute_and_no_more() {
    let book = LimitBook::default();
    let usage =
        Usage { input_tokens: 10, output_tokens: 3, cache_read_tokens: 1_000, cache_creation_tokens: 5, cache_creation_1h_tokens: 0 };
    for second in 0..90 {
        book.answered("k", "claude-opus-5", None, at(second));
        book.used("k", "claude-opus-5", &usage, at(second));
    }
    let view = &book.views(at(89))[0];
    assert_eq!((view.calls_last_minute, view.input_tokens_last_minute, view.output_tokens_last_minute), (60, 900, 180));
    assert_eq!(book.views(at(89 + 30))[0].calls_last_minute, 30);
    assert_eq!(book.views(at(1000))[0].calls_last_minute, 0);
    assert_eq!((view.told_at, view.exhausted_in_s, &*view.model_class), (None, None, "opus-5"));
}

#[test]
fn the_forecast_knows_that_limits_come_back() {
    let book = LimitBook::default();
    book.answered("k", "claude-opus-4-8", requests("40"), NOW);
    let forecast = |calls, now| book.forecast("k", "claude-opus-4-5", now, Rates { calls, ..Rates::default() });
    // Sixty a minute come back: of 180 a minute 120 are taken from the forty that remain.
    assert_eq!(forecast(180.0, NOW), Some((BucketName::Requests, 20)));
    assert_eq!(forecast(60.0, NOW), None);
    assert_eq!(forecast(0.0, NOW), None);
    // Fifteen seconds later half of what was missing is back.
    assert_eq!(forecast(180.0, at(15)), Some((BucketName::Requests, 25)));
    assert_eq!(book.forecast("k", "claude-haiku-4-5", NOW, Rates { calls: 1e6, ..Rates::default() }), None);
    assert_eq!(book.forecast("other", "claude-opus-4-5", NOW, Rates { calls: 1e6, ..Rates::default() }), None);
}

#[test]
fn the_first_limit_to_be_reached_is_named() {
    let book = LimitBook::default();
    let limits = told(
        &[
            ("anthropic-ratelimit-requests-limit", "1000"),
            ("anthropic-ratelimit-requests-remaining", "500"),
            ("anthropic-ratelimit-output-tokens-limit", "600"),
            ("anthropic-ratelimit-output-tokens-remaining", "100"),
            ("anthropic-organization-id", "org"),
            ("anthropic-ratelimit-unified-5h-utilization", "0.5"),
        ],
        NOW,
    );
    book.answered("k", "m", limits, NOW);
    book.used("k", "m", &Usage { output_tokens: 1800, ..Usage::default() }, NOW);
    let view = &book.views(NOW)[0];
    assert_eq!((view.exhausted_first, view.exhausted_in_s), (Some(BucketName::OutputTokens), Some(5)));
    assert_eq!((view.organization.as_deref(), view.windows[0].used_share), (Some("org"), Some(0.5)));
    let stored = serde_json::to_value(view).unwrap();
    assert_eq!(stored["buckets"][1]["name"], "output-tokens");
    assert_eq!(&serde_json::from_value::<LimitView>(stored).unwrap(), view);
}

#[test]
fn a_refusal_that_names_no_limits_keeps_those_that_are_known() {
    let book = LimitBook::default();
    book.answered("k", "m", requests("40"), NOW);
    book.answered("k", "m", told(&[("retry-after", "20")], at(10)), at(10));
    book.answered("k", "m", None, at(10));
    let view = &book.views(at(12))[0];
    assert_eq!((view.wait_s, view.buckets[0].limit), (Some(18), Some(60)));
    assert_eq!(book.views(at(30))[0].wait_s, None);
    assert_eq!(book.latest("k", "m").unwrap().buckets[0].remaining, Some(40));
    // What is told anew replaces all of it.
    book.answered("k", "m", requests("39"), at(13));
    assert_eq!(book.views(at(13))[0].wait_s, None);
}

#[test]
fn the_one_that_was_silent_for_longest_gives_way() {
    let book = LimitBook::default();
    for n in 0..ENTRIES_MAX as u64 + 10 {
        book.answered("first", "m", None, at(n));
        book.answered(&format!("key {n}"), "m", requests("1"), at(n));
    }
    let views = book.views(NOW);
    assert_eq!((views.len(), book.dropped()), (ENTRIES_MAX, 11));
    assert!(book.latest("key 0", "m").is_none() && book.latest("key 520", "m").is_some());
    assert!(views.iter().any(|view| view.key == "first"));
    // Entries that took the place of others are found under their own name only.
    for view in &views {
        assert_eq!(book.latest(&view.key, "m").is_some(), view.key != "first", "{}", view.key);
    }
}
