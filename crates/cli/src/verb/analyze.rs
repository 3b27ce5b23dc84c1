//! `paramedic analyze PATH`.

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use paramedic_fleet::Prices;
use paramedic_server::analysis::{self, Progress, Report};

use super::agents::many;
use crate::args::{AnalyzeArgs, Common};
use crate::exit::Exit;
use crate::{face, show};

pub(super) fn analyze(common: &Common, args: &AnalyzeArgs) -> Result<Exit> {
    face::must_exist(&args.path)?;
    let settings = face::settings(common)?;
    let prices = paramedic_server::app::prices(&settings)?;
    let report = report(args, &settings, prices)?;
    if common.json {
        show::json(&serde_json::to_value(&report)?)?;
    } else {
        print(&report)?;
    }
    Ok(Exit::Done)
}

fn report(args: &AnalyzeArgs, settings: &paramedic_server::Settings, prices: Prices) -> Result<Report> {
    let name = if args.no_cache { None } else { analysis::fingerprint(&args.path, settings, &prices) };
    if let Some(report) = name.as_deref().and_then(analysis::cached) {
        return Ok(report);
    }
    let bar = bar(args.quiet);
    let mut tell = |progress: Progress| {
        bar.set_length(progress.bytes);
        bar.set_position(progress.bytes_done);
        bar.set_message(format!("{} of {} files", progress.files_done, progress.files));
    };
    let report = analysis::analyze(&args.path, settings, prices, &mut tell).map_err(|error| anyhow::anyhow!("failed to {error}"))?;
    bar.finish_and_clear();
    // A transcript that is being written while it is read would be kept under the name of an older state.
    if let Some(name) = name
        && report.unreadable_files.is_empty()
    {
        analysis::keep(&name, &report);
    }
    Ok(report)
}

fn bar(quiet: bool) -> ProgressBar {
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(10) };
    let style = ProgressStyle::with_template("{bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {msg}");
    ProgressBar::with_draw_target(None, target).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn print(report: &Report) -> Result<()> {
    let totals = &report.totals;
    show::line(&format!(
        "{} in {}, {}, {}",
        many(report.agents, "agent"),
        many(report.sessions as u64, "session"),
        many(report.files as u64, "file"),
        many(report.lines, "line")
    ))?;
    show::line(&format!(
        "tokens: {} input, {} output, {} cache read, {} cache creation",
        show::count(totals.input_tokens),
        show::count(totals.output_tokens),
        show::count(totals.cache_read_tokens),
        show::count(totals.cache_creation_tokens)
    ))?;
    let cost = totals.cost_usd.map_or_else(|| "unknown".to_owned(), show::dollars);
    show::line(&format!("cost:   {cost} at the prices of {}", totals.prices_as_of))?;
    if totals.unpriced_calls > 0 {
        show::line(&format!(
            "        and {} calls without a known price: {}",
            show::count(totals.unpriced_calls),
            totals.unpriced_models.join(", ")
        ))?;
    }
    if report.bad_lines > 0 {
        show::line(&format!("{} lines could not be read: {}", report.bad_lines, report.bad_line_examples.join(", ")))?;
    }
    for file in &report.unreadable_files {
        show::line(&format!("not read: {}", show::clean(file)))?;
    }
    show::line("")?;
    print_incidents(report)?;
    print_notes(report)
}

fn print_incidents(report: &Report) -> Result<()> {
    if report.incidents.is_empty() {
        return show::line("No incidents.");
    }
    show::line(&format!("{}:", many(report.incidents.len() as u64, "incident")))?;
    show::table(
        &["id", "severity", "type", "since", "lasted", "agents", "what"],
        report.incidents.iter().map(|incident| {
            let end = incident.mitigated_at.unwrap_or(incident.detected_at);
            vec![
                incident.id.to_string(),
                incident.severity.to_string(),
                incident.incident_type.to_string(),
                incident.started_at.to_string(),
                show::span(end.since(incident.started_at)),
                incident.agents.len().to_string(),
                what(incident),
            ]
        }),
    )
}

fn what(incident: &analysis::IncidentReport) -> String {
    let counts = &incident.counts;
    let mut parts = vec![incident.title.clone()];
    if counts.retries > 0 {
        parts.push(if counts.retries == 1 { "1 retry".to_owned() } else { format!("{} retries", show::count(counts.retries)) });
    }
    if counts.terminal_failures > 0 {
        parts.push(format!("{} failed for good", counts.terminal_failures));
    }
    if counts.flaps > 0 {
        parts.push(format!("fired {} times", counts.flaps + 1));
    }
    parts.join(", ")
}

fn print_notes(report: &Report) -> Result<()> {
    let notes: Vec<_> = report.alerts.iter().filter(|alert| alert.incident.is_none()).collect();
    if notes.is_empty() {
        return Ok(());
    }
    show::line("")?;
    show::line(&format!("{} (nothing to do, but seen):", many(notes.len() as u64, "note")))?;
    show::table(
        &["when", "detector", "agent", "reason"],
        notes.iter().map(|alert| vec![alert.started_at.to_string(), alert.detector.clone(), alert.agent.to_string(), alert.reason.clone()]),
    )
}
