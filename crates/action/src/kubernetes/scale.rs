//! How many pods a workload has.

use serde_json::json;

use super::api::{Change, PatchType};
use super::object::{DEPLOYMENT, STATEFUL_SET};
use super::work::{Prepared, Watch, Work, exact};
use crate::ActionError;

impl Work<'_> {
    pub(super) async fn scale(&self) -> Result<Prepared, ActionError> {
        let wanted = self.call.count("replicas")?;
        if i32::try_from(wanted).is_err() {
            return Err(self.call.fault("replicas", format!("{wanted} is too many")));
        }
        let target = self.workload(&[DEPLOYMENT, STATEFUL_SET]).await?;
        self.open_namespace(&target.namespace)?;
        let had = target.value["spec"]["replicas"].as_u64().unwrap_or(1);
        let mut plan = self.planned(&target, format!("scale {} from {had} to {wanted} replicas", target.named()));
        self.reach(&mut plan, &target).await?;
        plan.affected = had.abs_diff(wanted);
        let (before, after) = (json!({"replicas": had}), json!({"replicas": wanted}));
        let watch = Watch::Rollout { replicas: Some(wanted) };
        if had == wanted {
            plan.what = format!("{} has {wanted} replicas already", target.named());
            return Ok(Prepared { plan, target, change: None, watch, before, after });
        }
        let change = Change::patch(format!("{}/scale", target.path()), PatchType::Merge, json!({"spec": {"replicas": wanted}}));
        self.rehearsed(&target, &change).await?;
        plan.exact = exact(&change);
        let back = self.back("kubernetes.scale").with("namespace", target.namespace.as_str()).with("deployment", target.name.as_str());
        plan.inverse = Some(back.with("replicas", had).with("kind", target.kind.name));
        if wanted == 0 {
            plan.warnings.push(format!("nothing of {} will run: whatever it serves is not served", target.named()));
        }
        if wanted < had {
            plan.warnings.extend(self.budgets(&target).await);
        }
        plan.warnings.extend(self.autoscaler(&target).await);
        Ok(Prepared { plan, target, change: Some(change), watch, before, after })
    }
}
