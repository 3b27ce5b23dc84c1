//! The actions on a cluster, and what they take.

use crate::{Argument, Effect, Kind, Spec};

const NAMESPACE: Argument = Argument::required("namespace", Kind::Text, "the namespace");
const DEPLOYMENT: Argument = Argument::required("deployment", Kind::Text, "the name of the deployment, or of what `kind` says");
const WORKLOAD: Argument = Argument::optional("kind", Kind::Text, "deployment (the default), statefulset or daemonset");
const SCALABLE: Argument = Argument::optional("kind", Kind::Text, "deployment (the default) or statefulset");
const WITHIN: Argument =
    Argument::optional("within", Kind::Duration, "how long the rollout is watched; default action.kubernetes.verify_s");
const NODE: Argument = Argument::required("node", Kind::Text, "the name of the node");
const FOR: Argument = Argument::optional("for", Kind::Duration, "after this time it is taken back by itself; default never");

const fn read(name: &'static str, summary: &'static str, arguments: &'static [Argument]) -> Spec {
    Spec { name, summary, effect: Effect::Read, arguments, undo: "nothing is changed" }
}

const fn write(name: &'static str, summary: &'static str, arguments: &'static [Argument], undo: &'static str) -> Spec {
    Spec { name, summary, effect: Effect::Write, arguments, undo }
}

pub(crate) const SPECS: &[Spec] = &[
    read(
        "kubernetes.pods",
        "shows pods with their phase, restarts, why they ended last, and what they wait for",
        &[
            NAMESPACE,
            Argument::optional("deployment", Kind::Text, "only those of this deployment"),
            Argument::optional("selector", Kind::Text, "only those with these labels, as `app=web,tier!=cache`"),
        ],
    ),
    read(
        "kubernetes.events",
        "shows the newest events of a namespace",
        &[
            NAMESPACE,
            Argument::optional("name", Kind::Text, "only those of the object of this name"),
            Argument::optional("type", Kind::Text, "only Normal or only Warning ones"),
        ],
    ),
    read(
        "kubernetes.rollout_status",
        "says whether a rollout has ended, goes on or is stuck, and its history",
        &[NAMESPACE, DEPLOYMENT, WORKLOAD],
    ),
    write(
        "kubernetes.rollout_undo",
        "goes back to an earlier revision of a deployment",
        &[NAMESPACE, DEPLOYMENT, Argument::optional("revision", Kind::Count, "which one; default the one before the present one"), WITHIN],
        "rollout_undo to the revision it had",
    ),
    write(
        "kubernetes.rollout_restart",
        "replaces the pods of a workload by new ones, as its strategy allows",
        &[NAMESPACE, DEPLOYMENT, WORKLOAD, WITHIN],
        "none is needed: the new pods are as the old ones were",
    ),
    write(
        "kubernetes.scale",
        "sets how many pods a workload has",
        &[NAMESPACE, DEPLOYMENT, Argument::required("replicas", Kind::Count, "how many"), SCALABLE, WITHIN],
        "scale to the number it had",
    ),
    write(
        "kubernetes.set_image",
        "sets the image of one container of a workload",
        &[
            NAMESPACE,
            DEPLOYMENT,
            Argument::required("container", Kind::Text, "the name of the container"),
            Argument::required("image", Kind::Text, "the image, with its tag or digest"),
            WORKLOAD,
            WITHIN,
        ],
        "set_image to the image it had",
    ),
    write(
        "kubernetes.patch",
        "changes a workload or a config map; nothing that gives it more rights",
        &[
            NAMESPACE,
            Argument::required("kind", Kind::Text, "deployment, statefulset, daemonset or configmap"),
            Argument::required("name", Kind::Text, "its name"),
            Argument::required("patch", Kind::Json, "what is to be different"),
            Argument::optional("type", Kind::Text, "strategic (the default), merge or json"),
            WITHIN,
        ],
        "a patch with the values it had",
    ),
    write(
        "kubernetes.cordon",
        "keeps new pods off a node, or lets them come again",
        &[NODE, Argument::optional("cordoned", Kind::Flag, "default true"), FOR],
        "cordon to what it was",
    ),
    write("kubernetes.uncordon", "lets new pods come to a node again", &[NODE, FOR], "cordon to what it was"),
    write(
        "kubernetes.drain",
        "cordons a node and evicts its pods, as disruption budgets allow",
        &[
            NODE,
            Argument::required("timeout", Kind::Duration, "when to give up; pods that remain are named"),
            Argument::optional("grace", Kind::Duration, "how long each pod has to end; default what it asks for itself"),
            Argument::optional("force", Kind::Flag, "also pods that nothing makes anew; default false"),
            Argument::optional("delete_empty_dir", Kind::Flag, "also pods whose data on the node is lost with them; default false"),
            FOR,
        ],
        "cordon to what it was; pods are not brought back to the node",
    ),
    write(
        "kubernetes.network_policy_suspend",
        "takes a network policy away for a time",
        &[
            NAMESPACE,
            Argument::required("name", Kind::Text, "the name of the network policy"),
            Argument::required("for", Kind::Duration, "after this time it is made again; at most action.kubernetes.suspend_max_s"),
        ],
        "apply with the policy as it was, by itself when the time is over",
    ),
    write(
        "kubernetes.apply",
        "makes a network policy or a config map, or replaces it",
        &[Argument::required("object", Kind::Json, "the whole object")],
        "apply with the object as it was; a new one has no way back here",
    ),
];
