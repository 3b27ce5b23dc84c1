//! Taking one commit back.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::repository::{Head, Repository, is_in_the_way, shown};
use crate::call::{Call, Done, OBJECTS_MAX, Object, Plan, Verified};
use crate::error::ActionError;
use crate::process::program::Program;
use crate::spec::Effect;

/// Names of commits are not longer.
const COMMIT_BYTES_MAX: usize = 200;
/// Files that a refusal names.
const TOLD_MAX: usize = 5;

/// A revert that is possible now.
pub(super) struct Revert<'a> {
    repository: &'a Repository,
    head: Head,
    commit: String,
    subject: String,
    mainline: Option<u64>,
    /// Letter and file: `M src/main.rs`.
    files: Vec<(String, String)>,
    /// The tree that the new commit must have; unknown with an old git.
    tree: Option<String>,
    push: Option<Upstream>,
    warnings: Vec<String>,
}

/// Where a branch is pushed to.
struct Upstream {
    remote: String,
    branch: String,
}

impl<'a> Revert<'a> {
    /// Finds out beside the repository what the revert would do; says why where it would not do.
    pub(super) async fn look(repository: &'a Repository, call: &Call) -> Result<Self, ActionError> {
        if let Some(what) = repository.under_way() {
            return Err(repository.refused(format!("{what} is under way in {}", repository.shown())));
        }
        if repository.is_locked() {
            return Err(repository.refused("another git works in it (index.lock is there)"));
        }
        let head = repository.head().await?;
        let changed = repository.changed_files().await?;
        if !changed.is_empty() {
            return Err(repository.refused(format!("the tree has changes that are not committed: {}", told(&changed))));
        }
        let commit = find(repository, call).await?;
        let mut warnings = Vec::new();
        let (parent, mainline) = parent(repository, call, &commit).await?;
        let subject = repository.line(&["log", "-1", "--no-show-signature", "--format=%s", &commit]).await?.unwrap_or_default();
        let range = format!("{commit}..HEAD");
        let words = format!("--grep=This reverts commit {commit}");
        if let Some(earlier) = repository.line(&["log", "-1", "--format=%h", "--fixed-strings", &words, &range]).await? {
            warnings.push(format!("{earlier} has taken it back before"));
        }
        let (files, tree) = match &parent {
            Some(parent) => foresee(repository, &commit, parent).await?,
            None => return Err(repository.refused("it is the first commit: taking it back would remove everything")),
        };
        if tree.is_none() {
            warnings.push("this git cannot foresee conflicts; where there is one, nothing stays changed".to_owned());
        }
        let in_the_way: Vec<String> = files
            .iter()
            .filter(|(letter, file)| letter == "A" && is_in_the_way(&repository.root, file))
            .map(|(_, file)| file.clone())
            .collect();
        if !in_the_way.is_empty() {
            return Err(repository.refused(format!("files that git does not know are in the way: {}", told(&in_the_way))));
        }
        let push = if call.flag_or("push", false)? { Some(upstream(repository, &head).await?) } else { None };
        Ok(Self { repository, head, commit, subject: shown(&subject), mainline, files, tree, push, warnings })
    }

    fn command(&self) -> Program {
        let mainline = self.mainline.map(|number| vec!["-m".to_owned(), number.to_string()]).unwrap_or_default();
        self.repository.git(["revert".to_owned(), "--no-edit".to_owned()].into_iter().chain(mainline).chain([self.commit.clone()]))
    }

    fn push_command(&self, upstream: &Upstream) -> Program {
        let to = format!("HEAD:refs/heads/{}", upstream.branch);
        self.repository.git(["push", "--porcelain", "--no-follow-tags", "--", &upstream.remote, &to])
    }

    fn stands_on(&self) -> String {
        format!("{} at {}", self.head.branch, self.head.commit)
    }

    pub(super) fn plan(self, call: &Call) -> Plan {
        let short = short(&self.commit);
        let what = format!("take back {short} ({}) on the branch {} of {}", self.subject, self.head.branch, self.repository.shown());
        let mut plan = Plan::new(call, Effect::Write, what);
        plan.affected = self.files.len() as u64;
        let object = |(letter, file): &(String, String)| Object {
            kind: "file".to_owned(),
            name: file.clone(),
            detail: match letter.as_str() {
                "A" => "comes back".to_owned(),
                "D" => "goes away".to_owned(),
                _ => "is changed".to_owned(),
            },
        };
        plan.objects = self.files.iter().take(OBJECTS_MAX).map(object).collect();
        plan.exact = vec![self.command().shown()];
        if let Some(upstream) = &self.push {
            plan.exact.push(self.push_command(upstream).shown());
            plan.warnings.push(format!("the branch {} of {} changes for everybody", upstream.branch, upstream.remote));
        }
        // Which commit that will be is known when it is made: a call written down now would find nothing.
        plan.warnings.push("what takes it back is git.revert of the new commit, which has no name before it is made".to_owned());
        plan.stands_on = self.stands_on();
        plan.warnings.extend(self.warnings);
        plan
    }

