//! Requests that come twice, too late, too large, or for something that is not there.

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::{QUEUE, Stage, WITHIN, a_moment, approve, call, done, hash, refused, run_until, step, view, waiting};
use crate::fixture::until;
use crate::programs::free_port;
use crate::{http, needs};

#[test]
fn an_agreement_is_for_one_attempt() {
    let stage = Stage::new(&[QUEUE]);
    let instance = stage.up();
    let (run, seen) = waiting(&instance, "queue", &json!({}));
    let hash = hash(&seen, "fix");
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let ask = || approve(&instance, "ana", &run, "fix", &hash).status;
        let all: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(answers.contains(&200) && answers.iter().all(|status| matches!(status, 200 | 409)), "{answers:?}");
    run_until(&instance, &run, "done", |view| view["ending"] == "done");
    for who in ["ana", "ben"] {
        assert_eq!(approve(&instance, who, &run, "fix", &hash).status, 409);
    }
    let step = json!({ "step": "fix" });
    for what in ["choose", "again", "skip", "undo"] {
        refused(&instance, "ana", &format!("/api/v1/runs/{run}/{what}"), &step, 409);
    }
    refused(&instance, "ana", &format!("/api/v1/runs/{run}/inputs"), &json!({ "inputs": { "word": "x" } }), 409);
    a_moment();
    assert_eq!(stage.lines().len(), 1, "{:?}", stage.lines());
    stage.journal_holds();
}

const MORE: &str = r#"---
id: more
title: More
services: [more]
---
# More

## Investigation
```sh { name=look timeout=5s }
ls "FOLDER"
```

## Resolution
### Cause: It { #it when="look.exit == 0" }
```sh { name=fix mode=write timeout=10s rollback=back verify="look.exit == 3 within 60s" limit=1000/1h cooldown=0s }
echo fix >> "FOLDER/lines"
```
```sh { name=back mode=write only=rollback timeout=10s }
echo back >> "FOLDER/lines"
```
```sh { name=drop mode=write timeout=10s dry="ls FOLDER" blast=9 verify="look.exit == 0 within 5s" limit=1000/1h cooldown=0s }
rm -r "FOLDER/cache"
```
"#;

#[test]
fn what_is_not_for_choosing_is_not_chosen_and_undone_once() {
    let stage = Stage::new(&[MORE]);
    fs::create_dir(stage.folder().join("cache")).unwrap();
    let instance = stage.up();
    let (run, seen) = waiting(&instance, "more", &json!({}));
    for name in ["drop", "back", "fix"] {
        refused(&instance, "ana", &format!("/api/v1/runs/{run}/choose"), &json!({ "step": name }), 409);
    }
    for name in ["back", "look"] {
        assert_eq!(approve(&instance, "ana", &run, name, &hash(&seen, name)).status, 409, "{name}");
    }
    refused(&instance, "ana", &format!("/api/v1/runs/{run}/undo"), &json!({ "step": "fix" }), 409);
    a_moment();
    assert!(stage.lines().is_empty() && stage.folder().join("cache").exists());
    assert_eq!(approve(&instance, "ana", &run, "fix", &hash(&seen, "fix")).status, 200);
    run_until(&instance, &run, "verifying", |view| step(view, "fix")["state"] == "verifying");
    let undo = json!({ "step": "fix", "why": "no" });
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let ask = || call(&instance, "ana", &format!("/api/v1/runs/{run}/undo"), &undo).status;
        let all: Vec<_> = (0..6).map(|_| scope.spawn(ask)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|status| matches!(status, 200 | 409)), "{answers:?}");
    run_until(&instance, &run, "taken back", |view| view["ended_at"].is_string());
    refused(&instance, "ana", &format!("/api/v1/runs/{run}/undo"), &undo, 409);
    a_moment();
    assert_eq!(stage.lines(), ["fix", "back"], "undone once");
}

