//! Remote read: a Prometheus asks for raw samples, and gets them as one message (`SAMPLES`). Chunks are not offered: who
//! accepts them also accepts samples.

use paramedic_promql::{Labels, Matcher, SampleValue, StoredSeries};
use paramedic_samples::Samples;

use crate::config::ReadSettings;
use crate::encode::{self, bytes, v1_series, varint};
use crate::error::{Malformed, RemoteError};
use crate::metrics::{ByStatus, QueryMetrics};
use crate::snappy;
use crate::wire::Fields;
use crate::write::Answer;

/// One selection of a request.
#[derive(Debug, Clone)]
pub struct ReadQuery {
    /// Milliseconds, both included.
    pub from_ms: i64,
    pub to_ms: i64,
    pub matchers: Vec<Matcher>,
}

/// Matchers in one query.
const MATCHERS_MAX: usize = 100;

/// Reads a `prometheus.ReadRequest`, compressed.
pub fn queries(body: &[u8], settings: &ReadSettings) -> Result<Vec<ReadQuery>, Malformed> {
    let message = snappy::decompress(body, settings.request_bytes_max)?;
    let mut queries = Vec::new();
    let mut fields = Fields::new(&message);
    while let Some((number, value)) = fields.next()? {
        if number == 1 {
            if queries.len() >= settings.queries_max {
                return Err(Malformed::TooMany { what: "queries", allowed: settings.queries_max });
            }
            queries.push(query(value.bytes()?)?);
        }
    }
    Ok(queries)
}

fn query(message: &[u8]) -> Result<ReadQuery, Malformed> {
    let mut query = ReadQuery { from_ms: 0, to_ms: 0, matchers: Vec::new() };
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => query.from_ms = value.int64()?,
            2 => query.to_ms = value.int64()?,
            3 if query.matchers.len() >= MATCHERS_MAX => {
                return Err(Malformed::TooMany { what: "matchers", allowed: MATCHERS_MAX });
            }
            3 => query.matchers.push(matcher(value.bytes()?)?),
            // Hints may be ignored.
            _ => {}
        }
    }
    Ok(query)
}

fn matcher(message: &[u8]) -> Result<Matcher, Malformed> {
    let (mut kind, mut name, mut pattern) = (0, "", "");
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => kind = value.low32()?,
            2 => name = value.text()?,
            3 => pattern = value.text()?,
            _ => {}
        }
    }
    match kind {
        0 => Ok(Matcher::equal(name, pattern)),
        1 => Ok(Matcher::not_equal(name, pattern)),
        2 | 3 => Matcher::regex(name, pattern, kind == 3).map_err(|err| Malformed::Matcher(err.message)),
        _ => Err(Malformed::Matcher(format!("type {kind} is not known"))),
    }
}

/// Answers a request from the store: a compressed `prometheus.ReadResponse`. Blocking.
pub fn handle(body: &[u8], samples: &Samples, settings: &ReadSettings, metrics: &QueryMetrics) -> Result<Vec<u8>, RemoteError> {
    let mut message = Vec::new();
    let mut count = 0;
    for query in queries(body, settings)? {
        let mut series = samples.select(&query.matchers, query.from_ms, query.to_ms)?;
        // Clients merge sorted answers.
        series.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        let mut result = Vec::new();
        for series in &series {
            count += write_series(&mut result, series, &query);
            if count > settings.samples_max {
                return Err(RemoteError::TooMuch { what: "samples_max", allowed: settings.samples_max });
            }
            if message.len() + result.len() > settings.answer_bytes_max {
                return Err(RemoteError::TooMuch { what: "answer_bytes_max", allowed: settings.answer_bytes_max });
            }
        }
        bytes(&mut message, 1, &result);
    }
    metrics.read_samples.inc_by(count as u64);
    Ok(snappy::compress(&message)?)
}

