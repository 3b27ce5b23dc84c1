//! Where the messages of a conversation are, for those who change it. Who only observes does without: it is a second walk.

use super::place::{Place, Text};
use super::scan::{Cursor, Malformed, Scan};
use super::{Facts, Media, Size};

/// The API takes no longer conversations. In one that is longer nothing is changed.
const MESSAGES_MAX: usize = 100_000;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    User,
    Assistant,
    /// An instruction in the middle of a conversation. It follows a user's message, and an assistant's follows it.
    System,
    #[default]
    Other,
}

/// One message.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MessagePlace {
    pub place: Place,
    pub role: Role,
    /// The whole value of `content`, brackets or quotes included.
    pub content: Option<Place>,
    pub size: Size,
    /// What kinds of blocks are in it.
    pub tool_use: bool,
    pub tool_result: bool,
    pub thinking: bool,
    /// Its first block is one of thinking.
    pub thinks_first: bool,
}

/// A tool that was used, or its result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ToolPlace {
    /// Which message.
    pub message: usize,
    /// The content of its id.
    pub id: Place,
    /// The content of its name; of a result it is empty.
    pub name: Place,
}

/// All messages, in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Messages {
    pub list: Vec<MessagePlace>,
    pub uses: Vec<ToolPlace>,
    pub results: Vec<ToolPlace>,
    /// There is a block in which the provider summed up what was before.
    pub compacted: bool,
}

/// Walks over the messages. None when there are none that could be read, or far too many.
#[must_use]
pub fn messages(facts: &Facts, body: &[u8]) -> Option<Messages> {
    let section = facts.messages.filter(|section| facts.valid && section.items > 0 && section.items <= MESSAGES_MAX as u64)?;
    let mut messages = Messages { list: Vec::with_capacity(usize::try_from(section.items).ok()?), ..Messages::default() };
    let mut cursor = Cursor::at(body, section.place).ok()?;
    // Images are rare, and to find them the blocks within blocks are walked over once more.
    let with_media = section.media.bytes > 0;
    cursor.items(|cursor| message(cursor, &mut messages, with_media)).ok()?;
    Some(messages)
}

fn message(cursor: &mut Cursor<'_>, messages: &mut Messages, with_media: bool) -> Scan<()> {
    let body = cursor.body();
    let mut message = MessagePlace::default();
    let mut blocks = Vec::new();
    message.place = cursor.placed(|cursor| {
        cursor.fields(|cursor, key| {
            match key.name(body).as_ref() {
                b"role" => message.role = cursor.text()?.map_or(Role::Other, |role| named(&role, body)),
                b"content" => {
                    let content = cursor.placed(|cursor| {
                        blocks = blocks_here(cursor)?;
                        Ok(())
                    })?;
                    message.content = Some(content);
                }
                _ => cursor.skip()?,
            }
            Ok(())
        })
    })?;
    let media = match message.content.filter(|_| with_media) {
        Some(content) => super::content(&mut Cursor::at(body, content)?, false)?.media,
        None => Media::default(),
    };
    message.size = Size::of(message.place, media);
    for (at, block) in blocks.iter().enumerate() {
        let index = messages.list.len();
        match block.kind {
            BlockKind::ToolUse => {
                message.tool_use = true;
                messages.uses.push(ToolPlace { message: index, id: block.id, name: block.text });
            }
            BlockKind::ToolResult => {
                message.tool_result = true;
                messages.results.push(ToolPlace { message: index, id: block.id, name: Place::default() });
            }
            BlockKind::Thinking => {
                message.thinking = true;
                message.thinks_first |= at == 0;
            }
            BlockKind::Compaction => messages.compacted = true,
            BlockKind::Text | BlockKind::Other => {}
        }
    }
    messages.list.push(message);
    Ok(())
}

