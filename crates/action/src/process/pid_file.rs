//! Pid files: which process they claim, and whether it lives.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use paramedic_model::Timestamp;

use super::table::Process;

/// A pid file is a few lines.
const FILE_BYTES_MAX: u64 = 4_096;
/// A file's time and a process's start are known to about a second.
const SLACK_S: i64 = 2;

/// What a pid file says, and which file it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PidFile {
    pub(super) path: PathBuf,
    pub(super) pid: i32,
    identity: (u64, u64, i64, i64, u64),
}

impl PidFile {
    /// `None`: there is no such file. The number stands alone in the first line.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, String> {
        let cannot = |why: &dyn std::fmt::Display| format!("{} cannot be read as a pid file: {why}", path.display());
        if !path.is_absolute() {
            return Err(cannot(&"its path must begin with /"));
        }
        let file = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(cannot(&error)),
            Ok(file) => file,
        };
        if !file.is_file() {
            return Err(cannot(&"it is not a plain file"));
        }
        // A pipe put in its place meanwhile must not hold us, nor a link lead us elsewhere.
        let flags = i32::try_from((rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits()).unwrap_or(0);
        let opened = File::options().read(true).custom_flags(flags).open(path).map_err(|error| cannot(&error))?;
        let file = opened.metadata().map_err(|error| cannot(&error))?;
        if !file.is_file() || file.len() > FILE_BYTES_MAX {
            return Err(cannot(&"it is not a short plain file"));
        }
        let mut text = String::new();
        opened.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| cannot(&error))?;
        let first = text.lines().next().unwrap_or_default().trim();
        let pid = first.parse().ok().filter(|pid| *pid > 0).ok_or_else(|| cannot(&"its first line is not the number of a process"))?;
        let identity = (file.dev(), file.ino(), file.mtime(), file.mtime_nsec(), file.len());
        Ok(Some(Self { path: path.to_owned(), pid, identity }))
    }

    /// The living process that the file is about, or why it is stale.
    pub(super) fn living(&self, name: Option<&str>) -> Option<Result<Process, String>> {
        let pid = self.pid;
        let Some(process) = Process::read(pid).filter(|process| !process.has_ended()) else {
            return Some(Err(format!("no process {pid} lives")));
        };
        match name {
            _ if process.leader != pid => Some(Err(format!("{pid} is a thread of the process {}", process.leader))),
            Some(name) if !process.names().contains(name) => Some(Err(format!("{pid} is {} now, not {name}", process.comm))),
            _ => Some(Ok(process)),
        }
    }

    /// Which state of the file this is: another file or other content is another one.
    pub(super) fn stands_on(&self) -> String {
        let (device, inode, secs, nanos, bytes) = self.identity;
        format!("{} pid {} inode {device}:{inode} at {secs}.{nanos:09} of {bytes} bytes", self.path.display(), self.pid)
    }
}

/// A file that only holds a number might be anything: it must also be called like a pid file.
pub(super) fn is_called_so(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    ["pid", "lock"].iter().any(|word| name == *word || name.ends_with(&format!(".{word}")) || name.ends_with(&format!("_{word}")))
        || name.ends_with("pidfile")
}

/// Whether the file was written before a process started, which then cannot be the one it means (clocks permitting).
pub(super) fn is_older(path: &Path, started: Timestamp) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.mtime().saturating_add(SLACK_S) < started.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_plain_files_with_a_number_are_pid_files() {
        let folder = tempfile::tempdir().unwrap();
        let check = |content: &[u8], expect: Option<i32>| {
            let path = folder.path().join("x.pid");
            fs::write(&path, content).unwrap();
            assert_eq!(PidFile::read(&path).ok().flatten().map(|file| file.pid), expect, "{content:?}");
        };
        check(b"4711\n", Some(4711));
        check(b" 4711 \n/var/lib/postgresql\n1700000000\n", Some(4711));
        for wrong in [&b""[..], b"\n4711", b"0", b"-1", b"12 13", b"abc", b"\xff", b"99999999999", &[b'1'; 5000]] {
            check(wrong, None);
        }
        let link = folder.path().join("link.pid");
        std::os::unix::fs::symlink(folder.path().join("x.pid"), &link).unwrap();
        assert!(PidFile::read(&link).unwrap_err().contains("not a plain file"));
        assert_eq!(PidFile::read(&folder.path().join("none.pid")), Ok(None));
        assert!(PidFile::read(Path::new("x.pid")).is_err());
    }

    #[test]
    fn a_pid_file_is_called_like_one() {
        for (name, expect) in
            [("a.pid", true), ("postmaster.PID", true), (".lock", true), ("pid", true), ("sequence", false), ("rapid", false)]
        {
            assert_eq!(is_called_so(&Path::new("/run").join(name)), expect, "{name}");
        }
    }
}
