//! `paramedic runs|run|approvals|approve`.

mod view;

mod watch;

use std::io::Write as _;

use anyhow::Result;
use paramedic_api::operations::runs::{RecordPage, RunPage};
use paramedic_model::{Clock as _, SystemClock};
use paramedic_runbook::desk::RunLine;
use paramedic_runbook::run::Ending;
use serde_json::{Value, json};

use super::pairs;
use crate::args::{ApproveArgs, Common, RunArgs, RunChange, RunsArgs, StepArgs};
use crate::exit::{Exit, Failure, message};
use crate::face::Face;
use crate::show;

pub(super) use view::{Approvals, RunShown, shown_argv, word};
pub(super) use watch::follow;

pub(super) async fn runs(common: &Common, args: &RunsArgs) -> Result<Exit> {
    let face = Face::open(common).await?;
    let query = json!({"open": args.open.then_some(true), "incident": args.incident, "runbook": args.runbook, "limit": args.limit});
    let (page, value) = face.get::<RunPage>("run.list", &query).await?;
    if common.json {
        show::json(&value)?;
        return Ok(Exit::Done);
    }
    if page.runs.is_empty() {
        show::line("No runs.")?;
        return Ok(Exit::Done);
    }
    let now = SystemClock.now();
    show::table(
        &["id", "runbook", "mode", "incident", "by", "began", "changes", "state"],
        page.runs.iter().map(|run| {
            vec![
                run.id.clone(),
                run.runbook.clone(),
                view::word(&run.mode),
                run.incident.clone().unwrap_or_default(),
                run.by.clone(),
                show::ago(run.started_at, now),
                run.changes.to_string(),
                state_of(run),
            ]
        }),
    )?;
    if page.total > page.runs.len() {
        show::line(&format!("{} of {}; more with --limit {}", page.runs.len(), page.total, page.total))?;
    }
    Ok(Exit::Done)
}

/// Where a run stands, in words.
pub(super) fn state_of(run: &RunLine) -> String {
    let cause = run.cause.as_ref().map_or_else(String::new, |(cause, score)| format!("; likeliest cause {cause} ({score:.2})"));
    match run.ending {
        None if run.asking.is_empty() => format!("open{cause}"),
        None => format!("waits for approval of {}{cause}", run.asking.iter().cloned().collect::<Vec<_>>().join(", ")),
        Some(Ending::Done) => "done".to_owned(),
        Some(Ending::TakenBack) => format!("taken back: {}", run.why),
        Some(Ending::Stopped) => format!("stopped: {}", run.why),
        Some(Ending::CalledOff) => format!("called off: {}", run.why),
    }
}

pub(super) async fn run(common: &Common, args: &RunArgs) -> Result<Exit> {
    let id = &args.run;
    let step = |of: &StepArgs| json!({"run": id, "step": of.step, "why": of.why});
    let (operation, input) = match &args.change {
        None | Some(RunChange::Show) => {
            let face = Face::open(common).await?;
            if args.watch {
                return follow(common, &face, id, false).await;
            }
            let (run, value) = face.get::<RunShown>("run.get", &json!({"run": id})).await?;
            view::print(common, &run, &value)?;
            return Ok(Exit::Done);
        }
        Some(RunChange::Record) => return record(common, id).await,
        Some(RunChange::Cancel { why }) => ("run.cancel", json!({"run": id, "why": why})),
        Some(RunChange::Inputs { set }) => ("run.inputs", json!({"run": id, "inputs": pairs(set)?})),
        Some(RunChange::Choose(of)) => ("run.choose", step(of)),
        Some(RunChange::Again(of)) => ("run.again", step(of)),
        Some(RunChange::Skip(of)) => ("run.skip", step(of)),
        Some(RunChange::Undo(of)) => ("run.undo", step(of)),
    };
    tell(common, operation, &input, args.watch).await
}

/// Says something about a run, then shows or follows it.
pub(super) async fn tell(common: &Common, operation: &str, input: &Value, watch: bool) -> Result<Exit> {
    let face = Face::open_running(common).await?;
    let (run, value) = face.post::<RunShown>(operation, input).await?;
    if watch {
        return follow(common, &face, &run.id, false).await;
    }
    view::print(common, &run, &value)?;
    Ok(Exit::Done)
}

