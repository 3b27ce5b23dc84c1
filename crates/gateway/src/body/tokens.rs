//! How many tokens a prompt has, before anybody counted them: learned, model by model, from what answers said.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::place::Place;
use super::{Facts, Media};

/// Bytes of a request for one token while nothing is known of a model: English, code and the escapes of JSON.
const LIKELY_BYTES: f64 = 3.6;
/// The same for the bound: text that tokenizers cut small.
const LEAST_BYTES: f64 = 2.0;
/// What an answer may teach. Outside of it somebody counts otherwise, or the server added text of its own.
const LEARNED_BYTES: std::ops::RangeInclusive<f64> = 1.0..=16.0;
/// Smaller requests teach nothing: what the API adds to every prompt outweighs them.
const LEARNED_REQUEST_BYTES_MIN: u64 = 2048;
/// The weight of an answer in the mean, and of its distance in the spread, as TCP weighs round trips (RFC 6298).
const MEAN_WEIGHT: f64 = 1.0 / 8.0;
const SPREAD_WEIGHT: f64 = 1.0 / 4.0;
/// The bound is so many spreads from the mean.
const SPREADS: f64 = 4.0;
/// What the API may put in front of a prompt with tools.
const ADDED_TOKENS_MAX: u64 = 800;

/// An image: most are scaled down to about 1.15 megapixels, and 750 pixels are a token. Larger ones on newer models.
const IMAGE_TOKENS: u64 = 1600;
const IMAGE_TOKENS_MAX: u64 = 4784;
/// A page of a document is read as text and as an image.
const PAGE_TOKENS: u64 = 2300;
const PAGE_TOKENS_MAX: u64 = 4600;
/// Base64 of a page: usually, and of a page with little on it.
const PAGE_BYTES: u64 = 64 * 1024;
const PAGE_BYTES_MIN: u64 = 20 * 1024;
/// The API reads no longer documents.
const PAGES_MAX: u64 = 600;

/// So many models are remembered.
const MODELS_MAX: usize = 256;
/// A longer name is that of no model.
const MODEL_BYTES_MAX: usize = 256;

/// How large a prompt, or a part of one, is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    pub text_bytes: u64,
    pub images: u64,
    /// Bytes of base64.
    pub document_bytes: u64,
}

impl Size {
    #[must_use]
    pub fn text(bytes: u64) -> Self {
        Self { text_bytes: bytes, ..Self::default() }
    }

    pub(super) fn of(place: Place, media: Media) -> Self {
        Self { text_bytes: place.bytes().saturating_sub(media.bytes), images: media.images, document_bytes: media.document_bytes }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.text_bytes += other.text_bytes;
        self.images += other.images;
        self.document_bytes += other.document_bytes;
    }

    fn pages(&self, page_bytes: u64) -> u64 {
        self.document_bytes.div_ceil(page_bytes).min(PAGES_MAX)
    }
}

/// A number of tokens that nobody counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    pub likely: u64,
    /// Hardly ever more than these.
    pub at_most: u64,
}

/// Bytes of a request for one token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    likely: f64,
    spread: f64,
}

impl Default for Ratio {
    fn default() -> Self {
        Self { likely: LIKELY_BYTES, spread: (LIKELY_BYTES - LEAST_BYTES) / SPREADS }
    }
}

impl Ratio {
    /// A ratio that is known, without doubt in it: for tests and simulations.
    #[must_use]
    pub fn exact(bytes: f64) -> Self {
        Self { likely: bytes.clamp(*LEARNED_BYTES.start(), *LEARNED_BYTES.end()), spread: 0.0 }
    }

    fn learn(&mut self, bytes: f64) {
        self.spread += SPREAD_WEIGHT * ((bytes - self.likely).abs() - self.spread);
        self.likely += MEAN_WEIGHT * (bytes - self.likely);
    }

    #[must_use]
    pub fn estimate(&self, size: Size) -> Estimate {
        let least = (self.likely - SPREADS * self.spread).clamp(1.0, self.likely);
        let text = |ratio: f64| (size.text_bytes as f64 / ratio).ceil() as u64;
        let likely = text(self.likely) + size.images * IMAGE_TOKENS + size.pages(PAGE_BYTES) * PAGE_TOKENS;
        let at_most = text(least) + size.images * IMAGE_TOKENS_MAX + size.pages(PAGE_BYTES_MIN) * PAGE_TOKENS_MAX + ADDED_TOKENS_MAX;
        Estimate { likely, at_most }
    }

    #[must_use]
    pub fn likely(&self, size: Size) -> u64 {
        self.estimate(size).likely
    }
}

/// The ratios of all models that answered.
#[derive(Debug, Default)]
pub struct Ratios {
    models: Mutex<Models>,
}

#[derive(Debug, Default)]
struct Models {
    /// The ratio, and when it was learned last.
    known: HashMap<Box<str>, (Ratio, u64)>,
    lessons: u64,
}

