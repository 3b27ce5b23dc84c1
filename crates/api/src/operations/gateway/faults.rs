//! Faults on purpose, for drills: one lease at a time, for an hour at most, and nothing without a record.

use std::sync::Arc;

use paramedic_action::Call;
use paramedic_gateway::fault::{Fault, LEASE_MAX, Lease, LeaseFault};
use paramedic_model::Scope;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{gateway, why_of, write_down};
use crate::context::Context;
use crate::error::{ApiError, Code};
use crate::operations::alerts::Nothing;
use crate::operations::people::somebody;
use crate::registry::Caller;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FaultLease {
    /// Who does which faults to whom until when; none while nobody does any.
    pub lease: Option<Lease>,
}

pub async fn faults(context: Arc<Context>, _: Caller, _: Nothing) -> Result<FaultLease, ApiError> {
    Ok(FaultLease { lease: gateway(&context)?.faults().lease() })
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FaultInput {
    /// What is done: `{"kind": "overloaded"}`, `{"kind": "slow", "delay_ms": 5000}`.
    pub fault: Fault,
    /// Names the lease; the same one again renews or changes it. Default: one of its own.
    #[serde(default)]
    pub id: Option<String>,
    /// Whom it is for: `all` (default), `key:…`, `user:…`, `team:…`, `agent:…`, `session:…`, `model:…`, `plugin:…`.
    #[serde(default)]
    pub scope: Option<String>,
    /// Of the calls in the scope, 0 to 1. Default 1.
    #[serde(default)]
    pub share: Option<f64>,
    /// How long: `90s`, `30m`; at most `1h`.
    pub ttl: String,
    /// Needed: people will ask.
    pub why: String,
}

pub async fn lease_fault(context: Arc<Context>, caller: Caller, input: FaultInput) -> Result<FaultLease, ApiError> {
    let faults = gateway(&context)?.faults();
    somebody(&context, &caller, None).await?;
    let why = why_of(&input.why);
    if why.is_empty() {
        return Err(ApiError::bad_key("why", "say why faults are to be done: people will ask"));
    }
    let ttl = Call::new("fault").with("ttl", input.ttl.as_str()).duration("ttl")?;
    if ttl.is_zero() || ttl > LEASE_MAX {
        return Err(ApiError::bad_key("ttl", "faults are done for at most an hour, and for some time"));
    }
    let scope = input.scope.as_deref().map(str::trim).filter(|scope| !scope.is_empty()).unwrap_or("all");
    let scope: Scope = scope.parse().map_err(paramedic_action::switch::SwitchError::from)?;
    let now = context.now();
    let id = input.id.map(|id| id.trim().to_owned()).filter(|id| !id.is_empty()).unwrap_or_else(|| format!("fault-{}", now.as_millis()));
    let lease = Lease {
        id: id.clone(),
        by: caller.actor.clone(),
        scope,
        share: input.share.unwrap_or(1.0),
        fault: input.fault,
        until: now.after(ttl),
    };
    lease.check(now).map_err(refused)?;
    if let Some(other) = faults.lease().filter(|other| other.id != id) {
        return Err(refused(LeaseFault::Held { id: other.id, by: other.by, until: other.until }));
    }
    // First the record, then the faults: what is not written down is not done.
    let payload = json!({"lease": lease, "why": why});
    write_down(&context, &caller, "fault-leased", format!("fault/{id}"), payload).await?;
    if let Err(fault) = faults.take(lease) {
        let payload = json!({"why": format!("failed to {fault}")});
        write_down(&context, &caller, "fault-not-leased", format!("fault/{id}"), payload).await?;
        return Err(refused(fault));
    }
    Ok(FaultLease { lease: faults.lease() })
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseInput {
    /// The lease's name.
    pub id: String,
    #[serde(default)]
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FaultReleased {
    pub id: String,
    /// The journal's entry that says so.
    pub seq: u64,
}

/// Anybody may end faults.
pub async fn release_fault(context: Arc<Context>, caller: Caller, input: ReleaseInput) -> Result<FaultReleased, ApiError> {
    let faults = gateway(&context)?.faults();
    if !faults.release(&input.id) {
        let message = format!("there is no lease {:?} on faults", paramedic_model::text::head(&input.id, 200));
        return Err(ApiError::new(Code::NotFound, message, "GET /api/v1/gateway/faults shows it"));
    }
    let payload = json!({"why": why_of(&input.why)});
    let seq = write_down(&context, &caller, "fault-released", format!("fault/{}", input.id), payload).await?;
    Ok(FaultReleased { id: input.id, seq })
}

fn refused(fault: LeaseFault) -> ApiError {
    let message = format!("failed to {fault}");
    match fault {
        LeaseFault::Held { .. } | LeaseFault::NotHeld => {
            ApiError::new(Code::Conflict, message, "GET /api/v1/gateway/faults shows the lease; it can be released")
        }
        LeaseFault::Wrong(_) => ApiError::new(Code::BadRequest, message, "nothing was changed"),
    }
}
