//! Running other programs, and what they cost.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often the memory of a measured program is read.
const SAMPLE_EVERY: Duration = Duration::from_millis(2);

/// `/proc` counts CPU time in these; Linux has used 100 a second on every common machine for decades.
const TICKS_PER_S: f64 = 100.0;

/// Runs to the end and fails with the command line when the program does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = describe(command);
    let status = command.status().with_context(|| format!("failed to start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(())
}

/// Runs to the end and gives what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("failed to start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` ended with {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(crate) fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The first of the names that is on the PATH.
pub(crate) fn find_program(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|file| file.is_file())
}

/// What one run of a program cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// User and system time, of the program and of all it started and waited for.
    pub cpu_s: f64,
    pub wall_s: f64,
    /// The largest resident size that was seen.
    pub rss_mb: f64,
}

/// Runs a program to the end and measures it; its output goes to `out`.
pub(crate) fn measure(command: &mut Command, out: &Path) -> Result<Cost> {
    let line = describe(command);
    let file = fs::File::create(out).with_context(|| format!("failed to create {}", out.display()))?;
    let cpu_before = children_cpu_s()?;
    let begin = Instant::now();
    let mut child = command.stdout(file).stdin(Stdio::null()).spawn().with_context(|| format!("failed to start `{line}`"))?;
    let peak = PeakMemory::watch(child.id());
    let status = child.wait().with_context(|| format!("failed to wait for `{line}`"))?;
    let wall_s = begin.elapsed().as_secs_f64();
    let rss_mb = peak.finish();
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(Cost { cpu_s: children_cpu_s()? - cpu_before, wall_s, rss_mb })
}

/// CPU seconds of all children that were waited for (`/proc/self/stat`, fields 16 and 17).
fn children_cpu_s() -> Result<f64> {
    cpu_fields("self", 15)
}

/// CPU seconds of the threads of a process whose name begins with `name`.
pub(crate) fn thread_cpu_s(pid: u32, name: &str) -> Result<f64> {
    let mut sum = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("failed to list threads")?.filter_map(std::result::Result::ok) {
        if fs::read_to_string(task.path().join("comm")).unwrap_or_default().starts_with(name) {
            sum += cpu_fields(&format!("{pid}/task/{}", task.file_name().to_string_lossy()), 13)?;
        }
    }
    Ok(sum)
}

/// CPU seconds of a running process itself, all threads (`/proc/<pid>/stat`, fields 14 and 15).
pub(crate) fn cpu_s(pid: u32) -> Result<f64> {
    cpu_fields(&pid.to_string(), 13)
}

fn cpu_fields(process: &str, first: usize) -> Result<f64> {
    let file = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&file).with_context(|| format!("failed to read {file}"))?;
    // The second field is a name in brackets that may itself contain blanks and brackets.
    let (_, rest) = text.rsplit_once(')').context("no name in brackets")?;
    let ticks: f64 = rest.split_whitespace().skip(first - 2).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS_PER_S)
}

/// A memory figure of a running process in MB: `VmRSS` now, `VmHWM` at its peak.
pub(crate) fn memory_mb(pid: u32, field: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024.0)
}

/// Reads a process's high-water mark until it is gone.
struct PeakMemory {
    stop: Arc<AtomicBool>,
    peak_kb: Arc<AtomicU64>,
    thread: Option<thread::JoinHandle<()>>,
}

impl PeakMemory {
    fn watch(pid: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let peak_kb = Arc::new(AtomicU64::new(0));
        let (stop_seen, peak_seen) = (Arc::clone(&stop), Arc::clone(&peak_kb));
        let thread = thread::spawn(move || {
            while !stop_seen.load(Ordering::Relaxed) {
                if let Some(mb) = memory_mb(pid, "VmHWM") {
                    peak_seen.fetch_max((mb * 1024.0) as u64, Ordering::Relaxed);
                }
                thread::sleep(SAMPLE_EVERY);
            }
        });
        Self { stop, peak_kb, thread: Some(thread) }
    }

    fn finish(mut self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        self.peak_kb.load(Ordering::Relaxed) as f64 / 1024.0
    }
}

/// A child that does not outlive its owner.
pub(crate) struct Guarded(pub Child);

impl Guarded {
    /// Asks it to end as an operator would, and waits.
    pub(crate) fn terminate(mut self) -> Result<ExitStatus> {
        run(Command::new("kill").args(["-TERM", &self.0.id().to_string()]))?;
        self.0.wait().context("failed to wait for a child")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }
}
