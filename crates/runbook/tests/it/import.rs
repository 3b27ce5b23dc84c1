//! Our files from plain ones: what changes, what stays, and that it is done once.

use std::path::PathBuf;

use paramedic_runbook::import::{Imported, difference, import};
use paramedic_runbook::{Executor, lint, parse};

fn plain() -> Imported {
    import(include_str!("fixtures/plain.md"), "plain.md")
}

/// What holds of every text that is imported.
fn check(text: &str, file: &str) -> Imported {
    let imported = import(text, file);
    let (before, after) = (parse(text, file), parse(&imported.text, file));
    assert!(after.problems.len() <= before.problems.len(), "{file}: {:?}", after.problems);
    assert_eq!(after.runbooks.len(), before.runbooks.len(), "{file}: no runbook comes or goes");
    for (old, new) in before.runbooks.iter().zip(&after.runbooks) {
        assert_eq!(old.causes, lines_of(&old.causes, &new.causes), "{file}: causes stay");
        assert_eq!(old.checks.len(), new.checks.len(), "{file}: boxes stay");
        assert_eq!(old.sections.len(), new.sections.len(), "{file}: sections stay");
        assert_eq!(old.alerts, new.alerts, "{file}: alerts stay");
    }
    let again = import(&imported.text, file);
    assert_eq!(again.text, imported.text, "{file}: the second time changes nothing");
    assert_eq!(again.changes, [], "{file}: and says so");
    assert_eq!(imported.findings_left, lint(&after), "{file}: what is left is what lint says");
    assert_eq!(difference(text, &imported.text).is_empty(), text.lines().eq(imported.text.lines()), "{file}");
    imported
}

/// The new causes on the lines of the old ones.
fn lines_of(old: &[paramedic_runbook::Cause], new: &[paramedic_runbook::Cause]) -> Vec<paramedic_runbook::Cause> {
    let lines = old.iter().map(|cause| cause.line).chain(std::iter::repeat(0));
    new.iter().cloned().zip(lines).map(|(cause, line)| paramedic_runbook::Cause { line, ..cause }).collect()
}

#[test]
fn a_plain_runbook_becomes_ours() {
    let imported = check(include_str!("fixtures/plain.md"), "plain.md");
    assert_eq!(imported.text, include_str!("fixtures/plain.imported.md"));
}

#[test]
fn what_import_says_it_mended_is_mended() {
    let imported = plain();
    let mended = ["never-ends", "redis-keys", "blank-without-input", "shell-syntax", "waits-for-a-person", "not-a-shell-program"];
    let left: Vec<_> = imported.findings_left.iter().filter(|finding| mended.contains(&finding.rule.as_str())).collect();
    assert!(left.is_empty(), "{left:#?}");
    assert!(
        imported.changes.iter().all(|change| change.line > 0 && !change.what.is_empty() && change.why.len() > 10),
        "{:#?}",
        imported.changes
    );
}

#[test]
fn only_what_means_the_same_is_written_in_another_way() {
    let cases: &[(&str, Option<&str>)] = &[
        ("kubectl logs -f $POD -n x", Some("logs --tail=200 --since=10m $POD -n x")),
        ("kubectl logs $POD --follow --tail=100", Some("logs $POD --tail=100")),
        ("kubectl logs -f x | grep ERROR", Some("kubectl logs --tail=200 --since=10m x | grep ERROR")),
        ("tail -f /var/log/a.log", Some("tail -n 200 /var/log/a.log")),
        ("tail -100f a.log", Some("tail -n 100 a.log")),
        ("tail -n 50 -F a.log | grep x", Some("tail -n 50 a.log | grep x")),
        ("watch -n 5 'kubectl get pods'", Some("get pods")),
        ("watch --interval=2 df -h", Some("df -h")),
        ("redis-cli KEYS 'a:*'", Some("redis-cli --scan --pattern 'a:*'")),
        ("redis-cli -h r keys \"a:*\" | wc -l", Some("redis-cli -h r --scan --pattern \"a:*\" | wc -l")),
        ("top", Some("top -b -n 1")),
        ("vmstat 1", Some("vmstat 1 2")),
        ("docker stats", Some("docker stats --no-stream")),
        ("journalctl -u x -f", Some("journalctl -u x -n 200")),
        ("ping db.example", Some("ping -c 3 db.example")),
        ("kubectl get pods -w", Some("get pods")),
        ("kubectl exec -it redis-0 -- redis-cli INFO", Some("exec redis-0 -- redis-cli INFO")),
        ("curl http://p:9090/api/v1/query?query=rate(x[5m])", Some("GET http://p:9090/api/v1/query?query=rate(x[5m])")),
        // No form of these ends, or means the same: they are for a person, or stay as they are.
        ("htop", None),
        ("redis-cli MONITOR", None),
        ("kubectl port-forward svc/x 8080:80", None),
        ("watch \"echo '$x' \\\"y\\\"\"", None),
        ("kubectl exec -it redis-0 -- bash", None),
        ("tail -n 5 a.log", None),
        ("redis-cli SET keys 1", Some("SET keys 1")),
        ("echo 'tail -f x'", None),
        ("grep -f patterns a.log", None),
    ];
    for (line, expect) in cases {
        let text = format!("# T\n## Investigation\n```bash\n{line}\n```\n");
        let imported = check(&text, "t.md");
        let found = imported.text.contains(&format!("\n{}\n```", expect.unwrap_or(line)));
        assert!(found, "{line}: {}", imported.text);
    }
}

