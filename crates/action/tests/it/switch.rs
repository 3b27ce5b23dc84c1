//! Switches: with an expiry always, kept over a restart, ended on time, and taken back for the rest of their time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use paramedic_action::call::Call;
use paramedic_action::flag::FlagStore;
use paramedic_action::switch::{End, Scope, SwitchError, SwitchFold, SwitchReader as _, SwitchStore, Switches};
use paramedic_action::switch::{FLAG_NAMES, KNOWN, ValueKind, find, from_flags, is_by_flag, never, own_name, with_flags};
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
    assert!(plan.warnings[0].contains("no gateway enforces it"), "{:?}", plan.warnings);
    assert!(entries(journal.as_ref()).await.is_empty(), "a plan changes nothing");
    let first = switches.execute(&set(8_000, "1h"), &plan, &CancellationToken::new()).await.unwrap();
    assert!(first.verified.holds && first.verified.how.contains("no gateway has read"), "{first:?}");
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

/// A value that a switch of this kind takes.
fn some_value(name: &str) -> Value {
    let known = find(name).unwrap();
    match known.kind {
        ValueKind::Flag => json!(true),
        ValueKind::Count => json!(7),
        ValueKind::Amount => json!(12.5),
        ValueKind::Text => json!("claude-haiku"),
        ValueKind::Word => json!(known.words[0]),
    }
}

#[tokio::test]
async fn every_flag_name_and_every_switch_can_be_set_and_cleared() {
    let folder = tempfile::tempdir().unwrap();
    let store = SwitchStore::open(journal(&folder)).await.unwrap();
    let named = KNOWN.iter().map(|known| if known.name.ends_with(':') { format!("{}x", known.name) } else { known.name.to_owned() });
    let all = named.chain(FLAG_NAMES.iter().map(|(flag, _)| (*flag).to_owned()));
    let user: Scope = "user=u-42".parse().unwrap();
    for name in all {
        let own = own_name(&name);
        let set = store.set(&name, &some_value(own), &user, at(60), "ana", "", at(0)).await.unwrap();
        assert_eq!((set.id.as_str(), set.switch.as_str()), (format!("{own}@user:u-42").as_str(), own), "{name}");
        for written in [format!("{own}@user:u-42"), format!("{name}@user=u-42")] {
            assert_eq!(store.find(&written).as_ref(), Some(&set), "{written}");
        }
        assert_eq!(store.find(&name), None, "that would be the one for all");
        assert_eq!(store.clear(&name, &user, "ana", "", at(1)).await.unwrap().id, set.id);
    }
    assert!(store.active(at(1)).is_empty());
}

#[tokio::test]
async fn a_budget_lasts_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let first = journal(&folder);
    let store = SwitchStore::open(first.clone()).await.unwrap();
    for known in KNOWN {
        let name = if known.name.ends_with(':') { format!("{}x", known.name) } else { known.name.to_owned() };
        let value = some_value(&name);
        let forever = store.set(&name, &value, &Scope::All, never(), "ana", "", at(0)).await;
        assert_eq!(forever.is_ok(), known.lasting, "{name}");
        let long = store.set(&name, &value, &"team:blue".parse().unwrap(), at(48 * 3_600), "ana", "", at(0)).await;
        assert_eq!(long.is_ok(), known.lasting, "{name} for two days");
        assert!(long.is_ok() || matches!(long, Err(SwitchError::Time { .. })), "{long:?}");
    }
    drop((store, first));
    let store = Arc::new(SwitchStore::open(journal(&folder)).await.unwrap());
    let long_after = at(400 * 86_400);
    let held = store.active(long_after);
    assert!(held.len() == 4 && held.iter().all(paramedic_model::Switch::lasts), "{held:?}");

    let switches = Switches::new(store.clone(), Arc::new(ManualClock::at(long_after)));
    let call = Call::new("gateway.switch_set").with("switch", "DAILY_BUDGET_DOLLARS").with("value", 20);
    let (plan, done) = carry(&switches, &call).await.unwrap();
    assert!(plan.exact[0].ends_with("daily_budget_dollars to 20.0 for all until it is cleared"), "{:?}", plan.exact);
    carry(&switches, done.inverse.as_ref().unwrap()).await.unwrap();
    let back = store.find("daily_budget_dollars").unwrap();
    assert_eq!((&back.value, back.lasts()), (&json!(12.5), true), "what comes back lasts, too");
    let call = Call::new("gateway.switch_set").with("switch", "fast_fail").with("value", true);
    let said = switches.plan(&call).await.unwrap_err().to_string();
    assert!(said.contains("it must be said for how long it holds"), "{said}");
}

