//! `paramedic agents` and `paramedic agent ID`.

use anyhow::Result;
use paramedic_model::{Clock as _, SystemClock, Timestamp};
use serde_json::{Value, json};

use crate::args::{AgentArgs, AgentsArgs, Common};
use crate::exit::Exit;
use crate::face::Face;
use crate::show;

pub(super) async fn agents(common: &Common, args: &AgentsArgs) -> Result<Exit> {
    let face = Face::open(common).await?;
    let query = json!({"state": args.state, "text": args.text, "limit": args.limit});
    let (page, value) = face.get::<Value>("agent.list", &query).await?;
    if common.json {
        show::json(&value)?;
        return Ok(Exit::Done);
    }
    let empty = Vec::new();
    let all = page["agents"].as_array().unwrap_or(&empty);
    let wanted: Vec<&Value> = all.iter().filter(|agent| args.all || args.state.is_some() || agent["state"] != "done").collect();
    if all.is_empty() && args.state.is_none() && args.text.is_none() {
        show::line("No agents yet. Connect one: paramedic connect claude-code")?;
        return Ok(Exit::Done);
    }
    if wanted.is_empty() {
        show::line(&match page["total"].as_u64().unwrap_or(0) {
            0 => "No agent matches.".to_owned(),
            1 => "No agent is active (1 is done; see it with --all).".to_owned(),
            done => format!("No agent is active ({} are done; see them with --all).", show::count(done)),
        })?;
        return Ok(Exit::Done);
    }
    let now = SystemClock.now();
    show::table(
        &["agent", "state", "project", "model", "turns", "tools", "context", "cost", "last sign", "doing"],
        wanted.iter().map(|agent| row(agent, now)),
    )?;
    let hidden = all.len() - wanted.len();
    match hidden {
        0 => {}
        1 => show::line("and 1 that is done (--all shows it)")?,
        _ => show::line(&format!("and {hidden} that are done (--all shows them)"))?,
    }
    if !page["next"].is_null() {
        show::line(&format!("{} of {}; more with --limit {}", all.len(), page["total"], page["total"]))?;
    }
    Ok(Exit::Done)
}

fn row(agent: &Value, now: Timestamp) -> Vec<String> {
    vec![
        text(agent, "id"),
        text(agent, "state"),
        text(agent, "project"),
        text(agent, "model"),
        text(agent, "turns"),
        text(agent, "tool_calls"),
        context(agent),
        cost(&agent["cost"]),
        time(agent, "last_event_at").map_or_else(String::new, |at| show::ago(at, now)),
        text(agent, "state_reason"),
    ]
}

/// A field as plain text; empty where there is none.
pub(super) fn text(value: &Value, key: &str) -> String {
    match &value[key] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(super) fn time(value: &Value, key: &str) -> Option<Timestamp> {
    Timestamp::parse(value[key].as_str()?)
}

/// `1 agent`, `3 agents`.
pub(super) fn many(number: u64, one: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {one}{ending}", show::count(number))
}

/// `61k of 200k (31 %)`.
fn context(agent: &Value) -> String {
    let tokens = agent["context_tokens"].as_u64().unwrap_or(0);
    match agent["context_limit"].as_u64().filter(|limit| *limit > 0) {
        Some(limit) => format!("{}k of {}k ({} %)", tokens / 1000, limit / 1000, tokens * 100 / limit),
        None => format!("{}k", tokens / 1000),
    }
}

/// A known cost, or that it is not known.
pub(super) fn cost(cost: &Value) -> String {
    let unpriced = cost["unpriced_calls"].as_u64().unwrap_or(0) > 0;
    match cost["usd"].as_f64() {
        Some(usd) if unpriced => format!("{} and unknown", show::dollars(usd)),
        Some(usd) => show::dollars(usd),
        None => "unknown".to_owned(),
    }
}

pub(super) async fn agent(common: &Common, args: &AgentArgs) -> Result<Exit> {
    let face = Face::open(common).await?;
    let (detail, value) = face.get::<Value>("agent.get", &json!({"id": args.id})).await?;
    let agent = &detail["agent"];
    let (events, events_value) = face.get::<Value>("event.search", &json!({"agent": text(agent, "id"), "limit": args.events})).await?;
    if common.json {
        let mut whole = value;
        whole["events"] = events_value["events"].clone();
        show::json(&whole)?;
        return Ok(Exit::Done);
    }
    print_head(agent)?;
    for (title, key) in [("Sub-agents", "subagents"), ("Incidents", "incidents"), ("Alerts", "alerts")] {
        let empty = Vec::new();
        let list = detail[key].as_array().unwrap_or(&empty);
        if list.is_empty() {
            continue;
        }
        show::line(&format!("\n{title}"))?;
        for item in list.iter().take(10) {
            show::line(&format!("  {}", show::clean(&summary(key, item))))?;
        }
    }
    show::line("\nLast events")?;
    let empty = Vec::new();
    for event in super::events::in_time(events["events"].as_array().unwrap_or(&empty)) {
        show::line(&format!("  {}", super::events::line_of(event)))?;
    }
    Ok(Exit::Done)
}

fn summary(key: &str, item: &Value) -> String {
    match key {
        "subagents" => format!("{}  {}  {}", text(item, "id"), text(item, "state"), text(item, "agent_type")),
        "incidents" => format!("{}  {}  {}  {}", text(item, "id"), text(item, "severity"), text(item, "state"), text(item, "title")),
        _ => format!("{}  {}  {}", text(&item["alert"], "started_at"), text(&item["alert"], "detector"), text(&item["alert"], "reason")),
    }
}

fn print_head(agent: &Value) -> Result<()> {
    let now = SystemClock.now();
    show::line(&format!("{}  {}", text(agent, "id"), text(agent, "state")))?;
    show::line(&show::clean(&text(agent, "state_reason")))?;
    for (title, key) in
        [("project", "cwd"), ("model", "model"), ("version", "version"), ("host", "host"), ("turns", "turns"), ("tool calls", "tool_calls")]
    {
        let shown = text(agent, key);
        if !shown.is_empty() {
            show::line(&format!("{title:<12} {}", show::clean(&shown)))?;
        }
    }
    show::line(&format!("{:<12} {}", "context", context(agent)))?;
    let usage = &agent["usage"];
    let tokens = |key: &str| show::count(usage[key].as_u64().unwrap_or(0));
    show::line(&format!(
        "{:<12} {} input, {} output, {} cache read, {} cache creation",
        "tokens",
        tokens("input_tokens"),
        tokens("output_tokens"),
        tokens("cache_read_tokens"),
        tokens("cache_creation_tokens")
    ))?;
    show::line(&format!("{:<12} {}", "cost", cost(&agent["cost"])))?;
    if let Some(process) = agent.get("process").filter(|process| !process.is_null()) {
        let rss =
            process["rss_bytes"].as_u64().map(|bytes| format!(", {} memory", paramedic_server::doctor::bytes(bytes))).unwrap_or_default();
        let alive = if process["alive"] == true { "alive" } else { "gone" };
        show::line(&format!("{:<12} pid {}, {alive}{rss}", "process", text(process, "pid")))?;
    }
    if let Some(at) = time(agent, "last_event_at") {
        show::line(&format!("{:<12} {} ({})", "last sign", at, show::ago(at, now)))?;
    }
    if let Some(error) = agent.get("last_error").filter(|error| !error.is_null()) {
        show::line(&format!("{:<12} {} {}", "last error", text(error, "at"), show::clean(&text(error, "text"))))?;
    }
    Ok(())
}
