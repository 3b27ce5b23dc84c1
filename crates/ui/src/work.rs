//! A run as the people who respond read it: which cause, what was looked at, the likeliest fix first, what comes after.

use std::collections::BTreeMap;

use maud::{Markup, html};
use paramedic_runbook::classify::Effect;
use paramedic_runbook::desk::{RunLine, RunView, StepView};
use paramedic_runbook::document::{Runbook, SectionKind};
use paramedic_runbook::gate::Mode;
use paramedic_runbook::run::{Ending, StepState};

use crate::format::{ago, encode, many, percent, short};
use crate::page::within;
use crate::steps::{self, Around};

/// Bytes of the parts of a run on one page.
const LOOKED_BYTES_MAX: usize = 11_000;
const FIX_BYTES_MAX: usize = 11_000;
const OTHER_BYTES_MAX: usize = 4_500;
const AFTER_BYTES_MAX: usize = 3_500;
const CAUSES_BYTES_MAX: usize = 3_000;
/// Inputs that are asked for at once.
const INPUTS_MAX: usize = 12;

/// Titles of causes by their ids, as the runbook says them now.
pub(crate) fn titles(runbook: Option<&Runbook>) -> BTreeMap<String, String> {
    let causes = runbook.map(|runbook| runbook.causes.as_slice()).unwrap_or_default();
    causes.iter().map(|cause| (cause.id.clone(), cause.title.clone())).collect()
}

fn title_of<'a>(titles: &'a BTreeMap<String, String>, id: &'a str) -> &'a str {
    titles.get(id).map_or(id, String::as_str)
}

/// Causes with what speaks for them, the likeliest first.
pub(crate) fn causes(view: &RunView, titles: &BTreeMap<String, String>) -> Markup {
    let likely: Vec<_> = view.causes.iter().filter(|cause| cause.score > 0.0).collect();
    let (rows, shown) = within(CAUSES_BYTES_MAX, &likely, |cause| {
        let bar = (cause.score.clamp(0.0, 1.0) * 60.0).round();
        html! {
            li {
                span class="score" {
                    svg class="meter" width="60" height="8" aria-hidden="true" { rect width="60" height="8" rx="2" {} rect width=(bar) height="8" rx="2" {} }
                    b { (percent(cause.score)) }
                }
                div {
                    b { (steps::capital(&short(title_of(titles, &cause.cause), 160))) }
                    p class="small soft wrap" { (steps::coded(&short(&cause.why, 240))) }
                    @if !cause.found.is_empty() {
                        p class="small wrap" { "Found: " @for (i, text) in cause.found.iter().take(4).enumerate() { @if i > 0 { ", " } code { (short(text, 80)) } } @if cause.found.len() > 4 { " and " (cause.found.len() - 4) " more" } }
                    }
                }
            }
        }
    });
    html! {
        @if !likely.is_empty() { ol class="causes" { (rows) } }
        @else if view.causes.is_empty() { p class="soft" { "No cause is named yet" @if view.line.ended_at.is_none() { ": " a href=(format!("/runs/{}", view.line.id)) { (view.line.id) } " is still looking" } "." } }
        @else { p class="soft" { "Nothing that was found speaks for one of the " (many(view.causes.len() as u64, "cause")) " that the runbook knows." } }
        @if likely.len() > shown { p class="faint small" { "And " (likely.len() - shown) " less likely ones." } }
        @let against: Vec<_> = view.causes.iter().filter(|cause| cause.score <= 0.0).collect();
        @if !likely.is_empty() && !against.is_empty() {
            p class="faint small wrap against" { "Nothing speaks for: " (short(&against.iter().map(|cause| title_of(titles, &cause.cause)).collect::<Vec<_>>().join("; "), 300)) }
        }
    }
}

/// How a run stands, in words.
pub(crate) fn standing(line: &RunLine) -> Markup {
    let (class, shape, word) = match (&line.ending, line.asking.len()) {
        (Some(Ending::Done), _) => ("ok", "✓", "done".to_owned()),
        (Some(Ending::TakenBack), _) => ("off", "↶", "taken back".to_owned()),
        (Some(Ending::Stopped), _) => ("bad", "✕", "stopped".to_owned()),
        (Some(Ending::CalledOff), _) => ("off", "–", "called off".to_owned()),
        (None, 0) => ("run", "◐", "under way".to_owned()),
        (None, asking) => ("ask", "◆", format!("waits for {}", many(asking as u64, "approval"))),
    };
    html! { span class=(format!("st st-{class}")) { span aria-hidden="true" { (shape) } " " (word) } }
}

