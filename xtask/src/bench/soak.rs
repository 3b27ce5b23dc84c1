//! The tests of the gateway that go on for minutes: what they print is the result.

use std::process::Command;

use anyhow::Result;

use super::release_program;
use crate::{paths, process};

/// Both end by themselves after half an hour at most.
const TESTS: [&str; 2] = ["gateway_restart_a_million_calls", "gateway_restart_long_soak_gives_everything_back"];

pub(crate) fn run(calls: usize) -> Result<String> {
    let program = release_program()?;
    let mut told = String::new();
    for test in TESTS {
        let mut command = Command::new("cargo");
        command.args(["test", "--quiet", "--package", "paramedic", "--test", "it", "--", test, "--ignored", "--nocapture"]);
        command.env("PARAMEDIC_SOAK_PROGRAM", &program).env("PARAMEDIC_SOAK_CALLS", calls.to_string());
        told.push_str(&process::output(command.current_dir(paths::workspace()))?);
    }
    Ok(told)
}
