//! Rollouts: back to an earlier revision, pods replaced, and whether a rollout has ended.

use std::time::Duration;

use paramedic_model::Timestamp;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::api::{Change, PatchType};
use super::look;
use super::object::{DAEMON_SET, DEPLOYMENT, Found, REPLICA_SET, STATEFUL_SET, difference, stripped};
use super::patch::way_back;
use super::work::{Prepared, Watch, Work, exact, selector};
use crate::{ActionError, Verified};

const REVISION: &str = "deployment.kubernetes.io/revision";
const HASH: &str = "pod-template-hash";

/// Annotations that belong to the deployment itself and are not those of a revision; as `kubectl rollout undo` has them.
const OWN_ANNOTATIONS: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    "deployment.kubernetes.io/revision-history",
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
    "deprecated.deployment.rollback.to",
];

/// How far a rollout is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    Ended,
    Going(String),
    Stuck(String),
}

/// A past or present state of a deployment.
pub(super) struct Revision {
    pub(super) number: u64,
    pub(super) name: String,
    /// The pods' template, without the mark of the set.
    pub(super) template: Value,
    annotations: Map<String, Value>,
    pub(super) made_at: Option<Timestamp>,
}

impl Revision {
    pub(super) fn images(&self) -> Vec<String> {
        image_list(&self.template)
    }
}

