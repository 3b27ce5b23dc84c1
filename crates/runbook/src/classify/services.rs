//! Clients of services: HTTP, Redis, databases, process managers, version control, monitoring.

use super::{Arguments, Effect, Judgement};

pub(super) fn judge(program: &str, arguments: &Arguments<'_>) -> Option<Judgement> {
    Some(match program {
        "curl" => curl(arguments),
        "wget" => wget(arguments),
        "http" | "https" | "xh" => httpie(arguments),
        "redis-cli" | "valkey-cli" => redis(arguments),
        "psql" => psql(arguments),
        "pg_isready" | "pg_controldata" => Judgement::reads(),
        "pg_dump" | "pg_dumpall" => Judgement::writes("writes a dump, and loads the database"),
        "pg_restore" => Judgement::destroys("`pg_restore` overwrites data"),
        "systemctl" => systemctl(arguments),
        "service" => service(arguments),
        "journalctl" => journalctl(arguments),
        "pm2" => pm2(arguments),
        "git" => git(arguments),
        "promtool" => promtool(arguments),
        "amtool" => amtool(arguments),
        "openssl" => openssl(arguments),
        "claude" => Judgement::writes("starts an agent, which may change anything and spends tokens").waits("opens an agent's prompt"),
        _ => return None,
    })
}

/// Letters of curl that take a value in the same or the next word.
const CURL_VALUED: &str = "XdFTHouAebKcmwxQryYzCDEPt";

fn curl(arguments: &Arguments<'_>) -> Judgement {
    let mut method: Option<&str> = None;
    let mut sends: Option<&str> = None;
    let mut file: Option<&str> = None;
    let mut words = arguments.rest();
    while let Some(word) = words.next() {
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            match name {
                "request" => method = value.or_else(|| words.next()),
                "head" => method = Some("HEAD"),
                "get" => sends = None,
                "output" => file = value.or_else(|| words.next()),
                "remote-name" | "output-dir" => file = Some("a file"),
                "upload-file" => method = Some("PUT"),
                "config" => return Judgement::writes("takes its options from a file that is not here"),
                _ if name.starts_with("data") || name.starts_with("form") || name == "json" => {
                    sends = Some(name);
                    if value.is_none() {
                        words.next();
                    }
                }
                "header" | "user" | "user-agent" | "max-time" | "connect-timeout" | "write-out" | "cacert" | "cert" | "key" | "resolve"
                | "retry" | "url" | "cookie" | "proxy" | "unix-socket"
                    if value.is_none() =>
                {
                    words.next();
                }
                _ => {}
            }
        } else if let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            for (at, letter) in letters.char_indices() {
                if CURL_VALUED.contains(letter) {
                    let rest = &letters[at + letter.len_utf8()..];
                    let value = if rest.is_empty() { words.next() } else { Some(rest) };
                    match letter {
                        'X' => method = value,
                        'd' | 'F' => sends = Some("data"),
                        'T' => method = Some("PUT"),
                        'o' => file = value,
                        'K' => return Judgement::writes("takes its options from a file that is not here"),
                        _ => {}
                    }
                    break;
                }
                match letter {
                    'I' => method = Some("HEAD"),
                    'G' => sends = None,
                    'O' => file = Some("a file"),
                    _ => {}
                }
            }
        }
    }
    let forced_get = arguments.has(&["--get"]) || arguments.has_letter('G') && !arguments.has(&["-XG"]);
    let sends = if forced_get { None } else { sends };
    request(method.unwrap_or(if sends.is_some() { "POST" } else { "GET" }), file)
}

fn request(method: &str, file: Option<&str>) -> Judgement {
    match method.to_ascii_uppercase().as_str() {
        "GET" | "HEAD" | "OPTIONS" => match file.filter(|file| !["/dev/null", "-"].contains(file)) {
            Some(file) => Judgement::writes(format!("writes the answer to {file}")),
            None => Judgement::reads(),
        },
        "DELETE" => Judgement::destroys("a DELETE request removes something"),
        other => Judgement::writes(format!("a {other} request may change something")),
    }
}

fn wget(arguments: &Arguments<'_>) -> Judgement {
    if arguments.rest().any(|word| word.starts_with("--post") || word.starts_with("--body") || word.starts_with("--method")) {
        return Judgement::writes("sends data that may change something");
    }
    let prints = arguments.has(&["--spider"])
        || arguments.rest().any(|word| word.ends_with("O-"))
        || arguments.value_of(&["-O", "-qO"]).is_some_and(|file| ["-", "/dev/null"].contains(&file));
    if prints { Judgement::reads() } else { Judgement::writes("writes the answer to a file") }
}

