//! What runs, why it ended and what it waits for.

use serde_json::{Value, json};

use super::api::words;
use super::object::{self, DAEMON_SET, DEPLOYMENT, EVENT, POD, STATEFUL_SET, hidden};
use super::rollout::{Progress, Revision, image_list, progress, summary, without_hash};
use super::work::{Work, qualified};
use crate::{ActionError, Done, Object, Plan, Verified};

/// Rows of an answer; further ones are only counted.
const ROWS_MAX: usize = 200;

impl Work<'_> {
    pub(super) fn look_plan(&self) -> Result<Plan, ActionError> {
        let namespace = object::name(self.call, "namespace")?;
        let what = format!("look at {} of the namespace {namespace}", self.call.action.trim_start_matches("kubernetes.").replace('_', " "));
        Ok(Plan::new(self.call, self.spec.effect, what))
    }

    pub(super) async fn pods(&self) -> Result<Done, ActionError> {
        let namespace = object::name(self.call, "namespace")?;
        let pods = if self.call.text_or_none("deployment")?.is_some() {
            let target = self.workload(&[DEPLOYMENT]).await?;
            self.pods_of(&target).await?
        } else {
            let chosen = self.call.text_or_none("selector")?.unwrap_or_default();
            let listed = self.api.list(&POD.all(&namespace), &[("labelSelector", &chosen)]).await;
            listed.map_err(|why| self.rejected(&format!("the pods of {namespace}"), why))?
        };
        let in_trouble = pods.iter().filter(|pod| !troubles(pod).is_empty()).count();
        let rows: Vec<Value> = pods.iter().take(ROWS_MAX).map(row).collect();
        let answer = json!({"pods": rows, "total": pods.len(), "in_trouble": in_trouble});
        Ok(self.seen(format!("saw {} pods, {in_trouble} of them in trouble", pods.len()), answer))
    }

    pub(super) async fn events(&self) -> Result<Done, ActionError> {
        let namespace = object::name(self.call, "namespace")?;
        let mut fields = Vec::new();
        if self.call.text_or_none("name")?.is_some() {
            fields.push(format!("involvedObject.name={}", object::name(self.call, "name")?));
        }
        match self.call.text_or_none("type")?.as_deref() {
            None => {}
            Some(wanted @ ("Normal" | "Warning")) => fields.push(format!("type={wanted}")),
            Some(other) => return Err(self.call.fault("type", format!("{other:?} is neither Normal nor Warning"))),
        }
        let listed = self.api.list(&EVENT.all(&namespace), &[("fieldSelector", &fields.join(","))]).await;
        let mut events = listed.map_err(|why| self.rejected(&format!("the events of {namespace}"), why))?;
        events.sort_by(|a, b| last_seen(b).cmp(last_seen(a)));
        let rows: Vec<Value> = events.iter().take(ROWS_MAX).map(event).collect();
        Ok(self.seen(format!("saw {} events", events.len()), json!({"events": rows, "total": events.len()})))
    }

    pub(super) async fn rollout_status(&self) -> Result<Done, ActionError> {
        let target = self.workload(&[DEPLOYMENT, STATEFUL_SET, DAEMON_SET]).await?;
        let (state, why) = match progress(target.kind.name, &target.value) {
            Progress::Ended => ("ended", summary(target.kind.name, &target.value)),
            Progress::Going(why) => ("going", why),
            Progress::Stuck(why) => ("stuck", why),
        };
        let revisions = if target.kind == DEPLOYMENT { self.revisions(&target).await? } else { Vec::new() };
        let history: Vec<Value> =
            revisions.iter().map(|one| json!({"revision": one.number, "replica_set": one.name, "images": one.images()})).collect();
        let pods = self.pods_of(&target).await?;
        let mut reasons: Vec<String> = pods.iter().flat_map(troubles).collect();
        reasons.truncate(ROWS_MAX);
        let mut answer = json!({
            "state": state,
            "why": why,
            "replicas": target.value["spec"]["replicas"],
            "images": image_list(&target.value["spec"]["template"]),
            "revisions": history,
            "troubles": reasons,
        });
        if let Some(minutes) = self.released_minutes_ago(&target.value, &revisions) {
            answer["released_minutes_ago"] = json!(minutes);
        }
        Ok(self.seen(format!("{}: {state}, {why}", target.named()), answer))
    }

    /// How old the present template is, in minutes; nothing where there was none before it.
    fn released_minutes_ago(&self, deployment: &Value, revisions: &[Revision]) -> Option<f64> {
        let present = without_hash(&deployment["spec"]["template"]);
        let (at, now) = revisions.iter().enumerate().find(|(_, revision)| revision.template == present)?;
        let is_first = at == 0;
        now.made_at.filter(|_| !is_first).map(|made_at| self.clock.now().since(made_at).as_secs_f64() / 60.0)
    }

    fn seen(&self, what: String, answer: Value) -> Done {
        Done {
            what,
            affected: 0,
            before: Value::Null,
            after: Value::Null,
            answer: hidden(&answer),
            inverse: None,
            reverts_after_s: None,
            verified: Verified::seen(format!("the server of {} answered", self.api.source)),
        }
    }
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainerStatuses", "containerStatuses"].into_iter().flat_map(|list| pod["status"][list].as_array().into_iter().flatten())
}

