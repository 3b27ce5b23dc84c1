//! Flags: durable before they are said, set back when their time is over, and the same on another server.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use paramedic_action::call::Call;
use paramedic_action::flag::{FlagError, FlagFold, FlagStore, Flags, Settings};
use paramedic_action::{ActionError, Adapter};
use paramedic_journal::{Entry, Fold as _, Journal, SqliteJournal};
use paramedic_model::{ManualClock, Timestamp};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::local::carry;

const START: Timestamp = Timestamp::from_secs(1_770_000_000);

fn at(secs: u64) -> Timestamp {
    START.after(Duration::from_secs(secs))
}

fn journal(folder: &tempfile::TempDir) -> Arc<dyn Journal> {
    Arc::new(SqliteJournal::open(&folder.path().join("journal.db")).unwrap())
}

async fn entries(journal: &dyn Journal) -> Vec<Entry> {
    journal.read(0, 1_000).await.unwrap()
}

#[tokio::test]
async fn a_flag_survives_a_restart_and_comes_back_when_its_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let first = journal(&folder);
    let store = FlagStore::open(first.clone()).await.unwrap();
    let set = store.set("new-search", false, "ana", "errors, token sk-ant-api03-AbCdEf123456", Some(at(60)), at(0)).await.unwrap();
    assert!(!set.enabled && set.then && !set.why.contains("AbCdEf"), "{set:?}");
    store.set("beta", true, "ben", "", None, at(1)).await.unwrap();
    store.set("beta", false, "ben", "slow", None, at(2)).await.unwrap();
    assert_eq!(entries(first.as_ref()).await.len(), 3, "durable before it answered");
    let before = store.list();
    drop((store, first));

    let again = journal(&folder);
    let store = FlagStore::open(again.clone()).await.unwrap();
    assert_eq!(store.list(), before, "as it was");
    assert!(store.tick(at(59)).await.unwrap().is_empty());
    let flag = store.get("new-search").unwrap();
    assert!(!flag.enabled_at(at(59)) && flag.enabled_at(at(60)), "nobody has to wait for the clockwork");
    let ended = store.tick(at(60)).await.unwrap();
    assert_eq!((ended.len(), ended[0].enabled, ended[0].by.as_str(), ended[0].expires_at), (1, true, "clockwork", None));
    assert!(store.tick(at(61)).await.unwrap().is_empty());
    let history = store.history("new-search");
    assert_eq!(history.iter().map(|change| (change.enabled, change.expired)).collect::<Vec<_>>(), [(false, false), (true, true)]);
    store.save_snapshot().await.unwrap();
    let last = store.list();
    drop(store);
    assert_eq!(FlagStore::open(again).await.unwrap().list(), last, "also from a snapshot");
}

#[tokio::test]
async fn what_was_lasting_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = FlagStore::open(journal(&folder)).await.unwrap();
    // Lastingly off; on for a minute, then longer; then off again.
    store.set("x", false, "ana", "", None, at(0)).await.unwrap();
    store.set("x", true, "ana", "", Some(at(60)), at(1)).await.unwrap();
    store.set("x", true, "ana", "", Some(at(120)), at(50)).await.unwrap();
    assert!(store.tick(at(61)).await.unwrap().is_empty(), "it was made longer");
    assert!(!store.tick(at(120)).await.unwrap()[0].enabled);
    assert!(matches!(store.set("x", true, "ana", "", Some(at(100)), at(100)).await, Err(FlagError::Past { .. })));
    for name in ["", "'; drop", "../x", "a/b", "x\n"] {
        assert!(matches!(store.set(name, true, "ana", "", None, at(0)).await, Err(FlagError::Name(_))), "{name}");
    }
}

