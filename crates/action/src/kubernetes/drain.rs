//! A node emptied: cordoned, then its pods evicted, as their disruption budgets allow.
//!
//! Which pods are taken, left or refused is as `kubectl drain` has it. A refused eviction is asked for again until the time is
//! over; pods are never deleted past their budget.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::api::Change;
use super::node::{cordoning, is_cordoned};
use super::object::{self, Found, NODE, POD, digest};
use super::work::{Work, exact, qualified};
use crate::call::OBJECTS_MAX;
use crate::{ActionError, Done, Object, Plan, Verified};

/// Evictions that are tried in the plan.
const REHEARSED_MAX: usize = OBJECTS_MAX;

/// A pod that is to leave.
struct Leaving {
    namespace: String,
    name: String,
    uid: String,
    /// Evicted, and on its way.
    is_ending: bool,
    /// What the server said last.
    said: String,
}

pub(super) struct Draining {
    pub(super) plan: Plan,
    node: Found,
    pods: Vec<Leaving>,
    /// The pods of the plan, by uid.
    planned: Vec<String>,
    timeout: Duration,
    grace: Option<u64>,
}

/// What becomes of one pod.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Leaves,
    Stays,
    /// Only if somebody says so, with this argument, because of this.
    Asks(&'static str, &'static str),
}

