//! Agreements: to what was shown and nothing else, by as many people as there are, from nobody else's pages.

use serde_json::json;

use super::{QUEUE, Stage, a_moment, approve, done, hash, refused, run_until, step, view, waiting};
use crate::http;

#[test]
fn an_edited_step_never_runs_on_an_old_agreement() {
    let stage = Stage::new(&[QUEUE]);
    let instance = stage.up();
    let (run, seen) = waiting(&instance, "queue", &json!({}));
    let old = hash(&seen, "fix");
    // Read again while the run waits: it keeps the text that was shown, and only that.
    stage.write("0.md", &QUEUE.replace("echo \"fix $word\"", "echo \"evil $word\""));
    instance.signal("HUP");
    let answer = http::post(&instance.http(), "/-/reload", "text/plain", b"").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    a_moment();
    let shown = view(&instance, &run);
    assert_eq!(hash(&shown, "fix"), old, "{shown:#}");
    assert!(step(&shown, "fix")["argv"].to_string().contains("fix $word"), "{shown:#}");
    let (other, fresh) = waiting(&instance, "queue", &json!({}));
    let new = hash(&fresh, "fix");
    assert_ne!(new, old);
    let told = refused(&instance, "ana", &format!("/api/v1/runs/{other}/approve"), &json!({ "step": "fix", "hash": old }), 409);
    assert!(told.contains(&new), "{told}");
    assert_eq!(approve(&instance, "ana", &run, "fix", &old).status, 200);
    run_until(&instance, &run, "done", |view| view["ending"] == "done");
    assert_eq!(stage.lines(), ["fix plain"], "what was shown ran, and once");

    // Other inputs are another step.
    done(&instance, "ana", &format!("/api/v1/runs/{other}/inputs"), &json!({ "inputs": { "word": "other" } }));
    let told = refused(&instance, "ana", &format!("/api/v1/runs/{other}/approve"), &json!({ "step": "fix", "hash": new }), 409);
    let now = hash(&view(&instance, &other), "fix");
    assert!(now != new && told.contains(&now), "{told}");

    // Edited while nobody looked: the run does not go on with a text that nobody saw in it.
    instance.stop();
    stage.write("0.md", &QUEUE.replace("echo \"fix $word\"", "echo \"worse $word\""));
    let instance = stage.up();
    let ended = run_until(&instance, &other, "ended", |view| view["ended_at"].is_string());
    assert!(ended["why"].as_str().unwrap().contains("changed"), "{ended:#}");
    for hash in [&old, &new, &now] {
        refused(&instance, "ana", &format!("/api/v1/runs/{other}/approve"), &json!({ "step": "fix", "hash": hash }), 409);
    }
    a_moment();
    assert_eq!(stage.lines(), ["fix plain"]);
    stage.no_panic();
}

#[test]
fn an_agreement_that_waits_is_void_when_the_inputs_change() {
    let stage = Stage::new(&[QUEUE]);
    let instance = stage.up();
    done(&instance, "ana", "/api/v1/brake/stop", &json!({ "why": "hold it" }));
    let (run, seen) = waiting_stopped(&instance);
    assert_eq!(approve(&instance, "ana", &run, "fix", &hash(&seen, "fix")).status, 200);
    done(&instance, "ana", &format!("/api/v1/runs/{run}/inputs"), &json!({ "inputs": { "word": "other" } }));
    done(&instance, "ana", "/api/v1/brake/lift", &json!({ "why": "go on" }));
    a_moment();
    assert!(stage.lines().is_empty(), "nobody agreed to it with this value: {:?}", stage.lines());
    let shown = view(&instance, &run);
    assert!(step(&shown, "fix")["agreed"].as_array().unwrap().is_empty(), "{shown:#}");
}

/// A run whose fix can be approved although everything is held.
fn waiting_stopped(instance: &crate::fixture::Instance) -> (String, serde_json::Value) {
    let run = super::start(instance, "queue", &json!({}));
    let view = run_until(instance, &run, "looked at", |view| view["causes"].as_array().is_some_and(|all| !all.is_empty()));
    (run, view)
}

