//! Benchmarks that a crate carries itself, as an example program.

use std::process::Command;

use anyhow::Result;

use crate::{paths, process};

pub(crate) fn run(package: &str, example: &str) -> Result<String> {
    let mut command = Command::new("cargo");
    command.args(["run", "--quiet", "--release", "--package", package, "--example", example]);
    process::output(command.current_dir(paths::workspace()))
}
