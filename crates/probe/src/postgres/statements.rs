//! `pg_stat_statements`: the statements that take the most time, and an estimate of the 95th percentile of all.
//!
//! The extension keeps, for each statement, the number of calls with the mean and the standard deviation of their times.
//! Differences of two looks give the same for the calls between them. The estimate takes the times of each statement to be
//! log-normal with that mean and deviation, and finds the time below which 95 % of the calls of all statements lie. It
//! knows nothing of single calls: a few slow calls of a statement that is mostly fast move it less than they should.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use paramedic_model::Timestamp;
use tokio_postgres::{Client, Error};

use crate::postgres::ask::{number, rows, text};
use crate::reading::Reading;

/// Statements that are read; the extension keeps 5,000 by default.
const READ_MAX: usize = 1_000;
/// The estimate is over the calls of this time.
const WINDOW: Duration = Duration::from_secs(300);
/// Looks that are remembered at most.
const LOOKS_MAX: usize = 32;

/// Everything of one statement since the statistics began.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sums {
    calls: f64,
    /// Milliseconds.
    total: f64,
    /// Sum of the squares of the times.
    squares: f64,
}

impl Sums {
    fn of(calls: f64, total: f64, deviation: f64) -> Self {
        let mean = if calls > 0.0 { total / calls } else { 0.0 };
        Self { calls, total, squares: calls * (deviation * deviation + mean * mean) }
    }

    /// What came since `before`; everything when the statistics were begun anew.
    fn since(self, before: Self) -> Self {
        if self.calls < before.calls || self.total < before.total {
            return self;
        }
        Self { calls: self.calls - before.calls, total: self.total - before.total, squares: (self.squares - before.squares).max(0.0) }
    }

    fn mean(self) -> f64 {
        self.total / self.calls
    }

    fn deviation(self) -> f64 {
        (self.squares / self.calls - self.mean() * self.mean()).max(0.0).sqrt()
    }
}

type Key = (Box<str>, Box<str>, Box<str>);

/// What is remembered between looks.
#[derive(Debug, Default)]
pub(super) struct Statements {
    looks: VecDeque<(Timestamp, HashMap<Key, Sums>)>,
}

impl Statements {
    pub(super) async fn ask(&mut self, client: &Client, top: usize, now: Timestamp, reading: &mut Reading) -> Result<(), Error> {
        // The view's columns were renamed in version 1.8 of the extension.
        let columns = rows(
            client,
            "SELECT n.nspname AS schema, bool_or(a.attname = 'total_exec_time') AS renamed FROM pg_class c \
             JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid \
             WHERE c.relname = 'pg_stat_statements' AND c.relkind = 'v' GROUP BY 1 LIMIT 1",
        )
        .await?;
        let Some(view) = columns.first() else {
            self.looks.clear();
            return Ok(());
        };
        let word = if text(view, "renamed") == "t" { "_exec_time" } else { "_time" };
        let schema = text(view, "schema").replace('"', "\"\"");
        // The function with `false` does not read the texts of the statements from their file.
        let found = rows(
            client,
            &format!(
                "SELECT s.queryid, coalesce(d.datname, '') AS datname, coalesce(r.rolname, '') AS role, sum(s.calls) AS calls, \
                 sum(s.total{word}) AS total, sum(s.rows) AS rows, max(s.max{word}) AS longest, \
                 sqrt(sum(s.calls * (s.stddev{word} ^ 2 + s.mean{word} ^ 2)) / nullif(sum(s.calls), 0) \
                 - least((sum(s.total{word}) / nullif(sum(s.calls), 0)) ^ 2, \
                 sum(s.calls * (s.stddev{word} ^ 2 + s.mean{word} ^ 2)) / nullif(sum(s.calls), 0))) AS deviation \
                 FROM \"{schema}\".pg_stat_statements(false) s LEFT JOIN pg_database d ON d.oid = s.dbid \
                 LEFT JOIN pg_roles r ON r.oid = s.userid WHERE s.queryid IS NOT NULL \
                 GROUP BY 1, 2, 3 ORDER BY 5 DESC NULLS LAST LIMIT {READ_MAX}"
            ),
        )
        .await?;
        let mut sums = HashMap::with_capacity(found.len());
        for (place, row) in found.iter().enumerate() {
            let labels = [("queryid", text(row, "queryid")), ("datname", text(row, "datname")), ("user", text(row, "role"))];
            let (calls, total) = (number(row, "calls").unwrap_or(0.0), number(row, "total").unwrap_or(0.0));
            sums.insert(labels.map(|(_, value)| Box::from(value)).into(), Sums::of(calls, total, number(row, "deviation").unwrap_or(0.0)));
            if place < top {
                reading.add("pg_stat_statements_calls_total", &labels, calls);
                reading.add("pg_stat_statements_seconds_total", &labels, total / 1e3);
                reading.add("pg_stat_statements_rows_total", &labels, number(row, "rows").unwrap_or(0.0));
                if calls > 0.0 {
                    reading.add("pg_stat_statements_mean_exec_time_ms", &labels, total / calls);
                }
                reading.add("pg_stat_statements_max_exec_time_ms", &labels, number(row, "longest").unwrap_or(0.0));
            }
        }
        if let Some(estimate) = self.estimate(now, sums) {
            reading.gauge("pg_stat_statements_p95_ms", estimate);
        }
        Ok(())
    }

