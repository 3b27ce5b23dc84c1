//! Real repositories: clean and dirty, in conflict, in the middle of something, with hooks and a remote.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use paramedic_action::git::{Repositories, Settings};
use paramedic_action::metrics::Metrics;
use paramedic_action::{ActionError, Actions, Adapter as _, Call, Done, Plan};
use tokio_util::sync::CancellationToken;

/// A repository with three commits: `a.txt`, then `b.txt`, then a change of `a.txt`.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        place.git(&["init", "-q", "-b", "main"]);
        place.git(&["config", "user.name", "Team"]);
        place.git(&["config", "user.email", "team@example.org"]);
        place.commit("a.txt", "one\ntwo\nthree\n", "add a");
        place.commit("b.txt", "b\n", "add b");
        place.commit("a.txt", "one\nTWO\nthree\n", "change a");
        place
    }

    fn path(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    fn git(&self, arguments: &[&str]) -> String {
        git(self.folder.path(), arguments)
    }

    fn commit(&self, file: &str, content: &str, subject: &str) -> String {
        std::fs::write(self.folder.path().join(file), content).unwrap();
        self.git(&["add", file]);
        self.git(&["commit", "-q", "-m", subject]);
        self.head()
    }

    fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(file)).unwrap_or_default()
    }

    /// All that a plan or a failed revert must leave as it was.
    fn state(&self) -> String {
        let objects = self.git(&["count-objects", "-v"]);
        let files = self.git(&["status", "--porcelain", "--ignored"]);
        format!("{} {files} {objects}", self.head())
    }

    fn revert(&self, commit: &str) -> Call {
        Call::new("git.revert").with("repository", self.path().to_str().unwrap()).with("commit", commit)
    }
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(folder)
        .args(arguments)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .output()
        .expect("git");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn actions(settings: Settings) -> Actions {
    Actions::new(vec![Arc::new(Repositories::new(settings))], Metrics::default())
}

async fn plan(call: &Call) -> Result<Plan, ActionError> {
    actions(Settings::default()).plan(call).await
}

async fn execute(call: &Call) -> Result<Done, ActionError> {
    actions(Settings::default()).execute(call, &CancellationToken::new()).await.map(|(_, done)| done)
}

fn why<T: std::fmt::Debug>(result: Result<T, ActionError>) -> String {
    result.expect_err("it must be refused").to_string()
}

#[tokio::test]
async fn a_commit_is_taken_back_and_that_is_taken_back_too() {
    let place = Place::new();
    let state = place.state();
    let call = place.revert("HEAD");
    let planned = plan(&call).await.unwrap();
    assert_eq!(place.state(), state, "a plan changes nothing, not even objects");
    assert_eq!((planned.affected, planned.objects[0].name.as_str(), planned.objects[0].detail.as_str()), (1, "a.txt", "is changed"));
    assert!(planned.what.contains("change a") && planned.exact[0].contains("revert --no-edit"), "{} {:?}", planned.what, planned.exact);
    assert!(planned.inverse.is_none(), "nothing is named that is not there yet");
    assert!(planned.warnings.iter().any(|warning| warning.contains("has no name before it is made")), "{:?}", planned.warnings);

    let done = execute(&call).await.unwrap();
    assert!(done.verified.holds, "{}", done.verified.how);
    assert_eq!(place.read("a.txt"), "one\ntwo\nthree\n");
    assert_eq!(place.git(&["log", "-1", "--format=%an <%ae> %s"]), "Team <team@example.org> Revert \"change a\"");
    assert_eq!(done.answer["commit"], place.head());

    let undone = execute(done.inverse.as_ref().unwrap()).await.unwrap();
    assert!(undone.verified.holds);
    assert_eq!(place.read("a.txt"), "one\nTWO\nthree\n");
    assert_eq!(place.git(&["rev-list", "--count", "HEAD"]), "5");
    assert!(plan(&call).await.is_ok());
    let first = place.git(&["rev-parse", "HEAD~2"]);
    assert!(plan(&place.revert(&first)).await.unwrap().warnings.iter().any(|warning| warning.contains("taken it back before")));
}

