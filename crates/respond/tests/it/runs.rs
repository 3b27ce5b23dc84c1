//! What runs of runbooks tell an incident, the checklist that follows, attachments, statistics.

use std::sync::Arc;

use base64::Engine as _;
use paramedic_journal::{Journal, SqliteJournal};
use paramedic_model::{IncidentKind, IncidentState, MitigatedBy, Phase, Role, Severity, Timestamp};
use paramedic_respond::attachments::{ATTACHMENT_BYTES_MAX, ATTACHMENTS_MAX, Encoding};
use paramedic_respond::checklist::{Evidence, progress};
use paramedic_respond::desk::Desk;
use paramedic_respond::metrics::Metrics;
use paramedic_respond::record::SYSTEM_ACTOR;
use paramedic_respond::statistics::{Filter, Measure};
use paramedic_respond::{ChecklistItem, Command, Incident, ItemState, RunNote, RunStage, Settings, Statistics, checklist, time_boxes};

use crate::script::{Stage, ends, fires, id, minute};

async fn desk() -> (tempfile::TempDir, Desk) {
    let dir = tempfile::tempdir().unwrap();
    let journal: Arc<dyn Journal> = Arc::new(SqliteJournal::open(&dir.path().join("journal.sqlite")).unwrap());
    let desk = Desk::open(journal, Settings::default(), Metrics::default()).await.unwrap();
    desk.apply(&[fires("a", 0.0, 1.0, Severity::Sev2, 3)], minute(1.0)).await.unwrap();
    (dir, desk)
}

fn note(what: RunStage, detail: &str, unattended: bool, by: &str) -> RunNote {
    let (run, runbook, detail) = ("RUN-1".to_owned(), "redis-failure".to_owned(), detail.to_owned());
    RunNote { incident: id(1), run, runbook, what, detail, score: 0.8, unattended, by: by.to_owned() }
}

async fn told(desk: &Desk, minutes: f64, note: RunNote) -> Incident {
    desk.note_run(&note, minute(minutes)).await.unwrap().0
}

#[tokio::test]
async fn a_run_by_itself_moves_the_incident_and_its_fix_is_the_one_that_mitigated() {
    let (_dir, desk) = desk().await;
    let by = SYSTEM_ACTOR;
    assert_eq!(told(&desk, 1.1, note(RunStage::Started, "", true, by)).await.state, IncidentState::Triage);
    assert_eq!(told(&desk, 1.2, note(RunStage::Investigated, "", true, by)).await.state, IncidentState::Investigating);
    let unsure = RunNote { score: 0.0, ..note(RunStage::CauseNamed, "maybe", true, by) };
    assert_eq!(told(&desk, 1.3, unsure).await.state, IncidentState::Investigating, "a cause that nothing speaks for");
    let named = told(&desk, 1.4, note(RunStage::CauseNamed, "maxmemory", true, by)).await;
    assert_eq!((named.state, named.runs[0].cause.as_deref()), (IncidentState::Identified, Some("maxmemory")));
    told(&desk, 1.5, note(RunStage::FixBegun, "raise maxmemory", true, by)).await;
    let verified = told(&desk, 2.0, note(RunStage::Verified, "", true, by)).await;
    assert_eq!(verified.state, IncidentState::Identified, "verified, but the alert still fires");
    desk.apply(&[ends("a", 0.0, 2.5, Some(Severity::Sev2), 3)], minute(2.5)).await.unwrap();
    let ended = told(&desk, 3.0, note(RunStage::Ended, "", true, by)).await;
    assert_eq!((ended.state, ended.mitigated_by, ended.acknowledged_at), (IncidentState::Mitigated, Some(MitigatedBy::Auto), None));
}

