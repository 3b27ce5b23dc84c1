//! What the fleet's look at agents gives.

use std::time::Duration;

use paramedic_meter::{AgentGauge, ProcessGauge, QueueGauge, Settings};
use paramedic_model::{Fact, Timestamp};

use crate::stage::{Stage, usage, working};

fn process(alive: bool, at: Timestamp) -> Option<ProcessGauge> {
    Some(ProcessGauge { alive, rss_bytes: Some(300_000_000), at })
}

#[test]
fn up_is_1_while_the_process_lives_0_when_it_died_at_work_and_then_ends() {
    let mut stage = Stage::new(Settings::default());
    let up = "up{job=\"agent\",instance=\"s1\"}";
    stage.prompt();
    let living = AgentGauge { process: process(true, stage.now), ..working("s1", stage.now) };
    stage.look(&[living]);
    stage.interval();
    assert_eq!(stage.value(up), 1.0);
    assert_eq!(stage.value("process_resident_memory_bytes{job=\"agent\"}"), 300_000_000.0);
    assert_eq!(stage.value("agent_requests_active"), 1.0);

    let died = stage.now;
    let dead = AgentGauge { state: "failed", process: process(false, died), ..working("s1", died) };
    for _ in 0..20 {
        stage.look(&[dead]);
        stage.interval();
    }
    assert_eq!(stage.value(up), 0.0);
    assert_eq!(stage.value("agent_up{agent_id=\"s1\"}"), 0.0);
    assert_eq!(stage.ask("up{job=\"agent\"} == 0").len(), 1);
    assert!(stage.ask("process_resident_memory_bytes").is_empty());
    assert_eq!(stage.value("agent_requests_active"), 0.0);
    assert_eq!(stage.value("agent_errors_total{error_type=\"process_died\"}"), 1.0);

    stage.now = died.after(Duration::from_secs(901));
    stage.look(&[dead]);
    stage.interval();
    assert!(stage.ask(up).is_empty(), "after a time it is gone, not down");
}

#[test]
fn a_regular_end_is_no_outage() {
    let mut stage = Stage::new(Settings::default());
    let living = AgentGauge { process: process(true, stage.now), ..working("s1", stage.now) };
    stage.look(&[living]);
    stage.interval();
    let ended = AgentGauge { state: "done", process: process(false, stage.now), ..working("s1", stage.now) };
    stage.look(&[ended]);
    stage.interval();
    for gone in ["up", "agent_up", "session_last_heartbeat", "agent_context_tokens", "stream_turn_count"] {
        assert!(stage.ask(gone).is_empty(), "{gone}");
    }
    assert_eq!(stage.value("sessions_active_count"), 0.0);
    assert!(stage.ask("agent_errors_total").is_empty());
}

#[test]
fn sessions_are_counted_by_project_and_sub_agents_are_none() {
    let mut stage = Stage::new(Settings::default());
    let now = stage.now;
    let agents = [
        working("s1", now),
        AgentGauge { project: Some("site"), state: "waiting", ..working("s2", now) },
        AgentGauge { is_subagent: true, ..working("s1/a", now) },
        AgentGauge { state: "done", ..working("s3", now) },
        AgentGauge { project: Some("site"), state: "waiting", process: process(true, now), ..working("s4", now) },
    ];
    stage.look(&agents);
    stage.interval();
    for (expression, expected) in [
        ("sessions_active_count", 3.0),
        ("sessions_active{project=\"shop\"}", 1.0),
        ("sessions_active{project=\"site\"}", 2.0),
        ("stream_active_monitors", 3.0),
        ("agents_by_state{state=\"working\"}", 2.0),
        ("agent_context_tokens{agent_id=\"s1\"} / agent_context_limit_tokens", 0.25),
        ("count(session_last_heartbeat)", 2.0),
        ("session_last_heartbeat{session_id=\"s1\",project=\"shop\"}", now.as_secs() as f64),
    ] {
        assert_eq!(stage.value(expression), expected, "{expression}");
    }
    assert!(stage.ask("session_last_heartbeat{session_id=\"s2\"}").is_empty(), "it waits for a person");
}

#[test]
fn mcp_servers_are_connected_while_a_session_says_so() {
    let mut stage = Stage::new(Settings::default());
    let told = |server: &str, status: &str| Fact::McpServer { server: Some(server.into()), status: status.into() };
    stage.tell(told("github", "connected"));
    stage.tell(told("db", "failed"));
    stage.tell(told("slow", "pending"));
    stage.agent = "s2";
    stage.tell(told("db", "connected"));
    let now = stage.now;
    stage.look(&[working("s1", now), working("s2", now)]);
    stage.interval();
    assert_eq!(stage.value("mcp_connection_state{server_name=\"db\"}"), 1.0, "one session has it");
    assert_eq!(stage.value("mcp_servers_connected"), 2.0);
    assert_eq!(stage.value("mcp_active_connections"), 2.0);
    stage.tell(told("db", "disconnected"));
    stage.look(&[working("s1", now), working("s2", now)]);
    stage.interval();
    assert_eq!(stage.value("mcp_client_connected{server_name=\"db\"}"), 0.0);
    assert_eq!(stage.value("mcp_servers_connected"), 1.0);
    stage.look(&[AgentGauge { state: "done", ..working("s1", now) }]);
    stage.interval();
    assert!(stage.ask("mcp_servers_connected").is_empty(), "no session, no outage");
}

#[test]
fn queues_are_those_that_are_watched() {
    let mut stage = Stage::new(Settings::default());
    stage.interval();
    assert!(stage.ask("agent_queue_depth").is_empty());
    let queue = QueueGauge { queue: "queue:priority:1", depth: 1_200, stale_jobs: Some(11) };
    stage.meter.queues(&[queue], stage.now);
    stage.interval();
    assert_eq!(stage.ask("agent_queue_depth > 1000").len(), 1);
    assert_eq!(stage.value("agent_stale_jobs_count"), 11.0);
    stage.meter.queues(&[], stage.now);
    stage.interval();
    assert!(stage.ask("agent_queue_depth").is_empty());
}

#[test]
fn turns_and_events_of_sub_agents_are_their_main_agents() {
    let mut stage = Stage::new(Settings::default());
    stage.interval();
    stage.tool("Bash", 1.0, paramedic_model::ToolOutcome::Success);
    stage.agent = "s1/a";
    stage.tool("Read", 1.0, paramedic_model::ToolOutcome::Success);
    stage.call(usage(1, 1, 0), 0.5);
    let now = stage.now;
    stage.look(&[working("s1", now)]);
    stage.interval();
    assert_eq!(stage.value("stream_turn_count"), 2.0);
    assert_eq!(stage.value("agent_cost_dollars_total{agent_id=\"s1\"}"), 0.5);
    assert!((stage.value("stream_events_per_second{agent_id=\"s1\"}") * 15.0 - 5.0).abs() < 1e-9);
    assert_eq!(stage.value("stream_monitor_total"), 1.0);
}
