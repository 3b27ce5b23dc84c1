//! Every action there is, whether or not its other side is set up.

use crate::spec::{Argument, Effect, Kind, Spec};
use crate::{flag, git, http, kubernetes, postgres, process, redis, restore, service, switch};

/// Actions that an instance answers from its own journal. No adapter carries them out.
pub const OF_THE_INSTANCE: &[Spec] = &[Spec {
    name: "recent_changes",
    summary: "Lists what was changed before the incident began: steps that changed something, flags, switches. Only in a step of a runbook.",
    effect: Effect::Read,
    arguments: &[
        Argument::optional("window", Kind::Duration, "how far to look back; default 1h"),
        Argument::optional("service", Kind::Text, "which service it is asked for; all changes are listed"),
    ],
    undo: "nothing to undo",
}];

/// Those of all adapters, then those of the instance itself.
#[must_use]
pub fn all() -> Vec<&'static Spec> {
    [
        process::SPECS,
        service::SPECS,
        redis::SPECS,
        postgres::SPECS,
        http::SPECS,
        git::SPECS,
        restore::SPECS,
        kubernetes::specs::SPECS,
        flag::SPECS,
        switch::SPECS,
        OF_THE_INSTANCE,
    ]
    .into_iter()
    .flatten()
    .collect()
}
