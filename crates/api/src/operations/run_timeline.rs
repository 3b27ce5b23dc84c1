//! Records of runs as lines of a timeline.

use paramedic_journal::Entry as Written;
use paramedic_model::text;
use paramedic_respond::timeline::TimelineItem;
use paramedic_runbook::classify::Effect;
use paramedic_runbook::gate::{Authority, Decision};
use paramedic_runbook::plan::Approval;
use paramedic_runbook::run::{Done, Ending, Entry, Record, Verdict};

/// Longest part of a line that a step or a person said, in bytes.
const PART_BYTES_MAX: usize = 300;

/// The line for an entry about a run; none for what a reader of the incident's story does not need.
#[must_use]
pub fn describe(written: &Written) -> Option<TimelineItem> {
    let item = |text: String| TimelineItem {
        seq: written.seq,
        at: written.at,
        recorded_at: written.at,
        actor: written.actor.clone(),
        kind: written.kind.clone(),
        text,
    };
    match serde_json::from_value::<Entry>(written.payload.clone()) {
        Ok(entry) => describe_record(&entry.run, &entry.record).map(item),
        Err(error) => Some(item(format!("this entry cannot be shown: {error}"))),
    }
}

/// The sentence for a record.
#[must_use]
pub fn describe_record(run: &str, record: &Record) -> Option<String> {
    let said = match record {
        Record::Started { title, mode, .. } => format!("began the runbook {title} ({} mode)", word(mode)),
        Record::Given { inputs, .. } => {
            let inputs: Vec<String> = inputs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("was given {}", part(&inputs.join(", ")))
        }
        Record::Ranked { causes } => match causes.first().filter(|first| first.score > 0.0) {
            Some(first) => format!("the likeliest cause is {} (score {:.2})", first.cause, first.score),
            None => "no cause has anything that speaks for it".to_owned(),
        },
        Record::Agreed { agreed } => {
            format!("{} approved by {} (hash {})", agreed.step, agreed.by.name, text::head(&agreed.hash, 12))
        }
        Record::LookAgain { why, .. } => format!("looks again: {}", part(why)),
        Record::Again { step, .. } => format!("{step} is to run once more"),
        Record::TakeBack { step, why, .. } => format!("{step} is to be taken back: {}", part(why)),
        Record::Held { step, decision } => held(step, decision)?,
        Record::Begun { step, effect, argv, authority, dry, takes_back, .. } => {
            begun(step, *effect, argv, authority, *dry, takes_back.as_deref())
        }
        Record::Foreseen { step, what, reverts_after_s, .. } => {
            let until = reverts_after_s.map_or_else(String::new, |seconds| format!("; it is taken back by itself after {seconds} s"));
            format!("{step} will {}{until}", part(what))
        }
        Record::Done { step, dry, done } => format!("{step}{}: {}", if *dry { " (dry)" } else { "" }, ended(done)),
        Record::Skipped { step, why } => format!("{step} left out: {}", part(why)),
        Record::LeftOut { step, by, why } => format!("{step} left out by {}: {}", by.name, part(why)),
        Record::Interrupted { step, still_running } if still_running.is_empty() => {
            format!("{step} is in doubt: it began, and nobody knows how it ended")
        }
        Record::Interrupted { step, still_running } => {
            format!("{step} is in doubt: it began, and nobody knows how it ended; of it still runs: {}", part(&still_running.join(", ")))
        }
        Record::Reverting { step, attempt, .. } => match attempt {
            1 => format!("the time of {step} is over: it is taken back"),
            attempt => format!("{step} is taken back, attempt {attempt}"),
        },
        Record::Reverted { step, done } => match done.verdict {
            Verdict::Ok => format!("{step} taken back"),
            _ => format!("{step} could not be taken back: {}", part(&done.why)),
        },
        Record::Verified { step, met: true, why } => format!("{step} verified: {}", part(why)),
        Record::Verified { step, met: false, why } => format!("{step} did not help: {}", part(why)),
        Record::Ended { outcome, why } => {
            let how = match outcome {
                Ending::Done => "done",
                Ending::TakenBack => "ended with its change taken back",
                Ending::Stopped => "stopped",
                Ending::CalledOff => "called off",
            };
            if why.is_empty() { how.to_owned() } else { format!("{how}: {}", part(why)) }
        }
        // Said by the approval or the beginning that comes with it; what was observed has its own lines.
        Record::Chosen { .. } | Record::Observed { .. } => return None,
    };
    Some(format!("{run}: {said}"))
}

fn held(step: &str, decision: &Decision) -> Option<String> {
    Some(match decision {
        Decision::Ask { needs, missing, .. } => {
            let whom = match needs {
                Approval::Role(role) => format!("a {role}"),
                Approval::Two if *missing > 1 => "two people".to_owned(),
                Approval::Two => "a second person".to_owned(),
                Approval::None | Approval::Any => "somebody".to_owned(),
            };
            format!("{step} waits for {whom} to approve it")
        }
        Decision::Refuse { reason } => format!("{step} is refused: {}", part(reason)),
        Decision::Wait { reason, .. } => format!("{step} waits: {}", part(reason)),
        Decision::Run { .. } | Decision::DryRun { .. } => return None,
    })
}

