//! How soon an alert is in the journal: a sample arrives by remote write shortly before a group's evaluation, and the
//! journal is asked again and again until the alert is there.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::folder;
use super::metrics::{engines, now_ms, one_series};

/// How long before the evaluation the sample is sent.
const AHEAD_MS: i64 = 40;
const GIVEN_UP: Duration = Duration::from_secs(3);
/// Between two questions to the journal.
const PAUSE: Duration = Duration::from_micros(300);

pub(super) fn run(rounds: usize) -> Result<String> {
    let root = folder()?.join("alert");
    fs::remove_dir_all(&root).ok();
    fs::create_dir_all(&root)?;
    let rules = root.join("rules.yml");
    let mut text = "groups:\n".to_owned();
    for round in 0..rounds {
        let labels = "severity: critical, category: performance";
        writeln!(text, "- name: group{round}\n  interval: 1s\n  rules:")?;
        writeln!(text, "  - {{alert: Round{round}, expr: 'arrived{{round=\"{round}\"}} > 0', labels: {{{labels}}}}}")?;
    }
    fs::write(&rules, text)?;
    let mut engine = engines::paramedic(&root, &rules)?;
    // Every group has been evaluated: its phase is known.
    thread::sleep(Duration::from_millis(2_500));
    let (mut beyond, mut evaluating, mut disk) = (Vec::new(), Vec::new(), Vec::new());
    let mut file = fs::File::create(root.join("probe"))?;
    for round in 0..rounds {
        let name = format!("group{round}");
        let groups = engine.evaluations()?;
        let (_, last, _) = groups.iter().find(|(group, ..)| *group == name).with_context(|| format!("no group {name}"))?;
        let phase = millisecond(last);
        let now = now_ms()?;
        // At least a tenth of a second ahead, so that all is prepared.
        let evaluation = now + 100 + AHEAD_MS + (phase - now - 100 - AHEAD_MS).rem_euclid(1_000);
        let after = journal(&mut engine, 0)?.0;
        wait_until(evaluation - AHEAD_MS)?;
        engine.write(&one_series("arrived", "round", &round.to_string(), evaluation - AHEAD_MS, 1.0)?)?;
        wait_until(evaluation)?;
        let begun = Instant::now();
        while !journal(&mut engine, after)?.1.contains(&format!("Round{round}\"")) {
            ensure!(begun.elapsed() < GIVEN_UP, "the alert of round {round} is not in the journal");
            thread::sleep(PAUSE);
        }
        beyond.push(begun.elapsed().as_secs_f64() * 1e3);
        disk.push(forced_write(&mut file)?);
        let groups = engine.evaluations()?;
        evaluating.extend(groups.iter().find(|(group, ..)| *group == name).map(|(.., took)| took * 1e3));
    }
    let mut table = format!("{rounds} alerts of {rounds} groups, each with an interval of one second.\n\n");
    table.push_str("| milliseconds | p50 | p90 | p99 | slowest |\n|---|---|---|---|---|\n");
    row(&mut table, "from the moment of the evaluation to the answer of the journal that has the alert", beyond)?;
    row(&mut table, "what the group's evaluation took, the journal's writing included", evaluating)?;
    row(&mut table, "beside it, what the disk takes to force 4 kB", disk)?;
    Ok(table)
}

/// Milliseconds that the disk takes: nothing durable can be faster.
fn forced_write(file: &mut fs::File) -> Result<f64> {
    let begun = Instant::now();
    file.write_all(&[7; 4096])?;
    file.sync_data()?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

fn row(table: &mut String, what: &str, mut values: Vec<f64>) -> Result<()> {
    values.sort_by(f64::total_cmp);
    let at =
        |share: f64| values.get(((values.len() as f64 * share) as usize).min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN);
    Ok(writeln!(table, "| {what} | {:.1} | {:.1} | {:.1} | {:.1} |", at(0.5), at(0.9), at(0.99), at(1.0))?)
}

/// The millisecond of its second that a moment such as `2026-01-14T00:00:00.25Z` names.
fn millisecond(moment: &str) -> i64 {
    let digits = moment.split_once('.').map_or("", |(_, rest)| rest.trim_end_matches('Z'));
    format!("{digits:0<3}").get(..3).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The journal's last position, and its entries after another one.
fn journal(engine: &mut engines::Engine, after: u64) -> Result<(u64, String)> {
    let (status, answer) = engine.connection.get(&format!("/api/v1/journal?after={after}&limit=1000"))?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    ensure!(status == 200, "the journal answered {status}: {text}");
    let head = serde_json::from_str::<Value>(&text)?["head"].as_u64().context("the journal has no position")?;
    Ok((head, text))
}

/// Sleeps until shortly before a moment, then watches the clock.
fn wait_until(moment_ms: i64) -> Result<()> {
    let left = moment_ms - now_ms()?;
    if left > 2 {
        thread::sleep(Duration::from_millis(left as u64 - 2));
    }
    while now_ms()? < moment_ms {
        thread::yield_now();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_names_its_millisecond() {
        let found = ["2026-01-14T00:00:07Z", "2026-01-14T00:00:07.25Z", "2026-01-14T00:00:07.123Z"].map(millisecond);
        assert_eq!(found, [0, 250, 123]);
    }
}
