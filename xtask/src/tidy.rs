//! The law of the house, read from `cargo metadata` and from the files themselves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{paths, process};

/// What everybody may stand on, lowest first.
const TRUNK: &[&str] = &["model", "journal", "telemetry", "promql", "samples"];

/// The stages: they meet in the trunk, never in one another.
const STAGES: &[&str] = &["collect", "remote", "probe", "fleet", "meter", "detect", "rules", "runbook", "action", "respond", "gateway"];

/// What each part of the trunk and each stage may import.
const LAW: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("journal", &["model"]),
    ("telemetry", &["model"]),
    ("promql", &["model"]),
    ("samples", &["model", "promql"]),
    ("collect", &["model", "samples", "promql"]),
    ("remote", &["model", "samples", "promql"]),
    ("gateway", &["model"]),
    ("probe", &["model", "samples", "promql"]),
    ("fleet", &["model"]),
    ("meter", &["model", "samples", "promql"]),
    ("detect", &["model"]),
    ("rules", &["model", "samples", "promql"]),
    ("runbook", &["model", "journal"]),
    ("action", &["model", "journal"]),
    ("respond", &["model", "journal"]),
];

/// The faces, lowest first: each may import the trunk, the stages and the faces before it.
const FACES: &[&str] = &["api", "ui", "server", "cli"];

/// Who a crate may import; none for a crate that has no place in the house yet.
fn allowed(crate_name: &str) -> Option<Vec<&'static str>> {
    let short = if crate_name == "paramedic" { "cli" } else { crate_name.strip_prefix("paramedic-").unwrap_or(crate_name) };
    if short == "xtask" {
        return Some(Vec::new());
    }
    if let Some(level) = FACES.iter().position(|face| *face == short) {
        return Some([TRUNK, STAGES, &FACES[..level]].concat());
    }
    LAW.iter().find(|(name, _)| *name == short).map(|(_, imports)| imports.to_vec())
}

/// Longer files are named, not refused: some tables are long.
const FILE_LINES_MAX: usize = 500;

/// Folders and modules that gather what has no place elsewhere.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "manager", "misc"];

pub(crate) fn run() -> Result<()> {
    let root = paths::workspace();
    let metadata =
        process::output(Command::new("cargo").args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).current_dir(&root))?;
    let mut broken = imports(&serde_json::from_str(&metadata).context("failed to read cargo metadata")?);
    let mut long = Vec::new();
    for file in rust_files(&root)? {
        let text = fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
        let name = file.strip_prefix(&root).unwrap_or(&file).display().to_string();
        broken.extend(file_faults(&name, &text));
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            long.push(format!("{name}: {lines} lines"));
        }
    }
    for line in &long {
        println!("long   {line} (over {FILE_LINES_MAX})");
    }
    for line in &broken {
        println!("broken {line}");
    }
    if !broken.is_empty() {
        bail!("the law of the house is broken {} times", broken.len());
    }
    println!("tidy: the law of the house holds for {} crates", LAW.len() + FACES.len() + 1);
    Ok(())
}

/// Imports that the law does not allow, and crates that it does not know.
fn imports(metadata: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(allowed) = allowed(name) else {
            broken.push(format!("{name}: not named in the law (xtask/src/tidy.rs)"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let other = dependency["name"].as_str().unwrap_or_default();
            // Tests may look into any room.
            let room = other.strip_prefix("paramedic-").unwrap_or(other);
            if other.starts_with("paramedic") && dependency["kind"] != "dev" && !allowed.contains(&room) {
                broken.push(format!("{name} imports {other}"));
            }
        }
    }
    broken
}

/// What is wrong with one file, by its name and text.
fn file_faults(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if name.ends_with("src/lib.rs") {
        let head: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        faults.extend(
            ["**Takes**", "**Gives**", "**Never**"]
                .iter()
                .filter(|word| !head.contains(**word))
                .map(|word| format!("{name}: the head does not say {word}")),
        );
    }
    let stems = Path::new(name).iter().filter_map(|part| Path::new(part).file_stem()?.to_str());
    faults.extend(stems.filter(|stem| EMPTY_NAMES.contains(stem)).map(|stem| format!("{name}: `{stem}` names nothing")));
    if name.ends_with("/mod.rs") {
        faults.push(format!("{name}: write the module beside its folder"));
    }
    faults
}

pub(crate) fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.join("crates"), root.join("xtask")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("failed to read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_law_of_the_house_holds() {
        run().unwrap();
    }

    #[test]
    fn a_stage_that_imports_another_is_named() {
        let metadata = json!({"packages": [
            {"name": "paramedic-detect", "dependencies": [{"name": "paramedic-fleet", "kind": null}, {"name": "serde", "kind": null}]},
            {"name": "paramedic-fleet", "dependencies": [{"name": "paramedic-detect", "kind": "dev"}]},
            {"name": "paramedic-moon", "dependencies": []},
        ]});
        let broken = imports(&metadata);
        assert_eq!(broken, ["paramedic-detect imports paramedic-fleet", "paramedic-moon: not named in the law (xtask/src/tidy.rs)"]);
    }

    #[test]
    fn a_head_without_its_three_sentences_is_named() {
        let faults = file_faults("crates/x/src/lib.rs", "//! **Takes** bytes. **Gives** words.\n\nfn x() {}\n");
        assert_eq!(faults, ["crates/x/src/lib.rs: the head does not say **Never**"]);
        assert_eq!(file_faults("crates/x/src/utils.rs", "").len(), 1);
        assert_eq!(file_faults("crates/x/src/parse/mod.rs", "").len(), 1);
    }
}