fn named(role: &Text, body: &[u8]) -> Role {
    match role.name(body).as_ref() {
        b"user" => Role::User,
        b"assistant" => Role::Assistant,
        b"system" => Role::System,
        _ => Role::Other,
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum BlockKind {
    Text,
    ToolUse,
    ToolResult,
    Thinking,
    Compaction,
    #[default]
    Other,
}

/// One block of a message's content.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct BlockPlace {
    pub(super) place: Place,
    pub(super) kind: BlockKind,
    /// The content of a text, the name of a tool that is used; else empty.
    pub(super) text: Place,
    /// The id of the use of a tool that is in it.
    pub(super) id: Place,
    /// It has a `cache_control`, whatever it says.
    pub(super) marked: bool,
    /// An object with nothing in it.
    pub(super) bare: bool,
    /// A tool that is only loaded when it is looked for.
    pub(super) deferred: bool,
    /// A kind that may be marked for a cache.
    pub(super) markable: bool,
}

/// The blocks of an array; none when it is something else.
pub(super) fn blocks(body: &[u8], content: Place) -> Scan<Vec<BlockPlace>> {
    blocks_here(&mut Cursor::at(body, content)?)
}

fn blocks_here(cursor: &mut Cursor<'_>) -> Scan<Vec<BlockPlace>> {
    let mut blocks = Vec::new();
    if cursor.peek() == b'[' {
        cursor.items(|cursor| {
            blocks.push(block(cursor)?);
            Ok(())
        })?;
    } else {
        cursor.skip()?;
    }
    Ok(blocks)
}

fn block(cursor: &mut Cursor<'_>) -> Scan<BlockPlace> {
    let body = cursor.body();
    let mut block = BlockPlace { bare: true, ..BlockPlace::default() };
    let (mut kind, mut text, mut name, mut id, mut use_id): (Option<Text>, _, _, _, _) = (None, None, None, None, None);
    block.place = cursor.placed(|cursor| {
        if cursor.peek() != b'{' {
            return Err(Malformed);
        }
        cursor.fields(|cursor, key| {
            block.bare = false;
            let slot = match key.name(body).as_ref() {
                b"type" => &mut kind,
                b"text" => &mut text,
                b"name" => &mut name,
                b"id" => &mut id,
                b"tool_use_id" => &mut use_id,
                b"cache_control" => {
                    block.marked = true;
                    return cursor.skip();
                }
                b"defer_loading" => {
                    block.deferred = cursor.peek() == b't';
                    return cursor.skip();
                }
                _ => return cursor.skip(),
            };
            *slot = cursor.text()?;
            Ok(())
        })
    })?;
    let place = |text: Option<Text>| text.map(|text| text.place).unwrap_or_default();
    let kind = kind.map(|kind| kind.name(body)).unwrap_or_default();
    (block.kind, block.text, block.id) = match kind.as_ref() {
        b"text" => (BlockKind::Text, place(text), Place::default()),
        b"tool_use" => (BlockKind::ToolUse, place(name), place(id)),
        b"tool_result" => (BlockKind::ToolResult, Place::default(), place(use_id)),
        b"thinking" | b"redacted_thinking" => (BlockKind::Thinking, Place::default(), Place::default()),
        b"compaction" => (BlockKind::Compaction, Place::default(), Place::default()),
        _ => (BlockKind::Other, Place::default(), Place::default()),
    };
    block.markable = match kind.as_ref() {
        // The API refuses a mark on a text that is empty.
        b"text" => !block.text.is_empty(),
        b"image" | b"document" | b"tool_result" | b"tool_use" | b"search_result" => true,
        _ => false,
    };
    Ok(block)
}

/// What must go so that an array stays one without those of its items that are `left` out.
pub(super) fn without(items: &[Place], left: impl Fn(usize) -> bool) -> Vec<Place> {
    let mut gone = Vec::new();
    let mut at = 0;
    while at < items.len() {
        if !left(at) {
            at += 1;
            continue;
        }
        let start = at;
        while at < items.len() && left(at) {
            at += 1;
        }
        // With the comma behind them, or, at the end, with that before them.
        gone.push(match (items.get(at), start.checked_sub(1)) {
            (Some(next), _) => Place::new(items[start].start(), next.start()),
            (None, Some(before)) => Place::new(items[before].end(), items[at - 1].end()),
            (None, None) => Place::new(items[start].start(), items[at - 1].end()),
        });
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    #[test]
    fn messages_are_found_with_their_tools() {
        let body = r#" {"messages" : [ {"role":"user","content":"hi"} , {"content":[{"type":"thinking","thinking":"x"},{"type":"text","text":"[]"},
            {"type":"tool_use","id":"t1","name":"Bash","input":{"type":"tool_result","role":"system"}}],"role":"assistant"},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":"a"}]}]},
            {"role":"system","content":"be brief"}, {"role":"robot"} ] } "#
            .as_bytes();
        let messages = messages(&read(body), body).unwrap();
        let text = |place: Place| place.text(body).into_owned();
        let roles: Vec<_> = messages.list.iter().map(|message| message.role).collect();
        assert_eq!(roles, [Role::User, Role::Assistant, Role::User, Role::System, Role::Other]);
        assert_eq!(
            messages.uses.iter().map(|tool| (tool.message, text(tool.id), text(tool.name))).collect::<Vec<_>>(),
            [(1, "t1".into(), "Bash".into())]
        );
        assert_eq!(messages.results.iter().map(|tool| (tool.message, text(tool.id))).collect::<Vec<_>>(), [(2, "t1".into())]);
        assert!(messages.list[1].thinking && messages.list[1].thinks_first && messages.list[1].tool_use && !messages.list[1].tool_result);
        assert_eq!(messages.list[0].place.raw(body), br#"{"role":"user","content":"hi"}"#);
        assert_eq!(messages.list[0].content.unwrap().raw(body), b"\"hi\"");
        assert_eq!(messages.list[4].content, None);
    }

    #[test]
    fn items_are_taken_out_with_one_comma() {
        let body = b"[1 , 2,3 ,4 ]";
        let items: Vec<_> = [(1, 2), (5, 6), (7, 8), (10, 11)].map(|(start, end)| Place::new(start, end)).into();
        let cases: [(&[usize], &str); 9] = [
            (&[], "[1 , 2,3 ,4 ]"),
            (&[0], "[2,3 ,4 ]"),
            (&[1], "[1 , 3 ,4 ]"),
            (&[3], "[1 , 2,3 ]"),
            (&[2, 3], "[1 , 2 ]"),
            (&[0, 1, 2], "[4 ]"),
            (&[0, 2], "[2,4 ]"),
            (&[0, 3], "[2,3 ]"),
            (&[0, 1, 2, 3], "[ ]"),
        ];
        for (left, expect) in cases {
            let mut edited = body.to_vec();
            for place in without(&items, |index| left.contains(&index)).iter().rev() {
                edited.drain(place.range());
            }
            assert_eq!(String::from_utf8(edited).unwrap(), expect, "{left:?}");
        }
    }
}