#[tokio::test]
async fn an_approved_fix_is_a_person_s_and_acknowledges() {
    let (_dir, desk) = desk().await;
    let begun = told(&desk, 2.0, note(RunStage::FixBegun, "", false, "ann and bob")).await;
    assert_eq!((begun.state, begun.acknowledged_by.as_deref()), (IncidentState::Identified, Some("ann and bob")));
    assert_eq!((begun.holders(Role::Commander), begun.holders(Role::Responder).len()), (&["ann".to_owned()][..], 2));
    desk.apply(&[ends("a", 0.0, 3.0, Some(Severity::Sev2), 3)], minute(3.0)).await.unwrap();
    assert_eq!(told(&desk, 4.0, note(RunStage::Verified, "", false, "ann")).await.mitigated_by, Some(MitigatedBy::Person));
}

#[tokio::test]
async fn a_policy_is_nobody_who_could_acknowledge_or_lead() {
    let (_dir, desk) = desk().await;
    for what in [RunStage::Started, RunStage::FixBegun] {
        let incident = told(&desk, 2.0, note(what, "", true, "policy:night")).await;
        assert_eq!((incident.acknowledged_at, incident.holders(Role::Commander).len()), (None, 0));
    }
    let nameless = desk.command("web", &Command::Acknowledge { incident: id(1) }, minute(3.0)).await.unwrap();
    assert_eq!((nameless.acknowledged_by.as_deref(), nameless.holders(Role::Commander).len()), (Some("web"), 0));
}

#[tokio::test]
async fn what_was_resolved_by_hand_is_quiet_only_after_the_window() {
    let (_dir, desk) = desk().await;
    desk.apply(&[ends("a", 0.0, 3.0, Some(Severity::Sev2), 3)], minute(3.0)).await.unwrap();
    let incident = desk.command("ann", &Command::Resolve { incident: id(1), reason: String::new() }, minute(4.0)).await.unwrap();
    for (at, quiet) in [(17.9, false), (18.0, true)] {
        let items = checklist(&incident, &Evidence::at(minute(at), Settings::default().quiet_window()));
        assert_eq!(item(&items, "quiet").state.is_done(), quiet, "{at}");
    }
}

#[tokio::test]
async fn a_fix_that_was_taken_back_did_not_mitigate() {
    let (_dir, desk) = desk().await;
    told(&desk, 2.0, note(RunStage::FixBegun, "", true, SYSTEM_ACTOR)).await;
    told(&desk, 2.5, note(RunStage::TakenBack, "", true, SYSTEM_ACTOR)).await;
    desk.apply(&[ends("a", 0.0, 3.0, Some(Severity::Sev2), 3)], minute(3.0)).await.unwrap();
    assert_eq!(told(&desk, 4.0, note(RunStage::Ended, "", true, SYSTEM_ACTOR)).await.mitigated_by, Some(MitigatedBy::Itself));
}

#[tokio::test]
async fn a_verified_incident_without_alerts_is_mitigated_and_a_merged_one_passes_the_news_on() {
    let (_dir, desk) = desk().await;
    let open = Command::Open {
        title: "users complain".into(),
        incident_type: paramedic_model::IncidentType::Performance,
        severity: Severity::Sev3,
        agents: vec![],
        started_at: None,
        kind: IncidentKind::Real,
    };
    desk.command("ann", &open, minute(2.0)).await.unwrap();
    let verified = RunNote { incident: id(2), ..note(RunStage::Verified, "", false, "ann") };
    assert_eq!(told(&desk, 3.0, verified.clone()).await.state, IncidentState::Mitigated);
    desk.command("ann", &Command::Merge { incident: id(2), into: id(1) }, minute(4.0)).await.unwrap();
    assert_eq!(told(&desk, 5.0, verified).await.id, id(1));
    let gone = RunNote { incident: id(9), ..note(RunStage::Started, "", true, SYSTEM_ACTOR) };
    assert!(desk.note_run(&gone, minute(5.0)).await.is_err());
}

fn item<'a>(items: &'a [ChecklistItem], id: &str) -> &'a ChecklistItem {
    items.iter().find(|item| item.id == id).unwrap()
}

