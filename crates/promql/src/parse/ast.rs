//! The tree of an expression.

use std::sync::Arc;

use super::functions::Function;
use crate::labels::Matcher;

/// What an expression gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    Scalar,
    String,
    Vector,
    Matrix,
}

impl ValueType {
    /// The words messages use.
    pub fn text(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
        }
    }
}

/// An expression and the bytes it was read from.
#[derive(Clone, Debug)]
pub struct Expr {
    pub kind: ExprKind,
    pub start: usize,
    pub end: usize,
    /// How deep the tree below is; bounded, because evaluation recurses.
    pub(super) depth: usize,
}

#[derive(Clone, Debug)]
pub enum ExprKind {
    Number(f64),
    String(String),
    Paren(Box<Expr>),
    Unary { negative: bool, expr: Box<Expr> },
    Selector(Selector),
    Matrix { selector: Selector, range: Span },
    Subquery { expr: Box<Expr>, range: Span, step: Option<Span>, offset: Span, at: Option<At> },
    Call { function: &'static Function, args: Vec<Expr> },
    Aggregate { op: AggregateOp, expr: Box<Expr>, param: Option<Box<Expr>>, grouping: Grouping },
    Binary { op: BinaryOp, left: Box<Expr>, right: Box<Expr>, returns_bool: bool, matching: Option<Matching> },
}

/// A duration in milliseconds, or an experimental expression that gives one.
#[derive(Clone, Debug)]
pub enum Span {
    Ms(i64),
    Computed(Box<super::duration::DurationExpr>),
}

impl Span {
    /// The milliseconds of a span that is no expression, or whose expression was resolved.
    pub fn ms(&self) -> i64 {
        match self {
            Self::Ms(ms) => *ms,
            Self::Computed(_) => 0,
        }
    }
}

/// The moment an `@` pins a selector to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Ms(i64),
    Start,
    End,
}

/// Experimental: whether a selector looks beyond its range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    #[default]
    Plain,
    /// The last sample before the range belongs to it.
    Anchored,
    /// Values at the ends of the range are interpolated.
    Smoothed,
}

/// A selector of series.
#[derive(Clone, Debug)]
pub struct Selector {
    pub name: Option<String>,
    /// All conditions, the one on the name included.
    pub matchers: Arc<[Matcher]>,
    pub offset: Span,
    pub at: Option<At>,
    pub extent: Extent,
    /// Only count and sum of histograms are needed.
    pub(crate) stats_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    CountValues,
    Quantile,
    Limitk,
    LimitRatio,
}

impl AggregateOp {
    const NAMES: [(&'static str, Self); 14] = [
        ("sum", Self::Sum),
        ("avg", Self::Avg),
        ("count", Self::Count),
        ("min", Self::Min),
        ("max", Self::Max),
        ("group", Self::Group),
        ("stddev", Self::Stddev),
        ("stdvar", Self::Stdvar),
        ("topk", Self::Topk),
        ("bottomk", Self::Bottomk),
        ("count_values", Self::CountValues),
        ("quantile", Self::Quantile),
        ("limitk", Self::Limitk),
        ("limit_ratio", Self::LimitRatio),
    ];

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, op)| *op)
    }

    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, op)| *op == self).map_or("", |(name, _)| name)
    }

    pub(super) fn takes_parameter(self) -> bool {
        matches!(self, Self::Topk | Self::Bottomk | Self::CountValues | Self::Quantile | Self::Limitk | Self::LimitRatio)
    }

    pub(super) fn is_experimental(self) -> bool {
        matches!(self, Self::Limitk | Self::LimitRatio)
    }
}

/// Which labels an aggregation groups by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grouping {
    pub without: bool,
    /// Sorted, without repetition.
    pub labels: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterEqual,
    LessEqual,
    TrimUpper,
    TrimLower,
    And,
    Or,
    Unless,
}

