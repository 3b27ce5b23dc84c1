//! Processes that ignore requests, have children, carry a used number or must not be touched.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use paramedic_action::metrics::Metrics;
use paramedic_action::process::{AgentProcess, AgentProcesses, Processes, Settings, Started};
use paramedic_action::{ActionError, Actions, Call, Done, Effect, Plan};
use paramedic_model::{Clock as _, SystemClock, Timestamp};
use tokio_util::sync::CancellationToken;

/// Says `ready` when it ignores requests to end.
const STUBBORN: &str = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
const POLITE: &str = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done";

/// A process that is gone, with its group, when the test is.
struct Victim {
    child: Child,
}

impl Victim {
    /// In a group of its own; returns when it has said `ready`.
    fn bash(script: &str) -> Self {
        let mut command = Command::new("bash");
        command.args(["-c", script]).process_group(0);
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("a process");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        assert_eq!(line.trim(), "ready");
        Self { child }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn lives(&self) -> bool {
        lives(self.pid())
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // The group, of which the child may be gone already; its number is kept by the child until it is collected.
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.pid())]).stderr(Stdio::null()).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn stat(pid: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

fn lives(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] != "Z" && fields[0] != "X")
}

fn ticks(pid: u32) -> u64 {
    stat(pid).expect("a process")[19].parse().expect("ticks")
}

fn actions_with(settings: Settings, agents: Option<Arc<dyn AgentProcesses>>) -> Actions {
    Actions::new(vec![Arc::new(Processes::new(settings, agents))], Metrics::default())
}

fn actions() -> Actions {
    actions_with(Settings { settle_ms: 300, ..Settings::default() }, None)
}

fn call(action: &str, pid: u32) -> Call {
    Call::new(action).with("pid", pid).with("started", ticks(pid))
}

async fn execute(call: &Call) -> Result<(Plan, Done), ActionError> {
    actions().execute(call, &CancellationToken::new()).await
}

fn why<T: std::fmt::Debug>(result: Result<T, ActionError>) -> String {
    result.expect_err("it must be refused").to_string()
}

#[tokio::test]
async fn a_polite_process_ends_when_asked() {
    let victim = Victim::bash(POLITE);
    let call = call("process.stop", victim.pid()).with("grace", "5s");
    let plan = actions().plan(&call).await.unwrap();
    assert!(victim.lives(), "a plan changes nothing");
    assert_eq!((plan.affected, plan.effect, plan.inverse.is_none()), (1, Effect::Write, true));
    assert_eq!(plan.objects[0].name, victim.pid().to_string());
    assert!(plan.exact[0].contains("SIGTERM") && plan.exact[1].contains("5000 ms"), "{:?}", plan.exact);
    let begun = Instant::now();
    let (_, done) = execute(&call).await.unwrap();
    assert!(done.verified.holds, "{}", done.verified.how);
    assert_eq!((done.affected, &done.after["by_themselves"]), (1, &1.into()));
    assert!(begun.elapsed() < Duration::from_secs(3), "it is not waited longer than needed");
    // Its parent has not collected it: it is a zombie, and that is dead.
    assert!(!victim.lives());
    assert!(why(actions().plan(&call).await).contains("has ended"));
}

#[tokio::test]
async fn a_stubborn_process_is_killed_after_its_grace() {
    let victim = Victim::bash(STUBBORN);
    let begun = Instant::now();
    let (_, done) = execute(&call("process.stop", victim.pid()).with("grace", "300ms")).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(done.verified.holds && !victim.lives());
    assert_eq!(done.after["killed"], 1);
}

#[tokio::test]
async fn a_stopped_process_ends_too() {
    let victim = Victim::bash("trap 'exit 0' TERM; echo ready; kill -STOP $$; while :; do sleep 0.05; done");
    let begun = Instant::now();
    while stat(victim.pid()).is_some_and(|fields| fields[0] != "T") && begun.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (_, done) = execute(&call("process.stop", victim.pid()).with("grace", "5s")).await.unwrap();
    assert_eq!((done.verified.holds, &done.after["by_themselves"]), (true, &1.into()));
}

