//! The functions that templates may call.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, PoisonError};

use gotmpl::{FuncMap, TemplateError, Value};
use paramedic_promql::number::{format_general, parse_duration_ms, parse_float};
use paramedic_promql::{Labels, Point};

use super::humanize::{four_digits, humanize, humanize_1024, humanize_duration};
use super::rewrite::{ARGUMENT, BOUNDED, METHOD, OR_EMPTY, PRINTED};
use super::{OUTPUT_BYTES_MAX, Slot, label_map, text};

/// Marks a map that stands for a moment; its value is nanoseconds since 1970.
const TIME: &str = "__time";
/// Marks a map that stands for a span of time; its value is nanoseconds.
const SPAN: &str = "__span";
/// The largest product of lengths that a replacement may have.
const REPLACE_COST_MAX: usize = 16 * 1024 * 1024;

type Outcome = Result<Value, String>;

/// The functions of Go's templates that are there without us.
const BUILT_IN: &[&str] = &[
    "and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or", "print", "printf", "println", "slice",
    "urlquery",
];

/// Names of all functions a template may call.
pub(super) fn names() -> &'static BTreeSet<String> {
    static NAMES: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let ours = all(&Slot::default(), "").into_keys().filter(|name| !name.starts_with("__"));
        ours.chain(BUILT_IN.iter().map(|name| (*name).to_owned())).collect()
    });
    &NAMES
}

/// What an error says, without the words of the library.
pub(super) fn error_text(err: &TemplateError) -> String {
    match err {
        TemplateError::Exec(message) => message.clone(),
        TemplateError::Write => format!("the output is longer than {OUTPUT_BYTES_MAX} bytes"),
        other => other.to_string(),
    }
}

/// All functions; those that ask for series do so through the slot.
pub(super) fn all(slot: &Slot, external_url: &str) -> FuncMap {
    let mut map = FuncMap::new();
    values(&mut map);
    numbers(&mut map);
    texts(&mut map);
    links(&mut map, external_url);
    scene(&mut map, slot);
    internal(&mut map);
    map
}

fn add(map: &mut FuncMap, name: &'static str, arguments: usize, function: impl Fn(&[Value]) -> Outcome + Send + Sync + 'static) {
    let checked = move |args: &[Value]| {
        if args.len() != arguments {
            let message = format!("wrong number of args for {name}: want {arguments} got {}", args.len());
            return Err(TemplateError::Exec(message));
        }
        function(args).map_err(|message| TemplateError::Exec(format!("error calling {name}: {message}")))
    };
    map.insert(name.to_owned(), Arc::new(checked));
}

fn string(value: &Value) -> Result<&str, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Nil => Ok(""),
        other => Err(format!("wrong type for value; expected string; got {}", other.type_name())),
    }
}

fn float(value: &Value) -> Result<f64, String> {
    match value {
        Value::Float(value) => Ok(*value),
        Value::Int(value) => Ok(*value as f64),
        Value::Uint(value) => Ok(*value as f64),
        Value::String(text) => parse_float(text).ok_or_else(|| format!("strconv.ParseFloat: parsing {text:?}: invalid syntax")),
        Value::Map(map) => match map.get(SPAN) {
            Some(Value::Int(nanos)) => Ok(*nanos as f64 / 1e9),
            _ => Err("can't convert map to float".to_owned()),
        },
        other => Err(format!("can't convert {} to float", other.type_name())),
    }
}

fn elements(value: &Value) -> Result<&[Value], String> {
    match value {
        Value::List(items) => Ok(items),
        other => Err(format!("wrong type for value; expected a vector; got {}", other.type_name())),
    }
}

fn element_label(element: &Value, name: &str) -> Result<Value, String> {
    match element.field("Labels") {
        Some(labels) => Ok(labels.field(name).cloned().unwrap_or_else(|| text(""))),
        None => Err(format!("wrong type for value; expected a sample; got {}", element.type_name())),
    }
}

