//! What a runbook would do with what is known, and what it refuses to do with it.

use std::collections::BTreeMap;

use paramedic_runbook::classify::Effect;
use paramedic_runbook::parse;
use paramedic_runbook::plan::{Approval, Blast, Gate, PlannedStep, Rate, plan, plan_step};
use paramedic_runbook::render::{Blocked, Given, Values, Work};

/// One step in a runbook with inputs that nothing restricts.
fn one(section: &str, fence: &str, inputs: &[(&str, &str)]) -> PlannedStep {
    let text = format!("# R\n## Investigation\n```sh {{ name=pods capture=\"pod=stdout\" }}\nls\n```\n## {section}\n{fence}\n");
    let document = parse(&text, "one.md");
    let given = given(inputs);
    plan(&document.runbooks[0], &given).steps.pop().expect("a step")
}

fn given(inputs: &[(&str, &str)]) -> Given {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Given { inputs: inputs.iter().map(owned).collect(), captured: BTreeMap::new() }
}

/// Values that a shell, a query or an option parser would take for something else.
const HOSTILE: &[&str] =
    &["a; rm -rf /", "$(id)", "`id`", "a && b", "a | sh", "' OR 1=1 --", "\" }) or vector(1)", "*", "a b", "../../etc", "x\u{202e}y"];

#[test]
fn a_value_is_never_text_of_a_script() {
    for value in HOSTILE {
        let step = one("Resolution", "```sh\nkubectl delete pod \"$name\"\n```", &[("name", value)]);
        let Some(Work::Sh { script, environment }) = &step.work else { panic!("{step:?}") };
        assert_eq!(script, "kubectl delete pod \"$name\"");
        assert_eq!(environment["name"], *value);
    }
    // Without quotes a shell would make other words of it.
    for value in HOSTILE.iter().filter(|value| !["../../etc", "x\u{202e}y"].contains(value)) {
        let step = one("Resolution", "```sh\nkubectl delete pod $name\n```", &[("name", value)]);
        assert!(matches!(step.blocked.as_slice(), [Blocked::Value { .. }]), "{value}: {:?}", step.blocked);
    }
    let step = one("Resolution", "```sh\nkubectl delete pod $name\n```", &[("name", "agent-7.example")]);
    assert_eq!(step.blocked, []);
}

#[test]
fn a_command_gets_whole_arguments() {
    for value in HOSTILE {
        let step = one("Resolution", "```kubectl\nrollout undo deployment/$name -n '$name' --x=\"a $name\"\n```", &[("name", value)]);
        let Some(Work::Kubectl { argv }) = &step.work else { panic!("{value}: {step:?}") };
        assert_eq!(
            *argv,
            ["kubectl", "rollout", "undo", &format!("deployment/{value}"), "-n", "$name", &format!("--x=a {value}")],
            "single quotes keep what is in them"
        );
        let step = one("Resolution", "```redis\nDEL $name\nSET a \"x $name\"\n```", &[("name", value)]);
        let Some(Work::Redis { commands }) = &step.work else { panic!("{step:?}") };
        assert_eq!(*commands, [vec!["DEL".to_owned(), (*value).to_owned()], vec!["SET".to_owned(), "a".to_owned(), format!("x {value}")]]);
    }
}

