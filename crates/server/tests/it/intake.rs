//! The intake with real stores, without sockets.

use std::path::Path;
use std::sync::{Arc, RwLock};

use paramedic_api::Activity;
use paramedic_detect::Detectors;
use paramedic_fleet::{Fleet, Prices};
use paramedic_journal::{Journal, SqliteJournal};
use paramedic_model::{AgentId, ApiErrorClass, Clock, Event, Fact, ManualClock, Source, Timestamp};
use paramedic_respond::{Desk, Record};
use paramedic_samples::Samples;
use paramedic_server::intake::{Announce, Delivery, Metrics, Pipeline};
use paramedic_server::metering::Metering;
use paramedic_telemetry::Store;

struct Quiet;

impl Announce for Quiet {
    fn agents(&self, _: Vec<AgentId>) {}
    fn records(&self, _: &[Record]) {}
}

async fn pipeline(dir: &Path, clock: Arc<ManualClock>, seq: u64) -> Pipeline {
    let journal: Arc<dyn Journal> = Arc::new(SqliteJournal::open(&dir.join("journal.sqlite")).unwrap());
    let desk = Desk::open(journal, paramedic_respond::Settings::default(), paramedic_respond::metrics::Metrics::default()).await.unwrap();
    let samples = Samples::open(&dir.join("samples"), paramedic_samples::Settings::default(), clock.clone()).unwrap();
    Pipeline {
        store: Store::open(&dir.join("events"), paramedic_telemetry::Settings::default(), clock.clone()).unwrap(),
        fleet: Arc::new(RwLock::new(Fleet::new(Prices::embedded(), paramedic_fleet::Settings::default()))),
        detectors: Detectors::new(paramedic_detect::Settings::default()),
        metering: Metering::new(&[], paramedic_meter::Settings::default(), Arc::new(samples)),
        desk: Arc::new(desk),
        clock,
        metrics: Metrics::default(),
        activity: Arc::new(Activity::default()),
        announce: Arc::new(Quiet),
        seq,
        held: None,
    }
}

fn retry(at: Timestamp, attempt: u32) -> Event {
    let mut event = Event::new(at, Source::StreamJson, "system/api_retry");
    event.agent = Some("s1".into());
    event.session = Some("s1".into());
    event.uid = Some(u64::from(attempt));
    event.fact = Fact::ModelRetry { class: ApiErrorClass::Overloaded, status: Some(529), attempt, attempts_max: Some(10), delay: None };
    event
}

fn deliver(events: Vec<Event>) -> Delivery {
    Delivery { events, offsets: Vec::new(), caught_up: false, reply: None }
}

#[tokio::test]
async fn after_a_crash_without_a_checkpoint_everything_is_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    {
        let mut pipeline = pipeline(dir.path(), clock.clone(), 0).await;
        for attempt in 1..=4 {
            pipeline.take(vec![deliver(vec![retry(clock.now(), attempt)])]).await;
            clock.advance(std::time::Duration::from_secs(7));
        }
        assert_eq!(pipeline.desk.incidents().await.list().count(), 1);
    }
    let mut pipeline = pipeline(dir.path(), clock.clone(), 0).await;
    assert_eq!(pipeline.catch_up().await.unwrap(), 4);
    let incidents = pipeline.desk.incidents().await;
    let incident = incidents.list().next().unwrap();
    assert_eq!((incidents.list().count(), incident.counts.retries, incident.counts.episodes), (1, 4, 1));
    let fleet = pipeline.fleet.read().unwrap();
    assert_eq!(fleet.agent(&"s1".into()).unwrap().retries, 4);
}

#[tokio::test]
async fn a_clock_that_runs_ahead_is_pulled_back_and_kept_as_told() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    let mut pipeline = pipeline(dir.path(), clock.clone(), 0).await;
    let ahead = clock.now().after(std::time::Duration::from_secs(86_400));
    pipeline.take(vec![deliver(vec![retry(ahead, 1)])]).await;
    let mut stored = Vec::new();
    pipeline.store.replay(0, &mut |one| stored.push(one.event)).unwrap();
    assert_eq!((stored[0].at, stored[0].attributes["paramedic.told_at"].as_str().unwrap()), (clock.now(), ahead.to_string().as_str()));
}

#[tokio::test]
async fn history_is_decided_in_the_order_of_time_whatever_the_order_of_files() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    let mut pipeline = pipeline(dir.path(), clock.clone(), 0).await;
    pipeline.held = Some(Vec::new());
    let burst = |agent: &str, from: i64| -> Vec<Event> {
        (1..=3)
            .map(|attempt| {
                let mut event = retry(Timestamp::from_secs(from + i64::from(attempt)), attempt);
                event.agent = Some(agent.into());
                event.session = Some(agent.into());
                event.uid = None;
                event
            })
            .collect()
    };
    pipeline.take(vec![deliver(burst("late", 1_700_100_000)), deliver(burst("early", 1_700_000_000))]).await;
    assert_eq!(pipeline.desk.incidents().await.list().count(), 0, "held until all history is read");
    pipeline.take(vec![Delivery { caught_up: true, ..deliver(Vec::new()) }]).await;
    let incidents = pipeline.desk.incidents().await;
    let mut numbered: Vec<_> = incidents.list().map(|one| (one.number, one.agents.first().unwrap().to_string())).collect();
    numbered.sort();
    assert_eq!(numbered, [(1, "early".to_owned()), (2, "late".to_owned())]);
}
