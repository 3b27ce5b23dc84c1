//! Who carries out what runbooks leave to the instance: queries, questions to the events, actions, messages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use paramedic_action::{ActionError, Actions, Call, Done, Plan};
use paramedic_api::query::{Limits, Query};
use paramedic_journal::Journal;
use paramedic_model::{Clock, IncidentId, Timestamp, secret, text};
use paramedic_promql::Value as Answer;
use paramedic_promql::{InstantSample, Point};
use paramedic_respond::{Command, Desk};
use paramedic_runbook::execute::{BoxFuture, Hand, Order};
use paramedic_runbook::outcome::{Kept, Outcome};
use paramedic_runbook::predicate::Value;
use paramedic_runbook::render::Work;
use paramedic_telemetry::Store;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::changes;
use super::ended::Ended;
use super::logs::Question;

/// How far back a question to the events looks where its step does not say.
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// Samples of a query's answer that are kept.
const SAMPLES_MAX: usize = 100;

fn kept(text: String) -> Kept {
    Kept { bytes: text.len() as u64, text, cut: false }
}

/// Answers `promql` steps: the first sample's value, how many samples there are, and the first one's labels by name.
pub(super) struct Queries {
    pub(super) query: Arc<dyn Query>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Hand for Queries {
    fn carry<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let Work::Promql { expression } = &order.work else { return Outcome::fault("it is no query") };
            let limits = Limits { timeout: Some(order.timeout), ..Limits::default() };
            match self.query.instant(expression, self.clock.now().as_millis(), limits).await {
                Ok(answered) => of_answer(&answered.value),
                Err(refusal) => Outcome::fault(format!("the query was not answered: {refusal}")),
            }
        })
    }
}

fn of_answer(value: &Answer) -> Outcome {
    let mut outcome = Outcome::default();
    match value {
        Answer::Scalar(number) => {
            outcome.value = Some(*number);
            outcome.rows = Some(1);
            outcome.stdout = kept(number.to_string());
        }
        Answer::String(text) => outcome.stdout = kept(text.clone()),
        Answer::Vector(samples) => {
            let float = |point: &Point| match point {
                Point::Float(number) => Some(*number),
                Point::Histogram(_) => None,
            };
            outcome.rows = Some(samples.len() as u64);
            outcome.value = samples.first().and_then(|sample| float(&sample.value));
            if let Some(first) = samples.first() {
                outcome.fields = first.labels.iter().map(|label| (label.name.to_string(), Value::Text(label.value.to_string()))).collect();
            }
            let line = |sample: &InstantSample| match float(&sample.value) {
                Some(number) => format!("{} {number}", sample.labels),
                None => format!("{} (a histogram)", sample.labels),
            };
            let mut lines: Vec<String> = samples.iter().take(SAMPLES_MAX).map(line).collect();
            if samples.len() > SAMPLES_MAX {
                lines.push(format!("… and {} more", samples.len() - SAMPLES_MAX));
            }
            if samples.is_empty() {
                lines.push("no samples".to_owned());
            }
            outcome.stdout = kept(lines.join("\n"));
        }
        Answer::Matrix(series) => {
            outcome.rows = Some(series.len() as u64);
            outcome.stdout = kept(format!("{} series over a range; a step wants one moment", series.len()));
        }
    }
    outcome
}

/// Answers `logs` steps out of the stored events.
pub(super) struct Logs {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
}

impl Hand for Logs {
    fn carry<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let Work::Logs { query } = &order.work else { return Outcome::fault("it is no question to the events") };
            let question = match Question::parse(query) {
                Ok(question) => question,
                Err(why) => return Outcome::fault(why),
            };
            let (store, now) = (self.store.clone(), self.clock.now());
            let from = now.before(order.window.unwrap_or(WINDOW));
            let asked = tokio::task::spawn_blocking(move || question.ask(&store, from, now)).await;
            match asked {
                Ok(Ok(found)) => {
                    let fields = found.fields.iter().filter_map(|name| Some((name.clone(), Value::Text(found.top(name)?)))).collect();
                    #[expect(clippy::cast_precision_loss, reason = "a count of at most some hundred thousand")]
                    let value = found.matching as f64;
                    Outcome { value: Some(value), rows: Some(found.matching), stdout: kept(found.text()), fields, ..Outcome::default() }
                }
                Ok(Err(why)) => Outcome::fault(why),
                Err(error) => Outcome::fault(format!("the question was given up: {error}")),
            }
        })
    }
}

