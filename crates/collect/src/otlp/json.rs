//! OTLP/JSON, read leniently into the types that protobuf is read into.
//!
//! Real senders write numbers as numbers or as strings, enumerations by name or by number, ids in hexadecimal or
//! base64, field names in camel case or snake case, and fields that we have never heard of. All of that is read.
//! A part of a wrong type is left out; only text that is not JSON at all, or whose lists are not lists, is refused.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::resource::v1::Resource;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::base64;
use super::convert::Group;

mod signals;

/// Memory that one request's tree may take: a few bytes of JSON must not become gigabytes.
const TREE_BYTES_MAX: usize = 512 * 1024 * 1024;

/// What is left of the memory for a request.
pub(super) struct Budget(Cell<usize>);

impl Budget {
    fn take<T, E: Error>(&self) -> Result<(), E> {
        let left = self.0.get().checked_sub(size_of::<T>()).ok_or_else(|| E::custom("the request holds too many parts"))?;
        self.0.set(left);
        Ok(())
    }
}

/// An object that is read field by field. A name comes in the form it was written in.
pub(super) trait Fields: Default {
    /// Reads the field's value, or says that the name is not known.
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A, budget: &Budget) -> Result<bool, A::Error>;
}

/// What a signal's tree is called at its four levels.
pub(super) trait Named {
    const GROUPS: [&'static str; 2];
    const SCOPES: [&'static str; 2];
    const ITEMS: [&'static str; 2];
}

/// Reads a whole request.
pub(super) fn decode<T: Fields + Named>(body: &[u8]) -> Result<Vec<Group<T>>, serde_json::Error> {
    let budget = Budget(Cell::new(TREE_BYTES_MAX));
    let mut json = serde_json::Deserializer::from_slice(body);
    let request = RequestSeed(&budget, PhantomData::<T>).deserialize(&mut json)?;
    json.end()?;
    Ok(request)
}

struct RequestSeed<'b, T>(&'b Budget, PhantomData<T>);

impl<'de, T: Fields + Named> DeserializeSeed<'de> for RequestSeed<'_, T> {
    type Value = Vec<Group<T>>;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de, T: Fields + Named> Visitor<'de> for RequestSeed<'_, T> {
    type Value = Vec<Group<T>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an OTLP request object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut groups = Vec::new();
        while let Some(name) = map.next_key_seed(Name)? {
            if T::GROUPS.contains(&name.as_ref()) {
                groups.append(&mut list::<Group<T>, A>(&mut map, self.0)?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(groups)
    }
}

impl<T: Fields + Named> Fields for Group<T> {
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A, budget: &Budget) -> Result<bool, A::Error> {
        if name == "resource" {
            self.resource = object::<Resource, A>(map, budget)?.attributes;
        } else if T::SCOPES.contains(&name) {
            self.scopes.extend(list::<Scoped<T>, A>(map, budget)?.into_iter().map(|scoped| (scoped.scope, scoped.items)));
        } else {
            return Ok(false);
        }
        Ok(true)
    }
}

struct Scoped<T> {
    scope: InstrumentationScope,
    items: Vec<T>,
}

impl<T> Default for Scoped<T> {
    fn default() -> Self {
        Self { scope: InstrumentationScope::default(), items: Vec::new() }
    }
}

impl<T: Fields + Named> Fields for Scoped<T> {
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A, budget: &Budget) -> Result<bool, A::Error> {
        if name == "scope" {
            self.scope = object(map, budget)?;
        } else if T::ITEMS.contains(&name) {
            self.items.append(&mut list(map, budget)?);
        } else {
            return Ok(false);
        }
        Ok(true)
    }
}

impl Fields for Resource {
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A, budget: &Budget) -> Result<bool, A::Error> {
        match name {
            "attributes" => self.attributes = attributes(map, budget)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Fields for InstrumentationScope {
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A, budget: &Budget) -> Result<bool, A::Error> {
        match name {
            "name" => self.name = text(map)?,
            "version" => self.version = text(map)?,
            "attributes" => self.attributes = attributes(map, budget)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Fields for KeyValue {
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A, budget: &Budget) -> Result<bool, A::Error> {
        match name {
            "key" => self.key = text(map)?,
            "value" => self.value = Some(map.next_value_seed(AnySeed(budget))?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// An object; `null` and values of another type give an empty one.
pub(super) fn object<'de, T: Fields, A: MapAccess<'de>>(map: &mut A, budget: &Budget) -> Result<T, A::Error> {
    map.next_value_seed(ObjectSeed(budget, PhantomData))
}

/// A list of objects; `null` gives an empty one.
pub(super) fn list<'de, T: Fields, A: MapAccess<'de>>(map: &mut A, budget: &Budget) -> Result<Vec<T>, A::Error> {
    map.next_value_seed(ListSeed(budget, PhantomData))
}

/// Attributes: a list of keys and values or, as some senders write it, a plain object.
pub(super) fn attributes<'de, A: MapAccess<'de>>(map: &mut A, budget: &Budget) -> Result<Vec<KeyValue>, A::Error> {
    map.next_value_seed(AttributesSeed(budget))
}

/// A string; numbers and booleans as they would be written, anything else as nothing.
pub(super) fn text<'de, A: MapAccess<'de>>(map: &mut A) -> Result<String, A::Error> {
    Ok(match map.next_value_seed(ScalarSeed)? {
        Scalar::Text(text) => text.into_owned(),
        Scalar::Signed(number) => number.to_string(),
        Scalar::Unsigned(number) => number.to_string(),
        Scalar::Double(number) => number.to_string(),
        Scalar::Flag(flag) => flag.to_string(),
        Scalar::Nothing => String::new(),
    })
}

/// A whole number, quoted or not.
pub(super) fn unsigned<'de, A: MapAccess<'de>>(map: &mut A) -> Result<u64, A::Error> {
    Ok(map.next_value_seed(ScalarSeed)?.unsigned())
}

pub(super) fn unsigned32<'de, A: MapAccess<'de>>(map: &mut A) -> Result<u32, A::Error> {
    Ok(u32::try_from(unsigned(map)?).unwrap_or(u32::MAX))
}

pub(super) fn signed32<'de, A: MapAccess<'de>>(map: &mut A) -> Result<i32, A::Error> {
    Ok(map.next_value_seed(ScalarSeed)?.signed().and_then(|number| i32::try_from(number).ok()).unwrap_or(0))
}

/// A number, quoted or not; `NaN` and `Infinity` come quoted. Nothing for `null`.
pub(super) fn double<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<f64>, A::Error> {
    Ok(map.next_value_seed(ScalarSeed)?.double())
}

pub(super) fn signed<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<i64>, A::Error> {
    Ok(map.next_value_seed(ScalarSeed)?.signed())
}

pub(super) fn flag<'de, A: MapAccess<'de>>(map: &mut A) -> Result<bool, A::Error> {
    Ok(map.next_value_seed(ScalarSeed)?.flag())
}

/// An enumeration by number, quoted number, or name; `number_of` knows the names.
pub(super) fn enumeration<'de, A: MapAccess<'de>>(map: &mut A, number_of: impl Fn(&str) -> Option<i32>) -> Result<i32, A::Error> {
    let scalar = map.next_value_seed(ScalarSeed)?;
    if let Scalar::Text(name) = &scalar
        && let Some(number) = number_of(name)
    {
        return Ok(number);
    }
    Ok(scalar.signed().and_then(|number| i32::try_from(number).ok()).unwrap_or(0))
}

/// A trace or span id of `length` bytes: hexadecimal as OTLP/JSON says, base64 as plain protobuf JSON would.
pub(super) fn id<'de, A: MapAccess<'de>>(map: &mut A, length: usize) -> Result<Vec<u8>, A::Error> {
    let Scalar::Text(text) = map.next_value_seed(ScalarSeed)? else { return Ok(Vec::new()) };
    if text.len() == length * 2
        && let Some(bytes) = hex(&text)
    {
        return Ok(bytes);
    }
    Ok(base64::decode(&text).filter(|bytes| bytes.len() == length).unwrap_or_default())
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

/// A list of numbers, each quoted or not.
pub(super) fn numbers<'de, N, A: MapAccess<'de>>(map: &mut A, budget: &Budget, read: fn(&Scalar<'_>) -> N) -> Result<Vec<N>, A::Error> {
    map.next_value_seed(NumbersSeed(budget, read))
}

/// One JSON scalar.
pub(super) enum Scalar<'de> {
    Text(Cow<'de, str>),
    Signed(i64),
    Unsigned(u64),
    Double(f64),
    Flag(bool),
    Nothing,
}

#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "ranges are checked")]
impl Scalar<'_> {
    pub(super) fn unsigned(&self) -> u64 {
        match self {
            Self::Unsigned(number) => *number,
            Self::Signed(number) => u64::try_from(*number).unwrap_or(0),
            Self::Double(number) if (0.0..1.8e19).contains(number) => *number as u64,
            Self::Text(text) => text.trim().parse().unwrap_or(0),
            _ => 0,
        }
    }

    fn signed(&self) -> Option<i64> {
        match self {
            Self::Signed(number) => Some(*number),
            Self::Unsigned(number) => i64::try_from(*number).ok(),
            Self::Double(number) if number.abs() < 9.0e18 => Some(*number as i64),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Flag(flag) => Some(i64::from(*flag)),
            _ => None,
        }
    }

    pub(super) fn double(&self) -> Option<f64> {
        match self {
            Self::Double(number) => Some(*number),
            Self::Signed(number) => Some(*number as f64),
            Self::Unsigned(number) => Some(*number as f64),
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    fn flag(&self) -> bool {
        match self {
            Self::Flag(flag) => *flag,
            Self::Text(text) => text.eq_ignore_ascii_case("true") || text == "1",
            other => other.signed().is_some_and(|number| number != 0),
        }
    }
}

/// A field's name, borrowed where it holds no escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// Gives the methods for the scalar types that a visitor takes no interest in.
macro_rules! other_types_give {
    ($default:expr, $($method:ident($type:ty)),*) => {
        $(fn $method<E: Error>(self, _: $type) -> Result<Self::Value, E> { Ok($default) })*
        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> { Ok($default) }
    };
}

fn drain<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

struct ScalarSeed;

impl<'de> DeserializeSeed<'de> for ScalarSeed {
    type Value = Scalar<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ScalarSeed {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Signed(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Unsigned(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Double(number))
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Flag(flag))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        drain(seq).map(|()| Scalar::Nothing)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Nothing)
    }

    other_types_give!(Scalar::Nothing,);
}

struct ObjectSeed<'b, T>(&'b Budget, PhantomData<T>);

impl<'de, T: Fields> DeserializeSeed<'de> for ObjectSeed<'_, T> {
    type Value = T;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<T, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de, T: Fields> Visitor<'de> for ObjectSeed<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut object = T::default();
        while let Some(name) = map.next_key_seed(Name)? {
            if !object.field(&name, &mut map, self.0)? {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(object)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<T, A::Error> {
        drain(seq).map(|()| T::default())
    }

    other_types_give!(T::default(), visit_str(&str), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_bool(bool));
}

struct ListSeed<'b, T>(&'b Budget, PhantomData<T>);

impl<'de, T: Fields> DeserializeSeed<'de> for ListSeed<'_, T> {
    type Value = Vec<T>;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Vec<T>, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de, T: Fields> Visitor<'de> for ListSeed<'_, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(ObjectSeed(self.0, PhantomData))? {
            self.0.take::<T, A::Error>()?;
            items.push(item);
        }
        Ok(items)
    }

    other_types_give!(Vec::new(),);
}

struct NumbersSeed<'b, N>(&'b Budget, fn(&Scalar<'_>) -> N);

impl<'de, N> DeserializeSeed<'de> for NumbersSeed<'_, N> {
    type Value = Vec<N>;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Vec<N>, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de, N> Visitor<'de> for NumbersSeed<'_, N> {
    type Value = Vec<N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<N>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(ScalarSeed)? {
            self.0.take::<N, A::Error>()?;
            items.push((self.1)(&item));
        }
        Ok(items)
    }

    other_types_give!(Vec::new(),);
}

struct AttributesSeed<'b>(&'b Budget);

impl<'de> DeserializeSeed<'de> for AttributesSeed<'_> {
    type Value = Vec<KeyValue>;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AttributesSeed<'_> {
    type Value = Vec<KeyValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("attributes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        ListSeed(self.0, PhantomData::<KeyValue>).visit_seq(seq)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut attributes = Vec::new();
        while let Some(key) = map.next_key_seed(Name)? {
            self.0.take::<KeyValue, A::Error>()?;
            let value = Some(map.next_value_seed(AnySeed(self.0))?);
            attributes.push(KeyValue { key: key.into_owned(), value, ..KeyValue::default() });
        }
        Ok(attributes)
    }

    other_types_give!(Vec::new(), visit_str(&str), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_bool(bool));
}

/// `{"stringValue": …}` and its kin; a plain scalar or list is taken as what it is.
struct AnySeed<'b>(&'b Budget);

impl<'de> DeserializeSeed<'de> for AnySeed<'_> {
    type Value = AnyValue;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<AnyValue, D::Error> {
        json.deserialize_any(self)
    }
}

const fn any(value: Any) -> AnyValue {
    AnyValue { value: Some(value) }
}

impl<'de> Visitor<'de> for AnySeed<'_> {
    type Value = AnyValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<AnyValue, E> {
        Ok(any(Any::StringValue(text.to_owned())))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<AnyValue, E> {
        Ok(any(Any::IntValue(number)))
    }

    #[expect(clippy::cast_precision_loss, reason = "a number beyond i64 has no exact form in OTLP")]
    fn visit_u64<E: Error>(self, number: u64) -> Result<AnyValue, E> {
        Ok(any(i64::try_from(number).map_or(Any::DoubleValue(number as f64), Any::IntValue)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<AnyValue, E> {
        Ok(any(Any::DoubleValue(number)))
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<AnyValue, E> {
        Ok(any(Any::BoolValue(flag)))
    }

    fn visit_unit<E: Error>(self) -> Result<AnyValue, E> {
        Ok(AnyValue::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<AnyValue, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(AnySeed(self.0))? {
            self.0.take::<AnyValue, A::Error>()?;
            values.push(value);
        }
        Ok(any(Any::ArrayValue(ArrayValue { values })))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AnyValue, A::Error> {
        let mut value = AnyValue::default();
        while let Some(name) = map.next_key_seed(Name)? {
            let read = match name.as_ref() {
                "stringValue" | "string_value" => Some(Any::StringValue(text(&mut map)?)),
                "intValue" | "int_value" => signed(&mut map)?.map(Any::IntValue),
                "doubleValue" | "double_value" => double(&mut map)?.map(Any::DoubleValue),
                "boolValue" | "bool_value" => Some(Any::BoolValue(flag(&mut map)?)),
                "bytesValue" | "bytes_value" => base64::decode(&text(&mut map)?).map(Any::BytesValue),
                "arrayValue" | "array_value" => Some(Any::ArrayValue(ArrayValue { values: object::<Elements, A>(&mut map, self.0)?.0 })),
                "kvlistValue" | "kvlist_value" => Some(Any::KvlistValue(KeyValueList { values: object::<Pairs, A>(&mut map, self.0)?.0 })),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    None
                }
            };
            if read.is_some() {
                value.value = read;
            }
        }
        Ok(value)
    }
}

/// `{"values": […]}` of a list.
#[derive(Default)]
struct Elements(Vec<AnyValue>);

impl Fields for Elements {
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A, budget: &Budget) -> Result<bool, A::Error> {
        if name != "values" {
            return Ok(false);
        }
        if let Some(Any::ArrayValue(list)) = map.next_value_seed(AnySeed(budget))?.value {
            self.0 = list.values;
        }
        Ok(true)
    }
}

/// `{"values": […]}` of keys and values.
#[derive(Default)]
struct Pairs(Vec<KeyValue>);

impl Fields for Pairs {
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A, budget: &Budget) -> Result<bool, A::Error> {
        if name != "values" {
            return Ok(false);
        }
        self.0 = attributes(map, budget)?;
        Ok(true)
    }
}
