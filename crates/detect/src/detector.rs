//! One file per detector, and two files for what a family shares.

pub(crate) mod retry_burst;

pub(crate) mod api_overload;
pub(crate) mod api_server_error;
pub(crate) mod network;
pub(crate) mod rate_limit;

pub(crate) mod terminal;

pub(crate) mod api_terminal_error;
pub(crate) mod retries_exhausted;

pub(crate) mod looping;

pub(crate) mod cycle;
pub(crate) mod monologue;
pub(crate) mod ping_pong;
pub(crate) mod repeat_call;
pub(crate) mod repeat_exact;
pub(crate) mod silence;
pub(crate) mod tool_error_streak;

pub(crate) mod compaction_thrash;
pub(crate) mod context_growth;
pub(crate) mod spend_rate;

pub(crate) mod lost_subagent;
pub(crate) mod process_died;
