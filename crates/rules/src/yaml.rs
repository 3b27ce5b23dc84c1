//! YAML as a tree of nodes that know their line.
//!
//! Rule files are read strictly, and every complaint names a line, so the tree is built from the parser's events instead of
//! being deserialised. Anchors are shared, not copied: a file cannot make itself larger than it is.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, Span};

/// How deep nodes may be nested.
const DEPTH_MAX: usize = 64;
/// The largest file that is read.
pub(crate) const BYTES_MAX: usize = 16 * 1024 * 1024;

/// A value and the place it begins at, both counted from 1.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) content: Content,
}

#[derive(Debug)]
pub(crate) enum Content {
    Null,
    Scalar(Scalar),
    Sequence(Vec<Arc<Node>>),
    Mapping(Vec<(Arc<Node>, Arc<Node>)>),
}

#[derive(Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Written without quotes, so that it may be a number.
    pub(crate) plain: bool,
}

impl Node {
    /// What it is, for complaints.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.content {
            Content::Null => "nothing",
            Content::Scalar(_) => "a scalar",
            Content::Sequence(_) => "a list",
            Content::Mapping(_) => "a mapping",
        }
    }
}

/// What is wrong with the text as YAML.
#[derive(Debug)]
pub(crate) struct Malformed {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) message: String,
}

/// The documents of a text in order, up to the first one that cannot be read.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) documents: Vec<Option<Arc<Node>>>,
    pub(crate) malformed: Option<Malformed>,
}

/// Reads all documents.
pub(crate) fn read(text: &str) -> Stream {
    let mut stream = Stream::default();
    if text.len() > BYTES_MAX {
        let message = format!("the file is larger than {BYTES_MAX} bytes");
        stream.malformed = Some(Malformed { line: 1, column: 1, message });
        return stream;
    }
    let mut builder = Builder::default();
    for next in Parser::new_from_str(text) {
        let added = match next {
            Ok((event, span)) => builder.take(event, &span, &mut stream.documents),
            Err(err) => {
                let mark = err.marker();
                Err(Malformed { line: mark.line().max(1), column: mark.col() + 1, message: err.info() })
            }
        };
        if let Err(malformed) = added {
            stream.malformed = Some(malformed);
            break;
        }
    }
    stream
}

/// A collection that is not closed yet.
struct Open {
    line: usize,
    column: usize,
    anchor: usize,
    is_mapping: bool,
    /// Keys and values alternate in a mapping.
    items: Vec<Arc<Node>>,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Arc<Node>>,
    anchors: HashMap<usize, Arc<Node>>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: &Span, documents: &mut Vec<Option<Arc<Node>>>) -> Result<(), Malformed> {
        let (line, column) = (span.start.line().max(1), span.start.col() + 1);
        match event {
            Event::DocumentStart(..) => {
                self.root = None;
                self.anchors.clear();
            }
            Event::DocumentEnd => documents.push(self.root.take()),
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).map(Arc::clone) else {
                    return Err(Malformed { line, column, message: "the anchor's value contains itself".to_owned() });
                };
                self.add(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let forced = tag.as_ref().is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                let plain = style == ScalarStyle::Plain && !forced;
                let content =
                    if plain && is_null(&text) { Content::Null } else { Content::Scalar(Scalar { text: text.into_owned(), plain }) };
                self.finish(anchor, Node { line, column, content });
            }
            Event::SequenceStart(_, anchor, _) => self.begin(line, column, anchor, false)?,
            Event::MappingStart(_, anchor, _) => self.begin(line, column, anchor, true)?,
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, line: usize, column: usize, anchor: usize, is_mapping: bool) -> Result<(), Malformed> {
        if self.open.len() >= DEPTH_MAX {
            return Err(Malformed { line, column, message: format!("nested deeper than {DEPTH_MAX}") });
        }
        self.open.push(Open { line, column, anchor, is_mapping, items: Vec::new() });
        Ok(())
    }

    fn close(&mut self) {
        let Some(Open { line, column, anchor, is_mapping, items }) = self.open.pop() else { return };
        let content = if is_mapping {
            let mut items = items.into_iter();
            let mut pairs = Vec::new();
            while let (Some(key), Some(value)) = (items.next(), items.next()) {
                pairs.push((key, value));
            }
            Content::Mapping(pairs)
        } else {
            Content::Sequence(items)
        };
        self.finish(anchor, Node { line, column, content });
    }

    fn finish(&mut self, anchor: usize, node: Node) {
        let node = Arc::new(node);
        if anchor > 0 {
            self.anchors.insert(anchor, Arc::clone(&node));
        }
        self.add(node);
    }

    fn add(&mut self, node: Arc<Node>) {
        match self.open.last_mut() {
            Some(open) => open.items.push(node),
            None => self.root = Some(node),
        }
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(node: &Node) -> String {
        match &node.content {
            Content::Null => "null".to_owned(),
            Content::Scalar(scalar) if scalar.plain => scalar.text.clone(),
            Content::Scalar(scalar) => format!("{:?}", scalar.text),
            Content::Sequence(items) => format!("[{}]", items.iter().map(|item| show(item)).collect::<Vec<_>>().join(",")),
            Content::Mapping(pairs) => {
                let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{}:{}", show(key), show(value))).collect();
                format!("{{{}}}", pairs.join(","))
            }
        }
    }

    #[test]
    fn documents_become_trees() {
        for (text, shown) in [
            ("a: 1\nb: '2'\n", "{a:1,b:\"2\"}"),
            ("a: &x [1, ~]\nb: *x\n", "{a:[1,null],b:[1,null]}"),
            ("a: |\n  two\n  lines\n", "{a:\"two\\nlines\\n\"}"),
            ("a: !!str 5\nb:\n", "{a:\"5\",b:null}"),
        ] {
            let stream = read(text);
            assert!(stream.malformed.is_none(), "{text}: {:?}", stream.malformed);
            assert_eq!(show(stream.documents[0].as_ref().unwrap()), shown, "{text}");
        }
        assert_eq!(read("a: 1\n---\nb: 2\n").documents.len(), 2);
    }

    #[test]
    fn places_are_counted_from_one() {
        let stream = read("a: 1\nbcd:\n  - x: y\n");
        let Content::Mapping(pairs) = &stream.documents[0].as_ref().unwrap().content else { panic!("a mapping") };
        let Content::Sequence(items) = &pairs[1].1.content else { panic!("a list") };
        assert_eq!((items[0].line, items[0].column), (3, 5));
    }

    #[test]
    fn what_is_malformed_is_named() {
        for text in ["a: [1", "a: *nobody", "a: &x [*x]", "a: b: c", "\"", "a:\n\t- b"] {
            let stream = read(text);
            assert!(stream.malformed.is_some(), "{text}: {stream:?}");
        }
        assert!(read(&"[".repeat(100_000)).malformed.is_some());
    }
}
