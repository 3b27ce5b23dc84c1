//! Nodes kept free of new pods.

use serde_json::json;

use super::api::{Change, PatchType};
use super::object::{self, Found, NODE};
use super::work::{Prepared, Watch, Work, exact};
use crate::ActionError;

impl Work<'_> {
    pub(super) async fn cordon(&self) -> Result<Prepared, ActionError> {
        let wanted = self.call.action == "kubernetes.cordon" && self.call.flag_or("cordoned", true)?;
        let limit = self.time_limit()?;
        let target = self.found(NODE, "", &object::name(self.call, "node")?).await?;
        let had = is_cordoned(&target);
        let verb = if wanted { "cordon" } else { "uncordon" };
        let mut plan = self.planned(&target, format!("{verb} {}", target.named()));
        plan.of = self.api.count(&NODE.all("")).await;
        let (before, after) = (json!({"cordoned": had}), json!({"cordoned": wanted}));
        if had == wanted {
            plan.what = format!("{} is {}cordoned already", target.named(), if had { "" } else { "un" });
            plan.affected = 0;
            return Ok(Prepared { plan, target, change: None, watch: Watch::Same, before, after });
        }
        let change = cordoning(&target, wanted);
        self.rehearsed(&target, &change).await?;
        plan.exact = exact(&change);
        plan.inverse = Some(self.back("kubernetes.cordon").with("node", target.name.as_str()).with("cordoned", had));
        plan.reverts_after_s = limit;
        if wanted {
            plan.warnings.extend(self.node_warnings(&target).await);
        }
        Ok(Prepared { plan, target, change: Some(change), watch: Watch::Same, before, after })
    }

    /// After how many seconds the node is to be as it was.
    pub(super) fn time_limit(&self) -> Result<Option<u64>, ActionError> {
        match self.call.duration_or_none("for")?.map(|limit| limit.as_secs()) {
            Some(0) => Err(self.call.fault("for", "it is no time at all")),
            limit => Ok(limit),
        }
    }

    /// What to know before a node takes no new pods: that no other one does, or that it carries the cluster itself.
    pub(super) async fn node_warnings(&self, target: &Found) -> Vec<String> {
        let labels = &target.value["metadata"]["labels"];
        let carries = ["control-plane", "master", "etcd"].iter().any(|role| !labels[format!("node-role.kubernetes.io/{role}")].is_null());
        let carries = carries.then(|| format!("{} is one of the control plane: the cluster itself runs on it", target.named()));
        self.last_node(target).await.into_iter().chain(carries).collect()
    }

    async fn last_node(&self, target: &Found) -> Option<String> {
        let nodes = match self.api.list(&NODE.all(""), &[]).await {
            Ok(nodes) => nodes,
            Err(rejection) => return Some(format!("whether another node takes new pods is not known: {}", rejection.why)),
        };
        let open = |node: &&serde_json::Value| {
            let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
            let is_ready = conditions.into_iter().all(|one| one["type"] != "Ready" || one["status"] == "True");
            node["spec"]["unschedulable"] != json!(true) && is_ready && node["metadata"]["name"] != target.name.as_str()
        };
        nodes.iter().find(open).is_none().then(|| "no other node takes new pods: what ends now is started nowhere".to_owned())
    }
}

pub(super) fn is_cordoned(node: &Found) -> bool {
    node.value["spec"]["unschedulable"] == json!(true)
}

pub(super) fn cordoning(node: &Found, cordoned: bool) -> Change {
    Change::patch(node.path(), PatchType::Strategic, json!({"spec": {"unschedulable": cordoned}}))
}