    pub(super) async fn make(self, call: &Call, plan: &Plan, cancel: &CancellationToken) -> Result<Done, ActionError> {
        let repository = self.repository;
        if self.stands_on() != plan.stands_on {
            let why = format!("it was {}, and is {}", plan.stands_on, self.stands_on());
            return Err(ActionError::Changed { action: call.action.clone(), why });
        }
        let made = repository.run(&with_author(repository, self.command()).await?, cancel).await;
        let why = match made {
            Ok(answer) if answer.is_ok() => None,
            Ok(answer) => Some(answer.complaint()),
            Err(error) => Some(error.to_string()),
        };
        let now = repository.head().await?;
        if now == self.head {
            let why = why.unwrap_or_else(|| "git made no commit".to_owned());
            let state = self.clean_up().await?;
            return Err(repository.failed(format!("{why}; {state}")));
        }
        let verified = self.verify(&now).await?;
        let mut done = Done::new(format!("took back {} with the commit {}", short(&self.commit), short(&now.commit)), verified);
        done.affected = self.files.len() as u64;
        done.before = json!({ "branch": self.head.branch, "commit": self.head.commit });
        done.after = json!({ "branch": now.branch, "commit": now.commit });
        done.answer = json!({ "commit": now.commit });
        done.inverse = Some(inverse(call, &now.commit));
        if let Some(upstream) = &self.push {
            self.publish(upstream, &now, &mut done, cancel).await?;
        }
        Ok(done)
    }

    /// A failed revert must leave nothing behind. The tree had no changes before, so nothing of anybody's is lost.
    async fn clean_up(&self) -> Result<String, ActionError> {
        let repository = self.repository;
        // It is done whatever becomes of the run.
        let never = CancellationToken::new();
        if repository.under_way().is_some() {
            repository.run(&repository.git(["revert", "--abort"]), &never).await?;
        }
        if !repository.changed_files().await?.is_empty() {
            repository.run(&repository.git(["reset", "--merge", &self.head.commit]), &never).await?;
        }
        let changed = repository.changed_files().await?;
        let is_as_before = changed.is_empty() && repository.under_way().is_none() && repository.head().await? == self.head;
        Ok(if is_as_before {
            "the tree is as it was".to_owned()
        } else {
            format!("the tree is NOT as it was, look at it: {}", told(&changed))
        })
    }

    async fn verify(&self, now: &Head) -> Result<Verified, ActionError> {
        let repository = self.repository;
        let parent = repository.line(&["rev-parse", "--verify", "-q", "HEAD^1"]).await?;
        let tree = repository.line(&["rev-parse", "--verify", "-q", "HEAD^{tree}"]).await?;
        let changed = repository.changed_files().await?;
        let missed = |why: String| Ok(Verified::missed(why));
        if now.branch != self.head.branch || parent.as_deref() != Some(&self.head.commit) {
            return missed(format!("{} does not follow {}", short(&now.commit), short(&self.head.commit)));
        }
        if self.tree.is_some() && self.tree != tree {
            return missed("the commit holds something else than was foreseen (a hook may have changed it)".to_owned());
        }
        if !changed.is_empty() {
            return missed(format!("the tree has changes now: {}", told(&changed)));
        }
        Ok(Verified::seen(format!("{} follows {} and holds what was foreseen", short(&now.commit), short(&self.head.commit))))
    }

    async fn publish(&self, upstream: &Upstream, now: &Head, done: &mut Done, cancel: &CancellationToken) -> Result<(), ActionError> {
        let pushed = self.repository.run(&quiet_ssh(self.repository, self.push_command(upstream)).await?, cancel).await;
        let why = match pushed {
            Ok(answer) if answer.is_ok() => None,
            Ok(answer) => Some(answer.complaint()),
            Err(error) => Some(error.to_string()),
        };
        let there = remote_head(self.repository, upstream).await.ok().flatten();
        if there.as_deref() == Some(now.commit.as_str()) {
            done.what.push_str(&format!(", and pushed it to {}", upstream.remote));
            return Ok(());
        }
        let why = why.unwrap_or_else(|| format!("{} does not have it", upstream.remote));
        done.what.push_str(", which is not pushed");
        done.verified = Verified::missed(format!("the commit is made here, and not pushed: {why}"));
        Ok(())
    }
}

