//! Probes answer what the instance is.

use paramedic_api::Phase;
use paramedic_api::health::Check;

use crate::{served, stage};

#[tokio::test(flavor = "multi_thread")]
async fn probes_follow_the_phase_and_the_checks() {
    let (stage, server) = served().await;
    let health = &stage.context.health;
    let paths = ["/health", "/health/live", "/health/ready", "/health/startup", "/healthz"];
    let check = |ok, essential| Check { ok, essential, detail: "looked".into(), checked_at: stage::now() };
    let cases: [(Phase, Option<Check>, [u16; 5]); 5] = [
        (Phase::Starting, None, [200, 200, 503, 503, 503]),
        (Phase::Ready, None, [200, 200, 200, 200, 200]),
        (Phase::Ready, Some(check(false, false)), [200, 200, 200, 200, 200]),
        (Phase::Ready, Some(check(false, true)), [503, 200, 503, 200, 503]),
        (Phase::Draining, Some(check(true, true)), [503, 200, 503, 200, 503]),
    ];
    for (phase, check, expected) in cases {
        health.set_phase(phase);
        if let Some(check) = &check {
            health.report("disk", check.clone());
        }
        for (path, status) in paths.iter().zip(expected) {
            let answer = server.get(path).await;
            assert_eq!(answer.status, status, "{path} while {phase:?} with {check:?}");
            assert!(answer.json()["status"].is_string(), "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_bounded_labels() {
    let (_stage, server) = served().await;
    for i in 0..50 {
        server.get(&format!("/api/v1/agents/nobody-{i}")).await;
    }
    let metrics = server.get("/metrics").await;
    assert_eq!(metrics.header("content-type").unwrap(), "text/plain; version=0.0.4; charset=utf-8");
    assert!(metrics.body.contains(r#"paramedic_api_requests_total{operation="agent.get",status="4xx"} 50"#), "{}", metrics.body);
    assert!(!metrics.body.contains("nobody"));
    assert!(metrics.body.contains("# TYPE paramedic_api_requests_total counter\n") && !metrics.body.contains("# EOF"));
}
