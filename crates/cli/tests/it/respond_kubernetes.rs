//! A cluster in which a release is bad, a pod is too small, or a network policy is in the way: the alert, the incident, its
//! runbook, the approved fix, and `kubectl` as the witness of it all.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use paramedic_action::kubernetes::fake::Fake;
use serde_json::{Value, json};

use crate::fixture::{Home, Instance, until};
use crate::needs;
use crate::programs::{Series, now_ms, try_write};
use crate::respond_case::{Case, pack_rule, shortened};
use crate::respond_scene::{
    DANA, WITHIN, approve, assert_journal, assert_recorded, incident_when, ranked, record, records_of, run_when, says, shown, step_of,
    told, waiting_for,
};

const LABELS: &[(&str, &str)] = &[("namespace", "shop"), ("deployment", "web"), ("container", "web"), ("service", "web")];

/// A cluster with the deployment `web` in `shop`, which `kubectl` finds in the home folder.
struct Cluster {
    fake: Arc<Fake>,
    runtime: tokio::runtime::Runtime,
}

impl Cluster {
    fn start(home: &Home, image: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let fake = runtime.block_on(Fake::start()).unwrap();
        fake.deploy("web", image, 2);
        let folder = home.path().join(".kube");
        fs::create_dir_all(&folder).unwrap();
        let file = fake.kubeconfig(&folder).unwrap();
        fs::rename(file, folder.join("config")).unwrap();
        Self { fake: Arc::new(fake), runtime }
    }

    #[track_caller]
    fn settles(&self) {
        assert!(self.runtime.block_on(self.fake.settle()), "{:#?}", self.fake.all("pods", "shop"));
    }
}

/// The setting with which an instance acts on the cluster of its home folder.
fn cluster_settings(home: &Home) -> String {
    format!(
        "[probe]\nhost = false\n[action.kubernetes]\nkubeconfig = {:?}\npoll_ms = 100\nverify_s = 10\n",
        home.path().join(".kube/config")
    )
}

