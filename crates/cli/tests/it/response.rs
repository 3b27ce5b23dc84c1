//! The verbs that answer incidents, against a running instance and without one.

use std::fs;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use crate::fixture::{Home, Instance, until};

/// A runbook whose fix writes a file, with a way back.
const RUNBOOK: &str = r#"---
id: queue-stuck
title: The queue is stuck
inputs:
  folder: { required: true, pattern: "^/[A-Za-z0-9/._-]+$" }
---
# The queue is stuck

## Symptoms
- [ ] Nothing leaves the queue

## Investigation
```sh { name=look timeout=5s }
ls $folder
```

### Cause: The worker is gone { #worker when="look.exit == 0" }
**Resolution:**

```sh { name=fix mode=write timeout=5s verify="look.stdout ~ 'fixed' within 5s" rollback=unfix limit=10/1h cooldown=0s }
touch $folder/fixed
```
```sh { name=unfix mode=write only=rollback timeout=5s }
mv $folder/fixed $folder/gone
```
"#;

/// A home with a team's runbook and a folder for it to work on.
struct Desk {
    home: Home,
}

impl Desk {
    fn new() -> Self {
        let home = Home::new();
        for folder in ["runbooks", "queue"] {
            fs::create_dir(home.path().join(folder)).unwrap();
        }
        fs::write(home.path().join("runbooks/queue.md"), RUNBOOK).unwrap();
        fs::write(home.path().join("paramedic.toml"), Self::settings(&home)).unwrap();
        Self { home }
    }

    fn settings(home: &Home) -> String {
        format!("[runbook]\nfolders = [{:?}]\n", home.path().join("runbooks"))
    }

    fn up(&self) -> Instance {
        self.home.up_configured(&Self::settings(&self.home))
    }

    fn folder(&self) -> String {
        format!("folder={}", self.home.path().join("queue").display())
    }

    fn fixed(&self) -> bool {
        self.home.path().join("queue/fixed").exists()
    }

    /// As somebody; nobody when the name is empty.
    fn by(&self, name: &str, arguments: &[&str]) -> Output {
        let mut command = self.home.command(arguments);
        command.env("PARAMEDIC_ACTOR", name).env("PARAMEDIC_CONFIG", self.home.path().join("paramedic.toml"));
        command.output().unwrap()
    }

    #[track_caller]
    fn done(&self, name: &str, arguments: &[&str]) -> String {
        let output = self.by(name, arguments);
        assert!(output.status.success(), "{arguments:?}: {:?} {}", output.status.code(), String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let told = self.done("ana", &[arguments, &["--json"]].concat());
        serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error} in {told}"))
    }

    /// Exit code and everything that was said.
    fn refused(&self, name: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.by(name, arguments);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout))
    }
}

#[test]
fn a_runbook_is_run_approved_and_followed_to_its_end() {
    let desk = Desk::new();
    let instance = desk.up();
    desk.done("ana", &["incident", "open", "Queue stuck", "--severity", "SEV2"]);
    let id = instance.incidents()[0]["id"].as_str().unwrap().to_owned();
    let followed = desk.by("ana", &["runbook", "run", "queue-stuck", "--set", &desk.folder(), "--incident", &id, "--watch"]);
    let told = String::from_utf8_lossy(&followed.stderr).into_owned();
    assert_eq!(followed.status.code(), Some(0), "it waits for a person: {told}");
    let shown = String::from_utf8(followed.stdout).unwrap();
    assert!(told.contains("look") && shown.contains("next for a person") && shown.contains("paramedic approve RUN-"), "{told}\n{shown}");
    assert!(!desk.fixed());
    let runs = desk.json(&["runs", "--open", "--incident", &id]);
    let run = runs["runs"][0]["id"].as_str().unwrap().to_owned();
    let waiting = desk.json(&["approvals"]);
    assert_eq!(waiting["waiting"][0]["step"]["name"], "fix", "{waiting:#}");
    assert!(desk.done("ana", &["approvals"]).contains("touch $folder/fixed"));

    let (code, told) = desk.refused("ana", &["approve", &run, "fix"]);
    let hash = waiting["waiting"][0]["step"]["hash"].as_str().unwrap();
    assert_eq!(code, Some(6), "{told}");
    assert!(told.contains(&format!("paramedic approve {run} fix {hash}")) && told.contains("touch"), "what would run is shown: {told}");
    for nobody in ["", "http", "anonymous"] {
        let (code, told) = desk.refused(nobody, &["approve", &run, "fix", hash]);
        assert_eq!(code, Some(6), "{nobody:?}: {told}");
        assert!(told.contains("PARAMEDIC_ACTOR"), "{told}");
    }
    let (code, told) = desk.refused("ana", &["approve", &run, "fix", &"0".repeat(64)]);
    assert!(code == Some(6) && told.contains(hash), "another hash is told: {told}");
    assert!(!desk.fixed());
    let ended = desk.by("ben", &["approve", &run, "fix", hash, "--watch"]);
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(desk.fixed() && String::from_utf8_lossy(&ended.stdout).contains("done"));
    let record = desk.done("ana", &["run", &run, "record"]);
    assert!(record.contains("fix approved by ben") && record.contains("fix verified"), "{record}");
    let shown = desk.done("ana", &["incident", &id]);
    assert!(shown.contains("Runs") && shown.contains("fix begun, approved by ben"), "{shown}");
    let (code, told) = desk.refused("ana", &["run", "99"]);
    assert_eq!(code, Some(4), "{told}");
    assert_eq!(desk.refused("ana", &["runbook", "run", "nothing"]).0, Some(4));
}

