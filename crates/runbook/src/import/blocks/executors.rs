//! Executors without a shell, where the command is exactly what the executor would do.

use crate::document::Executor;
use crate::shell::{Command, Statement};

/// The executor and its text for one plain command; none when a shell does something to it.
pub(super) fn exact(statements: &[Statement]) -> Option<(Executor, Vec<String>)> {
    let [statement] = statements else { return None };
    let [command] = statement.commands.as_slice() else { return None };
    if !is_bare(command, &statement.text) {
        return None;
    }
    let words: Vec<&str> = command.words.iter().map(|word| word.text.as_str()).collect();
    let lines = |text: &str| text.split('\n').map(str::to_owned).collect::<Vec<_>>();
    match *words.first()? {
        "kubectl" => {
            let rest = statement.text.strip_prefix("kubectl ")?;
            Some((Executor::Kubectl, lines(rest.trim())))
        }
        "redis-cli" if words.get(1).is_some_and(|word| !word.starts_with('-')) => {
            let rest = statement.text.strip_prefix("redis-cli ")?;
            Some((Executor::Redis, lines(rest.trim())))
        }
        "psql" => match words.as_slice() {
            ["psql", "-c" | "-Atc" | "-tAc", sql] if !sql.contains(['$', '\\', '<']) && !sql.trim().is_empty() => {
                Some((Executor::Sql, lines(sql.trim())))
            }
            _ => None,
        },
        "curl" => request(&words, command).map(|lines| (Executor::Http, lines)),
        _ => None,
    }
}

/// No shell would change it: no pipe, no redirection, no pattern, no comment, no escape.
fn is_bare(command: &Command, text: &str) -> bool {
    let plain =
        command.assignments.is_empty() && command.redirections.is_empty() && !command.piped && !command.substituted && !command.opaque;
    let mut quote: Option<char> = None;
    let mut before = ' ';
    for (at, letter) in text.char_indices() {
        let continues = letter == '\\' && text[at + 1..].starts_with('\n');
        match (quote, letter) {
            (_, '\\') if !continues => return false,
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), letter) if letter == open => quote = None,
            (None, '*' | '?' | '[' | '~' | '{' | ';' | '&' | '|' | '`' | '(' | ')' | '!') if !(letter == '{' && before == '$') => {
                return false;
            }
            (None, '#') if before.is_whitespace() => return false,
            _ => {}
        }
        before = letter;
    }
    plain && quote.is_none() && !command.words.iter().any(|word| word.computed)
}

/// `METHOD URL`, headers, and a body, when every option of curl says one of these.
fn request(words: &[&str], command: &Command) -> Option<Vec<String>> {
    let (mut method, mut url, mut headers, mut body) = (None, None, Vec::new(), None);
    let mut rest = words.iter().skip(1);
    while let Some(word) = rest.next() {
        match *word {
            "-s" | "-S" | "-f" | "-sS" | "-fsS" | "-sf" | "-fs" | "--silent" | "--fail" | "--show-error" => {}
            "-m" | "--max-time" | "--connect-timeout" => {
                rest.next()?;
            }
            "-I" | "--head" => method = Some("HEAD"),
            "-X" | "--request" => method = Some(*rest.next()?),
            "-H" | "--header" => headers.push((*rest.next()?).to_owned()),
            "-d" | "--data" | "--data-raw" if body.is_none() => body = Some(*rest.next()?),
            word if !word.starts_with('-') && url.is_none() => url = Some(word),
            _ => return None,
        }
    }
    let url = url.filter(|url| url.starts_with("http://") || url.starts_with("https://"))?;
    let method = method.unwrap_or(if body.is_some() { "POST" } else { "GET" });
    let known = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"].contains(&method);
    let value = command.words.iter().any(|word| !word.variables.is_empty() || !word.placeholders.is_empty());
    let odd = url.contains(char::is_whitespace)
        || headers.iter().any(|header| header.contains('\n'))
        || body.is_some_and(|body| body.starts_with('@') || body.contains("\n\n"));
    if !known || odd || (value && body.is_some()) {
        return None;
    }
    if body.is_some() && !headers.iter().any(|header| header.to_ascii_lowercase().starts_with("content-type:")) {
        headers.push("Content-Type: application/x-www-form-urlencoded".to_owned());
    }
    let mut lines = vec![format!("{method} {url}")];
    lines.extend(headers);
    if let Some(body) = body {
        lines.push(String::new());
        lines.extend(body.split('\n').map(str::to_owned));
    }
    Some(lines)
}
