//! Documents and what they say.

use std::collections::BTreeMap;
use std::path::PathBuf;

use paramedic_runbook::classify::Effect;
use paramedic_runbook::{Document, Executor, SectionKind, parse};

fn every_part() -> Document {
    parse(include_str!("fixtures/every-part.md"), "every-part.md")
}

#[test]
fn every_part_is_found() {
    let document = every_part();
    assert_eq!(document.problems, []);
    let [runbook] = document.runbooks.as_slice() else { panic!("{} runbooks", document.runbooks.len()) };
    assert_eq!((runbook.id.as_str(), runbook.title.as_str(), runbook.severity.as_deref()), ("queue-stuck", "Queue is stuck", Some("SEV2")));
    assert_eq!(runbook.alerts, ["QueueDepthHigh", "QueueStuck"]);
    let checks: Vec<_> = runbook.checks.iter().map(|check| (check.line, check.ticked, check.section)).collect();
    assert_eq!(checks, [(12, false, SectionKind::Symptoms), (13, true, SectionKind::Symptoms), (58, false, SectionKind::Prevention)]);
    let causes: Vec<_> =
        runbook.causes.iter().map(|cause| (cause.id.as_str(), cause.weight, cause.patterns.len(), cause.fix.as_str())).collect();
    assert_eq!(causes, [("lost-redis", 2.0, 2, ""), ("poison-job", 1.0, 0, "Move it to the failed list")]);
    assert_eq!(runbook.impact, "Severity: HIGH\nAnswers come late");
}

#[test]
fn steps_are_split_named_and_judged() {
    let document = every_part();
    let steps: Vec<_> = document.runbooks[0]
        .steps
        .iter()
        .map(|step| {
            let worst = step.commands.iter().map(|command| command.verdict.effect).max();
            (step.name.as_str(), step.executor, step.section, step.commands.len(), worst, step.cause.as_deref())
        })
        .collect();
    let read = Some(Effect::Read);
    assert_eq!(
        steps,
        [
            ("depth", Executor::Promql, SectionKind::Investigation, 1, read, None),
            ("look-at-the-workers", Executor::Sh, SectionKind::Investigation, 2, read, None),
            ("look-at-redis", Executor::Sh, SectionKind::Investigation, 1, read, None),
            ("restart", Executor::Kubectl, SectionKind::Resolution, 1, Some(Effect::Write), Some("lost-redis")),
            ("verification", Executor::Sql, SectionKind::Verification, 1, read, None),
        ]
    );
    assert_eq!(document.runbooks[0].steps[1].commands[0].line, 26, "lines are the document's own");
}

#[test]
fn several_runbooks_in_one_file_stand_on_any_level() {
    let text = "# Book\n\n## Runbook 1: Down\n### Symptoms\n- x\n### Resolution\n```bash\nls\n```\n\n## Runbook 2: Slow\n### Investigation\n```bash\ndf\n```\n## Links\ntext\n";
    let document = parse(text, "book.md");
    let titles: Vec<_> = document.runbooks.iter().map(|runbook| (runbook.title.as_str(), runbook.steps.len())).collect();
    assert_eq!(titles, [("Down", 1), ("Slow", 1)]);
}

#[test]
fn what_changes_something_under_the_symptoms_of_a_cause_is_its_resolution() {
    let text = "# A\n## Investigation\n```sh\nls\n```\n## Resolution\n### Cause: B\n**Symptoms:**\n```\nboom\n```\n```kubectl { name=look }\nget pods\n```\n```kubectl { name=undo }\nrollout undo deployment/x\n```\n```manual { name=ask mode=write }\nask\n```\n";
    let document = parse(text, "a.md");
    let sections: Vec<_> = document.runbooks[0].steps.iter().map(|step| (step.name.as_str(), step.section)).collect();
    use SectionKind::{Investigation, Resolution, Symptoms};
    assert_eq!(sections, [("investigation", Investigation), ("look", Symptoms), ("undo", Resolution), ("ask", Resolution)]);
}

