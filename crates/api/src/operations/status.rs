//! Everything on one screen: is this instance well, what does it hold, is anything wrong?

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use paramedic_fleet::Totals;
use paramedic_model::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::activity::Minute;
use crate::context::{About, Context};
use crate::error::ApiError;
use crate::health::{Check, Phase};
use crate::operations::alerts::Nothing;
use crate::operations::incidents::IncidentLine;
use crate::registry::{Caller, Method, Operation, Permission};

/// Open incidents named in the answer.
pub const OPEN_MAX: usize = 20;
/// How far back the activity goes.
pub const ACTIVITY_WINDOW: Duration = Duration::from_secs(3_600);

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Status {
    pub about: About,
    pub now: Timestamp,
    pub uptime_s: u64,
    pub phase: Phase,
    pub checks: BTreeMap<String, Check>,
    pub fleet: Totals,
    /// Known cost of today (UTC) in US dollars; null when nothing of it is known.
    pub cost_today_usd: Option<f64>,
    /// Today's calls of models without a price.
    pub unpriced_calls_today: u64,
    pub incidents_open: usize,
    /// Open incidents, worst first; the first 20.
    pub open: Vec<IncidentLine>,
    /// When the last incident ended; null while one is open or when there never was one.
    pub quiet_since: Option<Timestamp>,
    /// The last hour of the whole fleet, minute by minute, oldest first.
    pub activity: Vec<Minute>,
    pub events: StoreStatus,
    /// The journal's last position.
    pub journal_head: u64,
}

/// The event store in numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StoreStatus {
    pub events: u64,
    pub bytes: u64,
    pub partitions: usize,
    pub first_event_at: Option<Timestamp>,
    pub last_event_at: Option<Timestamp>,
    /// Events that the full-text index does not have yet.
    pub index_lag: u64,
    pub append_errors: u64,
    /// Events that retention took away since the start.
    pub dropped_events: u64,
    /// Files that were set aside because they were damaged.
    pub damaged: Vec<String>,
}

pub async fn read(context: Arc<Context>, _: Caller, _: Nothing) -> Result<Status, ApiError> {
    let now = context.now();
    let store = context.store.clone();
    let stats = tokio::task::spawn_blocking(move || store.stats()).await?;
    let journal_head = context.journal.head().await?;
    let (totals, cost_today_usd, unpriced_calls_today) = fleet_today(&context, now);
    let incidents = context.desk.incidents().await;
    let open = incidents.open();
    let ended = || incidents.list().filter_map(|incident| incident.resolved_at).max();
    Ok(Status {
        about: context.about.clone(),
        now,
        uptime_s: now.since(context.about.started_at).as_secs(),
        phase: context.health.phase(),
        checks: context.health.checks(),
        fleet: totals,
        cost_today_usd,
        unpriced_calls_today,
        incidents_open: open.len(),
        quiet_since: if open.is_empty() { ended() } else { None },
        open: open.into_iter().take(OPEN_MAX).map(IncidentLine::of).collect(),
        activity: context.activity.last(now, ACTIVITY_WINDOW),
        events: StoreStatus {
            events: stats.events,
            bytes: stats.bytes,
            partitions: stats.partitions,
            first_event_at: stats.first_event_at,
            last_event_at: stats.last_event_at,
            index_lag: stats.index_lag,
            append_errors: stats.append_errors,
            dropped_events: stats.dropped_events,
            damaged: stats.damaged.iter().map(|file| file.display().to_string()).collect(),
        },
        journal_head,
    })
}

fn fleet_today(context: &Context, now: Timestamp) -> (Totals, Option<f64>, u64) {
    let fleet = context.fleet();
    let today = now.date();
    let spent = fleet.cost_report().by_day.into_iter().rfind(|day| day.day == today).map(|day| day.sum.cost);
    match spent {
        Some(cost) => (fleet.totals(), cost.usd, cost.unpriced_calls),
        None => (fleet.totals(), Some(0.0), 0),
    }
}

pub(crate) fn register(all: &mut Vec<Operation>) {
    all.push(Operation::new(
        "status.get",
        (Method::Get, "/api/v1/status"),
        "Read the state of this instance and its fleet.",
        Permission::Read,
        read,
    ));
}
