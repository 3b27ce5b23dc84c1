//! The recorded sample fleet: sessions of a made-up company, with an outage of the model API in the middle.
//!
//! The same bytes come out every time. The story is in `fleet`, the file format in `session`.

mod fleet;
mod session;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::paths;

pub(crate) fn run() -> Result<()> {
    let root = paths::workspace().join("sample");
    let mut bytes = 0;
    for (name, text) in fleet::files() {
        bytes += text.len();
        write(&root.join(&name), &text)?;
    }
    println!("sample: {} files, {} kB in {}", fleet::files().len(), bytes / 1000, root.display());
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<()> {
    let folder = file.parent().context("a file has a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
    fs::write(file, text).with_context(|| format!("failed to write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_in_the_repository_is_the_generated_one() {
        for (name, text) in fleet::files() {
            let stored = fs::read_to_string(paths::workspace().join("sample").join(&name)).unwrap_or_default();
            assert!(stored == text, "sample/{name} is stale: run `cargo xtask sample`");
        }
    }

    #[test]
    fn the_sample_is_small_and_every_line_is_json() {
        let files = fleet::files();
        assert!(files.iter().map(|(_, text)| text.len()).sum::<usize>() < 300_000);
        for (name, text) in &files {
            let mut last = String::new();
            for line in text.lines().filter(|_| name.ends_with(".jsonl")) {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                let at = value["timestamp"].as_str().or(value["at"].as_str()).unwrap().to_owned();
                assert!(at >= last, "{name}: {at} after {last}");
                last = at;
            }
        }
    }
}
