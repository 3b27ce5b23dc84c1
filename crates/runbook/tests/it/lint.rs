//! Dangers and mistakes, each with the rule that names it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use paramedic_runbook::lint::{Known, KnownAction, RULES, Weight, lint_alerts, lint_with};
use paramedic_runbook::{Finding, lint, parse};

/// The rules that speak up about one line of a block under Resolution, those about its surroundings left out.
fn rules(line: &str) -> Vec<String> {
    lint(&parse(&document(line), "test.md")).into_iter().map(|finding| finding.rule).collect()
}

/// A line is one of the shell, unless a language and a bar stand before it.
fn document(line: &str) -> String {
    let (language, line) = match line.split_once('|') {
        Some((language, rest)) if ["sql", "redis", "kubectl", "http"].contains(&language) => (language, rest),
        _ => ("bash", line),
    };
    format!("# Test\n## Resolution\n```{language}\n{line}\n```\n## Verification\n- [ ] it works\n")
}

/// A line and the rules that name it. Every rule about command lines has one that is named and one that looks like it and is not.
const LINES: &[(&str, &[&str])] = &[
    ("kubectl get pods", &[]),
    ("tail -f x.log", &["never-ends"]),
    ("tail -n 20 x.log", &[]),
    ("kubectl logs -f pod", &["never-ends"]),
    ("kubectl|logs -f pod", &["never-ends"]),
    ("kubectl logs pod --tail=5", &[]),
    ("watch -n 5 'kubectl get pods'", &["never-ends"]),
    ("vmstat 1", &["never-ends"]),
    ("top -b -n 1", &[]),
    ("kubectl edit cm x", &["waits-for-a-person"]),
    ("kubectl exec -it p -- ls", &["waits-for-a-person"]),
    ("psql", &["waits-for-a-person"]),
    ("redis-cli", &["waits-for-a-person"]),
    ("psql -c 'SELECT 1'", &[]),
    ("sudo systemctl restart x", &["sudo-asks"]),
    ("sudo -n systemctl restart x", &[]),
    ("curl http://x/health", &["no-time-limit"]),
    ("curl -m 5 http://x/health", &[]),
    ("wget -qO- http://x", &["no-time-limit"]),
    ("ssh web1 uptime", &["no-time-limit"]),
    ("ssh -o ConnectTimeout=5 web1 uptime", &[]),
    ("kubectl rollout status deploy/x", &["no-time-limit"]),
    ("kubectl rollout status deploy/x --timeout=60s", &[]),
    ("cat <<EOF\nrm -rf /\nEOF", &["here-document"]),
    ("cat < file", &[]),
    ("import gc", &["not-a-shell-program"]),
    ("convert import gc", &[]),
    ("curl -m 5 http://p:9090/api/v1/query?query=rate(x[5m])", &["shell-syntax"]),
    ("curl -m 5 'http://p:9090/api/v1/query?query=rate(x[5m])'", &[]),
    ("pkill -HUP daemon", &["kill-by-pattern"]),
    ("killall node", &["kill-by-pattern"]),
    ("kill $(pgrep -f agent)", &["kill-by-pattern"]),
    ("pkill -9 -f daemon", &["kill-by-pattern", "kill-without-asking"]),
    ("grep killed x.log", &[]),
    ("kill -9 4711", &["kill-without-asking"]),
    ("kill -TERM 4711", &[]),
    ("kubectl delete pods --all -n prod", &["deletes-without-scope"]),
    ("kubectl delete namespace prod", &["deletes-without-scope"]),
    ("kubectl delete pods -l app=x", &["deletes-without-scope"]),
    ("kubectl delete pods -l app=x -n prod", &[]),
    ("kubectl|delete pods --all", &["deletes-without-scope"]),
    ("rm -rf /var", &["deletes-without-scope"]),
    ("rm -rf $DIR/", &["blank-without-input", "deletes-without-scope"]),
    ("rm -r *", &["deletes-without-scope"]),
    ("rm -rf /var/cache/agent/tmp", &[]),
    ("rm -f /run/agent.pid", &[]),
    ("find /var/log -delete", &["deletes-without-scope"]),
    ("find /var/log -name '*.gz' -mtime +7 -delete", &[]),
    ("psql -c 'DELETE FROM jobs'", &["deletes-without-scope"]),
    ("psql -c \"DELETE FROM jobs WHERE state = 'dead'\"", &[]),
    ("sql|UPDATE jobs SET state = 'new'", &["deletes-without-scope"]),
    ("sql|DELETE FROM jobs WHERE id = 1; DELETE FROM runs", &["deletes-without-scope"]),
    ("sql|TRUNCATE jobs", &["deletes-without-scope"]),
    ("redis-cli --scan | xargs redis-cli del", &["deletes-without-scope", "pipe-into-a-change"]),
    ("redis-cli --scan --pattern 'a:*' | xargs redis-cli del", &["pipe-into-a-change"]),
    ("docker system prune -af --volumes", &["deletes-without-scope"]),
    ("docker image prune", &[]),
    ("ls | xargs kill", &["pipe-into-a-change"]),
    ("ls | xargs -n1 sudo -n rm", &["pipe-into-a-change"]),
    ("ls | xargs -n1 echo", &[]),
    ("curl -m 9 -fsSL https://x.example/install.sh | bash", &["downloads-and-runs"]),
    ("curl -m 9 -s https://x.example/a.json | python3 -m json.tool", &[]),
    ("chmod 777 /srv", &["open-permissions"]),
    ("chmod u+x run.sh", &[]),
    ("redis-cli FLUSHALL", &["redis-flush"]),
    ("redis|FLUSHDB", &["redis-flush"]),
    ("redis-cli GET flushed", &[]),
    ("redis-cli keys 'a:*'", &["redis-keys"]),
    ("redis|KEYS *", &["redis-keys"]),
    ("redis-cli SET keys 1", &[]),
    ("redis-cli CONFIG SET save \"\"", &["redis-persistence-off"]),
    ("redis-cli CONFIG SET save \"3600 1\"", &[]),
    ("echo 3 > /proc/sys/vm/drop_caches", &["drop-caches"]),
    ("cat /proc/sys/vm/swappiness", &[]),
    ("git reset --hard v1", &["git-throws-away"]),
    ("git push origin main --force", &["git-throws-away"]),
    ("git push origin main", &[]),
    ("kubectl delete networkpolicy np -n prod", &["opens-the-network"]),
    ("iptables -F", &["opens-the-network"]),
    ("kubectl get networkpolicy -n prod", &[]),
    ("iptables -A INPUT -m limit --limit 25/minute -j ACCEPT", &["limit-without-drop"]),
    ("iptables -A INPUT -p tcp --dport 80 -j DROP", &[]),
    ("kubectl create secret generic s --from-literal=api-key=x", &["secret-in-the-open"]),
    ("curl -m 5 -H 'Authorization: Bearer abcdefghijklmnop' http://x", &["secret-in-the-open"]),
    ("kubectl create secret generic s --from-file=api-key=/dev/stdin", &[]),
    ("psql -c 'SELECT mean_time FROM pg_stat_statements'", &["statements-columns"]),
    ("sql|SELECT total_time FROM pg_stat_statements", &["statements-columns"]),
    ("psql -c 'SELECT mean_exec_time FROM pg_stat_statements'", &[]),
    ("sql|SELECT procpid, current_query FROM pg_stat_activity WHERE waiting", &["activity-columns"]),
    ("sql|SELECT pid, query FROM pg_stat_activity WHERE wait_event IS NOT NULL", &[]),
    ("psql -c 'ALTER SYSTEM SET max_connections = 200'", &["alter-system"]),
    ("psql -c 'ALTER SYSTEM SET work_mem = 1; SELECT pg_reload_conf();'", &["alter-system"]),
    ("psql -c 'ALTER SYSTEM SET work_mem = 1'", &[]),
    ("psql -c 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity'", &["terminates-unseen"]),
    ("psql -c 'SELECT pg_terminate_backend(4711)'", &[]),
    ("curl -m 5 -X POST http://am:9093/api/v1/silences", &["removed-api"]),
    ("curl -m 5 http://alertmanager/api/v1/alerts", &["removed-api"]),
    ("curl -m 5 http://am:9093/api/v2/alerts", &[]),
    ("kubectl drain n1 --delete-local-data --timeout=5m", &["removed-option"]),
    ("kubectl drain n1 --delete-emptydir-data --timeout=5m", &[]),
    ("promtool query instant 'up'", &["query-without-server"]),
    ("promtool query instant http://p 'up'", &[]),
    ("promtool query instant http://p 'rate(cost[1h]) * 24'", &["rate-is-per-second"]),
    ("promtool query instant http://p 'rate(cost[1h]) * 86400'", &[]),
    ("promtool query instant http://p 'rate(agent_errors_total[5m]) / rate(agent_requests_total[5m])'", &["ratio-of-unlike-labels"]),
    ("promtool query instant http://p 'sum(rate(agent_errors_total[5m])) / sum(rate(agent_requests_total[5m]))'", &[]),
    ("kill -TERM <agent_pid>", &["blank-without-input"]),
    ("docker pull ghcr.io/your-org/agent:1", &["blank-without-input"]),
    ("kubectl get pod {{pod}}", &["blank-without-input"]),
    ("kubectl get pod pod-1", &[]),
];

