//! Dangers and mistakes, each with the rule that names it.

use paramedic_runbook::{lint, parse};

/// The rules that speak up about one shell line under Resolution, those about its surroundings left out.
fn rules(line: &str) -> Vec<String> {
    let text = format!("# Test\n## Resolution\n```bash\n{line}\n```\n## Verification\n- [ ] it works\n");
    lint(&parse(&text, "test.md")).into_iter().map(|finding| finding.rule).collect()
}

#[test]
fn every_danger_is_named() {
    let cases: &[(&str, &[&str])] = &[
        ("kubectl get pods", &[]),
        ("tail -f x.log", &["never-ends"]),
        ("kubectl edit cm x", &["waits-for-a-person"]),
        ("pkill -HUP daemon", &["kill-by-pattern"]),
        ("pkill -9 -f daemon", &["kill-by-pattern", "kill-without-asking"]),
        ("redis-cli FLUSHALL", &["redis-flush"]),
        ("redis-cli keys 'a:*'", &["redis-keys"]),
        ("redis-cli CONFIG SET save \"\"", &["redis-persistence-off"]),
        ("echo 3 > /proc/sys/vm/drop_caches", &["drop-caches"]),
        ("git reset --hard v1", &["git-throws-away"]),
        ("kubectl delete networkpolicy np -n prod", &["opens-the-network"]),
        ("kubectl delete pods --all -n prod", &["deletes-without-scope"]),
        ("psql -c 'DELETE FROM jobs'", &["deletes-without-scope"]),
        ("psql -c 'SELECT mean_time FROM pg_stat_statements'", &["statements-columns"]),
        ("psql -c 'ALTER SYSTEM SET max_connections = 200'", &["alter-system"]),
        ("psql -c 'ALTER SYSTEM SET work_mem = 1; SELECT pg_reload_conf();'", &["alter-system"]),
        ("psql -c 'ALTER SYSTEM SET work_mem = 1'", &[]),
        ("psql -c 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity'", &["terminates-unseen"]),
        ("curl -m 5 -X POST http://am:9093/api/v1/silences", &["removed-api"]),
        ("curl -m 5 http://p:9090/api/v1/query?query=rate(x[5m])", &["shell-syntax"]),
        ("curl -m 5 'http://p:9090/api/v1/query?query=rate(x[5m])'", &[]),
        ("curl http://x/health", &["no-time-limit"]),
        ("promtool query instant 'up'", &["query-without-server"]),
        ("promtool query instant http://p 'rate(cost[1h]) * 24'", &["rate-is-per-second"]),
        ("promtool query instant http://p 'rate(agent_errors_total[5m]) / rate(agent_requests_total[5m])'", &["ratio-of-unlike-labels"]),
        ("ls | xargs kill", &["pipe-into-a-change"]),
        ("kubectl create secret generic s --from-literal=api-key=x", &["secret-in-the-open"]),
        ("iptables -A INPUT -m limit --limit 25/minute -j ACCEPT", &["limit-without-drop"]),
        ("kill -TERM <agent_pid>", &["blank-without-input"]),
        ("import gc", &["not-a-shell-program"]),
    ];
    for (line, expect) in cases {
        assert_eq!(rules(line), *expect, "{line}");
    }
}

#[test]
fn what_stands_around_is_looked_at_too() {
    let text = "# T\nSee [there](#nowhere) and [here](#t).\n## Investigation\n```bash\nkubectl cordon n1\n```\n";
    let findings = lint(&parse(text, "t.md"));
    let found: Vec<_> = findings.iter().map(|finding| (finding.rule.as_str(), finding.line)).collect();
    assert_eq!(found, [("no-verification", 1), ("dead-link", 2), ("change-while-looking", 5)]);
}

#[test]
fn inputs_fill_blanks_and_earlier_lines_set_variables() {
    let text = "---\ninputs: { node: { required: true } }\n---\n# T\n## Investigation\n```bash\nPOD=$(kubectl get pods -o name)\nkubectl describe $POD\nkubectl describe node $node\n```\n";
    assert_eq!(lint(&parse(text, "t.md")), []);
}

#[test]
fn every_finding_says_why_and_what_instead() {
    let text = "# T\n## Resolution\n```bash\nredis-cli FLUSHALL\npkill -9 -f x\n```\n";
    for finding in lint(&parse(text, "t.md")) {
        assert!(finding.why.len() > 10 && finding.instead.len() > 10, "{finding:?}");
    }
}
