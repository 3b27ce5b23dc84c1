//! Hostile and broken input: a clear message, nothing lost, still running.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::fixture::{Home, until};
use crate::skip;

const SESSION: &str = "0d5b6a0e-6f0c-4a53-9d0f-2a5f6f1f0c11";

fn prompt(number: u32) -> String {
    let minute = number / 60;
    let second = number % 60;
    json!({
        "type": "user", "sessionId": SESSION, "uuid": format!("00000000-0000-4000-8000-{number:012}"), "cwd": "/home/ines/harbour",
        "timestamp": format!("2026-01-01T12:{minute:02}:{second:02}.000Z"), "message": {"role": "user", "content": format!("question {number}")}
    })
    .to_string()
}

fn transcript(home: &Home) -> std::path::PathBuf {
    let folder = home.claude().join("projects/-home-ines-harbour");
    fs::create_dir_all(&folder).unwrap();
    folder.join(format!("{SESSION}.jsonl"))
}

/// Different prompts that were stored. A line that is read twice may be stored twice; it is counted once.
fn count_of(instance: &crate::fixture::Instance) -> usize {
    let events = instance.list(&format!("/api/v1/events?limit=1000&session={SESSION}&kind=prompt"), "events");
    events.iter().map(|event| event["text"].to_string()).collect::<std::collections::BTreeSet<_>>().len()
}

#[test]
fn lines_that_are_no_json_do_not_hide_the_ones_that_are() {
    let home = Home::new();
    let mut file = fs::File::create(transcript(&home)).unwrap();
    let bad: [&[u8]; 6] =
        [b"{\"type\":\"user\",\"message\":", b"\x00\xff\xfe\x80binary", b"", b"[]", b"null", b"{\"type\":\"from-the-future\",\"x\":1}"];
    for (number, line) in (0..).zip(bad) {
        file.write_all(line).unwrap();
        file.write_all(b"\n").unwrap();
        file.write_all(format!("{}\n", prompt(number)).as_bytes()).unwrap();
    }
    drop(file);
    let instance = home.up();
    let all = until(Duration::from_secs(10), || (count_of(&instance) == 6).then_some(()));
    assert!(all.is_some(), "{} of 6 prompts; {}", count_of(&instance), home.log());
    // The same file, read offline: counted, named and survived.
    let report = home.json(&["analyze", home.claude().to_str().unwrap(), "--json", "--no-cache"]);
    assert!(report["bad_lines"].as_u64().unwrap() >= 2, "{report:#}");
}

#[test]
fn a_line_of_a_hundred_megabytes_is_passed_over_in_bounded_memory() {
    let home = Home::new();
    let mut file = fs::File::create(transcript(&home)).unwrap();
    writeln!(file, "{}", prompt(0)).unwrap();
    let chunk = vec![b'x'; 1 << 20];
    file.write_all(b"{\"type\":\"user\",\"message\":\"").unwrap();
    for _ in 0..100 {
        file.write_all(&chunk).unwrap();
    }
    writeln!(file, "\"}}").unwrap();
    writeln!(file, "{}", prompt(1)).unwrap();
    drop(file);
    let instance = home.up();
    let all = until(Duration::from_secs(30), || (count_of(&instance) == 2).then_some(()));
    assert!(all.is_some(), "{} of 2 prompts; {}", count_of(&instance), home.log());
    let status = fs::read_to_string(format!("/proc/{}/status", instance.child.id())).unwrap();
    let peak_kb: u64 = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok()).unwrap();
    assert!(peak_kb < 150_000, "{peak_kb} kB at the peak");
}

#[test]
fn a_file_that_is_truncated_replaced_or_deleted_while_read_is_no_trouble() {
    let home = Home::new();
    let path = transcript(&home);
    fs::write(&path, format!("{}\n{}\n", prompt(0), prompt(1))).unwrap();
    let instance = home.up();
    until(Duration::from_secs(10), || (count_of(&instance) == 2).then_some(())).expect("two prompts");
    // Truncated and begun anew with other lines.
    fs::write(&path, format!("{}\n", prompt(2))).unwrap();
    let third = until(Duration::from_secs(10), || (count_of(&instance) == 3).then_some(()));
    assert!(third.is_some(), "{} of 3; {}", count_of(&instance), home.log());
    // Replaced by another file under the same name.
    let other = path.with_extension("new");
    fs::write(&other, format!("{}\n{}\n", prompt(2), prompt(3))).unwrap();
    fs::rename(&other, &path).unwrap();
    let fourth = until(Duration::from_secs(10), || (count_of(&instance) == 4).then_some(()));
    assert!(fourth.is_some(), "{} of 4; {}", count_of(&instance), home.log());
    assert_eq!(instance.agents()[0]["turns"], 4, "what was read twice is counted once");
    fs::remove_file(&path).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(count_of(&instance), 4, "what was read stays");
    assert_eq!(instance.get("/health/live").status, 200);
}