/// A document, what is known beside it, and the rules that name something in it. The second of each pair looks like the first
/// and is right.
fn documents() -> Vec<(&'static str, Known, &'static [&'static str])> {
    let actions = vec![KnownAction::new("service.restart", &["manager", "name"], &[])];
    let known = |actions: &[KnownAction], metrics: &[&str], alerts: &[&str]| Known {
        actions: actions.to_vec(),
        metrics: metrics.iter().map(|one| (*one).to_owned()).collect(),
        alerts: alerts.iter().map(|one| (*one).to_owned()).collect(),
        base: None,
    };
    let none = Known::default;
    let action = |body: &str| -> &'static str {
        Box::leak(format!("# T\n## Investigation\n```action {{ name=a }}\n{body}\n```\n## Verification\n").into_boxed_str())
    };
    let step = |attributes: &str| -> &'static str {
        Box::leak(format!("# T\n## Resolution\n```kubectl {{ {attributes} }}\nscale deploy x --replicas=2\n```\n```kubectl {{ name=back only=rollback }}\nscale deploy x --replicas=1\n```\n## Verification\n").into_boxed_str())
    };
    vec![
        ("---\nid: [\n---\n# A\n## Resolution\n```sh\nls\n```\n## Verification\n", none(), &["unreadable"]),
        (step("name=a risk=low verify=\"x <\""), none(), &["unreadable"]),
        (step("name=a risk=low verify=\"x < 1 within 5m\""), none(), &[]),
        (step("name=a risk=low"), none(), &["write-without-verify"]),
        (step("name=a risk=high verify=\"x < 1 within 5m\""), none(), &["risk-without-rollback"]),
        (step("name=a risk=high rollback=back verify=\"x < 1 within 5m\""), none(), &[]),
        (step("name=a risk=low verfy=\"x < 1 within 5m\" verify=\"x < 1 within 5m\""), none(), &["unknown-attribute"]),
        ("# T\n## Investigation\n```bash\nkubectl cordon n1\n```\n## Verification\n", none(), &["change-while-looking"]),
        (
            "# T\n## Investigation\n```bash\nkubectl get nodes\n```\n## Resolution\n```bash\nkubectl cordon n1\n```\n",
            none(),
            &["no-verification"],
        ),
        (
            "# T\n## Investigation\n```bash\nkubectl get nodes\n```\n## Resolution\n```bash\nkubectl cordon n1\n```\n## Verification\n",
            none(),
            &[],
        ),
        (action("service.restrat: { manager: systemd, name: x }"), known(&actions, &[], &[]), &["change-while-looking", "unknown-action"]),
        (
            action("service.restart: { manager: systemd, unit: x }"),
            known(&actions, &[], &[]),
            &["action-arguments", "action-arguments", "change-while-looking"],
        ),
        (action("service.restart: { manager: systemd, name: x }"), known(&actions, &[], &[]), &["change-while-looking"]),
        (action("service.restrat: {}"), none(), &["change-while-looking"]),
        (
            "# T\n## Investigation\n```promql\nsum by (job) (rate(up_total{a=\"b\"}[5m])) / scalar(jobs) > bool 1\n```\n## Resolution\n",
            known(&[], &["up_total"], &[]),
            &["unknown-metric"],
        ),
        (
            "# T\n## Investigation\n```promql\nhistogram_quantile(0.9, sum by (le) (rate(wait_bucket{job=~\"x|y\"}[5m] offset 1d))) and on (job) up == 1e3\n```\n## Resolution\n",
            known(&[], &["up", "wait"], &[]),
            &[],
        ),
        (
            "---\nmatch: { alerts: [HighErorRate] }\n---\n# T\n## Investigation\n```sh\nls\n```\n",
            known(&[], &[], &["HighErrorRate"]),
            &["unknown-alert"],
        ),
        ("---\nmatch: { alerts: [HighErrorRate] }\n---\n# T\n## Investigation\n```sh\nls\n```\n", known(&[], &[], &["HighErrorRate"]), &[]),
        ("# T\nSee [there](#nowhere).\n## Investigation\n```sh\nls\n```\n", none(), &["dead-link"]),
        ("# T\nSee [there](#common-causes--more).\n## Investigation\n```sh\nls\n```\n## Common Causes & More\n", none(), &[]),
        (
            "# T\n\nFirst: look.\n\ngit reset --hard abc\n\n## Investigation\n```sh\nls\n```\n",
            none(),
            &["command-in-the-text", "git-throws-away"],
        ),
        ("# T\n\ngit is a tool, and git reset --hard is one of its commands.\n## Investigation\n```sh\nls\n```\n", none(), &[]),
        ("# T\n\nThe password is password=hunter22 for now.\n## Investigation\n```sh\nls\n```\n", none(), &["secret-in-the-open"]),
    ]
}

