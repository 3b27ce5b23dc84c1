//! The verbs of the gateway, against a running instance with a model API on the loopback behind it.

use std::fs;
use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fake_api::{Behaviour, FakeApi};
use crate::fixture::{Home, Instance, until};
use crate::http::{self, Answer};

const WITHIN: Duration = Duration::from_secs(10);
const KEY: &str = "sk-ant-REDACTED";
const PROMPT: &str = "the launch code is 12345";

struct Scene {
    home: Home,
    instance: Instance,
    api: FakeApi,
}

impl Scene {
    fn new(behaviour: Behaviour) -> Self {
        let (home, api) = (Home::new(), FakeApi::start(behaviour));
        let instance = home.up_configured(&format!("[[gateway.upstreams]]\nname = \"anthropic\"\nurl = \"{}\"\n", api.url()));
        Self { home, instance, api }
    }

    fn gateway(&self) -> String {
        let ports: Value = serde_json::from_slice(&fs::read(self.home.data().join("ports.json")).unwrap()).unwrap();
        ports["gateway"].as_str().unwrap().to_owned()
    }

    /// One call by a user, in the session of that user.
    fn call(&self, user: &str) -> Answer {
        let body =
            json!({"model": "claude-opus-5-5", "max_tokens": 100, "stream": true, "messages": [{"role": "user", "content": PROMPT}]});
        let session = format!("session-of-{user}");
        let headers = [
            ("content-type", "application/json"),
            ("anthropic-version", "2023-06-01"),
            ("x-api-key", KEY),
            ("x-paramedic-user", user),
            ("x-paramedic-session", &session),
        ];
        http::request(&self.gateway(), "POST", "/v1/messages", &headers, body.to_string().as_bytes()).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.home.command(arguments).env("PARAMEDIC_ACTOR", "kim").output().unwrap()
    }

    /// What a verb prints; it has to succeed.
    #[track_caller]
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "paramedic {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// It prints all of these words.
    #[track_caller]
    fn check(&self, arguments: &[&str], words: &[&str]) {
        let said = self.says(arguments);
        words.iter().for_each(|word| assert!(said.contains(word), "paramedic {arguments:?} does not say {word:?}:\n{said}"));
    }

