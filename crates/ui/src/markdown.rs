//! A runbook's Markdown as a page: its own words, with what each of its steps would do beside it.
//!
//! Everything of the file is text. HTML in it is shown, not used; links lead to the web or inside the page, nowhere else.

use std::collections::BTreeMap;

use maud::{Markup, html};
use paramedic_model::{secret, text};
use paramedic_runbook::classify::Effect;
use paramedic_runbook::{Runbook, Step};
use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use crate::format::short;
use crate::steps::effect;

/// Bytes of HTML that one document may become.
const BYTES_MAX: usize = 40_000;
const LINE_BYTES_MAX: usize = 8_000;

/// The part of the document that one runbook stands in: from its heading to the next runbook's.
pub(crate) struct Excerpt<'a> {
    pub(crate) text: &'a str,
    pub(crate) runbook: &'a Runbook,
    /// The line where the next runbook of the same file begins.
    pub(crate) until: Option<usize>,
}

/// The rendered text, and whether all of it is there.
pub(crate) fn render(excerpt: &Excerpt<'_>) -> (Markup, bool) {
    let lines = Lines::of(excerpt.text);
    let from = if excerpt.until.is_none() && excerpt.runbook.line <= 1 { 1 } else { excerpt.runbook.line };
    let mut writer = Writer {
        out: String::new(),
        runbook: excerpt.runbook,
        code: None,
        links: Vec::new(),
        table_head: false,
        heading: false,
        attributes: false,
    };
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_TASKLISTS | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    // Elements that were begun before the excerpt do not count; headings and blocks begin and end inside it.
    for (event, range) in Parser::new_ext(excerpt.text, options).into_offset_iter() {
        let (first, last) = (lines.at(range.start), lines.at(range.end.saturating_sub(1)));
        if first < from {
            continue;
        }
        if excerpt.until.is_some_and(|until| first >= until) {
            break;
        }
        if writer.out.len() > BYTES_MAX
            && matches!(event, Event::Start(Tag::Heading { .. } | Tag::CodeBlock(_) | Tag::Paragraph | Tag::List(_)))
        {
            writer.close();
            return (maud::PreEscaped(writer.out), false);
        }
        writer.take(&event, first, last);
    }
    writer.close();
    (maud::PreEscaped(writer.out), true)
}

/// Which line a byte stands on.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    fn at(&self, byte: usize) -> usize {
        self.0.partition_point(|start| *start <= byte)
    }
}

struct Writer<'a> {
    out: String,
    runbook: &'a Runbook,
    /// A block's first line and its text so far.
    code: Option<(usize, String, String)>,
    links: Vec<bool>,
    table_head: bool,
    /// In a heading, before its attributes.
    heading: bool,
    attributes: bool,
}

