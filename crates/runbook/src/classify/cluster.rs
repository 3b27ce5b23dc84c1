//! Containers, clusters and clouds.

use super::{Arguments, Judgement};

pub(super) fn judge(program: &str, arguments: &Arguments<'_>) -> Option<Judgement> {
    Some(match program {
        "kubectl" | "oc" | "k" => kubectl(arguments),
        "docker" | "podman" | "nerdctl" | "crictl" => docker(arguments),
        "docker-compose" => compose(arguments, 1),
        "helm" => helm(arguments),
        "aws" => aws(arguments),
        "gcloud" | "az" => cloud(program, arguments),
        "terraform" | "tofu" => terraform(arguments),
        _ => return None,
    })
}

/// Options of kubectl that take the next word.
const KUBECTL_VALUED: &[&str] = &[
    "-n",
    "--namespace",
    "-l",
    "--selector",
    "-o",
    "--output",
    "-c",
    "--container",
    "-f",
    "--filename",
    "--context",
    "--cluster",
    "--kubeconfig",
    "-p",
    "--patch",
    "--type",
    "--tail",
    "--since",
    "--since-time",
    "--sort-by",
    "--field-selector",
    "--replicas",
    "--timeout",
    "--revision",
    "--to-revision",
    "--grace-period",
    "-k",
    "--kustomize",
    "-L",
    "--as",
    "--request-timeout",
    "--user",
    "--token",
    "--server",
    "-s",
    "--image",
    "--template",
    "-v",
    "--max",
    "--min",
    "--cpu-percent",
];

/// The effect of a kubectl command line.
pub(super) fn kubectl(arguments: &Arguments<'_>) -> Judgement {
    let plain = arguments.plain(KUBECTL_VALUED);
    let (verb, second) = (plain.first().copied().unwrap_or_default(), plain.get(1).copied().unwrap_or_default());
    if let Some("client" | "server") = arguments.value_of(&["--dry-run"]) {
        return Judgement::reads();
    }
    let watches = arguments.has(&["--watch", "--watch-only"]) || (verb == "get" && arguments.has(&["-w"]));
    match verb {
        "get" | "describe" | "explain" | "api-resources" | "api-versions" | "version" | "cluster-info" | "diff" | "events" | ""
        | "options" | "wait" | "completion" => Judgement::reads().or_endless(watches, "watches for ever"),
        "top" => Judgement::reads(),
        "logs" => {
            let follows = arguments.has_letter('f') && !arguments.has(&["--follow=false"]) || arguments.has(&["--follow"]);
            Judgement::reads().or_endless(follows, "follows the log for ever")
        }
        "rollout" if ["history", "status"].contains(&second) => Judgement::reads(),
        "auth" if ["can-i", "whoami"].contains(&second) => Judgement::reads(),
        "config" if ["view", "get-contexts", "current-context", "get-clusters"].contains(&second) => Judgement::reads(),
        "exec" => exec(arguments, KUBECTL_VALUED),
        "debug" | "attach" => Judgement::writes(format!("`kubectl {verb}` enters a container")).waits("opens a terminal for a person"),
        "edit" => Judgement::writes("changes an object").waits("an editor waits for a person"),
        "port-forward" | "proxy" => Judgement::reads().endless("forwards until a person stops it"),
        "delete" => Judgement::destroys(format!("deletes {}", if second.is_empty() { "objects" } else { second })),
        "drain" => Judgement::destroys("evicts every pod of the node"),
        "replace" if arguments.has(&["--force"]) => Judgement::destroys("deletes the object and makes it anew"),
        "rollout" | "config" | "auth" | "set" => Judgement::writes(format!("`kubectl {verb} {second}` changes the cluster")),
        _ => Judgement::writes(format!("`kubectl {verb}` changes the cluster")),
    }
}

/// `exec … -- command`, or the older form without dashes.
fn exec(arguments: &Arguments<'_>, valued: &[&str]) -> Judgement {
    let terminal = arguments.has(&["--tty", "--stdin"])
        || arguments.rest().take_while(|word| *word != "--").any(|word| {
            let cluster = word.strip_prefix('-').filter(|letters| !letters.starts_with('-')).unwrap_or_default();
            !cluster.is_empty() && cluster.chars().all(|letter| letter == 'i' || letter == 't')
        });
    let inner = match arguments.behind_dashes() {
        Some(inner) => Some(inner),
        None => {
            // exec [options] NAME COMMAND…: the command begins behind the second plain word.
            let plain = arguments.plain(valued);
            plain.get(2).and_then(|command| {
                let at = arguments.words.iter().rposition(|word| word.text == *command && !word.text.starts_with('-'))?;
                let first = arguments.words.iter().position(|word| word.text == *command).unwrap_or(at);
                Some(arguments.skip(first))
            })
        }
    };
    let mut judged = match inner {
        Some(inner) if !inner.words.is_empty() => inner.judge_inner(),
        _ => Judgement::writes("opens a shell in a container").waits("opens a shell for a person"),
    };
    if terminal && judged.interactive.is_none() {
        judged = judged.waits("`-it` asks for a terminal, which nobody sits at");
    }
    judged
}

const DOCKER_VALUED: &[&str] =
    &["-f", "--filter", "--format", "-n", "--tail", "--since", "--until", "-u", "--user", "-w", "-e", "--env", "-H", "--context"];

