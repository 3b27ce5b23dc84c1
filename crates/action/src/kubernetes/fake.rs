//! An API server in memory that speaks the real protocol, for tests.
//!
//! **Takes** requests as `kubectl` and these actions send them: discovery, objects, the three kinds of patches, versions that
//! conflict, dry runs, selectors, pages, watches, the `scale` and `eviction` subresources. **Gives** what a real server answers,
//! and plays its controllers: deployments make replica sets, replica sets make pods, pods get a node and become ready, or not.
//! **Never** runs anything, and is not in the program.
//!
//! What a pod has written is the text of its annotation [`LOG`]. An image with `broken` in its name cannot be had; one with
//! `hungry` runs out of memory below a limit of 2 Gi; a pod with the annotation [`NEVER_ENDS`] stays when it is to end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

mod store;

mod serve;

mod table;

mod merge;

mod controllers;

use store::{Key, World};

/// A pod with this annotation does not end when it is told to.
pub const NEVER_ENDS: &str = "fake/never-ends";

/// What `kubectl logs` shows of a pod with this annotation.
pub const LOG: &str = "fake/log";

/// The controllers do one step in this time.
pub const STEP: Duration = Duration::from_millis(20);

/// The server; it ends when this is dropped.
#[derive(Debug)]
pub struct Fake {
    address: SocketAddr,
    world: Arc<Mutex<World>>,
    tasks: [JoinHandle<()>; 2],
}

impl Fake {
    /// A server on a free port of this machine, with the namespace `shop` and two nodes, `n1` and `n2`.
    pub async fn start() -> std::io::Result<Self> {
        Self::start_for(None).await
    }

    /// The same, for whoever has the token.
    pub async fn start_for(token: Option<&str>) -> std::io::Result<Self> {
        let mut world = World::default();
        for name in ["default", "shop", "kube-system"] {
            world.add(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "status": {"phase": "Active"}}));
        }
        for name in ["n1", "n2"] {
            let status = json!({"conditions": [{"type": "Ready", "status": "True"}]});
            world.add(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {}, "status": status}));
        }
        let world = Arc::new(Mutex::new(world));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = serve::router(Arc::clone(&world), token.map(str::to_owned));
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        let stepped = Arc::clone(&world);
        let controllers = tokio::spawn(async move {
            loop {
                tokio::time::sleep(STEP).await;
                locked(&stepped).step();
            }
        });
        Ok(Self { address, world, tasks: [server, controllers] })
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes a kubeconfig for this server into the folder, and says where it is.
    pub fn kubeconfig(&self, folder: &Path) -> std::io::Result<PathBuf> {
        let path = folder.join("kubeconfig");
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "tester"}}],
            "clusters": [{"name": "fake", "cluster": {"server": self.url()}}],
            "users": [{"name": "tester", "user": {}}],
        });
        std::fs::write(&path, config.to_string())?;
        Ok(path)
    }

    /// Puts an object there as if somebody had made it, or replaces it.
    pub fn put(&self, object: Value) {
        locked(&self.world).add(object);
    }

    /// A deployment in `shop`, with one container of its name.
    pub fn deploy(&self, name: &str, image: &str, replicas: u64) {
        self.put(deployment("shop", name, image, replicas));
    }

    /// The object, or null. `plural` as in addresses: `deployments`.
    #[must_use]
    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Value {
        locked(&self.world).get(&Key::of(plural, namespace, name)).cloned().unwrap_or(Value::Null)
    }

    /// All of one kind in a namespace.
    #[must_use]
    pub fn all(&self, plural: &str, namespace: &str) -> Vec<Value> {
        locked(&self.world).all(plural, namespace).cloned().collect()
    }

    /// Changes an object as somebody else would. Nothing happens where there is none.
    pub fn change(&self, plural: &str, namespace: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let mut world = locked(&self.world);
        if let Some(mut object) = world.get(&Key::of(plural, namespace, name)).cloned() {
            change(&mut object);
            world.add(object);
        }
    }

    /// From now on changes of this kind are refused with these words, as an admission check does.
    pub fn refuse(&self, plural: &str, why: &str) {
        locked(&self.world).refusals.insert(plural.to_owned(), why.to_owned());
    }

    /// Just before each of the next writes, somebody else changes the object that is written.
    pub fn meddle(&self, changes: &[fn(&mut Value)]) {
        locked(&self.world).meddling.extend(changes);
    }

    /// The next writes are done, but their answers are lost on the way.
    pub fn lose_answers(&self, count: u32) {
        locked(&self.world).lost_answers = count;
    }

    /// All objects with everything that was said of them, to be compared.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Value> {
        locked(&self.world).snapshot()
    }

    /// Every request until now: method, path and query.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        locked(&self.world).requests.clone()
    }

    /// Until all deployments have the pods that they are to have, and nothing moves; false when it takes too long.
    pub async fn settle(&self) -> bool {
        for _ in 0..200 {
            if self.is_still(|world| world.is_settled()).await {
                return true;
            }
        }
        false
    }

    /// Whether nothing moves for some steps while this is so.
    async fn is_still(&self, is_so: impl Fn(&World) -> bool) -> bool {
        let version = locked(&self.world).version;
        tokio::time::sleep(STEP * 3).await;
        let world = locked(&self.world);
        world.version == version && is_so(&world)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A deployment with one container of its name.
#[must_use]
pub fn deployment(namespace: &str, name: &str, image: &str, replicas: u64) -> Value {
    let resources = json!({"limits": {"memory": "1Gi", "cpu": "1"}, "requests": {"memory": "256Mi"}});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": name, "image": image, "env": [{"name": "MODE", "value": "fast"}], "resources": resources}]},
            },
        },
    })
}

/// The strategic merge patch as this server applies it.
#[cfg(test)]
pub(super) fn strategic_merge(target: &mut Value, patch: &serde_json::Map<String, Value>) -> Result<(), String> {
    merge::strategic(target, patch)
}

fn locked(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}
