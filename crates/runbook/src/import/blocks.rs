//! Blocks: each part of a script becomes a step of its own, with a name, an executor, and what it may do.

mod executors;

use std::collections::BTreeSet;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use super::Change;
use super::safer::{bounded, quoted_address, without_terminal};
use crate::classify::{Effect, classify};
use crate::document::Executor;
use crate::shell::{self, Statement};

/// A fenced block of the text.
struct Fence {
    /// Lines of the text, counted from 0: that of the opening fence, and that of the closing one.
    open: usize,
    close: usize,
    language: String,
    indent: String,
}

/// One step to be.
#[derive(Debug, Default)]
struct Part {
    /// What its comment says it does.
    title: String,
    items: Vec<Item>,
    /// The line of the text it begins on.
    line: usize,
    /// A variable that it finds for those behind it.
    captures: Option<String>,
}

/// A piece of a script.
#[derive(Debug, Clone)]
enum Item {
    /// A comment, or nothing.
    Line(String),
    Statement(Statement),
}

impl Part {
    fn statements(&self) -> impl Iterator<Item = &Statement> {
        self.items.iter().filter_map(|item| match item {
            Item::Statement(statement) => Some(statement),
            Item::Line(_) => None,
        })
    }

    /// Its text as it was, without blank lines at its ends.
    fn lines(&self, comments: bool) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for item in &self.items {
            match item {
                Item::Line(line) if comments => lines.push(line.clone()),
                Item::Line(_) => {}
                Item::Statement(statement) => lines.extend(statement.text.split('\n').map(str::to_owned)),
            }
        }
        let from = lines.iter().position(|line| !line.trim().is_empty()).unwrap_or(lines.len());
        let to = lines.iter().rposition(|line| !line.trim().is_empty()).map_or(from, |at| at + 1);
        lines[from..to].to_vec()
    }
}

/// The text with every plain block made ours.
pub(super) fn rewrite(text: &str, changes: &mut Vec<Change>) -> String {
    let lines: Vec<&str> = text.split('\n').collect();
    let document = crate::parse(text, "");
    let mut names: BTreeSet<String> =
        document.runbooks.iter().flat_map(|runbook| &runbook.steps).filter_map(|step| step.attributes.get("name").cloned()).collect();
    let mut out: Vec<String> = Vec::new();
    let mut at = 0;
    for fence in fences(text, &lines) {
        out.extend(lines[at..fence.open].iter().map(|line| (*line).to_owned()));
        let step =
            document.runbooks.iter().flat_map(|runbook| &runbook.steps).find(|step| step.line > fence.open && step.line <= fence.close + 1);
        let title = step.map(|step| step.title.clone()).unwrap_or_default();
        let body = &lines[fence.open + 1..fence.close];
        let made = match Executor::from_language(&fence.language) {
            // Nothing in it is a step of a runbook: it stays the illustration that it is.
            _ if step.is_none() => None,
            Some(Executor::Sh) => script(&fence, body, &title, &mut names, changes),
            Some(_) => step.map(|step| {
                let effect = step.commands.iter().map(|command| command.verdict.effect).max().unwrap_or_default();
                let header = header(step.executor, &unique(&title, &mut names), effect, None);
                changes.push(Change::new(fence.open + 1, header.clone(), "a step says how it runs"));
                let mut made = vec![format!("{}```{header}", fence.indent)];
                made.extend(lines[fence.open + 1..=fence.close].iter().map(|line| (*line).to_owned()));
                made
            }),
            None => None,
        };
        match made {
            Some(made) => out.extend(made),
            None => out.extend(lines[fence.open..=fence.close].iter().map(|line| (*line).to_owned())),
        }
        at = fence.close + 1;
    }
    out.extend(lines[at..].iter().map(|line| (*line).to_owned()));
    out.join("\n")
}

