//! Actions on a cluster: planned without a trace, done, seen by `kubectl` too, and taken back.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use paramedic_action::actions::Actions;
use paramedic_action::kubernetes::fake::Fake;
use paramedic_action::kubernetes::{Clusters, Settings};
use paramedic_action::metrics::Metrics;
use paramedic_action::{ActionError, Call, Done, Plan};
use paramedic_model::SystemClock;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

mod access;

mod nodes;

mod objects;

mod rollouts;

mod witness;

/// A cluster with the deployment `web` in `shop`, and our actions on it.
struct Stage {
    fake: Fake,
    actions: Actions,
    kubeconfig: PathBuf,
    _folder: TempDir,
}

impl Stage {
    async fn new() -> Self {
        let fake = Fake::start().await.unwrap();
        fake.deploy("web", "web:1", 3);
        assert!(fake.settle().await);
        Self::on(fake)
    }

    fn on(fake: Fake) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = fake.kubeconfig(folder.path()).unwrap();
        let actions = actions(settings(&kubeconfig));
        Self { fake, actions, kubeconfig, _folder: folder }
    }

    /// Plans, and shows that this left no trace.
    async fn plan(&self, call: &Call) -> Plan {
        assert!(self.fake.settle().await);
        let before = self.fake.snapshot();
        let plan = self.actions.plan(call).await.unwrap();
        assert!(self.fake.snapshot() == before, "the plan of {} changed something", call.action);
        plan
    }

    async fn refusal(&self, call: &Call) -> ActionError {
        assert!(self.fake.settle().await);
        let before = self.fake.snapshot();
        let error = self.actions.plan(call).await.unwrap_err();
        assert!(self.fake.snapshot() == before, "the refused plan of {} changed something", call.action);
        error
    }

    async fn run(&self, call: &Call) -> Done {
        self.actions.execute(call, &CancellationToken::new()).await.unwrap().1
    }

    /// Runs it, and demands that it was then seen to be so.
    async fn done(&self, call: &Call) -> Done {
        let done = self.run(call).await;
        assert!(done.verified.holds, "{}: {}", call.action, done.verified.how);
        done
    }

    fn image(&self) -> String {
        let web = self.fake.get("deployments", "shop", "web");
        web["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
    }

    fn memory(&self) -> Value {
        self.fake.get("deployments", "shop", "web")["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"].clone()
    }

    /// What `kubectl` says; none when there is none.
    async fn kubectl(&self, arguments: &[&str]) -> Option<String> {
        let program = Path::new("/usr/bin/kubectl");
        if !program.is_file() {
            eprintln!("skipped: kubectl is not installed");
            return None;
        }
        let mut command = Command::new(program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments).env("HOME", self.kubeconfig.parent().unwrap());
        command.current_dir(self.kubeconfig.parent().unwrap());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "kubectl {arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        Some(said)
    }

    #[track_caller]
    fn agrees(said: Option<String>, expect: &str) {
        if let Some(said) = said {
            assert!(said.contains(expect), "kubectl says {said:?}, not {expect:?}");
        }
    }
}

fn settings(kubeconfig: &Path) -> Settings {
    Settings { kubeconfig: Some(kubeconfig.to_owned()), poll_ms: 20, verify_s: 10, ..Settings::default() }
}

fn actions(settings: Settings) -> Actions {
    Actions::new(vec![Arc::new(Clusters::new(settings, Arc::new(SystemClock)))], Metrics::default())
}

fn on_web(action: &str) -> Call {
    Call::new(&format!("kubernetes.{action}")).with("namespace", "shop").with("deployment", "web")
}

fn memory_patch(limit: &str) -> Call {
    let limits = json!({"limits": {"memory": limit}});
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "resources": limits}]}}}});
    Call::new("kubernetes.patch").with("namespace", "shop").with("kind", "deployment").with("name", "web").with("patch", patch)
}
