//! promtool's unit-test files: the same verdict as promtool's, case by case.

use std::path::Path;

use paramedic_rules::{Settings, pack, test_file};

use crate::programs::{promtool, yaml_files};

const RULES: &str = r#"
groups:
- name: first
  rules:
  - record: job:x:sum
    expr: sum by (job) (x)
  - alert: High
    expr: job:x:sum > 10
    for: 2m
    labels: {severity: page, dc: '{{ $externalLabels.dc }}'}
    annotations: {summary: '{{ $labels.job }}: {{ $value }} {{ $externalURL }}'}
- name: second
  rules:
  - record: twice
    expr: job:x:sum * 2
  - alert: Kept
    expr: x > 100
    keep_firing_for: 3m
  - alert: Absent
    expr: absent(up{job="a"})
"#;

/// A test below the head, and whether it passes.
const CASES: &[(&str, bool)] = &[
    // Alerts: pending, firing, gone; labels and annotations must be complete.
    (
        "{input_series: [{series: 'x{job=\"a\"}', values: '0 20 20 20 20 0'}], alert_rule_test: [{eval_time: 1m, alertname: High}, {eval_time: 3m, alertname: High, exp_alerts: [{exp_labels: {job: a, severity: page, dc: ''}, exp_annotations: {summary: 'a: 20 '}}]}, {eval_time: 5m, alertname: High, exp_alerts: []}]}",
        false,
    ),
    (
        "{input_series: [{series: 'x{job=\"a\"}', values: '0 20 20 20 20 0'}], alert_rule_test: [{eval_time: 1m, alertname: High}, {eval_time: 3m, alertname: High, exp_alerts: [{exp_labels: {job: a, severity: page}, exp_annotations: {summary: 'a: 20 '}}]}, {eval_time: 5m, alertname: High, exp_alerts: []}]}",
        true,
    ),
    (
        "{input_series: [{series: 'x{job=\"a\"}', values: '20x10'}], alert_rule_test: [{eval_time: 3m, alertname: High, exp_alerts: [{exp_labels: {job: a, severity: page}}]}]}",
        false,
    ),
    (
        "{input_series: [{series: 'x{job=\"a\"}', values: '20x10'}], alert_rule_test: [{eval_time: 3m, alertname: High, exp_alerts: []}]}",
        false,
    ),
    (
        "{input_series: [{series: 'x{job=\"a\"}', values: '1x10'}], alert_rule_test: [{eval_time: 3m, alertname: High, exp_alerts: [{exp_labels: {job: a}}]}]}",
        false,
    ),
    (
        "{input_series: [{series: 'x{job=\"a\"}', values: '20x10'}], external_labels: {dc: fra}, external_url: 'http://p.example', alert_rule_test: [{eval_time: 150s, alertname: High, exp_alerts: [{exp_labels: {job: a, severity: page, dc: fra}, exp_annotations: {summary: 'a: 20 http://p.example'}}]}]}",
        true,
    ),
    (
        "{input_series: [{series: 'x{job=\"a\"}', values: '20x10'}], alert_rule_test: [{eval_time: 1m59s, alertname: High, exp_alerts: []}]}",
        true,
    ),
    (
        "{input_series: [{series: 'x{job=\"a\"}', values: '200 0x9'}], alert_rule_test: [{eval_time: 3m, alertname: Kept, exp_alerts: [{exp_labels: {job: a}}]}, {eval_time: 4m, alertname: Kept}]}",
        true,
    ),
    ("{alert_rule_test: [{eval_time: 0s, alertname: Absent, exp_alerts: [{exp_labels: {job: a}}]}]}", true),
    (
        "{input_series: [{series: 'up{job=\"a\"}', values: '1 stale 1'}], alert_rule_test: [{eval_time: 0m, alertname: Absent}, {eval_time: 1m, alertname: Absent, exp_alerts: [{exp_labels: {job: a}}]}, {eval_time: 2m, alertname: Absent}]}",
        true,
    ),
    ("{alert_rule_test: [{eval_time: 0s, alertname: NoSuchAlert, exp_alerts: []}]}", true),
    ("{alert_rule_test: [{eval_time: 0s, exp_alerts: []}]}", false),
    // Expressions.
    (
        "{input_series: [{series: 'x{job=\"a\", i=\"1\"}', values: '1+1x10'}, {series: 'x{job=\"a\", i=\"2\"}', values: '_ _ 5x8'}], promql_expr_test: [{expr: 'job:x:sum', eval_time: 2m, exp_samples: [{labels: 'job:x:sum{job=\"a\"}', value: 8}]}]}",
        true,
    ),
    (
        "{input_series: [{series: 'x{job=\"a\"}', values: '3'}], promql_expr_test: [{expr: 'twice', eval_time: 0, exp_samples: [{labels: 'twice{job=\"a\"}', value: 6}]}]}",
        true,
    ),
    (
        "{input_series: [{series: 'x{job=\"a\"}', values: '3'}], promql_expr_test: [{expr: 'twice', eval_time: 0, exp_samples: [{labels: 'twice{job=\"a\"}', value: 7}]}]}",
        false,
    ),
    ("{input_series: [{series: 'x{job=\"a\"}', values: '3'}], promql_expr_test: [{expr: 'twice', eval_time: 0, exp_samples: []}]}", false),
    (
        "{input_series: [{series: 'x{job=\"a\"}', values: '3'}], promql_expr_test: [{expr: 'x * 2', eval_time: 0, exp_samples: [{labels: '{job=\"a\"}', value: 6}]}]}",
        true,
    ),
    ("{promql_expr_test: [{expr: '1 + 1', eval_time: 0, exp_samples: [{labels: '{}', value: 2}]}]}", true),
    ("{promql_expr_test: [{expr: 'vector(time())', eval_time: 90s, exp_samples: [{labels: '{}', value: 90}]}]}", true),
    ("{promql_expr_test: [{expr: 'sum(', eval_time: 0}]}", false),
    ("{promql_expr_test: [{expr: 'x[5m]', eval_time: 0}]}", false),
    ("{promql_expr_test: [{expr: 'vector(1)', eval_time: 0, exp_samples: [{labels: 'x{', value: 1}]}]}", false),
    ("{promql_expr_test: [{expr: 'vector(0/0)', eval_time: 0, exp_samples: [{labels: '{}', value: .nan}]}]}", false),
    ("{promql_expr_test: [{expr: 'vector(1/0)', eval_time: 0, exp_samples: [{labels: '{}', value: .inf}]}]}", true),
    (
        "{input_series: [{series: 'x{job=\"a\"}', values: '0 10x5'}], promql_expr_test: [{expr: 'ALERTS{alertstate=\"pending\", alertname=\"High\"}', eval_time: 1m, exp_samples: [{labels: 'ALERTS{alertname=\"High\"}', value: 1}]}]}",
        false,
    ),
    (
        "{input_series: [{series: 'x{job=\"a\"}', values: '0 11x5'}], external_labels: {dc: fra}, promql_expr_test: [{expr: 'ALERTS{alertname=\"High\"}', eval_time: 3m, exp_samples: [{labels: 'ALERTS{alertname=\"High\",alertstate=\"firing\",dc=\"fra\",job=\"a\",severity=\"page\"}', value: 1}]}, {expr: 'ALERTS_FOR_STATE{alertname=\"High\"} * 1', eval_time: 3m, exp_samples: [{labels: '{alertname=\"High\",dc=\"fra\",job=\"a\",severity=\"page\"}', value: 60}]}]}",
        true,
    ),
    // Defects of the test itself.
    ("{input_series: [{series: 'x{', values: '1'}]}", false),
    ("{input_series: [{series: 'x', values: '1y'}]}", false),
    ("{input: []}", false),
    ("{alert_rule_test: [{eval_time: 5 minutes, alertname: High}]}", false),
];

