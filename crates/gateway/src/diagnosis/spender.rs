//! One user, key or agent that has a large part of all: abuse, or an agent that runs wild.

use super::{Cause, Finding, Material, numbers, percent, quoted};
use crate::budget::Spender;

/// Of so many or more spenders, one with half of all is too much.
const MANY: usize = 4;
const SHARE_OF_MANY: f64 = 0.5;
/// Of two or three.
const SHARE_OF_FEW: f64 = 0.8;
/// With fewer calls a large part is a quiet day.
const CALLS_FOR_SHARE_MIN: u64 = 20;
/// So many calls by one of several are many, if they are half of all.
const CALLS_MANY: u64 = 1_000;
/// What is spent without a name, at least, for there to be others.
const UNNAMED_SHARE_MIN: f64 = 0.01;

pub(super) fn find(material: &Material<'_>) -> Option<Finding> {
    [("user", material.users), ("key", material.keys), ("agent", material.agents)]
        .into_iter()
        .find_map(|(kind, spenders)| of_kind(material, kind, spenders))
}

fn of_kind(material: &Material<'_>, kind: &str, spenders: &[Spender]) -> Option<Finding> {
    let all = material.all?;
    let named: Vec<&Spender> = spenders.iter().filter(|one| &*one.name != format!("{kind}:other").as_str()).collect();
    let known: f64 = named.iter().map(|one| one.share).sum();
    let count = named.len() + usize::from(1.0 - known > UNNAMED_SHARE_MIN);
    if count < 2 {
        return None;
    }
    let large = if count >= MANY { SHARE_OF_MANY } else { SHARE_OF_FEW };
    let by_share = named.iter().find(|one| one.share >= large && one.calls >= CALLS_FOR_SHARE_MIN);
    let by_calls = || named.iter().find(|one| one.calls >= CALLS_MANY && one.calls.saturating_mul(2) >= all.calls);
    let one = by_share.or_else(by_calls)?;
    let name = one.name.split_once(':').map_or(&*one.name, |(_, name)| name);
    let calls_share = super::mean(one.calls, usize::try_from(all.calls).unwrap_or(usize::MAX));
    let what = format!(
        "the {kind} {name} spent ${:.2} of ${:.2} ({}) with {} of {} calls",
        one.dollars,
        all.dollars,
        percent(one.share),
        one.calls,
        all.calls
    );
    let scope = quoted(&format!("{kind}={name}"));
    let limit = if kind == "agent" { "rate_limit_per_agent" } else { "rate_limit_per_minute" };
    Some(Finding {
        cause: Cause::OneSpender,
        what,
        numbers: numbers([
            ("dollars", one.dollars),
            ("share", one.share),
            ("calls", super::mean(one.calls, 1)),
            ("calls_share", calls_share),
            ("spenders", super::mean(count as u64, 1)),
        ]),
        at: None,
        change: None,
        saving_dollars: Some(one.dollars),
        commands: vec![
            format!("paramedic switch set {limit} 10 --scope {scope} --for 1h --reason 'spends too much'"),
            format!("paramedic switch set blocked true --scope {scope} --for 1h --reason 'spends too much'"),
        ],
    })
}
