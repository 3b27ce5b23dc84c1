//! How do I connect an agent?

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use paramedic_api::{About, Context};

use crate::forms;
use crate::page::Tab;
use crate::pages::answer;

pub(crate) async fn page(State(context): State<Arc<Context>>, headers: HeaderMap) -> Response {
    answer(&context, Tab::None, forms::actor(&headers), Ok(("Connect an agent".to_owned(), body(&context.about)))).await
}

fn body(about: &About) -> Markup {
    let http = about.http.as_deref().unwrap_or("127.0.0.1:3333");
    html! {
        h1 { "Connect an agent" }
        p class="soft" { "Claude Code sessions on this machine are read from their transcripts by themselves. These lines add live telemetry and hooks." }
        @if !about.connect_lines.is_empty() {
            h2 { "Claude Code, in the shell that starts it" }
            pre { @for line in &about.connect_lines { (line) "\n" } }
            p { "Or let Paramedic write and later remove them: " code { "paramedic connect claude-code --write" } }
        }
        h2 { "Claude Code without a terminal" }
        pre { "claude -p --output-format stream-json --verbose \"…\" | paramedic ingest -" }
        h2 { "Any service with OpenTelemetry" }
        @if about.otlp_grpc.is_none() && about.otlp_http.is_none() {
            p class="soft" { "The OTLP receivers are off in this instance. " code { "paramedic up" } " starts them unless the settings say otherwise." }
        }
        pre {
            @if let Some(grpc) = &about.otlp_grpc { "OTEL_EXPORTER_OTLP_PROTOCOL=grpc OTEL_EXPORTER_OTLP_ENDPOINT=http://" (grpc) "\n" }
            @if let Some(otlp_http) = &about.otlp_http { "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf OTEL_EXPORTER_OTLP_ENDPOINT=http://" (otlp_http) "\n" }
            "OTEL_SERVICE_NAME=my-agent"
        }
        h2 { "A log file" }
        pre { "paramedic ingest my-agent.log" }
        h2 { "This instance" }
        table {
            (line("Pages, API and hooks", &format!("http://{http}")))
            @if let Some(address) = &about.otlp_grpc { (line("OTLP over gRPC", address)) }
            @if let Some(address) = &about.otlp_http { (line("OTLP over HTTP", &format!("http://{address}"))) }
            @if let Some(path) = &about.socket { (line("Local socket", path)) }
            (line("Data directory", &about.data_dir))
        }
        p class="soft small" { "Nothing arrives? " code { "paramedic doctor" } " checks receivers, rights, disk and clock." }
    }
}

fn line(name: &str, value: &str) -> Markup {
    html! { tr { td { (name) } td { code class="wrap" { (value) } } } }
}
