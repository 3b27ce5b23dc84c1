//! The fields of log records, metrics and spans, in camel case and in snake case.

use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, Sum, Summary, SummaryDataPoint,
};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use serde::de::MapAccess;

use super::{
    Budget, Fields, Named, attributes, double, enumeration, flag, id, list, numbers, object, signed, signed32, text, unsigned, unsigned32,
};

/// `impl Fields` from a table: the names of a field, and what its value is.
macro_rules! fields {
    ($type:ty, |$this:ident, $map:ident, $budget:ident| { $($($name:literal)|+ => $read:expr),+ $(,)? }) => {
        impl Fields for $type {
            fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, $map: &mut A, $budget: &Budget) -> Result<bool, A::Error> {
                let $this = self;
                match name {
                    $($($name)|+ => $read,)+
                    _ => return Ok(false),
                }
                Ok(true)
            }
        }
    };
}

impl Named for LogRecord {
    const GROUPS: [&'static str; 2] = ["resourceLogs", "resource_logs"];
    const SCOPES: [&'static str; 2] = ["scopeLogs", "scope_logs"];
    const ITEMS: [&'static str; 2] = ["logRecords", "log_records"];
}

impl Named for Metric {
    const GROUPS: [&'static str; 2] = ["resourceMetrics", "resource_metrics"];
    const SCOPES: [&'static str; 2] = ["scopeMetrics", "scope_metrics"];
    const ITEMS: [&'static str; 2] = ["metrics", "metrics"];
}

impl Named for Span {
    const GROUPS: [&'static str; 2] = ["resourceSpans", "resource_spans"];
    const SCOPES: [&'static str; 2] = ["scopeSpans", "scope_spans"];
    const ITEMS: [&'static str; 2] = ["spans", "spans"];
}

fields!(LogRecord, |this, map, budget| {
    "timeUnixNano" | "time_unix_nano" => this.time_unix_nano = unsigned(map)?,
    "observedTimeUnixNano" | "observed_time_unix_nano" => this.observed_time_unix_nano = unsigned(map)?,
    "severityNumber" | "severity_number" => {
        this.severity_number = enumeration(map, |name| SeverityNumber::from_str_name(name).map(|number| number as i32))?;
    },
    "severityText" | "severity_text" => this.severity_text = text(map)?,
    "body" => this.body = Some(map.next_value_seed(super::AnySeed(budget))?).filter(|body| body.value.is_some()),
    "attributes" => this.attributes = attributes(map, budget)?,
    "droppedAttributesCount" | "dropped_attributes_count" => this.dropped_attributes_count = unsigned32(map)?,
    "flags" => this.flags = unsigned32(map)?,
    "traceId" | "trace_id" => this.trace_id = id(map, 16)?,
    "spanId" | "span_id" => this.span_id = id(map, 8)?,
    "eventName" | "event_name" => this.event_name = text(map)?,
});

fields!(Metric, |this, map, budget| {
    "name" => this.name = text(map)?,
    "description" => this.description = text(map)?,
    "unit" => this.unit = text(map)?,
    "metadata" => this.metadata = attributes(map, budget)?,
    "gauge" => this.data = Some(Data::Gauge(object(map, budget)?)),
    "sum" => this.data = Some(Data::Sum(object(map, budget)?)),
    "histogram" => this.data = Some(Data::Histogram(object(map, budget)?)),
    "exponentialHistogram" | "exponential_histogram" => this.data = Some(Data::ExponentialHistogram(object(map, budget)?)),
    "summary" => this.data = Some(Data::Summary(object(map, budget)?)),
});

fn temporality<'de, A: MapAccess<'de>>(map: &mut A) -> Result<i32, A::Error> {
    enumeration(map, |name| match name.to_ascii_lowercase().as_str() {
        "delta" => Some(1),
        "cumulative" => Some(2),
        _ => AggregationTemporality::from_str_name(name).map(|number| number as i32),
    })
}

fields!(Gauge, |this, map, budget| {
    "dataPoints" | "data_points" => this.data_points = list(map, budget)?,
});

fields!(Sum, |this, map, budget| {
    "dataPoints" | "data_points" => this.data_points = list(map, budget)?,
    "aggregationTemporality" | "aggregation_temporality" => this.aggregation_temporality = temporality(map)?,
    "isMonotonic" | "is_monotonic" => this.is_monotonic = flag(map)?,
});

fields!(Histogram, |this, map, budget| {
    "dataPoints" | "data_points" => this.data_points = list(map, budget)?,
    "aggregationTemporality" | "aggregation_temporality" => this.aggregation_temporality = temporality(map)?,
});

fields!(ExponentialHistogram, |this, map, budget| {
    "dataPoints" | "data_points" => this.data_points = list(map, budget)?,
    "aggregationTemporality" | "aggregation_temporality" => this.aggregation_temporality = temporality(map)?,
});

fields!(Summary, |this, map, budget| {
    "dataPoints" | "data_points" => this.data_points = list(map, budget)?,
});

fields!(NumberDataPoint, |this, map, budget| {
    "attributes" => this.attributes = attributes(map, budget)?,
    "startTimeUnixNano" | "start_time_unix_nano" => this.start_time_unix_nano = unsigned(map)?,
    "timeUnixNano" | "time_unix_nano" => this.time_unix_nano = unsigned(map)?,
    "flags" => this.flags = unsigned32(map)?,
    "asDouble" | "as_double" => this.value = double(map)?.map(Number::AsDouble),
    "asInt" | "as_int" => this.value = signed(map)?.map(Number::AsInt),
});

fields!(HistogramDataPoint, |this, map, budget| {
    "attributes" => this.attributes = attributes(map, budget)?,
    "startTimeUnixNano" | "start_time_unix_nano" => this.start_time_unix_nano = unsigned(map)?,
    "timeUnixNano" | "time_unix_nano" => this.time_unix_nano = unsigned(map)?,
    "flags" => this.flags = unsigned32(map)?,
    "count" => this.count = unsigned(map)?,
    "sum" => this.sum = double(map)?,
    "min" => this.min = double(map)?,
    "max" => this.max = double(map)?,
    "bucketCounts" | "bucket_counts" => this.bucket_counts = numbers(map, budget, |number| number.unsigned())?,
    "explicitBounds" | "explicit_bounds" => this.explicit_bounds = numbers(map, budget, |number| number.double().unwrap_or(f64::NAN))?,
});

fields!(ExponentialHistogramDataPoint, |this, map, budget| {
    "attributes" => this.attributes = attributes(map, budget)?,
    "startTimeUnixNano" | "start_time_unix_nano" => this.start_time_unix_nano = unsigned(map)?,
    "timeUnixNano" | "time_unix_nano" => this.time_unix_nano = unsigned(map)?,
    "flags" => this.flags = unsigned32(map)?,
    "count" => this.count = unsigned(map)?,
    "sum" => this.sum = double(map)?,
    "min" => this.min = double(map)?,
    "max" => this.max = double(map)?,
    "scale" => this.scale = signed32(map)?,
    "zeroCount" | "zero_count" => this.zero_count = unsigned(map)?,
    "zeroThreshold" | "zero_threshold" => this.zero_threshold = double(map)?.unwrap_or_default(),
    "positive" => this.positive = Some(object(map, budget)?),
    "negative" => this.negative = Some(object(map, budget)?),
});

fields!(Buckets, |this, map, budget| {
    "offset" => this.offset = signed32(map)?,
    "bucketCounts" | "bucket_counts" => this.bucket_counts = numbers(map, budget, |number| number.unsigned())?,
});

fields!(SummaryDataPoint, |this, map, budget| {
    "attributes" => this.attributes = attributes(map, budget)?,
    "startTimeUnixNano" | "start_time_unix_nano" => this.start_time_unix_nano = unsigned(map)?,
    "timeUnixNano" | "time_unix_nano" => this.time_unix_nano = unsigned(map)?,
    "flags" => this.flags = unsigned32(map)?,
    "count" => this.count = unsigned(map)?,
    "sum" => this.sum = double(map)?.unwrap_or_default(),
    "quantileValues" | "quantile_values" => this.quantile_values = list(map, budget)?,
});

fields!(ValueAtQuantile, |this, map, _budget| {
    "quantile" => this.quantile = double(map)?.unwrap_or_default(),
    "value" => this.value = double(map)?.unwrap_or_default(),
});

fields!(Span, |this, map, budget| {
    "traceId" | "trace_id" => this.trace_id = id(map, 16)?,
    "spanId" | "span_id" => this.span_id = id(map, 8)?,
    "parentSpanId" | "parent_span_id" => this.parent_span_id = id(map, 8)?,
    "traceState" | "trace_state" => this.trace_state = text(map)?,
    "flags" => this.flags = unsigned32(map)?,
    "name" => this.name = text(map)?,
    "kind" => this.kind = enumeration(map, |name| SpanKind::from_str_name(name).map(|number| number as i32))?,
    "startTimeUnixNano" | "start_time_unix_nano" => this.start_time_unix_nano = unsigned(map)?,
    "endTimeUnixNano" | "end_time_unix_nano" => this.end_time_unix_nano = unsigned(map)?,
    "attributes" => this.attributes = attributes(map, budget)?,
    "droppedAttributesCount" | "dropped_attributes_count" => this.dropped_attributes_count = unsigned32(map)?,
    "events" => this.events = list(map, budget)?,
    "links" => this.links = list(map, budget)?,
    "status" => this.status = Some(object(map, budget)?),
});

fields!(Event, |this, map, budget| {
    "timeUnixNano" | "time_unix_nano" => this.time_unix_nano = unsigned(map)?,
    "name" => this.name = text(map)?,
    "attributes" => this.attributes = attributes(map, budget)?,
});

fields!(Link, |this, map, budget| {
    "traceId" | "trace_id" => this.trace_id = id(map, 16)?,
    "spanId" | "span_id" => this.span_id = id(map, 8)?,
    "attributes" => this.attributes = attributes(map, budget)?,
});

fields!(Status, |this, map, _budget| {
    "message" => this.message = text(map)?,
    "code" => this.code = enumeration(map, |name| StatusCode::from_str_name(name).map(|number| number as i32))?,
});
