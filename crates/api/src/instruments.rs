//! What measures: the query engine, rules, targets and the ends for other programs' samples.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::response::Response;
use paramedic_model::Target;
use paramedic_samples::Samples;

use crate::query::Query;

/// A future that borrows the thing it asks.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Handles around metrics. Each is optional: what is not there answers that it is not there.
#[derive(Clone, Default)]
pub struct Instruments {
    /// Answers queries.
    pub query: Option<Arc<dyn Query>>,
    /// The store of this process, for its numbers.
    pub samples: Option<Samples>,
    /// Alerting and recording rules.
    pub rules: Option<Arc<dyn crate::rules::RuleBook>>,
    /// Everything that keeps a list of targets.
    pub targets: Vec<Arc<dyn TargetList>>,
    /// Takes `remote_write` requests.
    pub remote_write: Option<Arc<dyn RemoteEnd>>,
    /// Takes remote read requests.
    pub remote_read: Option<Arc<dyn RemoteEnd>>,
    /// Reads rules and settings anew.
    pub reload: Option<Arc<dyn Reload>>,
    /// The settings in use as text, without secrets.
    pub settings: String,
    /// Limits in use by name, as `status/flags` shows them.
    pub flags: BTreeMap<String, String>,
}

/// Something with targets.
pub trait TargetList: Send + Sync {
    /// All targets as the last look left them.
    fn targets(&self) -> Vec<Target>;
}

impl<F: Fn() -> Vec<Target> + Send + Sync> TargetList for F {
    fn targets(&self) -> Vec<Target> {
        self()
    }
}

/// Takes a request of a remote protocol: its headers and its body as they came.
pub trait RemoteEnd: Send + Sync {
    fn handle(&self, headers: HeaderMap, body: Bytes) -> Work<'_, Response>;
}

/// Reads anew what can be read anew.
pub trait Reload: Send + Sync {
    /// What went wrong, as a sentence; nothing was changed then.
    fn reload(&self) -> Work<'_, Result<(), String>>;
}

impl Instruments {
    /// All targets of all lists, by pool and address.
    #[must_use]
    pub fn all_targets(&self) -> Vec<Target> {
        let mut all: Vec<Target> = self.targets.iter().flat_map(|list| list.targets()).collect();
        all.sort_by(|a, b| (&a.pool, &a.address).cmp(&(&b.pool, &b.address)));
        all
    }
}
