//! Metrics: one event per data point.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint, SummaryDataPoint,
};
use paramedic_model::{Event, Fact, Level, Source, Temporality, Timestamp};
use serde_json::{Value, json};

use super::convert::{Converted, Item};
use super::resource::{Origin, correlation, time};
use super::samples::Tap;
use super::{clean, value};

/// Buckets kept of one histogram point.
const BUCKETS_MAX: usize = 256;
/// `DataPointFlags::NoRecordedValueMask`: the series ended here; there is no value.
const FLAG_NO_VALUE: u32 = 1;

impl Item for Metric {
    fn weight(&self) -> u64 {
        let points = match &self.data {
            Some(Data::Gauge(data)) => data.data_points.len(),
            Some(Data::Sum(data)) => data.data_points.len(),
            Some(Data::Histogram(data)) => data.data_points.len(),
            Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
            Some(Data::Summary(data)) => data.data_points.len(),
            None => 0,
        };
        points as u64
    }

    fn show(&self, tap: &mut Tap<'_>, now: Timestamp) {
        tap.metric(self, now);
    }

    fn convert(self, origin: &mut Origin<'_>, now: Timestamp, out: &mut Converted) {
        let name = clean::id(&self.name);
        let unit = (!self.unit.is_empty()).then(|| clean::id(&self.unit));
        let points: Vec<Point> = match self.data {
            Some(Data::Gauge(data)) => data.data_points.into_iter().map(|point| Point::number(point, Temporality::Gauge)).collect(),
            Some(Data::Sum(data)) => {
                let temporality = temporality(data.aggregation_temporality);
                data.data_points.into_iter().map(|point| Point::number(point, temporality)).collect()
            }
            Some(Data::Histogram(data)) => {
                let temporality = temporality(data.aggregation_temporality);
                data.data_points.into_iter().map(|point| Point::histogram(point, temporality)).collect()
            }
            Some(Data::ExponentialHistogram(data)) => {
                let temporality = temporality(data.aggregation_temporality);
                data.data_points.into_iter().map(|point| Point::exponential(point, temporality)).collect()
            }
            Some(Data::Summary(data)) => data.data_points.into_iter().map(Point::summary).collect(),
            // No points came, so there are none to reject; the sender hears of it in the message.
            None => {
                out.reason.get_or_insert("a metric has no data or a kind that is not known");
                return;
            }
        };
        for point in points {
            point.convert(&name, unit.as_deref(), origin, now, out);
        }
    }
}

/// Unspecified is read as cumulative: a delta taken for cumulative under-counts once, the reverse over-counts for ever.
const fn temporality(number: i32) -> Temporality {
    if number == 1 { Temporality::Delta } else { Temporality::Cumulative }
}

/// What all kinds of points have.
struct Point {
    value: Option<f64>,
    temporality: Temporality,
    started: u64,
    ended: u64,
    flags: u32,
    attributes: Vec<KeyValue>,
    more: Vec<(&'static str, Value)>,
}

impl Point {
    #[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 do not occur")]
    fn number(point: NumberDataPoint, temporality: Temporality) -> Self {
        let value = match point.value {
            Some(Number::AsDouble(value)) => Some(value),
            Some(Number::AsInt(value)) => Some(value as f64),
            None => None,
        };
        Self {
            value,
            temporality,
            started: point.start_time_unix_nano,
            ended: point.time_unix_nano,
            flags: point.flags,
            attributes: point.attributes,
            more: Vec::new(),
        }
    }

    fn histogram(point: HistogramDataPoint, temporality: Temporality) -> Self {
        let mut more = vec![
            ("count", point.count.into()),
            ("bounds", point.explicit_bounds.into_iter().take(BUCKETS_MAX).collect()),
            ("bucket_counts", point.bucket_counts.into_iter().take(BUCKETS_MAX).collect()),
        ];
        more.extend([("min", point.min), ("max", point.max)].into_iter().filter_map(|(key, value)| Some((key, value?.into()))));
        Self {
            value: point.sum.or_else(|| (point.count == 0).then_some(0.0)),
            temporality,
            started: point.start_time_unix_nano,
            ended: point.time_unix_nano,
            flags: point.flags,
            attributes: point.attributes,
            more,
        }
    }

    fn exponential(point: ExponentialHistogramDataPoint, temporality: Temporality) -> Self {
        let mut more = vec![("count", point.count.into()), ("scale", point.scale.into()), ("zero_count", point.zero_count.into())];
        for (key, buckets) in [("positive", point.positive), ("negative", point.negative)] {
            if let Some(buckets) = buckets {
                let counts: Vec<u64> = buckets.bucket_counts.into_iter().take(BUCKETS_MAX).collect();
                more.push((key, json!({"offset": buckets.offset, "counts": counts})));
            }
        }
        more.extend([("min", point.min), ("max", point.max)].into_iter().filter_map(|(key, value)| Some((key, value?.into()))));
        Self {
            value: point.sum.or_else(|| (point.count == 0).then_some(0.0)),
            temporality,
            started: point.start_time_unix_nano,
            ended: point.time_unix_nano,
            flags: point.flags,
            attributes: point.attributes,
            more,
        }
    }

    fn summary(point: SummaryDataPoint) -> Self {
        let quantiles: Vec<Value> =
            point.quantile_values.iter().take(BUCKETS_MAX).map(|one| json!({"quantile": one.quantile, "value": one.value})).collect();
        Self {
            value: Some(point.sum),
            temporality: Temporality::Cumulative,
            started: point.start_time_unix_nano,
            ended: point.time_unix_nano,
            flags: point.flags,
            attributes: point.attributes,
            more: vec![("count", point.count.into()), ("quantiles", quantiles.into())],
        }
    }

    fn convert(self, name: &str, unit: Option<&str>, origin: &mut Origin<'_>, now: Timestamp, out: &mut Converted) {
        if self.flags & FLAG_NO_VALUE != 0 {
            return;
        }
        if name.is_empty() {
            return out.reject(1, "a metric has no name");
        }
        let Some(number) = self.value else {
            return out.reject(1, "a data point has no value");
        };
        let mut known = origin.known;
        known.scan(&self.attributes);
        let is_claude = origin.is_claude || name.starts_with("claude_code.");
        let mut event = Event::new(time([self.ended, 0], &known, now), Source::OtlpMetric, name);
        event.level = Level::Info;
        (event.session, event.agent) = origin.identify(&known, is_claude);
        event.correlation = correlation(&known, &[], &[], &[]);
        event.attributes = origin.bag(self.attributes.len() + self.more.len() + 1);
        out.attributes_dropped += value::keep(self.attributes, &mut event.attributes);
        if number.is_finite() {
            event.fact = Fact::Measurement { value: number, unit: unit.map(Into::into), temporality: self.temporality };
        } else {
            // Neither sums nor storage can hold it, but that it was told is worth knowing.
            event.attributes.insert("value".to_owned(), value::double(number));
            event.text = "not a finite number".into();
        }
        for (key, value) in self.more {
            event.attributes.insert(key.to_owned(), value);
        }
        if self.started != 0 && self.temporality != Temporality::Gauge {
            event.attributes.insert("start_time".to_owned(), Timestamp::from_unix_nanos(self.started).to_string().into());
        }
        out.events.push(event);
    }
}