fn httpie(arguments: &Arguments<'_>) -> Judgement {
    let plain = arguments.plain(&["--auth", "-a", "--output", "-o"]);
    let method = plain.first().copied().filter(|first| first.chars().all(|letter| letter.is_ascii_uppercase()));
    let sends = plain.iter().skip(1).any(|word| word.contains('=') && !word.contains("=="));
    request(method.unwrap_or(if sends { "POST" } else { "GET" }), arguments.value_of(&["--output", "-o"]))
}

const REDIS_VALUED: &[&str] =
    &["-h", "-p", "-a", "-n", "-u", "-s", "--user", "--pass", "-r", "-i", "--pattern", "--cacert", "--cert", "--key"];
const REDIS_READS: &[&str] = &[
    "BITCOUNT",
    "CLUSTER",
    "COMMAND",
    "DBSIZE",
    "DUMP",
    "EXISTS",
    "EXPIRETIME",
    "GET",
    "GETRANGE",
    "HEXISTS",
    "HGET",
    "HGETALL",
    "HKEYS",
    "HLEN",
    "HMGET",
    "HSCAN",
    "HVALS",
    "INFO",
    "KEYS",
    "LASTSAVE",
    "LINDEX",
    "LLEN",
    "LPOS",
    "LRANGE",
    "MGET",
    "OBJECT",
    "PING",
    "PTTL",
    "PUBSUB",
    "ROLE",
    "SCAN",
    "SCARD",
    "SISMEMBER",
    "SMEMBERS",
    "SSCAN",
    "STRLEN",
    "TIME",
    "TTL",
    "TYPE",
    "XINFO",
    "XLEN",
    "XPENDING",
    "XRANGE",
    "XREAD",
    "XREVRANGE",
    "ZCARD",
    "ZCOUNT",
    "ZRANGE",
    "ZRANK",
    "ZSCAN",
    "ZSCORE",
    "ECHO",
];
const REDIS_DESTROYS: &[&str] =
    &["DEL", "UNLINK", "FLUSHALL", "FLUSHDB", "XTRIM", "LTRIM", "XDEL", "SHUTDOWN", "HDEL", "ZREMRANGEBYSCORE", "GETDEL", "SPOP"];

fn redis(arguments: &Arguments<'_>) -> Judgement {
    let plain = arguments.plain(REDIS_VALUED);
    let endless = arguments.has(&["--stat", "--latency", "--latency-history", "--latency-dist", "--monitor"]);
    if arguments.has(&["--bigkeys", "--memkeys", "--hotkeys", "--scan", "--version", "--help"]) || endless {
        return Judgement::reads().or_endless(endless, "reports until a person stops it");
    }
    if arguments.has(&["--eval", "--pipe", "--rdb"]) {
        return Judgement::writes("runs a script or takes in data that is not here");
    }
    let Some(command) = plain.first().map(|word| word.to_ascii_uppercase()) else {
        return if arguments.fed {
            Judgement::writes("runs whatever commands come through the pipe")
        } else {
            Judgement::writes("opens a prompt").waits("opens a prompt for a person")
        };
    };
    let second = plain.get(1).map(|word| word.to_ascii_uppercase());
    let second = second.as_deref();
    match (command.as_str(), second) {
        ("MONITOR" | "SUBSCRIBE" | "PSUBSCRIBE", _) => Judgement::reads().endless(format!("`{command}` listens for ever")),
        ("XREAD", _) if plain.iter().any(|word| word.eq_ignore_ascii_case("block")) => {
            Judgement::reads().endless("`XREAD BLOCK` may wait for ever")
        }
        ("SLOWLOG", Some("GET" | "LEN" | "HELP")) | ("CONFIG", Some("GET")) | ("CLIENT", Some("LIST" | "INFO" | "ID" | "GETNAME")) => {
            Judgement::reads()
        }
        ("MEMORY", Some("USAGE" | "STATS" | "DOCTOR"))
        | ("LATENCY", Some("LATEST" | "HISTORY" | "DOCTOR" | "GRAPH"))
        | ("ACL", Some("LIST" | "WHOAMI" | "USERS")) => Judgement::reads(),
        ("CLUSTER", Some("INFO" | "NODES" | "SLOTS" | "SHARDS" | "MYID")) | ("FUNCTION" | "MODULE", Some("LIST")) => Judgement::reads(),
        ("CLUSTER", _) => Judgement::writes("changes the cluster"),
        _ if REDIS_READS.contains(&command.as_str()) => Judgement::reads(),
        _ if REDIS_DESTROYS.contains(&command.as_str()) => Judgement::destroys(format!("Redis `{command}` removes data")),
        _ => Judgement::writes(format!("Redis `{command}` changes something")),
    }
}

