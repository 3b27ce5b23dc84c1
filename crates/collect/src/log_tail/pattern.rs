//! Which files are meant: a path, or one with `*` in its file name.

use std::fs;
use std::path::{Path, PathBuf};

/// Entries looked at in one folder.
const ENTRIES_MAX: usize = 100_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) folder: PathBuf,
    name: String,
}

impl Pattern {
    /// `None` for a path that names no file.
    pub(super) fn read(written: &str) -> Option<Self> {
        let path = Path::new(written);
        let name = path.file_name()?.to_str()?.to_owned();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        Some(Self { folder: folder.to_owned(), name })
    }

    pub(super) fn is_match(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str());
        path.parent() == Some(&*self.folder) && name.is_some_and(|name| fits(&self.name, name))
    }

    /// The files that exist now, in the order of their names.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        if !self.name.contains('*') {
            return Some(self.folder.join(&self.name)).filter(|path| path.is_file()).into_iter().collect();
        }
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let names = entries.flatten().take(ENTRIES_MAX).filter_map(|entry| entry.file_name().into_string().ok());
        let mut files: Vec<PathBuf> =
            names.filter(|name| fits(&self.name, name)).map(|name| self.folder.join(name)).filter(|path| path.is_file()).collect();
        files.sort();
        files
    }
}

/// `*` stands for any characters, also none. A leading dot is only matched by a dot.
fn fits(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_part_of_a_name() {
        let check = |pattern: &str, name: &str, expect: bool| assert_eq!(fits(pattern, name), expect, "{pattern} {name}");
        check("a.log", "a.log", true);
        check("a.log", "a.log.1", false);
        check("*.log", "a.log", true);
        check("*.log", ".log", false);
        check("*.log", "a.log.1", false);
        check("*", "anything", true);
        check("a*b*c", "abc", true);
        check("a*b*c", "a-b-b-c", true);
        check("a*b*c", "acb", false);
        check("a*a", "a", false);
        check("app.log*", "app.log", true);
        check("app.log*", "app.log.1", true);
    }

    #[test]
    fn folders_are_taken_as_they_are_written() {
        assert_eq!(Pattern::read("x*.log").unwrap().folder, Path::new("."));
        assert!(Pattern::read("/var/log/*.log").unwrap().is_match(Path::new("/var/log/a.log")));
        assert!(!Pattern::read("/var/log/*.log").unwrap().is_match(Path::new("/var/log/below/a.log")));
        assert_eq!(Pattern::read("/"), None);
    }
}
