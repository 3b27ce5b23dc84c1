//! Log files named in the settings are followed while they are written and rotated.

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use crate::fixture::{Home, until};

const RECORD: &str = "[2026-11-22T09:00:00.000Z] [ERROR] [agent:billing] Rate limit exceeded\n  conversationId: conv-1\n  userId: user-1\n  errorCode: 429\n";

fn append(file: &std::path::Path, text: &str) {
    fs::File::options().create(true).append(true).open(file).unwrap().write_all(text.as_bytes()).unwrap();
}

#[test]
fn log_files_of_the_settings_are_followed_through_rotation_and_restart() {
    let home = Home::new();
    let logs = home.path().join("logs");
    fs::create_dir_all(&logs).unwrap();
    let settings = home.path().join("paramedic.toml");
    fs::write(&settings, format!("[logs]\nfiles = [\"{}/*.log\"]\nflush_ms = 200\n", logs.display())).unwrap();
    let config = ["--config", settings.to_str().unwrap()];
    let file = logs.join("service.log");
    append(&file, RECORD);

    let count = |running: &crate::fixture::Instance| running.list("/api/v1/events?source=log&limit=100", "events").len();
    let running = home.up_with(&config);
    assert_eq!(until(Duration::from_secs(15), || (count(&running) == 1).then_some(())), Some(()), "{}", home.log());
    append(&file, &RECORD.replace("09:00:00", "09:00:05").replace("user-1", "user-2"));
    assert_eq!(until(Duration::from_secs(15), || (count(&running) == 2).then_some(())), Some(()), "{}", home.log());
    let events = running.list("/api/v1/events?source=log&user=user-2", "events");
    assert_eq!(events.len(), 1, "metadata lines belong to their record: {events:?}");
    assert_eq!(events[0]["agent"], "billing");
    running.stop();

    fs::rename(&file, logs.join("service.log.1")).unwrap();
    append(&file, &RECORD.replace("09:00:00", "09:00:10"));
    let running = home.up_with(&config);
    assert_eq!(until(Duration::from_secs(15), || (count(&running) == 3).then_some(())), Some(()), "{}", home.log());
    std::thread::sleep(Duration::from_millis(800));
    assert_eq!(count(&running), 3, "nothing is read twice");
    running.stop();
}
