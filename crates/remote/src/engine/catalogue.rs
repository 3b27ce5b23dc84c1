//! The series, labels and metadata of another store.

use std::collections::BTreeMap;

use paramedic_promql::{Label, Labels};
use paramedic_samples::Metadata;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{ExternalEngine, form_of, seconds, words};
use crate::error::EngineError;

/// Which series are meant: those that pass any of the selectors, in a range of time (milliseconds). No selector means all.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    pub selectors: &'a [String],
    pub from_ms: i64,
    pub to_ms: i64,
    /// The most entries that are wanted; a store that does not know the parameter may give more.
    pub limit: usize,
}

/// A list, and what the store remarks about it.
pub type Listed<T> = (Vec<T>, Vec<String>);

#[derive(Deserialize)]
struct Envelope<T> {
    #[serde(default)]
    status: String,
    data: Option<T>,
    #[serde(default, rename = "errorType")]
    error_type: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
struct MetadataJson {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    help: String,
    #[serde(default)]
    unit: String,
}

impl ExternalEngine {
    /// The label sets of series.
    pub async fn series(&self, selection: Selection<'_>) -> Result<Listed<Labels>, EngineError> {
        let (series, warnings): (Vec<BTreeMap<String, String>>, _) = self.list("/api/v1/series", selection.form(), true).await?;
        let labels = |pairs: BTreeMap<String, String>| {
            pairs.into_iter().map(|(name, value)| Label { name: name.into(), value: value.into() }).collect()
        };
        Ok((series.into_iter().map(labels).collect(), warnings))
    }

    /// The names of labels.
    pub async fn label_names(&self, selection: Selection<'_>) -> Result<Listed<String>, EngineError> {
        self.list("/api/v1/labels", selection.form(), true).await
    }

    /// The values of a label.
    pub async fn label_values(&self, name: &str, selection: Selection<'_>) -> Result<Listed<String>, EngineError> {
        self.list(&format!("/api/v1/label/{name}/values"), selection.form(), false).await
    }

    /// What exporters say about metrics.
    pub async fn metadata(&self, metric: Option<&str>, limit: usize) -> Result<Vec<(String, Metadata)>, EngineError> {
        let limit_text = limit.to_string();
        let mut parameters = vec![("limit", limit_text.as_str())];
        parameters.extend(metric.map(|metric| ("metric", metric)));
        let (all, _): (BTreeMap<String, Vec<MetadataJson>>, _) = self.list("/api/v1/metadata", form_of(&parameters), false).await?;
        let first = |(metric, told): (String, Vec<MetadataJson>)| {
            let MetadataJson { kind, help, unit } = told.into_iter().next()?;
            Some((metric, Metadata { kind, help, unit }))
        };
        Ok(all.into_iter().filter_map(first).take(limit).collect())
    }

    async fn list<T: DeserializeOwned>(&self, path: &str, form: String, post: bool) -> Result<(T, Vec<String>), EngineError> {
        let (status, body) = self.within_time(self.request(path, form, post)).await?;
        let envelope: Envelope<T> = match serde_json::from_slice(&body) {
            Ok(envelope) => envelope,
            Err(err) if status == 200 => return Err(EngineError::Answer(words(&err.to_string()))),
            Err(_) => return Err(EngineError::Status { status, text: words(&String::from_utf8_lossy(&body[..body.len().min(1_000)])) }),
        };
        match envelope.data {
            Some(data) if envelope.status == "success" && status == 200 => Ok((data, envelope.warnings)),
            _ if envelope.error_type == "bad_data" => Err(EngineError::BadQuery(words(&envelope.error))),
            _ if !envelope.error.is_empty() => Err(EngineError::Execution(words(&envelope.error))),
            _ => Err(EngineError::Answer("there is no data in it".to_owned())),
        }
    }
}

impl Selection<'_> {
    fn form(&self) -> String {
        let (from, to, limit) = (seconds(self.from_ms), seconds(self.to_ms), self.limit.to_string());
        let mut parameters = vec![("start", from.as_str()), ("end", to.as_str()), ("limit", limit.as_str())];
        parameters.extend(self.selectors.iter().map(|selector| ("match[]", selector.as_str())));
        form_of(&parameters)
    }
}
