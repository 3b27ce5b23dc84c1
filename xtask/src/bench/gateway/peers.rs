//! The gateways that are measured beside each other, each on the loopback with a folder of its own.

use std::fmt::Write as _;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{self, Guarded};
use crate::{paths, setup};

use super::scene::{self, KEY, NGINX_HEAD, SLOW, STREAM, WHOLE};

/// The processor of what is measured, and that of the load and the upstream.
pub(super) const GATEWAY_CPU: &str = "0";
pub(super) const LOAD_CPU: &str = "1";

const LITELLM: &str = "litellm[proxy]==1.106.2";
const PORTKEY: &str = "@portkey-ai/gateway";
const PORTKEY_VERSION: &str = "1.15.2";
/// Python programs take their time.
const READY_TIMEOUT: Duration = Duration::from_secs(90);

/// Switches that look at every call and stop none: every limit is far away.
const FAR_SWITCHES: [(&str, &str); 24] = [
    ("rate_limiting", "true"),
    ("rate_limit_per_minute", "1000000000"),
    ("rate_limit_per_user", "1000000000"),
    ("rate_limit_per_agent", "1000000000"),
    ("max_concurrent_requests", "100000"),
    ("max_concurrent_agents", "100000"),
    ("provider_pacing", "true"),
    ("adaptive_concurrency", "true"),
    ("retry_attempts", "3"),
    ("circuit_breaker", "true"),
    ("connect_timeout_s", "10"),
    ("first_byte_timeout_s", "300"),
    ("between_tokens_timeout_s", "300"),
    ("request_timeout_s", "3600"),
    ("enforce_budget", "true"),
    ("daily_budget_dollars", "1000000000"),
    ("weekly_budget_dollars", "1000000000"),
    ("monthly_budget_dollars", "1000000000"),
    ("max_output_tokens", "64000"),
    ("max_input_tokens", "1000000"),
    ("max_growth_tokens", "1000000"),
    ("max_history_tokens", "1000000"),
    ("summarization", "true"),
    ("prompt_caching", "true"),
];
/// Some that are for one user, team or model.
const SCOPED_SWITCHES: [(&str, &str, &str); 4] = [
    ("daily_budget_dollars", "1000000000", "user:ana"),
    ("monthly_budget_dollars", "1000000000", "team:search"),
    ("rate_limit_per_minute", "1000000000", "team:search"),
    ("blocked", "true", "user:somebody-else"),
];

/// How a gateway of ours is run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// Without a data folder: it passes calls on, counts them, and keeps nothing.
    Alone,
    /// Every event is kept, and every switch that can be on without changing the call is on.
    All,
}

