//! Forms in which a program that only looks is made to do something else: other programs under its name, options that
//! write files or run commands.

use super::{Arguments, Judgement};
use crate::shell::Command;

/// Variables that decide which programs run, or what they load.
const DECIDING: &[&str] = &[
    "PATH",
    "ENV",
    "PS4",
    "SHELLOPTS",
    "PROMPT_COMMAND",
    "NODE_OPTIONS",
    "RUBYOPT",
    "RUBYLIB",
    "JAVA_TOOL_OPTIONS",
    "LESSOPEN",
    "EDITOR",
    "VISUAL",
];
const DECIDING_BEGINNINGS: &[&str] =
    &["LD_", "DYLD_", "BASH_", "PERL5", "GCONV_", "GIT_SSH", "GIT_EXEC", "GIT_EXTERNAL", "GIT_CONFIG", "PYTHONSTARTUP", "PYTHONPATH"];
/// Words of tar that run a program.
const TAR_RUNS: &[&str] =
    &["-I", "--use-compress-program", "--to-command", "--checkpoint-action", "-F", "--info-script", "--new-volume-script", "--rsh-command"];
/// Words of curl that write a file.
const CURL_WRITES: &[&str] = &[
    "-c",
    "--cookie-jar",
    "-D",
    "--dump-header",
    "--trace",
    "--trace-ascii",
    "--libcurl",
    "--etag-save",
    "--hsts",
    "--alt-svc",
    "--stderr",
];

/// What a command does besides what its program is for.
pub(super) fn judge(command: &Command, arguments: &Arguments<'_>) -> Judgement {
    let exported = matches!(arguments.program(), "export" | "declare" | "typeset" | "readonly" | "local");
    let in_words = arguments.rest().filter(|_| exported).filter_map(|word| word.split_once('=')).map(|(name, _)| name);
    if let Some(name) = command.assignments.iter().map(|(name, _)| name.as_str()).chain(in_words).find(|name| decides(name)) {
        return Judgement::writes(format!("`{name}` decides which programs run, so it may change anything"));
    }
    // `function ls { … }`: the keyword is gone by now, and its body stands among the words.
    if command.words.iter().skip(1).any(|word| word.text == "{" && !word.quoted) {
        return Judgement::writes("gives a program another meaning");
    }
    by_option(arguments).map_or_else(Judgement::reads, Judgement::writes)
}

