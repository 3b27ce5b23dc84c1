//! One metric of a request as points: names, labels, values.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint, SummaryDataPoint,
};
use paramedic_model::Timestamp;
use paramedic_model::limit::ATTRIBUTE_BYTES_MAX;
use paramedic_model::secret::mask;
use paramedic_model::text::head;
use paramedic_promql::labels::METRIC_NAME;
use paramedic_promql::number::{format_plain, stale};
use paramedic_promql::{Label, Labels, SampleValue};
use paramedic_samples::Metadata;

use super::super::config::SampleSettings;
use super::super::{clean, value};
use super::naming::{self, Shape};
use super::{Batch, Point, Reading, exponential};

/// `DataPointFlags::NoRecordedValueMask`: the series ended here; there is no value.
const FLAG_NO_VALUE: u32 = 1;
/// Explicit bounds of one histogram.
const BOUNDS_MAX: usize = 512;
/// Attributes of one point.
const LABELS_MAX: usize = 128;
const NAME_BYTES_MAX: usize = 512;
const HELP_BYTES_MAX: usize = 1_024;
/// What a resource says about who it is; it becomes `job` and `instance`.
const IDENTITY: [&str; 3] = ["service.name", "service.namespace", "service.instance.id"];

/// Takes the metrics of one request, resource by resource.
pub(in super::super) struct Tap<'s> {
    settings: &'s SampleSettings,
    /// Labels of the resource, and behind them those of the scope.
    origin: Vec<Label>,
    of_resource: usize,
    /// `target_info` of the resource, and the time of its latest point.
    info: Option<Labels>,
    latest: i64,
    batch: Batch,
}

/// What the points of a metric share.
struct Named {
    name: String,
    is_delta: bool,
}

/// When a point was measured.
#[derive(Clone, Copy)]
struct When {
    time: i64,
    start: i64,
    window: (u64, u64),
}

impl<'s> Tap<'s> {
    pub(super) fn new(settings: &'s SampleSettings) -> Self {
        Self { settings, origin: Vec::new(), of_resource: 0, info: None, latest: i64::MIN, batch: Batch::default() }
    }

    pub(in super::super) fn finish(mut self) -> Batch {
        self.tell_info();
        self.batch
    }

    /// The metrics that follow are of this resource.
    pub(in super::super) fn enter_resource(&mut self, attributes: &[KeyValue]) {
        self.tell_info();
        let text = |key: &str| attributes.iter().find(|one| one.key == key).and_then(|one| label_value(one.value.as_ref()));
        let [name, namespace, instance] = IDENTITY.map(text);
        let job = name.map(|name| namespace.filter(|text| !text.is_empty()).map_or(name.clone(), |space| format!("{space}/{name}")));
        let identity: Vec<Label> =
            [("job", job), ("instance", instance)].into_iter().filter_map(|(key, value)| Some(label(key, &value?))).collect();
        let promoted = &self.settings.promote_resource_attributes;
        self.origin = self.labels(attributes.iter().filter(|one| promoted.contains(&one.key)));
        self.origin.extend(identity.iter().cloned());
        self.of_resource = self.origin.len();
        let described = self.labels(attributes.iter().filter(|one| !IDENTITY.contains(&one.key.as_str())));
        self.info = (self.settings.target_info && !identity.is_empty() && !described.is_empty())
            .then(|| described.into_iter().chain(identity).chain([label(METRIC_NAME, "target_info")]).collect());
    }

    /// The metrics that follow are of this scope.
    pub(in super::super) fn enter_scope(&mut self, scope: &InstrumentationScope) {
        self.origin.truncate(self.of_resource);
        if !self.settings.promote_scope {
            return;
        }
        for (key, text) in [("otel_scope_name", &scope.name), ("otel_scope_version", &scope.version)] {
            self.origin.push(label(key, &shown(text)));
        }
        let prefixed = self.labels(scope.attributes.iter());
        self.origin.extend(prefixed.into_iter().map(|one| Label { name: format!("otel_scope_{}", one.name).into(), ..one }));
    }

    /// The resource's own series, as late as its latest sample.
    fn tell_info(&mut self) {
        if let Some(labels) = self.info.take()
            && self.latest > i64::MIN
        {
            let reading = Reading::Value(SampleValue::Float(1.0));
            self.batch.points.push(Point { labels, time: self.latest, start: 0, window: (0, 0), reading });
        }
        self.latest = i64::MIN;
    }

