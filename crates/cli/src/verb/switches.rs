//! `paramedic switch` and `paramedic flag`.

use anyhow::Result;
use clap::CommandFactory as _;
use paramedic_api::operations::flags::{FlagList, FlagView};
use paramedic_api::operations::switches::{KnownSwitch, SwitchChanged, SwitchEffect, known_switches};
use paramedic_model::switch::{Switch, ValueKind, find, own_name};
use paramedic_model::{Clock as _, SystemClock, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::args::{Args, Common, FlagVerb, SwitchHow, SwitchVerb};
use crate::exit::Exit;
use crate::face::Face;
use crate::show;

#[derive(Debug, Deserialize)]
struct Listed {
    switches: Vec<Value>,
    enforcers: Vec<Enforcer>,
}

#[derive(Debug, Deserialize)]
struct WithEffect {
    #[serde(default)]
    effect: Option<SwitchEffect>,
}

#[derive(Debug, Deserialize)]
struct Enforcer {
    name: String,
}

pub(super) async fn switch(common: &Common, verb: &SwitchVerb) -> Result<Exit> {
    match verb {
        SwitchVerb::List => list_switches(common).await,
        SwitchVerb::Known => known(common),
        SwitchVerb::Set { name, value, how } => set(common, name, value, how).await,
        SwitchVerb::Clear { id, scope, reason } => clear(common, id, scope.as_deref(), reason).await,
    }
}

/// What was written, as the switch wants it. An instance that knows more switches than this program judges the rest.
fn value_of(name: &str, written: &str) -> Value {
    match (find(name).map(|known| known.kind), written) {
        (Ok(ValueKind::Flag), "on" | "yes") => Value::Bool(true),
        (Ok(ValueKind::Flag), "off" | "no") => Value::Bool(false),
        (Ok(ValueKind::Text | ValueKind::Word), text) => Value::String(text.to_owned()),
        (_, text) => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
    }
}

/// Ends the program as every other wrong command line does.
fn without_a_time(name: &str, value: &str) -> ! {
    let what = format!("the switch {name} must end: say for how long it holds, as in\n  paramedic switch set {name} {value} --for 30m");
    let mut command = Args::command();
    command.build();
    let set = command.find_subcommand_mut("switch").and_then(|switch| switch.find_subcommand_mut("set"));
    let error = |command: &mut clap::Command| command.error(clap::error::ErrorKind::MissingRequiredArgument, &what);
    set.map_or_else(|| error(&mut Args::command()), error).exit()
}

pub(super) async fn set(common: &Common, written: &str, value: &str, how: &SwitchHow) -> Result<Exit> {
    let (name, SwitchHow { scope, lasts, reason }) = (own_name(written), how);
    if lasts.is_none() && find(name).is_ok_and(|known| !known.lasting) {
        without_a_time(written, value);
    }
    let face = Face::open_running(common).await?;
    let input = json!({"switch": name, "value": value_of(name, value), "ttl": lasts, "scope": scope, "why": reason});
    let (changed, answer) = face.post::<SwitchChanged>("switch.set", &input).await?;
    if common.json {
        show::json(&answer)?;
        return Ok(Exit::Done);
    }
    if name != written {
        show::line(&format!("{} is the switch {name}", show::clean(written)))?;
    }
    show::line(&words(&changed.switch))?;
    Ok(Exit::Done)
}

pub(super) async fn clear(common: &Common, id: &str, scope: Option<&str>, reason: &str) -> Result<Exit> {
    let face = Face::open_running(common).await?;
    let (changed, answer) = face.post::<SwitchChanged>("switch.clear", &json!({"id": id, "scope": scope, "why": reason})).await?;
    if common.json {
        show::json(&answer)?;
    } else {
        show::line(&format!("{} does not hold any more", show::clean(&changed.switch.id)))?;
    }
    Ok(Exit::Done)
}

fn words(switch: &Switch) -> String {
    let why = if switch.why.is_empty() { String::new() } else { format!(": {}", show::clean(&switch.why)) };
    let until = match find(&switch.switch) {
        // Only a flag makes a switch last that may not.
        Ok(known) if switch.lasts() && !known.lasting => "until its flag changes".to_owned(),
        _ if switch.lasts() => "until it is cleared".to_owned(),
        _ => format!("until {}", switch.expires_at),
    };
    format!("{} = {} {until}, by {}{why}", show::clean(&switch.id), show::clean(&plain(&switch.value)), show::clean(&switch.by))
}

/// `20`, not `20.0`; `claude-haiku` without quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => {
            number.as_f64().filter(|_| number.is_f64()).map_or_else(|| number.to_string(), |amount| amount.to_string())
        }
        other => other.to_string(),
    }
}

/// `acted on 12 calls, last: ...; refused/min 0 -> 3.5`.
fn effect_words(effect: &SwitchEffect) -> String {
    let last = if effect.last.is_empty() { String::new() } else { format!(", the last time: {}", show::clean(&effect.last)) };
    let a_minute = |calls: f64| if calls >= 10.0 || calls == 0.0 { format!("{calls:.0}") } else { format!("{calls:.1}") };
    let saved = effect.saved_dollars.map_or_else(String::new, |dollars| format!("; saved ${dollars:.2} so far"));
    format!(
        "acted on {}{last}{saved}; refused/min {} -> {}",
        super::agents::many(effect.calls, "call"),
        a_minute(effect.refused_per_minute_before),
        a_minute(effect.refused_per_minute_after)
    )
}

