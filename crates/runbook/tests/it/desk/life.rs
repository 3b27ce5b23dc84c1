//! From an incident to a fix that is verified, and what the record says of it.

use std::sync::atomic::{AtomicUsize, Ordering};

use paramedic_runbook::classify::Effect;
use paramedic_runbook::desk::{Observer, Recorded};
use paramedic_runbook::gate::{Authority, Decision};
use paramedic_runbook::run::{Ending, Verdict};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incident_is_looked_at_a_fix_is_agreed_to_and_the_record_is_complete() {
    let rig = Rig::new(&[WORKER]).await;
    let begun = rig.desk.start(StartRun { observed: vec!["an alert".to_owned()], ..incident("worker", "INC-1") }).await.expect("starts");
    assert_eq!((begun.line.id.as_str(), begun.line.target.as_str()), ("RUN-1", "INC-1"));
    let view = rig.until("RUN-1", |view| matches!(state(view, "fix"), StepState::Held { .. })).await;
    assert_eq!((view.next.as_deref(), state(&view, "look")), (Some("fix"), &StepState::Ok));
    assert!(matches!(state(&view, "fix"), StepState::Held { decision: Decision::Ask { missing: 1, .. } }), "{view:#?}");
    assert_eq!((view.causes[0].cause.as_str(), view.causes[0].score), ("stuck", 1.0));
    assert!(view.line.asking.contains("fix") && can(&view, "fix", Can::Approve) && view.halted.is_none());
    assert_eq!(rig.file("done"), "", "nothing was changed without a word");
    rig.approve("RUN-1", "fix", "bob").await;
    let view = rig.until_ended("RUN-1").await;
    assert_eq!((view.line.ending, rig.file("done").as_str()), (Some(Ending::Done), "by hand\n"), "{view:#?}");
    assert_eq!((state(&view, "fix"), state(&view, "calm"), view.line.changes), (&StepState::Verified, &StepState::Ok, 1));
    assert_eq!((view.next.clone(), view.text_gone, view.line.asking.len()), (None, false, 0));
    let records = rig.records("RUN-1").await;
    let begun = records.iter().find_map(|record| match record {
        Record::Begun { step, argv, authority, effect, attempt: 1, .. } if step == "fix" => {
            Some((argv.clone(), authority.clone(), *effect))
        }
        _ => None,
    });
    let (argv, authority, effect) = begun.expect("it began");
    assert_eq!(argv.last().map(String::as_str), Some("echo \"$note\" >> done; echo fine > state"));
    assert_eq!((authority, effect), (Authority::People { names: vec!["bob".to_owned()] }, Effect::Write));
    let done = records.iter().find_map(|record| match record {
        Record::Done { step, done, .. } if step == "fix" => Some(done.clone()),
        _ => None,
    });
    let done = done.expect("it ended");
    assert_eq!((done.verdict, done.exit, done.output_hash.len()), (Verdict::Ok, Some(0), 64));
    assert!(done.ms > 0 && matches!(records.last(), Some(Record::Ended { .. })), "{records:#?}");
    let entries = rig.disk.journal.read_subject("run/RUN-1", 0, 1000).await.expect("reads");
    let actors: Vec<(&str, &str)> = entries.iter().map(|entry| (entry.kind.as_str(), entry.actor.as_str())).collect();
    for expect in
        [("run-started", "alice"), ("step-approved", "bob"), ("step-chosen", "bob"), ("step-begun", "bob"), ("run-ended", "paramedic")]
    {
        assert!(actors.contains(&expect), "{expect:?} in {actors:?}");
    }
    rig.verify_chain();
    // It is the same after a restart, and without its text what was recorded is still there.
    let rig = rig.restart().await;
    let again = rig.desk.view("RUN-1").await.expect("a run");
    assert_eq!((again.line.clone(), state(&again, "fix"), again.steps.len()), (view.line, &StepState::Verified, 4));
    std::fs::remove_file(rig.path("books/0.md")).expect("removes");
    rig.desk.reload(&rig.settings);
    let gone = rig.desk.view("run-1").await.expect("a run");
    assert!(gone.text_gone && gone.document == again.document, "{gone:#?}");
    let fix = step(&gone, "fix");
    assert_eq!((&fix.state, fix.argv.clone(), fix.can.len()), (&StepState::Verified, argv, 0));
    assert_eq!(rig.desk.lines(|line| line.incident.as_deref() == Some("INC-1")).len(), 1);
    assert_eq!(rig.desk.lines(|line| line.ended_at.is_none()).len(), 0);
    for nobody in ["RUN-2", "x", "", "RUN-", "RUN-99999999999999999999"] {
        assert!(rig.desk.view(nobody).await.is_err() && rig.desk.entries(nobody).await.is_err(), "{nobody}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fix_that_does_not_help_is_taken_back_by_itself() {
    let text = WORKER.replace("echo fine > state\n```\n```sh { name=back", "echo worse > state\n```\n```sh { name=back");
    let rig = Rig::new(&[&text]).await;
    rig.start().await;
    rig.until_asked("RUN-1").await;
    rig.approve("RUN-1", "fix", "bob").await;
    let view = rig.until_ended("RUN-1").await;
    assert_eq!((view.line.ending, rig.file("done").as_str()), (Some(Ending::TakenBack), "by hand\nback\n"));
    assert!(view.line.why.contains("fix was taken back"), "{}", view.line.why);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_what_the_journal_holds() {
    let rig = Rig::new(&[WORKER]).await;
    rig.start().await;
    rig.until_asked("RUN-1").await;
    // While things are written, and more is written after it.
    let saving = async {
        for _ in 0..20 {
            rig.desk.save_snapshot().await.expect("saves");
        }
    };
    let acting = async {
        for at in 2..12 {
            rig.desk.start(incident("worker", &format!("INC-{at}"))).await.expect("starts");
        }
        // Each looks at the same file, which the fix changes.
        for at in 2..12 {
            rig.until_asked(&format!("RUN-{at}")).await;
        }
        rig.approve("RUN-1", "fix", "bob").await;
    };
    tokio::join!(saving, acting);
    rig.until_ended("RUN-1").await;
    rig.rest().await;
    let now = rig.desk.lines(|_| true);
    let rig = rig.reopen().await;
    assert_eq!(rig.desk.lines(|_| true), now, "from the snapshot and what came after it");
    rig.disk.journal.save_snapshot("runs", 1, 0, b"{".to_vec()).await.expect("saves");
    let rig = rig.reopen().await;
    assert_eq!(rig.desk.lines(|_| true), now, "from the beginning");
    let rig = rig.restart().await;
    let begun = |records: &[Record]| records.iter().filter(|record| matches!(record, Record::Started { .. })).count();
    for run in ["RUN-1", "RUN-7", "RUN-11"] {
        assert_eq!(begun(&rig.records(run).await), 1);
        assert_eq!(step(&rig.desk.view(run).await.expect("a run"), "back").attempts, 0);
    }
    rig.approve("RUN-7", "fix", "bob").await;
    rig.until_ended("RUN-7").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_drained_ends_its_step_and_begins_no_further_one() {
    let text =
        "---\nid: worker\n---\n# W\n## Investigation\n```sh { name=slow }\nsleep 1; cat state\n```\n```sh { name=next }\ncat state\n```\n";
    let rig = Rig::with(&[text], |settings| settings.steps_at_once = 1).await;
    for at in 1..6 {
        rig.desk.start(incident("worker", &format!("INC-{at}"))).await.expect("starts");
    }
    rig.until("RUN-1", |view| *state(view, "slow") == StepState::Running).await;
    rig.desk.drain(Duration::from_secs(20)).await;
    assert!(rig.desk.start(incident("worker", "INC-9")).await.is_err(), "nothing begins while it stops");
    let head = rig.disk.journal.head().await.expect("a head");
    rig.rest().await;
    assert_eq!(rig.disk.journal.head().await.expect("a head"), head);
    let records = rig.records("RUN-1").await;
    assert!(matches!(records.last(), Some(Record::Done { .. })), "{records:#?}");
    let mut begun = 0;
    for at in 1..6 {
        let records = rig.records(&format!("RUN-{at}")).await;
        begun += records.iter().filter(|record| matches!(record, Record::Begun { .. })).count();
    }
    assert_eq!(begun, 1, "the one under way ended, the others wait");
    let rig = rig.restart().await;
    for at in 1..6 {
        let view = rig.until(&format!("RUN-{at}"), |view| *state(view, "next") == StepState::Ok).await;
        assert_eq!(step(&view, "slow").attempts, 1, "nothing was in doubt");
        assert!(!rig.records(&format!("RUN-{at}")).await.iter().any(|record| matches!(record, Record::Interrupted { .. })));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_counts_changes_nothing_and_can_be_called_off() {
    let text = "---\nid: worker\n---\n# W\n## Investigation\n```sh { name=look }\ncat state\n```\n## Resolution\n```action { name=act }\nflag.disable: { flag: x }\n```\n```sh { name=many blast=5 dry=\"cat state\" }\necho x >> done\n```\n```manual { name=talk }\nTalk to them.\n```\n";
    let rig = Rig::new(&[text]).await;
    let start = StartRun { mode: Mode::Dry, ..incident("worker", "INC-1") };
    rig.desk.start(start).await.expect("starts");
    let view = rig.until("RUN-1", |view| step(view, "many").affected.is_some()).await;
    assert_eq!((step(&view, "act").affected, step(&view, "many").affected), (Some(1), Some(1)));
    let hash = step(&view, "many").hash.clone();
    assert!(!can(&view, "many", Can::Approve) && view.next.is_none());
    assert!(rig.desk.approve("RUN-1", "many", &hash, person("bob")).await.is_err(), "nothing is agreed to in a dry run");
    assert!(rig.desk.choose("RUN-1", "talk", person("bob")).await.is_err());
    rig.rest().await;
    assert_eq!((rig.file("done").as_str(), rig.actor.done().len()), ("", 0));
    let tried = rig.records("RUN-1").await.iter().filter(|record| matches!(record, Record::Begun { dry: true, .. })).count();
    assert_eq!(tried, 2, "each was tried once");
    let view = rig.desk.call_off("RUN-1", person("bob"), "seen").await.expect("ends");
    assert_eq!((view.line.ending, view.line.why.as_str()), (Some(Ending::CalledOff), "bob called it off: seen"));
    let last = rig.disk.journal.read_subject("run/RUN-1", 0, 1000).await.expect("reads").pop().expect("one");
    assert_eq!((last.kind.as_str(), last.actor.as_str()), ("run-ended", "bob"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_called_off_in_the_middle_is_gone_and_the_record_says_by_whom() {
    let text = "---\nid: worker\n---\n# W\n## Resolution\n```sh { name=long timeout=10m }\necho $$ > pid; sleep 1000\n```\n";
    let rig = Rig::new(&[text]).await;
    rig.start().await;
    rig.approve("RUN-1", "long", "bob").await;
    rig.until("RUN-1", |_| rig.file("pid").ends_with('\n')).await;
    let begun = Instant::now();
    rig.desk.call_off("RUN-1", person("carol"), "wrong one").await.expect("ends");
    let pid = rig.file("pid").trim().to_owned();
    while std::path::Path::new(&format!("/proc/{pid}")).exists() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it lives");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let view = rig.until("RUN-1", |view| matches!(state(view, "long"), StepState::Failed { .. })).await;
    assert_eq!(view.line.why, "carol called it off: wrong one");
    assert_eq!(rig.desk.brakes().await.locks.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_turn_can_be_called_off() {
    let text = "---\nid: worker\n---\n# W\n## Investigation\n```sh { name=slow timeout=10m }\nsleep 1000\n```\n";
    let rig = Rig::with(&[text], |settings| settings.steps_at_once = 1).await;
    rig.start().await;
    rig.until("RUN-1", |view| *state(view, "slow") == StepState::Running).await;
    rig.desk.start(incident("worker", "INC-2")).await.expect("starts");
    rig.rest().await;
    let waits = rig.desk.view("RUN-2").await.expect("a run");
    assert_eq!(*state(&waits, "slow"), StepState::Pending, "one at once");
    rig.desk.call_off("RUN-2", person("bob"), "").await.expect("ends");
    // It is really gone, and its incident may have another one.
    let begun = Instant::now();
    while rig.desk.start(incident("worker", "INC-2")).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    rig.desk.call_off("RUN-1", person("bob"), "").await.expect("ends");
    rig.until("RUN-3", |view| *state(view, "slow") == StepState::Running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inputs_and_secrets_are_given_later_and_no_secret_is_in_the_journal() {
    let text = "---\nid: worker\ninputs:\n  name: { required: true, pattern: \"[a-z]+\" }\n  token: { type: secret, required: true }\n---\n# W\n## Investigation\n```sh { name=look }\necho \"$name says $token\"\n```\n## Resolution\n```sh { name=fix cooldown=0s }\necho \"$token\" > done; echo \"$token\"\n```\n";
    let rig = Rig::new(&[text]).await;
    rig.start().await;
    let view = rig.until("RUN-1", |view| matches!(state(view, "look"), StepState::Held { .. })).await;
    assert_eq!(view.missing, ["name", "token"]);
    let give = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    for (name, value) in [("other", "x"), ("name", "X1"), ("name", "--help"), ("name", "a\nb")] {
        assert!(rig.desk.give("RUN-1", &give(name, value), person("bob")).await.is_err(), "{name}={value:?}");
    }
    assert!(rig.desk.give("RUN-1", &give("name", "x"), person("http")).await.is_err());
    rig.desk.give("RUN-1", &give("name", "worker"), person("bob")).await.expect("takes");
    rig.desk.give("RUN-1", &give("token", "correct-horse-battery"), person("bob")).await.expect("takes");
    let view = rig.until("RUN-1", |view| *state(view, "look") == StepState::Ok).await;
    let look = step(&view, "look");
    assert_eq!(look.last.as_ref().map(|done| done.shown.as_str()), Some("worker says ***\n"));
    rig.approve("RUN-1", "fix", "bob").await;
    rig.until_ended("RUN-1").await;
    assert_eq!(rig.file("done"), "correct-horse-battery\n");
    // After a restart the secret is to be given again.
    rig.desk.start(StartRun { inputs: give("token", "correct-horse-battery"), ..incident("worker", "INC-2") }).await.expect("starts");
    let rig = rig.restart().await;
    assert_eq!(rig.until("RUN-2", |view| matches!(state(view, "look"), StepState::Held { .. })).await.missing, ["name", "token"]);
    rig.rest().await;
    for file in std::fs::read_dir(rig.folder.path()).expect("lists").flatten() {
        if file.file_name().to_string_lossy().starts_with("journal") {
            let bytes = std::fs::read(file.path()).expect("reads");
            assert!(!bytes.windows(13).any(|window| window == b"correct-horse"), "{:?}", file.path());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_known_any_more_is_not_what_was_known_before() {
    let text = "---\nid: worker\ninputs: { to: {} }\n---\n# W\n## Investigation\n```sh { name=look }\necho \"$to\"\n```\n";
    let rig = Rig::new(&[text]).await;
    let give = |value: String| BTreeMap::from([("to".to_owned(), value)]);
    rig.desk.start(StartRun { inputs: give("first".to_owned()), ..incident("worker", "INC-1") }).await.expect("starts");
    rig.until("RUN-1", |view| *state(view, "look") == StepState::Ok).await;
    let key = format!("sk-ant-api03-{}", "A1b2C3d4".repeat(8));
    rig.desk.give("RUN-1", &give(key), person("bob")).await.expect("takes");
    let rig = rig.restart().await;
    rig.desk.again("RUN-1", "look", person("bob")).await.expect("again");
    let view = rig.until("RUN-1", |view| matches!(state(view, "look"), StepState::Held { .. })).await;
    assert_eq!(view.missing, ["to"], "the value before is not taken in the place of one that is not shown");
}

/// Takes its time, and asks the desk about the run that it is told of.
#[derive(Default)]
struct Slow {
    told: AtomicUsize,
}

impl Observer for Slow {
    fn recorded<'a>(&'a self, _recorded: &'a Recorded) -> BoxFuture<'a, ()> {
        self.told.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::pending())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_who_follows_can_stop_a_run() {
    let mut rig = Rig::new(&["---\nid: worker\n---\n# W\n## Investigation\n```sh { name=look }\ncat state\n```\n"]).await;
    let slow = Arc::new(Slow::default());
    let parts = Parts {
        settings: rig.settings.clone(),
        journal: Arc::<Disk>::clone(&rig.disk),
        hands: Hands { settings: rig.settings.execute.clone(), ..Hands::default() },
        clock: Arc::<ManualClock>::clone(&rig.clock),
        metrics: Metrics::default(),
        observer: Some(Arc::<Slow>::clone(&slow)),
        stop_file: rig.path("BRAKE"),
    };
    rig.desk = RunDesk::open(parts).await.expect("opens");
    rig.start().await;
    rig.until("RUN-1", |view| *state(view, "look") == StepState::Ok).await;
    assert!(slow.told.load(Ordering::SeqCst) >= 3);
}
