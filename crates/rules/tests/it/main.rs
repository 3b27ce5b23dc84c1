//! Rules against real files and real programs.

#![allow(clippy::unwrap_used)]

mod broken;
mod corpora;
mod fuzz;
mod life;
mod programs;
mod stage;
mod unit_tests;
