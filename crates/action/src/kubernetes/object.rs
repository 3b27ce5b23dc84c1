//! Objects of a cluster: where they lie, what in them is ours to say, and how two states of one differ.

use paramedic_model::secret;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::{ActionError, Call};

/// A kind of object that actions work on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    /// `deployment`.
    pub(super) name: &'static str,
    /// `Deployment`.
    pub(super) kind: &'static str,
    /// `apps/v1`.
    pub(super) version: &'static str,
    pub(super) plural: &'static str,
}

const fn kind(name: &'static str, kind: &'static str, version: &'static str, plural: &'static str) -> Kind {
    Kind { name, kind, version, plural }
}

pub(super) const DEPLOYMENT: Kind = kind("deployment", "Deployment", "apps/v1", "deployments");
pub(super) const STATEFUL_SET: Kind = kind("statefulset", "StatefulSet", "apps/v1", "statefulsets");
pub(super) const DAEMON_SET: Kind = kind("daemonset", "DaemonSet", "apps/v1", "daemonsets");
pub(super) const REPLICA_SET: Kind = kind("replicaset", "ReplicaSet", "apps/v1", "replicasets");
pub(super) const CONFIG_MAP: Kind = kind("configmap", "ConfigMap", "v1", "configmaps");
pub(super) const NETWORK_POLICY: Kind = kind("networkpolicy", "NetworkPolicy", "networking.k8s.io/v1", "networkpolicies");
pub(super) const DISRUPTION_BUDGET: Kind = kind("poddisruptionbudget", "PodDisruptionBudget", "policy/v1", "poddisruptionbudgets");
pub(super) const AUTOSCALER: Kind =
    kind("horizontalpodautoscaler", "HorizontalPodAutoscaler", "autoscaling/v2", "horizontalpodautoscalers");
pub(super) const POD: Kind = kind("pod", "Pod", "v1", "pods");
pub(super) const EVENT: Kind = kind("event", "Event", "v1", "events");
pub(super) const NODE: Kind = kind("node", "Node", "v1", "nodes");

impl Kind {
    fn root(&self) -> String {
        if self.version.contains('/') { format!("/apis/{}", self.version) } else { format!("/api/{}", self.version) }
    }

    /// The address of all of this kind in a namespace; without one, in the whole cluster.
    pub(super) fn all(&self, namespace: &str) -> String {
        match namespace {
            "" => format!("{}/{}", self.root(), self.plural),
            namespace => format!("{}/namespaces/{namespace}/{}", self.root(), self.plural),
        }
    }

    pub(super) fn one(&self, namespace: &str, name: &str) -> String {
        format!("{}/{name}", self.all(namespace))
    }

    /// Whether a change of it is followed by a rollout.
    pub(super) fn rolls_out(&self) -> bool {
        matches!(self.name, "deployment" | "statefulset" | "daemonset")
    }
}

/// One object, found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) value: Value,
}

impl Found {
    pub(super) fn path(&self) -> String {
        self.kind.one(&self.namespace, &self.name)
    }

    /// `the deployment shop/web`.
    pub(super) fn named(&self) -> String {
        named(&self.kind, &self.namespace, &self.name)
    }

    pub(super) fn version(&self) -> &str {
        self.value["metadata"]["resourceVersion"].as_str().unwrap_or_default()
    }

    pub(super) fn uid(&self) -> &str {
        self.value["metadata"]["uid"].as_str().unwrap_or_default()
    }

    /// Who it is and everything that was said of it; its state, which changes all the time, does not count. Of a node only
    /// counts whether it takes pods: the rest is written by others all the time.
    pub(super) fn stands_on(&self) -> String {
        if self.kind == NODE {
            return format!("{} cordoned={}", self.uid(), self.value["spec"]["unschedulable"] == json!(true));
        }
        let mut said = self.value.clone();
        if let Some(object) = said.as_object_mut() {
            object.remove("status");
        }
        if let Some(metadata) = said.pointer_mut("/metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
            metadata.remove("resourceVersion");
        }
        format!("{} {}", self.uid(), digest(&said.to_string()))
    }
}

pub(super) fn named(kind: &Kind, namespace: &str, name: &str) -> String {
    if namespace.is_empty() { format!("the {} {name}", kind.name) } else { format!("the {} {namespace}/{name}", kind.name) }
}

