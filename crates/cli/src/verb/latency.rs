//! `paramedic latency`: how long model calls take, and why.

use anyhow::Result;
use paramedic_gateway::latency::{Part, Report, Row};
use serde_json::json;

use super::agents::many;
use super::traffic::millis;
use crate::args::{Common, LatencyBy, LatencyVerb};
use crate::exit::Exit;
use crate::face::Face;
use crate::show;

pub(super) async fn latency(common: &Common, verb: &LatencyVerb) -> Result<Exit> {
    let LatencyVerb::Top { by, limit } = verb;
    let face = Face::open_running(common).await?;
    let word = match by {
        LatencyBy::Model => "model",
        LatencyBy::Agent => "agent",
        LatencyBy::User => "user",
        LatencyBy::Session => "session",
        LatencyBy::Key => "key",
    };
    let (report, value) = face.get::<Report>("gateway.latency", &json!({"by": word, "limit": limit})).await?;
    if common.json {
        show::json(&value)?;
        return Ok(Exit::Done);
    }
    if report.rows.is_empty() {
        show::line(
            "No call was answered yet. paramedic traffic shows what comes; calls come with: paramedic connect claude-code --gateway",
        )?;
        return Ok(Exit::Done);
    }
    let titles = [word, "calls", "p50", "p95", "p99", "first byte p50", "p95", "p99", "waited p95", "input tokens", "mostly"];
    show::table(&titles, report.rows.iter().map(row))?;
    show::line(&format!("\n{} looked at: {}.", many(report.calls, "call"), show::clean_long(&report.says)))?;
    if let Some(prompts) = &report.prompts {
        show::line(&format!(
            "Long prompts: with {} the first byte takes {} from {} tokens on, and {} below (rank correlation {:.2} over {}).",
            show::clean(&prompts.model),
            millis(prompts.long_ms),
            show::count(prompts.long_tokens),
            millis(prompts.short_ms),
            prompts.correlation,
            many(prompts.calls, "call")
        ))?;
    }
    Ok(Exit::Done)
}

fn row(row: &Row) -> Vec<String> {
    let part = match row.longest {
        Part::Waiting => "waiting here",
        Part::FirstByte => "first byte",
        Part::Rest => "the rest",
    };
    vec![
        row.name.clone(),
        show::count(row.calls),
        millis(row.duration_p50_ms),
        millis(row.duration_p95_ms),
        millis(row.duration_p99_ms),
        millis(row.first_byte_p50_ms),
        millis(row.first_byte_p95_ms),
        millis(row.first_byte_p99_ms),
        millis(row.waited_p95_ms),
        show::count(row.input_tokens),
        format!("{part} ({:.0} %)", row.longest_share * 100.0),
    ]
}
