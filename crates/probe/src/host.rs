//! This machine: memory, CPUs, load, pressure, file systems, disks, networks, as node_exporter names them.
//!
//! Two file systems calls may hang for ever on a dead network server, so everything is read on a thread of its own; a look
//! that finds the one before still reading fails and leaves it alone.

use std::collections::HashSet;
use std::path::Path;

use paramedic_model::Timestamp;
use tokio::task::JoinHandle;

use crate::config::HostSettings;
use crate::error::Failure;
use crate::plan::{Identity, Looking, Opened, Probe};
use crate::proc_files::{self, Mount, TICKS_PER_SECOND};
use crate::reading::Reading;

/// Mode names of `/proc/stat`, in its order. Guest time is within user and nice.
const CPU_MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
/// File systems that hold files on a medium of this machine.
const LOCAL_FILE_SYSTEMS: &[&str] = &[
    "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hfsplus", "jfs", "nilfs2", "ntfs", "ntfs3", "reiserfs", "ufs", "vfat",
    "xfs", "zfs",
];
const NETWORK_FILE_SYSTEMS: &[&str] =
    &["9p", "afs", "beegfs", "ceph", "cifs", "gfs2", "gpfs", "lustre", "nfs", "nfs4", "ocfs2", "smb3", "virtiofs"];

pub(crate) fn open(settings: &HostSettings) -> Opened {
    let name = proc_files::read(&settings.proc_path.join("sys/kernel/hostname")).unwrap_or_default();
    let instance = match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    };
    let identity = Identity { address: settings.proc_path.display().to_string(), instance };
    (identity, Box::new(Host { settings: settings.clone(), under_way: None }))
}

struct Host {
    settings: HostSettings,
    under_way: Option<JoinHandle<(Reading, Result<(), Failure>)>>,
}

impl Probe for Host {
    fn look<'a>(&'a mut self, now: Timestamp, reading: &'a mut Reading) -> Looking<'a> {
        Box::pin(async move {
            if self.under_way.as_ref().is_some_and(|before| !before.is_finished()) {
                return Err(Failure::new("the look before is still waiting for a file system"));
            }
            let (settings, mut part) = (self.settings.clone(), reading.fresh());
            let reading_thread = tokio::task::spawn_blocking(move || {
                let found = measure(&settings, now, &mut part);
                (part, found)
            });
            let under_way = self.under_way.insert(reading_thread);
            let (part, found) = under_way.await.map_err(|err| Failure::of("read this machine", &err))?;
            self.under_way = None;
            reading.absorb(part);
            found
        })
    }
}

fn measure(settings: &HostSettings, now: Timestamp, reading: &mut Reading) -> Result<(), Failure> {
    let file = |name: &str| proc_files::read(&settings.proc_path.join(name));
    let needed = |name: &str| file(name).map_err(|err| Failure::of(&format!("read {}", settings.proc_path.join(name).display()), &err));
    reading.gauge("node_time_seconds", now.as_millis() as f64 / 1e3);
    let stat = needed("stat")?;
    cpus(&stat, reading);
    memory(&needed("meminfo")?, reading);
    load(&file("loadavg").unwrap_or_default(), reading);
    for resource in ["cpu", "memory", "io"] {
        pressures(resource, &file(&format!("pressure/{resource}")).unwrap_or_default(), reading);
    }
    events(&file("vmstat").unwrap_or_default(), reading);
    disks(&file("diskstats").unwrap_or_default(), reading);
    networks(&file("net/dev").unwrap_or_default(), reading);
    sockets(&file("net/sockstat").unwrap_or_default(), reading);
    open_files(&file("sys/fs/file-nr").unwrap_or_default(), reading);
    let names = |name: &str| file(&format!("sys/kernel/{name}")).unwrap_or_default().trim().to_owned();
    let (node, release) = (names("hostname"), names("osrelease"));
    reading.add("node_uname_info", &[("sysname", "Linux"), ("nodename", &node), ("release", &release)], 1.0);
    // Within a container this process's mounts are not the host's.
    let whose = if settings.root_path == Path::new("/") { "self/mountinfo" } else { "1/mountinfo" };
    file_systems(&file(whose).or_else(|_| file("self/mountinfo")).unwrap_or_default(), settings, reading);
    Ok(())
}

