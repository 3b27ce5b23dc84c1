//! Runs as a whole: rehearsed, real, resumed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as StdMutex};

use paramedic_model::{SystemClock, Timestamp};
use paramedic_runbook::brake::Brakes;
use paramedic_runbook::execute::{BoxFuture, Hand, Hands, Order, Settings};
use paramedic_runbook::gate::{Agreed, Authority, Decision, Mode, Person, Policy};
use paramedic_runbook::outcome::Outcome;
use paramedic_runbook::plan::plan;
use paramedic_runbook::render::Given;
use paramedic_runbook::run::{self, Done, Ending, Entry, Fixture, Journal, Record, Run, Stage, Start, StepState, Verdict, rehearse};
use paramedic_runbook::{Runbook, parse};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

const QUEUE: &str = r#"---
id: queue
inputs:
  worker: { default: "worker-1", pattern: "[a-z0-9-]+" }
limits: { runs: 9/1h, lock: worker }
---
# Queue
## Investigation
```promql { name=depth expect="value < 100" }
queue_depth
```
```logs { name=errs capture="top=error_type" }
error
```
```sh { name=only_if if="depth > 5000" }
ls
```
## Resolution
### Cause: Worker is stuck { #stuck when="depth > 100 && errs.top ~ 'Timeout'" weight=2 }
**Symptoms:**
```
worker * does not answer
```
**Resolution:**
```action { name=restart auto=0.8 limit=5/1h cooldown=0s verify="depth < 100 within 5m hold 1m" rollback=back }
service.restart: { manager: systemd, name: $worker }
```
```action { name=back only=rollback }
service.restart: { manager: systemd, name: "old $worker" }
```
```sh { name=after needs=restart mode=read }
ls
```
### Cause: Too much work { #much }
**Symptoms:**
```
queue is full
```
## Verification
```promql { name=calm expect="value < 50" hold=2m }
queue_depth
```
"#;

fn queue() -> Runbook {
    let runbook = parse(QUEUE, "queue.md").runbooks.remove(0);
    assert_eq!(plan(&runbook, &Default::default()).problems, [] as [String; 0]);
    runbook
}

fn played(fixture: &str) -> paramedic_runbook::run::Rehearsed {
    let fixture = Fixture::parse(fixture).expect("a fixture");
    let rehearsed = rehearse(&queue(), &fixture);
    assert_eq!(rehearsed.problems, [] as [String; 0], "{:#?}", rehearsed.states);
    rehearsed
}

#[test]
fn a_fix_that_helps_is_verified_and_ends_the_run() {
    let rehearsed = played(
        "steps:
  depth: [{ value: 900 }, { value: 700 }, { value: 20 }]
  errs: [{ fields: { error_type: TimeoutError } }]
  restart: [{ stdout: ok, affected: 1 }]
  calm: [{ value: 10 }]
choose: [restart]
expect:
  cause: stuck
  ending: done
  steps: { depth: ok, errs: ok, only_if: skipped, restart: verified, back: pending, calm: verified }
",
    );
    assert_eq!(rehearsed.order[..3], ["depth", "errs", "restart"]);
    assert!(rehearsed.order.iter().filter(|name| *name == "depth").count() > 5, "it was watched for a minute: {:?}", rehearsed.order);
    let argv = rehearsed.records.iter().find_map(|record| match record {
        Record::Begun { step, argv, .. } if step == "restart" => Some(argv.clone()),
        _ => None,
    });
    assert_eq!(argv.expect("it began"), ["service.restart", "{\"manager\":\"systemd\",\"name\":\"worker-1\"}"]);
}

