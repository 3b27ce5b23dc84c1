//! Every name that can be derived really is, and every other one is named with its reason.

use std::collections::BTreeSet;
use std::path::Path;

use paramedic_meter::catalogue::{CATALOGUE, Kind};
use paramedic_meter::not_derived::NOT_DERIVED;
use paramedic_meter::{QueueGauge, Settings};
use paramedic_model::{AlertState, ApiErrorClass, Fact, Severity, ToolOutcome};

use crate::alerts::change;
use crate::stage::{Stage, alive, usage, working};

/// One session with a little of everything.
fn everything(stage: &mut Stage) {
    stage.interval();
    stage.tell(Fact::SessionStarted { how: None, model: Some("claude-opus-4-5".into()), cwd: None, version: None });
    stage.tell(Fact::McpServer { server: Some("github".into()), status: "connected".into() });
    stage.prompt();
    stage.wait(1.0);
    stage.retries(ApiErrorClass::RateLimit, Some(429));
    let refusal = stage.call_event("msg_refused", usage(100, 5, 900), Some("refusal"));
    stage.meter.observe(&refusal, paramedic_meter::Novelty::New, Some(0.5), stage.now);
    stage.wait(1.0);
    stage.prompt();
    stage.tool("mcp__github__list", 1.0, ToolOutcome::Success);
    stage.fails(ApiErrorClass::Timeout, None);
    stage.tell(Fact::Compaction { trigger: Some("auto".into()), tokens_before: None, tokens_after: None });
    let limit = Fact::RateLimit {
        status: "allowed".into(),
        limit: Some("five_hour".into()),
        utilization: Some(0.8),
        remaining: None,
        resets_at: None,
    };
    stage.tell(limit);
    for state in [AlertState::Firing, AlertState::Resolved] {
        let change = change(stage, "monologue", "stuck:s1", state, Some(Severity::Sev2));
        stage.meter.alert(&change, stage.now);
    }
    let now = stage.now;
    stage.look(&[alive(working("s1", now), now)]);
    stage.meter.queues(&[QueueGauge { queue: "q", depth: 1, stale_jobs: Some(1) }], stage.now);
    stage.interval();
    stage.tell(Fact::SessionEnded { reason: Some("exit".into()) });
    stage.interval();
}

#[test]
fn every_metric_of_the_catalogue_is_really_emitted_with_labels_of_its_own() {
    let mut stage = Stage::new(Settings { daily_budget_dollars: 10.0, ..Settings::default() });
    everything(&mut stage);
    let names: BTreeSet<String> = stage.names().into_iter().collect();
    let mut missing = Vec::new();
    for described in CATALOGUE {
        let parts: &[&str] = if matches!(described.kind, Kind::Histogram(_)) { &["_bucket", "_sum", "_count"] } else { &[""] };
        missing.extend(parts.iter().map(|part| format!("{}{part}", described.name)).filter(|name| !names.contains(name)));
    }
    assert_eq!(missing, Vec::<String>::new());
    for (labels, ..) in stage.store.log.lock().unwrap().iter() {
        let name = labels.metric_name();
        let described = CATALOGUE.iter().find(|described| described.name == name || described.name == base(name));
        let described = described.unwrap_or_else(|| panic!("{name} is not in the catalogue"));
        let unknown = labels.iter().find(|label| !matches!(&*label.name, "__name__" | "le") && !described.labels.contains(&&*label.name));
        assert_eq!(unknown, None, "{name}");
    }
    assert_eq!(stage.store.described.lock().unwrap().len(), CATALOGUE.len());
}

fn base(name: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name)
}

fn known() -> BTreeSet<&'static str> {
    let derived = CATALOGUE.iter().map(|described| described.name);
    derived.chain(NOT_DERIVED.iter().flat_map(|group| group.names.iter().copied())).collect()
}

#[test]
fn no_name_is_both_derived_and_not() {
    for group in NOT_DERIVED {
        for name in group.names {
            assert!(!CATALOGUE.iter().any(|described| described.name == *name), "{name}");
        }
    }
}

/// Names that the rules of the documents use, and how each is accounted for.
#[test]
fn every_name_of_the_published_tables_and_rules_is_accounted_for() {
    let data = std::env::var_os("PARAMEDIC_SHARED_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), Into::into);
    let Ok(text) = std::fs::read_to_string(data.join("../compat.md")) else {
        eprintln!("skipped: no tables of names beside {} (set PARAMEDIC_SHARED_DATA)", data.display());
        return;
    };
    let known = known();
    let mut unknown = BTreeSet::new();
    let mut checked = 0;
    for line in text.lines() {
        let cells: Vec<&str> = line.split(" | ").collect();
        let is_metric = matches!(cells.get(1), Some(&("Counter" | "Gauge" | "Histogram" | "Enum")));
        let expression = line
            .contains(" | `")
            .then(|| line.split('`').nth(1))
            .flatten()
            .or_else(|| line.strip_prefix("- `").and_then(|rest| rest.split('`').nth(2)));
        let names =
            if is_metric { vec![cells[0].trim_start_matches("| ").to_owned()] } else { expression.map(selected).unwrap_or_default() };
        for name in names {
            checked += 1;
            if !known.contains(&*name) && !known.contains(base(&name)) {
                unknown.insert(name);
            }
        }
    }
    assert!(checked > 250, "{checked}");
    assert_eq!(unknown, BTreeSet::new());
}

/// Metric names in an expression: words with an underscore that are neither functions nor inside braces or after `by`.
fn selected(expression: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut depth = 0;
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let length = rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':')).count();
        if length == 0 {
            depth += i32::from(first == '{') - i32::from(first == '}');
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (word, after) = rest.split_at(length);
        let after_trimmed = after.trim_start();
        if word == "by" {
            rest = after_trimmed.split_once(')').map_or("", |(_, rest)| rest);
            continue;
        }
        if depth == 0 && word.contains('_') && !after_trimmed.starts_with('(') && !word.contains(':') {
            found.push(word.to_owned());
        }
        rest = after;
    }
    found
}
