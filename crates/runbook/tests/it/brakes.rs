//! Attempts to get something done that must not be done.

use std::time::Duration;

use paramedic_model::Timestamp;
use paramedic_runbook::brake::{Brakes, Fleet, Moment, Note, Stopped};
use paramedic_runbook::gate::{Agreed, Authority, Count, Decision, Mode, Person, Policy, Request, admit, decide};
use paramedic_runbook::parse;
use paramedic_runbook::plan::{Approval, PlannedStep, Rate, plan};
use paramedic_runbook::render::Given;

const RESTART: &str = "systemctl restart agent";

fn step_of(attributes: &str, command: &str) -> PlannedStep {
    let text = format!("# R\n## Resolution\n### Cause: Slow {{ #slow }}\n```sh {{ name=fix {attributes} }}\n{command}\n```\n");
    let runbook = parse(&text, "r.md").runbooks.remove(0);
    let step = plan(&runbook, &Given::default()).steps.remove(0);
    assert_eq!(step.blocked, []);
    step
}

fn automatic() -> PlannedStep {
    step_of("auto=0.8 verify=\"x < 1 within 5m\" limit=99/1h cooldown=0s", RESTART)
}

fn at(seconds: u64) -> Moment {
    Moment {
        wall: Timestamp::from_secs(1_800_000_000 + i64::try_from(seconds).expect("small")),
        uptime_ms: 1_000_000 + seconds * 1000,
        boot: "one".to_owned(),
    }
}

fn brakes(fleet: u32) -> Brakes {
    let mut brakes = Brakes::new(fleet);
    brakes.observe(&at(0));
    brakes
}

fn request(step: &PlannedStep) -> Request<'_> {
    Request {
        run: "run-1",
        runbook: "r",
        runs: None,
        step,
        mode: Mode::Step,
        target: "agent-7",
        started_by: None,
        agreed: &[],
        cause: None,
        policies: &[],
        count: None,
        journal_ready: true,
        rollback_of: None,
    }
}

fn agreed(step: &PlannedStep, name: &str) -> Agreed {
    Agreed { by: Person::human(name), run: "run-1".to_owned(), step: step.name.clone(), hash: step.hash.clone(), at_ms: 0, used: false }
}

fn policy() -> Policy {
    Policy {
        name: "slow-agents".to_owned(),
        runbook: "r".to_owned(),
        cause: "slow".to_owned(),
        steps: Vec::new(),
        score_min: 0.5,
        attempts_per_hour: 50,
        affected_max: 1,
    }
}

fn count(step: &PlannedStep, affected: u64, of: Option<u64>) -> Count {
    Count { hash: step.hash.clone(), affected, of, at_ms: 0 }
}

fn runs(decision: &Decision) -> bool {
    matches!(decision, Decision::Run { .. })
}

#[test]
fn looking_needs_nobody_and_changing_needs_somebody() {
    let brakes = brakes(10);
    let read = step_of("mode=read", "ls");
    assert_eq!(decide(&brakes, &request(&read)), Decision::Run { authority: Authority::Reading, reason: "it only looks".to_owned() });
    let write = step_of("", RESTART);
    let asked = decide(&brakes, &request(&write));
    assert_eq!(asked, Decision::Ask { needs: Approval::Any, missing: 1, reason: "somebody has to agree".to_owned() });
    let yes = [agreed(&write, "alice")];
    assert!(runs(&decide(&brakes, &Request { agreed: &yes, ..request(&write) })));
    for (mode, expect) in
        [(Mode::Plan, "a plan runs nothing"), (Mode::Dry, "it would change something: `systemctl restart` acts on a service")]
    {
        let decision = decide(&brakes, &Request { mode, agreed: &yes, ..request(&write) });
        assert!(!runs(&decision), "{decision:?}");
        if mode == Mode::Plan {
            assert_eq!(decision.reason(), expect);
        }
    }
}

