//! Command lines and what they would do. Own cases; each line is one that somebody has typed at night.

use paramedic_runbook::classify::{Effect, Verdict, classify};
use paramedic_runbook::shell::parse;

fn verdict(line: &str) -> Verdict {
    let statements = parse(line);
    assert_eq!(statements.len(), 1, "{line}: {statements:?}");
    classify(&statements[0])
}

fn check(effect: Effect, lines: &[&str]) {
    let wrong: Vec<String> = lines
        .iter()
        .filter_map(|line| {
            let found = verdict(line);
            (found.effect != effect).then(|| format!("{line}\n    {:?}: {}", found.effect, found.why))
        })
        .collect();
    assert!(wrong.is_empty(), "not {effect:?}:\n{}", wrong.join("\n"));
}

#[test]
fn looking_is_read() {
    check(
        Effect::Read,
        &[
            "ls -la /var/log",
            "ps aux --sort=-rss | head -20",
            "kill -0 $(cat /run/app.pid) 2>/dev/null && echo up || echo down",
            "curl -s http://localhost:8080/health | jq .status",
            "curl -w '%{time_total}' -o /dev/null -s https://example.com",
            "curl -I https://example.com",
            "curl -sG http://p:9090/api/v1/query --data-urlencode 'query=up'",
            "curl 'http://localhost:9090/api/v1/query?query=increase(x[1h])'",
            "wget -qO- http://localhost/health",
            "kubectl get pods -n prod -o wide",
            "kubectl -n prod logs deploy/api --tail=100 | grep ERROR | sort | uniq -c | sort -nr",
            "kubectl exec -n mon prom-0 -- promtool query instant http://x 'rate(a[5m])'",
            "kubectl exec -it redis-0 -n prod -- redis-cli INFO memory",
            "kubectl exec redis-0 -- redis-cli SLOWLOG GET 10",
            "kubectl rollout history deployment/api",
            "kubectl apply -f x.yaml --dry-run=server",
            "kubectl create secret generic s --from-literal=a=b --dry-run=client -o yaml",
            "docker exec pg psql -U u -d d -c \"SELECT count(*) FROM pg_stat_activity WHERE state = 'active';\"",
            "docker stats --no-stream",
            "docker compose -f x.yml ps",
            "psql -Atc 'select 1'",
            "psql -c 'explain update t set a = 1'",
            "redis-cli -h r -p 6379 ping",
            "redis-cli -n 2 llen queue:pending",
            "redis-cli KEYS 'agent:*'",
            "systemctl status nginx --no-pager",
            "journalctl -u kubelet -n 100",
            "git log --oneline --since='1 hour ago'",
            "git branch",
            "find /var/log -name '*.log' -size +100M",
            "find . -name x -exec grep -l y {} +",
            "awk '$5 > 3 {print $1}' f",
            "sed -n '1,5p' f",
            "sudo -u postgres pg_isready",
            "timeout 5 curl -s http://x",
            "cat f | xargs -n1 echo",
            "nc -zv redis 6379",
            "openssl s_client -connect h:443 </dev/null | openssl x509 -noout -enddate",
            "aws ec2 describe-security-groups --group-ids sg-1",
            "ssh web1 uptime",
            "tar tzf backup.tgz",
            "pm2 list",
            "helm history api",
            "bash -c 'ls; df -h'",
            "top -bn1 | head",
            "command -v \"$program\" || echo none",
        ],
    );
}

#[test]
fn changing_is_write() {
    check(
        Effect::Write,
        &[
            "command rm-like -v x",
            "kubectl rollout undo deployment/api",
            "kubectl scale deploy api --replicas=10",
            "kubectl patch cm c --patch '{\"data\":{}}'",
            "kubectl set env deploy/api A=b",
            "kubectl cordon n1",
            "kubectl edit pvc data",
            "kubectl get secret s -o yaml | kubectl apply -f -",
            "kubectl exec redis-0 -- redis-cli CONFIG SET maxmemory 2gb",
            "kubectl exec p -- sh -c 'echo 1 > /tmp/x'",
            "curl -X POST http://x/flags/f/disable",
            "curl http://x -d '{}'",
            "curl --json '{}' http://x",
            "curl -o out.html http://x",
            "curl -sSL http://x | sh",
            "wget http://x/file",
            "docker restart api",
            "docker compose restart",
            "systemctl restart nginx",
            "pm2 restart all",
            "kill -TERM 12",
            "pkill -HUP -f daemon",
            "echo 3 > /proc/sys/vm/drop_caches",
            "echo x >> f",
            "ls | tee out",
            "sed -i s/a/b/ f",
            "awk '{print > \"out\"}' f",
            "awk 'BEGIN{system(\"rm x\")}'",
            "sort -o f f",
            "uniq a b",
            "redis-cli SET a 1 EX 60",
            "psql -c \"ALTER SYSTEM SET max_connections = 200\"",
            "psql -c \"SELECT pg_terminate_backend(pid) FROM pg_stat_activity\"",
            "psql -c 'with x as (delete from t returning 1) select * from x'",
            "psql -f x.sql",
            "python scripts/check.py status",
            "uv run python x.py",
            "./restart.sh",
            "some-tool-nobody-knows --help-me",
            "$TOOL --list",
            "eval \"$CMD\"",
            "bash -c \"$CMD\"",
            "ssh web1 'systemctl restart x'",
            "ssh web1",
            "watch -n 5 'kubectl rollout restart deploy x'",
            "find . -name x -exec touch {} +",
            "cat f | xargs kill",
            "sudo sysctl -w vm.x=1",
            "git pull",
            "git -c core.pager=x log",
            "crontab -e",
            "env A=1 ./x",
            "aws secretsmanager get-secret-value --secret-id x",
            "ss -K dst 1.2.3.4",
            "dmesg -C",
            "X=$(touch y)",
            "echo 'unclosed",
        ],
    );
}