impl Work<'_> {
    pub(super) async fn drain_prepare(&self) -> Result<Draining, ActionError> {
        let timeout = self.call.duration("timeout")?;
        if timeout.is_zero() || timeout > Duration::from_secs(self.settings.drain_max_s) {
            return Err(self.call.fault("timeout", format!("it is between 1 s and {} s", self.settings.drain_max_s)));
        }
        let limit = self.time_limit()?;
        let grace = self.call.duration_or_none("grace")?.map(|grace| grace.as_secs());
        let node = self.found(NODE, "", &object::name(self.call, "node")?).await?;
        let on_node = format!("spec.nodeName={}", node.name);
        let all = self.api.list(&POD.all(""), &[("fieldSelector", &on_node)]).await;
        let all = all.map_err(|why| self.rejected(&format!("the pods of {}", node.named()), why))?;
        let (leaving, stay) = self.chosen(&all)?;
        let mut pods: Vec<Leaving> = leaving.into_iter().map(Leaving::of).collect();
        pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        let what = format!("cordon {} and evict {} of its {} pods within {} s", node.named(), pods.len(), all.len(), timeout.as_secs());
        let mut plan = self.planned(&node, what);
        plan.affected = pods.len() as u64;
        plan.of = self.api.count(&POD.all("")).await;
        let (objects, uids) = (pods.iter().take(OBJECTS_MAX - 1).map(Leaving::object), pods.iter().map(|pod| pod.uid.as_str()));
        plan.objects.extend(objects);
        plan.stands_on = format!("{} {}", plan.stands_on, digest(&uids.collect::<Vec<_>>().join(" ")));
        if stay > 0 {
            plan.warnings.push(format!("{stay} pods stay: they belong to daemon sets or to the node itself"));
        }
        plan.warnings.extend(self.node_warnings(&node).await);
        if !is_cordoned(&node) {
            let change = cordoning(&node, true);
            self.rehearsed(&node, &change).await?;
            plan.exact.extend(exact(&change));
            plan.reverts_after_s = limit;
            plan.inverse = Some(self.back("kubernetes.cordon").with("node", node.name.as_str()).with("cordoned", false));
        }
        self.rehearse_evictions(&mut plan, &pods, grace).await?;
        let planned = pods.iter().map(|pod| pod.uid.clone()).collect();
        Ok(Draining { plan, node, pods, planned, timeout, grace })
    }

    fn chosen<'p>(&self, all: &'p [Value]) -> Result<(Vec<&'p Value>, usize), ActionError> {
        let (force, delete_empty_dir) = (self.call.flag_or("force", false)?, self.call.flag_or("delete_empty_dir", false)?);
        let (mut leaving, mut refused) = (Vec::new(), Vec::new());
        for pod in all {
            match fate(pod) {
                Fate::Stays => {}
                Fate::Leaves => leaving.push(pod),
                Fate::Asks("force", _) if force => leaving.push(pod),
                Fate::Asks("delete_empty_dir", _) if delete_empty_dir => leaving.push(pod),
                Fate::Asks(argument, why) => refused.push(format!("{} {why} (say {argument} to take it too)", Leaving::of(pod).named())),
            }
        }
        if refused.is_empty() {
            let stay = all.len() - leaving.len();
            return Ok((leaving, stay));
        }
        let more = refused.len().saturating_sub(5);
        refused.truncate(5);
        let more = if more == 0 { String::new() } else { format!("; and {more} more") };
        Err(self.refused(&format!("{}{more}", refused.join("; "))))
    }

    /// The server says for each pod whether its budget allows it now. One at a time may still be too much for two of one budget.
    async fn rehearse_evictions(&self, plan: &mut Plan, pods: &[Leaving], grace: Option<u64>) -> Result<(), ActionError> {
        for pod in pods.iter().take(REHEARSED_MAX) {
            let change = pod.eviction(grace);
            plan.exact.extend(exact(&change));
            match self.api.dry_run(&change).await {
                Err(rejection) if rejection.status == 429 => {
                    plan.warnings.push(format!("{} may not go now: {}", pod.named(), rejection.why));
                }
                Err(rejection) if !matches!(rejection.status, 404 | 409) => {
                    return Err(self.rejected(&format!("the pod {}", pod.named()), rejection));
                }
                _ => {}
            }
        }
        if pods.len() > REHEARSED_MAX {
            plan.exact.push(format!("and so for {} further pods", pods.len() - REHEARSED_MAX));
        }
        Ok(())
    }

    pub(super) async fn drain(&self, plan: &Plan, cancel: &CancellationToken) -> Result<Done, ActionError> {
        let mut draining = self.drain_prepare().await?;
        if draining.plan.stands_on != plan.stands_on {
            return Err(self.changed(&format!("{} or what runs on it changed since", draining.node.named())));
        }
        let begun = Instant::now();
        if !is_cordoned(&draining.node) {
            // The kubelet writes the node's state all the time, so its version says nothing; the field has one meaning.
            let made = self.api.make(&cordoning(&draining.node, true)).await;
            made.map_err(|rejection| self.rejected(&draining.node.named(), rejection))?;
        }
        let all = draining.pods.len();
        let mut called_off = false;
        while !draining.pods.is_empty() && !called_off && begun.elapsed() < draining.timeout {
            self.evict_round(&mut draining).await;
            if draining.pods.is_empty() {
                break;
            }
            let rest = draining.timeout.saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
            tokio::select! {
                () = cancel.cancelled() => called_off = true,
                () = tokio::time::sleep(self.poll().min(rest)) => {}
            }
        }
        let gone = all - draining.pods.len();
        if called_off {
            let done = format!(
                "{} is cordoned, {gone} of {all} pods have left it, {} were evicted and are ending",
                draining.node.named(),
                draining.ending()
            );
            return Err(ActionError::CalledOff { action: self.call.action.clone(), done });
        }
        Ok(self.drained(draining, gone, all).await)
    }

    async fn drained(&self, draining: Draining, gone: usize, all: usize) -> Done {
        let remain: Vec<Value> =
            draining.pods.iter().map(|pod| json!({"pod": pod.named(), "evicted": pod.is_ending, "said": pod.said})).collect();
        let named: Vec<String> = draining.pods.iter().take(5).map(Leaving::state).collect();
        let newcomers = self.newcomers(&draining).await;
        let cordoned = self.api.get(&draining.node.path()).await.map(|value| is_cordoned(&Found { value, ..draining.node.clone() }));
        let node = draining.node.named();
        let verified = match (cordoned, remain.is_empty()) {
            (Ok(true), _) if newcomers != Ok(0) => match newcomers {
                Ok(count) => Verified::missed(format!("{count} pods came to {node} after the plan was made; plan again")),
                Err(why) => Verified::missed(format!("the pods of {node} could not be listed again: {why}")),
            },
            (Ok(true), true) => Verified::seen(format!("{node} is cordoned, and none of the {all} pods is on it any more")),
            (Ok(true), false) => Verified::missed(format!(
                "after {} s {} of {all} pods remain: {}",
                draining.timeout.as_secs(),
                remain.len(),
                named.join("; ")
            )),
            (Ok(false), _) => Verified::missed(format!("{node} was uncordoned by somebody meanwhile")),
            (Err(rejection), _) => Verified::missed(format!("{node} could not be read again: {}", rejection.why)),
        };
        Done {
            what: format!("{node} was cordoned and {gone} of {all} pods have left it"),
            affected: gone as u64,
            before: json!({"cordoned": is_cordoned(&draining.node), "pods": all}),
            after: json!({"cordoned": true, "pods": remain.len()}),
            answer: json!({ "remain": remain }),
            inverse: draining.plan.inverse,
            reverts_after_s: draining.plan.reverts_after_s,
            verified,
        }
    }

    /// Pods that came after the plan was made and before the node was cordoned: nobody agreed to evict those.
    async fn newcomers(&self, draining: &Draining) -> Result<usize, String> {
        let on_node = format!("spec.nodeName={}", draining.node.name);
        let all = self.api.list(&POD.all(""), &[("fieldSelector", &on_node)]).await.map_err(|rejection| rejection.why)?;
        let is_new = |pod: &&Value| fate(pod) != Fate::Stays && !draining.planned.iter().any(|uid| pod["metadata"]["uid"] == uid.as_str());
        Ok(all.iter().filter(is_new).count())
    }

    /// Asks once for each pod that is not on its way, and forgets those that have gone.
    async fn evict_round(&self, draining: &mut Draining) {
        let mut remain = Vec::new();
        for mut pod in std::mem::take(&mut draining.pods) {
            if !pod.is_ending {
                match self.api.make(&pod.eviction(draining.grace)).await {
                    Ok(_) => pod.is_ending = true,
                    Err(rejection) if rejection.status == 404 => continue,
                    // Another pod of this name is another pod.
                    Err(rejection) if rejection.status == 409 && self.has_gone(&pod).await => continue,
                    Err(rejection) => pod.said = rejection.why,
                }
            }
            if !(pod.is_ending && self.has_gone(&pod).await) {
                remain.push(pod);
            }
        }
        draining.pods = remain;
    }

    async fn has_gone(&self, pod: &Leaving) -> bool {
        match self.api.find(&POD.one(&pod.namespace, &pod.name)).await {
            Ok(None) => true,
            Ok(Some(found)) => found["metadata"]["uid"].as_str() != Some(pod.uid.as_str()),
            Err(_) => false,
        }
    }
}

