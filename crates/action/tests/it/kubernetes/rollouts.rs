use std::time::Duration;

use paramedic_action::{ActionError, Call};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Stage, memory_patch, on_web};

#[tokio::test]
async fn scale_is_planned_done_seen_and_taken_back() {
    let stage = Stage::new().await;
    let call = on_web("scale").with("replicas", 5);
    let plan = stage.plan(&call).await;
    assert_eq!(plan.what, "scale the deployment shop/web from 3 to 5 replicas");
    assert_eq!((plan.affected, plan.of, plan.warnings.as_slice()), (2, Some(3), &[][..]));
    assert!(
        plan.exact[0].starts_with("PATCH /apis/apps/v1/namespaces/shop/deployments/web/scale (application/merge-patch+json)"),
        "{plan:?}"
    );
    let done = stage.done(&call).await;
    assert_eq!((&done.before, &done.after), (&json!({"replicas": 3}), &json!({"replicas": 5})));
    assert_eq!(stage.fake.all("pods", "shop").len(), 5);
    let columns = ["get", "deployment", "web", "-n", "shop", "-o", "jsonpath={.spec.replicas} {.status.availableReplicas}"];
    Stage::agrees(stage.kubectl(&columns).await, "5 5");
    stage.done(&done.inverse.unwrap()).await;
    assert!(stage.fake.settle().await);
    Stage::agrees(stage.kubectl(&columns).await, "3 3");
    let again = stage.plan(&on_web("scale").with("replicas", 3)).await;
    assert_eq!((again.what.as_str(), again.affected, again.inverse), ("the deployment shop/web has 3 replicas already", 0, None));
}

#[tokio::test]
async fn scale_warns_of_nothing_left_budgets_and_autoscalers() {
    let stage = Stage::new().await;
    stage.fake.put(budget("2"));
    let aim = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    stage.fake.put(json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "auto", "namespace": "shop"}, "spec": {"scaleTargetRef": aim}}));
    let warnings = stage.plan(&on_web("scale").with("replicas", 0)).await.warnings.join("\n");
    for expect in
        ["nothing of the deployment shop/web will run", "the disruption budget keep asks for minAvailable 2", "the autoscaler auto"]
    {
        assert!(warnings.contains(expect), "{warnings}");
    }
}

fn budget(least: &str) -> Value {
    let least: Value = least.parse::<u64>().map_or_else(|_| json!(least), |number| json!(number));
    let spec = json!({"minAvailable": least, "selector": {"matchLabels": {"app": "web"}}});
    json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "keep", "namespace": "shop"}, "spec": spec})
}

#[tokio::test]
async fn an_image_is_set_and_set_back() {
    let stage = Stage::new().await;
    let call = on_web("set_image").with("container", "web").with("image", "web:2");
    let plan = stage.plan(&call).await;
    assert_eq!((plan.what.as_str(), plan.affected), ("set the image of web of the deployment shop/web from web:1 to web:2", 3));
    let done = stage.done(&call).await;
    Stage::agrees(stage.kubectl(&["rollout", "status", "deployment/web", "-n", "shop", "--timeout=10s"]).await, "successfully rolled out");
    Stage::agrees(
        stage.kubectl(&["get", "pods", "-n", "shop", "-o", "jsonpath={.items[*].spec.containers[0].image}"]).await,
        "web:2 web:2 web:2",
    );
    stage.done(&done.inverse.unwrap()).await;
    assert_eq!(stage.image(), "web:1");
    let same = stage.plan(&on_web("set_image").with("container", "web").with("image", "web:1")).await;
    assert!(same.affected == 0 && same.warnings[0].contains("same as now"));
    let moving = stage.plan(&on_web("set_image").with("container", "web").with("image", "registry:5000/web")).await;
    assert!(moving.warnings[0].contains("not one fixed image"));
    let missing = stage.refusal(&on_web("set_image").with("container", "wep").with("image", "web:3")).await;
    assert_eq!(missing.to_string(), "find the container wep: the deployment shop/web has web");
}

#[tokio::test]
async fn a_rollout_is_undone_as_kubectl_does_it_and_redone() {
    let stage = Stage::new().await;
    stage.done(&on_web("set_image").with("container", "web").with("image", "web:2")).await;
    Stage::agrees(stage.kubectl(&["rollout", "history", "deployment/web", "-n", "shop"]).await, "\n2 ");
    let plan = stage.plan(&on_web("rollout_undo")).await;
    assert_eq!(plan.what, "take the deployment shop/web back from revision 2 to revision 1, web:2 -> web:1");
    assert_eq!(plan.inverse.as_ref().unwrap().arguments["revision"], 2);
    let done = stage.done(&on_web("rollout_undo")).await;
    assert_eq!(stage.image(), "web:1");
    let history = stage.kubectl(&["rollout", "history", "deployment/web", "-n", "shop"]).await;
    assert!(history.is_none_or(|said| said.contains("\n2 ") && said.contains("\n3 ") && !said.contains("\n1 ")));
    // The set of revision 1 is revision 3 now; no template has the mark of the set.
    assert!(stage.fake.get("deployments", "shop", "web")["spec"]["template"]["metadata"]["labels"]["pod-template-hash"].is_null());
    stage.done(&done.inverse.unwrap()).await;
    assert_eq!(stage.image(), "web:2");
    // And kubectl itself comes to the same state.
    if stage.kubectl(&["rollout", "undo", "deployment/web", "-n", "shop"]).await.is_some() {
        assert!(stage.fake.settle().await);
        assert_eq!(stage.image(), "web:1");
    }
}