#[test]
fn a_variable_of_the_surroundings_is_no_input() {
    let text = QUEUE.replace("echo \"fix $word\"", "echo \"fix $TARGET\"");
    let stage = Stage::with(&[&text], "[runbook.execute]\nenvironment = [\"PATH\", \"HOME\", \"TARGET\"]\n");
    let file = stage.home.path().join("paramedic.toml");
    std::fs::write(&file, stage.settings()).unwrap();
    let instance = stage.up();
    let run = super::start(&instance, "queue", &json!({}));
    let shown = run_until(&instance, &run, "looked at", |view| step(view, "look")["state"] == "ok");
    assert!(step(&shown, "fix")["blocked"].to_string().contains("TARGET"), "{shown:#}");
    let answer = approve(&instance, "ana", &run, "fix", &hash(&shown, "fix"));
    assert_eq!(answer.status, 409, "{}", answer.text());
    assert!(stage.lines().is_empty());
}

/// It loses something, so two people have to agree.
const CACHE: &str = r#"---
id: cache
title: The cache is full
services: [cache]
---
# The cache is full

## Investigation
```sh { name=look timeout=5s }
ls "FOLDER"
```

## Resolution
### Cause: Full { #full when="look.exit == 0" }
```sh { name=fix mode=write timeout=10s blast=5 dry="ls FOLDER" verify="look.exit == 0 within 5s" limit=1000/1h cooldown=0s }
rm -r "FOLDER/cache"
```
"#;

#[test]
fn two_approvers_who_are_one_are_one() {
    let stage = Stage::new(&[CACHE]);
    std::fs::create_dir(stage.folder().join("cache")).unwrap();
    let instance = stage.up();
    let (run, seen) = waiting(&instance, "cache", &json!({}));
    let hash = hash(&seen, "fix");
    assert_eq!((&step(&seen, "fix")["effect"], &step(&seen, "fix")["approval"]), (&json!("destroy"), &json!("two")), "{seen:#}");
    let one = [
        "alice",
        "Alice",
        " ALICE ",
        "alice ",
        "al ice",
        "a.lice",
        "@alice",
        "alice+2",
        "alice+2@example.org",
        "alice@example.org",
        "alice@laptop",
        "alice@desktop",
        "alice_",
        "-alice",
        "\"alice\"",
        "alice\t",
        "ali\u{200b}ce",
        "\u{430}lice",
        "alice,bob",
        "alice, alice",
        "bob;alice",
        "",
        " ",
        "http",
        "HTTP",
        "web",
        "policy:x",
        "Policy:x",
        "paramedic",
        "paramedic@host",
        "agent:7",
        "system",
        "anonymous",
        "...",
        "@",
        "+",
    ];
    for name in one {
        let answer = approve(&instance, name, &run, "fix", &hash);
        assert!(matches!(answer.status, 200 | 400 | 403), "{name:?}: {} {}", answer.status, answer.text());
    }
    // The header twice, in any order.
    let body = json!({ "step": "fix", "hash": hash }).to_string();
    for pair in [["alice", "bob"], ["bob", "alice"], ["alice", ""], ["http", "alice"]] {
        let headers = [("content-type", "application/json"), ("x-paramedic-actor", pair[0]), ("x-paramedic-actor", pair[1])];
        let answer = http::request(&instance.http(), "POST", &format!("/api/v1/runs/{run}/approve"), &headers, body.as_bytes()).unwrap();
        assert!(matches!(answer.status, 400 | 403), "{pair:?}: {} {}", answer.status, answer.text());
    }
    // The command line on the same machine, with other spellings.
    for name in ["alice", "ALICE", "alice@other"] {
        drop(stage.by(name, &["approve", &run, "fix", &hash]));
    }
    a_moment();
    assert!(stage.folder().join("cache").exists(), "one person was enough: {:#}", view(&instance, &run));
    assert_eq!(approve(&instance, "ben", &run, "fix", &hash).status, 200);
    let ended = run_until(&instance, &run, "done", |view| view["ending"] == "done");
    assert!(!stage.folder().join("cache").exists(), "{ended:#}");
    stage.journal_holds();
}

