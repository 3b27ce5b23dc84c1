//! From a request's tree to events. Protobuf, JSON and typed requests all come through here.

use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use paramedic_model::{Event, Timestamp};

use super::resource::Origin;
use super::samples::Tap;

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

    /// Shows itself to what makes samples of metrics.
    fn show(&self, _tap: &mut Tap<'_>, _now: Timestamp) {}

    fn convert(self, origin: &mut Origin<'_>, now: Timestamp, out: &mut Converted);
}

/// What stands in for missing times, and how many records a request may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) now: Timestamp,
    pub(super) records_max: usize,
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
pub(super) fn add<T: Item>(item: T, origin: &mut Origin<'_>, bounds: Bounds, tap: Option<&mut Tap<'_>>, out: &mut Converted) {
    if out.events.len() as u64 + item.weight() > bounds.records_max as u64 {
        out.reject(item.weight(), "too many records in one request");
        return;
    }
    if let Some(tap) = tap {
        item.show(tap, bounds.now);
    }
    item.convert(origin, bounds.now, out);
}

pub(super) fn groups<T: Item>(groups: Vec<Group<T>>, bounds: Bounds, mut tap: Option<&mut Tap<'_>>) -> Converted {
    let mut out = Converted::default();
    for group in groups {
        if let Some(tap) = &mut tap {
            tap.enter_resource(&group.resource);
        }
        let mut origin = Origin::new(&group.resource);
        for (scope, items) in group.scopes {
            origin.enter(&scope);
            if let Some(tap) = &mut tap {
                tap.enter_scope(&scope);
            }
            out.events.reserve(items.len().min(bounds.records_max));
            for item in items {
                add(item, &mut origin, bounds, tap.as_deref_mut(), &mut out);
            }
        }
        out.attributes_dropped += origin.dropped;
    }
    out
}