/// Closed fences of three backticks that nothing but blanks stands before, without attributes.
fn fences(text: &str, lines: &[&str]) -> Vec<Fence> {
    let begins: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let line_of = |offset: usize| begins.partition_point(|begin| *begin <= offset).saturating_sub(1);
    let options = Options::ENABLE_TABLES | Options::ENABLE_TASKLISTS | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => open = Some((line_of(range.start), info.to_string())),
            Event::End(TagEnd::CodeBlock) => {
                let Some((from, info)) = open.take() else { continue };
                let close = line_of(range.end.saturating_sub(1).max(range.start));
                let indent: String = lines[from].chars().take_while(|letter| *letter == ' ').collect();
                let plain = lines[from][indent.len()..]
                    .strip_prefix("```")
                    .is_some_and(|rest| rest.trim() == info.trim() && !rest.starts_with('`'));
                let closed = close > from && lines.get(close).is_some_and(|line| line.trim() == "```");
                if plain && closed && !info.contains(['{', ' ']) && !info.trim().is_empty() {
                    found.push(Fence { open: from, close, language: info.trim().to_owned(), indent });
                }
            }
            _ => {}
        }
    }
    found
}

/// A script as steps; none when it has to stay as it is.
fn script(fence: &Fence, body: &[&str], title: &str, names: &mut BTreeSet<String>, changes: &mut Vec<Change>) -> Option<Vec<String>> {
    let bare =
        |line: &&str| line.strip_prefix(fence.indent.as_str()).unwrap_or_else(|| line.trim_start()).trim_end_matches('\r').to_owned();
    let text = body.iter().map(bare).collect::<Vec<_>>().join("\n");
    if text.lines().any(|line| line.starts_with("$ ")) || text.contains("```") {
        return None;
    }
    let statements = shell::parse(&text);
    let here = statements.iter().flat_map(|one| &one.commands).flat_map(|one| &one.redirections).any(|one| one.operator == "<<");
    if here || statements.is_empty() || has_compound(&statements) {
        return None;
    }
    let mut parts = parts(&text, &statements, fence.open + 1)?;
    // What sets something for the lines behind it, other than a variable, holds a block together.
    let binds = |statement: &Statement| {
        statement
            .commands
            .iter()
            .any(|one| one.words.first().is_some_and(|word| ["cd", "export", "source", ".", "set", "alias"].contains(&word.text.as_str())))
    };
    if parts.len() > 1 && statements.iter().any(binds) {
        return None;
    }
    for part in &mut parts {
        safer(part, changes);
    }
    let parts = with_captures(parts, changes);
    if parts.len() > 1 {
        let what = format!("{} blocks instead of one", parts.len());
        changes.push(Change::new(fence.open + 1, what, "each is a step: it is approved, stopped and recorded by itself"));
    }
    let mut made = Vec::new();
    for part in &parts {
        if !made.is_empty() {
            made.push(String::new());
        }
        emit(part, &fence.indent, title, names, &mut made, changes);
    }
    Some(made)
}

/// Loops, conditions and functions go over lines; they stay together.
fn has_compound(statements: &[Statement]) -> bool {
    let words = ["if", "for", "while", "until", "case", "select", "function", "do", "then", "{"];
    statements.iter().any(|statement| {
        let opaque = statement.text.contains("()") && statement.text.contains('{');
        let first = statement.text.split_whitespace().next().unwrap_or_default();
        let whole = ["done", "fi", "esac", "}"].iter().any(|end| statement.text.trim_end().ends_with(end));
        opaque || words.contains(&first) && !whole
    })
}

