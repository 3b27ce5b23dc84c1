//! One action on its way: looked at, planned, changed and watched.

use std::time::Duration;

use paramedic_model::Clock;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::api::{Api, Change, Rejection, masked};
use super::object::{self, AUTOSCALER, DISRUPTION_BUDGET, Found, Kind, NODE, POD, hidden, named};
use super::{look, rollout};
use crate::call::OBJECTS_MAX;
use crate::{ActionError, Call, Done, Object, Plan, Spec, Verified};

/// How often a change is sent again when only the state of the object has changed meanwhile.
const TRIES: u32 = 5;

/// A rollout is not watched for longer than this.
const WITHIN_MAX: Duration = Duration::from_secs(6 * 3_600);

/// A way back that is larger than this is not kept.
const INVERSE_BYTES_MAX: usize = 256 * 1024;

pub(super) struct Work<'a> {
    pub(super) api: Api,
    pub(super) call: &'a Call,
    pub(super) spec: &'static Spec,
    pub(super) settings: &'a Settings,
    pub(super) clock: &'a dyn Clock,
}

/// How it is seen that a change is so.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Watch {
    /// The object is read again and is as the server said it would be.
    Same,
    /// The pods have followed.
    Rollout { replicas: Option<u64> },
    /// There is none any more.
    Gone,
}

/// A change that is ready to be sent.
pub(super) struct Prepared {
    pub(super) plan: Plan,
    pub(super) target: Found,
    /// None: everything is already as it is to be.
    pub(super) change: Option<Change>,
    pub(super) watch: Watch,
    /// What a person compares: before and after.
    pub(super) before: Value,
    pub(super) after: Value,
}

