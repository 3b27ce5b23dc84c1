//! Whole lives of alerts and recorded series, on a real store.

use paramedic_model::{AlertState, IncidentType, Severity};
use paramedic_rules::{Settings, change};

use crate::stage::{BEGIN_S, Stage, labels};

const RULES: &str = r#"
groups:
- name: g
  interval: 60s
  labels: {team: a}
  rules:
  - record: job:errors:ratio
    expr: errors / requests
    labels: {from: rules}
  - alert: HighErrorRate
    expr: job:errors:ratio > 0.1
    for: 2m
    labels: {severity: critical, where: '{{ $labels.job }}'}
    annotations:
      summary: '{{ $labels.job }}{{ $labels.nobody }} has {{ $value | humanizePercentage }} errors'
"#;

fn put(stage: &Stage, at_s: i64, errors: f64) {
    stage.put(at_s, &[("__name__", "errors"), ("job", "api")], errors);
    stage.put(at_s, &[("__name__", "requests"), ("job", "api")], 100.0);
}

#[tokio::test]
async fn an_alert_waits_fires_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::new(dir.path(), 0, Settings::default());
    stage.load(RULES).await;
    for (at_s, errors, heard, state) in [
        (0, 5.0, "", "HighErrorRate Ok Inactive 0"),
        (60, 50.0, "", "HighErrorRate Ok Pending 1"),
        (120, 50.0, "", "HighErrorRate Ok Pending 1"),
        (180, 50.0, "firing HighErrorRate since 60 at 180", "HighErrorRate Ok Firing 1"),
        (240, 50.0, "", "HighErrorRate Ok Firing 1"),
        (300, 60.0, "firing HighErrorRate since 60 at 300", "HighErrorRate Ok Firing 1"),
        (360, 1.0, "resolved HighErrorRate since 60 at 360", "HighErrorRate Ok Inactive 0"),
    ] {
        put(&stage, at_s, errors);
        stage.evaluate(at_s).await;
        assert_eq!(stage.heard_short().join("; "), heard, "at {at_s}");
        assert_eq!(stage.states()[1], state, "at {at_s}");
    }
    assert_eq!(stage.query(360, "job:errors:ratio"), [r#"{__name__="job:errors:ratio", from="rules", job="api", team="a"} Float(0.01)"#]);
    let all = r#"{__name__="ALERTS", alertname="HighErrorRate", alertstate="firing", from="rules", job="api", severity="critical", team="a", where="api"} Float(1.0)"#;
    assert_eq!(stage.query(300, "ALERTS"), [all]);
    assert_eq!(stage.query(300, "ALERTS_FOR_STATE - 1700000000")[0].rsplit(' ').next(), Some("Float(60.0)"));
    assert_eq!(stage.query(360, "ALERTS or ALERTS_FOR_STATE"), Vec::<String>::new(), "both ended");
}

#[tokio::test]
async fn the_journal_hears_who_how_bad_and_why() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::new(dir.path(), 0, Settings::default());
    stage.load(RULES).await;
    for at_s in [0, 60, 120] {
        put(&stage, at_s, 50.0);
        stage.evaluate(at_s).await;
    }
    let heard = stage.heard();
    assert_eq!(heard.len(), 1);
    let told = &heard[0];
    assert_eq!((told.state, told.severity, told.incident_type), (AlertState::Firing, Some(Severity::Sev1), IncidentType::ApiFailure));
    assert_eq!(told.reason, "api has 50% errors");
    assert_eq!(told.cause, "rule:HighErrorRate");
    let rule = told.rule.as_ref().unwrap();
    assert_eq!((rule.group.as_str(), rule.expression.as_str(), rule.value), ("g", "job:errors:ratio > 0.1", Some(0.5)));
    let pairs: Vec<(&str, &str)> = rule.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(told.fingerprint, change::fingerprint(&labels(&pairs)));
}

