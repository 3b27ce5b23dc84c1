//! The list of all detectors, in the order in which they look at an event.

use paramedic_model::{AlertChange, Event, IncidentType, Timestamp};
use serde::{Deserialize, Serialize};

use crate::alert::{Alert, Told, Who};
use crate::config::Settings;
use crate::course::{Course, Step};
use crate::detector;

/// A detector as people meet it: in the settings, in an alert, in the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DetectorInfo {
    /// The name in alerts and settings.
    pub name: &'static str,
    pub title: &'static str,
    /// What it notices, in one sentence.
    pub what: &'static str,
    /// From where on it notes and fires, with the default thresholds, and when it ends.
    pub warns_at: &'static str,
    pub incident_type: IncidentType,
}

/// Everything a detector may look at for one event.
#[derive(Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub(crate) event: &'a Event,
    /// The event's time; never before an earlier event of the agent.
    pub(crate) at: Timestamp,
    pub(crate) step: &'a Step,
    pub(crate) course: &'a Course,
    pub(crate) who: &'a Who,
    pub(crate) settings: &'a Settings,
}

impl<'a> Moment<'a> {
    pub(crate) const fn told(&self) -> Told<'a> {
        Told { who: self.who, settings: self.settings, at: self.at }
    }
}

/// The shape that every detector has.
pub(crate) trait Detector {
    const INFO: DetectorInfo;
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Vec<AlertChange>);
    fn alert(&mut self) -> &mut Alert;
}

macro_rules! catalogue {
    ($($name:ident: $detector:ty),+ $(,)?) => {
        /// Every detector there is.
        pub const CATALOGUE: &[DetectorInfo] = &[$(<$detector>::INFO),+];

        /// One agent's state in every detector.
        #[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub(crate) struct States { $(pub(crate) $name: $detector),+ }

        impl States {
            #[inline]
            pub(crate) fn observe(&mut self, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
                $(self.$name.observe(moment, out);)+
            }

            /// The alerts with their detectors, in the order of the catalogue.
            pub(crate) fn alerts(&mut self) -> [(&mut Alert, &'static DetectorInfo); CATALOGUE.len()] {
                [$((self.$name.alert(), const { &<$detector>::INFO })),+]
            }
        }
    };
}

catalogue! {
    api_overload: detector::api_overload::ApiOverload,
    api_server_error: detector::api_server_error::ApiServerError,
    network: detector::network::Network,
    rate_limit: detector::rate_limit::RateLimit,
    retries_exhausted: detector::retries_exhausted::RetriesExhausted,
    api_terminal_error: detector::api_terminal_error::ApiTerminalError,
    tool_error_streak: detector::tool_error_streak::ToolErrorStreak,
    repeat_exact: detector::repeat_exact::RepeatExact,
    repeat_call: detector::repeat_call::RepeatCall,
    ping_pong: detector::ping_pong::PingPong,
    cycle: detector::cycle::Cycle,
    monologue: detector::monologue::Monologue,
    silence: detector::silence::Silence,
    compaction_thrash: detector::compaction_thrash::CompactionThrash,
    spend_rate: detector::spend_rate::SpendRate,
    context_growth: detector::context_growth::ContextGrowth,
    lost_subagent: detector::lost_subagent::LostSubagent,
    process_died: detector::process_died::ProcessDied,
}
