//! Every runbook of the library played through: each fix that says how it is verified helps once, and fails to help once.

use std::collections::BTreeMap;

use paramedic_runbook::library::LIBRARY;
use paramedic_runbook::plan::{Capture, Demands, Source};
use paramedic_runbook::predicate::{Facts, Value, Verification};
use paramedic_runbook::run::{Expect, Fixture, StepState, Stub, rehearse};
use paramedic_runbook::{Runbook, SectionKind, Step, parse};

/// Values that people would type, one of which fits any pattern.
const PLAUSIBLE: &[&str] = &[
    "1234",
    "agent-7",
    "0a1b2c3d4e5f",
    "2026-11-22 05:14:00",
    "/var/backups/nightly.dump",
    "registry.example/agent:1.4.2",
    "https://hooks.example/x",
];
const NUMBERS: &[f64] = &[0.0, 1.0, 0.001, 0.5, 0.999, 2.0, 1e9, -1.0];

fn inputs(runbook: &Runbook) -> BTreeMap<String, String> {
    let value = |name: &String, input: &paramedic_runbook::Input| {
        let fits = |value: &&str| {
            let given =
                paramedic_runbook::render::Given { inputs: BTreeMap::from([(name.clone(), (*value).to_owned())]), ..Default::default() };
            paramedic_runbook::render::Values::resolve(runbook, &given).faults().is_empty()
        };
        let found = input.default.as_deref().into_iter().chain(PLAUSIBLE.iter().copied()).find(fits);
        found.unwrap_or_else(|| panic!("{}: nothing fits {name}", runbook.id)).to_owned()
    };
    runbook.inputs.iter().map(|(name, input)| (name.clone(), value(name, input))).collect()
}

/// Two answers in one: a step may capture several things of it.
fn joined(one: Option<serde_json::Value>, other: serde_json::Value) -> serde_json::Value {
    use serde_json::Value::{Array, Object};
    match (one, other) {
        (Some(Object(mut one)), Object(other)) => {
            for (name, value) in other {
                let before = one.remove(&name);
                one.insert(name, joined(before, value));
            }
            Object(one)
        }
        (Some(Array(one)), Array(other)) => {
            let long = one.len().max(other.len());
            let (mut one, mut other) = (one.into_iter(), other.into_iter());
            Array((0..long).map(|_| joined(one.next(), other.next().unwrap_or_default())).collect())
        }
        (Some(one), serde_json::Value::Null) => one,
        (_, other) => other,
    }
}

/// An answer that holds all that a step captures.
fn stub(step: &Step, number: f64) -> Stub {
    let mut stub = Stub { exit: Some(0), status: Some(200), value: Some(number), rows: Some(1), ..Stub::default() };
    let holds = |capture: &Capture, stub: &mut Stub| match &capture.source {
        Source::Stdout | Source::Regex(_) => "2Gi".clone_into(&mut stub.stdout),
        Source::Json(pointer) => {
            let leaf = pointer.trim_start_matches('/').split('/').rev().fold(serde_json::json!("2Gi"), |inner, part| {
                match part.parse::<usize>() {
                    Ok(at) => {
                        serde_json::Value::Array((0..=at).map(|i| if i == at { inner.clone() } else { serde_json::Value::Null }).collect())
                    }
                    Err(_) => serde_json::json!({ part: inner }),
                }
            });
            stub.json = Some(joined(stub.json.take(), leaf));
        }
        Source::Field(name) => {
            stub.fields.insert(name.clone(), serde_json::json!("2"));
        }
    };
    Demands::of(step).0.captures.iter().for_each(|capture| holds(capture, &mut stub));
    stub
}

/// What each step that a condition speaks of has to answer, by its field, so that the condition holds (or does not).
type Answers = BTreeMap<String, (String, Value)>;

/// A step and what of it is meant: `blocked.rows`, or `ratio` for its number.
fn field(name: &str) -> (String, String) {
    let (step, field) = name.split_once('.').unwrap_or((name, "value"));
    (step.to_owned(), field.to_owned())
}

