//! A setting of the whole server, written to `postgresql.auto.conf` and seen to apply.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::Settings;
use super::link::Link;
use super::value::{Shape, identifier, literal};
use crate::address::shown;
use crate::call::{Call, Done, Object, Plan, Verified};
use crate::error::ActionError;
use crate::spec::Effect;

/// Never set here: with these the server runs programs, opens doors, or loses data.
const NEVER: &[(&str, &str)] = &[
    ("command", "with it the server runs programs"),
    ("librar", "with it the server loads programs"),
    ("jit_provider", "with it the server loads programs"),
    ("listen_addresses", "it decides who may come in"),
    ("port", "it decides who may come in"),
    ("unix_socket", "it decides who may come in"),
    ("ssl", "it decides who may come in"),
    ("krb_", "it decides who may come in"),
    ("gss_", "it decides who may come in"),
    ("password_encryption", "it decides who may come in"),
    ("_file", "it names a file of the server"),
    ("data_directory", "it names a file of the server"),
    ("log_directory", "it names a file of the server"),
    ("log_filename", "it names a file of the server"),
    ("conninfo", "it may hold a password"),
    ("fsync", "without it data is lost"),
    ("full_page_writes", "without it data is lost"),
    ("zero_damaged_pages", "with it data is lost"),
    ("ignore_", "with it damage is not seen"),
    ("allow_", "with it the server's own tables can be changed"),
    ("search_path", "it is a list of names, which is not written as one text"),
    ("temp_tablespaces", "it is a list of names, which is not written as one text"),
];

/// What was found out about a setting.
struct Found {
    shape: Shape,
    context: String,
    /// What a new session starts with.
    now: String,
    source: String,
    pending_restart: bool,
    /// What `postgresql.auto.conf` holds.
    auto: Option<String>,
    /// What was wrong with it when the files were last read.
    fault: Option<String>,
}

impl Found {
    fn stands_on(&self) -> String {
        json!([self.now, self.auto]).to_string()
    }

    fn needs_restart(&self) -> bool {
        self.context == "postmaster"
    }
}

/// What is wanted of a setting.
struct Wanted {
    name: String,
    /// None: it is removed from `postgresql.auto.conf`.
    value: Option<String>,
    restart_later: bool,
}

impl Wanted {
    fn of(call: &Call) -> Result<Self, ActionError> {
        let name = call.text("setting")?.to_ascii_lowercase();
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.');
        if !plain || name.len() > 128 {
            return Err(call.fault("setting", format!("{:?} is not the name of a setting", shown(&name, None))));
        }
        if let Some((_, why)) =
            NEVER.iter().find(|(part, _)| if part.len() < 6 { name.starts_with(part) || name.ends_with(part) } else { name.contains(part) })
        {
            return Err(ActionError::Refused { action: call.action.clone(), why: format!("{name} is not set from here, {why}") });
        }
        let reset = call.flag_or("reset", false)?;
        let value = match call.arguments.get("value") {
            None | Some(serde_json::Value::Null) => None,
            Some(serde_json::Value::String(text)) => Some(text.clone()),
            Some(_) => call.text_or_none("value")?,
        };
        match (&value, reset) {
            (None, false) => return Err(call.fault("value", "it is not given, and reset is not true")),
            (Some(_), true) => return Err(call.fault("reset", "it is true, and there is a value too")),
            _ => {}
        }
        Ok(Self { name, value, restart_later: call.flag_or("restart_later", false)? })
    }

    /// `ALTER SYSTEM` takes no parameters, so its name and its text are quoted.
    fn statement(&self) -> String {
        let name = identifier(&self.name);
        match &self.value {
            Some(value) => format!("ALTER SYSTEM SET {name} = {}", literal(value)),
            None => format!("ALTER SYSTEM RESET {name}"),
        }
    }

    fn text(&self) -> String {
        self.value.as_ref().map_or_else(|| "what the other files say".to_owned(), |value| format!("\"{}\"", shown(value, None)))
    }
}

