//! Recorded sessions, read by the collector.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use paramedic_collect::transcript::{ParseOptions, discover, read_file};
use paramedic_model::Event;

/// The recorded sessions, if this machine has them.
pub(crate) fn recorded() -> Option<PathBuf> {
    let data = std::env::var_os("PARAMEDIC_SHARED_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from)
        .join("transcripts");
    if data.is_dir() {
        return Some(data);
    }
    eprintln!("skipped: no recorded sessions at {} (set PARAMEDIC_SHARED_DATA)", data.display());
    None
}

/// The transcripts under a folder, in the order of their names.
pub(crate) fn files(root: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = discover(root).expect("readable").into_iter().map(|file| file.path).collect();
    files.sort();
    files
}

/// All events of one file, records that were written twice left out.
pub(crate) fn read(path: &Path) -> Vec<Event> {
    let (mut seen, mut events) = (HashSet::new(), Vec::new());
    read_file(path, ParseOptions { capture_text: true }, &mut |group| {
        events.extend(group.drain(..).filter(|event| event.uid.is_none_or(|uid| seen.insert(uid))));
    })
    .expect("readable");
    events
}