#[tokio::test]
async fn series_that_vanish_are_marked_as_ended() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::new(dir.path(), 0, Settings::default());
    let rules = "groups:\n- name: g\n  rules:\n  - {record: a:b, expr: 'x > 1'}\n";
    stage.load(rules).await;
    stage.put(0, &[("__name__", "x")], 2.0);
    stage.evaluate(0).await;
    assert_eq!(stage.query(30, "a:b").len(), 1);
    stage.put(60, &[("__name__", "x")], 0.0);
    stage.evaluate(60).await;
    assert_eq!(stage.query(60, "a:b").len(), 0, "a series without a sample in this evaluation");
    stage.put(120, &[("__name__", "x")], 5.0);
    stage.evaluate(120).await;
    assert_eq!(stage.query(120, "a:b").len(), 1);
    stage.clock.set(paramedic_model::Timestamp::from_secs(BEGIN_S + 130));
    stage.load("groups: []").await;
    assert_eq!(stage.query(130, "a:b").len(), 0, "a series whose rule is gone");
}

#[tokio::test]
async fn conflicts_and_limits_are_errors_of_the_rule() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::new(dir.path(), 0, Settings::default());
    let rules = "groups:\n- name: g\n  limit: 1\n  rules:\n  - {record: r, expr: x, labels: {i: same}}\n  - {record: r2, expr: x}\n  - {alert: A, expr: x, labels: {i: same}}\n  - {alert: B, expr: x}\n  - {alert: C, expr: 'x[5m]'}\n  - {alert: D, expr: 'vector(1)'}\n  - {record: s, expr: '5'}\n";
    stage.load(rules).await;
    for i in ["a", "b"] {
        stage.put(0, &[("__name__", "x"), ("i", i)], 1.0);
    }
    stage.evaluate(0).await;
    let groups = stage.rules.groups();
    let errors: Vec<&str> = groups[0].rules.iter().map(|rule| rule.last_error.as_deref().unwrap_or("")).collect();
    assert_eq!(
        errors,
        [
            "vector contains metrics with the same labelset after applying rule labels",
            "exceeded limit of 1 with 2 series",
            "vector contains metrics with the same labelset after applying alert labels",
            "exceeded limit of 1 with 2 alerts",
            "rule result is not a vector or scalar",
            "",
            "",
        ]
    );
    assert_eq!(stage.heard_short(), ["firing D since 0 at 0"]);
    assert_eq!(stage.query(0, "s"), [r#"{__name__="s"} Float(5.0)"#]);
}

#[tokio::test]
async fn a_reload_keeps_what_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::new(dir.path(), 0, Settings::default());
    let rules = |limit: i64, other: &str| {
        format!(
            "groups:\n- name: g\n  limit: {limit}\n  rules:\n  - {{alert: A, expr: x > 0, for: 1m}}\n  - {{alert: {other}, expr: x > 0}}\n"
        )
    };
    stage.load(&rules(0, "B")).await;
    stage.put(0, &[("__name__", "x")], 1.0);
    stage.evaluate(0).await;
    assert_eq!(stage.heard_short(), ["firing B since 0 at 0"]);
    stage.load(&rules(7, "C")).await;
    assert_eq!(stage.heard_short(), ["resolved B since 0 at 0"], "its rule is gone");
    stage.evaluate(60).await;
    assert_eq!(stage.heard_short(), ["firing A since 0 at 60", "firing C since 60 at 60"], "A did not begin to wait anew");
    let broken = stage.rules.load_texts(vec![("rules.yml".to_owned(), "groups: [".to_owned())]).await;
    assert!(broken.problems[0].is_error());
    assert_eq!((broken.files, broken.rules), (1, 2), "the file stays as it was");
    stage.evaluate(120).await;
    assert_eq!(stage.heard_short(), Vec::<String>::new());
}

