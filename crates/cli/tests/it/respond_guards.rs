//! Attempts to make a running instance do something dangerous by accident. Each test fails should its attempt succeed.

mod agreement;
mod brakes;
mod faults;
mod stale;
mod text;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fixture::{Home, Instance, until};
use crate::http::{self, Answer};

const WITHIN: Duration = Duration::from_secs(30);

/// A runbook whose fix appends a line: how often it ran is how many lines there are.
const QUEUE: &str = r#"---
id: queue
title: The queue is stuck
services: [queue]
match: { alerts: [QueueStuck] }
inputs:
  folder: { default: "FOLDER", pattern: "^/[A-Za-z0-9/._-]+$" }
  word: { default: plain }
---
# The queue is stuck

## Symptoms
- [ ] Nothing leaves the queue

## Investigation
```sh { name=look timeout=5s }
ls "$folder"; echo "$word"
```

## Resolution
### Cause: The worker is gone { #worker when="look.exit == 0" }
```sh { name=fix mode=write timeout=10s verify="look.exit == 0 within 5s" limit=1000/1h cooldown=0s }
echo "fix $word" >> "$folder/lines"
```
"#;

/// A home with a team's runbooks and a folder that they work on.
struct Stage {
    home: Home,
    more: String,
}

impl Stage {
    fn new(runbooks: &[&str]) -> Self {
        Self::with(runbooks, "")
    }

    /// `more` is added to the settings; it begins below `[runbook]`.
    fn with(runbooks: &[&str], more: &str) -> Self {
        let home = Home::new();
        for folder in ["runbooks", "queue"] {
            fs::create_dir(home.path().join(folder)).unwrap();
        }
        let stage = Self { home, more: more.to_owned() };
        for (number, text) in runbooks.iter().enumerate() {
            stage.write(&format!("{number}.md"), text);
        }
        stage
    }

    fn write(&self, name: &str, text: &str) {
        let text = text.replace("FOLDER", self.folder().to_str().unwrap());
        fs::write(self.home.path().join("runbooks").join(name), text).unwrap();
    }

    fn folder(&self) -> PathBuf {
        self.home.path().join("queue")
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder().join("lines")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn settings(&self) -> String {
        let folder = self.home.path().join("runbooks");
        let rules = self.home.path().join("rules.yml");
        let files = if rules.exists() { format!("files = [{rules:?}]\n") } else { String::new() };
        format!(
            "[probe]\nhost = false\n[meter]\nenabled = false\n[rules]\npack = false\nevaluation_interval_s = 1\n{files}[runbook]\nlibrary = false\nfolders = [{folder:?}]\n{}",
            self.more.replace("FOLDER", self.folder().to_str().unwrap())
        )
    }

    #[track_caller]
    fn up(&self) -> Instance {
        self.home.up_configured(&self.settings())
    }

    /// The command line, as somebody.
    fn by(&self, who: &str, arguments: &[&str]) -> std::process::Output {
        let config = self.home.path().join("paramedic.toml");
        self.home.command(arguments).env("PARAMEDIC_ACTOR", who).env("PARAMEDIC_CONFIG", config).output().unwrap()
    }

    #[track_caller]
    fn journal_holds(&self) {
        let verified = self.home.run(&["journal", "verify"]);
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    }

    #[track_caller]
    fn no_panic(&self) {
        let log = self.home.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}

/// Asks as somebody.
fn call(instance: &Instance, who: &str, path: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json"), ("x-paramedic-actor", who)];
    http::request(&instance.http(), "POST", path, &headers, body.to_string().as_bytes()).unwrap()
}

#[track_caller]
fn done(instance: &Instance, who: &str, path: &str, body: &Value) -> Value {
    let answer = call(instance, who, path, body);
    assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text());
    answer.json()
}

#[track_caller]
fn refused(instance: &Instance, who: &str, path: &str, body: &Value, status: u16) -> String {
    let answer = call(instance, who, path, body);
    assert_eq!(answer.status, status, "{path} {who:?} {body}: {}", answer.text());
    answer.text()
}

#[track_caller]
fn start(instance: &Instance, runbook: &str, inputs: &Value) -> String {
    let view = done(instance, "ana", &format!("/api/v1/runbooks/{runbook}/run"), &json!({ "inputs": inputs }));
    view["id"].as_str().unwrap().to_owned()
}

fn view(instance: &Instance, run: &str) -> Value {
    instance.json(&format!("/api/v1/runs/{run}"))
}

#[track_caller]
fn run_until(instance: &Instance, run: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let found = until(WITHIN, || Some(view(instance, run)).filter(&wanted));
    found.unwrap_or_else(|| panic!("{run} is not {what}: {:#}", view(instance, run)))
}

fn step<'v>(view: &'v Value, name: &str) -> &'v Value {
    let steps = view["steps"].as_array().unwrap_or_else(|| panic!("{view:#}"));
    steps.iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("no step {name} in {view:#}"))
}

fn hash(view: &Value, name: &str) -> String {
    step(view, name)["hash"].as_str().unwrap().to_owned()
}

/// Starts a run and waits until its fix is proposed.
#[track_caller]
fn waiting(instance: &Instance, runbook: &str, inputs: &Value) -> (String, Value) {
    let run = start(instance, runbook, inputs);
    let view = run_until(instance, &run, "waiting", |view| view["next"] == "fix");
    (run, view)
}

fn approve(instance: &Instance, who: &str, run: &str, step: &str, hash: &str) -> Answer {
    call(instance, who, &format!("/api/v1/runs/{run}/approve"), &json!({ "step": step, "hash": hash }))
}

/// Long enough for something forbidden to happen.
fn a_moment() {
    std::thread::sleep(Duration::from_millis(400));
}
