//! What holds for every sequence of events.

use std::collections::BTreeMap;

use paramedic_detect::{AlertChange, Detectors, Settings};
use proptest::prelude::*;

use crate::script::{Doing, parse, play, play_one, time};

/// A line of a script, without its time.
fn line() -> impl Strategy<Value = String> {
    let fixed = [
        "prompt",
        "end",
        "bye",
        "record",
        "progress",
        "wait",
        "lost",
        "alive",
        "died",
        "compact",
        "compact manual",
        "retry 529 1/3",
        "retry 500 2/3",
        "retry network 3/3",
        "retry 429 1/3",
        "fail 529 exhausted",
        "fail 500",
        "fail 429",
        "fail 400",
        "limit rejected five_hour",
        "limit allowed_warning seven_day",
        "limit allowed x",
        "answer",
        "answer says=a usd=9",
        "answer says=a",
        "answer context=20000",
        "answer context=190000",
        "answer id=one usd=30",
        "call Bash a",
        "call Read b",
        "ok r",
        "err r",
        "rejected r",
        "sibling r",
        "step Bash a r",
        "step Bash a r",
        "step Bash a r",
        "step Read b s",
        "step Read b s",
        "fails Bash a e",
        "fails Edit c e",
        "step BashOutput p r",
    ];
    prop::sample::select(fixed.to_vec()).prop_map(str::to_owned)
}

fn gap() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0u32..20, 2 => 200u32..1200, 1 => 3000u32..9000, 1 => 80_000u32..100_000]
}

fn script(agent: &'static str) -> impl Strategy<Value = Vec<(u32, String)>> {
    prop::collection::vec((gap(), line()), 1..120).prop_map(move |lines| {
        lines
            .into_iter()
            .scan(0u32, |at, (gap, line)| {
                *at = at.saturating_add(gap);
                Some((*at, format!("{at} @{agent} {line}")))
            })
            .collect()
    })
}

fn events(lines: &[(u32, String)]) -> Vec<Doing> {
    parse(&lines.iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>().join("\n"))
}

fn by_agent(changes: Vec<AlertChange>) -> BTreeMap<String, Vec<AlertChange>> {
    let mut agents: BTreeMap<String, Vec<AlertChange>> = BTreeMap::new();
    for change in changes {
        agents.entry(change.agent.as_ref().map(ToString::to_string).unwrap_or_default()).or_default().push(change);
    }
    agents
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_same_events_give_the_same_alerts(lines in script("a")) {
        let doings = events(&lines);
        prop_assert_eq!(play(&doings, Settings::default()), play(&doings, Settings::default()));
    }

    #[test]
    fn agents_do_not_see_one_another(first in script("a"), second in script("b"), order in any::<u64>()) {
        let (first, second) = (events(&first), events(&second));
        let mut apart = play(&first, Settings::default());
        apart.extend(play(&second, Settings::default()));
        let (mut one, mut other, mut bits, mut mixed) = (first.into_iter().peekable(), second.into_iter().peekable(), order, Vec::new());
        while one.peek().is_some() || other.peek().is_some() {
            bits = bits.rotate_left(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            mixed.extend(if bits & 1 == 0 { one.next() } else { other.next() });
        }
        prop_assert_eq!(by_agent(play(&mixed, Settings::default())), by_agent(apart));
    }

    #[test]
    fn a_restart_in_the_middle_changes_nothing(lines in script("a"), cut in any::<prop::sample::Index>()) {
        let mut doings = events(&lines);
        doings.push(Doing::Finish);
        let cut = cut.index(doings.len());
        let (mut detectors, mut out) = (Detectors::new(Settings::default()), Vec::new());
        for (i, doing) in doings.iter().enumerate() {
            if i == cut {
                detectors = Detectors::load(&detectors.save(), Settings::default()).unwrap();
            }
            play_one(&mut detectors, doing, &mut out);
        }
        prop_assert_eq!(out, play(&doings, Settings::default()));
    }

    #[test]
    fn ticking_changes_nothing_but_silence(lines in script("a"), cadence in 1u32..2000) {
        let mut plain = events(&lines);
        plain.push(Doing::Finish);
        let mut ticked = Vec::new();
        let mut next = cadence;
        for doing in &plain {
            if let Doing::Event(event) = doing {
                while time(f64::from(next)) < event.at {
                    ticked.push(Doing::Tick(time(f64::from(next))));
                    next += cadence;
                }
            }
            ticked.push(doing.clone());
        }
        let others = |doings: &[Doing]| -> Vec<AlertChange> {
            play(doings, Settings::default()).into_iter().filter(|change| change.detector != "silence").collect()
        };
        prop_assert_eq!(others(&ticked), others(&plain));
    }

    #[test]
    fn every_episode_is_well_formed(lines in script("a")) {
        let mut doings = events(&lines);
        doings.push(Doing::Finish);
        let mut open: BTreeMap<String, AlertChange> = BTreeMap::new();
        for change in play(&doings, Settings::default()) {
            prop_assert!(change.at >= change.started_at, "{change:?}");
            prop_assert!(!change.reason.is_empty() && !change.evidence.is_empty(), "{change:?}");
            let before = open.remove(&change.fingerprint.0);
            match change.state {
                paramedic_model::AlertState::Firing => {
                    if let Some(before) = &before {
                        prop_assert_eq!(before.started_at, change.started_at);
                        prop_assert!(before.at <= change.at && before.severity <= change.severity, "{change:?} after {before:?}");
                    }
                    open.insert(change.fingerprint.0.clone(), change);
                }
                paramedic_model::AlertState::Resolved => prop_assert!(before.is_some(), "{change:?} was never on"),
            }
        }
        prop_assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn every_retry_and_every_failure_is_counted_once(lines in script("a")) {
        let mut doings = events(&lines);
        doings.push(Doing::Finish);
        let told = |kind: &str| doings.iter().filter(|doing| matches!(doing, Doing::Event(event) if event.kind() == kind)).count() as u64;
        let ended: Vec<AlertChange> =
            play(&doings, Settings::default()).into_iter().filter(|change| change.state == paramedic_model::AlertState::Resolved).collect();
        prop_assert_eq!(ended.iter().map(|change| change.counts.retries).sum::<u64>(), told("model-retry"));
        prop_assert_eq!(ended.iter().map(|change| change.counts.terminal_failures).sum::<u64>(), told("model-error"));
    }
}
