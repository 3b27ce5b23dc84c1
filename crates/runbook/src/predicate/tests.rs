use paramedic_model::Timestamp;
use proptest::prelude::*;

use super::*;

fn facts() -> Facts {
    let mut facts = Facts::default();
    facts.set("value", 0.03);
    facts.set("exit", 0.0);
    facts.set("stdout", "PONG 429 rate_limit\nsecond");
    facts.set("empty", "");
    facts.set("nan", f64::NAN);
    facts.set("errs.top", "429");
    facts.set("replicas", "3");
    facts.set("changes.suspect", true);
    facts.documents.insert(String::new(), serde_json::json!({"a": {"b": "none", "n": 4, "null": null}}));
    facts.documents.insert("other".to_owned(), serde_json::json!([1, 2]));
    facts
}

fn check(text: &str, expect: &str) {
    let truth = Predicate::parse(text).unwrap_or_else(|error| panic!("{error}")).judge(&facts());
    let found = match &truth {
        Truth::Holds => "yes",
        Truth::Fails(_) => "no",
        Truth::Unknown(_) => "unknown",
    };
    assert_eq!(found, expect, "{text}: {truth:?}");
}

#[test]
fn conditions_are_answered_from_what_is_known() {
    let cases = [
        ("value < 0.05", "yes"),
        ("value < 0.05 && exit == 0", "yes"),
        ("value > 2 * 0.01 + 0.005", "yes"),
        ("stdout ~ 'PONG'", "yes"),
        ("stdout !~ '^PONG'", "no"),
        ("stdout ~ '(?m)^second$'", "yes"),
        ("errs.top ~ '429|rate'", "yes"),
        ("errs.top == 429", "yes"),
        ("errs.top == 'x'", "no"),
        ("replicas >= 3", "yes"),
        ("$replicas == 3", "yes"),
        ("json('/a/b') == 'none'", "yes"),
        ("json('/a/n') > 3", "yes"),
        ("json('/a/null') == 1", "unknown"),
        ("json('/nowhere') == 1", "unknown"),
        ("other.json('/1') == 2", "yes"),
        ("nothere.json('/1') == 2", "unknown"),
        ("changes.suspect", "yes"),
        ("!changes.suspect", "no"),
        ("not changes.suspect or exit == 0", "yes"),
        ("stdout", "unknown"),
        ("stdout == 5", "no"),
        ("stdout < 5", "unknown"),
        ("-exit == 0", "yes"),
        ("(exit == 0 || missing) && value < 1", "yes"),
        ("'b' > 'a'", "yes"),
        ("true", "yes"),
        ("false", "no"),
        ("empty", "no"),
    ];
    for (text, expect) in cases {
        check(text, expect);
    }
}

#[test]
fn what_is_not_known_never_opens_a_gate() {
    for text in [
        "missing == 1",
        "missing != 1",
        "!(missing == 1)",
        "!missing",
        "missing || value > 1",
        "missing && value < 1",
        "missing ~ 'x'",
        "missing !~ 'x'",
        "nan < 1",
        "nan != 1",
        "!(nan > 1)",
        "value / 0 > 1",
        "value * missing > 1",
    ] {
        check(text, "unknown");
    }
    check("missing && value > 1", "no");
    check("missing || value < 1", "yes");
}

#[test]
fn mistakes_are_named_with_their_place() {
    let cases = [
        ("", 1, "something to compare is missing"),
        ("value <", 8, "something to compare is missing"),
        ("value = 1", 7, "`=` compares nothing; equality is `==`"),
        ("value < 1 < 2", 11, "comparisons are not chained; join two with &&"),
        ("(value < 1", 11, "`)` is missing"),
        ("value < 1)", 10, "nothing more was expected here"),
        ("stdout ~ PONG", 10, "a pattern in quotes must follow"),
        ("stdout ~ '('", 10, "the pattern cannot be read: error: unclosed group"),
        ("stdout ~ '\\w{9000}{9000}'", 10, "the pattern cannot be read: Compiled regex exceeds size limit of 262144 bytes."),
        ("stdout == 'x", 11, "the quote is not closed"),
        ("value < 10m", 9, "a duration stands only behind `within` and `hold`"),
        ("value < 1 within 10m", 11, "times stand only in what verifies a step"),
        ("value < 1x", 9, "`1x` is neither a number nor a duration"),
        ("exec('rm')", 5, "`exec` is no function; the only one is json('/path')"),
        ("json(1)", 6, "json needs a path in quotes: json('/a/b')"),
        ("json('a')", 6, "a path begins with `/`"),
        ("value ; 1", 7, "`;` means nothing here"),
        ("&& 1", 1, "`&&` cannot begin a value"),
        ("ä < #", 5, "`#` means nothing here"),
    ];
    for (text, position, what) in cases {
        let error = Predicate::parse(text).expect_err(text);
        assert_eq!((error.position, error.what.as_str()), (position, what), "{text}");
    }
    for (text, what) in [("x within 1m within 2m", "`within` is given twice"), ("x within", "`within` needs a duration like 10m")] {
        assert_eq!(Verification::parse(text).expect_err(text).what, what);
    }
    assert!(Predicate::parse(&"(".repeat(200)).is_err());
    assert!(Predicate::parse(&"!".repeat(200)).is_err());
    assert!(Predicate::parse(&"-".repeat(200)).is_err());
    assert!(Predicate::parse(&"a".repeat(5000)).is_err());
}

