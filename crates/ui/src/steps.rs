//! One step of a run as people see it and answer it: its state, exactly what would run, what came of it, and the forms.

use maud::{Markup, html};
use paramedic_model::switch::{find, own_name};
use paramedic_model::{Timestamp, secret, text};
use paramedic_runbook::classify::Effect;
use paramedic_runbook::desk::{Can, RunView, StepView};
use paramedic_runbook::document::Executor;
use paramedic_runbook::gate::Decision;
use paramedic_runbook::plan::{Approval, Risk};
use paramedic_runbook::run::{Done, StepState, Verdict};

use crate::format::{due, encode, many, short, span};
use crate::forms::who::asked;

/// Bytes of what would run that a list shows; the run's own page has more.
const EXACT_BYTES_MAX: usize = 3_000;
/// Bytes of an output inside a list.
const OUTPUT_BYTES_MAX: usize = 1_600;
const LIVE_BYTES_MAX: usize = 2_400;

/// What a step is shown within.
pub(crate) struct Around<'a> {
    pub(crate) view: &'a RunView,
    /// The page to come back to.
    pub(crate) back: &'a str,
    /// Who reads this page.
    pub(crate) actor: &'a str,
    pub(crate) now: Timestamp,
    /// The page's one primary button may be here.
    pub(crate) primary: bool,
}

/// What it loses cannot be had back.
pub(crate) fn destroys(step: &StepView) -> bool {
    step.effect == Effect::Destroy || step.risk == Risk::Destructive
}

/// The id of a step's element, short whatever its name is.
pub(crate) fn anchor(view: &RunView, step: &str) -> String {
    format!("s{}-{}", view.line.number, crate::page::row_key(step))
}

/// Shape and word: never colour alone.
pub(crate) fn state(around: &Around<'_>, step: &StepView) -> Markup {
    let ended = around.view.line.ended_at.is_some();
    let (class, shape) = match &step.state {
        StepState::Pending | StepState::Held { .. } if ended => ("off", "–"),
        StepState::Pending => ("wait", "○"),
        StepState::Held { decision: Decision::Ask { .. } } => ("ask", "◆"),
        StepState::Held { .. } => ("wait", "‖"),
        StepState::Running | StepState::Verifying => ("run", "◐"),
        StepState::Ok | StepState::Verified => ("ok", "✓"),
        StepState::Unexpected { .. } | StepState::Interrupted => ("odd", "!"),
        StepState::Failed { .. } => ("bad", "✕"),
        StepState::Skipped { .. } => ("off", "–"),
        StepState::TakenBack { .. } => ("off", "↶"),
    };
    let word = match &step.state {
        StepState::Pending | StepState::Held { .. } if ended => "not run",
        StepState::Held { decision: Decision::Ask { .. } } if step.executor == Executor::Manual => "for a person to do",
        StepState::Held { decision: Decision::Ask { .. } } if step.executor == Executor::Message => "for a person to send",
        StepState::Held { decision: Decision::Ask { .. } } => "waits for approval",
        StepState::Held { decision: Decision::Wait { .. } } => "waits",
        _ if step.only_rollback && step.state == StepState::Pending => "way back, not needed so far",
        _ => step.word.split(':').next().unwrap_or_default(),
    };
    html! { span class=(format!("st st-{class}")) { span aria-hidden="true" { (shape) } " " (word) } }
}

/// What a step does to the world, in a word.
pub(crate) fn effect(effect: Effect) -> Markup {
    match effect {
        Effect::Read => html! { span class="fx" { "looks" } },
        Effect::Write => html! { span class="fx fx-write" { "changes" } },
        Effect::Destroy => html! { span class="fx fx-destroy" { "destroys" } },
    }
}

/// The argument list, exactly. A script, a statement or a long word stands on its own lines.
pub(crate) fn exact(argv: &[String], bytes_max: usize) -> Markup {
    let Some((last, first)) = argv.split_last() else { return html! {} };
    let first: Vec<String> = first.iter().map(|word| quoted(word)).collect();
    let alone = last.contains('\n')
        || last.len() > 60
        || first.is_empty()
        || matches!(argv[0].as_str(), "bash" | "sql" | "promql" | "logs" | "manual" | "message");
    let last_shown = text::capped(last.trim_end(), bytes_max);
    html! {
        pre class="exact" {
            @if alone {
                @if !first.is_empty() { span class="faint" { (printable(&short(&first.join(" "), 400))) } "\n" }
                (printable(&last_shown))
            } @else {
                (printable(&short(&first.join(" "), bytes_max))) " " (printable(&quoted(&last_shown)))
            }
        }
        @if last.len() > bytes_max { p class="faint small" { "Cut here: " (last.len()) " bytes in all; the approval covers all of them." } }
    }
}

