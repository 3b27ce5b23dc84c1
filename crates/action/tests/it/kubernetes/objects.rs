use paramedic_action::{ActionError, Call};
use serde_json::{Value, json};

use super::{Stage, memory_patch, on_web};

fn config(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web", "namespace": "shop"}, "data": data})
}

fn config_patch(patch: Value) -> Call {
    Call::new("kubernetes.patch").with("namespace", "shop").with("kind", "configmap").with("name", "web").with("patch", patch)
}

#[tokio::test]
async fn more_memory_is_given_and_taken_back() {
    let stage = Stage::new().await;
    let plan = stage.plan(&memory_patch("2Gi")).await;
    assert_eq!(plan.what, "change the deployment shop/web: spec.template.spec.containers[web].resources.limits.memory 1Gi -> 2Gi");
    assert_eq!((plan.affected, plan.of), (3, Some(3)));
    let done = stage.done(&memory_patch("2Gi")).await;
    assert_eq!(stage.memory(), "2Gi");
    let path = "jsonpath={.spec.template.spec.containers[0].resources.limits.memory}";
    Stage::agrees(stage.kubectl(&["get", "deployment", "web", "-n", "shop", "-o", path]).await, "2Gi");
    // Meanwhile somebody else sets another image: the way back leaves that alone.
    stage.done(&on_web("set_image").with("container", "web").with("image", "web:2")).await;
    stage.done(&done.inverse.unwrap()).await;
    assert_eq!((stage.memory(), stage.image()), (json!("1Gi"), "web:2".to_owned()));
}

#[tokio::test]
async fn every_kind_of_patch_has_its_way_back() {
    let merge = json!({"spec": {"minReadySeconds": 1, "template": {"metadata": {"annotations": {"note": "x"}}}}});
    let strategic = json!({"spec": {"template": {"spec": {
        "containers": [{"name": "web", "env": [{"name": "MODE", "value": "slow"}, {"name": "MORE", "value": "1"}]}, {"name": "aside", "image": "aside:1"}],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }}}});
    let json_patch = json!([
        {"op": "replace", "path": "/spec/template/spec/containers/0/resources/limits/cpu", "value": "2"},
        {"op": "remove", "path": "/spec/template/spec/containers/0/env"},
        {"op": "add", "path": "/metadata/labels/tier", "value": "front"},
    ]);
    for (kind, patch) in [("merge", merge), ("strategic", strategic), ("json", json_patch)] {
        let stage = Stage::new().await;
        let said = || {
            let web = stage.fake.get("deployments", "shop", "web");
            (web["spec"].clone(), web["metadata"]["labels"].clone())
        };
        let before = said();
        let call = Call { arguments: [("patch".to_owned(), patch)].into_iter().collect(), ..Call::new("kubernetes.patch") };
        let call = call.with("namespace", "shop").with("kind", "deployments").with("name", "web").with("type", kind);
        stage.plan(&call).await;
        let done = stage.done(&call).await;
        assert_ne!(said(), before);
        stage.done(&done.inverse.unwrap()).await;
        let after = said();
        // An empty map and none are the same to the server.
        let plain = |mut said: (Value, Value)| {
            if said.0["template"]["metadata"]["annotations"] == json!({}) {
                said.0["template"]["metadata"].as_object_mut().unwrap().remove("annotations");
            }
            said
        };
        assert_eq!(plain(after), plain(before), "{kind}");
    }
}

#[tokio::test]
async fn a_config_map_is_changed_and_changed_back() {
    let stage = Stage::new().await;
    stage.fake.put(config(json!({"limit": "5", "old": "yes"})));
    let call = config_patch(json!({"data": {"limit": "9", "old": null, "new": "1"}}));
    let plan = stage.plan(&call).await;
    assert!(plan.what.contains("data.limit 5 -> 9") && plan.what.contains("data.old yes -> nothing"), "{}", plan.what);
    let done = stage.done(&call).await;
    assert_eq!(done.inverse.as_ref().unwrap().arguments["patch"], json!({"data": {"new": null, "limit": "5", "old": "yes"}}));
    Stage::agrees(stage.kubectl(&["get", "cm", "web", "-n", "shop", "-o", "jsonpath={.data}"]).await, r#""limit":"9""#);
    stage.done(&done.inverse.unwrap()).await;
    assert_eq!(stage.fake.get("configmaps", "shop", "web")["data"], json!({"limit": "5", "old": "yes"}));
}

#[tokio::test]
async fn secrets_are_neither_read_nor_shown_nor_kept() {
    let stage = Stage::new().await;
    let secret =
        Call::new("kubernetes.patch").with("namespace", "shop").with("kind", "Secret").with("name", "s").with("patch", json!({"data": {}}));
    assert!(matches!(stage.refusal(&secret).await, ActionError::Refused { .. }));
    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "shop"}});
    assert!(matches!(stage.refusal(&Call::new("kubernetes.apply").with("object", object)).await, ActionError::Refused { .. }));
    assert!(!stage.fake.requests().iter().any(|request| request.contains("secrets")));
    stage.fake.put(config(json!({"db_password": "correct-horse-battery"})));
    let call = config_patch(json!({"data": {"db_password": "another-long-secret"}}));
    let plan = stage.plan(&call).await;
    let done = stage.done(&call).await;
    for text in [format!("{plan:?}"), format!("{done:?}")] {
        assert!(!text.contains("correct-horse") && !text.contains("another-long"), "{text}");
    }
    assert!(plan.inverse.is_none() && done.inverse.is_none());
    assert!(plan.warnings.iter().any(|warning| warning.contains("holds a secret")), "{:?}", plan.warnings);
    let env = json!([{"name": "API_KEY", "value": "aaaa-bbbb-cccc"}]);
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "env": env}]}}}});
    let done = stage
        .done(&Call::new("kubernetes.patch").with("namespace", "shop").with("kind", "deployment").with("name", "web").with("patch", patch))
        .await;
    assert!(!format!("{done:?}").contains("aaaa-bbbb"), "{done:?}");
    // What was added is only taken away again, so this way back holds no secret.
    assert!(done.inverse.is_some());
}