pub(crate) const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Plan => "only planned",
        Mode::Dry => "dry: changes are only tried",
        Mode::Step => "changes wait for a person",
        Mode::Auto => "what a policy allows runs by itself",
        Mode::Test => "rehearsed",
    }
}

/// The head of a run and all its steps, in the order in which they matter.
pub(crate) fn run(around: &Around<'_>, titles: &BTreeMap<String, String>) -> Markup {
    let (view, line) = (around.view, &around.view.line);
    let parts = Parts::of(view);
    html! {
        p class="runhead" {
            (standing(line)) " " a href=(format!("/runbooks/{}", encode_id(&line.runbook))) { (short(&line.title, 120)) }
            span class="faint" { " · " a href=(format!("/runs/{}", line.id)) { (line.id) } " · by " (short(&line.by, 60)) " " (ago(line.started_at, around.now)) @if line.mode != Mode::Step { " · " (mode(line.mode)) } }
        }
        @if !line.why.is_empty() { p class="small soft wrap" { (short(&line.why, 300)) } }
        @if let Some(halted) = &view.halted { p class="said bad wrap" { "It does not go on: " (short(halted, 300)) } }
        @if view.text_gone { p class="said bad" { "The runbook's text has changed or is gone since this run began; only what was recorded is shown." } }
        @if line.ended_at.is_none() && view.next.is_none() { (inputs(around)) }
        @for problem in view.problems.iter().take(4) { p class="small warned wrap" { (short(problem, 200)) } }
        (looked(around, &parts.looked))
        (fixes(around, &parts.fixes, titles))
        @if line.ended_at.is_none() && view.next.is_some() { (inputs(around)) }
        (after(around, &parts.after))
        @if line.ended_at.is_none() { (call_off(around)) }
    }
}

/// The steps of a run by what they are for.
struct Parts<'a> {
    looked: Vec<&'a StepView>,
    fixes: Vec<(Option<&'a str>, Vec<&'a StepView>)>,
    after: Vec<&'a StepView>,
}

impl<'a> Parts<'a> {
    fn of(view: &'a RunView) -> Self {
        let mut parts = Self { looked: Vec::new(), fixes: Vec::new(), after: Vec::new() };
        // A way back matters only once it was needed.
        let told = |step: &&StepView| !step.only_rollback || step.state != StepState::Pending;
        for step in view.steps.iter().filter(told) {
            match step.section {
                SectionKind::Symptoms | SectionKind::Impact | SectionKind::Investigation => parts.looked.push(step),
                SectionKind::Resolution => parts.fix(step),
                SectionKind::Other if step.effect == Effect::Read && step.by_hand.is_empty() => parts.looked.push(step),
                SectionKind::Other => parts.fix(step),
                SectionKind::Verification | SectionKind::Communication | SectionKind::Prevention => parts.after.push(step),
            }
        }
        let rank = |cause: Option<&str>| match cause {
            None => (1, 0),
            Some(id) => match view.causes.iter().position(|ranked| ranked.cause == id) {
                Some(0) if view.causes[0].score > 0.0 => (0, 0),
                Some(at) => (2, at),
                None => (3, 0),
            },
        };
        parts.fixes.sort_by_key(|(cause, _)| rank(*cause));
        parts
    }

    fn fix(&mut self, step: &'a StepView) {
        let cause = step.cause.as_deref();
        match self.fixes.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, steps)) => steps.push(step),
            None => self.fixes.push((cause, vec![step])),
        }
    }
}

fn looked(around: &Around<'_>, all: &[&StepView]) -> Markup {
    if all.is_empty() {
        return html! {};
    }
    let ended = all.iter().filter(|step| !matches!(step.state, StepState::Pending | StepState::Held { .. } | StepState::Running)).count();
    let odd = all.iter().filter(|step| matches!(step.state, StepState::Unexpected { .. } | StepState::Failed { .. })).count();
    let next = all.iter().find(|step| around.view.next.as_deref() == Some(step.name.as_str()));
    let needs = next.is_some() || all.iter().any(|step| step.state == StepState::Running);
    let (mut quiet, mut wanted) = (Vec::new(), Vec::new());
    for step in all {
        // What changes something is no look, wherever it stands.
        if step.effect > Effect::Read || !step.by_hand.is_empty() { wanted.push(*step) } else { quiet.push(*step) }
    }
    // What is not as expected first: it says most.
    quiet.sort_by_key(|step| !matches!(step.state, StepState::Unexpected { .. } | StepState::Failed { .. } | StepState::Running));
    let (lines, shown) = within(LOOKED_BYTES_MAX, &quiet, |step| steps::looked(around, step));
    let (more, more_shown) = within(OTHER_BYTES_MAX, &wanted, |step| steps::whole(around, step));
    html! {
        details class="part" id=(format!("looked{}", around.view.line.number)) open[needs] {
            summary { b { "Looked at " (ended) " of " (all.len()) } @if odd > 0 { " · " b class="warned" { (odd) " not as expected" } } }
            ol class="steps" { (lines) (more) }
            (left_out(around, quiet.len() + wanted.len() - shown - more_shown))
        }
    }
}

