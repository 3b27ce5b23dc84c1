//! The gateway as operators see it: its calls, limits, breakers, budgets, what it costs and why, and faults for drills.

mod breakers;

mod budgets;

mod calls;

mod changes;

mod faults;

mod limits;

mod spending;

use paramedic_gateway::Gateway;
use paramedic_journal::{Draft, Expected};
use paramedic_model::{secret, text};
use serde_json::Value;

pub use breakers::{BreakerReset, Breakers, ResetInput, breakers, reset_breakers};
pub use budgets::{Budgets, budgets};
pub use calls::{Calls, CallsQuery, LatencyQuery, LiveTraffic, TrafficQuery, UpstreamLine, calls, latency, traffic};
pub use faults::{FaultInput, FaultLease, FaultReleased, ReleaseInput, faults, lease_fault, release_fault};
pub use limits::{LimitsAnswer, limits};
pub use spending::{DiagnosisQuery, Top, TopQuery, TopWho, diagnosis, top};

use crate::context::Context;
use crate::error::{ApiError, Code};
use crate::registry::{Caller, Method, Operation, Permission};

const WHY_BYTES_MAX: usize = 2_048;
/// The version of what is written into the journal about breakers and faults.
const FORMAT: u32 = 1;

/// The gateway of this instance.
///
/// # Errors
///
/// There is none here.
pub fn gateway(context: &Context) -> Result<&Gateway, ApiError> {
    context.gateway.as_ref().ok_or_else(|| {
        ApiError::new(
            Code::Unavailable,
            "there is no gateway here: no model call goes through this instance",
            "start one with: paramedic up   (its address is the setting listen.gateway), or paramedic gateway --data DIR",
        )
    })
}

/// Somebody's reason as it is kept.
fn why_of(why: &str) -> String {
    text::capped(&secret::mask(why.trim()), WHY_BYTES_MAX).into_owned()
}

/// Writes down who did what; it is durable when this returns.
async fn write_down(context: &Context, caller: &Caller, kind: &str, subject: String, mut payload: Value) -> Result<u64, ApiError> {
    payload["version"] = FORMAT.into();
    let draft = Draft { at: context.now(), kind: kind.to_owned(), subject, actor: caller.actor.clone(), payload };
    let entries = context.journal.append(vec![draft], Expected::Any).await?;
    Ok(entries.last().map_or(0, |entry| entry.seq))
}

pub(crate) fn register(all: &mut Vec<Operation>) {
    use Method::{Get, Post};
    use Permission::{Read, Write};
    all.extend([
        Operation::new("gateway.traffic", (Get, "/api/v1/gateway/traffic"), "Show the calls that run and the latest ones.", Read, traffic),
        Operation::new("gateway.calls", (Get, "/api/v1/gateway/calls"), "Find calls, the latest first.", Read, calls),
        Operation::new("gateway.latency", (Get, "/api/v1/gateway/latency"), "Say how long calls take, and why.", Read, latency),
        Operation::new("gateway.limits", (Get, "/api/v1/gateway/limits"), "Show the provider's limits, and our own.", Read, limits),
        Operation::new("gateway.budgets", (Get, "/api/v1/gateway/budgets"), "Show what of each budget is spent.", Read, budgets),
        Operation::new("breaker.list", (Get, "/api/v1/gateway/breakers"), "List the circuit breakers.", Read, breakers),
        Operation::new("breaker.reset", (Post, "/api/v1/gateway/breakers/reset"), "Close circuit breakers.", Write, reset_breakers),
        Operation::new("cost.top", (Get, "/api/v1/cost/top"), "Say who spends most through the gateway.", Read, top),
        Operation::new("cost.diagnosis", (Get, "/api/v1/cost/diagnosis"), "Say why calls cost what they cost.", Read, diagnosis),
        Operation::new("fault.get", (Get, "/api/v1/gateway/faults"), "Show who does faults on purpose.", Read, faults),
        Operation::new("fault.lease", (Post, "/api/v1/gateway/faults"), "Do faults on purpose for a time.", Write, lease_fault),
        Operation::new("fault.release", (Post, "/api/v1/gateway/faults/{id}/release"), "End faults on purpose.", Write, release_fault),
    ]);
}
