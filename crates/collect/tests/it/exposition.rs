//! The text formats: what they allow, what they do not, and that nothing breaks the reader.

use std::fmt::Write as _;
use std::ops::ControlFlow;

use paramedic_collect::exposition::{self, About, Counts, Format, Sample, Visitor, Word};
use proptest::prelude::*;

/// Writes down what it is given.
#[derive(Default)]
struct Lines(Vec<String>);

impl<'a> Visitor<'a> for Lines {
    fn sample(&mut self, sample: &Sample<'_, 'a>) -> ControlFlow<()> {
        let mut line = sample.series.name.text().into_owned();
        for (name, value) in sample.series.labels {
            write!(line, " {}={}", name.text(), value.text()).unwrap();
        }
        write!(line, " {}", sample.value).unwrap();
        if let Some(time) = sample.time {
            write!(line, " @{time}").unwrap();
        }
        self.0.push(line);
        ControlFlow::Continue(())
    }

    fn about(&mut self, metric: &Word<'a>, about: About<'a>) {
        self.0.push(match about {
            About::Kind(kind) => format!("type {} {}", metric.text(), kind.name()),
            About::Help(help) => format!("help {} {help}", metric.text()),
            About::Unit(unit) => format!("unit {} {unit}", metric.text()),
        });
    }
}

fn check(format: Format, body: &str, expect: &[&str]) {
    let mut lines = Lines::default();
    match exposition::parse(body.as_bytes(), format, &mut lines) {
        Ok(_) => assert_eq!(lines.0, expect, "{body}"),
        Err(error) => panic!("{body:?}: {error}"),
    }
}

fn check_error(format: Format, body: &str, expect: &str) {
    let error = exposition::parse(body.as_bytes(), format, &mut Lines::default()).expect_err(body);
    assert_eq!(error.to_string(), format!("read {expect}"), "{body:?}");
}

#[test]
fn the_text_format_is_read() {
    for (body, expect) in [
        ("", &[][..]),
        ("\n\n  \n", &[]),
        ("a 1", &["a 1"]),
        ("a 1\n", &["a 1"]),
        ("a 1\r\n\r\nb 2\r\n", &["a 1", "b 2"]),
        ("  a\t 1  12345  \n", &["a 1 @12345"]),
        ("a 1 -1\n", &["a 1 @-1"]),
        ("a:b:c{} 2\n", &["a:b:c 2"]),
        ("a {x=\"1\"} 2\n", &["a x=1 2"]),
        ("a{x=\"1\"}2\n", &["a x=1 2"]),
        ("a{x=\"1\" y=\"2\"z=\"3\"} 3\n", &["a x=1 y=2 z=3 3"]),
        ("a{ x = \"1\" , y=\"\", } 2.5e3\n", &["a x=1 y= 2500"]),
        ("a{x=\"q\\\"b\\\\n\\nl\\t\"} 2\n", &["a x=q\"b\\n\nl\\t 2"]),
        ("a{x=\"two\nlines\"} 2\n", &["a x=two\nlines 2"]),
        ("a{x=\"}{,=# é\"} 2\n", &["a x=}{,=# é 2"]),
        ("a NaN\nb +Inf\nc -Inf\nd .5\ne 5.\n", &["a NaN", "b inf", "c -inf", "d 0.5", "e 5"]),
        ("a 123456789012345678\n", &["a 123456789012345680"]),
        ("{\"my.metric\"} 1\n", &["my.metric 1"]),
        ("{\"my.metric\",x=\"1\",\"a b\"=\"2\"} 1\n", &["my.metric x=1 a b=2 1"]),
        ("{x=\"1\",\"my.metric\"} 1\n", &["my.metric x=1 1"]),
        ("# a comment\n#HELP x\n# HELPER x y\n# TYPE\n", &[]),
        ("# HELP a It says \\\\ and \\n.\n# TYPE a counter\na 1\n", &["help a It says \\ and \n.", "type a counter", "a 1"]),
        ("# HELP a\n#\tTYPE\ta\tuntyped\n", &["help a ", "type a unknown"]),
        ("# HELP \"my.metric\" text\n# TYPE \"my.metric\" gauge\n", &["help my.metric text", "type my.metric gauge"]),
        ("h_bucket{le=\"+Inf\"} 3\nh_sum 1\nh_count 3\n", &["h_bucket le=+Inf 3", "h_sum 1", "h_count 3"]),
    ] {
        check(Format::Text, body, expect);
    }
}

