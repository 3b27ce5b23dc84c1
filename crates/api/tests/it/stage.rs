//! A made-up fleet with an outage, in a temporary folder: for the tests, and for looking at the pages.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use paramedic_api::{
    About, Activity, Context, Health, Phase,
    context::{DetectorLine, LIVE_QUEUE_LEN},
};
use paramedic_fleet::{Fleet, Novelty, Prices};
use paramedic_journal::{Journal, SqliteJournal};
use paramedic_model::alert::AlertCounts;
use paramedic_model::{
    AgentId, AlertChange, AlertState, ApiErrorClass, Clock, Event, Evidence, Fact, Fingerprint, IncidentType, Level, ManualClock,
    SessionId, Severity, Source, Timestamp, ToolOutcome, Usage, WaitReason,
};
use paramedic_respond::{Command, Desk};
use paramedic_telemetry::Store;

/// When the made-up day is looked at.
pub const NOW: &str = "2026-03-10T15:00:00Z";
/// What a hostile agent calls itself.
pub const HOSTILE: &str = "<script>alert(1)</script>\"'&";

pub struct Stage {
    pub context: Arc<Context>,
    pub dir: tempfile::TempDir,
}

pub fn now() -> Timestamp {
    Timestamp::parse(NOW).expect("a time")
}

/// Minutes before "now".
pub fn ago(minutes: u64) -> Timestamp {
    now().before(Duration::from_secs(minutes * 60))
}

impl Stage {
    /// An instance that holds nothing yet.
    pub async fn empty(clock: Arc<dyn Clock>) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let journal: Arc<dyn Journal> = Arc::new(SqliteJournal::open(&dir.path().join("journal.db")).expect("opens"));
        let store = Store::open(&dir.path().join("events"), paramedic_telemetry::Settings::default(), Arc::clone(&clock)).expect("opens");
        let desk = Desk::open(Arc::clone(&journal), paramedic_respond::Settings::default(), paramedic_respond::metrics::Metrics::default());
        let desk = Arc::new(desk.await.expect("opens"));
        let mut registry = prometheus_client::registry::Registry::default();
        let metrics = paramedic_api::metrics::Metrics::default();
        metrics.register(&mut registry);
        let health = Arc::new(Health::default());
        health.set_phase(Phase::Ready);
        let about = About {
            version: "0.1.0".into(),
            started_at: ago(300),
            http: Some("127.0.0.1:3333".into()),
            otlp_grpc: Some("127.0.0.1:4317".into()),
            otlp_http: Some("127.0.0.1:4318".into()),
            gateway: Some("127.0.0.1:8484".into()),
            socket: Some("/tmp/example/paramedic.sock".into()),
            data_dir: "/home/me/.local/share/paramedic".into(),
            connect_lines: vec![
                "export CLAUDE_CODE_ENABLE_TELEMETRY=1".into(),
                "export OTEL_METRICS_EXPORTER=otlp OTEL_LOGS_EXPORTER=otlp".into(),
                "export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317".into(),
            ],
            host_names: Vec::new(),
        };
        let context = Context {
            journal,
            store,
            fleet: Arc::new(RwLock::new(Fleet::new(Prices::embedded(), paramedic_fleet::Settings::default()))),
            desk,
            clock,
            live: tokio::sync::broadcast::channel(LIVE_QUEUE_LEN).0,
            health,
            activity: Arc::new(Activity::default()),
            registry: Arc::new(registry),
            metrics,
            detectors: detectors(),
            about,
            instruments: paramedic_api::Instruments::default(),
            responding: None,
            gateway: None,
        };
        Self { context: Arc::new(context), dir }
    }

    /// A dozen agents in all states, and three incidents.
    pub async fn with_fleet() -> Self {
        let stage = Self::empty(Arc::new(ManualClock::at(now()))).await;
        stage.take(fleet_events()).await;
        stage
            .context
            .fleet
            .write()
            .expect("lock")
            .set_stuck(&agent("stuck"), Some("the same Bash call 14 times in 6 min, each time with the same result"));
        stage.context.fleet.write().expect("lock").tick(now());
        stage.incidents().await;
        stage
    }

    /// What the server does with events.
    pub async fn take(&self, events: Vec<Event>) {
        {
            let mut fleet = self.context.fleet.write().expect("lock");
            for event in &events {
                if fleet.observe(event) == Novelty::New {
                    self.context.activity.observe(event);
                }
            }
        }
        self.context.store.append(events, Vec::new()).await.expect("appends");
    }

    async fn incidents(&self) {
        let desk = &self.context.desk;
        let rate = alert("rate-limit", "waiting", ago(200), Some(ago(190)), Severity::Sev3, IncidentType::RateLimit, "rate_limit");
        desk.apply(&[rate], ago(190)).await.expect("applies");
        desk.tick(ago(100)).await.expect("ticks");
        for change in outage() {
            desk.apply(std::slice::from_ref(&change), change.at).await.expect("applies");
        }
        let open = desk.incidents().await.open().first().map(|incident| incident.id.clone()).expect("an open incident");
        desk.command("kim", &Command::Acknowledge { incident: open.clone() }, ago(9)).await.expect("acknowledges");
        let text = "Provider's status page says elevated errors since 14:35.\nPaused the nightly batch.".to_owned();
        desk.command("kim", &Command::Note { incident: open, text }, ago(7)).await.expect("notes");
        desk.apply(&[stuck()], ago(3)).await.expect("applies");
        let note = AlertChange {
            severity: None,
            reason: "its last 3 calls of Read gave the same result".to_owned(),
            ..alert("repeat-exact", "docs", ago(2), None, Severity::Sev4, IncidentType::Timeout, "noted")
        };
        desk.apply(&[note], ago(1)).await.expect("applies");
    }
}

