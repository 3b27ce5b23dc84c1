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

/// Every command line of three public documents with what a person says it does. The documents themselves are not ours to
/// keep, so the table names lines.
#[test]
fn no_line_of_the_public_documents_is_taken_for_less_than_it_is() {
    let Some(sources) = shared("../sources") else { return };
    let table = include_str!("fixtures/public-lines.table");
    let mut expect: BTreeMap<(String, usize), String> = BTreeMap::new();
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let (place, what) = line.split_once(' ').expect("a place and what is there");
        let (document, line) = place.split_once(':').expect("a document and a line");
        expect.insert((document.to_owned(), line.parse().expect("a line's number")), what.to_owned());
    }
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(sources).expect("lists").flatten() {
        let name = entry.file_name().to_string_lossy()[..3].to_owned();
        if !["002", "003", "004"].contains(&name.as_str()) {
            continue;
        }
        let document = parse(&String::from_utf8_lossy(&std::fs::read(entry.path()).expect("reads")), &name);
        assert_eq!(document.problems, [], "{name}");
        for step in document.runbooks.iter().flat_map(|runbook| &runbook.steps).filter(|step| step.executor == Executor::Sh) {
            for command in &step.commands {
                let verdict = &command.verdict;
                let mut what = format!("{:?}", verdict.effect).to_lowercase();
                for (flag, name) in [
                    (verdict.never_ends.is_some(), "endless"),
                    (verdict.interactive.is_some(), "person"),
                    (!verdict.placeholders.is_empty(), "blank"),
                ] {
                    if flag {
                        what.push_str(&format!(" {name}"));
                    }
                }
                found.insert((name.clone(), command.line), what);
            }
        }
    }
    assert_eq!(found, expect);
}

#[test]
fn a_hundred_public_runbooks_are_read() {
    let Some(folder) = shared("runbooks") else { return };
    let mut folders = vec![folder];
    let (mut files, mut with_sections) = (0, 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("lists").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                let text = std::fs::read_to_string(&path).expect("reads");
                let document = parse(&text, &path.display().to_string());
                assert_eq!(document.problems, [], "{}", path.display());
                files += 1;
                with_sections += usize::from(document.runbooks.iter().any(|runbook| !runbook.sections.is_empty()));
            }
        }
    }
    assert!(files >= 100, "{files} files");
    assert!(with_sections * 10 >= files * 8, "{with_sections} of {files} have sections that are known");
}
