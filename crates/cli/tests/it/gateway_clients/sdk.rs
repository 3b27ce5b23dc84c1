//! The SDKs for Python and JavaScript through the gateway: whole answers and streams, and the errors that they make of ours.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use super::scene::Scene;
use super::upstream::{Reply, Request, error, text};
use crate::{skip, tools};

/// What a case must come to: the error's class in either SDK, its status, words of its message, and how often the API was asked.
struct Wanted {
    case: &'static str,
    user: &'static str,
    error: &'static str,
    status: Option<u16>,
    words: &'static str,
    asked: usize,
}

const WANTED: [Wanted; 8] = [
    Wanted {
        case: "blocked",
        user: "blocked",
        error: "PermissionDeniedError",
        status: Some(403),
        words: "an operator stopped these calls",
        asked: 0,
    },
    Wanted {
        case: "blocked stream",
        user: "blocked",
        error: "PermissionDeniedError",
        status: Some(403),
        words: "blocked_user:blocked@all",
        asked: 0,
    },
    Wanted { case: "spent", user: "broke", error: "RateLimitError", status: Some(429), words: "spend limit reached", asked: 1 },
    Wanted {
        case: "hasty",
        user: "hasty",
        error: "RateLimitError",
        status: Some(429),
        words: "rate_limit_per_minute@user:hasty",
        asked: 1,
    },
    Wanted { case: "late", user: "late", error: "", status: Some(504), words: "did not begin to answer within 1 s", asked: 1 },
    Wanted { case: "impatient", user: "impatient", error: "", status: None, words: "timed out", asked: 1 },
    Wanted { case: "final", user: "final", error: "InternalServerError", status: Some(500), words: "the fake says 500", asked: 1 },
    Wanted { case: "cut", user: "cut", error: "", status: None, words: "", asked: 1 },
];

fn script() -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    let asked: Mutex<HashMap<String, usize>> = Mutex::default();
    move |request| {
        let user = request.header("x-user-id").unwrap_or_default().to_owned();
        let mut asked = asked.lock().unwrap();
        let times = asked.entry(user.clone()).or_default();
        *times += 1;
        match (user.as_str(), *times) {
            ("late" | "impatient", _) => Reply::Late(Duration::from_secs(3), vec![json!({"type": "text", "text": "too late"})]),
            ("flaky", 1 | 2) => error(500, "api_error", &[("retry-after-ms", "100")]),
            ("final", _) => error(500, "api_error", &[("x-should-retry", "false")]),
            ("limited", 1) => error(429, "rate_limit_error", &[("retry-after", "1")]),
            ("cut", _) => Reply::Cut(vec![json!({"type": "text", "text": "half of"})]),
            _ => text("hi from the fake"),
        }
    }
}

fn check_sdk(program: &Path, script_name: &str, modules: &Path) {
    let scene = Scene::new("", script());
    for set in [
        ["blocked_user:blocked", "true", "--scope", "all"],
        ["queue_wait_s", "1", "--scope", "user=hasty"],
        ["rate_limit_per_minute", "1", "--scope", "user=hasty"],
        ["first_byte_timeout_s", "1", "--scope", "user=late"],
    ] {
        scene.operator(&[&["switch", "set"], &set[..], &["--for", "10m"]].concat());
    }
    scene.operator(&["budget", "set", "0.00005", "--per", "day", "--scope", "user=broke"]);
    let told = scene.sdk(program, script_name, modules);
    let of = |case: &str| told.iter().find(|line| line["case"] == case).unwrap_or_else(|| panic!("no {case} in {told:#?}"));
    let asked = |user: &str| scene.api.inference().iter().filter(|request| request.header("x-user-id") == Some(user)).count();
    for case in ["create", "stream", "spent before", "hasty before", "flaky", "limited"] {
        let line = of(case);
        assert_eq!(line["text"], "hi from the fake", "{line:#}");
        let number: u64 = line["request_id"].as_str().unwrap().trim_start_matches("req_fake").parse().unwrap();
        assert_eq!(line["output"], super::upstream::tokens_of(number)[1], "{line:#}");
    }
    for wanted in &WANTED {
        let line = of(wanted.case);
        assert!(line["error"].as_str().is_some_and(|error| error.ends_with(wanted.error)), "{line:#}");
        assert_eq!(line["status"].as_u64(), wanted.status.map(u64::from), "{line:#}");
        assert!(line["message"].as_str().unwrap().to_lowercase().contains(wanted.words), "{line:#}");
        assert!(line["seconds"].as_f64().unwrap() < 4.0, "{line:#}");
        assert_eq!(asked(wanted.user), wanted.asked, "{line:#}");
    }
    // What the provider says stands, and each SDK tries twice more.
    assert_eq!((asked("flaky"), asked("limited")), (3, 2));
    assert!(of("limited")["seconds"].as_f64().unwrap() >= 1.0);
    check_others(&scene, &of);
    check_told(&scene);
}

