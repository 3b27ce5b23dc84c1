//! One action that somebody asks for: a run of a runbook of one step, held back by everything that holds other runs back.

use std::collections::BTreeMap;
use std::sync::Arc;

use paramedic_model::{secret, text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::driving::Origin;
use super::view::RunView;
use super::{DeskError, RunDesk, StartRun, refused};
use crate::gate::{Mode, Person};
use crate::plan::sha256;
use crate::run::StepOf;

/// The name of the only step.
pub const STEP: &str = "act";

/// An action with its arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActionCall {
    pub action: String,
    #[serde(default)]
    pub arguments: serde_json::Map<String, serde_json::Value>,
    /// How many it may touch: what its plan counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affected_max: Option<u64>,
}

impl ActionCall {
    /// A stored way back.
    pub(super) fn of_json(json: &serde_json::Value) -> Option<Self> {
        let arguments = json.get("arguments").and_then(serde_json::Value::as_object).cloned().unwrap_or_default();
        Some(Self { action: json.get("action")?.as_str()?.to_owned(), arguments, affected_max: None })
    }

    /// The runbook of this one step, as Markdown.
    fn text(&self, why: &str) -> Result<String, DeskError> {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
        if self.action.is_empty() || !self.action.chars().all(plain) {
            return Err(refused("start the action", format!("{:?} is no name of an action", self.action)));
        }
        let name = &self.action;
        // Texts stand as escapes, so that nothing in them can end the block or the line.
        let arguments = serde_json::to_string(&self.arguments).unwrap_or_default().replace('`', "\\u0060");
        let blast = self.affected_max.map_or_else(String::new, |max| format!(" blast={}", max.max(1)));
        let why = text::one_line(why).replace(['#', '`', '<'], " ");
        Ok(format!(
            "# The action {name}\n\n{why}\n\n## Resolution\n\n```action {{ name={STEP} mode=write literal=true timeout=15m limit=1000/1h cooldown=0s{blast} }}\n{name}: {arguments}\n```\n"
        ))
    }
}

impl RunDesk {
    /// Starts a run of one action. It waits until somebody agrees to it.
    pub async fn start_action(
        self: &Arc<Self>,
        call: ActionCall,
        incident: Option<String>,
        by: Person,
        why: &str,
    ) -> Result<RunView, DeskError> {
        self.start_action_for(call, incident, by, why, None).await
    }

    /// The same, perhaps to take back what another run did.
    pub(super) async fn start_action_for(
        self: &Arc<Self>,
        call: ActionCall,
        incident: Option<String>,
        by: Person,
        why: &str,
        takes_back: Option<StepOf>,
    ) -> Result<RunView, DeskError> {
        if !by.is_human() {
            return Err(refused("start the action", format!("{:?} is no person; say who you are", by.name)));
        }
        let text = call.text(&secret::mask(why))?;
        let document = sha256(text.as_bytes());
        let mut parsed = crate::parse(&text, "action");
        let Some(mut runbook) = parsed.runbooks.pop().filter(|runbook| runbook.steps.len() == 1) else {
            return Err(refused("start the action", "it cannot be written as a step"));
        };
        runbook.id = format!("action/{}", call.action);
        let target =
            ["name", "deployment", "node", "agent", "pid", "key", "pattern", "setting", "switch", "flag", "service", "repository", "url"]
                .iter()
                .find_map(|key| {
                    call.arguments.get(*key).and_then(|value| value.as_str().map(str::to_owned).or_else(|| Some(value.to_string())))
                })
                .unwrap_or_else(|| call.action.clone());
        let target = text::head(&secret::mask(&target), 200).to_owned();
        let start =
            StartRun { runbook: runbook.id.clone(), mode: Mode::Step, target, incident, by, inputs: BTreeMap::new(), observed: Vec::new() };
        self.begin(Origin { runbook: Arc::new(runbook), document, text: Some(text), takes_back }, start).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_stay_text_whatever_they_look_like() {
        let mut arguments = serde_json::Map::new();
        let evil = "$HOME {{x}} <pod> `x` \n```\n# heading\n```sh\nrm -rf /\n";
        arguments.insert("key".to_owned(), evil.into());
        let call = ActionCall { action: "redis.stream_trim".to_owned(), arguments, affected_max: Some(7) };
        let document = crate::parse(&call.text("because\n## Resolution\n```sh\nls\n```").unwrap(), "x.md");
        let [runbook] = document.runbooks.as_slice() else { panic!("{document:?}") };
        assert_eq!(runbook.steps.len(), 1, "{runbook:#?}");
        let planned = crate::plan::plan(runbook, &crate::render::Given::default());
        let Some(crate::render::Work::Action { name, arguments }) = &planned.steps[0].work else { panic!("{planned:#?}") };
        assert_eq!((name.as_str(), arguments["key"].as_str()), ("redis.stream_trim", Some(evil)));
        assert_eq!(planned.steps[0].demands.blast, Some(crate::plan::Blast::Objects(7)));
        assert!(ActionCall { action: "x: {}\ny".to_owned(), arguments: serde_json::Map::new(), affected_max: None }.text("").is_err());
    }
}