#[tokio::test]
async fn two_rules_with_the_same_labels_are_one_alert() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::new(dir.path(), 0, Settings::default());
    stage.load("groups:\n- name: g\n  rules:\n  - {alert: A, expr: x > 0}\n- name: h\n  rules:\n  - {alert: A, expr: x > 5}\n").await;
    for (at_s, value, heard) in
        [(0, 9.0, vec!["firing A since 0 at 0"]), (60, 1.0, vec!["firing A since 0 at 60"]), (120, 0.0, vec!["resolved A since 0 at 120"])]
    {
        stage.put(at_s, &[("__name__", "x")], value);
        stage.evaluate(at_s).await;
        assert_eq!(stage.heard_short(), heard, "at {at_s}");
    }
}

#[tokio::test]
async fn a_restart_changes_nothing_for_those_who_watch() {
    let dir = tempfile::tempdir().unwrap();
    let rules = "groups:\n- name: g\n  rules:\n  - {alert: Firing, expr: x > 0, for: 1m}\n  - {alert: Waiting, expr: x > 0, for: 20m}\n  - {alert: Ends, expr: y > 0}\n  - {alert: Gone, expr: x > 0}\n";
    let firing = {
        let stage = Stage::new(dir.path(), 0, Settings::default());
        stage.load(rules).await;
        for at_s in (0..=600).step_by(60) {
            stage.put(at_s, &[("__name__", "x")], at_s as f64 + 1.0);
            stage.put(at_s, &[("__name__", "y")], 1.0);
            stage.evaluate(at_s).await;
        }
        stage.heard().into_iter().map(|change| (change.fingerprint.clone(), change)).collect::<std::collections::BTreeMap<_, _>>()
    };
    assert_eq!(firing.len(), 3);
    // Five minutes later it is there again, without the rule `Gone`, and `y` is no more.
    let stage = Stage::new(dir.path(), 900, Settings::default());
    stage.load(&rules.replace("Gone", "Other")).await;
    stage.rules.restore(firing.into_values().collect()).await;
    assert_eq!(stage.heard_short(), ["resolved Gone since 0 at 900"]);
    stage.put(910, &[("__name__", "x")], 5.0);
    stage.evaluate(910).await;
    assert_eq!(stage.heard_short(), ["firing Firing since 0 at 910", "firing Other since 910 at 910"]);
    stage.evaluate(960).await;
    assert_eq!(stage.heard_short(), ["resolved Ends since 0 at 960"], "only when samples had time to come");
    // It had waited 10 of 20 minutes, and was down for 310 seconds, which do not count.
    for at_s in (1_020..=1_500).step_by(60) {
        stage.put(at_s, &[("__name__", "x")], 5.0);
        stage.evaluate(at_s).await;
    }
    assert!(stage.heard_short().iter().all(|line| !line.contains("Waiting")));
    stage.put(1_510, &[("__name__", "x")], 5.0);
    stage.evaluate(1_510).await;
    assert_eq!(stage.heard_short(), ["firing Waiting since 310 at 1510"]);
}

#[tokio::test]
async fn templates_ask_the_store_and_errors_are_their_text() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::new(dir.path(), 0, Settings::default());
    stage
        .load("groups:\n- name: g\n  rules:\n  - alert: A\n    expr: x > 0\n    annotations:\n      summary: '{{ with query \"sum(x)\" }}{{ . | first | value }}{{ end }}'\n      bad: '{{ query \"sum(\" }}'\n")
        .await;
    stage.put(0, &[("__name__", "x"), ("i", "a")], 2.0);
    stage.put(0, &[("__name__", "x"), ("i", "b")], 3.0);
    stage.evaluate(0).await;
    for change in stage.heard() {
        let annotations = &change.rule.unwrap().annotations;
        assert_eq!(annotations["summary"], "5");
        assert!(annotations["bad"].starts_with("<error expanding template: error executing template __alert_A: "), "{annotations:?}");
    }
    assert_eq!(stage.rules.metrics().template_failures.get(), 2);
}

