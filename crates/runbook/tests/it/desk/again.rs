//! What only looks is looked at again, as long as nothing was done; and a run stays while there is something left to do.

use paramedic_runbook::run::Ending;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_there_at_first_is_found_when_it_comes() {
    let rig = Rig::new(&[WORKER]).await;
    std::fs::write(rig.path("state"), "fine\n").expect("writes");
    rig.start().await;
    let view = rig.until("RUN-1", |view| !view.causes.is_empty()).await;
    rig.rest().await;
    assert!(view.causes.iter().all(|cause| cause.score == 0.0) && view.line.asking.is_empty(), "{view:#?}");
    std::fs::write(rig.path("state"), "worker is stuck\n").expect("writes");
    rig.desk.tell_incident("INC-1", &["another alert".to_owned()]).await.expect("tells");
    let view = rig.until_asked("RUN-1").await;
    assert_eq!(view.causes[0].cause, "stuck");
    assert_eq!(step(&view, "look").attempts, 2, "it was looked at again");
    // What is known already brings nothing new, and what was done is not looked at again.
    rig.approve("RUN-1", "fix", "bob").await;
    let view = rig.until_ended("RUN-1").await;
    assert_eq!(view.line.ending, Some(Ending::Done), "{view:#?}");
    let looked = rig.records("RUN-1").await.iter().filter(|record| matches!(record, Record::LookAgain { .. })).count();
    assert_eq!(looked, 1);
    rig.verify_chain();
}

const TWO_FIXES: &str = r#"---
id: worker
---
# Worker
## Investigation
```sh { name=look }
cat state
```
## Resolution
### Cause: Stuck { #stuck }
**Symptoms:**
```
worker is stuck
```
```sh { name=first cooldown=0s limit=99/1h verify="true" }
echo first >> done
```
```sh { name=second cooldown=0s limit=99/1h verify="true" }
echo fine > state
```
## Verification
```sh { name=calm expect="stdout ~ 'fine'" }
cat state
```
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_stays_while_another_fix_can_be_agreed_to() {
    let rig = Rig::new(&[TWO_FIXES]).await;
    rig.start().await;
    rig.until_asked("RUN-1").await;
    rig.approve("RUN-1", "first", "bob").await;
    rig.until("RUN-1", |view| matches!(state(view, "calm"), StepState::Unexpected { .. })).await;
    let view = rig.until("RUN-1", |view| view.next.as_deref() == Some("second") || view.line.ended_at.is_some()).await;
    assert_eq!(view.line.ended_at, None, "the second is left: {view:#?}");
    rig.approve("RUN-1", "second", "bob").await;
    let view = rig.until_ended("RUN-1").await;
    assert_eq!((view.line.ending, rig.file("state").as_str()), (Some(Ending::Done), "fine\n"), "{view:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_that_finds_nothing_to_say_writes_nothing() {
    let rig = Rig::new(&[TWO_FIXES]).await;
    rig.start().await;
    rig.until_asked("RUN-1").await;
    rig.approve("RUN-1", "first", "bob").await;
    rig.until("RUN-1", |view| matches!(state(view, "calm"), StepState::Unexpected { .. })).await;
    // What is known already, after something was done: there is nothing to note, and nothing to look at again.
    let known = ["worker is stuck".to_owned()];
    rig.desk.tell_incident("INC-1", &known).await.expect("tells");
    rig.rest().await;
    let appends = rig.disk.appends.load(Ordering::SeqCst);
    for _ in 0..3 {
        rig.desk.tell_incident("INC-1", &known).await.expect("tells");
    }
    rig.rest().await;
    assert_eq!(rig.disk.appends.load(Ordering::SeqCst), appends, "nothing was appended, not even an empty batch");
}