fn quoted(word: &str) -> String {
    let plain = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./=:,@%+*{}[]".contains(&byte));
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// Without what a terminal would act on; what would show it in another order than it has is seen as such.
fn printable(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let kept = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t'));
    kept.map(|c| if turns(c) { '\u{fffd}' } else { c }).collect()
}

/// `exit 0 · 120 ms`, and what was not as expected.
pub(crate) fn outcome(done: &Done) -> Markup {
    html! {
        @if let Some(exit) = done.exit { "exit " (exit) " · " } @else if let Some(signal) = done.signal { "ended by signal " (signal) " · " }
        (span(std::time::Duration::from_millis(done.ms)))
        @if let Some(affected) = done.affected { " · " (many(affected, "object")) }
        @if done.verdict != Verdict::Ok && !done.why.is_empty() { " · " b { (coded(&short(&done.why, 300))) } }
    }
}

/// The output, folded; its beginning where it is long.
pub(crate) fn output(done: &Done, id: &str, bytes_max: usize) -> Markup {
    if done.shown.trim().is_empty() {
        return html! {};
    }
    let cut = done.shown.len() > bytes_max || done.output_bytes > done.shown.len() as u64;
    html! {
        details class="out" id=(id) { summary { "Output" @if cut { ", its beginning" } }
            pre { (printable(&text::capped(&done.shown, bytes_max))) }
            @if cut { p class="faint small" { (done.output_bytes) " bytes in all, sha256 " (text::head(&done.output_hash, 12)) } }
        }
    }
}

/// A step that looked, as one line that can be opened.
pub(crate) fn looked(around: &Around<'_>, step: &StepView) -> Markup {
    let id = anchor(around.view, &step.name);
    let bytes_max = OUTPUT_BYTES_MAX;
    html! {
        li data-row=(id) class="looked" {
            details id=(id) {
                summary { (state(around, step)) " " b { (short(&step.title, 90)) } " " span class="soft" { (coded(&said_in_short(step))) } }
                (exact(&step.argv, EXACT_BYTES_MAX / 2))
                @if !step.blocked.is_empty() { p class="small" { "It cannot run yet: " (short(&step.blocked.join("; "), 300)) "." } }
                @if let Some(done) = &step.last {
                    p class="small soft" { (outcome(done)) }
                    @if !done.shown.trim().is_empty() { pre { (printable(&text::capped(&done.shown, bytes_max))) } }
                }
                @if step.can.contains(&Can::Again) { (form(around, step, "again", false)) }
            }
            @if let Some(live) = &step.live { pre class="live" { (printable(tail(live))) } }
        }
    }
}

fn said_in_short(step: &StepView) -> String {
    let why = match &step.state {
        StepState::Unexpected { why } | StepState::Failed { why } | StepState::Skipped { why } | StepState::TakenBack { why } => {
            why.as_str()
        }
        StepState::Held { decision } => decision.reason(),
        StepState::Pending if !step.blocked.is_empty() => &step.blocked[0],
        _ => "",
    };
    if !why.is_empty() {
        return short(why, 140);
    }
    let Some(done) = &step.last else { return String::new() };
    let lines = done.shown.lines().filter(|line| !line.trim().is_empty()).count();
    match done.shown.lines().find(|line| !line.trim().is_empty()) {
        Some(first) if lines > 1 => format!("{} (+{} lines)", short(first.trim(), 90), lines - 1),
        Some(first) => short(first.trim(), 110),
        None => "no output".to_owned(),
    }
}

fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(LIVE_BYTES_MAX);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// A step that may change something, whole.
pub(crate) fn whole(around: &Around<'_>, step: &StepView) -> Markup {
    let id = anchor(around.view, &step.name);
    let next = around.view.next.as_deref() == Some(step.name.as_str());
    html! {
        li id=(id) data-row=(id) class=(if next { "step next" } else { "step" }) {
            p class="stephead" { (state(around, step)) b { (short(&step.title, 140)) } (effect(step.effect)) span class="faint small" { (short(&step.name, 40)) } }
            (exact(&step.argv, EXACT_BYTES_MAX))
            (explained(around, step))
            @if let Some(live) = &step.live { pre class="live" aria-live="polite" { (printable(tail(live))) } }
            @if let Some(done) = &step.last {
                p class="small soft" { (outcome(done)) }
                (output(done, &format!("{id}o"), OUTPUT_BYTES_MAX))
            }
            (answers(around, step, next && around.primary))
        }
    }
}

/// Why it stands where it stands, what it takes, what follows.
fn explained(around: &Around<'_>, step: &StepView) -> Markup {
    let ended = around.view.line.ended_at.is_some();
    let by_person = matches!(step.executor, Executor::Manual | Executor::Message);
    let why = match &step.state {
        StepState::Held { .. } if ended => "",
        StepState::Unexpected { .. } | StepState::Failed { .. } if step.last.as_ref().is_some_and(|done| !done.why.is_empty()) => "",
        StepState::Unexpected { why } | StepState::Failed { why } | StepState::Skipped { why } | StepState::TakenBack { why } => {
            why.as_str()
        }
        StepState::Interrupted if !step.still_running.is_empty() => step.word.as_str(),
        StepState::Interrupted => "it began, and nobody knows how it ended: look before you run it again",
        // The button says it already.
        StepState::Held { decision: Decision::Ask { reason, .. } } if is_plain(reason) => "",
        StepState::Held { decision } => decision.reason(),
        _ => "",
    };
    html! {
        @if !why.is_empty() { p class="small wrap" { (coded(&short(why, 400))) } }
        @if !step.blocked.is_empty() && !ended { p class="small wrap" { "It cannot run yet: " (short(&step.blocked.join("; "), 400)) "." } }
        @if !step.agreed.is_empty() {
            p class="small" { b { (step.agreed.join(", ")) } " agreed" @if step.approval == Approval::Two && step.agreed.len() == 1 { "; one more person has to (1 of 2)" } }
        }
        @if let Some(foretold) = step.foretold.as_deref().filter(|_| step.last.is_none() && !ended) {
            p class="small wrap" { b { "It would " } (short(&first_line(foretold), 300)) "." }
            @for line in foretold.lines().skip(1).filter(|line| !line.trim().is_empty()).take(FORETOLD_MAX) { p class="small soft wrap" { (short(line.trim(), 240)) } }
        }
        p class="small soft wrap" {
            @if step.effect > Effect::Read && !step.effect_why.is_empty() && !by_person { (coded(&short(&capital(&step.effect_why), 200))) ". " }
            @if let Some(affected) = step.affected { "It would touch " (many(affected, "object")) ". " }
            @if let Some(verify) = &step.verify { "Afterwards it is watched: " code { (short(verify, 160)) } ". " }
            @if let Some(rollback) = &step.rollback { "Way back: " code { (short(rollback, 60)) } ". " }
            @else if step.effect > Effect::Read && !step.only_rollback && step.executor != Executor::Action && !by_person { "No way back is written down. " }
            @if let Some(board) = board(step) { a href=(board) { "Switchboard" } ". " }
            @if let Some(at) = step.reverts_at { "It is taken back by itself " (due(at, around.now)) ". " }
        }
    }
}

/// Where the switch that a step sets or clears is shown, with what it does.
fn board(step: &StepView) -> Option<String> {
    let [name, arguments] = step.argv.as_slice() else { return None };
    if step.executor != Executor::Action || !name.starts_with("gateway.switch_") {
        return None;
    }
    let arguments: serde_json::Value = serde_json::from_str(arguments).ok()?;
    let switch = own_name(arguments.get("switch")?.as_str()?);
    find(switch).is_ok().then(|| format!("/switches#{}", crate::pages::switches::anchor(switch)))
}

/// Lines of what a dry run said, besides its sentence.
const FORETOLD_MAX: usize = 6;

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().trim_end_matches('.').to_owned()
}

