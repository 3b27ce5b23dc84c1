//! Keys and prompts pass through and stay nowhere: everything that the process wrote and answers is searched for them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::scene::Scene;
use super::upstream::{Reply, Request, text, tool};
use crate::http;
use crate::{skip, tools};

/// What is planted, and must be found nowhere.
const API_KEY: &str = "sk-ant-api03-PLANTED-KEY-4f1c";
const BEARER: &str = "PLANTED-BEARER-77aa";
const OWN_KEY: &str = "PLANTED-OWN-KEY-19be";
const UPSTREAM_KEY: &str = "PLANTED-UPSTREAM-KEY-5d2c";
const LITERAL_KEY: &str = "PLANTED-LITERAL-KEY-3b3b";
const PROMPT: &str = "PLANTED-PROMPT-c0ffee";
const TOOL_RESULT: &str = "PLANTED-RESULT-beef42";
const ANSWER: &str = "PLANTED-ANSWER-0dd1";
const HEADER: &str = "PLANTED-HEADER-a11ce";
const ERROR: &str = "PLANTED-ERROR-d00d";
const QUERY: &str = "PLANTED-QUERY-9e9e";
const BODY: &str = "PLANTED-BODY-f00d";
/// What may be seen, and is: the search looks where things are.
const SEEN: &str = "planted-user-5eed";
const ALL: [&str; 12] = [API_KEY, BEARER, OWN_KEY, UPSTREAM_KEY, LITERAL_KEY, PROMPT, TOOL_RESULT, ANSWER, HEADER, ERROR, QUERY, BODY];

/// Switches that make the gateway read, change and refuse calls, so that its own words have something to leave out.
const SWITCHES: [&[&str]; 6] = [
    &["max_history_tokens", "20000"],
    &["summarization", "true"],
    &["prompt_caching", "true"],
    &["retry_attempts", "2"],
    &["provider_pacing", "true"],
    &["max_growth_tokens", "1000000"],
];

fn script(request: &Request) -> Reply {
    if request.body.windows(BODY.len()).any(|bytes| bytes == BODY.as_bytes()) || !request.is_inference() {
        let message = format!("{ERROR}: your request {BODY} with {} is wrong", request.header("x-api-key").unwrap_or(BEARER));
        return Reply::Error { status: 400, kind: "invalid_request_error", message, headers: vec![("x-note", HEADER)] };
    }
    match request.has_tool_result() {
        // In two pieces, so that only its output has it whole.
        false => {
            let (head, tail) = TOOL_RESULT.split_at(10);
            tool("Bash", json!({"command": format!("echo {head}\"\"{tail}"), "description": "Say"}))
        }
        true => text(ANSWER),
    }
}

/// Calls by hand, with secrets in every place that a request has.
fn by_hand(scene: &Scene) {
    let body = json!({"model": "claude-opus-5-5", "max_tokens": 9, "system": BODY, "messages": [{"role": "user", "content": BODY}]});
    let broken = format!("{{\"model\": \"claude-opus-5-5\", \"messages\": [{{\"role\": \"{BODY}\", \"cont");
    let gateway = scene.instance.gateway();
    let send = |path: &str, headers: &[(&str, &str)], body: &[u8]| http::request(&gateway, "POST", path, headers, body).unwrap();
    for body in [body.to_string(), broken] {
        for key in [format!("Bearer {BEARER}"), BEARER.to_owned(), format!("Basic {BEARER}")] {
            let headers = [("authorization", key.as_str()), ("x-custom", HEADER), ("x-paramedic-user", SEEN), ("cookie", HEADER)];
            let answer = send(&format!("/v1/messages?api_key={QUERY}"), &headers, body.as_bytes());
            assert_eq!(answer.status, 400, "{}", answer.text());
            assert!(answer.text().contains(ERROR), "the client gets the whole error");
        }
    }
    let answer = send("/v1/files", &[("x-api-key", API_KEY)], BODY.as_bytes());
    assert_eq!(answer.status, 400);
    let owned = send("/v1/messages", &[("x-api-key", OWN_KEY)], body.to_string().as_bytes());
    assert_eq!(owned.status, 400);
    let last = scene.api.requests().pop().unwrap();
    assert_eq!(last.header("x-api-key"), Some(UPSTREAM_KEY), "a key of ours stands for the upstream's");
    let blocked = send("/v1/messages", &[("x-api-key", API_KEY), ("x-paramedic-user", "mallory")], body.to_string().as_bytes());
    assert_eq!((blocked.status, blocked.text().contains(BODY)), (403, false), "{}", blocked.text());
}

