//! From Markdown to runbooks. Levels of headings are relative: a file may be one runbook or hold several.

mod loose;

pub(crate) use loose::shows_secret;

use std::collections::BTreeMap;

use crate::classify::{self, Verdict, classify};
use crate::document::{Cause, Check, CommandLine, Document, Executor, Problem, Runbook, Section, SectionKind, Step};
use crate::front::FrontMatter;
use crate::outline::{self, Block, Node};
use crate::shell;

/// Reads a document. Never fails: what cannot be read as it was meant is in `problems`.
#[must_use]
pub fn parse(markdown: &str, file: &str) -> Document {
    let outline = outline::read(markdown);
    let mut problems = Vec::new();
    let front = outline.front.as_deref().map(FrontMatter::parse).transpose().unwrap_or_else(|what| {
        problems.push(Problem { line: 1, what });
        None
    });
    let front = front.unwrap_or_default();
    let first_title = outline.root.children.first().map(|node| node.title.clone());
    let mut document = Document {
        file: file.to_owned(),
        title: front.title.clone().or(first_title).unwrap_or_default(),
        links: outline.links,
        problems,
        ..Document::default()
    };
    add_anchors(&outline.root, &mut document.anchors);
    document.loose = loose::commands(markdown);
    document.secrets = loose::secrets(markdown);
    document.inputs = front.inputs.keys().cloned().collect();
    collect(&outline.root, &mut document);
    if let [only] = document.runbooks.as_mut_slice() {
        apply_front(only, &front);
    }
    for runbook in &mut document.runbooks {
        runbook.inputs.clone_from(&front.inputs);
        runbook.limits.clone_from(&front.limits);
        runbook.services.clone_from(&front.services);
    }
    name_apart(&mut document.runbooks);
    document
}

fn add_anchors(node: &Node, anchors: &mut std::collections::BTreeSet<String>) {
    anchors.insert(slug(&node.title));
    node.children.iter().for_each(|child| add_anchors(child, anchors));
}

fn apply_front(runbook: &mut Runbook, front: &FrontMatter) {
    if let Some(id) = &front.id {
        runbook.id.clone_from(id);
    }
    if let Some(title) = &front.title {
        runbook.title.clone_from(title);
    }
    runbook.severity = front.severity.clone().or(runbook.severity.take());
    for alert in &front.matches.alerts {
        if !runbook.alerts.contains(alert) {
            runbook.alerts.push(alert.clone());
        }
    }
}

fn name_apart(runbooks: &mut [Runbook]) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for runbook in runbooks {
        let count = seen.entry(runbook.id.clone()).or_default();
        *count += 1;
        if *count > 1 {
            runbook.id = format!("{}-{count}", runbook.id);
        }
    }
}

/// Finds the headings that are runbooks: those with sections of a runbook directly below.
fn collect(node: &Node, document: &mut Document) {
    if has_sections(node) {
        add_runbook(node, document);
        return;
    }
    if node.children.is_empty() || !node.children.iter().any(holds_runbook) {
        // No known section anywhere below: still a procedure when there is something to do.
        if node.line > 0 && says_something(node) {
            add_runbook(node, document);
        } else {
            node.children.iter().for_each(|child| collect(child, document));
        }
        return;
    }
    // A heading above several runbooks: what stands directly under it is a procedure of its own.
    let own = Node { children: Vec::new(), ..node.clone() };
    if node.line > 0 && says_something(&own) {
        add_runbook(&own, document);
    }
    node.children.iter().for_each(|child| collect(child, document));
}

fn has_sections(node: &Node) -> bool {
    let known = node.children.iter().filter(|child| SectionKind::from_title(&child.title) != SectionKind::Other).count();
    known > 1
        || (known == 1
            && node
                .children
                .iter()
                .any(|child| matches!(SectionKind::from_title(&child.title), SectionKind::Investigation | SectionKind::Resolution)))
}

fn holds_runbook(node: &Node) -> bool {
    has_sections(node) || node.children.iter().any(holds_runbook)
}

fn says_something(node: &Node) -> bool {
    let own = node.blocks.iter().any(|block| match block {
        Block::Fence { language, .. } => Executor::from_language(language).is_some(),
        Block::Item { ticked, .. } => ticked.is_some(),
        Block::Prose { .. } | Block::Row { .. } => false,
    });
    own || node.children.iter().any(says_something)
}