    /// The 95th percentile in milliseconds of the calls of the last minutes; 0 when there were none, `None` at the first look.
    fn estimate(&mut self, now: Timestamp, sums: HashMap<Key, Sums>) -> Option<f64> {
        // The oldest look within the window stays, and the one before it so that the window is filled.
        while self.looks.len() > LOOKS_MAX || self.looks.get(1).is_some_and(|(at, _)| now.since(*at) >= WINDOW) {
            self.looks.pop_front();
        }
        let recent = self.looks.front().map(|(_, before)| {
            let all = sums.iter().map(|(key, sums)| sums.since(before.get(key).copied().unwrap_or_default()));
            all.filter(|sums| sums.calls > 0.0 && sums.total.is_finite()).collect::<Vec<_>>()
        });
        self.looks.push_back((now, sums));
        recent.map(|recent| percentile(&recent, 0.95))
    }
}

/// The time below which a share of the calls lies.
fn percentile(statements: &[Sums], share: f64) -> f64 {
    let calls: f64 = statements.iter().map(|sums| sums.calls).sum();
    if calls <= 0.0 {
        return 0.0;
    }
    let below = |time: f64| statements.iter().map(|sums| sums.calls * share_below(*sums, time)).sum::<f64>() / calls;
    let mut high = statements.iter().map(|sums| sums.mean() + sums.deviation()).fold(1e-6, f64::max);
    while below(high) < share && high < 1e15 {
        high *= 2.0;
    }
    let mut low = 0.0;
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if below(middle) < share { low = middle } else { high = middle }
    }
    high
}

/// The share of a statement's calls that take less than a time, when their logarithms are normal.
fn share_below(sums: Sums, time: f64) -> f64 {
    let (mean, deviation) = (sums.mean(), sums.deviation());
    if mean <= 0.0 || deviation <= mean * 1e-6 {
        return if time >= mean { 1.0 } else { 0.0 };
    }
    let variance = (deviation / mean).powi(2).ln_1p();
    let middle = mean.ln() - variance / 2.0;
    normal_below((time.ln() - middle) / variance.sqrt())
}

/// The standard normal distribution (Abramowitz and Stegun, 26.2.17; error below 7.5e-8).
fn normal_below(x: f64) -> f64 {
    const FACTORS: [f64; 5] = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let sum = FACTORS.iter().rev().fold(0.0, |sum, factor| (sum + factor) * t);
    let tail = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * sum;
    if x >= 0.0 { 1.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() <= expected * 1e-3, "{found} instead of {expected}");
    }

    #[test]
    fn percentiles_of_known_distributions() {
        close(percentile(&[Sums::of(10.0, 1_000.0, 0.0)], 0.95), 100.0);
        // exp(N(ln 100, 0.5)): its mean and deviation follow, and its 95th percentile is 100 * exp(0.5 * 1.6449).
        let (mean, spread) = (100.0 * (0.125_f64).exp(), (0.25_f64.exp() - 1.0).sqrt());
        close(percentile(&[Sums::of(1_000.0, 1_000.0 * mean, mean * spread)], 0.95), 227.6);
        // 94 fast calls and 6 slow ones: the percentile is among the slow.
        close(percentile(&[Sums::of(94.0, 94.0, 0.0), Sums::of(6.0, 30_000.0, 0.0)], 0.95), 5_000.0);
        close(percentile(&[Sums::of(96.0, 96.0, 0.0), Sums::of(4.0, 20_000.0, 0.0)], 0.95), 1.0);
        assert_eq!(percentile(&[], 0.95), 0.0);
    }

    #[test]
    fn only_recent_calls_count() {
        let key = || (Box::from("1"), Box::from("d"), Box::from("u"));
        let look = |calls, total| HashMap::from([(key(), Sums::of(calls, total, 0.0))]);
        let at = |secs: i64| Timestamp::from_secs(1_700_000_000 + secs);
        let mut statements = Statements::default();
        assert_eq!(statements.estimate(at(0), look(1_000.0, 1_000.0)), None);
        close(statements.estimate(at(15), look(1_010.0, 31_000.0)).unwrap(), 3_000.0);
        close(statements.estimate(at(400), look(1_020.0, 31_010.0)).unwrap(), 1.0);
        assert_eq!(statements.estimate(at(800), look(1_020.0, 31_010.0)), Some(0.0), "nothing was called");
        close(statements.estimate(at(815), look(5.0, 50.0)).unwrap(), 10.0);
    }
}
