//! The moment from which an hour costs much more than before, and what was changed then.

use std::time::Duration;

use paramedic_model::Timestamp;

use super::{Cause, Change, Finding, Material, numbers};
use crate::budget::{Hour, dollars};
use crate::traffic::Step;

const HOUR: Duration = Duration::from_secs(3_600);
/// Steps are looked for within so many hours; the day before shows whether it is so every day.
const HOURS: usize = 25;
const DAY_HOURS: usize = 24;
/// Hours before a step, at least.
const BEFORE_MIN: usize = 3;
/// After a step an hour costs so many times as much, at least.
const TIMES_MIN: f64 = 3.0;
/// ... and so many dollars more.
const DOLLARS_MIN: f64 = 0.5;
/// Yesterday's hours at this part of today's, and it is so every day.
const RHYTHM_SHARE: f64 = 0.5;
/// An hour that has only begun says nothing.
const BEGUN_MIN: Duration = Duration::from_secs(300);
/// A change so long after the moment can still be its cause: clocks and counting differ.
const LATE: Duration = Duration::from_secs(120);

pub(super) fn find(material: &Material<'_>) -> Option<Finding> {
    let hours = known_hours(material);
    let costs: Vec<f64> = hours.iter().map(|(_, dollars)| *dollars).collect();
    let begin = costs.len().saturating_sub(HOURS);
    let (at, before, after) = split(&costs[begin..])?;
    let at = begin + at;
    if at - begin < BEFORE_MIN || after < before * TIMES_MIN || after - before < DOLLARS_MIN {
        return None;
    }
    if let Some(yesterday) = at.checked_sub(DAY_HOURS).and_then(|from| costs.get(from..costs.len() - DAY_HOURS))
        && yesterday.iter().sum::<f64>() / yesterday.len().max(1) as f64 >= after * RHYTHM_SHARE
    {
        return None;
    }
    let hour = hours.get(at)?.0;
    let minute = minute_of(material.minutes, hour);
    let moment = minute.unwrap_or(hour);
    let latest = minute.map_or_else(|| hour.after(HOUR), |minute| minute.after(LATE));
    let change = nearest(material.changes, moment, latest);
    let known = match &change {
        Some(change) => format!("; nearest to it: {} by {} at {}", change.what, change.by, change.at),
        None => "; no change is known in the hour before it".to_owned(),
    };
    let budget = (before.max(0.1) * 1.5 * DAY_HOURS as f64).ceil();
    let mut commands: Vec<String> = change.iter().filter_map(|change| change.undo.clone()).collect();
    commands.push(format!("paramedic budget set {budget} --per day --reason 'costs more than before'"));
    Some(Finding {
        cause: Cause::StepChange,
        what: format!("since {moment} an hour costs ${after:.2}, before it was ${before:.2}{known}"),
        numbers: numbers([("dollars_per_hour_before", before), ("dollars_per_hour_after", after)]),
        at: Some(moment),
        change,
        saving_dollars: None,
        commands,
    })
}

/// What each hour cost since the first that cost anything; the one that runs, as if it went on so.
fn known_hours(material: &Material<'_>) -> Vec<(Timestamp, f64)> {
    let whole = |hour: &Hour| {
        let begun = material.now.since(hour.at);
        match begun {
            begun if begun >= HOUR => Some((hour.at, hour.dollars)),
            begun if begun >= BEGUN_MIN => Some((hour.at, hour.dollars * HOUR.as_secs_f64() / begun.as_secs_f64())),
            _ => None,
        }
    };
    material.hours.iter().skip_while(|hour| hour.calls == 0).filter_map(whole).collect()
}

/// Where two levels fit a series best: the place of the second, and both.
fn split(series: &[f64]) -> Option<(usize, f64, f64)> {
    let all: f64 = series.iter().sum();
    let mut first = 0.0;
    let mut best: Option<(f64, (usize, f64, f64))> = None;
    for (at, pair) in series.windows(2).enumerate() {
        first += pair[0];
        let (count_before, count_after) = ((at + 1) as f64, (series.len() - at - 1) as f64);
        let (before, after) = (first / count_before, (all - first) / count_after);
        let gain = (after - before).powi(2) * count_before * count_after;
        if after > before && best.is_none_or(|(known, _)| gain > known) {
            best = Some((gain, (at + 1, before, after)));
        }
    }
    best.map(|(_, found)| found)
}

/// The minute at which it began, where the minutes around the hour are known.
fn minute_of(minutes: &[Step], hour: Timestamp) -> Option<Timestamp> {
    let from = hour.before(Duration::from_secs(900));
    if minutes.first()?.at > from {
        return None;
    }
    let around: Vec<&Step> = minutes.iter().filter(|step| step.at >= from && step.at < hour.after(HOUR)).collect();
    let costs: Vec<f64> = around.iter().map(|step| dollars(step.sum.cost_pico)).collect();
    let (at, before, after) = split(&costs)?;
    (after >= before * TIMES_MIN).then(|| around[at].at)
}

/// The change nearest to a moment, of those that can have caused it.
fn nearest(changes: &[Change], moment: Timestamp, latest: Timestamp) -> Option<Change> {
    let apart = |change: &&Change| change.at.since(moment).max(moment.since(change.at));
    let can = |change: &&Change| change.at <= latest && moment.since(change.at) <= HOUR;
    changes.iter().filter(can).min_by_key(apart).cloned()
}
