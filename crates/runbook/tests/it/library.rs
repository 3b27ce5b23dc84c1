//! The runbooks that come with Paramedic: each can be read, is safe to plan, and serves an alert.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use paramedic_runbook::classify::Effect;
use paramedic_runbook::library::{LIBRARY, find};
use paramedic_runbook::lint::{Known, KnownAction, Weight, lint_alerts, lint_with};
use paramedic_runbook::{Document, Executor, Runbook, SectionKind, Step, lint, parse};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every runbook of the library with its document.
fn library() -> impl Iterator<Item = (&'static str, &'static str, Document)> {
    LIBRARY.iter().map(|(name, text)| (*name, *text, parse(text, &format!("{name}.md"))))
}

/// Collects what `judge` complains about, over all runbooks, and fails with the whole list.
fn no_complaints(judge: impl Fn(&'static str, &'static str, &Runbook) -> Vec<String>) {
    let mut all = Vec::new();
    for (name, text, document) in library() {
        let [runbook] = document.runbooks.as_slice() else {
            all.push(format!("{name}: {} runbooks", document.runbooks.len()));
            continue;
        };
        all.extend(judge(name, text, runbook).into_iter().map(|what| format!("{name}: {what}")));
    }
    assert!(all.is_empty(), "{} complaints\n{}", all.len(), all.join("\n"));
}

fn is_write(step: &Step) -> bool {
    step.executor == Executor::Manual && step.attributes.get("mode").is_some_and(|mode| mode == "write")
        || step.commands.iter().any(|command| command.verdict.effect > Effect::Read)
}

fn only_for_rollback(step: &Step) -> bool {
    step.attributes.get("only").is_some_and(|when| when == "rollback")
}

#[test]
fn every_file_of_the_folder_is_in_the_list_under_its_id() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("library");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .expect("lists")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().trim_end_matches(".md").to_owned())
        .collect();
    let listed: BTreeSet<String> = LIBRARY.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(files, listed);
    for (name, text) in LIBRARY {
        assert_eq!(find(name), Some(*text));
    }
    assert_eq!(find("nobody-knows"), None);
    no_complaints(|name, _, runbook| if runbook.id == name { vec![] } else { vec![format!("has the id {}", runbook.id)] });
}