impl Ratios {
    /// An answer counted the tokens of a request: those it read, those it wrote to a cache and those it took from one.
    pub fn learn(&self, model: &str, size: Size, input_tokens: u64) {
        let teaches = size.images == 0 && size.document_bytes == 0 && size.text_bytes >= LEARNED_REQUEST_BYTES_MIN;
        if !teaches || input_tokens == 0 || model.is_empty() || model.len() > MODEL_BYTES_MAX {
            return;
        }
        let bytes = size.text_bytes as f64 / input_tokens as f64;
        if !LEARNED_BYTES.contains(&bytes) {
            return;
        }
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.lessons += 1;
        let now = models.lessons;
        if let Some((ratio, at)) = models.known.get_mut(model) {
            ratio.learn(bytes);
            *at = now;
            return;
        }
        if models.known.len() >= MODELS_MAX {
            let oldest = models.known.iter().min_by_key(|(_, (_, at))| *at).map(|(name, _)| name.clone());
            oldest.map(|name| models.known.remove(&name));
        }
        models.known.insert(model.into(), (Ratio { likely: bytes, spread: bytes / 8.0 }, now));
    }

    /// The ratio of a model; that of text in general while it never answered.
    #[must_use]
    pub fn of(&self, model: &str) -> Ratio {
        let models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.known.get(model).map(|(ratio, _)| *ratio).unwrap_or_default()
    }

    #[must_use]
    pub fn tokens(&self, model: &str, size: Size) -> Estimate {
        self.of(model).estimate(size)
    }

    /// How many models are remembered.
    #[must_use]
    pub fn models(&self) -> usize {
        self.models.lock().unwrap_or_else(PoisonError::into_inner).known.len()
    }
}

impl Facts {
    /// How many tokens the prompt has.
    #[must_use]
    pub fn tokens(&self, ratio: Ratio) -> Estimate {
        ratio.estimate(self.size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_learned_and_its_bound_closes_in() {
        let ratios = Ratios::default();
        let size = Size::text(40_000);
        let before = ratios.tokens("m", size);
        assert_eq!(before, Estimate { likely: 11_112, at_most: 20_800 });
        for turn in 0..100_u64 {
            // 4.2 bytes for a token, give or take a tenth.
            ratios.learn("m", size, (40_000.0 / (4.2 + 0.1 * ((turn % 3) as f64 - 1.0))) as u64);
        }
        let after = ratios.tokens("m", size);
        assert!((9_300..9_800).contains(&after.likely), "{after:?}");
        assert!(after.at_most > 40_000 * 10 / 41 && after.at_most < 12_000, "{after:?}");
        assert_eq!(ratios.tokens("another", size), before);
    }

    #[test]
    fn a_model_that_suddenly_counts_more_opens_the_bound_at_once() {
        let ratios = Ratios::default();
        let size = Size::text(40_000);
        for _ in 0..50 {
            ratios.learn("m", size, 10_000);
        }
        ratios.learn("m", size, 14_000);
        assert!(ratios.tokens("m", size).at_most >= 14_000, "{:?}", ratios.tokens("m", size));
    }

    #[test]
    fn what_teaches_nothing_is_left_out() {
        let ratios = Ratios::default();
        ratios.learn("m", Size::text(2047), 500);
        ratios.learn("m", Size { images: 1, ..Size::text(40_000) }, 500);
        ratios.learn("m", Size { document_bytes: 1, ..Size::text(40_000) }, 500);
        ratios.learn("m", Size::text(40_000), 0);
        ratios.learn("m", Size::text(40_000), 40_001);
        ratios.learn("m", Size::text(40_000), 2_000);
        ratios.learn("", Size::text(40_000), 10_000);
        ratios.learn(&"m".repeat(MODEL_BYTES_MAX + 1), Size::text(40_000), 10_000);
        assert_eq!(ratios.models(), 0);
    }

    #[test]
    fn models_are_bounded_and_the_one_that_is_silent_longest_goes() {
        let ratios = Ratios::default();
        for index in 0..MODELS_MAX {
            ratios.learn(&format!("m{index}"), Size::text(40_000), 20_000);
        }
        ratios.learn("m0", Size::text(40_000), 20_000);
        ratios.learn("new", Size::text(40_000), 20_000);
        assert_eq!(ratios.models(), MODELS_MAX);
        assert_eq!(ratios.of("m1"), Ratio::default());
        assert_ne!(ratios.of("m0"), Ratio::default());
        assert_ne!(ratios.of("new"), Ratio::default());
    }

    #[test]
    fn images_and_pages_are_counted_by_the_piece() {
        let ratio = Ratio::exact(4.0);
        assert_eq!(ratio.likely(Size::text(4_001)), 1_001);
        assert_eq!(ratio.likely(Size { images: 2, ..Size::default() }), 3_200);
        assert_eq!(ratio.likely(Size { document_bytes: 200_000, ..Size::default() }), 4 * PAGE_TOKENS);
        let huge = ratio.estimate(Size { document_bytes: u64::MAX, images: 100, text_bytes: 32_000_000 });
        assert!(huge.at_most < 12_000_000 && huge.at_most >= huge.likely, "{huge:?}");
    }
}
