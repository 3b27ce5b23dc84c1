//! Reading what was attached to an incident.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use paramedic_model::text;
use paramedic_respond::Attachment;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{ApiError, Code};
use crate::registry::Caller;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvidenceQuery {
    /// `INC-7`, or just `7`.
    pub id: String,
    /// The attachment's number or name; of several of one name it is the latest.
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EvidenceAnswer {
    pub attachment: Attachment,
    /// The content, where it is text.
    pub text: Option<String>,
    /// The content, where it is none.
    pub base64: Option<String>,
}

pub async fn evidence(context: Arc<Context>, _: Caller, query: EvidenceQuery) -> Result<EvidenceAnswer, ApiError> {
    let incident = super::find(&context, &query.id).await?;
    let nothing = || {
        let name = text::head(&query.name, 100);
        ApiError::new(Code::NotFound, format!("{} has no attachment {name:?}", incident.id), "read the incident: it lists its attachments")
    };
    let named = |one: &&Attachment| query.name.parse() == Ok(one.id) || one.name == query.name;
    let id = incident.attachments.iter().rev().find(named).ok_or_else(nothing)?.id;
    let (attachment, content) = context.desk.attachment(&incident.id, id).await?.ok_or_else(nothing)?;
    let (text, base64) = match String::from_utf8(content) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(BASE64_STANDARD.encode(error.as_bytes()))),
    };
    Ok(EvidenceAnswer { attachment, text, base64 })
}
