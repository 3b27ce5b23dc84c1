//! A control group's own counts, as cAdvisor names those of containers. Version 2 of control groups; of version 1 the memory.

use std::path::Path;

use paramedic_model::Timestamp;

use crate::proc_files;
use crate::reading::Reading;

pub(super) fn tell(folder: &Path, name: &str, now: Timestamp, reading: &mut Reading) {
    let labels = [("container", name), ("pod", name)];
    let number = |file: &str| proc_files::read(&folder.join(file)).ok()?.trim().parse::<u64>().ok().map(|value| value as f64);
    let is_there = folder.join("cgroup.procs").exists();
    // The published rules compare this time with 0.
    reading.add("container_last_seen", &labels, if is_there { now.as_millis() as f64 / 1e3 } else { 0.0 });
    let memory = proc_files::read(&folder.join("memory.stat")).unwrap_or_default();
    if let Some(used) = number("memory.current").or_else(|| number("memory.usage_in_bytes")) {
        let inactive = keyed(&memory, "inactive_file").or_else(|| keyed(&memory, "total_inactive_file")).unwrap_or(0.0);
        reading.add("container_memory_usage_bytes", &labels, used);
        reading.add("container_memory_working_set_bytes", &labels, (used - inactive).max(0.0));
    }
    // No limit is written as `max` in version 2 and as an enormous number in version 1.
    let limit = number("memory.max").or_else(|| number("memory.limit_in_bytes")).filter(|limit| *limit < 9e18);
    if let Some(limit) = limit {
        reading.add("container_spec_memory_limit_bytes", &labels, limit);
    }
    let cpu = proc_files::read(&folder.join("cpu.stat")).unwrap_or_default();
    for (key, metric, scale) in [
        ("usage_usec", "container_cpu_usage_seconds_total", 1e-6),
        ("nr_periods", "container_cpu_cfs_periods_total", 1.0),
        ("nr_throttled", "container_cpu_cfs_throttled_periods_total", 1.0),
        ("throttled_usec", "container_cpu_cfs_throttled_seconds_total", 1e-6),
    ] {
        if let Some(value) = keyed(&cpu, key) {
            reading.add(metric, &labels, value * scale);
        }
    }
    let events = proc_files::read(&folder.join("memory.events")).unwrap_or_default();
    if let Some(kills) = keyed(&events, "oom_kill") {
        reading.add("container_oom_events_total", &labels, kills);
    }
}

fn keyed(text: &str, key: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    value.trim().parse::<u64>().ok().map(|value| value as f64)
}