    /// Takes one metric.
    pub(in super::super) fn metric(&mut self, metric: &Metric, now: Timestamp) {
        let (shape, kind, temporality) = match &metric.data {
            Some(Data::Gauge(_)) => (Shape::Gauge, "gauge", 2),
            Some(Data::Sum(sum)) if sum.is_monotonic => (Shape::Counter, "counter", sum.aggregation_temporality),
            Some(Data::Sum(sum)) => (Shape::Other, "gauge", sum.aggregation_temporality),
            Some(Data::Histogram(data)) => (Shape::Other, "histogram", data.aggregation_temporality),
            Some(Data::ExponentialHistogram(data)) => (Shape::Other, "histogram", data.aggregation_temporality),
            Some(Data::Summary(_)) => (Shape::Other, "summary", 2),
            None => return,
        };
        let Some(name) = naming::metric_name(head(&metric.name, NAME_BYTES_MAX), head(&metric.unit, 64), shape, self.settings.translation)
        else {
            self.batch.unusable += 1;
            return;
        };
        let help = if metric.description.is_empty() { String::new() } else { clean::bounded(&metric.description, HELP_BYTES_MAX) };
        let unit = naming::unit_name(head(&metric.unit, 64));
        self.batch.about.push((name.clone(), Metadata { kind: kind.to_owned(), help, unit }));
        // Unspecified is read as cumulative, as for events.
        let named = Named { name, is_delta: temporality == 1 };
        match &metric.data {
            Some(Data::Gauge(data)) => data.data_points.iter().for_each(|point| self.number(point, &named, now)),
            Some(Data::Sum(data)) => data.data_points.iter().for_each(|point| self.number(point, &named, now)),
            Some(Data::Histogram(data)) => data.data_points.iter().for_each(|point| self.histogram(point, &named, now)),
            Some(Data::ExponentialHistogram(data)) => data.data_points.iter().for_each(|point| self.exponential(point, &named, now)),
            Some(Data::Summary(data)) => data.data_points.iter().for_each(|point| self.summary(point, &named, now)),
            None => {}
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 do not occur")]
    fn number(&mut self, point: &NumberDataPoint, named: &Named, now: Timestamp) {
        let number = match point.value {
            _ if point.flags & FLAG_NO_VALUE != 0 => stale(),
            Some(Number::AsDouble(number)) => number,
            Some(Number::AsInt(number)) => number as f64,
            None => {
                self.batch.unusable += 1;
                return;
            }
        };
        let when = When::new(point.start_time_unix_nano, point.time_unix_nano, now);
        let base = self.base(&point.attributes);
        self.push(&base, named, "", None, number, when);
    }

    #[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 do not occur")]
    fn histogram(&mut self, point: &HistogramDataPoint, named: &Named, now: Timestamp) {
        if point.explicit_bounds.len() > BOUNDS_MAX || point.explicit_bounds.iter().any(|bound| bound.is_nan()) {
            self.batch.unusable += 1;
            return;
        }
        let when = When::new(point.start_time_unix_nano, point.time_unix_nano, now);
        let base = self.base(&point.attributes);
        let is_ended = point.flags & FLAG_NO_VALUE != 0;
        let or_end = |number: f64| if is_ended { stale() } else { number };
        if point.sum.is_some() || is_ended {
            self.push(&base, named, "_sum", None, or_end(point.sum.unwrap_or_default()), when);
        }
        self.push(&base, named, "_count", None, or_end(point.count as f64), when);
        let mut below = 0u64;
        for (at, bound) in point.explicit_bounds.iter().enumerate().filter(|(_, bound)| **bound != f64::INFINITY) {
            below = below.saturating_add(point.bucket_counts.get(at).copied().unwrap_or(0));
            let bound = format_plain(*bound);
            self.push(&base, named, "_bucket", Some(("le", &bound)), or_end(below as f64), when);
        }
        self.push(&base, named, "_bucket", Some(("le", "+Inf")), or_end(point.count as f64), when);
    }

    fn exponential(&mut self, point: &ExponentialHistogramDataPoint, named: &Named, now: Timestamp) {
        let Some(histogram) = exponential::native(point, point.flags & FLAG_NO_VALUE != 0) else {
            self.batch.unusable += 1;
            return;
        };
        let when = When::new(point.start_time_unix_nano, point.time_unix_nano, now);
        let base = self.base(&point.attributes);
        self.push_value(&base, named, "", None, SampleValue::Histogram(Arc::new(histogram)), when);
    }

    #[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 do not occur")]
    fn summary(&mut self, point: &SummaryDataPoint, named: &Named, now: Timestamp) {
        let when = When::new(point.start_time_unix_nano, point.time_unix_nano, now);
        let base = self.base(&point.attributes);
        let is_ended = point.flags & FLAG_NO_VALUE != 0;
        let or_end = |number: f64| if is_ended { stale() } else { number };
        self.push(&base, named, "_sum", None, or_end(point.sum), when);
        self.push(&base, named, "_count", None, or_end(point.count as f64), when);
        for one in point.quantile_values.iter().take(BOUNDS_MAX) {
            let quantile = format_plain(one.quantile);
            self.push(&base, named, "", Some(("quantile", &quantile)), or_end(one.value), when);
        }
    }

    /// The labels of a point without its name: its attributes, and above them the resource's and the scope's.
    fn base(&self, attributes: &[KeyValue]) -> Vec<Label> {
        let mut labels = self.labels(attributes.iter());
        labels.extend(self.origin.iter().cloned());
        labels
    }

    /// Attributes as labels. Those that get the same name are joined, in the order of their own names.
    fn labels<'k>(&self, attributes: impl Iterator<Item = &'k KeyValue>) -> Vec<Label> {
        let mut sorted: Vec<&KeyValue> = attributes.take(LABELS_MAX).collect();
        sorted.sort_by(|a, b| a.key.cmp(&b.key));
        let mut labels: Vec<(String, String)> = Vec::with_capacity(sorted.len());
        for attribute in sorted {
            let Some(name) = naming::label_name(head(&attribute.key, NAME_BYTES_MAX), self.settings.translation) else { continue };
            let Some(text) = label_value(attribute.value.as_ref()) else { continue };
            match labels.iter_mut().find(|(known, _)| *known == name) {
                Some((_, joined)) => {
                    joined.push(';');
                    joined.push_str(&text);
                }
                None => labels.push((name, text)),
            }
        }
        labels.into_iter().map(|(name, value)| label(&name, &value)).collect()
    }

    fn push(&mut self, base: &[Label], named: &Named, ending: &str, more: Option<(&str, &str)>, number: f64, when: When) {
        self.push_value(base, named, ending, more, SampleValue::Float(number), when);
    }

    fn push_value(&mut self, base: &[Label], named: &Named, ending: &str, more: Option<(&str, &str)>, value: SampleValue, when: When) {
        let own = [label(METRIC_NAME, &format!("{}{ending}", named.name))];
        let labels: Labels = base.iter().cloned().chain(more.map(|(name, value)| label(name, value))).chain(own).collect();
        let reading = if named.is_delta { Reading::Added(value) } else { Reading::Value(value) };
        self.latest = self.latest.max(when.time);
        self.batch.points.push(Point { labels, time: when.time, start: when.start, window: when.window, reading });
    }
}

impl When {
    fn new(start: u64, end: u64, now: Timestamp) -> Self {
        let millis = |nanos: u64| Timestamp::from_unix_nanos(nanos).as_millis();
        Self { time: if end == 0 { now.as_millis() } else { millis(end) }, start: millis(start), window: (start, end) }
    }
}

fn label(name: &str, value: &str) -> Label {
    Label { name: name.into(), value: value.into() }
}

fn shown(text: &str) -> String {
    let text = head(text, ATTRIBUTE_BYTES_MAX);
    if clean::may_hold_secret(text) { mask(text).into_owned() } else { text.to_owned() }
}

/// An attribute's value as text: lists and maps as JSON.
fn label_value(value: Option<&AnyValue>) -> Option<String> {
    Some(match value?.value.as_ref()? {
        Any::StringValue(text) => shown(text),
        Any::BoolValue(flag) => flag.to_string(),
        Any::IntValue(number) => number.to_string(),
        Any::DoubleValue(number) => format_plain(*number),
        _ => head(&value::into_json("", value?.clone()).to_string(), ATTRIBUTE_BYTES_MAX).to_owned(),
    })
}
