//! From the body of one target to samples, and what is remembered from one look to the next.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use paramedic_model::secret::mask;
use paramedic_promql::labels::METRIC_NAME;
use paramedic_promql::number::stale;
use paramedic_promql::{Label, Labels, SampleValue};
use paramedic_samples::{Key, Metadata, Sample, SampleSink, SamplesError};

use super::config::Job;
use super::relabel::Rules;
use crate::exposition::{self, About, Format, ParseError, Series, Visitor, Word};
use crate::otlp::clean;

/// Samples that are handed on at once, so that nobody waits long for the store.
const BATCH_SAMPLES: usize = 20_000;
/// Metrics of one target whose type, help and unit are remembered.
const METADATA_MAX: usize = 10_000;
/// Bytes of a help text that are kept.
const HELP_BYTES_MAX: usize = 1_024;
/// Names that are kept once for all series of a target.
const WORDS_MAX: usize = 10_000;

/// Which bound failed a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    BodyBytesMax,
    SampleLimit,
    LabelLimit,
    LabelNameLengthLimit,
    LabelValueLengthLimit,
}

impl Limit {
    /// The name of the setting.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BodyBytesMax => "body_bytes_max",
            Self::SampleLimit => "sample_limit",
            Self::LabelLimit => "label_limit",
            Self::LabelNameLengthLimit => "label_name_length_limit",
            Self::LabelValueLengthLimit => "label_value_length_limit",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a body was not taken. Nothing of it was stored.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error("take {metric}: {found} is more than {limit} = {allowed}")]
    Limit { limit: Limit, metric: String, found: u64, allowed: u64 },
    #[error("take {metric}: the label {label} is there twice")]
    RepeatedLabel { metric: String, label: String },
    #[error("take {metric}: relabeling left it without a name")]
    Nameless { metric: String },
    #[error(transparent)]
    Store(#[from] SamplesError),
}

/// Bounds of one body; 0 means no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    pub samples: u64,
    pub labels: u64,
    pub label_name_bytes: u64,
    pub label_value_bytes: u64,
}

/// What was taken of one body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Samples in the body.
    pub samples: u64,
    /// Samples that relabeling left.
    pub kept: u64,
    /// Series that were not there before.
    pub new_series: u64,
    /// Series that ended, and were marked so.
    pub ended_series: u64,
    pub exemplars: u64,
    /// Samples that the store did not take: too old, too far in the future, contradictory or over its limits.
    pub refused: u64,
}

/// A series of the target, by its text.
struct Known {
    text: Box<str>,
    /// None when relabeling dropped it.
    labels: Option<Labels>,
    /// The look in which it was last seen.
    seen: u64,
    /// It has samples and no marker behind them.
    live: bool,
    /// It has samples.
    begun: bool,
}

/// One target's series.
pub struct Intake {
    labels: Vec<Label>,
    limits: Limits,
    honor_labels: bool,
    honor_timestamps: bool,
    track_timestamps: bool,
    rules: Rules,
    known: Vec<Known>,
    places: HashMap<Box<str>, u32>,
    /// The places of the last body's lines: the next body mostly has the same lines.
    order: Vec<u32>,
    words: HashSet<Arc<str>>,
    look: u64,
    /// What was found by the last look, also by one that failed.
    found: Taken,
    said: BTreeMap<String, (Metadata, bool)>,
    reports: [Labels; 5],
}

const REPORTS: [&str; 5] =
    ["up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling", "scrape_series_added"];

