//! The program among processes that die, come back, multiply or lie about the time.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use paramedic_model::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::catalogue::{WITHIN, ingest, text_of};
use crate::fixture::{Home, until};
use crate::http;
use crate::websocket::Listener;

#[test]
fn no_metric_is_exported_twice_and_ours_are_well_formed() {
    let home = Home::new();
    let instance = home.up();
    let metrics = http::request(&instance.http(), "GET", "/metrics", &[("accept", "application/openmetrics-text")], &[]).unwrap().text();
    let types: Vec<&str> = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let distinct: BTreeSet<&str> = types.iter().copied().collect();
    assert!(types.len() > 30 && types.len() == distinct.len(), "{types:?}");
    assert!(metrics.ends_with("# EOF\n"));
}

/// A liveness file as Claude Code writes it.
fn claim(home: &Home, pid: u32, session: &str, started_secs_ago: u64) {
    let folder = home.claude().join("sessions");
    fs::create_dir_all(&folder).unwrap();
    let started = SystemClock.now().before(Duration::from_secs(started_secs_ago));
    let body = json!({"pid": pid, "sessionId": session, "cwd": "/srv/shop", "startedAt": started.as_millis(), "status": "busy"});
    fs::write(folder.join(format!("{pid}.json")), body.to_string()).unwrap();
}

#[test]
fn a_zombie_and_a_reused_pid_are_not_a_running_agent() {
    let home = Home::new();
    let mut zombie = Command::new("true").spawn().unwrap();
    let mut later = Command::new("sleep").arg("60").spawn().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    claim(&home, std::process::id(), "s-alive", 0);
    claim(&home, zombie.id(), "s-zombie", 0);
    claim(&home, later.id(), "s-reused", 3600);
    let instance = home.up();
    let agents = until(WITHIN, || Some(instance.agents()).filter(|agents| agents.len() == 3));
    let agents = agents.unwrap_or_else(|| panic!("{:#?}", instance.agents()));
    for (session, pid, alive) in [("s-alive", std::process::id(), true), ("s-zombie", zombie.id(), false), ("s-reused", later.id(), false)]
    {
        let agent = agents.iter().find(|agent| agent["id"] == session).unwrap();
        assert_eq!((&agent["process"]["pid"], &agent["process"]["alive"]), (&json!(pid), &json!(alive)), "{agent:#}");
        assert_eq!(agent["process"]["rss_bytes"].as_u64().is_some_and(|bytes| bytes > 100_000), alive, "{agent:#}");
    }
    zombie.wait().unwrap();
    later.kill().unwrap();
    later.wait().unwrap();
}

#[test]
fn the_zone_of_the_machine_changes_nothing() {
    let home = Home::new();
    let folder = home.claude().join("projects/-srv-shop");
    fs::create_dir_all(&folder).unwrap();
    let line = |second: u32, kind: &str, content: Value| {
        json!({"type": kind, "sessionId": "s1", "uuid": format!("u{second}"), "cwd": "/srv/shop", "timestamp": format!("2026-01-01T12:{:02}:{:02}.000Z", second / 60, second % 60),
            "message": {"id": format!("m{second}"), "role": kind, "model": "claude-opus-4-5", "content": content, "usage": {"input_tokens": 1, "output_tokens": 1}}})
    };
    let lines = [line(0, "user", json!("go on")), line(1000, "assistant", json!([{"type": "text", "text": "done"}]))];
    fs::write(folder.join("s1.jsonl"), lines.map(|line| format!("{line}\n")).concat()).unwrap();
    let claude = home.claude();
    let report = |zone: &str| {
        let output = home.command(&["analyze", claude.to_str().unwrap(), "--json", "--no-cache"]).env("TZ", zone).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let utc = report("UTC");
    assert_eq!(utc["alerts"][0]["detector"], "silence", "{utc:#}");
    assert_eq!(utc["alerts"][0]["started_at"], "2026-01-01T12:00:00.000Z");
    for zone in ["America/Chicago", "Europe/Berlin", "Asia/Kolkata"] {
        assert_eq!(report(zone), utc, "{zone}");
    }
}

#[test]
fn a_storm_of_clients_that_come_back_is_survived() {
    let home = Home::new();
    let instance = home.up();
    let address = instance.http();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let mut listener = Listener::open(&address);
                    assert_eq!(listener.next().unwrap()["type"], "hello");
                }
            });
        }
    });
    assert_eq!(instance.get("/health/ready").status, 200);
    let clients = || instance.json("/api/status")["websocket"]["clients"].as_i64().unwrap();
    let gone = until(WITHIN, || {
        // Who is gone is noticed when something is told.
        instance.post_hook(&json!({"session_id": "s", "hook_event_name": "UserPromptSubmit", "prompt": "x"}));
        (clients() == 0).then_some(())
    });
    assert!(gone.is_some(), "{} clients are still counted", clients());
}

