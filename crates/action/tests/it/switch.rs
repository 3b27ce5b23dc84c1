//! Switches: with an expiry always, kept over a restart, ended on time, and taken back for the rest of their time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use paramedic_action::call::Call;
use paramedic_action::switch::{End, Scope, SwitchFold, SwitchReader as _, SwitchStore, Switches};
use paramedic_action::{ActionError, Adapter};
use paramedic_journal::{Entry, Fold as _, Journal, SqliteJournal};
use paramedic_model::{ManualClock, Timestamp};
use serde_json::{Value, json};
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

fn held(store: &SwitchStore, now: Timestamp) -> Vec<(String, Value)> {
    store.active(now).into_iter().map(|switch| (switch.id, switch.value)).collect()
}

#[tokio::test]
async fn a_switch_holds_until_its_time_and_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = journal(&folder);
    let store = SwitchStore::open(first.clone()).await.unwrap();
    let user: Scope = "user:ana".parse().unwrap();
    store.set("fast_fail", &json!(true), &Scope::All, at(60), "ben", "overload", at(0)).await.unwrap();
    store.set("fast_fail", &json!(false), &user, at(90), "ben", "", at(1)).await.unwrap();
    store.set("rate_limit_per_minute", &json!(100), &Scope::All, at(600), "ben", "", at(2)).await.unwrap();
    store.set("rate_limit_per_minute", &json!(50), &Scope::All, at(700), "ben", "", at(3)).await.unwrap();
    drop((store, first));
    let again = journal(&folder);
    let store = SwitchStore::open(again.clone()).await.unwrap();
    let id = |name: &str| name.to_owned();
    let all =
        vec![(id("fast_fail@all"), json!(true)), (id("fast_fail@user:ana"), json!(false)), (id("rate_limit_per_minute@all"), json!(50))];
    assert_eq!(held(&store, at(59)), all);
    assert_eq!(held(&store, at(60)), all[1..], "nobody has to wait for the clockwork");
    assert_eq!(store.tick(at(60)).await.unwrap().len(), 1);
    assert!(store.tick(at(60)).await.unwrap().is_empty());
    store.clear("fast_fail", &user, "ana", "better", at(70)).await.unwrap();
    let ended: Vec<(String, End, String)> = store.ended().into_iter().map(|ended| (ended.switch.id, ended.end, ended.by)).collect();
    let expect = [
        (id("fast_fail@user:ana"), End::Cleared, id("ana")),
        (id("fast_fail@all"), End::Expired, id("clockwork")),
        (id("rate_limit_per_minute@all"), End::Replaced, id("ben")),
    ];
    assert_eq!(ended, expect);
    assert_eq!(entries(again.as_ref()).await.len(), 6);
    store.save_snapshot().await.unwrap();
    let (active, ended) = (store.active(at(80)), store.ended());
    drop(store);
    let store = SwitchStore::open(again).await.unwrap();
    assert_eq!((store.active(at(80)), store.ended()), (active, ended), "also from a snapshot");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let journal = journal(&folder);
    let store = SwitchStore::open(journal.clone()).await.unwrap();
    let cases = [
        ("nonsense", json!(true), at(60)),
        ("fast_fail", json!("maybe"), at(60)),
        ("rate_limit_per_minute", json!(0), at(60)),
        ("fast_fail", json!(true), at(0)),
        ("fast_fail", json!(true), at(24 * 3_600 + 1)),
        ("blocked_user:a b", json!(true), at(60)),
    ];
    for (name, value, until) in cases {
        let refused = store.set(name, &value, &Scope::All, until, "ben", "", at(0)).await;
        assert!(refused.is_err(), "{name} {value} {until}");
    }
    assert!(store.clear("fast_fail", &Scope::All, "ben", "", at(0)).await.is_err());
    assert!(entries(journal.as_ref()).await.is_empty());
    let switches = Switches::new(Arc::new(store), Arc::new(ManualClock::at(at(0))));
    let set = |name: &str, ttl: &str, scope: &str| {
        Call::new("gateway.switch_set").with("switch", name).with("value", true).with("ttl", ttl).with("scope", scope)
    };
    for call in [
        set("fast_fail", "25h", "all"),
        set("fast_fail", "0s", "all"),
        set("fast_fail", "", "all"),
        set("fast_fail", "1h", "everybody"),
        set("'; drop", "1h", "all"),
        set("max_history_tokens", "1h", "all"),
    ] {
        assert!(matches!(switches.plan(&call).await, Err(ActionError::Argument { .. })), "{call:?}");
    }
    let said = switches.plan(&set("fast-fail", "1h", "all")).await.unwrap_err().to_string();
    assert!(said.contains("there are blocked, blocked_key:…"), "{said}");
}