#[test]
fn the_text_format_refuses_with_the_line() {
    for (body, expect) in [
        ("a\n", "line 1: the value is missing"),
        ("\n\na b\n", "line 3: the value is not a number"),
        ("a 0x1p3\n", "line 1: the value is not a number"),
        ("a 1_000\n", "line 1: the value is not a number"),
        ("a 1 1.5\n", "line 1: the time is not a whole number of milliseconds"),
        ("a 1 2 3\n", "line 1: something stands behind the sample"),
        ("a 1 # {x=\"1\"} 1\n", "line 1: the time is not a whole number of milliseconds"),
        ("a{x=1} 1\n", "line 1: a label's value is not quoted"),
        ("a{x} 1\n", "line 1: a label has no value"),
        ("a{1x=\"1\"} 1\n", "line 1: a label's name is missing"),
        ("a{x=\"1\",,y=\"2\"} 1\n", "line 1: a label's name is missing"),
        ("b 1\na{x=\"1} 1\n", "line 2: a quoted text is not closed"),
        ("a{x=\"1\"", "line 1: labels are not separated by a comma"),
        ("a{", "line 1: a label's name is missing"),
        ("a{x=\"1\"}", "line 1: the value is missing"),
        ("{x=\"1\"} 1\n", "line 1: a metric's name is missing"),
        ("{} 1\n", "line 1: a metric's name is missing"),
        ("a{\"b\"} 1\n", "line 1: the metric's name is told twice"),
        ("a-b 1\n", "line 1: a metric's name holds a character that names may not hold"),
        ("-b 1\n", "line 1: a metric's name is missing"),
        ("1a 1\n", "line 1: a metric's name is missing"),
        ("# TYPE a thing\n", "line 1: the type is none of counter, gauge, histogram, summary and untyped"),
        ("# TYPE a-b gauge\n", "line 1: a metric's name holds a character that names may not hold"),
        ("<html>\n", "line 1: a metric's name is missing"),
    ] {
        check_error(Format::Text, body, expect);
    }
    let error = exposition::parse(b"a 1\nb{x=\"\xff\"} 1\n", Format::Text, &mut Lines::default()).unwrap_err();
    assert_eq!(error.to_string(), "read line 2: this is not UTF-8");
}

#[test]
fn open_metrics_is_read() {
    for (body, expect) in [
        ("# EOF", &[][..]),
        ("# EOF\n", &[]),
        ("# TYPE a counter\n# UNIT a_s s\n# HELP a \\\"x\\\"\n# EOF\n", &["type a counter", "unit a_s s", "help a \"x\""]),
        ("a_total 1\na_created 1520430000.123\n# EOF\n", &["a_total 1", "a_created 1520430000.123"]),
        ("a 1 1520879607.789\n# EOF\n", &["a 1 @1520879607789"]),
        ("a 1 -1.5\n# EOF\n", &["a 1 @-1500"]),
        ("a_bucket{le=\"1\"} 3 # {trace_id=\"x\"} 0.5\n# EOF\n", &["a_bucket le=1 3"]),
        ("a_total 3 12 # {} 0.5 1520879607.789\n# EOF\n", &["a_total 3 @12000"]),
        ("{\"my.metric\",x=\"1\"} 1\n# EOF\n", &["my.metric x=1 1"]),
        (
            "# TYPE s stateset\n# TYPE i info\n# TYPE g gaugehistogram\n# EOF\n",
            &["type s stateset", "type i info", "type g gaugehistogram"],
        ),
    ] {
        check(Format::OpenMetrics, body, expect);
    }
    let body = b"a_total 1 # {x=\"1\"} 1\na_bucket 2 # {} 1\n# EOF\n";
    let counts = exposition::parse(body, Format::OpenMetrics, &mut Lines::default()).unwrap();
    assert_eq!(counts, Counts { samples: 2, exemplars: 2 });
}

#[test]
fn open_metrics_refuses_with_the_line() {
    for (body, expect) in [
        ("", "line 1: the body does not end with # EOF"),
        ("a 1\n", "line 2: the body does not end with # EOF"),
        ("a 1", "line 1: the last line is not ended"),
        ("\n# EOF\n", "line 1: a metric's name is missing"),
        ("# EOF\na 1\n", "line 1: something stands behind # EOF"),
        ("# EOF \n", "line 1: something stands behind # EOF"),
        ("# a comment\n# EOF\n", "line 1: a line begins with # and is none of HELP, TYPE, UNIT and EOF"),
        ("#HELP a b\n# EOF\n", "line 1: a line begins with # and is none of HELP, TYPE, UNIT and EOF"),
        ("a  1\n# EOF\n", "line 1: the value is not a number"),
        ("a 1 \n# EOF\n", "line 1: the time is not a number of seconds"),
        ("a 1 NaN\n# EOF\n", "line 1: the time is not a time"),
        ("a 1 1 2\n# EOF\n", "line 1: something stands behind the sample"),
        ("a_total 1 # x\n# EOF\n", "line 1: an exemplar does not begin with # {"),
        ("a 1 # {x=\"1\"} 1\n# EOF\n", "line 1: only _total and _bucket may have an exemplar"),
        ("a_total 1 # {x=\"1\"}\n# EOF\n", "line 1: an exemplar has no value"),
        ("a{x=\"1\" } 1\n# EOF\n", "line 1: labels are not separated by a comma"),
        ("a{x=\"1\",} 1\n# EOF\n", "line 1: a label's name is missing"),
        ("a{ x=\"1\"} 1\n# EOF\n", "line 1: a label's name is missing"),
        ("# HELP a\n# EOF\n", "line 1: a metric's name is not followed by one blank"),
        ("a{x=\"1\" y=\"2\"} 1\n# EOF\n", "line 1: labels are not separated by a comma"),
        ("a{x=\"two\nlines\"} 1\n# EOF\n", "line 1: a quoted text is not closed on its line"),
        ("# UNIT a seconds\n# EOF\n", "line 1: the unit is not the end of the metric's name"),
        ("# TYPE a untyped\n# EOF\n", "line 1: the type is not one of OpenMetrics"),
    ] {
        check_error(Format::OpenMetrics, body, expect);
    }
}