#[test]
fn every_runbook_is_read_without_problems_and_lints_clean() {
    let mut notes = Vec::new();
    let mut faults = Vec::new();
    for (name, _, document) in library() {
        faults.extend(document.problems.iter().map(|problem| format!("{name}:{} {}", problem.line, problem.what)));
        for finding in lint(&document) {
            let line = format!("{name}:{} {:?} {}: {} | {}", finding.line, finding.weight, finding.rule, finding.text, finding.why);
            if finding.weight == Weight::Note { notes.push(line) } else { faults.push(line) }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    eprintln!("{} notes\n{}", notes.len(), notes.join("\n"));
}

/// What is there outside: the actions, the alerts of the pack and of the detectors, the samples, and the folder.
fn world() -> Known {
    let actions = ACTIONS.iter().map(|(name, required, optional)| KnownAction::new(name, required, optional)).collect();
    let metrics = known_metrics();
    let metrics = metrics.split(|letter: char| !(letter.is_ascii_alphanumeric() || "_:".contains(letter))).map(str::to_owned);
    Known {
        actions,
        metrics: metrics.chain(MADE_OF_PARTS.iter().map(|name| (*name).to_owned())).collect(),
        alerts: pack().into_iter().map(|(alert, _)| alert).chain(DETECTORS.iter().map(|name| (*name).to_owned())).collect(),
        base: Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("library")),
    }
}

#[test]
fn with_the_world_known_the_library_still_lints_clean() {
    let world = world();
    let faults: Vec<String> = library()
        .flat_map(|(name, _, document)| lint_with(&document, &world).into_iter().map(move |finding| (name, finding)))
        .filter(|(_, finding)| finding.weight > Weight::Note)
        .map(|(name, finding)| format!("{name}:{} {} {} {}", finding.line, finding.rule, finding.text, finding.why))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let documents: Vec<Document> = library().map(|(_, _, document)| document).collect();
    let runbooks: Vec<&Runbook> = documents.iter().flat_map(|document| &document.runbooks).collect();
    assert_eq!(lint_alerts(&pack(), &runbooks), []);
}

#[test]
fn every_trouble_that_was_asked_for_has_its_runbook() {
    let asked = [
        "agent-down",
        "high-error-rate",
        "high-latency",
        "cost-spike",
        "redis-failure",
        "node-failure",
        "daemon-crash",
        "slow-query",
        "stuck-agent",
        "memory-pressure",
        "alert-response",
        "queue-depth-growing",
        "database-issues",
        "rate-limits",
        "deployment-rollback",
        "agent-timeout",
        "plugin-crash-loop",
        "spawn-failure",
        "network-failure",
        "ghost-agent",
        "lost-correlation",
        "connection-pool",
        "oom-killed",
        "memory-leak",
        "certificate-expiry",
        "disk-full",
    ];
    assert!(asked.iter().all(|name| find(name).is_some()));
    assert_eq!(asked.len(), LIBRARY.len());
    no_complaints(|name, _, runbook| {
        let fixes = runbook.steps.iter().filter(|step| is_write(step) && !only_for_rollback(step)).count();
        let typed = runbook.steps.iter().filter(|step| step.executor == Executor::Action && is_write(step)).count();
        let mut wrong = Vec::new();
        if fixes == 0 && name != "alert-response" {
            wrong.push("mends nothing".to_owned());
        }
        if typed == 0 && !["spawn-failure", "lost-correlation", "certificate-expiry"].contains(&name) {
            wrong.push("has no action of its own".to_owned());
        }
        wrong
    });
}

#[test]
fn every_runbook_has_all_sections_causes_and_checks() {
    use SectionKind::{Communication, Impact, Investigation, Prevention, Resolution, Symptoms, Verification};
    no_complaints(|_, _, runbook| {
        let mut missing = Vec::new();
        let found: Vec<SectionKind> = runbook.sections.iter().map(|section| section.kind).collect();
        let expect = [Symptoms, Impact, Investigation, Resolution, Verification, Communication, Prevention];
        if found != expect {
            missing.push(format!("sections are {found:?}"));
        }
        if runbook.severity.as_deref().and_then(|text| text.parse::<paramedic_model::Severity>().ok()).is_none() {
            missing.push(format!("severity is {:?}", runbook.severity));
        }
        if runbook.impact.len() < 40 {
            missing.push("says too little about its impact".to_owned());
        }
        if runbook.causes.len() < 2 {
            missing.push(format!("{} causes", runbook.causes.len()));
        }
        for section in [Symptoms, Prevention] {
            if !runbook.checks.iter().any(|check| check.section == section) {
                missing.push(format!("no checklist under {section:?}"));
            }
        }
        for cause in &runbook.causes {
            if cause.patterns.is_empty() && cause.when.is_none() {
                missing.push(format!("nothing speaks for the cause {}", cause.id));
            }
            if !runbook.steps.iter().any(|step| step.cause.as_deref() == Some(&cause.id)) {
                missing.push(format!("no step for the cause {}", cause.id));
            }
            // A text that short would speak for the cause in every second log line.
            missing.extend(cause.patterns.iter().filter(|text| text.len() < 4).map(|text| format!("the pattern `{text}` is too short")));
        }
        if !runbook.steps.iter().any(|step| step.section == Investigation && step.executor != Executor::Manual) {
            missing.push("nothing to look at".to_owned());
        }
        for (section, executor) in [(Verification, None), (Communication, Some(Executor::Message))] {
            if !runbook.steps.iter().any(|step| step.section == section && executor.is_none_or(|executor| executor == step.executor)) {
                missing.push(format!("no step under {section:?}"));
            }
        }
        missing
    });
}

#[test]
fn a_step_under_investigation_only_looks_and_stands_where_it_belongs() {
    no_complaints(|_, _, runbook| {
        let mut wrong = Vec::new();
        for step in &runbook.steps {
            let looks = matches!(step.section, SectionKind::Investigation | SectionKind::Verification);
            if looks && (is_write(step) || step.attributes.get("mode").is_some_and(|mode| mode != "read")) {
                wrong.push(format!("{} (line {}) writes under {:?}", step.name, step.line, step.section));
            }
            if step.cause.is_some() && step.section != SectionKind::Resolution {
                wrong.push(format!("{} (line {}) of a cause stands under {:?}", step.name, step.line, step.section));
            }
            for command in &step.commands {
                let verdict = &command.verdict;
                if verdict.never_ends.is_some() || verdict.interactive.is_some() {
                    wrong.push(format!("{} (line {}) does not end by itself", step.name, command.line));
                }
            }
        }
        wrong
    });
}

#[test]
fn everything_that_changes_something_says_mode_risk_approval_limit_and_verification() {
    no_complaints(|_, _, runbook| {
        let mut wrong = Vec::new();
        for step in runbook.steps.iter().filter(|step| is_write(step)) {
            let value = |name: &str| step.attributes.get(name).map(String::as_str);
            let mut complain = |what: &str| wrong.push(format!("{} (line {}): {what}", step.name, step.line));
            if step.executor == Executor::Sh {
                complain("the shell only looks here");
            }
            if value("mode") != Some("write") {
                complain("mode is not write");
            }
            if only_for_rollback(step) {
                continue;
            }
            let risk = value("risk").unwrap_or_default();
            if !["low", "medium", "high", "destructive"].contains(&risk) {
                complain("no risk");
            }
            let worst = step.commands.iter().map(|command| command.verdict.effect).max().unwrap_or_default();
            if (worst == Effect::Destroy) != (risk == "destructive") {
                complain("its risk and its effect differ");
            }
            match value("approve") {
                Some("two") => {}
                Some("any" | "role:commander") if risk != "destructive" => {}
                Some("none") if risk == "low" && step.text.contains("ttl:") => {}
                _ => complain("nobody, or too few, have to approve"),
            }
            if value("auto").is_some() && !(risk == "low" && step.text.contains("ttl:")) {
                complain("may run unattended although it does not end by itself");
            }
            if value("limit").is_none() {
                complain("no limit");
            }
            if !value("verify").is_some_and(|verify| verify.contains(" within ")) {
                complain("no verification with a time");
            }
            if risk != "low" && value("rollback").is_none() {
                complain("no rollback");
            }
            if risk == "destructive" && !(value("needs").is_some() && value("blast").is_some()) {
                complain("destructive, and says neither what counts before nor how much it may take");
            }
        }
        wrong
    });
}

#[test]
fn every_step_of_a_resolution_has_a_title_and_a_mode() {
    no_complaints(|_, _, runbook| {
        let all = runbook.steps.iter().filter(|step| step.section == SectionKind::Resolution);
        all.filter(|step| step.title == "Resolution" || step.title.len() < 6 || !step.attributes.contains_key("mode"))
            .map(|step| format!("{} (line {}) is called `{}`", step.name, step.line, step.title))
            .collect()
    });
}

#[test]
fn steps_speak_of_steps_that_exist() {
    no_complaints(|_, _, runbook| {
        let mut wrong = Vec::new();
        for step in &runbook.steps {
            let plain = step.name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
            if !plain && step.executor != Executor::Message {
                wrong.push(format!("{} (line {}) is no word for a condition", step.name, step.line));
            }
            if let Some(rollback) = step.attributes.get("rollback") {
                let target = runbook.steps.iter().find(|other| other.name == *rollback);
                match target {
                    Some(target) if only_for_rollback(target) && target.cause == step.cause => {}
                    _ => wrong.push(format!("{} (line {}): {rollback} is no rollback step of its cause", step.name, step.line)),
                }
            }
            let used = runbook.steps.iter().any(|other| other.attributes.get("rollback") == Some(&step.name));
            if only_for_rollback(step) && !used {
                wrong.push(format!("{} (line {}) is the rollback of nothing", step.name, step.line));
            }
            for needed in step.attributes.get("needs").into_iter().flat_map(|needs| needs.split(',')) {
                if !runbook.steps.iter().any(|other| other.name == needed.trim() && other.line < step.line && !is_write(other)) {
                    wrong.push(format!("{} (line {}) needs {needed}, which nobody looked at before", step.name, step.line));
                }
            }
        }
        wrong
    });
}

/// What a step has at its end, whatever it was.
const FIELDS: &[&str] = &["value", "rows", "exit", "status", "stdout", "json", "ms"];
/// What actions that look have, by the beginning of their bodies.
const SEEN: &[(&str, &[&str])] =
    &[("recent_changes:", &["suspect", "minutes_before"]), ("kubernetes.rollout_status:", &["state", "why", "released_minutes_ago"])];

/// Names in a condition, quoted texts and durations left out.
fn names(condition: &str) -> Vec<String> {
    let mut names = Vec::new();
    for outside in condition.split('\'').step_by(2) {
        let mut words = outside.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_' || letter == '.'));
        names.extend(words.by_ref().filter(|word| word.starts_with(|first: char| first.is_ascii_alphabetic())).map(str::to_owned));
    }
    names.retain(|name| !["within", "hold", "and", "or", "not", "true", "false", "null"].contains(&name.as_str()));
    names
}

fn captured(step: &Step) -> impl Iterator<Item = &str> {
    let captures = step.attributes.get("capture").into_iter().flat_map(|text| text.split(';'));
    captures.filter_map(|one| one.split_once('=')).map(|(name, _)| name.trim())
}

#[test]
fn conditions_speak_of_what_steps_found() {
    let reads_of = |runbook: &Runbook, condition: &str, verifies: bool| -> Vec<String> {
        let mut wrong = Vec::new();
        for name in names(condition) {
            let (step, field) = name.split_once('.').map_or((name.as_str(), None), |(step, field)| (step, Some(field)));
            let Some(found) = runbook.steps.iter().find(|other| other.name == step && other.section == SectionKind::Investigation) else {
                wrong.push(format!("`{condition}`: {step} is no step under Investigation"));
                continue;
            };
            let number = matches!(found.executor, Executor::Promql | Executor::Sql | Executor::Redis | Executor::Logs);
            let known = match field {
                None | Some("rows") => number,
                Some(field) if found.executor == Executor::Action => {
                    SEEN.iter().any(|(action, has)| found.text.trim_start().starts_with(action) && has.contains(&field))
                }
                Some(field) => FIELDS.contains(&field) || captured(found).any(|capture| capture == field),
            };
            if !known {
                wrong.push(format!("`{condition}`: {name} is nothing that the step finds"));
            }
            if verifies && found.executor == Executor::Action {
                wrong.push(format!("`{condition}`: {name} does not change when something helped"));
            }
        }
        wrong
    };
    no_complaints(|_, _, runbook| {
        let mut wrong = Vec::new();
        for cause in &runbook.causes {
            wrong.extend(cause.when.iter().flat_map(|when| reads_of(runbook, when, false)));
        }
        for step in &runbook.steps {
            wrong.extend(step.attributes.get("verify").into_iter().flat_map(|verify| reads_of(runbook, verify, true)));
            // An answer of SQL is known by its columns.
            if step.executor == Executor::Sql && step.attributes.get("capture").is_some_and(|capture| capture.contains("=json:")) {
                wrong.push(format!("{} (line {}): a column is captured by its name", step.name, step.line));
            }
            wrong.extend(step.attributes.get("if").into_iter().flat_map(|condition| reads_of(runbook, condition, false)));
            for name in step.attributes.get("expect").into_iter().flat_map(|expect| names(expect)) {
                if !FIELDS.contains(&name.as_str()) && name != "json" {
                    wrong.push(format!("{} (line {}): expect speaks of {name}", step.name, step.line));
                }
            }
        }
        wrong
    });
}

/// The attributes that the format knows.
const ATTRIBUTES: &[&str] = &[
    "name", "expect", "gate", "timeout", "retries", "backoff", "mode", "risk", "approve", "auto", "dry", "if", "needs", "limit",
    "cooldown", "lock", "blast", "verify", "rollback", "capture", "redact", "window", "only", "hold", "on", "audience", "next",
];

#[test]
fn attributes_are_those_of_the_format() {
    no_complaints(|_, _, runbook| {
        let all = runbook.steps.iter().flat_map(|step| step.attributes.keys().map(move |key| (step, key)));
        all.filter(|(_, key)| !ATTRIBUTES.contains(&key.as_str())).map(|(step, key)| format!("line {}: {key}", step.line)).collect()
    });
}

/// The actions and their arguments; the first ones must be there.
const ACTIONS: &[(&str, &[&str], &[&str])] = &[
    ("recent_changes", &["window"], &["service"]),
    ("agent.stop", &["agent"], &["grace", "group"]),
    ("agent.restart", &["agent"], &["grace", "group", "settle"]),
    ("process.find", &[], &["name", "port", "pid_file"]),
    ("process.remove_stale_pid_file", &["file"], &["name"]),
    ("process.stop", &["pid", "started"], &["grace", "group"]),
    ("process.restart", &["pid", "started"], &["grace", "group", "settle"]),
    ("service.restart", &["manager", "name"], &[]),
    ("service.stop", &["manager", "name"], &[]),
    ("redis.census", &["pattern"], &[]),
    ("redis.delete", &["pattern", "max"], &[]),
    ("redis.config_set", &["setting", "value"], &[]),
    ("redis.save", &[], &[]),
    ("redis.stream_trim", &["key", "max_length"], &[]),
    ("postgres.cancel", &["older_than", "max"], &["database", "pid", "blocking"]),
    ("postgres.terminate", &["state", "older_than", "max"], &["database", "pid", "blocking"]),
    ("postgres.alter_system", &["setting"], &["value", "reset", "restart_later"]),
    ("kubernetes.rollout_status", &["namespace", "deployment"], &["kind"]),
    ("kubernetes.rollout_undo", &["namespace", "deployment"], &["revision", "within"]),
    ("kubernetes.rollout_restart", &["namespace", "deployment"], &["kind", "within"]),
    ("kubernetes.scale", &["namespace", "deployment", "replicas"], &["kind", "within"]),
    ("kubernetes.set_image", &["namespace", "deployment", "container", "image"], &["kind", "within"]),
    ("kubernetes.patch", &["namespace", "kind", "name", "patch"], &["type", "within"]),
    ("kubernetes.cordon", &["node"], &["cordoned", "for"]),
    ("kubernetes.drain", &["node", "timeout"], &["grace", "force", "delete_empty_dir", "for"]),
    ("kubernetes.network_policy_suspend", &["namespace", "name", "for"], &[]),
    ("http.request", &["method", "url"], &["body", "headers", "expect"]),
    ("flag.disable", &["flag"], &["ttl", "until", "then", "url"]),
    ("flag.enable", &["flag"], &["ttl", "until", "then", "url"]),
    ("git.revert", &["repository", "commit"], &["mainline", "push"]),
    ("gateway.switch_set", &["switch", "value", "ttl"], &["scope"]),
    ("gateway.switch_clear", &["switch"], &["scope"]),
    ("data.restore", &["backup", "into", "max_age"], &[]),
];

fn body(step: &Step) -> Result<BTreeMap<String, BTreeMap<String, serde_json::Value>>, String> {
    serde_saphyr::from_str(&step.text).map_err(|error| error.to_string())
}

#[test]
fn actions_have_names_and_arguments_that_are_known() {
    let mut used = BTreeSet::new();
    for (_, _, document) in library() {
        for step in document.runbooks.iter().flat_map(|runbook| &runbook.steps).filter(|step| step.executor == Executor::Action) {
            used.extend(body(step).unwrap_or_default().into_keys());
        }
    }
    let unused: Vec<&str> = ACTIONS.iter().map(|(name, _, _)| *name).filter(|name| !used.contains(*name)).collect();
    no_complaints(|_, _, runbook| {
        let mut wrong = Vec::new();
        for step in runbook.steps.iter().filter(|step| step.executor == Executor::Action) {
            let body = match body(step) {
                Ok(body) if body.len() == 1 => body,
                Ok(body) => {
                    wrong.push(format!("line {}: {} actions in one step", step.line, body.len()));
                    continue;
                }
                Err(error) => {
                    wrong.push(format!("line {}: {error}", step.line));
                    continue;
                }
            };
            for (name, given) in &body {
                let Some((_, must, may)) = ACTIONS.iter().find(|(known, _, _)| known == name) else {
                    wrong.push(format!("line {}: nobody knows the action {name}", step.line));
                    continue;
                };
                let missing = must.iter().filter(|argument| !given.contains_key(**argument));
                wrong.extend(missing.map(|argument| format!("line {}: {name} without {argument}", step.line)));
                let unknown = given.keys().filter(|key| !must.contains(&key.as_str()) && !may.contains(&key.as_str()));
                wrong.extend(unknown.map(|key| format!("line {}: {name} has no argument {key}", step.line)));
            }
        }
        wrong
    });
    assert!(unused.is_empty(), "no runbook uses {unused:?}");
}

/// Names after `$`, or between `{{` and `}}` of a message.
fn variables(step: &Step) -> BTreeSet<String> {
    let word = |text: &str| -> String { text.chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect() };
    let texts = std::iter::once(&step.text).chain(step.attributes.values());
    let mut found = BTreeSet::new();
    for text in texts {
        found.extend(text.split('$').skip(1).map(|rest| word(rest.trim_start_matches('{'))).filter(|name| !name.is_empty()));
    }
    // `$1` of awk and of label_replace, and what a script sets itself.
    found.retain(|name| !name.starts_with(|first: char| first.is_ascii_digit()) && !step.text.contains(&format!("{name}=$(")));
    found
}

#[test]
fn inputs_are_declared_bounded_and_used() {
    no_complaints(|_, text, runbook| {
        let front = text.split("---\n").nth(1).unwrap_or_default();
        let front = match paramedic_runbook::FrontMatter::parse(front) {
            Ok(front) => front,
            Err(error) => return vec![error],
        };
        let mut wrong = Vec::new();
        let captures: BTreeSet<&str> = runbook.steps.iter().flat_map(captured).collect();
        let mut used = BTreeSet::new();
        for step in &runbook.steps {
            for name in variables(step) {
                if !front.inputs.contains_key(&name) && !captures.contains(name.as_str()) && !["HOME", "PATH"].contains(&name.as_str()) {
                    wrong.push(format!("line {}: nobody asks for {name}", step.line));
                }
                used.insert(name);
            }
        }
        for (name, input) in &front.inputs {
            if !used.contains(name) {
                wrong.push(format!("{name} is asked for and never used"));
            }
            if captures.contains(name.as_str()) {
                wrong.push(format!("{name} is both asked for and captured"));
            }
            if !input.pattern.as_deref().is_some_and(|pattern| pattern.starts_with('^') && pattern.ends_with('$')) {
                wrong.push(format!("{name} may be any text"));
            }
            if input.default.is_some() == input.required {
                wrong.push(format!("{name} must be required or have a default, not both"));
            }
        }
        if front.owner.is_none() || front.reviewed.is_none() || front.services.is_empty() || !text.contains("\nlimits:") {
            wrong.push("owner, reviewed, services or limits are missing".to_owned());
        }
        wrong
    });
}

/// Names that the host probe puts together of a resource and what is waited for, and those that every rule makes.
const MADE_OF_PARTS: &[&str] = &["node_pressure_io_stalled_seconds_total", "ALERTS", "ALERTS_FOR_STATE"];

/// All that says which samples there are: the documentation, the rules, and who measures.
fn known_metrics() -> String {
    let root = workspace();
    let mut text = std::fs::read_to_string(root.join("docs/metrics.md")).expect("the list of metrics");
    let mut folders = vec![root.join("crates/rules/pack"), root.join("crates/probe/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("lists").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                text.push_str(&std::fs::read_to_string(entry.path()).unwrap_or_default());
            }
        }
    }
    text
}

