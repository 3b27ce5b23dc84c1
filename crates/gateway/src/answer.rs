//! What an answer says while it passes: usage, stop reason, errors, limits.
