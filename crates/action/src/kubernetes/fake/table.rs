//! Objects as the tables that `kubectl get` prints.

use paramedic_model::{Clock as _, SystemClock, Timestamp};
use serde_json::{Value, json};

/// A column: its name, whether it is shown only by `-o wide`, and what stands in it.
type Column = (&'static str, bool, fn(&Value) -> Value);

const NAME: Column = ("Name", false, |object| object["metadata"]["name"].clone());
const AGE: Column = ("Age", false, age);

fn columns(plural: &str) -> Vec<Column> {
    match plural {
        "pods" => vec![
            NAME,
            ("Ready", false, |pod| {
                let all = statuses(pod);
                json!(format!("{}/{}", all.iter().filter(|one| one["ready"] == json!(true)).count(), all.len()))
            }),
            ("Status", false, pod_status),
            ("Restarts", false, |pod| json!(statuses(pod).iter().filter_map(|one| one["restartCount"].as_u64()).sum::<u64>())),
            AGE,
            ("Node", true, |pod| pod["spec"]["nodeName"].clone()),
        ],
        "deployments" => vec![
            NAME,
            ("Ready", false, |object| json!(format!("{}/{}", object["status"]["readyReplicas"], object["spec"]["replicas"]))),
            ("Up-to-date", false, |object| object["status"]["updatedReplicas"].clone()),
            ("Available", false, |object| object["status"]["availableReplicas"].clone()),
            AGE,
        ],
        "nodes" => vec![NAME, ("Status", false, node_status), AGE],
        "networkpolicies" => {
            vec![NAME, ("Pod-Selector", false, |policy| json!(policy["spec"]["podSelector"]["matchLabels"].to_string())), AGE]
        }
        "events" => vec![
            ("Last Seen", false, |event| event["lastTimestamp"].clone()),
            ("Type", false, |event| event["type"].clone()),
            ("Reason", false, |event| event["reason"].clone()),
            ("Object", false, |event| {
                let part = |key: &str| event["involvedObject"][key].as_str().unwrap_or_default().to_ascii_lowercase();
                json!(format!("{}/{}", part("kind"), part("name")))
            }),
            ("Message", false, |event| event["message"].clone()),
        ],
        _ => vec![NAME, AGE],
    }
}

/// One object or a list of them.
pub(super) fn table(plural: &str, answer: &Value) -> Value {
    let columns = columns(plural);
    let objects = answer["items"].as_array().cloned().unwrap_or_else(|| vec![answer.clone()]);
    let definition = |(name, wide, _): &Column| json!({"name": name, "type": "string", "format": if *name == "Name" { "name" } else { "" }, "description": "", "priority": i32::from(*wide)});
    let row = |object: &Value| {
        let cells: Vec<Value> = columns.iter().map(|(_, _, cell)| cell(object)).collect();
        // The whole object, so that a client can sort by any field.
        json!({"cells": cells, "object": object})
    };
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": answer["metadata"]["resourceVersion"], "continue": answer["metadata"]["continue"].as_str().unwrap_or_default()},
        "columnDefinitions": columns.iter().map(definition).collect::<Vec<_>>(),
        "rows": objects.iter().map(row).collect::<Vec<_>>(),
    })
}

fn statuses(pod: &Value) -> &[Value] {
    pod["status"]["containerStatuses"].as_array().map_or(&[], Vec::as_slice)
}

fn pod_status(pod: &Value) -> Value {
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return json!("Terminating");
    }
    let waiting = statuses(pod).iter().find_map(|one| one["state"]["waiting"]["reason"].as_str());
    waiting.map_or_else(|| pod["status"]["phase"].clone(), |reason| json!(reason))
}

fn node_status(node: &Value) -> Value {
    let ready = node["status"]["conditions"].as_array().into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True");
    let cordoned = if node["spec"]["unschedulable"] == json!(true) { ",SchedulingDisabled" } else { "" };
    json!(format!("{}{cordoned}", if ready { "Ready" } else { "NotReady" }))
}

fn age(object: &Value) -> Value {
    let made = object["metadata"]["creationTimestamp"].as_str().and_then(Timestamp::parse);
    json!(made.map_or_else(|| "<unknown>".to_owned(), |made| format!("{}s", SystemClock.now().since(made).as_secs())))
}
