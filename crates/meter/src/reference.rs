//! The reference of metrics for people, made from the catalogue.

use std::fmt::Write as _;

use crate::catalogue::{CATALOGUE, Kind};
use crate::metrics::OWN;
use crate::not_derived::NOT_DERIVED;

const HEAD: &str = "\
# Metrics derived from agents

Made from the catalogue of the meter; a test fails when this file is stale. Paramedic writes these metrics into its store of
samples every `interval_s` seconds, from the events that it sees anyway, so that dashboards and rules made for other systems
find the names they use. The same numbers are on `/metrics`, without `up` and `process_*`, which a scrape gives to the scraped
program itself.

## How they count

- **Every fact once.** What several sources tell about one fact is one fact. A model call that is told again with larger
  counts adds only the growth.
- **The first event is seen.** A new counter or histogram begins with a zero one interval before its first value, so that
  `increase()` and `rate()` see the first event. Counters without labels exist as zero from the start.
- **History is not news.** An event that happened more than `history_s` (300) seconds before it is told, as in transcripts
  that are read at the first start, does not count in counters, because they say when something was counted, not when it
  happened. It does count in `agent_cost_today_dollars`.
- **After a restart** counters go on from the checkpoint; events since then are counted again from the store, so that no
  counter is ever smaller than what was written.
- **A request** is one turn of a main agent: from a prompt to the end of all work on it. It is counted when it ends: `success`,
  `error` (the model API's terminal error, or the process died) or `cancelled` (a person stopped it, or the session ended
  before any answer). Sub-agents work for their main agent's request; their tokens and cost are the main agent's. A failure
  that only a log tells is a failed model call; it is a failed request when the log says that the agent's run timed out, or
  when a request is known to be under way.
- **Through the gateway** every call is seen, also those that no client tells: an answer that broke off and was asked for
  again, a client that went away. Their tokens and cost count. A failed try counts when the gateway sees it; it counts as a
  retry when the client has come again. What the gateway itself refused is no failure of the model API. The cost that the
  gateway tells stands, whatever a client says that asked for another model than the one that served it.
- **A request of an agent that only the gateway knows** (a program that calls the API without telling anything of itself):
  its first call begins one, an answer that asks for no tool ends it. It is `error` when a call failed for good, or failed and
  the client did not come again within two minutes; `error_type` is `refused` where a switch, a limit or a budget refused it.
  It is `cancelled` when the client went away. Two conversations at the same time behind one key are told apart only by a
  session or agent that their calls name.
- **The duration of a request** is, unless set otherwise (`request_duration`), the time to its *first answer*: what a person
  waits for. Thresholds of 5 to 60 seconds in the documents mean that; a coding agent that then works for twenty minutes is
  healthy. `agent_turn_duration_seconds` has the whole. Buckets above 60 s are added to the documents' own, because nothing
  can be found to be longer than the largest bucket.
- **Errors over requests**: the label sets of `agent_errors_total` and `agent_requests_total` differ, so put `sum()` on both
  sides: `sum(rate(agent_errors_total[5m])) / sum(rate(agent_requests_total[5m]))`.
- **Cost of a day**: `agent_cost_today_dollars` is exact. `sum(increase(agent_cost_dollars_total[24h]))` is the last 24 hours;
  like every `increase()` it extrapolates to the edges of its range, by up to one interval for a series that is older than the
  range (0.02 % of 24 hours). `rate()` is per second: a day is 86,400 of them, not 24.
- **Tokens** include reads from the prompt cache, which are many and cheap: `token_type!=\"cache_read\"` leaves them out.
- **Cache**: a call with `cache_read` tokens is a hit, any other call with a prompt is a miss.
- **A label whose value is not known is left out.** Values are masked (no keys, no passwords), cut at 128 bytes, and bounded in
  number; what is beyond the bound is counted as `other`.
- **Series end** (with a staleness marker) when an agent was silent for `forget_agents_after_s`, any other labelled series
  after `forget_after_s`, and gauges of an agent when its session ends.

Known limits: a model call that is first told by telemetry without the message's id and later by a source that knows only that
id cannot be recognised, and counts twice in counters. Without telemetry, the duration of a model call is the time until the
first record of its answer.

## Metrics
";

const GATEWAY: &str = "
## Metrics of the gateway

On `/metrics` of the instance that runs the gateway; what is told by events is above. Labels are bounded: 200 keys (the one that was
silent for longest gives way), 50 models (further ones are `other`), the names of the switches that there are, without whom
they are for.