#[tokio::test]
async fn an_older_commit_with_a_new_file_goes() {
    let place = Place::new();
    let call = place.revert("HEAD~1");
    let planned = plan(&call).await.unwrap();
    assert_eq!((planned.objects[0].name.as_str(), planned.objects[0].detail.as_str()), ("b.txt", "goes away"));
    let done = execute(&call).await.unwrap();
    assert!(done.verified.holds && !place.path().join("b.txt").exists());
    // A file of that name that git does not know would be overwritten when it comes back.
    std::fs::write(place.path().join("b.txt"), "mine\n").unwrap();
    let refusal = why(execute(done.inverse.as_ref().unwrap()).await);
    assert!(refusal.contains("in the way: b.txt"), "{refusal}");
    assert_eq!(place.read("b.txt"), "mine\n");
}

#[tokio::test]
async fn a_tree_with_changes_is_refused() {
    let place = Place::new();
    std::fs::write(place.path().join("b.txt"), "changed\n").unwrap();
    assert!(why(execute(&place.revert("HEAD")).await).contains("not committed: b.txt"));
    place.git(&["add", "b.txt"]);
    assert!(why(execute(&place.revert("HEAD")).await).contains("not committed: b.txt"));
    assert_eq!(place.read("b.txt"), "changed\n");
    place.git(&["reset", "-q", "--hard"]);
    // Files that git does not know stay out of it.
    std::fs::write(place.path().join("notes"), "x").unwrap();
    assert!(execute(&place.revert("HEAD")).await.unwrap().verified.holds);
    assert_eq!(place.read("notes"), "x");
}

#[tokio::test]
async fn a_conflict_is_seen_before_anything_is_done() {
    let place = Place::new();
    let target = place.head();
    place.commit("a.txt", "one\nTwo again\nthree\n", "change a again");
    let state = place.state();
    let refusal = why(execute(&place.revert(&target)).await);
    assert!(refusal.contains("conflicts") && refusal.contains("a.txt"), "{refusal}");
    assert_eq!(place.state(), state);
}

#[tokio::test]
async fn what_is_under_way_is_refused() {
    let place = Place::new();
    place.git(&["checkout", "-q", "-b", "other", "HEAD~1"]);
    place.commit("a.txt", "one\nother\nthree\n", "other");
    let merge = Command::new("git").current_dir(place.path()).args(["merge", "-q", "main"]).output().unwrap();
    assert!(!merge.status.success(), "the merge must conflict");
    assert!(why(execute(&place.revert("HEAD")).await).contains("a merge is under way"));
    place.git(&["merge", "--abort"]);
    let rebase = Command::new("git").current_dir(place.path()).args(["rebase", "-q", "main"]).output().unwrap();
    assert!(!rebase.status.success(), "the rebase must conflict");
    assert!(why(execute(&place.revert("HEAD")).await).contains("a rebase is under way"));
    place.git(&["rebase", "--abort"]);
    std::fs::write(place.path().join(".git/index.lock"), "").unwrap();
    assert!(why(execute(&place.revert("HEAD")).await).contains("index.lock"));
    std::fs::remove_file(place.path().join(".git/index.lock")).unwrap();
    place.git(&["checkout", "-q", "--detach"]);
    assert!(why(execute(&place.revert("HEAD")).await).contains("detached"));
}

#[tokio::test]
async fn a_merge_needs_to_know_which_parent_stays() {
    let place = Place::new();
    place.git(&["checkout", "-q", "-b", "side", "HEAD~1"]);
    place.commit("side.txt", "s\n", "side");
    place.git(&["checkout", "-q", "main"]);
    place.git(&["merge", "-q", "--no-edit", "side"]);
    assert!(why(plan(&place.revert("HEAD")).await).contains("mainline"));
    assert!(why(plan(&place.revert("HEAD").with("mainline", 3)).await).contains("none of the 2 parents"));
    assert!(why(plan(&place.revert("HEAD").with("mainline", 0)).await).contains("none of the 2 parents"));
    assert!(why(plan(&place.revert("HEAD~1").with("mainline", 1)).await).contains("not a merge"));
    let done = execute(&place.revert("HEAD").with("mainline", 1)).await.unwrap();
    assert!(done.verified.holds && !place.path().join("side.txt").exists(), "{}", done.verified.how);
    assert!(execute(done.inverse.as_ref().unwrap()).await.unwrap().verified.holds);
    assert_eq!(place.read("side.txt"), "s\n");
}

