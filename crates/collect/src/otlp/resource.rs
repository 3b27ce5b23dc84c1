//! Who a record is about: worked out once per resource, remembered while the session stays the same.

use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use paramedic_model::event::{Attributes, Correlation};
use paramedic_model::limit::{ATTRIBUTES_MAX, ID_BYTES_MAX};
use paramedic_model::text::head;
use paramedic_model::{AgentId, SessionId, Timestamp};

use super::known::{Key, Known};
use super::{clean, value};

/// One resource of a request.
pub(super) struct Origin<'a> {
    pub(super) known: Known<'a>,
    /// The resource's attributes, cleaned once.
    resource: Attributes,
    /// The same with the scope's; every event starts with a copy.
    bag: Attributes,
    pub(super) dropped: u64,
    /// The resource says that it is Claude Code.
    pub(super) is_claude: bool,
    /// The agent that a service replica is.
    service: Option<AgentId>,
    last: Option<(SessionId, AgentId)>,
}

impl<'a> Origin<'a> {
    pub(super) fn new(attributes: &'a [KeyValue]) -> Self {
        let mut known = Known::new();
        known.scan(attributes);
        let mut bag = Attributes::with_capacity(attributes.len().min(ATTRIBUTES_MAX));
        let dropped = value::keep(attributes.to_vec(), &mut bag);
        let name = known.text(Key::ServiceName);
        let is_claude = name.as_deref().is_some_and(|name| name.starts_with("claude-code"));
        let service = name.map(|name| {
            let instance = known.first_text(&[Key::ServiceInstance, Key::HostName]);
            AgentId::from(clean::id(&format!("{name}@{}", instance.as_deref().unwrap_or("0"))).as_ref())
        });
        Self { known, bag: bag.clone(), resource: bag, dropped, is_claude, service, last: None }
    }

    /// The records that follow come from this scope. Claude Code's is always the same and not worth keeping.
    pub(super) fn enter(&mut self, scope: &InstrumentationScope) {
        let is_claude_scope = scope.name.starts_with("com.anthropic.claude_code");
        self.is_claude |= is_claude_scope;
        self.bag.clone_from(&self.resource);
        self.dropped += value::keep(scope.attributes.clone(), &mut self.bag);
        for (key, text) in [("otel.scope.name", &scope.name), ("otel.scope.version", &scope.version)] {
            if !is_claude_scope && !text.is_empty() {
                self.bag.insert(key.to_owned(), clean::attribute(key, text.clone()).into());
            }
        }
    }

    /// A bag that holds the resource's attributes, with room for the record's own, which overwrite them. Filled anew
    /// because a clone would reserve twice the room, and memory is most of what an event costs.
    pub(super) fn bag(&self, more: usize) -> Attributes {
        let mut bag = Attributes::with_capacity((self.bag.len() + more).min(ATTRIBUTES_MAX));
        for (key, value) in &self.bag {
            bag.insert(key.clone(), value.clone());
        }
        bag
    }

    /// Session and agent of a record. A Claude Code record belongs to its session's agent, or to the sub-agent it
    /// names; any other record to the service replica that sent it.
    pub(super) fn identify(&mut self, known: &Known<'_>, is_claude: bool) -> (Option<SessionId>, Option<AgentId>) {
        let Some(text) = known.first_text(&[Key::Session, Key::Conversation]) else {
            return (None, if is_claude { None } else { self.service.clone() });
        };
        let text = head(&text, ID_BYTES_MAX);
        let (session, main) = match &self.last {
            Some((session, main)) if session.as_str() == text => (session.clone(), main.clone()),
            _ => {
                let session = SessionId::from(clean::id(text).as_ref());
                let main = AgentId::of_session(&session);
                self.last = Some((session.clone(), main.clone()));
                (session, main)
            }
        };
        if !is_claude {
            return (Some(session), Some(self.service.clone().unwrap_or(main)));
        }
        let agent = match known.text(Key::Agent) {
            Some(subagent) if subagent != session.as_str() => AgentId::of_subagent(&session, &clean::id(&subagent)),
            _ => main,
        };
        (Some(session), Some(agent))
    }
}

/// The ids that join this record with those of other sources.
pub(super) fn correlation(known: &Known<'_>, trace: &[u8], span: &[u8], parent_span: &[u8]) -> Correlation {
    Correlation {
        prompt: known.id(&[Key::Prompt]),
        request: known.id(&[Key::Request, Key::RequestHeader, Key::CorrelationId]),
        trace: hex_id(trace, 16),
        span: hex_id(span, 8),
        parent_span: hex_id(parent_span, 8),
        user: known.id(&[Key::UserAccount, Key::User, Key::UserEmail]),
    }
}

/// Trace and span ids in the usual hexadecimal form; all zero or of a wrong length means none.
fn hex_id(bytes: &[u8], length: usize) -> Option<Box<str>> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    if bytes.len() != length || bytes.iter().all(|byte| *byte == 0) {
        return None;
    }
    Some(
        bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect::<String>().into(),
    )
}

/// The first time that is told: the record's own, when it was observed, what Claude Code wrote beside it, now.
pub(super) fn time(nanos: [u64; 2], known: &Known<'_>, now: Timestamp) -> Timestamp {
    nanos
        .into_iter()
        .find(|nanos| *nanos != 0)
        .map(Timestamp::from_unix_nanos)
        .or_else(|| Timestamp::parse(&known.text(Key::EventTime)?))
        .unwrap_or(now)
}
