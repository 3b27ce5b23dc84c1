//! Network policies taken away for a time, and objects made again.

use reqwest::Method;
use serde_json::{Value, json};

use super::api::Change;
use super::object::{self, CONFIG_MAP, Found, Kind, NETWORK_POLICY, POD, difference, hidden, named, stripped};
use super::work::{Prepared, Watch, Work, exact, selector};
use crate::ActionError;

impl Work<'_> {
    pub(super) async fn network_policy_suspend(&self) -> Result<Prepared, ActionError> {
        let (namespace, name) = (object::name(self.call, "namespace")?, object::name(self.call, "name")?);
        let limit = self.call.duration("for")?.as_secs();
        if limit == 0 || limit > self.settings.suspend_max_s {
            return Err(self.call.fault("for", format!("it is between 1 s and {} s", self.settings.suspend_max_s)));
        }
        self.open_namespace(&namespace)?;
        let target = self.found(NETWORK_POLICY, &namespace, &name).await?;
        let kept = stripped(&target.value);
        if hidden(&kept) != kept {
            return Err(self.refused("the policy holds something secret, so it could not be kept to be made again"));
        }
        let change = Change { method: Method::DELETE, path: target.path(), patch: None, body: deletion(target.uid()) };
        self.rehearsed(&target, &change).await?;
        let mut plan = self.planned(&target, format!("take {} away for {limit} s; then it is made again", target.named()));
        let chosen = selector(&target.value["spec"]["podSelector"]).unwrap_or_default();
        let pods = self.api.list(&POD.all(&namespace), &[("labelSelector", &chosen)]).await;
        let pods = pods.map_err(|why| self.rejected(&format!("the pods of {namespace}"), why))?;
        plan.affected = pods.len() as u64;
        plan.of = self.api.count(&POD.all(&namespace)).await;
        plan.warnings.push(format!("meanwhile {} pods may be reached by, and may reach, whatever no other policy forbids", pods.len()));
        if target.value["metadata"]["ownerReferences"].as_array().is_some_and(|owners| !owners.is_empty()) {
            plan.warnings.push("it belongs to another object, whose controller may make it again at once".to_owned());
        }
        plan.exact = exact(&change);
        plan.inverse = Some(self.back("kubernetes.apply").with("object", kept.clone()));
        plan.reverts_after_s = Some(limit);
        Ok(Prepared { plan, target, change: Some(change), watch: Watch::Gone, before: kept, after: Value::Null })
    }

    pub(super) async fn apply(&self) -> Result<Prepared, ActionError> {
        let wanted = self.call.json_or_none("object")?.ok_or_else(|| self.call.fault("object", "it is not given"))?;
        if wanted["kind"] == "Secret" {
            return Err(self.refused("secrets are neither read nor changed"));
        }
        let fits = |kind: &&Kind| wanted["kind"] == kind.kind && wanted["apiVersion"] == kind.version;
        let kind = [NETWORK_POLICY, CONFIG_MAP].iter().find(fits).copied();
        let kind =
            kind.ok_or_else(|| self.call.fault("object", "it is neither a NetworkPolicy of networking.k8s.io/v1 nor a ConfigMap of v1"))?;
        let part = |key: &str| {
            let call = crate::Call::new(&self.call.action).with(key, wanted["metadata"][key].clone());
            object::name(&call, key)
        };
        let (namespace, name) = (part("namespace")?, part("name")?);
        self.open_namespace(&namespace)?;
        let wanted = stripped(&wanted);
        match self.api.find(&kind.one(&namespace, &name)).await.map_err(|why| self.rejected(&named(&kind, &namespace, &name), why))? {
            None => self.made(Found { kind, namespace, name, value: Value::Null }, wanted).await,
            Some(value) => self.replaced(Found { kind, namespace, name, value }, wanted).await,
        }
    }

    async fn made(&self, target: Found, wanted: Value) -> Result<Prepared, ActionError> {
        let change = Change { method: Method::POST, path: target.kind.all(&target.namespace), patch: None, body: wanted.clone() };
        self.rehearsed(&target, &change).await?;
        let mut plan = self.planned(&target, format!("make {}", target.named()));
        plan.exact = exact(&change);
        Ok(Prepared { plan, target, change: Some(change), watch: Watch::Same, before: Value::Null, after: wanted })
    }

    async fn replaced(&self, target: Found, wanted: Value) -> Result<Prepared, ActionError> {
        let had = stripped(&target.value);
        let mut plan = self.planned(&target, format!("replace {}", target.named()));
        let change = Change { method: Method::PUT, path: target.path(), patch: None, body: wanted };
        let tried = stripped(&self.rehearsed(&target, &change).await?);
        if tried == had {
            plan.what = format!("{} is already so", target.named());
            plan.affected = 0;
            return Ok(Prepared { plan, target, change: None, watch: Watch::Same, before: had.clone(), after: had });
        }
        plan.exact = exact(&change);
        plan.inverse = Some(self.back("kubernetes.apply").with("object", had.clone()));
        let (before, after) = (difference(&tried, &had), difference(&had, &tried));
        Ok(Prepared { plan, target, change: Some(change), watch: Watch::Same, before: Value::Object(before), after: Value::Object(after) })
    }
}

fn deletion(uid: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}})
}
