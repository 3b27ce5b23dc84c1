//! `SHA256SUMS`: what belongs to a folder, as `sha256sum` writes it.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Component, Path, PathBuf};

use super::check::hash;

pub(super) const NAME: &str = "SHA256SUMS";
const LINES_MAX: usize = 1_000_000;
const LINE_BYTES_MAX: usize = 8_192;

/// Paths inside of the folder, each with its hash.
pub(super) fn read(folder: &Path) -> Result<Vec<(PathBuf, String)>, String> {
    let file = File::open(folder.join(NAME)).map_err(|error| format!("{NAME}: {error}"))?;
    let mut all = Vec::new();
    for (at, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(|error| format!("{NAME}: {error}"))?;
        if line.is_empty() {
            continue;
        }
        let wrong = |why: &str| format!("line {} of {NAME} {why}", at + 1);
        if at >= LINES_MAX || line.len() > LINE_BYTES_MAX {
            return Err(wrong("is too much"));
        }
        // Two blanks, or a blank and a star.
        let (hash, rest) = line.split_once(' ').ok_or_else(|| wrong("is no hash and no path"))?;
        let path = Path::new(rest.strip_prefix([' ', '*']).unwrap_or(rest));
        let inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) || !inside || path.as_os_str().is_empty() {
            return Err(wrong("is no hash and no path inside of the folder"));
        }
        all.push((path.to_path_buf(), hash.to_ascii_lowercase()));
    }
    if all.is_empty() {
        return Err(format!("{NAME} names no file"));
    }
    Ok(all)
}

/// How many files and bytes have the hashes that they must have; else the first that has not.
pub(super) fn check(folder: &Path) -> Result<(u64, u64), String> {
    let (mut files, mut bytes) = (0, 0);
    for (path, expected) in read(folder)? {
        let full = folder.join(&path);
        let plain = std::fs::symlink_metadata(&full).is_ok_and(|data| data.is_file());
        if !plain {
            return Err(format!("{} is missing, or is no file", path.display()));
        }
        let (found, length) = hash(&full).map_err(|error| format!("{}: {error}", path.display()))?;
        if found != expected {
            return Err(format!("{} has another hash than {NAME} says", path.display()));
        }
        files += 1;
        bytes += length;
    }
    Ok((files, bytes))
}
