//! Agents that loop, time out or are refused: found, answered and well again, with real processes and a gateway that obeys.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use paramedic_model::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::fake_api::{Behaviour, FakeApi};
use crate::fixture::{Home, until};
use crate::http;
use crate::respond_case::{Case, Grouped, children_of, claim, lives, pack_rule, record, script, shortened, transcript};
use crate::respond_scene::{WITHIN, told};

/// A process that ignores being asked to end, with two children that do too.
fn stubborn(home: &Home) -> Grouped {
    let child = script(home.path(), "child.sh", "#!/bin/sh\ntrap '' TERM HUP INT\nwhile :; do sleep 1; done\n");
    let text = format!("#!/bin/sh\ntrap '' TERM HUP INT\n{0} &\n{0} &\nwhile :; do sleep 1; done\n", child.display());
    Grouped::start(&mut Command::new(script(home.path(), "agent.sh", &text)))
}

/// The two children of a stubborn process that stay.
#[track_caller]
fn its_children(home: &Home, agent: &Grouped) -> Vec<u32> {
    let child = home.path().join("child.sh").display().to_string();
    let is_child = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().contains(&child);
    let found = || children_of(agent.pid()).into_iter().filter(is_child).collect::<Vec<u32>>();
    until(WITHIN, || Some(found()).filter(|all| all.len() == 2)).expect("it has two children")
}

/// Waits until the agent and its children are gone from the kernel's own table.
#[track_caller]
fn all_gone(case: &Case, run: &str, agent: &mut Grouped, children: &[u32]) {
    let gone = until(WITHIN, || (agent.reap() && !children.iter().any(|pid| lives(*pid))).then_some(()));
    assert!(gone.is_some(), "{}", told(&case.run(run)));
}

/// The same call with the same result, so many times.
fn loops(session: &str, times: usize) -> Vec<Value> {
    let mut lines = vec![record(session, "p", "user", &json!("make the tests pass"))];
    for number in 0..times {
        let call = json!([{"type": "tool_use", "id": format!("t{number}"), "name": "Bash", "input": {"command": "cargo test"}}]);
        lines.push(record(session, &format!("a{number}"), "assistant", &call));
        let result = json!([{"type": "tool_result", "tool_use_id": format!("t{number}"), "content": "1 failed"}]);
        lines.push(record(session, &format!("r{number}"), "user", &result));
    }
    lines
}

#[test]
fn respond_a_stuck_agent_is_stopped_with_its_children_and_is_not_stuck_any_more() {
    let home = Home::new();
    let mut agent = stubborn(&home);
    claim(&home, agent.pid(), "s-loop");
    let book = shortened("stuck-agent", "10s").replace("grace: 10s", "grace: 1s");
    let rule = pack_rule("StuckDetected", "0s", "10s", &[], &[]);
    let case = Case::up(home, &[book], &[rule], "[probe]\nhost = false\n");
    let children = its_children(&case.home, &agent);
    until(WITHIN, || case.instance.agents().first().filter(|one| one["process"]["alive"] == true).cloned()).expect("the agent is seen");
    transcript(&case.home, "s-loop", &loops("s-loop", 8));
    let run = case.run_began("stuck-agent");
    assert!(case.likeliest(&run, "loop") >= 0.9);
    let shown = case.approve("ana", &run, "stop");
    assert!(shown["argv"].to_string().contains("s-loop"), "{shown:#}");
    all_gone(&case, &run, &mut agent, &children);
    case.done(&run);
    case.incident_over(&run);
    case.recorded(&run, "stop", "ana");
    let agent = case.instance.agents().remove(0);
    assert!(agent["state"] != "stuck" && agent["process"]["alive"] == false, "{agent:#}");
    assert_eq!(case.instance.incidents().len(), 1, "an agent that was stopped on purpose is no incident of its own");
    assert!(case.home.claude().join("projects/-srv-shop/s-loop.jsonl").exists(), "its session stays");
}