/// The parts of a script that its comments name, every line of it in one of them.
fn parts(text: &str, statements: &[Statement], first_line: usize) -> Option<Vec<Part>> {
    let lines: Vec<&str> = text.split('\n').collect();
    let mut parts = vec![Part { line: first_line + 1, ..Part::default() }];
    let mut at = 0;
    for statement in statements {
        let begin = statement.line - 1;
        let comments = comments_before(&lines, begin, statement.comments.len()).max(at);
        // Two statements on one line, or a statement that is not where it says it is, cannot be taken apart by lines.
        let own: Vec<&str> = lines.get(begin..begin + statement.text.split('\n').count())?.to_vec();
        if begin < at || own.join("\n").trim() != statement.text {
            return None;
        }
        let numbered = |comment: &&String| comment.starts_with(|first: char| first.is_ascii_digit());
        let title = statement.comments.iter().rev().find(numbered).or_else(|| statement.comments.first());
        let begins_one = title.is_some() && parts.last().is_some_and(|part| part.statements().next().is_some());
        let before = if begins_one { comments } else { begin };
        let part = parts.last_mut()?;
        part.items.extend(lines[at..before].iter().map(|line| Item::Line((*line).to_owned())));
        if begins_one {
            let items = lines[comments..begin].iter().map(|line| Item::Line((*line).to_owned())).collect();
            parts.push(Part { items, line: first_line + comments + 1, ..Part::default() });
        }
        let part = parts.last_mut()?;
        if let Some(title) = title {
            part.title = without_number(title);
        }
        part.items.push(Item::Statement(statement.clone()));
        at = begin + own.len();
    }
    let rest = lines.get(at..).unwrap_or_default();
    parts.last_mut()?.items.extend(rest.iter().map(|line| Item::Line((*line).to_owned())));
    Some(parts)
}

/// Where the comments begin that belong to the statement on line `begin`.
fn comments_before(lines: &[&str], begin: usize, count: usize) -> usize {
    let (mut at, mut left) = (begin, count);
    while left > 0 && at > 0 {
        at -= 1;
        left -= usize::from(lines[at].trim_start().starts_with('#'));
    }
    at
}

fn without_number(comment: &str) -> String {
    comment.trim_start_matches(|letter: char| letter.is_ascii_digit() || ". )".contains(letter)).trim_end_matches(['.', ':']).to_owned()
}

/// Puts the safer form of each statement in its place, and gives placeholders names that a step can be told.
fn safer(part: &mut Part, changes: &mut Vec<Change>) {
    for item in &mut part.items {
        let Item::Statement(statement) = item else { continue };
        let mut text = statement.text.clone();
        let mut told = Vec::new();
        let mut become_ = |next: Option<String>, why: &str| {
            if let Some(next) = next {
                told.push(Change::new(part.line, format!("{text} -> {next}"), why));
                text = next;
            }
            text.clone()
        };
        let now = become_(quoted_address(&statement.text), "a shell stops at the parenthesis of an address without quotes");
        let (next, why) = bounded(&now).map_or((None, ""), |(next, why)| (Some(next), why));
        let now = become_(next, why);
        let now = become_(without_terminal(&now), "there is no terminal, and the command behind it needs none");
        let now = become_(filled(&now), "a placeholder is an input, and a value is never part of a program's text");
        // A text that is more or fewer statements than before would be another script.
        if let [only] = shell::parse(&now).as_slice() {
            *statement = Statement { comments: statement.comments.clone(), line: statement.line, ..only.clone() };
            changes.extend(told);
        }
    }
}

/// `{{pod}}` and `your-org` as variables, quoted for the place where they stand. `<pod>` is read as one where it stands.
fn filled(text: &str) -> Option<String> {
    let [statement] = shell::parse(text).try_into().ok()?;
    let statement: Statement = statement;
    let mut blanks: Vec<String> = classify(&statement).blanks;
    blanks.sort_by_key(|blank| std::cmp::Reverse(blank.len()));
    if blanks.is_empty() {
        return None;
    }
    let mut out = String::new();
    let mut quote: Option<char> = None;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let letter = rest.chars().next()?;
        let part_of_word = |letter: Option<char>| {
            letter.is_some_and(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-' || letter == '$')
        };
        let alone = |blank: &&String| {
            rest.starts_with(blank.as_str())
                && (blank.starts_with('{') || !part_of_word(out.chars().next_back()) && !part_of_word(rest[blank.len()..].chars().next()))
        };
        if let Some(blank) = blanks.iter().find(alone) {
            let name = crate::lint::input_name(blank);
            out.push_str(&match quote {
                None => format!("\"${{{name}}}\""),
                Some('"') => format!("${{{name}}}"),
                Some(_) => format!("'\"${{{name}}}\"'"),
            });
            at += blank.len();
            continue;
        }
        match (quote, letter) {
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), letter) if letter == open => quote = None,
            (None | Some('"'), '\\') => {
                out.push(letter);
                at += 1;
                let Some(escaped) = text[at..].chars().next() else { break };
                out.push(escaped);
                at += escaped.len_utf8();
                continue;
            }
            _ => {}
        }
        out.push(letter);
        at += letter.len_utf8();
    }
    let after = shell::parse(&out);
    let same = matches!(after.as_slice(), [one] if one.commands.len() == statement.commands.len() && classify(one).effect == classify(&statement).effect);
    (same && out != text).then_some(out)
}

