//! The wire as other programs meet it: bodies from outside, real stores, outages.

mod bodies;
mod forward;
mod fuzzed;
mod programs;
mod queries;
mod receive;
mod wire;