#[tokio::test]
async fn an_action_sets_it_and_takes_it_back_for_the_rest_of_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let journal = journal(&folder);
    let store = Arc::new(SwitchStore::open(journal.clone()).await.unwrap());
    let clock = Arc::new(ManualClock::at(at(0)));
    let switches = Switches::new(store.clone(), clock.clone());
    let set = |value: u64, ttl: &str| {
        let mut call =
            Call::new("gateway.switch_set").with("switch", "max_history_tokens").with("value", value.to_string()).with("ttl", ttl);
        (call.by, call.reason) = ("ana".to_owned(), "context overflow".to_owned());
        call
    };
    let plan = switches.plan(&set(8_000, "1h")).await.unwrap();
    assert!(plan.warnings[0].contains("no gateway enforces it yet"), "{:?}", plan.warnings);
    assert!(entries(journal.as_ref()).await.is_empty(), "a plan changes nothing");
    let first = switches.execute(&set(8_000, "1h"), &plan, &CancellationToken::new()).await.unwrap();
    assert!(first.verified.holds && first.verified.how.contains("nobody reads"), "{first:?}");
    assert!(matches!(switches.execute(&set(8_000, "1h"), &plan, &CancellationToken::new()).await, Err(ActionError::Changed { .. })));

    clock.set(at(600));
    store.enforcer_seen("gateway-1", at(590));
    let (plan, second) = carry(&switches, &set(4_000, "2h")).await.unwrap();
    assert!(plan.warnings.is_empty() && second.verified.how.contains("read by gateway-1"), "{second:?}");
    assert!(store.enforcers(at(700)).is_empty(), "not seen for long");
    clock.set(at(1_200));
    let (_, undone) = carry(&switches, second.inverse.as_ref().unwrap()).await.unwrap();
    let back = store.active(at(1_200)).remove(0);
    assert_eq!((&back.value, back.expires_at), (&json!(8_000), at(3_600)), "for the rest of its time");
    assert!(undone.verified.holds);
    carry(&switches, undone.inverse.as_ref().unwrap()).await.unwrap();
    assert_eq!(store.active(at(1_200))[0].value, json!(4_000));

    // Much later what was before is over: what comes back is nothing.
    clock.set(at(5_000));
    carry(&switches, second.inverse.as_ref().unwrap()).await.unwrap();
    assert!(store.active(at(5_000)).is_empty());
    let (_, again) = carry(&switches, &set(8_000, "1h")).await.unwrap();
    let (_, cleared) = carry(&switches, &again.inverse.unwrap()).await.unwrap();
    assert!(cleared.verified.holds && store.active(at(5_000)).is_empty());
    carry(&switches, &cleared.inverse.unwrap()).await.unwrap();
    assert_eq!(store.active(at(5_000))[0].expires_at, at(8_600));
    let (plan, none) = carry(&switches, &Call::new("gateway.switch_clear").with("switch", "fast_fail")).await.unwrap();
    assert_eq!((plan.affected, none.affected, none.verified.holds), (0, 0, true));
    let (_, list) = carry(&switches, &Call::new("gateway.switches")).await.unwrap();
    assert_eq!((&list.answer["count"], &list.answer["active"][0]["scope"]), (&json!(1), &json!("all")));
}

fn fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/switches-v1.jsonl")
}

/// What format version 1 wrote is read for ever.
#[tokio::test]
async fn format_version_1_is_read() {
    let text = std::fs::read_to_string(fixture()).unwrap();
    let mut fold = SwitchFold::default();
    text.lines().for_each(|line| fold.apply(&serde_json::from_str::<Entry>(line).unwrap()));
    let state = serde_json::to_value(&fold).unwrap();
    let active = &state["active"]["blocked_user:ana@all"];
    assert_eq!((&active["value"], &active["by"], &active["why"]), (&json!(true), &json!("ben"), &json!("spends too much")));
    assert_eq!(active["expires_at"], json!(at(900)));
    let ended: Vec<(&Value, &Value)> = state["ended"].as_array().unwrap().iter().map(|one| (&one["switch"]["id"], &one["end"])).collect();
    assert_eq!(ended, [(&json!("fast_fail@all"), &json!("expired")), (&json!("rate_limit_per_user@model:claude-x"), &json!("cleared"))]);
    assert_eq!(state["unreadable"], 0);
}

#[tokio::test]
#[ignore = "writes the fixture of the format version of today"]
async fn write_the_fixture() {
    let folder = tempfile::tempdir().unwrap();
    let journal = journal(&folder);
    let store = SwitchStore::open(journal.clone()).await.unwrap();
    store.set("fast_fail", &json!(true), &Scope::All, at(60), "ana", "overload", at(0)).await.unwrap();
    store.tick(at(60)).await.unwrap();
    let model: Scope = "model:claude-x".parse().unwrap();
    store.set("rate_limit_per_user", &json!(20), &model, at(600), "ben", "", at(61)).await.unwrap();
    store.clear("rate_limit_per_user", &model, "ana", "enough", at(62)).await.unwrap();
    store.set("blocked_user:ana", &json!(true), &Scope::All, at(900), "ben", "spends too much", at(63)).await.unwrap();
    let lines: Vec<String> = entries(journal.as_ref()).await.iter().map(|entry| serde_json::to_string(entry).unwrap()).collect();
    std::fs::write(fixture(), lines.join("\n") + "\n").unwrap();
}
