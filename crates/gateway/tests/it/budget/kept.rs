//! What outlives a restart, a kill, a broken disk and a damaged log.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use paramedic_gateway::budget::{Ledger, Period, Settings, Whose, Why};
use paramedic_model::{Clock, ManualClock, Usage};

use super::{ask, at, cap, noon, of_user, spend, stands, told};

fn open(dir: &Path, clock: &Arc<ManualClock>) -> Arc<Ledger> {
    Ledger::open(Some(dir), Settings::default(), Arc::clone(clock) as Arc<dyn Clock>).unwrap()
}

/// The log as it is found after a kill at this moment, in a directory of its own.
fn killed(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::copy(dir.join("spend.log"), copy.path().join("spend.log")).unwrap();
    copy
}

fn until(what: &str, mut there: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !there() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn log_has(dir: &Path, text: &str) -> bool {
    fs::read_to_string(dir.join("spend.log")).is_ok_and(|log| log.contains(text))
}

#[tokio::test]
async fn a_kill_loses_nothing_that_was_written_and_open_calls_count_at_their_estimate() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), noon());
    let ledger = open(dir.path(), &clock);
    let caps = [cap("all", Period::Day, 1000), cap("user:ana b\n%", Period::Week, 100)];
    until("the log is there", || log_has(dir.path(), "paramedic-spend 1\n"));
    let mut warnings = ledger.warnings();
    spend(&ledger, &caps, of_user("ana b\n%"), 60).await;
    assert_eq!(told(&mut warnings).len(), 1);
    let runs = ask(&ledger, &caps, of_user("ana b\n%"), 25, 0).await.unwrap();
    let unasked = ask(&ledger, &caps, of_user("ana b\n%"), 5, 0).await.unwrap();
    unasked.release();
    until("the calls are written", || log_has(dir.path(), " X 3\n"));
    let copy = killed(dir.path());
    let again = open(copy.path(), &clock);
    let mut warnings = again.warnings();
    assert_eq!((stands(&again, &caps[0]), stands(&again, &caps[1])), ((85, 0, 0), (85, 0, 0)));
    // Half of it was told before; more than 80 percent is reached now, and told when the next call asks.
    spend(&again, &caps, of_user("ana b\n%"), 1).await;
    assert_eq!(told(&mut warnings), [(80, 85, 100)]);
    spend(&again, &caps, of_user("ana b\n%"), 14).await;
    assert_eq!(ask(&again, &caps, of_user("ana b\n%"), 1, 0).await.unwrap_err().why, Why::Spent);
    again.close();
    // And again, without a kill: what was known at the first opening is there once.
    assert_eq!(stands(&open(copy.path(), &clock), &caps[1]), (100, 0, 0));
    // The first one is still at work, and its call ends there.
    runs.settle(20, &Usage::default());
    assert_eq!(stands(&ledger, &caps[0]), (80, 0, 0));
}

#[tokio::test]
async fn torn_and_damaged_lines_cost_no_more_than_themselves() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), noon());
    let caps = [cap("all", Period::Day, 1000)];
    let ledger = open(dir.path(), &clock);
    until("the log is there", || log_has(dir.path(), "paramedic-spend 1\n"));
    for pico in [1, 10, 100, 200] {
        spend(&ledger, &caps, of_user("a"), pico).await;
    }
    ledger.close();
    let whole = fs::read(dir.path().join("spend.log")).unwrap();
    let text = String::from_utf8(whole.clone()).unwrap();
    assert!(text.starts_with("paramedic-spend 1\n"));
    // Every end that a kill can leave is read, and never as more than was spent.
    for end in (0..whole.len()).step_by(5) {
        fs::write(dir.path().join("spend.log"), &whole[..end]).unwrap();
        let (spent, reserved, running) = stands(&open(dir.path(), &clock), &caps[0]);
        assert!(spent <= 311 && reserved == 0 && running == 0, "{end}: {spent}");
    }
    // A settlement that cannot be read leaves its call at the estimate; lines of no sense are skipped.
    let settled = text.lines().find(|line| line.contains(" S 2 ")).unwrap();
    let damaged = text.replace(settled, "0123456 S 2 nonsense").replace("paramedic-spend 1\n", "paramedic-spend 1\n\n\u{0}\nxx\n");
    let long = format!("{damaged}{}\n", "x".repeat(100_000));
    fs::write(dir.path().join("spend.log"), long).unwrap();
    assert_eq!(stands(&open(dir.path(), &clock), &caps[0]), (311, 0, 0));
    // A log of a later version is set aside whole.
    fs::write(dir.path().join("spend.log"), text.replace("spend 1", "spend 2")).unwrap();
    assert_eq!(stands(&open(dir.path(), &clock), &caps[0]), (0, 0, 0));
    assert!(fs::read_to_string(dir.path().join("spend.log.unread")).unwrap().starts_with("paramedic-spend 2\n"));
}

