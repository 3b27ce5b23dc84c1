//! The saved state: what was written stays readable.

use paramedic_detect::{CATALOGUE, DetectError, Detectors, Metrics, Settings};

use crate::script::{parse, play_one, show};

/// Everything that has a state is in it.
const BEFORE: &str = "0 prompt
    1 answer context=20000 usd=22 says=hm
    +4 x4 step Bash ls same
    +4 x2 fails Edit x no
    +4 compact
    +4 compact
    +4 retry 529 1/10
    +1 alive
    +1 limit allowed_warning five_hour";
const AFTER: &str = "60 retry 529 2/10
    61 retry 529 3/10
    62 answer
    63 call Bash ls
    64 ok same
    65 compact
    66 end";

fn run(detectors: &mut Detectors, script: &str) -> Vec<String> {
    let mut out = Vec::new();
    for doing in parse(script) {
        play_one(detectors, &doing, &mut out);
    }
    out.iter().map(show).collect()
}

#[test]
fn a_state_written_by_version_1_is_read() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/fixtures/state-v1.json");
    let mut fresh = Detectors::new(Settings::default());
    run(&mut fresh, BEFORE);
    if std::env::var_os("PARAMEDIC_WRITE_FIXTURES").is_some() {
        std::fs::write(path, fresh.save()).unwrap();
    }
    let mut loaded = Detectors::load(&std::fs::read(path).unwrap(), Settings::default()).unwrap();
    let said = run(&mut loaded, AFTER);
    assert_eq!(said, run(&mut fresh, AFTER));
    assert!(
        said.iter().any(|line| line.contains("repeat-exact SEV3")) && said.iter().any(|line| line.contains("api-overload SEV3 from")),
        "{said:#?}"
    );
}

/// A source that is read anew from the middle does not know of the tries before; the detectors do.
#[test]
fn a_restart_in_the_middle_of_a_burst_does_not_hide_that_the_client_gave_up() {
    let mut before = Detectors::new(Settings::default());
    run(&mut before, "0 prompt\n 10 retry 529 1/2\n 20 retry 529 2/2");
    let mut after = Detectors::load(&before.save(), Settings::default()).unwrap();
    let said = run(&mut after, "34 fail 529");
    assert!(said.iter().any(|line| line == "34 retries-exhausted SEV2 from=10 failed=1"), "{said:#?}");
    assert!(!said.iter().any(|line| line.contains("api-terminal-error")), "{said:#?}");
}

#[test]
fn another_version_and_rubbish_are_refused() {
    assert!(matches!(Detectors::load(b"{\"version\":2}", Settings::default()), Err(DetectError::Version { found: 2, known: 1 })));
    for bytes in [&b""[..], b"{}", b"[]", b"{\"version\":1}", b"\xff"] {
        assert!(matches!(Detectors::load(bytes, Settings::default()), Err(DetectError::Unreadable(_))), "{bytes:?}");
    }
}

#[test]
fn the_number_of_agents_is_bounded() {
    let settings = Settings { agents_max: 100, ..Settings::default() };
    let (mut detectors, mut out) = (Detectors::new(settings), Vec::new());
    for n in 0..1000 {
        for doing in parse(&format!("{n} @agent{n} fail 500")) {
            play_one(&mut detectors, &doing, &mut out);
        }
    }
    assert!(detectors.metrics().agents.get() <= 100);
    let ended = out.iter().filter(|change| change.state == paramedic_model::AlertState::Resolved).count() as u64;
    assert_eq!(ended, detectors.metrics().agents_evicted.get(), "who is dropped leaves no open alert");
}

#[test]
fn quiet_agents_are_forgotten() {
    let mut detectors = Detectors::new(Settings::default());
    run(&mut detectors, "0 fail 500\n 1000 tick\n 5000 tick\n 80000 tick");
    assert_eq!(detectors.metrics().agents.get(), 1);
    run(&mut detectors, "87000 tick");
    assert_eq!(detectors.metrics().agents.get(), 0);
}

#[test]
fn names_are_unique_and_settings_refuse_what_they_do_not_know() {
    let mut names: Vec<&str> = CATALOGUE.iter().map(|info| info.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), CATALOGUE.len());
    assert!(serde_json::from_str::<Settings>("{\"repeat_exact_note\":3}").is_ok());
    assert!(serde_json::from_str::<Settings>("{\"repeat_exact_notes\":3}").is_err());
}

#[test]
fn the_metrics_register() {
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = Metrics::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("paramedic_detect_events_total"), "{text}");
}
