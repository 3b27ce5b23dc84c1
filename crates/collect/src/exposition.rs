//! What an exporter shows: the Prometheus text format and OpenMetrics.
//!
//! **Takes** a body as bytes: the text format 0.0.4, the same with quoted UTF-8 names (1.0.0), or OpenMetrics 1.0 text.
//! **Gives** each sample with its series, its value and its time, and what the exporter says about its metrics, to a
//! [`Visitor`]; nothing is copied but names and values that hold escapes. **Never** gives part of a line, never takes
//! more memory than the labels of one line need, never guesses: what the formats do not allow is an error that names
//! the line.
//!
//! Histograms and summaries are series like all others. Exemplars are read, counted and left out.

use std::borrow::Cow;
use std::ops::ControlFlow;

mod cursor;
mod read;

pub use cursor::Word;

/// How the body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// The text format of Prometheus, with or without quoted names.
    #[default]
    Text,
    OpenMetrics,
}

/// The media type of an answer that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read content of type {0:?}")]
pub struct UnknownFormat(pub String);

impl Format {
    /// The format that a `Content-Type` names. None, and anything that is plain text, is the text format.
    pub fn of_content_type(named: &str) -> Result<Self, UnknownFormat> {
        let media = named.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match media.as_str() {
            "" | "text/plain" => Ok(Self::Text),
            "application/openmetrics-text" => Ok(Self::OpenMetrics),
            _ => Err(UnknownFormat(paramedic_model::text::head(&media, 100).to_owned())),
        }
    }

    /// The format of a text that came without a content type: only OpenMetrics ends with `# EOF`.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        if text.trim_end_matches('\n').ends_with("# EOF") { Self::OpenMetrics } else { Self::Text }
    }
}

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
    Unknown,
}

impl Kind {
    /// The word that the query API uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
            Self::Unknown => "unknown",
        }
    }
}

/// One part of what an exporter says about a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About<'a> {
    Kind(Kind),
    Help(Cow<'a, str>),
    Unit(&'a str),
}

/// The name and the labels of one line.
#[derive(Debug, Clone, Copy)]
pub struct Series<'s, 'a> {
    /// As it was written: the same text is the same series.
    pub text: &'a str,
    pub name: Word<'a>,
    pub labels: &'s [(Word<'a>, Word<'a>)],
}

/// One line with a value.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'s, 'a> {
    pub series: Series<'s, 'a>,
    pub value: f64,
    /// Milliseconds since 1970, when the line says it.
    pub time: Option<i64>,
}

/// Takes what is read, in the order in which it stands in the body.
pub trait Visitor<'a> {
    /// `Break` ends the reading.
    fn sample(&mut self, sample: &Sample<'_, 'a>) -> ControlFlow<()>;

    fn about(&mut self, _metric: &Word<'a>, _about: About<'a>) {}
}

/// What was in a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub samples: u64,
    pub exemplars: u64,
}

/// Why a body is not an exposition. What came before the line was given to the visitor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read line {line}: {what}")]
pub struct ParseError {
    pub line: usize,
    pub what: &'static str,
}

/// Reads a whole body.
pub fn parse<'a>(body: &'a [u8], format: Format, visitor: &mut impl Visitor<'a>) -> Result<Counts, ParseError> {
    let text = match std::str::from_utf8(body) {
        Ok(text) => text,
        Err(error) => return Err(ParseError { line: line_of(body, error.valid_up_to()), what: "this is not UTF-8" }),
    };
    let mut reader = read::Reader::new(text, format);
    match reader.read(visitor) {
        Ok(()) => Ok(reader.counts),
        Err(what) => Err(ParseError { line: line_of(body, reader.line_start()), what }),
    }
}

fn line_of(body: &[u8], at: usize) -> usize {
    memchr::memchr_iter(b'\n', &body[..at.min(body.len())]).count() + 1
}
