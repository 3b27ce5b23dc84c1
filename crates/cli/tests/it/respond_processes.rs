//! Processes that die, loop or eat memory: found, answered and well again, with real services, pid files and start times.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::fixture::{Home, until};
use crate::programs::free_port;
use crate::respond_case::{Case, Grouped, lives, pack_rule, script, shortened};
use crate::respond_scene::{WITHIN, told};
use crate::{http, needs, skip, tools};

/// A daemon as many are: it keeps a pid file, refuses to start while there is one, and tells its health.
const DAEMON: &str = r#"
const fs = require('fs'), http = require('http');
const [file, port] = process.argv.slice(2);
if (fs.existsSync(file)) { console.error(`Daemon already running: pid file exists (${file})`); process.exit(1); }
fs.writeFileSync(file, `${process.pid}\n`);
process.on('SIGTERM', () => { fs.unlinkSync(file); process.exit(0); });
http.createServer((request, answer) => answer.end('{"status":"ok"}')).listen(port, '127.0.0.1');
"#;

/// A service manager that speaks systemd's language about one unit, which it really starts and ends.
const SYSTEMCTL: &str = r#"#!/bin/bash
here="$(dirname "$0")"; echo "$@" >> "$here/asked"
words=(); for word in "$@"; do [[ "$word" == -* ]] || words+=("$word"); done
verb="${words[0]}"; unit="${words[1]%.service}.service"
pid="$(cat "$here/main.pid" 2>/dev/null)"
up() { [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null && ! grep -q '^State:.Z' "/proc/$pid/status"; }
end() { up && kill -TERM "$pid"; for _ in 1 2 3 4 5 6 7 8 9 10; do up || return; sleep 0.1; done; }
begin() { setsid -f "$here/start" "$here" >/dev/null 2>&1 </dev/null; sleep 0.7; pid="$(cat "$here/main.pid")"; echo "$RANDOM$RANDOM" > "$here/invocation"; up; }
case "$verb" in
  show) if up; then state=active; sub=running; else state=failed; sub=failed; pid=0; fi
    printf 'Id=%s\nLoadState=loaded\nActiveState=%s\nSubState=%s\nType=simple\nMainPID=%s\nNRestarts=0\nInvocationID=%s\nResult=signal\n' \
      "$unit" "$state" "$sub" "$pid" "$(cat "$here/invocation" 2>/dev/null)";;
  stop) end;;
  start|restart) end; begin || { echo "Job for $unit failed." >&2; exit 1; };;
esac
"#;

/// A unit of the service manager above; what it started ends with the test.
struct Unit {
    folder: PathBuf,
    /// Of its own: it must still be there when the unit is ended.
    _holds: tempfile::TempDir,
}

impl Unit {
    fn new(command: &str) -> Self {
        let holds = tempfile::tempdir().unwrap();
        let folder = holds.path().to_owned();
        script(&folder, "systemctl", SYSTEMCTL);
        script(&folder, "start", &format!("#!/bin/sh\necho $$ > \"$1/main.pid\"\nexec {command} >> \"$1/log\" 2>&1\n"));
        Self { folder, _holds: holds }
    }

    fn systemctl(&self) -> PathBuf {
        self.folder.join("systemctl")
    }

    fn pid(&self) -> Option<u32> {
        fs::read_to_string(self.folder.join("main.pid")).ok()?.trim().parse().ok()
    }

    fn start(&self) {
        let status = Command::new(self.systemctl()).args(["start", "--", "it"]).stdin(Stdio::null()).status().unwrap();
        assert!(status.success(), "{}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        if let Some(pid) = self.pid().filter(|pid| lives(*pid)) {
            kill(pid);
        }
    }
}

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
}

fn is_healthy(port: u16) -> bool {
    http::get(&format!("127.0.0.1:{port}"), "/health").is_ok_and(|answer| answer.status == 200)
}

