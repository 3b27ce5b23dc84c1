//! Statistics, set to zero.

use serde_json::json;

use super::Settings;
use super::link::Link;
use crate::call::{Call, Done, Object, Plan, Verified};
use crate::error::ActionError;
use crate::spec::Effect;

/// Whose statistics.
fn statements(call: &Call) -> Result<bool, ActionError> {
    match call.text_or_none("what")?.as_deref() {
        None | Some("database") => Ok(false),
        Some("statements") => Ok(true),
        Some(_) => Err(call.fault("what", "it is neither database nor statements")),
    }
}

async fn open(settings: &Settings, call: &Call) -> Result<Link, ActionError> {
    let database = call.text_or_none("database")?;
    let link = Link::open(settings, &call.action, None).await?;
    let Some(database) = database else { return Ok(link) };
    link.known_database(&database).await?;
    Link::open(settings, &call.action, Some(&database)).await
}

/// The database, and when its statistics were set to zero last, in microseconds since 1970.
async fn state(link: &Link, statements: bool) -> Result<(String, i64), ActionError> {
    let statement = if statements {
        "SELECT current_database()::text AS name, (extract(epoch FROM stats_reset) * 1000000)::bigint AS reset FROM pg_stat_statements_info"
    } else {
        "SELECT datname::text AS name, (extract(epoch FROM stats_reset) * 1000000)::bigint AS reset \
         FROM pg_stat_database WHERE datname = current_database()"
    };
    let row = link.row(statement, &[]).await?;
    Ok((link.get(&row, "name")?, link.get::<Option<i64>>(&row, "reset")?.unwrap_or(0)))
}

const fn function(statements: bool) -> &'static str {
    if statements { "SELECT pg_stat_statements_reset()" } else { "SELECT pg_stat_reset()" }
}

pub(super) async fn plan(settings: &Settings, call: &Call) -> Result<Plan, ActionError> {
    let statements = statements(call)?;
    let link = open(settings, call).await?;
    if statements && link.rows("SELECT 1 FROM pg_extension WHERE extname = 'pg_stat_statements'", &[]).await?.is_empty() {
        let what = "the extension pg_stat_statements".to_owned();
        return Err(ActionError::NotFound { what, why: "it is not installed in this database".to_owned() });
    }
    let (database, reset) = state(&link, statements).await?;
    let kind = if statements { "statements" } else { "the database" };
    let mut plan = Plan::new(call, Effect::Destroy, format!("set the statistics of {kind} in {database} to zero"));
    plan.objects.push(Object { kind: "database".to_owned(), name: database, detail: format!("statistics of {kind}") });
    plan.affected = 1;
    plan.exact.push(function(statements).to_owned());
    plan.stands_on = reset.to_string();
    if !statements {
        plan.warnings.push("autovacuum counts by these statistics: it knows of no dead rows until they are counted again".to_owned());
    }
    Ok(plan)
}

pub(super) async fn execute(settings: &Settings, call: &Call, plan: &Plan) -> Result<Done, ActionError> {
    let statements = statements(call)?;
    let link = open(settings, call).await?;
    let (database, before) = state(&link, statements).await?;
    if before.to_string() != plan.stands_on {
        return Err(link.changed("the statistics were set to zero by somebody else meanwhile"));
    }
    link.rows(function(statements), &[]).await?;
    let (_, after) = state(&link, statements).await?;
    let how = format!("stats_reset was {before}, and is {after} (microseconds since 1970)");
    let mut done = Done::new(
        format!("set the statistics of {database} to zero"),
        if after > before { Verified::seen(how) } else { Verified::missed(how) },
    );
    done.affected = 1;
    (done.before, done.after) = (json!({ "reset": before }), json!({ "reset": after }));
    Ok(done)
}
