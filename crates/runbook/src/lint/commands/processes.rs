//! Commands that cannot run unattended, and those that hit more than they name.

use super::{Look, Saying, say, say_if};
use crate::classify::Effect;
use crate::document::SectionKind;

pub(super) fn never_ends(look: &Look<'_>) -> Option<Saying> {
    let why = look.command.verdict.never_ends.as_deref()?;
    let bounded = crate::import::bounded(&look.command.text);
    let instead = match bounded {
        Some((safer, _)) => safer,
        None if look.says("docker stats") => "docker stats --no-stream".to_owned(),
        None => "a form that ends by itself, or timeout 10 before it".to_owned(),
    };
    say(format!("{why}: nobody sits there to stop it"), instead)
}

pub(super) fn waits_for_a_person(look: &Look<'_>) -> Option<Saying> {
    let why = look.command.verdict.interactive.as_deref()?;
    let instead = match () {
        () if look.says("exec -it") || look.says("exec -ti") => "exec without -it",
        () if look.says("kubectl edit") => "kubectl patch, with the old value noted; or the action `kubernetes.patch`, which notes it",
        () if look.says("open http") => "a link in the text",
        () if look.says("psql") => "psql -Atc '…', or a block for `sql`",
        () if look.says("redis-cli") => "redis-cli with its command behind it, or a block for `redis`",
        () if look.calls("ssh").next().is_some() => "ssh -o BatchMode=yes HOST 'the command'",
        () => "a command that takes all it needs as arguments, or a `manual` step",
    };
    say(why, instead)
}

pub(super) fn sudo_asks(look: &Look<'_>) -> Option<Saying> {
    let asks = look.commands.iter().any(|command| {
        let mut words = command.words.iter().map(|word| word.text.as_str());
        words.next() == Some("sudo")
            && !words.take_while(|word| word.starts_with('-')).any(|word| word == "-n" || word == "--non-interactive")
    });
    say_if(asks, "sudo may ask for a password, and nobody is there to type it", "sudo -n, which fails at once instead")
}

pub(super) fn no_time_limit(look: &Look<'_>) -> Option<Saying> {
    if look.step.attributes.contains_key("timeout") || look.says("timeout ") {
        return None;
    }
    let lacks = |program: &str, limits: &[&str]| {
        look.calls(program).any(|words| !words.iter().any(|word| limits.iter().any(|limit| word.starts_with(limit))))
    };
    let kubectl = look.calls("kubectl").any(|words| {
        let waits = words.contains(&"wait") || words.contains(&"drain") || words.contains(&"rollout") && words.contains(&"status");
        waits && !words.iter().any(|word| word.starts_with("--timeout") || word.starts_with("--watch=false"))
    });
    match () {
        () if lacks("curl", &["--max-time", "-m", "--connect-timeout", "--version"]) => {
            say("curl waits for minutes when the other side does not answer", "curl --fail --max-time 10")
        }
        () if lacks("wget", &["--timeout", "-T", "--version"]) => say("wget tries for a quarter of an hour", "wget --timeout=10 --tries=1"),
        () if look.calls("ssh").any(|words| !words.iter().any(|word| word.contains("ConnectTimeout"))) => {
            say("ssh waits for minutes for a machine that is gone", "ssh -o ConnectTimeout=5 -o BatchMode=yes")
        }
        () if lacks("nc", &["-w", "-zw", "-zvw"]) => say("nc waits as long as the network lets it", "nc -w 5"),
        () if kubectl => say("kubectl waits until it happens, also when it never does", "--timeout=60s"),
        () => None,
    }
}

pub(super) fn here_document(look: &Look<'_>) -> Option<Saying> {
    let here = look.is_shell() && look.commands.iter().flat_map(|command| &command.redirections).any(|one| one.operator == "<<");
    say_if(
        here,
        "the body of a here-document is not judged, and so not run",
        "a block for the executor that the body is for (`sql`, `action`), or a file that the command reads",
    )
}

pub(super) fn not_a_shell_program(look: &Look<'_>) -> Option<Saying> {
    let python = look.is_shell()
        && look.command.verdict.programs.iter().any(|program| {
            ["import", "from", "def", "const", "let", "SELECT", "select"].contains(&program.as_str())
                || program.contains('.') && program.ends_with("gc.collect")
        });
    say_if(
        python,
        "this is another language inside a block for the shell",
        "a block of its own language; it is then an illustration and never run",
    )
}

pub(super) fn shell_syntax(look: &Look<'_>) -> Option<Saying> {
    let bare = look.is_shell() && look.says("http") && unquoted_parenthesis(&look.command.text);
    say_if(
        bare,
        "a shell stops at the parenthesis: the URL is not quoted",
        "the URL in single quotes, or curl -G --data-urlencode 'query=...'",
    )
}

/// An opening parenthesis directly behind a letter, outside quotes.
fn unquoted_parenthesis(text: &str) -> bool {
    let mut quote = None;
    let mut before = ' ';
    for letter in text.chars() {
        match (quote, letter) {
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), _) if letter == open => quote = None,
            (None, '(') if before.is_alphanumeric() || before == '_' => return true,
            _ => {}
        }
        before = letter;
    }
    false
}