#[test]
fn respond_an_agent_that_timed_out_and_ignores_its_end_is_killed() {
    let home = Home::new();
    let mut agent = stubborn(&home);
    claim(&home, agent.pid(), "s-slow");
    let log = home.path().join("agents.log");
    let book = shortened("agent-timeout", "10s").replace("grace: 10s", "grace: 1s");
    let rule = pack_rule("TimeoutSpike", "0s", "10s", &[("timeouts_per_second", 0.05)], &[]);
    let settings = format!("[probe]\nhost = false\n[logs]\nfiles = [{log:?}]\nflush_ms = 200\n");
    let case = Case::up(home, &[book], &[rule], &settings);
    let children = its_children(&case.home, &agent);
    until(WITHIN, || case.instance.agents().first().filter(|one| one["process"]["alive"] == true).cloned()).expect("the agent is seen");
    let line = format!("[{}] [ERROR] [agent:s-slow] Agent execution timed out after 300000ms\n", SystemClock.now());
    fs::write(&log, line).unwrap();
    let run = case.run_began("agent-timeout");
    assert_eq!(case.run(&run)["inputs"]["agent"], "s-slow", "{}", told(&case.run(&run)));
    case.likeliest(&run, "task");
    case.approve("ana", &run, "stop");
    all_gone(&case, &run, &mut agent, &children);
    let shown = case.step_becomes(&run, "stop", &["verifying", "verified"]);
    assert!(shown["last"]["shown"].to_string().to_lowercase().contains("kill"), "it did not end by itself: {shown:#}");
    case.done(&run);
    case.recorded(&run, "stop", "ana");
    let incident = case.incident_over(&run);
    assert_eq!(incident["type"], "timeout", "{incident:#}");
}

