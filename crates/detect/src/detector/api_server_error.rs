//! The model API fails (5xx, time-outs, anything else that is tried again), and the client tries again.

use paramedic_model::{AlertChange, ApiErrorClass, IncidentType};
use serde::{Deserialize, Serialize};

use super::retry_burst::RetryBurst;
use crate::alert::Alert;
use crate::catalogue::{Detector, DetectorInfo, Moment};

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ApiServerError(RetryBurst);

impl Detector for ApiServerError {
    const INFO: DetectorInfo = DetectorInfo {
        name: "api-server-error",
        title: "Model API server errors",
        what: "The model API fails (5xx, time-outs, anything else that is tried again), and the client tries again.",
        warns_at: "Notes the first retry; SEV3 from the third, SEV2 when the turn fails; ends at the agent's next answered model call.",
        incident_type: IncidentType::ApiFailure,
    };

    #[inline]
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        self.0.observe(
            moment,
            &Self::INFO,
            |class| !matches!(class, ApiErrorClass::Overloaded | ApiErrorClass::Network | ApiErrorClass::RateLimit),
            out,
        );
    }

    fn alert(&mut self) -> &mut Alert {
        &mut self.0.alert
    }
}
