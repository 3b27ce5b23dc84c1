//! What the gateway tells beside others raises no alarm of its own; alone, it raises them all.

use paramedic_detect::{Detectors, Settings};
use paramedic_model::{AlertChange, ApiErrorClass, Event, Fact, Source, Usage};

use crate::script::{show, time};

fn event(source: Source, seconds: f64, fact: Fact) -> Event {
    let mut event = Event::new(time(seconds), source, "test");
    event.agent = Some("s".into());
    event.session = Some("s".into());
    event.fact = fact;
    event
}

fn call(source: Source, seconds: f64, message: &str, tokens: u64, text: Option<u64>) -> Event {
    let fact = Fact::ModelCall {
        message: Some(message.into()),
        model: Some("claude-opus-4-5".into()),
        usage: Usage { input_tokens: tokens, output_tokens: 1, ..Usage::default() },
        cost_usd: Some(0.1),
        duration: None,
        time_to_first_token: None,
        stop_reason: None,
        text_hash: text,
    };
    event(source, seconds, fact)
}

fn retry(source: Source, seconds: f64) -> Event {
    let class = ApiErrorClass::Overloaded;
    event(source, seconds, Fact::ModelRetry { class, status: Some(529), attempt: 1, attempts_max: None, delay: None })
}

fn error(source: Source, seconds: f64, class: ApiErrorClass) -> Event {
    event(source, seconds, Fact::ModelError { class, status: None, attempts: None, retries_exhausted: false, duration: None })
}

fn with(mut event: Event, attribute: &str) -> Event {
    event.attributes.insert(attribute.to_owned(), "x".into());
    event
}

fn alerts(events: &[Event]) -> Vec<AlertChange> {
    let (mut detectors, mut out) = (Detectors::new(Settings::default()), Vec::new());
    events.iter().for_each(|event| detectors.observe(event, &mut out));
    out
}

#[test]
fn what_others_tell_is_alerted_as_they_tell_it() {
    let t = Source::Transcript;
    let told = vec![
        event(t, 0.0, Fact::Prompt),
        call(t, 1.0, "msg_1", 1_000, Some(7)),
        call(t, 2.0, "msg_2", 1_100, Some(7)),
        call(t, 3.0, "msg_3", 1_200, Some(7)),
        call(t, 4.0, "msg_4", 1_300, Some(7)),
        retry(t, 5.0),
        retry(t, 6.0),
        retry(t, 8.0),
        call(t, 9.0, "msg_5", 1_300, Some(8)),
        error(t, 20.0, ApiErrorClass::InvalidRequest),
    ];
    let alone: Vec<String> = alerts(&told).iter().map(show).collect();
    assert!(alone.len() > 3, "{alone:?}");
    // The gateway tells each before the transcript does, and a chore in the background of which nobody else tells.
    let mut both = Vec::new();
    for event in &told {
        if !matches!(event.fact, Fact::Prompt) {
            let mut passed = Event { source: Source::Gateway, ..event.clone() };
            // It hears no words.
            if let Fact::ModelCall { text_hash, .. } = &mut passed.fact {
                *text_hash = None;
            }
            both.push(passed);
        }
        both.push(event.clone());
        let chore = call(Source::Gateway, event.at.since(time(0.0)).as_secs_f64(), &format!("msg_chore_{}", both.len()), 90_000, None);
        if !matches!(event.fact, Fact::ModelRetry { .. }) {
            both.push(chore);
        }
    }
    let both: Vec<String> = alerts(&both).iter().map(show).collect();
    assert_eq!(both, alone);
}

#[test]
fn alone_it_raises_them_all() {
    let g = Source::Gateway;
    let storm = [call(g, 0.0, "msg_1", 10, None), retry(g, 1.0), retry(g, 2.0), retry(g, 4.0), call(g, 9.0, "msg_2", 10, None)];
    let shown: Vec<String> = alerts(&storm).iter().map(show).collect();
    assert!(shown.iter().any(|line| line.contains("SEV") && line.contains("retries=3")), "{shown:?}");
    assert!(shown.last().unwrap().contains("resolved"), "{shown:?}");
    // Nobody is owed an answer by a client that may have given up.
    let (mut detectors, mut out) = (Detectors::new(Settings::default()), Vec::new());
    detectors.observe(&call(g, 0.0, "msg_1", 10, None), &mut out);
    detectors.observe(&retry(g, 1.0), &mut out);
    out.clear();
    for second in 0..40 {
        detectors.tick(time(2.0 + f64::from(second) * 30.0), &mut out);
    }
    assert!(out.iter().all(|change| change.detector != "silence"), "{out:?}");
}

#[test]
fn telemetry_tells_no_retries_so_the_gateways_count() {
    let events =
        [event(Source::OtlpLog, 0.0, Fact::Prompt), retry(Source::Gateway, 1.0), retry(Source::Gateway, 2.0), retry(Source::Gateway, 3.0)];
    assert!(alerts(&events).iter().any(|change| change.counts.retries == 3));
}

#[test]
fn a_refusal_is_a_decision_and_a_broken_answer_is_none() {
    let refused = with(error(Source::Gateway, 1.0, ApiErrorClass::Authentication), "refused_by");
    assert_eq!(alerts(&[refused.clone(), refused]), []);
    let storm = [retry(Source::Gateway, 1.0), retry(Source::Gateway, 2.0), retry(Source::Gateway, 3.0)];
    let broken = with(call(Source::Gateway, 4.0, "msg_1", 10, None), "unfinished");
    let before = alerts(&storm).len();
    assert_eq!(alerts(&[&storm[..], &[broken]].concat()).len(), before, "it resolves nothing");
}

#[test]
fn a_failure_that_the_record_tells_after_the_gateway_is_one() {
    let (g, t) = (Source::Gateway, Source::Transcript);
    let class = ApiErrorClass::Overloaded;
    // The record is read a little later, and only then it is known that there is one.
    let late = [retry(g, 1.0), retry(t, 1.02), retry(g, 2.0), retry(g, 4.0), retry(t, 2.1), retry(t, 4.1), call(t, 9.0, "msg_1", 10, None)];
    let counted = |events: &[Event]| alerts(events).iter().map(|change| change.counts.retries).max();
    assert_eq!(counted(&late), Some(3));
    // One that only the record tells, and one that it tells much later, are others.
    assert_eq!(counted(&[retry(g, 1.0), retry(t, 1.02), retry(t, 1.5)]), Some(2));
    assert_eq!(counted(&[retry(g, 1.0), retry(t, 20.0)]), Some(2));
    let ended = [error(g, 1.0, class), error(t, 1.02, class)];
    assert_eq!(alerts(&ended).iter().map(|change| change.counts.terminal_failures).max(), Some(1));
}
