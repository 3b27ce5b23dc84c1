//! Each page answers its question, safely, and without anything from elsewhere.

use std::sync::Arc;

use paramedic_model::{AgentId, ManualClock};

use crate::client::Answer;
use crate::stage::{self, Stage};
use crate::{serve, served};

/// Path, status, title, and words that must be on the page.
fn expectations() -> Vec<(String, u16, &'static str, Vec<&'static str>)> {
    let stuck = stage::agent("stuck");
    let words = |path: &str, status, title, words: &[&'static str]| (path.to_owned(), status, title, words.to_vec());
    vec![
        words(
            "/",
            200,
            "2 incidents are open",
            &["Model API overloaded (529)", "INC-2", "Fleet: 14 agents", "1 stuck", "Spent today", "of unknown price"],
        ),
        words("/agents", 200, "6 of 14 agents in trouble", &["stuck", "waiting for permission to run Bash", "unknown", "14 in all"]),
        words("/agents?state=failed", 200, "agents in trouble", &["billing-api"]),
        words("/agents?text=nosuchagent", 200, "agents in trouble", &["No agent matches"]),
        words(
            &format!("/agents/{stuck}"),
            200,
            "shop-checkout",
            &["the same Bash call 14 times", "Context", "limit, 200 k", "3 sub-agents", "INC-3", "What happened", "numbers"],
        ),
        words(&format!("/agents/{stuck}/a07d0f2c"), 200, "a07d0f2c", &["sub-agent of"]),
        words("/incidents", 200, "2 incidents open", &["SEV2", "Resolved", "Monitoring, quiet so far", "Open an incident"]),
        words("/incidents?state=open", 200, "2 incidents open", &["INC-2", "INC-3"]),
        words(
            "/incidents/INC-2",
            200,
            "INC-2 Model API overloaded",
            &[
                "onset 14:38:00",
                "detected 14:39:00",
                "mitigated 14:52:00",
                "39 retries, 1 turn ended for good",
                "acknowledged by",
                "kim",
                "in time",
                "Paused the nightly batch",
                "6 alerts as a table",
                "Resolve",
                "Merge",
            ],
        ),
        words("/incidents/3", 200, "INC-3", &["Acknowledge", "Bash cargo test checkout::flaky"]),
        words(
            "/alerts",
            200,
            "1 alert is firing",
            &[
                "the same Bash call 14 times",
                "shop-checkout",
                "INC-3",
                "active",
                "note",
                "What the detectors notice",
                "Fires at 3 retries in 10 min",
            ],
        ),
        words("/alerts?which=firing", 200, "1 alert is firing", &["the same Bash call 14 times"]),
        words("/alerts?which=ended&detector=api-overload", 200, "1 alert is firing", &["529 (overloaded)", "INC-2"]),
        words("/alerts?which=notes", 200, "1 alert is firing", &["its last 3 calls of Read gave the same result"]),
        words("/alerts?detector=none-such", 200, "1 alert is firing", &["No alert matches", "none-such"]),
        words("/alerts?which=loud", 400, "That did not work", &["which"]),
        words("/events?kind=nonsense", 400, "That did not work", &["nonsense", "tool-progress"]),
        words("/events?kind=model-error", 200, "Events", &["overloaded 529", "API Error"]),
        words("/events?text=nosuchword", 200, "Events", &["No event matches"]),
        words("/cost", 200, "At least $", &["Price unknown", "llama-4-maverick", "2026-03-10", "By model", "By agent"]),
        words(
            "/connect",
            200,
            "Connect an agent",
            &["CLAUDE_CODE_ENABLE_TELEMETRY=1", "paramedic connect claude-code --write", "127.0.0.1:4318", "paramedic doctor"],
        ),
        words("/me", 200, "Your name", &["label, not a login"]),
        words("/nothing", 404, "Not found", &["All agents"]),
        words("/incidents/INC-99", 404, "Not found", &["INC-99"]),
        words("/agents/nobody", 404, "Not found", &["nobody"]),
        words("/agents?limit=x", 400, "That did not work", &["limit"]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_answers_its_question() {
    let (_stage, server) = served().await;
    for (path, status, title, words) in expectations() {
        let answer = server.get(&path).await;
        assert_eq!(answer.status, status, "{path}");
        let shown = title_of(&answer);
        assert!(shown.contains(title), "{path}: {shown}");
        for word in words {
            assert!(answer.body.contains(word), "{path} does not say {word:?}\n{}", answer.body);
        }
        assert_safe(&path, &answer);
    }
}

fn title_of(answer: &Answer) -> &str {
    answer.body.split("<title>").nth(1).and_then(|rest| rest.split("</title>").next()).unwrap_or_default()
}

/// Nothing inline, nothing from elsewhere, nothing of an agent's text as markup.
pub fn assert_safe(path: &str, answer: &Answer) {
    let policy = answer.header("content-security-policy").unwrap_or_else(|| panic!("{path} has no policy"));
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    let body = &answer.body;
    assert!(!body.contains("<script>"), "{path} has inline or foreign script");
    assert!(!body.contains(" style=\"") && !body.contains("<style"), "{path} has inline style");
    assert!(!body.contains(" onclick") && !body.contains(" onload") && !body.contains("javascript:"), "{path}");
    for attribute in ["href=\"", "src=\"", "action=\""] {
        for value in body.split(attribute).skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(value.starts_with('/') && !value.starts_with("//") || value.starts_with('#'), "{path} links to {value}");
        }
    }
    assert!(body.contains("name=\"viewport\""), "{path}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_agent_stays_text() {
    let (_stage, server) = served().await;
    let encoded = "%3Cscript%3Ealert%281%29%3C/script%3E%22%27%26";
    for path in [
        "/agents",
        "/events?kind=record",
        &format!("/agents/{encoded}"),
        &format!("/events?agent={encoded}"),
        &format!("/agents?text={encoded}"),
        &format!("/incidents?text={encoded}"),
        &format!("/alerts?detector={encoded}"),
        &format!("/alerts?agent={encoded}"),
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body.contains("&lt;script&gt;alert(1)"), "{path} shows it as text");
        assert_safe(path, &answer);
    }
    let linked = server.get("/agents").await.body.contains(&format!("href=\"/agents/{encoded}\""));
    assert!(linked, "and its page can be reached: {}", AgentId::new(stage::HOSTILE));
}

#[tokio::test(flavor = "multi_thread")]
async fn assets_are_kept_by_browsers_and_named_by_content() {
    let (_stage, server) = served().await;
    let page = server.get("/").await.body;
    let mut found = 0;
    for path in page.split('"').filter(|part| part.starts_with("/assets/")) {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.header("cache-control").unwrap().contains("immutable"));
        assert!(answer.body.len() < if path.ends_with(".js") { 10_000 } else { 20_000 }, "{path}: {}", answer.body.len());
        found += 1;
    }
    assert_eq!(found, 3);
    assert_eq!(server.get("/assets/paramedic.0000000000000000.css").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_pages_teach_the_next_command() {
    let stage = Stage::empty(Arc::new(ManualClock::at(stage::now()))).await;
    let server = serve(&stage).await;
    for (path, words) in [
        ("/", "paramedic up --sample"),
        ("/agents", "/connect"),
        ("/incidents", "paramedic up --sample"),
        ("/alerts", "What the detectors notice"),
        ("/events", "Connect an agent"),
        ("/cost", "Nothing was spent yet"),
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body.contains(words), "{path}: {}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_is_said_with_its_age() {
    let (stage, server) = served().await;
    for id in ["2", "3"] {
        assert_eq!(server.form(&format!("/incidents/{id}/resolve"), "reason=over").await.status, 303);
    }
    let page = server.get("/").await;
    assert!(title_of(&page).starts_with("All quiet"), "{}", title_of(&page));
    assert!(page.body.contains("since"));
    assert!(stage.context.desk.incidents().await.open().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_page_draws_calls_failures_and_time_to_answer() {
    let (_stage, server) = served().await;
    let page = server.get("/").await.body;
    for words in ["Model calls a minute", "failed", "Time to answer, mean"] {
        assert!(page.contains(words), "{words}: {page}");
    }
}
