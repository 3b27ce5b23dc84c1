//! Settling: what a headless run's own account says, and no call explains.
//!
//! The lines of stream-json carry placeholders for the tokens that came out; the run's result carries the true sums by
//! model. The difference between the account and everything that is counted of the session's calls is counted on top,
//! without a call, and shrinks as better sources tell the calls. Whatever the order, the larger of the two counts.

use paramedic_model::{Event, Source, Usage};

use crate::count::day;
use crate::fleet::{Fleet, Novelty, Place};
use crate::session::Account;
use crate::tally::Tally;

/// The record in which a run accounts for one model.
const MODEL_USAGE: &str = "result/model_usage";
/// No run uses more tokens of one kind.
const TOKENS_PER_RUN_MAX: u64 = 100_000_000_000;

/// Whether the event is such an account.
pub(crate) fn is_account(event: &Event) -> bool {
    event.source == Source::StreamJson && &*event.name == MODEL_USAGE
}

impl Fleet {
    pub(crate) fn account(&mut self, event: &Event, place: Place) -> Novelty {
        let model = event.attributes.get("model").and_then(serde_json::Value::as_str);
        let count = |name: &str| {
            let told = event.attributes.get(name).and_then(serde_json::Value::as_u64);
            told.unwrap_or(0).min(TOKENS_PER_RUN_MAX)
        };
        let usage = Usage {
            input_tokens: count("input_tokens"),
            output_tokens: count("output_tokens"),
            cache_read_tokens: count("cache_read_tokens"),
            cache_creation_tokens: count("cache_creation_tokens"),
            cache_creation_1h_tokens: 0,
        };
        let model = self.models.number(model, &self.prices);
        if let Some(session) = self.sessions.get_mut(&place.session) {
            session.account(place.agent, day(event), model, usage);
        }
        self.settle(place.session);
        Novelty::New
    }

    /// Counts what the session's accounts have more than its calls.
    pub(crate) fn settle(&mut self, session: u64) {
        let Some(session) = self.sessions.get_mut(&session).filter(|session| !session.accounts.is_empty()) else { return };
        for (before, after) in session.settle() {
            self.strike(before.agent, before.day, before.model, self.missing(&before));
            let tally = self.missing(&after);
            self.books.add(after.day, after.model, tally);
            match self.agents.get_mut(&after.agent) {
                Some(agent) => agent.add(after.model, tally),
                None => self.books.dropped = self.books.dropped.plus(tally),
            }
        }
    }

    fn missing(&self, account: &Account) -> Tally {
        Tally::of(account.missing, 0, self.models.price(account.model), None)
    }
}
