//! What is there, with versions; who may change it and how.

use std::collections::{BTreeMap, VecDeque};

use paramedic_model::{Clock as _, SystemClock};
use serde_json::{Map, Value, json};

/// Changes that a watch can still be told.
const HISTORY_MAX: usize = 50_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resource {
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    pub(super) plural: &'static str,
    pub(super) kind: &'static str,
    pub(super) short: &'static str,
    pub(super) namespaced: bool,
}

const fn resource(group: &'static str, version: &'static str, plural: &'static str, kind: &'static str, short: &'static str) -> Resource {
    Resource { group, version, plural, kind, short, namespaced: true }
}

pub(super) const RESOURCES: &[Resource] = &[
    Resource { namespaced: false, ..resource("", "v1", "namespaces", "Namespace", "ns") },
    Resource { namespaced: false, ..resource("", "v1", "nodes", "Node", "no") },
    resource("", "v1", "pods", "Pod", "po"),
    resource("", "v1", "configmaps", "ConfigMap", "cm"),
    resource("", "v1", "secrets", "Secret", ""),
    resource("", "v1", "events", "Event", "ev"),
    resource("", "v1", "services", "Service", "svc"),
    resource("apps", "v1", "deployments", "Deployment", "deploy"),
    resource("apps", "v1", "replicasets", "ReplicaSet", "rs"),
    resource("apps", "v1", "statefulsets", "StatefulSet", "sts"),
    resource("apps", "v1", "daemonsets", "DaemonSet", "ds"),
    resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", "pdb"),
    resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", "netpol"),
    resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", "hpa"),
];

impl Resource {
    pub(super) fn group_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) plural: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Key {
    pub(super) fn of(plural: &str, namespace: &str, name: &str) -> Self {
        Self { plural: plural.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }

    fn of_object(object: &Value) -> Option<Self> {
        let resource = RESOURCES.iter().find(|resource| object["kind"] == resource.kind)?;
        let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
        Some(Self::of(resource.plural, if resource.namespaced { text("namespace") } else { "" }, text("name")))
    }
}

/// One thing that happened, for watches.
#[derive(Debug, Clone)]
pub(super) struct Happened {
    pub(super) version: u64,
    pub(super) what: &'static str,
    pub(super) key: Key,
    pub(super) object: Value,
}

/// Why something is not done: a status, a reason as the protocol names it, and words.
#[derive(Debug, Clone)]
pub(super) struct No {
    pub(super) status: u16,
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) causes: Vec<Value>,
}

impl No {
    pub(super) fn new(status: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into(), causes: Vec::new() }
    }

    pub(super) fn not_found(key: &Key) -> Self {
        Self::new(404, "NotFound", format!("{} \"{}\" not found", key.plural, key.name))
    }

    pub(super) fn conflict(key: &Key) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::new(409, "Conflict", format!("Operation cannot be fulfilled on {} \"{}\": {why}", key.plural, key.name))
    }

    fn invalid(key: &Key, why: &str) -> Self {
        Self::new(422, "Invalid", format!("{} \"{}\" is invalid: {why}", key.plural, key.name))
    }
}

#[derive(Debug, Default)]
pub(super) struct World {
    objects: BTreeMap<Key, Value>,
    pub(super) version: u64,
    uids: u64,
    pub(super) history: Vec<Happened>,
    pub(super) refusals: BTreeMap<String, String>,
    pub(super) requests: Vec<String>,
    /// For each deployment, what its rollout looked like when it last moved, and for how many steps it has not moved since.
    pub(super) standstill: BTreeMap<String, (String, u64)>,
    pub(super) names: u64,
    /// So many of the next writes are done, but their answers are lost on the way.
    pub(super) lost_answers: u32,
    /// Changes that somebody else makes just before the next writes.
    pub(super) meddling: VecDeque<fn(&mut Value)>,
}

pub(super) fn now() -> String {
    let now = SystemClock.now();
    format!("{}T{}Z", now.date(), now.time_of_day())
}

