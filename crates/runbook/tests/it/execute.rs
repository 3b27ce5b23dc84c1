//! Programs that misbehave: nothing hangs, nothing leaks, and what happened is known.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use paramedic_runbook::classify::Effect;
use paramedic_runbook::execute::{About, Hands, Live, OUTPUT_BYTES_MAX, Order, Settings};
use paramedic_runbook::outcome::Outcome;
use paramedic_runbook::render::Work;
use tokio_util::sync::CancellationToken;

fn order(script: &str, timeout_ms: u64) -> Order {
    Order {
        work: Work::Sh { script: script.to_owned(), environment: BTreeMap::new() },
        effect: Effect::Read,
        timeout: Duration::from_millis(timeout_ms),
        secrets: Vec::new(),
        redact: Vec::new(),
        window: None,
        dry: false,
        live: None,
        about: About::default(),
    }
}

fn hands() -> Hands {
    Hands { settings: Settings { grace_ms: 300, ..Settings::default() }, ..Hands::default() }
}

async fn run(script: &str, timeout_ms: u64) -> Outcome {
    hands().carry(&order(script, timeout_ms), &CancellationToken::new()).await
}

/// Whether a process lives; one that ended and was not collected does not.
fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[tokio::test]
async fn a_program_says_how_it_ended() {
    let outcome = run("echo out; echo err >&2; exit 3", 5_000).await;
    assert_eq!((outcome.exit, outcome.stdout.text.as_str(), outcome.stderr.text.as_str()), (Some(3), "out\n", "err\n"));
    assert_eq!((outcome.fault.clone(), outcome.timed_out, outcome.is_ok()), (None, false, false));
    let outcome = run("kill -SEGV $$", 5_000).await;
    assert_eq!((outcome.exit, outcome.signal), (None, Some(11)));
    let outcome = run("echo 0.25", 5_000).await;
    assert_eq!(outcome.value, Some(0.25));
    let outcome = run("echo '{\"a\": [1, 2]}'", 5_000).await;
    assert_eq!(outcome.json, Some(serde_json::json!({"a": [1, 2]})));
}

#[tokio::test]
async fn there_is_nothing_to_read_and_no_terminal_to_ask_at() {
    let outcome = run("cat; read -r line; echo \"read $?\"; (exec </dev/tty) 2>/dev/null || echo none; tty", 5_000).await;
    assert_eq!(outcome.stdout.text, "read 1\nnone\nnot a tty\n", "{outcome:?}");
}

#[tokio::test]
async fn only_what_is_allowed_is_in_the_environment() {
    let mut order = order("env", 5_000);
    let inputs = BTreeMap::from([("note".to_owned(), "$(touch /tmp/paramedic-never); `id`; ' \" \\ && rm -rf /".to_owned())]);
    order.work =
        Work::Sh { script: "printf '%s' \"$note\"; echo; env | cut -d= -f1 | sort | tr '\\n' ' '".to_owned(), environment: inputs.clone() };
    let outcome = hands().carry(&order, &CancellationToken::new()).await;
    let (first, names) = outcome.stdout.text.split_once('\n').expect("two lines");
    assert_eq!(first, inputs["note"], "a value is never text of a script");
    assert!(!std::path::Path::new("/tmp/paramedic-never").exists());
    let allowed = [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "LANG",
        "LC_ALL",
        "TZ",
        "KUBECONFIG",
        "note",
        "PARAMEDIC_STEP",
        "TERM",
        "PWD",
        "SHLVL",
        "_",
        "OLDPWD",
    ];
    let others: Vec<&str> = names.split_whitespace().filter(|name| !allowed.contains(name)).collect();
    assert_eq!(others, [] as [&str; 0], "cargo's own variables must not be there");
}