fn add_runbook(node: &Node, document: &mut Document) {
    let title = plain_title(&node.title);
    let mut gathering = Gathering {
        runbook: Runbook { id: node.attributes.id.clone().unwrap_or_else(|| slug(&title)), title, line: node.line, ..Runbook::default() },
        problems: &mut document.problems,
        names: BTreeMap::new(),
    };
    gathering.blocks(node, Place { section: SectionKind::Other, cause: None });
    for child in &node.children {
        gathering.section(child, Place { section: SectionKind::Other, cause: None });
    }
    let done = gathering.runbook;
    document.runbooks.push(done);
}

/// `Runbook 3: High Latency` is High Latency.
fn plain_title(title: &str) -> String {
    let lower = title.to_ascii_lowercase();
    let numbered = ["runbook", "scenario"].iter().any(|word| lower.starts_with(word));
    match title.split_once(": ").filter(|_| numbered) {
        Some((_, rest)) => rest.to_owned(),
        None => title.to_owned(),
    }
}

pub(crate) fn slug(text: &str) -> String {
    let mut slug = String::new();
    for letter in text.chars().take(80) {
        if letter.is_alphanumeric() {
            slug.extend(letter.to_lowercase());
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_owned()
}

/// Where in a runbook something stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    section: SectionKind,
    /// Its position in the runbook's list.
    cause: Option<usize>,
}

struct Gathering<'a> {
    runbook: Runbook,
    problems: &'a mut Vec<Problem>,
    /// How often a step's name was taken.
    names: BTreeMap<String, usize>,
}

