//! Backends ended, or their statements broken off, each only while it is the one that was planned.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::backend::Choice;
use super::link::Link;
use crate::call::{Call, Done, OBJECTS_MAX, Plan, Verified};
use crate::error::ActionError;
use crate::spec::Effect;

/// Backends ended by one action, whatever it allows.
const ENDED_MAX: u64 = 1_000;

pub(super) async fn plan(settings: &Settings, call: &Call) -> Result<Plan, ActionError> {
    let choice = Choice::of(call)?;
    let link = Link::open(settings, &call.action, None).await?;
    let (spared, found): (Vec<_>, Vec<_>) = choice.find(&link).await?.into_iter().partition(|backend| backend.privileged);
    let count = found.len() as u64;
    if count > choice.max.min(ENDED_MAX) {
        let which = format!("{count} backends are {}", choice.text());
        return Err(link.refused(format!("{which}, and at most {} may be touched", choice.max.min(ENDED_MAX))));
    }
    let cancels = call.action == "postgres.cancel";
    let verb = if cancels { "break off the statements of" } else { "end" };
    let which = choice.text();
    let mut plan = Plan::new(call, Effect::Write, format!("{verb} {count} backends that are {which}"));
    plan.objects = found.iter().take(OBJECTS_MAX).map(super::backend::Backend::object).collect();
    plan.affected = count;
    let all: i64 =
        link.get(&link.row("SELECT count(*) AS n FROM pg_stat_activity WHERE backend_type = 'client backend'", &[]).await?, "n")?;
    plan.of = u64::try_from(all).ok();
    let function = if cancels { "pg_cancel_backend" } else { "pg_terminate_backend" };
    plan.exact = found.iter().take(OBJECTS_MAX).map(|backend| format!("SELECT {function}({})", backend.pid)).collect();
    plan.stands_on = found.iter().map(super::backend::Backend::mark).collect::<Vec<_>>().join(" ");
    if !spared.is_empty() {
        plan.warnings.push(format!("{} more are left alone: they belong to superusers or to replication", spared.len()));
    }
    if !cancels && !found.is_empty() {
        plan.warnings.push("what they have not committed is rolled back".to_owned());
    }
    let sees: bool = link.get(&link.row("SELECT pg_has_role('pg_read_all_stats', 'usage') AS sees", &[]).await?, "sees")?;
    if !sees {
        plan.warnings
            .push("our role does not see what other roles do (it is no member of pg_read_all_stats): there may be more".to_owned());
    }
    Ok(plan)
}

/// A backend as the plan has marked it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    pid: i32,
    backend_start: i64,
    xact_start: Option<i64>,
    query_start: Option<i64>,
}

fn read_marks(stands_on: &str) -> Vec<Mark> {
    let read = |text: &str| {
        let parts: Vec<&str> = text.split('/').collect();
        let [pid, backend_start, xact_start, query_start] = parts.as_slice() else { return None };
        let pid = pid.parse().ok()?;
        Some(Mark {
            pid,
            backend_start: backend_start.parse().ok()?,
            xact_start: xact_start.parse().ok(),
            query_start: query_start.parse().ok(),
        })
    };
    stands_on.split_whitespace().filter_map(read).collect()
}

const SAME: &str = "pid = $1 AND (extract(epoch FROM backend_start) * 1000000)::bigint = $2 \
    AND (extract(epoch FROM xact_start) * 1000000)::bigint IS NOT DISTINCT FROM $3 \
    AND (extract(epoch FROM query_start) * 1000000)::bigint IS NOT DISTINCT FROM $4 AND state = $5";

pub(super) async fn execute(settings: &Settings, call: &Call, plan: &Plan, cancel: &CancellationToken) -> Result<Done, ActionError> {
    let choice = Choice::of(call)?;
    let marks = read_marks(&plan.stands_on);
    if marks.len() as u64 > choice.max.min(ENDED_MAX) {
        return Err(ActionError::Refused { action: call.action.clone(), why: format!("{} were planned, more than max", marks.len()) });
    }
    let link = Link::open(settings, &call.action, None).await?;
    let cancels = call.action == "postgres.cancel";
    let function = if cancels { "pg_cancel_backend" } else { "pg_terminate_backend" };
    // Looked at and told in one statement, so that nothing comes between.
    let statement = format!("SELECT {function}(pid) AS sent FROM pg_stat_activity WHERE {SAME}");
    let mut told = Vec::new();
    for mark in &marks {
        if cancel.is_cancelled() {
            let done = format!("{} of {} backends were told to end", told.len(), marks.len());
            return Err(ActionError::CalledOff { action: call.action.clone(), done });
        }
        let Mark { pid, backend_start, xact_start, query_start } = *mark;
        let rows = link.rows(&statement, &[&pid, &backend_start, &xact_start, &query_start, &choice.state]).await;
        let rows = rows.map_err(|error| link.failed(format!("{error}; {} of {} were told to end before", told.len(), marks.len())))?;
        if let Some(row) = rows.first()
            && link.get::<bool>(row, "sent")?
        {
            told.push(*mark);
        }
    }
    let still = wait_gone(&link, settings, &told, &choice, cancels).await?;
    let moved = marks.len() - told.len();
    let mut how = format!("pg_stat_activity names {} of {} no more", told.len() - still.len(), told.len());
    if moved > 0 {
        how.push_str(&format!("; {moved} had ended or gone on by themselves, and were left alone"));
    }
    if !still.is_empty() {
        how.push_str(&format!("; still there: {still:?}"));
    }
    let verb = if cancels { "broke off the statements of" } else { "ended" };
    let verified = if still.is_empty() { Verified::seen(how) } else { Verified::missed(how) };
    let mut done = Done::new(format!("{verb} {} backends", told.len() - still.len()), verified);
    done.affected = told.len() as u64;
    let pids = |marks: &[Mark]| marks.iter().map(|mark| mark.pid).collect::<Vec<_>>();
    (done.before, done.after) = (json!({ "pids": pids(&marks) }), json!({ "told": pids(&told), "still": still }));
    Ok(done)
}

/// Those that are there after all, by their numbers.
async fn wait_gone(link: &Link, settings: &Settings, told: &[Mark], choice: &Choice, cancels: bool) -> Result<Vec<i32>, ActionError> {
    let there = "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND (extract(epoch FROM backend_start) * 1000000)::bigint = $2";
    let same = format!("SELECT 1 FROM pg_stat_activity WHERE {SAME}");
    let until = Instant::now() + Duration::from_secs(settings.verify_s);
    loop {
        let mut still = Vec::new();
        for Mark { pid, backend_start, xact_start, query_start } in told {
            let rows = if cancels {
                link.rows(&same, &[pid, backend_start, xact_start, query_start, &choice.state]).await?
            } else {
                link.rows(there, &[pid, backend_start]).await?
            };
            if !rows.is_empty() {
                still.push(*pid);
            }
        }
        if still.is_empty() || Instant::now() > until {
            return Ok(still);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_they_are_written() {
        let marks = read_marks("7/1700000000000000/1700000000000001/- 8/2/-/5 nonsense 9/x/-/-");
        let expect = [
            Mark { pid: 7, backend_start: 1_700_000_000_000_000, xact_start: Some(1_700_000_000_000_001), query_start: None },
            Mark { pid: 8, backend_start: 2, xact_start: None, query_start: Some(5) },
        ];
        assert_eq!(marks, expect);
    }
}