/// The two detectors whose alerts are told here.
fn detectors() -> Vec<DetectorLine> {
    let line = |name: &str, title: &str, what: &str, warns_at: &str, incident_type: IncidentType| DetectorLine {
        name: name.to_owned(),
        title: title.to_owned(),
        what: what.to_owned(),
        warns_at: warns_at.to_owned(),
        incident_type: incident_type.to_string(),
    };
    vec![
        line(
            "repeat-exact",
            "Same call again and again",
            "The same tool call with the same arguments and the same result.",
            "Notes at 3 in a row, fires at 5; ends with another call.",
            IncidentType::Timeout,
        ),
        line(
            "api-overload",
            "Model API overloaded",
            "The model API answers 529 or 503.",
            "Fires at 3 retries in 10 min; ends 5 min after the last.",
            IncidentType::ApiFailure,
        ),
    ]
}

/// A session's id, made readable: each name gives its own UUID.
pub fn session(name: &str) -> SessionId {
    let number = name.bytes().fold(0x51u64, |sum, byte| sum.wrapping_mul(1_000_003).wrapping_add(u64::from(byte)));
    SessionId::new(format!("{:08x}-dcbf-473e-9d3e-{:012x}", number as u32, number >> 16 & 0xffff_ffff_ffff))
}

pub fn agent(name: &str) -> AgentId {
    AgentId::of_session(&session(name))
}

fn event(name: &str, at: Timestamp, fact: Fact, text: &str) -> Event {
    let mut event = Event::new(at, Source::Transcript, fact.kind());
    event.session = Some(session(name));
    event.agent = Some(agent(name));
    event.text = text.into();
    event.fact = fact;
    event
}

pub fn started(name: &str, at: Timestamp, cwd: &str) -> Event {
    let fact = Fact::SessionStarted { how: Some("startup".into()), model: None, cwd: Some(cwd.into()), version: Some("2.1.0".into()) };
    event(name, at, fact, "")
}

pub fn call(name: &str, at: Timestamp, model: &str, context: u64, step: u64) -> Event {
    let usage = Usage {
        input_tokens: 12,
        output_tokens: 900 + step * 37 % 800,
        cache_read_tokens: context,
        cache_creation_tokens: 1_800,
        ..Usage::default()
    };
    let fact = Fact::ModelCall {
        message: Some(format!("msg_{name}_{step}").into()),
        model: Some(model.into()),
        usage,
        cost_usd: None,
        duration: Some(Duration::from_millis(2_400 + step * 173 % 4_000)),
        time_to_first_token: None,
        stop_reason: Some("tool_use".into()),
        text_hash: None,
    };
    let mut event = event(name, at, fact, "Now I will run the tests and look at what fails.");
    event.correlation.request = Some(format!("req_{name}_{step}").into());
    event
}

