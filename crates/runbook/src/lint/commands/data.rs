//! Commands that lose what is kept: files, rows, keys, commits, rules.

use super::{Look, Saying, has_word, say, say_if};
use crate::document::Executor;

pub(super) fn deletes_without_scope(look: &Look<'_>) -> Option<Saying> {
    let all = [
        (kubectl_all(look), "nothing says how many objects go", "names or a label, a namespace, and `kubectl get` with the same before it"),
        (
            tree(look),
            "takes away a whole tree, or whatever the variable holds at that moment",
            "the one folder by its full name, after `ls` of it",
        ),
        (rows(look), "takes every row of the table", "a WHERE, after `SELECT count(*)` with the same"),
        (keys(look), "takes every key of that Redis", "the action `redis.delete` with a pattern and a `max`: it counts first"),
        (containers(look), "takes away what nobody has looked at", "names, after listing them with the same filter"),
    ];
    let (_, why, instead) = all.into_iter().find(|(holds, _, _)| *holds)?;
    say(why, instead)
}

fn kubectl_all(look: &Look<'_>) -> bool {
    look.calls("kubectl").chain(look.calls("oc")).any(|words| {
        let Some(at) = words.iter().position(|word| *word == "delete") else { return false };
        let behind = &words[at + 1..];
        let has = |names: &[&str]| words.iter().any(|word| names.contains(word));
        let dry = words.iter().any(|word| word.starts_with("--dry-run"));
        let namespace = behind.first().is_some_and(|kind| ["namespace", "namespaces", "ns"].contains(kind));
        let placed = words.iter().any(|word| word.starts_with("-n") || word.starts_with("--namespace"));
        let wide = has(&["--all", "--all-namespaces", "-A"])
            || (has(&["-l"]) || words.iter().any(|word| word.starts_with("--selector"))) && !placed;
        !dry && (namespace || wide)
    })
}

fn tree(look: &Look<'_>) -> bool {
    let recursive = |words: &[&str]| {
        words.iter().any(|word| word.starts_with('-') && !word.starts_with("--") && word.contains(['r', 'R']) || *word == "--recursive")
    };
    let wide = |target: &str| {
        let path = target.trim_end_matches(['/', '*']);
        // `/`, `/var`, `~`, `.`, `*`, and whatever a variable holds.
        path.is_empty()
            || [".", "..", "~", "./"].contains(&path)
            || path.starts_with('$')
            || path.starts_with('/') && path.matches('/').count() == 1
    };
    let removes = look.calls("rm").any(|words| recursive(&words) && words.iter().skip(1).any(|word| !word.starts_with('-') && wide(word)));
    let finds = look.calls("find").any(|words| {
        words.contains(&"-delete")
            && !words.iter().any(|word| ["-name", "-iname", "-path", "-mtime", "-mmin", "-size", "-newer", "-regex"].contains(word))
    });
    removes || finds
}

fn rows(look: &Look<'_>) -> bool {
    if !look.is_sql() {
        return false;
    }
    look.text.split(';').any(|statement| {
        let unbounded = (has_word(statement, "delete from") || has_word(statement, "update") && has_word(statement, "set"))
            && !has_word(statement, "where");
        unbounded || ["truncate", "drop table", "drop database", "drop schema"].iter().any(|verb| has_word(statement, verb))
    })
}

fn keys(look: &Look<'_>) -> bool {
    let scanned = look.says("--scan") && look.says("xargs") && (has_word(&look.text, "del") || has_word(&look.text, "unlink"));
    let every = !look.says("--pattern") || look.says_any(&["--pattern '*'", "--pattern \"*\"", "--pattern=*"]);
    scanned && every
}

fn containers(look: &Look<'_>) -> bool {
    let docker = look.says_any(&["docker ", "podman "]);
    docker
        && (look.says("system prune") && look.says_any(&["--volumes", " -a", "-af"])
            || look.says("volume prune")
            || look.says_any(&["rm -f $(", "rm $(", "kill $("]))
        || look.says("aws s3 rm") && look.says("--recursive")
}

pub(super) fn redis_flush(look: &Look<'_>) -> Option<Saying> {
    let flushes = look.is_argv_of_redis() && (has_word(&look.text, "flushall") || has_word(&look.text, "flushdb"));
    say_if(
        flushes,
        "removes every key of every user of that Redis, queues and sessions included",
        "delete what is broken by pattern: SCAN, count, then UNLINK in batches; the action `redis.delete` shows the count first",
    )
}

pub(super) fn redis_keys(look: &Look<'_>) -> Option<Saying> {
    let mut words = look.text.split([' ', '\'', '"']).skip_while(|word| !word.ends_with("redis-cli")).skip(1);
    let keys = loop {
        match words.next() {
            Some("-h" | "-p" | "-a" | "-n" | "-u" | "-s" | "--user" | "--pass") => {
                words.next();
            }
            Some(option) if option.starts_with('-') || option.is_empty() => {}
            command => break command == Some("keys"),
        }
    };
    let instead =
        crate::import::bounded(&look.command.text).map_or_else(|| "redis-cli --scan --pattern '...'".to_owned(), |(safer, _)| safer);
    keys.then(|| say("KEYS looks at every key at once and Redis answers nobody meanwhile", instead)).flatten()
}

pub(super) fn redis_persistence_off(look: &Look<'_>) -> Option<Saying> {
    say_if(
        look.says_any(&["config set save \"\"", "config set save ''", "config set appendonly no"]),
        "from now on a restart loses everything, and nothing turns it on again",
        "note the old value (CONFIG GET save) and set it back in the same runbook: the action `redis.config_set` does",
    )
}

pub(super) fn git_throws_away(look: &Look<'_>) -> Option<Saying> {
    let forced = look.calls("git").any(|words| {
        let pushes = words.contains(&"push");
        pushes && words.iter().any(|word| ["-f", "--force", "--mirror", "--delete"].contains(word) || word.starts_with('+'))
    });
    let throws = look.says_any(&[
        "git reset --hard",
        "git clean -f",
        "git clean -df",
        "git clean -xf",
        "git checkout -- .",
        "git checkout .",
        "git restore .",
    ]);
    match (forced, throws) {
        (true, _) => say(
            "takes commits away from everybody who has them",
            "git revert, which adds a commit; or --force-with-lease on a branch of your own",
        ),
        (_, true) => say(
            "throws away what is not committed, also what somebody is working on",
            "refuse on a dirty tree (git status --porcelain), then git revert or a deployment of the old version: the action `git.revert`",
        ),
        _ => None,
    }
}

pub(super) fn opens_the_network(look: &Look<'_>) -> Option<Saying> {
    let policy = look.calls("kubectl").any(|words| {
        words.contains(&"delete")
            && words.iter().any(|word| ["networkpolicy", "networkpolicies", "netpol"].contains(&word.split('/').next().unwrap_or_default()))
    });
    let firewall = look.says_any(&["iptables -f", "iptables --flush", "ufw disable", "systemctl stop firewalld", "setenforce 0"]);
    say_if(
        policy || firewall,
        "opens the network for everything until somebody remembers to close it",
        "the action `kubernetes.network_policy_suspend`, which applies the old one again after `for`; or a policy for the one connection",
    )
}

impl Look<'_> {
    fn is_argv_of_redis(&self) -> bool {
        self.step.executor == Executor::Redis || self.says("redis") || self.says("valkey")
    }
}