fn begun(step: &str, effect: Effect, argv: &[String], authority: &Authority, dry: bool, takes_back: Option<&str>) -> String {
    let verb = match (dry, effect) {
        (true, _) => "is tried dry",
        (false, Effect::Read) => "looks",
        (false, Effect::Write | Effect::Destroy) => "begun",
    };
    let who = match authority {
        Authority::People { names } => format!(", approved by {}", names.join(" and ")),
        Authority::Policy { name } => format!(", allowed by the policy {name}"),
        Authority::Rollback { of } => format!(", takes back {of}"),
        Authority::Reading | Authority::Test => takes_back.map_or_else(String::new, |of| format!(", takes back {of}")),
    };
    format!("{step} {verb}{who}: {}", part(&argv.join(" ")))
}

fn ended(done: &Done) -> String {
    let how = match (done.verdict, done.exit, done.signal) {
        (_, _, Some(signal)) => format!("ended by signal {signal}"),
        (_, Some(exit), None) => format!("exit {exit}"),
        (Verdict::Ok, None, None) => "done".to_owned(),
        (_, None, None) => "failed".to_owned(),
    };
    let affected = done.affected.map_or_else(String::new, |count| format!(", {count} affected"));
    let why = if done.why.is_empty() { String::new() } else { format!(": {}", part(&done.why)) };
    format!("{how} after {} ms{affected}{why}", done.ms)
}

fn part(text: &str) -> String {
    text::one_line(&text::capped(text, PART_BYTES_MAX)).into_owned()
}

/// A name as it stands in JSON.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use paramedic_runbook::gate::{Agreed, Person};

    use super::*;

    #[test]
    fn each_record_is_a_sentence() {
        let done = Done {
            verdict: Verdict::Ok,
            why: String::new(),
            exit: Some(0),
            signal: None,
            ms: 12,
            output_hash: String::new(),
            output_bytes: 0,
            shown: String::new(),
            found: std::collections::BTreeMap::new(),
            captured: std::collections::BTreeMap::new(),
            affected: Some(3),
            of: None,
            inverse: None,
            reverts_after_s: None,
        };
        let step = || "fix".to_owned();
        let check = |record: Record, expect: Option<&str>| {
            assert_eq!(describe_record("RUN-1", &record).as_deref(), expect, "{record:?}");
        };
        let by = Person::human("ana");
        let started = serde_json::json!({
            "record": "started", "runbook": "rate-limits", "title": "Rate limits", "document": "", "mode": "step", "target": "x",
            "incident": null, "by": by, "inputs": {},
        });
        let started = serde_json::from_value(started).unwrap();
        check(started, Some("RUN-1: began the runbook Rate limits (step mode)"));
        let agreed = Agreed { by, run: "RUN-1".to_owned(), step: step(), hash: "0123456789abcdef".to_owned(), at_ms: 0, used: false };
        check(Record::Agreed { agreed }, Some("RUN-1: fix approved by ana (hash 0123456789ab)"));
        let begun = |effect, authority, dry| Record::Begun {
            step: step(),
            attempt: 1,
            hash: String::new(),
            effect,
            argv: vec!["redis-cli".to_owned(), "DEL".to_owned(), "a\nb".to_owned()],
            authority,
            dry,
            takes_back: None,
        };
        let people = Authority::People { names: vec!["ana".to_owned(), "ben".to_owned()] };
        check(begun(Effect::Destroy, people, false), Some("RUN-1: fix begun, approved by ana and ben: redis-cli DEL a b"));
        check(begun(Effect::Read, Authority::Reading, false), Some("RUN-1: fix looks: redis-cli DEL a b"));
        check(begun(Effect::Write, Authority::Reading, true), Some("RUN-1: fix is tried dry: redis-cli DEL a b"));
        check(Record::Done { step: step(), dry: false, done: done.clone() }, Some("RUN-1: fix: exit 0 after 12 ms, 3 affected"));
        let killed =
            Done { verdict: Verdict::Failed, exit: None, signal: Some(9), why: "its time was over".to_owned(), affected: None, ..done };
        check(
            Record::Done { step: step(), dry: false, done: killed },
            Some("RUN-1: fix: ended by signal 9 after 12 ms: its time was over"),
        );
        let ask = Decision::Ask { needs: Approval::Two, missing: 2, reason: String::new() };
        check(Record::Held { step: step(), decision: ask }, Some("RUN-1: fix waits for two people to approve it"));
        check(Record::Observed { lines: vec!["x".to_owned()] }, None);
        check(
            Record::Ended { outcome: Ending::TakenBack, why: "it did not help".to_owned() },
            Some("RUN-1: ended with its change taken back: it did not help"),
        );
    }
}
