//! Feature flags: our own store, and another one over HTTP.
//!
//! **Takes** the name of a flag. **Gives** it set, with who wanted it, why and until when, durable before it is said. **Never**
//! forgets that a flag was to be set back, and never sends the token of one server to another.

use std::sync::Arc;

use paramedic_model::Clock;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::actions::{Adapter, BoxFuture};
use crate::call::{Call, Done, Plan};
use crate::error::ActionError;
use crate::spec::{Argument, Effect, Kind, Spec};

mod store;

mod own;

mod remote;

pub use store::{Change, Flag, FlagError, FlagStore, Flags as FlagFold, NAME_BYTES_MAX, checked_name};

/// Settings of these actions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Another flag server: `https://flags.internal/api`, asked at `/flags/{name}`. Default empty: our own store is used.
    pub url: String,
    /// Sent to that server as `Authorization: Bearer …`. Default empty: nothing is sent.
    pub token: String,
    /// How long to wait for an answer, in seconds. Default 10.
    pub timeout_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { url: String::new(), token: String::new(), timeout_s: 10 }
    }
}

const FLAG: Argument = Argument::required("flag", Kind::Text, "its name: letters, digits and `. _ : -`, at most 128");
const TTL: Argument = Argument::optional("ttl", Kind::Duration, "after this time it is set back as it was; default: it stays");
const UNTIL: Argument = Argument::optional("until", Kind::Text, "as `ttl`, as a time: `2026-01-14T10:41:23Z`");
const THEN: Argument = Argument::optional("then", Kind::Flag, "whether it is enabled after that time; default: as it lastingly was before");
const URL: Argument = Argument::optional("url", Kind::Text, "the flag server; default: the one of the settings, or our own store");

pub(crate) static SPECS: &[Spec] = &[
    Spec {
        name: "flag.disable",
        summary: "Switches a feature off, for good or for a time.",
        effect: Effect::Write,
        arguments: &[FLAG, TTL, UNTIL, THEN, URL],
        undo: "sets it as it was",
    },
    Spec {
        name: "flag.enable",
        summary: "Switches a feature on, for good or for a time.",
        effect: Effect::Write,
        arguments: &[FLAG, TTL, UNTIL, THEN, URL],
        undo: "sets it as it was",
    },
    Spec { name: "flag.read", summary: "Reads how a flag is set.", effect: Effect::Read, arguments: &[FLAG, URL], undo: "nothing to undo" },
];

/// The actions on feature flags.
pub struct Flags {
    settings: Settings,
    store: Option<Arc<FlagStore>>,
    clock: Arc<dyn Clock>,
}

impl Flags {
    #[must_use]
    pub fn new(settings: Settings, store: Option<Arc<FlagStore>>, clock: Arc<dyn Clock>) -> Self {
        Self { settings, store, clock }
    }

    async fn look(&self, call: &Call) -> Result<Plan, ActionError> {
        let name = name_of(call)?;
        match remote::Side::of(&self.settings, call)? {
            Some(side) => remote::plan(&side, call, &name, self.clock.now()).await,
            None => own::plan(self.store(call)?, call, &name, self.clock.now()),
        }
    }

    async fn act(&self, call: &Call, plan: &Plan) -> Result<Done, ActionError> {
        let name = name_of(call)?;
        match remote::Side::of(&self.settings, call)? {
            Some(side) => remote::execute(&side, call, plan, &name).await,
            None => own::execute(self.store(call)?, call, plan, &name, self.clock.now()).await,
        }
    }

    fn store(&self, call: &Call) -> Result<&FlagStore, ActionError> {
        let why = "there is no flag store here, and the setting action.flag.url is empty".to_owned();
        self.store.as_deref().ok_or_else(|| ActionError::NotSetUp { action: call.action.clone(), why })
    }
}

fn name_of(call: &Call) -> Result<String, ActionError> {
    let name = call.text("flag")?;
    checked_name(&name).map_err(|error| call.fault("flag", error.to_string()))?;
    Ok(name)
}

impl Adapter for Flags {
    fn specs(&self) -> &'static [Spec] {
        SPECS
    }

    fn plan<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Plan, ActionError>> {
        Box::pin(self.look(call))
    }

    fn execute<'a>(&'a self, call: &'a Call, plan: &'a Plan, _cancel: &'a CancellationToken) -> BoxFuture<'a, Result<Done, ActionError>> {
        Box::pin(self.act(call, plan))
    }
}