fn is_plain(reason: &str) -> bool {
    matches!(reason, "somebody has to agree" | "two different people have to agree" | "a person does it" | "a person sends it")
}

/// A sentence of ours, with what stands between backticks as code.
pub(crate) fn coded(text: &str) -> Markup {
    html! { @for (i, part) in text.split('`').enumerate() { @if i % 2 == 1 { code { (part) } } @else { (part) } } }
}

pub(crate) fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// All that a person may answer a step with.
fn answers(around: &Around<'_>, step: &StepView, primary: bool) -> Markup {
    let can = |what: Can| step.can.contains(&what);
    let (verb, second) = if can(Can::Approve) {
        ("approve", can(Can::LeaveOut))
    } else if can(Can::Run) {
        ("run", can(Can::LeaveOut))
    } else if can(Can::LeaveOut) {
        ("leave-out", false)
    } else {
        ("", false)
    };
    html! {
        @if verb == "approve" && step.approval == Approval::Two && step.agreed.iter().any(|name| name == around.actor) {
            p class="small" { "You agreed. A second person has to agree to the same." }
            (form(around, step, "leave-out", false))
        } @else if !verb.is_empty() { (asking(around, step, verb, second, primary)) }
        @if can(Can::Again) { (form(around, step, "again", false)) }
        @if can(Can::Undo) {
            details class="small" id=(format!("{}u", anchor(around.view, &step.name))) { summary { "Undo" }
                p class="wrap" { @if let Some(rollback) = &step.rollback { "Its way back runs: " code { (short(rollback, 60)) } "." } @else { "What takes it back becomes a run of its own, and waits for an approval: " code { (short(&secret::mask(&step.way_back.as_ref().map(ToString::to_string).unwrap_or_default()), 300)) } } }
                (form(around, step, "undo", true))
            }
        }
    }
}

