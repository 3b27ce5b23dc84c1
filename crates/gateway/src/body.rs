//! What a request's body says, and changes of single bytes in it.
//!
//! [`read`] walks once over the bytes of a Messages API request and notes where things are: no tree is built, nothing is
//! copied. What a mitigation changes is a list of [`Edits`], and everything outside of them stays byte for byte as it was.

mod cache;
mod digest;
mod edit;
mod history;
mod messages;
mod place;
mod prefix;
mod scan;
mod tokens;
mod user;

pub use cache::{Marked, mark_for_cache};
pub use edit::{BODY_BYTES_MAX, Capped, Edits, apply, cap_max_tokens, set_model};
pub use history::{Limits, Shortened, Shortening, Stuck, shorten_history};
pub use messages::{MessagePlace, Messages, Role, messages};
pub use place::{Number, Place};
pub use prefix::{Prefixes, Print, Repeated, conversation};
pub use tokens::{Estimate, Ratio, Ratios, Size};
pub use user::User;

use place::Text;
use scan::{Cursor, Scan};

/// What a body says. Nothing but places and numbers: the texts stay in the body.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Facts {
    /// The body is an object and its structure is that of JSON. What its strings hold is not judged, apart from escapes.
    /// Of a body that is not valid nothing is known, and nothing in it is changed.
    pub valid: bool,
    /// Between the quotes.
    pub model: Option<Place>,
    pub stream: bool,
    pub max_tokens: Option<Number>,
    /// `thinking.budget_tokens`, which must stay below `max_tokens`.
    pub thinking_budget: Option<Number>,
    /// `thinking.type` is `enabled`: the kind of thinking that models before the adaptive ones do.
    pub thinking_enabled: bool,
    /// The content of `metadata.user_id`, between the quotes.
    pub user_id: Option<Place>,
    pub tools: Option<Section>,
    pub system: Option<Section>,
    pub messages: Option<Section>,
    /// The last message brings results of tools: the call is one step of a loop.
    pub last_is_tool_result: bool,
    /// The first text of the first message: what a conversation is known by.
    pub first_text: Option<Place>,
    /// The body asks by `cache_control` at its top for marks that the API sets itself.
    pub marks_itself: bool,
    /// `speed` is `fast`, which has a price of its own.
    pub fast: bool,
    /// `inference_geo` is `us`, which has a price of its own.
    pub us_only: bool,
}

/// One of the three parts of a prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Section {
    /// The whole value, brackets or quotes included.
    pub place: Place,
    /// How many tools, blocks or messages; 0 where it is no array.
    pub items: u64,
    /// How many `cache_control` marks are in it.
    pub marks: u64,
    pub media: Media,
}

/// Images and documents that stand in the body as base64: they are not read as text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Media {
    pub images: u64,
    /// Bytes of base64 in documents.
    pub document_bytes: u64,
    /// Bytes of base64 in all.
    pub bytes: u64,
}

impl Media {
    fn add(&mut self, other: Self) {
        self.images += other.images;
        self.document_bytes += other.document_bytes;
        self.bytes += other.bytes;
    }
}

impl Facts {
    /// How large the prompt is, to be made into tokens.
    #[must_use]
    pub fn size(&self) -> Size {
        let mut size = Size::default();
        for section in [self.tools, self.system, self.messages].into_iter().flatten() {
            size.add(Size::of(section.place, section.media));
        }
        size
    }

    /// `cache_control` marks in the whole body.
    #[must_use]
    pub fn marks(&self) -> u64 {
        let of = |section: Option<Section>| section.map_or(0, |section| section.marks);
        u64::from(self.marks_itself) + of(self.tools) + of(self.system) + of(self.messages)
    }

    #[must_use]
    pub fn tool_count(&self) -> u64 {
        self.tools.map_or(0, |section| section.items)
    }

    #[must_use]
    pub fn message_count(&self) -> u64 {
        self.messages.map_or(0, |section| section.items)
    }
}

/// Walks once over a body. Never fails: of what is no JSON, it says so.
///
/// Where a key stands twice the last one holds, as parsers have it.
#[must_use]
pub fn read(body: &[u8]) -> Facts {
    let mut facts = Facts::default();
    match whole(body, &mut facts) {
        Ok(()) => facts,
        Err(scan::Malformed) => Facts::default(),
    }
}

