//! Brakes: killed at any moment, a hundred incidents at once, the kill switch in all its forms.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{QUEUE, Stage, WITHIN, a_moment, approve, call, done, hash, refused, run_until, start, step, view};
use crate::fixture::{Instance, until};
use crate::http;
use crate::programs::{Series, now_ms, write};

const KILLS: u64 = 20;

#[test]
fn killed_at_any_moment_nothing_runs_twice() {
    // Its write takes a little, so that some kills come in its middle.
    let text = QUEUE.replace("echo \"fix $word\" >> \"$folder/lines\"", "sleep 0.05; echo \"fix $word\" >> \"$folder/lines\"; sleep 0.05");
    let stage = Stage::new(&[&text]);
    let (mut agreed, mut doubts) = (0_usize, 0);
    let mut open: Option<(String, bool)> = None;
    for round in 0..KILLS {
        let instance = stage.up();
        if let Some((run, was_agreed)) = open.take() {
            // Whatever it was doing: it is over, in doubt, or waits for a person; it goes on by itself only when it was agreed to.
            let settled = run_until(&instance, &run, "settled", |view| {
                let state = step(view, "fix")["state"].as_str().unwrap_or("").to_owned();
                view["ended_at"].is_string() || state == "interrupted" || (!was_agreed && view["next"] == "fix")
            });
            let state = step(&settled, "fix")["state"].as_str().unwrap().to_owned();
            if state == "interrupted" {
                doubts += 1;
                a_moment();
                let after = view(&instance, &run);
                assert_eq!(step(&after, "fix")["state"], "interrupted", "what is in doubt waits for a person: {after:#}");
            }
            assert!(stage.lines().len() <= agreed, "round {round}: {} lines of {agreed} agreements: {settled:#}", stage.lines().len());
            done_or_over(&instance, &run);
        }
        let run = start(&instance, "queue", &json!({}));
        let address = instance.http();
        let mut was_agreed = false;
        let life = Duration::from_millis(20 + round * 61 % 400);
        let begun = Instant::now();
        // Agree as soon as it can be agreed to, and take the instance away some time after the beginning.
        while begun.elapsed() < life {
            if !was_agreed {
                let seen = view(&instance, &run);
                if seen["next"] == "fix" {
                    agreed += 1;
                    was_agreed = true;
                    assert_eq!(approve(&instance, "ana", &run, "fix", &hash(&seen, "fix")).status, 200);
                }
            }
            thread::sleep(Duration::from_millis(2));
        }
        drop(address);
        instance.kill();
        open = Some((run, was_agreed));
    }
    // What was under way ends by itself at most.
    thread::sleep(Duration::from_millis(300));
    let instance = stage.up();
    a_moment();
    let (lines, made) = (stage.lines().len(), attempts(&instance));
    println!("{agreed} agreements, {lines} lines, {made} attempts, {doubts} in doubt");
    assert!(agreed > 0 && lines <= agreed && made <= agreed, "{lines} lines, {made} attempts of {agreed} agreements");
    stage.no_panic();
    assert_eq!(instance.stop(), Some(0));
    stage.journal_holds();
}

fn done_or_over(instance: &Instance, run: &str) {
    let answer = call(instance, "ana", &format!("/api/v1/runs/{run}/cancel"), &json!({ "why": "next" }));
    assert!(matches!(answer.status, 200 | 409), "{}", answer.text());
}

/// Attempts to change something, by the records of all runs.
fn attempts(instance: &Instance) -> usize {
    let runs = instance.list("/api/v1/runs?limit=1000", "runs");
    let of = |run: &Value| {
        let entries = instance.list(&format!("/api/v1/runs/{}/record?limit=1000", run["id"].as_str().unwrap()), "entries");
        entries.iter().filter(|entry| is_attempt(&entry["record"])).count()
    };
    runs.iter().map(of).sum()
}

fn is_attempt(record: &Value) -> bool {
    record["record"] == "begun" && record["dry"] == false && record["effect"] != "read"
}

