//! Command lines that never end, or ask for a terminal, in a form that means the same and ends by itself.

use crate::classify::classify;
use crate::shell;

/// A word of a command line: where it stands, and its text without quotes.
struct Token {
    from: usize,
    to: usize,
    text: String,
}

/// The command line with every part that never ends bounded, and why; none when there is nothing to bound, or no safe way to.
pub(crate) fn bounded(line: &str) -> Option<(String, &'static str)> {
    let mut why = None;
    let safer = in_each_command(line, |command, words| {
        let (edits, because) = edits_of(command, words)?;
        why = Some(because);
        Some(edits)
    })?;
    same_or_less(line, &safer).then_some((safer, why?))
}

/// The command line without a terminal for `exec`, where a command stands behind it.
pub(super) fn without_terminal(line: &str) -> Option<String> {
    let safer = in_each_command(line, |_, words| {
        let program = words.first()?.text.as_str();
        let exec = words.iter().position(|word| word.text == "exec")?;
        let plain = |word: &&Token| ["-it", "-ti", "-i", "-t", "--stdin", "--tty"].contains(&word.text.as_str());
        let end = words.iter().position(|word| word.text == "--").unwrap_or(exec + 2);
        let terminal: Vec<Edit> = words[exec..end.min(words.len())].iter().filter(plain).map(Edit::remove).collect();
        (["kubectl", "docker", "oc"].contains(&program) && !terminal.is_empty()).then_some(terminal)
    })?;
    let waits = shell::parse(&safer).iter().any(|statement| classify(statement).interactive.is_some());
    (!waits && same_or_less(line, &safer)).then_some(safer)
}

/// `curl` with an address that the shell would stumble over, in quotes.
pub(super) fn quoted_address(line: &str) -> Option<String> {
    if line.contains(['\'', '"', '|', ';', '`', '\n', '$', '<', '>']) || !line.contains('(') || !line.starts_with("curl ") {
        return None;
    }
    let words: Vec<String> = line
        .split(' ')
        .map(|word| if word.starts_with("http") && word.contains(['(', '[', '{', '&']) { format!("'{word}'") } else { word.to_owned() })
        .collect();
    let safer = words.join(" ");
    let reads = matches!(shell::parse(&safer).as_slice(), [only] if only.commands.len() == 1 && !only.commands[0].opaque);
    (reads && safer != line).then_some(safer)
}

/// The new line ends, waits for nobody it did not wait for, and does no more than the old one.
fn same_or_less(old: &str, new: &str) -> bool {
    match (shell::parse(old).as_slice(), shell::parse(new).as_slice()) {
        ([old], [new]) => {
            let (before, after) = (classify(old), classify(new));
            after.never_ends.is_none() && after.effect <= before.effect && (after.interactive.is_none() || before.interactive.is_some())
        }
        _ => false,
    }
}

/// A change to a text: what stands from `from` to `to` becomes `text`.
struct Edit {
    from: usize,
    to: usize,
    text: String,
}

impl Edit {
    fn remove(word: &Token) -> Self {
        Self { from: word.from, to: word.to, text: String::new() }
    }

    fn replace(word: &Token, text: impl Into<String>) -> Self {
        Self { from: word.from, to: word.to, text: text.into() }
    }

    fn behind(word: &Token, text: &str) -> Self {
        Self { from: word.to, to: word.to, text: format!(" {text}") }
    }
}

/// Applies what `judge` says to each command of a line; none when it says nothing.
fn in_each_command(line: &str, mut judge: impl FnMut(&str, &[Token]) -> Option<Vec<Edit>>) -> Option<String> {
    if line.contains("$(") || line.contains('`') || line.contains("<<") {
        return None;
    }
    let commands = tokens(line)?;
    let mut edits: Vec<Edit> = commands.iter().filter_map(|words| judge(line, words)).flatten().collect();
    if edits.is_empty() {
        return None;
    }
    edits.sort_by_key(|edit| (edit.from, edit.to));
    let mut out = String::new();
    let mut at = 0;
    for edit in edits {
        if edit.from < at {
            return None;
        }
        out.push_str(&line[at..edit.from]);
        if edit.text.is_empty() {
            // The blank before a removed word goes with it.
            out.truncate(out.trim_end_matches(' ').len());
        }
        out.push_str(&edit.text);
        at = edit.to;
    }
    out.push_str(&line[at..]);
    Some(out)
}

