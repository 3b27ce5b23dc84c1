//! Scripts: their text stays as it is written, values are in the environment.

use std::collections::BTreeMap;

use super::evaluated;
use super::values::{Values, underscored};
use super::words::variable;
use super::{Blocked, Work};
use crate::shell::{self, Statement};

/// Variables that every shell has or sets itself.
const OWN: &[&str] =
    &["HOME", "USER", "PATH", "PWD", "OLDPWD", "SHELL", "HOSTNAME", "TMPDIR", "RANDOM", "SECONDS", "LANG", "UID", "PPID", "LINENO"];

pub(super) fn render(text: &str, values: &Values) -> Result<Work, Vec<Blocked>> {
    let script = without_placeholders(text);
    let statements = shell::parse(&script);
    let mut blocked = Vec::new();
    let here = statements.iter().flat_map(|one| &one.commands).flat_map(|one| &one.redirections).any(|one| one.operator == "<<");
    if here {
        let why = "a here-document is not run; put the text into a file, or use the executor that it is for".to_owned();
        blocked.push(Blocked::Unreadable { why });
    }
    let mut environment = BTreeMap::new();
    for name in variables(&statements) {
        match values.get(&name) {
            Ok(value) => {
                if let Some(why) = split_by_shell(&statements, &name, value) {
                    blocked.push(Blocked::Value { name: name.clone(), why });
                }
                environment.insert(name, value.to_owned());
            }
            Err(why) => blocked.push(why),
        }
    }
    // Programs that the script starts may look for an input themselves.
    for (name, value) in values.inputs() {
        environment.entry(name.clone()).or_insert_with(|| value.clone());
    }
    let dangers = evaluated::dangers(&script, &statements, &environment);
    blocked.extend(dangers.into_iter().map(|(name, why)| Blocked::Value { name, why }));
    if blocked.is_empty() { Ok(Work::Sh { script, environment }) } else { Err(blocked) }
}

/// Variables that the script needs and does not set before.
pub(super) fn variables(statements: &[Statement]) -> Vec<String> {
    let mut set: Vec<&str> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for command in statements.iter().flat_map(|statement| &statement.commands) {
        let words = command
            .assignments
            .iter()
            .map(|(_, word)| word)
            .chain(&command.words)
            .chain(command.redirections.iter().map(|one| &one.target));
        for name in words.flat_map(|word| &word.variables) {
            let known = name.is_empty() || OWN.contains(&name.as_str()) || set.contains(&name.as_str()) || names.contains(name);
            if !known && !name.starts_with(|first: char| first.is_ascii_digit()) {
                names.push(name.clone());
            }
        }
        set.extend(command.assignments.iter().map(|(name, _)| name.as_str()));
        // `for f in …` and `read f` set theirs.
        match command.words.first().map(|word| word.text.as_str()) {
            Some("for") => set.extend(command.words.get(1).map(|word| word.text.as_str())),
            Some("read" | "export" | "local" | "declare") => {
                set.extend(command.words.iter().skip(1).map(|word| word.text.split('=').next().unwrap_or_default()));
            }
            _ => {}
        }
    }
    names
}

/// A shell splits what is not quoted into words and takes `*` for files.
fn split_by_shell(statements: &[Statement], name: &str, value: &str) -> Option<String> {
    let words = statements.iter().flat_map(|statement| &statement.commands).flat_map(|command| &command.words);
    let bare = words.filter(|word| !word.quoted).any(|word| word.variables.iter().any(|used| used == name));
    let plain = |letter: char| letter.is_alphanumeric() || "_.:/@%+=,-".contains(letter);
    if bare && (value.is_empty() || value.starts_with('-') || !value.chars().all(plain)) {
        return Some("stands without quotes, and a shell would make other words of it".to_owned());
    }
    // What a step found was not asked for by anybody: an option in it would be one of the program.
    if value.starts_with('-') && value.parse::<f64>().is_err() {
        return Some("begins with `-` and would be taken for an option".to_owned());
    }
    value.chars().any(|letter| letter.is_control() && letter != '\n' && letter != '\t').then(|| "has control characters".to_owned())
}

/// `<name>` becomes a variable, quoted for the place where it stands.
fn without_placeholders(text: &str) -> String {
    let known: Vec<String> = shell::parse(text)
        .iter()
        .flat_map(|statement| &statement.commands)
        .flat_map(|command| command.words.iter().chain(command.assignments.iter().map(|(_, word)| word)))
        .flat_map(|word| word.placeholders.iter().map(|name| underscored(name)))
        .collect();
    if known.is_empty() {
        return text.to_owned();
    }
    let letters: Vec<char> = text.chars().collect();
    let mut script = String::new();
    let mut quote: Option<char> = None;
    let mut at = 0;
    while let Some(letter) = letters.get(at).copied() {
        if letter == '<'
            && let Some((name, end)) = variable(&letters, at)
            && known.contains(&name)
        {
            script.push_str(&match quote {
                None => format!("\"${{{name}}}\""),
                Some('"') => format!("${{{name}}}"),
                Some(_) => format!("'\"${{{name}}}\"'"),
            });
            at = end;
            continue;
        }
        match (quote, letter) {
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), letter) if letter == open => quote = None,
            (None | Some('"'), '\\') => {
                script.push(letter);
                at += 1;
                if let Some(escaped) = letters.get(at) {
                    script.push(*escaped);
                }
                at += 1;
                continue;
            }
            _ => {}
        }
        script.push(letter);
        at += 1;
    }
    script
}