#[test]
fn an_executor_is_chosen_only_where_no_shell_does_anything() {
    let cases = [
        ("kubectl get pods -n x", Executor::Kubectl),
        ("kubectl get pods | head", Executor::Sh),
        ("kubectl get pods > f", Executor::Sh),
        ("kubectl get pods -o jsonpath={.items[*]}", Executor::Sh),
        ("kubectl get pods -o jsonpath='{.items[*]}'", Executor::Kubectl),
        ("kubectl logs $(kubectl get pod -o name)", Executor::Sh),
        ("A=1 kubectl get pods", Executor::Sh),
        ("kubectl get pods # all of them", Executor::Sh),
        ("kubectl exec p -- grep \\\"x\\\" f", Executor::Sh),
        ("redis-cli ping", Executor::Redis),
        ("redis-cli -h other ping", Executor::Sh),
        ("psql -c 'SELECT 1'", Executor::Sql),
        ("psql -h other -c 'SELECT 1'", Executor::Sh),
        ("psql -c \"SELECT '$x'\"", Executor::Sh),
        ("curl -s http://x.example/health", Executor::Http),
        ("curl -L http://x.example/health", Executor::Sh),
        ("curl localhost:8080/health", Executor::Sh),
        ("curl -X POST http://x.example/a -d '{}'", Executor::Http),
        ("curl -X POST http://x.example/a -d \"{\\\"a\\\": $x}\"", Executor::Sh),
        ("curl -o f http://x.example/health", Executor::Sh),
        ("curl -sd @file http://x.example/health", Executor::Sh),
        ("ssh web1", Executor::Manual),
        ("kubectl edit cm x", Executor::Manual),
    ];
    for (line, expect) in cases {
        let text = format!("# T\n## Investigation\n```bash\n{line}\n```\n");
        let imported = check(&text, "t.md");
        let document = parse(&imported.text, "t.md");
        assert_eq!(document.runbooks[0].steps[0].executor, expect, "{line}: {}", imported.text);
    }
}

#[test]
fn what_cannot_be_taken_apart_stays() {
    let bodies = [
        "for f in a b; do\n  # look\n  ls $f\ndone",
        "cat <<EOF | kubectl apply -f -\na: 1\nEOF",
        "$ kubectl get pods\nNAME READY\n$ ls",
        "if true; then\nls\nfi",
        "f() {\nls\n}",
        "# go\ncd /srv\n# look\nls",
    ];
    for body in bodies {
        let text = format!("# T\n## Investigation\n```bash\n{body}\n```\n");
        let imported = check(&text, "t.md");
        assert!(imported.text.ends_with(&text), "{}", imported.text);
    }
}

#[test]
fn what_is_there_already_stays_and_what_is_missing_is_added() {
    let text = "---\nid: mine\nowner: me\nweight: 20\n---\n# Title\n## Symptoms\n- [ ] Alert: `QueueFull` firing\n## Investigation\n```sh { name=x }\ntail -f a\n```\n```bash\nls <folder-name>\n```\n";
    let imported = check(text, "t.md");
    assert!(imported.text.starts_with(
        "---\nid: mine\nowner: me\nweight: 20\ntitle: \"Title\"\nmatch: { alerts: [\"QueueFull\"] }\ninputs:\n  folder_name: "
    ));
    assert!(imported.text.contains("```sh { name=x }\ntail -f a\n```"), "a block with attributes is somebody's own");
    for text in ["---\n[\n---\n# T\n## Investigation\n```sh\nls\n```\n", "no runbook", ""] {
        assert!(import(text, "t.md").text.starts_with(text.split("```").next().unwrap()), "{text}");
    }
}