#[test]
fn a_fix_that_does_not_help_is_taken_back() {
    let rehearsed = played(
        "steps:
  depth: [{ value: 900 }]
  errs: [{ fields: { error_type: TimeoutError } }]
  restart: [{ stdout: ok }]
  back: [{ stdout: ok }]
choose: [restart]
expect:
  cause: stuck
  ending: taken-back
  steps: { restart: taken-back, back: ok, calm: pending }
",
    );
    let takes_back = rehearsed
        .records
        .iter()
        .any(|record| matches!(record, Record::Begun { step, takes_back: Some(of), .. } if step == "back" && of == "restart"));
    assert!(takes_back, "{:#?}", rehearsed.records);
}

#[test]
fn what_is_skipped_or_failed_is_not_ok() {
    let rehearsed = played(
        "steps:
  depth: [{ fault: nobody answers }]
  errs: [{ fields: { error_type: TimeoutError } }]
  restart: [{ exit: 1, stderr: refused }]
evidence: [worker 7 does not answer]
choose: [restart, after]
expect:
  steps: { depth: failed, only_if: skipped, restart: unexpected, after: skipped, calm: pending }
",
    );
    assert_eq!(rehearsed.ending, None, "somebody has to look");
    assert_eq!(rehearsed.cause, Some("stuck".to_owned()), "half of what was found: the number is not known");
}

#[test]
fn a_value_that_gets_worse_again_is_not_verified() {
    played(
        "steps:
  depth: [{ value: 900 }, { value: 20 }]
  errs: [{ fields: { error_type: TimeoutError } }]
  restart: [{ stdout: ok }]
  calm: [{ value: 10 }, { value: 10 }, { value: 10 }, { value: 900 }]
choose: [restart]
expect: { ending: stopped, steps: { restart: verified, calm: failed } }
",
    );
}

#[test]
fn a_fixture_that_expects_something_else_says_so() {
    let fixture =
        Fixture::parse("steps: { depth: [{ value: 1 }], nobody: [] }\nexpect: { cause: stuck, ending: done, steps: { depth: failed } }")
            .expect("reads");
    let problems = rehearse(&queue(), &fixture).problems;
    assert_eq!(problems.len(), 5, "{problems:#?}");
}

/// Keeps entries; refuses them from a number on.
#[derive(Default)]
struct Kept {
    entries: StdMutex<Vec<Entry>>,
    brakes: StdMutex<Option<Brakes>>,
    full_at: Option<usize>,
}

impl Journal for Kept {
    fn write<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let mut entries = self.entries.lock().expect("a list");
            if self.full_at.is_some_and(|at| entries.len() >= at) {
                return Err("no space left on device".to_owned());
            }
            entries.push(entry.clone());
            Ok(())
        })
    }

    fn write_brakes<'a>(&'a self, brakes: &'a Brakes) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            *self.brakes.lock().expect("a place") = Some(brakes.clone());
            Ok(())
        })
    }
}

/// Answers queries with a number that an action lowers, and counts what it was asked to do.
#[derive(Default)]
struct Pretend {
    done: StdMutex<Vec<String>>,
}

impl Hand for Pretend {
    fn carry<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let mut done = self.done.lock().expect("a list");
            match &order.work {
                paramedic_runbook::render::Work::Action { .. } if order.dry => Outcome { affected: Some(1), ..Outcome::default() },
                paramedic_runbook::render::Work::Action { name, .. } => {
                    done.push(name.clone());
                    Outcome::default()
                }
                _ => Outcome {
                    value: Some(if done.is_empty() { 900.0 } else { 3.0 }),
                    fields: BTreeMap::from([("error_type".to_owned(), "TimeoutError".into())]),
                    ..Outcome::default()
                },
            }
        })
    }
}

fn stage(runbook: Runbook, journal: Arc<Kept>, pretend: &Arc<Pretend>, policies: Vec<Policy>) -> Stage {
    let hand: Arc<dyn Hand> = Arc::<Pretend>::clone(pretend);
    let hands = Hands {
        settings: Settings::default(),
        promql: Some(Arc::clone(&hand)),
        logs: Some(Arc::clone(&hand)),
        action: Some(hand),
        message: None,
        ..Hands::default()
    };
    let brakes = Arc::new(Mutex::new(Brakes::default()));
    Stage {
        policies: Arc::new(std::sync::RwLock::new(policies.into())),
        ..Stage::new(Arc::new(runbook), hands, journal, brakes, Arc::new(SystemClock))
    }
}

