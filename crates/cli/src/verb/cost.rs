//! `paramedic cost`: what agents cost; and, of the calls through the gateway, who spends most and why.

use anyhow::Result;
use paramedic_api::operations::gateway::Top;
use paramedic_gateway::budget::Spender;
use paramedic_gateway::diagnosis::Diagnosis;
use serde_json::{Value, json};

use super::agents::{cost as dollars, many, text};
use crate::args::{Common, CostBy, CostVerb, Period};
use crate::exit::Exit;
use crate::face::Face;
use crate::show;

pub(super) async fn cost(common: &Common, verb: Option<&CostVerb>) -> Result<Exit> {
    match verb {
        None => report(common).await,
        Some(CostVerb::Top { by, per, limit }) => top(common, *by, *per, *limit).await,
        Some(CostVerb::Why { per }) => why(common, *per).await,
    }
}

const fn period(per: Period) -> &'static str {
    match per {
        Period::Day => "day",
        Period::Week => "week",
        Period::Month => "month",
    }
}

async fn top(common: &Common, by: CostBy, per: Period, limit: usize) -> Result<Exit> {
    let word = match by {
        CostBy::User => "user",
        CostBy::Team => "team",
        CostBy::Agent => "agent",
        CostBy::Session => "session",
        CostBy::Model => "model",
        CostBy::Key => "key",
        CostBy::Plugin => "plugin",
    };
    let face = Face::open_running(common).await?;
    let (top, value) = face.get::<Top>("cost.top", &json!({"by": word, "per": period(per), "limit": limit})).await?;
    if common.json {
        show::json(&value)?;
        return Ok(Exit::Done);
    }
    let Some(all) = &top.all else {
        show::line(&format!(
            "Nothing was spent through the gateway this {}. Send calls through it: paramedic connect claude-code --gateway",
            period(per)
        ))?;
        return Ok(Exit::Done);
    };
    let sum = format!(
        "{} by {} this {} (UTC), {:.0} tokens a call",
        show::dollars(all.dollars),
        many(all.calls, "call"),
        period(per),
        all.tokens_per_call
    );
    if top.spenders.is_empty() {
        show::line(&format!("{sum}. No call said which {word} it is of: paramedic cost top --by model, or --by session."))?;
        return Ok(Exit::Done);
    }
    show::table(
        &[word, "cost", "share", "calls", "tokens/call", "input", "output", "cache read", "cache creation"],
        top.spenders.iter().map(|one| spender(one, word)),
    )?;
    show::line(&format!("\n{sum}. Why: paramedic cost why"))?;
    Ok(Exit::Done)
}

fn spender(one: &Spender, word: &str) -> Vec<String> {
    let name = one.name.strip_prefix(word).and_then(|name| name.strip_prefix(':')).unwrap_or(&one.name);
    vec![
        name.to_owned(),
        show::dollars(one.dollars),
        format!("{:.0} %", one.share * 100.0),
        show::count(one.calls),
        format!("{:.0}", one.tokens_per_call),
        show::count(one.input_tokens),
        show::count(one.output_tokens),
        show::count(one.cache_read_tokens),
        show::count(one.cache_creation_tokens),
    ]
}

async fn why(common: &Common, per: Period) -> Result<Exit> {
    let face = Face::open_running(common).await?;
    let (diagnosis, value) = face.get::<Diagnosis>("cost.diagnosis", &json!({"per": period(per)})).await?;
    if common.json {
        show::json(&value)?;
        return Ok(Exit::Done);
    }
    show::line(&format!(
        "{} by {} this {} (UTC): {}",
        show::dollars(diagnosis.dollars),
        many(diagnosis.calls, "call"),
        period(per),
        show::clean(&diagnosis.says)
    ))?;
    for (number, finding) in diagnosis.findings.iter().enumerate() {
        show::line(&format!("\n{}. {}", number + 1, show::clean_long(&finding.what)))?;
        if let Some(saving) = finding.saving_dollars {
            show::line(&format!("   worth about {} of what was spent this {}", show::dollars(saving), period(per)))?;
        }
        for command in &finding.commands {
            show::line(&format!("   {}", show::clean_long(command)))?;
        }
    }
    if diagnosis.calls == 0 {
        show::line("Send calls through the gateway: paramedic connect claude-code --gateway")?;
    }
    Ok(Exit::Done)
}

async fn report(common: &Common) -> Result<Exit> {
    let face = Face::open(common).await?;
    let (answer, value) = face.get::<Value>("cost.report", &json!({"limit": 20})).await?;
    if common.json {
        show::json(&value)?;
        return Ok(Exit::Done);
    }
    let report = &answer["report"];
    let empty = Vec::new();
    let lines = |key: &str| report[key].as_array().unwrap_or(&empty);
    if lines("by_agent").is_empty() {
        show::line("Nothing was spent so far.")?;
        return Ok(Exit::Done);
    }
    for (title, key, name) in
        [("By day (UTC)", "by_day", "day"), ("By model", "by_model", "model"), ("By agent, the dearest first", "by_agent", "agent")]
    {
        show::line(title)?;
        show::table(
            &[name, "cost", "calls", "input", "output", "cache read", "cache creation"],
            lines(key).iter().map(|line| {
                let sum = if line["sum"].is_object() { &line["sum"] } else { line };
                let tokens = |key: &str| show::count(sum["usage"][key].as_u64().unwrap_or(0));
                vec![
                    text(line, name),
                    dollars(&sum["cost"]),
                    show::count(sum["calls"].as_u64().unwrap_or(0)),
                    tokens("input_tokens"),
                    tokens("output_tokens"),
                    tokens("cache_read_tokens"),
                    tokens("cache_creation_tokens"),
                ]
            }),
        )?;
        show::line("")?;
    }
    show::line(&format!("Prices of {}.", text(report, "prices_as_of")))?;
    Ok(Exit::Done)
}