#[tokio::test]
async fn what_never_ends_is_ended() {
    let begun = Instant::now();
    let outcome = run("echo before; sleep 1000", 300).await;
    assert!(outcome.timed_out && !outcome.is_ok(), "{outcome:?}");
    assert_eq!(outcome.stdout.text, "before\n");
    assert!(outcome.fault.as_deref().is_some_and(|fault| fault.contains("300 ms")));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn what_ignores_the_request_is_killed() {
    let folder = folder();
    let file = folder.path().join("pid");
    let script = format!("trap '' TERM INT HUP; echo $$ > {}; while true; do sleep 0.05; done", file.display());
    let begun = Instant::now();
    let outcome = run(&script, 500).await;
    assert_eq!((outcome.timed_out, outcome.signal), (true, Some(9)), "{outcome:?}");
    assert!(begun.elapsed() < Duration::from_secs(6));
    assert!(!lives(&std::fs::read_to_string(file).expect("it wrote its number")));
}

#[tokio::test]
async fn children_that_fork_are_gone_too() {
    let folder = folder();
    let path = folder.path().display();
    // In the background, in a group of its own, in a session of its own, stopped, and one that ignores the request.
    let script = format!(
        "set -m; sleep 1001 & echo $! > {path}/a; \
         setsid bash -c 'trap \"\" TERM; echo $$ > {path}/b; sleep 1002; sleep 1003' & \
         (trap '' TERM; exec sleep 1004) & echo $! > {path}/c; \
         sleep 1005 & echo $! > {path}/d; kill -STOP $!; \
         sleep 1006"
    );
    let outcome = run(&script, 800).await;
    assert!(outcome.timed_out, "{outcome:?}");
    for name in ["a", "b", "c", "d"] {
        let pid = std::fs::read_to_string(folder.path().join(name)).unwrap_or_else(|_| panic!("{name} was started"));
        assert!(!lives(&pid), "{name} lives");
    }
}

#[tokio::test]
async fn what_is_left_in_the_background_is_ended_and_not_waited_for() {
    let folder = folder();
    let file = folder.path().join("pid");
    let begun = Instant::now();
    let outcome = run(&format!("sleep 1000 & echo $! > {}; echo done", file.display()), 20_000).await;
    assert_eq!((outcome.exit, outcome.stdout.text.as_str(), outcome.left_behind), (Some(0), "done\n", 1), "{outcome:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "it holds the output open: {:?}", begun.elapsed());
    assert!(!lives(&std::fs::read_to_string(file).expect("it was started")));
}

#[tokio::test]
async fn output_that_is_closed_early_changes_nothing() {
    let outcome = run("echo first; exec >&- 2>&-; sleep 0.3; exit 4", 5_000).await;
    assert_eq!((outcome.exit, outcome.stdout.text.as_str()), (Some(4), "first\n"), "{outcome:?}");
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gigabyte_of_output_is_read_and_not_kept() {
    let before = resident_kib();
    let outcome = run("echo begin; head -c 1073741824 /dev/zero | tr '\\0' 'x'; echo; echo end", 60_000).await;
    assert_eq!((outcome.exit, outcome.stdout.bytes), (Some(0), 1_073_741_824 + 11), "{:?}", outcome.fault);
    assert!(outcome.stdout.cut && outcome.stdout.text.len() <= OUTPUT_BYTES_MAX + 100);
    assert!(outcome.stdout.text.starts_with("begin") && outcome.stdout.text.ends_with("end\n"));
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB");
}

#[tokio::test]
async fn endless_output_ends_with_its_time() {
    let outcome = run("yes", 400).await;
    assert!(outcome.timed_out && outcome.stdout.cut, "{:?}", outcome.fault);
}

#[tokio::test]
async fn secrets_are_not_shown() {
    let key = format!("sk-ant-api03-{}", "A1b2C3d4".repeat(8));
    let mut order = order(&format!("echo key {key}; echo postgres://app:hunter2@db/x >&2; echo input $token; echo case-4711"), 5_000);
    order.work = match order.work {
        Work::Sh { script, .. } => Work::Sh { script, environment: BTreeMap::from([("token".to_owned(), "correct-horse".to_owned())]) },
        other => other,
    };
    order.secrets = vec!["correct-horse".to_owned()];
    order.redact = vec!["case-[0-9]+".to_owned()];
    let outcome = hands().carry(&order, &CancellationToken::new()).await;
    let shown = format!("{outcome:?}");
    for secret in [key.as_str(), "hunter2", "correct-horse", "4711"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(outcome.stdout.text.contains("input ***"), "{shown}");
}

#[tokio::test]
async fn a_full_disk_is_an_outcome() {
    if !std::path::Path::new("/dev/full").exists() {
        eprintln!("skipped: there is no /dev/full");
        return;
    }
    let outcome = run("echo much > /dev/full && echo written", 5_000).await;
    assert_eq!(outcome.exit, Some(1));
    assert!(outcome.stderr.text.contains("No space left on device"), "{outcome:?}");
}

#[tokio::test]
async fn what_cannot_be_started_is_an_outcome() {
    let mut unknown = order("", 5_000);
    unknown.work = Work::Kubectl { argv: vec!["paramedic-no-such-program".to_owned()] };
    let outcome = hands().carry(&unknown, &CancellationToken::new()).await;
    assert_eq!(outcome.fault.as_deref(), Some("paramedic-no-such-program is not installed"));
    let nowhere = Hands { settings: Settings { folder: "/no/such/folder".into(), ..Settings::default() }, ..Hands::default() };
    let outcome = nowhere.carry(&order("true", 5_000), &CancellationToken::new()).await;
    assert!(outcome.fault.as_deref().is_some_and(|fault| fault.contains("/no/such/folder")), "{outcome:?}");
}

#[tokio::test]
async fn unset_variables_end_a_script_and_a_failure_ends_what_changes() {
    let outcome = run("echo before; echo $nobody_set_this; echo after", 5_000).await;
    assert_eq!((outcome.stdout.text.as_str(), outcome.is_ok()), ("before\n", false));
    let mut writes = order("false; echo after", 5_000);
    writes.effect = Effect::Write;
    let outcome = hands().carry(&writes, &CancellationToken::new()).await;
    assert_eq!((outcome.stdout.text.as_str(), outcome.exit), ("", Some(1)));
}

#[tokio::test]
async fn what_is_called_off_or_forgotten_is_gone() {
    let folder = folder();
    let file = folder.path().join("pid");
    let script = format!("echo $$ > {}; sleep 1000", file.display());
    let written = || async {
        while std::fs::read_to_string(&file).unwrap_or_default().trim().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let pid = std::fs::read_to_string(&file).expect("reads");
        std::fs::remove_file(&file).expect("removes");
        pid
    };
    let cancel = CancellationToken::new();
    let (outcome, pid) = tokio::join!(async { hands().carry(&order(&script, 60_000), &cancel).await }, async {
        let pid = written().await;
        cancel.cancel();
        pid
    });
    assert_eq!(outcome.fault.as_deref(), Some("it was called off and killed"));
    assert!(!lives(&pid));
    // Whoever waits is dropped: a server that shuts down, a request that was given up.
    let task = tokio::spawn(async move { hands().carry(&order(&script, 60_000), &CancellationToken::new()).await });
    let pid = written().await;
    task.abort();
    let _ = task.await;
    let begun = Instant::now();
    while lives(&pid) && begun.elapsed() < Duration::from_secs(3) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!lives(&pid));
}

#[tokio::test]
async fn no_request_is_answered_by_a_server_that_is_not_there() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = listener.local_addr().expect("an address").port();
    let silent = |work: Work, timeout_ms: u64| Order { work, timeout: Duration::from_millis(timeout_ms), ..order("", 0) };
    let hands = Hands {
        settings: Settings {
            postgres: Some(format!("postgres://app:hunter2@127.0.0.1:{port}/x")),
            redis: Some(format!("redis://:hunter2@127.0.0.1:{port}/")),
            ..Settings::default()
        },
        ..Hands::default()
    };
    let works = || {
        let url = format!("http://127.0.0.1:{port}/");
        [
            Work::Http { method: "GET".to_owned(), url, headers: Vec::new(), body: String::new() },
            Work::Sql { statement: "SELECT 1".to_owned() },
            Work::Redis { commands: vec![vec!["PING".to_owned()]] },
        ]
    };
    // It accepts and says nothing.
    for work in works() {
        let begun = Instant::now();
        let outcome = hands.carry(&silent(work.clone(), 300), &CancellationToken::new()).await;
        assert!(outcome.fault.is_some() && begun.elapsed() < Duration::from_secs(3), "{work:?}: {outcome:?}");
        assert!(!format!("{outcome:?}").contains("hunter2"));
    }
    drop(listener);
    for work in works() {
        let outcome = hands.carry(&silent(work.clone(), 2_000), &CancellationToken::new()).await;
        assert!(outcome.fault.is_some() && !format!("{outcome:?}").contains("hunter2"), "{work:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn what_forks_twice_and_leaves_its_session_is_gone_when_the_time_is_over() {
    let folder = folder();
    let path = folder.path().display();
    // The parent of each is gone: nobody but the mark in its environment knows whose child it is.
    let script = format!(
        "(setsid bash -c '(trap \"\" TERM HUP; echo $BASHPID > {path}/a; exec sleep 1007 >/dev/null 2>&1) & exit' &); \
         (setsid setsid bash -c 'echo $$ > {path}/b; exec sleep 1008' >/dev/null 2>&1 &); \
         sleep 1009"
    );
    let outcome = run(&script, 900).await;
    assert!(outcome.timed_out, "{outcome:?}");
    for name in ["a", "b"] {
        let pid = std::fs::read_to_string(folder.path().join(name)).unwrap_or_else(|_| panic!("{name} was started"));
        assert!(!lives(&pid), "{name} lives");
    }
}

#[tokio::test]
async fn a_daemon_that_a_program_starts_on_purpose_is_not_waited_for() {
    let folder = folder();
    let file = folder.path().join("pid");
    let begun = Instant::now();
    // It holds the output open; whoever starts a service wants it to stay.
    let outcome = run(&format!("setsid bash -c 'echo $$ > {}; exec sleep 60' & sleep 0.3; echo started", file.display()), 20_000).await;
    let pid = std::fs::read_to_string(&file).expect("it was started");
    let stays = lives(&pid);
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().expect("a number")).expect("a number");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("ends it");
    assert_eq!((outcome.exit, outcome.stdout.text.as_str(), stays), (Some(0), "started\n", true), "{outcome:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn secrets_are_not_shown_while_it_runs() {
    let live = Live::default();
    let key = format!("sk-ant-api03-{}", "A1b2C3d4".repeat(8));
    let mut order = order(&format!("echo key {key}; echo input $token; printf 'correct-'; sleep 0.2; echo horse; sleep 30"), 1_500);
    order.work = match order.work {
        Work::Sh { script, .. } => Work::Sh { script, environment: BTreeMap::from([("token".to_owned(), "correct-horse".to_owned())]) },
        other => other,
    };
    order.secrets = vec!["correct-horse".to_owned()];
    order.live = Some(live.clone());
    let watch = async {
        let mut seen = String::new();
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            seen.push_str(&live.now().map(|(_, text)| text).unwrap_or_default());
        }
        seen
    };
    let hands = hands();
    let cancel = CancellationToken::new();
    let (outcome, seen) = tokio::join!(hands.carry(&order, &cancel), watch);
    assert!(outcome.timed_out && !outcome.stdout.text.contains("horse"), "{outcome:?}");
    assert!(!seen.contains("A1b2C3d4") && !seen.contains("horse") && !seen.contains("correct-"), "{seen}");
}
