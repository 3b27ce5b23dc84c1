//! Binary operations.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::instant;
use super::matching::{Groups, Key};
use super::series::{At, Series, Value, merge_equal, same_labels_error};
use super::{Evaluated, Evaluator, Grid};
use crate::annotations::{Annotations, Operation};
use crate::engine::Point;
use crate::error::QueryError;
use crate::histogram::{Histogram, ResetHint};
use crate::labels::Labels;
use crate::number::is_stale;
use crate::parse::{BinaryOp, Cardinality, Expr, ExprKind, Matching};

/// An operation and the byte its remarks are about.
#[derive(Clone, Copy)]
struct Operator {
    op: BinaryOp,
    returns_bool: bool,
    position: usize,
}

/// A remark about two operands; of those of one step only the last is made.
#[derive(Clone, Copy, PartialEq)]
enum Remark {
    Types(&'static str, &'static str),
    Layout,
    Collision(Operation),
    Reconciled(Operation),
}

/// The result for two operands: a value and whether a comparison holds, or nothing.
struct Outcome {
    value: Option<(Point, bool)>,
    remark: Option<Remark>,
}

impl Evaluator<'_> {
    pub(super) fn binary(&mut self, expr: &Expr, grid: Grid) -> Evaluated<Value> {
        let ExprKind::Binary { op, left, right, returns_bool, matching } = &expr.kind else {
            return Err(QueryError::execution("expected a binary operation"));
        };
        let operator = Operator { op: *op, returns_bool: *returns_bool, position: expr.start };
        let (left, right) = (self.eval(left, grid)?, self.eval(right, grid)?);
        match (left, right) {
            (Value::Scalar(left), Value::Scalar(right)) => {
                Ok(Value::Scalar(left.into_iter().zip(right).map(|(a, b)| scalar_operation(*op, a, b)).collect()))
            }
            (Value::Vector(vector), Value::Scalar(scalar)) => Ok(Value::Vector(self.with_scalar(operator, vector, &scalar, false)?)),
            (Value::Scalar(scalar), Value::Vector(vector)) => Ok(Value::Vector(self.with_scalar(operator, vector, &scalar, true)?)),
            (Value::Vector(left), Value::Vector(right)) => {
                let matching = matching.as_ref().ok_or_else(|| QueryError::execution("a vector operation without matching"))?;
                let vector = if op.is_set() {
                    set_operation(*op, left, right, matching)?
                } else {
                    self.between_vectors(operator, left, right, (matching, grid))?
                };
                Ok(Value::Vector(vector))
            }
            _ => Err(QueryError::execution("binary expression must contain only scalar and instant vector types")),
        }
    }

    /// An operation between every element of a vector and a scalar; `swapped` when the scalar is on the left.
    fn with_scalar(&mut self, operator: Operator, mut vector: Vec<Series>, scalar: &[f64], swapped: bool) -> Evaluated<Vec<Series>> {
        let Operator { op, returns_bool, .. } = operator;
        let drops_name = op.changes_metric() || returns_bool;
        for series in &mut vector {
            self.budget.spend(scalar.len())?;
            series.drop_name |= drops_name;
            if !series.has_histograms() && !matches!(op, BinaryOp::TrimLower | BinaryOp::TrimUpper) {
                floats_with_scalar(operator, series, scalar, swapped);
                continue;
            }
            for (step, number) in scalar.iter().enumerate() {
                let element = match series.at(step) {
                    At::Nothing => continue,
                    At::Float(value) => Point::Float(value),
                    At::Histogram(histogram) => Point::Histogram(histogram.clone()),
                };
                let number = Point::Float(*number);
                let outcome = if swapped { operate(op, &number, &element) } else { operate(op, &element, &number) };
                if let Some(remark) = outcome.remark {
                    make_remark(&mut self.annotations, operator, remark);
                }
                series.clear(step);
                let Some((value, holds)) = outcome.value else { continue };
                if returns_bool {
                    series.set_float(step, f64::from(u8::from(holds)));
                } else if holds {
                    // A comparison keeps the element of the vector, on whichever side it is.
                    series.set(step, if op.is_comparison() { element } else { value });
                }
            }
        }
        vector.retain(|series| !series.is_empty());
        Ok(vector)
    }

    fn between_vectors(
        &mut self,
        operator: Operator,
        left: Vec<Series>,
        right: Vec<Series>,
        (matching, grid): (&Matching, Grid),
    ) -> Evaluated<Vec<Series>> {
        let key = Key::new(&matching.labels, matching.on);
        let mut groups = Groups::default();
        let swapped = matching.cardinality == Cardinality::OneToMany;
        // The side called "one" has at most one series of each group at a step.
        let (many, one) = if swapped { (right, left) } else { (left, right) };
        let (fill_one, fill_many) =
            if swapped { (matching.fill_left, matching.fill_right) } else { (matching.fill_right, matching.fill_left) };
        let many_numbers = groups.numbers(&many, &key);
        let one_numbers = groups.numbers(&one, &key);
        let mut join = Join {
            operator,
            matching,
            key: &key,
            swapped,
            ones: vec![OnesOfGroup::default(); groups.len()],
            remarks: vec![None; grid.steps],
            group_targets: vec![None; groups.len()],
            matched: vec![false; groups.len() * grid.steps],
            matched_targets: HashSet::new(),
            results: Vec::new(),
            known: HashMap::new(),
            steps: grid.steps,
        };
        let active: Vec<bool> = match (fill_one, fill_many) {
            (None, None) => {
                let any = |vector: &[Series], step: usize| vector.iter().any(|series| series.has(step));
                (0..grid.steps).map(|step| any(&many, step) && any(&one, step)).collect()
            }
            _ => vec![true; grid.steps],
        };
        for (at, number) in one_numbers.iter().enumerate() {
            join.add_one(&one, at, *number, &active)?;
        }
        for (series, number) in many.iter().zip(&many_numbers) {
            self.budget.spend(grid.steps)?;
            join.match_many(series, *number, &one, fill_one)?;
            self.budget.charge(grid.steps)?;
        }
        if let Some(fill) = fill_many {
            join.fill_unmatched(&one, &one_numbers, fill)?;
        }
        for remark in join.remarks.iter().flatten() {
            make_remark(&mut self.annotations, operator, *remark);
        }
        join.results.retain(|series| !series.is_empty());
        Ok(join.results)
    }
}

