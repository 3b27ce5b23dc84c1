//! What the gateway tells of an agent's calls: each try that failed, but not whether the client tries again; each answer, but
//! not where in its turn the agent is. Where others tell that, the gateway only counts; where nobody does, its calls are all
//! that is known of requests.

use std::collections::VecDeque;
use std::time::Duration;

use paramedic_model::{Event, Fact, Source, Timestamp};
use serde::{Deserialize, Serialize};

use crate::course::{Course, Turn};
use crate::meter::{Meter, Moment};
use crate::requests::End;

/// A client tells a failure within this time of the gateway, by their own clocks.
const WINDOW: Duration = Duration::from_secs(5);
/// A client that has not come again after so long has given up.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(120);
/// Failures remembered per agent.
const FAILURES_MAX: usize = 16;
/// Why a request failed that a switch, a limit or a budget refused.
pub(crate) const REFUSED: &str = "refused";

/// Whether the gateway tells it.
pub(crate) fn is_gateways(event: &Event) -> bool {
    event.source == Source::Gateway
}

/// Why the answer did not come to its end, where the gateway says so.
fn unfinished(event: &Event) -> Option<&str> {
    event.attributes.get("unfinished").filter(|_| is_gateways(event)).and_then(|why| why.as_str())
}

/// The gateway itself said no: the model API was not asked.
pub(crate) fn is_refused(event: &Event) -> bool {
    is_gateways(event) && event.attributes.contains_key("refused_by")
}

/// What the gateway told of one agent's failures.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Passing {
    failures: VecDeque<(Timestamp, Option<Box<str>>)>,
    /// A failure after which clients usually come again, and this one has not yet.
    is_retry_due: bool,
    /// The class of the last failure, until an answer.
    failed: Option<Box<str>>,
}

impl Passing {
    fn note(&mut self, event: &Event) {
        if self.failures.len() >= FAILURES_MAX {
            self.failures.pop_front();
        }
        self.failures.push_back((event.at, event.correlation.request.clone()));
    }

    /// Whether a client tells a failure that the gateway has told: the one of this id, else the nearest in time.
    pub(crate) fn claim(&mut self, event: &Event) -> bool {
        let request = &event.correlation.request;
        let apart = |at: Timestamp| at.since(event.at).max(event.at.since(at));
        let fits = |(at, id): &(Timestamp, Option<Box<str>>)| match (id, request) {
            (Some(id), Some(request)) => id == request,
            _ => apart(*at) <= WINDOW,
        };
        let candidates = self.failures.iter().enumerate().filter(|(_, failure)| fits(failure));
        let found = candidates.min_by_key(|(_, (at, id))| (id.is_none() || id != request, apart(*at))).map(|(i, _)| i);
        found.is_some_and(|i| self.failures.remove(i).is_some())
    }
}

impl Course {
    /// Remembers who tells of the agent.
    pub(crate) fn heard_from(&mut self, source: Source) {
        self.is_recorded |= matches!(source, Source::Transcript | Source::StreamJson);
        self.is_told |= self.is_recorded || matches!(source, Source::Hook | Source::OtlpLog);
    }

    /// The gateway tells it, and others tell the agent's turns.
    pub(crate) fn is_passing(&self, event: &Event) -> bool {
        is_gateways(event) && self.is_told
    }
}

impl Meter {
    /// The gateway saw a try fail. Whether that is a retry, only the next one tells.
    pub(crate) fn passing_failure(&mut self, moment: &Moment<'_>, course: &mut Course, class: &str) {
        self.came_again(moment, course);
        if !course.is_told {
            let took = if let Fact::ModelError { duration: Some(took), .. } = moment.event.fact { took } else { Duration::ZERO };
            self.passing_begins(moment, course, took);
        }
        course.passing.note(moment.event);
        course.passing.is_retry_due = matches!(moment.event.fact, Fact::ModelRetry { .. });
        course.passing.failed = Some(if is_refused(moment.event) { REFUSED } else { class }.into());
    }

    /// A client that failed before called again.
    fn came_again(&mut self, moment: &Moment<'_>, course: &mut Course) {
        self.give_up(moment, course);
        if std::mem::take(&mut course.passing.is_retry_due) {
            self.retried(moment);
        }
    }

    /// A client that failed, and has come again only now, has come with another request.
    fn give_up(&mut self, moment: &Moment<'_>, course: &mut Course) {
        let Some((failed_at, _)) = course.passing.failures.back() else { return };
        let failed_at = *failed_at;
        if course.is_told || moment.event.at.since(failed_at) < GIVEN_UP_AFTER {
            return;
        }
        course.passing.is_retry_due = false;
        if let Some(turn) = course.turn
            && let Some(class) = last_end(course, turn.answered)
        {
            self.close(moment, course, End::Error(&class), failed_at, None);
        }
    }

    /// A client tells how a failure went on: nothing is due any more.
    pub(crate) const fn client_told(course: &mut Course) {
        course.passing.is_retry_due = false;
    }

    /// The gateway saw an answer. Says whether it came to its end.
    pub(crate) fn passing_answer(&mut self, moment: &Moment<'_>, course: &mut Course, took: Option<Duration>) -> bool {
        self.came_again(moment, course);
        if !course.is_told {
            self.passing_begins(moment, course, took.unwrap_or_default());
        }
        match unfinished(moment.event) {
            None => {
                course.passing.failed = None;
                true
            }
            Some(why) => {
                if why == "client-gone" {
                    self.client_gone(moment, course);
                }
                false
            }
        }
    }

    /// Nobody else will say what became of it.
    pub(crate) fn client_gone(&mut self, moment: &Moment<'_>, course: &mut Course) {
        if !course.is_told && course.turn.is_some() {
            self.close(moment, course, End::Cancelled, moment.event.at, None);
        }
    }

    /// The first call of a request, of an agent whose turns nobody tells: it began when the call did.
    fn passing_begins(&self, moment: &Moment<'_>, course: &mut Course, took: Duration) {
        if course.turn.is_none() {
            course.turn = Some(Turn { since: moment.event.at.before(took), announced: true, answered: false });
            course.ended = false;
        }
    }

    /// An answer that asks for no tool ends the request of an agent whose turns nobody tells.
    pub(crate) fn passing_ended(&mut self, moment: &Moment<'_>, course: &mut Course, stop_reason: Option<&str>) {
        if !course.is_told && stop_reason.is_some_and(|reason| !matches!(reason, "tool_use" | "pause_turn")) {
            self.turn_ended(moment, course, None);
        }
    }
}

/// How a request ended that nobody says more of.
pub(crate) fn last_end(course: &Course, answered: bool) -> Option<Box<str>> {
    course.passing.failed.clone().filter(|_| !answered && !course.is_told)
}
