//! Faults on purpose, for drills, while somebody holds a lease.