#[tokio::test]
async fn what_the_server_refuses_is_known_before_anybody_approves() {
    let stage = Stage::new().await;
    let small = stage.refusal(&memory_patch("64Mi")).await.to_string();
    assert!(small.contains("it is refused") && small.contains("must be greater than or equal to the request of memory"), "{small}");
    stage.fake.refuse("deployments", "only on Tuesdays");
    let calls = [memory_patch("2Gi"), on_web("rollout_restart"), on_web("scale").with("replicas", 4)];
    for call in calls {
        let error = stage.refusal(&call).await.to_string();
        assert!(error.contains("only on Tuesdays"), "{error}");
    }
}

#[tokio::test]
async fn more_rights_and_wrong_arguments_are_refused() {
    let stage = Stage::new().await;
    let web = || Call::new("kubernetes.patch").with("namespace", "shop").with("kind", "deployment").with("name", "web");
    let pod = |spec: Value| web().with("patch", json!({"spec": {"template": {"spec": spec}}}));
    let cases = [
        (pod(json!({"containers": [{"name": "web", "securityContext": {"privileged": true}}]})), "securityContext"),
        (pod(json!({"hostNetwork": true})), "hostNetwork"),
        (pod(json!({"serviceAccountName": "admin"})), "serviceAccountName"),
        (pod(json!({"volumes": [{"name": "root", "hostPath": {"path": "/"}}]})), "hostPath"),
        (web().with("type", "merge").with("patch", json!({"metadata": {"name": "other"}})), "immutable"),
        (web().with("patch", "not json"), "it is not JSON"),
        (web().with("patch", json!([])), "an object with the fields"),
        (web().with("patch", json!({"metadata": "text"})), "its metadata is not an object"),
        (memory_patch("2Gi").with("within", "9d"), "it is at most"),
        (web().with("type", "json").with("patch", json!({"a": 1})), "a list of operations"),
        (web().with("type", "odd").with("patch", json!({"a": 1})), "neither strategic, merge nor json"),
        (on_web("scale").with("replicas", "many"), "not a whole number"),
        (on_web("scale").with("replicas", 9_999_999_999_u64), "too many"),
        (on_web("scale").with("replicas", 1).with("kind", "daemonset"), "not one of deployment, statefulset"),
        (Call::new("kubernetes.scale").with("namespace", "shop/../x").with("deployment", "web").with("replicas", 1), "is not a name"),
        (Call::new("kubernetes.cordon").with("node", "n1?dryRun=All"), "is not a name"),
        (
            Call::new("kubernetes.scale").with("namespace", "kube-system").with("deployment", "dns").with("replicas", 0),
            "find the deployment kube-system/dns",
        ),
    ];
    for (call, expect) in cases {
        let error = stage.refusal(&call).await.to_string();
        assert!(error.contains(expect), "{error} does not say {expect}");
    }
    let mut dns = paramedic_action::kubernetes::fake::deployment("kube-system", "dns", "dns:1", 1);
    dns["metadata"]["labels"] = json!({});
    stage.fake.put(dns);
    let call = Call::new("kubernetes.scale").with("namespace", "kube-system").with("deployment", "dns").with("replicas", 0);
    assert!(stage.refusal(&call).await.to_string().contains("protected_namespaces"));
}

fn policy() -> Value {
    let spec =
        json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": {}}]}]});
    let metadata = json!({"name": "closed", "namespace": "shop", "labels": {"by": "us"}, "annotations": {"why": "safety"}});
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec})
}

fn suspend(limit: &str) -> Call {
    Call::new("kubernetes.network_policy_suspend").with("namespace", "shop").with("name", "closed").with("for", limit)
}

