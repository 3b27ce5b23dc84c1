//! Whether a backup is fresh and whole.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use paramedic_model::Timestamp;
use sha2::{Digest, Sha256};

use super::manifest;
use super::program::run;
use crate::address::shown;
use crate::error::ActionError;

const CHUNK: usize = 256 * 1024;
/// A clock that is a little ahead elsewhere is no reason for alarm.
const AHEAD_S: i64 = 300;

/// What a backup is, told by its first bytes and not by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Sqlite,
    Gzip,
    TarGz,
    PgDump,
    Rdb,
    Folder,
    Other,
}

impl Form {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite database",
            Self::Gzip => "gzip file",
            Self::TarGz => "tar.gz archive",
            Self::PgDump => "PostgreSQL dump",
            Self::Rdb => "Redis save",
            Self::Folder => "folder",
            Self::Other => "file",
        }
    }

    fn of(path: &Path) -> io::Result<Self> {
        if path.is_dir() {
            return Ok(Self::Folder);
        }
        let mut head = [0; 16];
        let read = read_up_to(&mut File::open(path)?, &mut head)?;
        Ok(match &head[..read] {
            b"SQLite format 3\0" => Self::Sqlite,
            [b'P', b'G', b'D', b'M', b'P', ..] => Self::PgDump,
            [b'R', b'E', b'D', b'I', b'S', b'0', ..] => Self::Rdb,
            [0x1f, 0x8b, ..] => {
                let mut inside = [0; 512];
                let read = read_up_to(&mut MultiGzDecoder::new(File::open(path)?), &mut inside).unwrap_or(0);
                if read == 512 && &inside[257..262] == b"ustar" { Self::TarGz } else { Self::Gzip }
            }
            _ => Self::Other,
        })
    }
}

fn read_up_to(from: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// What was found out about a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) form: Form,
    /// What it is when it is restored.
    pub(super) bytes: u64,
    pub(super) files: u64,
    pub(super) age_s: u64,
    pub(super) fresh: bool,
    /// None: nothing says so.
    pub(super) intact: Option<bool>,
    pub(super) how: String,
    /// Its size, its time and its hash.
    pub(super) stands_on: String,
    /// Of the file, or of a folder's manifest.
    pub(super) sha256: String,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) bytes_max: u64,
    pub(super) timeout: Duration,
}

pub(super) async fn check(action: &str, path: &Path, max_age: Duration, now: Timestamp, limit: Limit) -> Result<Report, ActionError> {
    let owned: PathBuf = path.to_path_buf();
    let looked = tokio::task::spawn_blocking(move || look(&owned, max_age, now, limit)).await;
    let failed = |why: String| ActionError::Failed { action: action.to_owned(), why: shown(&why, None) };
    let looked = looked.map_err(|error| failed(format!("the check ended early: {error}")))?;
    let mut report = looked.map_err(|error| {
        let what = format!("the backup {}", shown(&path.display().to_string(), None));
        ActionError::NotFound { what, why: shown(&error.to_string(), None) }
    })?;
    if report.intact == Some(false) {
        return Ok(report);
    }
    let text = path.as_os_str();
    let asked = match report.form {
        // Its list stands at its beginning; only who reads all of it sees whether the end is there.
        Form::PgDump => run("pg_restore", &["--file".as_ref(), "/dev/null".as_ref(), text], &[], limit.timeout).await,
        Form::Rdb => run("redis-check-rdb", &[text], &[], limit.timeout).await,
        _ => return Ok(report),
    };
    match asked {
        Ok(said) if said.good => {
            report.intact = Some(true);
            report.how =
                format!("{} reads all of it; {}", if report.form == Form::Rdb { "redis-check-rdb" } else { "pg_restore" }, report.how);
        }
        Ok(said) => (report.intact, report.how) = (Some(false), said.text),
        // Not installed: what the hash says must do.
        Err(why) => report.how = format!("{}; {why}", report.how),
    }
    Ok(report)
}

fn look(path: &Path, max_age: Duration, now: Timestamp, limit: Limit) -> io::Result<Report> {
    let data = std::fs::symlink_metadata(path)?;
    if data.is_symlink() || !(data.is_file() || data.is_dir()) {
        return Err(io::Error::other("it is neither a file nor a folder"));
    }
    let form = Form::of(path)?;
    let dated = if form == Form::Folder { std::fs::symlink_metadata(path.join(manifest::NAME)).unwrap_or(data) } else { data };
    let age_s = now.as_secs().saturating_sub(dated.mtime());
    let mut report = Report {
        form,
        bytes: dated.len(),
        files: 1,
        age_s: u64::try_from(age_s).unwrap_or(0),
        // What is from the future has a wrong time, and nobody knows how old it is.
        fresh: age_s >= -AHEAD_S && u64::try_from(age_s).unwrap_or(0) <= max_age.as_secs(),
        intact: None,
        how: String::new(),
        stands_on: String::new(),
        sha256: String::new(),
    };
    if form == Form::Folder {
        look_folder(path, &mut report)?;
    } else {
        look_file(path, &mut report, limit)?;
    }
    report.stands_on = stands_on(&dated, &report.sha256);
    Ok(report)
}