/// Functions of the elements of a vector.
fn values(map: &mut FuncMap) {
    add(map, "first", 1, |args| elements(&args[0])?.first().cloned().ok_or_else(|| "first() called on vector with no elements".to_owned()));
    add(map, "label", 2, |args| element_label(&args[1], string(&args[0])?));
    add(map, "value", 1, |args| {
        args[0].field("Value").cloned().ok_or_else(|| format!("wrong type for value; expected a sample; got {}", args[0].type_name()))
    });
    add(map, "strvalue", 1, |args| element_label(&args[0], "__value__"));
    add(map, "sortByLabel", 2, |args| {
        let name = string(&args[0])?;
        let mut sorted = elements(&args[1])?.to_vec();
        let key = |element: &Value| element_label(element, name).ok().and_then(|value| value.as_str().map(str::to_owned));
        sorted.sort_by_cached_key(key);
        Ok(Value::List(sorted.into()))
    });
    map.insert(
        "args".to_owned(),
        Arc::new(|args: &[Value]| {
            let named: BTreeMap<Arc<str>, Value> =
                args.iter().enumerate().map(|(i, value)| (Arc::from(format!("arg{i}")), value.clone())).collect();
            Ok(Value::Map(Arc::new(named)))
        }),
    );
}

fn timestamp(value: f64) -> Result<Option<i64>, String> {
    if !value.is_finite() {
        return Ok(None);
    }
    let nanos = value * 1e9;
    if nanos.abs() > i64::MAX as f64 {
        return Err(format!("{} cannot be represented as a nanoseconds timestamp since it overflows int64", format_general(value)));
    }
    // Prometheus keeps milliseconds.
    Ok(Some((nanos as i64).div_euclid(1_000_000).saturating_mul(1_000_000)))
}

/// Functions that write numbers.
fn numbers(map: &mut FuncMap) {
    add(map, "humanize", 1, |args| Ok(text(&humanize(float(&args[0])?))));
    add(map, "humanize1024", 1, |args| Ok(text(&humanize_1024(float(&args[0])?))));
    add(map, "humanizeDuration", 1, |args| Ok(text(&humanize_duration(float(&args[0])?))));
    add(map, "humanizePercentage", 1, |args| Ok(text(&format!("{}%", four_digits(float(&args[0])? * 100.0)))));
    add(map, "humanizeTimestamp", 1, |args| {
        let value = float(&args[0])?;
        Ok(text(&timestamp(value)?.map_or_else(|| four_digits(value), show_time)))
    });
    add(map, "toTime", 1, |args| Ok(timestamp(float(&args[0])?)?.map_or(Value::Nil, time_value)));
    add(map, "toDuration", 1, |args| {
        let nanos = float(&args[0])? * 1e9;
        Ok(Value::Map(Arc::new(BTreeMap::from([(Arc::from(SPAN), Value::Int(nanos as i64))]))))
    });
    add(map, "parseDuration", 1, |args| {
        let written = string(&args[0])?;
        let ms = parse_duration_ms(written).ok_or_else(|| format!("not a valid duration string: {written:?}"))?;
        Ok(Value::Float(ms as f64 / 1_000.0))
    });
}

fn time_value(nanos: i64) -> Value {
    let mut fields =
        BTreeMap::from([(Arc::from(TIME), Value::Int(nanos)), (Arc::from("Unix"), Value::Int(nanos.div_euclid(1_000_000_000)))]);
    if let Some(at) = civil(nanos) {
        let numbers = [
            ("Year", i64::from(at.year())),
            ("Day", i64::from(at.day())),
            ("Hour", i64::from(at.hour())),
            ("Minute", i64::from(at.minute())),
            ("Second", i64::from(at.second())),
            ("YearDay", i64::from(at.day_of_year())),
        ];
        fields.extend(numbers.map(|(name, number)| (Arc::from(name), Value::Int(number))));
        fields.insert(Arc::from("Month"), text(&at.strftime("%B").to_string()));
        fields.insert(Arc::from("Weekday"), text(&at.strftime("%A").to_string()));
    }
    fields.insert(Arc::from("String"), text(&show_time(nanos)));
    Value::Map(Arc::new(fields))
}

