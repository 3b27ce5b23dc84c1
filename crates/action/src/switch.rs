//! Switches of the gateway: set with a value, a scope and an expiry, kept in the journal, listed for whoever enforces them.
