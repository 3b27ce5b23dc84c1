//! Durations, offsets and the other modifiers of selectors.

use super::{NESTING_MAX, Parsed, Parser, number_of};
use crate::error::ParseError;
use crate::number::parse_duration_ms;
use crate::parse::ast::{At, Expr, ExprKind, Extent, Span};
use crate::parse::duration::DurationExpr;
use crate::parse::lexer::{Kind, Token};

impl<'a> Parser<'a> {
    /// A duration; an arithmetic expression that gives one is experimental.
    pub(super) fn span(&mut self, context: &str, may_be_negative: bool) -> Parsed<Span> {
        let token = self.peek();
        let ends = |token: Token<'_>| token.is("]") || token.is(":");
        if token.kind == Kind::Number && (ends(self.peek_after()) || may_be_negative) {
            self.next();
            return Ok(Span::Ms(duration_of(token, may_be_negative)?));
        }
        if token.kind == Kind::End || token.is("]") {
            return Err(self.unexpected(context, "duration"));
        }
        self.require_experimental(token.start, "duration expression")?;
        Ok(Span::Computed(Box::new(self.duration_expression(0)?)))
    }

    fn duration_expression(&mut self, lowest: u8) -> Parsed<DurationExpr> {
        let mut left = self.duration_term()?;
        loop {
            let token = self.peek();
            let (symbol, precedence) = match token.text {
                "+" | "-" => (token.text, 1),
                "*" | "/" | "%" => (token.text, 2),
                "^" => (token.text, 3),
                _ => return Ok(left),
            };
            if precedence < lowest {
                return Ok(left);
            }
            self.next();
            let right = self.duration_expression(if symbol == "^" { precedence } else { precedence + 1 })?;
            left = DurationExpr::Binary(symbol.chars().next().unwrap_or('+'), Box::new(left), Box::new(right));
        }
    }

    fn duration_term(&mut self) -> Parsed<DurationExpr> {
        self.nesting += 1;
        if self.nesting > NESTING_MAX {
            return Err(ParseError::new(self.peek().start, "duration expression is nested too deep"));
        }
        let token = self.next();
        let term = match token.text {
            "-" => DurationExpr::Negate(Box::new(self.duration_expression(3)?)),
            "+" => self.duration_expression(3)?,
            "(" => {
                let inner = self.duration_expression(0)?;
                self.expect(")", "duration expression")?;
                inner
            }
            _ if token.kind == Kind::Number => DurationExpr::Seconds(number_of(token)?),
            _ if token.kind == Kind::Identifier && self.peek().is("(") => {
                self.next();
                self.duration_call(token)?
            }
            _ => {
                self.at = self.at.saturating_sub(1);
                return Err(self.unexpected("duration expression", "number, duration, step() or range()"));
            }
        };
        self.nesting -= 1;
        Ok(term)
    }

    fn duration_call(&mut self, name: Token<'a>) -> Parsed<DurationExpr> {
        let name_text = name.text.to_ascii_lowercase();
        let call = match name_text.as_str() {
            "step" => DurationExpr::Step,
            "range" => DurationExpr::Range,
            "min" | "max" | "min_of" | "max_of" => {
                let a = Box::new(self.duration_expression(0)?);
                self.expect(",", "duration expression")?;
                let b = Box::new(self.duration_expression(0)?);
                if name_text.starts_with("min") { DurationExpr::Smaller(a, b) } else { DurationExpr::Larger(a, b) }
            }
            _ => return Err(ParseError::new(name.start, format!("unknown function {:?} in duration expression", name.text))),
        };
        self.expect(")", "duration expression")?;
        Ok(call)
    }

    pub(super) fn offset(&mut self) -> Parsed<Span> {
        let token = self.peek();
        let signed = token.is("-") || token.is("+");
        let value = if signed { self.peek_after() } else { token };
        if value.kind == Kind::Number {
            if signed {
                self.next();
            }
            let Span::Ms(ms) = self.span("offset", true)? else { return Err(self.unexpected("offset", "duration")) };
            return Ok(Span::Ms(if token.is("-") { -ms } else { ms }));
        }
        if !signed && value.kind != Kind::Identifier && !value.is("(") {
            return Err(self.unexpected("offset", "duration"));
        }
        self.require_experimental(token.start, "duration expression")?;
        Ok(Span::Computed(Box::new(self.duration_term()?)))
    }

    pub(super) fn at_modifier(&mut self) -> Parsed<At> {
        for (word, at) in [("start", At::Start), ("end", At::End)] {
            if self.peek().is_word(word) && self.peek_after().is("(") {
                self.next();
                self.next();
                self.expect(")", "@ modifier")?;
                return Ok(at);
            }
        }
        let negative = self.accept("-");
        if !negative {
            self.accept("+");
        }
        let token = self.peek();
        let is_number = token.kind == Kind::Number || token.is_word("inf") || token.is_word("nan");
        if !is_number {
            return Err(self.unexpected("@", "timestamp"));
        }
        self.next();
        let seconds = if negative { -number_of(token)? } else { number_of(token)? };
        if !seconds.is_finite() || seconds.abs() >= i64::MAX as f64 / 1e3 {
            return Err(ParseError::new(token.start, format!("timestamp out of bounds for @ modifier: {seconds}")));
        }
        Ok(At::Ms((seconds * 1e3).round() as i64))
    }
}

fn duration_of(token: Token<'_>, may_be_zero: bool) -> Parsed<i64> {
    let seconds = number_of(token)?;
    let ms = parse_duration_ms(token.text).unwrap_or((seconds * 1e3).round() as i64);
    if seconds > i64::MAX as f64 / 1e9 {
        return Err(ParseError::new(token.start, "duration out of range"));
    }
    if ms == 0 && !may_be_zero {
        return Err(ParseError::new(token.start, "duration must be greater than 0"));
    }
    Ok(ms)
}

pub(super) fn set_offset(expr: &mut Expr, new: Span, position: usize) -> Parsed<()> {
    let offset = match &mut expr.kind {
        ExprKind::Selector(selector) | ExprKind::Matrix { selector, .. } => &mut selector.offset,
        ExprKind::Subquery { offset, .. } => offset,
        _ => {
            let message = "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery";
            return Err(ParseError::new(position, message));
        }
    };
    if !matches!(offset, Span::Ms(0)) {
        return Err(ParseError::new(position, "offset may not be set multiple times"));
    }
    *offset = new;
    Ok(())
}

pub(super) fn set_extent(expr: &mut Expr, new: Extent, position: usize) -> Parsed<()> {
    let instant = matches!(expr.kind, ExprKind::Selector(_));
    let extent = match &mut expr.kind {
        ExprKind::Selector(selector) | ExprKind::Matrix { selector, .. } if !(instant && new == Extent::Anchored) => &mut selector.extent,
        _ => return Err(ParseError::new(position, "anchored and smoothed modifiers must be preceded by a selector they apply to")),
    };
    if *extent != Extent::Plain {
        return Err(ParseError::new(position, "anchored and smoothed modifiers may not be set multiple times"));
    }
    *extent = new;
    Ok(())
}

pub(super) fn set_at(expr: &mut Expr, new: At, position: usize) -> Parsed<()> {
    let at = match &mut expr.kind {
        ExprKind::Selector(selector) | ExprKind::Matrix { selector, .. } => &mut selector.at,
        ExprKind::Subquery { at, .. } => at,
        _ => {
            let message = "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery";
            return Err(ParseError::new(position, message));
        }
    };
    if at.is_some() {
        return Err(ParseError::new(position, "@ <timestamp> may not be set multiple times"));
    }
    *at = Some(new);
    Ok(())
}
