//! Queries and requests that are out of date, or that ask something else than they seem to.

use super::{Look, Saying, has_word, say, say_if};

pub(super) fn statements_columns(look: &Look<'_>) -> Option<Saying> {
    if !look.says("pg_stat_statements") {
        return None;
    }
    let old = ["total_time", "mean_time", "min_time", "max_time", "stddev_time"];
    let found: Vec<&str> = old.into_iter().filter(|column| has_word(&look.text, column)).collect();
    let new: Vec<String> = found.iter().map(|column| column.replace("_time", "_exec_time")).collect();
    (!found.is_empty())
        .then(|| say(format!("pg_stat_statements has no {} since PostgreSQL 13", found.join(", ")), new.join(", ")))
        .flatten()
}

pub(super) fn activity_columns(look: &Look<'_>) -> Option<Saying> {
    if !look.says("pg_stat_activity") {
        return None;
    }
    let old = [("procpid", "pid", "9.2"), ("current_query", "query", "9.2"), ("waiting", "wait_event IS NOT NULL", "9.6")];
    let (column, new, since) = old.into_iter().find(|(column, _, _)| has_word(&look.text, column))?;
    say(format!("pg_stat_activity has no {column} since PostgreSQL {since}"), new)
}

pub(super) fn alter_system(look: &Look<'_>) -> Option<Saying> {
    if !look.says("alter system") {
        return None;
    }
    let restart = ["max_connections", "shared_buffers", "max_worker_processes", "wal_level", "max_wal_senders", "shared_preload_libraries"];
    let setting = restart.into_iter().find(|setting| look.says(setting));
    let together = look.text.split("alter system").nth(1).is_some_and(|rest| {
        rest.split_once(';').is_some_and(|(_, behind)| behind.trim_start().starts_with(|first: char| first.is_ascii_alphabetic()))
    });
    let mut why = Vec::new();
    if together {
        why.push("ALTER SYSTEM cannot stand in one -c with another statement: they are one transaction".to_owned());
    }
    if let Some(setting) = setting {
        why.push(format!("{setting} takes effect at a restart, not at a reload"));
    }
    if why.is_empty() {
        return None;
    }
    say(
        why.join("; "),
        "one -c for each statement, and for such a setting a planned restart; the action `postgres.alter_system` says which it is",
    )
}

pub(super) fn terminates_unseen(look: &Look<'_>) -> Option<Saying> {
    let blind = look.says("select pg_terminate_backend") && !look.says("pg_terminate_backend($") && look.says("from pg_stat_activity");
    say_if(
        blind,
        "ends sessions that nobody has looked at, a running backup or migration among them",
        "list pid, user, state and query first, then end the ones that were chosen: the action `postgres.terminate` with `max`",
    )
}

pub(super) fn removed_api(look: &Look<'_>) -> Option<Saying> {
    let alertmanager = look.says(":9093/api/v1/") || look.says("alertmanager") && look.says("/api/v1/");
    if alertmanager {
        return say("Alertmanager has no /api/v1/ since 0.27", "the same under /api/v2/");
    }
    let groups = [
        ("extensions/v1beta1", "apps/v1 or networking.k8s.io/v1", "1.22"),
        ("apps/v1beta", "apps/v1", "1.16"),
        ("policy/v1beta1", "policy/v1", "1.25"),
        ("batch/v1beta1", "batch/v1", "1.25"),
        ("autoscaling/v2beta", "autoscaling/v2", "1.26"),
    ];
    let (group, new, since) = groups.into_iter().find(|(group, _, _)| look.says(group))?;
    say(format!("Kubernetes has no {group} since {since}"), new)
}

pub(super) fn removed_option(look: &Look<'_>) -> Option<Saying> {
    let options = [
        ("--delete-local-data", "--delete-emptydir-data", "kubectl drain", "1.20 calls it another name, later ones refuse it"),
        ("--export", "kubectl get -o yaml, without it", "kubectl get", "1.18 took it away"),
        ("--generator", "kubectl create", "kubectl run", "1.18 took it away"),
    ];
    let (option, new, _, why) = options.into_iter().find(|(option, _, command, _)| look.says(command) && has_word(&look.text, option))?;
    say(format!("{option}: {why}"), new)
}

pub(super) fn query_without_server(look: &Look<'_>) -> Option<Saying> {
    let at = look.text.find("promtool query instant").map(|at| at + "promtool query instant".len())?;
    let has_server = look.text[at..].split_whitespace().any(|word| word.contains("http://") || word.contains("https://"));
    say_if(!has_server, "promtool needs the server before the expression", "promtool query instant http://localhost:9090 '...'")
}

pub(super) fn rate_is_per_second(look: &Look<'_>) -> Option<Saying> {
    let daily = look.says("rate(") && look.says_any(&["* 24", "*24"]) && !look.says("3600") && !look.says("86400");
    say_if(daily, "rate() is per second: times 24 it is 3,600 times too small for a day", "rate(...) * 86400, or increase(...[24h])")
}

pub(super) fn ratio_of_unlike_labels(look: &Look<'_>) -> Option<Saying> {
    let unlike = look.says("rate(agent_errors_total") && look.says("/ rate(agent_requests_total") && !look.says("sum");
    say_if(unlike, "the two have different labels, so nothing matches and the answer is empty", "sum(rate(...)) / sum(rate(...))")
}