#[test]
fn respond_a_daemon_that_was_killed_comes_back_after_its_stale_pid_file_is_removed() {
    needs!("node", "bash", "setsid");
    let home = Home::new();
    let (port, pid_file) = (free_port(), home.path().join("memory-daemon.pid"));
    fs::write(home.path().join("daemon.js"), DAEMON).unwrap();
    let unit = Unit::new(&format!("node {}/daemon.js {} {port}", home.path().display(), pid_file.display()));
    unit.start();
    until(WITHIN, || is_healthy(port).then_some(())).unwrap_or_else(|| panic!("{}", unit.log()));
    let first = unit.pid().unwrap();

    let labels = [
        ("pid_file", pid_file.display().to_string()),
        ("log_file", unit.folder.join("log").display().to_string()),
        ("health_url", format!("http://127.0.0.1:{port}/health")),
    ];
    let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let rule = pack_rule("DaemonNotRunning", "1s", "10s", &[], &labels);
    let settings = format!(
        "[probe]\nhost = false\ninterval_s = 1\nprocess = [{{ pid_file = {pid_file:?}, name = \"memory-daemon\", job = \"memory-daemon\" }}]\n\
         [action.service]\nsystemctl = {:?}\nsettle_s = 1\n",
        unit.systemctl()
    );
    let case = Case::up(home, &[shortened("daemon-crash", "10s")], &[rule], &settings);
    let up = || crate::programs::number(&case.instance.http(), "up{job=\"memory-daemon\"}");
    until(WITHIN, || (up() == Some(1.0)).then_some(())).unwrap_or_else(|| panic!("{}", case.home.log()));
    kill(first);

    let run = case.run_began("daemon-crash");
    assert!(case.likeliest(&run, "stale") >= 0.9);
    let found = case.step(&run, "found");
    assert!(found["last"]["shown"].to_string().contains("stale"), "{found:#}");
    // Started as it is, it ends again at once: the file stands in its way.
    assert!(
        !Command::new(unit.systemctl()).args(["start", "--", "it"]).status().unwrap().success() && unit.log().contains("already running")
    );
    case.approve("ana", &run, "remove_pid_file");
    case.step_becomes(&run, "remove_pid_file", &["verified"]);
    assert!(!pid_file.exists() && !is_healthy(port));
    case.approve("ben", &run, "start_again");
    until(WITHIN, || is_healthy(port).then_some(())).unwrap_or_else(|| panic!("{}\n{}", unit.log(), told(&case.run(&run))));
    let second: u32 = fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    assert!(second != first && lives(second));
    case.done(&run);
    case.incident_over(&run);
    case.recorded(&run, "remove_pid_file", "ana");
    case.recorded(&run, "start_again", "ben");
    assert_eq!(up(), Some(1.0));
}

/// pm2 with a home of its own; its daemon and all that it keeps end with the test.
struct Pm2 {
    program: PathBuf,
    home: PathBuf,
    /// Of its own: it must still be there when the daemon is ended.
    _holds: tempfile::TempDir,
}

impl Pm2 {
    /// `PARAMEDIC_PM2`, what the tests' tools brought, or the one in PATH.
    fn find() -> Option<Self> {
        let in_path = || std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join("pm2")).find(|file| file.is_file());
        let tools = ["test-tools/npm/node_modules/.bin/pm2", "test-tools/pm2/node_modules/.bin/pm2"].map(|file| tools::target().join(file));
        let named = std::env::var_os("PARAMEDIC_PM2").map(PathBuf::from);
        let program = named.into_iter().chain(tools).find(|file| file.is_file()).or_else(in_path)?;
        let holds = tempfile::tempdir().unwrap();
        Some(Self { program, home: holds.path().join("pm2"), _holds: holds })
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("PM2_HOME", &self.home).env("PM2_DISCRETE_MODE", "true").env("PM2_DISABLE_VERSION_CHECK", "true");
        command.stdin(Stdio::null()).output().unwrap()
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "pm2 {arguments:?}: {said}");
        said
    }
}

impl Drop for Pm2 {
    fn drop(&mut self) {
        drop(self.run(&["kill"]));
    }
}

/// Ends with the reason when what it needs is not there, as plugins do; lives as long as it is.
const PLUGIN: &str = r#"#!/usr/bin/env node
const fs = require('fs'), net = require('net'), path = require('path');
fs.writeFileSync(path.join(__dirname, 'plugin.pid'), `${process.pid}\n`);
const socket = net.connect(PORT, '127.0.0.1');
socket.on('error', error => {
  fs.appendFileSync(path.join(__dirname, 'plugin.log'), `[${new Date().toISOString()}] [ERROR] [agent:search-plugin] ${error.message}\n`);
  setTimeout(() => process.exit(1), 900);
});
socket.on('close', hadError => hadError || process.exit(1));
setInterval(() => socket.write('PING\r\n'), 200);
"#;

