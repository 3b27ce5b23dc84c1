//! An instance whose alerts and runbooks do not wait for minutes, and what a person does at its command line: what all tests
//! of whole responses share.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use paramedic_rules::pack;
use serde_json::{Value, json};

use crate::fixture::{Home, Instance, until};

/// How long any part of a response may take here.
pub const WITHIN: Duration = Duration::from_secs(30);

/// Who answers the incidents of these tests.
pub const DANA: &str = "dana@example.org";

/// The embedded rules of one kind, as they are but for their waiting times; gives the file.
pub fn hasty_rules(home: &Home, file: &str) -> PathBuf {
    let texts = pack::texts(&paramedic_rules::Settings::default());
    let (_, text) = texts.iter().find(|(name, _)| name.ends_with(file)).unwrap_or_else(|| panic!("no {file} among the embedded rules"));
    let lines = text.lines().map(|line| match line.trim_start().starts_with("for:") {
        true => format!("{}for: 2s", &line[..line.len() - line.trim_start().len()]),
        false => line.to_owned(),
    });
    let path = home.path().join(file);
    fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
    path
}

/// A runbook of the library with other times, in the folder of the team's own. Each edit must find its place.
pub fn hasty_runbook(home: &Home, id: &str, edits: &[(&str, &str)]) {
    let library = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../runbook/library").join(format!("{id}.md"));
    let mut text = fs::read_to_string(library).unwrap();
    for (before, after) in edits {
        assert!(text.contains(before), "{id} says nowhere {before:?}");
        text = text.replace(before, after);
    }
    let folder = home.path().join("runbooks");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{id}.md")), text).unwrap();
}

/// Settings of an instance that asks these servers each second.
pub fn settings(home: &Home, rules: &[PathBuf], probes: &str, servers: &str) -> String {
    let folder = home.path().join("runbooks");
    format!(
        "[probe]\nhost = false\ninterval_s = 1\n{probes}\n[rules]\npack = false\nfiles = {rules:?}\nevaluation_interval_s = 1\n\
         [incidents]\nquiet_window_s = 2\n[runbook]\nfolders = [{folder:?}]\n[runbook.execute]\n{servers}\n"
    )
}

