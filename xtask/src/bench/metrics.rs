//! Samples and queries, beside Debian's Prometheus and VictoriaMetrics: the same bodies by remote write, the same
//! expressions over HTTP, in turn, in one run.

mod data;
pub(super) mod engines;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;

pub(super) use self::data::one_series;
use self::data::{BUCKETS, EVERY_MS};
use self::engines::Engine;
use super::{folder, median};
use crate::process;

const RUNS: usize = 9;
/// How long the rules are watched: some intervals of five seconds.
const RULES_WATCHED: Duration = Duration::from_secs(25);
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
pub(super) fn now_ms() -> Result<i64> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as i64)
}

impl Bench {
    fn start(name: &str, series: u64, bare: bool, prometheus: bool) -> Result<Self> {
        let root = folder()?.join(name);
        fs::remove_dir_all(&root).ok();
        fs::create_dir_all(&root)?;
        let rules = root.join("rules.yml");
        fs::write(&rules, "groups: []\n")?;
        let ours = if bare { engines::bare(&root)? } else { engines::paramedic(&root, &rules)? };
        let mut engines = vec![ours];
        if prometheus {
            engines.push(engines::prometheus(&root, &rules)?);
        }
        engines.push(engines::victoria_metrics(&root)?);
        let intakes = engines.iter().map(|_| Intake::default()).collect();
        Ok(Self { root, series, engines, intakes, next_ms: 0, samples: 0 })
    }

    /// Sends what is due until now to every engine in turn; gives the time of the last sample.
    fn feed(&mut self) -> Result<i64> {
        self.feed_until(i64::MAX)
    }