/// `POD=$(command)`, used by what comes later, becomes a step that captures `POD`: each step has a shell of its own.
fn with_captures(parts: Vec<Part>, changes: &mut Vec<Change>) -> Vec<Part> {
    let uses = |statement: &Statement, name: &str| classify(statement).placeholders.iter().any(|one| one == name);
    let mut made: Vec<Part> = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let mut rest = Part { title: part.title.clone(), line: part.line, ..Part::default() };
        for item in &part.items {
            let later = |name: &str| parts[index + 1..].iter().flat_map(Part::statements).any(|statement| uses(statement, name));
            let found = match item {
                Item::Statement(statement) => assignment(&statement.text).filter(|(name, _)| later(name)),
                Item::Line(_) => None,
            };
            let Some((name, command)) = found else {
                rest.items.push(item.clone());
                continue;
            };
            // Comments before it speak of what comes behind it.
            if rest.statements().next().is_some() {
                made.push(std::mem::replace(&mut rest, Part { title: part.title.clone(), line: part.line, ..Part::default() }));
            }
            changes.push(Change::new(
                part.line,
                format!("capture={name}=stdout"),
                "each step has a shell of its own: what a later one needs is captured",
            ));
            let title = format!("Find {name}");
            let mut items = vec![Item::Line(format!("# {title}"))];
            items.extend(shell::parse(&command).into_iter().map(Item::Statement));
            made.push(Part { title, items, line: part.line, captures: Some(name) });
        }
        if rest.statements().next().is_some() {
            made.push(rest);
        } else if let Some(last) = made.last_mut() {
            last.items.extend(rest.items);
        }
    }
    made
}

/// `NAME=$(command)` and nothing else.
fn assignment(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let plain = !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    let command = value.strip_prefix("$(")?.strip_suffix(')')?.trim();
    let one = matches!(shell::parse(command).as_slice(), [one] if one.commands.iter().all(|command| !command.opaque));
    (plain && one && !command.contains("$(")).then(|| (name.to_owned(), command.to_owned()))
}

/// Writes a part as a block. Its comments stay in it: they are its title, and what somebody wanted to say.
fn emit(part: &Part, indent: &str, title: &str, names: &mut BTreeSet<String>, made: &mut Vec<String>, changes: &mut Vec<Change>) {
    let name = unique(if part.title.is_empty() { title } else { &part.title }, names);
    let verdicts: Vec<_> = part.statements().map(classify).collect();
    let effect = verdicts.iter().map(|verdict| verdict.effect).max().unwrap_or_default();
    let by_hand = verdicts.iter().find_map(|verdict| verdict.interactive.clone().or_else(|| verdict.never_ends.clone()));
    let foreign = verdicts.iter().any(|verdict| verdict.programs.iter().any(|program| ["import", "from"].contains(&program.as_str())));
    let mut body = part.lines(true);
    let executor = if foreign {
        changes.push(Change::new(part.line, "```python", "it is Python, and a shell would fail at its first word"));
        None
    } else if let Some(why) = by_hand {
        changes.push(Change::new(part.line, "```manual", format!("a person does it: {why}")));
        Some(Executor::Manual)
    } else {
        let statements: Vec<Statement> = part.statements().cloned().collect();
        let exact = executors::exact(&statements).and_then(|(executor, text)| Some((executor, with_comments(part, executor, text)?)));
        let (executor, text) = exact.unwrap_or((Executor::Sh, body));
        body = text;
        if executor != Executor::Sh {
            changes.push(Change::new(part.line, format!("```{}", language(executor)), "the same without a shell between"));
        }
        Some(executor)
    };
    let header = match executor {
        Some(executor) => header(executor, &name, effect, part.captures.as_deref()),
        None => "python".to_owned(),
    };
    changes.push(Change::new(part.line, header.clone(), "a step has a name, and says what it may do and for how long"));
    made.push(format!("{indent}```{header}"));
    made.extend(body.iter().map(|line| if line.is_empty() { String::new() } else { format!("{indent}{line}") }));
    made.push(format!("{indent}```"));
}

