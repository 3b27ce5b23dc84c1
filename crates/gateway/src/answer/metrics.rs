//! What the reading of answers counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::Seen;

#[derive(Debug, Clone, Default)]
pub struct Metrics {
    undecoded: Counter,
    malformed: Counter,
    skipped: Counter,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        let undecoded = "Answers whose content encoding is not known, broken or too large, so that less is known of them";
        registry.register("paramedic_gateway_answers_undecoded", undecoded, self.undecoded.clone());
        let malformed = "Events of streams that had to be understood and could not be";
        registry.register("paramedic_gateway_answer_events_malformed", malformed, self.malformed.clone());
        let skipped = "Events of streams that were too large to be looked into";
        registry.register("paramedic_gateway_answer_events_skipped", skipped, self.skipped.clone());
    }

    /// An answer is over.
    pub fn note(&self, seen: &Seen) {
        if !seen.decoded {
            self.undecoded.inc();
        }
        // A counter is shared by all calls, and nearly all of them have nothing to add.
        if seen.malformed_events > 0 {
            self.malformed.inc_by(seen.malformed_events);
        }
        if seen.skipped_events > 0 {
            self.skipped.inc_by(seen.skipped_events);
        }
    }
}