#[tokio::test]
async fn rules_without_series_are_named_and_parts_explained() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::new(dir.path(), 0, Settings::default());
    stage.load("groups:\n- name: g\n  rules:\n  - {alert: A, expr: 'sum by (i) (rate(x[5m])) / 2 > nobody + 1'}\n").await;
    stage.put(0, &[("__name__", "x"), ("i", "a")], 2.0);
    stage.put(60, &[("__name__", "x"), ("i", "a")], 62.0);
    stage.evaluate(60).await;
    stage.rules.search_missing().await;
    let missing = stage.rules.groups()[0].rules[0].missing.clone();
    assert_eq!(missing.iter().map(|missing| missing.selector.as_str()).collect::<Vec<_>>(), ["nobody"]);
    let why = stage.rules.why("A").await;
    let parts: Vec<String> = why[0]
        .parts
        .iter()
        .map(|part| {
            format!(
                "{}{} {} {}{}",
                " ".repeat(part.depth),
                part.kind,
                part.expression,
                part.series_count,
                part.series.first().map(|series| format!(" {}", series.value)).unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(
        parts,
        [
            "comparison sum by (i) (rate(x[5m])) / 2 > nobody + 1 0",
            " operation sum by (i) (rate(x[5m])) / 2 1 0.10333333333333335",
            "  aggregation sum by (i) (rate(x[5m])) 1 0.2066666666666667",
            "   function rate(x[5m]) 1 0.2066666666666667",
            "    range x[5m] 1 62 (2 samples)",
            " operation nobody + 1 0",
            "  selector nobody 0",
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_evaluated_in_their_time() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::new(dir.path(), 0, Settings::default());
    stage.load("groups:\n- name: g\n  interval: 10s\n  rules:\n  - {record: r, expr: '1'}\n").await;
    let cancel = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(stage.rules.clone().run(cancel.clone()));
    let last = || stage.rules.groups()[0].last_at.map(|at| at.as_secs() - BEGIN_S);
    let now = || paramedic_model::Clock::now(&*stage.clock).as_secs() - BEGIN_S;
    let caught_up = || async {
        for round in 1.. {
            if last().is_some_and(|last| last > now() - 10) {
                break;
            }
            // The first moment may still be ahead, and so is the next one when an evaluation came late.
            if last().is_none() || round % 100 == 0 {
                stage.clock.advance(std::time::Duration::from_secs(1));
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        // What is counted after an evaluation is counted soon.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        (last().unwrap(), stage.rules.metrics().evaluations.get(), stage.rules.groups()[0].missed_evaluations)
    };
    stage.clock.advance(std::time::Duration::from_secs(25));
    let (first, evaluations_before, missed_before) = caught_up().await;
    stage.clock.advance(std::time::Duration::from_secs(46));
    let (last, evaluations, missed) = caught_up().await;
    assert_eq!((last - first) % 10, 0, "the phase is fixed");
    // One evaluation comes late, all between it and the next one that is due are missed.
    let counted = evaluations - evaluations_before + missed - missed_before;
    assert_eq!(counted as i64, (last - first) / 10, "{first} {last}");
    assert!(missed > missed_before);
    cancel.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn other_settings_are_taken_with_the_next_loading() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::new(dir.path(), 0, Settings { pack: false, ..Settings::default() });
    stage.load(RULES).await;
    assert_eq!(stage.rules.groups().len(), 1);
    let thresholds = [("disk_critical".to_owned(), 0.99)].into();
    let defaults = paramedic_rules::pack::threshold_defaults();
    assert!(defaults.contains_key("disk_critical"), "{:?}", defaults.keys());
    stage.rules.set_settings(Settings { thresholds, ..Settings::default() });
    stage.load(RULES).await;
    let groups = stage.rules.groups();
    let critical = groups.iter().flat_map(|group| &group.rules).find(|rule| rule.name == "DiskSpaceCritical").unwrap();
    assert!(critical.query.ends_with("> 0.99"), "{}", critical.query);
}
