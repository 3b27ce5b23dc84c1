//! Services: a `systemctl` that answers as systemd's does, and pm2 itself where it is installed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use paramedic_action::metrics::Metrics;
use paramedic_action::service::{Services, Settings};
use paramedic_action::{ActionError, Actions, Call, Done, Effect, Plan};
use tokio_util::sync::CancellationToken;

/// Keeps the state of each unit in a file `<unit>` of `key=value` lines, and each command in the file `asked`.
const SYSTEMCTL: &str = r#"#!/bin/bash
here="$(dirname "$0")"; echo "$@" >> "$here/asked"
while [[ "$1" == --no-* || "$1" == --user ]]; do shift; done
verb="$1"; unit="${@: -1}"; file="$here/$unit"
[ -e "$here/silent" ] && sleep 60
[ "$verb" = show ] || [ ! -e "$here/denied" ] || { echo "Access denied" >&2; exit 4; }
if [ "$verb" = show ]; then
  [ -e "$file" ] && { cat "$file"; exit 0; }
  echo "Id=$unit"; echo "LoadState=not-found"; echo "ActiveState=inactive"; exit 0
fi
new() { sed -i "s/^$1=.*/$1=$2/" "$file"; }
case "$verb" in
  stop) new ActiveState inactive; new SubState dead; new MainPID 0;;
  start|restart) new ActiveState active; new SubState running; new MainPID $((RANDOM + 100000)); new InvocationID $RANDOM$RANDOM
    [ -e "$here/fails" ] && { new ActiveState failed; new SubState failed; new MainPID 0; echo "Job for $unit failed." >&2; exit 1; }
    [ -e "$here/crashes" ] && { (sleep 0.5; new NRestarts 1; new InvocationID $RANDOM) >/dev/null 2>&1 & } ;;
esac
exit 0
"#;

struct Systemd {
    folder: tempfile::TempDir,
}

impl Systemd {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("systemctl");
        std::fs::write(&path, SYSTEMCTL).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let systemd = Self { folder };
        systemd.unit("web.service", "loaded", "active", 4_194_300);
        systemd
    }

    fn unit(&self, name: &str, load: &str, active: &str, pid: u32) {
        let text = format!(
            "Id={name}\nLoadState={load}\nActiveState={active}\nSubState=running\nType=simple\nMainPID={pid}\nNRestarts=0\nInvocationID=aa\n"
        );
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn mark(&self, name: &str) {
        std::fs::write(self.folder.path().join(name), "").unwrap();
    }

    fn asked(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("asked")).unwrap_or_default()
    }

    async fn execute(&self, call: &Call) -> Result<(Plan, Done), ActionError> {
        let settings = Settings { systemctl: self.folder.path().join("systemctl"), timeout_s: 3, settle_s: 1, ..Settings::default() };
        execute(settings, call).await
    }
}

async fn execute(settings: Settings, call: &Call) -> Result<(Plan, Done), ActionError> {
    Actions::new(vec![Arc::new(Services::new(settings))], Metrics::default()).execute(call, &CancellationToken::new()).await
}

fn call(verb: &str, manager: &str, name: &str) -> Call {
    Call::new(&format!("service.{verb}")).with("manager", manager).with("name", name)
}

#[tokio::test]
async fn a_restart_gives_a_new_process_that_stays() {
    let systemd = Systemd::new();
    let (plan, done) = systemd.execute(&call("restart", "systemd", "web")).await.unwrap();
    assert!(plan.exact[0].ends_with("restart -- web.service") && plan.inverse.is_none(), "{:?}", plan.exact);
    assert!(plan.objects[0].detail.contains("active (running), process 4194300"), "{}", plan.objects[0].detail);
    assert!(plan.warnings.iter().any(|warning| warning.contains("nothing takes a restart back")));
    assert!(done.verified.holds, "{}", done.verified.how);
    assert_ne!(done.before["pids"], done.after["pids"]);
    assert!(systemd.asked().contains("--no-pager --no-ask-password restart -- web.service"));
}