#[tokio::test]
async fn only_a_commit_of_the_branch_is_a_commit() {
    let place = Place::new();
    place.git(&["checkout", "-q", "-b", "other", "HEAD~1"]);
    let elsewhere = place.commit("c.txt", "c\n", "elsewhere");
    place.git(&["checkout", "-q", "main"]);
    assert!(why(plan(&place.revert(&elsewhere)).await).contains("not in the branch"));
    for name in ["deadbeef", "0000000000000000000000000000000000000000", "nothing", "HEAD:a.txt", "HEAD~99"] {
        assert!(plan(&place.revert(name)).await.is_err(), "{name}");
    }
    for name in ["--abort", "-n", "HEAD..main", "HEAD~2..", "HEAD HEAD~1", "a;b", "$(id)", "HEAD@{1}", ":/change", "^HEAD"] {
        let refusal = why(plan(&place.revert(name)).await);
        assert!(refusal.contains("does not name one commit") || refusal.contains("none of that name"), "{name}: {refusal}");
    }
    let first = place.git(&["rev-list", "--max-parents=0", "HEAD"]);
    assert!(why(plan(&place.revert(&first)).await).contains("first commit"));
}

#[tokio::test]
async fn only_listed_repositories_are_touched() {
    let (place, other) = (Place::new(), Place::new());
    let actions = actions(Settings { repositories: vec![place.path()], ..Settings::default() });
    assert!(actions.plan(&place.revert("HEAD")).await.is_ok());
    assert!(why(actions.plan(&other.revert("HEAD")).await).contains("setting action.git.repositories"));
    let link = other.path().join("link");
    std::os::unix::fs::symlink(other.path(), &link).unwrap();
    assert!(actions.plan(&Call::new("git.revert").with("repository", link.to_str().unwrap()).with("commit", "HEAD")).await.is_err());
    let folder = tempfile::tempdir().unwrap();
    for path in ["relative", "", folder.path().to_str().unwrap(), "/nowhere/at/all"] {
        assert!(plan(&Call::new("git.revert").with("repository", path).with("commit", "HEAD")).await.is_err(), "{path}");
    }
    let inside = place.path().join("inside");
    std::fs::create_dir(&inside).unwrap();
    assert!(why(plan(&Call::new("git.revert").with("repository", inside.to_str().unwrap()).with("commit", "HEAD")).await).contains("top"));
}

#[tokio::test]
async fn a_branch_that_moved_is_not_touched() {
    let place = Place::new();
    let adapter = Repositories::new(Settings::default());
    let call = place.revert(&place.head());
    let planned = plan(&call).await.unwrap();
    let moved = place.commit("c.txt", "c\n", "meanwhile");
    let answer = adapter.execute(&call, &planned, &CancellationToken::new()).await;
    assert!(matches!(answer, Err(ActionError::Changed { .. })), "{answer:?}");
    assert_eq!(place.head(), moved);
}

fn hook(place: &Place, name: &str, script: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = place.path().join(".git/hooks").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_hook_that_says_no_leaves_everything_as_it_was() {
    let place = Place::new();
    hook(&place, "prepare-commit-msg", "echo 'not on a friday' >&2; exit 1");
    let state = place.git(&["status", "--porcelain"]) + &place.head();
    let refusal = why(execute(&place.revert("HEAD")).await);
    assert!(refusal.contains("the tree is as it was"), "{refusal}");
    assert_eq!(place.git(&["status", "--porcelain"]) + &place.head(), state);
    assert_eq!(place.read("a.txt"), "one\nTWO\nthree\n");
    assert!(!place.path().join(".git/REVERT_HEAD").exists());
}

#[tokio::test]
async fn a_hook_that_never_ends_is_ended() {
    let place = Place::new();
    hook(&place, "prepare-commit-msg", "sleep 60");
    let actions = actions(Settings { timeout_s: 1, ..Settings::default() });
    let begun = std::time::Instant::now();
    let refusal = why(actions.execute(&place.revert("HEAD"), &CancellationToken::new()).await);
    assert!(begun.elapsed() < std::time::Duration::from_secs(15));
    assert!(refusal.contains("did not end within 1 s") && refusal.contains("the tree is as it was"), "{refusal}");
    assert_eq!(place.read("a.txt"), "one\nTWO\nthree\n");
    assert!(plan(&place.revert("HEAD")).await.is_ok(), "and it can be tried again");
}

/// A bare repository that `place` pushes to.
fn remote(place: &Place) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "-q", "--bare", "-b", "main"]);
    place.git(&["remote", "add", "origin", folder.path().to_str().unwrap()]);
    place.git(&["push", "-q", "-u", "origin", "main"]);
    folder
}

