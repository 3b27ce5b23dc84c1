//! Claude Code through the gateway: everything is observed once, and whatever stops it stops it at once.

use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::scene::{Run, Scene};
use super::upstream::{Reply, Request, error, nanodollars, text, tokens_of, tool};
use crate::{skip, tools};

const MISSING: &str = "Claude Code is not installed (`cargo xtask setup`)";
const OPUS: &str = "claude-opus-5-5";
const HAIKU: &str = "claude-haiku-4-5";
/// A client that tries again and again takes minutes.
const AT_ONCE: Duration = Duration::from_secs(12);

/// The main agent starts a sub-agent, which runs one command.
fn with_a_sub_agent(command: &str) -> impl Fn(&Request) -> Reply + Send + Sync + 'static + use<> {
    let command = command.to_owned();
    move |request| match (request.is_sub_agents(), request.has_tool_result()) {
        (false, false) => {
            let input =
                json!({"description": "Say hi", "prompt": "Say hi.", "subagent_type": "general-purpose", "run_in_background": false});
            tool("Agent", input)
        }
        (true, false) => tool("Bash", json!({"command": command, "description": "Say hi"})),
        _ => text("done"),
    }
}

/// The first so many calls get the one answer, the others words.
fn first(times: usize, reply: impl Fn() -> Reply + Send + Sync + 'static) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    let asked = AtomicUsize::new(0);
    move |_| if asked.fetch_add(1, Ordering::SeqCst) < times { reply() } else { text("hi") }
}

/// Dollars as billionths, which is how prices are whole numbers.
fn nano(dollars: &Value) -> u64 {
    (dollars.as_f64().unwrap_or_else(|| panic!("no dollars: {dollars}")) * 1e9).round() as u64
}

fn cost_of(events: &[Value]) -> u64 {
    events.iter().map(|event| nano(&event["fact"]["cost_usd"])).sum()
}

/// Tokens read, written, read from the cache and written to the cache.
fn tokens(usage: &Value) -> [u64; 4] {
    ["input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens"].map(|kind| usage[kind].as_u64().unwrap_or(0))
}

/// Calls that a source told of.
fn told_by(scene: &Scene, source: &str) -> usize {
    scene.instance.list(&format!("/api/v1/events?source={source}&kind=model-call&limit=1000"), "events").len()
}

/// What all agents cost, by the fleet's count.
fn fleet_nanodollars(scene: &Scene) -> u64 {
    scene.instance.agents().iter().filter_map(|agent| agent["cost"]["usd"].as_f64()).map(|usd| nano(&usd.into())).sum()
}

/// What all calls of today cost, by the count that budgets go by.
fn spent(scene: &Scene) -> u64 {
    nano(&scene.home.json(&["budget", "list", "--json"])["spent_today_dollars"])
}

/// The session ended with our own words, after one refused call.
#[track_caller]
fn check_stopped(scene: &Scene, run: &Run, words: &str, kind: &str) {
    let result = run.result();
    assert_eq!(run.code, Some(1), "{result:#}");
    assert!(result["result"].as_str().unwrap_or_default().contains(words), "{result:#}");
    assert!(run.took < AT_ONCE, "it took {:?}", run.took);
    let told = scene.told_of(kind, 1);
    assert!(told[0]["attributes"]["refused_by"].is_string(), "{told:#?}");
}

#[test]
fn a_session_with_a_sub_agent_is_counted_once_although_all_sources_tell_it() {
    let Some(program) = tools::claude_code() else { skip!("{MISSING}") };
    let scene = Scene::new("", with_a_sub_agent("echo hi"));
    let claude_dir = scene.home.claude();
    let connected = scene.home.run(&["connect", "claude-code", "--write", "--claude-dir", claude_dir.to_str().unwrap()]);
    assert!(connected.status.success(), "{}", String::from_utf8_lossy(&connected.stderr));
    let run = scene.claude(&program, "ana");
    assert_eq!(run.code, Some(0), "{:#?} {}", run.lines, run.stderr);
    let session = run.result()["session_id"].as_str().unwrap().to_owned();
    assert_eq!(scene.api.inference().len(), 4);
    let calls = scene.told_of("model-call", 4);
    check_calls(&scene, &calls, &session);
    check_fleet(&scene, &session);
}

