//! Long prompts, whose repeated beginnings are paid for in full each time.

use paramedic_model::Usage;

use super::{CALLS_MIN, Cause, Finding, Material, SAVING_SHARE_MIN, mean, model_of, numbers, percent, price};
use crate::call::Record;

/// Prompts of more tokens are long.
const LONG_TOKENS: f64 = 5_000.0;
/// Below this a prompt does not repeat the one before it.
const REPEATED_SHARE_MIN: f64 = 0.5;

#[derive(Debug, Default)]
struct Sums {
    read: u64,
    in_full: u64,
    /// Paid for in full although the call before began with it too.
    again: u64,
    cost: f64,
    saving: f64,
    /// Read by calls of which it is known how much they repeat, and what of it they do.
    compared: u64,
    repeated: u64,
}

pub(super) fn find(material: &Material<'_>, calls: &[&Record], spent: f64) -> Option<Finding> {
    if calls.len() < CALLS_MIN {
        return None;
    }
    let mut sums = Sums::default();
    for record in calls {
        add(&mut sums, material, record);
    }
    let (read, in_full) = (mean(sums.read, calls.len()), mean(sums.in_full, calls.len()));
    let repeated = if sums.compared == 0 { 0.0 } else { sums.repeated as f64 / sums.compared as f64 };
    let saving_share = if sums.cost > 0.0 { sums.saving / sums.cost } else { 0.0 };
    let numbers = numbers([
        ("tokens_read_per_call", read.round()),
        ("tokens_paid_in_full_per_call", in_full.round()),
        ("repeated_share", repeated),
        ("saving_share", saving_share),
        ("calls", mean(calls.len() as u64, 1)),
    ]);
    let finding = |what, saving_dollars, command: String| Finding {
        cause: Cause::Prompts,
        what,
        numbers,
        at: None,
        change: None,
        saving_dollars,
        commands: vec![command],
    };
    if read >= LONG_TOKENS && saving_share >= SAVING_SHARE_MIN {
        let what = format!(
            "a call reads {read:.0} tokens in the mean; {} of it is what the call before began with too, and {:.0} such tokens a call are paid \
             in full instead of from the cache: about {} of what is spent",
            percent(repeated),
            mean(sums.again, calls.len()),
            percent(saving_share)
        );
        let command = "paramedic switch set prompt_caching true --for 24h --reason 'repeated prompts are paid in full'".to_owned();
        return Some(finding(what, Some(saving_share * spent), command));
    }
    if in_full >= LONG_TOKENS && repeated < REPEATED_SHARE_MIN {
        let what = format!(
            "a call reads {read:.0} tokens in the mean, {in_full:.0} of them paid in full, and little of it repeats the call before: the prompts \
             themselves are long"
        );
        let half = ((read / 2_000.0).round() as u64).max(1) * 1_000;
        return Some(finding(what, None, format!("paramedic switch set max_history_tokens {half} --for 1h --reason 'long prompts'")));
    }
    None
}

fn add(sums: &mut Sums, material: &Material<'_>, record: &Record) {
    let usage = &record.usage;
    sums.read += usage.context_tokens();
    sums.in_full += usage.input_tokens + usage.cache_creation_tokens;
    let share = record.repeated_share.map(f64::from).unwrap_or(0.0).clamp(0.0, 1.0);
    let repeated = (mean(usage.context_tokens(), 1) * share) as u64;
    if record.repeated_share.is_some() {
        sums.compared += usage.context_tokens();
        sums.repeated += repeated;
    }
    let again = repeated.saturating_sub(usage.cache_read_tokens + usage.cache_creation_tokens).min(usage.input_tokens);
    let cached = Usage { input_tokens: usage.input_tokens - again, cache_read_tokens: usage.cache_read_tokens + again, ..*usage };
    let Some(model) = model_of(record) else { return };
    let (Some(now), Some(then)) = (price(material.pricing, model, usage), price(material.pricing, model, &cached)) else { return };
    sums.again += again;
    sums.cost += now;
    sums.saving += (now - then).max(0.0);
}