/// It may go unattended, once a policy says so.
const AUTO: &str = r#"---
id: auto
title: The queue is stuck
services: [queue]
match: { alerts: [QueueStuck] }
---
# The queue is stuck

## Investigation
```sh { name=look timeout=5s }
ls "FOLDER"
```

## Resolution
### Cause: The worker is gone { #worker when="look.exit == 0" }
```sh { name=fix mode=write timeout=10s auto=0.1 dry="echo one" verify="look.exit == 0 within 5s" limit=1000/1h cooldown=0s }
echo fix >> "FOLDER/lines"
```
"#;

const POLICY: &str = "steps_at_once = 2\nfleet_limit = 5\nstarts_per_minute = 40\n[[runbook.policies]]\nname = \"queue\"\nrunbook = \"auto\"\ncause = \"worker\"\nscore_min = 0.1\nattempts_per_hour = 1000\naffected_max = 1\n";

/// So many alerts, each of a service of its own, so that none is told apart from another's incident.
fn rules(count: usize) -> String {
    let rule = |n: usize| {
        format!(
            "  - alert: QueueStuck{n}\n    expr: queue_level{{queue=\"q{n}\"}} > 0\n    labels: {{severity: critical, service: s{n}}}\n    annotations: {{summary: 'stuck {n}', runbook: RUNBOOK}}\n"
        )
    };
    format!("groups:\n- name: queue\n  interval: 1s\n  rules:\n{}", (0..count).map(rule).collect::<String>())
}

/// Samples that let all of them fire.
fn fire(instance: &Instance, count: usize) {
    let series = |n| Series::new("queue_level", &format!("queue=q{n},instance=i{n}"), &[(now_ms(), 1.0)]);
    write(&instance.http(), (0..count).map(series).collect());
}

fn resident_kib(instance: &Instance) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", instance.child.id())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

#[test]
fn a_hundred_incidents_at_once_are_held_by_the_brake() {
    let stage = Stage::with(&[AUTO], POLICY);
    fs::write(stage.home.path().join("rules.yml"), rules(100).replace("RUNBOOK", "auto")).unwrap();
    let instance = stage.up();
    // By alerts and by hand at the same time.
    fire(&instance, 100);
    let opened: usize = thread::scope(|scope| {
        let open = |from: usize| {
            let mut opened = 0;
            for number in from..from + 25 {
                let title = json!({ "title": format!("queue {number} stuck"), "type": "performance", "severity": "SEV2" });
                opened += usize::from(call(&instance, "ana", "/api/v1/incidents", &title).status == 200);
            }
            opened
        };
        let all: Vec<_> = (0..4).map(|part| scope.spawn(move || open(part * 25))).collect();
        all.into_iter().map(|one| one.join().unwrap()).sum()
    });
    println!("{opened} incidents by hand");
    // A run for each, unattended where it may be.
    let ids: Vec<String> = instance.incidents().iter().map(|incident| incident["id"].as_str().unwrap().to_owned()).collect();
    assert!(ids.len() >= 100 || opened < 100, "{}", ids.len());
    let mut slowest = Duration::ZERO;
    for id in &ids {
        let begun = Instant::now();
        drop(call(&instance, "ana", "/api/v1/runbooks/auto/run", &json!({ "incident": id, "mode": "auto" })));
        slowest = slowest.max(begun.elapsed());
    }
    let tripped = until(WITHIN, || Some(instance.json("/api/v1/brake")).filter(|brakes| brakes["fleet"]["fleet"] == "tripped"));
    let tripped = tripped.unwrap_or_else(|| panic!("{:#}\n{} lines", instance.json("/api/v1/brake"), stage.lines().len()));
    assert_eq!(tripped["fleet_limit"], 5, "{tripped:#}");
    let begun = Instant::now();
    let page = instance.get(&format!("/incidents/{}", ids[0]));
    let took = begun.elapsed();
    println!("{} incidents, slowest start {slowest:?}, page {took:?}, {} KiB", ids.len(), resident_kib(&instance));
    assert!(page.status == 200 && took < Duration::from_secs(1), "{} {took:?}", page.status);
    a_moment();
    let lines = stage.lines().len();
    assert!((1..=5).contains(&lines), "{lines} unattended fixes");
    let attempted = attempts(&instance);
    assert!(attempted <= 5, "{attempted} attempts");
    assert!(resident_kib(&instance) < 700 * 1024, "{} KiB", resident_kib(&instance));
    // Started by itself: no more than so many in a minute.
    let by_itself = instance.list("/api/v1/runs?limit=1000", "runs").iter().filter(|run| run["by"] == "paramedic").count();
    assert!(by_itself <= 40, "{by_itself}");

    // A restart forgets nothing, and no machine releases it.
    instance.kill();
    let instance = stage.up();
    assert_eq!(instance.json("/api/v1/brake")["fleet"]["fleet"], "tripped");
    for nobody in ["http", "web", "paramedic", "policy:queue", "agent:1", "", "ana,ben"] {
        refused(&instance, nobody, "/api/v1/brake/release", &json!({ "why": "go" }), 403);
    }
    thread::sleep(Duration::from_secs(1));
    assert!(stage.lines().len() <= 5, "{:?}", stage.lines());
    assert_eq!(done(&instance, "ana", "/api/v1/brake/release", &json!({ "why": "looked" }))["fleet"]["fleet"], "free");
    stage.no_panic();
    assert_eq!(instance.stop(), Some(0));
    stage.journal_holds();
}