/// Drives a run that nobody else holds.
async fn drive(run: &mut Run, stage: &Stage, cancel: &CancellationToken) -> Result<(), String> {
    let shared = Mutex::new(std::mem::take(run));
    let driven = run::drive(&shared, stage, cancel).await;
    *run = shared.into_inner();
    driven
}

fn started(runbook: &Runbook, mode: Mode) -> (Run, Record) {
    let start = Start {
        mode,
        target: "worker-1".to_owned(),
        incident: Some("INC-1".to_owned()),
        by: Person::human("alice"),
        inputs: BTreeMap::new(),
    };
    let record = Record::start(runbook, "document-hash", &start);
    let run = Run::fold(&[Entry::new("run-1", Timestamp::from_secs(1), record.clone())]).expect("a start");
    (run, record)
}

/// The same runbook with verification that needs no waiting.
fn quick() -> Runbook {
    parse(&QUEUE.replace(" within 5m hold 1m", "").replace(" hold=2m", ""), "queue.md").runbooks.remove(0)
}

#[tokio::test]
async fn a_person_agrees_and_the_record_says_who_what_and_how() {
    let (journal, pretend) = (Arc::new(Kept::default()), Arc::new(Pretend::default()));
    let stage = stage(quick(), Arc::clone(&journal), &pretend, Vec::new());
    let (mut run, _) = started(&stage.runbook, Mode::Step);
    let cancel = CancellationToken::new();
    drive(&mut run, &stage, &cancel).await.expect("writes");
    assert_eq!(pretend.done.lock().expect("a list").len(), 0, "nothing was changed without a word");
    assert_eq!(run.ranked.as_ref().expect("ranked")[0].cause, "stuck");
    let step = plan(&stage.runbook, &run.given).steps.into_iter().find(|step| step.name == "restart").expect("the step");
    let at_ms = stage.brakes.lock().await.clock_ms();
    let agreed =
        Agreed { by: Person::human("bob"), run: "run-1".to_owned(), step: step.name.clone(), hash: step.hash.clone(), at_ms, used: false };
    run.apply(&Record::Agreed { agreed });
    drive(&mut run, &stage, &cancel).await.expect("writes");
    assert_eq!(run.ended, Some((Ending::Done, "what was done is verified".to_owned())));
    assert_eq!(*pretend.done.lock().expect("a list"), ["service.restart"]);
    let entries = journal.entries.lock().expect("a list").clone();
    let begun: Vec<_> =
        entries.iter().filter(|entry| matches!(&entry.record, Record::Begun { step, dry: false, .. } if step == "restart")).collect();
    let [Entry { record: Record::Begun { hash, argv, authority, attempt, .. }, .. }] = begun.as_slice() else { panic!("{begun:?}") };
    assert_eq!((hash, *attempt, argv[0].as_str()), (&step.hash, 1, "service.restart"));
    assert_eq!(*authority, Authority::People { names: vec!["bob".to_owned()] });
    let done = entries.iter().find_map(|entry| match &entry.record {
        Record::Done { step, done, .. } if step == "restart" => Some(done.clone()),
        _ => None,
    });
    assert_eq!(done.map(|done| (done.verdict, done.output_hash.len())), Some((Verdict::Ok, 64)));
    // The brakes that were stored know of the attempt, and hold no lock any more.
    let stored = journal.brakes.lock().expect("a place").clone().expect("stored");
    assert!(
        stored.too_often("queue", "restart", "worker-1", paramedic_runbook::plan::Rate { attempts: 1, window_ms: 60_000 }, 0).is_some()
    );
    assert_eq!(stored.held_by("worker:worker-1", "another"), None);
    // The same agreement allows nothing more.
    run.ended = None;
    run.steps.remove("restart");
    drive(&mut run, &stage, &cancel).await.expect("writes");
    assert_eq!(pretend.done.lock().expect("a list").len(), 1);
}