#[test]
fn a_label_before_a_block_is_no_title() {
    let text = "# A\n## Investigation\nSteps:\n```bash\ndf -h /var/lib/postgresql/data --output=source,size,used,avail,pcent\n```\n**Diagnosis:**\n```sql\n-- Who waits\nselect 1\n```\nHow full it is.\n```sql\nselect 2\n```\n## Resolution\n### Cause: Disk is full\n**Symptoms:**\n```\nno space left\n```\n**Resolution:**\n```bash\nrm /tmp/cache\n```\n**Fix:**\n```bash\n# Start it again\nsystemctl restart worker\n```\nResolution\n```kubectl { name=scale }\nscale deployment/x --replicas=2\n```\n## Verification\n```sql\nselect 3\n```\n";
    let document = parse(text, "a.md");
    let steps: Vec<_> = document.runbooks[0].steps.iter().map(|step| (step.name.as_str(), step.title.as_str())).collect();
    assert_eq!(
        steps,
        [
            ("df-h-var-lib-postgresql-data-output-source-size-used-ava", "df -h /var/lib/postgresql/data --output=source,size,used,ava"),
            ("who-waits", "Who waits"),
            ("how-full-it-is", "How full it is"),
            ("disk-is-full", "Disk is full"),
            ("start-it-again", "Start it again"),
            ("scale", "Disk is full"),
            // A heading is what it was.
            ("verification", "Verification"),
        ]
    );
}

#[test]
fn an_action_that_only_looks_may_stand_under_investigation() {
    let text = "# A\n## Investigation\n```action\nrecent_changes: { window: 60m }\n```\n```action\nservice.restart: { name: x }\n```\n## Verification\n";
    let document = parse(text, "a.md");
    let effects: Vec<_> = document.runbooks[0].steps.iter().map(|step| step.commands[0].verdict.effect).collect();
    assert_eq!(effects, [Effect::Read, Effect::Write]);
}

#[test]
fn what_cannot_be_read_is_said_with_its_line() {
    let document = parse("---\nid: [\n---\n# A\n## Resolution\n```sh { a=\"b }\nls\n```\n", "bad.md");
    let lines: Vec<_> = document.problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [1, 6], "{:?}", document.problems);
}

proptest::proptest! {
    #[test]
    fn any_text_is_a_document(text in "(# |## |```|bash\n|\n|- \\[ \\] |[a-z{}=\"|:*`#]{0,6}){0,60}") {
        let _ = parse(&text, "any.md");
    }
}

fn shared(folder: &str) -> Option<PathBuf> {
    let data = std::env::var_os("PARAMEDIC_SHARED_DATA").map(PathBuf::from);
    let data = data.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"));
    let found = data.join(folder);
    if !found.is_dir() {
        eprintln!("skipped: no {} beside the project", found.display());
        return None;
    }
    Some(found)
}

/// The text of each public document that is a structured one, by its number.
fn documents(folder: &std::path::Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder).expect("lists").flatten();
    let mut all: Vec<(String, String)> = entries
        .map(|entry| {
            (
                entry.file_name().to_string_lossy()[..3].to_owned(),
                String::from_utf8_lossy(&std::fs::read(entry.path()).expect("reads")).into_owned(),
            )
        })
        .filter(|(name, _)| ["002", "003", "004"].contains(&name.as_str()))
        .collect();
    all.sort();
    all
}

/// Lines of a table, without its comments, cut at the first blank.
fn table(text: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_once(' ').expect("a place and what is there"))
}

