//! What an answer says while it passes: usage, stop reason, errors, limits.
//!
//! **Takes** the status, the headers and the bytes of an answer, in whatever pieces they come. **Gives** [`Seen`], which
//! is known better with every piece, and [`Limits`] from the headers. **Never** changes, delays or keeps an answer: what
//! cannot be understood, decoded or held makes less known, and that is counted.

mod book;
mod class;
mod decode;
mod json;
mod limits;
mod metrics;
mod outline;
mod stream;
mod wire;

use std::panic::{AssertUnwindSafe, catch_unwind};

use hyper::HeaderMap;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use paramedic_model::Usage;

pub use book::{BucketView, LimitBook, LimitView, Rates, WindowView, model_class};
pub use class::{RetrySigns, class_of, is_prompt_too_long, may_retry};
pub use limits::{Bucket, BucketName, Limits, MostUsed, UnifiedLimits, UnifiedWindow};
pub use metrics::Metrics;

use decode::Decoder;
use json::JsonBody;
use stream::EventStream;

/// Bytes of text that one token is taken for while a stream has not yet said how many it wrote.
const BYTES_PER_TOKEN: u64 = 4;

/// What is known of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// `msg_…`
    pub message_id: Option<Box<str>>,
    /// The model that answered.
    pub model: Option<Box<str>>,
    /// The largest count of each kind that the answer named. A stream that was cut says too little of its output: see
    /// [`Seen::usage_so_far`].
    pub usage: Usage,
    /// Searches of the web that the provider made, which have a price of their own.
    pub web_searches: u64,
    /// Served at the fast speed, which has a price of its own.
    pub fast: bool,
    /// Served in one country only, which has a price of its own: `us`.
    pub geo: Option<Box<str>>,
    pub stop_reason: Option<Box<str>>,
    /// `overloaded_error`, from an error's body or from the event inside a stream.
    pub error_type: Option<Box<str>>,
    /// The error's details name it: `enforced_spend_limit_reached`.
    pub error_code: Option<Box<str>>,
    /// At most 200 bytes, with secrets masked.
    pub error_message_head: Option<Box<str>>,
    /// Events of the stream, those that are not looked into counted too.
    pub events: u64,
    /// The first piece of content came: of a stream its first `content_block_delta`, else the body's first byte. With
    /// zstd this may be known late, for its decoder holds back a window.
    pub content_began: bool,
    /// The stream's `message_stop` came, or the JSON body was whole. Of other bodies nothing is known.
    pub complete: bool,
    /// All that came could be decoded; false for an encoding that is not known, broken or too large.
    pub decoded: bool,
    /// Events that had to be understood and could not be.
    pub malformed_events: u64,
    /// Events that were too large to be looked into.
    pub skipped_events: u64,
    /// Bytes of the text, the thinking and the tools' input that the stream's deltas carried.
    pub content_bytes: u64,
    /// `usage.output_tokens` is the provider's last word, not its first.
    pub output_is_exact: bool,
}

impl Seen {
    /// Tokens written so far: by the provider's count when it has told one, until then by the bytes that came.
    #[must_use]
    pub const fn output_tokens_so_far(&self) -> u64 {
        let guess = self.content_bytes.div_ceil(BYTES_PER_TOKEN);
        if self.output_is_exact || self.usage.output_tokens > guess { self.usage.output_tokens } else { guess }
    }

    /// What is to be paid for if the answer ends here.
    #[must_use]
    pub const fn usage_so_far(&self) -> Usage {
        Usage { output_tokens: self.output_tokens_so_far(), ..self.usage }
    }
}

/// Follows one answer.
pub struct Reader {
    seen: Seen,
    decoder: Option<Box<Decoder>>,
    body: Body,
    is_success: bool,
}

enum Body {
    Stream(EventStream),
    Json(JsonBody),
    /// Nothing that can be understood.
    Opaque,
}

impl Reader {
    #[must_use]
    pub fn new(status: u16, headers: &HeaderMap) -> Self {
        let decoder = Decoder::of(headers.get_all(CONTENT_ENCODING).iter());
        let mut body = match headers.get(CONTENT_TYPE).map(|value| media_type(value.as_bytes())) {
            Some(media) if media.eq_ignore_ascii_case(b"text/event-stream") => Body::Stream(EventStream::default()),
            Some(media) if !is_json(media) => Body::Opaque,
            // An error of a proxy on the way may come without a type.
            _ => Body::Json(JsonBody::default()),
        };
        let decoded = decoder.is_ok();
        if !decoded {
            body = Body::Opaque;
        }
        let seen = Seen { decoded, ..Seen::default() };
        Self { seen, decoder: decoder.ok().flatten().map(Box::new), body, is_success: (200..300).contains(&status) }
    }

    /// The answer's next bytes, as they came from the upstream.
    pub fn push(&mut self, chunk: &[u8]) {
        if chunk.is_empty() {
            return;
        }
        let Self { seen, decoder, body, is_success } = self;
        match decoder {
            None => body.push(chunk, *is_success, seen),
            Some(decoder) => {
                // The decoders are other people's code, and the bytes are hostile.
                let pushed = catch_unwind(AssertUnwindSafe(|| decoder.push(chunk, &mut |part| body.push(part, *is_success, seen))));
                if !matches!(pushed, Ok(Ok(()))) {
                    self.give_up();
                }
            }
        }
    }

    #[must_use]
    pub const fn seen(&self) -> &Seen {
        &self.seen
    }

    /// The answer is over, whether it is whole or was cut.
    #[must_use]
    pub fn finish(mut self) -> Seen {
        let Self { seen, decoder, body, is_success } = &mut self;
        if let Some(decoder) = decoder {
            let ended = catch_unwind(AssertUnwindSafe(|| decoder.finish(&mut |part| body.push(part, *is_success, seen))));
            if !matches!(ended, Ok(Ok(()))) {
                self.give_up();
            }
        }
        match self.body {
            Body::Stream(stream) => stream.finish(&mut self.seen),
            Body::Json(json) => json.finish(&mut self.seen),
            Body::Opaque => {}
        }
        self.seen
    }

    /// What was understood before stays.
    fn give_up(&mut self) {
        self.seen.decoded = false;
        self.decoder = None;
        self.body = Body::Opaque;
    }
}

impl Body {
    fn push(&mut self, part: &[u8], is_success: bool, seen: &mut Seen) {
        match self {
            Self::Stream(stream) => stream.push(part, seen),
            Self::Json(json) => {
                seen.content_began |= is_success;
                json.push(part);
            }
            Self::Opaque => {}
        }
    }
}

/// `application/json` of `application/json; charset=utf-8`.
fn media_type(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == b';').next().unwrap_or(value).trim_ascii()
}

fn is_json(media: &[u8]) -> bool {
    let ends_with = |end: &[u8]| media.len() >= end.len() && media[media.len() - end.len()..].eq_ignore_ascii_case(end);
    media.eq_ignore_ascii_case(b"application/json") || ends_with(b"+json")
}

impl std::fmt::Debug for Reader {
    /// Never the bytes of an answer.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("seen", &self.seen).finish_non_exhaustive()
    }
}