impl Gathering<'_> {
    fn section(&mut self, node: &Node, place: Place) {
        let kind = SectionKind::from_title(&node.title);
        let is_cause = node.title.to_ascii_lowercase().starts_with("cause") && node.title.contains(':');
        let place = if is_cause {
            Place { section: SectionKind::Resolution, cause: Some(self.cause(node)) }
        } else {
            Place { section: if kind == SectionKind::Other { place.section } else { kind }, ..place }
        };
        if place.cause.is_none() {
            self.runbook.sections.push(Section { title: node.title.clone(), line: node.line, kind: place.section });
        }
        self.problems.extend(node.attributes.problems.iter().map(|what| Problem { line: node.line, what: what.clone() }));
        self.blocks(node, place);
        for child in &node.children {
            self.section(child, place);
        }
    }

    fn cause(&mut self, node: &Node) -> usize {
        let title = node.title.split_once(':').map_or(node.title.as_str(), |(_, title)| title).trim().to_owned();
        let weight = node.attributes.get("weight").and_then(|text| text.parse().ok()).unwrap_or(1.0);
        self.runbook.causes.push(Cause {
            id: node.attributes.id.clone().unwrap_or_else(|| slug(&title)),
            when: node.attributes.get("when").map(str::to_owned),
            line: node.line,
            title,
            weight,
            ..Cause::default()
        });
        self.runbook.causes.len() - 1
    }

    fn blocks(&mut self, node: &Node, place: Place) {
        let under = &node.title;
        // A bold line above a block is as much a text before it as any other.
        let mut intro: Option<&str> = (node.level == outline::PSEUDO_LEVEL).then_some(under);
        for block in &node.blocks {
            match block {
                Block::Prose { text, .. } => {
                    intro = Some(text);
                    self.prose(text, place);
                }
                Block::Item { line, text, ticked, codes } => self.item(*line, text, *ticked, codes, under, place),
                Block::Row { cells, line } => self.row(cells, *line, under),
                Block::Fence { line, language, attributes, text } => {
                    self.problems.extend(attributes.problems.iter().map(|what| Problem { line: *line, what: what.clone() }));
                    match Executor::from_language(language) {
                        Some(executor) => self.steps(executor, *line, (text, &attributes.values), (intro, under), place),
                        None if language.is_empty() => self.plain_fence(text, place),
                        None => {}
                    }
                }
            }
        }
    }

    fn prose(&mut self, text: &str, place: Place) {
        if place.section == SectionKind::Impact || text.starts_with("Severity:") {
            if let Some(rest) = text.strip_prefix("Severity:") {
                self.runbook.severity = rest.split_whitespace().next().map(str::to_owned);
            }
            let impact = &mut self.runbook.impact;
            if !impact.is_empty() {
                impact.push('\n');
            }
            impact.push_str(text);
        }
    }

    fn item(&mut self, line: usize, text: &str, ticked: Option<bool>, codes: &[String], under: &str, place: Place) {
        let names_alerts = under.eq_ignore_ascii_case("alerts")
            || (place.section == SectionKind::Symptoms && text.to_ascii_lowercase().contains("alert") && place.cause.is_none());
        if names_alerts {
            for code in codes.iter().filter(|code| is_alert_name(code)) {
                if !self.runbook.alerts.contains(code) {
                    self.runbook.alerts.push(code.clone());
                }
            }
        }
        if let Some(ticked) = ticked {
            self.runbook.checks.push(Check { line, text: text.to_owned(), ticked, section: place.section, under: under.to_owned() });
        }
        if let Some(cause) = place.cause.filter(|_| place.section == SectionKind::Symptoms)
            && let Some(cause) = self.runbook.causes.get_mut(cause)
        {
            cause.patterns.push(text.to_owned());
        }
        if place.section == SectionKind::Impact {
            self.prose(text, place);
        }
    }

    /// A row of a table of causes: its name and what to do.
    fn row(&mut self, cells: &[String], line: usize, under: &str) {
        if let ([title, fix, ..], true) = (cells, under.to_ascii_lowercase().contains("cause")) {
            self.runbook.causes.push(Cause {
                id: slug(title),
                title: title.clone(),
                line,
                weight: 1.0,
                fix: fix.clone(),
                ..Cause::default()
            });
        }
    }

    /// A block without a language under a cause's symptoms is a list of texts to look for.
    fn plain_fence(&mut self, text: &str, place: Place) {
        if let Some(cause) = place.cause.filter(|_| place.section == SectionKind::Symptoms)
            && let Some(cause) = self.runbook.causes.get_mut(cause)
        {
            cause.patterns.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
        }
    }

    fn steps(
        &mut self,
        executor: Executor,
        line: usize,
        (text, values): (&str, &BTreeMap<String, String>),
        (intro, under): (Option<&str>, &str),
        place: Place,
    ) {
        let cause = place.cause.and_then(|cause| self.runbook.causes.get(cause)).map(|cause| cause.id.clone());
        let base = Step { executor, cause, attributes: values.clone(), ..Step::default() };
        let parts = if executor == Executor::Sh {
            split(text, line)
        } else {
            let title = title_in(executor, text).unwrap_or_default();
            vec![(title, line, text.trim().to_owned(), vec![single(executor, line + 1, text)])]
        };
        for (title, line, text, commands) in parts {
            let title = match intro {
                _ if !title.is_empty() => title,
                // That this is the fix says nothing about what it does.
                Some(intro) if is_label(intro) => self.telling(place, executor, &text).unwrap_or_else(|| intro.to_owned()),
                _ => intro.unwrap_or(under).trim_end_matches('.').to_owned(),
            };
            let wanted = values.get("name").cloned().unwrap_or_else(|| slug(&title));
            let name = self.unique(wanted);
            let section = section_of(place, values, &commands);
            self.runbook.steps.push(Step { name, title, line, section, text, commands, ..base.clone() });
        }
    }

    /// What a step is called that only has a label: by its cause, by its own comment, else by what it runs.
    fn telling(&self, place: Place, executor: Executor, text: &str) -> Option<String> {
        let cause = place.cause.and_then(|cause| self.runbook.causes.get(cause)).map(|cause| cause.title.clone());
        let comment = || {
            let mark = if executor == Executor::Sql { "--" } else { "#" };
            let comment = text.lines().find_map(|line| line.trim().strip_prefix(mark))?;
            Some(without_number(comment.trim())).filter(|title| !title.is_empty() && !is_label(title))
        };
        let line = || {
            let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
            Some(paramedic_model::text::head(line, TITLE_BYTES_MAX).trim_end().to_owned())
        };
        cause.filter(|title| !title.is_empty()).or_else(comment).or_else(line)
    }

    fn unique(&mut self, wanted: String) -> String {
        let wanted = if wanted.is_empty() { "step".to_owned() } else { wanted };
        let count = self.names.entry(wanted.clone()).or_default();
        *count += 1;
        if *count == 1 { wanted } else { format!("{wanted}-{count}") }
    }
}

/// Whether a text before a block says only what kind of block follows.
fn is_label(text: &str) -> bool {
    const LABELS: [&str; 19] = [
        "symptom",
        "symptoms",
        "resolution",
        "fix",
        "the fix",
        "solution",
        "mitigation",
        "remediation",
        "workaround",
        "recovery",
        "steps",
        "command",
        "commands",
        "action",
        "actions",
        "investigation",
        "diagnosis",
        "verification",
        "rollback",
    ];
    let label = text.trim_matches(|letter: char| letter.is_whitespace() || "*_:.".contains(letter)).to_lowercase();
    LABELS.contains(&label.as_str())
}

