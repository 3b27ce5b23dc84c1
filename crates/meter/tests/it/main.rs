//! What the meter promises, shown through samples and expressions over them.

#![allow(clippy::unwrap_used)]

mod alerts;
mod bounds;
mod corpus;
mod cost;
mod counting;
mod exposition;
mod gateway;
mod gauges;
mod names;
mod reference;
mod restart;
mod stage;
