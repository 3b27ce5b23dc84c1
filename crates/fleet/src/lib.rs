//! The fleet: what every agent is doing, counted once although several sources tell the same facts.
//!
//! **Takes** [`Event`](paramedic_model::Event)s, one at a time, from transcripts, stream-json, hooks, OTLP, logs
//! and the gateway.
//! **Gives** for each event a [`Novelty`] (is this fact new?), a view of every agent ([`AgentView`]: state with its reason,
//! turns, tools, tokens, cost, context), totals and a [`CostReport`]. **Never** does I/O, never reads a clock, never
//! counts a call of unknown price as free, and never grows without bound: every table has a limit and what falls
//! out of it is counted.
//!
//! Start reading at [`Fleet::observe`]; how one call told by several sources is counted once is in `calls`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod prices;

mod key;

mod seen;

mod tally;

mod calls;

mod tools;

mod told;

mod session;

mod series;

mod agent;

pub mod state;

mod fleet;

mod count;

mod settle;

pub mod view;

pub mod cost;

mod save;

pub mod config;

pub mod metrics;

pub use agent::Agent;
pub use config::Settings;
pub use cost::{AgentCost, Cost, CostLine, CostReport, DayCost, ModelCost, PricedBy, Unpriced};
pub use fleet::{Fleet, Novelty};
pub use metrics::Metrics;
pub use prices::{Prices, PricesError};
pub use save::{FORMAT, LoadError};
pub use series::Point;
pub use state::State;
pub use view::{AgentView, CurrentTool, LastError, ProcessView, Subagents, Totals};
