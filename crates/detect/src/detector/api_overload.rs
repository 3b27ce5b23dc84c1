//! The model API refuses calls because it is overloaded (529, 503), and the client tries again.

use paramedic_model::{AlertChange, ApiErrorClass, IncidentType};
use serde::{Deserialize, Serialize};

use super::retry_burst::RetryBurst;
use crate::alert::Alert;
use crate::catalogue::{Detector, DetectorInfo, Moment};

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ApiOverload(RetryBurst);

impl Detector for ApiOverload {
    const INFO: DetectorInfo = DetectorInfo {
        name: "api-overload",
        title: "Model API overloaded",
        what: "The model API refuses calls because it is overloaded (529, 503), and the client tries again.",
        warns_at: "Notes the first retry; SEV3 from the third, SEV2 when the turn fails; ends at the agent's next answered model call.",
        incident_type: IncidentType::ApiFailure,
    };

    #[inline]
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        self.0.observe(moment, &Self::INFO, |class| matches!(class, ApiErrorClass::Overloaded), out);
    }

    fn alert(&mut self) -> &mut Alert {
        &mut self.0.alert
    }
}
