//! Aggregations that keep some of the series of a group, and the orders they need.

use std::cmp::Ordering;

use super::matching::{Groups, Key};
use super::series::{At, Series};
use super::{Evaluated, Evaluator};
use crate::error::QueryError;
use crate::parse::AggregateOp;

/// The range in which a parameter must lie to be a count.
const COUNT_LIMITS: (f64, f64) = (-9_223_372_036_854_775_808.0, 9_223_372_036_854_774_784.0);

impl Evaluator<'_> {
    /// `topk`, `bottomk`, `limitk` and `limit_ratio`.
    pub(super) fn select_few(
        &mut self,
        op: AggregateOp,
        vector: Vec<Series>,
        params: &[f64],
        key: &Key<'_>,
        (position, param_position): (usize, usize),
    ) -> Evaluated<Vec<Series>> {
        self.check_count(op, params, param_position)?;
        let mut groups = Groups::default();
        let numbers = groups.numbers(&vector, key);
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); groups.len()];
        numbers.iter().enumerate().for_each(|(at, number)| members[*number].push(at));
        let mut kept: Vec<Vec<bool>> = vec![Vec::new(); vector.len()];
        let mut order: Vec<usize> = Vec::new();
        for members in &members {
            for (step, param) in params.iter().enumerate() {
                self.budget.spend(1 + members.len())?;
                for at in self.choose(op, &vector, members, (step, *param), position) {
                    if kept[at].is_empty() {
                        kept[at] = vec![false; params.len()];
                        order.push(at);
                    }
                    kept[at][step] = true;
                }
            }
        }
        // With one step the order of the choice is the order of the answer.
        let mut vector: Vec<Option<Series>> = vector.into_iter().map(Some).collect();
        let take = |at: usize| {
            let mut series = vector[at].take()?;
            (0..params.len()).filter(|step| !kept[at][*step]).for_each(|step| series.clear(step));
            Some(series)
        };
        Ok(order.into_iter().filter_map(take).collect())
    }

    fn check_count(&mut self, op: AggregateOp, params: &[f64], position: usize) -> Evaluated<()> {
        let ratio = op == AggregateOp::LimitRatio;
        if params.iter().any(|param| param.is_nan()) {
            let what = if ratio { "Ratio" } else { "Parameter" };
            return Err(QueryError::execution(format!("{what} value is NaN")));
        }
        for param in params {
            if ratio && !(-1.0..=1.0).contains(param) {
                self.annotations.invalid_ratio(position, *param, param.clamp(-1.0, 1.0));
            } else if !ratio && *param <= COUNT_LIMITS.0 && params.iter().any(|param| *param >= 1.0) {
                let value = crate::number::format_general(*param);
                return Err(QueryError::execution(format!("Scalar value {value} underflows int64")));
            } else if !ratio && *param >= COUNT_LIMITS.1 {
                let value = crate::number::format_general(*param);
                return Err(QueryError::execution(format!("Scalar value {value} overflows int64")));
            }
        }
        Ok(())
    }

    /// The series of a group that are kept at a step, in the order of the answer.
    fn choose(
        &mut self,
        op: AggregateOp,
        vector: &[Series],
        members: &[usize],
        (step, param): (usize, f64),
        position: usize,
    ) -> Vec<usize> {
        let present = members.iter().copied().filter(|at| vector[*at].has(step));
        if op == AggregateOp::LimitRatio {
            let inside = |at: &usize| {
                let offset = ratio_offset(&vector[*at]);
                if param >= 0.0 { offset < param } else { offset >= 1.0 + param }
            };
            return present.filter(inside).collect();
        }
        if param < 1.0 {
            return Vec::new();
        }
        let count = (param as usize).min(members.len());
        if op == AggregateOp::Limitk {
            return present.take(count).collect();
        }
        let mut ranked: Vec<(f64, usize)> = Vec::new();
        for at in present {
            match vector[at].at(step) {
                At::Float(value) => ranked.push((value, at)),
                _ => self.annotations.ignored_in_aggregation(position, op.name()),
            }
        }
        let descending = op == AggregateOp::Topk;
        let compare = |a: &(f64, usize), b: &(f64, usize)| value_order(a.0, b.0, descending).then(a.1.cmp(&b.1));
        if count < ranked.len() {
            ranked.select_nth_unstable_by(count, compare);
            ranked.truncate(count);
        }
        ranked.sort_unstable_by(compare);
        ranked.into_iter().map(|(_, at)| at).collect()
    }
}

/// A place between 0 and 1 that depends on nothing but the labels, the same one that Prometheus gives them: xxHash64 of
/// names and values, each behind its length.
fn ratio_offset(series: &Series) -> f64 {
    let mut bytes = Vec::with_capacity(256);
    for text in series.labels.iter().flat_map(|label| [&*label.name, &*label.value]) {
        if text.len() < 255 {
            bytes.push(text.len() as u8);
        } else {
            bytes.push(255);
            bytes.extend_from_slice(&(text.len() as u32).to_le_bytes()[..3]);
        }
        bytes.extend_from_slice(text.as_bytes());
    }
    xxhash_rust::xxh64::xxh64(&bytes, 0) as f64 / u64::MAX as f64
}

/// Numbers in either order; NaN comes last in both.
pub(super) fn value_order(a: f64, b: f64, descending: bool) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => {
            let order = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
            if descending { order.reverse() } else { order }
        }
        (a_nan, b_nan) => a_nan.cmp(&b_nan),
    }
}

/// Text in the order a person expects: runs of digits compare as numbers.
pub(super) fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut a_rest, mut b_rest) = (a, b);
    loop {
        let (Some(a_first), Some(b_first)) = (a_rest.chars().next(), b_rest.chars().next()) else {
            return a_rest.len().cmp(&b_rest.len());
        };
        if a_first.is_ascii_digit() && b_first.is_ascii_digit() {
            let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
            let (a_run, a_after) = a_rest.split_at(digits(a_rest));
            let (b_run, b_after) = b_rest.split_at(digits(b_rest));
            let (a_number, b_number) = (a_run.trim_start_matches('0'), b_run.trim_start_matches('0'));
            let order =
                a_number.len().cmp(&b_number.len()).then_with(|| a_number.cmp(b_number)).then_with(|| a_run.len().cmp(&b_run.len()));
            if order != Ordering::Equal {
                return order;
            }
            (a_rest, b_rest) = (a_after, b_after);
            continue;
        }
        if a_first != b_first {
            return a_first.cmp(&b_first);
        }
        a_rest = &a_rest[a_first.len_utf8()..];
        b_rest = &b_rest[b_first.len_utf8()..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_compare_as_numbers() {
        assert_eq!(natural_order("cpu2", "cpu10"), Ordering::Less);
        assert_eq!(natural_order("a10b1", "a10b02"), Ordering::Less);
        assert_eq!(natural_order("a", "ab"), Ordering::Less);
        assert_eq!(natural_order("x", "x"), Ordering::Equal);
    }

    #[test]
    fn nan_is_last_in_both_directions() {
        assert_eq!(value_order(f64::NAN, 1.0, true), Ordering::Greater);
        assert_eq!(value_order(1.0, f64::NAN, false), Ordering::Less);
    }
}
