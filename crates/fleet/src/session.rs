//! What is known of a session as a whole: which sources tell its calls, and what is counted only for want of better.

use paramedic_model::Usage;
use serde::{Deserialize, Serialize};

use crate::calls::Grade;
use crate::tally::Tally;

/// Provisional sums kept per session; beyond it they stay counted for good.
const CELLS_MAX: usize = 512;
/// Cumulative counters followed per session.
const SERIES_MAX: usize = 256;
/// Models whose sums are kept per session; those of any further one are not settled.
const MODELS_MAX: usize = 64;

/// Why a sum may have to be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Provisional {
    /// Told without any id by a source of this grade: counts until a better source tells this session's calls.
    Anonymous(Grade),
    /// Told by OTLP under a request id: counts unless the session's own record names no request ids, because then the two
    /// can never be matched.
    RequestOnly,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Cell {
    #[serde(rename = "w")]
    pub(crate) why: Provisional,
    #[serde(rename = "a")]
    pub(crate) agent: u64,
    #[serde(rename = "d")]
    pub(crate) day: i32,
    #[serde(rename = "m")]
    pub(crate) model: u16,
    #[serde(rename = "t")]
    pub(crate) tally: Tally,
    /// A counter of dollars covers these tokens.
    #[serde(rename = "r", default)]
    pub(crate) reported: bool,
}

/// What a model used in a session by the account of its runs, and how much of that no call explains.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Account {
    #[serde(rename = "a")]
    pub(crate) agent: u64,
    #[serde(rename = "d")]
    pub(crate) day: i32,
    #[serde(rename = "m")]
    pub(crate) model: u16,
    #[serde(rename = "t")]
    pub(crate) total: Usage,
    /// Counted on top of the calls.
    #[serde(rename = "x")]
    pub(crate) missing: Usage,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Session {
    /// The best source that told a call.
    #[serde(rename = "b", default)]
    pub(crate) best: Grade,
    /// The conversation's record names calls by message id only.
    #[serde(rename = "n", default)]
    pub(crate) without_requests: bool,
    #[serde(rename = "p", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) cells: Vec<Cell>,
    /// The last value of each cumulative counter, as the bits of a float: text would round it.
    #[serde(rename = "v", default, skip_serializing_if = "Vec::is_empty")]
    series: Vec<(u64, u64)>,
    /// What is counted of the session's calls, by model.
    #[serde(rename = "u", default, skip_serializing_if = "Vec::is_empty")]
    counted: Vec<(u16, Usage)>,
    /// What the runs' own accounts say.
    #[serde(rename = "s", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) accounts: Vec<Account>,
    /// Keys of the agents that belong to it, the main one included.
    #[serde(rename = "a", default)]
    pub(crate) agents: Vec<u64>,
    /// The last sign of life of any of them, in microseconds.
    #[serde(rename = "l", default)]
    pub(crate) last_us: i64,
    /// Its calls pass through a gateway, which tells all of them.
    #[serde(rename = "g", default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) through_gateway: bool,
}

impl Session {
    /// Whether a sum of this kind counts at present.
    pub(crate) fn counts(&self, why: Provisional) -> bool {
        match why {
            Provisional::Anonymous(grade) => self.best <= grade,
            Provisional::RequestOnly => !self.without_requests,
        }
    }

    /// Notes a provisional sum, so that it can be taken back.
    pub(crate) fn note(&mut self, why: Provisional, agent: u64, day: i32, model: u16, tally: Tally) {
        if let Some(cell) = self.cell(why, agent, day, model) {
            cell.tally = cell.tally.plus(tally);
            return;
        }
        if self.cells.len() >= CELLS_MAX {
            self.cells.clear();
        }
        self.cells.push(Cell { why, agent, day, model, tally, reported: false });
    }