#[test]
fn what_a_killed_instance_left_behind_is_not_taken_for_a_running_one() {
    let home = Home::new();
    let instance = home.up();
    let pid = instance.child.id();
    instance.post_hook(&json!({"session_id": "s-before", "hook_event_name": "UserPromptSubmit", "prompt": "x"}));
    until(WITHIN, || (instance.list("/api/v1/events", "events").len() == 1).then_some(())).expect("it is stored");
    instance.kill();
    assert!(home.data().join("ports.json").exists(), "nobody could tidy up");
    // It may also find that this machine is short of something, and say so with its exit code.
    let doctor: Value = serde_json::from_slice(&home.run(&["doctor", "--json"]).stdout).unwrap();
    let running = doctor["checks"].as_array().unwrap().iter().find(|check| check["name"] == "paramedic up").unwrap();
    assert!(running["detail"].as_str().unwrap().contains("not running") && !running.to_string().contains(&pid.to_string()), "{running}");
    let offline = home.json(&["agents", "--all", "--json"]);
    assert_eq!(offline["agents"][0]["id"], "s-before", "what is on disk is still answered: {offline:#}");
    let refused = home.run(&["incident", "open", "x"]);
    assert_eq!(refused.status.code(), Some(3), "{}", text_of(&refused));
    assert_eq!(home.up().stop(), Some(0), "and it starts again by itself");
}

#[test]
fn the_memory_of_every_agent_process_is_sampled_again_and_again() {
    let home = Home::new();
    let config = home.path().join("paramedic.toml");
    fs::write(&config, "[tail]\nliveness_s = 1\nmemory_report_s = 1\n").unwrap();
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    claim(&home, std::process::id(), "s-one", 0);
    claim(&home, child.id(), "s-two", 0);
    let instance = home.up_with(&["--config", config.to_str().unwrap()]);
    for session in ["s-one", "s-two"] {
        let samples = || instance.list(&format!("/api/v1/events?kind=process&agent={session}"), "events");
        let enough = until(WITHIN, || Some(samples()).filter(|events| events.len() >= 3)).unwrap_or_else(|| panic!("{:#?}", samples()));
        assert!(enough.iter().all(|event| event["fact"]["rss_bytes"].as_u64().is_some_and(|bytes| bytes > 100_000)), "{enough:#?}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What a process says of its own heap, in the shape that Node prints.
    let sample = json!({"level": "info", "agentName": "node", "msg": "memory", "heapUsed": 41_000_000, "heapTotal": 60_000_000, "external": 1_200_000, "rss": 98_000_000});
    ingest(&home, &format!("{sample}\n"));
    let kept = until(WITHIN, || instance.list("/api/v1/events?agent=node", "events").pop()).expect("the sample");
    for key in ["heapUsed", "heapTotal", "external", "rss"] {
        assert_eq!(kept["attributes"][key], sample[key], "{kept:#}");
    }
}
