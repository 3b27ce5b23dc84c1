//! Samples and queries, beside Debian's Prometheus and VictoriaMetrics: the same bodies by remote write, the same
//! expressions over HTTP, in turn, in one run.

mod data;
mod engines;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};

use self::data::{BUCKETS, EVERY_MS};
use self::engines::Engine;
use super::{folder, median};
use crate::process;

const RUNS: usize = 9;
/// How long the rules are watched: some intervals of five seconds.
const RULES_WATCHED: Duration = Duration::from_secs(16);
const QUERIES: [&str; 4] = [
    "sum by (x) (rate(m[1m]))",
    "histogram_quantile(0.95, sum by (le, x) (rate(h_bucket[1m])))",
    "count({__name__=~\"m.*\",instance=~\".*7.*\"})",
    "sum by (x) (rate(m[5m]))",
];

/// What taking the samples in cost one engine.
#[derive(Default)]
struct Intake {
    wall_s: f64,
    cpu_s: f64,
}

struct Bench {
    root: PathBuf,
    series: u64,
    engines: Vec<Engine>,
    intakes: Vec<Intake>,
    next_ms: i64,
    samples: u64,
}

#[expect(clippy::disallowed_methods, reason = "samples are sent as of now")]
fn now_ms() -> Result<i64> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as i64)
}

impl Bench {
    fn start(name: &str, series: u64) -> Result<Self> {
        let root = folder()?.join(name);
        fs::remove_dir_all(&root).ok();
        fs::create_dir_all(&root)?;
        let rules = root.join("rules.yml");
        fs::write(&rules, "groups: []\n")?;
        let engines = vec![engines::ours(&root)?, engines::prometheus(&root, &rules)?, engines::victoria_metrics(&root)?];
        let intakes = engines.iter().map(|_| Intake::default()).collect();
        Ok(Self { root, series, engines, intakes, next_ms: 0, samples: 0 })
    }

    /// Sends what is due until now to every engine in turn; gives the time of the last sample.
    fn feed(&mut self) -> Result<i64> {
        while self.next_ms <= now_ms()? {
            let bodies = data::bodies(self.series, self.next_ms)?;
            for (engine, intake) in self.engines.iter_mut().zip(&mut self.intakes) {
                let (begun, cpu) = (Instant::now(), process::cpu_s(engine.pid())?);
                bodies.iter().try_for_each(|body| engine.write(body))?;
                intake.wall_s += begun.elapsed().as_secs_f64();
                intake.cpu_s += process::cpu_s(engine.pid())? - cpu;
            }
            self.samples += self.series + BUCKETS;
            self.next_ms += EVERY_MS;
        }
        Ok(self.next_ms - EVERY_MS)
    }

    fn load(&mut self, minutes: u64) -> Result<()> {
        self.next_ms = (now_ms()? - minutes as i64 * 60_000).div_euclid(EVERY_MS) * EVERY_MS;
        // What runs on behind an answer (merging, flushing) belongs to the intake.
        let before = self.engines.iter().map(|engine| process::cpu_s(engine.pid())).collect::<Result<Vec<_>>>()?;
        self.feed()?;
        thread::sleep(Duration::from_secs(3));
        for ((engine, intake), before) in self.engines.iter().zip(&mut self.intakes).zip(before) {
            intake.cpu_s = process::cpu_s(engine.pid())? - before;
        }
        Ok(())
    }

    fn header(&self, what: &str) -> String {
        let names: Vec<&str> = self.engines.iter().map(|engine| engine.name).collect();
        format!(
            "| {what} | {} | Prometheus / ours | VictoriaMetrics / ours |\n|---|{}\n",
            names.join(" | "),
            "---|".repeat(names.len() + 2)
        )
    }

    fn intake_table(&self) -> Result<String> {
        let total = (self.series + BUCKETS) as f64;
        let mut table = self.header("taking in");
        let million = self.samples as f64 / 1e6;
        row(&mut table, "CPU seconds for a million samples", self.intakes.iter().map(|intake| intake.cpu_s / million));
        row(&mut table, "seconds by the clock for a million, one connection", self.intakes.iter().map(|intake| intake.wall_s / million));
        let memory = |engine: &Engine| Ok((engine.memory_mb()? - engine.empty_mb) * 1024.0 * 1024.0 / total);
        row(&mut table, "resident bytes a series", self.engines.iter().map(memory).collect::<Result<Vec<_>>>()?.into_iter());
        row(&mut table, "resident MB in all", self.engines.iter().map(Engine::memory_mb).collect::<Result<Vec<_>>>()?.into_iter());
        Ok(table)
    }