/// The comments of a part around what another executor reads; none when that one reads no comments where they stand.
fn with_comments(part: &Part, executor: Executor, text: Vec<String>) -> Option<Vec<String>> {
    let at = part.items.iter().position(|item| matches!(item, Item::Statement(_)))?;
    let comment = |item: &Item| match item {
        Item::Line(line) if !line.trim().is_empty() => Some(line.trim().to_owned()),
        _ => None,
    };
    let (mut lines, behind): (Vec<String>, Vec<String>) =
        (part.items[..at].iter().filter_map(comment).collect(), part.items[at..].iter().filter_map(comment).collect());
    match executor {
        Executor::Kubectl | Executor::Redis => {}
        Executor::Http if text.iter().all(|line| !line.is_empty()) || behind.is_empty() => {}
        Executor::Sql if lines.is_empty() && behind.is_empty() => {}
        _ => return None,
    }
    lines.extend(text);
    lines.extend(behind);
    Some(lines)
}

fn language(executor: Executor) -> &'static str {
    match executor {
        Executor::Sh => "bash",
        Executor::Kubectl => "kubectl",
        Executor::Http => "http",
        Executor::Promql => "promql",
        Executor::Sql => "sql",
        Executor::Redis => "redis",
        Executor::Logs => "logs",
        Executor::Action => "action",
        Executor::Manual => "manual",
        Executor::Message => "message",
    }
}

fn header(executor: Executor, name: &str, effect: Effect, captures: Option<&str>) -> String {
    let mut attributes = format!("name={name}");
    if executor != Executor::Message {
        attributes.push_str(match effect {
            Effect::Read => " mode=read",
            Effect::Write => " mode=write risk=medium",
            Effect::Destroy => " mode=write risk=destructive approve=two",
        });
    }
    if !matches!(executor, Executor::Manual | Executor::Message) {
        attributes.push_str(if effect == Effect::Read { " timeout=15s" } else { " timeout=120s" });
    }
    if let Some(variable) = captures {
        attributes.push_str(&format!(" capture=\"{variable}=stdout\""));
    }
    format!("{} {{ {attributes} }}", language(executor))
}

/// A name that conditions can speak of, taken by nobody.
fn unique(title: &str, names: &mut BTreeSet<String>) -> String {
    let mut name = String::new();
    for letter in title.chars().take(60) {
        if letter.is_ascii_alphanumeric() {
            name.push(letter.to_ascii_lowercase());
        } else if !name.ends_with('_') && !name.is_empty() {
            name.push('_');
        }
        if name.len() >= 40 {
            break;
        }
    }
    let name = name.trim_end_matches('_');
    let name = match name.chars().next() {
        None => "step".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("step_{name}"),
        Some(_) => name.to_owned(),
    };
    let free = (1..).map(|count| if count == 1 { name.clone() } else { format!("{name}_{count}") }).find(|name| !names.contains(name));
    let free = free.unwrap_or(name);
    names.insert(free.clone());
    free
}
