//! `paramedic brake status|on|off|release`: stopping must work whatever state the instance is in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use paramedic_model::{secret, text};
use paramedic_runbook::brake::Stopped;
use paramedic_runbook::run::stopped_by;
use paramedic_server::STOP_FILE;
use serde_json::{Value, json};

use crate::args::{BrakeVerb, Common};
use crate::exit::{Exit, Failure, message};
use crate::face::{self, Face};
use crate::show;

/// An instance that does not answer within this time is stopped by the file.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn brake(common: &Common, verb: Option<&BrakeVerb>) -> Result<Exit> {
    match verb {
        None | Some(BrakeVerb::Status) => status(common).await,
        Some(BrakeVerb::On { everything, why }) => on(common, *everything, why).await,
        Some(BrakeVerb::Off { why }) => off(common, why).await,
        Some(BrakeVerb::Release { why }) => {
            let face = Face::open_running(common).await?;
            let (value, _) = face.post::<Value>("brake.release", &json!({"why": why})).await?;
            print(common, &value)
        }
    }
}

/// Where the stop file lies; none for an instance elsewhere.
fn stop_file(common: &Common) -> Result<Option<PathBuf>> {
    if common.server.is_some() {
        return Ok(None);
    }
    let named = face::settings(common)?.runbook.stop_file;
    Ok(Some(if named.is_empty() { face::data_dir(common)?.join(STOP_FILE) } else { named.into() }))
}

/// The instance, if one runs and answers in time.
async fn ask(common: &Common, operation: &str, input: &Value) -> Result<Option<Value>> {
    let asked = async {
        let face = Face::open_running(common).await?;
        face.post::<Value>(operation, input).await
    };
    match tokio::time::timeout(ANSWER_TIMEOUT, asked).await {
        Ok(Ok((_, value))) => Ok(Some(value)),
        Ok(Err(error)) if common.server.is_some() => Err(error),
        Ok(Err(error)) => match error.downcast_ref::<Failure>() {
            // A refusal is an answer; a file must not go round it.
            Some(failure) if failure.exit == Exit::Refused => Err(error),
            _ => Ok(None),
        },
        Err(_) if common.server.is_some() => Err(anyhow::anyhow!("the instance did not answer within {} s", ANSWER_TIMEOUT.as_secs())),
        Err(_) => Ok(None),
    }
}

async fn on(common: &Common, everything: bool, why: &str) -> Result<Exit> {
    let what = if everything { "everything" } else { "writes" };
    if let Some(value) = ask(common, "brake.stop", &json!({"what": what, "why": why})).await? {
        return print(common, &value);
    }
    let file = stop_file(common)?.context("there is no data folder to put a stop file into")?;
    // Somebody may have stopped more already.
    let stopped = stopped_by(&file);
    if stopped != Stopped::Everything && (everything || stopped == Stopped::Nothing) {
        write(&file, what, why)?;
    }
    message("no instance answered, so the stop file was written: every instance on this data folder obeys it");
    without_instance(common, &file)
}

fn write(file: &Path, what: &str, why: &str) -> Result<()> {
    let named = || format!("failed to write {}", file.display());
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).with_context(named)?;
    }
    let line = format!("{what}\nby: {}\nwhy: {}\n", face::actor(), text::one_line(text::head(&secret::mask(why), 500)));
    std::fs::write(file, line).with_context(named)
}

async fn off(common: &Common, why: &str) -> Result<Exit> {
    let answer = ask(common, "brake.lift", &json!({"why": why})).await?;
    let file = stop_file(common)?;
    let had_file = file.as_deref().map(remove).transpose()?.unwrap_or(false);
    match (answer, file) {
        (Some(_), _) => status(common).await,
        (None, Some(file)) if had_file => {
            message("the stop file is gone; a kill switch that was set in an instance is lifted when one runs");
            without_instance(common, &file)
        }
        _ => Err(Failure::new(
            Exit::Unreachable,
            "no paramedic is running on this data folder, and there is no stop file",
            "start it with: paramedic up",
        )
        .into()),
    }
}

/// Whether there was one.
fn remove(file: &Path) -> Result<bool> {
    match std::fs::remove_file(file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("failed to take away {}", file.display())),
    }
}

async fn status(common: &Common) -> Result<Exit> {
    let answer = match Face::open_running(common).await {
        Ok(face) => face.get::<Value>("brake.get", &json!({})).await.map(|(value, _)| value),
        Err(error) => Err(error),
    };
    match (answer, stop_file(common)?) {
        (Ok(value), _) => print(common, &value),
        (Err(error), None) => Err(error),
        (Err(_), Some(file)) => without_instance(common, &file),
    }
}

fn without_instance(common: &Common, file: &Path) -> Result<Exit> {
    let stopped = stopped_by(file);
    let by_file = stopped > Stopped::Nothing;
    let value = json!({ "running": false, "stopped": stopped, "stopped_by_file": by_file, "file": file });
    if common.json {
        show::json(&value)?;
    } else {
        let words = match stopped {
            Stopped::Nothing => "nothing is stopped by a file",
            Stopped::Writes => "stopped by a file: what changes something",
            Stopped::Everything => "stopped by a file: everything",
        };
        show::line(&format!("{words} ({}); no instance answers", file.display()))?;
    }
    Ok(Exit::Done)
}

fn print(common: &Common, value: &Value) -> Result<Exit> {
    if common.json {
        show::json(value)?;
        return Ok(Exit::Done);
    }
    let text = |value: &Value| show::clean(value.as_str().unwrap_or_default());
    let stopped = match value["stopped"].as_str() {
        Some("writes") => "STOPPED: what changes something",
        Some("everything") => "STOPPED: everything, looking too",
        _ => "nothing is stopped",
    };
    let file = if value["stopped_by_file"] == true { " (the stop file is there)" } else { "" };
    show::line(&format!("kill switch  {stopped}{file}"))?;
    let note = &value["stopped_note"];
    if note.is_object() && value["stopped"] != "nothing" {
        show::line(&format!("             set by {} at {}: {}", text(&note["by"]), text(&note["at"]), text(&note["why"])))?;
    }
    let count = value["unattended_last_hour"].as_u64().unwrap_or(0);
    let limit = value["fleet_limit"].as_u64().unwrap_or(0);
    let fleet = match value["fleet"]["fleet"].as_str() {
        Some("tripped") => {
            format!("TRIPPED at {}: nothing changes unattended; paramedic brake release --why WHY", text(&value["fleet"]["at"]))
        }
        _ => "free".to_owned(),
    };
    show::line(&format!("fleet brake  {fleet}"))?;
    show::line(&format!("             {count} unattended changes in the last hour, the limit is {limit}"))?;
    for (lock, holder) in value["locks"].as_object().into_iter().flatten() {
        show::line(&format!("lock         {} held by {}", show::clean(lock), text(holder)))?;
    }
    Ok(Exit::Done)
}
