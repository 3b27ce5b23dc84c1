//! What was ever written into a journal about runs is read for ever.

use paramedic_runbook::brake::Stopped;
use paramedic_runbook::run::{Ending, Run};
use serde::{Deserialize, Serialize};

use super::*;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/fixtures/journal-runs-v2.jsonl");

/// An entry of the journal as the fixture keeps it.
#[derive(Serialize, Deserialize)]
struct Kept {
    at: i64,
    kind: String,
    subject: String,
    actor: String,
    payload: serde_json::Value,
}

const TEXT: &str = "---\nid: worker\ninputs: { note: { default: x }, token: { type: secret } }\nlimits: { lock: worker }\n---\n# W\n## Investigation\n```sh { name=look }\ncat state\n```\n```sh { name=never if=\"look.exit > 7\" }\ncat state\n```\n## Resolution\n### Cause: Stuck { #stuck }\n**Symptoms:**\n```\nworker is stuck\n```\n**Resolution:**\n```action { name=limit cooldown=0s verify=\"look.stdout ~ 'stuck'\" }\nswitch.set: { switch: x }\n```\n```sh { name=fix cooldown=0s rollback=back verify=\"look.stdout ~ 'stuck' within 5m hold 5m\" }\necho \"$note\" >> done\n```\n```sh { name=back only=rollback }\necho back >> done\n```\n```sh { name=other cooldown=0s }\necho other >> done; sleep 20\n```\n";

