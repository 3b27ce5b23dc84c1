//! Keeps other web sites out of a server that listens on the reader's own machine.
//!
//! Two tricks are closed: a page of another site that posts here with the reader's browser (told by `Origin` and
//! `Sec-Fetch-Site`), and a name of another site that suddenly resolves to 127.0.0.1 (told by `Host`).

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};

use crate::context::Context;
use crate::error::{ApiError, Code};

/// Puts the check in front of every route of `router`.
pub fn protect(router: Router, context: Arc<Context>) -> Router {
    router.layer(middleware::from_fn_with_state(context, check_request))
}

async fn check_request(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    let open_to_probes = matches!(
        request.uri().path(),
        "/metrics" | "/health" | "/healthz" | "/health/live" | "/health/ready" | "/health/startup" | "/-/healthy" | "/-/ready"
    );
    let host = host_of(&request);
    let verdict = check(request.method(), request.headers(), &host, &context.about.host_names, request.uri().path() == "/ws");
    match verdict {
        Err(error) if !open_to_probes => {
            context.metrics.refused_cross_site.inc();
            error.into_response()
        }
        _ => next.run(request).await,
    }
}

fn host_of(request: &Request) -> String {
    let from_header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    from_header.or_else(|| request.uri().authority().map(axum::http::uri::Authority::as_str)).unwrap_or("").to_owned()
}

/// `upgrade` marks a WebSocket handshake: a GET that other sites may start and must not.
fn check(method: &Method, headers: &HeaderMap, host: &str, own: &[String], upgrade: bool) -> Result<(), ApiError> {
    if !is_own_host(host, own) {
        return Err(ApiError::new(
            Code::Forbidden,
            format!("this server is not called {:?}", paramedic_model::text::head(host, 100)),
            "open it as localhost or by its IP address, or name the host in the settings",
        ));
    }
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) && !upgrade;
    if reads {
        return Ok(());
    }
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let foreign_origin = header("origin").is_some_and(|origin| {
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        !authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
    });
    let foreign_fetch = header("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
    if foreign_origin || foreign_fetch {
        return Err(ApiError::new(
            Code::Forbidden,
            "a page of another site tried to change something here",
            "use Paramedic's own pages, its command line, or a client that sends no Origin header",
        ));
    }
    Ok(())
}

/// Loopback, any literal address (a rebinding attack needs a name), or a configured name. No host at all is a client
/// of the local socket or HTTP/1.0; browsers always send one.
fn is_own_host(host: &str, own: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.is_empty()
        || name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok()
        || own.iter().any(|one| one.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(method: &Method, host: &str, origin: Option<&str>, upgrade: bool) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(origin) = origin {
            headers.insert("origin", origin.parse().expect("header"));
        }
        check(method, &headers, host, &["paramedic.lan".to_owned()], upgrade).is_ok()
    }

    #[test]
    fn only_own_pages_may_write() {
        for (method, host, origin, upgrade, allowed) in [
            (Method::POST, "localhost:3333", None, false, true),
            (Method::POST, "localhost:3333", Some("http://localhost:3333"), false, true),
            (Method::POST, "localhost:3333", Some("http://localhost:4444"), false, false),
            (Method::POST, "localhost:3333", Some("https://evil.example"), false, false),
            (Method::POST, "localhost:3333", Some("null"), false, false),
            (Method::GET, "localhost:3333", Some("https://evil.example"), false, true),
            (Method::GET, "localhost:3333", Some("https://evil.example"), true, false),
            (Method::GET, "evil.example:3333", None, false, false),
            (Method::GET, "[::1]:3333", None, false, true),
            (Method::GET, "192.168.1.5:3333", None, false, true),
            (Method::GET, "paramedic.lan", None, false, true),
            (Method::POST, "", None, false, true),
        ] {
            assert_eq!(verdict(&method, host, origin, upgrade), allowed, "{method} {host} {origin:?} {upgrade}");
        }
    }
}