impl Intake {
    /// A target with its labels, and without bounds or relabeling.
    #[must_use]
    pub fn new(labels: BTreeMap<String, String>) -> Self {
        let labels: Vec<Label> =
            labels.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| label(&name, &value)).collect();
        let reports = REPORTS.map(|name| labels.iter().cloned().chain([label(METRIC_NAME, name)]).collect());
        Self {
            labels,
            limits: Limits::default(),
            honor_labels: false,
            honor_timestamps: true,
            track_timestamps: false,
            rules: Rules::default(),
            known: Vec::new(),
            places: HashMap::new(),
            order: Vec::new(),
            words: HashSet::new(),
            look: 0,
            found: Taken::default(),
            said: BTreeMap::new(),
            reports,
        }
    }

    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// A target of a job, whose settings were checked.
    pub(super) fn of_job(labels: BTreeMap<String, String>, job: &Job) -> Self {
        let mut intake = Self::new(labels).with_limits(Limits {
            samples: job.sample_limit,
            labels: job.label_limit,
            label_name_bytes: job.label_name_length_limit,
            label_value_bytes: job.label_value_length_limit,
        });
        intake.honor_labels = job.honor_labels;
        intake.honor_timestamps = job.honor_timestamps;
        intake.track_timestamps = job.track_timestamps_staleness;
        intake.rules = Rules::new(&job.metric_relabel).unwrap_or_default();
        intake
    }

    /// Takes a body that was seen at `now` (milliseconds), with the series that report about it. After an error the
    /// target counts as down, and its series have ended.
    pub fn take(&mut self, body: &[u8], format: Format, sink: &dyn SampleSink, now: i64) -> Result<Taken, TakeError> {
        let taken = self.samples(body, format, sink, now);
        if taken.is_err() {
            self.end(sink, now)?;
        }
        self.report(sink, now, taken.is_ok(), 0.0)?;
        taken
    }

    /// Takes the samples of a body, all or nothing, and marks the series that it no longer has.
    pub(super) fn samples(&mut self, body: &[u8], format: Format, sink: &dyn SampleSink, now: i64) -> Result<Taken, TakeError> {
        self.look += 1;
        self.found = Taken::default();
        let mut reading = Reading { intake: self, now, batch: Vec::new(), error: None };
        let parsed = exposition::parse(body, format, &mut reading);
        let Reading { batch, error, .. } = reading;
        let exemplars = match (error, parsed) {
            (Some(error), _) => return Err(error),
            (None, parsed) => parsed?.exemplars,
        };
        let mut taken = Taken { exemplars, ..self.found };
        self.order.truncate(usize::try_from(taken.samples).unwrap_or(usize::MAX));
        for part in batch.chunks(BATCH_SAMPLES) {
            let samples: Vec<Sample<'_>> = part.iter().filter_map(|(place, time, value)| self.sample(*place, *time, *value)).collect();
            let report = sink.append(&samples)?;
            taken.refused += report.conflicts + report.too_old + report.in_future + report.limited;
        }
        for (place, time, _) in &batch {
            let known = &mut self.known[*place as usize];
            let tracked = self.track_timestamps || *time == now;
            taken.new_series += u64::from(!known.begun);
            (known.begun, known.live) = (true, tracked);
        }
        taken.ended_series = self.mark(sink, now, |known, look| known.seen != look)?;
        self.tell_metadata(sink);
        self.found = taken;
        self.forget();
        Ok(taken)
    }

    /// Marks all series as ended: the target failed or leaves.
    pub(super) fn end(&mut self, sink: &dyn SampleSink, now: i64) -> Result<u64, SamplesError> {
        self.mark(sink, now, |_, _| true)
    }

    /// Writes what is known about the look itself. A look that failed while it read tells what it had read, as
    /// Prometheus does; one that failed before must be told with [`found_nothing`](Self::found_nothing).
    pub(super) fn report(&self, sink: &dyn SampleSink, now: i64, is_up: bool, seconds: f64) -> Result<(), SamplesError> {
        let Taken { samples, kept, new_series, .. } = self.found;
        #[expect(clippy::cast_precision_loss, reason = "counts are small")]
        let values = [f64::from(u8::from(is_up)), seconds, samples as f64, kept as f64, new_series as f64];
        self.write_reports(sink, now, values)
    }

    pub(super) fn found_nothing(&mut self) {
        self.found = Taken::default();
    }

    /// Ends also the series that report: the target has left.
    pub(super) fn leave(&mut self, sink: &dyn SampleSink, now: i64) -> Result<(), SamplesError> {
        self.end(sink, now)?;
        self.write_reports(sink, now, [stale(); 5])
    }

    fn write_reports(&self, sink: &dyn SampleSink, now: i64, values: [f64; 5]) -> Result<(), SamplesError> {
        let samples: Vec<Sample<'_>> = self
            .reports
            .iter()
            .zip(values)
            .map(|(labels, value)| Sample { series: Key::Labels(labels), time: now, value: SampleValue::Float(value) })
            .collect();
        sink.append(&samples)?;
        Ok(())
    }

    fn sample(&self, place: u32, time: i64, value: f64) -> Option<Sample<'_>> {
        let labels = self.known[place as usize].labels.as_ref()?;
        Some(Sample { series: Key::Labels(labels), time, value: SampleValue::Float(value) })
    }

    /// Writes markers for live series that pass, unless the same series was seen now under another text.
    fn mark(&mut self, sink: &dyn SampleSink, now: i64, ended: impl Fn(&Known, u64) -> bool) -> Result<u64, SamplesError> {
        let look = self.look;
        let gone: Vec<u32> = (0..).zip(&self.known).filter(|(_, known)| known.live && ended(known, look)).map(|(place, _)| place).collect();
        if gone.is_empty() {
            return Ok(0);
        }
        let mut alive: HashSet<&Labels> = HashSet::new();
        alive.extend(self.known.iter().filter(|known| known.live && !ended(known, look)).filter_map(|known| known.labels.as_ref()));
        let mut written = 0;
        for part in gone.chunks(BATCH_SAMPLES) {
            let samples: Vec<Sample<'_>> = part
                .iter()
                .filter_map(|place| self.sample(*place, now, stale()))
                .filter(|sample| matches!(sample.series, Key::Labels(labels) if !alive.contains(labels)))
                .collect();
            written += samples.len() as u64;
            sink.append(&samples)?;
        }
        for place in gone {
            let known = &mut self.known[place as usize];
            (known.live, known.begun) = (false, false);
        }
        Ok(written)
    }

    /// Takes over the live series of the same target under other settings, so that those which are not seen again end.
    pub(super) fn adopt(&mut self, before: Self) {
        for known in before.known.into_iter().filter(|known| known.live) {
            // No line has this text; the series stays alive if a line gives the same labels.
            self.known.push(Known { text: Box::default(), seen: 0, begun: true, ..known });
        }
    }

    fn tell_metadata(&mut self, sink: &dyn SampleSink) {
        for (metric, (metadata, told)) in &mut self.said {
            if !*told {
                // Failing to tell a help text is no reason to fail: it is told again when it changes.
                let _ = sink.set_metadata(metric, metadata.clone());
                *told = true;
            }
        }
    }

    /// Forgets series that have not been seen for a while, when they are many.
    fn forget(&mut self) {
        let seen = self.order.len();
        if self.known.len() <= 2 * seen + 1_000 {
            return;
        }
        let look = self.look;
        self.known.retain(|known| known.seen == look || known.live);
        self.places = (0..).zip(&self.known).map(|(place, known)| (known.text.clone(), place)).collect();
        self.order.clear();
        self.words.clear();
    }

    /// The place of a line's series, which is begun if it is new.
    fn place(&mut self, line: usize, series: &Series<'_, '_>) -> Result<u32, TakeError> {
        if let Some(place) = self.order.get(line)
            && *self.known[*place as usize].text == *series.text
        {
            return Ok(*place);
        }
        let place = match self.places.get(series.text) {
            Some(place) => *place,
            None => {
                let labels = self.labels_of(series)?;
                let place = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
                self.known.push(Known { text: series.text.into(), labels, seen: 0, live: false, begun: false });
                self.places.insert(series.text.into(), place);
                place
            }
        };
        if line < self.order.len() {
            self.order[line] = place;
        } else {
            self.order.push(place);
        }
        Ok(place)
    }

    /// The label set of a line: the target's labels joined, relabeled and checked.
    fn labels_of(&mut self, series: &Series<'_, '_>) -> Result<Option<Labels>, TakeError> {
        let metric = series.name.text().into_owned();
        let mut labels = vec![Label { name: self.word(METRIC_NAME), value: self.word(&metric) }];
        for (name, value) in series.labels {
            let (name, value) = (name.text(), value.text());
            if labels.iter().any(|label| *label.name == *name) {
                return Err(TakeError::RepeatedLabel { metric, label: name.into_owned() });
            }
            // Only what is a secret whatever the label is called: a label `secret` mostly holds a name, and hiding it
            // would make one series of many.
            let value: Arc<str> = if clean::may_hold_secret(&value) { mask(&value).into() } else { Arc::from(&*value) };
            labels.push(Label { name: self.word(&name), value });
        }
        self.join_target(&mut labels);
        let labels = if self.rules.is_empty() {
            Labels::new(labels)
        } else {
            let mut map = labels.iter().map(|label| (label.name.to_string(), label.value.to_string())).collect();
            if !self.rules.apply(&mut map) || map.is_empty() {
                return Ok(None);
            }
            map.iter().map(|(name, value)| Label { name: self.word(name), value: self.word(value) }).collect()
        };
        if labels.metric_name().is_empty() {
            return Err(TakeError::Nameless { metric });
        }
        self.check_labels(&metric, &labels)?;
        Ok(Some(labels))
    }

    /// Adds the target's labels. A label that the line has too keeps its value, or moves to `exported_<name>`.
    fn join_target(&self, labels: &mut Vec<Label>) {
        let written = labels.len();
        for own in &self.labels {
            match labels[..written].iter().position(|label| label.name == own.name && !label.value.is_empty()) {
                Some(_) if self.honor_labels => {}
                Some(at) => {
                    let mut moved = format!("exported_{}", own.name);
                    while labels.iter().chain(&self.labels).any(|label| *label.name == *moved) {
                        moved.insert_str(0, "exported_");
                    }
                    labels[at].name = moved.into();
                    labels.push(own.clone());
                }
                None => {
                    labels.retain_mut(|label| label.name != own.name || !label.value.is_empty());
                    labels.push(own.clone());
                }
            }
        }
    }

    fn check_labels(&self, metric: &str, labels: &Labels) -> Result<(), TakeError> {
        let over = |limit, found: usize, allowed: u64| {
            let found = found as u64;
            if allowed == 0 || found <= allowed {
                return Ok(());
            }
            Err(TakeError::Limit { limit, metric: paramedic_model::text::head(metric, 200).to_owned(), found, allowed })
        };
        over(Limit::LabelLimit, labels.len(), self.limits.labels)?;
        for label in labels.iter() {
            over(Limit::LabelNameLengthLimit, label.name.len(), self.limits.label_name_bytes)?;
            over(Limit::LabelValueLengthLimit, label.value.len(), self.limits.label_value_bytes)?;
        }
        Ok(())
    }

    /// A text that many series have, kept once.
    fn word(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.words.get(text) {
            return Arc::clone(known);
        }
        let word: Arc<str> = text.into();
        if self.words.len() < WORDS_MAX {
            self.words.insert(Arc::clone(&word));
        }
        word
    }
}