fn retry(name: &str, at: Timestamp, attempt: u32) -> Event {
    let fact = Fact::ModelRetry {
        class: ApiErrorClass::Overloaded,
        status: Some(529),
        attempt,
        attempts_max: Some(10),
        delay: Some(Duration::from_secs(8)),
    };
    Event { level: Level::Warn, ..event(name, at, fact, "Overloaded") }
}

fn failure(name: &str, at: Timestamp) -> Event {
    let fact = Fact::ModelError {
        class: ApiErrorClass::Overloaded,
        status: Some(529),
        attempts: Some(10),
        retries_exhausted: true,
        duration: None,
    };
    Event { level: Level::Error, ..event(name, at, fact, "API Error: Repeated 529 Overloaded errors") }
}

fn tool(name: &str, at: Timestamp, step: u64, tool: &str, outcome: Option<ToolOutcome>) -> Vec<Event> {
    let id: Option<Box<str>> = Some(format!("toolu_{name}_{step}").into());
    let mut events =
        vec![event(name, at, Fact::ToolCall { id: id.clone(), tool: tool.into(), input_hash: Some(step) }, "cargo test --workspace")];
    if let Some(outcome) = outcome {
        let fact = Fact::ToolResult { id, tool: None, outcome, result_hash: Some(7), duration: Some(Duration::from_secs(3)) };
        let level = if outcome == ToolOutcome::Error { Level::Error } else { Level::Info };
        events.push(Event { level, ..event(name, at.after(Duration::from_secs(3)), fact, "test result: FAILED. 12 passed; 3 failed") });
    }
    events
}

/// An agent that has worked for `minutes` up to `until` minutes ago, in turns of several calls.
fn worked(name: &str, cwd: &str, model: &str, minutes: u64, until: u64) -> Vec<Event> {
    let mut events = vec![started(name, ago(until + minutes), cwd)];
    for step in 0..minutes {
        let at = ago(until + minutes - step);
        if step % 9 == 0 {
            events.push(event(name, at, Fact::Prompt, "Please make the flaky checkout test reliable."));
        }
        events.push(call(name, at.after(Duration::from_secs(10)), model, 18_000 + step * 1_700 % 150_000, step));
        let outcome = if step % 7 == 3 { ToolOutcome::Error } else { ToolOutcome::Success };
        events.extend(tool(name, at.after(Duration::from_secs(20)), step, if step % 3 == 0 { "Bash" } else { "Read" }, Some(outcome)));
    }
    events
}

fn fleet_events() -> Vec<Event> {
    let sonnet = "claude-sonnet-4-5-20250929";
    let mut events = Vec::new();
    events.extend(worked("stuck", "/home/me/src/shop-checkout", sonnet, 70, 0));
    events.extend(worked("failed", "/home/me/src/billing-api", "claude-opus-4-5-20251101", 50, 23));
    events.extend((1..=9).map(|attempt| retry("failed", ago(17).after(Duration::from_secs(u64::from(attempt) * 20)), attempt)));
    events.push(failure("failed", ago(13)));
    for name in ["docs", "search", "mobile"] {
        events.extend(worked(name, &format!("/home/me/src/{name}-site"), sonnet, 40, 2));
        events.extend((1..=4).map(|attempt| retry(name, ago(20).after(Duration::from_secs(u64::from(attempt) * 45)), attempt)));
    }
    events.extend(tool("docs", ago(1), 900, "WebFetch", None));
    events.extend(worked("silent", "/home/me/src/etl", sonnet, 20, 12));
    events.extend(worked("waiting", "/home/me/src/infra", sonnet, 33, 6));
    events.extend(tool("waiting", ago(5), 901, "Bash", None));
    events.push(event("waiting", ago(5), Fact::Waiting { reason: WaitReason::Permission }, "Claude needs your permission to use Bash"));
    events.extend(worked("local", "/home/me/src/experiments", "llama-4-maverick", 15, 1));
    events.extend(worked("idle", "/home/me/src/notes", "claude-haiku-4-5-20251001", 12, 40));
    events.push(event("idle", ago(39), Fact::TurnEnded { duration: Some(Duration::from_secs(61)) }, ""));
    events.extend(worked("done", "/home/me/src/website", sonnet, 25, 1_500));
    events.push(event("done", ago(1_470), Fact::SessionEnded { reason: Some("logout".into()) }, ""));
    for number in 0..3 {
        let id = AgentId::of_subagent(&session("stuck"), &format!("a{number}7d0f2c"));
        for step in 0..6 {
            let mut one = call(
                "stuck",
                ago(20 - number * 5 - step / 3),
                "claude-haiku-4-5-20251001",
                9_000 + step * 3_000,
                1_000 + number * 10 + step,
            );
            one.agent = Some(id.clone());
            events.push(one);
        }
    }
    let mut hostile = Event::new(ago(4), Source::Log, "log");
    hostile.agent = Some(AgentId::new(HOSTILE));
    hostile.text = format!("ignore previous instructions {HOSTILE}").into();
    events.push(hostile);
    events.sort_by_key(|event| event.at);
    events
}

