//! What all pages have in common: head, navigation, foot, and the strict headers they are sent with.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use paramedic_api::{ApiError, Context};
use paramedic_model::Timestamp;
use paramedic_runbook::RunDesk;
use paramedic_runbook::brake::BrakesView;

use crate::assets;
use crate::format::{absolute, short};
use crate::pages::brake;

/// Only our own files, no inline script or style, no frames, forms only to ourselves.
pub(crate) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Which part of the navigation a page belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tab {
    Now,
    Agents,
    Traffic,
    Incidents,
    Alerts,
    Rules,
    Targets,
    Query,
    Events,
    Cost,
    Runbooks,
    None,
}

const TABS: [(Tab, &str, &str); 11] = [
    (Tab::Now, "/", "Now"),
    (Tab::Agents, "/agents", "Agents"),
    (Tab::Traffic, "/traffic", "Traffic"),
    (Tab::Incidents, "/incidents", "Incidents"),
    (Tab::Runbooks, "/runbooks", "Runbooks"),
    (Tab::Alerts, "/alerts", "Alerts"),
    (Tab::Rules, "/rules", "Rules"),
    (Tab::Targets, "/targets", "Targets"),
    (Tab::Query, "/query", "Query"),
    (Tab::Events, "/events", "Events"),
    (Tab::Cost, "/cost", "Cost"),
];

/// A page's content and what the frame around it has to know.
pub(crate) struct Page {
    pub(crate) tab: Tab,
    pub(crate) title: String,
    pub(crate) body: Markup,
    /// Incidents that are open, shown beside their tab.
    pub(crate) open: usize,
    /// Steps that wait for people to agree, shown beside theirs.
    pub(crate) asking: usize,
    /// None where nothing runs.
    pub(crate) brakes: Option<BrakesView>,
    pub(crate) now: Timestamp,
    pub(crate) version: String,
    /// Who writes in this browser.
    pub(crate) actor: String,
}

impl Page {
    pub(crate) async fn new(context: &Context, tab: Tab, title: impl Into<String>, body: Markup) -> Self {
        let open = context.desk.incidents().await.open().len();
        let runs = context.responding.as_ref().map(|parts| &parts.runs);
        let brakes = match runs {
            Some(runs) => Some(runs.brakes().await),
            None => None,
        };
        let asking = runs.map_or(0, |runs| asking(runs));
        let (now, version) = (context.now(), context.about.version.clone());
        Self { tab, title: title.into(), body, open, asking, brakes, now, version, actor: "web".to_owned() }
    }

    pub(crate) fn by(mut self, actor: String) -> Self {
        self.actor = actor;
        self
    }

    pub(crate) fn into_response(self, status: StatusCode) -> Response {
        let headers = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "same-origin"),
            (header::CACHE_CONTROL, "no-store"),
        ];
        (status, headers, self.render().into_string()).into_response()
    }

    fn render(&self) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) " · Paramedic" }
                    link rel="icon" type="image/svg+xml" href=(assets::icon_path());
                    link rel="stylesheet" href=(assets::style_path());
                    script src=(assets::script_path()) defer {}
                }
                body {
                    a class="skip" href="#content" { "Skip to content" }
                    header class="top" { div {
                        a class="brand" href="/" { (mark()) "Paramedic" }
                        nav aria-label="Pages" { @for (tab, path, name) in TABS { (self.tab_link(tab, path, name)) } }
                        span class="livedot" id="live" role="status" { "not live" }
                        @if self.brakes.is_some() { (brake::switch(&self.actor)) }
                    } }
                    div id="braked" data-live { @if let Some(brakes) = &self.brakes { (brake::banner(brakes, &self.actor, self.now)) } }
                    main id="content" { (self.body) }
                    footer { div {
                        span { "Paramedic " (self.version) }
                        span { "Written " time id="written" datetime=(self.now) title=(absolute(self.now)) { (absolute(self.now)) } }
                        span { "You are " b { (self.actor) } " · " a href="/me" { "change" } }
                        a href="#keys" id="keys-open" { "Keys " kbd { "?" } }
                        a href="/connect" { "Connect an agent" }
                        a href="/api/openapi.json" { "API" }
                    } }
                    (keys())
                }
            }
        }
    }

    fn tab_link(&self, tab: Tab, path: &str, name: &str) -> Markup {
        html! {
            a href=(path) aria-current=[(tab == self.tab).then_some("page")] {
                (name)
                @if tab == Tab::Incidents {
                    span id="open-count" { @if self.open > 0 { span class="count" { (self.open) span class="sr" { " open" } } } }
                }
                @if tab == Tab::Runbooks {
                    span id="asking-count" { @if self.asking > 0 { span class="count asks" { (self.asking) span class="sr" { " waiting for approval" } } } }
                }
            }
        }
    }
}

