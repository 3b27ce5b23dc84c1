//! Following files that grow, shrink, vanish and lie.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use paramedic_collect::config::TailSettings;
use paramedic_collect::metrics::TailMetrics;
use paramedic_collect::tail::{Batch, Offset, Start, run};
use paramedic_collect::transcript::{ParseOptions, discover, read_file};
use paramedic_model::{Event, Fact};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(20);

fn prompt(number: usize) -> String {
    format!(
        "{{\"type\":\"user\",\"sessionId\":\"s1\",\"uuid\":\"u{number}\",\"timestamp\":\"2026-01-14T10:41:23Z\",\"message\":{{\"content\":\"prompt {number}\"}}}}\n"
    )
}

fn append(path: &Path, text: impl AsRef<[u8]>) {
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_ref()).unwrap();
}

/// A follower under test, with what storage would have kept.
struct Tail {
    rx: mpsc::Receiver<Batch>,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    prompts: Vec<String>,
    events: Vec<Event>,
    offsets: HashMap<String, Offset>,
    caught_up: u32,
    metrics: TailMetrics,
}

impl Tail {
    fn start(root: &Path, offsets: Vec<Offset>, change: impl FnOnce(&mut TailSettings)) -> Self {
        let mut settings = TailSettings { rescan_s: 1, ..TailSettings::default() };
        change(&mut settings);
        let metrics = TailMetrics::default();
        let start = Start { roots: vec![root.to_owned()], offsets: offsets.clone(), settings, metrics: metrics.clone() };
        let (tx, rx) = mpsc::channel(2);
        let cancel = CancellationToken::new();
        let task = tokio::spawn({
            let cancel = cancel.clone();
            async move { run(start, tx, cancel).await.unwrap() }
        });
        let offsets = offsets.into_iter().map(|offset| (offset.file.clone(), offset)).collect();
        Self { rx, cancel, task, prompts: Vec::new(), events: Vec::new(), offsets, caught_up: 0, metrics }
    }

    fn store(&mut self, batch: Batch) {
        self.caught_up += u32::from(batch.caught_up);
        self.prompts.extend(batch.events.iter().filter(|event| event.fact == Fact::Prompt).map(|event: &Event| event.text.to_string()));
        self.events.extend(batch.events);
        self.offsets.extend(batch.offsets.into_iter().map(|offset| (offset.file.clone(), offset)));
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done(self) {
            let left = end.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, self.rx.recv()).await {
                Ok(Some(batch)) => self.store(batch),
                Ok(None) => panic!("the follower ended before {what}"),
                Err(_) => panic!("not within {PATIENCE:?}: {what}; prompts {:?}", self.prompts),
            }
        }
    }

    async fn prompts(&mut self, count: usize) {
        self.until(&format!("{count} prompts"), |tail| tail.prompts.len() >= count).await;
    }

    async fn stop(mut self) -> (Vec<String>, Vec<Offset>) {
        self.end().await;
        (self.prompts, self.offsets.into_values().collect())
    }

    async fn stop_with_events(mut self) -> (Vec<Event>, Vec<Offset>) {
        self.end().await;
        (self.events, self.offsets.into_values().collect())
    }

    async fn end(&mut self) {
        self.cancel.cancel();
        // What was sent before the end still counts.
        while let Some(batch) = self.rx.recv().await {
            self.store(batch);
        }
        tokio::time::timeout(PATIENCE, &mut self.task).await.expect("ends when cancelled").unwrap();
    }
}