fn civil(nanos: i64) -> Option<jiff::Zoned> {
    Some(jiff::Timestamp::from_nanosecond(i128::from(nanos)).ok()?.to_zoned(jiff::tz::TimeZone::UTC))
}

/// As Go prints a time: `2015-09-30 13:40:00.5 +0000 UTC`.
fn show_time(nanos: i64) -> String {
    let fraction = match nanos.rem_euclid(1_000_000_000) {
        0 => String::new(),
        nanos => format!(".{nanos:09}").trim_end_matches('0').to_owned(),
    };
    civil(nanos).map_or_else(|| nanos.to_string(), |at| format!("{}{fraction} +0000 UTC", at.strftime("%Y-%m-%d %H:%M:%S")))
}

/// A time in a layout of Go, which is the reference time written out.
fn format_time(nanos: i64, layout: &str) -> String {
    const PARTS: [(&str, &str); 19] = [
        ("2006", "%Y"),
        ("January", "%B"),
        ("Monday", "%A"),
        ("Jan", "%b"),
        ("Mon", "%a"),
        ("MST", "UTC"),
        ("Z07:00", "Z"),
        ("-07:00", "+00:00"),
        ("-0700", "+0000"),
        ("01", "%m"),
        ("02", "%d"),
        ("03", "%I"),
        ("04", "%M"),
        ("05", "%S"),
        ("06", "%y"),
        ("15", "%H"),
        ("PM", "%p"),
        ("2", "%-d"),
        ("1", "%-m"),
    ];
    let Some(at) = civil(nanos) else { return String::new() };
    let (mut rest, mut format) = (layout, String::new());
    while let Some(c) = rest.chars().next() {
        if let Some((part, directive)) = PARTS.iter().find(|(part, _)| rest.starts_with(part)) {
            format.push_str(directive);
            rest = &rest[part.len()..];
        } else {
            format.push_str(if c == '%' { "%%" } else { &rest[..c.len_utf8()] });
            rest = &rest[c.len_utf8()..];
        }
    }
    at.strftime(&format).to_string()
}

/// As Go prints a duration: `1h2m3.5s`.
fn show_span(nanos: i64) -> String {
    let (sign, nanos) = if nanos < 0 { ("-", nanos.unsigned_abs()) } else { ("", nanos.unsigned_abs()) };
    let decimal = |value: u64, unit: u64, name: &str| {
        let fraction = format!("{:.9}", (value % unit) as f64 / unit as f64);
        format!("{}{}{name}", value / unit, fraction[1..].trim_end_matches('0').trim_end_matches('.'))
    };
    let seconds = nanos / 1_000_000_000;
    let body = match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => decimal(nanos, 1_000, "µs"),
        1_000_000..1_000_000_000 => decimal(nanos, 1_000_000, "ms"),
        _ if seconds < 60 => decimal(nanos, 1_000_000_000, "s"),
        _ => {
            let rest = decimal(nanos % 60_000_000_000, 1_000_000_000, "s");
            let minutes = seconds / 60;
            if minutes < 60 { format!("{minutes}m{rest}") } else { format!("{}h{}m{rest}", minutes / 60, minutes % 60) }
        }
    };
    format!("{sign}{body}")
}

