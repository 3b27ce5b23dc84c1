//! Histories made shorter, so that what is left is still a conversation that the API takes.
//!
//! What is kept begins with a message of the user that answers no tool, and is the end of the conversation. Where one prompt
//! led to a long loop of tools there is no such place; then the prompt is kept, and the loop's earlier steps are left out.
//! No use of a tool loses its result, and no result its use. Instructions in between go with the message that they follow.
//!
//! The cut does not move with every turn: it goes on in steps of a quarter of the limit, since each move makes the provider
//! forget what it had in its cache.
//!
//! Thinking that is kept would be refused by models that bind it to the conversation before it, so it is taken out of what is
//! kept; models that think in the older way need it while a loop of tools goes on, and keep it then.

use std::borrow::Cow;
use std::collections::HashMap;

use super::edit::Edits;
use super::messages::{BlockKind, MessagePlace, Messages, Role, blocks, messages, without};
use super::place::Place;
use super::{Facts, Ratio, digest};

/// The cut moves in steps of this part of a limit.
const STEP_PART: u64 = 4;
/// What stands for a message in which nothing but thinking was.
const THOUGHT: &str = r#"{"type":"text","text":"(thinking left out)"}"#;

/// How long a history may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub messages_max: Option<u64>,
    /// Of the messages alone, tools and system prompt not counted.
    pub tokens_max: Option<u64>,
    /// What is left out leaves a short list in front of what is kept.
    pub digest: bool,
}

/// A history that can be made shorter.
#[derive(Debug, Clone, PartialEq)]
pub struct Shortened {
    pub edits: Edits,
    pub left_out_messages: u64,
    pub left_out_tokens: u64,
    /// What is kept is within all limits; else it is as short as a valid conversation can be.
    pub within_limits: bool,
    /// The prompt was kept, and steps of a loop behind it were left out.
    pub within_loop: bool,
}

/// Why nothing can be left out of a history that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stuck {
    /// The messages could not be read.
    Unread,
    /// There is no place at which it can be cut: it is one message, or one use of tools after another without an end.
    NoPlace,
    /// The provider has summed it up already, and stands for what it summed up.
    Compacted,
    /// The body would become too large.
    TooLarge,
}

impl Stuck {
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Self::Unread => "its messages could not be read",
            Self::NoPlace => "there is no place at which it can be cut",
            Self::Compacted => "the provider summed it up",
            Self::TooLarge => "the body would become too large",
        }
    }
}

/// What limits do to a history.
#[derive(Debug, Clone, PartialEq)]
pub enum Shortening {
    /// It is short enough.
    Fits,
    Stuck(Stuck),
    Shortened(Shortened),
}

/// Leaves out the older messages of a history that is too long.
#[must_use]
pub fn shorten_history(body: &[u8], facts: &Facts, limits: Limits, ratio: Ratio) -> Shortening {
    if !facts.valid || facts.message_count() == 0 || (limits.messages_max.is_none() && limits.tokens_max.is_none()) {
        return Shortening::Fits;
    }
    // Before the messages are walked over: most histories are short enough.
    let tokens = |facts: &Facts| facts.messages.map_or(0, |section| ratio.likely(super::Size::of(section.place, section.media)));
    let few = limits.messages_max.is_none_or(|max| facts.message_count() <= max);
    if few && limits.tokens_max.is_none_or(|max| tokens(facts) <= max) {
        return Shortening::Fits;
    }
    let Some(messages) = messages(facts, body) else { return Shortening::Stuck(Stuck::Unread) };
    if messages.compacted {
        return Shortening::Stuck(Stuck::Compacted);
    }
    let history = History::new(body, facts, &messages, ratio);
    let Some((cut, within_limits)) = history.choose(limits) else { return Shortening::Stuck(Stuck::NoPlace) };
    let Some(edits) = history.edits(cut, limits.digest).and_then(|edits| edits.fitting(body)) else {
        return Shortening::Stuck(Stuck::TooLarge);
    };
    Shortening::Shortened(Shortened {
        edits,
        left_out_messages: history.messages_left(cut),
        left_out_tokens: history.tokens_left(cut),
        within_limits,
        within_loop: cut.group < cut.resume,
    })
}

/// What is kept: the messages from `head` to `group`, and those from `resume` on. A plain cut has all three at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    head: usize,
    group: usize,
    resume: usize,
}

impl Cut {
    fn keeps(&self, index: usize) -> bool {
        (self.head..self.group).contains(&index) || index >= self.resume
    }
}

struct History<'b> {
    body: &'b [u8],
    messages: &'b Messages,
    /// Thinking of what is kept is taken out.
    strips: bool,
    /// Tokens of all messages before each, and of all at the end.
    before: Vec<u64>,
    /// A cut before this message would part a tool's use from its result.
    parts: Vec<bool>,
}

impl<'b> History<'b> {
    fn new(body: &'b [u8], facts: &Facts, messages: &'b Messages, ratio: Ratio) -> Self {
        let mut before = Vec::with_capacity(messages.list.len() + 1);
        let mut sum = 0;
        for message in &messages.list {
            before.push(sum);
            sum += ratio.likely(message.size);
        }
        before.push(sum);
        let strips = !(facts.thinking_enabled && facts.last_is_tool_result);
        Self { body, messages, strips, before, parts: parted(body, messages) }
    }

    fn list(&self) -> &[MessagePlace] {
        &self.messages.list
    }

    /// The user says something here that is no tool's result.
    fn starts(&self, index: usize) -> bool {
        self.list().get(index).is_some_and(|message| message.role == Role::User && !message.tool_result && message.content.is_some())
    }