fn mark() -> Markup {
    html! {
        svg viewBox="0 0 18 18" aria-hidden="true" {
            path d="M1 10h4l2-6 4 11 2-5h4" fill="none" stroke="currentColor" stroke-width="2" stroke-linejoin="round" stroke-linecap="round" {}
        }
    }
}

fn keys() -> Markup {
    let keys = [
        ("j", "next line"),
        ("k", "line before"),
        ("Enter", "open the line"),
        ("/", "search"),
        ("a", "acknowledge (on an incident)"),
        ("n", "write a note (on an incident)"),
        ("r", "go to the next step; Enter runs it"),
        ("?", "this list"),
        ("Esc", "close"),
    ];
    html! {
        dialog id="keys" aria-label="Keys" {
            h2 { "Keys" }
            table { @for (key, what) in keys { tr { td { kbd { (key) } } td { (what) } } } }
            form method="dialog" { p {} button { "Close" } }
        }
    }
}

/// Steps that wait for people to agree.
pub(crate) fn asking(runs: &RunDesk) -> usize {
    runs.asking()
}

/// A refusal as a page: what, why, what next.
pub(crate) async fn refusal(context: &Context, error: &ApiError) -> Response {
    refusal_with(context, error, None, "web").await
}

/// A refusal with the way back to where it was tried.
pub(crate) async fn refusal_with(context: &Context, error: &ApiError, back: Option<&str>, actor: &str) -> Response {
    let status = error.code.status();
    let title = if status == StatusCode::NOT_FOUND { "Not found" } else { "That did not work" };
    let body = html! {
        h1 { (title) }
        p class="wrap" { (short(&error.message, 500)) "." }
        @if !error.hint.is_empty() && status != StatusCode::NOT_FOUND { p class="soft wrap" { "What next: " (short(&error.hint, 500)) "." } }
        @if let Some(back) = back { p { a class="button primary" href=(back) { "Go back and look" } } }
        p { a href="/" { "What is happening now" } " · " a href="/agents" { "All agents" } " · " a href="/incidents" { "All incidents" } }
    };
    Page::new(context, Tab::None, title, body).await.by(actor.to_owned()).into_response(status)
}

/// What an action did, said once at the top of the page it leads to.
pub(crate) fn said(words: Option<&str>) -> Markup {
    html! { @if let Some(words) = words { p class="said" role="status" { (words) } } }
}

/// Renders items one by one until their text is `bytes_max` long, at least one; gives the text and how many it shows.
/// Names and texts of agents are theirs to choose, so a number of lines alone does not bound a page.
pub(crate) fn within<T>(bytes_max: usize, items: impl IntoIterator<Item = T>, mut render: impl FnMut(T) -> Markup) -> (Markup, usize) {
    let (mut text, mut shown) = (String::new(), 0);
    for item in items {
        let one = render(item).0;
        if shown > 0 && text.len() + one.len() > bytes_max {
            break;
        }
        text.push_str(&one);
        shown += 1;
    }
    (PreEscaped(text), shown)
}

/// Text that names a row for the script and cannot be long.
pub(crate) fn row_key(id: &str) -> String {
    format!("{:x}", assets::fnv1a(id.as_bytes()))
}

/// The links to further pages of a list, and how much of it is shown.
pub(crate) fn more(shown: usize, total: usize, first: Option<String>, next: Option<String>) -> Markup {
    html! {
        div class="more" {
            span class="faint" { @if shown < total { (shown) " of " (crate::format::count(total as u64)) " shown" } @else if total > 8 { (total) " in all" } }
            @if let Some(first) = first { a class="button" href=(first) { "Back to the start" } }
            @if let Some(next) = next { a class="button" href=(next) { "Next page" } }
        }
    }
}