#[test]
fn queries_can_be_read_and_ask_for_samples_that_exist() {
    let known = known_metrics();
    let known: BTreeSet<&str> = known.split(|letter: char| !(letter.is_ascii_alphanumeric() || "_:".contains(letter))).collect();
    let exists = |name: &str| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        known.contains(name) || known.contains(base) || MADE_OF_PARTS.contains(&name)
    };
    let mut queries = 0;
    for (_, _, document) in library() {
        queries += document.runbooks.iter().flat_map(|runbook| &runbook.steps).filter(|step| step.executor == Executor::Promql).count();
    }
    assert!(queries > LIBRARY.len(), "{queries} queries");
    no_complaints(|_, _, runbook| {
        let mut wrong = Vec::new();
        for step in runbook.steps.iter().filter(|step| step.executor == Executor::Promql) {
            match paramedic_promql::parse::parse(&step.text, false) {
                Err(error) => wrong.push(format!("{} (line {}): {error}", step.name, step.line)),
                Ok(expression) => {
                    for name in expression.selectors().into_iter().filter_map(|selector| selector.name.as_deref()) {
                        if !exists(name) {
                            wrong.push(format!("{} (line {}): nobody measures {name}", step.name, step.line));
                        }
                    }
                }
            }
        }
        wrong
    });
}

