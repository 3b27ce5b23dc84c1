//! Where receivers put samples: this store, or something that also forwards them.

use crate::append::{AppendReport, Sample};
use crate::error::SamplesError;
use crate::store::{Metadata, Samples};

/// Takes samples from scrapes, receivers, probes and rules.
pub trait SampleSink: Send + Sync {
    /// Stores a batch. Blocking, but only for a write to the log in memory of the operating system.
    fn append(&self, batch: &[Sample<'_>]) -> Result<AppendReport, SamplesError>;
    /// Remembers what an exporter says about a metric.
    fn set_metadata(&self, metric: &str, metadata: Metadata) -> Result<(), SamplesError>;
}

impl SampleSink for Samples {
    fn append(&self, batch: &[Sample<'_>]) -> Result<AppendReport, SamplesError> {
        Samples::append(self, batch)
    }

    fn set_metadata(&self, metric: &str, metadata: Metadata) -> Result<(), SamplesError> {
        Samples::set_metadata(self, metric, metadata)
    }
}
