//! The cockpit: what is wrong, why, what do I do, did it work?

mod actions;
mod head;
mod people;
mod timeline;
mod why;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use paramedic_api::error::Code;
use paramedic_api::operations::incidents::{IncidentQuery, read};
use paramedic_api::{ApiError, Context};
use paramedic_model::{AgentId, IncidentState, Timestamp};
use paramedic_respond::Incident;
use paramedic_respond::decide::parse_incident_id;
use paramedic_runbook::RunDesk;
use paramedic_runbook::desk::{RunLine, RunView};
use paramedic_runbook::shelf::is_same_alert;

use crate::format::{agent_name, short};
use crate::forms::who::asked;
use crate::page::{self, Tab, said};
use crate::pages::agents::name_of;
use crate::pages::{answer, done_of, reader};
use crate::steps::Around;
use crate::work::{self, standing};
use crate::{axis, forms};

/// Agents looked up for their names.
const NAMES_MAX: usize = 200;
/// Runs of one incident that are listed; the page of runs has all.
const RUNS_MAX: usize = 8;
/// Runbooks to choose from.
const CHOICES_MAX: usize = 80;
const CHOICES_BYTES_MAX: usize = 5_000;

pub(crate) async fn page(
    State(context): State<Arc<Context>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let actor = forms::actor(&headers);
    let result = show(&context, id, query.as_deref().unwrap_or(""), &actor).await;
    answer(&context, Tab::Incidents, actor, result).await
}

async fn show(context: &Arc<Context>, id: String, query: &str, actor: &str) -> Result<(String, Markup), ApiError> {
    let detail = read(Arc::clone(context), reader(), IncidentQuery { id }).await?;
    let (incident, now) = (&detail.incident, context.now());
    let names = &Names::of_agents(context, incident);
    let drawings = why::drawings(context, incident, now).await;
    let runs = Runs::of(context, incident, query).await;
    // One primary button: the run's next step, else acknowledging, else resolving.
    let next = runs.shown.as_ref().is_some_and(|view| view.next.is_some());
    let settings = context.desk.settings();
    let body = html! {
        (said(done_of(query)))
        div id="head" data-live { (head::head(&detail, settings, actor, !next, now)) }
        div class="split" {
            div {
                div id="why" data-live {
                    h2 { "Why" }
                    @match &runs.shown {
                        Some(view) => (work::causes(view, &runs.titles)),
                        None => (why::evidence(incident, names, &drawings, now)),
                    }
                }
                div id="work" data-live { (work_part(context, &runs, incident, actor, now)) }
                // Who is woken needs the next step on the first screen; what the alerts said in full stands below it.
                div id="said" data-live { @if runs.shown.is_some() { h2 { "What the alerts say" } (why::evidence(incident, names, &drawings, now)) } }
                div id="axis" data-live { h2 { "When" } (axis::episodes(incident, names, now)) (why::alerts(incident, names, now)) }
                div id="affected" data-live { (why::affected(incident, names)) }
            }
            aside {
                div id="checklist" data-live { (people::list(incident, &detail.checklist, now)) }
                h2 { "Timeline" }
                (timeline::note_form(incident))
                div id="timeline" data-live { (timeline::timeline(&detail, names, now)) }
                div id="people" data-live { (people::people(incident, actor)) }
                div id="evidence" data-live { (people::attachments(incident)) }
                div id="actions" data-live { h2 { "Change the incident" } (actions::actions(incident, !next && incident.acknowledged_at.is_some())) }
                div id="later" data-live { (people::later(incident)) }
            }
        }
    };
    Ok((format!("{} {}", incident.id, short(&incident.title, 80)), body))
}

/// The runs of an incident, and the one that is shown.
struct Runs {
    lines: Vec<RunLine>,
    shown: Option<RunView>,
    titles: BTreeMap<String, String>,
    chosen: bool,
}

impl Runs {
    async fn of(context: &Context, incident: &Incident, query: &str) -> Self {
        let mut found = Self { lines: Vec::new(), shown: None, titles: BTreeMap::new(), chosen: false };
        let Some(parts) = &context.responding else { return found };
        found.lines = parts.runs.lines(|line| line.incident.as_deref() == Some(incident.id.0.as_str()));
        let wanted = query.split('&').find_map(|pair| pair.strip_prefix("run="));
        let by_name = |line: &&RunLine| wanted.is_some_and(|id| line.id == id);
        found.chosen = found.lines.iter().any(|line| by_name(&line));
        // The newest run of a runbook; a single action only when there is nothing else.
        let of_runbook = |line: &&RunLine| !line.runbook.starts_with("action/");
        let line = found.lines.iter().find(by_name).or_else(|| found.lines.iter().find(of_runbook)).or_else(|| found.lines.first());
        if let Some(line) = line {
            found.titles = titles(&parts.runs, line);
            found.shown = parts.runs.view(&line.id).await.ok();
        }
        found
    }
}

