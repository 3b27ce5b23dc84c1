//! Markdown as an outline: headings, and what stands under each.

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use crate::attributes::Attributes;
use crate::document::Link;

/// One thing under a heading, with the line it begins on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Block {
    Prose {
        line: usize,
        text: String,
    },
    /// One item of a list. `codes` are its code spans.
    Item {
        line: usize,
        text: String,
        ticked: Option<bool>,
        codes: Vec<String>,
    },
    Fence {
        line: usize,
        language: String,
        attributes: Attributes,
        text: String,
    },
    /// One row of a table, header rows left out.
    Row {
        line: usize,
        cells: Vec<String>,
    },
}

/// A heading and all that belongs to it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Node {
    pub title: String,
    pub line: usize,
    pub attributes: Attributes,
    pub blocks: Vec<Block>,
    pub children: Vec<Node>,
    pub level: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Outline {
    pub root: Node,
    /// The front matter's text, where there is one, and the line it begins on.
    pub front: Option<String>,
    pub links: Vec<Link>,
}

pub(crate) fn read(markdown: &str) -> Outline {
    let options = Options::ENABLE_TABLES | Options::ENABLE_TASKLISTS | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    let mut builder = Builder::new(markdown);
    for (event, range) in Parser::new_ext(markdown, options).into_offset_iter() {
        builder.take(event, range.start);
    }
    builder.finish()
}

/// A bold line that ends in a colon stands for a heading below every real one.
pub(crate) const PSEUDO_LEVEL: u32 = 7;

struct Builder {
    /// Where each line begins.
    lines: Vec<usize>,
    outline: Outline,
    /// Open headings, the root first.
    stack: Vec<Node>,
    text: String,
    begins: usize,
    codes: Vec<String>,
    ticked: Option<bool>,
    strong: bool,
    /// All of the paragraph's text so far was strong.
    only_strong: bool,
    inside: Vec<Inside>,
    heading: u32,
    fence: Option<(usize, String, Attributes)>,
    cells: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Heading,
    Item,
    Fence,
    Row,
    Metadata,
    Head,
}

