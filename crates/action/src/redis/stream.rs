//! The oldest entries of a stream, removed beyond a length.

use std::collections::{BTreeMap, HashMap};

use ::redis::Value as Raw;
use serde_json::json;

use super::Settings;
use super::link::{Link, command, key_text};
use crate::call::{Call, Done, Object, Plan, Verified};
use crate::error::ActionError;
use crate::spec::Effect;

/// Entries that are walked over to find the last one that goes.
const WALK_MAX: u64 = 20_000;
const PAGE: u64 = 500;
/// Entries that a group has not acknowledged, counted one by one.
const PENDING_MAX: usize = 10_000;

/// A stream, as far as trimming it is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stream {
    length: u64,
    added: u64,
    oldest: String,
    newest: String,
}

/// A consumer group.
#[derive(Debug, Clone)]
struct Group {
    name: String,
    pending: u64,
    delivered: String,
}

fn on(words: &[&str], key: &str) -> ::redis::Cmd {
    let mut command = command(words);
    command.arg(key);
    command
}

fn text_of(value: &Raw) -> String {
    ::redis::from_redis_value_ref(value).unwrap_or_default()
}

fn count_of(value: &Raw) -> u64 {
    ::redis::from_redis_value_ref(value).unwrap_or(0)
}

async fn stream(link: &mut Link, key: &str) -> Result<Stream, ActionError> {
    let kind: String = link.ask(&on(&["TYPE"], key)).await?;
    let name = key_text(key.as_bytes());
    match kind.as_str() {
        "stream" => {}
        "none" => {
            return Err(ActionError::NotFound {
                what: format!("the stream {name}"),
                why: format!("there is no such key at {}", link.host),
            });
        }
        other => return Err(link.refused(format!("{name} is a {other}, not a stream"))),
    }
    let fields: HashMap<String, Raw> = link.ask(&on(&["XINFO", "STREAM"], key)).await?;
    let id = |name: &str| match fields.get(name) {
        Some(Raw::Array(entry)) => entry.first().map(text_of).unwrap_or_default(),
        _ => String::new(),
    };
    let count = |name: &str| fields.get(name).map_or(0, count_of);
    Ok(Stream { length: count("length"), added: count("entries-added"), oldest: id("first-entry"), newest: id("last-entry") })
}

async fn groups(link: &mut Link, key: &str) -> Result<Vec<Group>, ActionError> {
    let all: Vec<HashMap<String, Raw>> = link.ask(&on(&["XINFO", "GROUPS"], key)).await?;
    let group = |fields: &HashMap<String, Raw>| Group {
        name: fields.get("name").map(text_of).unwrap_or_default(),
        pending: fields.get("pending").map_or(0, count_of),
        delivered: fields.get("last-delivered-id").map(text_of).unwrap_or_default(),
    };
    Ok(all.iter().map(group).collect())
}

/// The last entry that goes, walked to from the oldest one; none when that is too far.
async fn last_to_go(link: &mut Link, key: &str, count: u64) -> Result<Option<String>, ActionError> {
    if count > WALK_MAX {
        return Ok(None);
    }
    let (mut walked, mut from, mut last) = (0, "-".to_owned(), None);
    while walked < count {
        let page = (count - walked).min(PAGE);
        let mut range = on(&["XRANGE"], key);
        range.arg(&from).arg("+").arg("COUNT").arg(page);
        let entries: Vec<(String, Raw)> = link.ask(&range).await?;
        let Some((id, _)) = entries.last() else { break };
        from = format!("({id}");
        walked += entries.len() as u64;
        last = Some(id.clone());
    }
    Ok(last)
}

/// `1526919030474-55` as two numbers, so that ids compare as the server compares them.
fn order(id: &str) -> (u64, u64) {
    let (time, number) = id.split_once('-').unwrap_or((id, "0"));
    (time.parse().unwrap_or(0), number.parse().unwrap_or(0))
}

