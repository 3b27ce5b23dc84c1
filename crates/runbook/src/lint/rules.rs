//! The rules, one function each.

use super::{Look, Saying, Weight};
use crate::classify::Effect;
use crate::document::{Executor, SectionKind};

type Judge = fn(&Look<'_>) -> Option<Saying>;

/// Every rule with its name.
pub(super) const ALL: &[(&str, Judge)] = &[
    ("never-ends", never_ends),
    ("waits-for-a-person", waits_for_a_person),
    ("change-while-looking", change_while_looking),
    ("kill-by-pattern", kill_by_pattern),
    ("kill-without-asking", kill_without_asking),
    ("redis-flush", redis_flush),
    ("redis-keys", redis_keys),
    ("redis-persistence-off", redis_persistence_off),
    ("drop-caches", drop_caches),
    ("git-throws-away", git_throws_away),
    ("opens-the-network", opens_the_network),
    ("deletes-without-scope", deletes_without_scope),
    ("statements-columns", statements_columns),
    ("alter-system", alter_system),
    ("terminates-unseen", terminates_unseen),
    ("removed-api", removed_api),
    ("shell-syntax", shell_syntax),
    ("query-without-server", query_without_server),
    ("rate-is-per-second", rate_is_per_second),
    ("ratio-of-unlike-labels", ratio_of_unlike_labels),
    ("pipe-into-a-change", pipe_into_a_change),
    ("secret-in-the-open", secret_in_the_open),
    ("no-time-limit", no_time_limit),
    ("limit-without-drop", limit_without_drop),
    ("not-a-shell-program", not_a_shell_program),
];

fn error(why: impl Into<String>, instead: impl Into<String>) -> Option<Saying> {
    Some(Saying { weight: Weight::Error, why: why.into(), instead: instead.into() })
}

fn warning(why: impl Into<String>, instead: impl Into<String>) -> Option<Saying> {
    Some(Saying { weight: Weight::Warning, why: why.into(), instead: instead.into() })
}

fn note(why: impl Into<String>, instead: impl Into<String>) -> Option<Saying> {
    Some(Saying { weight: Weight::Note, why: why.into(), instead: instead.into() })
}

fn never_ends(look: &Look<'_>) -> Option<Saying> {
    let why = look.command.verdict.never_ends.as_deref()?;
    let instead = match () {
        () if look.says("kubectl logs") => "kubectl logs --tail=200 --since=10m, without -f",
        () if look.says("tail -f") => "tail -n 200",
        () if look.says("watch ") => "the command itself, once; a verification with `within` and `hold` repeats it",
        () if look.says("vmstat") => "vmstat 1 5",
        () if look.says("docker stats") => "docker stats --no-stream",
        () => "a form that ends by itself, or timeout 10 before it",
    };
    error(format!("{why}: nobody sits there to stop it"), instead)
}

fn waits_for_a_person(look: &Look<'_>) -> Option<Saying> {
    let why = look.command.verdict.interactive.as_deref()?;
    let instead = if look.says("exec -it") || look.says("exec -ti") {
        "exec without -it"
    } else if look.says("kubectl edit") {
        "kubectl patch, with the inverse noted"
    } else if look.says("open http") {
        "a link in the text"
    } else {
        "a command that takes all it needs as arguments, or a `manual` step"
    };
    warning(why, instead)
}

fn change_while_looking(look: &Look<'_>) -> Option<Saying> {
    let changes = look.step.section == SectionKind::Investigation && look.command.verdict.effect > Effect::Read;
    changes
        .then(|| {
            warning(
                format!("an investigation only looks, and this may change something: {}", look.command.verdict.why),
                "a step under Resolution",
            )
        })
        .flatten()
}

fn kill_by_pattern(look: &Look<'_>) -> Option<Saying> {
    let by_pattern = look.says("pkill") || look.says("killall");
    by_pattern
        .then(|| {
            error(
                "hits every process whose name or arguments match, also an editor that has the file open",
                "kill by the pid that the service wrote down, after comparing its start time; the action `process.stop` does both",
            )
        })
        .flatten()
}

fn kill_without_asking(look: &Look<'_>) -> Option<Saying> {
    let hard = ["kill -9", "kill -kill", "kill -sigkill"].iter().any(|form| look.says(form));
    hard.then(|| {
        warning("the process cannot save or clean up", "TERM first, some seconds of grace, then KILL, then a look that it is gone")
    })
    .flatten()
}

fn redis_flush(look: &Look<'_>) -> Option<Saying> {
    (look.says("flushall") || look.says("flushdb"))
        .then(|| {
            error(
                "removes every key of every user of that Redis, queues and sessions included",
                "delete what is broken by pattern: SCAN, count, then UNLINK in batches; the action `redis.delete` shows the count first",
            )
        })
        .flatten()
}

fn redis_keys(look: &Look<'_>) -> Option<Saying> {
    let keys = look.says("redis-cli") && look.text.split_whitespace().any(|word| word == "keys");
    keys.then(|| error("KEYS looks at every key at once and Redis answers nobody meanwhile", "redis-cli --scan --pattern '...'")).flatten()
}

fn redis_persistence_off(look: &Look<'_>) -> Option<Saying> {
    look.says("config set save \"\"")
        .then(|| {
            warning(
                "from now on a restart loses everything, and nothing turns it on again",
                "note the old value (CONFIG GET save) and set it back in the same runbook",
            )
        })
        .flatten()
}

fn drop_caches(look: &Look<'_>) -> Option<Saying> {
    look.says("drop_caches")
        .then(|| {
            warning(
                "needs root, frees memory that the kernel would give back anyway, and makes every file slow for a while",
                "find the process that grew: ps --sort=-rss",
            )
        })
        .flatten()
}

fn git_throws_away(look: &Look<'_>) -> Option<Saying> {
    (look.says("git reset --hard") || look.says("git clean -f"))
        .then(|| {
            error(
                "throws away what is not committed, also what somebody is working on",
                "refuse on a dirty tree (git status --porcelain), then git revert or a deployment of the old version",
            )
        })
        .flatten()
}

fn opens_the_network(look: &Look<'_>) -> Option<Saying> {
    look.says("delete networkpolicy")
        .then(|| {
            error(
                "opens the network for everything until somebody remembers to close it",
                "a policy that allows the one connection, with a timer that applies the old one again",
            )
        })
        .flatten()
}

fn deletes_without_scope(look: &Look<'_>) -> Option<Saying> {
    let all = look.says("kubectl delete") && (look.says(" --all") || look.says(" -l ") && !look.says(" -n "));
    let tree = look.says("rm -rf /") || look.says("rm -rf $") || look.says("rm -rf \"$") || look.says("rm -rf *");
    let sql = ["delete from", "update "].iter().any(|verb| look.says(verb))
        && !look.says(" where ")
        && (look.says("psql") || look.step.executor == Executor::Sql);
    (all || tree || sql)
        .then(|| error("nothing says how much it takes away", "a scope (names, a WHERE, a namespace) and a count before it"))
        .flatten()
}

fn statements_columns(look: &Look<'_>) -> Option<Saying> {
    let old = look.says("pg_stat_statements") && ["mean_time", "max_time", "total_time", "min_time"].iter().any(|column| look.says(column));
    old.then(|| error("pg_stat_statements has no such columns since PostgreSQL 13", "mean_exec_time, max_exec_time, total_exec_time"))
        .flatten()
}

fn alter_system(look: &Look<'_>) -> Option<Saying> {
    let restart = ["max_connections", "shared_buffers", "max_worker_processes", "wal_level"].iter().any(|setting| look.says(setting));
    if !look.says("alter system") {
        return None;
    }
    let together = look.says("; select pg_reload_conf()");
    let mut why = Vec::new();
    if together {
        why.push("ALTER SYSTEM cannot stand in one -c with another statement: they are one transaction");
    }
    if restart {
        why.push("this setting takes effect at a restart, not at a reload");
    }
    if why.is_empty() {
        return None;
    }
    error(why.join("; "), "one -c for each statement, and for such a setting a planned restart")
}

fn terminates_unseen(look: &Look<'_>) -> Option<Saying> {
    let blind = look.says("select pg_terminate_backend") && !look.says("pg_terminate_backend($") && look.says("from pg_stat_activity");
    blind
        .then(|| {
            warning(
                "ends sessions that nobody has looked at, a running backup or migration among them",
                "list pid, user, state and query first, then end the ones that were chosen",
            )
        })
        .flatten()
}

fn removed_api(look: &Look<'_>) -> Option<Saying> {
    let alertmanager = look.says(":9093/api/v1/") || look.says("alertmanager") && look.says("/api/v1/");
    alertmanager.then(|| error("Alertmanager has no /api/v1/ since 0.27", "the same under /api/v2/")).flatten()
}

fn shell_syntax(look: &Look<'_>) -> Option<Saying> {
    let bare = look.is_shell() && look.says("http") && unquoted_parenthesis(&look.command.text);
    bare.then(|| {
        error(
            "a shell stops at the parenthesis: the URL is not quoted",
            "the URL in single quotes, or curl -G --data-urlencode 'query=...'",
        )
    })
    .flatten()
}

/// An opening parenthesis directly behind a letter, outside quotes.
fn unquoted_parenthesis(text: &str) -> bool {
    let mut quote = None;
    let mut before = ' ';
    for letter in text.chars() {
        match (quote, letter) {
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), _) if letter == open => quote = None,
            (None, '(') if before.is_alphanumeric() || before == '_' => return true,
            _ => {}
        }
        before = letter;
    }
    false
}

