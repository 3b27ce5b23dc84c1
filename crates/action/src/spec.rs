//! What an action is called, what it takes, and how much it can do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much an action does, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It only looks.
    Read,
    /// It changes something, and there is a way back.
    Write,
    /// What it loses cannot be had back.
    Destroy,
}

/// What an argument holds. Values come as JSON, or as the text of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Text,
    /// A whole number, not negative.
    Count,
    /// `90s`, `10m`, `1h30m`, `2d`; a plain number is seconds. At most 366 days.
    Duration,
    Flag,
    /// Any JSON.
    Json,
}

/// One argument of an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Argument {
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
    /// What it means, with its default where it may be left out.
    pub what: &'static str,
}

impl Argument {
    #[must_use]
    pub const fn required(name: &'static str, kind: Kind, what: &'static str) -> Self {
        Self { name, kind, required: true, what }
    }

    #[must_use]
    pub const fn optional(name: &'static str, kind: Kind, what: &'static str) -> Self {
        Self { name, kind, required: false, what }
    }
}

/// One action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Spec {
    /// `kubernetes.scale`: what it is done to, dot, what is done.
    pub name: &'static str,
    pub summary: &'static str,
    pub effect: Effect,
    pub arguments: &'static [Argument],
    /// How it is taken back, in words.
    pub undo: &'static str,
}
