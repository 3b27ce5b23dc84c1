//! `paramedic promql-test FILE...`: the PromQL test language against the built-in evaluator.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use paramedic_promql::{FileReport, run_test_file};
use serde_json::json;

use crate::args::Common;
use crate::exit::Exit;
use crate::{face, show};

pub(super) fn promql_test(common: &Common, files: &[PathBuf]) -> Result<Exit> {
    let mut reports = Vec::new();
    for file in files {
        face::must_exist(file)?;
        let text = std::fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
        let name = file.display().to_string();
        let report = run_test_file(&text, &name);
        if !common.json {
            print(&name, &report)?;
        }
        reports.push((name, report));
    }
    let sum = |of: fn(&FileReport) -> usize| reports.iter().map(|(_, report)| of(report)).sum::<usize>();
    let (passed, failed, unsupported) = (sum(|report| report.passed), sum(|report| report.failed), sum(|report| report.unsupported));
    if common.json {
        let files: Vec<_> = reports.iter().map(|(name, report)| as_json(name, report)).collect();
        show::json(&json!({"passed": passed, "failed": failed, "unsupported": unsupported, "files": files}))?;
    } else {
        show::line(&format!("total: {passed} passed, {failed} failed, {unsupported} unsupported"))?;
    }
    Ok(if failed == 0 { Exit::Done } else { Exit::FoundProblems })
}

fn print(name: &str, report: &FileReport) -> Result<()> {
    for failure in &report.failures {
        show::line(&format!("{name}:{}: {}", failure.line, failure.expr))?;
        show::line(&format!("    {}", failure.message))?;
    }
    for part in &report.unsupported_parts {
        show::line(&format!("{name}:{}: not supported: {} {}", part.line, part.message, part.expr))?;
    }
    show::line(&format!("{name}: {} passed, {} failed, {} unsupported", report.passed, report.failed, report.unsupported))
}

fn as_json(name: &str, report: &FileReport) -> serde_json::Value {
    let parts = |parts: &[paramedic_promql::Failure]| {
        parts.iter().map(|part| json!({"line": part.line, "expression": part.expr, "message": part.message})).collect::<Vec<_>>()
    };
    json!({
        "file": name,
        "passed": report.passed,
        "failed": report.failed,
        "unsupported": report.unsupported,
        "failures": parts(&report.failures),
        "unsupported_parts": parts(&report.unsupported_parts),
    })
}