#[test]
fn an_edited_step_is_not_what_was_agreed_to() {
    let brakes = brakes(10);
    let (shown, edited) = (step_of("", RESTART), step_of("", "systemctl stop agent"));
    let yes = [agreed(&shown, "alice")];
    let decision = decide(&brakes, &Request { agreed: &yes, ..request(&edited) });
    assert_eq!(decision.reason(), "somebody has to agree; what was agreed to has changed since");
    assert!(runs(&decide(&brakes, &Request { agreed: &yes, ..request(&shown) })));
}

#[test]
fn an_agreement_is_for_one_run_one_step_one_attempt_and_not_for_ever() {
    let mut brakes = brakes(10);
    let step = step_of("cooldown=0s", RESTART);
    let good = agreed(&step, "alice");
    let machine = Person { machine: true, ..Person::human("key-7") };
    for (what, wrong) in [
        ("another run", Agreed { run: "run-2".to_owned(), ..good.clone() }),
        ("another step", Agreed { step: "other".to_owned(), ..good.clone() }),
        ("used", Agreed { used: true, ..good.clone() }),
        ("no hash", Agreed { hash: String::new(), ..good.clone() }),
        ("from the future", Agreed { at_ms: 1, ..good.clone() }),
        ("a machine", Agreed { by: machine, ..good.clone() }),
        ("a policy that calls itself a person", Agreed { by: Person::human("Policy:x"), ..good.clone() }),
        ("an agent", Agreed { by: Person::human("agent:42"), ..good.clone() }),
        ("nobody", Agreed { by: Person::human("  "), ..good.clone() }),
    ] {
        let all = [wrong];
        assert!(!runs(&decide(&brakes, &Request { agreed: &all, ..request(&step) })), "{what}");
    }
    let all = [good];
    brakes.observe(&at(29 * 60));
    assert!(runs(&decide(&brakes, &Request { agreed: &all, ..request(&step) })));
    brakes.observe(&at(31 * 60));
    assert!(!runs(&decide(&brakes, &Request { agreed: &all, ..request(&step) })), "half an hour ago is too long ago");
}

#[test]
fn two_people_are_two_people() {
    let brakes = brakes(10);
    let step = step_of("", "rm -rf /var/lib/agent/cache");
    assert_eq!(step.approval, Approval::Two);
    let counted = count(&step, 1, None);
    let with = |names: &[&str]| {
        let all: Vec<Agreed> = names.iter().map(|name| agreed(&step, name)).collect();
        decide(&brakes, &Request { agreed: &all, count: Some(&counted), ..request(&step) })
    };
    for one in [
        &["alice"][..],
        &["alice", "alice"],
        &["alice", "Alice"],
        &["alice", " alice "],
        &["alice", "@alice"],
        &["alice", "ali\u{200b}ce"],
        &["alice@example.org", "alice+2@example.org"],
        &["alice", "alice@example.org"],
        &["alice", "alice+2"],
        &["alice@laptop", "alice@desktop"],
        &["alice smith", "alice.smith", "Alice_Smith@example.org"],
        &["alice", "\u{430}lice"],
        &["alice", "\u{ff41}lice"],
        &["alice", "alice,bob"],
        &["alice", "alice;x"],
        &["alice", "policy\u{ff1a}x"],
        &["alice", "\u{440}aramedic"],
        &["alice", "system"],
        &["alice", "policy:x"],
        &["alice", ""],
    ] {
        let decision = with(one);
        assert!(matches!(decision, Decision::Ask { missing: 1, .. }), "{one:?}: {decision:?}");
    }
    assert!(runs(&with(&["alice", "bob"])));
    assert!(runs(&with(&["alice@example.org", "bob@example.org"])));
    // Whoever starts it does not count as a second word, and being first to press does not skip the count.
    let first = [agreed(&step, "alice")];
    let starter = Person::human("bob");
    let decision = decide(&brakes, &Request { agreed: &first, started_by: Some(&starter), count: Some(&counted), ..request(&step) });
    assert!(!runs(&decision), "{decision:?}");
}

