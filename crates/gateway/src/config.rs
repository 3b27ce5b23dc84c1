//! Settings of the gateway.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{breaker, budget, identity, limit, retry};

/// `[gateway]`: where calls go, and what holds without any switch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where calls are passed on to, the first whose `models` fit. Default: one, `anthropic`, at https://api.anthropic.com.
    pub upstreams: Vec<UpstreamSettings>,
    /// Keys of your own that stand for upstreams' keys. Default: none, every key is passed on as it is.
    pub keys: Vec<KeySettings>,
    /// Makes the names of keys: gateways with the same one, as text or `env:NAME`, give the same key the same name, which
    /// limits that they share need. Default empty: one of the data folder's own.
    pub key_salt: String,
    /// Whether only `keys` may call. Default false.
    pub own_keys_only: bool,
    /// Besides the address, a Unix socket that takes calls. Default empty: none.
    pub unix_socket: String,
    /// Seconds that running calls have to end when the gateway stops or is restarted. Default 30.
    pub drain_s: u64,
    /// Connections at the same time. Default 10000.
    pub connections_max: usize,
    /// Bytes of a request that are held in order to be read; larger ones pass through unread. Default 33554432 (32 MiB).
    pub request_bytes_max: usize,
    /// Seconds that a client has to send a request's head, and between two pieces of its body. Default 30.
    pub client_timeout_s: u64,
    /// Seconds to connect to an upstream; 0: no limit. Default 10.
    pub connect_timeout_s: u64,
    /// Seconds until an answer begins; 0: no limit. Default 600, as the clients themselves wait.
    pub first_byte_timeout_s: u64,
    /// Seconds that a stream may say nothing. Default 300, as the clients themselves wait.
    pub between_tokens_timeout_s: u64,
    /// Seconds that a whole call may take. Default 0: no limit.
    pub request_timeout_s: u64,
    /// Seconds that a call waits for a limit or a budget. Default 50: clients that are told to wait give up at 60.
    pub queue_wait_s: u64,
    /// Calls a minute while the switch `rate_limiting` is on and no other limit is set. Default 100.
    pub rate_limit_per_minute: u64,
    /// A certificate authority's file, PEM, that is trusted besides the system's. Default empty: none.
    pub ca_file: String,
    /// Calls that the traffic page remembers. Default 2000.
    pub calls_kept: usize,
    pub identity: identity::Settings,
    pub models: ModelSettings,
    pub degraded: DegradedSettings,
    pub limit: limit::Settings,
    pub retry: retry::Settings,
    pub breaker: breaker::Settings,
    pub budget: budget::Settings,
    pub redis: RedisSettings,
    /// Switches that hold from the start, until they are taken out here. Default: none.
    pub switches: Vec<BaseSwitch>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            upstreams: vec![UpstreamSettings::default()],
            keys: Vec::new(),
            key_salt: String::new(),
            own_keys_only: false,
            unix_socket: String::new(),
            drain_s: 30,
            connections_max: 10_000,
            request_bytes_max: 32 << 20,
            client_timeout_s: 30,
            connect_timeout_s: 10,
            first_byte_timeout_s: 600,
            between_tokens_timeout_s: 300,
            request_timeout_s: 0,
            queue_wait_s: 50,
            rate_limit_per_minute: 100,
            ca_file: String::new(),
            calls_kept: 2_000,
            identity: identity::Settings::default(),
            models: ModelSettings::default(),
            degraded: DegradedSettings::default(),
            limit: limit::Settings::default(),
            retry: retry::Settings::default(),
            breaker: breaker::Settings::default(),
            budget: budget::Settings::default(),
            redis: RedisSettings::default(),
            switches: Vec::new(),
        }
    }
}

/// One place that answers calls.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamSettings {
    /// How it is called in records, switches and breakers. Default `anthropic`.
    pub name: String,
    /// Where it is: `https://host` or `http://host:port`, with a path in front if need be. Default https://api.anthropic.com.
    pub url: String,
    /// Models that it answers: names, or beginnings with a `*` at the end. Default `["*"]`.
    pub models: Vec<String>,
    /// The upstream that is asked in its place while its breaker is open, and where it cannot be reached or answers 503 or 529.
    /// It needs an `api_key` or `same_key`. Default empty: none.
    pub fallback: String,
    /// The key that calls get that come to it as a fallback, in place of their own, or `env:NAME`. Default empty: none.
    pub api_key: String,
    /// Whether calls that come to it as a fallback bring their own keys: it belongs to the same provider. Default false.
    pub same_key: bool,
}

/// As of [`KeySettings`]: a key is not shown.
impl fmt::Debug for UpstreamSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamSettings")
            .field("name", &self.name)
            .field("url", &self.url)
            .field("models", &self.models)
            .field("fallback", &self.fallback)
            .field("api_key", &shown(&self.api_key))
            .field("same_key", &self.same_key)
            .finish()
    }
}

fn shown(key: &str) -> &str {
    if key.is_empty() || key.starts_with("env:") { key } else { "***" }
}

impl Default for UpstreamSettings {
    fn default() -> Self {
        Self {
            name: "anthropic".to_owned(),
            url: "https://api.anthropic.com".to_owned(),
            models: vec!["*".to_owned()],
            fallback: String::new(),
            api_key: String::new(),
            same_key: false,
        }
    }
}

