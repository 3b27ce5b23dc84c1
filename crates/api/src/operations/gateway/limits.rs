//! Limits: those of the provider as its answers told them, and those that switches set here.

use std::sync::Arc;

use paramedic_gateway::answer::LimitView;
use paramedic_gateway::limit::GateView;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gateway;
use crate::context::Context;
use crate::error::ApiError;
use crate::operations::alerts::Nothing;
use crate::registry::Caller;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LimitsAnswer {
    /// Inference calls that ended within the last minute.
    pub calls_last_minute: u64,
    /// Of them, those that the provider refused for its limits.
    pub limited_last_minute: u64,
    /// Of them, those that were refused here.
    pub refused_last_minute: u64,
    /// Calls that wait here now.
    pub waiting: usize,
    /// By key and class of models: used in the last minute, what remains, when it is back, when it will be used up.
    pub provider: Vec<LimitView>,
    /// Limits that hold calls here, those where most wait first.
    pub own: Vec<GateView>,
}

pub async fn limits(context: Arc<Context>, _: Caller, _: Nothing) -> Result<LimitsAnswer, ApiError> {
    let (gateway, now) = (gateway(&context)?, context.now());
    let minute = gateway.traffic().last(60, now);
    Ok(LimitsAnswer {
        calls_last_minute: minute.calls,
        limited_last_minute: minute.limited,
        refused_last_minute: minute.refused,
        waiting: gateway.limiter().waiting(),
        provider: gateway.limits().views(now),
        own: gateway.limiter().view(),
    })
}
