//! Switches of the gateway: set with a value, a scope and an expiry, kept in the journal, listed for whoever enforces them.
//!
//! **Takes** the name of a switch, or the flag name by which people know it, its value, whom it is for and how long. **Gives** the
//! list of those that hold now, and a sign when it changes. **Never** keeps one without an expiry, but for budgets, which may last;
//! and never enforces one: that is done by whoever reads the list.

use std::sync::Arc;

use paramedic_model::Clock;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::actions::{Adapter, BoxFuture};
use crate::call::{Call, Done, Plan};
use crate::error::ActionError;
use crate::spec::{Argument, Effect, Kind, Spec};

mod store;

mod act;

mod by_flag;

pub use by_flag::{from_flags, is_by_flag, with_flags};
pub use paramedic_model::switch::{FLAG_NAMES, KNOWN, Known, Scope, Switch, SwitchFault, ValueKind, checked, find, never, own_name};
pub use store::{End, Ended, Enforcer, SwitchError, SwitchReader, SwitchStore, Switches as SwitchFold, TTL_MAX_S, checked_end, id_of};

const SWITCH: Argument = Argument::required(
    "switch",
    Kind::Text,
    "its name: `fast_fail`, `blocked_user:ana`, or a flag name that stands for it: `RATE_LIMIT_PER_USER`",
);
const SCOPE: Argument = Argument::optional(
    "scope",
    Kind::Text,
    "whom it is for: `all` (default), `key:…`, `user:…`, `team:…`, `agent:…`, `session:…`, `model:…`, `plugin:…`",
);

pub(crate) static SPECS: &[Spec] = &[
    Spec {
        name: "gateway.switch_set",
        summary: "Sets a switch of the gateway for a time; a budget also without an end.",
        effect: Effect::Write,
        arguments: &[
            SWITCH,
            Argument::required("value", Kind::Json, "true, a number or a name, as the switch wants it"),
            Argument::optional(
                "ttl",
                Kind::Duration,
                "how long it holds, at most 24h; it or `until` is needed, but for budgets, which may last",
            ),
            Argument::optional("until", Kind::Text, "as `ttl`, as a time: `2026-01-14T10:41:23Z`"),
            SCOPE,
        ],
        undo: "clears it, or sets the value before for the rest of its time",
    },
    Spec {
        name: "gateway.switch_clear",
        summary: "Ends a switch of the gateway before its time.",
        effect: Effect::Write,
        arguments: &[SWITCH, SCOPE],
        undo: "sets it again for the rest of its time",
    },
    Spec {
        name: "gateway.switches",
        summary: "Lists the switches that hold and those that ended lately.",
        effect: Effect::Read,
        arguments: &[],
        undo: "nothing to undo",
    },
];

/// The actions on switches of the gateway.
pub struct Switches {
    store: Arc<SwitchStore>,
    clock: Arc<dyn Clock>,
}

impl Switches {
    #[must_use]
    pub fn new(store: Arc<SwitchStore>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    fn look(&self, call: &Call) -> Result<Plan, ActionError> {
        let now = self.clock.now();
        match call.action.as_str() {
            "gateway.switch_set" => act::plan_set(&self.store, call, now),
            "gateway.switch_clear" => act::plan_clear(&self.store, call, now),
            "gateway.switches" => Ok(Plan::new(call, Effect::Read, "list the switches of the gateway")),
            other => Err(ActionError::Unknown(other.to_owned())),
        }
    }

    async fn act(&self, call: &Call, plan: &Plan) -> Result<Done, ActionError> {
        let now = self.clock.now();
        match call.action.as_str() {
            "gateway.switch_set" => act::set(&self.store, call, plan, now).await,
            "gateway.switch_clear" => act::clear(&self.store, call, plan, now).await,
            _ => {
                let (active, ended) = (self.store.active(now), self.store.ended());
                let what = format!("listed {} switches that hold", active.len());
                let enforcers: Vec<String> = self.store.enforcers(now).into_iter().map(|one| one.name).collect();
                let answer: Value = json!({ "count": active.len(), "active": active, "ended": ended, "enforcers": enforcers });
                Ok(Done::looked(what, answer))
            }
        }
    }
}

impl Adapter for Switches {
    fn specs(&self) -> &'static [Spec] {
        SPECS
    }

    fn plan<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Plan, ActionError>> {
        Box::pin(async move { self.look(call) })
    }

    fn execute<'a>(&'a self, call: &'a Call, plan: &'a Plan, _cancel: &'a CancellationToken) -> BoxFuture<'a, Result<Done, ActionError>> {
        Box::pin(self.act(call, plan))
    }
}
