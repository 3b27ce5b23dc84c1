//! Rules and their alerts in Prometheus's shape.

use std::sync::Arc;

use paramedic_model::Timestamp;
use paramedic_promql::parse::parse_matchers;
use serde_json::{Value, json};

use super::encode::{float_text, with_exponent};
use super::params::Params;
use super::{Answer, answer};
use crate::context::Context;
use crate::query::{QueryRefusal, RefusalKind};
use crate::rules::{AlertView, GroupView, RuleKind, RuleView};

pub(super) async fn rules(context: Arc<Context>, params: Params) -> Answer {
    let filter = Filter::of(&params)?;
    let groups = context.instruments.rules.as_ref().map(|rules| rules.groups()).unwrap_or_default();
    let mut shown: Vec<Value> = Vec::new();
    let (mut last, mut more) = (String::new(), false);
    let mut after = params.get("group_next_token").to_owned();
    for group in groups {
        let token = token_of(&group);
        if !after.is_empty() {
            if token == after {
                after.clear();
            }
            continue;
        }
        let Some(group) = filter.apply(group) else { continue };
        if shown.len() == filter.group_limit {
            more = true;
            break;
        }
        last = token;
        shown.push(group_json(&group, filter.with_alerts));
    }
    if !after.is_empty() {
        return Err(QueryRefusal::parameter("group_next_token", "the group it names is not there any more"));
    }
    let mut data = json!({ "groups": shown });
    if more {
        data["groupNextToken"] = last.into();
    }
    answer::data(&data)
}

/// Names a group across requests.
fn token_of(group: &GroupView) -> String {
    let bytes = group.file.bytes().chain([0xff]).chain(group.name.bytes());
    format!("{:016x}", bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
}

struct Filter {
    kind: Option<RuleKind>,
    names: Vec<String>,
    groups: Vec<String>,
    files: Vec<String>,
    matchers: Vec<Vec<paramedic_promql::Matcher>>,
    with_alerts: bool,
    group_limit: usize,
}

impl Filter {
    fn of(params: &Params) -> Result<Self, QueryRefusal> {
        let kind = match params.get("type") {
            "" => None,
            "alert" => Some(RuleKind::Alerting),
            "record" => Some(RuleKind::Recording),
            other => return Err(QueryRefusal::parameter("type", format!("not supported value {other:?}"))),
        };
        let with_alerts = match params.get("exclude_alerts") {
            "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => true,
            "1" | "t" | "T" | "true" | "TRUE" | "True" => false,
            other => return Err(QueryRefusal::parameter("exclude_alerts", format!("cannot parse {other:?} to a valid boolean"))),
        };
        let matchers = params.all("match[]").map(parse_matchers).collect::<Result<_, _>>();
        let all = |name: &str| params.all(name).map(str::to_owned).collect();
        let group_limit = params.limit("group_limit")?;
        if !params.get("group_next_token").is_empty() && group_limit == usize::MAX {
            return Err(QueryRefusal::new(RefusalKind::BadData, "group_limit needs to be present in order to paginate over the groups"));
        }
        Ok(Self {
            kind,
            names: all("rule_name[]"),
            groups: all("rule_group[]"),
            files: all("file[]"),
            matchers: matchers.map_err(|error| QueryRefusal::parameter("match[]", error))?,
            with_alerts,
            group_limit,
        })
    }

    /// The group with the rules that pass; none if that leaves nothing of it.
    fn apply(&self, mut group: GroupView) -> Option<GroupView> {
        let wanted = |list: &[String], name: &str| list.is_empty() || list.iter().any(|one| one == name);
        if !wanted(&self.groups, &group.name) || !wanted(&self.files, &group.file) {
            return None;
        }
        let all = self.kind.is_none() && self.names.is_empty() && self.matchers.is_empty();
        group
            .rules
            .retain(|rule| self.kind.is_none_or(|kind| kind == rule.kind) && wanted(&self.names, &rule.name) && self.has_labels(rule));
        (all || !group.rules.is_empty()).then_some(group)
    }

    fn has_labels(&self, rule: &RuleView) -> bool {
        let value = |name: &str| rule.labels.get(name).map_or("", String::as_str);
        self.matchers.is_empty() || self.matchers.iter().any(|all| all.iter().all(|matcher| matcher.matches(value(&matcher.name))))
    }
}

fn group_json(group: &GroupView, with_alerts: bool) -> Value {
    json!({
        "name": group.name,
        "file": group.file,
        "rules": group.rules.iter().map(|rule| rule_json(rule, with_alerts)).collect::<Vec<_>>(),
        "interval": group.interval_s,
        "limit": group.limit,
        "evaluationTime": group.evaluation_s,
        "lastEvaluation": time_json(group.last_at),
    })
}

/// A time; one that never was is the year one, as Go writes it.
pub(super) fn time_json(at: Option<Timestamp>) -> Value {
    at.map_or_else(|| "0001-01-01T00:00:00Z".into(), |at| at.to_string().into())
}

fn rule_json(rule: &RuleView, with_alerts: bool) -> Value {
    let mut body = json!({ "name": rule.name, "query": rule.query });
    if !rule.labels.is_empty() || rule.kind == RuleKind::Alerting {
        body["labels"] = json!(rule.labels);
    }
    if rule.kind == RuleKind::Alerting {
        body["state"] = rule.state.as_str().into();
        body["duration"] = rule.duration_s.into();
        body["keepFiringFor"] = rule.keep_firing_for_s.into();
        body["annotations"] = json!(rule.annotations);
        let alerts = if with_alerts { rule.alerts.iter().map(alert_json).collect() } else { Vec::new() };
        body["alerts"] = alerts.into();
        body["type"] = "alerting".into();
    } else {
        body["type"] = "recording".into();
    }
    body["health"] = rule.health.as_str().into();
    if let Some(error) = &rule.last_error {
        body["lastError"] = error.as_str().into();
    }
    body["evaluationTime"] = rule.evaluation_s.into();
    body["lastEvaluation"] = time_json(rule.last_at);
    body
}

fn alert_json(alert: &AlertView) -> Value {
    let value = alert.value.map_or_else(|| float_text(f64::NAN), with_exponent);
    let mut body = json!({
        "labels": alert.labels,
        "annotations": alert.annotations,
        "state": alert.state.as_str(),
        "activeAt": alert.active_at,
        "value": value,
    });
    if let Some(since) = alert.keep_firing_since {
        body["keepFiringSince"] = since.to_string().into();
    }
    body
}

/// Every alert of a rule that is pending or firing.
pub(super) async fn alerts(context: Arc<Context>, _: Params) -> Answer {
    let groups = context.instruments.rules.as_ref().map(|rules| rules.groups()).unwrap_or_default();
    let alerts: Vec<Value> = groups.iter().flat_map(|group| &group.rules).flat_map(|rule| &rule.alerts).map(alert_json).collect();
    answer::data(&json!({ "alerts": alerts }))
}
