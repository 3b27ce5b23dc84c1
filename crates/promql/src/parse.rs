//! From text to a checked expression.
//!
//! The parser is our own rather than the `promql-parser` crate: annotations must name the line and column they are about,
//! and that crate's tree has no positions.

mod ast;
mod check;
mod display;
mod duration;
mod functions;
mod grammar;
mod lexer;
mod strings;

pub use ast::Span;
pub use ast::{AggregateOp, At, BinaryOp, Cardinality, Expr, ExprKind, Extent, Grouping, Matching, Selector, ValueType};
pub use duration::DurationExpr;
pub(crate) use duration::resolve;
pub use functions::{FUNCTIONS, Function};
pub use grammar::{parse, parse_matchers};
pub(crate) use strings::{stray_byte, unquote};
