//! What is looked at, how often, and with what patience.
//!
//! Each probe is one line: `host = true`, `postgres = [{ url_env = "DATABASE_URL" }]`, `http = [{ url = "https://…" }]`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

/// A URL or text that may hold a password; shown masked.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct Confidential(pub String);

impl fmt::Debug for Confidential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "\"***\"" })
    }
}

impl From<&str> for Confidential {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Settings of all probes. By default only this machine is looked at.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Measure this machine: memory, CPU, load, pressure, file systems, disks and networks. Default true.
    pub host: bool,
    /// Details of the host probe.
    pub host_options: HostSettings,
    /// Watch the memory daemon through its process id file `~/.claude/memory-daemon.pid`, as job `memory-daemon`. Default false.
    pub memory_daemon: bool,
    /// Processes to watch. Default none.
    pub process: Vec<ProcessSettings>,
    /// PostgreSQL servers to ask. Default none.
    pub postgres: Vec<PostgresSettings>,
    /// Redis servers to ask. Default none.
    pub redis: Vec<RedisSettings>,
    /// HTTP endpoints to request. Default none.
    pub http: Vec<HttpSettings>,
    /// TCP addresses to connect to. Default none.
    pub tcp: Vec<TcpSettings>,
    /// Names to resolve. Default none.
    pub dns: Vec<DnsSettings>,
    /// Model APIs whose reachability is checked without spending tokens. Default none.
    pub model_api: Vec<ModelApiSettings>,
    /// Seconds between two looks at a target that names no interval of its own. Default 15.
    pub interval_s: u64,
    /// Seconds after which a look is cut, for targets that name none; never longer than their interval. Default 5.
    pub timeout_s: u64,
    /// Looks under way at once; further ones wait. Default 16.
    pub concurrency_max: usize,
    /// Targets at most; more are refused when the settings are read. Default 1,000.
    pub targets_max: usize,
    /// Samples of one look that are kept; more are dropped and counted. Default 10,000.
    pub samples_per_look_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: true,
            host_options: HostSettings::default(),
            memory_daemon: false,
            process: Vec::new(),
            postgres: Vec::new(),
            redis: Vec::new(),
            http: Vec::new(),
            tcp: Vec::new(),
            dns: Vec::new(),
            model_api: Vec::new(),
            interval_s: 15,
            timeout_s: 5,
            concurrency_max: 16,
            targets_max: 1_000,
            samples_per_look_max: 10_000,
        }
    }
}

/// Who a target is and when it is looked at; the same for all kinds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Schedule {
    pub(crate) job: Option<String>,
    pub(crate) instance: Option<String>,
    pub(crate) interval_s: Option<u64>,
    pub(crate) timeout_s: Option<u64>,
    pub(crate) labels: BTreeMap<String, String>,
}

macro_rules! schedule_of {
    ($($settings:ty),+) => {$(
        impl $settings {
            pub(crate) fn schedule(&self) -> Schedule {
                Schedule {
                    job: self.job.clone(),
                    instance: self.instance.clone(),
                    interval_s: self.interval_s,
                    timeout_s: self.timeout_s,
                    labels: self.labels.clone(),
                }
            }
        }
    )+};
}

schedule_of!(HostSettings, ProcessSettings, PostgresSettings, RedisSettings, HttpSettings, TcpSettings, DnsSettings, ModelApiSettings);

/// How the host is measured.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostSettings {
    /// The `job` label. Default `node`.
    pub job: Option<String>,
    /// The `instance` label. Default the machine's name.
    pub instance: Option<String>,
    /// Seconds between two looks. Default `interval_s` of all probes.
    pub interval_s: Option<u64>,
    /// Seconds after which a look is cut. Default `timeout_s` of all probes.
    pub timeout_s: Option<u64>,
    /// Further labels of all samples. Default none.
    pub labels: BTreeMap<String, String>,
    /// Where the kernel's process file system is. Default `/proc`.
    pub proc_path: PathBuf,
    /// What mount points are seen under, when the host's root is mounted into a container. Default `/`.
    pub root_path: PathBuf,
    /// Measure file systems of the network too, whose servers may hang. Default false.
    pub network_file_systems: bool,
}