#[tokio::test]
async fn the_checklist_ticks_itself_where_there_is_evidence() {
    let (_dir, desk) = desk().await;
    let done = |incident: &Incident, evidence: &Evidence| {
        let items = checklist(incident, evidence);
        let done = items.iter().filter(|item| item.state.is_done()).map(|item| item.id.clone());
        done.collect::<Vec<_>>()
    };
    let none = Evidence::at(minute(30.0), Settings::default().quiet_window());
    let first = desk.incidents().await.get(&id(1)).unwrap().clone();
    assert_eq!(done(&first, &none), ["severity", "onset", "symptoms"]);
    desk.command("ann", &Command::Acknowledge { incident: id(1) }, minute(2.0)).await.unwrap();
    for (i, what) in [RunStage::Started, RunStage::Investigated, RunStage::CauseNamed, RunStage::FixBegun].into_iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        told(&desk, 3.0 + i as f64, note(what, "maxmemory", false, "ann")).await;
    }
    desk.apply(&[ends("a", 0.0, 8.0, Some(Severity::Sev2), 3)], minute(8.0)).await.unwrap();
    told(&desk, 9.0, note(RunStage::Verified, "", false, "ann")).await;
    desk.tick(minute(30.0)).await.unwrap();
    let incident = desk.incidents().await.get(&id(1)).unwrap().clone();
    let evidence = Evidence { first_message_at: Some(minute(3.0)), ..none };
    let ticked = done(&incident, &evidence);
    let expected = [
        "acknowledged",
        "commander",
        "severity",
        "onset",
        "first-message",
        "symptoms",
        "runbook",
        "reads",
        "cause",
        "fix",
        "cleared",
        "verified",
        "quiet",
        "timeline",
    ];
    assert_eq!(ticked, expected);
    let items = checklist(&incident, &evidence);
    assert_eq!(
        item(&items, "cause").state,
        ItemState::TickedBySystem { why: "maxmemory".into(), at: minute(5.0) },
        "the evidence is named with its time"
    );
    assert_eq!(progress(&items, Some(Phase::Detection)), (5, 5));
    assert!(Phase::ALL.iter().all(|phase| items.iter().any(|item| item.phase == *phase)), "every phase has items");
}

#[test]
fn history_has_no_time_boxes() {
    let mut past = Stage::with(&[fires("a", 0.0, 1.0, Severity::Sev2, 3)]).one().clone();
    past.kind = IncidentKind::Backfill;
    assert_eq!(time_boxes(&past, minute(900.0), &Settings::default()), []);
}

#[test]
fn a_person_s_tick_outweighs_the_evidence_and_can_be_taken_back() {
    let mut stage = Stage::with(&[fires("a", 0.0, 1.0, Severity::Sev2, 3)]);
    let tick = |item: &str, done| Command::Tick { incident: id(1), item: item.into(), done };
    stage.at(2.0).ok("ann", tick("root-cause", true));
    assert_eq!(stage.ok("bob", tick("root-cause", true)), [], "ticked already");
    stage.ok("ann", tick("onset", false));
    let items = checklist(stage.one(), &nothing_known());
    assert_eq!(item(&items, "root-cause").state, ItemState::TickedByHand { by: "ann".into(), at: minute(2.0) });
    assert_eq!(item(&items, "onset").state, ItemState::Open, "ann does not believe it");
    stage.at(3.0).ok("bob", tick("root-cause", false));
    assert_eq!(item(&checklist(stage.one(), &nothing_known()), "root-cause").state, ItemState::Open);
    let said = stage.refused("ann", tick("make coffee", true)).to_string();
    assert!(said.starts_with("item is no item") && said.contains("root-cause"), "{said}");
}