#[test]
fn strange_requests_get_plain_answers() {
    let stage = Stage::new(&[QUEUE, MORE]);
    let instance = stage.up();
    let (run, seen) = waiting(&instance, "queue", &json!({}));
    let long = "9".repeat(400);
    for id in [
        "RUN-0",
        "RUN-99",
        "RUN--1",
        "-1",
        "0",
        "99999999999999999999999999",
        "RUN-18446744073709551615",
        "RUN-1e3",
        "x",
        "%00",
        "..",
        "RUN-%F0%9F%92%A3",
        &long,
    ] {
        for what in ["approve", "choose", "again", "skip", "undo", "inputs", "cancel"] {
            let body = match what {
                "approve" => json!({ "step": "fix", "hash": "x" }),
                "inputs" => json!({ "inputs": {} }),
                "cancel" => json!({}),
                _ => json!({ "step": "fix" }),
            };
            let answer = call(&instance, "ana", &format!("/api/v1/runs/{id}/{what}"), &body);
            assert!((400..500).contains(&answer.status), "{id} {what}: {} {}", answer.status, answer.text());
        }
        for path in [format!("/api/v1/runs/{id}"), format!("/api/v1/runs/{id}/record"), format!("/runs/{id}")] {
            let answer = instance.get(&path);
            assert!((400..500).contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
        }
    }
    for query in [
        "limit=-1",
        "limit=0",
        "limit=99999999999999999999",
        "after=-1",
        "after=18446744073709551615",
        "incident=-7",
        "open=maybe",
        "limit=1&limit=2",
    ] {
        for path in ["/api/v1/runs", &format!("/api/v1/runs/{run}/record")] {
            let answer = instance.get(&format!("{path}?{query}"));
            assert!(answer.status < 500, "{path}?{query}: {} {}", answer.status, answer.text());
        }
    }
    let path = format!("/api/v1/runs/{run}/approve");
    let million = "x".repeat(1_000_000);
    for body in [
        "".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        "{".to_owned(),
        "{}".to_owned(),
        r#"{"step":1,"hash":2}"#.to_owned(),
        r#"{"step":"fix","hash":null}"#.to_owned(),
        r#"{"step":"fix","hash":""}"#.to_owned(),
        r#"{"step":"fix","hash":"x","by":"ben"}"#.to_owned(),
        r#"{"step":"fix","hash":"x","run":"RUN-2"}"#.to_owned(),
        format!(r#"{{"step":"{million}","hash":"x"}}"#),
        format!(r#"{{"step":"fix","hash":"{million}"}}"#),
        "[".repeat(60_000),
        format!(r#"{{"step":"fix\u0000","hash":"{}"}}"#, hash(&seen, "fix")),
        format!(r#"{{"step":"FIX","hash":"{}"}}"#, hash(&seen, "fix")),
        format!(r#"{{"step":"fix","hash":"{}"}}"#, hash(&seen, "fix").to_uppercase()),
        format!(r#"{{"step":"fix","hash":"{}"}}"#, &hash(&seen, "fix")[..32]),
    ] {
        let headers = [("content-type", "application/json"), ("x-paramedic-actor", "ana")];
        // Too much is answered while it is still sent; then the answer may be lost with the connection.
        let Ok(answer) = http::request(&instance.http(), "POST", &path, &headers, body.as_bytes()) else { continue };
        assert!((400..500).contains(&answer.status), "{}: {} {}", &body[..body.len().min(80)], answer.status, answer.text());
    }
    let names = ["a".repeat(100_000), "nothing.at.all".to_owned(), "../x".to_owned(), "x: {}\ny".to_owned(), String::new()];
    for action in names {
        for path in ["/api/v1/actions/run", "/api/v1/actions/plan"] {
            if let Ok(answer) = try_call(&instance, path, &json!({ "action": action, "arguments": {} })) {
                assert!((400..500).contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
            }
        }
    }
    for arguments in [
        json!({ "flag": million }),
        json!({ "flag": null }),
        json!({ "flag": "x", "ttl": -1 }),
        json!({ "flag": "x", "ttl": "99999999999999999999h" }),
        json!({ "flag": "x", "nothing": 1 }),
        json!({ "flag": ["x"] }),
        json!({ "flag": { "a": 1e308 } }),
        json!([]),
        json!("x"),
    ] {
        for path in ["/api/v1/actions/run", "/api/v1/actions/plan"] {
            if let Ok(answer) = try_call(&instance, path, &json!({ "action": "flag.disable", "arguments": arguments })) {
                let shown = arguments.to_string();
                assert!(
                    (400..500).contains(&answer.status),
                    "{path} {}: {} {}",
                    &shown[..shown.len().min(80)],
                    answer.status,
                    answer.text()
                );
            }
        }
    }
    for inputs in [
        json!({ "word": million }),
        json!({ "nothing": "x" }),
        json!({ "word": 7 }),
        json!({ "folder": "/x; rm" }),
        json!({ "PATH": "/tmp" }),
        json!({ "LD_PRELOAD": "x" }),
    ] {
        if let Ok(answer) = try_call(&instance, "/api/v1/runbooks/queue/run", &json!({ "inputs": inputs })) {
            let begins = answer.status == 200 && inputs["folder"].is_string();
            assert!((400..500).contains(&answer.status) || begins, "{} {}", answer.status, answer.text());
        }
    }
    a_moment();
    assert!(stage.lines().is_empty(), "{:?}", stage.lines());
    assert_eq!(hash(&view(&instance, &run), "fix"), hash(&seen, "fix"));
    stage.no_panic();
    assert_eq!(instance.stop(), Some(0));
    stage.journal_holds();
}

fn try_call(instance: &crate::fixture::Instance, path: &str, body: &Value) -> std::io::Result<http::Answer> {
    let headers = [("content-type", "application/json"), ("x-paramedic-actor", "ana")];
    http::request(&instance.http(), "POST", path, &headers, body.to_string().as_bytes())
}

#[test]
fn inputs_that_a_runbook_does_not_ask_for_change_no_program() {
    let plain =
        "---\nid: plain\ntitle: Plain\nservices: [x]\n---\n# Plain\n\n## Investigation\n```sh { name=look timeout=5s }\nls /\n```\n";
    let stage = Stage::new(&[plain]);
    let library = stage.folder().join("evil.sh");
    fs::write(&library, format!("touch {}/pwned\n", stage.folder().display())).unwrap();
    let instance = stage.up();
    let evil = library.to_str().unwrap();
    for name in [
        "BASH_ENV",
        "ENV",
        "PATH",
        "LD_PRELOAD",
        "PROMPT_COMMAND",
        "SHELLOPTS",
        "BASHOPTS",
        "PS4",
        "IFS",
        "BASH_FUNC_ls",
        "HOME",
        "PERL5OPT",
        "PYTHONSTARTUP",
        "GIT_PAGER",
    ] {
        let answer = call(&instance, "ana", "/api/v1/runbooks/plain/run", &json!({ "inputs": { name: evil } }));
        assert!(answer.status == 200 || answer.status == 409, "{name}: {}", answer.text());
        if answer.status == 200 {
            let run = answer.json()["id"].as_str().unwrap().to_owned();
            run_until(&instance, &run, "looked at", |view| {
                step(view, "look")["state"] != "pending" && step(view, "look")["state"] != "running"
            });
            done(&instance, "ana", &format!("/api/v1/runs/{run}/cancel"), &json!({}));
        }
    }
    assert!(!stage.folder().join("pwned").exists());
}

struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    fn start(folder: &std::path::Path) -> Self {
        let port = free_port();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]).arg("--dir").arg(folder);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let redis = Self { child, port };
        until(WITHIN, || (redis.say(&["PING"]) == "PONG").then_some(())).expect("redis is ready");
        redis
    }

    fn say(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn an_action_never_touches_more_than_was_shown() {
    needs!("redis-server", "redis-cli");
    let folder = tempfile::tempdir().unwrap();
    let redis = Redis::start(folder.path());
    let stage = Stage::with(&[], &format!("[action.redis]\nurl = \"redis://127.0.0.1:{}\"\n", redis.port));
    let instance = stage.up();
    for key in ["cache:1", "cache:2", "queue:1"] {
        redis.say(&["SET", key, "x"]);
    }
    let action = json!({ "action": "redis.delete", "arguments": { "pattern": "cache:*", "max": 1000 }, "why": "full" });
    let started = done(&instance, "ana", "/api/v1/actions/run", &action);
    assert_eq!(started["plan"]["affected"], 2, "{started:#}");
    let run = started["run"]["id"].as_str().unwrap().to_owned();
    let seen = run_until(&instance, &run, "there", |view| !step(view, "act")["hash"].as_str().unwrap_or("").is_empty());
    assert_eq!(approve(&instance, "ana", &run, "act", &hash(&seen, "act")).status, 200);
    // Counted by now; more come before the second person agrees.
    until(WITHIN, || (step(&view(&instance, &run), "act")["affected"] == 2).then_some(())).expect("it is counted");
    for number in 10..20 {
        redis.say(&["SET", &format!("cache:{number}"), "x"]);
    }
    approve(&instance, "ben", &run, "act", &hash(&seen, "act"));
    let after = run_until(&instance, &run, "over with", |view| {
        let state = step(view, "act")["state"].as_str().unwrap_or("").to_owned();
        view["ended_at"].is_string() || state == "failed" || step(view, "act")["decision"]["decision"] == "refuse"
    });
    assert_eq!(redis.say(&["DBSIZE"]), "13", "two were shown, twelve would have gone: {after:#}");
    // As many as were shown may go.
    let started = done(&instance, "ana", "/api/v1/actions/run", &action);
    assert_eq!(started["plan"]["affected"], 12);
    let run = started["run"]["id"].as_str().unwrap().to_owned();
    let seen = view(&instance, &run);
    for who in ["ana", "ben"] {
        assert_eq!(approve(&instance, who, &run, "act", &hash(&seen, "act")).status, 200);
    }
    run_until(&instance, &run, "done", |view| view["ending"] == "done");
    assert_eq!(redis.say(&["DBSIZE"]), "1", "and nothing else");
    let other = start_unknown(&instance);
    assert!(other.contains("flag"), "{other}");
    stage.no_panic();
}

/// An argument that the action does not know.
fn start_unknown(instance: &crate::fixture::Instance) -> String {
    refused(instance, "ana", "/api/v1/actions/run", &json!({ "action": "flag.disable", "arguments": { "flg": "x" } }), 400)
}
