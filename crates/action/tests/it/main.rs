//! Actions against real servers on loopback.

mod kubernetes;

mod local;

mod redis;

mod process;

mod flag;

mod switch;
