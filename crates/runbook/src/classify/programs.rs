//! The everyday programs of a shell.

use super::{Arguments, Judgement};

/// Programs that only look, whatever their arguments.
const LOOKING: &[&str] = &[
    ":",
    "[",
    "[[",
    "arch",
    "basename",
    "break",
    "cal",
    "case",
    "cat",
    "cd",
    "cmp",
    "column",
    "comm",
    "continue",
    "cut",
    "declare",
    "df",
    "diff",
    "dig",
    "dirname",
    "dmesg",
    "du",
    "echo",
    "egrep",
    "exit",
    "expr",
    "false",
    "fgrep",
    "file",
    "findmnt",
    "fmt",
    "fold",
    "for",
    "free",
    "getconf",
    "getent",
    "grep",
    "groups",
    "head",
    "hexdump",
    "host",
    "hostname",
    "id",
    "in",
    "iostat",
    "jobs",
    "jq",
    "last",
    "local",
    "locale",
    "ls",
    "lsblk",
    "lscpu",
    "lsmod",
    "lsof",
    "lspci",
    "lsusb",
    "md5sum",
    "mpstat",
    "netstat",
    "nl",
    "nproc",
    "nslookup",
    "numfmt",
    "od",
    "paste",
    "pgrep",
    "pidof",
    "pmap",
    "printenv",
    "printf",
    "ps",
    "pstree",
    "pwd",
    "pwdx",
    "read",
    "readlink",
    "realpath",
    "return",
    "rev",
    "rg",
    "sar",
    "seq",
    "set",
    "sha1sum",
    "sha256sum",
    "shopt",
    "sleep",
    "sort",
    "ss",
    "stat",
    "strings",
    "sum",
    "tac",
    "test",
    "tr",
    "tracepath",
    "traceroute",
    "tree",
    "true",
    "tty",
    "type",
    "ulimit",
    "uname",
    "uniq",
    "uptime",
    "w",
    "wait",
    "wc",
    "whereis",
    "which",
    "who",
    "whoami",
    "xxd",
    "zcat",
    "zgrep",
];

/// Programs whose every use loses something.
const DESTROYING: &[&str] = &[
    "dd", "dropdb", "dropuser", "fdisk", "groupdel", "halt", "init", "mkfs", "parted", "poweroff", "reboot", "rm", "rmdir", "shred",
    "shutdown", "userdel", "wipefs",
];

/// Programs that change the system, but for the options that only list.
const CHANGING: &[&str] = &[
    "apk",
    "apt",
    "apt-get",
    "brew",
    "chgrp",
    "chmod",
    "chown",
    "cp",
    "dnf",
    "gunzip",
    "gzip",
    "hostnamectl",
    "install",
    "ip6tables",
    "iptables",
    "ln",
    "logrotate",
    "make",
    "mkdir",
    "modprobe",
    "mount",
    "nft",
    "passwd",
    "rsync",
    "scp",
    "sftp",
    "split",
    "swapoff",
    "swapon",
    "sync",
    "tar",
    "timedatectl",
    "touch",
    "ufw",
    "umount",
    "unzip",
    "useradd",
    "usermod",
    "yum",
    "zip",
];

/// Programs that run a program of their user's.
const INTERPRETERS: &[&str] =
    &["cargo", "deno", "go", "java", "node", "npm", "npx", "perl", "pip", "python", "python2", "python3", "ruby", "uv"];

pub(super) fn judge(program: &str, arguments: &Arguments<'_>) -> Option<Judgement> {
    if LOOKING.contains(&program) {
        return Some(looking(program, arguments));
    }
    if DESTROYING.contains(&program) || program.starts_with("mkfs.") {
        return Some(Judgement::destroys(format!("`{program}` cannot be undone")));
    }
    if CHANGING.contains(&program) {
        return Some(changing(program, arguments));
    }
    if INTERPRETERS.contains(&program) {
        return Some(interpreter(program, arguments));
    }
    wrapper(program, arguments).or_else(|| special(program, arguments))
}