/// Whatever is no call for an answer is passed on, and costs nothing.
fn check_others<'a>(scene: &Scene, of: &dyn Fn(&str) -> &'a Value) {
    assert_eq!(of("count")["tokens"], 42);
    assert_eq!(of("spent count")["tokens"], 42, "counting is free");
    assert_eq!(of("models")["models"], json!(["claude-opus-5-5"]));
    assert_eq!(of("batch")["batch"], "msgbatch_fake");
    let paths: Vec<String> = scene.api.requests().iter().map(|request| request.path.split('?').next().unwrap().to_owned()).collect();
    for (path, times) in [("/v1/messages/count_tokens", 2), ("/v1/models", 1), ("/v1/messages/batches", 1)] {
        assert_eq!(paths.iter().filter(|one| *one == path).count(), times, "{paths:?}");
    }
}

/// The gateway tells what the SDKs did: who, which try, and what it cost.
fn check_told(scene: &Scene) {
    scene.wait_for("the last call", || scene.told().iter().any(|event| event["user"] == "cut"));
    std::thread::sleep(Duration::from_millis(300));
    let told = scene.told();
    let of =
        |user: &str, kind: &str| told.iter().filter(|event| event["user"] == user && event["kind"] == kind).cloned().collect::<Vec<_>>();
    assert_eq!((of("blocked", "model-error").len(), of("broke", "model-error").len()), (2, 1), "{told:#?}");
    let retries = of("flaky", "model-retry");
    let attempts: Vec<u64> = retries.iter().map(|event| event["fact"]["attempt"].as_u64().unwrap()).collect();
    assert_eq!(attempts, [1, 2], "{retries:#?}");
    assert_eq!(of("flaky", "model-call")[0]["attributes"]["attempt"], 3, "{told:#?}");
    let cut = of("cut", "model-call");
    assert_eq!((cut.len(), &cut[0]["attributes"]["unfinished"]), (1, &"cut".into()), "{cut:#?}");
}

/// Where the packages of npm are.
fn modules() -> Option<PathBuf> {
    let modules = tools::target().join("test-tools/npm/node_modules");
    modules.join("@anthropic-ai/sdk/package.json").is_file().then_some(modules)
}

fn node() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join("node")).find(|program| program.is_file())
}

#[test]
fn the_python_sdk_works_and_raises_its_own_errors() {
    let program = tools::python().filter(|program| {
        let imported = std::process::Command::new(program).args(["-c", "import anthropic"]).output();
        imported.is_ok_and(|output| output.status.success())
    });
    let Some(program) = program else { skip!("the Python SDK is not installed (`cargo xtask setup`)") };
    check_sdk(&program, "sdk.py", Path::new(""));
}

#[test]
fn the_javascript_sdk_works_and_raises_its_own_errors() {
    let (Some(program), Some(modules)) = (node(), modules()) else { skip!("the JavaScript SDK is not installed (`cargo xtask setup`)") };
    check_sdk(&program, "sdk.cjs", &modules);
}
