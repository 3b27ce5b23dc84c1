//! The quick health check: is everything there that Paramedic and its agents need?

use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::instance::{Ports, is_running};
use crate::settings::Settings;

/// Disk use from which an agent host is in trouble, in percent.
const DISK_CRITICAL_PERCENT: u64 = 90;
/// Free bytes below which it is, however large the disk.
const DISK_FREE_BYTES_MIN: u64 = 256 << 20;
/// Memory use from which it is, in percent.
const MEMORY_CRITICAL_PERCENT: u64 = 90;
/// Seconds that two clocks may differ before times in incidents become misleading.
const CLOCK_SKEW_MAX_S: u64 = 5;

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub verdict: Verdict,
    /// What was measured.
    pub detail: String,
    /// What to do about it; empty when it is fine.
    pub hint: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Ok,
    /// Works, but somebody should know.
    Warning,
    Failed,
}

impl Check {
    fn new(name: &'static str, verdict: Verdict, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, verdict, detail: detail.into(), hint: hint.into() }
    }
}

/// All checks, in the order in which a person would go through them.
#[must_use]
pub fn run(settings: &Settings) -> Vec<Check> {
    let data_dir = settings.data_dir();
    let mut checks = Vec::new();
    match &data_dir {
        Ok(dir) => {
            checks.push(data_folder(dir));
            checks.push(disk(dir));
        }
        Err(error) => checks.push(Check::new("data folder", Verdict::Failed, error.to_string(), "set HOME or use --data DIR")),
    }
    checks.push(memory());
    checks.push(clock());
    checks.push(open_files());
    for dir in settings.claude_dirs() {
        checks.push(claude_folder(&dir));
    }
    if let Ok(dir) = &data_dir {
        checks.extend(receivers(dir, settings));
        checks.push(journal(dir));
    }
    checks
}

fn data_folder(dir: &Path) -> Check {
    const NAME: &str = "data folder";
    let probe = dir.join(".doctor");
    let written = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&probe, b"x"));
    let _ = std::fs::remove_file(&probe);
    match written {
        Ok(()) => Check::new(NAME, Verdict::Ok, format!("{} can be written", dir.display()), ""),
        Err(error) => Check::new(
            NAME,
            Verdict::Failed,
            format!("{}: {error}", dir.display()),
            "give this user the right to write there, or use --data DIR",
        ),
    }
}

/// How full the disk of a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    pub used_percent: u64,
    pub free_bytes: u64,
}

impl Disk {
    /// As `df` counts: blocks kept for the system are neither used nor free.
    #[must_use]
    pub fn of(dir: &Path) -> Option<Self> {
        let stat = rustix::fs::statvfs(dir).ok()?;
        let (used, free_bytes) = (stat.f_blocks.saturating_sub(stat.f_bfree) * stat.f_frsize, stat.f_bavail * stat.f_frsize);
        Some(Self { used_percent: (used * 100).checked_div(used + free_bytes).unwrap_or(0), free_bytes })
    }

    #[must_use]
    pub const fn is_short(self) -> bool {
        self.used_percent > DISK_CRITICAL_PERCENT || self.free_bytes < DISK_FREE_BYTES_MIN
    }
}

impl std::fmt::Display for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} % used, {} free", self.used_percent, bytes(self.free_bytes))
    }
}

fn disk(dir: &Path) -> Check {
    const NAME: &str = "disk";
    let Some(disk) = Disk::of(dir) else {
        return Check::new(NAME, Verdict::Warning, format!("{}: cannot be measured", dir.display()), "");
    };
    let detail = format!("{disk} on the disk of {}", dir.display());
    if disk.is_short() {
        Check::new(NAME, Verdict::Failed, detail, "free some space: agents and the journal fail on a full disk")
    } else {
        Check::new(NAME, Verdict::Ok, detail, "")
    }
}

fn memory() -> Check {
    const NAME: &str = "memory";
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = |key: &str| {
        meminfo
            .lines()
            .find_map(|line| line.strip_prefix(key)?.trim_start_matches(':').trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
    };
    let (Some(total), Some(available)) = (kilobytes("MemTotal"), kilobytes("MemAvailable")) else {
        return Check::new(NAME, Verdict::Warning, "cannot be measured on this system", "");
    };
    let used_percent = 100 - available * 100 / total.max(1);
    let detail = format!("{used_percent} % used, {} available", bytes(available * 1024));
    if used_percent > MEMORY_CRITICAL_PERCENT {
        Check::new(NAME, Verdict::Failed, detail, "find the largest process: ps aux --sort=-rss | head")
    } else {
        Check::new(NAME, Verdict::Ok, detail, "")
    }
}

/// The wall clock must not lie behind the files it wrote itself, and must be a plausible date.
fn clock() -> Check {
    const NAME: &str = "clock";
    use paramedic_model::Clock as _;
    let now = paramedic_model::SystemClock.now();
    let boot_offset = std::fs::read_to_string("/proc/stat")
        .ok()
        .and_then(|stat| stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<i64>().ok()));
    if now.as_secs() < 1_750_000_000 {
        return Check::new(NAME, Verdict::Failed, format!("it says {now}"), "set the clock: times of incidents would be wrong");
    }
    match boot_offset {
        Some(boot) if boot > now.as_secs() + i64::try_from(CLOCK_SKEW_MAX_S).unwrap_or(5) => Check::new(
            NAME,
            Verdict::Warning,
            format!("{now}, which is before the machine started"),
            "the clock was set back; check time synchronisation",
        ),
        _ => Check::new(NAME, Verdict::Ok, format!("{now}"), ""),
    }
}

