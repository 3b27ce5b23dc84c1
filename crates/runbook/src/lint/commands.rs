//! Rules about one command line, one function each. Facts about other software name the version since which they hold.

mod data;
mod processes;
mod queries;

use super::Saying;
use crate::document::{CommandLine, Executor, Step};
use crate::shell::{self, Command};

type Judge = fn(&Look<'_>) -> Option<Saying>;

/// Every rule with its name.
pub(super) const ALL: &[(&str, Judge)] = &[
    ("never-ends", processes::never_ends),
    ("waits-for-a-person", processes::waits_for_a_person),
    ("sudo-asks", processes::sudo_asks),
    ("no-time-limit", processes::no_time_limit),
    ("here-document", processes::here_document),
    ("not-a-shell-program", processes::not_a_shell_program),
    ("shell-syntax", processes::shell_syntax),
    ("change-while-looking", processes::change_while_looking),
    ("kill-by-pattern", processes::kill_by_pattern),
    ("kill-without-asking", processes::kill_without_asking),
    ("pipe-into-a-change", processes::pipe_into_a_change),
    ("downloads-and-runs", processes::downloads_and_runs),
    ("open-permissions", processes::open_permissions),
    ("drop-caches", processes::drop_caches),
    ("limit-without-drop", processes::limit_without_drop),
    ("secret-in-the-open", processes::secret_in_the_open),
    ("deletes-without-scope", data::deletes_without_scope),
    ("redis-flush", data::redis_flush),
    ("redis-keys", data::redis_keys),
    ("redis-persistence-off", data::redis_persistence_off),
    ("git-throws-away", data::git_throws_away),
    ("opens-the-network", data::opens_the_network),
    ("statements-columns", queries::statements_columns),
    ("activity-columns", queries::activity_columns),
    ("alter-system", queries::alter_system),
    ("terminates-unseen", queries::terminates_unseen),
    ("removed-api", queries::removed_api),
    ("removed-option", queries::removed_option),
    ("query-without-server", queries::query_without_server),
    ("rate-is-per-second", queries::rate_is_per_second),
    ("ratio-of-unlike-labels", queries::ratio_of_unlike_labels),
];

/// What a rule looks at.
pub(super) struct Look<'a> {
    step: &'a Step,
    command: &'a CommandLine,
    /// The command line in one line, in lower case, blanks made one; what the executor adds stands before it.
    text: String,
    /// Its commands, those of scripts in quotes left where they are.
    commands: Vec<Command>,
}

impl<'a> Look<'a> {
    pub(super) fn new(step: &'a Step, command: &'a CommandLine) -> Self {
        let program = match step.executor {
            Executor::Kubectl if !command.text.starts_with("kubectl") => "kubectl ",
            Executor::Redis if !command.text.starts_with("redis-cli") => "redis-cli ",
            _ => "",
        };
        let whole = format!("{program}{}", command.text);
        let is_argv = matches!(step.executor, Executor::Sh | Executor::Kubectl | Executor::Redis);
        let commands = if is_argv { shell::parse(&whole).into_iter().flat_map(|one| one.commands).collect() } else { Vec::new() };
        let text = whole.replace("\\\n", " ").split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_lowercase();
        Self { step, command, text, commands }
    }

    fn says(&self, text: &str) -> bool {
        self.text.contains(text)
    }

    fn says_any(&self, texts: &[&str]) -> bool {
        texts.iter().any(|text| self.says(text))
    }

    fn is_shell(&self) -> bool {
        self.step.executor == Executor::Sh
    }

    /// The words of each command, wrappers such as `sudo` left out, that starts `program`.
    fn calls(&self, program: &str) -> impl Iterator<Item = Vec<&str>> {
        let wrappers = ["sudo", "doas", "nohup", "exec", "command", "xargs", "time"];
        self.commands.iter().filter_map(move |command| {
            let words: Vec<&str> = command.words.iter().map(|word| word.text.as_str()).collect();
            let own = |word: &&str| wrappers.contains(word) || word.starts_with('-');
            let wrapped = words.first().is_some_and(|first| wrappers.contains(first));
            let at = if wrapped { words.iter().position(|word| !own(word))? } else { 0 };
            (words.get(at)?.rsplit('/').next() == Some(program)).then(|| words[at..].to_vec())
        })
    }

    /// It is SQL, of its own or as an argument.
    fn is_sql(&self) -> bool {
        self.step.executor == Executor::Sql || self.says("psql")
    }
}

fn say(why: impl Into<String>, instead: impl Into<String>) -> Option<Saying> {
    Some(Saying { why: why.into(), instead: instead.into() })
}

fn say_if(holds: bool, why: &str, instead: &str) -> Option<Saying> {
    holds.then(|| say(why, instead)).flatten()
}

/// `text` holds `word` with nothing of a word around it.
fn has_word(text: &str, word: &str) -> bool {
    let part_of_word = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    text.match_indices(word)
        .any(|(at, _)| !part_of_word(text[..at].chars().next_back()) && !part_of_word(text[at + word.len()..].chars().next()))
}
