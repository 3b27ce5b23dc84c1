//! Feature flags, at the paths that other flag servers have.
//!
//! Programs read and set flags without knowing who they are, so a call without a name is taken, and recorded as that.

use std::sync::Arc;

use paramedic_action::Call;
use paramedic_action::flag::{Change, Flag};
use paramedic_model::text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::people::responding;
use crate::context::Context;
use crate::error::{ApiError, Code};
use crate::operations::alerts::Nothing;
use crate::registry::{Caller, Method, Operation, Permission};

/// A flag as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FlagView {
    #[serde(flatten)]
    pub flag: Flag,
    /// The latest changes, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Change>,
}

impl FlagView {
    /// What is said of it is how it is now, also before its end was written down.
    fn of(mut flag: Flag, now: paramedic_model::Timestamp) -> Self {
        flag.enabled = flag.enabled_at(now);
        Self { flag, history: Vec::new() }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FlagList {
    /// By name.
    pub flags: Vec<FlagView>,
}

pub async fn list(context: Arc<Context>, _: Caller, _: Nothing) -> Result<FlagList, ApiError> {
    let now = context.now();
    Ok(FlagList { flags: responding(&context)?.flags.list().into_iter().map(|flag| FlagView::of(flag, now)).collect() })
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FlagQuery {
    pub name: String,
}

pub async fn read(context: Arc<Context>, _: Caller, query: FlagQuery) -> Result<FlagView, ApiError> {
    let flags = &responding(&context)?.flags;
    let name = &query.name;
    let flag = flags.get(name).ok_or_else(|| {
        ApiError::new(Code::NotFound, format!("nobody has set a flag {:?}", text::head(name, 130)), "GET /flags lists all flags")
    })?;
    Ok(FlagView { history: flags.history(name), ..FlagView::of(flag, context.now()) })
}

/// Other keys are passed over: clients of other flag servers send what those take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FlagInput {
    pub name: String,
    /// After this time it is set back: `90s`, `30m`, `2h`. Default: it stays.
    #[serde(default)]
    pub ttl: Option<String>,
    /// Why, for the record.
    #[serde(default, alias = "reason")]
    pub why: String,
}

async fn set(context: &Context, caller: &Caller, input: FlagInput, enabled: bool) -> Result<FlagView, ApiError> {
    let now = context.now();
    let ttl = input.ttl.map(|ttl| Call::new("flag").with("ttl", ttl).duration("ttl")).transpose()?;
    let until = ttl.map(|ttl| now.after(ttl));
    let flag = responding(context)?.flags.set(&input.name, enabled, &caller.actor, &input.why, until, now).await?;
    Ok(FlagView::of(flag, now))
}

pub async fn enable(context: Arc<Context>, caller: Caller, input: FlagInput) -> Result<FlagView, ApiError> {
    set(&context, &caller, input, true).await
}

pub async fn disable(context: Arc<Context>, caller: Caller, input: FlagInput) -> Result<FlagView, ApiError> {
    set(&context, &caller, input, false).await
}

pub(crate) fn register(all: &mut Vec<Operation>) {
    use Method::{Get, Post};
    use Permission::{Read, Write};
    all.extend([
        Operation::new("flag.list", (Get, "/flags"), "List all feature flags.", Read, list),
        Operation::new("flag.get", (Get, "/flags/{name}"), "Read one flag with its latest changes.", Read, read),
        Operation::new("flag.enable", (Post, "/flags/{name}/enable"), "Switch a feature on, for good or for a time.", Write, enable),
        Operation::new("flag.disable", (Post, "/flags/{name}/disable"), "Switch a feature off, for good or for a time.", Write, disable),
    ]);
}
