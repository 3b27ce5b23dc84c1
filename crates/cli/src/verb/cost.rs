//! `paramedic cost`.

use anyhow::Result;
use serde_json::{Value, json};

use super::agents::{cost as dollars, text};
use crate::args::Common;
use crate::exit::Exit;
use crate::face::Face;
use crate::show;

pub(super) async fn cost(common: &Common) -> Result<Exit> {
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