/// The words of each command of a line; none when a quote is open.
fn tokens(line: &str) -> Option<Vec<Vec<Token>>> {
    let mut commands: Vec<Vec<Token>> = vec![Vec::new()];
    let mut word: Option<Token> = None;
    let mut quote: Option<char> = None;
    let mut letters = line.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        let ends = quote.is_none() && (letter.is_whitespace() || "|;&<>".contains(letter));
        let joins = letter == '\\' && quote != Some('\'');
        if ends || (joins && letters.peek().is_some_and(|(_, next)| *next == '\n')) {
            if let (Some(done), Some(words)) = (word.take(), commands.last_mut()) {
                words.push(Token { to: at, ..done });
            }
            if "|;&".contains(letter) {
                commands.push(Vec::new());
            }
            if joins {
                letters.next();
            }
            continue;
        }
        if letter == '#' && word.is_none() {
            break;
        }
        let open = word.get_or_insert_with(|| Token { from: at, to: at, text: String::new() });
        match (quote, letter) {
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), letter) if letter == open => quote = None,
            (_, '\\') if joins => open.text.extend(letters.next().map(|(_, escaped)| escaped)),
            (_, letter) => open.text.push(letter),
        }
    }
    if let (Some(done), Some(words)) = (word.take(), commands.last_mut()) {
        words.push(Token { to: line.len(), ..done });
    }
    quote.is_none().then_some(commands)
}

/// How one command is bounded, and why.
fn edits_of(line: &str, words: &[Token]) -> Option<(Vec<Edit>, &'static str)> {
    let first = words.first()?;
    let position = |name: &str| words.iter().position(|word| word.text == name);
    let begins = |prefix: &str| words.iter().any(|word| word.text.starts_with(prefix));
    let follow = |names: &[&str]| -> Vec<&Token> { words.iter().skip(1).filter(|word| names.contains(&word.text.as_str())).collect() };
    let plain: Vec<&Token> = words.iter().skip(1).filter(|word| !word.text.starts_with('-')).collect();
    match first.text.as_str() {
        "kubectl" | "oc" if position("logs").is_some() => {
            let follows = follow(&["-f", "--follow", "--follow=true"]);
            let mut edits: Vec<Edit> = follows.iter().map(|word| Edit::remove(word)).collect();
            if edits.is_empty() {
                return None;
            }
            if !begins("--tail") && !begins("--since") {
                edits.push(Edit::behind(&words[position("logs")?], "--tail=200 --since=10m"));
            }
            Some((edits, "it followed the log for ever"))
        }
        "kubectl" | "oc" if position("get").is_some() => {
            let watches = follow(&["-w", "--watch", "--watch-only", "--watch=true"]);
            (!watches.is_empty()).then(|| (watches.iter().map(|word| Edit::remove(word)).collect(), "it watched for ever"))
        }
        "tail" => tail(words),
        "watch" => watch(line, words),
        "redis-cli" | "valkey-cli" => {
            // The command is the first word that is neither an option nor the value of one.
            let mut keys = 1;
            while let Some(word) = words.get(keys).filter(|word| word.text.starts_with('-')) {
                keys += if ["-h", "-p", "-a", "-n", "-u", "-s", "--user", "--pass"].contains(&word.text.as_str()) { 2 } else { 1 };
            }
            let is_keys = words.get(keys).is_some_and(|word| word.text.eq_ignore_ascii_case("keys"));
            (is_keys && keys + 2 == words.len())
                .then(|| (vec![Edit::replace(&words[keys], "--scan --pattern")], "KEYS stops Redis for everybody, SCAN does not"))
        }
        "top" if words.len() == 1 => Some((vec![Edit::behind(first, "-b -n 1")], "it showed a screen until a person left it")),
        "vmstat" | "iostat" | "mpstat" if plain.len() == 1 && plain[0].text.parse::<u32>().is_ok() => {
            Some((vec![Edit::behind(plain[0], "2")], "it reported for ever"))
        }
        "docker" | "podman" if position("stats") == Some(1) && !begins("--no-stream") => {
            Some((vec![Edit::behind(&words[1], "--no-stream")], "it reported for ever"))
        }
        "docker" | "podman" | "docker-compose" if position("logs").is_some() => {
            let at = position("logs")?;
            let follows: Vec<&Token> = words[at..].iter().filter(|word| ["-f", "--follow"].contains(&word.text.as_str())).collect();
            let mut edits: Vec<Edit> = follows.iter().map(|word| Edit::remove(word)).collect();
            if edits.is_empty() {
                return None;
            }
            if !begins("--tail") && !begins("--since") && !begins("-n") {
                edits.push(Edit::behind(&words[at], "--tail 200"));
            }
            Some((edits, "it followed the log for ever"))
        }
        "journalctl" => {
            let follows = follow(&["-f", "--follow"]);
            let word = follows.first()?;
            let lines = if begins("-n") || begins("--lines") { "" } else { "-n 200" };
            Some((vec![Edit::replace(word, lines)], "it followed the log for ever"))
        }
        "ping" | "ping6" if !begins("-c") && !begins("--count") && !begins("-w") => {
            Some((vec![Edit::behind(first, "-c 3")], "it went on for ever"))
        }
        "dmesg" => {
            let follows = follow(&["-w", "-W", "--follow"]);
            (!follows.is_empty())
                .then(|| (follows.iter().map(|word| Edit::remove(word)).collect(), "it followed the kernel's messages for ever"))
        }
        _ => None,
    }
}