impl Default for HostSettings {
    fn default() -> Self {
        Self {
            job: None,
            instance: None,
            interval_s: None,
            timeout_s: None,
            labels: BTreeMap::new(),
            proc_path: PathBuf::from("/proc"),
            root_path: PathBuf::from("/"),
            network_file_systems: false,
        }
    }
}

/// A process, or all processes of a name or a control group. Exactly one of `pid`, `pid_file`, `comm`, `argv`, `cgroup`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessSettings {
    /// What it is called: the `name` and `groupname` labels. Default what it is found by.
    pub name: Option<String>,
    /// Its process id.
    pub pid: Option<u32>,
    /// A file that holds its process id; `~/` is the home directory.
    pub pid_file: Option<PathBuf>,
    /// Its command name, exactly (at most 15 bytes, as the kernel keeps it) or the file name of its program.
    pub comm: Option<String>,
    /// Words that must all be among its arguments, each exactly or as the last part of a path.
    pub argv: Option<Vec<String>>,
    /// The folder of its control group under `/sys/fs/cgroup`.
    pub cgroup: Option<PathBuf>,
    /// Where the kernel's process file system is. Default `/proc`.
    pub proc_path: Option<PathBuf>,
    /// The `job` label. Default `process`.
    pub job: Option<String>,
    /// The `instance` label. Default the process's name.
    pub instance: Option<String>,
    /// Seconds between two looks. Default `interval_s` of all probes.
    pub interval_s: Option<u64>,
    /// Seconds after which a look is cut. Default `timeout_s` of all probes.
    pub timeout_s: Option<u64>,
    /// Further labels of all samples. Default none.
    pub labels: BTreeMap<String, String>,
}

/// A PostgreSQL server, asked over one connection that is kept.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostgresSettings {
    /// `postgres://user@host/database` or `host=/run/postgresql user=…`; may hold a password, which is never shown.
    pub url: Confidential,
    /// The environment variable that holds the URL; instead of `url`.
    pub url_env: Option<String>,
    /// The environment variable that holds the password.
    pub password_env: Option<String>,
    /// A file of PEM certificates that the server's must descend from. Without, an encrypted connection is not verified,
    /// as with libpq's `sslmode=require`.
    pub ca_file: Option<PathBuf>,
    /// Milliseconds after which the server ends a statement of ours. Default 2,000.
    pub statement_timeout_ms: u64,
    /// Statements of `pg_stat_statements` to show, by total time; 0 for none. Default 20.
    pub statements_top: u32,
    /// Relations to show, by size; 0 for none. Default 20.
    pub relations_top: u32,
    /// Seconds between two measurements of sizes of databases and relations. Default 300.
    pub sizes_every_s: u64,
    /// Add the total of connections (labelled `server`, not `instance`) that rules comparing `pg_stat_activity_count` with
    /// `pg_max_connections` as they are need. Default true.
    pub connections_total: bool,
    /// The `application_name` of a pool to watch; without, all clients of the server are the pool.
    pub pool_application: Option<String>,
    /// The largest size of the watched pool. Default what the server allows to clients.
    pub pool_max: Option<u32>,
    /// The `job` label. Default `postgres`.
    pub job: Option<String>,
    /// The `instance` label. Default `host:port`.
    pub instance: Option<String>,
    /// Seconds between two looks. Default `interval_s` of all probes.
    pub interval_s: Option<u64>,
    /// Seconds after which a look is cut. Default `timeout_s` of all probes.
    pub timeout_s: Option<u64>,
    /// Further labels of all samples. Default none.
    pub labels: BTreeMap<String, String>,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            url: Confidential::default(),
            url_env: None,
            password_env: None,
            ca_file: None,
            statement_timeout_ms: 2_000,
            statements_top: 20,
            relations_top: 20,
            sizes_every_s: 300,
            connections_total: true,
            pool_application: None,
            pool_max: None,
            job: None,
            instance: None,
            interval_s: None,
            timeout_s: None,
            labels: BTreeMap::new(),
        }
    }
}

