//! Every bound of the journal, by name. What exceeds one is refused with an error that says the bound.

use std::time::Duration;

/// Bytes of one entry's payload, as JSON text.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;
/// Entries in one append.
pub const APPEND_ENTRIES_MAX: usize = 1_000;
/// Bytes of all payloads in one append.
pub const APPEND_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of an entry's kind, which may not be empty.
pub const KIND_BYTES_MAX: usize = 128;
/// Bytes of an entry's subject.
pub const SUBJECT_BYTES_MAX: usize = 1024;
/// Bytes of an entry's actor.
pub const ACTOR_BYTES_MAX: usize = 512;
/// Bytes of the name of a snapshot or lease, or of a lease's holder.
pub const NAME_BYTES_MAX: usize = 256;
/// Bytes of one snapshot.
pub const SNAPSHOT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Versions kept of one snapshot, so that the previous program still finds its own after a roll-back.
pub const SNAPSHOT_VERSIONS_MAX: usize = 2;

/// The writer's queue, as it is called in messages.
pub const QUEUE_NAME: &str = "journal.writer";
/// Requests waiting for the writer; the next one waits for room.
pub const QUEUE_LEN_MAX: usize = 1_024;
/// Bytes waiting for the writer; the next request waits for room.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Requests made durable by one commit.
pub const GROUP_LEN_MAX: usize = 1_024;
/// Bytes made durable by one commit; a single larger request is a group of its own.
pub const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Entries given by one read, whatever the caller asked for.
pub const READ_ENTRIES_MAX: usize = 10_000;
/// Payload bytes after which a read ends early (it gives at least one entry).
pub const READ_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Reads at the same time; each has its own connection.
pub const READERS_MAX: usize = 4;

/// Committed groups kept for subscribers that are behind; one that is further behind reads again.
pub const BROADCAST_LEN_MAX: usize = 64;

/// How long we wait for another process that holds the database.
pub const LOCK_WAIT: Duration = Duration::from_secs(3);

/// Problems that a verification lists; further ones are only counted.
pub const PROBLEMS_MAX: usize = 1_000;