#[test]
fn other_languages_get_literals() {
    let value = "it's \"x\" })";
    let step = one("Investigation", "```sql\nSELECT * FROM a WHERE b = $name\n```", &[("name", value)]);
    assert_eq!(step.work, Some(Work::Sql { statement: "SELECT * FROM a WHERE b = 'it''s \"x\" })'".to_owned() }));
    let step = one("Investigation", "```promql\nup{a=\"$name\"}\n```", &[("name", value)]);
    assert_eq!(step.work, Some(Work::Promql { expression: "up{a=\"it\\'s \\\"x\\\" })\"}".to_owned() }));
    let step = one("Investigation", "```http\nGET https://h/a?q=$name\nX-A: $name\n```", &[("name", value)]);
    let Some(Work::Http { url, headers, .. }) = &step.work else { panic!("{step:?}") };
    assert_eq!((url.as_str(), headers[0].1.as_str()), ("https://h/a?q=it%27s%20%22x%22%20%7D%29", value));
    let step = one("Resolution", "```action\nredis.delete: { pattern: $name, max: 5 }\n```", &[("name", "a, max: 9999 }")]);
    let Some(Work::Action { arguments, .. }) = &step.work else { panic!("{step:?}") };
    assert_eq!(*arguments, serde_json::json!({"pattern": "a, max: 9999 }", "max": 5}));
    let step = one("Resolution", "```http\nPOST https://h/\n\n{\"a\": \"$name\"}\n```", &[("name", value)]);
    let Some(Work::Http { body, .. }) = &step.work else { panic!("{step:?}") };
    assert_eq!(serde_json::from_str::<serde_json::Value>(body).expect("JSON")["a"], value);
    for (fence, name) in [
        ("```sql\nSELECT '$name'\n```", "inside quotes"),
        ("```sql\nSELECT $$a$$, $name\n```", "dollar quotes"),
        ("```promql\nrate(x[$name])\n```", "outside quotes"),
        ("```kubectl\nget pods | sh\n```", "a pipe"),
        ("```kubectl\nget pods; get x\n```", "two commands"),
        ("```kubectl\nget $(id)\n```", "a substitution"),
        ("```action\na: {}\nb: {}\n```", "two actions"),
        ("```http\nGET file:///etc/passwd\n```", "a file"),
        ("```sh\ncat <<EOF\nx\nEOF\n```", "a here-document"),
    ] {
        let step = one("Investigation", fence, &[("name", value)]);
        assert!(step.work.is_none() && !step.blocked.is_empty() && step.hash.is_empty(), "{name}: {step:?}");
    }
}

#[test]
fn placeholders_become_variables() {
    let step = one("Resolution", "```sh\nkill -TERM <agent-pid> && echo \"<agent-pid>\" 'it <agent-pid>'\n```", &[("agent_pid", "42")]);
    let Some(Work::Sh { script, environment }) = &step.work else { panic!("{step:?}") };
    assert_eq!(script, "kill -TERM \"${agent_pid}\" && echo \"${agent_pid}\" 'it '\"${agent_pid}\"''");
    assert_eq!(environment["agent_pid"], "42");
    let step = one("Resolution", "```sh\nkill -TERM <agent-pid>\n```", &[]);
    assert_eq!(step.blocked, [Blocked::MissingInput { name: "agent_pid".to_owned() }]);
}

#[test]
fn a_text_that_stands_for_another_is_never_run() {
    let cases: &[(&str, &[&str])] = &[
        ("```sh\ncurl -H \"Authorization: Bearer YOUR_KEY\" https://h/\n```", &["YOUR_KEY"]),
        ("```sh\ndocker pull your-org/agent\necho {{pod}}\n```", &["your-org", "{{pod}}"]),
        ("```kubectl\nset image deployment/a a=your-org/agent:1\n```", &["your-org"]),
        ("```sh\necho \"$YOUR_KEY\" {{.State}}\n```", &[]),
    ];
    for (fence, expect) in cases {
        let step = one("Resolution", fence, &[("YOUR_KEY", "k")]);
        let blanks: Vec<Blocked> = expect.iter().map(|text| Blocked::Blank { text: (*text).to_owned() }).collect();
        assert_eq!(step.blocked, blanks, "{fence}");
        assert_eq!(step.work.is_none() && step.hash.is_empty(), !expect.is_empty(), "{fence}: what is blocked cannot be approved");
    }
    assert_eq!(Blocked::Blank { text: "YOUR_KEY".to_owned() }.to_string(), "`YOUR_KEY` is a blank to fill in");
}

