//! A small notation for events, so that a case reads like what happened.
//!
//! One line is one event: `<time> [x<n>] [@agent] <what> [words]`. The time is in seconds, or `+5` after the line
//! before; `x5` says it five times. `step Bash ls r1` is a model message with one call and its result a second later.

use std::collections::BTreeMap;
use std::time::Duration;

use paramedic_detect::{AlertChange, Detectors, Settings};
use paramedic_model::{AlertState, ApiErrorClass, Event, Fact, SessionId, Source, Timestamp, ToolOutcome, Usage, WaitReason};
use xxhash_rust::xxh3::xxh3_64;

/// What a line of a script does.
#[derive(Debug, Clone)]
pub(crate) enum Doing {
    Event(Box<Event>),
    Tick(Timestamp),
    Finish,
}

#[derive(Default)]
struct Writer {
    at: f64,
    ids: u64,
    open: BTreeMap<String, Vec<String>>,
    out: Vec<Doing>,
}

pub(crate) fn time(seconds: f64) -> Timestamp {
    Timestamp::from_micros((seconds * 1e6) as i64)
}

pub(crate) fn parse(script: &str) -> Vec<Doing> {
    let mut writer = Writer::default();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace().peekable();
        let when = words.next().expect("a time");
        let times = words.next_if(|word| word.strip_prefix('x').is_some_and(|n| n.parse::<u32>().is_ok()));
        let agent = words.next_if(|word| word.starts_with('@')).map_or("a", |word| &word[1..]);
        let words: Vec<&str> = words.collect();
        for _ in 0..times.map_or(1, |word| word[1..].parse().unwrap()) {
            match when.strip_prefix('+') {
                Some(step) => writer.at += step.parse::<f64>().expect(line),
                None => writer.at = when.parse().expect(line),
            }
            writer.write(agent, &words, line);
        }
    }
    writer.out
}

fn hash(text: &str) -> Option<u64> {
    (text != "-").then(|| xxh3_64(text.as_bytes()))
}

fn class(word: &str) -> (ApiErrorClass, Option<u16>) {
    match word.parse::<u16>() {
        Ok(status) => (ApiErrorClass::from_status(status), Some(status)),
        Err(_) => (ApiErrorClass::from_name(word).expect(word), None),
    }
}

impl Writer {
    fn push(&mut self, agent: &str, text: &str, fact: Fact) {
        let mut event = Event::new(time(self.at), Source::Transcript, fact.kind());
        event.session = Some(SessionId::from(agent));
        event.agent = Some(agent.into());
        event.text = text.into();
        event.fact = fact;
        self.out.push(Doing::Event(Box::new(event)));
    }

    fn write(&mut self, agent: &str, words: &[&str], line: &str) {
        let word = |i: usize| words.get(i).copied().unwrap_or_default();
        let named = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let number = |name: &str| named(name).map_or(0, |n| n.parse::<u64>().expect(line));
        match word(0) {
            "prompt" => self.push(agent, "do it", Fact::Prompt),
            "end" => self.push(agent, "", Fact::TurnEnded { duration: None }),
            "bye" => self.push(agent, "", Fact::SessionEnded { reason: None }),
            "record" => self.push(agent, "", Fact::Record),
            "progress" => self.push(agent, "", Fact::ToolProgress { id: None }),
            "wait" => self.push(agent, "", Fact::Waiting { reason: WaitReason::Permission }),
            "started" => {
                self.push(agent, "", Fact::SubagentStarted { agent_type: None });
                if let Some(Doing::Event(event)) = self.out.last_mut() {
                    event.name = "journal/started".into();
                }
            }
            "result" => self.push(agent, "", Fact::SubagentEnded { completed: true }),
            "lost" => self.push(agent, "", Fact::SubagentEnded { completed: false }),
            "alive" | "died" => {
                let alive = word(0) == "alive";
                self.push(agent, "", Fact::Process { pid: 7, started: None, alive, status: None, rss_bytes: None });
            }
            "compact" => self.push(
                agent,
                "",
                Fact::Compaction { trigger: words.get(1).map(|word| (*word).into()), tokens_before: None, tokens_after: None },
            ),
            "retry" => {
                let (class, status) = class(word(1));
                let (attempt, max) = word(2).split_once('/').expect(line);
                let delay = Some(Duration::from_millis(500));
                let (attempt, attempts_max) = (attempt.parse().expect(line), Some(max.parse().expect(line)));
                self.push(agent, "", Fact::ModelRetry { class, status, attempt, attempts_max, delay });
            }
            "fail" => {
                let (class, status) = class(word(1));
                let retries_exhausted = words.contains(&"exhausted");
                self.push(agent, "API Error", Fact::ModelError { class, status, attempts: None, retries_exhausted, duration: None });
            }
            "limit" => {
                let limit = Fact::RateLimit {
                    status: word(1).into(),
                    limit: Some(word(2).into()),
                    utilization: Some(0.9),
                    remaining: None,
                    resets_at: Some(time(9_999.0)),
                };
                self.push(agent, "", limit);
            }
            "answer" => {
                self.ids += 1;
                let message = named("id").map_or_else(|| format!("msg_{}", self.ids), str::to_owned);
                self.answer(agent, &message, number("context"), named("usd"), named("says"));
            }
            "call" => self.call(agent, word(1), word(2)),
            "ok" | "err" | "rejected" | "sibling" => self.result(agent, word(0), word(1)),
            "step" | "fails" => {
                self.ids += 1;
                let message = format!("msg_{}", self.ids);
                self.answer(agent, &message, 0, None, None);
                self.call(agent, word(1), word(2));
                self.at += 1.0;
                self.result(agent, if word(0) == "step" { "ok" } else { "err" }, word(3));
            }
            "tick" => self.out.push(Doing::Tick(time(self.at))),
            "finish" => self.out.push(Doing::Finish),
            _ => panic!("the script says {line:?}"),
        }
    }