/// A Redis server, asked over one connection that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisSettings {
    /// `redis://[user:password@]host[:port][/db]`, `rediss://…` with TLS, or `redis+unix:///path`; the password is never shown.
    pub url: Confidential,
    /// The environment variable that holds the URL; instead of `url`.
    pub url_env: Option<String>,
    /// The environment variable that holds the password.
    pub password_env: Option<String>,
    /// A file of PEM certificates that the server's must descend from. Default the system's.
    pub ca_file: Option<PathBuf>,
    /// Accept any certificate. Default false.
    pub insecure: bool,
    /// Lists that are queues, by key or by pattern (`queue:*`): `agent_queue_depth`. Default none.
    pub queues: Vec<String>,
    /// Streams, or lists of events, by key or by pattern (`agent:*:events`): lengths and lag of consumer groups. Default none.
    pub streams: Vec<String>,
    /// Keys looked through for patterns in one look; the next look goes on from there. Default 10,000.
    pub scan_keys_max: usize,
    /// Keys shown per pattern. Default 200.
    pub keys_max: usize,
    /// The `job` label. Default `redis`.
    pub job: Option<String>,
    /// The `instance` label. Default `host:port`.
    pub instance: Option<String>,
    /// Seconds between two looks. Default `interval_s` of all probes.
    pub interval_s: Option<u64>,
    /// Seconds after which a look is cut. Default `timeout_s` of all probes.
    pub timeout_s: Option<u64>,
    /// Further labels of all samples. Default none.
    pub labels: BTreeMap<String, String>,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            url: Confidential::default(),
            url_env: None,
            password_env: None,
            ca_file: None,
            insecure: false,
            queues: Vec::new(),
            streams: Vec::new(),
            scan_keys_max: 10_000,
            keys_max: 200,
            job: None,
            instance: None,
            interval_s: None,
            timeout_s: None,
            labels: BTreeMap::new(),
        }
    }
}

/// An HTTP endpoint and what is expected of its answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// `http://…` or `https://…`, without user and password.
    pub url: String,
    /// The request's method. Default `GET`.
    pub method: String,
    /// Headers of the request. Default none.
    pub headers: BTreeMap<String, Confidential>,
    /// The environment variable that holds a bearer token.
    pub bearer_env: Option<String>,
    /// The request's body. Default none.
    pub body: Option<Confidential>,
    /// Statuses that are right; classes are written `2xx`. Default 200 to 299.
    pub expect_status: Vec<StatusPattern>,
    /// A regular expression that the body must match.
    pub expect_body: Option<String>,
    /// A regular expression that the body must not match.
    pub refuse_body: Option<String>,
    /// Bytes of the body that are read and matched. Default 1 MiB.
    pub body_bytes_max: usize,
    /// Redirects that are followed; headers of these settings are not sent to another host. Default 5.
    pub redirects_max: u32,
    /// A file of PEM certificates that the server's must descend from. Default the system's.
    pub ca_file: Option<PathBuf>,
    /// Accept any certificate; its expiry is measured all the same. Default false.
    pub insecure: bool,
    /// The `job` label. Default `http`.
    pub job: Option<String>,
    /// The `instance` label. Default the URL without its query.
    pub instance: Option<String>,
    /// Seconds between two looks. Default `interval_s` of all probes.
    pub interval_s: Option<u64>,
    /// Seconds after which a look is cut. Default `timeout_s` of all probes.
    pub timeout_s: Option<u64>,
    /// Further labels of all samples. Default none.
    pub labels: BTreeMap<String, String>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            method: "GET".to_owned(),
            headers: BTreeMap::new(),
            bearer_env: None,
            body: None,
            expect_status: Vec::new(),
            expect_body: None,
            refuse_body: None,
            body_bytes_max: 1024 * 1024,
            redirects_max: 5,
            ca_file: None,
            insecure: false,
            job: None,
            instance: None,
            interval_s: None,
            timeout_s: None,
            labels: BTreeMap::new(),
        }
    }
}

/// One status (`404`) or a class of them (`"4xx"`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum StatusPattern {
    Code(u16),
    Class(String),
}

