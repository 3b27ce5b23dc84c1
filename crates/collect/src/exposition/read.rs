//! Line by line through a body.

use std::ops::ControlFlow;

use super::cursor::{Cursor, Word, help, millis, number, seconds};
use super::{About, Counts, Format, Kind, Sample, Series, Visitor};

type Done<T = ()> = Result<T, &'static str>;

pub(super) struct Reader<'a> {
    cursor: Cursor<'a>,
    format: Format,
    /// Where the line begins that is being read.
    started: usize,
    /// Labels of the line; the list is used again and again.
    labels: Vec<(Word<'a>, Word<'a>)>,
    pub(super) counts: Counts,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, format: Format) -> Self {
        Self { cursor: Cursor { text, at: 0 }, format, started: 0, labels: Vec::new(), counts: Counts::default() }
    }

    pub(super) const fn line_start(&self) -> usize {
        self.started
    }

    pub(super) fn read(&mut self, visitor: &mut impl Visitor<'a>) -> Done {
        while self.cursor.at < self.cursor.text.len() {
            self.started = self.cursor.at;
            let goes_on = match self.format {
                Format::Text => self.text_line(visitor)?,
                Format::OpenMetrics if self.cursor.peek() == Some(b'#') => self.open_metrics_comment(visitor)?,
                Format::OpenMetrics => self.sample(visitor)?,
            };
            if goes_on.is_break() {
                return Ok(());
            }
        }
        self.started = self.cursor.at;
        if self.format == Format::OpenMetrics { Err("the body does not end with # EOF") } else { Ok(()) }
    }

    fn text_line(&mut self, visitor: &mut impl Visitor<'a>) -> Done<ControlFlow<()>> {
        self.cursor.skip_blanks();
        match self.cursor.peek() {
            None => {}
            Some(b'\n') => self.cursor.at += 1,
            Some(b'\r') => self.end_of_line()?,
            Some(b'#') => self.text_comment(visitor)?,
            Some(_) => return self.sample(visitor),
        }
        Ok(ControlFlow::Continue(()))
    }

    /// `# HELP` and `# TYPE`; all else behind a `#` is a comment.
    fn text_comment(&mut self, visitor: &mut impl Visitor<'a>) -> Done {
        self.cursor.at += 1;
        let is_spaced = matches!(self.cursor.peek(), Some(b' ' | b'\t'));
        self.cursor.skip_blanks();
        let word = self.cursor.token();
        if !is_spaced || !matches!(word, "HELP" | "TYPE") || !matches!(self.cursor.peek(), Some(b' ' | b'\t')) {
            self.cursor.rest_of_line();
            return Ok(());
        }
        self.cursor.skip_blanks();
        let metric = self.metric_name()?;
        if !matches!(self.cursor.peek(), None | Some(b' ' | b'\t' | b'\r' | b'\n')) {
            return Err("a metric's name holds a character that names may not hold");
        }
        self.cursor.skip_blanks();
        let rest = self.cursor.rest_of_line();
        if word == "HELP" {
            visitor.about(&metric, About::Help(help(rest.trim_end_matches('\r'))));
            return Ok(());
        }
        let kind = match rest.trim_end() {
            "counter" => Kind::Counter,
            "gauge" => Kind::Gauge,
            "histogram" => Kind::Histogram,
            "summary" => Kind::Summary,
            "untyped" => Kind::Unknown,
            _ => return Err("the type is none of counter, gauge, histogram, summary and untyped"),
        };
        visitor.about(&metric, About::Kind(kind));
        Ok(())
    }

    /// `# HELP`, `# TYPE`, `# UNIT` and `# EOF`: OpenMetrics has no other comments, and wants exactly one blank.
    fn open_metrics_comment(&mut self, visitor: &mut impl Visitor<'a>) -> Done<ControlFlow<()>> {
        if self.cursor.take_word("# EOF") {
            return match &self.cursor.text[self.cursor.at..] {
                "" | "\n" => Ok(ControlFlow::Break(())),
                _ => Err("something stands behind # EOF"),
            };
        }
        let word = ["# HELP ", "# TYPE ", "# UNIT "].into_iter().find(|word| self.cursor.take_word(word));
        let word = word.ok_or("a line begins with # and is none of HELP, TYPE, UNIT and EOF")?;
        let metric = self.metric_name()?;
        if !self.cursor.take(b' ') {
            return Err("a metric's name is not followed by one blank");
        }
        let rest = self.cursor.rest_of_line();
        match word {
            "# HELP " => visitor.about(&metric, About::Help(help(rest))),
            "# UNIT " if !rest.is_empty() && !is_suffix(&metric.text(), rest) => {
                return Err("the unit is not the end of the metric's name");
            }
            "# UNIT " => visitor.about(&metric, About::Unit(rest)),
            _ => visitor.about(&metric, About::Kind(open_metrics_kind(rest)?)),
        }
        Ok(ControlFlow::Continue(()))
    }

    fn metric_name(&mut self) -> Done<Word<'a>> {
        let name = if self.cursor.take(b'"') { self.cursor.quoted(false)? } else { Word::plain(self.cursor.name(true)) };
        if name.is_empty() { Err("a metric's name is missing") } else { Ok(name) }
    }

    fn sample(&mut self, visitor: &mut impl Visitor<'a>) -> Done<ControlFlow<()>> {
        let start = self.cursor.at;
        let mut name = Word::plain(self.cursor.name(true));
        if self.format == Format::Text {
            let end = self.cursor.at;
            self.cursor.skip_blanks();
            if self.cursor.peek() != Some(b'{') {
                self.cursor.at = end;
            }
        }
        self.labels.clear();
        if self.cursor.take(b'{') {
            self.read_labels(&mut name, true)?;
        }
        if name.is_empty() {
            return Err("a metric's name is missing");
        }
        let text = &self.cursor.text[start..self.cursor.at];
        self.blank_before_value()?;
        let value = number(self.cursor.token())?;
        let mut time = None;
        if self.format == Format::Text {
            self.cursor.skip_blanks();
            if !matches!(self.cursor.peek(), None | Some(b'\n' | b'\r')) {
                time = Some(millis(self.cursor.token())?);
            }
        } else if self.cursor.peek() == Some(b' ') {
            self.cursor.at += 1;
            if self.cursor.peek() != Some(b'#') {
                time = Some(seconds(self.cursor.token())?);
                self.cursor.take(b' ');
            }
        }
        let labels = self.labels.len();
        if self.format == Format::OpenMetrics && self.cursor.peek() == Some(b'#') {
            if !["_total", "_bucket"].iter().any(|ending| name.text().ends_with(ending)) {
                return Err("only _total and _bucket may have an exemplar");
            }
            self.exemplar()?;
        }
        self.end_of_line()?;
        self.counts.samples += 1;
        Ok(visitor.sample(&Sample { series: Series { text, name, labels: &self.labels[..labels] }, value, time }))
    }

    fn blank_before_value(&mut self) -> Done {
        match (self.format, self.cursor.peek()) {
            (Format::Text, Some(b' ' | b'\t')) => self.cursor.skip_blanks(),
            // After a closing brace the text format wants no blank.
            (Format::Text, Some(_)) if self.cursor.text.as_bytes()[..self.cursor.at].ends_with(b"}") => {}
            (Format::OpenMetrics, Some(b' ')) => self.cursor.at += 1,
            (_, None | Some(b'\n')) => return Err("the value is missing"),
            _ => return Err("a metric's name holds a character that names may not hold"),
        }
        Ok(())
    }

    /// Everything between the braces; the opening one is taken. A quoted word without a value is the metric's name. The
    /// text format takes blanks anywhere and does without commas; OpenMetrics has exactly one comma between labels.
    fn read_labels(&mut self, name: &mut Word<'a>, named: bool) -> Done {
        let in_text = self.format == Format::Text;
        let mut is_first = true;
        loop {
            self.skip_blanks_in_text();
            if (in_text || is_first) && self.cursor.take(b'}') {
                return Ok(());
            }
            is_first = false;
            let is_quoted = self.cursor.take(b'"');
            let label = if is_quoted { self.cursor.quoted(false)? } else { Word::plain(self.cursor.name(false)) };
            if label.is_empty() {
                return Err("a label's name is missing");
            }
            self.skip_blanks_in_text();
            if self.cursor.take(b'=') {
                self.skip_blanks_in_text();
                if !self.cursor.take(b'"') {
                    return Err("a label's value is not quoted");
                }
                let value = self.cursor.quoted(in_text)?;
                self.labels.push((label, value));
            } else if is_quoted && named && name.is_empty() {
                *name = label;
            } else if is_quoted && named {
                return Err("the metric's name is told twice");
            } else {
                return Err("a label has no value");
            }
            self.skip_blanks_in_text();
            if !self.cursor.take(b',') {
                match self.cursor.peek() {
                    Some(b'}') if !in_text => {
                        self.cursor.at += 1;
                        return Ok(());
                    }
                    Some(_) if in_text => {}
                    _ => return Err("labels are not separated by a comma"),
                }
            }
        }
    }

    fn skip_blanks_in_text(&mut self) {
        if self.format == Format::Text {
            self.cursor.skip_blanks();
        }
    }

    /// `# {labels} value [time]`: read, so that what is no exemplar is an error, and counted.
    fn exemplar(&mut self) -> Done {
        if !self.cursor.take_word("# {") {
            return Err("an exemplar does not begin with # {");
        }
        // They are read behind the sample's own labels, which are still needed.
        self.read_labels(&mut Word::default(), false)?;
        if !self.cursor.take(b' ') {
            return Err("an exemplar has no value");
        }
        number(self.cursor.token())?;
        if self.cursor.take(b' ') {
            seconds(self.cursor.token())?;
        }
        self.counts.exemplars += 1;
        Ok(())
    }

    fn end_of_line(&mut self) -> Done {
        if self.format == Format::Text {
            self.cursor.skip_blanks();
            self.cursor.take(b'\r');
        }
        match self.cursor.peek() {
            Some(b'\n') => self.cursor.at += 1,
            None if self.format == Format::Text => {}
            None => return Err("the last line is not ended"),
            Some(_) => return Err("something stands behind the sample"),
        }
        Ok(())
    }
}

/// A unit is the last part of a metric's name.
fn is_suffix(metric: &str, unit: &str) -> bool {
    metric.strip_suffix(unit).is_some_and(|before| before.ends_with('_'))
}

fn open_metrics_kind(word: &str) -> Done<Kind> {
    Ok(match word {
        "counter" => Kind::Counter,
        "gauge" => Kind::Gauge,
        "histogram" => Kind::Histogram,
        "gaugehistogram" => Kind::GaugeHistogram,
        "summary" => Kind::Summary,
        "info" => Kind::Info,
        "stateset" => Kind::StateSet,
        "unknown" => Kind::Unknown,
        _ => return Err("the type is not one of OpenMetrics"),
    })
}
