//! Patterns of file names.

use std::path::PathBuf;

/// The most files one pattern may name.
const FILES_MAX: usize = 10_000;

/// The files that a path or a pattern names, sorted. A path without a pattern must exist, a pattern may match nothing.
pub fn expand(pattern: &str) -> Result<Vec<PathBuf>, String> {
    if !pattern.contains(['*', '?', '[']) {
        return if std::fs::exists(pattern).unwrap_or(false) {
            Ok(vec![PathBuf::from(pattern)])
        } else {
            Err("there is no such file".to_owned())
        };
    }
    let found = glob::glob(pattern).map_err(|err| format!("invalid pattern: {err}"))?;
    let mut paths: Vec<PathBuf> = found.filter_map(Result::ok).filter(|path| path.is_file()).take(FILES_MAX).collect();
    paths.sort();
    Ok(paths)
}
