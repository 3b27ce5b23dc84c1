//! Finding an action, checking its arguments, planning and carrying it out.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use paramedic_model::secret;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::call::{Call, Done, Plan};
use crate::error::ActionError;
use crate::http::is_secret;
use crate::metrics::Metrics;
use crate::spec::{Effect, Spec};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// All actions on one kind of thing.
pub trait Adapter: Send + Sync {
    fn specs(&self) -> &'static [Spec];

    /// Looks, and says what would be done. Changes nothing.
    fn plan<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Plan, ActionError>>;

    /// Does what was planned a moment ago, then looks whether it is so. When what the plan stands on has changed, nothing is done.
    fn execute<'a>(&'a self, call: &'a Call, plan: &'a Plan, cancel: &'a CancellationToken) -> BoxFuture<'a, Result<Done, ActionError>>;
}

/// Every action of this instance.
#[derive(Clone, Default)]
pub struct Actions {
    adapters: Vec<Arc<dyn Adapter>>,
    metrics: Metrics,
}

impl std::fmt::Debug for Actions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.specs().map(|spec| spec.name).collect();
        formatter.debug_struct("Actions").field("names", &names).finish()
    }
}

impl Actions {
    #[must_use]
    pub const fn new(adapters: Vec<Arc<dyn Adapter>>, metrics: Metrics) -> Self {
        Self { adapters, metrics }
    }

    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub fn specs(&self) -> impl Iterator<Item = &'static Spec> {
        self.adapters.iter().flat_map(|adapter| adapter.specs())
    }

    /// The action of this name, and who carries it out.
    pub fn find(&self, name: &str) -> Result<(&'static Spec, &Arc<dyn Adapter>), ActionError> {
        let of = |adapter: &Arc<dyn Adapter>| adapter.specs().iter().find(|spec| spec.name == name);
        self.adapters.iter().find_map(|adapter| Some((of(adapter)?, adapter))).ok_or_else(|| ActionError::Unknown(name.to_owned()))
    }

    /// Refuses an unknown action, arguments that nobody knows and missing ones.
    pub fn check(&self, call: &Call) -> Result<&'static Spec, ActionError> {
        let (spec, _) = self.find(&call.action)?;
        if let Some(unknown) = call.arguments.keys().find(|key| !spec.arguments.iter().any(|argument| argument.name == *key)) {
            let known: Vec<&str> = spec.arguments.iter().map(|argument| argument.name).collect();
            return Err(call.fault(unknown, format!("it is unknown; there are {}", known.join(", "))));
        }
        match spec.arguments.iter().find(|argument| argument.required && !call.arguments.contains_key(argument.name)) {
            Some(missing) => Err(call.fault(missing.name, "it is not given")),
            None => Ok(spec),
        }
    }

    /// What the call would do. Changes nothing.
    pub async fn plan(&self, call: &Call) -> Result<Plan, ActionError> {
        self.check(call)?;
        let (_, adapter) = self.find(&call.action)?;
        let planned = adapter.plan(call).await.and_then(|plan| keep_way_back(call, plan));
        self.metrics.planned(&call.action, planned.is_ok());
        planned
    }

    /// Plans anew, and carries the plan out.
    pub async fn execute(&self, call: &Call, cancel: &CancellationToken) -> Result<(Plan, Done), ActionError> {
        let plan = self.plan(call).await?;
        if cancel.is_cancelled() {
            return Err(ActionError::CalledOff { action: call.action.clone(), done: "nothing was done".to_owned() });
        }
        let (spec, adapter) = self.find(&call.action)?;
        let done = adapter.execute(call, &plan, cancel).await;
        self.metrics.executed(&call.action, done.as_ref().is_ok_and(|done| done.verified.holds), spec.effect > Effect::Read);
        let mut done = done?;
        done.inverse = done.inverse.filter(|inverse| !holds_secret(inverse));
        Ok((plan, done))
    }
}

/// A plan with its way back only where that may be written down: the journal is for ever, and masked it would send the mask.
fn keep_way_back(call: &Call, mut plan: Plan) -> Result<Plan, ActionError> {
    if plan.inverse.take_if(|inverse| holds_secret(inverse)).is_none() {
        return Ok(plan);
    }
    if plan.reverts_after_s.is_some() {
        // Nobody could take it back when its time is over.
        let why = "it is for a time, and what takes it back holds a secret, which is not kept".to_owned();
        return Err(ActionError::Refused { action: call.action.clone(), why });
    }
    plan.warnings.push("what takes it back holds a secret and is not kept: it has to be asked for by hand".to_owned());
    Ok(plan)
}

/// Whether something in a call looks like a secret, or stands where secrets stand: in headers and queries of such names. What
/// a call says is written down for ever.
#[must_use]
pub fn holds_secret(call: &Call) -> bool {
    let is_filled = |value: &Value| value.as_str().is_none_or(|text| !text.is_empty());
    let headers = call.arguments.get("headers").and_then(Value::as_object);
    let in_headers = headers.is_some_and(|headers| headers.iter().any(|(name, value)| is_secret(name) && is_filled(value)));
    let url = call.arguments.get("url").and_then(Value::as_str).and_then(|url| reqwest::Url::parse(url).ok());
    let in_url =
        url.is_some_and(|url| url.password().is_some() || url.query_pairs().any(|(name, value)| is_secret(&name) && !value.is_empty()));
    let text = Value::Object(call.arguments.clone()).to_string();
    in_headers || in_url || secret::mask(&text) != text
}
