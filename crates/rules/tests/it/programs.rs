//! Where shared data and the real programs are.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The folder of real data, or a word about its absence.
pub(crate) fn shared(part: &str) -> Option<PathBuf> {
    let root = std::env::var_os("PARAMEDIC_SHARED_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let path = root.join(part);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not there", path.display());
    None
}

/// Runs promtool; `None` when it is not installed.
pub(crate) fn promtool(args: &[&str]) -> Option<Output> {
    match Command::new("promtool").args(args).output() {
        Ok(output) => Some(output),
        Err(err) => {
            println!("skipped: promtool: {err}");
            None
        }
    }
}

/// All YAML files below a folder.
pub(crate) fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // The catalogue that the rule files were made from is none itself.
                if path.file_name().is_some_and(|name| name != "_data") {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
