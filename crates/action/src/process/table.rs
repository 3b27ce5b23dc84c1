//! The process table: `/proc`, none of which is trusted to be whole.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use paramedic_model::{Timestamp, secret, text};

/// Clock ticks a second in `/proc`: fixed by Linux's interface to user space.
const TICKS_PER_SECOND: u64 = 100;
/// The kernel's flag of its own threads (`PF_KTHREAD`).
const KERNEL_THREAD: u64 = 0x0020_0000;
/// A command line or an environment of more bytes is not read.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Bytes of a command line that are shown.
const SHOWN_BYTES_MAX: usize = 200;

/// One process as `/proc/<pid>/stat` and `status` tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    /// The first 15 bytes of the program's name.
    pub(super) comm: String,
    pub(super) state: char,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    pub(super) terminal: i64,
    pub(super) is_kernel: bool,
    /// Clock ticks from boot to its start: with the number, what tells it from a later process.
    pub(super) start_ticks: u64,
    /// The process that this is a thread of; itself for a process.
    pub(super) leader: i32,
    pub(super) users: [u32; 2],
    pub(super) user_group: u32,
    pub(super) user_groups: Vec<u32>,
    pub(super) rss_kb: u64,
}

impl Process {
    /// `None`: there is no such process.
    pub(super) fn read(pid: i32) -> Option<Self> {
        let stat = read_text(&place(pid, "stat"))?;
        let status = read_text(&place(pid, "status")).unwrap_or_default();
        Self::parse(pid, &stat, &status)
    }

    fn parse(pid: i32, stat: &str, status: &str) -> Option<Self> {
        // The name is in brackets and may hold anything, brackets and line breaks too.
        let (before, behind) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = behind.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<i32>().ok();
        let of = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let numbers = |key: &str| of(key).map(|rest| rest.split_ascii_whitespace().filter_map(|word| word.parse::<u32>().ok()).collect());
        let users: Vec<u32> = numbers("Uid").unwrap_or_default();
        let groups: Vec<u32> = numbers("Gid").unwrap_or_default();
        // Whose process it is must be known before it may be touched; nobody has this number.
        let unknown = u32::MAX;
        Some(Self {
            pid,
            comm: before.split_once('(')?.1.to_owned(),
            state: fields.first()?.chars().next()?,
            parent: number(1)?,
            group: number(2)?,
            session: number(3)?,
            terminal: fields.get(4)?.parse().ok()?,
            is_kernel: fields.get(6)?.parse::<u64>().ok()? & KERNEL_THREAD != 0,
            start_ticks: fields.get(19)?.parse().ok()?,
            leader: of("Tgid").and_then(|rest| rest.trim().parse().ok()).unwrap_or(pid),
            users: [users.first().copied().unwrap_or(unknown), users.get(1).copied().unwrap_or(unknown)],
            user_group: groups.get(1).copied().unwrap_or(unknown),
            user_groups: numbers("Groups").unwrap_or_default(),
            rss_kb: of("VmRSS").and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0),
        })
    }

    /// It does nothing any more; only its parent has not heard of its end.
    pub(super) const fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// The words it was started with; empty when they cannot be read.
    pub(super) fn argv(&self) -> Vec<String> {
        let bytes = read_bytes(&place(self.pid, "cmdline")).unwrap_or_default();
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
        if bytes.is_empty() {
            return Vec::new();
        }
        bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }

    pub(super) fn exe(&self) -> Option<PathBuf> {
        std::fs::read_link(place(self.pid, "exe")).ok()
    }

    /// What it is called by people: the name of its program, of the words it was started with, or of itself.
    pub(super) fn names(&self) -> HashSet<String> {
        let base = |path: &Path| path.file_name().map(|name| name.to_string_lossy().trim_end_matches(" (deleted)").to_owned());
        let mut names = HashSet::from([self.comm.clone()]);
        names.extend(self.exe().and_then(|exe| base(&exe)));
        names.extend(self.argv().first().and_then(|first| base(Path::new(first))));
        names
    }

    /// The command line fit to be shown: without secrets, on one line, short.
    pub(super) fn shown(&self) -> String {
        let argv = self.argv();
        let line = if argv.is_empty() { format!("[{}]", self.comm) } else { argv.join(" ") };
        let masked = secret::mask(&line).into_owned();
        text::capped(&text::one_line(&masked), SHOWN_BYTES_MAX).into_owned()
    }

    pub(super) fn started_at(&self, booted: Timestamp) -> Timestamp {
        booted.after(Duration::from_millis(self.start_ticks.saturating_mul(1_000 / TICKS_PER_SECOND)))
    }

    /// The service of the system that it lies in, where there is one.
    pub(super) fn service(&self) -> Option<String> {
        let cgroup = read_text(&place(self.pid, "cgroup"))?;
        let last = cgroup.lines().last()?.rsplit('/').next()?;
        (last.ends_with(".service") && !last.starts_with("user@")).then(|| last.to_owned())
    }
}

pub(super) fn place(pid: i32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{file}"))
}

pub(super) fn read_bytes(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= FILE_BYTES_MAX).then_some(bytes)
}

pub(super) fn read_text(path: &Path) -> Option<String> {
    read_bytes(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Every process there is, threads not counted.
pub(super) fn all() -> impl Iterator<Item = Process> {
    let entries = std::fs::read_dir("/proc").ok();
    let numbers = entries.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.filter_map(Process::read)
}

/// When the machine started, by its present clock.
pub(super) fn booted_at() -> Option<Timestamp> {
    let stat = read_text(Path::new("/proc/stat"))?;
    let secs = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(Timestamp::from_secs(secs))
}

/// Our own process and everything it came from.
pub(super) fn own_line() -> Vec<i32> {
    let mut line = vec![i32::try_from(std::process::id()).unwrap_or(0)];
    // A chain of parents ends at the first process; a table that changes while it is read must not hold us.
    while let Some(parent) = line.last().and_then(|pid| Process::read(*pid)).map(|process| process.parent) {
        if parent <= 0 || line.contains(&parent) {
            break;
        }
        line.push(parent);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "77 (a) b) S 1 77 70 34816 77 4194304 1 0 0 0 1 2 0 0 20 0 1 0 4321 1 1";
        let process = Process::parse(77, stat, "Tgid:\t70\nUid:\t5\t6\t5\t5\nGid:\t7\t8\t7\t7\nGroups:\t4 24 \n").unwrap();
        assert_eq!((process.comm.as_str(), process.state, process.group, process.session), ("a) b", 'S', 77, 70));
        assert_eq!((process.start_ticks, process.leader, process.users), (4321, 70, [5, 6]));
        assert_eq!((process.user_group, process.user_groups), (8, vec![4, 24]));
        for broken in ["", "77 (a", "77 (a) S 1", "77 (a) S x 77 70"] {
            assert_eq!(Process::parse(77, broken, ""), None, "{broken}");
        }
    }

    #[test]
    fn whose_it_is_must_be_known() {
        let process = Process::parse(77, "77 (a) S 1 77 70 0 77 2097152 1 0 0 0 1 2 0 0 20 0 1 0 4321 1 1", "").unwrap();
        assert_eq!(process.users, [u32::MAX; 2]);
        assert!(process.is_kernel);
    }

    #[test]
    fn our_line_goes_from_us_to_the_first() {
        let line = own_line();
        assert_eq!(line[0], i32::try_from(std::process::id()).unwrap());
        assert!(line.len() > 1 && line[1] == rustix::process::getppid().unwrap().as_raw_nonzero().get());
    }
}
