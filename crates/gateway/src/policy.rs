//! Which switches are for a call, and what they ask for.