/// Why a pod does not do what it is there for, in words; empty when it does.
pub(super) fn troubles(pod: &Value) -> Vec<String> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let mut found = Vec::new();
    for container in containers(pod) {
        let of = format!("{} of {name}", container["name"].as_str().unwrap_or_default());
        let waiting = &container["state"]["waiting"];
        if let Some(reason) = waiting["reason"].as_str().filter(|reason| !matches!(*reason, "ContainerCreating" | "PodInitializing")) {
            let message = waiting["message"].as_str().map(|message| format!(" ({})", words(message))).unwrap_or_default();
            found.push(format!("{of} waits: {reason}{message}"));
        }
        for ended in [&container["state"]["terminated"], &container["lastState"]["terminated"]] {
            let (reason, code) = (ended["reason"].as_str().unwrap_or_default(), ended["exitCode"].as_i64().unwrap_or(0));
            if code != 0 {
                found.push(format!(
                    "{of} ended: {reason}, exit {code}{}",
                    if reason == "OOMKilled" || code == 137 { ", out of memory or killed" } else { "" }
                ));
            }
        }
    }
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    for condition in conditions.filter(|one| one["type"] == "PodScheduled" && one["status"] == "False") {
        found.push(format!("{name} has no node: {}", words(condition["message"].as_str().unwrap_or_default())));
    }
    found
}

/// A pod as a plan names it.
pub(super) fn object(pod: &Value) -> Object {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let name = qualified(pod["metadata"]["namespace"].as_str().unwrap_or_default(), &text(&pod["metadata"]["name"]));
    let restarts: u64 = containers(pod).filter_map(|status| status["restartCount"].as_u64()).sum();
    let detail = format!("{} on {}, {restarts} restarts", text(&pod["status"]["phase"]), text(&pod["spec"]["nodeName"]));
    Object { kind: "pod".to_owned(), name, detail: words(&detail) }
}

fn row(pod: &Value) -> Value {
    let statuses: Vec<&Value> = containers(pod).collect();
    let restarts: u64 = statuses.iter().filter_map(|status| status["restartCount"].as_u64()).sum();
    let ended = statuses.iter().map(|status| &status["lastState"]["terminated"]).find(|ended| ended.is_object());
    let is_ready =
        pod["status"]["conditions"].as_array().into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True");
    json!({
        "name": pod["metadata"]["name"],
        "phase": pod["status"]["phase"],
        "ready": is_ready,
        "node": pod["spec"]["nodeName"],
        "restarts": restarts,
        "last_ended": ended.map(|ended| json!({"reason": ended["reason"], "exit": ended["exitCode"], "at": ended["finishedAt"]})),
        "troubles": troubles(pod),
    })
}

fn last_seen(event: &Value) -> &str {
    let times =
        [&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["eventTime"], &event["metadata"]["creationTimestamp"]];
    times.into_iter().find_map(Value::as_str).unwrap_or_default()
}

fn event(event: &Value) -> Value {
    let object = &event["involvedObject"];
    json!({
        "at": last_seen(event),
        "type": event["type"],
        "reason": event["reason"],
        "object": format!("{}/{}", object["kind"].as_str().unwrap_or_default().to_ascii_lowercase(), object["name"].as_str().unwrap_or_default()),
        "count": event["count"],
        "message": words(event["message"].as_str().unwrap_or_default()),
    })
}
