//! Remarks that come with an answer: warnings that it may be wrong, and infos that the query may not be what was meant.

use std::collections::BTreeMap;

use crate::error::line_and_column;
use crate::labels::quote;
use crate::number::format_general;

/// How serious a remark is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Warning,
    Info,
}

/// One remark and the byte in the expression it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Annotation {
    pub level: Level,
    pub message: String,
    pub position: usize,
    /// How far a classic histogram had to be corrected, where that is the remark.
    fix: Option<MonotonicityFix>,
}

/// What was changed in a classic histogram whose counts did not grow from bucket to bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MonotonicityFix {
    pub(crate) at_ms: (i64, i64),
    pub(crate) bounds: (f64, f64),
    pub(crate) difference: f64,
    pub(crate) samples: u64,
}

/// Remarks by their text: the same remark about many samples is made once.
#[derive(Clone, Debug, Default)]
pub struct Annotations(BTreeMap<String, Annotation>);

impl Annotations {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn add(&mut self, annotation: Annotation) {
        if let Some(known) = self.0.get_mut(&annotation.message) {
            if let (Some(known), Some(new)) = (&mut known.fix, annotation.fix) {
                known.at_ms = (known.at_ms.0.min(new.at_ms.0), known.at_ms.1.max(new.at_ms.1));
                known.bounds = (known.bounds.0.min(new.bounds.0), known.bounds.1.max(new.bounds.1));
                known.difference = known.difference.max(new.difference);
                known.samples += new.samples;
            }
            return;
        }
        self.0.insert(annotation.message.clone(), annotation);
    }

    pub(crate) fn warn(&mut self, position: usize, message: String) {
        self.add(Annotation { level: Level::Warning, message: format!("PromQL warning: {message}"), position, fix: None });
    }

    pub(crate) fn info(&mut self, position: usize, message: String) {
        self.add(Annotation { level: Level::Info, message: format!("PromQL info: {message}"), position, fix: None });
    }

    /// The texts of a level with the line and column they are about.
    pub fn texts(&self, level: Level, query: &str) -> Vec<String> {
        self.0.values().filter(|annotation| annotation.level == level).map(|annotation| annotation.text(query)).collect()
    }

    pub fn warnings(&self, query: &str) -> Vec<String> {
        self.texts(Level::Warning, query)
    }

    pub fn infos(&self, query: &str) -> Vec<String> {
        self.texts(Level::Info, query)
    }
}

impl Annotation {
    fn text(&self, query: &str) -> String {
        let (line, column) = line_and_column(query, self.position);
        let Some(fix) = self.fix else { return format!("{} ({line}:{column})", self.message) };
        format!(
            "{}, from buckets {} to {}, with a max diff of {}, over {} samples from {} to {} ({line}:{column})",
            self.message,
            format_general(fix.bounds.0),
            format_general(fix.bounds.1),
            two_digits(fix.difference),
            fix.samples,
            crate::time::format_utc(fix.at_ms.0),
            crate::time::format_utc(fix.at_ms.1),
        )
    }
}

/// A number with two significant digits.
fn two_digits(value: f64) -> String {
    format!("{value:.1e}").parse::<f64>().map_or_else(|_| value.to_string(), format_general)
}

/// The operation in which two histograms met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Addition,
    Subtraction,
    Aggregation,
}

impl Operation {
    fn text(self) -> &'static str {
        match self {
            Self::Addition => "addition",
            Self::Subtraction => "subtraction",
            Self::Aggregation => "aggregation",
        }
    }
}

fn with_name(message: &str, name: &str) -> String {
    if name.is_empty() { message.to_owned() } else { format!("{message} for metric name {}", quote(name)) }
}

/// The remarks, each in the words that users of Prometheus know.
impl Annotations {
    pub(crate) fn invalid_quantile(&mut self, position: usize, q: f64) {
        self.warn(position, format!("quantile value should be between 0 and 1, got {}", format_general(q)));
    }

