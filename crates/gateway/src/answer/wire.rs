//! The parts of the API's JSON that are looked at, read with tolerance: a field of another type than expected counts as
//! absent and takes nothing else with it. Only text that is no JSON at all is an error.

use std::fmt;
use std::marker::PhantomData;

use paramedic_model::limit::ID_BYTES_MAX;
use paramedic_model::{Usage, secret, text};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};

use super::Seen;

/// No count is larger: sums of them stay far from overflowing.
const COUNT_MAX: u64 = 1 << 40;
/// How much of an error's message is searched for secrets, so that one at the border of its head is masked too.
const MESSAGE_READ_BYTES: usize = 2 * 1024;
const MESSAGE_HEAD_BYTES: usize = 200;

/// `message_start`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Start {
    message: Object<Message>,
}

/// `message_delta`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Change {
    delta: Object<Stop>,
    usage: Object<Counts>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Stop {
    stop_reason: Text<ID_BYTES_MAX>,
}

/// A whole answer, the `message` of `message_start`, an error's body, and the `error` event.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Message {
    id: Text<ID_BYTES_MAX>,
    model: Text<ID_BYTES_MAX>,
    stop_reason: Text<ID_BYTES_MAX>,
    usage: Object<Counts>,
    error: Object<Failure>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Failure {
    #[serde(rename = "type")]
    kind: Text<ID_BYTES_MAX>,
    message: Text<MESSAGE_READ_BYTES>,
    details: Object<Details>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Details {
    error_code: Text<ID_BYTES_MAX>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Counts {
    input_tokens: Count,
    output_tokens: Count,
    cache_creation_input_tokens: Count,
    cache_read_input_tokens: Count,
    cache_creation: Object<Lifetimes>,
    server_tool_use: Object<ServerTools>,
    inference_geo: Text<ID_BYTES_MAX>,
    speed: Text<ID_BYTES_MAX>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Lifetimes {
    ephemeral_5m_input_tokens: Count,
    ephemeral_1h_input_tokens: Count,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ServerTools {
    web_search_requests: Count,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Block {
    delta: Object<Delta>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Delta {
    text: Length,
    thinking: Length,
    partial_json: Length,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Typed {
    #[serde(rename = "type")]
    kind: Text<64>,
}

/// Text that is no JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotJson;

fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<Option<T>, NotJson> {
    serde_json::from_slice::<Object<T>>(json).map(|object| object.0).map_err(|_| NotJson)
}

pub(super) fn message_start(json: &[u8], seen: &mut Seen) -> Result<(), NotJson> {
    if let Some(message) = read::<Start>(json)?.and_then(|start| start.message.0) {
        take_message(message, seen);
    }
    Ok(())
}

pub(super) fn message_delta(json: &[u8], seen: &mut Seen) -> Result<(), NotJson> {
    let Some(change) = read::<Change>(json)? else { return Ok(()) };
    if let Some(stop) = change.delta.0 {
        replace(&mut seen.stop_reason, stop.stop_reason.0);
    }
    if let Some(counts) = change.usage.0 {
        seen.output_is_exact |= counts.output_tokens.0.is_some();
        take_counts(counts, seen);
    }
    Ok(())
}

/// A whole body, and the `error` event.
pub(super) fn body(json: &[u8], seen: &mut Seen) -> Result<(), NotJson> {
    if let Some(message) = read::<Message>(json)? {
        take_message(message, seen);
    }
    Ok(())
}

/// The length of what a `content_block_delta` brought that the model wrote; signatures and citations are none of it.
pub(super) fn delta_bytes(json: &[u8]) -> Result<u64, NotJson> {
    let delta = read::<Block>(json)?.and_then(|block| block.delta.0).unwrap_or_default();
    Ok(delta.text.0 + delta.thinking.0 + delta.partial_json.0)
}

/// The `type` that an event without a name says of itself.
pub(super) fn type_of(json: &[u8]) -> Result<Option<Box<str>>, NotJson> {
    Ok(read::<Typed>(json)?.and_then(|typed| typed.kind.0))
}

fn take_message(message: Message, seen: &mut Seen) {
    replace(&mut seen.message_id, message.id.0);
    replace(&mut seen.model, message.model.0);
    replace(&mut seen.stop_reason, message.stop_reason.0);
    if let Some(counts) = message.usage.0 {
        take_counts(counts, seen);
    }
    if let Some(failure) = message.error.0 {
        replace(&mut seen.error_type, failure.kind.0);
        replace(&mut seen.error_code, failure.details.0.and_then(|details| details.error_code.0));
        let masked = failure.message.0.as_deref().map(secret::mask);
        replace(&mut seen.error_message_head, masked.map(|message| text::head(&message, MESSAGE_HEAD_BYTES).into()));
    }
}

fn take_counts(counts: Counts, seen: &mut Seen) {
    let lifetimes = counts.cache_creation.0.unwrap_or_default();
    let (short, long) = (lifetimes.ephemeral_5m_input_tokens.known(), lifetimes.ephemeral_1h_input_tokens.known());
    // The whole is what is paid for; its parts are sometimes told as less, and seldom without it.
    let creation = counts.cache_creation_input_tokens.known().max(short + long);
    let said = Usage {
        input_tokens: counts.input_tokens.known(),
        output_tokens: counts.output_tokens.known(),
        cache_read_tokens: counts.cache_read_input_tokens.known(),
        cache_creation_tokens: creation,
        cache_creation_1h_tokens: long,
    };
    seen.usage = seen.usage.largest(said);
    seen.web_searches = seen.web_searches.max(counts.server_tool_use.0.unwrap_or_default().web_search_requests.known());
    seen.fast |= counts.speed.0.as_deref() == Some("fast");
    // `not_available` and the like are no country.
    replace(&mut seen.geo, counts.inference_geo.0.filter(|geo| geo.len() == 2));
}

fn replace(kept: &mut Option<Box<str>>, said: Option<Box<str>>) {
    if said.is_some() {
        *kept = said;
    }
}

/// An object, or nothing where something else stands.
struct Object<T>(Option<T>);

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self(None)
    }
}

/// A string's first bytes in one line, or nothing.
#[derive(Default)]
struct Text<const BYTES_MAX: usize>(Option<Box<str>>);

/// A number that counts, or nothing.
#[derive(Default)]
struct Count(Option<u64>);

impl Count {
    fn known(&self) -> u64 {
        self.0.unwrap_or(0)
    }
}

/// The length of a string; 0 for anything else.
#[derive(Default)]
struct Length(u64);

/// What a type makes of each kind of JSON value; of what it does not name it makes its default.
trait Tolerant<'de>: Default {
    fn of_str(_: &str) -> Self {
        Self::default()
    }

    fn of_number(_: f64) -> Self {
        Self::default()
    }

    fn of_count(_: u64) -> Self {
        Self::default()
    }

    fn of_map<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }
}

impl<'de, T: Deserialize<'de>> Tolerant<'de> for Object<T> {
    fn of_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|object| Self(Some(object)))
    }
}

