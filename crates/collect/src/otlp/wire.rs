//! Walks a protobuf request record by record.
//!
//! Decoding a whole request at once would let two bytes on the wire become two hundred in memory, and would touch
//! every record twice. Here one record is decoded, made an event and forgotten.

use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use super::convert::{Bounds, Converted, Item, add};
use super::resource::Origin;
use super::samples::Tap;

/// The largest single record, metric or span on the wire.
const ITEM_BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("decode protobuf: {0}")]
pub struct Malformed(pub(super) String);

impl Malformed {
    fn new(what: &str) -> Self {
        Self(what.to_owned())
    }
}

impl From<prost::DecodeError> for Malformed {
    fn from(error: prost::DecodeError) -> Self {
        Self(error.to_string())
    }
}

/// The length-delimited fields of a message; others are skipped.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or_else(|| Malformed::new("ends in the middle of a number"))?;
            self.0 = rest;
            if shift < 64 {
                value |= u64::from(byte & 0x7f) << shift;
            }
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed::new("a number is too long"))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(length).ok().filter(|length| *length <= self.0.len());
        let (field, rest) = self.0.split_at(length.ok_or_else(|| Malformed::new("a length points beyond the end"))?);
        self.0 = rest;
        Ok(field)
    }

    fn next(&mut self) -> Result<Option<(u64, &'a [u8])>, Malformed> {
        while !self.0.is_empty() {
            let tag = self.varint()?;
            match tag & 7 {
                0 => drop(self.varint()?),
                1 => drop(self.take(8)?),
                2 => {
                    let length = self.varint()?;
                    return Ok(Some((tag >> 3, self.take(length)?)));
                }
                5 => drop(self.take(4)?),
                _ => return Err(Malformed::new("unknown wire type")),
            }
        }
        Ok(None)
    }
}

/// `ExportLogsServiceRequest`, `…Metrics…` and `…Trace…` have the same numbers at every level: groups in 1; in a
/// group the resource in 1 and scopes in 2; in a scope its name in 1 and items in 2.
pub(super) fn convert<T: Item>(body: &[u8], bounds: Bounds, mut tap: Option<&mut Tap<'_>>) -> Result<Converted, Malformed> {
    let mut out = Converted::default();
    let mut request = Fields(body);
    while let Some((number, group)) = request.next()? {
        if number == 1 {
            convert_group::<T>(group, bounds, tap.as_deref_mut(), &mut out)?;
        }
    }
    Ok(out)
}

fn convert_group<T: Item>(group: &[u8], bounds: Bounds, mut tap: Option<&mut Tap<'_>>, out: &mut Converted) -> Result<(), Malformed> {
    // The resource may stand behind its records, and may come in pieces.
    let mut resource = Resource::default();
    let mut fields = Fields(group);
    while let Some((number, field)) = fields.next()? {
        if number == 1 {
            if field.len() > ITEM_BYTES_MAX {
                return Err(Malformed::new("a resource is too large"));
            }
            resource.merge(field)?;
        }
    }
    if let Some(tap) = &mut tap {
        tap.enter_resource(&resource.attributes);
    }
    let mut origin = Origin::new(&resource.attributes);
    let mut fields = Fields(group);
    while let Some((number, field)) = fields.next()? {
        if number == 2 {
            convert_scope::<T>(field, &mut origin, bounds, tap.as_deref_mut(), out)?;
        }
    }
    out.attributes_dropped += origin.dropped;
    Ok(())
}

fn convert_scope<T: Item>(
    bytes: &[u8],
    origin: &mut Origin<'_>,
    bounds: Bounds,
    mut tap: Option<&mut Tap<'_>>,
    out: &mut Converted,
) -> Result<(), Malformed> {
    let mut scope = InstrumentationScope::default();
    let mut count = 0usize;
    let mut fields = Fields(bytes);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 if field.len() > ITEM_BYTES_MAX => return Err(Malformed::new("a scope is too large")),
            1 => scope.merge(field)?,
            2 => count += 1,
            _ => {}
        }
    }
    origin.enter(&scope);
    if let Some(tap) = &mut tap {
        tap.enter_scope(&scope);
    }
    out.events.reserve(count.min(bounds.records_max));
    let mut attributes = 0;
    let mut fields = Fields(bytes);
    while let Some((number, field)) = fields.next()? {
        if number != 2 {
            continue;
        }
        if field.len() > ITEM_BYTES_MAX {
            out.reject(1, "a record is too large");
        } else if out.events.len() >= bounds.records_max {
            out.reject(1, "too many records in one request");
        } else {
            let mut item = T::default();
            item.reserve(attributes.min(paramedic_model::limit::ATTRIBUTES_MAX));
            item.merge(field)?;
            attributes = item.attributes();
            add(item, origin, bounds, tap.as_deref_mut(), out);
        }
    }
    Ok(())
}
