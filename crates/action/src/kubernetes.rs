//! Kubernetes, through its API: rollouts, scale, resources, nodes and network policies.
//!
//! Each plan is put before the server as a dry run (`dryRun=All`), so that what its checks refuse is known before anybody
//! approves. Each change says which version of the object it was planned for; when the server has another one, it is looked at
//! anew, and nothing is done when more than its state has changed. Secrets are never read, and nothing secret is shown.
//! The protocol is that of <https://kubernetes.io/docs/reference/using-api/api-concepts/>; what a rollout is and when it has ended
//! is as `kubectl` has it.

use std::path::PathBuf;
use std::sync::Arc;

use paramedic_model::Clock;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::actions::{Adapter, BoxFuture};
use crate::{ActionError, Call, Done, Plan, Spec};

pub(crate) mod specs;

mod access;

mod api;

mod object;

mod work;

mod rollout;

mod scale;

mod patch;

mod node;

mod drain;

mod policy;

mod look;

#[cfg(feature = "fake")]
pub mod fake;

use work::Work;

/// Settings of these actions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// File with clusters and users, as `kubectl` has it. Default: the first of `$KUBECONFIG`, else `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// Which context of the kubeconfig. Default: its current one.
    pub context: String,
    /// Address of the API server; goes before the kubeconfig. Plain `http` is taken on loopback only. Default: none.
    pub server: String,
    /// File with the token for `server`, read for each action. Default: none.
    pub token_file: Option<PathBuf>,
    /// File with the certificate authority of `server`, as PEM. Default: those of the system.
    pub ca_file: Option<PathBuf>,
    /// How long one request may take, in seconds. Default 30.
    pub timeout_s: u64,
    /// How long a change is watched until it is what it was to be, in seconds. Default 120.
    pub verify_s: u64,
    /// Between two looks, in milliseconds. Default 1000.
    pub poll_ms: u64,
    /// A network policy may be suspended for so long at most, in seconds. Default 3600.
    pub suspend_max_s: u64,
    /// A drain may take so long at most, in seconds. Default 1800.
    pub drain_max_s: u64,
    /// Namespaces in which nothing is changed. Default `kube-system`, `kube-public` and `kube-node-lease`.
    pub protected_namespaces: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            context: String::new(),
            server: String::new(),
            token_file: None,
            ca_file: None,
            timeout_s: 30,
            verify_s: 120,
            poll_ms: 1_000,
            suspend_max_s: 3_600,
            drain_max_s: 1_800,
            protected_namespaces: ["kube-system", "kube-public", "kube-node-lease"].map(str::to_owned).to_vec(),
        }
    }
}

/// Actions on one cluster.
pub struct Clusters {
    settings: Settings,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Clusters {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Clusters").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Clusters {
    #[must_use]
    pub const fn new(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        Self { settings, clock }
    }

    fn work<'a>(&'a self, call: &'a Call) -> Result<Work<'a>, ActionError> {
        let spec = specs::SPECS.iter().find(|spec| spec.name == call.action).ok_or_else(|| ActionError::Unknown(call.action.clone()))?;
        let not_set_up = |why| ActionError::NotSetUp { action: call.action.clone(), why };
        let api = api::Api::connect(&self.settings).map_err(not_set_up)?;
        Ok(Work { api, call, spec, settings: &self.settings, clock: self.clock.as_ref() })
    }
}

impl Adapter for Clusters {
    fn specs(&self) -> &'static [Spec] {
        specs::SPECS
    }

    fn plan<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Plan, ActionError>> {
        Box::pin(async move { self.work(call)?.plan().await })
    }

    fn execute<'a>(&'a self, call: &'a Call, plan: &'a Plan, cancel: &'a CancellationToken) -> BoxFuture<'a, Result<Done, ActionError>> {
        Box::pin(async move { self.work(call)?.execute(plan, cancel).await })
    }
}
