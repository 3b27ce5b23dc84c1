//! OTLP values: read as what they mean, kept as JSON.

use std::borrow::Cow;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use paramedic_model::event::Attributes;
use paramedic_model::limit::{ATTRIBUTE_BYTES_MAX, ATTRIBUTES_MAX};
use serde_json::{Number, Value};

use super::{base64, clean};

/// How deep structured values are kept.
const DEPTH_MAX: usize = 8;
/// Length of an attribute's name.
const KEY_BYTES_MAX: usize = 256;

/// A value as text, whatever its type: the first element of a list, numbers as written.
pub(super) fn as_text(value: &AnyValue) -> Option<Cow<'_, str>> {
    Some(match value.value.as_ref()? {
        Any::StringValue(text) => Cow::Borrowed(text.as_str()),
        Any::IntValue(number) => Cow::Owned(number.to_string()),
        Any::DoubleValue(number) => Cow::Owned(number.to_string()),
        Any::BoolValue(flag) => Cow::Borrowed(if *flag { "true" } else { "false" }),
        Any::ArrayValue(list) => {
            let first = list.values.first().filter(|first| !matches!(first.value, Some(Any::ArrayValue(_))))?;
            return as_text(first);
        }
        Any::KvlistValue(_) | Any::BytesValue(_) | Any::StringValueStrindex(_) => return None,
    })
    .filter(|text| !text.is_empty())
}

pub(super) fn as_integer(value: &AnyValue) -> Option<i64> {
    match value.value.as_ref()? {
        Any::IntValue(number) => Some(*number),
        Any::DoubleValue(number) => from_double(*number),
        Any::StringValue(text) => text.trim().parse().ok().or_else(|| from_double(text.trim().parse().ok()?)),
        _ => None,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn from_double(number: f64) -> Option<i64> {
    (number.is_finite() && number.abs() < 9.0e18).then_some(number as i64)
}

/// Finite numbers only: JSON cannot carry the others.
#[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 do not occur")]
pub(super) fn as_float(value: &AnyValue) -> Option<f64> {
    match value.value.as_ref()? {
        Any::IntValue(number) => Some(*number as f64),
        Any::DoubleValue(number) => Some(*number),
        Any::StringValue(text) => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|number| number.is_finite())
}

pub(super) fn as_bool(value: &AnyValue) -> Option<bool> {
    match value.value.as_ref()? {
        Any::BoolValue(flag) => Some(*flag),
        Any::IntValue(number) => Some(*number != 0),
        Any::StringValue(text) if text.eq_ignore_ascii_case("true") || text == "1" => Some(true),
        Any::StringValue(text) if text.eq_ignore_ascii_case("false") || text == "0" => Some(false),
        _ => None,
    }
}

/// Moves attributes into the bag, masked and bounded; returns how many found no room.
pub(super) fn keep(attributes: Vec<KeyValue>, bag: &mut Attributes) -> u64 {
    let mut dropped = 0;
    for KeyValue { key, value, .. } in attributes {
        if bag.len() >= ATTRIBUTES_MAX && !bag.contains_key(&key) {
            dropped += 1;
            continue;
        }
        let key = if key.len() <= KEY_BYTES_MAX { key } else { paramedic_model::text::head(&key, KEY_BYTES_MAX).to_owned() };
        let value = into_json(&key, value.unwrap_or_default());
        bag.insert(key, value);
    }
    dropped
}

/// One value as JSON, masked and bounded.
pub(super) fn into_json(key: &str, value: AnyValue) -> Value {
    match value.value {
        None => Value::Null,
        Some(Any::StringValue(text)) => Value::String(clean::attribute(key, text)),
        Some(Any::IntValue(number)) => number.into(),
        Some(Any::DoubleValue(number)) => double(number),
        Some(Any::BoolValue(flag)) => Value::Bool(flag),
        Some(Any::StringValueStrindex(index)) => index.into(),
        structured => {
            let mut room = ATTRIBUTE_BYTES_MAX;
            nested(key, AnyValue { value: structured }, &mut room, 0)
        }
    }
}

/// JSON has no `NaN` and no infinity: they are kept as words.
pub(super) fn double(number: f64) -> Value {
    Number::from_f64(number).map_or_else(|| Value::String(number.to_string()), Value::Number)
}

/// Structured values share one allowance of bytes; what does not fit is left out and marked.
fn nested(key: &str, value: AnyValue, room: &mut usize, depth: usize) -> Value {
    let cut = || Value::String("…".to_owned());
    if *room == 0 || depth > DEPTH_MAX {
        return cut();
    }
    *room = room.saturating_sub(8);
    match value.value {
        Some(Any::StringValue(text)) => {
            let text = clean::attribute(key, text);
            let kept = paramedic_model::text::head(&text, *room);
            *room = room.saturating_sub(kept.len());
            if kept.len() == text.len() { Value::String(text) } else { Value::String(format!("{kept}…")) }
        }
        Some(Any::BytesValue(bytes)) => {
            let text = base64::encode(&bytes[..bytes.len().min(*room / 4 * 3)]);
            *room = room.saturating_sub(text.len());
            Value::String(if bytes.len() * 4 / 3 > text.len() + 4 { format!("{text}…") } else { text })
        }
        Some(Any::ArrayValue(list)) => {
            let mut kept = Vec::new();
            for value in list.values {
                if *room == 0 {
                    kept.push(cut());
                    break;
                }
                kept.push(nested(key, value, room, depth + 1));
            }
            Value::Array(kept)
        }
        Some(Any::KvlistValue(list)) => {
            let mut kept = Attributes::new();
            for KeyValue { key, value, .. } in list.values {
                if *room == 0 {
                    kept.insert("…".to_owned(), Value::Null);
                    break;
                }
                let key = paramedic_model::text::head(&key, KEY_BYTES_MAX.min(*room)).to_owned();
                *room = room.saturating_sub(key.len());
                let value = nested(&key, value.unwrap_or_default(), room, depth + 1);
                kept.insert(key, value);
            }
            Value::Object(kept)
        }
        scalar => into_json(key, AnyValue { value: scalar }),
    }
}