async fn find(link: &Link, name: &str) -> Result<Found, ActionError> {
    let statement = "SELECT name, vartype, unit, min_val, max_val, coalesce(enumvals, '{}') AS enumvals, context, coalesce(reset_val, '') AS now, \
        source, pending_restart FROM pg_settings WHERE name = $1";
    let rows = link.rows(statement, &[&name]).await?;
    let row = rows
        .first()
        .ok_or_else(|| ActionError::NotFound { what: format!("the setting {name}"), why: "the server does not know it".to_owned() })?;
    let shape = Shape {
        name: link.get(row, "name")?,
        vartype: link.get(row, "vartype")?,
        unit: link.get(row, "unit")?,
        min: link.get(row, "min_val")?,
        max: link.get(row, "max_val")?,
        choices: link.get(row, "enumvals")?,
    };
    let files = "SELECT setting, error FROM pg_file_settings WHERE name = $1 AND sourcefile LIKE '%postgresql.auto.conf' ORDER BY seqno DESC LIMIT 1";
    let files = link.rows(files, &[&name]).await?;
    let of_file = |column: &str| files.first().map(|row| link.get::<Option<String>>(row, column)).transpose();
    Ok(Found {
        shape,
        context: link.get(row, "context")?,
        now: link.get(row, "now")?,
        source: link.get(row, "source")?,
        pending_restart: link.get(row, "pending_restart")?,
        auto: of_file("setting")?.flatten(),
        fault: of_file("error")?.flatten(),
    })
}

/// Refused when it cannot do what is wanted.
async fn fitting(link: &Link, call: &Call, wanted: &Wanted, found: &Found) -> Result<(), ActionError> {
    if found.context == "internal" {
        return Err(link.refused(format!("{} is fixed when the server is built or its data folder is made", wanted.name)));
    }
    if found.source == "command line" || found.source == "environment variable" {
        return Err(link.refused(format!("{} was given on the server's command line, which is stronger than its files", wanted.name)));
    }
    let Some(value) = &wanted.value else { return Ok(()) };
    found.shape.check(value).map_err(|why| call.fault("value", why))?;
    if matches!(found.context.as_str(), "user" | "superuser") {
        // The server itself says whether it would take the value; a transaction that is rolled back changes nothing.
        link.run("BEGIN").await?;
        let tried = link.rows("SELECT set_config($1, $2, true)", &[&wanted.name, value]).await;
        link.run("ROLLBACK").await?;
        tried.map_err(|error| call.fault("value", error.to_string()))?;
    }
    Ok(())
}

fn back(call: &Call, name: &str, found: &Found) -> Call {
    let mut back = Call::new("postgres.alter_system").with("setting", name);
    back = match &found.auto {
        Some(value) => back.with("value", value.as_str()),
        None => back.with("reset", true),
    };
    if found.needs_restart() {
        back = back.with("restart_later", true);
    }
    back.by.clone_from(&call.by);
    back.reason = "take back what was changed".to_owned();
    back
}

pub(super) async fn plan(settings: &Settings, call: &Call) -> Result<Plan, ActionError> {
    let wanted = Wanted::of(call)?;
    let link = Link::open(settings, &call.action, None).await?;
    let found = find(&link, &wanted.name).await?;
    fitting(&link, call, &wanted, &found).await?;
    let unit = found.shape.unit.as_deref().map_or_else(String::new, |unit| format!(" (in units of {unit})"));
    let (name, now) = (&wanted.name, shown(&found.now, None));
    let mut plan = Plan::new(call, Effect::Write, format!("set {name} of the whole server from \"{now}\"{unit} to {}", wanted.text()));
    let auto = found
        .auto
        .as_ref()
        .map_or_else(|| "not in postgresql.auto.conf".to_owned(), |value| format!("\"{}\" in postgresql.auto.conf", shown(value, None)));
    plan.objects.push(Object {
        kind: "setting".to_owned(),
        name: name.clone(),
        detail: format!("now \"{now}\"{unit} from {}, {auto}", found.source),
    });
    plan.affected = u64::from(wanted.value != found.auto);
    plan.exact = vec![wanted.statement(), "SELECT pg_reload_conf()".to_owned()];
    plan.inverse = Some(back(call, name, &found));
    plan.stands_on = found.stands_on();
    plan.warnings.extend(doubts(&found));
    Ok(plan)
}

