//! The fleet from outside: events in, counts and states out.
#![allow(clippy::unwrap_used)]

mod bounds;
mod checkpoint;
mod corpus;
mod counting;
mod delegated;
mod gateway;
mod interleaving;
mod prices;
mod told;
mod turns;
