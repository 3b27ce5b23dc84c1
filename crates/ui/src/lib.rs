//! The face for people: server-rendered pages that answer one question each.
//!
//! **Takes** a browser's requests and the API's [`Context`](paramedic_api::Context); everything shown comes from the same
//! functions that the JSON API offers. **Gives** HTML that works without script, two assets, and forms for what a person
//! may do. **Never** loads anything from elsewhere, never puts untrusted text into a page unescaped, never decides.
//!
//! Start reading at [`routes`] (which pages there are), then [`page`] (what all have in common), then one page.

mod routes;

mod page;

mod pages;

mod forms;

mod steps;

mod work;

mod markdown;

mod chart;

mod plot;

mod axis;

mod format;

mod assets;

pub use routes::router;
