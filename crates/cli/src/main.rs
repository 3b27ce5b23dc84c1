//! The command line: `paramedic <verb>`.
//!
//! Data goes to standard output, messages to standard error. Exit codes are in [`exit`].

mod args;

mod exit;

mod face;

mod show;

mod plot;

mod verb;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    init_messages(&args);
    match verb::run(args) {
        Ok(code) => code.into(),
        Err(error) => exit::report(&error),
    }
}

/// Messages of the program's own go to standard error; `RUST_LOG` decides how many.
fn init_messages(args: &args::Args) {
    let default = if matches!(args.verb, args::Verb::Up(_) | args::Verb::Gateway(_)) { "info" } else { "warn" };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).with_target(false).init();
}
