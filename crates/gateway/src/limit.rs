//! Limits on rates and concurrency: who may go on now, who waits, who is told to come back.
