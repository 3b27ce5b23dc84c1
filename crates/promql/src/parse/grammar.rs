//! The grammar, by recursive descent.

mod selectors;
mod spans;

use spans::{set_at, set_extent, set_offset};

use super::ast::{AggregateOp, BinaryOp, Cardinality, Expr, ExprKind, Extent, Grouping, Matching, Selector, Span};
use super::check::check;
use super::functions::{self, NOT_IMPLEMENTED};
use super::lexer::{Kind, Token, tokenize};
use super::unquote;
use crate::error::ParseError;
use crate::labels::Matcher;
use crate::number::{parse_duration_ms, parse_literal};

/// The deepest tree that is accepted; evaluation recurses as deep. A chain of operators is as deep as it is long.
const DEPTH_MAX: usize = 250;
/// The deepest nesting of parentheses, calls and signs that is accepted; parsing recurses as deep.
const NESTING_MAX: usize = 100;
/// The longest expression that is accepted, in bytes.
const TEXT_MAX: usize = 1 << 20;

/// Parses and checks an expression. Experimental parts are refused by name unless `experimental` is set.
pub fn parse(text: &str, experimental: bool) -> Result<Expr, ParseError> {
    let parsed = Parser::new(text, experimental).and_then(|mut parser| {
        let expr = parser.expression(0)?;
        parser.finish()?;
        Ok(expr)
    });
    parsed.map_err(|err| err.located(text))
}

/// Parses a plain series selector such as `up{job="x"}` into its matchers, as `/api/v1/series` takes it.
pub fn parse_matchers(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let expr = parse(text, false)?;
    match expr.kind {
        ExprKind::Selector(selector) if selector.at.is_none() && selector.offset.ms() == 0 => Ok(selector.matchers.to_vec()),
        _ => Err(ParseError::new(0, "expected a series selector").located(text)),
    }
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    experimental: bool,
    nesting: usize,
}

type Parsed<T> = Result<T, ParseError>;

