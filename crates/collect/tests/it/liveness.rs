//! Liveness files on disk, with this test's own process as the agent.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use paramedic_collect::config::TailSettings;
use paramedic_collect::liveness::run;
use paramedic_model::{Clock, Fact, SystemClock};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn a_running_client_is_seen_until_it_ends() {
    if !std::path::Path::new("/proc/self/stat").exists() {
        eprintln!("skipped: no /proc");
        return;
    }
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("sessions")).unwrap();
    let pid = std::process::id();
    let file = folder.path().join(format!("sessions/{pid}.json"));
    let body = format!(r#"{{"pid":{pid},"sessionId":"s1","cwd":"/repo","startedAt":{},"status":"busy"}}"#, SystemClock.now().as_millis());
    fs::write(&file, body).unwrap();
    fs::write(folder.path().join("sessions/junk.json"), "\u{0}{").unwrap();
    let (tx, mut rx) = mpsc::channel(4);
    let cancel = CancellationToken::new();
    let settings = TailSettings { liveness_s: 1, ..TailSettings::default() };
    let task = tokio::spawn(run(vec![folder.path().to_owned()], settings, Arc::new(SystemClock), tx, cancel.clone()));
    let mut next = async || tokio::time::timeout(Duration::from_secs(20), rx.recv()).await.expect("in time").expect("running").events;
    let events = next().await;
    assert!(matches!(&events[..], [event] if matches!(&event.fact, Fact::Process { alive: true, rss_bytes: Some(rss), .. } if *rss > 0)));
    assert_eq!(events[0].agent.as_ref().unwrap().as_str(), "s1");
    fs::remove_file(&file).unwrap();
    let events = next().await;
    assert!(matches!(&events[..], [event] if matches!(event.fact, Fact::Process { alive: false, .. })));
    cancel.cancel();
    tokio::time::timeout(Duration::from_secs(20), task).await.expect("ends when cancelled").unwrap();
}
