//! How long calls took, by model, agent, user or session, and which part of it is slow.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::call::{Kind, Outcome, Record};

/// Fewer calls say nothing of how long prompts and long waits go together.
const COMPARED_MIN: usize = 20;
/// From here on they do: a rank correlation.
const CORRELATED: f64 = 0.5;
/// ... if the longer half of the prompts waits so many times as long.
const TIMES_MIN: f64 = 1.5;
/// Shorter calls are not slow, whatever they are made of.
const SLOW_MS: u64 = 1_000;

/// What calls are put together by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    #[default]
    Model,
    Agent,
    User,
    Session,
    Key,
}

impl By {
    fn of(self, record: &Record) -> Option<&str> {
        match self {
            Self::Model => record.served_model.as_deref().or(record.model.as_deref()),
            Self::Agent => record.caller.agent.as_deref(),
            Self::User => record.caller.user.as_deref(),
            Self::Session => record.caller.session.as_deref(),
            Self::Key => record.caller.key.as_deref(),
        }
    }
}

/// A part of the time that a call takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Here: for a limit, a budget, or the next try.
    Waiting,
    /// Until the upstream's answer begins.
    FirstByte,
    /// From there to its end.
    Rest,
}

/// How long the calls of one model, agent, user or session took. Milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    pub name: String,
    pub calls: u64,
    pub duration_p50_ms: u64,
    pub duration_p95_ms: u64,
    pub duration_p99_ms: u64,
    /// From when the gateway asked the upstream.
    pub first_byte_p50_ms: u64,
    pub first_byte_p95_ms: u64,
    pub first_byte_p99_ms: u64,
    /// Waited here before.
    pub waited_p95_ms: u64,
    pub waited_mean_ms: u64,
    /// The part that all calls together spent most time in.
    pub longest: Part,
    /// ... of all their time, 0 to 1.
    pub longest_share: f64,
    /// Tokens read, in the mean.
    pub input_tokens: u64,
}

/// Whether long prompts take long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Prompts {
    /// The model with the most calls: only calls of one model are compared.
    pub model: String,
    pub calls: u64,
    /// Between tokens read and time to the first byte, of ranks, -1 to 1.
    pub correlation: f64,
    /// The median time to the first byte of the shorter half of the prompts.
    pub short_ms: u64,
    pub long_ms: u64,
    /// Where the longer half begins.
    pub long_tokens: u64,
    pub says_so: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    pub by: By,
    pub calls: u64,
    /// The slowest first, by the time that 95 % of the calls keep within.
    pub rows: Vec<Row>,
    /// None when too few calls are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompts: Option<Prompts>,
    /// Which part is slow, in words.
    pub says: String,
}