fn inverse(call: &Call, commit: &str) -> Call {
    let mut inverse = call.clone().with("commit", commit);
    // The new commit is never a merge.
    inverse.arguments.remove("mainline");
    inverse
}

fn short(commit: &str) -> &str {
    paramedic_model::text::head(commit, 10)
}

fn told(files: &[String]) -> String {
    let first: Vec<String> = files.iter().take(TOLD_MAX).map(|file| shown(file)).collect();
    let more = files.len().saturating_sub(TOLD_MAX);
    if more > 0 { format!("{} and {more} more", first.join(", ")) } else { first.join(", ") }
}

/// The one commit that is named, which must be in the branch.
async fn find(repository: &Repository, call: &Call) -> Result<String, ActionError> {
    let named = call.text("commit")?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/' | b'~' | b'^');
    if named.len() > COMMIT_BYTES_MAX || named.starts_with(['-', '^']) || named.contains("..") || !named.bytes().all(is_plain) {
        return Err(call.fault("commit", format!("{:?} does not name one commit", shown(&named))));
    }
    let commit = repository.line(&["rev-parse", "--verify", "-q", "--end-of-options", &format!("{named}^{{commit}}")]).await?;
    let missing = |why: &str| ActionError::NotFound { what: format!("the commit {named}"), why: why.to_owned() };
    let commit = commit.ok_or_else(|| missing("the repository has none of that name, or more than one"))?;
    if !repository.ask(&["merge-base", "--is-ancestor", &commit, "HEAD"]).await?.is_ok() {
        return Err(missing("it is not in the branch that is checked out"));
    }
    Ok(commit)
}

/// The parent whose state comes back; none for a first commit.
async fn parent(repository: &Repository, call: &Call, commit: &str) -> Result<(Option<String>, Option<u64>), ActionError> {
    let mainline = call.count_or_none("mainline")?;
    let line = repository.line(&["rev-list", "--parents", "-n", "1", commit]).await?.unwrap_or_default();
    let parents: Vec<&str> = line.split_ascii_whitespace().skip(1).collect();
    match (parents.as_slice(), mainline) {
        ([], _) => Ok((None, None)),
        ([parent], None) => Ok((Some((*parent).to_owned()), None)),
        ([_], Some(_)) => Err(call.fault("mainline", format!("{} is not a merge", short(commit)))),
        (_, None) => Err(repository.refused(format!(
            "{} is a merge of {} branches: the argument mainline must say which parent stays",
            short(commit),
            parents.len()
        ))),
        (parents, Some(number)) => {
            let at = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
            let parent = at.and_then(|at| parents.get(at));
            let wrong = || call.fault("mainline", format!("{number} is none of the {} parents", parents.len()));
            Ok((Some((*parent.ok_or_else(wrong)?).to_owned()), Some(number)))
        }
    }
}

/// A folder for objects that must not stay; gone when dropped.
struct Beside(std::path::PathBuf);