#[tokio::test]
async fn a_network_policy_is_taken_away_for_a_time_and_made_again() {
    let stage = Stage::new().await;
    stage.fake.put(policy());
    let plan = stage.plan(&suspend("10m")).await;
    assert_eq!((plan.affected, plan.of, plan.reverts_after_s), (3, Some(3), Some(600)));
    assert!(plan.exact[0].starts_with("DELETE /apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/closed "), "{:?}", plan.exact);
    let done = stage.done(&suspend("10m")).await;
    assert_eq!(done.reverts_after_s, Some(600));
    assert!(stage.fake.get("networkpolicies", "shop", "closed").is_null());
    Stage::agrees(stage.kubectl(&["get", "networkpolicies", "-n", "shop", "-o", "name", "--ignore-not-found"]).await, "");
    let inverse = done.inverse.unwrap();
    let back = stage.plan(&inverse).await;
    assert_eq!(back.what, "make the networkpolicy shop/closed");
    stage.done(&inverse).await;
    let made = stage.fake.get("networkpolicies", "shop", "closed");
    assert_eq!(
        (&made["spec"], &made["metadata"]["labels"], &made["metadata"]["annotations"]),
        (&policy()["spec"], &json!({"by": "us"}), &json!({"why": "safety"}))
    );
    Stage::agrees(
        stage.kubectl(&["get", "netpol", "closed", "-n", "shop", "-o", "jsonpath={.spec.podSelector.matchLabels.app}"]).await,
        "web",
    );
    // A second time there is nothing to do.
    assert_eq!(stage.plan(&inverse).await.affected, 0);
    assert!(stage.done(&inverse).await.what.starts_with("nothing"));
}

#[tokio::test]
async fn a_suspension_has_a_limit_and_a_replacement_a_way_back() {
    let stage = Stage::new().await;
    stage.fake.put(policy());
    for limit in ["2h", "0", "soon"] {
        assert!(matches!(stage.refusal(&suspend(limit)).await, ActionError::Argument { argument, .. } if argument == "for"), "{limit}");
    }
    let without = Call::new("kubernetes.network_policy_suspend").with("namespace", "shop").with("name", "closed");
    assert!(stage.refusal(&without).await.to_string().contains("for of kubernetes.network_policy_suspend: it is not given"));
    let mut open = policy();
    open["spec"]["ingress"] = json!([{}]);
    let done = stage.done(&Call::new("kubernetes.apply").with("object", open.clone())).await;
    assert_eq!(stage.fake.get("networkpolicies", "shop", "closed")["spec"], open["spec"]);
    stage.done(&done.inverse.unwrap()).await;
    assert_eq!(stage.fake.get("networkpolicies", "shop", "closed")["spec"], policy()["spec"]);
    let deployment = paramedic_action::kubernetes::fake::deployment("shop", "miner", "miner:1", 100);
    assert!(stage.refusal(&Call::new("kubernetes.apply").with("object", deployment)).await.to_string().contains("neither a NetworkPolicy"));
}

#[tokio::test]
async fn events_are_seen_newest_first_and_masked() {
    let stage = Stage::new().await;
    for (at, message) in [("10", "Back-off pulling image"), ("20", "login with password=hunter2hunter2 failed")] {
        let metadata = json!({"name": format!("e{at}"), "namespace": "shop"});
        let object = json!({"kind": "Pod", "name": "web-1"});
        let time = format!("2026-01-01T00:00:{at}Z");
        stage.fake.put(json!({"apiVersion": "v1", "kind": "Event", "metadata": metadata, "involvedObject": object, "type": "Warning", "reason": "Failed", "message": message, "lastTimestamp": time}));
    }
    let done = stage.done(&Call::new("kubernetes.events").with("namespace", "shop").with("name", "web-1").with("type", "Warning")).await;
    let events = done.answer["events"].as_array().unwrap();
    assert_eq!((events.len(), &events[0]["at"]), (2, &json!("2026-01-01T00:00:20Z")));
    assert!(!done.answer.to_string().contains("hunter2"), "{}", done.answer);
    let none = stage.done(&Call::new("kubernetes.events").with("namespace", "shop").with("name", "other")).await;
    assert_eq!(none.answer["total"], 0);
}

#[tokio::test]
async fn a_lost_answer_is_told_as_such_and_its_way_back_is_kept() {
    let stage = Stage::new().await;
    stage.fake.put(policy());
    let image = on_web("set_image").with("container", "web").with("image", "web:2");
    for (call, back_to) in [(image, "web:1"), (suspend("10m"), "closed")] {
        stage.fake.lose_answers(1);
        let done = stage.run(&call).await;
        assert!(!done.verified.holds && done.verified.how.contains("no answer"), "{}", done.verified.how);
        assert!(done.what.ends_with("without an answer"), "{}", done.what);
        let inverse = done.inverse.unwrap();
        assert!(serde_json::to_string(&inverse).unwrap().contains(back_to));
        stage.done(&inverse).await;
    }
    assert_eq!((stage.image(), stage.fake.get("networkpolicies", "shop", "closed").is_null()), ("web:1".to_owned(), false));
}
