//! A process as it was started, so that it can be started again.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::table::{self, Process, place, read_bytes};

/// Namespaces that a process of this machine itself shares with us.
const NAMESPACES: &[&str] = &["mnt", "pid", "net", "user"];

/// All that is needed to start a process as it was started before.
pub(super) struct Again {
    argv: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    folder: PathBuf,
    exe: PathBuf,
    user: Option<User>,
    output: Output,
    setsid: PathBuf,
}

struct User {
    setpriv: PathBuf,
    user: u32,
    group: u32,
    groups: Vec<u32>,
}

enum Output {
    /// The file that it wrote to until now.
    Same(File),
    File(PathBuf),
    Nothing,
}

impl Again {
    /// Reads it from the living process; says why when it could not be started the same way.
    pub(super) fn read(process: &Process, output_dir: Option<&Path>) -> Result<Self, String> {
        let pid = process.pid;
        for name in NAMESPACES {
            let file = format!("ns/{name}");
            if std::fs::read_link(place(pid, &file)).ok() != std::fs::read_link(format!("/proc/self/{file}")).ok() {
                return Err("it runs in a container, or its namespaces cannot be read: restart it there".to_owned());
            }
        }
        if std::fs::read_link(place(pid, "root")).ok() != std::fs::read_link("/proc/self/root").ok() {
            return Err("it has another root folder".to_owned());
        }
        let cannot = |what: &str| format!("its {what} cannot be read");
        let exe = process.exe().ok_or_else(|| cannot("program"))?;
        let folder = std::fs::read_link(place(pid, "cwd")).map_err(|_| cannot("folder"))?;
        if !folder.is_dir() {
            return Err("its folder is not there any more".to_owned());
        }
        let environment = environment(&read_bytes(&place(pid, "environ")).ok_or_else(|| cannot("environment"))?)?;
        let argv = words(&read_bytes(&place(pid, "cmdline")).ok_or_else(|| cannot("command line"))?)?;
        let exe = still_there(exe)?;
        let path = environment.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
        let found = resolve(&argv[0], &folder, path);
        if found.as_deref() != Some(exe.as_path()) {
            return Err(format!(
                "its command line begins with {:?}, which is not the program {} that it runs: it cannot be started the same way",
                argv[0],
                exe.display()
            ));
        }
        let setsid = in_path("setsid").ok_or("setsid is not installed")?;
        let user = user(process)?;
        Ok(Self { argv, environment, folder, exe, user, output: output(process, output_dir), setsid })
    }

    /// The words that it will be started with, fit to be shown.
    pub(super) fn argv_shown(&self) -> String {
        let words: Vec<String> = self.argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        paramedic_model::secret::mask(&words.join(" ")).into_owned()
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn output_shown(&self) -> String {
        match &self.output {
            Output::Same(_) => "the file it wrote to until now".to_owned(),
            Output::File(path) => path.display().to_string(),
            Output::Nothing => "nowhere".to_owned(),
        }
    }

    /// Starts it in a session of its own, without terminal, and looks whether it lives after `settle`.
    pub(super) async fn start(self, settle: Duration) -> Result<Process, String> {
        let mut command = match &self.user {
            None => tokio::process::Command::new(&self.setsid),
            Some(user) => {
                let mut command = tokio::process::Command::new(&self.setsid);
                command.arg(&user.setpriv).args(user.arguments()).arg("--");
                command
            }
        };
        command.args(&self.argv).current_dir(&self.folder).env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        let (output, errors) = self.output.open()?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let mut child = command.spawn().map_err(|error| format!("it cannot be started: {error}"))?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).ok_or("it ended at once")?;
        let status = tokio::time::timeout(settle, child.wait()).await;
        if let Ok(status) = status {
            let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            return Err(format!("it ended within {} ms ({how})", settle.as_millis()));
        }
        let process = Process::read(pid).filter(|process| !process.has_ended()).ok_or("it ended at once")?;
        match process.exe() {
            Some(exe) if exe == self.exe => Ok(process),
            other => Err(format!("{} runs {:?} instead of {}", pid, other.unwrap_or_default(), self.exe.display())),
        }
    }
}

impl User {
    fn arguments(&self) -> Vec<String> {
        let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
        let groups = if groups.is_empty() { "--clear-groups".to_owned() } else { format!("--groups={}", groups.join(",")) };
        vec![format!("--reuid={}", self.user), format!("--regid={}", self.group), groups]
    }
}

impl Output {
    fn open(&self) -> Result<(Stdio, Stdio), String> {
        let both = |file: File| {
            let other = file.try_clone().map_err(|error| format!("its output cannot be opened: {error}"))?;
            Ok((file.into(), other.into()))
        };
        match self {
            Self::Nothing => Ok((Stdio::null(), Stdio::null())),
            Self::Same(file) => both(file.try_clone().map_err(|error| format!("its output cannot be opened: {error}"))?),
            Self::File(path) => {
                let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
                both(opened.map_err(|error| format!("{} cannot be opened: {error}", path.display()))?)
            }
        }
    }
}