/// Carries out `action` steps.
pub(super) struct ActionHand {
    pub(super) actions: Actions,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) desk: Arc<Desk>,
    pub(super) ended: Ended,
    pub(super) clock: Arc<dyn Clock>,
}

impl ActionHand {
    async fn recent_changes(&self, call: &Call, order: &Order) -> Outcome {
        let window = match call.duration_or_none("window") {
            Ok(window) => window.unwrap_or(Duration::from_secs(3_600)),
            Err(error) => return Outcome::fault(format!("failed to {error}")),
        };
        let onset = match &order.about.incident {
            Some(id) => self.desk.incidents().await.get(&IncidentId(id.clone())).map(|incident| incident.started_at),
            None => None,
        };
        match changes::recent(self.journal.as_ref(), onset, self.clock.now(), window).await {
            Ok(found) => found.outcome(),
            Err(error) => Outcome::fault(format!("the journal cannot be read: {error}")),
        }
    }
}

impl Hand for ActionHand {
    fn carry<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let Work::Action { name, arguments } = &order.work else { return Outcome::fault("it is no action") };
            let arguments = match arguments {
                serde_json::Value::Object(map) => map.clone(),
                serde_json::Value::Null => serde_json::Map::new(),
                _ => return Outcome::fault("the arguments of an action are a map"),
            };
            let reason = match &order.about.incident {
                Some(incident) => format!("{} for {incident}", order.about.run),
                None => order.about.run.clone(),
            };
            let call = Call { action: name.clone(), arguments, by: order.about.by.clone(), reason };
            if name == "recent_changes" {
                return self.recent_changes(&call, order).await;
            }
            if order.dry {
                return self.actions.plan(&call).await.map_or_else(|error| failed(&error), |plan| of_plan(&plan));
            }
            let ending = self.ended.foreseen(&call);
            // An action is never dropped in its middle: when its time is over it is asked to stop, and says how far it came.
            let cancel = CancellationToken::new();
            let stop = cancel.clone();
            let limit = order.timeout.saturating_sub(Duration::from_millis(500));
            let timer = tokio::spawn(async move {
                tokio::time::sleep(limit).await;
                stop.cancel();
            });
            let done = self.actions.execute(&call, &cancel).await;
            timer.abort();
            // What survived was not stopped, and is watched on.
            let survivors = |done: &Done| done.after["survivors"].as_array().is_none_or(|survivors| !survivors.is_empty());
            if done.as_ref().is_ok_and(|(_, done)| !survivors(done)) {
                self.ended.tell(ending, &order.about, self.clock.now());
            }
            done.map_or_else(|error| failed(&error), |(plan, done)| of_done(&plan, &done))
        })
    }
}

fn failed(error: &ActionError) -> Outcome {
    Outcome::fault(secret::mask(&format!("failed to {error}")).into_owned())
}

fn of_plan(plan: &Plan) -> Outcome {
    let mut lines = vec![plan.what.clone()];
    lines.extend(plan.objects.iter().take(20).map(|object| format!("  {} {}: {}", object.kind, object.name, object.detail)));
    lines.extend(plan.exact.iter().take(20).map(|exact| format!("  exactly: {exact}")));
    lines.extend(plan.warnings.iter().map(|warning| format!("  beware: {warning}")));
    Outcome {
        affected: Some(plan.affected),
        of: plan.of,
        json: serde_json::to_value(plan).ok(),
        inverse: plan.inverse.as_ref().and_then(way_back),
        reverts_after_s: plan.reverts_after_s,
        stdout: kept(secret::mask(&lines.join("\n")).into_owned()),
        ..Outcome::default()
    }
}

fn of_done(plan: &Plan, done: &Done) -> Outcome {
    let mut lines = vec![done.what.clone(), format!("seen: {}", done.verified.how)];
    lines.extend(plan.warnings.iter().map(|warning| format!("beware: {warning}")));
    if !done.answer.is_null() {
        lines.push(text::capped(&done.answer.to_string(), 8 * 1024).into_owned());
    }
    let mut outcome = Outcome {
        affected: Some(done.affected),
        json: Some(if done.answer.is_null() { json!({ "before": done.before, "after": done.after }) } else { done.answer.clone() }),
        stdout: kept(secret::mask(&lines.join("\n")).into_owned()),
        fields: fields(&done.answer),
        inverse: done.inverse.as_ref().and_then(way_back),
        reverts_after_s: done.reverts_after_s,
        ..Outcome::default()
    };
    if let Some(value) = done.answer.get("value").and_then(serde_json::Value::as_f64) {
        outcome.value = Some(value);
    }
    if let Some(rows) = done.answer.get("rows").or_else(|| done.answer.get("count")).and_then(serde_json::Value::as_u64) {
        outcome.rows = Some(rows);
    }
    if !done.verified.holds {
        // It was done; that it is not seen to be so is not success.
        outcome.exit = Some(1);
    }
    outcome
}

