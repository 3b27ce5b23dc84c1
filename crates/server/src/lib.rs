//! Puts the rooms together: builds, starts, feeds and drains one Paramedic.
//!
//! **Takes** [`Settings`]. **Gives** a running [`App`]: receivers listening, history read, incidents kept, pages
//! served; or, without a server, an [`analysis`] of recorded sessions by the same detectors and decisions. **Never**
//! decides anything about an agent or an incident itself: it only connects the stages, which know nothing of each other.
//!
//! Start reading at [`app`] (build, start, drain), then [`intake`] (the way of an event) and `responding` (the way of a fix).

pub mod settings;

pub mod instance;

pub mod app;

pub mod intake;

mod alerting;

mod announcer;

mod external;

pub mod metering;

mod measuring;

mod own_samples;

mod responding;

pub mod gateway;

pub mod handover;

mod checkpoint;

mod clockwork;

mod receivers;

pub mod analysis;

pub mod offline;

pub mod sample;

pub mod connect;

pub mod doctor;

pub use app::App;
pub use measuring::SAMPLES_DIR;
pub use responding::{STOP_FILE, actions_of};
pub use settings::Settings;
