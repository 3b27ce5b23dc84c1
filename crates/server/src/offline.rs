//! The data folder as it lies there, behind the same operations as a running instance: for verbs while nothing runs.

use std::path::Path;
use std::sync::{Arc, RwLock};

use paramedic_api::{About, Activity, Context, Health};
use paramedic_journal::{Journal, SqliteJournal};
use paramedic_model::SystemClock;
use paramedic_respond::Desk;
use paramedic_telemetry::{Store, StoreError};

use crate::app::{EVENTS_DIR, JOURNAL_FILE, detector_lines, fleet_from_checkpoint};
use crate::settings::Settings;

/// A context that can only be read; none when nothing was ever recorded in the folder.
pub async fn context(dir: &Path, settings: &Settings) -> anyhow::Result<Option<Context>> {
    let journal_file = dir.join(JOURNAL_FILE);
    if !journal_file.exists() {
        return Ok(None);
    }
    let journal: Arc<dyn Journal> = Arc::new(SqliteJournal::open_read_only(&journal_file)?);
    let store = match Store::open_read_only(&dir.join(EVENTS_DIR)) {
        Ok(store) => store,
        Err(StoreError::NothingRecorded { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let restored = fleet_from_checkpoint(dir, settings)?;
    let mut fleet = restored.fleet;
    store.replay(restored.seq, &mut |stored| {
        fleet.observe(&stored.event);
    })?;
    let desk = Desk::open(journal.clone(), settings.incidents.clone(), paramedic_respond::metrics::Metrics::default()).await?;
    let (live, _) = tokio::sync::broadcast::channel(1);
    Ok(Some(Context {
        journal,
        store,
        fleet: Arc::new(RwLock::new(fleet)),
        desk: Arc::new(desk),
        clock: Arc::new(SystemClock),
        live,
        health: Arc::new(Health::default()),
        activity: Arc::new(Activity::default()),
        registry: Arc::new(prometheus_client::registry::Registry::default()),
        metrics: paramedic_api::metrics::Metrics::default(),
        detectors: detector_lines(),
        about: About { version: env!("CARGO_PKG_VERSION").to_owned(), data_dir: dir.display().to_string(), ..About::default() },
        instruments: paramedic_api::Instruments::default(),
        responding: None,
        gateway: None,
    }))
}
