//! Averages that neither lose small values nor overflow.

use crate::histogram::{Histogram, IncompatibleSchemas, KahanHistogram};
use crate::number::kahan_add;

/// An average by a compensated sum, which turns into an incremental one before the sum overflows.
#[derive(Clone, Copy)]
pub(super) struct FloatAverage {
    pub(super) sum: f64,
    pub(super) lost: f64,
    pub(super) count: f64,
    pub(super) incremental: bool,
}

impl FloatAverage {
    pub(super) fn new(first: f64) -> Self {
        Self { sum: first, lost: 0.0, count: 1.0, incremental: false }
    }

    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.incremental {
            let (sum, lost) = kahan_add(value, self.sum, self.lost);
            if !sum.is_infinite() {
                (self.sum, self.lost) = (sum, lost);
                return;
            }
            self.incremental = true;
            self.sum /= self.count - 1.0;
            self.lost /= self.count - 1.0;
        }
        let q = (self.count - 1.0) / self.count;
        (self.sum, self.lost) = kahan_add(value / self.count, q * self.sum, q * self.lost);
    }

    pub(super) fn finish(self) -> f64 {
        if self.incremental { self.sum + self.lost } else { self.sum / self.count + self.lost / self.count }
    }
}

/// The same for histograms.
#[derive(Clone)]
pub(super) struct HistogramAverage {
    sum: KahanHistogram,
    count: f64,
    incremental: bool,
}

impl HistogramAverage {
    pub(super) fn new(first: Histogram) -> Self {
        Self { sum: KahanHistogram::new(first), count: 1.0, incremental: false }
    }

    pub(super) fn add(&mut self, histogram: &Histogram) -> Result<bool, IncompatibleSchemas> {
        self.count += 1.0;
        if !self.incremental {
            let mut sum = self.sum.clone();
            let reconciled = sum.add(histogram)?;
            if !sum.sum.has_overflow() {
                self.sum = sum;
                return Ok(reconciled);
            }
            self.incremental = true;
            self.sum.shrink(self.count - 1.0);
        }
        self.sum.scale((self.count - 1.0) / self.count);
        let mut part = histogram.clone();
        part.divide(self.count);
        self.sum.add(&part)
    }

    pub(super) fn finish(mut self) -> Histogram {
        if !self.incremental {
            self.sum.shrink(self.count);
        }
        self.sum.finish()
    }
}
