//! Rules against real files and real programs.

#![allow(clippy::unwrap_used)]

mod broken;
mod corpora;
mod life;
mod programs;
mod stage;