/// Every command line of three public documents with what a person says it does. The documents themselves are not ours to
/// keep, so the table names lines. A text in quotes that goes over lines is part of the line that it begins on.
#[test]
fn no_line_of_the_public_documents_is_taken_for_less_than_it_is() {
    let Some(sources) = shared("../sources") else { return };
    let expect: BTreeMap<(String, usize), String> = table(include_str!("fixtures/public-lines.table"))
        .map(|(place, what)| {
            let (document, line) = place.split_once(':').expect("a document and a line");
            ((document.to_owned(), line.parse().expect("a line's number")), what.to_owned())
        })
        .collect();
    let mut found = BTreeMap::new();
    for (name, text) in documents(&sources) {
        let document = parse(&text, &name);
        assert_eq!(document.problems, [], "{name}");
        for step in document.runbooks.iter().flat_map(|runbook| &runbook.steps).filter(|step| step.executor == Executor::Sh) {
            for command in &step.commands {
                found.insert((name.clone(), command.line), said(command));
                let mut continued = false;
                for (at, line) in command.text.split('\n').enumerate() {
                    if at > 0 && !continued && !line.trim().is_empty() {
                        found.insert((name.clone(), command.line + at), format!("of {}", command.line));
                    }
                    continued = line.trim_end().ends_with('\\');
                }
            }
        }
    }
    assert_eq!(found, expect);
    assert_eq!(expect.len(), 206, "every line that a person counts as one");
    let count = |word: &str| expect.values().filter(|what| what.split(' ').any(|one| one == word)).count();
    let counts = ["read", "write", "destroy", "endless", "person", "blank", "of"].map(count);
    assert_eq!(counts, [103, 80, 8, 6, 22, 17, 15]);
}

fn said(command: &paramedic_runbook::CommandLine) -> String {
    let verdict = &command.verdict;
    let mut what = format!("{:?}", verdict.effect).to_lowercase();
    let flags = [
        (verdict.never_ends.is_some(), "endless"),
        (verdict.interactive.is_some(), "person"),
        (!verdict.placeholders.is_empty() || !verdict.blanks.is_empty(), "blank"),
    ];
    flags.iter().filter(|(holds, _)| *holds).for_each(|(_, name)| what.push_str(&format!(" {name}")));
    what
}

/// The first eight digits of a name's hash: names are theirs, that they are found is ours.
fn mark(name: &str) -> String {
    paramedic_runbook::plan::sha256(name.as_bytes())[..8].to_owned()
}

/// Every runbook of three public documents: its name, its alerts, its sections, its causes with their texts, its boxes, its steps.
#[test]
fn every_part_of_the_public_documents_is_found() {
    let Some(sources) = shared("../sources") else { return };
    let mut found = Vec::new();
    for (name, text) in documents(&sources) {
        for runbook in parse(&text, &name).runbooks {
            let severity = runbook.severity.as_deref().unwrap_or("-").to_lowercase();
            let (alerts, checks, steps) = (runbook.alerts.len(), runbook.checks.len(), runbook.steps.len());
            found.push(format!(
                "{name}:{} runbook {} {severity} alerts={alerts} checks={checks} steps={steps}",
                runbook.line,
                mark(&runbook.title)
            ));
            found.extend(runbook.alerts.iter().map(|alert| format!("{name}:{} alert {}", runbook.line, mark(alert))));
            found.extend(
                runbook
                    .sections
                    .iter()
                    .map(|one| format!("{name}:{} section {} {:?}", one.line, mark(&one.title), one.kind).to_lowercase()),
            );
            found.extend(runbook.causes.iter().map(|one| {
                format!("{name}:{} cause {} texts={} fix={}", one.line, mark(&one.title), one.patterns.len(), !one.fix.is_empty())
            }));
            found.extend(runbook.checks.iter().map(|one| format!("{name}:{} box {}", one.line, mark(&one.text))));
        }
    }
    let expect: Vec<&str> = include_str!("fixtures/public-parts.table").lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(found, expect);
}