    fn query_table(&mut self) -> Result<String> {
        let mut table = self.header("query, milliseconds (median)");
        let mut cpu = self.header("query, CPU milliseconds (mean)");
        let mut sizes = String::new();
        for query in QUERIES {
            let last = self.feed()?;
            let mut walls = vec![Vec::new(); self.engines.len()];
            let mut cpus = vec![0.0; self.engines.len()];
            for run in 0..RUNS {
                for (at, engine) in self.engines.iter_mut().enumerate() {
                    let before = process::cpu_s(engine.pid())?;
                    // Another moment each time, as rules have it: nobody answers from a cache of results.
                    let (took, found) = engine.query(query, last + 1_000 + 100 * run as i64)?;
                    walls[at].push(took);
                    cpus[at] += (process::cpu_s(engine.pid())? - before) * 1e3 / RUNS as f64;
                    if run == 0 {
                        write!(sizes, " {}: {found};", engine.name)?;
                    }
                }
            }
            row(&mut table, &format!("`{query}`"), walls.into_iter().map(median));
            row(&mut cpu, &format!("`{query}`"), cpus.into_iter());
        }
        Ok(format!("{table}\n{cpu}\nElements in the answers:{sizes}\n"))
    }

    /// All rules of one group: Prometheus and vmalert say themselves how long a round took, ours evaluates
    /// one after the other too.
    fn rules_table(&mut self) -> Result<String> {
        let rules = data::rules();
        let file = self.root.join("rules.yml");
        write_rules(&file, &rules)?;
        let (status, _) = self.engines[1].connection.post("/-/reload", "text/plain", b"")?;
        anyhow::ensure!(status == 200, "Prometheus does not load the rules");
        let (_vmalert, vmalert) = engines::vmalert(&self.root, &file, &self.engines[2].address)?;
        let begun = Instant::now();
        let mut last = 0;
        while begun.elapsed() < RULES_WATCHED {
            last = self.feed()?;
            thread::sleep(Duration::from_millis(200));
        }
        let named = "prometheus_rule_group_last_duration_seconds";
        let prometheus = self.engines[1].own_metric("/metrics", named)?.context("Prometheus tells nothing of its rules")?;
        let told = |name: &str| Ok::<_, anyhow::Error>(engines::own_metric(&vmalert, "/metrics", name)?.unwrap_or(f64::NAN));
        let victoria = told("vmalert_iteration_duration_seconds_sum")? / told("vmalert_iteration_duration_seconds_count")?;
        write_rules(&file, &[])?;
        self.engines[1].connection.post("/-/reload", "text/plain", b"")?;
        let mut rounds = Vec::new();
        for round in 0..5 {
            let at = last + 1_000 + round * 100;
            let path = format!("/rules?time={}.{:03}", at / 1_000, at % 1_000);
            let (_, told) = self.engines[0].connection.post(&path, "text/plain", rules.join("\n").as_bytes())?;
            rounds.push(String::from_utf8_lossy(&told).parse()?);
        }
        let mut table = self.header("1,000 rules of one group, milliseconds");
        row(&mut table, "one evaluation", [median(rounds), prometheus * 1e3, victoria * 1e3].into_iter());
        Ok(table)
    }
}

fn write_rules(file: &Path, rules: &[String]) -> Result<()> {
    let mut text = "groups:\n- name: bench\n  interval: 5s\n  rules:\n".to_owned();
    for (number, rule) in rules.iter().enumerate() {
        writeln!(text, "  - {{alert: Rule{number}, expr: '{rule}'}}")?;
    }
    if rules.is_empty() {
        "groups: []\n".clone_into(&mut text);
    }
    fs::write(file, text).with_context(|| format!("failed to write {}", file.display()))
}

/// Adds a row: the values, and how many times ours the others are.
fn row(table: &mut String, what: &str, values: impl Iterator<Item = f64>) {
    let values: Vec<f64> = values.collect();
    let cells: Vec<String> = values.iter().map(|value| format!("{value:.2}")).collect();
    let ratios: Vec<String> = values.iter().skip(1).map(|other| format!("{:.1}", other / values[0])).collect();
    table.push_str(&format!("| {what} | {} | {} |\n", cells.join(" | "), ratios.join(" | ")));
}

pub(super) fn queries(minutes: u64, series: u64) -> Result<String> {
    let mut bench = Bench::start("promql", series)?;
    bench.load(minutes)?;
    let mut table = format!("{} samples of {} series, one every 15 seconds.\n\n", bench.samples, series + BUCKETS);
    table.push_str(&bench.intake_table()?);
    table.push('\n');
    table.push_str(&bench.query_table()?);
    eprintln!("{table}");
    table.push('\n');
    table.push_str(&bench.rules_table()?);
    Ok(table)
}

pub(super) fn ingest(minutes: u64, series: u64) -> Result<String> {
    let mut bench = Bench::start("samples", series)?;
    bench.load(minutes)?;
    Ok(format!("{} samples of {} series, one every 15 seconds.\n\n{}", bench.samples, series + BUCKETS, bench.intake_table()?))
}