    fn answer(&mut self, agent: &str, message: &str, context: u64, usd: Option<&str>, says: Option<&str>) {
        let usage = Usage { cache_read_tokens: context, output_tokens: 10, ..Usage::default() };
        let fact = Fact::ModelCall {
            message: Some(message.into()),
            model: Some("some-model".into()),
            usage,
            cost_usd: usd.map(|usd| usd.parse().unwrap()),
            duration: None,
            time_to_first_token: None,
            stop_reason: None,
            text_hash: says.and_then(hash),
        };
        self.push(agent, "", fact);
    }

    fn call(&mut self, agent: &str, tool: &str, input: &str) {
        self.ids += 1;
        let id = format!("toolu_{}", self.ids);
        self.open.entry(agent.to_owned()).or_default().push(id.clone());
        self.push(agent, input, Fact::ToolCall { id: Some(id.into()), tool: tool.into(), input_hash: hash(input) });
    }

    fn result(&mut self, agent: &str, outcome: &str, result: &str) {
        let open = self.open.entry(agent.to_owned()).or_default();
        let id = (!open.is_empty()).then(|| open.remove(0).into());
        let outcome = match outcome {
            "ok" => ToolOutcome::Success,
            "err" => ToolOutcome::Error,
            "rejected" => ToolOutcome::Rejected,
            _ => ToolOutcome::SiblingError,
        };
        // `*` is a result that was never seen before.
        let content = if result == "*" { format!("result {}", self.ids) } else { result.to_owned() };
        self.push(agent, "", Fact::ToolResult { id, tool: None, outcome, result_hash: hash(&content), duration: None });
    }
}

pub(crate) fn play(doings: &[Doing], settings: Settings) -> Vec<AlertChange> {
    let (mut detectors, mut out) = (Detectors::new(settings), Vec::new());
    for doing in doings {
        play_one(&mut detectors, doing, &mut out);
    }
    out
}

pub(crate) fn play_one(detectors: &mut Detectors, doing: &Doing, out: &mut Vec<AlertChange>) {
    match doing {
        Doing::Event(event) => detectors.observe(event, out),
        Doing::Tick(now) => detectors.tick(*now, out),
        Doing::Finish => detectors.finish(out),
    }
}

/// `<at> <detector> <note|SEVn|resolved> from=<onset> [what was counted]`.
pub(crate) fn show(change: &AlertChange) -> String {
    let seconds = |at: Timestamp| at.as_micros() as f64 / 1e6;
    let state = match (change.state, change.severity) {
        (AlertState::Resolved, _) => "resolved",
        (AlertState::Firing, None) => "note",
        (AlertState::Firing, Some(severity)) => severity.as_str(),
    };
    let counts = &change.counts;
    let mut line = format!("{} {} {state} from={}", seconds(change.at), change.detector, seconds(change.started_at));
    for (name, count) in [("retries", counts.retries), ("failed", counts.terminal_failures), ("answered", counts.successes)] {
        if count > 0 {
            line.push_str(&format!(" {name}={count}"));
        }
    }
    if counts.occurrences > 1 {
        line.push_str(&format!(" times={}", counts.occurrences));
    }
    line
}

/// Plays the script with the default thresholds and compares every alert change.
#[track_caller]
pub(crate) fn check(script: &str, expect: &str) {
    check_with(Settings::default(), script, expect);
}

#[track_caller]
pub(crate) fn check_with(settings: Settings, script: &str, expect: &str) {
    let changes = play(&parse(script), settings);
    let got: Vec<String> = changes.iter().map(show).collect();
    let want: Vec<&str> = expect.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let reasons: Vec<&str> = changes.iter().map(|change| change.reason.as_str()).collect();
    assert_eq!(got, want, "\nscript:{script}\nreasons: {reasons:#?}");
}
