//! Known answers over other people's data, where it is at hand: recorded sessions, PromQL statements, alert rules.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{paths, process};

pub(crate) fn run() -> Result<()> {
    let Some(data) = paths::real_data() else {
        println!("skipped: no recorded sessions (PARAMEDIC_SHARED_DATA names no folder)");
        return Ok(());
    };
    let projects = data.join("transcripts/projects");
    let mut command = paramedic();
    command.args(["analyze", "--no-cache", "--json"]).arg(&projects);
    let report: Value = serde_json::from_str(&process::output(&mut command)?).context("analyze printed no JSON")?;
    let faults = faults(&report);
    for fault in &faults {
        println!("wrong {fault}");
    }
    if !faults.is_empty() {
        bail!("{} of the known answers are wrong", faults.len());
    }
    println!("conformance: all known answers hold over {}", projects.display());
    statements(&data.join("promql"))?;
    rules(&data.join("rules"))
}

/// Every file of PromQL statements through `paramedic promql-test`, which prints and judges them.
fn statements(folder: &Path) -> Result<()> {
    let files = files_under(folder, &["test"])?;
    anyhow::ensure!(!files.is_empty(), "no statements under {}", folder.display());
    process::run(paramedic().arg("promql-test").args(files))
}

/// Every rule file through `paramedic rules check`, which names what is wrong.
fn rules(folder: &Path) -> Result<()> {
    let mut files = files_under(folder, &["yml", "yaml"])?;
    // Folders with an underscore hold what rule files are made from.
    files.retain(|file| !file.components().any(|part| part.as_os_str().to_string_lossy().starts_with('_')));
    anyhow::ensure!(!files.is_empty(), "no rule files under {}", folder.display());
    let count = files.len();
    process::output(paramedic().args(["rules", "check"]).args(files))?;
    println!("conformance: {count} rule files load");
    Ok(())
}

fn paramedic() -> Command {
    let mut command = Command::new("cargo");
    command.args(["run", "--quiet", "--release", "--package", "paramedic", "--"]).current_dir(paths::workspace());
    command
}

fn files_under(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("failed to list {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| endings.iter().any(|one| ending == *one)) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

const TOTALS: &[(&str, u64)] =
    &[("input_tokens", 42_613), ("output_tokens", 239_297), ("cache_read_tokens", 139_422_844), ("cache_creation_tokens", 7_972_454)];
const OUTAGE: &str = "b00b80af-879f-4265-b95b-48db0938673c";
const SERVER_ERROR: &str = "a032db5a-df02-44d7-ab1e-fb024213ecc4";

fn faults(report: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut expect = |what: &str, found: &Value, expected: Value| {
        if *found != expected {
            faults.push(format!("{what}: {found}, expected {expected}"));
        }
    };
    for (name, total) in TOTALS {
        expect(name, &report["totals"][*name], Value::from(*total));
    }
    let incidents = report["incidents"].as_array().cloned().unwrap_or_default();
    expect("number of incidents", &Value::from(incidents.len()), Value::from(2));
    let of = |session: &str| {
        let mine = |one: &&Value| one["sessions"].as_array().is_some_and(|all| all.iter().any(|id| id == session));
        incidents.iter().filter(mine).cloned().collect::<Vec<_>>()
    };

    let outage = of(OUTAGE);
    expect("incidents of the outage", &Value::from(outage.len()), Value::from(1));
    if let Some(incident) = outage.first() {
        expect("type of the outage", &incident["type"], "api_failure".into());
        expect("onset of the outage", &prefix(&incident["started_at"], 19), "2026-01-14T10:41:23".into());
        expect("retries of the outage", &incident["counts"]["retries"], 29.into());
        expect("failures of the outage", &incident["counts"]["terminal_failures"], 1.into());
        let resolved = incident["resolved_at"].as_str().unwrap_or_default();
        expect("end of the outage after the last retry", &Value::from(resolved > "2026-01-14T11:08:54"), true.into());
    }
    let server_error = of(SERVER_ERROR);
    expect("incidents of the server error", &Value::from(server_error.len()), Value::from(1));
    faults
}

fn prefix(value: &Value, length: usize) -> Value {
    Value::from(value.as_str().and_then(|text| text.get(..length)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_wrong_answer_is_named() {
        let right = json!({
            "totals": {"input_tokens": 42_613, "output_tokens": 239_297, "cache_read_tokens": 139_422_844, "cache_creation_tokens": 7_972_454},
            "incidents": [
                {"type": "api_failure", "sessions": [OUTAGE], "started_at": "2026-01-14T10:41:23.622Z", "resolved_at": "2026-01-14T11:18:54.576Z",
                 "counts": {"retries": 29, "terminal_failures": 1}},
                {"type": "api_failure", "sessions": [SERVER_ERROR]}
            ]
        });
        assert_eq!(faults(&right), Vec::<String>::new());
        let mut wrong = right;
        wrong["totals"]["input_tokens"] = json!(1);
        wrong["incidents"][0]["counts"]["retries"] = json!(28);
        assert_eq!(faults(&wrong), ["input_tokens: 1, expected 42613", "retries of the outage: 28, expected 29"]);
    }
}
