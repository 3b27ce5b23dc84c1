//! `paramedic rules list|check|test|why`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use paramedic_api::operations::rules::{RuleList, Why};
use paramedic_api::prometheus::time_text;
use paramedic_api::rules::{GroupView, MissingSeries, RuleHealth, RuleKind, RuleParts, RuleState, RuleView};
use paramedic_api::unit::{Unit, unit_of};
use paramedic_model::{Clock as _, SystemClock, Timestamp};
use paramedic_promql::parse::Selector;
use paramedic_rules::{Checked, RuleFile, check, test_file};
use serde_json::{Value, json};

use crate::args::{Common, RulesVerb};
use crate::exit::{Exit, message};
use crate::face::{self, Face};
use crate::show;

/// The largest rule file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How far back a series may have been seen last.
const SEEN_WITHIN: Duration = Duration::from_secs(24 * 3_600);

pub(super) async fn rules(common: &Common, verb: RulesVerb) -> Result<Exit> {
    match verb {
        RulesVerb::List { active, problems, text } => list(common, active, problems, text.as_deref().unwrap_or("")).await,
        RulesVerb::Check { files, offline } => check_files(common, &files, offline).await,
        RulesVerb::Test { files } => test_files(common, &files),
        RulesVerb::Why { alert } => why(common, &alert).await,
    }
}

async fn list(common: &Common, active: bool, problems: bool, text: &str) -> Result<Exit> {
    let face = Face::open_running(common).await?;
    let (list, _) = face.get::<RuleList>("rule.list", &json!({})).await?;
    let text = text.to_lowercase();
    let waiting: usize = list.groups.iter().map(|group| group.rules.iter().filter(|rule| group.waits(rule)).count()).sum();
    let wants = |group: &GroupView, rule: &RuleView| {
        (!active || rule.kind == RuleKind::Alerting && matches!(rule.state, RuleState::Firing | RuleState::Pending))
            && (!problems || rule.health == RuleHealth::Err || !rule.missing.is_empty() && !group.waits(rule))
            && (rule.name.to_lowercase().contains(&text) || rule.query.to_lowercase().contains(&text))
    };
    let mut groups: Vec<GroupView> = list.groups;
    let total: usize = groups.iter().map(|group| group.rules.len()).sum();
    for group in &mut groups {
        let rules = std::mem::take(&mut group.rules);
        group.rules = rules.into_iter().filter(|rule| wants(group, rule)).collect();
    }
    groups.retain(|group| !group.rules.is_empty());
    if common.json {
        show::json(&json!({ "enabled": list.enabled, "groups": groups }))?;
        return Ok(Exit::Done);
    }
    if groups.is_empty() {
        show::line(match total {
            0 if !list.enabled => "Rules are not evaluated here.",
            0 => "No rule is loaded. Name rule files under rules.files in the settings.",
            _ if problems => "Every rule can be evaluated, and those of your files have data.",
            _ if active => "No rule is pending or firing.",
            _ => "No rule matches.",
        })?;
        if problems {
            told_waiting(waiting)?;
        }
        return Ok(Exit::Done);
    }
    let now = SystemClock.now();
    show::table(
        &["state", "rule", "group", "for", "evaluated", "took", "problem"],
        groups.iter().flat_map(|group| group.rules.iter().map(move |rule| row(group, rule, now))),
    )?;
    if problems {
        told_waiting(waiting)?;
    }
    Ok(Exit::Done)
}

fn told_waiting(waiting: usize) -> Result<()> {
    if waiting == 0 {
        Ok(())
    } else {
        show::line(&format!("{waiting} embedded rules wait for metrics that nobody sends; paramedic rules list names them"))
    }
}

fn row(group: &GroupView, rule: &RuleView, now: Timestamp) -> Vec<String> {
    vec![
        if group.waits(rule) { "waits" } else { state(rule) }.to_owned(),
        rule.name.clone(),
        group.name.clone(),
        if rule.duration_s > 0.0 { Unit::Seconds.show(rule.duration_s) } else { String::new() },
        rule.last_at.map_or_else(|| "never".to_owned(), |at| show::ago(at, now)),
        rule.last_at.map_or_else(String::new, |_| Unit::Seconds.show(rule.evaluation_s)),
        problem(rule),
    ]
}

const fn state(rule: &RuleView) -> &'static str {
    match (rule.health, rule.kind, rule.state) {
        (RuleHealth::Err, ..) => "ERROR",
        (_, _, RuleState::Firing) => "FIRING",
        (_, _, RuleState::Pending) => "pending",
        (RuleHealth::Unknown, ..) => "not yet",
        (_, RuleKind::Recording, _) => "records",
        _ => "quiet",
    }
}

