//! A model call failed with an error that is not tried again, and the turn ended.

use paramedic_model::{AlertChange, IncidentType};
use serde::{Deserialize, Serialize};

use super::terminal::Terminal;
use crate::alert::Alert;
use crate::catalogue::{Detector, DetectorInfo, Moment};

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ApiTerminalError(Terminal);

impl Detector for ApiTerminalError {
    const INFO: DetectorInfo = DetectorInfo {
        name: "api-terminal-error",
        title: "Model call failed for good",
        what: "A model call failed with an error that is not tried again, and the turn ended.",
        warns_at: "SEV2 at once for provider, authentication and billing errors, SEV3 for rate limits and missing models, SEV4 for the agent's own bad requests; ends at the agent's next answered model call.",
        incident_type: IncidentType::ApiFailure,
    };

    #[inline]
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        self.0.observe(moment, &Self::INFO, false, out);
    }

    fn alert(&mut self) -> &mut Alert {
        &mut self.0.alert
    }
}
