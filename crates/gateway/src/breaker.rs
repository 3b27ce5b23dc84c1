//! Circuit breakers: an upstream that fails again and again is left alone for a while.
