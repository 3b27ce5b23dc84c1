//! Thresholds of the embedded rules: named places in their text, each with a default.
//!
//! `${name:default}` becomes the number of the settings, or the default. A default with a unit of time (`1h`) makes the
//! number seconds.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;

static PLACE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\$\{([a-z][a-z0-9_]*):([-+]?[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?)(ms|[smhdwy])?\}").ok());

/// Fills the places of a text.
pub fn fill(text: &str, thresholds: &BTreeMap<String, f64>) -> String {
    let Some(place) = &*PLACE else { return text.to_owned() };
    let value = |found: &regex::Captures<'_>| {
        let unit = found.get(3).map(|unit| unit.as_str());
        match (thresholds.get(&found[1]), unit) {
            (None, unit) => format!("{}{}", &found[2], unit.unwrap_or_default()),
            (Some(number), None) => format!("{number}"),
            (Some(seconds), Some(_)) => format!("{}ms", (seconds * 1_000.0).max(1.0) as i64),
        }
    };
    place.replace_all(text, value).into_owned()
}

/// The names of a text's places with their defaults.
pub fn names(text: &str) -> BTreeMap<String, String> {
    let Some(place) = &*PLACE else { return BTreeMap::new() };
    let default =
        |found: regex::Captures<'_>| (found[1].to_owned(), format!("{}{}", &found[2], found.get(3).map_or("", |unit| unit.as_str())));
    place.captures_iter(text).map(default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled() {
        let thresholds = BTreeMap::from([("high".to_owned(), 0.25), ("span".to_owned(), 90.0)]);
        for (text, filled) in [
            ("x > ${high:0.1}", "x > 0.25"),
            ("x > ${low:1e3} - ${low:1e3}", "x > 1e3 - 1e3"),
            ("x[${span:1h}] ${other:5m}", "x[90000ms] 5m"),
            ("reReplaceAll \"(.)\" \"${1}\" ${HOME} ${a:b}", "reReplaceAll \"(.)\" \"${1}\" ${HOME} ${a:b}"),
        ] {
            assert_eq!(fill(text, &thresholds), filled);
        }
        assert_eq!(names("${a:1} ${b:2h}"), BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2h".to_owned())]));
    }
}