/// Alerts of the pack with the runbooks that they name.
fn pack() -> Vec<(String, Option<String>)> {
    #[derive(serde::Deserialize)]
    struct File {
        groups: Vec<Group>,
    }
    #[derive(serde::Deserialize)]
    struct Group {
        rules: Vec<Rule>,
    }
    #[derive(serde::Deserialize)]
    struct Rule {
        alert: Option<String>,
        #[serde(default)]
        annotations: BTreeMap<String, String>,
    }
    let mut alerts = Vec::new();
    for entry in std::fs::read_dir(workspace().join("crates/rules/pack")).expect("lists").flatten() {
        let text = std::fs::read_to_string(entry.path()).expect("reads");
        let file: File = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", entry.path().display()));
        let rules = file.groups.into_iter().flat_map(|group| group.rules);
        alerts.extend(rules.filter_map(|rule| Some((rule.alert?, rule.annotations.get("runbook").cloned()))));
    }
    assert!(alerts.len() > 100, "{} alerts", alerts.len());
    alerts
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let pack = pack();
    let without: Vec<_> = pack.iter().filter(|(_, runbook)| runbook.as_deref().and_then(find).is_none()).collect();
    assert!(without.is_empty(), "alerts without a runbook: {without:?}");
    no_complaints(|name, _, runbook| {
        let mut wrong = Vec::new();
        let naming: BTreeSet<&str> =
            pack.iter().filter(|(_, named)| named.as_deref() == Some(name)).map(|(alert, _)| alert.as_str()).collect();
        let matching: BTreeSet<&str> = runbook.alerts.iter().map(String::as_str).collect();
        wrong.extend(naming.difference(&matching).map(|alert| format!("{alert} names it, and it does not name {alert}")));
        let unknown = matching.iter().filter(|alert| {
            !pack.iter().any(|(known, _)| known == *alert)
                && !DETECTORS.contains(alert)
                && paramedic_model::IncidentType::from_name(alert).is_none()
        });
        wrong.extend(unknown.map(|alert| format!("no rule, no detector and no kind of incident is called {alert}")));
        if matching.is_empty() {
            wrong.push("serves no alert".to_owned());
        }
        wrong
    });
}

