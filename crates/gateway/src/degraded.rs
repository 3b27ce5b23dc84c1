//! Degraded mode: answers that cost nothing, while the provider cannot or shall not be asked.
//!
//! A fixed answer is a whole message in the API's shape. A kept answer is one that the same call got before; a call says with
//! a header that it may get one, because only its author knows whether an old answer is as good as a new one.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Response};
use paramedic_model::Timestamp;
use serde_json::json;
use xxhash_rust::xxh3::xxh3_128;

use crate::proxy::Body;

/// With `safe`, a call says that it may get the answer that the same call got before.
pub const CACHE: HeaderName = HeaderName::from_static("x-paramedic-cache");
/// A larger answer is not kept.
pub(crate) const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Whether a call says that an answer of before is good enough.
#[must_use]
pub fn is_marked_safe(headers: &HeaderMap) -> bool {
    headers.get(CACHE).is_some_and(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"safe"))
}

/// What makes two calls the same: the whole body, the key, and what the answer's form depends on.
#[must_use]
pub fn same(body: &[u8], key: Option<&str>, headers: &HeaderMap) -> u128 {
    let mut all = body.to_vec();
    for name in ["anthropic-version", "anthropic-beta", "accept-encoding"] {
        all.push(0xff);
        all.extend_from_slice(headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default());
    }
    all.push(0xff);
    all.extend_from_slice(key.unwrap_or_default().as_bytes());
    xxh3_128(&all)
}

#[derive(Debug, Clone)]
struct Kept {
    headers: HeaderMap,
    body: Bytes,
    at: Timestamp,
}

#[derive(Debug, Default)]
struct Inner {
    answers: HashMap<u128, Kept>,
    bytes: usize,
}

/// Answers of before, in bounded memory; the oldest gives way.
#[derive(Debug, Default)]
pub struct AnswerCache {
    inner: Mutex<Inner>,
}

impl AnswerCache {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a whole, good answer.
    pub fn keep(&self, same: u128, headers: &HeaderMap, body: Bytes, bytes_max: usize, now: Timestamp) {
        if body.len() > ANSWER_BYTES_MAX.min(bytes_max) {
            return;
        }
        let mut inner = self.lock();
        let mut kept = HeaderMap::new();
        for name in ["content-type", "content-encoding"] {
            if let Some(value) = headers.get(name) {
                kept.insert(HeaderName::from_static(name), value.clone());
            }
        }
        inner.bytes += body.len();
        if let Some(before) = inner.answers.insert(same, Kept { headers: kept, body, at: now }) {
            inner.bytes -= before.body.len();
        }
        while inner.bytes > bytes_max {
            let Some(oldest) = inner.answers.iter().min_by_key(|(_, kept)| kept.at).map(|(same, _)| *same) else { break };
            if let Some(gone) = inner.answers.remove(&oldest) {
                inner.bytes -= gone.body.len();
            }
        }
    }

    /// The answer that the same call got, if that was not too long ago.
    #[must_use]
    pub fn find(&self, same: u128, within: Duration, now: Timestamp) -> Option<Response<Body>> {
        let inner = self.lock();
        let kept = inner.answers.get(&same).filter(|kept| now.since(kept.at) <= within)?;
        let mut answer = Response::new(Body::whole(kept.body.clone()));
        *answer.headers_mut() = kept.headers.clone();
        Some(answer)
    }
}

/// A message of our own in the API's shape, as a stream where one was asked for.
#[must_use]
pub fn fixed_answer(text: &str, model: &str, stream: bool, id: u64) -> Response<Body> {
    let id = format!("msg_paramedic_{id:012}");
    let usage = json!({"input_tokens": 0, "output_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0});
    let message = |content: serde_json::Value, stop_reason: Option<&str>| {
        json!({"id": id, "type": "message", "role": "assistant", "model": model, "content": content, "stop_reason": stop_reason,
            "stop_sequence": null, "usage": usage})
    };
    if !stream {
        let whole = message(json!([{"type": "text", "text": text}]), Some("end_turn"));
        return of(whole.to_string(), "application/json");
    }
    let events = [
        json!({"type": "message_start", "message": message(json!([]), None)}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {"output_tokens": 0}}),
        json!({"type": "message_stop"}),
    ];
    let stream = events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default()));
    of(stream.collect(), "text/event-stream; charset=utf-8")
}

fn of(body: String, content_type: &'static str) -> Response<Body> {
    let mut answer = Response::new(Body::whole(body));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_answers_are_bounded_and_grow_old() {
        let (cache, headers) = (AnswerCache::default(), HeaderMap::new());
        for at in 0..10 {
            cache.keep(at, &headers, Bytes::from(vec![b'x'; 100]), 350, Timestamp::from_secs(i64::try_from(at).unwrap()));
        }
        let found = |same| cache.find(same, Duration::from_secs(100), Timestamp::from_secs(20)).is_some();
        assert_eq!((found(6), found(7), found(9)), (false, true, true));
        assert!(cache.find(9, Duration::from_secs(5), Timestamp::from_secs(20)).is_none());
        assert_eq!(cache.lock().bytes, 300);
        cache.keep(9, &headers, Bytes::from(vec![b'x'; 40]), 350, Timestamp::from_secs(21));
        assert_eq!(cache.lock().bytes, 240);
    }

    #[test]
    fn the_same_call_is_the_same_body_key_and_form() {
        let mut headers = HeaderMap::new();
        let one = same(b"{}", Some("k1"), &headers);
        assert_eq!(one, same(b"{}", Some("k1"), &headers));
        assert_ne!(one, same(b"{}", Some("k2"), &headers));
        assert_ne!(one, same(b"{ }", Some("k1"), &headers));
        headers.insert("anthropic-beta", HeaderValue::from_static("x"));
        assert_ne!(one, same(b"{}", Some("k1"), &headers));
    }
}
