//! Who spends most, and why calls cost what they cost.

use std::sync::Arc;

use paramedic_gateway::budget::{Period, Spender, Whose};
use paramedic_gateway::diagnosis::{Diagnosis, Material, Routing, diagnose};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::changes::recent;
use super::gateway;
use crate::context::Context;
use crate::error::ApiError;
use crate::operations::limit_of;
use crate::registry::Caller;

/// Spenders of each kind that a diagnosis looks at.
const LOOKED_AT: usize = 200;
const MINUTES: usize = 1;

/// Whose spending is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TopWho {
    #[default]
    User,
    Team,
    Agent,
    Session,
    Model,
    Key,
    Plugin,
}

impl TopWho {
    const fn whose(self) -> Whose {
        match self {
            Self::User => Whose::User,
            Self::Team => Whose::Team,
            Self::Agent => Whose::Agent,
            Self::Session => Whose::Session,
            Self::Model => Whose::Model,
            Self::Key => Whose::Key,
            Self::Plugin => Whose::Plugin,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TopQuery {
    /// Default `user`.
    pub by: Option<TopWho>,
    /// The day, week or month (UTC) that is open, or the whole `life`. Default `day`.
    pub per: Option<Period>,
    /// Lines, 1 to 1000. Default 100.
    pub limit: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Top {
    pub by: TopWho,
    pub per: Period,
    /// The dearest first.
    pub spenders: Vec<Spender>,
    /// What all spent; none when nobody did.
    pub all: Option<Spender>,
}

pub async fn top(context: Arc<Context>, _: Caller, query: TopQuery) -> Result<Top, ApiError> {
    let ledger = gateway(&context)?.ledger();
    let (by, per, limit) = (query.by.unwrap_or_default(), query.per.unwrap_or(Period::Day), limit_of(query.limit)?);
    let all = ledger.top(Whose::All, per, 1).pop();
    Ok(Top { by, per, spenders: ledger.top(by.whose(), per, limit), all })
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DiagnosisQuery {
    /// The day, week or month (UTC) that is open. Default `day`.
    pub per: Option<Period>,
}

pub async fn diagnosis(context: Arc<Context>, _: Caller, query: DiagnosisQuery) -> Result<Diagnosis, ApiError> {
    let (gateway, now) = (gateway(&context)?, context.now());
    let period = query.per.unwrap_or(Period::Day);
    let (ledger, traffic) = (gateway.ledger(), gateway.traffic());
    let top = |whose| ledger.top(whose, period, LOOKED_AT);
    let (all, users, keys, agents) = (ledger.top(Whose::All, period, 1).pop(), top(Whose::User), top(Whose::Key), top(Whose::Agent));
    let hours = ledger.hours(Whose::All.word()).unwrap_or_default();
    let (minutes, calls) = (traffic.view(MINUTES, now).minutes, traffic.recent(|_| true, usize::MAX));
    // A journal that cannot be read hides what was changed, and nothing else.
    let changes = recent(context.journal.as_ref(), now).await.unwrap_or_default();
    let models = gateway.settings().models;
    Ok(diagnose(&Material {
        now,
        period,
        all: all.as_ref(),
        users: &users,
        keys: &keys,
        agents: &agents,
        hours: &hours,
        minutes: &minutes,
        calls: &calls,
        changes: &changes,
        routing: Routing {
            cheaper: &models.cheaper,
            input_tokens_max: models.simple_input_tokens_max,
            output_tokens_max: models.simple_output_tokens_max,
        },
        pricing: gateway.pricing().as_ref(),
    }))
}