fn query_without_server(look: &Look<'_>) -> Option<Saying> {
    let at = look.text.find("promtool query instant").map(|at| at + "promtool query instant".len())?;
    let has_server = look.text[at..].split_whitespace().any(|word| word.contains("http://") || word.contains("https://"));
    (!has_server)
        .then(|| error("promtool needs the server before the expression", "promtool query instant http://localhost:9090 '...'"))
        .flatten()
}

fn rate_is_per_second(look: &Look<'_>) -> Option<Saying> {
    let daily = look.says("rate(") && ["* 24", "*24"].iter().any(|times| look.says(times)) && !look.says("3600") && !look.says("86400");
    daily
        .then(|| error("rate() is per second: times 24 it is 3,600 times too small for a day", "rate(...) * 86400, or increase(...[24h])"))
        .flatten()
}

fn ratio_of_unlike_labels(look: &Look<'_>) -> Option<Saying> {
    let unlike = look.says("rate(agent_errors_total") && look.says("/ rate(agent_requests_total") && !look.says("sum");
    unlike
        .then(|| error("the two have different labels, so nothing matches and the answer is empty", "sum(rate(...)) / sum(rate(...))"))
        .flatten()
}

fn pipe_into_a_change(look: &Look<'_>) -> Option<Saying> {
    let into = [
        "| sh",
        "| bash",
        "| kubectl apply",
        "| kubectl delete",
        "| xargs kill",
        "| xargs rm",
        "| xargs kubectl delete",
        "| xargs redis-cli del",
        "| psql",
    ];
    into.iter()
        .any(|end| look.says(end))
        .then(|| {
            warning(
                "whatever the first half prints is carried out, also when it is not what was expected",
                "write it to a file, look at it, then apply the file",
            )
        })
        .flatten()
}