impl StatusPattern {
    /// Whether it can match a status at all.
    pub(crate) fn is_valid(&self) -> bool {
        match self {
            Self::Code(code) => (100..=999).contains(code),
            Self::Class(class) => {
                matches!(class.as_bytes(), [b'1'..=b'9', b'x', b'x']) || class.parse().is_ok_and(|code: u16| (100..=999).contains(&code))
            }
        }
    }

    pub(crate) fn matches(&self, status: u16) -> bool {
        match self {
            Self::Code(code) => *code == status,
            Self::Class(class) => match class.strip_suffix("xx") {
                Some(hundreds) => hundreds.parse() == Ok(status / 100),
                None => class.parse() == Ok(status),
            },
        }
    }
}

/// An address that must accept connections.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TcpSettings {
    /// `host:port`.
    pub address: String,
    /// Greet with TLS and measure when the certificate expires. Default false.
    pub tls: bool,
    /// A file of PEM certificates that the server's must descend from. Default the system's.
    pub ca_file: Option<PathBuf>,
    /// Accept any certificate. Default false.
    pub insecure: bool,
    /// The `job` label. Default `tcp`.
    pub job: Option<String>,
    /// The `instance` label. Default the address.
    pub instance: Option<String>,
    /// Seconds between two looks. Default `interval_s` of all probes.
    pub interval_s: Option<u64>,
    /// Seconds after which a look is cut. Default `timeout_s` of all probes.
    pub timeout_s: Option<u64>,
    /// Further labels of all samples. Default none.
    pub labels: BTreeMap<String, String>,
}

/// A name that must resolve.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DnsSettings {
    /// The name.
    pub name: String,
    /// The server to ask, `address[:port]`, over UDP. Default the system's resolver.
    pub server: Option<String>,
    /// What is asked for: `A`, `AAAA`, `CNAME`, `MX`, `NS`, `SOA`, `SRV` or `TXT`; only with `server`. Default `A`.
    pub record: Option<String>,
    /// Fewest answers that are right. Default 1.
    pub answers_min: Option<u16>,
    /// The `job` label. Default `dns`.
    pub job: Option<String>,
    /// The `instance` label. Default the name, or `name@server`.
    pub instance: Option<String>,
    /// Seconds between two looks. Default `interval_s` of all probes.
    pub interval_s: Option<u64>,
    /// Seconds after which a look is cut. Default `timeout_s` of all probes.
    pub timeout_s: Option<u64>,
    /// Further labels of all samples. Default none.
    pub labels: BTreeMap<String, String>,
}

/// A model API that speaks like Anthropic's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelApiSettings {
    /// The base URL. Default `https://api.anthropic.com`.
    pub url: String,
    /// What is requested; it must cost nothing. Default `/v1/models`.
    pub path: String,
    /// The `anthropic-version` header. Default `2023-06-01`.
    pub version: String,
    /// The environment variable that holds a key; without, none is sent and a refusal (401, 403) is a good answer.
    pub key_env: Option<String>,
    /// A file of PEM certificates that the server's must descend from. Default the system's.
    pub ca_file: Option<PathBuf>,
    /// Accept any certificate. Default false.
    pub insecure: bool,
    /// The `job` label. Default `model-api`.
    pub job: Option<String>,
    /// The `instance` label. Default the base URL's host.
    pub instance: Option<String>,
    /// Seconds between two looks. Default 60.
    pub interval_s: Option<u64>,
    /// Seconds after which a look is cut. Default 10.
    pub timeout_s: Option<u64>,
    /// Further labels of all samples. Default none.
    pub labels: BTreeMap<String, String>,
}

impl Default for ModelApiSettings {
    fn default() -> Self {
        Self {
            url: "https://api.anthropic.com".to_owned(),
            path: "/v1/models".to_owned(),
            version: "2023-06-01".to_owned(),
            key_env: None,
            ca_file: None,
            insecure: false,
            job: None,
            instance: None,
            interval_s: Some(60),
            timeout_s: Some(10),
            labels: BTreeMap::new(),
        }
    }
}
