use std::path::Path;
use std::sync::Arc;

use paramedic_journal::{Journal, SqliteJournal};
use paramedic_model::{AlertChange, IncidentId, IncidentState, Severity};
use paramedic_respond::desk::Desk;
use paramedic_respond::metrics::Metrics;
use paramedic_respond::timeline::describe;
use paramedic_respond::{Command, Settings};

use crate::script::{ends, fires, minute};

fn journal(dir: &Path) -> Arc<dyn Journal> {
    Arc::new(SqliteJournal::open(&dir.join("journal.sqlite")).unwrap())
}

async fn desk(journal: Arc<dyn Journal>) -> Desk {
    Desk::open(journal, Settings::default(), Metrics::default()).await.unwrap()
}

fn story() -> Vec<AlertChange> {
    vec![
        fires("a", 0.0, 1.0, Severity::Sev3, 3),
        ends("a", 0.0, 2.0, Some(Severity::Sev3), 4),
        fires("b", 4.0, 4.0, Severity::Sev2, 10),
        ends("b", 4.0, 9.0, Some(Severity::Sev2), 10),
    ]
}

#[tokio::test]
async fn incidents_come_back_from_the_journal_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    let before = desk(journal.clone()).await;
    before.apply(&story(), minute(9.0)).await.unwrap();
    before.command("ann", &Command::Acknowledge { incident: IncidentId("INC-1".into()) }, minute(10.0)).await.unwrap();
    before.tick(minute(60.0)).await.unwrap();
    let lived = serde_json::to_value(before.incidents().await.list().collect::<Vec<_>>()).unwrap();

    let after = desk(journal.clone()).await;
    assert_eq!(serde_json::to_value(after.incidents().await.list().collect::<Vec<_>>()).unwrap(), lived);
    assert_eq!(after.incidents().await.list().next().unwrap().state, IncidentState::Resolved);

    after.save_snapshot().await.unwrap();
    let from_snapshot = desk(journal).await;
    assert_eq!(from_snapshot.incidents().await.list().next().unwrap().acknowledged_by.as_deref(), Some("ann"));
}

#[tokio::test]
async fn the_timeline_tells_the_story_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    let desk = desk(journal.clone()).await;
    desk.apply(&story(), minute(9.0)).await.unwrap();
    desk.tick(minute(60.0)).await.unwrap();
    let entries = journal.read_subject("incident/INC-1", 0, 100).await.unwrap();
    let lines: Vec<String> = entries.iter().filter_map(describe).map(|item| item.text).collect();
    assert!(lines[0].starts_with("opened as SEV3"), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("investigating: fired again")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("severity raised from SEV3 to SEV2")), "{lines:#?}");
    assert!(lines.last().unwrap().starts_with("resolved: quiet for 15 min"), "{lines:#?}");
}

#[tokio::test]
async fn an_incident_of_the_past_waits_until_its_news_have_settled() {
    let dir = tempfile::tempdir().unwrap();
    let desk = desk(journal(dir.path())).await;
    let read_at = minute(10_000.0);
    desk.apply(&story(), read_at).await.unwrap();
    assert_eq!(desk.tick(read_at.after(std::time::Duration::from_secs(3))).await.unwrap(), []);
    desk.tick(read_at.after(std::time::Duration::from_secs(11))).await.unwrap();
    assert_eq!(desk.incidents().await.list().next().unwrap().resolved_at, Some(minute(9.0).after(crate::script::quiet())));
}

#[tokio::test]
async fn what_the_journal_refuses_is_not_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("journal.sqlite");
    drop(SqliteJournal::open(&file).unwrap());
    let read_only: Arc<dyn Journal> = Arc::new(SqliteJournal::open_read_only(&file).unwrap());
    let desk = desk(read_only).await;
    assert!(desk.apply(&story(), minute(9.0)).await.is_err());
    assert_eq!(desk.incidents().await.list().count(), 0, "the incident exists only when it is written");
}