#[tokio::test]
async fn whoever_watches_is_woken_by_every_change_and_can_read_it_then() {
    let folder = tempfile::tempdir().unwrap();
    let journal = journal(&folder);
    let store = Arc::new(SwitchStore::open(journal.clone()).await.unwrap());
    let mut changes = store.watch();
    let reader = store.clone();
    let seen = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.len() < 3 {
            changes.changed().await.unwrap();
            seen.push((*changes.borrow_and_update(), reader.active(at(1)).len()));
        }
        seen
    });
    let step = || tokio::time::sleep(Duration::from_millis(20));
    step().await;
    store.set("fast_fail", &json!(true), &Scope::All, at(60), "ana", "", at(0)).await.unwrap();
    step().await;
    assert!(store.set("fast_fail", &json!(3), &Scope::All, at(60), "ana", "", at(0)).await.is_err(), "that is no change");
    store.set("blocked", &json!(true), &"user:bo".parse().unwrap(), at(60), "ana", "", at(0)).await.unwrap();
    step().await;
    store.tick(at(30)).await.unwrap();
    store.clear("fast_fail", &Scope::All, "ana", "", at(30)).await.unwrap();
    assert_eq!(seen.await.unwrap(), [(1, 1), (2, 2), (3, 1)]);
    assert_eq!(store.tick(at(60)).await.unwrap().len(), 1);
    assert_eq!(*store.watch().borrow(), 4, "the end of one is a change");
}

#[tokio::test]
async fn a_flag_stands_for_its_switch_and_what_was_set_wins() {
    let folder = tempfile::tempdir().unwrap();
    let journal = journal(&folder);
    let (flags, store) = (FlagStore::open(journal.clone()).await.unwrap(), SwitchStore::open(journal).await.unwrap());
    let changes = flags.watch();
    let held = |now: Timestamp| {
        let all = with_flags(store.active(now), from_flags(&flags, now));
        all.into_iter().map(|switch| (switch.id, switch.value, switch.by)).collect::<Vec<_>>()
    };
    let one = |id: &str, value: Value, by: &str| (id.to_owned(), value, by.to_owned());
    // A flag cannot be a number, and a flag of the team's own program is none of ours.
    for name in ["RATE_LIMIT_PER_USER", "new-search", "fast_fail"] {
        flags.set(name, true, "ana", "", None, at(0)).await.unwrap();
    }
    assert_eq!(held(at(0)), []);
    flags.set("ENABLE_DEGRADED_MODE", true, "ana", "too much", Some(at(60)), at(0)).await.unwrap();
    let degraded = from_flags(&flags, at(1)).remove(0);
    assert_eq!((degraded.expires_at, degraded.why.as_str()), (at(60), "the flag ENABLE_DEGRADED_MODE, set by ana: too much"));
    assert_eq!((degraded.seq, degraded.set_at), (flags.get("ENABLE_DEGRADED_MODE").unwrap().seq, at(0)));
    assert_eq!(held(at(60)), [one("degraded_mode@all", json!(false), "flag")], "at its very moment it is what it is afterwards");
    assert!(from_flags(&flags, at(60))[0].lasts() && is_by_flag(&degraded));
    let named_so = store.set("fast_fail", &json!(true), &Scope::All, at(61), "flag", "a test", at(60)).await.unwrap();
    assert!(!is_by_flag(&named_so), "somebody is called that");

    // Of several names of one switch, the one that was set last.
    flags.set("ENABLE_RATE_LIMITING", false, "ana", "", None, at(61)).await.unwrap();
    flags.set("ENABLE_RATE_LIMITER", true, "ana", "", None, at(62)).await.unwrap();
    assert_eq!(held(at(62))[1], one("rate_limiting@all", json!(true), "flag"));
    flags.set("ENABLE_RATE_LIMITING", false, "ana", "", None, at(63)).await.unwrap();
    assert_eq!(held(at(63))[1], one("rate_limiting@all", json!(false), "flag"));

    store.set("rate_limiting", &json!(true), &Scope::All, at(90), "ben", "", at(70)).await.unwrap();
    store.set("rate_limiting", &json!(false), &"user:bo".parse().unwrap(), at(90), "ben", "", at(70)).await.unwrap();
    let both = [
        one("rate_limiting@all", json!(true), "ben"),
        one("rate_limiting@user:bo", json!(false), "ben"),
        one("degraded_mode@all", json!(false), "flag"),
    ];
    assert_eq!(held(at(70)), both);
    assert_eq!(held(at(90)).last(), Some(&one("rate_limiting@all", json!(false), "flag")), "then the flag is it again");
    assert_eq!(*changes.borrow(), 7, "each setting of a flag was a change");
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