impl Beside {
    fn make() -> std::io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("paramedic-revert-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // What stays is a few small files in the folder for such.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Files with what becomes of them, and the tree that a revert would give.
type Foreseen = (Vec<(String, String)>, Option<String>);

/// Merges beside the repository what the revert would merge: its objects are only read.
async fn foresee(repository: &Repository, commit: &str, parent: &str) -> Result<Foreseen, ActionError> {
    let beside = Beside::make().map_err(|error| repository.failed(format!("no temporary folder: {error}")))?;
    let base = format!("--merge-base={commit}");
    let merged =
        beside_run(repository, &beside.0, &["merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", &base, "HEAD", parent])
            .await?;
    let said = merged.text();
    let mut names = said.split('\0').filter(|name| !name.is_empty());
    match merged.exit {
        Some(0) => {}
        Some(1) => {
            let conflicts: Vec<String> = names.skip(1).map(str::to_owned).collect();
            return Err(repository.refused(format!("it conflicts with later commits in: {}", told(&conflicts))));
        }
        // An old git has no such command: what the commit changed is the best that is known.
        _ => return Ok((changes(repository, Path::new(""), commit, parent).await?, None)),
    }
    let tree = names.next().unwrap_or_default().to_owned();
    let files = changes(repository, &beside.0, "HEAD", &tree).await?;
    if files.is_empty() {
        return Err(repository.refused("there is nothing left of it to take back"));
    }
    Ok((files, Some(tree)))
}

async fn beside_run(repository: &Repository, beside: &Path, arguments: &[&str]) -> Result<crate::process::program::Answer, ActionError> {
    let mut program = repository.git(arguments.iter().copied()).env("GIT_OPTIONAL_LOCKS", "0");
    if !beside.as_os_str().is_empty() {
        program = program.env("GIT_OBJECT_DIRECTORY", beside).env("GIT_ALTERNATE_OBJECT_DIRECTORIES", &repository.objects);
        program.without = &["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_NAMESPACE"];
    }
    repository.run(&program, &CancellationToken::new()).await
}

async fn changes(repository: &Repository, beside: &Path, from: &str, to: &str) -> Result<Vec<(String, String)>, ActionError> {
    let asked = ["diff-tree", "-r", "-z", "--no-renames", "--no-ext-diff", "--name-status", from, to];
    let answer = beside_run(repository, beside, &asked).await?;
    if !answer.is_ok() {
        return Err(repository.failed(answer.complaint()));
    }
    let said = answer.text();
    let mut fields = said.split('\0');
    let mut files = Vec::new();
    while let (Some(letter), Some(file)) = (fields.next().filter(|letter| !letter.is_empty()), fields.next()) {
        files.push((letter.to_owned(), file.to_owned()));
    }
    Ok(files)
}

/// The branch's upstream, which must stand where the branch stands: nothing else goes with the push.
async fn upstream(repository: &Repository, head: &Head) -> Result<Upstream, ActionError> {
    let of = |key: &str| format!("branch.{}.{key}", head.branch);
    let remote = repository.line(&["config", "--get", &of("remote")]).await?;
    let merge = repository.line(&["config", "--get", &of("merge")]).await?;
    let branch = merge.as_deref().and_then(|merge| merge.strip_prefix("refs/heads/")).map(str::to_owned);
    let (Some(remote), Some(branch)) = (remote.filter(|remote| !remote.starts_with('-')), branch) else {
        return Err(repository.refused(format!("the branch {} has no upstream to push to", head.branch)));
    };
    let upstream = Upstream { remote, branch };
    match remote_head(repository, &upstream).await? {
        Some(there) if there == head.commit => Ok(upstream),
        Some(there) => Err(repository.refused(format!(
            "{} has {} at {}, and here it is {}: pull or push the difference first",
            upstream.remote,
            upstream.branch,
            short(&there),
            short(&head.commit)
        ))),
        None => Err(repository.refused(format!("{} has no branch {}", upstream.remote, upstream.branch))),
    }
}

async fn remote_head(repository: &Repository, upstream: &Upstream) -> Result<Option<String>, ActionError> {
    let full = format!("refs/heads/{}", upstream.branch);
    let program = repository.git(["ls-remote", "--", &upstream.remote, &full]);
    let answer = repository.run(&quiet_ssh(repository, program).await?, &CancellationToken::new()).await?;
    if !answer.is_ok() {
        return Err(repository.failed(format!("{} does not answer: {}", upstream.remote, answer.complaint())));
    }
    let said = answer.text();
    let line = said.lines().find(|line| line.ends_with(&full));
    Ok(line.and_then(|line| line.split_ascii_whitespace().next()).map(str::to_owned))
}

/// ssh must not ask at a terminal that Paramedic may have been started at.
async fn quiet_ssh(repository: &Repository, program: Program) -> Result<Program, ActionError> {
    let is_set = std::env::var_os("GIT_SSH_COMMAND").is_some() || repository.line(&["config", "--get", "core.sshCommand"]).await?.is_some();
    Ok(if is_set { program } else { program.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes") })
}

/// A commit needs an author; ours is used where the repository names none.
async fn with_author(repository: &Repository, mut program: Program) -> Result<Program, ActionError> {
    let settings = &repository.settings;
    for (key, own, variables) in [
        ("user.name", &settings.name, ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"]),
        ("user.email", &settings.email, ["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"]),
    ] {
        if repository.line(&["config", "--get", key]).await?.is_some() {
            continue;
        }
        for variable in variables.into_iter().filter(|variable| std::env::var_os(variable).is_none()) {
            program = program.env(variable, own);
        }
    }
    Ok(program)
}
