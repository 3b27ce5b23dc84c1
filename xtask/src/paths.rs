//! Where things are.

use std::env;
use std::path::{Path, PathBuf};

/// The folder of the workspace's `Cargo.toml`.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// Programs that only tests need, installed once: `npm/`, `python/`.
pub(crate) fn test_tools() -> PathBuf {
    target().join("test-tools")
}

/// Recorded sessions of real people, which are not part of the repository.
pub(crate) fn real_data() -> Option<PathBuf> {
    let folder = env::var_os("PARAMEDIC_SHARED_DATA").map_or_else(|| workspace().join("../shared/data"), PathBuf::from);
    folder.is_dir().then_some(folder)
}
