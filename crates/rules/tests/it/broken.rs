//! Rule files with defects: refused as promtool refuses them, with the place and the reason.

use paramedic_rules::check;

use crate::programs::promtool;

/// What promtool 2.42 says of a file that Prometheus 3 judges otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Theirs {
    /// The same as we.
    Same,
    /// The version installed is of the second generation, and knows or allows less.
    Older,
}
use Theirs::{Older, Same};

struct Case {
    text: &'static str,
    /// What the first error has in it; empty when the file is good.
    error: &'static str,
    theirs: Theirs,
}

const fn case(text: &'static str, error: &'static str) -> Case {
    Case { text, error, theirs: Same }
}

const fn older(text: &'static str, error: &'static str) -> Case {
    Case { text, error, theirs: Older }
}

const CASES: &[Case] = &[
    // Good ones, so that the test cannot pass by refusing everything.
    case("groups:\n- name: g\n  rules:\n  - {alert: A, expr: up, for: 1h30m, keep_firing_for: 5m, labels: {sev: 1, on: true}}\n", ""),
    case("", ""),
    case("# nothing\n", ""),
    case("groups:\n", ""),
    case("groups: []\n", ""),
    case("groups:\n- name: g\n", ""),
    case("groups:\n- name: g\n  interval: 0s\n  limit: -1\n  rules: []\n", ""),
    case("groups:\n- name: g\n  limit: 1.7\n  rules:\n  - {record: a:b, expr: 'up[5m]'}\n", ""),
    case("groups:\n- name: g\n  rules:\n  - {alert: A, expr: 1, annotations: {x: ''}}\n", ""),
    case("groups:\n- name: g\n  rules:\n  - {alert: A, expr: up, for: null, labels: , annotations: ~}\n", ""),
    case(
        "groups:\n- name: g\n  rules:\n  - &r {alert: A, expr: up, labels: &l {a: b}}\n  - {<<: *r, alert: B}\n  - {alert: C, expr: up, labels: {<<: *l, c: d}}\n",
        "",
    ),
    case("groups:\n- name: g\n  rules: []\n---\ngroups: nonsense\n", ""),
    case("groups:\n- name: g\n  rules:\n  - {alert: A, expr: up}\n  - {alert: A, expr: up}\n", ""),
    case(
        "groups:\n- name: g\n  rules:\n  - {alert: A, expr: up, annotations: {x: '{{ with query \"up\" }}{{ . | first | value | humanize }}{{ end }}'}}\n",
        "",
    ),
    case("groups:\n- name: 5\n  rules:\n  - {alert: 7, expr: 8}\n", ""),
    case("groups:\n- name: g\n  rules:\n  - {alert: 'any name', expr: up, labels: {alertname: other}}\n", ""),
    // Defects of the YAML.
    case("groups: [\n", "unclosed bracket"),
    case("groups:\n- name: g\n\trules: []\n", "tab"),
    case("groups: *nobody\n", "anchor"),
    case("groups: &g [*g]\n", "contains itself"),
    case("groups:\n- name: a: b\n", "mapping"),
    // Defects of the file's shape.
    case("group:\n- name: g\n", "unknown key \"group\", perhaps \"groups\""),
    case("[]\n", "expected a mapping, got a list"),
    case("hello\n", "expected a mapping, got a scalar"),
    case("groups: hello\n", "groups must be a list, got a scalar"),
    case("groups: {name: g}\n", "groups must be a list, got a mapping"),
    case("groups:\n- hello\n", "expected a mapping, got a scalar"),
    case("groups:\n- rules: []\n", "name must not be empty"),
    case("groups:\n- name: ''\n", "name must not be empty"),
    case("groups:\n- name: [g]\n", "name: expected a text, got a list"),
    case("groups:\n- name: g\n- name: g\n", "\"g\" is repeated in the same file"),
    case("groups:\n- name: g\n  name: h\n", "mapping key \"name\" already defined at line 2"),
    case("groups:\n- name: g\n  intervall: 5m\n", "unknown key \"intervall\", perhaps \"interval\""),
    case("groups:\n- name: g\n  interval: 5\n", "interval: not a valid duration string: \"5\""),
    case("groups:\n- name: g\n  interval: ''\n", "interval: empty duration string"),
    case("groups:\n- name: g\n  interval: 1m30\n", "not a valid duration string"),
    case("groups:\n- name: g\n  interval: -5m\n", "not a valid duration string"),
    case("groups:\n- name: g\n  interval: 30m1h\n", "not a valid duration string"),
    case("groups:\n- name: g\n  interval: 99999y\n", "not a valid duration string"),
    case("groups:\n- name: g\n  limit: many\n", "limit: expected a whole number"),
    case("groups:\n- name: g\n  limit: '5'\n", "limit: expected a whole number"),
    case("groups:\n- name: g\n  rules: {alert: A, expr: up}\n", "rules must be a list"),
    // Defects of rules.
    case("groups:\n- name: g\n  rules:\n  - hello\n", "expected a mapping"),
    case("groups:\n- name: g\n  rules:\n  - {alert: A, record: b, expr: up}\n", "only one of 'record' and 'alert' must be set"),
    case("groups:\n- name: g\n  rules:\n  - {expr: up}\n", "one of 'record' or 'alert' must be set"),
    case("groups:\n- name: g\n  rules:\n  - {alert: '', expr: up}\n", "one of 'record' or 'alert' must be set"),
    case("groups:\n- name: g\n  rules:\n  - {alert: A}\n", "field 'expr' must be set in rule"),
    case("groups:\n- name: g\n  rules:\n  - {alert: A, expr: ''}\n", "field 'expr' must be set in rule"),
    case("groups:\n- name: g\n  rules:\n  - {alert: A, expr: 'sum(up'}\n", "expr: could not parse expression: 1:"),
    case("groups:\n- name: g\n  rules:\n  - {alert: A, expr: 'up{a=~\"(\"}'}\n", "expr: could not parse expression"),
    case("groups:\n- name: g\n  rules:\n  - {alert: A, expr: 'nothing(up)'}\n", "expr: could not parse expression"),
    case("groups:\n- name: g\n  rules:\n  - {alert: A, expr: up, for: 5}\n", "for: not a valid duration string"),
    case("groups:\n- name: g\n  rules:\n  - {alert: A, expr: up, For: 5m}\n", "unknown key \"For\", perhaps \"for\""),
    case("groups:\n- name: g\n  rules:\n  - {alert: A, expr: up, severity: page}\n", "unknown key \"severity\""),
    case("groups:\n- name: g\n  rules:\n  - {alert: A, expr: up, labels: page}\n", "expected a mapping, got a scalar"),
    case("groups:\n- name: g\n  rules:\n  - {alert: A, expr: up, labels: {a: [b]}}\n", "expected a text, got a list"),
    case("groups:\n- name: g\n  rules:\n  - {alert: A, expr: up, labels: {a: b, a: c}}\n", "already defined"),
    case("groups:\n- name: g\n  rules:\n  - {alert: A, expr: up, labels: {__name__: b}}\n", "invalid label name: __name__"),
    case("groups:\n- name: g\n  rules:\n  - {alert: A, expr: up, labels: {'': b}}\n", "invalid label name"),
    case("groups:\n- name: g\n  rules:\n  - {alert: A, expr: up, annotations: {'': b}}\n", "invalid annotation name"),
    case(
        "groups:\n- name: g\n  rules:\n  - {alert: A, expr: up, annotations: {x: '{{ $labels.a'}}\n",
        "annotations: annotation \"x\": error parsing template __alert_A",
    ),
    case(
        "groups:\n- name: g\n  rules:\n  - {alert: A, expr: up, annotations: {x: '{{ nothing . }}'}}\n",
        "function \"nothing\" not defined",
    ),
    case(
        "groups:\n- name: g\n  rules:\n  - {alert: A, expr: up, annotations: {x: '{{ tmpl \"x\" . }}'}}\n",
        "function \"tmpl\" not defined",
    ),
    case("groups:\n- name: g\n  rules:\n  - {alert: A, expr: up, annotations: {x: '{{ $nobody }}'}}\n", "undefined variable \"$nobody\""),
    case(
        "groups:\n- name: g\n  rules:\n  - {alert: A, expr: up, labels: {x: '{{ end }}'}}\n",
        "labels: label \"x\": error parsing template",
    ),
    case("groups:\n- name: g\n  rules:\n  - {alert: A, expr: up, labels: {x: '{{ if true }}'}}\n", "error parsing template"),
    case("groups:\n- name: g\n  rules:\n  - {record: 'a{b=\"c\"}', expr: up}\n", "record: "),
    case("groups:\n- name: g\n  rules:\n  - {record: a, expr: up, for: 5m}\n", "invalid field 'for' in recording rule"),
    case("groups:\n- name: g\n  rules:\n  - {record: a, expr: up, annotations: {b: c}}\n", "invalid field 'annotations' in recording rule"),
    case(
        "groups:\n- name: g\n  rules:\n  - {record: a, expr: up, keep_firing_for: 5m}\n",
        "invalid field 'keep_firing_for' in recording rule",
    ),
    case("groups:\n- name: g\n  rules:\n  - {<<: 5, record: a, expr: up}\n", "map merge requires map"),
    // What the third generation allows or refuses otherwise than the second.
    older("groups:\n- name: g\n  query_offset: 1m\n  labels: {a: b}\n  rules: []\n", ""),
    older("groups:\n- name: g\n  rules:\n  - {record: 'http.requests', expr: up, labels: {'a.b': c}}\n", ""),
    older("groups:\n- name: g\n  rules:\n  - {alert: A, expr: up, annotations: {x: '{{ now | toTime }}{{ toDuration 5 }}'}}\n", ""),
    older("groups:\n- name: g\n  rules:\n  - {alert: A, expr: 'holt_winters(up[5m], 0.5, 0.5)'}\n", "could not parse expression"),
    older("groups:\n- name: g\n  rules:\n  - {record: a, expr: 'last_over_time({\"http.requests\"}[300])'}\n", ""),
];