    /// It is refused with this exit code and these words.
    #[track_caller]
    fn refused(&self, arguments: &[&str], code: i32, words: &[&str]) {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "paramedic {arguments:?}: {said}");
        words.iter().for_each(|word| assert!(said.contains(word), "paramedic {arguments:?} does not say {word:?}:\n{said}"));
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.says(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// The journal's kinds and actors about a subject.
    fn journal(&self, subject: &str) -> Vec<(String, String)> {
        let page = self.instance.json(&format!("/api/v1/journal?subject={subject}"));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        page["entries"].as_array().unwrap().iter().map(|one| (text(&one["kind"]), text(&one["actor"]))).collect()
    }
}

const VERBS: [&[&str]; 9] = [
    &["traffic"],
    &["latency", "top"],
    &["ratelimit"],
    &["breaker", "list"],
    &["budget"],
    &["budget", "list"],
    &["cost", "top"],
    &["cost", "why"],
    &["fault", "show"],
];

#[test]
fn where_there_is_nothing_it_is_said_what_to_do_next() {
    let scene = Scene::new(Behaviour::Refuse { status: 500, times: 0 });
    scene.check(&["traffic"], &["to anthropic", "export ANTHROPIC_BASE_URL=http://", &scene.gateway(), "connect claude-code --gateway"]);
    scene.check(&["latency", "top"], &["No call was answered yet", "paramedic traffic"]);
    scene.check(
        &["ratelimit"],
        &["0 calls in the last minute", "no answer came through the gateway yet", "switch set rate_limit_per_minute"],
    );
    scene.check(&["breaker", "list"], &["No circuit breaker yet"]);
    scene.check(&["budget"], &["No budget holds", "paramedic budget set 20 --per day"]);
    scene.check(&["cost", "top"], &["Nothing was spent through the gateway this day", "connect claude-code --gateway"]);
    scene.check(&["cost", "why"], &["nothing was spent through the gateway in this window"]);
    scene.check(&["fault", "show"], &["No faults are done", "paramedic fault lease"]);
    VERBS.iter().for_each(|verb| assert!(scene.json(verb).is_object(), "{verb:?}"));
    // The older verb is as it was.
    scene.check(&["cost"], &["Nothing was spent so far."]);

    let elsewhere = Home::new();
    for verb in VERBS {
        let output = elsewhere.run(verb);
        assert_eq!(output.status.code(), Some(3), "{verb:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("paramedic up"), "{verb:?}");
        let help = elsewhere.run(&[verb, &["--help"]].concat());
        assert!(help.status.success(), "{verb:?}");
    }
    for verb in ["traffic", "latency", "ratelimit", "breaker", "budget", "cost", "fault"] {
        let help = elsewhere.run(&[verb, "--help"]);
        assert!(String::from_utf8_lossy(&help.stdout).contains("Examples:"), "{verb}");
    }
}

#[test]
fn calls_are_told_by_who_made_them_what_they_cost_and_how_long_they_took() {
    let scene = Scene::new(Behaviour::Refuse { status: 500, times: 0 });
    scene.says(&["budget", "set", "20", "--per", "day", "--scope", "user=ana"]);
    for _ in 0..30 {
        assert_eq!(scene.call("ana").status, 200);
    }
    assert_eq!(scene.call("bo").status, 200);
    let top = until(WITHIN, || Some(scene.json(&["cost", "top"])).filter(|top| top["all"]["calls"] == 31)).expect("31 calls are counted");
    let (ana, bo) = (&top["spenders"][0], &top["spenders"][1]);
    assert_eq!((&ana["name"], &ana["calls"], &bo["name"], &bo["calls"]), (&json!("user:ana"), &json!(30), &json!("user:bo"), &json!(1)));
    assert_eq!(ana["tokens_per_call"], 67.0, "{ana:#}");
    assert!((ana["share"].as_f64().unwrap() - 30.0 / 31.0).abs() < 1e-9, "{ana:#}");
    scene.check(&["cost", "top"], &["USER", "ana", "97 %", "31 calls this day"]);
    scene.check(&["cost", "top", "--by", "model", "--per", "week"], &["claude-opus-5-5", "100 %"]);
    scene.check(&["cost", "top", "--by", "team"], &["No call said which team it is of"]);
    scene.check(
        &["cost", "why"],
        &["the user ana spent", "with 30 of 31 calls", "paramedic switch set blocked true --scope user=ana --for 1h"],
    );
    let why = scene.json(&["cost", "why"]);
    assert_eq!(why["findings"][0]["numbers"]["calls"], 30.0, "{why:#}");

    scene.check(&["traffic", "--limit", "3"], &["31 calls: 31 answered", "claude-opus-5-5", "60 + 7", "session-of-bo", "3 of 31 calls"]);
    assert_eq!(scene.json(&["traffic", "--user", "bo"])["found"], 1);
    scene.check(&["traffic", "--outcome", "refused"], &["No call fits, of 31 that are remembered."]);
    scene.refused(&["traffic", "--status", "nine"], 1, &["neither a status like 429"]);
    scene.check(&["latency", "top"], &["MODEL", "claude-opus-5-5", "31 calls looked at", "Long prompts:"]);
    assert_eq!(scene.json(&["latency", "top", "--by", "user"])["rows"].as_array().unwrap().len(), 2);
    scene.check(&["ratelimit"], &["31 calls in the last minute", "requests", "50", "49", "opus-5-5"]);
    scene.check(&["budget"], &["user:ana", "$20.00", "refuses", "begins anew".to_uppercase().as_str()]);
    let budget = scene.json(&["budget", "list"])["budgets"][0].clone();
    let spent = budget["spent_dollars"].as_f64().unwrap();
    assert!(spent > 0.0 && (spent - ana["dollars"].as_f64().unwrap()).abs() < 1e-9 && budget["reserved_dollars"] == 0.0, "{budget:#}");

    // What was blocked shows what the switch did.
    scene.says(&["switch", "set", "blocked", "true", "--scope", "user=ana", "--for", "10m", "--reason", "spends too much"]);
    let blocked = until(WITHIN, || Some(scene.call("ana")).filter(|answer| answer.status == 403));
    assert!(blocked.is_some(), "a blocked user still calls");
    assert_eq!(scene.call("bo").status, 200);
    scene.check(&["switch", "list"], &["blocked@user:ana = true", "acted on 1 call", "refused/min 0 -> 1"]);
    scene.check(&["traffic", "--switch", "blocked"], &["refused 403", "blocked@user:ana: "]);

    // No prompt and no key, whatever is asked.
    for verb in VERBS.iter().chain([&["switch", "list"][..], &["events", "--limit", "100"], &["journal", "show"]].iter()) {
        let said = scene.says(verb) + &scene.json(verb).to_string();
        assert!(!said.contains(KEY) && !said.contains("0123456789abcdef") && !said.contains("launch code"), "{verb:?}");
    }
    assert_eq!(scene.api.requests().len(), 32);
}

#[test]
fn breakers_are_held_seen_and_reset_and_each_change_is_on_record() {
    let scene = Scene::new(Behaviour::Refuse { status: 500, times: 0 });
    assert_eq!(scene.call("ana").status, 200);
    scene.check(&["breaker", "list"], &["anthropic", "closed", "They only watch"]);
    scene.check(&["breaker", "open", "anthropic", "--for", "5m", "--reason", "provider is down"], &["breaker:anthropic@all = open until"]);
    let refused = until(WITHIN, || Some(scene.call("ana")).filter(|answer| answer.status >= 500)).expect("an open breaker refuses");
    assert!(refused.head.contains("x-paramedic"), "{}", refused.head);
    scene.check(&["breaker", "list"], &["open", "breaker:anthropic@all"]);
    scene.refused(&["breaker", "reset", "elsewhere"], 4, &["there is no circuit breaker", "paramedic breaker list"]);
    scene.refused(&["breaker", "reset"], 2, &[]);
    scene.check(&["breaker", "reset", "anthropic", "--reason", "it is back"], &["breaker:anthropic@all does not hold any more"]);
    assert!(until(WITHIN, || (scene.call("ana").status == 200).then_some(())).is_some(), "a reset breaker refuses still");
    scene.check(&["breaker", "close", "anthropic"], &["breaker:anthropic@all = closed until"]);
    scene.check(&["breaker", "reset", "--all"], &["closed", "breaker:anthropic@all does not hold any more"]);
    scene.check(&["breaker", "open", "anthropic/claude-x", "--for", "5m"], &["breaker:anthropic/claude-x@all = open until"]);
    scene.check(&["switch", "clear", "breaker:anthropic/claude-x"], &["breaker:anthropic/claude-x@all does not hold any more"]);
    assert_eq!(scene.journal("breaker/anthropic"), [("breaker-reset".to_owned(), "kim".to_owned())]);
    assert_eq!(scene.journal("breaker/all"), [("breaker-reset".to_owned(), "kim".to_owned())]);
    let kinds: Vec<String> = scene.journal("switch/breaker:anthropic@all").into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["switch-set", "switch-cleared", "switch-set", "switch-cleared"]);
}

#[test]
fn faults_are_leased_by_people_seen_by_clients_and_end() {
    let scene = Scene::new(Behaviour::Refuse { status: 500, times: 0 });
    let lease = ["fault", "lease", "overloaded", "--scope", "user=ana", "--for", "5m", "--reason", "a drill", "--id", "drill-1"];
    let nobody = scene.home.run(&lease);
    assert_eq!(nobody.status.code(), Some(6), "{}", String::from_utf8_lossy(&nobody.stderr));
    scene.check(&lease, &["drill-1: 100 % of the calls of user:ana are answered with 529", "by kim"]);
    let struck = scene.call("ana");
    assert_eq!(struck.status, 529, "{}", struck.text());
    assert!(struck.head.contains("x-paramedic-fault: drill-1"), "{}", struck.head);
    assert_eq!(scene.call("bo").status, 200);
    scene.refused(
        &["fault", "lease", "server-error", "--for", "5m", "--reason", "mine"],
        6,
        &["kim holds them as drill-1", "paramedic fault show"],
    );
    scene.refused(&["fault", "lease", "overloaded", "--for", "2h", "--reason", "long"], 1, &["at most an hour"]);
    scene.refused(&["fault", "lease", "overloaded", "--for", "5m"], 2, &["--reason"]);
    scene.refused(
        &["fault", "lease", "overloaded", "--delay", "5s", "--for", "5m", "--reason", "x"],
        1,
        &["--delay is not for this fault"],
    );
    scene.check(&["fault", "show"], &["drill-1", "paramedic fault release"]);
    scene.check(&["fault", "release", "--reason", "enough"], &["drill-1 is released"]);
    assert_eq!(scene.call("ana").status, 200);
    scene.refused(&["fault", "release"], 4, &["nothing to release"]);
    let kinds: Vec<String> = scene.journal("fault/drill-1").into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["fault-leased", "fault-released"]);
}

