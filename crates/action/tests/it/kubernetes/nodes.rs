use std::time::{Duration, Instant};

use paramedic_action::kubernetes::fake::NEVER_ENDS;
use paramedic_action::{ActionError, Call};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Stage;

fn cordon(node: &str) -> Call {
    Call::new("kubernetes.cordon").with("node", node)
}

fn drain(node: &str, timeout: &str) -> Call {
    Call::new("kubernetes.drain").with("node", node).with("timeout", timeout)
}

fn on(stage: &Stage, node: &str) -> Vec<Value> {
    stage.fake.all("pods", "").into_iter().filter(|pod| pod["spec"]["nodeName"] == node).collect()
}

fn pod(name: &str, node: &str, owner: Option<&str>) -> Value {
    let owners = owner
        .map_or_else(|| json!([]), |kind| json!([{"apiVersion": "apps/v1", "kind": kind, "name": "x", "uid": "u", "controller": true}]));
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "ownerReferences": owners},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "c:1"}]},
    })
}

#[tokio::test]
async fn a_node_is_cordoned_for_a_time_and_opened_again() {
    let stage = Stage::new().await;
    let call = cordon("n1").with("for", "30m");
    let plan = stage.plan(&call).await;
    assert_eq!((plan.what.as_str(), plan.affected, plan.of, plan.reverts_after_s), ("cordon the node n1", 1, Some(2), Some(1_800)));
    let done = stage.done(&call).await;
    assert_eq!(done.reverts_after_s, Some(1_800));
    let column = ["get", "node", "n1", "-o", "jsonpath=cordoned:{.spec.unschedulable}"];
    Stage::agrees(stage.kubectl(&column).await, "cordoned:true");
    // What is so already is neither done nor taken back.
    let again = stage.plan(&call).await;
    assert_eq!((again.affected, again.inverse, again.reverts_after_s), (0, None, None));
    let last = stage.plan(&cordon("n2")).await;
    assert!(last.warnings[0].contains("no other node takes new pods"));
    stage.fake.change("nodes", "", "n2", |node| node["metadata"]["labels"] = json!({"node-role.kubernetes.io/control-plane": ""}));
    assert!(stage.plan(&cordon("n2")).await.warnings[1].contains("control plane"));
    stage.done(&done.inverse.unwrap()).await;
    Stage::agrees(stage.kubectl(&column).await, "cordoned:");
    assert_ne!(stage.fake.get("nodes", "", "n1")["spec"]["unschedulable"], json!(true));
    stage.done(&cordon("n1")).await;
    stage.done(&Call::new("kubernetes.uncordon").with("node", "n1")).await;
    stage.done(&cordon("n1")).await;
    stage.done(&cordon("n1").with("cordoned", false)).await;
    assert!(stage.refusal(&cordon("n3")).await.to_string().contains("find the node n3"));
}

#[tokio::test]
async fn a_drain_takes_what_may_go_and_leaves_the_rest() {
    let stage = Stage::new().await;
    stage.fake.put(pod("agent", "n1", Some("DaemonSet")));
    let mut mirror = pod("mirror", "n1", None);
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    stage.fake.put(mirror);
    let leaving = on(&stage, "n1").len() - 2;
    let plan = stage.plan(&drain("n1", "5s").with("grace", "1s")).await;
    assert_eq!((plan.affected, plan.of), (leaving as u64, Some(5)));
    assert!(plan.exact[0].starts_with("PATCH /api/v1/nodes/n1"), "{:?}", plan.exact);
    assert!(plan.exact[1].contains("/eviction") && plan.exact[1].contains("\"gracePeriodSeconds\":1"), "{:?}", plan.exact);
    assert!(plan.warnings.iter().any(|warning| warning.contains("2 pods stay")), "{:?}", plan.warnings);
    let done = stage.done(&drain("n1", "5s").with("grace", "1s").with("for", "1h")).await;
    assert_eq!(done.reverts_after_s, Some(3_600));
    assert_eq!(done.affected, leaving as u64);
    assert!(stage.fake.settle().await);
    let mut names: Vec<String> = on(&stage, "n1").iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["agent", "mirror"]);
    assert_eq!(stage.fake.all("pods", "shop").len(), 3);
    let left = stage.kubectl(&["get", "pods", "-A", "--field-selector", "spec.nodeName=n1", "-o", "name"]).await;
    assert!(left.is_none_or(|said| said.lines().collect::<Vec<_>>() == ["pod/agent", "pod/mirror"]));
    stage.done(&done.inverse.unwrap()).await;
    assert_ne!(stage.fake.get("nodes", "", "n1")["spec"]["unschedulable"], json!(true));
}

