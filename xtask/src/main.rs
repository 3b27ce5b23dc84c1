//! The house's own tools: one entry for checking, testing, measuring and generating.
//!
//! **Takes** the workspace as it lies on disk. **Gives** `cargo xtask <verb>`. **Never** ships: no crate of the
//! product depends on it.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bench;
mod check;
mod conformance;
mod coverage;
mod generate;
mod paths;
mod process;
mod sample;
mod setup;
mod suite;
mod tidy;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Checks, tests, measures and generates.")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Everything that must hold before a commit: formatting, lints, the law of the house, tests.
    Check,
    /// The law of the house: who may import whom, heads of crates, sizes of files.
    Tidy,
    /// Counts the rows of docs/coverage.md and checks that every named proof exists.
    Coverage,
    /// Finds or installs what the tests need and says what is missing.
    Setup,
    /// Prepares and runs every test of the workspace, then says what was skipped and why.
    Test {
        /// Only tests whose name contains this.
        filter: Option<String>,
    },
    /// The known answers over real sessions, where they are at hand.
    Conformance,
    /// Measures one promise, with the peer in the same run.
    Bench {
        #[command(subcommand)]
        what: bench::What,
    },
    /// Writes the recorded sample fleet anew.
    Sample,
    /// Writes every generated document anew.
    Gen,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.verb {
        Verb::Check => check::run(),
        Verb::Tidy => tidy::run(),
        Verb::Coverage => coverage::run(),
        Verb::Setup => setup::run().map(drop),
        Verb::Test { filter } => suite::run(filter.as_deref()),
        Verb::Conformance => conformance::run(),
        Verb::Bench { what } => bench::run(what),
        Verb::Sample => sample::run(),
        Verb::Gen => generate::run(),
    }
}