impl<const BYTES_MAX: usize> Tolerant<'_> for Text<BYTES_MAX> {
    fn of_str(said: &str) -> Self {
        Self(Some(text::one_line(text::head(said, BYTES_MAX)).into()))
    }
}

impl Tolerant<'_> for Count {
    fn of_count(count: u64) -> Self {
        Self(Some(count.min(COUNT_MAX)))
    }

    fn of_number(number: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "such a cast saturates")]
        let count = number as u64;
        Self(Some(count.min(COUNT_MAX)))
    }
}

impl Tolerant<'_> for Length {
    fn of_str(text: &str) -> Self {
        Self(text.len() as u64)
    }
}

struct Any<T>(PhantomData<T>);

impl<'de, T: Tolerant<'de>> Visitor<'de> for Any<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E>(self, text: &str) -> Result<T, E> {
        Ok(T::of_str(text))
    }

    fn visit_u64<E>(self, count: u64) -> Result<T, E> {
        Ok(T::of_count(count))
    }

    fn visit_i64<E>(self, _: i64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_f64<E>(self, number: f64) -> Result<T, E> {
        Ok(T::of_number(number))
    }

    fn visit_bool<E>(self, _: bool) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<T, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(T::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::of_map(map)
    }
}

macro_rules! reads_anything {
    ($([$($generic:tt)*] $type:ty),* $(,)?) => {$(
        impl<'de, $($generic)*> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Any(PhantomData))
            }
        }
    )*};
}

