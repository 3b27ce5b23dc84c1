//! `paramedic incident ID <change>`.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use paramedic_api::operations::incidents::EvidenceAnswer;
use paramedic_model::{IncidentKind, IncidentState, Moment, Role, Severity};
use paramedic_respond::attachments::ATTACHMENT_BYTES_MAX;
use serde_json::{Value, json};

use super::{change, response, time};
use crate::args::{Common, IncidentChange};
use crate::exit::{Exit, Failure, message};
use crate::face::Face;
use crate::show;

pub(super) async fn change_incident(common: &Common, id: &str, what: &IncidentChange) -> Result<Exit> {
    let (operation, input) = match what {
        IncidentChange::Note { text } => ("incident.note", json!({"id": id, "text": text})),
        IncidentChange::Ack => ("incident.acknowledge", json!({"id": id})),
        IncidentChange::Severity { severity, reason } => {
            ("incident.severity", json!({"id": id, "severity": severity.parse::<Severity>()?, "reason": reason}))
        }
        IncidentChange::Title { title } => ("incident.title", json!({"id": id, "title": title})),
        IncidentChange::State { state, reason } => {
            let state = IncidentState::from_name(state)
                .ok_or_else(|| unknown(state, "a state", "investigating, identified, mitigated, resolved, closed, cancelled"))?;
            ("incident.state", json!({"id": id, "state": state, "reason": reason}))
        }
        IncidentChange::Resolve { reason } => ("incident.resolve", json!({"id": id, "reason": reason})),
        IncidentChange::Close { reason } => ("incident.close", json!({"id": id, "reason": reason})),
        IncidentChange::Reopen { reason } => ("incident.reopen", json!({"id": id, "reason": reason})),
        IncidentChange::Cancel { reason } => ("incident.cancel", json!({"id": id, "reason": reason})),
        IncidentChange::Merge { into } => ("incident.merge", json!({"id": id, "into": into})),
        IncidentChange::Kind { kind, reason } => {
            let kind = IncidentKind::from_name(kind).ok_or_else(|| unknown(kind, "a kind", "real, drill"))?;
            ("incident.kind", json!({"id": id, "kind": kind, "reason": reason}))
        }
        IncidentChange::Role { assignments } => return assign(common, id, assignments).await,
        IncidentChange::Release { role: named, person } => {
            ("incident.release-role", json!({"id": id, "role": role(named)?, "person": person}))
        }
        IncidentChange::HandOver { role: named, to, note } => {
            ("incident.hand-over", json!({"id": id, "role": role(named)?, "to": to, "note": note}))
        }
        IncidentChange::Checklist => return response::checklist(common, id).await,
        IncidentChange::Tick { item, undo } => ("incident.tick", json!({"id": id, "item": item, "done": !undo})),
        IncidentChange::Attach { file, name, source } => ("incident.attach", attachment(id, file, name.as_deref(), source)?),
        IncidentChange::Evidence { name } => return evidence(common, id, name).await,
        IncidentChange::Split { title, agents, alerts } => {
            ("incident.split", json!({"id": id, "title": title, "agents": agents, "alerts": alerts}))
        }
        IncidentChange::BackDate { what, to, reason } => {
            let what =
                Moment::from_name(what).ok_or_else(|| unknown(what, "a time of incidents", "started, detected, mitigated, resolved"))?;
            ("incident.back-date", json!({"id": id, "what": what, "to": time(to)?, "reason": reason}))
        }
    };
    change(common, operation, input).await
}

fn unknown(given: &str, what: &str, known: &str) -> Failure {
    Failure::new(Exit::Failed, format!("{given:?} is not {what}"), format!("one of {known}"))
}

fn role(name: &str) -> Result<Role> {
    let names = || Role::ALL.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ");
    Ok(Role::from_name(name).ok_or_else(|| unknown(name, "a role", &names()))?)
}

async fn assign(common: &Common, id: &str, assignments: &[String]) -> Result<Exit> {
    let pairs = assignments.iter().map(|text| {
        let (name, person) =
            text.split_once('=').ok_or_else(|| Failure::new(Exit::Failed, format!("{text:?} is not ROLE=NAME"), "commander=ana"))?;
        Ok((role(name)?, person))
    });
    // All are read before the first is changed.
    let pairs = pairs.collect::<Result<Vec<(Role, &str)>>>()?;
    let (last, first) = pairs.split_last().context("no role is named")?;
    if !first.is_empty() {
        let face = Face::open_running(common).await?;
        for (role, person) in first {
            face.post::<Value>("incident.assign-role", &json!({"id": id, "role": role, "person": person})).await?;
        }
    }
    change(common, "incident.assign-role", json!({"id": id, "role": last.0, "person": last.1})).await
}

fn attachment(id: &str, file: &Path, name: Option<&str>, source: &str) -> Result<Value> {
    const FILE_BYTES_MAX: u64 = ATTACHMENT_BYTES_MAX as u64;
    let mut bytes = Vec::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)
    } else {
        crate::face::must_exist(file)?;
        std::fs::File::open(file).and_then(|opened| opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
    };
    read.with_context(|| format!("failed to read {}", file.display()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Failure::new(
            Exit::Failed,
            format!("{} is larger than {FILE_BYTES_MAX} bytes, the most of an attachment", file.display()),
            "attach the part that matters, or a link to it",
        )
        .into());
    }
    let own = file.file_name().map(|name| name.to_string_lossy().into_owned()).filter(|name| name != "-");
    let name = name.map(str::to_owned).or(own).unwrap_or_else(|| "standard input".to_owned());
    Ok(match String::from_utf8(bytes) {
        Ok(text) => json!({"id": id, "name": name, "media_type": "text/plain", "text": text, "source": source}),
        Err(error) => {
            let base64 = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, error.as_bytes());
            json!({"id": id, "name": name, "media_type": "application/octet-stream", "base64": base64, "source": source})
        }
    })
}

async fn evidence(common: &Common, id: &str, name: &str) -> Result<Exit> {
    let face = Face::open(common).await?;
    let (answer, value) = face.get::<EvidenceAnswer>("incident.evidence", &json!({"id": id, "name": name})).await?;
    if common.json {
        show::json(&value)?;
    } else if let Some(text) = &answer.text {
        for line in text.lines() {
            show::line(&show::plain_line(line))?;
        }
    } else {
        message(&format!(
            "{} is no text ({} bytes); --json prints it in base64",
            show::clean(&answer.attachment.name),
            answer.attachment.bytes
        ));
    }
    Ok(Exit::Done)
}