#[test]
fn a_role_is_had_by_a_person() {
    let brakes = brakes(10);
    let step = step_of("approve=role:commander", RESTART);
    let by = |person: Person| {
        let all = [Agreed { by: person, ..agreed(&step, "x") }];
        runs(&decide(&brakes, &Request { agreed: &all, ..request(&step) }))
    };
    let with = |name: &str, role: &str, machine: bool| Person { name: name.to_owned(), roles: vec![role.to_owned()], machine };
    assert!(by(with("alice", "Commander", false)));
    assert!(!by(with("alice", "scribe", false)));
    assert!(!by(with("key", "commander", true)));
    assert!(!by(Person::human("commander")));
}

fn unattended<'a>(step: &'a PlannedStep, policies: &'a [Policy], counted: &'a Count) -> Request<'a> {
    Request { mode: Mode::Auto, cause: Some(("slow", 0.9)), policies, count: Some(counted), ..request(step) }
}

#[test]
fn unattended_needs_all_that_a_policy_says() {
    let brakes = brakes(10);
    let step = automatic();
    let counted = count(&step, 1, None);
    let all = [policy()];
    let good = unattended(&step, &all, &counted);
    let decision = decide(&brakes, &good);
    assert_eq!(decision.reason(), "the policy slow-agents allows it: slow scores 0.90, 1 touched");
    let not = |what: &str, request: Request<'_>, why: &str| {
        let decision = decide(&brakes, &request);
        assert!(!runs(&decision) && decision.reason().contains(why), "{what}: {decision:?}");
    };
    not("no policy", Request { policies: &[], ..good.clone() }, "no policy names the cause slow");
    not("another mode", Request { mode: Mode::Step, ..good.clone() }, "somebody has to agree");
    not("no cause", Request { cause: None, ..good.clone() }, "no cause is known");
    not("a low score", Request { cause: Some(("slow", 0.79)), ..good.clone() }, "below 0.80");
    not("no score", Request { cause: Some(("slow", f64::NAN)), ..good.clone() }, "below 0.80");
    not("another cause", Request { cause: Some(("other", 1.0)), ..good.clone() }, "another cause");
    not("nothing counted", Request { count: None, ..good.clone() }, "counted first");
    let other = Count { hash: "0".repeat(64), ..counted.clone() };
    not("something else counted", Request { count: Some(&other), ..good.clone() }, "counted first");
    let many = Count { affected: 2, ..counted.clone() };
    not("too much", Request { count: Some(&many), ..good.clone() }, "it would touch 2; 1 or 25 % is allowed");
    for (what, wrong, why) in [
        ("a higher score", Policy { score_min: 0.95, ..policy() }, "below 0.95"),
        ("another runbook", Policy { runbook: "other".to_owned(), ..policy() }, "no policy"),
        ("another step", Policy { steps: vec!["other".to_owned()], ..policy() }, "no policy"),
        ("no attempt", Policy { attempts_per_hour: 0, ..policy() }, "allows no attempt"),
        ("touching nothing", Policy { affected_max: 0, ..policy() }, "the policy allows 0"),
        ("a score that is none", Policy { score_min: f64::NAN, ..policy() }, "names no score"),
    ] {
        let all = [wrong];
        let decision = decide(&brakes, &Request { policies: &all, ..good.clone() });
        assert!(!runs(&decision) && decision.reason().contains(why), "{what}: {decision:?}");
    }
    for (attributes, command, why) in [
        ("verify=\"x < 1\"", RESTART, "the runbook does not say `auto`"),
        ("auto=0.8", RESTART, "nothing verifies it"),
        ("auto=0.8 verify=\"x < 1\" approve=none", "rm -rf /var/lib/x", "cannot be had back"),
    ] {
        let step = step_of(attributes, command);
        let counted = count(&step, 1, None);
        let decision = decide(&brakes, &unattended(&step, &all, &counted));
        assert!(!runs(&decision) && decision.reason().contains(why), "{attributes}: {decision:?}");
    }
}

