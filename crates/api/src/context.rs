//! The handles that every operation works with.

use std::sync::{Arc, RwLock, RwLockReadGuard};

use paramedic_action::Actions;
use paramedic_action::flag::FlagStore;
use paramedic_action::switch::SwitchStore;
use paramedic_fleet::Fleet;
use paramedic_gateway::Gateway;
use paramedic_journal::Journal;
use paramedic_model::{Clock, Timestamp};
use paramedic_respond::Desk;
use paramedic_runbook::RunDesk;
use paramedic_telemetry::Store;
use prometheus_client::registry::Registry;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::activity::Activity;
use crate::health::Health;
use crate::instruments::Instruments;
use crate::live::Live;
use crate::metrics::Metrics;

/// Messages that may wait for one slow live client before it is told that it missed some.
pub const LIVE_QUEUE_LEN: usize = 1_024;

pub struct Context {
    pub journal: Arc<dyn Journal>,
    pub store: Store,
    pub fleet: Arc<RwLock<Fleet>>,
    pub desk: Arc<Desk>,
    pub clock: Arc<dyn Clock>,
    /// Where the server says what changed; make it with [`LIVE_QUEUE_LEN`].
    pub live: broadcast::Sender<Live>,
    pub health: Arc<Health>,
    /// Model calls and errors of the last hours, minute by minute; the server feeds it.
    pub activity: Arc<Activity>,
    pub registry: Arc<Registry>,
    pub metrics: Metrics,
    pub detectors: Vec<DetectorLine>,
    pub about: About,
    /// Samples, queries, rules and targets; `Instruments::default()` where there are none.
    pub instruments: Instruments,
    /// Runs of runbooks, actions, flags and switches; none where nothing responds.
    pub responding: Option<Responding>,
    /// What model calls go through; none where it is switched off.
    pub gateway: Option<Gateway>,
}

/// What answers incidents.
#[derive(Clone)]
pub struct Responding {
    pub runs: Arc<RunDesk>,
    pub actions: Actions,
    pub flags: Arc<FlagStore>,
    pub switches: Arc<SwitchStore>,
}

impl Context {
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The fleet, also when a writer panicked: a page that shows slightly old agents is better than none.
    pub fn fleet(&self) -> RwLockReadGuard<'_, Fleet> {
        self.fleet.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What this instance is and how agents reach it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct About {
    pub version: String,
    pub started_at: Timestamp,
    /// `127.0.0.1:3333`.
    pub http: Option<String>,
    pub otlp_grpc: Option<String>,
    pub otlp_http: Option<String>,
    /// Where agents send their model calls.
    pub gateway: Option<String>,
    /// Path of the local socket.
    pub socket: Option<String>,
    pub data_dir: String,
    /// The exact lines that connect an agent, in order.
    pub connect_lines: Vec<String>,
    /// Names besides loopback under which browsers may reach this instance.
    pub host_names: Vec<String>,
}

/// A detector, as the catalogue names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DetectorLine {
    pub name: String,
    pub title: String,
    /// What it watches for.
    pub what: String,
    /// When it raises an alert, in words.
    pub warns_at: String,
    pub incident_type: String,
}