fn stands_on(data: &Metadata, sha256: &str) -> String {
    format!("{} {}.{} {sha256}", data.len(), data.mtime(), data.mtime_nsec())
}

fn look_folder(path: &Path, report: &mut Report) -> io::Result<()> {
    if !path.join(manifest::NAME).is_file() {
        report.how = format!("it has no {}, which would say what belongs to it", manifest::NAME);
        return Ok(());
    }
    report.sha256 = hash(&path.join(manifest::NAME))?.0;
    match manifest::check(path) {
        Ok((files, bytes)) => {
            (report.files, report.bytes, report.intact) = (files, bytes, Some(true));
            report.how = format!("all {files} files have the hashes of {}", manifest::NAME);
        }
        Err(why) => (report.intact, report.how) = (Some(false), why),
    }
    Ok(())
}

fn look_file(path: &Path, report: &mut Report, limit: Limit) -> io::Result<()> {
    let (sha256, bytes) = hash(path)?;
    (report.sha256, report.bytes) = (sha256, bytes);
    let mut seen = Vec::new();
    match beside(path)? {
        Some(expected) if expected == report.sha256 => {
            report.intact = Some(true);
            seen.push("its hash is the one of the .sha256 file beside it".to_owned());
        }
        Some(_) => {
            (report.intact, report.how) = (Some(false), "its hash is not the one of the .sha256 file beside it".to_owned());
            return Ok(());
        }
        None => seen.push("there is no .sha256 file beside it".to_owned()),
    }
    match report.form {
        Form::Sqlite if has_log(path) => {
            report.intact = Some(false);
            seen = vec!["a -wal file lies beside it: it is a copy of an open database, and the newest data is not in it".to_owned()];
        }
        Form::Sqlite => match whole_database(path) {
            Ok(()) => {
                report.intact = Some(true);
                seen.push("PRAGMA integrity_check says ok".to_owned());
            }
            Err(why) => (report.intact, seen) = (Some(false), vec![format!("SQLite says: {why}")]),
        },
        Form::Gzip | Form::TarGz => match unpacked(path, limit.bytes_max) {
            Ok(bytes) => {
                (report.intact, report.bytes) = (Some(true), bytes);
                seen.push(format!("all of it was unpacked, {bytes} bytes"));
            }
            Err(error) => (report.intact, seen) = (Some(false), vec![format!("it cannot be unpacked: {error}")]),
        },
        Form::PgDump | Form::Rdb | Form::Folder | Form::Other => {}
    }
    report.how = seen.join("; ");
    Ok(())
}

/// The hash that is written beside a file, `name.sha256`.
fn beside(path: &Path) -> io::Result<Option<String>> {
    let mut name = path.as_os_str().to_owned();
    name.push(".sha256");
    let mut text = String::new();
    match File::open(PathBuf::from(name)) {
        Ok(file) => file.take(4_096).read_to_string(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(text.split_whitespace().next().unwrap_or_default().to_ascii_lowercase()))
}

/// SHA-256 in hexadecimal digits, and how many bytes there were.
pub(super) fn hash(path: &Path) -> io::Result<(String, u64)> {
    let (mut file, mut sha, mut buffer, mut bytes) = (File::open(path)?, Sha256::new(), vec![0; CHUNK], 0);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((hex(&sha.finalize()), bytes));
        }
        sha.update(&buffer[..read]);
        bytes += read as u64;
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unpacked(path: &Path, bytes_max: u64) -> io::Result<u64> {
    let (mut from, mut buffer, mut bytes) = (MultiGzDecoder::new(File::open(path)?), vec![0; CHUNK], 0);
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(bytes);
        }
        bytes += read as u64;
        if bytes > bytes_max {
            return Err(io::Error::other(format!("it has more than {bytes_max} bytes (bytes_max)")));
        }
    }
}

fn has_log(path: &Path) -> bool {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    std::fs::metadata(PathBuf::from(name)).is_ok_and(|data| data.len() > 0)
}

/// Asked without a lock and without writing anything beside the backup.
fn whole_database(path: &Path) -> Result<(), String> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_URI;
    let escaped: String = path
        .to_string_lossy()
        .chars()
        .map(|letter| match letter {
            '%' => "%25".to_owned(),
            '?' => "%3f".to_owned(),
            '#' => "%23".to_owned(),
            other => other.to_string(),
        })
        .collect();
    let database =
        rusqlite::Connection::open_with_flags(format!("file:{escaped}?immutable=1"), flags).map_err(|error| error.to_string())?;
    let said: String = database.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(|error| error.to_string())?;
    if said == "ok" { Ok(()) } else { Err(shown(&said, None)) }
}