fn named(findings: &[Finding]) -> Vec<&str> {
    let mut names: Vec<&str> = findings.iter().map(|finding| finding.rule.as_str()).collect();
    names.sort_unstable();
    names
}

#[test]
fn every_danger_is_named() {
    for (line, expect) in LINES {
        assert_eq!(rules(line), *expect, "{line}");
    }
    for (text, known, expect) in documents() {
        assert_eq!(named(&lint_with(&parse(text, "t.md"), &known)), expect, "{text}");
    }
}

#[test]
fn every_rule_names_something_and_leaves_something_alone() {
    let mut fired: BTreeMap<String, usize> = BTreeMap::new();
    let mut all: Vec<Finding> = LINES.iter().flat_map(|(line, _)| lint(&parse(&document(line), "t.md"))).collect();
    all.extend(documents().into_iter().flat_map(|(text, known, _)| lint_with(&parse(text, "t.md"), &known)));
    all.extend(lint_alerts(&[("A".to_owned(), None)], &[]));
    for finding in &all {
        let rule = RULES.iter().find(|rule| rule.id == finding.rule).unwrap_or_else(|| panic!("{} is in no list", finding.rule));
        assert_eq!(rule.weight, finding.weight, "{}", finding.rule);
        *fired.entry(finding.rule.clone()).or_default() += 1;
    }
    let silent: Vec<&str> = RULES.iter().map(|rule| rule.id).filter(|id| !fired.contains_key(*id)).collect();
    assert!(silent.is_empty(), "nothing here shows {silent:?}");
    let total = LINES.len() + documents().len();
    assert!(fired.values().all(|count| *count < total), "a rule that names everything says nothing");
    let ids: BTreeSet<&str> = RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(ids.len(), RULES.len(), "no rule is there twice");
    assert!(RULES.iter().all(|rule| rule.what.len() > 20 && rule.safer.len() > 8));
}