#[tokio::test]
async fn the_first_format_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/budget/spend-1.log");
    fs::copy(fixture, dir.path().join("spend.log")).unwrap();
    let ledger = open(dir.path(), &at("2026-11-22T13:00:00Z"));
    let (ana, all, life) = (cap("user:ana", Period::Day, 1000), cap("all", Period::Month, 1000), cap("session:s 1", Period::Life, 500));
    assert_eq!(stands(&ledger, &ana), (160, 0, 0));
    assert_eq!(stands(&ledger, &all), (560, 0, 0));
    assert_eq!(stands(&ledger, &life), (460, 0, 0));
    let top = ledger.top(Whose::Session, Period::Month, 5);
    assert_eq!((&*top[0].name, top[0].calls, top[0].output_tokens), ("session:s 1", 4, 22));
    assert_eq!(ledger.hours("all").unwrap().iter().map(|hour| hour.calls).sum::<u64>(), 5);
    // What was told then is not told again.
    let mut warnings = ledger.warnings();
    spend(&ledger, &[life], paramedic_gateway::budget::Purses { session: Some("s 1"), ..Default::default() }, 40).await;
    assert_eq!(told(&mut warnings), [(100, 500, 500)]);
}

#[tokio::test]
async fn a_long_log_is_written_anew_and_windows_that_are_over_go() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), noon());
    let settings = Settings { log_bytes_max: 20_000, batch_ms: 1, ..Settings::default() };
    let path = dir.path().join("spend.log");
    let caps = [cap("user:ana", Period::Month, u64::MAX)];
    {
        let ledger = Ledger::open(Some(dir.path()), settings, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        for _ in 0..50 {
            for _ in 0..40 {
                spend(&ledger, &caps, of_user("ana"), 3).await;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(stands(&ledger, &caps[0]), (6000, 0, 0));
    }
    let size = fs::metadata(&path).unwrap().len();
    assert!(size < 100_000, "2000 calls are some 200 kB, and the log is {size} bytes");
    clock.advance(Duration::from_secs(20 * 86_400));
    let ledger = open(dir.path(), &clock);
    assert_eq!(stands(&ledger, &caps[0]), (0, 0, 0), "another month");
    ledger.close();
    assert!(log_has(dir.path(), "user:ana"), "the month before this one is kept");
    clock.advance(Duration::from_secs(31 * 86_400));
    open(dir.path(), &clock).close();
    assert!(!log_has(dir.path(), "user:ana"));
}

#[tokio::test]
async fn a_disk_that_fails_stops_no_call_and_is_made_up_for() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), noon());
    let caps = [cap("all", Period::Day, 1000)];
    // Where the directory should be there is a file.
    let data = dir.path().join("data");
    fs::write(&data, "in the way").unwrap();
    assert!(Ledger::open(Some(&data), Settings::default(), Arc::clone(&clock) as Arc<dyn Clock>).is_err(), "it cannot be read");
    fs::remove_file(&data).unwrap();
    let ledger = open(&data, &clock);
    until("the log is there", || log_has(&data, "paramedic-spend 1\n"));
    spend(&ledger, &caps, of_user("a"), 5).await;
    until("the call is written", || log_has(&data, " S 1 "));
    // It goes away while the gateway runs, and cannot be made again for a while.
    fs::remove_dir_all(&data).unwrap();
    fs::write(&data, "in the way").unwrap();
    for _ in 0..20 {
        spend(&ledger, &caps, of_user("a"), 5).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    fs::remove_file(&data).unwrap();
    until("all is written anew", || log_has(&data, "user:a"));
    let copy = killed(&data);
    assert_eq!(stands(&open(copy.path(), &clock), &caps[0]), (105, 0, 0));
}

#[tokio::test]
async fn who_opens_a_directory_takes_it_over() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), noon());
    let caps = [cap("all", Period::Day, 1000)];
    let old =
        Ledger::open(Some(dir.path()), Settings { sync_ms: 10, ..Settings::default() }, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    spend(&old, &caps, of_user("a"), 5).await;
    let draining = ask(&old, &caps, of_user("a"), 7, 0).await.unwrap();
    until("it is written", || log_has(dir.path(), " R 2 "));
    let new = open(dir.path(), &clock);
    assert_eq!(stands(&new, &caps[0]), (12, 0, 0));
    until("the new one has begun its log", || !log_has(dir.path(), " R 2 "));
    spend(&new, &caps, of_user("a"), 100).await;
    until("the new one has written", || log_has(dir.path(), " 100 "));
    draining.settle(6, &Usage::default());
    old.close();
    new.close();
    assert_eq!(stands(&open(dir.path(), &clock), &caps[0]), (112, 0, 0), "the old one left the new one's log alone");
}
