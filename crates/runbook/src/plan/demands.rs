//! The attributes of a step, read: what it demands before, while and after it runs.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::classify::Effect;
use crate::document::{Executor, SectionKind, Step};
use crate::predicate::{Predicate, Verification, duration};

/// Longest time that a step may run.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);
const RETRIES_MAX: u32 = 10;
/// What a step may do to one target unless it says otherwise.
const RATE: Rate = Rate { attempts: 3, window_ms: 3_600_000 };
const COOLDOWN: Duration = Duration::from_secs(300);

/// All that a step's attributes say. What they do not say has its default; durations are in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Demands {
    /// The condition that its outcome has to meet; empty for the executor's own.
    pub expect: String,
    pub gate: Gate,
    pub timeout_ms: u64,
    pub retries: u32,
    pub backoff_ms: u64,
    pub mode: Option<Effect>,
    pub risk: Risk,
    pub approve: Option<Approval>,
    /// From which score of its cause on it may run unattended; none is never.
    pub auto: Option<f64>,
    /// A command for the dry run, or `server`.
    pub dry: Option<String>,
    pub condition: Option<String>,
    pub needs: Vec<String>,
    pub rate: Rate,
    pub cooldown_ms: u64,
    pub lock: Option<String>,
    pub blast: Option<Blast>,
    pub verify: Option<String>,
    pub rollback: Option<String>,
    /// It runs only to take another step back.
    pub only_rollback: bool,
    pub captures: Vec<Capture>,
    /// Patterns that no record may show.
    pub redact: Vec<String>,
    /// How long what is expected has to stay so.
    pub hold_ms: u64,
    /// Time that a query of logs looks back.
    pub window_ms: Option<u64>,
}

/// What happens when the outcome is not what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    /// Nothing after it runs.
    Stop,
    Warn,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Risk {
    Low,
    Medium,
    High,
    Destructive,
}

/// Who has to agree before something is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Approval {
    /// Whoever starts it is enough.
    None,
    Any,
    Role(String),
    /// Two different people.
    Two,
}

/// Attempts in a window of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rate {
    pub attempts: u32,
    pub window_ms: u64,
}

/// How much a step may touch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Blast {
    Objects(u64),
    Percent(f64),
}

/// What of an outcome is kept, and under which name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Capture {
    pub variable: String,
    pub source: Source,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Stdout,
    /// A pointer into an answer that is JSON.
    Json(String),
    /// The first group, or all that matched.
    Regex(String),
    /// A field or column by its name: `value`, `rows`, `error_type`.
    Field(String),
}

impl Rate {
    /// `2/1h`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (attempts, window) = text.split_once('/')?;
        let window = match window.trim() {
            word if word.starts_with(|first: char| first.is_ascii_digit()) => duration(word)?,
            word => duration(&format!("1{word}"))?,
        };
        let attempts = attempts.trim().parse().ok().filter(|attempts| *attempts > 0)?;
        (!window.is_zero()).then(|| Self { attempts, window_ms: ms(window) })
    }
}

impl Capture {
    fn parse(text: &str) -> Option<Self> {
        let (variable, source) = text.split_once('=').unwrap_or((text, "stdout"));
        let plain = variable.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && variable.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        if !plain || source.is_empty() {
            return None;
        }
        let source = match source.split_once(':') {
            _ if source == "stdout" => Source::Stdout,
            Some(("json", pointer)) if pointer.starts_with('/') => Source::Json(pointer.to_owned()),
            Some(("regex", pattern)) => {
                crate::predicate::pattern(pattern).ok()?;
                Source::Regex(pattern.to_owned())
            }
            Some(_) => return None,
            None => Source::Field(source.to_owned()),
        };
        Some(Self { variable: variable.to_owned(), source })
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Captures are parted by `;`, since patterns hold commas. `stdout` alone is kept under the step's name.
fn capture_list(step: &Step) -> Vec<Result<Capture, String>> {
    let Some(text) = step.attributes.get("capture") else { return Vec::new() };
    let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let whole = if part == "stdout" || part.starts_with("json:") || part.starts_with("regex:") {
                format!("{}={part}", step.name.replace('-', "_"))
            } else {
                part.to_owned()
            };
            Capture::parse(&whole)
                .ok_or_else(|| format!("capture={part} cannot be read; it is name=stdout, name=json:/path, name=regex:… or name=field"))
        })
        .collect()
}

/// Variables that a step finds.
pub(crate) fn names(step: &Step) -> Vec<String> {
    capture_list(step).into_iter().flatten().map(|capture| capture.variable).collect()
}

/// Reads attributes one by one and gathers what is wrong with them.
struct Reader<'a> {
    step: &'a Step,
    faults: Vec<String>,
}

impl<'a> Reader<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        self.step.attributes.get(name).map(String::as_str).map(str::trim)
    }

    fn read<T>(&mut self, name: &str, what: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let text = self.text(name)?;
        let found = read(text);
        if found.is_none() {
            self.faults.push(format!("{name}={text} is not {what}"));
        }
        found
    }

    fn time(&mut self, name: &str) -> Option<Duration> {
        self.read(name, "a duration like 10s", duration)
    }

    fn condition(&mut self, name: &str) -> Option<String> {
        let text = self.text(name)?;
        if let Err(error) = Predicate::parse(text) {
            self.faults.push(format!("{name}: {error}"));
        }
        Some(text.to_owned())
    }
}

