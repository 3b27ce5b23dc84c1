//! A run on the terminal.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::args::Common;
use crate::exit::{Exit, Failure};
use crate::show;

/// What of a run is shown. The instance knows more; `--json` prints all.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub(in crate::verb) struct RunShown {
    pub(in crate::verb) id: String,
    pub(in crate::verb) title: String,
    pub(in crate::verb) mode: String,
    pub(in crate::verb) incident: Option<String>,
    pub(in crate::verb) by: String,
    pub(in crate::verb) ended_at: Option<String>,
    pub(in crate::verb) ending: Option<String>,
    pub(in crate::verb) why: String,
    pub(in crate::verb) cause: Option<(String, f64)>,
    pub(in crate::verb) steps: Vec<StepShown>,
    pub(in crate::verb) missing: Vec<String>,
    pub(in crate::verb) problems: Vec<String>,
    pub(in crate::verb) next: Option<String>,
    pub(in crate::verb) halted: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub(in crate::verb) struct StepShown {
    pub(in crate::verb) name: String,
    pub(in crate::verb) title: String,
    pub(in crate::verb) effect: String,
    pub(in crate::verb) approval: Value,
    pub(in crate::verb) by_hand: String,
    pub(in crate::verb) argv: Vec<String>,
    pub(in crate::verb) hash: String,
    pub(in crate::verb) blocked: Vec<String>,
    pub(in crate::verb) verify: Option<String>,
    pub(in crate::verb) rollback: Option<String>,
    pub(in crate::verb) only_rollback: bool,
    pub(in crate::verb) affected: Option<u64>,
    foretold: Option<String>,
    pub(in crate::verb) state: String,
    pub(in crate::verb) decision: Value,
    pub(in crate::verb) word: String,
    pub(in crate::verb) agreed: Vec<String>,
    pub(in crate::verb) last: Option<LastShown>,
    pub(in crate::verb) live: Option<String>,
    pub(in crate::verb) reverts_at: Option<String>,
    pub(in crate::verb) can: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub(in crate::verb) struct LastShown {
    pub(in crate::verb) why: String,
    pub(in crate::verb) exit: Option<i32>,
    pub(in crate::verb) signal: Option<i32>,
    pub(in crate::verb) ms: u64,
    pub(in crate::verb) shown: String,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub(in crate::verb) struct Approvals {
    pub(in crate::verb) waiting: Vec<Waiting>,
    pub(in crate::verb) runs_left_out: usize,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub(in crate::verb) struct Waiting {
    pub(in crate::verb) run: RunShown,
    pub(in crate::verb) step: StepShown,
}

impl RunShown {
    pub(in crate::verb) fn step(&self, name: &str) -> Result<&StepShown> {
        let found = self.steps.iter().find(|step| step.name == name);
        Ok(found.ok_or_else(|| {
            let names: Vec<&str> = self.steps.iter().map(|step| step.name.as_str()).collect();
            Failure::new(Exit::NotFound, format!("{} has no step {name:?}", self.id), format!("its steps are {}", names.join(", ")))
        })?)
    }
}

impl StepShown {
    pub(in crate::verb) fn may(&self, what: &str) -> bool {
        self.can.iter().any(|can| can == what)
    }

    /// How much it does, so that nobody overlooks it.
    pub(in crate::verb) fn effect(&self) -> &str {
        match self.effect.as_str() {
            "write" => "WRITES",
            "destroy" => "DESTROYS",
            _ => "reads",
        }
    }

    /// Why it does not run now.
    pub(in crate::verb) fn held(&self) -> Option<&str> {
        self.decision["reason"].as_str().filter(|_| self.state == "held")
    }
}

/// A name as it stands in JSON.
pub(in crate::verb) fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The argument list so that a person sees where each word begins and ends, and each line: what stands behind a comment's
/// end is no comment.
pub(in crate::verb) fn shown_argv(argv: &[String]) -> String {
    let plain = |word: &str| !word.is_empty() && word.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_./:=@%+,".contains(letter));
    let words: Vec<String> = argv.iter().map(|word| if plain(word) { word.clone() } else { format!("{word:?}") }).collect();
    words.join(" ")
}

fn approvers(step: &StepShown) -> String {
    match &step.approval {
        Value::String(word) if word == "two" => "two different people have to approve it".to_owned(),
        Value::String(word) if word == "any" => "somebody has to approve it".to_owned(),
        Value::Object(role) => format!("a {} has to approve it", role.get("role").and_then(Value::as_str).unwrap_or("person")),
        _ => String::new(),
    }
}

/// Everything that a person has to see before they approve a step.
pub(in crate::verb) fn exact_lines(step: &StepShown) -> Vec<String> {
    let mut lines = vec![format!("  {} {}: {}", step.name, step.effect(), show::clean(&step.title))];
    let mut add = |name: &str, text: String| {
        if !text.is_empty() {
            lines.push(format!("    {name:<9} {text}"));
        }
    };
    add("runs", shown_argv(&step.argv));
    add("by hand", step.by_hand.clone());
    for line in
        step.foretold.iter().filter(|_| step.last.is_none()).flat_map(|said| said.lines()).filter(|line| !line.trim().is_empty()).take(8)
    {
        add("would", show::clean(line.trim()));
    }
    add("touches", step.affected.map_or_else(String::new, show::count));
    add("verified", step.verify.clone().unwrap_or_default());
    add("undone by", step.rollback.clone().unwrap_or_default());
    add("needs", approvers(step));
    add("approved", step.agreed.join(", "));
    add("blocked", step.blocked.join("; "));
    add("held", step.held().unwrap_or_default().to_owned());
    add("hash", step.hash.clone());
    lines
}

pub(in crate::verb) fn exactly(step: &StepShown) -> Result<()> {
    exact_lines(step).iter().try_for_each(|line| show::line(&show::plain_line(line)))
}

/// What to type next about a step that waits.
pub(in crate::verb) fn command_for(run: &str, step: &StepShown) -> String {
    if step.may("approve") {
        format!("paramedic approve {run} {} {}", step.name, step.hash)
    } else if step.may("run") {
        format!("paramedic run {run} choose {}", step.name)
    } else {
        format!("paramedic run {run} again {}", step.name)
    }
}

/// Prints a run: JSON where that is asked for.
pub(in crate::verb) fn print(common: &Common, run: &RunShown, value: &Value) -> Result<()> {
    if common.json {
        return show::json(value);
    }
    let incident = run.incident.as_deref().map_or_else(String::new, |incident| format!(" for {incident}"));
    show::line(&format!("{}  {}{incident}, {} mode, by {}", run.id, show::clean(&run.title), run.mode, show::clean(&run.by)))?;
    if let Some((cause, score)) = &run.cause {
        show::line(&format!("likeliest cause  {} ({score:.2})", show::clean(cause)))?;
    }
    if !run.missing.is_empty() {
        show::line(&format!("missing inputs   {}: paramedic run {} inputs --set NAME=VALUE", run.missing.join(", "), run.id))?;
    }
    for problem in run.problems.iter().chain(&run.halted) {
        show::line(&format!("problem          {}", show::clean_long(problem)))?;
    }
    show::table(
        &["step", "effect", "state", "what came of it"],
        run.steps
            .iter()
            .filter(|step| !step.only_rollback || step.state != "pending")
            .map(|step| vec![step.name.clone(), step.effect().to_owned(), step.word.clone(), outcome(step)]),
    )?;
    match (&run.ending, &run.next) {
        (Some(ending), _) => show::line(&format!("{}: {}", ending.replace('-', " "), show::clean_long(&run.why)))?,
        (None, Some(next)) => {
            let step = run.step(next)?;
            show::line("next for a person:")?;
            exactly(step)?;
            show::line(&format!("  {}", command_for(&run.id, step)))?;
        }
        (None, None) => {}
    }
    Ok(())
}

/// What came of a step, or what keeps it.
pub(in crate::verb) fn outcome(step: &StepShown) -> String {
    if let Some(at) = &step.reverts_at {
        return format!("taken back by itself at {at}");
    }
    if let Some(held) = step.held() {
        return held.to_owned();
    }
    if let Some(live) = step.live.as_deref().filter(|_| step.state == "running") {
        return live.lines().last().unwrap_or_default().to_owned();
    }
    if step.state == "pending" {
        return step.blocked.first().cloned().unwrap_or_default();
    }
    step.last.as_ref().map_or_else(String::new, |last| {
        let how = match (last.exit, last.signal) {
            (_, Some(signal)) => format!("signal {signal}, "),
            (Some(exit), None) => format!("exit {exit}, "),
            (None, None) => String::new(),
        };
        let what = if last.why.is_empty() { last.shown.lines().next().unwrap_or_default() } else { &last.why };
        format!("{how}{} ms  {what}", last.ms)
    })
}
