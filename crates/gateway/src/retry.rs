//! When a failed call may be tried again, and how much trying the fleet may do.
