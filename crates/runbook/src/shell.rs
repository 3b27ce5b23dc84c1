//! What a shell would see in a script: statements, the commands in them, their words and redirections.
//!
//! This is not a shell. It reads as much of the grammar of POSIX and Bash as is needed to know every program that a line
//! would start, also inside quotes, substitutions, pipes and `xargs`-like wrappers. What it cannot follow it marks as
//! [`Command::opaque`], and the classifier takes that for the worst.

mod blanks;

use blanks::blanks;

/// Substitutions inside substitutions that are followed.
const DEPTH_MAX: usize = 16;

/// One logical line: what a person would count as one command line, with its continuation lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The line it begins on, counted from 1.
    pub line: usize,
    /// Its text as written.
    pub text: String,
    /// The comment lines directly before it, without their marks.
    pub comments: Vec<String>,
    /// Every command in it, those inside substitutions included, in the order they are written.
    pub commands: Vec<Command>,
}

/// One simple command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Command {
    /// `NAME=value` before the program.
    pub assignments: Vec<(String, Word)>,
    pub words: Vec<Word>,
    pub redirections: Vec<Redirection>,
    /// Its input is another command's output.
    pub piped: bool,
    /// It stands inside `$(…)` or backticks.
    pub substituted: bool,
    /// Something in it could not be followed.
    pub opaque: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Word {
    /// Without quotes. A substitution leaves nothing, a variable leaves `$NAME`.
    pub text: String,
    /// Variables it takes its text from.
    pub variables: Vec<String>,
    /// `<name>`, written for a person to fill in.
    pub placeholders: Vec<String>,
    /// Texts that stand for another one without saying so to a machine: `your-org`, `YOUR_KEY`, `{{pod}}`, `sg-xxxxx`.
    pub blanks: Vec<String>,
    /// Any part of it was quoted.
    pub quoted: bool,
    /// Part of it is the output of a command.
    pub computed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirection {
    /// `>`, `>>`, `<`, `<<`, `>&` …
    pub operator: String,
    pub target: Word,
}

/// Reads a script. Never fails: what is wrong in it makes its commands opaque.
#[must_use]
pub fn parse(script: &str) -> Vec<Statement> {
    let mut reader = Reader { characters: script.chars().collect(), at: 0, line: 1, depth: 0, heredocs: Vec::new() };
    reader.statements()
}

/// Words of the grammar that stand where a program could.
const KEYWORDS: &[&str] =
    &["if", "then", "else", "elif", "fi", "while", "until", "do", "done", "{", "}", "!", "case", "esac", "function", "time", "(", ")"];

struct Reader {
    characters: Vec<char>,
    at: usize,
    line: usize,
    depth: usize,
    /// Ends of here-documents whose bodies begin on the next line.
    heredocs: Vec<String>,
}

impl Reader {
    fn peek(&self) -> Option<char> {
        self.characters.get(self.at).copied()
    }

    fn peek_at(&self, ahead: usize) -> Option<char> {
        self.characters.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Option<char> {
        let found = self.peek()?;
        self.at += 1;
        if found == '\n' {
            self.line += 1;
        }
        Some(found)
    }

    fn text(&self, from: usize) -> String {
        self.characters[from..self.at].iter().collect::<String>().trim().to_owned()
    }

    fn statements(&mut self) -> Vec<Statement> {
        let mut all = Vec::new();
        let mut comments = Vec::new();
        let mut blank_before = false;
        while let Some(character) = self.peek() {
            match character {
                '\n' => {
                    self.next();
                    if blank_before {
                        comments.clear();
                    }
                    blank_before = true;
                }
                ' ' | '\t' | '\r' | ';' => {
                    self.next();
                }
                '#' => {
                    // A blank line ends what was said before it.
                    if blank_before {
                        comments.clear();
                    }
                    blank_before = false;
                    let from = self.at;
                    while self.peek().is_some_and(|character| character != '\n') {
                        self.next();
                    }
                    comments.push(self.text(from).trim_start_matches('#').trim().to_owned());
                    self.next();
                }
                _ => {
                    blank_before = false;
                    let (line, from) = (self.line, self.at);
                    let mut commands = Vec::new();
                    self.pipeline(None, &mut commands);
                    let text = self.text(from);
                    self.skip_heredocs();
                    if self.at == from {
                        self.next();
                        continue;
                    }
                    all.push(Statement { line, text, comments: std::mem::take(&mut comments), commands });
                }
            }
        }
        all
    }

    /// Everything up to the end of the logical line, or up to `close`.
    fn pipeline(&mut self, close: Option<char>, commands: &mut Vec<Command>) {
        let mut piped = false;
        loop {
            self.command(close, piped, commands);
            piped = false;
            match self.peek() {
                None => return,
                Some(found) if Some(found) == close => return,
                Some('\n') => {
                    if close.is_none() {
                        return;
                    }
                    self.next();
                }
                Some('#') if close.is_none() => {
                    while self.peek().is_some_and(|character| character != '\n') {
                        self.next();
                    }
                    return;
                }
                Some('|') => {
                    self.next();
                    if self.peek() == Some('|') {
                        self.next();
                    } else {
                        piped = true;
                        if self.peek() == Some('&') {
                            self.next();
                        }
                    }
                    self.skip_blanks(true);
                }
                Some('&') => {
                    self.next();
                    if self.peek() == Some('&') {
                        self.next();
                        self.skip_blanks(true);
                    }
                }
                Some(_) => {
                    self.next();
                }
            }
        }
    }

    fn skip_blanks(&mut self, lines_too: bool) {
        while let Some(character) = self.peek() {
            let blank = matches!(character, ' ' | '\t' | '\r') || (lines_too && character == '\n');
            let continued = character == '\\' && self.peek_at(1) == Some('\n');
            if continued {
                self.next();
            } else if !blank {
                return;
            }
            self.next();
        }
    }

    fn command(&mut self, close: Option<char>, piped: bool, commands: &mut Vec<Command>) {
        let mut command = Command { piped, substituted: close.is_some(), ..Command::default() };
        let mut inner = Vec::new();
        loop {
            self.skip_blanks(false);
            match self.peek() {
                None | Some('\n' | ';' | '|') => break,
                Some('&') if self.peek_at(1) != Some('>') => break,
                Some(found) if Some(found) == close => break,
                Some('#') => break,
                Some('(' | ')') => {
                    // A subshell, a function's head or an array: its commands are read as if they stood here.
                    self.next();
                    if !command.words.is_empty() {
                        command.opaque = true;
                    }
                    if !command.words.is_empty() || !command.assignments.is_empty() {
                        break;
                    }
                }
                Some(_) if self.redirection(&mut command, &mut inner) => {}
                Some(_) => {
                    let word = self.word(close, &mut inner, &mut command.opaque);
                    self.take_word(&mut command, word);
                }
            }
        }
        let says_something =
            !command.words.is_empty() || !command.assignments.is_empty() || !command.redirections.is_empty() || command.opaque;
        if says_something {
            commands.push(command);
        }
        commands.append(&mut inner);
    }

    fn take_word(&self, command: &mut Command, word: Word) {
        if command.words.is_empty() && !word.quoted {
            if KEYWORDS.contains(&word.text.as_str()) {
                return;
            }
            if let Some((name, value)) = word.text.split_once('=')
                && is_name(name)
            {
                let value = Word { text: value.to_owned(), ..word.clone() };
                command.assignments.push((name.to_owned(), value));
                return;
            }
        }
        command.words.push(word);
    }

    /// Reads a redirection if one stands here.
    fn redirection(&mut self, command: &mut Command, inner: &mut Vec<Command>) -> bool {
        let digits = (self.at..).take_while(|at| self.characters.get(*at).is_some_and(char::is_ascii_digit)).count();
        let begins = self.peek_at(digits);
        let both = begins == Some('&') && self.peek_at(digits + 1) == Some('>');
        if !both && !matches!(begins, Some('>' | '<')) {
            return false;
        }
        if begins == Some('<') && digits == 0 && self.placeholder_here().is_some() {
            return false;
        }
        for _ in 0..digits {
            self.next();
        }
        let mut operator = String::new();
        while let Some(character) = self.peek().filter(|character| matches!(character, '<' | '>' | '&' | '|')) {
            if operator.len() >= 3 {
                break;
            }
            operator.push(character);
            self.next();
        }
        if self.peek() == Some('(') {
            // Process substitution: the command inside runs.
            self.next();
            self.substitution(')', inner, &mut command.opaque);
            return true;
        }
        if operator == "<<" && self.peek() == Some('-') {
            self.next();
        }
        self.skip_blanks(false);
        let target = self.word(None, inner, &mut command.opaque);
        if operator == "<<" {
            self.heredocs.push(target.text.clone());
        }
        command.redirections.push(Redirection { operator, target });
        true
    }

    fn skip_heredocs(&mut self) {
        for end in std::mem::take(&mut self.heredocs) {
            if self.peek() == Some('\n') {
                self.next();
            }
            while self.peek().is_some() {
                let from = self.at;
                while self.peek().is_some_and(|character| character != '\n') {
                    self.next();
                }
                if self.text(from) == end {
                    break;
                }
                self.next();
            }
        }
    }

    /// The name in `<name>`, if that is what stands here.
    fn placeholder_here(&self) -> Option<String> {
        if self.peek() != Some('<') {
            return None;
        }
        let rest = &self.characters[self.at + 1..];
        let length = rest.iter().take(40).position(|character| *character == '>')?;
        let name: String = rest[..length].iter().collect();
        let plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | ' ' | '.');
        (name.starts_with(|first: char| first.is_ascii_alphabetic()) && name.chars().all(plain)).then_some(name)
    }

    /// Takes a `<name>` inside quotes. There it may be anything, so only what looks like nothing else is one.
    fn quoted_placeholder(&mut self, word: &mut Word) -> bool {
        let plain = |name: &String| {
            let letters = name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-'));
            letters && (name.contains(['_', '-']) || name.len() >= 5) && !TAGS.contains(&name.as_str())
        };
        let Some(name) = self.placeholder_here().filter(plain) else { return false };
        for _ in 0..name.chars().count() + 2 {
            self.next();
        }
        word.text.push_str(&format!("<{name}>"));
        word.placeholders.push(name);
        true
    }

    fn word(&mut self, close: Option<char>, inner: &mut Vec<Command>, opaque: &mut bool) -> Word {
        let mut word = self.raw_word(close, inner, opaque);
        word.blanks = blanks(&word.text);
        word
    }

    fn raw_word(&mut self, close: Option<char>, inner: &mut Vec<Command>, opaque: &mut bool) -> Word {
        let mut word = Word::default();
        while let Some(character) = self.peek() {
            if let Some(name) = self.placeholder_here() {
                for _ in 0..name.chars().count() + 2 {
                    self.next();
                }
                word.text.push_str(&format!("<{name}>"));
                word.placeholders.push(name);
                continue;
            }
            match character {
                ' ' | '\t' | '\r' | '\n' | ';' | '|' | '&' | '(' | ')' | '<' | '>' => break,
                '\'' => self.single_quoted(&mut word, opaque),
                '"' => self.double_quoted(&mut word, inner, opaque),
                '\\' => {
                    self.next();
                    if let Some(escaped) = self.next().filter(|escaped| *escaped != '\n') {
                        word.text.push(escaped);
                        word.quoted = true;
                    }
                }
                '$' | '`' => self.expansion(&mut word, inner, opaque),
                found if Some(found) == close => break,
                found => {
                    word.text.push(found);
                    self.next();
                }
            }
        }
        if word == Word::default() && !matches!(self.peek(), None | Some(' ' | '\t' | '\r' | '\n' | ';' | '|' | '&' | '(' | ')')) {
            // A stray mark: go on behind it rather than stand still.
            *opaque = true;
            self.next();
        }
        word
    }

    fn single_quoted(&mut self, word: &mut Word, opaque: &mut bool) {
        self.next();
        word.quoted = true;
        loop {
            if self.quoted_placeholder(word) {
                continue;
            }
            match self.next() {
                Some('\'') => return,
                Some(character) => word.text.push(character),
                None => {
                    *opaque = true;
                    return;
                }
            }
        }
    }

    fn double_quoted(&mut self, word: &mut Word, inner: &mut Vec<Command>, opaque: &mut bool) {
        self.next();
        word.quoted = true;
        loop {
            if self.quoted_placeholder(word) {
                continue;
            }
            match self.peek() {
                Some('"') => {
                    self.next();
                    return;
                }
                Some('\\') => {
                    self.next();
                    word.text.extend(self.next().filter(|escaped| *escaped != '\n'));
                }
                Some('$' | '`') => self.expansion(word, inner, opaque),
                Some(character) => {
                    word.text.push(character);
                    self.next();
                }
                None => {
                    *opaque = true;
                    return;
                }
            }
        }
    }

    /// `$NAME`, `${NAME…}`, `$(…)`, `$((…))`, backticks.
    fn expansion(&mut self, word: &mut Word, inner: &mut Vec<Command>, opaque: &mut bool) {
        if self.next() == Some('`') {
            word.computed = true;
            self.substitution('`', inner, opaque);
            return;
        }
        match self.peek() {
            Some('(') => {
                self.next();
                word.computed = true;
                self.substitution(')', inner, opaque);
            }
            Some('{') => {
                self.next();
                let from = self.at;
                let mut depth = 1;
                while let Some(character) = self.next() {
                    depth += i32::from(character == '{') - i32::from(character == '}');
                    if depth == 0 {
                        break;
                    }
                }
                let body: String = self.characters[from..self.at.saturating_sub(1).max(from)].iter().collect();
                if body.contains("$(") || body.contains('`') {
                    *opaque = true;
                }
                let name: String = body.chars().take_while(|character| character.is_ascii_alphanumeric() || *character == '_').collect();
                word.text.push_str(&format!("${name}"));
                word.variables.push(name);
            }
            Some(first) if first.is_ascii_alphabetic() || first == '_' => {
                let from = self.at;
                while self.peek().is_some_and(|character| character.is_ascii_alphanumeric() || character == '_') {
                    self.next();
                }
                let name: String = self.characters[from..self.at].iter().collect();
                word.text.push_str(&format!("${name}"));
                word.variables.push(name);
            }
            _ => word.text.push('$'),
        }
    }

    fn substitution(&mut self, close: char, inner: &mut Vec<Command>, opaque: &mut bool) {
        if self.depth >= DEPTH_MAX {
            *opaque = true;
            self.at = self.characters.len();
            return;
        }
        self.depth += 1;
        self.pipeline(Some(close), inner);
        self.depth -= 1;
        if self.peek() == Some(close) {
            self.next();
        } else {
            *opaque = true;
        }
    }
}

/// Names of HTML that stand in quotes without being placeholders.
const TAGS: &[&str] = &["body", "button", "center", "footer", "header", "script", "strong", "style", "table", "tbody", "thead", "title"];

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every program of a script with its words, one command a line.
    fn programs(script: &str) -> Vec<String> {
        let words = |command: &Command| command.words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ");
        parse(script).iter().flat_map(|statement| statement.commands.iter().map(words)).collect()
    }

    #[test]
    fn every_program_that_would_start_is_seen() {
        let cases: &[(&str, &[&str])] = &[
            ("ls -l", &["ls -l"]),
            ("a | b && c || d; e & f", &["a", "b", "c", "d", "e", "f"]),
            ("echo \"$(rm -rf x)\"", &["echo ", "rm -rf x"]),
            ("echo `rm x`", &["echo ", "rm x"]),
            ("kill -0 $(cat f) 2>/dev/null && echo \"up\" || echo 'down'", &["kill -0 ", "cat f", "echo up", "echo down"]),
            ("X=$(date) Y=1", &["", "date"]),
            ("if ping -c1 h; then rm x; fi", &["ping -c1 h", "rm x"]),
            ("for f in *.log; do rm \"$f\"; done", &["for f in *.log", "rm $f"]),
            ("diff <(sort a) <(sort b)", &["diff", "sort a", "sort b"]),
            ("cat <<EOF\nrm -rf /\nEOF\nls", &["cat", "ls"]),
            ("a \\\n  --b \\\n  c", &["a --b c"]),
            ("(cd x && rm y)", &["cd x", "rm y"]),
            ("echo a\\ b 'c d' \"e f\"", &["echo a b c d e f"]),
            ("curl 'http://h/?q=rate(x[5m])'", &["curl http://h/?q=rate(x[5m])"]),
        ];
        for (script, expect) in cases {
            assert_eq!(programs(script), *expect, "{script}");
        }
    }

    #[test]
    fn logical_lines_are_counted_as_a_person_would() {
        let script = "# 1. Look\n\nls\n# 2. Fix\n# gently\nkubectl patch x \\\n  --patch '{\n\"a\": 1}'\ncat f |\n  sort\n";
        let statements = parse(script);
        let seen: Vec<_> = statements.iter().map(|one| (one.line, one.comments.clone())).collect();
        let expect = vec![(3, vec!["1. Look".to_owned()]), (6, vec!["2. Fix".to_owned(), "gently".to_owned()]), (9, vec![])];
        assert_eq!(seen, expect);
    }

    #[test]
    fn placeholders_are_no_redirections() {
        let statements = parse("kill -TERM <agent_pid>\nredis-cli DEL agent:<agent_id>:events < in > out 2>&1");
        let first = &statements[0].commands[0];
        assert_eq!((first.words[2].text.as_str(), first.words[2].placeholders.as_slice()), ("<agent_pid>", &["agent_pid".to_owned()][..]));
        assert!(first.redirections.is_empty());
        let second = &statements[1].commands[0];
        assert_eq!(second.words[2].placeholders, ["agent_id"]);
        let operators: Vec<_> = second.redirections.iter().map(|one| (one.operator.as_str(), one.target.text.as_str())).collect();
        assert_eq!(operators, [("<", "in"), (">", "out"), (">&", "1")]);
    }

    #[test]
    fn what_cannot_be_followed_is_marked() {
        for script in ["echo 'unclosed", "echo \"unclosed $(rm x", "f() { rm x; }"] {
            let statements = parse(script);
            assert!(statements.iter().flat_map(|one| &one.commands).any(|command| command.opaque), "{script}: {statements:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_to_its_end(script in "[ -~\n]{0,200}") {
            let _ = parse(&script);
        }

        #[test]
        fn shell_marks_in_any_order_are_read(script in "[a$(){}<>|&;'\"`\\\\#\n =]{0,80}") {
            let _ = parse(&script);
        }
    }
}
