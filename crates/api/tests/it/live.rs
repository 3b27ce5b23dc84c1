//! The live stream: what changed, what was missed, and the last word.

use paramedic_api::Live;

use crate::served;
use crate::stage;

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_told_and_the_end_is_announced() {
    let (stage, server) = served().await;
    let (status, mut live) = server.live(None).await;
    assert!(status.contains("101"), "{status}");
    assert_eq!(live.json().await["type"], "hello");
    assert_eq!(server.post("/api/v1/incidents/2/note", r#"{"text":"x"}"#).await.status, 200);
    let told = live.json().await;
    assert_eq!(
        (told["type"].as_str(), told["incident"].as_str(), told["seq"].as_u64()),
        (Some("incident.updated"), Some("INC-2"), Some(1))
    );
    stage.context.live.send(Live::Shutdown { message: "stopping".into() }).unwrap();
    let last = live.json().await;
    assert_eq!((last["type"].as_str(), last["message"].as_str()), (Some("server_shutdown"), Some("stopping")));
    let (opcode, payload) = live.frame().await;
    assert_eq!((opcode, &payload[..2]), (8, &1001u16.to_be_bytes()[..]), "closed as going away");
}

#[tokio::test(flavor = "current_thread")]
async fn a_slow_client_is_told_how_much_it_missed() {
    let (stage, server) = served().await;
    let (_, mut live) = server.live(None).await;
    assert_eq!(live.json().await["type"], "hello");
    let (queue, extra) = (paramedic_api::context::LIVE_QUEUE_LEN, 100);
    // No await in between: the connection's task gets no turn until the queue has run over.
    for _ in 0..queue + extra {
        let news = Live::AgentUpdated { agent: stage::agent("docs"), state: "working".into() };
        stage.context.live.send(news).unwrap();
    }
    let first = live.json().await;
    assert_eq!((first["type"].as_str(), first["missed"].as_u64()), (Some("lagged"), Some(extra as u64)));
    let next = live.json().await;
    assert_eq!((next["type"].as_str(), next["seq"].as_u64()), (Some("agent.updated"), Some(extra as u64 + 1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_site_cannot_listen() {
    let (_stage, server) = served().await;
    let (status, _) = server.live(Some("https://evil.example")).await;
    assert!(status.contains("403"), "{status}");
    let (status, _) = server.live(Some(&format!("http://{}", server.0))).await;
    assert!(status.contains("101"), "{status}");
}
