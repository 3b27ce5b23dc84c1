//! What did we switch for the gateway, and until when?

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use paramedic_action::switch::{End, KNOWN, Switch, SwitchReader};
use paramedic_api::{ApiError, Context};
use paramedic_model::Timestamp;

use crate::format::{ago, due, short};
use crate::forms::{self, who::asked};
use crate::page::{Tab, said, within};
use crate::pages::runbooks::ways;
use crate::pages::{answer, done_of};
use paramedic_api::operations::people::responding;

const BYTES_MAX: usize = 20_000;
const ENDED_MAX: usize = 20;

pub(crate) async fn page(State(context): State<Arc<Context>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let actor = forms::actor(&headers);
    let result = show(&context, query.as_deref().unwrap_or(""), &actor);
    answer(&context, Tab::Runbooks, actor, result).await
}

fn show(context: &Context, query: &str, actor: &str) -> Result<(String, Markup), ApiError> {
    let (store, now) = (&responding(context)?.switches, context.now());
    let (active, ended) = (store.active(now), store.ended());
    let title = match active.len() {
        0 => "No switch is set".to_owned(),
        1 => "1 switch is set".to_owned(),
        set => format!("{set} switches are set"),
    };
    let (rows, shown) = within(BYTES_MAX, &active, |switch| row(switch, actor, now));
    let readers = store.enforcers(now);
    let body = html! {
        (said(done_of(query)))
        (ways(context, "/switches"))
        div id="switches" data-live {
            h1 { (title) }
            @if readers.is_empty() { p class="soft" { "Nobody reads the list now: a switch takes effect when a gateway that reads it is there." } }
            @else { p class="soft wrap" { "Read by " (short(&readers.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", "), 200)) } }
            @if !active.is_empty() {
                ul class="rows" { (rows) }
                @if shown < active.len() { p class="faint" { (shown) " of " (active.len()) " shown" } }
            }
        }
        h2 { "Set one" }
        form class="inline" method="post" action="/switches" {
            label { "Switch" select name="switch" { @for known in KNOWN { option value=(known.name) title=(short(known.what, 120)) { (known.name) @if known.name.ends_with(':') { "…" } } } } }
            label { "Of (where it ends with :)" input name="of" maxlength="120"; }
            label { "Value" input name="value" required maxlength="200" placeholder="true"; }
            label { "For whom" input name="scope" maxlength="200" placeholder="all"; }
            label { "Minutes" input name="minutes" required inputmode="numeric" value="30" size="5"; }
            label { "Why" input name="why" required maxlength="500"; }
            (asked(actor))
            button { "Set" }
        }
        @if !ended.is_empty() {
            h2 { "Ended lately" }
            ul class="rows" { @for one in ended.iter().take(ENDED_MAX) {
                li class="small wrap" { b { (short(&one.switch.id, 80)) } " = " (short(&one.switch.value.to_string(), 60)) " " span class="soft" { @match one.end { End::Expired => "its time was over", End::Cleared => "cleared", End::Replaced => "set anew" } " " (ago(one.ended_at, now)) " by " (short(&one.by, 40)) } }
            } }
        }
    };
    Ok((title, body))
}

fn row(switch: &Switch, actor: &str, now: Timestamp) -> Markup {
    html! {
        li data-row=(crate::page::row_key(&switch.id)) {
            b { (short(&switch.switch, 80)) } " = " code { (short(&switch.value.to_string(), 80)) } " for " (short(&switch.scope.to_string(), 80)) " · ends " (due(switch.expires_at, now))
            p class="small soft wrap" { "by " (short(&switch.by, 60)) " " (ago(switch.set_at, now)) @if !switch.why.is_empty() { ": " (short(&switch.why, 200)) } }
            form class="answer" method="post" action="/switches" {
                input type="hidden" name="do" value="clear";
                input type="hidden" name="switch" value=(switch.switch);
                input type="hidden" name="scope" value=(switch.scope.to_string());
                (asked(actor))
                button class="plainly" { "Clear" }
            }
        }
    }
}