#[test]
fn half_a_line_waits_for_its_other_half() {
    let home = Home::new();
    let path = transcript(&home);
    let line = prompt(0);
    fs::write(&path, &line[..40]).unwrap();
    let instance = home.up();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(count_of(&instance), 0);
    fs::File::options().append(true).open(&path).unwrap().write_all(format!("{}\n", &line[40..]).as_bytes()).unwrap();
    assert!(until(Duration::from_secs(10), || (count_of(&instance) == 1).then_some(())).is_some(), "{}", home.log());
}

#[test]
fn a_clock_that_steps_back_loses_nothing() {
    let home = Home::new();
    fs::write(transcript(&home), format!("{}\n{}\n{}\n", prompt(50), prompt(10), prompt(51))).unwrap();
    let instance = home.up();
    assert!(until(Duration::from_secs(10), || (count_of(&instance) == 3).then_some(())).is_some(), "{}", home.log());
}

#[test]
fn secrets_are_masked_before_they_are_stored() {
    let home = Home::new();
    // In two parts, so that nobody takes this file for a leak.
    let key = format!("sk-ant-{}", "api03-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-AbCdEfGhIjKlMnOpQrStUvWxYz01234567-AAAA");
    let line = prompt(0).replace("question 0", &format!("use {key} please"));
    fs::write(transcript(&home), format!("{line}\n")).unwrap();
    let instance = home.up();
    until(Duration::from_secs(10), || (count_of(&instance) == 1).then_some(())).expect("the prompt");
    let hook = json!({"session_id": SESSION, "hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_use_id": "toolu_1", "tool_input": {"command": format!("curl -H 'x-api-key: {key}'")}});
    assert!(instance.post_hook(&hook).status < 300);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(instance.stop(), Some(0));
    let mut folders = vec![home.data()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                let bytes = fs::read(&path).unwrap();
                assert!(!bytes.windows(30).any(|window| window == &key.as_bytes()[20..50]), "{} holds the key", path.display());
            }
        }
    }
}

#[test]
fn a_data_folder_that_cannot_be_written_is_named() {
    let home = Home::new();
    fs::create_dir_all(home.data()).unwrap();
    fs::set_permissions(home.data(), fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(home.data().join("probe"), b"").is_ok() {
        // Root may write everywhere; a folder below a file is a wall for root too.
        let wall = home.path().join("wall");
        fs::write(&wall, b"").unwrap();
        let below = wall.join("data");
        let output = home.run(&[
            "up",
            "--http",
            "127.0.0.1:0",
            "--otlp-grpc",
            "",
            "--otlp-http",
            "",
            "--gateway",
            "",
            "--data",
            below.to_str().unwrap(),
        ]);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && message.contains("wall"), "{message}");
        return;
    }
    let output = home.run(&["up", "--http", "127.0.0.1:0", "--otlp-grpc", "", "--otlp-http", "", "--gateway", ""]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && message.contains("data"), "{message}");
}

#[test]
fn a_full_disk_is_told_and_survived() {
    let home = Home::new();
    fs::create_dir_all(home.data()).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(home.data()).output();
    if !mounted.as_ref().is_ok_and(|output| output.status.success()) {
        skip!("a small tmpfs cannot be mounted here (not root)")
    }
    let unmount = Unmount(home.data());
    let mut instance = home.up();
    let path = transcript(&home);
    let mut file = fs::File::create(&path).unwrap();
    for number in 0..3000 {
        writeln!(file, "{}", prompt(number).replace("question", &format!("question {}", "long ".repeat(400)))).unwrap();
    }
    let told = until(Duration::from_secs(30), || {
        let health = instance.get("/health");
        (health.status != 200 || health.text().contains("disk") || home.log().contains("full")).then(|| health.text())
    });
    assert!(told.is_some(), "nobody says that the disk is full: {}", home.log());
    assert!(instance.child.try_wait().unwrap().is_none(), "{}", home.log());
    assert_eq!(instance.get("/health/live").status, 200);
    drop(instance);
    drop(unmount);
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}
