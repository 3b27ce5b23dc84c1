//! Who writes: the name that this browser remembers, or the one that comes with the form.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use maud::{Markup, html};
use paramedic_api::Caller;
use paramedic_api::Context;

use super::{NAME_BYTES_MAX, NAME_COOKIE, actor, is_name_char};
use crate::page::{Page, Tab};

/// A form with the name under it.
pub(crate) struct Signed {
    pub(crate) name: String,
    /// The name is new to this browser.
    cookie: Option<String>,
}

impl Signed {
    /// Who asks, for the operations of the API.
    pub(crate) fn caller(&self) -> Caller {
        Caller { actor: self.name.clone() }
    }

    /// The remembered name, else the given one, else none.
    pub(crate) fn of(headers: &HeaderMap, given: &str) -> Option<Self> {
        let signed = Self::or_web(headers, given);
        (signed.name != "web").then_some(signed)
    }

    pub(crate) fn or_web(headers: &HeaderMap, given: &str) -> Self {
        let (known, given) = (actor(headers), name_of(given));
        if known == "web" && !given.is_empty() {
            return Self { cookie: Some(cookie(&given)), name: given };
        }
        Self { name: known, cookie: None }
    }

    /// Lets the browser remember a new name.
    pub(crate) fn remember(&self, mut response: Response) -> Response {
        if let Some(value) = self.cookie.as_deref().and_then(|cookie| HeaderValue::from_str(cookie).ok()) {
            response.headers_mut().append(header::SET_COOKIE, value);
        }
        response
    }
}

/// A name as it is kept: without what a cookie cannot hold.
pub(crate) fn name_of(given: &str) -> String {
    given.trim().replace(' ', ".").chars().filter(|c| is_name_char(*c)).take(NAME_BYTES_MAX).collect()
}

pub(crate) fn cookie(name: &str) -> String {
    format!("{NAME_COOKIE}={name}; Path=/; Max-Age=31536000; SameSite=Strict; HttpOnly")
}

/// Asks on the spot, inside a form, where the browser has no name yet.
pub(crate) fn asked(actor: &str) -> Markup {
    html! { @if actor == "web" { label class="who-asked" { "Your name" input name="who" required maxlength="40" autocomplete="username"; } } }
}

/// Asks for the name on a page of its own, and sends the same form again.
pub(crate) async fn ask(context: &Context, path: &str, fields: &[(String, String)]) -> Response {
    let body = html! {
        h1 { "Who are you?" }
        p class="soft" { "What changes something is agreed to by a person. Your name goes into the record, and this browser remembers it. Nothing was done yet." }
        form class="inline" method="post" action=(path) {
            @for (name, value) in fields.iter().filter(|(name, _)| name != "who") { input type="hidden" name=(name) value=(value); }
            label { "Your name" input name="who" required maxlength="40" autocomplete="username" autofocus; }
            button class="primary" { "Go on" }
        }
    };
    Page::new(context, Tab::None, "Who are you?", body).await.into_response(StatusCode::OK)
}