#[test]
fn claude_code_is_connected_through_the_gateway_and_disconnected_to_the_letter() {
    let scene = Scene::new(Behaviour::Refuse { status: 500, times: 0 });
    let claude_dir = scene.home.claude();
    let dir = claude_dir.to_str().unwrap();
    let gateway = format!("http://{}", scene.gateway());
    scene.check(
        &["connect", "claude-code", "--claude-dir", dir],
        &["export CLAUDE_CODE_ENABLE_TELEMETRY=1", "paramedic connect claude-code --gateway"],
    );
    assert!(!scene.says(&["connect", "claude-code", "--claude-dir", dir]).contains("export ANTHROPIC_BASE_URL"));
    let export = format!("export ANTHROPIC_BASE_URL={gateway}");
    scene.check(&["connect", "claude-code", "--gateway", "--claude-dir", dir], &[&export, "export CLAUDE_CODE_GATEWAY_HINT_HEADERS=1"]);
    let shown = scene.json(&["connect", "claude-code", "--gateway", "--claude-dir", dir]);
    assert_eq!(shown["env"]["ANTHROPIC_BASE_URL"], gateway.as_str());
    let settings = claude_dir.join("settings.json");
    let before = "{\n  \"env\": {\n    \"FOO\": \"1\"\n  }\n}\n";
    fs::write(&settings, before).unwrap();
    let read = || serde_json::from_str::<Value>(&fs::read_to_string(&settings).unwrap()).unwrap();
    scene.says(&["connect", "claude-code", "--gateway", "--write", "--claude-dir", dir]);
    let env = read()["env"].clone();
    assert_eq!((&env["ANTHROPIC_BASE_URL"], &env["CLAUDE_CODE_GATEWAY_HINT_HEADERS"]), (&json!(gateway), &json!("1")));
    assert_eq!(env["CLAUDE_CODE_ENABLE_TELEMETRY"], "1");
    scene.says(&["connect", "claude-code", "--undo", "--claude-dir", dir]);
    assert_eq!(read(), serde_json::from_str::<Value>(before).unwrap());
    scene.refused(&["connect", "claude-code", "--gateway", "--undo", "--claude-dir", dir], 2, &[]);
}