/// Reports calls that were answered whole.
#[must_use]
pub fn report(records: &[Arc<Record>], by: By, rows_max: usize) -> Report {
    let is_meant = |record: &&Record| record.kind == Kind::Inference && record.outcome == Outcome::Answered && record.status < 400;
    let calls: Vec<&Record> = records.iter().map(AsRef::as_ref).filter(is_meant).collect();
    let mut groups: HashMap<&str, Vec<&Record>> = HashMap::new();
    for record in &calls {
        groups.entry(by.of(record).unwrap_or("unknown")).or_default().push(record);
    }
    let mut rows: Vec<Row> = groups.iter().map(|(name, records)| row(name, records)).collect();
    rows.sort_by(|one, other| (other.duration_p95_ms, &one.name).cmp(&(one.duration_p95_ms, &other.name)));
    rows.truncate(rows_max);
    let prompts = prompts(&calls);
    let says = if calls.is_empty() { "no call was answered yet".to_owned() } else { says(&row("all", &calls), prompts.as_ref()) };
    Report { by, calls: calls.len() as u64, rows, prompts, says }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Waiting here, until the first byte, the rest.
fn parts(record: &Record) -> [u64; 3] {
    let duration = millis(record.duration);
    let waited = millis(record.waited).min(duration);
    let first = record.first_byte.map_or(duration, millis).clamp(waited, duration);
    [waited, first - waited, duration - first]
}

fn row(name: &str, records: &[&Record]) -> Row {
    let split: Vec<[u64; 3]> = records.iter().map(|record| parts(record)).collect();
    let sorted = |of: &dyn Fn(&[u64; 3]) -> u64| {
        let mut all: Vec<u64> = split.iter().map(of).collect();
        all.sort_unstable();
        all
    };
    let (duration, waited, first) = (sorted(&|one| one.iter().sum()), sorted(&|one| one[0]), sorted(&|one| one[1]));
    let sums = split.iter().fold([0u64; 3], |sums, one| std::array::from_fn(|part| sums[part].saturating_add(one[part])));
    let [waiting, until_first, rest] = sums;
    let (longest, most) = [(Part::FirstByte, until_first), (Part::Rest, rest), (Part::Waiting, waiting)]
        .into_iter()
        .reduce(|most, next| if next.1 > most.1 { next } else { most })
        .unwrap_or((Part::FirstByte, 0));
    let count = records.len().max(1) as u64;
    Row {
        name: name.to_owned(),
        calls: records.len() as u64,
        duration_p50_ms: quantile(&duration, 50),
        duration_p95_ms: quantile(&duration, 95),
        duration_p99_ms: quantile(&duration, 99),
        first_byte_p50_ms: quantile(&first, 50),
        first_byte_p95_ms: quantile(&first, 95),
        first_byte_p99_ms: quantile(&first, 99),
        waited_p95_ms: quantile(&waited, 95),
        waited_mean_ms: waiting / count,
        longest,
        longest_share: share(most, waiting.saturating_add(until_first).saturating_add(rest)),
        input_tokens: records.iter().map(|record| record.usage.context_tokens()).sum::<u64>() / count,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share is read by people")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The value that so many hundredths of a sorted list do not exceed; 0 of an empty one.
fn quantile(sorted: &[u64], percent: usize) -> u64 {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or(0)
}

fn prompts(calls: &[&Record]) -> Option<Prompts> {
    let mut by_model: HashMap<&str, Vec<(u64, u64)>> = HashMap::new();
    for record in calls.iter().filter(|record| !record.usage.is_zero()) {
        by_model.entry(By::Model.of(record)?).or_default().push((record.usage.context_tokens(), parts(record)[1]));
    }
    let (model, mut pairs) = by_model.into_iter().max_by_key(|(model, pairs)| (pairs.len(), std::cmp::Reverse(*model)))?;
    if pairs.len() < COMPARED_MIN {
        return None;
    }
    let correlation = rank_correlation(&pairs);
    pairs.sort_unstable();
    let middle = pairs.len() / 2;
    let median = |half: &[(u64, u64)]| {
        let mut times: Vec<u64> = half.iter().map(|(_, time)| *time).collect();
        times.sort_unstable();
        quantile(&times, 50)
    };
    let (short_ms, long_ms) = (median(&pairs[..middle]), median(&pairs[middle..]));
    let says_so = correlation >= CORRELATED && share(long_ms, short_ms.max(1)) >= TIMES_MIN;
    let long_tokens = pairs[middle].0;
    Some(Prompts { model: model.to_owned(), calls: pairs.len() as u64, correlation, short_ms, long_ms, long_tokens, says_so })
}

/// Spearman's: Pearson's of the ranks, equals sharing theirs.
fn rank_correlation(pairs: &[(u64, u64)]) -> f64 {
    let (one, other): (Vec<u64>, Vec<u64>) = pairs.iter().copied().unzip();
    let (one, other) = (ranks(&one), ranks(&other));
    let mean = (pairs.len() as f64 - 1.0) / 2.0;
    let (mut both, mut squares_one, mut squares_other) = (0.0, 0.0, 0.0);
    for (one, other) in one.iter().zip(&other) {
        let (one, other) = (one - mean, other - mean);
        both += one * other;
        squares_one += one * one;
        squares_other += other * other;
    }
    let scale = f64::sqrt(squares_one * squares_other);
    if scale > 0.0 { both / scale } else { 0.0 }
}

fn ranks(values: &[u64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by_key(|at| values[*at]);
    let mut ranks = vec![0.0; values.len()];
    let mut begin = 0;
    while begin < order.len() {
        let same = order[begin..].iter().take_while(|at| values[**at] == values[order[begin]]).count();
        let rank = begin as f64 + (same as f64 - 1.0) / 2.0;
        order[begin..begin + same].iter().for_each(|at| ranks[*at] = rank);
        begin += same;
    }
    ranks
}

fn says(all: &Row, prompts: Option<&Prompts>) -> String {
    let p95 = all.duration_p95_ms;
    if p95 < SLOW_MS {
        return format!("nothing is slow: 95 % of the calls take at most {p95} ms");
    }
    let part = match all.longest {
        Part::Waiting => "waiting here, for limits, budgets or next tries: see paramedic ratelimit and paramedic switch list",
        Part::FirstByte => "the time until the model begins to answer",
        Part::Rest => "writing the answer: long answers, or a slow model",
    };
    let long = match prompts.filter(|_| all.longest == Part::FirstByte) {
        Some(prompts) if prompts.says_so => format!(
            "; long prompts are why: from {} tokens on it takes {} ms, with shorter ones {} ms (max_history_tokens and prompt_caching help)",
            prompts.long_tokens, prompts.long_ms, prompts.short_ms
        ),
        Some(_) => "; it does not come from long prompts".to_owned(),
        None => String::new(),
    };
    format!("{:.0} % of the time is {part}{long}", all.longest_share * 100.0)
}

#[cfg(test)]
mod tests {
    use paramedic_model::{Timestamp, Usage};

    use super::*;
    use crate::call::Caller;

    fn record(user: &str, tokens: u64, [waited, first, rest]: [u64; 3]) -> Arc<Record> {
        let millis = Duration::from_millis;
        Arc::new(Record {
            id: 1,
            at: Timestamp::EPOCH,
            kind: Kind::Inference,
            caller: Caller { user: Some(user.into()), ..Caller::default() },
            method: "POST".into(),
            path: "/v1/messages".into(),
            upstream: "anthropic".into(),
            model: Some("claude-x".into()),
            served_model: None,
            stream: false,
            outcome: Outcome::Answered,
            status: 200,
            error_type: None,
            request_id: None,
            message_id: None,
            usage: Usage { input_tokens: tokens, ..Usage::default() },
            cost_pico: None,
            stop_reason: None,
            tries: 1,
            waited: millis(waited),
            first_byte: Some(millis(waited + first)),
            first_token: None,
            duration: millis(waited + first + rest),
            request_bytes: 1,
            response_bytes: 1,
            repeated_share: None,
            acted: Vec::new(),
        })
    }

    #[test]
    fn the_slow_part_is_named() {
        let cases = [
            ([5_000, 300, 900], Part::Waiting, "waiting here"),
            ([0, 4_000, 900], Part::FirstByte, "until the model begins"),
            ([0, 300, 9_000], Part::Rest, "writing the answer"),
            ([0, 30, 90], Part::Rest, "nothing is slow: 95 % of the calls take at most 120 ms"),
        ];
        for (parts, longest, says) in cases {
            let report = report(&[record("ana", 10, parts)], By::Model, 10);
            assert_eq!(report.rows[0].longest, longest, "{parts:?}");
            assert!(report.says.contains(says), "{parts:?}: {}", report.says);
        }
        assert_eq!(report(&[], By::User, 10).says, "no call was answered yet");
    }

    #[test]
    fn long_prompts_are_told_from_a_slow_upstream() {
        let long: Vec<_> = (1..=40).map(|step| record("ana", step * 1_000, [0, step * 100, 10])).collect();
        let found = report(&long, By::Model, 10);
        let prompts = found.prompts.unwrap();
        assert!(prompts.says_so && (prompts.correlation - 1.0).abs() < 1e-9, "{prompts:?}");
        assert_eq!((prompts.long_tokens, prompts.short_ms, prompts.long_ms), (21_000, 1_000, 3_000));
        assert!(found.says.contains("long prompts are why"), "{}", found.says);
        let slow: Vec<_> = (1..=40).map(|step| record("ana", step * 1_000, [0, 3_000 + step * 7 % 11, 10])).collect();
        let found = report(&slow, By::Model, 10);
        assert!(!found.prompts.unwrap().says_so && found.says.contains("does not come from long prompts"), "{}", found.says);
        assert!(report(&slow[..COMPARED_MIN - 1], By::Model, 10).prompts.is_none());
        // All alike say nothing, and divide by nothing.
        let same: Vec<_> = (0..40).map(|_| record("ana", 5, [0, 2_000, 10])).collect();
        assert_eq!(report(&same, By::Model, 10).prompts.unwrap().correlation, 0.0);
    }

    #[test]
    fn rows_are_by_what_was_asked_for_the_slowest_first_and_bounded() {
        let records: Vec<_> = (0..9).map(|user| record(&format!("u{user}"), 10, [0, user * 1_000, 0])).collect();
        let found = report(&records, By::User, 3);
        assert_eq!(found.rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["u8", "u7", "u6"]);
        assert_eq!(report(&records, By::Session, 3).rows[0].name, "unknown");
        let hundred: Vec<_> = (1..=100).map(|ms| record("ana", 10, [ms, 2 * ms, 0])).collect();
        let row = &report(&hundred, By::User, 3).rows[0];
        assert_eq!((row.duration_p50_ms, row.duration_p95_ms, row.duration_p99_ms), (150, 285, 297));
        assert_eq!((row.first_byte_p95_ms, row.waited_p95_ms, row.waited_mean_ms), (190, 95, 50));
    }
}
