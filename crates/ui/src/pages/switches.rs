//! What did we switch for the gateway, for whom and until when, and what else can be switched?

mod board;

pub(crate) use board::anchor;

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use paramedic_action::switch::{End, Ended};
use paramedic_api::operations::people::responding;
use paramedic_api::operations::switches::holding;
use paramedic_api::{ApiError, Context};
use paramedic_model::switch::{Switch, find};
use paramedic_model::{Timestamp, text};
use serde_json::Value;

use crate::format::{ago, count, due, money, short};
use crate::forms;
use crate::page::{Tab, said, within};
use crate::pages::runbooks::ways;
use crate::pages::{answer, done_of};

const CHIPS_BYTES_MAX: usize = 3_000;
const ENDED_MAX: usize = 12;

pub(crate) async fn page(State(context): State<Arc<Context>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let actor = forms::actor(&headers);
    let result = show(&context, query.as_deref().unwrap_or(""));
    answer(&context, Tab::Runbooks, actor, result).await
}

fn show(context: &Context, query: &str) -> Result<(String, Markup), ApiError> {
    let (store, now) = (&responding(context)?.switches, context.now());
    let (active, ended) = (holding(context)?, store.ended());
    let title = match active.len() {
        0 => "No switch is set".to_owned(),
        1 => "1 switch is set".to_owned(),
        set => format!("{set} switches are set"),
    };
    let (chips, shown) = within(CHIPS_BYTES_MAX, &active, |switch| chip(switch, now));
    let readers = store.enforcers(now);
    let body = html! {
        (said(done_of(query)))
        (ways(context, "/switches"))
        div id="switches" data-live data-every="5" {
            h1 { (title) }
            @if readers.is_empty() { p class="soft" { "Nobody reads the list now: a switch takes effect when a gateway that reads it is there." } }
            @else { p class="soft wrap" { "Read by " (short(&readers.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", "), 200)) } }
            @if !active.is_empty() {
                ul class="chips" { (chips) }
                @if shown < active.len() { p class="faint" { (shown) " of " (active.len()) " shown" } }
            }
        }
        (board::board(&active, context.gateway.as_ref(), now))
        (lately(&ended, now))
    };
    Ok((title, body))
}

/// One line of what holds, which leads to where it can be changed.
fn chip(switch: &Switch, now: Timestamp) -> Markup {
    html! {
        li data-row=(crate::page::row_key(&switch.id)) { a href=(format!("#{}", board::anchor(&switch.switch))) {
            b { (short(&switch.switch, 60)) } " " (value(switch)) " · " (short(&switch.scope.to_string(), 60)) " · " (until(switch, now))
        } }
    }
}

/// `$20.00`, `100`, `true`, `claude-haiku`.
pub(super) fn value(switch: &Switch) -> String {
    match &switch.value {
        Value::String(text) => short(text, 80),
        Value::Number(number) => number.as_u64().map_or_else(|| money(number.as_f64().unwrap_or_default()), count),
        other => short(&other.to_string(), 80),
    }
}

pub(super) fn until(switch: &Switch, now: Timestamp) -> Markup {
    html! {
        @if !switch.lasts() { "ends " (due(switch.expires_at, now)) }
        @else if find(&switch.switch).is_ok_and(|known| known.lasting) { "until it is cleared" }
        @else { "until its flag changes" }
    }
}

fn lately(ended: &[Ended], now: Timestamp) -> Markup {
    html! { @if !ended.is_empty() {
        h2 { "Ended lately" }
        ul class="rows" { @for one in ended.iter().take(ENDED_MAX) {
            li class="small wrap" { b { (short(&one.switch.id, 80)) } " " (text::head(&value(&one.switch), 60)) " " span class="soft" { @match one.end { End::Expired => "its time was over", End::Cleared => "cleared", End::Replaced => "set anew" } " " (ago(one.ended_at, now)) " by " (short(&one.by, 40)) } }
        } }
    } }
}