impl Work<'_> {
    pub(super) async fn plan(&self) -> Result<Plan, ActionError> {
        match self.call.action.as_str() {
            "kubernetes.pods" | "kubernetes.events" | "kubernetes.rollout_status" => self.look_plan(),
            "kubernetes.drain" => Ok(self.drain_prepare().await?.plan),
            _ => Ok(self.prepare().await?.plan),
        }
    }

    pub(super) async fn execute(&self, plan: &Plan, cancel: &CancellationToken) -> Result<Done, ActionError> {
        match self.call.action.as_str() {
            "kubernetes.pods" => self.pods().await,
            "kubernetes.events" => self.events().await,
            "kubernetes.rollout_status" => self.rollout_status().await,
            "kubernetes.drain" => self.drain(plan, cancel).await,
            _ => self.carry_out(plan, cancel).await,
        }
    }

    async fn prepare(&self) -> Result<Prepared, ActionError> {
        self.within()?;
        let mut prepared = match self.call.action.as_str() {
            "kubernetes.rollout_undo" => self.rollout_undo().await,
            "kubernetes.rollout_restart" => self.rollout_restart().await,
            "kubernetes.scale" => self.scale().await,
            "kubernetes.set_image" => self.set_image().await,
            "kubernetes.patch" => self.patch().await,
            "kubernetes.cordon" | "kubernetes.uncordon" => self.cordon().await,
            "kubernetes.network_policy_suspend" => self.network_policy_suspend().await,
            "kubernetes.apply" => self.apply().await,
            other => Err(ActionError::Unknown(other.to_owned())),
        }?;
        self.keep_way_back(&mut prepared.plan);
        Ok(prepared)
    }

    /// A way back is complete or it is not kept: one with its secrets masked would write the mask.
    fn keep_way_back(&self, plan: &mut Plan) {
        let Some(inverse) = &plan.inverse else { return };
        let arguments = Value::Object(inverse.arguments.clone());
        let text = arguments.to_string();
        let why = if hidden(&arguments) != arguments || masked_differs(&text) {
            "what it was before holds a secret"
        } else if text.len() > INVERSE_BYTES_MAX {
            "what it was before is too large"
        } else {
            return;
        };
        plan.inverse = None;
        plan.warnings.push(format!("there is no way back by itself: {why}, which is not kept"));
    }

    /// Sends the change for the version that was just seen. Another version means to look again: when only the state of the
    /// object moved, which it does all the time, the change is sent anew.
    async fn carry_out(&self, plan: &Plan, cancel: &CancellationToken) -> Result<Done, ActionError> {
        let mut why = String::new();
        for _ in 0..TRIES {
            if cancel.is_cancelled() {
                return Err(ActionError::CalledOff { action: self.call.action.clone(), done: "nothing was done".to_owned() });
            }
            let prepared = self.prepare().await?;
            if prepared.plan.stands_on != plan.stands_on {
                return Err(self.changed(&format!("{} was changed since", prepared.target.named())));
            }
            let Some(change) = prepared.change.clone() else { return Ok(self.nothing_to_do(prepared)) };
            match self.api.make(&change.only_if(prepared.target.version())).await {
                Ok(made) => return Ok(self.watched(prepared, &made, cancel).await),
                Err(rejection) if rejection.status == 409 => why = rejection.why,
                Err(rejection) if rejection.status == 404 => return Err(self.changed(&rejection.why)),
                Err(Rejection { status: 0, why }) => return Ok(self.in_doubt(prepared, &why).await),
                Err(rejection) => return Err(self.rejected(&prepared.target.named(), rejection)),
            }
        }
        Err(self.changed(&why))
    }

    /// The change was sent and no answer came: it may have been made. The way back stays in the record, and somebody is to look.
    async fn in_doubt(&self, prepared: Prepared, why: &str) -> Done {
        let target = &prepared.target;
        let seen = match self.api.find(&target.path()).await {
            Ok(Some(value)) if value["metadata"]["resourceVersion"] == target.value["metadata"]["resourceVersion"] => "it is unchanged",
            Ok(None) if target.value.is_null() => "it is not there",
            Ok(_) => "it was changed since, by this or by somebody else",
            Err(_) => "it cannot be read either",
        };
        Done {
            what: format!("asked to {}, without an answer", prepared.plan.what),
            affected: prepared.plan.affected,
            before: hidden(&prepared.before),
            after: Value::Null,
            answer: Value::Null,
            verified: Verified::missed(format!("{why}; {} was looked at again: {seen}", target.named())),
            inverse: prepared.plan.inverse,
            reverts_after_s: prepared.plan.reverts_after_s,
        }
    }

    fn nothing_to_do(&self, prepared: Prepared) -> Done {
        Done {
            what: format!("nothing: {} is already so", prepared.target.named()),
            affected: 0,
            before: hidden(&prepared.before),
            after: hidden(&prepared.before),
            answer: Value::Null,
            inverse: None,
            reverts_after_s: None,
            verified: Verified::seen("it was looked at before anything was to be done"),
        }
    }

    async fn watched(&self, prepared: Prepared, made: &Value, cancel: &CancellationToken) -> Done {
        let target = &prepared.target;
        let verified = match &prepared.watch {
            Watch::Same => self.same(target, made).await,
            Watch::Gone => self.gone(target).await,
            Watch::Rollout { replicas } => self.rolled_out(target, *replicas, made, cancel).await,
        };
        Done {
            what: format!("done: {}", prepared.plan.what),
            affected: prepared.plan.affected,
            before: hidden(&prepared.before),
            after: hidden(&prepared.after),
            answer: Value::Null,
            inverse: prepared.plan.inverse,
            reverts_after_s: prepared.plan.reverts_after_s,
            verified,
        }
    }

    async fn same(&self, target: &Found, made: &Value) -> Verified {
        let path = target.path();
        match self.api.find(&path).await {
            Ok(Some(value)) => {
                let how = format!("{} was read again", target.named());
                match is_as_made(target, &value, made) {
                    true => Verified::seen(format!("{how} and is as it was made")),
                    false => Verified::missed(format!("{how} and somebody has changed it once more")),
                }
            }
            Ok(None) => Verified::missed(format!("{} is not there", target.named())),
            Err(rejection) => Verified::missed(format!("{} could not be read again: {}", target.named(), rejection.why)),
        }
    }

    async fn gone(&self, target: &Found) -> Verified {
        let path = target.path();
        match self.api.find(&path).await {
            Ok(None) => Verified::seen(format!("{} is not there any more", target.named())),
            Ok(Some(again)) if again["metadata"]["uid"].as_str() != Some(target.uid()) => {
                Verified::missed(format!("{} was made anew by somebody at once", target.named()))
            }
            Ok(Some(_)) => Verified::missed(format!("{} is still there", target.named())),
            Err(rejection) => Verified::missed(format!("{} could not be looked for: {}", target.named(), rejection.why)),
        }
    }

    /// The namespace, where something is to be changed in it.
    pub(super) fn open_namespace(&self, namespace: &str) -> Result<(), ActionError> {
        if self.settings.protected_namespaces.iter().any(|name| name == namespace) {
            return Err(self.refused(&format!("the namespace {namespace} is one of action.kubernetes.protected_namespaces")));
        }
        Ok(())
    }

    pub(super) async fn found(&self, kind: Kind, namespace: &str, name: &str) -> Result<Found, ActionError> {
        let value = self.api.get(&kind.one(namespace, name)).await.map_err(|why| self.rejected(&named(&kind, namespace, name), why))?;
        Ok(Found { kind, namespace: namespace.to_owned(), name: name.to_owned(), value })
    }

    /// The workload that `namespace`, `deployment` and `kind` name.
    pub(super) async fn workload(&self, kinds: &[Kind]) -> Result<Found, ActionError> {
        let (namespace, name) = (object::name(self.call, "namespace")?, object::name(self.call, "deployment")?);
        let wanted = self.call.text_or_none("kind")?.unwrap_or_else(|| "deployment".to_owned());
        let kind = self.kind_of(&wanted, kinds)?;
        self.found(kind, &namespace, &name).await
    }

    pub(super) fn kind_of(&self, wanted: &str, kinds: &[Kind]) -> Result<Kind, ActionError> {
        let lower = wanted.to_ascii_lowercase();
        let known: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
        let found = kinds.iter().find(|kind| kind.name == lower || kind.plural == lower);
        found.copied().ok_or_else(|| self.call.fault("kind", format!("{wanted:?} is not one of {}", known.join(", "))))
    }

    /// A plan with what all of them share.
    pub(super) fn planned(&self, target: &Found, what: String) -> Plan {
        Plan {
            objects: vec![Object {
                kind: target.kind.name.to_owned(),
                name: qualified(&target.namespace, &target.name),
                detail: String::new(),
            }],
            affected: 1,
            stands_on: target.stands_on(),
            ..Plan::new(self.call, self.spec.effect, what)
        }
    }

    /// The call that takes this one back, by whoever asked for this one.
    pub(super) fn back(&self, action: &str) -> Call {
        Call { by: self.call.by.clone(), reason: format!("takes back {}", self.call.action), ..Call::new(action) }
    }

    /// Puts the change before the server, which checks it and stores nothing.
    pub(super) async fn rehearsed(&self, target: &Found, change: &Change) -> Result<Value, ActionError> {
        let versioned = change.clone().only_if(target.version());
        let tried = match self.api.dry_run(&versioned).await {
            // Only its state has moved in this very moment; the deed itself insists on the version.
            Err(rejection) if rejection.status == 409 && change.method != reqwest::Method::POST => self.api.dry_run(change).await,
            other => other,
        };
        tried.map_err(|rejection| match rejection.status {
            400 | 403 | 422 => self.refused(&format!("the server would not take it: {}", rejection.why)),
            _ => self.rejected(&target.named(), rejection),
        })
    }

    /// The pods that a workload's selector chooses.
    pub(super) async fn pods_of(&self, target: &Found) -> Result<Vec<Value>, ActionError> {
        let Some(selector) = selector(&target.value["spec"]["selector"]) else { return Ok(Vec::new()) };
        let listed = self.api.list(&POD.all(&target.namespace), &[("labelSelector", &selector)]).await;
        listed.map_err(|why| self.rejected(&format!("the pods of {}", target.named()), why))
    }

    /// Fills in how many pods a change of a workload touches, and what there is to say about it.
    pub(super) async fn reach(&self, plan: &mut Plan, target: &Found) -> Result<Vec<Value>, ActionError> {
        let pods = self.pods_of(target).await?;
        plan.affected = pods.len() as u64;
        plan.of = self.api.count(&POD.all(&target.namespace)).await;
        let room = OBJECTS_MAX.saturating_sub(plan.objects.len());
        plan.objects.extend(pods.iter().take(room).map(look::object));
        plan.warnings.extend(rollout::follows_not(&target.value).map(str::to_owned));
        if target.value["spec"]["strategy"]["type"] == "Recreate" {
            plan.warnings.push("its strategy is Recreate: all pods end before new ones begin".to_owned());
        }
        Ok(pods)
    }

    /// The disruption budgets that the pods of a workload come under, in words.
    pub(super) async fn budgets(&self, target: &Found) -> Vec<String> {
        let budgets = match self.api.list(&DISRUPTION_BUDGET.all(&target.namespace), &[]).await {
            Ok(budgets) => budgets,
            Err(rejection) => return vec![format!("whether a disruption budget is hurt is not known: {}", rejection.why)],
        };
        let labels = &target.value["spec"]["template"]["metadata"]["labels"];
        let mine = budgets.iter().filter(|budget| selects(&budget["spec"]["selector"], labels));
        mine.map(|budget| {
            let say = |key: &str| match &budget["spec"][key] {
                Value::Null => None,
                Value::String(text) => Some(format!("{key} {text}")),
                other => Some(format!("{key} {other}")),
            };
            let rule = say("minAvailable").or_else(|| say("maxUnavailable")).unwrap_or_default();
            format!("the disruption budget {} asks for {rule}", budget["metadata"]["name"].as_str().unwrap_or_default())
        })
        .collect()
    }

    /// A warning of the autoscaler that would set the number of pods again.
    pub(super) async fn autoscaler(&self, target: &Found) -> Option<String> {
        let all = match self.api.list(&AUTOSCALER.all(&target.namespace), &[]).await {
            Ok(all) => all,
            Err(rejection) if rejection.status == 404 => return None,
            Err(rejection) => return Some(format!("whether an autoscaler sets the number too is not known: {}", rejection.why)),
        };
        let aims = |value: &&Value| {
            let aim = &value["spec"]["scaleTargetRef"];
            aim["kind"] == target.kind.kind && aim["name"] == target.name.as_str()
        };
        let name = all.iter().find(aims)?["metadata"]["name"].as_str()?;
        Some(format!("the autoscaler {name} sets the number too, and may set it again"))
    }

    pub(super) fn within(&self) -> Result<Duration, ActionError> {
        let within = self.call.duration_or_none("within")?.unwrap_or(Duration::from_secs(self.settings.verify_s));
        if within > WITHIN_MAX {
            return Err(self.call.fault("within", format!("it is at most {} s", WITHIN_MAX.as_secs())));
        }
        Ok(within)
    }

    pub(super) fn poll(&self) -> Duration {
        Duration::from_millis(self.settings.poll_ms.max(10))
    }

    pub(super) fn rejected(&self, what: &str, rejection: Rejection) -> ActionError {
        match rejection.status {
            404 => ActionError::NotFound { what: what.to_owned(), why: rejection.why },
            409 => self.changed(&rejection.why),
            _ => ActionError::Failed { action: self.call.action.clone(), why: format!("{what}: {}", rejection.why) },
        }
    }

    pub(super) fn changed(&self, why: &str) -> ActionError {
        ActionError::Changed { action: self.call.action.clone(), why: why.to_owned() }
    }

    pub(super) fn refused(&self, why: &str) -> ActionError {
        ActionError::Refused { action: self.call.action.clone(), why: why.to_owned() }
    }
}