#[test]
fn what_stands_around_is_looked_at_too() {
    let text = "# T\nSee [there](#nowhere) and [here](#t).\n## Investigation\n```bash\nkubectl cordon n1\n```\n";
    let findings = lint(&parse(text, "t.md"));
    let found: Vec<_> = findings.iter().map(|finding| (finding.rule.as_str(), finding.line)).collect();
    assert_eq!(found, [("no-verification", 1), ("dead-link", 2), ("change-while-looking", 5)]);
}

#[test]
fn inputs_and_captures_fill_blanks_and_earlier_lines_set_variables() {
    let text = "---\ninputs: { node: { required: true }, pod_name: { required: true } }\n---\n# T\n## Investigation\n```bash\nPOD=$(kubectl get pods -o name)\nkubectl describe $POD\nkubectl describe node $node\nkubectl describe pod <pod-name>\n```\n```bash { name=find capture=\"IMAGE=stdout\" }\ncat image\n```\n```bash { name=use }\nls \"$IMAGE\"\n```\n";
    assert_eq!(lint(&parse(text, "t.md")), []);
}

#[test]
fn files_that_links_name_must_be_there() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("other.md"), "# Other\n## Fix it\n").expect("writes");
    let text = "# T\n[a](other.md) [b](other.md#fix-it) [c](other.md#gone) [d](gone.md) [e](https://x.example/gone.md) [f](/abs) [g](mailto:a@b.example)\n## Investigation\n```sh\nls\n```\n";
    let known = Known { base: Some(folder.path().to_owned()), ..Known::default() };
    let found = lint_with(&parse(text, "t.md"), &known);
    let found: Vec<&str> = found.iter().map(|finding| finding.text.as_str()).collect();
    assert_eq!(found, ["gone.md", "other.md#gone"]);
    assert_eq!(lint(&parse(text, "t.md")), []);
}

