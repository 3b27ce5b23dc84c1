//! One real failure from its alert to its record: what all tests of whole responses do alike.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use paramedic_model::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::fixture::{Home, Instance, until};
use crate::respond_scene::{self, WITHIN, assert_journal, incident_when, records_of, says, step_of, told};

/// A library runbook that does not wait for minutes: nothing but its times is other than in the library. `window` stands for
/// all ranges of its queries.
pub fn shortened(id: &str, window: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../runbook/library/{id}.md"));
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{error}: {}", file.display()));
    let mut short = String::new();
    for line in text.lines() {
        let mut line = line.to_owned();
        for (before, after) in [("within ", "20s"), ("hold ", "2s"), ("hold=", "2s")] {
            line = with_time(&line, before, after);
        }
        for range in ["[5m]", "[15m]", "[30m]", "[1h]"] {
            line = line.replace(range, &format!("[{window}]"));
        }
        short.push_str(&line);
        short.push('\n');
    }
    short
}

/// A line in which the time that follows a word is another one.
fn with_time(line: &str, before: &str, after: &str) -> String {
    let mut parts = line.split(before);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let is_time = digits > 0 && part[digits..].starts_with(['s', 'm', 'h']);
        out.push_str(before);
        out.push_str(if is_time { after } else { "" });
        out.push_str(if is_time { &part[digits + 1..] } else { part });
    }
    out
}

/// An embedded alert as a rule file of its own, with other times and with labels that say what the runbook asks for.
pub fn pack_rule(alert: &str, waits: &str, window: &str, thresholds: &[(&str, f64)], labels: &[(&str, &str)]) -> String {
    let thresholds = thresholds.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    let settings = paramedic_rules::Settings { thresholds, ..Default::default() };
    let texts = paramedic_rules::pack::texts(&settings);
    let begins = format!("- alert: {alert}");
    let text = texts.iter().map(|(_, text)| text).find(|text| text.lines().any(|line| line.trim() == begins));
    let text = text.unwrap_or_else(|| panic!("no {alert} in the pack"));
    let mut file = format!("groups:\n  - name: {alert}\n    interval: 1s\n    rules:\n");
    let of_alert = text.lines().skip_while(|line| line.trim() != begins).enumerate();
    for (number, line) in of_alert.take_while(|(number, line)| *number == 0 || !line.trim().starts_with("- ")) {
        let indent = &line[..line.len() - line.trim_start().len()];
        let mut line = line.to_owned();
        for range in ["[5m]", "[15m]", "[30m]", "[1h]"] {
            line = line.replace(range, &format!("[{window}]"));
        }
        if line.trim().starts_with("for: ") {
            line = format!("{indent}for: {waits}");
        }
        file.push_str(&format!("{line}\n"));
        if number > 0 && line.trim() == "labels:" {
            labels.iter().for_each(|(name, value)| file.push_str(&format!("{indent}  {name}: '{value}'\n")));
        }
    }
    file
}

/// An instance that answers incidents with runbooks whose times are short.
pub struct Case {
    pub home: Home,
    pub instance: Instance,
}

impl Case {
    /// `settings` comes after those that all cases have; `rules` are rule files.
    #[track_caller]
    pub fn up(home: Home, runbooks: &[String], rules: &[String], settings: &str) -> Self {
        let (books, alerts) = (home.path().join("runbooks"), home.path().join("rules"));
        for (folder, texts, end) in [(&books, runbooks, "md"), (&alerts, rules, "yaml")] {
            fs::create_dir_all(folder).unwrap();
            for (number, text) in texts.iter().enumerate() {
                fs::write(folder.join(format!("{number}.{end}")), text).unwrap();
            }
        }
        let files = alerts.join("*.yaml");
        let all = format!(
            "[incidents]\nquiet_window_s = 2\n[tail]\nliveness_s = 1\n[meter]\ninterval_s = 1\n\
             [rules]\npack = false\nevaluation_interval_s = 1\nfiles = [{files:?}]\n{settings}"
        );
        // A setting of the case stands beside the folder of its runbooks.
        let runbook = format!("[runbook]\nfolders = [{books:?}]\n");
        let all = if all.contains("[runbook]\n") { all.replace("[runbook]\n", &runbook) } else { all + &runbook };
        fs::write(home.path().join("paramedic.toml"), &all).unwrap();
        let instance = home.up_configured(&all);
        Self { home, instance }
    }

    /// A verb that succeeds and prints JSON.
    #[track_caller]
    pub fn json_by(&self, name: &str, arguments: &[&str]) -> Value {
        says(&self.home, name, arguments)
    }

    #[track_caller]
    pub fn run(&self, id: &str) -> Value {
        self.instance.json(&format!("/api/v1/runs/{id}"))
    }