fn cpus(stat: &str, reading: &mut Reading) {
    for (cpu, ticks) in proc_files::cpu_ticks(stat) {
        for (mode, ticks) in CPU_MODES.iter().zip(ticks) {
            reading.add("node_cpu_seconds_total", &[("cpu", cpu), ("mode", mode)], ticks as f64 / TICKS_PER_SECOND);
            if *mode == "idle" {
                reading.add("cpu_idle_seconds_total", &[("cpu", cpu)], ticks as f64 / TICKS_PER_SECOND);
            }
        }
    }
    if let Some(boot_time) = proc_files::boot_time(stat) {
        reading.gauge("node_boot_time_seconds", boot_time);
    }
    for (key, metric) in [
        ("processes", "node_forks_total"),
        ("ctxt", "node_context_switches_total"),
        ("procs_running", "node_procs_running"),
        ("procs_blocked", "node_procs_blocked"),
    ] {
        let value = stat.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse::<u64>().ok());
        if let Some(value) = value {
            reading.gauge(metric, value as f64);
        }
    }
}

fn memory(meminfo: &str, reading: &mut Reading) {
    let (mut total, mut available) = (None, None);
    for (name, value) in proc_files::keyed_values(meminfo) {
        let clean: String = name.replace(')', "").chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        // Counts of huge pages are the only values without a unit.
        let unit = if name.starts_with("HugePages_") { "" } else { "_bytes" };
        reading.gauge(&format!("node_memory_{clean}{unit}"), value);
        match name {
            "MemTotal" => total = Some(value),
            "MemAvailable" => available = Some(value),
            _ => {}
        }
    }
    if let (Some(total), Some(available)) = (total, available) {
        reading.gauge("memory_total_bytes", total);
        reading.gauge("memory_available_bytes", available);
        if total > 0.0 {
            reading.gauge("memory_percent", (1.0 - available / total) * 100.0);
        }
    }
}

fn load(loadavg: &str, reading: &mut Reading) {
    for (metric, word) in ["node_load1", "node_load5", "node_load15"].iter().zip(loadavg.split_ascii_whitespace()) {
        if let Some(value) = word.parse().ok().filter(|value: &f64| value.is_finite()) {
            reading.gauge(metric, value);
        }
    }
}

fn pressures(resource: &str, text: &str, reading: &mut Reading) {
    for (share, micros) in proc_files::pressure(text) {
        let name = match share {
            "some" => "waiting",
            "full" => "stalled",
            _ => continue,
        };
        reading.gauge(&format!("node_pressure_{resource}_{name}_seconds_total"), micros as f64 / 1e6);
    }
}

fn events(vmstat: &str, reading: &mut Reading) {
    for line in vmstat.lines() {
        let Some((name @ ("oom_kill" | "pgfault" | "pgmajfault" | "pswpin" | "pswpout"), value)) = line.split_once(' ') else { continue };
        if let Ok(value) = value.trim().parse::<u64>() {
            reading.gauge(&format!("node_vmstat_{name}"), value as f64);
        }
    }
}

fn disks(diskstats: &str, reading: &mut Reading) {
    // Name, column after the device's name, and what one count is worth.
    const COLUMNS: [(&str, usize, f64); 9] = [
        ("node_disk_reads_completed_total", 0, 1.0),
        ("node_disk_read_bytes_total", 2, 512.0),
        ("node_disk_read_time_seconds_total", 3, 1e-3),
        ("node_disk_writes_completed_total", 4, 1.0),
        ("node_disk_written_bytes_total", 6, 512.0),
        ("node_disk_write_time_seconds_total", 7, 1e-3),
        ("node_disk_io_now", 8, 1.0),
        ("node_disk_io_time_seconds_total", 9, 1e-3),
        ("node_disk_io_time_weighted_seconds_total", 10, 1e-3),
    ];
    for line in diskstats.lines() {
        let mut words = line.split_ascii_whitespace().skip(2);
        let Some(device) = words.next().filter(|device| is_whole_disk(device)) else { continue };
        let values: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        for (metric, column, scale) in COLUMNS {
            if let Some(value) = values.get(column) {
                reading.add(metric, &[("device", device)], *value as f64 * scale);
            }
        }
    }
}

