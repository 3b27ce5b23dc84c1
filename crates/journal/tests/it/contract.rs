//! Every store passes the same suite; a store is added with one line.

use std::sync::Arc;

use paramedic_journal::contract::Opener;
use paramedic_journal::{Journal, SqliteJournal};

fn sqlite_opener() -> Opener {
    let folder = tempfile::tempdir().unwrap();
    Box::new(move || {
        let path = folder.path().join("journal.db");
        Box::pin(async move { Arc::new(SqliteJournal::open(&path).unwrap()) as Arc<dyn Journal> })
    })
}

paramedic_journal::contract_suite!(sqlite, sqlite_opener);
