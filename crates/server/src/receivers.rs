//! Routes that take signals in: hooks, and whatever `paramedic ingest` sends.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use futures_util::StreamExt as _;
use paramedic_collect::sink::{Sink, SinkError};
use paramedic_collect::transcript::ParseOptions;
use paramedic_collect::{hook, log, stream_json, transcript};
use paramedic_model::{AgentId, Clock, Event, SessionId, Timestamp, limit, text};
use serde::{Deserialize, Serialize};

use crate::intake::Intake;

/// Largest hook body that is read. A larger one is still answered at once.
const HOOK_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a refused stream is still read.
const REFUSAL_DRAIN: Duration = Duration::from_millis(500);
/// Events of one ingest stream that are handed over together.
const INGEST_EVENTS_MAX: usize = 2_000;
/// Silence after which a log record of several lines is complete.
const LOG_QUIET: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Receivers {
    intake: Intake,
    clock: Arc<dyn Clock>,
}

pub(crate) fn router(intake: Intake, clock: Arc<dyn Clock>) -> Router {
    Router::new()
        .route("/hooks", post(hooks).layer(DefaultBodyLimit::max(HOOK_BYTES_MAX)))
        .route("/ingest", post(ingest).layer(DefaultBodyLimit::disable()))
        .with_state(Receivers { intake, clock })
}

/// Answers before anything is stored, always with an empty success: an agent waits for this answer, and must not
/// notice whether we are well.
async fn hooks(State(receivers): State<Receivers>, body: Bytes) -> StatusCode {
    let metrics = receivers.intake.metrics();
    metrics.hooks.inc();
    match hook::parse(&body, receivers.clock.now()) {
        Ok(events) => {
            // A full queue is counted; the transcript tells most of it again.
            let _ = receivers.intake.offer(events);
        }
        Err(error) => {
            metrics.hooks_refused.inc();
            tracing::debug!(%error, bytes = body.len(), "not a hook");
        }
    }
    StatusCode::OK
}

#[derive(Debug, Deserialize)]
struct IngestQuery {
    #[serde(default)]
    format: Format,
    /// The file's name, for formats whose path says something.
    #[serde(default)]
    name: String,
    /// The agent of log records that name none. Other formats always name theirs.
    #[serde(default)]
    agent: String,
    /// The session of log records that name none.
    #[serde(default)]
    session: String,
    /// The zone of log times that name none: `local` (this machine's), `UTC` or a name like `Europe/Berlin`.
    #[serde(default)]
    time_zone: String,
}

impl IngestQuery {
    fn log_options(&self) -> Result<log::Options, log::UnknownTimeZone> {
        let given =
            |name: &str| Some(text::one_line(text::head(name.trim(), limit::ID_BYTES_MAX)).into_owned()).filter(|name| !name.is_empty());
        let time_zone = if self.time_zone.is_empty() { log::TimeZone::local() } else { self.time_zone.parse()? };
        let (agent, session) = (given(&self.agent).map(AgentId::new), given(&self.session).map(SessionId::new));
        Ok(log::Options { agent, session, time_zone, ..log::Options::default() })
    }
}

/// What a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    #[default]
    Auto,
    StreamJson,
    Transcript,
    Hook,
    Log,
}

/// What became of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Ingested {
    pub format: Format,
    pub lines: u64,
    pub events: u64,
    pub bad_lines: u64,
}

async fn ingest(State(receivers): State<Receivers>, Query(query): Query<IngestQuery>, body: Body) -> Response {
    let mut stream = body.into_data_stream();
    let options = match query.log_options() {
        Ok(options) => options,
        Err(error) => {
            // A client that is still sending when we hang up may not get to read why.
            let _ = tokio::time::timeout(REFUSAL_DRAIN, async { while stream.next().await.is_some_and(|chunk| chunk.is_ok()) {} }).await;
            return invalid(&error);
        }
    };
    let mut reading = Reading::new(query.format, query.name, options);
    let mut lines = Lines::default();
    loop {
        // A log that is followed may say nothing for hours: what it said last must not wait for what it says next.
        let patience = if reading.is_gathering() { LOG_QUIET } else { Duration::MAX };
        match tokio::time::timeout(patience, stream.next()).await {
            Ok(Some(Ok(chunk))) => {
                let now = receivers.clock.now();
                lines.push(&chunk, &mut |line| reading.line(line, now));
            }
            Ok(_) => break,
            Err(_) => reading.flush(),
        }
        if let Err(error) = reading.hand_over(&receivers.intake).await {
            return refused(&error);
        }
    }
    let now = receivers.clock.now();
    lines.finish(&mut |line| reading.line(line, now));
    reading.finish(now);
    match reading.hand_over(&receivers.intake).await {
        Ok(()) => Json(reading.ingested).into_response(),
        Err(error) => refused(&error),
    }
}