#[test]
fn times_are_read() {
    let all = Verification::parse("ratio < 0.01 within 10m hold 2m").unwrap();
    assert_eq!((all.within.as_secs(), all.hold.as_secs(), all.condition.names()), (600, 120, vec!["ratio"]));
    assert_eq!(Verification::parse("ratio < 0.01").unwrap().within, Duration::ZERO);
    for (text, ms) in [
        ("500ms", Some(500)),
        ("1h30m", Some(5_400_000)),
        ("2d", Some(172_800_000)),
        ("10", None),
        ("", None),
        ("m", None),
        ("9999999999999999999s", None),
        ("900d", None),
    ] {
        assert_eq!(duration(text).map(|time| time.as_millis()), ms, "{text}");
    }
}

/// Looks at (second, holds); what the last one says.
fn watched(within: u64, hold: u64, looks: &[(i64, bool)]) -> Look {
    let mut watch = Watch::new(Duration::from_secs(within), Duration::from_secs(hold));
    let truth = |holds| if holds { Truth::Holds } else { Truth::Fails("found 1".to_owned()) };
    looks.iter().fold(Look::Met, |_, (second, holds)| watch.look(Timestamp::from_secs(1_000_000 + second), &truth(*holds)))
}

fn every(from: i64, to: i64, step: usize, holds: bool) -> Vec<(i64, bool)> {
    (from..=to).step_by(step).map(|second| (second, holds)).collect()
}

#[test]
fn a_condition_comes_true_in_time_and_stays() {
    assert_eq!(watched(0, 0, &[(0, true)]), Look::Met);
    assert!(matches!(watched(0, 0, &[(0, false)]), Look::Failed { .. }));
    assert!(matches!(watched(60, 0, &[(0, false), (5, false)]), Look::Again { .. }));
    assert_eq!(watched(60, 0, &[(0, false), (5, false), (10, true)]), Look::Met);
    let late = every(0, 66, 6, false);
    assert!(matches!(watched(60, 0, &late), Look::Failed { .. }), "the time is over");
    let mut held = every(0, 12, 6, false);
    held.extend(every(18, 48, 3, true));
    assert_eq!(watched(60, 30, &held), Look::Met);
    held.insert(8, (29, false));
    assert!(matches!(watched(60, 30, &held), Look::Again { .. }), "a break begins the hold anew: {held:?}");
}

#[test]
fn a_clock_that_is_set_neither_fulfils_nor_fails() {
    // Forward by a day between two looks: neither a hold of ten minutes, nor ten minutes of waiting.
    assert!(matches!(watched(600, 600, &[(0, true), (86_400, true)]), Look::Again { .. }));
    assert!(matches!(watched(600, 0, &[(0, false), (86_400, false)]), Look::Again { .. }));
    // Backward: nothing passes, nothing is lost.
    let mut looks = every(0, 20, 2, true);
    looks.extend(every(-86_400, -86_390, 2, true));
    assert_eq!(watched(60, 30, &looks), Look::Met);
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "[a-z0-9'\"()<>=!~&|.*/+ -]{0,60}") {
        if let Ok(read) = Verification::parse(&text) {
            let _ = read.condition.judge(&facts());
        }
    }

    #[test]
    fn any_unicode_is_answered(text in "\\PC{0,40}") {
        let _ = Verification::parse(&text);
    }
}