#[test]
fn a_hundred_incidents_at_once_stop_at_the_limit() {
    let mut brakes = brakes(10);
    let step = automatic();
    let counted = count(&step, 1, None);
    let all = [policy()];
    let mut let_through = 0;
    for i in 0..100 {
        let (run, target) = (format!("run-{i}"), format!("agent-{i}"));
        let request = Request { run: &run, target: &target, ..unattended(&step, &all, &counted) };
        let_through += usize::from(runs(&admit(&mut brakes, &request)));
    }
    assert_eq!(let_through, 10);
    assert!(matches!(brakes.view().fleet, Fleet::Tripped { attempts: 10, .. }));
    // The hour passes, the brake stays: a person has to release it.
    brakes.observe(&at(3 * 3600));
    let late = Count { at_ms: brakes.clock_ms(), ..counted.clone() };
    let decision = admit(&mut brakes, &unattended(&step, &all, &late));
    assert!(decision.reason().contains("a person must release it"), "{decision:?}");
    // What a person agrees to still runs.
    let yes = [Agreed { at_ms: brakes.clock_ms(), ..agreed(&step, "alice") }];
    assert!(runs(&admit(&mut brakes, &Request { agreed: &yes, ..unattended(&step, &all, &late) })));
    let note = |by: &str| Note { by: by.to_owned(), why: "looked at it".to_owned(), at: Timestamp::EPOCH };
    for nobody in ["", "system", "policy:slow-agents", "agent:7"] {
        assert!(brakes.release(note(nobody)).is_err(), "{nobody}");
    }
    brakes.release(note("alice")).expect("a person");
    assert!(runs(&admit(&mut brakes, &Request { run: "later", target: "agent-500", ..unattended(&step, &all, &late) })));
    assert_eq!(brakes.unattended_last_hour(), 1);
}

#[test]
fn attempts_count_whatever_became_of_them() {
    let mut brakes = brakes(10);
    let step = step_of("limit=2/1h cooldown=5m", RESTART);
    let yes = [agreed(&step, "alice")];
    let good = Request { agreed: &yes, ..request(&step) };
    assert!(runs(&admit(&mut brakes, &good)));
    brakes.observe(&at(60));
    assert_eq!(decide(&brakes, &good), Decision::Wait { ms: 240_000, reason: "agent-7 was tried 60 s ago; it rests 300 s".to_owned() });
    assert!(runs(&decide(&brakes, &Request { target: "agent-8", ..good.clone() })), "limits are for each target");
    brakes.observe(&at(301));
    assert!(runs(&admit(&mut brakes, &good)));
    brakes.observe(&at(1_000));
    assert_eq!(decide(&brakes, &good).reason(), "2 attempts on agent-7 in the last 3600 s; the limit is 2");
    let runs_limit = Request { run: "run-9", target: "agent-9", runs: Some(Rate { attempts: 1, window_ms: 3_600_000 }), ..good.clone() };
    assert!(decide(&brakes, &runs_limit).reason().contains("runs of r changed something"));
}

#[test]
fn a_lock_is_held_by_one_run() {
    let mut brakes = brakes(10);
    let step = step_of("lock=database cooldown=0s", RESTART);
    let yes = [agreed(&step, "alice"), Agreed { run: "run-2".to_owned(), ..agreed(&step, "alice") }];
    let good = Request { agreed: &yes, ..request(&step) };
    assert!(runs(&admit(&mut brakes, &good)));
    let other = Request { run: "run-2", target: "agent-8", ..good.clone() };
    assert_eq!(admit(&mut brakes, &other).reason(), "database is held by the run run-1");
    // Also for what takes a step back, and also when nobody ended the run for days.
    brakes.observe(&at(3 * 24 * 3600));
    assert!(!runs(&admit(&mut brakes, &Request { rollback_of: Some("x"), ..other.clone() })));
    brakes.end_run("run-1");
    brakes.observe(&at(3 * 24 * 3600 + 1));
    assert_eq!(brakes.held_by("database", "run-2"), None);
}