/// Neither a partition of another device nor one in memory.
fn is_whole_disk(device: &str) -> bool {
    let stem = device.trim_end_matches(|c: char| c.is_ascii_digit());
    let is_numbered = stem.len() < device.len();
    let is_partition = |prefix: &str| stem.strip_prefix(prefix).is_some_and(|letters| letters.len() == 1);
    let is_nvme_partition = stem.starts_with("nvme") && stem.ends_with('p') || stem.starts_with("mmcblk") && stem.ends_with('p');
    let is_other = matches!(stem, "ram" | "zram" | "loop" | "fd") || is_nvme_partition;
    !(is_numbered && (is_other || ["hd", "sd", "vd", "xvd"].into_iter().any(is_partition)))
}

fn networks(dev: &str, reading: &mut Reading) {
    const COLUMNS: [(&str, usize); 8] = [
        ("receive_bytes", 0),
        ("receive_packets", 1),
        ("receive_errs", 2),
        ("receive_drop", 3),
        ("transmit_bytes", 8),
        ("transmit_packets", 9),
        ("transmit_errs", 10),
        ("transmit_drop", 11),
    ];
    for line in dev.lines() {
        let Some((device, rest)) = line.split_once(':') else { continue };
        let values: Vec<u64> = rest.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
        for (name, column) in COLUMNS {
            if let Some(value) = values.get(column) {
                reading.add(&format!("node_network_{name}_total"), &[("device", device.trim())], *value as f64);
            }
        }
    }
}

fn sockets(sockstat: &str, reading: &mut Reading) {
    let Some(tcp) = sockstat.lines().find_map(|line| line.strip_prefix("TCP:")) else { return };
    let words: Vec<&str> = tcp.split_ascii_whitespace().collect();
    for pair in words.chunks_exact(2) {
        if let ("inuse" | "orphan" | "tw" | "alloc", Ok(value)) = (pair[0], pair[1].parse::<u64>()) {
            reading.gauge(&format!("node_sockstat_TCP_{}", pair[0]), value as f64);
        }
    }
}

fn open_files(file_nr: &str, reading: &mut Reading) {
    let values: Vec<u64> = file_nr.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
    if let [allocated, _, maximum] = values[..] {
        reading.gauge("node_filefd_allocated", allocated as f64);
        reading.gauge("node_filefd_maximum", maximum as f64);
    }
}

fn is_wanted(mount: &Mount, settings: &HostSettings) -> bool {
    let kind = mount.fs_type.as_str();
    // In a container the root is an overlay over a disk of the host: the only file system there is.
    LOCAL_FILE_SYSTEMS.contains(&kind)
        || (kind == "overlay" && mount.mount_point == "/")
        || (settings.network_file_systems && (NETWORK_FILE_SYSTEMS.contains(&kind) || kind.starts_with("fuse.")))
}

