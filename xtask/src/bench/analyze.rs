//! `paramedic analyze` against ccusage on the same sessions, turn by turn.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::{Cost, measure};
use crate::setup;

use super::{corpus, folder, median, release_program};

pub(super) fn run(runs: usize, megabytes: u64) -> Result<String> {
    let program = release_program()?;
    let peer = setup::ccusage();
    if let Err(error) = &peer {
        println!("missing ccusage: {error:#}; measuring without the peer");
    }
    let root = corpus::make(megabytes)?;
    let size_mb = corpus::size(&root)? as f64 / 1e6;
    let out = folder()?;
    let cache = out.join("analyze-cache");
    fs::remove_dir_all(&cache).ok();
    let analyze = |extra: &[&str], file: &str| {
        let mut command = Command::new(&program);
        command.arg("analyze").arg(&root).arg("--json").args(extra).env("XDG_CACHE_HOME", &cache);
        measure(&mut command, &out.join(file))
    };

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for turn in 0..=runs {
        // The first turn fills the page cache and is not counted.
        let cost = analyze(&["--no-cache"], "ours.json")?;
        let other = peer.as_ref().ok().map(|peer| {
            let mut command = Command::new(peer);
            command.args(["claude", "daily", "--offline", "--json"]).env("CLAUDE_CONFIG_DIR", &root);
            measure(&mut command, &out.join("theirs.json"))
        });
        let other = other.transpose()?;
        if turn > 0 {
            ours.push(cost);
            theirs.extend(other);
        }
    }
    analyze(&[], "warm.json")?;
    let warm: Vec<Cost> = (0..runs).map(|_| analyze(&[], "warm.json")).collect::<Result<_>>()?;

    let incidents = incidents(&out.join("ours.json"))?;
    let mut table = format!("{size_mb:.0} MB of sessions, median of {runs} interleaved runs; {incidents} incidents extracted.\n\n");
    table.push_str("| program | CPU s | wall s | resident MB |\n|---|---|---|---|\n");
    row(&mut table, "`paramedic analyze --no-cache`", &ours)?;
    row(&mut table, "`ccusage claude daily --offline`", &theirs)?;
    row(&mut table, "`paramedic analyze`, warm", &warm)?;
    if !theirs.is_empty() {
        let ratio = cpu(&ours) / cpu(&theirs);
        writeln!(table, "\nCPU time against ccusage: {ratio:.2}.")?;
    }
    Ok(table)
}

fn cpu(costs: &[Cost]) -> f64 {
    median(costs.iter().map(|cost| cost.cpu_s).collect())
}

fn row(table: &mut String, name: &str, costs: &[Cost]) -> Result<()> {
    if costs.is_empty() {
        return Ok(writeln!(table, "| {name} | not measured | | |")?);
    }
    let wall = median(costs.iter().map(|cost| cost.wall_s).collect());
    let rss = median(costs.iter().map(|cost| cost.rss_mb).collect());
    Ok(writeln!(table, "| {name} | {:.2} | {wall:.3} | {rss:.0} |", cpu(costs))?)
}

fn incidents(file: &std::path::Path) -> Result<usize> {
    let text = fs::read(file).with_context(|| format!("failed to read {}", file.display()))?;
    let report: Value = serde_json::from_slice(&text).context("analyze printed no JSON")?;
    Ok(report["incidents"].as_array().map_or(0, Vec::len))
}
