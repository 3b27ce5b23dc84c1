//! What the controllers of a cluster would do, one small step at a time.

use serde_json::{Value, json};

use super::super::object::digest;
use super::super::work::selects;
use super::store::{Key, World, now};
use super::{NEVER_ENDS, STEP};

const REVISION: &str = "deployment.kubernetes.io/revision";
const HASH: &str = "pod-template-hash";

impl World {
    pub(super) fn step(&mut self) {
        self.collect_garbage();
        for pod in self.of("pods") {
            self.step_pod(pod);
        }
        for deployment in self.of("deployments") {
            self.step_deployment(deployment);
        }
        for kind in ["statefulsets", "daemonsets"] {
            for set in self.of(kind) {
                self.step_set(set);
            }
        }
        for budget in self.of("poddisruptionbudgets") {
            self.step_budget(budget);
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        let ended = |object: &Value| {
            let (spec, status) = (&object["spec"], &object["status"]);
            let wanted = &spec["replicas"];
            object["metadata"]["generation"] == status["observedGeneration"]
                && [&status["replicas"], &status["updatedReplicas"], &status["availableReplicas"]].iter().all(|count| *count == wanted)
        };
        let ending = self.all("pods", "").any(|pod| !pod["metadata"]["deletionTimestamp"].is_null());
        self.all("deployments", "").all(ended) && !ending
    }

    fn of(&self, plural: &str) -> Vec<Value> {
        self.all(plural, "").cloned().collect()
    }

    fn collect_garbage(&mut self) {
        for plural in ["replicasets", "pods"] {
            for object in self.of(plural) {
                let owner = &object["metadata"]["ownerReferences"][0];
                let is_kept = matches!(owner["kind"].as_str(), Some("Deployment" | "ReplicaSet"));
                if is_kept && owner["uid"].as_str().is_some_and(|uid| !self.exists(uid)) {
                    self.remove(&key(plural, &object));
                }
            }
        }
    }

    fn step_pod(&mut self, mut pod: Value) {
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            if pod["metadata"]["annotations"][NEVER_ENDS].is_null() {
                self.remove(&key("pods", &pod));
            }
            return;
        }
        if pod["spec"]["nodeName"].is_null() {
            match self.free_node() {
                Some(node) => pod["spec"]["nodeName"] = json!(node),
                None => {
                    let why = "0/2 nodes are available: 2 node(s) were unschedulable.";
                    pod["status"] = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why}]});
                }
            }
        } else if pod["status"]["containerStatuses"].is_null() {
            pod["status"] = started(&pod);
        }
        self.add(pod);
    }

    /// The node that takes new pods and has the fewest.
    fn free_node(&self) -> Option<String> {
        let open = |node: &&Value| node["spec"]["unschedulable"] != json!(true);
        let load = |name: &str| self.all("pods", "").filter(|pod| pod["spec"]["nodeName"] == name).count();
        let names = self.all("nodes", "").filter(open).filter_map(|node| node["metadata"]["name"].as_str());
        names.min_by_key(|name| load(name)).map(str::to_owned)
    }

    fn owned(&self, plural: &str, owner: &Value) -> Vec<Value> {
        let uid = &owner["metadata"]["uid"];
        let namespace = owner["metadata"]["namespace"].as_str().unwrap_or_default();
        self.all(plural, namespace).filter(|object| object["metadata"]["ownerReferences"][0]["uid"] == *uid).cloned().collect()
    }

    fn living(&self, set: &Value) -> Vec<Value> {
        self.owned("pods", set).into_iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).collect()
    }

    fn step_deployment(&mut self, mut deployment: Value) {
        let mut sets = self.owned("replicasets", &deployment);
        let current = match sets.iter().position(|set| template_of(set) == deployment["spec"]["template"]) {
            Some(at) => Some(sets.remove(at)),
            None if deployment["spec"]["paused"] == json!(true) => None,
            None => Some(self.new_set(&deployment)),
        };
        let newest = sets.iter().map(revision).max().unwrap_or(0);
        let Some(mut current) = current else { return };
        if revision(&current) <= newest {
            current["metadata"]["annotations"][REVISION] = json!((newest + 1).to_string());
        }
        if deployment["metadata"]["annotations"].is_null() {
            deployment["metadata"]["annotations"] = json!({});
        }
        deployment["metadata"]["annotations"][REVISION] = current["metadata"]["annotations"][REVISION].clone();
        self.forget_old_sets(&deployment, &sets);
        self.move_pods(&deployment, &current, &sets);
        for set in sets.iter_mut().chain([&mut current]) {
            let count = self.living(set).len();
            set["spec"]["replicas"] = json!(count);
            set["status"] = json!({"replicas": count});
            if self.get(&key("replicasets", set)).is_some() {
                self.add(set.clone());
            }
        }
        deployment["status"] = self.deployment_status(&deployment, &current, &sets);
        self.add(deployment);
    }

    fn new_set(&mut self, deployment: &Value) -> Value {
        let hash = digest(&deployment["spec"]["template"].to_string())[..10].to_owned();
        let name = format!("{}-{hash}", text(&deployment["metadata"]["name"]));
        let mut template = deployment["spec"]["template"].clone();
        template["metadata"]["labels"][HASH] = json!(hash);
        let mut selector = deployment["spec"]["selector"].clone();
        selector["matchLabels"][HASH] = json!(hash);
        let mut annotations = json!({REVISION: "0"});
        if let Some(cause) = deployment["metadata"]["annotations"].get("kubernetes.io/change-cause") {
            annotations["kubernetes.io/change-cause"] = cause.clone();
        }
        let namespace = &deployment["metadata"]["namespace"];
        let set = json!({
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {"name": name, "namespace": namespace, "labels": template["metadata"]["labels"], "annotations": annotations, "ownerReferences": [owner(deployment, "Deployment")]},
            "spec": {"replicas": 0, "selector": selector, "template": template},
        });
        let key = key("replicasets", &set);
        self.add(set.clone());
        self.get(&key).cloned().unwrap_or(set)
    }

    fn forget_old_sets(&mut self, deployment: &Value, old: &[Value]) {
        let limit = deployment["spec"]["revisionHistoryLimit"].as_u64().unwrap_or(10);
        let mut empty: Vec<&Value> = old.iter().filter(|set| self.living(set).is_empty()).collect();
        empty.sort_by_key(|set| revision(set));
        let surplus = (empty.len() as u64).saturating_sub(limit);
        let surplus: Vec<Key> = empty.into_iter().take(usize::try_from(surplus).unwrap_or(0)).map(|set| key("replicasets", set)).collect();
        surplus.iter().for_each(|key| self.remove(key));
    }

    /// One pod more of the new, one less of the old, and never fewer ready ones than wanted.
    fn move_pods(&mut self, deployment: &Value, current: &Value, old: &[Value]) {
        let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1) as usize;
        let new = self.living(current);
        let old: Vec<Value> = old.iter().flat_map(|set| self.living(set)).collect();
        let ready = new.iter().chain(&old).filter(|pod| is_ready(pod)).count();
        if new.len() > wanted {
            if let Some(pod) = new.iter().min_by_key(|pod| is_ready(pod)) {
                let _ = self.delete(&key("pods", pod), &Value::Null, false);
            }
        } else if new.len() < wanted && new.len() + old.len() < wanted + 1 {
            self.new_pod(current);
        }
        let surplus = old.iter().find(|pod| !is_ready(pod)).or_else(|| old.first().filter(|_| ready > wanted));
        if let Some(pod) = surplus {
            let _ = self.delete(&key("pods", pod), &Value::Null, false);
        }
    }

    fn new_pod(&mut self, set: &Value) {
        self.names += 1;
        let template = &set["spec"]["template"];
        self.add(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": format!("{}-{:05}", text(&set["metadata"]["name"]), self.names),
                "namespace": set["metadata"]["namespace"],
                "labels": template["metadata"]["labels"],
                "annotations": template["metadata"]["annotations"].as_object().cloned().unwrap_or_default(),
                "ownerReferences": [owner(set, "ReplicaSet")],
            },
            "spec": template["spec"],
            "status": {"phase": "Pending"},
        }));
    }

    fn deployment_status(&mut self, deployment: &Value, current: &Value, old: &[Value]) -> Value {
        let new = self.living(current);
        let all: Vec<Value> = old.iter().flat_map(|set| self.living(set)).chain(new.iter().cloned()).collect();
        let available = all.iter().filter(|pod| is_ready(pod)).count();
        let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1) as usize;
        let generation = &deployment["metadata"]["generation"];
        let looks = format!("{generation} {} {} {available}", new.len(), all.len());
        let is_complete = new.len() == wanted && all.len() == wanted && available == wanted;
        let still = self.standstill.entry(text(&deployment["metadata"]["uid"]).to_owned()).or_default();
        *still = if still.0 == looks { (looks, still.1 + 1) } else { (looks, 0) };
        let deadline = u128::from(deployment["spec"]["progressDeadlineSeconds"].as_u64().unwrap_or(600)) * 1_000;
        let name = text(&current["metadata"]["name"]);
        let (status, reason, message) = if is_complete {
            ("True", "NewReplicaSetAvailable", format!("ReplicaSet \"{name}\" has successfully progressed."))
        } else if u128::from(still.1) * STEP.as_millis() > deadline {
            ("False", "ProgressDeadlineExceeded", format!("ReplicaSet \"{name}\" has timed out progressing."))
        } else {
            ("True", "ReplicaSetUpdated", format!("ReplicaSet \"{name}\" is progressing."))
        };
        json!({
            "observedGeneration": generation,
            "replicas": all.len(),
            "updatedReplicas": new.len(),
            "readyReplicas": available,
            "availableReplicas": available,
            "unavailableReplicas": wanted.saturating_sub(available),
            "conditions": [
                {"type": "Available", "status": if available >= wanted { "True" } else { "False" }, "reason": "MinimumReplicasAvailable"},
                {"type": "Progressing", "status": status, "reason": reason, "message": message},
            ],
        })
    }

    /// A stateful set or daemon set: only its status follows.
    fn step_set(&mut self, mut set: Value) {
        let is_daemon = set["kind"] == "DaemonSet";
        let wanted = if is_daemon { self.all("nodes", "").count() as u64 } else { set["spec"]["replicas"].as_u64().unwrap_or(1) };
        let generation = set["metadata"]["generation"].clone();
        let is_new = set["status"]["observedGeneration"] != generation;
        let updated = if is_new { 0 } else { (set["status"]["updated"].as_u64().unwrap_or(0) + 1).min(wanted) };
        let revision = json!(format!("revision-{generation}"));
        let former = set["status"]["currentRevision"].clone();
        set["status"] = if is_daemon {
            json!({"desiredNumberScheduled": wanted, "updatedNumberScheduled": updated, "numberAvailable": wanted})
        } else {
            let current = if updated == wanted { revision.clone() } else { former };
            json!({"replicas": wanted, "readyReplicas": wanted, "updatedReplicas": updated, "currentRevision": current, "updateRevision": revision})
        };
        set["status"]["observedGeneration"] = generation;
        set["status"]["updated"] = json!(updated);
        self.add(set);
    }

    /// How many pods a budget still lets go.
    fn step_budget(&mut self, mut budget: Value) {
        let namespace = text(&budget["metadata"]["namespace"]).to_owned();
        let chosen: Vec<&Value> =
            self.all("pods", &namespace).filter(|pod| selects(&budget["spec"]["selector"], &pod["metadata"]["labels"])).collect();
        let (all, healthy) = (chosen.len() as u64, chosen.iter().filter(|pod| is_ready(pod)).count() as u64);
        let wanted = match (&budget["spec"]["minAvailable"], &budget["spec"]["maxUnavailable"]) {
            (Value::Null, most) => all.saturating_sub(share(most, all)),
            (least, _) => share(least, all),
        };
        let generation = budget["metadata"]["generation"].clone();
        let allowed = healthy.saturating_sub(wanted);
        budget["status"] = json!({"expectedPods": all, "currentHealthy": healthy, "desiredHealthy": wanted, "disruptionsAllowed": allowed, "observedGeneration": generation});
        self.add(budget);
    }

    /// The budget that forbids this pod to go.
    pub(super) fn forbidding(&mut self, pod: &Value) -> Option<Value> {
        for budget in self.of("poddisruptionbudgets") {
            self.step_budget(budget);
        }
        let namespace = text(&pod["metadata"]["namespace"]);
        let forbids = |budget: &&Value| {
            selects(&budget["spec"]["selector"], &pod["metadata"]["labels"]) && budget["status"]["disruptionsAllowed"].as_u64() == Some(0)
        };
        if !is_ready(pod) {
            return None;
        }
        self.all("poddisruptionbudgets", namespace).find(forbids).cloned()
    }
}

