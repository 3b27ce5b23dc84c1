//! A model call failed on its last retry and took the turn with it.

use paramedic_model::{AlertChange, IncidentType};
use serde::{Deserialize, Serialize};

use super::terminal::Terminal;
use crate::alert::Alert;
use crate::catalogue::{Detector, DetectorInfo, Moment};

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct RetriesExhausted(Terminal);

impl Detector for RetriesExhausted {
    const INFO: DetectorInfo = DetectorInfo {
        name: "retries-exhausted",
        title: "Retries exhausted",
        what: "A model call failed on its last retry and took the turn with it.",
        warns_at: "SEV2 at once (SEV3 for a rate limit); begins at the first failed try; ends at the agent's next answered model call.",
        incident_type: IncidentType::ApiFailure,
    };

    #[inline]
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        self.0.observe(moment, &Self::INFO, true, out);
    }

    fn alert(&mut self) -> &mut Alert {
        &mut self.0.alert
    }
}
