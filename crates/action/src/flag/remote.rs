//! Flags of another server, over HTTP.

use std::time::Duration;

use paramedic_model::Timestamp;
use reqwest::{Client, Method, StatusCode, Url};
use serde_json::{Value, json};

use super::Settings;
use super::own::until;
use crate::address::shown;
use crate::call::{Call, Done, Object, Plan, Verified};
use crate::error::ActionError;
use crate::spec::Effect;

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A flag server.
pub(super) struct Side {
    client: Client,
    /// Without a slash at its end.
    base: String,
    token: Option<String>,
}

/// What a flag server says of one flag.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Enabled(bool),
    /// It has no such question, or its answer says nothing of it.
    Nothing(String),
}

impl Side {
    /// The server that is meant; none: our own store.
    pub(super) fn of(settings: &Settings, call: &Call) -> Result<Option<Self>, ActionError> {
        let given = call.text_or_none("url")?;
        let Some(text) = given.or_else(|| Some(settings.url.clone()).filter(|url| !url.is_empty())) else { return Ok(None) };
        let wrong = |why: &str| call.fault("url", format!("{} {why}", shown(&text, None)));
        let url: Url = text.parse().map_err(|_| wrong("is not an address like https://host/path"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("is not an address like https://host/path"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("holds a name or a password; use the setting action.flag.token"));
        }
        let ours = settings.url.parse::<Url>().is_ok_and(|own| own.origin() == url.origin());
        let token = Some(settings.token.clone()).filter(|token| ours && !token.is_empty());
        // Another part of the process may have chosen one before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(concat!("paramedic/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(settings.timeout_s))
            .build()
            .map_err(|error| ActionError::Failed { action: call.action.clone(), why: format!("no client for requests: {error}") })?;
        Ok(Some(Self { client, base: url.as_str().trim_end_matches('/').to_owned(), token }))
    }

    async fn send(&self, call: &Call, method: Method, url: &str, body: Option<Value>) -> Result<(StatusCode, Vec<u8>), ActionError> {
        let failed = |why: String| ActionError::Failed { action: call.action.clone(), why: shown(&why, self.token.as_deref()) };
        let mut request = self.client.request(method.clone(), url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let mut answer = request.send().await.map_err(|error| failed(format!("{method} {url}: no answer: {}", deepest(&error))))?;
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| failed(format!("{method} {url}: {}", deepest(&error))))? {
            let room = ANSWER_BYTES_MAX - bytes.len();
            bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if bytes.len() == ANSWER_BYTES_MAX {
                break;
            }
        }
        Ok((answer.status(), bytes))
    }

    async fn ask(&self, call: &Call, name: &str) -> Result<Said, ActionError> {
        let url = format!("{}/flags/{name}", self.base);
        let (status, body) = self.send(call, Method::GET, &url, None).await?;
        Ok(understood(status, &body))
    }
}

/// The innermost cause says most.
fn deepest(error: &reqwest::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

fn understood(status: StatusCode, body: &[u8]) -> Said {
    if !status.is_success() {
        return Said::Nothing(format!("the other side does not say, GET is answered with {}", status.as_u16()));
    }
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let flag = answer.get("flag").filter(|flag| flag.is_object()).unwrap_or(&answer);
    let word = |text: &str| match text.to_ascii_lowercase().as_str() {
        "on" | "enabled" | "true" | "active" => Some(true),
        "off" | "disabled" | "false" | "inactive" => Some(false),
        _ => None,
    };
    let read = |value: &Value| value.as_bool().or_else(|| word(value.as_str()?));
    let enabled = flag.get("enabled").and_then(read);
    let enabled = enabled.or_else(|| flag.get("disabled").and_then(read).map(|disabled| !disabled));
    let enabled = enabled.or_else(|| ["state", "status", "value"].iter().find_map(|field| flag.get(field).and_then(read)));
    enabled.map_or_else(|| Said::Nothing("the other side does not say, its answer is not understood".to_owned()), Said::Enabled)
}

fn word(said: &Said) -> &str {
    match said {
        Said::Enabled(true) => "enabled",
        Said::Enabled(false) => "disabled",
        Said::Nothing(_) => "not known",
    }
}

fn facts(said: &Said) -> Value {
    match said {
        Said::Enabled(enabled) => json!({ "enabled": enabled }),
        Said::Nothing(why) => json!({ "why": why }),
    }
}

fn verb(call: &Call) -> &'static str {
    if call.action == "flag.enable" { "enable" } else { "disable" }
}

pub(super) async fn plan(side: &Side, call: &Call, name: &str, now: Timestamp) -> Result<Plan, ActionError> {
    let url = format!("{}/flags/{name}", side.base);
    if call.action == "flag.read" {
        let mut plan = Plan::new(call, Effect::Read, format!("read the flag {name} at {}", side.base));
        plan.exact.push(format!("GET {url}"));
        return Ok(plan);
    }
    let said = side.ask(call, name).await?;
    let verb = verb(call);
    let mut plan = Plan::new(call, Effect::Write, format!("{verb} the flag {name} at {}, which is {} now", side.base, word(&said)));
    plan.objects.push(Object { kind: "flag".to_owned(), name: name.to_owned(), detail: format!("{} at {}", word(&said), side.base) });
    plan.affected = 1;
    plan.exact.push(format!("POST {url}/{verb}"));
    plan.inverse = Some(back(side, call, name, &said));
    plan.stands_on = word(&said).to_owned();
    plan.reverts_after_s = until(call, now)?.map(|at| at.since(now).as_secs());
    if let Said::Nothing(why) = &said {
        plan.warnings.push(why.clone());
    }
    Ok(plan)
}

/// As it was; where the other side does not say, the opposite of what is done.
fn back(side: &Side, call: &Call, name: &str, said: &Said) -> Call {
    let was = match said {
        Said::Enabled(enabled) => *enabled,
        Said::Nothing(_) => call.action == "flag.disable",
    };
    let mut back = Call::new(if was { "flag.enable" } else { "flag.disable" }).with("flag", name).with("url", side.base.as_str());
    back.by.clone_from(&call.by);
    back.reason = "take back what was changed".to_owned();
    back
}

pub(super) async fn execute(side: &Side, call: &Call, plan: &Plan, name: &str) -> Result<Done, ActionError> {
    let before = side.ask(call, name).await?;
    if call.action == "flag.read" {
        return Ok(Done::looked(format!("read the flag {name} at {}: it is {}", side.base, word(&before)), facts(&before)));
    }
    if word(&before) != plan.stands_on {
        let why = format!("the flag {name} was {}, now it is {}", plan.stands_on, word(&before));
        return Err(ActionError::Changed { action: call.action.clone(), why });
    }
    let verb = verb(call);
    let url = format!("{}/flags/{name}/{verb}", side.base);
    let body = json!({ "by": call.by, "reason": call.reason });
    let (status, said) = side.send(call, Method::POST, &url, Some(body)).await?;
    if !status.is_success() {
        let said = shown(&String::from_utf8_lossy(&said), side.token.as_deref());
        return Err(ActionError::Failed {
            action: call.action.clone(),
            why: format!("POST {url} is answered with {}: {said}", status.as_u16()),
        });
    }
    let after = side.ask(call, name).await?;
    let verified = match &after {
        Said::Enabled(enabled) if *enabled == (verb == "enable") => Verified::seen(format!("the other side says it is {}", word(&after))),
        Said::Enabled(_) => Verified::missed(format!("the other side says it is {}", word(&after))),
        // It accepted; more cannot be seen.
        Said::Nothing(why) => Verified::seen(format!("POST was answered with {}; {why}", status.as_u16())),
    };
    let mut done = Done::new(format!("asked {} to {verb} the flag {name}", side.base), verified);
    done.affected = 1;
    (done.before, done.after) = (facts(&before), facts(&after));
    done.inverse.clone_from(&plan.inverse);
    done.reverts_after_s = plan.reverts_after_s;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_several_servers_are_understood() {
        let cases = [
            (200, r#"{"enabled":true}"#, Some(true)),
            (200, r#"{"flag":{"enabled":false}}"#, Some(false)),
            (200, r#"{"disabled":true}"#, Some(false)),
            (200, r#"{"state":"ON"}"#, Some(true)),
            (200, "[]", None),
            (200, "<html>", None),
            (404, r#"{"enabled":true}"#, None),
            (405, "", None),
        ];
        for (status, body, expect) in cases {
            let found = match understood(StatusCode::from_u16(status).unwrap(), body.as_bytes()) {
                Said::Enabled(enabled) => Some(enabled),
                Said::Nothing(_) => None,
            };
            assert_eq!(found, expect, "{status} {body}");
        }
    }

    #[test]
    fn a_token_goes_only_where_it_belongs() {
        let settings = Settings { url: "https://flags.internal/api".to_owned(), token: "t0ken".to_owned(), ..Settings::default() };
        let side = |url: &str| Side::of(&settings, &Call::new("flag.enable").with("url", url));
        assert!(side("https://flags.internal/other").unwrap().unwrap().token.is_some());
        for url in ["http://flags.internal/api", "https://flags.internal:8443/api", "https://evil.example/api"] {
            assert!(side(url).unwrap().unwrap().token.is_none(), "{url}");
        }
        for url in ["ftp://x", "https://u:p@x/", "x", "https://x/?a=b", "file:///etc/passwd"] {
            assert!(side(url).is_err(), "{url}");
        }
        assert!(Side::of(&Settings::default(), &Call::new("flag.enable")).unwrap().is_none());
    }
}
