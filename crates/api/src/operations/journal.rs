//! The journal as it is: every entry, in order.

use std::sync::Arc;

use paramedic_journal::Entry;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::ApiError;
use crate::operations::limit_of;
use crate::registry::{Caller, Method, Operation, Permission};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EntriesQuery {
    /// Only entries after this position. Default 0: from the start.
    pub after: Option<u64>,
    /// Only entries about this: `incident/INC-7`.
    pub subject: Option<String>,
    /// Page size, 1 to 1000. Default 100.
    pub limit: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EntryPage {
    pub entries: Vec<Entry>,
    /// The journal's last position.
    pub head: u64,
    /// Ask again with `after` set to this; none at the end.
    pub next: Option<u64>,
}

pub async fn entries(context: Arc<Context>, _: Caller, query: EntriesQuery) -> Result<EntryPage, ApiError> {
    let (after, limit) = (query.after.unwrap_or(0), limit_of(query.limit)?);
    let entries = match query.subject.as_deref() {
        Some(subject) if !subject.is_empty() => context.journal.read_subject(subject, after, limit).await?,
        _ => context.journal.read(after, limit).await?,
    };
    let head = context.journal.head().await?;
    let next = entries.last().map(|last| last.seq).filter(|seq| *seq < head);
    Ok(EntryPage { entries, head, next })
}

pub(crate) fn register(all: &mut Vec<Operation>) {
    all.push(Operation::new(
        "journal.entries",
        (Method::Get, "/api/v1/journal"),
        "Read journal entries in order.",
        Permission::Read,
        entries,
    ));
}