/// Programs that run another: they are what that one is.
fn wrapper(program: &str, arguments: &Arguments<'_>) -> Option<Judgement> {
    Some(match program {
        "watch" => inner(arguments, &["-n", "--interval"]).endless("`watch` repeats its command for ever"),
        "sudo" | "doas" => inner(arguments, &["-u", "-g", "--user", "--group"]),
        "nice" | "ionice" => inner(arguments, &["-n", "-c", "--adjustment"]),
        // `command -v NAME` says where a program is; `command NAME -v` runs it.
        "command" if arguments.rest().next().is_some_and(|first| ["-v", "-V"].contains(&first)) => Judgement::reads(),
        "nohup" | "command" | "builtin" | "exec" | "stdbuf" | "setsid" | "chrt" => inner(arguments, &[]),
        "timeout" => timeout(arguments),
        "env" => environment(arguments),
        "xargs" | "parallel" => xargs(arguments),
        "bash" | "sh" | "zsh" | "dash" | "ksh" => shell(program, arguments),
        "ssh" => ssh(arguments),
        "find" => find(arguments),
        "eval" | "source" | "." | "trap" => Judgement::writes(format!("`{program}` runs text that is not here")),
        _ => return None,
    })
}

fn special(program: &str, arguments: &Arguments<'_>) -> Option<Judgement> {
    Some(match program {
        "tail" => {
            let follows = arguments.has_letter('f') || arguments.has_letter('F') || arguments.has(&["--follow"]);
            Judgement::reads().or_endless(follows, "follows the file for ever")
        }
        "top" | "htop" | "atop" | "iotop" | "iftop" => screen(program, arguments),
        "vmstat" => reports(arguments, "`vmstat SECONDS` without a count reports for ever"),
        "ping" | "ping6" => {
            let counted = arguments.value_of(&["-c", "--count", "-w"]).is_some();
            Judgement::reads().or_endless(!counted, "`ping` without -c goes on for ever")
        }
        "less" | "more" | "man" => Judgement::reads().waits("a pager waits for keys"),
        "vi" | "vim" | "nano" | "emacs" => Judgement::writes("an editor changes a file").waits("an editor waits for a person"),
        "open" | "xdg-open" => Judgement::reads().waits("opens a page for a person to look at"),
        "export" | "unset" | "alias" | "pushd" | "popd" | "umask" | "hash" => Judgement::reads(),
        "kill" | "pkill" | "killall" => kill(program, arguments),
        "sed" | "yq" => edits(program, arguments),
        "awk" | "gawk" | "mawk" => awk(arguments),
        "date" => writes_with(arguments, &["-s", "--set"], "sets the clock"),
        "sysctl" => sysctl(arguments),
        "tee" => tee(arguments),
        "truncate" => Judgement::destroys("empties or cuts a file"),
        "mv" => Judgement::writes("moves files, and may overwrite what is there"),
        "ip" | "route" | "ifconfig" | "ethtool" => network(program, arguments),
        "nc" | "ncat" | "netcat" | "telnet" => connection(program, arguments),
        "strace" | "ltrace" | "gdb" | "perf" | "tcpdump" => Judgement::writes(format!("`{program}` attaches to what runs and may slow it")),
        "crontab" if arguments.has(&["-l"]) => Judgement::reads(),
        "crontab" => Judgement::writes("changes scheduled jobs"),
        _ => return None,
    })
}