#[tokio::test]
async fn a_kill_asks_nobody() {
    let victim = Victim::bash(STUBBORN);
    let call = call("process.kill", victim.pid());
    assert_eq!(actions().plan(&call).await.unwrap().effect, Effect::Destroy);
    let begun = Instant::now();
    let (_, done) = execute(&call).await.unwrap();
    assert!(done.verified.holds && !victim.lives() && begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_used_number_is_not_hit() {
    let victim = Victim::bash(POLITE);
    let now = SystemClock.now();
    let wrong = [
        (ticks(victim.pid()) - 1).to_string(),
        (ticks(victim.pid()) + 1).to_string(),
        now.before(Duration::from_secs(3_600)).to_string(),
        (now.as_secs() - 60).to_string(),
        now.after(Duration::from_secs(30)).to_string(),
        "Sun Nov 22 08:00:42 1998".to_owned(),
    ];
    for started in wrong {
        let call = Call::new("process.kill").with("pid", victim.pid()).with("started", started.clone());
        let why = why(execute(&call).await);
        assert!(why.contains("belongs to another process now"), "{started}: {why}");
    }
    for started in ["", "yesterday", "*"] {
        assert!(execute(&Call::new("process.kill").with("pid", victim.pid()).with("started", started)).await.is_err());
    }
    assert!(execute(&Call::new("process.kill").with("pid", victim.pid())).await.is_err(), "a number alone names nothing");
    assert!(victim.lives());
}

#[tokio::test]
async fn a_start_may_be_written_as_ps_does() {
    for format in ["lstart=", "etimes="] {
        let victim = Victim::bash(POLITE);
        let Ok(listed) = Command::new("ps").args(["-o", format, "-p", &victim.pid().to_string()]).output() else {
            eprintln!("skipped: ps is not installed");
            return;
        };
        let text = String::from_utf8(listed.stdout).unwrap().trim().to_owned();
        let started = match text.parse::<i64>() {
            Ok(seconds) => (SystemClock.now().as_secs() - seconds).to_string(),
            Err(_) => text,
        };
        let call = Call::new("process.stop").with("pid", victim.pid()).with("started", started.clone());
        let (_, done) = execute(&call).await.unwrap_or_else(|error| panic!("{started}: {error}"));
        assert!(done.verified.holds);
    }
}

#[tokio::test]
async fn ourselves_and_what_we_run_under_is_refused() {
    let own = std::process::id();
    let parent = rustix::process::getppid().expect("a parent").as_raw_nonzero().get().unsigned_abs();
    for action in ["process.stop", "process.kill", "process.restart"] {
        assert!(why(execute(&call(action, own)).await).contains("Paramedic itself"), "{action}");
        let why = why(execute(&call(action, parent)).await);
        assert!(why.contains("runs under") || why.contains("first process"), "{action}: {why}");
    }
    for pid in [0_u64, 1] {
        let why = why(execute(&Call::new("process.kill").with("pid", pid).with("started", 1)).await);
        assert!(why.contains("first process"), "{why}");
    }
    for pid in ["-1", "99999999999", "4194305", "abc", "1 2"] {
        assert!(execute(&Call::new("process.kill").with("pid", pid).with("started", 1)).await.is_err(), "{pid}");
    }
    assert!(lives(own) && lives(parent));
}

#[tokio::test]
async fn a_part_of_the_kernel_and_a_thread_are_refused() {
    if Path::new("/proc/2/stat").exists() && std::fs::read_to_string("/proc/2/comm").is_ok_and(|name| name.trim() == "kthreadd") {
        assert!(why(execute(&call("process.kill", 2)).await).contains("part of the kernel"));
    } else {
        eprintln!("skipped: no kernel threads are seen here");
    }
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let own = std::process::id().to_string();
    let thread = threads.filter_map(|task| task.file_name().into_string().ok()).find(|task| *task != own);
    if let Some(thread) = thread {
        assert!(why(execute(&call("process.kill", thread.parse().unwrap())).await).contains("Paramedic itself"));
    }
}

#[tokio::test]
async fn a_group_that_we_are_in_is_refused() {
    // Started without a group of its own: it is in ours.
    let mut command = Command::new("bash");
    command.args(["-c", "echo ready; exec sleep 20"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let refusal = why(execute(&call("process.stop", pid).with("group", true)).await);
    assert!(refusal.contains("Paramedic itself is in"), "{refusal}");
    assert!(lives(pid));
    // The one process alone may go.
    let (_, done) = execute(&call("process.stop", pid)).await.unwrap();
    assert!(done.verified.holds);
    let _ = child.wait();
}

#[tokio::test]
async fn a_group_goes_as_a_whole_with_what_it_starts_meanwhile() {
    // Two stubborn children, one of which starts another one when it is asked to end.
    let script = "trap '' TERM
        bash -c 'trap \"\" TERM; while :; do sleep 0.1; done' &
        bash -c 'trap \"sleep 100 & :\" TERM; while :; do sleep 0.1; done' &
        sleep 0.2; echo ready; while :; do sleep 0.1; done";
    let victim = Victim::bash(script);
    let call = call("process.stop", victim.pid()).with("group", true).with("grace", "500ms");
    let plan = actions().plan(&call).await.unwrap();
    assert!(plan.affected >= 3, "{}", plan.affected);
    let (_, done) = execute(&call).await.unwrap();
    assert!(done.verified.holds, "{}", done.verified.how);
    let left = paramedic_group(victim.pid());
    assert!(left.is_empty(), "{left:?}");
}

/// Living members of a group.
fn paramedic_group(group: u32) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| lives(*pid) && stat(*pid).is_some_and(|fields| fields[2] == group.to_string())).collect()
}

#[tokio::test]
async fn without_its_group_only_the_one_ends() {
    let victim = Victim::bash("sleep 50 & echo ready; wait");
    let before = paramedic_group(victim.pid());
    assert_eq!(before.len(), 2);
    let (_, done) = execute(&call("process.kill", victim.pid())).await.unwrap();
    assert_eq!((done.affected, paramedic_group(victim.pid()).len()), (1, 1));
}

#[tokio::test]
async fn what_was_planned_must_still_be_so() {
    let (first, second) = (Victim::bash(POLITE), Victim::bash(POLITE));
    let adapter = Processes::new(Settings::default(), None);
    let cancel = CancellationToken::new();
    let plan = actions().plan(&call("process.stop", first.pid())).await.unwrap();
    let other = call("process.stop", second.pid());
    let refused = paramedic_action::Adapter::execute(&adapter, &other, &plan, &cancel).await;
    assert!(matches!(refused, Err(ActionError::Changed { .. })), "{refused:?}");
    assert!(first.lives() && second.lives());
}

#[tokio::test]
async fn a_stop_that_is_called_off_kills_nobody() {
    let victim = Victim::bash(STUBBORN);
    let cancel = CancellationToken::new();
    let later = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        later.cancel();
    });
    let call = call("process.stop", victim.pid()).with("grace", "20s");
    let begun = Instant::now();
    let answer = actions().execute(&call, &cancel).await;
    assert!(matches!(answer, Err(ActionError::CalledOff { .. })), "{answer:?}");
    assert!(begun.elapsed() < Duration::from_secs(5) && victim.lives());
}

