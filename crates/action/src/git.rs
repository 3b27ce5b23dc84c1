//! Git: a revert, planned and made as a commit.
//!
//! **Takes** a repository on this machine and one commit of its current branch. **Gives** what a revert would change and
//! whether it conflicts, found out beside the repository; then a new commit. **Never** works on a tree with changes in it,
//! never resolves a conflict, never rewrites or forces anything, and leaves the tree as it was when it fails.

mod repository;
mod revert;

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::repository::Repository;
use crate::actions::{Adapter, BoxFuture};
use crate::call::{Call, Done, Plan};
use crate::error::ActionError;
use crate::spec::{Argument, Effect, Kind, Spec};

/// Settings of these actions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The program `git`. Default: the one in PATH.
    pub git: PathBuf,
    /// The repositories that may be touched, as paths of their work trees. Default none listed: every one.
    pub repositories: Vec<PathBuf>,
    /// The author of reverts where the repository names none. Default `Paramedic`.
    pub name: String,
    /// The author's address. Default `paramedic@localhost`.
    pub email: String,
    /// Seconds that one command may take, its hooks and the remote included. Default 120.
    pub timeout_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            git: "git".into(),
            repositories: Vec::new(),
            name: "Paramedic".to_owned(),
            email: "paramedic@localhost".to_owned(),
            timeout_s: 120,
        }
    }
}

impl Settings {
    fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_s.max(1))
    }
}

/// Actions on git repositories of this machine.
#[derive(Debug, Clone, Default)]
pub struct Repositories {
    settings: Settings,
}

const REPOSITORY: Argument = Argument::required("repository", Kind::Text, "the path of the work tree");

pub(crate) const SPECS: &[Spec] = &[
    Spec {
        name: "git.revert",
        summary: "makes a commit that takes one commit back",
        effect: Effect::Write,
        arguments: &[
            REPOSITORY,
            Argument::required("commit", Kind::Text, "the commit of the current branch that is taken back"),
            Argument::optional("mainline", Kind::Count, "for a merge: the number of the parent that stays"),
            Argument::optional("push", Kind::Flag, "push the new commit to the branch's upstream (false)"),
        ],
        undo: "git.revert of the new commit",
    },
    Spec {
        name: "git.recent",
        summary: "lists the commits of the current branch since a while, with their files",
        effect: Effect::Read,
        arguments: &[REPOSITORY, Argument::required("window", Kind::Duration, "how far to look back")],
        undo: "nothing is changed",
    },
];

impl Repositories {
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self { settings }
    }

    async fn open(&self, call: &Call) -> Result<Repository, ActionError> {
        Repository::open(&self.settings, call).await
    }

    async fn recent(&self, call: &Call) -> Result<Done, ActionError> {
        let window = call.duration("window")?;
        let repository = self.open(call).await?;
        let (commits, all) = repository.recent(window).await?;
        let answer = json!({ "count": all, "commits": commits });
        Ok(Done::looked(format!("found {all} commits in {}", repository.shown()), answer))
    }
}

impl Adapter for Repositories {
    fn specs(&self) -> &'static [Spec] {
        SPECS
    }

    fn plan<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Plan, ActionError>> {
        Box::pin(async move {
            match call.action.as_str() {
                "git.revert" => Ok(revert::Revert::look(&self.open(call).await?, call).await?.plan(call)),
                "git.recent" => {
                    let repository = self.open(call).await?;
                    let mut plan = Plan::new(call, Effect::Read, format!("list the recent commits of {}", repository.shown()));
                    plan.exact = vec![repository.recent_command(call.duration("window")?).shown()];
                    Ok(plan)
                }
                _ => Err(ActionError::Unknown(call.action.clone())),
            }
        })
    }

    fn execute<'a>(&'a self, call: &'a Call, plan: &'a Plan, cancel: &'a CancellationToken) -> BoxFuture<'a, Result<Done, ActionError>> {
        Box::pin(async move {
            match call.action.as_str() {
                "git.revert" => {
                    let repository = self.open(call).await?;
                    let revert = revert::Revert::look(&repository, call).await?;
                    revert.make(call, plan, cancel).await
                }
                "git.recent" => self.recent(call).await,
                _ => Err(ActionError::Unknown(call.action.clone())),
            }
        })
    }
}
