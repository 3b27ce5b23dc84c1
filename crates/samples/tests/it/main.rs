//! The store of samples as its callers meet it.

mod damage;
mod formats;
mod kill;
mod limits;
mod model;
mod restart;
mod retention;
mod story;
mod together;