#[tokio::test]
async fn a_policy_lets_it_run_unattended_after_counting() {
    let (journal, pretend) = (Arc::new(Kept::default()), Arc::new(Pretend::default()));
    let policy = Policy {
        name: "p".to_owned(),
        runbook: "queue".to_owned(),
        cause: "stuck".to_owned(),
        steps: Vec::new(),
        score_min: 0.8,
        attempts_per_hour: 2,
        affected_max: 1,
    };
    let stage = stage(quick(), Arc::clone(&journal), &pretend, vec![policy]);
    let (mut run, _) = started(&stage.runbook, Mode::Auto);
    drive(&mut run, &stage, &CancellationToken::new()).await.expect("writes");
    assert_eq!(run.ended.as_ref().map(|(ending, _)| *ending), Some(Ending::Done), "{:#?}", run.steps);
    let entries = journal.entries.lock().expect("a list");
    let order: Vec<(String, bool)> = entries
        .iter()
        .filter_map(|entry| match &entry.record {
            Record::Begun { step, dry, .. } if step == "restart" => Some((step.clone(), *dry)),
            _ => None,
        })
        .collect();
    assert_eq!(order, [("restart".to_owned(), true), ("restart".to_owned(), false)], "it was counted first");
    assert!(
        entries.iter().any(|entry| matches!(&entry.record, Record::Begun { authority: Authority::Policy { name }, .. } if name == "p"))
    );
}

#[tokio::test]
async fn without_a_record_nothing_happens() {
    // However many entries still fit: what began is written before it is done.
    for full_at in 0..12 {
        let journal = Arc::new(Kept { full_at: Some(full_at), ..Kept::default() });
        let pretend = Arc::new(Pretend::default());
        let stage = stage(quick(), Arc::clone(&journal), &pretend, Vec::new());
        let (mut run, _) = started(&stage.runbook, Mode::Step);
        run.apply(&Record::Chosen { step: "restart".to_owned(), by: Person::human("alice") });
        let agreed = plan(&stage.runbook, &run.given).steps.into_iter().find(|step| step.name == "restart").expect("the step");
        run.apply(&Record::Agreed {
            agreed: Agreed {
                by: Person::human("bob"),
                run: "run-1".to_owned(),
                step: "restart".to_owned(),
                hash: agreed.hash,
                at_ms: 0,
                used: false,
            },
        });
        let failed = drive(&mut run, &stage, &CancellationToken::new()).await;
        assert_eq!(failed, Err("no space left on device".to_owned()), "{full_at}");
        let begun = journal
            .entries
            .lock()
            .expect("a list")
            .iter()
            .any(|entry| matches!(&entry.record, Record::Begun { step, .. } if step == "restart"));
        assert_eq!(!pretend.done.lock().expect("a list").is_empty(), begun, "{full_at}");
    }
}