fn open_files() -> Check {
    const NAME: &str = "open files";
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    match limit {
        Some(limit) if limit < 1024 => Check::new(NAME, Verdict::Warning, format!("limit {limit}"), "raise it: ulimit -n 4096"),
        Some(limit) => Check::new(NAME, Verdict::Ok, format!("limit {limit}"), ""),
        None => Check::new(NAME, Verdict::Ok, "no limit", ""),
    }
}

fn claude_folder(dir: &Path) -> Check {
    const NAME: &str = "Claude Code";
    let projects = dir.join("projects");
    match std::fs::read_dir(&projects) {
        Ok(entries) => {
            let count = entries.count();
            Check::new(NAME, Verdict::Ok, format!("{} can be read, {count} projects", projects.display()), "")
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Check::new(
            NAME,
            Verdict::Warning,
            format!("{} does not exist yet", projects.display()),
            "start Claude Code once, or name its folder with --claude-dir DIR",
        ),
        Err(error) => Check::new(NAME, Verdict::Failed, format!("{}: {error}", projects.display()), "give this user the right to read it"),
    }
}

fn receivers(dir: &Path, settings: &Settings) -> Vec<Check> {
    let running = is_running(dir);
    let ports = Ports::read(dir).filter(|_| running).unwrap_or_default();
    let mut checks = vec![if running {
        Check::new("paramedic up", Verdict::Ok, format!("running, pid {}", ports.pid), "")
    } else {
        Check::new("paramedic up", Verdict::Warning, "not running on this data folder", "start it: paramedic up")
    }];
    let receivers: [(&'static str, &'static str, &'static str, _); 4] = [
        ("pages and hooks", "http", "--http ADDR", ports.http),
        ("OTLP gRPC", "otlp_grpc", "--otlp-grpc ADDR", ports.otlp_grpc),
        ("OTLP HTTP", "otlp_http", "--otlp-http ADDR", ports.otlp_http),
        ("gateway", "gateway", "--gateway ADDR", ports.gateway),
    ];
    for (name, key, option, actual) in receivers {
        let configured = settings.listen.address(key).ok().flatten();
        let Some(address) = actual.or(configured) else {
            checks.push(Check::new(name, Verdict::Ok, "switched off", ""));
            continue;
        };
        let answers = TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok();
        checks.push(match (running, answers) {
            (true, true) => Check::new(name, Verdict::Ok, format!("{address} answers"), ""),
            (true, false) => {
                Check::new(name, Verdict::Failed, format!("{address} does not answer"), "look at the messages of paramedic up")
            }
            (false, true) => Check::new(
                name,
                Verdict::Warning,
                format!("{address} is used by another program"),
                format!("choose another address: paramedic up {option}"),
            ),
            (false, false) => Check::new(name, Verdict::Ok, format!("{address} is free"), ""),
        });
    }
    checks
}

fn journal(dir: &Path) -> Check {
    const NAME: &str = "journal";
    let file = dir.join(crate::app::JOURNAL_FILE);
    if !file.exists() {
        return Check::new(NAME, Verdict::Ok, "none yet", "");
    }
    match paramedic_journal::verify(&file, &mut |_, _| {}) {
        Ok(found) if found.problems.is_empty() => {
            Check::new(NAME, Verdict::Ok, format!("{} entries, the chain is whole", found.entries), "")
        }
        Ok(found) => Check::new(
            NAME,
            Verdict::Failed,
            format!("{} of {} entries are altered or missing", found.problems.len(), found.entries),
            "see which: paramedic journal verify",
        ),
        Err(error) => Check::new(NAME, Verdict::Failed, format!("failed to {error}"), "restore it from a copy, or set it aside"),
    }
}

/// `1.5 GB`, for people.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    #[expect(clippy::cast_precision_loss, reason = "a size for people")]
    let mut size = count as f64;
    let mut unit = 0;
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{size:.1} {}", UNITS[unit]) }
}
