//! Runbooks from outside: what command lines would do, and what documents say.

mod classify;
mod library;
mod library_plans;
mod lint;
mod parse;