/// Stands before the API, asks Paramedic four times a second what holds, and lets through what that says.
struct Gateway {
    address: String,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Gateway {
    fn start(paramedic: String, api: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, per_minute) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let next = Arc::new(Mutex::new(Instant::now()));
        let (stopped, limit) = (stop.clone(), per_minute.clone());
        let asks = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Ok(answer) = http::get(&paramedic, "/api/v1/switches?enforcer=test-gateway") {
                    let all = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
                    let held = all["switches"].as_array().into_iter().flatten().find(|one| one["switch"] == "rate_limit_per_minute");
                    limit.store(held.and_then(|one| one["value"].as_u64()).unwrap_or(0), Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(250));
            }
        });
        let stopped = stop.clone();
        let serves = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (api, next, per_minute, stopped) = (api.clone(), next.clone(), per_minute.clone(), stopped.clone());
                thread::spawn(move || {
                    let turn = |limit: u64| {
                        let mut next = next.lock().unwrap();
                        let at = (*next).max(Instant::now());
                        *next = at + Duration::from_millis(60_000 / limit);
                        at
                    };
                    let limit = per_minute.load(Ordering::Relaxed);
                    let due = if limit > 0 { turn(limit) } else { Instant::now() };
                    while Instant::now() < due && !stopped.load(Ordering::Relaxed) {
                        thread::sleep(Duration::from_millis(20));
                    }
                    drop(Self::pass(stream, &api));
                });
            }
        });
        Self { address, stop, threads: vec![asks, serves] }
    }

    /// One request, as it is, to the API; its answer back.
    fn pass(mut stream: TcpStream, api: &str) -> std::io::Result<()> {
        let mut request = Vec::new();
        let mut piece = [0; 4096];
        // The clients of this test send a body of one line.
        while !request.ends_with(b"}") {
            let count = stream.read(&mut piece)?;
            if count == 0 {
                return Ok(());
            }
            request.extend_from_slice(&piece[..count]);
        }
        let mut upstream = TcpStream::connect(api)?;
        upstream.write_all(&request)?;
        std::io::copy(&mut upstream, &mut stream).map(drop)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(&self.address));
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// Agents that call the model as fast as they may, and write what they see into their transcripts.
struct Agents {
    stop: Arc<AtomicBool>,
    refused: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Agents {
    fn start(home: &Home, gateway: &str, count: usize) -> Self {
        let (stop, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let agent = |number: usize| {
            let (stop, refused, gateway, claude) = (stop.clone(), refused.clone(), gateway.to_owned(), home.claude());
            thread::spawn(move || {
                let session = format!("s-{number}");
                let write = |line: Value| crate::respond_case::transcript_in(&claude, &session, &[line]);
                write(record(&session, "p", "user", &json!("sort all files")));
                let body = json!({"model": "claude-opus-4-5", "max_tokens": 10, "messages": [], "tools": [{"name": "Bash"}]}).to_string();
                let mut turn = 0;
                while !stop.load(Ordering::Relaxed) {
                    turn += 1;
                    let Ok(answer) = http::post(&gateway, "/v1/messages", "application/json", body.as_bytes()) else { return };
                    if answer.status == 429 {
                        refused.fetch_add(1, Ordering::Relaxed);
                        write(refusal(&session, turn, answer.status));
                    } else {
                        let text = format!("file {turn} of {session} is in its place");
                        write(record(&session, &format!("a{turn}"), "assistant", &json!([{"type": "text", "text": text}])));
                    }
                    thread::sleep(Duration::from_millis(350));
                }
            })
        };
        let threads = (0..count).map(agent).collect();
        Self { stop, refused, threads }
    }

    /// Their work is done.
    fn finish(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        self.finish();
    }
}

/// How a transcript tells of a refused call that is tried again.
fn refusal(session: &str, turn: usize, status: u16) -> Value {
    json!({"type": "system", "subtype": "api_error", "level": "error", "sessionId": session, "uuid": format!("{session}-e{turn}"), "cwd": "/srv/shop",
        "timestamp": SystemClock.now().to_string(), "retryInMs": 350, "retryAttempt": 1, "maxRetries": 10,
        "error": {"status": status, "headers": {"retry-after": "1"},
            "error": {"type": "error", "error": {"type": "rate_limit_error", "message": "number of requests: 429 Too Many Requests"}}}})
}

/// Refused calls, a switch that ends them, and its end. `unattended` is the policy that allows it without a person.
fn rate_limits_are_kept(unattended: Option<&str>) {
    let book = shortened("rate-limits", "6s").replace("value: $per_minute, ttl: 30m", "value: $per_minute, ttl: 16s");
    assert!(book.contains("ttl: 16s"));
    let rule = pack_rule("AnthropicAPIRateLimited", "2s", "6s", &[], &[]);
    let policies = unattended.map_or_else(String::new, |policy| format!("policies = [{policy}]\n"));
    let settings = format!("[probe]\nhost = false\n[detect]\ndisabled = [\"rate-limit\"]\n[runbook]\n{policies}");
    let case = Case::up(Home::new(), &[book], &[rule], &settings);
    let api = FakeApi::start(Behaviour::Limit { per_second: 7 });
    let gateway = Gateway::start(case.instance.http(), api.url().trim_start_matches("http://").to_owned());
    let mut agents = Agents::start(&case.home, &gateway.address, 4);

    let run = case.run_began("rate-limits");
    let score = case.likeliest(&run, "requests");
    assert!(score >= 0.9, "{score}");
    if unattended.is_none() {
        let waits = case.step(&run, "throttle");
        assert!(waits["attempts"] == 0 && waits["can"].as_array().unwrap().contains(&json!("run")), "nobody has said so yet: {waits:#}");
        case.json_by("ana", &["run", &run, "choose", "throttle"]);
    }
    case.step_becomes(&run, "throttle", &["verifying", "verified"]);
    let held = case.instance.list("/api/v1/switches", "switches");
    assert_eq!((&held[0]["switch"], &held[0]["value"]), (&json!("rate_limit_per_minute"), &json!(100)), "{held:#?}");
    // The gateway asks within a moment; from then on the API itself counts no refusal.
    thread::sleep(Duration::from_millis(1_500));
    let ((before, refused), seen) = (api.counts(), agents.refused.load(Ordering::Relaxed));
    assert!(refused > 5 && seen > 5, "{refused} {seen}");
    case.done(&run);
    let (after, refused_after) = api.counts();
    assert_eq!(refused_after, refused, "no call is refused any more");
    assert!(after > before, "and calls still get through");
    agents.finish();
    case.incident_over(&run);

    let by = unattended.map_or("ana", |_| "throttle-policy");
    case.recorded(&run, "throttle", by);
    let brake = case.json_by("ana", &["brake", "status"]);
    assert_eq!(brake["unattended_last_hour"], u64::from(unattended.is_some()), "{brake:#}");
    let over = until(WITHIN, || case.instance.list("/api/v1/switches", "switches").is_empty().then_some(()));
    assert!(over.is_some(), "it ends by itself");
    let kinds = || {
        let entries = case.instance.list("/api/v1/journal?subject=switch/rate_limit_per_minute@all", "entries");
        entries.iter().filter_map(|entry| entry["kind"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let written = until(WITHIN, || (kinds() == ["switch-set", "switch-expired"]).then_some(()));
    assert!(written.is_some(), "{:?}", kinds());
}

#[test]
fn respond_rate_limits_are_kept_when_a_person_says_so() {
    rate_limits_are_kept(None);
}

#[test]
fn respond_rate_limits_are_kept_unattended_within_a_policy() {
    let policy = "{ name = \"throttle-policy\", runbook = \"rate-limits\", cause = \"requests\", steps = [\"throttle\"], score_min = 0.8, \
                  attempts_per_hour = 2, affected_max = 1 }";
    rate_limits_are_kept(Some(policy));
}