    pub(crate) fn invalid_ratio(&mut self, position: usize, ratio: f64, capped: f64) {
        let (ratio, capped) = (format_general(ratio), format_general(capped));
        self.warn(position, format!("ratio value should be between -1 and 1, got {ratio}, capping to {capped}"));
    }

    pub(crate) fn bad_bucket_label(&mut self, position: usize, name: &str, le: &str) {
        let message = format!("bucket label \"le\" is missing or has a malformed value of {}", quote(le));
        self.warn(position, with_name(&message, name));
    }

    pub(crate) fn mixed_floats_histograms(&mut self, position: usize, name: &str) {
        self.warn(position, format!("encountered a mix of histograms and floats for metric name {}", quote(name)));
    }

    pub(crate) fn mixed_in_aggregation(&mut self, position: usize) {
        self.warn(position, "encountered a mix of histograms and floats for aggregation".to_owned());
    }

    pub(crate) fn mixed_classic_native(&mut self, position: usize, name: &str) {
        self.warn(position, with_name("vector contains a mix of classic and native histograms", name));
    }

    pub(crate) fn not_a_counter(&mut self, position: usize, name: &str) {
        self.warn(position, format!("this native histogram metric is not a counter: {}", quote(name)));
    }

    pub(crate) fn not_a_gauge(&mut self, position: usize, name: &str) {
        self.warn(position, format!("this native histogram metric is not a gauge: {}", quote(name)));
    }

    pub(crate) fn mixed_schemas(&mut self, position: usize, name: &str) {
        let what = "vector contains a mix of histograms with exponential and custom buckets schemas for metric name";
        self.warn(position, format!("{what} {}", quote(name)));
    }

    pub(crate) fn possibly_not_a_counter(&mut self, position: usize, name: &str) {
        let what = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:";
        self.info(position, format!("{what} {}", quote(name)));
    }

    pub(crate) fn incompatible_layout(&mut self, position: usize, op: &str) {
        self.warn(position, format!("incompatible bucket layout encountered for binary operator {op}"));
    }

    pub(crate) fn incompatible_types(&mut self, position: usize, left: &str, op: &str, right: &str) {
        let what = "incompatible sample types encountered for binary operator";
        self.info(position, format!("{what} {}: {left} {op} {right}", quote(op)));
    }

    pub(crate) fn ignored_in_aggregation(&mut self, position: usize, aggregation: &str) {
        self.info(position, format!("ignored histogram in {aggregation} aggregation"));
    }

    pub(crate) fn ignored_in_range(&mut self, position: usize, name: &str) {
        let what = "ignored histograms in a range containing both floats and histograms for metric name";
        self.info(position, format!("{what} {}", quote(name)));
    }

    pub(crate) fn quantile_is_nan(&mut self, position: usize, name: &str) {
        self.info(position, with_name("input to histogram_quantile has NaN observations, result is NaN", name));
    }

    pub(crate) fn quantile_is_skewed(&mut self, position: usize, name: &str) {
        self.info(position, with_name("input to histogram_quantile has NaN observations, result is skewed higher", name));
    }

    pub(crate) fn fraction_without_nan(&mut self, position: usize, name: &str) {
        let what = "input to histogram_fraction has NaN observations, which are excluded from all fractions";
        self.info(position, with_name(what, name));
    }

    pub(crate) fn reset_collision(&mut self, position: usize, operation: Operation) {
        self.warn(position, format!("conflicting counter resets during histogram {}", operation.text()));
    }

    pub(crate) fn bounds_reconciled(&mut self, position: usize, operation: Operation) {
        self.info(position, format!("mismatched custom buckets were reconciled during {}", operation.text()));
    }

    pub(crate) fn sort_in_range(&mut self, position: usize) {
        self.warn(position, "sort is ineffective for range queries since results are always ordered by labels".to_owned());
    }

    pub(crate) fn forced_monotonicity(&mut self, position: usize, name: &str, fix: MonotonicityFix) {
        let what = "input to histogram_quantile needed to be fixed for monotonicity \
                    (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
        let message = format!("PromQL info: {}", with_name(what, name));
        self.add(Annotation { level: Level::Info, message, position, fix: Some(fix) });
    }
}
