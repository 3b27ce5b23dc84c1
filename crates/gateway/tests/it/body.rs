//! What a body says and what changes in it, held against the trees that a parser makes of it.

mod conversation;
mod edits;
mod facts;
mod history;
mod speed;