fn file_systems(mountinfo: &str, settings: &HostSettings, reading: &mut Reading) {
    let mut mounts: Vec<Mount> = proc_files::mounts(mountinfo).filter(|mount| is_wanted(mount, settings)).collect();
    // A device that is mounted several times is told once, where a person would look for it.
    mounts.sort_by(|a, b| (a.mount_point.len(), &a.mount_point).cmp(&(b.mount_point.len(), &b.mount_point)));
    let mut seen = HashSet::new();
    for mount in mounts {
        if !seen.insert((mount.device_number.clone(), mount.device.clone())) {
            continue;
        }
        let labels = [("mountpoint", mount.mount_point.as_str()), ("device", &mount.device), ("fstype", &mount.fs_type)];
        let path = settings.root_path.join(mount.mount_point.trim_start_matches('/'));
        let Ok(found) = rustix::fs::statvfs(&path) else {
            reading.add("node_filesystem_device_error", &labels, 1.0);
            continue;
        };
        reading.add("node_filesystem_device_error", &labels, 0.0);
        reading.add("node_filesystem_readonly", &labels, f64::from(u8::from(mount.is_read_only)));
        let block = found.f_frsize as f64;
        let (size, available) = (found.f_blocks as f64 * block, found.f_bavail as f64 * block);
        reading.add("node_filesystem_size_bytes", &labels, size);
        reading.add("node_filesystem_free_bytes", &labels, found.f_bfree as f64 * block);
        reading.add("node_filesystem_avail_bytes", &labels, available);
        reading.add("node_filesystem_files", &labels, found.f_files as f64);
        reading.add("node_filesystem_files_free", &labels, found.f_ffree as f64);
        reading.add("disk_total_bytes", &labels, size);
        reading.add("disk_available_bytes", &labels, available);
        reading.add("disk_free_gb", &[("mount_point", &mount.mount_point)], available / f64::from(1 << 30));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read_with(fill: impl Fn(&mut Reading)) -> Reading {
        let mut reading = Reading::new(&BTreeMap::new(), 10_000);
        fill(&mut reading);
        reading
    }

    #[test]
    fn memory_is_named_as_exporters_and_rules_name_it() {
        let text = "MemTotal: 1000 kB\nMemAvailable: 250 kB\nActive(anon): 3 kB\nHugePages_Free: 7\n";
        let reading = read_with(|reading| memory(text, reading));
        for (metric, value) in [
            ("node_memory_MemTotal_bytes", 1_024_000.0),
            ("node_memory_Active_anon_bytes", 3_072.0),
            ("node_memory_HugePages_Free", 7.0),
            ("memory_total_bytes", 1_024_000.0),
            ("memory_available_bytes", 256_000.0),
            ("memory_percent", 75.0),
        ] {
            assert_eq!(reading.get(metric, &[]), Some(value), "{metric}");
        }
    }

    #[test]
    fn disks_but_not_their_partitions() {
        for (device, is_disk) in [
            ("sda", true),
            ("sda1", false),
            ("nvme0n1", true),
            ("nvme0n1p2", false),
            ("vda", true),
            ("dm-0", true),
            ("md127", true),
            ("loop3", false),
            ("xvdb2", false),
            ("mmcblk0", true),
            ("mmcblk0p1", false),
        ] {
            assert_eq!(is_whole_disk(device), is_disk, "{device}");
        }
        let reading = read_with(|reading| disks("   8       0 sda 10 1 4 2000 20 2 6 500 1 900 1100 0 0\nx\n", reading));
        assert_eq!(reading.get("node_disk_read_bytes_total", &[("device", "sda")]), Some(2_048.0));
        assert_eq!(reading.get("node_disk_read_time_seconds_total", &[("device", "sda")]), Some(2.0));
        assert_eq!(reading.get("node_disk_io_time_seconds_total", &[("device", "sda")]), Some(0.9));
    }

    #[test]
    fn networks_and_sockets() {
        let text = "Inter-|   Receive\n face |bytes\n  eth0: 100 2 3 4 0 0 0 0 500 6 7 8 0 0 0 0\n";
        let reading = read_with(|reading| {
            networks(text, reading);
            sockets("sockets: used 1\nTCP: inuse 5 orphan 0 tw 33 alloc 7 mem 1\n", reading);
            events("nr_free 1\noom_kill 4\n", reading);
        });
        assert_eq!(reading.get("node_network_transmit_errs_total", &[("device", "eth0")]), Some(7.0));
        assert_eq!(reading.get("node_sockstat_TCP_tw", &[]), Some(33.0));
        assert_eq!(reading.get("node_vmstat_oom_kill", &[]), Some(4.0));
    }

    #[test]
    fn only_real_file_systems_and_each_once() {
        let info = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:1 /etc/hosts /etc rw - ext4 /dev/sda1 rw\n\
                    3 1 0:5 / /proc rw - proc proc rw\n4 1 0:6 / /dev/shm rw - tmpfs tmpfs rw\n5 1 0:7 / /mnt rw - nfs4 server:/x rw\n";
        let reading = read_with(|reading| file_systems(info, &HostSettings::default(), reading));
        let sizes = reading.samples().iter().filter(|(series, _)| series.metric_name() == "node_filesystem_size_bytes").count();
        assert_eq!(sizes, 1);
        assert!(reading.get("disk_total_bytes", &[("mountpoint", "/"), ("fstype", "ext4")]).unwrap() > 0.0);
    }
}