#[tokio::test]
async fn another_users_process_is_refused() {
    // Only a root can start the process of another user, and a root may end it: the guard itself is tested beside its code.
    let is_root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0;
    if !is_root {
        eprintln!("skipped: needs root");
        return;
    }
    let mut command = Command::new("bash");
    command.args(["-c", POLITE]).process_group(0).uid(65_534).gid(65_534).current_dir("/");
    let victim = Victim::start(command);
    let plan = actions().plan(&call("process.stop", victim.pid())).await.unwrap();
    assert!(plan.objects[0].detail.contains("user 65534"), "{}", plan.objects[0].detail);
    let (_, done) = execute(&call("process.restart", victim.pid())).await.unwrap();
    assert!(done.verified.holds, "{}", done.verified.how);
    assert_eq!(done.answer["user"], 65_534, "it runs again as its user");
    end(&done);
}

/// Ends a restarted process.
fn end(done: &Done) {
    let pid = done.answer["pid"].as_u64().expect("a number").to_string();
    let _ = Command::new("kill").args(["-KILL", &pid]).status();
}

#[tokio::test]
async fn a_restarted_process_is_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("out.log");
    let script = "echo ready; echo \"$MARK in $PWD: $1 $2$3\" >> seen; trap 'exit 0' TERM; while :; do sleep 0.05; done";
    let mut command = Command::new("bash");
    command.args(["-c", script, "daemon", "a  b", "", "z"]).env("MARK", "x=y z").current_dir(folder.path()).process_group(0);
    let victim = Victim::start(command);
    let settings = Settings { settle_ms: 400, output_dir: Some(folder.path().to_owned()), ..Settings::default() };
    let call = call("process.restart", victim.pid()).with("grace", "5s");
    let (plan, done) = actions_with(settings, None).execute(&call, &CancellationToken::new()).await.unwrap();
    assert!(done.verified.holds, "{}", done.verified.how);
    assert!(plan.exact.iter().any(|line| line.contains("setsid bash -c")), "{:?}", plan.exact);
    let pid = u32::try_from(done.answer["pid"].as_u64().unwrap()).unwrap();
    assert!(pid != victim.pid() && lives(pid) && !victim.lives());
    assert_eq!(done.answer["started"], ticks(pid).to_string());
    let line = format!("x=y z in {}: a  b z\n", folder.path().canonicalize().unwrap().display());
    assert_eq!(std::fs::read_to_string(folder.path().join("seen")).unwrap(), line.repeat(2));
    let fields = stat(pid).unwrap();
    assert_eq!((&fields[3], &fields[4]), (&pid.to_string(), &"0".to_owned()), "a session of its own, without terminal");
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/fd/0")).unwrap(), Path::new("/dev/null"));
    let written: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().filter(|file| file.path().extension().is_some()).collect();
    assert_eq!(written.len(), 1, "a new file for what it writes");
    assert_eq!(written[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(written[0].path()).unwrap().contains("ready") && !log.exists());
    // And what the answer says can be given to the next action.
    let next = Call::new("process.stop").with("pid", done.answer["pid"].clone()).with("started", done.answer["started"].clone());
    assert!(execute(&next).await.unwrap().1.verified.holds);
}

