//! Command lines that stand in a text without a block around them, as they do where Markdown was copied without its marks.

use std::collections::BTreeSet;

use crate::classify::classify;
use crate::document::{CommandLine, Executor};
use crate::shell;

/// Programs whose names begin no sentence. `kill`, `watch` and `find` do.
const PROGRAMS: &[&str] = &[
    "aws",
    "chmod",
    "chown",
    "curl",
    "docker",
    "docker-compose",
    "git",
    "helm",
    "iptables",
    "journalctl",
    "kubectl",
    "pg_restore",
    "pkill",
    "pm2",
    "promtool",
    "psql",
    "redis-cli",
    "rsync",
    "sudo",
    "systemctl",
    "terraform",
    "wget",
];
/// Programs whose names could be words: they need an option or a path behind them.
const WORDS: &[&str] = &["cat", "df", "dd", "kill", "killall", "rm", "service", "tail", "top", "vmstat", "watch"];
const LINE_BYTES_MAX: usize = 2000;

/// Lines outside blocks that are commands, in order.
pub(super) fn commands(markdown: &str) -> Vec<CommandLine> {
    let mut found = Vec::new();
    for (line, text) in outside(markdown) {
        let text = text.trim();
        let text = text.strip_prefix("$ ").unwrap_or(text);
        if text.len() > LINE_BYTES_MAX || !looks_like_a_command(text) {
            continue;
        }
        if let [statement] = shell::parse(text).as_slice() {
            found.push(CommandLine { line, text: text.to_owned(), verdict: classify(statement) });
        }
    }
    found
}

/// Lines on which something looks like a secret.
pub(super) fn secrets(markdown: &str) -> Vec<usize> {
    let lines = markdown.lines().enumerate();
    lines.filter(|(_, line)| shows_secret(line)).map(|(at, _)| at + 1).collect()
}

/// Something in the text looks like a secret, other than the name of a file that holds one.
pub(crate) fn shows_secret(text: &str) -> bool {
    let without_files: Vec<&str> = text.split_whitespace().filter(|word| !word.starts_with("--from-file")).collect();
    let plain = without_files.join(" ");
    paramedic_model::secret::mask(&plain) != plain
}

fn looks_like_a_command(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let (Some(first), Some(second)) = (words.next(), words.next()) else { return false };
    let behind = |second: &str| second.starts_with(['-', '/', '~', '$', '"', '\'']);
    let known = PROGRAMS.contains(&first)
        && (behind(second) || second.starts_with(|letter: char| letter.is_ascii_alphanumeric()))
        // A sentence about a program ends like one.
        && !text.ends_with(['.', ':', '?', '!']);
    let behind_word = behind(second) && (first == "kill" || !text.ends_with('.'));
    known || WORDS.contains(&first) && behind_word
}

/// Lines that are neither in a block that runs nor a heading, a quote or a row of a table, with their numbers.
fn outside(markdown: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fence: Option<(&str, bool)> = None;
    let mut kept = Vec::new();
    let mut skip: BTreeSet<usize> = BTreeSet::new();
    for (at, line) in markdown.lines().enumerate() {
        let bare = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| bare.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => {
                let language = bare.trim_start_matches(['`', '~']).split([' ', '{']).next().unwrap_or_default();
                // A block without a language may be commands; one with a language that does not run is an illustration.
                fence = Some((mark, !language.is_empty() || Executor::from_language(language).is_some()));
                skip.insert(at);
            }
            (Some((open, _)), Some(mark)) if open == mark => {
                fence = None;
                skip.insert(at);
            }
            (Some((_, true)), _) => {
                skip.insert(at);
            }
            _ => {}
        }
        let prose = !bare.starts_with(['#', '>', '|']);
        if prose && !skip.contains(&at) {
            kept.push((at + 1, line));
        }
    }
    kept.into_iter()
}
