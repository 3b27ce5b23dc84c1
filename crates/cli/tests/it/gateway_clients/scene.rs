//! An instance whose gateway leads to a scripted API, and the clients that call it.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::upstream::{Reply, Request, Upstream};
use crate::fixture::{Home, Instance, until};

/// A made-up key in the form of a real one.
pub const KEY: &str = "sk-ant-api03-not-a-real-key";
/// Nobody listens there: what a client wants to send beyond the loopback ends at once.
const NOWHERE: &str = "http://127.0.0.1:9";
const ARRIVED_WITHIN: Duration = Duration::from_secs(15);

pub struct Scene {
    // The instance ends before what it calls.
    pub instance: Instance,
    pub api: Upstream,
    pub home: Home,
}

/// What a client did.
pub struct Run {
    pub code: Option<i32>,
    pub lines: Vec<Value>,
    pub stderr: String,
    pub took: Duration,
}

impl Run {
    fn of(output: &Output, took: Duration) -> Self {
        let lines = String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Self { code: output.status.code(), lines, stderr: String::from_utf8_lossy(&output.stderr).into_owned(), took }
    }

    /// The last line of Claude Code's stream: how the session ended.
    #[track_caller]
    pub fn result(&self) -> &Value {
        let found = self.lines.iter().rev().find(|line| line["type"] == "result");
        found.unwrap_or_else(|| panic!("no result in {:#?}, {}", self.lines, self.stderr))
    }
}

impl Scene {
    /// With these settings besides those that lead to the API.
    pub fn new(settings: &str, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(settings, &[], script)
    }

    pub fn with(settings: &str, environment: &[(&str, &str)], script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let (home, api) = (Home::new(), Upstream::start(script));
        let file = home.path().join("paramedic.toml");
        let text = format!(
            "[probe]\nhost = false\n[rules]\npack = false\n[gateway]\nqueue_wait_s = 20\n[[gateway.upstreams]]\nname = \"fake\"\nurl = \"{}\"\n{settings}",
            api.url()
        );
        std::fs::write(&file, text).unwrap();
        let instance = home.up_in(&["--config", file.to_str().unwrap()], environment);
        Self { instance, api, home }
    }

    /// What an operator says at the command line.
    #[track_caller]
    pub fn operator(&self, arguments: &[&str]) {
        let output = self.home.command(arguments).env("PARAMEDIC_ACTOR", "ana").output().unwrap();
        assert!(output.status.success(), "paramedic {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Claude Code with one prompt, for this user.
    pub fn claude(&self, program: &Path, user: &str) -> Run {
        self.finish(self.claude_command(program, user, &self.gateway_url()))
    }

    pub fn finish(&self, mut command: Command) -> Run {
        let begun = Instant::now();
        let output = command.output().unwrap();
        Run::of(&output, begun.elapsed())
    }

    pub fn gateway_url(&self) -> String {
        format!("http://{}", self.instance.gateway())
    }

    /// A client's environment: this home, and no way out of the loopback.
    fn client(&self, program: &Path) -> Command {
        let work = self.home.path().join("work");
        std::fs::create_dir_all(&work).unwrap();
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("TMPDIR", &work)
            .envs(["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"].map(|name| (name, NOWHERE)))
            .envs(["NO_PROXY", "no_proxy"].map(|name| (name, "127.0.0.1")))
            .current_dir(work)
            .stdin(Stdio::null());
        command
    }

    pub fn claude_command(&self, program: &Path, user: &str, url: &str) -> Command {
        self.claude_asked(program, "say hi", user, url)
    }

    pub fn claude_asked(&self, program: &Path, prompt: &str, user: &str, url: &str) -> Command {
        let mut command = self.client(program);
        command
            .args([
                "-p",
                prompt,
                "--output-format",
                "stream-json",
                "--verbose",
                "--model",
                "claude-opus-5-5",
                "--allowedTools",
                "Bash,Agent",
            ])
            .env("CLAUDE_CONFIG_DIR", self.home.claude())
            .env("CLAUDE_CODE_TMPDIR", self.home.path().join("work"))
            .env("ANTHROPIC_BASE_URL", url)
            .env("ANTHROPIC_API_KEY", KEY)
            .env("ANTHROPIC_CUSTOM_HEADERS", format!("x-paramedic-user: {user}\nx-paramedic-team: blue"))
            .env("CLAUDE_CODE_GATEWAY_HINT_HEADERS", "1")
            .envs(["DISABLE_AUTOUPDATER", "DISABLE_TELEMETRY", "DISABLE_ERROR_REPORTING", "DISABLE_BUG_COMMAND"].map(|name| (name, "1")))
            .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
        command
    }

    /// A program of the fixtures with an SDK: prints one line of JSON for each case.
    #[track_caller]
    pub fn sdk(&self, program: &Path, script: &str, modules: &Path) -> Vec<Value> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/gateway_clients").join(script);
        let mut command = self.client(program);
        command.arg(script).arg(self.gateway_url()).arg(KEY).env("NODE_PATH", modules);
        let run = self.finish(command);
        assert_eq!(run.code, Some(0), "{} {:#?}", run.stderr, run.lines);
        run.lines
    }

    /// What the gateway told of its calls so far.
    pub fn told(&self) -> Vec<Value> {
        let mut events = self.instance.list("/api/v1/events?source=gateway&limit=1000", "events");
        events.sort_by_key(|event| event["seq"].as_u64());
        events
    }

    /// The same once there are so many of a kind.
    #[track_caller]
    pub fn told_of(&self, kind: &str, count: usize) -> Vec<Value> {
        let of = |events: Vec<Value>| events.into_iter().filter(|event| event["kind"] == kind).collect::<Vec<_>>();
        let found = until(ARRIVED_WITHIN, || (of(self.told()).len() >= count).then_some(()));
        assert!(found.is_some(), "not {count} of {kind} in {:#?}", self.told());
        // What would be too much may still be on its way.
        thread::sleep(Duration::from_millis(300));
        let now = of(self.told());
        assert_eq!(now.len(), count, "{now:#?}");
        now
    }

    /// A number of the instance's own metrics; 0 when it has none of that name.
    pub fn metric(&self, series: &str) -> f64 {
        let metrics = self.instance.get("/metrics").text();
        let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    /// Waits until it is so.
    #[track_caller]
    pub fn wait_for(&self, what: &str, mut is: impl FnMut() -> bool) {
        assert!(until(ARRIVED_WITHIN, || is().then_some(())).is_some(), "{what} did not come: {}", self.home.log());
    }
}
