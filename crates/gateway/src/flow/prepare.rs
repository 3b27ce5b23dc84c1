//! What a request is made into before it is sent: guards that refuse it, and edits that change single bytes of it.

use bytes::Bytes;
use paramedic_model::Usage;

use super::flight::Flight;
use crate::body::{self, Edits, Estimate, Facts, Print, Ratio, Shortening};
use crate::config::Settings;
use crate::policy::Policy;
use crate::refuse::Refusal;

/// What a call that cannot be read is expected to write.
const UNREAD_OUTPUT_TOKENS: u64 = 4_096;

/// Models that refuse a `max_tokens` that common clients send, by the beginnings of their names, and the most that they write:
/// the provider's table of models gives all others 128,000.
const OUTPUT_TOKENS_MAX: [(&str, u64); 3] = [("claude-haiku-4-5", 64_000), ("claude-sonnet-4-5", 64_000), ("claude-opus-4-5", 64_000)];

fn output_tokens_max(model: &str) -> Option<u64> {
    OUTPUT_TOKENS_MAX.iter().find(|(begin, _)| model.starts_with(begin)).map(|(_, max)| *max)
}

/// A request that was read.
pub(super) struct Read {
    pub(super) bytes: Bytes,
    pub(super) facts: Facts,
    pub(super) tokens: Estimate,
    pub(super) ratio: Ratio,
}

impl Read {
    pub(super) fn of(flight: &Flight, bytes: Bytes) -> Self {
        let facts = body::read(&bytes);
        let model = facts.model.map(|place| place.text(&bytes).into_owned()).unwrap_or_default();
        let ratio = flight.inner.ratios.of(&model);
        let tokens = if facts.valid { facts.tokens(ratio) } else { ratio.estimate(body::Size::text(bytes.len() as u64)) };
        Self { bytes, facts, tokens, ratio }
    }

    /// A request that passes unread: only its size is known, where that is.
    pub(super) fn unread(flight: &Flight) -> Self {
        let bytes = flight.record.as_ref().map_or(0, |record| record.request_bytes);
        let ratio = Ratio::default();
        Self { bytes: Bytes::new(), facts: Facts::default(), tokens: ratio.estimate(body::Size::text(bytes)), ratio }
    }

    pub(super) fn model(&self) -> Option<Box<str>> {
        let model = self.facts.model?.text(&self.bytes);
        let model = paramedic_model::text::head(&model, 200);
        (!model.is_empty()).then(|| model.into())
    }

    fn change(&mut self, flight: &Flight, edits: &Edits) -> bool {
        let Some(bytes) = body::apply(&self.bytes, edits) else { return false };
        *self = Self::of(flight, bytes);
        true
    }

    /// What the call can be expected to use; the second is what it cannot pass.
    pub(super) fn usage(&self, likely_output: u64) -> (Usage, Usage) {
        let is_unread = self.bytes.is_empty();
        let output = if is_unread { UNREAD_OUTPUT_TOKENS } else { self.facts.max_tokens.map_or(0, |max| max.value) };
        let likely_output = if is_unread { output } else { likely_output.min(output) };
        let likely = Usage { input_tokens: self.tokens.likely, output_tokens: likely_output, ..Usage::default() };
        // The dearest way to read: all of it is written to the cache that holds for an hour.
        let written = if self.facts.marks() > 0 { self.tokens.at_most } else { 0 };
        let at_most = Usage {
            input_tokens: self.tokens.at_most - written,
            cache_creation_tokens: written,
            cache_creation_1h_tokens: written,
            output_tokens: output,
            ..Usage::default()
        };
        (likely, at_most)
    }

    /// Small enough that the cheaper model does as well.
    fn is_simple(&self, settings: &Settings) -> bool {
        let models = &settings.models;
        self.tokens.likely <= models.simple_input_tokens_max
            && self.facts.max_tokens.is_some_and(|max| max.value <= models.simple_output_tokens_max)
            && self.facts.tool_count() <= models.simple_tools_max
    }
}

/// How this request compares with the one before it in its conversation.
pub(super) fn compare(flight: &mut Flight, read: &Read) -> Option<i64> {
    let caller = flight.record.as_ref().map(|record| &record.caller)?;
    let conversation = body::conversation(&read.bytes, &read.facts, caller.session.as_deref(), caller.agent.as_deref());
    let print = Print::of(&read.bytes, &read.facts);
    let repeated = flight.inner.prefixes.compare(conversation, &print);
    flight.print = Some((conversation, print));
    if let Some(record) = flight.record() {
        record.repeated_share = repeated.map(|repeated| repeated.share);
    }
    repeated.map(|repeated| repeated.growth_bytes)
}

