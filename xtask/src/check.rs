//! Everything that must hold before a commit.

use std::process::Command;

use anyhow::Result;

use crate::{coverage, paths, process, suite, tidy};

pub(crate) fn run() -> Result<()> {
    let root = paths::workspace();
    process::run(Command::new("cargo").args(["fmt", "--all", "--check"]).current_dir(&root))?;
    process::run(Command::new("cargo").args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]).current_dir(&root))?;
    tidy::run()?;
    coverage::run()?;
    suite::run(None)
}