#[tokio::test]
async fn an_undo_names_the_revisions_that_there_are() {
    let stage = Stage::new().await;
    let only = stage.refusal(&on_web("rollout_undo")).await.to_string();
    assert_eq!(only, "find an earlier revision: the deployment shop/web has the revisions 1");
    let far = stage.refusal(&on_web("rollout_undo").with("revision", 7)).await.to_string();
    assert!(far.contains("revision 7"), "{far}");
    stage.fake.change("deployments", "shop", "web", |web| web["spec"]["paused"] = json!(true));
    assert!(matches!(stage.refusal(&on_web("rollout_undo")).await, ActionError::Refused { why, .. } if why.contains("paused")));
}

#[tokio::test]
async fn a_restart_replaces_every_pod() {
    let stage = Stage::new().await;
    let names = || -> Vec<String> { stage.fake.all("pods", "shop").iter().map(|pod| pod["metadata"]["name"].to_string()).collect() };
    let before = names();
    let plan = stage.plan(&on_web("rollout_restart")).await;
    assert_eq!(
        (plan.what.as_str(), plan.affected, plan.inverse),
        ("restart the deployment shop/web: replace its 3 pods by new ones", 3, None)
    );
    stage.done(&on_web("rollout_restart")).await;
    assert!(stage.fake.settle().await);
    let after = names();
    assert!(after.len() == 3 && after.iter().all(|name| !before.contains(name)), "{before:?} {after:?}");
    Stage::agrees(stage.kubectl(&["rollout", "status", "deployment/web", "-n", "shop", "--timeout=10s"]).await, "successfully rolled out");
}

#[tokio::test]
async fn stateful_and_daemon_sets_roll_out_too() {
    let stage = Stage::new().await;
    for (kind, plural) in [("StatefulSet", "statefulsets"), ("DaemonSet", "daemonsets")] {
        let mut set = paramedic_action::kubernetes::fake::deployment("shop", "store", "store:1", 2);
        set["kind"] = json!(kind);
        stage.fake.put(set);
        assert!(stage.fake.settle().await);
        let on_store = |action: &str| {
            Call::new(&format!("kubernetes.{action}"))
                .with("namespace", "shop")
                .with("deployment", "store")
                .with("kind", kind.to_ascii_lowercase())
        };
        stage.done(&on_store("rollout_restart")).await;
        let done = stage.done(&on_store("set_image").with("container", "store").with("image", "store:2")).await;
        Stage::agrees(stage.kubectl(&["get", plural, "store", "-n", "shop", "-o", "yaml"]).await, "image: store:2");
        stage.done(&done.inverse.unwrap()).await;
        let status = stage.done(&on_store("rollout_status")).await;
        assert_eq!(status.answer["state"], "ended");
    }
}

#[tokio::test]
async fn a_stuck_rollout_is_not_called_done_and_says_why() {
    let stage = Stage::new().await;
    let first = stage.done(&on_web("rollout_status")).await;
    assert!(first.answer["released_minutes_ago"].is_null(), "there was none before it: {}", first.answer);
    stage.fake.change("deployments", "shop", "web", |web| web["spec"]["progressDeadlineSeconds"] = json!(1));
    assert!(stage.fake.settle().await);
    let done = stage.run(&on_web("set_image").with("container", "web").with("image", "web:broken")).await;
    assert!(!done.verified.holds);
    for expect in ["exceeded its progress deadline", "ImagePullBackOff", "web:broken"] {
        assert!(done.verified.how.contains(expect), "{}", done.verified.how);
    }
    // The old pods still serve, and the way back works from here.
    let status = stage.done(&on_web("rollout_status")).await;
    assert_eq!(status.answer["state"], "stuck", "{status:?}");
    assert!(status.answer["released_minutes_ago"].as_f64().is_some_and(|minutes| minutes < 1.0), "{}", status.answer);
    stage.done(&done.inverse.unwrap()).await;
    assert_eq!(stage.image(), "web:1");
}

#[tokio::test]
async fn a_rollout_that_takes_too_long_says_what_its_pods_say() {
    let stage = Stage::new().await;
    let call = on_web("set_image").with("container", "web").with("image", "web:hungry").with("within", "300ms");
    let done = stage.run(&call).await;
    assert!(!done.verified.holds);
    for expect in ["OOMKilled", "exit 137", "CrashLoopBackOff"] {
        assert!(done.verified.how.contains(expect), "{}", done.verified.how);
    }
    let pods = stage.done(&Call::new("kubernetes.pods").with("namespace", "shop").with("deployment", "web")).await;
    assert_eq!(pods.answer["in_trouble"], 1, "{}", pods.answer);
    let hungry = pods.answer["pods"].as_array().unwrap().iter().find(|pod| pod["restarts"] == 3).unwrap();
    assert_eq!(hungry["last_ended"]["exit"], 137);
}