    /// Sends what is due until now or until an earlier time.
    fn feed_until(&mut self, end_ms: i64) -> Result<i64> {
        while self.next_ms < end_ms && self.next_ms <= now_ms()? {
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
        let ratios: Vec<String> = names[1..].iter().map(|name| format!("{name} / ours")).collect();
        format!("| {what} | {} | {} |\n|---|{}\n", names.join(" | "), ratios.join(" | "), "---|".repeat(names.len() + ratios.len()))
    }

    fn memory_a_series(&self) -> Result<Vec<f64>> {
        let total = (self.series + BUCKETS) as f64;
        let memory = |engine: &Engine| Ok((engine.memory_mb()? - engine.empty_mb) * 1024.0 * 1024.0 / total);
        self.engines.iter().map(memory).collect()
    }

    fn intake_table(&self) -> Result<String> {
        let mut table = self.header("taking in");
        let million = self.samples as f64 / 1e6;
        row(&mut table, "CPU seconds for a million samples", self.intakes.iter().map(|intake| intake.cpu_s / million));
        row(&mut table, "seconds by the clock for a million, one connection", self.intakes.iter().map(|intake| intake.wall_s / million));
        row(&mut table, "resident bytes a series", self.memory_a_series()?.into_iter());
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

    /// Groups of a thousand rules, evaluated every five seconds by one engine after the other, so that none waits for
    /// another's work; Prometheus, vmalert and we say ourselves how long a round took.
    fn rules_table(&mut self) -> Result<String> {
        let file = self.root.join("rules.yml");
        let mut took: Vec<BTreeMap<String, f64>> = Vec::new();
        for at in 0..2 {
            fs::write(&file, data::rules())?;
            self.engines[at].reload()?;
            took.push(self.watch_rules(at)?);
            fs::write(&file, "groups: []\n")?;
            self.engines[at].reload()?;
        }
        fs::write(&file, data::rules())?;
        let (_vmalert, vmalert) = engines::vmalert(&self.root, &file, &self.engines[2].address)?;
        let begun = Instant::now();
        while begun.elapsed() < RULES_WATCHED {
            self.feed()?;
            thread::sleep(Duration::from_millis(300));
        }
        let sums = engines::own_metrics(&vmalert, "vmalert_iteration_duration_seconds_sum")?;
        let counts = engines::own_metrics(&vmalert, "vmalert_iteration_duration_seconds_count")?;
        let mut table = self.header("1,000 rules of one group every 5 s, milliseconds");
        for (group, what) in [("quiet", "alerts that do not hold"), ("firing", "alerts that all fire"), ("recording", "recorded series")] {
            let of = |all: &[(String, f64)]| {
                all.iter().find(|(line, _)| line.contains(&format!("group=\"{group}\""))).map_or(f64::NAN, |(_, value)| *value)
            };
            let own = |at: usize| took[at].get(group).copied().unwrap_or(f64::NAN);
            row(&mut table, what, [own(0), own(1), of(&sums) / of(&counts) * 1e3].into_iter());
        }
        Ok(table)
    }

    /// Milliseconds that a round of each group takes one engine, the median of some.
    fn watch_rules(&mut self, at: usize) -> Result<BTreeMap<String, f64>> {
        let begun = Instant::now();
        let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
        let mut took: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        while begun.elapsed() < RULES_WATCHED {
            self.feed()?;
            for (group, moment, seconds) in self.engines[at].evaluations()? {
                // The first rounds are not like the others: everything is new.
                if begun.elapsed() > RULES_WATCHED / 3 && seen.insert((group.clone(), moment)) {
                    took.entry(group).or_default().push(seconds * 1e3);
                }
            }
            thread::sleep(Duration::from_millis(300));
        }
        Ok(took.into_iter().map(|(group, took)| (group, median(took))).collect())
    }
}

/// Adds a row: the values, and how many times ours the others are.
fn row(table: &mut String, what: &str, values: impl Iterator<Item = f64>) {
    let values: Vec<f64> = values.collect();
    let cells: Vec<String> = values.iter().map(|value| format!("{value:.2}")).collect();
    let ratios: Vec<String> = values.iter().skip(1).map(|other| format!("{:.1}", other / values[0])).collect();
    table.push_str(&format!("| {what} | {} | {} |\n", cells.join(" | "), ratios.join(" | ")));
}

pub(super) fn queries(minutes: u64, series: u64, bare: bool) -> Result<String> {
    let mut bench = Bench::start("promql", series, bare, true)?;
    bench.load(minutes)?;
    let mut table = format!("{} samples of {} series, one every 15 seconds.\n\n", bench.samples, series + BUCKETS);
    table.push_str(&bench.intake_table()?);
    table.push('\n');
    table.push_str(&bench.query_table()?);
    eprintln!("{table}");
    if !bare {
        table.push('\n');
        table.push_str(&bench.rules_table()?);
    }
    Ok(table)
}

/// Minutes of samples after which memory is looked at.
const LOOKS: [u64; 7] = [10, 30, 60, 90, 120, 150, 180];

pub(super) fn ingest(minutes: u64, series: u64, bare: bool, prometheus: bool) -> Result<String> {
    let mut bench = Bench::start("samples", series, bare, prometheus)?;
    let begin = (now_ms()? - minutes as i64 * 60_000).div_euclid(EVERY_MS) * EVERY_MS;
    bench.next_ms = begin;
    let before = bench.engines.iter().map(|engine| process::cpu_s(engine.pid())).collect::<Result<Vec<_>>>()?;
    let mut memory = bench.header("resident bytes a series after minutes of samples");
    for look in LOOKS.into_iter().filter(|look| *look < minutes).chain([minutes]) {
        bench.feed_until(begin + look as i64 * 60_000)?;
        // What runs on behind an answer (merging, flushing) is part of it.
        thread::sleep(Duration::from_secs(5));
        row(&mut memory, &look.to_string(), bench.memory_a_series()?.into_iter());
        eprintln!("{memory}");
    }
    for ((engine, intake), before) in bench.engines.iter().zip(&mut bench.intakes).zip(before) {
        intake.cpu_s = process::cpu_s(engine.pid())? - before;
    }
    Ok(format!("{} samples of {} series, one every 15 seconds.\n\n{}\n{memory}", bench.samples, series + BUCKETS, bench.intake_table()?))
}
