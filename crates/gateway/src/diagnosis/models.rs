//! Which models did small tasks, and what a cheaper one would have cost.

use std::collections::BTreeMap;

use super::{CALLS_MIN, Cause, Finding, Material, SAVING_SHARE_MIN, mean, model_of, numbers, percent, price, quoted};
use crate::call::Record;

/// A model is expensive for a call that the cheaper one does for less than this part of its price.
const CHEAP_SHARE_MAX: f64 = 0.5;

pub(super) fn find(material: &Material<'_>, calls: &[&Record], spent: f64) -> Option<Finding> {
    let routing = &material.routing;
    let (mut cost, mut simple_cost, mut saving, mut simple) = (0.0, 0.0, 0.0, 0usize);
    let mut by_model: BTreeMap<&str, f64> = BTreeMap::new();
    for record in calls {
        let Some(model) = model_of(record) else { continue };
        let Some(now) = price(material.pricing, model, &record.usage) else { continue };
        cost += now;
        let is_simple = record.usage.context_tokens() <= routing.input_tokens_max
            && record.usage.output_tokens <= routing.output_tokens_max
            && record.stop_reason.as_deref() != Some("tool_use");
        let Some(cheap) =
            price(material.pricing, routing.cheaper, &record.usage).filter(|cheap| is_simple && *cheap <= now * CHEAP_SHARE_MAX)
        else {
            continue;
        };
        simple += 1;
        simple_cost += now;
        saving += now - cheap;
        *by_model.entry(model).or_default() += now - cheap;
    }
    let saving_share = if cost > 0.0 { saving / cost } else { 0.0 };
    if simple < CALLS_MIN || saving_share < SAVING_SHARE_MIN {
        return None;
    }
    let dearest = by_model.iter().max_by(|one, other| one.1.total_cmp(other.1)).map_or("", |(model, _)| model);
    let what = format!(
        "{simple} of {} calls are simple (at most {} tokens read, {} written, no tool asked for) and went to expensive models, mostly {dearest}: {} \
         of what was spent; {} would do them for {} less",
        calls.len(),
        routing.input_tokens_max,
        routing.output_tokens_max,
        percent(simple_cost / cost),
        routing.cheaper,
        percent(saving / simple_cost.max(f64::MIN_POSITIVE))
    );
    Some(Finding {
        cause: Cause::Models,
        what,
        numbers: numbers([
            ("simple_calls", mean(simple as u64, 1)),
            ("calls", mean(calls.len() as u64, 1)),
            ("simple_cost_share", simple_cost / cost),
            ("saving_share", saving_share),
        ]),
        at: None,
        change: None,
        saving_dollars: Some(saving_share * spent),
        commands: vec![
            "paramedic switch set model_routing true --for 24h --reason 'simple calls to expensive models'".to_owned(),
            format!(
                "paramedic switch set route_to_model {} --scope {} --for 1h --reason 'costs too much'",
                quoted(routing.cheaper),
                quoted(&format!("model={dearest}"))
            ),
        ],
    })
}