fn whole(body: &[u8], facts: &mut Facts) -> Scan<()> {
    let mut cursor = Cursor::new(body)?;
    cursor.blank();
    facts.valid = cursor.peek() == b'{';
    cursor.fields(|cursor, key| {
        match key.name(body).as_ref() {
            b"model" => facts.model = cursor.text()?.map(|text| text.place),
            b"stream" => {
                facts.stream = cursor.peek() == b't';
                cursor.skip()?;
            }
            b"max_tokens" => facts.max_tokens = Number::read(cursor.placed(Cursor::skip)?, body),
            b"thinking" => thinking(cursor, facts)?,
            b"metadata" => metadata(cursor, facts)?,
            b"cache_control" => {
                facts.marks_itself = cursor.peek() == b'{';
                cursor.skip()?;
            }
            b"speed" => facts.fast = cursor.text()?.is_some_and(|speed| speed.is(body, b"fast")),
            b"inference_geo" => facts.us_only = cursor.text()?.is_some_and(|geo| geo.is(body, b"us")),
            b"tools" => facts.tools = Some(tools(cursor)?),
            b"system" => facts.system = Some(system(cursor)?),
            b"messages" => {
                (facts.first_text, facts.last_is_tool_result) = (None, false);
                facts.messages = Some(history_section(cursor, facts)?);
            }
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    cursor.end()
}

fn metadata(cursor: &mut Cursor<'_>, facts: &mut Facts) -> Scan<()> {
    let body = cursor.body();
    facts.user_id = None;
    cursor.fields(|cursor, key| {
        if !key.is(body, b"user_id") {
            return cursor.skip();
        }
        facts.user_id = cursor.text()?.map(|text| text.place);
        Ok(())
    })
}

fn thinking(cursor: &mut Cursor<'_>, facts: &mut Facts) -> Scan<()> {
    let body = cursor.body();
    (facts.thinking_budget, facts.thinking_enabled) = (None, false);
    cursor.fields(|cursor, key| {
        match key.name(body).as_ref() {
            b"type" => facts.thinking_enabled = cursor.text()?.is_some_and(|kind| kind.is(body, b"enabled")),
            b"budget_tokens" => facts.thinking_budget = Number::read(cursor.placed(Cursor::skip)?, body),
            _ => cursor.skip()?,
        }
        Ok(())
    })
}

fn tools(cursor: &mut Cursor<'_>) -> Scan<Section> {
    let body = cursor.body();
    let mut section = Section::default();
    section.place = cursor.placed(|cursor| {
        cursor.items(|cursor| {
            let mut marked = false;
            section.items += 1;
            cursor.fields(|cursor, key| {
                if key.is(body, b"cache_control") {
                    marked = cursor.peek() == b'{';
                }
                cursor.skip()
            })?;
            section.marks += u64::from(marked);
            Ok(())
        })
    })?;
    Ok(section)
}

fn system(cursor: &mut Cursor<'_>) -> Scan<Section> {
    let mut section = Section::default();
    section.place = cursor.placed(|cursor| {
        let content = content(cursor, false)?;
        (section.items, section.marks, section.media) = (content.blocks, content.marks, content.media);
        Ok(())
    })?;
    Ok(section)
}

fn history_section(cursor: &mut Cursor<'_>, facts: &mut Facts) -> Scan<Section> {
    let body = cursor.body();
    let mut section = Section::default();
    section.place = cursor.placed(|cursor| {
        cursor.items(|cursor| {
            let mut last = Content::default();
            cursor.fields(|cursor, key| {
                if !key.is(body, b"content") {
                    return cursor.skip();
                }
                last = content(cursor, false)?;
                Ok(())
            })?;
            if section.items == 0 {
                facts.first_text = last.first_text;
            }
            facts.last_is_tool_result = last.tool_results;
            section.items += 1;
            section.marks += last.marks;
            section.media.add(last.media);
            Ok(())
        })
    })?;
    Ok(section)
}

/// What a message's content, or a system prompt, holds.
#[derive(Debug, Clone, Copy, Default)]
struct Content {
    blocks: u64,
    marks: u64,
    media: Media,
    tool_results: bool,
    first_text: Option<Place>,
}

/// A string, or an array of blocks. Those of a tool's result are one level further down (`within`), and there is no third.
fn content(cursor: &mut Cursor<'_>, within: bool) -> Scan<Content> {
    let mut content = Content::default();
    if cursor.peek() == b'"' {
        content.first_text = Some(cursor.string()?.place);
        return Ok(content);
    }
    cursor.items(|cursor| block(cursor, &mut content, within))?;
    Ok(content)
}

fn block(cursor: &mut Cursor<'_>, content: &mut Content, within: bool) -> Scan<()> {
    let body = cursor.body();
    let (mut kind, mut text, mut marked, mut media, mut inner) = (None, None, false, Media::default(), Content::default());
    cursor.fields(|cursor, key| {
        match key.name(body).as_ref() {
            b"type" => kind = cursor.text()?,
            b"text" => text = cursor.text()?,
            b"cache_control" => {
                marked = cursor.peek() == b'{';
                cursor.skip()?;
            }
            b"source" => media = source(cursor)?,
            b"content" if !within => inner = self::content(cursor, true)?,
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    content.blocks += 1;
    content.marks += u64::from(marked) + inner.marks;
    content.media.add(media);
    content.media.add(inner.media);
    content.tool_results |= kind.is_some_and(|kind| kind.is(body, b"tool_result"));
    content.first_text = content.first_text.or(text.map(|text| text.place));
    Ok(())
}

/// `{"type":"base64","media_type":"image/png","data":"…"}`
fn source(cursor: &mut Cursor<'_>) -> Scan<Media> {
    let body = cursor.body();
    let (mut kind, mut media_type, mut data): (Option<Text>, Option<Text>, Option<Text>) = (None, None, None);
    cursor.fields(|cursor, key| {
        let slot = match key.name(body).as_ref() {
            b"type" => &mut kind,
            b"media_type" => &mut media_type,
            b"data" => &mut data,
            _ => return cursor.skip(),
        };
        *slot = cursor.text()?;
        Ok(())
    })?;
    let (Some(kind), Some(media_type), Some(data)) = (kind, media_type, data) else { return Ok(Media::default()) };
    let bytes = data.place.bytes();
    if !kind.is(body, b"base64") {
        return Ok(Media::default());
    }
    let media_type = media_type.name(body);
    Ok(if media_type.starts_with(b"image/") {
        Media { images: 1, document_bytes: 0, bytes }
    } else if media_type.as_ref() == b"application/pdf" {
        Media { images: 0, document_bytes: bytes, bytes }
    } else {
        Media::default()
    })
}
