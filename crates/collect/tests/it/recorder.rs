//! A sink that remembers what it was given.

use std::collections::BTreeMap;
use std::sync::Mutex;

use paramedic_promql::{Labels, SampleValue};
use paramedic_samples::{AppendReport, Key, Metadata, Sample, SampleSink, SamplesError};

#[derive(Default)]
pub(crate) struct Recorder {
    samples: Mutex<Vec<(Labels, i64, SampleValue)>>,
    metadata: Mutex<BTreeMap<String, Metadata>>,
}

impl SampleSink for Recorder {
    fn append(&self, batch: &[Sample<'_>]) -> Result<AppendReport, SamplesError> {
        let labels = |key: &Key<'_>| match key {
            Key::Labels(labels) => (*labels).clone(),
            Key::Pairs(pairs) => Labels::from_pairs(pairs),
            Key::Ref(_) => panic!("this sink gives no references"),
        };
        let taken = batch.iter().map(|sample| (labels(&sample.series), sample.time, sample.value.clone()));
        self.samples.lock().unwrap().extend(taken);
        Ok(AppendReport { appended: batch.len() as u64, ..AppendReport::default() })
    }

    fn set_metadata(&self, metric: &str, metadata: Metadata) -> Result<(), SamplesError> {
        self.metadata.lock().unwrap().insert(metric.to_owned(), metadata);
        Ok(())
    }
}

impl Recorder {
    pub(crate) fn take(&self) -> Vec<(Labels, i64, SampleValue)> {
        std::mem::take(&mut self.samples.lock().unwrap())
    }

    /// Everything that came since the last call, as sorted lines: `name{label="value"} value @time`.
    pub(crate) fn lines(&self) -> Vec<String> {
        let shown = |(labels, time, value): (Labels, i64, SampleValue)| {
            let rest: Labels = labels.iter().filter(|label| &*label.name != "__name__").cloned().collect();
            line(&format!("{}{rest}", labels.metric_name()), time, value)
        };
        let mut lines: Vec<String> = self.take().into_iter().map(shown).collect();
        lines.sort();
        lines
    }

    pub(crate) fn metadata(&self) -> BTreeMap<String, Metadata> {
        self.metadata.lock().unwrap().clone()
    }
}

fn line(labels: &str, time: i64, value: SampleValue) -> String {
    match value {
        SampleValue::Float(value) if paramedic_promql::number::is_stale(value) => format!("{labels} stale @{time}"),
        SampleValue::Float(value) => format!("{labels} {value} @{time}"),
        SampleValue::Histogram(value) if value.is_stale() => format!("{labels} stale histogram @{time}"),
        SampleValue::Histogram(value) => format!("{labels} {value} @{time}"),
    }
}