#[tokio::test]
async fn two_writers_of_one_journal_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let journal = journal(&folder);
    let (one, two) = (FlagStore::open(journal.clone()).await.unwrap(), FlagStore::open(journal.clone()).await.unwrap());
    one.set("x", false, "one", "", None, at(0)).await.unwrap();
    two.set("x", true, "two", "", Some(at(100)), at(1)).await.unwrap();
    assert!(!two.get("x").unwrap().then, "it was decided on what the other wrote");
    // An entry of a newer program about the same flag.
    let draft = paramedic_journal::Draft {
        at: at(3),
        kind: "flag-set".to_owned(),
        subject: "flag/x".to_owned(),
        actor: "newer".to_owned(),
        payload: json!({ "version": 99, "levels": [1] }),
    };
    journal.append(vec![draft], paramedic_journal::Expected::Any).await.unwrap();
    let flag = two.set("x", false, "two", "", None, at(4)).await.unwrap();
    assert!(!flag.enabled && two.unreadable() == 1);
}

#[tokio::test]
async fn a_flag_is_switched_off_as_an_action_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let journal = journal(&folder);
    let store = Arc::new(FlagStore::open(journal.clone()).await.unwrap());
    let clock = Arc::new(ManualClock::at(at(0)));
    let flags = Flags::new(Settings::default(), Some(store.clone()), clock.clone());
    let mut call = Call::new("flag.disable").with("flag", "recall");
    (call.by, call.reason) = ("ana".to_owned(), "it costs too much".to_owned());
    let plan = flags.plan(&call).await.unwrap();
    assert!(plan.warnings[0].contains("nobody has ever set") && entries(journal.as_ref()).await.is_empty(), "a plan changes nothing");
    let done = flags.execute(&call, &plan, &CancellationToken::new()).await.unwrap();
    assert!(done.verified.holds && !store.get("recall").unwrap().enabled, "{done:?}");
    assert!(matches!(flags.execute(&call, &plan, &CancellationToken::new()).await, Err(ActionError::Changed { .. })));
    let (_, undone) = carry(&flags, &done.inverse.unwrap()).await.unwrap();
    assert!(undone.verified.holds && store.get("recall").unwrap().enabled);

    // Off for ten minutes; somebody enables it meanwhile; taken back, it is off for the rest of the time only.
    carry(&flags, &call.clone().with("ttl", "10m")).await.unwrap();
    clock.set(at(300));
    let (_, enabled) = carry(&flags, &Call::new("flag.enable").with("flag", "recall")).await.unwrap();
    let undo = enabled.inverse.unwrap();
    clock.set(at(400));
    carry(&flags, &undo).await.unwrap();
    let flag = store.get("recall").unwrap();
    assert_eq!((flag.enabled, flag.expires_at, flag.then), (false, Some(at(600)), true));
    store.tick(at(600)).await.unwrap();
    clock.set(at(700));
    carry(&flags, &undo).await.unwrap();
    assert!(store.get("recall").unwrap().enabled, "its time is over: it is what it was to be afterwards");
    for (name, ttl) in [("'; drop", "1m"), ("x", "0s"), ("x", "soon"), ("a/../b", "1m")] {
        let call = Call::new("flag.disable").with("flag", name).with("ttl", ttl);
        assert!(matches!(flags.plan(&call).await, Err(ActionError::Argument { .. })), "{name} {ttl}");
    }
    let nowhere = Flags::new(Settings::default(), None, clock);
    assert!(matches!(nowhere.plan(&call).await, Err(ActionError::NotSetUp { .. })));
}

#[derive(Default)]
struct Other {
    flags: Mutex<BTreeMap<String, bool>>,
    headers: Mutex<Vec<HeaderMap>>,
}