#[test]
fn nobody_agrees_from_another_page_by_a_link_or_without_a_name() {
    let stage = Stage::new(&[QUEUE]);
    let instance = stage.up();
    let (run, seen) = waiting(&instance, "queue", &json!({}));
    let (address, hash) = (instance.http(), hash(&seen, "fix"));
    let form = format!("step=fix&hash={hash}&who=ana");
    let body = json!({ "step": "fix", "hash": hash }).to_string();
    let (page, api) = (format!("/runs/{run}/approve"), format!("/api/v1/runs/{run}/approve"));
    let urlencoded = ("content-type", "application/x-www-form-urlencoded");
    let named = ("cookie", "paramedic_name=ana");
    for foreign in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("origin", "http://localhost:1"),
        ("origin", "http://127.0.0.1.evil.example"),
        ("origin", "file://"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let answer = http::request(&address, "POST", &page, &[urlencoded, named, foreign], form.as_bytes()).unwrap();
        assert_eq!(answer.status, 403, "{foreign:?}: {}", answer.text());
        let headers = [("content-type", "application/json"), ("x-paramedic-actor", "ana"), foreign];
        let answer = http::request(&address, "POST", &api, &headers, body.as_bytes()).unwrap();
        assert_eq!(answer.status, 403, "{foreign:?}: {}", answer.text());
    }
    // A name that was made to lead here.
    let raw = raw(&address, &format!("POST {page} HTTP/1.1\r\nhost: evil.example\r\ncontent-type: {}\r\n", urlencoded.1), &form);
    assert!(raw.starts_with("HTTP/1.1 403"), "{raw}");
    // What a form of another page can send without asking first.
    for kind in ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"] {
        let headers = [("content-type", kind), ("x-paramedic-actor", "ana")];
        let answer = http::request(&address, "POST", &api, &headers, body.as_bytes()).unwrap();
        assert_eq!(answer.status, 415, "{kind}: {}", answer.text());
    }
    for path in [page.clone(), api.clone(), format!("{page}?{form}"), format!("{api}?step=fix&hash={hash}")] {
        for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
            let answer = http::request(&address, method, &path, &[named, ("x-paramedic-actor", "ana")], b"").unwrap();
            assert!(matches!(answer.status, 404 | 405), "{method} {path}: {}", answer.status);
        }
    }
    // Without a name it is asked for one, and nothing is done.
    for headers in [vec![urlencoded], vec![urlencoded, ("cookie", "paramedic_name=web")], vec![urlencoded, ("cookie", "paramedic_name=%%")]]
    {
        let nameless = format!("step=fix&hash={hash}");
        let answer = http::request(&address, "POST", &page, &headers, nameless.as_bytes()).unwrap();
        assert!(answer.status == 200 && answer.text().contains("Who are you"), "{headers:?}: {} {}", answer.status, answer.text());
    }
    for name in ["http", "paramedic", "policy", "system", "agent"] {
        let cookie = format!("paramedic_name={name}");
        let answer = http::request(&address, "POST", &page, &[urlencoded, ("cookie", &cookie)], form.as_bytes()).unwrap();
        assert!(answer.status >= 400, "{name}: {} {}", answer.status, answer.text());
    }
    let answer = http::request(&address, "POST", &api, &[("content-type", "application/json")], body.as_bytes()).unwrap();
    assert_eq!(answer.status, 403, "{}", answer.text());
    a_moment();
    assert!(stage.lines().is_empty(), "{:#}", view(&instance, &run));
    // The page's own form does it.
    let own = format!("http://{address}");
    let answer = http::request(&address, "POST", &page, &[urlencoded, named, ("origin", &own)], form.as_bytes()).unwrap();
    assert_eq!(answer.status, 303, "{}", answer.text());
    run_until(&instance, &run, "done", |view| view["ending"] == "done");
    assert_eq!(stage.lines().len(), 1);
}

/// A request with a head of one's own; gives all that is answered.
fn raw(address: &str, head: &str, body: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let text = format!("{head}connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