#[test]
fn a_reach_is_counted_before_and_kept() {
    let brakes = brakes(10);
    let yes = |step: &PlannedStep| [agreed(step, "alice"), agreed(step, "bob")];
    let with = |attributes: &str, affected: u64, of: Option<u64>| {
        let step = step_of(attributes, RESTART);
        let (all, counted) = (yes(&step), count(&step, affected, of));
        decide(&brakes, &Request { agreed: &all, count: Some(&counted), ..request(&step) })
    };
    for (attributes, affected, of, expect) in [
        ("", 1, None, true),
        ("", 2, None, false),
        ("", 2, Some(8), true),
        ("", 3, Some(8), false),
        ("blast=5", 5, None, true),
        ("blast=5", 6, Some(1000), false),
        ("blast=10%", 10, Some(100), true),
        ("blast=10%", 11, Some(100), false),
        ("blast=10%", 1, None, false),
        ("blast=10%", 1, Some(0), false),
    ] {
        let decision = with(attributes, affected, of);
        assert_eq!(runs(&decision), expect, "{attributes} {affected} {of:?}: {decision:?}");
    }
    for (attributes, command) in [("blast=5", RESTART), ("", "rm -rf /var/lib/x")] {
        let step = step_of(attributes, command);
        let all = yes(&step);
        assert!(matches!(decide(&brakes, &Request { agreed: &all, ..request(&step) }), Decision::DryRun { .. }), "{command}");
        let mut later = brakes.clone();
        later.observe(&at(601));
        let (fresh, old) =
            (count(&step, 1, None), [Agreed { at_ms: 601_000, ..all[0].clone() }, Agreed { at_ms: 601_000, ..all[1].clone() }]);
        let decision = decide(&later, &Request { agreed: &old, count: Some(&fresh), ..request(&step) });
        assert!(matches!(decision, Decision::DryRun { .. }), "a count is old after ten minutes: {decision:?}");
    }
}

#[test]
fn the_kill_switch_stops_people_too_and_survives_a_restart() {
    let mut brakes = brakes(10);
    let (read, write) = (step_of("mode=read", "ls"), step_of("", RESTART));
    let yes = [agreed(&write, "alice")];
    let note = Note { by: "bob".to_owned(), why: "hands off".to_owned(), at: Timestamp::EPOCH };
    brakes.stop(Stopped::Writes, note.clone());
    let stored = serde_json::to_string(&brakes).expect("writes");
    let brakes: Brakes = serde_json::from_str(&stored).expect("reads");
    let writing = Request { agreed: &yes, ..request(&write) };
    assert_eq!(decide(&brakes, &writing).reason(), "changes are stopped by the kill switch");
    assert!(!runs(&decide(&brakes, &Request { rollback_of: Some("x"), ..writing.clone() })));
    assert!(runs(&decide(&brakes, &request(&read))));
    let mut brakes = brakes;
    brakes.stop(Stopped::Everything, note);
    assert_eq!(decide(&brakes, &request(&read)).reason(), "everything is stopped by the kill switch");
}

#[test]
fn nothing_runs_that_cannot_be_written_down() {
    let brakes = brakes(10);
    for step in [step_of("mode=read", "ls"), step_of("", RESTART)] {
        let yes = [agreed(&step, "alice")];
        let decision = decide(&brakes, &Request { agreed: &yes, journal_ready: false, ..request(&step) });
        assert_eq!(decision.reason(), "it could not be written down");
    }
}

