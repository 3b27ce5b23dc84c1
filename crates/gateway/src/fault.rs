//! Faults on purpose, for drills, while somebody holds a lease.
//!
//! There is at most one lease, it ends by itself within the hour, and every answer that it touches says so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use paramedic_model::{Clock, Scope, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::call::Caller;
use crate::proxy::Body;
use crate::refuse::{Refusal, acted};

/// The header of every answer that a fault was done to.
pub const FAULT: HeaderName = HeaderName::from_static("x-paramedic-fault");
pub const LEASE_MAX: Duration = Duration::from_secs(3600);
const DELAY_MAX: Duration = Duration::from_secs(600);
const ID_BYTES_MAX: usize = 128;

/// What is done to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", rename_all_fields = "snake_case", tag = "kind")]
pub enum Fault {
    /// 429, with `retry-after` where there is one.
    RateLimited { retry_after_s: Option<u64> },
    /// 529.
    Overloaded,
    /// 500.
    ServerError,
    /// The upstream is asked later.
    Slow { delay_ms: u64 },
    /// The answer's body is cut after so many bytes.
    CutAfter { bytes: u64 },
    /// An event stream has an event in it that is none.
    MalformedEvent,
}

/// Somebody's right to do faults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lease {
    pub id: String,
    pub by: String,
    #[schemars(with = "String")]
    pub scope: Scope,
    /// The part of the calls in the scope, 0 to 1.
    pub share: f64,
    pub fault: Fault,
    pub until: Timestamp,
}

impl Lease {
    /// Whether it asks for what can be given.
    ///
    /// # Errors
    /// When it does not.
    pub fn check(&self, now: Timestamp) -> Result<(), LeaseFault> {
        check(self, now)
    }
}

/// Why a lease is not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseFault {
    #[error("lease the faults: {by} holds them as {id} until {until}")]
    Held { id: String, by: String, until: Timestamp },
    #[error("lease the faults: {0}")]
    Wrong(&'static str),
    #[error("renew the lease: it is not held, or not any more")]
    NotHeld,
}

/// A fault in the body of an answer that passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Injection {
    /// The answer is cut when so many bytes have passed.
    Cut { left: u64 },
    /// A malformed event is put in after the next event.
    Malformed,
}

impl Injection {
    pub(crate) const MALFORMED: &[u8] = b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"te\n\n";
}

/// What a call is to suffer.
#[derive(Debug, Clone, PartialEq)]
pub struct Struck {
    /// The lease's id.
    pub lease: Arc<str>,
    pub what: Strike,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Strike {
    /// It is answered so; the upstream is not asked.
    Answer(Box<Refusal>),
    Delay(Duration),
    Inject(Injection),
}

impl Struck {
    /// Says on an answer which lease it suffers from.
    pub fn mark<B>(&self, answer: &mut Response<B>) {
        answer.headers_mut().insert(FAULT, acted(&self.lease, None));
    }

    /// The whole answer, where the upstream is not asked.
    #[must_use]
    pub fn answer(&self) -> Option<Response<Body>> {
        let Strike::Answer(refusal) = &self.what else { return None };
        let mut answer = refusal.answer();
        // A drill is to look like the upstream's own error: clients must not be told to behave.
        answer.headers_mut().insert(crate::refuse::ACTED, HeaderValue::from_static("fault"));
        self.mark(&mut answer);
        Some(answer)
    }
}

/// The faults of a gateway.
pub struct Faults {
    clock: Arc<dyn Clock>,
    /// Spares calls the lock while nobody holds a lease.
    any: AtomicBool,
    lease: Mutex<Option<(Lease, Arc<str>)>>,
}

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faults").field("lease", &self.lease()).finish_non_exhaustive()
    }
}

fn check(lease: &Lease, now: Timestamp) -> Result<(), LeaseFault> {
    let wrong = |why| Err(LeaseFault::Wrong(why));
    if lease.id.is_empty() || lease.id.len() > ID_BYTES_MAX || !lease.id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return wrong("its id must be a short name of plain letters");
    }
    if !(lease.share > 0.0 && lease.share <= 1.0) {
        return wrong("its share must be above 0 and at most 1");
    }
    if lease.until <= now || lease.until.since(now) > LEASE_MAX {
        return wrong("its end must be within the next hour");
    }
    if matches!(lease.fault, Fault::Slow { delay_ms } if Duration::from_millis(delay_ms) > DELAY_MAX) {
        return wrong("its delay must be at most ten minutes");
    }
    Ok(())
}