fn project(folder: &TempDir) -> PathBuf {
    let project = folder.path().join("projects/-repo");
    fs::create_dir_all(&project).unwrap();
    project
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("prompt {number}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn back_fills_then_follows() {
    let folder = TempDir::new().unwrap();
    let file = project(&folder).join("s1.jsonl");
    append(&file, prompt(0) + &prompt(1));
    let mut tail = Tail::start(folder.path(), Vec::new(), |_| {});
    tail.until("caught up", |tail| tail.caught_up == 1).await;
    assert_eq!(tail.prompts, numbered(0..2));
    append(&file, prompt(2));
    tail.prompts(3).await;
    let partial = prompt(3);
    append(&file, &partial[..30]);
    tokio::time::sleep(Duration::from_millis(150)).await;
    append(&file, &partial[30..]);
    tail.prompts(4).await;
    let (prompts, offsets) = tail.stop().await;
    assert_eq!(prompts, numbered(0..4));
    assert_eq!(offsets[0].position, fs::metadata(&file).unwrap().len());
    assert_eq!(offsets[0].lines, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_last_line_does_not_wait_for_its_newline() {
    let folder = TempDir::new().unwrap();
    let file = project(&folder).join("s1.jsonl");
    append(&file, prompt(0) + prompt(1).trim_end());
    let mut tail = Tail::start(folder.path(), Vec::new(), |_| {});
    tail.until("caught up", |tail| tail.caught_up == 1).await;
    assert_eq!(tail.prompts, numbered(0..2));
    append(&file, format!("\n{}", prompt(2)));
    tail.prompts(3).await;
    let (prompts, offsets) = tail.stop().await;
    assert_eq!((prompts, offsets[0].lines), (numbered(0..3), 3));
}

/// Everything that a file says comes out of following it as out of reading it at once, whatever pieces it grew in.
#[tokio::test(flavor = "multi_thread")]
async fn following_tells_what_reading_tells() {
    let Some(recordings) = crate::transcript::recordings() else { return };
    let original = discover(&recordings.join("projects"))
        .unwrap()
        .into_iter()
        .find(|file| file.path.to_string_lossy().contains("b00b80af-879f"))
        .unwrap();
    let mut expected = Vec::new();
    read_file(&original.path, ParseOptions::default(), &mut |events| expected.append(events)).unwrap();
    let folder = TempDir::new().unwrap();
    let file = project(&folder).join(original.path.file_name().unwrap());
    let content = fs::read(&original.path).unwrap();
    let mut tail = Tail::start(folder.path(), Vec::new(), |_| {});
    let mut found = Vec::new();
    for (number, piece) in content.chunks(content.len() / 40 + 1).enumerate() {
        append(&file, piece);
        if number % 10 == 9 {
            // The process dies here and there, and another goes on from what was stored.
            let wanted = fs::metadata(&file).unwrap().len();
            let reached = |tail: &Tail| tail.offsets.values().next().is_some_and(|offset| wanted - offset.position < 200_000);
            tail.until("the pieces so far", reached).await;
            found.append(&mut tail.events);
            let (rest, offsets) = tail.stop_with_events().await;
            found.extend(rest);
            tail = Tail::start(folder.path(), offsets, |_| {});
        }
    }
    tail.until("the end", |tail| tail.offsets.values().next().is_some_and(|offset| offset.position == content.len() as u64)).await;
    found.append(&mut tail.events);
    let essences = |events: &[Event]| events.iter().map(|event| (event.uid, event.at, event.fact.kind())).collect::<Vec<_>>();
    assert_eq!(essences(&found), essences(&expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_line_arrives_within_a_tenth_of_a_second() {
    let folder = TempDir::new().unwrap();
    let file = project(&folder).join("s1.jsonl");
    append(&file, prompt(0));
    let mut tail = Tail::start(folder.path(), Vec::new(), |settings| settings.rescan_s = 3_600);
    tail.until("caught up", |tail| tail.caught_up == 1).await;
    let mut waits = Vec::new();
    for number in 1..40 {
        append(&file, prompt(number));
        let written = Instant::now();
        tail.prompts(number + 1).await;
        waits.push(written.elapsed());
    }
    waits.sort();
    // The median is judged, since other tests share the machine.
    assert!(waits[waits.len() / 2] < Duration::from_millis(100), "{waits:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn continues_where_storage_remembers() {
    let folder = TempDir::new().unwrap();
    let file = project(&folder).join("s1.jsonl");
    append(&file, prompt(0) + &prompt(1));
    let mut tail = Tail::start(folder.path(), Vec::new(), |_| {});
    tail.prompts(2).await;
    let (_, offsets) = tail.stop().await;
    append(&file, prompt(2));
    let mut tail = Tail::start(folder.path(), offsets, |_| {});
    tail.until("caught up", |tail| tail.caught_up == 1).await;
    let (prompts, offsets) = tail.stop().await;
    assert_eq!(prompts, ["prompt 2"], "nothing twice, nothing left out");
    assert_eq!(offsets[0].lines, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_or_replaced_file_is_read_anew() {
    let folder = TempDir::new().unwrap();
    let file = project(&folder).join("s1.jsonl");
    append(&file, prompt(0) + &prompt(1));
    let mut tail = Tail::start(folder.path(), Vec::new(), |_| {});
    tail.prompts(2).await;
    fs::write(&file, prompt(10)).unwrap();
    tail.until("the truncated file", |tail| tail.prompts.ends_with(&["prompt 10".to_owned()])).await;
    let other = file.with_extension("new");
    fs::write(&other, prompt(20) + &prompt(21) + &prompt(22)).unwrap();
    fs::rename(&other, &file).unwrap();
    tail.until("the replacement", |tail| tail.prompts.ends_with(&numbered(20..23))).await;
    assert!(tail.metrics.file_resets.get() >= 2);
    // While nobody looked: the same path, but another beginning and longer.
    let (_, offsets) = tail.stop().await;
    fs::write(&file, (30..40).map(prompt).collect::<String>()).unwrap();
    let mut tail = Tail::start(folder.path(), offsets, |_| {});
    tail.until("caught up", |tail| tail.caught_up == 1).await;
    assert_eq!(tail.prompts, numbered(30..40));
}

#[tokio::test(flavor = "multi_thread")]
async fn finds_folders_and_files_that_appear_later() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("home/.claude/projects");
    let mut tail = Tail::start(&root, Vec::new(), |settings| settings.rescan_s = 3_600);
    tail.until("caught up with nothing", |tail| tail.caught_up == 1).await;
    fs::create_dir_all(root.join("-one")).unwrap();
    append(&root.join("-one/s1.jsonl"), prompt(0));
    tail.prompts(1).await;
    // A whole tree at once: files are there before anybody can watch their folder.
    fs::create_dir_all(root.join("-two/s2/subagents/workflows/wf_1")).unwrap();
    append(&root.join("-two/s2.jsonl"), prompt(1));
    append(&root.join("-two/s2/subagents/agent-a1.jsonl"), prompt(2));
    append(&root.join("-two/s2/subagents/workflows/wf_1/agent-a2.jsonl"), prompt(3));
    tail.prompts(4).await;
    append(&root.join("-two/s2/subagents/agent-a1.jsonl"), prompt(4));
    tail.prompts(5).await;
    assert_eq!(tail.prompts.last().unwrap(), "prompt 4");
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_where_the_rescan_is_all_there_is() {
    let folder = TempDir::new().unwrap();
    let project = project(&folder);
    // A link to a file elsewhere: its growth is not announced in the folder that is watched.
    let elsewhere = TempDir::new().unwrap();
    let file = elsewhere.path().join("target");
    append(&file, prompt(0));
    std::os::unix::fs::symlink(&file, project.join("s1.jsonl")).unwrap();
    let mut tail = Tail::start(folder.path(), Vec::new(), |_| {});
    tail.prompts(1).await;
    append(&file, prompt(1));
    tail.prompts(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_counted_and_costs_nothing_else() {
    let folder = TempDir::new().unwrap();
    let file = project(&folder).join("s1.jsonl");
    let mut content = prompt(0).into_bytes();
    content.extend(b"\x00\x01\xff\xfe binary \x80\n{\"type\":\"user\",\n\n");
    content.extend(b"{\"type\":\"user\",\"sessionId\":\"s1\",\"timestamp\":\"2026-01-14T10:41:23Z\",\"message\":{\"content\":\"bad \xff\xfe utf-8\"}}\n");
    content.resize(content.len() + 100 * 1024 * 1024, b'x');
    content.extend(format!("\n{}", prompt(1)).into_bytes());
    append(&file, &content);
    let mut tail = Tail::start(folder.path(), Vec::new(), |settings| settings.line_bytes_max = 1024 * 1024);
    tail.until("caught up", |tail| tail.caught_up == 1).await;
    assert_eq!(tail.prompts, ["prompt 0", "bad \u{fffd}\u{fffd} utf-8", "prompt 1"]);
    assert_eq!((tail.metrics.bad_lines.get(), tail.metrics.oversized_lines.get()), (2, 1));
    let length = fs::metadata(&file).unwrap().len();
    assert_eq!(tail.offsets.values().next().unwrap().position, length);
    // A line that is too long and grows while we look is not read again and again.
    append(&file, vec![b'y'; 3 * 1024 * 1024]);
    tail.until("the long line is skipped", |tail| tail.offsets.values().next().unwrap().position > length).await;
    append(&file, format!("yyy\n{}", prompt(2)));
    tail.prompts(4).await;
    assert_eq!(tail.metrics.oversized_lines.get(), 2);
    assert_eq!(tail.metrics.bad_lines.get(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_store_slows_the_reading_and_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let project = project(&folder);
    for file in 0..20 {
        append(&project.join(format!("s{file}.jsonl")), (0..500).map(|number| prompt(file * 500 + number)).collect::<String>());
    }
    let mut tail = Tail::start(folder.path(), Vec::new(), |settings| settings.batch_events_max = 100);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(tail.metrics.lines.get() < 1_500, "reading waits: {} lines", tail.metrics.lines.get());
    tail.until("caught up", |tail| tail.caught_up == 1).await;
    let (mut prompts, offsets) = tail.stop().await;
    prompts.sort_by_key(|prompt| prompt["prompt ".len()..].parse::<usize>().unwrap());
    assert_eq!(prompts, numbered(0..10_000));
    assert_eq!(offsets.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_between_batches_continues_without_loss_or_repeat() {
    let folder = TempDir::new().unwrap();
    let file = project(&folder).join("s1.jsonl");
    append(&file, (0..2_000).map(prompt).collect::<String>());
    let (mut all, mut offsets) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        let mut tail = Tail::start(folder.path(), offsets, |settings| settings.batch_events_max = 150);
        // Storage takes two batches and then the process dies: what was sent and not taken is lost.
        for _ in 0..2 {
            let batch = tail.rx.recv().await.unwrap();
            tail.store(batch);
        }
        all.append(&mut tail.prompts);
        offsets = tail.offsets.values().cloned().collect();
        tail.cancel.cancel();
        if tail.caught_up > 0 {
            break;
        }
    }
    assert_eq!(all, numbered(0..2_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_when_nobody_listens_any_more() {
    let folder = TempDir::new().unwrap();
    let file = project(&folder).join("s1.jsonl");
    append(&file, prompt(0));
    let mut tail = Tail::start(folder.path(), Vec::new(), |_| {});
    tail.prompts(1).await;
    tail.rx.close();
    append(&file, prompt(1));
    tokio::time::timeout(PATIENCE, tail.task).await.expect("ends").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_and_unreadable_files_stop_nobody() {
    let folder = TempDir::new().unwrap();
    let project = project(&folder);
    append(&project.join("gone.jsonl"), prompt(0));
    // A folder with a transcript's name cannot be read as one, whoever runs this test.
    fs::create_dir(project.join("folder.jsonl")).unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", project.join("dangling.jsonl")).unwrap();
    let mut tail = Tail::start(folder.path(), Vec::new(), |_| {});
    tail.prompts(1).await;
    fs::remove_file(project.join("gone.jsonl")).unwrap();
    append(&project.join("other.jsonl"), prompt(1));
    tail.prompts(2).await;
    fs::remove_dir_all(folder.path().join("projects")).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    fs::create_dir_all(&project).unwrap();
    append(&project.join("back.jsonl"), prompt(2));
    tail.prompts(3).await;
    assert_eq!(tail.prompts, numbered(0..3));
}