/// Asks `kubectl`; none when it says that there is no such thing.
fn kubectl(home: &Home, line: &str) -> Option<String> {
    let mut command = Command::new("kubectl");
    command.args(line.split(' ')).env_clear().env("HOME", home.path()).env("PATH", std::env::var_os("PATH").unwrap());
    let output = command.current_dir(home.path()).output().unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[track_caller]
fn of_web(home: &Home, what: &str) -> String {
    let path = format!("jsonpath={{.spec.template.spec.containers[0].{what}}}");
    kubectl(home, &format!("get deployment web -n shop -o {path}")).expect("kubectl knows the deployment")
}

/// Sends what the deployment would say about itself, four times a second, as it is at that moment.
struct Teller {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Teller {
    fn start(instance: &Instance, mut tell: impl FnMut(i64) -> Vec<Series> + Send + 'static) -> Self {
        let (address, stop) = (instance.http(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                drop(try_write(&address, tell(now_ms())));
                thread::sleep(Duration::from_millis(250));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// Requests of the agents behind `web`, of which three in ten fail with the faulty release.
fn tells_errors(fake: Arc<Fake>) -> impl FnMut(i64) -> Vec<Series> + Send + 'static {
    let (mut good, mut bad) = (0.0, 0.0);
    move |now| {
        let web = fake.get("deployments", "shop", "web");
        let fails = web["spec"]["template"]["spec"]["containers"][0]["image"].to_string().contains("faulty");
        good += if fails { 7.0 } else { 10.0 };
        bad += if fails { 3.0 } else { 0.0 };
        vec![
            Series::new("agent_requests_total", "job=web,status=success", &[(now, good)]),
            Series::new("agent_requests_total", "job=web,status=error", &[(now, bad)]),
            Series::new("agent_errors_total", "job=web,error_type=TypeError", &[(now, bad)]),
        ]
    }
}

/// Whether the instances of `web` answer, as its pods are.
fn tells_whether_up(fake: Arc<Fake>) -> impl FnMut(i64) -> Vec<Series> + Send + 'static {
    move |now| {
        let available = fake.get("deployments", "shop", "web")["status"]["availableReplicas"].as_u64().unwrap_or(0);
        let up = |number: u64| {
            let value = if number < available { 1.0 } else { 0.0 };
            Series::new("up", &format!("job=agent,instance=web-{number}"), &[(now, value)])
        };
        vec![up(0), up(1)]
    }
}

/// One action as a run of its own, approved by its hash; gives the run's id and the hash.
#[track_caller]
fn act(home: &Home, action: &str, set: &[&str]) -> (String, String) {
    let mut line = vec!["action", "run", action, "--why", "it was planned"];
    set.iter().for_each(|one| line.extend(["--set", one]));
    let run = says(home, DANA, &line)["run"]["id"].as_str().unwrap().to_owned();
    let hash = approve(home, &run, "act");
    (run, hash)
}

#[track_caller]
fn done(home: &Home, run: &str) -> Value {
    let ended = run_when(home, run, "ended", |run| !run["ended_at"].is_null());
    assert_eq!(ended["ending"], "done", "{}", told(&ended));
    ended
}

/// `is_known` says whether the release was made through Paramedic, or beside it.
fn a_bad_release_is_rolled_back(is_known: bool) {
    let home = Home::new();
    let cluster = Cluster::start(&home, "agent:1");
    cluster.settles();
    let rule = pack_rule("AgentHighErrorRate", "1s", "6s", &[], LABELS).replace("runbook: high-error-rate", "runbook: deployment-rollback");
    assert!(rule.contains("runbook: deployment-rollback"));
    let settings = cluster_settings(&home);
    let case = Case::up(home, &[shortened("deployment-rollback", "6s")], &[rule], &settings);
    let (home, instance) = (&case.home, &case.instance);
    let _requests = Teller::start(instance, tells_errors(Arc::clone(&cluster.fake)));

    if is_known {
        let image = ["namespace=shop", "deployment=web", "container=web", "image=agent:2-faulty"];
        let (release, hash) = act(home, "kubernetes.set_image", &image);
        done(home, &release);
        assert_recorded(home, &release, "act", &hash, &["kubernetes.set_image", "agent:2-faulty"]);
    } else {
        kubectl(home, "set image deployment/web -n shop web=agent:2-faulty").unwrap();
    }
    assert_eq!(of_web(home, "image"), "agent:2-faulty");

    let (incident, run) = ranked(home, instance, "deployment-rollback");
    assert_eq!(run["causes"][0]["cause"], "release", "{}", told(&run));
    let id = run["id"].as_str().unwrap();
    assert!(step_of(&run, "history")["last"]["shown"].as_str().unwrap().contains("REVISION"), "{}", told(&run));
    assert!(step_of(&run, "status")["last"]["shown"].as_str().unwrap().contains("successfully rolled out"), "{}", told(&run));
    waiting_for(home, id, "undo");
    assert_eq!(of_web(home, "image"), "agent:2-faulty", "nobody agreed yet");
    let hash = approve(home, id, "undo");
    done(home, id);
    assert_eq!(of_web(home, "image"), "agent:1");
    let history = kubectl(home, "rollout history deployment/web -n shop --revision=3").unwrap();
    assert!(history.contains("agent:1") && !history.contains("faulty"), "{history}");
    assert_recorded(home, id, "undo", &hash, &["kubernetes.rollout_undo", "shop", "web"]);
    incident_when(home, instance, &incident, &["mitigated", "resolved"]);

    // Forward again, when it is agreed to.
    let back = says(home, DANA, &["action", "undo", id, "undo", "--why", "it was the gateway after all"]);
    let back = back["id"].as_str().unwrap();
    assert_ne!(back, id);
    assert_eq!(of_web(home, "image"), "agent:1", "nobody agreed yet");
    let hash = approve(home, back, "act");
    done(home, back);
    assert_eq!(of_web(home, "image"), "agent:2-faulty");
    assert_recorded(home, back, "act", &hash, &["kubernetes.rollout_undo"]);
    assert_journal(home);
}

#[test]
fn respond_a_pod_that_is_killed_for_memory_gets_more_and_gives_it_back() {
    needs!("kubectl");
    let home = Home::new();
    let cluster = Cluster::start(&home, "agent:hungry");
    let rule = pack_rule("AgentDown", "1s", "6s", &[], LABELS);
    let settings = cluster_settings(&home);
    let case = Case::up(home, &[shortened("agent-down", "6s")], &[rule], &settings);
    let (home, instance) = (&case.home, &case.instance);
    let _up = Teller::start(instance, tells_whether_up(Arc::clone(&cluster.fake)));

    let (incident, run) = ranked(home, instance, "agent-down");
    assert_eq!(run["causes"][0]["cause"], "oom", "{}", told(&run));
    let id = run["id"].as_str().unwrap();
    let ended = step_of(&run, "ended")["last"]["shown"].as_str().unwrap().to_owned();
    assert!(ended.contains("OOMKilled 137 CrashLoopBackOff"), "{ended}");
    waiting_for(home, id, "more_memory");
    assert_eq!(of_web(home, "resources.limits.memory"), "1Gi", "nobody agreed yet");
    let hash = approve(home, id, "more_memory");
    done(home, id);
    assert_eq!(of_web(home, "resources.limits.memory"), "2Gi");
    assert!(kubectl(home, "rollout status deployment/web -n shop --timeout=5s").unwrap().contains("successfully rolled out"));
    assert_recorded(home, id, "more_memory", &hash, &["kubernetes.patch", "2Gi"]);
    let entries = record(home, id);
    let inverse = records_of(&entries, "done", "more_memory").last().unwrap()["done"]["inverse"].clone();
    assert!(inverse["action"] == "kubernetes.patch" && inverse.to_string().contains("1Gi"), "{inverse:#}");
    incident_when(home, instance, &incident, &["mitigated", "resolved"]);

    // Its owner has mended it, and the room is given back.
    kubectl(home, "set image deployment/web -n shop web=agent:3").unwrap();
    cluster.settles();
    let back = says(home, DANA, &["action", "undo", id, "more_memory", "--why", "it needs less now"]);
    let back = back["id"].as_str().unwrap();
    assert_eq!(of_web(home, "resources.limits.memory"), "2Gi", "nobody agreed yet");
    let hash = approve(home, back, "act");
    done(home, back);
    assert_eq!((of_web(home, "resources.limits.memory"), of_web(home, "image")), ("1Gi".to_owned(), "agent:3".to_owned()));
    assert_recorded(home, back, "act", &hash, &["kubernetes.patch", "1Gi"]);
    assert_journal(home);
}

#[test]
fn respond_a_bad_release_is_rolled_back() {
    needs!("kubectl", "git");
    a_bad_release_is_rolled_back(true);
}

#[test]
fn respond_a_bad_release_that_nobody_told_paramedic_of_is_rolled_back() {
    needs!("kubectl", "git");
    a_bad_release_is_rolled_back(false);
}

fn policy() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny", "namespace": "shop", "labels": {"team": "edge"}},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": 53}]}]},
    })
}