    /// Waits for the run that the instance itself started with this runbook.
    #[track_caller]
    pub fn run_began(&self, runbook: &str) -> String {
        let found = until(WITHIN, || {
            let runs = self.instance.list("/api/v1/runs", "runs");
            runs.into_iter().find(|run| run["runbook"] == runbook && run["by"] == "paramedic")
        });
        let run = found.unwrap_or_else(|| panic!("no run of {runbook}: {:#?}\n{}", self.instance.incidents(), self.home.log()));
        run["id"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn step(&self, run: &str, step: &str) -> Value {
        step_of(&self.run(run), step)
    }

    /// Waits until a cause is the likeliest one; gives its score.
    #[track_caller]
    pub fn likeliest(&self, run: &str, cause: &str) -> f64 {
        let found = until(WITHIN, || {
            let view = self.run(run);
            (view["causes"][0]["cause"] == cause).then(|| view["causes"][0]["score"].as_f64().unwrap())
        });
        found.unwrap_or_else(|| panic!("{cause} is not the likeliest: {}", told(&self.run(run))))
    }

    /// Waits until a step asks for somebody, and agrees to exactly what it shows.
    #[track_caller]
    pub fn approve(&self, name: &str, run: &str, step: &str) -> Value {
        let can = |view: &Value| view["can"].as_array().is_some_and(|can| can.iter().any(|one| one == "approve"));
        let shown = until(WITHIN, || Some(self.step(run, step)).filter(|shown| can(shown)));
        let shown = shown.unwrap_or_else(|| panic!("{step} cannot be approved: {}", told(&self.run(run))));
        self.json_by(name, &["approve", run, step, shown["hash"].as_str().unwrap()]);
        shown
    }

    /// Waits until a step is in one of these states.
    #[track_caller]
    pub fn step_becomes(&self, run: &str, step: &str, states: &[&str]) -> Value {
        let found = until(WITHIN, || Some(self.step(run, step)).filter(|shown| states.iter().any(|state| shown["state"] == *state)));
        found.unwrap_or_else(|| panic!("{step} is not {states:?}: {}", told(&self.run(run))))
    }

    /// Waits until the run ended because what was done is verified.
    #[track_caller]
    pub fn done(&self, run: &str) -> Value {
        let ended = until(WITHIN, || Some(self.run(run)).filter(|view| !view["ended_at"].is_null()));
        let ended = ended.unwrap_or_else(|| panic!("it does not end: {}", told(&self.run(run))));
        assert_eq!(ended["ending"], "done", "{}", told(&ended));
        ended
    }

    /// Waits until the incident of a run is over.
    #[track_caller]
    pub fn incident_over(&self, run: &str) -> Value {
        let id = self.run(run)["incident"].as_str().unwrap().to_owned();
        incident_when(&self.home, &self.instance, &id, &["mitigated", "resolved"])["incident"].clone()
    }

    /// The record of a run is whole: who agreed to a step, what exactly ran, how it ended, and its output's hash.
    #[track_caller]
    pub fn recorded(&self, run: &str, step: &str, by: &str) {
        let entries = respond_scene::record(&self.home, run);
        let first = |kind| *records_of(&entries, kind, step).first().unwrap_or_else(|| panic!("no {kind} of {step}: {entries:#?}"));
        let (begun, done) = (first("begun"), first("done"));
        assert!(begun["authority"].to_string().contains(by), "{begun:#}");
        assert!(begun["argv"].as_array().is_some_and(|argv| !argv.is_empty()), "{begun:#}");
        assert!(begun["hash"].as_str().is_some_and(|hash| hash.len() == 64), "{begun:#}");
        assert!(done["done"]["output_hash"].as_str().is_some_and(|hash| !hash.is_empty()) && done["done"]["ms"].is_u64(), "{done:#}");
        assert_journal(&self.home);
    }
}

/// A process of the test in a group of its own; the whole group ends with the test.
pub struct Grouped(pub Child);

impl Grouped {
    pub fn start(command: &mut Command) -> Self {
        Self(command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Takes note of its end, as whoever started it would.
    pub fn reap(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Grouped {
    fn drop(&mut self) {
        let group = format!("-{}", self.pid());
        drop(Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status());
        drop(self.0.wait());
    }
}

/// A process lives: it is there and has not ended.
pub fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()).is_some_and(|state| state != 'Z' && state != 'X')
}

pub fn children_of(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// A file that is run as a program.
pub fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let file = folder.join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file
}

/// The liveness file of an agent, as Claude Code writes it.
pub fn claim(home: &Home, pid: u32, session: &str) {
    let folder = home.claude().join("sessions");
    fs::create_dir_all(&folder).unwrap();
    let body = json!({"pid": pid, "sessionId": session, "cwd": "/srv/shop", "startedAt": SystemClock.now().as_millis(), "status": "busy"});
    fs::write(folder.join(format!("{pid}.json")), body.to_string()).unwrap();
}

/// Appends lines to the transcript of a session.
pub fn transcript(home: &Home, session: &str, lines: &[Value]) {
    transcript_in(&home.claude(), session, lines);
}

pub fn transcript_in(claude: &Path, session: &str, lines: &[Value]) {
    use std::io::Write as _;
    let folder = claude.join("projects/-srv-shop");
    fs::create_dir_all(&folder).unwrap();
    let mut file = fs::File::options().create(true).append(true).open(folder.join(format!("{session}.jsonl"))).unwrap();
    file.write_all(lines.iter().map(|line| format!("{line}\n")).collect::<String>().as_bytes()).unwrap();
}

/// A record of a transcript, of now.
pub fn record(session: &str, id: &str, role: &str, content: &Value) -> Value {
    json!({"type": role, "sessionId": session, "uuid": format!("{session}-{id}"), "cwd": "/srv/shop", "timestamp": SystemClock.now().to_string(),
        "message": {"id": format!("m-{id}"), "role": role, "model": "claude-opus-4-5", "content": content, "usage": {"input_tokens": 3, "output_tokens": 5}}})
}