impl World {
    pub(super) fn get(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key)
    }

    /// All of a kind, in a namespace or everywhere.
    pub(super) fn all<'a>(&'a self, plural: &'a str, namespace: &'a str) -> impl Iterator<Item = &'a Value> {
        let fits = move |key: &Key| key.plural == plural && (namespace.is_empty() || key.namespace == namespace);
        self.objects.iter().filter(move |(key, _)| fits(key)).map(|(_, object)| object)
    }

    pub(super) fn loses_an_answer(&mut self) -> bool {
        let is_lost = self.lost_answers > 0;
        self.lost_answers = self.lost_answers.saturating_sub(1);
        is_lost
    }

    pub(super) fn snapshot(&self) -> Vec<Value> {
        self.objects.values().cloned().collect()
    }

    pub(super) fn exists(&self, uid: &str) -> bool {
        self.objects.values().any(|object| object["metadata"]["uid"] == uid)
    }

    /// Stores without any check, as the controllers and the tests do.
    pub(super) fn add(&mut self, mut object: Value) {
        let Some(key) = Key::of_object(&object) else { return };
        let old = self.objects.get(&key).cloned();
        self.complete(&mut object, old.as_ref());
        self.keep(key, object, old.as_ref());
    }

    /// What the server fills in by itself.
    fn complete(&mut self, object: &mut Value, old: Option<&Value>) {
        let generation = old.map_or(0, |old| old["metadata"]["generation"].as_u64().unwrap_or(0));
        let is_same = old.is_some_and(|old| old["spec"] == object["spec"]);
        let spec_counts = object["spec"].is_object() && !matches!(object["kind"].as_str(), Some("Pod" | "Node"));
        let uid = old.map_or_else(|| self.new_uid(), |old| old["metadata"]["uid"].clone());
        let created = old.map_or_else(|| json!(now()), |old| old["metadata"]["creationTimestamp"].clone());
        if !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        let metadata = &mut object["metadata"];
        metadata["uid"] = uid;
        metadata["creationTimestamp"] = created;
        if spec_counts {
            metadata["generation"] = json!(if is_same { generation } else { generation + 1 });
        }
        metadata["resourceVersion"] = old.map_or_else(|| json!("0"), |old| old["metadata"]["resourceVersion"].clone());
    }

    fn new_uid(&mut self) -> Value {
        self.uids += 1;
        json!(format!("00000000-0000-4000-8000-{:012}", self.uids))
    }

    fn keep(&mut self, key: Key, mut object: Value, old: Option<&Value>) {
        if old == Some(&object) {
            return;
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let what = if old.is_some() { "MODIFIED" } else { "ADDED" };
        self.happened(what, key.clone(), object.clone());
        self.objects.insert(key, object);
    }

    fn happened(&mut self, what: &'static str, key: Key, object: Value) {
        if self.history.len() < HISTORY_MAX {
            self.history.push(Happened { version: self.version, what, key, object });
        }
    }

    pub(super) fn remove(&mut self, key: &Key) {
        if let Some(mut object) = self.objects.remove(key) {
            self.version += 1;
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.happened("DELETED", key.clone(), object);
        }
    }

    fn refuse(&self, key: &Key) -> Result<(), No> {
        match self.refusals.get(&key.plural) {
            Some(why) => {
                let said = format!("admission webhook \"policy.test\" denied the request: {why}");
                Err(No::new(403, "Forbidden", said))
            }
            None => Ok(()),
        }
    }

    pub(super) fn create(&mut self, key: &Key, mut object: Value, dry: bool) -> Result<Value, No> {
        self.refuse(key)?;
        if self.objects.contains_key(key) {
            return Err(No::new(409, "AlreadyExists", format!("{} \"{}\" already exists", key.plural, key.name)));
        }
        object["metadata"]["name"] = json!(key.name);
        if !key.namespace.is_empty() {
            object["metadata"]["namespace"] = json!(key.namespace);
        }
        checked(key, &object, None)?;
        self.complete(&mut object, None);
        if !dry {
            self.keep(key.clone(), object.clone(), None);
            return Ok(self.objects.get(key).cloned().unwrap_or(object));
        }
        Ok(object)
    }

    /// Replaces an object, if it is of the version that the new one was made from.
    pub(super) fn update(&mut self, key: &Key, mut object: Value, dry: bool) -> Result<Value, No> {
        self.refuse(key)?;
        let old = self.objects.get(key).cloned().ok_or_else(|| No::not_found(key))?;
        let wanted = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        if !wanted.is_empty() && old["metadata"]["resourceVersion"] != wanted {
            return Err(No::conflict(key));
        }
        let uid = &object["metadata"]["uid"];
        if !uid.is_null() && *uid != old["metadata"]["uid"] {
            return Err(No::conflict(key));
        }
        if old.get("status").is_some() {
            object["status"] = old["status"].clone();
        }
        object["apiVersion"] = old["apiVersion"].clone();
        object["kind"] = old["kind"].clone();
        checked(key, &object, Some(&old))?;
        self.complete(&mut object, Some(&old));
        if !dry {
            self.keep(key.clone(), object.clone(), Some(&old));
            return Ok(self.objects.get(key).cloned().unwrap_or(object));
        }
        Ok(object)
    }

    /// Pods end in their own time; everything else is gone at once.
    pub(super) fn delete(&mut self, key: &Key, preconditions: &Value, dry: bool) -> Result<Value, No> {
        self.refuse(key)?;
        let mut object = self.objects.get(key).cloned().ok_or_else(|| No::not_found(key))?;
        for part in ["uid", "resourceVersion"] {
            if preconditions[part].as_str().is_some_and(|wanted| object["metadata"][part] != wanted) {
                return Err(No::new(409, "Conflict", format!("Precondition failed: {part} in precondition does not match")));
            }
        }
        if dry {
            return Ok(object);
        }
        if key.plural == "pods" {
            object["metadata"]["deletionTimestamp"] = json!(now());
            self.add(object.clone());
        } else {
            self.remove(key);
        }
        Ok(object)
    }
}