/// Refuses what is too large, as it came.
pub(super) fn guard(policy: &Policy, read: &Read, growth_bytes: Option<i64>) -> Result<(), Refusal> {
    let (bytes, tokens) = (read.bytes.len() as u64, read.tokens.likely);
    if let Some(max) = policy.max_input_bytes.as_ref().filter(|max| bytes > max.value) {
        let said = format!("this request has {bytes} bytes, and an operator's limit is {}", max.value);
        return Err(Refusal::too_large(said).by(&*max.switch));
    }
    let is_shortened = policy.max_history_tokens.is_some() || policy.max_history_messages.is_some();
    if let Some(max) = policy.max_input_tokens.as_ref().filter(|max| tokens > max.value && !is_shortened) {
        return Err(Refusal::prompt_too_long(tokens, max.value).by(&*max.switch));
    }
    if let (Some(max), Some(growth)) = (&policy.max_growth_tokens, growth_bytes) {
        let grown = read.ratio.likely(body::Size::text(u64::try_from(growth).unwrap_or(0)));
        if grown > max.value {
            let said = format!(
                "this request is about {grown} tokens longer than the one before it in its conversation, and an operator's limit is {}; look at what the last step put into it",
                max.value
            );
            return Err(Refusal::too_large(said).by(&*max.switch));
        }
    }
    Ok(())
}

/// Changes the request as the switches ask, and says in the record what was changed.
pub(super) fn edit(flight: &mut Flight, policy: &Policy, read: &mut Read, settings: &Settings) -> Result<(), Refusal> {
    if !read.facts.valid {
        return Ok(());
    }
    shorten(flight, policy, read);
    if let Some(max) = policy.max_input_tokens.as_ref().filter(|max| read.tokens.likely > max.value) {
        return Err(Refusal::prompt_too_long(read.tokens.likely, max.value).by(&*max.switch));
    }
    route(flight, policy, read, settings);
    if let Some(max) = &policy.max_output_tokens
        && let Some(capped) = body::cap_max_tokens(&read.bytes, &read.facts, max.value)
        && read.change(flight, &capped.edits)
    {
        flight.acted(&max.switch, format!("answers have at most {} tokens", capped.max_tokens));
    }
    if let Some(switch) = &policy.prompt_caching
        && let Some(marked) = body::mark_for_cache(&read.bytes, &read.facts, read.ratio)
        && read.change(flight, &marked.edits)
    {
        flight.acted(switch, format!("marked {} bytes for the provider's cache", marked.bytes_marked));
    }
    Ok(())
}

fn shorten(flight: &mut Flight, policy: &Policy, read: &mut Read) {
    let (messages, tokens) = (&policy.max_history_messages, &policy.max_history_tokens);
    let Some(switch) = tokens.as_ref().or(messages.as_ref()).map(|ruling| ruling.switch.clone()) else { return };
    let limits = body::Limits {
        messages_max: messages.as_ref().map(|max| max.value),
        tokens_max: tokens.as_ref().map(|max| max.value),
        digest: policy.summarization.is_some(),
    };
    match body::shorten_history(&read.bytes, &read.facts, limits, read.ratio) {
        Shortening::Fits => {}
        Shortening::Stuck(stuck) => flight.acted(&switch, format!("left the history as it is: {}", stuck.why())),
        Shortening::Shortened(shortened) => {
            if read.change(flight, &shortened.edits) {
                let (messages, tokens) = (shortened.left_out_messages, shortened.left_out_tokens);
                let still = if shortened.within_limits { "" } else { "; it is still longer than the limit" };
                flight.acted(&switch, format!("left out {messages} messages, about {tokens} tokens{still}"));
                if let Some(switch) = &policy.summarization {
                    flight.acted(switch, "put a list of what was left out in front");
                }
            }
        }
    }
}

fn route(flight: &mut Flight, policy: &Policy, read: &mut Read, settings: &Settings) {
    if let Some(route) = &policy.route_to {
        to_model(flight, read, &route.value, &route.switch);
    } else if let Some(switch) = policy.routing.as_ref().filter(|_| read.is_simple(settings)) {
        to_model(flight, read, &settings.models.cheaper, switch);
    }
}

/// Asks another model. False when it is the same already, or the request names none.
pub(super) fn to_model(flight: &mut Flight, read: &mut Read, model: &str, switch: &str) -> bool {
    let Some(mut edits) = body::set_model(&read.bytes, &read.facts, model) else { return false };
    let mut what = format!("went to {model}");
    if let Some(capped) = output_tokens_max(model).and_then(|max| body::cap_max_tokens(&read.bytes, &read.facts, max))
        && edits.join(&capped.edits)
    {
        what += &format!(", whose answers have at most {} tokens", capped.max_tokens);
    }
    let is_changed = read.change(flight, &edits);
    if is_changed {
        flight.acted(switch, what);
    }
    is_changed
}