#[tokio::test]
async fn a_revert_is_pushed_alone_or_not_at_all() {
    let place = Place::new();
    let call = place.revert("HEAD").with("push", true);
    assert!(why(plan(&call).await).contains("no upstream"));
    let origin = remote(&place);
    let planned = plan(&call).await.unwrap();
    assert!(planned.exact[1].contains("HEAD:refs/heads/main") && !planned.exact[1].contains("force"), "{:?}", planned.exact);
    let done = execute(&call).await.unwrap();
    assert!(done.verified.holds && done.what.contains("pushed"), "{} {}", done.what, done.verified.how);
    assert_eq!(git(origin.path(), &["rev-parse", "main"]), place.head());
    // Somebody's own commit would go with it.
    place.commit("c.txt", "c\n", "not pushed");
    assert!(why(plan(&call).await).contains("pull or push the difference first"));
}

#[tokio::test]
async fn a_push_that_is_refused_is_told() {
    let place = Place::new();
    let origin = remote(&place);
    let path = origin.path().join("hooks/pre-receive");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "#!/bin/sh\necho protected branch >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let done = execute(&place.revert("HEAD").with("push", true)).await.unwrap();
    assert!(!done.verified.holds && done.verified.how.contains("not pushed"), "{}", done.verified.how);
    assert_eq!(done.inverse.unwrap().arguments["commit"], place.head());
}

#[tokio::test]
async fn recent_commits_are_listed_with_their_files() {
    let place = Place::new();
    place.git(&["commit", "-q", "--allow-empty", "-m", "key sk-ant-REDACTED"]);
    let call = |window: &str| Call::new("git.recent").with("repository", place.path().to_str().unwrap()).with("window", window);
    let answer = execute(&call("1h")).await.unwrap().answer;
    assert_eq!(answer["count"], 4, "{answer}");
    assert!(!answer.to_string().contains("abcdefghijklmnop"), "{answer}");
    let files: Vec<&str> = answer["commits"].as_array().unwrap().iter().map(|commit| commit["files"][0].as_str().unwrap_or("-")).collect();
    assert_eq!(files, ["-", "a.txt", "b.txt", "a.txt"]);
    assert_eq!(answer["commits"][1]["subject"], "change a");
    let old = Command::new("git")
        .current_dir(place.path())
        .args(["commit", "-q", "--amend", "--no-edit", "--allow-empty"])
        .env("GIT_COMMITTER_DATE", "2001-01-01T00:00:00Z")
        .status();
    assert!(old.unwrap().success());
    assert_eq!(execute(&call("1h")).await.unwrap().answer["count"], 0, "git stops at the first commit that is too old");
}

#[tokio::test]
async fn an_author_is_there_when_the_repository_names_none() {
    let place = Place::new();
    place.git(&["config", "--unset", "user.name"]);
    place.git(&["config", "--unset", "user.email"]);
    let is_set =
        |key: &str| Command::new("git").current_dir(place.path()).args(["config", "--get", key]).output().unwrap().status.success();
    if is_set("user.name") || is_set("user.email") || std::env::var_os("GIT_AUTHOR_NAME").is_some() {
        eprintln!("skipped: this user has an author for git");
        return;
    }
    assert!(execute(&place.revert("HEAD")).await.unwrap().verified.holds);
    assert_eq!(place.git(&["log", "-1", "--format=%an <%ae>"]), "Paramedic <paramedic@localhost>");
}