/// Which series of the "one" side a group has at each step.
#[derive(Clone, Default)]
enum OnesOfGroup {
    #[default]
    None,
    /// The same one at every step at which there is any.
    Single(usize),
    PerStep(Vec<Option<usize>>),
}

impl OnesOfGroup {
    fn at(&self, one: &[Series], step: usize) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Single(at) => one[*at].has(step).then_some(*at),
            Self::PerStep(ones) => ones[step],
        }
    }
}

/// The state of joining two vectors.
struct Join<'a> {
    operator: Operator,
    matching: &'a Matching,
    key: &'a Key<'a>,
    swapped: bool,
    ones: Vec<OnesOfGroup>,
    remarks: Vec<Option<Remark>>,
    /// One to one: the result of each group, where all of a group give the same labels.
    group_targets: Vec<Option<usize>>,
    /// For each group and step whether it was matched.
    matched: Vec<bool>,
    /// With many to one: the results that have been matched at a step.
    matched_targets: HashSet<(usize, usize)>,
    results: Vec<Series>,
    known: HashMap<(Labels, bool), usize>,
    steps: usize,
}

impl Join<'_> {
    fn add_one(&mut self, one: &[Series], at: usize, number: usize, active: &[bool]) -> Evaluated<()> {
        let mut per_step = match std::mem::take(&mut self.ones[number]) {
            OnesOfGroup::None => {
                self.ones[number] = OnesOfGroup::Single(at);
                return Ok(());
            }
            OnesOfGroup::Single(before) => (0..self.steps).map(|step| one[before].has(step).then_some(before)).collect(),
            OnesOfGroup::PerStep(ones) => ones,
        };
        for (step, slot) in per_step.iter_mut().enumerate().filter(|(step, _)| one[at].has(*step)) {
            if let Some(before) = slot
                && active[step]
            {
                return Err(self.duplicate(&one[*before].labels, &one[at].labels));
            }
            *slot = Some(at);
        }
        self.ones[number] = OnesOfGroup::PerStep(per_step);
        Ok(())
    }

    fn duplicate(&self, a: &Labels, b: &Labels) -> QueryError {
        let side = if self.swapped { "left" } else { "right" };
        let (first, second) = if a <= b { (a, b) } else { (b, a) };
        QueryError::execution(format!(
            "found duplicate series for the match group {} on the {side} hand-side of the operation: [{first}, {second}]\
             ;many-to-many matching not allowed: matching labels must be unique on one side",
            self.key.of(a)
        ))
    }

    fn match_many(&mut self, series: &Series, number: usize, one: &[Series], fill: Option<f64>) -> Evaluated<()> {
        let mut last: Option<(Option<usize>, usize)> = None;
        for step in 0..self.steps {
            let left = match series.at(step) {
                At::Nothing => continue,
                At::Float(value) => Point::Float(value),
                At::Histogram(histogram) => Point::Histogram(histogram.clone()),
            };
            let partner = self.ones.get(number).and_then(|ones| ones.at(one, step));
            let right = match (partner.map(|at| one[at].at(step)), fill) {
                (Some(At::Float(value)), _) => Point::Float(value),
                (Some(At::Histogram(histogram)), _) => Point::Histogram(histogram.clone()),
                (_, Some(fill)) => Point::Float(fill),
                _ => continue,
            };
            // The labels of the result change only when the partner does.
            let target = match last {
                Some((known, target)) if known == partner => target,
                _ => {
                    let partner_labels = partner.map_or_else(|| self.key.of(&series.labels), |at| one[at].labels.clone());
                    let target = self.group_target(number, series, &partner_labels);
                    last = Some((partner, target));
                    target
                }
            };
            self.join_points((number, step), target, (&left, &right))?;
        }
        Ok(())
    }

    fn fill_unmatched(&mut self, one: &[Series], numbers: &[usize], fill: f64) -> Evaluated<()> {
        for (series, number) in one.iter().zip(numbers) {
            for step in 0..self.steps {
                let right = match series.at(step) {
                    At::Nothing => continue,
                    At::Float(value) => Point::Float(value),
                    At::Histogram(histogram) => Point::Histogram(histogram.clone()),
                };
                if self.matched[*number * self.steps + step] {
                    continue;
                }
                let filled = Series::absent(self.key.of(&series.labels), series.drop_name, 0);
                let target = self.group_target(*number, &filled, &series.labels);
                self.join_points((*number, step), target, (&Point::Float(fill), &right))?;
            }
        }
        Ok(())
    }

    /// Where the result of a pair goes, found once for a group where that is possible.
    fn group_target(&mut self, number: usize, many: &Series, one: &Labels) -> usize {
        let shared = self.matching.cardinality == Cardinality::OneToOne && (self.matching.on || self.operator.op.changes_metric());
        if !shared {
            return self.target(many, one);
        }
        if let Some(target) = self.group_targets[number] {
            return target;
        }
        // The labels are those of the group's key, so no other group has them.
        let labels = if self.matching.on { self.key.of(&many.labels) } else { self.key.of(&many.labels).without_name() };
        let target = self.results.len();
        self.group_targets[number] = Some(target);
        self.results.push(Series::absent(
            labels,
            self.operator.returns_bool || !self.operator.op.changes_metric() && many.drop_name,
            self.steps,
        ));
        target
    }

    /// Where the result of a pair goes.
    fn target(&mut self, many: &Series, one: &Labels) -> usize {
        let (op, matching) = (self.operator.op, self.matching);
        let mut labels = if op.changes_metric() { many.labels.without_name() } else { many.labels.clone() };
        if matching.cardinality == Cardinality::OneToOne {
            labels = if matching.on {
                labels.filtered(|name| self.key.keeps(name))
            } else {
                labels.filtered(|name| !matching.labels.iter().any(|label| label == name))
            };
        }
        if !matching.include.is_empty() {
            let mut builder = labels.builder();
            for label in &matching.include {
                builder.set(label, one.get(label));
            }
            labels = builder.build();
        }
        let next = self.results.len();
        let drop_name = self.operator.returns_bool || !op.changes_metric() && many.drop_name;
        let target = *self.known.entry((labels.clone(), drop_name)).or_insert(next);
        if target == next {
            self.results.push(Series::absent(labels, drop_name, self.steps));
        }
        target
    }

    fn join_points(&mut self, (number, step): (usize, usize), target: usize, (many, one): (&Point, &Point)) -> Evaluated<()> {
        let Operator { op, returns_bool, .. } = self.operator;
        let outcome = if self.swapped { operate(op, one, many) } else { operate(op, many, one) };
        if outcome.remark.is_some() {
            self.remarks[step] = outcome.remark;
        }
        let Some((value, holds)) = outcome.value else { return Ok(()) };
        let one_to_one = self.matching.cardinality == Cardinality::OneToOne;
        let matched = std::mem::replace(&mut self.matched[number * self.steps + step], true);
        if one_to_one && matched {
            let message = "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)";
            return Err(QueryError::execution(message));
        }
        if !one_to_one && !self.matched_targets.insert((target, step)) {
            return Err(QueryError::execution("multiple matches for labels: grouping labels must ensure unique matches"));
        }
        if !holds && !returns_bool {
            return Ok(());
        }
        let result = &mut self.results[target];
        if result.has(step) {
            return Err(same_labels_error());
        }
        let value = if returns_bool { Point::Float(f64::from(u8::from(holds))) } else { value };
        result.set(step, value);
        Ok(())
    }
}

