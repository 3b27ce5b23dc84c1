//! A JSON body: kept up to a bound and read at its end. Of a larger one, or one that was cut, only the members of the
//! outermost object that are looked at are kept.

use super::outline::Outline;
use super::{Seen, wire};

/// The largest body that is kept. Answers that are not streamed are seldom larger than a few ten kilobytes.
pub(super) const BODY_KEPT_BYTES_MAX: usize = 1024 * 1024;

pub(super) enum JsonBody {
    Kept(Vec<u8>),
    Outlined(Box<Outline>),
}

impl Default for JsonBody {
    fn default() -> Self {
        Self::Kept(Vec::new())
    }
}

impl JsonBody {
    pub(super) fn push(&mut self, part: &[u8]) {
        match self {
            Self::Kept(body) if body.len() + part.len() <= BODY_KEPT_BYTES_MAX => body.extend_from_slice(part),
            Self::Kept(body) => {
                let mut outline = Outline::default();
                outline.push(body);
                outline.push(part);
                *self = Self::Outlined(Box::new(outline));
            }
            Self::Outlined(outline) => outline.push(part),
        }
    }

    pub(super) fn finish(self, seen: &mut Seen) {
        let outline = match self {
            Self::Kept(body) => {
                if wire::body(&body, seen).is_ok() {
                    seen.output_is_exact = true;
                    seen.complete = true;
                    return;
                }
                let mut outline = Outline::default();
                outline.push(&body);
                outline
            }
            Self::Outlined(outline) => *outline,
        };
        let is_whole = outline.is_whole();
        if wire::body(&outline.finish(), seen).is_ok() {
            seen.output_is_exact = seen.usage.output_tokens > 0;
            seen.complete = is_whole;
        }
    }
}
