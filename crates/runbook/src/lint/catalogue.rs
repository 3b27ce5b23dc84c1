//! Every rule with what it looks for and the safer form, in the order in which a reader wants them.

use super::Weight;
use super::Weight::{Error, Note, Warning};

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// `redis-keys`, `never-ends` …
    pub id: &'static str,
    pub weight: Weight,
    /// What it looks for, and why somebody would be sorry.
    pub what: &'static str,
    /// What to write instead.
    pub safer: &'static str,
}

const fn rule(id: &'static str, weight: Weight, what: &'static str, safer: &'static str) -> Rule {
    Rule { id, weight, what, safer }
}

/// All rules.
pub const RULES: &[Rule] = &[
    // What cannot run unattended.
    rule(
        "never-ends",
        Error,
        "a command that goes on until a person stops it: `tail -f`, `kubectl logs -f`, `watch`, `top`, `vmstat 1`",
        "the form that ends by itself: `tail -n 200`, `kubectl logs --tail=200 --since=10m`, the command once, `top -b -n 1`, `vmstat 1 2`",
    ),
    rule(
        "waits-for-a-person",
        Warning,
        "a command that asks for a terminal or for keys: `exec -it`, `kubectl edit`, `ssh host`, `open URL`, a prompt without a command",
        "all it needs as arguments (`kubectl patch`, `psql -Atc '…'`, `ssh host 'command'`), a link, or a `manual` step",
    ),
    rule("sudo-asks", Warning, "`sudo` may ask for a password, and nobody is there to type it", "`sudo -n`, which fails at once instead"),
    rule(
        "no-time-limit",
        Note,
        "a command that waits for minutes when the other side does not answer, in a step without `timeout`",
        "`curl --fail --max-time 10`, `ssh -o ConnectTimeout=5`, `nc -w 5`, `--timeout` of kubectl, or `timeout=` on the step",
    ),
    rule(
        "here-document",
        Error,
        "a here-document in a shell block: its body cannot be judged and is not run",
        "the executor it is for (`sql`, `action`), or a file that the command reads",
    ),
    rule(
        "not-a-shell-program",
        Error,
        "another language inside a block for the shell",
        "a block of its own language, which is an illustration",
    ),
    rule("shell-syntax", Error, "a URL with parentheses outside quotes: the shell stops there", "the URL in single quotes"),
    rule("unreadable", Error, "front matter, attributes, conditions or references that cannot be read", "what the message says"),
    // What destroys, or does more than it says.
    rule(
        "change-while-looking",
        Warning,
        "a command under Investigation that may change something; it will not run by itself",
        "a step under Resolution, with mode, risk and verification",
    ),
    rule(
        "kill-by-pattern",
        Error,
        "`pkill`, `killall`, `kill $(pgrep …)`: hits every process whose name or arguments match",
        "the pid that the service wrote down, with its start time: the action `process.stop`",
    ),
    rule("kill-without-asking", Warning, "KILL at once: nothing is saved or cleaned up", "TERM, some seconds of grace, then KILL"),
    rule(
        "deletes-without-scope",
        Error,
        "a delete that says nothing about how much it takes: `--all`, a whole namespace, no WHERE, `rm -rf` of a variable or a top folder",
        "names, a WHERE, a namespace; and a count before it",
    ),
    rule(
        "pipe-into-a-change",
        Warning,
        "output piped into a command that changes things (`xargs kill`, `xargs rm`, `kubectl apply -f -`, `psql`)",
        "look at the list first, then change what was chosen, by name",
    ),
    rule("downloads-and-runs", Error, "what a server answers is run at once: `curl … | bash`", "download, compare the checksum, read, run"),
    rule(
        "open-permissions",
        Error,
        "`chmod 777`: everybody on the machine may change it",
        "the one bit that is missing: `chmod u+x`, `chmod g+rw`",
    ),
    rule(
        "redis-flush",
        Error,
        "`FLUSHALL`, `FLUSHDB`: every key of every user of that Redis",
        "`redis.delete` with a pattern, which counts first",
    ),
    rule("redis-keys", Error, "`KEYS` stops Redis for everybody while it looks at every key", "`redis-cli --scan --pattern '…'`"),
    rule(
        "redis-persistence-off",
        Warning,
        "`CONFIG SET save \"\"`: from now on a restart loses everything",
        "`redis.config_set`, which keeps the old value and sets it back",
    ),
    rule(
        "drop-caches",
        Warning,
        "`drop_caches` frees nothing that is missing, and makes every file slow",
        "find who grew: `ps --sort=-rss`",
    ),
    rule(
        "git-throws-away",
        Error,
        "`git reset --hard`, `git clean -f`, a forced push: loses work that is not committed or not fetched",
        "a look at `git status --porcelain`, then `git revert`, or deploy the old version",
    ),
    rule(
        "opens-the-network",
        Error,
        "deleting a network policy or flushing a firewall opens everything until somebody remembers",
        "`kubernetes.network_policy_suspend` with a time, or a policy for the one connection",
    ),
    rule(
        "limit-without-drop",
        Error,
        "an iptables rule that accepts up to a limit limits nothing by itself",
        "a following rule with `-j DROP`, or a switch of the gateway",
    ),
    rule(
        "secret-in-the-open",
        Error,
        "a secret in the text, in the shell's history and in the process list",
        "an input of type `secret`, or a file",
    ),
    // What is out of date or asks the wrong question.
    rule(
        "statements-columns",
        Error,
        "`total_time`, `mean_time`, `min_time`, `max_time` of pg_stat_statements: renamed in PostgreSQL 13",
        "`total_exec_time`, `mean_exec_time`, `min_exec_time`, `max_exec_time`",
    ),
    rule(
        "activity-columns",
        Error,
        "`procpid`, `current_query`, `waiting` of pg_stat_activity: gone since PostgreSQL 9.2 and 9.6",
        "`pid`, `query`, `wait_event IS NOT NULL`",
    ),
    rule(
        "alter-system",
        Error,
        "ALTER SYSTEM beside another statement in one `-c`, or for a setting that a reload does not apply",
        "one `-c` for each statement; `postgres.alter_system`, which says what needs a restart",
    ),
    rule(
        "terminates-unseen",
        Warning,
        "`pg_terminate_backend` over a whole query ends sessions that nobody looked at",
        "list pid, user, state and query first: `postgres.terminate` with `max`",
    ),
    rule(
        "removed-api",
        Error,
        "`/api/v1/` of Alertmanager is gone since 0.27; old API groups of Kubernetes are gone",
        "`/api/v2/`; the group's v1",
    ),
    rule("removed-option", Error, "an option that newer versions do not know", "the option that took its place"),
    rule(
        "query-without-server",
        Error,
        "`promtool query` without the server's address",
        "`promtool query instant http://localhost:9090 '…'`",
    ),
    rule("rate-is-per-second", Error, "`rate(…) * 24` taken for a day: rate() is per second", "`rate(…) * 86400` or `increase(…[24h])`"),
    rule("ratio-of-unlike-labels", Error, "a ratio whose sides have different labels is empty", "`sum(rate(…)) / sum(rate(…))`"),
    // What is missing around a step.
    rule(
        "blank-without-input",
        Warning,
        "something to fill in that nobody is asked for: `<pod>`, `$POD`, `{{pod}}`, `your-org`",
        "an input in the front matter",
    ),
    rule(
        "no-verification",
        Note,
        "a runbook that changes something and never looks whether that helped",
        "a section Verification, or `verify=`",
    ),
    rule(
        "write-without-verify",
        Warning,
        "a step with attributes that changes something and has no `verify`",
        "`verify=\"ratio < 0.01 within 10m hold 2m\"`",
    ),
    rule("risk-without-rollback", Warning, "a risk of medium or more, and no way back", "`rollback=name` and a step with `only=rollback`"),
    rule("unknown-attribute", Warning, "an attribute that nobody reads", "the attribute that was meant"),
    rule("unknown-action", Error, "an action that does not exist, or a body that is not one action", "one of the actions there are"),
    rule(
        "action-arguments",
        Error,
        "an argument that the action does not take, or one that it needs and does not get",
        "the arguments of the action",
    ),
    rule("unknown-metric", Warning, "a query that asks for samples which nobody collects", "a metric that is there"),
    rule("unknown-alert", Warning, "an alert under `match.alerts` that no rule has", "the name of a rule"),
    rule(
        "alert-without-runbook",
        Error,
        "an alert that no runbook answers to",
        "`runbook:` in the rule's annotations, or `match.alerts` in a runbook",
    ),
    rule("dead-link", Warning, "a link to a heading or a file that is not there", "where the text went"),
    rule("command-in-the-text", Note, "a command that stands in the text: it is not a step and nobody can run it", "a block: ```bash"),
];

/// The weight of a rule.
pub(super) fn weight(id: &str) -> Weight {
    RULES.iter().find(|rule| rule.id == id).map_or(Weight::Error, |rule| rule.weight)
}