#[tokio::test]
async fn a_run_goes_on_after_a_restart_in_the_middle() {
    // Ends after every single record; goes on each time; nothing that changes something is done twice by itself.
    let mut in_doubt = 0;
    for cut in 1..40 {
        let pretend = Arc::new(Pretend::default());
        let journal = Arc::new(Kept { full_at: Some(cut), ..Kept::default() });
        let first = stage(quick(), Arc::clone(&journal), &pretend, Vec::new());
        let (mut run, start) = started(&first.runbook, Mode::Step);
        journal.entries.lock().expect("a list").push(Entry::new("run-1", Timestamp::from_secs(1), start));
        let hash = plan(&first.runbook, &run.given).steps.into_iter().find(|step| step.name == "restart").expect("the step").hash;
        let agreed = Record::Agreed {
            agreed: Agreed { by: Person::human("bob"), run: "run-1".to_owned(), step: "restart".to_owned(), hash, at_ms: 0, used: false },
        };
        journal.entries.lock().expect("a list").push(Entry::new("run-1", Timestamp::from_secs(1), agreed.clone()));
        run.apply(&agreed);
        let whole = drive(&mut run, &first, &CancellationToken::new()).await.is_ok();
        // The process is gone. What was written is all there is.
        let written = journal.entries.lock().expect("a list").clone();
        let mut run = Run::fold(&written).expect("adds up");
        let journal = Arc::new(Kept::default());
        let again = Stage { journal: Arc::clone(&journal) as Arc<dyn Journal>, ..first };
        drive(&mut run, &again, &CancellationToken::new()).await.expect("writes");
        let times = pretend.done.lock().expect("a list").len();
        assert!(times <= 1, "{cut}: it was done {times} times");
        match run.state("restart") {
            StepState::Interrupted => {
                in_doubt += 1;
                assert!(run.ended.is_none(), "{cut}: somebody has to look");
            }
            StepState::Verified => assert_eq!(run.ended.as_ref().map(|(ending, _)| *ending), Some(Ending::Done), "{cut}: {:#?}", run.steps),
            other => panic!("{cut}: {other:?}"),
        }
        if whole {
            break;
        }
    }
    assert!(in_doubt >= 1, "one of the cuts is between the beginning and the end of the change");
}

#[tokio::test]
async fn a_rehearsal_is_never_carried_out() {
    let (journal, pretend) = (Arc::new(Kept::default()), Arc::new(Pretend::default()));
    let stage = stage(quick(), Arc::clone(&journal), &pretend, Vec::new());
    let (mut run, _) = started(&stage.runbook, Mode::Test);
    run.apply(&Record::Chosen { step: "restart".to_owned(), by: Person::human("alice") });
    drive(&mut run, &stage, &CancellationToken::new()).await.expect_err("nothing real");
    assert!(pretend.done.lock().expect("a list").is_empty() && journal.entries.lock().expect("a list").is_empty());
}

#[tokio::test]
async fn dry_runs_count_and_change_nothing() {
    let (journal, pretend) = (Arc::new(Kept::default()), Arc::new(Pretend::default()));
    let stage = stage(quick(), Arc::clone(&journal), &pretend, Vec::new());
    let (mut run, _) = started(&stage.runbook, Mode::Dry);
    drive(&mut run, &stage, &CancellationToken::new()).await.expect("writes");
    assert_eq!(run.counts["restart"].affected, 1);
    assert!(pretend.done.lock().expect("a list").is_empty());
}

#[test]
fn secrets_are_in_no_record() {
    let text = "---\ninputs: { key: { type: secret } }\n---\n# R\n## Investigation\n```sh { name=look capture=\"said=stdout\" }\necho \"$key\"\n```\n";
    let runbook = parse(text, "r.md").runbooks.remove(0);
    let key = format!("sk-ant-api03-{}", "A1b2C3d4".repeat(8));
    let inputs = BTreeMap::from([("key".to_owned(), "correct-horse".to_owned()), ("other".to_owned(), key.clone())]);
    let start = Start { mode: Mode::Step, target: "x".to_owned(), incident: None, by: Person::human("alice"), inputs };
    let record = serde_json::to_string(&Record::start(&runbook, "", &start)).expect("writes");
    assert!(!record.contains("correct-horse") && !record.contains(&key), "{record}");
    let fixture =
        Fixture::parse(&format!("inputs: {{ key: correct-horse }}\nsteps: {{ look: [{{ stdout: 'Bearer {key}' }}] }}")).expect("reads");
    let records = serde_json::to_string(&rehearse(&runbook, &fixture).records).expect("writes");
    assert!(!records.contains("correct-horse") && !records.contains(&key), "{records}");
}