async fn other(readable: bool) -> (Arc<Other>, String) {
    let other = Arc::new(Other::default());
    other.flags.lock().unwrap().insert("recall".to_owned(), true);
    let set = |enabled: bool| {
        move |State(other): State<Arc<Other>>, Path(name): Path<String>, headers: HeaderMap| async move {
            other.headers.lock().unwrap().push(headers);
            match other.flags.lock().unwrap().get_mut(&name) {
                Some(flag) => *flag = enabled,
                None => return (StatusCode::NOT_FOUND, "no such flag; password=hunter22"),
            }
            (StatusCode::NO_CONTENT, "")
        }
    };
    let read = |State(other): State<Arc<Other>>, Path(name): Path<String>| async move {
        let enabled = other.flags.lock().unwrap().get(&name).copied().unwrap_or(false);
        axum::Json(json!({ "name": name, "enabled": enabled }))
    };
    let mut routes = Router::new().route("/api/flags/{name}/disable", post(set(false))).route("/api/flags/{name}/enable", post(set(true)));
    if readable {
        routes = routes.route("/api/flags/{name}", get(read));
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api", listener.local_addr().unwrap());
    let app = routes.with_state(other.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (other, url)
}

#[tokio::test]
async fn another_server_is_asked_over_http() {
    let clock = Arc::new(ManualClock::at(at(0)));
    for readable in [true, false] {
        let (other, url) = other(readable).await;
        let settings = Settings { url: format!("{url}/"), token: "t0ken-of-ours".to_owned(), timeout_s: 2 };
        let flags = Flags::new(settings, None, clock.clone());
        let call = Call::new("flag.disable").with("flag", "recall").with("ttl", "30m");
        let plan = flags.plan(&call).await.unwrap();
        assert!(other.flags.lock().unwrap()["recall"] && other.headers.lock().unwrap().is_empty(), "a plan changes nothing");
        assert_eq!((plan.exact[0].as_str(), plan.reverts_after_s), (format!("POST {url}/flags/recall/disable").as_str(), Some(1_800)));
        let done = flags.execute(&call, &plan, &CancellationToken::new()).await.unwrap();
        assert!(!other.flags.lock().unwrap()["recall"] && done.verified.holds, "{done:?}");
        assert_eq!(done.verified.how.contains("does not say"), !readable, "{done:?}");
        assert_eq!(other.headers.lock().unwrap()[0]["authorization"], "Bearer t0ken-of-ours");
        carry(&flags, &done.inverse.unwrap()).await.unwrap();
        assert!(other.flags.lock().unwrap()["recall"]);
        let unknown = carry(&flags, &Call::new("flag.disable").with("flag", "nobody-knows")).await.unwrap_err().to_string();
        assert!(unknown.contains("answered with 404") && !unknown.contains("hunter22"), "{unknown}");
        // Another server never gets the token.
        let (stranger, url) = self::other(true).await;
        carry(&flags, &call.clone().with("url", url)).await.unwrap();
        assert!(!stranger.headers.lock().unwrap()[0].contains_key("authorization"));
    }
    let gone = Flags::new(Settings { url: "http://127.0.0.1:9/".to_owned(), ..Settings::default() }, None, clock);
    let said = gone.plan(&Call::new("flag.enable").with("flag", "x")).await.unwrap_err();
    assert!(matches!(said, ActionError::Failed { .. }), "{said}");
}

fn fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/flags-v1.jsonl")
}

/// What format version 1 wrote is read for ever.
#[test]
fn format_version_1_is_read() {
    let text = std::fs::read_to_string(fixture()).unwrap();
    let mut flags = FlagFold::default();
    text.lines().for_each(|line| flags.apply(&serde_json::from_str(line).unwrap()));
    let found: Vec<_> = flags.list().map(|flag| (flag.name.as_str(), flag.enabled, flag.by.as_str(), flag.expires_at, flag.then)).collect();
    let expect = [("beta:search.v2", true, "ben", Some(at(900)), false), ("new-search", true, "clockwork", None, true)];
    assert_eq!((found.as_slice(), flags.unreadable()), (expect.as_slice(), 0));
    assert_eq!(flags.get("beta:search.v2").unwrap().why, "the demo, \"today\"");
}

#[tokio::test]
#[ignore = "writes the fixture of the format version of today"]
async fn write_the_fixture() {
    let folder = tempfile::tempdir().unwrap();
    let journal = journal(&folder);
    let store = FlagStore::open(journal.clone()).await.unwrap();
    store.set("new-search", false, "ana", "errors", Some(at(60)), at(0)).await.unwrap();
    store.set("beta:search.v2", false, "ben", "", None, at(1)).await.unwrap();
    store.tick(at(60)).await.unwrap();
    store.set("beta:search.v2", true, "ben", "the demo, \"today\"", Some(at(900)), at(70)).await.unwrap();
    let lines: Vec<String> = entries(journal.as_ref()).await.iter().map(|entry| serde_json::to_string(entry).unwrap()).collect();
    std::fs::write(fixture(), lines.join("\n") + "\n").unwrap();
}