/// Functions of texts.
fn texts(map: &mut FuncMap) {
    add(map, "toUpper", 1, |args| Ok(text(&string(&args[0])?.to_uppercase())));
    add(map, "toLower", 1, |args| Ok(text(&string(&args[0])?.to_lowercase())));
    add(map, "title", 1, |args| Ok(text(&title(string(&args[0])?))));
    add(map, "safeHtml", 1, |args| Ok(text(string(&args[0])?)));
    add(map, "match", 2, |args| Ok(Value::Bool(regex(string(&args[0])?)?.is_match(string(&args[1])?))));
    add(map, "reReplaceAll", 3, |args| {
        let (pattern, replacement, subject) = (string(&args[0])?, string(&args[1])?, string(&args[2])?);
        if (subject.len() + 1).saturating_mul(replacement.len() + 1) > REPLACE_COST_MAX {
            return Err("the texts are too long".to_owned());
        }
        Ok(text(&regex(pattern)?.replace_all(subject, replacement)))
    });
    add(map, "stripPort", 1, |args| {
        let address = string(&args[0])?;
        Ok(text(split_host_port(address).map_or(address, |(host, _)| host)))
    });
    add(map, "stripDomain", 1, |args| {
        let address = string(&args[0])?;
        let (host, port) = split_host_port(address).unwrap_or((address, ""));
        if host.parse::<IpAddr>().is_ok() {
            return Ok(text(address));
        }
        let host = host.split('.').next().unwrap_or_default();
        Ok(text(&if port.is_empty() { host.to_owned() } else { format!("{host}:{port}") }))
    });
    add(map, "urlQueryEscape", 1, |args| Ok(text(&gotmpl::url_encode(string(&args[0])?))));
    // Go gives the zero value, here the empty text, for a key that is not there.
    map.insert(
        "index".to_owned(),
        Arc::new(|args: &[Value]| {
            let (mut value, keys) = match args.split_first() {
                Some((value, keys)) => (value.clone(), keys),
                None => return Err(TemplateError::Exec("wrong number of args for index: want at least 1 got 0".to_owned())),
            };
            for key in keys {
                let is_map = matches!(value, Value::Map(_));
                value = value.index(key)?;
                if is_map && matches!(value, Value::Nil) {
                    value = text("");
                }
            }
            Ok(value)
        }),
    );
}

fn regex(pattern: &str) -> Result<regex::Regex, String> {
    regex::RegexBuilder::new(pattern).size_limit(1 << 20).build().map_err(|err| format!("error parsing regexp: {err}"))
}

/// Every word begins with a capital.
fn title(words: &str) -> String {
    let mut before = ' ';
    let mut titled = String::with_capacity(words.len());
    for c in words.chars() {
        let inside = before.is_alphanumeric() || before == '_' || (!before.is_ascii() && !before.is_whitespace());
        if inside {
            titled.push(c)
        } else {
            titled.extend(c.to_uppercase())
        }
        before = c;
    }
    titled
}

/// Host and port of an address that has both.
fn split_host_port(address: &str) -> Option<(&str, &str)> {
    let (host, port) = address.rsplit_once(':')?;
    if let Some(inner) = host.strip_prefix('[') {
        return Some((inner.strip_suffix(']')?, port));
    }
    (!host.contains([':', '[', ']'])).then_some((host, port))
}

/// Functions about our own address.
fn links(map: &mut FuncMap, external_url: &str) {
    let url = external_url.to_owned();
    add(map, "externalURL", 0, move |_| Ok(text(&url)));
    let path = external_url.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| rest[at..].to_owned())).unwrap_or_default();
    add(map, "pathPrefix", 0, move |_| Ok(text(path.split(['?', '#']).next().unwrap_or_default())));
    add(map, "tableLink", 1, |args| Ok(text(&format!("/graph?g0.expr={}&g0.tab=1", gotmpl::url_encode(string(&args[0])?)))));
    add(map, "graphLink", 1, |args| Ok(text(&format!("/graph?g0.expr={}&g0.tab=0", gotmpl::url_encode(string(&args[0])?)))));
}

fn element(labels: &Labels, point: &Point) -> Value {
    let value = match point {
        Point::Float(value) => Value::Float(*value),
        Point::Histogram(histogram) => text(&histogram.to_string()),
    };
    Value::Map(Arc::new(BTreeMap::from([(Arc::from("Labels"), label_map(labels)), (Arc::from("Value"), value)])))
}