/// Writes what this version writes: every kind of record, by doing what leads to it.
async fn write_fixture() {
    let rig = Rig::new(&[TEXT]).await;
    let bob = || person("bob");
    let inverse = serde_json::json!({"action": "switch.clear", "arguments": {"switch": "x"}});
    let planned = Outcome { affected: Some(1), inverse: Some(inverse), reverts_after_s: Some(60), ..Outcome::default() };
    *rig.actor.plan.lock().expect("a plan") = Some(planned.clone());
    rig.actor.answer(planned);
    rig.desk.start(StartRun { observed: vec!["an alert".to_owned()], ..incident("worker", "INC-1") }).await.expect("starts");
    rig.until_asked("RUN-1").await;
    let inputs = BTreeMap::from([("note".to_owned(), "a note".to_owned()), ("token".to_owned(), "correct-horse".to_owned())]);
    rig.desk.give("RUN-1", &inputs, bob()).await.expect("takes");
    rig.desk.leave_out("RUN-1", "other", bob(), "not now").await.expect("left out");
    rig.desk.again("RUN-1", "other", bob()).await.expect("again");
    rig.approve("RUN-1", "limit", "bob").await;
    rig.approve("RUN-1", "fix", "bob").await;
    rig.until("RUN-1", |view| step(view, "fix").attempts == 1 && *state(view, "fix") == StepState::Verifying).await;
    rig.actor.answer(Outcome::fault("nobody answers"));
    rig.clock.advance(Duration::from_secs(61));
    rig.desk.tick().await;
    rig.until("RUN-1", |_| rig.desk.reverts().first().is_some_and(|revert| revert.failed.is_some())).await;
    rig.desk.stop(Stopped::Writes, &bob(), "a moment").await.expect("stops");
    rig.desk.stop(Stopped::Nothing, &bob(), "go on").await.expect("lifts");
    rig.desk.undo("RUN-1", "fix", bob(), "wrong one").await.expect("takes back");
    rig.until_ended("RUN-1").await;
    rig.desk.start(incident("worker", "INC-2")).await.expect("starts");
    rig.until_asked("RUN-2").await;
    rig.approve("RUN-2", "other", "bob").await;
    rig.until("RUN-2", |view| *state(view, "other") == StepState::Running).await;
    let rig = rig.restart().await;
    rig.until("RUN-2", |view| *state(view, "other") == StepState::Interrupted).await;
    rig.desk.undo("RUN-1", "limit", bob(), "by hand").await.expect("starts");
    rig.rest().await;
    let entries = rig.disk.journal.read(0, 10_000).await.expect("reads");
    let lines: String = entries
        .into_iter()
        .map(|entry| {
            let JournalEntry { at, kind, subject, actor, payload, .. } = entry;
            serde_json::to_string(&Kept { at: at.as_micros(), kind, subject, actor, payload }).expect("writes") + "\n"
        })
        .collect();
    std::fs::write(FIXTURE, lines).expect("writes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_of_version_2_is_read_for_ever() {
    if std::env::var_os("PARAMEDIC_WRITE_FIXTURES").is_some() {
        write_fixture().await;
    }
    let rig = Rig::new(&[TEXT]).await;
    let text = std::fs::read_to_string(FIXTURE).expect("the fixture");
    let kept: Vec<Kept> = text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
    let kinds: std::collections::BTreeSet<&str> = kept.iter().map(|one| one.kind.as_str()).collect();
    let all = [
        "brakes-changed",
        "run-causes-ranked",
        "run-ended",
        "run-inputs-given",
        "run-observed",
        "run-started",
        "step-again",
        "step-approved",
        "step-begun",
        "step-chosen",
        "step-done",
        "step-foreseen",
        "step-held",
        "step-interrupted",
        "step-left-out",
        "step-reverted",
        "step-reverting",
        "step-skipped",
        "step-take-back",
        "step-verified",
    ];
    assert!(all.iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    assert!(!text.contains("correct-horse"));
    for one in &kept {
        let Kept { at, kind, subject, actor, payload } = one;
        if subject.starts_with("run/") {
            let entry: Entry = serde_json::from_value(payload.clone()).unwrap_or_else(|error| panic!("{error}: {payload}"));
            assert_eq!(&serde_json::to_value(&entry).expect("writes"), payload, "nothing of it is lost");
        }
        let draft = Draft {
            at: Timestamp::from_micros(*at),
            kind: kind.clone(),
            subject: subject.clone(),
            actor: actor.clone(),
            payload: payload.clone(),
        };
        rig.disk.journal.append(vec![draft], Expected::Any).await.expect("appends");
    }
    let rig = rig.reopen().await;
    let lines: Vec<(String, Option<Ending>, u32)> =
        rig.desk.lines(|_| true).into_iter().map(|line| (line.id, line.ending, line.changes)).collect();
    assert_eq!(
        lines,
        [("RUN-3".to_owned(), None, 0), ("RUN-2".to_owned(), None, 1), ("RUN-1".to_owned(), Some(Ending::TakenBack), 3)],
        "limit, fix and back"
    );
    let view = rig.desk.view("RUN-1").await.expect("a run");
    assert!(matches!(state(&view, "fix"), StepState::TakenBack { why } if why.contains("wrong one")), "{view:#?}");
    assert!(matches!(state(&view, "never"), StepState::Skipped { .. }) && *state(&view, "limit") == StepState::Verified);
    assert_eq!((view.inputs["note"].as_str(), view.text_gone), ("a note", false));
    let two = Run::fold(&rig.desk.entries("RUN-2").await.expect("entries")).expect("adds up");
    assert_eq!((two.state("other"), two.attempts["other"]), (&StepState::Interrupted, 1));
    let reverts = rig.desk.reverts();
    assert_eq!((reverts.len(), reverts[0].attempts, reverts[0].failed.as_deref()), (1, 1, Some("nobody answers")));
    let brakes = rig.desk.brakes().await;
    assert_eq!(brakes.stopped_note.expect("a note").why, "go on");
    assert_eq!(brakes.locks.get("worker").map(String::as_str), Some("RUN-2"), "what is in doubt holds its lock");
    // A record of a newer version is left out and said, not misread.
    let newer = serde_json::json!({"version": 3, "run": "RUN-3", "at": 0, "record": {"record": "chosen", "step": "act", "by": {"name": "x", "roles": []}}});
    let draft = Draft {
        at: Timestamp::from_secs(1),
        kind: "step-chosen".to_owned(),
        subject: "run/RUN-3".to_owned(),
        actor: "x".to_owned(),
        payload: newer,
    };
    rig.disk.journal.append(vec![draft], Expected::Any).await.expect("appends");
    let rig = rig.reopen().await;
    assert_eq!(rig.desk.lines(|_| true).len(), 3);
}