fn problem(rule: &RuleView) -> String {
    let missing = match rule.missing.as_slice() {
        [] => String::new(),
        list => format!("never had data: {}", list.iter().map(|one| one.selector.as_str()).collect::<Vec<_>>().join(", ")),
    };
    rule.last_error.clone().unwrap_or(missing)
}

pub(super) fn read(file: &Path) -> Result<String> {
    face::must_exist(file)?;
    let size = std::fs::metadata(file).map_or(0, |metadata| metadata.len());
    anyhow::ensure!(size <= FILE_BYTES_MAX, "{} is larger than {FILE_BYTES_MAX} bytes", file.display());
    std::fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))
}

async fn check_files(common: &Common, files: &[PathBuf], offline: bool) -> Result<Exit> {
    let mut checked: Vec<(String, Checked)> = Vec::new();
    for file in files {
        let name = file.display().to_string();
        checked.push((name.clone(), check(&read(file)?, &name)));
    }
    let face = if offline { None } else { Face::open_running(common).await.ok() };
    let mut missing: Vec<Missing> = Vec::new();
    if let Some(face) = &face {
        missing = missing_in(face, checked.iter().filter_map(|(_, checked)| checked.file.as_ref())).await?;
    }
    let broken = checked.iter().any(|(_, checked)| checked.errors().next().is_some());
    if common.json {
        let file = |(name, checked): &(String, Checked)| json!({ "file": name, "rules": count_rules(checked), "problems": checked.problems, "ok": checked.errors().next().is_none() });
        let missing: Vec<Value> = missing.iter().map(Missing::as_json).collect();
        show::json(&json!({ "files": checked.iter().map(file).collect::<Vec<_>>(), "missing": missing, "compared": face.is_some() }))?;
    } else {
        for (name, checked) in &checked {
            print_checked(name, checked)?;
        }
        for one in &missing {
            show::line(&one.text())?;
        }
        if face.is_none() && !offline {
            message("no instance is running here, so nobody could say whether the series of these rules exist");
        }
    }
    Ok(if broken { Exit::FoundProblems } else { Exit::Done })
}

fn count_rules(checked: &Checked) -> usize {
    checked.file.as_ref().map_or(0, |file| file.groups.iter().map(|group| group.rules.len()).sum())
}

fn print_checked(name: &str, checked: &Checked) -> Result<()> {
    for problem in &checked.problems {
        let level = if problem.is_error() { "" } else { "note: " };
        show::line(&show::clean_long(&format!("{level}{problem}")))?;
    }
    match checked.errors().count() {
        0 => show::line(&format!("{name}: {}", super::agents::many(count_rules(checked) as u64, "rule"))),
        errors => show::line(&format!("{name}: FAILED, {}", super::agents::many(errors as u64, "error"))),
    }
}

/// A rule that looks for series nobody has.
struct Missing {
    file: String,
    line: usize,
    group: String,
    rule: String,
    series: MissingSeries,
}

impl Missing {
    fn text(&self) -> String {
        let recorded = self.series.recorded_by.as_ref().map(|group| format!(" (recorded by group {group:?})")).unwrap_or_default();
        show::clean_long(&format!(
            "{}:{}: group {:?}, rule {:?}: no series for `{}` in the last 24 h{recorded}",
            self.file, self.line, self.group, self.rule, self.series.selector
        ))
    }

    fn as_json(&self) -> Value {
        json!({ "file": self.file, "line": self.line, "group": self.group, "rule": self.rule, "selector": self.series.selector, "metric": self.series.metric, "recorded_by": self.series.recorded_by })
    }
}

/// A selector as the API takes it: without range and offset.
fn selector_text(selector: &Selector) -> String {
    let own_name = |matcher: &paramedic_promql::Matcher| &*matcher.name == "__name__" && Some(&*matcher.value) == selector.name.as_deref();
    let plain = selector.name.as_deref().is_some_and(|name| paramedic_promql::parse::parse(name, false).is_ok());
    let parts: Vec<String> = selector
        .matchers
        .iter()
        .filter(|matcher| !(plain && own_name(matcher)))
        .map(|matcher| format!("{}{}{:?}", matcher.name, matcher.op_text(), &*matcher.value))
        .collect();
    match (plain, parts.is_empty()) {
        (true, true) => selector.name.clone().unwrap_or_default(),
        (true, false) => format!("{}{{{}}}", selector.name.as_deref().unwrap_or(""), parts.join(", ")),
        (false, _) => format!("{{{}}}", parts.join(", ")),
    }
}