#[tokio::test]
async fn nothing_is_ended_that_cannot_be_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let check = async |command: Command, expect: &str| {
        let victim = Victim::start(command);
        let refusal = why(execute(&call("process.restart", victim.pid())).await);
        assert!(refusal.contains(expect), "{refusal}");
        assert!(victim.lives());
    };
    let mut titled = Command::new("bash");
    titled.args(["-c", "echo ready; exec -a other-name sleep 20"]).process_group(0);
    // `exec` comes after the word: look when the name is there.
    let victim = Victim::start(titled);
    let begun = Instant::now();
    while !std::fs::read(format!("/proc/{}/cmdline", victim.pid())).unwrap().starts_with(b"other-name") {
        assert!(begun.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let refusal = why(execute(&call("process.restart", victim.pid())).await);
    assert!(refusal.contains("begins with \"other-name\"") && victim.lives(), "{refusal}");

    let gone = folder.path().join("gone");
    std::fs::create_dir(&gone).unwrap();
    let mut command = Command::new("bash");
    command.args(["-c", "rmdir \"$PWD\"; echo ready; while :; do sleep 0.05; done"]).process_group(0).current_dir(&gone);
    check(command, "folder is not there").await;

    if Command::new("node").arg("--version").output().is_ok() {
        let mut command = Command::new("node");
        command.args(["-e", "process.title = 'agent'; console.log('ready'); setInterval(() => {}, 1000)"]).process_group(0);
        check(command, "title over its command line").await;
    } else {
        eprintln!("skipped: node is not installed");
    }
}

#[tokio::test]
async fn a_restart_that_fails_says_that_the_old_one_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let script = "[ -e again ] && exit 3; touch again; echo ready; trap 'exit 0' TERM; while :; do sleep 0.05; done";
    let mut command = Command::new("bash");
    command.args(["-c", script]).current_dir(folder.path()).process_group(0);
    let victim = Victim::start(command);
    let (_, done) = execute(&call("process.restart", victim.pid())).await.unwrap();
    assert!(!done.verified.holds && done.what.contains("could not start it again"), "{}", done.what);
    assert!(done.verified.how.contains("exit status: 3") && !victim.lives(), "{}", done.verified.how);
}