fn label(name: &str, value: &str) -> Label {
    Label { name: name.into(), value: value.into() }
}

/// A body while it is read.
struct Reading<'i> {
    intake: &'i mut Intake,
    now: i64,
    batch: Vec<(u32, i64, f64)>,
    error: Option<TakeError>,
}

impl Reading<'_> {
    fn line(&mut self, sample: &exposition::Sample<'_, '_>) -> Result<(), TakeError> {
        let line = usize::try_from(self.intake.found.samples).unwrap_or(usize::MAX);
        self.intake.found.samples += 1;
        let place = self.intake.place(line, &sample.series)?;
        let known = &mut self.intake.known[place as usize];
        known.seen = self.intake.look;
        if known.labels.is_none() {
            return Ok(());
        }
        let allowed = self.intake.limits.samples;
        self.intake.found.kept += 1;
        let found = self.intake.found.kept;
        if allowed != 0 && found > allowed {
            // The rest is counted, so that an operator sees what the limit would have to be.
            self.batch = Vec::new();
            let metric = "the body".to_owned();
            self.error = Some(TakeError::Limit { limit: Limit::SampleLimit, metric, found, allowed });
            return Ok(());
        }
        let time = if self.intake.honor_timestamps { sample.time.unwrap_or(self.now) } else { self.now };
        self.batch.push((place, time, sample.value));
        Ok(())
    }
}

impl<'a> Visitor<'a> for Reading<'_> {
    fn sample(&mut self, sample: &exposition::Sample<'_, 'a>) -> ControlFlow<()> {
        match self.line(sample) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.error = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    fn about(&mut self, metric: &Word<'a>, about: About<'a>) {
        let metric = metric.text();
        let said = &mut self.intake.said;
        if !said.contains_key(&*metric) {
            if said.len() >= METADATA_MAX {
                return;
            }
            said.insert(metric.clone().into_owned(), (Metadata { kind: "unknown".to_owned(), ..Metadata::default() }, false));
        }
        let Some((metadata, told)) = said.get_mut(&*metric) else { return };
        let (field, text) = match about {
            About::Kind(kind) => (&mut metadata.kind, std::borrow::Cow::Borrowed(kind.name())),
            About::Help(help) if help.len() > HELP_BYTES_MAX || clean::may_hold_secret(&help) => {
                (&mut metadata.help, clean::bounded(&help, HELP_BYTES_MAX).into())
            }
            About::Help(help) => (&mut metadata.help, help),
            About::Unit(unit) => (&mut metadata.unit, std::borrow::Cow::Borrowed(unit)),
        };
        if **field != *text {
            *field = text.into_owned();
            *told = false;
        }
    }
}