fn decides(name: &str) -> bool {
    DECIDING.contains(&name) || DECIDING_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

fn by_option(arguments: &Arguments<'_>) -> Option<&'static str> {
    let word = |test: &dyn Fn(&str) -> bool| arguments.rest().any(test);
    let is = |names: &[&str]| arguments.rest().any(|word| names.iter().any(|name| word == *name || word.starts_with(&format!("{name}="))));
    match arguments.program() {
        "alias" => Some("gives a program another meaning"),
        "ip" if word(&|word| word == "exec") => Some("runs a program in another network"),
        "sed" if word(&clustered_in_place) => Some("`sed` changes files in place"),
        "sed" if word(&acts) => Some("the sed script writes files or runs commands"),
        "tar" if is(TAR_RUNS) => Some("`tar` runs a program"),
        "git" if word(&|word| word.starts_with("-O") || word.starts_with("--open-files-in-pager")) => Some("`git` opens what it finds"),
        "curl" if CURL_WRITES.iter().any(|name| arguments.value_of(&[name]).is_some_and(writes)) => Some("`curl` writes a file"),
        "ssh" if word(&|word| runs_here(word)) => Some("`ssh` runs a program here first"),
        "psql" if ["-o", "-L", "--output", "--log-file"].iter().any(|name| arguments.value_of(&[name]).is_some_and(writes)) => {
            Some("`psql` writes a file")
        }
        _ => None,
    }
}

fn writes(target: &str) -> bool {
    !matches!(target, "-" | "/dev/null" | "/dev/stdout" | "/dev/stderr" | "%")
}

fn runs_here(word: &str) -> bool {
    let word = word.trim_start_matches("-o").to_ascii_lowercase();
    ["proxycommand", "localcommand", "permitlocalcommand", "knownhostscommand", "proxyusefdpass"].iter().any(|name| word.starts_with(name))
}

/// `-ni`, `-Ei.bak`: letters of sed without values, and `i` among them.
fn clustered_in_place(word: &str) -> bool {
    let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.starts_with('-')) else { return false };
    letters.chars().take_while(|letter| "nErsuzbi".contains(*letter)).any(|letter| letter == 'i')
}

/// `1e date`, `$w file`, `/x/e`, `s/a/b/gw file`: a command of sed that runs a command or writes a file, behind its address.
fn acts(script: &str) -> bool {
    script.split([';', '\n', '{', '}']).map(str::trim).any(|command| {
        let behind = command.trim_start_matches(|letter: char| letter.is_ascii_digit() || "$,~+! ".contains(letter));
        let addressed = behind.len() < command.len();
        (addressed && behind.starts_with(['e', 'w', 'W'])) || by_flags(command)
    })
}

fn by_flags(command: &str) -> bool {
    let Some(rest) = command.strip_prefix('s') else { return false };
    let Some(mark) = rest.chars().next().filter(char::is_ascii_punctuation) else { return false };
    let parts: Vec<&str> = rest.splitn(4, mark).collect();
    let Some(flags) = parts.get(3) else { return false };
    let end = flags.find(|letter: char| !"gpiIMm0123456789".contains(letter));
    end.is_some_and(|end| flags[end..].starts_with(['e', 'w']))
}

#[cfg(test)]
mod tests {
    use crate::classify::{Effect, classify};

    #[test]
    fn what_only_looks_is_not_made_to_do_more() {
        for line in [
            "sed -ni p f",
            "sed -Ei s/a/b/ f",
            "sed -nri.bak s/a/b/p f",
            "sed '1e rm x' f",
            "sed '$w out' f",
            "sed 's/a/b/gw out' f",
            "sed -n 's/a/date/ep' f",
            "tar tf a.tar -I 'rm x'",
            "tar tf a.tar --to-command=rm",
            "git grep -O'rm x' foo",
            "function ls { rm x; }; ls",
            "alias ls=rm; ls",
            "ip netns exec x rm f",
            "ip vrf exec x rm f",
            "ssh -o ProxyCommand='rm x' host uptime",
            "ssh -oProxyCommand='rm x' host uptime",
            "PATH=/tmp ls",
            "export PATH=/tmp; ls",
            "LD_PRELOAD=/tmp/x.so ls",
            "BASH_ENV=/tmp/x bash -c ls",
            "curl -c /tmp/jar http://a",
            "curl --trace /tmp/x http://a",
            "psql -o f -c 'select 1'",
            "psql -c \"select lo_export(1, '/tmp/x')\"",
        ] {
            let effect = crate::shell::parse(line).iter().map(|statement| classify(statement).effect).max();
            assert!(effect > Some(Effect::Read), "{line} is {effect:?}");
        }
        for line in [
            "sed -n 1,5p f",
            "sed -E 's/a/b/g' f",
            "sed -n '/error/p' f",
            "sed 's/e/w/' f",
            "sed -n '10,$p' f",
            "tar tf a.tar",
            "git grep foo",
            "ip addr",
            "ssh host uptime",
            "ssh -o ConnectTimeout=5 host uptime",
            "LC_ALL=C ls",
            "TZ=UTC date",
            "KUBECONFIG=x kubectl get pods",
            "curl -s http://a",
            "curl -sD - http://a",
            "curl -s -o /dev/null -D /dev/stdout http://a",
            "psql -At -c 'select 1'",
        ] {
            let verdicts: Vec<_> = crate::shell::parse(line).iter().map(classify).collect();
            assert!(verdicts.iter().all(|verdict| verdict.effect == Effect::Read), "{line}: {verdicts:?}");
        }
    }
}
