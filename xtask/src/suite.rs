//! The test command: prepare, run everything, say what was skipped.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{paths, process, setup};

pub(crate) fn run(filter: Option<&str>) -> Result<()> {
    let missing = setup::run()?;
    let skipped = tests(filter)?;
    for one in &missing {
        println!("missing {}: {}", one.what, one.why);
    }
    if skipped.is_empty() {
        println!("nothing was skipped");
    }
    for why in &skipped {
        println!("skipped {why}");
    }
    Ok(())
}

/// Runs the tests and gives the reasons of those that skipped themselves.
fn tests(filter: Option<&str>) -> Result<BTreeSet<String>> {
    let mut command = Command::new("cargo");
    command.current_dir(paths::workspace()).env("CARGO_TERM_COLOR", "never");
    if crate::setup::pm2_path().is_file() {
        command.env("PARAMEDIC_PM2", crate::setup::pm2_path());
    }
    if process::find_program(&["cargo-nextest"]).is_some() {
        command.args(["nextest", "run", "--workspace", "--success-output", "immediate", "--failure-output", "immediate-final"]);
        command.args(filter);
    } else {
        command.args(["test", "--workspace", "--no-fail-fast"]).args(filter).args(["--", "--show-output"]);
    }
    let line = process::describe(&command);
    // Both runners print results on one stream and build messages on the other.
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().with_context(|| format!("failed to start `{line}`"))?;
    let (stdout, stderr) = (child.stdout.take().context("no output")?, child.stderr.take().context("no output")?);
    let reader = std::thread::spawn(move || watch(BufReader::new(stderr)));
    let mut skipped = watch(BufReader::new(stdout));
    skipped.extend(reader.join().map_err(|_| anyhow::anyhow!("the reader of the test output died"))?);
    let status = child.wait()?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(skipped)
}

/// Passes lines on, and keeps those in which a test says why it was skipped.
fn watch(output: impl BufRead) -> BTreeSet<String> {
    let mut skipped = BTreeSet::new();
    let mut inside = false;
    for line in output.lines().map_while(Result::ok) {
        if let Some(why) = line.trim_start().strip_prefix("skipped: ") {
            skipped.insert(why.to_owned());
        }
        // What a passing test printed is not worth a person's time; what a failing one printed is.
        let words = line.trim_start();
        if words.starts_with("PASS [") || words.starts_with("FAIL [") || words.starts_with("Summary [") || words.starts_with("TIMEOUT [") {
            inside = words.starts_with("PASS [");
            println!("{line}");
        } else if !inside {
            println!("{line}");
        }
    }
    skipped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_skipped_test_is_kept() {
        let output = "        PASS [   0.1s] a::b\n  stderr ---\n    skipped: no browser\n        PASS [   0.1s] c::d\n";
        assert_eq!(watch(output.as_bytes()).into_iter().collect::<Vec<_>>(), ["no browser"]);
    }
}