fn node(kind: ExprKind, start: usize, end: usize) -> Parsed<Expr> {
    let mut expr = Expr { kind, start, end, depth: 0 };
    expr.depth = 1 + expr.children().iter().map(|child| child.depth).max().unwrap_or(0);
    if expr.depth > DEPTH_MAX {
        return Err(ParseError::new(start, format!("expression is nested deeper than {DEPTH_MAX}")));
    }
    check(&expr)?;
    Ok(expr)
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, experimental: bool) -> Parsed<Self> {
        if text.len() > TEXT_MAX {
            return Err(ParseError::new(0, format!("expression is longer than {TEXT_MAX} bytes")));
        }
        let tokens = tokenize(text)?;
        if tokens.len() == 1 {
            return Err(ParseError::new(0, "no expression found in input"));
        }
        Ok(Self { tokens, at: 0, experimental, nesting: 0 })
    }

    fn peek(&self) -> Token<'a> {
        self.tokens[self.at]
    }

    fn peek_after(&self) -> Token<'a> {
        self.tokens[(self.at + 1).min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn accept(&mut self, symbol: &str) -> bool {
        let found = self.peek().is(symbol);
        if found {
            self.next();
        }
        found
    }

    fn accept_word(&mut self, word: &str) -> bool {
        let found = self.peek().is_word(word);
        if found {
            self.next();
        }
        found
    }

    fn expect(&mut self, symbol: &str, context: &str) -> Parsed<Token<'a>> {
        if self.peek().is(symbol) { Ok(self.next()) } else { Err(self.unexpected(context, &format!("{symbol:?}"))) }
    }

    fn unexpected(&self, context: &str, wanted: &str) -> ParseError {
        let token = self.peek();
        let found = match token.kind {
            Kind::End => "end of input".to_owned(),
            Kind::Identifier => format!("identifier {:?}", token.text),
            Kind::Number => format!("number {:?}", token.text),
            Kind::String => format!("string {}", token.text),
            Kind::Symbol => format!("{:?}", token.text),
        };
        let context = if context.is_empty() { String::new() } else { format!(" in {context}") };
        let wanted = if wanted.is_empty() { String::new() } else { format!(", expected {wanted}") };
        ParseError::new(token.start, format!("unexpected {found}{context}{wanted}"))
    }

    fn finish(&self) -> Parsed<()> {
        if self.peek().kind == Kind::End { Ok(()) } else { Err(self.unexpected("", "")) }
    }

    fn require_experimental(&self, position: usize, what: &str) -> Parsed<()> {
        if self.experimental { Ok(()) } else { Err(ParseError::unsupported(position, what)) }
    }

    /// An expression whose operators bind at least as strongly as `lowest`.
    fn expression(&mut self, lowest: u8) -> Parsed<Expr> {
        self.nesting += 1;
        if self.nesting > NESTING_MAX {
            return Err(ParseError::new(self.peek().start, format!("expression is nested deeper than {NESTING_MAX}")));
        }
        let mut left = self.unary()?;
        while let Some(op) = self.peek_operator().filter(|op| op.precedence() >= lowest) {
            self.next();
            let (returns_bool, matching) = self.binary_modifiers(op)?;
            let next_lowest = if op == BinaryOp::Pow { op.precedence() } else { op.precedence() + 1 };
            let right = self.expression(next_lowest)?;
            let (start, end) = (left.start, right.end);
            left = node(ExprKind::Binary { op, left: Box::new(left), right: Box::new(right), returns_bool, matching }, start, end)?;
        }
        self.nesting -= 1;
        Ok(left)
    }

    fn peek_operator(&self) -> Option<BinaryOp> {
        const OPERATORS: [BinaryOp; 18] = [
            BinaryOp::Add,
            BinaryOp::Sub,
            BinaryOp::Mul,
            BinaryOp::Div,
            BinaryOp::Mod,
            BinaryOp::Pow,
            BinaryOp::Atan2,
            BinaryOp::Equal,
            BinaryOp::NotEqual,
            BinaryOp::Greater,
            BinaryOp::Less,
            BinaryOp::GreaterEqual,
            BinaryOp::LessEqual,
            BinaryOp::TrimUpper,
            BinaryOp::TrimLower,
            BinaryOp::And,
            BinaryOp::Or,
            BinaryOp::Unless,
        ];
        let token = self.peek();
        OPERATORS.into_iter().find(|op| token.is(op.text()) || token.is_word(op.text()))
    }

    fn unary(&mut self) -> Parsed<Expr> {
        let token = self.peek();
        if !token.is("-") && !token.is("+") {
            return self.postfix();
        }
        self.next();
        let negative = token.is("-");
        // A sign binds like a multiplication: looser than a power.
        let mut inner = self.expression(BinaryOp::Pow.precedence())?;
        if let ExprKind::Number(value) = &mut inner.kind {
            *value = if negative { -*value } else { *value };
            inner.start = token.start;
            return Ok(inner);
        }
        let end = inner.end;
        node(ExprKind::Unary { negative, expr: Box::new(inner) }, token.start, end)
    }

    /// A primary expression with what may follow it: `[range]`, `offset`, `@`.
    fn postfix(&mut self) -> Parsed<Expr> {
        let mut expr = self.primary()?;
        loop {
            let token = self.peek();
            if token.is("[") {
                expr = self.range(expr)?;
            } else if token.is_word("offset") {
                self.next();
                let offset = self.offset()?;
                set_offset(&mut expr, offset, token.start)?;
            } else if token.is("@") {
                self.next();
                let at = self.at_modifier()?;
                set_at(&mut expr, at, token.start)?;
            } else if token.is_word("anchored") || token.is_word("smoothed") {
                self.require_experimental(token.start, &format!("modifier {:?}", token.text))?;
                self.next();
                set_extent(&mut expr, if token.is_word("anchored") { Extent::Anchored } else { Extent::Smoothed }, token.start)?;
            } else {
                return Ok(expr);
            }
            expr.end = self.tokens[self.at.saturating_sub(1)].end();
        }
    }

    fn range(&mut self, expr: Expr) -> Parsed<Expr> {
        let open = self.next().start;
        let range = self.span("range or subquery", false)?;
        if !self.accept(":") {
            let end = self.expect("]", "range selector")?.end();
            let start = expr.start;
            let ExprKind::Selector(selector) = expr.kind else {
                return Err(ParseError::new(open, "ranges only allowed for vector selectors"));
            };
            if selector.has_offset() {
                return Err(ParseError::new(open, "no offset modifiers allowed before range"));
            }
            if selector.at.is_some() {
                return Err(ParseError::new(open, "no @ modifiers allowed before range"));
            }
            return node(ExprKind::Matrix { selector, range }, start, end);
        }
        let step = if self.peek().is("]") { None } else { Some(self.span("subquery step", false)?) };
        let end = self.expect("]", "subquery selector")?.end();
        let start = expr.start;
        node(ExprKind::Subquery { expr: Box::new(expr), range, step, offset: Span::Ms(0), at: None }, start, end)
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let token = self.peek();
        match token.kind {
            Kind::Number => {
                self.next();
                node(ExprKind::Number(number_of(token)?), token.start, token.end())
            }
            Kind::String => {
                self.next();
                node(ExprKind::String(string_of(token)?), token.start, token.end())
            }
            Kind::Symbol if token.is("(") => {
                self.next();
                let inner = self.expression(0)?;
                let end = self.expect(")", "parentheses")?.end();
                node(ExprKind::Paren(Box::new(inner)), token.start, end)
            }
            Kind::Symbol if token.is("{") => self.selector(None),
            Kind::Identifier => self.word(),
            _ => Err(self.unexpected("", "")),
        }
    }

    /// A number, an aggregation, a call or a metric: all begin with a word.
    fn word(&mut self) -> Parsed<Expr> {
        let token = self.peek();
        let after = self.peek_after();
        if !after.is("{") && !after.is("(") && (token.is_word("inf") || token.is_word("nan")) {
            self.next();
            return node(ExprKind::Number(number_of(token)?), token.start, token.end());
        }
        let groups = after.is_word("by") || after.is_word("without");
        if let Some(op) = AggregateOp::from_name(token.text)
            && (after.is("(") || groups)
        {
            if op.is_experimental() {
                self.require_experimental(token.start, &format!("aggregation {:?}", op.name()))?;
            }
            self.next();
            return self.aggregation(op, token.start);
        }
        if after.is("(") {
            self.next();
            return self.call(token);
        }
        const RESERVED: [&str; 6] = ["bool", "on", "ignoring", "group_left", "group_right", "atan2"];
        if RESERVED.iter().any(|word| token.is_word(word)) {
            return Err(self.unexpected("", ""));
        }
        self.next();
        self.selector(Some(token))
    }

    fn arguments(&mut self, context: &str) -> Parsed<Vec<Expr>> {
        self.expect("(", context)?;
        let mut args = Vec::new();
        while !self.peek().is(")") {
            args.push(self.expression(0)?);
            if self.accept(",") {
                if self.peek().is(")") {
                    return Err(ParseError::new(self.peek().start, "trailing commas not allowed in function call args"));
                }
            } else if !self.peek().is(")") {
                return Err(self.unexpected(context, "\",\" or \")\""));
            }
        }
        self.next();
        // Parentheses around an argument have no meaning, and remarks are about what is inside.
        Ok(args.into_iter().map(unwrap).collect())
    }

    fn call(&mut self, name: Token<'a>) -> Parsed<Expr> {
        if NOT_IMPLEMENTED.contains(&name.text) {
            return Err(ParseError::unsupported(name.start, format!("function {:?}", name.text)));
        }
        let function =
            functions::find(name.text).ok_or_else(|| ParseError::new(name.start, format!("unknown function with name {:?}", name.text)))?;
        if function.experimental {
            self.require_experimental(name.start, &format!("function {:?}", name.text))?;
        }
        let args = self.arguments("function call")?;
        let end = self.tokens[self.at - 1].end();
        node(ExprKind::Call { function, args }, name.start, end)
    }

    fn aggregation(&mut self, op: AggregateOp, start: usize) -> Parsed<Expr> {
        let mut grouping = self.grouping()?;
        let mut args = self.arguments("aggregation")?;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        let wanted = if op.takes_parameter() { 2 } else { 1 };
        if args.len() != wanted {
            let message = match (args.len(), wanted) {
                (0, _) => format!("no arguments for aggregate expression provided for {:?}", op.name()),
                (got, _) => format!("wrong number of arguments for aggregate expression provided, expected {wanted}, got {got}"),
            };
            return Err(ParseError::new(start, message));
        }
        let expr = args.pop().ok_or_else(|| self.unexpected("aggregation", ""))?;
        let param = args.pop().map(Box::new);
        if op == AggregateOp::CountValues && !param.as_ref().is_some_and(|p| matches!(p.kind, ExprKind::String(_))) {
            return Err(ParseError::new(start, "expected type string in aggregation parameter, got another expression"));
        }
        let grouping = grouping.unwrap_or(Grouping { without: false, labels: Vec::new() });
        let end = self.tokens[self.at - 1].end();
        node(ExprKind::Aggregate { op, expr: Box::new(expr), param, grouping }, start, end)
    }

    fn grouping(&mut self) -> Parsed<Option<Grouping>> {
        let without = self.peek().is_word("without");
        if !without && !self.peek().is_word("by") {
            return Ok(None);
        }
        self.next();
        let mut labels = self.label_list()?;
        labels.sort();
        labels.dedup();
        Ok(Some(Grouping { without, labels }))
    }

    fn label_list(&mut self) -> Parsed<Vec<String>> {
        self.expect("(", "grouping opts")?;
        let mut labels = Vec::new();
        while !self.peek().is(")") {
            let token = self.next();
            labels.push(match token.kind {
                Kind::Identifier if !token.text.contains(':') => token.text.to_owned(),
                Kind::String => string_of(token)?,
                _ => {
                    self.at = self.at.saturating_sub(1);
                    return Err(self.unexpected("grouping opts", "label"));
                }
            });
            if !self.accept(",") && !self.peek().is(")") {
                return Err(self.unexpected("grouping opts", "\",\" or \")\""));
            }
        }
        self.next();
        Ok(labels)
    }

    fn binary_modifiers(&mut self, op: BinaryOp) -> Parsed<(bool, Option<Matching>)> {
        let returns_bool = self.accept_word("bool");
        let cardinality = if op.is_set() { Cardinality::ManyToMany } else { Cardinality::OneToOne };
        let mut matching = Matching { cardinality, on: false, labels: Vec::new(), include: Vec::new(), fill_left: None, fill_right: None };
        let on = self.peek().is_word("on");
        if (on || self.peek().is_word("ignoring")) && self.peek_after().is("(") {
            self.next();
            matching.on = on;
            matching.labels = self.label_list()?;
            for (word, cardinality) in [("group_left", Cardinality::ManyToOne), ("group_right", Cardinality::OneToMany)] {
                if self.accept_word(word) {
                    matching.cardinality = cardinality;
                    if self.peek().is("(") {
                        matching.include = self.label_list()?;
                    }
                    break;
                }
            }
        }
        while let Some(word) = ["fill", "fill_left", "fill_right"].into_iter().find(|word| self.peek().is_word(word)) {
            if !self.peek_after().is("(") {
                break;
            }
            self.require_experimental(self.peek().start, &format!("modifier {word:?}"))?;
            self.next();
            self.fill_value(word, &mut matching)?;
        }
        Ok((returns_bool, Some(matching)))
    }

    fn fill_value(&mut self, word: &str, matching: &mut Matching) -> Parsed<()> {
        self.expect("(", "fill modifier")?;
        let negative = self.accept("-");
        if !negative {
            self.accept("+");
        }
        let token = self.next();
        let value = number_of(token)?;
        let value = if negative { -value } else { value };
        self.expect(")", "fill modifier")?;
        if word != "fill_right" {
            matching.fill_left = Some(value);
        }
        if word != "fill_left" {
            matching.fill_right = Some(value);
        }
        Ok(())
    }
}

impl Selector {
    fn has_offset(&self) -> bool {
        !matches!(self.offset, Span::Ms(0))
    }
}

fn unwrap(expr: Expr) -> Expr {
    match expr.kind {
        ExprKind::Paren(inner) => unwrap(*inner),
        _ => expr,
    }
}

fn number_of(token: Token<'_>) -> Parsed<f64> {
    parse_literal(token.text)
        .or_else(|| parse_duration_ms(token.text).map(|ms| ms as f64 / 1e3))
        .ok_or_else(|| ParseError::new(token.start, format!("error parsing number: {:?}", token.text)))
}

fn string_of(token: Token<'_>) -> Parsed<String> {
    unquote(token.text).ok_or_else(|| ParseError::new(token.start, format!("error unquoting string {:?}", token.text)))
}