/// The frequent case: no histograms, so no remarks.
fn floats_with_scalar(operator: Operator, series: &mut Series, scalar: &[f64], swapped: bool) {
    let Operator { op, returns_bool, .. } = operator;
    for (step, number) in scalar.iter().enumerate() {
        let element = series.floats[step];
        if is_stale(element) {
            continue;
        }
        let (value, holds) = if swapped { float_operation(op, *number, element) } else { float_operation(op, element, *number) };
        if returns_bool {
            series.set_float(step, f64::from(u8::from(holds)));
        } else if !op.is_comparison() {
            series.set_float(step, value);
        } else if !holds {
            series.clear(step);
        }
    }
}

fn make_remark(annotations: &mut Annotations, operator: Operator, remark: Remark) {
    let (position, op) = (operator.position, operator.op.text());
    match remark {
        Remark::Types(left, right) => annotations.incompatible_types(position, left, op, right),
        Remark::Layout => annotations.incompatible_layout(position, op),
        Remark::Collision(operation) => annotations.reset_collision(position, operation),
        Remark::Reconciled(operation) => annotations.bounds_reconciled(position, operation),
    }
}

fn set_operation(op: BinaryOp, left: Vec<Series>, right: Vec<Series>, matching: &Matching) -> Evaluated<Vec<Series>> {
    let key = Key::new(&matching.labels, matching.on);
    let mut groups = Groups::default();
    let (left_numbers, right_numbers) = (groups.numbers(&left, &key), groups.numbers(&right, &key));
    let presence = |vector: &[Series], numbers: &[usize]| {
        let mut present: Vec<Vec<bool>> = vec![Vec::new(); groups.len()];
        for (series, number) in vector.iter().zip(numbers) {
            let steps = &mut present[*number];
            steps.resize(series.floats.len(), false);
            (0..steps.len()).for_each(|step| steps[step] |= series.has(step));
        }
        present
    };
    // Keeps the steps at which the group of the other side is (or is not) there.
    let masked = |mut vector: Vec<Series>, numbers: &[usize], present: &[Vec<bool>], wanted: bool| {
        for (series, number) in vector.iter_mut().zip(numbers) {
            let there = &present[*number];
            (0..series.floats.len())
                .filter(|step| there.get(*step).copied().unwrap_or(false) != wanted)
                .for_each(|step| series.clear(step));
        }
        vector.retain(|series| !series.is_empty());
        vector
    };
    Ok(match op {
        BinaryOp::And => masked(left, &left_numbers, &presence(&right, &right_numbers), true),
        BinaryOp::Unless => masked(left, &left_numbers, &presence(&right, &right_numbers), false),
        _ => {
            let present = presence(&left, &left_numbers);
            let mut all = left;
            all.extend(masked(right, &right_numbers, &present, false));
            merge_equal(all)?
        }
    })
}

