use crate::stage::Stage;

/// The published expressions give values of this very machine.
#[tokio::test]
async fn this_machine_is_measured_under_all_its_names() {
    let stage = Stage::new("host = true");
    let look = stage.look().await;
    assert_eq!(look.target.last_error, "");
    assert_eq!(stage.value("up{job=\"node\"}"), 1.0);
    for (expression, range) in [
        ("1 - (memory_available_bytes / memory_total_bytes)", 0.0..=1.0),
        ("memory_percent", 0.0..=100.0),
        ("node_memory_MemTotal_bytes / memory_total_bytes", 1.0..=1.0),
        ("max(1 - (disk_available_bytes / disk_total_bytes))", 0.0..=1.0),
        ("max((node_filesystem_size_bytes - node_filesystem_free_bytes) / node_filesystem_size_bytes)", 0.0..=1.0),
        ("count(disk_free_gb{mount_point=\"/\"})", 1.0..=1.0),
        ("sum(cpu_idle_seconds_total) - sum(node_cpu_seconds_total{mode=\"idle\"})", 0.0..=0.0),
        ("node_time_seconds - node_boot_time_seconds", 1.0..=1e10),
        ("node_load1", 0.0..=1e6),
        ("sum(node_network_receive_bytes_total)", 0.0..=1e18),
        ("node_filefd_maximum", 1.0..=1e20),
    ] {
        let value = stage.value(expression);
        assert!(range.contains(&value), "{expression} is {value}");
    }
    assert!(stage.values("node_filesystem_size_bytes{fstype=~\"proc|tmpfs|sysfs|cgroup.*\"}").is_empty());
    let twice = stage.look().await;
    println!("a look at the host: {} samples in {:.1} ms", twice.target.last_samples, twice.target.last_duration_s * 1e3);
    assert!(twice.target.last_samples.abs_diff(look.target.last_samples) < 20, "a second look gives about as much");
}

/// A machine whose files are damaged or absent fails with the file's name, and gives what could be read.
#[tokio::test]
async fn absent_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(&format!("host = true\nhost_options = {{ proc_path = {:?}, instance = \"x\" }}", folder.path()));
    let target = stage.target().await;
    assert!(target.last_error.contains("/stat"), "{}", target.last_error);
    assert_eq!(stage.value("up{instance=\"x\"}"), 0.0);
    std::fs::write(folder.path().join("stat"), "cpu0 1 2 3 400 5 6 7 8\nbtime 5\n").unwrap();
    std::fs::write(folder.path().join("meminfo"), "MemTotal: 100 kB\nMemAvailable: 5 kB\nbroken\n").unwrap();
    assert_eq!(stage.target().await.last_error, "");
    assert_eq!(stage.value("memory_percent{instance=\"x\"}"), 95.0);
    assert_eq!(stage.value("cpu_idle_seconds_total"), 4.0);
}
