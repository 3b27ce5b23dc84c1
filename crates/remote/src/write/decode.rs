//! Both messages of remote_write become one shape: series known by the bytes of their labels, and flat lists of samples.
//!
//! 1.0 repeats the text of every label (`prometheus.WriteRequest`); 2.0 has a table of texts and numbers that point into it
//! (`io.prometheus.write.v2.Request`). Neither is read further than needed: labels are only looked at when their series
//! has not been seen before.

use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use paramedic_promql::Histogram;
use paramedic_promql::labels::METRIC_NAME;

use super::histogram;
use crate::error::Malformed;
use crate::wire::{Fields, each_varint};

/// How much one request may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) series: usize,
    pub(crate) samples: usize,
    pub(crate) histogram_buckets: usize,
}

/// A text of the table of 2.0 and its hash.
#[derive(Debug, Clone, Copy)]
struct Symbol<'a> {
    bytes: &'a [u8],
    hash: u64,
}

/// What a metric is, as the sender says it. Texts that are not UTF-8 are empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MetadataRow<'a> {
    pub(crate) metric: &'a str,
    pub(crate) kind: &'static str,
    pub(crate) help: &'a str,
    pub(crate) unit: &'a str,
}

/// Where the labels of a series are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeriesLabels<'a> {
    /// Identifies the label set as it was written.
    pub(crate) key: u128,
    /// From the first label field to the end of the last one.
    region: &'a [u8],
}

impl<'a> SeriesLabels<'a> {
    /// The labels of a series of a 1.0 message, unchecked.
    pub(crate) fn labels_v1(self, pairs: &mut Vec<(&'a str, &'a str)>) -> Result<(), BadLabels> {
        labels_v1(self.region, pairs)
    }
}

/// One request, read.
#[derive(Debug, Default)]
pub(crate) struct Decoded<'a> {
    pub(crate) series: Vec<SeriesLabels<'a>>,
    /// Index of the series, time in milliseconds, value.
    pub(crate) floats: Vec<(u32, i64, f64)>,
    pub(crate) histograms: Vec<(u32, i64, Histogram)>,
    /// Index of the series and when its counter began.
    pub(crate) created: Vec<(u32, i64)>,
    pub(crate) metadata: Vec<MetadataRow<'a>>,
    pub(crate) exemplars: u64,
    /// Histograms that contradict themselves, and what the first one did.
    pub(crate) bad_histograms: u64,
    pub(crate) first_bad_histogram: Option<Malformed>,
    /// Empty for 1.0.
    symbols: Vec<Symbol<'a>>,
    is_v2: bool,
}

/// Why labels are not those of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadLabels {
    #[error("labels cannot be read")]
    Malformed,
    #[error("a label is not UTF-8")]
    Utf8,
    #[error("a label refers to a symbol that is not there")]
    Symbol,
    #[error("a series has no metric name")]
    NoName,
    #[error("a label has an empty name")]
    EmptyName,
    #[error("a label name comes twice in a series")]
    Repeated,
}

