//! Stored records: what was written once can be read for ever.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use paramedic_journal::{Entry, Journal, SqliteJournal};
use paramedic_model::{
    AlertChange, AlertState, IncidentId, IncidentKind, IncidentState, IncidentType, Moment, Phase, Role, RuleAlert, Severity,
};
use paramedic_respond::attachments::{Attachment, Encoding};
use paramedic_respond::record::{FORMAT_VERSION, Record};
use paramedic_respond::{RunStage, Timer};

use crate::script::{change, fires, minute};

/// The kinds of records of a version, sorted.
fn kinds(version: u64) -> BTreeSet<&'static str> {
    let first = [
        "alert-adopted",
        "alert-changed",
        "acknowledged",
        "incident-opened",
        "merged",
        "merged-from",
        "noted",
        "severity-changed",
        "state-changed",
        "title-changed",
    ];
    let third = [
        "attached",
        "back-dated",
        "escalated",
        "kind-changed",
        "overran",
        "role-changed",
        "run-noted",
        "split-from",
        "split-into",
        "ticked",
        "warned",
    ];
    first.into_iter().chain(third.into_iter().filter(|_| version >= 3)).collect()
}

fn fixture(version: u64) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/fixtures/records-v{version}.jsonl"))
}

fn one_of_each() -> Vec<Record> {
    let (one, two) = (IncidentId("INC-1".into()), IncidentId("INC-2".into()));
    vec![
        Record::AlertChanged { alert: change("a", AlertState::Firing, 0.0, 1.0, None, 1, 0), incident: None },
        Record::IncidentOpened {
            incident: one.clone(),
            incident_type: IncidentType::ApiFailure,
            severity: Severity::Sev3,
            title: "Model API overloaded (529)".into(),
            cause: "api_failure".into(),
            kind: paramedic_model::IncidentKind::Real,
            started_at: minute(0.0),
            detected_at: minute(1.0),
            agents: vec!["a".into()],
        },
        Record::AlertAdopted { incident: one.clone(), alert: fires("a", 0.0, 1.0, Severity::Sev3, 3) },
        Record::SeverityChanged {
            incident: one.clone(),
            from: Severity::Sev3,
            to: Severity::Sev2,
            at: minute(2.0),
            reason: "3 agents".into(),
            by_hand: false,
        },
        Record::TitleChanged { incident: one.clone(), to: "Provider outage".into() },
        Record::StateChanged {
            incident: one.clone(),
            from: IncidentState::Triage,
            to: IncidentState::Mitigated,
            at: minute(3.0),
            reason: "quiet".into(),
        },
        Record::Acknowledged { incident: one.clone(), at: minute(4.0) },
        Record::Noted { incident: one.clone(), text: "status page says elevated errors".into() },
        Record::AlertChanged { alert: of_a_rule(), incident: Some(one.clone()) },
        Record::Merged { incident: one.clone(), into: two.clone() },
        Record::MergedFrom { incident: two.clone(), from: one.clone() },
    ]
    .into_iter()
    .chain(since_version_3(&one, &two))
    .collect()
}

fn since_version_3(one: &IncidentId, two: &IncidentId) -> Vec<Record> {
    let (one, at) = (one.clone(), minute(5.0));
    let alerts = vec![paramedic_model::Fingerprint("api-overload:a".into())];
    let note = String::from("my shift is over");
    let run = RunStage::CauseNamed;
    vec![
        Record::SplitInto { incident: one.clone(), into: two.clone(), alerts: alerts.clone() },
        Record::SplitFrom { incident: two.clone(), from: one.clone(), alerts },
        Record::RoleChanged { incident: one.clone(), role: Role::Commander, from: Some("ann".into()), to: Some("bob".into()), at, note },
        Record::KindChanged { incident: one.clone(), from: IncidentKind::Real, to: IncidentKind::Drill, reason: "planned".into() },
        Record::BackDated {
            incident: one.clone(),
            what: Moment::Started,
            from: minute(1.0),
            to: minute(0.0),
            reason: "a user said".into(),
        },
        Record::Escalated {
            incident: one.clone(),
            timer: Timer::Secondary,
            level: 2,
            who: "secondary".into(),
            why: "this SEV1 is not mitigated after 15 min".into(),
            at,
            drill: true,
        },
        Record::Warned { incident: one.clone(), timer: Timer::SpanOfControl, text: "9 people respond".into(), at },
        Record::Overran { incident: one.clone(), phase: Phase::Investigation, limit_s: 600, at },
        Record::Ticked { incident: one.clone(), item: "root-cause".into(), done: true, at },
        Record::Attached { incident: one.clone(), attachment: attachment(), content: "free -m".into() },
        Record::RunNoted {
            incident: one,
            run: "RUN-1".into(),
            runbook: "redis-failure".into(),
            what: run,
            detail: "maxmemory reached".into(),
            unattended: true,
            at,
        },
    ]
}