fn pings(port: u16) -> bool {
    let output = Command::new("redis-cli").args(["-p", &port.to_string(), "ping"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).contains("PONG")
}

#[test]
fn respond_a_plugin_that_loops_comes_up_when_what_it_needs_is_started() {
    needs!("node", "redis-server", "redis-cli", "curl");
    let home = Home::new();
    let Some(pm2) = Pm2::find() else { skip!("pm2 is not installed (npm install pm2, then PARAMEDIC_PM2=node_modules/.bin/pm2)") };
    let port = free_port();
    let folder = home.path().join("plugin");
    fs::create_dir_all(&folder).unwrap();
    let plugin = script(&folder, "plugin.js", &PLUGIN.replace("PORT", &port.to_string()));
    let redis = script(
        &folder,
        "redis.sh",
        &format!("#!/bin/sh\nexec redis-server --port {port} --bind 127.0.0.1 --save '' --dir {}\n", folder.display()),
    );
    pm2.done(&["start", redis.to_str().unwrap(), "--name", "cache", "--interpreter", "none"]);
    until(WITHIN, || pings(port).then_some(())).expect("redis answers");
    let keep = ["--interpreter", "none", "--restart-delay", "400", "--max-restarts", "1000"];
    pm2.done(&[&["start", plugin.to_str().unwrap(), "--name", "search-plugin"][..], &keep].concat());

    let (log, pid_file) = (folder.join("plugin.log"), folder.join("plugin.pid"));
    let port_text = port.to_string();
    let labels = [("manager", "pm2"), ("unit", "search-plugin"), ("dependency_unit", "cache"), ("dependency_port", port_text.as_str())];
    let rule = pack_rule("ProcessCrashLoop", "1s", "10s", &[], &labels);
    let settings = format!(
        "[probe]\nhost = false\ninterval_s = 1\nprocess = [{{ pid_file = {pid_file:?}, name = \"search-plugin\" }}]\n\
         [logs]\nfiles = [{log:?}]\nflush_ms = 200\n[action.service]\npm2 = {:?}\npm2_home = {:?}\nsettle_s = 1\n",
        pm2.program, pm2.home
    );
    let book = shortened("plugin-crash-loop", "10s");
    let case = Case::up(home, &[book], &[rule], &settings);
    let up = || crate::programs::number(&case.instance.http(), "process_state{name=\"search-plugin\",state=\"running\"}");
    until(WITHIN, || (up() == Some(1.0)).then_some(())).expect("the plugin is seen");
    pm2.done(&["stop", "cache"]);

    let run = case.run_began("plugin-crash-loop");
    assert!(case.likeliest(&run, "dependency") >= 0.9);
    assert!(fs::read_to_string(&log).unwrap().contains(&format!("ECONNREFUSED 127.0.0.1:{port}")));
    let said = case.step(&run, "dependency");
    assert!(said["last"]["shown"].to_string().contains("refused"), "{said:#}");
    assert!(!pings(port));
    let shown = case.approve("ana", &run, "start_dependency");
    assert!(shown["argv"].to_string().contains("cache"), "{shown:#}");
    until(WITHIN, || pings(port).then_some(())).unwrap_or_else(|| panic!("{}", told(&case.run(&run))));
    case.step_becomes(&run, "start_dependency", &["verified"]);
    let pid: u32 = fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    case.done(&run);
    case.incident_over(&run);
    case.recorded(&run, "start_dependency", "ana");
    let now: u32 = fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    assert!(now == pid && lives(pid), "the plugin stayed up");
}

/// Takes memory in steps up to a bound, and keeps it.
const HOG: &str = "const held = []; setInterval(() => { if (held.length < 25) held.push(Buffer.alloc(10e6, 1)); }, 500);";

const MACHINE_KIB: u64 = 320_000;

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// What a small machine with nothing but this process would say of its memory: the rest is this machine's own.
struct SmallMachine {
    proc: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl SmallMachine {
    fn around(home: &Home, pid: u32) -> Self {
        let proc = home.path().join("proc");
        fs::create_dir_all(&proc).unwrap();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let name = entry.file_name();
            let is_number = name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
            if !is_number && name != "meminfo" {
                drop(std::os::unix::fs::symlink(entry.path(), proc.join(name)));
            }
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, file) = (stop.clone(), proc.clone());
        Self::tell(&file, pid);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                Self::tell(&file, pid);
                thread::sleep(Duration::from_millis(200));
            }
        });
        Self { proc, stop, thread: Some(thread) }
    }

    fn tell(proc: &Path, pid: u32) {
        let free = MACHINE_KIB.saturating_sub(resident_kib(pid) + 20_000);
        let text = format!("MemTotal: {MACHINE_KIB} kB\nMemFree: {free} kB\nMemAvailable: {free} kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n");
        let new = proc.join("meminfo.new");
        if fs::write(&new, text).is_ok() {
            drop(fs::rename(&new, proc.join("meminfo")));
        }
    }
}

