//! Schedules, reloads and settings.

use std::sync::Arc;
use std::time::{Duration, Instant};

use paramedic_model::{SystemClock, TargetHealth};
use paramedic_probe::{Prober, Settings};
use paramedic_samples::Samples;
use tokio_util::sync::CancellationToken;

use crate::stage::{Manner, Stage, misbehaving, read_settings, until};

#[tokio::test]
async fn targets_are_looked_at_at_their_phase_until_they_leave_the_settings() {
    let port = misbehaving(Manner::Silent).await;
    let both = format!("interval_s = 1\ntcp = [{{ address = \"127.0.0.1:{port}\" }}]\ndns = [{{ name = \"localhost\" }}]");
    let stage = Stage::new(&both);
    let cancel = CancellationToken::new();
    let running = tokio::spawn(stage.prober.clone().run(cancel.clone()));
    until("both up", async || stage.prober.targets().iter().all(|target| target.health == TargetHealth::Up)).await;
    let at = |stage: &Stage| stage.prober.targets()[0].last_at.unwrap();
    let first = at(&stage);
    until("another look", async || at(&stage) > first).await;
    let phase = |at: paramedic_model::Timestamp| at.as_millis().rem_euclid(1_000);
    let drift = (phase(at(&stage)) - phase(first)).rem_euclid(1_000);
    assert!(!(150..=850).contains(&drift), "the phase is kept: {drift} ms");
    assert_eq!(stage.values("up").len(), 2);
    // One target leaves: its series end, the other's state stays.
    let before = stage.prober.targets()[1].clone();
    stage.prober.reload(&read_settings("interval_s = 1\ndns = [{ name = \"localhost\" }]")).unwrap();
    assert_eq!(stage.values("up{job=\"tcp\"}").len(), 0);
    assert!(stage.prober.targets()[0].last_at >= before.last_at);
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    assert_eq!(stage.values("up{job=\"tcp\"}").len(), 0, "and nobody looks again");
    // It comes back.
    stage.prober.reload(&read_settings(&both)).unwrap();
    until("both up again", async || stage.values("up == 1").len() == 2).await;
    cancel.cancel();
    tokio::time::timeout(Duration::from_secs(2), running).await.unwrap().unwrap();
    assert_eq!(stage.values("up").len(), 2, "the end of the program ends no series");
}

/// Targets that hang hold up neither the others nor the end.
#[tokio::test]
async fn hanging_targets_hold_up_nobody() {
    let port = misbehaving(Manner::Silent).await;
    let mut text = String::from("interval_s = 1\ntimeout_s = 1\nconcurrency_max = 64\ndns = [{ name = \"localhost\" }]\n");
    for i in 0..20 {
        text.push_str(&format!("[[http]]\nurl = \"http://127.0.0.1:{port}/{i}\"\n"));
    }
    let stage = Stage::new(&text);
    let begun = Instant::now();
    let looks = stage.prober.once().await;
    assert!(begun.elapsed() < Duration::from_millis(2_500), "{:?}", begun.elapsed());
    assert_eq!(looks.len(), 21);
    assert_eq!(stage.value("sum(up)"), 1.0);
    let cancel = CancellationToken::new();
    let running = tokio::spawn(stage.prober.clone().run(cancel.clone()));
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let begun = Instant::now();
    cancel.cancel();
    running.await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
}

#[test]
fn settings_that_cannot_be_meant_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let samples = Samples::open(folder.path(), paramedic_samples::Settings::default(), Arc::new(SystemClock)).unwrap();
    for (text, said) in [
        ("process = [{ name = \"x\" }]", "exactly one of `pid`"),
        ("process = [{ pid = 1, comm = \"x\" }]", "exactly one of `pid`"),
        ("postgres = [{}]", "`url`"),
        ("postgres = [{ url = \"postgres://u:hunter22@h:notaport/\" }]", "`url`"),
        ("postgres = [{ url_env = \"PARAMEDIC_TEST_NOT_SET\" }]", "PARAMEDIC_TEST_NOT_SET"),
        ("redis = [{ url = \"http://:hunter22@h\" }]", "`url`"),
        ("http = [{ url = \"ftp://x\" }]", "must begin with"),
        ("http = [{ url = \"http://user:hunter22@x/\" }]", "holds a user"),
        ("http = [{ url = \"http://x\", expect_body = \"(\" }]", "`expect_body`"),
        ("http = [{ url = \"http://x\", expect_status = [\"2yy\"] }]", "`expect_status`"),
        ("http = [{ url = \"https://x\", ca_file = \"/no/such/file\" }]", "`ca_file`"),
        ("tcp = [{ address = \"x\" }]", "`address`"),
        ("dns = [{ name = \"a..b\" }]", "`name`"),
        ("dns = [{ name = \"a\", record = \"MX\" }]", "needs a `server`"),
        ("dns = [{ name = \"a\" }, { name = \"a\" }]", "configured twice"),
        ("dns = [{ name = \"a\", interval_s = 0 }]", "`interval_s`"),
        ("dns = [{ name = \"a\", labels = { job = \"x\" } }]", "`labels`"),
        ("dns = [{ name = \"a\" }, { name = \"b\" }]\ntargets_max = 1", "`targets_max`"),
    ] {
        let failed = Prober::new(&read_settings(text), Arc::new(samples.clone()), Arc::new(SystemClock)).err();
        let failed = failed.unwrap_or_else(|| panic!("{text} is accepted")).to_string();
        assert!(failed.contains(said) && !failed.contains("hunter22"), "{text}: {failed}");
    }
    assert!(toml::from_str::<Settings>("hots = true").is_err());
    let shown = format!("{:?}", read_settings("postgres = [{ url = \"host=h password=abc\" }]\nredis = [{ url = \"redis://:abc@h\" }]"));
    assert!(!shown.contains("abc"), "{shown}");
}