/// Where it writes to: on into the same file, or a new one, or nowhere.
fn output(process: &Process, output_dir: Option<&Path>) -> Output {
    let same = place(process.pid, "fd/1");
    if std::fs::metadata(&same).is_ok_and(|file| file.is_file())
        && let Ok(file) = OpenOptions::new().append(true).open(&same)
    {
        return Output::Same(file);
    }
    let Some(folder) = output_dir else { return Output::Nothing };
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_') { letter } else { '_' };
    let name: String = process.comm.chars().map(plain).collect();
    Output::File(folder.join(format!("{name}-after-{}-{}.log", process.pid, process.start_ticks)))
}

/// A root that starts another user's process does it as that user.
fn user(process: &Process) -> Result<Option<User>, String> {
    let own = rustix::process::geteuid().as_raw();
    let [real, effective] = process.users;
    if real != effective {
        return Err("it runs with the rights of another user than the one who started it".to_owned());
    }
    if effective == own {
        return Ok(None);
    }
    let setpriv = in_path("setpriv").ok_or("setpriv is not installed, so it cannot be started as its user")?;
    Ok(Some(User { setpriv, user: effective, group: process.user_group, groups: process.user_groups.clone() }))
}

/// The words between zeros. A program that writes a title over its own words leaves zeros behind.
fn words(bytes: &[u8]) -> Result<Vec<OsString>, String> {
    let Some(bytes) = bytes.strip_suffix(b"\0").filter(|bytes| !bytes.is_empty() && bytes[0] != 0) else {
        return Err("its command line is empty or was written over".to_owned());
    };
    if bytes.ends_with(b"\0") {
        return Err("it has written a title over its command line, so its arguments are not known".to_owned());
    }
    Ok(bytes.split(|byte| *byte == 0).map(|word| OsStr::from_bytes(word).to_owned()).collect())
}

fn environment(bytes: &[u8]) -> Result<Vec<(OsString, OsString)>, String> {
    let pair = |line: &[u8]| {
        let at = line.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
        Some((OsStr::from_bytes(&line[..at]).to_owned(), OsStr::from_bytes(&line[at + 1..]).to_owned()))
    };
    let lines = bytes.split(|byte| *byte == 0).filter(|line| !line.is_empty());
    lines.map(|line| pair(line).ok_or_else(|| "its environment was written over".to_owned())).collect()
}

/// A program that was replaced while it ran is found under its old name.
fn still_there(exe: PathBuf) -> Result<PathBuf, String> {
    let name = exe.as_os_str().as_bytes();
    let path = name.strip_suffix(b" (deleted)").map_or_else(|| exe.clone(), |name| PathBuf::from(OsStr::from_bytes(name)));
    if path.is_file() { Ok(path) } else { Err(format!("its program {} is not there any more", path.display())) }
}

/// The file that a program's first word names, as the system finds it.
fn resolve(word: &OsStr, folder: &Path, path: Option<&OsStr>) -> Option<PathBuf> {
    let is_path = word.as_bytes().contains(&b'/');
    let found = if is_path { folder.join(word) } else { find_in(word, path?, folder)? };
    std::fs::canonicalize(found).ok()
}

fn find_in(word: &OsStr, path: &OsStr, folder: &Path) -> Option<PathBuf> {
    let is_program = |file: &PathBuf| std::fs::metadata(file).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    std::env::split_paths(path).map(|entry| folder.join(entry).join(word)).find(is_program)
}

fn in_path(program: &str) -> Option<PathBuf> {
    find_in(OsStr::new(program), &std::env::var_os("PATH")?, Path::new("/"))
}

/// What a person should know before a process is started anew by us.
pub(super) fn warnings(process: &Process) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(service) = process.service() {
        warnings.push(format!("it belongs to the service {service}, which may start a second one: service.restart is meant for that"));
    }
    let parent = Process::read(process.parent).filter(|parent| parent.pid > 1 && !table::own_line().contains(&parent.pid));
    if let Some(parent) = parent {
        warnings.push(format!("its parent {} ({}) may start a second one", parent.pid, parent.comm));
    }
    if process.terminal != 0 {
        warnings.push("it has a terminal, and will have none".to_owned());
    }
    if let Some(own) = Process::read(i32::try_from(std::process::id()).unwrap_or(0)).and_then(|own| own.service()) {
        warnings.push(format!("it will run inside Paramedic's own service {own} and end with it"));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_read_or_known_to_be_lost() {
        let read =
            |bytes: &[u8]| words(bytes).map(|words| words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>());
        assert_eq!(read(b"node\0a b\0\0--x\0"), Ok(["node", "a b", "", "--x"].map(str::to_owned).to_vec()));
        for lost in [&b""[..], b"\0", b"claude", b"claude\0\0\0\0", b"nginx: master process"] {
            assert!(words(lost).is_err(), "{lost:?}");
        }
    }

    #[test]
    fn an_environment_is_read_or_known_to_be_lost() {
        assert_eq!(environment(b"A=1\0B=x=y\0"), Ok(vec![("A".into(), "1".into()), ("B".into(), "x=y".into())]));
        assert_eq!(environment(b""), Ok(Vec::new()));
        assert!(environment(b"A=1\0master process\0").is_err());
    }
}
