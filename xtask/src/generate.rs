//! Generated documents: the binary prints them, this verb puts them in place.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{paths, process, sample};

/// File, and the arguments that make the binary print it.
const DOCUMENTS: &[(&str, &[&str])] = &[
    ("docs/configuration.md", &["config", "reference"]),
    ("docs/openapi.json", &["config", "openapi"]),
    ("docs/actions.md", &["config", "actions"]),
    ("docs/runbook-lint.md", &["config", "runbook-lint"]),
];

pub(crate) fn run() -> Result<()> {
    let root = paths::workspace();
    for (file, arguments) in DOCUMENTS {
        let mut command = Command::new("cargo");
        command.args(["run", "--quiet", "--package", "paramedic", "--"]).args(*arguments).current_dir(&root);
        match process::output(&mut command) {
            Ok(text) => fs::write(root.join(file), text).with_context(|| format!("failed to write {file}"))?,
            Err(error) => println!("left   {file}: {error:#}"),
        }
    }
    sample::run()
}