fn answers(runbook: &Runbook, verify: &str, holds: bool) -> Option<Answers> {
    let verification = Verification::parse(verify).expect("reads");
    let names: Vec<&str> = verification.condition.names();
    let known = |name: &&str| runbook.steps.iter().any(|step| step.name == field(name).0);
    if !names.iter().all(known) {
        return None;
    }
    let mut numbers: Vec<f64> = NUMBERS.to_vec();
    for word in verify.split(|letter: char| !(letter.is_ascii_digit() || letter == '.')) {
        if let Ok(number) = word.parse::<f64>() {
            numbers.extend([number, number * 0.9, number * 1.1]);
        }
    }
    let numbers: Vec<Value> = numbers.into_iter().map(Value::Number).collect();
    let texts: Vec<Value> = verify.split(['\'', '|']).chain(["nothing of it"]).map(Value::from).collect();
    let candidates = |name: &str| if field(name).1 == "stdout" { &texts } else { &numbers };
    let total: usize = names.iter().map(|name| candidates(name).len()).product();
    (0..total.min(100_000)).find_map(|mut index| {
        let mut facts = Facts::default();
        let mut chosen = Answers::new();
        for name in &names {
            let all = candidates(name);
            let value = all[index % all.len()].clone();
            index /= all.len();
            facts.set(*name, value.clone());
            let (step, field) = field(name);
            chosen.insert(step, (field, value));
        }
        (verification.condition.judge(&facts).holds() == holds).then_some(chosen)
    })
}

/// A step's answer with what a condition has to find in it.
fn answered(step: &Step, answers: &Answers) -> Stub {
    let mut stub = stub(step, 1.0);
    match answers.get(&step.name) {
        Some((field, Value::Number(number))) if field == "rows" => stub.rows = Some(number.max(0.0) as u64),
        Some((_, Value::Number(number))) => stub.value = Some(*number),
        Some((_, Value::Text(text))) => stub.stdout.clone_from(text),
        _ => {}
    }
    stub
}

fn fixture(runbook: &Runbook, fix: &Step, helps: bool) -> Option<Fixture> {
    let verify = fix.attributes.get("verify")?;
    let (bad, end) = (answers(runbook, verify, false)?, answers(runbook, verify, helps)?);
    let mut steps = BTreeMap::new();
    for step in &runbook.steps {
        let (first, last) = (answered(step, &bad), answered(step, &end));
        steps.insert(step.name.clone(), vec![first, last]);
    }
    let mut choose: Vec<String> = Demands::of(fix).0.needs;
    choose.retain(|name| runbook.steps.iter().any(|step| step.name == *name && step.section == SectionKind::Resolution));
    choose.push(fix.name.clone());
    Some(Fixture { inputs: inputs(runbook), steps, choose, expect: Expect::default(), ..Fixture::default() })
}

#[test]
fn every_fix_is_verified_when_it_helps_and_taken_back_when_not() {
    let (mut played, mut left_out, mut wrong) = (0, Vec::new(), Vec::new());
    for (name, text) in LIBRARY {
        let runbook = parse(text, name).runbooks.remove(0);
        let mut fixes = 0;
        for fix in runbook.steps.iter().filter(|step| step.section == SectionKind::Resolution && step.attributes.contains_key("verify")) {
            let (Some(good), Some(bad)) = (fixture(&runbook, fix, true), fixture(&runbook, fix, false)) else {
                left_out.push(format!("{name}: {}", fix.name));
                continue;
            };
            fixes += 1;
            played += 1;
            let helped = rehearse(&runbook, &good);
            let state = &helped.states[&fix.name];
            if *state != StepState::Verified || !helped.problems.is_empty() {
                wrong.push(format!("{name}: {} helps, and is {state:?} {:?}", fix.name, helped.problems));
            }
            let failed = rehearse(&runbook, &bad);
            let back = fix.attributes.get("rollback").map(|back| failed.states[back].clone());
            let state = &failed.states[&fix.name];
            let expected = match back {
                Some(_) => matches!(state, StepState::TakenBack { .. }),
                None => matches!(state, StepState::Failed { .. }),
            };
            if !expected || back.is_some_and(|back| back != StepState::Ok) {
                wrong.push(format!("{name}: {} does not help, and is {state:?} {:?}", fix.name, failed.problems));
            }
        }
        if fixes == 0 {
            left_out.push(format!("{name}: no fix at all"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(left_out.is_empty(), "not played: {left_out:#?}");
    assert!(played > 2 * LIBRARY.len(), "{played} fixes");
}

#[test]
fn looking_alone_changes_nothing_and_names_a_cause_or_none() {
    for (name, text) in LIBRARY {
        let runbook = parse(text, name).runbooks.remove(0);
        let steps = runbook.steps.iter().map(|step| (step.name.clone(), vec![stub(step, 1.0)])).collect();
        let rehearsed = rehearse(&runbook, &Fixture { inputs: inputs(&runbook), steps, ..Fixture::default() });
        assert_eq!(rehearsed.problems, [] as [String; 0], "{name}");
        for step in &rehearsed.order {
            let step = runbook.steps.iter().find(|one| one.name == *step).expect("a step");
            assert!(!matches!(step.section, SectionKind::Resolution | SectionKind::Communication), "{name}: {} ran by itself", step.name);
        }
        assert!(!rehearsed.order.is_empty(), "{name}: nothing was looked at");
        assert_eq!(rehearsed.ending, None, "{name}");
    }
}
