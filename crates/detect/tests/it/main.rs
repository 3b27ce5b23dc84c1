//! What the detectors say about scripts, about recorded sessions, and about anything at all.

#![allow(clippy::unwrap_used)]

mod script;

mod cases;

mod transcript;

mod recorded;

mod laws;

mod gateway;

mod saved;
