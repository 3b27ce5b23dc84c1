//! Starting, stopping, dying and coming back.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use serde_json::json;

use crate::fixture::{Home, until};
use crate::tools;
use crate::websocket::Listener;

/// Copies the sample's sessions to where the program looks for sessions.
fn with_sample(home: &Home) {
    let from = tools::workspace().join("sample/projects");
    let mut folders = vec![from.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let to = home.claude().join("projects").join(path.strip_prefix(&from).unwrap());
            if path.is_dir() {
                fs::create_dir_all(&to).unwrap();
                folders.push(path);
            } else {
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::copy(&path, to).unwrap();
            }
        }
    }
}

#[test]
fn a_second_instance_on_the_same_data_is_refused_with_the_way_out() {
    let home = Home::new();
    let first = home.up();
    let output =
        home.run(&["up", "--http", "127.0.0.1:0", "--otlp-grpc", "127.0.0.1:0", "--otlp-http", "127.0.0.1:0", "--gateway", "127.0.0.1:0"]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(message.contains(&first.child.id().to_string()) && message.contains("--data"), "{message}");
    assert_eq!(first.get("/health/live").status, 200);
}

#[test]
fn a_port_in_use_is_named_with_the_option_that_changes_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for option in ["--http", "--otlp-grpc", "--otlp-http", "--gateway"] {
        let home = Home::new();
        let mut arguments = vec!["up"];
        for one in ["--http", "--otlp-grpc", "--otlp-http", "--gateway"] {
            arguments.extend([one, if one == option { address.as_str() } else { "127.0.0.1:0" }]);
        }
        let output = home.run(&arguments);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success());
        assert!(message.contains(&address) && message.contains(option), "{option}: {message}");
    }
}

#[test]
fn sigterm_tells_live_clients_first_and_ends_well() {
    for signal in ["TERM", "INT"] {
        let home = Home::new();
        let mut instance = home.up();
        let mut listener = Listener::open(&instance.http());
        assert_eq!(listener.next().unwrap()["type"], "hello");
        instance.signal(signal);
        let mut types = Vec::new();
        while let Some(message) = listener.next() {
            types.push(message["type"].as_str().unwrap_or_default().to_owned());
        }
        assert_eq!(types.last().map(String::as_str), Some("server_shutdown"), "{types:?}");
        let ended = until(Duration::from_secs(15), || instance.child.try_wait().unwrap()).expect("it ends");
        assert_eq!(ended.code(), Some(0), "{}", home.log());
        assert!(!home.data().join("ports.json").exists());
    }
}

#[test]
fn sighup_reloads_and_does_not_end_it() {
    let home = Home::new();
    let mut instance = home.up();
    instance.signal("HUP");
    std::thread::sleep(Duration::from_millis(300));
    assert!(instance.child.try_wait().unwrap().is_none(), "{}", home.log());
    assert_eq!(instance.get("/health/live").status, 200);
}

#[test]
fn incidents_and_agents_survive_a_kill_and_are_not_doubled() {
    let home = Home::new();
    with_sample(&home);
    let instance = home.up();
    let settled = until(Duration::from_secs(20), || (instance.incidents().len() == 3).then_some(()));
    assert!(settled.is_some(), "{:#?}\n{}", instance.incidents(), home.log());
    let id = instance.incidents()[0]["id"].as_str().unwrap().to_owned();
    let body = json!({"text": "rang the provider"}).to_string();
    let note = crate::http::post(&instance.http(), &format!("/api/v1/incidents/{id}/note"), "application/json", body.as_bytes()).unwrap();
    assert_eq!(note.status, 200, "{}", note.text());
    let mut agents = instance.agents().len();
    instance.kill();

    for round in 0..3 {
        let instance = home.up();
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(instance.incidents().len(), 3, "round {round}: {:#?}", instance.incidents());
        assert_eq!(instance.agents().len(), agents, "round {round}");
        let timeline = instance.json(&format!("/api/v1/incidents/{id}"))["timeline"].to_string();
        assert_eq!(timeline.matches("rang the provider").count(), 1, "round {round}: {timeline}");
        // Nothing that was read is read again into new numbers.
        agents = instance.agents().len();
        if round == 1 { instance.kill() } else { assert_eq!(instance.stop(), Some(0)) }
    }
    let output = home.run(&["journal", "verify"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_altered_journal_is_found_and_the_entry_named() {
    let home = Home::new();
    with_sample(&home);
    let instance = home.up();
    until(Duration::from_secs(20), || (instance.incidents().len() == 3).then_some(())).expect("three incidents");
    assert_eq!(instance.stop(), Some(0));
    let file =
        fs::read_dir(home.data()).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.display().to_string().contains("journal"));
    let file = file.map(|path| if path.is_dir() { path.join("journal.sqlite") } else { path }).expect("a journal");
    let journal = rusqlite::Connection::open(&file).unwrap();
    let table: String =
        journal.query_row("SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%prev_hash%'", [], |row| row.get(0)).unwrap();
    // Whoever alters the file also takes away what guards it.
    let triggers: Vec<String> = {
        let mut all = journal.prepare("SELECT name FROM sqlite_master WHERE type = 'trigger'").unwrap();
        all.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    for trigger in triggers {
        journal.execute(&format!("DROP TRIGGER \"{trigger}\""), []).unwrap();
    }
    assert_eq!(journal.execute(&format!("UPDATE \"{table}\" SET actor = 'nobody' WHERE seq = 3"), []).unwrap(), 1);
    drop(journal);
    let output = home.run(&["journal", "verify"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{told}");
    assert!(told.contains('3'), "{told}");
}

#[test]
fn health_is_told_in_every_way_that_is_asked_for() {
    let home = Home::new();
    let instance = home.up();
    for path in ["/health", "/health/live", "/health/ready", "/health/startup", "/healthz"] {
        assert_eq!(instance.get(path).status, 200, "{path}");
    }
    let metrics = instance.get("/metrics").text();
    assert!(metrics.lines().any(|line| line.starts_with("paramedic_")), "{metrics}");
    let openapi = instance.json("/api/openapi.json");
    assert!(openapi["paths"]["/api/v1/incidents/{id}"].is_object(), "{}", openapi["paths"]);
}

#[test]
fn a_hook_is_answered_fast_with_an_empty_body() {
    let home = Home::new();
    let instance = home.up();
    let mut slowest = Duration::ZERO;
    for number in 0..50 {
        let begin = std::time::Instant::now();
        let answer = instance.post_hook(&json!({"session_id": "s1", "hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_use_id": format!("toolu_{number}"), "tool_input": {"command": "ls"}}));
        slowest = slowest.max(begin.elapsed());
        assert!((200..300).contains(&answer.status), "{}", answer.status);
        assert!(answer.body.is_empty(), "{}", answer.text());
    }
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    // Not one of ours: told so, and nothing breaks.
    let answer = crate::http::post(&instance.http(), "/hooks", "application/json", b"{\"hook_event_name\": 7").unwrap();
    assert!(answer.status < 500, "{}", answer.status);
}