fn left_out(around: &Around<'_>, number: usize) -> Markup {
    html! { @if number > 0 { p class="faint small" { (many(number as u64, "further step")) " on " a href=(format!("/runs/{}?all=1", around.view.line.id)) { "the page of the run" } "." } } }
}

fn fixes(around: &Around<'_>, groups: &[(Option<&str>, Vec<&StepView>)], titles: &BTreeMap<String, String>) -> Markup {
    let ranked = around.view.causes.first().filter(|first| first.score > 0.0).map(|first| first.cause.as_str());
    let next = around.view.next.as_deref();
    let first = |(cause, all): &&(Option<&str>, Vec<&StepView>)| {
        cause.is_none() || *cause == ranked || all.iter().any(|step| Some(step.name.as_str()) == next || has_begun(step))
    };
    let (open, other): (Vec<_>, Vec<_>) = groups.iter().partition(first);
    let group = |(cause, all): &&(Option<&str>, Vec<&StepView>), bytes_max: usize| {
        let (lines, shown) = within(bytes_max, all, |step| steps::whole(around, step));
        html! {
            h3 { @match cause { Some(id) => { "Fix: " (short(title_of(titles, id), 160)) } None => "What to do" } }
            ol class="steps" { (lines) }
            (left_out(around, all.len() - shown))
        }
    };
    let (first_parts, first_shown) = within(FIX_BYTES_MAX, &open, |one| group(one, FIX_BYTES_MAX / 2));
    let (other_parts, other_shown) = within(OTHER_BYTES_MAX, &other, |one| group(one, OTHER_BYTES_MAX));
    html! {
        (first_parts)
        (left_out(around, open.iter().skip(first_shown).map(|(_, all)| all.len()).sum()))
        @if !other.is_empty() {
            details class="part" id=(format!("other{}", around.view.line.number)) {
                summary { "Fixes for other causes (" (other.len()) ")" }
                (other_parts)
                (left_out(around, other.iter().skip(other_shown).map(|(_, all)| all.len()).sum()))
            }
        }
    }
}

const fn has_begun(step: &StepView) -> bool {
    !matches!(step.state, StepState::Pending | StepState::Held { .. })
}

fn after(around: &Around<'_>, all: &[&StepView]) -> Markup {
    if all.is_empty() {
        return html! {};
    }
    let next = all.iter().any(|step| around.view.next.as_deref() == Some(step.name.as_str()));
    let (lines, shown) = within(AFTER_BYTES_MAX, all, |step| {
        if step.effect == Effect::Read && step.by_hand.is_empty() { steps::looked(around, step) } else { steps::whole(around, step) }
    });
    html! {
        details class="part" id=(format!("after{}", around.view.line.number)) open[next] {
            summary { "Afterwards: verify, tell, prevent (" (all.len()) ")" }
            ol class="steps" { (lines) }
            (left_out(around, all.len() - shown))
        }
    }
}

/// What nobody said yet.
fn inputs(around: &Around<'_>) -> Markup {
    let missing = &around.view.missing;
    html! {
        @if !missing.is_empty() {
            form class="inline answer" method="post" action=(format!("/runs/{}/give", around.view.line.id)) {
                p { b { "It needs to know: " } span class="soft" { "steps that use these wait." } }
                input type="hidden" name="back" value=(around.back);
                @for name in missing.iter().take(INPUTS_MAX) { label { (short(name, 60)) input name=(format!("input.{name}")) maxlength="2000" autocomplete="off"; } }
                button { "Go on with these" }
            }
            @if missing.len() > INPUTS_MAX { p class="faint small" { "And " (missing.len() - INPUTS_MAX) " more, after these." } }
        }
    }
}

fn call_off(around: &Around<'_>) -> Markup {
    html! {
        details class="small part" id=(format!("off{}", around.view.line.number)) { summary { "Call this run off" }
            form class="inline" method="post" action=(format!("/runs/{}/call-off", around.view.line.id)) {
                input type="hidden" name="back" value=(around.back);
                label { "Why" input name="why" maxlength="500"; }
                button class="danger" { "Call it off" }
            }
        }
    }
}

/// A runbook's id inside a path.
pub(crate) fn encode_id(id: &str) -> String {
    id.split('/').map(encode).collect::<Vec<_>>().join("/")
}
