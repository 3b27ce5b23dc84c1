//! Following logs that grow, are rotated, truncated and met again.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use paramedic_collect::config::LogSettings;
use paramedic_collect::log_tail::{Start, run};
use paramedic_collect::metrics::LogMetrics;
use paramedic_collect::tail::{Batch, Offset};
use paramedic_model::{Event, SystemClock};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(20);

fn line(number: usize) -> String {
    format!("[2026-01-14T10:41:23.000Z] [INFO ] [agent:reviewer] line {number}\n")
}

fn append(path: &Path, text: impl AsRef<[u8]>) {
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_ref()).unwrap();
}

/// A follower under test, with what storage would have kept.
struct Tail {
    rx: mpsc::Receiver<Batch>,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    events: Vec<Event>,
    offsets: HashMap<String, Offset>,
    caught_up: u32,
    metrics: LogMetrics,
}

impl Tail {
    fn start(files: &[String], offsets: Vec<Offset>, change: impl FnOnce(&mut LogSettings)) -> Self {
        let mut settings = LogSettings { files: files.to_vec(), flush_ms: 150, rescan_ms: 500, ..LogSettings::default() };
        change(&mut settings);
        let metrics = LogMetrics::default();
        let start = Start { offsets: offsets.clone(), settings, metrics: metrics.clone(), clock: Arc::new(SystemClock) };
        let (tx, rx) = mpsc::channel(2);
        let cancel = CancellationToken::new();
        let task = tokio::spawn({
            let cancel = cancel.clone();
            async move { run(start, tx, cancel).await.unwrap() }
        });
        let offsets = offsets.into_iter().map(|offset| (offset.file.clone(), offset)).collect();
        Self { rx, cancel, task, events: Vec::new(), offsets, caught_up: 0, metrics }
    }

    fn store(&mut self, batch: Batch) {
        self.caught_up += u32::from(batch.caught_up);
        self.events.extend(batch.events);
        self.offsets.extend(batch.offsets.into_iter().map(|offset| (offset.file.clone(), offset)));
    }

    fn texts(&self) -> Vec<String> {
        self.events.iter().map(|event| event.text.to_string()).collect()
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done(self) {
            let left = end.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, self.rx.recv()).await {
                Ok(Some(batch)) => self.store(batch),
                Ok(None) => panic!("the follower ended before {what}"),
                Err(_) => panic!("not within {PATIENCE:?}: {what}; {:?}", self.texts()),
            }
        }
    }

    async fn records(&mut self, count: usize) {
        self.until(&format!("{count} records"), |tail| tail.events.len() >= count).await;
    }

    async fn stop(mut self) -> (Vec<String>, Vec<Offset>) {
        self.cancel.cancel();
        while let Some(batch) = self.rx.recv().await {
            self.store(batch);
        }
        tokio::time::timeout(PATIENCE, &mut self.task).await.expect("ends when cancelled").unwrap();
        (self.texts(), self.offsets.into_values().collect())
    }
}

fn lines(range: std::ops::Range<usize>) -> String {
    range.map(line).collect()
}

fn told(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("line {number}")).collect()
}