impl Work<'_> {
    pub(super) async fn rollout_undo(&self) -> Result<Prepared, ActionError> {
        let target = self.workload(&[DEPLOYMENT]).await?;
        self.open_namespace(&target.namespace)?;
        if target.value["spec"]["paused"] == json!(true) {
            return Err(self.refused(&format!("{} is paused; resume it first", target.named())));
        }
        let revisions = self.revisions(&target).await?;
        let chosen = self.choose(&target, &revisions)?;
        let present = without_hash(&target.value["spec"]["template"]);
        let now = revisions.iter().find(|revision| revision.template == present);
        let from = now.map_or_else(|| "the present state, which is no revision".to_owned(), |now| format!("revision {}", now.number));
        let what = format!("take {} back from {from} to revision {}{}", target.named(), chosen.number, images(&present, &chosen.template));
        let mut plan = self.planned(&target, what);
        self.reach(&mut plan, &target).await?;
        plan.warnings.extend(self.budgets(&target).await);
        let (before, mut after) = (stripped(&target.value), stripped(&target.value));
        if chosen.template == present {
            plan.what = format!("{} is already as revision {} was", target.named(), chosen.number);
            plan.affected = 0;
            return Ok(Prepared { plan, target, change: None, watch: Watch::Same, before, after });
        }
        let annotations = restored_annotations(&target.value["metadata"]["annotations"], &chosen.annotations);
        let change = Change::patch(
            target.path(),
            PatchType::Json,
            json!([
                {"op": "replace", "path": "/spec/template", "value": chosen.template},
                {"op": "add", "path": "/metadata/annotations", "value": annotations},
            ]),
        );
        let tried = self.rehearsed(&target, &change).await?;
        after["spec"] = tried["spec"].clone();
        plan.exact = exact(&change);
        plan.inverse = Some(match now {
            Some(now) => self
                .back("kubernetes.rollout_undo")
                .with("namespace", target.namespace.as_str())
                .with("deployment", target.name.as_str())
                .with("revision", now.number),
            None => way_back(self, &target, &tried),
        });
        let changed = difference(&before["spec"]["template"], &after["spec"]["template"]);
        let (before, after) = (
            json!({"revision": now.map(|now| now.number), "images": image_list(&present)}),
            json!({"revision": chosen.number, "images": image_list(&chosen.template), "changed": changed}),
        );
        Ok(Prepared { plan, target, change: Some(change), watch: Watch::Rollout { replicas: None }, before, after })
    }

    /// The revision that is asked for, else the one before the newest.
    fn choose<'r>(&self, target: &Found, revisions: &'r [Revision]) -> Result<&'r Revision, ActionError> {
        let known = || revisions.iter().map(|revision| revision.number.to_string()).collect::<Vec<_>>().join(", ");
        let missing = |what: String| ActionError::NotFound { what, why: format!("{} has the revisions {}", target.named(), known()) };
        match self.call.count_or_none("revision")?.filter(|number| *number > 0) {
            Some(number) => {
                revisions.iter().find(|revision| revision.number == number).ok_or_else(|| missing(format!("revision {number}")))
            }
            None => revisions.iter().rev().nth(1).ok_or_else(|| missing("an earlier revision".to_owned())),
        }
    }

    /// The revisions that the deployment still has, oldest first.
    pub(super) async fn revisions(&self, target: &Found) -> Result<Vec<Revision>, ActionError> {
        let chosen = selector(&target.value["spec"]["selector"]).unwrap_or_default();
        let sets = self.api.list(&REPLICA_SET.all(&target.namespace), &[("labelSelector", &chosen)]).await;
        let sets = sets.map_err(|why| self.rejected(&format!("the replica sets of {}", target.named()), why))?;
        let owned = |set: &&Value| {
            set["metadata"]["ownerReferences"].as_array().into_iter().flatten().any(|owner| owner["uid"].as_str() == Some(target.uid()))
        };
        let mut revisions: Vec<Revision> = sets
            .iter()
            .filter(owned)
            .filter_map(|set| {
                let annotations = set["metadata"]["annotations"].as_object()?.clone();
                let number = annotations.get(REVISION)?.as_str()?.parse().ok()?;
                let name = set["metadata"]["name"].as_str()?.to_owned();
                let made_at = set["metadata"]["creationTimestamp"].as_str().and_then(Timestamp::parse);
                Some(Revision { number, name, template: without_hash(&set["spec"]["template"]), annotations, made_at })
            })
            .collect();
        revisions.sort_by_key(|revision| revision.number);
        Ok(revisions)
    }

    pub(super) async fn rollout_restart(&self) -> Result<Prepared, ActionError> {
        let target = self.workload(&[DEPLOYMENT, STATEFUL_SET, DAEMON_SET]).await?;
        self.open_namespace(&target.namespace)?;
        if target.value["spec"]["paused"] == json!(true) {
            return Err(self.refused(&format!("{} is paused; resume it first", target.named())));
        }
        let now = self.clock.now();
        let at = format!("{}T{}Z", now.date(), now.time_of_day());
        let annotations = json!({"kubectl.kubernetes.io/restartedAt": at});
        let body = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
        let change = Change::patch(target.path(), PatchType::Strategic, body);
        self.rehearsed(&target, &change).await?;
        let mut plan = self.planned(&target, String::new());
        self.reach(&mut plan, &target).await?;
        plan.what = format!("restart {}: replace its {} pods by new ones", target.named(), plan.affected);
        plan.warnings.extend(self.budgets(&target).await);
        plan.exact = exact(&change);
        let marked = |object: &Value| json!({"restarted_at": object["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"]});
        let before = marked(&target.value);
        let after = json!({"restarted_at": at});
        Ok(Prepared { plan, target, change: Some(change), watch: Watch::Rollout { replicas: None }, before, after })
    }

    /// Watches until the pods have followed, the server says that they do not, or the time is over. What was made is judged:
    /// when somebody makes a later change, that is said.
    pub(super) async fn rolled_out(&self, target: &Found, replicas: Option<u64>, made: &Value, cancel: &CancellationToken) -> Verified {
        let within = self.within().unwrap_or(Duration::from_secs(self.settings.verify_s));
        let begun = Instant::now();
        loop {
            let last = match self.api.get(&target.path()).await {
                Ok(now) if is_other(&now, made, replicas) => {
                    return Verified::missed(format!("{} was changed by somebody else while it was watched", target.named()));
                }
                Ok(now) if replicas.is_none() && follows_not(&now).is_some() => {
                    return Verified::missed(format!("{} was changed, but {}", target.named(), follows_not(&now).unwrap_or_default()));
                }
                Ok(now) => match progress(target.kind.name, &now) {
                    Progress::Ended => return Verified::seen(format!("{}: {}", target.named(), summary(target.kind.name, &now))),
                    Progress::Stuck(why) => return self.stuck(target, &why).await,
                    Progress::Going(why) => why,
                },
                Err(rejection) => rejection.why,
            };
            if begun.elapsed() >= within {
                return self.stuck(target, &format!("after {} s it is still so: {last}", within.as_secs())).await;
            }
            let rest = within.saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
            tokio::select! {
                () = cancel.cancelled() => return Verified::missed(format!("the change was made; watching was called off when {last}")),
                () = tokio::time::sleep(self.poll().min(rest)) => {}
            }
        }
    }

    /// What the pods themselves say about why it does not go on.
    async fn stuck(&self, target: &Found, why: &str) -> Verified {
        let pods = self.pods_of(target).await.unwrap_or_default();
        let mut reasons: Vec<String> = pods.iter().flat_map(look::troubles).collect();
        reasons.sort();
        reasons.dedup();
        reasons.truncate(5);
        let reasons = if reasons.is_empty() { String::new() } else { format!("; its pods say: {}", reasons.join("; ")) };
        Verified::missed(format!("{}: {why}{reasons}", target.named()))
    }
}