impl Drop for SmallMachine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

#[test]
fn respond_memory_comes_back_when_the_process_that_holds_it_is_stopped() {
    needs!("node", "ps");
    let home = Home::new();
    let mut hog = Grouped::start(Command::new("node").args(["-e", HOG]));
    let other = Grouped::start(Command::new("sleep").arg("120"));
    let machine = SmallMachine::around(&home, hog.pid());
    let rule = pack_rule("MemoryUsageHigh", "1s", "3s", &[], &[]);
    let settings = format!(
        "[probe]\ninterval_s = 1\nprocess = [{{ pid = {}, name = \"hog\" }}, {{ pid = {}, name = \"other\" }}]\n\
         [probe.host_options]\nproc_path = {:?}\n",
        hog.pid(),
        other.pid(),
        machine.proc
    );
    let case = Case::up(home, &[shortened("memory-pressure", "3s").replace("grace: 30s", "grace: 2s")], &[rule], &settings);
    let run = case.run_began("memory-pressure");
    assert!(case.likeliest(&run, "leak") >= 0.9);
    let view = case.run(&run);
    assert!(view["missing"].to_string().contains("pid") && view["missing"].to_string().contains("started"), "{}", told(&view));
    let growth = case.step(&run, "growth");
    let hourly = growth["last"]["shown"].as_str().unwrap().lines().find(|line| line.contains("name=\"hog\"")).map(str::to_owned);
    let hourly: f64 = hourly.as_deref().and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{growth:#}"));
    assert!(hourly > 50e6, "{growth:#}");
    let largest = case.step(&run, "largest");
    let line = largest["last"]["shown"].as_str().unwrap().lines().find(|line| line.trim().starts_with(&format!("{} ", hog.pid())));
    let line = line.unwrap_or_else(|| panic!("{largest:#}")).to_owned();
    let started: Vec<&str> = line.split_whitespace().skip(1).take(5).collect();
    let started = started.join(" ");

    // The number alone is not enough: with another start it is another process, which is not touched.
    let pid = format!("pid={}", hog.pid());
    case.json_by("ana", &["run", &run, "inputs", "--set", &pid, "--set", "started=Mon Jan  1 00:00:00 2024"]);
    case.approve("ana", &run, "stop");
    let refused = case.step_becomes(&run, "stop", &["failed"]);
    assert!(refused.to_string().contains("start"), "{refused:#}");
    assert!(lives(hog.pid()));
    case.json_by("ana", &["run", &run, "inputs", "--set", &pid, "--set", &format!("started={started}")]);
    case.json_by("ana", &["run", &run, "again", "stop"]);
    let shown = case.approve("ana", &run, "stop");
    assert!(shown["argv"].to_string().contains(&hog.pid().to_string()), "{shown:#}");
    until(WITHIN, || hog.reap().then_some(())).unwrap_or_else(|| panic!("{}", told(&case.run(&run))));
    assert!(lives(other.pid()) && resident_kib(hog.pid()) == 0);
    case.done(&run);
    let used = crate::programs::number(&case.instance.http(), "max(1 - memory_available_bytes / memory_total_bytes)").unwrap();
    assert!(used < 0.2, "{used}");
    case.incident_over(&run);
    case.recorded(&run, "stop", "ana");
}
