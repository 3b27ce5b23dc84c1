//! The brakes: the kill switch, and the fleet's brake on unattended changes.

use std::sync::Arc;

use paramedic_runbook::brake::{BrakesView, Stopped};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::people::{denied, person, responding, somebody};
use crate::context::Context;
use crate::error::ApiError;
use crate::operations::alerts::Nothing;
use crate::registry::{Caller, Method, Operation, Permission};

pub async fn read(context: Arc<Context>, _: Caller, _: Nothing) -> Result<BrakesView, ApiError> {
    Ok(responding(&context)?.runs.brakes().await)
}

/// What the kill switch is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StopWhat {
    /// What changes something.
    #[default]
    Writes,
    /// Looking too.
    Everything,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StopInput {
    /// Default `writes`.
    pub what: StopWhat,
    pub why: String,
}

/// Anybody may stop things; only a person may let them go on.
pub async fn stop(context: Arc<Context>, caller: Caller, input: StopInput) -> Result<BrakesView, ApiError> {
    let by = person(&context, &caller, None).await;
    let what = match input.what {
        StopWhat::Writes => Stopped::Writes,
        StopWhat::Everything => Stopped::Everything,
    };
    responding(&context)?.runs.stop(what, &by, &input.why).await.map_err(|error| denied(&by, error))
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WhyInput {
    pub why: String,
}

/// A stop file stays where it is: whoever put it there takes it away.
pub async fn lift(context: Arc<Context>, caller: Caller, input: WhyInput) -> Result<BrakesView, ApiError> {
    let by = somebody(&context, &caller, None).await?;
    Ok(responding(&context)?.runs.stop(Stopped::Nothing, &by, &input.why).await?)
}

pub async fn release(context: Arc<Context>, caller: Caller, input: WhyInput) -> Result<BrakesView, ApiError> {
    let by = somebody(&context, &caller, None).await?;
    Ok(responding(&context)?.runs.release(&by, &input.why).await?)
}

pub(crate) fn register(all: &mut Vec<Operation>) {
    use Method::{Get, Post};
    use Permission::{Read, Write};
    all.extend([
        Operation::new("brake.get", (Get, "/api/v1/brake"), "Read the brakes.", Read, read),
        Operation::new("brake.stop", (Post, "/api/v1/brake/stop"), "Set the kill switch: nothing changes any more.", Write, stop),
        Operation::new("brake.lift", (Post, "/api/v1/brake/lift"), "Lift the kill switch.", Write, lift),
        Operation::new(
            "brake.release",
            (Post, "/api/v1/brake/release"),
            "Release the fleet's brake: unattended changes may happen again.",
            Write,
            release,
        ),
    ]);
}
