//! Go templates in labels and annotations, with the functions of Prometheus.
//!
//! The syntax and its execution are `gotmpl`'s; what it does otherwise than Go is mended on the parsed tree: a missing label
//! is the empty text, numbers print as Go prints them, unknown functions are found before anything is executed, and nothing
//! grows without bounds.

mod functions;
mod humanize;
mod rewrite;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use gotmpl::{Template, Value};
use paramedic_promql::{Labels, Point};

/// The most bytes one template may give, and any value within it may have.
pub(crate) const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// The most turns of all loops of one template.
const TURNS_MAX: u64 = 100_000;
/// The longest template that is read.
const TEMPLATE_BYTES_MAX: usize = 64 * 1024;
/// What every template begins with, so that its author need not write it.
const VARIABLES: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}";

/// What `query` gives: label sets and their values.
pub(crate) type Elements = Vec<(Labels, Point)>;
/// Answers the `query` function.
pub(crate) type Ask = Arc<dyn Fn(&str) -> Result<Elements, String> + Send + Sync>;

/// What templates see beside an alert's labels.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) ask: Ask,
    pub(crate) now_ms: i64,
}

/// The scene of the evaluation that is going on.
type Slot = Arc<Mutex<Option<Scene>>>;

/// A text that may have templates in it.
#[derive(Debug, Clone)]
pub(crate) enum Text {
    Plain(String),
    /// The name it has in its [`Book`].
    Template {
        page: String,
        rule: String,
    },
}

/// All templates of a group, ready to be executed.
pub(crate) struct Book {
    template: Template,
    slot: Slot,
    external_labels: Value,
    external_url: Value,
}

impl fmt::Debug for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Book").finish_non_exhaustive()
    }
}

/// Puts templates into a book.
pub(crate) struct Binder {
    /// Always there but while a page is added.
    template: Option<Template>,
    slot: Slot,
    pages: usize,
}

impl Binder {
    /// `external_url` is what `externalURL` and `pathPrefix` tell.
    pub(crate) fn new(external_url: &str) -> Self {
        let slot = Slot::default();
        let template = Template::new("").max_range_iters(TURNS_MAX).funcs(functions::all(&slot, external_url));
        Self { template: Some(template), slot, pages: 0 }
    }

    /// Adds a text of a rule; the error is what is wrong with it.
    pub(crate) fn add(&mut self, rule: &str, text: &str) -> Result<Text, String> {
        if !text.contains("{{") {
            return Ok(Text::Plain(text.to_owned()));
        }
        let page = self.pages.to_string();
        let trees = rewrite::trees(rule, &format!("{VARIABLES}{text}"), &page)?;
        self.pages += 1;
        self.template =
            self.template.take().map(|template| trees.into_iter().fold(template, |all, (name, tree)| all.add_parse_tree(&name, tree)));
        Ok(Text::Template { page, rule: rule.to_owned() })
    }

    pub(crate) fn bind(self, external_labels: &BTreeMap<String, String>, external_url: &str) -> Book {
        let labels = external_labels.iter().map(|(name, value)| (Arc::from(name.as_str()), text(value)));
        Book {
            template: self.template.unwrap_or_else(|| Template::new("")),
            slot: self.slot,
            external_labels: Value::Map(Arc::new(labels.collect())),
            external_url: text(external_url),
        }
    }
}

impl Book {
    /// Sets what `query` and `now` refer to, until the answer is dropped.
    pub(crate) fn open(&self, scene: Scene) -> Reading<'_> {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(scene);
        Reading(self)
    }
}

/// A book open at one evaluation.
pub(crate) struct Reading<'a>(&'a Book);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        *self.0.slot.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The data of one alert for its templates.
pub(crate) struct Data(Value);

impl Reading<'_> {
    /// What the templates of one alert see.
    pub(crate) fn data(&self, labels: &Labels, value: &Point) -> Data {
        let value = match value {
            Point::Float(value) => Value::Float(*value),
            Point::Histogram(histogram) => text(&histogram.to_string()),
        };
        let entries = [
            ("Labels", label_map(labels)),
            ("ExternalLabels", self.0.external_labels.clone()),
            ("ExternalURL", self.0.external_url.clone()),
            ("Value", value),
        ];
        Data(Value::Map(Arc::new(entries.into_iter().map(|(name, value)| (Arc::from(name), value)).collect())))
    }

    /// Executes a text; an error gives the text that Prometheus gives.
    pub(crate) fn expand(&self, text: &Text, data: &Data) -> Result<String, String> {
        let (page, rule) = match text {
            Text::Plain(text) => return Ok(text.clone()),
            Text::Template { page, rule } => (page, rule),
        };
        let mut output = Bounded::default();
        match self.0.template.execute_template_fmt(&mut output, page, &data.0) {
            Ok(()) => Ok(output.0),
            Err(err) => {
                let reason = paramedic_model::text::capped(&functions::error_text(&err), 1_024).into_owned();
                Err(format!("<error expanding template: error executing template __alert_{rule}: template: __alert_{rule}: {reason}>"))
            }
        }
    }
}

/// Whether a template of a rule can be read: the error is Prometheus's.
pub(crate) fn check(rule: &str, text: &str) -> Result<(), String> {
    if !text.contains("{{") {
        return Ok(());
    }
    if text.len() > TEMPLATE_BYTES_MAX {
        return Err(format!("the template is longer than {TEMPLATE_BYTES_MAX} bytes"));
    }
    rewrite::trees(rule, &format!("{VARIABLES}{text}"), "0").map(|_| ())
}

fn text(text: &str) -> Value {
    Value::String(Arc::from(text))
}

/// Labels as templates see them.
fn label_map(labels: &Labels) -> Value {
    Value::Map(Arc::new(labels.iter().map(|label| (Arc::clone(&label.name), Value::String(Arc::clone(&label.value)))).collect()))
}

/// Text that takes no more than it may.
#[derive(Default)]
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > OUTPUT_BYTES_MAX {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