impl Draining {
    fn ending(&self) -> usize {
        self.pods.iter().filter(|pod| pod.is_ending).count()
    }
}

impl Leaving {
    fn of(pod: &Value) -> Self {
        let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
        let is_ending = !pod["metadata"]["deletionTimestamp"].is_null();
        Self { namespace: text("namespace"), name: text("name"), uid: text("uid"), is_ending, said: String::new() }
    }

    fn named(&self) -> String {
        qualified(&self.namespace, &self.name)
    }

    fn state(&self) -> String {
        match (self.is_ending, self.said.is_empty()) {
            (true, _) => format!("{} was evicted and has not ended", self.named()),
            (false, true) => self.named(),
            (false, false) => format!("{}: {}", self.named(), self.said),
        }
    }

    fn object(&self) -> Object {
        let detail = if self.is_ending { "it is ending already" } else { "" };
        Object { kind: "pod".to_owned(), name: self.named(), detail: detail.to_owned() }
    }

    /// Only this very pod, not another one of its name.
    fn eviction(&self, grace: Option<u64>) -> Change {
        let mut options = json!({"preconditions": {"uid": self.uid}});
        if let Some(grace) = grace {
            options["gracePeriodSeconds"] = json!(grace);
        }
        let body = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "deleteOptions": options,
        });
        Change { method: Method::POST, path: format!("{}/eviction", POD.one(&self.namespace, &self.name)), patch: None, body }
    }
}

fn fate(pod: &Value) -> Fate {
    let metadata = &pod["metadata"];
    let has_ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let controller = metadata["ownerReferences"].as_array().into_iter().flatten().find(|owner| owner["controller"] == json!(true));
    if !metadata["annotations"]["kubernetes.io/config.mirror"].is_null() {
        return Fate::Stays;
    }
    match controller.map(|owner| &owner["kind"]) {
        Some(kind) if kind == "DaemonSet" && !has_ended => return Fate::Stays,
        None if !has_ended => return Fate::Asks("force", "is made anew by nothing"),
        _ => {}
    }
    let mut volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    if !has_ended && volumes.any(|volume| volume["emptyDir"].is_object()) {
        return Fate::Asks("delete_empty_dir", "has data on the node that is lost with it");
    }
    Fate::Leaves
}