fn docker(arguments: &Arguments<'_>) -> Judgement {
    let plain = arguments.plain(DOCKER_VALUED);
    let (verb, second) = (plain.first().copied().unwrap_or_default(), plain.get(1).copied().unwrap_or_default());
    let looks_inside = ["container", "image", "volume", "network", "system", "node", "service", "stack"];
    if looks_inside.contains(&verb) {
        return match second {
            "ls" | "list" | "inspect" | "df" | "info" | "ps" | "history" | "top" | "logs" | "stats" => Judgement::reads(),
            "prune" | "rm" | "remove" => Judgement::destroys(format!("`docker {verb} {second}` removes things")),
            _ => Judgement::writes(format!("`docker {verb} {second}` changes things")),
        };
    }
    match verb {
        "ps" | "images" | "inspect" | "version" | "info" | "top" | "port" | "diff" | "history" | "search" | "pods" => Judgement::reads(),
        "logs" => Judgement::reads().or_endless(arguments.has_letter('f') || arguments.has(&["--follow"]), "follows the log for ever"),
        "stats" => Judgement::reads().or_endless(!arguments.has(&["--no-stream"]), "`docker stats` without --no-stream goes on for ever"),
        "events" => Judgement::reads().or_endless(!arguments.has(&["--until"]), "listens for ever"),
        "exec" => exec(arguments, DOCKER_VALUED),
        "compose" => compose(arguments, 2),
        "rm" | "rmi" | "kill" => Judgement::destroys(format!("`docker {verb}` cannot be undone")),
        "attach" | "login" => Judgement::writes("enters a container").waits("waits for a person"),
        _ => Judgement::writes(format!("`docker {verb}` changes containers or images")),
    }
}

fn compose(arguments: &Arguments<'_>, skip: usize) -> Judgement {
    let plain = arguments.plain(&["-f", "--file", "-p", "--project-name", "--env-file", "--profile", "--tail"]);
    let verb = plain.get(skip - 1).copied().unwrap_or_default();
    match verb {
        "ps" | "config" | "images" | "ls" | "top" | "version" | "port" => Judgement::reads(),
        "logs" => Judgement::reads().or_endless(
            arguments.has(&["--follow"]) || arguments.rest().skip_while(|word| *word != "logs").any(|word| word == "-f"),
            "follows the log for ever",
        ),
        "down" if arguments.has(&["-v", "--volumes"]) => Judgement::destroys("removes containers and their volumes"),
        "rm" | "kill" => Judgement::destroys(format!("`compose {verb}` cannot be undone")),
        _ => Judgement::writes(format!("`compose {verb}` changes containers")),
    }
}

fn helm(arguments: &Arguments<'_>) -> Judgement {
    let plain = arguments.plain(&["-n", "--namespace", "-f", "--values", "--set", "--kube-context"]);
    match plain.first().copied() {
        Some("list" | "ls" | "get" | "status" | "history" | "show" | "search" | "template" | "version" | "lint" | "env") => {
            Judgement::reads()
        }
        Some("uninstall" | "delete") => Judgement::destroys("removes a release"),
        _ if arguments.has(&["--dry-run"]) => Judgement::reads(),
        Some(verb) => Judgement::writes(format!("`helm {verb}` changes a release")),
        None => Judgement::reads(),
    }
}

fn aws(arguments: &Arguments<'_>) -> Judgement {
    let plain = arguments.plain(&["--region", "--profile", "--output", "--query", "--endpoint-url"]);
    let operation = plain.get(1).copied().unwrap_or_default();
    let reads = ["describe-", "list-", "get-", "head-", "batch-get-", "lookup-", "filter-", "wait"];
    if reads.iter().any(|prefix| operation.starts_with(prefix)) || operation == "ls" {
        // A secret's value on a screen is a leak, not a look.
        return if operation.starts_with("get-secret") { Judgement::writes("prints a secret") } else { Judgement::reads() };
    }
    if operation.starts_with("delete-") || operation.starts_with("terminate-") || operation == "rm" || operation == "rb" {
        return Judgement::destroys(format!("`aws … {operation}` removes things"));
    }
    Judgement::writes(format!("`aws … {operation}` changes things"))
}

fn cloud(program: &str, arguments: &Arguments<'_>) -> Judgement {
    let plain =
        arguments.plain(&["--project", "--zone", "--region", "--resource-group", "-g", "--name", "-n", "--format", "--output", "-o"]);
    let last = plain.last().copied().unwrap_or_default();
    match last {
        _ if plain.iter().any(|word| ["list", "describe", "show"].contains(word)) && !plain.contains(&"delete") => Judgement::reads(),
        _ if plain.contains(&"delete") => Judgement::destroys(format!("`{program}` deletes things")),
        _ => Judgement::writes(format!("`{program}` may change things")),
    }
}

fn terraform(arguments: &Arguments<'_>) -> Judgement {
    match arguments.plain(&[]).first().copied() {
        Some("plan" | "show" | "output" | "validate" | "version" | "graph" | "providers") => Judgement::reads(),
        Some("destroy") => Judgement::destroys("removes what was built"),
        _ => Judgement::writes("changes what was built"),
    }
}