pub(super) fn change_while_looking(look: &Look<'_>) -> Option<Saying> {
    let changes = look.step.section == SectionKind::Investigation && look.command.verdict.effect > Effect::Read;
    let why = || format!("an investigation only looks, and this may change something: {}", look.command.verdict.why);
    changes.then(|| say(why(), "a step under Resolution")).flatten()
}

pub(super) fn kill_by_pattern(look: &Look<'_>) -> Option<Saying> {
    let found = look.calls("kill").next().is_some() && look.says_any(&["$(pgrep", "`pgrep", "$(pidof", "$(ps "])
        || look.says("pgrep") && look.says("xargs kill");
    let by_pattern =
        ["pkill", "killall"].iter().any(|program| look.text.split(|letter: char| !letter.is_alphanumeric()).any(|word| word == *program));
    say_if(
        by_pattern || found,
        "hits every process whose name or arguments match, also an editor that has the file open",
        "kill by the pid that the service wrote down, after comparing its start time; the action `process.stop` does both",
    )
}

pub(super) fn kill_without_asking(look: &Look<'_>) -> Option<Saying> {
    let hard = ["kill -9", "kill -kill", "kill -sigkill", "killall -9", "pkill -9"].iter().any(|form| look.says(form));
    say_if(
        hard,
        "the process cannot save or clean up",
        "TERM first, some seconds of grace, then KILL, then a look that it is gone: the action `process.stop`",
    )
}

pub(super) fn pipe_into_a_change(look: &Look<'_>) -> Option<Saying> {
    let into =
        ["| sh", "| bash", "| kubectl apply", "| kubectl delete", "| kubectl replace", "| psql", "| redis-cli", "| sudo sh", "| sudo bash"];
    let piped = into.iter().any(|end| look.says(end)) || changes_what_is_listed(look);
    // What a server answers has a rule of its own.
    let downloaded = downloads_and_runs(look).is_some();
    say_if(
        piped && !downloaded,
        "whatever the first half prints is carried out, also when it is not what was expected",
        "write the list to a file, look at it, then apply what was chosen; `redis.delete`, `process.stop` and `postgres.terminate` count first",
    )
}

/// `… | xargs kill`.
fn changes_what_is_listed(look: &Look<'_>) -> bool {
    look.commands.iter().filter(|command| command.piped).any(|command| {
        let words: Vec<&str> = command.words.iter().map(|word| word.text.as_str()).collect();
        let lists = ["xargs", "parallel"].contains(words.first().unwrap_or(&""));
        let changes = ["kill", "rm", "delete", "del", "unlink", "restart", "stop", "drain", "rmi", "psql"];
        lists && words.iter().skip(1).any(|word| changes.contains(&word.rsplit('/').next().unwrap_or(word).to_ascii_lowercase().as_str()))
    })
}

pub(super) fn downloads_and_runs(look: &Look<'_>) -> Option<Saying> {
    let downloads = look.calls("curl").next().is_some() || look.calls("wget").next().is_some();
    let shells = ["sh", "bash", "zsh", "python", "python3", "node", "perl"];
    let runs = look.commands.iter().filter(|command| command.piped).any(|command| {
        let mut words = command.words.iter().map(|word| word.text.as_str()).filter(|word| *word != "sudo");
        // `| python -m json.tool` only formats.
        words.next().is_some_and(|first| shells.contains(&first)) && !words.any(|word| word == "-m" || word == "-c")
    });
    let substituted = look.says_any(&["-c \"$(curl", "-c \"$(wget", "<(curl", "<(wget", "eval \"$(curl"]);
    say_if(
        downloads && (runs || substituted),
        "whatever the server answers is run, also an error page or what somebody else put there",
        "curl --fail -o FILE, compare its checksum, read it, then run the file",
    )
}

pub(super) fn open_permissions(look: &Look<'_>) -> Option<Saying> {
    let open = look.calls("chmod").any(|words| {
        let modes = ["777", "0777", "666", "0666", "a+rwx", "a+w", "o+w", "ugo+rwx", "+w"];
        words.iter().skip(1).any(|word| modes.contains(word))
    });
    say_if(
        open,
        "everybody on the machine may change it, programs that run it among them",
        "the one bit that is missing: chmod u+x, or chown to who needs it",
    )
}

pub(super) fn drop_caches(look: &Look<'_>) -> Option<Saying> {
    say_if(
        look.says("drop_caches"),
        "needs root, frees memory that the kernel would give back anyway, and makes every file slow for a while",
        "find the process that grew: ps aux --sort=-rss | head -20",
    )
}

pub(super) fn limit_without_drop(look: &Look<'_>) -> Option<Saying> {
    let accepts = look.says("iptables") && look.says("limit") && look.says("-j accept");
    say_if(
        accepts,
        "accepting up to a limit limits nothing unless what is above it is dropped",
        "a following rule with -j DROP, or a limit in front of the service: `gateway.switch_set`",
    )
}

pub(super) fn secret_in_the_open(look: &Look<'_>) -> Option<Saying> {
    let literal = look.says("--from-literal=") && ["key", "token", "password", "secret"].iter().any(|word| look.says(word));
    say_if(
        literal || crate::parse::shows_secret(&look.command.text),
        "the secret stands in the text, in the shell's history and in the list of processes",
        "an input of type secret, or from a file: --from-file=name=/dev/stdin",
    )
}