/// Whether what was said in the change is so; what controllers write beside it is not compared.
fn is_as_made(target: &Found, now: &Value, made: &Value) -> bool {
    if target.kind == NODE {
        return (now["spec"]["unschedulable"] == json!(true)) == (made["spec"]["unschedulable"] == json!(true));
    }
    ["/spec", "/data", "/binaryData", "/metadata/uid", "/metadata/labels"].iter().all(|part| now.pointer(part) == made.pointer(part))
}

fn masked_differs(text: &str) -> bool {
    paramedic_model::secret::mask(text) != text
}

pub(super) fn qualified(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

pub(super) fn exact(change: &Change) -> Vec<String> {
    let shown = Change { body: hidden(&change.body), ..change.clone() };
    vec![masked(&shown.exact())]
}

/// The `labelSelector` that asks for what a selector chooses; none for one that chooses nothing.
pub(super) fn selector(selector: &Value) -> Option<String> {
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let mut parts: Vec<String> = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str()?;
        let values: Vec<&str> = expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        parts.push(match expression["operator"].as_str()? {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return None,
        });
    }
    (!parts.is_empty()).then(|| parts.join(","))
}

/// Whether a selector of an object chooses something with these labels. An empty selector chooses everything.
pub(super) fn selects(selector: &Value, labels: &Value) -> bool {
    let named = |key: &str| labels[key].as_str();
    let by_label = selector["matchLabels"].as_object().into_iter().flatten().all(|(key, value)| named(key) == value.as_str());
    let by_rule = selector["matchExpressions"].as_array().into_iter().flatten().all(|rule| {
        let had = named(rule["key"].as_str().unwrap_or_default());
        let listed = had.is_some_and(|had| rule["values"].as_array().into_iter().flatten().any(|value| value == had));
        match rule["operator"].as_str() {
            Some("In") => listed,
            Some("NotIn") => !listed,
            Some("Exists") => had.is_some(),
            Some("DoesNotExist") => had.is_none(),
            _ => false,
        }
    });
    !selector.is_null() && by_label && by_rule
}
