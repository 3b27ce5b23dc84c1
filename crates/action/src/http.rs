//! One HTTP request.
//!
//! **Takes** a method, an address and what answer is expected. **Gives** the answer, capped, with secrets masked, and
//! whether it was the expected one. **Never** follows a redirect of a request that changes something, never leaves the
//! hosts that are allowed, never asks the machine's own metadata service, and never shows a password of an address.

mod request;
mod send;

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::request::Request;
pub(crate) use self::request::is_secret;
use crate::actions::{Adapter, BoxFuture};
use crate::call::{Call, Done, Object, Plan, Verified};
use crate::error::ActionError;
use crate::spec::{Argument, Effect, Kind, Spec};

/// Settings of these actions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Host names that may be asked, without port; `.example.org` means every name under it. Default none listed: every one.
    pub hosts: Vec<String>,
    /// Seconds that a request may take in all. Default 30.
    pub timeout_s: u64,
    /// Headers with secrets, so that no runbook needs to hold them. Keys: host, header, file.
    pub secrets: Vec<SecretHeader>,
}

/// A header that is added to each request to a host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecretHeader {
    /// The exact host name.
    pub host: String,
    /// `Authorization`.
    pub header: String,
    /// The file that its value is in, read at each request; a line break at its end is left out.
    pub file: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self { hosts: Vec::new(), timeout_s: 30, secrets: Vec::new() }
    }
}

/// Requests to servers.
#[derive(Debug, Clone, Default)]
pub struct Requests {
    settings: Settings,
}

pub(crate) const SPECS: &[Spec] = &[Spec {
    name: "http.request",
    summary: "sends one HTTP request, and checks the status of the answer",
    effect: Effect::Write,
    arguments: &[
        Argument::required("method", Kind::Text, "GET, HEAD, OPTIONS, POST, PUT, PATCH or DELETE"),
        Argument::required("url", Kind::Text, "the address, with http or https"),
        Argument::optional("body", Kind::Json, "what is sent: JSON, or a text that is sent as it is (nothing)"),
        Argument::optional("headers", Kind::Json, "an object of names and texts (none)"),
        Argument::optional("expect", Kind::Text, "status codes of success: `200,204` or `2xx` (2xx)"),
        Argument::optional("confirm", Kind::Text, "for DELETE: the method, host and path, typed"),
        Argument::optional("undo_method", Kind::Text, "the method of the request that takes it back"),
        Argument::optional("undo_url", Kind::Text, "the address of the request that takes it back (the same)"),
        Argument::optional("undo_body", Kind::Json, "the body of the request that takes it back (nothing)"),
    ],
    undo: "the request that undo_method, undo_url and undo_body name; nothing without them",
}];

impl Requests {
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self { settings }
    }

    fn plan_request(&self, call: &Call) -> Result<Plan, ActionError> {
        let request = Request::read(&self.settings, call)?;
        let mut plan = Plan::new(call, request.effect(), format!("send {}", request.shown()));
        plan.affected = u64::from(request.effect() > Effect::Read);
        plan.objects = vec![Object { kind: "address".to_owned(), name: request.host.clone(), detail: request.shown() }];
        plan.exact = request.exact();
        plan.inverse = inverse(&self.settings, call)?;
        plan.stands_on = request.shown();
        if request.effect() > Effect::Read && plan.inverse.is_none() {
            plan.warnings.push("nothing is known that takes it back".to_owned());
        }
        if request.is_plain() {
            plan.warnings.push("it is sent unencrypted".to_owned());
        }
        if request.effect() == Effect::Destroy && call.text_or_none("confirm")?.as_deref() != Some(&request.phrase()) {
            return Err(ActionError::Confirm { action: call.action.clone(), phrase: request.phrase() });
        }
        Ok(plan)
    }

    async fn send(&self, call: &Call, plan: &Plan, cancel: &CancellationToken) -> Result<Done, ActionError> {
        let request = Request::read(&self.settings, call)?;
        if request.shown() != plan.stands_on {
            let why = format!("it was {}, and is {}", plan.stands_on, request.shown());
            return Err(ActionError::Changed { action: call.action.clone(), why });
        }
        let is_read = request.effect() == Effect::Read;
        let unsure = if is_read { "" } else { "; whether it was done there is not known" };
        let answer = tokio::select! {
            answer = send::send(&self.settings, &request) => answer,
            () = cancel.cancelled() => {
                let done = format!("it was sent{unsure}");
                return Err(ActionError::CalledOff { action: call.action.clone(), done });
            }
        };
        let answer = answer.map_err(|fault| {
            let unsure = if fault.may_have_arrived { unsure } else { "" };
            ActionError::Failed { action: call.action.clone(), why: format!("{}{unsure}", fault.why) }
        })?;
        let is_expected = request.expect.holds(answer.status);
        let how = format!("the answer was {}, expected was {}", answer.status, request.expect.shown());
        let verified = if is_expected { Verified::seen(how) } else { Verified::missed(how) };
        let mut done = Done::new(format!("sent {}, answered with {}", request.shown(), answer.status), verified);
        done.affected = u64::from(!is_read && is_expected);
        done.inverse = if is_expected { inverse(&self.settings, call)? } else { None };
        done.answer = json!({
            "status": answer.status,
            "content_type": answer.content_type,
            "body": answer.body,
            "bytes": answer.bytes,
            "truncated": answer.is_truncated,
            "location": answer.location,
        });
        Ok(done)
    }
}

/// The request that takes this one back, where the call names one.
fn inverse(settings: &Settings, call: &Call) -> Result<Option<Call>, ActionError> {
    let Some(method) = call.text_or_none("undo_method")? else {
        return match ["undo_url", "undo_body"].iter().find(|name| call.arguments.contains_key(**name)) {
            Some(name) => Err(call.fault(name, "undo_method must be given with it")),
            None => Ok(None),
        };
    };
    let mut undo = Call { arguments: serde_json::Map::new(), ..call.clone() };
    let keep = |from: &str| call.arguments.get(from).cloned();
    undo.arguments.insert("method".to_owned(), method.into());
    let parts = [("url", keep("undo_url").or_else(|| keep("url"))), ("body", keep("undo_body")), ("headers", keep("headers"))];
    for (name, value) in parts {
        if let Some(value) = value {
            undo.arguments.insert(name.to_owned(), value);
        }
    }
    let request = Request::read(settings, &undo).map_err(|error| call.fault("undo_method", error.to_string()))?;
    if request.effect() == Effect::Destroy {
        undo.arguments.insert("confirm".to_owned(), request.phrase().into());
    }
    Ok(Some(undo))
}

impl Adapter for Requests {
    fn specs(&self) -> &'static [Spec] {
        SPECS
    }

    fn plan<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Plan, ActionError>> {
        Box::pin(async move { self.plan_request(call) })
    }

    fn execute<'a>(&'a self, call: &'a Call, plan: &'a Plan, cancel: &'a CancellationToken) -> BoxFuture<'a, Result<Done, ActionError>> {
        Box::pin(self.send(call, plan, cancel))
    }
}