fn titles(runs: &RunDesk, line: &RunLine) -> BTreeMap<String, String> {
    work::titles(runs.shelf().get(&line.runbook).map(|shelved| &*shelved.runbook))
}

fn work_part(context: &Context, runs: &Runs, incident: &Incident, actor: &str, now: Timestamp) -> Markup {
    let here = format!("/incidents/{}", incident.id);
    html! {
        h2 { "What to do" }
        @if context.responding.is_none() { p class="soft" { "This instance runs no runbooks." } }
        @if let Some(view) = &runs.shown {
            @let back = if runs.chosen { format!("{here}?run={}", view.line.id) } else { here.clone() };
            (work::run(&Around { view, back: &back, actor, now, primary: true }, &runs.titles))
        }
        @let others = runs.lines.iter().filter(|line| runs.shown.as_ref().is_none_or(|view| view.line.id != line.id));
        @if runs.lines.len() > 1 {
            h3 { "Other runs for it" }
            ul class="rows" { @for line in others.take(RUNS_MAX) { li class="small wrap" { (standing(line)) " " a href=(format!("{here}?run={}", line.id)) { (short(&line.title, 100)) } " " span class="faint" { (line.id) } } } }
            @if runs.lines.len() > RUNS_MAX + 1 { p class="faint small" { "And " (runs.lines.len() - RUNS_MAX - 1) " older: " a href="/runs" { "all runs" } } }
        }
        (choose(context, runs, incident, actor))
    }
}

/// Another runbook, or the first one.
fn choose(context: &Context, runs: &Runs, incident: &Incident, actor: &str) -> Markup {
    let Some(parts) = &context.responding else { return html! {} };
    if incident.state == IncidentState::Merged {
        return html! {};
    }
    let mut lines = parts.runs.shelf().lines();
    // Those that answer to one of its alerts first.
    let answers =
        |alerts: &[String]| alerts.iter().any(|alert| incident.episodes.iter().any(|episode| is_same_alert(episode.name(), alert)));
    lines.sort_by_key(|line| (!answers(&line.alerts), line.title.to_lowercase()));
    let (choices, shown) = page::within(CHOICES_BYTES_MAX, lines.iter().take(CHOICES_MAX), |line| {
        html! { option value=(line.id) { (short(&line.title, 80)) @if answers(&line.alerts) { " (for its alert)" } } }
    });
    let none = runs.lines.is_empty();
    html! {
        @if none { p class="soft" { @if incident.state.is_open() { "No runbook runs for it." } @else { "No runbook ran for it." } " " @if lines.is_empty() { "There is none: name a folder under " code { "[runbook] folders" } "." } } }
        @if !lines.is_empty() {
            details class="small part" id="choose" open[none && incident.state.is_open()] { summary { @if none { "Start a runbook" } @else { "Start another runbook" } }
                form class="inline" method="post" action="/runs" {
                    input type="hidden" name="incident" value=(incident.id);
                    label { "Runbook" select name="runbook" { (choices) } }
                    (asked(actor))
                    button { "Start: look first" }
                }
                p class="faint" { "What changes something waits for you. " @if shown < lines.len() { a href="/runbooks" { "All " (lines.len()) " runbooks" } } @else { a href="/runbooks" { "Read them first" } } }
            }
        }
    }
}

/// An attachment as it is kept, to be saved: never shown as what it claims to be.
pub(crate) async fn attachment(State(context): State<Arc<Context>>, Path((id, number)): Path<(String, u64)>) -> Response {
    let none = || ApiError::new(Code::NotFound, "there is no such attachment", "");
    let found = async {
        let id = parse_incident_id(&id).ok_or_else(none)?;
        context.desk.attachment(&id, number).await.map_err(ApiError::from)?.ok_or_else(none)
    };
    match found.await {
        Ok((attachment, bytes)) => {
            let plain: String = attachment.name.chars().filter(|c| c.is_ascii_alphanumeric() || "._- ".contains(*c)).take(80).collect();
            let headers = [
                (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
                (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{}\"", if plain.is_empty() { "evidence" } else { &plain })),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
                (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox".to_owned()),
            ];
            (headers, bytes).into_response()
        }
        Err(error) => page::refusal(&context, &error).await,
    }
}

/// The agents' names as people know them, where the fleet still has them.
pub(crate) struct Names(BTreeMap<AgentId, String>);

impl Names {
    fn of_agents(context: &Context, incident: &Incident) -> Self {
        let fleet = context.fleet();
        let known = incident.agents.iter().take(NAMES_MAX).filter_map(|id| Some((id.clone(), name_of(&fleet.agent(id)?))));
        Self(known.collect())
    }

    pub(crate) fn of(&self, agent: &AgentId) -> String {
        self.0.get(agent).cloned().unwrap_or_else(|| agent_name(agent))
    }
}