#[test]
fn an_alert_without_a_runbook_is_an_error() {
    let text = "---\nid: queue\nmatch: { alerts: [QueueFull] }\n---\n# T\n## Investigation\n```sh\nls\n```\n";
    let document = parse(text, "t.md");
    let alerts = [
        ("QueueFull", None),
        ("ByName", Some("queue")),
        ("Elsewhere", Some("https://runbooks.example/x")),
        ("Wrong", Some("queues")),
        ("Alone", None),
    ]
    .map(|(alert, runbook)| (alert.to_owned(), runbook.map(str::to_owned)));
    let runbooks: Vec<_> = document.runbooks.iter().collect();
    let found = lint_alerts(&alerts, &runbooks);
    let named: Vec<_> = found.iter().map(|finding| (finding.text.as_str(), finding.weight, finding.instead.contains("queue"))).collect();
    assert_eq!(named, [("Wrong", Weight::Error, true), ("Alone", Weight::Error, false)]);
}

#[test]
fn every_finding_says_why_and_what_instead_and_shows_no_secret() {
    for (line, _) in LINES {
        for finding in lint(&parse(&document(line), "t.md")) {
            assert!(finding.why.len() > 10 && finding.instead.len() > 2, "{finding:?}");
            assert!(!finding.text.contains("abcdefghijklmnop"), "{finding:?}");
        }
    }
}

/// Lines of public documents that a person found dangerous or wrong, with the rule that has to name each. The documents are not
/// ours to keep.
#[test]
fn the_dangers_of_the_public_documents_are_named() {
    let data = std::env::var_os("PARAMEDIC_SHARED_DATA").map(PathBuf::from);
    let sources = data.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data")).join("../sources");
    if !sources.is_dir() {
        eprintln!("skipped: no {} beside the project", sources.display());
        return;
    }
    let mut found: BTreeSet<(String, String)> = BTreeSet::new();
    for entry in std::fs::read_dir(sources).expect("lists").flatten() {
        let name = entry.file_name().to_string_lossy()[..3].to_owned();
        let document = parse(&String::from_utf8_lossy(&std::fs::read(entry.path()).expect("reads")), &name);
        for finding in lint(&document) {
            assert!(!finding.instead.is_empty(), "{name}: {finding:?}");
            found.insert((format!("{name}:{}", finding.line), finding.rule));
        }
    }
    let table = include_str!("fixtures/public-dangers.table");
    let expect = table.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_once(' ').expect("a place and its rule"));
    let missing: Vec<_> = expect.clone().filter(|(place, rule)| !found.contains(&((*place).to_owned(), (*rule).to_owned()))).collect();
    assert!(missing.is_empty(), "nobody names {missing:?}");
    assert!(expect.count() >= 40);
}