fn check_calls(scene: &Scene, calls: &[Value], session: &str) {
    let sub = calls.iter().find_map(|call| call["agent"].as_str()?.strip_prefix(&format!("{session}/"))).expect("a sub-agent").to_owned();
    let sub = format!("{session}/{sub}");
    let agents: Vec<&str> = calls.iter().map(|call| call["agent"].as_str().unwrap()).collect();
    assert_eq!(agents, [session, &sub, &sub, session]);
    for (call, request) in calls.iter().zip(scene.api.inference()) {
        assert_eq!((&call["session"], &call["user"]), (&session.into(), &"ana".into()), "{call:#}");
        assert_eq!(call["attributes"]["team"], "blue", "{call:#}");
        assert_eq!(call["attributes"]["request_class"], if request.is_sub_agents() { "subagent" } else { "main" }, "{call:#}");
        assert_eq!(call["attributes"]["client"], format!("claude-cli/{}", version(&request)), "{call:#}");
        assert_eq!(tokens(&call["fact"]["usage"]), tokens_of(request.number), "{call:#}");
        assert_eq!(nano(&call["fact"]["cost_usd"]), nanodollars(OPUS, tokens_of(request.number)), "{call:#}");
        assert_eq!(call["attributes"].get("tries"), None, "{call:#}");
        assert_eq!(call["request"], format!("req_fake{:04}", request.number), "{call:#}");
    }
    assert_eq!(scene.metric("paramedic_gateway_upstream_tries_total"), scene.api.requests().len() as f64);
}

fn version(request: &Request) -> &str {
    request.header("user-agent").unwrap().strip_prefix("claude-cli/").unwrap().split(' ').next().unwrap()
}

/// Whatever was told of a call by gateway, transcript, hooks and telemetry, it counts once, with the usage that the API gave.
fn check_fleet(scene: &Scene, session: &str) {
    scene.wait_for("what the transcripts tell", || told_by(scene, "transcript") >= 4);
    scene.wait_for("what telemetry tells", || told_by(scene, "otlp-log") >= 4);
    std::thread::sleep(Duration::from_millis(500));
    let agents = scene.home.json(&["agents", "--json"])["agents"].as_array().unwrap().clone();
    assert_eq!(agents.len(), 2, "{agents:#?}");
    let sum = agents.iter().fold([0; 4], |sum: [u64; 4], agent| {
        let one = tokens(&agent["usage"]);
        std::array::from_fn(|i| sum[i] + one[i])
    });
    assert_eq!(sum, scene.api.tokens(), "{agents:#?}");
    let cost = scene.home.json(&["cost", "--json"]);
    let by_agent = cost["report"]["by_agent"].as_array().unwrap();
    let dollars: u64 = by_agent.iter().map(|line| nano(&line["sum"]["cost"]["usd"])).sum();
    assert_eq!((dollars, spent(scene)), (scene.api.nanodollars(), scene.api.nanodollars()), "{cost:#}");
    assert!(by_agent.iter().any(|line| line["agent"] == session), "{cost:#}");
}

#[test]
fn a_rate_limit_of_the_api_is_waited_for_and_told_once() {
    let Some(program) = tools::claude_code() else { skip!("{MISSING}") };
    let headers = &[("retry-after", "1"), ("anthropic-ratelimit-requests-remaining", "0")];
    let scene = Scene::new("", first(1, || error(429, "rate_limit_error", headers)));
    let run = scene.claude(&program, "ana");
    assert_eq!(run.code, Some(0), "{:#?}", run.lines);
    assert!(run.took > Duration::from_secs(1), "{:?}", run.took);
    assert_eq!(scene.api.inference().len(), 2);
    let retries = scene.told_of("model-retry", 1);
    assert_eq!((&retries[0]["fact"]["status"], &retries[0]["fact"]["class"]), (&429.into(), &"rate_limit".into()), "{retries:#?}");
    scene.told_of("model-call", 1);
    scene.wait_for("what the transcript tells", || told_by(&scene, "transcript") >= 1);
    let incidents = scene.instance.incidents();
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    assert_eq!((&incidents[0]["type"], &incidents[0]["counts"]["retries"]), (&"rate_limit".into(), &1.into()), "{incidents:#?}");
}

#[test]
fn an_overloaded_api_is_asked_as_often_as_the_client_asks_it_and_no_more() {
    let Some(program) = tools::claude_code() else { skip!("{MISSING}") };
    let scene = Scene::new("", |_| error(529, "overloaded_error", &[]));
    let run = scene.claude(&program, "ana");
    assert_eq!(run.code, Some(1), "{:#?}", run.lines);
    // Three tries are the client's own habit with a 529.
    assert_eq!(scene.api.inference().len(), 3);
    scene.told_of("model-retry", 3);
    scene.wait_for("an incident", || !scene.instance.incidents().is_empty());
    std::thread::sleep(Duration::from_millis(300));
    let incidents = scene.instance.incidents();
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    assert_eq!(incidents[0]["counts"]["terminal_failures"], 1, "{incidents:#?}");
}