fn looking(program: &str, arguments: &Arguments<'_>) -> Judgement {
    match program {
        "dmesg" if arguments.has(&["-c", "-C", "--clear", "--read-clear"]) => Judgement::writes("clears the kernel's messages"),
        "dmesg" if arguments.has(&["-w", "--follow", "-W"]) => Judgement::reads().endless("follows the kernel's messages for ever"),
        "hostname" if !arguments.plain(&[]).is_empty() => Judgement::writes("changes the host's name"),
        "sort" | "tree" if arguments.value_of(&["-o", "--output"]).is_some() => Judgement::writes(format!("`{program} -o` writes a file")),
        "sort" if arguments.rest().any(|word| word.starts_with("--compress-program")) => Judgement::writes("runs another program"),
        "uniq" | "xxd" if arguments.plain(&["-f", "-s", "-w", "-l", "-c"]).len() > 1 => {
            Judgement::writes(format!("`{program} IN OUT` writes a file"))
        }
        "ss" if arguments.has_letter('K') || arguments.has(&["--kill"]) => Judgement::writes("closes connections"),
        "iostat" | "mpstat" | "sar" => reports(arguments, "reports for ever without a count"),
        "cat" | "grep" | "egrep" | "fgrep" | "wc" | "sort" if waits_for_input(program, arguments) => {
            Judgement::reads().waits("reads from the keyboard: no file is named")
        }
        _ => Judgement::reads(),
    }
}

fn waits_for_input(program: &str, arguments: &Arguments<'_>) -> bool {
    let grep = program.ends_with("grep");
    let recursive =
        grep && (arguments.has_letter('r') || arguments.has_letter('R') || arguments.has(&["--recursive", "--version", "--help"]));
    let patterns = usize::from(grep && !arguments.has(&["-e", "-f"]));
    !arguments.fed && !recursive && arguments.plain(&["-e", "-f", "-A", "-B", "-C", "-m", "-k", "-t"]).len() <= patterns
}

fn screen(program: &str, arguments: &Arguments<'_>) -> Judgement {
    let once = program == "top" && arguments.has_letter('b') && arguments.has_letter('n');
    Judgement::reads().or_endless(!once, "shows a screen until a person leaves it")
}

/// Programs that take a number of seconds and then a count.
fn reports(arguments: &Arguments<'_>, why: &str) -> Judgement {
    let numbers = arguments.plain(&[]).iter().filter(|word| word.parse::<u32>().is_ok()).count();
    Judgement::reads().or_endless(numbers == 1, why)
}

/// A wrapper: options first, then the command it runs.
fn inner(arguments: &Arguments<'_>, valued: &[&str]) -> Judgement {
    let skip = behind_options(arguments, valued);
    if skip >= arguments.words.len() {
        return Judgement::writes("a shell, or nothing that is known").waits("may open a shell");
    }
    let rest = arguments.skip(skip);
    // `watch 'a | b'` is a script in one word.
    match rest.words {
        [only] if only.quoted && only.text.contains(' ') => arguments.judge_script(&only.text),
        _ => rest.judge_inner(),
    }
}

/// Where the first word stands that is neither an option nor the value of one.
fn behind_options(arguments: &Arguments<'_>, valued: &[&str]) -> usize {
    let mut at = 1;
    while let Some(word) = arguments.words.get(at).filter(|word| word.text.starts_with('-') || word.text.contains('=') && !word.quoted) {
        at += if valued.contains(&word.text.as_str()) { 2 } else { 1 };
    }
    at
}

fn timeout(arguments: &Arguments<'_>) -> Judgement {
    let skip = behind_options(arguments, &["-k", "-s", "--kill-after", "--signal"]) + 1;
    let mut judged = arguments.skip(skip).judge_inner();
    judged.never_ends = None;
    judged
}

fn environment(arguments: &Arguments<'_>) -> Judgement {
    let skip = behind_options(arguments, &["-u", "-C", "-S"]);
    if arguments.has(&["-S", "--split-string"]) {
        return Judgement::writes("`env -S` runs a command that is put together at run time");
    }
    if skip >= arguments.words.len() { Judgement::reads() } else { arguments.skip(skip).judge_inner() }
}

fn xargs(arguments: &Arguments<'_>) -> Judgement {
    let skip = behind_options(arguments, &["-n", "-P", "-I", "-L", "-d", "-s", "-a", "-E", "-j"]);
    if skip >= arguments.words.len() { Judgement::reads() } else { arguments.skip(skip).judge_inner() }
}

