//! Calls: those that run, those that were, and how long they took.

use std::sync::Arc;

use paramedic_gateway::latency::{By, Report};
use paramedic_gateway::traffic::{Sum, TrafficView};
use paramedic_gateway::{Outcome, Record};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gateway;
use crate::context::Context;
use crate::error::ApiError;
use crate::operations::limit_of;
use crate::registry::Caller;

/// The seconds that "now" is.
const NOW_S: u64 = 60;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrafficQuery {
    /// Running and recent calls that are listed, 1 to 1000. Default 100.
    pub limit: Option<usize>,
}

/// Traffic now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LiveTraffic {
    /// Where calls are sent to.
    pub upstreams: Vec<UpstreamLine>,
    /// Where agents send them.
    pub address: Option<String>,
    /// What the calls of the last minute add up to.
    pub last_minute: Sum,
    pub traffic: TrafficView,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpstreamLine {
    pub name: String,
    pub address: String,
}

pub async fn traffic(context: Arc<Context>, _: Caller, query: TrafficQuery) -> Result<LiveTraffic, ApiError> {
    let (gateway, now) = (gateway(&context)?, context.now());
    let upstreams = gateway.upstreams().into_iter().map(|(name, address)| UpstreamLine { name, address }).collect();
    Ok(LiveTraffic {
        upstreams,
        address: context.about.gateway.clone(),
        last_minute: gateway.traffic().last(NOW_S, now),
        traffic: gateway.traffic().view(limit_of(query.limit)?, now),
    })
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CallsQuery {
    pub user: Option<String>,
    pub team: Option<String>,
    /// The whole id, or that of a sub-agent within its session.
    pub agent: Option<String>,
    pub session: Option<String>,
    /// As it was asked for, or as it answered.
    pub model: Option<String>,
    /// The name of the key: a hash, or as the settings call it.
    pub key: Option<String>,
    pub outcome: Option<Outcome>,
    /// What the client got: `429`, or `4xx`.
    pub status: Option<String>,
    /// A switch that did something to the call: `fast_fail`, `blocked@user:ana`.
    pub switch: Option<String>,
    /// Calls that are listed, 1 to 1000. Default 100.
    pub limit: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Calls {
    /// The latest first. Prompts and answers are never kept.
    pub calls: Vec<Record>,
    /// Calls that fit, of all that are remembered.
    pub found: usize,
    /// Calls that are remembered.
    pub remembered: usize,
}

pub async fn calls(context: Arc<Context>, _: Caller, query: CallsQuery) -> Result<Calls, ApiError> {
    let gateway = gateway(&context)?;
    let limit = limit_of(query.limit)?;
    let statuses = query.status.as_deref().filter(|status| !status.is_empty()).map(statuses).transpose()?;
    let remembered = gateway.traffic().recent(|_| true, usize::MAX);
    let fits = |record: &&Arc<Record>| query.fits(record) && statuses.is_none_or(|(from, to)| (from..=to).contains(&record.status));
    let found: Vec<&Arc<Record>> = remembered.iter().filter(fits).collect();
    let calls = found.iter().take(limit).map(|record| Record::clone(record)).collect();
    Ok(Calls { calls, found: found.len(), remembered: remembered.len() })
}

impl CallsQuery {
    fn fits(&self, record: &Record) -> bool {
        fn is(asked: &Option<String>, mine: &Option<Box<str>>) -> bool {
            asked.as_deref().filter(|asked| !asked.is_empty()).is_none_or(|asked| mine.as_deref() == Some(asked))
        }
        let caller = &record.caller;
        let own_agent = || caller.agent.as_deref().and_then(|agent| agent.split_once('/')).map(|(_, own)| own.into());
        is(&self.user, &caller.user)
            && is(&self.team, &caller.team)
            && (is(&self.agent, &caller.agent) || is(&self.agent, &own_agent()))
            && is(&self.session, &caller.session)
            && is(&self.key, &caller.key)
            && (is(&self.model, &record.model) || is(&self.model, &record.served_model))
            && self.outcome.is_none_or(|outcome| outcome == record.outcome)
            && self.switch.as_deref().filter(|asked| !asked.is_empty()).is_none_or(|asked| acted(record, asked))
    }
}

/// A switch's name stands for all its scopes.
fn acted(record: &Record, asked: &str) -> bool {
    record.acted.iter().any(|acted| {
        let rest = acted.switch.strip_prefix(asked);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('@'))
    })
}

/// `429`, or `4xx`: from and to.
fn statuses(asked: &str) -> Result<(u16, u16), ApiError> {
    let wrong = || ApiError::bad_key("status", &format!("{asked:?} is neither a status like 429 nor a class like 4xx"));
    if let Some(class) = asked.to_ascii_lowercase().strip_suffix("xx") {
        let class: u16 = class.parse().ok().filter(|class| (1..=5).contains(class)).ok_or_else(wrong)?;
        return Ok((class * 100, class * 100 + 99));
    }
    let status = asked.parse().ok().filter(|status| (100..=599).contains(status)).ok_or_else(wrong)?;
    Ok((status, status))
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LatencyQuery {
    /// Default `model`.
    pub by: Option<By>,
    /// Lines, 1 to 1000. Default 100.
    pub limit: Option<usize>,
}

pub async fn latency(context: Arc<Context>, _: Caller, query: LatencyQuery) -> Result<Report, ApiError> {
    let records = gateway(&context)?.traffic().recent(|_| true, usize::MAX);
    Ok(paramedic_gateway::latency::report(&records, query.by.unwrap_or_default(), limit_of(query.limit)?))
}