#[test]
fn what_a_cut_stream_cost_is_counted_beside_the_call_that_repeats_it() {
    let words = || Reply::Cut(vec![json!({"type": "text", "text": "these words were written and are lost "})]);
    check_repeated(words, "cut", true);
}

#[test]
fn what_a_stream_cost_that_failed_by_its_own_word_is_counted_too() {
    let words = || Reply::Broken(vec![json!({"type": "text", "text": "these words were written and are lost "})]);
    // The client repeats such a call without a stream.
    check_repeated(words, "error", false);
}

/// The first answer does not come to its end, and the client asks again.
fn check_repeated(reply: impl Fn() -> Reply + Send + Sync + 'static, unfinished: &str, streams_again: bool) {
    let Some(program) = tools::claude_code() else { skip!("{MISSING}") };
    let scene = Scene::new("", first(1, reply));
    let run = scene.claude(&program, "ana");
    assert_eq!(run.code, Some(0), "{:#?}", run.lines);
    let requests = scene.api.inference();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].json()["stream"] == true, streams_again);
    let calls = scene.told_of("model-call", 2);
    let (broken, whole) = (&calls[0], &calls[1]);
    assert_eq!((&broken["attributes"]["unfinished"], whole["attributes"].get("unfinished")), (&unfinished.into(), None), "{calls:#?}");
    let [read, written, from_cache, to_cache] = tokens(&broken["fact"]["usage"]);
    let [expected, _, expected_from_cache, expected_to_cache] = tokens_of(requests[0].number);
    assert_eq!([read, from_cache, to_cache], [expected, expected_from_cache, expected_to_cache]);
    assert!((2..40).contains(&written), "the words that came: {written}");
    assert_eq!(nano(&broken["fact"]["cost_usd"]), nanodollars(OPUS, tokens(&broken["fact"]["usage"])));
    assert_eq!(tokens(&whole["fact"]["usage"]), tokens_of(requests[1].number));
    scene.told_of("model-retry", 1);
    assert_eq!(cost_of(&calls), cost_of(&calls[..1]) + scene.api.nanodollars());
    assert_eq!(spent(&scene), cost_of(&calls), "budgets pay for both");
    scene.wait_for("what the transcript tells", || told_by(&scene, "transcript") >= 1);
    scene.wait_for("the cost of both", || fleet_nanodollars(&scene) == cost_of(&calls));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(fleet_nanodollars(&scene), cost_of(&calls), "{:#?}", scene.instance.agents());
}

#[test]
fn a_blocked_user_is_told_so_at_once() {
    let Some(program) = tools::claude_code() else { skip!("{MISSING}") };
    let scene = Scene::new("", |_| text("hi"));
    scene.operator(&["switch", "set", "blocked_user:ana", "true", "--for", "10m", "--reason", "a test"]);
    let run = scene.claude(&program, "ana");
    check_stopped(&scene, &run, "an operator stopped these calls (switch blocked_user:ana@all)", "model-error");
    assert_eq!(scene.api.inference().len(), 0);
    // Others are not meant, and neither is she any more afterwards.
    assert_eq!(scene.claude(&program, "bob").code, Some(0));
    scene.operator(&["switch", "clear", "blocked_user:ana"]);
    assert_eq!(scene.claude(&program, "ana").code, Some(0));
}

#[test]
fn the_main_agent_goes_on_when_its_sub_agent_is_blocked() {
    let Some(program) = tools::claude_code() else { skip!("{MISSING}") };
    let scene = Scene::new("", with_a_sub_agent("sleep 2"));
    let run = while_it_runs(&scene, &program, |scene| {
        scene.wait_for("the sub-agent", || scene.api.inference().iter().any(Request::is_sub_agents));
        let requests = scene.api.inference();
        let header = |name: &str| requests.iter().find_map(|request| request.header(name)).unwrap().to_owned();
        let agent = format!("{}/{}", header("x-claude-code-session-id"), header("x-claude-code-agent-id"));
        scene.operator(&["switch", "set", "blocked", "true", "--scope", &format!("agent={agent}"), "--for", "10m"]);
    });
    assert_eq!(run.code, Some(0), "{:#?} {}", run.lines, run.stderr);
    assert_eq!(run.result()["result"], "done");
    assert!(run.took < AT_ONCE, "it took {:?}", run.took);
    let refused = scene.told_of("model-error", 1);
    assert!(refused[0]["agent"].as_str().unwrap().contains('/'), "{refused:#?}");
    let asked = scene.api.inference();
    assert_eq!(asked.iter().filter(|request| request.is_sub_agents()).count(), 1);
    assert_eq!(asked.len(), 3);
}