#[tokio::test]
async fn kubectl_drains_the_same() {
    let stage = Stage::new().await;
    if stage.kubectl(&["drain", "n2", "--timeout=10s"]).await.is_some() {
        assert!(stage.fake.settle().await);
        assert!(on(&stage, "n2").is_empty());
        assert_eq!(stage.fake.all("pods", "shop").len(), 3);
    }
}

fn budget(stage: &Stage, least: u64) {
    let spec = json!({"minAvailable": least, "selector": {"matchLabels": {"app": "web"}}});
    stage.fake.put(
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "keep", "namespace": "shop"}, "spec": spec}),
    );
}

#[tokio::test]
async fn a_drain_waits_for_a_disruption_budget() {
    let stage = Stage::new().await;
    // One pod at a time; the next one may go when its successor is ready elsewhere.
    budget(&stage, 2);
    stage.done(&drain("n1", "10s")).await;
    assert!(on(&stage, "n1").is_empty());
    assert!(stage.fake.settle().await);
    assert_eq!(stage.fake.all("pods", "shop").len(), 3);
}

#[tokio::test]
async fn a_drain_gives_up_in_time_and_names_what_remains() {
    let stage = Stage::new().await;
    budget(&stage, 3);
    let plan = stage.plan(&drain("n1", "1s")).await;
    assert!(
        plan.warnings.iter().any(|warning| warning.contains("may not go now") && warning.contains("disruption budget keep")),
        "{:?}",
        plan.warnings
    );
    let before = on(&stage, "n1").len();
    let begun = Instant::now();
    let done = stage.run(&drain("n1", "1s")).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(!done.verified.holds && done.verified.how.contains("The disruption budget keep needs 3 healthy pods"), "{}", done.verified.how);
    assert_eq!((done.affected, done.answer["remain"].as_array().unwrap().len(), on(&stage, "n1").len()), (0, before, before));
    stage.done(&done.inverse.unwrap()).await;
}

#[tokio::test]
async fn a_pod_that_does_not_end_remains() {
    let stage = Stage::new().await;
    for pod in on(&stage, "n1") {
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        stage.fake.change("pods", "shop", &name, |pod| pod["metadata"]["annotations"] = json!({NEVER_ENDS: "true"}));
    }
    let done = stage.run(&drain("n1", "1s")).await;
    assert!(!done.verified.holds && done.verified.how.contains("was evicted and has not ended"), "{}", done.verified.how);
}

#[tokio::test]
async fn a_drain_refuses_what_would_be_lost() {
    let stage = Stage::new().await;
    stage.fake.put(pod("lonely", "n1", None));
    let why = stage.refusal(&drain("n1", "5s")).await.to_string();
    assert!(why.contains("default/lonely is made anew by nothing (say force"), "{why}");
    assert!(stage.plan(&drain("n1", "5s").with("force", true)).await.affected > 0);
    stage.fake.change("pods", "default", "lonely", |pod| {
        pod["metadata"]["ownerReferences"] = json!([{"kind": "Job", "name": "j", "uid": "u", "controller": true}]);
        pod["spec"]["volumes"] = json!([{"name": "tmp", "emptyDir": {}}]);
    });
    let why = stage.refusal(&drain("n1", "5s")).await.to_string();
    assert!(why.contains("say delete_empty_dir"), "{why}");
    assert!(matches!(stage.refusal(&drain("n1", "5h")).await, ActionError::Argument { .. }));
}

#[tokio::test]
async fn a_drain_that_is_called_off_says_how_far_it_came() {
    let stage = Stage::new().await;
    budget(&stage, 3);
    let cancel = CancellationToken::new();
    let later = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        later.cancel();
    });
    let error = stage.actions.execute(&drain("n1", "1m"), &cancel).await.unwrap_err().to_string();
    assert!(error.contains("the node n1 is cordoned, 0 of "), "{error}");
}

#[tokio::test]
async fn only_the_pods_of_the_plan_are_evicted() {
    let stage = Stage::new().await;
    let call = drain("n1", "5s");
    let plan = stage.plan(&call).await;
    let before = on(&stage, "n1").len();
    stage.fake.put(pod("late", "n1", Some("Job")));
    let (_, adapter) = stage.actions.find(&call.action).unwrap();
    let error = adapter.execute(&call, &plan, &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(&error, ActionError::Changed { why, .. } if why.contains("what runs on it changed since")), "{error}");
    assert_eq!(on(&stage, "n1").len(), before + 1);
    assert_ne!(stage.fake.get("nodes", "", "n1")["spec"]["unschedulable"], json!(true));
}
