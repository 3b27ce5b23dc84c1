//! Evidence that is kept with an incident: a log excerpt, a query's answer, a picture. Inline in the journal, capped,
//! masked where it is text, with the hash of what is kept.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use paramedic_model::{secret, text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::command::CommandError;
use crate::incident::Incident;

/// Bytes of one attachment.
pub const ATTACHMENT_BYTES_MAX: usize = 256 * 1024;
/// Attachments of one incident.
pub const ATTACHMENTS_MAX: usize = 100;
const NAME_BYTES_MAX: usize = 200;
const MEDIA_TYPE_BYTES_MAX: usize = 100;
const SOURCE_BYTES_MAX: usize = 1_000;

/// What the incident lists of an attachment; the content is read by its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attachment {
    /// Counted within the incident, from 1.
    pub id: u64,
    pub name: String,
    /// As the sender named it, such as `text/plain`; never to be trusted by who shows it.
    pub media_type: String,
    /// Bytes as kept, after masking.
    pub bytes: usize,
    /// SHA-256 of the bytes as kept, in hex.
    pub sha256: String,
    /// Where it is from: a query, a command, a link.
    pub source: String,
    pub encoding: Encoding,
}

/// How the journal writes the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    Text,
    Base64,
}

/// What a person hands in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given<'a> {
    pub(crate) name: &'a str,
    pub(crate) media_type: &'a str,
    pub(crate) text: Option<&'a str>,
    pub(crate) base64: Option<&'a str>,
    pub(crate) source: &'a str,
}

/// Checks, masks and hashes; gives what is listed and what is written.
pub(crate) fn prepare(incident: &Incident, given: Given<'_>) -> Result<(Attachment, String), CommandError> {
    if incident.attachments.len() >= ATTACHMENTS_MAX {
        return Err(invalid("name", format!("would be one more than {ATTACHMENTS_MAX} attachments, the most of one incident")));
    }
    let name = line(given.name, NAME_BYTES_MAX);
    if name.is_empty() {
        return Err(invalid("name", "is empty: an attachment needs a name".to_owned()));
    }
    let bytes = match (given.text, given.base64) {
        (Some(text), None) => within_cap(text.len(), "text").map(|()| text.as_bytes().to_vec())?,
        (None, Some(coded)) => {
            // Four characters for three bytes, but for what fills the end: what cannot fit is not decoded.
            let coded = coded.trim();
            let filled = coded.bytes().rev().take(2).filter(|letter| *letter == b'=').count();
            within_cap((coded.len() / 4 * 3).saturating_sub(filled), "base64")?;
            let bytes = BASE64_STANDARD.decode(coded).map_err(|error| invalid("base64", format!("cannot be decoded: {error}")))?;
            within_cap(bytes.len(), "base64").map(|()| bytes)?
        }
        (Some(_), Some(_)) => return Err(invalid("text", "and base64 are both given: one of them is the content".to_owned())),
        (None, None) => return Err(invalid("text", "is missing: give text, or base64 for anything else".to_owned())),
    };
    if bytes.is_empty() {
        return Err(invalid("text", "is empty: there would be nothing to keep".to_owned()));
    }
    let (encoding, content, kept) = written(bytes);
    within_cap(kept.len(), "text")?;
    let attachment = Attachment {
        id: incident.attachments.last().map_or(0, |last| last.id) + 1,
        name,
        media_type: media_type(given.media_type),
        bytes: kept.len(),
        sha256: Sha256::digest(&kept).iter().map(|byte| format!("{byte:02x}")).collect(),
        source: line(given.source, SOURCE_BYTES_MAX),
        encoding,
    };
    Ok((attachment, content))
}

/// The content of a record as bytes; `None` when the record does not hold what it says.
#[must_use]
pub fn content_of(attachment: &Attachment, content: &str) -> Option<Vec<u8>> {
    match attachment.encoding {
        Encoding::Text => Some(content.as_bytes().to_vec()),
        Encoding::Base64 => BASE64_STANDARD.decode(content).ok(),
    }
}

/// Text is masked, whichever way it came. Text with control characters is written as base64, because JSON would write
/// each of them with six.
fn written(bytes: Vec<u8>) -> (Encoding, String, Vec<u8>) {
    let kept = match String::from_utf8(bytes) {
        Ok(text) => {
            let text = secret::mask(&text).into_owned();
            if !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
                let kept = text.clone().into_bytes();
                return (Encoding::Text, text, kept);
            }
            text.into_bytes()
        }
        Err(error) => error.into_bytes(),
    };
    (Encoding::Base64, BASE64_STANDARD.encode(&kept), kept)
}

fn within_cap(bytes: usize, key: &'static str) -> Result<(), CommandError> {
    if bytes <= ATTACHMENT_BYTES_MAX {
        return Ok(());
    }
    Err(invalid(key, format!("has {bytes} bytes: the most is {ATTACHMENT_BYTES_MAX}; attach the part that matters, or a link to it")))
}

/// `type/subtype`, or the type of unknown bytes when it is not written like one.
fn media_type(given: &str) -> String {
    let given = given.trim();
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/+-._;= ".contains(c);
    if given.len() > MEDIA_TYPE_BYTES_MAX || !given.contains('/') || !given.chars().all(allowed) {
        return "application/octet-stream".to_owned();
    }
    given.to_ascii_lowercase()
}

fn line(given: &str, bytes_max: usize) -> String {
    text::head(&secret::mask(&text::one_line(given.trim())), bytes_max).to_owned()
}

const fn invalid(key: &'static str, why: String) -> CommandError {
    CommandError::Invalid { key, why }
}
