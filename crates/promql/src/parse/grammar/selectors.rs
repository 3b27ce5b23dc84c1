//! Selectors of series.

use std::sync::Arc;

use super::{Parsed, Parser, node, string_of};
use crate::error::ParseError;
use crate::labels::{METRIC_NAME, MatchOp, Matcher};
use crate::parse::ast::{Expr, ExprKind, Extent, Selector, Span};
use crate::parse::lexer::{Kind, Token};

impl<'a> Parser<'a> {
    pub(super) fn selector(&mut self, name: Option<Token<'a>>) -> Parsed<Expr> {
        let start = name.map_or_else(|| self.peek().start, |token| token.start);
        let mut name = name.map(|token| token.text.to_owned());
        let mut matchers = Vec::new();
        if self.peek().is("{") {
            self.next();
            self.matchers(&mut name, &mut matchers)?;
        }
        let end = self.tokens[self.at - 1].end();
        if let Some(name) = &name {
            if let Some(other) = matchers.iter().find(|m| &*m.name == METRIC_NAME && matches!(m.op, MatchOp::Equal)) {
                let message = format!("metric name must not be set twice: {:?} or {name:?}", &*other.value);
                return Err(ParseError::new(start, message));
            }
            matchers.push(Matcher::equal(METRIC_NAME, name));
        }
        if matchers.iter().all(|matcher| matcher.matches("")) {
            return Err(ParseError::new(start, "vector selector must contain at least one non-empty matcher"));
        }
        let selector =
            Selector { name, matchers: Arc::from(matchers), offset: Span::Ms(0), at: None, extent: Extent::Plain, stats_only: false };
        node(ExprKind::Selector(selector), start, end)
    }

    /// The inside of braces, up to and with the closing one.
    fn matchers(&mut self, name: &mut Option<String>, matchers: &mut Vec<Matcher>) -> Parsed<()> {
        while !self.accept("}") {
            let token = self.next();
            let label = match token.kind {
                Kind::Identifier if !token.text.contains(':') => token.text.to_owned(),
                Kind::String => string_of(token)?,
                _ => {
                    self.at = self.at.saturating_sub(1);
                    return Err(self.unexpected("label matching", "identifier or \"}\""));
                }
            };
            let op = self.peek();
            if token.kind == Kind::String && (op.is(",") || op.is("}")) {
                if let Some(known) = name {
                    let message = format!("metric name must not be set twice: {known:?} or {label:?}");
                    return Err(ParseError::new(token.start, message));
                }
                *name = Some(label);
            } else {
                self.next();
                let value = self.next();
                if value.kind != Kind::String {
                    self.at = self.at.saturating_sub(1);
                    return Err(self.unexpected("label matching", "string"));
                }
                let value_text = string_of(value)?;
                matchers.push(match op.text {
                    "=" => Matcher::equal(&label, &value_text),
                    "!=" => Matcher::not_equal(&label, &value_text),
                    "=~" | "!~" => {
                        Matcher::regex(&label, &value_text, op.text == "!~").map_err(|err| ParseError::new(value.start, err.message))?
                    }
                    _ => return Err(ParseError::new(op.start, format!("unexpected {:?} in label matching", op.text))),
                });
            }
            if !self.accept(",") && !self.peek().is("}") {
                return Err(self.unexpected("label matching", "\",\" or \"}\""));
            }
        }
        Ok(())
    }
}
