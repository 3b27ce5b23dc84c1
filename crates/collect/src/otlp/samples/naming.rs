//! Names: from OpenTelemetry's to Prometheus's.
//!
//! The rules are those of the OpenTelemetry specification ("Prometheus and OpenMetrics Compatibility") as Prometheus 3
//! applies them.

use serde::Deserialize;

/// How names are translated; the words are Prometheus's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Translation {
    /// Other characters become `_`; unit and type are appended: `http.server.duration` in `s` is
    /// `http_server_duration_seconds`.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// Other characters become `_`; nothing is appended.
    UnderscoreEscapingWithoutSuffixes,
    /// Names stay as they are; unit and type are appended.
    #[serde(rename = "NoUTF8EscapingWithSuffixes")]
    NoUtf8EscapingWithSuffixes,
    /// Names stay as they are.
    NoTranslation,
}

impl Translation {
    const fn escapes(self) -> bool {
        matches!(self, Self::UnderscoreEscapingWithSuffixes | Self::UnderscoreEscapingWithoutSuffixes)
    }

    const fn appends(self) -> bool {
        matches!(self, Self::UnderscoreEscapingWithSuffixes | Self::NoUtf8EscapingWithSuffixes)
    }
}

/// What a name must know about its metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Gauge,
    /// A sum that only grows.
    Counter,
    Other,
}

/// The name of a metric; none when nothing readable is left of it.
#[must_use]
pub fn metric_name(name: &str, unit: &str, shape: Shape, translation: Translation) -> Option<String> {
    if !translation.escapes() {
        let named = if translation.appends() { suffixed(name, unit, shape) } else { name.to_owned() };
        return Some(named).filter(|name| !name.is_empty());
    }
    let named = if translation.appends() {
        tokens(name, unit, shape).join("_")
    } else {
        // Only what may not stand in a name separates; underscores stay as they are.
        let parts = name.split(|c: char| !(is_name_character(c) || c == '_'));
        parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_")
    };
    let named = if named.starts_with(|c: char| c.is_ascii_digit()) { format!("_{named}") } else { named };
    is_readable(&named, name).then_some(named)
}

/// The name of a label; none when nothing readable is left of it.
#[must_use]
pub fn label_name(name: &str, translation: Translation) -> Option<String> {
    if !translation.escapes() {
        return Some(name.to_owned()).filter(|name| !name.is_empty());
    }
    let mut label: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if label.starts_with(|c: char| c.is_ascii_digit()) {
        label.insert_str(0, "key_");
    } else if label.starts_with('_') && !label.starts_with("__") {
        label.insert_str(0, "key");
    }
    is_readable(&label, name).then_some(label)
}

/// The words for a unit, for metadata: `By/s` is `bytes_per_second`.
#[must_use]
pub fn unit_name(unit: &str) -> String {
    let (main, per) = unit_words(unit);
    [main, per].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_")
}

/// A name that translation left without any letter or digit says nothing.
fn is_readable(name: &str, before: &str) -> bool {
    !name.is_empty() && (name == before || name.chars().any(|c| c != '_'))
}

const fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

/// The parts of a name, with unit and type behind them unless they are there already.
fn tokens(name: &str, unit: &str, shape: Shape) -> Vec<String> {
    let split = name.split(|c: char| !is_name_character(c)).filter(|part| !part.is_empty());
    let mut tokens: Vec<String> = split.map(str::to_owned).collect();
    let (main, per) = unit_words(unit);
    let (mut main, mut per) = (clean(&main), clean(&per));
    if tokens.contains(&main) {
        main.clear();
    }
    if per == "per_" {
        per.clear();
    } else {
        trim_end(&mut per);
        if tokens.contains(&per) {
            per.clear();
        }
    }
    if !per.is_empty() {
        trim_end(&mut main);
    }
    tokens.extend([main, per].into_iter().filter(|word| !word.is_empty()));
    if shape == Shape::Counter {
        put_last(&mut tokens, "total");
    }
    // Units of `1` are common where things are counted; only a gauge is taken for a ratio.
    if shape == Shape::Gauge && unit == "1" {
        put_last(&mut tokens, "ratio");
    }
    tokens
}

fn put_last(tokens: &mut Vec<String>, word: &str) {
    tokens.retain(|token| token != word);
    tokens.push(word.to_owned());
}

fn trim_end(word: &mut String) {
    if word.ends_with('_') {
        word.pop();
    }
}

/// A unit with only what may stand in a name, and single underscores.
fn clean(unit: &str) -> String {
    let mut cleaned = String::with_capacity(unit.len());
    for c in unit.chars() {
        let c = if is_name_character(c) { c } else { '_' };
        if c != '_' || !cleaned.ends_with('_') {
            cleaned.push(c);
        }
    }
    cleaned.strip_prefix('_').map(str::to_owned).unwrap_or(cleaned)
}

/// Unit and type behind a name that is otherwise left as it is.
fn suffixed(name: &str, unit: &str, shape: Shape) -> String {
    let mut name = name;
    let (is_ratio, is_counter) = (shape == Shape::Gauge && unit == "1", shape == Shape::Counter);
    if is_ratio {
        name = without(name, "ratio");
    }
    if is_counter {
        name = without(name, "total");
    }
    let (main, per) = unit_words(unit);
    if !per.is_empty() {
        name = without(name, &per);
    }
    let mut named = name.to_owned();
    let ends =
        [(&*main, !main.is_empty() && !name.ends_with(&*main)), (&*per, !per.is_empty()), ("total", is_counter), ("ratio", is_ratio)];
    for (word, _) in ends.into_iter().filter(|(_, is_wanted)| *is_wanted) {
        named.push('_');
        named.push_str(word);
    }
    named
}

/// The name without an ending and the character before it.
fn without<'a>(name: &'a str, ending: &str) -> &'a str {
    let Some(before) = name.strip_suffix(ending) else { return name };
    let mut characters = before.chars();
    characters.next_back();
    if characters.as_str().is_empty() { name } else { characters.as_str() }
}

/// What a unit is called, and what it is divided by: `By/s` gives `bytes` and `per_second`. Braces are annotations and
/// no units.
fn unit_words(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let is_unit = |part: &&str| !part.is_empty() && !part.contains(['{', '}']);
    let main = Some(main.trim()).filter(is_unit).map_or("", main_word);
    let per = Some(per.trim()).filter(is_unit).map_or(String::new(), |per| format!("per_{}", per_word(per)));
    (main.to_owned(), per)
}

fn main_word(unit: &str) -> &str {
    match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "TiBy" => "tibibytes",
        "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "1" => "",
        "%" => "percent",
        other => other,
    }
}

fn per_word(unit: &str) -> &str {
    match unit {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        other => other,
    }
}