#[test]
fn losing_is_destroy() {
    check(
        Effect::Destroy,
        &[
            "rm -f /run/app.pid",
            "pkill -9 -f daemon",
            "kill -9 12",
            "redis-cli FLUSHALL",
            "redis-cli DEL agent:1:events",
            "redis-cli --scan --pattern 'a:*' | xargs redis-cli DEL",
            "kubectl delete pod redis-0",
            "kubectl drain n1 --ignore-daemonsets",
            "psql -c 'DROP TABLE x'",
            "psql -c 'select 1; delete from t'",
            "git reset --hard HEAD~1",
            "git clean -fdx",
            "git push --force",
            "curl -X DELETE http://x/y",
            "docker system prune -af",
            "docker compose down -v",
            "find . -mtime +7 -delete",
            "find . -exec rm {} +",
            "truncate -s 0 f",
            "dd if=/dev/zero of=/dev/sda",
            "echo $(rm x)",
            "ls && sudo rm -rf /",
            "for f in *; do rm \"$f\"; done",
            "terraform destroy",
            "reboot",
        ],
    );
}

#[test]
fn what_never_ends_is_said() {
    for line in [
        "tail -f x.log",
        "tail -F x.log | grep stuck",
        "kubectl logs -f pod -n prod",
        "kubectl get pods -w",
        "watch -n 5 'kubectl get pods'",
        "vmstat 1",
        "ping example.com",
        "top",
        "docker stats",
        "journalctl -fu kubelet",
        "redis-cli MONITOR",
        "kubectl port-forward svc/x 8080:80",
        "docker compose logs -f",
    ] {
        assert!(verdict(line).never_ends.is_some(), "{line}");
    }
    for line in
        ["vmstat 1 5", "tail -100 f", "ping -c 3 h", "timeout 5 tail -f x", "kubectl logs pod --tail=5 -n f", "docker logs --tail 5 x"]
    {
        assert_eq!(verdict(line).never_ends, None, "{line}");
    }
}

#[test]
fn what_waits_for_a_person_is_said() {
    for line in [
        "ssh host",
        "kubectl edit cm x",
        "kubectl exec -it p -- bash",
        "open http://x",
        "psql",
        "redis-cli",
        "vim f",
        "less f",
        "claude",
        "cat",
    ] {
        assert!(verdict(line).interactive.is_some(), "{line}");
    }
    for line in ["ssh host uptime", "psql -c 'select 1'", "kubectl exec p -- ls", "cat f", "ls | cat"] {
        assert_eq!(verdict(line).interactive, None, "{line}");
    }
}

#[test]
fn what_must_be_filled_in_is_named() {
    let cases: &[(&str, &[&str])] = &[
        ("kill -TERM <agent_pid>", &["agent_pid"]),
        ("kubectl cordon ${NODE_NAME}", &["NODE_NAME"]),
        ("redis-cli DEL agent:<agent_id>:events stream:<agent_id>", &["agent_id"]),
        ("A=1; echo $A $HOME", &[]),
        ("kubectl logs $POD -n $NS", &["POD", "NS"]),
    ];
    for (line, expect) in cases {
        assert_eq!(verdict(line).placeholders, *expect, "{line}");
    }
}

proptest::proptest! {
    /// Whatever is put around it, a command that destroys is never taken for one that reads.
    #[test]
    fn wrapping_hides_nothing(wrappers in proptest::collection::vec(0..9usize, 0..5)) {
        let mut line = "rm -rf x".to_owned();
        for wrapper in wrappers {
            line = match wrapper {
                0 => format!("sudo {line}"),
                1 => format!("timeout 5 {line}"),
                2 => format!("nice -n 5 {line}"),
                3 => format!("env A=1 {line}"),
                4 => format!("nohup {line}"),
                5 => format!("true && {line}"),
                6 => format!("ls | xargs {line}"),
                7 => format!("kubectl exec p -- {line}"),
                _ => format!("echo $({line})"),
            };
        }
        proptest::prop_assert!(verdict(&line).effect > Effect::Read, "{line}");
    }
}
