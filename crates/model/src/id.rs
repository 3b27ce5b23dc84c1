//! Identifiers. Cheap to clone: one allocation is shared by all events of an agent.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        #[schemars(transparent)]
        pub struct $name(#[schemars(with = "String")] Arc<str>);

        impl $name {
            #[must_use]
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

identifier! {
    /// A session: one conversation with an agent (a Claude Code session id, or a conversation id in logs).
    SessionId
}

identifier! {
    /// A running LLM worker. The main agent of a session has the session's id; a sub-agent is
    /// `<session>/<agent id>`; a service replica is `<service>@<instance>`; a log component is its name.
    AgentId
}

impl AgentId {
    /// The agent that a session itself is.
    #[must_use]
    pub fn of_session(session: &SessionId) -> Self {
        Self(session.0.clone())
    }

    /// A sub-agent inside a session.
    #[must_use]
    pub fn of_subagent(session: &SessionId, subagent: &str) -> Self {
        Self(format!("{session}/{subagent}").into())
    }

    /// The sub-agent's own id when this is a sub-agent.
    #[must_use]
    pub fn subagent(&self) -> Option<&str> {
        self.0.split_once('/').map(|(_, subagent)| subagent)
    }
}