/// Writes one series with its samples of the query's time, and returns how many there were.
fn write_series(out: &mut Vec<u8>, series: &StoredSeries, query: &ReadQuery) -> usize {
    let inside = |time: &i64| (query.from_ms..=query.to_ms).contains(time);
    let floats = series.samples.times.iter().zip(&series.samples.values).filter(|(time, _)| inside(time));
    let floats: Vec<(i64, SampleValue)> = floats.map(|(time, value)| (*time, SampleValue::Float(*value))).collect();
    let histograms = series.samples.histograms.iter().filter(|(time, _)| inside(time));
    let histograms: Vec<(i64, SampleValue)> = histograms.map(|(time, value)| (*time, SampleValue::Histogram(value.clone()))).collect();
    let count = floats.len() + histograms.len();
    if count > 0 {
        let pairs = series.labels.iter().map(|label| (&*label.name, &*label.value));
        v1_series(out, pairs, floats.into_iter().chain(histograms));
    }
    count
}

/// The whole answer for the wire. Mount it at `POST /api/v1/read`. Blocking.
pub fn answer(body: &[u8], samples: &Samples, settings: &ReadSettings, metrics: &QueryMetrics) -> (Answer, Vec<u8>) {
    let text = |status, err: &RemoteError| {
        let headers = vec![("Content-Type", "text/plain; charset=utf-8".to_owned())];
        Answer { status, headers, body: crate::http::quote(&format!("failed to {err}")) }
    };
    let (answer, bytes) = match handle(body, samples, settings, metrics) {
        Ok(bytes) => {
            let headers = [("Content-Type", "application/x-protobuf"), ("Content-Encoding", "snappy")];
            let headers = headers.map(|(name, value)| (name, value.to_owned())).to_vec();
            (Answer { status: 200, headers, body: String::new() }, bytes)
        }
        Err(err @ (RemoteError::Malformed(_) | RemoteError::TooMuch { .. })) => (text(400, &err), Vec::new()),
        Err(err) => (text(500, &err), Vec::new()),
    };
    metrics.reads.get_or_create(&ByStatus { status: answer.status }).inc();
    (answer, bytes)
}

/// Writes a compressed `prometheus.ReadRequest`, for asking another store.
pub fn request(queries: &[ReadQuery]) -> Result<Vec<u8>, Malformed> {
    let mut message = Vec::new();
    for query in queries {
        encode::message(&mut message, 1, |out| {
            for (tag, time) in [(1 << 3, query.from_ms), (2 << 3, query.to_ms)] {
                varint(out, tag);
                varint(out, time.cast_unsigned());
            }
            for matcher in &query.matchers {
                let kind = match matcher.op_text() {
                    "!=" => 1,
                    "=~" => 2,
                    "!~" => 3,
                    _ => 0,
                };
                encode::message(out, 3, |out| {
                    varint(out, 1 << 3);
                    varint(out, kind);
                    bytes(out, 2, matcher.name.as_bytes());
                    bytes(out, 3, matcher.value.as_bytes());
                });
            }
        });
    }
    snappy::compress(&message)
}

/// One series of an answer: labels, floats and native histograms, by time.
pub type ReadSeries = (Labels, Vec<(i64, f64)>, Vec<(i64, paramedic_promql::Histogram)>);

/// Reads a compressed `prometheus.ReadResponse`: for each query its series.
pub fn response(body: &[u8], settings: &ReadSettings) -> Result<Vec<Vec<ReadSeries>>, Malformed> {
    use crate::write::decode::{Bounds, Decoded};
    let message = snappy::decompress(body, settings.answer_bytes_max)?;
    let bounds = Bounds { series: settings.samples_max, samples: settings.samples_max, histogram_buckets: 10_000 };
    let mut results = Vec::new();
    let mut fields = Fields::new(&message);
    while let Some((number, value)) = fields.next()? {
        if number != 1 {
            continue;
        }
        // A result holds series as a write request does.
        let decoded = Decoded::v1(value.bytes()?, bounds, 0)?;
        let mut pairs = Vec::new();
        let mut series: Vec<ReadSeries> = Vec::with_capacity(decoded.series.len());
        for labels in &decoded.series {
            pairs.clear();
            labels.labels_v1(&mut pairs).map_err(|_| Malformed::Utf8)?;
            series.push((Labels::from_pairs(&pairs), Vec::new(), Vec::new()));
        }
        decoded.floats.iter().for_each(|(at, time, value)| series[*at as usize].1.push((*time, *value)));
        decoded.histograms.into_iter().for_each(|(at, time, value)| series[at as usize].2.push((time, value)));
        results.push(series);
    }
    Ok(results)
}
