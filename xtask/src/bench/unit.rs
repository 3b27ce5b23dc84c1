//! Benchmarks that a crate carries itself: tests named `bench_…`, ignored in the ordinary run.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::Result;

use crate::{paths, process};

pub(super) fn run(package: &str) -> Result<String> {
    let mut command = Command::new("cargo");
    command.args(["test", "--release", "--package", package, "--", "--ignored", "--nocapture", "--test-threads", "1", "bench_"]);
    let output = process::output(command.current_dir(paths::workspace()))?;
    let mut table = String::from("| what | measured |\n|---|---|\n");
    for row in output.lines().filter(|line| line.starts_with("| ")) {
        writeln!(table, "{row}")?;
    }
    Ok(table)
}