impl Faults {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, any: AtomicBool::new(false), lease: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Option<(Lease, Arc<str>)>> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lease that holds, if one does.
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        let now = self.clock.now();
        self.held().as_ref().filter(|(lease, _)| lease.until > now).map(|(lease, _)| lease.clone())
    }

    /// Takes the lease. The same id again renews or changes it.
    ///
    /// # Errors
    /// When another holds it, or what it asks for is out of bounds.
    pub fn take(&self, lease: Lease) -> Result<(), LeaseFault> {
        let now = self.clock.now();
        check(&lease, now)?;
        let mut held = self.held();
        if let Some((other, _)) = held.as_ref().filter(|(other, _)| other.until > now && other.id != lease.id) {
            return Err(LeaseFault::Held { id: other.id.clone(), by: other.by.clone(), until: other.until });
        }
        let id = Arc::from(lease.id.as_str());
        *held = Some((lease, id));
        self.any.store(true, Ordering::Release);
        Ok(())
    }

    /// Moves the lease's end.
    ///
    /// # Errors
    /// When it does not hold any more, or its end would be more than an hour away.
    pub fn renew(&self, id: &str, until: Timestamp) -> Result<(), LeaseFault> {
        let now = self.clock.now();
        let mut held = self.held();
        let (lease, _) = held.as_mut().filter(|(lease, _)| lease.id == id && lease.until > now).ok_or(LeaseFault::NotHeld)?;
        let renewed = Lease { until, ..lease.clone() };
        check(&renewed, now)?;
        *lease = renewed;
        Ok(())
    }

    /// Ends the lease now. Whether it was held.
    pub fn release(&self, id: &str) -> bool {
        let mut held = self.held();
        let ours = held.as_ref().is_some_and(|(lease, _)| lease.id == id);
        if ours {
            *held = None;
            self.any.store(false, Ordering::Release);
        }
        ours
    }

    /// What a call is to suffer now. The same call gets the same answer while the lease is the same.
    #[must_use]
    pub fn strikes(&self, call: u64, caller: &Caller, model: Option<&str>) -> Option<Struck> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let now = self.clock.now();
        let mut held = self.held();
        let (lease, id) = held.as_ref()?;
        if lease.until <= now {
            *held = None;
            self.any.store(false, Ordering::Release);
            return None;
        }
        let struck = caller.is_in(&lease.scope, model) && falls(&lease.id, call, lease.share);
        struck.then(|| Struck { lease: Arc::clone(id), what: strike(lease.fault) })
    }
}

/// Whether a call is among the share that is struck, by a hash of its id.
fn falls(lease: &str, call: u64, share: f64) -> bool {
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(lease.as_bytes(), call);
    // 53 bits: as many as such a number holds exactly.
    ((hash >> 11) as f64) < share * (1_u64 << 53) as f64
}

fn strike(fault: Fault) -> Strike {
    let error = |status, error_type, message: &str| {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Box::new(Refusal::new(status, error_type, message))
    };
    match fault {
        Fault::RateLimited { retry_after_s } => {
            let mut refusal = error(429, "rate_limit_error", "This request would exceed a rate limit (a drill)");
            refusal.retry_after = retry_after_s.map(Duration::from_secs);
            Strike::Answer(refusal)
        }
        Fault::Overloaded => Strike::Answer(error(529, "overloaded_error", "Overloaded (a drill)")),
        Fault::ServerError => Strike::Answer(error(500, "api_error", "Internal server error (a drill)")),
        Fault::Slow { delay_ms } => Strike::Delay(Duration::from_millis(delay_ms)),
        Fault::CutAfter { bytes } => Strike::Inject(Injection::Cut { left: bytes }),
        Fault::MalformedEvent => Strike::Inject(Injection::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use paramedic_model::ManualClock;

    use super::*;

    fn lease(id: &str, share: f64, until: i64) -> Lease {
        Lease {
            id: id.to_owned(),
            by: "drill".to_owned(),
            scope: Scope::User("ana".to_owned()),
            share,
            fault: Fault::Overloaded,
            until: Timestamp::from_secs(until),
        }
    }

    fn ana() -> Caller {
        Caller { user: Some("ana".into()), ..Caller::default() }
    }

    #[test]
    fn a_lease_holds_only_for_its_time_and_its_scope() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1000)));
        let faults = Faults::new(clock.clone());
        assert_eq!(faults.strikes(1, &ana(), None), None);
        faults.take(lease("d1", 1.0, 1060)).unwrap();
        let struck = faults.strikes(1, &ana(), None).unwrap();
        let answer = struck.answer().unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()[FAULT].to_str().unwrap()), (529, "d1"));
        assert!(answer.headers().get("x-should-retry").is_none());
        assert_eq!(faults.strikes(1, &Caller::default(), None), None);

        assert!(matches!(faults.take(lease("d2", 1.0, 1060)), Err(LeaseFault::Held { .. })));
        faults.renew("d1", Timestamp::from_secs(1120)).unwrap();
        clock.set(Timestamp::from_secs(1100));
        assert!(faults.strikes(1, &ana(), None).is_some());
        clock.set(Timestamp::from_secs(1120));
        assert_eq!(faults.strikes(1, &ana(), None), None);
        assert_eq!(faults.renew("d1", Timestamp::from_secs(1180)), Err(LeaseFault::NotHeld));

        faults.take(lease("d2", 1.0, 1180)).unwrap();
        assert!(!faults.release("d1") && faults.release("d2"));
        assert_eq!((faults.strikes(1, &ana(), None), faults.lease()), (None, None));
    }

    #[test]
    fn a_lease_has_bounds() {
        let faults = Faults::new(Arc::new(ManualClock::at(Timestamp::from_secs(1000))));
        for (id, share, until) in [
            ("d", 0.0, 1060),
            ("d", 1.1, 1060),
            ("d", f64::NAN, 1060),
            ("d", 1.0, 1000),
            ("d", 1.0, 4601),
            ("", 1.0, 1060),
            ("d\r\n", 1.0, 1060),
        ] {
            assert!(matches!(faults.take(lease(id, share, until)), Err(LeaseFault::Wrong(_))), "{id:?} {share} {until}");
        }
        faults.take(lease("d", 1.0, 4600)).unwrap();
        assert!(faults.renew("d", Timestamp::from_secs(9999)).is_err());
    }

    #[test]
    fn the_share_is_kept_and_a_calls_lot_is_always_the_same() {
        let faults = Faults::new(Arc::new(ManualClock::at(Timestamp::from_secs(1000))));
        faults.take(lease("d", 0.25, 1060)).unwrap();
        let struck = |call| faults.strikes(call, &ana(), None).is_some();
        let count = (0..10_000).filter(|call| struck(*call)).count();
        assert!((2300..2700).contains(&count), "{count}");
        assert!((0..100).all(|call| struck(call) == struck(call)));
    }
}
