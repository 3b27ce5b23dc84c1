//! The process ends in the middle, after every single record.

use paramedic_runbook::gate::Decision;
use paramedic_runbook::run::Ending;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_every_record_it_goes_on_and_nothing_is_done_twice_by_itself() {
    let mut all = tokio::task::JoinSet::new();
    for fits in 1..16 {
        all.spawn(async move { in_doubt_after(fits).await });
    }
    let mut in_doubt = 0;
    while let Some(one) = all.join_next().await {
        in_doubt += usize::from(one.expect("it holds"));
    }
    assert_eq!(in_doubt, 1, "one cut lies between the beginning and the end of the change");
}

async fn in_doubt_after(fits: i64) -> bool {
    let rig = Rig::new(&[WORKER]).await;
    rig.disk.left.store(fits, Ordering::SeqCst);
    rig.desk.start(incident("worker", "INC-1")).await.expect("one fits");
    let view = rig.until("RUN-1", |view| view.halted.is_some() || view.next.is_some()).await;
    if view.halted.is_none() && rig.desk.approve("RUN-1", "fix", &step(&view, "fix").hash, person("bob")).await.is_ok() {
        rig.until("RUN-1", |view| view.halted.is_some() || view.line.ended_at.is_some()).await;
    }
    let before = rig.file("done").lines().count();
    assert!(before <= 1, "{fits}");
    let rig = rig.restart().await;
    let view = rig.until("RUN-1", |view| view.next.is_some() || view.line.ended_at.is_some()).await;
    rig.rest().await;
    let in_doubt = *state(&view, "fix") == StepState::Interrupted;
    if in_doubt {
        // It is shown, and nothing happens by itself.
        assert_eq!((view.next.as_deref(), rig.file("done").lines().count()), (Some("fix"), before), "{fits}");
        assert!(step(&view, "fix").word.contains("in doubt") && can(&view, "fix", Can::Again) && can(&view, "fix", Can::Approve));
        assert!(can(&view, "fix", Can::Undo), "what may have been changed may be taken back");
        assert!(step(&view, "fix").agreed.is_empty(), "the agreement was for one attempt");
        rig.desk.again("RUN-1", "fix", person("carol")).await.expect("again");
        rig.rest().await;
        assert_eq!(rig.file("done").lines().count(), before, "another attempt needs another word");
    }
    let view = rig.desk.view("RUN-1").await.expect("a run");
    if view.line.ended_at.is_none() && step(&view, "fix").agreed.is_empty() && can(&view, "fix", Can::Approve) {
        rig.approve("RUN-1", "fix", "carol").await;
    }
    let view = rig.until_ended("RUN-1").await;
    assert_eq!((view.line.ending, state(&view, "fix")), (Some(Ending::Done), &StepState::Verified), "{fits}");
    assert_eq!(rig.file("done").lines().count(), 1 + usize::from(in_doubt), "{fits}");
    assert_eq!(rig.desk.brakes().await.locks.len(), 0);
    rig.verify_chain();
    in_doubt
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agreement_is_as_old_after_a_restart_as_it_was_before() {
    // Two have to agree; one did, and the process ended before anything else was counted.
    let text = WORKER.replace("verify=", "approve=two verify=");
    let rig = Rig::new(&[&text]).await;
    rig.start().await;
    rig.until_asked("RUN-1").await;
    rig.approve("RUN-1", "fix", "bob").await;
    let rig = rig.restart().await;
    let view = rig.until_asked("RUN-1").await;
    assert_eq!(step(&view, "fix").agreed, ["bob"]);
    // Half an hour of the brakes' own time goes by.
    let entries = rig.disk.journal.read_subject("brakes", 0, 100).await.expect("reads");
    let mut brakes = entries.last().expect("they were stored with the agreement").payload.clone();
    let clock = brakes["clock_ms"].as_u64().expect("a time");
    brakes["clock_ms"] = (clock + 31 * 60_000).into();
    let draft = Draft {
        at: Timestamp::from_secs(1_800_000_000),
        kind: "brakes-changed".to_owned(),
        subject: "brakes".to_owned(),
        actor: "test".to_owned(),
        payload: brakes,
    };
    rig.disk.journal.append(vec![draft], Expected::Any).await.expect("appends");
    let rig = rig.restart().await;
    let view = rig.until_asked("RUN-1").await;
    assert_eq!(step(&view, "fix").agreed, [] as [&str; 0], "it is too old, and that is shown");
    rig.approve("RUN-1", "fix", "carol").await;
    rig.rest().await;
    assert_eq!(rig.file("done"), "", "carol is the first of two");
    rig.approve("RUN-1", "fix", "bob").await;
    rig.until_ended("RUN-1").await;
    assert_eq!(rig.file("done"), "by hand\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_text_has_changed_does_not_go_on_and_holds_nothing() {
    let text = WORKER.replace("id: worker", "id: worker\nlimits: { lock: worker }");
    let rig = Rig::new(&[&text.replace("echo fine", "sleep 5; echo fine")]).await;
    rig.start().await;
    rig.until_asked("RUN-1").await;
    rig.approve("RUN-1", "fix", "bob").await;
    rig.until("RUN-1", |_| !rig.file("done").is_empty()).await;
    assert_eq!(rig.desk.brakes().await.locks.len(), 1);
    std::fs::write(rig.path("books/0.md"), &text).expect("writes");
    let rig = rig.restart().await;
    let view = rig.until_ended("RUN-1").await;
    assert!(view.line.why.contains("has changed since it began") && view.text_gone, "{view:#?}");
    assert_eq!(*state(&view, "fix"), StepState::Interrupted, "what was under way is in doubt, for ever");
    assert_eq!(rig.desk.brakes().await.locks.len(), 0);
    // Another run of the new text may begin and take the lock.
    rig.start().await;
    rig.until_asked("RUN-2").await;
    rig.approve("RUN-2", "fix", "bob").await;
    rig.until_ended("RUN-2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_of_a_run_that_is_over_is_given_up_by_whoever_starts_next() {
    let text = WORKER.replace("id: worker", "id: worker\nlimits: { lock: worker }");
    let rig = Rig::new(&[&text]).await;
    rig.start().await;
    rig.until_asked("RUN-1").await;
    rig.approve("RUN-1", "fix", "bob").await;
    rig.until_ended("RUN-1").await;
    rig.rest().await;
    // As if the process had ended between the end of the run and the giving up of its lock.
    let mut brakes = rig.disk.journal.read_subject("brakes", 0, 100).await.expect("reads").pop().expect("stored").payload;
    brakes["locks"] = serde_json::json!({"worker": "RUN-1"});
    let draft = Draft {
        at: Timestamp::from_secs(1_800_000_000),
        kind: "brakes-changed".to_owned(),
        subject: "brakes".to_owned(),
        actor: "test".to_owned(),
        payload: brakes,
    };
    rig.disk.journal.append(vec![draft], Expected::Any).await.expect("appends");
    let rig = rig.restart().await;
    assert_eq!(rig.desk.brakes().await.locks.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agreement_that_gets_too_old_is_asked_for_again_without_anybody_looking() {
    let text = WORKER.replace("verify=", "approve=two verify=");
    let rig = Rig::new(&[&text]).await;
    rig.start().await;
    rig.until_asked("RUN-1").await;
    rig.approve("RUN-1", "fix", "bob").await;
    let missing = |records: &[Record]| {
        records.iter().rev().find_map(|record| match record {
            Record::Held { step, decision: Decision::Ask { missing, .. } } if step == "fix" => Some(*missing),
            _ => None,
        })
    };
    rig.rest().await;
    assert_eq!(missing(&rig.records("RUN-1").await), Some(1), "one more");
    // It is half an hour old in a moment.
    let mut brakes = rig.disk.journal.read_subject("brakes", 0, 100).await.expect("reads").pop().expect("stored").payload;
    brakes["clock_ms"] = (brakes["clock_ms"].as_u64().expect("a time") + 30 * 60_000 - 3_000).into();
    let draft = Draft {
        at: Timestamp::from_secs(1_800_000_000),
        kind: "brakes-changed".to_owned(),
        subject: "brakes".to_owned(),
        actor: "test".to_owned(),
        payload: brakes,
    };
    rig.disk.journal.append(vec![draft], Expected::Any).await.expect("appends");
    let rig = rig.restart().await;
    let begun = Instant::now();
    while missing(&rig.records("RUN-1").await) != Some(2) {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:#?}", rig.records("RUN-1").await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Where the process that is killed finds what it works on; without it there is nothing to do.
const KILLED_IN: &str = "PARAMEDIC_TEST_KILLED_IN";
/// A fix that takes long, and programs of it that clear their environment.
const LONG: &str = "echo begun >> done; env -i sleep 60 & echo $$ > pids; echo $! >> pids; sleep 60";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "another test starts it and kills it"]
async fn the_process_that_is_killed() {
    let Some(folder) = std::env::var_os(KILLED_IN) else { return };
    let rig = Rig::within(tempfile::TempDir::with_prefix("unused").expect("a folder"), PathBuf::from(folder)).await;
    rig.start().await;
    rig.until_asked("RUN-1").await;
    rig.approve("RUN-1", "fix", "bob").await;
    std::future::pending::<()>().await;
}

/// Ends what a failed test would leave.
struct Ends(Vec<i32>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.iter().for_each(|pid| kill(*pid));
    }
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a number");
    // It may have ended.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_outlives_a_killed_instance_is_shown_and_nothing_runs_beside_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = WORKER.replace("echo \"$note\" >> done; echo fine > state", LONG);
    std::fs::create_dir(folder.path().join("books")).expect("a folder");
    std::fs::write(folder.path().join("books/0.md"), text).expect("writes");
    std::fs::write(folder.path().join("state"), "worker is stuck\n").expect("writes");
    let mut killed = std::process::Command::new(std::env::current_exe().expect("a program"))
        .args(["--exact", "desk::doubt::the_process_that_is_killed", "--ignored"])
        .env(KILLED_IN, folder.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("starts");
    let begun = Instant::now();
    let pids = loop {
        let pids = std::fs::read_to_string(folder.path().join("pids")).unwrap_or_default();
        let pids: Vec<i32> = pids.lines().filter_map(|line| line.parse().ok()).collect();
        if pids.len() == 2 {
            break pids;
        }
        if begun.elapsed() > Duration::from_secs(30) {
            let _ = killed.kill();
            panic!("it did not begin");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let ends = Ends(pids.clone());
    killed.kill().expect("ends at once");
    killed.wait().expect("it ended");

    let path = folder.path().to_owned();
    let rig = Rig::within(folder, path).await;
    rig.desk.resume().await;
    let view = rig.until("RUN-1", |view| *state(view, "fix") == StepState::Interrupted).await;
    let fix = step(&view, "fix");
    let shown = fix.still_running.join(", ");
    assert!(pids.iter().all(|pid| shown.contains(&format!("{pid} "))) && shown.contains(" sleep "), "{pids:?} in {shown}");
    assert!(fix.word.contains(&shown) && fix.can == [Can::LeaveOut], "{fix:#?}");
    let recorded = |record: &Record| matches!(record, Record::Interrupted { still_running, .. } if still_running.join(", ") == shown);
    assert!(rig.records("RUN-1").await.iter().any(recorded));
    // Whatever would run it beside itself is refused, and says how to go on.
    let hash = fix.hash.clone();
    let refusals = [
        rig.desk.approve("RUN-1", "fix", &hash, person("bob")).await,
        rig.desk.again("RUN-1", "fix", person("bob")).await,
        rig.desk.undo("RUN-1", "fix", person("bob"), "").await,
    ];
    for refusal in refusals {
        let why = refusal.expect_err("it still runs").to_string();
        let told = format!("paramedic action run process.stop --set pid={} --set started=", pids[0]);
        assert!(why.contains(&told) && why.contains(&format!("{} sleep", pids[1])), "{why}");
    }
    // It is not ended by itself.
    assert!(pids.iter().all(|pid| std::path::Path::new(&format!("/proc/{pid}")).exists()));
    for left in &fix.still_running {
        kill(left.split(' ').next().expect("a number").parse().expect("a number"));
    }
    let view = rig.until("RUN-1", |view| step(view, "fix").still_running.is_empty()).await;
    assert!(can(&view, "fix", Can::Approve) && !step(&view, "fix").word.contains("still runs"), "{view:#?}");
    drop(ends);
    rig.approve("RUN-1", "fix", "bob").await;
    rig.until("RUN-1", |_| rig.file("done") == "begun\nbegun\n").await;
    rig.desk.call_off("RUN-1", person("bob"), "enough").await.expect("ends");
    rig.until_ended("RUN-1").await;
    rig.verify_chain();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_person_is_named_once_however_they_write_themselves() {
    let rig = Rig::new(&[&WORKER.replace("verify=", "approve=two verify=")]).await;
    rig.start().await;
    rig.until_asked("RUN-1").await;
    for name in ["bob", "Bob", "bob@example.org"] {
        rig.approve("RUN-1", "fix", name).await;
    }
    rig.rest().await;
    let view = rig.desk.view("RUN-1").await.expect("a run");
    assert_eq!((step(&view, "fix").agreed.as_slice(), rig.file("done").as_str()), (["bob".to_owned()].as_slice(), ""));
}
