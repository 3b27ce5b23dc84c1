//! Under which name do I write?

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use maud::html;
use paramedic_api::Context;

use crate::forms;
use crate::page::Tab;
use crate::pages::answer;

pub(crate) async fn page(State(context): State<Arc<Context>>, headers: HeaderMap) -> Response {
    let actor = forms::actor(&headers);
    let body = html! {
        h1 { "Your name" }
        p class="soft" { "What you do is written into the journal under this name. It is a label, not a login." }
        form class="inline" method="post" action="/me" {
            label { "Name" input name="name" maxlength="40" autocomplete="username" value=(if actor == "web" { "" } else { &actor }); }
            button class="primary" { "Save" }
        }
        p class="faint" { "Now: " b { (actor) } }
    };
    answer(&context, Tab::None, actor.clone(), Ok(("Your name".to_owned(), body))).await
}
