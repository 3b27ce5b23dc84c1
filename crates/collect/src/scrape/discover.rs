//! Which addresses a job has: written down, or found in files.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::config::{Job, StaticTargets};
use super::metrics::Metrics;

/// Bytes of one discovery file.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Files that one pattern may name.
const FILES_MAX: usize = 1_000;

/// Files as they were last read. A file that cannot be read keeps the targets that it had.
#[derive(Default)]
pub(super) struct Files(HashMap<PathBuf, Read>);

struct Read {
    stamp: Option<(SystemTime, u64)>,
    groups: Vec<StaticTargets>,
}

impl Files {
    /// All groups of a job: address lists with their labels.
    pub(super) fn groups(&mut self, job: &Job, metrics: &Metrics) -> Vec<(Vec<String>, BTreeMap<String, String>)> {
        let mut all = vec![(job.targets.clone(), job.labels.clone())];
        all.extend(job.groups.iter().map(|group| (group.targets.clone(), group.labels.clone())));
        for path in job.files.iter().flat_map(|pattern| matching(pattern)) {
            self.refresh(&path, metrics);
            for group in self.0.get(&path).into_iter().flat_map(|read| &read.groups) {
                let mut labels = group.labels.clone();
                labels.insert("__meta_filepath".to_owned(), path.to_string_lossy().into_owned());
                all.push((group.targets.clone(), labels));
            }
        }
        all
    }

    /// Forgets files that are gone, so that their targets leave.
    pub(super) fn forget_missing(&mut self) {
        self.0.retain(|path, _| path.exists());
    }

    fn refresh(&mut self, path: &Path, metrics: &Metrics) {
        let stamp = std::fs::metadata(path).ok().and_then(|data| Some((data.modified().ok()?, data.len())));
        if self.0.get(path).is_some_and(|read| read.stamp == stamp) {
            return;
        }
        match read(path) {
            Ok(groups) => {
                self.0.insert(path.to_owned(), Read { stamp, groups });
            }
            Err(what) => {
                metrics.discovery_errors.inc();
                tracing::warn!(file = %path.display(), error = what, "a discovery file cannot be read; its targets stay as they were");
                // Not read again, and not told again, before it changes.
                self.0.entry(path.to_owned()).or_insert(Read { stamp: None, groups: Vec::new() }).stamp = stamp;
            }
        }
    }
}

/// Reads one file of Prometheus's file discovery; its name says whether it is JSON or YAML.
fn read(path: &Path) -> Result<Vec<StaticTargets>, String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is larger than {FILE_BYTES_MAX} bytes"));
    }
    let groups: Vec<StaticTargets> = if path.extension().is_some_and(|ending| ending == "json") {
        serde_json::from_str(&text).map_err(|error| error.to_string())?
    } else {
        serde_saphyr::from_str(&text).map_err(|error| error.to_string())?
    };
    Ok(groups)
}

/// Files whose name matches; `*` stands for any part of the last piece of the path.
fn matching(pattern: &str) -> Vec<PathBuf> {
    let path = Path::new(pattern);
    let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| name.contains('*')) else {
        return vec![path.to_owned()];
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut found: Vec<PathBuf> =
        names.filter(|file| matches_stars(name, file)).take(FILES_MAX).map(|file| path.with_file_name(file)).collect();
    found.sort();
    found
}

/// Greedy, without going back more than to the last star: linear in practice, quadratic at worst.
fn matches_stars(pattern: &str, name: &str) -> bool {
    let parts: Vec<&str> = pattern.split('*').collect();
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return false };
    if name.len() < first.len() + last.len() || !name.starts_with(first) || !name.ends_with(last) {
        return false;
    }
    let mut rest = &name[first.len()..name.len() - last.len()];
    for part in &parts[1..parts.len() - 1] {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_part() {
        for (pattern, name, expect) in [
            ("*.json", "a.json", true),
            ("*.json", "a.yml", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "ac", false),
            ("*", "x", true),
            ("node-*", "node-", true),
            ("aa*aa", "aaa", false),
        ] {
            assert_eq!(matches_stars(pattern, name), expect, "{pattern} {name}");
        }
    }
}
