//! Who makes a call: from its headers, and from the metadata that clients put into the body.
//!
//! Claude Code names its session and its sub-agent in headers; people add their own with `ANTHROPIC_CUSTOM_HEADERS`.
//! A key is named by a keyed hash: the same key has the same name for as long as the salt lives, and nobody can tell the key.

use std::fmt::Write as _;

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue, USER_AGENT};
use paramedic_model::text;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::call::Caller;

/// Bytes of a name that a header gives. Longer ones are cut: they are names, not texts.
const NAME_BYTES_MAX: usize = 200;
/// Bytes of a program's name.
const CLIENT_BYTES_MAX: usize = 80;
/// Hexadecimal digits of a key's name.
const KEY_DIGITS: usize = 16;
const X_API_KEY: &str = "x-api-key";

/// Where a call's people, teams and agents are named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Headers that name the user; the first that is there counts. Default `x-paramedic-user`, `x-user-id`.
    pub user_headers: Vec<String>,
    /// Headers that name the team. Default `x-paramedic-team`, `x-team-id`.
    pub team_headers: Vec<String>,
    /// Headers that name the agent, for programs other than Claude Code. Default `x-paramedic-agent`, `x-agent-id`.
    pub agent_headers: Vec<String>,
    /// Headers that name the session, for programs other than Claude Code. Default `x-paramedic-session`, `x-session-id`.
    pub session_headers: Vec<String>,
    /// Headers that name the plugin on whose behalf a call is made. Default `x-paramedic-plugin`.
    pub plugin_headers: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            user_headers: all(&["x-paramedic-user", "x-user-id"]),
            team_headers: all(&["x-paramedic-team", "x-team-id"]),
            agent_headers: all(&["x-paramedic-agent", "x-agent-id"]),
            session_headers: all(&["x-paramedic-session", "x-session-id"]),
            plugin_headers: all(&["x-paramedic-plugin"]),
        }
    }
}

/// Names of headers, read once.
#[derive(Debug, Clone)]
pub struct Names {
    user: Vec<HeaderName>,
    team: Vec<HeaderName>,
    agent: Vec<HeaderName>,
    session: Vec<HeaderName>,
    plugin: Vec<HeaderName>,
    salt: [u8; 32],
}

/// A header's name that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read the settings of the gateway: identity.{key} names {name:?}, which is no name of a header")]
pub struct NotAHeader {
    pub key: &'static str,
    pub name: String,
}

impl Names {
    /// Reads the settings; `salt` makes names of keys this gateway's own.
    ///
    /// # Errors
    /// When one of the names cannot be a header's.
    pub fn new(settings: &Settings, salt: [u8; 32]) -> Result<Self, NotAHeader> {
        Ok(Self {
            user: headers("user_headers", &settings.user_headers)?,
            team: headers("team_headers", &settings.team_headers)?,
            agent: headers("agent_headers", &settings.agent_headers)?,
            session: headers("session_headers", &settings.session_headers)?,
            plugin: headers("plugin_headers", &settings.plugin_headers)?,
            salt,
        })
    }

    /// The name of a key: the first digits of its hash with the salt.
    #[must_use]
    pub fn key(&self, key: &[u8]) -> Box<str> {
        let hash = Sha256::new().chain_update(self.salt).chain_update(key).finalize();
        let mut name = String::with_capacity(KEY_DIGITS);
        for byte in &hash[..KEY_DIGITS / 2] {
            let _ = write!(name, "{byte:02x}");
        }
        name.into()
    }

    /// What the headers say.
    #[must_use]
    pub fn caller(&self, headers: &HeaderMap) -> Caller {
        let session = named(headers, "x-claude-code-session-id").or_else(|| first(headers, &self.session));
        let own = named(headers, "x-claude-code-agent-id");
        let agent = match (&session, own) {
            (Some(session), Some(own)) => Some(format!("{session}/{own}").into()),
            (None, Some(own)) => Some(own),
            (_, None) => first(headers, &self.agent).or_else(|| session.clone()),
        };
        Caller {
            key: key_of(headers).map(|key| self.key(key)),
            user: first(headers, &self.user),
            team: first(headers, &self.team),
            agent,
            parent_agent: named(headers, "x-claude-code-parent-agent-id"),
            session,
            plugin: first(headers, &self.plugin),
            prompt: named(headers, "x-claude-code-prompt-id"),
            request_class: named(headers, "x-claude-code-request-class"),
            agent_type: named(headers, "x-claude-code-agent-type"),
            client: headers.get(USER_AGENT).and_then(client),
            attempt: headers
                .get("x-stainless-retry-count")
                .and_then(|count| count.to_str().ok()?.parse::<u32>().ok())
                .map_or(1, |count| count.saturating_add(1)),
        }
    }
}