pub(super) fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// A name that becomes part of an address: what Kubernetes takes as one, and nothing else.
pub(super) fn name(call: &Call, argument: &str) -> Result<String, ActionError> {
    let name = call.text(argument)?;
    let inside = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '-' | '.');
    let edges = |name: &str| !name.starts_with(['-', '.']) && !name.ends_with(['-', '.']) && !name.contains("..");
    if name.len() > 253 || !name.chars().all(inside) || !edges(&name) {
        return Err(call.fault(argument, format!("{name:?} is not a name: small letters, digits, - and . only")));
    }
    Ok(name)
}

/// What the server adds by itself, taken off: what remains can be sent to make the object anew.
pub(super) fn stripped(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
    if let Some(metadata) = object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        let ours = ["name", "namespace", "labels", "annotations"];
        metadata.retain(|key, _| ours.contains(&key.as_str()));
    }
    object
}

/// By what the entries of a list are told apart when a strategic patch is applied.
/// From the `patchMergeKey` tags of `k8s.io/api`; lists that are not here are replaced as a whole.
pub(super) fn merge_key(field: &str) -> Option<&'static str> {
    match field {
        "containers" | "initContainers" | "ephemeralContainers" | "env" | "volumes" | "imagePullSecrets" | "resourceClaims" => Some("name"),
        "volumeMounts" => Some("mountPath"),
        "volumeDevices" => Some("devicePath"),
        "ports" => Some("containerPort"),
        "hostAliases" => Some("ip"),
        "topologySpreadConstraints" => Some("topologyKey"),
        _ => None,
    }
}

/// The strategic merge patch that makes `from` into `to`: only what differs, entries of lists by their names, null for
/// what is to go.
pub(super) fn difference(from: &Value, to: &Value) -> Map<String, Value> {
    let mut patch = Map::new();
    let nothing = Map::new();
    let (from, to) = (from.as_object().unwrap_or(&nothing), to.as_object().unwrap_or(&nothing));
    for key in from.keys().filter(|key| !to.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, wanted) in to {
        match (from.get(key), wanted) {
            (Some(had), _) if had == wanted => {}
            (Some(had @ Value::Object(_)), Value::Object(_)) => {
                patch.insert(key.clone(), Value::Object(difference(had, wanted)));
            }
            (Some(Value::Array(had)), Value::Array(wanted)) => {
                let entries = merge_key(key).and_then(|by| entries_difference(had, wanted, by));
                let whole = || if merge_key(key).is_some() { replaced(wanted) } else { Value::Array(wanted.clone()) };
                patch.insert(key.clone(), entries.unwrap_or_else(whole));
            }
            _ => {
                patch.insert(key.clone(), wanted.clone());
            }
        }
    }
    patch
}

fn replaced(wanted: &[Value]) -> Value {
    Value::Array([json!({"$patch": "replace"})].into_iter().chain(wanted.iter().cloned()).collect())
}

/// None where the entries cannot be told apart, or stand in another order.
fn entries_difference(from: &[Value], to: &[Value], by: &str) -> Option<Value> {
    let names = |list: &[Value]| -> Option<Vec<Value>> {
        let names: Vec<Value> = list.iter().map(|entry| entry.get(by).cloned()).collect::<Option<_>>()?;
        let distinct = names.iter().enumerate().all(|(at, name)| !names[..at].contains(name));
        distinct.then_some(names)
    };
    let (had, wanted) = (names(from)?, names(to)?);
    // The server keeps what stays in its order and puts new entries behind it.
    let stay = had.iter().filter(|name| wanted.contains(name));
    let new = wanted.iter().filter(|name| !had.contains(name));
    if !stay.chain(new).eq(&wanted) {
        return None;
    }
    let mut entries = Vec::new();
    for name in had.iter().filter(|name| !wanted.contains(name)) {
        entries.push(json!({by: name, "$patch": "delete"}));
    }
    for (name, entry) in wanted.iter().zip(to) {
        match had.iter().position(|other| other == name) {
            None => entries.push(entry.clone()),
            Some(at) if &from[at] == entry => {}
            Some(at) => {
                let mut change = Map::from_iter([(by.to_owned(), name.clone())]);
                change.extend(difference(&from[at], entry));
                entries.push(Value::Object(change));
            }
        }
    }
    Some(Value::Array(entries))
}