#[tokio::test]
async fn a_stop_and_a_start_take_each_other_back() {
    let systemd = Systemd::new();
    let (plan, done) = systemd.execute(&call("stop", "systemd-user", "web.service")).await.unwrap();
    assert!(done.verified.holds && plan.inverse == done.inverse, "{}", done.verified.how);
    assert!(systemd.asked().contains("--user"));
    let status = systemd.execute(&call("status", "systemd", "web")).await.unwrap();
    assert_eq!((status.0.effect, &status.1.answer["up"]), (Effect::Read, &false.into()));
    let (plan, done) = systemd.execute(&done.inverse.unwrap()).await.unwrap();
    assert!(done.verified.holds && plan.affected == 1, "{}", done.verified.how);
    // Once more: there is nothing to do, and nothing is done.
    let before = systemd.asked().matches(" start -- ").count();
    let (plan, done) = systemd.execute(&call("start", "systemd", "web")).await.unwrap();
    assert!(done.verified.holds && plan.affected == 0 && plan.exact.is_empty() && done.inverse.is_none());
    assert_eq!(systemd.asked().matches(" start -- ").count(), before);
}

#[tokio::test]
async fn a_service_that_does_not_come_up_is_told() {
    let systemd = Systemd::new();
    systemd.mark("fails");
    let (_, done) = systemd.execute(&call("restart", "systemd", "web")).await.unwrap();
    assert!(!done.verified.holds && done.verified.how.contains("Job for web.service failed"), "{}", done.verified.how);
    std::fs::remove_file(systemd.folder.path().join("fails")).unwrap();
    systemd.mark("crashes");
    let (_, done) = systemd.execute(&call("restart", "systemd", "web")).await.unwrap();
    assert!(!done.verified.holds && done.verified.how.contains("started again since"), "{}", done.verified.how);
}

#[tokio::test]
async fn a_manager_that_says_no_or_nothing_is_told() {
    let systemd = Systemd::new();
    systemd.mark("denied");
    let error = systemd.execute(&call("restart", "systemd", "web")).await.unwrap_err().to_string();
    assert!(error.contains("still active") && error.contains("Access denied"), "{error}");
    systemd.mark("silent");
    let error = systemd.execute(&call("restart", "systemd", "web")).await.unwrap_err().to_string();
    assert!(error.contains("did not end within"), "{error}");
}

#[tokio::test]
async fn what_is_not_there_masked_or_ours_is_refused() {
    let systemd = Systemd::new();
    assert!(matches!(systemd.execute(&call("restart", "systemd", "nothing")).await, Err(ActionError::NotFound { .. })));
    systemd.unit("off.service", "masked", "inactive", 0);
    assert!(systemd.execute(&call("start", "systemd", "off")).await.unwrap_err().to_string().contains("masked"));
    systemd.unit("paramedic.service", "loaded", "active", std::process::id());
    for verb in ["stop", "restart"] {
        let error = systemd.execute(&call(verb, "systemd", "paramedic")).await.unwrap_err().to_string();
        assert!(error.contains("Paramedic itself"), "{error}");
    }
    let asked = systemd.asked();
    for name in ["--now", "-H", "web*", "w?b", "web other", "reboot.target", "systemd-poweroff", "web;id", "", "../web", "all"] {
        assert!(systemd.execute(&call("stop", "systemd", name)).await.is_err(), "{name}");
    }
    let since = systemd.asked().replacen(&asked, "", 1);
    assert!(!since.contains("stop"), "{since}");
}

#[tokio::test]
async fn a_machine_without_a_manager_says_so() {
    let missing = Settings { systemctl: "/nowhere/systemctl".into(), pm2_home: Some("/nowhere".into()), ..Settings::default() };
    for manager in ["systemd", "pm2"] {
        let error = execute(missing.clone(), &call("status", manager, "web")).await.unwrap_err();
        assert!(matches!(error, ActionError::NotSetUp { .. }), "{error}");
    }
    if !Path::new("/run/systemd/system").exists() && Command::new("systemctl").arg("--version").output().is_ok() {
        let error = execute(Settings::default(), &call("status", "systemd", "cron")).await.unwrap_err();
        assert!(matches!(error, ActionError::NotSetUp { .. }), "{error}");
    }
}

