use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::stage::{Guard, Stage, until};

fn sleeper() -> Guard {
    Guard(Command::new("sleep").arg("600").stdout(Stdio::null()).spawn().unwrap())
}

#[tokio::test]
async fn a_process_is_measured_dies_and_is_a_zombie() {
    let mut child = sleeper();
    let stage = Stage::new(&format!("process = [{{ name = \"worker\", pid = {} }}]", child.0.id()));
    assert_eq!(stage.target().await.last_error, "");
    assert!(stage.value("process_resident_memory_bytes{name=\"worker\"}") > 100_000.0);
    assert!(stage.value("process_open_fds / process_max_fds") < 0.8);
    assert!(stage.value("process_virtual_memory_bytes - on(name) process_memory_bytes{type=\"vms\"}") == 0.0);
    assert_eq!(stage.value("process_threads"), 1.0);
    let age = stage.value("time() - process_start_time_seconds");
    assert!((-2.0..60.0).contains(&age), "{age}");
    assert_eq!(stage.value("process_state{state=\"running\"}"), 1.0);
    // Its parent is this test, which does not collect it yet.
    child.0.kill().unwrap();
    until("a zombie", async || stage.target().await.last_error.contains("zombie")).await;
    assert_eq!(stage.value("up"), 0.0);
    assert_eq!(stage.value("process_state{state=\"zombie\"}"), 1.0);
    assert!(stage.values("process_resident_memory_bytes").is_empty(), "ended by a staleness marker");
    child.0.wait().unwrap();
    assert_eq!(stage.target().await.last_error, "no such process runs");
    assert_eq!(stage.value("process_state{state=\"absent\"}"), 1.0);
}

#[tokio::test]
async fn a_process_id_file_is_followed_over_restarts_and_not_believed_when_stale() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("daemon.pid");
    let stage = Stage::new(&format!("process = [{{ pid_file = {path:?}, job = \"memory-daemon\" }}]"));
    assert!(stage.target().await.last_error.contains("daemon.pid"));
    assert_eq!(stage.values("absent(up{job=\"memory-daemon\"} == 1)"), [1.0], "the published rule fires");
    let first = sleeper();
    fs::write(&path, format!("{}\n", first.0.id())).unwrap();
    assert_eq!(stage.target().await.last_error, "");
    assert!(stage.values("absent(up{job=\"memory-daemon\"} == 1)").is_empty(), "and is quiet");
    let started = stage.value("process_start_time_seconds{job=\"memory-daemon\"}");
    drop(first);
    assert_eq!(stage.target().await.last_error, "no such process runs");
    let second = sleeper();
    fs::write(&path, second.0.id().to_string()).unwrap();
    assert_eq!(stage.target().await.last_error, "");
    assert_eq!(stage.value("process_restarts_total"), 1.0);
    assert!(stage.value("process_start_time_seconds") >= started);
    // A file from before the process began means an earlier process of that id.
    let earlier = std::time::UNIX_EPOCH + Duration::from_secs(started as u64 - 3_600);
    fs::File::options().write(true).open(&path).unwrap().set_modified(earlier).unwrap();
    let stale = stage.target().await;
    assert!(stale.last_error.contains("is stale"), "{}", stale.last_error);
    assert_eq!(stage.value("up"), 0.0);
    fs::write(&path, "not a number").unwrap();
    assert!(stage.target().await.last_error.contains("holds no process id"));
}

#[tokio::test]
async fn processes_are_found_by_command_and_by_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("probed_worker.sh");
    fs::write(&script, "while true; do sleep 600; done\n").unwrap();
    let worker = || Guard(Command::new("sh").arg(&script).arg("--role=w").spawn().unwrap());
    let (first, second) = (worker(), worker());
    let stage = Stage::new("process = [{ argv = [\"probed_worker.sh\", \"--role=w\"], name = \"workers\" }]");
    let look = stage.look().await;
    assert_eq!(look.target.last_error, "");
    assert_eq!(stage.value("namedprocess_namegroup_num_procs{groupname=\"workers\"}"), 2.0);
    assert_eq!(stage.value("count(process_resident_memory_bytes{name=\"workers\"})"), 2.0);
    let pids: Vec<u32> = look
        .samples
        .iter()
        .filter(|(series, _)| series.metric_name() == "process_threads")
        .map(|(series, _)| series.get("pid").parse().unwrap())
        .collect();
    assert!(pids.contains(&first.0.id()) && pids.contains(&second.0.id()), "{pids:?}");
    drop(second);
    stage.look().await;
    assert_eq!(stage.value("namedprocess_namegroup_num_procs"), 1.0);
    assert_eq!(stage.value("count(process_resident_memory_bytes)"), 1.0);
    let by_command = Stage::new("process = [{ comm = \"no-such-command\" }]");
    assert_eq!(by_command.target().await.last_error, "no such process runs");
}

#[tokio::test]
async fn a_control_group_that_is_absent_was_never_seen() {
    let stage = Stage::new("process = [{ name = \"continuous-claude-postgres\", cgroup = \"no/such/group\" }]");
    assert!(stage.target().await.last_error.contains("no/such/group"));
    assert_eq!(stage.values("container_last_seen{container=\"continuous-claude-postgres\"} == 0"), [0.0], "the published rule fires");
}