/// What changes something under a cause's symptoms is its resolution: many write the texts to look for, and then what to do,
/// without a heading between.
fn section_of(place: Place, values: &BTreeMap<String, String>, commands: &[CommandLine]) -> SectionKind {
    let changes = values.get("mode").is_some_and(|mode| mode == "write")
        || commands.iter().any(|command| command.verdict.effect > classify::Effect::Read);
    if changes && place.cause.is_some() && place.section == SectionKind::Symptoms { SectionKind::Resolution } else { place.section }
}

fn is_alert_name(code: &str) -> bool {
    code.starts_with(|first: char| first.is_ascii_uppercase()) && code.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// Longest command that stands for a title.
const TITLE_BYTES_MAX: usize = 60;

/// A title, its line, its text and its command lines.
type Part = (String, usize, String, Vec<CommandLine>);

/// Splits a script at its comments: `# 1. Check …` begins a step, and so does any other comment that commands follow.
fn split(script: &str, fence_line: usize) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut set: Vec<Setting> = Vec::new();
    let mut wanted: Vec<Vec<String>> = Vec::new();
    let mut open = 0;
    for statement in shell::parse(&without_prompts(script)) {
        let mut verdict = classify(&statement);
        let inside = open > 0;
        open = (open + compounds(&statement.text)).max(0);
        let title = statement.comments.iter().rev().find(|comment| is_numbered(comment)).or_else(|| statement.comments.first());
        // A comment inside a loop or a condition says what happens there; it begins no step.
        let begins_one = parts.is_empty() || (title.is_some() && !inside);
        if begins_one {
            let title = title.map(|title| without_number(title)).unwrap_or_default();
            parts.push((title, fence_line + statement.line, String::new(), Vec::new()));
            wanted.push(vec![FOLDER.to_owned()]);
        }
        // A variable that an earlier line of the block sets is not missing.
        let (known, missing) = verdict.placeholders.into_iter().partition(|name| set.iter().any(|one| one.names.contains(name)));
        verdict.placeholders = missing;
        let known: Vec<String> = known;
        let command = CommandLine { line: fence_line + statement.line, text: statement.text.clone(), verdict };
        let mut names: Vec<String> = statement.commands.iter().flat_map(|one| &one.assignments).map(|(name, _)| name.clone()).collect();
        let moves = matches!(statement.commands.as_slice(), [only] if only.words.first().is_some_and(|word| word.text == "cd"));
        if moves {
            names.push(FOLDER.to_owned());
        }
        if !names.is_empty() {
            let looks = command.verdict.effect == classify::Effect::Read
                && !inside
                && (moves || statement.commands.first().is_some_and(|one| one.words.is_empty()));
            set.push(Setting { names, needs: known.clone(), part: parts.len(), looks, command: command.clone() });
        }
        if let (Some(part), Some(wanted)) = (parts.last_mut(), wanted.last_mut()) {
            wanted.extend(known);
            if !part.2.is_empty() {
                part.2.push('\n');
            }
            part.2.push_str(&command.text);
            part.3.push(command);
        }
    }
    for (at, (part, wanted)) in parts.iter_mut().zip(wanted).enumerate() {
        with_settings(part, at + 1, wanted, &set);
    }
    parts
}

/// What `cd` sets; no variable has a blank in its name.
const FOLDER: &str = "the folder";

/// A line of a block that sets variables, or the folder.
struct Setting {
    names: Vec<String>,
    /// Variables that earlier lines set for it.
    needs: Vec<String>,
    part: usize,
    /// It only looks, and does nothing but set.
    looks: bool,
    command: CommandLine,
}

/// Each step has a shell of its own: what earlier steps of the block set for it is set again, where that only looks.
fn with_settings(part: &mut Part, number: usize, mut wanted: Vec<String>, set: &[Setting]) {
    let mut again: Vec<&CommandLine> = Vec::new();
    for setting in set.iter().rev().filter(|setting| setting.part < number && setting.looks) {
        if setting.names.iter().any(|name| wanted.contains(name)) {
            wanted.extend(setting.needs.iter().cloned());
            again.push(&setting.command);
        }
    }
    for command in again {
        part.2 = format!("{}\n{}", command.text, part.2);
        part.3.insert(0, command.clone());
    }
}