struct Known(Vec<(&'static str, AgentProcess)>);

impl AgentProcesses for Known {
    fn find(&self, agent: &str) -> Option<AgentProcess> {
        self.0.iter().find(|(name, _)| *name == agent).map(|(_, process)| process.clone())
    }
}

#[tokio::test]
async fn an_agent_is_stopped_by_its_process() {
    let victim = Victim::bash(POLITE);
    let of = |started: Started| AgentProcess { pid: victim.pid(), started, what: "claude in /tmp".to_owned() };
    let known = Known(vec![
        ("a1", of(Started::Ticks(ticks(victim.pid())))),
        ("old", of(Started::Ticks(ticks(victim.pid()) - 500))),
        ("older", of(Started::At(Timestamp::from_secs(1_000)))),
    ]);
    let actions = actions_with(Settings::default(), Some(Arc::new(known)));
    let cancel = CancellationToken::new();
    for (agent, expect) in [("a2", "no agent of that name"), ("old", "another process now"), ("older", "another process now")] {
        let refusal = why(actions.execute(&Call::new("agent.kill").with("agent", agent), &cancel).await);
        assert!(refusal.contains(expect), "{refusal}");
    }
    assert!(victim.lives());
    let (plan, done) = actions.execute(&Call::new("agent.stop").with("agent", "a1").with("group", true), &cancel).await.unwrap();
    assert!(plan.what.contains("of the agent a1 (claude in /tmp)"), "{}", plan.what);
    assert!(done.verified.holds && !victim.lives());
    let refusal = why(execute(&Call::new("agent.stop").with("agent", "a1")).await);
    assert!(refusal.contains("no agents are watched"), "{refusal}");
}

async fn found(call: Call) -> serde_json::Value {
    execute(&call).await.unwrap_or_else(|error| panic!("{error}")).1.answer
}

#[tokio::test]
async fn a_process_is_found_by_its_exact_name_only() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("oddly-named-daemon");
    std::fs::copy("/bin/sleep", &program).unwrap();
    let mut child = Command::new(&program).arg("20").process_group(0).spawn().unwrap();
    // A process that only has the name in its command line, as `pkill -f` would find it.
    let bystander = Victim::bash("echo ready; : oddly-named-daemon; while :; do sleep 0.1; done");
    let answer = found(Call::new("process.find").with("name", "oddly-named-daemon")).await;
    assert_eq!((&answer["count"], &answer["processes"][0]["pid"]), (&1.into(), &child.id().into()), "{answer}");
    assert_eq!(answer["processes"][0]["started"], ticks(child.id()).to_string());
    for name in ["oddly-named", "oddly", ".*", "oddly-named-daemon 20"] {
        assert_eq!(found(Call::new("process.find").with("name", name)).await["count"], 0, "{name}");
    }
    let _ = child.kill();
    let _ = child.wait();
    assert!(bystander.lives());
}

#[tokio::test]
async fn a_process_is_found_by_its_port() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = found(Call::new("process.find").with("port", port)).await;
    assert_eq!(answer["listens"], true);
    let pids: Vec<u64> = answer["processes"].as_array().unwrap().iter().filter_map(|process| process["pid"].as_u64()).collect();
    assert!(pids.contains(&u64::from(std::process::id())), "{answer}");
    drop(listener);
    for call in [Call::new("process.find"), Call::new("process.find").with("port", 70_000), Call::new("process.find").with("port", 0)] {
        assert!(execute(&call).await.is_err());
    }
    let both = Call::new("process.find").with("port", port).with("name", "x");
    assert!(why(execute(&both).await).contains("exactly one"));
}

/// The number of a process that has ended.
fn dead() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

#[tokio::test]
async fn a_stale_pid_file_is_told_and_removed_and_a_good_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("daemon.pid");
    let file = path.to_str().unwrap();
    let victim = Victim::bash(POLITE);
    std::fs::write(&path, format!("{}\n", victim.pid())).unwrap();
    let find = || Call::new("process.find").with("pid_file", file);
    let remove = || Call::new("process.remove_stale_pid_file").with("file", file);
    let answer = found(find()).await;
    assert_eq!((&answer["stale"], &answer["processes"][0]["pid"]), (&false.into(), &victim.pid().into()), "{answer}");
    assert!(why(execute(&remove()).await).contains("lives"));
    assert!(why(execute(&remove().with("name", "bash")).await).contains("lives"));
    // The number was used again by another program.
    assert_eq!(found(find().with("name", "postgres")).await["stale"], true);
    let plan = actions().plan(&remove().with("name", "postgres")).await.unwrap();
    assert!(plan.what.contains("is bash now"), "{}", plan.what);

    std::fs::write(&path, dead().to_string()).unwrap();
    assert_eq!(found(find()).await["stale"], true);
    let plan = actions().plan(&remove()).await.unwrap();
    assert_eq!((plan.affected, path.exists()), (1, true));
    // Written anew between plan and deed: it is another file.
    std::fs::write(&path, format!("{}\n\n", dead())).unwrap();
    let adapter = Processes::new(Settings::default(), None);
    let changed = paramedic_action::Adapter::execute(&adapter, &remove(), &plan, &CancellationToken::new()).await;
    assert!(matches!(changed, Err(ActionError::Changed { .. })), "{changed:?}");
    let (_, done) = execute(&remove()).await.unwrap();
    assert!(done.verified.holds && !path.exists());
    assert!(matches!(execute(&remove()).await, Err(ActionError::NotFound { .. })));
    assert_eq!(found(find()).await["exists"], false);
}

#[tokio::test]
async fn only_pid_files_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let number = dead().to_string();
    for (name, content) in [("sequence", number.as_str()), ("notes.pid", "hello"), ("zero.pid", "0")] {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let call = Call::new("process.remove_stale_pid_file").with("file", path.to_str().unwrap());
        assert!(execute(&call).await.is_err(), "{name}");
        assert!(path.exists());
    }
    let (target, link) = (folder.path().join("target"), folder.path().join("link.pid"));
    std::fs::write(&target, &number).unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    assert!(execute(&Call::new("process.remove_stale_pid_file").with("file", link.to_str().unwrap())).await.is_err());
    assert!(target.exists() && link.exists());
}