fn run_both(text: &str, rules: &str) -> Option<(bool, bool, String)> {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("rules.yml"), rules).unwrap();
    let path = temp.path().join("test.yml");
    std::fs::write(&path, text).unwrap();
    let report = test_file(&path);
    let output = promtool(&["test", "rules", path.to_str().unwrap()])?;
    let shown = format!("{report}{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Some((report.is_success(), output.status.success(), shown))
}

#[test]
fn verdicts_are_promtools() {
    for (test, passes) in CASES {
        let test = test.replacen('{', "{interval: 1m, ", 1);
        let text = format!("rule_files: [rules.yml]\nevaluation_interval: 1m\ngroup_eval_order: [first, second]\ntests:\n- {test}\n");
        let Some((ours, theirs, shown)) = run_both(&text, RULES) else { return };
        assert_eq!((ours, theirs), (*passes, *passes), "ours and theirs for {test}\n{shown}");
    }
}

#[test]
fn the_head_of_a_file_is_read_as_promtool_reads_it() {
    for (text, passes) in [
        ("rule_files: [rules.yml]\n", true),
        ("rule_files: [rules.yml]\ntests: []\n", true),
        ("rule_files: [rules.yml]\ngroup_eval_order: [first, first]\ntests: []\n", false),
        ("rule_files: [rules.yml]\nnonsense: 1\n", false),
        ("rule_files: rules.yml\n", false),
        (
            "rule_files: ['r*.yml']\nevaluation_interval: 30s\ntests:\n- {interval: 1m, input_series: [{series: 'x{job=\"a\"}', values: '20x9'}], alert_rule_test: [{eval_time: 2m, alertname: High, exp_alerts: [{exp_labels: {job: a, severity: page}, exp_annotations: {summary: 'a: 20 '}}]}]}\n",
            true,
        ),
        // The order of groups matters: `twice` sees the sum of the evaluation before.
        (
            "rule_files: [rules.yml]\nevaluation_interval: 1m\ngroup_eval_order: [second, first]\ntests:\n- {interval: 1m, input_series: [{series: 'x{job=\"a\"}', values: '1 2 3'}], promql_expr_test: [{expr: twice, eval_time: 2m, exp_samples: [{labels: 'twice{job=\"a\"}', value: 4}]}]}\n",
            true,
        ),
    ] {
        let Some((ours, theirs, shown)) = run_both(text, RULES) else { return };
        assert_eq!((ours, theirs), (passes, passes), "ours and theirs for {text}\n{shown}");
    }
}

