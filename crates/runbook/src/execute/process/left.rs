//! Programs that outlived the instance that started them, found by their mark.

use std::collections::BTreeSet;

use super::family::MARK;
use crate::plan::sha256;

/// Letters of a run's and of a step's name that a mark shows.
const NAME_CHARS_MAX: usize = 60;

/// A process of a step that nobody watches any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    pub pid: i32,
    /// The program's name, as the kernel knows it.
    pub program: String,
    /// Clock ticks since boot at which it started: with it the number means this process and no later one.
    pub started: u64,
}

impl std::fmt::Display for Left {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {} (started {})", self.pid, self.program, self.started)
    }
}

/// What the marks of all attempts of a step begin with. The names are for people; the hash tells steps apart.
pub(in crate::execute) fn attempt_of(owner: &str, run: &str, step: &str) -> String {
    let plain = |name: &str| -> String {
        let letter = |letter: char| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' };
        name.chars().take(NAME_CHARS_MAX).map(letter).collect()
    };
    let hash = sha256(format!("{owner}\0{run}\0{step}").as_bytes());
    format!("{}/{}/{}/", plain(run), plain(step), paramedic_model::text::head(&hash, 16))
}

/// Processes whose mark begins so, and those of their process groups: a program may clear its environment, or run as somebody
/// whose environment cannot be read.
pub(in crate::execute) fn left(attempt_of: &str) -> Vec<Left> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let alive: Vec<(i32, Left)> = numbers.filter(|pid| *pid != own).filter_map(process).collect();
    let marked: BTreeSet<i32> = alive.iter().filter(|(_, one)| is_marked(one.pid, attempt_of)).map(|(group, _)| *group).collect();
    let mut left: Vec<Left> = alive.into_iter().filter(|(group, _)| marked.contains(group)).map(|(_, one)| one).collect();
    left.sort_by_key(|one| one.pid);
    left
}

/// A process that has not ended, with its group.
fn process(pid: i32) -> Option<(i32, Left)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may itself hold anything.
    let (before, behind) = stat.rsplit_once(')')?;
    let name = before.split_once('(').map_or("", |(_, name)| name);
    let fields: Vec<&str> = behind.split_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    let program = paramedic_model::text::one_line(name).into();
    Some((fields.get(2)?.parse().ok()?, Left { pid, program, started: fields.get(19)?.parse().ok()? }))
}

fn is_marked(pid: i32, attempt_of: &str) -> bool {
    let wanted = format!("{MARK}={attempt_of}");
    std::fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|bytes| bytes.split(|byte| *byte == 0).any(|one| one.starts_with(wanted.as_bytes())))
}