impl Builder {
    fn new(markdown: &str) -> Self {
        let lines = std::iter::once(0).chain(markdown.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self {
            lines,
            outline: Outline::default(),
            stack: vec![Node::default()],
            text: String::new(),
            begins: 1,
            codes: Vec::new(),
            ticked: None,
            strong: false,
            only_strong: true,
            inside: Vec::new(),
            heading: 1,
            fence: None,
            cells: Vec::new(),
        }
    }

    fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|begin| *begin <= offset)
    }

    fn is_inside(&self, what: Inside) -> bool {
        self.inside.contains(&what)
    }

    fn take(&mut self, event: Event<'_>, offset: usize) {
        match event {
            Event::Start(tag) => self.start(tag, offset),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => self.push(&text),
            Event::Code(code) => {
                self.only_strong &= self.strong;
                self.codes.push(code.to_string());
                self.push(&code);
            }
            Event::SoftBreak | Event::HardBreak => self.push(" "),
            Event::TaskListMarker(ticked) => self.ticked = Some(ticked),
            _ => {}
        }
    }

    fn push(&mut self, text: &str) {
        if !self.strong && !text.trim().trim_matches(':').is_empty() {
            self.only_strong = false;
        }
        self.text.push_str(text);
    }

    fn begin(&mut self, offset: usize) {
        self.text.clear();
        self.begins = self.line(offset);
        self.only_strong = true;
    }

    fn start(&mut self, tag: Tag<'_>, offset: usize) {
        match tag {
            Tag::Heading { level, .. } => {
                self.begin(offset);
                self.heading = number(level);
                self.inside.push(Inside::Heading);
            }
            Tag::Paragraph if !self.is_inside(Inside::Item) => self.begin(offset),
            Tag::Item => {
                // A list inside an item: what was read of the outer one is said first.
                self.flush_item();
                self.begin(offset);
                self.codes.clear();
                self.ticked = None;
                self.inside.push(Inside::Item);
            }
            Tag::CodeBlock(kind) => {
                self.flush_item();
                self.begin(offset);
                let info = match kind {
                    CodeBlockKind::Fenced(info) => info.to_string(),
                    CodeBlockKind::Indented => String::new(),
                };
                let (language, rest) = info.split_once(|letter: char| letter.is_whitespace() || letter == '{').map_or_else(
                    || (info.clone(), String::new()),
                    |(language, _)| (language.to_owned(), info[language.len()..].to_owned()),
                );
                self.fence = Some((self.begins, language, Attributes::parse(&rest)));
                self.inside.push(Inside::Fence);
            }
            Tag::TableHead => self.inside.push(Inside::Head),
            Tag::TableRow => {
                self.begin(offset);
                self.cells.clear();
                self.inside.push(Inside::Row);
            }
            Tag::TableCell => self.text.clear(),
            Tag::Strong => self.strong = true,
            Tag::Link { dest_url, .. } => {
                let link = Link { line: self.line(offset), target: dest_url.to_string() };
                self.outline.links.push(link);
            }
            Tag::MetadataBlock(_) => {
                self.begin(offset);
                self.inside.push(Inside::Metadata);
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(_) => {
                self.leave(Inside::Heading);
                self.open_node(self.heading);
            }
            TagEnd::Paragraph if !self.is_inside(Inside::Item) => self.paragraph(),
            TagEnd::Item => {
                self.flush_item();
                self.leave(Inside::Item);
            }
            TagEnd::CodeBlock => {
                self.leave(Inside::Fence);
                if let Some((line, language, attributes)) = self.fence.take() {
                    let text = std::mem::take(&mut self.text);
                    self.add(Block::Fence { line, language, attributes, text });
                }
            }
            TagEnd::TableHead => {
                self.leave(Inside::Head);
                self.cells.clear();
            }
            TagEnd::TableCell => self.cells.push(std::mem::take(&mut self.text).trim().to_owned()),
            TagEnd::TableRow => {
                self.leave(Inside::Row);
                let block = Block::Row { line: self.begins, cells: std::mem::take(&mut self.cells) };
                self.add(block);
            }
            TagEnd::Strong => self.strong = false,
            TagEnd::MetadataBlock(_) => {
                self.leave(Inside::Metadata);
                self.outline.front = Some(std::mem::take(&mut self.text));
            }
            _ => {}
        }
    }

    fn leave(&mut self, what: Inside) {
        if let Some(at) = self.inside.iter().rposition(|one| *one == what) {
            self.inside.remove(at);
        }
    }

    fn paragraph(&mut self) {
        let text = std::mem::take(&mut self.text).trim().to_owned();
        if text.is_empty() || self.is_inside(Inside::Metadata) {
            return;
        }
        let short = text.len() <= 60 && self.only_strong;
        if short && text.ends_with(':') {
            self.text = text.trim_end_matches(':').to_owned();
            self.open_node(PSEUDO_LEVEL);
        } else {
            self.add(Block::Prose { line: self.begins, text });
        }
    }

    fn flush_item(&mut self) {
        if !self.is_inside(Inside::Item) || self.is_inside(Inside::Fence) {
            return;
        }
        let text = std::mem::take(&mut self.text).trim().to_owned();
        if !text.is_empty() {
            let block = Block::Item { line: self.begins, text, ticked: self.ticked.take(), codes: std::mem::take(&mut self.codes) };
            self.add(block);
        }
    }

    fn add(&mut self, block: Block) {
        self.codes.clear();
        if let Some(node) = self.stack.last_mut() {
            node.blocks.push(block);
        }
    }

    fn open_node(&mut self, level: u32) {
        let text = std::mem::take(&mut self.text);
        self.close_to(level);
        let (title, attributes) = Attributes::split_heading(text.trim());
        self.stack.push(Node { title: title.to_owned(), line: self.begins, attributes, level, ..Node::default() });
    }

    /// Closes every open heading that a heading of `level` ends.
    fn close_to(&mut self, level: u32) {
        while self.stack.len() > 1 && self.stack.last().is_some_and(|node| node.level >= level) {
            if let Some(done) = self.stack.pop()
                && let Some(parent) = self.stack.last_mut()
            {
                parent.children.push(done);
            }
        }
    }

    fn finish(mut self) -> Outline {
        self.close_to(0);
        self.outline.root = self.stack.pop().unwrap_or_default();
        self.outline
    }
}

fn number(level: HeadingLevel) -> u32 {
    match level {
        HeadingLevel::H1 => 1,
        HeadingLevel::H2 => 2,
        HeadingLevel::H3 => 3,
        HeadingLevel::H4 => 4,
        HeadingLevel::H5 => 5,
        HeadingLevel::H6 => 6,
    }
}
