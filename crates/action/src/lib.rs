//! Typed actions: operations that change something outside, each with a plan, a verification and a way back.
//!
//! **Takes** a [`Call`]: an action's name and its arguments. **Gives** a [`Plan`] (what would be touched, how many, how it is
//! taken back), and, when it is carried out, what was [`Done`] and whether it was seen to be so. **Never** decides whether an
//! action may run, never runs without a plan made just before, and never goes on when the world is not any more as it was planned.
//!
//! Start reading at [`call`] (what is asked and what is answered), then [`actions`] (how an action is found and run). Each other
//! module is one thing that actions are done to.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod call;

pub mod spec;

pub mod error;

pub mod config;

pub mod actions;

pub mod catalogue;

pub mod metrics;

mod address;

mod kept;

pub mod process;

pub mod service;

pub mod redis;

pub mod postgres;

pub mod kubernetes;

pub mod http;

pub mod flag;

pub mod switch;

pub mod git;

pub mod restore;

pub use actions::{Actions, Adapter, BoxFuture, holds_secret};
pub use call::{Call, Done, Object, Plan, Verified};
pub use config::Settings;
pub use error::ActionError;
pub use spec::{Argument, Effect, Kind, Spec};