/// How many loops, conditions and functions a statement opens more than it closes.
fn compounds(text: &str) -> i32 {
    let mut quote: Option<char> = None;
    let mut plain = String::new();
    for letter in text.chars() {
        match (quote, letter) {
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), letter) if letter == open => quote = None,
            (Some(_), _) => {}
            (None, ';' | '|' | '&' | '\n') => plain.push_str(" ; "),
            (None, letter) => plain.push(letter),
        }
    }
    let mut depth = 0;
    let mut begins = true;
    for word in plain.split_whitespace() {
        match word {
            "if" | "for" | "while" | "until" | "case" | "select" if begins => depth += 1,
            "fi" | "done" | "esac" | "}" if begins => depth -= 1,
            "{" => depth += 1,
            _ => {}
        }
        begins = [";", "do", "then", "else", "elif", "{", "("].contains(&word);
    }
    depth
}

/// A copied session has prompts before what was typed, and answers between. Only what was typed is a command.
fn without_prompts(script: &str) -> std::borrow::Cow<'_, str> {
    if !script.lines().any(|line| line.trim_start().starts_with("$ ")) {
        return script.into();
    }
    let mut continues = false;
    let typed = script.lines().map(|line| {
        let bare = line.trim_start();
        let kept = match bare.strip_prefix("$ ") {
            Some(command) => command,
            None if continues || bare.starts_with('#') => line,
            None => "",
        };
        continues = kept.trim_end().ends_with('\\');
        kept
    });
    typed.collect::<Vec<_>>().join("\n").into()
}

fn is_numbered(comment: &str) -> bool {
    comment.starts_with(|first: char| first.is_ascii_digit())
}

fn without_number(comment: &str) -> String {
    comment.trim_start_matches(|letter: char| letter.is_ascii_digit() || ". )".contains(letter)).trim_end_matches('.').to_owned()
}

/// The comment that a step without a shell begins with, where the executor reads comments.
fn title_in(executor: Executor, text: &str) -> Option<String> {
    let reads = matches!(executor, Executor::Kubectl | Executor::Redis | Executor::Http | Executor::Manual);
    let comment = text.trim_start().lines().next()?.strip_prefix("# ").filter(|_| reads)?;
    Some(without_number(comment.trim())).filter(|title| !title.is_empty())
}

/// What a step does without the comments that its executor passes over, and the line it begins on.
fn without_comments(executor: Executor, line: usize, text: &str) -> (usize, String) {
    let is_comment = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if !matches!(executor, Executor::Kubectl | Executor::Redis | Executor::Http) {
        return (line, text.trim().to_owned());
    }
    let before = text.lines().take_while(is_comment).count();
    // A body of a request may well have a line that begins with `#`.
    let kept: Vec<&str> = text.lines().skip(before).filter(|line| executor == Executor::Http || !is_comment(line)).collect();
    (line + before, kept.join("\n").trim().to_owned())
}

/// The one thing that a step without a shell does.
fn single(executor: Executor, line: usize, text: &str) -> CommandLine {
    let (line, text) = without_comments(executor, line, text);
    let text = text.as_str();
    let (effect, why, never_ends) = match executor {
        Executor::Kubectl => {
            let program = if text.starts_with("kubectl ") { "" } else { "kubectl " };
            let statements = shell::parse(&format!("{program}{}", text.replace("\\\n", " ").replace('\n', " ")));
            let verdict = statements.iter().map(classify).max_by_key(|verdict| verdict.effect).unwrap_or_default();
            return CommandLine { line, text: text.to_owned(), verdict };
        }
        Executor::Redis => {
            let statements = shell::parse(&format!("redis-cli {text}"));
            let verdict = statements.iter().map(classify).max_by_key(|verdict| verdict.effect).unwrap_or_default();
            return CommandLine { line, text: text.to_owned(), verdict };
        }
        Executor::Sql => {
            let (effect, why) = classify::sql_effect(text);
            (effect, why, None)
        }
        Executor::Http => {
            let (effect, why) = classify::http_effect(text.split_whitespace().next().unwrap_or("GET"));
            (effect, why, None)
        }
        Executor::Action => {
            let (effect, why) = classify::action_effect(text);
            (effect, why, None)
        }
        _ => (classify::Effect::Read, String::new(), None),
    };
    CommandLine { line, text: text.to_owned(), verdict: Verdict { effect, why, never_ends, ..Verdict::default() } }
}