/// `tail -f`, `tail -F`, `tail -100f`, `tail -n 5 -f`.
fn tail(words: &[Token]) -> Option<(Vec<Edit>, &'static str)> {
    let numbered = |text: &str| {
        text.starts_with("-n")
            || text.starts_with("--lines")
            || text.strip_prefix('-').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    let counts = words.iter().any(|word| numbered(&word.text) && !word.text.ends_with(['f', 'F']));
    let follow = words.iter().skip(1).find(|word| {
        let text = word.text.as_str();
        let letters = text.strip_prefix('-').filter(|letters| !letters.starts_with('-')).unwrap_or_default();
        ["--follow", "--follow=name", "--follow=descriptor"].contains(&text)
            || letters.ends_with(['f', 'F']) && letters[..letters.len() - 1].chars().all(|letter| letter.is_ascii_digit())
    })?;
    let count: String = follow.text.chars().filter(char::is_ascii_digit).collect();
    let edit = match (counts, count.as_str()) {
        (true, _) => Edit::remove(follow),
        (false, "") => Edit::replace(follow, "-n 200"),
        (false, count) => Edit::replace(follow, format!("-n {count}")),
    };
    Some((vec![edit], "it followed the file for ever"))
}

/// `watch -n 5 'a | b'`: the command it repeats, once.
fn watch(line: &str, words: &[Token]) -> Option<(Vec<Edit>, &'static str)> {
    let mut at = 1;
    while let Some(word) = words.get(at).filter(|word| word.text.starts_with('-')) {
        at += if ["-n", "--interval"].contains(&word.text.as_str()) { 2 } else { 1 };
    }
    let (first, inner) = (words.first()?, words.get(at)?);
    let whole = &line[inner.from..inner.to];
    let why = "it repeated its command for ever; a verification with `within` and `hold` repeats a look";
    let quoted = whole.len() >= 2 && whole.starts_with(['\'', '"']) && whole.ends_with(whole.chars().next()?);
    if quoted && at + 1 == words.len() {
        let script = whole.get(1..whole.len() - 1)?;
        if script.contains(whole.chars().next()?) || script.contains('\\') {
            return None;
        }
        let script = quoted_address(script).unwrap_or_else(|| script.to_owned());
        return Some((vec![Edit { from: first.from, to: inner.to, text: script }], why));
    }
    Some((vec![Edit { from: first.from, to: inner.from, text: String::new() }], why))
}