impl Writer<'_> {
    fn text(&mut self, words: &str) {
        let words = secret::mask(text::head(words, LINE_BYTES_MAX)).into_owned();
        let plain: String = words.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
        self.out.push_str(&html! { (plain) }.into_string());
    }

    fn take(&mut self, event: &Event<'_>, first: usize, last: usize) {
        match event {
            Event::Start(tag) => self.start(tag, first),
            Event::End(tag) => self.end(*tag, last),
            Event::Text(words) => match &mut self.code {
                Some((_, _, code)) => code.push_str(words),
                None => match words.find('{').filter(|_| self.heading) {
                    // What is between braces is for the program.
                    Some(at) => {
                        self.text(&words[..at]);
                        self.out.push_str("<span class=\"attributes\">");
                        self.text(&words[at..]);
                        self.heading = false;
                        self.attributes = true;
                    }
                    None => self.text(words),
                },
            },
            Event::Code(words) => {
                self.out.push_str("<code>");
                self.text(words);
                self.out.push_str("</code>");
            }
            Event::Html(words) | Event::InlineHtml(words) => self.text(words),
            Event::SoftBreak => self.out.push(' '),
            Event::HardBreak => self.out.push_str("<br>"),
            Event::Rule => self.out.push_str("<hr>"),
            Event::TaskListMarker(ticked) => {
                self.out.push_str(if *ticked { "<span class=\"box\">☑</span> " } else { "<span class=\"box\">☐</span> " })
            }
            _ => {}
        }
    }

    fn start(&mut self, tag: &Tag<'_>, first: usize) {
        match tag {
            Tag::Heading { level, .. } => {
                self.heading = true;
                self.out.push_str(&format!("<{} id=\"l{first}\">", heading(*level)));
            }
            Tag::Paragraph => self.out.push_str("<p class=\"wrap\">"),
            Tag::List(Some(_)) => self.out.push_str("<ol>"),
            Tag::List(None) => self.out.push_str("<ul>"),
            Tag::Item => self.out.push_str("<li class=\"wrap\">"),
            Tag::BlockQuote(_) => self.out.push_str("<blockquote>"),
            Tag::Emphasis => self.out.push_str("<em>"),
            Tag::Strong => self.out.push_str("<b>"),
            Tag::Strikethrough => self.out.push_str("<s>"),
            Tag::Table(_) => self.out.push_str("<div class=\"scroll\"><table>"),
            Tag::TableHead => {
                self.table_head = true;
                self.out.push_str("<tr>");
            }
            Tag::TableRow => self.out.push_str("<tr>"),
            Tag::TableCell => self.out.push_str(if self.table_head { "<th>" } else { "<td>" }),
            Tag::Link { dest_url, .. } => self.link(dest_url),
            Tag::Image { dest_url, .. } => {
                self.out.push_str("picture ");
                self.text(dest_url);
                self.out.push(' ');
            }
            Tag::CodeBlock(kind) => {
                let info = match kind {
                    CodeBlockKind::Fenced(info) => info.to_string(),
                    CodeBlockKind::Indented => String::new(),
                };
                self.code = Some((first, info, String::new()));
            }
            Tag::MetadataBlock(_) => self.code = Some((first, "---".to_owned(), String::new())),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd, last: usize) {
        let close = match tag {
            TagEnd::Heading(level) => {
                self.heading = false;
                format!("{}</{}>", if std::mem::take(&mut self.attributes) { "</span>" } else { "" }, heading(level))
            }
            TagEnd::Paragraph => "</p>".to_owned(),
            TagEnd::List(true) => "</ol>".to_owned(),
            TagEnd::List(false) => "</ul>".to_owned(),
            TagEnd::Item => "</li>".to_owned(),
            TagEnd::BlockQuote(_) => "</blockquote>".to_owned(),
            TagEnd::Emphasis => "</em>".to_owned(),
            TagEnd::Strong => "</b>".to_owned(),
            TagEnd::Strikethrough => "</s>".to_owned(),
            TagEnd::Table => "</table></div>".to_owned(),
            TagEnd::TableHead | TagEnd::TableRow => {
                self.table_head = false;
                "</tr>".to_owned()
            }
            TagEnd::TableCell => {
                if self.table_head {
                    "</th>".to_owned()
                } else {
                    "</td>".to_owned()
                }
            }
            TagEnd::Link => {
                if self.links.pop() == Some(true) {
                    "</a>".to_owned()
                } else {
                    String::new()
                }
            }
            TagEnd::CodeBlock | TagEnd::MetadataBlock(_) => {
                self.block(last);
                return;
            }
            _ => String::new(),
        };
        self.out.push_str(&close);
    }

    fn link(&mut self, target: &str) {
        let web = target.starts_with("https://") || target.starts_with("http://");
        if web {
            let target = secret::mask(target).into_owned();
            let opened = html! { a href=(target) rel="noopener noreferrer" {} }.into_string();
            self.out.push_str(opened.trim_end_matches("</a>"));
        }
        self.links.push(web);
    }

    /// A block: what runs in it stands above it, its text below.
    fn block(&mut self, last: usize) {
        let Some((first, info, code)) = self.code.take() else { return };
        if info == "---" {
            return;
        }
        let steps: Vec<&Step> = self.runbook.steps.iter().filter(|step| (first..=last).contains(&step.line)).collect();
        let shown = secret::mask(text::capped(&code, LINE_BYTES_MAX).trim_end()).into_owned();
        let shown: String = shown.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
        let told = html! {
            @if !steps.is_empty() { div class="runs" { @for step in steps.iter().take(20) { (would(step)) } } }
            pre { (shown) }
        };
        self.out.push_str(&told.into_string());
    }

    fn close(&mut self) {
        // Whatever is open ends with the page's own elements; a browser closes the rest.
        if self.code.is_some() {
            self.block(usize::MAX);
        }
    }
}