fn shell(program: &str, arguments: &Arguments<'_>) -> Judgement {
    let is_script = |text: &str| text.starts_with('-') && !text.starts_with("--") && text.ends_with('c');
    let at = arguments.words.iter().position(|word| is_script(&word.text));
    match at.and_then(|at| arguments.words.get(at + 1)) {
        Some(script) if script.computed || !script.variables.is_empty() => Judgement::writes("runs text that is put together at run time"),
        Some(script) => arguments.judge_script(&script.text),
        None if arguments.fed => Judgement::writes("runs whatever comes through the pipe"),
        None if arguments.words.len() == 1 => Judgement::writes("opens a shell").waits("opens a shell for a person"),
        None => Judgement::writes(format!("`{program}` runs a script that is not here")),
    }
}

fn ssh(arguments: &Arguments<'_>) -> Judgement {
    let valued = ["-i", "-p", "-l", "-o", "-F", "-J", "-L", "-R", "-D", "-E", "-b", "-c"];
    let mut at = 1;
    while let Some(word) = arguments.words.get(at).filter(|word| word.text.starts_with('-')) {
        at += if valued.contains(&word.text.as_str()) { 2 } else { 1 };
    }
    let rest = arguments.skip(at + 1);
    match rest.words {
        [] if arguments.fed => Judgement::writes("runs whatever comes through the pipe, elsewhere"),
        [] => Judgement::writes("opens a shell on another machine").waits("opens a shell for a person"),
        [only] if only.text.contains(' ') => arguments.judge_script(&only.text),
        _ => rest.judge_inner(),
    }
}

fn find(arguments: &Arguments<'_>) -> Judgement {
    if arguments.has(&["-delete"]) {
        return Judgement::destroys("`find -delete` removes what it finds");
    }
    if arguments.has(&["-fprint", "-fprint0", "-fprintf", "-fls"]) {
        return Judgement::writes("writes what it finds to a file");
    }
    let runs = arguments.words.iter().position(|word| ["-exec", "-execdir", "-ok", "-okdir"].contains(&word.text.as_str()));
    runs.map_or_else(Judgement::reads, |at| arguments.skip(at + 1).judge_inner())
}

fn kill(program: &str, arguments: &Arguments<'_>) -> Judgement {
    if program == "kill" && (arguments.has(&["-0", "-l", "-L"]) || arguments.value_of(&["-s"]) == Some("0")) {
        return Judgement::reads();
    }
    let hard =
        arguments.has(&["-9", "-KILL", "-SIGKILL"]) || matches!(arguments.value_of(&["-s", "--signal"]), Some("9" | "KILL" | "SIGKILL"));
    match (hard, program != "kill") {
        (true, true) => Judgement::destroys("kills every process of that name without letting it clean up"),
        (true, false) => Judgement::destroys("kills the process without letting it clean up"),
        (false, true) => Judgement::writes("signals every process of that name"),
        (false, false) => Judgement::writes("signals a process"),
    }
}

fn edits(program: &str, arguments: &Arguments<'_>) -> Judgement {
    let in_place =
        |word: &str| (word.starts_with("-i") && !word.starts_with("--")) || word.starts_with("--in-place") || word == "--inplace";
    // A `w` command of sed writes a file; `e` runs a command.
    let acts = |word: &str| {
        word.contains("/w ") || word.ends_with("/e") || word.ends_with("/w") || word.starts_with("w ") || word.starts_with("e ")
    };
    let script_elsewhere = program == "sed" && arguments.has(&["-f", "--file"]);
    if arguments.rest().any(in_place) {
        Judgement::writes(format!("`{program}` changes files in place"))
    } else if script_elsewhere || (program == "sed" && arguments.rest().any(acts)) {
        Judgement::writes("the sed script writes files, runs commands, or is not here")
    } else {
        Judgement::reads()
    }
}

fn awk(arguments: &Arguments<'_>) -> Judgement {
    let acts = |word: &str| word.contains("system(") || word.contains("getline") || prints_elsewhere(word);
    if arguments.has(&["-f", "--file", "-i"]) || arguments.rest().any(acts) {
        return Judgement::writes("the awk program runs commands, writes files, or is not here");
    }
    Judgement::reads()
}

