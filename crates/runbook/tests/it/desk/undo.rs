//! What was done is taken back: by its rollback step, by its inverse, by itself when its time is over.

use paramedic_runbook::brake::Stopped;
use paramedic_runbook::desk::{ACTION_STEP, ActionCall};
use paramedic_runbook::run::Ending;

use super::*;

const SLOWLY: &str = "---\nid: worker\n---\n# W\n## Investigation\n```sh { name=look }\ncat state\n```\n## Resolution\n```action { name=limit cooldown=0s limit=99/1h }\nswitch.set: { switch: x }\n```\n```sh { name=other cooldown=0s }\necho x >> done\n```\n";

/// An action that was done for a time, with its way back.
fn for_a_time(seconds: Option<u64>) -> Outcome {
    let inverse = serde_json::json!({"action": "switch.clear", "arguments": {"switch": "x"}});
    Outcome { affected: Some(1), inverse: Some(inverse), reverts_after_s: seconds, ..Outcome::default() }
}

fn cleared(rig: &Rig) -> usize {
    rig.actor.done().iter().filter(|call| call.starts_with("switch.clear")).count()
}

/// A run whose `limit` was done for a minute, and that goes on.
async fn limited(seconds: Option<u64>) -> Rig {
    let text = SLOWLY.replace("name=limit", "name=limit verify=\"look.stdout ~ 'stuck' within 5m hold 5m\"");
    let rig = Rig::new(&[&text]).await;
    rig.actor.answer(for_a_time(seconds));
    rig.start().await;
    rig.approve("RUN-1", "limit", "bob").await;
    rig.until("RUN-1", |view| *state(view, "limit") == StepState::Verifying).await;
    rig
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_step_runs_when_somebody_asks_for_it() {
    let text = WORKER.replace("within 1s", "within 5m hold 5m");
    let rig = Rig::new(&[&text]).await;
    rig.start().await;
    let view = rig.until_asked("RUN-1").await;
    assert!(!can(&view, "fix", Can::Undo) && rig.desk.undo("RUN-1", "fix", person("bob"), "").await.is_err(), "nothing was changed");
    rig.approve("RUN-1", "fix", "bob").await;
    let view = rig.until("RUN-1", |view| *state(view, "fix") == StepState::Verifying).await;
    assert!(can(&view, "fix", Can::Undo));
    rig.desk.undo("RUN-1", "fix", person("carol"), "it was the other worker").await.expect("takes back");
    let view = rig.until_ended("RUN-1").await;
    assert_eq!((view.line.ending, rig.file("done").as_str()), (Some(Ending::TakenBack), "by hand\nback\n"));
    assert!(view.line.why.contains("carol asked for it: it was the other worker"), "{}", view.line.why);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_after_it_began_is_not_taken_back_by_itself_but_can_be() {
    let text = WORKER.replace("echo \"$note\" >> done; echo fine > state", "echo half >> done; exit 3");
    let rig = Rig::new(&[&text]).await;
    rig.start().await;
    rig.until_asked("RUN-1").await;
    rig.approve("RUN-1", "fix", "bob").await;
    let view = rig.until("RUN-1", |view| matches!(state(view, "fix"), StepState::Unexpected { .. })).await;
    rig.rest().await;
    assert_eq!((rig.file("done").as_str(), view.line.ended_at), ("half\n", None));
    assert!(can(&view, "fix", Can::Undo) && can(&view, "fix", Can::Again), "{view:#?}");
    rig.desk.undo("RUN-1", "fix", person("bob"), "half done").await.expect("takes back");
    let view = rig.until_ended("RUN-1").await;
    assert_eq!((view.line.ending, rig.file("done").as_str()), (Some(Ending::TakenBack), "half\nback\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_back_that_is_asked_for_while_another_step_runs_is_really_gone() {
    let text =
        WORKER.replace("within 1s", "within 5m hold 5m").replace("cat state\n```\n## Resolution", "sleep 1; cat state\n```\n## Resolution");
    let rig = Rig::new(&[&text]).await;
    rig.start().await;
    rig.until_asked("RUN-1").await;
    rig.approve("RUN-1", "fix", "bob").await;
    // What verifies it is read again and again, and takes a second each time.
    rig.until("RUN-1", |view| *state(view, "look") == StepState::Running && step(view, "fix").attempts == 1).await;
    rig.desk.undo("RUN-1", "fix", person("bob"), "now").await.expect("takes back");
    let view = rig.until_ended("RUN-1").await;
    assert_eq!((view.line.ending, rig.file("done").as_str()), (Some(Ending::TakenBack), "by hand\nback\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_is_undone_by_its_inverse_which_somebody_agrees_to() {
    let rig = limited(Some(3_600)).await;
    assert_eq!(rig.desk.reverts().len(), 1);
    let view = rig.desk.view("RUN-1").await.expect("a run");
    assert_eq!(step(&view, "limit").reverts_at.map(|at| at.since(rig.clock.now()).as_secs()), Some(3_600));
    let undo = rig.desk.undo("RUN-1", "limit", person("bob"), "earlier").await.expect("a run");
    assert_eq!(
        (undo.line.id.as_str(), undo.line.runbook.as_str(), undo.line.incident.as_deref()),
        ("RUN-2", "action/switch.clear", Some("INC-1"))
    );
    rig.rest().await;
    assert_eq!(cleared(&rig), 0, "it waits for a word");
    // Also after a restart it is the same step with the same hash.
    let hash = step(&undo, ACTION_STEP).hash.clone();
    let rig = rig.restart().await;
    rig.desk.approve("RUN-2", ACTION_STEP, &hash, person("carol")).await.expect("agrees");
    rig.until_ended("RUN-2").await;
    assert_eq!((cleared(&rig), rig.desk.reverts().len()), (1, 0), "it is not taken back once more when its time is over");
    rig.clock.advance(Duration::from_secs(7_200));
    rig.desk.tick().await;
    rig.rest().await;
    assert_eq!(cleared(&rig), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_for_a_time_is_taken_back_also_after_a_restart_and_in_spite_of_failures() {
    let rig = limited(Some(60)).await;
    rig.clock.advance(Duration::from_secs(59));
    rig.desk.tick().await;
    rig.rest().await;
    assert_eq!(cleared(&rig), 0, "too early");
    let rig = rig.restart().await;
    // Stopped by people: nothing changes at all.
    rig.clock.advance(Duration::from_secs(2));
    rig.desk.stop(Stopped::Writes, &person("bob"), "hands off").await.expect("stops");
    rig.desk.tick().await;
    rig.rest().await;
    assert_eq!((cleared(&rig), rig.desk.reverts()[0].attempts), (0, 0));
    rig.desk.stop(Stopped::Nothing, &person("bob"), "go on").await.expect("lifts");
    for _ in 0..3 {
        rig.actor.answer(Outcome::fault("nobody answers"));
    }
    for times in 1..=3 {
        rig.desk.tick().await;
        rig.until("RUN-1", |_| rig.desk.reverts().first().is_some_and(|revert| revert.attempts == times && revert.failed.is_some())).await;
        rig.desk.tick().await;
        rig.rest().await;
        assert_eq!(cleared(&rig), times as usize, "not again before a minute");
        rig.clock.advance(Duration::from_secs(61));
    }
    assert_eq!(rig.desk.reverts()[0].failed.as_deref(), Some("nobody answers"));
    rig.desk.tick().await;
    let view = rig.until("RUN-1", |view| matches!(state(view, "limit"), StepState::TakenBack { .. })).await;
    assert_eq!((cleared(&rig), rig.desk.reverts().len(), view.line.ended_at), (4, 0, None), "the run may go on");
    rig.clock.advance(Duration::from_secs(3_600));
    rig.desk.tick().await;
    rig.rest().await;
    assert_eq!(cleared(&rig), 4);
    let rig = rig.restart().await;
    assert!(matches!(state(&rig.desk.view("RUN-1").await.expect("a run"), "limit"), StepState::TakenBack { .. }));
    rig.approve("RUN-1", "other", "bob").await;
    rig.until_ended("RUN-1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_back_that_takes_long_is_begun_once_and_holds_nobody_up() {
    let rig = limited(Some(1)).await;
    *rig.actor.slow.lock().expect("a time") = Duration::from_secs(2);
    rig.clock.advance(Duration::from_secs(2));
    let begun = Instant::now();
    for _ in 0..5 {
        rig.clock.advance(Duration::from_secs(601));
        rig.desk.tick().await;
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "time goes on meanwhile");
    rig.until("RUN-1", |_| rig.desk.reverts().is_empty()).await;
    assert_eq!(cleared(&rig), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_by_hand_takes_the_automatic_one_away() {
    let text = SLOWLY
        .replace("name=limit", "name=limit rollback=back verify=\"look.stdout ~ 'stuck' within 5m hold 5m\"")
        .replace("```sh { name=other", "```action { name=back only=rollback }\nswitch.clear: { switch: x }\n```\n```sh { name=other");
    let rig = Rig::new(&[&text]).await;
    rig.actor.answer(for_a_time(Some(60)));
    rig.start().await;
    rig.approve("RUN-1", "limit", "bob").await;
    rig.until("RUN-1", |view| *state(view, "limit") == StepState::Verifying).await;
    rig.desk.undo("RUN-1", "limit", person("bob"), "").await.expect("takes back");
    rig.until_ended("RUN-1").await;
    rig.clock.advance(Duration::from_secs(120));
    rig.desk.tick().await;
    rig.rest().await;
    assert_eq!((cleared(&rig), rig.desk.reverts().len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_are_left_out_and_run_once_more() {
    let rig = Rig::new(&[&WORKER.replace("cat state\n```\n## Resolution", "cat nowhere\n```\n## Resolution")]).await;
    rig.desk.start(StartRun { observed: vec!["worker is stuck".to_owned()], ..incident("worker", "INC-1") }).await.expect("starts");
    let view = rig.until_asked("RUN-1").await;
    assert!(matches!(state(&view, "look"), StepState::Unexpected { .. }) && can(&view, "look", Can::Again), "{view:#?}");
    std::fs::write(rig.path("nowhere"), "fine\n").expect("writes");
    rig.desk.again("RUN-1", "look", person("bob")).await.expect("again");
    rig.until("RUN-1", |view| *state(view, "look") == StepState::Ok).await;
    rig.approve("RUN-1", "fix", "bob").await;
    let _ = rig.until("RUN-1", |view| step(view, "fix").attempts == 1).await;
    // Another run leaves its fix out, and takes it in again.
    rig.desk.start(StartRun { observed: vec!["worker is stuck".to_owned()], ..incident("worker", "INC-2") }).await.expect("starts");
    rig.until_asked("RUN-2").await;
    let view = rig.desk.leave_out("RUN-2", "fix", person("bob"), "not now").await.expect("left out");
    assert!(
        matches!(state(&view, "fix"), StepState::Skipped { why } if why == "bob left it out: not now") && can(&view, "fix", Can::Again)
    );
    let hash = step(&view, "fix").hash.clone();
    assert!(rig.desk.approve("RUN-2", "fix", &hash, person("bob")).await.is_err(), "it is left out");
    rig.desk.again("RUN-2", "fix", person("bob")).await.expect("again");
    rig.until_asked("RUN-2").await;
    rig.approve("RUN-2", "fix", "bob").await;
    rig.until_ended("RUN-2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_that_somebody_asks_for_waits_and_is_counted() {
    let rig = Rig::new(&[]).await;
    let arguments = serde_json::from_value(serde_json::json!({"name": "worker", "why": "$(x) {{y}}"})).expect("an object");
    let call = ActionCall { action: "service.restart".to_owned(), arguments, affected_max: Some(1) };
    let view = rig.desk.start_action(call, Some("INC-1".to_owned()), person("bob"), "because").await.expect("starts");
    assert_eq!((view.line.runbook.as_str(), view.line.target.as_str(), view.steps.len()), ("action/service.restart", "worker", 1));
    rig.rest().await;
    assert_eq!(rig.actor.done().len(), 0);
    rig.approve("RUN-1", ACTION_STEP, "carol").await;
    let view = rig.until_ended("RUN-1").await;
    assert_eq!(step(&view, ACTION_STEP).last.as_ref().and_then(|done| done.affected), Some(1));
    assert_eq!(rig.actor.done(), ["service.restart {\"name\":\"worker\",\"why\":\"$(x) {{y}}\"}"]);
    assert!(!rig.actor.planned.lock().expect("a list").is_empty(), "it was counted first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_plan_foresaw_takes_back_what_nobody_saw_the_end_of() {
    let rig = Rig::new(&[SLOWLY]).await;
    *rig.actor.plan.lock().expect("a plan") = Some(for_a_time(Some(60)));
    *rig.actor.slow.lock().expect("a time") = Duration::from_secs(20);
    rig.start().await;
    rig.approve("RUN-1", "limit", "bob").await;
    let foreseen = |records: &[Record]| records.iter().any(|record| matches!(record, Record::Foreseen { step, .. } if step == "limit"));
    let begun = Instant::now();
    while !foreseen(&rig.records("RUN-1").await) {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let rig = rig.restart().await;
    *rig.actor.slow.lock().expect("a time") = Duration::ZERO;
    let view = rig.until("RUN-1", |view| *state(view, "limit") == StepState::Interrupted).await;
    assert!(can(&view, "limit", Can::Undo), "{view:#?}");
    assert_eq!((rig.desk.reverts().len(), rig.actor.done().len()), (1, 0));
    let undo = rig.desk.undo("RUN-1", "limit", person("bob"), "in doubt").await.expect("a run");
    rig.approve(&undo.line.id, ACTION_STEP, "carol").await;
    rig.until_ended(&undo.line.id).await;
    assert_eq!((cleared(&rig), rig.desk.reverts().len()), (1, 0));
}

const BY_HAND: &str = "---\nid: worker\n---\n# W\n## Investigation\n```sh { name=look }\ncat state\n```\n## Resolution\n```sh { name=fix cooldown=0s limit=99/1h verify=\"look.stdout ~ 'fine' within 1s\" rollback=back }\necho tried >> done\n```\nIf that did not help.\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_back_that_only_a_person_can_go_ends_when_they_say_so() {
    let text = format!("{BY_HAND}```manual {{ name=back only=rollback }}\nPut the old worker back by hand.\n```\n");
    let rig = Rig::new(&[&text]).await;
    rig.start().await;
    rig.desk.choose("RUN-1", "back", person("bob")).await.expect_err("nothing is to be taken back");
    rig.approve("RUN-1", "fix", "bob").await;
    rig.until("RUN-1", |view| can(view, "back", Can::Run) && view.next.as_deref() == Some("back")).await;
    rig.desk.choose("RUN-1", "back", person("bob")).await.expect("says that it is done");
    let view = rig.until_ended("RUN-1").await;
    assert_eq!(view.line.ending, Some(Ending::TakenBack), "{view:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_back_that_loses_something_needs_two_people() {
    let text = format!("{BY_HAND}```sh {{ name=back only=rollback dry=\"ls done\" }}\nrm done\n```\n");
    let rig = Rig::new(&[&text]).await;
    rig.start().await;
    rig.approve("RUN-1", "fix", "bob").await;
    let view = rig.until("RUN-1", |view| can(view, "back", Can::Approve)).await;
    assert!(matches!(state(&view, "back"), StepState::Held { .. }), "{view:#?}");
    rig.approve("RUN-1", "back", "bob").await;
    rig.rest().await;
    assert_eq!(rig.file("done"), "tried\n", "one is not two");
    rig.approve("RUN-1", "back", "carol").await;
    let view = rig.until_ended("RUN-1").await;
    assert_eq!((view.line.ending, rig.file("done").as_str()), (Some(Ending::TakenBack), ""), "{view:#?}");
}

const AFTERWARDS: &str = r#"---
id: worker
inputs:
  note: { default: "it's \"fine\" $(touch evil)", pattern: ".*" }
limits: { lock: worker }
---
# Worker
## Resolution
```sh { name=look mode=read }
cat state
```
```sh { name=fix cooldown=0s limit=99/1h rollback=back capture="before=regex:was (.*)" }
echo "was $(cat state)"; echo fine > state
```
```sh { name=back only=rollback redact="x\"~y" needs=fix verify="exit == 0" }
if true; then
  # what it was
  printf '%s|%s\n' "$before" "$note" > state
fi
printf '%s' '~~~~~ { } &amp; \\x41 "$note"' > /dev/null
```
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_end_a_rollback_step_is_a_run_of_its_own_that_somebody_agrees_to() {
    let rig = Rig::new(&[AFTERWARDS]).await;
    rig.start().await;
    rig.approve("RUN-1", "fix", "bob").await;
    let view = rig.until_ended("RUN-1").await;
    assert_eq!((view.line.ending, rig.file("state").as_str()), (Some(Ending::Done), "fine\n"), "{view:#?}");
    assert!(can(&view, "fix", Can::Undo) && view.steps.iter().all(|step| step.name == "fix" || step.can.is_empty()), "{view:#?}");
    let undo = rig.desk.undo("RUN-1", "fix", person("bob"), "`x`\n## Resolution").await.expect("a run");
    assert_eq!((undo.line.id.as_str(), undo.line.incident.as_deref(), undo.steps.len()), ("RUN-2", Some("INC-1"), 1));
    let twice = rig.desk.undo("RUN-1", "fix", person("bob"), "").await.expect_err("one at a time").to_string();
    assert!(twice.contains("RUN-2 takes it back already"), "{twice}");
    rig.rest().await;
    assert_eq!(rig.file("state"), "fine\n", "it waits for a word");
    let hash = step(&undo, "back").hash.clone();
    let rig = rig.restart().await;
    rig.desk.approve("RUN-2", "back", &hash, person("carol")).await.expect("agrees to what was shown");
    let view = rig.until_ended("RUN-2").await;
    assert_eq!(view.line.ending, Some(Ending::Done), "{view:#?}");
    assert_eq!(rig.file("state"), "worker is stuck|it's \"fine\" $(touch evil)\n", "what was captured and given then");
    assert!(!rig.path("evil").exists());
    let of = |record: &Record| matches!(record, Record::Started { takes_back: Some(of), .. } if of.run == "RUN-1" && of.step == "fix");
    assert!(rig.records("RUN-2").await.iter().any(of));
    rig.verify_chain();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_step_that_cannot_run_alone_is_said_in_full() {
    let text = AFTERWARDS.replace("needs=fix", "if=\"look.exit == 0\"");
    let rig = Rig::new(&[&text]).await;
    rig.start().await;
    rig.approve("RUN-1", "fix", "bob").await;
    rig.until_ended("RUN-1").await;
    let why = rig.desk.undo("RUN-1", "fix", person("bob"), "").await.expect_err("it depends").to_string();
    assert!(why.contains("do it by hand: ") && why.contains("printf '%s|%s\\n' \"$before\""), "{why}");
}