/// Asks the instance for each selector once.
async fn missing_in(face: &Face, files: impl Iterator<Item = &RuleFile> + Clone) -> Result<Vec<Missing>> {
    let now = SystemClock.now();
    let (start, end) = (time_text(now.before(SEEN_WITHIN).as_millis()), time_text(now.as_millis()));
    let groups = || files.clone().flat_map(|file| file.groups.iter().map(move |group| (file, group)));
    let recorded: BTreeMap<&str, &str> = groups()
        .flat_map(|(_, group)| group.rules.iter().map(move |rule| (rule, group)))
        .filter(|(rule, _)| rule.kind == paramedic_rules::RuleKind::Recording)
        .map(|(rule, group)| (rule.name.as_str(), group.name.as_str()))
        .collect();
    let mut known: BTreeMap<String, bool> = BTreeMap::new();
    let mut missing = Vec::new();
    for (file, group) in groups() {
        for rule in &group.rules {
            let mut told = BTreeSet::new();
            for selector in rule.expr.selectors() {
                let metric = selector.name.clone().unwrap_or_default();
                let text = selector_text(selector);
                if matches!(metric.as_str(), "ALERTS" | "ALERTS_FOR_STATE") || !told.insert(text.clone()) {
                    continue;
                }
                let seen = match known.get(&text) {
                    Some(seen) => *seen,
                    None => {
                        let parameters = [("match[]", text.as_str()), ("start", &start), ("end", &end), ("limit", "1")];
                        let answer = face.prometheus("/api/v1/series", &parameters).await?;
                        let seen = answer["data"].as_array().is_some_and(|found| !found.is_empty());
                        known.insert(text.clone(), seen);
                        seen
                    }
                };
                if !seen {
                    let recorded_by = recorded.get(metric.as_str()).map(|group| (*group).to_owned());
                    let series = MissingSeries { selector: text, metric, recorded_by };
                    missing.push(Missing {
                        file: file.name.clone(),
                        line: rule.line,
                        group: group.name.clone(),
                        rule: rule.name.clone(),
                        series,
                    });
                }
            }
        }
    }
    Ok(missing)
}

fn test_files(common: &Common, files: &[PathBuf]) -> Result<Exit> {
    let mut reports = Vec::new();
    for file in files {
        face::must_exist(file)?;
        let report = test_file(file);
        if !common.json {
            show::line(report.to_string().trim_end())?;
        }
        reports.push(report);
    }
    if common.json {
        show::json(&json!({ "files": reports }))?;
    }
    let passed = reports.iter().all(paramedic_rules::TestReport::is_success);
    Ok(if passed { Exit::Done } else { Exit::FoundProblems })
}

async fn why(common: &Common, alert: &str) -> Result<Exit> {
    let face = Face::open_running(common).await?;
    let (told, value) = face.get::<Why>("rule.why", &json!({ "alert": alert })).await?;
    if common.json {
        show::json(&value)?;
        return Ok(Exit::Done);
    }
    let now = SystemClock.now();
    for (i, rule) in told.rules.iter().enumerate() {
        if i > 0 {
            show::line("")?;
        }
        print_why(rule, now)?;
    }
    Ok(Exit::Done)
}

fn print_why(why: &RuleParts, now: Timestamp) -> Result<()> {
    let rule = &why.rule;
    let evaluated = rule.last_at.map_or_else(|| "not evaluated yet".to_owned(), |at| format!("evaluated {}", show::ago(at, now)));
    let wait = if rule.duration_s > 0.0 { format!(", fires after {}", Unit::Seconds.show(rule.duration_s)) } else { String::new() };
    show::line(&format!("{} is {} (group {}{wait}, {evaluated})", show::clean(&rule.name), state(rule), show::clean(&why.group)))?;
    if let Some(threshold) = &why.threshold {
        show::line(&format!("compares with {} {}", threshold.op, unit_of(&rule.query).show(threshold.value)))?;
    }
    if let Some(error) = &rule.last_error {
        show::line(&format!("error: {}", show::clean(error)))?;
    }
    for missing in &rule.missing {
        show::line(&format!("never had data: {}", show::clean(&missing.selector)))?;
    }
    for part in &why.parts {
        let indent = "  ".repeat(part.depth + 1);
        show::line(&format!("{indent}{}", show::clean(&part.expression)))?;
        let unit = unit_of(&part.expression);
        if let Some(error) = &part.error {
            show::line(&format!("{indent}  => error: {}", show::clean(error)))?;
        } else if part.samples.is_empty() {
            show::line(&format!("{indent}  => no series"))?;
        }
        for sample in &part.samples {
            let value = sample.value.parse::<f64>().map_or_else(|_| show::clean(&sample.value), |value| unit.show(value));
            show::line(&format!("{indent}  => {value}  {}", show::clean(&sample.labels)))?;
        }
        if part.total > part.samples.len() {
            show::line(&format!("{indent}     and {} more", part.total - part.samples.len()))?;
        }
    }
    Ok(())
}
