//! Every key of the server, removed only when somebody has typed what that means.

use std::collections::BTreeMap;

use serde_json::json;

use super::Settings;
use super::link::{Link, command, number};
use crate::call::{Call, Done, Object, Plan, Verified};
use crate::error::ActionError;
use crate::spec::Effect;

/// Keys of each database, by its name.
fn databases(info: &BTreeMap<String, String>) -> Vec<(String, u64)> {
    let keys = |value: &str| value.split(',').find_map(|part| part.strip_prefix("keys=")?.parse().ok());
    let number_of = |name: &str| name.strip_prefix("db").and_then(|rest| rest.parse::<u32>().ok());
    let mut all: Vec<(u32, u64)> = info.iter().filter_map(|(name, value)| Some((number_of(name)?, keys(value)?))).collect();
    all.sort_unstable();
    all.into_iter().map(|(number, keys)| (format!("db{number}"), keys)).collect()
}

/// A count that stays the same while a person types it: above a hundred, only its first two digits.
fn about(count: u64) -> String {
    if count < 100 {
        return count.to_string();
    }
    let unit = 10_u64.pow(count.ilog10() - 1);
    format!("about {}", count / unit * unit)
}

fn phrase(host: &str, databases: &[(String, u64)]) -> String {
    let total: u64 = databases.iter().map(|(_, keys)| keys).sum();
    let each: Vec<String> = databases.iter().map(|(name, keys)| format!("{name} {}", about(*keys))).collect();
    format!("flush {host}: {} keys ({})", about(total), if each.is_empty() { "nothing".to_owned() } else { each.join(", ") })
}

fn confirmed(call: &Call, phrase: &str) -> Result<(), ActionError> {
    if call.text_or_none("confirm")?.is_some_and(|typed| typed.trim() == phrase) {
        return Ok(());
    }
    Err(ActionError::Confirm { action: call.action.clone(), phrase: phrase.to_owned() })
}

pub(super) async fn plan(settings: &Settings, call: &Call) -> Result<Plan, ActionError> {
    let mut link = Link::open(settings, &call.action).await?;
    let (run_id, info) = link.writable().await?;
    let databases = databases(&info);
    confirmed(call, &phrase(&link.host, &databases))?;
    let total: u64 = databases.iter().map(|(_, keys)| keys).sum();
    let mut plan = Plan::new(call, Effect::Destroy, format!("remove all {total} keys of {}", link.host));
    plan.objects.extend(databases.iter().map(|(name, keys)| Object {
        kind: "database".to_owned(),
        name: name.clone(),
        detail: format!("{keys} keys"),
    }));
    (plan.affected, plan.of) = (total, Some(total));
    plan.exact.push("FLUSHALL ASYNC".to_owned());
    plan.warnings.push("removed keys do not come back; queues, sessions and locks are keys too".to_owned());
    if number(&info, "connected_slaves") > 0 {
        plan.warnings.push(format!("{} replicas will be emptied too", number(&info, "connected_slaves")));
    }
    plan.stands_on = run_id;
    Ok(plan)
}

pub(super) async fn execute(settings: &Settings, call: &Call, plan: &Plan) -> Result<Done, ActionError> {
    let mut link = Link::open(settings, &call.action).await?;
    let (run_id, info) = link.writable().await?;
    if run_id != plan.stands_on {
        return Err(link.changed("the server was started again, or is another one"));
    }
    let before = databases(&info);
    confirmed(call, &phrase(&link.host, &before)).map_err(|_| link.changed("the keys are not any more as many as was typed"))?;
    let _: ::redis::Value = link.ask(&command(&["FLUSHALL", "ASYNC"])).await?;
    let after = databases(&link.info().await?);
    let sum = |all: &[(String, u64)]| -> u64 { all.iter().map(|(_, keys)| keys).sum() };
    let verified = match sum(&after) {
        0 => Verified::seen("INFO keyspace names no key"),
        left => Verified::missed(format!("{left} keys are there again, somebody writes them")),
    };
    let mut done = Done::new(format!("removed all {} keys of {}", sum(&before), link.host), verified);
    done.affected = sum(&before);
    let facts = |all: Vec<(String, u64)>| json!(all.into_iter().collect::<BTreeMap<_, _>>());
    (done.before, done.after) = (facts(before), facts(after));
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phrase_names_what_goes() {
        for (count, expect) in [(0, "0"), (99, "99"), (100, "about 100"), (123, "about 120"), (98_765, "about 98000")] {
            assert_eq!(about(count), expect);
        }
        let info =
            BTreeMap::from([("db10".to_owned(), "keys=3,expires=0".to_owned()), ("db2".to_owned(), "keys=1234,expires=1".to_owned())]);
        assert_eq!(phrase("h:1", &databases(&info)), "flush h:1: about 1200 keys (db2 about 1200, db10 3)");
        assert_eq!(phrase("h:1", &[]), "flush h:1: 0 keys (nothing)");
    }
}
