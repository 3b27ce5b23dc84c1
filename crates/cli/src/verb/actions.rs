//! `paramedic action list|show|plan|run|undo`.

use anyhow::Result;
use paramedic_action::Plan;
use paramedic_api::operations::actions::ActionPlan;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::pairs;
use super::runs::{RunShown, follow, tell};
use crate::args::{ActionVerb, Common};
use crate::exit::{Exit, Failure, message};
use crate::face::Face;
use crate::show;

/// The name of an action's only step.
const STEP: &str = paramedic_runbook::desk::ACTION_STEP;

#[derive(Debug, Deserialize)]
struct Listed {
    actions: Vec<Spec>,
}

#[derive(Debug, Deserialize)]
struct Spec {
    name: String,
    summary: String,
    effect: String,
    arguments: Vec<Argument>,
    undo: String,
}

#[derive(Debug, Deserialize)]
struct Argument {
    name: String,
    kind: String,
    required: bool,
    what: String,
}

#[derive(Debug, Deserialize)]
struct Started {
    plan: Plan,
    run: Option<RunShown>,
    done: Option<Value>,
}

pub(super) async fn action(common: &Common, verb: &ActionVerb) -> Result<Exit> {
    match verb {
        ActionVerb::List { text } => list(common, text.as_deref()).await,
        ActionVerb::Show { name } => show_one(common, name).await,
        ActionVerb::Plan { name, set } => {
            let face = Face::open_running(common).await?;
            let (answer, value) = face.post::<ActionPlan>("action.plan", &json!({"action": name, "arguments": arguments(set)?})).await?;
            if common.json {
                show::json(&value)?
            } else {
                print_plan(&answer.plan)?
            }
            Ok(Exit::Done)
        }
        ActionVerb::Run { name, set, incident, why, yes } => {
            let input = json!({"action": name, "arguments": arguments(set)?, "incident": incident, "why": why});
            run(common, &input, *yes).await
        }
        ActionVerb::Undo { run, step, why } => tell(common, "run.undo", &json!({"run": run, "step": step, "why": why}), false).await,
    }
}

fn arguments(set: &[String]) -> Result<Map<String, Value>> {
    Ok(pairs(set)?.into_iter().map(|(name, value)| (name, Value::String(value))).collect())
}

async fn specs(common: &Common) -> Result<(Listed, Value)> {
    Face::open_running(common).await?.get::<Listed>("action.list", &json!({})).await
}

async fn list(common: &Common, text: Option<&str>) -> Result<Exit> {
    let (all, mut value) = specs(common).await?;
    let text = text.unwrap_or_default().to_lowercase();
    let fits = |name: &str, summary: &str| name.contains(&text) || summary.to_lowercase().contains(&text);
    if common.json {
        if let Some(actions) = value["actions"].as_array_mut() {
            actions.retain(|one| fits(one["name"].as_str().unwrap_or_default(), one["summary"].as_str().unwrap_or_default()));
        }
        show::json(&value)?;
        return Ok(Exit::Done);
    }
    let rows = all.actions.into_iter().filter(|one| fits(&one.name, &one.summary));
    show::table(&["action", "effect", "what it does"], rows.map(|one| vec![one.name, one.effect, one.summary]))?;
    Ok(Exit::Done)
}

async fn show_one(common: &Common, name: &str) -> Result<Exit> {
    let (all, value) = specs(common).await?;
    let place =
        all.actions.iter().position(|one| one.name == name).ok_or_else(|| {
            Failure::new(Exit::NotFound, format!("there is no action {name:?}"), "paramedic action list lists all actions")
        })?;
    if common.json {
        show::json(&value["actions"][place])?;
        return Ok(Exit::Done);
    }
    let one = &all.actions[place];
    show::line(&format!("{}  ({})\n{}\nundo: {}", one.name, one.effect, one.summary, one.undo))?;
    let rows = one.arguments.iter().map(|argument| {
        let needed = if argument.required { "required" } else { "" };
        vec![argument.name.clone(), argument.kind.clone(), needed.to_owned(), argument.what.clone()]
    });
    show::table(&["argument", "kind", "", "what it means"], rows)?;
    Ok(Exit::Done)
}

async fn run(common: &Common, input: &Value, yes: bool) -> Result<Exit> {
    let face = Face::open_running(common).await?;
    let (started, value) = face.post::<Started>("action.run", input).await?;
    if let Some(run) = &started.run
        && yes
    {
        print_plan_as_progress(&started.plan);
        let step = run.step(STEP)?;
        face.post::<Value>("run.approve", &json!({"run": run.id, "step": step.name, "hash": step.hash})).await?;
        return follow(common, &face, &run.id, false).await;
    }
    if common.json {
        show::json(&value)?;
        return Ok(Exit::Done);
    }
    print_plan(&started.plan)?;
    match (&started.run, &started.done) {
        (Some(run), _) => {
            let step = run.step(STEP)?;
            show::line(&format!("{} waits: paramedic approve {} {STEP} {} --watch", run.id, run.id, step.hash))?;
        }
        (None, Some(done)) => {
            show::line(&format!("done: {}", show::clean(done["what"].as_str().unwrap_or_default())))?;
            if !done["answer"].is_null() {
                show::json(&done["answer"])?;
            }
        }
        (None, None) => {}
    }
    Ok(Exit::Done)
}

fn plan_lines(plan: &Plan) -> Vec<String> {
    let mut lines = vec![show::clean_long(&plan.what)];
    let of = plan.of.map_or_else(String::new, |of| format!(" of {}", show::count(of)));
    lines.push(format!("  touches   {}{of}", show::count(plan.affected)));
    for object in plan.objects.iter().take(20) {
        let detail = if object.detail.is_empty() { String::new() } else { format!(": {}", show::clean(&object.detail)) };
        lines.push(format!("            {} {}{detail}", object.kind, show::clean(&object.name)));
    }
    if plan.affected > 20 {
        lines.push(format!("            and {} more", show::count(plan.affected - 20)));
    }
    lines.extend(plan.exact.iter().take(50).map(|exact| format!("  exactly   {}", show::clean_long(exact))));
    if let Some(inverse) = &plan.inverse {
        let after = plan.reverts_after_s.map_or_else(String::new, |seconds| format!(", by itself after {seconds} s"));
        lines.push(format!("  undone by {}{after}", inverse.action));
    }
    lines.extend(plan.warnings.iter().map(|warning| format!("  warning   {}", show::clean_long(warning))));
    lines
}

fn print_plan(plan: &Plan) -> Result<()> {
    plan_lines(plan).iter().try_for_each(|line| show::line(line))
}

fn print_plan_as_progress(plan: &Plan) {
    plan_lines(plan).iter().for_each(|line| message(line));
}
