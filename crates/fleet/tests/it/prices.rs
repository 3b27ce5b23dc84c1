//! Our price list says what the published one says.

use paramedic_fleet::Prices;
use paramedic_model::Usage;

use crate::corpus::shared_data;
use crate::told::tokens;

fn check(model: &str, published: &serde_json::Value, suffix: &str, usage: Usage) {
    let rate = |name: &str| published[format!("{name}{suffix}")].as_f64().unwrap_or_else(|| panic!("{model} {name}{suffix}"));
    #[expect(clippy::cast_precision_loss)]
    let expected = usage.input_tokens as f64 * rate("input_cost_per_token")
        + usage.output_tokens as f64 * rate("output_cost_per_token")
        + usage.cache_read_tokens as f64 * rate("cache_read_input_token_cost")
        + (usage.cache_creation_tokens - usage.cache_creation_1h_tokens) as f64 * rate("cache_creation_input_token_cost")
        + usage.cache_creation_1h_tokens as f64 * rate("cache_creation_input_token_cost_above_1hr");
    let ours = Prices::embedded().cost(model, &usage).unwrap_or_else(|| panic!("{model} has no price"));
    assert!((ours - expected).abs() <= 1e-12 + expected * 1e-12, "{model}{suffix}: {ours} != {expected}");
}

#[test]
fn every_published_model_costs_what_is_published() {
    let Some(path) = shared_data("prices/anthropic.json") else { return };
    let text = std::fs::read_to_string(path).unwrap();
    let published: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert!(published.len() > 10);
    for (model, rates) in &published {
        for usage in [
            tokens(1, 0, 0, 0),
            tokens(0, 1, 0, 0),
            tokens(0, 0, 1, 0),
            tokens(0, 0, 0, 1),
            Usage { cache_creation_1h_tokens: 1, ..tokens(0, 0, 0, 1) },
            Usage { cache_creation_1h_tokens: 300, ..tokens(12_345, 6_789, 54_321, 1_000) },
        ] {
            check(model, rates, "", usage);
        }
        if rates.get("input_cost_per_token_above_100k_tokens").is_some() {
            check(model, rates, "_above_100k_tokens", Usage { cache_creation_1h_tokens: 300, ..tokens(90_000, 6_789, 54_321, 1_000) });
        }
        let limit = Prices::embedded().context_limit(model).unwrap();
        assert_eq!(Some(limit), rates["max_input_tokens"].as_u64(), "{model}");
    }
}