#[tokio::test]
async fn a_secret_that_lies_across_the_cut_of_a_note_is_not_shown_in_part() {
    let (_dir, desk) = desk().await;
    let across = |cut: usize| format!("{} sk-ant-api03-abcdefgh12345678", "x".repeat(cut - 13));
    let told = told(&desk, 2.0, RunNote { runbook: across(200), ..note(RunStage::CauseNamed, &across(2_000), true, "ann") }).await;
    let run = &told.runs[0];
    assert!(run.cause.as_ref().is_some_and(|cause| cause.starts_with("xxx") && !cause.contains("api0")), "{run:?}");
    assert!(run.runbook.starts_with("xxx") && !run.runbook.contains("api0"), "{run:?}");
}

fn nothing_known() -> Evidence {
    Evidence::at(minute(3.0), Settings::default().quiet_window())
}

fn attach(name: &str, text: Option<String>, base64: Option<String>) -> Command {
    Command::Attach { incident: id(1), name: name.into(), media_type: "text/plain".into(), text, base64, source: "free -m".into() }
}

#[tokio::test]
async fn an_attachment_is_masked_hashed_and_read_by_its_id() {
    let (_dir, desk) = desk().await;
    let secret = "token=1\nkey sk-ant-api03-abcdefgh12345678".to_owned();
    desk.command("ann", &attach("log", Some(secret), None), minute(2.0)).await.unwrap();
    let bytes: Vec<u8> = (0..=255).collect();
    let coded = base64::prelude::BASE64_STANDARD.encode(&bytes);
    let incident = desk.command("ann", &attach("picture", None, Some(coded)), minute(3.0)).await.unwrap();
    let [log, picture] = &incident.attachments[..] else { panic!("{:?}", incident.attachments) };
    assert_eq!((log.id, log.encoding, picture.id, picture.encoding, picture.bytes), (1, Encoding::Text, 2, Encoding::Base64, 256));
    assert_eq!(picture.sha256, "40aff2e9d2d8922e47afd4648e6967497158785fbd1da870e7110266bf944880", "of the bytes 0 to 255");
    let (_, kept) = desk.attachment(&id(1), 1).await.unwrap().unwrap();
    let kept = String::from_utf8(kept).unwrap();
    assert!(kept.contains("sk-ant-***") && !kept.contains("abcdefgh"), "{kept}");
    assert_eq!(desk.attachment(&id(1), 2).await.unwrap().unwrap().1, bytes);
    assert!(desk.attachment(&id(1), 3).await.unwrap().is_none());
    assert!(desk.attachment(&id(7), 1).await.unwrap().is_none());
    let listed = serde_json::to_string(&incident).unwrap();
    assert!(!listed.contains("token=1"), "the content is not in the list");
}

#[tokio::test]
async fn what_fills_the_end_of_base64_is_not_counted() {
    let (_dir, desk) = desk().await;
    let coded = |bytes: usize| base64::prelude::BASE64_STANDARD.encode(vec![0xff; bytes]);
    for bytes in ATTACHMENT_BYTES_MAX - 2..=ATTACHMENT_BYTES_MAX {
        let attached = desk.command("ann", &attach("picture", None, Some(coded(bytes) + "\n")), minute(2.0)).await.unwrap();
        assert_eq!(attached.attachments.last().unwrap().bytes, bytes);
    }
    let more = attach("more", None, Some(coded(ATTACHMENT_BYTES_MAX + 1)));
    let said = desk.command("ann", &more, minute(2.0)).await.unwrap_err().to_string();
    assert!(said.contains("base64 has 262145 bytes"), "{said}");
}

