//! `paramedic switch` and `paramedic flag`.

use anyhow::Result;
use paramedic_action::switch::Switch;
use paramedic_api::operations::flags::{FlagList, FlagView};
use paramedic_api::operations::switches::SwitchChanged;
use paramedic_model::{Clock as _, SystemClock, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::args::{Common, FlagVerb, SwitchVerb};
use crate::exit::Exit;
use crate::face::Face;
use crate::show;

#[derive(Debug, Deserialize)]
struct Listed {
    switches: Vec<Switch>,
    enforcers: Vec<Enforcer>,
    known: Vec<Known>,
}

#[derive(Debug, Deserialize)]
struct Enforcer {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Known {
    name: String,
    kind: String,
    what: String,
}

pub(super) async fn switch(common: &Common, verb: &SwitchVerb) -> Result<Exit> {
    let face = Face::open_running(common).await?;
    let (operation, input) = match verb {
        SwitchVerb::List => return list_switches(common, &face).await,
        SwitchVerb::Set { name, value, ttl, scope, why } => {
            let value: Value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.clone()));
            ("switch.set", json!({"switch": name, "value": value, "ttl": ttl, "scope": scope, "why": why}))
        }
        SwitchVerb::Clear { id, why } => ("switch.clear", json!({"id": id, "why": why})),
    };
    let (changed, value) = face.post::<SwitchChanged>(operation, &input).await?;
    if common.json {
        show::json(&value)?;
    } else if operation == "switch.set" {
        show::line(&words(&changed.switch))?;
    } else {
        show::line(&format!("{} does not hold any more", show::clean(&changed.switch.id)))?;
    }
    Ok(Exit::Done)
}

fn words(switch: &Switch) -> String {
    let why = if switch.why.is_empty() { String::new() } else { format!(": {}", show::clean(&switch.why)) };
    format!("{} = {} until {}, by {}{why}", show::clean(&switch.id), switch.value, switch.expires_at, show::clean(&switch.by))
}

async fn list_switches(common: &Common, face: &Face) -> Result<Exit> {
    let (all, value) = face.get::<Listed>("switch.list", &json!({})).await?;
    if common.json {
        show::json(&value)?;
        return Ok(Exit::Done);
    }
    if all.switches.is_empty() {
        show::line("No switch holds now.")?;
    }
    all.switches.iter().try_for_each(|switch| show::line(&words(switch)))?;
    let enforcers: Vec<String> = all.enforcers.iter().map(|one| show::clean(&one.name)).collect();
    let enforced = if enforcers.is_empty() { "nobody: what is set here does nothing yet".to_owned() } else { enforcers.join(", ") };
    show::line(&format!("enforced by {enforced}\n"))?;
    show::table(&["switch", "value", "what it does"], all.known.into_iter().map(|known| vec![known.name, known.kind, known.what]))?;
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
        show::json(&value)?
    } else {
        show::line(&flag_words(&flag))?
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