fn attachment() -> Attachment {
    Attachment {
        id: 1,
        name: "free".into(),
        media_type: "text/plain".into(),
        bytes: 7,
        sha256: "22d4".into(),
        source: "free -m".into(),
        encoding: Encoding::Text,
    }
}

/// An alert that names no agent, because a rule about a machine gave it.
fn of_a_rule() -> AlertChange {
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut alert = fires("vm", 0.0, 1.0, Severity::Sev2, 0);
    (alert.agent, alert.session, alert.user) = (None, None, None);
    alert.detector = "rule".into();
    alert.rule = Some(Box::new(RuleAlert {
        name: "DiskSpaceCritical".into(),
        group: "host".into(),
        labels: pairs(&[("alertname", "DiskSpaceCritical"), ("instance", "vm"), ("mountpoint", "/")]),
        annotations: pairs(&[("summary", "/ on vm is 93% full")]),
        expression: "disk:usage:ratio > 0.90".into(),
        value: Some(0.93),
    }));
    alert
}

/// Reads the stored lines back through a journal, as a start does.
async fn read(lines: &str) -> Vec<Record> {
    let dir = tempfile::tempdir().unwrap();
    let journal = SqliteJournal::open(&dir.path().join("journal.sqlite")).unwrap();
    let drafts = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let entries: Vec<Entry> = journal.append(drafts, paramedic_journal::Expected::Any).await.unwrap();
    entries.iter().map(|entry| Record::from_entry(entry).unwrap().expect("one of ours")).collect()
}

#[tokio::test]
async fn records_of_every_version_are_read() {
    for version in 1..=FORMAT_VERSION {
        let lines = std::fs::read_to_string(fixture(version)).unwrap_or_else(|error| panic!("version {version} has no fixture: {error}"));
        let records = read(&lines).await;
        let found: BTreeSet<&str> = records.iter().map(Record::kind).collect();
        assert_eq!(found, kinds(version), "version {version}");
        if version == FORMAT_VERSION {
            assert_eq!(records, one_of_each(), "the fixture says what was meant; if the form changed, raise the version");
        }
    }
}

#[test]
fn every_record_has_its_line_in_the_timeline() {
    let lines: BTreeSet<String> =
        one_of_each().iter().map(|record| paramedic_respond::timeline::describe_record(record, minute(9.0)).1).collect();
    assert_eq!(lines.len(), one_of_each().len(), "{lines:#?}");
    assert!(lines.iter().all(|line| line.len() > 10), "{lines:#?}");
    for line in [
        "alert api-overload:a split off into INC-2",
        "split off from INC-1 with alert api-overload:a",
        "ann handed commander over to bob: my shift is over",
        "kind changed from real to drill: planned",
        "drill: escalated to level 2 (secondary): this SEV1 is not mitigated after 15 min",
        "warning: 9 people respond",
        "investigation takes longer than 10 min",
        "ticked: root-cause",
        "attached free (7 bytes, sha256 22d4) from free -m",
        "runbook redis-failure (run RUN-1) names the cause: maxmemory reached",
    ] {
        assert!(lines.contains(line), "{line}: {lines:#?}");
    }
}

#[test]
fn a_record_of_a_newer_version_is_refused_by_name() {
    let mut draft = one_of_each().remove(1).into_draft("paramedic", minute(0.0));
    draft.payload["v"] = 99.into();
    let dir = tempfile::tempdir().unwrap();
    let journal = SqliteJournal::open(&dir.path().join("journal.sqlite")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let entries = runtime.block_on(journal.append(vec![draft], paramedic_journal::Expected::Any)).unwrap();
    assert!(Record::from_entry(&entries[0]).unwrap_err().to_string().contains("a newer paramedic wrote it"));
}

/// Run by hand after a new version: `cargo test -p paramedic-respond write_the_fixture -- --ignored`.
#[test]
#[ignore = "writes the fixture of the current version"]
fn write_the_fixture() {
    let lines: Vec<String> =
        one_of_each().into_iter().map(|record| serde_json::to_string(&record.into_draft("paramedic", minute(5.0))).unwrap()).collect();
    std::fs::write(fixture(FORMAT_VERSION), lines.join("\n") + "\n").unwrap();
}