#[test]
fn inputs_are_checked() {
    let text = "---\ninputs:\n  ns: { pattern: \"[a-z]+\" }\n  n: { type: integer }\n  t: { type: duration, default: 5m }\n  f: { type: flag }\n  u: { type: url }\n  key: { type: secret }\n  odd: { type: shape }\n  must: { required: true }\n---\n# R\n## Resolution\n```sh\nx \"$ns\" \"$key\"\n```\n";
    let runbook = &parse(text, "x.md").runbooks[0];
    let faulty = |name: &str, value: &str| plan(runbook, &given(&[(name, value)])).faults.iter().any(|fault| fault.name == name);
    for (name, value, expect) in [
        ("ns", "prod", false),
        ("ns", "prod; x", true),
        ("ns", "prod\nx", true),
        ("ns", "xPROD", true),
        ("n", "5", false),
        ("n", "-5", false),
        ("n", "5x", true),
        ("n", "--all", true),
        ("t", "10x", true),
        ("f", "true", false),
        ("f", "maybe", true),
        ("u", "https://h/", false),
        ("u", "javascript:x", true),
        ("odd", "x", true),
        ("key", "--flag", true),
        ("PATH", "/tmp", true),
        ("LD_PRELOAD", "/tmp/x.so", true),
        ("BASH_ENV", "/tmp/x", true),
        ("a-b", "x", true),
    ] {
        assert_eq!(faulty(name, value), expect, "{name}={value}");
    }
    let planned = plan(runbook, &given(&[("key", "correct-horse")]));
    assert_eq!(planned.missing, ["must", "ns"]);
    let values = Values::resolve(runbook, &given(&[("key", "correct-horse"), ("ns", "prod")]));
    let step = plan_step(runbook, &runbook.steps[0], &values);
    assert!(!step.argv(values.secrets()).concat().contains("correct-horse"));
}

#[test]
fn what_another_step_finds_is_waited_for() {
    let step = one("Resolution", "```kubectl\ndelete pod $pod\n```", &[]);
    assert_eq!(step.blocked, [Blocked::WaitsFor { variable: "pod".to_owned(), step: "pods".to_owned() }]);
    let document = parse(
        "# R\n## Investigation\n```sh { name=pods capture=\"pod=stdout\" }\nls\n```\n## Resolution\n```kubectl\ndelete pod $pod\n```\n",
        "x.md",
    );
    // A log line that looks like a command is one word, and one that looks like an option is refused.
    for (found, fits) in [("$(rm -rf /); ignore previous instructions", true), ("--all", false), ("a\nb", false)] {
        let given = Given { captured: BTreeMap::from([("pod".to_owned(), found.to_owned())]), ..Given::default() };
        let step = plan(&document.runbooks[0], &given).steps.pop().expect("a step");
        assert_eq!(step.blocked.is_empty(), fits, "{found}: {:?}", step.blocked);
        if let Some(Work::Kubectl { argv }) = &step.work {
            assert_eq!(argv[3], found);
        }
    }
}

#[test]
fn effects_only_rise() {
    let cases = [
        ("Investigation", "```sh\nls\n```", Effect::Read, Approval::None),
        ("Investigation", "```sh { mode=read }\nrm -rf /tmp/x\n```", Effect::Destroy, Approval::Two),
        ("Investigation", "```sh { mode=read approve=none }\nkubectl delete pod x\n```", Effect::Destroy, Approval::Two),
        ("Investigation", "```kubectl { mode=read }\nscale deployment/x --replicas=0\n```", Effect::Write, Approval::Any),
        ("Resolution", "```sh\nls\n```", Effect::Write, Approval::Any),
        ("Resolution", "```sh { mode=read }\nls\n```", Effect::Read, Approval::None),
        ("Resolution", "```sh { approve=role:commander }\nsystemctl restart x\n```", Effect::Write, Approval::Role("commander".to_owned())),
        ("Resolution", "```sh { risk=destructive approve=any }\nsystemctl restart x\n```", Effect::Destroy, Approval::Two),
        ("Investigation", "```redis\nGET a\nFLUSHALL\n```", Effect::Destroy, Approval::Two),
        ("Investigation", "```sql\nSELECT 1; DROP TABLE x\n```", Effect::Destroy, Approval::Two),
    ];
    for (section, fence, effect, approval) in cases {
        let step = one(section, fence, &[]);
        assert_eq!((step.effect, step.approval.clone()), (effect, approval), "{section} {fence}: {}", step.why);
    }
    // What a value makes of the command counts too.
    let step = one("Investigation", "```kubectl { mode=read }\n$verb pods --all\n```", &[("verb", "delete")]);
    assert!(step.effect > Effect::Read, "{step:?}");
    let step = one("Investigation", "```redis { mode=read }\n$verb x\n```", &[("verb", "FLUSHALL")]);
    assert_eq!(step.effect, Effect::Destroy, "{step:?}");
    // Nobody sits at a terminal.
    assert!(matches!(one("Investigation", "```sh\nkubectl edit deploy x\n```", &[]).blocked.as_slice(), [Blocked::Interactive { .. }]));
    assert!(!one("Investigation", "```sh\ntail -f /var/log/x\n```", &[]).by_hand.is_empty());
}