#[test]
fn keys_and_prompts_are_in_nothing_that_the_process_wrote_or_answers() {
    let Some(program) = tools::claude_code() else { skip!("Claude Code is not installed (`cargo xtask setup`)") };
    let settings = format!(
        "[[gateway.keys]]\nname = \"any\"\nkey = \"{OWN_KEY}\"\nupstream_key = \"env:PLANTED\"\n\
         [[gateway.keys]]\nname = \"other\"\nkey = \"env:PLANTED_TOO\"\nupstream_key = \"{LITERAL_KEY}\"\n[claude]\nwatch = false\n[meter]\nenabled = true\n"
    );
    let scene = Scene::with(&settings, &[("RUST_LOG", "trace"), ("PLANTED", UPSTREAM_KEY), ("PLANTED_TOO", UPSTREAM_KEY)], script);
    for switch in SWITCHES {
        scene.operator(&[&["switch", "set"], switch, &["--for", "10m"]].concat());
    }
    scene.operator(&["switch", "set", "blocked_user:mallory", "true", "--for", "10m"]);
    scene.operator(&["budget", "set", "5", "--per", "day"]);
    let mut claude = scene.claude_asked(&program, PROMPT, "ana", &scene.gateway_url());
    claude.env("ANTHROPIC_API_KEY", API_KEY);
    claude.env("ANTHROPIC_CUSTOM_HEADERS", format!("x-paramedic-user: ana\nx-custom: {HEADER}"));
    let run = scene.finish(claude);
    assert_eq!(run.code, Some(0), "{:#?} {}", run.lines, run.stderr);
    let sent: Vec<Request> = scene.api.inference();
    let all_sent: String = sent.iter().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect();
    assert!(all_sent.contains(PROMPT) && all_sent.contains(TOOL_RESULT), "the secrets did go through");
    assert!(sent.iter().any(|request| request.header("x-api-key") == Some(API_KEY) && request.header("x-custom") == Some(HEADER)));
    by_hand(&scene);
    scene.wait_for("what the gateway tells", || scene.told().iter().filter(|event| event["user"] == SEEN).count() >= 6);
    search_answers(&scene);
    let home = scene.home.path().to_path_buf();
    search_files(&home);
    // What is written at the end too.
    let Scene { instance, api, home: kept } = scene;
    assert_eq!(instance.stop(), Some(0));
    search_files(&home);
    drop((api, kept));
}

#[track_caller]
fn search(place: &str, bytes: &[u8]) {
    for secret in ALL {
        let found = bytes.windows(secret.len()).position(|window| window.eq_ignore_ascii_case(secret.as_bytes()));
        if let Some(at) = found {
            let around = String::from_utf8_lossy(&bytes[at.saturating_sub(200)..(at + 200).min(bytes.len())]).into_owned();
            panic!("{secret} is in {place}: …{around}…");
        }
    }
}

/// Every answer that is to be had without a parameter, and every page.
fn search_answers(scene: &Scene) {
    let instance = &scene.instance;
    let described = instance.json("/api/openapi.json");
    let paths = described["paths"].as_object().unwrap();
    let readable = paths.iter().filter(|(path, what)| what["get"].is_object() && !path.contains('{'));
    let mut asked: Vec<String> = readable.map(|(path, _)| path.clone()).filter(|path| !path.contains("stream")).collect();
    assert!(asked.len() > 20, "{asked:?}");
    // What Prometheus' own clients ask for is not described there.
    let more = ["/metrics", "/api/v1/events?source=gateway&limit=1000", "/api/v1/status/config", "/api/v1/status/flags", "/api/v1/labels"];
    asked.extend(more.map(str::to_owned));
    assert!(instance.get("/api/v1/status/config").text().contains("env:PLANTED"), "settings are shown, but for what is secret");
    let front = instance.get("/").text();
    let links = front.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    asked.extend(links.filter(|link| link.starts_with('/')).map(str::to_owned));
    assert!(instance.get("/api/v1/events?source=gateway&limit=1000").text().contains(SEEN));
    for path in asked {
        if let Ok(answer) = http::get(&instance.http(), &path) {
            search(&path, &answer.body);
        }
    }
    for shown in [&["switch", "list"][..], &["agents"], &["cost"], &["doctor"], &["events"]] {
        let output = scene.home.run(shown);
        search(&format!("paramedic {shown:?}"), &[output.stdout, output.stderr].concat());
    }
}

/// Every file of the home folder but those of Claude Code itself, and the settings in which a key stands as it was written.
fn search_files(home: &Path) {
    let mut files = Vec::new();
    let mut folders = vec![home.to_path_buf()];
    let not_ours: [PathBuf; 4] = [".claude", "work", "paramedic.toml", ".claude.json"].map(|name| home.join(name));
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            match entry.file_type() {
                _ if not_ours.contains(&path) => {}
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(kind) if kind.is_file() => files.push(path),
                _ => {}
            }
        }
    }
    let names: Value = files.iter().map(|file| file.to_string_lossy().into_owned()).collect();
    assert!(files.len() > 3 && names.to_string().contains("up.log") && names.to_string().contains("gateway"), "{names:#}");
    let log = fs::read_to_string(home.join("up.log")).unwrap();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log is as loud as it can be");
    let mut seen = 0;
    for file in files {
        // What is gone since is not there to tell anything.
        if let Ok(bytes) = fs::read(&file) {
            search(&file.to_string_lossy(), &bytes);
            seen += usize::from(bytes.windows(SEEN.len()).any(|window| window == SEEN.as_bytes()));
        }
    }
    assert!(seen > 0, "{SEEN} is in none of {names:#}");
}
