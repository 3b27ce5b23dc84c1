use serde_json::json;

use super::{Stage, on_web};

/// What an operator types, and what the answer must hold. The fake would be no witness if the real program took it for
/// something else than a cluster.
const TYPED: &[(&str, &str)] = &[
    ("version", "Server Version: v1.32.0"),
    ("api-resources", "networkpolicies"),
    ("get nodes -o name", "node/n1\nnode/n2"),
    ("get deployment web -n shop -o jsonpath={.spec.replicas}", "3"),
    ("get pods -n shop -l app=web -o jsonpath={.items[*].status.phase}", "Running Running Running"),
    ("get pods -n shop -o wide", "1/1     Running"),
    ("get deployment web -n shop", "web    3/3"),
    ("get nodes -o wide", "Ready"),
    ("get pods -A --field-selector spec.nodeName=n1 -o name", "pod/web-"),
    ("rollout status deployment/web -n shop --timeout=10s", "successfully rolled out"),
    ("rollout history deployment/web -n shop", "REVISION"),
    ("describe deployment web -n shop", "3 desired | 3 updated | 3 total | 3 available | 0 unavailable"),
    ("logs deployment/web -n shop --tail=5", "listening"),
    ("scale deployment web -n shop --replicas=2", "scaled"),
    ("set image deployment/web -n shop web=web:2", "image updated"),
    ("rollout status deployment/web -n shop --timeout=10s", "successfully rolled out"),
    ("rollout restart deployment/web -n shop", "restarted"),
    ("set resources deployment/web -n shop -c web --limits=memory=2Gi", "resource requirements updated"),
    ("patch deployment web -n shop --type=json -p [{\"op\":\"replace\",\"path\":\"/spec/replicas\",\"value\":3}]", "patched"),
    ("patch deployment web -n shop --type=merge -p {\"spec\":{\"minReadySeconds\":1}}", "patched"),
    ("scale deployment web -n shop --replicas=1 --dry-run=server", "(server dry run)"),
    ("apply -f c.json --validate=false", "configmap/c created"),
    ("apply -f c.json --validate=false", "configmap/c unchanged"),
    ("label configmap c -n shop tier=front", "labeled"),
    ("get configmap -n shop -l tier=front -o jsonpath={.items[0].data.a}", "b"),
    ("delete configmap c -n shop --dry-run=server", "(server dry run)"),
    ("get configmap c -n shop -o name", "configmap/c"),
    ("delete configmap c -n shop", "deleted"),
    ("get events -n shop --sort-by=.lastTimestamp", ""),
    ("cordon n1", "cordoned"),
    ("get node n1", "Ready,SchedulingDisabled"),
    ("uncordon n1", "uncordoned"),
];

#[tokio::test]
async fn kubectl_takes_the_fake_for_a_cluster() {
    let stage = Stage::new().await;
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "shop"}, "data": {"a": "b"}});
    std::fs::write(stage.kubeconfig.with_file_name("c.json"), config.to_string()).unwrap();
    for (line, expect) in TYPED {
        let arguments: Vec<&str> = line.split(' ').collect();
        let Some(said) = stage.kubectl(&arguments).await else { return };
        assert!(said.contains(expect), "kubectl {line}: {said}");
    }
    assert!(stage.fake.settle().await);
    assert_eq!((stage.image(), stage.memory()), ("web:2".to_owned(), json!("2Gi")));
}

#[tokio::test]
async fn what_kubectl_changed_meanwhile_is_seen() {
    let stage = Stage::new().await;
    if stage.kubectl(&["set", "image", "deployment/web", "-n", "shop", "web=web:2"]).await.is_none() {
        return;
    }
    let plan = stage.plan(&on_web("rollout_undo")).await;
    assert_eq!(plan.what, "take the deployment shop/web back from revision 2 to revision 1, web:2 -> web:1");
    stage.kubectl(&["set", "image", "deployment/web", "-n", "shop", "web=web:3"]).await;
    assert!(stage.fake.settle().await);
    let (_, adapter) = stage.actions.find("kubernetes.rollout_undo").unwrap();
    let error = adapter.execute(&on_web("rollout_undo"), &plan, &tokio_util::sync::CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("was changed since"), "{error}");
    assert_eq!(stage.image(), "web:3");
}
