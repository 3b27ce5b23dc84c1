//! Fields changed in a workload or a config map, with the values they had kept as the way back.

use serde_json::{Map, Value, json};

use super::api::{Change, PatchType};
use super::object::{self, CONFIG_MAP, DAEMON_SET, DEPLOYMENT, Found, Kind, STATEFUL_SET, difference, stripped};
use super::rollout::image_list;
use super::work::{Prepared, Watch, Work, exact};
use crate::{ActionError, Call};

/// Fields that give a workload more rights, or make the object another one. Whoever wants these does not want an incident's fix.
const FORBIDDEN: &[&str] = &[
    "securityContext",
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "hostPath",
    "hostUsers",
    "serviceAccount",
    "serviceAccountName",
    "automountServiceAccountToken",
    "ownerReferences",
    "finalizers",
    "runtimeClassName",
];

const KINDS: &[Kind] = &[DEPLOYMENT, STATEFUL_SET, DAEMON_SET, CONFIG_MAP];

impl Work<'_> {
    pub(super) async fn set_image(&self) -> Result<Prepared, ActionError> {
        let (container, image) = (self.call.text("container")?, self.call.text("image")?);
        if image.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
            return Err(self.call.fault("image", format!("{image:?} is not an image")));
        }
        let target = self.workload(&[DEPLOYMENT, STATEFUL_SET, DAEMON_SET]).await?;
        self.open_namespace(&target.namespace)?;
        let spec = &target.value["spec"]["template"]["spec"];
        let lists = ["containers", "initContainers"];
        let named = |list: &str| spec[list].as_array().into_iter().flatten().find(|one| one["name"] == container.as_str());
        let Some((list, found)) = lists.iter().find_map(|list| Some((*list, named(list)?))) else {
            let known: Vec<&str> =
                lists.iter().flat_map(|list| spec[*list].as_array().into_iter().flatten()).filter_map(|one| one["name"].as_str()).collect();
            return Err(ActionError::NotFound {
                what: format!("the container {container}"),
                why: format!("{} has {}", target.named(), known.join(", ")),
            });
        };
        let had = found["image"].as_str().unwrap_or_default().to_owned();
        let mut plan = self.planned(&target, format!("set the image of {container} of {} from {had} to {image}", target.named()));
        self.reach(&mut plan, &target).await?;
        let (before, after) = (json!({"container": container, "image": had}), json!({"container": container, "image": image}));
        let watch = Watch::Rollout { replicas: None };
        if had == image {
            plan.what = format!("{container} of {} has the image {image} already", target.named());
            plan.affected = 0;
            plan.warnings.push("the image is the same as now".to_owned());
            return Ok(Prepared { plan, target, change: None, watch, before, after });
        }
        if has_moving_tag(&image) {
            plan.warnings.push(format!("{image} is not one fixed image: what it means may change"));
        }
        plan.warnings.extend(self.budgets(&target).await);
        let body = json!({"spec": {"template": {"spec": {list: [{"name": container, "image": image}]}}}});
        let change = Change::patch(target.path(), PatchType::Strategic, body);
        self.rehearsed(&target, &change).await?;
        plan.exact = exact(&change);
        let back = self.back("kubernetes.set_image").with("namespace", target.namespace.as_str()).with("deployment", target.name.as_str());
        plan.inverse = Some(back.with("container", container).with("image", had).with("kind", target.kind.name));
        Ok(Prepared { plan, target, change: Some(change), watch, before, after })
    }

    pub(super) async fn patch(&self) -> Result<Prepared, ActionError> {
        let (namespace, name) = (object::name(self.call, "namespace")?, object::name(self.call, "name")?);
        let kind = self.call.text("kind")?;
        if ["secret", "secrets"].contains(&kind.to_ascii_lowercase().as_str()) {
            return Err(self.refused("secrets are neither read nor changed"));
        }
        let kind = self.kind_of(&kind, KINDS)?;
        self.open_namespace(&namespace)?;
        let (patch_type, body) = self.asked()?;
        let target = self.found(kind, &namespace, &name).await?;
        let change = Change::patch(target.path(), patch_type, body);
        let tried = self.rehearsed(&target, &change).await?;
        let (had, will) = (stripped(&target.value), stripped(&tried));
        let (forward, backward) = (difference(&had, &will), difference(&will, &had));
        self.refuse_more_rights(&forward)?;
        let mut plan = self.planned(&target, format!("change {}: {}", target.named(), leaves(&had, &will)));
        let watch = if kind.rolls_out() { Watch::Rollout { replicas: None } } else { Watch::Same };
        if kind.rolls_out() {
            self.reach(&mut plan, &target).await?;
            plan.warnings.extend(self.budgets(&target).await);
            // Only a new template makes new pods.
            if had["spec"]["template"] == will["spec"]["template"] {
                plan.affected = had["spec"]["replicas"].as_u64().unwrap_or(1).abs_diff(will["spec"]["replicas"].as_u64().unwrap_or(1));
            }
        } else {
            plan.warnings.push("pods that read it only when they begin keep the old values until they are restarted".to_owned());
        }
        if kind.rolls_out() && image_list(&had["spec"]["template"]) != image_list(&will["spec"]["template"]) {
            plan.warnings.push("it changes an image too".to_owned());
        }
        let change = if forward.is_empty() {
            plan.what = format!("{} is already so", target.named());
            plan.affected = 0;
            None
        } else {
            plan.exact = exact(&change);
            plan.inverse = Some(way_back(self, &target, &tried));
            Some(change)
        };
        Ok(Prepared { plan, target, change, watch, before: Value::Object(backward), after: Value::Object(forward) })
    }

    fn asked(&self) -> Result<(PatchType, Value), ActionError> {
        let patch_type = match self.call.text_or_none("type")?.as_deref() {
            None | Some("strategic") => PatchType::Strategic,
            Some("merge") => PatchType::Merge,
            Some("json") => PatchType::Json,
            Some(other) => return Err(self.call.fault("type", format!("{other:?} is neither strategic, merge nor json"))),
        };
        let body = self.call.json_or_none("patch")?.ok_or_else(|| self.call.fault("patch", "it is not given"))?;
        match (patch_type, &body) {
            (PatchType::Json, Value::Array(operations)) if !operations.is_empty() => Ok((patch_type, body)),
            (PatchType::Json, _) => Err(self.call.fault("patch", "a json patch is a list of operations")),
            (_, Value::Object(object)) if object.get("metadata").is_some_and(|metadata| !metadata.is_object()) => {
                Err(self.call.fault("patch", "its metadata is not an object"))
            }
            (_, Value::Object(object)) if !object.is_empty() => Ok((patch_type, body)),
            _ => Err(self.call.fault("patch", "it is an object with the fields that are to be different")),
        }
    }

    fn refuse_more_rights(&self, forward: &Map<String, Value>) -> Result<(), ActionError> {
        match forbidden(&Value::Object(forward.clone())) {
            Some(field) => Err(self.refused(&format!("the patch changes {field}, which is not changed from here"))),
            None => Ok(()),
        }
    }
}

