//! What may be spent: reserved before a call, settled after it, so that calls at the same time cannot pass a cap together.
//!
//! **Takes** the caps that hold for a call, whose money it is, what it is likely to cost and what it may cost at most.
//! **Gives** a [`Reservation`] or the reason why there is none, warnings, budgets as they stand, who spends how much.
//! **Never** waits for a disk, never refuses while money is left and the call may wait, never lets a failure of its own
//! stop a call: what cannot be written is kept in memory, what there is no room for is counted under `other`.
//!
//! Start reading at [`cap`] (the rule), then [`state`] (all that is known, under one lock) and [`Ledger`] (the outside).
//! Money is picodollars (10⁻¹² US dollars). The log is one file, `spend.log`, written by a thread of its own.

mod window;

mod slots;

mod purse;

mod cap;

mod queue;

mod state;

mod ledger;

mod reservation;

mod outputs;

mod entry;

mod book;

mod store;

mod keeper;

mod view;

mod metrics;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use paramedic_model::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use ledger::Ledger;
pub use metrics::{Metrics, Used};
pub use outputs::Outputs;
pub use purse::{Purses, Whose};
pub use reservation::Reservation;
pub use view::{Budget, Hour, Spender};
pub use window::Period;

/// Picodollars in a dollar.
pub const PICO: u64 = 1_000_000_000_000;

/// Picodollars as the dollars that people read.
#[expect(clippy::cast_precision_loss, reason = "read by people; the sums are kept whole")]
#[must_use]
pub fn dollars(pico: u64) -> f64 {
    pico as f64 / PICO as f64
}

/// How budgets are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Users, teams, agents, sessions, keys and models whose spending is kept apart; further ones are counted as
    /// `other`. At most 100000. Default 10000.
    pub purses_max: usize,
    /// Calls that wait for money at the same time; further ones are refused. Default 10000.
    pub waiting_max: usize,
    /// The most that a call may cost is reserved, not what it is likely to cost: the cap can then be passed by one call
    /// and never by more, and more calls wait. Default false.
    pub strict: bool,
    /// The log is written anew when it is larger than this and has doubled. Bytes. Default 33554432.
    pub log_bytes_max: u64,
    /// What calls did is written together every so many milliseconds. Default 5.
    pub batch_ms: u64,
    /// What was written is made to last every so many milliseconds. Default 1000.
    pub sync_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { purses_max: 10_000, waiting_max: 10_000, strict: false, log_bytes_max: 32 << 20, batch_ms: 5, sync_ms: 1000 }
    }
}

/// So much may be spent from one purse in one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cap {
    /// `daily_budget_dollars@user:ana`; of several purses, each has its own cap under the same name.
    pub id: Arc<str>,
    /// Whose money: `all`, `user:ana`, `team:blue`, `agent:a1`, `session:s1`.
    pub purse: Arc<str>,
    pub period: Period,
    pub pico: u64,
    /// When not, spending is counted and told, and nothing is refused.
    pub enforce: bool,
}

/// A call that wants to be let through.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// At most [`CAPS_PER_CALL_MAX`]; further ones do not hold, and are counted.
    pub caps: &'a [Cap],
    /// Everybody whose spending this call is, with or without a cap.
    pub purses: Purses<'a>,
    /// Picodollars, from what such calls cost of late ([`Outputs`]).
    pub likely: u64,
    /// Picodollars that the call cannot pass.
    pub at_most: u64,
    /// How long it may wait for money that others have reserved.
    pub wait: Duration,
    /// It also waits when the money is spent: for a raised cap, or the next window.
    pub pause: bool,
}

/// Caps that are looked at for one call.
pub const CAPS_PER_CALL_MAX: usize = 16;

/// Why a call was not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The money is spent.
    Spent,
    /// What is left is reserved by calls that run, and was so for as long as the call might wait.
    Reserved,
    /// What is left is reserved, and too many calls wait for it already.
    Crowded,
}

/// The cap that a call would have passed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stay within {cap}: {}", match why { Why::Spent => "it is spent", Why::Reserved => "the rest is reserved", Why::Crowded => "too many calls wait for the rest" })]
pub struct Over {
    pub cap: Arc<str>,
    pub purse: Arc<str>,
    pub period: Period,
    /// Picodollars, as are the next two.
    pub cap_pico: u64,
    pub spent: u64,
    pub reserved: u64,
    /// None when the cap is for a whole life.
    pub resets_at: Option<Timestamp>,
    pub why: Why,
}

/// So much of a cap is spent. Told once for each cap, window and percentage; a raised cap tells again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub cap: Arc<str>,
    pub purse: Arc<str>,
    pub period: Period,
    /// 50, 80, 90 or 100.
    pub percent: u8,
    pub spent: u64,
    pub cap_pico: u64,
    pub enforce: bool,
    pub at: Timestamp,
}

/// Why a ledger could not be opened. Each completes "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("read what was spent from {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("start the thread that writes down what is spent")]
    Thread(#[source] std::io::Error),
}