/// Templates whose result promtool must give too: all functions that both generations have.
const TEMPLATES: &[&str] = &[
    "{{ $value }} {{ .Value }} {{ $labels.job }} {{ .Labels.instance }} [{{ $labels.nobody }}]",
    "{{ $labels }} {{ range $k, $v := $labels }}{{ $k }}={{ $v }},{{ end }}",
    "{{ humanize $value }} {{ humanize1024 $value }} {{ humanizeDuration $value }} {{ humanizePercentage 0.12345 }} {{ humanizeTimestamp $value }}",
    "{{ humanize 0.0 }} {{ humanize 1e-7 }} {{ humanize -1234.5 }} {{ humanize 1e30 }} {{ humanizeDuration 0.001 }} {{ humanizeDuration -90.5 }} {{ humanizeDuration 86400.0 }} {{ humanize1024 -5e9 }}",
    "{{ printf \"%.2f|%5.1f|%d|%s|%v|%q|%x|%05d|%e|%g\" $value $value 42 $labels.job $value \"q\" 255 7 $value $value }}",
    "{{ 1000000.0 }} {{ 123456789.0 }} {{ 0.00001 }} {{ 100000.0 }} {{ 1e21 }} {{ 5 }} {{ 0.1 }} {{ true }} {{ \"s\" }} {{ 'a' }}",
    "{{ query \"sum(x)\" | first | value }} {{ with query \"sort(x)\" }}{{ range . }}{{ .Labels.instance }}:{{ .Value }};{{ end }}{{ end }}",
    "{{ range query \"x\" | sortByLabel \"instance\" }}{{ . | label \"instance\" }}={{ . | value | humanize }} {{ end }}",
    "{{ with query \"nothing\" }}some{{ else }}none{{ end }} {{ query \"nothing\" | len }} {{ len $labels }}",
    "{{ toUpper $labels.job }} {{ toLower \"ÄBC\" }} {{ title \"the quick-brown fox's o_o\" }} {{ stripPort $labels.instance }} {{ stripDomain $labels.instance }} {{ stripDomain \"10.1.2.3:80\" }} {{ stripPort \"[::1]:80\" }}",
    "{{ reReplaceAll \"(.*):(.*)\" \"$2-${1}\" $labels.instance }} {{ match \"^ap\" $labels.job }} {{ match \"x$\" $labels.job }}",
    "{{ graphLink \"up{a=\\\"b c\\\"} > 1\" }} {{ tableLink \"sum(x)\" }} {{ $externalURL }} {{ $externalLabels.dc }}",
    "{{ parseDuration \"1h30m\" }} {{ safeHtml \"<b>\" }} {{ html \"<b>\" }} {{ js \"'\" }} {{ urlquery \"a b\" }} {{ print 1 2 \"a\" \"b\" }} {{ println \"x\" }}",
    "{{ if and (gt $value 5.0) (eq $labels.job \"api\") }}yes{{ else if true }}maybe{{ else }}no{{ end }} {{ not true }} {{ or \"\" \"b\" }} {{ ne 1 2 }} {{ le 1 1 }}",
    "{{ define \"t\" }}<{{ . }}>{{ end }}{{ template \"t\" $labels.job }} {{- /* a comment */ -}} end",
    "{{ $x := 1 }}{{ range $i, $e := query \"x\" }}{{ $x = $i }}{{ end }}{{ $x }} {{ index $labels \"job\" }} [{{ index $labels \"nobody\" }}] {{ index (query \"sum(x)\") 0 | value }}",
    "{{ with args 1 \"b\" 2.5 }}{{ .arg0 }} {{ .arg1 }} {{ .arg2 }}{{ end }} {{ slice \"hello\" 1 3 }} {{ (query \"sum(x)\" | first).Value }}",
    "{{ toTime 1443620400.0 }} {{ (toTime 1443620400.0).Year }} {{ (toTime 1443620400.25).Format \"Mon Jan 2 15:04:05 2006\" }} {{ humanizeTimestamp 1443620400.25 }} {{ (toTime 1443620400.0).Unix }}",
    "{{ \"a\" | printf \"%s %s\" \"b\" }} {{ $labels.job | len }} {{ eq $labels.nobody \"\" }} {{ if $labels.nobody }}x{{ else }}y{{ end }}",
    "{{ strvalue (query \"label_replace(x, '__value__', 'v', '', '')\" | first) }}",
];