/// The call that gives every changed field the value it has in `target`, and takes away what was added.
pub(super) fn way_back(work: &Work<'_>, target: &Found, tried: &Value) -> Call {
    let patch = difference(&stripped(tried), &stripped(&target.value));
    let back = work.back("kubernetes.patch").with("namespace", target.namespace.as_str()).with("kind", target.kind.name);
    back.with("name", target.name.as_str()).with("type", "strategic").with("patch", Value::Object(patch))
}

fn forbidden(patch: &Value) -> Option<&'static str> {
    match patch {
        Value::Object(object) => object.iter().find_map(|(key, value)| {
            let own = FORBIDDEN.iter().find(|field| *field == key).copied();
            own.or_else(|| forbidden(value))
        }),
        Value::Array(list) => list.iter().find_map(forbidden),
        _ => None,
    }
}

/// A tag that is moved from image to image; a digest and a number are not.
fn has_moving_tag(image: &str) -> bool {
    let last = image.rsplit('/').next().unwrap_or(image);
    !last.contains('@') && last.split_once(':').is_none_or(|(_, tag)| matches!(tag, "latest" | "main" | "master" | "stable" | "edge"))
}

/// `spec.template.spec.containers[web].resources.limits.memory 1Gi -> 2Gi, ...`, a few of them.
fn leaves(had: &Value, will: &Value) -> String {
    let mut found = Vec::new();
    collect(&object::hidden(had), &object::hidden(will), String::new(), &mut found);
    let more = found.len().saturating_sub(5);
    found.truncate(5);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", super::api::words(&found.join(", ")))
}

fn collect(had: &Value, will: &Value, path: String, found: &mut Vec<String>) {
    match (had, will) {
        _ if had == will => {}
        (Value::Object(_) | Value::Null, Value::Object(_)) | (Value::Object(_), Value::Null) => {
            let keys = |value: &Value| value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect::<Vec<_>>();
            let mut all = keys(had);
            all.extend(keys(will).into_iter().filter(|key| !had.as_object().is_some_and(|had| had.contains_key(key))));
            for key in all {
                let deeper = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                collect(&had[&key], &will[&key], deeper, found);
            }
        }
        (Value::Array(before), Value::Array(after)) if is_named(before) && is_named(after) => {
            for entry in after {
                let other = before.iter().find(|other| other["name"] == entry["name"]).unwrap_or(&Value::Null);
                collect(other, entry, format!("{path}[{}]", short(&entry["name"])), found);
            }
            for entry in before.iter().filter(|entry| !after.iter().any(|other| other["name"] == entry["name"])) {
                found.push(format!("{path}[{}] is taken away", short(&entry["name"])));
            }
        }
        _ => found.push(format!("{path} {} -> {}", short(had), short(will))),
    }
}

fn is_named(list: &[Value]) -> bool {
    list.iter().all(|entry| entry["name"].is_string())
}

fn short(value: &Value) -> String {
    let text = match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    paramedic_model::text::head(&text, 80).to_owned()
}