/// A `print` of awk with `>` or `|` behind it. A comparison in a pattern stands before the braces.
fn prints_elsewhere(program: &str) -> bool {
    program.match_indices("print").any(|(at, _)| {
        let statement = program[at..].split([';', '}', '\n']).next().unwrap_or_default();
        statement.contains('>') || statement.contains('|')
    })
}

fn interpreter(program: &str, arguments: &Arguments<'_>) -> Judgement {
    if arguments.has(&["--version", "-V", "--help"]) && arguments.words.len() == 2 {
        return Judgement::reads();
    }
    if arguments.words.len() == 1 && !arguments.fed {
        return Judgement::writes(format!("opens {program}")).waits("opens a prompt for a person");
    }
    Judgement::writes(format!("`{program}` runs a program that is not known, so it may change anything"))
}

fn writes_with(arguments: &Arguments<'_>, options: &[&str], why: &str) -> Judgement {
    if arguments.has(options) { Judgement::writes(why) } else { Judgement::reads() }
}

fn sysctl(arguments: &Arguments<'_>) -> Judgement {
    let assigns = arguments.plain(&[]).iter().any(|word| word.contains('='));
    if assigns || arguments.has(&["-w", "--write", "-p", "--load", "--system"]) {
        Judgement::writes("changes a kernel setting")
    } else {
        Judgement::reads()
    }
}

fn tee(arguments: &Arguments<'_>) -> Judgement {
    let harmless = |file: &&str| ["/dev/null", "/dev/stderr", "/dev/stdout"].contains(file);
    if arguments.plain(&[]).iter().all(harmless) { Judgement::reads() } else { Judgement::writes("`tee` writes a file") }
}

fn changing(program: &str, arguments: &Arguments<'_>) -> Judgement {
    if only_lists(program, arguments) {
        return Judgement::reads();
    }
    let flushes = program.ends_with("tables") && arguments.has(&["-F", "--flush", "-X"]);
    if flushes || program == "rsync" && arguments.rest().any(|word| word.starts_with("--delete")) {
        return Judgement::destroys(format!("`{program}` with these options removes what is there"));
    }
    Judgement::writes(format!("`{program}` changes the system"))
}

fn only_lists(program: &str, arguments: &Arguments<'_>) -> bool {
    let verb = arguments.plain(&[]).first().copied();
    let verb_is = |names: &[&str]| verb.is_some_and(|verb| names.contains(&verb));
    match program {
        "tar" => arguments.rest().next().is_some_and(|first| first.trim_start_matches('-').starts_with('t')) || arguments.has(&["--list"]),
        "unzip" => arguments.has(&["-l"]),
        "gzip" | "gunzip" => arguments.has(&["-l", "-t", "-c"]),
        "iptables" | "ip6tables" => arguments.has(&["-L", "-S", "--list", "--list-rules"]) && !arguments.has(&["-Z", "-F"]),
        "nft" | "ufw" => verb_is(&["list", "status"]),
        "mount" => arguments.words.len() == 1,
        "apt" | "apt-get" | "yum" | "dnf" | "apk" | "brew" => verb_is(&["list", "show", "search", "info", "policy"]),
        "timedatectl" | "hostnamectl" => verb.is_none_or(|verb| verb.starts_with("show") || verb == "status"),
        "rsync" => arguments.has_letter('n') || arguments.has(&["--dry-run"]),
        _ => false,
    }
}

fn network(program: &str, arguments: &Arguments<'_>) -> Judgement {
    let changes = ["add", "del", "delete", "set", "flush", "change", "replace", "up", "down"];
    if arguments.rest().any(|word| changes.contains(&word)) || (program == "ethtool" && arguments.has_letter('s')) {
        Judgement::writes("changes the network's configuration")
    } else {
        Judgement::reads()
    }
}

fn connection(program: &str, arguments: &Arguments<'_>) -> Judgement {
    if program != "telnet" && arguments.has_letter('z') {
        Judgement::reads()
    } else if arguments.fed {
        Judgement::writes("sends what comes through the pipe to another program")
    } else {
        Judgement::writes("opens a connection that a person types into").waits("waits for a person to type")
    }
}
