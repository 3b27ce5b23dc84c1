//! From a request's tree to events. Protobuf, JSON and typed requests all come through here.

use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use paramedic_model::{Event, Timestamp};

use super::resource::Origin;

/// What became of one request.
#[derive(Debug, Default, PartialEq)]
pub struct Converted {
    pub events: Vec<Event>,
    /// Records, data points or spans that could not be taken: told to the sender as a partial success.
    pub rejected: u64,
    /// Why, in words for the sender; the first reason found.
    pub reason: Option<&'static str>,
    /// Attributes for which an event had no room.
    pub attributes_dropped: u64,
}

impl Converted {
    pub(super) fn reject(&mut self, count: u64, reason: &'static str) {
        if count > 0 {
            self.rejected += count;
            self.reason.get_or_insert(reason);
        }
    }
}

/// What a scope holds: a log record, a metric or a span.
pub(super) trait Item: prost::Message + Default {
    /// How many events it makes at most: a metric makes one per data point.
    fn weight(&self) -> u64 {
        1
    }

    /// Makes room for as many attributes as the item before had: growing step by step costs more than the rest of
    /// decoding them.
    fn reserve(&mut self, _attributes: usize) {}

    fn attributes(&self) -> usize {
        0
    }

    fn convert(self, origin: &mut Origin<'_>, now: Timestamp, out: &mut Converted);
}

/// The shape that the three signals share.
pub(super) struct Group<T> {
    pub(super) resource: Vec<KeyValue>,
    pub(super) scopes: Vec<(InstrumentationScope, Vec<T>)>,
}

impl<T> Default for Group<T> {
    fn default() -> Self {
        Self { resource: Vec::new(), scopes: Vec::new() }
    }
}

/// Adds an item's events unless the request has used up its records.
pub(super) fn add<T: Item>(item: T, origin: &mut Origin<'_>, now: Timestamp, records_max: usize, out: &mut Converted) {
    if out.events.len() as u64 + item.weight() > records_max as u64 {
        out.reject(item.weight(), "too many records in one request");
        return;
    }
    item.convert(origin, now, out);
}

pub(super) fn groups<T: Item>(groups: Vec<Group<T>>, now: Timestamp, records_max: usize) -> Converted {
    let mut out = Converted::default();
    for group in groups {
        let mut origin = Origin::new(&group.resource);
        for (scope, items) in group.scopes {
            origin.enter(&scope);
            out.events.reserve(items.len().min(records_max));
            for item in items {
                add(item, &mut origin, now, records_max, &mut out);
            }
        }
        out.attributes_dropped += origin.dropped;
    }
    out
}