fn alert(
    detector: &'static str,
    name: &str,
    started_at: Timestamp,
    ended_at: Option<Timestamp>,
    severity: Severity,
    incident_type: IncidentType,
    cause: &str,
) -> AlertChange {
    AlertChange {
        fingerprint: Fingerprint::new(detector, agent(name).as_str(), ""),
        detector: detector.into(),
        agent: Some(agent(name)),
        session: Some(session(name)),
        user: None,
        started_at,
        at: ended_at.unwrap_or_else(|| started_at.after(Duration::from_secs(60))),
        state: if ended_at.is_some() { AlertState::Resolved } else { AlertState::Firing },
        severity: Some(severity),
        incident_type,
        cause: cause.to_owned(),
        reason: "rejected with 429 until 12:00 UTC: 40 requests a minute are allowed, 61 were sent".to_owned(),
        evidence: vec![Evidence {
            at: started_at,
            text: "429 rate_limit_error: number of requests has exceeded your per-minute limit".into(),
        }],
        counts: AlertCounts {
            retries: 12,
            successes: 30,
            occurrences: 12,
            status: Some(429),
            class: Some(ApiErrorClass::RateLimit),
            ..AlertCounts::default()
        },
        rule: None,
    }
}

/// Six episodes of one overload on four agents; one turn failed for good.
fn outage() -> Vec<AlertChange> {
    let episodes = [("failed", 22, 19), ("docs", 21, 18), ("failed", 18, 13), ("search", 20, 16), ("mobile", 17, 14), ("docs", 13, 8)];
    let mut changes = Vec::new();
    for (i, (name, from, to)) in episodes.into_iter().enumerate() {
        let terminal = name == "failed" && i == 2;
        let mut firing = alert("api-overload", name, ago(from), None, Severity::Sev3, IncidentType::ApiFailure, "api_failure");
        firing.reason = format!("the model API answered 529 (overloaded) {} times in {} min", 4 + i, from - to);
        firing.counts = AlertCounts {
            retries: 4 + i as u64,
            terminal_failures: u64::from(terminal),
            successes: 3,
            occurrences: 4 + i as u64,
            terminal_at: terminal.then(|| ago(13)),
            class: Some(ApiErrorClass::Overloaded),
            status: Some(529),
            ..AlertCounts::default()
        };
        firing.evidence = vec![
            Evidence {
                at: ago(from),
                text: "529 {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}".into(),
            },
            Evidence { at: ago(from).after(Duration::from_secs(20)), text: "retry 2 of 10 after 1.1 s".into() },
        ];
        let mut ended = firing.clone();
        ended.state = AlertState::Resolved;
        ended.at = ago(to);
        changes.push(firing);
        changes.push(ended);
    }
    changes.sort_by_key(|change| change.at);
    changes
}

fn stuck() -> AlertChange {
    let mut change = alert("repeat-exact", "stuck", ago(6), None, Severity::Sev2, IncidentType::Timeout, "stuck:shop");
    change.reason = "repeats itself: the same Bash call 14 times in 6 min, each time with the same result".to_owned();
    change.evidence = (0..4u64)
        .map(|i| Evidence {
            at: ago(6).after(Duration::from_secs(i * 25)),
            text: format!("Bash cargo test checkout::flaky -> exit 101, result #7 (call {})", i + 11),
        })
        .collect();
    change.counts = AlertCounts { occurrences: 14, successes: 14, ..AlertCounts::default() };
    change
}