/// One running gateway.
pub(super) struct Peer {
    pub(super) name: &'static str,
    child: Option<Guarded>,
    /// Whole answers, streams, slow streams: some route by the model, some by the port.
    pub(super) ports: [u16; 3],
    pub(super) headers: Vec<(&'static str, String)>,
    /// Calls of some size to begin with, so that what is made ready at first is not measured.
    pub(super) warm_up_s: u64,
}

impl Peer {
    /// The upstream itself.
    pub(super) fn direct(ports: [u16; 3]) -> Self {
        Self { name: "direct", child: None, ports, headers: Vec::new(), warm_up_s: 0 }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(|child| child.0.id())
    }
}

pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

pub(super) fn wait_for_port(port: u16) -> Result<()> {
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        ensure!(begun.elapsed() < READY_TIMEOUT, "nothing listened on port {port} in time");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Starts a program on one processor; what it says is kept in its folder.
fn start(name: &str, program: &Path, cpu: &str, folder: &Path, prepare: impl FnOnce(&mut Command)) -> Result<Guarded> {
    fs::create_dir_all(folder)?;
    let log = fs::File::create(folder.join(format!("{name}.log")))?;
    let mut command = Command::new("taskset");
    command.args(["-c", cpu]).arg(program).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir(folder);
    prepare(&mut command);
    Ok(Guarded(command.spawn().with_context(|| format!("failed to start {name}"))?))
}

pub(super) fn nginx_temp_folders() -> String {
    ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|name| format!("{name}_temp_path temp/{name};\n")).concat()
}

pub(super) fn start_nginx(nginx: &Path, folder: &Path, conf: &str, cpu: &str) -> Result<Guarded> {
    fs::create_dir_all(folder.join("temp"))?;
    fs::write(folder.join("nginx.conf"), conf)?;
    start("nginx", nginx, cpu, folder, |command| {
        command.arg("-p").arg(folder).args(["-c", "nginx.conf", "-e", "error.log"]);
    })
}

/// The floor: a proxy in C that passes bytes on and knows nothing of them.
pub(super) fn nginx(nginx: &Path, folder: &Path, upstream: [u16; 3]) -> Result<Peer> {
    let folder = folder.join("nginx");
    let (ports, mut servers) = ([free_port()?, free_port()?, free_port()?], String::new());
    for (to, port) in upstream.iter().zip(ports) {
        let _ = write!(
            servers,
            "upstream u{to} {{ server 127.0.0.1:{to}; keepalive 128; keepalive_requests 100000000; }}\n\
             server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://u{to}; proxy_http_version 1.1;\n\
             proxy_set_header Connection \"\"; proxy_buffering off; proxy_read_timeout 600s; }} }}\n"
        );
    }
    let conf = format!(
        "{NGINX_HEAD}http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600s; client_max_body_size 64m;\n\
         client_body_buffer_size 1m;\n{}{servers} }}\n",
        nginx_temp_folders()
    );
    let child = start_nginx(nginx, &folder, &conf, GATEWAY_CPU)?;
    ports.into_iter().try_for_each(wait_for_port)?;
    Ok(Peer { name: "nginx `proxy_pass`", child: Some(child), ports, headers: Vec::new(), warm_up_s: 1 })
}

fn toml_switches(switches: &[(&str, &str, &str)]) -> String {
    let one = |(name, value, scope): &(&str, &str, &str)| {
        format!("[[gateway.switches]]\nswitch = \"{name}\"\nvalue = {value}\nscope = \"{scope}\"\n")
    };
    switches.iter().map(one).collect()
}

/// Ours.
pub(super) fn paramedic(program: &Path, folder: &Path, upstream: [u16; 3], how: How) -> Result<Peer> {
    let (name, all) = match how {
        How::Alone => ("`paramedic gateway`, nothing on", Vec::new()),
        How::All => ("`paramedic gateway`, all on", {
            FAR_SWITCHES.iter().map(|(name, value)| (*name, *value, "all")).chain(SCOPED_SWITCHES).collect()
        }),
    };
    let folder = folder.join(if how == How::All { "paramedic-all" } else { "paramedic-alone" });
    let child_and_port = start_paramedic(program, &folder, upstream, how == How::All, &all)?;
    let (child, port) = child_and_port;
    Ok(Peer { name, child: Some(child), ports: [port; 3], headers: Vec::new(), warm_up_s: 1 })
}

pub(super) fn start_paramedic(
    program: &Path,
    folder: &Path,
    upstream: [u16; 3],
    with_data: bool,
    switches: &[(&str, &str, &str)],
) -> Result<(Guarded, u16)> {
    fs::remove_dir_all(folder).ok();
    fs::create_dir_all(folder)?;
    let mut settings = String::new();
    for (model, port) in [WHOLE, STREAM, SLOW].iter().zip(upstream) {
        let _ =
            write!(settings, "[[gateway.upstreams]]\nname = \"to-{model}\"\nurl = \"http://127.0.0.1:{port}\"\nmodels = [\"{model}\"]\n");
    }
    settings.push_str(&toml_switches(switches));
    let file = folder.join("paramedic.toml");
    fs::write(&file, settings)?;
    let port = free_port()?;
    let child = start("paramedic", program, GATEWAY_CPU, folder, |command| {
        command.args(["gateway", "--listen", &format!("127.0.0.1:{port}"), "--config"]).arg(&file);
        if with_data {
            command.arg("--data").arg(folder.join("data"));
        }
        command.env("HOME", folder);
    })?;
    wait_for_port(port)?;
    Ok((child, port))
}

/// A folder for what the peers are installed into.
fn peers_folder() -> Result<PathBuf> {
    let folder = paths::test_tools().join("peers");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// LiteLLM in a Python of its own.
pub(super) fn litellm_program() -> Result<PathBuf> {
    let folder = peers_folder()?.join("litellm");
    let program = folder.join("bin/litellm");
    if !program.is_file() {
        let python = process::find_program(&["python3"]).context("python3 is not on the PATH")?;
        process::run(Command::new(python).args(["-m", "venv"]).arg(&folder))?;
        let mut install = Command::new(folder.join("bin/python"));
        process::run(install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", LITELLM]))?;
    }
    ensure!(program.is_file(), "pip installed no litellm");
    Ok(program)
}

/// `more` are further lines of its settings.
pub(super) fn litellm(program: &Path, folder: &Path, upstream: [u16; 3], more: &str) -> Result<Peer> {
    let (folder, port) = (folder.join("litellm"), free_port()?);
    fs::create_dir_all(&folder)?;
    let mut settings = String::from("model_list:\n");
    for (model, to) in [WHOLE, STREAM, SLOW].iter().zip(upstream) {
        let _ = write!(
            settings,
            "  - model_name: {model}\n    litellm_params:\n      model: anthropic/{model}\n      api_base: http://127.0.0.1:{to}\n      api_key: {KEY}\n"
        );
    }
    let _ = write!(settings, "general_settings:\n  master_key: {KEY}\n{more}");
    fs::write(folder.join("config.yaml"), settings)?;
    let child = start("litellm", program, GATEWAY_CPU, &folder, |command| {
        command.args(["--config", "config.yaml", "--host", "127.0.0.1", "--port", &port.to_string(), "--num_workers", "1"]);
        command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True").env("LITELLM_LOG", "ERROR").env("HOME", &folder);
    })?;
    wait_for_port(port)?;
    Ok(Peer { name: "LiteLLM 1.106.2", child: Some(child), ports: [port; 3], headers: Vec::new(), warm_up_s: 3 })
}

fn portkey_program() -> Result<PathBuf> {
    let folder = peers_folder()?.join("npm");
    let program = folder.join("node_modules").join(PORTKEY).join("build/start-server.js");
    if !program.is_file() {
        let npm = process::find_program(&["npm"]).context("npm is not on the PATH")?;
        fs::create_dir_all(&folder)?;
        let mut install = Command::new(npm);
        install.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel", "error", "--prefix"]).arg(&folder);
        process::run(install.arg(format!("{PORTKEY}@{PORTKEY_VERSION}")))?;
    }
    ensure!(program.is_file(), "npm installed no {PORTKEY}");
    Ok(program)
}

pub(super) fn portkey(folder: &Path, upstream: [u16; 3]) -> Result<Peer> {
    let program = portkey_program()?;
    let node = process::find_program(&["node"]).context("node is not on the PATH")?;
    let (folder, port) = (folder.join("portkey"), free_port()?);
    let child = start("portkey", &node, GATEWAY_CPU, &folder, |command| {
        command.arg(&program).args(["--headless", &format!("--port={port}")]).env("NODE_ENV", "production");
    })?;
    wait_for_port(port)?;
    let host = format!("http://127.0.0.1:{}/v1", upstream[0]);
    let headers = vec![("x-portkey-provider", "anthropic".to_owned()), ("x-portkey-custom-host", host)];
    Ok(Peer { name: "Portkey 1.15.2", child: Some(child), ports: [port; 3], headers, warm_up_s: 3 })
}

/// A program of Debian's, installed where that is possible.
pub(super) fn debian(program: &str) -> Result<PathBuf> {
    let usual = Path::new("/usr/sbin").join(program);
    if usual.is_file() {
        return Ok(usual);
    }
    setup::server(&[program], program)
}

/// One call to see that a gateway passes calls on at all.
pub(super) fn works(peer: &Peer, model: &str, stream: bool) -> Result<()> {
    let port = peer.ports[usize::from(stream)];
    let mut connection = crate::bench::http::Connection::open(&format!("127.0.0.1:{port}"))?;
    let lines: Vec<String> = scene::headers().iter().chain(&peer.headers).map(|(name, value)| format!("{name}: {value}")).collect();
    let body = scene::body(scene::Size::Small, model, stream);
    let begun = Instant::now();
    loop {
        let answer = connection.post_with("/v1/messages", &lines.join("\r\n"), body.as_bytes());
        match answer {
            Ok((200, _)) => return Ok(()),
            Ok((status, said)) if begun.elapsed() > Duration::from_secs(10) => {
                let said = String::from_utf8_lossy(&said).chars().take(200).collect::<String>();
                bail!("{} answers {status}: {said}", peer.name)
            }
            Err(error) if begun.elapsed() > Duration::from_secs(10) => bail!("{} does not answer: {error:#}", peer.name),
            _ => thread::sleep(Duration::from_millis(500)),
        }
        connection = crate::bench::http::Connection::open(&format!("127.0.0.1:{port}"))?;
    }
}
