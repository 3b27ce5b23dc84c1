//! A step with its values, as it would be carried out.
//!
//! A value is never text of a program. A script gets it in its environment; a command gets whole arguments; a query gets a
//! literal that is quoted for its language; a URL gets it encoded; an action gets it as a string inside its arguments. A
//! value that could still be taken for something else (an option, several words, a pattern of the shell) is refused.

mod evaluated;
mod script;
mod texts;
mod values;
mod words;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::classify::{self, Effect, classify};
use crate::document::{Executor, Step};
use crate::shell::{Command, Statement, Word};

pub use values::{Given, InputFault, Values};

/// What is carried out, by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "executor", rename_all = "lowercase")]
pub enum Work {
    /// Run by a shell, with the values in its environment.
    Sh {
        script: String,
        environment: BTreeMap<String, String>,
    },
    /// The whole argument list, the program first.
    Kubectl {
        argv: Vec<String>,
    },
    Http {
        method: String,
        url: String,
        headers: Vec<(String, String)>,
        body: String,
    },
    Promql {
        expression: String,
    },
    Sql {
        statement: String,
    },
    Redis {
        commands: Vec<Vec<String>>,
    },
    Logs {
        query: String,
    },
    Action {
        name: String,
        arguments: serde_json::Value,
    },
    Manual {
        text: String,
    },
    Message {
        text: String,
    },
}

/// Why a step cannot be carried out as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "blocked", rename_all = "kebab-case")]
pub enum Blocked {
    /// Nobody said what this input is.
    MissingInput { name: String },
    /// A step that is yet to run finds it.
    WaitsFor { variable: String, step: String },
    /// The value cannot be used where it stands.
    Value { name: String, why: String },
    /// It waits for a person at a terminal, and there is none.
    Interactive { why: String },
    /// Its text cannot be read.
    Unreadable { why: String },
    /// A text stands for another one, and nothing fills it in.
    Blank { text: String },
}

impl std::fmt::Display for Blocked {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MissingInput { name } => write!(formatter, "{name} is not given"),
            Self::WaitsFor { variable, step } => write!(formatter, "{variable} is found by the step {step}, which has not run"),
            Self::Value { name, why } => write!(formatter, "the value of {name} {why}"),
            Self::Interactive { why } => write!(formatter, "it waits for a person: {why}"),
            Self::Unreadable { why } => write!(formatter, "{why}"),
            Self::Blank { text } => write!(formatter, "`{text}` is a blank to fill in"),
        }
    }
}

impl Work {
    /// The argument list as the record shows it: exact, but for secrets.
    #[must_use]
    pub fn argv(&self, effect: Effect) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        match self {
            // Unset variables end a script. What changes something also ends at its first failing line.
            Self::Sh { script, .. } => {
                words(&["bash", "--noprofile", "--norc", if effect == Effect::Read { "-uc" } else { "-euc" }, script.as_str()])
            }
            Self::Kubectl { argv } => argv.clone(),
            Self::Http { method, url, .. } => words(&[method, url]),
            Self::Promql { expression } => words(&["promql", expression]),
            Self::Sql { statement } => words(&["sql", statement]),
            Self::Redis { commands } => commands.iter().flatten().cloned().collect(),
            Self::Logs { query } => words(&["logs", query]),
            Self::Action { name, arguments } => vec![name.clone(), arguments.to_string()],
            Self::Manual { text } => words(&["manual", text]),
            Self::Message { text } => words(&["message", text]),
        }
    }
}

/// A step's work with the values in it, and the effect of what came out. The effect is never less than the template's.
pub(crate) fn render(step: &Step, values: &Values) -> Result<(Work, Effect, String), Vec<Blocked>> {
    let text = step.text.trim();
    let work = match step.executor {
        Executor::Sh => script::render(text, values)?,
        Executor::Kubectl => Work::Kubectl { argv: kubectl(text, values)? },
        Executor::Redis => Work::Redis { commands: redis(text, values)? },
        Executor::Http => texts::http(text, values)?,
        Executor::Promql => Work::Promql { expression: texts::promql(text, values)? },
        Executor::Sql => Work::Sql { statement: texts::sql(text, values)? },
        Executor::Logs => Work::Logs { query: texts::logs(text, values)? },
        // What somebody asked for as it stands holds no variables, whatever its texts look like.
        Executor::Action if step.attributes.get("literal").is_some_and(|literal| literal == "true") => texts::literal_action(text)?,
        Executor::Action => texts::action(text, values)?,
        Executor::Manual => Work::Manual { text: text.to_owned() },
        Executor::Message => Work::Message { text: text.to_owned() },
    };
    let (effect, why) = effect_of(&work);
    Ok((work, effect, why))
}

/// What the rendered work would do.
fn effect_of(work: &Work) -> (Effect, String) {
    match work {
        Work::Kubectl { argv } => of_argv(argv.clone()),
        Work::Redis { commands } => commands
            .iter()
            .map(|command| of_argv(std::iter::once("redis-cli".to_owned()).chain(command.iter().cloned()).collect()))
            .max_by_key(|(effect, _)| *effect)
            .unwrap_or_default(),
        Work::Sql { statement } => classify::sql_effect(statement),
        Work::Http { method, .. } => classify::http_effect(method),
        // What a script or an action does is judged by its template: values are no part of its text.
        _ => (Effect::Read, String::new()),
    }
}

fn of_argv(argv: Vec<String>) -> (Effect, String) {
    let words = argv.into_iter().map(|text| Word { text, quoted: true, ..Word::default() }).collect();
    let command = Command { words, ..Command::default() };
    let statement = Statement { line: 1, text: String::new(), comments: Vec::new(), commands: vec![command] };
    let verdict = classify(&statement);
    (verdict.effect, verdict.why)
}

/// `rollout undo deployment/$name`, with or without `kubectl` before it.
fn kubectl(text: &str, values: &Values) -> Result<Vec<String>, Vec<Blocked>> {
    let lines = words::lines(text)?;
    let [line] = lines.as_slice() else {
        return Err(vec![Blocked::Unreadable { why: format!("{} commands in one step; one was expected", lines.len()) }]);
    };
    let mut argv = words::fill(line, values, true)?;
    if argv.first().is_none_or(|first| first != "kubectl") {
        argv.insert(0, "kubectl".to_owned());
    }
    Ok(argv)
}

fn redis(text: &str, values: &Values) -> Result<Vec<Vec<String>>, Vec<Blocked>> {
    let mut commands = Vec::new();
    for line in words::lines(text)? {
        let mut command = words::fill(&line, values, false)?;
        if command.first().is_some_and(|first| first == "redis-cli") {
            command.remove(0);
        }
        commands.push(command);
    }
    if commands.iter().all(Vec::is_empty) {
        return Err(vec![Blocked::Unreadable { why: "there is no command".to_owned() }]);
    }
    Ok(commands)
}

/// A command line of a step's attributes as a script, and what it would do.
pub(crate) fn script_of(command: &str, values: &Values) -> Result<(Work, Effect), Vec<Blocked>> {
    let work = script::render(command, values)?;
    let effect = crate::shell::parse(command).iter().map(|statement| classify(statement).effect).max().unwrap_or_default();
    Ok((work, effect))
}