async fn doubts(link: &mut Link, key: &str, groups: &[Group], last: Option<&str>) -> Result<Vec<String>, ActionError> {
    let mut doubts = Vec::new();
    for group in groups {
        let name = key_text(group.name.as_bytes());
        let Some(last) = last else {
            if group.pending > 0 {
                doubts.push(format!(
                    "the group {name} has {} entries that are not acknowledged; how many of them go is not counted",
                    group.pending
                ));
            }
            continue;
        };
        if group.pending > 0 {
            let mut pending = on(&["XPENDING"], key);
            pending.arg(&group.name).arg("-").arg(last).arg(PENDING_MAX);
            let found: Vec<Raw> = link.ask(&pending).await?;
            if !found.is_empty() {
                let count = if found.len() == PENDING_MAX { format!("at least {PENDING_MAX}") } else { found.len().to_string() };
                doubts.push(format!(
                    "the group {name} has not acknowledged {count} of the entries that go: they cannot be worked on any more"
                ));
            }
        }
        if order(&group.delivered) < order(last) {
            doubts.push(format!("the group {name} has not read all of the entries that go: it will never see them"));
        }
    }
    Ok(doubts)
}

pub(super) async fn plan(settings: &Settings, call: &Call) -> Result<Plan, ActionError> {
    let (key, max_length) = (call.text("key")?, call.count("max_length")?);
    let mut link = Link::open(settings, &call.action).await?;
    let (run_id, _) = link.writable().await?;
    let stream = stream(&mut link, &key).await?;
    let count = stream.length.saturating_sub(max_length);
    let name = key_text(key.as_bytes());
    let mut plan = Plan::new(call, Effect::Destroy, format!("remove the {count} oldest of {} entries of the stream {name}", stream.length));
    let detail = format!("{} entries, oldest {}, newest {}", stream.length, stream.oldest, stream.newest);
    plan.objects.push(Object { kind: "stream".to_owned(), name: name.clone(), detail });
    (plan.affected, plan.of) = (count, Some(stream.length));
    plan.stands_on = format!("{run_id} {count}");
    if count == 0 {
        plan.what = format!("leave the stream {name} as it is: {} entries, and {max_length} may stay", stream.length);
        return Ok(plan);
    }
    plan.exact.push(format!("XTRIM {name} MAXLEN = {max_length}"));
    let last = last_to_go(&mut link, &key, count).await?;
    if let Some(last) = &last {
        plan.objects.push(Object {
            kind: "entries".to_owned(),
            name: format!("{} to {last}", stream.oldest),
            detail: format!("{count} entries go"),
        });
    }
    plan.warnings.push("removed entries do not come back".to_owned());
    let groups = groups(&mut link, &key).await?;
    plan.warnings.extend(doubts(&mut link, &key, &groups, last.as_deref()).await?);
    Ok(plan)
}

pub(super) async fn execute(settings: &Settings, call: &Call, plan: &Plan) -> Result<Done, ActionError> {
    let (key, max_length) = (call.text("key")?, call.count("max_length")?);
    let mut link = Link::open(settings, &call.action).await?;
    let (run_id, _) = link.writable().await?;
    let before = stream(&mut link, &key).await?;
    let (planned_id, planned) = plan.stands_on.split_once(' ').unwrap_or_default();
    let planned: u64 = planned.parse().unwrap_or(0);
    if planned_id != run_id {
        return Err(link.changed("the server was started again, or is another one"));
    }
    let count = before.length.saturating_sub(max_length);
    if count > planned + planned / 10 {
        return Err(link.changed(format!("{planned} entries would have gone, now it would be {count}")));
    }
    let name = key_text(key.as_bytes());
    let mut trim = on(&["XTRIM"], &key);
    trim.arg("MAXLEN").arg("=").arg(max_length);
    let removed: u64 = if count == 0 { 0 } else { link.ask(&trim).await? };
    let after = stream(&mut link, &key).await?;
    // Others go on writing.
    let added = after.added.saturating_sub(before.added);
    let seen = format!("the stream has {} entries, oldest {}, and {added} were added meanwhile", after.length, after.oldest);
    let fits = after.length <= max_length.saturating_add(added) || count == 0;
    let mut done = Done::new(
        format!("removed the {removed} oldest entries of the stream {name}"),
        if fits { Verified::seen(seen) } else { Verified::missed(seen) },
    );
    done.affected = removed;
    let facts = |stream: &Stream| {
        json!(BTreeMap::from([("length", json!(stream.length)), ("oldest", json!(stream.oldest)), ("newest", json!(stream.newest))]))
    };
    (done.before, done.after) = (facts(&before), facts(&after));
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_compare_as_numbers() {
        assert!(order("9-0") < order("10-0"));
        assert!(order("10-9") < order("10-10"));
        assert!(order("0-0") < order("0-1"));
    }
}