fn scalar_operation(op: BinaryOp, a: f64, b: f64) -> f64 {
    let (value, holds) = float_operation(op, a, b);
    if op.is_comparison() { f64::from(u8::from(holds)) } else { value }
}

/// The value of an operation between floats, and whether a comparison holds.
#[inline]
fn float_operation(op: BinaryOp, a: f64, b: f64) -> (f64, bool) {
    match op {
        BinaryOp::Add => (a + b, true),
        BinaryOp::Sub => (a - b, true),
        BinaryOp::Mul => (a * b, true),
        BinaryOp::Div => (a / b, true),
        BinaryOp::Mod => (a % b, true),
        BinaryOp::Pow => (a.powf(b), true),
        BinaryOp::Atan2 => (if a.is_nan() || b.is_nan() { f64::NAN } else { a.atan2(b) }, true),
        BinaryOp::Equal => (a, a == b),
        BinaryOp::NotEqual => (a, a != b),
        BinaryOp::Greater => (a, a > b),
        BinaryOp::Less => (a, a < b),
        BinaryOp::GreaterEqual => (a, a >= b),
        BinaryOp::LessEqual => (a, a <= b),
        _ => (instant::max(a, b), false),
    }
}

fn operate(op: BinaryOp, left: &Point, right: &Point) -> Outcome {
    let incompatible = |a, b| Outcome { value: None, remark: Some(Remark::Types(a, b)) };
    let computed = |histogram: Histogram| Outcome { value: Some((Point::Histogram(Arc::new(histogram)), true)), remark: None };
    match (left, right) {
        (Point::Float(_), Point::Float(_)) if matches!(op, BinaryOp::TrimLower | BinaryOp::TrimUpper) => incompatible("float", "float"),
        (Point::Float(a), Point::Float(b)) => {
            let (value, holds) = float_operation(op, *a, *b);
            Outcome { value: Some((Point::Float(value), holds)), remark: None }
        }
        (Point::Float(factor), Point::Histogram(histogram)) => {
            if op != BinaryOp::Mul {
                return incompatible("float", "histogram");
            }
            let mut product = (**histogram).clone();
            product.multiply(*factor);
            computed(product.compacted())
        }
        (Point::Histogram(histogram), Point::Float(number)) => {
            let mut changed = (**histogram).clone();
            match op {
                BinaryOp::Mul => changed.multiply(*number),
                BinaryOp::Div => changed.divide(*number),
                BinaryOp::TrimUpper => changed.trim_above(*number),
                BinaryOp::TrimLower => changed.trim_below(*number),
                _ => return incompatible("histogram", "float"),
            }
            computed(changed.compacted())
        }
        (Point::Histogram(a), Point::Histogram(b)) => match op {
            BinaryOp::Add | BinaryOp::Sub => histogram_operation(op, a, b),
            BinaryOp::Equal | BinaryOp::NotEqual => {
                let holds = a.same_data(b) == (op == BinaryOp::Equal);
                Outcome { value: Some((Point::Histogram(a.clone()), holds)), remark: None }
            }
            _ => incompatible("histogram", "histogram"),
        },
    }
}

fn histogram_operation(op: BinaryOp, a: &Histogram, b: &Histogram) -> Outcome {
    let mut result = a.clone();
    let (combined, operation) =
        if op == BinaryOp::Add { (result.add(b), Operation::Addition) } else { (result.subtract(b), Operation::Subtraction) };
    let Ok(combined) = combined else { return Outcome { value: None, remark: Some(Remark::Layout) } };
    if op == BinaryOp::Sub {
        result.hint = ResetHint::Gauge;
    }
    let value = Some((Point::Histogram(Arc::new(result.compacted())), true));
    let remark = match (combined.reset_collision, combined.bounds_reconciled) {
        // As in Prometheus, a contradiction about resets leaves no result.
        (true, _) => return Outcome { value: None, remark: Some(Remark::Collision(operation)) },
        (false, true) => Some(Remark::Reconciled(operation)),
        (false, false) => None,
    };
    Outcome { value, remark }
}
