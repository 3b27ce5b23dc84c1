//! Open files for searching, a few of them kept between searches.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;

use crate::error::{InFile, StoreError};
use crate::partition::Partition;
use crate::row::WordTexts;
use crate::schema;

/// Readers kept open. Each holds at most about two megabytes.
const READERS_MAX: usize = 3;

/// One partition opened for reading by one thread.
pub(crate) struct Reader {
    file: PathBuf,
    pub(crate) events: Connection,
    /// `None` as long as there is no usable index: then every row is read.
    pub(crate) index: Option<Connection>,
    pub(crate) texts: WordTexts,
}

#[derive(Default)]
pub(crate) struct Readers(Mutex<Vec<Reader>>);

impl Readers {
    pub(crate) fn take(&self, partition: &Partition) -> Result<Reader, StoreError> {
        let kept = {
            let mut readers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            readers.iter().position(|one| one.file == partition.file).map(|found| readers.remove(found))
        };
        let mut reader = match kept {
            Some(reader) => reader,
            None => Reader {
                file: partition.file.clone(),
                events: schema::open_reader(&partition.file).in_file(&partition.file)?,
                index: None,
                texts: WordTexts::default(),
            },
        };
        if reader.index.is_none() && partition.index_file.exists() {
            reader.index = schema::open_reader(&partition.index_file).ok();
        }
        Ok(reader)
    }

    pub(crate) fn give_back(&self, reader: Reader) {
        let mut readers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() >= READERS_MAX {
            readers.remove(0);
        }
        readers.push(reader);
    }

    /// The file is gone or its index is: nobody may go on reading it.
    pub(crate) fn forget(&self, file: &Path) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|one| one.file != file);
    }
}