impl UpstreamSettings {
    /// Whether it answers this model.
    #[must_use]
    pub fn serves(&self, model: &str) -> bool {
        self.models.iter().any(|pattern| pattern.strip_suffix('*').map_or(pattern == model, |begin| model.starts_with(begin)))
    }
}

/// A key of your own.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeySettings {
    /// How it is called in records and scopes: `key:ci`.
    pub name: String,
    /// The key that clients bring, or `env:NAME`.
    pub key: String,
    /// The key that the upstream gets, or `env:NAME`. Default empty: the client's key, which then only gets a name.
    pub upstream_key: String,
    /// Who calls with it, where no header says so.
    pub user: String,
    /// Which team calls with it, where no header says so.
    pub team: String,
}

/// Settings in use are shown to whoever asks: a key is not, unless it only says which variable holds it.
impl fmt::Debug for KeySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySettings")
            .field("name", &self.name)
            .field("key", &shown(&self.key))
            .field("upstream_key", &shown(&self.upstream_key))
            .field("user", &self.user)
            .field("team", &self.team)
            .finish()
    }
}

/// Which models stand in for others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSettings {
    /// The cheaper model, for degraded mode, for budgets at their cap and for simple calls. Default claude-haiku-5-5.
    pub cheaper: String,
    /// With the switch `model_routing`, calls of at most so many input tokens are simple. Default 2000.
    pub simple_input_tokens_max: u64,
    /// ... that allow answers of at most so many tokens. Default 4096.
    pub simple_output_tokens_max: u64,
    /// ... and offer at most so many tools. Default 0.
    pub simple_tools_max: u64,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            cheaper: "claude-haiku-5-5".to_owned(),
            simple_input_tokens_max: 2_000,
            simple_output_tokens_max: 4_096,
            simple_tools_max: 0,
        }
    }
}

/// What degraded mode does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DegradedWay {
    /// Calls go to `models.cheaper`.
    #[default]
    CheaperModel,
    /// A call that is marked as safe with `x-paramedic-cache: safe` gets the answer that the same call got before, others the
    /// cheaper model.
    Cached,
    /// Every call gets `degraded.answer`.
    FixedAnswer,
}

/// What the switch `degraded_mode` does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DegradedSettings {
    /// `cheaper-model`, `cached` or `fixed-answer`. Default `cheaper-model`.
    pub way: DegradedWay,
    /// The fixed answer's text.
    pub answer: String,
    /// Bytes of answers that are kept for `cached`, all together. Default 16777216 (16 MiB).
    pub cache_bytes_max: usize,
    /// Seconds that an answer may be used again. Default 3600.
    pub cache_s: u64,
}

impl Default for DegradedSettings {
    fn default() -> Self {
        Self {
            way: DegradedWay::default(),
            answer: "This service works with reduced capacity at the moment. Please try again later.".to_owned(),
            cache_bytes_max: 16 << 20,
            cache_s: 3_600,
        }
    }
}

/// Where switches come from that other programs set, and where limits are shared.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisSettings {
    /// `redis://host:port/db`, or `env:NAME`. Default empty: no Redis.
    pub url: String,
    /// Whether limits on rates are one for all gateways at this Redis. Default true.
    pub share_limits: bool,
    /// Whether `blocked:user:<id>`, `circuit_breaker:<name>` and `flag:<name>` are taken as switches. Default true.
    pub read_switches: bool,
    /// Milliseconds between two looks at those keys. Default 500.
    pub look_every_ms: u64,
}

impl std::fmt::Debug for RedisSettings {
    /// The address may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("RedisSettings");
        shown.field("share_limits", &self.share_limits).field("read_switches", &self.read_switches).finish_non_exhaustive()
    }
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self { url: String::new(), share_limits: true, read_switches: true, look_every_ms: 500 }
    }
}

/// A switch that holds from the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseSwitch {
    /// `rate_limit_per_minute`, or a name that stands for it, such as `RATE_LIMIT_PER_MINUTE`.
    pub switch: String,
    pub value: serde_json::Value,
    /// Whom it is for. Default `all`.
    #[serde(default = "everybody")]
    pub scope: String,
}

fn everybody() -> String {
    "all".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_serves_the_models_that_its_patterns_fit() {
        let upstream = UpstreamSettings { models: vec!["claude-*".to_owned(), "local".to_owned()], ..UpstreamSettings::default() };
        for (model, serves) in [("claude-x", true), ("local", true), ("local-2", false), ("gpt", false), ("", false)] {
            assert_eq!(upstream.serves(model), serves, "{model}");
        }
        assert!(UpstreamSettings::default().serves(""));
    }

    #[test]
    fn a_key_is_not_shown_and_the_variable_that_holds_it_is() {
        let key =
            |key: &str| KeySettings { name: "ci".to_owned(), key: key.to_owned(), upstream_key: key.to_owned(), ..Default::default() };
        let shown = format!("{:#?}", Settings { keys: vec![key("a-plain-secret"), key("env:CI_KEY")], ..Settings::default() });
        assert!(!shown.contains("a-plain-secret") && shown.contains("***") && shown.contains("env:CI_KEY"), "{shown}");
    }
}
