//! A gateway as a program of its own, and whoever follows it under the same data folder.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::fixture::{Home, PROGRAM, until};

const READY_WITHIN: Duration = Duration::from_secs(60);

pub struct Gate {
    pub home: Home,
    pub address: String,
    arguments: Vec<String>,
    first: Option<Child>,
}

impl Gate {
    /// Starts `paramedic gateway` with these settings.
    pub fn start(settings: &str, more: &[&str]) -> Self {
        let mut arguments = vec!["gateway".to_owned(), "--listen".to_owned()];
        arguments.push(format!("127.0.0.1:{}", crate::programs::free_port()));
        arguments.extend(more.iter().map(|&more| more.to_owned()));
        Self::with(arguments, settings)
    }

    /// Starts `paramedic gateway` that keeps nothing, so that nothing is waited for.
    pub fn alone(settings: &str) -> Self {
        let address = format!("127.0.0.1:{}", crate::programs::free_port());
        let home = Home::new();
        let arguments = ["gateway", "--listen", &address].map(str::to_owned).to_vec();
        let mut gate = Self { home, address: address.clone(), arguments, first: None };
        gate.arguments.extend(["--config".to_owned(), gate.home.path().join("paramedic.toml").display().to_string()]);
        gate.configure(settings);
        gate.spawn();
        until(READY_WITHIN, || TcpStream::connect(&address).ok()).unwrap_or_else(|| panic!("it is not ready: {}", gate.home.log()));
        gate
    }

    /// Starts `paramedic up` with these settings.
    pub fn up(settings: &str) -> Self {
        let gateway = format!("127.0.0.1:{}", crate::programs::free_port());
        let all = ["up", "--http", "127.0.0.1:0", "--otlp-grpc", "", "--otlp-http", "", "--gateway", &gateway];
        Self::with(all.map(str::to_owned).to_vec(), settings)
    }

    fn with(mut arguments: Vec<String>, settings: &str) -> Self {
        let home = Home::new();
        let config = home.path().join("paramedic.toml");
        arguments.extend(["--config".to_owned(), config.display().to_string()]);
        arguments.extend(["--data".to_owned(), home.data().display().to_string()]);
        arguments.extend(["--claude-dir".to_owned(), home.claude().display().to_string()]);
        let mut gate = Self { home, address: String::new(), arguments, first: None };
        gate.configure(settings);
        gate.start_again();
        gate
    }

    pub fn configure(&self, settings: &str) {
        fs::write(self.home.path().join("paramedic.toml"), settings).unwrap();
    }

    /// The program of this build, or the one that somebody measures.
    fn program() -> PathBuf {
        std::env::var_os("PARAMEDIC_SOAK_PROGRAM").map_or_else(|| PathBuf::from(PROGRAM), PathBuf::from)
    }