reads_anything! { [T: Deserialize<'de>] Object<T>, [const BYTES_MAX: usize] Text<BYTES_MAX>, [] Count, [] Length }

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Seen {
        let mut seen = Seen::default();
        body(json.as_bytes(), &mut seen).unwrap();
        seen
    }

    #[test]
    fn a_field_of_another_type_takes_nothing_else_with_it() {
        let seen = of(r#"{"id":5,"model":["x",{"y":1}],"stop_reason":{"a":[1]},"usage":{"input_tokens":"many","output_tokens":7.0,
            "cache_creation":[1,2],"cache_read_input_tokens":-4,"server_tool_use":null,"speed":true},"error":"none"}"#);
        assert_eq!(seen, Seen { usage: Usage { output_tokens: 7, ..Usage::default() }, ..Seen::default() });
        for nothing in ["null", "[]", "1", r#""x""#, "true", "-1", "{}"] {
            assert_eq!(of(nothing), Seen::default(), "{nothing}");
        }
        for broken in ["", "{", r#"{"id":}"#, "{} {}", "\u{feff}{}"] {
            assert_eq!(body(broken.as_bytes(), &mut Seen::default()), Err(NotJson), "{broken}");
        }
    }

    #[test]
    fn counts_cannot_overflow() {
        let most = u64::MAX;
        let seen = of(&format!(
            r#"{{"usage":{{"input_tokens":{most},"output_tokens":1e300,"cache_creation_input_tokens":{most},
            "cache_read_input_tokens":{most},"cache_creation":{{"ephemeral_5m_input_tokens":{most},"ephemeral_1h_input_tokens":{most}}}}}}}"#
        ));
        assert_eq!(seen.usage.total(), 5 * COUNT_MAX);
    }

    #[test]
    fn the_whole_of_a_cache_write_counts_where_its_parts_are_less() {
        let creation = |json: &str| (of(json).usage.cache_creation_tokens, of(json).usage.cache_creation_1h_tokens);
        let parts = r#""cache_creation":{"ephemeral_5m_input_tokens":30,"ephemeral_1h_input_tokens":50}"#;
        assert_eq!(creation(&format!(r#"{{"usage":{{"cache_creation_input_tokens":100,{parts}}}}}"#)), (100, 50));
        assert_eq!(creation(&format!(r#"{{"usage":{{{parts}}}}}"#)), (80, 50));
    }

    #[test]
    fn an_error_is_masked_and_cut() {
        let key = "sk-ant-api03-AbCdEf123456_xyzAbCdEf123456";
        let message = format!("{} {key} {}", "ä".repeat(90), "x".repeat(5000));
        let seen = of(&serde_json::json!({"type": "error", "error": {"type": "invalid_request_error", "message": message,
            "details": {"error_code": "c"}}})
        .to_string());
        let head = seen.error_message_head.unwrap();
        assert!(head.len() <= MESSAGE_HEAD_BYTES && head.contains("sk-ant-***") && !head.contains("AbCdEf"), "{head}");
        assert_eq!((seen.error_type.as_deref(), seen.error_code.as_deref()), (Some("invalid_request_error"), Some("c")));
    }
}