#[test]
fn incidents_start_only_so_many_runs_in_a_minute() {
    let stage = Stage::with(&[QUEUE], "starts_per_minute = 3\n");
    fs::write(stage.home.path().join("rules.yml"), rules(100).replace("RUNBOOK", "queue")).unwrap();
    let instance = stage.up();
    fire(&instance, 100);
    until(WITHIN, || (!instance.list("/api/v1/runs", "runs").is_empty()).then_some(())).unwrap_or_else(|| panic!("{}", stage.home.log()));
    thread::sleep(Duration::from_secs(2));
    let (incidents, runs) = (instance.incidents().len(), instance.list("/api/v1/runs?limit=1000", "runs").len());
    println!("{incidents} incidents, {runs} runs");
    assert!(incidents > 3 && runs == 3, "{runs} runs of {incidents} incidents");
}

/// Approved and then held; nothing may happen until it is let go.
fn held(stage: &Stage, instance: &Instance, run: &str) {
    thread::sleep(Duration::from_millis(1_500));
    assert!(stage.lines().is_empty(), "{:#}", view(instance, run));
}

#[test]
fn the_kill_switch_holds_in_all_its_forms() {
    let stage = Stage::new(&[QUEUE]);
    let file = stage.home.data().join("BRAKE");
    // Without an instance the file is written, and the next start obeys it.
    fs::create_dir_all(stage.home.data()).unwrap();
    fs::write(stage.home.path().join("paramedic.toml"), stage.settings()).unwrap();
    let output = stage.by("ana", &["brake", "on", "--why", "before the start"]);
    assert!(output.status.success() && file.exists(), "{}", String::from_utf8_lossy(&output.stderr));
    let instance = stage.up();
    assert_eq!(instance.json("/api/v1/brake")["stopped"], "writes");
    let run = start(&instance, "queue", &json!({}));
    let seen = run_until(&instance, &run, "looked at", |view| view["causes"].as_array().is_some_and(|all| !all.is_empty()));
    assert_eq!(approve(&instance, "ana", &run, "fix", &hash(&seen, "fix")).status, 200);
    held(&stage, &instance, &run);
    // Lifting over the API takes no file away.
    done(&instance, "ana", "/api/v1/brake/lift", &json!({ "why": "really" }));
    assert_eq!(instance.json("/api/v1/brake")["stopped"], "writes");
    held(&stage, &instance, &run);
    instance.kill();
    let instance = stage.up();
    held(&stage, &instance, &run);

    // Anything under that name stops everything: a folder, a dangling link, a file that cannot be opened, nonsense.
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert_eq!(instance.json("/api/v1/brake")["stopped"], "everything");
    held(&stage, &instance, &run);
    let off = stage.by("ana", &["brake", "off", "--why", "off"]);
    assert!(file.is_dir(), "{}", String::from_utf8_lossy(&off.stderr));
    assert_eq!(instance.json("/api/v1/brake")["stopped"], "everything", "{}", String::from_utf8_lossy(&off.stderr));
    fs::remove_dir(&file).unwrap();
    std::os::unix::fs::symlink("/nonexistent", &file).unwrap();
    assert_eq!(instance.json("/api/v1/brake")["stopped"], "everything");
    fs::remove_file(&file).unwrap();
}