    pub(crate) fn unnote(&mut self, why: Provisional, agent: u64, day: i32, model: u16, tally: Tally) {
        if let Some(cell) = self.cell(why, agent, day, model) {
            cell.tally = cell.tally.minus(tally);
        }
    }

    pub(crate) fn cell(&mut self, why: Provisional, agent: u64, day: i32, model: u16) -> Option<&mut Cell> {
        self.cells.iter_mut().find(|cell| cell.why == why && cell.agent == agent && cell.day == day && cell.model == model)
    }

    /// A source told a call. Gives the sums that no longer count.
    pub(crate) fn heard_call(&mut self, grade: Grade, named_by_message_only: bool) -> Vec<Cell> {
        let better = grade > self.best;
        let unmatched = grade == Grade::Record && named_by_message_only && !self.without_requests;
        if !better && !unmatched {
            return Vec::new();
        }
        self.best = self.best.max(grade);
        self.without_requests |= unmatched;
        let (keep, retract): (_, Vec<Cell>) = std::mem::take(&mut self.cells).into_iter().partition(|cell| self.counts(cell.why));
        self.cells = keep;
        for cell in &retract {
            self.count_less(cell.model, cell.tally.usage);
        }
        if self.best > Grade::Metric {
            self.series = Vec::new();
        }
        retract
    }

    pub(crate) fn count_more(&mut self, model: u16, usage: Usage) {
        if let Some((_, counted)) = self.counted.iter_mut().find(|(known, _)| *known == model) {
            *counted = counted.plus(usage);
        } else if self.counted.len() < MODELS_MAX {
            self.counted.push((model, usage));
        }
    }

    pub(crate) fn count_less(&mut self, model: u16, usage: Usage) {
        if let Some((_, counted)) = self.counted.iter_mut().find(|(known, _)| *known == model) {
            *counted = counted.minus(usage);
        }
    }

    /// Adds to a run's account of a model.
    pub(crate) fn account(&mut self, agent: u64, day: i32, model: u16, usage: Usage) {
        if let Some(account) = self.accounts.iter_mut().find(|account| account.model == model) {
            account.total = account.total.plus(usage);
        } else if self.counted.len() < MODELS_MAX && self.accounts.len() < MODELS_MAX {
            self.accounts.push(Account { agent, day, model, total: usage, missing: Usage::default() });
        }
    }

    /// Compares accounts with calls. Gives the accounts that changed, each as it was and as it is.
    pub(crate) fn settle(&mut self) -> Vec<(Account, Account)> {
        let mut changed = Vec::new();
        // A run accounts a call that was passed to another model under the model that it asked for: where the gateway tells
        // the calls, no more is missing than the accounts of all models have more than all calls.
        let accounted = self.accounts.iter().fold(Usage::default(), |sum, account| sum.plus(account.total));
        let told = self.counted.iter().fold(Usage::default(), |sum, (_, usage)| sum.plus(*usage));
        let mut unexplained = accounted.minus(told);
        for account in &mut self.accounts {
            let counted = self.counted.iter().find(|(model, _)| *model == account.model).map(|(_, usage)| *usage).unwrap_or_default();
            let before = *account;
            account.missing = account.total.minus(counted);
            if self.through_gateway {
                account.missing = account.missing.minus(account.missing.minus(unexplained));
                unexplained = unexplained.minus(account.missing);
            }
            if account.missing != before.missing {
                changed.push((before, *account));
            }
        }
        changed
    }

    /// How much a cumulative counter grew. A value below the last one means that it began anew.
    pub(crate) fn growth(&mut self, series: u64, value: f64) -> f64 {
        if let Some((_, last)) = self.series.iter_mut().find(|(key, _)| *key == series) {
            let before = f64::from_bits(std::mem::replace(last, value.to_bits()));
            return if value < before { value } else { value - before };
        }
        if self.series.len() >= SERIES_MAX {
            self.series.remove(0);
        }
        self.series.push((series, value.to_bits()));
        value
    }
}
