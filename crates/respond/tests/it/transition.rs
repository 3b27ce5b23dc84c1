//! The state machine and the order of times, apart from everything else.

use paramedic_model::IncidentState::{self, Cancelled, Closed, Identified, Investigating, Merged, Mitigated, Resolved, Triage};
use paramedic_model::{Moment, Timestamp};
use paramedic_respond::transition::{Facts, Refusal, Times, next};

use crate::script::minute;

fn facts(merges: bool) -> Facts {
    Facts { at: minute(60.0), times: Times { started_at: minute(0.0), detected_at: minute(1.0), ..Times::default() }, merges }
}

/// Every pair of states, in the order of `IncidentState::ALL`: `.` may, a letter says why not.
const TABLE: [(IncidentState, &str); 8] = [
    //              T I D M R C X G
    (Triage, "a....n.t"),
    (Investigating, "sa...n.t"),
    (Identified, "s.a..n.t"),
    (Mitigated, "s..a.n.t"),
    (Resolved, "s.rra..t"),
    (Closed, "s.cccact"),
    (Cancelled, "s.xxxxat"),
    (Merged, "mmmmmmmM"),
];

fn refusal(letter: char) -> Option<Refusal> {
    Some(match letter {
        '.' => return None,
        'a' => Refusal::AlreadyThere,
        's' => Refusal::OnlyAtStart,
        'n' => Refusal::NotResolved,
        't' => Refusal::NoMergeTarget,
        'r' => Refusal::Resolved,
        'c' => Refusal::Closed,
        'x' => Refusal::Cancelled,
        'm' => Refusal::Merged,
        'M' => Refusal::MergedAlready,
        other => panic!("{other}"),
    })
}

#[test]
fn every_pair_of_states_is_allowed_or_refused_with_its_reason() {
    let mut pairs = 0;
    for (from, row) in TABLE {
        for (to, letter) in IncidentState::ALL.iter().zip(row.chars()) {
            assert_eq!(next(from, *to, &facts(false)).err(), refusal(letter), "{from} -> {to}");
            pairs += 1;
        }
    }
    assert_eq!(pairs, IncidentState::ALL.len().pow(2));
}

#[test]
fn everything_but_the_merged_can_be_merged_into_another() {
    for from in IncidentState::ALL {
        assert_eq!(next(*from, Merged, &facts(true)).is_ok(), *from != Merged, "{from}");
    }
}

#[test]
fn a_reason_is_a_sentence_for_a_person() {
    for letter in "asntrcxmM".chars() {
        let text = refusal(letter).unwrap().to_string();
        assert!(text.len() > 8 && !text.ends_with('.'), "{text}");
    }
}

/// Times in minutes: started, detected, acknowledged, mitigated, resolved, closed; -1: not yet.
fn times(minutes: [f64; 6]) -> Times {
    let at = |i: usize| (minutes[i] >= 0.0).then(|| minute(minutes[i]));
    Times {
        started_at: minute(minutes[0]),
        detected_at: minute(minutes[1]),
        acknowledged_at: at(2),
        mitigated_at: at(3),
        resolved_at: at(4),
        closed_at: at(5),
        mitigated_alone: false,
    }
}

#[test]
fn times_stand_in_order_or_are_refused_by_name() {
    let check = |minutes, expect: &str| {
        let said = times(minutes).check().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(if expect.is_empty() { said.is_empty() } else { said.starts_with(expect) }, "{minutes:?}: {said}");
    };
    check([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], "");
    check([0.0, 0.0, 0.0, 0.0, 0.0, 0.0], "");
    check([0.0, 1.0, -1.0, 3.0, -1.0, -1.0], "");
    check([2.0, 1.0, -1.0, -1.0, -1.0, -1.0], "detected at ");
    check([0.0, 3.0, 2.0, -1.0, -1.0, -1.0], "acknowledged at ");
    check([0.0, 1.0, 4.0, 3.0, -1.0, -1.0], "mitigated at ");
    check([0.0, 1.0, 2.0, 5.0, 4.0, -1.0], "resolved at ");
    check([0.0, 1.0, 2.0, 3.0, 6.0, 5.0], "closed at ");
    // Every pair, not only neighbours: nobody acknowledged it.
    check([5.0, 6.0, -1.0, 4.0, -1.0, -1.0], "mitigated at ");
}

#[test]
fn what_ended_alone_may_be_acknowledged_afterwards_but_not_after_it_was_resolved() {
    let late = Times { mitigated_alone: true, ..times([0.0, 1.0, 4.0, 3.0, -1.0, -1.0]) };
    assert_eq!(late.check(), Ok(()));
    let too_late = Times { mitigated_alone: true, ..times([0.0, 1.0, 9.0, 3.0, 8.0, -1.0]) };
    assert!(too_late.check().is_err());
}

#[test]
fn a_move_into_the_past_is_refused() {
    let known = times([0.0, 1.0, 5.0, -1.0, -1.0, -1.0]);
    let at = |minutes: f64| Facts { at: minute(minutes), times: known, merges: false };
    for to in [Mitigated, Resolved] {
        assert!(matches!(next(Investigating, to, &at(4.0)), Err(Refusal::OutOfOrder { earlier: "acknowledged", .. })), "{to}");
        assert_eq!(next(Investigating, to, &at(5.0)), Ok(()));
    }
    let resolved = times([0.0, 1.0, 5.0, 6.0, 7.0, -1.0]);
    let at = |minutes: f64| Facts { at: minute(minutes), times: resolved, merges: false };
    assert!(next(Resolved, Closed, &at(6.5)).is_err());
    assert_eq!(next(Resolved, Closed, &at(7.0)), Ok(()));
    assert_eq!(next(Resolved, Investigating, &at(0.0)), Ok(()), "what was over is open again: the old end does not count");
}

#[test]
fn a_time_that_is_not_known_cannot_be_corrected() {
    let open = times([0.0, 1.0, -1.0, -1.0, -1.0, -1.0]);
    for (moment, known) in [(Moment::Started, true), (Moment::Detected, true), (Moment::Mitigated, false), (Moment::Resolved, false)] {
        assert_eq!(open.with(moment, Timestamp::EPOCH).is_some(), known, "{moment}");
    }
}
