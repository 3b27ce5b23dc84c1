//! Programs and disks that misbehave under a step: nothing hangs, nothing leaks, the record is complete.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{QUEUE, Stage, WITHIN, a_moment, approve, call, hash, run_until, start, step, view, waiting};
use crate::fixture::{Instance, until};
use crate::{needs, skip};

/// One runbook whose fix does this.
fn with_fix(script: &str, timeout: &str) -> String {
    let text = QUEUE.replace("echo \"fix $word\" >> \"$folder/lines\"", script);
    text.replace("timeout=10s verify", &format!("timeout={timeout} verify"))
}

/// Programs that carry this word in their command line.
fn marked(word: &str) -> Vec<i32> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let numbered = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let has = |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(word));
    numbered.filter(has).collect()
}

fn peak_kib(instance: &Instance) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", instance.child.id())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// Carries the fix out, and gives the run when the step is over.
#[track_caller]
fn carried(instance: &Instance) -> (String, Value) {
    let (run, seen) = waiting(instance, "queue", &json!({}));
    assert_eq!(approve(instance, "ana", &run, "fix", &hash(&seen, "fix")).status, 200);
    let over = run_until(instance, &run, "carried out", |view| step(view, "fix")["last"].is_object());
    (run, over)
}

#[test]
fn a_step_that_never_ends_is_ended_with_everything_that_it_started() {
    let word = format!("97531.{}", std::process::id());
    let script = format!(
        "trap '' TERM INT HUP\nsetsid bash -c \"trap '' TERM; setsid sleep {word} & sleep {word}\" < /dev/null > /dev/null 2>&1 &\nsleep {word} &\nwhile true; do sleep {word}; done"
    );
    let stage = Stage::with(&[&with_fix(&script, "2s")], "[runbook.execute]\ngrace_ms = 300\n");
    let instance = stage.up();
    let begun = Instant::now();
    let (run, over) = carried(&instance);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let last = &step(&over, "fix")["last"];
    assert!(last["verdict"] == "failed" && last["why"].as_str().unwrap().contains("killed"), "{last:#}");
    let left = until(Duration::from_secs(5), || marked(&word).is_empty().then_some(()));
    assert!(left.is_some(), "still there: {:?}", marked(&word));
    let record = instance.json(&format!("/api/v1/runs/{run}/record?limit=1000")).to_string();
    assert!(record.contains("\"signal\":9") || record.contains("killed"), "{record}");
    stage.no_panic();
}

