//! The journal's integration tests, one binary.

#![allow(clippy::unwrap_used)]

mod contract;
mod damage;
mod fixture;
mod kill;
mod limits;
mod support;
