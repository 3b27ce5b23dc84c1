//! Runbooks from outside: what command lines would do, and what documents say.

mod brakes;
mod classify;
mod desk;
mod execute;
mod import;
mod library;
mod library_plans;
mod library_rehearsals;
mod lint;
mod parse;
mod plan;
mod run;
mod servers;