#[test]
fn a_step_that_prints_a_gigabyte_costs_no_memory_and_its_secrets_are_nowhere() {
    let secret = "sk-ant-api03-Zz9Yy8Xx7Ww6Vv5Uu4Tt3Ss2Rr1Qq0PpOoNn-fake";
    let script = format!(
        "echo \"token={secret}\"; echo \"postgres://bo:hunter2hunter@db/x\" >&2; sleep 1; head -c 1000000000 /dev/zero | tr '\\\\0' x; echo; echo \"again {secret}\""
    )
    .replace("'\\\\0'", "'\\0'");
    let stage = Stage::new(&[&with_fix(&script, "60s")]);
    let instance = stage.up();
    let (run, seen) = waiting(&instance, "queue", &json!({}));
    let before = peak_kib(&instance);
    assert_eq!(approve(&instance, "ana", &run, "fix", &hash(&seen, "fix")).status, 200);
    let live = until(Duration::from_secs(5), || {
        step(&view(&instance, &run), "fix")["live"].as_str().map(str::to_owned).filter(|text| !text.is_empty())
    });
    println!("live: {live:?}");
    assert!(live.is_none_or(|text| !text.contains("Yy8Xx7") && !text.contains("hunter2hunter")));
    let over = until(Duration::from_secs(60), || Some(view(&instance, &run)).filter(|view| step(view, "fix")["last"].is_object()))
        .expect("it ends");
    let last = &step(&over, "fix")["last"];
    assert!(last["output_bytes"].as_u64().unwrap() >= 1_000_000_000, "{}", last["output_bytes"]);
    let grown = peak_kib(&instance).saturating_sub(before);
    assert!(grown < 100 * 1024, "{grown} KiB more");
    println!("{grown} KiB more for a gigabyte");
    let mut told = vec![over.to_string(), instance.json(&format!("/api/v1/runs/{run}/record?limit=1000")).to_string(), stage.home.log()];
    for page in [format!("/runs/{run}"), "/runs".to_owned(), "/approvals".to_owned()] {
        told.push(instance.get(&page).text());
    }
    for arguments in [vec!["run", &run], vec!["run", &run, "record"], vec!["run", &run, "--json"]] {
        let output = stage.by("ana", &arguments);
        told.push(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr));
    }
    // Its own text in the runbook is the team's; what it printed is not theirs to show. The argv is masked as well.
    for text in &told {
        for part in ["Yy8Xx7Ww6", "hunter2hunter"] {
            assert!(!text.contains(part), "{part} in {}", &text[..text.len().min(2_000)]);
        }
    }
    assert_eq!(instance.stop(), Some(0));
    for file in files(&stage.home.data()) {
        let bytes = fs::read(&file).unwrap();
        for part in ["Yy8Xx7Ww6", "hunter2hunter"] {
            assert!(!bytes.windows(part.len()).any(|window| window == part.as_bytes()), "{part} in {}", file.display());
        }
    }
    stage.journal_holds();
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(files(&path))
        } else if path.is_file() {
            all.push(path)
        }
    }
    all
}

#[test]
fn a_step_that_closes_its_output_or_asks_at_a_terminal_ends() {
    for (script, expected) in [
        ("exec 1>&- 2>&-; sleep 0.2; echo lost; true", "ok"),
        ("exec 1>&- 2>&-; sleep 0.2; exit 7", "unexpected"),
        ("read -r answer; echo \"got $answer\"", "unexpected"),
        ("cat; echo end", "ok"),
        ("printf '\\033[31m\\007\\000bell'", "ok"),
    ] {
        let stage = Stage::new(&[&with_fix(script, "5s")]);
        let instance = stage.up();
        let run = start(&instance, "queue", &json!({}));
        let seen = run_until(&instance, &run, "looked at", |view| view["causes"].as_array().is_some_and(|all| !all.is_empty()));
        let answer = approve(&instance, "ana", &run, "fix", &hash(&seen, "fix"));
        if answer.status == 409 {
            // It is known to wait for a person, and is not even begun.
            println!("{script}: {}", answer.text());
            continue;
        }
        let over = run_until(&instance, &run, "carried out", |view| step(view, "fix")["last"].is_object());
        assert_eq!(step(&over, "fix")["last"]["verdict"], expected, "{script}: {:#}", step(&over, "fix"));
        let output = stage.by("ana", &["run", &run]);
        assert!(!output.stdout.contains(&0x1b) && !output.stdout.contains(&7), "{script}");
        stage.no_panic();
    }
}

/// A folder on a disk of its own that is soon full; `None` where nothing may be mounted.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn mount(kib: u32) -> Option<Self> {
        let folder = tempfile::tempdir().ok()?;
        let size = format!("size={kib}k");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "paramedic-test"]).arg(folder.path()).output().ok()?;
        mounted.status.success().then_some(Self { folder })
    }

    fn remount(&self, options: &str) -> bool {
        let done = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.folder.path()).output();
        done.is_ok_and(|output| output.status.success())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.folder.path()).output());
    }
}