fn psql(arguments: &Arguments<'_>) -> Judgement {
    if arguments.has(&["-l", "--list", "--version", "-V"]) {
        return Judgement::reads();
    }
    if arguments.has(&["-f", "--file"]) {
        return Judgement::writes("runs SQL from a file that is not here");
    }
    match arguments.value_of(&["-c", "--command"]).or_else(|| after_c(arguments)) {
        Some(statements) => sql(statements),
        None if arguments.fed => Judgement::writes("runs whatever SQL comes through the pipe"),
        None => Judgement::writes("opens a prompt").waits("opens a prompt for a person"),
    }
}

/// `-Atc "…"`: the value of a cluster that ends in c.
fn after_c<'a>(arguments: &Arguments<'a>) -> Option<&'a str> {
    let at = arguments.rest().position(|word| word.starts_with('-') && !word.starts_with("--") && word.ends_with('c'))?;
    arguments.rest().nth(at + 1)
}

/// Functions that change something although they stand in a SELECT.
const SQL_ACTS: &[&str] = &[
    "pg_terminate_backend",
    "pg_cancel_backend",
    "pg_reload_conf",
    "pg_switch_wal",
    "pg_promote",
    "pg_rotate_logfile",
    "pg_stat_reset",
    "pg_stat_statements_reset",
    "setval",
    "nextval",
    "lo_export",
    "lo_import",
    "lo_unlink",
    "lo_put",
    "lo_create",
    "pg_file_",
    "pg_read_binary_file",
    "pg_create_",
    "pg_drop_",
    "pg_wal_replay_pause",
    "pg_wal_replay_resume",
    "pg_notify",
    "query_to_xml",
    "pg_advisory_lock",
    "dblink",
    "pg_read_file",
    "pg_ls_dir",
    "set_config",
];

fn sql(statements: &str) -> Judgement {
    let mut judged = Judgement::reads();
    for statement in statements.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
        let one = sql_statement(&statement.to_ascii_lowercase());
        if one.effect > judged.effect {
            judged = one;
        }
    }
    judged
}

fn sql_statement(statement: &str) -> Judgement {
    if let Some(function) = SQL_ACTS.iter().find(|function| statement.contains(**function)) {
        return Judgement::writes(format!("`{function}` acts on the server"));
    }
    let first =
        statement.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '\\').find(|word| !word.is_empty()).unwrap_or_default();
    let mentions = |words: &[&str]| {
        let mut all = statement.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        all.any(|word| words.contains(&word))
    };
    match first {
        "select" | "with" | "show" | "table" | "values" | "explain" => {
            let writes = ["insert", "update", "delete", "merge", "into", "drop", "alter", "truncate", "create"];
            if mentions(&writes) && (first != "explain" || mentions(&["analyze"])) {
                Judgement::writes("the SQL changes data")
            } else {
                Judgement::reads()
            }
        }
        "drop" | "truncate" | "delete" => Judgement::destroys(format!("SQL `{}` removes data", first.to_ascii_uppercase())),
        _ if first.starts_with("\\d") || ["\\l", "\\dt", "\\conninfo", "\\timing"].contains(&first) => Judgement::reads(),
        other => Judgement::writes(format!("SQL `{}` changes something", other.to_ascii_uppercase())),
    }
}

fn systemctl(arguments: &Arguments<'_>) -> Judgement {
    let plain = arguments.plain(&["-n", "--lines", "-o", "-t", "--type", "--state", "-p", "-H", "-M"]);
    let verb = plain.first().copied().unwrap_or("list-units");
    match verb {
        "status" | "show" | "cat" | "is-active" | "is-enabled" | "is-failed" | "is-system-running" | "get-default" | "help" => {
            Judgement::reads()
        }
        _ if verb.starts_with("list-") => Judgement::reads(),
        "poweroff" | "reboot" | "halt" | "kexec" | "rescue" | "emergency" => Judgement::destroys("stops the machine"),
        "edit" => Judgement::writes("edits a unit").waits("an editor waits for a person"),
        _ => Judgement::writes(format!("`systemctl {verb}` changes a service")),
    }
}

fn service(arguments: &Arguments<'_>) -> Judgement {
    match arguments.plain(&[]).get(1) {
        Some(&"status") => Judgement::reads(),
        None if arguments.has(&["--status-all"]) => Judgement::reads(),
        _ => Judgement::writes("changes a service"),
    }
}

fn journalctl(arguments: &Arguments<'_>) -> Judgement {
    if arguments.rest().any(|word| word.starts_with("--vacuum") || ["--rotate", "--flush", "--sync", "--update-catalog"].contains(&word)) {
        return Judgement::writes("removes or moves the machine's logs");
    }
    Judgement::reads().or_endless(arguments.has_letter('f') || arguments.has(&["--follow"]), "follows the log for ever")
}

