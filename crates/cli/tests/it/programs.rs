//! Programs of others on loopback, each in a folder of its own; they end with the test.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::fixture::{Home, until};
use crate::http;

const READY_WITHIN: Duration = Duration::from_secs(30);

/// The first of these programs that is not installed.
pub fn missing(names: &[&'static str]) -> Option<&'static str> {
    let installed =
        |name: &str| std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()));
    names.iter().copied().find(|name| !installed(name))
}

/// Ends the test in peace where a program is not installed.
#[macro_export]
macro_rules! needs {
    ($($name:literal),+) => {
        if let Some(name) = $crate::programs::missing(&[$($name),+]) {
            $crate::skip!("{name} is not installed")
        }
    };
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Now, in milliseconds.
pub fn now_ms() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "other programs refuse samples that are not of today")]
    let now = SystemTime::now();
    i64::try_from(now.duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A text as a part of a URL.
pub fn encoded(text: &str) -> String {
    text.bytes().map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Prometheus,
    Victoria,
}

impl Kind {
    fn command(self, folder: &Path, address: &str) -> Command {
        match self {
            Self::Prometheus => {
                let mut command = Command::new("prometheus");
                command.arg(format!("--config.file={}", folder.join("prometheus.yml").display()));
                command.arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()));
                command.arg(format!("--web.listen-address={address}")).arg("--web.enable-remote-write-receiver");
                command.args(["--web.console.templates=/nonexistent", "--web.console.libraries=/nonexistent"]);
                command
            }
            Self::Victoria => {
                let mut command = Command::new("victoria-metrics");
                command.arg(format!("-storageDataPath={}", folder.join("data").display())).arg(format!("-httpListenAddr={address}"));
                command.args(["-retentionPeriod=1d", "-search.latencyOffset=0s", "-search.disableCache", "-memory.allowedBytes=64MB"]);
                command
            }
        }
    }

    const fn ready(self) -> &'static str {
        match self {
            Self::Prometheus => "/-/ready",
            Self::Victoria => "/health",
        }
    }
}

/// A Prometheus or a VictoriaMetrics.
pub struct Program {
    kind: Kind,
    folder: PathBuf,
    pub address: String,
    child: Option<Child>,
}

impl Program {
    /// Starts it and waits until it is ready. `config` is Prometheus's.
    pub fn start(home: &Home, kind: Kind, config: &str) -> Self {
        let folder = home.path().join("theirs");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("prometheus.yml"), config).unwrap();
        let mut program = Self { kind, folder, address: format!("127.0.0.1:{}", free_port()), child: None };
        program.start_again();
        program
    }

    /// On the same port, with the data of before.
    pub fn start_again(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let mut command = self.kind.command(&self.folder, &self.address);
        self.child = Some(command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        let ready = until(READY_WITHIN, || http::get(&self.address, self.kind.ready()).ok().filter(|answer| answer.status == 200));
        assert!(ready.is_some(), "it is not ready: {}", self.log());
    }

    /// Asks it to end, and waits: a VictoriaMetrics that is killed loses what it had taken in its last seconds.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let asked = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        if asked.is_ok() && until(Duration::from_secs(10), || child.try_wait().ok().flatten()).is_some() {
            return;
        }
        drop(child.kill());
        drop(child.wait());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    #[track_caller]
    pub fn query(&self, expression: &str) -> Value {
        query(&self.address, expression)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Asks whoever speaks Prometheus's language; gives `data.result`.
#[track_caller]
pub fn query(address: &str, expression: &str) -> Value {
    let answer = http::get(address, &format!("/api/v1/query?query={}", encoded(expression))).unwrap();
    assert_eq!(answer.status, 200, "{expression}: {}", answer.text());
    answer.json()["data"]["result"].clone()
}

/// The number of an expression that gives one; `None` while it gives none.
#[track_caller]
pub fn number(address: &str, expression: &str) -> Option<f64> {
    query(address, expression)[0]["value"][1].as_str()?.parse().ok()
}

/// Samples of a series as a sender writes them.
#[derive(Clone, prost::Message)]
pub struct Series {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, prost::Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, prost::Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    time: i64,
}

#[derive(Clone, prost::Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    series: Vec<Series>,
}

/// A value that says that the series has ended.
pub fn stale() -> f64 {
    f64::from_bits(0x7ff0_0000_0000_0002)
}

impl Series {
    /// Labels without the name, `a=b,c=d`; samples as (milliseconds, value).
    pub fn new(name: &str, labels: &str, samples: &[(i64, f64)]) -> Self {
        let mut all = vec![Label { name: "__name__".to_owned(), value: name.to_owned() }];
        for pair in labels.split(',').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap();
            all.push(Label { name: name.to_owned(), value: value.to_owned() });
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Self { labels: all, samples: samples.iter().map(|(time, value)| Sample { value: *value, time: *time }).collect() }
    }
}

/// A request of remote write 1.0: Snappy's block format, with nothing but literals.
pub fn write_body(series: Vec<Series>) -> Vec<u8> {
    let plain = prost::Message::encode_to_vec(&WriteRequest { series });
    let mut body = Vec::with_capacity(plain.len() + 64);
    let mut left = plain.len();
    while left >= 0x80 {
        body.push(u8::try_from(left & 0x7f).unwrap() | 0x80);
        left >>= 7;
    }
    body.push(u8::try_from(left).unwrap());
    for chunk in plain.chunks(65_536) {
        body.push(61 << 2);
        body.extend_from_slice(&u16::try_from(chunk.len() - 1).unwrap().to_le_bytes());
        body.extend_from_slice(chunk);
    }
    body
}

/// Sends samples; whether they were taken.
pub fn try_write(address: &str, series: Vec<Series>) -> std::io::Result<http::Answer> {
    let headers =
        [("content-type", "application/x-protobuf"), ("content-encoding", "snappy"), ("x-prometheus-remote-write-version", "0.1.0")];
    http::request(address, "POST", "/api/v1/write", &headers, &write_body(series))
}

#[track_caller]
pub fn write(address: &str, series: Vec<Series>) {
    let answer = try_write(address, series).unwrap();
    assert!((200..300).contains(&answer.status), "{}: {}", answer.status, answer.text());
}
