//! One repository: its git commands, and the state that it is in.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use paramedic_model::{secret, text};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Settings;
use crate::call::Call;
use crate::error::ActionError;
use crate::process::program::{Answer, Program};

/// Commits and files that an answer names one by one.
const COMMITS_MAX: usize = 200;
const FILES_MAX: usize = 100;
const SUBJECT_BYTES_MAX: usize = 300;

/// Variables that would lead git elsewhere than to the repository that is named.
const MISLEADING: &[&str] = &[
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_CEILING_DIRECTORIES",
    "GIT_PREFIX",
    "GIT_EXTERNAL_DIFF",
    "GIT_LITERAL_PATHSPECS",
];

/// What is under way in a repository, by the files that tell it.
const UNDER_WAY: &[(&str, &str)] = &[
    ("MERGE_HEAD", "a merge"),
    ("REVERT_HEAD", "a revert"),
    ("CHERRY_PICK_HEAD", "a cherry-pick"),
    ("rebase-merge", "a rebase"),
    ("rebase-apply", "a rebase"),
    ("sequencer", "a revert or cherry-pick of several commits"),
    ("BISECT_LOG", "a bisect"),
];

#[derive(Debug)]
pub(super) struct Repository {
    pub(super) settings: Settings,
    action: String,
    pub(super) root: PathBuf,
    /// Its own folder of git files; one of a linked work tree lies elsewhere than its objects.
    git_dir: PathBuf,
    pub(super) objects: PathBuf,
}

/// The branch that is checked out and what stands at its top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) branch: String,
    pub(super) commit: String,
}

impl Repository {
    /// Finds the work tree of this path, and checks that it may be touched.
    pub(super) async fn open(settings: &Settings, call: &Call) -> Result<Self, ActionError> {
        let path = PathBuf::from(call.text("repository")?);
        if !path.is_absolute() {
            return Err(call.fault("repository", "its path must begin with /"));
        }
        let what = || format!("the repository {}", path.display());
        let missing = |why: String| ActionError::NotFound { what: what(), why };
        let root = std::fs::canonicalize(&path).map_err(|error| missing(error.to_string()))?;
        let listed = &settings.repositories;
        if !listed.is_empty() && !listed.iter().any(|one| std::fs::canonicalize(one).is_ok_and(|one| one == root)) {
            let why = format!("{} is not in the setting action.git.repositories", path.display());
            return Err(ActionError::Refused { action: call.action.clone(), why });
        }
        let here = Self { settings: settings.clone(), action: call.action.clone(), root, git_dir: PathBuf::new(), objects: PathBuf::new() };
        let asked = ["rev-parse", "--path-format=absolute", "--show-toplevel", "--git-dir", "--git-path", "objects"];
        let answer = here.ask(&asked).await?;
        if !answer.is_ok() {
            return Err(missing(answer.complaint()));
        }
        let said = answer.text();
        let mut lines = said.lines().map(PathBuf::from);
        let (top, git_dir, objects) =
            (lines.next().unwrap_or_default(), lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        if std::fs::canonicalize(&top).ok().as_ref() != Some(&here.root) {
            return Err(missing(format!("it is not the top of a work tree; {} is", top.display())));
        }
        Ok(Self { git_dir, objects, ..here })
    }

    pub(super) fn shown(&self) -> String {
        self.root.display().to_string()
    }

    /// A git command in this repository, without questions, editors and pagers.
    pub(super) fn git<T: Into<OsString>>(&self, arguments: impl IntoIterator<Item = T>) -> Program {
        let mut program = Program::new(&self.settings.git, self.settings.timeout())
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "true")
            .env("SSH_ASKPASS_REQUIRE", "never")
            .env("GIT_EDITOR", "true")
            .env("GIT_PAGER", "cat")
            .env("GIT_MERGE_AUTOEDIT", "no")
            .env("LC_ALL", "C.UTF-8");
        program.without = MISLEADING;
        program.folder = Some(self.root.clone());
        program.args(["--no-pager", "-c", "core.fsmonitor=false", "-c", "advice.mergeConflict=false"]).args(arguments)
    }

    /// Asks git something. Nothing is written, not even the index's memory of file times.
    pub(super) async fn ask(&self, arguments: &[&str]) -> Result<Answer, ActionError> {
        let program = self.git(arguments.iter().copied()).env("GIT_OPTIONAL_LOCKS", "0");
        self.run(&program, &CancellationToken::new()).await
    }