/// pm2's daemon with its folder; both end with the test.
struct Pm2 {
    program: PathBuf,
    folder: tempfile::TempDir,
}

impl Pm2 {
    /// The program of `PARAMEDIC_PM2`, else the one in PATH.
    fn start() -> Option<Self> {
        let in_path = || std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join("pm2")).find(|file| file.is_file());
        let Some(program) = std::env::var_os("PARAMEDIC_PM2").map(PathBuf::from).or_else(in_path) else {
            eprintln!("skipped: pm2 is not installed (npm install pm2, then PARAMEDIC_PM2=node_modules/.bin/pm2)");
            return None;
        };
        let pm2 = Self { program, folder: tempfile::tempdir().unwrap() };
        std::fs::write(pm2.folder.path().join("app.js"), "setInterval(() => {}, 1000)").unwrap();
        std::fs::write(pm2.folder.path().join("crash.js"), "setTimeout(() => process.exit(1), 300)").unwrap();
        Some(pm2)
    }

    fn run(&self, arguments: &[&str]) {
        let status = Command::new(&self.program)
            .args(arguments)
            .current_dir(self.folder.path())
            .env("PM2_HOME", self.folder.path().join("home"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(status.unwrap().success(), "{arguments:?}");
    }

    async fn execute(&self, call: &Call) -> Result<(Plan, Done), ActionError> {
        let home = Some(self.folder.path().join("home"));
        execute(Settings { pm2: self.program.clone(), pm2_home: home, timeout_s: 20, settle_s: 2, ..Settings::default() }, call).await
    }
}

impl Drop for Pm2 {
    fn drop(&mut self) {
        let _ = Command::new(&self.program)
            .arg("kill")
            .env("PM2_HOME", self.folder.path().join("home"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

#[tokio::test]
async fn pm2_restarts_stops_and_starts_what_it_keeps() {
    let Some(pm2) = Pm2::start() else { return };
    let error = pm2.execute(&call("status", "pm2", "web")).await.unwrap_err();
    assert!(matches!(error, ActionError::NotSetUp { .. }), "{error}");
    assert!(!pm2.folder.path().join("home").exists(), "a look starts no daemon");
    pm2.run(&["start", "app.js", "--name", "web"]);
    pm2.run(&["start", "app.js", "--name", "other"]);
    let (plan, done) = pm2.execute(&call("restart", "pm2", "web")).await.unwrap();
    assert!(plan.exact[0].ends_with("restart 0"), "{:?}", plan.exact);
    assert!(done.verified.holds, "{}", done.verified.how);
    assert_ne!(done.before["pids"], done.after["pids"]);
    let (_, done) = pm2.execute(&call("stop", "pm2", "web")).await.unwrap();
    assert!(done.verified.holds, "{}", done.verified.how);
    let (_, done) = pm2.execute(&done.inverse.unwrap()).await.unwrap();
    assert!(done.verified.holds, "{}", done.verified.how);
    for name in ["all", "0", "/web/", "we", "app.js"] {
        assert!(pm2.execute(&call("restart", "pm2", name)).await.is_err(), "{name}");
    }
    let (_, other) = pm2.execute(&call("status", "pm2", "other")).await.unwrap();
    assert_eq!((&other.answer["restarts"], &other.answer["up"]), (&0.into(), &true.into()), "nobody else was touched");
    pm2.run(&["start", "crash.js", "--name", "crash"]);
    let (_, done) = pm2.execute(&call("restart", "pm2", "crash")).await.unwrap();
    assert!(!done.verified.holds, "{}", done.verified.how);
}