fn secret_in_the_open(look: &Look<'_>) -> Option<Saying> {
    let literal = look.says("--from-literal=") && ["key", "token", "password", "secret"].iter().any(|word| look.says(word));
    let masked = paramedic_model::secret::mask(&look.command.text) != look.command.text;
    (literal || masked)
        .then(|| {
            error(
                "the secret stands in the shell's history and in the list of processes",
                "from a file or from standard input: --from-file=name=/dev/stdin",
            )
        })
        .flatten()
}

fn no_time_limit(look: &Look<'_>) -> Option<Saying> {
    let curl = look.is_shell() && look.command.verdict.programs.iter().any(|program| program == "curl");
    let limited = ["--max-time", " -m ", "--connect-timeout", "timeout "].iter().any(|form| look.says(form));
    (curl && !limited).then(|| note("curl waits for minutes when the other side does not answer", "curl --fail --max-time 10")).flatten()
}

fn limit_without_drop(look: &Look<'_>) -> Option<Saying> {
    let accepts = look.says("iptables") && look.says("limit") && look.says("-j accept");
    accepts
        .then(|| {
            error(
                "accepting up to a limit limits nothing unless what is above it is dropped",
                "a following rule with -j DROP, or a limit in front of the service",
            )
        })
        .flatten()
}

fn not_a_shell_program(look: &Look<'_>) -> Option<Saying> {
    let python = look.is_shell()
        && look.command.verdict.programs.iter().any(|program| program == "import" || program.contains('.') && program.contains("gc"));
    python
        .then(|| {
            error("this is Python inside a block for the shell", "a block of its own language; it is then an illustration and never run")
        })
        .flatten()
}