/// Every file of a public collection: how many runbooks, sections, causes, steps and command lines are found in it.
#[test]
fn every_file_of_the_public_collection_is_read() {
    let Some(folder) = shared("runbooks") else { return };
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.clone()];
    while let Some(inner) = folders.pop() {
        for entry in std::fs::read_dir(&inner).expect("lists").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                let document = parse(&std::fs::read_to_string(&path).expect("reads"), &path.display().to_string());
                assert_eq!(document.problems, [], "{}", path.display());
                let sum = |count: fn(&paramedic_runbook::Runbook) -> usize| document.runbooks.iter().map(count).sum::<usize>();
                let counts = [
                    document.runbooks.len(),
                    sum(|one| one.sections.len()),
                    sum(|one| one.causes.len()),
                    sum(|one| one.steps.len()),
                    sum(|one| one.steps.iter().map(|step| step.commands.len()).sum()),
                ];
                let name = path.strip_prefix(&folder).expect("inside").to_string_lossy().replace('\\', "/");
                found.insert(name, counts.map(|count| count.to_string()).join(" "));
            }
        }
    }
    let expect: BTreeMap<String, String> =
        table(include_str!("fixtures/public-files.table")).map(|(name, counts)| (name.to_owned(), counts.to_owned())).collect();
    assert_eq!(found, expect);
}

#[test]
fn a_copied_session_is_what_was_typed() {
    let text = "# T\n## Investigation\n```console\n$ NODE=n1\n$ kubectl get node \\\n    $NODE\nNAME STATUS\nn1 Ready\n$ rm -f x\n```\n";
    let lines: Vec<_> = parse(text, "t.md").runbooks[0]
        .steps
        .iter()
        .flat_map(|step| &step.commands)
        .map(|one| (one.line, one.text.clone(), one.verdict.effect))
        .collect();
    let expect = [(4, "NODE=n1", Effect::Read), (5, "kubectl get node \\\n    $NODE", Effect::Read), (9, "rm -f x", Effect::Destroy)];
    assert_eq!(lines, expect.map(|(line, text, effect)| (line, text.to_owned(), effect)));
}

#[test]
fn what_an_earlier_step_of_a_block_sets_is_set_again_for_a_later_one() {
    let text = "# T\n## Investigation\n```bash\n# 1. Find\nNS=prod\nPOD=$(kubectl get pods -n $NS -o name)\nTMP=$(mktemp)\n\n# 2. Look\nkubectl describe $POD\n\n# 3. Save\ncp x $TMP\n\n# 4. Other\nls $NOBODY\n```\n";
    let document = parse(text, "t.md");
    let scripts: Vec<&str> = document.runbooks[0].steps.iter().map(|step| step.text.as_str()).collect();
    assert_eq!(scripts[1], "NS=prod\nPOD=$(kubectl get pods -n $NS -o name)\nkubectl describe $POD");
    assert_eq!(scripts[2], "cp x $TMP", "what may change something is not done twice");
    assert_eq!(document.runbooks[0].steps[3].commands[0].verdict.placeholders, ["NOBODY"]);
}

#[test]
fn later_steps_of_a_block_stand_in_the_folder_that_an_earlier_one_went_to() {
    let document = parse("# T\n## Investigation\n```bash\n# Go\ncd /srv/app\n# Look\nls\n```\n", "t.md");
    assert_eq!(document.runbooks[0].steps[1].text, "cd /srv/app\nls");
}

#[test]
fn a_comment_inside_a_loop_begins_no_step() {
    let text = "# T\n## Investigation\n```bash\n# Look\nfor f in a b; do\n  # one\n  if true; then\n    ls \"$f; done\"\n  fi\ndone\n\n# Then\ndf -h\n```\n";
    let document = parse(text, "t.md");
    let steps: Vec<_> = document.runbooks[0].steps.iter().map(|step| (step.title.as_str(), step.commands.len())).collect();
    assert_eq!(steps, [("Look", 5), ("Then", 1)]);
}

#[test]
fn commands_and_secrets_in_the_text_are_seen() {
    let text = "# T\n\ngit reset --hard abc\nkubectl is a client.\nkill -9 12\nkill the process -9 times\n$ redis-cli ping\n\n> curl http://quoted\n\n```yaml\ncurl: http://x\npassword: hunter22\n```\n\n```\ncurl http://x/health\n```\n";
    let document = parse(text, "t.md");
    let lines: Vec<usize> = document.loose.iter().map(|one| one.line).collect();
    assert_eq!((lines, document.secrets), (vec![3, 5, 7, 17], vec![13]));
}