#[tokio::test]
async fn a_change_in_the_middle_stops_the_deed() {
    let stage = Stage::new().await;
    let call = memory_patch("2Gi");
    let plan = stage.plan(&call).await;
    stage.fake.change("deployments", "shop", "web", |web| web["spec"]["replicas"] = json!(4));
    let before = stage.image();
    let (_, adapter) = stage.actions.find(&call.action).unwrap();
    let error = adapter.execute(&call, &plan, &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(&error, ActionError::Changed { why, .. } if why.contains("shop/web was changed since")), "{error}");
    assert_eq!((stage.image(), stage.memory()), (before, json!("1Gi")));
}

#[tokio::test]
async fn a_state_that_moves_all_the_time_does_not_stop_the_deed() {
    let stage = Stage::new().await;
    let call = memory_patch("2Gi");
    let plan = stage.plan(&call).await;
    stage.fake.change("deployments", "shop", "web", |web| web["status"]["note"] = json!("another version"));
    let (_, adapter) = stage.actions.find(&call.action).unwrap();
    let done = adapter.execute(&call, &plan, &CancellationToken::new()).await.unwrap();
    assert!(done.verified.holds, "{}", done.verified.how);
}

#[tokio::test]
async fn a_conflict_is_looked_at_anew_and_ends_the_deed_when_more_than_state_moved() {
    let state: fn(&mut Value) = |web| web["status"]["note"] = json!(web["metadata"]["resourceVersion"].clone());
    let said: fn(&mut Value) = |web| web["spec"]["minReadySeconds"] = json!(7);
    let calls =
        [memory_patch("2Gi"), on_web("scale").with("replicas", 4), on_web("set_image").with("container", "web").with("image", "web:2")];
    for call in calls {
        let stage = Stage::new().await;
        stage.fake.meddle(&[state, state, state]);
        stage.done(&call).await;
        let stage = Stage::new().await;
        stage.fake.meddle(&[said]);
        let error = stage.actions.execute(&call, &CancellationToken::new()).await.unwrap_err();
        assert!(matches!(error, ActionError::Changed { .. }), "{error}");
        stage.fake.meddle(&[state; 20]);
        let error = stage.actions.execute(&call, &CancellationToken::new()).await.unwrap_err();
        assert!(matches!(&error, ActionError::Changed { why, .. } if why.contains("409")), "{error}");
        let web = stage.fake.get("deployments", "shop", "web");
        assert_eq!((stage.image(), stage.memory(), &web["spec"]["replicas"]), ("web:1".to_owned(), json!("1Gi"), &json!(3)));
    }
}

#[tokio::test]
async fn a_paused_deployment_is_not_called_rolled_out() {
    let stage = Stage::new().await;
    stage.fake.change("deployments", "shop", "web", |web| web["spec"]["paused"] = json!(true));
    let call = on_web("set_image").with("container", "web").with("image", "web:2");
    assert!(stage.plan(&call).await.warnings[0].contains("paused"));
    let done = stage.run(&call).await;
    assert!(!done.verified.holds && done.verified.how.contains("paused"), "{}", done.verified.how);
}

#[tokio::test]
async fn watching_is_called_off_but_what_was_done_is_said() {
    let stage = Stage::new().await;
    let cancel = CancellationToken::new();
    let later = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(400)).await;
        later.cancel();
    });
    let call = on_web("set_image").with("container", "web").with("image", "web:broken");
    let (_, done) = stage.actions.execute(&call, &cancel).await.unwrap();
    assert!(!done.verified.holds && done.verified.how.contains("called off"), "{}", done.verified.how);
    assert!(done.inverse.is_some());
}

#[tokio::test]
async fn arguments_come_as_the_texts_of_runbooks() {
    let stage = Stage::new().await;
    stage.done(&on_web("scale").with("replicas", "2")).await;
    stage.done(&Call::new("kubernetes.cordon").with("node", "n1").with("cordoned", "true")).await;
    stage.done(&Call::new("kubernetes.cordon").with("node", "n1").with("cordoned", "false")).await;
    let drain = Call::new("kubernetes.drain").with("node", "n1").with("timeout", "5m").with("grace", "60s");
    stage.plan(&drain).await;
    let patch = r#"{"spec": {"template": {"spec": {"containers": [{"name": "web", "resources": {"limits": {"cpu": "2"}}}]}}}}"#;
    let call = Call::new("kubernetes.patch").with("namespace", "shop").with("kind", "deployment").with("name", "web").with("patch", patch);
    assert_eq!(stage.done(&call).await.after["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"], "2");
}