fn share(value: &Value, all: u64) -> u64 {
    let percent = value.as_str().and_then(|text| text.strip_suffix('%')).and_then(|text| text.parse::<u64>().ok());
    percent.map_or_else(|| value.as_u64().unwrap_or(0), |percent| (all * percent).div_ceil(100))
}

fn is_ready(pod: &Value) -> bool {
    let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["conditions"].as_array().into_iter().flatten().any(ready)
}

/// The state of a pod that was just started, by its first image.
fn started(pod: &Value) -> Value {
    let containers = pod["spec"]["containers"].as_array().cloned().unwrap_or_default();
    let mut is_well = true;
    let states: Vec<Value> = containers
        .iter()
        .map(|container| {
            let image = text(&container["image"]);
            let mut status = json!({"name": container["name"], "image": image, "restartCount": 0, "ready": true, "state": {"running": {"startedAt": now()}}});
            if image.contains("broken") {
                is_well = false;
                status["ready"] = json!(false);
                status["state"] = json!({"waiting": {"reason": "ImagePullBackOff", "message": format!("Back-off pulling image \"{image}\"")}});
            } else if image.contains("hungry") && !has_plenty(container) {
                is_well = false;
                status["ready"] = json!(false);
                status["restartCount"] = json!(3);
                status["state"] = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}});
                status["lastState"] = json!({"terminated": {"reason": "OOMKilled", "exitCode": 137, "finishedAt": now()}});
            }
            status
        })
        .collect();
    let ready = if is_well { "True" } else { "False" };
    json!({"phase": if is_well { "Running" } else { "Pending" }, "containerStatuses": states, "conditions": [{"type": "Ready", "status": ready}]})
}

/// A limit of 2 Gi or more is enough even for what is hungry.
fn has_plenty(container: &Value) -> bool {
    let limit = text(&container["resources"]["limits"]["memory"]).strip_suffix("Gi");
    limit.and_then(|limit| limit.parse::<u64>().ok()).is_some_and(|limit| limit >= 2)
}

fn owner(of: &Value, kind: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": kind, "name": of["metadata"]["name"], "uid": of["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true})
}

fn template_of(set: &Value) -> Value {
    let mut template = set["spec"]["template"].clone();
    template["metadata"]["labels"].as_object_mut().map(|labels| labels.remove(HASH));
    template
}

fn revision(set: &Value) -> u64 {
    set["metadata"]["annotations"][REVISION].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn key(plural: &str, object: &Value) -> Key {
    Key::of(plural, text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