/// A verb of the command line, as a person says it; gives its JSON.
#[track_caller]
pub fn says(home: &Home, who: &str, arguments: &[&str]) -> Value {
    let output = home.command(arguments).arg("--json").env("PARAMEDIC_ACTOR", who).output().unwrap();
    assert!(output.status.success(), "paramedic {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(&output.stdout)))
}

pub fn shown(home: &Home, run: &str) -> Value {
    says(home, DANA, &["run", run])
}

/// Approves exactly what is shown now, by its hash, which it gives.
#[track_caller]
pub fn approve(home: &Home, run: &str, step: &str) -> String {
    let hash = step_of(&shown(home, run), step)["hash"].as_str().unwrap().to_owned();
    assert_eq!(hash.len(), 64, "{hash}");
    says(home, DANA, &["approve", run, step, &hash]);
    hash
}

/// The record of a run, without its times.
#[track_caller]
pub fn record(home: &Home, run: &str) -> Vec<Value> {
    let entries = says(home, DANA, &["run", run, "record"])["entries"].as_array().unwrap().clone();
    entries.into_iter().map(|entry| entry["record"].clone()).collect()
}

#[track_caller]
pub fn step_of(run: &Value, name: &str) -> Value {
    let found = run["steps"].as_array().unwrap().iter().find(|step| step["name"] == name);
    found.unwrap_or_else(|| panic!("no step {name}: {}", told(run))).clone()
}

/// The incident that opened by itself, and its run of this runbook, once its causes are ranked. Gives their ids.
#[track_caller]
pub fn ranked(home: &Home, instance: &Instance, runbook: &str) -> (String, Value) {
    let found = until(WITHIN, || {
        let runs = instance.list(&format!("/api/v1/runs?runbook={runbook}"), "runs");
        let run = shown(home, runs.first()?["id"].as_str()?);
        run["causes"].as_array().is_some_and(|causes| !causes.is_empty()).then_some(run)
    });
    let run = found.unwrap_or_else(|| {
        panic!("no run of {runbook}: {:#?}\n{:#?}\n{}", instance.list("/api/v1/runs", "runs"), instance.incidents(), home.log())
    });
    let incident = run["incident"].as_str().unwrap_or_else(|| panic!("a run without incident: {run:#}")).to_owned();
    (incident, run)
}

/// Waits until a run is as wanted.
#[track_caller]
pub fn run_when(home: &Home, run: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let found = until(WITHIN, || Some(shown(home, run)).filter(&wanted));
    found.unwrap_or_else(|| panic!("{run} is not {what}: {}\n{}", told(&shown(home, run)), home.log()))
}

/// Waits until a step is what a person should look at next, and asks for somebody.
#[track_caller]
pub fn waiting_for(home: &Home, run: &str, step: &str) -> Value {
    run_when(home, run, &format!("waiting for {step}"), |run| {
        run["next"] == step && run["asking"].as_array().is_some_and(|asking| asking.contains(&json!(step)))
    })
}

/// A run in few lines, for whoever reads why a test failed.
pub fn told(run: &Value) -> String {
    let steps = run["steps"].as_array().into_iter().flatten();
    let steps: Vec<String> = steps
        .map(|step| {
            let last = &step["last"];
            let value = |name: &str| if step[name].is_null() { String::new() } else { format!(" {name}={}", step[name]) };
            format!(
                "  {} [{}]{}{}{} {} {} {}",
                step["name"],
                step["word"],
                value("decision"),
                value("why"),
                value("blocked"),
                last["verdict"],
                last["why"],
                last["shown"].as_str().unwrap_or_default().lines().take(4).collect::<Vec<_>>().join(" / ")
            )
        })
        .collect();
    let causes = serde_json::to_string(&run["causes"]).unwrap();
    format!(
        "{} {} {} {} missing {} problems {}\ninputs {}\ncauses {causes}\n{}",
        run["id"],
        run["ending"],
        run["why"],
        run["halted"],
        run["missing"],
        run["problems"],
        run["inputs"],
        steps.join("\n")
    )
}

/// Waits until the incident is in one of these states.
#[track_caller]
pub fn incident_when(home: &Home, instance: &Instance, id: &str, states: &[&str]) -> Value {
    let read = || instance.json(&format!("/api/v1/incidents/{id}"));
    let found = until(WITHIN, || Some(read()).filter(|one| states.iter().any(|state| incident_state(one) == *state)));
    found.unwrap_or_else(|| panic!("{id} is not {states:?}: {:#}\n{}", read(), home.log()))
}

pub fn incident_state(incident: &Value) -> String {
    let of = |value: &Value| value["state"].as_str().map(str::to_owned);
    of(incident).or_else(|| of(&incident["incident"])).unwrap_or_default()
}

/// What a record says of one kind about a step, without dry runs.
pub fn records_of<'a>(record: &'a [Value], kind: &str, step: &str) -> Vec<&'a Value> {
    let matching = record.iter().filter(|one| one["record"] == kind && one["dry"] != true);
    matching.filter(|one| one["step"] == step || one["agreed"]["step"] == step).collect()
}

/// What the record must say about a change: who agreed to what, exactly what ran, how it ended, and how long it took.
#[track_caller]
pub fn assert_recorded(home: &Home, run: &str, step: &str, hash: &str, argv: &[&str]) {
    let entries = record(home, run);
    let of = |kind: &str| records_of(&entries, kind, step);
    let agreed = of("agreed");
    assert!(agreed.iter().any(|record| record["agreed"]["hash"] == hash && record["agreed"]["by"]["name"] == DANA), "{agreed:#?}");
    let begun = of("begun");
    assert_eq!(begun.len(), 1, "{begun:#?}");
    assert_eq!((&begun[0]["hash"], &begun[0]["attempt"]), (&json!(hash), &json!(1)), "{begun:#?}");
    let said = begun[0]["argv"].to_string();
    assert!(argv.iter().all(|word| said.contains(word)), "{argv:?} in {said}");
    assert!(begun[0]["authority"].to_string().contains(DANA), "{begun:#?}");
    let done = of("done");
    let last = &done.last().unwrap_or_else(|| panic!("no end of {step} in {entries:#?}"))["done"];
    assert_eq!(last["verdict"], "ok", "{last:#}");
    assert!(last["ms"].is_u64() && last["output_hash"].as_str().is_some_and(|hash| hash.len() == 64), "{last:#}");
}

/// The chain of the journal is whole.
#[track_caller]
pub fn assert_journal(home: &Home) {
    let output = home.run(&["journal", "verify"]);
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}
