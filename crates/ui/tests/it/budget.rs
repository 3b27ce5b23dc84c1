//! Any page stays small and fast with a large fleet, also when every name is as long and as hostile as it may be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use paramedic_model::{AlertChange, AlertState, Event, Fact, Fingerprint, ManualClock, Source, Timestamp, Usage};
use paramedic_respond::Command;

use crate::serve;
use crate::stage::{self, Stage};

const AGENTS: usize = 10_000;
const INCIDENTS: usize = 1_000;
const PAGE_BYTES_MAX: usize = 60_000;
/// Unoptimised code gets five times as long.
const PAGE_TIME_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 500 } else { 100 });

/// 10,000 agents with two events each, and an incident for each tenth.
async fn large(name_of: fn(usize) -> String) -> Stage {
    let stage = Stage::empty(Arc::new(ManualClock::at(stage::now()))).await;
    let text = "\"<&'>".repeat(60);
    for chunk in (0..AGENTS).collect::<Vec<_>>().chunks(2_000) {
        let events = chunk.iter().flat_map(|i| two_events(&name_of(*i), *i, &text)).collect();
        stage.take(events).await;
    }
    stage.context.fleet.write().unwrap().tick(stage::now());
    for i in 0..INCIDENTS {
        let command = Command::Open {
            title: format!("{i} {}", &text[..150]),
            incident_type: paramedic_model::IncidentType::Performance,
            severity: paramedic_model::Severity::ALL[i % 4],
            agents: (0..30).map(|j| paramedic_model::AgentId::new(name_of(i * 10 + j))).collect(),
            started_at: Some(stage::ago(60 + i as u64)),
            kind: paramedic_model::IncidentKind::Real,
        };
        stage.context.desk.command("kim", &command, stage::now()).await.unwrap();
    }
    for i in 0..100 {
        stage.context.desk.apply(&[note(&name_of(i), i, &text)], stage::now()).await.unwrap();
    }
    for _ in 0..80 {
        let command = Command::Note { incident: paramedic_model::IncidentId("INC-1".into()), text: text.repeat(4) };
        stage.context.desk.command("kim", &command, stage::now()).await.unwrap();
    }
    stage
}

fn note(name: &str, i: usize, text: &str) -> AlertChange {
    AlertChange {
        fingerprint: Fingerprint::new("repeat-exact", name, ""),
        detector: "repeat-exact".into(),
        agent: Some(paramedic_model::AgentId::new(name)),
        session: None,
        user: None,
        started_at: stage::ago(i as u64),
        at: stage::now(),
        state: AlertState::Firing,
        severity: None,
        incident_type: paramedic_model::IncidentType::Timeout,
        cause: format!("cause {i}"),
        reason: text.to_owned(),
        evidence: Vec::new(),
        counts: paramedic_model::alert::AlertCounts::default(),
        rule: None,
    }
}

fn two_events(name: &str, i: usize, text: &str) -> [Event; 2] {
    let at: Timestamp = stage::ago(i as u64 % 50);
    let mut prompt = Event::new(at, Source::Transcript, "user");
    prompt.agent = Some(paramedic_model::AgentId::new(name));
    prompt.text = text.into();
    prompt.fact = Fact::Prompt;
    let mut call = prompt.clone();
    call.at = at.after(Duration::from_secs(5));
    call.fact = Fact::ModelCall {
        message: Some(format!("msg_{i}").into()),
        model: Some(format!("model-{}", i % 40).into()),
        usage: Usage { input_tokens: 1_000, output_tokens: 100, ..Usage::default() },
        cost_usd: None,
        duration: Some(Duration::from_secs(2)),
        time_to_first_token: None,
        stop_reason: None,
        text_hash: None,
    };
    [prompt, call]
}

async fn check(stage: &Stage, first_agent: &str) {
    let server = serve(stage).await;
    let agent = format!("/agents/{first_agent}");
    let paths = [
        "/",
        "/agents",
        "/agents?after=9900",
        "/agents?text=model-7",
        "/agents?state=silent",
        &agent,
        "/incidents",
        "/incidents?after=500",
        "/incidents/1",
        "/incidents/900",
        "/alerts",
        "/alerts?which=notes&after=50",
        "/events",
        "/events?level=info",
        "/cost",
        "/connect",
        "/nothing",
    ];
    for path in paths {
        let (mut best, mut size) = (Duration::MAX, 0);
        for _ in 0..3 {
            let began = Instant::now();
            let answer = server.get(path).await;
            best = best.min(began.elapsed());
            size = answer.body.len();
            assert!(answer.status == 200 || path == "/nothing", "{path}: {}", answer.status);
            assert!(answer.body.len() < PAGE_BYTES_MAX, "{path} has {} bytes", answer.body.len());
        }
        assert!(best < PAGE_TIME_MAX, "{path} took {best:?}");
        eprintln!("{path}: {best:?}, {size} bytes");
    }
    assert!(server.get("/alerts").await.body.contains(" of 100 shown"));
    let page = server.get("/agents").await.body;
    assert!(page.contains(" of 10,000 shown"), "a cut list says so");
    assert!(page.contains("Next page"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_fleet_fits() {
    let stage = large(|i| stage::agent(&format!("agent-{i}")).to_string()).await;
    check(&stage, stage::agent("agent-0").as_str()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_hostile_fleet_fits() {
    let stage = large(|i| format!("{i:05}{}", "\"<&>'".repeat(50))).await;
    check(&stage, &format!("00000{}", "%22%3C%26%3E%27".repeat(50))).await;
}
