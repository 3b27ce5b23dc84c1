//! Appends recorded transcripts line by line, as their agents did, only faster.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// No pause is longer, however long the agent was idle.
const PAUSE_MAX: Duration = Duration::from_millis(60);

struct Line {
    at: String,
    file: PathBuf,
    text: String,
}

/// Lines of many transcripts in the order in which they were written.
pub struct Recording {
    lines: Vec<Line>,
}

/// When each moment of the recording was written out.
pub type Written = BTreeMap<String, Instant>;

impl Recording {
    /// All transcripts below a folder that `wanted` likes.
    pub fn read(root: &Path, wanted: impl Fn(&str) -> bool) -> Self {
        let (mut lines, mut folders) = (Vec::new(), vec![root.to_path_buf()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "jsonl") && wanted(&path.display().to_string()) {
                    lines.extend(lines_of(root, &path));
                }
            }
        }
        // Stable: lines of one file stay in their order.
        lines.sort_by(|one, other| one.at.cmp(&other.at));
        Self { lines }
    }

    /// Writes everything below `projects`, so many times faster than it was recorded. Some lines are written in two
    /// halves, as a busy disk may show them to a reader.
    pub fn play(&self, projects: &Path, speed: f64) -> Written {
        let mut written = Written::new();
        let mut before: Option<f64> = None;
        for (number, line) in self.lines.iter().enumerate() {
            let now = seconds(&line.at);
            if let Some(gap) = before.map(|before| now - before).filter(|gap| *gap > 0.0) {
                thread::sleep(Duration::from_secs_f64(gap / speed).min(PAUSE_MAX));
            }
            before = Some(now);
            let path = projects.join(&line.file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut file = fs::File::options().create(true).append(true).open(path).unwrap();
            let middle = if number % 10 == 9 { line.text.floor_char_boundary(line.text.len() / 2) } else { 0 };
            if middle > 0 {
                file.write_all(&line.text.as_bytes()[..middle]).unwrap();
                thread::sleep(Duration::from_millis(3));
            }
            file.write_all(&line.text.as_bytes()[middle..]).unwrap();
            file.write_all(b"\n").unwrap();
            written.insert(line.at.clone(), Instant::now());
        }
        written
    }
}

/// A line without a time belongs to the one before it.
fn lines_of(root: &Path, path: &Path) -> Vec<Line> {
    let mut at = String::new();
    let text = fs::read_to_string(path).unwrap();
    let file = path.strip_prefix(root).unwrap();
    text.lines()
        .map(|line| {
            let value: Value = serde_json::from_str(line).unwrap_or_default();
            if let Some(own) = value["timestamp"].as_str().filter(|own| *own > at.as_str()) {
                own.clone_into(&mut at);
            }
            Line { at: at.clone(), file: file.to_path_buf(), text: line.to_owned() }
        })
        .collect()
}

/// Seconds within the month: recordings are compared with themselves only.
fn seconds(at: &str) -> f64 {
    let number = |range: std::ops::Range<usize>| at.get(range).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    number(8..10) * 86_400.0 + number(11..13) * 3600.0 + number(14..16) * 60.0 + number(17..23)
}
