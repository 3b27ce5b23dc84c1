//! Counting keys without stopping the server.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::Settings;
use super::link::{Link, command, key_text};
use super::pattern::Pattern;
use crate::call::{Call, Done, Object, Plan};
use crate::error::ActionError;
use crate::spec::Effect;

/// Keys that the server looks at before it answers anybody else again.
const SCAN_COUNT: &str = "1000";
/// Keys that are looked at one by one.
const SAMPLE_MAX: usize = 200;
const NAMES_MAX: usize = 20;

pub(super) fn plan(call: &Call) -> Result<Plan, ActionError> {
    let pattern = Pattern::of(call)?;
    let mut plan = Plan::new(call, Effect::Read, format!("count the keys that match {}", key_text(pattern.text.as_bytes())));
    plan.exact.push(format!("SCAN 0 MATCH {} COUNT {SCAN_COUNT}", key_text(pattern.text.as_bytes())));
    Ok(plan)
}

/// Every key of the pattern, once, in order. More than the setting `keys_max` is refused.
pub(super) async fn keys(link: &mut Link, pattern: &Pattern, settings: &Settings) -> Result<Vec<Vec<u8>>, ActionError> {
    if pattern.exact {
        let mut exists = command(&["EXISTS"]);
        exists.arg(&pattern.fixed);
        let there: u64 = link.ask(&exists).await?;
        return Ok(if there > 0 { vec![pattern.fixed.clone()] } else { Vec::new() });
    }
    let until = Instant::now() + Duration::from_secs(settings.scan_timeout_s);
    // A scan may name a key twice.
    let mut found = HashSet::new();
    let mut cursor = 0_u64;
    loop {
        let mut scan = command(&["SCAN"]);
        scan.arg(cursor).arg("MATCH").arg(&pattern.text).arg("COUNT").arg(SCAN_COUNT);
        let (next, page): (u64, Vec<Vec<u8>>) = link.ask(&scan).await?;
        // What does not begin as it must is not ours, whatever the server thinks.
        found.extend(page.into_iter().filter(|key| key.starts_with(&pattern.fixed)));
        if found.len() as u64 > settings.keys_max {
            return Err(link.refused(format!("more than {} keys match, and no more are counted (keys_max)", settings.keys_max)));
        }
        if next == 0 {
            break;
        }
        if Instant::now() > until {
            return Err(link.failed(format!("the scan of all keys took longer than {} s", settings.scan_timeout_s)));
        }
        cursor = next;
    }
    let mut keys: Vec<Vec<u8>> = found.into_iter().collect();
    keys.sort_unstable();
    Ok(keys)
}

/// One key, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) kind: String,
    /// Milliseconds; none when it never expires.
    pub(super) expires_ms: Option<u64>,
    pub(super) bytes: Option<u64>,
}

impl Seen {
    pub(super) fn object(&self) -> Object {
        let expires = self.expires_ms.map_or_else(|| "never expires".to_owned(), |ms| format!("expires in {} s", ms / 1_000));
        let bytes = self.bytes.map_or_else(String::new, |bytes| format!(", {bytes} bytes"));
        Object { kind: "key".to_owned(), name: self.name.clone(), detail: format!("{}, {expires}{bytes}", self.kind) }
    }
}

pub(super) async fn look(link: &mut Link, keys: &[Vec<u8>]) -> Result<Vec<Seen>, ActionError> {
    let mut seen = Vec::with_capacity(keys.len());
    for batch in keys.chunks(100) {
        let mut pipe = ::redis::pipe();
        for key in batch {
            pipe.cmd("TYPE").arg(key).cmd("PTTL").arg(key).cmd("MEMORY").arg("USAGE").arg(key);
        }
        let answers: Vec<(String, i64, Option<u64>)> = {
            let flat: Vec<::redis::Value> = link.pipe(&pipe).await?;
            let mut all = Vec::with_capacity(batch.len());
            for three in flat.chunks(3) {
                let one = ::redis::from_redis_value(::redis::Value::Array(three.to_vec()));
                all.push(one.map_err(|error| link.failed(format!("Redis answers in another way than expected: {error}")))?);
            }
            all
        };
        for (key, (kind, expires_ms, bytes)) in batch.iter().zip(answers) {
            // It expired since the scan.
            if kind != "none" {
                seen.push(Seen { name: key_text(key), kind, expires_ms: u64::try_from(expires_ms).ok(), bytes });
            }
        }
    }
    Ok(seen)
}

/// At most `SAMPLE_MAX` of the keys, spread evenly.
fn sample(keys: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let step = keys.len().div_ceil(SAMPLE_MAX).max(1);
    keys.iter().step_by(step).cloned().collect()
}

pub(super) async fn read(settings: &Settings, call: &Call) -> Result<Done, ActionError> {
    let pattern = Pattern::of(call)?;
    let mut link = Link::open(settings, &call.action).await?;
    let keys = keys(&mut link, &pattern, settings).await?;
    let of = link.size().await?;
    let seen = look(&mut link, &sample(&keys)).await?;
    let mut types: BTreeMap<&str, u64> = BTreeMap::new();
    seen.iter().for_each(|key| *types.entry(key.kind.as_str()).or_default() += 1);
    let sample_bytes: u64 = seen.iter().filter_map(|key| key.bytes).sum();
    let count = keys.len() as u64;
    let estimated = if seen.is_empty() { 0 } else { sample_bytes.saturating_mul(count) / seen.len() as u64 };
    let expiring = seen.iter().filter(|key| key.expires_ms.is_some()).count();
    #[expect(clippy::cast_precision_loss, reason = "a share of at most two hundred")]
    let share = if seen.is_empty() { 0.0 } else { expiring as f64 / seen.len() as f64 };
    let names: Vec<String> = keys.iter().take(NAMES_MAX).map(|key| key_text(key)).collect();
    let answer = json!({
        "count": count, "of": of, "sampled": seen.len(), "sample_bytes": sample_bytes, "bytes_estimated": estimated,
        "types": types, "expiring_share": share, "names": names,
    });
    Ok(Done::looked(format!("counted {count} of {of} keys that match {}", key_text(pattern.text.as_bytes())), answer))
}