/// The names of the detectors that runbooks answer to.
const DETECTORS: &[&str] = &[
    "api-overload",
    "api-server-error",
    "network",
    "rate-limit",
    "retries-exhausted",
    "api-terminal-error",
    "tool-error-streak",
    "repeat-exact",
    "repeat-call",
    "ping-pong",
    "cycle",
    "monologue",
    "silence",
    "compaction-thrash",
    "spend-rate",
    "context-growth",
    "lost-subagent",
    "process-died",
];

#[test]
fn every_detector_has_a_runbook() {
    let catalogue = std::fs::read_to_string(workspace().join("crates/detect/src/catalogue.rs")).expect("the list of detectors");
    let listed: BTreeSet<String> = catalogue
        .lines()
        .filter_map(|line| line.trim().split_once(": detector::"))
        .map(|(name, _)| name.trim().replace('_', "-"))
        .collect();
    assert_eq!(listed, DETECTORS.iter().map(|name| (*name).to_owned()).collect(), "the list here is that of the detectors");
    let all: BTreeSet<String> = library().flat_map(|(_, _, document)| document.runbooks).flat_map(|runbook| runbook.alerts).collect();
    let without: Vec<_> = DETECTORS.iter().filter(|name| !all.contains(**name)).collect();
    assert!(without.is_empty(), "{without:?}");
}

#[test]
fn messages_to_the_public_name_nothing_internal() {
    no_complaints(|_, text, runbook| {
        let mut wrong = Vec::new();
        let messages: Vec<&Step> = runbook.steps.iter().filter(|step| step.executor == Executor::Message).collect();
        for step in &messages {
            let value = |name: &str| step.attributes.get(name).map(String::as_str);
            if !matches!(value("on"), Some("declared" | "mitigated" | "resolved"))
                || !matches!(value("audience"), Some("public" | "internal"))
            {
                wrong.push(format!("line {}: to whom, and when?", step.line));
            }
            let internal = ["Redis", "PostgreSQL", "Kubernetes", "node", "pod", "daemon", "$", "{{agent", "{{host"];
            if value("audience") == Some("public") {
                let named = internal.iter().filter(|word| step.text.contains(**word));
                wrong.extend(named.map(|word| format!("line {}: says {word} to the public", step.line)));
            }
        }
        if !messages.iter().any(|step| step.attributes.get("on").is_some_and(|on| on == "declared")) {
            wrong.push("says nothing when it is declared".to_owned());
        }
        if text.lines().count() > 250 {
            wrong.push(format!("{} lines are too many for the night", text.lines().count()));
        }
        wrong
    });
}