    fn messages_left(&self, cut: Cut) -> u64 {
        (cut.head + (cut.resume - cut.group)) as u64
    }

    fn tokens_left(&self, cut: Cut) -> u64 {
        self.before[cut.head] + (self.before[cut.resume] - self.before[cut.group])
    }

    /// All cuts that leave a valid conversation, and do leave something out.
    fn cuts(&self) -> Vec<Cut> {
        let list = self.list();
        let Some(last_user) = list.iter().rposition(|message| message.role == Role::User) else { return Vec::new() };
        let last_start = (0..=last_user).rev().find(|index| self.starts(*index));
        let mut cuts = Vec::new();
        let mut head = None;
        for at in 0..=last_user {
            if self.starts(at) && !self.parts[at] {
                head = Some(at);
                if at > 0 {
                    cuts.push(Cut { head: at, group: at, resume: at });
                }
                continue;
            }
            let Some(head) = head.filter(|_| list[at].role == Role::Assistant && !self.parts[at]) else { continue };
            let group = head + 1 + list[head + 1..at].iter().take_while(|message| message.role == Role::System).count();
            let unthinking = !self.strips && Some(head) == last_start && list[group].thinking && !list[at].thinks_first;
            if group < at && !unthinking {
                cuts.push(Cut { head, group, resume: at });
            }
        }
        cuts
    }

    /// The cut that leaves out least and is within the limits; else the one that leaves out most.
    fn choose(&self, limits: Limits) -> Option<(Cut, bool)> {
        let cuts = self.cuts();
        let over = |all: u64, max: Option<u64>| max.map_or(0, |max| all.saturating_sub(max));
        let step = |over: u64, max: Option<u64>| over.next_multiple_of(max.map_or(1, |max| (max / STEP_PART).max(1)));
        let least = |messages: u64, tokens: u64| {
            let enough = cuts.iter().filter(|cut| self.messages_left(**cut) >= messages && self.tokens_left(**cut) >= tokens);
            enough.min_by_key(|cut| (self.messages_left(**cut), cut.resume)).copied()
        };
        let messages = over(self.list().len() as u64, limits.messages_max);
        let tokens = over(self.before.last().copied().unwrap_or(0), limits.tokens_max);
        let within = least(step(messages, limits.messages_max), step(tokens, limits.tokens_max)).or_else(|| least(messages, tokens));
        let most = || cuts.iter().max_by_key(|cut| (self.tokens_left(**cut), self.messages_left(**cut))).copied();
        within.map(|cut| (cut, true)).or_else(|| most().map(|cut| (cut, false)))
    }

    fn edits(&self, cut: Cut, with_digest: bool) -> Option<Edits> {
        let mut edits = Edits::default();
        let items: Vec<Place> = self.list().iter().map(|message| message.place).collect();
        for gone in without(&items, |index| !cut.keeps(index)) {
            edits.replace(gone, "").then_some(())?;
        }
        if with_digest {
            let block = digest::block(self.body, self.messages, |index| !cut.keeps(index));
            put_in_front(&mut edits, self.body, self.list().get(cut.head)?.content?, &block)?;
        }
        for (index, message) in self.list().iter().enumerate() {
            if self.strips && message.thinking && cut.keeps(index) {
                strip(&mut edits, self.body, message.content?)?;
            }
        }
        Some(edits)
    }
}

/// Before which messages no cut can be: those behind the use of a tool, up to the one with its result.
fn parted(body: &[u8], messages: &Messages) -> Vec<bool> {
    let mut open = vec![0_i64; messages.list.len() + 1];
    let mut uses: HashMap<Cow<'_, str>, usize> = HashMap::with_capacity(messages.uses.len());
    let mut next_use = messages.uses.iter().peekable();
    for result in &messages.results {
        while let Some(used) = next_use.next_if(|used| used.message < result.message) {
            uses.insert(used.id.text(body), used.message);
        }
        if let Some(used) = uses.get(&result.id.text(body)) {
            open[used + 1] += 1;
            open[result.message + 1] -= 1;
        }
    }
    let mut depth = 0;
    open.iter()
        .map(|change| {
            depth += change;
            depth > 0
        })
        .collect()
}

/// A block in front of a message's content. A string becomes an array.
fn put_in_front(edits: &mut Edits, body: &[u8], content: Place, block: &str) -> Option<()> {
    let done = match body.get(content.start())? {
        // The API refuses empty texts.
        b'"' if content.bytes() <= 2 => edits.replace(content, format!("[{block}]")),
        b'"' => edits.insert(content.start(), format!("[{block},{{\"type\":\"text\",\"text\":")) && edits.insert(content.end(), "}]"),
        b'[' => {
            let comma = if blocks(body, content).ok()?.is_empty() { "" } else { "," };
            edits.insert(content.start() + 1, format!("{block}{comma}"))
        }
        _ => true,
    };
    done.then_some(())
}

fn strip(edits: &mut Edits, body: &[u8], content: Place) -> Option<()> {
    let blocks = blocks(body, content).ok()?;
    let items: Vec<Place> = blocks.iter().map(|block| block.place).collect();
    let thinks = |index: usize| blocks.get(index).is_some_and(|block| block.kind == BlockKind::Thinking);
    let instead = if (0..blocks.len()).all(thinks) { THOUGHT } else { "" };
    let done = without(&items, thinks).into_iter().all(|gone| edits.replace(gone, instead));
    done.then_some(())
}
