//! Stored events, by time, agent, session, kind, level, text and correlation.

use std::sync::Arc;

use paramedic_model::{AgentId, Fact, Level, SessionId, Source, Timestamp};
use paramedic_telemetry::{Search, SearchPage, StoreError, StoredEvent};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{ApiError, Code};
use crate::operations::limit_of;
use crate::registry::{Caller, Method, Operation, Permission};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EventsQuery {
    /// Event time, included.
    pub from: Option<Timestamp>,
    /// Event time, included.
    pub to: Option<Timestamp>,
    /// Exactly this agent; `<session>/*` for all sub-agents of a session.
    pub agent: Option<String>,
    pub session: Option<String>,
    /// `model-call`, `tool-call`, `model-error` …
    pub kind: Option<String>,
    pub source: Option<Source>,
    /// The event's name in its source's vocabulary.
    pub name: Option<String>,
    /// This level and everything louder.
    pub level: Option<Level>,
    /// Words that must all occur; `"a phrase"`; `begin*`.
    pub text: Option<String>,
    pub prompt: Option<String>,
    pub request: Option<String>,
    pub trace: Option<String>,
    pub user: Option<String>,
    /// Only events stored before this position, for paging.
    pub before: Option<u64>,
    /// Only events stored after this position, for paging.
    pub after: Option<u64>,
    /// Page size, 1 to 1000. Default 100.
    pub limit: Option<usize>,
    /// In order of arrival from the oldest; otherwise the newest comes first.
    pub oldest_first: bool,
}

/// One event as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventLine {
    /// Its place in the order of arrival.
    pub seq: u64,
    pub at: Timestamp,
    pub source: Source,
    pub kind: String,
    pub name: String,
    pub level: Level,
    pub agent: Option<AgentId>,
    pub session: Option<SessionId>,
    /// Untrusted, capped and masked.
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What the event means for its agent, as it is stored; `fact` names the kind.
    pub fact: serde_json::Value,
    /// Everything else that the source said.
    pub attributes: serde_json::Map<String, serde_json::Value>,
}

impl EventLine {
    #[must_use]
    pub fn of(stored: StoredEvent) -> Self {
        let event = stored.event;
        let plain = |text: Option<Box<str>>| text.map(String::from);
        Self {
            seq: stored.seq,
            at: event.at,
            source: event.source,
            kind: event.kind().to_owned(),
            name: event.name.into(),
            level: event.level,
            agent: event.agent,
            session: event.session,
            text: event.text.into(),
            prompt: plain(event.correlation.prompt),
            request: plain(event.correlation.request),
            trace: plain(event.correlation.trace),
            span: plain(event.correlation.span),
            user: plain(event.correlation.user),
            fact: serde_json::to_value(&event.fact).unwrap_or_default(),
            attributes: event.attributes,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventPage {
    pub events: Vec<EventLine>,
    /// There is, or (when the time was over) there may be, more.
    pub more: bool,
    /// Ask again with `before` (or, oldest first, `after`) set to this.
    pub next: Option<u64>,
    /// The search took too long and stopped; the answer is what it had found.
    pub timed_out: bool,
    /// Damaged files whose events are missing here.
    pub skipped: Vec<String>,
}

pub async fn search(context: Arc<Context>, _: Caller, query: EventsQuery) -> Result<EventPage, ApiError> {
    if let Some(kind) = query.kind.as_deref().filter(|kind| !Fact::KINDS.contains(kind)) {
        let kind = paramedic_model::text::head(kind, 100);
        return Err(ApiError::new(
            Code::BadRequest,
            format!("kind: {kind:?} is not a kind of event"),
            format!("one of {}", Fact::KINDS.join(", ")),
        ));
    }
    let search = Search {
        from: query.from,
        to: query.to,
        agent: query.agent,
        session: query.session,
        kind: query.kind,
        source: query.source.map(|source| source.as_str().to_owned()),
        name: query.name,
        level_min: query.level,
        text: query.text,
        prompt: query.prompt,
        request: query.request,
        trace: query.trace,
        user: query.user,
        before_seq: query.before,
        after_seq: query.after,
        limit: limit_of(query.limit)?,
        oldest_first: query.oldest_first,
    };
    let page = run(&context, search).await?;
    Ok(EventPage {
        more: page.more,
        next: page.next,
        timed_out: page.timed_out,
        skipped: page.skipped.iter().map(|file| file.display().to_string()).collect(),
        events: page.events.into_iter().map(EventLine::of).collect(),
    })
}

/// Searches on a thread that may block.
async fn run(context: &Context, search: Search) -> Result<SearchPage, ApiError> {
    let store = context.store.clone();
    tokio::task::spawn_blocking(move || store.search(&search)).await?.map_err(ApiError::from)
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::new(Code::Unavailable, format!("failed to read the events: {error}"), "check disk and rights with `paramedic doctor`")
    }
}

pub(crate) fn register(all: &mut Vec<Operation>) {
    all.push(Operation::new("event.search", (Method::Get, "/api/v1/events"), "Search stored events.", Permission::Read, search));
}
