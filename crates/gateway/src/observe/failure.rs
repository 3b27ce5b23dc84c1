//! What failed in a call, and whether the client will come again.

use paramedic_model::ApiErrorClass;
use paramedic_model::limit::ID_BYTES_MAX;
use paramedic_model::text::{head, one_line};

use crate::answer::class_of;
use crate::call::{Outcome, Record};

/// Refusals by these say that it is of no use to come again.
const FINAL: &[&str] = &["blocked", "fast_fail", "max_input_", "max_growth_", "daily_budget", "weekly_budget", "monthly_budget"];
/// What a refusal is by when no switch is named: a limit, a budget or a breaker of the settings.
const GATEWAY: &str = "gateway";

/// A call that was no answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Failure<'a> {
    pub(super) class: ApiErrorClass,
    /// As the provider said it. None where it said nothing, or had said 200 before it failed.
    pub(super) status: Option<u16>,
    /// Clients do not try it again.
    pub(super) is_final: bool,
    /// The switch that refused it or broke it off.
    pub(super) refused_by: Option<&'a str>,
}

impl<'a> Failure<'a> {
    /// None for an answer, and for a client that went away: nothing failed.
    pub(super) fn of(record: &'a Record) -> Option<Self> {
        let told = class_of(record.status, record.error_type.as_deref());
        let status = Some(record.status).filter(|status| *status >= 400);
        let plain = |class, status| Self { class, status, is_final: false, refused_by: None };
        Some(match record.outcome {
            Outcome::Degraded | Outcome::ClientGone => return None,
            Outcome::Answered => Self { is_final: is_final(record), ..plain(told?, status) },
            Outcome::Cut | Outcome::Unreachable => plain(ApiErrorClass::Network, None),
            // It was measured here: nobody answered.
            Outcome::TimedOut => plain(ApiErrorClass::Timeout, None),
            Outcome::Refused | Outcome::BrokenOff => {
                let by = record.acted.last().map_or(GATEWAY, |acted| &*acted.switch);
                let is_final = record.outcome == Outcome::Refused && (is_final(record) || FINAL.iter().any(|name| by.starts_with(name)));
                let class = told.unwrap_or(ApiErrorClass::Network);
                Self { class, status, is_final, refused_by: Some(by) }
            }
        })
    }

    /// One sentence, and never what the request said.
    pub(super) fn text(&self, record: &Record) -> Box<str> {
        let again = if self.is_final { "" } else { "; the client may try again" };
        if let Some(switch) = self.refused_by {
            let verb = if record.outcome == Outcome::BrokenOff { "broken off" } else { "refused" };
            let by = one_line(head(switch, ID_BYTES_MAX));
            let what = record.acted.last().map(|acted| format!(": {}", one_line(head(&acted.what, ID_BYTES_MAX)))).unwrap_or_default();
            return if switch == GATEWAY {
                format!("{verb} by the gateway, {}{again}", self.class.title()).into()
            } else {
                format!("{verb} by the switch {by}{what}{again}").into()
            };
        }
        let status = self.status.map(|status| format!("HTTP {status}, ")).unwrap_or_default();
        let how = match record.outcome {
            Outcome::Cut => "the answer ended before its end",
            Outcome::TimedOut => "no answer in time",
            Outcome::Unreachable => "the upstream could not be reached",
            _ => self.class.title(),
        };
        format!("{status}{how}{again}").into()
    }
}

/// Whether clients usually leave it at this answer. Claude Code tries a refused key again, other clients do not.
fn is_final(record: &Record) -> bool {
    let is_code = record.caller.client.as_deref().is_some_and(|client| client.starts_with("claude-cli"));
    match record.status {
        401 => !is_code,
        408 | 409 => false,
        // A cap on spending: told as final.
        429 => record.error_type.as_deref() == Some("billing_error"),
        400..=499 => true,
        _ => false,
    }
}