#[tokio::test]
async fn an_attachment_has_a_cap_even_where_every_byte_needs_six() {
    let (_dir, desk) = desk().await;
    let full = "\u{1}".repeat(ATTACHMENT_BYTES_MAX);
    desk.command("ann", &attach("full", Some(full.clone()), None), minute(2.0)).await.unwrap();
    assert_eq!(desk.attachment(&id(1), 1).await.unwrap().unwrap().1, full.as_bytes());
    let lines = "\n\t\\\"".repeat(ATTACHMENT_BYTES_MAX / 4);
    desk.command("ann", &attach("lines", Some(lines), None), minute(2.0)).await.unwrap();
    for (command, why) in [
        (attach("more", Some(full + "x"), None), "text has 262145 bytes: the most is 262144"),
        (attach("more", None, Some("A".repeat(400_000))), "base64 has 300000 bytes"),
        (attach("odd", None, Some("not base64!".into())), "base64 cannot be decoded"),
        (attach("both", Some("a".into()), Some("YQ==".into())), "text and base64 are both given"),
        (attach("none", None, None), "text is missing"),
        (attach("empty", Some(String::new()), None), "text is empty"),
        (attach(" \n", Some("a".into()), None), "name is empty"),
    ] {
        let error = desk.command("ann", &command, minute(2.0)).await.unwrap_err().to_string();
        assert!(error.starts_with(why), "{error}");
    }
    for _ in 2..ATTACHMENTS_MAX {
        desk.command("ann", &attach("small", Some("a".into()), None), minute(2.0)).await.unwrap();
    }
    assert!(desk.command("ann", &attach("small", Some("a".into()), None), minute(2.0)).await.is_err(), "a hundred are enough");
}

/// An incident that was noticed, answered, ended and over after so many minutes.
fn lived(kind: IncidentKind, minutes: [f64; 4], by: MitigatedBy) -> Incident {
    let mut incident = Stage::with(&[fires("a", 0.0, 0.0, Severity::Sev2, 1)]).one().clone();
    let [detected, acknowledged, mitigated, resolved] = minutes.map(minute);
    incident.kind = kind;
    incident.detected_at = detected;
    incident.acknowledged_at = Some(acknowledged);
    (incident.mitigated_at, incident.mitigated_by) = (Some(mitigated), Some(by));
    (incident.resolved_at, incident.state) = (Some(resolved), IncidentState::Resolved);
    incident
}

#[test]
fn statistics_give_median_p90_and_n_without_drills() {
    let mut all: Vec<Incident> = (1..=10)
        .map(|i| {
            let by = if i <= 4 { MitigatedBy::Auto } else { MitigatedBy::Person };
            lived(IncidentKind::Real, [f64::from(i), f64::from(i) * 3.0, f64::from(i) * 10.0, f64::from(i) * 20.0], by)
        })
        .collect();
    all.push(lived(IncidentKind::Drill, [900.0, 901.0, 902.0, 903.0], MitigatedBy::Auto));
    all.push(lived(IncidentKind::Backfill, [5.5, 5000.0, 55.0, 110.0], MitigatedBy::Itself));
    let mut cancelled = lived(IncidentKind::Real, [900.0, 901.0, 902.0, 903.0], MitigatedBy::Person);
    cancelled.state = IncidentState::Cancelled;
    all.push(cancelled);
    let now = minute(2000.0);
    let of = |filter: &Filter| Statistics::of(&all, filter, now);
    let told = of(&Filter::default());
    assert_eq!((told.incidents, told.open, told.late), (11, 0, 0));
    assert_eq!(told.ttd, Measure { n: 11, median_s: Some(330.0), p90_s: Some(540.0) });
    assert_eq!(told.tta, Measure { n: 10, median_s: Some(660.0), p90_s: Some(1080.0) }, "nobody was called for history");
    assert_eq!(told.acknowledged_in_time, 7, "2, 4 … 14 minutes of 15");
    assert_eq!((told.auto.ttm.n, told.auto.ttm.median_s, told.by_person.ttm.n, told.by_itself.ttr.n), (4, Some(1500.0), 6, 1));
    let drills = of(&Filter { kinds: vec![IncidentKind::Drill], ..Filter::default() });
    assert_eq!((drills.incidents, drills.ttm.median_s), (1, Some(902.0 * 60.0)));
    assert_eq!(of(&Filter { since: Some(minute(1.0)), ..Filter::default() }), Statistics::default());
    assert_eq!(Statistics::of(&[] as &[Incident], &Filter::default(), Timestamp::EPOCH).ttd, Measure::default());
}