#[test]
fn what_only_takes_back_is_not_started_by_itself() {
    let brakes = brakes(10);
    let step = step_of("only=rollback", RESTART);
    let yes = [agreed(&step, "alice")];
    assert_eq!(decide(&brakes, &Request { agreed: &yes, ..request(&step) }).reason(), "it only takes another step back");
    let back = Request { rollback_of: Some("fix"), ..request(&step) };
    assert_eq!(
        decide(&brakes, &back),
        Decision::Run { authority: Authority::Rollback { of: "fix".to_owned() }, reason: "it takes back fix".to_owned() }
    );
    // Taking back by destroying is not agreed to by agreeing to what it takes back.
    let step = step_of("only=rollback", "rm -rf /var/lib/x");
    assert!(!runs(&decide(&brakes, &Request { rollback_of: Some("fix"), ..request(&step) })));
}

#[test]
fn a_clock_that_is_set_makes_no_limit_forget() {
    let step = step_of("limit=1/1h cooldown=5m", RESTART);
    let yes = [agreed(&step, "alice")];
    let good = Request { agreed: &yes, ..request(&step) };
    let moment = |wall_s: i64, uptime_s: u64, boot: &str| Moment {
        wall: Timestamp::from_secs(1_800_000_000 + wall_s),
        uptime_ms: 1_000_000 + uptime_s * 1000,
        boot: boot.to_owned(),
    };
    let rebooted = |wall_s: i64, uptime_s: u64| Moment { uptime_ms: uptime_s * 1000, ..moment(wall_s, 0, "two") };
    let day = 86_400;
    for (what, moments, allowed) in [
        ("an hour passes", vec![moment(3601, 3601, "one")], true),
        ("forward by a day", vec![moment(day, 10, "one")], false),
        (
            "forward and back, often",
            vec![moment(day, 1, "one"), moment(-day, 2, "one"), moment(day, 3, "one"), moment(-day, 4, "one"), moment(day, 5, "one")],
            false,
        ),
        ("back by a day, and an hour passes", vec![moment(-day, 10, "one"), moment(-day + 3600, 3601, "one")], true),
        ("a restart of the machine with the clock set forward", vec![rebooted(30 * day, 5)], false),
        ("many restarts", (1..5).map(|i| Moment { boot: format!("b{i}"), ..rebooted(i * day, 5) }).collect(), false),
        ("a restart and an hour", vec![rebooted(60, 5), rebooted(4000, 3700)], true),
        ("uptime that goes back", vec![Moment { uptime_ms: 0, ..moment(0, 0, "one") }, moment(10, 10, "one")], false),
    ] {
        let mut brakes = Brakes::new(10);
        brakes.observe(&moment(0, 0, "one"));
        assert!(runs(&admit(&mut brakes, &good)));
        for moment in &moments {
            // Each time the state is what a restart of ours would read.
            brakes = serde_json::from_str(&serde_json::to_string(&brakes).expect("writes")).expect("reads");
            brakes.observe(moment);
        }
        let fresh = [Agreed { at_ms: brakes.clock_ms(), ..yes[0].clone() }];
        let decision = decide(&brakes, &Request { agreed: &fresh, ..good.clone() });
        assert_eq!(runs(&decision), allowed, "{what}: {decision:?}");
    }
}

#[test]
fn what_was_stored_is_read_again() {
    let mut brakes = brakes(7);
    let step = step_of("lock=database", RESTART);
    let yes = [agreed(&step, "alice")];
    assert!(runs(&admit(&mut brakes, &Request { agreed: &yes, ..request(&step) })));
    let stored = include_str!("fixtures/brakes-v1.json");
    if std::env::var_os("PARAMEDIC_WRITE_FIXTURES").is_some() {
        let text = serde_json::to_string_pretty(&brakes).expect("writes");
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/fixtures/brakes-v1.json"), text + "\n").expect("writes");
        return;
    }
    let read: Brakes = serde_json::from_str(stored).expect("reads");
    brakes.written();
    assert_eq!(read, brakes);
    assert_eq!(Duration::from_millis(read.clock_ms()), Duration::ZERO);
}