const fn heading(level: HeadingLevel) -> &'static str {
    match level {
        HeadingLevel::H1 | HeadingLevel::H2 => "h2",
        HeadingLevel::H3 => "h3",
        _ => "h4",
    }
}

/// What a step would do, and why we say so.
fn would(step: &Step) -> Markup {
    let worst = step.commands.iter().max_by_key(|command| command.verdict.effect).map(|command| &command.verdict);
    let by_section =
        step.section == paramedic_runbook::SectionKind::Resolution || step.attributes.get("mode").is_some_and(|mode| mode == "write");
    let found = worst.map(|verdict| verdict.effect).unwrap_or_default();
    let all = if by_section { found.max(Effect::Write) } else { found };
    let attributes: BTreeMap<&String, &String> =
        step.attributes.iter().filter(|(name, _)| !matches!(name.as_str(), "name" | "mode")).collect();
    let never = worst.and_then(|verdict| verdict.never_ends.as_ref().or(verdict.interactive.as_ref()));
    html! {
        p class="small wrap" {
            (effect(all)) " " b { (short(&step.name, 60)) } " " span class="faint" { (format!("{:?}", step.executor).to_lowercase()) }
            @if let Some(why) = worst.map(|verdict| verdict.why.as_str()).filter(|why| !why.is_empty()) { span class="soft" { " · " (crate::steps::coded(&short(why, 200))) } }
            @if let Some(why) = never { span class="warned" { " · " (short(why, 160)) } }
            @for (name, value) in attributes.iter().take(10) { " " span class="faint" { (short(name, 30)) "=" (short(value, 80)) } }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> String {
        let document = paramedic_runbook::parse(text, "x.md");
        let runbook = &document.runbooks[0];
        render(&Excerpt { text, runbook, until: None }).0.into_string()
    }

    #[test]
    fn a_file_is_text_whatever_it_holds() {
        let text = "# A <script>alert(1)</script>\n\n## Investigation\n\n<img src=x onerror=alert(1)> [a](javascript:alert(1)) [b](https://example.org/x?\"y) [c](#here)\n\n```sh\nls '<b>'\n```\n";
        let page = rendered(text);
        for never in ["<script", "<img", "href=\"javascript", "<b>'", "onerror=alert(1)>\""] {
            assert!(!page.contains(never), "{never}: {page}");
        }
        assert!(page.contains("&lt;img src=x") && page.contains("ls '&lt;b&gt;'"), "{page}");
        assert!(page.contains("href=\"https://example.org/x?&quot;y\""), "{page}");
    }

    #[test]
    fn each_step_says_what_it_would_do() {
        let page = rendered(
            "# A\n\n## Investigation\nLook.\n```sh {name=list}\nls -l\n```\n\n## Resolution\n```sh {name=wipe}\nrm -rf /srv/x\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
        );
        assert!(page.contains("looks</span> <b>list"), "{page}");
        assert!(page.contains("destroys</span> <b>wipe") || page.contains("changes</span> <b>wipe"), "{page}");
        assert!(page.contains("<th>a</td>") || page.contains("<th>a</th>"), "{page}");
    }

    #[test]
    fn a_secret_in_a_file_is_not_shown() {
        let page = rendered("# A\n\n## Investigation\n```sh\npsql postgres://app:hunter2secret@db/app\n```\n");
        assert!(!page.contains("hunter2secret"), "{page}");
    }
}
