//! The journal refuses: nothing runs that was not written, the run says why it stands, and goes on when it can.

use super::*;

async fn halted_or(rig: &Rig, what: impl Fn(&RunView) -> bool) -> RunView {
    rig.until("RUN-1", |view| view.halted.is_some() || what(view)).await
}

/// How often the fix was begun according to the record, and how often it was done according to the world.
async fn times(rig: &Rig) -> (usize, usize) {
    let begun = rig.records("RUN-1").await;
    let begun = begun.iter().filter(|record| matches!(record, Record::Begun { step, .. } if step == "fix")).count();
    (begun, rig.file("done").lines().count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_still_fits_what_was_not_written_did_not_happen_and_it_goes_on() {
    // All at once: each waits some seconds until it tries again.
    let mut all = tokio::task::JoinSet::new();
    for fits in 0..16 {
        all.spawn(async move {
            let rig = Rig::new(&[WORKER]).await;
            rig.disk.left.store(fits, Ordering::SeqCst);
            if rig.desk.start(incident("worker", "INC-1")).await.is_err() {
                assert_eq!(rig.desk.lines(|_| true).len(), 0, "{fits}: what was not written is not there");
                return (fits, false);
            }
            let mut view = halted_or(&rig, |view| view.next.is_some()).await;
            if view.halted.is_none() {
                let hash = step(&view, "fix").hash.clone();
                if rig.desk.approve("RUN-1", "fix", &hash, person("bob")).await.is_ok() {
                    view = halted_or(&rig, |view| view.line.ended_at.is_some()).await;
                }
            }
            let halted = view.halted.clone();
            assert!(halted.as_ref().is_none_or(|why| why.contains("the disk is full")), "{fits}: {halted:?}");
            let (begun, done) = times(&rig).await;
            assert!(done <= begun && begun <= 1, "{fits}: {begun} {done}");
            // Space again.
            rig.disk.left.store(i64::MAX, Ordering::SeqCst);
            if done == 0 && begun == 0 {
                let view = rig.until_asked("RUN-1").await;
                if step(&view, "fix").agreed.is_empty() {
                    rig.approve("RUN-1", "fix", "bob").await;
                }
            }
            let view = rig.until_ended("RUN-1").await;
            assert_eq!((state(&view, "fix"), view.halted.clone()), (&StepState::Verified, None), "{fits}");
            assert_eq!(times(&rig).await, (1, 1), "{fits}: it was done once, and its end was known all the time");
            assert_eq!(rig.desk.brakes().await.locks.len(), 0);
            rig.verify_chain();
            (fits, halted.is_some())
        });
    }
    let mut halted = 0;
    while let Some(one) = all.join_next().await {
        halted += usize::from(one.expect("it holds").1);
    }
    assert!(halted >= 4, "the disk was full at many places: {halted}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_does_not_keep_the_kill_switch_from_working() {
    let rig = Rig::new(&[WORKER]).await;
    rig.start().await;
    rig.until_asked("RUN-1").await;
    rig.disk.left.store(0, Ordering::SeqCst);
    let stopped = rig.desk.stop(paramedic_runbook::brake::Stopped::Writes, &person("bob"), "hands off").await;
    assert!(stopped.is_err(), "it could not be written, and that is said");
    rig.disk.left.store(i64::MAX, Ordering::SeqCst);
    rig.approve("RUN-1", "fix", "bob").await;
    rig.rest().await;
    assert_eq!((rig.desk.brakes().await.stopped, rig.file("done").as_str()), (paramedic_runbook::brake::Stopped::Writes, ""));
    let rig = rig.restart().await;
    assert_eq!(rig.desk.brakes().await.stopped, paramedic_runbook::brake::Stopped::Writes, "it was written when it could be");
    rig.disk.left.store(0, Ordering::SeqCst);
    assert!(rig.desk.stop(paramedic_runbook::brake::Stopped::Nothing, &person("bob"), "").await.is_err());
    assert_eq!(rig.desk.brakes().await.stopped, paramedic_runbook::brake::Stopped::Writes, "what is lifted is written first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_does_not_use_up_attempts() {
    let text = WORKER.replace("cooldown=0s limit=99/1h", "cooldown=5m limit=1/1h");
    let rig = Rig::new(&[&text]).await;
    rig.start().await;
    rig.until_asked("RUN-1").await;
    let view = rig.desk.view("RUN-1").await.expect("a run");
    rig.disk.left.store(3, Ordering::SeqCst);
    rig.desk.approve("RUN-1", "fix", &step(&view, "fix").hash, person("bob")).await.expect("fits just");
    rig.until("RUN-1", |view| view.halted.is_some()).await;
    assert_eq!(rig.file("done"), "");
    rig.disk.left.store(i64::MAX, Ordering::SeqCst);
    let view = rig.until_ended("RUN-1").await;
    assert_eq!((state(&view, "fix"), rig.file("done").as_str()), (&StepState::Verified, "by hand\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_called_off_while_the_disk_is_full_stops_at_once() {
    let text = "---\nid: worker\n---\n# W\n## Resolution\n```sh { name=long timeout=10m }\necho $$ > pid; sleep 1000\n```\n";
    let rig = Rig::new(&[text]).await;
    rig.start().await;
    rig.approve("RUN-1", "long", "bob").await;
    rig.until("RUN-1", |_| rig.file("pid").ends_with('\n')).await;
    rig.disk.left.store(0, Ordering::SeqCst);
    assert!(rig.desk.call_off("RUN-1", person("carol"), "wrong").await.is_err(), "it could not be written");
    let begun = Instant::now();
    while std::path::Path::new(&format!("/proc/{}", rig.file("pid").trim())).exists() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it lives");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    rig.disk.left.store(i64::MAX, Ordering::SeqCst);
    let view = rig.until_ended("RUN-1").await;
    assert_eq!(view.line.why, "carol called it off: wrong");
}
