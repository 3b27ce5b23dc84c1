//! Places of a script where a value would not stay text: arithmetic, and programs whose argument is a program.
//!
//! `[[ "$n" -gt 5 ]]` carries out what stands in `$(…)` inside the value, quotes or not; `awk "/$n/"` and `ssh host "ls $n"`
//! read it as their own language. What comes from an alert's label or a line of a log must not get that far.

use std::collections::BTreeMap;

use crate::shell::{Command, Statement, Word};

/// Builtins that evaluate a name or an expression that they are given.
const EVALUATING: &[&str] = &["let", "declare", "typeset", "local", "readonly", "unset", "read", "mapfile", "readarray", "eval", "trap"];
/// Programs whose argument is a program or goes to a shell.
const READING: &[&str] = &[
    "awk",
    "bash",
    "clickhouse-client",
    "dash",
    "dc",
    "eval",
    "gawk",
    "ksh",
    "lua",
    "mawk",
    "mongo",
    "mongosh",
    "mysql",
    "node",
    "perl",
    "php",
    "psql",
    "python",
    "python3",
    "ruby",
    "sed",
    "sh",
    "sqlite3",
    "ssh",
    "su",
    "trap",
    "zsh",
];
/// Those of them that are asked in a language in which words stand beside each other.
const QUERYING: &[&str] = &["clickhouse-client", "mysql", "psql", "sqlite3"];

/// Why a value cannot be used in a script, by the variable's name.
pub(super) fn dangers(script: &str, statements: &[Statement], environment: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let computes = computes(script, statements);
    for (name, value) in environment {
        if computes && ["$(", "${", "$[", "`"].iter().any(|begin| value.contains(begin)) {
            found.push((name.clone(), "holds a command, and a shell that computes with it would carry it out".to_owned()));
            continue;
        }
        let commands = statements.iter().flat_map(|statement| &statement.commands);
        if let Some(program) = commands.filter_map(|command| read_as_program(command, name, value)).next() {
            found.push((name.clone(), format!("would become part of what {program} reads as a program")));
        }
    }
    found
}

/// The script compares or counts in a way that evaluates values.
fn computes(script: &str, statements: &[Statement]) -> bool {
    let by_builtin = |command: &Command| {
        let first = command.words.first().map_or("", |word| word.text.as_str());
        let asks = |option: &str| command.words.iter().any(|word| word.text == option);
        EVALUATING.contains(&first) || (matches!(first, "test" | "[" | "printf") && (asks("-v") || asks("-R")))
    };
    ["[[", "((", "$["].iter().any(|begin| script.contains(begin))
        || expands_specially(script)
        || statements.iter().flat_map(|statement| &statement.commands).any(by_builtin)
}

/// `${x:$n}`, `${a[$n]}`, `${!n}` and `${n@P}` evaluate; `${n:-word}` does not.
fn expands_specially(script: &str) -> bool {
    script.split("${").skip(1).any(|rest| {
        let after = rest.trim_start_matches(|letter: char| letter.is_ascii_alphanumeric() || letter == '_');
        let mut letters = after.chars();
        match (rest.starts_with('!'), letters.next(), letters.next()) {
            (true, ..) | (_, Some('[' | '@'), _) => true,
            (_, Some(':'), Some(next)) => !"-=?+".contains(next),
            _ => false,
        }
    })
}

/// The program that would read a value as part of its program.
fn read_as_program<'c>(command: &'c Command, name: &str, value: &str) -> Option<&'c str> {
    let programs: Vec<&str> = command.words.iter().map(|word| word.text.rsplit('/').next().unwrap_or_default()).collect();
    // Also behind `sudo`, `kubectl exec … --` or `xargs`.
    let (place, program) = programs.iter().enumerate().find(|(_, program)| READING.contains(program))?;
    let uses = |word: &&Word| word.variables.iter().any(|used| used == name);
    let querying = QUERYING.contains(program);
    let plain = |letter: char| letter.is_alphanumeric() || "_.:/@%+=,-".contains(letter) || (querying && letter == ' ');
    let tame = value.chars().all(plain);
    let begins = |word: &Word| !querying && (word.text.starts_with(&format!("${name}")) || word.text.starts_with(&format!("${{{name}}}")));
    let arguments = &command.words[place + 1..];
    if !tame && arguments.iter().any(|word| uses(&word)) {
        return Some(program);
    }
    // Where the value is the beginning of the program itself, even a plain one can be a command.
    let text = arguments.iter().find(|word| !word.text.starts_with('-'));
    let inside = |word: &Word| uses(&word) && begins(word) && *program != "ssh" && *program != "su";
    let number = value.chars().all(|letter| letter.is_ascii_digit());
    (!number && text.is_some_and(inside)).then_some(*program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(script: &str, value: &str, refused: bool) {
        let environment = BTreeMap::from([("n".to_owned(), value.to_owned())]);
        let found = dangers(script, &crate::shell::parse(script), &environment);
        assert_eq!(!found.is_empty(), refused, "{script} {value}: {found:?}");
    }

    #[test]
    fn a_value_stays_text_where_a_shell_computes() {
        let evil = "a[$(touch x)]";
        for script in [
            r#"[[ "$n" -gt 5 ]] && echo big"#,
            "(( n > 5 ))",
            "echo $((n + 1))",
            r#"test -v "$n""#,
            r#"[ -v "$n" ]"#,
            r#"echo "${PATH:$n}""#,
            "echo ${arr[$n]}",
            "echo ${!n}",
            "echo ${n@P}",
            r#"let "y=$n""#,
            r#"declare -i y="$n""#,
            r#"unset "$n""#,
        ] {
            check(script, evil, true);
            check(script, "a[`id`]", true);
            check(script, "17", false);
        }
        for script in [r#"[ "$n" -gt 5 ]"#, r#"grep -c "$n" file"#, r#"echo "${n:-none}""#, r#"printf '%s' "$n""#, r#"ls -l "${n}""#] {
            check(script, evil, false);
        }
    }

    #[test]
    fn a_value_is_no_part_of_another_program() {
        for (script, value, refused) in [
            (r#"awk "/$n/ {print}" file"#, r#"a/{system("id")}/b"#, true),
            (r#"awk "/$n/ {print}" file"#, "worker-1", false),
            (r#"sed -n "s/$n/y/p" file"#, "a/id/e;s/b", true),
            (r#"sed -n "${n}p" file"#, "1eid;", true),
            (r#"sed -n "${n}p" file"#, "1eid", true),
            (r#"sed -n "${n}p" file"#, "12", false),
            (r#"sed -n '1,5p' "$n""#, "/var/log/agent.log", false),
            (r#"ssh host "ls $n""#, "x; reboot", true),
            (r#"ssh "$n" uptime"#, "host-1", false),
            (r#"psql -c "select '$n'""#, "x'; drop table a; --", true),
            (r#"psql -c "select '$n'""#, "Ana Maria", false),
            (r#"kubectl exec pod -- sh -c "ls $n""#, "$(id)", true),
            (r#"bash -c "$n""#, "reboot", true),
            (r#"bash /opt/check.sh "$n""#, "worker-1", false),
            (r#"python3 -c "print($n)""#, "__import__('os')", true),
            (r#"echo "$(awk "/$n/" file)""#, "a/{}", true),
            (r#"kubectl get pods -l "$n""#, "app in (a, b)", false),
        ] {
            check(script, value, refused);
        }
    }
}