fn pm2(arguments: &Arguments<'_>) -> Judgement {
    match arguments.plain(&[]).first().copied() {
        Some("list" | "ls" | "status" | "show" | "describe" | "info" | "jlist" | "prettylist" | "ping" | "env" | "id" | "pid") => {
            Judgement::reads()
        }
        Some("logs" | "log" | "monit") => Judgement::reads().or_endless(!arguments.has(&["--nostream"]), "follows the logs for ever"),
        Some("delete" | "del" | "kill" | "flush") => Judgement::destroys("removes processes or logs from pm2"),
        Some(verb) => Judgement::writes(format!("`pm2 {verb}` changes a process")),
        None => Judgement::reads(),
    }
}

fn git(arguments: &Arguments<'_>) -> Judgement {
    let plain = arguments.plain(&["-C", "-c", "--git-dir", "--work-tree", "-n", "--since", "--until", "--author", "--format"]);
    let verb = plain.first().copied().unwrap_or_default();
    if arguments.has(&["--output"])
        || arguments.rest().any(|word| word == "-c" || word.starts_with("--upload-pack") || word.starts_with("--ext"))
    {
        return Judgement::writes("`git` with these options may write a file or run a program");
    }
    match verb {
        "log" | "status" | "diff" | "show" | "rev-parse" | "describe" | "blame" | "shortlog" | "reflog" | "ls-files" | "ls-remote"
        | "cat-file" | "grep" | "rev-list" | "merge-base" | "name-rev" | "version" | "whatchanged" | "" => Judgement::reads(),
        "branch" | "tag" | "remote" | "stash" | "config" | "worktree" => listing(verb, &plain, arguments),
        "clean" => Judgement::destroys("removes files that are not in the repository"),
        "reset" if arguments.has(&["--hard"]) => Judgement::destroys("`git reset --hard` throws away what is not committed"),
        "checkout" | "restore" => Judgement::destroys("may throw away what is not committed"),
        "push" if arguments.rest().any(|word| word.starts_with("--force") || word == "-f" || word.starts_with("--delete")) => {
            Judgement::destroys("rewrites or removes what others have")
        }
        _ => Judgement::writes(format!("`git {verb}` changes the repository")),
    }
}

fn listing(verb: &str, plain: &[&str], arguments: &Arguments<'_>) -> Judgement {
    let lists = match verb {
        "branch" => plain.len() == 1 && !arguments.has(&["-d", "-D", "-m", "-M", "--delete"]),
        "tag" => plain.len() == 1 && !arguments.has(&["-d", "--delete"]) || arguments.has(&["-l", "--list"]),
        "remote" => plain.len() == 1 || plain.get(1).is_some_and(|sub| ["show", "get-url"].contains(sub)),
        "config" => arguments.has(&["-l", "--list", "--get"]),
        _ => plain.get(1).is_some_and(|sub| ["list", "show"].contains(sub)),
    };
    if lists { Judgement::reads() } else { Judgement::writes(format!("`git {verb}` changes the repository")) }
}

fn promtool(arguments: &Arguments<'_>) -> Judgement {
    match arguments.plain(&[]).first().copied() {
        Some("query" | "check" | "test" | "debug") => Judgement::reads(),
        _ => Judgement::writes("`promtool` may write blocks"),
    }
}

fn amtool(arguments: &Arguments<'_>) -> Judgement {
    let plain = arguments.plain(&["--alertmanager.url", "--config.file"]);
    match (plain.first().copied(), plain.get(1).copied()) {
        (Some("alert" | "silence"), None | Some("query")) | (Some("check-config" | "config" | "cluster" | "template"), _) => {
            Judgement::reads()
        }
        _ => Judgement::writes("changes alerts or silences"),
    }
}

fn openssl(arguments: &Arguments<'_>) -> Judgement {
    match arguments.plain(&[]).first().copied() {
        Some("s_client") if !arguments.fed => Judgement::reads().waits("waits for input; `</dev/null` ends it"),
        Some("s_client" | "x509" | "version" | "verify" | "ciphers" | "dgst") if arguments.value_of(&["-out"]).is_none() => {
            Judgement::reads()
        }
        _ => Judgement::writes("may write keys or certificates"),
    }
}

/// The effect of a SQL text, for steps that are SQL themselves.
pub(crate) fn sql_effect(statements: &str) -> (Effect, String) {
    let judged = sql(statements);
    (judged.effect, judged.why)
}

/// The effect of an HTTP method.
pub(crate) fn http_effect(method: &str) -> (Effect, String) {
    let judged = request(method, None);
    (judged.effect, judged.why)
}