#[test]
fn a_stop_file_that_comes_between_agreement_and_beginning_stops_it() {
    let stage = Stage::new(&[QUEUE]);
    let file = stage.home.data().join("BRAKE");
    let instance = stage.up();
    done(&instance, "ana", "/api/v1/brake/stop", &json!({ "why": "hold" }));
    let run = start(&instance, "queue", &json!({}));
    let seen = run_until(&instance, &run, "looked at", |view| view["causes"].as_array().is_some_and(|all| !all.is_empty()));
    assert_eq!(approve(&instance, "ana", &run, "fix", &hash(&seen, "fix")).status, 200);
    fs::write(&file, "\u{0}\u{1} nonsense").unwrap();
    done(&instance, "ana", "/api/v1/brake/lift", &json!({ "why": "go" }));
    assert_eq!(instance.json("/api/v1/brake")["stopped"], "everything");
    held(&stage, &instance, &run);
    // A switch that people set outlives the file and a kill.
    refused(&instance, "http", "/api/v1/brake/lift", &json!({ "why": "go" }), 403);
    done(&instance, "ana", "/api/v1/brake/stop", &json!({ "what": "everything", "why": "hold" }));
    fs::remove_file(&file).unwrap();
    instance.kill();
    let instance = stage.up();
    assert_eq!(instance.json("/api/v1/brake")["stopped"], "everything");
    held(&stage, &instance, &run);
    let shown = stage.by("", &["brake", "off", "--why", "go"]);
    assert_ne!(shown.status.code(), Some(0), "nobody lifts it");
    assert_eq!(instance.json("/api/v1/brake")["stopped"], "everything");
    // A person does; what was agreed to a moment ago goes on, once.
    let off = stage.by("ana", &["brake", "off", "--why", "go"]);
    assert!(off.status.success(), "{}", String::from_utf8_lossy(&off.stderr));
    run_until(&instance, &run, "done", |view| view["ending"] == "done");
    assert_eq!(stage.lines().len(), 1);
}

#[test]
fn a_stop_in_the_middle_of_a_run_lets_no_further_step_begin() {
    let two = QUEUE.replace("```sh { name=fix", "```sh { name=first mode=write timeout=20s verify=\"look.exit == 0 within 5s\" limit=1000/1h cooldown=0s }\ntouch \"$folder/begun\"; sleep 2; touch \"$folder/over\"\n```\n```sh { name=fix");
    let stage = Stage::new(&[&two]);
    let instance = stage.up();
    let run = start(&instance, "queue", &json!({}));
    let seen = run_until(&instance, &run, "waiting", |view| view["next"] == "first");
    for name in ["first", "fix"] {
        assert_eq!(approve(&instance, "ana", &run, name, &hash(&seen, name)).status, 200);
    }
    until(WITHIN, || stage.folder().join("begun").exists().then_some(())).expect("it begins");
    fs::write(stage.home.data().join("BRAKE"), "").unwrap();
    until(WITHIN, || stage.folder().join("over").exists().then_some(())).expect("a step under way is not cut in its middle");
    held(&stage, &instance, &run);
    fs::remove_file(stage.home.data().join("BRAKE")).unwrap();
    let ended = run_until(&instance, &run, "done", |view| !stage.lines().is_empty() && view["ended_at"].is_string());
    assert_eq!(stage.lines().len(), 1, "{ended:#}");
    let answer = http::get(&instance.http(), "/brake").unwrap();
    assert_eq!(answer.status, 200);
}