| name | type | labels | what it says |
|---|---|---|---|
| `paramedic_gateway_calls_total` | counter | `kind`, `outcome`, `status` | Calls that ended. kind: inference, count-tokens, other; outcome: answered, cut, client-gone, timed-out, unreachable, refused, broken-off, degraded; status: the class of what the client got, such as 2xx |
| `paramedic_gateway_upstream_tries_total` | counter | - | Times that an upstream was asked: more than calls where failed ones were tried again |
| `paramedic_gateway_request_bytes_total` | counter (bytes) | - | Bytes of requests |
| `paramedic_gateway_response_bytes_total` | counter (bytes) | - | Bytes of answers |
| `paramedic_gateway_refused_total` | counter | `switch` | Calls that were refused or broken off, by the switch's name; none: by the settings |
| `paramedic_gateway_changed_total` | counter | `switch` | Times that a switch changed or delayed a call that was passed on |
| `paramedic_gateway_calls_in_flight` | gauge | - | Calls that run now |
| `paramedic_gateway_calls_queued` | gauge | - | Calls that wait for a limit now |
| `paramedic_gateway_events_lost_total` | counter | - | Events of calls that nobody took in time; the calls themselves were served |
| `paramedic_gateway_guard_failures_total` | counter | - | Steps of calls (a guard, an edit, a limit, a budget) that were left out because the gateway failed in them: it failed open |
| `paramedic_gateway_handler_panics_total` | counter | - | Calls that were answered with 500 because the gateway failed |
| `paramedic_gateway_spent_dollars_total` | counter (dollars) | - | What calls cost |
| `paramedic_gateway_budget_used_ratio` | gauge | `cap` | How much of a cap is spent in its window; 1 is all. The fullest 100 caps that calls have asked for, by the switch that sets them |
| `paramedic_gateway_budget_reserved_dollars` | gauge (dollars) | - | What is reserved for calls that run |
| `paramedic_gateway_budget_refused_calls_total` | counter | - | Calls that were refused because a cap was reached |
| `paramedic_gateway_budget_waited_calls_total` | counter | - | Calls that waited for money that others had reserved |
| `paramedic_gateway_budget_waiting_calls` | gauge | - | Calls that wait for money now |
| `paramedic_gateway_budget_warnings_total` | counter | - | Warnings that 50, 80, 90 or 100 % of a cap are spent |
| `paramedic_gateway_budget_purses` | gauge | - | Callers whose spending is kept apart |
| `paramedic_gateway_budget_other_purses_total` | counter | - | Names of callers that were counted as other because there was no room |
| `paramedic_gateway_budget_unheld_caps_total` | counter | - | Caps that did not hold for a call because there was no room |
| `paramedic_gateway_budget_log_lines_total` | counter | - | Lines written to the log of what is spent |
| `paramedic_gateway_budget_log_lost_lines_total` | counter | - | Lines that were not written when they should have been; the next writing of all makes up for them |
| `paramedic_gateway_budget_log_damaged_lines_total` | counter | - | Lines of the log that could not be read |
| `paramedic_gateway_budget_log_failures_total` | counter | - | Writes of the log that failed |
| `paramedic_gateway_limit_admitted_calls_total` | counter | - | Calls that limits let in |
| `paramedic_gateway_limit_held_calls_total` | counter | - | Calls that a limit refused |
| `paramedic_gateway_limit_waited_calls_total` | counter | - | Calls that had to wait for a limit |
| `paramedic_gateway_limit_waiting_calls` | gauge | - | Calls that wait for a limit now, without those that are being looked at |
| `paramedic_gateway_limit_unlimited_calls_total` | counter | - | Limits of calls that did not hold, because too many are known |
| `paramedic_gateway_limit_shared_up` | gauge | - | 1 while the store in which gateways share limits answers; 0 also where there is none |
| `paramedic_gateway_limit_shared_asked_calls_total` | counter | - | Calls for which that store was asked |
| `paramedic_gateway_limit_shared_failed_calls_total` | counter | - | Calls for which it did not answer in time |
| `paramedic_gateway_limit_shared_bypassed_calls_total` | counter | - | Calls that went by this gateway's own limits while it was away |
| `paramedic_gateway_redis_up` | gauge | - | 1 while the Redis answers in which other programs set switches |
| `paramedic_gateway_redis_looks_total` | counter | - | Looks at those switches |
| `paramedic_gateway_redis_failures_total` | counter | - | Looks that failed: what was known goes on to hold until its end |
| `paramedic_gateway_redis_unreadable` | gauge | - | Keys there that name a switch and hold no value that it takes |
| `paramedic_gateway_answers_undecoded_total` | counter | - | Answers whose content encoding is not known, broken or too large, so that less is known of them; they passed as they came |
| `paramedic_gateway_answer_events_malformed_total` | counter | - | Events of streams that had to be understood and could not be |
| `paramedic_gateway_answer_events_skipped_total` | counter | - | Events of streams that were too large to be looked into |
| `paramedic_gateway_connections_count` | gauge | - | Connections of clients that are open |
| `paramedic_gateway_connections_accepted_total` | counter | - | Connections of clients that were taken |
| `paramedic_gateway_connections_turned_away_total` | counter | - | Connections beyond `connections_max` |
| `paramedic_gateway_connections_cut_head_total` | counter | - | Connections cut because a request's head took too long |
| `paramedic_gateway_connections_cut_idle_total` | counter | - | Connections closed because nothing was asked for long |
| `paramedic_gateway_connections_cut_stuck_total` | counter | - | Connections cut because the client did not take its answer |
| `paramedic_gateway_connections_cut_drain_total` | counter | - | Connections cut at the end of a drain |
| `paramedic_gateway_accept_errors_total` | counter | - | Connections that could not be taken |
| `agent_circuit_breaker_state` | gauge | `dependency`, `state` | 1 for the state (closed, open, half_open) that a breaker is in: of an upstream, a model of it (`anthropic/claude-…`) or a key. At most 200 breakers: those that are held, open or have failed come first |
| `agent_circuit_breaker_trips_total` | counter | `dependency` | How often it opened |
| `circuit_breaker_state` | gauge | `name`, `state` | The numbers of agent_circuit_breaker_state under the other name that documents use |
| `circuit_breaker_trips_total` | counter | `name` | The numbers of agent_circuit_breaker_trips_total |
| `circuit_breaker_failures_total` | counter | `name` | Failures that a breaker has seen |
| `agent_gateway_ttfb_seconds` | histogram (seconds) | - | Time from an inference call to the first byte of its answer, waiting in the gateway included |
| `agent_gateway_first_token_seconds` | histogram (seconds) | `model` | Time from an inference call to the first token, by the model that answered |
| `anthropic_ratelimit_requests_limit`, `anthropic_ratelimit_tokens_limit`, `anthropic_ratelimit_input_tokens_limit`, `anthropic_ratelimit_output_tokens_limit` | gauge | `key` | The provider's limit, as an answer to this key last told it; the key's name, never the key |
| `anthropic_ratelimit_requests_remaining`, `anthropic_ratelimit_tokens_remaining`, `anthropic_ratelimit_input_tokens_remaining`, `anthropic_ratelimit_output_tokens_remaining` | gauge | `key` | What remained of it then |
| `anthropic_ratelimit_requests_reset_timestamp_seconds`, `anthropic_ratelimit_tokens_reset_timestamp_seconds`, `anthropic_ratelimit_input_tokens_reset_timestamp_seconds`, `anthropic_ratelimit_output_tokens_reset_timestamp_seconds` | gauge (seconds) | `key` | When all of it is there again, in Unix time |
";

