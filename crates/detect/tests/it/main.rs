//! What the detectors say about scripts, about recorded sessions, and about anything at all.

mod script;

mod cases;

mod transcript;

mod recorded;

mod laws;

mod saved;
