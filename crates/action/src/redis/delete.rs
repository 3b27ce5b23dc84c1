//! Removing exactly the keys that a scan just before has named.

use std::collections::BTreeMap;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::census::{keys, look};
use super::link::{Link, command, key_text, number};
use super::pattern::Pattern;
use crate::call::{Call, Done, OBJECTS_MAX, Plan, Verified};
use crate::error::ActionError;
use crate::spec::Effect;

/// Keys removed by one command.
const BATCH_LEN: usize = 500;

fn stands_on(run_id: &str, count: usize) -> String {
    format!("{run_id} {count}")
}

pub(super) async fn plan(settings: &Settings, call: &Call) -> Result<Plan, ActionError> {
    let pattern = Pattern::of(call)?;
    pattern.narrow(call)?;
    let max = call.count("max")?;
    let mut link = Link::open(settings, &call.action).await?;
    let (run_id, info) = link.writable().await?;
    let keys = keys(&mut link, &pattern, settings).await?;
    let count = keys.len() as u64;
    if count > max {
        return Err(link.refused(format!("{count} keys match {}, and at most {max} may be removed", key_text(pattern.text.as_bytes()))));
    }
    let of = link.size().await?;
    let what = format!("remove {count} of {of} keys, those that match {}", key_text(pattern.text.as_bytes()));
    let mut plan = Plan::new(call, Effect::Destroy, what);
    plan.objects = look(&mut link, &keys[..keys.len().min(OBJECTS_MAX)]).await?.iter().map(super::census::Seen::object).collect();
    (plan.affected, plan.of) = (count, Some(of));
    plan.exact = keys.chunks(BATCH_LEN).take(20).map(sentence).collect();
    plan.stands_on = stands_on(&run_id, keys.len());
    plan.warnings.push("removed keys do not come back".to_owned());
    if number(&info, "connected_slaves") > 0 {
        plan.warnings.push(format!("{} replicas will remove them too", number(&info, "connected_slaves")));
    }
    Ok(plan)
}

fn sentence(batch: &[Vec<u8>]) -> String {
    let names: Vec<String> = batch.iter().take(5).map(|key| key_text(key)).collect();
    let more = batch.len().saturating_sub(names.len());
    let more = if more > 0 { format!(" (and {more} more keys of the scan)") } else { String::new() };
    format!("UNLINK {}{more}", names.join(" "))
}

/// The count that was planned still stands when it has not grown by more than a tenth.
const fn grew(planned: usize, found: usize) -> bool {
    found > planned + planned / 10
}

pub(super) async fn execute(settings: &Settings, call: &Call, plan: &Plan, cancel: &CancellationToken) -> Result<Done, ActionError> {
    let pattern = Pattern::of(call)?;
    pattern.narrow(call)?;
    let max = call.count("max")?;
    let mut link = Link::open(settings, &call.action).await?;
    let (run_id, before) = link.writable().await?;
    let (planned_id, planned) = plan.stands_on.split_once(' ').unwrap_or_default();
    let planned: usize = planned.parse().unwrap_or(0);
    if planned_id != run_id {
        return Err(link.changed("the server was started again, or is another one"));
    }
    let keys = keys(&mut link, &pattern, settings).await?;
    if keys.len() as u64 > max || grew(planned, keys.len()) {
        return Err(link.changed(format!("{planned} keys matched, now there are {}", keys.len())));
    }
    let size_before = link.size().await?;
    let mut removed = 0_u64;
    for (at, batch) in keys.chunks(BATCH_LEN).enumerate() {
        if cancel.is_cancelled() {
            let done = format!("{removed} of {} keys were removed", keys.len());
            return Err(ActionError::CalledOff { action: call.action.clone(), done });
        }
        let mut unlink = command(&["UNLINK"]);
        batch.iter().for_each(|key| {
            unlink.arg(key);
        });
        let count: u64 = link.ask(&unlink).await.map_err(|error| {
            let sure = at * BATCH_LEN;
            link.failed(format!(
                "{error}; of {} keys {sure} were sent for removal before, and up to {} may be gone",
                keys.len(),
                sure + batch.len()
            ))
        })?;
        removed += count;
    }
    let left = left(&mut link, &keys).await?;
    let size_after = link.size().await?;
    let mut done = Done::new(
        format!("removed {removed} keys that matched {}", key_text(pattern.text.as_bytes())),
        judge(&before, &link.info().await?, Counts { removed, left, size_before, size_after }),
    );
    done.affected = removed;
    done.before = json!({ "matching": keys.len(), "keys": size_before });
    done.after = json!({ "matching": left, "keys": size_after });
    Ok(done)
}

async fn left(link: &mut Link, keys: &[Vec<u8>]) -> Result<u64, ActionError> {
    let mut left = 0;
    for batch in keys.chunks(BATCH_LEN) {
        let mut exists = command(&["EXISTS"]);
        batch.iter().for_each(|key| {
            exists.arg(key);
        });
        left += link.ask::<u64>(&exists).await?;
    }
    Ok(left)
}

#[derive(Debug, Clone, Copy)]
struct Counts {
    removed: u64,
    left: u64,
    size_before: u64,
    size_after: u64,
}

fn judge(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>, counts: Counts) -> Verified {
    let Counts { removed, left, size_before, size_after } = counts;
    let grown = |name: &str| number(after, name).saturating_sub(number(before, name));
    let lapsed = grown("expired_keys") + grown("evicted_keys");
    let fell = size_before.saturating_sub(size_after);
    let sizes = format!("DBSIZE {size_before} before, {size_after} after, {lapsed} expired or were evicted meanwhile");
    if left > 0 {
        return Verified::missed(format!("{left} of the removed keys are there again, somebody writes them; {sizes}"));
    }
    if fell > removed + lapsed {
        return Verified::missed(format!("{} more keys went than were removed here, by somebody else; {sizes}", fell - removed - lapsed));
    }
    Verified::seen(format!("none of them is left; {sizes}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_more_is_still_what_was_planned() {
        for (planned, found, expect) in [(0, 0, false), (0, 1, true), (1, 2, true), (10, 11, false), (10, 12, true), (100, 50, false)] {
            assert_eq!(grew(planned, found), expect, "{planned} {found}");
        }
    }

    #[test]
    fn what_went_besides_is_told() {
        let info = |expired: u64| BTreeMap::from([("expired_keys".to_owned(), expired.to_string())]);
        let check =
            |removed, left, after, expired| judge(&info(0), &info(expired), Counts { removed, left, size_before: 100, size_after: after });
        assert!(check(10, 0, 90, 0).holds);
        assert!(check(10, 0, 95, 0).holds, "others may add");
        assert!(check(10, 0, 88, 2).holds, "keys expire");
        assert!(!check(10, 0, 88, 0).holds);
        assert!(!check(10, 1, 90, 0).holds);
    }
}