impl<'a> Decoded<'a> {
    /// Reads `prometheus.WriteRequest`.
    pub(crate) fn v1(message: &'a [u8], bounds: Bounds, seed: u64) -> Result<Self, Malformed> {
        let mut decoded = Self::default();
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => {
                    let series = value.bytes()?;
                    let region = decoded.time_series(series, bounds, false)?;
                    let key = xxh3_128_with_seed(region, seed);
                    decoded.series.push(SeriesLabels { key, region });
                }
                3 if decoded.metadata.len() < bounds.series => decoded.metadata.push(metadata_v1(value.bytes()?)?),
                _ => {}
            }
        }
        Ok(decoded)
    }

    /// Reads `io.prometheus.write.v2.Request`.
    pub(crate) fn v2(message: &'a [u8], bounds: Bounds, seed: u64) -> Result<Self, Malformed> {
        let mut decoded = Self { is_v2: true, ..Self::default() };
        // The table may come after the series.
        let symbols_max = bounds.series.saturating_mul(4);
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next()? {
            if number == 4 {
                if decoded.symbols.len() >= symbols_max {
                    return Err(Malformed::TooMany { what: "symbols", allowed: symbols_max });
                }
                let bytes = value.bytes()?;
                decoded.symbols.push(Symbol { bytes, hash: xxh3_64_with_seed(bytes, seed) });
            }
        }
        let mut hashes = Vec::with_capacity(256);
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next()? {
            if number == 5 {
                let series = value.bytes()?;
                let region = decoded.time_series(series, bounds, true)?;
                let key = decoded.symbols_key(region, seed, &mut hashes)?;
                decoded.series.push(SeriesLabels { key, region });
            }
        }
        Ok(decoded)
    }

    /// Reads what a series holds, and returns where its labels are.
    fn time_series(&mut self, message: &'a [u8], bounds: Bounds, is_v2: bool) -> Result<&'a [u8], Malformed> {
        if self.series.len() >= bounds.series {
            return Err(Malformed::TooMany { what: "series", allowed: bounds.series });
        }
        let at = self.series.len() as u32;
        let mut fields = Fields::new(message);
        let (mut first, mut last) = (None, 0);
        let mut metadata = None;
        loop {
            let before = message.len() - fields.left();
            let Some((number, value)) = fields.next()? else { break };
            match (number, is_v2) {
                (1, _) => {
                    first.get_or_insert(before);
                    last = message.len() - fields.left();
                }
                (2, _) => {
                    let (time, float) = sample(value.bytes()?)?;
                    self.count_sample(bounds)?;
                    self.floats.push((at, time, float));
                }
                (4, false) | (3, true) => {
                    self.count_sample(bounds)?;
                    self.histogram(at, value.bytes()?, bounds)?;
                }
                (3, false) | (4, true) => self.exemplars += 1,
                (5, true) => metadata = Some(value.bytes()?),
                (6, true) => self.created.push((at, value.int64()?)),
                _ => {}
            }
        }
        let region = first.map_or(&message[..0], |first| &message[first..last]);
        if let Some(metadata) = metadata {
            self.metadata_v2(region, metadata)?;
        }
        Ok(region)
    }

    fn count_sample(&self, bounds: Bounds) -> Result<(), Malformed> {
        if self.floats.len() + self.histograms.len() >= bounds.samples {
            return Err(Malformed::TooMany { what: "samples", allowed: bounds.samples });
        }
        Ok(())
    }

    fn histogram(&mut self, at: u32, message: &[u8], bounds: Bounds) -> Result<(), Malformed> {
        match histogram::read(message, bounds.histogram_buckets) {
            Ok((time, value)) => self.histograms.push((at, time, value)),
            // One histogram that contradicts itself does not spoil the others.
            Err(err @ Malformed::Histogram(_)) => {
                self.bad_histograms += 1;
                self.first_bad_histogram.get_or_insert(err);
            }
            Err(err) => return Err(err),
        }
        Ok(())
    }

    /// A key from the hashes of the texts, because their numbers differ from request to request.
    fn symbols_key(&self, region: &[u8], seed: u64, hashes: &mut Vec<u8>) -> Result<u128, Malformed> {
        hashes.clear();
        self.each_ref(region, |reference| {
            // A reference into nowhere gets no hash of a text; the labels are refused later.
            let hash = usize::try_from(reference).ok().and_then(|at| self.symbols.get(at)).map_or(reference, |symbol| symbol.hash);
            hashes.extend_from_slice(&hash.to_le_bytes());
            Ok(())
        })?;
        Ok(xxh3_128_with_seed(hashes, seed.wrapping_add(2)))
    }

    fn each_ref(&self, region: &[u8], mut each: impl FnMut(u64) -> Result<(), Malformed>) -> Result<(), Malformed> {
        let mut fields = Fields::new(region);
        while let Some((number, value)) = fields.next()? {
            if number == 1 {
                each_varint(value, &mut each)?;
            }
        }
        Ok(())
    }

    fn symbol(&self, reference: u64) -> Result<&'a str, BadLabels> {
        let symbol = usize::try_from(reference).ok().and_then(|at| self.symbols.get(at)).ok_or(BadLabels::Symbol)?;
        std::str::from_utf8(symbol.bytes).map_err(|_| BadLabels::Utf8)
    }

    fn metadata_v2(&mut self, region: &[u8], message: &[u8]) -> Result<(), Malformed> {
        let (mut kind, mut help, mut unit) = (0, 0, 0);
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => kind = value.low32()?,
                3 => help = value.varint()?,
                4 => unit = value.varint()?,
                _ => {}
            }
        }
        if kind == 0 && help == 0 && unit == 0 {
            return Ok(());
        }
        let mut metric = None;
        let mut is_name = false;
        let mut is_value = false;
        self.each_ref(region, |reference| {
            if !is_value {
                is_name = self.symbol(reference) == Ok(METRIC_NAME);
            } else if is_name {
                metric = self.symbol(reference).ok();
            }
            is_value = !is_value;
            Ok(())
        })?;
        if let Some(metric) = metric {
            let text = |reference| self.symbol(reference).unwrap_or_default();
            let kind = kind_name(kind);
            self.metadata.push(MetadataRow { metric: family(metric, kind), kind, help: text(help), unit: text(unit) });
        }
        Ok(())
    }

    /// Reads the labels of a series into `pairs`, in the order they came.
    pub(crate) fn labels(&self, series: SeriesLabels<'a>, pairs: &mut Vec<(&'a str, &'a str)>) -> Result<(), BadLabels> {
        pairs.clear();
        if self.is_v2 {
            self.labels_v2(series.region, pairs)?;
        } else {
            labels_v1(series.region, pairs)?;
        }
        check_labels(pairs)
    }

    fn labels_v2(&self, region: &'a [u8], pairs: &mut Vec<(&'a str, &'a str)>) -> Result<(), BadLabels> {
        let mut bad = None;
        let mut name = None;
        let read = self.each_ref(region, |reference| {
            match (self.symbol(reference), name.take()) {
                (Ok(text), None) => name = Some(text),
                (Ok(text), Some(name)) => pairs.push((name, text)),
                (Err(err), _) => {
                    bad.get_or_insert(err);
                }
            }
            Ok(())
        });
        match (read, bad, name) {
            (Ok(()), None, None) => Ok(()),
            (_, Some(bad), _) => Err(bad),
            _ => Err(BadLabels::Malformed),
        }
    }
}