#[test]
fn a_secret_that_lies_across_a_cut_is_not_shown_in_part() {
    let text = "---\ninputs: { key: { type: secret } }\n---\n# R\n## Investigation\n```sh { name=look capture=\"said=stdout\" expect=\"stdout == 'no'\" }\ncat log\n```\n";
    let runbook = parse(text, "r.md").runbooks.remove(0);
    let planned = plan(&runbook, &Given::default()).steps.remove(0);
    // What a reason quotes, a capture, what a record shows.
    for cut in [80, 4 * 1024, 16 * 1024] {
        for (secret, part) in [("sk-ant-api03-abcdefgh12345678", "api0"), ("correct-horse-battery", "correct")] {
            let mut outcome = Outcome::default();
            outcome.stdout.text = format!("{} {secret} and so on", "x".repeat(cut - 13));
            let done = Done::of(&planned, &outcome, &["correct-horse-battery".to_owned()]);
            let done = serde_json::to_string(&done).expect("writes");
            assert!(done.contains("xxx") && done.contains("captured") && !done.contains(part), "{cut} {part}: {done}");
        }
    }
}

#[test]
fn what_is_not_allowed_is_written_once() {
    let runbook = queue();
    let (mut run, _) = started(&runbook, Mode::Step);
    let decision = Decision::Refuse { reason: "x".to_owned() };
    run.apply(&Record::Held { step: "restart".to_owned(), decision: decision.clone() });
    assert_eq!(*run.state("restart"), StepState::Held { decision });
    assert_eq!(*run.state("depth"), StepState::Pending);
}

#[tokio::test]
async fn every_record_that_was_ever_written_is_read() {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/fixtures/run-v1.jsonl");
    if std::env::var_os("PARAMEDIC_WRITE_FIXTURES").is_some() {
        let rehearsed = played(
            "steps:\n  depth: [{ value: 900 }]\n  errs: [{ fields: { error_type: TimeoutError } }]\n  restart: [{ stdout: ok }]\n  back: [{ stdout: ok }]\nchoose: [restart]\n",
        );
        let agreed = Agreed {
            by: Person::human("bob"),
            run: "r".to_owned(),
            step: "restart".to_owned(),
            hash: "ab".repeat(32),
            at_ms: 5,
            used: false,
        };
        let more = [
            Record::Agreed { agreed },
            Record::Held { step: "x".to_owned(), decision: Decision::Wait { ms: 5, reason: "soon".to_owned() } },
            Record::Interrupted { step: "x".to_owned(), still_running: vec!["7 sleep (started 8)".to_owned()] },
        ];
        let lines: String = rehearsed
            .records
            .into_iter()
            .chain(more)
            .enumerate()
            .filter(|(at, record)| *at < 12 || !matches!(record, Record::Begun { step, .. } | Record::Done { step, .. } if step == "depth"))
            .map(|(at, record)| {
                serde_json::to_string(&Entry::new("r", Timestamp::from_secs(1_800_000_000 + at as i64), record)).expect("writes") + "\n"
            })
            .collect();
        std::fs::write(fixture, lines).expect("writes");
    }
    let text = std::fs::read_to_string(fixture).expect("the fixture");
    let entries: Vec<Entry> =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    let kinds: std::collections::BTreeSet<String> = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()?.pointer("/record/record")?.as_str().map(str::to_owned))
        .collect();
    assert_eq!(
        kinds.iter().map(String::as_str).collect::<Vec<_>>(),
        ["agreed", "begun", "chosen", "done", "ended", "held", "interrupted", "ranked", "skipped", "started", "verified"]
    );
    let run = Run::fold(&entries).expect("adds up");
    assert_eq!(run.ended.map(|(ending, _)| ending), Some(Ending::TakenBack));
    let newer = Entry { version: Entry::VERSION + 1, ..entries[0].clone() };
    assert!(Run::fold(&[newer]).is_err());
    assert!(Run::fold(&entries[1..]).is_err());
}