/// Functions about the evaluation that is going on.
fn scene(map: &mut FuncMap, slot: &Slot) {
    let current = |slot: &Slot| {
        let scene = slot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        scene.ok_or_else(|| "no evaluation is going on".to_owned())
    };
    let asked = Arc::clone(slot);
    add(map, "query", 1, move |args| {
        let found = (current(&asked)?.ask)(string(&args[0])?)?;
        Ok(Value::List(found.iter().map(|(labels, point)| element(labels, point)).collect()))
    });
    let asked = Arc::clone(slot);
    add(map, "now", 0, move |_| Ok(Value::Float(current(&asked)?.now_ms as f64 / 1_000.0)));
}

/// What the rewritten tree calls.
fn internal(map: &mut FuncMap) {
    add(map, OR_EMPTY, 1, |args| Ok(if matches!(args[0], Value::Nil) { text("") } else { args[0].clone() }));
    add(map, BOUNDED, 1, |args| match &args[0] {
        Value::String(text) if text.len() > OUTPUT_BYTES_MAX => Err(format!("a text is longer than {OUTPUT_BYTES_MAX} bytes")),
        value => Ok(value.clone()),
    });
    add(map, PRINTED, 1, |args| {
        let mut printed = String::new();
        print(&args[0], &mut printed, true);
        Ok(Value::String(printed.into()))
    });
    add(map, ARGUMENT, 3, |args| {
        let (Value::String(format), Value::Int(place), Value::Float(value)) = (&args[0], &args[1], &args[2]) else {
            return Ok(args[2].clone());
        };
        let is_plain = usize::try_from(*place).ok().and_then(|place| verb(format, place)) == Some('v');
        Ok(if is_plain { text(&format_general(*value)) } else { args[2].clone() })
    });
    map.insert(
        METHOD.to_owned(),
        Arc::new(|args: &[Value]| {
            let failed = |message: &str| Err(TemplateError::Exec(message.to_owned()));
            let (Some(value), Some(Value::String(name))) = (args.first(), args.get(1)) else { return failed("no method") };
            match (value.field(TIME), &**name, &args[2..]) {
                (Some(Value::Int(nanos)), "Format", [Value::String(layout)]) => Ok(text(&format_time(*nanos, layout))),
                _ => failed(&format!("{name} is not a method but has arguments")),
            }
        }),
    );
}

/// The verb with which a format prints an argument; `None` for formats that name their arguments by number.
fn verb(format: &str, place: usize) -> Option<char> {
    let mut chars = format.chars();
    let mut next = 0;
    while let Some(c) = chars.next() {
        if c != '%' {
            continue;
        }
        loop {
            match chars.next()? {
                '%' => break,
                '+' | '-' | '#' | ' ' | '.' | '0'..='9' => {}
                '*' => next += 1,
                '[' => return None,
                found if next == place => return Some(found),
                _ => {
                    next += 1;
                    break;
                }
            }
        }
    }
    None
}

/// As Go prints a value; `top` is a value that is printed by itself.
fn print(value: &Value, out: &mut String, top: bool) {
    if out.len() > OUTPUT_BYTES_MAX {
        return;
    }
    match value {
        Value::Nil => out.push_str(if top { "<no value>" } else { "<nil>" }),
        Value::Float(value) => out.push_str(&format_general(*value)),
        Value::List(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { " " } else { "" });
                print(item, out, false);
            }
            out.push(']');
        }
        Value::Map(map) => match (map.get(TIME), map.get(SPAN)) {
            (Some(Value::Int(nanos)), _) => out.push_str(&show_time(*nanos)),
            (_, Some(Value::Int(nanos))) => out.push_str(&show_span(*nanos)),
            _ => {
                out.push_str("map[");
                for (i, (name, item)) in map.iter().enumerate() {
                    out.push_str(if i > 0 { " " } else { "" });
                    out.push_str(name);
                    out.push(':');
                    print(item, out, false);
                }
                out.push(']');
            }
        },
        other => out.push_str(&other.to_string()),
    }
}