fn labels_v1<'a>(region: &'a [u8], pairs: &mut Vec<(&'a str, &'a str)>) -> Result<(), BadLabels> {
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| BadLabels::Utf8);
    let wrong = |_: Malformed| BadLabels::Malformed;
    let mut fields = Fields::new(region);
    while let Some((number, value)) = fields.next().map_err(wrong)? {
        if number != 1 {
            continue;
        }
        let (mut name, mut content) = ("", "");
        let mut label = Fields::new(value.bytes().map_err(wrong)?);
        while let Some((number, value)) = label.next().map_err(wrong)? {
            match number {
                1 => name = text(value.bytes().map_err(wrong)?)?,
                2 => content = text(value.bytes().map_err(wrong)?)?,
                _ => {}
            }
        }
        pairs.push((name, content));
    }
    Ok(())
}

fn check_labels(pairs: &[(&str, &str)]) -> Result<(), BadLabels> {
    if pairs.iter().any(|pair| pair.0.is_empty()) {
        return Err(BadLabels::EmptyName);
    }
    if !pairs.iter().any(|pair| pair.0 == METRIC_NAME && !pair.1.is_empty()) {
        return Err(BadLabels::NoName);
    }
    if pairs.is_sorted_by(|a, b| a.0 < b.0) {
        return Ok(());
    }
    let mut names: Vec<&str> = pairs.iter().map(|pair| pair.0).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) { Err(BadLabels::Repeated) } else { Ok(()) }
}

#[inline]
fn sample(message: &[u8]) -> Result<(i64, f64), Malformed> {
    let (mut time, mut float) = (0, 0.0);
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => float = value.double()?,
            2 => time = value.int64()?,
            _ => {}
        }
    }
    Ok((time, float))
}

fn metadata_v1(message: &[u8]) -> Result<MetadataRow<'_>, Malformed> {
    let mut row = MetadataRow { metric: "", kind: "unknown", help: "", unit: "" };
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => row.kind = kind_name(value.low32()?),
            2 => row.metric = value.text().unwrap_or_default(),
            4 => row.help = value.text().unwrap_or_default(),
            5 => row.unit = value.text().unwrap_or_default(),
            _ => {}
        }
    }
    Ok(row)
}

/// Both messages number the kinds alike.
pub(crate) const KINDS: [&str; 8] = ["unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset"];

fn kind_name(number: u32) -> &'static str {
    KINDS.get(number as usize).copied().unwrap_or("unknown")
}

/// The family of a series: classic histograms and summaries have several series with one type and help.
fn family<'a>(metric: &'a str, kind: &str) -> &'a str {
    let suffixes: &[&str] = match kind {
        "histogram" => &["_bucket", "_count", "_sum"],
        "gaugehistogram" => &["_bucket", "_gcount", "_gsum"],
        "summary" => &["_count", "_sum"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| metric.strip_suffix(suffix)).unwrap_or(metric)
}