/// A policy is away for three seconds; `is_killed` says whether the instance lives all that time.
fn a_policy_comes_back(is_killed: bool) {
    let home = Home::new();
    let cluster = Cluster::start(&home, "agent:1");
    cluster.settles();
    cluster.fake.put(policy());
    let mut instance = home.up_configured(&cluster_settings(&home));
    let there = || kubectl(&home, "get networkpolicy deny -n shop -o name").is_some();
    assert!(there());

    let line = ["action", "run", "kubernetes.network_policy_suspend", "--set", "namespace=shop", "--set", "name=deny", "--set", "for=3s"];
    let run = says(&home, DANA, &line)["run"]["id"].as_str().unwrap().to_owned();
    assert!(there(), "nobody agreed yet");
    let hash = approve(&home, &run, "act");
    until(WITHIN, || (!there()).then_some(())).unwrap_or_else(|| panic!("{}", told(&shown(&home, &run))));
    let done = run_when(&home, &run, "to be taken back", |run| step_of(run, "act")["reverts_at"].is_string());
    assert!(!there(), "{}", told(&done));
    if is_killed {
        instance.kill();
        thread::sleep(Duration::from_millis(3_500));
        assert!(!there(), "nobody is there to bring it back");
        instance = home.up_with(&["--config", home.path().join("paramedic.toml").to_str().unwrap()]);
    }
    until(WITHIN, || there().then_some(())).unwrap_or_else(|| panic!("{}\n{}", told(&shown(&home, &run)), home.log()));
    let spec = kubectl(&home, "get networkpolicy deny -n shop -o json").unwrap();
    let back: Value = serde_json::from_str(&spec).unwrap();
    assert_eq!((&back["spec"], &back["metadata"]["labels"]), (&policy()["spec"], &policy()["metadata"]["labels"]));

    let reverted = until(WITHIN, || {
        let entries = record(&home, &run);
        entries.iter().any(|one| one["record"] == "reverted" && one["step"] == "act" && one["done"]["verdict"] == "ok").then_some(entries)
    });
    let entries = reverted.unwrap_or_else(|| panic!("{:#?}", record(&home, &run)));
    let of = |kind: &str| records_of(&entries, kind, "act").len();
    assert_eq!((of("reverting"), of("reverted")), (1, 1), "{entries:#?}");
    assert!(records_of(&entries, "reverting", "act")[0]["call"].to_string().contains("kubernetes.apply"), "{entries:#?}");
    assert!(instance.list("/api/v1/reverts", "reverts").is_empty());
    assert_recorded(&home, &run, "act", &hash, &["kubernetes.network_policy_suspend", "deny", "3s"]);
    assert_journal(&home);
}

#[test]
fn respond_a_suspended_network_policy_comes_back_by_itself() {
    needs!("kubectl");
    a_policy_comes_back(false);
}

#[test]
fn respond_a_suspended_network_policy_comes_back_after_a_crash() {
    needs!("kubectl");
    a_policy_comes_back(true);
}
