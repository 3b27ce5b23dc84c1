//! A place for what is restored: new, with room, and filled under another name first.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use rustix::fs::{CWD, RenameFlags, renameat_with, statvfs};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::check::{Form, Report, hash, hex};
use super::manifest;
use super::program::run;
use crate::address::shown;
use crate::call::{Call, Verified};
use crate::error::ActionError;

const CHUNK: usize = 256 * 1024;
/// Left free for everybody else.
const SPARE_BYTES: u64 = 64 * 1024 * 1024;

pub(super) struct Place {
    /// What it is called in the end.
    pub(super) target: PathBuf,
    /// What it is called until it is whole.
    partial: PathBuf,
}

impl Place {
    /// Refused unless it is new, or an empty folder.
    pub(super) fn of(call: &Call, into: &Path, backup: &Path, form: Form) -> Result<Self, ActionError> {
        let refused = |why: String| ActionError::Refused { action: call.action.clone(), why };
        let name = |path: &Path| shown(&path.display().to_string(), None);
        let mut target = into.to_path_buf();
        if let Ok(data) = fs::symlink_metadata(into) {
            let empty = data.is_dir() && fs::read_dir(into).is_ok_and(|mut entries| entries.next().is_none());
            if !empty {
                return Err(refused(format!("{} is there already, and nothing is written over it", name(into))));
            }
            if !matches!(form, Form::Folder | Form::TarGz) {
                target = into.join(file_name(backup, form));
            }
        }
        let parent = target.parent().filter(|parent| parent.is_dir());
        if parent.is_none() {
            let what = format!("the folder for {}", name(&target));
            return Err(ActionError::NotFound { what, why: "it is not there".to_owned() });
        }
        if target.starts_with(backup) {
            return Err(refused(format!("{} lies inside of the backup", name(&target))));
        }
        let mut partial = target.clone().into_os_string();
        partial.push(".restoring");
        let partial = PathBuf::from(partial);
        if fs::symlink_metadata(&partial).is_ok() {
            return Err(refused(format!("{} is there: another restore goes on, or was broken off; then remove it", name(&partial))));
        }
        Ok(Self { target, partial })
    }

    pub(super) fn must_have_room(&self, call: &Call, bytes: u64) -> Result<(), ActionError> {
        let parent = self.target.parent().unwrap_or(&self.target);
        let state = statvfs(parent).map_err(|error| failed(call, &format!("{}: {error}", parent.display())))?;
        let free = state.f_bavail.saturating_mul(state.f_frsize);
        let needed = bytes.saturating_add(bytes / 10).saturating_add(SPARE_BYTES);
        if free >= needed {
            return Ok(());
        }
        let why = format!("{needed} bytes are needed at {}, and {free} are free", parent.display());
        Err(ActionError::Refused { action: call.action.clone(), why })
    }

    pub(super) fn exact(&self, backup: &Path, form: Form) -> Vec<String> {
        let (backup, partial, target) = (backup.display(), self.partial.display(), self.target.display());
        let first = match form {
            Form::TarGz => format!("tar --extract --gzip --no-same-owner --no-same-permissions --file {backup} --directory {partial}"),
            Form::Gzip => format!("unpack {backup} to {partial}"),
            Form::Folder => format!("copy what {backup}/{} names to {partial}", manifest::NAME),
            _ => format!("copy {backup} to {partial}"),
        };
        vec![first, format!("rename {partial} to {target}, which must not be there")]
    }