/// A way back as it is kept. One with a secret in it is not kept: masked it would write the mask.
fn way_back(call: &Call) -> Option<serde_json::Value> {
    let json = serde_json::to_value(call).ok()?;
    let text = json.to_string();
    (secret::mask(&text) == text).then_some(json)
}

/// What an answer says by name, for conditions.
fn fields(answer: &serde_json::Value) -> BTreeMap<String, Value> {
    let plain = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => Some(Value::Text(text.clone())),
        serde_json::Value::Number(number) => number.as_f64().map(Value::Number),
        serde_json::Value::Bool(flag) => Some(Value::Flag(*flag)),
        _ => None,
    };
    let all = answer.as_object().into_iter().flatten();
    all.filter_map(|(name, value)| Some((name.clone(), plain(value)?))).collect()
}

/// Takes `message` steps: until there are channels, what is said stands in the incident's timeline.
pub(super) struct Messages {
    pub(super) desk: Arc<Desk>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Hand for Messages {
    fn carry<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let Work::Message { text } = &order.work else { return Outcome::fault("it is no message") };
            let now = self.clock.now();
            let said = filled(text, &order.about.known, now);
            let Some(incident) = &order.about.incident else {
                return Outcome { stdout: kept(said), ..Outcome::default() };
            };
            let note = Command::Note { incident: IncidentId(incident.clone()), text: format!("message: {said}") };
            match self.desk.command(&order.about.by, &note, now).await {
                Ok(_) => Outcome { affected: Some(1), stdout: kept(said), ..Outcome::default() },
                Err(error) => Outcome::fault(format!("the message could not be recorded: {error}")),
            }
        })
    }
}

/// A message with what is known in the places that it names; what nobody knows stays as it is, so that a person sees it.
fn filled(template: &str, known: &BTreeMap<String, String>, now: Timestamp) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let Some((name, then)) = after.split_once("}}") else {
            out.push_str("{{");
            rest = after;
            continue;
        };
        let name = name.trim();
        match known.get(name) {
            Some(value) => out.push_str(value),
            None if name == "now" => out.push_str(&now.to_string()),
            None => out.push_str(&format!("{{{{{name}}}}}")),
        }
        rest = then;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_is_known_and_show_what_is_not() {
        let known = BTreeMap::from([("service".to_owned(), "agent-api".to_owned())]);
        let said = filled("{{service}} is slow, {{ who }} looks. {{open", &known, Timestamp::from_secs(0));
        assert_eq!(said, "agent-api is slow, {{who}} looks. {{open");
    }

    #[test]
    fn what_was_done_and_not_seen_is_no_success() {
        let plan = Plan {
            action: "x".into(),
            what: "w".into(),
            effect: paramedic_action::Effect::Write,
            objects: Vec::new(),
            affected: 1,
            of: None,
            exact: Vec::new(),
            inverse: None,
            reverts_after_s: None,
            warnings: vec!["w2".into()],
            stands_on: String::new(),
        };
        let done = |holds| Done {
            what: "did".into(),
            affected: 1,
            before: json!(1),
            after: json!(2),
            answer: json!({"count": 3, "name": "n"}),
            inverse: Some(Call::new("y")),
            reverts_after_s: Some(9),
            verified: paramedic_action::Verified { holds, how: "looked".into() },
        };
        let good = of_done(&plan, &done(true));
        assert!(good.is_ok() && good.rows == Some(3) && good.reverts_after_s == Some(9));
        assert_eq!(good.fields["name"], Value::Text("n".into()));
        assert_eq!(good.inverse.as_ref().and_then(|call| call["action"].as_str()), Some("y"));
        assert!(good.stdout.text.contains("beware: w2"));
        assert!(!of_done(&plan, &done(false)).is_ok());
    }
}
