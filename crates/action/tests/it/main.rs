//! Actions against real servers on loopback.

mod local;

mod redis;