/// The whole reference as Markdown.
#[must_use]
pub fn reference() -> String {
    let mut text = HEAD.to_owned();
    text.push_str("\n| name | type | labels | what it says | from | name used by |\n|---|---|---|---|---|---|\n");
    for described in CATALOGUE {
        let labels = if described.labels.is_empty() { "-".to_owned() } else { format!("`{}`", described.labels.join("`, `")) };
        let unit = if described.unit.is_empty() { String::new() } else { format!(" ({})", described.unit) };
        let _ = writeln!(
            text,
            "| `{}` | {}{unit} | {labels} | {} | {} | {} |",
            described.name,
            described.kind.as_str(),
            described.help,
            described.from,
            described.origin
        );
    }
    text.push_str("\nBuckets of the histograms (upper bounds, `+Inf` besides):\n\n");
    for described in CATALOGUE {
        if let Kind::Histogram(bounds) = described.kind {
            let bounds: Vec<String> = bounds.iter().map(f64::to_string).collect();
            let _ = writeln!(text, "- `{}`: {}", described.name, bounds.join(", "));
        }
    }
    text.push_str(GATEWAY);
    text.push_str("\n## Names that events cannot give\n\nNothing is made up for these: where their source exists, it is scraped, probed or received.\n\n| names | why |\n|---|---|\n");
    for group in NOT_DERIVED {
        let _ = writeln!(text, "| `{}` | {} |", group.names.join("`, `"), group.why);
    }
    text.push_str("\n## The stage's own numbers\n\n| name | type | what it says |\n|---|---|---|\n");
    for (name, kind, help) in OWN {
        let _ = writeln!(text, "| `{name}` | {kind} | {help} |");
    }
    text
}
