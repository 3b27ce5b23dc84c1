//! The verbs about samples and rules as somebody meets them who has just installed the program.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::catalogue::text_of;
use crate::fixture::{Home, until};
use crate::programs::{Series, free_port, now_ms, write};
use crate::respond_scene::approve;
use crate::{needs, tools};

const WITHIN: Duration = Duration::from_secs(20);

/// Runs each line and looks at the code and the words.
#[track_caller]
fn check(home: &Home, cases: &[(&[&str], i32, &str)]) {
    for (arguments, code, words) in cases {
        let output = home.run(arguments);
        let told = text_of(&output);
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {told}");
        assert!(told.contains(words), "{arguments:?}: no {words:?} in {told}");
        assert!(!told.contains("panicked"), "{told}");
    }
}

const RULES: &str = "groups:
- name: shop
  interval: 1s
  rules:
  - record: shop:depth:max
    expr: max by (queue) (shop_queue_depth)
  - alert: DeepQueue
    expr: shop_queue_depth{queue=\"mail\"} > 100
    labels: {severity: critical}
    annotations: {summary: '{{ $value }} mails wait'}
  - alert: DeepForLong
    expr: shop_queue_depth > 50
    for: 1h
    labels: {severity: warning}
";

#[test]
fn without_an_instance_every_verb_says_what_it_needs() {
    let home = Home::new();
    let rules = home.path().join("rules.yml");
    fs::write(&rules, RULES).unwrap();
    let rules = rules.to_str().unwrap();
    check(
        &home,
        &[
            (&["query", "up"], 3, "paramedic up"),
            (&["query"], 2, "Usage"),
            (&["targets"], 3, "paramedic up"),
            (&["rules"], 2, "check"),
            (&["rules", "list"], 3, "paramedic up"),
            (&["rules", "why", "HighErrorRate"], 3, "paramedic up"),
            (&["rules", "check"], 2, "FILE"),
            (&["rules", "check", rules], 0, "no instance is running here"),
            (&["rules", "check", rules, "--offline"], 0, "rules.yml: 3 rules"),
            (&["rules", "check", "/no/such.yml"], 4, "/no/such.yml"),
            (&["rules", "test", rules], 5, "FAILED"),
            (&["alerts"], 3, "nothing was ever recorded"),
        ],
    );
    let told = home.json(&["rules", "check", rules, "--json"]);
    let expected = json!({"files": [{"file": rules, "rules": 3, "problems": [], "ok": true}], "missing": [], "compared": false});
    assert_eq!(told, expected);
}

#[test]
fn a_fresh_instance_answers_with_empty_lists_that_say_what_to_do() {
    let home = Home::new();
    let _instance = home.up_configured("[probe]\nhost = false\n[rules]\npack = false\n[meter]\nenabled = false\n");
    check(
        &home,
        &[
            (&["targets"], 0, "this process"),
            (&["targets", "--down"], 0, "No target is down."),
            (&["rules", "list"], 0, "No rule is loaded."),
            (&["rules", "list", "--active"], 0, "No rule is loaded."),
            (&["rules", "why", "HighErrorRate"], 4, "HighErrorRate"),
            (&["alerts"], 0, "No alerts so far. All quiet."),
            (&["query", "no_such_metric"], 0, "No series matches"),
            (&["query", ""], 1, ""),
            (&["query", "rate(x)"], 1, "rate"),
            (&["query", "1 / 0"], 0, "+Inf"),
        ],
    );
    let targets = home.json(&["targets", "--json"]);
    let pools: Vec<&Value> = targets["targets"].as_array().unwrap().iter().map(|target| &target["pool"]).collect();
    assert_eq!(pools, [&json!("paramedic")], "nothing but itself: {targets:#}");
    assert_eq!(home.json(&["rules", "list", "--json"]), json!({"enabled": true, "groups": []}));
    let alerts = home.json(&["alerts", "--json"]);
    assert_eq!((&alerts["alerts"], &alerts["pending"], &alerts["total"]), (&json!([]), &json!([]), &json!(0)), "{alerts:#}");
    let empty = home.json(&["query", "no_such_metric", "--json"]);
    assert_eq!((&empty["status"], &empty["data"]), (&json!("success"), &json!({"resultType": "vector", "result": []})));
    let range = home.json(&["query", "vector(1)", "--range", "1m", "--step", "30s", "--json"]);
    assert_eq!(range["data"]["resultType"], "matrix");
    assert_eq!(range["data"]["result"][0]["values"].as_array().unwrap().len(), 3, "{range:#}");
}

#[test]
fn an_instance_in_trouble_shows_it_in_every_verb() {
    let home = Home::new();
    let rules = home.path().join("rules.yml");
    fs::write(&rules, RULES).unwrap();
    let dead = format!("127.0.0.1:{}", free_port());
    let instance = home.up_configured(&format!(
        "[probe]\nhost = false\n[rules]\npack = false\nfiles = [{rules:?}]\n[[scrape.jobs]]\nname = \"gone\"\ntargets = [\"{dead}\"]\ninterval_s = 1\n"
    ));
    let now = now_ms();
    let depth = |queue: &str, value: f64| Series::new("shop_queue_depth", &format!("queue={queue}"), &[(now, value)]);
    write(&instance.http(), vec![depth("mail", 250.0), depth("sms", 60.0)]);
    let line = |state: &str| {
        let told = text_of(&home.run(&["alerts"]));
        told.lines().find(|line| line.contains(state)).map(str::to_owned)
    };
    until(WITHIN, || line("firing").zip(line("pending"))).unwrap_or_else(|| panic!("{}\n{}", text_of(&home.run(&["alerts"])), home.log()));
    until(WITHIN, || text_of(&home.run(&["targets"])).contains("DOWN").then_some(()))
        .unwrap_or_else(|| panic!("{}", text_of(&home.run(&["targets"]))));
    let file = rules.to_str().unwrap();
    check(
        &home,
        &[
            (&["alerts"], 0, "250 mails wait"),
            (&["alerts"], 0, "DeepForLong"),
            (&["alerts"], 0, "250 (> 100)"),
            (&["targets", "--down"], 0, &dead),
            (&["targets", "no-such-job"], 0, "No target matches."),
            (&["rules", "list"], 0, "FIRING"),
            (&["rules", "list", "--active"], 0, "pending"),
            (&["rules", "list", "depth:max"], 0, "records"),
            (&["rules", "why", "DeepQueue"], 0, "=> 250"),
            (&["rules", "why", "DeepQueue"], 0, "compares with > 100"),
            (&["rules", "why", "deepqueue"], 4, "there is no alerting rule"),
            (&["query", "shop:depth:max"], 0, "queue=\"mail\""),
            (&["query", "shop_queue_depth", "--time", "1h"], 0, "No series matches"),
            (&["rules", "check", file], 0, "rules.yml: 3 rules"),
        ],
    );
    let targets = home.json(&["targets", "--json"]);
    let target = &targets["targets"][0];
    assert_eq!((&target["pool"], &target["health"], &target["kind"]), (&json!("gone"), &json!("down"), &json!("scrape")), "{targets:#}");
    assert!(target["last_error"].as_str().is_some_and(|error| !error.is_empty()), "{targets:#}");
    let alerts = home.json(&["alerts", "--json"]);
    assert_eq!(alerts["alerts"][0]["alert"]["rule"]["name"], "DeepQueue", "{alerts:#}");
    let pending: Vec<&Value> = alerts["pending"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(pending, [&json!("DeepForLong"), &json!("DeepForLong")], "{alerts:#}");
    let why = home.json(&["rules", "why", "DeepQueue", "--json"]);
    let threshold = &why["rules"][0]["threshold"];
    assert_eq!((&threshold["op"], &threshold["value"]), (&json!(">"), &json!(100.0)), "{why:#}");
    let list = home.json(&["rules", "list", "--json"]);
    let states: Vec<&Value> = list["groups"][0]["rules"].as_array().unwrap().iter().map(|rule| &rule["state"]).collect();
    assert_eq!(states.len(), 3, "{list:#}");
    assert_eq!((states[1], states[2]), (&json!("firing"), &json!("pending")), "{list:#}");
    let missing = home.json(&["rules", "check", file, "--json"]);
    assert_eq!((&missing["missing"], &missing["compared"]), (&json!([]), &json!(true)), "{missing:#}");
    drop(instance);
    check(&home, &[(&["alerts"], 0, "250 mails wait"), (&["query", "up"], 3, "paramedic up")]);
}

#[test]
fn promtool_gives_the_same_verdict_on_our_files() {
    needs!("promtool");
    let home = Home::new();
    let file = |name: &str, text: &str| {
        let path = home.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let theirs = |arguments: &[&str]| Command::new("promtool").args(arguments).output().unwrap().status.success();
    file("rules.yml", RULES);
    for (name, text, good) in [
        ("plain.yml", RULES.to_owned(), true),
        ("expression.yml", RULES.replace("> 100", "> > 100"), false),
        ("template.yml", RULES.replace("{{ $value }}", "{{ $value"), false),
        ("unknown.yml", RULES.replace("annotations:", "annotation:"), false),
        ("label.yml", RULES.replace("severity: critical", "__name__: critical"), false),
        ("twice.yml", format!("{RULES}{}", RULES.replace("groups:\n", "")), false),
        ("function.yml", RULES.replace("max by (queue)", "maximal"), false),
        ("wait.yml", RULES.replace("for: 1h", "for: long"), false),
        ("empty.yml", "groups: []\n".to_owned(), true),
    ] {
        let path = file(name, &text);
        let ours = home.run(&["rules", "check", &path, "--offline"]);
        assert_eq!(ours.status.success(), good, "{name}: {}", text_of(&ours));
        assert_eq!(theirs(&["check", "rules", &path]), good, "{name}");
    }
    let unit = |value: u32, fires: &str| {
        format!(
            "rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n- interval: 1m\n  input_series:\n  - {{series: 'shop_queue_depth{{queue=\"mail\"}}', values: '10+50x10'}}\n  \
             alert_rule_test:\n  - eval_time: 3m\n    alertname: DeepQueue\n    exp_alerts: {fires}\n  promql_expr_test:\n  - expr: shop:depth:max\n    eval_time: 4m\n    \
             exp_samples: [{{labels: 'shop:depth:max{{queue=\"mail\"}}', value: {value}}}]\n"
        )
    };
    let alert = "[{exp_labels: {severity: critical, queue: mail}, exp_annotations: {summary: '160 mails wait'}}]";
    for (name, text, good) in
        [("good.yml", unit(210, alert), true), ("value.yml", unit(211, alert), false), ("alert.yml", unit(210, "[]"), false)]
    {
        let path = file(name, &text);
        let ours = home.run(&["rules", "test", &path]);
        assert_eq!(ours.status.code(), Some(if good { 0 } else { 5 }), "{name}: {}", text_of(&ours));
        assert_eq!(theirs(&["test", "rules", &path]), good, "{name}");
    }
    // Our own rules pass theirs, once the thresholds are in.
    for (name, text) in paramedic_rules::pack::texts(&paramedic_rules::Settings::default()) {
        let path = file(&format!("pack-{}", name.replace('/', "-")), &text);
        let output = Command::new("promtool").args(["check", "rules", &path]).output().unwrap();
        assert!(output.status.success(), "{name}: {}", text_of(&output));
    }
    assert!(tools::workspace().join("crates/rules/pack").is_dir());
}

/// A team's runbook is judged without an instance: what its lines would do, and what is dangerous in them.
#[test]
fn a_runbook_is_linted_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good.md");
    std::fs::write(&good, "# Queue\n\n## Investigation\n```bash\n# 1. How many?\nredis-cli LLEN queue:pending\n```\n").unwrap();
    let bad = dir.path().join("bad.md");
    std::fs::write(&bad, "# Cache\n\n## Resolution\n```bash\nredis-cli FLUSHALL\n```\n").unwrap();
    let run = |verb: &str, file: &std::path::Path, more: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_paramedic")).args(["runbook", verb]).arg(file).args(more).output().unwrap()
    };
    let text = |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let told = run("lint", &good, &[]);
    assert_eq!((told.status.code(), text(&told).as_str()), (Some(0), ""));
    let told = run("lint", &bad, &[]);
    assert_eq!(told.status.code(), Some(5));
    assert!(text(&told).contains("bad.md:5: error: removes every key") && text(&told).contains("[redis-flush]"), "{}", text(&told));
    let told: serde_json::Value = serde_json::from_slice(&run("lint", &bad, &["--json"]).stdout).unwrap();
    assert_eq!((&told["errors"], &told["files"][0]["findings"][0]["rule"]), (&1.into(), &"no-verification".into()));
    assert!(text(&run("show", &bad, &[])).contains("DESTROYS"));
    assert!(text(&run("show", &good, &[])).contains("reads"));
    assert_eq!(run("lint", &dir.path().join("none.md"), &[]).status.code(), Some(1));
}

/// The walk through the README: an incident, its runbook, an approval, the fix, the verification, the record.
#[test]
fn the_sample_ends_with_an_agent_that_its_runbook_stops() {
    let home = Home::new();
    let instance = home.up_with(&["--sample", "--sample-speed", "1000"]);
    let runs = || instance.list("/api/v1/runs", "runs");
    let found = until(Duration::from_secs(60), || {
        runs()
            .into_iter()
            .find(|run| run["runbook"] == "stuck-agent" && run["asking"].as_array().is_some_and(|steps| steps.contains(&json!("stop"))))
    });
    let found = found.unwrap_or_else(|| panic!("no run waits for the looping agent to be stopped: {:#?}\n{}", runs(), home.log()));
    let (run, incident) = (found["id"].as_str().unwrap().to_owned(), found["incident"].as_str().unwrap().to_owned());
    assert_eq!(found["cause"][0], "loop", "{found:#}");
    let shown = home.json(&["run", &run, "--json"]);
    let step = shown["steps"].as_array().unwrap().iter().find(|step| step["name"] == "stop").unwrap().clone();
    let foretold = step["foretold"].as_str().unwrap_or_else(|| panic!("{step:#}"));
    assert!(foretold.contains("sample-agent") && foretold.contains("SIGTERM"), "what it would do is shown: {foretold}");
    let pid: u32 = foretold.split("process ").nth(1).and_then(|rest| rest.split(':').next()).and_then(|pid| pid.parse().ok()).unwrap();
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists(), "the agent is a process");
    assert_eq!(approve(&home, &run, "stop"), step["hash"].as_str().unwrap());
    let state = || {
        let shown = home.json(&["run", &run, "--json"]);
        shown["steps"].as_array().unwrap().iter().find(|step| step["name"] == "stop").unwrap()["state"].as_str().unwrap().to_owned()
    };
    assert!(until(Duration::from_secs(60), || (state() == "verified").then_some(())).is_some(), "{}", state());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "the agent is gone");
    let monitored = until(WITHIN, || {
        instance
            .incidents()
            .into_iter()
            .find(|one| one["id"] == incident.as_str() && one["state"] == "monitoring" || one["state"] == "mitigated")
    });
    assert!(monitored.is_some(), "{:#?}", instance.incidents());
    // Stopped on purpose, it did not die: no other incident opens for it.
    let agents: Vec<Value> = instance.incidents().into_iter().filter(|one| one["type"] == "plugin_crash").collect();
    assert!(agents.is_empty(), "{agents:#?}");
    let record = text_of(&home.run(&["run", &run, "record"]));
    for words in ["approved by", "agent.stop", "verified"] {
        assert!(record.contains(words), "{words}: {record}");
    }
    check(&home, &[(&["journal", "verify"], 0, "the chain is whole")]);
}
