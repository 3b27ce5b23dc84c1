//! Actions against real servers on loopback.
