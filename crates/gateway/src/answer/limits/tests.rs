use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

fn headers(text: &str) -> HeaderMap {
    let line = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        (name.parse().unwrap(), value.trim().parse().unwrap())
    };
    text.lines()
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(line)
        .collect::<Vec<(hyper::header::HeaderName, _)>>()
        .into_iter()
        .collect()
}

fn read(text: &str) -> Limits {
    Limits::read(&headers(text), NOW).unwrap()
}

#[test]
fn reads_what_the_api_sends() {
    let limits = read(
        "anthropic-organization-id: 0f1e
         anthropic-ratelimit-requests-limit: 1000
         anthropic-ratelimit-requests-remaining: 999
         anthropic-ratelimit-requests-reset: 2026-09-21T13:33:21Z
         anthropic-ratelimit-input-tokens-limit: 2000000
         anthropic-ratelimit-input-tokens-remaining: 500000
         anthropic-ratelimit-input-tokens-reset: 2026-09-21T13:34:05.5+00:00
         anthropic-priority-output-tokens-limit: 10
         anthropic-fast-input-tokens-remaining: 4
         x-other: 1
         content-type: application/json",
    );
    assert_eq!(limits.organization.as_deref(), Some("0f1e"));
    let of = |name: BucketName| limits.buckets.iter().find(|bucket| bucket.name == name).copied();
    let requests = of(BucketName::Requests).unwrap();
    assert_eq!(
        (requests.limit, requests.remaining, requests.resets_at),
        (Some(1000), Some(999), Some(Timestamp::from_secs(1_789_997_601)))
    );
    assert_eq!(of(BucketName::PriorityOutputTokens).unwrap().limit, Some(10));
    assert_eq!(of(BucketName::FastInputTokens).unwrap().remaining, Some(4));
    assert_eq!(limits.buckets.len(), 4);
    let most = limits.most_used().unwrap();
    assert_eq!((&*most.name, most.share), ("input-tokens", 0.75));
    assert!(most.resets_at.is_some() && limits.unified.is_none() && limits.retry_after.is_none());
}

#[test]
fn reads_a_subscription() {
    let limits = read(
        "anthropic-ratelimit-unified-status: allowed_warning
         anthropic-ratelimit-unified-reset: 1790003600
         anthropic-ratelimit-unified-representative-claim: five_hour
         anthropic-ratelimit-unified-overage-disabled-reason: org_spend_cap_reached
         anthropic-ratelimit-unified-5h-status: allowed_warning
         anthropic-ratelimit-unified-5h-utilization: 0.82
         anthropic-ratelimit-unified-5h-reset: 1790003600
         anthropic-ratelimit-unified-7d-utilization: 0.3
         anthropic-ratelimit-unified-overage-status: rejected
         anthropic-ratelimit-unified-5h-surpassed-threshold: 0.75",
    );
    let most = limits.most_used().unwrap();
    assert_eq!((&*most.name, most.share), ("unified-overage", 1.0));
    let unified = limits.unified.unwrap();
    assert_eq!((unified.status.as_deref(), unified.claim.as_deref()), (Some("allowed_warning"), Some("five_hour")));
    assert_eq!(unified.overage_disabled_reason.as_deref(), Some("org_spend_cap_reached"));
    let five = unified.windows.iter().find(|window| &*window.name == "5h").unwrap();
    assert_eq!((five.utilization, five.resets_at), (Some(0.82), Some(Timestamp::from_secs(1_790_003_600))));
    assert_eq!(unified.windows.len(), 3);
}

#[test]
fn odd_values_count_as_absent() {
    for (value, expected) in
        [("17", Some(17)), ("17.9", Some(17)), ("-1", None), ("many", None), ("NaN", None), ("1e400", None), ("", None)]
    {
        let text = format!("retry-after: 1\nanthropic-ratelimit-tokens-limit: 5\nanthropic-ratelimit-tokens-remaining: {value}");
        assert_eq!(read(&text).buckets[0].remaining, expected, "{value}");
    }
    let far = NOW.as_secs() + 400 * 86_400;
    for value in ["soon", "-5", &far.to_string(), "99999999999999999999999", "2026-13-41T00:00:00Z", "0"] {
        let text = format!("anthropic-ratelimit-tokens-limit: 5\nanthropic-ratelimit-tokens-reset: {value}");
        assert_eq!(read(&text).buckets[0].resets_at, None, "{value}");
    }
    assert_eq!(read("anthropic-ratelimit-tokens-reset: 1790000060000").buckets[0].resets_at, Some(NOW.after(Duration::from_secs(60))));
    for nothing in ["x: y", "anthropic-organization-id: o", "anthropic-ratelimit-nonsense-limit: 4", "anthropic-ratelimit-tokens-limit: x"]
    {
        assert_eq!(Limits::read(&headers(nothing), NOW), None, "{nothing}");
    }
}

#[test]
fn windows_are_bounded() {
    let many: String = (0..1000).map(|n| format!("anthropic-ratelimit-unified-w{n}-utilization: 0.1\n")).collect();
    assert_eq!(read(&many).unified.unwrap().windows.len(), WINDOWS_MAX);
}

#[test]
fn waits_are_seconds_milliseconds_or_a_date() {
    for (text, wait) in [
        ("retry-after: 30", Some(30_000)),
        ("retry-after: 1.5", Some(1_500)),
        ("retry-after-ms: 250\nretry-after: 30", Some(250)),
        ("retry-after-ms: soon\nretry-after: 30", Some(30_000)),
        // 1790000000 is this moment; the date is ninety seconds later.
        ("retry-after: Mon, 21 Sep 2026 14:14:50 GMT", Some(90_000)),
        ("retry-after: Mon, 21 Sep 2020 14:14:50 GMT", Some(0)),
        ("retry-after: -3", None),
        ("retry-after: 1e12", None),
        ("retry-after: inf", None),
        ("retry-after: later", None),
    ] {
        assert_eq!(retry_after(&headers(text), NOW), wait.map(Duration::from_millis), "{text}");
    }
}

#[test]
fn what_was_used_comes_back_bit_by_bit() {
    let after = |seconds| NOW.after(Duration::from_secs(seconds));
    let bucket = Bucket { name: BucketName::Requests, limit: Some(100), remaining: Some(40), resets_at: Some(after(60)) };
    let remaining = |seconds| bucket.remaining_at(NOW, after(seconds));
    assert_eq!((remaining(0), remaining(30), remaining(60), remaining(600)), (Some(40), Some(70), Some(100), Some(100)));
    // A clock that stepped back, and a reset that was over when it was told.
    assert_eq!(bucket.remaining_at(NOW, NOW.before(Duration::from_secs(5))), Some(40));
    assert_eq!(Bucket { resets_at: Some(NOW.before(Duration::from_secs(1))), ..bucket }.remaining_at(NOW, NOW), Some(100));
    assert_eq!(Bucket { limit: None, ..bucket }.remaining_at(NOW, after(60)), Some(40));
    assert_eq!(Bucket { limit: Some(0), remaining: Some(0), ..bucket }.used_share(), None);
}