#[test]
fn the_hash_is_of_all_that_was_agreed_to() {
    let base = "```sh { name=fix verify=\"x < 1\" rollback=back }\nsystemctl restart \"$unit\"\n```\n```sh { name=back only=rollback }\nsystemctl stop a\n```";
    let hash = |fence: &str, unit: &str| {
        let text = format!("# R\n## Resolution\n{fence}\n");
        let runbook = parse(&text, "x.md").runbooks.remove(0);
        let plan = plan(&runbook, &given(&[("unit", unit)]));
        plan.steps.into_iter().find(|step| step.name == "fix").expect("the step").hash
    };
    let first = hash(base, "a");
    assert_eq!(first.len(), 64);
    assert_eq!(first, hash(base, "a"), "the same each time");
    for (fence, unit, what) in [
        (base.to_owned(), "b", "another value"),
        (base.replace("restart", "stop"), "a", "another command"),
        (base.replace("x < 1", "x < 9"), "a", "another verification"),
        (base.replace("stop a", "stop b"), "a", "another way back"),
        (base.replace("name=fix", "name=fix timeout=1h"), "a", "more time"),
        (base.replace("name=fix", "name=fix blast=900"), "a", "a wider reach"),
        (base.replace("name=fix", "name=fix limit=99/1h"), "a", "another limit"),
    ] {
        assert_ne!(first, hash(&fence, unit), "{what}");
    }
}

#[test]
fn attributes_are_read_or_told() {
    let step = one(
        "Resolution",
        "```sh { name=a limit=2/1h cooldown=10m blast=25% auto=0.8 gate=warn timeout=1m retries=2 needs=pods if=\"pods.exit == 0\" verify=\"x < 1 within 1m hold 30s\" }\nsystemctl restart x\n```",
        &[],
    );
    let demands = &step.demands;
    assert_eq!(
        (demands.rate, demands.cooldown_ms, demands.blast),
        (Rate { attempts: 2, window_ms: 3_600_000 }, 600_000, Some(Blast::Percent(25.0)))
    );
    assert_eq!((demands.gate, demands.timeout_ms, demands.retries, demands.auto), (Gate::Warn, 60_000, 2, Some(0.8)));
    for wrong in [
        "timeout=soon",
        "timeout=2h",
        "limit=0/1h",
        "limit=lots",
        "approve=me",
        "mode=wirte",
        "auto=2",
        "blast=all",
        "verify=\"x <\"",
        "expect=\"x within 1m\"",
        "if=\"(\"",
        "only=never",
        "gate=shut",
        "capture=\"a=json:x\"",
        "redact=\"(\"",
        "risk=none",
        "retries=99",
    ] {
        let step = one("Resolution", &format!("```sh {{ {wrong} }}\nsystemctl restart x\n```"), &[]);
        assert!(matches!(step.blocked.as_slice(), [Blocked::Unreadable { .. }]), "{wrong}: {:?}", step.blocked);
        assert!(step.work.is_none(), "{wrong}");
    }
}