async fn list_switches(common: &Common) -> Result<Exit> {
    let face = Face::open_running(common).await?;
    let (all, value) = face.get::<Listed>("switch.list", &json!({})).await?;
    if common.json {
        show::json(&value)?;
        return Ok(Exit::Done);
    }
    if all.switches.is_empty() {
        show::line("No switch holds now.")?;
    }
    for listed in &all.switches {
        show::line(&words(&Switch::deserialize(listed)?))?;
        if let Some(effect) = WithEffect::deserialize(listed)?.effect {
            show::line(&format!("  {}", effect_words(&effect)))?;
        }
    }
    let enforcers: Vec<String> = all.enforcers.iter().map(|one| show::clean(&one.name)).collect();
    let enforced = if enforcers.is_empty() {
        "nobody: no gateway runs here, so that what is set does nothing".to_owned()
    } else {
        enforcers.join(", ")
    };
    show::line(&format!("enforced by {enforced}"))?;
    show::line("paramedic switch known lists all that can be set")?;
    Ok(Exit::Done)
}

/// All switches of this program; no instance is asked.
fn known(common: &Common) -> Result<Exit> {
    let all = known_switches();
    if common.json {
        show::json(&json!({ "known": all }))?;
        return Ok(Exit::Done);
    }
    let takes = |one: &KnownSwitch| match one.kind {
        ValueKind::Flag => "true, false".to_owned(),
        ValueKind::Count => "a whole number".to_owned(),
        ValueKind::Amount => "a number".to_owned(),
        ValueKind::Text => "a name".to_owned(),
        ValueKind::Word => one.words.join(", "),
    };
    let name = |one: &KnownSwitch| if one.name.ends_with(':') { format!("{}NAME", one.name) } else { one.name.to_owned() };
    let row = |one: KnownSwitch| vec![name(&one), takes(&one), one.what.to_owned(), one.flag_names.join(", ")];
    show::table(&["switch", "takes", "what it does", "also called"], all.into_iter().map(row))?;
    show::line("\nEach holds for a time (--for 30m, at most 24h); budgets hold until they are cleared.")?;
    Ok(Exit::Done)
}

pub(super) async fn flag(common: &Common, verb: &FlagVerb) -> Result<Exit> {
    let face = Face::open_running(common).await?;
    let set = |enabled: bool| if enabled { "flag.enable" } else { "flag.disable" };
    let input = |name: &str, ttl: &Option<String>, why: &str| json!({"name": name, "ttl": ttl, "why": why});
    let (operation, input) = match verb {
        FlagVerb::List => return list_flags(common, &face).await,
        FlagVerb::Show { name } => return show_flag(common, &face, name).await,
        FlagVerb::Set { name, value, ttl, why } => (set(matches!(value.as_str(), "on" | "true")), input(name, ttl, why)),
        FlagVerb::Enable { name, ttl, why } => (set(true), input(name, ttl, why)),
        FlagVerb::Disable { name, ttl, why } => (set(false), input(name, ttl, why)),
    };
    let (flag, value) = face.post::<FlagView>(operation, &input).await?;
    if common.json {
        show::json(&value)?;
    } else {
        show::line(&flag_words(&flag))?;
        let switch = own_name(&flag.flag.name);
        if switch != flag.flag.name && find(switch).is_ok_and(|known| known.kind == ValueKind::Flag) {
            show::line(&format!("the gateway takes it for the switch {switch} = {} for all", flag.flag.enabled))?;
        }
    }
    Ok(Exit::Done)
}

const fn word(enabled: bool) -> &'static str {
    if enabled { "on" } else { "off" }
}

fn flag_words(view: &FlagView) -> String {
    let flag = &view.flag;
    let until = flag
        .expires_at
        .filter(|at| *at > SystemClock.now())
        .map_or_else(String::new, |at| format!(" until {at}, then {}", word(flag.then)));
    format!("{} is {}{until}", show::clean(&flag.name), word(flag.enabled))
}

async fn list_flags(common: &Common, face: &Face) -> Result<Exit> {
    let (all, value) = face.get::<FlagList>("flag.list", &json!({})).await?;
    if common.json {
        show::json(&value)?;
        return Ok(Exit::Done);
    }
    if all.flags.is_empty() {
        show::line("No flag was ever set.")?;
        return Ok(Exit::Done);
    }
    let until = |at: Option<Timestamp>| at.map_or_else(String::new, |at| at.to_string());
    let rows = all.flags.into_iter().map(|FlagView { flag, .. }| {
        vec![flag.name, word(flag.enabled).to_owned(), until(flag.expires_at), flag.by, flag.set_at.to_string(), flag.why]
    });
    show::table(&["flag", "is", "until", "set by", "at", "why"], rows)?;
    Ok(Exit::Done)
}

async fn show_flag(common: &Common, face: &Face, name: &str) -> Result<Exit> {
    let (flag, value) = face.get::<FlagView>("flag.get", &json!({"name": name})).await?;
    if common.json {
        show::json(&value)?;
        return Ok(Exit::Done);
    }
    show::line(&flag_words(&flag))?;
    for change in flag.history.iter().rev() {
        show::line(&format!("  {}  {:<3} {}  {}", change.at, word(change.enabled), show::clean(&change.by), show::clean(&change.why)))?;
    }
    Ok(Exit::Done)
}
