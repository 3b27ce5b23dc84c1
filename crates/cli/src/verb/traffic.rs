//! `paramedic traffic`: the calls of the gateway.

use anyhow::Result;
use paramedic_api::operations::gateway::{Calls, LiveTraffic};
use paramedic_gateway::{Outcome, Record};
use paramedic_model::{Clock as _, SystemClock, Timestamp};
use serde_json::{Value, json};

use super::agents::many;
use crate::args::{Common, TrafficArgs};
use crate::exit::Exit;
use crate::face::Face;
use crate::show;

pub(super) async fn traffic(common: &Common, args: &TrafficArgs) -> Result<Exit> {
    let face = Face::open_running(common).await?;
    let TrafficArgs { user, team, agent, session, model, key, outcome, status, switch, limit } = args;
    let query = json!({
        "user": user, "team": team, "agent": agent, "session": session, "model": model, "key": key, "outcome": outcome,
        "status": status, "switch": switch, "limit": limit,
    });
    let (traffic, mut whole) = face.get::<LiveTraffic>("gateway.traffic", &json!({"limit": limit})).await?;
    let (calls, found) = face.get::<Calls>("gateway.calls", &query).await?;
    if common.json {
        whole["traffic"]["recent"] = found["calls"].clone();
        whole["found"] = calls.found.into();
        whole["remembered"] = calls.remembered.into();
        show::json(&whole)?;
        return Ok(Exit::Done);
    }
    head(&traffic)?;
    if calls.remembered == 0 {
        let address = traffic.address.as_deref().unwrap_or("127.0.0.1:8484");
        show::line(&format!(
            "No call came through the gateway yet. Send an agent's calls through it:\n  export ANTHROPIC_BASE_URL=http://{address}   (or: paramedic connect claude-code --gateway)"
        ))?;
        return Ok(Exit::Done);
    }
    if calls.calls.is_empty() {
        show::line(&format!("No call fits, of {} that are remembered.", show::count(calls.remembered as u64)))?;
        return Ok(Exit::Done);
    }
    let now = SystemClock.now();
    let titles = ["call", "when", "model", "agent", "user", "outcome", "tokens", "cost", "waited", "first byte", "took", "switches"];
    show::table(&titles, calls.calls.iter().map(|record| row(record, now)))?;
    if calls.found > calls.calls.len() {
        show::line(&format!("{} of {}; more with --limit", calls.calls.len(), many(calls.found as u64, "call")))?;
    }
    Ok(Exit::Done)
}

fn head(traffic: &LiveTraffic) -> Result<()> {
    let minute = &traffic.last_minute;
    let upstreams: Vec<String> = traffic.upstreams.iter().map(|one| format!("{} ({})", one.name, one.address)).collect();
    show::line(&format!("to {}", show::clean(&upstreams.join(", "))))?;
    show::line(&format!(
        "{} running now; in the last minute {}: {} answered, {} failed ({} rate limited), {} refused, {} changed",
        show::count(traffic.traffic.running_count as u64),
        many(minute.calls, "call"),
        show::count(minute.answered),
        show::count(minute.failed),
        show::count(minute.limited),
        show::count(minute.refused),
        show::count(minute.changed)
    ))
}

fn row(record: &Record, now: Timestamp) -> Vec<String> {
    let name = |name: &Option<Box<str>>| name.as_deref().unwrap_or_default().to_owned();
    let model = match (&record.model, &record.served_model) {
        (Some(asked), Some(served)) if asked != served => format!("{asked} -> {served}"),
        (asked, served) => name(if served.is_some() { served } else { asked }),
    };
    let switches: Vec<String> = record.acted.iter().map(|acted| format!("{}: {}", acted.switch, acted.what)).collect();
    let usage = &record.usage;
    vec![
        record.id.to_string(),
        show::ago(record.at, now),
        if model.is_empty() { record.path.to_string() } else { model },
        name(&record.caller.agent),
        name(&record.caller.user),
        outcome(record),
        format!("{} + {}", show::count(usage.context_tokens()), show::count(usage.output_tokens)),
        record.cost_pico.map_or_else(String::new, |pico| show::dollars(paramedic_gateway::budget::dollars(pico))),
        millis(u64::try_from(record.waited.as_millis()).unwrap_or(u64::MAX)),
        record.first_byte.map_or_else(String::new, |first| millis(u64::try_from(first.as_millis()).unwrap_or(u64::MAX))),
        millis(u64::try_from(record.duration.as_millis()).unwrap_or(u64::MAX)),
        switches.join("; "),
    ]
}

fn outcome(record: &Record) -> String {
    let word = word_of(record.outcome);
    let error = record.error_type.as_deref().map(|error| format!(" {error}")).unwrap_or_default();
    match record.outcome {
        Outcome::Answered if record.error_type.is_none() => record.status.to_string(),
        Outcome::Answered => format!("{}{error}", record.status),
        _ => format!("{word} {}{error}", record.status),
    }
}

/// As it is written in JSON.
fn word_of(outcome: Outcome) -> String {
    serde_json::to_value(outcome).ok().as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// `450 ms`, `3.2 s`.
pub(super) fn millis(ms: u64) -> String {
    if ms < 10_000 { format!("{} ms", show::count(ms)) } else { format!("{}.{} s", show::count(ms / 1_000), ms / 100 % 10) }
}
