//! Bounds that several crates share. Every bound has a name; the settings may lower or raise some of them.

/// Text kept of one event. Longer text is cut and the cut is said in the text.
pub const EVENT_TEXT_BYTES_MAX: usize = 4 * 1024;
/// Length of an identifier taken from outside (session, request, agent name).
pub const ID_BYTES_MAX: usize = 256;
/// Attributes kept per event.
pub const ATTRIBUTES_MAX: usize = 128;
/// Bytes kept of one attribute's value.
pub const ATTRIBUTE_BYTES_MAX: usize = 2 * 1024;
/// The longest line that is read as one record. A longer line is skipped whole, counted and named.
pub const LINE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The largest request body a receiver takes, after decompression.
pub const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Evidence items kept per alert.
pub const EVIDENCE_MAX: usize = 8;