#[test]
fn yes_approves_step_by_step_and_a_failed_fix_is_taken_back() {
    let desk = Desk::new();
    let broken = RUNBOOK.replace("look.stdout ~ 'fixed' within 5s", "look.stdout ~ 'never' within 1s");
    fs::write(desk.home.path().join("runbooks/queue.md"), broken).unwrap();
    let _instance = desk.up();
    let output = desk.by("ana", &["runbook", "run", "queue-stuck", "--set", &desk.folder(), "--yes"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(5), "taken back: {told}\n{}", String::from_utf8_lossy(&output.stdout));
    assert!(told.contains("approving fix as it stands"), "{told}");
    assert!(!desk.fixed() && desk.home.path().join("queue/gone").exists());
}

#[test]
fn the_brake_works_with_an_instance_and_without_one() {
    let desk = Desk::new();
    let file = desk.home.data().join("BRAKE");
    let stopped = desk.json(&["brake", "on", "--everything", "--why", "smoke"]);
    assert_eq!((&stopped["stopped"], &stopped["running"]), (&"everything".into(), &false.into()));
    let content = fs::read_to_string(&file).unwrap();
    assert!(content.starts_with("everything") && content.contains("by: ana") && content.contains("why: smoke"), "{content}");
    desk.done("ana", &["brake", "on"]);
    assert!(fs::read_to_string(&file).unwrap().starts_with("everything"), "less does not lift more");
    let instance = desk.up();
    let status = desk.json(&["brake"]);
    assert_eq!((&status["stopped"], &status["stopped_by_file"]), (&"everything".into(), &true.into()), "the file is obeyed");
    assert_eq!(desk.refused("ana", &["action", "plan", "flag.read", "--set", "flag=x"]).0, Some(6));
    let status = desk.json(&["brake", "off", "--why", "no fire"]);
    assert_eq!((&status["stopped"], file.exists()), (&"nothing".into(), false));
    let status = desk.json(&["brake", "on", "--why", "careful"]);
    assert_eq!((&status["stopped"], &status["stopped_note"]["by"], file.exists()), (&"writes".into(), &"ana".into(), false));
    let (code, told) = desk.refused("http", &["brake", "off"]);
    assert_eq!(code, Some(6), "{told}");
    assert!(desk.done("ana", &["brake", "status"]).contains("set by ana"));
    assert_eq!(instance.stop(), Some(0));
    let instance = desk.up();
    assert_eq!(desk.json(&["brake", "status"])["stopped"], "writes", "it survives a restart");
    desk.done("ana", &["brake", "off"]);
    drop(instance);
    assert_eq!(desk.refused("ana", &["brake", "off"]).0, Some(3), "nothing runs, and there is no file");
}

#[test]
fn actions_flags_and_switches_are_set_by_hand() {
    let desk = Desk::new();
    let _instance = desk.up();
    assert!(desk.done("ana", &["action", "list", "flag."]).contains("flag.disable"));
    assert!(desk.done("ana", &["action", "show", "flag.disable"]).contains("ttl"));
    assert_eq!(desk.refused("ana", &["action", "show", "nothing"]).0, Some(4));
    let plan = desk.json(&["action", "plan", "flag.disable", "--set", "flag=search"]);
    assert_eq!(plan["plan"]["affected"], 1, "{plan:#}");
    assert_eq!(desk.refused("ana", &["flag", "show", "search"]).0, Some(4), "a plan changes nothing");
    let waits = desk.done("ana", &["action", "run", "flag.disable", "--set", "flag=search", "--why", "slow"]);
    assert!(waits.contains("waits: paramedic approve RUN-1 act "), "{waits}");
    assert_eq!(desk.refused("ana", &["flag", "show", "search"]).0, Some(4), "it waits");
    let ended = desk.by("ana", &["action", "run", "flag.disable", "--set", "flag=search", "--why", "slow", "--yes"]);
    assert_eq!(ended.status.code(), Some(0), "{}\n{}", String::from_utf8_lossy(&ended.stderr), String::from_utf8_lossy(&ended.stdout));
    assert!(desk.done("ana", &["flag", "show", "search"]).contains("search is off"));
    desk.done("ana", &["flag", "set", "search", "on", "--why", "again"]);
    desk.done("ana", &["flag", "disable", "other", "--ttl", "30m"]);
    let flags = desk.json(&["flag", "list"]);
    assert_eq!((&flags["flags"][0]["enabled"], &flags["flags"][1]["enabled"]), (&false.into(), &true.into()), "{flags:#}");
    desk.done("ana", &["switch", "set", "rate_limit_per_minute", "30", "--ttl", "30m", "--scope", "user:bo", "--why", "too many"]);
    assert!(desk.done("ana", &["switch", "list"]).contains("rate_limit_per_minute@user:bo = 30"));
    desk.done("ana", &["switch", "clear", "rate_limit_per_minute@user:bo"]);
    let (code, told) = desk.refused("ana", &["switch", "set", "nonsense", "1", "--ttl", "1m"]);
    assert!(code == Some(1) && told.contains("fast_fail"), "{told}");
    assert_eq!(desk.refused("ana", &["flag", "set", "search", "maybe"]).0, Some(2));
    assert_eq!(desk.refused("ana", &["action", "plan", "flag.read", "--set", "flag"]).0, Some(1));
}

#[test]
fn switches_and_budgets_are_set_as_people_say_it() {
    let desk = Desk::new();
    assert!(desk.done("ana", &["switch", "known"]).contains("ENABLE_DEGRADED_MODE"), "no instance is needed");
    assert_eq!(desk.json(&["switch", "known"])["known"][0]["name"], "blocked");
    let (code, told) = desk.refused("ana", &["switch", "set", "fast_fail", "true"]);
    assert!(code == Some(2) && told.contains("paramedic switch set fast_fail true --for 30m"), "{told}");
    let _instance = desk.up();
    let set = ["switch", "set", "RATE_LIMIT_PER_USER", "20", "--scope", "user=u-42", "--for", "30m", "--reason", "a loop"];
    let said = desk.done("ana", &set);
    assert!(
        said.starts_with("RATE_LIMIT_PER_USER is the switch rate_limit_per_user\nrate_limit_per_user@user:u-42 = 20 until 2"),
        "{said}"
    );
    assert!(said.ends_with("by ana: a loop\n"), "{said}");
    assert!(desk.done("ana", &["switch", "set", "fast_fail", "on", "--for", "1h"]).contains("fast_fail@all = true"));
    assert!(desk.done("ana", &["switch", "set", "budget_action", "pause", "--for", "1h"]).contains("budget_action@all = pause until 2"));
    assert!(
        desk.done("ana", &["budget", "set", "$20", "--per", "day"]).starts_with("daily_budget_dollars@all = 20 until it is cleared, by")
    );
    desk.done("ana", &["budget", "set", "2.50", "--per", "month", "--scope", "team=search", "--for", "48h", "--reason", "a trial"]);
    let stands = desk.done("ana", &["flag", "enable", "ENABLE_DEGRADED_MODE"]);
    assert!(stands.contains("takes it for the switch degraded_mode = true"), "{stands}");
    let list = desk.done("ana", &["switch", "list"]);
    for words in ["degraded_mode@all = true until its flag changes, by flag", "monthly_budget_dollars@team:search = 2.5 until 2"] {
        assert!(list.contains(words), "{words}: {list}");
    }
    let held = desk.json(&["switch", "list"]);
    assert_eq!(held["switches"].as_array().unwrap().len(), 6, "{held:#}");
    for (wrong, code, words) in [
        (&["switch", "clear", "degraded_mode"][..], 6, "ENABLE_DEGRADED_MODE"),
        (&["switch", "clear", "max_input_bytes"], 4, "it is not set"),
        (&["switch", "clear", "RATE_LIMIT_PER_USER"], 4, "set only for user:u-42"),
        (&["switch", "clear", "fast_fail", "--scope", "user=u-42"], 4, "fast_fail@user:u-42"),
        (&["switch", "set", "fast_fail", "true", "--for", "25h"], 1, "at most 24 h"),
        (&["switch", "set", "fast_fail", "true", "--for", "soon"], 1, "is not a duration"),
        (&["switch", "set", "fast_fail", "7", "--for", "1h"], 1, "true or false"),
        (&["switch", "set", "fast_fail", "true", "--for", "1h", "--scope", "group=x"], 1, "user, team"),
        (&["budget", "set", "much", "--per", "day"], 1, "daily_budget_dollars"),
        (&["budget", "set", "20"], 2, "--per"),
        (&["budget", "set", "20", "--per", "year"], 2, "month"),
    ] {
        let (exit, told) = desk.refused("ana", wrong);
        assert!(exit == Some(code) && told.contains(words), "{wrong:?}: {exit:?} {told}");
    }
    desk.done("ana", &["switch", "clear", "RATE_LIMIT_PER_USER", "--scope", "user=u-42", "--reason", "over"]);
    desk.done("ana", &["switch", "clear", "fast_fail"]);
    desk.done("ana", &["budget", "clear", "--per", "month", "--scope", "team:search"]);
    desk.done("ana", &["budget", "clear", "--per", "day"]);
    let held = desk.json(&["switch", "list"]);
    assert_eq!(held["switches"].as_array().unwrap().len(), 2, "{held:#}");
}

#[test]
fn an_incident_is_led_by_its_verbs() {
    let desk = Desk::new();
    let _instance = desk.up();
    desk.done("ana", &["incident", "open", "Practice", "--drill", "--severity", "SEV2"]);
    desk.done("ana", &["incident", "1", "ack"]);
    desk.done("ana", &["incident", "1", "role", "communications=lee", "responder=max"]);
    desk.done("ana", &["incident", "1", "hand-over", "commander", "ben", "--note", "lunch"]);
    desk.done("ana", &["incident", "1", "release", "responder", "max"]);
    desk.done("ben", &["incident", "1", "tick", "symptoms"]);
    let checklist = desk.done("ben", &["incident", "1", "checklist"]);
    assert!(
        checklist.contains("[x] symptoms") && checklist.contains("ticked by ben") && checklist.contains("[x] acknowledged"),
        "{checklist}"
    );
    let log = desk.home.path().join("worker.log");
    fs::write(&log, "first\nsecond\n").unwrap();
    desk.done("ben", &["incident", "1", "attach", log.to_str().unwrap(), "--source", "journalctl"]);
    assert_eq!(desk.done("ben", &["incident", "1", "evidence", "worker.log"]), "first\nsecond\n");
    desk.done("ben", &["incident", "1", "back-date", "started", "10m", "--reason", "the first call"]);
    let shown = desk.done("ben", &["incident", "1"]);
    for words in ["commander ben", "communications lee", "lunch", "worker.log", "the first call"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    desk.done("ben", &["incident", "1", "resolve"]);
    desk.done("ben", &["incident", "1", "close"]);
    assert!(desk.done("ben", &["incidents", "--statistics"]).contains("0 incidents"), "drills do not count");
    for (wrong, code) in [
        (&["incident", "1", "role", "king=ana"][..], 1),
        (&["incident", "1", "tick", "nonsense"], 1),
        (&["incident", "9", "checklist"], 4),
        (&["incident", "1", "attach", "/nowhere"], 4),
    ] {
        assert_eq!(desk.refused("ben", wrong).0, Some(code), "{wrong:?}");
    }
}

#[test]
fn runbooks_are_listed_planned_rehearsed_and_imported_without_an_instance() {
    let desk = Desk::new();
    let list = desk.json(&["runbook", "list"]);
    let ids: Vec<&str> = list["runbooks"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert!(ids.contains(&"queue-stuck") && ids.contains(&"rate-limits"), "{ids:?}");
    assert!(desk.done("ana", &["runbook", "show", "queue-stuck"]).contains("WRITES"));
    let plan = desk.done("ana", &["runbook", "plan", "queue-stuck", "--set", &desk.folder()]);
    assert!(plan.contains("touch $folder/fixed") && plan.contains("undone by unfix"), "{plan}");
    assert!(desk.done("ana", &["runbook", "plan", "queue-stuck"]).contains("missing inputs: folder"));
    let fixture = desk.home.path().join("fixture.yaml");
    let steps = "steps: { look: [{ exit: 0 }, { exit: 0, stdout: fixed }], fix: [{ exit: 0 }] }\nchoose: [fix]\n";
    fs::write(&fixture, format!("inputs: {{ folder: /tmp/q }}\n{steps}expect: {{ cause: worker, ending: done }}\n")).unwrap();
    let arguments = ["runbook", "test", "queue-stuck", "--fixture", fixture.to_str().unwrap()];
    assert!(desk.done("ana", &arguments).contains("look, fix"));
    fs::write(&fixture, format!("inputs: {{ folder: /tmp/q }}\n{steps}expect: {{ ending: stopped }}\n")).unwrap();
    assert_eq!(desk.refused("ana", &arguments).0, Some(5));
    let plain = desk.home.path().join("plain.md");
    fs::write(&plain, "# Full disk\n\n## Investigation\n\n```bash\ndf -h\ntail -f /var/log/syslog\n```\n").unwrap();
    let imported = desk.home.path().join("imported.md");
    let difference = desk.done("ana", &["runbook", "import", plain.to_str().unwrap(), "--out", imported.to_str().unwrap(), "--diff"]);
    assert!(difference.contains("\n+") && fs::read_to_string(&imported).unwrap().starts_with("---"), "{difference}");
    desk.done("ana", &["runbook", "show", imported.to_str().unwrap()]);
    let (code, told) = desk.refused("ana", &["runbook", "run", plain.to_str().unwrap()]);
    assert!(code == Some(3) && told.contains("runs need a running instance"), "{told}");
    assert_eq!(desk.refused("ana", &["runbook", "show", "nothing"]).0, Some(4));
    for verb in [&["runs"][..], &["approvals"], &["action", "list"], &["switch", "list"], &["flag", "list"], &["approve", "1", "fix", "x"]]
    {
        assert_eq!(desk.refused("ana", verb).0, Some(3), "{verb:?}");
    }
}

#[test]
fn lint_knows_actions_alerts_and_with_an_instance_samples() {
    let desk = Desk::new();
    let file = desk.home.path().join("runbooks/queue.md");
    let action = "```action { name=act mode=write }\nflag.explode: { flag: x }\n```\n";
    let query = "```promql { name=ask mode=read }\nnobody_measures_this\n```\n";
    fs::write(&file, format!("{RUNBOOK}{action}{query}")).unwrap();
    let lint = ["runbook", "lint", file.to_str().unwrap()];
    let (code, told) = desk.refused("ana", &lint);
    assert!(code == Some(5) && told.contains("there is no action flag.explode"), "{told}");
    assert!(!told.contains("[unknown-metric]"), "what nobody told is not judged: {told}");
    let _instance = desk.up();
    let found = until(Duration::from_secs(10), || {
        let (code, told) = desk.refused("ana", &lint);
        (code == Some(5) && told.contains("[unknown-metric]") && told.contains("flag.explode")).then_some(told)
    });
    assert!(found.is_some(), "{:?}", desk.refused("ana", &lint));
}

/// What pages somebody says what to do.
#[test]
fn lint_names_each_alert_without_a_runbook() {
    let desk = Desk::new();
    let rules = desk.home.path().join("rules.yml");
    let rule = |alert: &str, more: &str| format!("      - alert: {alert}\n        expr: up == 0\n{more}");
    let text = format!(
        "groups:\n  - name: own\n    rules:\n{}{}{}{}",
        rule("TimeoutSpike", ""),
        rule("Elsewhere", "        annotations: { runbook_url: \"https://wiki.example/elsewhere\" }\n"),
        rule("NobodyKnows", ""),
        rule("Dangling", "        annotations: { runbook: no-such-book }\n"),
    );
    fs::write(&rules, text).unwrap();
    let rules = rules.to_str().unwrap();
    let (code, told) = desk.refused("ana", &["runbook", "lint", "--alerts", rules]);
    assert_eq!(code, Some(5), "{told}");
    assert!(told.contains("rules.yml:9: error: nobody who is paged") && told.contains("NobodyKnows"), "{told}");
    assert!(told.contains("rules.yml:11: error: it names the runbook no-such-book") && told.contains("Dangling"), "{told}");
    assert!(!told.contains("TimeoutSpike") && !told.contains("Elsewhere"), "{told}");
    // A runbook beside them that answers is enough, and the rules of the settings are answered by the library.
    let own = desk.home.path().join("own.md");
    fs::write(&own, "---\nid: no-such-book\nmatch: { alerts: [NobodyKnows] }\n---\n# Own\n## Investigation\n```sh\nuptime\n```\n").unwrap();
    desk.done("ana", &["runbook", "lint", own.to_str().unwrap(), "--alerts", rules]);
    desk.done("ana", &["runbook", "lint", "--alerts"]);
}