fn doubts(found: &Found) -> Vec<String> {
    let mut doubts = Vec::new();
    match found.context.as_str() {
        "postmaster" => doubts.push("it applies only after a restart of the server".to_owned()),
        "backend" | "superuser-backend" => doubts.push("a reload is enough; it applies to new connections only".to_owned()),
        _ => doubts.push("a reload is enough".to_owned()),
    }
    if found.pending_restart {
        doubts.push("a change of it waits for a restart already".to_owned());
    }
    if matches!(found.source.as_str(), "database" | "user" | "database user") {
        doubts.push(format!("it is set for our {} too, which is stronger: our own connections will not show it", found.source));
    }
    doubts
}

pub(super) async fn execute(settings: &Settings, call: &Call, plan: &Plan) -> Result<Done, ActionError> {
    let wanted = Wanted::of(call)?;
    let link = Link::open(settings, &call.action, None).await?;
    let found = find(&link, &wanted.name).await?;
    if found.stands_on() != plan.stands_on {
        return Err(link.changed(format!("{} is now \"{}\"", wanted.name, shown(&found.now, None))));
    }
    fitting(&link, call, &wanted, &found).await?;
    link.run(&wanted.statement()).await?;
    let reloaded = link.rows("SELECT pg_reload_conf()", &[]).await;
    reloaded.map_err(|error| link.failed(format!("{error}; postgresql.auto.conf is written, the server was not told to read it")))?;
    let (after, verified) = applied(settings, call, &wanted, &found).await?;
    let mut done = Done::new(format!("set {} of the whole server to {}", wanted.name, wanted.text()), verified);
    done.affected = 1;
    let facts = |found: &Found| json!({ "setting": found.now, "auto": found.auto, "pending_restart": found.pending_restart });
    (done.before, done.after) = (facts(&found), facts(&after));
    done.inverse = Some(back(call, &wanted.name, &found));
    Ok(done)
}

/// Asks in new connections, because old ones may not have read the files yet.
async fn applied(settings: &Settings, call: &Call, wanted: &Wanted, before: &Found) -> Result<(Found, Verified), ActionError> {
    let until = Instant::now() + Duration::from_secs(settings.verify_s);
    let written = |error: ActionError| ActionError::Failed {
        action: call.action.clone(),
        why: format!("{error}; postgresql.auto.conf is written and the server was told to read it"),
    };
    loop {
        let link = Link::open(settings, &call.action, None).await.map_err(written)?;
        let found = find(&link, &wanted.name).await.map_err(written)?;
        // What is not taken before a restart is no fault of the file.
        if let Some(fault) = found.fault.as_ref().filter(|_| !found.needs_restart()) {
            let how = format!("the server does not take it: {}", shown(fault, None));
            return Ok((found, Verified::missed(how)));
        }
        let filed = match &wanted.value {
            Some(value) => found.auto.as_ref().is_some_and(|auto| auto == value || found.shape.same(value, auto)),
            None => found.auto.is_none(),
        };
        let how = format!("a new connection sees \"{}\" from {}", shown(&found.now, None), found.source);
        let in_use = match &wanted.value {
            Some(value) => found.shape.same(value, &found.now),
            None => file_of(&link, &wanted.name).await?.is_none_or(|file| !file.ends_with("postgresql.auto.conf")),
        };
        if filed && in_use && !found.pending_restart {
            return Ok((found, Verified::seen(how)));
        }
        if filed && found.needs_restart() && found.pending_restart {
            let how = format!("it will apply at the next restart (pending_restart is true); now {how}");
            let verified = if wanted.restart_later { Verified::seen(how) } else { Verified::missed(how) };
            return Ok((found, verified));
        }
        if Instant::now() > until {
            let why = if found.now == before.now { "nothing has changed" } else { "it is something else" };
            return Ok((found, Verified::missed(format!("{why} after {} s: {how}", settings.verify_s))));
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn file_of(link: &Link, name: &str) -> Result<Option<String>, ActionError> {
    link.get(&link.row("SELECT sourcefile FROM pg_settings WHERE name = $1", &[&name]).await?, "sourcefile")
}