impl Demands {
    /// Reads a step's attributes. What cannot be read is told, and makes the step unfit to run.
    #[must_use]
    pub fn of(step: &Step) -> (Self, Vec<String>) {
        let writes_by_place = step.section == SectionKind::Resolution;
        let mut reader = Reader { step, faults: Vec::new() };
        let mode = reader.read("mode", "read or write", |text| match text {
            "read" => Some(Effect::Read),
            "write" => Some(Effect::Write),
            "destroy" | "destructive" => Some(Effect::Destroy),
            _ => None,
        });
        let effect = step.commands.iter().map(|command| command.verdict.effect).max().unwrap_or_default();
        let changes = effect > Effect::Read || mode.map_or(writes_by_place, |mode| mode > Effect::Read);
        let timeout = reader.time("timeout").unwrap_or(Duration::from_secs(if changes { 120 } else { 15 }));
        if timeout.is_zero() || timeout > TIMEOUT_MAX {
            reader.faults.push(format!("timeout must be from 1ms to {} s", TIMEOUT_MAX.as_secs()));
        }
        let gate = reader.read("gate", "stop, warn or none", |text| match text {
            "stop" => Some(Gate::Stop),
            "warn" => Some(Gate::Warn),
            "none" => Some(Gate::None),
            _ => None,
        });
        let captures = capture_list(step);
        reader.faults.extend(captures.iter().filter_map(|capture| capture.as_ref().err().cloned()));
        let verify = reader.text("verify").map(str::to_owned);
        if let Some(Err(error)) = verify.as_deref().map(Verification::parse) {
            reader.faults.push(format!("verify: {error}"));
        }
        let redact: Vec<String> = reader.text("redact").map(str::to_owned).into_iter().collect();
        for pattern in &redact {
            if let Err(why) = crate::predicate::pattern(pattern) {
                reader.faults.push(format!("redact: {why}"));
            }
        }
        let demands = Self {
            expect: reader.condition("expect").unwrap_or_default(),
            gate: gate.unwrap_or(if changes { Gate::Stop } else { Gate::None }),
            timeout_ms: ms(timeout),
            retries: reader.read("retries", "a number up to 10", |text| text.parse().ok().filter(|n| *n <= RETRIES_MAX)).unwrap_or(0),
            backoff_ms: ms(reader.time("backoff").unwrap_or(Duration::from_secs(1))),
            mode,
            risk: risk(&mut reader),
            approve: approve(&mut reader),
            auto: reader
                .read("auto", "a score from 0 to 1", |text| text.parse().ok().filter(|score| (0.0..=1.0).contains(score) && *score > 0.0)),
            dry: reader.text("dry").map(str::to_owned),
            condition: reader.condition("if"),
            needs: reader.text("needs").unwrap_or_default().split([',', ' ']).filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            rate: reader.read("limit", "a rate like 2/1h", Rate::parse).unwrap_or(RATE),
            cooldown_ms: ms(reader.time("cooldown").unwrap_or(COOLDOWN)),
            lock: reader.text("lock").map(str::to_owned),
            blast: reader.read("blast", "a number of objects or a percentage", blast),
            verify,
            rollback: reader.text("rollback").map(str::to_owned),
            only_rollback: reader.read("only", "rollback", |text| (text == "rollback").then_some(true)).unwrap_or(false),
            captures: captures.into_iter().flatten().collect(),
            redact,
            hold_ms: ms(reader.time("hold").unwrap_or_default()),
            window_ms: reader.time("window").map(ms),
        };
        (demands, reader.faults)
    }

    /// The condition that an outcome has to meet.
    #[must_use]
    pub fn expectation(&self, executor: Executor) -> &str {
        match executor {
            _ if !self.expect.is_empty() => &self.expect,
            Executor::Sh | Executor::Kubectl => "exit == 0",
            Executor::Http => "status >= 200 && status < 300",
            _ => "ok",
        }
    }
}

fn risk(reader: &mut Reader<'_>) -> Risk {
    let risk = reader.read("risk", "low, medium, high or destructive", |text| match text {
        "low" => Some(Risk::Low),
        "medium" => Some(Risk::Medium),
        "high" => Some(Risk::High),
        "destructive" => Some(Risk::Destructive),
        _ => None,
    });
    risk.unwrap_or(Risk::Medium)
}

fn approve(reader: &mut Reader<'_>) -> Option<Approval> {
    reader.read("approve", "none, any, role:NAME or two", |text| match text {
        "none" => Some(Approval::None),
        "any" => Some(Approval::Any),
        "two" => Some(Approval::Two),
        _ => text.strip_prefix("role:").filter(|role| !role.is_empty()).map(|role| Approval::Role(role.to_owned())),
    })
}

fn blast(text: &str) -> Option<Blast> {
    match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse().ok().filter(|percent| (0.0..=100.0).contains(percent)).map(Blast::Percent),
        None => text.parse().ok().map(Blast::Objects),
    }
}
