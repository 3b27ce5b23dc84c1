//! The store through its public face.

mod append;
mod damage;
mod format;
mod kill;
mod property;
mod retention;
mod search;
mod story;