#[test]
fn a_spent_budget_ends_the_session_with_our_words() {
    let Some(program) = tools::claude_code() else { skip!("{MISSING}") };
    let scene = Scene::new("", |_| text("hi"));
    scene.operator(&["budget", "set", "0.00005", "--per", "day", "--scope", "user=ana"]);
    // The first call of a purse that is not spent yet passes, and spends it.
    let run = scene.claude(&program, "ana");
    assert_eq!(run.code, Some(0), "{:#?}", run.lines);
    let run = scene.claude(&program, "ana");
    check_stopped(&scene, &run, "spend limit reached", "model-error");
    assert_eq!(scene.api.inference().len(), 1);
    assert_eq!(scene.claude(&program, "bob").code, Some(0));
}

#[test]
fn a_call_that_goes_to_another_model_costs_what_that_one_costs() {
    let Some(program) = tools::claude_code() else { skip!("{MISSING}") };
    let scene = Scene::new("", with_a_sub_agent("echo hi"));
    scene.operator(&["switch", "set", "route_to_model", HAIKU, "--for", "10m"]);
    let run = scene.claude(&program, "ana");
    assert_eq!(run.code, Some(0), "{:#?} {}", run.lines, run.stderr);
    let calls = scene.told_of("model-call", 4);
    for (call, request) in calls.iter().zip(scene.api.inference()) {
        assert_eq!(request.json()["model"], HAIKU);
        assert_eq!((&call["fact"]["model"], &call["attributes"]["asked_model"]), (&HAIKU.into(), &OPUS.into()), "{call:#}");
        assert_eq!(nano(&call["fact"]["cost_usd"]), nanodollars(HAIKU, tokens_of(request.number)), "{call:#}");
    }
    assert_eq!((cost_of(&calls), spent(&scene)), (scene.api.nanodollars(), scene.api.nanodollars()));
    scene.wait_for("what the transcripts tell", || told_by(&scene, "transcript") >= 4);
    scene.wait_for("the cost of the served model", || fleet_nanodollars(&scene) == scene.api.nanodollars());
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(fleet_nanodollars(&scene), scene.api.nanodollars(), "the transcript's word does not change it");
}

#[test]
fn a_limit_on_rates_makes_a_session_longer_and_nothing_else() {
    let Some(program) = tools::claude_code() else { skip!("{MISSING}") };
    let scene = Scene::new("", with_a_sub_agent("echo hi"));
    scene.operator(&["switch", "set", "rate_limit_per_minute", "30", "--for", "10m"]);
    let run = scene.claude(&program, "ana");
    assert_eq!(run.code, Some(0), "{:#?} {}", run.lines, run.stderr);
    let calls = scene.told_of("model-call", 4);
    let waited: u64 = calls.iter().filter_map(|call| call["attributes"]["waited_ms"].as_u64()).sum();
    assert!((1_500..8_000).contains(&waited), "{calls:#?}");
    assert_eq!(scene.told().iter().filter(|event| event["kind"] == "model-retry" || event["kind"] == "model-error").count(), 0);
    assert_eq!(scene.api.inference().len(), 4);
}

#[test]
fn a_session_that_runs_stops_at_its_next_call_when_all_is_blocked() {
    let Some(program) = tools::claude_code() else { skip!("{MISSING}") };
    let scene = Scene::new("", |request| match request.has_tool_result() {
        false => tool("Bash", json!({"command": "sleep 2", "description": "Wait"})),
        true => text("done"),
    });
    let run = while_it_runs(&scene, &program, |scene| {
        scene.wait_for("the first call", || !scene.api.inference().is_empty());
        scene.operator(&["switch", "set", "blocked", "true", "--for", "10m", "--reason", "a test"]);
    });
    check_stopped(&scene, &run, "an operator stopped these calls (switch blocked@all)", "model-error");
    assert_eq!(scene.api.inference().len(), 1);
    scene.told_of("model-call", 1);
}

/// Something happens while a session runs.
fn while_it_runs(scene: &Scene, program: &Path, happens: impl FnOnce(&Scene)) -> Run {
    let mut command = scene.claude_command(program, "ana", &scene.gateway_url());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    std::thread::scope(|scope| {
        let running = scope.spawn(|| scene.finish(command));
        happens(scene);
        running.join().unwrap()
    })
}