fn place(folder: &TempDir, name: &str) -> (std::path::PathBuf, String) {
    let path = folder.path().join(name);
    (path.clone(), path.to_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_what_is_there_and_follows() {
    let folder = TempDir::new().unwrap();
    let (path, name) = place(&folder, "app.log");
    append(&path, lines(0..2));
    let mut tail = Tail::start(std::slice::from_ref(&name), Vec::new(), |_| {});
    tail.until("caught up", |tail| tail.caught_up == 1).await;
    append(&path, &lines(2..3)[..20]);
    tokio::time::sleep(Duration::from_millis(250)).await;
    append(&path, &lines(2..3)[20..]);
    tail.records(3).await;
    assert_eq!(tail.events[0].agent.as_ref().unwrap().as_str(), "reviewer");
    assert_eq!(tail.events[0].attributes["log.file.path"], name.as_str());
    let metrics = tail.metrics.clone();
    let (texts, offsets) = tail.stop().await;
    assert_eq!(texts, told(0..3));
    assert_eq!((metrics.lines.get(), metrics.events.get(), metrics.bytes.get()), (3, 3, lines(0..3).len() as u64));
    assert_eq!((offsets.len(), &*offsets[0].file), (1, format!("log:{name}").as_str()));
    assert_eq!((offsets[0].position, offsets[0].lines), (lines(0..3).len() as u64, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_many_lines_stays_whole_across_writes() {
    let folder = TempDir::new().unwrap();
    let (path, name) = place(&folder, "app.log");
    let mut tail = Tail::start(&[name], Vec::new(), |settings| settings.flush_ms = 600);
    tail.until("caught up", |tail| tail.caught_up == 1).await;
    append(&path, "[2026-01-14T10:41:23.000Z] [ERROR] [agent:reviewer] it broke\n");
    tokio::time::sleep(Duration::from_millis(200)).await;
    append(&path, "  at one (a.js:1:2)\n");
    tokio::time::sleep(Duration::from_millis(200)).await;
    append(&path, "  at two (a.js:3:4)\n");
    tail.records(1).await;
    let stack = tail.events[0].text.to_string();
    assert!(stack.starts_with("it broke") && stack.contains("at one") && stack.contains("at two"), "{stack}");
    let (texts, offsets) = tail.stop().await;
    assert_eq!((texts.len(), offsets[0].position), (1, fs::metadata(&path).unwrap().len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_tells_every_record_exactly_once() {
    let folder = TempDir::new().unwrap();
    let (path, name) = place(&folder, "app.log");
    let (mut all, mut offsets, mut written) = (Vec::new(), Vec::new(), 0);
    for round in 0..6 {
        // The last record is still being gathered when the follower ends, sometimes in the middle of its line.
        append(&path, lines(written..written + 5));
        written += 5;
        let half = line(written);
        append(&path, &half[..10 * round]);
        let mut tail = Tail::start(std::slice::from_ref(&name), offsets, |settings| settings.flush_ms = 60_000);
        tail.until("caught up", |tail| tail.caught_up == 1).await;
        let (texts, kept) = tail.stop().await;
        all.extend(texts);
        offsets = kept;
        append(&path, &half[10 * round..]);
        written += 1;
    }
    let mut tail = Tail::start(&[name], offsets, |_| {});
    let left = written - all.len();
    tail.records(left).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    all.extend(tail.stop().await.0);
    assert_eq!(all, told(0..written));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_loses_nothing_even_when_its_writer_is_late() {
    let folder = TempDir::new().unwrap();
    let (path, name) = place(&folder, "app.log");
    append(&path, lines(0..2));
    let mut tail = Tail::start(&[name], Vec::new(), |_| {});
    tail.until("caught up", |tail| tail.caught_up == 1).await;
    append(&path, lines(2..3));
    fs::rename(&path, folder.path().join("app.log.1")).unwrap();
    append(&folder.path().join("app.log.1"), lines(3..4));
    append(&path, lines(10..11));
    tail.records(5).await;
    append(&folder.path().join("app.log.1"), lines(4..5));
    append(&path, lines(11..12));
    tail.records(7).await;
    assert_eq!(tail.metrics.rotations.get(), 1);
    let (mut texts, offsets) = tail.stop().await;
    texts.sort();
    assert_eq!(texts, ["line 0", "line 1", "line 10", "line 11", "line 2", "line 3", "line 4"]);
    assert_eq!(offsets.iter().map(|offset| offset.position).collect::<Vec<_>>(), [lines(10..12).len() as u64]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_truncates_is_noticed_also_when_the_file_is_longer_at_once() {
    let folder = TempDir::new().unwrap();
    let (path, name) = place(&folder, "app.log");
    append(&path, lines(0..2));
    let mut tail = Tail::start(&[name], Vec::new(), |_| {});
    tail.records(2).await;
    fs::write(&path, lines(2..3)).unwrap();
    tail.records(3).await;
    fs::write(&path, lines(3..9)).unwrap();
    tail.records(9).await;
    assert_eq!(tail.metrics.truncations.get(), 2);
    assert_eq!(tail.stop().await.0, told(0..9));
}

/// Both kinds of patterns, with the file renamed while nobody was looking.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_between_two_runs_loses_and_repeats_nothing() {
    for pattern in ["app.log", "app.log*"] {
        let folder = TempDir::new().unwrap();
        let (path, _) = place(&folder, "app.log");
        let (_, name) = place(&folder, pattern);
        append(&path, lines(0..3));
        let mut tail = Tail::start(std::slice::from_ref(&name), Vec::new(), |_| {});
        tail.records(3).await;
        let (mut all, offsets) = tail.stop().await;
        append(&path, lines(3..5));
        fs::rename(&path, folder.path().join("app.log.1")).unwrap();
        append(&path, lines(5..6));
        let mut tail = Tail::start(&[name], offsets, |_| {});
        tail.records(3).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        all.extend(tail.stop().await.0);
        all.sort();
        assert_eq!(all, told(0..6), "{pattern}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_appear_later_and_files_that_move_within_the_pattern() {
    let folder = TempDir::new().unwrap();
    let below = folder.path().join("agents");
    let pattern = below.join("*.log").to_str().unwrap().to_owned();
    let mut tail = Tail::start(&[pattern], Vec::new(), |settings| (settings.poll_ms, settings.agent_from_file) = (50, true));
    tail.until("caught up", |tail| tail.caught_up == 1).await;
    fs::create_dir(&below).unwrap();
    append(&below.join("one.log"), "plain words\n");
    append(&below.join("other.txt"), "not followed\n");
    tail.records(1).await;
    assert_eq!(tail.events[0].agent.as_ref().unwrap().as_str(), "one");
    fs::rename(below.join("one.log"), below.join("two.log")).unwrap();
    append(&below.join("two.log"), "more words\n");
    tail.records(2).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(tail.stop().await.0, ["plain words", "more words"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_left_out_where_it_is_not_wanted() {
    let folder = TempDir::new().unwrap();
    let (path, name) = place(&folder, "app.log");
    append(&path, lines(0..3) + &line(3)[..15]);
    let mut tail = Tail::start(&[name], Vec::new(), |settings| settings.history = false);
    tail.until("caught up", |tail| tail.caught_up == 1).await;
    append(&path, line(3)[15..].to_owned() + &lines(4..5));
    tail.records(1).await;
    assert_eq!(tail.stop().await.0, told(4..5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_beyond_the_limit_is_skipped_whole_however_it_arrives() {
    let folder = TempDir::new().unwrap();
    let (path, name) = place(&folder, "app.log");
    let mut tail = Tail::start(&[name], Vec::new(), |settings| settings.line_bytes_max = 1_000);
    append(&path, lines(0..1));
    append(&path, "x".repeat(400_000));
    tail.records(1).await;
    append(&path, "y".repeat(400_000));
    tokio::time::sleep(Duration::from_millis(100)).await;
    append(&path, "\n".to_owned() + &lines(1..2));
    tail.records(2).await;
    assert_eq!(tail.metrics.oversized_lines.get(), 1);
    let (texts, offsets) = tail.stop().await;
    assert_eq!(texts, told(0..2));
    assert_eq!(offsets[0].position, fs::metadata(&path).unwrap().len());
}