fn hidden(around: &Around<'_>, step: &StepView) -> Markup {
    html! {
        input type="hidden" name="step" value=(step.name);
        input type="hidden" name="hash" value=(step.hash);
        input type="hidden" name="back" value=(around.back);
    }
}

fn asking(around: &Around<'_>, step: &StepView, verb: &str, leave_out: bool, primary: bool) -> Markup {
    let to = |verb: &str| format!("/runs/{}/{verb}", encode(&around.view.line.id));
    html! {
        form class="answer" method="post" action=(to(verb)) {
            (hidden(around, step))
            // Once on a page is enough; the other forms ask on a page of their own.
            @if around.view.next.as_deref() == Some(step.name.as_str()) { (asked(around.actor)) }
            @if destroys(step) && verb != "leave-out" {
                label class="sure" { input type="checkbox" name="sure" value="yes" required data-key=[primary.then_some("r")];
                    span { "This cannot be taken back: " (coded(&short(&step.effect_why, 200))) @if let Some(affected) = step.affected { ", " (many(affected, "object")) } ". I want it." } }
            }
            button class=[primary.then_some("primary")] data-key=[(primary && !destroys(step)).then_some("r")] { (label(step, verb)) }
            @if leave_out { button class="plainly" formaction=(to("leave-out")) formnovalidate { "Leave out" } }
            @if verb == "approve" { span class="faint small" { "binds to " code title=(step.hash) { (text::head(&step.hash, 8)) } } }
        }
    }
}

fn label(step: &StepView, verb: &str) -> String {
    match (verb, &step.approval, step.executor) {
        ("approve", Approval::Two, _) if step.agreed.is_empty() => "Approve (1 of 2)".to_owned(),
        ("approve", Approval::Two, _) => "Approve (2 of 2) and run".to_owned(),
        ("approve", Approval::Role(role), _) => format!("Approve as {} and run", short(role, 30)),
        ("approve", ..) => "Approve and run".to_owned(),
        ("leave-out", ..) => "Leave out".to_owned(),
        (_, _, Executor::Manual) => "It is done".to_owned(),
        (_, _, Executor::Message) => "Send".to_owned(),
        _ => "Run".to_owned(),
    }
}

/// A form of one plain button.
fn form(around: &Around<'_>, step: &StepView, verb: &str, why: bool) -> Markup {
    let word = match verb {
        "again" => "Run again",
        "undo" => "Take it back",
        _ => "Leave out",
    };
    html! {
        form class="answer" method="post" action=(format!("/runs/{}/{verb}", encode(&around.view.line.id))) {
            (hidden(around, step))
            @if why { label { "Why (may be empty)" input name="why" maxlength="500"; } }
            button class=[(verb != "undo").then_some("plainly")] { (word) }
        }
    }
}