/// Whether this is not any more what was made. Only what a rollout brings about counts: an autoscaler may change the number.
fn is_other(now: &Value, made: &Value, replicas: Option<u64>) -> bool {
    let template = made["spec"]["template"].is_object() && now["spec"]["template"] != made["spec"]["template"];
    let number = replicas.is_some_and(|wanted| now["spec"]["replicas"].as_u64() != Some(wanted));
    template || number || now["metadata"]["uid"] != made["metadata"]["uid"]
}

/// Why the pods of a workload do not follow its template by themselves.
pub(super) fn follows_not(object: &Value) -> Option<&'static str> {
    let spec = &object["spec"];
    if spec["paused"] == json!(true) {
        return Some("it is paused: its pods do not follow until it is resumed");
    }
    (spec["updateStrategy"]["type"] == "OnDelete").then_some("its strategy is OnDelete: each pod follows when it is deleted")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// As `kubectl rollout status` decides it (`k8s.io/kubectl/pkg/polymorphichelpers/rollout_status.go`).
pub(super) fn progress(kind: &str, object: &Value) -> Progress {
    let (spec, status) = (&object["spec"], &object["status"]);
    if number(&object["metadata"]["generation"]) > number(&status["observedGeneration"]) {
        return Progress::Going("its controller has not seen the change yet".to_owned());
    }
    match kind {
        "daemonset" => {
            let (desired, updated) = (number(&status["desiredNumberScheduled"]), number(&status["updatedNumberScheduled"]));
            let available = number(&status["numberAvailable"]);
            if updated < desired || available < desired {
                return Progress::Going(format!("{updated} of {desired} pods are new, {available} are available"));
            }
        }
        "statefulset" => {
            let desired = spec["replicas"].as_u64().unwrap_or(1);
            let partition = number(&spec["updateStrategy"]["rollingUpdate"]["partition"]);
            let (ready, updated) = (number(&status["readyReplicas"]), number(&status["updatedReplicas"]));
            let rolls = status["updateRevision"] != status["currentRevision"];
            if number(&status["replicas"]) != desired || ready < desired || (rolls && updated < desired.saturating_sub(partition)) {
                return Progress::Going(format!("{updated} of {desired} pods are new, {ready} are ready"));
            }
        }
        _ => return deployment_progress(spec, status),
    }
    Progress::Ended
}

fn deployment_progress(spec: &Value, status: &Value) -> Progress {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    if let Some(late) = conditions.into_iter().find(|one| one["type"] == "Progressing" && one["reason"] == "ProgressDeadlineExceeded") {
        let why = late["message"].as_str().unwrap_or_default();
        return Progress::Stuck(super::api::words(&format!("it exceeded its progress deadline: {why}")));
    }
    let desired = spec["replicas"].as_u64().unwrap_or(1);
    let (all, updated) = (number(&status["replicas"]), number(&status["updatedReplicas"]));
    let available = number(&status["availableReplicas"]);
    if updated < desired {
        return Progress::Going(format!("{updated} of {desired} pods are new"));
    }
    if all > updated {
        return Progress::Going(format!("{} old pods have not ended", all - updated));
    }
    if available < updated {
        return Progress::Going(format!("{available} of {updated} new pods are available"));
    }
    Progress::Ended
}

pub(super) fn summary(kind: &str, object: &Value) -> String {
    let status = &object["status"];
    let (updated, available) = match kind {
        "daemonset" => (number(&status["updatedNumberScheduled"]), number(&status["numberAvailable"])),
        "statefulset" => (number(&status["updatedReplicas"]), number(&status["readyReplicas"])),
        _ => (number(&status["updatedReplicas"]), number(&status["availableReplicas"])),
    };
    format!("the rollout has ended, {updated} pods are new, {available} are available")
}

pub(super) fn without_hash(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(HASH);
    }
    template
}

fn restored_annotations(own: &Value, earlier: &Map<String, Value>) -> Map<String, Value> {
    let is_own = |key: &String| OWN_ANNOTATIONS.contains(&key.as_str());
    let kept = own.as_object().into_iter().flatten().filter(|(key, _)| is_own(key));
    let taken = earlier.iter().filter(|(key, _)| !is_own(key));
    kept.chain(taken).map(|(key, value)| (key.clone(), value.clone())).collect()
}

pub(super) fn image_list(template: &Value) -> Vec<String> {
    let containers = template["spec"]["containers"].as_array().into_iter().flatten();
    containers.filter_map(|container| container["image"].as_str()).map(super::api::words).collect()
}

/// `, web:2 -> web:1`, where the images differ.
fn images(from: &Value, to: &Value) -> String {
    let (from, to) = (image_list(from), image_list(to));
    if from == to { String::new() } else { format!(", {} -> {}", from.join(" "), to.join(" ")) }
}