#[test]
fn templates_give_what_promtool_gives() {
    let mut wrong = Vec::new();
    for template in TEMPLATES {
        let rules = format!(
            "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: x{{instance=\"h.example.com:9090\"}}\n    annotations:\n      it: {}\n",
            serde_json::to_string(template).unwrap()
        );
        let head = "rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n- interval: 1m\n  external_labels: {dc: fra}\n  external_url: http://p.example/prefix\n  input_series:\n  - {series: 'x{job=\"api\", instance=\"h.example.com:9090\"}', values: 1234567.5x2}\n  - {series: 'x{job=\"api\", instance=\"a.example.com:9090\"}', values: 5x2}\n  alert_rule_test:\n  - eval_time: 1m\n    alertname: A\n    exp_alerts:\n    - exp_labels: {job: api, instance: 'h.example.com:9090'}\n      exp_annotations:\n        it: ";
        // The first run tells what ours is; the second lets promtool judge it.
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("rules.yml"), &rules).unwrap();
        let path = temp.path().join("test.yml");
        std::fs::write(&path, format!("{head}unknown\n")).unwrap();
        let report = test_file(&path);
        let got = &report.failures[0].got[0];
        let ours = got.split_once("Annotations:{it=").unwrap().1.strip_suffix('}').unwrap();
        let Some((passes, theirs, shown)) = run_both(&format!("{head}{ours}\n"), &rules) else { return };
        wrong.extend((!passes || !theirs).then(|| format!("{template}\nours: {ours}\n{shown}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn ranges_are_open_on_the_left_as_in_the_third_generation() {
    let text = |count: u32| {
        format!(
            "rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n- {{interval: 1m, input_series: [{{series: x, values: 1x20}}], promql_expr_test: [{{expr: 'count_over_time(x[5m])', eval_time: 10m, exp_samples: [{{labels: '{{}}', value: {count}}}]}}]}}\n"
        )
    };
    let Some((ours, theirs, _)) = run_both(&text(5), RULES) else { return };
    assert_eq!((ours, theirs), (true, false));
    let Some((ours, theirs, _)) = run_both(&text(6), RULES) else { return };
    assert_eq!((ours, theirs), (false, true));
}

#[test]
fn native_histograms_are_compared() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("test.yml");
    let text = |expected: &str| {
        format!(
            "evaluation_interval: 1m\ntests:\n- interval: 1m\n  input_series: [{{series: h, values: '{{{{schema:0 count:1 sum:2 buckets:[1]}}}}+{{{{schema:0 count:2 sum:2 buckets:[2]}}}}x3'}}]\n  promql_expr_test: [{{expr: 'h * 2', eval_time: 2m, exp_samples: [{{labels: '{{}}', histogram: '{expected}'}}]}}]\n"
        )
    };
    for (expected, passes) in
        [("{{schema:0 count:10 sum:12 buckets:[10]}}", true), ("{{schema:0 count:10 sum:12 buckets:[9]}}", false), ("{{schema:0", false)]
    {
        std::fs::write(&path, text(expected)).unwrap();
        let report = test_file(&path);
        assert_eq!(report.is_success(), passes, "{expected} {report}");
    }
}

#[test]
fn a_difference_is_shown_line_by_line() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("rules.yml"), RULES).unwrap();
    let path = temp.path().join("test.yml");
    std::fs::write(&path, "rule_files: [rules.yml]\ntests:\n- {name: n, interval: 1m, input_series: [{series: 'x{job=\"a\"}', values: '200x9'}, {series: 'x{job=\"b\"}', values: '300x9'}], alert_rule_test: [{eval_time: 0s, alertname: Kept, exp_alerts: [{exp_labels: {job: a}}, {exp_labels: {job: c}}]}]}\n").unwrap();
    let shown = test_file(&path).to_string();
    let (_, shown) = shown.split_once('\n').unwrap();
    let expected = r#"  FAILED:
    name: n,
    alertname: Kept, time: 0s,
        exp: (1 of 2 differ)
            Labels:{alertname="Kept", job="a"} Annotations:{}
          - Labels:{alertname="Kept", job="c"} Annotations:{}
        got: (1 of 2 differ)
            Labels:{alertname="Kept", job="a"} Annotations:{}
          + Labels:{alertname="Kept", job="b"} Annotations:{}
"#;
    assert_eq!(shown, expected);
}

#[test]
fn every_embedded_alert_fires_and_clears() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pack");
    let files = yaml_files(&folder);
    let mut failed = Vec::new();
    let mut tests = 0;
    for path in &files {
        let report = test_file(path);
        tests += report.passed;
        failed.extend((!report.is_success()).then(|| report.to_string()));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    println!("{tests} tests of the pack");
    assert!(pack::texts(&Settings::default()).len() >= files.len());
}

#[test]
fn the_real_engine_gives_the_same_alerts_for_the_embedded_rules() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(temp.path().join("tests/pack")).unwrap();
    for (name, text) in pack::texts(&Settings::default()) {
        let path = temp.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    for path in yaml_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pack")) {
        let copy = temp.path().join("tests/pack").join(path.file_name().unwrap());
        std::fs::copy(&path, &copy).unwrap();
        let Some(output) = promtool(&["test", "rules", copy.to_str().unwrap()]) else { return };
        assert!(output.status.success(), "{}{}", path.display(), String::from_utf8_lossy(&output.stdout));
    }
}