    pub(super) async fn restore(
        &self,
        call: &Call,
        backup: &Path,
        report: &Report,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Result<Verified, ActionError> {
        let made = if report.form == Form::TarGz {
            self.extract(backup, limit, cancel).await
        } else {
            let (backup, partial, report, cancel) = (backup.to_path_buf(), self.partial.clone(), report.clone(), cancel.clone());
            let copied = tokio::task::spawn_blocking(move || copy(&backup, &partial, &report, &cancel)).await;
            copied.unwrap_or_else(|error| Err(error.to_string()))
        };
        let placed = made.and_then(|how| self.settle().map(|()| how).map_err(|error| error.to_string()));
        match placed {
            Ok(how) => Ok(if self.target.exists() { Verified::seen(how) } else { Verified::missed(format!("it is not there; {how}")) }),
            Err(why) => {
                let swept = self.sweep();
                if cancel.is_cancelled() {
                    return Err(ActionError::CalledOff { action: call.action.clone(), done: swept });
                }
                Err(failed(call, &format!("{why}; {swept}")))
            }
        }
    }

    async fn extract(&self, backup: &Path, limit: Duration, cancel: &CancellationToken) -> Result<String, String> {
        fs::create_dir(&self.partial).map_err(|error| format!("{}: {error}", self.partial.display()))?;
        let listed = run("tar", &["--list".as_ref(), "--gzip".as_ref(), "--file".as_ref(), backup.as_os_str()], &[], limit).await?;
        if !listed.good {
            return Err(listed.text);
        }
        let text = String::from_utf8_lossy(&listed.stdout);
        let names: Vec<&str> = text.lines().collect();
        if let Some(hostile) = names.iter().find(|name| name.starts_with('/') || name.split('/').any(|part| part == "..")) {
            return Err(format!("the archive holds {}, which lies outside of it", shown(hostile, None)));
        }
        let flags = ["--extract", "--gzip", "--no-same-owner", "--no-same-permissions", "--keep-old-files", "--file"];
        let mut arguments: Vec<&std::ffi::OsStr> = flags.iter().map(std::convert::AsRef::as_ref).collect();
        arguments.extend([backup.as_os_str(), "--directory".as_ref(), self.partial.as_os_str()]);
        let extracting = run("tar", &arguments, &[], limit);
        let said = tokio::select! {
            said = extracting => said?,
            () = cancel.cancelled() => return Err("it was called off".to_owned()),
        };
        if !said.good {
            return Err(said.text);
        }
        let expected = names.iter().filter(|name| !name.ends_with('/')).count();
        let found = count_files(&self.partial).map_err(|error| error.to_string())?;
        if found != expected {
            return Err(format!("the archive names {expected} files, and {found} are there"));
        }
        Ok(format!("all {found} files that the archive names are there"))
    }

    /// Gives it its name, which nothing may have.
    fn settle(&self) -> io::Result<()> {
        let replaces_empty = self.partial.is_dir() && self.target.is_dir();
        if replaces_empty {
            // Fails when it is not empty any more.
            fs::remove_dir(&self.target)?;
        }
        renameat_with(CWD, &self.partial, CWD, &self.target, RenameFlags::NOREPLACE)?;
        match self.target.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }

    fn sweep(&self) -> String {
        let removed = match fs::symlink_metadata(&self.partial) {
            Ok(data) if data.is_dir() => fs::remove_dir_all(&self.partial),
            Ok(_) => fs::remove_file(&self.partial),
            Err(_) => Ok(()),
        };
        match removed {
            Ok(()) => "nothing was left behind".to_owned(),
            Err(error) => format!("{} was left behind: {error}", self.partial.display()),
        }
    }
}

fn failed(call: &Call, why: &str) -> ActionError {
    ActionError::Failed { action: call.action.clone(), why: shown(why, None) }
}

fn file_name(backup: &Path, form: Form) -> PathBuf {
    let name = PathBuf::from(backup.file_name().unwrap_or_default());
    if form == Form::Gzip && name.extension().is_some_and(|ending| ending == "gz") { name.with_extension("") } else { name }
}

fn count_files(folder: &Path) -> io::Result<usize> {
    let (mut count, mut left) = (0, vec![folder.to_path_buf()]);
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() { left.push(entry.path()) } else { count += 1 }
        }
    }
    Ok(count)
}

/// Copies or unpacks, reads what it wrote, and says how that was seen to be right.
fn copy(backup: &Path, partial: &Path, report: &Report, cancel: &CancellationToken) -> Result<String, String> {
    let named = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    match report.form {
        Form::Folder => {
            fs::create_dir(partial).map_err(|error| named(partial, error))?;
            let files = manifest::read(backup)?;
            for (path, expected) in &files {
                let target = partial.join(path);
                if let Some(parent) = target.parent() {
                    fs::create_dir_all(parent).map_err(|error| named(parent, error))?;
                }
                let source = File::open(backup.join(path)).map_err(|error| named(path, error))?;
                pour(source, &target, cancel).map_err(|error| named(&target, error))?;
                same(&target, expected)?;
            }
            // So that the copy can be checked as the backup was.
            fs::copy(backup.join(manifest::NAME), partial.join(manifest::NAME)).map_err(|error| named(partial, error))?;
            Ok(format!("all {} files were read back and have their hashes", files.len()))
        }
        Form::Gzip => {
            let source = File::open(backup).map_err(|error| named(backup, error))?;
            let (sha256, bytes) = pour(MultiGzDecoder::new(source), partial, cancel).map_err(|error| named(partial, error))?;
            if bytes != report.bytes {
                return Err(format!("{bytes} bytes were unpacked, and {} before", report.bytes));
            }
            same(partial, &sha256)?;
            Ok(format!("{bytes} bytes were read back as they were unpacked"))
        }
        _ => {
            let source = File::open(backup).map_err(|error| named(backup, error))?;
            pour(source, partial, cancel).map_err(|error| named(partial, error))?;
            same(partial, &report.sha256)?;
            Ok("it was read back and has the hash of the backup".to_owned())
        }
    }
}

fn same(path: &Path, expected: &str) -> Result<(), String> {
    let (found, _) = hash(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if found == expected { Ok(()) } else { Err(format!("{} has not the hash of the backup", path.display())) }
}

/// Writes all of it to a new file, durably: the hash and length of what was read.
fn pour(mut from: impl Read, to: &Path, cancel: &CancellationToken) -> io::Result<(String, u64)> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(to)?;
    let (mut sha, mut buffer, mut bytes) = (Sha256::new(), vec![0; CHUNK], 0);
    loop {
        if cancel.is_cancelled() {
            return Err(io::Error::other("it was called off"));
        }
        let read = from.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        sha.update(&buffer[..read]);
        file.write_all(&buffer[..read])?;
        bytes += read as u64;
    }
    file.sync_all()?;
    Ok((hex(&sha.finalize()), bytes))
}