#[test]
fn defects_are_named_where_they_are() {
    let mut wrong = Vec::new();
    for Case { text, error, .. } in CASES {
        let checked = check(text, "rules.yml");
        let errors: Vec<String> = checked.errors().map(ToString::to_string).collect();
        if error.is_empty() {
            assert!(errors.is_empty(), "{text}\n{errors:#?}");
        } else {
            wrong.extend((!errors.iter().any(|found| found.contains(error))).then(|| format!("{text}expected {error:?} in {errors:#?}")));
            assert!(errors.iter().all(|found| found.starts_with("rules.yml:")), "{errors:#?}");
        }
        assert_eq!(checked.file.is_some(), errors.is_empty());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let broken = CASES.iter().filter(|case| !case.error.is_empty()).count();
    assert!(broken >= 25, "{broken} defects");
}

#[test]
fn promtool_agrees_on_every_defect() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("rules.yml");
    for Case { text, error, theirs } in CASES {
        std::fs::write(&path, text).unwrap();
        let Some(output) = promtool(&["check", "rules", path.to_str().unwrap()]) else { return };
        let accepted = output.status.success();
        let shown = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(accepted == error.is_empty(), *theirs == Same, "{text}\n{shown}");
    }
}

#[test]
fn problems_name_file_line_group_rule_and_key() {
    let text = "groups:\n- name: first\n  rules:\n  - alert: Fine\n    expr: up\n  - alert: Bad\n    expr: sum(\n    labels:\n      ok: fine\n      severity: '{{ nothing }}'\n";
    let shown: Vec<String> = check(text, "a/b.yml").problems.iter().map(ToString::to_string).collect();
    assert_eq!(shown.len(), 2, "{shown:#?}");
    assert!(shown[0].starts_with("a/b.yml:7:5: group \"first\", rule 2 \"Bad\": expr: could not parse expression: 1:"), "{}", shown[0]);
    assert!(
        shown[1].starts_with("a/b.yml:10:7: group \"first\", rule 2 \"Bad\": labels: label \"severity\": error parsing template"),
        "{}",
        shown[1]
    );
}

#[test]
fn kubernetes_objects_are_rule_files() {
    let object = "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata: {name: x}\nspec:\n  groups:\n  - name: g\n    partial_response_strategy: warn\n    rules:\n    - {alert: A, expr: up == 0}\n";
    let rules = |text: &str| check(text, "x").file.map(|file| file.groups.iter().map(|group| group.rules.len()).sum::<usize>());
    assert_eq!(rules(object), Some(1));
    let other = "apiVersion: v1\nkind: ConfigMap\ndata: {}\n";
    assert_eq!(rules(&format!("{object}---\n{other}---\n{object}")), Some(2));
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: monitoring.coreos.com/v1\n  kind: PrometheusRule\n  spec: {groups: [{name: g, rules: [{record: a, expr: up}]}]}\n";
    assert_eq!(rules(list), Some(1));
    assert_eq!(rules(&object.replace("expr: up == 0", "expr: up ==")), None);
    assert_eq!(rules(&object.replace("spec:", "specs:")), None);
}
