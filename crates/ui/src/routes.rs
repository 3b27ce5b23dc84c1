//! Which pages there are.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use paramedic_api::error::Code;
use paramedic_api::{ApiError, Context, guard};

use crate::{assets, forms, page, pages};

/// Everything for people, behind the same cross-site check as the API.
pub fn router(context: Arc<Context>) -> Router {
    let routes = Router::new()
        .route("/", get(pages::now::page))
        .route("/agents", get(pages::agents::page))
        .route("/agents/{*id}", get(pages::agent::page))
        .route("/incidents", get(pages::incidents::page).post(forms::open))
        .route("/incidents/{id}", get(pages::incident::page))
        .route("/incidents/{id}/{action}", post(forms::act))
        .route("/incidents/{id}/attachments/{number}", get(pages::incident::attachment))
        .route("/runbooks", get(pages::runbooks::page))
        .route("/runbooks/{*id}", get(pages::runbook::page))
        .route("/runs", get(pages::runs::page).post(forms::runs::start))
        .route("/runs/{id}", get(pages::run::page))
        .route("/runs/{id}/{what}", post(forms::runs::act))
        .route("/approvals", get(pages::approvals::page))
        .route("/actions", get(pages::actions::page))
        .route("/actions/{name}", get(pages::action::page))
        .route("/actions/{name}/plan", post(forms::actions::plan))
        .route("/actions/{name}/start", post(forms::actions::start))
        .route("/switches", get(pages::switches::page).post(forms::stops::switches))
        .route("/traffic", get(pages::traffic::page))
        .route("/brake", get(pages::brake::page).post(forms::stops::brake))
        .route("/alerts", get(pages::alerts::page))
        .route("/rules", get(pages::rules::page))
        .route("/targets", get(pages::targets::page))
        .route("/query", get(pages::query::page))
        .route("/events", get(pages::events::page))
        .route("/cost", get(pages::cost::page))
        .route("/connect", get(pages::connect::page))
        .route("/me", get(pages::me::page).post(forms::me))
        .route("/assets/{name}", get(assets::serve))
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(Arc::clone(&context), count))
        .with_state(Arc::clone(&context));
    guard::protect(routes, context)
}

async fn count(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    let began = tokio::time::Instant::now();
    let response = next.run(request).await;
    context.metrics.count("page", response.status().as_u16(), began.elapsed());
    response
}

async fn not_found(State(context): State<Arc<Context>>) -> Response {
    let error = ApiError::new(Code::NotFound, "there is no page at this address", "");
    page::refusal(&context, &error).await
}