#[test]
fn content_types_name_formats() {
    for (named, expect) in [
        ("", Some(Format::Text)),
        ("text/plain; version=0.0.4; charset=utf-8", Some(Format::Text)),
        ("text/plain;version=1.0.0;escaping=allow-utf-8", Some(Format::Text)),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", Some(Format::OpenMetrics)),
        ("Application/OpenMetrics-Text", Some(Format::OpenMetrics)),
        ("text/html", None),
        ("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily", None),
    ] {
        assert_eq!(Format::of_content_type(named).ok(), expect, "{named}");
    }
}

const SEED: &str = "# HELP a It \\n\n# TYPE a histogram\na_bucket{le=\"0.5\",x=\"é\\\"\"} 1 1520879607789\n{\"u.t\",y=\"z\"} NaN\n\
# UNIT b_s s\nb_s{} +Inf 1.5 # {t=\"1\"} 2 3\n# EOF\n";

/// Checks what must hold whatever the bytes are.
fn check_any(bytes: &[u8]) {
    for format in [Format::Text, Format::OpenMetrics] {
        let mut lines = Lines::default();
        let lines_in = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
        match exposition::parse(bytes, format, &mut lines) {
            Ok(counts) => assert!(counts.samples <= lines_in as u64),
            Err(error) => assert!((1..=lines_in).contains(&error.line), "{error}"),
        }
        assert!(lines.0.len() <= lines_in);
    }
}

proptest! {
    #[test]
    fn changed_bytes_break_nothing(changes in proptest::collection::vec((0..SEED.len(), any::<u8>(), 0..4u8), 0..12)) {
        let mut bytes = SEED.as_bytes().to_vec();
        for (at, byte, how) in changes {
            let at = at % bytes.len().max(1);
            match how {
                0 if !bytes.is_empty() => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 if !bytes.is_empty() => { bytes.remove(at); }
                _ => bytes.truncate(at.max(1)),
            }
        }
        check_any(&bytes);
    }

    #[test]
    fn mixed_pieces_break_nothing(pieces in proptest::collection::vec(0..24usize, 0..40)) {
        const PIECES: &[&str] = &["a", "{", "}", "\"", "=", ",", " ", "\n", "\\", "#", "# HELP ", "# TYPE ", "# UNIT ", "# EOF", "1", ".5",
            "NaN", "x", "\t", "é", "\r", "counter", "# {", "-"];
        let text: String = pieces.into_iter().map(|piece| PIECES[piece]).collect();
        check_any(text.as_bytes());
    }

    /// What is written as a label is read back.
    #[test]
    fn values_survive(value in "\\PC{0,20}[\\n\"\\\\]{0,3}\\PC{0,5}", number in any::<f64>(), time in any::<i64>()) {
        let escaped = value.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"");
        let body = format!("m{{x=\"{escaped}\"}} {number:?} {time}\n");
        let mut lines = Lines::default();
        exposition::parse(body.as_bytes(), Format::Text, &mut lines).unwrap();
        prop_assert_eq!(lines.0, vec![format!("m x={value} {number} @{time}")]);
    }
}

/// Not a benchmark, but far from what would be too slow.
#[test]
fn a_long_body_is_read_in_time() {
    let mut body = String::new();
    for i in 0..200_000 {
        writeln!(body, "http_requests_total{{method=\"GET\",handler=\"/api/v1/query\",code=\"{}\"}} {}", i % 600, i * 7).unwrap();
    }
    let mut count = Count(0.0);
    let began = std::time::Instant::now();
    let counts = exposition::parse(body.as_bytes(), Format::Text, &mut count).unwrap();
    let seconds = began.elapsed().as_secs_f64();
    println!("{:.2} M lines/s, {:.0} MB/s", 0.2 / seconds, body.len() as f64 / 1e6 / seconds);
    assert_eq!(counts.samples, 200_000);
    assert!(count.0 > 0.0 && seconds < 10.0);
}

struct Count(f64);

impl<'a> Visitor<'a> for Count {
    fn sample(&mut self, sample: &Sample<'_, 'a>) -> ControlFlow<()> {
        self.0 += sample.value;
        ControlFlow::Continue(())
    }
}