    fn spawn(&mut self) -> u32 {
        let log = fs::File::options().create(true).append(true).open(self.home.path().join("up.log")).unwrap();
        let mut command = Command::new(Self::program());
        command.args(&self.arguments).env_clear().env("HOME", self.home.path()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("PARAMEDIC_ACTOR", "dana@example.com").env("NO_COLOR", "1").stdin(Stdio::null());
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let pid = child.id();
        self.first = Some(child);
        pid
    }

    /// With the data and the address of before. Whoever was killed may hold the folder for a moment longer.
    pub fn start_again(&mut self) {
        let mut pid = self.spawn();
        let ports = until(READY_WITHIN, || {
            if self.first.as_mut().is_some_and(|first| first.try_wait().unwrap().is_some()) {
                pid = self.spawn();
            }
            self.ports().filter(|ports| ports["pid"] == pid)
        });
        let ports = ports.unwrap_or_else(|| panic!("it is not ready: {}", self.home.log()));
        self.address = ports["gateway"].as_str().unwrap().to_owned();
    }

    fn ports(&self) -> Option<Value> {
        serde_json::from_slice(&fs::read(self.home.data().join("ports.json")).ok()?).ok()
    }

    pub fn pid(&self) -> u32 {
        let ports = until(READY_WITHIN, || self.ports()).unwrap_or_else(|| panic!("nobody is there: {}", self.home.log()));
        u32::try_from(ports["pid"].as_u64().unwrap()).unwrap()
    }

    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// The process that was started first, without those that follow it.
    pub fn first(&self) -> u32 {
        self.first.as_ref().unwrap().id()
    }

    /// Lets a successor take over, and waits until it has.
    pub fn hand_over(&mut self) {
        let before = self.pid();
        self.signal("USR2");
        let after = until(READY_WITHIN, || self.ports().filter(|ports| ports["pid"] != before));
        assert!(after.is_some(), "nobody took over: {}", self.home.log());
        until(READY_WITHIN, || (!self.is_alive(before)).then_some(())).expect("the one before ends");
    }

    pub fn is_alive(&mut self, pid: u32) -> bool {
        if let Some(first) = self.first.as_mut().filter(|first| first.id() == pid) {
            return first.try_wait().unwrap().is_none();
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }

    /// Takes it away at once, as the kernel does when memory runs out.
    pub fn kill(&mut self) {
        let pid = self.pid();
        self.signal("KILL");
        until(READY_WITHIN, || (!self.is_alive(pid)).then_some(())).expect("it is gone");
        drop(fs::remove_file(self.home.data().join("ports.json")));
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(&mut self) {
        let pid = self.pid();
        self.signal("TERM");
        until(READY_WITHIN, || (!self.is_alive(pid)).then_some(())).expect("it stops");
    }

    /// What it counts, by its local socket.
    pub fn metrics(&self) -> String {
        let mut socket = UnixStream::connect(self.home.data().join("paramedic.sock")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        text
    }

    /// The sum of a metric over all its labels.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        self.metric_if_any(name).unwrap_or_else(|| panic!("no {name} among what is counted"))
    }

    /// The same; a metric with labels is not there before something was counted.
    pub fn metric_if_any(&self, name: &str) -> Option<f64> {
        let text = self.metrics();
        let of = |line: &str| -> Option<f64> {
            let rest = line.strip_prefix(name)?;
            let value = if rest.starts_with('{') { rest.rsplit_once("} ")?.1 } else { rest.strip_prefix(' ')? };
            value.split(' ').next()?.trim().parse().ok()
        };
        text.lines().filter_map(of).reduce(|sum, value| sum + value)
    }

    /// Kilobytes that are resident, and descriptors that are open.
    pub fn holds(&self) -> (u64, usize) {
        let pid = self.pid();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok()).unwrap();
        (rss, fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count())
    }

    /// What the log says of all calls that are over, and how many are still open in it.
    pub fn spent(&self) -> Spent {
        Spent::read(&fs::read_to_string(self.home.data().join("gateway/spend.log")).unwrap())
    }
}

pub fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
}

impl Drop for Gate {
    fn drop(&mut self) {
        let folder = self.home.path().display().to_string();
        // Successors are nobody's children; they are known by the folder that only they work on.
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains(&folder) {
                drop(Command::new("kill").args(["-KILL", &pid.to_string()]).status());
            }
        }
        if let Some(mut first) = self.first.take() {
            drop(first.wait());
        }
    }
}

/// What `spend.log` says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Spent {
    pub calls: u64,
    pub picodollars: u64,
    pub output_tokens: u64,
    pub open: usize,
}

impl Spent {
    fn read(log: &str) -> Self {
        let (mut spent, mut all, mut open) = (Self::default(), None, std::collections::HashSet::new());
        for line in log.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let number = |place: usize| fields[place].parse::<u64>().unwrap();
            match fields.get(1).copied() {
                Some("P") if fields[3] == "all" => all = Some(fields[2]),
                // What was before the log was written anew.
                Some("H") if Some(fields[2]) == all => {
                    spent.picodollars += number(4);
                    spent.calls += number(5);
                    spent.output_tokens += number(7);
                }
                Some("R") => _ = open.insert(fields[2].to_owned()),
                Some("X") => _ = open.remove(fields[2]),
                Some("S") => {
                    open.remove(fields[2]);
                    spent.picodollars += number(4);
                    spent.calls += 1;
                    spent.output_tokens += number(6);
                }
                _ => {}
            }
        }
        spent.open = open.len();
        spent
    }
}
