//! Unit-test files of rules as promtool reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::problem::Problem;
use crate::reader::{Entry, Reader};
use crate::yaml::{self, Node};

/// A unit-test file.
#[derive(Debug, Default)]
pub(super) struct TestFile {
    pub(super) rule_files: Vec<PathBuf>,
    pub(super) interval_ms: i64,
    pub(super) order: Vec<String>,
    pub(super) fuzzy: bool,
    pub(super) tests: Vec<TestGroup>,
}

/// Series and what is expected of the rules over them.
#[derive(Debug, Default)]
pub(super) struct TestGroup {
    pub(super) name: String,
    /// 0 is the interval of evaluation.
    pub(super) interval_ms: i64,
    pub(super) series: Vec<(String, String)>,
    pub(super) alerts: Vec<AlertTest>,
    pub(super) exprs: Vec<ExprTest>,
    pub(super) external_labels: BTreeMap<String, String>,
    pub(super) external_url: String,
    pub(super) start_ms: i64,
}

#[derive(Debug, Default)]
pub(super) struct AlertTest {
    pub(super) at_ms: i64,
    pub(super) name: String,
    pub(super) expected: Vec<ExpectedAlert>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ExpectedAlert {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
pub(super) struct ExprTest {
    pub(super) expr: String,
    pub(super) at_ms: i64,
    pub(super) expected: Vec<ExpectedSample>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct ExpectedSample {
    pub(super) labels: String,
    pub(super) value: f64,
    pub(super) histogram: String,
}

/// Reads a test file; problems are errors.
pub(super) fn read(text: &str, name: &str) -> Result<TestFile, Vec<Problem>> {
    let stream = yaml::read(text);
    let mut reader = Reader::new(name);
    let mut file = TestFile { interval_ms: 60_000, ..TestFile::default() };
    if let Some(malformed) = stream.malformed {
        reader.problem_at(crate::problem::Level::Error, malformed.line, malformed.column, malformed.message);
    } else if let Some(Some(root)) = stream.documents.first() {
        const KEYS: &[&str] = &["rule_files", "evaluation_interval", "group_eval_order", "tests", "fuzzy_compare"];
        for entry in reader.entries(root, KEYS) {
            read_key(&mut reader, &entry, &mut file);
        }
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = file.order.iter().find(|group| !seen.insert(group.as_str())) {
        reader.problem_at(
            crate::problem::Level::Error,
            1,
            1,
            format!("group_eval_order: group name repeated in evaluation order: {twice}"),
        );
    }
    if reader.problems.is_empty() { Ok(file) } else { Err(reader.problems) }
}

fn read_key(reader: &mut Reader, entry: &Entry, file: &mut TestFile) {
    match entry.key.as_str() {
        "rule_files" => file.rule_files = texts(reader, entry).into_iter().map(PathBuf::from).collect(),
        "evaluation_interval" => file.interval_ms = reader.duration(entry).filter(|ms| *ms > 0).unwrap_or(60_000),
        "group_eval_order" => file.order = texts(reader, entry),
        "fuzzy_compare" => file.fuzzy = reader.boolean(entry).unwrap_or_default(),
        _ => file.tests = list(reader, entry, read_group),
    }
}

fn list<T>(reader: &mut Reader, entry: &Entry, read: fn(&mut Reader, &Arc<Node>) -> T) -> Vec<T> {
    reader.items(&entry.value, &entry.key).iter().map(|node| read(reader, node)).collect()
}

fn texts(reader: &mut Reader, entry: &Entry) -> Vec<String> {
    let items = reader.items(&entry.value, &entry.key);
    let item = |node: Arc<Node>| Entry { key: entry.key.clone(), line: node.line, column: node.column, value: node };
    items.into_iter().filter_map(|node| reader.text(&item(node))).collect()
}

fn map(reader: &mut Reader, entry: &Entry) -> BTreeMap<String, String> {
    let pairs = reader.pairs(entry);
    pairs.into_iter().map(|entry| (entry.key.clone(), reader.text(&entry).unwrap_or_default())).collect()
}

fn read_group(reader: &mut Reader, node: &Arc<Node>) -> TestGroup {
    const KEYS: &[&str] =
        &["name", "interval", "input_series", "alert_rule_test", "promql_expr_test", "external_labels", "external_url", "start_timestamp"];
    let mut group = TestGroup::default();
    for entry in reader.entries(node, KEYS) {
        match entry.key.as_str() {
            "name" => group.name = reader.text(&entry).unwrap_or_default(),
            "interval" => group.interval_ms = reader.duration(&entry).unwrap_or(0),
            "input_series" => group.series = list(reader, &entry, read_series),
            "alert_rule_test" => group.alerts = list(reader, &entry, read_alert_test),
            "promql_expr_test" => group.exprs = list(reader, &entry, read_expr_test),
            "external_labels" => group.external_labels = map(reader, &entry),
            "external_url" => group.external_url = reader.text(&entry).unwrap_or_default(),
            _ => group.start_ms = read_start(reader, &entry),
        }
    }
    group
}

/// Seconds since 1970 or a date.
fn read_start(reader: &mut Reader, entry: &Entry) -> i64 {
    let text = reader.text(entry).unwrap_or_default();
    let date = paramedic_model::Timestamp::parse(&text).map(paramedic_model::Timestamp::as_millis);
    let start = date.or_else(|| text.parse::<f64>().ok().filter(|seconds| seconds.abs() < 1e12).map(|seconds| (seconds * 1_000.0) as i64));
    start.unwrap_or_else(|| {
        reader.error_in(entry, format!("neither a date nor a number of seconds: {text:?}"));
        0
    })
}

fn read_series(reader: &mut Reader, node: &Arc<Node>) -> (String, String) {
    let mut series = (String::new(), String::new());
    for entry in reader.entries(node, &["series", "values"]) {
        let text = reader.text(&entry).unwrap_or_default();
        if entry.key == "series" { series.0 = text } else { series.1 = text }
    }
    series
}

fn read_alert_test(reader: &mut Reader, node: &Arc<Node>) -> AlertTest {
    let mut test = AlertTest::default();
    for entry in reader.entries(node, &["eval_time", "alertname", "exp_alerts"]) {
        match entry.key.as_str() {
            "eval_time" => test.at_ms = reader.duration(&entry).unwrap_or(0),
            "alertname" => test.name = reader.text(&entry).unwrap_or_default(),
            _ => test.expected = list(reader, &entry, read_alert),
        }
    }
    test
}

fn read_alert(reader: &mut Reader, node: &Arc<Node>) -> ExpectedAlert {
    let mut alert = ExpectedAlert::default();
    for entry in reader.entries(node, &["exp_labels", "exp_annotations"]) {
        let pairs = map(reader, &entry);
        if entry.key == "exp_labels" { alert.labels = pairs } else { alert.annotations = pairs }
    }
    alert
}

fn read_expr_test(reader: &mut Reader, node: &Arc<Node>) -> ExprTest {
    let mut test = ExprTest::default();
    for entry in reader.entries(node, &["expr", "eval_time", "exp_samples"]) {
        match entry.key.as_str() {
            "expr" => test.expr = reader.text(&entry).unwrap_or_default(),
            "eval_time" => test.at_ms = reader.duration(&entry).unwrap_or(0),
            _ => test.expected = list(reader, &entry, read_sample),
        }
    }
    test
}

fn read_sample(reader: &mut Reader, node: &Arc<Node>) -> ExpectedSample {
    let mut sample = ExpectedSample::default();
    for entry in reader.entries(node, &["labels", "value", "histogram"]) {
        match entry.key.as_str() {
            "labels" => sample.labels = reader.text(&entry).unwrap_or_default(),
            "value" => sample.value = reader.float(&entry).unwrap_or(0.0),
            _ => sample.histogram = reader.text(&entry).unwrap_or_default(),
        }
    }
    sample
}
