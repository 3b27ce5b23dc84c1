//! `paramedic config [default|reference|openapi|actions|runbook-lint]`: documents that are made from the program.

use std::fmt::Write as _;

use anyhow::Result;
use paramedic_action::{Effect, Kind, Spec, catalogue};
use paramedic_runbook::lint::{RULES, Weight};
use paramedic_server::settings::{DEFAULT_TOML, reference};

use crate::args::ConfigDocument;
use crate::exit::Exit;
use crate::show;

pub(super) fn config(document: ConfigDocument) -> Result<Exit> {
    match document {
        ConfigDocument::Default => show::line(DEFAULT_TOML.trim_end())?,
        ConfigDocument::Reference => show::line(reference().trim_end())?,
        ConfigDocument::Openapi => show::json(&paramedic_api::openapi::document(env!("CARGO_PKG_VERSION")))?,
        ConfigDocument::Actions => show::line(actions().trim_end())?,
        ConfigDocument::RunbookLint => show::line(runbook_lint().trim_end())?,
    }
    Ok(Exit::Done)
}

/// A text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

const ACTIONS_HEAD: &str = "# Actions

Made from the program by `paramedic config actions`; a test fails when this file is stale. What an action would do is said by
`paramedic action plan NAME --set KEY=VALUE`, which changes nothing; a step of a runbook names one as
`redis.census: { pattern: \"cache:*\" }`.

*Looks*: it runs by itself. *Changes*: somebody approves it, or a policy does. *Destroys*: what it takes does not come back, and two
people approve it. An argument in **bold** is needed. A duration is `90s`, `10m`, `1h`, `2d`, or a number of seconds.
";

/// Every action with its arguments, one section for each kind of thing.
fn actions() -> String {
    let mut page = ACTIONS_HEAD.to_owned();
    let mut section = "";
    for spec in catalogue::all() {
        let thing = spec.name.split_once('.').map_or("the instance", |(thing, _)| thing);
        if thing != section {
            section = thing;
            let _ = write!(page, "\n## {thing}\n\n| action | what it does | effect | arguments | way back |\n|---|---|---|---|---|\n");
        }
        let effect = match spec.effect {
            Effect::Read => "looks",
            Effect::Write => "changes",
            Effect::Destroy => "**destroys**",
        };
        let (name, what, arguments, undo) = (spec.name, cell(spec.summary), arguments(spec), cell(spec.undo));
        let _ = writeln!(page, "| `{name}` | {what} | {effect} | {arguments} | {undo} |");
    }
    page
}

fn arguments(spec: &Spec) -> String {
    let one = |argument: &paramedic_action::Argument| {
        let kind = match argument.kind {
            Kind::Text => "text",
            Kind::Count => "count",
            Kind::Duration => "duration",
            Kind::Flag => "flag",
            Kind::Json => "JSON",
        };
        let name = if argument.required { format!("**`{}`**", argument.name) } else { format!("`{}`", argument.name) };
        format!("{name} ({kind}): {}", cell(argument.what))
    };
    let all: Vec<String> = spec.arguments.iter().map(one).collect();
    if all.is_empty() { "–".to_owned() } else { all.join("<br>") }
}

const LINT_HEAD: &str = "# What lint looks for in runbooks

Made from the program by `paramedic config runbook-lint`; a test fails when this file is stale. `paramedic runbook lint FILE…` names
each place with its line, the reason, and what to write instead. An *error* does harm or cannot work as written, and ends the command
with status 5; a *warning* will bite some day; a *note* is worth knowing.

| rule | weight | what it looks for | safer |
|---|---|---|---|
";

fn runbook_lint() -> String {
    let mut page = LINT_HEAD.to_owned();
    for rule in RULES {
        let weight = match rule.weight {
            Weight::Error => "**error**",
            Weight::Warning => "warning",
            Weight::Note => "note",
        };
        let _ = writeln!(page, "| `{}` | {weight} | {} | {} |", rule.id, cell(rule.what), cell(rule.safer));
    }
    page
}