fn invalid(error: &log::UnknownTimeZone) -> Response {
    let body = serde_json::json!({"error": {"code": "bad_request", "message": format!("failed to {error}"), "hint": "zones are named as in /usr/share/zoneinfo"}});
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

fn refused(error: &SinkError) -> Response {
    let body = serde_json::json!({"error": {"code": "unavailable", "message": format!("failed to {error}"), "hint": "look at the messages of paramedic up"}});
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

/// Cuts chunks into lines; a line beyond the limit is skipped whole.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
    is_skipping: bool,
}

impl Lines {
    fn push(&mut self, chunk: &[u8], see: &mut dyn FnMut(&[u8])) {
        let mut chunk = chunk;
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            if self.is_skipping {
                self.is_skipping = false;
                see(b"\0");
            } else if self.rest.is_empty() {
                see(&chunk[..end]);
            } else {
                self.rest.extend_from_slice(&chunk[..end]);
                see(&self.rest);
                self.rest.clear();
            }
            chunk = &chunk[end + 1..];
        }
        if self.is_skipping {
            return;
        }
        self.rest.extend_from_slice(chunk);
        if self.rest.len() > limit::LINE_BYTES_MAX {
            self.rest = Vec::new();
            self.is_skipping = true;
        }
    }

    fn finish(&mut self, see: &mut dyn FnMut(&[u8])) {
        if !self.rest.is_empty() {
            see(&std::mem::take(&mut self.rest));
        }
    }
}

/// One stream's parser.
enum Parser {
    Unknown,
    StreamJson(stream_json::Parser),
    Transcript(Box<transcript::Parser>),
    Hook,
    Log(log::Parser),
}

struct Reading {
    parser: Parser,
    name: String,
    log: log::Options,
    events: Vec<Event>,
    ingested: Ingested,
}

impl Reading {
    fn new(format: Format, name: String, log: log::Options) -> Self {
        let mut reading =
            Self { parser: Parser::Unknown, name, log, events: Vec::new(), ingested: Ingested { format, ..Ingested::default() } };
        if format != Format::Auto {
            reading.choose(format);
        }
        reading
    }

    fn choose(&mut self, format: Format) {
        self.ingested.format = format;
        self.parser = match format {
            Format::Auto => Parser::Unknown,
            Format::StreamJson => Parser::StreamJson(stream_json::Parser::new(ParseOptions::default())),
            Format::Transcript => {
                let name = if self.name.is_empty() { "stdin.jsonl" } else { &self.name };
                Parser::Transcript(Box::new(transcript::Parser::new(ParseOptions::default(), std::path::Path::new(name))))
            }
            Format::Hook => Parser::Hook,
            Format::Log => Parser::Log(log::Parser::new(self.log.clone())),
        };
    }

    fn line(&mut self, line: &[u8], now: Timestamp) {
        if matches!(self.parser, Parser::Unknown) {
            if line.trim_ascii().is_empty() {
                return;
            }
            self.choose(recognise(line));
        }
        self.ingested.lines += 1;
        let before = self.events.len();
        match &mut self.parser {
            Parser::Unknown => {}
            Parser::StreamJson(parser) => parser.parse(line, now, &mut self.events),
            Parser::Transcript(parser) => parser.parse(line, &mut self.events),
            Parser::Log(parser) => parser.feed(line, now, &mut self.events),
            Parser::Hook => match hook::parse(line, now) {
                Ok(events) => self.events.extend(events),
                Err(_) if line.trim_ascii().is_empty() => {}
                Err(_) => self.ingested.bad_lines += 1,
            },
        }
        self.ingested.events += (self.events.len() - before) as u64;
    }

    /// A log record is there that only a further line or silence completes.
    fn is_gathering(&self) -> bool {
        matches!(&self.parser, Parser::Log(parser) if parser.is_gathering())
    }

    fn flush(&mut self) {
        if let Parser::Log(parser) = &mut self.parser {
            let before = self.events.len();
            parser.flush(&mut self.events);
            self.ingested.events += (self.events.len() - before) as u64;
        }
    }

    fn finish(&mut self, now: Timestamp) {
        let before = self.events.len();
        match &mut self.parser {
            Parser::StreamJson(parser) => {
                parser.finish(now, &mut self.events);
                self.ingested.bad_lines = parser.counts.bad;
            }
            Parser::Transcript(parser) => self.ingested.bad_lines = parser.counts.bad + parser.counts.oversized,
            Parser::Log(parser) => parser.flush(&mut self.events),
            Parser::Hook | Parser::Unknown => {}
        }
        self.ingested.events += (self.events.len() - before) as u64;
    }

    async fn hand_over(&mut self, intake: &Intake) -> Result<(), SinkError> {
        while !self.events.is_empty() {
            let rest = self.events.split_off(self.events.len().min(INGEST_EVENTS_MAX));
            intake.accept(std::mem::replace(&mut self.events, rest)).await?;
        }
        Ok(())
    }
}

/// What a stream is, by its first line.
fn recognise(line: &[u8]) -> Format {
    let Ok(serde_json::Value::Object(object)) = serde_json::from_slice(line) else { return Format::Log };
    let has = |key: &str| object.contains_key(key);
    if has("hook_event_name") {
        Format::Hook
    } else if has("session_id") && has("type") {
        Format::StreamJson
    } else if has("type") && (has("sessionId") || has("uuid") || has("snapshot") || has("leafUuid")) {
        Format::Transcript
    } else {
        Format::Log
    }
}
