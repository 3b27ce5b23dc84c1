//! The functions of the language and what they take.

use super::ast::ValueType::{self, Matrix, Scalar, String, Vector};

/// One function: its name, its arguments and its result.
#[derive(Debug, PartialEq)]
pub struct Function {
    pub name: &'static str,
    pub args: &'static [ValueType],
    /// How many of the last arguments may be left out (or, for the last kind, repeated); -1: any number.
    pub variadic: i8,
    pub returns: ValueType,
    pub experimental: bool,
}

const fn stable(name: &'static str, args: &'static [ValueType], returns: ValueType) -> Function {
    Function { name, args, variadic: 0, returns, experimental: false }
}

const fn variadic(name: &'static str, args: &'static [ValueType], variadic: i8) -> Function {
    Function { name, args, variadic, returns: Vector, experimental: false }
}

const fn experimental(name: &'static str, args: &'static [ValueType], returns: ValueType) -> Function {
    Function { name, args, variadic: 0, returns, experimental: true }
}

const V: &[ValueType] = &[Vector];
const M: &[ValueType] = &[Matrix];

/// Every function, sorted by name.
pub static FUNCTIONS: &[Function] = &[
    stable("abs", V, Vector),
    stable("absent", V, Vector),
    stable("absent_over_time", M, Vector),
    stable("acos", V, Vector),
    stable("acosh", V, Vector),
    stable("asin", V, Vector),
    stable("asinh", V, Vector),
    stable("atan", V, Vector),
    stable("atanh", V, Vector),
    stable("avg_over_time", M, Vector),
    stable("ceil", V, Vector),
    stable("changes", M, Vector),
    stable("clamp", &[Vector, Scalar, Scalar], Vector),
    stable("clamp_max", &[Vector, Scalar], Vector),
    stable("clamp_min", &[Vector, Scalar], Vector),
    stable("cos", V, Vector),
    stable("cosh", V, Vector),
    stable("count_over_time", M, Vector),
    variadic("day_of_month", V, 1),
    variadic("day_of_week", V, 1),
    variadic("day_of_year", V, 1),
    variadic("days_in_month", V, 1),
    stable("deg", V, Vector),
    stable("delta", M, Vector),
    stable("deriv", M, Vector),
    experimental("double_exponential_smoothing", &[Matrix, Scalar, Scalar], Vector),
    experimental("end", &[], Scalar),
    stable("exp", V, Vector),
    experimental("first_over_time", M, Vector),
    stable("floor", V, Vector),
    stable("histogram_avg", V, Vector),
    stable("histogram_count", V, Vector),
    stable("histogram_fraction", &[Scalar, Scalar, Vector], Vector),
    stable("histogram_quantile", &[Scalar, Vector], Vector),
    Function { variadic: 9, ..experimental("histogram_quantiles", &[Vector, String, Scalar, Scalar], Vector) },
    stable("histogram_stddev", V, Vector),
    stable("histogram_stdvar", V, Vector),
    stable("histogram_sum", V, Vector),
    variadic("hour", V, 1),
    stable("idelta", M, Vector),
    stable("increase", M, Vector),
    Function { variadic: 1, ..experimental("info", &[Vector, Vector], Vector) },
    stable("irate", M, Vector),
    variadic("label_join", &[Vector, String, String, String], -1),
    stable("label_replace", &[Vector, String, String, String, String], Vector),
    stable("last_over_time", M, Vector),
    stable("ln", V, Vector),
    stable("log10", V, Vector),
    stable("log2", V, Vector),
    experimental("mad_over_time", M, Vector),
    experimental("max_of", &[Scalar, Scalar], Scalar),
    stable("max_over_time", M, Vector),
    experimental("min_of", &[Scalar, Scalar], Scalar),
    stable("min_over_time", M, Vector),
    variadic("minute", V, 1),
    variadic("month", V, 1),
    stable("pi", &[], Scalar),
    stable("predict_linear", &[Matrix, Scalar], Vector),
    stable("present_over_time", M, Vector),
    stable("quantile_over_time", &[Scalar, Matrix], Vector),
    stable("rad", V, Vector),
    experimental("range", &[], Scalar),
    stable("rate", M, Vector),
    stable("resets", M, Vector),
    variadic("round", &[Vector, Scalar], 1),
    stable("scalar", V, Scalar),
    stable("sgn", V, Vector),
    stable("sin", V, Vector),
    stable("sinh", V, Vector),
    stable("sort", V, Vector),
    Function { variadic: -1, ..experimental("sort_by_label", &[Vector, String], Vector) },
    Function { variadic: -1, ..experimental("sort_by_label_desc", &[Vector, String], Vector) },
    stable("sort_desc", V, Vector),
    stable("sqrt", V, Vector),
    experimental("start", &[], Scalar),
    stable("stddev_over_time", M, Vector),
    stable("stdvar_over_time", M, Vector),
    experimental("step", &[], Scalar),
    stable("sum_over_time", M, Vector),
    stable("tan", V, Vector),
    stable("tanh", V, Vector),
    stable("time", &[], Scalar),
    stable("timestamp", V, Vector),
    experimental("ts_of_first_over_time", M, Vector),
    experimental("ts_of_last_over_time", M, Vector),
    experimental("ts_of_max_over_time", M, Vector),
    experimental("ts_of_min_over_time", M, Vector),
    stable("vector", &[Scalar], Vector),
    variadic("year", V, 1),
];

/// Experimental functions that are known by name but not implemented.
pub(super) const NOT_IMPLEMENTED: [&str; 3] = ["info", "integral", "start_timestamp"];

pub(super) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|function| function.name.cmp(name)).ok().map(|at| &FUNCTIONS[at])
}

impl Function {
    /// How many arguments are allowed: at least and at most.
    pub(super) fn arity(&self) -> (usize, usize) {
        let most = self.args.len();
        match self.variadic {
            0 => (most, most),
            -1 => (most - 1, usize::MAX),
            n => (most - 1, most + usize::from(n.unsigned_abs()) - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(FUNCTIONS.is_sorted_by(|a, b| a.name < b.name));
        assert_eq!(find("rate").map(|function| function.name), Some("rate"));
    }
}