impl BinaryOp {
    pub fn text(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::GreaterEqual => ">=",
            Self::LessEqual => "<=",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
        }
    }

    /// How strongly it binds; a larger number binds tighter.
    pub(super) fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Pow => 6,
            Self::Mul | Self::Div | Self::Mod | Self::Atan2 => 5,
            Self::Add | Self::Sub => 4,
            _ => 3,
        }
    }

    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }

    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual | Self::Greater | Self::Less | Self::GreaterEqual | Self::LessEqual)
    }

    pub(super) fn is_trim(self) -> bool {
        matches!(self, Self::TrimUpper | Self::TrimLower)
    }

    /// Whether the result is another metric than the operand, so that the name must go.
    pub(crate) fn changes_metric(self) -> bool {
        matches!(self, Self::Add | Self::Sub | Self::Mul | Self::Div | Self::Mod | Self::Pow | Self::Atan2)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cardinality {
    OneToOne,
    /// `group_left`: many on the left.
    ManyToOne,
    /// `group_right`: many on the right.
    OneToMany,
    ManyToMany,
}

/// How the two sides of a binary operation find each other.
#[derive(Clone, Debug)]
pub struct Matching {
    pub cardinality: Cardinality,
    /// `on` (true) or `ignoring`.
    pub on: bool,
    pub labels: Vec<String>,
    /// Labels copied from the "one" side.
    pub include: Vec<String>,
    /// Experimental: values for a side that has no partner.
    pub fill_left: Option<f64>,
    pub fill_right: Option<f64>,
}

impl Expr {
    /// The expression inside any parentheses.
    pub fn unwrapped(&self) -> &Self {
        match &self.kind {
            ExprKind::Paren(inner) => inner.unwrapped(),
            _ => self,
        }
    }

    pub fn value_type(&self) -> ValueType {
        match &self.kind {
            ExprKind::Number(_) => ValueType::Scalar,
            ExprKind::String(_) => ValueType::String,
            ExprKind::Paren(expr) | ExprKind::Unary { expr, .. } => expr.value_type(),
            ExprKind::Selector(_) | ExprKind::Aggregate { .. } => ValueType::Vector,
            ExprKind::Matrix { .. } | ExprKind::Subquery { .. } => ValueType::Matrix,
            ExprKind::Call { function, .. } => function.returns,
            ExprKind::Binary { left, right, .. } => {
                if left.value_type() == ValueType::Scalar && right.value_type() == ValueType::Scalar {
                    ValueType::Scalar
                } else {
                    ValueType::Vector
                }
            }
        }
    }

    /// The direct parts of this expression.
    pub fn children(&self) -> Vec<&Self> {
        match &self.kind {
            ExprKind::Number(_) | ExprKind::String(_) | ExprKind::Selector(_) | ExprKind::Matrix { .. } => Vec::new(),
            ExprKind::Paren(expr) | ExprKind::Unary { expr, .. } | ExprKind::Subquery { expr, .. } => vec![expr],
            ExprKind::Call { args, .. } => args.iter().collect(),
            ExprKind::Aggregate { expr, param, .. } => param.iter().map(|param| &**param).chain([&**expr]).collect(),
            ExprKind::Binary { left, right, .. } => vec![left, right],
        }
    }

    /// The direct parts of this expression, to change them.
    pub(crate) fn children_mut(&mut self) -> Vec<&mut Self> {
        match &mut self.kind {
            ExprKind::Number(_) | ExprKind::String(_) | ExprKind::Selector(_) | ExprKind::Matrix { .. } => Vec::new(),
            ExprKind::Paren(expr) | ExprKind::Unary { expr, .. } | ExprKind::Subquery { expr, .. } => vec![expr],
            ExprKind::Call { args, .. } => args.iter_mut().collect(),
            ExprKind::Aggregate { expr, param, .. } => param.iter_mut().map(|param| &mut **param).chain([&mut **expr]).collect(),
            ExprKind::Binary { left, right, .. } => vec![left, right],
        }
    }

    /// Every selector in the expression, from left to right.
    pub fn selectors(&self) -> Vec<&Selector> {
        let mut found = Vec::new();
        let mut open = vec![self];
        while let Some(expr) = open.pop() {
            match &expr.kind {
                ExprKind::Selector(selector) | ExprKind::Matrix { selector, .. } => found.push(selector),
                _ => open.extend(expr.children().into_iter().rev()),
            }
        }
        found
    }
}
