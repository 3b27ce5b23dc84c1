//! What was changed lately, as the journal knows it: switches, flags, and steps that changed something.

use std::time::Duration;

use paramedic_gateway::diagnosis::Change;
use paramedic_journal::{Entry, Journal, JournalError};
use paramedic_model::{Timestamp, text};
use serde_json::Value;

/// Entries that are looked at, the newest ones.
const ENTRIES_MAX: u64 = 20_000;
const PAGE: usize = 5_000;
/// Older changes are of no interest.
const WINDOW: Duration = Duration::from_secs(26 * 3_600);

pub(super) async fn recent(journal: &dyn Journal, now: Timestamp) -> Result<Vec<Change>, JournalError> {
    let from = now.before(WINDOW);
    let mut after = journal.head().await?.saturating_sub(ENTRIES_MAX);
    let mut all = Vec::new();
    loop {
        let page = journal.read(after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(all) };
        after = last.seq;
        all.extend(page.iter().filter(|entry| entry.at >= from).filter_map(change));
    }
}

fn change(entry: &Entry) -> Option<Change> {
    let told = |what: String, undo| Some(Change { at: entry.at, what, by: entry.actor.clone(), undo });
    if let Some(id) = entry.subject.strip_prefix("switch/") {
        // What a switch is for is not what raises the spending, but its end may be.
        let undo = (entry.kind == "switch-set" && is_plain(id)).then(|| format!("paramedic switch clear {id}"));
        return told(format!("{} {id}", entry.kind), undo);
    }
    if let Some(name) = entry.subject.strip_prefix("flag/") {
        let enabled = entry.payload.get("enabled").and_then(Value::as_bool);
        let back = enabled.filter(|_| is_plain(name)).map(|enabled| if enabled { "disable" } else { "enable" });
        let word = enabled.map_or(entry.kind.as_str(), |enabled| if enabled { "switched on" } else { "switched off" });
        return told(format!("the flag {name} {word}"), back.map(|back| format!("paramedic flag {back} {name}")));
    }
    let record = entry.payload.get("record").filter(|_| entry.kind == "step-begun")?;
    let changes = record.get("effect").and_then(Value::as_str) != Some("read");
    let real = record.get("dry").and_then(Value::as_bool) == Some(false);
    let argv: Vec<&str> = record.get("argv").and_then(Value::as_array)?.iter().filter_map(Value::as_str).collect();
    if changes && real { told(format!("{}: {}", entry.subject, text::head(&argv.join(" "), 200)), None) } else { None }
}

/// It can stand in a command line as it is.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/@".contains(&byte))
}

#[cfg(test)]
mod tests {
    use paramedic_journal::Hash;
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_told_with_what_takes_them_back() {
        let begun = |effect: &str, dry: bool| json!({"record": {"effect": effect, "dry": dry, "argv": ["kubectl", "rollout", "undo"]}});
        let cases = [
            (
                "switch-set",
                "switch/fast_fail@all",
                json!({}),
                Some(("switch-set fast_fail@all", Some("paramedic switch clear fast_fail@all"))),
            ),
            ("switch-set", "switch/blocked@user:a;b", json!({}), Some(("switch-set blocked@user:a;b", None))),
            ("switch-expired", "switch/fast_fail@all", json!({}), Some(("switch-expired fast_fail@all", None))),
            (
                "flag-set",
                "flag/new-search",
                json!({"enabled": true}),
                Some(("the flag new-search switched on", Some("paramedic flag disable new-search"))),
            ),
            (
                "flag-set",
                "flag/cache",
                json!({"enabled": false}),
                Some(("the flag cache switched off", Some("paramedic flag enable cache"))),
            ),
            ("flag-expired", "flag/cache", json!({}), Some(("the flag cache flag-expired", None))),
            ("step-begun", "run/RUN-1", begun("write", false), Some(("run/RUN-1: kubectl rollout undo", None))),
            ("step-begun", "run/RUN-1", begun("write", true), None),
            ("step-begun", "run/RUN-1", begun("read", false), None),
            ("incident-opened", "incident/INC-1", json!({}), None),
        ];
        for (kind, subject, payload, expect) in cases {
            let entry = Entry {
                seq: 1,
                at: Timestamp::EPOCH,
                kind: kind.to_owned(),
                subject: subject.to_owned(),
                actor: "kim".to_owned(),
                payload,
                prev_hash: Hash::ZERO,
                hash: Hash::ZERO,
            };
            let told = change(&entry);
            let told = told.as_ref().map(|change| (change.what.as_str(), change.undo.as_deref()));
            assert_eq!(told, expect, "{kind} {subject}");
        }
    }
}