/// Shows a run that began a moment ago, and how to follow it.
pub(super) fn tell_started(common: &Common, run: &RunShown, value: &Value) -> Result<Exit> {
    if common.json {
        show::json(value)?;
    } else {
        show::line(&format!("{} began: paramedic run {} --watch", run.id, run.id))?;
    }
    Ok(Exit::Done)
}

async fn record(common: &Common, id: &str) -> Result<Exit> {
    let face = Face::open(common).await?;
    let mut after = 0;
    let mut all = Vec::new();
    loop {
        let (page, _) = face.get::<RecordPage>("run.record", &json!({"run": id, "after": after, "limit": 1_000})).await?;
        all.extend(page.entries);
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    if common.json {
        show::json(&json!({ "entries": all }))?;
        return Ok(Exit::Done);
    }
    for entry in &all {
        let told = paramedic_api::operations::run_timeline::describe_record(&entry.run, &entry.record);
        // What no story needs is in the record all the same.
        let told = told.unwrap_or_else(|| format!("{}: {}", entry.run, serde_json::to_string(&entry.record).unwrap_or_default()));
        show::line(&format!("{}  {}", entry.at, show::clean_long(&told)))?;
    }
    Ok(Exit::Done)
}

pub(super) async fn approvals(common: &Common) -> Result<Exit> {
    let face = Face::open(common).await?;
    let (all, value) = face.get::<Approvals>("approval.list", &json!({})).await?;
    if common.json {
        show::json(&value)?;
        return Ok(Exit::Done);
    }
    if all.waiting.is_empty() {
        show::line("Nothing waits for a person.")?;
    }
    for one in &all.waiting {
        let incident = one.run.incident.as_deref().map_or_else(String::new, |incident| format!(" for {incident}"));
        show::line(&format!("{} {}{incident}", one.run.id, show::clean(&one.run.title)))?;
        view::exactly(&one.step)?;
        show::line(&format!("  {}", view::command_for(&one.run.id, &one.step)))?;
    }
    if all.runs_left_out > 0 {
        show::line(&format!("{} more open runs were not looked through", all.runs_left_out))?;
    }
    Ok(Exit::Done)
}

/// With the hash it is approved; without, it is shown, and a person at a terminal is asked.
pub(super) async fn approve(common: &Common, args: &ApproveArgs) -> Result<Exit> {
    let hash = match &args.hash {
        Some(hash) => hash.clone(),
        None => match asked(common, args).await? {
            Some(hash) => hash,
            None => return Ok(Exit::Refused),
        },
    };
    tell(common, "run.approve", &json!({"run": args.run, "step": args.step, "hash": hash}), args.watch).await
}

/// Shows exactly what would run; its hash when the person says yes to it.
async fn asked(common: &Common, args: &ApproveArgs) -> Result<Option<String>> {
    let face = Face::open_running(common).await?;
    let (run, _) = face.get::<RunShown>("run.get", &json!({"run": args.run})).await?;
    let step = run.step(&args.step)?;
    if step.hash.is_empty() {
        let why = if step.blocked.is_empty() { "there is nothing to run".to_owned() } else { step.blocked.join("; ") };
        return Err(Failure::new(Exit::Refused, format!("{} cannot be approved: {why}", step.name), "").into());
    }
    for line in view::exact_lines(step) {
        message(&line);
    }
    if !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        message("nothing was approved: this is no terminal. To approve exactly this:");
        show::line(&format!("paramedic approve {} {} {}", run.id, step.name, step.hash))?;
        return Ok(None);
    }
    let mut out = std::io::stderr().lock();
    write!(out, "Approve exactly this as {}? Type yes: ", crate::face::actor())?;
    out.flush()?;
    drop(out);
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if answer.trim().eq_ignore_ascii_case("yes") {
        return Ok(Some(step.hash.clone()));
    }
    message("nothing was approved");
    Ok(None)
}
