//! Damaged rule files: whatever they contain, reading them ends, and says something.

use paramedic_rules::{check, test_text};
use proptest::prelude::*;

const GOOD: &str = r#"groups:
- name: g
  interval: 1m
  limit: 5
  labels: &l {team: a}
  rules:
  - record: a:b
    expr: sum by (x) (rate(y[5m])) / 2
    labels: {<<: *l, b: c}
  - alert: A
    expr: a:b > 0.5 and on (x) up{job=~"a|b"}
    for: 1h30m
    annotations:
      summary: '{{ range query "up" }}{{ .Labels.x | toUpper }}{{ end }} {{ $value | humanize }}'
      other: |
        {{ if gt $value 5.0 }}much{{ else }}{{ printf "%.1f" $value }}{{ end }}
"#;

const TEST: &str = r#"rule_files: []
evaluation_interval: 1m
tests:
- interval: 1m
  input_series:
  - {series: 'x{a="b"}', values: '1+1x5 _ stale {{schema:0 count:1 buckets:[1]}}'}
  promql_expr_test:
  - {expr: sum(x), eval_time: 3m, exp_samples: [{labels: '{}', value: 4}]}
"#;

/// Words that mean something somewhere in a rule file.
const WORDS: &[&str] = &[
    "{{",
    "}}",
    "{",
    "}",
    "[",
    "]",
    ": ",
    "\n  ",
    "- ",
    "&a ",
    "*a",
    "<<: *l",
    "!!str ",
    "'",
    "\"",
    "|",
    "~",
    "\u{0}",
    "é",
    "{{ end }}",
    "{{ define \"x\" }}",
    "99999999999999999999",
    "5m",
    "---\n",
    "for: ",
    "groups:",
    "\t",
    "#",
    "%",
];

/// Cuts, repeats and puts words into a text.
fn damage(text: &str, steps: &[(u8, usize, usize)]) -> String {
    let mut text = text.to_owned();
    for (kind, at, other) in steps {
        let place = |at: usize, text: &str| text.floor_char_boundary(at % (text.len() + 1));
        let (from, to) = (place(*at, &text), place(*other, &text));
        let (from, to) = (from.min(to), from.max(to).min(from.min(to) + 200));
        let to = text.floor_char_boundary(to).max(from);
        match kind % 4 {
            0 => text.replace_range(from..to, ""),
            1 => text.insert_str(from, WORDS[other % WORDS.len()]),
            2 => {
                let part = text[from..to].to_owned();
                text.insert_str(to, &part);
            }
            _ => text.truncate(text.ceil_char_boundary(to.max(1))),
        }
        text.truncate(text.floor_char_boundary(20_000));
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_rule_files_are_read_to_an_end(steps in prop::collection::vec((any::<u8>(), any::<usize>(), any::<usize>()), 1..12)) {
        let text = damage(GOOD, &steps);
        let checked = check(&text, "f");
        prop_assert_eq!(checked.file.is_none(), checked.errors().count() > 0, "{}", text);
    }

    #[test]
    fn damaged_test_files_are_run_to_an_end(steps in prop::collection::vec((any::<u8>(), any::<usize>(), any::<usize>()), 1..6)) {
        let text = damage(TEST, &steps);
        let _ = test_text(&text, "t", std::path::Path::new("/nonexistent")).to_string();
    }
}

#[test]
fn files_that_repeat_themselves_stay_small() {
    let mut text = "a: &a0 {x: y}\n".to_owned();
    for i in 1..40 {
        text.push_str(&format!("b{i}: &a{i} {{<<: [*a{}, *a{}], k{i}: v}}\n", i - 1, i - 1));
    }
    text.push_str("groups:\n- {name: g, labels: *a39, rules: [{alert: A, expr: up, labels: *a39}]}\n");
    let begun = std::time::Instant::now();
    assert!(check(&text, "f").errors().count() > 0);
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}