    /// Asks for one line; none when git says no.
    pub(super) async fn line(&self, arguments: &[&str]) -> Result<Option<String>, ActionError> {
        let answer = self.ask(arguments).await?;
        Ok(answer.is_ok().then(|| answer.text().trim().to_owned()).filter(|line| !line.is_empty()))
    }

    pub(super) async fn run(&self, program: &Program, cancel: &CancellationToken) -> Result<Answer, ActionError> {
        program.run(cancel).await.map_err(|why| match why.ends_with("is not installed") {
            true => ActionError::NotSetUp { action: self.action.clone(), why: format!("{why} (setting action.git.git)") },
            false => self.failed(why),
        })
    }

    pub(super) fn refused(&self, why: impl Into<String>) -> ActionError {
        ActionError::Refused { action: self.action.clone(), why: why.into() }
    }

    pub(super) fn failed(&self, why: impl Into<String>) -> ActionError {
        ActionError::Failed { action: self.action.clone(), why: why.into() }
    }

    pub(super) fn under_way(&self) -> Option<&'static str> {
        UNDER_WAY.iter().find(|(file, _)| self.git_dir.join(file).exists()).map(|(_, what)| *what)
    }

    pub(super) fn is_locked(&self) -> bool {
        self.git_dir.join("index.lock").exists()
    }

    pub(super) async fn head(&self) -> Result<Head, ActionError> {
        let branch = self.line(&["symbolic-ref", "-q", "--short", "HEAD"]).await?;
        let branch = branch.ok_or_else(|| self.refused("no branch is checked out (the head is detached)"))?;
        let commit = self.line(&["rev-parse", "--verify", "-q", "HEAD^{commit}"]).await?;
        Ok(Head { branch, commit: commit.ok_or_else(|| self.refused("the branch has no commit yet"))? })
    }

    /// Files that differ from the last commit; new files that git does not know are not among them.
    pub(super) async fn changed_files(&self) -> Result<Vec<String>, ActionError> {
        let answer = self.ask(&["status", "--porcelain=v1", "-z", "--untracked-files=no", "--ignore-submodules=none"]).await?;
        if !answer.is_ok() {
            return Err(self.failed(answer.complaint()));
        }
        Ok(answer.text().split('\0').filter(|line| !line.is_empty()).map(|line| line.get(3..).unwrap_or(line).to_owned()).collect())
    }

    pub(super) fn recent_command(&self, window: Duration) -> Program {
        let since = format!("--since={} seconds ago", window.as_secs());
        self.git(["log", "-z", "--name-only", "--no-renames", "--no-show-signature", "--format=%x1e%H%x1f%an%x1f%cI%x1f%s%x1f", &since])
    }

    /// The first commits of the window, newest first, and how many there are.
    pub(super) async fn recent(&self, window: Duration) -> Result<(Vec<Value>, usize), ActionError> {
        let answer = self.run(&self.recent_command(window).env("GIT_OPTIONAL_LOCKS", "0"), &CancellationToken::new()).await?;
        if !answer.is_ok() {
            return Err(self.failed(answer.complaint()));
        }
        let said = answer.text();
        let commits: Vec<&str> = said.split('\u{1e}').skip(1).collect();
        Ok((commits.iter().take(COMMITS_MAX).filter_map(|record| commit(record)).collect(), commits.len()))
    }
}

fn commit(record: &str) -> Option<Value> {
    let mut fields = record.splitn(5, '\u{1f}');
    let (hash, author, at, subject, rest) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let files: Vec<&str> = rest.split(['\0', '\n']).filter(|file| !file.is_empty()).collect();
    let named: Vec<&str> = files.iter().take(FILES_MAX).copied().collect();
    Some(json!({
        "commit": hash,
        "author": text::one_line(author),
        "at": at,
        "subject": shown(subject),
        "files": named,
        "file_count": files.len(),
    }))
}

/// What somebody wrote, fit to be shown.
pub(super) fn shown(said: &str) -> String {
    text::one_line(&text::capped(&secret::mask(said), SUBJECT_BYTES_MAX)).into_owned()
}

/// A path inside the repository that leads out of it is no file of it.
pub(super) fn is_in_the_way(root: &Path, file: &str) -> bool {
    std::fs::symlink_metadata(root.join(file)).is_ok()
}