/// The checks of a real server that matter here.
fn checked(key: &Key, object: &Value, old: Option<&Value>) -> Result<(), No> {
    if object["metadata"]["name"] != key.name.as_str() {
        return Err(No::invalid(key, "metadata.name: Invalid value: field is immutable"));
    }
    if object["immutable"] == json!(true) && old.is_some_and(|old| old["data"] != object["data"]) {
        return Err(No::invalid(key, "data: Forbidden: field is immutable when `immutable` is set"));
    }
    let spec = &object["spec"];
    if !spec["template"].is_object() {
        return Ok(());
    }
    if spec["replicas"].as_i64().is_some_and(|replicas| replicas < 0) {
        return Err(No::invalid(key, "spec.replicas: Invalid value: must be greater than or equal to 0"));
    }
    if old.is_some_and(|old| old["spec"]["selector"] != spec["selector"]) {
        return Err(No::invalid(key, "spec.selector: Invalid value: field is immutable"));
    }
    let containers = spec["template"]["spec"]["containers"].as_array().cloned().unwrap_or_default();
    if containers.is_empty() {
        return Err(No::invalid(key, "spec.template.spec.containers: Required value"));
    }
    for (at, container) in containers.iter().enumerate() {
        let field = format!("spec.template.spec.containers[{at}]");
        if container["image"].as_str().unwrap_or_default().is_empty() {
            return Err(No::invalid(key, &format!("{field}.image: Required value")));
        }
        resources_checked(key, &field, &container["resources"])?;
    }
    Ok(())
}

fn resources_checked(key: &Key, field: &str, resources: &Value) -> Result<(), No> {
    let nothing = Map::new();
    for (name, limit) in resources["limits"].as_object().unwrap_or(&nothing) {
        let wrong = |why: &str| No::invalid(key, &format!("{field}.resources.limits.{name}: Invalid value: {limit}: {why}"));
        let limit = quantity(limit).ok_or_else(|| wrong("quantities must match the regular expression"))?;
        if quantity(&resources["requests"][name]).is_some_and(|request| request > limit) {
            return Err(wrong(&format!("must be greater than or equal to the request of {name}")));
        }
    }
    Ok(())
}

fn quantity(value: &Value) -> Option<f64> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" => 1.0,
        "m" => 0.001,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    digits.parse::<f64>().ok().map(|number| number * factor)
}