#[test]
fn lines_may_end_as_they_do_elsewhere_and_blocks_may_be_indented() {
    check("# T\r\n## Investigation\r\n```bash\r\n# Look\r\nkubectl logs -f x\r\n```\r\n", "t.md");
    let imported = check("# T\n## Investigation\n1. Look:\n\n   ```bash\n   # pods\n   kubectl get pods\n   ```\n2. Done\n", "t.md");
    assert!(
        imported.text.contains("   ```kubectl { name=pods mode=read timeout=15s }\n   # pods\n   get pods\n   ```\n2. Done\n"),
        "{}",
        imported.text
    );
}

#[test]
fn a_difference_is_what_everybody_reads() {
    let before = "a\nb\nc\nd\ne\nf\ng\nh\n";
    let after = "a\nb\nX\nd\ne\nf\ng\nh\ni\n";
    assert_eq!(difference(before, after), "@@ -1,8 +1,9 @@\n a\n b\n-c\n+X\n d\n e\n f\n g\n h\n+i\n");
    assert_eq!(difference("a\n", "a\n"), "");
    assert_eq!(difference("", "a\n"), "@@ -0,0 +1,1 @@\n+a\n");
    let far: String = (0..30).map(|n| format!("{n}\n")).collect();
    let changed = far.replacen("2\n", "two\n", 1).replace("27\n", "");
    assert_eq!(difference(&far, &changed).matches("@@ -").count(), 2);
    let (huge, other) = ("a\n".repeat(9_000), "b\n".repeat(9_000));
    assert_eq!(difference(&huge, &other).lines().count(), 18_001);
}

proptest::proptest! {
    #[test]
    fn any_text_can_be_imported(text in "(# |## |```|bash\n|sh\n|\n|- \\[ \\] |---\n|kubectl logs -f x\n|watch |tail -f |POD=\\$\\(ls\\)\n|<a-b>|\\{\\{c\\}\\}|Investigation\n|Resolution\n|[a-z{}=\"'|:*`#$;&()<>\\\\]{0,5}){0,40}") {
        let imported = import(&text, "any.md");
        let again = import(&imported.text, "any.md");
        proptest::prop_assert_eq!(&again.text, &imported.text);
        let (before, after) = (parse(&text, "any.md"), parse(&imported.text, "any.md"));
        proptest::prop_assert!(after.problems.len() <= before.problems.len());
    }

    #[test]
    fn a_difference_can_be_applied(before in "([ab]\n){0,12}", after in "([ab]\n){0,12}") {
        let told = difference(&before, &after);
        let kept = |mark: char, text: &str| -> usize { text.lines().filter(|line| line.starts_with(mark)).count() };
        proptest::prop_assert_eq!(
            before.lines().count() + kept('+', &told),
            after.lines().count() + kept('-', &told)
        );
    }
}

/// Every document that people have lent us is imported, and comes out the same the second time.
#[test]
fn public_runbooks_are_imported_once() {
    let data = std::env::var_os("PARAMEDIC_SHARED_DATA").map(PathBuf::from);
    let data = data.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"));
    if !data.is_dir() {
        eprintln!("skipped: no {} beside the project", data.display());
        return;
    }
    let mut folders = vec![data.join("runbooks"), data.join("../sources")];
    let (mut files, mut changed) = (0, 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("lists").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md" || ending == "txt") {
                let text = String::from_utf8_lossy(&std::fs::read(&path).expect("reads")).into_owned();
                let imported = check(&text, &path.file_name().expect("a name").to_string_lossy());
                let said = ["never-ends", "redis-keys", "shell-syntax"];
                let document = parse(&imported.text, "");
                let ours = document.runbooks.iter().flat_map(|one| &one.steps).filter(|step| step.attributes.contains_key("mode"));
                let lines: Vec<usize> = ours.flat_map(|step| step.commands.iter().map(|command| command.line)).collect();
                let left: Vec<_> =
                    imported.findings_left.iter().filter(|one| said.contains(&one.rule.as_str()) && lines.contains(&one.line)).collect();
                assert!(left.is_empty(), "{}: {left:#?}", path.display());
                files += 1;
                changed += usize::from(imported.text != text);
            }
        }
    }
    assert!(files >= 120 && changed * 2 > files, "{changed} of {files}");
}
