//! Measurements, with the peer in the same run. Each prints a table and keeps it under `target/bench/`.

mod alert;
mod analyze;
mod corpus;
mod gateway;
mod http;
mod metrics;
mod otlp;
mod soak;
mod startup;
mod unit;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::{paths, process};

#[derive(Subcommand)]
pub(crate) enum What {
    /// CPU time and memory of `paramedic analyze` on 1 GB of sessions, against ccusage.
    Analyze {
        #[arg(long, default_value_t = 5)]
        runs: usize,
        /// Size of the sessions in MB.
        #[arg(long, default_value_t = 1000)]
        megabytes: u64,
    },
    /// OTLP log records to disk: records per CPU second of the server.
    Otlp {
        #[arg(long, default_value_t = 1_000_000)]
        records: u64,
    },
    /// Makes the sessions that `analyze` and `startup` read, and measures nothing.
    Corpus {
        #[arg(long, default_value_t = 1000)]
        megabytes: u64,
    },
    /// Time until ready and memory when idle: on an empty store, and with 1 GB of sessions already seen.
    Startup {
        #[arg(long, default_value_t = 1000)]
        megabytes: u64,
    },
    /// Queries and rules over 100,000 series, beside Prometheus and VictoriaMetrics.
    Promql {
        /// Minutes of samples before the queries.
        #[arg(long, default_value_t = 10)]
        minutes: u64,
        #[arg(long, default_value_t = 100_000)]
        series: u64,
        /// Our store and engine alone, without the program around them and without rules.
        #[arg(long)]
        bare: bool,
    },
    /// Taking in samples by remote write, beside Prometheus and VictoriaMetrics: CPU time, and memory a series.
    Samples {
        #[arg(long, default_value_t = 30)]
        minutes: u64,
        #[arg(long, default_value_t = 100_000)]
        series: u64,
        /// Our store and engine alone, without the program around them.
        #[arg(long)]
        bare: bool,
        /// Leaves the slowest peer out, for hours of samples.
        #[arg(long)]
        no_prometheus: bool,
    },
    /// From a sample that arrives just before an evaluation to its alert in the journal.
    Alert {
        /// Alerts that are measured one after the other.
        #[arg(long, default_value_t = 60)]
        rounds: usize,
    },
    /// Model calls through the gateway, beside nginx, LiteLLM and Portkey: time, calls a second, CPU and memory.
    Gateway {
        /// How long each run is.
        #[arg(long, default_value_t = 4)]
        seconds: u64,
        /// Runs of each case, of which the best counts; the slow peers have one.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Without LiteLLM and Portkey.
        #[arg(long)]
        own_only: bool,
        /// Only the cases that have a target.
        #[arg(long)]
        quick: bool,
    },
    /// Calls through a gateway while it, its settings and the upstream are restarted, and what it holds afterwards.
    Soak {
        #[arg(long, default_value_t = 1_000_000)]
        calls: usize,
    },
    /// Durable appends to the journal.
    Journal,
    /// Appending to and searching the event store.
    Events,
}

pub(crate) fn run(what: &What) -> Result<()> {
    let (name, table) = match what {
        What::Analyze { runs, megabytes } => ("analyze", analyze::run(*runs, *megabytes)?),
        What::Otlp { records } => ("otlp", otlp::run(*records)?),
        What::Startup { megabytes } => ("startup", startup::run(*megabytes)?),
        What::Promql { minutes, series, bare } => ("promql", metrics::queries(*minutes, *series, *bare)?),
        What::Samples { minutes, series, bare, no_prometheus } => ("samples", metrics::ingest(*minutes, *series, *bare, !*no_prometheus)?),
        What::Alert { rounds } => ("alert", alert::run(*rounds)?),
        What::Gateway { seconds, rounds, own_only, quick } => {
            let plan = gateway::Plan { seconds: *seconds, rounds: *rounds, own_only: *own_only, quick: *quick };
            ("gateway", gateway::run(&plan)?)
        }
        What::Corpus { megabytes } => {
            println!("{}", corpus::make(*megabytes)?.display());
            return Ok(());
        }
        What::Soak { calls } => ("soak", soak::run(*calls)?),
        What::Journal => ("journal", unit::run("paramedic-journal", "bench")?),
        What::Events => ("events", unit::run("paramedic-telemetry", "ingest_bench")?),
    };
    println!("{table}");
    let file = folder()?.join(format!("{name}.md"));
    fs::write(&file, table).with_context(|| format!("failed to write {}", file.display()))
}

/// Where corpora, stores and results of benchmarks live.
pub(crate) fn folder() -> Result<PathBuf> {
    let folder = paths::target().join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
    Ok(folder)
}

/// The program as its users get it; `PARAMEDIC_BENCH_PROGRAM` names another one, an older version say.
pub(crate) fn release_program() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os("PARAMEDIC_BENCH_PROGRAM") {
        return Ok(PathBuf::from(program));
    }
    process::run(Command::new("cargo").args(["build", "--release", "--package", "paramedic"]).current_dir(paths::workspace()))?;
    Ok(paths::target().join("release/paramedic"))
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