#[test]
fn what_cannot_be_written_down_is_not_done() {
    needs!("mount", "umount");
    let Some(disk) = Disk::mount(64 * 1024) else { skip!("nothing may be mounted here") };
    for trouble in ["full", "read-only"] {
        let stage = Stage::new(&[QUEUE]);
        let data = disk.folder.path().join(trouble);
        fs::create_dir(&data).unwrap();
        std::os::unix::fs::symlink(&data, stage.home.data()).unwrap();
        let instance = stage.up();
        let (run, seen) = waiting(&instance, "queue", &json!({}));
        let (other, _) = waiting(&instance, "queue", &json!({}));
        let filler = disk.folder.path().join("filler");
        if trouble == "full" {
            drop(Command::new("dd").args(["if=/dev/zero", "bs=64k", &format!("of={}", filler.display())]).output());
        } else if !disk.remount("ro") {
            println!("skipped: the disk cannot be made read-only while it is used");
            continue;
        }
        let mut told = Vec::new();
        for _ in 0..3 {
            let answer = approve(&instance, "ana", &run, "fix", &hash(&seen, "fix"));
            assert!(matches!(answer.status, 409 | 503), "{trouble}: {} {}", answer.status, answer.text());
            told.push(answer.status);
        }
        let stop = call(&instance, "ana", "/api/v1/brake/stop", &json!({ "why": "disk" }));
        println!("{trouble}: agreements {told:?}, stop {}", stop.status);
        a_moment();
        assert!(stage.lines().is_empty(), "{trouble}: it ran without a record: {:#}", view(&instance, &run));
        assert_eq!(
            instance.json("/api/v1/brake")["stopped"],
            "writes",
            "{trouble}: who stops is obeyed even when it cannot be written down"
        );
        assert!(instance.get(&format!("/runs/{run}")).status == 200, "{trouble}: it can still be looked at");
        // Room again: it goes on, with a word of a person.
        if trouble == "full" {
            fs::remove_file(&filler).unwrap();
        } else {
            assert!(disk.remount("rw"));
        }
        let lifted = until(WITHIN, || {
            let answer = call(&instance, "ana", "/api/v1/brake/lift", &json!({ "why": "room" }));
            thread::sleep(Duration::from_millis(100));
            (answer.status == 200).then_some(())
        });
        assert!(lifted.is_some(), "{trouble}: {}", stage.home.log());
        a_moment();
        assert!(stage.lines().is_empty(), "{trouble}: an agreement that was refused counts later: {:?}", stage.lines());
        let again = until(WITHIN, || {
            Some(approve(&instance, "ana", &other, "fix", &hash(&view(&instance, &other), "fix"))).filter(|answer| answer.status == 200)
        });
        assert!(again.is_some(), "{trouble}: {}", stage.home.log());
        run_until(&instance, &other, "done", |view| view["ending"] == "done");
        assert_eq!(stage.lines().len(), 1);
        stage.no_panic();
        assert_eq!(instance.stop(), Some(0), "{trouble}");
        stage.journal_holds();
    }
}

#[test]
fn nothing_of_a_step_outlives_a_killed_instance_unseen() {
    let word = format!("86421.{}", std::process::id());
    let stage = Stage::new(&[&with_fix(&format!("touch \"$folder/begun\"; sleep {word}"), "60s")]);
    let instance = stage.up();
    let (run, seen) = waiting(&instance, "queue", &json!({}));
    assert_eq!(approve(&instance, "ana", &run, "fix", &hash(&seen, "fix")).status, 200);
    until(WITHIN, || stage.folder().join("begun").exists().then_some(())).expect("it begins");
    instance.kill();
    let instance = stage.up();
    let after = run_until(&instance, &run, "in doubt", |view| step(view, "fix")["state"] == "interrupted");
    println!("after a kill: {:?} still there", marked(&word));
    // Agreed to by somebody before; nothing begins again by itself.
    a_moment();
    assert_eq!(step(&view(&instance, &run), "fix")["attempts"], 1, "{after:#}");
    for pid in marked(&word) {
        drop(Command::new("kill").args(["-9", &pid.to_string()]).output());
    }
}