/// Completes what the headers left open with what the body's metadata says.
pub fn complete(caller: &mut Caller, session: Option<&str>, account: Option<&str>) {
    let plain = |name: &str| cut(name, NAME_BYTES_MAX);
    if caller.session.is_none() {
        caller.session = session.and_then(plain);
    }
    if caller.agent.is_none() {
        caller.agent.clone_from(&caller.session);
    }
    if caller.user.is_none() {
        caller.user = account.and_then(plain);
    }
}

/// The key that a call brings. Where both are there, the API itself uses `x-api-key`.
#[must_use]
pub fn key_of(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(key) = headers.get(X_API_KEY) {
        return Some(key.as_bytes()).filter(|key| !key.is_empty());
    }
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, rest) = value.split_at_checked(7)?;
    let key = if scheme.eq_ignore_ascii_case(b"bearer ") { rest } else { value };
    Some(key.trim_ascii()).filter(|key| !key.is_empty())
}

fn headers(key: &'static str, names: &[String]) -> Result<Vec<HeaderName>, NotAHeader> {
    names.iter().map(|name| name.parse().map_err(|_| NotAHeader { key, name: name.clone() })).collect()
}

fn first(headers: &HeaderMap, names: &[HeaderName]) -> Option<Box<str>> {
    names.iter().find_map(|name| headers.get(name).and_then(of_value))
}

fn named(headers: &HeaderMap, name: &'static str) -> Option<Box<str>> {
    headers.get(name).and_then(of_value)
}

fn of_value(value: &HeaderValue) -> Option<Box<str>> {
    cut(value.to_str().ok()?, NAME_BYTES_MAX)
}

fn client(value: &HeaderValue) -> Option<Box<str>> {
    cut(value.to_str().ok()?.split(" (").next()?, CLIENT_BYTES_MAX)
}

/// A name as it is kept: without blanks around it, none when nothing is left.
fn cut(name: &str, bytes_max: usize) -> Option<Box<str>> {
    let name = name.trim();
    let is_plain = !name.is_empty() && !name.chars().any(char::is_control);
    is_plain.then(|| text::head(name, bytes_max).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new(&Settings::default(), [7; 32]).unwrap()
    }

    fn map(headers: &[(&'static str, &str)]) -> HeaderMap {
        headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn claude_codes_main_agent_has_its_sessions_id_and_a_sub_agent_its_own() {
        let main = names().caller(&map(&[("x-claude-code-session-id", "s1"), ("user-agent", "claude-cli/2.1.330 (external, sdk-cli)")]));
        assert_eq!((main.agent.as_deref(), main.session.as_deref()), (Some("s1"), Some("s1")));
        assert_eq!(main.client.as_deref(), Some("claude-cli/2.1.330"));
        assert_eq!(main.attempt, 1);
        let sub =
            names().caller(&map(&[("x-claude-code-session-id", "s1"), ("x-claude-code-agent-id", "a9"), ("x-stainless-retry-count", "2")]));
        assert_eq!(sub.agent.as_deref(), Some("s1/a9"));
        assert_eq!(sub.attempt, 3);
    }

    #[test]
    fn a_key_has_a_name_that_does_not_tell_it() {
        let names = names();
        let bearer = names.caller(&map(&[("authorization", "Bearer sk-ant-secret-1")])).key.unwrap();
        let header = names.caller(&map(&[("x-api-key", "sk-ant-secret-1"), ("authorization", "Bearer other")])).key.unwrap();
        assert_eq!(bearer, header);
        assert_eq!(bearer.len(), KEY_DIGITS);
        assert!(!bearer.contains("secret"));
        let other_salt = Names::new(&Settings::default(), [8; 32]).unwrap();
        assert_ne!(other_salt.key(b"sk-ant-secret-1"), bearer);
        for odd in ["", "Bearer ", "bearer"] {
            let caller = names.caller(&map(&[("authorization", odd)]));
            assert!(odd == "bearer" || caller.key.is_none(), "{odd:?} {caller:?}");
        }
    }

    #[test]
    fn metadata_completes_what_headers_left_open_and_overrules_nothing() {
        let mut caller = names().caller(&map(&[("x-user-id", "ana")]));
        complete(&mut caller, Some("s2"), Some("account"));
        assert_eq!((caller.user.as_deref(), caller.session.as_deref(), caller.agent.as_deref()), (Some("ana"), Some("s2"), Some("s2")));
        let mut unknown = Caller::default();
        complete(&mut unknown, None, Some(" \u{7} "));
        assert_eq!(unknown.user, None);
    }

    #[test]
    fn a_setting_that_names_no_header_is_refused_by_its_key() {
        let settings = Settings { team_headers: vec!["bad name".to_owned()], ..Settings::default() };
        let error = Names::new(&settings, [0; 32]).unwrap_err().to_string();
        assert!(error.contains("identity.team_headers") && error.contains("bad name"), "{error}");
    }
}