/// The object as it may be shown and stored: values whose name says that they are secret are gone, also those of
/// environment variables, where name and value stand beside each other.
pub(super) fn hidden(value: &Value) -> Value {
    match value {
        Value::String(text) => json!(secret::mask(text)),
        Value::Array(list) => Value::Array(list.iter().map(hidden).collect()),
        Value::Object(object) => {
            let name = object.get("name").and_then(Value::as_str).unwrap_or_default();
            let hide = |(key, value): (&String, &Value)| match value {
                Value::String(text) if is_secret(key, text) || (key == "value" && is_secret(name, text)) => (key.clone(), json!("***")),
                other => (key.clone(), hidden(other)),
            };
            Value::Object(object.iter().map(hide).collect())
        }
        other => other.clone(),
    }
}

/// Whether the name says that the value is secret. What only points to a value (`$(NAME)`) is not.
fn is_secret(name: &str, value: &str) -> bool {
    let sample = format!("{name}=sample-value");
    !value.is_empty() && !value.starts_with(['$', '<', '*']) && secret::mask(&sample) != sample
}

#[cfg(all(test, feature = "fake"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(from: Value, to: Value, expect: Value) {
        assert_eq!(Value::Object(difference(&from, &to)), expect, "{from} to {to}");
    }

    #[test]
    fn a_difference_names_only_what_differs() {
        check(json!({"a": 1, "b": {"c": 2, "d": 3}}), json!({"a": 1, "b": {"c": 4}}), json!({"b": {"d": null, "c": 4}}));
        check(json!({"data": {"k": "v"}}), json!({}), json!({"data": null}));
        check(json!({"args": ["a"]}), json!({"args": ["b"]}), json!({"args": ["b"]}));
        let web = |limit: &str| json!({"name": "web", "env": [{"name": "X", "value": "1"}], "resources": {"limits": {"memory": limit}}});
        let aside = json!({"name": "aside", "image": "a:1"});
        let expect = json!({"containers": [{"name": "web", "resources": {"limits": {"memory": "2Gi"}}}]});
        check(json!({"containers": [web("1Gi"), aside]}), json!({"containers": [web("2Gi"), aside]}), expect);
        let expect = json!({"containers": [{"name": "aside", "$patch": "delete"}]});
        check(json!({"containers": [web("1Gi"), aside]}), json!({"containers": [web("1Gi")]}), expect);
        let expect = json!({"containers": [{"$patch": "replace"}, aside, web("1Gi")]});
        check(json!({"containers": [web("1Gi"), aside]}), json!({"containers": [aside, web("1Gi")]}), expect);
    }

    /// Objects as workloads have them: maps, plain lists, and lists of named entries.
    fn object() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            (0..3_u8).prop_map(|number| json!(number)),
            "[ab]{0,2}".prop_map(|text| json!(text)),
            any::<bool>().prop_map(|flag| json!(flag))
        ];
        scalar.prop_recursive(4, 32, 4, |inner| {
            let key = prop_oneof![Just("containers"), Just("env"), Just("ports"), Just("args"), Just("limits"), Just("image")];
            let named =
                (0..4_u8, inner.clone()).prop_map(|(name, value)| json!({"name": name.to_string(), "containerPort": name, "value": value}));
            prop_oneof![
                prop::collection::vec(named, 0..4).prop_map(Value::Array),
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
                prop::collection::btree_map(key.prop_map(str::to_owned), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// What is kept as the way back does lead back, whatever was changed.
        #[test]
        fn the_difference_leads_from_one_to_the_other(from in object(), to in object()) {
            let (mut from, to) = (json!({"spec": from}), json!({"spec": to}));
            let patch = difference(&from, &to);
            super::super::fake::strategic_merge(&mut from, &patch).unwrap();
            prop_assert_eq!(&from, &to, "by {:?}", patch);
        }

        #[test]
        fn nothing_is_hidden_twice(object in object()) {
            let once = hidden(&object);
            prop_assert_eq!(hidden(&once), once);
        }
    }

    #[test]
    fn ports_of_one_number_cannot_be_told_apart() {
        let port = |protocol: &str| json!({"containerPort": 53, "protocol": protocol});
        let expect = json!({"ports": [{"$patch": "replace"}, port("UDP")]});
        check(json!({"ports": [port("TCP"), port("UDP")]}), json!({"ports": [port("UDP")]}), expect);
    }

    #[test]
    fn values_of_secret_names_are_hidden() {
        let object = json!({"env": [{"name": "DB_PASSWORD", "value": "a b c d"}, {"name": "MODE", "value": "fast"}], "data": {"api_key": "abcdefgh"}});
        let expect =
            json!({"env": [{"name": "DB_PASSWORD", "value": "***"}, {"name": "MODE", "value": "fast"}], "data": {"api_key": "***"}});
        assert_eq!(hidden(&object), expect);
    }
}
